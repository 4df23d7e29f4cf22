/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/mman.h>

#include "tests/lib/sim_cuda/sim.h"

#define BLOCK_ALIGN ((size_t)4096)
#define BLOCK_GAP BLOCK_ALIGN /* so that a copy that runs over is found out */

/* ---- addresses ---- */

static char *reserve(int access)
{
    void *at = mmap(NULL, SIM_WINDOW_BYTES, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

void sim_memory_reset(void)
{
    for (unsigned i = 0; i < sim.block_count; i++)
        if (sim.blocks[i].type == cudaMemoryTypeManaged)
            munmap(sim.blocks[i].at, sim.blocks[i].bytes);
    for (unsigned i = 0; i < sim.pin_count; i++)
        if (sim.pins[i].type == cudaMemoryTypeHost)
            munmap(sim.pins[i].at, sim.pins[i].bytes);
    sim.block_count = sim.pin_count = 0;
    for (int i = 0; i < SIM_DEVICES_MAX; i++) {
        struct sim_device *d = &sim.devices[i];
        if (d->window == NULL)
            d->window = reserve(PROT_NONE); /* the host must not be able to use a device's address */
        if (d->shadow != NULL)
            munmap(d->shadow, SIM_WINDOW_BYTES);
        d->shadow = reserve(PROT_READ | PROT_WRITE);
    }
}

static const struct sim_device *owner(const void *at)
{
    const char *p = at;
    for (int i = 0; i < SIM_DEVICES_MAX; i++)
        if (p >= sim.devices[i].window && p < sim.devices[i].window + SIM_WINDOW_BYTES)
            return &sim.devices[i];
    return NULL;
}

int sim_is_device(const void *at)
{
    return owner(at) != NULL;
}

void *sim_view(const void *at)
{
    const struct sim_device *d = owner(at);
    return d ? d->shadow + ((const char *)at - d->window) : (void *)at;
}

static const struct sim_block *find(const struct sim_block *list, unsigned count, const void *at, size_t bytes)
{
    const char *p = at;
    for (unsigned i = 0; i < count; i++)
        if (p >= list[i].at && p + bytes <= list[i].at + list[i].bytes && (bytes > 0 || p < list[i].at + list[i].bytes))
            return &list[i];
    return NULL;
}

const struct sim_block *sim_block_of(const void *at, size_t bytes)
{
    return find(sim.blocks, sim.block_count, at, bytes);
}

int sim_pinned(const void *at, size_t bytes)
{
    const char *p = at;
    if (find(sim.pins, sim.pin_count, at, bytes))
        return 1;
    for (unsigned i = 0; i < sim.pin_count; i++)
        if (p < sim.pins[i].at + sim.pins[i].bytes && p + bytes > sim.pins[i].at)
            return -1;
    return 0;
}

/* ---- device memory ---- */

/* The first gap of a window that is wide enough. */
static char *gap(const struct sim_device *d, size_t bytes)
{
    char *at = d->window;
    for (unsigned i = 0; i < sim.block_count; i++) {
        const struct sim_block *b = &sim.blocks[i];
        if (b->at < d->window || b->at >= d->window + SIM_WINDOW_BYTES)
            continue;
        if (at < b->at + b->bytes + BLOCK_GAP && at + bytes + BLOCK_GAP > b->at) {
            at = b->at + (b->bytes + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN + BLOCK_GAP;
            i = (unsigned)-1; /* look again from the beginning */
        }
    }
    return at + bytes <= d->window + SIM_WINDOW_BYTES ? at : NULL;
}

static cudaError_t allocate(void **ret_at, size_t bytes, enum cudaMemoryType type)
{
    struct sim_device *d = &sim.devices[sim_current];
    char *at = NULL;
    sim.counts.mallocs++;
    if (bytes == 0 || sim.block_count == SIM_BLOCKS_MAX)
        return cudaErrorInvalidValue;
    if (d->used + bytes > d->capacity)
        return cudaErrorMemoryAllocation;
    if (type == cudaMemoryTypeManaged)
        at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    else
        at = gap(d, bytes);
    if (at == NULL || at == MAP_FAILED)
        return cudaErrorMemoryAllocation;
    sim.blocks[sim.block_count++] = (struct sim_block){.at = at, .bytes = bytes, .device = sim_current, .type = type};
    d->used += bytes;
    *ret_at = at;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **ret_at, size_t bytes)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    return sim_leave(error == cudaSuccess ? allocate(ret_at, bytes, cudaMemoryTypeDevice) : error);
}

cudaError_t cudaMallocAsync(void **ret_at, size_t bytes, cudaStream_t stream)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    if (error == cudaSuccess && sim_stream(stream) == NULL)
        error = cudaErrorInvalidResourceHandle;
    return sim_leave(error == cudaSuccess ? allocate(ret_at, bytes, cudaMemoryTypeDevice) : error);
}

cudaError_t cudaMallocManaged(void **ret_at, size_t bytes, unsigned flags)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    (void)flags;
    return sim_leave(error == cudaSuccess ? allocate(ret_at, bytes, cudaMemoryTypeManaged) : error);
}

cudaError_t sim_give_back(void *at)
{
    for (unsigned i = 0; i < sim.block_count; i++) {
        struct sim_block b = sim.blocks[i];
        if (b.at != at)
            continue;
        if (b.type == cudaMemoryTypeManaged)
            munmap(b.at, b.bytes);
        else
            memset(sim_view(b.at), 0xdd, b.bytes); /* who still reads it shall notice */
        sim.devices[b.device].used -= b.bytes;
        sim.blocks[i] = sim.blocks[--sim.block_count];
        return cudaSuccess;
    }
    return cudaErrorInvalidValue;
}

/* It waits for the whole device, as the real one does. */
cudaError_t cudaFree(void *at)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    sim.counts.frees += at != NULL;
    if (error != cudaSuccess || at == NULL)
        return sim_leave(error);
    const struct sim_block *block = sim_block_of(at, 0);
    if (block)
        sim_await_device(block->device);
    return sim_leave(sim_give_back(at));
}

cudaError_t cudaFreeAsync(void *at, cudaStream_t stream)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    struct CUstream_st *s = sim_stream(stream);
    if (error == cudaSuccess && s == NULL)
        error = cudaErrorInvalidResourceHandle;
    if (error == cudaSuccess && s->tail && s->tail->waits) { /* it is told at once */
        sim_put(&(struct sim_op){.kind = SIM_FREE, .stream = s, .to = at});
        return sim_leave(sim_block_of(at, 0) ? cudaSuccess : cudaErrorInvalidValue);
    }
    if (error == cudaSuccess) {
        if (s->tail)
            sim_force(s->tail);
        error = sim_give_back(at);
    }
    return sim_leave(error);
}

cudaError_t cudaMemGetInfo(size_t *ret_free, size_t *ret_total)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    *ret_free = sim.devices[sim_current].capacity - sim.devices[sim_current].used;
    *ret_total = sim.devices[sim_current].capacity;
    return sim_leave(error);
}

/* ---- host memory ---- */

static cudaError_t pin(void *at, size_t bytes, enum cudaMemoryType type)
{
    sim.counts.registers++;
    if (sim.pin_count == SIM_PINS_MAX || sim.counts.pinned_bytes + bytes > sim.pin_limit)
        return cudaErrorMemoryAllocation;
    if (sim_pinned(at, bytes) != 0)
        return cudaErrorHostMemoryAlreadyRegistered;
    sim.pins[sim.pin_count++] = (struct sim_block){.at = at, .bytes = bytes, .type = type};
    sim.counts.pinned_bytes += bytes;
    return cudaSuccess;
}

static cudaError_t unpin(void *at, enum cudaMemoryType type)
{
    for (unsigned i = 0; i < sim.pin_count; i++) {
        struct sim_block b = sim.pins[i];
        if (b.at != at || b.type != type)
            continue;
        sim.pins[i] = sim.pins[--sim.pin_count];
        sim.counts.pinned_bytes -= b.bytes;
        sim.counts.unregisters++;
        if (type == cudaMemoryTypeHost)
            munmap(b.at, b.bytes);
        return cudaSuccess;
    }
    return type == cudaMemoryTypeHost ? cudaErrorInvalidValue : cudaErrorHostMemoryNotRegistered;
}

cudaError_t cudaHostRegister(void *at, size_t bytes, unsigned flags)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    (void)flags;
    if (error == cudaSuccess && (at == NULL || bytes == 0 || sim_is_device(at)))
        error = cudaErrorInvalidValue;
    return sim_leave(error == cudaSuccess ? pin(at, bytes, cudaMemoryTypeUnregistered) : error);
}

cudaError_t cudaHostUnregister(void *at)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    return sim_leave(error == cudaSuccess ? unpin(at, cudaMemoryTypeUnregistered) : error);
}

cudaError_t cudaHostAlloc(void **ret_at, size_t bytes, unsigned flags)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    (void)flags;
    if (error != cudaSuccess)
        return sim_leave(error);
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return sim_leave(cudaErrorMemoryAllocation);
    error = pin(at, bytes, cudaMemoryTypeHost);
    if (error == cudaSuccess)
        *ret_at = at;
    else
        munmap(at, bytes);
    return sim_leave(error);
}

cudaError_t cudaMallocHost(void **ret_at, size_t bytes)
{
    return cudaHostAlloc(ret_at, bytes, 0);
}

cudaError_t cudaFreeHost(void *at)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    if (error == cudaSuccess && at != NULL)
        for (int i = 0; i < sim.device_count; i++)
            sim_await_device(i);
    return sim_leave(error == cudaSuccess && at != NULL ? unpin(at, cudaMemoryTypeHost) : error);
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *ret_attributes, const void *at)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    if (error != cudaSuccess)
        return sim_leave(error);
    const struct sim_block *block = sim_block_of(at, 1);
    *ret_attributes = (struct cudaPointerAttributes){.type = cudaMemoryTypeUnregistered, .hostPointer = (void *)at};
    if (block) {
        int managed = block->type == cudaMemoryTypeManaged;
        *ret_attributes = (struct cudaPointerAttributes){.type = block->type,
                                                         .device = block->device,
                                                         .devicePointer = (void *)at,
                                                         .hostPointer = managed ? (void *)at : NULL};
    } else if (sim_pinned(at, 1) == 1) {
        ret_attributes->type = cudaMemoryTypeHost;
        ret_attributes->devicePointer = (void *)at;
    }
    return sim_leave(cudaSuccess);
}
