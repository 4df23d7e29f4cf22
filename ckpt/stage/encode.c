/* SPDX-License-Identifier: Apache-2.0 */
#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_c_literalCompressionMode */
#include "ckpt/stage/encode.h"

#include <string.h>
#include <zstd.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/sample.h"

#define FAST_LEVEL 1
#define STRONG_LEVEL 6 /* of what matches are looked for in: above it time doubles for the last percent */
/* No matches are looked for, and literals go through Huffman's code all the same, which this far down is off by itself. What is left is
 * counting and coding, and nothing makes that faster: not another window or hash, no block splitter, no sequences handed in. */
#define HUFFMAN_LEVEL (-131072)
#define PAYS_DIVISOR 16 /* compressed must be shorter by a 16th, or a restore pays for nothing */

struct encoder {
    ZSTD_CCtx *fast, *huffman;
    ZSTD_DCtx *in;
    enum effort_level effort;
    unsigned char *planes; /* FORMAT_CHUNK_BYTES: of the segment at hand */
};

static int set(ZSTD_CCtx *to, ZSTD_cParameter parameter, int value)
{
    return to == NULL || ZSTD_isError(ZSTD_CCtx_setParameter(to, parameter, value));
}

/* zstd takes its memory at the first frame: have it now, for the largest there will be. Were there none later, a chunk would
 * be stored raw that is not raw the next time. */
static int warm(ZSTD_CCtx *context, const unsigned char *zeros)
{
    unsigned char frame[512];
    return ZSTD_isError(ZSTD_compress2(context, frame, sizeof frame, zeros, FORMAT_CHUNK_BYTES)) != 0;
}

enum tide_status encoder_create(struct encoder **ret_encoder, struct err *err)
{
    struct encoder *encoder = mem_try_alloc(sizeof *encoder);
    if (encoder) {
        encoder->effort = EFFORT_FAST;
        encoder->fast = ZSTD_createCCtx();
        encoder->huffman = ZSTD_createCCtx();
        encoder->in = ZSTD_createDCtx();
        encoder->planes = mem_try_alloc(FORMAT_CHUNK_BYTES);
    }
    if (encoder == NULL || encoder->in == NULL || encoder->planes == NULL ||
        set(encoder->fast, ZSTD_c_compressionLevel, FAST_LEVEL) ||
        set(encoder->huffman, ZSTD_c_compressionLevel, HUFFMAN_LEVEL) ||
        set(encoder->huffman, ZSTD_c_literalCompressionMode, ZSTD_ps_enable) || warm(encoder->fast, encoder->planes) ||
        warm(encoder->huffman, encoder->planes)) {
        encoder_free(encoder);
        return err_set(err, TIDE_E_NOMEM, "no memory for the compressor");
    }
    *ret_encoder = encoder;
    return TIDE_OK;
}

enum tide_status decoder_create(struct encoder **ret_decoder, struct err *err)
{
    struct encoder *decoder = mem_try_alloc(sizeof *decoder);
    if (decoder) {
        decoder->in = ZSTD_createDCtx();
        decoder->planes = mem_try_alloc(FORMAT_CHUNK_BYTES);
    }
    if (decoder == NULL || decoder->in == NULL || decoder->planes == NULL) {
        encoder_free(decoder);
        return err_set(err, TIDE_E_NOMEM, "no memory for the decompressor");
    }
    *ret_decoder = decoder;
    return TIDE_OK;
}

void encoder_free(struct encoder *encoder)
{
    if (encoder == NULL)
        return;
    ZSTD_freeCCtx(encoder->fast);
    ZSTD_freeCCtx(encoder->huffman);
    ZSTD_freeDCtx(encoder->in);
    mem_free(encoder->planes);
    mem_free(encoder);
}

void encoder_effort(struct encoder *encoder, enum effort_level level)
{
    /* A level that is not taken leaves the one before. */
    if (encoder->effort != level)
        set(encoder->fast, ZSTD_c_compressionLevel, level == EFFORT_STRONG ? STRONG_LEVEL : FAST_LEVEL);
    encoder->effort = level;
}

/* Equal to itself `period` bytes further: memcmp is as fast as memory, and ends at the first byte that is not. */
static int repeats(const unsigned char *raw, uint32_t bytes, uint32_t period)
{
    return bytes > period && bytes % period == 0 && memcmp(raw, raw + period, bytes - period) == 0;
}

/* ---- encoding ---- */

/* A stored chunk being written: never beyond `limit`, from where on it would not pay. */
struct out {
    unsigned char *to;
    uint32_t used, limit;
};

static uint32_t less_a_part(uint32_t bytes)
{
    return bytes - bytes / PAYS_DIVISOR;
}

/* Nonzero: no room. */
static int put_raw(struct out *out, const unsigned char *from, uint32_t bytes, struct plane *plane)
{
    if (bytes > out->limit - out->used)
        return -1;
    if (from != out->to + out->used)
        memcpy(out->to + out->used, from, bytes);
    out->used += bytes;
    *plane = (struct plane){.method = PLANE_RAW, .length = bytes};
    return 0;
}

static int put_plane(struct encoder *e, struct out *out, const unsigned char *from, uint32_t bytes, int is_float,
                     enum plane_kind kind, struct plane *plane)
{
    if (repeats(from, bytes, 1) && out->used < out->limit) {
        out->to[out->used++] = from[0];
        *plane = (struct plane){.method = PLANE_REPEAT, .length = 1};
        return 0;
    }
    if (is_float && kind == PLANE_NOISE)
        return put_raw(out, from, bytes, plane);
    uint32_t left = out->limit - out->used, room = less_a_part(bytes);
    size_t n = ZSTD_compress2(is_float && kind == PLANE_SKEWED ? e->huffman : e->fast, out->to + out->used,
                              room < left ? room : left, from, bytes);
    if (ZSTD_isError(n)) /* the room ran out, which is how we learn that it does not pay */
        return put_raw(out, from, bytes, plane);
    out->used += (uint32_t)n;
    *plane = (struct plane){.method = PLANE_ZSTD, .length = (uint32_t)n};
    return 0;
}

/* How many of the first planes are noise: in memory's order these are the mantissas. */
static unsigned noise_first(const struct segment *s, const enum plane_kind kinds[])
{
    unsigned n = 0;
    while (s->is_float && n < s->width && kinds[n] == PLANE_NOISE)
        n++;
    return n;
}

/* Nonzero: it does not pay. */
static int put_segment(struct encoder *e, struct out *out, const unsigned char *raw, struct segment *s)
{
    enum plane_kind kinds[PLANES_MAX] = {PLANE_SKEWED};
    unsigned char *to[PLANES_MAX];
    if (s->is_float)
        sample_planes(raw, s->bytes / s->width, s->width, kinds);
    unsigned first = noise_first(s, kinds);
    if (first == s->width) {
        s->width = 1;
        return put_raw(out, raw, s->bytes, &s->planes[0]);
    }
    if (s->width == 1)
        return put_plane(e, out, raw, s->bytes, s->is_float, kinds[0], &s->planes[0]);
    uint32_t bytes = s->bytes / s->width;
    if ((uint64_t)first * bytes > out->limit - out->used)
        return -1;
    /* The first ones are split to where they will stay. */
    for (unsigned p = 0; p < s->width; p++)
        to[p] = p < first ? out->to + out->used + (size_t)p * bytes : e->planes + (size_t)p * bytes;
    planes_split(raw, bytes, s->width, to);
    for (unsigned p = 0; p < s->width; p++)
        if (p < first ? put_raw(out, to[p], bytes, &s->planes[p])
                      : put_plane(e, out, to[p], bytes, s->is_float, kinds[p], &s->planes[p]))
            return -1;
    return 0;
}

/* Bytes used; 0: it does not pay. */
static uint32_t put_planes(struct encoder *e, const unsigned char *raw, uint32_t raw_bytes, struct segments *segments,
                           unsigned char *to)
{
    /* A segment that is all noise will have one plane: the table's place is known when the segments are done. */
    struct out out = {.to = to, .limit = less_a_part(raw_bytes)};
    uint32_t table = segments_bytes(segments), at = 0;
    if (table >= out.limit)
        return 0;
    out.used = table;
    for (uint32_t i = 0; i < segments->count; i++) {
        uint32_t bytes = segments->items[i].bytes;
        if (put_segment(e, &out, raw + at, &segments->items[i]))
            return 0;
        at += bytes;
    }
    uint32_t shorter = segments_bytes(segments);
    memmove(to + shorter, to + table, out.used - table);
    segments_print(segments, to);
    return out.used - (table - shorter);
}

static int put_whole(struct encoder *e, const unsigned char *raw, uint32_t raw_bytes, unsigned char *to,
                     uint32_t *ret_length)
{
    size_t n = ZSTD_compress2(e->fast, to, less_a_part(raw_bytes), raw, raw_bytes);
    if (ZSTD_isError(n))
        return -1;
    *ret_length = (uint32_t)n;
    return 0;
}

void encode_chunk(struct encoder *e, const void *raw, uint32_t raw_bytes, struct segments *segments, void *to,
                  enum chunk_codec *ret_codec, uint32_t *ret_length)
{
    static const unsigned char zeros[CHUNK_PATTERN_BYTES];
    const struct segment *first = &segments->items[0];
    if (repeats(raw, raw_bytes, CHUNK_PATTERN_BYTES)) {
        int zero = memcmp(raw, zeros, sizeof zeros) == 0;
        *ret_codec = zero ? CHUNK_ZERO : CHUNK_REPEAT;
        *ret_length = zero ? 0 : CHUNK_PATTERN_BYTES;
        memmove(to, raw, *ret_length);
        return;
    }
    if (e->effort != EFFORT_RAW && segments->count == 1 && first->width == 1 && !first->is_float) {
        *ret_codec = CHUNK_ZSTD;
        if (put_whole(e, raw, raw_bytes, to, ret_length) == 0)
            return;
    } else if (e->effort != EFFORT_RAW) {
        *ret_codec = CHUNK_PLANES;
        *ret_length = put_planes(e, raw, raw_bytes, segments, to);
        if (*ret_length > 0)
            return;
    }
    if (to != raw)
        memcpy(to, raw, raw_bytes);
    *ret_codec = CHUNK_RAW;
    *ret_length = raw_bytes;
}

/* ---- decoding ---- */

static int expand(struct encoder *e, const unsigned char *from, uint32_t length, unsigned char *to, uint32_t bytes)
{
    size_t n = ZSTD_decompressDCtx(e->in, to, bytes, from, length);
    return ZSTD_isError(n) || n != bytes;
}

/* One plane to `to`. */
static int get_plane(struct encoder *e, const struct plane *plane, const unsigned char *from, unsigned char *to,
                     uint32_t bytes)
{
    if (plane->method == PLANE_ZSTD)
        return expand(e, from, plane->length, to, bytes);
    if (plane->method == PLANE_REPEAT)
        memset(to, from[0], bytes);
    else
        memcpy(to, from, bytes);
    return 0;
}

static int get_segment(struct encoder *e, const struct segment *s, const unsigned char *from, unsigned char *to)
{
    const unsigned char *planes[PLANES_MAX];
    uint32_t bytes = s->bytes / s->width;
    if (s->width == 1)
        return get_plane(e, &s->planes[0], from, to, bytes);
    for (unsigned p = 0; p < s->width; p++) {
        unsigned char *room = e->planes + (size_t)p * bytes;
        planes[p] = s->planes[p].method == PLANE_RAW ? from : room; /* one that is raw is taken from where it lies */
        if (s->planes[p].method != PLANE_RAW && get_plane(e, &s->planes[p], from, room, bytes))
            return -1;
        from += s->planes[p].length;
    }
    planes_merge(planes, bytes, s->width, to);
    return 0;
}

static int get_planes(struct encoder *e, const unsigned char *from, uint32_t length, unsigned char *to, uint32_t raw_bytes)
{
    struct segments segments;
    uint32_t table;
    if (segments_parse(from, length, raw_bytes, &segments, &table, NULL) != TIDE_OK)
        return -1;
    from += table;
    for (uint32_t i = 0; i < segments.count; i++) {
        const struct segment *s = &segments.items[i];
        if (get_segment(e, s, from, to))
            return -1;
        for (unsigned p = 0; p < s->width; p++)
            from += s->planes[p].length;
        to += s->bytes;
    }
    return 0;
}

static int repeat(const unsigned char *from, uint32_t length, unsigned char *to, uint32_t raw_bytes)
{
    if (length != CHUNK_PATTERN_BYTES || raw_bytes % CHUNK_PATTERN_BYTES != 0)
        return -1;
    for (uint32_t at = 0; at < raw_bytes; at += CHUNK_PATTERN_BYTES)
        memcpy(to + at, from, CHUNK_PATTERN_BYTES);
    return 0;
}

static int decode(struct encoder *e, enum chunk_codec codec, const unsigned char *from, uint32_t length, unsigned char *to,
                  uint32_t raw_bytes)
{
    switch (codec) {
    case CHUNK_ZERO:
        memset(to, 0, raw_bytes);
        return 0;
    case CHUNK_RAW:
        if (length != raw_bytes)
            return -1;
        memcpy(to, from, raw_bytes);
        return 0;
    case CHUNK_ZSTD:
        return expand(e, from, length, to, raw_bytes);
    case CHUNK_REPEAT:
        return repeat(from, length, to, raw_bytes);
    case CHUNK_PLANES:
        return get_planes(e, from, length, to, raw_bytes);
    default:
        return -1;
    }
}

enum tide_status decode_chunk(struct encoder *encoder, enum chunk_codec codec, const void *from, uint32_t length, void *to,
                              uint32_t raw_bytes, struct err *err)
{
    if (raw_bytes > FORMAT_CHUNK_BYTES || decode(encoder, codec, from, length, to, raw_bytes))
        return err_set(err, TIDE_E_CORRUPT, "it cannot be decoded to %u bytes", raw_bytes);
    return TIDE_OK;
}
