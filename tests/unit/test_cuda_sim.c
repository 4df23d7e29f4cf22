/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "tests/lib/sim_cuda/sim_cuda.h"
#include "tests/unit/cuda_rank.h"

/* What only a simulator can show: fences that are missing, GPUs that fail, and what was asked of CUDA and how often. */

#define MIB ((size_t)1 << 20)
#define FREE_MS 100u /* "does not wait", on a machine with much else to do; what would be waited for takes 8 times as long  \
                      */

static struct cuda_rank rank;

static int setup(void **state)
{
    (void)state;
    memset(&rank, 0, sizeof rank);
    sim_reset(2, 512 * MIB);
    fake_start(&rank.step, 3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sim_hold(0);
    sim_heal();
    cuda_leave(&rank);
    fake_stop(&rank.step);
    return 0;
}

static void one_region(size_t bytes, enum tide_copy copy)
{
    cuda_region(&rank, "weights", 0, bytes);
    cuda_join(&rank);
    cuda_ways(&rank, copy);
}

static void fence(void)
{
    assert_int_equal(tide_before_update(rank.tide, rank.streams[0]), TIDE_OK);
}

/* ---- fences ---- */

/* A cut at step 1, whose bytes move as late as CUDA allows, while the program goes on to step 2. */
static unsigned wrong_after_going_on(int with_fence)
{
    fence(); /* it does know the call */
    cuda_update(&rank, 1);
    sim_hold(1);
    cuda_armed_step(&rank, 1, 1, 0);
    if (with_fence)
        fence();
    cuda_update(&rank, 2);
    cuda_finish_streams(&rank);
    sim_hold(0);
    assert_int_equal(cuda_recorded(&rank, 1), RECORD_DONE);
    return cuda_wrong(&rank, 0, 1);
}

static void a_lazy_cut_with_its_fence_is_right(void **state)
{
    (void)state;
    one_region(3 * MIB, TIDE_COPY_LAZY);
    assert_int_equal(wrong_after_going_on(1), 0);
    assert_int_equal(cuda_way(&rank, "weights"), TIDE_COPY_LAZY);
}

/* The test of the test: what the fence is for does happen without it. */
static void a_lazy_cut_without_its_fence_is_found_to_be_wrong(void **state)
{
    (void)state;
    one_region(3 * MIB, TIDE_COPY_LAZY);
    assert_int_equal(wrong_after_going_on(0), 1);
}

static void a_cut_by_way_of_spare_memory_needs_no_fence(void **state)
{
    (void)state;
    one_region(3 * MIB, TIDE_COPY_SLAB);
    assert_int_equal(tide_set_spare(rank.tide, 0, 4 * MIB), TIDE_OK);
    assert_int_equal(wrong_after_going_on(0), 0);
    assert_int_equal(cuda_way(&rank, "weights"), TIDE_COPY_SLAB);
}

/* … but that the program has named its streams: the default stream does not hold up one that was made not to be. */
static void streams_that_are_not_named_are_found_to_be_wrong(void **state)
{
    (void)state;
    one_region(3 * MIB, TIDE_COPY_SLAB);
    assert_int_equal(tide_set_spare(rank.tide, 0, 4 * MIB), TIDE_OK);
    assert_int_equal(tide_set_streams(rank.tide, 0, NULL, 0), TIDE_OK);
    assert_int_equal(wrong_after_going_on(0), 1);
}

static void the_default_stream_holds_up_those_that_follow_it(void **state)
{
    (void)state;
    CUDA_OK(cudaStreamCreate(&rank.streams[0]));
    one_region(3 * MIB, TIDE_COPY_SLAB);
    assert_int_equal(tide_set_spare(rank.tide, 0, 4 * MIB), TIDE_OK);
    assert_int_equal(tide_set_streams(rank.tide, 0, NULL, 0), TIDE_OK);
    assert_int_equal(wrong_after_going_on(0), 0);
}

/* The program never waits for its own work before it steps: the copy goes behind it. */
static void work_before_the_step_is_in_the_cut(void **state)
{
    static const enum tide_copy ways[] = {TIDE_COPY_SYNC, TIDE_COPY_LAZY, TIDE_COPY_SLAB};
    (void)state;
    one_region(3 * MIB, TIDE_COPY_SYNC);
    assert_int_equal(tide_set_spare(rank.tide, 0, 4 * MIB), TIDE_OK);
    for (unsigned i = 0; i < 3; i++) {
        cuda_ways(&rank, ways[i]);
        fence();
        cuda_update(&rank, i + 1);
        cuda_armed_step(&rank, i + 1, i + 1, i % 2);
        assert_int_equal(cuda_recorded(&rank, i + 1), RECORD_DONE);
        assert_int_equal(cuda_wrong(&rank, i % 2, i + 1), 0);
        assert_int_equal(cuda_way(&rank, "weights"), ways[i]);
    }
}

static void lazy_is_not_believed_of_a_program_without_fences(void **state)
{
    (void)state;
    one_region(MIB, TIDE_COPY_LAZY);
    cuda_update(&rank, 1);
    cuda_armed_step(&rank, 1, 1, 0);
    assert_int_equal(cuda_recorded(&rank, 1), RECORD_DONE);
    assert_int_equal(cuda_way(&rank, "weights"), TIDE_COPY_SYNC);
    assert_non_null(strstr(rank.step.page->record_detail, "never called tide_before_update"));
}

static void a_fence_is_not_put_into_a_graph(void **state)
{
    cudaGraph_t graph;
    (void)state;
    one_region(MIB, TIDE_COPY_LAZY);
    fence();
    cuda_update(&rank, 1);
    sim_hold(1);
    cuda_armed_step(&rank, 1, 1, 0);
    CUDA_OK(cudaStreamBeginCapture(rank.streams[0], cudaStreamCaptureModeRelaxed));
    assert_int_equal(tide_before_update(rank.tide, rank.streams[0]), TIDE_E_STATE);
    assert_non_null(strstr(tide_error_text(rank.tide), "capturing a graph"));
    CUDA_OK(cudaStreamEndCapture(rank.streams[0], &graph));
    sim_hold(0);
    assert_int_equal(cuda_recorded(&rank, 1), RECORD_DONE);
    assert_int_equal(sim_counts().captures_broken, 0);
}

/* ---- what is asked of CUDA ---- */

static uint64_t stall_ms(enum tide_copy copy, uint64_t cut)
{
    cuda_ways(&rank, copy);
    fence();
    cuda_update(&rank, cut);
    cuda_finish_streams(&rank);
    cuda_armed_step(&rank, cut, cut, cut % 2);
    assert_int_equal(cuda_recorded(&rank, cut), RECORD_DONE);
    assert_int_equal(cuda_wrong(&rank, cut % 2, cut), 0);
    return rank.step.page->record_stall_ns / NS_PER_MS;
}

static void the_program_does_not_wait_for_bytes(void **state)
{
    (void)state;
    one_region(20 * MIB, TIDE_COPY_SYNC);
    assert_int_equal(tide_set_spare(rank.tide, 0, 20 * MIB), TIDE_OK);
    stall_ms(TIDE_COPY_SYNC, 1); /* both slots are there and pinned */
    stall_ms(TIDE_COPY_SYNC, 2);
    sim_speed(SIM_D2H, 25 * MIB, 0); /* so that 20 MiB take 800 ms */
    assert_true(stall_ms(TIDE_COPY_SYNC, 3) >= 799);
    assert_true(stall_ms(TIDE_COPY_LAZY, 4) < FREE_MS);
    assert_true(stall_ms(TIDE_COPY_SLAB, 5) < FREE_MS);
    /* Nor for its own work that is under way. */
    sim_speed(SIM_D2H, 0, 0);
    cuda_ways(&rank, TIDE_COPY_LAZY);
    sim_work(rank.streams[0], 800 * NS_PER_MS);
    uint64_t begin = clock_mono_ns();
    cuda_armed_step(&rank, 6, 6, 0);
    fence();
    assert_true(clock_mono_ns() - begin < FREE_MS * NS_PER_MS);
    assert_int_equal(cuda_recorded(&rank, 6), RECORD_DONE);
}

static void nothing_waits_for_the_whole_device(void **state)
{
    (void)state;
    cuda_region(&rank, "weights", 0, 40 * MIB);
    cuda_region(&rank, "moments", 1, 40 * MIB);
    cuda_join(&rank);
    assert_int_equal(tide_set_spare(rank.tide, 0, 40 * MIB), TIDE_OK);
    cuda_update(&rank, 1);
    cuda_finish_streams(&rank);
    struct sim_counts before = sim_counts();
    for (uint64_t cut = 1; cut <= 4; cut++) {
        cuda_armed_step(&rank, cut, cut, cut % 2);
        assert_int_equal(cuda_recorded(&rank, cut), RECORD_DONE);
    }
    struct sim_counts after = sim_counts();
    assert_int_equal(after.device_syncs, 0);
    assert_int_equal(after.stream_syncs, before.stream_syncs);
    assert_int_equal(after.pageable, before.pageable);
    assert_int_equal(after.frees, before.frees);
    assert_int_equal(after.mallocs, before.mallocs);
    /* In pieces of 16 MiB, of which the last is short. */
    assert_int_equal(after.copies[SIM_D2H] - before.copies[SIM_D2H], 4 * 2 * 3);
    assert_int_equal(after.bytes[SIM_D2H] - before.bytes[SIM_D2H], 4 * 2 * 40 * MIB);
    assert_int_equal(after.copies[SIM_D2D] - before.copies[SIM_D2D], 4);
    /* Both slots are pinned once, however many cuts there are. */
    assert_int_equal(after.registers - before.registers, 2);
}

static void everything_is_given_back(void **state)
{
    (void)state;
    one_region(MIB, TIDE_COPY_AUTO);
    assert_int_equal(tide_set_spare(rank.tide, 0, 4 * MIB), TIDE_OK);
    cuda_update(&rank, 1);
    cuda_armed_step(&rank, 1, 1, 0);
    assert_int_equal(cuda_recorded(&rank, 1), RECORD_DONE);
    assert_true(sim_counts().pinned_bytes > 0);
    cuda_leave(&rank);
    struct sim_counts counts = sim_counts();
    assert_int_equal(counts.pinned_bytes, 0);
    assert_int_equal(counts.mallocs, counts.frees);
}

static void leaving_waits_for_a_cut_on_its_way(void **state)
{
    (void)state;
    one_region(20 * MIB, TIDE_COPY_LAZY);
    fence();
    cuda_update(&rank, 1);
    sim_speed(SIM_D2H, 100 * MIB, 0);
    cuda_armed_step(&rank, 1, 1, 0);
    tide_finalize(rank.tide);
    rank.tide = NULL;
    assert_int_equal(rank.step.page->record_result, RECORD_DONE);
    assert_int_equal(cuda_wrong(&rank, 0, 1), 0);
}

/* ---- what is refused ---- */

static void host_memory_that_cannot_be_pinned_is_told(void **state)
{
    (void)state;
    sim_pin_limit(40 * MIB); /* two buffers of 16 MiB, and no slot */
    one_region(40 * MIB, TIDE_COPY_LAZY);
    assert_int_equal(tide_set_spare(rank.tide, 0, 64 * MIB), TIDE_OK);
    assert_true(stall_ms(TIDE_COPY_LAZY, 1) < 10000);
    assert_int_equal(cuda_way(&rank, "weights"), TIDE_COPY_SYNC);
    assert_non_null(strstr(rank.step.page->record_detail, "RLIMIT_MEMLOCK"));
    /* What was copied aside still needs no wait. */
    stall_ms(TIDE_COPY_SLAB, 2);
    assert_int_equal(cuda_way(&rank, "weights"), TIDE_COPY_SLAB);
    assert_non_null(strstr(rank.step.page->record_detail, "RLIMIT_MEMLOCK"));
    assert_true(sim_counts().largest_copy <= 40 * MIB);
    sim_pin_limit(0);
    cuda_leave(&rank);
    one_region(40 * MIB, TIDE_COPY_SYNC);
    cuda_armed_step(&rank, 3, 3, 0);
    assert_int_equal(cuda_recorded(&rank, 3), RECORD_FAILED);
    assert_int_equal(rank.step.page->record_status, TIDE_E_NOMEM);
}

static void spare_memory_has_an_end(void **state)
{
    (void)state;
    cuda_region(&rank, "weights", 0, 3 * MIB);
    cuda_region(&rank, "moments", 0, 3 * MIB);
    cuda_join(&rank);
    assert_int_equal(tide_set_spare(rank.tide, 0, 600 * MIB), TIDE_E_NOMEM);
    assert_non_null(strstr(tide_error_text(rank.tide), "cudaErrorMemoryAllocation"));
    assert_int_equal(tide_set_spare(rank.tide, 0, 5 * MIB), TIDE_OK);
    assert_true(stall_ms(TIDE_COPY_AUTO, 1) < 10000);
    assert_int_equal(cuda_way(&rank, "weights"), TIDE_COPY_SLAB);
    assert_int_equal(cuda_way(&rank, "moments"), TIDE_COPY_SYNC);
    assert_non_null(strstr(rank.step.page->record_detail, "\"moments\""));
    assert_int_equal(tide_set_spare(rank.tide, 7, MIB), TIDE_E_UNAVAILABLE);
    assert_int_equal(tide_set_spare(rank.tide, -1, MIB), TIDE_E_LIMIT);
}

static void a_machine_without_a_driver_says_so(void **state)
{
    static char any[10];
    (void)state;
    assert_int_equal(tide_init(&rank.tide, NULL), TIDE_OK);
    sim_driver(cudaErrorInsufficientDriver);
    assert_int_equal(cuda_register(&rank, "weights", any, sizeof any), TIDE_E_UNAVAILABLE);
    assert_non_null(strstr(tide_error_text(rank.tide), "cudaErrorInsufficientDriver"));
    sim_driver(cudaSuccess);
}

/* ---- GPUs that fail ---- */

static void an_ecc_error_fails_the_cut_by_name(void **state)
{
    static const enum tide_copy ways[] = {TIDE_COPY_SYNC, TIDE_COPY_LAZY};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        sim_reset(2, 512 * MIB);
        one_region(20 * MIB, ways[i]);
        fence();
        cuda_update(&rank, 1);
        cuda_finish_streams(&rank);
        sim_fault(0, cudaErrorECCUncorrectable, 1);
        cuda_armed_step(&rank, 1 + i, 1, 0);
        assert_int_equal(cuda_recorded(&rank, 1 + i), RECORD_FAILED);
        assert_int_equal(rank.step.page->record_status, TIDE_E_UNAVAILABLE);
        assert_non_null(strstr(rank.step.page->record_detail, "GPU 0: "));
        assert_non_null(strstr(rank.step.page->record_detail, "cudaErrorECCUncorrectable"));
        /* The program goes on, and is told by CUDA itself. */
        assert_int_equal(tide_step(rank.tide, 2), TIDE_OK);
        tide_finalize(rank.tide);
        rank.tide = NULL;
        rank.count = 0;
        rank.streams[0] = NULL;
    }
    sim_reset(2, 512 * MIB);
}

static void a_copy_that_hangs_has_a_deadline(void **state)
{
    (void)state;
    rank.deadline_ms = 150;
    one_region(20 * MIB, TIDE_COPY_LAZY);
    fence();
    cuda_update(&rank, 1);
    cuda_finish_streams(&rank);
    sim_hang(0, 1);
    uint64_t begin = clock_mono_ns();
    cuda_armed_step(&rank, 1, 1, 0);
    assert_int_equal(cuda_recorded(&rank, 1), RECORD_FAILED);
    assert_true(clock_mono_ns() - begin >= 150 * NS_PER_MS);
    assert_int_equal(rank.step.page->record_status, TIDE_E_TIMEOUT);
    assert_non_null(strstr(rank.step.page->record_detail, "hangs"));
    /* It may still write where it was told to: no other record goes there before it has ended. */
    cuda_armed_step(&rank, 2, 2, 0);
    assert_int_equal(cuda_recorded(&rank, 2), RECORD_FAILED);
    assert_int_equal(rank.step.page->record_status, TIDE_E_STATE);
    sim_heal();
    fence();
    cuda_update(&rank, 3);
    cuda_armed_step(&rank, 3, 3, 0);
    assert_int_equal(cuda_recorded(&rank, 3), RECORD_DONE);
    assert_int_equal(cuda_wrong(&rank, 0, 3), 0);
}

static void a_gpu_that_fails_in_a_restore_is_not_blamed_on_the_checkpoint(void **state)
{
    uint64_t at = 0;
    (void)state;
    one_region(20 * MIB, TIDE_COPY_AUTO);
    cuda_update(&rank, 6);
    cuda_armed_step(&rank, 5, 6, 0);
    assert_int_equal(cuda_recorded(&rank, 5), RECORD_DONE);
    cuda_sum(&rank, 0);
    cuda_leave(&rank);
    fake_next_generation(&rank.step, 4);
    one_region(20 * MIB, TIDE_COPY_AUTO);
    rank.step.answers[0] = (struct local_message){.type = LOCAL_RESTORE_FROM, .cut = 5, .step = 6, .slot = 0};
    rank.step.answer_count = 1;
    sim_fault(0, cudaErrorIllegalAddress, 2);
    assert_int_equal(tide_restore(rank.tide, &at), TIDE_E_UNAVAILABLE);
    assert_non_null(strstr(tide_error_text(rank.tide), "cudaErrorIllegalAddress"));
    assert_int_equal(rank.step.seen[LOCAL_RESTORE_BAD], 0);
    sim_reset(2, 512 * MIB);
    rank.count = 0;
    rank.streams[0] = NULL;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_lazy_cut_with_its_fence_is_right),
        TEST(a_lazy_cut_without_its_fence_is_found_to_be_wrong),
        TEST(a_cut_by_way_of_spare_memory_needs_no_fence),
        TEST(streams_that_are_not_named_are_found_to_be_wrong),
        TEST(the_default_stream_holds_up_those_that_follow_it),
        TEST(work_before_the_step_is_in_the_cut),
        TEST(lazy_is_not_believed_of_a_program_without_fences),
        TEST(a_fence_is_not_put_into_a_graph),
        TEST(the_program_does_not_wait_for_bytes),
        TEST(nothing_waits_for_the_whole_device),
        TEST(everything_is_given_back),
        TEST(leaving_waits_for_a_cut_on_its_way),
        TEST(host_memory_that_cannot_be_pinned_is_told),
        TEST(spare_memory_has_an_end),
        TEST(a_machine_without_a_driver_says_so),
        TEST(an_ecc_error_fails_the_cut_by_name),
        TEST(a_copy_that_hangs_has_a_deadline),
        TEST(a_gpu_that_fails_in_a_restore_is_not_blamed_on_the_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
