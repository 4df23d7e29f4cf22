/* SPDX-License-Identifier: Apache-2.0 */
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/client/mpi/link.h"
#include "tests/cut/self.h"
#include "tests/cut/story.h"

/* Stories of synchronous sends: whatever is being cut, none is complete before its receive has begun. Rank 0 sends, rank 1
 * receives. */

#define TAG 5
#define OTHER_TAG 6
#define OPEN_S 0.2 /* in which nothing may happen */
#define LONG_S 0.5 /* … more than CUT_HOLD_MS */
#define LARGE_BYTES (1 << 20)
#define REFUSAL "a synchronous MPI send is under way"

static MPI_Request sent;

/* Both look for what comes, and rank 0's send stays under way. */
static void stays_under_way(double for_s)
{
    int done = 0, found = 0;
    meet();
    for (double until = seconds() + for_s; seconds() < until;) {
        if (rank == 0 && !done)
            MPI_Test(&sent, &done, MPI_STATUS_IGNORE);
        else
            MPI_Iprobe(MPI_ANY_SOURCE, OTHER_TAG, MPI_COMM_WORLD, &found, MPI_STATUS_IGNORE);
        nap();
    }
    CHECK(!done);
    meet();
}

static bool is_there(void)
{
    int found = 0;
    MPI_Iprobe(0, TAG, MPI_COMM_WORLD, &found, MPI_STATUS_IGNORE);
    return found;
}

/* It is complete as soon as the receive has begun, and has brought what was sent. */
static void is_received(char *bytes, int count)
{
    MPI_Status status;
    int got = 0;
    if (rank == 0) {
        MPI_Wait(&sent, MPI_STATUS_IGNORE);
        return;
    }
    CHECK(is_there());
    memset(bytes, 0, (size_t)count);
    MPI_Recv(bytes, count, MPI_BYTE, 0, TAG, MPI_COMM_WORLD, &status);
    MPI_Get_count(&status, MPI_BYTE, &got);
    CHECK(got == count && bytes[0] == 's' && bytes[count - 1] == 's' && !is_there());
}

/* ---- sent before the sender's record, received behind the receiver's ---- */

static void over_a_record(uint64_t epoch, char *bytes, int count, bool persistent)
{
    unsigned before = entries;
    begin(epoch);
    CHECK(rank == 0 || record(epoch));
    meet();
    if (rank == 0 && persistent) {
        MPI_Ssend_init(bytes, count, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, &sent);
        MPI_Start(&sent);
    } else if (rank == 0) {
        MPI_Issend(bytes, count, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, &sent);
    }
    stays_under_way(OPEN_S);
    is_received(bytes, count);
    CHECK(rank == 1 || record(epoch));
    end(epoch);
    if (rank == 0 && persistent)
        MPI_Request_free(&sent);
    /* After a restart it comes once. */
    CHECK(rank == 0 || entries == before + 1);
    CHECK(rank == 0 || tide_mpi_load(channel_log, logged, why, sizeof why) == TIDE_OK);
    if (rank == 1)
        is_received(bytes, count);
}

void story_ssend(void)
{
    char *bytes = malloc(LARGE_BYTES);
    CHECK(bytes != NULL);
    memset(bytes, 's', LARGE_BYTES);
    over_a_record(1, bytes, 1, false);
    over_a_record(2, bytes, LARGE_BYTES, false);
    over_a_record(3, bytes, 8, true);
    free(bytes);
}

/* ---- under way at the sender's own safe point ---- */

static void over_a_refusal(uint64_t epoch)
{
    begin(epoch);
    if (rank == 1)
        CHECK(record(epoch));
    else
        CHECK(!record(epoch) && strstr(why, REFUSAL) != NULL);
    stays_under_way(OPEN_S);
    end(epoch);
    stays_under_way(OPEN_S);
}

void story_ssend_refused(void)
{
    char bytes[8] = "ssssssss";
    begin(1);
    CHECK(rank == 0 || record(1));
    meet();
    if (rank == 0) {
        MPI_Issend(bytes, 8, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, &sent);
        CHECK(!record(1) && strstr(why, REFUSAL) != NULL);
    }
    stays_under_way(OPEN_S);
    end(1);
    over_a_refusal(2); /* it lies in the receiver's queue when that records */
    over_a_refusal(3);
    is_received(bytes, 8);
    CHECK(rank == 0 || entries == 0);
}

/* ---- sent behind the sender's record ---- */

void story_ssend_behind(void)
{
    char bytes[8] = "ssssssss";
    begin(1);
    if (rank == 0) {
        CHECK(record(1));
        MPI_Issend(bytes, 8, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, &sent);
    }
    stays_under_way(LONG_S); /* rank 1 has not flipped */
    CHECK(rank == 0 || record(1));
    stays_under_way(OPEN_S);
    end(1);
    stays_under_way(OPEN_S);
    over_a_refusal(2);
    is_received(bytes, 8);
}

/* ---- the receiver has posted a receive, and is in a call of MPI's ---- */

static MPI_Request posted;
static char got[8];

static void post(void)
{
    if (rank == 1)
        MPI_Irecv(got, 8, MPI_BYTE, 0, TAG, MPI_COMM_WORLD, &posted);
}

static void barrier(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
}

static void barrier_with_looks(void)
{
    MPI_Request request;
    MPI_Ibarrier(MPI_COMM_WORLD, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
}

/* Rank 0 comes to `call` only when its send is complete. flipped: so is the receiver. */
static void in_a_call(uint64_t epoch, bool flipped, void (*call)(void))
{
    char bytes[8] = "ssssssss";
    memset(got, 0, sizeof got);
    begin(epoch);
    CHECK(rank == 1 ? !flipped || record(epoch) : record(epoch));
    post();
    meet();
    if (rank == 0)
        MPI_Ssend(bytes, 8, MPI_BYTE, 1, TAG, MPI_COMM_WORLD);
    call();
    if (rank == 1 && !flipped)
        CHECK(record(epoch));
    if (rank == 1)
        MPI_Wait(&posted, MPI_STATUS_IGNORE);
    CHECK(rank == 0 || got[7] == 's');
    end(epoch);
}

/* Its receive is for another message: the send waits, and the call with it. */
static void in_a_call_for_another(uint64_t epoch)
{
    char bytes[8] = "ssssssss";
    int done = 0;
    begin(epoch);
    CHECK(record(epoch));
    post();
    meet();
    if (rank == 0)
        MPI_Issend(bytes, 8, MPI_BYTE, 1, OTHER_TAG, MPI_COMM_WORLD, &sent);
    for (double until = seconds() + OPEN_S; rank == 0 && !done && seconds() < until;) {
        MPI_Test(&sent, &done, MPI_STATUS_IGNORE);
        nap();
    }
    CHECK(!done);
    barrier();
    if (rank == 0) {
        MPI_Wait(&sent, MPI_STATUS_IGNORE);
        MPI_Send(bytes, 8, MPI_BYTE, 1, TAG, MPI_COMM_WORLD);
    } else {
        MPI_Recv(bytes, 8, MPI_BYTE, 0, OTHER_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Wait(&posted, MPI_STATUS_IGNORE);
    }
    end(epoch);
}

void story_ssend_posted(void)
{
    in_a_call(1, false, barrier);
    in_a_call(2, true, barrier);
    in_a_call(3, false, barrier_with_looks);
    in_a_call(4, true, barrier_with_looks);
    in_a_call_for_another(5);
    in_a_call(6, true, barrier);
}
