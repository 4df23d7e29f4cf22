/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "coordinator/core/hang.h"
#include "coordinator/core/judge.h"

/* Ranks of a job that stands still: whom do they wait for? Agents tell of a rank only while its job stands still there. Who is to blame
 * is evidence of his node; if it stays so for as long as the agents say (--hang-ms) the job needs another generation. */

#define HANG_TELL_MS 2000u        /* the same verdict for so long: it is told */
#define HANG_COUNTS_MS 20000u     /* … and counts for so long after it was so last */
#define HANG_OVER_FOR_MS 3600000u /* a second time within that: the node is suspect. Once may be the program's doing */

/* 0: a node tells of none. So it mostly is of the first, whose ranks make steps. */
static size_t count_rows(const struct judging *judging, const struct job_record *record)
{
    size_t count = 0;
    for (uint32_t n = 0; n < record->job.nodes.count; n++) {
        const struct gen_report *report = scan_report(judging->book, record, n);
        if (report == NULL || report->ops.count == 0)
            return 0;
        count += report->ops.count;
    }
    return count;
}

/* Borrowed from the book; the least hang_ms that is said. */
static size_t gather(const struct judging *judging, const struct job_record *record, struct hang_row *rows, uint64_t *ret_hang_ms)
{
    size_t count = 0;
    for (uint32_t n = 0; n < record->job.nodes.count; n++) {
        const struct gen_report *report = scan_report(judging->book, record, n);
        if (report->hang_ms > 0 && (*ret_hang_ms == 0 || report->hang_ms < *ret_hang_ms))
            *ret_hang_ms = report->hang_ms;
        for (size_t i = 0; i < report->ops.count; i++) {
            const struct op_report *op = &report->ops.items[i];
            if (scan_local_bit(&record->job.spec, n, op->rank) == 0)
                continue;
            rows[count++] = (struct hang_row){.rank = op->rank, .comm = op->id, .name = op->name[0] ? op->name : op->id,
                                              .member = op->member, .size = op->size, .begun = op->begun, .reached = op->reached,
                                              .unreached = op->unreached, .done = op->done, .undone = op->undone, .messages = op->messages,
                                              .recording = op->recording};
        }
    }
    return count;
}

/* ---- what is told of a node ---- */

static void tell(struct judging *judging, const struct job_record *record, uint32_t rank, const char *text, bool over)
{
    const char *name = record->job.nodes.items[rank / record->job.spec.nproc_per_node];
    struct book_entry *entry = book_find(judging->book, name);
    const struct node *node = state_node(judging->state, name);
    if (entry == NULL || node == NULL)
        return;
    char subject[HEALTH_SUBJECT_MAX + 1];
    TEXT(subject, "job %s rank %u", record->job.spec.name, rank);
    struct found *hung = &entry->hung;
    bool told = judge_found_counts(hung, judging->now_ns) && hung->fact.serial > node->forgiven;
    bool before = told && hung->fact.restart;
    if (!over && before)
        return; /* what is worse, and still counts */
    if (over || !told || strcmp(hung->fact.subject, subject) != 0)
        judge_found(node, entry, hung, "hang", subject, text);
    hung->until_ns = judging->now_ns + (over ? HANG_OVER_FOR_MS : HANG_COUNTS_MS) * NS_PER_MS;
    if (!over)
        return;
    hung->fact.restart = true;
    hung->fact.state = before ? TIDE_HEALTH_SUSPECT : TIDE_HEALTH_DEGRADED;
    entry->hung_ns = judging->now_ns;
}

/* ---- verdicts ---- */

/* Nobody is to blame: another generation, on the same nodes, as soon as there can be one. */
static bool fail_blameless(struct judging *judging, const struct job_record *record, const struct track *track, const struct gen_scan *scan)
{
    if (health_keeps(judge_room(judging), record) != NULL)
        return false;
    struct command *fail = gen_add_fail(judging, record, scan, EVENT_NOTE, NULL, -1);
    fail->ms = (judging->now_ns - track->hang.since_ns) / NS_PER_MS;
    text_copy(fail->event.text, sizeof fail->event.text, track->hang.text);
    return true;
}

/* The same as at the last look? */
static bool stands(struct judging *judging, struct hang_track *past, const struct hang_row *rows, const struct hang_verdict *verdict)
{
    const struct hang_row *first = &rows[verdict->blamed[0]];
    char key[sizeof past->key];
    TEXT(key, "%u %zu %u %.16s %" PRIu64, (unsigned)verdict->kind, verdict->count, first->rank, first->comm, verdict->op);
    if (past->since_ns == 0 || strcmp(past->key, key) != 0) {
        *past = (struct hang_track){.since_ns = judging->now_ns};
        text_copy(past->key, sizeof past->key, key);
    }
    return judge_passed(judging, past->since_ns, HANG_TELL_MS);
}

static bool judge_rows(struct judging *judging, const struct job_record *record, struct track *track, const struct gen_scan *scan,
                       const struct hang_row *rows, size_t count, uint64_t hang_ms)
{
    struct hang_verdict verdict;
    hang_find(rows, count, job_world(&record->job), &verdict);
    if (verdict.kind == HANG_NONE) {
        track->hang = (struct hang_track){0};
        return false;
    }
    if (!stands(judging, &track->hang, rows, &verdict))
        return false;
    hang_text(rows, count, &verdict, verdict.blamed[0], track->hang.text, sizeof track->hang.text);
    bool too_long = hang_ms > 0 && judge_passed(judging, track->hang.since_ns, hang_ms);
    if (verdict.count == 0)
        return too_long && fail_blameless(judging, record, track, scan);
    bool over = too_long && !track->hang.over;
    track->hang.over = track->hang.over || over;
    for (size_t i = 0; i < verdict.count && i < HANG_BLAMED_MAX; i++) {
        char text[TIDE_TEXT_MAX + 1];
        hang_text(rows, count, &verdict, verdict.blamed[i], text, sizeof text);
        tell(judging, record, rows[verdict.blamed[i]].rank, text, over);
    }
    return false;
}

bool judge_hang(struct judging *judging, const struct job_record *record, struct track *track, const struct gen_scan *scan)
{
    uint64_t hang_ms = 0;
    size_t count = count_rows(judging, record);
    if (count == 0) {
        track->hang = (struct hang_track){0};
        return false;
    }
    struct hang_row *rows = mem_array(count, sizeof *rows);
    count = gather(judging, record, rows, &hang_ms);
    bool ended = judge_rows(judging, record, track, scan, rows, count, hang_ms);
    mem_free(rows);
    return ended;
}
