/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CORE_DEEDS_H
#define TESTS_UNIT_CORE_DEEDS_H

/* What people, a leader and the world do in stories about the coordinator's core. Included by core_dsl.h, whose world it is. */

/* ---- people ---- */

static inline struct command submission(struct world *w, const char *name, uint32_t nnodes, uint32_t spares, uint32_t nproc)
{
    struct command command = command_new(w, CMD_JOB_SUBMIT, NULL);
    snprintf(command.uid, sizeof command.uid, "job%013u", ++w->requests);
    TEXT_SET(command.spec.name, name);
    strlist_add(&command.spec.argv, "train");
    command.spec.nnodes = nnodes;
    command.spec.spares = spares;
    command.spec.nproc_per_node = nproc;
    command.spec.max_restarts = 3;
    command.spec.ckpt_grace_ms = 1; /* stories about grace say how long it is */
    if (w->no_store)
        command.spec.store[0] = '\0';
    return command;
}

static inline enum tide_status submit_this(struct world *w, struct command *command)
{
    enum tide_status status = world_apply(w, command);
    codec_release(&command_codec, command);
    return status;
}

static inline enum tide_status submit(struct world *w, const char *name, uint32_t nnodes, uint32_t spares, uint32_t nproc)
{
    struct command command = submission(w, name, nnodes, spares, nproc);
    return submit_this(w, &command);
}

static inline enum tide_status order(struct world *w, enum command_kind kind, const char *job, uint64_t cut)
{
    struct command command = command_new(w, kind, job);
    command.cut = cut;
    return world_apply(w, &command);
}

static inline enum tide_status node_order(struct world *w, enum command_kind kind, const char *node)
{
    struct command command = command_new(w, kind, NULL);
    TEXT_SET(command.node, node);
    return world_apply(w, &command);
}

/* ---- a leader, and the world ---- */

/* What a leader says of the generation that runs, or of a cut of it. */
static inline struct command verdict(struct world *w, enum command_kind kind, const char *job)
{
    struct command command = command_new(w, kind, job);
    TEXT_SET(command.uid, job_of(w, job)->uid);
    command.generation = job_of(w, job)->generation;
    return command;
}

/* The rank is killed; its next process lives. */
static inline void crash(struct world *w, uint32_t rank)
{
    w->ranks[rank].signal = 9;
    run(w, TICK_MS);
    w->ranks[rank].signal = 0;
}

#endif
