/* SPDX-License-Identifier: Apache-2.0 */
#include <mpi.h>
#include <pthread.h>
#include <time.h>

#include "ckpt/client/mpi/link.h"
#include "tests/cut/self.h"
#include "tests/cut/story.h"

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* ---- one thread of rank 1 is in a collective call already when another posts the receive that rank 0 needs to get there ---- */

static MPI_Win window;

static void *in_barrier(void *unused)
{
    MPI_Barrier(MPI_COMM_WORLD);
    return unused;
}

static void nothing(void)
{
}

static void put(void)
{
    int one = 1;
    MPI_Put(&one, 1, MPI_INT, 1, 0, 1, MPI_INT, window);
}

/* behind: what the thread calls that posted it. */
static void posted_beside(uint64_t epoch, void (*behind)(void))
{
    int sent = 7, got = 0;
    pthread_t thread;
    MPI_Request posted;
    begin(epoch);
    if (rank == 1) {
        CHECK(record(epoch));
        MPI_Win_lock(MPI_LOCK_SHARED, 1, 0, window);
        pthread_create(&thread, NULL, in_barrier, NULL);
        sleep_ms(200); /* until it is inside; sooner is no error */
        MPI_Irecv(&got, 1, MPI_INT, 0, 5, MPI_COMM_WORLD, &posted);
        behind();
        side->posted = epoch;
        pthread_join(thread, NULL);
        MPI_Wait(&posted, MPI_STATUS_IGNORE);
        CHECK(got == sent);
        MPI_Win_unlock(1, window);
    } else {
        while (side->posted != epoch)
            nap();
        MPI_Ssend(&sent, 1, MPI_INT, 1, 5, MPI_COMM_WORLD);
        MPI_Barrier(MPI_COMM_WORLD);
        CHECK(record(epoch));
    }
    end(epoch);
}

/* ---- nobody makes or frees communicators while they are listed ---- */

static pthread_t lister;
static _Atomic bool listed;

static void *list(void *unused)
{
    struct tide_mpi_comm world;
    CHECK(tide_mpi_comms(&world, 1) > 0);
    listed = true;
    return unused;
}

static void list_beside(void)
{
    CHECK(pthread_create(&lister, NULL, list, NULL) == 0);
    sleep_ms(200);
    CHECK(!listed);
}

void story_threads(void)
{
    int *memory;
    MPI_Win_allocate(sizeof *memory, sizeof *memory, MPI_INFO_NULL, MPI_COMM_WORLD, &memory, &window);
    posted_beside(1, nothing);
    posted_beside(2, put);
    MPI_Win_free(&window);
    begin(3);
    while_locked = list_beside;
    CHECK(record(3));
    while_locked = NULL;
    pthread_join(lister, NULL);
    CHECK(listed);
    end(3);
}
