/* SPDX-License-Identifier: Apache-2.0 */

/* nccl RANKS: libtidemark_nccl before NCCL, one rank on each GPU. Sums are right, they are counted, the communicator has its
 * name; and where there is more than one rank, messages that nobody has asked for are taken at a record and come to the
 * program all the same; then the last rank is killed, and the others come out of the collective that it left. */

#include <nccl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ckpt/client/nccl/link.h"
#include "ckpt/wire/local.h"

#define RANKS_MAX 8
#define SUMS 200
#define COUNT 1024
#define OUT_MS 2000.0 /* from the death until the survivors go on */
#define LIMIT_S 120
#define AHEAD 3 /* messages under way from each rank to the next */
#define AHEAD_MS 10000u
#define MOST_BYTES ((uint64_t)1 << 30)

static const size_t ahead_bytes[AHEAD] = {8, 4000, (size_t)16 << 20};

struct shared {
    ncclUniqueId id;
    _Atomic int made, right, marked, taken;
    struct control_channel marks[RANKS_MAX];
    _Atomic uint64_t died_ns;
    double out_ms[RANKS_MAX];
};

static void must(int good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "# rank %s: %s\n", getenv("RANK"), what);
    _exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static ncclComm_t join(struct shared *shared, int rank, int ranks)
{
    ncclComm_t comm = NULL;
    must(cudaSetDevice(rank) == cudaSuccess, "no GPU");
    if (rank == 0) {
        must(ncclGetUniqueId(&shared->id) == ncclSuccess, "no unique id");
        atomic_store(&shared->made, 1);
    }
    while (!atomic_load(&shared->made))
        usleep(1000);
    must(ncclCommInitRank(&comm, ranks, shared->id, rank) == ncclSuccess, "no communicator");
    return comm;
}

static void sum(ncclComm_t comm, int rank, int ranks)
{
    static int64_t host[COUNT];
    struct control_comm told = {.id = 0};
    int64_t *at = NULL;
    must(cudaMalloc((void **)&at, sizeof host) == cudaSuccess, "no device memory");
    for (int i = 0; i < SUMS; i++) {
        for (int k = 0; k < COUNT; k++)
            host[k] = rank + i + k;
        must(cudaMemcpy(at, host, sizeof host, cudaMemcpyHostToDevice) == cudaSuccess, "no copy");
        must(ncclAllReduce(at, at, COUNT, ncclInt64, ncclSum, comm, NULL) == ncclSuccess, "no sum");
        must(cudaMemcpy(host, at, sizeof host, cudaMemcpyDeviceToHost) == cudaSuccess, "no copy back");
        for (int k = 0; k < COUNT; k++)
            must(host[k] == (int64_t)ranks * (i + k) + ranks * (ranks - 1) / 2, "a sum is wrong");
    }
    must(tide_nccl_comms(&told, 1) == 1 && told.collectives == SUMS && told.size == (uint32_t)ranks, "the count is wrong");
    must(strcmp(told.name, "nccl 0.0") == 0, "the communicator has not its name: NCCL leaves no place in its unique id");
}

static void await_all(_Atomic int *count, int ranks)
{
    atomic_fetch_add(count, 1);
    while (atomic_load(count) < ranks)
        usleep(1000);
}

static void check_message(const unsigned char *at, size_t bytes, int from, unsigned number)
{
    unsigned char *host = malloc(bytes);
    must(host != NULL && cudaMemcpy(host, at, bytes, cudaMemcpyDeviceToHost) == cudaSuccess, "no copy back");
    for (size_t i = 0; i < bytes; i++)
        must(host[i] == (unsigned char)(0x10 * (unsigned)from + number), "a message that was under way is not what was sent");
    free(host);
}

/* Each rank has sent to the next one of a line, which takes that at a record before its program asks for it. */
static void take_ahead(struct shared *shared, ncclComm_t comm, int rank, int ranks)
{
    unsigned char *at = NULL;
    char why[256] = "";
    struct control_member me;
    must(cudaMalloc((void **)&at, ahead_bytes[AHEAD - 1]) == cudaSuccess, "no device memory");
    /* Who has never received does not look. */
    for (unsigned n = 0; n <= AHEAD; n++) {
        size_t bytes = ahead_bytes[n > 0 ? n - 1 : 0];
        if (rank + 1 < ranks) {
            unsigned char *from = NULL;
            must(cudaMalloc((void **)&from, bytes) == cudaSuccess, "no device memory");
            must(cudaMemsetAsync(from, 0x10 * rank + (int)n, bytes, NULL) == cudaSuccess, "cannot set");
            must(ncclSend(from, bytes, ncclUint8, rank + 1, comm, NULL) == ncclSuccess, "cannot send");
        }
        if (n == 0 && rank > 0)
            must(ncclRecv(at, bytes, ncclUint8, rank - 1, comm, NULL) == ncclSuccess, "cannot receive");
        if (n == 0)
            must(cudaStreamSynchronize(NULL) == cudaSuccess, "the stream went wrong");
    }
    must(tide_nccl_channels(&shared->marks[rank], 1) == (rank + 1 < ranks), "channels are wrong");
    must(tide_nccl_members(&me, 1) == (rank > 0), "members are wrong");
    await_all(&shared->marked, ranks);
    enum tide_status status =
        rank > 0 ? tide_nccl_take(&shared->marks[rank - 1], 1, MOST_BYTES, now_ns() + AHEAD_MS * 1000000ull, why, sizeof why)
                 : TIDE_OK;
    must(status == TIDE_OK, why);
    must((tide_nccl_held_bytes() > ahead_bytes[AHEAD - 1]) == (rank > 0), "nothing was taken");
    must(cudaStreamSynchronize(NULL) == cudaSuccess, "the stream went wrong");
    for (unsigned n = 1; rank > 0 && n <= AHEAD; n++) {
        must(ncclRecv(at, ahead_bytes[n - 1], ncclUint8, rank - 1, comm, NULL) == ncclSuccess, "cannot receive what is held");
        check_message(at, ahead_bytes[n - 1], rank - 1, n);
    }
    must(tide_nccl_held_bytes() == 0, "something is left");
    await_all(&shared->taken, ranks);
}

static void leave_dead(struct shared *shared, ncclComm_t comm, int rank, int ranks)
{
    int64_t *at = NULL;
    must(cudaMalloc((void **)&at, sizeof *at) == cudaSuccess, "no device memory");
    if (rank == ranks - 1) {
        usleep(300000); /* the others are in it */
        atomic_store(&shared->died_ns, now_ns());
        raise(SIGKILL);
    }
    must(ncclAllReduce(at, at, 1, ncclInt64, ncclSum, comm, NULL) == ncclSuccess, "no sum");
    cudaStreamSynchronize(NULL);
    shared->out_ms[rank] = (double)(now_ns() - atomic_load(&shared->died_ns)) / 1e6;
    must(ncclAllReduce(at, at, 1, ncclInt64, ncclSum, comm, NULL) != ncclSuccess, "a dead communicator took a sum");
}

static void run(struct shared *shared, int rank, int ranks)
{
    char number[16];
    alarm(LIMIT_S);
    snprintf(number, sizeof number, "%d", rank);
    setenv("RANK", number, 1);
    setenv(ENV_SOCKET, "nobody", 1); /* as in a job */
    ncclComm_t comm = join(shared, rank, ranks);
    sum(comm, rank, ranks);
    atomic_fetch_add(&shared->right, 1);
    if (ranks > 1)
        take_ahead(shared, comm, rank, ranks);
    if (ranks > 1)
        leave_dead(shared, comm, rank, ranks);
    must(ncclCommDestroy(comm) == ncclSuccess, "the communicator cannot be destroyed");
    _exit(0);
}

int main(int argc, char **argv)
{
    int ranks = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1, failed = 0;
    pid_t pids[RANKS_MAX];
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ranks = ranks < 1 ? 1 : ranks > RANKS_MAX ? RANKS_MAX : ranks;
    for (int r = 0; r < ranks; r++) {
        pids[r] = fork();
        if (pids[r] == 0)
            run(shared, r, ranks);
    }
    for (int r = 0; r < ranks; r++) {
        int status = 0;
        waitpid(pids[r], &status, 0);
        bool meant = ranks > 1 && r == ranks - 1 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        failed += !meant && status != 0;
    }
    printf("%s - nccl: sums of %d ranks are right and counted\n", atomic_load(&shared->right) == ranks ? "ok" : "not ok",
           ranks);
    if (ranks > 1)
        printf("%s - nccl: messages under way are taken and handed over\n",
               atomic_load(&shared->taken) == ranks ? "ok" : "not ok");
    for (int r = 0; r < ranks - 1; r++) {
        printf("nccl_out_of_dead_collective_rank%d %.0f ms\n", r, shared->out_ms[r]);
        failed += !(shared->out_ms[r] > 0 && shared->out_ms[r] <= OUT_MS);
    }
    if (ranks > 1)
        printf("%s - nccl: survivors leave a dead collective within %.0f ms\n", failed ? "not ok" : "ok", OUT_MS);
    return failed > 0 || atomic_load(&shared->right) != ranks;
}
