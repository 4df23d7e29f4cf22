/* SPDX-License-Identifier: Apache-2.0 */
#include <mpi.h>

#include "tests/cut/self.h"
#include "tests/cut/story.h"

/* Nothing is promised: what is outstanding is counted, and what is not any more is not. */

#if defined(OPEN_MPI) /* Debian's MPICH has no ports */
MPI_Comm foreign_comm(void)
{
    char port[MPI_MAX_PORT_NAME];
    MPI_Comm made;
    if (rank == 0) {
        MPI_Open_port(MPI_INFO_NULL, port);
        MPI_Send(port, sizeof port, MPI_CHAR, 1, 1, MPI_COMM_WORLD);
        MPI_Comm_accept(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &made);
        MPI_Close_port(port);
    } else {
        MPI_Recv(port, sizeof port, MPI_CHAR, 0, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        MPI_Comm_connect(port, MPI_INFO_NULL, 0, MPI_COMM_SELF, &made);
    }
    return made;
}
#endif

/* One receive is outstanding, and nothing else. */
static void one_outstanding(uint64_t epoch)
{
    int sent = 3, got_now = 0;
    MPI_Request request;
    MPI_Irecv(&got_now, 1, MPI_INT, 1 - rank, 2, MPI_COMM_WORLD, &request);
    refused(epoch, "1 MPI requests are outstanding at the safe point");
    MPI_Send(&sent, 1, MPI_INT, 1 - rank, 2, MPI_COMM_WORLD);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    CHECK(got_now == sent);
    accepted(epoch + 1);
}

/* Begun, and freed. `peer` is the other rank's in `comm`. */
static void persistent_pair(MPI_Comm comm, int peer, uint64_t epoch, const char *why_not)
{
    int out = rank + 20, in = 0;
    MPI_Request pair[2];
    MPI_Send_init(&out, 1, MPI_INT, peer, 3, comm, &pair[0]);
    MPI_Recv_init(&in, 1, MPI_INT, peer, 3, comm, &pair[1]);
    MPI_Startall(2, pair);
    refused(epoch, why_not);
    MPI_Waitall(2, pair, MPI_STATUSES_IGNORE);
    CHECK(in == 21 - rank);
    MPI_Request_free(&pair[0]);
    MPI_Request_free(&pair[1]);
}

static int nothing_to_tell(void *unused, MPI_Status *status)
{
    (void)unused;
    MPI_Status_set_elements(status, MPI_INT, 0);
    MPI_Status_set_cancelled(status, 0);
    return MPI_SUCCESS;
}

static int nothing_to_free(void *unused)
{
    (void)unused;
    return MPI_SUCCESS;
}

static int nothing_to_cancel(void *unused, int complete)
{
    (void)unused;
    (void)complete;
    return MPI_SUCCESS;
}

/* Those that end in other ways than a message does. */
static void other_kinds(uint64_t epoch)
{
    static const char *const two = "2 MPI requests are outstanding at the safe point";
    int in = 0;
    MPI_Comm made;
    MPI_Request pair[2];
    MPI_Irecv(&in, 1, MPI_INT, 1 - rank, 6, MPI_COMM_WORLD, &pair[0]);
    MPI_Ibarrier(MPI_COMM_WORLD, &pair[1]);
    refused(epoch, two);
    MPI_Cancel(&pair[0]);
    MPI_Waitall(2, pair, MPI_STATUSES_IGNORE);
    MPI_Comm_idup(MPI_COMM_WORLD, &made, &pair[0]);
    MPI_Grequest_start(nothing_to_tell, nothing_to_free, nothing_to_cancel, NULL, &pair[1]);
    refused(epoch + 1, two);
    MPI_Grequest_complete(pair[1]);
    MPI_Request_free(&pair[1]);
    MPI_Wait(&pair[0], MPI_STATUS_IGNORE);
    MPI_Comm_free(&made);
    one_outstanding(epoch + 2);
}

#if MPI_VERSION >= 4
static void partitioned(uint64_t epoch)
{
    int out[2] = {5, 6}, in[2] = {0}, arrived = 0;
    MPI_Request request;
    if (rank == 0)
        MPI_Psend_init(out, 2, 1, MPI_INT, 1, 4, MPI_COMM_WORLD, MPI_INFO_NULL, &request);
    else
        MPI_Precv_init(in, 2, 1, MPI_INT, 0, 4, MPI_COMM_WORLD, MPI_INFO_NULL, &request);
    refused(epoch, "a partitioned MPI request exists");
    MPI_Start(&request);
    refused(epoch + 1, "1 MPI requests are outstanding at the safe point");
    if (rank == 0)
        MPI_Pready_range(0, 1, request);
    while (rank == 1 && !arrived)
        MPI_Parrived(request, 1, &arrived);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    CHECK(rank == 0 || in[1] == 6);
    MPI_Request_free(&request);
    one_outstanding(epoch + 2);
}
#endif

#if defined(OPEN_MPI)
/* Twice, and received in both ways. */
static void probed(MPI_Comm comm)
{
    int in[2] = {0};
    MPI_Message message;
    MPI_Request request;
    for (int i = 1; i <= 2; i++)
        MPI_Send(&i, 1, MPI_INT, 0, i, comm);
    MPI_Mprobe(0, 1, comm, &message, MPI_STATUS_IGNORE);
    MPI_Mrecv(&in[0], 1, MPI_INT, &message, MPI_STATUS_IGNORE);
    MPI_Mprobe(0, 2, comm, &message, MPI_STATUS_IGNORE);
    MPI_Imrecv(&in[1], 1, MPI_INT, &message, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    CHECK(in[0] == 1 && in[1] == 2);
}
#endif

void story_counted(void)
{
    accepted(1);
    one_outstanding(2);
    persistent_pair(MPI_COMM_WORLD, 1 - rank, 4, "2 MPI requests are outstanding at the safe point");
    one_outstanding(5);
#if defined(OPEN_MPI)
    MPI_Comm foreign = foreign_comm();
    persistent_pair(foreign, 0, 7, "the program has a communicator with processes outside MPI_COMM_WORLD");
    probed(foreign);
    MPI_Comm_disconnect(&foreign);
    one_outstanding(8);
#endif
#if MPI_VERSION >= 4
    partitioned(10);
#endif
    other_kinds(14);
}
