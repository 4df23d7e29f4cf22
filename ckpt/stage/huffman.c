/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/huffman.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "ckpt/base/mem.h"
#include "ckpt/stage/huffman_tree.h"

/* RFC 8878, 3.1.1: a frame of one segment whose length takes 4 bytes; its blocks are of 128 KiB at most. */
#define MAGIC 0xfd2fb528u
#define ONE_SEGMENT 0xa0u
#define FRAME_HEAD_BYTES 9u
#define BLOCK_HEAD_BYTES 3u
#define BLOCK_BYTES (128u << 10)
enum block_type { BLOCK_RAW, BLOCK_REPEAT, BLOCK_COMPRESSED };
/* A block of literals with a tree, in 4 streams, and no sequence. */
#define LITERALS_WITH_TREE 0xeu
#define LITERALS_HEAD_BYTES 5u
#define STREAMS 4u
#define JUMPS_BYTES 6u
#define STREAM_BYTES_MAX 65535u

/* Of a block as long as that one byte in sixteen is counted: which occur at all is looked for in all of them. */
#define SAMPLED_BYTES_MIN (16u << 10)
#define LINE 64u
#define SAMPLED_LINES 16u
#define TURNS 4u

#define STORE_BYTES 8u /* codes go to memory by so many bytes, of which some are yet to come */
#define STREAMS_BYTES_MAX (BLOCK_BYTES / 8 * HUFFMAN_BITS_MAX + STREAMS)
#define BODY_BYTES_MAX (LITERALS_HEAD_BYTES + HUFFMAN_TREE_MAX + JUMPS_BYTES + STREAMS_BYTES_MAX + 1 + STORE_BYTES)

struct bits {
    uint64_t held;
    unsigned count; /* below 8 */
    unsigned char *to;
};

struct huffman {
    void (*stream)(const struct huffman_codes *codes, const unsigned char *from, size_t count, struct bits *to);
    void (*notice)(const unsigned char *from, size_t count, uint32_t counts[256]);
    struct huffman_codes codes;
    unsigned char body[BODY_BYTES_MAX];
};

static void put_number(unsigned char *to, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        to[i] = (unsigned char)(value >> 8 * i);
}

/* ---- a stream: codes from the last symbol to the first, from the lowest bit up, and a bit that tells where it ends ---- */

/* At most 56 bits at once. */
static inline void append(struct bits *b, uint64_t codes, unsigned count)
{
    b->held |= codes << b->count;
    memcpy(b->to, &b->held, STORE_BYTES);
    b->count += count;
    b->to += b->count / 8;
    b->held >>= b->count & ~7u;
    b->count &= 7;
}

/* The first `count` of `from`, four at a time, which are 44 bits at most. An entry is a code, and above it how many bits it has. */
static inline __attribute__((always_inline)) void stream(const struct huffman_codes *codes, const unsigned char *from, size_t count,
                                                         struct bits *to)
{
    uint32_t entries[256];
    struct bits b = *to;
    for (unsigned i = 0; i < 256; i++)
        entries[i] = codes->code[i] | (uint32_t)codes->bits[i] << 16;
    for (; count % 4 > 0; count--)
        append(&b, (uint16_t)entries[from[count - 1]], entries[from[count - 1]] >> 16);
    for (; count > 0; count -= 4) {
        uint32_t e0 = entries[from[count - 1]], e1 = entries[from[count - 2]], e2 = entries[from[count - 3]], e3 = entries[from[count - 4]];
        uint64_t low = (uint16_t)e0 | (uint64_t)(uint16_t)e1 << (e0 >> 16), high = (uint16_t)e2 | (uint64_t)(uint16_t)e3 << (e2 >> 16);
        uint32_t low_bits = (e0 >> 16) + (e1 >> 16);
        append(&b, low | high << low_bits, low_bits + (e2 >> 16) + (e3 >> 16));
    }
    *to = b;
}

static void stream_portable(const struct huffman_codes *codes, const unsigned char *from, size_t count, struct bits *to)
{
    stream(codes, from, count, to);
}

/* Those that occur and were not counted count once. */
static void notice_portable(const unsigned char *from, size_t count, uint32_t counts[256])
{
    unsigned char there[256] = {0};
    for (size_t i = 0; i < count; i++)
        there[from[i]] = 1;
    for (unsigned symbol = 0; symbol < 256; symbol++)
        if (there[symbol] && counts[symbol] == 0)
            counts[symbol] = 1;
}

/* ---- the same, by instructions that not every processor has, and 64 at once ---- */

#if defined(__x86_64__)
__attribute__((target("bmi2"))) static void stream_bmi2(const struct huffman_codes *codes, const unsigned char *from, size_t count,
                                                        struct bits *to)
{
    stream(codes, from, count, to);
}

#define WIDE __attribute__((target("bmi2,avx512f,avx512bw,avx512vbmi")))
#define APPEND_MAX 56

/* A table of a byte for each symbol. */
struct table {
    __m512i part[4];
};

WIDE static inline struct table table_load(const uint8_t bytes[256])
{
    struct table t;
    for (unsigned i = 0; i < 4; i++)
        t.part[i] = _mm512_loadu_si512(bytes + (size_t)LINE * i);
    return t;
}

WIDE static inline __m512i table_find(const struct table *t, __m512i symbols)
{
    __m512i low = _mm512_permutex2var_epi8(t->part[0], symbols, t->part[1]);
    __m512i high = _mm512_permutex2var_epi8(t->part[2], symbols, t->part[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(symbols), low, high);
}

/* What is found for 64 symbols: in each byte the code's low 8 bits, its other 3, and how many bits it has. */
struct found {
    __m512i low, high, bits;
};

WIDE static inline struct found find_64(const struct table *low, const struct table *rest, __m512i symbols)
{
    __m512i r = table_find(rest, symbols);
    return (struct found){.low = table_find(low, symbols),
                          .high = _mm512_and_si512(r, _mm512_set1_epi8(7)),
                          .bits = _mm512_and_si512(_mm512_srli_epi16(r, 3), _mm512_set1_epi8(15))};
}

/* Two codes in a lane twice as wide, the first above the next, for the last symbol's comes first in a stream. `next`: the bits of that. */
WIDE static inline __m512i join_in_32(__m512i codes, __m512i next)
{
    return _mm512_or_si512(_mm512_sllv_epi32(_mm512_and_si512(codes, _mm512_set1_epi32(0xffff)), next), _mm512_srli_epi32(codes, 16));
}

WIDE static inline __m512i join_in_64(__m512i codes, __m512i next)
{
    return _mm512_or_si512(_mm512_sllv_epi64(_mm512_and_si512(codes, _mm512_set1_epi64(0xffffffff)), next), _mm512_srli_epi64(codes, 32));
}

/* Codes joined, to be appended from the last to the first: written from the end of the arrays on. */
#define BATCH_SYMBOLS (8 * LINE)
#define PIECES_MAX (BATCH_SYMBOLS / 4)
struct pieces {
    unsigned first;
    uint64_t codes[PIECES_MAX], bits[PIECES_MAX];
};

/* Any codes. 8 symbols of each 16 are here, each in a lane of 16 bits: four of them fit in 64. */
WIDE static inline void join_fours(__m512i codes, __m512i bits, __m512i *ret_codes, __m512i *ret_bits)
{
    __m512i twos = _mm512_madd_epi16(bits, _mm512_set1_epi16(1)), next = _mm512_srli_epi64(twos, 32);
    *ret_codes = join_in_64(join_in_32(codes, _mm512_srli_epi32(bits, 16)), next);
    *ret_bits = _mm512_add_epi64(_mm512_and_si512(twos, _mm512_set1_epi64(0xffffffff)), next);
}

WIDE static __attribute__((noinline)) void put_fours(struct pieces *p, struct found f)
{
    const __m512i zero = _mm512_setzero_si512();
    const __m512i low_half = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high_half = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    __m512i codes[2], bits[2];
    join_fours(_mm512_unpacklo_epi8(f.low, f.high), _mm512_unpacklo_epi8(f.bits, zero), &codes[0], &bits[0]);
    join_fours(_mm512_unpackhi_epi8(f.low, f.high), _mm512_unpackhi_epi8(f.bits, zero), &codes[1], &bits[1]);
    p->first -= 16;
    _mm512_storeu_si512(p->codes + p->first, _mm512_permutex2var_epi64(codes[0], low_half, codes[1]));
    _mm512_storeu_si512(p->bits + p->first, _mm512_permutex2var_epi64(bits[0], low_half, bits[1]));
    _mm512_storeu_si512(p->codes + p->first + 8, _mm512_permutex2var_epi64(codes[0], high_half, codes[1]));
    _mm512_storeu_si512(p->bits + p->first + 8, _mm512_permutex2var_epi64(bits[0], high_half, bits[1]));
}

/* 16 symbols in a piece, or 8. */
WIDE static inline void put_eights(struct pieces *p, __m512i codes, __m512i bits)
{
    __m512i next = _mm512_shuffle_epi32(bits, _MM_PERM_BADC), both = _mm512_add_epi64(bits, next);
    if (_mm512_cmpgt_epi64_mask(both, _mm512_set1_epi64(APPEND_MAX))) {
        p->first -= 8;
        _mm512_storeu_si512(p->codes + p->first, codes);
        _mm512_storeu_si512(p->bits + p->first, bits);
        return;
    }
    const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 0, 2, 4, 6);
    codes = _mm512_or_si512(_mm512_sllv_epi64(codes, next), _mm512_shuffle_epi32(codes, _MM_PERM_BADC));
    p->first -= 4;
    _mm256_storeu_si256((__m256i *)(p->codes + p->first), _mm512_castsi512_si256(_mm512_permutexvar_epi64(even, codes)));
    _mm256_storeu_si256((__m256i *)(p->bits + p->first), _mm512_castsi512_si256(_mm512_permutexvar_epi64(even, both)));
}

/* Where two codes have no more than 16 bits together, and eight no more than are appended at once, which is almost always so where much
 * is saved, they are joined without being spread out first. */
WIDE static inline void put_64(struct pieces *p, const struct table *low, const struct table *rest, __m512i symbols)
{
    const struct found f = find_64(low, rest, symbols);
    const __m512i byte = _mm512_set1_epi16(0xff);
    __m512i twos = _mm512_maddubs_epi16(f.bits, _mm512_set1_epi8(1)), fours = _mm512_madd_epi16(twos, _mm512_set1_epi16(1));
    __m512i eights = _mm512_sad_epu8(f.bits, _mm512_setzero_si512());
    if (_mm512_cmpgt_epi16_mask(twos, _mm512_set1_epi16(16)) | _mm512_cmpgt_epi64_mask(eights, _mm512_set1_epi64(APPEND_MAX))) {
        put_fours(p, f);
        return;
    }
    __m512i first = _mm512_or_si512(_mm512_and_si512(f.low, byte), _mm512_slli_epi16(f.high, 8));
    __m512i next = _mm512_or_si512(_mm512_srli_epi16(f.low, 8), _mm512_andnot_si512(byte, f.high));
    __m512i codes = _mm512_or_si512(_mm512_sllv_epi16(first, _mm512_srli_epi16(f.bits, 8)), next);
    put_eights(p, join_in_64(join_in_32(codes, _mm512_srli_epi32(twos, 16)), _mm512_srli_epi64(fours, 32)), eights);
}

WIDE static void stream_wide(const struct huffman_codes *codes, const unsigned char *from, size_t count, struct bits *to)
{
    uint8_t low[256], rest[256];
    struct pieces pieces;
    struct bits b = *to;
    for (unsigned i = 0; i < 256; i++) {
        low[i] = (uint8_t)codes->code[i];
        rest[i] = (uint8_t)(codes->code[i] >> 8 | codes->bits[i] << 3);
    }
    const struct table low_table = table_load(low), rest_table = table_load(rest);
    while (count >= LINE) {
        size_t batch = count < BATCH_SYMBOLS ? count / LINE * LINE : BATCH_SYMBOLS;
        pieces.first = PIECES_MAX;
        for (size_t done = LINE; done <= batch; done += LINE)
            put_64(&pieces, &low_table, &rest_table, _mm512_loadu_si512(from + count - done));
        for (unsigned i = PIECES_MAX; i-- > pieces.first;)
            append(&b, pieces.codes[i], (unsigned)pieces.bits[i]);
        count -= batch;
    }
    stream(codes, from, count, &b);
    *to = b;
}

WIDE static void notice_wide(const unsigned char *from, size_t count, uint32_t counts[256])
{
    uint8_t known[256];
    for (unsigned i = 0; i < 256; i++)
        known[i] = counts[i] > 0 ? 0 : 0xff;
    struct table strange = table_load(known);
    for (; count >= LINE; count -= LINE, from += LINE) {
        if (_mm512_movepi8_mask(table_find(&strange, _mm512_loadu_si512(from))) == 0)
            continue;
        for (unsigned i = 0; i < LINE; i++) {
            counts[from[i]] += counts[from[i]] == 0;
            known[from[i]] = 0;
        }
        strange = table_load(known);
    }
    notice_portable(from, count, counts);
}

/* Nonzero: this processor can. */
static int choose(struct huffman *h, enum huffman_way way)
{
    int bmi2 = __builtin_cpu_supports("bmi2");
    if (way == HUFFMAN_WIDE && bmi2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi")) {
        h->stream = stream_wide;
        h->notice = notice_wide;
    } else if (way == HUFFMAN_BMI2 && bmi2) {
        h->stream = stream_bmi2;
    } else {
        return 0;
    }
    return 1;
}
#else
static int choose(struct huffman *h, enum huffman_way way)
{
    (void)h, (void)way;
    return 0;
}
#endif

enum huffman_way huffman_choose(struct huffman *h, enum huffman_way way)
{
    h->stream = stream_portable;
    h->notice = notice_portable;
    while (way > HUFFMAN_PORTABLE && !choose(h, way))
        way--;
    return way;
}

/* ---- blocks ---- */

/* In turns: what has just been counted is not yet there to be counted again. */
static void count_bytes(const unsigned char *from, size_t bytes, uint32_t counts[TURNS][256])
{
    size_t i = 0;
    for (; i + TURNS <= bytes; i += TURNS)
        for (unsigned k = 0; k < TURNS; k++)
            counts[k][from[i + k]]++;
    for (; i < bytes; i++)
        counts[0][from[i]]++;
}

/* How often each byte is there, or about: above 0 if it is there at all. Returns how many of them are. */
static unsigned count_block(const struct huffman *h, const unsigned char *from, size_t bytes, uint32_t counts[256])
{
    uint32_t found[TURNS][256] = {{0}};
    unsigned different = 0;
    if (bytes < SAMPLED_BYTES_MIN)
        count_bytes(from, bytes, found);
    else
        for (size_t at = 0; at + LINE <= bytes; at += (size_t)LINE * SAMPLED_LINES)
            count_bytes(from + at, LINE, found);
    for (unsigned i = 0; i < 256; i++)
        counts[i] = found[0][i] + found[1][i] + found[2][i] + found[3][i];
    if (bytes >= SAMPLED_BYTES_MIN)
        h->notice(from, bytes, counts);
    for (unsigned i = 0; i < 256; i++)
        different += counts[i] > 0;
    return different;
}

/* Bytes of the streams, behind where each but the last one ends. 0: one is too long to be told of. */
static size_t put_streams(const struct huffman *h, const unsigned char *from, size_t bytes, unsigned char *to)
{
    size_t each = (bytes + STREAMS - 1) / STREAMS;
    struct bits b = {.to = to + JUMPS_BYTES};
    for (unsigned i = 0; i < STREAMS; i++) {
        const unsigned char *begin = b.to;
        size_t count = i + 1 < STREAMS ? each : bytes - (STREAMS - 1) * each;
        h->stream(&h->codes, from + i * each, count, &b);
        append(&b, 1, 1);
        b = (struct bits){.to = b.to + (b.count > 0)};
        size_t length = (size_t)(b.to - begin);
        if (length > STREAM_BYTES_MAX)
            return 0;
        if (i + 1 < STREAMS)
            put_number(to + (size_t)2 * i, length, 2);
    }
    return (size_t)(b.to - to);
}

/* The block in h->body; 0: it is not shorter so. */
static size_t compress_block(struct huffman *h, const unsigned char *from, size_t bytes, const uint32_t counts[256])
{
    unsigned char *literals = h->body + LITERALS_HEAD_BYTES;
    huffman_codes_build(counts, &h->codes);
    size_t tree = huffman_tree_print(&h->codes, literals), streams = tree > 0 ? put_streams(h, from, bytes, literals + tree) : 0;
    if (streams == 0 || LITERALS_HEAD_BYTES + tree + streams + 1 >= bytes)
        return 0;
    put_number(h->body, LITERALS_WITH_TREE | (uint64_t)bytes << 4 | (uint64_t)(tree + streams) << 22, LITERALS_HEAD_BYTES);
    literals[tree + streams] = 0; /* sequences */
    return LITERALS_HEAD_BYTES + tree + streams + 1;
}

static size_t put_block(unsigned char *to, size_t room, enum block_type type, int is_last, size_t length, const unsigned char *content,
                        size_t content_bytes)
{
    if (content_bytes + BLOCK_HEAD_BYTES > room)
        return 0;
    put_number(to, (unsigned)is_last | type << 1 | (uint64_t)length << 3, BLOCK_HEAD_BYTES);
    memcpy(to + BLOCK_HEAD_BYTES, content, content_bytes);
    return BLOCK_HEAD_BYTES + content_bytes;
}

/* 0: no room. */
static size_t encode_block(struct huffman *h, unsigned char *to, size_t room, const unsigned char *from, size_t bytes, int is_last)
{
    uint32_t counts[256];
    unsigned different = count_block(h, from, bytes, counts);
    if (different == 1)
        return put_block(to, room, BLOCK_REPEAT, is_last, bytes, from, 1);
    size_t body = bytes >= HUFFMAN_BYTES_MIN ? compress_block(h, from, bytes, counts) : 0;
    if (body == 0)
        return put_block(to, room, BLOCK_RAW, is_last, bytes, from, bytes);
    return put_block(to, room, BLOCK_COMPRESSED, is_last, body, h->body, body);
}

size_t huffman_frame(struct huffman *h, void *to, size_t room, const void *from, size_t bytes)
{
    unsigned char *begin = to;
    size_t used = FRAME_HEAD_BYTES;
    if (room < FRAME_HEAD_BYTES)
        return 0;
    put_number(begin, MAGIC | (uint64_t)ONE_SEGMENT << 32, 5);
    put_number(begin + 5, bytes, 4);
    for (size_t at = 0; at < bytes;) {
        size_t length = bytes - at < BLOCK_BYTES ? bytes - at : BLOCK_BYTES;
        size_t block = encode_block(h, begin + used, room - used, (const unsigned char *)from + at, length, at + length == bytes);
        if (block == 0)
            return 0;
        used += block;
        at += length;
    }
    return used;
}

/* ---- */

struct huffman *huffman_create(void)
{
    struct huffman *h = mem_try_alloc(sizeof *h);
    if (h != NULL)
        huffman_choose(h, HUFFMAN_WIDE);
    return h;
}

void huffman_free(struct huffman *h)
{
    mem_free(h);
}
