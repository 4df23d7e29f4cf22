/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/disk/wal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "coordinator/disk/datadir.h"

struct segment {
    uint64_t first;
    uint64_t bytes;    /* of the file */
    uint64_t end;      /* where the next record goes */
    uint64_t *offsets; /* of its records, count + 1 used: the last is `end` */
    uint64_t *terms;
    size_t count, room;
    uint64_t seed; /* chain value before its first record */
};

struct wal {
    char dir[TIDE_PATH_MAX + 1];
    char cluster[TIDE_UID_CHARS + 1];
    uint64_t segment_bytes;
    uint64_t floor;           /* entries below it are in a snapshot */
    struct segment *segments; /* ascending; never none */
    size_t count;
    int fd; /* of the newest */
    uint64_t last_sum;
    uint64_t synced;
    bool dirty;        /* written since the last fdatasync */
    bool spare;        /* spare.wal is ready */
    struct err broken; /* the first failed write; OK: none */
};

static struct segment *newest(const struct wal *wal)
{
    return &wal->segments[wal->count - 1];
}

static void segment_path(const struct wal *wal, uint64_t first, char to[DATA_FILE_MAX])
{
    datadir_numbered(wal->dir, "log-", first, ".wal", to);
}

uint64_t wal_first(const struct wal *wal)
{
    return wal->segments[0].first;
}

uint64_t wal_last(const struct wal *wal)
{
    return newest(wal)->first + newest(wal)->count - 1;
}

uint64_t wal_synced(const struct wal *wal)
{
    return wal->synced;
}

uint64_t wal_bytes(const struct wal *wal)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < wal->count; i++)
        bytes += wal->segments[i].bytes;
    return bytes;
}

static struct segment *segment_of(const struct wal *wal, uint64_t index)
{
    for (size_t i = wal->count; i-- > 0;)
        if (index >= wal->segments[i].first)
            return index < wal->segments[i].first + wal->segments[i].count ? &wal->segments[i] : NULL;
    return NULL;
}

uint64_t wal_term(const struct wal *wal, uint64_t index)
{
    struct segment *segment = segment_of(wal, index);
    return segment ? segment->terms[index - segment->first] : 0;
}

/* Pages after a failed write or fsync are in a state nobody knows: remember, and answer the same for ever. */
static enum tide_status break_log(struct wal *wal, enum tide_status status, struct err *err)
{
    if (status == TIDE_OK || wal->broken.status != TIDE_OK)
        return status;
    if (err != NULL)
        wal->broken = *err;
    wal->broken.status = status;
    return status;
}

static enum tide_status usable(const struct wal *wal, struct err *err)
{
    if (wal->broken.status == TIDE_OK)
        return TIDE_OK;
    return err_set(err, wal->broken.status, "the log is closed after an error: %.900s", wal->broken.text);
}

/* ---- segments in memory ---- */

static void segment_add(struct segment *segment, uint64_t offset, uint64_t term, uint64_t end)
{
    if (segment->count + 1 >= segment->room) {
        segment->room = segment->room ? segment->room * 2 : 64;
        segment->offsets = mem_grow(segment->offsets, segment->room, sizeof *segment->offsets);
        segment->terms = mem_grow(segment->terms, segment->room, sizeof *segment->terms);
    }
    segment->offsets[segment->count] = offset;
    segment->terms[segment->count++] = term;
    segment->offsets[segment->count] = end;
    segment->end = end;
}

static void segment_release(struct segment *segment)
{
    mem_free(segment->offsets);
    mem_free(segment->terms);
}

static struct segment *segment_push(struct wal *wal, uint64_t first, uint64_t seed, uint64_t bytes)
{
    wal->segments = mem_grow(wal->segments, wal->count + 1, sizeof *wal->segments);
    wal->segments[wal->count] =
        (struct segment){.first = first, .bytes = bytes, .end = sizeof(struct segment_header), .seed = seed};
    return &wal->segments[wal->count++];
}

static enum tide_status open_newest(struct wal *wal, struct err *err)
{
    char path[DATA_FILE_MAX];
    segment_path(wal, newest(wal)->first, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    if (wal->fd >= 0)
        close(wal->fd);
    wal->fd = fd;
    return TIDE_OK;
}

/* ---- a new segment ---- */

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

static enum tide_status begin_segment(struct wal *wal, uint64_t first, uint64_t seed, struct err *err)
{
    struct segment_header header;
    char path[DATA_FILE_MAX];
    segment_header_fill(&header, wal->cluster, first, seed, wal->segment_bytes);
    segment_path(wal, first, path);
    enum tide_status status = wal->spare ? spare_use(wal, &header, path, err)
                                         : segment_create(wal->dir, path, wal->segment_bytes, &header, sizeof header, err);
    if (status != TIDE_OK)
        return status;
    segment_push(wal, first, seed, wal->segment_bytes);
    wal->last_sum = seed;
    return open_newest(wal, err);
}

enum tide_status wal_prepare(struct wal *wal, struct err *err)
{
    enum tide_status status = usable(wal, err);
    /* The first half of a segment is time enough; a log that hardly grows should not hold twice the space. */
    if (status != TIDE_OK || wal->spare || newest(wal)->end < wal->segment_bytes / 2)
        return status;
    char path[DATA_FILE_MAX];
    datadir_file(wal->dir, "spare.wal", path);
    status = segment_create(wal->dir, path, wal->segment_bytes, "", 0, err);
    /* A file beside the log: if it cannot be made, the log itself is as good as before. */
    wal->spare = status == TIDE_OK;
    return status;
}

/* ---- segments go ---- */

static enum tide_status remove_segment(struct wal *wal, size_t i, struct err *err)
{
    char path[DATA_FILE_MAX];
    segment_path(wal, wal->segments[i].first, path);
    if (unlink(path) != 0 && errno != ENOENT)
        return err_errno(err, "cannot remove %s", path);
    segment_release(&wal->segments[i]);
    memmove(&wal->segments[i], &wal->segments[i + 1], (wal->count - i - 1) * sizeof *wal->segments);
    wal->count--;
    return fsx_sync_dir(wal->dir, err);
}

/* The oldest `count` segments; oldest first, each step durable: a crash leaves no gap that was not there. */
static enum tide_status drop_before(struct wal *wal, size_t count, struct err *err)
{
    enum tide_status status = TIDE_OK;
    while (status == TIDE_OK && count-- > 0)
        status = remove_segment(wal, 0, err);
    return status;
}

/* ---- open ---- */

static enum tide_status corrupt(const char *path, const char *why, struct err *err)
{
    return err_set(
        err, TIDE_E_CORRUPT,
        "%s is corrupt: %s. Nothing was changed. What to do: check this disk and its logs; run \"tidemarkd check-data\" on "
        "the directory; then restore the directory from a backup, or in a group remove this member, move the "
        "directory away and add it again",
        path, why);
}

/* Rewrite a file with only its first `keep` bytes, in one step: a crash leaves the old file or the new one. */
static enum tide_status keep_prefix(struct wal *wal, const char *path, const char *data, uint64_t keep, struct err *err)
{
    struct segment_header header;
    memcpy(&header, data, sizeof header);
    return segment_create(wal->dir, path, header.bytes, data, keep, err);
}

static enum tide_status load_scanned(struct wal *wal, const char *path, const char *data, const struct segment_scan *scan,
                                     struct err *err)
{
    if (scan->verdict == SEGMENT_CORRUPT)
        return corrupt(path, scan->why, err);
    if (wal->count > 0 && scan->header.first == wal->floor && wal->floor > wal_last(wal) + 1) {
        enum tide_status status = drop_before(wal, wal->count, err);
        if (status != TIDE_OK)
            return status;
    }
    if (wal->count > 0 && (scan->header.first != wal_last(wal) + 1 || scan->header.seed != wal->last_sum)) {
        char why[TIDE_TEXT_MAX + 1];
        snprintf(why, sizeof why,
                 "at offset 0: it begins with record %" PRIu64 " and does not continue the segment before "
                 "it, which ends with record %" PRIu64,
                 scan->header.first, wal_last(wal));
        return corrupt(path, why, err);
    }
    if (scan->verdict == SEGMENT_TORN) {
        log_warn("%s: torn tail: %s; cut there, nothing of it had been acknowledged", path, scan->why);
        enum tide_status status = keep_prefix(wal, path, data, scan->end, err);
        if (status != TIDE_OK)
            return status;
    }
    struct segment *segment = segment_push(wal, scan->header.first, scan->header.seed, scan->header.bytes);
    for (size_t i = 0; i < scan->count; i++)
        segment_add(segment, scan->offsets[i], scan->terms[i], i + 1 < scan->count ? scan->offsets[i + 1] : scan->end);
    wal->last_sum = scan->last_sum;
    return TIDE_OK;
}

static enum tide_status load_segment(struct wal *wal, uint64_t first, bool last, struct err *err)
{
    char path[DATA_FILE_MAX], *data = NULL;
    size_t bytes = 0;
    segment_path(wal, first, path);
    enum tide_status status = fsx_read(path, SEGMENT_BYTES_MAX, &data, &bytes, err);
    if (status != TIDE_OK)
        return status;
    struct segment_scan scan;
    segment_scan(data, bytes, first, wal->cluster, last, &scan);
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

static enum tide_status open_log(struct wal *wal, bool fresh, uint64_t first, struct err *err)
{
    char spare[DATA_FILE_MAX];
    datadir_file(wal->dir, "spare.wal", spare);
    /* Left behind by a process that may have been writing its header. */
    if (unlink(spare) != 0 && errno != ENOENT)
        return err_errno(err, "cannot remove %s", spare);
    enum tide_status status;
    if (fresh) {
        /* Any number will do: it only must not be that of another log. */
        struct rng rng = {.state = rng_entropy()};
        status = begin_segment(wal, first, rng_next(&rng), err);
    } else {
        status = load_all(wal, err);
        if (status == TIDE_OK)
            status = open_newest(wal, err);
        /* A process that was killed leaves written, unsynced records: from now on they count as there. */
        if (status == TIDE_OK && fdatasync(wal->fd) != 0)
            status = err_errno(err, "cannot fdatasync the newest segment in %s", wal->dir);
    }
    if (status == TIDE_OK)
        wal->synced = wal_last(wal);
    return status;
}

enum tide_status wal_open(const char *dir, const char *cluster, const struct wal_options *options, bool fresh,
                          uint64_t first, struct wal **ret_wal, struct err *err)
{
    struct wal *wal = mem_alloc(sizeof *wal);
    wal->fd = -1;
    wal->segment_bytes = options && options->segment_bytes ? options->segment_bytes : SEGMENT_BYTES;
    wal->floor = first;
    text_copy(wal->dir, sizeof wal->dir, dir);
    text_copy(wal->cluster, sizeof wal->cluster, cluster);
    enum tide_status status = open_log(wal, fresh, first, err);
    if (status != TIDE_OK) {
        wal_close(wal);
        return status;
    }
    *ret_wal = wal;
    return TIDE_OK;
}

void wal_close(struct wal *wal)
{
    if (wal == NULL)
        return;
    for (size_t i = 0; i < wal->count; i++)
        segment_release(&wal->segments[i]);
    mem_free(wal->segments);
    if (wal->fd >= 0)
        close(wal->fd);
    mem_free(wal);
}

/* ---- append ---- */

static enum tide_status write_at(struct wal *wal, const char *data, uint64_t bytes, uint64_t offset, struct err *err)
{
    while (bytes > 0) {
        ssize_t n = pwrite(wal->fd, data, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "cannot write record %" PRIu64 " at offset %" PRIu64 " of the newest segment in %s",
                             wal_last(wal), offset, wal->dir);
        data += n;
        bytes -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    wal->dirty = true;
    return TIDE_OK;
}

/* As many entries as fit into the newest segment, with one write. */
static enum tide_status append_run(struct wal *wal, const struct wal_entry *entries, size_t count, uint64_t bytes,
                                   struct err *err)
{
    struct segment *segment = newest(wal);
    char *run = mem_alloc(bytes);
    uint64_t begin = segment->end, at = 0, synced = wal->synced;
    for (size_t i = 0; i < count; i++) {
        const struct wal_entry *e = &entries[i];
        wal->last_sum = record_write(run + at, e->index, e->term, synced, wal->last_sum, e->data, e->bytes);
        segment_add(segment, begin + at, e->term, begin + at + record_room(e->bytes));
        at += record_room(e->bytes);
    }
    enum tide_status status = write_at(wal, run, bytes, begin, err);
    mem_free(run);
    return status;
}

static enum tide_status check_entries(const struct wal *wal, const struct wal_entry *entries, size_t count, struct err *err)
{
    uint64_t last = wal_last(wal), term = wal_term(wal, last);
    for (size_t i = 0; i < count; i++) {
        if (entries[i].index != last + 1 + i || entries[i].term < term)
            return err_set(err, TIDE_E_STATE,
                           "entry %" PRIu64 " of term %" PRIu64 " cannot follow entry %" PRIu64 " of term %" PRIu64,
                           entries[i].index, entries[i].term, last + i, term);
        if (entries[i].bytes > RECORD_BYTES_MAX ||
            record_room(entries[i].bytes) > wal->segment_bytes - sizeof(struct segment_header))
            return err_set(err, TIDE_E_LIMIT, "entry %" PRIu64 " has %zu bytes; a log record holds at most %" PRIu64,
                           entries[i].index, entries[i].bytes, RECORD_BYTES_MAX);
        term = entries[i].term;
    }
    return TIDE_OK;
}

static enum tide_status roll(struct wal *wal, struct err *err)
{
    /* What a finished segment holds is on the disk before the next one exists: only the newest can be torn. */
    enum tide_status status = wal_sync(wal, err);
    return status == TIDE_OK ? begin_segment(wal, wal_last(wal) + 1, wal->last_sum, err) : status;
}

enum tide_status wal_append(struct wal *wal, const struct wal_entry *entries, size_t count, struct err *err)
{
    enum tide_status status = usable(wal, err);
    if (status == TIDE_OK)
        status = check_entries(wal, entries, count, err);
    if (status != TIDE_OK)
        return status;
    for (size_t i = 0; i < count && status == TIDE_OK;) {
        uint64_t room = newest(wal)->bytes - newest(wal)->end, bytes = 0;
        size_t fit = 0;
        while (i + fit < count && bytes + record_room(entries[i + fit].bytes) <= room)
            bytes += record_room(entries[i + fit++].bytes);
        status = fit > 0 ? append_run(wal, entries + i, fit, bytes, err) : roll(wal, err);
        i += fit;
    }
    return break_log(wal, status, err);
}

enum tide_status wal_sync(struct wal *wal, struct err *err)
{
    enum tide_status status = usable(wal, err);
    if (status != TIDE_OK)
        return status;
    if (wal->dirty && fdatasync(wal->fd) != 0)
        return break_log(wal, err_errno(err, "cannot fdatasync the newest segment in %s", wal->dir), err);
    wal->dirty = false;
    wal->synced = wal_last(wal);
    return TIDE_OK;
}

/* ---- read ---- */

static enum tide_status read_one(int fd, const char *path, const struct segment *segment, size_t i, wal_reader *each,
                                 void *arg, struct err *err)
{
    uint64_t offset = segment->offsets[i], bytes = segment->offsets[i + 1] - offset;
    char *data = mem_alloc(bytes);
    ssize_t n = pread(fd, data, bytes, (off_t)offset);
    struct record_header header;
    enum tide_status status;
    if (n < 0) {
        status = err_errno(err, "cannot read %s", path);
    } else if (!record_valid(data, (uint64_t)n, 0, &header) || header.index != segment->first + i) {
        status = corrupt(path, "a record changed after it had been verified", err);
    } else {
        struct wal_entry entry = {
            .index = header.index, .term = header.term, .data = data + sizeof header, .bytes = header.bytes};
        status = each(arg, &entry, err);
    }
    mem_free(data);
    return status;
}

static enum tide_status read_segment(struct wal *wal, const struct segment *segment, uint64_t first, uint64_t last,
                                     wal_reader *each, void *arg, struct err *err)
{
    char path[DATA_FILE_MAX];
    segment_path(wal, segment->first, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < segment->count && status == TIDE_OK; i++)
        if (segment->first + i >= first && segment->first + i <= last)
            status = read_one(fd, path, segment, i, each, arg, err);
    close(fd);
    return status;
}

enum tide_status wal_read(struct wal *wal, uint64_t first, uint64_t last, wal_reader *each, void *arg, struct err *err)
{
    enum tide_status status = usable(wal, err);
    if (status == TIDE_OK && first <= last && (first < wal_first(wal) || last > wal_last(wal)))
        status = err_set(err, TIDE_E_STATE,
                         "entries %" PRIu64 " to %" PRIu64 " are not in the log, which holds %" PRIu64 " to %" PRIu64, first,
                         last, wal_first(wal), wal_last(wal));
    for (size_t i = 0; i < wal->count && status == TIDE_OK; i++)
        status = read_segment(wal, &wal->segments[i], first, last, each, arg, err);
    return status;
}

/* ---- shorten ---- */

enum tide_status wal_compact(struct wal *wal, uint64_t through, struct err *err)
{
    enum tide_status status = usable(wal, err);
    size_t whole = 0;
    while (whole + 1 < wal->count && wal->segments[whole + 1].first <= through + 1)
        whole++;
    return status != TIDE_OK ? status : break_log(wal, drop_before(wal, whole, err), err);
}

static enum tide_status cut_newest(struct wal *wal, uint64_t index, struct err *err)
{
    struct segment *segment = newest(wal);
    char path[DATA_FILE_MAX], *data = NULL;
    size_t bytes = 0;
    segment_path(wal, segment->first, path);
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
    status = keep_prefix(wal, path, data, segment->end, err);
    mem_free(data);
    return status == TIDE_OK ? open_newest(wal, err) : status;
}

enum tide_status wal_truncate_from(struct wal *wal, uint64_t index, struct err *err)
{
    enum tide_status status = usable(wal, err);
    if (status != TIDE_OK || index == wal_last(wal) + 1)
        return status;
    if (index < wal_first(wal) || index > wal_last(wal))
        return err_set(err, TIDE_E_STATE, "entry %" PRIu64 " is not in the log", index);
    status = wal_sync(wal, err);
    /* Newest first: a crash leaves a prefix. */
    while (status == TIDE_OK && wal->count > 1 && newest(wal)->first > index)
        status = remove_segment(wal, wal->count - 1, err);
    if (status == TIDE_OK)
        status = cut_newest(wal, index, err);
    if (status == TIDE_OK)
        wal->synced = wal_last(wal);
    return break_log(wal, status, err);
}

enum tide_status wal_reset(struct wal *wal, uint64_t first, struct err *err)
{
    enum tide_status status = usable(wal, err);
    if (status != TIDE_OK)
        return status;
    if (first <= wal_last(wal))
        return err_set(err, TIDE_E_STATE, "the log holds entry %" PRIu64 "; it can only begin again behind its end", first);
    size_t old = wal->count;
    struct rng rng = {.state = rng_entropy()};
    /* The new segment first: a crash before the old ones are gone leaves a gap that wal_open knows by the snapshot. */
    status = begin_segment(wal, first, rng_next(&rng), err);
    if (status == TIDE_OK)
        status = drop_before(wal, old, err);
    if (status == TIDE_OK)
        wal->synced = wal_last(wal);
    wal->dirty = false;
    return break_log(wal, status, err);
}
