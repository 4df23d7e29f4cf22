/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"

/* A synchronous send behind its sender's flip, and a receive that its receiver has posted to MPI in the old colour: MPI does
 * not bring them together, and the program alone would go on. So the receiver tells of the receives that wait: before a call
 * in which it does not look, whoever may send for them; in other calls who asks. What the sender concludes is decided by
 * ckpt/cut/offer.h. */

#define WANT_TAG 1
#define OFFER_TAG 2
#define SETTLE_EVERY_NS NS_PER_MS

/* ---- messages ---- */

enum want_flip {
    WANT_NO_FLIP,
    WANT_FLIP_IF_ITS,  /* it has waited for long, and who looks and has a receive for it is to flip */
    WANT_FLIP_OF_ALL, /* … whoever looks, for its receiver does not */
    WANT_TO_BE_FIRST  /* … its receiver, which hands out what is of the sender before what others send */
};

struct want {
    uint64_t epoch;
    uint64_t flip;         /* enum want_flip */
    uint64_t comm, number; /* to be first: up to that message */
};

struct offer_head {
    uint64_t epoch, comm, arrived;
    struct cut_call call;   /* … which */
    uint32_t count;
    uint8_t vague, blocked; /* blocked: told ahead of a call in which the receiver does not look */
    uint8_t flipped;        /* it has */
    uint8_t unused;
};

/* One that is on its way. */
struct letter {
    struct letter *next;
    MPI_Request real;
    union {
        struct want want;
        struct {
            struct offer_head head;
            struct cut_offer offers[];
        };
    };
};

static struct letter *letters;

static void letters_progress(void)
{
    for (struct letter **at = &letters; *at;) {
        struct letter *letter = *at;
        int done = 0;
        real.Test(&letter->real, &done, MPI_STATUS_IGNORE);
        if (!done) {
            at = &letter->next;
            continue;
        }
        *at = letter->next;
        mem_free(letter);
    }
}

bool offers_sent(void)
{
    letters_progress();
    return letters == NULL;
}

static void post(struct letter *letter, const void *bytes, size_t size, uint32_t peer, int tag)
{
    if (real.Isend(bytes, (int)size, MPI_BYTE, (int)peer, tag, inside.offers, &letter->real) != MPI_SUCCESS) {
        mem_free(letter);
        return;
    }
    letter->next = letters;
    letters = letter;
}

/* ---- what other ranks have told and asked ---- */

/* Of one communicator; from `head` on as it came. */
struct told {
    struct told *next;
    struct cut_offers offers;
    struct offer_head head;
    struct cut_offer list[];
};

static struct other {
    struct told *told;
    uint64_t asked_ns, asked_to_flip_ns; /* last */
    bool fresh;       /* something was told, or sent to it, since it was looked at */
    bool asks;
} *others;
static bool somebody_asks, to_flip;
static const struct other *flips_for; /* it asks for a flip of all; NULL: nobody */

int offers_init(void)
{
    others = mem_try_array((size_t)inside.world_size, sizeof *others);
    return others ? real.Comm_split(MPI_COMM_WORLD, 0, inside.rank, &inside.offers) : MPI_ERR_NO_MEM;
}

/* The epoch that this rank is in, or is to be in. */
static uint64_t epoch_of_attempt(void)
{
    return inside.cut.aim ? inside.cut.aim : inside.cut.epoch;
}

/* Of epochs up to ours: others may be ahead. */
static void forget_told(void)
{
    for (int i = 0; i < inside.world_size; i++) {
        for (struct told **at = &others[i].told; *at;) {
            struct told *told = *at;
            if (told->head.epoch > inside.cut.epoch) {
                at = &told->next;
                continue;
            }
            *at = told->next;
            mem_free(told);
        }
    }
}

static void forget_askers(void)
{
    for (int i = 0; i < inside.world_size; i++)
        others[i].asks = false;
    somebody_asks = to_flip = false;
    flips_for = NULL;
}

void offers_end(void)
{
    cut_sends_clear(&inside.sends);
    forget_told();
}

void offers_begin(void)
{
    offers_end();
    forget_askers();
    for (struct comm *comm = inside.comms; comm; comm = comm->next) {
        mem_free(comm->said);
        comm->said = NULL;
    }
    parcels_prefer_none();
    for (uint32_t i = 0; i < requests.used; i++)
        requests.arena[i].told = requests.arena[i].matched = false;
}

static void forget_older(struct other *from, uint64_t comm)
{
    for (struct told **at = &from->told; *at; at = &(*at)->next) {
        struct told *old = *at;
        if (old->offers.comm != comm)
            continue;
        *at = old->next;
        mem_free(old);
        return;
    }
}

/* False: there is no memory for it, and it stays where it is. */
static bool take_offers(struct other *from, const MPI_Status *status, size_t size)
{
    struct told *told = mem_try_alloc(offsetof(struct told, head) + size);
    if (told == NULL)
        return false;
    real.Recv(&told->head, (int)size, MPI_BYTE, status->MPI_SOURCE, OFFER_TAG, inside.offers, MPI_STATUS_IGNORE);
    forget_older(from, told->head.comm);
    told->offers = (struct cut_offers){.comm = told->head.comm,
                                       .arrived = told->head.arrived,
                                       .vague = told->head.vague,
                                       .count = told->head.count,
                                       .offers = told->list};
    told->next = from->told;
    from->told = told;
    from->fresh = true;
    return true;
}

static void take_want(struct other *from, int source)
{
    struct want want = {0};
    real.Recv(&want, (int)sizeof want, MPI_BYTE, source, WANT_TAG, inside.offers, MPI_STATUS_IGNORE);
    if (want.epoch != epoch_of_attempt())
        return;
    from->asks = somebody_asks = true;
    to_flip |= want.flip != WANT_NO_FLIP;
    if (want.flip == WANT_TO_BE_FIRST)
        parcels_prefer(want.comm, (uint32_t)source, want.number, want.epoch);
    if (want.flip >= WANT_FLIP_OF_ALL)
        flips_for = from;
}

void offers_take(void)
{
    int found = 0, size = 0;
    MPI_Status status;
    while (real.Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, inside.offers, &found, &status) == MPI_SUCCESS && found) {
        PMPI_Get_count(&status, MPI_BYTE, &size);
        struct other *from = &others[status.MPI_SOURCE];
        if (status.MPI_TAG == WANT_TAG)
            take_want(from, status.MPI_SOURCE);
        else if (!take_offers(from, &status, (size_t)size))
            break;
    }
    if (letters)
        letters_progress();
}

/* ---- the sender ---- */

void offers_note_sent(const struct comm *comm, int to, int tag, struct copy *copy)
{
    uint32_t peer = comm->world[to];
    uint64_t position = cut_sends_add(&inside.sends, peer, comm->id, comm->all[to].sent, tag);
    others[peer].fresh = true;
    if (copy) {
        copy->to = peer;
        copy->position = position;
        copy->since_ns = clock_mono_ns();
    }
}

static void conclude(uint32_t peer)
{
    struct other *other = &others[peer];
    for (struct told *told = other->told; told && other->fresh; told = told->next) {
        if (told->head.epoch == inside.cut.epoch)
            cut_offers_meet(&told->offers, &inside.sends, peer);
    }
    other->fresh = false;
}

/* Collectives of that communicator that we have entered. */
static uint64_t entered(uint64_t id)
{
    for (const struct comm *comm = inside.comms; comm; comm = comm->next)
        if (comm->id == id && !comm->freed)
            return comm->collectives;
    return CUT_CALL_STRANGER;
}

static struct cut_unmet unmet_of(const struct copy *copy)
{
    const struct other *other = &others[copy->to];
    const struct cut_send *send = cut_sends_at(&inside.sends, copy->position);
    struct cut_unmet unmet = {.meets = send ? send->meets : CUT_MEETS_NOT,
                              .has_flipped = cut_rank_has_flipped(&inside.cut, copy->to),
                              .since_ns = copy->since_ns,
                              .asked_ns = other->asked_ns,
                              .asked_to_flip_ns = other->asked_to_flip_ns,
                              .asked_all_ns = copy->asked_all_ns};
    for (const struct told *told = other->told; told && send; told = told->next) {
        if (told->offers.comm == send->comm && told->head.epoch == inside.cut.epoch) {
            unmet.told_blocked = told->head.blocked;
            unmet.told_flipped = told->head.flipped;
            unmet.waits_for_us = cut_call_waits_for(&told->head.call, (uint32_t)inside.rank, entered(told->head.call.comm));
        }
    }
    return unmet;
}

/* send: what is to be the first; NULL: nothing. */
static void ask(uint32_t peer, enum want_flip flip, const struct cut_send *send, uint64_t now)
{
    struct other *other = &others[peer];
    struct letter *letter = mem_try_alloc(sizeof *letter);
    if (letter == NULL)
        return;
    letter->want = (struct want){
        .epoch = inside.cut.epoch, .flip = flip, .comm = send ? send->comm : 0, .number = send ? send->number : 0};
    *(flip ? &other->asked_to_flip_ns : &other->asked_ns) = now;
    post(letter, &letter->want, sizeof letter->want, peer, WANT_TAG);
}

/* Its receiver does not look. Whoever might send for the same receive flips first: what it sends then is of the new colour, and the
 * receiver hands it out behind what is ours. */
static void ask_all(struct copy *copy, uint64_t now)
{
    copy->asked_all_ns = now;
    ask(copy->to, WANT_TO_BE_FIRST, cut_sends_at(&inside.sends, copy->position), now);
    for (uint32_t peer = 0; peer < (uint32_t)inside.world_size; peer++) {
        bool asked = peer == copy->to || peer == (uint32_t)inside.rank || cut_rank_has_flipped(&inside.cut, peer);
        if (!asked && now - others[peer].asked_to_flip_ns >= CUT_ASK_AGAIN_MS * NS_PER_MS)
            ask(peer, WANT_FLIP_OF_ALL, NULL, now);
    }
}

static void settle(struct copy *copy, uint64_t now)
{
    conclude(copy->to);
    struct cut_unmet unmet = unmet_of(copy);
    switch (cut_offers_unmet(&unmet, now)) {
    case CUT_UNMET_DONE:
    case CUT_UNMET_ASSUMED:
        copy_paid(copy);
        break;
    case CUT_UNMET_ASKS:
        ask(copy->to, WANT_NO_FLIP, NULL, now);
        break;
    case CUT_UNMET_ASKS_TO_FLIP:
        ask(copy->to, WANT_FLIP_IF_ITS, NULL, now);
        break;
    case CUT_UNMET_ASKS_ALL_TO_FLIP:
        ask_all(copy, now);
        break;
    case CUT_UNMET_WAITS:
        break;
    }
}

void offers_settle(void)
{
    static uint64_t settled_ns;
    uint64_t now = clock_mono_ns();
    if (!cut_rank_copies(&inside.cut) || now - settled_ns < SETTLE_EVERY_NS)
        return;
    settled_ns = now;
    for (struct copy *copy = inside.copies; copy; copy = copy->next) {
        if (copy->request)
            settle(copy, now);
    }
}

/* ---- the receiver ---- */

static bool fits(const struct request *request, const struct comm *comm, int member)
{
    return request->comm == comm && (request->peer == MPI_ANY_SOURCE || request->peer == member);
}

/* What MPI has begun to receive is counted when it is done. */
static void count_begun(const struct comm *comm, int member, struct offer_head *head)
{
    for (uint32_t i = 0; i < requests.used; i++) {
        const struct request *request = &requests.arena[i];
        if (request->kind != REQUEST_RECV || request->state != REQUEST_REAL || !request->matched ||
            !fits(request, comm, member))
            continue;
        head->vague |= request->peer == MPI_ANY_SOURCE;
        head->arrived += request->peer == member;
    }
}

/* Without memory nobody is told that there is nothing any more. */
static struct said *said_to(struct comm *comm, int member)
{
    static struct said nothing;
    if (comm->said == NULL)
        comm->said = mem_try_array((size_t)comm->size, sizeof *comm->said);
    nothing = (struct said){0};
    return comm->said ? &comm->said[member] : &nothing;
}

static bool same(const struct said *a, const struct said *b)
{
    return a->epoch == b->epoch && a->arrived == b->arrived && a->count == b->count && a->blocked == b->blocked &&
           a->call.comm == b->call.comm && a->call.number == b->call.number;
}

static void fill(struct letter *letter, size_t room, const struct comm *comm, int member, struct request *const *list, size_t count)
{
    for (size_t i = 0; i < count && letter->head.count < room; i++) {
        if (fits(list[i], comm, member))
            letter->offers[letter->head.count++] = (struct cut_offer){
                .tag = list[i]->tag == MPI_ANY_TAG ? CUT_ANY : list[i]->tag, .any_source = list[i]->peer == MPI_ANY_SOURCE};
    }
}

/* What waits for it, and that nothing does where something did. Not what it knows already. */
static void tell_member(struct comm *comm, int member, struct request *const *list, size_t count, bool blocked)
{
    struct offer_head head = {.epoch = epoch_of_attempt(),
                              .comm = comm->id,
                              .arrived = comm->all[member].arrived,
                              .blocked = blocked,
                              .call = blocked ? inside.call : (struct cut_call){0},
                              .flipped = cut_rank_matches(&inside.cut) != 0};
    size_t fitting = 0;
    bool is_news = !blocked, for_any = false;
    for (size_t i = 0; i < count; i++) {
        fitting += fits(list[i], comm, member);
        is_news |= fits(list[i], comm, member) && !list[i]->told;
        for_any |= fits(list[i], comm, member) && list[i]->peer == MPI_ANY_SOURCE;
    }
    count_begun(comm, member, &head);
    struct said now = {.epoch = inside.cut.epoch, .arrived = head.arrived, .count = (uint32_t)fitting, .blocked = blocked};
    if (for_any || head.vague)
        now.call = head.call;
    struct said *said = said_to(comm, member);
    if ((fitting == 0 && said->count == 0) || (!is_news && same(said, &now)))
        return;
    size_t room = fitting < CUT_OFFERS_MAX ? fitting : CUT_OFFERS_MAX;
    struct letter *letter = mem_try_alloc(sizeof *letter + room * sizeof(struct cut_offer));
    if (letter == NULL)
        return;
    *said = now;
    letter->head = head;
    fill(letter, room, comm, member, list, count);
    post(letter, &letter->head, sizeof letter->head + room * sizeof(struct cut_offer), comm->world[member], OFFER_TAG);
}

/* Something waits on it, or somebody was told so. */
static bool is_of_interest(const struct comm *comm, struct request *const *list, size_t count)
{
    bool any = comm->said != NULL;
    for (size_t i = 0; i < count && !any; i++)
        any = list[i]->comm == comm;
    return any;
}

/* Everybody who may send for one of these. */
static void tell_all(struct request *const *list, size_t count)
{
    for (struct comm *comm = inside.comms; comm; comm = comm->next) {
        bool any = is_of_interest(comm, list, count);
        for (int member = 0; any && member < comm->size; member++)
            tell_member(comm, member, list, count, true);
    }
    for (size_t i = 0; i < count; i++)
        list[i]->told = true;
    inside.tell_anew = false;
}

static void tell_askers(struct request *const *list, size_t count)
{
    for (struct comm *comm = inside.comms; comm; comm = comm->next) {
        bool any = is_of_interest(comm, list, count);
        for (int member = 0; any && member < comm->size; member++) {
            if (others[comm->world[member]].asks)
                tell_member(comm, member, list, count, false);
        }
    }
}

static bool anybody_was_told(void)
{
    const struct comm *comm = inside.comms;
    while (comm && comm->said == NULL)
        comm = comm->next;
    return comm != NULL;
}

/* A call that waits for others begins, or something was received since: what was told last may be so no more. Else there is news only
 * where a receive was posted. */
static bool may_have_news(void)
{
    return receives_untold() || (inside.tell_anew && (receives_wait() || anybody_was_told()));
}

/* For a moment we match, of the colour of the day: so what has come is counted, and what waits waits for sure. */
static struct request **regroup(size_t *ret_count)
{
    receives_take_back();
    receives_requeue();
    parcels_pull_now();
    parcels_progress();
    return receives_in_queue(ret_count);
}

void offers_tell(void)
{
    size_t count = 0;
    struct request **list;
    if (inside.parked) /* nobody has looked since */
        return;
    if (!cut_rank_polls(&inside.cut) || (!cut_rank_matches(&inside.cut) && !may_have_news()))
        return;
    if (cut_rank_matches(&inside.cut)) {
        list = receives_in_queue(&count);
        tell_all(list, count);
    } else {
        list = regroup(&count);
        tell_all(list, count);
        receives_to_mpi();
    }
    mem_free(list);
}

/* One of these gets a message of the new colour. */
static bool flipped_for_its_own(void)
{
    size_t count = 0;
    bool flipped = false;
    struct request **list = receives_in_mpi(&count);
    for (size_t i = 0; i < count && !flipped; i++)
        flipped = !list[i]->matched && look_early_asked(list[i]);
    mem_free(list);
    return flipped;
}

void offers_answer(void)
{
    if (!somebody_asks)
        return;
    bool flips = to_flip;
    const struct other *by = flips_for;
    size_t count = 0;
    struct request **list = regroup(&count);
    tell_askers(list, count);
    receives_to_mpi();
    mem_free(list);
    forget_askers();
    if (flips && !flipped_for_its_own() && by)
        flip_asked((uint32_t)(by - others));
}
