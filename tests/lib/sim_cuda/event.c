/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "tests/lib/sim_cuda/sim.h"

static struct CUevent_st *event_of(cudaEvent_t handle)
{
    for (struct CUevent_st *e = sim.events; e; e = e->next)
        if (e == handle)
            return e;
    return NULL;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ret_event, unsigned flags)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    (void)flags;
    if (error != cudaSuccess)
        return sim_leave(error);
    struct CUevent_st *e = calloc(1, sizeof *e);
    e->next = sim.events;
    e->device = sim_current;
    sim.events = e;
    sim.counts.events++;
    *ret_event = e;
    return sim_leave(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *ret_event)
{
    return cudaEventCreateWithFlags(ret_event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle)
{
    sim_enter(SIM_ANY);
    for (struct CUevent_st **at = &sim.events; *at; at = &(*at)->next) {
        struct CUevent_st *e = *at;
        if (e != handle)
            continue;
        *at = e->next;
        sim_unref(e->op);
        free(e);
        sim.counts.events--;
        return sim_leave(cudaSuccess);
    }
    return sim_leave(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    struct CUevent_st *e = event_of(handle);
    struct CUstream_st *s = sim_stream(stream);
    if (error == cudaSuccess && (e == NULL || s == NULL || e->device != s->device))
        error = cudaErrorInvalidResourceHandle;
    if (error != cudaSuccess)
        return sim_leave(error);
    sim.counts.event_records++;
    sim_unref(e->op);
    e->op = NULL;
    e->captured = s->capturing;
    if (!s->capturing) {
        e->op = sim_put(&(struct sim_op){.kind = SIM_MARK, .stream = s});
        e->op->refs++;
        e->end_ns = e->op->end_ns;
    }
    return sim_leave(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t handle, unsigned flags)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    struct CUevent_st *e = event_of(handle);
    struct CUstream_st *s = sim_stream(stream);
    (void)flags;
    if (error == cudaSuccess && (e == NULL || s == NULL))
        error = cudaErrorInvalidResourceHandle;
    /* Really it would draw this stream into the capture, and what is put into it would not be done. */
    if (error == cudaSuccess && e->captured != s->capturing) {
        sim.counts.captures_broken++;
        error = cudaErrorStreamCaptureIsolation;
    }
    if (error != cudaSuccess || s->capturing || e->op == NULL)
        return sim_leave(error);
    struct sim_op wait = {.kind = SIM_MARK, .stream = s, .end_ns = e->op->end_ns};
    if (!e->op->done) {
        wait.deps[wait.dep_count++] = e->op;
        wait.held = e->op->held;
    }
    sim_put(&wait);
    return sim_leave(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t handle)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    struct CUevent_st *e = event_of(handle);
    sim.counts.event_queries++;
    if (error == cudaSuccess && e == NULL)
        error = cudaErrorInvalidResourceHandle;
    if (error != cudaSuccess || e->op == NULL)
        return sim_leave(error);
    int device = e->op->device;
    if (!e->op->done && ((e->op->held && sim.hold) || e->op->end_ns > sim_now()))
        return sim_leave(cudaErrorNotReady);
    if (!e->op->done && e->op->waits) {
        sim_begin_op(e->op);
        return sim_leave(cudaErrorNotReady);
    }
    if (!e->op->done)
        sim_force(e->op);
    return sim_leave(sim.devices[device].sticky);
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    struct CUevent_st *e = event_of(handle);
    if (error == cudaSuccess && e == NULL)
        error = cudaErrorInvalidResourceHandle;
    if (error != cudaSuccess || e->op == NULL)
        return sim_leave(error);
    int device = e->op->device;
    sim_await(e->op);
    return sim_leave(sim.devices[device].sticky);
}

cudaError_t cudaEventElapsedTime(float *ret_ms, cudaEvent_t from, cudaEvent_t to)
{
    sim_enter(SIM_ANY);
    struct CUevent_st *a = event_of(from), *b = event_of(to);
    if (a && b)
        *ret_ms = (float)((double)(b->end_ns - a->end_ns) / 1e6);
    return sim_leave(a && b ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

/* ---- graphs: what is captured is thrown away; only the state of being captured is simulated ---- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    struct CUstream_st *s = sim_stream(stream);
    if (error == cudaSuccess && (s == NULL || s->is_legacy))
        error = s ? cudaErrorStreamCaptureUnsupported : cudaErrorInvalidResourceHandle;
    if (error == cudaSuccess) {
        s->capturing = 1;
        s->broken = 0;
        s->mode = mode;
        sim.capturing++;
    }
    return sim_leave(error);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *ret_graph)
{
    sim_enter(SIM_ANY);
    struct CUstream_st *s = sim_stream(stream);
    if (s == NULL || !s->capturing)
        return sim_leave(cudaErrorInvalidResourceHandle);
    s->capturing = 0;
    sim.capturing--;
    *ret_graph = NULL;
    return sim_leave(s->broken ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    return graph == NULL ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *ret_status)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    struct CUstream_st *s = sim_stream(stream);
    if (error == cudaSuccess && s == NULL)
        error = cudaErrorInvalidResourceHandle;
    if (error != cudaSuccess)
        return sim_leave(error);
    int minds = 0;
    for (struct CUstream_st *o = sim.streams; s->is_legacy && o; o = o->next)
        minds |= o->capturing && !(o->flags & cudaStreamNonBlocking);
    *ret_status = s->capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return sim_leave(minds ? cudaErrorStreamCaptureImplicit : cudaSuccess);
}
