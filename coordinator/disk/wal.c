/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/disk/wal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "coordinator/disk/wal_inner.h"

#define RUN_BYTES_MIN (64u << 10)
#define RUN_KEPT_BYTES_MAX (1u << 20) /* a larger one is not kept */

void wal_segment_path(const struct wal *wal, uint64_t first, char to[DATA_FILE_MAX])
{
    datadir_numbered(wal->dir, "log-", first, ".wal", to);
}

uint64_t wal_first(const struct wal *wal)
{
    return wal->segments[0].first;
}

uint64_t wal_last(const struct wal *wal)
{
    return wal_newest(wal)->first + wal_newest(wal)->count - 1;
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

enum tide_status wal_break(struct wal *wal, enum tide_status status, struct err *err)
{
    if (status == TIDE_OK || wal->broken.status != TIDE_OK)
        return status;
    if (err != NULL)
        wal->broken = *err;
    wal->broken.status = status;
    return status;
}

enum tide_status wal_usable(const struct wal *wal, struct err *err)
{
    if (wal->broken.status == TIDE_OK)
        return TIDE_OK;
    return err_set(err, wal->broken.status, "the log is closed after an error: %.900s", wal->broken.text);
}

/* ---- segments in memory ---- */

void wal_segment_add(struct segment *segment, uint64_t offset, uint64_t term, uint64_t end)
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

void wal_segment_release(struct segment *segment)
{
    mem_free(segment->offsets);
    mem_free(segment->terms);
}

struct segment *wal_segment_push(struct wal *wal, uint64_t first, uint64_t seed, uint64_t bytes)
{
    wal->segments = mem_grow(wal->segments, wal->count + 1, sizeof *wal->segments);
    wal->segments[wal->count] =
        (struct segment){.first = first, .bytes = bytes, .end = sizeof(struct segment_header), .seed = seed};
    return &wal->segments[wal->count++];
}

void wal_close(struct wal *wal)
{
    if (wal == NULL)
        return;
    for (size_t i = 0; i < wal->count; i++)
        wal_segment_release(&wal->segments[i]);
    mem_free(wal->segments);
    mem_free(wal->run);
    if (wal->fd >= 0)
        close(wal->fd);
    if (wal->mark_fd >= 0)
        close(wal->mark_fd);
    mem_free(wal);
}

enum tide_status wal_corrupt(const char *path, const char *why, struct err *err)
{
    return err_set(
        err, TIDE_E_CORRUPT,
        "%s is corrupt: %s. Nothing was changed. What to do: check this disk and its logs; run \"tidemarkd check-data\" on "
        "the directory; then restore the directory from a backup, or in a group remove this member, move the "
        "directory away and add it again",
        path, why);
}

/* ---- append ---- */

static enum tide_status write_at(struct wal *wal, const char *data, uint64_t bytes, uint64_t offset, struct err *err)
{
    if (!fsx_pwrite_all(wal->fd, data, bytes, offset))
        return err_errno(err, "cannot write record %" PRIu64 " at offset %" PRIu64 " of the newest segment in %s", wal_last(wal),
                         offset, wal->dir);
    wal->dirty = true;
    return TIDE_OK;
}

static char *run_room(struct wal *wal, size_t bytes)
{
    if (wal->run_bytes < bytes || wal->run_bytes > RUN_KEPT_BYTES_MAX) {
        mem_free(wal->run);
        wal->run_bytes = bytes > RUN_BYTES_MIN ? bytes : RUN_BYTES_MIN;
        wal->run = mem_alloc(wal->run_bytes);
    }
    return wal->run;
}

/* As many entries as fit into the newest segment, with one write. */
static enum tide_status append_run(struct wal *wal, const struct wal_entry *entries, size_t count, uint64_t bytes,
                                   struct err *err)
{
    struct segment *segment = wal_newest(wal);
    char *run = run_room(wal, bytes);
    uint64_t begin = segment->end, at = 0, synced = wal->synced;
    for (size_t i = 0; i < count; i++) {
        const struct wal_entry *e = &entries[i];
        struct record_header header = {.type = e->type,
                                       .bytes = (uint32_t)e->bytes,
                                       .index = e->index,
                                       .term = e->term,
                                       .synced = synced,
                                       .prev = wal->last_sum};
        wal->last_sum = record_write(run + at, &header, e->data);
        wal_segment_add(segment, begin + at, e->term, begin + at + record_room(e->bytes));
        at += record_room(e->bytes);
    }
    return write_at(wal, run, bytes, begin, err);
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
    return status == TIDE_OK ? wal_begin_segment(wal, wal_last(wal) + 1, wal->last_sum, err) : status;
}

enum tide_status wal_append(struct wal *wal, const struct wal_entry *entries, size_t count, struct err *err)
{
    enum tide_status status = wal_usable(wal, err);
    if (status == TIDE_OK)
        status = check_entries(wal, entries, count, err);
    if (status != TIDE_OK)
        return status;
    for (size_t i = 0; i < count && status == TIDE_OK;) {
        uint64_t room = wal_newest(wal)->bytes - wal_newest(wal)->end, bytes = 0;
        size_t fit = 0;
        while (i + fit < count && bytes + record_room(entries[i + fit].bytes) <= room)
            bytes += record_room(entries[i + fit++].bytes);
        status = fit > 0 ? append_run(wal, entries + i, fit, bytes, err) : roll(wal, err);
        i += fit;
    }
    return wal_break(wal, status, err);
}

enum tide_status wal_sync(struct wal *wal, struct err *err)
{
    enum tide_status status = wal_usable(wal, err);
    if (status != TIDE_OK)
        return status;
    if (wal->dirty && fdatasync(wal->fd) != 0)
        return wal_break(wal, err_errno(err, "cannot fdatasync the newest segment in %s", wal->dir), err);
    wal->dirty = false;
    wal->synced = wal_last(wal);
    return wal_break(wal, wal_mark_synced(wal, err), err);
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
        status = wal_corrupt(path, "a record changed after it had been verified", err);
    } else {
        struct wal_entry entry = {.index = header.index,
                                  .term = header.term,
                                  .data = data + sizeof header,
                                  .bytes = header.bytes,
                                  .type = header.type};
        status = each(arg, &entry, err);
    }
    mem_free(data);
    return status;
}

static enum tide_status read_segment(struct wal *wal, const struct segment *segment, uint64_t first, uint64_t last,
                                     wal_reader *each, void *arg, struct err *err)
{
    char path[DATA_FILE_MAX];
    wal_segment_path(wal, segment->first, path);
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
    enum tide_status status = wal_usable(wal, err);
    if (status == TIDE_OK && first <= last && (first < wal_first(wal) || last > wal_last(wal)))
        status = err_set(err, TIDE_E_STATE,
                         "entries %" PRIu64 " to %" PRIu64 " are not in the log, which holds %" PRIu64 " to %" PRIu64, first,
                         last, wal_first(wal), wal_last(wal));
    for (size_t i = 0; i < wal->count && status == TIDE_OK; i++)
        status = read_segment(wal, &wal->segments[i], first, last, each, arg, err);
    return status;
}
