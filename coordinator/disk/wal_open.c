/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/disk/wal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/disk/wal_inner.h"

static bool continues(const struct wal *wal, const struct segment_scan *scan)
{
    return scan->header.first == wal_last(wal) + 1 && scan->header.seed == wal->last_sum;
}

static enum tide_status load_scanned(struct wal *wal, const char *path, const char *data, const struct segment_scan *scan,
                                     struct err *err)
{
    if (scan->verdict == SEGMENT_CORRUPT)
        return wal_corrupt(path, scan->why, err);
    /* The log was begun again behind a snapshot, and the process died before what lies before was gone. */
    if (wal->count > 0 && scan->header.first == wal->floor && !continues(wal, scan)) {
        enum tide_status status = wal_drop_before(wal, wal->count, err);
        if (status != TIDE_OK)
            return status;
    }
    if (wal->count > 0 && !continues(wal, scan)) {
        char why[TIDE_TEXT_MAX + 1];
        snprintf(why, sizeof why,
                 "at offset 0: it begins with record %" PRIu64 " and does not continue the segment before "
                 "it, which ends with record %" PRIu64,
                 scan->header.first, wal_last(wal));
        return wal_corrupt(path, why, err);
    }
    if (scan->verdict == SEGMENT_TORN) {
        log_warn("%s: torn tail: %s; cut there, nothing of it had been acknowledged", path, scan->why);
        enum tide_status status = wal_keep_prefix(wal, path, data, scan->end, err);
        if (status != TIDE_OK)
            return status;
    }
    struct segment *segment = wal_segment_push(wal, scan->header.first, scan->header.seed, scan->header.bytes);
    for (size_t i = 0; i < scan->count; i++)
        wal_segment_add(segment, scan->offsets[i], scan->terms[i], i + 1 < scan->count ? scan->offsets[i + 1] : scan->end);
    wal->last_sum = scan->last_sum;
    return TIDE_OK;
}

/* Before anything is cut: nobody may have been told of what is missing at the end. */
static enum tide_status expect_marked(const struct wal *wal, const char *path, const struct segment_scan *scan, struct err *err)
{
    char why[TIDE_TEXT_MAX + 1];
    uint64_t last = scan->header.first + scan->count - 1;
    uint64_t term = scan->count > 0 ? scan->terms[scan->count - 1] : wal->count > 0 ? wal_term(wal, last) : wal->floor_term;
    if (!wal_mark_missed(&wal->mark, wal->floor - 1, last, term, why, sizeof why))
        return TIDE_OK;
    return err_set(err, TIDE_E_CORRUPT,
                   "%s is corrupt at offset %" PRIu64 ": %.300s. Nothing was changed. What to do: check this disk and its logs; in a "
                   "group remove this member, move the directory away and add it again; a coordinator that is alone goes on "
                   "without that record when %s/" WAL_MARK_NAME " is removed",
                   path, scan->end, why, wal->dir);
}

static enum tide_status load_segment(struct wal *wal, uint64_t first, bool last, struct err *err)
{
    char path[DATA_FILE_MAX], *data = NULL;
    size_t bytes = 0;
    wal_segment_path(wal, first, path);
    enum tide_status status = fsx_read(path, SEGMENT_BYTES_MAX, &data, &bytes, err);
    if (status != TIDE_OK)
        return status;
    struct segment_scan scan;
    segment_scan(data, bytes, first, wal->cluster, last, &scan);
    if (last && scan.verdict != SEGMENT_CORRUPT)
        status = expect_marked(wal, path, &scan, err);
    if (status == TIDE_OK)
        status = load_scanned(wal, path, data, &scan, err);
    segment_scan_release(&scan);
    mem_free(data);
    return status;
}

static enum tide_status load_all(struct wal *wal, struct err *err)
{
    uint64_t *firsts = NULL;
    size_t count = 0;
    enum tide_status status = datadir_list(wal->dir, "log-", ".wal", &firsts, &count, err);
    if (status != TIDE_OK)
        return status;
    for (size_t i = 0; i < count && status == TIDE_OK; i++)
        status = load_segment(wal, firsts[i], i + 1 == count, err);
    mem_free(firsts);
    if (status == TIDE_OK && count == 0)
        status = err_set(err, TIDE_E_CORRUPT,
                         "%s holds no log-*.wal: the log is gone; restore the directory from a backup, or "
                         "move it away to begin a new cluster",
                         wal->dir);
    return status;
}

/* The log and the snapshot must make one history. Where they do not, a snapshot of the group's had come, and the process
 * died before the log was begun again behind it. */
static enum tide_status join_snapshot(struct wal *wal, struct err *err)
{
    uint64_t covered = wal->floor - 1;
    if (wal_first(wal) > wal->floor)
        return err_set(err, TIDE_E_CORRUPT,
                       "the log in %s begins with record %" PRIu64
                       ", but the newest valid snapshot covers only the records up "
                       "to %" PRIu64 "; restore the directory from a backup, or in a group remove this member, move the "
                       "directory away and add it again",
                       wal->dir, wal_first(wal), covered);
    if (wal_last(wal) < covered)
        log_warn("the log in %s ends with record %" PRIu64 ", before the snapshot of index %" PRIu64
                 "; going on from the snapshot",
                 wal->dir, wal_last(wal), covered);
    else if (covered >= wal_first(wal) && wal->floor_term != 0 && wal_term(wal, covered) != wal->floor_term)
        log_warn("the log in %s holds record %" PRIu64 " of term %" PRIu64
                 ", but the snapshot of that index is of term %" PRIu64
                 ": the group has replaced that history; the log is discarded, going on from the snapshot",
                 wal->dir, covered, wal_term(wal, covered), wal->floor_term);
    else
        return TIDE_OK;
    return wal_begin_again(wal, wal->floor, err);
}

static enum tide_status open_old(struct wal *wal, struct err *err)
{
    enum tide_status status = load_all(wal, err);
    if (status == TIDE_OK)
        status = wal_open_newest(wal, err);
    /* A process that was killed leaves written, unsynced records: from now on they count as there. */
    if (status == TIDE_OK && fdatasync(wal->fd) != 0)
        status = err_errno(err, "cannot fdatasync the newest segment in %s", wal->dir);
    return status == TIDE_OK ? join_snapshot(wal, err) : status;
}

static enum tide_status open_log(struct wal *wal, bool fresh, struct err *err)
{
    char spare[DATA_FILE_MAX];
    datadir_file(wal->dir, "spare.wal", spare);
    /* Left behind by a process that may have been writing its header. */
    if (unlink(spare) != 0 && errno != ENOENT)
        return err_errno(err, "cannot remove %s", spare);
    enum tide_status status = wal_mark_open(wal, err);
    if (status == TIDE_OK)
        status = fresh ? wal_begin_segment(wal, wal->floor, wal_new_seed(), err) : open_old(wal, err);
    if (status != TIDE_OK)
        return status;
    wal->synced = wal_last(wal);
    return wal_mark_synced(wal, err);
}

enum tide_status wal_open(const char *dir, const char *cluster, const struct wal_options *options, bool fresh,
                          uint64_t first, uint64_t term, struct wal **ret_wal, struct err *err)
{
    struct wal *wal = mem_alloc(sizeof *wal);
    wal->fd = wal->mark_fd = -1;
    wal->segment_bytes = options && options->segment_bytes ? options->segment_bytes : SEGMENT_BYTES;
    wal->floor = first;
    wal->floor_term = term;
    text_copy(wal->dir, sizeof wal->dir, dir);
    text_copy(wal->cluster, sizeof wal->cluster, cluster);
    enum tide_status status = open_log(wal, fresh, err);
    if (status != TIDE_OK) {
        wal_close(wal);
        return status;
    }
    *ret_wal = wal;
    return TIDE_OK;
}
