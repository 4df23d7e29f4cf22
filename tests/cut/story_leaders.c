/* SPDX-License-Identifier: Apache-2.0 */
#include <mpi.h>

#include "tests/cut/self.h"
#include "tests/cut/story.h"

/* An intercommunicator between a rank and another that has a child: on one side the local communicator is followed, on the other
 * it is not. Both leaders meet on the same communicator all the same. */

#define TAG 9

/* What a child of this program does. */
void story_child(bool idle)
{
    MPI_Comm parent, family, made;
    MPI_Comm_get_parent(&parent);
    if (idle) {
        MPI_Comm_disconnect(&parent);
        return;
    }
    MPI_Intercomm_merge(parent, 1, &family);
    MPI_Intercomm_create(family, 0, MPI_COMM_NULL, 0, TAG, &made);
    MPI_Comm_free(&made);
    MPI_Comm_free(&family);
    MPI_Comm_disconnect(&parent);
}

/* All of the world wait for the root. */
static void call_spawn(void)
{
    char *arguments[] = {STORY_CHILD, "idle", NULL};
    MPI_Comm child;
    MPI_Comm_spawn(program, arguments, 1, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &child, MPI_ERRCODES_IGNORE);
    MPI_Comm_disconnect(&child);
}

void story_leaders(void)
{
    char *arguments[] = {STORY_CHILD, NULL};
    int remote = 0, wanted = rank == 0 ? 2 : 1;
    MPI_Comm child = MPI_COMM_NULL, family = MPI_COMM_NULL, made;
    if (rank == 1) {
        MPI_Comm_spawn(program, arguments, 1, MPI_INFO_NULL, 0, MPI_COMM_SELF, &child, MPI_ERRCODES_IGNORE);
        MPI_Intercomm_merge(child, 0, &family);
        MPI_Intercomm_create(family, 0, MPI_COMM_WORLD, 0, TAG, &made);
    } else {
        MPI_Intercomm_create(MPI_COMM_SELF, 0, MPI_COMM_WORLD, 1, TAG, &made);
    }
    MPI_Comm_remote_size(made, &remote);
    CHECK(remote == wanted);
    refused(1, "the program has a communicator with processes outside MPI_COMM_WORLD");
    MPI_Comm_free(&made);
    if (rank == 1) {
        MPI_Comm_free(&family);
        MPI_Comm_disconnect(&child);
    }
    accepted(2);
    parked(3, call_spawn);
}
