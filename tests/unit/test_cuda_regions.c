/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/cuda_rank.h"

/* What must hold on every machine with CUDA, and on the simulator: tests/gpu/run runs this one on a GPU. */

static struct cuda_rank rank;
static int gpus;

static int setup(void **state)
{
    (void)state;
    memset(&rank, 0, sizeof rank);
    fake_start(&rank.step, 3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cuda_leave(&rank);
    fake_stop(&rank.step);
    return 0;
}

/* Sizes around what copies are cut into, nothing at all, and the second GPU where there is one. */
static void some_regions(void)
{
    static const size_t sizes[] = {1, 0, 4096, 1000003, ((size_t)16 << 20) + 5};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char name[16];
        snprintf(name, sizeof name, "region %u", i);
        cuda_region(&rank, name, gpus > 1 ? (int)(i % 2) : 0, sizes[i]);
    }
    cuda_join(&rank);
}

static void updates_wait(void)
{
    for (int d = 0; d < gpus && d < 2; d++)
        if (rank.streams[d]) {
            CUDA_OK(cudaSetDevice(d));
            assert_int_equal(tide_before_update(rank.tide, rank.streams[d]), TIDE_OK);
        }
    CUDA_OK(cudaSetDevice(0));
}

/* Train on as fast as the streams allow, a cut every third step, each time into the other slot. */
static void train_with_cuts(int fences, uint64_t steps)
{
    uint64_t cut = 0, cut_step = 0;
    for (uint64_t s = 1; s <= steps; s++) {
        if (fences)
            updates_wait();
        cuda_update(&rank, s);
        if (cut_step) {
            assert_int_equal(cuda_recorded(&rank, cut), RECORD_DONE);
            assert_int_equal(cuda_wrong(&rank, cut % 2, cut_step), 0);
            cut_step = 0;
        }
        if (s % 3 != 0) {
            assert_int_equal(tide_step(rank.tide, s), TIDE_OK);
            continue;
        }
        cut_step = s;
        cut++;
        cuda_armed_step(&rank, cut, s, cut % 2);
    }
    assert_true(cut >= 2);
}

static void a_cut_that_is_waited_for_is_exact(void **state)
{
    (void)state;
    some_regions();
    train_with_cuts(0, 7);
    assert_int_equal(cuda_way(&rank, "region 0"), TIDE_COPY_SYNC);
}

static void a_lazy_cut_is_exact_while_training_goes_on(void **state)
{
    (void)state;
    some_regions();
    cuda_ways(&rank, TIDE_COPY_LAZY);
    train_with_cuts(1, 7);
    for (unsigned i = 0; i < rank.count; i++)
        assert_int_equal(cuda_way(&rank, rank.regions[i].name), rank.regions[i].bytes ? TIDE_COPY_LAZY : TIDE_COPY_SYNC);
}

static void a_cut_by_way_of_spare_memory_is_exact_without_fences(void **state)
{
    (void)state;
    some_regions();
    for (int d = 0; d < gpus && d < 2; d++)
        assert_int_equal(tide_set_spare(rank.tide, d, (size_t)64 << 20), TIDE_OK);
    train_with_cuts(0, 7);
    for (unsigned i = 0; i < rank.count; i++)
        assert_int_equal(cuda_way(&rank, rank.regions[i].name), rank.regions[i].bytes ? TIDE_COPY_SLAB : TIDE_COPY_SYNC);
    for (int d = 0; d < gpus && d < 2; d++)
        assert_int_equal(tide_set_spare(rank.tide, d, 0), TIDE_OK);
    cuda_ways(&rank, TIDE_COPY_AUTO);
    cuda_update(&rank, 20);
    cuda_armed_step(&rank, 9, 20, 0);
    assert_int_equal(cuda_recorded(&rank, 9), RECORD_DONE);
    assert_int_equal(cuda_way(&rank, "region 0"), TIDE_COPY_SYNC);
}

static void all_ways_go_together_in_one_cut(void **state)
{
    static const enum tide_copy ways[] = {TIDE_COPY_LAZY, TIDE_COPY_SYNC, TIDE_COPY_SLAB};
    static float on_host[1000] = {1.5f, 2.5f};
    struct slot slot;
    char path[256];
    (void)state;
    some_regions();
    for (unsigned i = 0; i < rank.count; i++)
        assert_int_equal(tide_set_copy(rank.tide, rank.regions[i].name, ways[i % 3]), TIDE_OK);
    for (int d = 0; d < gpus && d < 2; d++)
        assert_int_equal(tide_set_spare(rank.tide, d, (size_t)64 << 20), TIDE_OK);
    train_with_cuts(1, 7);
    for (unsigned i = 0; i < rank.count; i++)
        assert_int_equal(cuda_way(&rank, rank.regions[i].name), rank.regions[i].bytes ? ways[i % 3] : TIDE_COPY_SYNC);
    /* … and host memory with them. */
    assert_int_equal(
        tide_register(rank.tide, &(struct tide_region){.name = "host", .data = on_host, .bytes = sizeof on_host}), TIDE_OK);
    updates_wait();
    cuda_update(&rank, 12);
    cuda_armed_step(&rank, 9, 12, 1);
    assert_int_equal(cuda_recorded(&rank, 9), RECORD_DONE);
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, rank.step.dir, 1u, 1u);
    assert_int_equal(slot_map(path, 0, &slot, NULL), TIDE_OK);
    assert_memory_equal(slot.data + slot.regions[rank.count].offset, on_host, sizeof on_host);
    slot_unmap(&slot);
}

static void a_restart_gives_the_same_bytes(void **state)
{
    uint64_t at = 0;
    (void)state;
    some_regions();
    cuda_update(&rank, 6);
    cuda_armed_step(&rank, 5, 6, 0);
    assert_int_equal(cuda_recorded(&rank, 5), RECORD_DONE);
    cuda_sum(&rank, 0);
    cuda_leave(&rank);
    fake_next_generation(&rank.step, 4);
    some_regions();
    /* Filled by the program a moment before: that must not come out on top. */
    for (unsigned i = 0; i < rank.count; i++)
        if (rank.regions[i].bytes) {
            CUDA_OK(cudaSetDevice(rank.regions[i].device));
            CUDA_OK(cudaMemsetAsync(rank.regions[i].at, 0x55, rank.regions[i].bytes, rank.streams[rank.regions[i].device]));
        }
    CUDA_OK(cudaSetDevice(0));
    rank.step.answers[0] = (struct local_message){.type = LOCAL_RESTORE_FROM, .cut = 5, .step = 6, .slot = 0};
    rank.step.answer_count = 1;
    assert_int_equal(tide_restore(rank.tide, &at), TIDE_OK);
    assert_int_equal(at, 6);
    cuda_finish_streams(&rank);
    for (unsigned i = 0; i < rank.count; i++) {
        char *has = mem_alloc(rank.regions[i].bytes + 1), *want = cuda_state(&rank.regions[i], 6);
        CUDA_OK(cudaMemcpy(has, rank.regions[i].at, rank.regions[i].bytes, cudaMemcpyDeviceToHost));
        assert_memory_equal(has, want, rank.regions[i].bytes);
        mem_free(has);
        mem_free(want);
    }
}

static void refused(const char *name, void *at, size_t bytes, const char *because)
{
    assert_int_equal(cuda_register(&rank, name, at, bytes), TIDE_E_INVALID);
    if (strstr(tide_error_text(rank.tide), because) == NULL || strstr(tide_error_text(rank.tide), name) == NULL)
        fail_msg("%s", tide_error_text(rank.tide));
}

static void memory_that_is_something_else_is_refused_by_name(void **state)
{
    static char mine[100];
    void *pinned = NULL, *pooled = NULL, *gone = NULL, *managed = NULL;
    (void)state;
    cuda_region(&rank, "weights", 0, 8 << 20);
    cuda_join(&rank);
    CUDA_OK(cudaMallocHost(&pinned, 4096));
    CUDA_OK(cudaMalloc(&gone, 64 << 20));
    CUDA_OK(cudaFree(gone));
    refused("mine", mine, sizeof mine, "TIDE_HOST");
    refused("pinned", pinned, 4096, "pinned host memory");
    refused("gone", gone, 64 << 20, "was freed");
    /* From a pool, and managed: these can be. */
    CUDA_OK(cudaMallocAsync(&pooled, 1 << 20, rank.streams[0]));
    assert_int_equal(cuda_register(&rank, "pooled", pooled, 1 << 20), TIDE_OK);
    CUDA_OK(cudaMallocManaged(&managed, 1 << 20, cudaMemAttachGlobal));
    assert_int_equal(cuda_register(&rank, "managed", managed, 1 << 20), TIDE_OK);
    CUDA_OK(cudaMemsetAsync(pooled, 1, 1 << 20, rank.streams[0]));
    CUDA_OK(cudaMemsetAsync(managed, 2, 1 << 20, rank.streams[0]));
    assert_int_equal(tide_set_copy(rank.tide, "managed", TIDE_COPY_LAZY), TIDE_OK);
    assert_int_equal(tide_before_update(rank.tide, rank.streams[0]), TIDE_OK);
    cuda_armed_step(&rank, 1, 1, 0);
    assert_int_equal(cuda_recorded(&rank, 1), RECORD_DONE);
    assert_int_equal(cuda_way(&rank, "managed"), TIDE_COPY_SYNC);
    assert_non_null(strstr(rank.step.page->record_detail, "managed memory"));
    CUDA_OK(cudaFreeAsync(pooled, rank.streams[0]));
    CUDA_OK(cudaFree(managed));
    CUDA_OK(cudaFreeHost(pinned));
}

static void a_capture_is_left_in_peace(void **state)
{
    cudaGraph_t graph = NULL;
    (void)state;
    cuda_region(&rank, "weights", 0, 1 << 20);
    cuda_join(&rank);
    cuda_update(&rank, 1);
    cuda_finish_streams(&rank);
    CUDA_OK(cudaStreamBeginCapture(rank.streams[0], cudaStreamCaptureModeGlobal));
    CUDA_OK(cudaMemsetAsync(rank.regions[0].stock, 0, 100, rank.streams[0]));
    cuda_armed_step(&rank, 1, 1, 0);
    assert_int_equal(cuda_recorded(&rank, 1), RECORD_FAILED);
    assert_int_equal(rank.step.page->record_status, TIDE_E_STATE);
    assert_non_null(strstr(rank.step.page->record_detail, "capturing a graph"));
    CUDA_OK(cudaMemsetAsync(rank.regions[0].stock, 0, 100, rank.streams[0]));
    CUDA_OK(cudaStreamEndCapture(rank.streams[0], &graph));
    if (graph)
        CUDA_OK(cudaGraphDestroy(graph));
    cuda_update(&rank, 2);
    cuda_armed_step(&rank, 2, 2, 0);
    assert_int_equal(cuda_recorded(&rank, 2), RECORD_DONE);
    assert_int_equal(cuda_wrong(&rank, 0, 2), 0);
}

/* The library looks after a lazy copy while the program captures a graph in another stream. */
static void a_capture_during_a_copy_is_left_in_peace(void **state)
{
    cudaGraph_t graph = NULL;
    cudaStream_t other;
    (void)state;
    cuda_region(&rank, "weights", 0, 32 << 20);
    cuda_join(&rank);
    cuda_ways(&rank, TIDE_COPY_LAZY);
    CUDA_OK(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    for (uint64_t s = 1; s <= 5; s++) {
        updates_wait();
        cuda_update(&rank, s);
        cuda_armed_step(&rank, s, s, s % 2);
        CUDA_OK(cudaStreamBeginCapture(other, cudaStreamCaptureModeGlobal));
        CUDA_OK(cudaMemsetAsync(rank.regions[0].stock, 0, 100, other));
        assert_int_equal(cuda_recorded(&rank, s), RECORD_DONE);
        CUDA_OK(cudaStreamEndCapture(other, &graph));
        if (graph)
            CUDA_OK(cudaGraphDestroy(graph));
        assert_int_equal(cuda_wrong(&rank, s % 2, s), 0);
    }
    assert_int_equal(cuda_way(&rank, "weights"), TIDE_COPY_LAZY);
    CUDA_OK(cudaStreamDestroy(other));
}

static void the_program_finds_cuda_as_it_left_it(void **state)
{
    int device = -1, last = gpus > 1 ? 1 : 0;
    static char mine[100];
    (void)state;
    some_regions();
    CUDA_OK(cudaSetDevice(last));
    assert_int_equal(cuda_register(&rank, "mine", mine, sizeof mine), TIDE_E_INVALID);
    cuda_update(&rank, 1);
    CUDA_OK(cudaSetDevice(last));
    cuda_armed_step(&rank, 1, 1, 0);
    assert_int_equal(cuda_recorded(&rank, 1), RECORD_DONE);
    CUDA_OK(cudaGetDevice(&device));
    assert_int_equal(device, last);
    CUDA_OK(cudaPeekAtLastError());
    CUDA_OK(cudaSetDevice(0));
}

/* A region may come late, be bigger than all before, and go. */
static void regions_come_and_go(void **state)
{
    (void)state;
    cuda_region(&rank, "weights", 0, 1 << 20);
    cuda_join(&rank);
    cuda_update(&rank, 1);
    cuda_armed_step(&rank, 1, 1, 0);
    assert_int_equal(cuda_recorded(&rank, 1), RECORD_DONE);
    struct cuda_region *late = cuda_region(&rank, "moments", 0, 24 << 20);
    assert_int_equal(cuda_register(&rank, late->name, late->at, late->bytes), TIDE_OK);
    cuda_update(&rank, 2);
    cuda_armed_step(&rank, 2, 2, 0);
    assert_int_equal(cuda_recorded(&rank, 2), RECORD_DONE);
    assert_int_equal(cuda_wrong(&rank, 0, 2), 0);
    assert_int_equal(tide_unregister(rank.tide, "moments"), TIDE_OK);
    CUDA_OK(cudaFree(late->at));
    CUDA_OK(cudaFree(late->stock));
    rank.count--;
    cuda_update(&rank, 3);
    cuda_armed_step(&rank, 3, 3, 1);
    assert_int_equal(cuda_recorded(&rank, 3), RECORD_DONE);
    assert_int_equal(cuda_wrong(&rank, 1, 3), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_cut_that_is_waited_for_is_exact),
        TEST(a_lazy_cut_is_exact_while_training_goes_on),
        TEST(a_cut_by_way_of_spare_memory_is_exact_without_fences),
        TEST(all_ways_go_together_in_one_cut),
        TEST(a_restart_gives_the_same_bytes),
        TEST(memory_that_is_something_else_is_refused_by_name),
        TEST(a_capture_is_left_in_peace),
        TEST(a_capture_during_a_copy_is_left_in_peace),
        TEST(the_program_finds_cuda_as_it_left_it),
        TEST(regions_come_and_go),
    };
    if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
