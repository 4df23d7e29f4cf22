/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"
#include "ckpt/cut/channel.h"

#define DELIVERY_TAG 7

/* ---- parcels ---- */

static struct parcel *parcel_create(struct comm *comm, int source, int tag, uint64_t bytes)
{
    struct parcel *parcel = mem_try_alloc(sizeof *parcel);
    if (parcel == NULL)
        return NULL;
    *parcel = (struct parcel){.message = {.source = source, .tag = tag, .peer = comm->world[source], .payload = parcel},
                              .comm = comm,
                              .bytes = bytes,
                              .found = MPI_MESSAGE_NULL,
                              .fetching = MPI_REQUEST_NULL};
    parcel->prev = inside.parcels.prev;
    parcel->next = &inside.parcels;
    parcel->prev->next = parcel;
    inside.parcels.prev = parcel;
    return parcel;
}

static void *payload_of(struct parcel *parcel)
{
    return parcel->data + CUT_CHANNEL_ENTRY_BYTES;
}

/* The log's entry is made around the payload, where it lies. */
static bool make_room(struct parcel *parcel)
{
    if (parcel->data == NULL)
        parcel->data = mem_try_alloc(cut_channel_entry_bytes(parcel->bytes));
    return parcel->data != NULL;
}

static void parcel_drop(struct parcel *parcel)
{
    parcel->prev->next = parcel->next;
    parcel->next->prev = parcel->prev;
    mem_free(parcel->data);
    mem_free(parcel);
}

static void drop_if_done(struct parcel *parcel)
{
    if (parcel->given && !parcel->log && !parcel->count)
        parcel_drop(parcel);
}

/* ---- taking a message's bytes ---- */

/* Its sender sees from now on that it is received. False: there is no memory. */
static bool fetch(struct parcel *parcel)
{
    struct bytes_type bytes;
    if (!make_room(parcel) || bytes_type_init(&bytes, parcel->bytes) != MPI_SUCCESS)
        return false;
    real.Imrecv(payload_of(parcel), bytes.count, bytes.type, &parcel->found, &parcel->fetching);
    bytes_type_release(&bytes);
    return true;
}

static bool is_found(const struct parcel *parcel)
{
    return parcel->found != MPI_MESSAGE_NULL;
}

/* Not before the program receives it, or nobody waits for that any more. */
static bool fetch_if_due(struct parcel *parcel)
{
    bool wanted = parcel->request || parcel->wanted;
    if (!wanted && (!parcel->log || cut_rank_bytes(&inside.cut, parcel->message.peer) != CUT_BYTES_TAKE))
        return false;
    if (fetch(parcel))
        return true;
    if (parcel->log)
        give_up("no memory to log a message");
    return false;
}

bool parcel_whole(struct parcel *parcel)
{
    int done = 1;
    if (parcel->expected || (is_found(parcel) && !fetch_if_due(parcel)))
        return false;
    if (parcel->fetching != MPI_REQUEST_NULL)
        real.Test(&parcel->fetching, &done, MPI_STATUS_IGNORE);
    return done;
}

struct parcel *parcel_find(const struct comm *comm, int source, int tag)
{
    struct cut_message *message =
        cut_queue_find(&comm->queue, source == MPI_ANY_SOURCE ? CUT_ANY : source, tag == MPI_ANY_TAG ? CUT_ANY : tag);
    return message ? message->payload : NULL;
}

void parcel_take(struct parcel *parcel)
{
    cut_queue_take(&parcel->comm->queue, &parcel->message);
    inside.queued--;
}

/* The program may have it: to a receive that waits, or to the queue. */
static void arrive(struct parcel *parcel)
{
    struct cut_receive *receive = cut_queue_arrive(&parcel->comm->queue, &parcel->message);
    if (receive == NULL) {
        inside.queued++;
        return;
    }
    struct request *request = receive->context;
    request->parcel = parcel;
    parcel->request = request;
    cut_rank_not_held(&inside.cut);
}

/* Open MPI does not say so of a message to ourselves. */
static bool is_too_long(const struct parcel *parcel, int count, MPI_Datatype type)
{
    MPI_Count size = 0;
    PMPI_Type_size_x(type, &size);
    return parcel->bytes > (uint64_t)count * (uint64_t)size;
}

/* Hand it over with MPI's own conversion and checks: a message to ourselves, from packed bytes to the program's datatype. */
int parcel_give(struct parcel *parcel, void *buffer, int count, MPI_Datatype type, MPI_Status *ret_status)
{
    struct bytes_type bytes;
    MPI_Request request;
    int error = real.Irecv(buffer, count, type, 0, DELIVERY_TAG, inside.self, &request);
    int sent = error == MPI_SUCCESS ? bytes_type_init(&bytes, parcel->bytes) : error;
    if (sent == MPI_SUCCESS) {
        sent = real.Send(payload_of(parcel), bytes.count, bytes.type, 0, DELIVERY_TAG, inside.self);
        bytes_type_release(&bytes);
    }
    if (error == MPI_SUCCESS && sent != MPI_SUCCESS)
        real.Cancel(&request);
    if (error == MPI_SUCCESS)
        error = real.Wait(&request, ret_status);
    if (error == MPI_SUCCESS && sent == MPI_SUCCESS && is_too_long(parcel, count, type))
        error = MPI_ERR_TRUNCATE;
    ret_status->MPI_SOURCE = parcel->message.source;
    ret_status->MPI_TAG = parcel->message.tag;
    parcel->given = true;
    parcel->request = NULL;
    drop_if_done(parcel);
    return error ? error : sent;
}

void parcel_status(const struct parcel *parcel, MPI_Status *ret_status)
{
    if (ret_status == MPI_STATUS_IGNORE)
        return;
    PMPI_Status_set_elements_x(ret_status, MPI_BYTE, (MPI_Count)parcel->bytes);
    PMPI_Status_set_cancelled(ret_status, 0);
    ret_status->MPI_SOURCE = parcel->message.source;
    ret_status->MPI_TAG = parcel->message.tag;
}

enum tide_status parcel_load(struct comm *comm, int source, int tag, const void *payload, uint64_t bytes)
{
    struct parcel *parcel = parcel_create(comm, source, tag, bytes);
    if (parcel == NULL)
        return TIDE_E_NOMEM;
    if (!make_room(parcel)) {
        parcel_drop(parcel);
        return TIDE_E_NOMEM;
    }
    memcpy(payload_of(parcel), payload, bytes);
    arrive(parcel);
    return TIDE_OK;
}

/* ---- taking what MPI has ---- */

static void take_in(struct parcel *parcel, unsigned colour)
{
    uint32_t peer = parcel->message.peer;
    enum cut_take take = cut_rank_take(&inside.cut, peer, colour);
    if (take == CUT_TAKE_HOLD) {
        cut_queue_hold(&parcel->comm->queue, &parcel->message);
        return;
    }
    parcel->comm->all[parcel->message.source].arrived++;
    parcels_counted(parcel->comm, parcel->message.source);
    parcel->log = take == CUT_TAKE_LOG;
    parcel->count = take == CUT_TAKE_LOG || take == CUT_TAKE_FORGET;
    inside.to_count += parcel->count;
    arrive(parcel);
    if (parcel->count)
        parcels_release(peer);
}

/* One message, matched here and now; its bytes are taken later. False: there is none. */
static bool pull_one(struct comm *comm, unsigned colour, int source)
{
    int found = 0;
    MPI_Status status;
    MPI_Count size = 0;
    if (comm->colour[colour] == MPI_COMM_NULL || /* it is being freed, or is */
        real.Iprobe(source, MPI_ANY_TAG, comm->colour[colour], &found, &status) != MPI_SUCCESS || !found)
        return false;
    /* What there is no memory for stays where it is. */
    PMPI_Get_elements_x(&status, MPI_BYTE, &size);
    struct parcel *parcel = parcel_create(comm, status.MPI_SOURCE, status.MPI_TAG, size > 0 ? (uint64_t)size : 0);
    if (parcel == NULL)
        return false;
    real.Mprobe(status.MPI_SOURCE, status.MPI_TAG, comm->colour[colour], &parcel->found, &status);
    take_in(parcel, colour);
    return true;
}

/* ---- those that go first ---- */

static bool waits_for_first(const struct comm *comm, int member)
{
    return comm->first && comm->all[member].arrived < comm->first[member];
}

static bool goes_first(const struct comm *comm, int member)
{
    return waits_for_first(comm, member) && cut_rank_is_first(&inside.cut, comm->world[member]);
}

static int member_of(const struct comm *comm, uint32_t peer)
{
    int member = 0;
    while (member < comm->size && comm->world[member] != peer)
        member++;
    return member;
}

/* Without memory it is as if nobody had asked. */
void parcels_prefer(uint64_t id, uint32_t peer, uint64_t number, uint64_t epoch)
{
    struct comm *comm = inside.comms;
    while (comm && comm->id != id)
        comm = comm->next;
    int member = comm ? member_of(comm, peer) : 0;
    if (comm == NULL || member == comm->size || comm->all[member].arrived >= number)
        return;
    if (comm->first == NULL)
        comm->first = mem_try_array((size_t)comm->size, sizeof *comm->first);
    if (comm->first == NULL)
        return;
    if (comm->first[member] < number)
        comm->first[member] = number;
    cut_rank_prefer(&inside.cut, peer, epoch);
}

void parcels_prefer_none(void)
{
    for (struct comm *comm = inside.comms; comm; comm = comm->next) {
        mem_free(comm->first);
        comm->first = NULL;
    }
}

void parcels_counted_first(const struct comm *comm, int member)
{
    uint32_t peer = comm->world[member];
    if (!cut_rank_is_first(&inside.cut, peer) || waits_for_first(comm, member))
        return;
    for (const struct comm *other = inside.comms; other; other = other->next) {
        int there = other->first ? member_of(other, peer) : other->size;
        if (there < other->size && waits_for_first(other, there))
            return;
    }
    cut_rank_prefer_over(&inside.cut, peer);
}

/* Which of two senders' messages a probe of any source finds first MPI does not say. */
void parcels_pull_first(void)
{
    if (inside.cut.first_epoch != inside.cut.epoch)
        return;
    for (struct comm *comm = inside.comms; comm; comm = comm->next) {
        for (int source = 0; source < comm->size; source++) {
            while (goes_first(comm, source) && pull_one(comm, inside.cut.colour, source))
                ;
        }
    }
}

void parcels_pull(void)
{
    unsigned colour = inside.cut.colour;
    parcels_pull_first();
    for (struct comm *comm = inside.comms; comm; comm = comm->next) {
        while (pull_one(comm, colour ^ 1, MPI_ANY_SOURCE))
            ;
        while (pull_one(comm, colour, MPI_ANY_SOURCE))
            ;
    }
}

void parcels_pull_now(void)
{
    for (struct comm *comm = inside.comms; comm; comm = comm->next) {
        while (pull_one(comm, inside.cut.colour, MPI_ANY_SOURCE))
            ;
    }
}

static void release_one(struct cut_message *message)
{
    struct parcel *parcel = message->payload;
    cut_rank_released(&inside.cut, message->peer);
    parcel->comm->all[message->source].arrived++;
    parcels_counted(parcel->comm, message->source);
    arrive(message->payload);
}

/* The next that is held of it on that communicator, if it may be handed out. */
static bool release_next(struct comm *comm, uint32_t peer)
{
    bool may = comm->queue.held_count > 0 && cut_rank_hands_out(&inside.cut, peer);
    struct cut_message *message = may ? cut_queue_release(&comm->queue, peer) : NULL;
    if (message)
        release_one(message);
    return message != NULL;
}

static void release_of(uint32_t peer)
{
    for (struct comm *comm = inside.comms; comm; comm = comm->next) {
        while (release_next(comm, peer))
            ;
    }
}

static void release_firsts(void)
{
    if (inside.cut.first_epoch != inside.cut.epoch)
        return;
    for (struct comm *comm = inside.comms; comm; comm = comm->next) {
        for (int member = 0; member < comm->size; member++) {
            while (goes_first(comm, member) && release_next(comm, comm->world[member]))
                ;
        }
    }
}

void parcels_release(uint32_t peer)
{
    bool others_waited = cut_rank_is_first(&inside.cut, peer);
    release_firsts();
    release_of(peer);
    for (uint32_t other = 0; others_waited && other < (uint32_t)inside.world_size; other++)
        release_of(other);
}

void parcels_release_all(void)
{
    struct cut_message *message;
    release_firsts();
    for (struct comm *comm = inside.comms; comm; comm = comm->next) {
        while ((message = cut_queue_release_any(&comm->queue)) != NULL)
            release_one(message);
    }
}

/* ---- the log ---- */

static void log_entry(struct parcel *parcel)
{
    struct cut_entry entry = {.comm = parcel->comm->id,
                              .source = (uint32_t)parcel->message.source,
                              .tag = parcel->message.tag,
                              .bytes = parcel->bytes};
    if (!inside.logging)
        return;
    cut_channel_frame(parcel->data, &entry);
#ifdef TIDE_TEST_NO_CHANNEL_LOG
    return;
#endif
    if (inside.host.append(inside.host.context, parcel->data, cut_channel_entry_bytes(parcel->bytes)) != TIDE_OK)
        give_up("the channel log is full");
}

static void count_if_logged(struct parcel *parcel)
{
    if (!parcel->count || parcel->log)
        return;
    parcel->count = false;
    inside.to_count--;
    cut_rank_done(&inside.cut);
}

void parcels_progress(void)
{
    bool in_order = true; /* all before it are in the log */
    for (struct parcel *parcel = inside.parcels.next, *next; parcel != &inside.parcels; parcel = next) {
        next = parcel->next;
        if (parcel->log && is_found(parcel) && cut_rank_bytes(&inside.cut, parcel->message.peer) == CUT_BYTES_NEVER)
            parcel->log = false;
        bool whole = parcel_whole(parcel);
        if (parcel->log && whole && in_order) {
            log_entry(parcel);
            parcel->log = false;
        }
        in_order &= !parcel->log;
        count_if_logged(parcel);
        if (!whole)
            continue;
        if (parcel->request)
            receive_from_parcel(parcel->request); /* may drop it */
        else
            drop_if_done(parcel);
    }
}

void parcels_log_all(void)
{
    for (struct parcel *parcel = inside.parcels.next; parcel != &inside.parcels; parcel = parcel->next) {
        parcel->log |= !parcel->given; /* what receives_log put there was given, and goes into the log all the same */
        if (!parcel->log || parcel->count || parcel_whole(parcel))
            continue;
        /* It was counted when it was matched. The log has it when its bytes are here, and until then nothing is settled. */
        parcel->count = true;
        inside.to_count++;
        cut_rank_not_whole(&inside.cut, 1);
    }
}

/* MPI packs whole elements; what the message had of them comes first. */
static bool pack_received(const struct request *request, void *to, uint64_t bytes)
{
    struct packing packing;
    uint64_t at = 0;
    if (packing_init(&packing, request->buffer, request->count, request->type, request->comm->now) != MPI_SUCCESS)
        return false;
    unsigned char *packed = mem_try_alloc(packing.room);
    bool whole = packed && packing_do(&packing, packed, &at) == MPI_SUCCESS && at >= bytes;
    if (whole)
        memcpy(to, packed, bytes);
    mem_free(packed);
    return whole;
}

void parcel_expect(struct request *request)
{
    struct parcel *parcel = parcel_create(request->comm, 0, 0, 0);
    if (parcel == NULL) {
        give_up("no memory to log a message that is being received");
        return;
    }
    parcel->given = parcel->log = true;
    parcel->expected = request;
    request->parcel = parcel;
}

/* The log is void, or there is no message after all. */
void parcel_unexpect(struct request *request)
{
    if (request->parcel && request->parcel->expected == request) {
        parcel_drop(request->parcel);
        request->parcel = NULL;
    }
}

void parcel_log_received(struct request *request, bool count)
{
    struct parcel *parcel = request->parcel;
    MPI_Count bytes = 0;
    PMPI_Get_elements_x(&request->status, MPI_BYTE, &bytes);
    if (parcel == NULL && (parcel = parcel_create(request->comm, request->status.MPI_SOURCE, 0, 0)) == NULL) {
        give_up("no memory to log a message that had been received");
        if (count)
            cut_rank_done(&inside.cut);
        return;
    }
    request->parcel = NULL;
    parcel->expected = NULL;
    parcel->message.source = request->status.MPI_SOURCE;
    parcel->message.tag = request->status.MPI_TAG;
    parcel->given = parcel->log = true;
    parcel->count = count;
    inside.to_count += count;
    unsigned char *data = mem_try_alloc(cut_channel_entry_bytes((uint64_t)bytes));
    if (data && pack_received(request, data + CUT_CHANNEL_ENTRY_BYTES, (uint64_t)bytes)) {
        mem_free(parcel->data);
        parcel->data = data;
        parcel->bytes = (uint64_t)bytes;
        return;
    }
    mem_free(data);
    give_up("a message that had been received could not be logged");
}

void parcels_forget(struct comm *comm)
{
    parcels_progress();
    for (struct parcel *parcel = inside.parcels.next, *next; parcel != &inside.parcels; parcel = next) {
        next = parcel->next;
        if (parcel->comm != comm)
            continue;
        if (parcel->log)
            give_up("a communicator was freed while a message on it was on its way to the channel log");
        if (parcel->count) {
            inside.to_count--;
            cut_rank_done(&inside.cut);
        }
        if (is_found(parcel))
            fetch(parcel);
        /* Where bytes are on their way, MPI has the memory for good. */
        if (parcel->fetching != MPI_REQUEST_NULL) {
            real.Request_free(&parcel->fetching);
            parcel->data = NULL;
        }
        parcel_drop(parcel);
    }
}
