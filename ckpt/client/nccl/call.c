/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/nccl/inside.h"

/* What is put into streams goes to NCCL as it is, and is counted on entry: by communicator, messages by peer; but for
 * messages that have been received already (held.c). One line per collective: its name, parameters, arguments. */

#define UNPACK(...) __VA_ARGS__

/* NCCL makes some of its own calls through the names that are ours: those are not the program's. */
static __thread unsigned depth __attribute__((tls_model("initial-exec")));
static __thread unsigned group_depth __attribute__((tls_model("initial-exec")));
#define GROUPED_MAX 8u /* communicators of a group that get a mark */
/* The last collective of each in the group: it goes into its stream when the group ends. */
static __thread struct {
    ncclComm_t handle;
    cudaStream_t stream;
} grouped[GROUPED_MAX] __attribute__((tls_model("initial-exec")));
static __thread unsigned grouped_count __attribute__((tls_model("initial-exec")));

static inline struct comm *enter(ncclComm_t handle)
{
    return depth++ == 0 && LIKELY(handle != NULL) ? comm_get(handle) : NULL;
}

static inline ncclResult_t leave(struct comm *comm, ncclResult_t result)
{
    depth--;
    return comm_done(comm, result);
}

static void note_grouped(ncclComm_t handle, cudaStream_t stream)
{
    unsigned i = 0;
    while (i < grouped_count && grouped[i].handle != handle)
        i++;
    if (i == GROUPED_MAX)
        return;
    grouped[i].handle = handle;
    grouped[i].stream = stream;
    grouped_count += i == grouped_count;
}

static inline struct mark *count_one(struct comm *comm, cudaStream_t stream)
{
    uint64_t op = atomic_fetch_add_explicit(&comm->collectives, 1, memory_order_relaxed) + 1;
    if (LIKELY(group_depth == 0))
        return mark_before(comm, op, stream);
    note_grouped(comm->handle, stream);
    return NULL;
}

#define COLLECTIVE(name, parameters, arguments)                                                                             \
    ncclResult_t nccl##name(UNPACK parameters, ncclComm_t handle, cudaStream_t stream)                                      \
    {                                                                                                                       \
        struct comm *comm = enter(handle);                                                                                  \
        if (comm_is_dead(comm))                                                                                             \
            return leave(comm, ncclSystemError);                                                                            \
        struct mark *mark = LIKELY(comm != NULL) ? count_one(comm, stream) : NULL;                                              \
        ncclResult_t result = real.name(UNPACK arguments, handle, stream);                                                  \
        if (UNLIKELY(mark != NULL))                                                                                         \
            mark_after(comm, mark, stream, result);                                                                         \
        return leave(comm, result);                                                                                         \
    }

#define BUFFERS const void *from, void *to, size_t count, ncclDataType_t type

COLLECTIVE(AllReduce, (BUFFERS, ncclRedOp_t op), (from, to, count, type, op))
COLLECTIVE(Reduce, (BUFFERS, ncclRedOp_t op, int root), (from, to, count, type, op, root))
COLLECTIVE(Bcast, (void *at, size_t count, ncclDataType_t type, int root), (at, count, type, root))
COLLECTIVE(Broadcast, (BUFFERS, int root), (from, to, count, type, root))
COLLECTIVE(ReduceScatter, (BUFFERS, ncclRedOp_t op), (from, to, count, type, op))
COLLECTIVE(AllGather, (BUFFERS), (from, to, count, type))
COLLECTIVE(AlltoAll, (BUFFERS), (from, to, count, type))
COLLECTIVE(Gather, (BUFFERS, int root), (from, to, count, type, root))
COLLECTIVE(Scatter, (BUFFERS, int root), (from, to, count, type, root))

static uint64_t bytes_of(size_t count, ncclDataType_t type)
{
    switch ((int)type) {
    case ncclInt8:
    case ncclUint8:
    case ANY_FLOAT8_E4M3:
    case ANY_FLOAT8_E5M2:
        return count;
    case ncclFloat16:
    case ncclBfloat16:
        return count * 2;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
        return count * 8;
    default:
        return count * 4;
    }
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t handle, cudaStream_t stream)
{
    struct comm *comm = enter(handle);
    if (comm_is_dead(comm))
        return leave(comm, ncclSystemError);
    if (LIKELY(comm != NULL))
        comm_sent(comm, peer, bytes_of(count, type));
    return leave(comm, real.Send(from, count, type, peer, handle, stream));
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t handle, cudaStream_t stream)
{
    struct comm *comm = enter(handle);
    ncclResult_t result;
    if (comm_is_dead(comm))
        return leave(comm, ncclSystemError);
    if (LIKELY(comm != NULL)) {
        atomic_store_explicit(&comm->receives, true, memory_order_relaxed);
        if (UNLIKELY(atomic_load(&held_count) > 0) && held_serve(comm, to, bytes_of(count, type), peer, stream, &result))
            return leave(comm, result);
        comm_add_received(comm, peer);
        atomic_store_explicit(&comm->received_in, stream, memory_order_relaxed);
        atomic_store_explicit(&comm->has_received, true, memory_order_release);
    }
    return leave(comm, real.Recv(to, count, type, peer, handle, stream));
}

unsigned call_group_depth(void)
{
    return group_depth;
}

void call_ours(int change)
{
    depth += (unsigned)change;
}

ncclResult_t ncclGroupStart(void)
{
    ncclResult_t result = real.GroupStart();
    group_depth += depth == 0 && result == ncclSuccess;
    return result;
}

static ncclResult_t group_ended(ncclResult_t result)
{
    depth--;
    if (depth == 0 && group_depth > 0)
        group_depth--;
    return result;
}

/* Of all that goes into streams now one collective of each communicator gets a mark. */
static ncclResult_t end_marked(void)
{
    struct comm *comm[GROUPED_MAX];
    struct mark *mark[GROUPED_MAX] = {NULL};
    unsigned count = grouped_count;
    grouped_count = 0;
    for (unsigned i = 0; i < count; i++) {
        comm[i] = comm_get(grouped[i].handle);
        if (comm[i] != NULL && !comm_is_dead(comm[i]))
            mark[i] = mark_before(comm[i], atomic_load(&comm[i]->collectives), grouped[i].stream);
    }
    ncclResult_t result = real.GroupEnd();
    for (unsigned i = 0; i < count; i++) {
        if (mark[i] != NULL)
            mark_after(comm[i], mark[i], grouped[i].stream, result);
        comm_put(comm[i]);
    }
    return result;
}

/* What was gathered goes to NCCL here; what it calls meanwhile is its own. */
ncclResult_t ncclGroupEnd(void)
{
    bool marked = depth++ == 0 && group_depth == 1 && grouped_count > 0;
    return group_ended(marked ? end_marked() : real.GroupEnd());
}

/* It ends the group as well, and nothing of it is done; counted it is, and by all members alike. */
ncclResult_t ncclGroupSimulateEnd(ncclSimInfo_t *ret_info)
{
    depth++;
    grouped_count = 0;
    return group_ended(real.GroupSimulateEnd(ret_info));
}
