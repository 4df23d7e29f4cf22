/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_SEGMENT_H
#define CKPT_FORMAT_SEGMENT_H

/* A chunk stored as planes (CHUNK_PLANES): a table of its segments, then their planes one behind the other. A segment is a
 * stretch of numbers of one width. README.md beside this file has the bytes. */

#include <stdint.h>

#include "ckpt/base/err.h"
#include "ckpt/format/manifest.h"
#include "ckpt/format/planes.h"

enum plane_method {
    PLANE_RAW,    /* as it is */
    PLANE_ZSTD,   /* one zstd frame */
    PLANE_REPEAT, /* one byte, which all of the plane are */
    PLANE_METHODS
};

struct plane {
    enum plane_method method;
    uint32_t length; /* stored bytes */
};

/* Only the first may be shorter than SEGMENT_BYTES_MIN: what is short goes with what lies before it. */
#define SEGMENT_BYTES_MIN (16u << 10)
#define SEGMENTS_MAX (FORMAT_CHUNK_BYTES / SEGMENT_BYTES_MIN + 1)
#define SEGMENT_TABLE_BYTES_MAX (1 + SEGMENTS_MAX * (5 + PLANES_MAX * 5))

struct segment {
    unsigned width; /* planes_width_valid */
    int is_float;   /* known when encoding alone */
    uint32_t bytes; /* of raw data: a multiple of the width, above 0 */
    struct plane planes[PLANES_MAX];
};

struct segments {
    uint32_t count;
    struct segment items[SEGMENTS_MAX];
};

/* How to take chunk `index` of a shard apart, by the types of its regions; methods and lengths are left 0. Depends on
 * regions and index alone, and whatever the regions say, the segments cover the chunk. *cursor: 0 before the first chunk,
 * then as it was left, when chunks are asked for in order. */
void segments_plan(const struct rank_manifest *manifest, uint64_t index, size_t *cursor, struct segments *ret_segments);

/* The table's bytes; returns how many. */
uint32_t segments_print(const struct segments *segments, unsigned char to[SEGMENT_TABLE_BYTES_MAX]);
/* Bytes that segments_print will need. */
uint32_t segments_bytes(const struct segments *segments);
/* Read the table of a stored chunk of `length` bytes, and judge it: the segments are raw_bytes together, and the planes are
 * what is left of `length` behind the table. Errors: CORRUPT. */
MUST_USE enum tide_status segments_parse(const void *stored, uint32_t length, uint32_t raw_bytes,
                                         struct segments *ret_segments, uint32_t *ret_table_bytes, struct err *err);

#endif
