/* SPDX-License-Identifier: Apache-2.0 */
#include <mpi.h>

#include "tests/cut/self.h"
#include "tests/cut/story.h"

/* Who waits for others in a loop of its own around a call that does not wait sees in it what the page says. */

static MPI_Win window;

static void call_iprobe(void)
{
    int found = 1;
    MPI_Iprobe(1 - rank, 3, MPI_COMM_WORLD, &found, MPI_STATUS_IGNORE);
    CHECK(!found);
}

#if defined(OPEN_MPI)
static MPI_Comm foreign;

static void call_iprobe_foreign(void)
{
    int found = 1;
    MPI_Iprobe(0, 3, foreign, &found, MPI_STATUS_IGNORE);
    CHECK(!found);
}
#endif

static void call_win_test(void)
{
    int done = 1;
    MPI_Win_test(window, &done);
    CHECK(!done);
}

static void call_win_sync(void)
{
    MPI_Win_sync(window);
}

static void call_win_flush_local(void)
{
    MPI_Win_flush_local(1 - rank, window);
}

static void call_win_flush_local_all(void)
{
    MPI_Win_flush_local_all(window);
}

static void looks(uint64_t epoch, void (*call)(void))
{
    begin(epoch);
    order_flip(epoch);
    CHECK(!has_flipped(epoch));
    call();
    CHECK(has_flipped(epoch));
    end(epoch);
}

#if MPI_VERSION >= 4
static MPI_Request partitioned;

static void call_parrived(void)
{
    int done = 1;
    MPI_Parrived(partitioned, 0, &done);
    CHECK(!done);
}

static void looks_for_part(uint64_t epoch)
{
    int number = 0;
    if (rank == 0) {
        MPI_Psend_init(&number, 1, 1, MPI_INT, 1, 1, MPI_COMM_WORLD, MPI_INFO_NULL, &partitioned);
        MPI_Start(&partitioned);
        looks(epoch, call_iprobe);
        MPI_Pready(0, partitioned);
    } else {
        MPI_Precv_init(&number, 1, 1, MPI_INT, 0, 1, MPI_COMM_WORLD, MPI_INFO_NULL, &partitioned);
        MPI_Start(&partitioned);
        looks(epoch, call_parrived);
    }
    MPI_Wait(&partitioned, MPI_STATUS_IGNORE);
    MPI_Request_free(&partitioned);
}
#endif

void story_looks(void)
{
    int memory[1] = {0};
    MPI_Group all, other;
    MPI_Win_create(memory, sizeof memory, sizeof memory[0], MPI_INFO_NULL, MPI_COMM_WORLD, &window);
    MPI_Comm_group(MPI_COMM_WORLD, &all);
    MPI_Group_incl(all, 1, &(int){1 - rank}, &other);
    MPI_Win_post(other, 0, window);
    looks(1, call_win_test);
    MPI_Win_start(other, 0, window);
    MPI_Win_complete(window);
    MPI_Win_wait(window);
    MPI_Win_lock_all(0, window);
    looks(2, call_win_sync);
    looks(3, call_win_flush_local);
    looks(4, call_win_flush_local_all);
    looks(5, call_iprobe);
    MPI_Win_unlock_all(window);
    MPI_Group_free(&other);
    MPI_Group_free(&all);
    MPI_Win_free(&window);
#if defined(OPEN_MPI)
    foreign = foreign_comm();
    looks(6, call_iprobe_foreign);
    MPI_Comm_disconnect(&foreign);
#endif
#if MPI_VERSION >= 4
    looks_for_part(6);
#endif
}
