/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/client/nccl/inside.h"

/* A thread that asks each communicator whether it went wrong, as NCCL tells nobody by itself: kernels of a dead collective
 * wait for ever. It is aborted then, and whoever waits for its streams goes on and sees the error. */

#define CALLS_LOOK_MS 1u /* between two looks whether calls have come back */
#define ABORTS_MAX 64u   /* at a time; whatever goes wrong besides waits for one of them */
#define REST_MS 2000u    /* until those that are being aborted make room for the rest; a rank is given a few seconds to leave */
#define OWN_REFS 2u      /* the table's and that of the watch */

static _Atomic unsigned aborting;
static pid_t watching; /* the process that has the thread; a forked child has none */

bool in_job(void)
{
    const char *path = getenv(ENV_SOCKET);
    return path != NULL && path[0] != '\0';
}

/* Dead from now on; a reference. The lock is held. */
static struct comm *condemn(struct comm *comm, ncclResult_t error)
{
    atomic_store(&comm->error, (int)error);
    atomic_fetch_add(&comm->refs, 1);
    return comm;
}

/* The first that went wrong since the last look, dead by now; a reference. */
static struct comm *find_wrong(void)
{
    struct comm *wrong = NULL;
    pthread_mutex_lock(&comms.lock);
    for (struct comm *comm = comms.first; comm && wrong == NULL; comm = comm->next) {
        ncclResult_t error = ncclSuccess;
        if (atomic_load(&comm->error) != ncclSuccess || real.CommGetAsyncError(comm->handle, &error) != ncclSuccess)
            continue;
        if (error != ncclSuccess && error != ncclInProgress)
            wrong = condemn(comm, error);
    }
    pthread_mutex_unlock(&comms.lock);
    return wrong;
}

/* The first that lives, and does no longer; a reference. */
static struct comm *find_live(void)
{
    struct comm *live = NULL;
    pthread_mutex_lock(&comms.lock);
    for (struct comm *comm = comms.first; comm && live == NULL; comm = comm->next)
        if (atomic_load(&comm->error) == ncclSuccess)
            live = condemn(comm, ncclRemoteError);
    pthread_mutex_unlock(&comms.lock);
    return live;
}

/* NCCL frees it with the abort. Whoever has found it alive is given the time to come into NCCL, and out again; but not more,
 * as he may be the one that sits there for ever. */
static void give_up(struct comm *comm)
{
    const struct timespec pause = {.tv_nsec = CALLS_LOOK_MS * NS_PER_MS};
    uint64_t until_ns = clock_mono_ns() + WATCH_MS * NS_PER_MS;
    while (atomic_load(&comm->refs) > OWN_REFS && clock_mono_ns() < until_ns)
        nanosleep(&pause, NULL);
    real.CommAbort(comm->handle);
    comm_put(comm);
}

static void *abort_one(void *comm)
{
    give_up(comm);
    atomic_fetch_sub(&aborting, 1);
    return NULL;
}

bool run_beside(void *(*run)(void *), void *context)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool runs = pthread_create(&thread, &attributes, run, context) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return runs;
}

/* Each by a thread of its own: NCCL frees device memory in an abort, for which CUDA waits for what runs on the device, and
 * that may be a kernel of another that is to be aborted. False: there may be more. */
static bool abort_all(struct comm *(*find)(void))
{
    while (atomic_load(&aborting) < ABORTS_MAX) {
        struct comm *comm = find();
        if (comm == NULL)
            return true;
        atomic_fetch_add(&aborting, 1);
        if (!run_beside(abort_one, comm))
            abort_one(comm);
    }
    return false;
}

static void *watch(void *unused)
{
    const struct timespec pause = {.tv_nsec = WATCH_MS * NS_PER_MS};
    (void)unused;
    for (;;) {
        (void)abort_all(find_wrong);
        marks_tell();
        nanosleep(&pause, NULL);
    }
    return NULL;
}

void tide_nccl_over(void)
{
    (void)abort_all(find_live);
}

void watch_abort_rest(void)
{
    const struct timespec pause = {.tv_nsec = CALLS_LOOK_MS * NS_PER_MS};
    uint64_t until_ns = clock_mono_ns() + REST_MS * NS_PER_MS;
    while (!abort_all(find_live) && clock_mono_ns() < until_ns)
        nanosleep(&pause, NULL);
}

void watch_begin(void)
{
    if (!in_job())
        return;
    pthread_mutex_lock(&comms.lock);
    bool first = watching != getpid();
    watching = getpid();
    pthread_mutex_unlock(&comms.lock);
    if (first && !run_beside(watch, NULL))
        watching = 0;
}
