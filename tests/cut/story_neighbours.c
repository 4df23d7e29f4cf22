/* SPDX-License-Identifier: Apache-2.0 */
#include <mpi.h>

#include "ckpt/client/mpi/link.h"
#include "ckpt/client/mpi/real.h" /* names of the persistent ones */
#include "tests/cut/self.h"
#include "tests/cut/story.h"

/* Neighbourhood collectives are counted, refused and parked around as all others. tests/cut/neighbours.c computes with them.
 */

#define NEIGHBOURS 2
#define KINDS 5
#define TAG 5

static MPI_Comm ring;
static const int counts[NEIGHBOURS] = {1, 1}, places[NEIGHBOURS] = {0, 1};
static const MPI_Aint offsets[NEIGHBOURS] = {0, sizeof(int)};
static int out[NEIGHBOURS], in[NEIGHBOURS];
static MPI_Request requests[KINDS];

/* The ring was made last. */
static uint64_t counted(void)
{
    struct tide_mpi_comm comms[8];
    size_t count = tide_mpi_comms(comms, 8);
    return comms[count - 1].collectives;
}

static void blocking(const MPI_Datatype *types)
{
    MPI_Neighbor_allgather(out, 1, MPI_INT, in, 1, MPI_INT, ring);
    MPI_Neighbor_allgatherv(out, 1, MPI_INT, in, counts, places, MPI_INT, ring);
    MPI_Neighbor_alltoall(out, 1, MPI_INT, in, 1, MPI_INT, ring);
    MPI_Neighbor_alltoallv(out, counts, places, MPI_INT, in, counts, places, MPI_INT, ring);
    MPI_Neighbor_alltoallw(out, counts, offsets, types, in, counts, offsets, types, ring);
}

static void nonblocking(const MPI_Datatype *types)
{
    static int got[KINDS][NEIGHBOURS];
    MPI_Ineighbor_allgather(out, 1, MPI_INT, got[0], 1, MPI_INT, ring, &requests[0]);
    MPI_Ineighbor_allgatherv(out, 1, MPI_INT, got[1], counts, places, MPI_INT, ring, &requests[1]);
    MPI_Ineighbor_alltoall(out, 1, MPI_INT, got[2], 1, MPI_INT, ring, &requests[2]);
    MPI_Ineighbor_alltoallv(out, counts, places, MPI_INT, got[3], counts, places, MPI_INT, ring, &requests[3]);
    MPI_Ineighbor_alltoallw(out, counts, offsets, types, got[4], counts, offsets, types, ring, &requests[4]);
}

static void persistent(const MPI_Datatype *types)
{
    static int got[KINDS][NEIGHBOURS];
    MPI_PERSISTENT_COLLECTIVE(Neighbor_allgather_init)
    (out, 1, MPI_INT, got[0], 1, MPI_INT, ring, MPI_INFO_NULL, &requests[0]);
    MPI_PERSISTENT_COLLECTIVE(Neighbor_allgatherv_init)
    (out, 1, MPI_INT, got[1], counts, places, MPI_INT, ring, MPI_INFO_NULL, &requests[1]);
    MPI_PERSISTENT_COLLECTIVE(Neighbor_alltoall_init)
    (out, 1, MPI_INT, got[2], 1, MPI_INT, ring, MPI_INFO_NULL, &requests[2]);
    MPI_PERSISTENT_COLLECTIVE(Neighbor_alltoallv_init)
    (out, counts, places, MPI_INT, got[3], counts, places, MPI_INT, ring, MPI_INFO_NULL, &requests[3]);
    MPI_PERSISTENT_COLLECTIVE(Neighbor_alltoallw_init)
    (out, counts, offsets, types, got[4], counts, offsets, types, ring, MPI_INFO_NULL, &requests[4]);
}

/* Rank 1 has flipped and is in one when rank 0 sends, synchronously, what rank 1 has posted a receive for; then rank 0 comes
 * to it. */
static void parked_around(uint64_t epoch)
{
    int sent = (int)epoch, got = 0;
    MPI_Request posted = MPI_REQUEST_NULL;
    begin(epoch);
    if (rank == 1) {
        CHECK(record(epoch));
        MPI_Irecv(&got, 1, MPI_INT, 0, TAG, MPI_COMM_WORLD, &posted);
    }
    meet();
    if (rank == 1)
        side->calling = epoch;
    while (side->calling != epoch) /* sent sooner it could be taken into the queue, and nothing be parked */
        nap();
    if (rank == 0)
        MPI_Ssend(&sent, 1, MPI_INT, 1, TAG, MPI_COMM_WORLD);
    MPI_Neighbor_alltoall(out, 1, MPI_INT, in, 1, MPI_INT, ring);
    CHECK(in[0] + in[1] == 2 * (1 - rank) * 10 + 1);
    CHECK(rank == 1 || record(epoch));
    MPI_Wait(&posted, MPI_STATUS_IGNORE);
    CHECK(rank == 0 || got == sent);
    end(epoch);
}

void story_neighbours(void)
{
    const MPI_Datatype types[NEIGHBOURS] = {MPI_INT, MPI_INT};
    MPI_Cart_create(MPI_COMM_WORLD, 1, (const int[]){2}, (const int[]){1}, 0, &ring);
    out[0] = rank * 10;
    out[1] = rank * 10 + 1;
    uint64_t before = counted();
    blocking(types);
    CHECK(counted() == before + KINDS);
    accepted(1);
    nonblocking(types);
    CHECK(counted() == before + 2 * KINDS);
    refused(2, "a nonblocking MPI collective is outstanding");
    MPI_Waitall(KINDS, requests, MPI_STATUSES_IGNORE);
    accepted(3);
    persistent(types);
    accepted(4);
    MPI_Startall(KINDS, requests);
    CHECK(counted() == before + 3 * KINDS);
    refused(5, "a nonblocking MPI collective is outstanding");
    MPI_Waitall(KINDS, requests, MPI_STATUSES_IGNORE);
    accepted(6);
    for (int i = 0; i < KINDS; i++)
        MPI_Request_free(&requests[i]);
    parked_around(7);
    MPI_Comm_free(&ring);
}
