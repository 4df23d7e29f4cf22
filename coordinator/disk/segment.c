/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/disk/segment.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "coordinator/disk/datadir.h"

#define SEGMENT_MAGIC "TIDEWAL\1"
#define RECORD_MAGIC 0x4352u /* "RC" */
#define SECTOR_BYTES 512u    /* the least a disk writes whole */
#define ZERO_BLOCK_BYTES (256u << 10)
#define SEGMENT_MODE 0600

_Static_assert(sizeof(struct segment_header) == 64, "the header is what is on the disk");
_Static_assert(sizeof(struct record_header) == 48, "the header is what is on the disk");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the log is written little-endian");

void segment_header_fill(struct segment_header *header, const char *cluster, uint64_t first, uint64_t seed, uint64_t bytes)
{
    *header = (struct segment_header){.format = SEGMENT_FORMAT, .first = first, .seed = seed, .bytes = bytes};
    memcpy(header->magic, SEGMENT_MAGIC, sizeof header->magic);
    memcpy(header->cluster, cluster, strnlen(cluster, sizeof header->cluster));
    header->sum = XXH3_64bits(header, offsetof(struct segment_header, sum));
}

static uint64_t record_sum(const struct record_header *header, const char *payload)
{
    uint64_t seed = XXH3_64bits(header, offsetof(struct record_header, sum));
    return XXH3_64bits_withSeed(payload, record_room(header->bytes) - sizeof *header, seed);
}

uint64_t record_write(char *to, const struct record_header *header, const void *data)
{
    struct record_header written = *header;
    written.magic = RECORD_MAGIC;
    memset(to + record_room(header->bytes) - sizeof(uint64_t), 0, sizeof(uint64_t)); /* the padding lies there */
    if (header->bytes > 0)
        memcpy(to + sizeof written, data, header->bytes);
    written.sum = record_sum(&written, to + sizeof written);
    memcpy(to, &written, sizeof written);
    return written.sum;
}

/* ---- scan ---- */

bool record_valid(const char *data, uint64_t bytes, uint64_t offset, struct record_header *ret_header)
{
    if (offset > bytes || bytes - offset < sizeof *ret_header)
        return false;
    memcpy(ret_header, data + offset, sizeof *ret_header);
    if (ret_header->magic != RECORD_MAGIC || ret_header->bytes > RECORD_BYTES_MAX ||
        record_room(ret_header->bytes) > bytes - offset)
        return false;
    return record_sum(ret_header, data + offset + sizeof *ret_header) == ret_header->sum;
}

static bool all_zero(const char *data, uint64_t from, uint64_t to)
{
    return from >= to || (data[from] == 0 && memcmp(data + from, data + from + 1, to - from - 1) == 0);
}

/* Does a whole sector's part of [from, to) still hold the zeros the file was made with? Then it was never written. */
static bool has_hole(const char *data, uint64_t from, uint64_t to)
{
    while (from < to) {
        uint64_t end = (from / SECTOR_BYTES + 1) * SECTOR_BYTES;
        if (all_zero(data, from, end < to ? end : to))
            return true;
        from = end;
    }
    return false;
}

static void judge_as(struct segment_scan *scan, enum segment_verdict verdict, const char *format, ...) PRINTF_LIKE(3, 4);
static void judge_as(struct segment_scan *scan, enum segment_verdict verdict, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(scan->why, sizeof scan->why, format, args);
    va_end(args);
    scan->verdict = verdict;
}

/* The bytes at scan->end are neither a record nor untouched zeros. Torn, or corrupt? A record behind them that was
 * written after they had been synced proves that they were promised. A record behind them of the same write does not: a
 * dying host may keep any sectors of a write. But then what is missing reads as zeros, not as wrong bytes. */
static void judge_bad(const char *data, uint64_t bytes, uint64_t index, bool last, struct segment_scan *scan)
{
    uint64_t bad = scan->end, behind = 0;
    for (uint64_t at = bad + 8; at + sizeof(struct record_header) <= bytes;) {
        struct record_header next;
        if (!record_valid(data, bytes, at, &next)) {
            at += 8;
            continue;
        }
        if (next.synced >= index || (behind == 0 && !has_hole(data, bad, at))) {
            judge_as(scan, SEGMENT_CORRUPT,
                     "record %" PRIu64 " at offset %" PRIu64 " does not match its checksum, and record %" PRIu64
                     " behind it is valid",
                     index, bad, next.index);
            return;
        }
        behind = next.index;
        at += record_room(next.bytes);
    }
    if (last)
        judge_as(scan, SEGMENT_TORN, "record %" PRIu64 " at offset %" PRIu64 " was not written to its end", index, bad);
    else
        judge_as(scan, SEGMENT_CORRUPT,
                 "record %" PRIu64 " at offset %" PRIu64 " does not match its checksum, and a segment "
                 "follows",
                 index, bad);
}

static bool scan_header(const char *data, uint64_t bytes, uint64_t first, const char *cluster, struct segment_scan *scan)
{
    struct segment_header *header = &scan->header;
    if (bytes < sizeof *header) {
        judge_as(scan, SEGMENT_CORRUPT, "the file has %" PRIu64 " bytes, fewer than its header", bytes);
        return false;
    }
    memcpy(header, data, sizeof *header);
    if (memcmp(header->magic, SEGMENT_MAGIC, sizeof header->magic) != 0 ||
        header->sum != XXH3_64bits(header, offsetof(struct segment_header, sum)))
        judge_as(scan, SEGMENT_CORRUPT, "the header at offset 0 does not match its checksum");
    else if (header->format != SEGMENT_FORMAT)
        judge_as(scan, SEGMENT_CORRUPT, "the header says format %u; this version knows %u", header->format, SEGMENT_FORMAT);
    else if (header->first != first)
        judge_as(scan, SEGMENT_CORRUPT, "the header says that it begins with record %" PRIu64 ", its name says %" PRIu64,
                 header->first, first);
    else if (header->first == 0 || header->first > RECORD_INDEX_MAX)
        judge_as(scan, SEGMENT_CORRUPT, "there is no record %" PRIu64, header->first);
    else if (cluster != NULL && memcmp(header->cluster, cluster, sizeof header->cluster) != 0)
        judge_as(scan, SEGMENT_CORRUPT, "it belongs to cluster %.16s, not to %s", header->cluster, cluster);
    else if (header->bytes < sizeof *header || header->bytes > SEGMENT_BYTES_MAX || bytes > header->bytes)
        judge_as(scan, SEGMENT_CORRUPT, "the file has %" PRIu64 " bytes; its header says %" PRIu64, bytes, header->bytes);
    return scan->verdict != SEGMENT_CORRUPT;
}

static void scan_add(struct segment_scan *scan, size_t *room, const struct record_header *header)
{
    if (scan->count == *room) {
        *room = *room ? *room * 2 : 64;
        scan->offsets = mem_grow(scan->offsets, *room, sizeof *scan->offsets);
        scan->terms = mem_grow(scan->terms, *room, sizeof *scan->terms);
    }
    scan->offsets[scan->count] = scan->end;
    scan->terms[scan->count++] = header->term;
    scan->end += record_room(header->bytes);
    scan->last_sum = header->sum;
}

void segment_scan(const char *data, uint64_t bytes, uint64_t first, const char *cluster, bool last,
                  struct segment_scan *ret_scan)
{
    struct segment_scan *scan = ret_scan;
    *scan = (struct segment_scan){.end = sizeof(struct segment_header)};
    if (!scan_header(data, bytes, first, cluster, scan))
        return;
    scan->last_sum = scan->header.seed;
    struct record_header header;
    size_t room = 0;
    while (record_valid(data, bytes, scan->end, &header)) {
        uint64_t index = first + scan->count;
        if (header.index != index || header.prev != scan->last_sum ||
            (scan->count > 0 && header.term < scan->terms[scan->count - 1])) {
            judge_as(scan, SEGMENT_CORRUPT, "record %" PRIu64 " at offset %" PRIu64 " does not follow the record before it",
                     header.index, scan->end);
            return;
        }
        scan_add(scan, &room, &header);
    }
    if (!all_zero(data, scan->end, bytes))
        judge_bad(data, bytes, first + scan->count, last, scan);
    else if (bytes != scan->header.bytes)
        judge_as(scan, last ? SEGMENT_TORN : SEGMENT_CORRUPT,
                 "the file has %" PRIu64 " bytes instead of %" PRIu64 "; record %" PRIu64 " at offset %" PRIu64
                 " may be missing",
                 bytes, scan->header.bytes, first + scan->count, scan->end);
}

void segment_scan_release(struct segment_scan *scan)
{
    mem_free(scan->offsets);
    mem_free(scan->terms);
    *scan = (struct segment_scan){0};
}

/* ---- create ---- */

static enum tide_status fill(int fd, const char *path, uint64_t bytes, const void *prefix, uint64_t prefix_bytes,
                             struct err *err)
{
    enum tide_status status = fsx_write_all(fd, prefix, prefix_bytes, path, err);
    char *zeros = mem_alloc(ZERO_BLOCK_BYTES);
    for (uint64_t at = prefix_bytes; at < bytes && status == TIDE_OK;) {
        uint64_t n = bytes - at < ZERO_BLOCK_BYTES ? bytes - at : ZERO_BLOCK_BYTES;
        status = fsx_write_all(fd, zeros, n, path, err);
        at += n;
    }
    mem_free(zeros);
    if (status == TIDE_OK && fsync(fd) != 0)
        status = err_errno(err, "cannot fsync %s", path);
    return status;
}

enum tide_status segment_create(const char *dir, const char *path, uint64_t bytes, const void *prefix, uint64_t prefix_bytes,
                                struct err *err)
{
    char temporary[DATA_FILE_MAX];
    datadir_file(dir, "segment.tmp", temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, SEGMENT_MODE);
    if (fd < 0)
        return err_errno(err, "cannot create %s", temporary);
    enum tide_status status = fill(fd, temporary, bytes, prefix, prefix_bytes, err);
    close(fd);
    if (status == TIDE_OK && rename(temporary, path) != 0)
        status = err_errno(err, "cannot rename %s to %s", temporary, path);
    if (status != TIDE_OK) {
        unlink(temporary);
        return status;
    }
    return fsx_sync_dir(dir, err);
}
