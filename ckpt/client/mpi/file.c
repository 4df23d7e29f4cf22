/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/mpi/inside.h"

/* MPI-IO goes to MPI as it is. Files are no part of a checkpoint; what has begun and not ended is not recorded. Collective
 * calls are counted on the communicator that the file was opened on, and those that wait are waited for as other collectives
 * are. */

static uint64_t key_of(MPI_File file)
{
    return (uint64_t)(uintptr_t)file << 1 | 1;
}

static void split(int error, int by)
{
    if (!inside.on || error != MPI_SUCCESS)
        return;
    inside_lock();
    inside.files_open += (uint64_t)by;
    inside_unlock();
}

#define UNPACK(...) __VA_ARGS__
#define PASS_NOTHING(error) (void)0

/* A collective call that waits for others. after(error): what it changes. */
#define WAITING(name, parameters, arguments, after)                                                                         \
    int MPI_##name(MPI_File file UNPACK parameters)                                                                         \
    {                                                                                                                       \
        made_collective(key_of(file));                                                                                      \
        bool blocked = blocked_enter();                                                                                     \
        int error = real.name(file UNPACK arguments);                                                                       \
        if (UNLIKELY(blocked))                                                                                              \
            blocked_leave();                                                                                                \
        after(error);                                                                                                       \
        return error;                                                                                                       \
    }                                                                                                                       \
    INTERPOSED(name)

#define NONBLOCKING(name, parameters, arguments, on_entry)                                                                  \
    int MPI_##name(MPI_File file UNPACK parameters, MPI_Request *request)                                                   \
    {                                                                                                                       \
        on_entry;                                                                                                           \
        int error = real.name(file UNPACK arguments, request);                                                              \
        request_held(error, *request, UNREPEATABLE_FILE);                                                                   \
        return error;                                                                                                       \
    }                                                                                                                       \
    INTERPOSED(name)

#define READ void *buffer, COUNT n, MPI_Datatype type
#define WRITE const void *buffer, COUNT n, MPI_Datatype type
#define HERE(data) (, data), (, buffer, n, type)
#define AT(data) (, MPI_Offset at, data), (, at, buffer, n, type)
#define HERE_STATUS(data) (, data, MPI_Status * status), (, buffer, n, type, status)
#define AT_STATUS(data) (, MPI_Offset at, data, MPI_Status * status), (, at, buffer, n, type, status)
#define END_STATUS(buffer_type) (, buffer_type buffer, MPI_Status * status), (, buffer, status)
#define SPLIT_MORE(error) split(error, 1)
#define SPLIT_LESS(error) split(error, -1)
#define APPLY(macro, ...) macro(__VA_ARGS__)
#define ALONE (void)0
#define TOGETHER made_collective(key_of(file))

/* All that move data, of counts of one size. */
#define DATA_CALLS(x)                                                                                                       \
    APPLY(NONBLOCKING, File_iread##x, HERE(READ), ALONE);                                                                   \
    APPLY(NONBLOCKING, File_iread_shared##x, HERE(READ), ALONE);                                                            \
    APPLY(NONBLOCKING, File_iread_at##x, AT(READ), ALONE);                                                                  \
    APPLY(NONBLOCKING, File_iwrite##x, HERE(WRITE), ALONE);                                                                 \
    APPLY(NONBLOCKING, File_iwrite_shared##x, HERE(WRITE), ALONE);                                                          \
    APPLY(NONBLOCKING, File_iwrite_at##x, AT(WRITE), ALONE);                                                                \
    APPLY(NONBLOCKING, File_iread_all##x, HERE(READ), TOGETHER);                                                            \
    APPLY(NONBLOCKING, File_iread_at_all##x, AT(READ), TOGETHER);                                                           \
    APPLY(NONBLOCKING, File_iwrite_all##x, HERE(WRITE), TOGETHER);                                                          \
    APPLY(NONBLOCKING, File_iwrite_at_all##x, AT(WRITE), TOGETHER);                                                         \
    APPLY(WAITING, File_read_all##x, HERE_STATUS(READ), PASS_NOTHING);                                                      \
    APPLY(WAITING, File_read_at_all##x, AT_STATUS(READ), PASS_NOTHING);                                                     \
    APPLY(WAITING, File_read_ordered##x, HERE_STATUS(READ), PASS_NOTHING);                                                  \
    APPLY(WAITING, File_write_all##x, HERE_STATUS(WRITE), PASS_NOTHING);                                                    \
    APPLY(WAITING, File_write_at_all##x, AT_STATUS(WRITE), PASS_NOTHING);                                                   \
    APPLY(WAITING, File_write_ordered##x, HERE_STATUS(WRITE), PASS_NOTHING);                                                \
    APPLY(WAITING, File_read_all_begin##x, HERE(READ), SPLIT_MORE);                                                         \
    APPLY(WAITING, File_read_at_all_begin##x, AT(READ), SPLIT_MORE);                                                        \
    APPLY(WAITING, File_read_ordered_begin##x, HERE(READ), SPLIT_MORE);                                                     \
    APPLY(WAITING, File_write_all_begin##x, HERE(WRITE), SPLIT_MORE);                                                       \
    APPLY(WAITING, File_write_at_all_begin##x, AT(WRITE), SPLIT_MORE);                                                      \
    APPLY(WAITING, File_write_ordered_begin##x, HERE(WRITE), SPLIT_MORE)

#define COUNT int
DATA_CALLS();
#undef COUNT
#if MPI_VERSION >= 4
#define COUNT MPI_Count
DATA_CALLS(_c);
#undef COUNT
#endif

APPLY(WAITING, File_read_all_end, END_STATUS(void *), SPLIT_LESS);
APPLY(WAITING, File_read_at_all_end, END_STATUS(void *), SPLIT_LESS);
APPLY(WAITING, File_read_ordered_end, END_STATUS(void *), SPLIT_LESS);
APPLY(WAITING, File_write_all_end, END_STATUS(const void *), SPLIT_LESS);
APPLY(WAITING, File_write_at_all_end, END_STATUS(const void *), SPLIT_LESS);
APPLY(WAITING, File_write_ordered_end, END_STATUS(const void *), SPLIT_LESS);

WAITING(File_set_view, (, MPI_Offset at, MPI_Datatype element, MPI_Datatype type, const char *data, MPI_Info info),
        (, at, element, type, data, info), PASS_NOTHING);
WAITING(File_set_size, (, MPI_Offset size), (, size), PASS_NOTHING);
WAITING(File_preallocate, (, MPI_Offset size), (, size), PASS_NOTHING);
WAITING(File_set_atomicity, (, int atomic), (, atomic), PASS_NOTHING);
WAITING(File_seek_shared, (, MPI_Offset at, int whence), (, at, whence), PASS_NOTHING);
WAITING(File_sync, (), (), PASS_NOTHING);

int MPI_File_open(MPI_Comm comm, const char *name, int mode, MPI_Info info, MPI_File *made)
{
    comm_count_collective(comm);
    bool blocked = blocked_enter();
    int error = real.File_open(comm, name, mode, info, made);
    if (UNLIKELY(blocked))
        blocked_leave();
    if (error == MPI_SUCCESS)
        made_note(key_of(*made), comm);
    return error;
}
INTERPOSED(File_open);

int MPI_File_close(MPI_File *file)
{
    uint64_t key = key_of(*file);
    made_collective(key);
    bool blocked = blocked_enter();
    int error = real.File_close(file);
    if (UNLIKELY(blocked))
        blocked_leave();
    if (error == MPI_SUCCESS)
        made_forget(key);
    return error;
}
INTERPOSED(File_close);
