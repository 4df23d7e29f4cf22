/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"

/* ---- statuses, errors ---- */

void status_copy(MPI_Status *to, const MPI_Status *from)
{
    if (to == MPI_STATUS_IGNORE)
        return;
    int error = to->MPI_ERROR;
    *to = *from;
    to->MPI_ERROR = error;
}

void status_empty(MPI_Status *status)
{
    if (status == MPI_STATUS_IGNORE)
        return;
    PMPI_Status_set_elements(status, MPI_BYTE, 0);
    PMPI_Status_set_cancelled(status, 0);
    status->MPI_SOURCE = MPI_ANY_SOURCE;
    status->MPI_TAG = MPI_ANY_TAG;
}

void status_of_nobody(const struct request *request, MPI_Status *status)
{
    if (request == NULL || request->kind != REQUEST_RECV || request->peer != MPI_PROC_NULL || status == MPI_STATUS_IGNORE)
        return;
    status_empty(status);
    status->MPI_SOURCE = MPI_PROC_NULL;
}

bool received_in_part(int error)
{
    int class = MPI_SUCCESS;
    PMPI_Error_class(error, &class);
    return class == MPI_ERR_TRUNCATE;
}

int raise_error(const struct comm *comm, int error)
{
    if (error != MPI_SUCCESS)
        PMPI_Comm_call_errhandler(comm ? comm->colour[0] : MPI_COMM_WORLD, error);
    return error;
}

/* ---- a receive of ours ---- */

static int to_cut(int value, int any)
{
    return value == any ? CUT_ANY : value;
}

static void count_old(struct request *request, const MPI_Status *status)
{
    const struct comm *comm = request->comm;
    if ((unsigned)status->MPI_SOURCE >= (unsigned)comm->size)
        return;
    enum cut_take take = cut_rank_take(&inside.cut, comm->world[status->MPI_SOURCE], inside.cut.colour ^ 1);
    comm->all[status->MPI_SOURCE].arrived++;
    parcels_counted(comm, status->MPI_SOURCE);
    if (take == CUT_TAKE_LOG) {
        parcel_log_received(request, true);
    } else {
        cut_rank_done(&inside.cut);
        parcel_unexpect(request);
    }
    parcels_release(comm->world[status->MPI_SOURCE]);
}

void receive_completed(struct request *request, const MPI_Status *status, int error)
{
    int cancelled = 0;
    request->status = *status;
    status_of_nobody(request, &request->status);
    request->error = error;
    request->real = MPI_REQUEST_NULL;
    request->matched = false;
    if (UNLIKELY(request->cancelling))
        PMPI_Test_cancelled(status, &cancelled);
    request->state = REQUEST_DONE;
    if (cancelled || request->comm == NULL || request->peer == MPI_PROC_NULL || !received(error)) {
        parcel_unexpect(request);
        return;
    }
    cut_rank_not_held(&inside.cut);
    inside.tell_anew = true;
    if (cut_rank_matches(&inside.cut) && request->epoch < inside.cut.epoch)
        count_old(request, status);
    else
        count_arrived_now(request->comm, status->MPI_SOURCE);
}

static int to_mpi(struct request *request)
{
    request->epoch = inside.cut.epoch;
    request->cancelling = false;
    int error = real.Irecv(request->buffer, request->count, request->type, request->peer, request->tag, request->comm->now,
                           &request->real);
    request->state = error == MPI_SUCCESS ? REQUEST_REAL : REQUEST_INACTIVE;
    return error;
}

/* `parcel` is what it gets. Whole: now; else parcels_progress does it. */
static void assign(struct request *request, struct parcel *parcel)
{
    request->parcel = parcel;
    parcel->request = request;
    cut_rank_not_held(&inside.cut);
    if (parcel_whole(parcel))
        receive_from_parcel(request);
}

void receive_from_parcel(struct request *request)
{
    struct parcel *parcel = request->parcel;
    request->parcel = NULL;
    request->error = parcel_give(parcel, request->buffer, request->count, request->type, &request->status);
    request->ours = request->error != MPI_SUCCESS;
    request->state = REQUEST_DONE;
}

/* In the queue of its communicator, where nobody is behind the bounds of MPI's own checks. */
static void to_queue(struct request *request)
{
    request->state = REQUEST_QUEUED;
    request->real = MPI_REQUEST_NULL;
    request->receive = (struct cut_receive){
        .source = to_cut(request->peer, MPI_ANY_SOURCE), .tag = to_cut(request->tag, MPI_ANY_TAG), .context = request};
    struct cut_message *message = cut_queue_post(&request->comm->queue, &request->receive);
    if (message == NULL)
        return;
    inside.queued--;
    assign(request, message->payload);
}

static bool possible(const struct request *request)
{
    return (request->peer == MPI_ANY_SOURCE || (unsigned)request->peer < (unsigned)request->comm->size) &&
           (request->tag == MPI_ANY_TAG || request->tag >= 0) && request->count >= 0 && request->type != MPI_DATATYPE_NULL;
}

int receive_begin(struct request *request)
{
    struct comm *comm = request->comm;
    request->sequence = inside.sequence++;
    request->error = MPI_SUCCESS;
    request->told = false;
    if (!possible(request)) /* MPI_PROC_NULL, and what MPI complains about */
        return to_mpi(request);
    if (cut_rank_matches(&inside.cut)) {
        to_queue(request);
        return MPI_SUCCESS;
    }
    struct parcel *parcel = cut_queue_empty(&comm->queue) ? NULL : parcel_find(comm, request->peer, request->tag);
    if (parcel == NULL)
        return to_mpi(request);
    request->state = REQUEST_QUEUED;
    parcel_take(parcel);
    assign(request, parcel);
    return MPI_SUCCESS;
}

int receive_cancel(struct request *request)
{
    if (request->state == REQUEST_REAL) {
        request->cancelling = true;
        return real.Cancel(&request->real);
    }
    if (request->state != REQUEST_QUEUED || request->parcel)
        return MPI_SUCCESS;
    cut_queue_unpost(&request->comm->queue, &request->receive);
    status_empty(&request->status);
    PMPI_Status_set_cancelled(&request->status, 1);
    request->state = REQUEST_DONE;
    return MPI_SUCCESS;
}

/* ---- all of them, in order of posting ---- */

static int by_sequence(const void *a, const void *b)
{
    const struct request *x = *(struct request *const *)a, *y = *(struct request *const *)b;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

typedef bool (*request_rule)(const struct request *);

/* NULL: none. Free with mem_free. */
static struct request **receives_that(request_rule rule, size_t *ret_count)
{
    size_t count = 0;
    for (uint32_t i = 0; i < requests.used; i++)
        count += requests.arena[i].kind == REQUEST_RECV && rule(&requests.arena[i]);
    struct request **list = count ? mem_try_array(count, sizeof(struct request *)) : NULL;
    if (list == NULL)
        count = 0;
    for (uint32_t i = 0, n = 0; n < count; i++) {
        if (requests.arena[i].kind == REQUEST_RECV && rule(&requests.arena[i]))
            list[n++] = &requests.arena[i];
    }
    if (count)
        qsort(list, count, sizeof(struct request *), by_sequence);
    *ret_count = count;
    return list;
}

static bool in_mpi(const struct request *request)
{
    return request->state == REQUEST_REAL && request->comm != NULL && !request->cancelling && possible(request);
}

static bool in_queue(const struct request *request)
{
    return request->state == REQUEST_QUEUED && request->parcel == NULL;
}

/* MPI was asked to cancel it. True: it is ours again. Else it has been matched, and is done or will be. */
static bool is_ours_again(struct request *request)
{
    int done = 0, cancelled = 0;
    MPI_Status status;
    int error = real.Test(&request->real, &done, &status);
    if (done && error == MPI_SUCCESS)
        PMPI_Test_cancelled(&status, &cancelled);
    if (done && !cancelled)
        receive_completed(request, &status, error);
    request->matched = !done;
    return cancelled;
}

/* Those that MPI gives back wait for what becomes of them: receives_requeue, or receives_to_mpi. What arrives meanwhile, in a call of
 * ours or of another thread's, must not get one where another that was posted before it fits and is ours already: so the last goes
 * first. What was matched is taken in in the order of posting, which is that of the log. */
void receives_take_back(void)
{
    size_t count = 0;
    struct request **list = receives_that(in_mpi, &count);
    for (size_t i = count; i > 0; i--)
        real.Cancel(&list[i - 1]->real);
    for (size_t i = 0; i < count; i++) {
        if (is_ours_again(list[i])) {
            list[i]->real = MPI_REQUEST_NULL;
            list[i]->state = REQUEST_QUEUED;
            list[i]->taken_back = true;
        }
    }
    mem_free(list);
}

static void leave_queue(struct request *request)
{
    if (!request->taken_back)
        cut_queue_unpost(&request->comm->queue, &request->receive);
    request->taken_back = false;
}

void receives_requeue(void)
{
    size_t count = 0;
    struct request **list = receives_that(in_queue, &count);
    for (size_t i = 0; i < count; i++)
        leave_queue(list[i]);
    for (size_t i = 0; i < count; i++)
        to_queue(list[i]);
    mem_free(list);
}

void receives_to_mpi(void)
{
    size_t count = 0;
    receives_take_back();
    receives_requeue(); /* what is in the queues came first */
    struct request **list = receives_that(in_queue, &count);
    for (size_t i = 0; i < count; i++) {
        leave_queue(list[i]);
        int error = to_mpi(list[i]);
        if (error != MPI_SUCCESS) {
            list[i]->error = error;
            status_empty(&list[i]->status);
            list[i]->state = REQUEST_DONE;
        }
    }
    mem_free(list);
}

bool receive_has_matched(const struct request *request)
{
    receives_take_back();
    bool has = request->state != REQUEST_QUEUED;
    receives_to_mpi();
    return has;
}

/* Asked at the end of each call while a thread is in one that waits for others: no list is made. */
bool receives_untold(void)
{
    bool any = false;
    for (uint32_t i = 0; i < requests.used && !any; i++) {
        const struct request *request = &requests.arena[i];
        any = request->kind == REQUEST_RECV && in_mpi(request) && !request->told && !request->matched;
    }
    return any;
}

bool receives_wait(void)
{
    bool any = false;
    for (uint32_t i = 0; i < requests.used && !any; i++)
        any = requests.arena[i].kind == REQUEST_RECV && in_mpi(&requests.arena[i]);
    return any;
}

struct request **receives_in_mpi(size_t *ret_count)
{
    return receives_that(in_mpi, ret_count);
}

struct request **receives_in_queue(size_t *ret_count)
{
    return receives_that(in_queue, ret_count);
}

/* Everybody who may send for it has flipped, and all that was sent before is here. */
static bool only_new_can_come(const struct request *request)
{
    const struct comm *comm = request->comm;
    bool only = true;
    if (request->peer != MPI_ANY_SOURCE)
        return cut_rank_drained(&inside.cut, comm->world[request->peer]);
    for (int i = 0; only && i < comm->size; i++)
        only = cut_rank_drained(&inside.cut, comm->world[i]);
    return only;
}

void receives_park(void)
{
    size_t count = 0;
    if (!cut_rank_matches(&inside.cut))
        return;
    struct request **list = receives_that(in_queue, &count);
    for (size_t i = 0; i < count; i++) {
        struct request *request = list[i];
        unsigned old = !only_new_can_come(request);
        leave_queue(request);
        if (real.Irecv(request->buffer, request->count, request->type, request->peer, request->tag,
                       request->comm->colour[inside.cut.colour ^ old], &request->real) != MPI_SUCCESS) {
            to_queue(request);
            continue;
        }
        request->state = REQUEST_REAL;
        request->epoch = inside.cut.epoch - old;
        inside.parked = true;
    }
    mem_free(list);
}

static bool is_received(const struct request *request)
{
    int cancelled = 0;
    if (request->state != REQUEST_DONE || !received(request->error) || request->peer == MPI_PROC_NULL)
        return false;
    PMPI_Test_cancelled(&request->status, &cancelled);
    return !cancelled;
}

static bool is_matched(const struct request *request)
{
    return request->state == REQUEST_REAL && request->comm != NULL && request->parcel == NULL && possible(request) &&
           request->epoch < inside.cut.epoch;
}

/* Those of the old colour that MPI did not give back. */
static void receives_expect(void)
{
    size_t count = 0;
    struct request **list = inside.logging ? receives_that(is_matched, &count) : NULL;
    for (size_t i = 0; i < count; i++)
        parcel_expect(list[i]);
    mem_free(list);
}

static bool is_received_or_matched(const struct request *request)
{
    return is_received(request) || is_matched(request);
}

/* At a record whose requests the program posts again: what they have got must be got again, and what they are about to get.
 * In the order of posting, in which MPI matched them, so that none overtakes another of one sender and tag. */
void receives_log(void)
{
    size_t count = 0;
    struct request **list = receives_that(is_received_or_matched, &count);
    for (size_t i = 0; i < count; i++) {
        if (is_received(list[i]))
            parcel_log_received(list[i], false);
        else
            parcel_expect(list[i]);
    }
    mem_free(list);
}

void receives_unpark(void)
{
    if (!inside.parked)
        return;
    inside.parked = false;
    receives_take_back();
    receives_expect();
    receives_requeue();
}

/* What MPI still has of the old colour, matched: their messages count when they are whole. And what nobody waits for. */
void receives_progress(void)
{
    for (uint32_t i = 0; i < requests.used; i++) {
        struct request *request = &requests.arena[i];
        if (request->kind == REQUEST_FREE || request->kind == REQUEST_MESSAGE)
            continue;
        bool old = request->kind == REQUEST_RECV && request->state == REQUEST_REAL && request->epoch < inside.cut.epoch;
        if ((old || request->unheld) && request_advance(request) && request->unheld) {
            inside.unheld--;
            request_destroy(request);
        }
    }
}

/* ---- the program's calls ---- */

static struct request *receive_create(void *buffer, int count, MPI_Datatype type, int from, int tag, struct comm *comm)
{
    struct request *request = request_create(REQUEST_RECV, comm);
    if (request == NULL)
        return NULL;
    request->buffer = buffer;
    request->count = count;
    request->type = type;
    request->peer = from;
    request->tag = tag;
    return request;
}

static int receive_wait(struct request *request, MPI_Status *status)
{
    int error = receive_begin(request);
    if (error != MPI_SUCCESS) {
        request_destroy(request);
        return error;
    }
    inside.outstanding++;
    request_wait(request);
    return request_finish(request, status);
}

/* On a communicator that is not followed, where nobody looks while it waits. */
static int recv_elsewhere(void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm handle, MPI_Status *status)
{
    bool blocked = blocked_enter();
    int error = real.Recv(buffer, count, type, from, tag, handle, status);
    if (blocked)
        blocked_leave();
    return error;
}

__attribute__((noinline)) static int recv_slow(void *buffer, int count, MPI_Datatype type, int from, int tag,
                                               MPI_Comm handle, MPI_Status *status)
{
    inside_lock();
    struct comm *comm = comm_find(handle);
    if (comm == NULL) {
        inside_unlock();
        return recv_elsewhere(buffer, count, type, from, tag, handle, status);
    }
    progress();
    struct request *request = receive_create(buffer, count, type, from, tag, comm);
    int error = request ? receive_wait(request, status) : raise_error(comm, MPI_ERR_NO_MEM);
    settle_quick();
    inside_unlock();
    return error;
}

int MPI_Recv(void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm handle, MPI_Status *status)
{
    MPI_Status own;
    if (!quick())
        return recv_slow(buffer, count, type, from, tag, handle, status);
    struct comm *comm = comm_of(handle);
    if (UNLIKELY(comm == NULL))
        return real.Recv(buffer, count, type, from, tag, handle, status);
    if (from == MPI_ANY_SOURCE && status == MPI_STATUS_IGNORE)
        status = &own;
    int error = real.Recv(buffer, count, type, from, tag, comm->now, status);
    if (LIKELY(received(error)))
        count_arrived(comm, from == MPI_ANY_SOURCE ? status->MPI_SOURCE : from);
    return error;
}

/* What the program holds is ours, as it may cancel it: a request of MPI's own may be a send, which must not be. */
static int irecv_elsewhere(void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm handle,
                           MPI_Request *ret_handle)
{
    struct request *request = inside.on ? request_create(REQUEST_PASSED, NULL) : NULL;
    if (request == NULL)
        return real.Irecv(buffer, count, type, from, tag, handle, ret_handle);
    request->mode = PASSED_FOREIGN;
    request->real = MPI_REQUEST_NULL;
    int error = real.Irecv(buffer, count, type, from, tag, handle, &request->real);
    if (error != MPI_SUCCESS) {
        request_destroy(request);
        return error;
    }
    request->state = REQUEST_REAL;
    *ret_handle = request_handle(request);
    return MPI_SUCCESS;
}

__attribute__((noinline)) static int irecv_slow(void *buffer, int count, MPI_Datatype type, int from, int tag,
                                                MPI_Comm handle, MPI_Request *ret_handle)
{
    if (quick() && comm_find(handle) && requests.free) /* another communicator than last time */
        return MPI_Irecv(buffer, count, type, from, tag, handle, ret_handle);
    inside_lock();
    struct comm *comm = comm_find(handle);
    int error;
    if (comm) {
        progress();
        struct request *request = receive_create(buffer, count, type, from, tag, comm);
        error = request ? receive_begin(request) : raise_error(comm, MPI_ERR_NO_MEM);
        if (error == MPI_SUCCESS)
            *ret_handle = request_handle(request);
        else if (request)
            request_destroy(request);
        settle_quick();
    } else {
        error = irecv_elsewhere(buffer, count, type, from, tag, handle, ret_handle);
    }
    inside.outstanding += inside.on && error == MPI_SUCCESS;
    inside_unlock();
    return error;
}

/* Everything is in `request` before MPI is called, so that nothing has to be kept across the call. */
int MPI_Irecv(void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm handle, MPI_Request *ret_handle)
{
    struct request *request = requests.free;
    struct comm *comm = inside.last;
    if (!quick() || UNLIKELY(handle != inside.last_handle || comm == NULL || request == NULL))
        return irecv_slow(buffer, count, type, from, tag, handle, ret_handle);
    request_take(request, REQUEST_RECV, comm);
    request->buffer = buffer;
    request->count = count;
    request->type = type;
    request->peer = from;
    request->tag = tag;
    request->sequence = inside.sequence++;
    request->epoch = inside.cut.epoch;
    request->state = REQUEST_REAL;
    inside.outstanding++;
    *ret_handle = request_handle(request);
    int error = real.Irecv(buffer, count, type, from, tag, comm->now, &request->real);
    if (LIKELY(error == MPI_SUCCESS))
        return MPI_SUCCESS;
    inside.outstanding--;
    *ret_handle = MPI_REQUEST_NULL;
    request_destroy(request);
    return error;
}

INTERPOSED(Recv);
INTERPOSED(Irecv);
