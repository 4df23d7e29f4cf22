/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "tests/unit/cuda_rank.h"

/* What a checkpoint of device memory costs, in numbers: "<what> <value> <unit>", one a line. Run by tests/gpu/run. */

#define MIB ((size_t)1 << 20)
#define ROUNDS 5u
#define BUSY_BLOCKS 1024
#define BUSY_ROUNDS 10000000 /* a kernel for longer than a record takes */

#ifdef HAVE_BUSY
int busy_launch(float *out, int blocks, int rounds, cudaStream_t stream);
#endif

static struct cuda_rank rank;
static size_t bytes;

static double gb_per_s(size_t moved, uint64_t ns)
{
    return ns ? (double)moved / (double)ns : 0;
}

/* What one copy can do at best. */
static void bandwidth(void)
{
    struct cuda_region *r = &rank.regions[0];
    cudaStream_t s = rank.streams[0];
    void *pinned;
    CUDA_OK(cudaMallocHost(&pinned, bytes));
    memset(pinned, 1, bytes);
    const struct {
        const char *name;
        void *to, *from;
    } ways[] = {{"d2h_pinned", pinned, r->at}, {"h2d_pinned", r->stock, pinned}, {"d2d", r->stock, r->at}};
    for (unsigned w = 0; w < 3; w++) {
        uint64_t best = UINT64_MAX;
        for (unsigned i = 0; i < ROUNDS; i++) {
            uint64_t begin = clock_mono_ns();
            CUDA_OK(cudaMemcpyAsync(ways[w].to, ways[w].from, bytes, cudaMemcpyDefault, s));
            CUDA_OK(cudaStreamSynchronize(s));
            uint64_t took = clock_mono_ns() - begin;
            best = took < best ? took : best;
        }
        printf("%s %.2f GB/s\n", ways[w].name, gb_per_s(bytes, best));
    }
    CUDA_OK(cudaFreeHost(pinned));
}

struct cost {
    uint64_t stall_ns, end_ns;
};

/* The best of some records, each right to the byte; the program's own work is over when it begins. */
static struct cost record(enum tide_copy copy, uint64_t *cut)
{
    struct cost best = {UINT64_MAX, UINT64_MAX};
    cuda_ways(&rank, copy);
    for (unsigned i = 0; i < ROUNDS; i++) {
        ++*cut;
        assert_int_equal(tide_before_update(rank.tide, rank.streams[0]), TIDE_OK);
        cuda_update(&rank, *cut);
        cuda_finish_streams(&rank);
        uint64_t begin = clock_mono_ns();
        cuda_armed_step(&rank, *cut, *cut, *cut % 2);
        uint64_t stall = clock_mono_ns() - begin;
        assert_int_equal(cuda_recorded(&rank, *cut), RECORD_DONE);
        uint64_t end = clock_mono_ns() - begin;
        assert_int_equal(cuda_wrong(&rank, *cut % 2, *cut), 0);
        assert_int_equal(cuda_way(&rank, "weights"), copy);
        best.stall_ns = stall < best.stall_ns ? stall : best.stall_ns;
        best.end_ns = end < best.end_ns ? end : best.end_ns;
    }
    return best;
}

static void records(void)
{
    static const struct {
        const char *name;
        enum tide_copy copy;
    } ways[] = {{"sync", TIDE_COPY_SYNC}, {"slab", TIDE_COPY_SLAB}, {"lazy", TIDE_COPY_LAZY}};
    uint64_t cut = 0, begin = clock_mono_ns();
    /* The first into each slot pins it. */
    for (unsigned i = 0; i < 2; i++) {
        cut++;
        cuda_update(&rank, cut);
        cuda_armed_step(&rank, cut, cut, cut % 2);
        assert_int_equal(cuda_recorded(&rank, cut), RECORD_DONE);
    }
    printf("first_two_records %.1f ms\n", (double)(clock_mono_ns() - begin) / 1e6);
    if (rank.step.page->record_detail[0])
        printf("# note: %s\n", rank.step.page->record_detail);
    for (unsigned w = 0; w < 3; w++) {
        struct cost c = record(ways[w].copy, &cut);
        printf("%s_stall %.1f us\n", ways[w].name, (double)c.stall_ns / 1e3);
        printf("%s_record %.2f GB/s\n", ways[w].name, gb_per_s(bytes, c.end_ns));
    }
}

#ifdef HAVE_BUSY
static uint64_t busy_ns(int with_record, uint64_t cut)
{
    uint64_t begin = clock_mono_ns();
    if (with_record)
        cuda_armed_step(&rank, cut, cut, cut % 2);
    CUDA_OK((cudaError_t)busy_launch((float *)rank.regions[0].stock, BUSY_BLOCKS, BUSY_ROUNDS, rank.streams[0]));
    CUDA_OK(cudaStreamSynchronize(rank.streams[0]));
    return clock_mono_ns() - begin;
}

/* 1: a record costs a computation nothing; 0: they go one behind the other. */
static void overlap(void)
{
    uint64_t alone = UINT64_MAX, both = UINT64_MAX, cut = 1000, record_ns = UINT64_MAX;
    cuda_ways(&rank, TIDE_COPY_LAZY);
    busy_ns(0, 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t took = busy_ns(0, 0), begin = clock_mono_ns();
        alone = took < alone ? took : alone;
        cut++;
        took = busy_ns(1, cut);
        both = took < both ? took : both;
        assert_int_equal(cuda_recorded(&rank, cut), RECORD_DONE);
        begin = clock_mono_ns();
        cut++;
        cuda_armed_step(&rank, cut, cut, cut % 2);
        assert_int_equal(cuda_recorded(&rank, cut), RECORD_DONE);
        took = clock_mono_ns() - begin;
        record_ns = took < record_ns ? took : record_ns;
    }
    uint64_t least = alone < record_ns ? alone : record_ns;
    printf("busy_alone %.2f ms\nbusy_with_record %.2f ms\n", (double)alone / 1e6, (double)both / 1e6);
    printf("overlap %.3f of 1\n", 1.0 - ((double)both - (double)alone) / (double)least);
}
#endif

static void restore(void)
{
    uint64_t at = 0;
    cuda_update(&rank, 5000);
    cuda_armed_step(&rank, 5000, 5000, 0);
    assert_int_equal(cuda_recorded(&rank, 5000), RECORD_DONE);
    cuda_sum(&rank, 0);
    cuda_leave(&rank);
    fake_next_generation(&rank.step, 4);
    cuda_region(&rank, "weights", 0, bytes);
    cuda_join(&rank);
    rank.step.answers[0] = (struct local_message){.type = LOCAL_RESTORE_FROM, .cut = 5000, .step = 5000, .slot = 0};
    rank.step.answer_count = 1;
    uint64_t begin = clock_mono_ns();
    assert_int_equal(tide_restore(rank.tide, &at), TIDE_OK);
    printf("restore %.2f GB/s\n", gb_per_s(bytes, clock_mono_ns() - begin));
    char *has = mem_alloc(bytes), *want = cuda_state(&rank.regions[0], 5000);
    CUDA_OK(cudaMemcpy(has, rank.regions[0].at, bytes, cudaMemcpyDeviceToHost));
    assert_memory_equal(has, want, bytes);
    mem_free(has);
    mem_free(want);
}

int main(int argc, char **argv)
{
    bytes = (argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 64) * MIB;
    printf("state %zu MiB\n", bytes / MIB);
    fake_start(&rank.step, 3);
    cuda_region(&rank, "weights", 0, bytes);
    cuda_join(&rank);
    assert_int_equal(tide_set_spare(rank.tide, 0, bytes), TIDE_OK);
    bandwidth();
    records();
#ifdef HAVE_BUSY
    overlap();
#endif
    restore();
    cuda_leave(&rank);
    fake_stop(&rank.step);
    return 0;
}
