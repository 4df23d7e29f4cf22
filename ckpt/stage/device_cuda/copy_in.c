/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/stage/device_cuda/cuda.h"

enum tide_status cuda_copy_in_begin(struct device *device, struct err *err)
{
    struct visit visit;
    enum tide_status status = TIDE_OK;
    visit_begin(&visit);
    /* The program may have filled its regions with something a moment ago, and that may not have happened yet. */
    for (unsigned i = 0; status == TIDE_OK && i < GPUS_MAX; i++) {
        struct gpu *gpu = &device->gpus[i];
        if (!gpu->is_open)
            continue;
        memset(gpu->lane_used, 0, sizeof gpu->lane_used);
        status = visit_gpu(&visit, gpu, err);
        if (status == TIDE_OK)
            status = cuda_follow(gpu, err);
    }
    visit_end(&visit);
    return status;
}

static enum tide_status copy(struct device *device, struct gpu *gpu, char *to, const char *from, size_t bytes, unsigned lane,
                             struct err *err)
{
    cudaError_t error = cudaSuccess;
    while (error == cudaSuccess && bytes > 0) {
        size_t seam = cuda_until_seam(device, from), n = bytes < seam ? bytes : seam;
        error = cudaMemcpyAsync(to, from, n, cudaMemcpyDefault, gpu->copies);
        to += n;
        from += n;
        bytes -= n;
    }
    if (error == cudaSuccess)
        error = cudaEventRecord(gpu->lanes[lane], gpu->copies);
    gpu->lane_used[lane] = 1;
    return error == cudaSuccess ? TIDE_OK : cuda_failed(err, error, gpu->ordinal, "cannot copy a region in");
}

enum tide_status cuda_copy_in(struct device *device, struct device_place place, void *to, const void *from_host,
                              size_t bytes, unsigned lane, struct err *err)
{
    struct gpu *gpu = &device->gpus[place.ordinal];
    struct visit visit;
    visit_begin(&visit);
    enum tide_status status = visit_gpu(&visit, gpu, err);
    if (status == TIDE_OK)
        status = copy(device, gpu, to, from_host, bytes, lane, err);
    visit_end(&visit);
    return status;
}

enum tide_status cuda_copy_in_wait(struct device *device, unsigned lane, struct err *err)
{
    struct visit visit;
    enum tide_status status = TIDE_OK;
    visit_begin(&visit);
    for (unsigned i = 0; status == TIDE_OK && i < GPUS_MAX; i++) {
        struct gpu *gpu = &device->gpus[i];
        if (!gpu->is_open || !gpu->lane_used[lane])
            continue;
        gpu->lane_used[lane] = 0;
        status = cuda_await(device, gpu, gpu->lanes[lane], "copying a region in", err);
    }
    visit_end(&visit);
    return status;
}
