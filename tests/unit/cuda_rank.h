/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CUDA_RANK_H
#define TESTS_UNIT_CUDA_RANK_H

/* A rank whose state is in device memory, trained by nothing but copies between device buffers, so that what a checkpoint
 * must hold is known to the byte. Only CUDA's runtime is used: it runs on a GPU and on the simulator alike. */

#include <cuda_runtime_api.h>

#include "tests/unit/fake_step.h"

#define CUDA_REGIONS_MAX 8
#define CUDA_WAIT_S 20

#define CUDA_OK(call) assert_int_equal((int)(call), (int)cudaSuccess)

struct cuda_region {
    char name[32];
    int device;
    size_t bytes;
    char *at, *stock; /* the state, and what an update makes of it */
};

struct cuda_rank {
    struct fake_step step;
    struct tide *tide;
    struct cuda_region regions[CUDA_REGIONS_MAX];
    unsigned count;
    cudaStream_t streams[2]; /* of GPU 0 and 1 */
    uint64_t deadline_ms;    /* 0: the default */
};

#define CUDA_PATTERN_BYTES ((size_t)65536)

/* One pattern again and again, each time with its number in front; cheap, for sanitizers. */
static inline char *cuda_state(const struct cuda_region *r, uint64_t at_step)
{
    static __thread char pattern[CUDA_PATTERN_BYTES];
    char *state = mem_alloc(r->bytes + 1);
    for (size_t i = 0; i < CUDA_PATTERN_BYTES && i < r->bytes; i++)
        pattern[i] = (char)(i * 31u + i / 251u + at_step * 7u + r->bytes);
    for (size_t at = 0; at < r->bytes; at += CUDA_PATTERN_BYTES) {
        size_t left = r->bytes - at, n = left < CUDA_PATTERN_BYTES ? left : CUDA_PATTERN_BYTES;
        memcpy(state + at, pattern, n);
        memcpy(state + at, &at, n < sizeof at ? n : sizeof at);
    }
    if (r->bytes > 0)
        state[r->bytes - 1] = (char)at_step;
    return state;
}

/* Have the state be that of `at_step`, behind all that is in the stream; the program does not wait. */
static inline void cuda_update(struct cuda_rank *rank, uint64_t at_step)
{
    for (unsigned i = 0; i < rank->count; i++) {
        struct cuda_region *r = &rank->regions[i];
        if (r->bytes == 0)
            continue;
        char *state = cuda_state(r, at_step);
        CUDA_OK(cudaSetDevice(r->device));
        /* The stock is read by the update before: wait for that, and for that alone. */
        CUDA_OK(cudaStreamSynchronize(rank->streams[r->device]));
        CUDA_OK(cudaMemcpyAsync(r->stock, state, r->bytes, cudaMemcpyHostToDevice, rank->streams[r->device]));
        CUDA_OK(cudaStreamSynchronize(rank->streams[r->device]));
        CUDA_OK(cudaMemcpyAsync(r->at, r->stock, r->bytes, cudaMemcpyDeviceToDevice, rank->streams[r->device]));
        mem_free(state);
    }
    CUDA_OK(cudaSetDevice(0));
}

static inline void cuda_finish_streams(struct cuda_rank *rank)
{
    for (int d = 0; d < 2; d++)
        if (rank->streams[d])
            CUDA_OK(cudaStreamSynchronize(rank->streams[d]));
}

static inline struct cuda_region *cuda_region(struct cuda_rank *rank, const char *name, int device, size_t bytes)
{
    struct cuda_region *r = &rank->regions[rank->count++];
    *r = (struct cuda_region){.device = device, .bytes = bytes};
    text_copy(r->name, sizeof r->name, name);
    CUDA_OK(cudaSetDevice(device));
    if (bytes > 0) {
        CUDA_OK(cudaMalloc((void **)&r->at, bytes));
        CUDA_OK(cudaMalloc((void **)&r->stock, bytes));
    }
    if (rank->streams[device] == NULL)
        CUDA_OK(cudaStreamCreateWithFlags(&rank->streams[device], cudaStreamNonBlocking));
    CUDA_OK(cudaSetDevice(0));
    return r;
}

static inline enum tide_status cuda_register(struct cuda_rank *rank, const char *name, void *at, size_t bytes)
{
    return tide_register(rank->tide, &(struct tide_region){.name = name, .data = at, .bytes = bytes, .memory = TIDE_DEVICE});
}

/* Join, register what there is, and name the streams. */
static inline void cuda_join(struct cuda_rank *rank)
{
    struct tide_options options = {.size = sizeof options, .deadline_ms = rank->deadline_ms};
    assert_int_equal(tide_init(&rank->tide, &options), TIDE_OK);
    for (unsigned i = 0; i < rank->count; i++) {
        struct cuda_region *r = &rank->regions[i];
        enum tide_status status = cuda_register(rank, r->name, r->at, r->bytes);
        if (status != TIDE_OK)
            fail_msg("%s", tide_error_text(rank->tide));
    }
    for (int d = 0; d < 2; d++)
        if (rank->streams[d])
            assert_int_equal(tide_set_streams(rank->tide, d, (void *const *)&rank->streams[d], 1), TIDE_OK);
}

static inline void cuda_leave(struct cuda_rank *rank)
{
    tide_finalize(rank->tide);
    rank->tide = NULL;
    for (unsigned i = 0; i < rank->count; i++) {
        cudaFree(rank->regions[i].at);
        cudaFree(rank->regions[i].stock);
    }
    for (int d = 0; d < 2; d++)
        if (rank->streams[d])
            cudaStreamDestroy(rank->streams[d]);
    rank->count = 0;
    rank->streams[0] = rank->streams[1] = NULL;
}

static inline void cuda_ways(struct cuda_rank *rank, enum tide_copy copy)
{
    for (unsigned i = 0; i < rank->count; i++)
        assert_int_equal(tide_set_copy(rank->tide, rank->regions[i].name, copy), TIDE_OK);
}

static inline enum tide_copy cuda_way(struct cuda_rank *rank, const char *name)
{
    enum tide_copy copied = TIDE_COPY_AUTO;
    assert_int_equal(tide_copied(rank->tide, name, &copied), TIDE_OK);
    return copied;
}

static inline enum record_result cuda_recorded(struct cuda_rank *rank, uint64_t cut)
{
    for (int i = 0; i < CUDA_WAIT_S * 1000 && atomic_load(&rank->step.page->armed_step) != STEP_NONE; i++)
        usleep(1000);
    assert_int_equal(atomic_load(&rank->step.page->armed_step), STEP_NONE);
    assert_int_equal(rank->step.page->recorded_cut, cut);
    return (enum record_result)atomic_load(&rank->step.page->record_result);
}

/* Regions of the slot that do not hold the state of `at_step`. */
static inline unsigned cuda_wrong(struct cuda_rank *rank, uint32_t slot_number, uint64_t at_step)
{
    char path[256];
    struct slot slot;
    unsigned wrong = 0;
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, rank->step.dir, 1u, slot_number);
    assert_int_equal(slot_map(path, 0, &slot, NULL), TIDE_OK);
    assert_int_equal(slot_check(&slot, TEST_UID, 0, 1, NULL), TIDE_OK);
    assert_int_equal(slot.header->step, at_step);
    assert_int_equal(slot.header->region_count, rank->count);
    for (unsigned i = 0; i < rank->count; i++) {
        char *state = cuda_state(&rank->regions[i], at_step);
        assert_string_equal(slot.regions[i].name, rank->regions[i].name);
        wrong += memcmp(slot.data + slot.regions[i].offset, state, rank->regions[i].bytes) != 0;
        mem_free(state);
    }
    slot_unmap(&slot);
    return wrong;
}

static inline void cuda_sum(struct cuda_rank *rank, uint32_t slot_number)
{
    char path[256], sum_path[256];
    struct slot slot;
    struct slot_sum sum;
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, rank->step.dir, 1u, slot_number);
    snprintf(sum_path, sizeof sum_path, "%s/" SLOT_SUM_FILE_FORMAT, rank->step.dir, 1u, slot_number);
    assert_int_equal(slot_map(path, 0, &slot, NULL), TIDE_OK);
    assert_int_equal(slot_sum_compute(&slot, &sum, NULL), TIDE_OK);
    assert_int_equal(slot_sum_save(sum_path, &sum, NULL), TIDE_OK);
    slot_sum_release(&sum);
    slot_unmap(&slot);
}

/* Step, armed; what is in the device is the state of `at_step` or will be when the streams have come so far. */
static inline void cuda_armed_step(struct cuda_rank *rank, uint64_t cut, uint64_t at_step, uint32_t slot)
{
    fake_arm(&rank->step, cut, at_step, slot);
    assert_int_equal(tide_step(rank->tide, at_step), TIDE_OK);
}

#endif
