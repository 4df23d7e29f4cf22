/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/internal.h"

enum wish { WISH_KEEP, WISH_LEAVE, WISH_STOP, WISH_KILL }; /* ever harder */

/* A rank of it that is there has asked to stay. */
static bool asked(const struct step_part *step)
{
    for (size_t i = 0; i < step->rank_count && step->asked; i++)
        if (!step->ranks[i].ended)
            return true;
    return false;
}

/* May ranks of that older generation go over to the newest? Whatever they were as they must be now: the same ranks, here. */
static bool may_stay(const struct job_part *job, const struct step_part *step)
{
    const struct assignment *order = &job->order;
    if (step->unfit || !job->assigned || !job->has_order || order->generation != job->generation || order->ended)
        return false;
    if (order->run == RUN_STOP || order->spec.launcher != LAUNCHER_NONE || order->spec.nproc_per_node != step->rank_count)
        return false;
    if (order->run == RUN_START && (order->started || order->node_rank * step->rank_count != step->ranks[0].rank ||
                                    order->peers.count != step->nodes))
        return false;
    return asked(step);
}

/* To leave is as good as to be killed: an agent that was just started does not know yet that it has to be that. */
static enum wish wish_of_older(const struct agent_core *core, const struct job_part *job, const struct step_part *step)
{
    bool stays = core->desired_seen ? may_stay(job, step) : asked(step);
    return stays && !core->ending ? WISH_LEAVE : WISH_KILL;
}

/* Training is never ended because nobody says anything: only by an order, a newer generation, or not being listed. */
static enum wish wish_of(const struct agent_core *core, const struct job_part *job, const struct step_part *step)
{
    if (step->generation < job->generation)
        return wish_of_older(core, job, step);
    if (core->ending)
        return WISH_STOP;
    if (!job->assigned)
        return core->desired_seen ? WISH_KILL : WISH_KEEP;
    if (!job->has_order || job->order.generation != step->generation || job->order.run == RUN_START)
        return WISH_KEEP;
    return job->order.run == RUN_STOP ? WISH_STOP : WISH_KILL;
}

static uint64_t grace_of(const struct job_part *job, enum wish wish)
{
    if (wish == WISH_KILL)
        return 0;
    uint64_t grace_ms = job->has_order ? job->order.spec.stop_grace_ms : 0;
    return grace_ms != 0 ? grace_ms : SPEC_STOP_GRACE_MS_DEFAULT;
}

uint64_t agent_grace_ms(const struct agent_core *core)
{
    uint64_t longest_ms = 0;
    for (size_t i = 0; i < core->job_count; i++)
        for (size_t s = 0; s < core->jobs[i]->steps.count; s++) {
            uint64_t grace_ms = grace_of(core->jobs[i], WISH_STOP);
            if (core->jobs[i]->steps.items[s].state != STEP_PART_GONE && grace_ms > longest_ms)
                longest_ms = grace_ms;
        }
    return longest_ms;
}

static void end_step(struct agent_core *core, struct job_part *job, struct step_part *step, enum wish wish)
{
    uint64_t grace_ms = grace_of(job, wish);
    step->state = STEP_PART_ENDING;
    step->killed = wish == WISH_KILL;
    step->kill_ns = core->now_ns + (grace_ms + AGENT_KILL_AFTER_MS) * NS_PER_MS;
    struct agent_action *action = act(core, ACT_END_STEP, job);
    action->generation = step->generation;
    action->grace_ms = grace_ms;
    core->dirty = true;
}

static void leave_step(struct agent_core *core, struct job_part *job, struct step_part *step)
{
    step->state = STEP_PART_LEAVING;
    step->kill_ns = core->now_ns + AGENT_LEAVE_MS * NS_PER_MS;
    act(core, ACT_LEAVE_STEP, job)->generation = step->generation;
    core->dirty = true;
}

static void drive_step(struct agent_core *core, struct job_part *job, struct step_part *step)
{
    enum wish wish = wish_of(core, job, step);
    bool stays = step->state == STEP_PART_LEAVING || step->state == STEP_PART_LEFT;
    if (step->state == STEP_PART_UP && wish == WISH_LEAVE)
        leave_step(core, job, step);
    else if (step->state == STEP_PART_UP && wish != WISH_KEEP)
        end_step(core, job, step, wish);
    else if (stays && (wish > WISH_LEAVE || core->now_ns >= step->kill_ns))
        end_step(core, job, step, WISH_KILL);
    else if (step->state == STEP_PART_ENDING && (wish == WISH_KILL || wish == WISH_LEAVE) && !step->killed)
        end_step(core, job, step, WISH_KILL);
    if (step->state == STEP_PART_ENDING && core->now_ns >= step->kill_ns) {
        step->kill_ns = core->now_ns + AGENT_KILL_AFTER_MS * NS_PER_MS;
        act(core, ACT_KILL_STEP, job)->generation = step->generation;
    }
}

/* What a step that is gone has left behind is kept as long as somebody may ask how it ended. */
static bool step_forgotten(const struct agent_core *core, const struct job_part *job, const struct step_part *step)
{
    return step->state == STEP_PART_GONE && (step->generation < job->generation || (!job->assigned && core->desired_seen));
}

/* Of jobs without a part here any more: the leader gives their place away. Where ranks had left their generation it was told that they
 * are gone, and they have their devices until they are. */
static bool place_held(const struct agent_core *core)
{
    for (size_t i = 0; i < core->job_count; i++) {
        const struct job_part *job = core->jobs[i];
        for (size_t s = 0; s < job->steps.count && (!job->assigned || job->order.ended); s++)
            if (job->steps.items[s].state != STEP_PART_GONE)
                return true;
    }
    return false;
}

/* The generation is to run here, has no step, and every older one is gone from this node, or has been left by all that is, ret_left. */
static bool has_no_step(const struct agent_core *core, const struct job_part *job, size_t *ret_left)
{
    if (core->ending || !order_runs(job) || job->order.node_rank >= job->order.peers.count)
        return false;
    *ret_left = 0;
    for (size_t i = 0; i < job->steps.count; i++) {
        const struct step_part *step = &job->steps.items[i];
        *ret_left += step->state == STEP_PART_LEFT;
        if ((step->state != STEP_PART_GONE && step->state != STEP_PART_LEFT) || step->generation >= job->generation)
            return false;
    }
    return true;
}

/* Fencing: at most once. */
static bool may_start(const struct agent_core *core, const struct job_part *job)
{
    size_t left;
    if (!has_no_step(core, job, &left) || job->order.started || place_held(core) || !retry_due(core, &job->start_retry))
        return false;
    /* Begun before, by an agent that is gone: where a step waits it is that one's to begin it, and it does so once. */
    return left == 1 || (left == 0 && job->started_generation < job->generation);
}

/* The generation whose ranks go over to the new one; 0: none stay. */
static uint64_t left_generation(const struct job_part *job)
{
    for (size_t i = 0; i < job->steps.count; i++)
        if (job->steps.items[i].state == STEP_PART_LEFT)
            return job->steps.items[i].generation;
    return 0;
}

static void start(struct agent_core *core, struct job_part *job)
{
    struct step_part *step = step_make(core, job, job->generation, &job->order.spec, job->order.node_rank);
    if (step == NULL)
        return;
    step->state = STEP_PART_STARTING;
    step->nodes = job->order.peers.count;
    job->started_generation = job->generation;
    /* State is looked for while the program is still starting. */
    for (size_t i = 0; i < step->rank_count && job->order.restore_cut != 0; i++) {
        step->ranks[i].restore.prefetch = true;
        restore_begin(&step->ranks[i].restore, job->order.restore_cut);
    }
    act(core, ACT_START_STEP, job)->from = left_generation(job);
    core->dirty = true;
}

/* Begun here by an agent that was killed before there was a step that could be found again. It is begun at most once, and so is over. */
static bool begun_in_vain(const struct agent_core *core, const struct job_part *job)
{
    size_t left;
    return core->desired_seen && has_no_step(core, job, &left) && left == 0 && job->started_generation >= job->generation;
}

/* The leader need not wait for it until it is late. */
static void tell_over(struct agent_core *core, struct job_part *job)
{
    struct agent_event event = {.kind = EV_STEP_GONE, .generation = job->generation};
    struct step_part *step = step_make(core, job, job->generation, &job->order.spec, job->order.node_rank);
    if (step == NULL)
        return;
    step->state = STEP_PART_UP;
    for (size_t i = 0; i < step->rank_count; i++)
        text_copy(step->ranks[i].report.detail, sizeof step->ranks[i].report.detail, "the agent was killed as it began to start it");
    text_copy(event.uid, sizeof event.uid, job->uid);
    ev_step_gone(core, &event);
}

void drive_steps(struct agent_core *core, struct job_part *job)
{
    for (size_t i = 0; i < job->steps.count;) {
        struct step_part *step = &job->steps.items[i];
        drive_step(core, job, step);
        if (step_forgotten(core, job, step)) {
            act(core, ACT_REMOVE_STEP_DIR, job)->generation = step->generation;
            step_drop(job, step);
        } else {
            i++;
        }
    }
    if (may_start(core, job))
        start(core, job);
    else if (begun_in_vain(core, job))
        tell_over(core, job);
}
