/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
/* Before `comms` has a meaning. */
#include "ckpt/cut/channel.h"

#include "ckpt/client/nccl/inside.h"

/* Messages that this rank has received before its program asked for them: they were under way at a record, here or in the
 * generation before. They are in the checkpoint, and the program's next ncclRecv from that member gets them, in order. */

#define LOOK_PAUSE_NS 200000 /* between two looks whether streams have come to an end */

struct held {
    struct held *next;
    uint64_t comm;
    int from, to; /* members of it */
    uint64_t bytes;
    void *host;   /* from a checkpoint; NULL: on the device … */
    void *device; /* … behind what is in `stream` */
    cudaStream_t stream;
    int gpu;
};

_Atomic uint32_t held_count;
/* Over messages that are written into a checkpoint: whoever receives one meanwhile waits. Before that of comms. */
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;
static struct held *first, **end = &first; /* under the lock of comms */

/* The lock is held. */
static void append(struct held *message)
{
    *end = message;
    end = &message->next;
    atomic_fetch_add(&held_count, 1);
}

static void unlink_one(struct held **at)
{
    struct held *message = *at;
    *at = message->next;
    if (end == &message->next)
        end = at;
    atomic_fetch_sub(&held_count, 1);
}

static enum tide_status cuda_failed(cudaError_t error, const char *what, char *why, size_t size)
{
    cuda.GetLastError(); /* it is ours, not the program's */
    snprintf(why, size, "cannot %s: %s", what, cuda.GetErrorName(error));
    return error == cudaErrorMemoryAllocation ? TIDE_E_NOMEM : TIDE_E_UNAVAILABLE;
}

static int gpu_of(const struct comm *comm)
{
    int gpu = 0;
    return real.CommCuDevice(comm->handle, &gpu) == ncclSuccess ? gpu : 0;
}

/* What is in that stream, of the GPU in use, until now is done. */
static enum tide_status await(cudaStream_t stream, uint64_t deadline_ns, const char *what, char *why, size_t size)
{
    const struct timespec pause = {.tv_nsec = LOOK_PAUSE_NS};
    cudaEvent_t event;
    cudaError_t error = cuda.EventCreateWithFlags(&event, cudaEventDisableTiming);
    if (error != cudaSuccess)
        return cuda_failed(error, what, why, size);
    error = cuda.EventRecord(event, stream);
    while (error == cudaSuccess && (error = cuda.EventQuery(event)) == cudaErrorNotReady && clock_mono_ns() < deadline_ns) {
        nanosleep(&pause, NULL);
        error = cudaSuccess;
    }
    cuda.EventDestroy(event);
    if (error == cudaSuccess)
        return TIDE_OK;
    if (error != cudaErrorNotReady)
        return cuda_failed(error, what, why, size);
    cuda.GetLastError();
    snprintf(why, size, "cannot %s in time: the streams of the rank that sends them, or of this one, have not come so far",
             what);
    return TIDE_E_TIMEOUT;
}

/* ---- taking ---- */

/* Of one channel. */
struct plan {
    struct comm *comm; /* a reference */
    const struct control_channel *channel;
    uint64_t received;
    int gpu;
};

static uint64_t length_of(const struct control_channel *channel, uint64_t number)
{
    return channel->bytes[number % CONTROL_CHANNEL_LAST];
}

/* The lock is held. Communicators all of whose members are in one process have one identity. */
static struct comm *member_of(uint64_t id, uint32_t rank)
{
    struct comm *comm = comms.first;
    while (comm && (comm->past || comm->id != id || comm->rank != (int)rank))
        comm = comm->next;
    return comm;
}

/* What is under way; as much was received as sent: nothing. More: that is no cut, and the leader will say so. */
static size_t make_plans(const struct control_channel *arriving, size_t count, struct plan *plans)
{
    size_t planned = 0;
    pthread_mutex_lock(&comms.lock);
    for (size_t i = 0; i < count; i++) {
        struct comm *comm = member_of(arriving[i].comm, arriving[i].to);
        if (comm == NULL || arriving[i].from >= (uint32_t)comm->size)
            continue;
        uint64_t received = comm_received(comm, (int)arriving[i].from);
        if (received >= arriving[i].sent)
            continue;
        atomic_fetch_add(&comm->refs, 1);
        plans[planned++] = (struct plan){.comm = comm, .channel = &arriving[i], .received = received};
    }
    pthread_mutex_unlock(&comms.lock);
    return planned;
}

static enum tide_status check(const struct plan *plans, size_t count, uint64_t bytes_max, char *why, size_t size)
{
    uint64_t bytes = tide_nccl_held_bytes();
    for (size_t i = 0; i < count; i++) {
        const struct control_channel *channel = plans[i].channel;
        uint64_t under_way = channel->sent - plans[i].received;
        if (plans[i].comm->background) {
            snprintf(why, size,
                     "messages of communicator %s are under way from member %u to %u, and its calls do not block "
                     "(ncclConfig_t.blocking is 0): they cannot be received for a checkpoint",
                     plans[i].comm->name, channel->from, channel->to);
            return TIDE_E_UNSUPPORTED;
        }
        if (under_way > CONTROL_CHANNEL_LAST) {
            snprintf(why, size,
                     "%" PRIu64
                     " messages of communicator %s are under way from member %u to %u; at most %u can be received "
                     "for a checkpoint",
                     under_way, plans[i].comm->name, channel->from, channel->to, CONTROL_CHANNEL_LAST);
            return TIDE_E_LIMIT;
        }
        for (uint64_t n = plans[i].received; n < channel->sent; n++) {
            if (length_of(channel, n) > bytes_max || (bytes += length_of(channel, n)) > bytes_max) {
                snprintf(why, size,
                         "NCCL messages on their way to this rank have more than %" PRIu64
                         " bytes; raise tide_options.channel_bytes_max",
                         bytes_max);
                return TIDE_E_LIMIT;
            }
        }
    }
    return TIDE_OK;
}

/* A stream for what comes to that communicator, behind the last of the program's own receives. */
static cudaError_t make_stream(struct comm *comm)
{
    cudaEvent_t event;
    cudaError_t error = comm->side != NULL ? cudaSuccess : cuda.StreamCreateWithFlags(&comm->side, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cuda.EventCreateWithFlags(&event, cudaEventDisableTiming);
    if (error != cudaSuccess)
        return error;
    if (atomic_load(&comm->has_received))
        error = cuda.EventRecord(event, atomic_load(&comm->received_in));
    if (error == cudaSuccess && atomic_load(&comm->has_received))
        error = cuda.StreamWaitEvent(comm->side, event, 0);
    cuda.EventDestroy(event);
    return error;
}

/* Messages with memory of their own, in `*ret_messages` in order. */
static enum tide_status make_messages(const struct plan *plan, struct held **ret_messages, char *why, size_t size)
{
    const struct control_channel *channel = plan->channel;
    cudaError_t error = make_stream(plan->comm);
    for (uint64_t n = plan->received; error == cudaSuccess && n < channel->sent; n++) {
        struct held *message = mem_try_alloc(sizeof *message);
        if (message == NULL)
            error = cudaErrorMemoryAllocation;
        else
            *message = (struct held){.comm = channel->comm,
                                     .from = (int)channel->from,
                                     .to = (int)channel->to,
                                     .bytes = length_of(channel, n),
                                     .stream = plan->comm->side,
                                     .gpu = plan->gpu};
        if (error == cudaSuccess)
            error = cuda.MallocAsync(&message->device, message->bytes > 0 ? message->bytes : 1, message->stream);
        if (error != cudaSuccess) {
            mem_free(message);
            break;
        }
        *ret_messages = message;
        ret_messages = &message->next;
    }
    return error == cudaSuccess ? TIDE_OK : cuda_failed(error, "receive messages that are under way", why, size);
}

static void free_messages(struct held *message)
{
    while (message) {
        struct held *next = message->next;
        if (message->device)
            cuda.FreeAsync(message->device, message->stream);
        mem_free(message->host);
        mem_free(message);
        message = next;
    }
}

static ncclResult_t receive(const struct plan *plan, const struct held *messages)
{
    ncclResult_t result = ncclSuccess;
    for (const struct held *message = messages; message && result == ncclSuccess; message = message->next)
        result = real.Recv(message->device, message->bytes, ncclUint8, message->from, plan->comm->handle, message->stream);
    return result;
}

static void hold(const struct plan *plan, struct held *messages)
{
    while (messages) {
        struct held *message = messages;
        messages = message->next;
        message->next = NULL;
        comm_add_received(plan->comm, message->from);
        pthread_mutex_lock(&comms.lock);
        append(message);
        pthread_mutex_unlock(&comms.lock);
    }
}

/* In one group of calls: all channels at once, so that none waits for another. Where NCCL refuses one it does none of them, and
 * has all of them still: nothing is held then, and the program's ncclRecv gets them. */
static enum tide_status receive_all(const struct plan *plans, struct held **messages, size_t count, char *why, size_t size)
{
    call_ours(1);
    ncclResult_t result = real.GroupStart(), ended;
    for (size_t i = 0; i < count && result == ncclSuccess; i++)
        result = receive(&plans[i], messages[i]);
    ended = real.GroupEnd();
    call_ours(-1);
    result = result == ncclSuccess ? ended : result;
    for (size_t i = 0; i < count; i++) {
        if (result == ncclSuccess)
            hold(&plans[i], messages[i]);
        else
            free_messages(messages[i]);
    }
    if (result == ncclSuccess)
        return TIDE_OK;
    snprintf(why, size, "messages that are under way cannot be received: NCCL's error %d", (int)result);
    return TIDE_E_UNAVAILABLE;
}

static enum tide_status take_planned(const struct plan *plans, size_t count, uint64_t deadline_ns, char *why, size_t size)
{
    enum tide_status status = TIDE_OK;
    struct held **messages = mem_try_array(count, sizeof(struct held *));
    if (messages == NULL) {
        snprintf(why, size, "no memory to receive messages that are under way");
        return TIDE_E_NOMEM;
    }
    for (size_t i = 0; i < count && status == TIDE_OK; i++) {
        cuda_use(plans[i].gpu);
        status = make_messages(&plans[i], &messages[i], why, size);
    }
    if (status == TIDE_OK)
        status = receive_all(plans, messages, count, why, size);
    else
        for (size_t i = 0; i < count; i++)
            free_messages(messages[i]);
    for (size_t i = 0; i < count && status == TIDE_OK; i++) {
        cuda_use(plans[i].gpu);
        status = await(plans[i].comm->side, deadline_ns, "receive messages that are under way", why, size);
    }
    mem_free(messages);
    return status;
}

enum tide_status tide_nccl_take(const struct control_channel *arriving, size_t count, uint64_t bytes_max,
                                uint64_t deadline_ns, char *why, size_t size)
{
    struct plan plans[CONTROL_CHANNELS_MAX];
    if (count > CONTROL_CHANNELS_MAX)
        count = CONTROL_CHANNELS_MAX;
    size_t planned = make_plans(arriving, count, plans);
    enum tide_status status = TIDE_OK;
    if (planned == 0)
        return TIDE_OK;
    status = check(plans, planned, bytes_max, why, size);
    if (status == TIDE_OK && !cuda_find()) {
        snprintf(why, size, "messages are under way, and CUDA's runtime, with which they would be received, is not found");
        status = TIDE_E_UNSUPPORTED;
    }
    if (status == TIDE_OK) {
        int before = cuda_use(gpu_of(plans[0].comm));
        for (size_t i = 0; i < planned; i++)
            plans[i].gpu = gpu_of(plans[i].comm);
        status = take_planned(plans, planned, deadline_ns, why, size);
        cuda_use(before);
    }
    for (size_t i = 0; i < planned; i++)
        comm_put(plans[i].comm);
    return status;
}

/* ---- the program's own receives ---- */

static struct held *take_out_for(const struct comm *comm, int from, uint64_t bytes, bool *ret_fits)
{
    struct held **at = &first, *message;
    *ret_fits = true;
    pthread_mutex_lock(&writing);
    pthread_mutex_lock(&comms.lock);
    while (*at && ((*at)->comm != comm->id || (*at)->from != from || (*at)->to != comm->rank))
        at = &(*at)->next;
    message = *at;
    if (message != NULL) {
        *ret_fits = message->bytes == bytes;
        if (*ret_fits)
            unlink_one(at);
    }
    pthread_mutex_unlock(&comms.lock);
    pthread_mutex_unlock(&writing);
    return message;
}

/* In order behind the receive, on the device; the program's thread does not wait. */
static cudaError_t hand_over(struct held *message, void *to, cudaStream_t stream)
{
    cudaEvent_t event;
    if (message->host != NULL) /* it returns when that may be freed */
        return cuda.MemcpyAsync(to, message->host, message->bytes, cudaMemcpyHostToDevice, stream);
    cudaError_t error = cuda.EventCreateWithFlags(&event, cudaEventDisableTiming);
    if (error != cudaSuccess)
        return error;
    error = cuda.EventRecord(event, message->stream);
    if (error == cudaSuccess)
        error = cuda.StreamWaitEvent(stream, event, 0);
    if (error == cudaSuccess && message->bytes > 0)
        error = cuda.MemcpyAsync(to, message->device, message->bytes, cudaMemcpyDeviceToDevice, stream);
    cuda.EventDestroy(event);
    if (error == cudaSuccess)
        error = cuda.FreeAsync(message->device, stream);
    return error;
}

bool held_serve(struct comm *comm, void *to, uint64_t bytes, int from, cudaStream_t stream, ncclResult_t *ret_result)
{
    bool fits;
    comm_ask_size(comm);
    struct held *message = take_out_for(comm, from, bytes, &fits);
    if (message == NULL)
        return false;
    *ret_result = ncclInvalidUsage;
    if (!fits)
        return true;
    *ret_result = ncclUnhandledCudaError;
    if (cuda_find()) {
        int before = cuda_use(gpu_of(comm));
        if (hand_over(message, to, stream) == cudaSuccess)
            *ret_result = ncclSuccess;
        cuda_use(before);
    }
    mem_free(message->host);
    mem_free(message);
    return true;
}

void held_forget(const struct comm *comm)
{
    struct held *gone = NULL, **at = &first;
    pthread_mutex_lock(&writing);
    pthread_mutex_lock(&comms.lock);
    while (*at) {
        struct held *message = *at;
        if (comm != NULL && (message->comm != comm->id || message->to != comm->rank)) {
            at = &message->next;
            continue;
        }
        unlink_one(at);
        message->next = gone;
        gone = message;
    }
    pthread_mutex_unlock(&comms.lock);
    pthread_mutex_unlock(&writing);
    free_messages(gone);
}

/* ---- in checkpoints ---- */

uint64_t tide_nccl_held_bytes(void)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&comms.lock);
    for (const struct held *message = first; message; message = message->next)
        bytes += cut_channel_entry_bytes(message->bytes);
    pthread_mutex_unlock(&comms.lock);
    return bytes > 0 ? cut_channel_head_bytes(0) + bytes : 0;
}

static enum tide_status write_one(const struct held *message, unsigned char *to, uint64_t deadline_ns, char *why,
                                  size_t size)
{
    static const char what[] = "save messages that were under way";
    struct cut_entry entry = {
        .comm = message->comm, .source = (uint32_t)message->from, .tag = message->to, .bytes = message->bytes};
    void *payload = cut_channel_frame(to, &entry);
    if (message->host != NULL)
        memcpy(payload, message->host, (size_t)message->bytes);
    if (message->host != NULL || message->bytes == 0)
        return TIDE_OK;
    int before = cuda_use(message->gpu);
    cudaError_t error = cuda.MemcpyAsync(payload, message->device, message->bytes, cudaMemcpyDeviceToHost, message->stream);
    enum tide_status status =
        error == cudaSuccess ? await(message->stream, deadline_ns, what, why, size) : cuda_failed(error, what, why, size);
    cuda_use(before);
    return status;
}

enum tide_status tide_nccl_held_write(void *to, uint64_t bytes, uint64_t deadline_ns, char *why, size_t size)
{
    enum tide_status status = TIDE_OK;
    unsigned char *at = to;
    pthread_mutex_lock(&writing);
    if (tide_nccl_held_bytes() != bytes) {
        snprintf(why, size, "another thread has called ncclRecv at the safe point");
        status = TIDE_E_STATE;
    } else {
        cut_channel_print_head(at, NULL, 0);
        at += cut_channel_head_bytes(0);
    }
    for (const struct held *message = first; message && status == TIDE_OK; message = message->next) {
        status = write_one(message, at, deadline_ns, why, size);
        at += cut_channel_entry_bytes(message->bytes);
    }
    pthread_mutex_unlock(&writing);
    return status;
}

static struct held *loaded(const struct cut_entry *entry, const void *payload)
{
    struct held *message = mem_try_alloc(sizeof *message);
    void *host = mem_try_alloc((size_t)entry->bytes + 1);
    if (message == NULL || host == NULL) {
        mem_free(message);
        mem_free(host);
        return NULL;
    }
    memcpy(host, payload, (size_t)entry->bytes);
    *message = (struct held){
        .comm = entry->comm, .from = (int)entry->source, .to = entry->tag, .bytes = entry->bytes, .host = host};
    return message;
}

static enum tide_status read_log(const void *log, size_t bytes, struct held **ret_messages, struct err *err)
{
    struct cut_channel channel;
    struct cut_entry entry;
    const void *payload = NULL;
    enum tide_status status = cut_channel_open(&channel, log, bytes, err);
    while (status == TIDE_OK) {
        status = cut_channel_next(&channel, &entry, &payload, err);
        if (status != TIDE_OK || payload == NULL)
            return status;
        *ret_messages = loaded(&entry, payload);
        if (*ret_messages == NULL)
            return err_set(err, TIDE_E_NOMEM, "no memory for a message of %" PRIu64 " bytes", entry.bytes);
        ret_messages = &(*ret_messages)->next;
    }
    return status;
}

/* All of it, or nothing. */
enum tide_status tide_nccl_load(const void *log, size_t bytes, char *why, size_t size)
{
    struct err err = {.status = TIDE_OK, .text = ""};
    struct held *messages = NULL;
    enum tide_status status = read_log(log, bytes, &messages, &err);
    if (status != TIDE_OK) {
        free_messages(messages);
        snprintf(why, size, "%s", err.text);
        return status;
    }
    pthread_mutex_lock(&comms.lock);
    while (messages) {
        struct held *message = messages;
        messages = message->next;
        message->next = NULL;
        append(message);
    }
    pthread_mutex_unlock(&comms.lock);
    return TIDE_OK;
}
