/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/sim_cuda/sim_cuda.h"
#include "tests/lib/sim_nccl/sim.h"

/* From a call into a stream. What is called between ncclGroupStart and ncclGroupEnd is put there by the latter. */

#define STALL_LOOK_US 2000u
#define LINGER_US 20000u

struct launch {
    struct launch *next;
    struct ncclComm *comm;
    cudaStream_t stream;
    bool messages;
    struct sim_op *first, **end;
};

__thread unsigned sim_group_depth;
static __thread struct launch *group, **group_end;
static __thread ncclResult_t group_error; /* of a call in it: none of them is done */

static void stay(struct ncclComm *comm)
{
    while (!atomic_load(&comm->abort)) {
        usleep(STALL_LOOK_US);
        sim_look_at_peers(comm, SIM_ALL);
    }
}

static void free_launch(struct launch *l)
{
    while (l->first) {
        struct sim_op *op = l->first;
        l->first = op->next;
        free(op);
    }
    free(l);
}

static void CUDART_CB run(void *context)
{
    struct launch *l = context;
    if (l->first->stalls)
        stay(l->comm);
    if (l->messages)
        sim_messages(l->first);
    else if (!atomic_load(&l->comm->abort))
        sim_collective(l->first);
    if (l->first->sticks)
        stay(l->comm);
    sim_comm_unref(l->comm);
    free_launch(l);
}

/* Whoever ends the communicator has them done first. */
static void note_stream(struct ncclComm *comm, cudaStream_t stream)
{
    for (unsigned i = 0; i < comm->stream_count; i++)
        if (comm->streams[i] == stream)
            return;
    if (comm->stream_count < SIM_STREAMS_MAX)
        comm->streams[comm->stream_count++] = stream;
}

/* On the communicator's GPU, whichever the program uses. Whoever waits for one member's stream waits for those of the others. */
static ncclResult_t start(struct launch *launch)
{
    struct ncclComm *comm = launch->comm;
    cudaStream_t stream = launch->stream;
    bool is_beside = comm->is_beside;
    int before = comm->device;
    note_stream(comm, stream);
    atomic_fetch_add(&comm->refs, 1);
    cudaGetDevice(&before);
    cudaSetDevice(comm->device);
    cudaError_t error = cudaLaunchHostFunc(stream, run, launch);
    if (error == cudaSuccess && is_beside)
        sim_begin(stream);
    cudaSetDevice(before);
    return error == cudaSuccess ? ncclSuccess : sim_fail(ncclUnhandledCudaError, "the stream took nothing");
}

static struct launch *launch_for(struct ncclComm *comm, cudaStream_t stream, bool messages)
{
    for (struct launch *l = group; l; l = l->next)
        if (messages && l->messages && l->comm == comm && l->stream == stream)
            return l;
    struct launch *l = calloc(1, sizeof *l);
    *l = (struct launch){.comm = comm, .stream = stream, .messages = messages};
    l->end = &l->first;
    if (group == NULL)
        group_end = &group;
    *group_end = l;
    group_end = &l->next;
    return l;
}

static void drop_all(void)
{
    while (group) {
        struct launch *l = group;
        group = l->next;
        free_launch(l);
    }
}

static ncclResult_t start_all(void)
{
    ncclResult_t result = group_error;
    if (result != ncclSuccess)
        drop_all();
    group_error = ncclSuccess;
    while (group) {
        struct launch *l = group;
        group = l->next;
        ncclResult_t one = start(l);
        result = result == ncclSuccess ? one : result;
    }
    return result;
}

/* Aborted from another thread meanwhile. */
static ncclResult_t hang(struct ncclComm *comm)
{
    stay(comm);
    return sim_fail(ncclSystemError, "the communicator was aborted");
}

static ncclResult_t linger(struct ncclComm *comm)
{
    atomic_store(&comm->async, ncclSystemError);
    while (!atomic_load(&comm->told) && !atomic_load(&comm->abort))
        usleep(STALL_LOOK_US);
    usleep(LINGER_US);
    return atomic_load(&comm->abort) ? sim_fail(ncclSystemError, "the communicator was aborted") : ncclSuccess;
}

static ncclResult_t put_held(struct sim_op like, cudaStream_t stream)
{
    bool message = like.kind == SIM_SEND || like.kind == SIM_RECV;
    enum sim_fault fault = message ? SIM_NO_FAULT : sim_next_fault();
    if (message && sim_refuses_message()) {
        group_error = sim_group_depth > 0 ? ncclInternalError : ncclSuccess;
        return sim_fail(ncclInternalError, "the message is refused, as was asked for");
    }
    if (fault == SIM_HANG)
        return hang(like.comm);
    if (fault == SIM_LINGER)
        return linger(like.comm);
    if (fault == SIM_ERROR)
        atomic_store(&like.comm->async, ncclSystemError);
    if (!message)
        atomic_fetch_add(&like.comm->shared->members[like.comm->rank].begun[like.kind], 1);
    like.stalls = fault == SIM_STALL || fault == SIM_ERROR;
    like.sticks = fault == SIM_STICK;
    struct sim_op *op = malloc(sizeof *op);
    *op = like;
    struct launch *l = launch_for(like.comm, stream, message);
    *l->end = op;
    l->end = &op->next;
    return sim_group_depth > 0 ? ncclSuccess : start_all();
}

/* Another thread may abort it meanwhile. */
static ncclResult_t put(struct sim_op like, cudaStream_t stream)
{
    if (like.comm == NULL || sim_type_bytes(like.type) == 0)
        return sim_fail(ncclInvalidArgument, "no communicator, or no type");
    if (like.root < 0 || like.root >= like.comm->ranks)
        return sim_fail(ncclInvalidArgument, "the communicator has no such member");
    atomic_fetch_add(&like.comm->refs, 1);
    ncclResult_t result = put_held(like, stream);
    sim_comm_unref(like.comm);
    return result;
}

static ncclResult_t reduce(struct sim_op like, cudaStream_t stream)
{
    return sim_reducible(like.type, like.reduce) ? put(like, stream)
                                                 : sim_fail(ncclInvalidArgument, "the simulator cannot reduce that");
}

ncclResult_t ncclGroupStart(void)
{
    sim_group_depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    if (sim_group_depth == 0)
        return sim_fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--sim_group_depth > 0)
        return ncclSuccess;
    ncclResult_t joined = sim_later(NULL, NULL), started = start_all();
    return joined == ncclSuccess ? started : joined;
}

/* Communicators are made as in any group. */
ncclResult_t ncclGroupSimulateEnd(ncclSimInfo_t *ret_info)
{
    if (sim_group_depth == 0)
        return sim_fail(ncclInvalidUsage, "ncclGroupSimulateEnd without ncclGroupStart");
    if (--sim_group_depth > 0)
        return ncclSuccess;
    drop_all();
    ret_info->estimatedTime = 0;
    return sim_later(NULL, NULL);
}

ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                           cudaStream_t stream)
{
    return reduce(
        (struct sim_op){
            .comm = comm, .kind = SIM_ALL_REDUCE, .from = from, .to = to, .count = count, .type = type, .reduce = op},
        stream);
}

ncclResult_t ncclReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream)
{
    return reduce((struct sim_op){.comm = comm,
                                  .kind = SIM_REDUCE,
                                  .from = from,
                                  .to = to,
                                  .count = count,
                                  .type = type,
                                  .reduce = op,
                                  .root = root},
                  stream);
}

ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream)
{
    return reduce(
        (struct sim_op){
            .comm = comm, .kind = SIM_REDUCE_SCATTER, .from = from, .to = to, .count = count, .type = type, .reduce = op},
        stream);
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream)
{
    return put(
        (struct sim_op){
            .comm = comm, .kind = SIM_BROADCAST, .from = from, .to = to, .count = count, .type = type, .root = root},
        stream);
}

/* As the real one has it: another call of the library is made, which an interposer sees. */
ncclResult_t ncclBcast(void *buffer, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream)
{
    return ncclBroadcast(buffer, buffer, count, type, root, comm, stream);
}

ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream)
{
    return put((struct sim_op){.comm = comm, .kind = SIM_ALL_GATHER, .from = from, .to = to, .count = count, .type = type},
               stream);
}

ncclResult_t ncclAlltoAll(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t comm,
                          cudaStream_t stream)
{
    return put((struct sim_op){.comm = comm, .kind = SIM_ALL_TO_ALL, .from = from, .to = to, .count = count, .type = type},
               stream);
}

ncclResult_t ncclGather(const void *from, void *to, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                        cudaStream_t stream)
{
    return put(
        (struct sim_op){
            .comm = comm, .kind = SIM_GATHER, .from = from, .to = to, .count = count, .type = type, .root = root},
        stream);
}

ncclResult_t ncclScatter(const void *from, void *to, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                         cudaStream_t stream)
{
    return put(
        (struct sim_op){
            .comm = comm, .kind = SIM_SCATTER, .from = from, .to = to, .count = count, .type = type, .root = root},
        stream);
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    return put((struct sim_op){.comm = comm, .kind = SIM_SEND, .from = from, .count = count, .type = type, .root = peer},
               stream);
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    return put((struct sim_op){.comm = comm, .kind = SIM_RECV, .to = to, .count = count, .type = type, .root = peer},
               stream);
}
