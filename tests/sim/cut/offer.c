/* SPDX-License-Identifier: Apache-2.0 */
/* Synchronous sends behind a flip, and receives that MPI has in the other colour: as ckpt/client/mpi/offer.c. */
#include <string.h>

#include "tests/sim/cut/sim.h"

static uint64_t epoch_of_attempt(const struct rank *rank)
{
    return rank->cut.aim ? rank->cut.aim : rank->cut.epoch;
}

void offers_begin(struct rank *rank)
{
    cut_sends_clear(&rank->sends);
    for (unsigned i = 0; i < RANKS_MAX * COMMS_MAX; i++) {
        const struct letter **told = &rank->told[i / COMMS_MAX][i % COMMS_MAX];
        if (*told != NULL && (*told)->epoch <= rank->cut.epoch)
            *told = NULL; /* others may have been armed before us */
    }
    rank->asked_by = 0;
    rank->asked_to_flip = rank->asked_anyway = false;
    memset(rank->said, 0, sizeof rank->said);
    memset(rank->first, 0, sizeof rank->first);
    for (struct ireq *q = rank->posted_list.next; q != &rank->posted_list; q = q->next)
        q->told = false;
}

void offers_take(struct world *world, struct rank *rank)
{
    const struct letter *letter;
    while ((letter = pmpi_next_letter(world, rank)) != NULL) {
        if (!letter->want) {
            rank->told[letter->from][letter->comm] = letter;
        } else if (letter->epoch == epoch_of_attempt(rank)) {
            rank->asked_by |= 1u << letter->from;
            rank->asked_to_flip |= letter->flip;
            rank->asked_anyway |= letter->anyway;
            if (letter->number > rank->arrived[letter->comm][letter->from]) {
                uint64_t *first = &rank->first[letter->comm][letter->from];
                *first = letter->number > *first ? letter->number : *first;
                cut_rank_prefer(&rank->cut, letter->from, letter->epoch);
            }
        }
    }
}

/* ---- the sender ---- */

void offers_sent(struct world *world, struct rank *rank, struct ireq *ireq)
{
    const struct message *m = &world->program->messages[ireq->message];
    uint64_t number = ++rank->sent[m->comm][m->dst];
    ireq->waits = ireq->copied && m->mode == SEND_SYNCHRONOUS;
    ireq->since = world->now;
    if (ireq->copied || cut_rank_polls(&rank->cut))
        ireq->position = cut_sends_add(&rank->sends, m->dst, world->program->comm[m->comm].id, number, m->tag);
}

static struct letter *question(struct world *world, const struct rank *rank, bool flip, bool anyway)
{
    struct letter *letter = world_alloc(world, sizeof *letter);
    *letter = (struct letter){.want = true, .from = rank->self, .epoch = rank->cut.epoch, .flip = flip, .anyway = anyway};
    return letter;
}

static void ask_all(struct world *world, struct rank *rank, const struct ireq *ireq, const struct message *m)
{
    const struct cut_send *send = cut_sends_at(&rank->sends, ireq->position);
    for (uint8_t peer = 0; peer < world->program->ranks; peer++) {
        if (peer != m->dst && (peer == rank->self || cut_rank_has_flipped(&rank->cut, peer)))
            continue;
        struct letter *letter = question(world, rank, true, true);
        letter->comm = m->comm;
        letter->number = peer == m->dst && send != NULL ? send->number : 0;
        pmpi_letter(world, rank, peer, letter);
    }
}

static void ask_as(struct world *world, struct rank *rank, struct ireq *ireq, const struct message *m, enum cut_unmet_act act)
{
    if (act == CUT_UNMET_ASKS)
        rank->asked_at[m->dst] = world->now;
    else if (act == CUT_UNMET_ASKS_TO_FLIP)
        rank->asked_to_flip_at[m->dst] = world->now;
    else
        ireq->asked_all_at = world->now;
    if (act == CUT_UNMET_ASKS_ALL_TO_FLIP)
        ask_all(world, rank, ireq, m);
    else
        pmpi_letter(world, rank, m->dst, question(world, rank, act == CUT_UNMET_ASKS_TO_FLIP, false));
}

static uint64_t entered(const struct world *world, const struct rank *rank, uint64_t id)
{
    for (unsigned comm = 0; comm < world->program->comms; comm++)
        if (world->program->comm[comm].id == id && world->program->comm[comm].rank_of[rank->self] >= 0)
            return rank->collectives[comm];
    return CUT_CALL_STRANGER;
}

static struct cut_unmet unmet_of(const struct world *world, struct rank *rank, const struct ireq *ireq, const struct message *m)
{
    const struct letter *told = rank->told[m->dst][m->comm];
    bool holds = told != NULL && told->epoch == rank->cut.epoch;
    if (holds)
        cut_offers_meet(&told->offers, &rank->sends, m->dst);
    const struct cut_send *send = cut_sends_at(&rank->sends, ireq->position);
    return (struct cut_unmet){.meets = send != NULL ? send->meets : CUT_MEETS_NOT,
                              .has_flipped = cut_rank_has_flipped(&rank->cut, m->dst),
                              .told_blocked = holds && told->blocked,
                              .told_flipped = holds && told->flipped,
                              .waits_for_us = holds && cut_call_waits_for(&told->call, rank->self, entered(world, rank, told->call.comm)),
                              .since_ns = ireq->since,
                              .asked_ns = rank->asked_at[m->dst],
                              .asked_to_flip_ns = rank->asked_to_flip_at[m->dst],
                              .asked_all_ns = ireq->asked_all_at};
}

bool offers_done(struct world *world, struct rank *rank, struct ireq *ireq)
{
    const struct message *m = &world->program->messages[ireq->message];
    if (!ireq->waits)
        return true;
    if (!cut_rank_copies(&rank->cut))
        return false;
    struct cut_unmet unmet = unmet_of(world, rank, ireq, m);
    enum cut_unmet_act act = cut_offers_unmet(&unmet, world->now);
    bool assumed = act == CUT_UNMET_ASSUMED;
    if (assumed || act == CUT_UNMET_DONE) {
        ireq->waits = false;
        world->promised[ireq->message] = world->rank[m->dst].posted + 1;
        world->totals->promised += !assumed;
        world->totals->assumed += assumed;
        return true;
    }
    if (act != CUT_UNMET_WAITS)
        ask_as(world, rank, ireq, m, act);
    return false;
}

/* ---- the receiver ---- */

static bool fits(const struct ireq *ireq, unsigned comm, int32_t source)
{
    return ireq->comm == comm && (ireq->receive.source == CUT_ANY || ireq->receive.source == source);
}

/* What waits on `comm` for messages of `peer`. */
static struct letter *letter_for(struct world *world, struct rank *rank, unsigned comm, uint8_t peer, const struct cut_call *call)
{
    int32_t source = world->program->comm[comm].rank_of[peer];
    struct letter *letter = world_alloc(world, sizeof *letter);
    *letter = (struct letter){.from = rank->self,
                              .comm = (uint8_t)comm,
                              .epoch = epoch_of_attempt(rank),
                              .blocked = call != NULL,
                              .call = call != NULL ? *call : (struct cut_call){0},
                              .flipped = cut_rank_matches(&rank->cut) != 0};
    letter->offers = (struct cut_offers){
        .comm = world->program->comm[comm].id, .arrived = rank->arrived[comm][peer], .offers = letter->offer};
    for (struct ireq *q = rank->posted_list.next; q != &rank->posted_list; q = q->next) {
        bool any = q->receive.source == CUT_ANY;
        if (!fits(q, comm, source))
            continue;
        if (q->state == IREQ_DEFERRED) {
            letter->offer[letter->offers.count++] = (struct cut_offer){.tag = q->receive.tag, .any_source = any};
            letter->is_news |= !q->told;
            letter->for_any |= any;
        } else if (q->state == IREQ_REAL) { /* MPI has begun to receive it, and counts it when it is done */
            letter->offers.vague |= any;
            letter->for_any |= any;
            letter->offers.arrived += !any;
        }
    }
    return letter;
}

static void tell(struct world *world, struct rank *rank, unsigned comm, uint8_t peer, const struct cut_call *call)
{
    struct said *said = &rank->said[comm][peer];
    const struct letter *letter = letter_for(world, rank, comm, peer, call);
    struct said now = {.epoch = rank->cut.epoch,
                       .arrived = letter->offers.arrived,
                       .count = letter->offers.count,
                       .blocked = letter->blocked};
    if (letter->for_any) /* only then it matters which call this is */
        now.call = letter->call;
    if (now.count == 0 && said->count == 0)
        return;
    if (letter->blocked && !letter->is_news && memcmp(said, &now, sizeof now) == 0)
        return;
    *said = now;
    pmpi_letter(world, rank, peer, letter);
}

static void tell_all(struct world *world, struct rank *rank, const struct cut_call *call)
{
    for (unsigned comm = 0; comm < world->program->comms; comm++)
        for (uint8_t peer = 0; peer < world->program->ranks; peer++)
            if (world->program->comm[comm].rank_of[peer] >= 0)
                tell(world, rank, comm, peer, call);
    for (struct ireq *q = rank->posted_list.next; q != &rank->posted_list; q = q->next)
        q->told |= q->state == IREQ_DEFERRED;
}

void offers_tell(struct world *world, struct rank *rank, const struct cut_call *call)
{
    if (!cut_rank_polls(&rank->cut))
        return;
    if (cut_rank_matches(&rank->cut)) {
        tell_all(world, rank, call);
        return;
    }
    shell_regroup(world, rank);
    tell_all(world, rank, call);
    shell_to_mpi(world, rank);
}

void offers_answer(struct world *world, struct rank *rank)
{
    bool flips = rank->asked_to_flip, anyway = rank->asked_anyway;
    if (rank->asked_by == 0)
        return;
    shell_regroup(world, rank);
    for (unsigned comm = 0; comm < world->program->comms; comm++)
        for (uint8_t peer = 0; peer < world->program->ranks; peer++)
            if (rank->asked_by & 1u << peer && world->program->comm[comm].rank_of[peer] >= 0)
                tell(world, rank, comm, peer, NULL);
    shell_to_mpi(world, rank);
    rank->asked_by = 0;
    rank->asked_to_flip = rank->asked_anyway = false;
    if (flips)
        shell_early_asked(world, rank, anyway);
}

bool is_synchronous(const struct world *world, const struct ireq *ireq)
{
    return ireq != NULL && ireq->kind == OP_ISEND && world->program->messages[ireq->message].mode == SEND_SYNCHRONOUS;
}
