/* SPDX-License-Identifier: Apache-2.0 */
#include <mpi.h>
#include <stdlib.h>

#include "tests/cut/self.h"
#include "tests/cut/story.h"

/* Receives that a flip takes back from MPI get what they would have got without it, also where a message arrives meanwhile. */

#define TAG 5
#define BIG_TAG 6
#define BIG_BYTES (64 << 20)
#define MESSAGES 2

static void until_sent(void)
{
    side->calling = 1;
    while (side->posted != 1)
        nap();
}

/* Posted one after the other: for the first message of TAG, for a large one that has begun, for the second of TAG. Both small ones
 * are there when the flip comes, and MPI has not looked at them. It looks when it is asked for the large one. */
static void rank_1(char *big)
{
    int got[MESSAGES] = {0};
    MPI_Request requests[MESSAGES + 1];
    MPI_Irecv(&got[0], 1, MPI_INT, 0, TAG, MPI_COMM_WORLD, &requests[0]);
    MPI_Irecv(big, BIG_BYTES, MPI_BYTE, 0, BIG_TAG, MPI_COMM_WORLD, &requests[1]);
    MPI_Irecv(&got[1], 1, MPI_INT, 0, TAG, MPI_COMM_WORLD, &requests[2]);
    meet();
    begin(1);
    while_locked = until_sent;
    CHECK(record(1));
    while_locked = NULL;
    side->posted = 2;
    MPI_Waitall(MESSAGES + 1, requests, MPI_STATUSES_IGNORE);
    CHECK(got[0] == 1 && got[1] == 2);
}

static void rank_0(char *big)
{
    MPI_Request request;
    meet();
    MPI_Isend(big, BIG_BYTES, MPI_BYTE, 1, BIG_TAG, MPI_COMM_WORLD, &request);
    begin(1);
    while (side->calling != 1)
        nap();
    for (int i = 1; i <= MESSAGES; i++)
        MPI_Send(&i, 1, MPI_INT, 1, TAG, MPI_COMM_WORLD);
    side->posted = 1;
    while (side->posted != 2)
        nap();
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    record(1);
}

void story_order(void)
{
    char *big = malloc(BIG_BYTES);
    CHECK(big != NULL);
    (rank == 1 ? rank_1 : rank_0)(big);
    end(1);
    free(big);
}
