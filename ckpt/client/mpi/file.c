/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/mpi/inside.h"

/* MPI-IO goes to MPI as it is. Files are no part of a checkpoint; what has begun and not ended is not recorded. */

static void count(int error, int requests_more, int splits_more)
{
    if (!inside.on || error != MPI_SUCCESS)
        return;
    inside_lock();
    inside.outstanding += (uint64_t)requests_more;
    inside.files_open += (uint64_t)splits_more;
    inside_unlock();
}

#define FILE_CALL(name, parameters, arguments, requests_more, splits_more) \
    int MPI_##name parameters                                         \
    {                                                                 \
        int error = real.name arguments;                              \
        count(error, requests_more, splits_more);                     \
        return error;                                                 \
    }                                                                 \
    INTERPOSED(name)

#define READ void *buffer, int n, MPI_Datatype type
#define WRITE const void *buffer, int n, MPI_Datatype type

#define NONBLOCKING(name, data) \
    FILE_CALL(name, (MPI_File file, data, MPI_Request *request), (file, buffer, n, type, request), 1, 0)
#define NONBLOCKING_AT(name, data) \
    FILE_CALL(name, (MPI_File file, MPI_Offset at, data, MPI_Request *request), (file, at, buffer, n, type, request), 1, 0)

NONBLOCKING(File_iread, READ);
NONBLOCKING(File_iread_all, READ);
NONBLOCKING(File_iread_shared, READ);
NONBLOCKING(File_iwrite, WRITE);
NONBLOCKING(File_iwrite_all, WRITE);
NONBLOCKING(File_iwrite_shared, WRITE);
NONBLOCKING_AT(File_iread_at, READ);
NONBLOCKING_AT(File_iread_at_all, READ);
NONBLOCKING_AT(File_iwrite_at, WRITE);
NONBLOCKING_AT(File_iwrite_at_all, WRITE);

/* Split collectives. */
#define BEGIN(name, data) FILE_CALL(name, (MPI_File file, data), (file, buffer, n, type), 0, 1)
#define BEGIN_AT(name, data) FILE_CALL(name, (MPI_File file, MPI_Offset at, data), (file, at, buffer, n, type), 0, 1)
#define END_READ(name) FILE_CALL(name, (MPI_File file, void *buffer, MPI_Status *status), (file, buffer, status), 0, -1)
#define END_WRITE(name) FILE_CALL(name, (MPI_File file, const void *buffer, MPI_Status *status), (file, buffer, status), 0, -1)

BEGIN(File_read_all_begin, READ);
END_READ(File_read_all_end);
BEGIN_AT(File_read_at_all_begin, READ);
END_READ(File_read_at_all_end);
BEGIN(File_read_ordered_begin, READ);
END_READ(File_read_ordered_end);
BEGIN(File_write_all_begin, WRITE);
END_WRITE(File_write_all_end);
BEGIN_AT(File_write_at_all_begin, WRITE);
END_WRITE(File_write_at_all_end);
BEGIN(File_write_ordered_begin, WRITE);
END_WRITE(File_write_ordered_end);
