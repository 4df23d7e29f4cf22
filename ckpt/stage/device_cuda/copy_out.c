/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/device_cuda/cuda.h"

#define SPARE_ALIGN ((size_t)256)

/* ---- which way each region goes ---- */

static void remark(struct device *device, const struct device_part *part, const char *why)
{
    /* The first reason; the others are mostly the same. */
    if (device->note[0] == '\0')
        snprintf(device->note, sizeof device->note, "region \"%s\" was copied while the program waited: %s", part->name,
                 why);
}

static enum tide_copy aside(struct device *device, struct gpu *gpu, struct device_part *part)
{
    size_t begin = (gpu->spare_used + SPARE_ALIGN - 1) / SPARE_ALIGN * SPARE_ALIGN;
    if (part->place.is_managed) {
        remark(device, part, "it is managed memory, whose pages move");
        return TIDE_COPY_SYNC;
    }
    if (begin > gpu->spare_bytes || part->bytes > gpu->spare_bytes - begin) {
        /* Nobody who granted nothing need be told. */
        if (gpu->spare_bytes > 0 || part->wanted == TIDE_COPY_SLAB)
            remark(device, part, "the device memory granted by tide_set_spare is used up");
        return TIDE_COPY_SYNC;
    }
    part->aside = gpu->spare + begin;
    gpu->spare_used = begin + part->bytes;
    return TIDE_COPY_SLAB;
}

static enum tide_copy lazily(struct device *device, const struct device_part *part)
{
    if (part->place.is_managed)
        remark(device, part, "it is managed memory, whose pages move");
    else if (!atomic_load(&device->fenced))
        remark(device, part, "the program has never called tide_before_update");
    else if (!cuda_is_pinned(device, part->to, part->bytes))
        remark(device, part, device->pin_refusal[0] ? device->pin_refusal : "host memory is not pinned");
    else
        return TIDE_COPY_LAZY;
    return TIDE_COPY_SYNC;
}

static void choose(struct device *device, struct gpu *gpu, struct device_part *part)
{
    part->aside = NULL;
    if (part->bytes == 0)
        part->copied = TIDE_COPY_SYNC; /* nothing is left to come */
    else if (part->wanted == TIDE_COPY_LAZY)
        part->copied = lazily(device, part);
    else if (part->wanted == TIDE_COPY_SYNC)
        part->copied = TIDE_COPY_SYNC;
    else
        part->copied = aside(device, gpu, part);
    if (!cuda_is_pinned(device, part->to, part->bytes) && device->pin_refusal[0] && device->note[0] == '\0')
        snprintf(device->note, sizeof device->note, "%.*s", (int)sizeof device->note - 1, device->pin_refusal);
}

/* ---- the copies ---- */

static size_t chunk_of(const struct device *device)
{
    size_t all = 0;
    for (unsigned i = 0; i < device->part_count; i++)
        all += device->parts[i].bytes;
    size_t wanted = all / CHUNKS_WANTED;
    return wanted > CHUNK_BYTES_MIN ? wanted : CHUNK_BYTES_MIN;
}

/* To pinned memory, in pieces, between which the program's own copies find their way. */
static enum tide_status copy_pinned(struct device *device, struct gpu *gpu, const struct device_part *part, size_t chunk,
                                    struct err *err)
{
    const char *from = part->aside ? part->aside : part->from;
    char *to = part->to;
    cudaError_t error = cudaSuccess;
    for (size_t left = part->bytes; error == cudaSuccess && left > 0;) {
        size_t seam = cuda_until_seam(device, to), n = left < chunk ? left : chunk;
        n = n < seam ? n : seam;
        error = cudaMemcpyAsync(to, from, n, cudaMemcpyDefault, gpu->copies);
        to += n;
        from += n;
        left -= n;
    }
    return error == cudaSuccess ? TIDE_OK : cuda_failed(err, error, gpu->ordinal, "cannot copy region \"%s\"", part->name);
}

static enum tide_status need_bounce(struct gpu *gpu, struct err *err)
{
    for (unsigned i = 0; i < BOUNCES; i++) {
        void *at = NULL;
        cudaError_t error = gpu->bounce[i] ? cudaSuccess : cudaHostAlloc(&at, BOUNCE_BYTES, cudaHostAllocPortable);
        if (error != cudaSuccess)
            return cuda_failed(err, error, gpu->ordinal,
                               "neither the arena nor %zu MiB of other host memory can be pinned to copy to; raise "
                               "RLIMIT_MEMLOCK",
                               BOUNCE_BYTES >> 20);
        if (at)
            gpu->bounce[i] = at;
    }
    return TIDE_OK;
}

/* Begin to copy the piece at `at` into its lane. */
static enum tide_status bounce(struct gpu *gpu, const struct device_part *part, size_t at, unsigned lane, struct err *err)
{
    const char *from = part->aside ? part->aside : part->from;
    size_t left = part->bytes - at, n = left < BOUNCE_BYTES ? left : BOUNCE_BYTES;
    cudaError_t error = cudaMemcpyAsync(gpu->bounce[lane], from + at, n, cudaMemcpyDefault, gpu->copies);
    if (error == cudaSuccess)
        error = cudaEventRecord(gpu->lanes[lane], gpu->copies);
    return error == cudaSuccess ? TIDE_OK : cuda_failed(err, error, gpu->ordinal, "cannot copy region \"%s\"", part->name);
}

/* To memory that is not pinned: by way of two buffers that are, and with the processor. */
static enum tide_status copy_bounced(struct device *device, struct gpu *gpu, const struct device_part *part, struct err *err)
{
    enum tide_status status = need_bounce(gpu, err);
    unsigned lane = 0;
    if (status == TIDE_OK && part->bytes > 0)
        status = bounce(gpu, part, 0, lane, err);
    for (size_t at = 0; status == TIDE_OK && at < part->bytes; at += BOUNCE_BYTES, lane ^= 1) {
        size_t left = part->bytes - at;
        if (left > BOUNCE_BYTES)
            status = bounce(gpu, part, at + BOUNCE_BYTES, lane ^ 1, err);
        if (status == TIDE_OK)
            status = cuda_await(device, gpu, gpu->lanes[lane], part->name, err);
        if (status == TIDE_OK)
            memcpy((char *)part->to + at, gpu->bounce[lane], left < BOUNCE_BYTES ? left : BOUNCE_BYTES);
    }
    return status;
}

static cudaError_t hold_back(struct gpu *gpu, cudaEvent_t event)
{
    cudaError_t error = gpu->stream_count == 0 ? cudaStreamWaitEvent(cudaStreamLegacy, event, 0) : cudaSuccess;
    for (unsigned i = 0; error == cudaSuccess && i < gpu->stream_count; i++)
        error = cudaStreamWaitEvent(gpu->streams[i], event, 0);
    return error;
}

/* Copy aside what goes there, and let the program's streams, not the program, wait for that. */
static enum tide_status set_aside(struct device *device, struct gpu *gpu, struct err *err)
{
    cudaError_t error = cudaSuccess;
    int any = 0;
    for (unsigned i = 0; error == cudaSuccess && i < device->part_count; i++) {
        const struct device_part *part = &device->parts[i];
        if (part->place.ordinal != gpu->ordinal || part->copied != TIDE_COPY_SLAB)
            continue;
        error = cudaMemcpyAsync(part->aside, part->from, part->bytes, cudaMemcpyDeviceToDevice, gpu->copies);
        any = 1;
    }
    if (error == cudaSuccess && any)
        error = cudaEventRecord(gpu->taken, gpu->copies);
    if (error == cudaSuccess && any)
        error = hold_back(gpu, gpu->taken);
    return error == cudaSuccess ? TIDE_OK : cuda_failed(err, error, gpu->ordinal, "cannot copy regions aside");
}

/* All parts of one GPU that go one way to pinned memory. */
static enum tide_status put(struct device *device, struct gpu *gpu, enum tide_copy way, cudaEvent_t event, int *ret_any,
                            struct err *err)
{
    enum tide_status status = TIDE_OK;
    size_t chunk = chunk_of(device);
    *ret_any = 0;
    for (unsigned i = 0; status == TIDE_OK && i < device->part_count; i++) {
        const struct device_part *part = &device->parts[i];
        if (part->place.ordinal != gpu->ordinal || part->copied != way || part->bytes == 0)
            continue;
        *ret_any = 1;
        if (cuda_is_pinned(device, part->to, part->bytes))
            status = copy_pinned(device, gpu, part, chunk, err);
    }
    cudaError_t error = status == TIDE_OK && *ret_any ? cudaEventRecord(event, gpu->copies) : cudaSuccess;
    return error == cudaSuccess ? status : cuda_failed(err, error, gpu->ordinal, "cannot record an event");
}

static enum tide_status begin(struct device *device, struct gpu *gpu, int *ret_waits, struct err *err)
{
    int lazy = 0, slab = 0;
    enum tide_status status = cuda_follow(gpu, err);
    gpu->begun = status == TIDE_OK;
    if (status == TIDE_OK)
        status = set_aside(device, gpu, err);
    if (status == TIDE_OK)
        status = put(device, gpu, TIDE_COPY_SYNC, gpu->waited, ret_waits, err);
    if (status == TIDE_OK)
        status = put(device, gpu, TIDE_COPY_LAZY, gpu->lazy, &lazy, err);
    if (status == TIDE_OK)
        status = put(device, gpu, TIDE_COPY_SLAB, gpu->end, &slab, err);
    cudaError_t error = status == TIDE_OK && lazy ? cudaEventRecord(gpu->end, gpu->copies) : cudaSuccess;
    if (error != cudaSuccess)
        status = cuda_failed(err, error, gpu->ordinal, "cannot record an event");
    gpu->pending = lazy | slab;
    atomic_store(&gpu->lazy_pending, lazy);
    return status;
}

static enum tide_status bounce_all(struct device *device, struct gpu *gpu, enum tide_copy way, struct err *err)
{
    enum tide_status status = TIDE_OK;
    for (unsigned i = 0; status == TIDE_OK && i < device->part_count; i++) {
        const struct device_part *part = &device->parts[i];
        if (part->place.ordinal == gpu->ordinal && part->copied == way && part->bytes > 0 &&
            !cuda_is_pinned(device, part->to, part->bytes))
            status = copy_bounced(device, gpu, part, err);
    }
    return status;
}

/* What the safe point itself has to wait for. */
static enum tide_status end_waits(struct device *device, struct gpu *gpu, struct err *err)
{
    enum tide_status status = cuda_await(device, gpu, gpu->waited, "copying regions out", err);
    return status == TIDE_OK ? bounce_all(device, gpu, TIDE_COPY_SYNC, err) : status;
}

/* ---- a record ---- */

static enum tide_status check_stuck(struct gpu *gpu, struct err *err)
{
    if (!gpu->stuck)
        return TIDE_OK;
    cudaError_t error = cudaEventQuery(gpu->end);
    gpu->stuck = error == cudaErrorNotReady;
    return gpu->stuck ? err_set(err, TIDE_E_STATE, "GPU %d still hangs in the copies of an earlier checkpoint", gpu->ordinal)
                      : TIDE_OK;
}

static int concerns(const struct device *device, const struct gpu *gpu)
{
    for (unsigned i = 0; gpu->is_open && i < device->part_count; i++)
        if (device->parts[i].place.ordinal == gpu->ordinal && device->parts[i].bytes > 0)
            return 1;
    return 0;
}

/* A record that failed half-way: what was begun must end before anybody else may have the slot. */
static void call_off(struct device *device, struct visit *visit)
{
    for (unsigned g = 0; g < GPUS_MAX; g++) {
        struct gpu *gpu = &device->gpus[g];
        if (!gpu->begun || gpu->stuck || visit_gpu(visit, gpu, NULL) != TIDE_OK)
            continue;
        if (cudaEventRecord(gpu->end, gpu->copies) == cudaSuccess)
            (void)!cuda_await(device, gpu, gpu->end, "what was begun", NULL);
        else
            cudaGetLastError();
        gpu->pending = 0;
        atomic_store(&gpu->lazy_pending, 0);
    }
}

enum tide_status cuda_copy_out(struct device *device, struct device_part *parts, unsigned count, int *ret_pending,
                               struct err *err)
{
    struct visit visit;
    enum tide_status status = TIDE_OK;
    int waits[GPUS_MAX] = {0}, pending = 0;
    device->parts = parts;
    device->part_count = count;
    device->note[0] = '\0';
    for (unsigned g = 0; g < GPUS_MAX; g++) {
        device->gpus[g].spare_used = 0;
        device->gpus[g].begun = device->gpus[g].pending = 0;
    }
    for (unsigned i = 0; i < count; i++)
        choose(device, &device->gpus[parts[i].place.ordinal], &parts[i]);
    visit_begin(&visit);
    /* Every GPU begins before any is waited for. */
    for (unsigned g = 0; status == TIDE_OK && g < GPUS_MAX; g++) {
        struct gpu *gpu = &device->gpus[g];
        if (!concerns(device, gpu))
            continue;
        status = visit_gpu(&visit, gpu, err);
        if (status == TIDE_OK)
            status = check_stuck(gpu, err);
        if (status == TIDE_OK)
            status = begin(device, gpu, &waits[g], err);
        pending |= gpu->pending;
    }
    for (unsigned g = 0; status == TIDE_OK && g < GPUS_MAX; g++) {
        if (!waits[g])
            continue;
        status = visit_gpu(&visit, &device->gpus[g], err);
        if (status == TIDE_OK)
            status = end_waits(device, &device->gpus[g], err);
    }
    if (status != TIDE_OK)
        call_off(device, &visit);
    visit_end(&visit);
    if (status == TIDE_OK)
        *ret_pending = pending;
    return status;
}

enum tide_status cuda_copy_out_finish(struct device *device, struct err *err)
{
    struct visit visit;
    enum tide_status status = TIDE_OK;
    visit_begin(&visit);
    for (unsigned g = 0; g < GPUS_MAX; g++) {
        struct gpu *gpu = &device->gpus[g];
        if (!gpu->pending)
            continue;
        enum tide_status one = visit_gpu(&visit, gpu, err);
        if (one == TIDE_OK)
            one = cuda_await(device, gpu, gpu->end, "copying regions out", err);
        if (one == TIDE_OK)
            one = bounce_all(device, gpu, TIDE_COPY_SLAB, err);
        gpu->pending = 0;
        atomic_store(&gpu->lazy_pending, 0);
        status = status == TIDE_OK ? one : status;
    }
    visit_end(&visit);
    return status;
}

/* A wait would become part of the graph, or break it. */
static int is_captured(cudaStream_t stream)
{
    enum cudaStreamCaptureStatus state = cudaStreamCaptureStatusNone;
    cudaError_t error = cudaStreamIsCapturing(stream, &state);
    if (error != cudaSuccess)
        cudaGetLastError();
    return error == cudaErrorStreamCaptureImplicit || state != cudaStreamCaptureStatusNone;
}

enum tide_status cuda_before_update(struct device *device, void *stream, struct err *err)
{
    enum tide_status status = TIDE_OK;
    atomic_store(&device->fenced, 1);
    for (unsigned g = 0; g < GPUS_MAX; g++) {
        struct gpu *gpu = &device->gpus[g];
        if (!gpu->is_open || !atomic_load(&gpu->lazy_pending))
            continue;
        if (is_captured((cudaStream_t)stream))
            return err_set(
                err, TIDE_E_STATE,
                "stream %p is capturing a graph and cannot wait; call tide_before_update before a graph that updates "
                "regions is launched, on the stream it is launched into",
                stream);
        cudaError_t error = cudaStreamWaitEvent((cudaStream_t)stream, gpu->lazy, 0);
        if (error != cudaSuccess)
            status = cuda_failed(err, error, gpu->ordinal, "stream %p cannot wait for the copies under way", stream);
    }
    return status;
}
