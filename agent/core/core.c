/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdlib.h>

#include "agent/core/internal.h"

struct agent_core *agent_create(const struct agent_identity *identity)
{
    struct agent_core *core = mem_alloc(sizeof *core);
    core->identity = *identity;
    return core;
}

static void step_release(struct step_part *step)
{
    mem_free(step->ranks);
    memset(step, 0, sizeof *step);
}

static void job_free(struct job_part *job)
{
    for (size_t i = 0; i < job->steps.count; i++)
        step_release(&job->steps.items[i]);
    mem_free(job->steps.items);
    mem_free(job->slots.items);
    mem_free(job->shards.items);
    mem_free(job->purges.items);
    mem_free(job->scrubs.items);
    mem_free(job->copies.items);
    comms_release(&job->comms);
    if (job->has_order)
        codec_release(&assignment_codec, &job->order);
    mem_free(job);
}

void agent_free(struct agent_core *core)
{
    if (core == NULL)
        return;
    for (size_t i = 0; i < core->job_count; i++)
        job_free(core->jobs[i]);
    mem_free(core->jobs);
    codec_release(&health_report_codec, &core->health);
    mem_free(core);
}

struct job_part *job_of(struct agent_core *core, const char *uid)
{
    for (size_t i = 0; i < core->job_count; i++)
        if (strcmp(core->jobs[i]->uid, uid) == 0)
            return core->jobs[i];
    return NULL;
}

struct job_part *job_make(struct agent_core *core, const char *uid, const char *name)
{
    struct job_part *job = job_of(core, uid);
    if (job != NULL) {
        if (job->name[0] == '\0')
            text_copy(job->name, sizeof job->name, name);
        return job;
    }
    if (core->job_count >= AGENT_JOBS_MAX) {
        say(core, LOG_ERROR, "job %s (%s) is refused: this node holds the remains of %zu jobs already", name, uid, core->job_count);
        return NULL;
    }
    job = mem_alloc(sizeof *job);
    text_copy(job->uid, sizeof job->uid, uid);
    text_copy(job->name, sizeof job->name, name);
    core->jobs = mem_grow(core->jobs, core->job_count + 1, sizeof core->jobs[0]);
    core->jobs[core->job_count++] = job;
    return job;
}

static void job_drop(struct agent_core *core, size_t index)
{
    job_free(core->jobs[index]);
    core->jobs[index] = core->jobs[--core->job_count];
}

struct step_part *step_of(struct job_part *job, uint64_t generation)
{
    for (size_t i = 0; i < job->steps.count; i++)
        if (job->steps.items[i].generation == generation)
            return &job->steps.items[i];
    return NULL;
}

struct step_part *step_live(struct job_part *job)
{
    struct step_part *step = step_of(job, job->generation);
    return step != NULL && step->state == STEP_PART_UP ? step : NULL;
}

struct rank_part *rank_of(struct step_part *step, uint32_t rank)
{
    for (size_t i = 0; i < step->rank_count; i++)
        if (step->ranks[i].rank == rank)
            return &step->ranks[i];
    return NULL;
}

struct step_part *step_make(struct agent_core *core, struct job_part *job, uint64_t generation, const struct job_spec *spec,
                            uint32_t node_rank)
{
    if (job->steps.count >= AGENT_STEPS_MAX) {
        say(core, LOG_ERROR, "generation %llu of job %s is refused: %zu older ones have not ended here",
            (unsigned long long)generation, job->name, job->steps.count);
        return NULL;
    }
    job->steps.items = mem_grow(job->steps.items, job->steps.count + 1, sizeof job->steps.items[0]);
    struct step_part *step = &job->steps.items[job->steps.count++];
    memset(step, 0, sizeof *step);
    step->generation = generation;
    step->rank_count = spec->nproc_per_node <= TIDE_LOCAL_RANKS_MAX ? spec->nproc_per_node : TIDE_LOCAL_RANKS_MAX;
    step->ranks = mem_array(step->rank_count, sizeof step->ranks[0]);
    for (size_t i = 0; i < step->rank_count; i++) {
        step->ranks[i].rank = node_rank * spec->nproc_per_node + (uint32_t)i;
        step->ranks[i].report.rank = step->ranks[i].rank;
        step->ranks[i].restore.bad_slot = -1;
    }
    return step;
}

void step_drop(struct job_part *job, struct step_part *step)
{
    size_t index = (size_t)(step - job->steps.items);
    step_release(step);
    memmove(step, step + 1, (job->steps.count - index - 1) * sizeof *step);
    job->steps.count--;
}

struct rank_slots *slots_of(struct job_part *job, uint32_t rank)
{
    for (size_t i = 0; i < job->slots.count; i++)
        if (job->slots.items[i].rank == rank)
            return &job->slots.items[i];
    job->slots.items = mem_grow(job->slots.items, job->slots.count + 1, sizeof job->slots.items[0]);
    struct rank_slots *slots = &job->slots.items[job->slots.count++];
    memset(slots, 0, sizeof *slots);
    slots->rank = rank;
    return slots;
}

const struct cut_order *stored_order(const struct job_part *job)
{
    unsigned phase = job->order.cut.phase;
    return phase == CUT_PHASE_STORE || phase == CUT_PHASE_COMMIT ? &job->order.cut : &job->order.upload;
}

uint32_t slots_of_rank(const struct rank_part *part)
{
    return part->report.slots > SLOTS_ALWAYS ? SLOTS : SLOTS_ALWAYS;
}

bool order_runs(const struct job_part *job)
{
    return job->assigned && job->has_order && job->order.generation == job->generation && job->order.run == RUN_START;
}

/* A job that is not this node's any more: when its steps are gone and nobody works in its arena, all but its logs goes. */
static bool job_cleaned(struct agent_core *core, struct job_part *job)
{
    if (job->assigned || !core->desired_seen || job->steps.count > 0 || job->in_flight > 0)
        return false;
    act(core, ACT_REMOVE_ARENA, job)->order = NULL;
    core->dirty = true;
    return true;
}

/* Work that reads or writes the arena: all that is in flight but purges. */
static bool arena_in_use(const struct job_part *job)
{
    unsigned purging = 0;
    for (size_t i = 0; i < job->purges.count; i++)
        purging += job->purges.items[i].state == WORK_RUNNING;
    for (size_t i = 0; i < job->steps.count; i++)
        if (job->steps.items[i].state != STEP_PART_GONE)
            return true;
    return job->in_flight > purging;
}

/* A store that cannot be reached keeps a job's purge on the list for as long as it likes, but not the job's memory. */
static void drive_arena(struct agent_core *core, struct job_part *job)
{
    if (job->arena_removed || !job->assigned || !job->has_order || !job->order.ended || arena_in_use(job))
        return;
    act(core, ACT_REMOVE_ARENA, job)->order = NULL;
    job->arena_removed = true;
    job->slots.count = 0;
    job->look_wanted = false;
    core->dirty = true;
}

static void drive_look(struct agent_core *core, struct job_part *job)
{
    if (!job->look_wanted || job->looking)
        return;
    job->look_wanted = false;
    job->looking = true;
    job->look_epoch = job->epoch;
    job->in_flight++;
    act(core, ACT_LOOK, job);
}

static void drive(struct agent_core *core)
{
    for (size_t i = 0; i < core->job_count;) {
        struct job_part *job = core->jobs[i];
        drive_steps(core, job);
        drive_restore(core, job);
        drive_epochs(core, job); /* what is closed is said before the next is armed */
        drive_cut(core, job);
        drive_store(core, job);
        drive_copies(core, job);
        drive_arena(core, job);
        drive_look(core, job);
        if (job_cleaned(core, job))
            job_drop(core, i);
        else
            i++;
    }
    drive_scrub(core);
}

static void ev_tick(struct agent_core *core, const struct agent_event *event)
{
    (void)core, (void)event; /* time has passed: drive sees it */
}

typedef void (*event_fn)(struct agent_core *core, const struct agent_event *event);

static const event_fn event_fns[EV_KINDS] = {
    [EV_HEALTH] = ev_health,
    [EV_REGISTERED] = ev_registered,
    [EV_DESIRED] = ev_desired,
    [EV_TICK] = ev_tick,
    [EV_ARENA_FOUND] = ev_arena_found,
    [EV_STEP_FOUND] = ev_step_found,
    [EV_STEP_STARTED] = ev_step_started,
    [EV_STEP_FAILED] = ev_step_failed,
    [EV_STEP_STATUS] = ev_step_status,
    [EV_STEP_GONE] = ev_step_gone,
    [EV_PAGE] = ev_page,
    [EV_ARMED] = ev_armed,
    [EV_SUMMED] = ev_summed,
    [EV_FOUND] = ev_found,
    [EV_FETCHED] = ev_fetched,
    [EV_COPIED] = ev_copied,
    [EV_UNCOPIED] = ev_uncopied,
    [EV_LOOKED] = ev_looked,
    [EV_STORED] = ev_stored,
    [EV_COMMITTED] = ev_committed,
    [EV_PURGED] = ev_purged,
    [EV_SCRUBBED] = ev_scrubbed,
};

void agent_step(struct agent_core *core, const struct agent_event *event, uint64_t now_ns, struct agent_actions *actions)
{
    assert(event->kind < EV_KINDS);
    assert(now_ns >= core->now_ns);
    core->now_ns = now_ns;
    core->actions = actions;
    core->comms = event->kind == EV_PAGE ? event->comms : NULL;
    event_fns[event->kind](core, event);
    drive(core);
    if (core->dirty)
        act(core, ACT_HEARTBEAT, NULL);
    core->dirty = false;
    core->actions = NULL;
    core->comms = NULL;
}

const char *agent_token(const struct agent_core *core, const char *uid)
{
    for (size_t i = 0; i < core->job_count; i++) {
        const struct job_part *job = core->jobs[i];
        if (strcmp(job->uid, uid) == 0)
            return job->assigned && job->has_order && job->order.token[0] != '\0' ? job->order.token : NULL;
    }
    return NULL;
}

uint64_t agent_revision(const struct agent_core *core)
{
    return core->revision;
}

bool agent_idle(const struct agent_core *core)
{
    return core->job_count == 0;
}

void agent_end_all(struct agent_core *core)
{
    core->ending = true;
}

size_t agent_steps_left(const struct agent_core *core)
{
    size_t left = 0;
    for (size_t i = 0; i < core->job_count; i++)
        for (size_t s = 0; s < core->jobs[i]->steps.count; s++)
            left += core->jobs[i]->steps.items[s].state != STEP_PART_GONE;
    return left;
}

void agent_hang_after(struct agent_core *core, uint64_t ms)
{
    core->hang_ms = ms;
}

static int by_length(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

bool stands_still(const struct pace_part *pace, uint64_t now_ns)
{
    uint64_t lengths[PACE_STEPS], least_ns = AGENT_STILL_FIRST_MS * NS_PER_MS;
    size_t count = pace->steps < PACE_STEPS ? pace->steps : PACE_STEPS;
    if (pace->moved_ns == 0)
        return false;
    memcpy(lengths, pace->step_ns, sizeof lengths);
    qsort(lengths, count, sizeof lengths[0], by_length);
    if (count > 0) {
        uint64_t steps_ns = AGENT_STILL_STEPS * lengths[count / 2];
        least_ns = steps_ns > AGENT_STILL_MS * NS_PER_MS ? steps_ns : AGENT_STILL_MS * NS_PER_MS;
    }
    return now_ns >= pace->moved_ns + least_ns;
}

static size_t pids_of(struct job_part *job, int32_t *pids, size_t room)
{
    const struct step_part *step = step_live(job);
    size_t count = 0;
    for (size_t r = 0; step != NULL && r < step->rank_count && count < room; r++)
        if (!step->ranks[r].ended && step->ranks[r].report.pid > 0)
            pids[count++] = step->ranks[r].report.pid;
    return count;
}

size_t agent_ranks(const struct agent_core *core, uint64_t now_ns, int32_t *pids, size_t room, size_t *ret_still)
{
    size_t count = 0;
    for (int still = 1; still >= 0; still--) {
        for (size_t i = 0; i < core->job_count; i++)
            if (stands_still(&core->jobs[i]->pace, now_ns) == (still == 1))
                count += pids_of(core->jobs[i], pids + count, room - count);
        if (still)
            *ret_still = count;
    }
    return count;
}

size_t agent_ranks_restoring(const struct agent_core *core)
{
    size_t count = 0;
    for (size_t i = 0; i < core->job_count; i++) {
        const struct step_part *step = step_live(core->jobs[i]);
        for (size_t r = 0; step != NULL && r < step->rank_count; r++)
            count += !step->ranks[r].ended && step->ranks[r].page_seen && step->ranks[r].page.phase == CONTROL_RESTORING;
    }
    return count;
}

/* A rank that is attached but has not stepped is about to: its first step ends the recovery people wait for. */
static bool rank_wants_page(const struct rank_part *part)
{
    if (part->ended)
        return false;
    if (part->cut.state >= CUT_PART_WANTED && part->cut.state <= CUT_PART_DISARMING)
        return true;
    return part->page_seen && (part->page.phase == CONTROL_ATTACHED || part->page.phase == CONTROL_RESTORING);
}

/* Everybody waits for what these ranks say of their colours: that they poll, have flipped, what has arrived, that they ended. */
static bool job_wants_epochs(const struct job_part *job)
{
    const struct assignment *order = &job->order;
    bool armed = order->cut.epoch != 0 && (order->cut.phase == CUT_PHASE_ARM || order->cut.phase == CUT_PHASE_RECORD);
    return order_runs(job) && (armed || order->epochs.go > order->epochs.closed);
}

uint64_t agent_look_ms(const struct agent_core *core)
{
    uint64_t ms = 0;
    for (size_t i = 0; i < core->job_count; i++) {
        const struct step_part *step = step_live(core->jobs[i]);
        if (step != NULL && job_wants_epochs(core->jobs[i]))
            return AGENT_EPOCH_POLL_MS;
        for (size_t r = 0; step != NULL && r < step->rank_count; r++)
            if (rank_wants_page(&step->ranks[r]))
                ms = AGENT_PAGE_POLL_MS;
    }
    return ms;
}
