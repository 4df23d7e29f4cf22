/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "ckpt/format/planes.h"
#include "ckpt/stage/device_cuda/planes.h"
#include "ckpt/stage/device_cuda/planes_thread.h"
#include "tests/unit/floats.h"

/* How fast planes are made on a GPU, beside a copy of the same bytes within it: "<what> <value> <unit>", one a line. A GB/s is of numbers
 * read, as much again is written. Run by tests/gpu/run, behind unit/test_cuda_planes, which shows that they are right. */

#define MIB ((size_t)1 << 20)
#define IN_A_ROW 10u             /* launches that are timed together, */
#define IN_A_ROW_BYTES (16 * MIB) /* of so many bytes or more */
#define ROUNDS 3u
#define CUDA_OK(call) assert_int_equal((int)(call), (int)cudaSuccess)

enum what { COPY, SPLIT, COUNT, MERGE, SPLIT_ODD, WHATS };

static const char *const whats[WHATS] = {"copy", "split", "split_and_count", "merge", "split_unaligned"};
static const struct {
    const char *type;
    unsigned width, cell;
} kinds[] = {{"f8", 1, 16},   {"bf16", 2, 8}, {"f32", 4, 4},  {"i64", 8, 4}, {"bf16", 2, 16},
             {"f32", 4, 8}, {"f32", 4, 16}, {"i64", 8, 8}, {"i64", 8, 16}};

static unsigned char *numbers, *planes;
static uint64_t *seen;
static size_t bytes;
static cudaStream_t stream;

static cudaError_t put(enum what what, unsigned kind)
{
    unsigned width = kinds[kind].width, cell = kinds[kind].cell;
    size_t count = bytes / width, piece = MIB / width;
    switch (what) {
    case SPLIT:
    case COUNT:
        return planes_cuda_split_by(cell, numbers, count, width, piece, planes, what == COUNT ? seen : NULL, stream);
    case MERGE:
        return planes_cuda_merge_by(cell, planes, count, width, piece, numbers, stream);
    case SPLIT_ODD:
        return planes_cuda_split_by(cell, numbers + 1, count - 1, width, piece, planes, NULL, stream);
    default:
        return cudaMemcpyAsync(planes, numbers, bytes, cudaMemcpyDeviceToDevice, stream);
    }
}

/* The best of some rounds; the first of all is not timed. */
static double gb_per_s(enum what what, unsigned kind)
{
    uint64_t best = UINT64_MAX;
    unsigned in_a_row = bytes < IN_A_ROW_BYTES ? 1 : IN_A_ROW;
    CUDA_OK(put(what, kind));
    CUDA_OK(cudaStreamSynchronize(stream));
    for (unsigned r = 0; r < ROUNDS; r++) {
        uint64_t begin = clock_mono_ns();
        for (unsigned i = 0; i < in_a_row; i++)
            CUDA_OK(put(what, kind));
        CUDA_OK(cudaStreamSynchronize(stream));
        uint64_t took = clock_mono_ns() - begin;
        best = took < best ? took : best;
    }
    return best > 0 ? (double)bytes * in_a_row / (double)best : 0;
}

/* Gaussian numbers of that width, so that what is counted is as uneven as it is in earnest: a MiB, again and again. */
static void fill(unsigned width, unsigned char *mib)
{
    test_floats(mib, MIB, width == 2 ? TIDE_BF16 : TIDE_F32, 3);
    for (size_t at = 0; at < bytes; at += MIB)
        CUDA_OK(cudaMemcpyAsync(numbers + at, at ? numbers : mib, MIB, cudaMemcpyDefault, stream));
    CUDA_OK(cudaStreamSynchronize(stream));
}

static void told(enum what what, unsigned kind, double speed, double copy)
{
    char name[96], cell[16] = "";
    if (kinds[kind].cell != planes_cell(kinds[kind].width))
        snprintf(cell, sizeof cell, "_cell_%u", kinds[kind].cell);
    snprintf(name, sizeof name, "planes_%s_%s%s_%zu_mib", whats[what], kinds[kind].type, cell, bytes / MIB);
    printf("%s %.1f GB/s # %.2f of a copy\n", name, speed, copy > 0 ? speed / copy : 0);
    fflush(stdout);
}

static void device(unsigned char *mib)
{
    double copy = 0;
    for (unsigned kind = 0; kind < sizeof kinds / sizeof kinds[0]; kind++) {
        int own = kinds[kind].cell == planes_cell(kinds[kind].width);
        fill(kinds[kind].width, mib);
        copy = gb_per_s(COPY, kind); /* each time anew: the clock of a GPU wanders */
        if (kind == 0)
            printf("planes_copy_%zu_mib %.1f GB/s\n", bytes / MIB, copy);
        for (enum what what = SPLIT; what < (own ? WHATS : SPLIT_ODD); what++)
            told(what, kind, gb_per_s(what, kind), copy);
    }
}

/* One processor, the way the encoder does it. */
static void on_host(unsigned char *mib)
{
    static unsigned char to[MIB];
    unsigned char *at[PLANES_MAX];
    for (unsigned width = 2; width <= PLANES_MAX; width *= 2) {
        uint64_t best = UINT64_MAX;
        for (unsigned p = 0; p < width; p++)
            at[p] = to + p * (MIB / width);
        for (unsigned r = 0; r < 20; r++) {
            uint64_t begin = clock_mono_ns();
            planes_split(mib, MIB / width, width, at);
            uint64_t took = clock_mono_ns() - begin;
            best = took < best ? took : best;
        }
        printf("planes_host_width_%u %.1f GB/s\n", width, (double)MIB / (double)best);
    }
}

int main(int argc, char **argv)
{
    unsigned char *mib = malloc(MIB);
    assert_true(mib != NULL);
    CUDA_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    for (int i = 1; i < argc; i++) {
        bytes = (size_t)strtoul(argv[i], NULL, 10) * MIB;
        assert_true(bytes > 0);
        CUDA_OK(cudaMalloc((void **)&numbers, bytes));
        CUDA_OK(cudaMalloc((void **)&planes, bytes));
        CUDA_OK(cudaMalloc((void **)&seen, bytes / MIB * PLANES_MAX * PLANES_VALUES * sizeof *seen));
        CUDA_OK(cudaMemsetAsync(seen, 0, bytes / MIB * PLANES_MAX * PLANES_VALUES * sizeof *seen, stream));
        device(mib);
        CUDA_OK(cudaFree(numbers));
        CUDA_OK(cudaFree(planes));
        CUDA_OK(cudaFree(seen));
    }
    on_host(mib);
    free(mib);
    return 0;
}
