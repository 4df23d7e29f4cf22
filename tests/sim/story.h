/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_STORY_H
#define TESTS_SIM_STORY_H

/* The words in which stories are told. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/sim.h"

#define STORY_SEED 7

static inline struct world *begin(uint32_t hosts)
{
    struct world *w = world_create(STORY_SEED, getenv("SIM_TRACE") != NULL);
    w->host_count = hosts;
    leader_boot(w);
    for (uint32_t i = 0; i < hosts; i++)
        host_boot(w, &w->hosts[i]);
    return w;
}

/* A job of 300 steps of 20 ms, one checkpoint a second. */
static inline struct plan *submit(struct world *w, uint32_t nnodes, uint32_t spares)
{
    struct plan *plan = plan_add(w, nnodes, 1, 300, 20, 1000);
    plan->spec.spares = spares;
    world_run(w, MS(100), NULL);
    person_submits(w, 0);
    return plan;
}

static inline const struct job *job_now(const struct world *w)
{
    const struct job_record *record = leader_job(w, "job0");
    assert_non_null(record);
    return &record->job;
}

static inline void until(struct world *w, uint64_t limit_ns, bool (*done)(const struct world *w))
{
    bool came = world_run(w, w->now + limit_ns, done);
    assert_int_equal(w->violations, 0);
    assert_true(came);
}

static inline void after(struct world *w, uint64_t time_ns)
{
    world_run(w, w->now + time_ns, NULL);
    assert_int_equal(w->violations, 0);
}

/* Everything was healed long ago: the rest must go by itself. */
static inline void ends_well(struct world *w, unsigned state)
{
    w->healed = true;
    until(w, SECONDS(60), world_converged);
    assert_int_equal(job_now(w)->state, state);
    check_end(w);
    assert_int_equal(w->violations, 0);
    world_free(w);
}

static inline uint64_t step_of(const struct world *w, uint32_t host)
{
    for (size_t s = 0; s < STEPS_MAX; s++)
        if (w->hosts[host].steps[s].alive)
            return w->hosts[host].steps[s].ranks[0].page_step;
    return 0;
}

static inline size_t alive_on(const struct world *w, uint32_t host)
{
    size_t alive = 0;
    for (size_t s = 0; s < STEPS_MAX; s++)
        alive += w->hosts[host].steps[s].alive;
    return alive;
}

static inline unsigned cut_state(const struct world *w, uint64_t cut)
{
    const struct ckpt *ckpt = job_ckpt(job_now(w), cut);
    return ckpt != NULL ? ckpt->state : TIDE_CKPT_STATES;
}

/* ---- conditions ---- */

static inline bool all_step(const struct world *w)
{
    const struct job_record *record = leader_job(w, "job0");
    return record != NULL && record->job.all_stepped;
}

static inline bool second_generation_steps(const struct world *w)
{
    return all_step(w) && job_now(w)->generation == 2;
}

static inline bool third_generation_steps(const struct world *w)
{
    return all_step(w) && job_now(w)->generation == 3;
}

static inline bool cut_1_open(const struct world *w)
{
    return leader_job(w, "job0") != NULL && cut_state(w, 1) == TIDE_CKPT_OPEN;
}

static inline bool in_memory(const struct world *w, uint64_t cut)
{
    return cut_state(w, cut) == TIDE_CKPT_SEALED || cut_state(w, cut) == TIDE_CKPT_PEERED;
}

static inline bool cut_1_sealed(const struct world *w)
{
    return leader_job(w, "job0") != NULL && in_memory(w, 1);
}

static inline bool cut_1_committed(const struct world *w)
{
    return leader_job(w, "job0") != NULL && cut_state(w, 1) == TIDE_CKPT_COMMITTED;
}

static inline bool cut_1_dropped(const struct world *w)
{
    return leader_job(w, "job0") != NULL && cut_state(w, 1) == TIDE_CKPT_DROPPED;
}

static inline bool nothing_to_purge(const struct world *w)
{
    const struct job_record *record = leader_job(w, "job0");
    return record != NULL && record->purge.count == 0;
}

static inline bool generation_ended(const struct world *w)
{
    const struct job_record *record = leader_job(w, "job0");
    return record != NULL && record->phase == GEN_PHASE_FENCING;
}

static inline bool rank_0_lives(const struct world *w)
{
    for (size_t s = 0; s < STEPS_MAX; s++)
        if (w->hosts[0].steps[s].alive && w->hosts[0].steps[s].ranks[0].alive)
            return true;
    return false;
}

static inline bool cut_2_committed(const struct world *w)
{
    return leader_job(w, "job0") != NULL && cut_state(w, 2) == TIDE_CKPT_COMMITTED;
}

static inline bool cut_1_closed(const struct world *w)
{
    return leader_job(w, "job0") != NULL && cut_state(w, 1) != TIDE_CKPT_OPEN;
}

static inline bool n1_is_lost(const struct world *w)
{
    const struct node *node = w->leader.up ? state_node(&w->leader.state, "n1") : NULL;
    return node != NULL && node->state == TIDE_NODE_LOST;
}

static inline bool n1_is_ready(const struct world *w)
{
    const struct node *node = w->leader.up ? state_node(&w->leader.state, "n1") : NULL;
    return node != NULL && node->state == TIDE_NODE_READY;
}

static inline bool waits_for_nodes(const struct world *w)
{
    return leader_job(w, "job0") != NULL && job_now(w)->state == TIDE_JOB_PENDING;
}

static inline bool cut_is_open(const struct world *w)
{
    const struct job_record *record = leader_job(w, "job0");
    return record != NULL && record->job.ckpts.count > 0 &&
           record->job.ckpts.items[record->job.ckpts.count - 1].state == TIDE_CKPT_OPEN;
}

static inline bool cut_1_again(const struct world *w)
{
    return cut_1_open(w) && job_ckpt(job_now(w), 1)->attempt == 2;
}

static inline bool n0_is_about_to_record(const struct world *w)
{
    return step_of(w, 0) + 2 >= job_ckpt(job_now(w), 1)->step;
}

static inline void must_be_refused(struct world *w, const struct command *command, enum tide_status status)
{
    if (command->generation == 1 && status == TIDE_OK)
        violation(w, "%s of generation 1 was taken", command_kind_names[command->kind]);
}

static inline void kill_rank_0(struct world *w)
{
    for (size_t s = 0; s < STEPS_MAX; s++)
        if (w->hosts[0].steps[s].alive) {
            rank_end(w, &w->hosts[0], &w->hosts[0].steps[s], &w->hosts[0].steps[s].ranks[0], 0, 9);
            return;
        }
    fail_msg("no rank runs on n0");
}

#endif
