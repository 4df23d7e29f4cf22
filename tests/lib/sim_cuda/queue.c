/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/lib/sim_cuda/sim.h"

/* ---- streams ---- */

struct CUstream_st *sim_stream(cudaStream_t handle)
{
    if (handle == NULL || handle == cudaStreamLegacy)
        return &sim.devices[sim_current].legacy;
    for (struct CUstream_st *s = sim.streams; s; s = s->next)
        if (s == handle && !s->destroyed)
            return s;
    return NULL;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *ret_stream, unsigned flags, int priority)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    if (error != cudaSuccess)
        return sim_leave(error);
    struct CUstream_st *s = calloc(1, sizeof *s);
    *s = (struct CUstream_st){.next = sim.streams, .device = sim_current, .flags = flags, .priority = priority};
    sim.streams = s;
    *ret_stream = s;
    return sim_leave(cudaSuccess);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *ret_stream, unsigned flags)
{
    return cudaStreamCreateWithPriority(ret_stream, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *ret_stream)
{
    return cudaStreamCreateWithPriority(ret_stream, cudaStreamDefault, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle)
{
    sim_enter(SIM_ANY);
    struct CUstream_st *s = sim_stream(handle);
    if (s == NULL || s->is_legacy)
        return sim_leave(cudaErrorInvalidResourceHandle);
    sim.capturing -= s->capturing;
    s->destroyed = 1;
    if (s->tail && s->tail->waits)
        sim_begin_op(s->tail);
    else if (s->tail)
        sim_force(s->tail);
    sim_free_if_over(s);
    return sim_leave(cudaSuccess);
}

void sim_free_if_over(struct CUstream_st *stream)
{
    struct CUstream_st **at = &sim.streams;
    if (!stream->destroyed || stream->head || stream->hand)
        return;
    while (*at != stream)
        at = &(*at)->next;
    *at = stream->next;
    free(stream);
}

/* ---- what is in them ---- */

void sim_unref(struct sim_op *op)
{
    if (op == NULL || --op->refs > 0)
        return;
    for (unsigned i = 0; i < op->dep_count; i++)
        sim_unref(op->deps[i]);
    free(op);
}

static void depend(struct sim_op *op, struct sim_op *on)
{
    if (on == NULL || on->done)
        return;
    on->refs++;
    op->deps[op->dep_count++] = on;
    op->held |= on->held;
    op->waits |= on->waits;
    if (on->end_ns > op->end_ns)
        op->end_ns = on->end_ns;
}

/* The default stream waits for all others of its device, and they wait for it, but those that were made not to. */
static void depend_on_default(struct sim_op *op)
{
    struct CUstream_st *s = op->stream;
    if (!s->is_legacy && !(s->flags & cudaStreamNonBlocking))
        depend(op, sim.devices[s->device].legacy.tail);
    for (struct CUstream_st *o = sim.streams; s->is_legacy && o; o = o->next)
        if (o->device == s->device && !(o->flags & cudaStreamNonBlocking) && op->dep_count < SIM_STREAMS_MAX)
            depend(op, o->tail);
}

static uint64_t duration(const struct sim_op *op)
{
    if (op->kind == SIM_MARK || op->kind == SIM_CALL)
        return (uint64_t)op->bytes; /* sim_work */
    if (op->kind != SIM_COPY || sim.bytes_per_s[op->engine] == 0)
        return op->kind == SIM_COPY ? sim.delay_ns[op->engine] : 0;
    return sim.delay_ns[op->engine] + (uint64_t)((double)op->bytes * 1e9 / (double)sim.bytes_per_s[op->engine]);
}

/* One copy after the other in each direction. */
static void schedule(struct sim_op *op)
{
    struct sim_device *d = &sim.devices[op->stream->device];
    uint64_t now = sim_now(), begin = op->end_ns > now ? op->end_ns : now;
    if (op->stream->end_ns > begin)
        begin = op->stream->end_ns;
    if (op->kind == SIM_COPY && d->engine_end_ns[op->engine] > begin)
        begin = d->engine_end_ns[op->engine];
    op->end_ns = begin == SIM_NEVER ? SIM_NEVER : begin + duration(op);
    if (op->kind == SIM_COPY && d->hang_after >= 0 && d->hang_after-- == 0)
        op->end_ns = SIM_NEVER;
    if (op->kind == SIM_COPY)
        d->engine_end_ns[op->engine] = op->end_ns;
    op->stream->end_ns = op->end_ns;
}

struct sim_op *sim_put(const struct sim_op *like)
{
    struct CUstream_st *s = like->stream;
    struct sim_op *op = calloc(1, sizeof *op);
    *op = *like;
    op->refs = 1;
    op->device = s->device;
    op->is_copy = op->kind == SIM_COPY;
    op->number = ++sim.ops;
    for (unsigned i = 0; i < op->dep_count; i++) {
        op->deps[i]->refs++;
        op->waits |= op->deps[i]->waits;
    }
    op->held |= op->is_copy || (s->tail && s->tail->held);
    op->waits |= op->outside || (s->tail && s->tail->waits);
    depend_on_default(op);
    schedule(op);
    if (s->tail)
        s->tail->next = op;
    else
        s->head = op;
    s->tail = op;
    return op;
}

/* It stays the first of its stream meanwhile: whoever wants what is behind it waits. */
static void call_outside(struct sim_op *op)
{
    op->running = 1;
    pthread_mutex_unlock(&sim.lock);
    op->call(op->context);
    pthread_mutex_lock(&sim.lock);
    op->running = 0;
    pthread_cond_broadcast(&sim.changed);
}

static void perform(struct sim_op *op)
{
    struct sim_device *d = &sim.devices[op->device];
    if (op->kind == SIM_COPY && d->fault_after >= 0 && d->fault_after-- == 0)
        d->sticky = d->fault;
    if (d->sticky != cudaSuccess)
        return;
    if (op->kind == SIM_COPY)
        memmove(sim_view(op->to), sim_view(op->from), op->bytes);
    else if (op->kind == SIM_SET)
        memset(sim_view(op->to), op->value, op->bytes);
    else if (op->kind == SIM_FREE)
        sim_give_back(op->to);
    else if (op->kind == SIM_CALL && !op->outside)
        op->call(op->context);
    else if (op->kind == SIM_CALL)
        call_outside(op);
}

static struct sim_op *first_before(const struct sim_op *op)
{
    for (unsigned i = 0; i < op->dep_count; i++)
        if (!op->deps[i]->done)
            return op->deps[i];
    return NULL;
}

static void do_first(struct CUstream_st *s)
{
    struct sim_op *head = s->head;
    perform(head);
    head->done = 1;
    s->head = head->next;
    if (s->head == NULL)
        s->tail = NULL;
    sim_unref(head);
}

/* Others may do some of it meanwhile, wherever the lock is let go. */
void sim_force(struct sim_op *op)
{
    op->refs++;
    while (!op->done) {
        struct sim_op *head = op->stream->head, *before = first_before(head);
        if (head->running)
            pthread_cond_wait(&sim.changed, &sim.lock);
        else if (before)
            sim_force(before);
        else
            do_first(op->stream);
    }
    sim_unref(op);
}

void sim_await(struct sim_op *op)
{
    op->refs++;
    while (!op->done && op->end_ns > sim_now()) {
        uint64_t until = sim_now() + 1000000;
        struct timespec t;
        if (op->end_ns < until)
            until = op->end_ns;
        t.tv_sec = (time_t)(until / 1000000000u);
        t.tv_nsec = (long)(until % 1000000000u);
        pthread_mutex_unlock(&sim.lock);
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        pthread_mutex_lock(&sim.lock);
    }
    if (!op->done)
        sim_force(op);
    sim_unref(op);
}

void sim_await_stream(struct CUstream_st *stream)
{
    if (stream->tail)
        sim_await(stream->tail);
}

/* Of what was put in up to `number`. */
static struct CUstream_st *unfinished(int device, uint64_t number)
{
    for (struct CUstream_st *s = sim.streams; s; s = s->next)
        if (s->device == device && s->head && s->head->number <= number)
            return s;
    return NULL;
}

void sim_await_device(int device)
{
    uint64_t number = sim.ops;
    struct CUstream_st *s;
    sim_await_stream(&sim.devices[device].legacy);
    while ((s = unfinished(device, number)) != NULL)
        sim_await_stream(s);
}

static void forget(struct CUstream_st *stream)
{
    while (stream->head) {
        struct sim_op *op = stream->head;
        if (op->running) {
            pthread_cond_wait(&sim.changed, &sim.lock);
            continue;
        }
        stream->head = op->next;
        op->done = 1;
        sim_unref(op);
    }
    stream->tail = NULL;
    stream->end_ns = 0;
}

void sim_queue_reset(void)
{
    for (struct CUstream_st *s = sim.streams; s; s = s->next)
        s->destroyed = 0; /* they all go here */
    for (struct CUstream_st *s = sim.streams; s; s = s->next)
        forget(s);
    for (int i = 0; i < SIM_DEVICES_MAX; i++)
        forget(&sim.devices[i].legacy);
    while (sim.hands > 0)
        pthread_cond_wait(&sim.changed, &sim.lock);
    while (sim.streams) {
        struct CUstream_st *s = sim.streams;
        sim.streams = s->next;
        free(s);
    }
    for (int i = 0; i < SIM_DEVICES_MAX; i++)
        memset(sim.devices[i].engine_end_ns, 0, sizeof sim.devices[i].engine_end_ns);
    while (sim.events) {
        struct CUevent_st *e = sim.events;
        sim.events = e->next;
        sim_unref(e->op);
        free(e);
    }
}

static void heal(struct CUstream_st *stream)
{
    for (struct sim_op *op = stream->head; op; op = op->next)
        if (op->end_ns == SIM_NEVER)
            op->end_ns = sim_now();
    if (stream->end_ns == SIM_NEVER)
        stream->end_ns = sim_now();
}

void sim_heal(void)
{
    pthread_mutex_lock(&sim.lock);
    for (int i = 0; i < SIM_DEVICES_MAX; i++) {
        struct sim_device *d = &sim.devices[i];
        heal(&d->legacy);
        d->hang_after = -1;
        for (int e = 0; e < SIM_ENGINES; e++)
            if (d->engine_end_ns[e] == SIM_NEVER)
                d->engine_end_ns[e] = sim_now();
    }
    for (struct CUstream_st *s = sim.streams; s; s = s->next)
        heal(s);
    pthread_mutex_unlock(&sim.lock);
}

void sim_work(cudaStream_t stream, uint64_t ns)
{
    sim_enter(SIM_ANY);
    struct CUstream_st *s = sim_stream(stream);
    if (s)
        sim_put(&(struct sim_op){.kind = SIM_MARK, .stream = s, .bytes = (size_t)ns});
    pthread_mutex_unlock(&sim.lock);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    struct CUstream_st *s = sim_stream(handle);
    if (error == cudaSuccess && s == NULL)
        error = cudaErrorInvalidResourceHandle;
    sim.counts.stream_syncs++;
    if (error != cudaSuccess)
        return sim_leave(error);
    int device = s->device;
    sim_await_stream(s);
    return sim_leave(sim.devices[device].sticky);
}
