/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>

#include "ckpt/client/mpi/inside.h"

#define LOOKS_MAX 64u /* of one thread in vain before others are let run */

/* ---- probes ---- */

/* What MPI has is looked at only behind what we have, and not at all while we match. */
static int look(struct comm *comm, int source, int tag, int *found, MPI_Message *message, MPI_Status *status)
{
    bool possible =
        (source == MPI_ANY_SOURCE || (unsigned)source < (unsigned)comm->size) && (tag == MPI_ANY_TAG || tag >= 0);
    struct parcel *parcel = possible ? parcel_find(comm, source, tag) : NULL;
    *found = 0;
    if (parcel == NULL && possible && cut_rank_matches(&inside.cut))
        return MPI_SUCCESS;
    if (parcel == NULL && message == NULL)
        return real.Iprobe(source, tag, comm->now, found, status);
    if (parcel == NULL) {
        MPI_Status own;
        int error = real.Improbe(source, tag, comm->now, found, message, &own);
        if (error == MPI_SUCCESS && *found && *message != MPI_MESSAGE_NO_PROC) {
            count_arrived_now(comm, own.MPI_SOURCE);
            inside.matched++;
        }
        if (*found)
            status_copy(status, &own);
        return error;
    }
    if (message) {
        struct request *request = request_create(REQUEST_MESSAGE, comm);
        if (request == NULL)
            return raise_error(comm, MPI_ERR_NO_MEM);
        parcel_take(parcel);
        request->parcel = parcel;
        *message = message_handle(request);
        inside.matched++;
    }
    *found = 1;
    parcel_status(parcel, status);
    return MPI_SUCCESS;
}

static int real_look(int source, int tag, MPI_Comm handle, int *found, MPI_Message *message, MPI_Status *status, bool wait)
{
    if (wait)
        return message ? real.Mprobe(source, tag, handle, message, status) : real.Probe(source, tag, handle, status);
    return message ? real.Improbe(source, tag, handle, found, message, status)
                   : real.Iprobe(source, tag, handle, found, status);
}

/* On a communicator that is not followed. */
static int look_elsewhere(int source, int tag, MPI_Comm handle, int *found, MPI_Message *message, MPI_Status *status,
                          bool wait)
{
    bool blocked = wait && blocked_enter();
    if (!wait)
        look_once();
    *found = wait;
    int error = real_look(source, tag, handle, found, message, status, wait);
    if (blocked)
        blocked_leave();
    if (inside.on && error == MPI_SUCCESS && *found && message && *message != MPI_MESSAGE_NO_PROC) {
        inside_lock();
        inside.matched++;
        inside_unlock();
    }
    return error;
}

/* Where there is nothing to do MPI alone knows. The lock is held, and left while it looks. False: not found, and one who
 * waits waits on the slow way. */
static bool look_beside(struct comm *comm, int source, int tag, int *found, MPI_Message *message, MPI_Status *status,
                        bool wait, int *ret_error)
{
    MPI_Status own;
    unsigned spins = 0;
    if (inside.depth != 1 || !beside_enter())
        return false;
    MPI_Comm now = comm->now;
    inside_unlock();
    do {
        *ret_error = real_look(source, tag, now, found, message, &own, false);
        if (wait && ++spins % LOOKS_MAX == 0)
            sched_yield();
    } while (wait && !*found && *ret_error == MPI_SUCCESS && beside_stays());
    inside_lock();
    if (*ret_error == MPI_SUCCESS && *found) {
        status_copy(status, &own);
        if (message && *message != MPI_MESSAGE_NO_PROC) {
            count_arrived_now(comm, own.MPI_SOURCE);
            inside.matched++;
        }
    }
    beside_leave();
    return !wait || *found || *ret_error != MPI_SUCCESS;
}

__attribute__((noinline)) static int look_slow(int source, int tag, MPI_Comm handle, int *found, MPI_Message *message,
                                               MPI_Status *status, bool wait)
{
    unsigned spins = 0;
    inside_lock();
    struct comm *comm = comm_find(handle);
    if (comm == NULL) {
        inside_unlock();
        return look_elsewhere(source, tag, handle, found, message, status, wait);
    }
    progress();
    int error;
    while (!look_beside(comm, source, tag, found, message, status, wait, &error) &&
           (error = look(comm, source, tag, found, message, status), !*found && error == MPI_SUCCESS)) {
        if (source != MPI_PROC_NULL)
            look_early(comm, source, tag);
        if (!wait)
            break;
        inside_pause(&spins);
    }
    if (*found)
        cut_rank_not_held(&inside.cut);
    settle_quick();
    inside_unlock();
    return error;
}

int MPI_Probe(int source, int tag, MPI_Comm handle, MPI_Status *status)
{
    struct comm *comm;
    int found;
    if (!quick() || UNLIKELY((comm = comm_of(handle)) == NULL))
        return look_slow(source, tag, handle, &found, NULL, status, true);
    return real.Probe(source, tag, comm->now, status);
}

int MPI_Iprobe(int source, int tag, MPI_Comm handle, int *found, MPI_Status *status)
{
    struct comm *comm;
    if (!quick() || UNLIKELY((comm = comm_of(handle)) == NULL))
        return look_slow(source, tag, handle, found, NULL, status, false);
    return real.Iprobe(source, tag, comm->now, found, status);
}

static int mprobe(int source, int tag, MPI_Comm handle, int *found, MPI_Message *message, MPI_Status *status, bool wait)
{
    struct comm *comm;
    MPI_Status own;
    if (!quick() || UNLIKELY((comm = comm_of(handle)) == NULL))
        return look_slow(source, tag, handle, found, message, status, wait);
    if (status == MPI_STATUS_IGNORE)
        status = &own;
    *found = 1;
    int error = real_look(source, tag, comm->now, found, message, status, wait);
    if (error == MPI_SUCCESS && *found && *message != MPI_MESSAGE_NO_PROC) {
        count_arrived(comm, status->MPI_SOURCE);
        inside.matched++;
    }
    return error;
}

int MPI_Mprobe(int source, int tag, MPI_Comm handle, MPI_Message *message, MPI_Status *status)
{
    int found;
    return mprobe(source, tag, handle, &found, message, status, true);
}

int MPI_Improbe(int source, int tag, MPI_Comm handle, int *found, MPI_Message *message, MPI_Status *status)
{
    return mprobe(source, tag, handle, found, message, status, false);
}

/* ---- what they found ---- */

static bool ours_or_real(const MPI_Message *message, struct request **ret_request)
{
    *ret_request = NULL;
    if (!inside.on || *message == MPI_MESSAGE_NULL || *message == MPI_MESSAGE_NO_PROC)
        return false;
    *ret_request = message_of(*message);
    return true;
}

int MPI_Mrecv(void *buffer, int count, MPI_Datatype type, MPI_Message *message, MPI_Status *status)
{
    struct request *request;
    MPI_Status own;
    unsigned spins = 0;
    bool counted = ours_or_real(message, &request);
    if (request == NULL) {
        int error = real.Mrecv(buffer, count, type, message, status);
        if (counted && *message == MPI_MESSAGE_NULL) {
            inside_lock();
            inside.matched--;
            inside_unlock();
        }
        return error;
    }
    inside_lock();
    struct comm *comm = request->comm;
    request->parcel->wanted = true;
    while (!parcel_whole(request->parcel))
        inside_pause(&spins);
    int error = parcel_give(request->parcel, buffer, count, type, &own);
    status_copy(status, &own);
    *message = MPI_MESSAGE_NULL;
    inside.matched--;
    if (error != MPI_SUCCESS)
        raise_error(comm, error);
    request_destroy(request);
    settle_quick();
    inside_unlock();
    return error;
}

/* A receive whose message is known. */
static int imrecv_ours(void *buffer, int count, MPI_Datatype type, MPI_Message *message, struct request *request,
                       MPI_Request *ret_handle)
{
    request->kind = REQUEST_RECV;
    request->state = REQUEST_QUEUED;
    request->buffer = buffer;
    request->count = count;
    request->type = type;
    request->peer = request->parcel->message.source;
    request->tag = request->parcel->message.tag;
    request->sequence = inside.sequence++;
    request->parcel->request = request;
    if (parcel_whole(request->parcel))
        receive_from_parcel(request);
    *message = MPI_MESSAGE_NULL;
    *ret_handle = request_handle(request);
    return MPI_SUCCESS;
}

int MPI_Imrecv(void *buffer, int count, MPI_Datatype type, MPI_Message *message, MPI_Request *ret_handle)
{
    struct request *request;
    bool counted = ours_or_real(message, &request);
    if (!inside.on)
        return real.Imrecv(buffer, count, type, message, ret_handle);
    inside_lock();
    int error = request ? imrecv_ours(buffer, count, type, message, request, ret_handle)
                        : real.Imrecv(buffer, count, type, message, ret_handle);
    if (error == MPI_SUCCESS) {
        inside.matched -= counted;
        inside.outstanding++;
    }
    if (request)
        settle_quick();
    inside_unlock();
    return error;
}

INTERPOSED(Probe);
INTERPOSED(Iprobe);
INTERPOSED(Mprobe);
INTERPOSED(Improbe);
INTERPOSED(Mrecv);
INTERPOSED(Imrecv);
