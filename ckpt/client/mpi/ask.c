/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"

/* A synchronous send behind its sender's flip, and a receive that its receiver has posted to MPI in the old colour: MPI does not
 * bring them together, and the program alone would go on. So a sender that has waited for a while asks, by an empty message
 * that is itself synchronous: it is complete when the receiver has received it, which it does where it has such a receive.
 * Where the receiver is in a call in which it does not look, it has left receives for such questions with MPI, one for each
 * that the program has posted, so that MPI answers. A tag tells communicator and tag of what is asked for; a receive of any
 * tag answers for all. Nobody knows whether a message that was sent before is going to take that receive.
 *
 * A question may come when its message is being received already, and take the answer that is another's. Who has waited in
 * vain for CUT_HOLD_MS asks once more, and finds a few more of them. */

#define ASK_AFTER_MS 2u
#define LOOK_EVERY_NS NS_PER_MS
#define ASK_TAG_BITS 14 /* MPI has tags up to 32767 at least */
#define ASK_LATE (1 << ASK_TAG_BITS)
#define LATE_OFFERS 4 /* of each receive */

struct offer {
    struct request *request;
    uint64_t sequence; /* … while that is its own */
    MPI_Request real;
};

static struct offer *offers;
static size_t offer_count, offer_room;

static int ask_tag(const struct comm *comm, int tag)
{
    uint64_t mixed = (comm->id ^ (uint64_t)(uint32_t)tag * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);
    return (int)(mixed >> (64 - ASK_TAG_BITS));
}

int asks_init(void)
{
    int error = real.Comm_split(MPI_COMM_WORLD, 0, inside.rank, &inside.asks[0]);
    return error ? error : real.Comm_split(MPI_COMM_WORLD, 0, inside.rank, &inside.asks[1]);
}

/* ---- the sender ---- */

/* An answer tells of one receive, and not of the message that it was asked for: that may have been received by another
 * meanwhile. So it pays the oldest that waits, or whoever comes next. */
struct ask {
    struct ask *next;
    MPI_Request real; /* MPI_REQUEST_NULL: answered */
    uint32_t to;
    int tag;
};

static struct ask *mine;

void ask_later(struct copy *copy, const struct comm *comm, int to, int tag)
{
    copy->to = comm->world[to];
    copy->ask_tag = ask_tag(comm, tag);
    copy->ask_ns = clock_mono_ns() + ASK_AFTER_MS * NS_PER_MS;
}

static bool is_about(const struct ask *ask, uint32_t to, int tag)
{
    return ask->to == to && ask->tag == tag;
}

static void ask_free(struct ask **at)
{
    struct ask *ask = *at;
    if (ask->real != MPI_REQUEST_NULL)
        real.Request_free(&ask->real); /* it stays where it is until the receiver forgets it */
    *at = ask->next;
    mem_free(ask);
}

void ask_not(const struct comm *comm, int to, int tag)
{
    for (struct ask **at = &mine; *at; at = &(*at)->next) {
        if ((*at)->real != MPI_REQUEST_NULL || !is_about(*at, comm->world[to], ask_tag(comm, tag)))
            continue;
        ask_free(at);
        return;
    }
}

static bool waits_for(const struct copy *copy, uint32_t to, int tag)
{
    return copy->request && copy->to == to && copy->ask_tag == tag;
}

/* The newest stand first. */
static struct copy *oldest(const struct ask *ask)
{
    struct copy *found = NULL;
    for (struct copy *copy = inside.copies; copy; copy = copy->next) {
        if (waits_for(copy, ask->to, ask->tag))
            found = copy;
    }
    return found;
}

/* One that was for another is as good. */
static bool has_ask(const struct copy *copy)
{
    size_t open = 0, needed = 0;
    for (const struct ask *ask = mine; ask; ask = ask->next)
        open += is_about(ask, copy->to, copy->ask_tag);
    for (const struct copy *other = inside.copies; other; other = other->next)
        needed += other->asked && waits_for(other, copy->to, copy->ask_tag);
    return open > needed;
}

static bool ask_for(const struct copy *copy, int late)
{
    struct ask *ask = mem_try_alloc(sizeof *ask);
    if (ask == NULL)
        return false;
    *ask = (struct ask){.next = mine, .to = copy->to, .tag = copy->ask_tag};
    if (real.Issend(NULL, 0, MPI_BYTE, (int)ask->to, ask->tag | late, inside.asks[inside.cut.colour], &ask->real) !=
        MPI_SUCCESS) {
        mem_free(ask);
        return false;
    }
    mine = ask;
    return true;
}

static void ask_if_due(struct copy *copy, uint64_t now)
{
    if (copy->request == NULL || now < copy->ask_ns)
        return;
    if (!copy->asked)
        copy->asked = has_ask(copy) || ask_for(copy, 0);
    else if (!copy->asked_late && now >= copy->ask_ns + CUT_HOLD_MS * NS_PER_MS)
        copy->asked_late = ask_for(copy, ASK_LATE);
}

void asks_progress(void)
{
    static uint64_t looked_ns;
    uint64_t now = clock_mono_ns();
    if (!cut_rank_copies(&inside.cut) || now - looked_ns < LOOK_EVERY_NS)
        return;
    looked_ns = now;
    for (struct copy *copy = inside.copies; copy; copy = copy->next)
        ask_if_due(copy, now);
    for (struct ask **at = &mine; *at;) {
        struct ask *ask = *at;
        int answered = 1;
        if (ask->real != MPI_REQUEST_NULL)
            real.Test(&ask->real, &answered, MPI_STATUS_IGNORE);
        struct copy *copy = answered ? oldest(ask) : NULL;
        if (copy) {
            copy_paid(copy);
            ask_free(at);
        } else {
            at = &ask->next;
        }
    }
}

void asks_drop(void)
{
    while (mine)
        ask_free(&mine);
}

/* ---- the receiver ---- */

static bool take_ask(int from, int tag, MPI_Comm asks)
{
    int found = 0;
    MPI_Status status;
    if (real.Iprobe(from, tag, asks, &found, &status) != MPI_SUCCESS || !found)
        return false;
    real.Recv(NULL, 0, MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, asks, MPI_STATUS_IGNORE);
    return true;
}

static bool has_come(const struct request *request)
{
    int done = 0;
    return real.Request_get_status(request->real, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done;
}

/* There is a message of the new colour that it would get, and its sender asks. */
static void answer(struct request *request, MPI_Comm asks)
{
    int found = 0;
    MPI_Status status;
    const struct comm *comm = request->comm;
    if (real.Iprobe(request->peer, request->tag, comm->colour[inside.cut.colour ^ 1], &found, &status) != MPI_SUCCESS || !found)
        return;
    int from = (int)comm->world[status.MPI_SOURCE], about = ask_tag(comm, status.MPI_TAG);
    request->answered = take_ask(from, about, asks) || take_ask(from, about | ASK_LATE, asks);
}

void asks_answer(void)
{
    static uint64_t looked_ns;
    uint64_t now = clock_mono_ns();
    MPI_Comm asks = inside.asks[inside.cut.colour ^ 1];
    int found = 0;
    if (now - looked_ns < LOOK_EVERY_NS)
        return;
    looked_ns = now;
    if (real.Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, asks, &found, MPI_STATUS_IGNORE) != MPI_SUCCESS || !found)
        return;
    size_t count = 0;
    struct request **list = receives_in_mpi(&count);
    for (size_t i = 0; i < count; i++) {
        if (!list[i]->answered && !has_come(list[i]))
            answer(list[i], asks);
    }
    mem_free(list);
}

#define OFFERS_FIRST 16u

static struct offer *new_offer(void)
{
    if (offer_count == offer_room) {
        size_t room = offer_room ? 2 * offer_room : OFFERS_FIRST;
        struct offer *grown = mem_try_array(room, sizeof *grown);
        if (grown == NULL)
            return NULL;
        for (size_t i = 0; i < offer_count; i++)
            grown[i] = offers[i];
        mem_free(offers);
        offers = grown;
        offer_room = room;
    }
    return &offers[offer_count];
}

static void offer_one(struct request *request, int late, MPI_Comm asks)
{
    const struct comm *comm = request->comm;
    struct offer *offer = new_offer();
    int from = request->peer == MPI_ANY_SOURCE ? MPI_ANY_SOURCE : (int)comm->world[request->peer];
    int tag = request->tag == MPI_ANY_TAG ? MPI_ANY_TAG : ask_tag(comm, request->tag) | late;
    if (offer == NULL || real.Irecv(NULL, 0, MPI_BYTE, from, tag, asks, &offer->real) != MPI_SUCCESS)
        return;
    offer->request = request;
    offer->sequence = request->sequence;
    request->offered = true;
    offer_count++;
}

static void offer(struct request *request, MPI_Comm asks)
{
    if (request->offered || has_come(request))
        return;
    if (!request->answered)
        offer_one(request, 0, asks);
    for (int i = 0; i < LATE_OFFERS; i++)
        offer_one(request, ASK_LATE, asks);
}

/* Who has flipped asks in its own colour. */
void asks_offer(void)
{
    const struct cut_rank *cut = &inside.cut;
    size_t count = 0;
    if (!cut_rank_polls(cut))
        return;
    MPI_Comm asks = inside.asks[cut_rank_matches(cut) ? cut->colour : cut->colour ^ 1];
    struct request **list = receives_in_mpi(&count);
    for (size_t i = 0; i < count; i++)
        offer(list[i], asks);
    mem_free(list);
}

void asks_withdraw(void)
{
    for (size_t i = 0; i < offer_count; i++) {
        struct request *request = offers[i].request;
        int cancelled = 0;
        MPI_Status status;
        real.Cancel(&offers[i].real);
        real.Wait(&offers[i].real, &status);
        PMPI_Test_cancelled(&status, &cancelled);
        if (request->offered && request->sequence == offers[i].sequence)
            request->answered |= !cancelled;
    }
    for (size_t i = 0; i < offer_count; i++)
        offers[i].request->offered = false;
    offer_count = 0;
}

void answers_forget(void)
{
    for (uint32_t i = 0; i < requests.used; i++)
        requests.arena[i].answered = false;
}

void asks_forget(unsigned colour)
{
    while (take_ask(MPI_ANY_SOURCE, MPI_ANY_TAG, inside.asks[colour]))
        ;
}
