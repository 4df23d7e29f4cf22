/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/mpi/inside.h"

#if MPI_VERSION >= 4

/* What MPI 4 added. Counts beyond an int become one element of a larger datatype, so that a message is the same either way;
 * sessions and partitioned messages are not followed, and there is no record with them. */

#include <limits.h>

struct large {
    MPI_Datatype type;
    int count;
    bool own;
};

static int large_init(struct large *ret_large, MPI_Count count, MPI_Datatype type)
{
    *ret_large = (struct large){.type = type, .count = (int)count};
    if (count <= INT_MAX)
        return MPI_SUCCESS;
    *ret_large = (struct large){.count = 1, .own = true};
    int error = PMPI_Type_contiguous_c(count, type, &ret_large->type);
    return error ? error : PMPI_Type_commit(&ret_large->type);
}

/* A request that still needs the datatype keeps a duplicate. */
static int large_end(struct large *large, int error)
{
    if (large->own)
        MPI_Type_free(&large->type);
    return error;
}

#define UNPACK(...) __VA_ARGS__

#define LARGE(name, parameters, arguments)                                                                                  \
    int MPI_##name##_c parameters                                                                                           \
    {                                                                                                                       \
        struct large large;                                                                                                 \
        int error = large_init(&large, count, type);                                                                        \
        return error ? error : large_end(&large, MPI_##name arguments);                                                     \
    }                                                                                                                       \
    INTERPOSED(name##_c)

#define OUT const void *buffer, MPI_Count count, MPI_Datatype type, int to, int tag, MPI_Comm comm
#define IN void *buffer, MPI_Count count, MPI_Datatype type, int from, int tag, MPI_Comm comm
#define WHAT buffer, large.count, large.type

LARGE(Send, (OUT), (WHAT, to, tag, comm));
LARGE(Ssend, (OUT), (WHAT, to, tag, comm));
LARGE(Bsend, (OUT), (WHAT, to, tag, comm));
LARGE(Rsend, (OUT), (WHAT, to, tag, comm));
LARGE(Isend, (OUT, MPI_Request *request), (WHAT, to, tag, comm, request));
LARGE(Issend, (OUT, MPI_Request *request), (WHAT, to, tag, comm, request));
LARGE(Ibsend, (OUT, MPI_Request *request), (WHAT, to, tag, comm, request));
LARGE(Irsend, (OUT, MPI_Request *request), (WHAT, to, tag, comm, request));
LARGE(Send_init, (OUT, MPI_Request *request), (WHAT, to, tag, comm, request));
LARGE(Ssend_init, (OUT, MPI_Request *request), (WHAT, to, tag, comm, request));
LARGE(Bsend_init, (OUT, MPI_Request *request), (WHAT, to, tag, comm, request));
LARGE(Rsend_init, (OUT, MPI_Request *request), (WHAT, to, tag, comm, request));
LARGE(Recv, (IN, MPI_Status *status), (WHAT, from, tag, comm, status));
LARGE(Irecv, (IN, MPI_Request *request), (WHAT, from, tag, comm, request));
LARGE(Recv_init, (IN, MPI_Request *request), (WHAT, from, tag, comm, request));
LARGE(Mrecv, (void *buffer, MPI_Count count, MPI_Datatype type, MPI_Message *message, MPI_Status *status),
      (WHAT, message, status));
LARGE(Imrecv, (void *buffer, MPI_Count count, MPI_Datatype type, MPI_Message *message, MPI_Request *request),
      (WHAT, message, request));
LARGE(Sendrecv_replace,
      (void *buffer, MPI_Count count, MPI_Datatype type, int to, int out_tag, int from, int in_tag, MPI_Comm comm,
       MPI_Status *status),
      (WHAT, to, out_tag, from, in_tag, comm, status));
LARGE(Isendrecv_replace,
      (void *buffer, MPI_Count count, MPI_Datatype type, int to, int out_tag, int from, int in_tag, MPI_Comm comm,
       MPI_Request *request),
      (WHAT, to, out_tag, from, in_tag, comm, request));

#define LARGE_BOTH(name, last_type, last)                                                                                   \
    int MPI_##name##_c(const void *out, MPI_Count out_count, MPI_Datatype out_type, int to, int out_tag, void *in,          \
                       MPI_Count in_count, MPI_Datatype in_type, int from, int in_tag, MPI_Comm comm, last_type last)       \
    {                                                                                                                       \
        struct large going, coming;                                                                                         \
        int error = large_init(&going, out_count, out_type);                                                                \
        if (error)                                                                                                          \
            return error;                                                                                                   \
        error = large_init(&coming, in_count, in_type);                                                                     \
        if (error)                                                                                                          \
            return large_end(&going, error);                                                                                \
        error =                                                                                                             \
            MPI_##name(out, going.count, going.type, to, out_tag, in, coming.count, coming.type, from, in_tag, comm, last); \
        return large_end(&coming, large_end(&going, error));                                                                \
    }                                                                                                                       \
    INTERPOSED(name##_c)

LARGE_BOTH(Sendrecv, MPI_Status *, status);
LARGE_BOTH(Isendrecv, MPI_Request *, request);

/* ---- partitioned ---- */

#define PARTITIONED(name, constness)                                                                                        \
    int MPI_##name(constness void *buffer, int partitions, MPI_Count count, MPI_Datatype type, int peer, int tag,           \
                   MPI_Comm comm, MPI_Info info, MPI_Request *request)                                                      \
    {                                                                                                                       \
        int error = real.name(buffer, partitions, count, type, peer, tag, comm, info, request);                             \
        return request_pass(error, PASSED_PARTITIONED, comm, request);                                                      \
    }                                                                                                                       \
    INTERPOSED(name)

PARTITIONED(Psend_init, const);
PARTITIONED(Precv_init, );

static MPI_Request partitioned_of(MPI_Request handle)
{
    const struct request *request = inside.on ? request_of(handle) : NULL;
    return request ? request->real : handle;
}

int MPI_Pready(int partition, MPI_Request handle)
{
    return real.Pready(partition, partitioned_of(handle));
}

int MPI_Pready_range(int first, int last, MPI_Request handle)
{
    return real.Pready_range(first, last, partitioned_of(handle));
}

/* Not const in MPICH 4.0. */
typedef __typeof__(_Generic(&PMPI_Pready_list, int (*)(int, int *, MPI_Request): (int *)0,
                            default: (const int *)0)) partition_list;

int MPI_Pready_list(int length, partition_list partitions, MPI_Request handle)
{
    return real.Pready_list(length, partitions, partitioned_of(handle));
}

int MPI_Parrived(MPI_Request handle, int partition, int *flag)
{
    look_once();
    return real.Parrived(partitioned_of(handle), partition, flag);
}

INTERPOSED(Pready);
INTERPOSED(Pready_range);
INTERPOSED(Pready_list);
INTERPOSED(Parrived);

/* ---- sessions: whoever uses one may never call MPI_Init ---- */

static const char *const in_session = "an MPI session is open: messages on its communicators are not followed";
static _Atomic unsigned sessions;

const char *session_why(void)
{
    return sessions > 0 ? in_session : NULL;
}

int MPI_Session_init(MPI_Info info, MPI_Errhandler handler, MPI_Session *session)
{
    int error = real.Session_init(info, handler, session);
    if (error == MPI_SUCCESS)
        sessions++;
    uncoloured(in_session);
    return error;
}

int MPI_Session_finalize(MPI_Session *session)
{
    int error = real.Session_finalize(session);
    if (error == MPI_SUCCESS)
        sessions--;
    return error;
}

INTERPOSED(Session_init);
INTERPOSED(Session_finalize);

#else

const char *session_why(void)
{
    return NULL;
}

#endif
