/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/sim_cuda/sim.h"

/* Which side is which; -1: that cannot be. Memory that both sides see counts as the device's. */
static int engine_of(const void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    int to_device = sim_block_of(to, bytes) != NULL, from_device = sim_block_of(from, bytes) != NULL;
    if ((sim_is_device(to) && !to_device) || (sim_is_device(from) && !from_device) || (!to_device && !from_device))
        return -1;
    int engine = to_device && from_device ? SIM_D2D : to_device ? SIM_H2D : SIM_D2H;
    if ((kind == cudaMemcpyDeviceToHost && engine != SIM_D2H) || (kind == cudaMemcpyHostToDevice && engine != SIM_H2D) ||
        (kind == cudaMemcpyDeviceToDevice && engine != SIM_D2D) || kind == cudaMemcpyHostToHost)
        return -1;
    return engine;
}

static cudaError_t copy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, struct CUstream_st *s, int wait)
{
    if (bytes == 0)
        return cudaSuccess;
    int engine = engine_of(to, from, bytes, kind);
    int pinned = engine == SIM_D2D ? 1 : sim_pinned(engine == SIM_D2H ? to : from, bytes);
    if (engine < 0 || pinned < 0)
        return cudaErrorInvalidValue;
    sim.counts.copies[engine]++;
    sim.counts.bytes[engine] += bytes;
    if (bytes > sim.counts.largest_copy)
        sim.counts.largest_copy = bytes;
    if (s->capturing)
        return cudaSuccess;
    struct sim_op *op = sim_put(&(struct sim_op){
        .kind = SIM_COPY, .stream = s, .engine = (enum sim_engine)engine, .to = to, .from = from, .bytes = bytes});
    sim.counts.pageable += !pinned && !wait;
    if (wait || !pinned)
        sim_await(op);
    return sim.devices[s->device].sticky;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    struct CUstream_st *s = sim_stream(stream);
    if (error == cudaSuccess && s == NULL)
        error = cudaErrorInvalidResourceHandle;
    return sim_leave(error == cudaSuccess ? copy(to, from, bytes, kind, s, 0) : error);
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    return sim_leave(error == cudaSuccess ? copy(to, from, bytes, kind, sim_stream(NULL), 1) : error);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    struct CUstream_st *s = sim_stream(stream);
    if (error == cudaSuccess && (s == NULL || sim_block_of(to, bytes) == NULL))
        error = s ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle;
    if (error == cudaSuccess && !s->capturing)
        sim_put(&(struct sim_op){.kind = SIM_SET, .stream = s, .to = to, .value = value, .bytes = bytes});
    return sim_leave(error);
}

/* Must not call CUDA, as with the real one. */
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t call, void *context)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    struct CUstream_st *s = sim_stream(stream);
    if (error == cudaSuccess && s == NULL)
        error = cudaErrorInvalidResourceHandle;
    if (error == cudaSuccess && !s->capturing)
        sim_put(&(struct sim_op){.kind = SIM_CALL, .stream = s, .call = call, .context = context, .outside = 1});
    return sim_leave(error);
}
