/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/stage/device_cuda/cuda.h"

#define POLL_EAGER_NS (200 * UINT64_C(1000)) /* so long it asks again at once, then with pauses */
#define POLL_PAUSE_NS (20 * 1000L)

/* ---- in somebody else's thread ---- */

void visit_begin(struct visit *visit)
{
    *visit = (struct visit){.mode = cudaStreamCaptureModeRelaxed};
    cudaThreadExchangeStreamCaptureMode(&visit->mode);
    if (cudaGetDevice(&visit->device) != cudaSuccess)
        visit->device = -1;
}

void visit_end(struct visit *visit)
{
    if (visit->moved && visit->device >= 0)
        cudaSetDevice(visit->device);
    cudaThreadExchangeStreamCaptureMode(&visit->mode);
}

enum tide_status visit_gpu(struct visit *visit, const struct gpu *gpu, struct err *err)
{
    visit->moved |= visit->device != gpu->ordinal;
    cudaError_t error = cudaSetDevice(gpu->ordinal);
    return error == cudaSuccess ? TIDE_OK : cuda_failed(err, error, gpu->ordinal, "cannot use it");
}

/* ---- what CUDA says ---- */

/* Nothing in this process will work on that device any more. */
static int is_lasting(cudaError_t error)
{
    return error == cudaErrorECCUncorrectable || error == cudaErrorIllegalAddress || error == cudaErrorLaunchFailure ||
           error == cudaErrorHardwareStackError || error == cudaErrorIllegalInstruction ||
           error == cudaErrorMisalignedAddress || error == cudaErrorInvalidAddressSpace || error == cudaErrorInvalidPc ||
           error == cudaErrorLaunchTimeout || error == cudaErrorDevicesUnavailable ||
           error == cudaErrorNvlinkUncorrectable || error == cudaErrorContained || error == cudaErrorUnknown ||
           error == cudaErrorAssert;
}

/* Never IO: that would put the blame on a copy of a checkpoint that is only being restored. */
static enum tide_status status_of(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? TIDE_E_NOMEM : TIDE_E_UNAVAILABLE;
}

enum tide_status cuda_failed(struct err *err, cudaError_t error, int ordinal, const char *format, ...)
{
    char what[NOTE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    cudaGetLastError(); /* it is ours, not the program's */
    return err_set(err, status_of(error), "GPU %d: %s: %s (%s)%s", ordinal, what, cudaGetErrorName(error),
                   cudaGetErrorString(error),
                   is_lasting(error) ? "; this process cannot use the GPU any more and must be started again" : "");
}

enum tide_status cuda_await(struct device *device, struct gpu *gpu, cudaEvent_t event, const char *what, struct err *err)
{
    uint64_t begin = clock_mono_ns();
    for (;;) {
        cudaError_t error = cudaEventQuery(event);
        if (error == cudaSuccess)
            return TIDE_OK;
        if (error != cudaErrorNotReady)
            return cuda_failed(err, error, gpu->ordinal, "cannot finish %s", what);
        uint64_t waited = clock_mono_ns() - begin;
        if (waited >= device->deadline_ns) {
            gpu->stuck = 1;
            if (cudaEventRecord(gpu->end, gpu->copies) != cudaSuccess)
                cudaGetLastError();
            return err_set(err, TIDE_E_TIMEOUT,
                           "GPU %d has not finished %s in %llu ms: it, or work the program gave it, hangs", gpu->ordinal,
                           what, (unsigned long long)(waited / NS_PER_MS));
        }
        if (waited > POLL_EAGER_NS)
            nanosleep(&(struct timespec){.tv_nsec = POLL_PAUSE_NS}, NULL);
    }
}

static enum tide_status follow(struct gpu *gpu, cudaStream_t stream, struct err *err)
{
    enum cudaStreamCaptureStatus state = cudaStreamCaptureStatusNone;
    cudaError_t error = cudaStreamIsCapturing(stream, &state);
    if (error == cudaErrorStreamCaptureImplicit || (error == cudaSuccess && state != cudaStreamCaptureStatusNone)) {
        if (error != cudaSuccess)
            cudaGetLastError();
        return err_set(err, TIDE_E_STATE,
                       "GPU %d: the program is capturing a graph at this safe point, so that nothing can be copied; "
                       "the next safe point outside of a capture will do",
                       gpu->ordinal);
    }
    if (error == cudaSuccess)
        error = cudaEventRecord(gpu->ready, stream);
    if (error == cudaSuccess)
        error = cudaStreamWaitEvent(gpu->copies, gpu->ready, 0);
    return error == cudaSuccess
               ? TIDE_OK
               : cuda_failed(err, error, gpu->ordinal, "cannot go behind the program's stream %p (is it still there?)",
                             (void *)stream);
}

enum tide_status cuda_follow(struct gpu *gpu, struct err *err)
{
    enum tide_status status = gpu->stream_count == 0 ? follow(gpu, cudaStreamLegacy, err) : TIDE_OK;
    for (unsigned i = 0; status == TIDE_OK && i < gpu->stream_count; i++)
        status = follow(gpu, gpu->streams[i], err);
    return status;
}

/* ---- one GPU ---- */

static cudaError_t make(struct gpu *gpu)
{
    cudaEvent_t *events[] = {&gpu->ready, &gpu->taken, &gpu->waited, &gpu->lazy, &gpu->end};
    int least = 0, greatest = 0;
    cudaError_t error = cudaDeviceGetStreamPriorityRange(&least, &greatest);
    if (error == cudaSuccess)
        error = cudaStreamCreateWithPriority(&gpu->copies, cudaStreamNonBlocking, least);
    for (size_t i = 0; error == cudaSuccess && i < sizeof events / sizeof events[0]; i++)
        error = cudaEventCreateWithFlags(events[i], cudaEventDisableTiming);
    for (unsigned i = 0; error == cudaSuccess && i < DEVICE_LANES; i++)
        error = cudaEventCreateWithFlags(&gpu->lanes[i], cudaEventDisableTiming);
    return error;
}

static void release(struct gpu *gpu)
{
    cudaEvent_t events[] = {gpu->ready, gpu->taken, gpu->waited, gpu->lazy, gpu->end};
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        if (events[i])
            cudaEventDestroy(events[i]);
    for (unsigned i = 0; i < DEVICE_LANES; i++)
        if (gpu->lanes[i])
            cudaEventDestroy(gpu->lanes[i]);
    if (gpu->copies)
        cudaStreamDestroy(gpu->copies);
    for (unsigned i = 0; i < BOUNCES; i++)
        if (gpu->bounce[i])
            cudaFreeHost(gpu->bounce[i]);
    if (gpu->spare)
        cudaFree(gpu->spare);
    *gpu = (struct gpu){.is_open = 0};
}

static enum tide_status gpu_of(struct device *device, int ordinal, struct gpu **ret_gpu, struct err *err)
{
    if (ordinal < 0 || ordinal >= (int)GPUS_MAX)
        return err_set(err, TIDE_E_LIMIT, "GPU %d is not one of the first %u", ordinal, GPUS_MAX);
    struct gpu *gpu = &device->gpus[ordinal];
    if (!gpu->is_open) {
        struct visit visit;
        visit_begin(&visit);
        gpu->ordinal = ordinal;
        enum tide_status status = visit_gpu(&visit, gpu, err);
        cudaError_t error = status == TIDE_OK ? make(gpu) : cudaSuccess;
        if (error != cudaSuccess)
            status = cuda_failed(err, error, ordinal, "cannot make a stream for copies");
        if (status == TIDE_OK)
            gpu->is_open = 1;
        else
            release(gpu);
        visit_end(&visit);
        if (status != TIDE_OK)
            return status;
        if (atomic_load(&device->first) < 0)
            atomic_store(&device->first, ordinal);
    }
    *ret_gpu = gpu;
    return TIDE_OK;
}

/* ---- the verbs ---- */

static enum tide_status open_cuda(uint64_t deadline_ms, struct device **ret_device, struct err *err)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        cudaGetLastError();
        return err_set(err, TIDE_E_UNAVAILABLE,
                       "there is no GPU this process could use: %s (%s); look at nvidia-smi, at the "
                       "driver's version and at CUDA_VISIBLE_DEVICES",
                       cudaGetErrorName(error), cudaGetErrorString(error));
    }
    struct device *device = mem_try_alloc(sizeof *device);
    if (device == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to keep track of GPUs");
    device->deadline_ns = deadline_ms * NS_PER_MS;
    atomic_store(&device->first, -1);
    *ret_device = device;
    return TIDE_OK;
}

static void close_cuda(struct device *device)
{
    struct visit visit;
    int stuck = 0;
    if (device == NULL)
        return;
    for (unsigned i = 0; i < GPUS_MAX; i++)
        stuck |= device->gpus[i].stuck;
    /* What a hanging GPU may still write to stays as it is until the process ends. */
    if (stuck)
        return;
    visit_begin(&visit);
    cuda_unpin_all(device);
    for (unsigned i = 0; i < GPUS_MAX; i++)
        if (device->gpus[i].is_open && visit_gpu(&visit, &device->gpus[i], NULL) == TIDE_OK)
            release(&device->gpus[i]);
    visit_end(&visit);
    mem_free(device);
}

static enum tide_status kind_of(const char *name, const void *at, struct cudaPointerAttributes *ret_kind, struct err *err)
{
    cudaError_t error = cudaPointerGetAttributes(ret_kind, at);
    if (error != cudaSuccess)
        return cuda_failed(err, error, -1, "cannot tell what memory region \"%s\" is", name);
    if (ret_kind->type == cudaMemoryTypeUnregistered || ret_kind->type == cudaMemoryTypeHost)
        return err_set(err, TIDE_E_INVALID,
                       "region \"%s\" at %p is %s, not device memory, or was freed; register host memory as TIDE_HOST", name,
                       at, ret_kind->type == cudaMemoryTypeHost ? "pinned host memory" : "memory that CUDA does not know");
    return TIDE_OK;
}

static enum tide_status adopt(struct device *device, const char *name, const void *at, size_t bytes,
                              struct device_place *ret_place, struct err *err)
{
    struct cudaPointerAttributes first, last;
    struct gpu *gpu = NULL;
    if (bytes == 0) {
        *ret_place = (struct device_place){.ordinal = 0};
        return TIDE_OK;
    }
    struct visit visit;
    visit_begin(&visit);
    enum tide_status status = kind_of(name, at, &first, err);
    if (status == TIDE_OK)
        status = kind_of(name, (const char *)at + bytes - 1, &last, err);
    visit_end(&visit);
    if (status != TIDE_OK)
        return status;
    if (first.type != last.type || first.device != last.device)
        return err_set(err, TIDE_E_INVALID, "region \"%s\" of %zu bytes begins in memory of GPU %d and ends in other memory",
                       name, bytes, first.device);
    status = gpu_of(device, first.device, &gpu, err);
    if (status == TIDE_OK)
        *ret_place = (struct device_place){.ordinal = first.device, .is_managed = first.type == cudaMemoryTypeManaged};
    return status;
}

static enum tide_status set_streams(struct device *device, int ordinal, void *const *streams, unsigned count,
                                    struct err *err)
{
    struct gpu *gpu = NULL;
    if (count > STREAMS_MAX)
        return err_set(err, TIDE_E_LIMIT, "GPU %d: %u streams are more than the %u that are possible", ordinal, count,
                       STREAMS_MAX);
    enum tide_status status = gpu_of(device, ordinal, &gpu, err);
    if (status != TIDE_OK)
        return status;
    if (count > 0)
        memcpy(gpu->streams, streams, count * sizeof *streams);
    gpu->stream_count = count;
    return TIDE_OK;
}

static enum tide_status set_spare(struct device *device, int ordinal, size_t bytes, struct err *err)
{
    struct gpu *gpu = NULL;
    struct visit visit;
    void *at = NULL;
    enum tide_status status = gpu_of(device, ordinal, &gpu, err);
    if (status != TIDE_OK || gpu->spare_bytes == bytes)
        return status;
    visit_begin(&visit);
    status = visit_gpu(&visit, gpu, err);
    cudaError_t error = cudaSuccess;
    if (status == TIDE_OK && gpu->spare)
        error = cudaFree(gpu->spare);
    if (status == TIDE_OK && error == cudaSuccess) {
        gpu->spare = NULL;
        gpu->spare_bytes = 0;
        error = bytes > 0 ? cudaMalloc(&at, bytes) : cudaSuccess;
    }
    if (status == TIDE_OK && error != cudaSuccess)
        status = cuda_failed(err, error, ordinal, "cannot set %zu bytes aside for checkpoints", bytes);
    if (status == TIDE_OK) {
        gpu->spare = at;
        gpu->spare_bytes = bytes;
    }
    visit_end(&visit);
    return status;
}

static const char *note(const struct device *device)
{
    return device->note;
}

static void bus_id(const struct device *device, char *to, size_t size)
{
    int first = atomic_load(&device->first);
    to[0] = '\0';
    if (first >= 0 && cudaDeviceGetPCIBusId(to, (int)size, first) != cudaSuccess) {
        cudaGetLastError();
        to[0] = '\0';
    }
}

__attribute__((visibility("default"))) extern const struct device_ops tidemark_device_plugin;
const struct device_ops tidemark_device_plugin = {.abi = DEVICE_ABI,
                                                  .name = "cuda",
                                                  .open = open_cuda,
                                                  .close = close_cuda,
                                                  .adopt = adopt,
                                                  .set_streams = set_streams,
                                                  .set_spare = set_spare,
                                                  .pin = cuda_pin,
                                                  .unpin = cuda_unpin,
                                                  .copy_out = cuda_copy_out,
                                                  .copy_out_finish = cuda_copy_out_finish,
                                                  .before_update = cuda_before_update,
                                                  .note = note,
                                                  .copy_in_begin = cuda_copy_in_begin,
                                                  .copy_in = cuda_copy_in,
                                                  .copy_in_wait = cuda_copy_in_wait,
                                                  .bus_id = bus_id};
