/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ckpt/stage/device_cuda/planes.h"
#include "tests/unit/floats.h"
#include "tests/unit/planes_emulated.h"

/* Planes made by kernels are those that the host makes, to the byte, and counted right; and nothing else is touched. On the simulator,
 * where the kernels are stand-ins (planes_kernels.c), it shows that they are launched as they should be; tests/gpu/run runs it on a GPU,
 * with numbers of as many MiB as it says. */

#define CUDA_OK(call) assert_int_equal((int)(call), (int)cudaSuccess)
#define GUARD 0xa5
#define SHIFTS 16u
#define MARGIN 64u
#define MIB ((size_t)1 << 20)
#define MARK_BYTES 1024u

static const struct {
    unsigned width, cell;
} kinds[] = {
    {1, 16}, {2, 8}, {4, 4}, {8, 4},
#ifdef PLANES_CELLS
    {2, 16}, {4, 8}, {4, 16}, {8, 8}, {8, 16},
#endif
};

#define KINDS (sizeof kinds / sizeof kinds[0])

static size_t large = MIB;
static struct {
    unsigned char *numbers, *planes;
    uint64_t *seen;
} device, host, want;
static size_t room;       /* bytes of each but `seen` */
static uint64_t counters; /* of `seen` */
static cudaStream_t stream;

static int setup(void **state)
{
    (void)state;
    room = large + MARGIN;
    counters = (large / MIB + 4) * PLANES_MAX * PLANES_VALUES;
    CUDA_OK(cudaMalloc((void **)&device.numbers, room));
    CUDA_OK(cudaMalloc((void **)&device.planes, room));
    CUDA_OK(cudaMalloc((void **)&device.seen, counters * sizeof *device.seen));
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    host.numbers = mem_alloc(room);
    host.planes = mem_alloc(room);
    host.seen = mem_alloc(counters * sizeof *host.seen);
    want.numbers = mem_alloc(room);
    want.planes = mem_alloc(room);
    want.seen = mem_alloc(counters * sizeof *want.seen);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    CUDA_OK(cudaFree(device.numbers));
    CUDA_OK(cudaFree(device.planes));
    CUDA_OK(cudaFree(device.seen));
    CUDA_OK(cudaStreamDestroy(stream));
    mem_free(host.numbers);
    mem_free(host.planes);
    mem_free(host.seen);
    mem_free(want.numbers);
    mem_free(want.planes);
    mem_free(want.seen);
    return 0;
}

static void fetch(void *to, const void *from, size_t bytes)
{
    CUDA_OK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream));
    CUDA_OK(cudaStreamSynchronize(stream));
}

/* Apart, with counts and without, and together again, everything in one stream; want.numbers holds the numbers, `from` bytes in. */
static void there_and_back(unsigned width, unsigned cell, size_t count, size_t piece, size_t from, size_t to)
{
    size_t bytes = count * width, all = bytes + MARGIN;
    uint64_t used = (planes_pieces(count, piece) * width + 1) * PLANES_VALUES;
    assert_true(all <= room && used <= counters);
    memset(want.planes, GUARD, all);
    memset(want.seen, 0, used * sizeof *want.seen);
    expected_planes(want.numbers + from, count, piece, width, want.planes + to, want.seen);
    CUDA_OK(cudaMemcpyAsync(device.numbers, want.numbers, all, cudaMemcpyHostToDevice, stream));
    for (int counted = 1; counted >= 0; counted--) {
        CUDA_OK(cudaMemsetAsync(device.planes, GUARD, all, stream));
        CUDA_OK(cudaMemsetAsync(device.seen, 0, used * sizeof *device.seen, stream));
        CUDA_OK(planes_cuda_split_by(cell, device.numbers + from, count, width, piece, device.planes + to,
                                     counted ? device.seen : NULL, stream));
        fetch(host.planes, device.planes, all);
        assert_memory_equal(host.planes, want.planes, all);
        fetch(host.seen, device.seen, used * sizeof *host.seen);
        if (counted)
            assert_memory_equal(host.seen, want.seen, used * sizeof *host.seen);
    }
    CUDA_OK(cudaMemsetAsync(device.numbers, GUARD, all, stream));
    CUDA_OK(planes_cuda_merge_by(cell, device.planes + to, count, width, piece, device.numbers + from, stream));
    fetch(host.numbers, device.numbers, all);
    assert_memory_equal(host.numbers + from, want.numbers + from, bytes);
    for (size_t i = 0; i < MARGIN; i++) /* before them, and behind */
        assert_int_equal(host.numbers[i < from ? i : bytes + i], GUARD);
}

static void check(struct rng *rng, unsigned kind, size_t count, size_t piece, size_t from, size_t to)
{
    planes_fill(rng, want.numbers, count * kinds[kind].width + MARGIN);
    there_and_back(kinds[kind].width, kinds[kind].cell, count, piece, from, to);
}

static void every_small_count_is_exact(void **state)
{
    struct rng rng = {.state = 5};
    (void)state;
    for (unsigned kind = 0; kind < KINDS; kind++)
        for (size_t count = 0; count <= 200; count++)
            check(&rng, kind, count, count / 3 + 1 + rng_below(&rng, count + 3), 0, 0);
}

static void memory_may_begin_anywhere(void **state)
{
    struct rng rng = {.state = 6};
    (void)state;
    for (unsigned kind = 0; kind < KINDS; kind++)
        for (size_t shift = 0; shift < SHIFTS; shift++) {
            check(&rng, kind, 320, 320, shift, 0);
            check(&rng, kind, 320, 160, 0, shift);
            check(&rng, kind, 337, 160, shift, rng_below(&rng, SHIFTS));
        }
}

/* Around what a block takes at once, and in all its rounds. */
static void blocks_meet(void **state)
{
    struct rng rng = {.state = 7};
    (void)state;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        unsigned width = kinds[kind].width, cell = kinds[kind].cell;
        size_t once = (size_t)PLANES_THREADS * planes_ahead(width, cell) * cell, all = once * PLANES_ROUNDS_COUNTED;
        for (int d = -1; d <= 1; d++) {
            check(&rng, kind, once + (size_t)((int)cell * d), SIZE_MAX, 0, 0);
            check(&rng, kind, all + (size_t)((int)cell * d), SIZE_MAX, 0, 0);
        }
        check(&rng, kind, 2 * once + 5, once + cell, 0, 0);
    }
}

/* ---- what programs have ---- */

static double number(struct rng *rng, double *last)
{
    return *last += (double)rng_below(rng, 1000);
}

#define MAKE(name, type, value)                                                                                             \
    static void name(unsigned char *to, size_t bytes)                                                                       \
    {                                                                                                                       \
        struct rng rng = {.state = 11};                                                                                     \
        double last = 0;                                                                                                    \
        for (size_t at = 0; at + sizeof(type) <= bytes; at += sizeof(type)) {                                               \
            type x = (type)(value);                                                                                         \
            memcpy(to + at, &x, sizeof x);                                                                                  \
        }                                                                                                                   \
        (void)last;                                                                                                         \
    }

MAKE(make_f64, double, test_float(&rng))
MAKE(make_f32, float, test_float(&rng))
MAKE(make_i64, int64_t, number(&rng, &last))
MAKE(make_i32, int32_t, number(&rng, &last))
MAKE(make_i16, int16_t, rng_below(&rng, 60000))
MAKE(make_bytes, uint8_t, rng_next(&rng))

/* One kind of number cut from another: its last bytes. */
static void make_cut(unsigned char *to, size_t bytes, size_t width, size_t keep)
{
    unsigned char *whole = mem_alloc(bytes / keep * width + width);
    make_f32(whole, bytes / keep * width);
    for (size_t i = 0; i < bytes / keep; i++)
        memcpy(to + i * keep, whole + i * width + width - keep, keep);
    mem_free(whole);
}

static void make_bf16(unsigned char *to, size_t bytes)
{
    make_cut(to, bytes, 4, 2);
}

static void make_f8(unsigned char *to, size_t bytes)
{
    make_cut(to, bytes, 4, 1);
}

/* Sign, 5 bits of exponent, 10 of fraction, of what a float has. */
static void make_f16(unsigned char *to, size_t bytes)
{
    make_cut(to, bytes, 4, 2);
    for (size_t at = 0; at + 2 <= bytes; at += 2) {
        uint16_t b;
        memcpy(&b, to + at, sizeof b);
        b = (uint16_t)((b & 0x8000) | (((b >> 7 & 0xff) - 112) & 0x1f) << 10 | (b & 0x7f) << 3);
        memcpy(to + at, &b, sizeof b);
    }
}

static void make_zero(unsigned char *to, size_t bytes)
{
    memset(to, 0, bytes);
}

static const struct {
    const char *name;
    unsigned width;
    void (*make)(unsigned char *to, size_t bytes);
} types[] = {{"f64", 8, make_f64}, {"f32", 4, make_f32}, {"bf16", 2, make_bf16}, {"f16", 2, make_f16},
             {"f8", 1, make_f8},   {"i64", 8, make_i64}, {"i32", 4, make_i32},   {"i16", 2, make_i16},
             {"i8", 1, make_bytes}, {"f32 of zero", 4, make_zero}};

/* A MiB of them, again and again, with their places in between, so that no two are alike. */
static void fill(unsigned type, size_t from, size_t bytes)
{
    size_t first = bytes < MIB ? bytes : MIB;
    memset(want.numbers, GUARD, room);
    types[type].make(want.numbers + from, first);
    for (size_t at = first; at < bytes; at += first)
        memcpy(want.numbers + from + at, want.numbers + from, bytes - at < first ? bytes - at : first);
    for (size_t at = MARK_BYTES; types[type].make != make_zero && at + sizeof at <= bytes; at += MARK_BYTES)
        memcpy(want.numbers + from + at, &at, sizeof at);
}

static void every_type_is_exact(void **state)
{
    (void)state;
    for (unsigned t = 0; t < sizeof types / sizeof types[0]; t++) {
        unsigned width = types[t].width;
        size_t count = large / width;
        fill(t, 0, count * width);
        for (unsigned kind = 0; kind < KINDS; kind++)
            if (kinds[kind].width == width) /* as chunks are */
                there_and_back(width, kinds[kind].cell, count, MIB / width, 0, 0);
        there_and_back(width, planes_cell(width), count, SIZE_MAX, 0, 0);
        fill(t, 1, (count - 3) * width);
        there_and_back(width, planes_cell(width), count - 3, MIB / width, 1, 0);
        there_and_back(width, planes_cell(width), count - 3, SIZE_MAX, 1, 16);
        printf("# %s: exact, %zu MiB, as chunks and in one piece, aligned and not\n", types[t].name, large / MIB);
    }
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    assert_int_equal(planes_cuda_split(device.numbers, 64, 3, 64, device.planes, NULL, stream), cudaErrorInvalidValue);
    assert_int_equal(planes_cuda_split(device.numbers, 64, 0, 64, device.planes, NULL, stream), cudaErrorInvalidValue);
    assert_int_equal(planes_cuda_merge(device.planes, 64, 16, 64, device.numbers, stream), cudaErrorInvalidValue);
    assert_int_equal(planes_cuda_split(device.numbers, 64, 4, 0, device.planes, NULL, stream), cudaErrorInvalidValue);
    assert_int_equal(planes_cuda_split(device.numbers, SIZE_MAX / 8, 8, 1, device.planes, NULL, stream), cudaErrorInvalidValue);
    CUDA_OK(planes_cuda_split(device.numbers, 0, 4, 64, device.planes, NULL, stream));
    CUDA_OK(cudaStreamSynchronize(stream));
    CUDA_OK(cudaPeekAtLastError());
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_small_count_is_exact), TEST(memory_may_begin_anywhere), TEST(blocks_meet),
        TEST(every_type_is_exact),        TEST(what_cannot_be_is_refused),
    };
    if (argc > 1)
        large = (size_t)strtoul(argv[1], NULL, 10) * MIB;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
