/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_NCCL_INSIDE_H
#define CKPT_CLIENT_NCCL_INSIDE_H

/* Inside libtidemark_nccl. Nothing here calls CUDA, or a function of NCCL that the program has not called, but for
 * ncclCommGetAsyncError and ncclCommAbort (watch.c) and questions of size. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "ckpt/client/nccl/any_nccl.h"
#include "ckpt/client/nccl/cuda.h"
#include "ckpt/client/nccl/link.h"
#include "ckpt/wire/local.h"

#define WATCH_MS 100u /* between two looks at what goes wrong asynchronously */

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ---- real.c: NCCL's own functions, of the library behind this one; NULL: it is older, and has no such ---- */

#define REAL_COLLECTIVES(X)                                                                                                 \
    X(AllReduce) X(Reduce) X(Bcast) X(Broadcast) X(ReduceScatter) X(AllGather) X(AlltoAll) X(Gather) X(Scatter)
#define REAL_OTHERS(X)                                                                                                      \
    X(Send)                                                                                                                 \
    X(Recv) X(GroupStart) X(GroupEnd) X(GroupSimulateEnd) X(GetUniqueId) X(CommInitRank) X(CommInitRankConfig)              \
        X(CommInitRankScalable) X(CommInitAll) X(CommSplit) X(CommShrink) X(CommFinalize) X(CommDestroy) X(CommAbort)       \
            X(CommRevoke) X(CommGetAsyncError) X(CommCount) X(CommCuDevice) X(CommUserRank) X(CommRegister)                 \
                X(CommDeregister) X(CommWindowRegister) X(CommWindowDeregister) X(RedOpCreatePreMulSum) X(RedOpDestroy)

struct real {
#define FIELD(name) __typeof__(&nccl##name) name;
    REAL_COLLECTIVES(FIELD)
    REAL_OTHERS(FIELD)
#undef FIELD
};
extern struct real real;

/* ---- comm.c ---- */

/* To one peer: how many, and how long the last of them are (struct control_channel). */
struct sent {
    uint64_t count, bytes[CONTROL_CHANNEL_LAST];
};

/* mark.c: an operation with an event before it and one behind it. */
#define MARKS 64u            /* that are under way, of a communicator: more than fit between two looks */
#define MARK_GAP_NS 2000000u /* between two of them: what they cost is far below a hundredth of that */

struct mark {
    uint64_t op; /* the number of the collective, from 1 */
    cudaEvent_t before, after;
};

/* A ring: the program's thread puts in at `head`, the one that asks takes out at `tail`. */
struct marks {
    _Atomic uint32_t head, tail;
    _Atomic bool off;    /* there can be no events there */
    _Atomic bool untold; /* nobody is told of it: there are too many */
    bool has_gpu;        /* … which is known, and there are events perhaps */
    uint64_t last_ns;    /* of the program's thread */
    int gpu;
    struct mark items[MARKS];
    _Atomic uint64_t reached, unreached, done, undone; /* struct control_progress_comm */
    uint64_t seen_begun;           /* of the thread that asks */
    uint32_t round;                /* under the lock of comms */
    uint64_t told_begun, since_ns; /* of the watch */
};

/* live → dead, when the watch gives it up; out of the table when the program ends it. A dead one is not NCCL's any more:
 * calls are answered here, with `error`. */
struct comm {
    struct comm *next, *bucket;
    ncclComm_t handle;
    uint64_t id;
    char name[CONTROL_COMM_NAME_MAX + 1];
    _Atomic int error;        /* ncclSuccess: live. The watch alone sets it, with the lock held */
    uint32_t splits, shrinks; /* made of it */
    _Atomic uint64_t collectives;
    _Atomic uint32_t refs; /* the table's, and one of each call that has not come back */
    /* Messages, by peer; NULL: none yet. */
    _Atomic(void *) sent, received; /* struct sent; uint64_t */
    int size, rank;  /* 0, -1: not asked for yet */
    bool background; /* its calls return before anything of theirs is in a stream */
    bool past;       /* of a generation that is over: dead, and counted nowhere */
    struct marks marks;
    /* held.c: its program receives; the stream of the last ncclRecv that went to NCCL, if one has. */
    _Atomic bool receives, has_received;
    _Atomic(cudaStream_t) received_in;
    cudaStream_t side; /* of ours, for messages that are received before the program asks; NULL: none yet */
};

struct comms {
    pthread_mutex_t lock; /* over the list and who is in it; not held in calls of NCCL's that wait */
    struct comm *first, **end;
    _Atomic uint64_t version; /* changes when one is taken out */
    uint32_t ids;             /* handed out by this process */
    /* Why there are communicators that are not in the list; NULL: all are. */
    _Atomic(const char *) unseen;
};
extern struct comms comms;

struct cached {
    ncclComm_t handle;
    struct comm *comm;
    uint64_t version;
};
extern __thread struct cached cached __attribute__((tls_model("initial-exec")));

/* A reference, which keeps what is known of it, and what the watch does to it away for a while; NULL: it is not known.
 * Whoever begins a call of a communicator that has ended already is lost here as in NCCL. */
struct comm *comm_find(ncclComm_t handle);
static inline struct comm *comm_get(ncclComm_t handle)
{
    if (UNLIKELY(handle != cached.handle || atomic_load_explicit(&comms.version, memory_order_relaxed) != cached.version))
        return comm_find(handle);
    if (LIKELY(cached.comm != NULL))
        atomic_fetch_add(&cached.comm->refs, 1);
    return cached.comm;
}
void comm_free(struct comm *comm);
static inline void comm_put(struct comm *comm)
{
    if (comm != NULL && atomic_fetch_sub(&comm->refs, 1) == 1)
        comm_free(comm);
}
/* Of one that is held: whoever holds it sees the error, or the watch sees the reference. */
static inline bool comm_is_dead(const struct comm *comm)
{
    return comm != NULL && UNLIKELY(atomic_load(&comm->error) != ncclSuccess);
}
/* Give it back. If it died meanwhile: whatever NCCL says then, it is that. */
static inline ncclResult_t comm_done(struct comm *comm, ncclResult_t result)
{
    int error = comm != NULL ? atomic_load(&comm->error) : ncclSuccess;
    comm_put(comm);
    return error == ncclSuccess ? result : (ncclResult_t)error;
}
/* One more message to a member, or from one. */
void comm_sent(struct comm *comm, int peer, uint64_t bytes);
void comm_add_received(struct comm *comm, int peer);
uint64_t comm_received(struct comm *comm, int peer);
void comm_ask_size(struct comm *comm);
void comm_ask_size_locked(struct comm *comm); /* the lock is held */
size_t comms_list(struct control_comm *to, size_t room);

/* ---- call.c ---- */

/* Depth of groups of calls of this thread. */
unsigned call_group_depth(void);
/* 1: what this thread calls from now on is ours; -1: no longer. */
void call_ours(int change);

/* ---- held.c ---- */

extern _Atomic uint32_t held_count; /* messages */
/* The program receives: a message that is held for it is handed over. false: there is none. */
bool held_serve(struct comm *comm, void *to, uint64_t bytes, int from, cudaStream_t stream, ncclResult_t *ret_result);
/* The communicator has ended; NULL: all have. */
void held_forget(const struct comm *comm);

/* ---- mark.c ---- */

/* Is it time for one more? */
static inline bool mark_due(uint64_t now_ns, uint64_t last_ns, uint32_t pending)
{
    return pending < MARKS && now_ns - last_ns >= MARK_GAP_NS;
}
/* Collective number `op` is about to go into the stream; NULL: it gets no mark. Then, with what NCCL said of it: */
struct mark *mark_before(struct comm *comm, uint64_t op, cudaStream_t stream);
void mark_after(struct comm *comm, const struct mark *mark, cudaStream_t stream, ncclResult_t result);
void marks_free(struct marks *marks);
/* What is known is told. */
void marks_tell(void);

/* ---- watch.c ---- */

/* There is something to watch. */
void watch_begin(void);
/* Each that lives is being aborted, or has been; all but those for which there was no room in time. */
void watch_abort_rest(void);
bool in_job(void);
/* Deaf to the program's signals, and nobody waits for it. */
bool run_beside(void *(*run)(void *), void *context);

#endif
