/* SPDX-License-Identifier: Apache-2.0 */

/* nccl RANKS: libtidemark_nccl before NCCL, one rank on each GPU. Sums are right, they are counted, the communicator has its
 * name; and where there is more than one rank, the last of them is killed, and the others come out of the collective that it
 * left. */

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

struct shared {
    ncclUniqueId id;
    _Atomic int made, right;
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
    for (int r = 0; r < ranks - 1; r++) {
        printf("nccl_out_of_dead_collective_rank%d %.0f ms\n", r, shared->out_ms[r]);
        failed += !(shared->out_ms[r] > 0 && shared->out_ms[r] <= OUT_MS);
    }
    if (ranks > 1)
        printf("%s - nccl: survivors leave a dead collective within %.0f ms\n", failed ? "not ok" : "ok", OUT_MS);
    return failed > 0 || atomic_load(&shared->right) != ranks;
}
