/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/core/internal.h"

#define SIGNAL_KILL 9

/* One that was found in an older generation, and has gone over since. */
static void forget_born(struct job_part *job, const struct step_spec *spec)
{
    for (size_t i = 0; i < job->steps.count;) {
        struct step_part *step = &job->steps.items[i];
        if (spec->born != 0 && step->generation >= spec->born && step->generation < spec->generation)
            step_drop(job, step);
        else
            i++;
    }
}

void ev_step_found(struct agent_core *core, const struct agent_event *event)
{
    const struct step_spec *spec = event->spec;
    struct job_part *job = job_make(core, spec->uid, spec->job.name);
    if (job == NULL || step_of(job, spec->generation) != NULL)
        return;
    forget_born(job, spec);
    struct step_part *step = step_make(core, job, spec->generation, &spec->job, spec->node_rank);
    if (step == NULL)
        return;
    step->state = STEP_PART_UP;
    step->asked = event->stays;
    step->nodes = spec->peers.count;
    if (spec->generation > job->generation)
        job->generation = spec->generation;
    if (spec->generation > job->started_generation)
        job->started_generation = spec->generation;
    core->dirty = true;
}

/* It went over: what was left is that generation's step now, directory and all, also where it was to end meanwhile. Of older
 * generations nothing else was there when it was begun. */
static void drop_left(struct job_part *job, uint64_t generation)
{
    for (size_t i = 0; i < job->steps.count;) {
        struct step_part *step = &job->steps.items[i];
        if (step->state != STEP_PART_GONE && step->generation < generation)
            step_drop(job, step);
        else
            i++;
    }
}

static struct step_part *step_starting(struct agent_core *core, const struct agent_event *event, struct job_part **ret_job)
{
    struct job_part *job = job_of(core, event->uid);
    struct step_part *step = job != NULL ? step_of(job, event->generation) : NULL;
    *ret_job = job;
    return step != NULL && step->state == STEP_PART_STARTING ? step : NULL;
}

void ev_step_started(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = NULL;
    struct step_part *step = step_starting(core, event, &job);
    if (step == NULL)
        return;
    step->state = STEP_PART_UP;
    job->start_detail[0] = '\0';
    job->start_retry = (struct retry){0};
    drop_left(job, event->generation);
    core->dirty = true;
}

void ev_step_failed(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = NULL;
    struct step_part *step = step_starting(core, event, &job);
    if (step == NULL)
        return;
    /* Restore work of its ranks may be under way: its answers find no rank and only count down in_flight. */
    step_drop(job, step);
    for (size_t i = 0; i < job->steps.count; i++)
        job->steps.items[i].unfit = true;
    /* Nothing of it ran, so it may be tried again. */
    job->started_generation = event->generation - 1;
    text_copy(job->start_detail, sizeof job->start_detail, event->text);
    retry_later(core, &job->start_retry);
    say(core, LOG_ERROR, "job %s, generation %llu does not start: %s", job->name, (unsigned long long)event->generation,
        event->text);
    core->dirty = true;
}

static bool report_differs(const struct rank_report *a, const struct rank_report *b)
{
    return a->state != b->state || a->pid != b->pid || a->exit_code != b->exit_code || a->signal != b->signal ||
           a->exec_failed != b->exec_failed || a->attached != b->attached ||
           a->slots != b->slots || strcmp(a->detail, b->detail) != 0;
}

static bool rank_over(const struct rank_report *report)
{
    return report->state == TIDE_RANK_EXITED || report->state == TIDE_RANK_FINISHED;
}

/* ---- how long its steps take ---- */

/* A rank of that generation was seen to move, or to have been started. */
static void pace_moved(struct pace_part *pace, uint64_t generation, uint64_t now_ns)
{
    if (pace->generation != generation)
        *pace = (struct pace_part){.generation = generation};
    pace->moved_ns = now_ns;
}

/* The first page of a rank tells where it is, and not how long it took to get there. */
static void pace_take(struct pace_part *pace, uint64_t generation, uint64_t step, uint64_t now_ns)
{
    pace_moved(pace, generation, now_ns);
    if (step <= pace->top)
        return;
    if (pace->top > 0)
        pace->step_ns[pace->steps++ % PACE_STEPS] = (now_ns - pace->top_ns) / (step - pace->top);
    pace->top = step;
    pace->top_ns = now_ns;
}

/* ---- its status ---- */

/* True: it was started since. */
static bool take_rank(struct agent_core *core, struct rank_part *part, const struct rank_report *report)
{
    if (part->ended)
        return false; /* ended once is ended for good: an older status must not revive it */
    if (report_differs(&part->report, report))
        core->dirty = true;
    bool fresh = report->pid > 0 && part->report.pid != report->pid;
    part->report = *report;
    if (rank_over(report) && !part->ended) {
        uint64_t ago = report->exited_ago_ms * NS_PER_MS;
        part->ended = true;
        part->ended_ns = core->now_ns > ago ? core->now_ns - ago : 0;
    }
    return fresh;
}

static void take_asks(struct agent_core *core, struct job_part *job, struct step_part *step, const struct step_status *status)
{
    for (size_t r = 0; r < step->rank_count; r++)
        step->ranks[r].restore.answer_due = false;
    for (size_t i = 0; i < status->asks.count; i++) {
        struct rank_part *part = rank_of(step, status->asks.items[i].rank);
        if (part != NULL)
            restore_ask(core, job, part, &status->asks.items[i]);
    }
}

/* No rank of it writes any more. */
static void step_left(struct agent_core *core, struct job_part *job, struct step_part *step)
{
    if (step->state != STEP_PART_UP && step->state != STEP_PART_LEAVING)
        return;
    step->state = STEP_PART_LEFT;
    step->kill_ns = core->now_ns + AGENT_STAY_MS * NS_PER_MS;
    for (size_t i = 0; i < step->rank_count; i++)
        cut_step_gone(job, &step->ranks[i]);
    core->dirty = true;
}

void ev_step_status(struct agent_core *core, const struct agent_event *event)
{
    const struct step_status *status = event->step_status;
    struct job_part *job = job_of(core, status->uid);
    struct step_part *step = job != NULL ? step_of(job, status->generation) : NULL;
    if (step == NULL || step->state == STEP_PART_GONE)
        return;
    if (step->started != status->started || strcmp(step->detail, status->detail) != 0)
        core->dirty = true;
    step->started = status->started;
    text_copy(step->detail, sizeof step->detail, status->detail);
    for (size_t i = 0; i < status->ranks.count; i++) {
        struct rank_part *part = rank_of(step, status->ranks.items[i].rank);
        if (part != NULL && take_rank(core, part, &status->ranks.items[i]))
            pace_moved(&job->pace, status->generation, core->now_ns); /* its first step is not late before it was started */
    }
    if (status->left)
        step_left(core, job, step);
    take_asks(core, job, step, status);
}

void ev_step_gone(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    struct step_part *step = job != NULL ? step_of(job, event->generation) : NULL;
    if (step == NULL || step->state == STEP_PART_GONE)
        return;
    step->state = STEP_PART_GONE;
    step->started = true; /* or never will be */
    for (size_t i = 0; i < step->rank_count; i++) {
        struct rank_part *part = &step->ranks[i];
        cut_step_gone(job, part);
        if (part->ended)
            continue;
        part->ended = true;
        part->ended_ns = core->now_ns;
        part->report.state = TIDE_RANK_EXITED;
        part->report.signal = SIGNAL_KILL;
        if (part->report.detail[0] == '\0')
            snprintf(part->report.detail, sizeof part->report.detail, "its step process ended without a word about it");
    }
    core->dirty = true;
}

static bool colours_differ(const struct agent_page *a, const struct agent_page *b)
{
    return a->coloured != b->coloured || a->epoch != b->epoch || a->polling != b->polling || a->ended != b->ended ||
           a->sent != b->sent || a->arrived != b->arrived;
}

/* In one piece, or not at all: the version is looked at again behind all that was read. */
static bool read_progress(const struct control_progress *from, struct rank_part *part)
{
    const uint64_t *words = (const uint64_t *)from->comms;
    uint64_t version = atomic_load(&from->version), *to = (uint64_t *)part->ops;
    uint32_t count = from->count;
    if (version % 2 == 1 || from->more > 0 || count > CONTROL_PROGRESS_MAX)
        return false;
    for (size_t i = 0; i < count * sizeof part->ops[0] / sizeof *words; i++)
        to[i] = __atomic_load_n(&words[i], __ATOMIC_ACQUIRE);
    part->op_count = atomic_load(&from->version) == version ? count : 0;
    return true;
}

static void take_progress(const struct agent_core *core, const struct job_part *job, struct rank_part *part,
                          const struct control_progress *progress)
{
    bool tells = progress != NULL && part->page.phase == CONTROL_STEPPING && stands_still(&job->pace, core->now_ns);
    if (!tells || !read_progress(progress, part))
        part->op_count = 0;
}

void ev_page(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    struct step_part *step = job != NULL ? step_of(job, event->generation) : NULL;
    struct rank_part *part = step != NULL ? rank_of(step, event->rank) : NULL;
    if (part == NULL)
        return;
    if (!part->page_seen || part->page.phase != event->page.phase || colours_differ(&part->page, &event->page))
        core->dirty = true;
    if (!part->page_seen || part->page.step != event->page.step)
        pace_take(&job->pace, event->generation, event->page.step, core->now_ns);
    part->page_seen = true;
    step->asked = step->asked || event->page.stays;
    part->page = event->page;
    take_progress(core, job, part, event->progress);
    cut_notice_page(core, job, part);
}
