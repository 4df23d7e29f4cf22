/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/cut/verdict.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NOBODY UINT32_MAX

const char *cut_misfit_name(unsigned misfit)
{
    static const char *const names[CUT_MISFITS] = {[CUT_FITS] = "fits",
                                                   [CUT_MISFIT_MISSED] = "missed",
                                                   [CUT_MISFIT_PASSED] = "passed",
                                                   [CUT_MISFIT_EARLY] = "early",
                                                   [CUT_MISFIT_LATE] = "late",
                                                   [CUT_MISFIT_COLLECTIVE] = "collective",
                                                   [CUT_MISFIT_FAILED] = "failed",
                                                   [CUT_MISFIT_FINISHED] = "finished",
                                                   [CUT_MISFIT_MIXED] = "mixed",
                                                   [CUT_MISFIT_EPOCHS] = "epochs",
                                                   [CUT_MISFIT_COUNTS] = "counts"};
    return misfit < CUT_MISFITS ? names[misfit] : "unknown";
}

/* ---- reports ---- */

static void newer(uint64_t *into, uint64_t from)
{
    if (from > *into)
        *into = from;
}

static void merge_record(struct cut_rank_report *into, const struct cut_rank_report *from)
{
    int later = from->recorded_cut != into->recorded_cut ? from->recorded_cut > into->recorded_cut
                                                         : from->recorded_attempt > into->recorded_attempt;
    int same = from->recorded_cut == into->recorded_cut && from->recorded_attempt == into->recorded_attempt;
    /* What was whole can turn out not to be; never the other way round. */
    if (!later && !(same && (into->result == RECORD_NONE || into->result == RECORD_DONE) && from->result != RECORD_NONE))
        return;
    into->recorded_cut = from->recorded_cut;
    into->recorded_attempt = from->recorded_attempt;
    into->result = from->result;
}

static int finished(const struct cut_rank_report *r)
{
    return r->ended_epoch == CUT_ENDED_FOR_GOOD;
}

void cut_rank_report_merge(struct cut_rank_report *into, const struct cut_rank_report *from)
{
    if (from->epoch > into->epoch || (from->epoch == into->epoch && finished(from) && !finished(into))) {
        into->epoch = from->epoch;
        into->sent_before = from->sent_before;
        into->arrived_before = from->arrived_before;
    } else if (from->epoch == into->epoch && finished(from) == finished(into)) {
        newer(&into->sent_before, from->sent_before);
        newer(&into->arrived_before, from->arrived_before);
    }
    into->coloured |= from->coloured;
    into->left |= from->left;
    newer(&into->armed_epoch, from->armed_epoch);
    newer(&into->missed_epoch, from->missed_epoch);
    newer(&into->polling_epoch, from->polling_epoch);
    newer(&into->ended_epoch, from->ended_epoch);
    merge_record(into, from);
}

/* ---- counting ---- */

void cut_verdict_init(struct cut_verdict *verdict, uint32_t world, uint64_t epoch, uint64_t cut, uint32_t attempt)
{
    assert(world > 0 && world <= TIDE_RANKS_MAX);
    memset(verdict, 0, offsetof(struct cut_verdict, seen) + (world + 7) / 8);
    verdict->cut = cut;
    verdict->epoch = epoch;
    verdict->attempt = attempt;
    verdict->world = world;
    verdict->base = UINT64_MAX;
    verdict->coloured_rank = verdict->plain_rank = NOBODY;
    for (unsigned i = 0; i < CUT_STAGE_CLOSED; i++)
        verdict->waits[i] = NOBODY;
}

static void count_misfit(struct cut_verdict *v, enum cut_misfit misfit, uint32_t rank)
{
    if (v->misfits[misfit]++ == 0)
        v->misfit_rank[misfit] = rank;
}

static void count_result(struct cut_verdict *v, const struct cut_rank_report *r)
{
    static const unsigned char misfits[] = {
        [RECORD_FAILED] = CUT_MISFIT_FAILED, [RECORD_PASSED] = CUT_MISFIT_PASSED, [RECORD_EARLY] = CUT_MISFIT_EARLY};
    int told = r->recorded_cut == v->cut && r->recorded_attempt == v->attempt && r->result != RECORD_NONE;
    if (told && r->result == RECORD_DONE)
        v->recorded++;
    else if (told)
        count_misfit(v, r->result < sizeof misfits ? (enum cut_misfit)misfits[r->result] : CUT_MISFIT_FAILED, r->rank);
    else if (r->coloured && !finished(r) && r->epoch == v->epoch && r->ended_epoch >= v->epoch)
        count_misfit(v, CUT_MISFIT_LATE, r->rank);
}

/* Where the rank stands on its way through the attempt. */
static void count_progress(struct cut_verdict *v, const struct cut_rank_report *r)
{
    int flipped = r->epoch >= v->epoch, through = flipped || finished(r);
    int armed = through || (r->armed_epoch >= v->epoch && (!r->coloured || r->polling_epoch >= v->epoch));
    int ended = r->ended_epoch >= v->epoch;
    if (through) {
        v->flipped++;
        v->sent += r->sent_before;
        v->arrived += r->arrived_before;
    }
    v->armed += (unsigned)armed;
    v->ended += (unsigned)ended;
    const int done[CUT_STAGE_CLOSED] = {armed, through, through, ended};
    for (unsigned i = 0; i < CUT_STAGE_CLOSED; i++)
        if (!done[i] && r->rank < v->waits[i])
            v->waits[i] = r->rank;
    if (r->epoch > v->epoch)
        count_misfit(v, CUT_MISFIT_EPOCHS, r->rank);
    if (!through) {
        if (v->base == UINT64_MAX)
            v->base = r->epoch;
        else if (v->base != r->epoch)
            count_misfit(v, CUT_MISFIT_EPOCHS, r->rank);
    }
}

void cut_verdict_add(struct cut_verdict *verdict, const struct cut_rank_report *report)
{
    struct cut_verdict *v = verdict;
    uint32_t rank = report->rank;
    if (rank >= v->world || (v->seen[rank / 8] & 1u << rank % 8))
        return;
    v->seen[rank / 8] |= (unsigned char)(1u << rank % 8);
    v->added++;
    v->coloured += report->coloured;
    uint32_t *first = report->coloured ? &v->coloured_rank : &v->plain_rank;
    if (*first == NOBODY)
        *first = rank;
    if (report->left || finished(report))
        count_misfit(v, CUT_MISFIT_FINISHED, rank);
    if (report->missed_epoch == v->epoch)
        count_misfit(v, CUT_MISFIT_MISSED, rank);
    count_result(v, report);
    count_progress(v, report);
}

/* ---- conclusions ---- */

static int has_misfit(const struct cut_verdict *v)
{
    for (unsigned i = CUT_FITS + 1; i < CUT_MISFITS; i++)
        if (v->misfits[i] > 0)
            return 1;
    return v->coloured_rank != NOBODY && v->plain_rank != NOBODY;
}

static enum cut_stage stage_uncoloured(const struct cut_verdict *v, enum cut_stage stage)
{
    switch (stage) {
    case CUT_STAGE_ARM:
        return has_misfit(v) ? CUT_STAGE_CLOSED : v->armed == v->world ? CUT_STAGE_RECORD : stage;
    case CUT_STAGE_RECORD:
        return has_misfit(v) || v->recorded == v->world ? CUT_STAGE_CLOSED : stage;
    default:
        return CUT_STAGE_CLOSED;
    }
}

enum cut_stage cut_verdict_stage(const struct cut_verdict *v, enum cut_stage stage)
{
    int all = v->added == v->world, settled = all && v->flipped == v->world && v->sent == v->arrived;
    if (all && v->coloured == 0)
        return stage_uncoloured(v, stage);
    switch (stage) {
    case CUT_STAGE_ARM:
        return has_misfit(v) ? CUT_STAGE_CLOSED : all && v->armed == v->world ? CUT_STAGE_RECORD : stage;
    case CUT_STAGE_RECORD:
        return settled ? CUT_STAGE_SETTLED : has_misfit(v) ? CUT_STAGE_SUM : stage;
    case CUT_STAGE_SUM:
        return settled ? CUT_STAGE_SETTLED : stage;
    case CUT_STAGE_SETTLED:
        return all && v->ended == v->world ? CUT_STAGE_CLOSED : stage;
    default:
        return stage;
    }
}

int cut_verdict_whole(const struct cut_verdict *verdict)
{
    return verdict->added == verdict->world && verdict->recorded == verdict->world;
}

static enum cut_misfit misfit_of(const struct cut_verdict *v)
{
    /* The cause before what follows from it. */
    static const unsigned char order[] = {CUT_MISFIT_FINISHED, CUT_MISFIT_EPOCHS, CUT_MISFIT_FAILED, CUT_MISFIT_MISSED,
                                          CUT_MISFIT_PASSED,   CUT_MISFIT_EARLY,  CUT_MISFIT_LATE};
    if (v->coloured_rank != NOBODY && v->plain_rank != NOBODY)
        return CUT_MISFIT_MIXED;
    for (unsigned i = 0; i < sizeof order; i++)
        if (v->misfits[order[i]] > 0)
            return (enum cut_misfit)order[i];
    if (v->added == v->world && v->flipped == v->world && v->arrived > v->sent)
        return CUT_MISFIT_COUNTS;
    return CUT_FITS;
}

enum cut_misfit cut_verdict_misfit(const struct cut_verdict *v, char *why, size_t why_size)
{
    static const char *const sentences[CUT_MISFITS] = {
        [CUT_MISFIT_MISSED] = "had gone by the step before its agent could arm it",
        [CUT_MISFIT_PASSED] = "came to the step before all others were armed",
        [CUT_MISFIT_EARLY] = "could only go on with a message from behind the cut",
        [CUT_MISFIT_LATE] = "did not come to a safe point in time",
        [CUT_MISFIT_FAILED] = "could not record",
        [CUT_MISFIT_FINISHED] = "has finished",
        [CUT_MISFIT_EPOCHS] = "is not in the epoch of the others; checkpoints go on after a restart of the job"};
    enum cut_misfit misfit = misfit_of(v);
    uint32_t rank = v->misfit_rank[misfit], more = v->misfits[misfit] - 1;
    if (misfit == CUT_MISFIT_MIXED)
        snprintf(why, why_size, "rank %u runs with libtidemark_mpi and rank %u without; start all ranks alike",
                 v->coloured_rank, v->plain_rank);
    else if (misfit == CUT_MISFIT_COUNTS)
        snprintf(why, why_size, "%" PRIu64 " messages arrived and only %" PRIu64 " were sent", v->arrived, v->sent);
    else if (misfit != CUT_FITS && more > 0)
        snprintf(why, why_size, "rank %u (and %u more) %s", rank, more, sentences[misfit]);
    else if (misfit != CUT_FITS)
        snprintf(why, why_size, "rank %u %s", rank, sentences[misfit]);
    return misfit;
}

void cut_verdict_waits(const struct cut_verdict *v, enum cut_stage stage, char *text, size_t size)
{
    static const char *const what[CUT_STAGE_CLOSED] = {"be armed", "record", "flip", "end its transition"};
    unsigned i = stage < CUT_STAGE_CLOSED ? (unsigned)stage : CUT_STAGE_SETTLED;
    const uint32_t done[CUT_STAGE_CLOSED] = {v->armed, v->flipped, v->flipped, v->ended};
    if (v->added < v->world)
        snprintf(text, size, "%u of %u ranks have not been heard of", v->world - v->added, v->world);
    else if (v->waits[i] != NOBODY)
        snprintf(text, size, "%u of %u ranks are still to %s, rank %u the first of them", v->world - done[i], v->world,
                 what[i], v->waits[i]);
    else
        snprintf(text, size, "%" PRIu64 " messages are on their way", v->sent - v->arrived);
}
