/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"

#define BOOKMARK_TAG 1
#define COPIED_BYTES_MAX ((size_t)256 << 20) /* before the next copy some of them are waited for, HOLD_MS at most */
#define COPIED_BYTES_MORE ((size_t)64 << 20) /* … and where that was in vain not again before there are so many more */

/* A ready send is a standard one: the receive that its sender knows of may be in a queue of ours. */
static int real_send(enum send_mode mode, const void *buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm handle)
{
    switch (mode) {
    case SEND_SYNCHRONOUS:
        return real.Ssend(buffer, count, type, to, tag, handle);
    case SEND_BUFFERED:
        return real.Bsend(buffer, count, type, to, tag, handle);
    default:
        return real.Send(buffer, count, type, to, tag, handle);
    }
}

static int real_isend(enum send_mode mode, const void *buffer, int count, MPI_Datatype type, int to, int tag,
                      MPI_Comm handle, MPI_Request *real_request)
{
    switch (mode) {
    case SEND_SYNCHRONOUS:
        return real.Issend(buffer, count, type, to, tag, handle, real_request);
    case SEND_BUFFERED:
        return real.Ibsend(buffer, count, type, to, tag, handle, real_request);
    default:
        return real.Isend(buffer, count, type, to, tag, handle, real_request);
    }
}

/* ---- from a copy ---- */

static void copy_add(struct copy *copy, size_t bytes)
{
    copy->bytes = bytes;
    inside.copied += bytes;
    copy->next = inside.copies;
    inside.copies = copy;
    if (!inside.many_threads)
        inside.quick = NEVER;
}

static bool bookmark_room(struct bookmark *bookmark)
{
    int done = 1;
    if (bookmark->real != MPI_REQUEST_NULL)
        real.Test(&bookmark->real, &done, MPI_STATUS_IGNORE);
    return done;
}

/* Tell `peer` how many messages there were before the flip, ahead of the first one behind it. There is room for one, and it
 * is free: MPI has taken what an epoch told before the next begins. Should it not be so the peer is told later, and what
 * goes before is held there until then, or until settled. False: not yet. */
static bool bookmark_send(uint32_t peer)
{
    struct cut_bookmark words;
    struct bookmark *bookmark = &inside.told[peer];
    if (!cut_rank_bookmark_due(&inside.cut, peer, &words))
        return true;
    if (!bookmark_room(bookmark))
        return false;
    bookmark->words = words;
    if (real.Isend(&bookmark->words, (int)sizeof bookmark->words, MPI_BYTE, (int)peer, BOOKMARK_TAG, inside.bookmarks,
                   &bookmark->real) != MPI_SUCCESS)
        return false;
    cut_rank_bookmark_told(&inside.cut, peer);
    return true;
}

void bookmarks_tell(void)
{
    inside.untold = false;
    for (uint32_t peer = 0; peer < (uint32_t)inside.world_size; peer++)
        inside.untold |= cut_rank_has_sent(&inside.cut, peer) && !bookmark_send(peer);
}

bool bookmarks_sent(void)
{
    bool all = true;
    for (int i = 0; i < inside.world_size; i++)
        all &= bookmark_room(&inside.told[i]);
    return all;
}

/* NULL: it cannot be copied, and goes from where it is. */
static struct copy *pack(const void *buffer, int count, MPI_Datatype type, const struct comm *comm, uint64_t *ret_bytes)
{
    struct packing packing;
    if (count < 0 || type == MPI_DATATYPE_NULL) /* MPI is to complain once */
        return NULL;
    if (packing_init(&packing, buffer, count, type, comm->now) != MPI_SUCCESS)
        return NULL;
    struct copy *copy = mem_try_alloc(sizeof *copy + packing.room);
    if (copy && packing_do(&packing, copy->data, ret_bytes) != MPI_SUCCESS) {
        mem_free(copy);
        return NULL;
    }
    return copy;
}

static int copy_send(struct copy *copy, uint64_t bytes, enum send_mode mode, int to, int tag, MPI_Comm handle)
{
    struct bytes_type type;
    int error = bytes_type_init(&type, bytes);
    if (error != MPI_SUCCESS)
        return error;
    error = real_isend(mode == SEND_BUFFERED ? SEND_STANDARD : mode, copy->data, type.count, type.type, to, tag, handle,
                       &copy->real);
    bytes_type_release(&type);
    return error;
}

/* A synchronous one is done when the program at its other end receives it: MPI says so, or the receiver has told us of it
 * (offer.c). */
static void copy_owe(struct copy *copy, enum send_mode mode, struct request *request)
{
    if (request == NULL)
        return;
    request->state = mode == SEND_SYNCHRONOUS ? REQUEST_QUEUED : REQUEST_DONE;
    if (mode != SEND_SYNCHRONOUS)
        return;
    request->copy = copy;
    copy->request = request;
}

void copy_paid(struct copy *copy)
{
    if (copy->request) {
        copy->request->state = REQUEST_DONE;
        copy->request->copy = NULL;
        copy->request = NULL;
    }
}

void copies_progress(void)
{
    for (struct copy **at = &inside.copies; *at;) {
        struct copy *copy = *at;
        int done = 0;
        real.Test(&copy->real, &done, MPI_STATUS_IGNORE);
        if (!done) {
            at = &copy->next;
            continue;
        }
        copy_paid(copy);
        *at = copy->next;
        inside.copied -= copy->bytes;
        mem_free(copy);
    }
    offers_settle();
}

/* Copies take memory, and what took it goes away as others receive: a sender that is far ahead of them is slowed down. */
static void wait_for_room(void)
{
    static size_t waited; /* in vain, for so many bytes */
    unsigned spins = 0;
    uint64_t until = clock_mono_ns() + CUT_HOLD_MS * NS_PER_MS;
    if (inside.copied < waited)
        waited = 0;
    if (waited != 0 && inside.copied < waited + COPIED_BYTES_MORE)
        return;
    while (inside.copied > COPIED_BYTES_MAX && cut_rank_copies(&inside.cut)) {
        if (clock_mono_ns() > until) {
            waited = inside.copied;
            return;
        }
        inside_pause(&spins);
    }
}

static void done_at_once(struct request *request)
{
    if (request) {
        status_empty(&request->status);
        request->error = MPI_SUCCESS;
    }
}

int send_begin(enum send_mode mode, const void *buffer, int count, MPI_Datatype type, int to, int tag, struct comm *comm,
               struct request *request, MPI_Request *ret_real)
{
    bool ours = (unsigned)to < (unsigned)comm->size;
    struct copy *copy = NULL;
    uint64_t bytes = 0;
    int error;
    *ret_real = MPI_REQUEST_NULL;
    if (UNLIKELY(inside.copied > COPIED_BYTES_MAX))
        wait_for_room();
    if (ours && cut_rank_copies(&inside.cut)) {
        bookmark_send(comm->world[to]);
        copy = pack(buffer, count, type, comm, &bytes);
    }
    if (copy)
        error = copy_send(copy, bytes, mode, to, tag, comm->now);
    else
        error = real_isend(mode, buffer, count, type, to, tag, comm->now, ret_real);
    if (error != MPI_SUCCESS) {
        mem_free(copy);
        return error;
    }
    count_sent_now(comm, to);
    if (copy) {
        done_at_once(request);
        copy_add(copy, (size_t)bytes);
        copy_owe(copy, mode, request);
    }
    if (ours && (cut_rank_polls(&inside.cut) || copy))
        offers_note_sent(comm, to, tag, copy);
    return MPI_SUCCESS;
}

/* ---- the program's calls ---- */

int send_wait(enum send_mode mode, const void *buffer, int count, MPI_Datatype type, int to, int tag, struct comm *comm)
{
    struct request *request = request_create(REQUEST_SEND, NULL);
    if (request == NULL)
        return raise_error(comm, MPI_ERR_NO_MEM);
    request->mode = (uint8_t)mode;
    int error = send_begin(mode, buffer, count, type, to, tag, comm, request, &request->real);
    if (error == MPI_SUCCESS && request->real != MPI_REQUEST_NULL)
        request->state = REQUEST_REAL;
    if (error == MPI_SUCCESS && !request_advance(request))
        request_wait(request);
    if (error == MPI_SUCCESS)
        error = request->error;
    request_destroy(request);
    return error;
}

/* On a communicator that is not followed, where nobody looks while it waits. */
static int send_elsewhere(enum send_mode mode, const void *buffer, int count, MPI_Datatype type, int to, int tag,
                          MPI_Comm handle)
{
    bool blocked = blocked_enter();
    int error = real_send(mode, buffer, count, type, to, tag, handle);
    if (blocked)
        blocked_leave();
    return error;
}

__attribute__((noinline)) static int send_slow(enum send_mode mode, const void *buffer, int count, MPI_Datatype type, int to,
                                               int tag, MPI_Comm handle)
{
    inside_lock();
    struct comm *comm = comm_find(handle);
    int error = MPI_SUCCESS;
    if (comm) {
        progress();
        error = send_wait(mode, buffer, count, type, to, tag, comm);
        settle_quick();
    }
    inside_unlock();
    return comm ? error : send_elsewhere(mode, buffer, count, type, to, tag, handle);
}

#define SEND(name, mode, real_name)                                                                                         \
    int MPI_##name(const void *buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm handle)                      \
    {                                                                                                                       \
        if (!quick())                                                                                                       \
            return send_slow(mode, buffer, count, type, to, tag, handle);                                                   \
        struct comm *comm = comm_of(handle);                                                                                \
        if (UNLIKELY(comm == NULL))                                                                                         \
            return real.name(buffer, count, type, to, tag, handle);                                                         \
        int error = real.real_name(buffer, count, type, to, tag, comm->now);                                                \
        if (LIKELY(error == MPI_SUCCESS))                                                                                   \
            count_sent(comm, to);                                                                                           \
        return error;                                                                                                       \
    }                                                                                                                       \
    INTERPOSED(name)

SEND(Send, SEND_STANDARD, Send);
SEND(Ssend, SEND_SYNCHRONOUS, Ssend);
SEND(Bsend, SEND_BUFFERED, Bsend);
SEND(Rsend, SEND_READY, Send);

/* The program holds MPI's own request, or one of ours where there is a copy, and of a synchronous one, which a record must
 * know of. */
static int isend_inside(enum send_mode mode, const void *buffer, int count, MPI_Datatype type, int to, int tag,
                        struct comm *comm, MPI_Request *ret_handle)
{
    struct request *request = NULL;
    MPI_Request own;
    const bool synchronous = mode == SEND_SYNCHRONOUS;
    if ((synchronous || cut_rank_copies(&inside.cut)) && (request = request_create(REQUEST_SEND, NULL)) == NULL)
        return raise_error(comm, MPI_ERR_NO_MEM);
    if (request)
        request->mode = (uint8_t)mode;
    int error = send_begin(mode, buffer, count, type, to, tag, comm, request, &own);
    if (error == MPI_SUCCESS) {
        inside.outstanding++;
        if (request && (synchronous || own == MPI_REQUEST_NULL)) {
            request->real = own;
            if (own != MPI_REQUEST_NULL)
                request->state = REQUEST_REAL;
            *ret_handle = request_handle(request);
            return error;
        }
        *ret_handle = own;
    }
    if (request)
        request_destroy(request);
    return error;
}

__attribute__((noinline)) static int isend_slow(enum send_mode mode, const void *buffer, int count, MPI_Datatype type,
                                                int to, int tag, MPI_Comm handle, MPI_Request *ret_handle)
{
    inside_lock();
    struct comm *comm = comm_find(handle);
    int error;
    if (comm) {
        progress();
        error = isend_inside(mode, buffer, count, type, to, tag, comm, ret_handle);
        settle_quick();
    } else {
        error = real_isend(mode, buffer, count, type, to, tag, handle, ret_handle);
        inside.outstanding += inside.on && error == MPI_SUCCESS;
    }
    inside_unlock();
    return error;
}

#define ISEND(name, mode, real_name)                                                                                        \
    int MPI_##name(const void *buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm handle,                      \
                   MPI_Request *request)                                                                                    \
    {                                                                                                                       \
        struct comm *comm;                                                                                                  \
        if (!quick() || UNLIKELY((comm = comm_of(handle)) == NULL))                                                         \
            return isend_slow(mode, buffer, count, type, to, tag, handle, request);                                         \
        int error = real.real_name(buffer, count, type, to, tag, comm->now, request);                                       \
        if (LIKELY(error == MPI_SUCCESS)) {                                                                                 \
            count_sent(comm, to);                                                                                           \
            inside.outstanding++;                                                                                           \
        }                                                                                                                   \
        return error;                                                                                                       \
    }                                                                                                                       \
    INTERPOSED(name)

ISEND(Isend, SEND_STANDARD, Isend);
ISEND(Ibsend, SEND_BUFFERED, Ibsend);
ISEND(Irsend, SEND_READY, Isend);

int MPI_Issend(const void *buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm handle, MPI_Request *ret_handle)
{
    struct request *request = requests.free;
    struct comm *comm;
    if (!quick() || UNLIKELY(request == NULL || (comm = comm_of(handle)) == NULL))
        return isend_slow(SEND_SYNCHRONOUS, buffer, count, type, to, tag, handle, ret_handle);
    int error = real.Issend(buffer, count, type, to, tag, comm->now, &request->real);
    if (UNLIKELY(error != MPI_SUCCESS))
        return error;
    request_take(request, REQUEST_SEND, NULL);
    request->type = MPI_DATATYPE_NULL; /* nothing is kept of it: MPI has all */
    request->mode = SEND_SYNCHRONOUS;
    request->state = REQUEST_REAL;
    count_sent(comm, to);
    inside.outstanding++;
    *ret_handle = request_handle(request);
    return MPI_SUCCESS;
}
INTERPOSED(Issend);

/* Waits until what is in the buffer has been received. */
int MPI_Buffer_detach(void *buffer, int *size)
{
    bool blocked = blocked_enter();
    int error = real.Buffer_detach(buffer, size);
    if (UNLIKELY(blocked))
        blocked_leave();
    return error;
}
INTERPOSED(Buffer_detach);

#if MPI_VERSION >= 4
int MPI_Buffer_detach_c(void *buffer, MPI_Count *size)
{
    bool blocked = blocked_enter();
    int error = real.Buffer_detach_c(buffer, size);
    if (UNLIKELY(blocked))
        blocked_leave();
    return error;
}
INTERPOSED(Buffer_detach_c);
#endif
