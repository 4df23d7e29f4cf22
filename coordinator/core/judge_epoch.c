/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/judge.h"

/* Cuts through messages in flight (ckpt/cut/README.md): an attempt is armed, goes, is recorded, settles and closes. What has been
 * begun is brought to its end whatever becomes of the cut, since the colours of all ranks must agree before the next. What reports
 * mean is said by ckpt/cut/verdict.h; what is done about it, and told to people, here. */

#define MARGIN_DOUBLED_MAX 4u

/* ---- the transition ---- */

void judge_epoch(struct judging *judging, const struct job_record *record)
{
    const struct job *job = &record->job;
    struct cut_verdict verdict;
    scan_verdict(judging->book, record, NULL, job->epoch_go, &verdict);
    if (job->epoch_settled < job->epoch_go && cut_verdict_stage(&verdict, CUT_STAGE_SUM) == CUT_STAGE_SETTLED)
        judge_add(judging, CMD_CUT_SETTLED, record)->epoch = job->epoch_go;
    else if (job->epoch_settled == job->epoch_go && cut_verdict_stage(&verdict, CUT_STAGE_SETTLED) == CUT_STAGE_CLOSED)
        judge_add(judging, CMD_CUT_CLOSED, record)->epoch = job->epoch_go;
}

/* ---- the mode ---- */

/* Whoever knows better than we can find out: the program, or else the one who started it. */
static struct cut_past past_of(const struct job_record *record, const struct mode_scan *scan)
{
    struct cut_past past = record->cut_past;
    past.declared = record->job.spec.cut_mode;
    if (scan->by_itself.node != NULL)
        past.declared = CUT_MODE_FREE;
    else if (scan->by_step.node != NULL)
        past.declared = CUT_MODE_STEP;
    return past;
}

/* ---- opening ---- */

static void refuse(struct command *open, const struct rank_at *at)
{
    open->event.kind = EVENT_CUT_ABORTED;
    open->event.rank = (int32_t)at->report->rank;
    text_copy(open->event.node, sizeof open->event.node, at->node);
}

/* Without colour a cut is one only where no message is under way, as between two steps that all ranks count alike. */
static void refuse_plain(const struct job_record *record, const struct mode_scan *scan, struct command *open)
{
    struct cut_past past = past_of(record, scan);
    const struct rank_at *at = scan->by_itself.node != NULL ? &scan->by_itself : &scan->plain;
    if (past.declared != CUT_MODE_FREE || at->node == NULL || job_world(&record->job) == 1)
        return;
    refuse(open, at);
    TEXT(open->event.text,
         "each rank counts its own steps and rank %u on %s runs without libtidemark_mpi, so that messages under way would be "
         "lost: link or preload it",
         at->report->rank, at->node);
}

void epoch_fill_open(struct judging *judging, const struct job_record *record, struct command *open)
{
    struct mode_scan scan;
    scan_modes(judging->book, record, &scan);
    if (scan.coloured == 0) {
        refuse_plain(record, &scan, open);
        return;
    }
    if (scan.plain.node != NULL) {
        refuse(open, &scan.plain);
        TEXT(open->event.text,
             "rank %u on %s runs with libtidemark_mpi, rank %u on %s without: either all link or preload it, or none does",
             scan.paint.report->rank, scan.paint.node, scan.plain.report->rank, scan.plain.node);
        return;
    }
    if (scan.by_step.node != NULL && scan.by_itself.node != NULL) {
        refuse(open, &scan.by_itself);
        TEXT(open->event.text, "rank %u on %s declares that all ranks count the same steps, rank %u on %s that each counts its own",
             scan.by_step.report->rank, scan.by_step.node, scan.by_itself.report->rank, scan.by_itself.node);
        return;
    }
    struct cut_past past = past_of(record, &scan);
    open->epoch = record->job.epoch + 1;
    open->mode = cut_mode_next(&past);
}

/* ---- the open cut ---- */

struct attempt {
    struct judging *judging;
    const struct job_record *record;
    const struct track *track;
    const struct ckpt *ckpt;
    struct mode_scan modes;
    struct cut_past past;
    struct cut_scan cut;
    struct cut_verdict verdict;
    bool goes, settled;
};

static const char *node_of(const struct attempt *a, uint32_t rank)
{
    return a->record->job.nodes.items[rank / a->record->job.spec.nproc_per_node];
}

static void arm_again(struct attempt *a, const struct cut_past *past, enum cut_misfit misfit, const char *text)
{
    uint64_t top = a->track->top_step > a->ckpt->step ? a->track->top_step : a->ckpt->step;
    uint64_t missed = a->cut.missed.node != NULL ? a->cut.missed.report->step : 0;
    uint64_t passed = a->cut.passed.node != NULL ? a->cut.passed.report->step : 0;
    uint64_t seen = missed > passed ? missed : passed;
    uint32_t doubled = past->misfits < MARGIN_DOUBLED_MAX ? past->misfits : MARGIN_DOUBLED_MAX;
    if (seen == 0) /* it was not a matter of being in time */
        doubled = 0;
    struct command *rearm = judge_add(a->judging, CMD_CUT_REARM, a->record);
    rearm->cut = a->ckpt->cut;
    rearm->attempt = a->ckpt->attempt + 1;
    rearm->epoch = a->record->job.epoch + 1;
    rearm->mode = cut_mode_next(past);
    rearm->misfit = misfit;
    rearm->step = cut_step(a->judging, a->track, top > seen ? top : seen, doubled + 1, true);
    TEXT(rearm->text, "%s", text);
}

static void abort_it(struct attempt *a, enum cut_misfit misfit, int32_t rank, const char *text)
{
    struct command *aborted = cut_add_abort(a->judging, a->record, a->ckpt, rank < 0 ? NULL : node_of(a, (uint32_t)rank), rank);
    aborted->misfit = misfit;
    TEXT(aborted->event.text, "%s", text);
}

/* This attempt is no cut. Where nobody can have begun its epoch the next may be armed at once. */
static void end_attempt(struct attempt *a, enum cut_misfit misfit, int32_t rank, const char *text)
{
    char last[TIDE_TEXT_MAX + 1];
    struct cut_past past = a->past;
    cut_past_add(&past, (enum cut_mode)a->ckpt->mode, misfit);
    if (misfit >= CUT_MISFIT_FAILED) {
        abort_it(a, misfit, rank, text);
    } else if (a->ckpt->attempt >= CUT_COLOURED_ATTEMPTS_MAX || cut_past_hopeless(&past)) {
        TEXT(last, "attempt %u, and %u in a row that did not fit: %s", a->ckpt->attempt, past.row, text);
        abort_it(a, misfit, rank, last);
    } else if (!a->goes) {
        arm_again(a, &past, misfit, text);
    } else {
        struct command *over = judge_add(a->judging, CMD_CUT_VOID, a->record);
        over->cut = a->ckpt->cut;
        over->attempt = a->ckpt->attempt;
        over->misfit = misfit;
        over->event.kind = EVENT_CUT_VOID;
        over->event.rank = rank;
        if (rank >= 0)
            text_copy(over->event.node, sizeof over->event.node, node_of(a, (uint32_t)rank));
        TEXT(over->event.text, "%s", text);
    }
}

/* The rank's own words, where it has some. */
static const struct cut_at *who_said(const struct attempt *a, enum cut_misfit misfit)
{
    switch (misfit) {
    case CUT_MISFIT_FAILED:
        return &a->cut.failed;
    case CUT_MISFIT_EARLY:
        return &a->cut.early;
    case CUT_MISFIT_MISSED:
        return &a->cut.missed;
    default:
        return &a->cut.passed;
    }
}

static void tell_misfit(const struct attempt *a, enum cut_misfit misfit, const struct cut_at *who, char *to, size_t size)
{
    const struct cut_report *report = who->report;
    if (misfit == CUT_MISFIT_FAILED)
        text_say(to, size, "rank %u on %s could not record: %s", report->rank, who->node,
                 report->detail[0] ? report->detail : "no reason given");
    else if (misfit == CUT_MISFIT_EARLY)
        text_say(to, size, "rank %u on %s needs what was sent behind the sender's record: %s", report->rank, who->node, report->detail);
    else if (misfit == CUT_MISFIT_PASSED)
        text_say(to, size, "rank %u on %s came to step %" PRIu64 " before it was known that all ranks are armed", report->rank,
                 who->node, a->ckpt->step);
    else
        text_say(to, size, "rank %u on %s was at step %" PRIu64 " already", report->rank, who->node, report->step);
}

/* Does anything that ranks say speak against this attempt? */
static bool judge_said(struct attempt *a)
{
    char text[TIDE_TEXT_MAX + 1];
    enum cut_misfit misfit = cut_verdict_misfit(&a->verdict, text, sizeof text);
    if (misfit == CUT_FITS && a->cut.failed.node != NULL) {
        cut_abort_failed(a->judging, a->record, a->ckpt, &a->cut.failed);
        return true;
    }
    /* A rank that leaves behind its record leaves it whole, or makes it end otherwise. */
    if (misfit == CUT_FITS || (misfit == CUT_MISFIT_FINISHED && a->goes && cut_verdict_whole(&a->verdict)))
        return false;
    const struct cut_at *who = who_said(a, misfit);
    bool own = misfit <= CUT_MISFIT_EARLY || misfit == CUT_MISFIT_FAILED;
    int32_t rank = (int32_t)a->verdict.misfit_rank[misfit];
    if (own && who->node != NULL) {
        rank = (int32_t)who->report->rank;
        tell_misfit(a, misfit, who, text, sizeof text);
    }
    end_attempt(a, misfit, misfit < CUT_MISFIT_MIXED ? rank : -1, text);
    return true;
}

static void judge_whole(struct attempt *a)
{
    char why[TIDE_TEXT_MAX + 1], text[TIDE_TEXT_MAX + 1];
    bool by_step = a->ckpt->mode == CUT_MODE_STEP;
    enum cut_misfit misfit = scan_comms(a->judging->book, a->record, a->ckpt, why, sizeof why);
    if (misfit == CUT_FITS) {
        cut_add_seal(a->judging, a->record, a->ckpt, &a->cut);
        return;
    }
    if (by_step)
        TEXT(text, "at step %" PRIu64 ", %s", a->ckpt->step, why);
    else
        TEXT(text, "%s", why);
    /* Whoever declares equal steps and is not in equal places is asked to look at the numbers: more tries give the same. */
    if (by_step && a->past.declared == CUT_MODE_STEP)
        abort_it(a, misfit, -1, text);
    else
        end_attempt(a, misfit, -1, text);
}

/* ---- deadlines ---- */

static int32_t first_missing(const struct attempt *a, rank_missing_fn is_missing, const void *context)
{
    for (uint32_t rank = 0; rank < a->cut.world; rank++)
        if (is_missing(a->judging->book, a->record, rank, context))
            return (int32_t)rank;
    return -1;
}

/* What is waited for at the moment, and for whom. */
static void tell_wait(const struct attempt *a, uint64_t ms, char *to, size_t size, int32_t *ret_rank)
{
    const struct job *job = &a->record->job;
    const uint64_t *epoch = &a->ckpt->epoch;
    rank_missing_fn missing = missing_record;
    const void *context = a->ckpt;
    const char *what = "its part is not whole";
    if (!a->goes && a->cut.armed < a->cut.world)
        missing = missing_arm, what = "not armed";
    else if (!a->goes)
        missing = missing_poll, context = epoch, what = "makes no call, to MPI or tide_step, in which it could be told";
    else if (!a->ckpt->attempt_void && a->cut.copied < a->cut.world)
        missing = missing_copy, what = a->ckpt->mode == CUT_MODE_FREE ? "came to no safe point" : "did not come to that step";
    else if (a->verdict.flipped < a->verdict.world)
        missing = missing_flip, context = epoch, what = "makes no call in which it could change colour";
    else if (!a->settled)
        missing = NULL;
    else if (a->ckpt->attempt_void)
        missing = missing_end, context = epoch, what = "makes no call in which it could end the change of colours";
    char names[TIDE_TEXT_MAX + 1], spread[TIDE_TEXT_MAX + 1] = "";
    *ret_rank = missing != NULL ? first_missing(a, missing, context) : -1;
    if (missing == NULL) {
        text_say(to, size, "%" PRIu64 " of %" PRIu64 " messages sent before it had not arrived within %" PRIu64 " ms",
                 a->verdict.sent - a->verdict.arrived, a->verdict.sent, ms);
        return;
    }
    scan_names(a->judging->book, a->record, &job->nodes, missing, context, names, sizeof names);
    if (a->ckpt->mode == CUT_MODE_FREE) {
        text_say(to, size, "within %" PRIu64 " ms, %s: %s", ms, what, names);
        return;
    }
    if (missing == missing_copy)
        scan_spread(a->judging->book, a->record, spread, sizeof spread);
    text_say(to, size, "step %" PRIu64 ", within %" PRIu64 " ms%s, %s: %s", a->ckpt->step, ms, spread, what, names);
}

static void judge_deadline(struct attempt *a)
{
    uint64_t ms = cut_deadline_ms(a->record, a->track, a->ckpt), most_ms = a->record->job.spec.cut_deadline_ms;
    uint64_t doubt_ms = ms - most_ms + most_ms / 2 / CUT_STEP_TRIES; /* half of it is left for ranks that each count their own */
    char text[TIDE_TEXT_MAX + 1];
    int32_t rank;
    /* Steps that are not the same steps everywhere may never come: that is found out in time to try otherwise. */
    bool doubtful = a->goes && !a->ckpt->attempt_void && a->ckpt->mode == CUT_MODE_STEP && a->cut.copied < a->cut.world &&
                    a->past.declared == CUT_MODE_AUTO;
    if (judge_passed(a->judging, a->track->cut_ns, ms)) {
        tell_wait(a, ms, text, sizeof text, &rank);
        abort_it(a, CUT_MISFIT_FAILED, rank, text);
    } else if (doubtful && judge_passed(a->judging, a->track->attempt_ns, doubt_ms)) {
        tell_wait(a, doubt_ms, text, sizeof text, &rank);
        end_attempt(a, CUT_MISFIT_LATE, rank, text);
    }
}

/* ---- */

void judge_coloured(struct judging *judging, const struct job_record *record, const struct track *track, const struct ckpt *ckpt)
{
    struct attempt a = {.judging = judging, .record = record, .track = track, .ckpt = ckpt, .goes = cut_goes(&record->job, ckpt)};
    a.settled = a.goes && record->job.epoch_settled == ckpt->epoch;
    scan_cut(judging->book, record, ckpt, &a.cut);
    scan_modes(judging->book, record, &a.modes);
    scan_verdict(judging->book, record, ckpt, ckpt->epoch, &a.verdict);
    a.past = past_of(record, &a.modes);
    if (ckpt->attempt_void && !job_in_transition(&record->job)) {
        arm_again(&a, &a.past, CUT_FITS, "");
    } else if (ckpt->attempt_void) {
        judge_deadline(&a);
    } else if (judge_said(&a)) {
        return;
    } else if (!a.goes && cut_verdict_stage(&a.verdict, CUT_STAGE_ARM) == CUT_STAGE_RECORD) {
        struct command *go = judge_add(judging, CMD_CUT_GO, record);
        go->cut = ckpt->cut;
        go->attempt = ckpt->attempt;
        go->epoch = ckpt->epoch;
    } else if (a.settled && a.cut.recorded == a.cut.world) {
        judge_whole(&a);
    } else {
        judge_deadline(&a);
    }
}
