/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"

#define SPINS_MAX 64u       /* looks in vain before others are let run */
#define TRIES_MAX 64u       /* the lock is held for less than it takes to sleep */
#define LEAVE_MS_MAX 10000u /* MPI_Finalize waits so long for what is sent from copies */

static _Atomic uint64_t no_page;
struct inside inside = {.word = &no_page, .quick = NEVER, .calm = NEVER};

static pthread_mutex_t lock;

void inside_lock(void)
{
    if (!inside.many_threads)
        return;
    for (unsigned i = 0; pthread_mutex_trylock(&lock) != 0; i++) {
        if (i == TRIES_MAX) {
            pthread_mutex_lock(&lock);
            break;
        }
    }
    inside.depth++;
}

void inside_unlock(void)
{
    if (!inside.many_threads)
        return;
    inside.depth--;
    pthread_mutex_unlock(&lock);
}

void inside_pause(unsigned *spins)
{
    if (++*spins > SPINS_MAX || inside.many_threads) {
        inside_unlock();
        sched_yield();
        inside_lock();
    }
    progress();
    if (inside.many_threads)
        settle_calm();
}

/* An error handler or a callback of the program's may call MPI. */
static void lock_init(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

/* What cannot be set up is left out, on all ranks alike but for memory: messages are not coloured then, and the page says
 * so. */
static void begin(void)
{
    const char *socket_path = getenv(ENV_SOCKET);
    struct err err;
    int level = MPI_THREAD_SINGLE;
    MPI_Comm parent = MPI_COMM_NULL;
    if (socket_path == NULL || socket_path[0] == '\0')
        return;
    PMPI_Comm_rank(MPI_COMM_WORLD, &inside.rank);
    PMPI_Comm_size(MPI_COMM_WORLD, &inside.world_size);
    PMPI_Query_thread(&level);
    inside.parcels.prev = inside.parcels.next = &inside.parcels;
    inside.last_handle = MPI_COMM_NULL;
    lock_init();
    inside.told = mem_try_array((size_t)inside.world_size, sizeof *inside.told);
    for (int i = 0; inside.told && i < inside.world_size; i++)
        inside.told[i].real = MPI_REQUEST_NULL;
    if (cut_rank_init(&inside.cut, (uint32_t)inside.rank, (uint32_t)inside.world_size, &err) != TIDE_OK ||
        inside.told == NULL || requests_init() != MPI_SUCCESS)
        return;
    inside.many_threads = level == MPI_THREAD_MULTIPLE;
    inside.on = true;
    inside.on = comms_init() == MPI_SUCCESS;
    real.Comm_get_parent(&parent);
    inside.foreign = parent != MPI_COMM_NULL;
    settle_quick();
}

int MPI_Init(int *argc, char ***argv)
{
    int error = real.Init(argc, argv);
    if (error == MPI_SUCCESS)
        begin();
    return error;
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
    int error = real.Init_thread(argc, argv, required, provided);
    if (error == MPI_SUCCESS)
        begin();
    return error;
}

/* Nobody receives any more; what was sent from copies is on its way still. */
static void leave(void)
{
    uint64_t until = clock_mono_ns() + LEAVE_MS_MAX * NS_PER_MS;
    unsigned spins = 0;
    int together = 0;
    MPI_Request barrier = MPI_REQUEST_NULL;
    inside_lock();
    if (real.Ibarrier(inside.bookmarks, &barrier) != MPI_SUCCESS)
        together = 1;
    /* Others may wait for messages of ours, and we follow what the page says, until all are here. */
    while (!together || ((inside.copies || !bookmarks_sent() || !offers_sent()) && clock_mono_ns() < until)) {
        if (!together)
            real.Test(&barrier, &together, MPI_STATUS_IGNORE);
        inside_pause(&spins);
    }
    beside_end();
    bookmarks_receive();
    offers_take();
    link_finish();
    inside.on = false;
    inside.quick = NEVER;
    atomic_store(&inside.calm, NEVER);
    inside_unlock();
}

int MPI_Finalize(void)
{
    if (inside.on)
        leave();
    return real.Finalize();
}

INTERPOSED(Init);
INTERPOSED(Init_thread);
INTERPOSED(Finalize);
