/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "coordinator/core/judge.h"

/* Heartbeats of ranks whose messages are coloured, as ckpt/cut/verdict.h wants them. */

typedef void (*each_fn)(const char *node, const struct gen_report *said, const struct rank_report *report, void *context);

static void each_rank(const struct book *book, const struct job_record *record, each_fn fn, void *context)
{
    const struct job_spec *spec = &record->job.spec;
    for (uint32_t n = 0; n < record->job.nodes.count; n++) {
        const struct gen_report *report = scan_report(book, record, n);
        for (size_t i = 0; report != NULL && i < report->ranks.count; i++)
            if (scan_local_bit(spec, n, report->ranks.items[i].rank) != 0)
                fn(record->job.nodes.items[n], report, &report->ranks.items[i], context);
    }
}

static void take_mode(const char *node, const struct gen_report *said, const struct rank_report *report, void *context)
{
    (void)said;
    struct mode_scan *scan = context;
    struct rank_at at = {.node = node, .report = report};
    struct rank_at *first = report->coloured ? &scan->paint : &scan->plain;
    scan->coloured += report->coloured;
    if (first->node == NULL)
        *first = at;
    if (report->cut_mode == CUT_MODE_STEP && scan->by_step.node == NULL)
        scan->by_step = at;
    if (report->cut_mode == CUT_MODE_FREE && scan->by_itself.node == NULL)
        scan->by_itself = at;
}

void scan_modes(const struct book *book, const struct job_record *record, struct mode_scan *ret_scan)
{
    *ret_scan = (struct mode_scan){0};
    each_rank(book, record, take_mode, ret_scan);
}

struct look {
    const struct ckpt *ckpt;
    struct cut_verdict *verdict;
};

static unsigned result_of(unsigned progress)
{
    static const unsigned results[CUT_PROGRESS] = {[CUT_RECORDED] = RECORD_DONE,
                                                   [CUT_COPIED] = RECORD_DONE,
                                                   [CUT_FAILED] = RECORD_FAILED,
                                                   [CUT_PASSED] = RECORD_PASSED,
                                                   [CUT_EARLY] = RECORD_EARLY};
    return progress < CUT_PROGRESS ? results[progress] : RECORD_NONE;
}

static void take_attempt(const struct ckpt *ckpt, const struct gen_report *said, struct cut_rank_report *to)
{
    for (size_t i = 0; i < said->cuts.count; i++) {
        const struct cut_report *cut = &said->cuts.items[i];
        if (cut->cut != ckpt->cut || cut->attempt != ckpt->attempt || cut->rank != to->rank)
            continue;
        *(cut->progress == CUT_MISSED ? &to->missed_epoch : &to->armed_epoch) = ckpt->epoch;
        to->recorded_cut = cut->cut;
        to->recorded_attempt = cut->attempt;
        to->result = result_of(cut->progress);
        return;
    }
}

static void take_rank(const char *node, const struct gen_report *said, const struct rank_report *report, void *context)
{
    (void)node;
    struct look *look = context;
    struct cut_rank_report to = {.rank = report->rank,
                                 .coloured = report->coloured,
                                 .left = report->left,
                                 .polling_epoch = report->polling,
                                 .epoch = report->epoch,
                                 .ended_epoch = report->quiet ? CUT_ENDED_FOR_GOOD : report->ended,
                                 .sent_before = report->sent,
                                 .arrived_before = report->arrived};
    if (look->ckpt != NULL)
        take_attempt(look->ckpt, said, &to);
    cut_verdict_add(look->verdict, &to);
}

void scan_verdict(const struct book *book, const struct job_record *record, const struct ckpt *ckpt, uint64_t epoch,
                  struct cut_verdict *ret_verdict)
{
    cut_verdict_init(ret_verdict, job_world(&record->job), epoch, ckpt != NULL ? ckpt->cut : 0,
                     ckpt != NULL ? ckpt->attempt : 0);
    each_rank(book, record, take_rank, &(struct look){.ckpt = ckpt, .verdict = ret_verdict});
}

/* ---- who is missing ---- */

bool missing_poll(const struct book *book, const struct job_record *record, uint32_t rank, const void *context)
{
    const struct rank_report *report = scan_rank(book, record, rank);
    return report == NULL || report->polling < *(const uint64_t *)context;
}

bool missing_flip(const struct book *book, const struct job_record *record, uint32_t rank, const void *context)
{
    const struct rank_report *report = scan_rank(book, record, rank);
    return report == NULL || report->epoch < *(const uint64_t *)context;
}

bool missing_end(const struct book *book, const struct job_record *record, uint32_t rank, const void *context)
{
    const struct rank_report *report = scan_rank(book, record, rank);
    return report == NULL || report->ended < *(const uint64_t *)context;
}

/* What the rank has come to in the present attempt; CUT_PROGRESS: nothing is said. */
static unsigned progress_of(const struct book *book, const struct job_record *record, uint32_t rank, const struct ckpt *ckpt)
{
    const struct gen_report *report = scan_report(book, record, rank / record->job.spec.nproc_per_node);
    for (size_t i = 0; report != NULL && i < report->cuts.count; i++) {
        const struct cut_report *cut = &report->cuts.items[i];
        if (cut->cut == ckpt->cut && cut->attempt == ckpt->attempt && cut->rank == rank)
            return cut->progress;
    }
    return CUT_PROGRESS;
}

bool missing_arm(const struct book *book, const struct job_record *record, uint32_t rank, const void *context)
{
    return progress_of(book, record, rank, context) == CUT_PROGRESS;
}

bool missing_copy(const struct book *book, const struct job_record *record, uint32_t rank, const void *context)
{
    unsigned progress = progress_of(book, record, rank, context);
    return progress != CUT_COPIED && progress != CUT_RECORDED;
}

/* ---- collectives, by communicator ---- */

bool scan_tells_comms(const struct book *book, const struct job_record *record, const struct ckpt *ckpt)
{
    for (uint32_t n = 0; n < record->job.nodes.count; n++) {
        const struct gen_report *said = scan_report(book, record, n);
        for (size_t i = 0; said != NULL && i < said->comms.count; i++)
            if (said->comms.items[i].cut == ckpt->cut && said->comms.items[i].attempt == ckpt->attempt)
                return true;
    }
    return false;
}

enum cut_misfit scan_comms(const struct book *book, const struct job_record *record, const struct ckpt *ckpt, char *why,
                           size_t size)
{
    struct cut_comms *comms = cut_comms_create();
    struct err err = {0};
    for (uint32_t n = 0; n < record->job.nodes.count && err.status == TIDE_OK; n++) {
        const struct gen_report *said = scan_report(book, record, n);
        for (size_t i = 0; said != NULL && i < said->comms.count && err.status == TIDE_OK; i++) {
            const struct comm_report *comm = &said->comms.items[i];
            struct cut_members members = {.members = comm->ranks, .rank = comm->rank, .sent = comm->sent,
                                          .received = comm->received, .balance = comm->balance};
            members.comm =
                (struct cut_comm){.id = strtoull(comm->id, NULL, 16), .collectives = comm->collectives, .size = comm->size};
            text_copy(members.comm.name, sizeof members.comm.name, comm->name);
            if (comm->cut == ckpt->cut && comm->attempt == ckpt->attempt)
                err.status = cut_comms_add(comms, &members, &err);
        }
    }
    enum cut_misfit misfit =
        err.status == TIDE_OK ? cut_comms_judge(comms, job_world(&record->job), why, size) : CUT_MISFIT_FAILED;
    if (err.status != TIDE_OK)
        text_say(why, size, "%s", err.text);
    cut_comms_free(comms);
    return misfit;
}
