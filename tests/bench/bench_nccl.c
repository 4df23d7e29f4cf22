/* SPDX-License-Identifier: Apache-2.0 */

/* What libtidemark_nccl adds to a call, on the host: the same call through it and past it, by turns, the best of each. The
 * call names a type that does not exist, so that whichever NCCL is behind it refuses at once and costs next to nothing
 * itself. */

#include <dlfcn.h>
#include <nccl.h>
#include <stdlib.h>

#include "ckpt/client/nccl/link.h"
#include "ckpt/wire/local.h"
#include "tests/bench/measure.h"

#define CALLS 2000
#define ROUNDS 500
#define ROUND_LONG 60
#define ROUNDS_LONG 20
#define NO_TYPE ((ncclDataType_t)99)
#define PROMISED_NS 100.0
#define EXIT_SLOW 2 /* more than was promised; 1: it could not be measured */

typedef ncclResult_t all_reduce_fn(const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t, cudaStream_t);
typedef ncclResult_t send_fn(const void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t);

static double all_reduces_ns(all_reduce_fn *call, ncclComm_t comm)
{
    double begin = seconds();
    for (int i = 0; i < CALLS; i++)
        if (call(NULL, NULL, 1, NO_TYPE, ncclSum, comm, NULL) == ncclSuccess)
            abort();
    return (seconds() - begin) * 1e9 / CALLS;
}

static double sends_ns(send_fn *call, ncclComm_t comm)
{
    double begin = seconds();
    for (int i = 0; i < CALLS; i++)
        if (call(NULL, 1, NO_TYPE, 0, comm, NULL) == ncclSuccess)
            abort();
    return (seconds() - begin) * 1e9 / CALLS;
}

/* As in a job that is told of how far it is: now and then a call gets two events, so a measurement is long enough for several. */
static double told_ns(all_reduce_fn *call, ncclComm_t comm)
{
    static struct control_progress progress;
    double past = 1e9, told = 1e9;
    tide_nccl_tell(&progress);
    for (int i = 0; i < ROUNDS_LONG; i++) {
        double one = 0, other = 0;
        for (int k = 0; k < ROUND_LONG; k++)
            one += all_reduces_ns(call, comm) / ROUND_LONG;
        for (int k = 0; k < ROUND_LONG; k++)
            other += all_reduces_ns(ncclAllReduce, comm) / ROUND_LONG;
        past = least(past, one);
        told = least(told, other);
    }
    return told - past;
}

int main(void)
{
    ncclUniqueId id;
    ncclComm_t comm = NULL;
    void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_NOLOAD);
    all_reduce_fn *all_reduce = library ? (all_reduce_fn *)dlsym(library, "ncclAllReduce") : NULL;
    send_fn *send = library ? (send_fn *)dlsym(library, "ncclSend") : NULL;
    if (all_reduce == NULL || send == NULL || all_reduce == ncclAllReduce) {
        fputs("bench_nccl: libtidemark_nccl does not stand before NCCL\n", stderr);
        return 1;
    }
    setenv("TIDEMARK_SOCKET", "nobody", 1); /* as in a job: its thread watches, too */
    ncclResult_t made = ncclGetUniqueId(&id);
    if (made == ncclSuccess)
        made = ncclCommInitRank(&comm, 1, id, 0);
    if (made != ncclSuccess) {
        fprintf(stderr, "bench_nccl: no communicator: %s\n", ncclGetErrorString(made));
        return 1;
    }
    double reduce[2] = {1e9, 1e9}, sent[2] = {1e9, 1e9};
    for (int i = 0; i < ROUNDS; i++) {
        reduce[0] = least(reduce[0], all_reduces_ns(all_reduce, comm));
        reduce[1] = least(reduce[1], all_reduces_ns(ncclAllReduce, comm));
        sent[0] = least(sent[0], sends_ns(send, comm));
        sent[1] = least(sent[1], sends_ns(ncclSend, comm));
    }
    result("nccl", "more_all_reduce", reduce[1] - reduce[0], "ns", PROMISED_NS, -1);
    result("nccl", "more_send", sent[1] - sent[0], "ns", PROMISED_NS, -1);
    double told = told_ns(all_reduce, comm);
    result("nccl", "more_all_reduce_told", told, "ns", PROMISED_NS, -1);
    ncclCommDestroy(comm);
    if (told <= PROMISED_NS && reduce[1] - reduce[0] <= PROMISED_NS && sent[1] - sent[0] <= PROMISED_NS)
        return 0;
    fprintf(stderr, "bench_nccl: a call costs more than the %.0f ns that are promised\n", PROMISED_NS);
    return EXIT_SLOW;
}
