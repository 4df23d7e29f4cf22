/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/planes_emulated.h"

/* What the threads of ckpt/stage/device_cuda/planes.cu do, on the host: the same bytes as the host's planes, and nothing else is
 * touched. That the GPU does the same, tests/gpu/run shows. */

#define GUARD 0xa5
#define SHIFTS 16u
#define MARGIN 32u

static const struct {
    unsigned width, cell;
} kinds[] = {{1, 16}, {2, 8}, {2, 16}, {4, 4}, {4, 8}, {4, 16}, {8, 4}, {8, 8}, {8, 16}};

#define KINDS (sizeof kinds / sizeof kinds[0])

struct room {
    unsigned char *numbers, *planes, *back, *want;
    uint64_t *seen, *want_seen;
    size_t bytes;
    uint64_t counters;
};

static struct room room_of(size_t bytes, uint64_t counters)
{
    struct room r = {.bytes = bytes + MARGIN, .counters = counters};
    r.numbers = mem_alloc(r.bytes);
    r.planes = mem_alloc(r.bytes);
    r.back = mem_alloc(r.bytes);
    r.want = mem_alloc(r.bytes);
    r.seen = mem_alloc((counters + 1) * sizeof *r.seen);
    r.want_seen = mem_alloc((counters + 1) * sizeof *r.seen);
    memset(r.planes, GUARD, r.bytes);
    memset(r.back, GUARD, r.bytes);
    memset(r.want, GUARD, r.bytes);
    return r;
}

static void room_release(struct room *r)
{
    mem_free(r->numbers);
    mem_free(r->planes);
    mem_free(r->back);
    mem_free(r->want);
    mem_free(r->seen);
    mem_free(r->want_seen);
}

static struct planes_job job_of(unsigned char *numbers, unsigned char *planes, uint64_t count, uint64_t piece, uint64_t *seen,
                                unsigned kind)
{
    struct planes_job job = {.numbers = numbers, .planes = planes, .count = count, .piece = piece, .seen = seen};
    planes_share(&job, kinds[kind].width, kinds[kind].cell);
    return job;
}

/* Apart, counted, apart without counting, and together again, each at another place in memory. */
static void there_and_back(struct rng *rng, unsigned kind, uint64_t count, uint64_t piece, size_t from, size_t to)
{
    unsigned width = kinds[kind].width, cell = kinds[kind].cell;
    uint64_t counters = planes_pieces(count, piece) * width * PLANES_VALUES;
    size_t bytes = count * width;
    struct room r = room_of(bytes, counters);
    planes_fill(rng, r.numbers, r.bytes);
    expected_planes(r.numbers + from, count, piece, width, r.want + to, r.want_seen);
    struct planes_job counted = job_of(r.numbers + from, r.planes + to, count, piece, r.seen, kind);
    emulated_launch(&counted, width, cell, 0);
    assert_memory_equal(r.planes, r.want, r.bytes);
    assert_memory_equal(r.seen, r.want_seen, (counters + 1) * sizeof *r.seen);
    memset(r.planes, GUARD, r.bytes);
    struct planes_job plain = job_of(r.numbers + from, r.planes + to, count, piece, NULL, kind);
    emulated_launch(&plain, width, cell, 0);
    assert_memory_equal(r.planes, r.want, r.bytes);
    struct planes_job back = job_of(r.back + from, r.planes + to, count, piece, NULL, kind);
    emulated_launch(&back, width, cell, 1);
    assert_memory_equal(r.back + from, r.numbers + from, bytes);
    memset(r.back + from, GUARD, bytes);
    for (size_t i = 0; i < r.bytes; i++)
        assert_int_equal(r.back[i], GUARD);
    room_release(&r);
}

static void every_small_count_is_exact(void **state)
{
    struct rng rng = {.state = 5};
    (void)state;
    for (unsigned kind = 0; kind < KINDS; kind++)
        for (uint64_t count = 0; count <= 200; count++)
            there_and_back(&rng, kind, count, 1 + rng_below(&rng, count + 3), 0, 0);
}

static void memory_may_begin_anywhere(void **state)
{
    struct rng rng = {.state = 6};
    (void)state;
    for (unsigned kind = 0; kind < KINDS; kind++)
        for (size_t shift = 0; shift < SHIFTS; shift++) {
            there_and_back(&rng, kind, 320, 320, shift, 0);
            there_and_back(&rng, kind, 320, 160, 0, shift);
            there_and_back(&rng, kind, 337, 160, shift, rng_below(&rng, SHIFTS));
        }
}

/* Around what a block takes at once, and in all its rounds. */
static void blocks_meet(void **state)
{
    struct rng rng = {.state = 7};
    (void)state;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        unsigned width = kinds[kind].width, cell = kinds[kind].cell;
        uint64_t once = (uint64_t)PLANES_THREADS * planes_ahead(width, cell) * cell, all = once * PLANES_ROUNDS_COUNTED;
        for (int d = -1; d <= 1; d++) {
            there_and_back(&rng, kind, once + (uint64_t)((int)cell * d), UINT64_MAX, 0, 0);
            there_and_back(&rng, kind, all + (uint64_t)((int)cell * d), UINT64_MAX, 0, 0);
        }
        there_and_back(&rng, kind, 2 * all + 3 * once + cell, UINT64_MAX, 0, 0);
        there_and_back(&rng, kind, 2 * once + 5, once + cell, 0, 0);
    }
}

/* Chunks as they are stored, the last one short. */
static void chunks_are_pieces(void **state)
{
    struct rng rng = {.state = 8};
    (void)state;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        uint64_t chunk = ((uint64_t)1 << 20) / kinds[kind].width;
        there_and_back(&rng, kind, chunk + 64 / kinds[kind].width * 5, chunk, 0, 0);
    }
}

/* What is aligned goes by cells, but for less than one: else all would be right and slow. */
static void what_is_aligned_goes_fast(void **state)
{
    _Alignas(PLANES_LOAD) static unsigned char at[64];
    (void)state;
    for (unsigned kind = 0; kind < KINDS; kind++) {
        unsigned width = kinds[kind].width, cell = kinds[kind].cell;
        struct planes_job job = job_of(at, at + 16, 4096, 1024, NULL, kind);
        assert_int_equal(planes_place(&job, job.blocks, width, cell).cells, 1024 / cell);
        job.numbers++;
        assert_int_equal(planes_place(&job, 0, width, cell).cells, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_small_count_is_exact), cmocka_unit_test(memory_may_begin_anywhere),
        cmocka_unit_test(blocks_meet),                cmocka_unit_test(chunks_are_pieces),
        cmocka_unit_test(what_is_aligned_goes_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
