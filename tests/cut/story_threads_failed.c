/* SPDX-License-Identifier: Apache-2.0 */
#include <mpi.h>
#include <string.h>

#include "tests/cut/self.h"
#include "tests/cut/story.h"

/* With many threads a receive that fails is over, is told as MPI tells it, and is outstanding no more, whatever call completes it. */

#define TAG 5

static char in[2][8], out[8];
static MPI_Request both[2];

/* The first is too small. */
static void begin_both(void)
{
    MPI_Irecv(in[0], 4, MPI_BYTE, 1 - rank, TAG, MPI_COMM_WORLD, &both[0]);
    MPI_Irecv(in[1], 8, MPI_BYTE, 1 - rank, TAG + 1, MPI_COMM_WORLD, &both[1]);
    for (int i = 0; i < 2; i++)
        MPI_Send(out, 8, MPI_BYTE, 1 - rank, TAG + i, MPI_COMM_WORLD);
}

static void check_error(int error)
{
    int class = MPI_SUCCESS;
    MPI_Error_class(error, &class);
    CHECK(class == MPI_ERR_TRUNCATE);
}

static void in_wait(void)
{
    check_error(MPI_Wait(&both[0], MPI_STATUS_IGNORE));
    CHECK(MPI_Wait(&both[1], MPI_STATUS_IGNORE) == MPI_SUCCESS);
}

static void in_test(void)
{
    int done = 0, error = MPI_SUCCESS;
    while (!done && error == MPI_SUCCESS)
        error = MPI_Test(&both[0], &done, MPI_STATUS_IGNORE);
    check_error(error);
    CHECK(MPI_Wait(&both[1], MPI_STATUS_IGNORE) == MPI_SUCCESS);
}

static void in_waitall(void)
{
    MPI_Status statuses[2];
    CHECK(MPI_Waitall(2, both, statuses) == MPI_ERR_IN_STATUS);
    check_error(statuses[0].MPI_ERROR);
    CHECK(statuses[1].MPI_ERROR == MPI_SUCCESS);
}

static void in_waitall_ignored(void)
{
    CHECK(MPI_Waitall(2, both, MPI_STATUSES_IGNORE) != MPI_SUCCESS);
}

static void in_testall(void)
{
    MPI_Status statuses[2];
    int done = 0, error = MPI_SUCCESS;
    while (!done && error == MPI_SUCCESS)
        error = MPI_Testall(2, both, &done, statuses);
    CHECK(error == MPI_ERR_IN_STATUS);
    MPI_Waitall(2, both, MPI_STATUSES_IGNORE);
}

static void in_waitany(void)
{
    int failed = 0, index, class;
    for (int i = 0; i < 2; i++) {
        int error = MPI_Waitany(2, both, &index, MPI_STATUS_IGNORE);
        MPI_Error_class(error, &class);
        failed += class == MPI_ERR_TRUNCATE && index == 0;
    }
    CHECK(failed == 1);
}

static void in_waitsome(void)
{
    MPI_Status statuses[2];
    int indices[2], done = 0, failed = 0;
    for (int all = 0; all < 2 && done >= 0; all += done) {
        int error = MPI_Waitsome(2, both, &done, indices, statuses);
        for (int i = 0; error == MPI_ERR_IN_STATUS && i < done; i++)
            failed += statuses[i].MPI_ERROR != MPI_SUCCESS && indices[i] == 0;
    }
    CHECK(failed == 1);
}

static void (*const calls[])(void) = {in_wait, in_test, in_waitall, in_waitall_ignored, in_testall, in_waitany, in_waitsome};

void story_threads_failed(void)
{
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        begin_both();
        calls[i]();
        CHECK(both[0] == MPI_REQUEST_NULL && both[1] == MPI_REQUEST_NULL);
        accepted(i + 1);
    }
}
