/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/wire/local.h"
#include "coordinator/core/judge.h"

/* k must lie ahead of every rank when the order arrives there: steps are known as of the last heartbeat, the order takes
 * a moment, and the agent looks at the page once more before it arms. */
#define MARGIN_HEARTBEATS_X2 5u /* two and a half */
#define MARGIN_STEPS 2u
#define SLOW_STEP_NS NS_PER_S
#define CUT_STEPS_MS_MAX UINT64_C(86400000) /* a program whose steps take longer than a day is not waited for */

/* Coloured: all must be seen to be armed, and be told so, before the first is there. */
#define MARGIN_GO_MS 150u

uint64_t cut_step(const struct judging *judging, const struct track *track, uint64_t top, uint32_t attempt, bool coloured)
{
    uint64_t after_ms = state_heartbeat_ms(judging->state) * MARGIN_HEARTBEATS_X2 / 2 + (coloured ? MARGIN_GO_MS : 0);
    uint64_t margin = track_ahead(track, judging->now_ns, after_ms) + MARGIN_STEPS;
    return top + (margin << (attempt - 1));
}

/* ---- opening ---- */

static bool due(struct judging *judging, const struct job_record *record, const struct track *track)
{
    uint64_t every_ms = record->job.spec.ckpt_every_ms;
    if (record->ckpt_requested)
        return true;
    if (every_ms == 0)
        return false;
    /* The wall clock lets a new leader go on with its predecessor's interval; if it was set back, our own clock counts. */
    if (ms_between(record->last_cut_ms, judging->now_ms) >= every_ms)
        return true;
    uint64_t left_ms = every_ms - ms_between(record->last_cut_ms, judging->now_ms);
    judge_want(judging, judging->now_ns + left_ms * NS_PER_MS);
    return judge_passed(judging, track->idle_ns, every_ms);
}

uint32_t cut_slots_needed(const struct state *state, const struct job_record *record)
{
    const struct ckpt *newest = job_newest_restorable(&record->job, UINT64_MAX);
    if (record->store_cut == 0)
        return 0; /* a rank always has a slot then */
    if (state->level < 2)
        return UINT32_MAX;
    if (newest == NULL || newest->cut == record->store_cut)
        return SLOTS_ALWAYS;
    return newest->by_hand && newest->memory_only ? UINT32_MAX : SLOTS_ALWAYS + 1;
}

static bool can_open(const struct state *state, const struct job_record *record, const struct track *track, const struct gen_scan *scan)
{
    /* The rate tells how far ahead the ranks are by now. */
    return scan->attached == scan->world && scan->stepped == scan->world && scan->done == 0 &&
           scan->slots >= cut_slots_needed(state, record) && track->rated &&
           track->steps_generation == record->job.generation && cut_has_room(record) &&
           !job_in_transition(&record->job);
}

static void judge_open(struct judging *judging, const struct job_record *record, const struct track *track,
                       const struct gen_scan *scan)
{
    if (!due(judging, record, track))
        return;
    if (!can_open(judging->state, record, track, scan)) {
        /* That the rate is known by now is no change that a heartbeat would tell. */
        judge_want(judging, judging->now_ns + state_heartbeat_ms(judging->state) * NS_PER_MS);
        return;
    }
    struct command *open = judge_add(judging, CMD_CUT_OPEN, record);
    open->cut = record->job.next_cut;
    epoch_fill_open(judging, record, open);
    open->step = cut_step(judging, track, scan->top_step > track->top_step ? scan->top_step : track->top_step, 1, open->epoch != 0);
}

/* ---- open ---- */

struct command *cut_add_abort(struct judging *judging, const struct job_record *record, const struct ckpt *ckpt,
                                 const char *node, int32_t rank)
{
    struct command *aborted = judge_add(judging, CMD_CUT_ABORT, record);
    aborted->cut = ckpt->cut;
    aborted->event.kind = EVENT_CUT_ABORTED;
    aborted->event.rank = rank;
    if (node != NULL)
        text_copy(aborted->event.node, sizeof aborted->event.node, node);
    return aborted;
}

void cut_abort_failed(struct judging *judging, const struct job_record *record, const struct ckpt *ckpt,
                         const struct cut_at *who)
{
    struct command *aborted = cut_add_abort(judging, record, ckpt, who->node, (int32_t)who->report->rank);
    if (who->report->progress == CUT_FAILED)
        TEXT(aborted->event.text, "rank %u on %s could not record: %s", who->report->rank, who->node,
             who->report->detail[0] ? who->report->detail : "no reason given");
    else
        TEXT(aborted->event.text, "rank %u on %s recorded at step %" PRIu64 " instead of %" PRIu64, who->report->rank,
             who->node, who->report->step, ckpt->step);
}

void cut_add_seal(struct judging *judging, const struct job_record *record, const struct ckpt *ckpt, const struct cut_scan *scan)
{
    struct command *seal = judge_add(judging, CMD_CUT_SEAL, record);
    seal->cut = ckpt->cut;
    seal->attempt = ckpt->attempt;
    seal->bytes = scan->bytes;
    seal->us = scan->stall_us;
    seal->logged = scan->logged;
    seal->logged_bytes = scan->logged_bytes;
    seal->copy = scan->copy;
    seal->ms = (scan->copy_us + 999) / 1000;
    seal->step = ckpt->mode == CUT_MODE_FREE ? scan->top_step : 0;
}

/* Every rank has recorded. Is it one consistent state? */
static void judge_seal(struct judging *judging, const struct job_record *record, const struct ckpt *ckpt,
                       const struct cut_scan *scan)
{
    if (scan->unequal.node != NULL) {
        const struct cut_report *a = scan->first.report, *b = scan->unequal.report;
        struct command *aborted = cut_add_abort(judging, record, ckpt, scan->unequal.node, (int32_t)b->rank);
        TEXT(aborted->event.text,
             "at step %" PRIu64 " rank %u on %s had entered %" PRIu64 " collectives but rank %u on %s %" PRIu64, ckpt->step,
             a->rank, scan->first.node, a->collectives, b->rank, scan->unequal.node, b->collectives);
        return;
    }
    char why[TIDE_TEXT_MAX + 1];
    if (scan_tells_comms(judging->book, record, ckpt) &&
        scan_comms(judging->book, record, ckpt, why, sizeof why) != CUT_FITS) {
        struct command *aborted = cut_add_abort(judging, record, ckpt, NULL, -1);
        TEXT(aborted->event.text, "at step %" PRIu64 ", %s", ckpt->step, why);
        return;
    }
    cut_add_seal(judging, record, ckpt, scan);
}

static void judge_missed(struct judging *judging, const struct job_record *record, const struct track *track,
                         const struct ckpt *ckpt, const struct cut_scan *scan)
{
    const struct cut_report *missed = scan->missed.report;
    if (ckpt->attempt >= CUT_ATTEMPTS_MAX) {
        struct command *aborted = cut_add_abort(judging, record, ckpt, scan->missed.node, (int32_t)missed->rank);
        TEXT(aborted->event.text,
             "rank %u on %s had passed step %" PRIu64 " before it could be armed, in each of %u attempts", missed->rank,
             scan->missed.node, ckpt->step, ckpt->attempt);
        return;
    }
    uint64_t top = track->top_step > missed->step ? track->top_step : missed->step;
    top = top > ckpt->step ? top : ckpt->step;
    struct command *rearm = judge_add(judging, CMD_CUT_REARM, record);
    rearm->cut = ckpt->cut;
    rearm->attempt = ckpt->attempt + 1;
    rearm->step = cut_step(judging, track, top, rearm->attempt, false);
    TEXT(rearm->text, "rank %u on %s was at step %" PRIu64 " already", missed->rank, scan->missed.node, missed->step);
}

/* The deadline is for ranks that do not come. Where the steps until then take seconds, it begins when they are made. */
uint64_t cut_deadline_ms(const struct job_record *record, const struct track *track, const struct ckpt *ckpt)
{
    bool slow = track->step_ns >= SLOW_STEP_NS && ckpt->step > track->cut_from;
    uint64_t steps = slow ? ckpt->step - track->cut_from : 0;
    unsigned __int128 ms = (unsigned __int128)steps * track->step_ns / NS_PER_MS;
    return record->job.spec.cut_deadline_ms + (ms < CUT_STEPS_MS_MAX ? (uint64_t)ms : CUT_STEPS_MS_MAX);
}

static void judge_cut_deadline(struct judging *judging, const struct job_record *record, const struct track *track,
                               const struct ckpt *ckpt)
{
    uint64_t deadline_ms = cut_deadline_ms(record, track, ckpt);
    if (!judge_passed(judging, track->cut_ns, deadline_ms))
        return;
    int32_t first = -1;
    for (uint32_t rank = 0; rank < job_world(&record->job) && first < 0; rank++)
        if (missing_record(judging->book, record, rank, ckpt))
            first = (int32_t)rank;
    const char *node = first < 0 ? NULL : record->job.nodes.items[(uint32_t)first / record->job.spec.nproc_per_node];
    char names[TIDE_TEXT_MAX + 1], spread[TIDE_TEXT_MAX + 1];
    scan_names(judging->book, record, &record->job.nodes, missing_record, ckpt, names, sizeof names);
    scan_spread(judging->book, record, spread, sizeof spread);
    struct command *aborted = cut_add_abort(judging, record, ckpt, node, first);
    TEXT(aborted->event.text, "not recorded at step %" PRIu64 " within %" PRIu64 " ms%s: %s", ckpt->step, deadline_ms, spread,
         names);
}

/* A rank that has finished will not record any more. */
static bool judge_finished(struct judging *judging, const struct job_record *record, const struct ckpt *ckpt,
                           const struct gen_scan *scan)
{
    for (uint32_t rank = 0; rank < scan->world && scan->done > 0; rank++) {
        const struct rank_report *report = scan_rank(judging->book, record, rank);
        if (report == NULL || !rank_done(report) || !missing_record(judging->book, record, rank, ckpt))
            continue;
        const char *node = record->job.nodes.items[rank / record->job.spec.nproc_per_node];
        struct command *aborted = cut_add_abort(judging, record, ckpt, node, (int32_t)rank);
        TEXT(aborted->event.text, "rank %u on %s finished at step %" PRIu64 ", before step %" PRIu64, rank, node,
             report->step, ckpt->step);
        return true;
    }
    return false;
}

void judge_cut(struct judging *judging, const struct job_record *record, struct track *track, const struct gen_scan *scan)
{
    const struct ckpt *ckpt = job_open_cut(&record->job);
    if (job_in_transition(&record->job))
        judge_epoch(judging, record);
    if (ckpt == NULL) {
        judge_open(judging, record, track, scan);
        return;
    }
    if (ckpt->epoch != 0) {
        judge_coloured(judging, record, track, ckpt);
        return;
    }
    struct cut_scan cut;
    scan_cut(judging->book, record, ckpt, &cut);
    if (cut.failed.node != NULL)
        cut_abort_failed(judging, record, ckpt, &cut.failed);
    else if (cut.recorded == cut.world)
        judge_seal(judging, record, ckpt, &cut);
    else if (judge_finished(judging, record, ckpt, scan))
        return;
    else if (cut.missed.node != NULL)
        judge_missed(judging, record, track, ckpt, &cut);
    else
        judge_cut_deadline(judging, record, track, ckpt);
}
