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

/* A receive there is taken back as any other. */
static void cancelled_elsewhere(void)
{
    int in = 0, cancelled = 0;
    MPI_Request request;
    MPI_Status status;
    MPI_Irecv(&in, 1, MPI_INT, 0, 4, foreign, &request);
    MPI_Cancel(&request);
    MPI_Wait(&request, &status);
    MPI_Test_cancelled(&status, &cancelled);
    CHECK(cancelled);
    meet(); /* else the other may have sent before the receive was posted */
    MPI_Sendrecv(&rank, 1, MPI_INT, 0, 4, &in, 1, MPI_INT, 0, 4, foreign, MPI_STATUS_IGNORE);
    CHECK(in == 1 - rank);
    MPI_Irecv(&in, 1, MPI_INT, 0, 5, foreign, &request);
    MPI_Send(&(int){rank + 10}, 1, MPI_INT, 0, 5, foreign);
    MPI_Waitall(1, &request, MPI_STATUSES_IGNORE);
    CHECK(in == 11 - rank && request == MPI_REQUEST_NULL);
}

static void receive_elsewhere(void)
{
    int in = 0;
    MPI_Recv(&in, 1, MPI_INT, 0, 5, foreign, MPI_STATUS_IGNORE);
    CHECK(in == 3);
}

static void exchange_elsewhere(void)
{
    int in = 0, out = 4;
    MPI_Sendrecv(&out, 1, MPI_INT, 0, 5, &in, 1, MPI_INT, 0, 5, foreign, MPI_STATUS_IGNORE);
    CHECK(in == 3);
}

/* Rank 1 has flipped, and waits there for what rank 0 sends when its message in the old colour is received. */
static void parks_elsewhere(uint64_t epoch, void (*call)(void), bool answered)
{
    int out = 3, in = 0;
    MPI_Request request;
    begin(epoch);
    CHECK(rank == 0 || !record(epoch));
    if (rank == 1)
        MPI_Irecv(&in, 1, MPI_INT, 0, 6, MPI_COMM_WORLD, &request);
    meet();
    if (rank == 1) {
        call();
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        CHECK(in == 3);
    } else {
        MPI_Ssend(&out, 1, MPI_INT, 1, 6, MPI_COMM_WORLD);
        MPI_Send(&out, 1, MPI_INT, 0, 5, foreign);
        if (answered)
            MPI_Recv(&in, 1, MPI_INT, 0, 5, foreign, MPI_STATUS_IGNORE);
        CHECK(!record(epoch));
    }
    end(epoch);
}

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
    cancelled_elsewhere();
    parks_elsewhere(7, receive_elsewhere, false);
    parks_elsewhere(8, exchange_elsewhere, true);
    MPI_Comm_disconnect(&foreign);
#endif
#if MPI_VERSION >= 4
    looks_for_part(6);
#endif
}
