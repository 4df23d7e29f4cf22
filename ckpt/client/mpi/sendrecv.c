/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"

/* One message out and one in, at once. */

struct message {
    void *buffer;
    int count;
    MPI_Datatype type;
    int peer, tag;
};

static void count_both(const struct comm *comm, int to, int from, const MPI_Status *status, int error)
{
    if (error == MPI_SUCCESS || received(error))
        count_sent(comm, to);
    if (from != MPI_PROC_NULL && received(error))
        count_arrived(comm, status->MPI_SOURCE);
}

/* Both under way; the receive first, so that a rank may send to itself. */
static int both_begin(const struct message *out, const struct message *in, struct comm *comm, struct request **ret_out,
                      struct request **ret_in)
{
    struct request *receive = request_create(REQUEST_RECV, comm), *send = request_create(REQUEST_SEND, NULL);
    if (receive == NULL || send == NULL)
        return raise_error(comm, MPI_ERR_NO_MEM);
    receive->buffer = in->buffer;
    receive->count = in->count;
    receive->type = in->type;
    receive->peer = in->peer;
    receive->tag = in->tag;
    int error = receive_begin(receive);
    if (error == MPI_SUCCESS)
        error = send_begin(SEND_STANDARD, out->buffer, out->count, out->type, out->peer, out->tag, comm, send, &send->real);
    if (error != MPI_SUCCESS)
        return error; /* of arguments: MPI has raised it, and what was posted stays */
    if (send->real != MPI_REQUEST_NULL)
        send->state = REQUEST_REAL;
    *ret_out = send;
    *ret_in = receive;
    return MPI_SUCCESS;
}

static int both_inside(const struct message *out, const struct message *in, struct comm *comm, MPI_Status *status)
{
    unsigned spins = 0;
    struct request *receive = NULL, *send = NULL;
    int error = both_begin(out, in, comm, &send, &receive);
    if (error != MPI_SUCCESS)
        return error;
    inside.outstanding += 2;
    /* Both are advanced in each turn: neither waits for the other. */
    for (;;) {
        bool arrived = beside_request(receive) || request_advance(receive);
        bool sent = request_advance(send) || (arrived && beside_request(send));
        if (sent && arrived)
            break;
        if (!arrived)
            look_early_for(receive);
        inside_pause(&spins);
    }
    int send_error = request_finish(send, MPI_STATUS_IGNORE);
    error = request_finish(receive, status);
    return error ? error : send_error;
}

__attribute__((noinline)) static int both_slow(const struct message *out, const struct message *in, struct comm *comm,
                                               MPI_Status *status)
{
    progress();
    int error = both_inside(out, in, comm, status);
    settle_quick();
    return error;
}

int MPI_Sendrecv(const void *out, int out_count, MPI_Datatype out_type, int to, int out_tag, void *in, int in_count,
                 MPI_Datatype in_type, int from, int in_tag, MPI_Comm handle, MPI_Status *status)
{
    MPI_Status own;
    struct comm *comm;
    if (quick()) {
        if (UNLIKELY((comm = comm_of(handle)) == NULL))
            return real.Sendrecv(out, out_count, out_type, to, out_tag, in, in_count, in_type, from, in_tag, handle, status);
        if (status == MPI_STATUS_IGNORE)
            status = &own;
        int error =
            real.Sendrecv(out, out_count, out_type, to, out_tag, in, in_count, in_type, from, in_tag, comm->now, status);
        count_both(comm, to, from, status, error);
        return error;
    }
    struct message outgoing = {(void *)(uintptr_t)out, out_count, out_type, to, out_tag},
                   incoming = {in, in_count, in_type, from, in_tag};
    inside_lock();
    comm = comm_find(handle);
    int error = comm ? both_slow(&outgoing, &incoming, comm, status) : MPI_SUCCESS;
    inside_unlock();
    if (comm)
        return error;
    bool blocked = blocked_enter(); /* not followed: nobody looks while it waits */
    error = real.Sendrecv(out, out_count, out_type, to, out_tag, in, in_count, in_type, from, in_tag, handle, status);
    if (blocked)
        blocked_leave();
    return error;
}

/* What goes out is packed first. Free *ret_packed with mem_free; its type is the caller's to release. */
static int pack_first(struct message *out, struct comm *comm, void **ret_packed, struct bytes_type *ret_type)
{
    struct packing packing;
    uint64_t bytes = 0;
    int error = packing_init(&packing, out->buffer, out->count, out->type, comm->now);
    if (error != MPI_SUCCESS)
        return error == MPI_ERR_COUNT ? raise_error(comm, error) : error;
    void *packed = mem_try_alloc(packing.room);
    if (packed == NULL)
        return raise_error(comm, MPI_ERR_NO_MEM);
    error = packing_do(&packing, packed, &bytes);
    if (error == MPI_SUCCESS)
        error = bytes_type_init(ret_type, bytes);
    if (error != MPI_SUCCESS) {
        mem_free(packed);
        return error;
    }
    *out = (struct message){packed, ret_type->count, ret_type->type, out->peer, out->tag};
    *ret_packed = packed;
    return MPI_SUCCESS;
}

static int replace_slow(void *buffer, int count, MPI_Datatype type, int to, int out_tag, int from, int in_tag,
                        struct comm *comm, MPI_Status *status)
{
    struct message out = {buffer, count, type, to, out_tag}, in = {buffer, count, type, from, in_tag};
    struct bytes_type packed_type = {.own = false};
    void *packed = NULL;
    int error = pack_first(&out, comm, &packed, &packed_type);
    if (error == MPI_SUCCESS)
        error = both_slow(&out, &in, comm, status);
    bytes_type_release(&packed_type);
    mem_free(packed);
    return error;
}

int MPI_Sendrecv_replace(void *buffer, int count, MPI_Datatype type, int to, int out_tag, int from, int in_tag,
                         MPI_Comm handle, MPI_Status *status)
{
    MPI_Status own;
    struct comm *comm;
    if (quick()) {
        if (UNLIKELY((comm = comm_of(handle)) == NULL))
            return real.Sendrecv_replace(buffer, count, type, to, out_tag, from, in_tag, handle, status);
        if (status == MPI_STATUS_IGNORE)
            status = &own;
        int error = real.Sendrecv_replace(buffer, count, type, to, out_tag, from, in_tag, comm->now, status);
        count_both(comm, to, from, status, error);
        return error;
    }
    inside_lock();
    comm = comm_find(handle);
    int error = comm ? replace_slow(buffer, count, type, to, out_tag, from, in_tag, comm, status) : MPI_SUCCESS;
    inside_unlock();
    if (comm)
        return error;
    bool blocked = blocked_enter();
    error = real.Sendrecv_replace(buffer, count, type, to, out_tag, from, in_tag, handle, status);
    if (blocked)
        blocked_leave();
    return error;
}

INTERPOSED(Sendrecv);
INTERPOSED(Sendrecv_replace);

/* ---- in the background ---- */

bool both_advance(struct request *request)
{
    if (request->state == REQUEST_DONE)
        return true;
    bool sent = request_advance(request->out), arrived = request_advance(request->in);
    if (!sent || !arrived)
        return false;
    request->status = request->in->status;
    request->error = request->in->error ? request->in->error : request->out->error;
    request->ours = request->in->ours;
    request_destroy(request->out);
    request_destroy(request->in);
    mem_free(request->packed);
    request->state = REQUEST_DONE;
    return true;
}

#if MPI_VERSION >= 4
static int both_later(struct message *out, const struct message *in, struct comm *comm, bool replace,
                      MPI_Request *ret_handle)
{
    struct bytes_type packed_type = {.own = false};
    void *packed = NULL;
    progress();
    struct request *request = request_create(REQUEST_BOTH, comm);
    int error = request ? MPI_SUCCESS : raise_error(comm, MPI_ERR_NO_MEM);
    if (error == MPI_SUCCESS && replace)
        error = pack_first(out, comm, &packed, &packed_type);
    if (error == MPI_SUCCESS)
        error = both_begin(out, in, comm, &request->out, &request->in);
    bytes_type_release(&packed_type);
    if (error == MPI_SUCCESS) {
        request->packed = packed;
        request->state = REQUEST_QUEUED;
        inside.outstanding++;
        *ret_handle = request_handle(request);
    } else {
        mem_free(packed);
        if (request)
            request_destroy(request);
    }
    settle_quick();
    return error;
}

int MPI_Isendrecv(const void *out, int out_count, MPI_Datatype out_type, int to, int out_tag, void *in, int in_count,
                  MPI_Datatype in_type, int from, int in_tag, MPI_Comm handle, MPI_Request *request)
{
    struct message outgoing = {(void *)(uintptr_t)out, out_count, out_type, to, out_tag},
                   incoming = {in, in_count, in_type, from, in_tag};
    inside_lock();
    struct comm *comm = comm_find(handle);
    int error =
        comm ? both_later(&outgoing, &incoming, comm, false, request)
             : real.Isendrecv(out, out_count, out_type, to, out_tag, in, in_count, in_type, from, in_tag, handle, request);
    inside.outstanding += comm == NULL && inside.on && error == MPI_SUCCESS;
    inside_unlock();
    return error;
}

int MPI_Isendrecv_replace(void *buffer, int count, MPI_Datatype type, int to, int out_tag, int from, int in_tag,
                          MPI_Comm handle, MPI_Request *request)
{
    struct message outgoing = {buffer, count, type, to, out_tag}, incoming = {buffer, count, type, from, in_tag};
    inside_lock();
    struct comm *comm = comm_find(handle);
    int error = comm ? both_later(&outgoing, &incoming, comm, true, request)
                     : real.Isendrecv_replace(buffer, count, type, to, out_tag, from, in_tag, handle, request);
    inside.outstanding += comm == NULL && inside.on && error == MPI_SUCCESS;
    inside_unlock();
    return error;
}

INTERPOSED(Isendrecv);
INTERPOSED(Isendrecv_replace);
#endif
