/* SPDX-License-Identifier: Apache-2.0 */
/* What the MPI library does: matching as the standard says, over a network that keeps the order of one sender's messages to
 * one receiver on one communicator, and overtakes everywhere else. */
#include "tests/sim/cut/sim.h"

#define BOOKMARKS COMMS_MAX     /* the private communicators' indexes among channels */
#define LETTERS (COMMS_MAX + 1)

static bool fits(int32_t source, int32_t tag, const struct packet *packet)
{
    return (source == CUT_ANY || source == packet->source) && (tag == CUT_ANY || tag == packet->tag);
}

void pmpi_begin(struct world *world)
{
    for (uint32_t rank = 0; rank < RANKS_MAX; rank++) {
        for (uint32_t i = 0; i < COMMS_MAX * 2; i++) {
            struct endpoint *e = &world->endpoint[rank][i / 2][i % 2];
            e->last = &e->first;
            e->posted.next = e->posted.prev = &e->posted;
        }
        world->private_[rank].last = &world->private_[rank].first;
        world->letters[rank].last = &world->letters[rank].first;
    }
}

static void unpost(struct preq *preq)
{
    preq->prev->next = preq->next;
    preq->next->prev = preq->prev;
    preq->posted = false;
}

/* An MPI library that moves large messages only while both ends are in a call of its. */
static bool stands_still(struct world *world, const struct packet *packet)
{
    const uint8_t ends[] = {packet->src, packet->dst};
    for (unsigned i = 0; i < 2 && world->lies.weak && packet->mode != SEND_EAGER; i++) {
        const struct rank *rank = &world->rank[ends[i]];
        if (!rank->ended && world->program->ops[ends[i]][rank->pc].kind == OP_COMPUTE)
            return true;
    }
    return false;
}

static void on_whole(struct world *world, void *subject, uint64_t number)
{
    struct packet *packet = subject;
    (void)number;
    if (stands_still(world, packet)) {
        world_at(world, world->now + between(world, 1, 5 * MS), on_whole, packet, 0);
        return;
    }
    packet->whole = true;
    if (packet->to != NULL)
        packet->to->done = true;
    rank_woken_by_mpi(world, packet->dst);
    if (packet->from != NULL && !packet->from->done) {
        packet->from->done = true;
        rank_woken_by_mpi(world, packet->src);
    }
}

static void match(struct world *world, struct packet *packet, struct preq *to)
{
    packet->matched = true;
    packet->to = to;
    if (to != NULL) {
        to->packet = packet;
        world->begun[packet->message] = true;
    }
    if (packet->mode == SEND_EAGER)
        on_whole(world, packet, 0);
    else
        world_at(world, world->now + between(world, 0, world->lies.delay_ns), on_whole, packet, 0);
}

static void on_arrival(struct world *world, void *subject, uint64_t number)
{
    struct packet *packet = subject;
    struct endpoint *e = &world->endpoint[packet->dst][packet->comm][packet->colour];
    (void)number;
    if (packet->message == NONE32) {
        e = packet->letter != NULL ? &world->letters[packet->dst] : &world->private_[packet->dst];
    } else {
        for (struct preq *p = e->posted.next; p != &e->posted; p = p->next)
            if (fits(p->source, p->tag, packet)) {
                unpost(p);
                match(world, packet, p);
                return;
            }
    }
    *e->last = packet;
    e->last = &packet->next;
    rank_woken_by_mpi(world, packet->dst);
}

static void transmit(struct world *world, struct packet *packet, unsigned channel)
{
    uint64_t *free_at = &world->channel_free[packet->src][packet->dst][channel][packet->colour];
    uint64_t at = world->now + (chance(world, 300000) ? between(world, 0, world->lies.delay_ns)
                                                      : between(world, 0, world->lies.delay_ns / 20));
    if (at <= *free_at)
        at = *free_at + 1;
    *free_at = at;
    world_at(world, at, on_arrival, packet, 0);
}

struct preq *pmpi_isend(struct world *world, struct rank *rank, uint32_t message, unsigned colour)
{
    const struct message *m = &world->program->messages[message];
    struct packet *packet = world_alloc(world, sizeof *packet);
    struct preq *preq = world_alloc(world, sizeof *preq);
    *packet = (struct packet){.message = message,
                              .src = m->src,
                              .dst = m->dst,
                              .comm = m->comm,
                              .colour = (uint8_t)colour,
                              .mode = m->mode,
                              .source = world->program->comm[m->comm].rank_of[m->src],
                              .tag = m->tag,
                              .from = preq};
    *preq = (struct preq){
        .rank = rank->self, .comm = m->comm, .colour = (uint8_t)colour, .packet = packet, .done = m->mode == SEND_EAGER};
    transmit(world, packet, m->comm);
    return preq;
}

void pmpi_bookmark(struct world *world, struct rank *rank, uint32_t peer, const struct cut_bookmark *bookmark)
{
    struct packet *packet = world_alloc(world, sizeof *packet);
    *packet = (struct packet){.message = NONE32, .src = rank->self, .dst = (uint8_t)peer, .bookmark = *bookmark};
    transmit(world, packet, BOOKMARKS);
}

/* Of one sender the first; of several that one which MPI likes, for it says nothing of the order between them. */
static struct packet **find(struct world *world, struct endpoint *e, int32_t source, int32_t tag)
{
    uint32_t seen = 0, count = 0;
    struct packet **found = NULL;
    for (struct packet **p = &e->first; *p != NULL; p = &(*p)->next) {
        if (!fits(source, tag, *p) || (seen & 1u << (*p)->src))
            continue;
        seen |= 1u << (*p)->src;
        if (between(world, 0, count++) == 0)
            found = p;
    }
    return found;
}

static struct packet *take_out(struct endpoint *e, struct packet **at)
{
    struct packet *packet = *at;
    *at = packet->next;
    if (packet->next == NULL)
        e->last = at;
    packet->next = NULL;
    return packet;
}

struct preq *pmpi_irecv(struct world *world, struct rank *rank, unsigned comm, unsigned colour, int32_t source, int32_t tag)
{
    struct endpoint *e = &world->endpoint[rank->self][comm][colour];
    struct preq *preq = world_alloc(world, sizeof *preq);
    *preq = (struct preq){
        .rank = rank->self, .comm = (uint8_t)comm, .colour = (uint8_t)colour, .receive = true, .source = source, .tag = tag};
    struct packet **at = find(world, e, source, tag);
    if (at != NULL) {
        match(world, take_out(e, at), preq);
        return preq;
    }
    preq->posted = true;
    preq->prev = e->posted.prev;
    preq->next = &e->posted;
    preq->prev->next = preq->next->prev = preq;
    return preq;
}

void pmpi_cancel(struct world *world, struct preq *preq)
{
    (void)world;
    if (!preq->posted)
        return;
    unpost(preq);
    preq->cancelled = preq->done = true;
}

struct packet *pmpi_iprobe(struct world *world, struct rank *rank, unsigned comm, unsigned colour, int32_t source,
                           int32_t tag)
{
    struct packet **at = find(world, &world->endpoint[rank->self][comm][colour], source, tag);
    return at != NULL ? *at : NULL;
}

struct packet *pmpi_improbe(struct world *world, struct rank *rank, unsigned comm, unsigned colour, int32_t source,
                            int32_t tag)
{
    struct endpoint *e = &world->endpoint[rank->self][comm][colour];
    struct packet **at = find(world, e, source, tag);
    return at != NULL ? take_out(e, at) : NULL;
}

void pmpi_imrecv(struct world *world, struct packet *packet)
{
    if (!packet->matched)
        match(world, packet, NULL);
}

struct packet *pmpi_next_bookmark(struct world *world, struct rank *rank)
{
    struct endpoint *e = &world->private_[rank->self];
    return e->first != NULL ? take_out(e, &e->first) : NULL;
}

void pmpi_letter(struct world *world, struct rank *rank, uint32_t peer, const struct letter *letter)
{
    struct packet *packet = world_alloc(world, sizeof *packet);
    *packet = (struct packet){.message = NONE32, .src = rank->self, .dst = (uint8_t)peer, .letter = letter};
    transmit(world, packet, LETTERS);
}

const struct letter *pmpi_next_letter(struct world *world, struct rank *rank)
{
    struct endpoint *e = &world->letters[rank->self];
    return e->first != NULL ? take_out(e, &e->first)->letter : NULL;
}

/* ---- collectives ---- */

static void on_coll(struct world *world, void *subject, uint64_t member)
{
    struct coll *coll = subject;
    coll->ready[member] = true;
    rank_woken_by_mpi(world, (unsigned)member);
}

struct coll *pmpi_coll(struct world *world, struct rank *rank, unsigned comm, uint64_t number, uint32_t root)
{
    const struct comm *c = &world->program->comm[comm];
    struct coll *coll = &world->colls[comm][number];
    coll->entered |= 1u << rank->self;
    bool all = (uint32_t)__builtin_popcount(coll->entered) == c->size;
    for (uint32_t i = 0; i < c->size; i++) {
        uint32_t member = c->members[i];
        /* Without a root: everybody waits for everybody. With one: for the root alone. */
        bool goes = (coll->entered & 1u << member) && (root == 0 ? all : (coll->entered & 1u << (root - 1)) != 0);
        if (!goes || (coll->done & 1u << member))
            continue;
        coll->done |= 1u << member;
        world_at(world, world->now + between(world, 0, world->lies.delay_ns / 10), on_coll, coll, member);
    }
    return coll;
}
