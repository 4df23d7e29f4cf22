/* SPDX-License-Identifier: Apache-2.0 */
#include <mpi.h>

#include "ckpt/client/mpi/link.h"
#include "tests/cut/self.h"
#include "tests/cut/story.h"

/* Communicators that the program frees while something of theirs is under way: they are known until it has ended, and no
 * longer. */

#define TAG_FIRST 1
#define TAG_SECOND 2

static size_t known(void)
{
    struct tide_mpi_comm one;
    return tide_mpi_comms(&one, 1);
}

/* What the callback of an attribute does to `first` and `second`. */
static int key = MPI_KEYVAL_INVALID;
static enum { DO_NOTHING, COMPLETE_FIRST, BEGIN_SECOND, FAIL } then;
static int called;
static MPI_Request first, second;
static int in[2];

static int deleted(MPI_Comm comm, int its_key, void *value, void *unused)
{
    CHECK(its_key == key && value == &key && unused == NULL);
    called++;
    if (then == COMPLETE_FIRST)
        MPI_Wait(&first, MPI_STATUS_IGNORE);
    else if (then == BEGIN_SECOND)
        MPI_Irecv(&in[1], 1, MPI_INT, 1 - rank, TAG_SECOND, comm, &second);
    return then == FAIL ? MPI_ERR_OTHER : MPI_SUCCESS;
}

static MPI_Comm with_attribute(void)
{
    MPI_Comm made;
    MPI_Comm_split(MPI_COMM_WORLD, 0, rank, &made);
    MPI_Comm_set_errhandler(made, MPI_ERRORS_RETURN);
    MPI_Comm_set_attr(made, key, &key);
    in[0] = in[1] = called = 0;
    return made;
}

static void free_it(MPI_Comm *comm)
{
    CHECK(MPI_Comm_free(comm) == MPI_SUCCESS && *comm == MPI_COMM_NULL && called == 1);
}

/* Both ranks send first, so that nothing is received that was not sent on what is freed. */
static void send_both(MPI_Comm comm)
{
    for (int tag = TAG_FIRST; tag <= TAG_SECOND; tag++)
        MPI_Send(&tag, 1, MPI_INT, 1 - rank, tag, comm);
}

/* The last that was pending on it is completed by the program's own callback. */
static void completed_by_callback(size_t before)
{
    MPI_Comm comm = with_attribute();
    MPI_Irecv(&in[0], 1, MPI_INT, 1 - rank, TAG_FIRST, comm, &first);
    MPI_Irecv(&in[1], 1, MPI_INT, 1 - rank, TAG_SECOND, comm, &second);
    send_both(comm);
    MPI_Wait(&second, MPI_STATUS_IGNORE);
    CHECK(known() == before + 1);
    then = COMPLETE_FIRST;
    free_it(&comm);
    CHECK(in[0] == TAG_FIRST && known() == before);
}

/* It begins another one. */
static void begun_by_callback(size_t before)
{
    MPI_Comm comm = with_attribute();
    MPI_Irecv(&in[0], 1, MPI_INT, 1 - rank, TAG_FIRST, comm, &first);
    send_both(comm);
    then = BEGIN_SECOND;
    free_it(&comm);
    CHECK(known() == before + 1);
    MPI_Wait(&first, MPI_STATUS_IGNORE);
    CHECK(in[0] == TAG_FIRST && known() == before + 1);
    MPI_Wait(&second, MPI_STATUS_IGNORE);
    CHECK(in[1] == TAG_SECOND && known() == before);
}

/* It fails: nothing is freed, and messages are followed as before; `pending`: while a receive is under way. */
static void failed_by_callback(size_t before, bool pending)
{
    MPI_Comm comm = with_attribute();
    if (pending)
        MPI_Irecv(&in[0], 1, MPI_INT, 1 - rank, TAG_FIRST, comm, &first);
    then = FAIL;
    CHECK(MPI_Comm_free(&comm) != MPI_SUCCESS && comm != MPI_COMM_NULL && called == 1);
    CHECK(known() == before + 1);
    if (!pending)
        MPI_Irecv(&in[0], 1, MPI_INT, 1 - rank, TAG_FIRST, comm, &first);
    send_both(comm);
    MPI_Recv(&in[1], 1, MPI_INT, 1 - rank, TAG_SECOND, comm, MPI_STATUS_IGNORE);
    MPI_Wait(&first, MPI_STATUS_IGNORE);
    CHECK(in[0] == TAG_FIRST && in[1] == TAG_SECOND);
    then = DO_NOTHING;
    CHECK(MPI_Comm_free(&comm) == MPI_SUCCESS && known() == before);
}

/* A persistent request is left, also where MPI has freed it at once. */
static void left_behind(size_t before)
{
    MPI_Comm comm = with_attribute();
    then = DO_NOTHING;
    MPI_Recv_init(&in[0], 1, MPI_INT, 1 - rank, TAG_FIRST, comm, &first);
    CHECK(MPI_Comm_disconnect(&comm) == MPI_SUCCESS && comm == MPI_COMM_NULL && known() == before + 1);
    MPI_Request_free(&first);
    CHECK(known() == before);
}

/* A window holds it. */
static void held_by_window(size_t before)
{
    MPI_Win window;
    MPI_Comm comm = with_attribute();
    MPI_Win_create(NULL, 0, 1, MPI_INFO_NULL, comm, &window);
    then = DO_NOTHING;
    free_it(&comm);
    CHECK(known() == before + 1);
    MPI_Win_fence(MPI_MODE_NOSUCCEED, window);
    MPI_Win_free(&window);
    CHECK(known() == before);
}

/* Rank 1 has flipped, and what rank 0 sent before it does is in the log and in the program, though both have freed where. */
static void freed_in_transition(size_t before, uint64_t epoch)
{
    MPI_Comm comm = with_attribute();
    then = DO_NOTHING;
    begin(epoch);
    if (rank == 1) {
        CHECK(record(epoch));
        MPI_Irecv(&in[0], 1, MPI_INT, 0, TAG_FIRST, comm, &first);
        free_it(&comm);
    } else {
        MPI_Send(&(int){TAG_FIRST}, 1, MPI_INT, 1, TAG_FIRST, comm);
        free_it(&comm);
        CHECK(known() == before && record(epoch));
    }
    meet();
    if (rank == 1)
        MPI_Wait(&first, MPI_STATUS_IGNORE);
    CHECK(rank == 0 || (in[0] == TAG_FIRST && entries == 1 && known() == before + 1));
    end(epoch);
    CHECK(known() == before);
}

void story_freed(void)
{
    size_t before = known();
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN); /* MPICH tells it of what MPI_Comm_free says */
    MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, deleted, &key, NULL);
    completed_by_callback(before);
    begun_by_callback(before);
    failed_by_callback(before, true);
    failed_by_callback(before, false);
    left_behind(before);
    held_by_window(before);
    freed_in_transition(before, 1);
    accepted(2);
    MPI_Comm_free_keyval(&key);
}
