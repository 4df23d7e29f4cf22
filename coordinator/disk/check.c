/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/disk/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/disk/segment.h"
#include "coordinator/disk/snapshot.h"
#include "coordinator/disk/wal_inner.h"

struct checker {
    struct datadir dir;
    check_report *report;
    void *arg;
    struct err first;  /* the first thing wrong */
    uint64_t snapshot; /* newest valid one; 0: none */
    uint64_t snapshot_term;
    uint64_t snapshot_term_in_log; /* of the entry of that index; 0: not held */
    uint64_t term;                 /* of the newest record */
    uint64_t log_first;
    uint64_t log_last; /* of the segments so far; 0 with log_first 0: none yet */
    uint64_t last_sum;
    bool unknown_end; /* the segment before is corrupt: nothing can be said about how the next continues it */
};

static void say(struct checker *c, const char *file, enum tide_status bad, const char *verdict)
{
    if (bad != TIDE_OK && c->first.status == TIDE_OK)
        err_set(&c->first, bad, "%s: %s", file, verdict);
    c->report(c->arg, file, bad != TIDE_OK, verdict);
}

static void check_snapshots(struct checker *c)
{
    uint64_t *indexes = NULL;
    size_t count = 0;
    struct err err = {0};
    if (datadir_list(c->dir.path, "snap-", ".img", &indexes, &count, &err) != TIDE_OK)
        say(c, c->dir.path, err.status, err.text);
    for (size_t i = 0; i < count; i++) {
        char file[DATA_FILE_MAX], verdict[TIDE_TEXT_MAX];
        struct snapshot snapshot = {0};
        datadir_numbered(c->dir.path, "snap-", indexes[i], ".img", file);
        enum tide_status status = snapshot_load(c->dir.path, c->dir.cluster, indexes[i], &snapshot, &err);
        if (status == TIDE_OK) {
            c->snapshot = snapshot.index;
            c->snapshot_term = snapshot.term;
            snprintf(verdict, sizeof verdict,
                     "ok: state after record %" PRIu64 " of term %" PRIu64 ", %zu bytes, digest %016" PRIx64, snapshot.index,
                     snapshot.term, snapshot.bytes, snapshot.digest);
        }
        say(c, file, status, status == TIDE_OK ? verdict : err.text);
        snapshot_release(&snapshot);
    }
    mem_free(indexes);
}

/* Images that are not there yet. */
static void check_parts(struct checker *c, const char *suffix, const char *what)
{
    uint64_t *indexes = NULL;
    size_t count = 0;
    struct err err = {0};
    if (datadir_list(c->dir.path, "snap-", suffix, &indexes, &count, &err) != TIDE_OK)
        say(c, c->dir.path, err.status, err.text);
    for (size_t i = 0; i < count; i++) {
        char file[DATA_FILE_MAX];
        datadir_numbered(c->dir.path, "snap-", indexes[i], suffix, file);
        say(c, file, TIDE_OK, what);
    }
    mem_free(indexes);
}

static void note_terms(struct checker *c, uint64_t first, const struct segment_scan *scan)
{
    if (scan->count > 0)
        c->term = scan->terms[scan->count - 1];
    if (c->snapshot >= first && c->snapshot - first < scan->count)
        c->snapshot_term_in_log = scan->terms[c->snapshot - first];
}

static void judge_segment(struct checker *c, const char *file, uint64_t first, const struct segment_scan *scan)
{
    char verdict[2 * TIDE_TEXT_MAX];
    if (scan->verdict == SEGMENT_CORRUPT) {
        snprintf(verdict, sizeof verdict, "CORRUPT: %s", scan->why);
        say(c, file, TIDE_E_CORRUPT, verdict);
    } else if (c->log_first != 0 && !c->unknown_end && c->last_sum != scan->header.seed && first != c->snapshot + 1) {
        snprintf(verdict, sizeof verdict,
                 "CORRUPT: it begins with record %" PRIu64 " and does not continue the segment before "
                 "it, which ends with record %" PRIu64,
                 first, c->log_last);
        say(c, file, TIDE_E_CORRUPT, verdict);
    } else if (scan->verdict == SEGMENT_TORN) {
        snprintf(verdict, sizeof verdict, "ok, with a torn tail that the next start will cut: %s", scan->why);
        say(c, file, TIDE_OK, verdict);
    } else if (scan->count == 0) {
        snprintf(verdict, sizeof verdict, "ok: empty, next record %" PRIu64, first);
        say(c, file, TIDE_OK, verdict);
    } else {
        snprintf(verdict, sizeof verdict, "ok: records %" PRIu64 " to %" PRIu64 ", %" PRIu64 " of %" PRIu64 " bytes", first,
                 first + scan->count - 1, scan->end, scan->header.bytes);
        say(c, file, TIDE_OK, verdict);
    }
    if (c->log_first == 0 || (!c->unknown_end && first != c->log_last + 1))
        c->log_first = first;
    c->unknown_end = scan->verdict == SEGMENT_CORRUPT;
    c->log_last = first + scan->count - 1;
    c->last_sum = scan->last_sum;
}

static void check_segments(struct checker *c)
{
    uint64_t *firsts = NULL;
    size_t count = 0;
    struct err err = {0};
    if (datadir_list(c->dir.path, "log-", ".wal", &firsts, &count, &err) != TIDE_OK)
        say(c, c->dir.path, err.status, err.text);
    for (size_t i = 0; i < count; i++) {
        char file[DATA_FILE_MAX], *data = NULL;
        size_t bytes = 0;
        datadir_numbered(c->dir.path, "log-", firsts[i], ".wal", file);
        if (fsx_read(file, SEGMENT_BYTES_MAX, &data, &bytes, &err) != TIDE_OK) {
            say(c, file, err.status, err.text);
            continue;
        }
        struct segment_scan scan;
        segment_scan(data, bytes, firsts[i], c->dir.cluster, i + 1 == count, &scan);
        judge_segment(c, file, firsts[i], &scan);
        note_terms(c, firsts[i], &scan);
        segment_scan_release(&scan);
        mem_free(data);
    }
    mem_free(firsts);
    if (count == 0)
        say(c, c->dir.path, TIDE_E_CORRUPT, "CORRUPT: it holds no log-*.wal: the log is gone");
    else if (c->log_first > c->snapshot + 1)
        say(c, c->dir.path, TIDE_E_CORRUPT, "CORRUPT: records between the newest valid snapshot and the log are missing");
    else if (c->log_last < c->snapshot || (c->snapshot_term_in_log != 0 && c->snapshot_term_in_log != c->snapshot_term))
        say(c, c->dir.path, TIDE_OK, "ok, with a log that the newest snapshot has replaced: the next start will discard it");
}

/* After the log. */
static void check_mark(struct checker *c)
{
    struct wal_mark mark;
    struct err err = {0};
    char file[DATA_FILE_MAX], verdict[2 * TIDE_TEXT_MAX], why[TIDE_TEXT_MAX];
    datadir_file(c->dir.path, WAL_MARK_NAME, file);
    if (access(file, F_OK) != 0 || c->log_first == 0 || c->unknown_end)
        return;
    enum tide_status status = wal_mark_read(c->dir.path, &mark, &err);
    if (status != TIDE_OK) {
        say(c, file, status, err.text);
    } else if (wal_mark_missed(&mark, c->snapshot, c->log_last, c->term, why, sizeof why)) {
        snprintf(verdict, sizeof verdict, "CORRUPT: %s", why);
        say(c, file, TIDE_E_CORRUPT, verdict);
    } else {
        snprintf(verdict, sizeof verdict, "ok: the records up to %" PRIu64 " are known to have been on the disk", mark.index);
        say(c, file, TIDE_OK, mark.index > 0 ? verdict : "ok: it says nothing");
    }
}

/* After the log: no record is ever written before the ballot is of its term. */
static void check_ballot(struct checker *c)
{
    struct ballot ballot;
    struct err err = {0};
    char file[DATA_FILE_MAX], verdict[TIDE_TEXT_MAX];
    datadir_file(c->dir.path, "ballot", file);
    enum tide_status status = ballot_load(c->dir.path, &ballot, &err);
    if (status != TIDE_OK) {
        say(c, file, status, err.text);
    } else if (ballot.term < c->term && (ballot.term != 0 || c->log_last > 1)) {
        /* A founding member's first record is there before its first ballot. */
        snprintf(verdict, sizeof verdict,
                 "CORRUPT: it %s term %" PRIu64 ", but the log has a record of term %" PRIu64
                 ": a vote may have been forgotten",
                 ballot.term == 0 ? "is missing or of" : "is of", ballot.term, c->term);
        say(c, file, TIDE_E_CORRUPT, verdict);
    } else {
        snprintf(verdict, sizeof verdict, "ok: term %" PRIu64 ", vote for member %" PRIu64, ballot.term, ballot.vote);
        say(c, file, TIDE_OK, ballot.vote ? verdict : "ok: no vote in the present term");
    }
}

enum tide_status check_data(const char *path, check_report *report, void *arg, struct err *err)
{
    struct checker c = {.report = report, .arg = arg};
    enum tide_status status = datadir_open(path, NULL, 0, false, &c.dir, err);
    if (status != TIDE_OK)
        return status;
    char file[DATA_FILE_MAX], verdict[TIDE_TEXT_MAX];
    datadir_file(path, "format", file);
    snprintf(verdict, sizeof verdict, "ok: member %" PRIu64 " of cluster %s", c.dir.member, c.dir.cluster);
    say(&c, file, TIDE_OK, verdict);
    check_snapshots(&c);
    check_parts(&c, ".img.part", "ok: a snapshot that is being received from another member");
    check_parts(&c, ".img.tmp", "ok: a snapshot that was not finished; the next start does without it");
    check_segments(&c);
    check_mark(&c);
    check_ballot(&c);
    datadir_close(&c.dir);
    return c.first.status == TIDE_OK ? TIDE_OK : err_set(err, c.first.status, "%s", c.first.text);
}
