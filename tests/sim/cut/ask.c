/* SPDX-License-Identifier: Apache-2.0 */
/* Synchronous sends behind a flip, and receives that MPI has in the other colour: as ckpt/client/mpi/ask.c. */
#include "tests/sim/cut/sim.h"

#define ASK_AFTER_MS 2
#define LATE_OFFERS 4

static bool fits(const struct ireq *ireq, const struct world *world, const struct message *m)
{
    int32_t source = world->program->comm[m->comm].rank_of[m->src];
    return ireq->comm == m->comm && (ireq->receive.source == CUT_ANY || ireq->receive.source == source) &&
           (ireq->receive.tag == CUT_ANY || ireq->receive.tag == m->tag);
}

static bool is_posted(const struct ireq *ireq)
{
    return (ireq->state == IREQ_REAL || ireq->state == IREQ_PARKED) && ireq->real->posted;
}

static bool is_about(const struct ask *ask, const struct message *m)
{
    return ask->dst == m->dst && ask->comm == m->comm && ask->tag == m->tag;
}

/* One that is answered, or is not. An answer tells of one receive, and pays for whichever message waits. */
static struct ask *asked(const struct rank *from, const struct message *m, bool answered)
{
    for (struct ask *ask = from->asks; ask != NULL; ask = ask->next)
        if (is_about(ask, m) && !ask->spent && ask->answered == answered)
            return ask;
    return NULL;
}

/* By a receiver that looks: there is a message of the new colour that the receive would get. */
void asks_answer(struct world *world, struct rank *rank)
{
    for (struct ireq *q = rank->posted_list.next; q != &rank->posted_list; q = q->next) {
        if (q->answered || !is_posted(q))
            continue;
        struct packet *packet =
            pmpi_iprobe(world, rank, q->comm, rank->cut.colour ^ 1, q->receive.source, q->receive.tag);
        struct ask *ask = packet != NULL ? asked(&world->rank[packet->src], &world->program->messages[packet->message], false)
                                         : NULL;
        if (ask != NULL)
            ask->answered = q->answered = true;
    }
}

/* By MPI, for one that is in a call in which it does not look. */
static bool is_offered(struct world *world, const struct message *m, bool late)
{
    struct rank *to = &world->rank[m->dst];
    if (!to->plain || !cut_rank_polls(&to->cut) || world->program->ops[m->dst][to->pc].kind != OP_COLL)
        return false;
    for (struct ireq *q = to->posted_list.next; q != &to->posted_list; q = q->next)
        if (is_posted(q) && fits(q, world, m) && (late ? q->late < LATE_OFFERS : !q->answered)) {
            q->late += late;
            return q->answered = true;
        }
    return false;
}

static bool waits_for(const struct world *world, const struct ireq *ireq, const struct ask *ask)
{
    return ireq != NULL && ireq->kind == OP_ISEND && ireq->state == IREQ_REAL && ireq->waits && !ireq->real->done &&
           is_about(ask, &world->program->messages[ireq->message]);
}

/* Messages are numbered in the order in which they are sent. */
static struct ireq *oldest(const struct world *world, struct rank *rank, const struct ask *ask)
{
    struct ireq *found = waits_for(world, &rank->blocking, ask) ? &rank->blocking : NULL;
    for (uint32_t i = 0; i < REQUESTS_MAX; i++)
        if (waits_for(world, rank->slots[i].ireq, ask) && (found == NULL || rank->slots[i].ireq->message < found->message))
            found = rank->slots[i].ireq;
    return found;
}

static void pay(struct world *world, struct rank *rank)
{
    for (struct ask *ask = rank->asks; ask != NULL; ask = ask->next) {
        struct ireq *ireq = ask->answered && !ask->spent ? oldest(world, rank, ask) : NULL;
        if (ireq == NULL)
            continue;
        ask->spent = world->begun[ireq->message] = true;
        ireq->waits = false;
    }
}

static void ask_when(struct world *world, struct rank *rank, const struct message *m, uint64_t *at, bool late)
{
    if (*at == 0 || world->now < *at)
        return;
    struct ask *ask = world_alloc(world, sizeof *ask);
    *ask = (struct ask){.next = rank->asks, .dst = m->dst, .comm = m->comm, .tag = m->tag, .late = late};
    rank->asks = ask;
    *at = 0;
}

bool asks_done(struct world *world, struct rank *rank, struct ireq *ireq)
{
    const struct message *m = &world->program->messages[ireq->message];
    struct ask *ask;
    if (!ireq->waits)
        return true;
    if (!cut_rank_copies(&rank->cut))
        return false;
    ask_when(world, rank, m, &ireq->ask_at, false);
    ask_when(world, rank, m, &ireq->ask_late_at, true);
    for (ask = rank->asks; ask != NULL; ask = ask->next)
        if (!ask->answered && is_about(ask, m))
            ask->answered = is_offered(world, m, ask->late);
    pay(world, rank);
    return !ireq->waits;
}

void asks_sent(struct world *world, struct rank *rank, struct ireq *ireq)
{
    const struct message *m = &world->program->messages[ireq->message];
    struct ask *ask = asked(rank, m, true);
    ireq->waits = m->mode == SEND_SYNCHRONOUS;
    if (ireq->waits)
        ireq->ask_late_at = (ireq->ask_at = world->now + ASK_AFTER_MS * MS) + CUT_HOLD_MS * MS;
    else if (ask != NULL)
        ask->spent = true; /* it takes the receive that the answer was about */
}

void answers_forget(struct rank *rank)
{
    for (struct ireq *q = rank->posted_list.next; q != &rank->posted_list; q = q->next)
        q->answered = false;
}

bool is_synchronous(const struct world *world, const struct ireq *ireq)
{
    return ireq != NULL && ireq->kind == OP_ISEND && world->program->messages[ireq->message].mode == SEND_SYNCHRONOUS;
}
