/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/segment.h"

#include <tidemark/tidemark.h>

#define SEGMENT_HEAD_BYTES 5u
#define PLANE_HEAD_BYTES 5u

/* ---- planning ---- */

struct type {
    unsigned width;
    int is_float;
};

static struct type type_of(unsigned dtype)
{
    static const struct type types[] = {
        [TIDE_BYTES] = {1, 0}, [TIDE_F64] = {8, 1}, [TIDE_F32] = {4, 1}, [TIDE_BF16] = {2, 1}, [TIDE_F16] = {2, 1},
        [TIDE_F8] = {1, 1},    [TIDE_I64] = {8, 0}, [TIDE_I32] = {4, 0}, [TIDE_I16] = {2, 0},  [TIDE_I8] = {1, 0}};
    return types[dtype < sizeof types / sizeof types[0] ? dtype : TIDE_BYTES];
}

static void add(struct segments *to, struct type type, uint32_t bytes)
{
    struct segment *last = to->count ? &to->items[to->count - 1] : NULL;
    if (last && (bytes < SEGMENT_BYTES_MIN || (last->width == type.width && last->is_float == type.is_float)))
        last->bytes += bytes;
    else
        to->items[to->count++] = (struct segment){.width = type.width, .is_float = type.is_float, .bytes = bytes};
}

void segments_plan(const struct rank_manifest *m, uint64_t index, size_t *cursor, struct segments *ret_segments)
{
    uint32_t raw = chunk_raw_bytes(m->data_bytes, index), at = 0;
    uint64_t begin = index * FORMAT_CHUNK_BYTES;
    ret_segments->count = 0;
    /* A shard that is not of whole alignments will be refused; until then it is bytes. */
    while (raw % FORMAT_REGION_ALIGN == 0 && *cursor < m->regions.count) {
        const struct region_entry *r = &m->regions.items[*cursor];
        uint64_t end = region_end_aligned(r->offset, r->bytes);
        uint64_t until = end > begin ? end - begin : 0;
        uint32_t to = until < raw ? (uint32_t)until : raw;
        if (to > at) {
            add(ret_segments, type_of(r->dtype), to - at);
            at = to;
        }
        if (until > raw)
            break;
        ++*cursor;
    }
    if (at < raw)
        add(ret_segments, type_of(TIDE_BYTES), raw - at);
}

/* ---- the table ---- */

static unsigned char *put32(unsigned char *to, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        *to++ = (unsigned char)(value >> (8 * i));
    return to;
}

static uint32_t get32(const unsigned char *from)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++)
        value |= (uint32_t)from[i] << (8 * i);
    return value;
}

uint32_t segments_bytes(const struct segments *segments)
{
    uint32_t bytes = 1;
    for (uint32_t i = 0; i < segments->count; i++)
        bytes += SEGMENT_HEAD_BYTES + segments->items[i].width * PLANE_HEAD_BYTES;
    return bytes;
}

uint32_t segments_print(const struct segments *segments, unsigned char to[SEGMENT_TABLE_BYTES_MAX])
{
    unsigned char *at = to;
    *at++ = (unsigned char)segments->count;
    for (uint32_t i = 0; i < segments->count; i++) {
        const struct segment *s = &segments->items[i];
        *at++ = (unsigned char)s->width;
        at = put32(at, s->bytes);
        for (unsigned p = 0; p < s->width; p++) {
            *at++ = (unsigned char)s->planes[p].method;
            at = put32(at, s->planes[p].length);
        }
    }
    return (uint32_t)(at - to);
}

static int plane_valid(const struct plane *plane, uint32_t plane_bytes)
{
    switch (plane->method) {
    case PLANE_RAW:
        return plane->length == plane_bytes;
    case PLANE_REPEAT:
        return plane->length == 1;
    case PLANE_ZSTD:
        return plane->length > 0 && plane->length <= plane_bytes;
    default:
        return 0;
    }
}

/* What is read so far, of what there is: never past `end`. */
struct cursor {
    const unsigned char *at, *end;
    uint64_t raw, planes; /* bytes that the segments so far stand for, and that they store */
};

static int parse_segment(struct cursor *c, struct segment *to)
{
    if ((size_t)(c->end - c->at) < SEGMENT_HEAD_BYTES)
        return -1;
    *to = (struct segment){.width = c->at[0], .bytes = get32(c->at + 1)};
    c->at += SEGMENT_HEAD_BYTES;
    if (!planes_width_valid(to->width) || to->bytes == 0 || to->bytes % to->width != 0 ||
        (size_t)(c->end - c->at) < to->width * PLANE_HEAD_BYTES)
        return -1;
    for (unsigned p = 0; p < to->width; p++, c->at += PLANE_HEAD_BYTES) {
        to->planes[p] = (struct plane){.method = (enum plane_method)c->at[0], .length = get32(c->at + 1)};
        if (!plane_valid(&to->planes[p], to->bytes / to->width))
            return -1;
        c->planes += to->planes[p].length;
    }
    c->raw += to->bytes;
    return 0;
}

static int parse(struct cursor *c, struct segments *to)
{
    if (c->at == c->end || *c->at == 0 || *c->at > SEGMENTS_MAX)
        return -1;
    to->count = *c->at++;
    for (uint32_t i = 0; i < to->count; i++)
        if (parse_segment(c, &to->items[i]))
            return -1;
    return c->planes == (uint64_t)(c->end - c->at) ? 0 : -1;
}

enum tide_status segments_parse(const void *stored, uint32_t length, uint32_t raw_bytes, struct segments *ret_segments,
                                uint32_t *ret_table_bytes, struct err *err)
{
    const unsigned char *begin = stored;
    struct cursor c = {.at = begin, .end = begin + length};
    if (parse(&c, ret_segments) || c.raw != raw_bytes)
        return err_set(err, TIDE_E_CORRUPT, "its planes do not fit together");
    *ret_table_bytes = (uint32_t)(c.at - begin);
    return TIDE_OK;
}
