/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/mpi/inside.h"

/* Persistent requests are kept as their arguments, and started as ordinary ones in the colour of the day. */

static int keep(enum request_kind kind, enum send_mode mode, void *buffer, int count, MPI_Datatype type, int peer, int tag,
                struct comm *comm, MPI_Request *ret_handle)
{
    inside_lock();
    struct request *request = request_create(kind, comm);
    if (request) {
        request->persistent = true;
        request->mode = (uint8_t)mode;
        request->buffer = buffer;
        request->count = count;
        request->type = type;
        request->peer = peer;
        request->tag = tag;
        request->real = MPI_REQUEST_NULL;
        *ret_handle = request_handle(request);
    }
    inside_unlock();
    return request ? MPI_SUCCESS : raise_error(comm, MPI_ERR_NO_MEM);
}

/* One that we keep; else MPI makes its own, or complains. What else it may complain about it is asked with a request for
 * nobody: one for a rank that is thrown away takes a reference of the communicator with it in Open MPI 4.1. */
static struct comm *comm_to_keep(MPI_Comm handle, int peer, int tag)
{
    inside_lock();
    struct comm *comm = comm_find(handle);
    inside_unlock();
    bool possible = comm && ((unsigned)peer < (unsigned)comm->size || peer == MPI_PROC_NULL || peer == MPI_ANY_SOURCE) &&
                    (tag >= 0 || tag == MPI_ANY_TAG);
    return possible ? comm : NULL;
}

static int tried(int error, MPI_Request *request)
{
    return error == MPI_SUCCESS ? real.Request_free(request) : error;
}

#define SEND_INIT(name, mode)                                                                                               \
    int MPI_##name(const void *buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm handle,                      \
                   MPI_Request *request)                                                                                    \
    {                                                                                                                       \
        struct comm *comm = comm_to_keep(handle, to, tag);                                                                  \
        if (comm == NULL || to == MPI_ANY_SOURCE)                                                                           \
            return request_pass(real.name(buffer, count, type, to, tag, handle, request), PASSED_FOREIGN, handle, request); \
        int error = tried(real.name(buffer, count, type, MPI_PROC_NULL, tag, handle, request), request);                    \
        return error ? error : keep(REQUEST_SEND, mode, (void *)(uintptr_t)buffer, count, type, to, tag, comm, request);    \
    }                                                                                                                       \
    INTERPOSED(name)

SEND_INIT(Send_init, SEND_STANDARD);
SEND_INIT(Ssend_init, SEND_SYNCHRONOUS);
SEND_INIT(Bsend_init, SEND_BUFFERED);
SEND_INIT(Rsend_init, SEND_READY);

int MPI_Recv_init(void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm handle, MPI_Request *request)
{
    struct comm *comm = comm_to_keep(handle, from, tag);
    if (comm == NULL)
        return request_pass(real.Recv_init(buffer, count, type, from, tag, handle, request), PASSED_FOREIGN, handle,
                            request);
    int error = tried(real.Recv_init(buffer, count, type, MPI_PROC_NULL, tag, handle, request), request);
    return error ? error : keep(REQUEST_RECV, SEND_STANDARD, buffer, count, type, from, tag, comm, request);
}

static int start_send(struct request *request)
{
    int error = send_begin((enum send_mode)request->mode, request->buffer, request->count, request->type, request->peer,
                           request->tag, request->comm, request, &request->real);
    if (error == MPI_SUCCESS && request->real != MPI_REQUEST_NULL)
        request->state = REQUEST_REAL;
    return error;
}

static int start_passed(struct request *request)
{
    if (request->mode == PASSED_PARTITIONED)
        uncoloured("a partitioned MPI request was started while the checkpoint was being taken");
    int error = real.Start(&request->real);
    if (error == MPI_SUCCESS)
        request->state = REQUEST_REAL;
    if (request->comm && request->mode == PASSED_COLLECTIVE)
        request->comm->collectives++;
    return error;
}

static int start(MPI_Request *handle)
{
    struct request *request = request_of(*handle);
    int error;
    if (request == NULL || !request->persistent)
        return real.Start(handle);
    if (request->kind == REQUEST_SEND)
        error = start_send(request);
    else if (request->kind == REQUEST_RECV)
        error = receive_begin(request);
    else
        error = start_passed(request);
    inside.outstanding += error == MPI_SUCCESS;
    return error;
}

int MPI_Start(MPI_Request *handle)
{
    if (!inside.on)
        return real.Start(handle);
    inside_lock();
    if (!quick())
        progress();
    int error = start(handle);
    if (!quick())
        settle_quick();
    inside_unlock();
    return error;
}

int MPI_Startall(int count, MPI_Request *handles)
{
    if (!inside.on || count <= 0 || handles == NULL)
        return real.Startall(count, handles);
    inside_lock();
    if (!quick())
        progress();
    int error = MPI_SUCCESS;
    for (int i = 0; error == MPI_SUCCESS && i < count; i++)
        error = start(&handles[i]);
    if (!quick())
        settle_quick();
    inside_unlock();
    return error;
}

INTERPOSED(Recv_init);
INTERPOSED(Start);
INTERPOSED(Startall);
