/* SPDX-License-Identifier: Apache-2.0 */

/* Chunks encoded and decoded by one thread, by what they hold, a second being one of that thread on its core. Encode: limit is memcpy, peer
 * `zstd -1` over the same chunks; ratio: peer is that of `zstd -1`; split_before: what encoding would be, had somebody else taken the
 * numbers apart, peer is encode; exponents: the second bytes of bf16 alone, by zstd that looks for no matches.
 * Everything follows from a seed; no trained model is in here:
 * weights            gaussian, mean 0; the deviation is 0.02, times e to a gaussian of 0.3 for each 4096 of them
 * adam m             the same with deviation 1e-4;  adam v: the squares of such, each the mean of four
 * bf16               the fp32 weights rounded;  fp32 holding bf16: these as fp32
 * sparse             fp32 weights, of which nine in ten pages are zero
 * sorted             int64 that grow by 0 to 999
 * random             bytes of a generator;  zero, repeated: one pattern of 0 and of 8 bytes */

#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_c_literalCompressionMode */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark/tidemark.h>
#include <zstd.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/stage/encode.h"
#include "tests/bench/measure.h"

#define CHUNKS 24u
#define BYTES ((size_t)CHUNKS * FORMAT_CHUNK_BYTES)
#define ROUNDS 9
#define GB 1e9
#define PAGE 4096u

static unsigned char *raw, *back, *stored;
static struct rng rng = {.state = 20};

static double uniform(void)
{
    return ((double)(rng_next(&rng) >> 11) + 0.5) / 9007199254740992.0;
}

static double gaussian(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static void floats(double deviation, int squares)
{
    double scale = deviation;
    for (size_t i = 0; i < BYTES / 4; i++) {
        if (i % PAGE == 0)
            scale = deviation * exp(0.3 * gaussian());
        double x = scale * gaussian();
        if (squares) {
            x *= x;
            for (int k = 0; k < 3; k++)
                x += pow(scale * gaussian(), 2);
            x /= 4;
        }
        float f = (float)x;
        memcpy(raw + 4 * i, &f, sizeof f);
    }
}

static void weights(void)
{
    floats(0.02, 0);
}

static void adam_m(void)
{
    floats(1e-4, 0);
}

static void adam_v(void)
{
    floats(1e-4, 1);
}

/* To nearest, ties up. */
static uint32_t rounded(uint32_t bits)
{
    return (bits + 0x8000) & 0xffff0000;
}

static void fp32_of_bf16(void)
{
    weights();
    for (size_t i = 0; i < BYTES / 4; i++) {
        uint32_t bits;
        memcpy(&bits, raw + 4 * i, sizeof bits);
        bits = rounded(bits);
        memcpy(raw + 4 * i, &bits, sizeof bits);
    }
}

static void bf16(void)
{
    size_t half = BYTES / 2;
    for (int pass = 0; pass < 2; pass++) {
        fp32_of_bf16();
        unsigned char *to = back + (size_t)pass * half;
        for (size_t i = 0; i < BYTES / 4; i++)
            memcpy(to + 2 * i, raw + 4 * i + 2, 2);
    }
    memcpy(raw, back, BYTES);
}

static void sparse(void)
{
    weights();
    for (size_t at = 0; at < BYTES; at += PAGE)
        if (rng_below(&rng, 10) > 0)
            memset(raw + at, 0, PAGE);
}

static void sorted(void)
{
    uint64_t n = 1000000;
    for (size_t i = 0; i < BYTES / 8; i++) {
        n += rng_below(&rng, 1000);
        memcpy(raw + 8 * i, &n, sizeof n);
    }
}

static void random_bytes(void)
{
    for (size_t i = 0; i < BYTES / 8; i++) {
        uint64_t n = rng_next(&rng);
        memcpy(raw + 8 * i, &n, sizeof n);
    }
}

static void repeated(void)
{
    for (size_t i = 0; i < BYTES / 8; i++)
        memcpy(raw + 8 * i, "\x00\x00\x80\x3f\x00\x00\x00\x40", 8);
}

static void zero(void)
{
    memset(raw, 0, BYTES);
}

/* Of this thread alone: what else runs here is not in it. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void stop(const char *what)
{
    fprintf(stderr, "bench_encode: %s\n", what);
    exit(1);
}

static double memcpy_seconds(void)
{
    double best = 1e9;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = cpu_seconds();
        memcpy(back, raw, BYTES);
        best = least(best, cpu_seconds() - begin);
    }
    return best;
}

static double zstd_seconds(uint64_t *ret_bytes)
{
    ZSTD_CCtx *c = ZSTD_createCCtx();
    double best = 1e9;
    for (int round = 0; round < 2; round++) {
        double begin = cpu_seconds();
        *ret_bytes = 0;
        for (unsigned i = 0; i < CHUNKS; i++) {
            size_t n = ZSTD_compressCCtx(c, stored, ZSTD_compressBound(FORMAT_CHUNK_BYTES),
                                         raw + (size_t)i * FORMAT_CHUNK_BYTES, FORMAT_CHUNK_BYTES, 1);
            if (ZSTD_isError(n))
                stop("zstd failed");
            *ret_bytes += n;
        }
        best = least(best, cpu_seconds() - begin);
    }
    ZSTD_freeCCtx(c);
    return best;
}

/* What encoding bf16 cannot be faster than by more than twice: half of it are exponents. */
static void measure_exponents(void)
{
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    size_t bytes = BYTES / 2;
    double best = 1e9;
    bf16();
    double copy = memcpy_seconds();
    for (size_t i = 0; i < bytes; i++)
        back[i] = raw[2 * i + 1];
    if (zstd == NULL || ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, -131072)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_literalCompressionMode, ZSTD_ps_enable)))
        stop("no compressor");
    for (int round = 0; round < ROUNDS; round++) {
        double begin = cpu_seconds();
        for (size_t at = 0; at < bytes; at += FORMAT_CHUNK_BYTES / 2)
            if (ZSTD_isError(ZSTD_compress2(zstd, stored, FORMAT_CHUNK_BYTES, back + at, FORMAT_CHUNK_BYTES / 2)))
                stop("exponents do not become shorter");
        best = least(best, cpu_seconds() - begin);
    }
    result("encode", "exponents", (double)bytes / GB / best, "GB/s", (double)BYTES / GB / copy, -1);
    ZSTD_freeCCtx(zstd);
}

struct piece {
    enum chunk_codec codec;
    uint32_t length;
};

static void encode_all(struct encoder *encoder, const struct rank_manifest *m, struct piece pieces[CHUNKS])
{
    size_t region = 0;
    struct segments segments;
    for (unsigned i = 0; i < CHUNKS; i++) {
        size_t at = (size_t)i * FORMAT_CHUNK_BYTES;
        segments_plan(m, i, &region, &segments);
        encode_chunk(encoder, raw + at, FORMAT_CHUNK_BYTES, &segments, stored + at, &pieces[i].codec, &pieces[i].length);
    }
}

static void decode_all(struct encoder *encoder, const struct piece pieces[CHUNKS])
{
    for (unsigned i = 0; i < CHUNKS; i++) {
        size_t at = (size_t)i * FORMAT_CHUNK_BYTES;
        if (decode_chunk(encoder, pieces[i].codec, stored + at, pieces[i].length, back + at, FORMAT_CHUNK_BYTES, NULL) !=
            TIDE_OK)
            stop("what was encoded cannot be decoded");
    }
}

static void named(const char *name, const char *what, double value, const char *unit, double limit, double peer)
{
    char metric[64];
    snprintf(metric, sizeof metric, "%s_%s", name, what);
    result("encode", metric, value, unit, limit, peer);
}

/* What is left of encoding where chunks were split before (by a GPU: ckpt/stage/device_cuda/planes.h). What they hold is lost. */
static double split_before_seconds(struct encoder *encoder, unsigned width)
{
    uint32_t bytes = FORMAT_CHUNK_BYTES / width;
    double best = 1e9;
    memcpy(back, raw, BYTES);
    for (unsigned i = 0; i < CHUNKS; i++) {
        unsigned char *to[PLANES_MAX];
        for (unsigned p = 0; p < width; p++)
            to[p] = raw + (size_t)i * FORMAT_CHUNK_BYTES + (size_t)p * bytes;
        planes_split(back + (size_t)i * FORMAT_CHUNK_BYTES, bytes, width, to);
    }
    for (int round = 0; round < ROUNDS; round++) {
        double begin = cpu_seconds();
        for (unsigned i = 0; i < CHUNKS; i++) {
            struct piece piece;
            struct segments s = {.count = width};
            for (unsigned p = 0; p < width; p++)
                s.items[p] = (struct segment){.width = 1, .is_float = 1, .bytes = bytes};
            size_t at = (size_t)i * FORMAT_CHUNK_BYTES;
            encode_chunk(encoder, raw + at, FORMAT_CHUNK_BYTES, &s, stored + at, &piece.codec, &piece.length);
        }
        best = least(best, cpu_seconds() - begin);
    }
    return best;
}

static void measure(struct encoder *encoder, const char *name, unsigned dtype, void (*make)(void))
{
    struct region_entry region = {.name = "r", .dtype = dtype, .bytes = BYTES};
    struct rank_manifest m = {.data_bytes = BYTES, .regions = {.items = &region, .count = 1}};
    struct piece pieces[CHUNKS];
    double encode = 1e9, decode = 1e9;
    uint64_t bytes = 0, peer_bytes = 0;
    make();
    double copy = memcpy_seconds(), peer = zstd_seconds(&peer_bytes);
    for (int round = 0; round < ROUNDS; round++) {
        double begin = cpu_seconds();
        encode_all(encoder, &m, pieces);
        encode = least(encode, cpu_seconds() - begin);
    }
    memset(back, 1, BYTES);
    for (int round = 0; round < ROUNDS; round++) {
        double begin = cpu_seconds();
        decode_all(encoder, pieces);
        decode = least(decode, cpu_seconds() - begin);
    }
    if (memcmp(raw, back, BYTES) != 0)
        stop("what was decoded is not what was encoded");
    for (unsigned i = 0; i < CHUNKS; i++)
        bytes += pieces[i].length;
    named(name, "encode", (double)BYTES / GB / encode, "GB/s", (double)BYTES / GB / copy, (double)BYTES / GB / peer);
    named(name, "decode", (double)BYTES / GB / decode, "GB/s", (double)BYTES / GB / copy, -1);
    if (bytes > 0)
        named(name, "ratio", (double)BYTES / (double)bytes, "", -1, (double)BYTES / (double)peer_bytes);
    if (dtype == TIDE_F32 || dtype == TIDE_BF16)
        named(name, "split_before", (double)BYTES / GB / split_before_seconds(encoder, dtype == TIDE_F32 ? 4 : 2), "GB/s",
              (double)BYTES / GB / copy, (double)BYTES / GB / encode);
}

int main(void)
{
    struct encoder *encoder = NULL;
    raw = mem_alloc(BYTES);
    back = mem_alloc(BYTES);
    stored = mem_alloc(BYTES + ZSTD_compressBound(FORMAT_CHUNK_BYTES));
    if (encoder_create(&encoder, NULL) != TIDE_OK)
        stop("no encoder");
    measure(encoder, "fp32", TIDE_F32, weights);
    measure(encoder, "bf16", TIDE_BF16, bf16);
    measure_exponents();
    measure(encoder, "adam_m", TIDE_F32, adam_m);
    measure(encoder, "adam_v", TIDE_F32, adam_v);
    measure(encoder, "fp32_of_bf16", TIDE_F32, fp32_of_bf16);
    measure(encoder, "sparse", TIDE_F32, sparse);
    measure(encoder, "int64_sorted", TIDE_I64, sorted);
    measure(encoder, "random", TIDE_BYTES, random_bytes);
    measure(encoder, "repeated", TIDE_F32, repeated);
    measure(encoder, "zero", TIDE_F32, zero);
    encoder_free(encoder);
    mem_free(raw);
    mem_free(back);
    mem_free(stored);
    return 0;
}
