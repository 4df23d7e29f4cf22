/* SPDX-License-Identifier: Apache-2.0 */
#include <mpi.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/cut/self.h"
#include "tests/cut/story.h"

/* One thread of rank 1 waits in MPI, for messages of rank 0 that come behind the cut, or for rank 0 to receive; another one
 * takes the cut. First of what is waited for comes ONE, then OTHER. */

#define ONE 6
#define OTHER 7
#define SENT 100 /* … is sent as this and its tag */
#define BIG_BYTES (1 << 20)

static char *big;

static void receive_one(int tag)
{
    int got = 0;
    MPI_Recv(&got, 1, MPI_INT, 0, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK(got == SENT + tag);
}

static void in_recv(void)
{
    receive_one(ONE);
    receive_one(OTHER);
}

/* Both are waited for at once. */
static int got[2];
static MPI_Request both[2];

static void post_both(void)
{
    memset(got, 0, sizeof got);
    MPI_Irecv(&got[0], 1, MPI_INT, 0, ONE, MPI_COMM_WORLD, &both[0]);
    MPI_Irecv(&got[1], 1, MPI_INT, MPI_ANY_SOURCE, OTHER, MPI_COMM_WORLD, &both[1]);
}

static void check_both(void)
{
    CHECK(got[0] == SENT + ONE && got[1] == SENT + OTHER);
    CHECK(both[0] == MPI_REQUEST_NULL && both[1] == MPI_REQUEST_NULL);
}

static void in_wait(void)
{
    MPI_Status status;
    post_both();
    MPI_Wait(&both[0], &status);
    CHECK(status.MPI_SOURCE == 0 && status.MPI_TAG == ONE);
    MPI_Wait(&both[1], &status);
    CHECK(status.MPI_SOURCE == 0 && status.MPI_TAG == OTHER);
    check_both();
}

static void in_waitall(void)
{
    MPI_Status statuses[2];
    post_both();
    CHECK(MPI_Waitall(2, both, statuses) == MPI_SUCCESS);
    CHECK(statuses[0].MPI_TAG == ONE && statuses[1].MPI_TAG == OTHER);
    check_both();
}

static void in_waitany(void)
{
    MPI_Status status;
    int index = -1;
    post_both();
    for (int i = 0; i < 2; i++) {
        MPI_Waitany(2, both, &index, &status);
        CHECK(index >= 0 && index < 2 && status.MPI_TAG == (index == 0 ? ONE : OTHER) && both[index] == MPI_REQUEST_NULL);
    }
    check_both();
    MPI_Waitany(2, both, &index, &status);
    CHECK(index == MPI_UNDEFINED);
    MPI_Waitany(1, both, &index, &status);
    CHECK(index == MPI_UNDEFINED);
}

static void in_waitsome(void)
{
    MPI_Status statuses[2];
    int indices[2], done = 0;
    post_both();
    for (int all = 0; all < 2 && done >= 0; all += done) {
        CHECK(MPI_Waitsome(2, both, &done, indices, statuses) == MPI_SUCCESS);
        for (int i = 0; i < done; i++)
            CHECK(statuses[i].MPI_TAG == (indices[i] == 0 ? ONE : OTHER));
    }
    check_both();
    MPI_Waitsome(2, both, &done, indices, statuses);
    CHECK(done == MPI_UNDEFINED);
}

static void in_tests(void)
{
    int done = 0;
    post_both();
    while (!done)
        MPI_Testall(2, both, &done, MPI_STATUSES_IGNORE);
    check_both();
}

static void in_persistent(void)
{
    MPI_Request kept;
    int one = 0;
    MPI_Recv_init(&one, 1, MPI_INT, 0, ONE, MPI_COMM_WORLD, &kept);
    MPI_Start(&kept);
    MPI_Wait(&kept, MPI_STATUS_IGNORE);
    CHECK(one == SENT + ONE);
    MPI_Request_free(&kept);
    receive_one(OTHER);
}

static void in_probe(void)
{
    MPI_Status status;
    MPI_Probe(0, ONE, MPI_COMM_WORLD, &status);
    CHECK(status.MPI_TAG == ONE);
    in_recv();
}

static void in_mprobe(void)
{
    MPI_Message message;
    int one = 0;
    MPI_Mprobe(MPI_ANY_SOURCE, ONE, MPI_COMM_WORLD, &message, MPI_STATUS_IGNORE);
    MPI_Mrecv(&one, 1, MPI_INT, &message, MPI_STATUS_IGNORE);
    CHECK(one == SENT + ONE);
    receive_one(OTHER);
}

static void in_send(void)
{
    MPI_Send(big, BIG_BYTES, MPI_BYTE, 0, ONE, MPI_COMM_WORLD);
    in_recv();
}

static void in_sendrecv(void)
{
    int one = 0;
    MPI_Sendrecv(big, BIG_BYTES, MPI_BYTE, 0, ONE, &one, 1, MPI_INT, 0, ONE, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK(one == SENT + ONE);
    receive_one(OTHER);
}

static const struct {
    void (*wait)(void);
    bool sends; /* a big one, to rank 0 */
} calls[] = {{in_recv, false},     {in_wait, false},  {in_waitall, false},    {in_waitany, false},
             {in_waitsome, false}, {in_tests, false}, {in_persistent, false}, {in_probe, false},
             {in_mprobe, false},   {in_send, true},   {in_sendrecv, true}};

static void *wait_in(void *context)
{
    ((void (*)(void)) * (void (**)(void))context)();
    return NULL;
}

static void send_both(void)
{
    for (int tag = ONE; tag <= OTHER; tag++) {
        int value = SENT + tag;
        MPI_Send(&value, 1, MPI_INT, 1, tag, MPI_COMM_WORLD);
    }
}

static void woken(uint64_t epoch, size_t call)
{
    pthread_t thread;
    void (*wait)(void) = calls[call].wait;
    if (rank == 1) {
        CHECK(pthread_create(&thread, NULL, wait_in, &wait) == 0);
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL); /* until it is inside; sooner is no error */
    }
    begin(epoch);
    CHECK(record(epoch));
    if (rank == 1) {
        side->posted = epoch;
        pthread_join(thread, NULL);
    } else {
        while (side->posted != epoch)
            nap();
        if (calls[call].sends)
            MPI_Recv(big, BIG_BYTES, MPI_BYTE, 1, ONE, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        send_both();
    }
    end(epoch);
}

void story_threads_woken(void)
{
    big = calloc(1, BIG_BYTES);
    CHECK(big != NULL);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        woken(i + 1, i);
    free(big);
}
