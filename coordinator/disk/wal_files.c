/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/disk/wal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "coordinator/disk/wal_inner.h"

enum tide_status wal_open_newest(struct wal *wal, struct err *err)
{
    char path[DATA_FILE_MAX];
    wal_segment_path(wal, wal_newest(wal)->first, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    if (wal->fd >= 0)
        close(wal->fd);
    wal->fd = fd;
    return TIDE_OK;
}

/* ---- a new segment ---- */

uint64_t wal_new_seed(void)
{
    struct rng rng = {.state = rng_entropy()};
    return rng_next(&rng);
}

static enum tide_status spare_use(struct wal *wal, const struct segment_header *header, const char *path, struct err *err)
{
    char spare[DATA_FILE_MAX];
    datadir_file(wal->dir, "spare.wal", spare);
    int fd = open(spare, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open %s", spare);
    enum tide_status status = fsx_write_all(fd, header, sizeof *header, spare, err);
    if (status == TIDE_OK && fdatasync(fd) != 0)
        status = err_errno(err, "cannot fdatasync %s", spare);
    close(fd);
    /* Named as a segment only once its header is on the disk: a segment without a valid header is damage, always. */
    if (status == TIDE_OK && rename(spare, path) != 0)
        status = err_errno(err, "cannot rename %s to %s", spare, path);
    wal->spare = false;
    return status != TIDE_OK ? status : fsx_sync_dir(wal->dir, err);
}

enum tide_status wal_begin_segment(struct wal *wal, uint64_t first, uint64_t seed, struct err *err)
{
    struct segment_header header;
    char path[DATA_FILE_MAX];
    segment_header_fill(&header, wal->cluster, first, seed, wal->segment_bytes);
    wal_segment_path(wal, first, path);
    enum tide_status status = wal->spare ? spare_use(wal, &header, path, err)
                                         : segment_create(wal->dir, path, wal->segment_bytes, &header, sizeof header, err);
    if (status != TIDE_OK)
        return status;
    wal_segment_push(wal, first, seed, wal->segment_bytes);
    wal->last_sum = seed;
    return wal_open_newest(wal, err);
}

enum tide_status wal_prepare(struct wal *wal, struct err *err)
{
    enum tide_status status = wal_usable(wal, err);
    /* The first half of a segment is time enough; a log that hardly grows should not hold twice the space. */
    if (status != TIDE_OK || wal->spare || wal_newest(wal)->end < wal->segment_bytes / 2)
        return status;
    char path[DATA_FILE_MAX];
    datadir_file(wal->dir, "spare.wal", path);
    status = segment_create(wal->dir, path, wal->segment_bytes, "", 0, err);
    /* A file beside the log: if it cannot be made, the log itself is as good as before. */
    wal->spare = status == TIDE_OK;
    return status;
}

/* ---- segments go ---- */

static void forget_segment(struct wal *wal, size_t i)
{
    wal_segment_release(&wal->segments[i]);
    memmove(&wal->segments[i], &wal->segments[i + 1], (wal->count - i - 1) * sizeof *wal->segments);
    wal->count--;
}

static enum tide_status remove_segment(struct wal *wal, size_t i, struct err *err)
{
    char path[DATA_FILE_MAX];
    wal_segment_path(wal, wal->segments[i].first, path);
    if (unlink(path) != 0 && errno != ENOENT)
        return err_errno(err, "cannot remove %s", path);
    forget_segment(wal, i);
    return fsx_sync_dir(wal->dir, err);
}

enum tide_status wal_drop_before(struct wal *wal, size_t count, struct err *err)
{
    enum tide_status status = TIDE_OK;
    while (status == TIDE_OK && count-- > 0)
        status = remove_segment(wal, 0, err);
    return status;
}

enum tide_status wal_keep_prefix(struct wal *wal, const char *path, const char *data, uint64_t keep, struct err *err)
{
    struct segment_header header;
    memcpy(&header, data, sizeof header);
    return segment_create(wal->dir, path, header.bytes, data, keep, err);
}

/* ---- shorten ---- */

enum tide_status wal_compact(struct wal *wal, uint64_t through, struct err *err)
{
    enum tide_status status = wal_usable(wal, err);
    size_t whole = 0;
    while (whole + 1 < wal->count && wal->segments[whole + 1].first <= through + 1)
        whole++;
    return status != TIDE_OK ? status : wal_break(wal, wal_drop_before(wal, whole, err), err);
}

static enum tide_status cut_newest(struct wal *wal, uint64_t index, struct err *err)
{
    struct segment *segment = wal_newest(wal);
    char path[DATA_FILE_MAX], *data = NULL;
    size_t bytes = 0;
    wal_segment_path(wal, segment->first, path);
    enum tide_status status = fsx_read(path, SEGMENT_BYTES_MAX, &data, &bytes, err);
    if (status != TIDE_OK)
        return status;
    segment->count = index - segment->first;
    segment->end = segment->count > 0 || segment->offsets ? segment->offsets[segment->count] : segment->end;
    wal->last_sum = segment->seed;
    struct record_header header;
    if (segment->count > 0) {
        memcpy(&header, data + segment->offsets[segment->count - 1], sizeof header);
        wal->last_sum = header.sum;
    }
    status = wal_keep_prefix(wal, path, data, segment->end, err);
    mem_free(data);
    return status == TIDE_OK ? wal_open_newest(wal, err) : status;
}

enum tide_status wal_truncate_from(struct wal *wal, uint64_t index, struct err *err)
{
    enum tide_status status = wal_usable(wal, err);
    if (status != TIDE_OK || index == wal_last(wal) + 1)
        return status;
    if (index < wal_first(wal) || index > wal_last(wal))
        return err_set(err, TIDE_E_STATE, "entry %" PRIu64 " is not in the log", index);
    status = wal_sync(wal, err);
    if (status == TIDE_OK)
        status = wal_mark_forget(wal, err);
    /* Newest first: a crash leaves a prefix. */
    while (status == TIDE_OK && wal->count > 1 && wal_newest(wal)->first > index)
        status = remove_segment(wal, wal->count - 1, err);
    if (status == TIDE_OK)
        status = cut_newest(wal, index, err);
    if (status == TIDE_OK)
        wal->synced = wal_last(wal);
    return wal_break(wal, status, err);
}

/* The order makes every crash harmless, given that the snapshot lies on the disk already. wal_open tells by it:
 *   1. nothing done yet, or some of the newest segments gone: a prefix of the old log is left. It holds the snapshot's last
 *      entry with another term, or ends before it: it is of a history the snapshot replaced, and is discarded.
 *   2. the new segment made: it begins right behind the snapshot and does not continue what lies before it, which goes.
 *   3. some of the oldest segments gone: as 2.
 * A log that begins with `first` itself has one segment left after 1, and the new one takes its name in one step. */
enum tide_status wal_begin_again(struct wal *wal, uint64_t first, struct err *err)
{
    enum tide_status status = wal_mark_forget(wal, err);
    while (status == TIDE_OK && wal->count > 1 && wal_newest(wal)->first >= first)
        status = remove_segment(wal, wal->count - 1, err);
    size_t old = wal->count;
    if (status == TIDE_OK)
        status = wal_begin_segment(wal, first, wal_new_seed(), err);
    if (status == TIDE_OK && wal->segments[0].first == first)
        forget_segment(wal, 0);
    else if (status == TIDE_OK)
        status = wal_drop_before(wal, old, err);
    if (status == TIDE_OK)
        wal->synced = wal_last(wal);
    wal->dirty = false;
    return status;
}

enum tide_status wal_reset(struct wal *wal, uint64_t first, struct err *err)
{
    enum tide_status status = wal_usable(wal, err);
    if (status != TIDE_OK)
        return status;
    if (first < wal_first(wal))
        return err_set(err, TIDE_E_STATE,
                       "the log begins with entry %" PRIu64 "; it cannot begin again before it, with %" PRIu64,
                       wal_first(wal), first);
    /* Only the newest segment can be torn, and it may not stay the newest. */
    status = wal_sync(wal, err);
    return status == TIDE_OK ? wal_break(wal, wal_begin_again(wal, first, err), err) : status;
}
