/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_DISK_SEGMENT_H
#define COORDINATOR_DISK_SEGMENT_H

/* One file of the write-ahead log: a header, records from there on, zeros to the end. The file is written full of zeros
 * before its first record, so that fdatasync of a record never has to write metadata, and so that what was never written
 * can be told from what was written wrongly. All numbers little-endian; records start at multiples of 8 bytes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"

#define SEGMENT_FORMAT 2u
#define SEGMENT_BYTES (UINT64_C(8) << 20)       /* of every segment */
#define SEGMENT_BYTES_MAX (UINT64_C(256) << 20) /* a longer file is not one of ours */
#define RECORD_BYTES_MAX (UINT64_C(4) << 20)    /* payload of one record; must fit into an empty segment */
#define RECORD_INDEX_MAX (UINT64_C(1) << 62)    /* records are counted from 1 */

struct segment_header {
    char magic[8];
    uint32_t format;
    uint32_t zero;
    uint64_t first; /* index of the first record */
    uint64_t seed;  /* sum of the record before it: segments are chained as records are */
    char cluster[TIDE_UID_CHARS];
    uint64_t bytes; /* of the file */
    uint64_t sum;   /* XXH3 of all above */
};

/* `sum` covers this header and the padded payload, and `prev` is the sum of the record before: a record can be checked
 * alone, and can stand in one place only. `synced` was the newest index known to be on the disk when this record was
 * written: whatever lies at or below it was promised to somebody. */
struct record_header {
    uint16_t magic;
    uint16_t type;  /* the writer's */
    uint32_t bytes; /* of the payload, without padding */
    uint64_t index;
    uint64_t term;
    uint64_t synced;
    uint64_t prev;
    uint64_t sum;
};

static inline uint64_t record_room(uint64_t payload_bytes)
{
    return sizeof(struct record_header) + ((payload_bytes + 7) & ~UINT64_C(7));
}

void segment_header_fill(struct segment_header *header, const char *cluster, uint64_t first, uint64_t seed, uint64_t bytes);

/* Write one record of record_room(bytes) bytes at `to`: `header` says all but magic and sum. Returns its sum. */
uint64_t record_write(char *to, const struct record_header *header, const void *data);

/* Is there a whole record at `offset` of these bytes that matches its checksum? Its place in the chain is not looked at. */
bool record_valid(const char *data, uint64_t bytes, uint64_t offset, struct record_header *ret_header);

/* What a segment's bytes turned out to be. */
enum segment_verdict {
    SEGMENT_WHOLE,
    SEGMENT_TORN,   /* the end was being written when the host or the process died; nothing of it was acknowledged, or
                       it cannot be told from that: cut at `end` */
    SEGMENT_CORRUPT /* a record that had been acknowledged is not what was written */
};

struct segment_scan {
    enum segment_verdict verdict;
    struct segment_header header;
    uint64_t *offsets; /* of the valid records; heap */
    uint64_t *terms;   /* beside it */
    size_t count;
    uint64_t end;                /* offset behind the last valid record; where the bad one begins if there is one */
    uint64_t last_sum;           /* of the last valid record, or the seed */
    char why[TIDE_TEXT_MAX + 1]; /* torn, corrupt: a sentence */
};

/* Judge the bytes of a whole file. `last`: no segment follows; only there may a tail be torn. `cluster` NULL: any. */
void segment_scan(const char *data, uint64_t bytes, uint64_t first, const char *cluster, bool last,
                  struct segment_scan *ret_scan);
void segment_scan_release(struct segment_scan *scan);

/* A file of `bytes` zeros that begins with `prefix_bytes` of `prefix`, fsynced, under `path`, replacing what was there;
 * the directory is fsynced too. */
MUST_USE enum tide_status segment_create(const char *dir, const char *path, uint64_t bytes, const void *prefix,
                                         uint64_t prefix_bytes, struct err *err);

#endif
