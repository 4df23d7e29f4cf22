/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/sim_nccl/sim.h"

#define LATER_MAX 64u /* communicators made in one group */
#define MEET_LOOK_US 1000u

static __thread char last_error[256] = "no error";
static __thread struct {
    struct ncclComm *comm, **ret_comm;
} later[LATER_MAX];
static __thread unsigned later_count;

ncclResult_t sim_fail(ncclResult_t result, const char *why)
{
    snprintf(last_error, sizeof last_error, "%s", why);
    return result;
}

static void say(void)
{
    fputs("libnccl.so.2 is a simulator: what goes from rank to rank goes through memory of this host\n", stderr);
}

static void say_once(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, say);
}

/* ---- shared memory ---- */

static size_t head_bytes(void)
{
    return (sizeof(struct sim_shared) + 4095) / 4096 * 4096;
}

char *sim_slot(const struct ncclComm *comm, int rank)
{
    return (char *)comm->shared + head_bytes() + (size_t)rank * SIM_SLOT_BYTES;
}

struct sim_mail *sim_mail(const struct ncclComm *comm, int from, int to)
{
    char *mails = sim_slot(comm, comm->ranks);
    return (struct sim_mail *)(void *)mails + (size_t)from * (size_t)comm->ranks + (size_t)to;
}

static void path_of(const struct ncclComm *comm, char to[64])
{
    snprintf(to, 64, "/dev/shm/sim-nccl-%s", comm->id);
}

/* Whoever comes first makes it; all make it as large. */
static ncclResult_t map(struct ncclComm *comm)
{
    char path[64];
    size_t ranks = (size_t)comm->ranks;
    path_of(comm, path);
    comm->shared_bytes = head_bytes() + ranks * SIM_SLOT_BYTES + ranks * ranks * sizeof(struct sim_mail);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)comm->shared_bytes) != 0) {
        if (fd >= 0)
            close(fd);
        return sim_fail(ncclSystemError, "no shared memory");
    }
    void *at = mmap(NULL, comm->shared_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    comm->shared = at == MAP_FAILED ? NULL : at;
    return comm->shared ? ncclSuccess : sim_fail(ncclSystemError, "no shared memory");
}

void sim_comm_unref(struct ncclComm *comm)
{
    if (atomic_fetch_sub(&comm->refs, 1) > 1)
        return;
    sim_ras_remove(comm);
    for (int r = 0; r < comm->ranks; r++)
        if (comm->pidfds[r] >= 0)
            close(comm->pidfds[r]);
    if (comm->shared)
        munmap(comm->shared, comm->shared_bytes);
    free(comm);
}

/* ---- members find each other ---- */

static ncclResult_t announce(struct ncclComm *comm)
{
    ncclResult_t result = map(comm);
    if (result != ncclSuccess)
        return result;
    int32_t none = 0;
    if (!atomic_compare_exchange_strong(&comm->shared->members[comm->rank].pid, &none, (int32_t)getpid()))
        return sim_fail(ncclInvalidUsage, "two members of a communicator have one rank");
    sim_host(comm->shared->members[comm->rank].host, SIM_HOST_CHARS + 1);
    sim_ras_add(comm);
    atomic_fetch_add(&comm->shared->joined, 1);
    sim_wake(&comm->shared->joined);
    return ncclSuccess;
}

static void open_peers(struct ncclComm *comm)
{
    for (int r = 0; r < comm->ranks; r++) {
        int32_t pid = atomic_load(&comm->shared->members[r].pid);
        comm->is_beside = comm->is_beside || (r != comm->rank && pid == (int32_t)getpid());
        if (pid != 0 && r != comm->rank && comm->pidfds[r] < 0)
            comm->pidfds[r] = (int)syscall(SYS_pidfd_open, pid, 0);
    }
}

ncclResult_t sim_join(struct ncclComm *comm)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    char path[64];
    time_t until = time(NULL) + SIM_INIT_S;
    path_of(comm, path);
    while (atomic_load(&comm->shared->joined) < (uint32_t)comm->ranks) {
        open_peers(comm);
        sim_look_at_peers(comm, SIM_ALL);
        if (atomic_load(&comm->async) != ncclSuccess || time(NULL) > until) {
            unlink(path);
            return sim_fail(ncclRemoteError, "a member of the communicator is gone, or did not come");
        }
        nanosleep(&pause, NULL);
    }
    open_peers(comm);
    if (comm->rank == 0)
        unlink(path);
    return ncclSuccess;
}

/* In a group all are announced before any is waited for. NULL: the group ends. */
ncclResult_t sim_later(struct ncclComm *comm, struct ncclComm **ret_comm)
{
    ncclResult_t result = ncclSuccess;
    if (comm != NULL && later_count == LATER_MAX)
        return sim_fail(ncclInvalidUsage, "too many communicators in one group");
    if (comm != NULL) {
        later[later_count].comm = comm;
        later[later_count++].ret_comm = ret_comm;
        return ncclSuccess;
    }
    for (unsigned i = 0; i < later_count; i++) {
        ncclResult_t one = sim_join(later[i].comm);
        if (one == ncclSuccess)
            *later[i].ret_comm = later[i].comm;
        result = result == ncclSuccess ? one : result;
    }
    later_count = 0;
    return result;
}

/* In a group those that are made of others are there at its end, and not before. */
static ncclResult_t make(const char *id, int ranks, int rank, bool of_another, struct ncclComm **ret_comm)
{
    if (ranks < 1 || ranks > SIM_RANKS_MAX || rank < 0 || rank >= ranks)
        return sim_fail(ncclInvalidArgument, "such a communicator is not possible in the simulator");
    struct ncclComm *comm = calloc(1, sizeof *comm);
    snprintf(comm->id, sizeof comm->id, "%s", id);
    comm->rank = rank;
    comm->ranks = ranks;
    comm->refs = 1;
    cudaGetDevice(&comm->device);
    for (int r = 0; r < SIM_RANKS_MAX; r++)
        comm->pidfds[r] = -1;
    say_once();
    ncclResult_t result = announce(comm);
    if (result == ncclSuccess)
        result = sim_group_depth > 0 ? sim_later(comm, ret_comm) : sim_join(comm);
    if (result != ncclSuccess)
        sim_comm_unref(comm);
    else if (sim_group_depth == 0 || !of_another)
        *ret_comm = comm;
    return result;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *ret_id)
{
    unsigned char random[SIM_ID_CHARS / 2];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return sim_fail(ncclSystemError, "no random numbers");
    memset(ret_id, 0, sizeof *ret_id);
    for (unsigned i = 0; i < sizeof random; i++)
        snprintf(ret_id->internal + (size_t)2 * i, 3, "%02x", random[i]);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t *ret_comm, int ranks, ncclUniqueId id, int rank)
{
    id.internal[SIM_ID_CHARS] = '\0';
    return make(id.internal, ranks, rank, false, ret_comm);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *ret_comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    (void)config;
    return ncclCommInitRank(ret_comm, ranks, id, rank);
}

/* As the real one has it: an interposer sees that an id is made, and no more. */
ncclResult_t ncclCommInitAll(ncclComm_t *comms, int count, const int *devices)
{
    ncclUniqueId id;
    int before = 0;
    ncclResult_t result = ncclGetUniqueId(&id), joined;
    id.internal[SIM_ID_CHARS] = '\0';
    cudaGetDevice(&before);
    sim_group_depth++;
    for (int i = 0; i < count && result == ncclSuccess; i++) {
        cudaSetDevice(devices != NULL ? devices[i] : i);
        result = make(id.internal, count, i, false, &comms[i]);
    }
    sim_group_depth--;
    joined = sim_group_depth > 0 ? ncclSuccess : sim_later(NULL, NULL);
    cudaSetDevice(before);
    return result == ncclSuccess ? joined : result;
}

/* ---- made of others ---- */

/* The same with all of its members. */
static void derived_id(const struct ncclComm *parent, const char *how, uint32_t number, int colour,
                       char to[SIM_ID_CHARS + 1])
{
    uint64_t hash[2] = {UINT64_C(0xcbf29ce484222325), UINT64_C(0x9e3779b97f4a7c15)};
    char text[128];
    int n = snprintf(text, sizeof text, "%s %s %u %d", parent->id, how, number, colour);
    for (int i = 0; i < 2 * n; i++)
        hash[i & 1] = (hash[i & 1] ^ (unsigned char)text[i / 2]) * UINT64_C(0x100000001b3);
    snprintf(to, SIM_ID_CHARS + 1, "%016llx%016llx", (unsigned long long)hash[0], (unsigned long long)hash[1]);
}

static void finish_streams(struct ncclComm *comm)
{
    int before = comm->device;
    cudaGetDevice(&before);
    cudaSetDevice(comm->device);
    for (unsigned i = 0; i < comm->stream_count; i++)
        cudaStreamSynchronize(comm->streams[i]);
    cudaSetDevice(before);
}

static void place_in(const struct ncclComm *parent, int colour, int *ret_ranks, int *ret_rank)
{
    int key = parent->shared->members[parent->rank].key;
    *ret_ranks = *ret_rank = 0;
    for (int r = 0; r < parent->ranks; r++) {
        if (parent->shared->members[r].colour != colour)
            continue;
        int other = parent->shared->members[r].key;
        *ret_rank += other < key || (other == key && r < parent->rank);
        ++*ret_ranks;
    }
}

ncclResult_t ncclCommSplit(ncclComm_t parent, int colour, int key, ncclComm_t *ret_comm, ncclConfig_t *config)
{
    char id[SIM_ID_CHARS + 1];
    int ranks = 0, rank = 0;
    (void)config;
    finish_streams(parent);
    parent->shared->members[parent->rank].colour = colour;
    parent->shared->members[parent->rank].key = key;
    if (sim_barrier(parent, &parent->shared->host) != 0)
        return sim_fail(ncclRemoteError, "the communicator was aborted");
    place_in(parent, colour, &ranks, &rank);
    derived_id(parent, "split", parent->splits++, colour, id);
    if (sim_barrier(parent, &parent->shared->host) != 0)
        return sim_fail(ncclRemoteError, "the communicator was aborted");
    *ret_comm = NULL;
    return colour == NCCL_SPLIT_NOCOLOR ? ncclSuccess : make(id, ranks, rank, true, ret_comm);
}

ncclResult_t ncclCommShrink(ncclComm_t parent, int *without, int without_count, ncclComm_t *ret_comm, ncclConfig_t *config,
                            int flags)
{
    char id[SIM_ID_CHARS + 1];
    int ranks = parent->ranks, rank = parent->rank;
    (void)config;
    if (flags & NCCL_SHRINK_ABORT)
        atomic_store(&parent->abort, 1);
    finish_streams(parent);
    for (int i = 0; i < without_count; i++) {
        if (without[i] == parent->rank)
            return sim_fail(ncclInvalidUsage, "a member that is left out does not take part");
        ranks--;
        rank -= without[i] < parent->rank;
    }
    derived_id(parent, "shrink", parent->shrinks++, 0, id);
    *ret_comm = NULL;
    return make(id, ranks, rank, true, ret_comm);
}

/* ---- the end ---- */

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    finish_streams(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    finish_streams(comm);
    sim_comm_unref(comm);
    return ncclSuccess;
}

static void stop(struct ncclComm *comm)
{
    atomic_store(&comm->abort, 1);
    atomic_store(&comm->shared->members[comm->rank].aborted, 1);
    sim_wake(&comm->shared->device.round);
    sim_wake(&comm->shared->host.round);
    sim_wake(&comm->shared->traffic);
}

/* As real ones that hang in each other on one device. */
static void meet_others(void)
{
    static _Atomic unsigned long aborts;
    const char *text = getenv("SIM_NCCL_ABORTS_MEET");
    unsigned long wanted = text != NULL ? strtoul(text, NULL, 10) : 0;
    atomic_fetch_add(&aborts, 1);
    while (atomic_load(&aborts) < wanted)
        usleep(MEET_LOOK_US);
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    stop(comm);
    meet_others();
    sim_comm_unref(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommRevoke(ncclComm_t comm, int flags)
{
    if (flags != NCCL_REVOKE_DEFAULT)
        return sim_fail(ncclInvalidArgument, "no such flag");
    stop(comm);
    return ncclSuccess;
}

/* ---- questions ---- */

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *ret_error)
{
    *ret_error = (ncclResult_t)atomic_load(&comm->async);
    if (*ret_error != ncclSuccess)
        atomic_store(&comm->told, 1);
    return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int *ret_count)
{
    *ret_count = comm->ranks;
    return ncclSuccess;
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int *ret_rank)
{
    *ret_rank = comm->rank;
    return ncclSuccess;
}

ncclResult_t ncclCommCuDevice(const ncclComm_t comm, int *ret_device)
{
    *ret_device = comm->device;
    return ncclSuccess;
}

ncclResult_t ncclGetVersion(int *ret_version)
{
    *ret_version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const texts[ncclNumResults] = {"no error",
                                                      "unhandled cuda error",
                                                      "unhandled system error",
                                                      "internal error",
                                                      "invalid argument",
                                                      "invalid usage",
                                                      "remote process exited or there was a network error",
                                                      "in progress"};
    return (unsigned)result < ncclNumResults ? texts[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return last_error;
}
