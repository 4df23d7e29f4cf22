/* SPDX-License-Identifier: Apache-2.0 */
/* Who may be deleted, and when. */
#include "tests/sim/sim.h"

static bool restorable(unsigned state)
{
    return state == TIDE_CKPT_SEALED || state == TIDE_CKPT_PEERED || state == TIDE_CKPT_COMMITTED;
}

/* Somebody asked for an end without grace. */
static bool at_once(const struct command *command)
{
    return command->kind == CMD_JOB_ROLLBACK || command->kind == CMD_CKPT_GC || (command->kind == CMD_CKPT_DROP && command->force);
}

/* As few as the cuts of a simulated job are, none has its grace cut short for being one of too many. */
static void condemned_ended(struct world *w, const struct job_truth *truth, const struct ckpt *ckpt, const struct cut_truth *known,
                            const struct command *command, uint64_t grace_ms)
{
    if (ckpt->state != TIDE_CKPT_DROPPED || at_once(command))
        return;
    if (command->kind != CMD_CKPT_EXPIRE)
        violation(w, "checkpoint %" PRIu64 " of %s is dropped out of its grace by %s", ckpt->cut, truth->name,
                  command_kind_names[command->kind]);
    /* The clock of a leader may be twice as fast. */
    if (w->now < known->condemned_ns + MS(grace_ms) / 2)
        violation(w, "checkpoint %" PRIu64 " of %s is dropped %" PRIu64 " ms after it was condemned; its grace is %" PRIu64 " ms",
                  ckpt->cut, truth->name, (w->now - known->condemned_ns) / MS(1), grace_ms);
}

static void committed_ended(struct world *w, const struct job_truth *truth, const struct job *job, const struct ckpt *ckpt,
                            const struct cut_truth *known, const struct command *command)
{
    if (ckpt->state == TIDE_CKPT_DROPPED && !at_once(command) && w->leader.state.level > 0)
        violation(w, "checkpoint %" PRIu64 " of %s is dropped without having been condemned, by %s", ckpt->cut, truth->name,
                  command_kind_names[command->kind]);
    bool released = command->kind == CMD_CKPT_UNPIN || command->kind == CMD_CKPT_EXPIRE ||
                    (command->kind == CMD_CKPT_DROP && command->force);
    if (known->kept && !released && (ckpt->state == TIDE_CKPT_CONDEMNED || ckpt->state == TIDE_CKPT_DROPPED))
        violation(w, "checkpoint %" PRIu64 " of %s is %s, though it was to be kept", ckpt->cut, truth->name, ckpt_state_names[ckpt->state]);
    bool other = job_ended(job->state);
    for (size_t i = 0; i < job->ckpts.count; i++)
        other = other || restorable(job->ckpts.items[i].state);
    if (ckpt->state == TIDE_CKPT_CONDEMNED && !other)
        violation(w, "checkpoint %" PRIu64 " of %s is condemned, and it is the only one", ckpt->cut, truth->name);
}

void check_kept(struct world *w, struct job_truth *truth, const struct job *job, const struct command *command)
{
    for (size_t i = 0; i < job->ckpts.count; i++) {
        const struct ckpt *ckpt = &job->ckpts.items[i];
        if (ckpt->cut >= CUTS_MAX)
            return;
        struct cut_truth *known = &truth->cuts[ckpt->cut];
        if (known->known && known->state == TIDE_CKPT_CONDEMNED)
            condemned_ended(w, truth, ckpt, known, command, job_grace_ms(&job->spec));
        if (known->known && known->state == TIDE_CKPT_COMMITTED)
            committed_ended(w, truth, job, ckpt, known, command);
        if (ckpt->state == TIDE_CKPT_CONDEMNED && known->state != TIDE_CKPT_CONDEMNED)
            known->condemned_ns = w->now;
        known->kept = ckpt->pinned || ckpt->held_until_ms != 0;
    }
}
