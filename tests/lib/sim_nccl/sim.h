/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_SIM_NCCL_SIM_H
#define TESTS_LIB_SIM_NCCL_SIM_H

/* Inside the simulator. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/lib/sim_nccl/sim_nccl.h"

#define SIM_RANKS_MAX 64
#define SIM_SLOT_BYTES ((size_t)256 << 10) /* of one member, in a collective */
#define SIM_MAIL_BYTES ((size_t)64 << 10)  /* from one member to another */
#define SIM_STREAMS_MAX 16                 /* of a communicator */
#define SIM_INIT_S 60                      /* members that are not there by then are missed */
#define SIM_ID_CHARS 32
#define SIM_HOST_CHARS 45
#define SIM_ALL UINT64_MAX /* members, a bit for each */

#define SIM_COLLECTIVES 8 /* the first of enum sim_kind */
enum sim_kind {
    SIM_ALL_REDUCE,
    SIM_REDUCE,
    SIM_BROADCAST,
    SIM_ALL_GATHER,
    SIM_REDUCE_SCATTER,
    SIM_ALL_TO_ALL,
    SIM_GATHER,
    SIM_SCATTER,
    SIM_SEND,
    SIM_RECV
};

/* ---- what the members share ---- */

struct sim_barrier {
    _Atomic uint32_t arrived, round;
};

struct sim_mail {
    _Atomic uint32_t full;
    uint32_t bytes;
    uint64_t whole; /* of the message */
    char data[SIM_MAIL_BYTES];
};

struct sim_shared {
    _Atomic uint32_t joined;
    struct sim_barrier device, host; /* in streams; in calls that wait */
    _Atomic uint32_t traffic;        /* changes with each change of a mail */
    struct {
        _Atomic int32_t pid;
        _Atomic uint32_t aborted;
        int colour, key; /* of the split under way */
        char host[SIM_HOST_CHARS + 1];
        _Atomic uint64_t begun[SIM_COLLECTIVES];
    } members[SIM_RANKS_MAX];
    /* then a slot for each member, then a mail for each pair */
};

/* ---- a communicator ---- */

struct ncclComm {
    struct ncclComm *next; /* ras.c */
    char id[SIM_ID_CHARS + 1];
    int rank, ranks, device;
    bool is_beside; /* another member, in this process */
    uint32_t splits, shrinks;
    struct sim_shared *shared;
    size_t shared_bytes;
    int pidfds[SIM_RANKS_MAX];
    _Atomic uint32_t refs;    /* the handle, and what is in streams */
    _Atomic int abort, async; /* async: ncclResult_t */
    _Atomic int told;         /* of that error, somebody */
    cudaStream_t streams[SIM_STREAMS_MAX];
    unsigned stream_count;
};

struct sim_op {
    struct sim_op *next; /* done together, as a group has it */
    struct ncclComm *comm;
    enum sim_kind kind;
    const void *from;
    void *to;
    size_t count, done_bytes;
    ncclDataType_t type;
    ncclRedOp_t reduce;
    int root; /* or peer */
    bool stalls, sticks, done;
};

/* ---- comm.c ---- */
void sim_comm_unref(struct ncclComm *comm);
/* Members of a group of calls; they wait for each other, so all are begun before any is waited for. */
ncclResult_t sim_join(struct ncclComm *comm);
ncclResult_t sim_later(struct ncclComm *comm, struct ncclComm **ret_comm);
struct sim_mail *sim_mail(const struct ncclComm *comm, int from, int to);
char *sim_slot(const struct ncclComm *comm, int rank);
ncclResult_t sim_fail(ncclResult_t result, const char *why);

/* ---- wait.c: -1: the communicator was aborted ---- */
int sim_wait(struct ncclComm *comm, const _Atomic uint32_t *word, uint32_t old, uint64_t whom);
int sim_barrier(struct ncclComm *comm, struct sim_barrier *barrier);
void sim_wake(const _Atomic uint32_t *word);
/* One of these members is gone: the communicator says so. */
void sim_look_at_peers(struct ncclComm *comm, uint64_t whom);

/* ---- collective.c, message.c: in the stream ---- */
size_t sim_type_bytes(ncclDataType_t type);
bool sim_reducible(ncclDataType_t type, ncclRedOp_t reduce);
void sim_collective(const struct sim_op *op);
void sim_messages(struct sim_op *first);

/* ---- call.c ---- */
ncclResult_t ncclGroupStart(void); /* the header's are no prototypes */
ncclResult_t ncclGroupEnd(void);
extern __thread unsigned sim_group_depth;

/* ---- ras.c ---- */
void sim_host(char *to, size_t size);
void sim_ras_add(struct ncclComm *comm);
void sim_ras_remove(const struct ncclComm *comm);

/* ---- fault.c ---- */
enum sim_fault { SIM_NO_FAULT, SIM_HANG, SIM_STALL, SIM_ERROR, SIM_LINGER, SIM_STICK };
/* Of the collective that is begun now. */
enum sim_fault sim_next_fault(void);
bool sim_refuses_message(void);

#endif
