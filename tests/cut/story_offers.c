/* SPDX-License-Identifier: Apache-2.0 */
#include <mpi.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/cut/self.h"
#include "tests/cut/story.h"

/* Stories of receives that a synchronous sender is told of (ckpt/client/mpi/offer.c): one receive is for one message, whatever is
 * sent besides it. Rank 0 sends, rank 1 receives. */

#define TAG 5
#define OTHER_TAG 6
#define OPEN_S 0.4      /* more than CUT_HOLD_MS */
#define ASSUMED_S 1.2    /* more than CUT_ASSUME_AFTER_MS */
#define COMPLETE_S 20.0 /* what takes a second at most, on a slow machine */
#define BIG_BYTES (64 << 20)
#define MANY 384          /* of a megabyte: 128 more than are copied without a wait */
#define MANY_SECONDS 28.0 /* less than 128 waits of CUT_HOLD_MS; one or two take a second */

static MPI_Request sent, posted;
static char got[8], more[8], bytes[8] = "ssssssss";

static void send_it(int tag, MPI_Comm comm)
{
    if (rank == 0)
        MPI_Issend(bytes, 8, MPI_BYTE, 1, tag, comm, &sent);
}

static bool completes(double within_s)
{
    int done = 0;
    double until = seconds() + within_s;
    while (rank == 0 && !done && seconds() < until) {
        MPI_Test(&sent, &done, MPI_STATUS_IGNORE);
        nap();
    }
    return done;
}

static void stays_open(void)
{
    CHECK(!completes(OPEN_S));
}

static void becomes_complete(void)
{
    CHECK(rank == 1 || completes(COMPLETE_S));
}

static void look_until(uint64_t posted_by_now)
{
    int found;
    while (side->posted != posted_by_now) {
        MPI_Iprobe(1 - rank, 0, MPI_COMM_WORLD, &found, MPI_STATUS_IGNORE);
        nap();
    }
}

/* Rank 0 has flipped, rank 1 has not. */
static void begin_one_ahead(uint64_t epoch)
{
    begin(epoch);
    CHECK(rank == 1 || record(epoch));
}

static void receive(int tag, MPI_Comm comm)
{
    if (rank == 1)
        MPI_Recv(more, 8, MPI_BYTE, 0, tag, comm, MPI_STATUS_IGNORE);
}

static void post(int source, int tag, MPI_Comm comm)
{
    if (rank == 1)
        MPI_Irecv(got, 8, MPI_BYTE, source, tag, comm, &posted);
}

static void finish_sent(void)
{
    if (rank == 0)
        MPI_Wait(&sent, MPI_STATUS_IGNORE);
}

static void finish_posted(void)
{
    if (rank == 1)
        MPI_Wait(&posted, MPI_STATUS_IGNORE);
}

/* What was told of a receive counts for the message that gets it, and for no other. */
static void for_one_message(uint64_t epoch)
{
    begin_one_ahead(epoch);
    post(0, TAG, MPI_COMM_WORLD);
    meet();
    send_it(TAG, MPI_COMM_WORLD);
    becomes_complete();
    meet();
    CHECK(rank == 0 || record(epoch));
    finish_posted();
    meet();
    send_it(TAG, MPI_COMM_WORLD);
    stays_open();
    meet();
    receive(TAG, MPI_COMM_WORLD);
    finish_sent();
    end(epoch);
}

/* A receive of any source and tag, on another communicator. */
static void for_one_communicator(uint64_t epoch)
{
    MPI_Comm other;
    MPI_Comm_dup(MPI_COMM_WORLD, &other);
    begin_one_ahead(epoch);
    post(MPI_ANY_SOURCE, MPI_ANY_TAG, other);
    meet();
    send_it(TAG, MPI_COMM_WORLD);
    stays_open();
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(rank == 0 || record(epoch));
    receive(TAG, MPI_COMM_WORLD);
    finish_sent();
    if (rank == 0)
        MPI_Send(bytes, 8, MPI_BYTE, 1, TAG, other);
    finish_posted();
    end(epoch);
    MPI_Comm_free(&other);
}

/* A standard send before it takes it; blocked: rank 1 is in a call in which it does not look. */
static void behind_another(uint64_t epoch, bool blocked)
{
    begin_one_ahead(epoch);
    post(0, TAG, MPI_COMM_WORLD);
    meet();
    if (rank == 0)
        MPI_Send(bytes, 8, MPI_BYTE, 1, TAG, MPI_COMM_WORLD);
    send_it(TAG, MPI_COMM_WORLD);
    if (!blocked)
        meet();
    stays_open();
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(rank == 0 || record(epoch));
    finish_posted();
    receive(TAG, MPI_COMM_WORLD);
    finish_sent();
    end(epoch);
}

/* Each of two has a receive; rank 1 is in a barrier that rank 0 comes to when both are complete. */
static void each_has_one(uint64_t epoch)
{
    MPI_Request other = MPI_REQUEST_NULL;
    begin(epoch);
    post(0, TAG, MPI_COMM_WORLD);
    if (rank == 1)
        MPI_Irecv(more, 8, MPI_BYTE, 0, MPI_ANY_TAG, MPI_COMM_WORLD, &other);
    else
        CHECK(record(epoch));
    meet();
    send_it(OTHER_TAG, MPI_COMM_WORLD);
    if (rank == 0) {
        MPI_Ssend(bytes, 8, MPI_BYTE, 1, TAG, MPI_COMM_WORLD);
        MPI_Wait(&sent, MPI_STATUS_IGNORE);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(rank == 0 || record(epoch));
    finish_posted();
    if (rank == 1)
        MPI_Wait(&other, MPI_STATUS_IGNORE);
    end(epoch);
}

/* Any source: another could take it, if there were one. flipped: so is rank 1. */
static void of_any_source(uint64_t epoch, bool flipped, bool blocked)
{
    MPI_Request barrier;
    begin_one_ahead(epoch);
    CHECK(rank == 0 || !flipped || record(epoch));
    post(MPI_ANY_SOURCE, TAG, MPI_COMM_WORLD);
    meet();
    if (rank == 0)
        MPI_Ssend(bytes, 8, MPI_BYTE, 1, TAG, MPI_COMM_WORLD);
    if (blocked) {
        MPI_Barrier(MPI_COMM_WORLD);
    } else {
        MPI_Ibarrier(MPI_COMM_WORLD, &barrier);
        MPI_Wait(&barrier, MPI_STATUS_IGNORE);
    }
    if (rank == 1 && !has_flipped(epoch))
        CHECK(record(epoch));
    finish_posted();
    end(epoch);
}

/* A receive that has begun is for the message that it receives, and its rank does not flip for another one that it would get. The
 * sender is silent for so long that the receive stands in the middle of its message, where MPI does not fetch that without it. */
static void of_a_large_one(uint64_t epoch)
{
    char *big = calloc(1, BIG_BYTES);
    MPI_Request first = MPI_REQUEST_NULL;
    CHECK(big != NULL);
    begin(epoch);
    if (rank == 0)
        MPI_Isend(big, BIG_BYTES, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, &first);
    meet();
    if (rank == 0) {
        CHECK(record(epoch));
        send_it(TAG, MPI_COMM_WORLD);
        CHECK(!completes(OPEN_S / 10));
        side->posted = epoch;
        nanosleep(&(struct timespec){.tv_nsec = (long)(OPEN_S * 1e9)}, NULL);
        stays_open();
    } else {
        look_until(epoch);
        MPI_Recv(big, BIG_BYTES, MPI_BYTE, 0, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    meet();
    CHECK(rank == 0 || record(epoch));
    receive(TAG, MPI_COMM_WORLD);
    finish_sent();
    if (rank == 0)
        MPI_Wait(&first, MPI_STATUS_IGNORE);
    end(epoch);
    free(big);
}

void story_offers(void)
{
    for_one_message(1);
    for_one_communicator(2);
    behind_another(3, false);
    behind_another(4, true);
    each_has_one(5);
    of_a_large_one(6);
}

void story_offers_any(void)
{
    of_any_source(1, false, false);
    of_any_source(2, true, false);
    of_any_source(3, false, true);
    of_any_source(4, true, true);
}

/* ---- what was told before ---- */

static void nap_for_long(void)
{
    for (int i = 0; i < 100; i++)
        nap();
}

/* Rank 1 is in a barrier, leaves it, flips, and comes to another; rank 0 has known of the receive since the first, and flips later. */
static void of_before_the_flip(uint64_t epoch)
{
    begin(epoch);
    if (rank == 1) /* so that rank 0 is told of its flip */
        MPI_Send(bytes, 8, MPI_BYTE, 0, OTHER_TAG, MPI_COMM_WORLD);
    else
        MPI_Recv(more, 8, MPI_BYTE, 1, OTHER_TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    post(MPI_ANY_SOURCE, TAG, MPI_COMM_WORLD);
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(rank == 0 || record(epoch));
    meet();
    if (rank == 0) {
        nap_for_long();
        CHECK(record(epoch));
        MPI_Ssend(bytes, 8, MPI_BYTE, 1, TAG, MPI_COMM_WORLD);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    finish_posted();
    end(epoch);
}

/* The receive that rank 0 was told of has got another message, of rank 1's own; rank 1 is in the next barrier. */
static void of_a_receive_that_is_over(uint64_t epoch)
{
    begin(epoch);
    post(MPI_ANY_SOURCE, TAG, MPI_COMM_WORLD);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 1)
        MPI_Send(bytes, 8, MPI_BYTE, 1, TAG, MPI_COMM_WORLD);
    finish_posted();
    meet();
    if (rank == 0) {
        nap_for_long();
        CHECK(record(epoch));
        send_it(TAG, MPI_COMM_WORLD);
        CHECK(!completes(ASSUMED_S));
    }
    MPI_Barrier(MPI_COMM_WORLD);
    CHECK(rank == 0 || record(epoch));
    receive(TAG, MPI_COMM_WORLD);
    finish_sent();
    end(epoch);
}

void story_offers_before(void)
{
    of_before_the_flip(1);
    of_a_receive_that_is_over(2);
}

/* ---- with threads ---- */

static void *in_barrier(void *nothing)
{
    MPI_Barrier(MPI_COMM_WORLD);
    return nothing;
}

/* A receive that was told of has been received; the other thread is still in its call. */
void story_offers_threads(void)
{
    pthread_t thread;
    begin(1);
    meet();
    if (rank == 1) {
        pthread_create(&thread, NULL, in_barrier, NULL);
        nap_for_long();
        post(0, TAG, MPI_COMM_WORLD);
        side->posted = 1;
        finish_posted();
    } else {
        look_until(1);
        MPI_Send(bytes, 8, MPI_BYTE, 1, TAG, MPI_COMM_WORLD);
    }
    meet();
    CHECK(rank == 1 || record(1));
    send_it(TAG, MPI_COMM_WORLD);
    stays_open();
    meet();
    if (rank == 0)
        MPI_Barrier(MPI_COMM_WORLD);
    else
        pthread_join(thread, NULL);
    CHECK(rank == 0 || record(1));
    receive(TAG, MPI_COMM_WORLD);
    finish_sent();
    end(1);
}

/* ---- room ---- */

/* Rank 0 sends more than there is room for before rank 1 receives. It is slowed down, and not by each of them. */
void story_room(void)
{
    static MPI_Request many[MANY];
    char *big = calloc(1, 1 << 20);
    begin(1);
    CHECK(big != NULL && record(1));
    meet();
    if (rank == 0) {
        double from = seconds();
        for (int i = 0; i < MANY; i++)
            MPI_Isend(big, 1 << 20, MPI_BYTE, 1, TAG, MPI_COMM_WORLD, &many[i]);
        CHECK(seconds() - from < MANY_SECONDS);
        side->posted = 1;
    } else {
        look_until(1);
        for (int i = 0; i < MANY; i++)
            MPI_Recv(big, 1 << 20, MPI_BYTE, 0, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }
    if (rank == 0)
        MPI_Waitall(MANY, many, MPI_STATUSES_IGNORE);
    end(1);
    free(big);
}
