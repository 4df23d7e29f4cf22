/* SPDX-License-Identifier: Apache-2.0 */
/* What stands between the program and MPI: a model of libtidemark_mpi, and of libtidemark at a safe point. */
#include <string.h>

#include "ckpt/base/mem.h"
#include "tests/sim/cut/sim.h"

/* ---- receives ---- */

static void list_add(struct rank *rank, struct ireq *ireq)
{
    ireq->prev = rank->posted_list.prev;
    ireq->next = &rank->posted_list;
    ireq->prev->next = ireq->next->prev = ireq;
}

void shell_seen(struct rank *rank, struct ireq *ireq)
{
    (void)rank;
    if (ireq->kind == OP_IRECV) {
        ireq->prev->next = ireq->next;
        ireq->next->prev = ireq->prev;
    }
    ireq->state = IREQ_FREE;
}

static struct qmsg *qmsg_of(struct cut_message *message)
{
    return (struct qmsg *)message;
}

void shell_imrecv(struct world *world, struct packet *packet)
{
    world->begun[packet->message] = true;
    pmpi_imrecv(world, packet);
}

static void give(struct world *world, struct ireq *ireq, struct qmsg *q)
{
    ireq->state = IREQ_QUEUED;
    ireq->got = q;
    ireq->message = q->id;
    if (q->packet != NULL)
        shell_imrecv(world, q->packet);
}

void shell_arrive(struct world *world, struct rank *rank, struct qmsg *q, unsigned comm)
{
    struct cut_receive *receive = cut_queue_arrive(&rank->queue[comm], &q->message);
    if (receive != NULL)
        give(world, receive->context, q);
}

static void to_mpi(struct world *world, struct rank *rank, struct ireq *ireq)
{
    ireq->state = IREQ_REAL;
    ireq->real = pmpi_irecv(world, rank, ireq->comm, rank->cut.colour, ireq->receive.source, ireq->receive.tag);
}

void shell_post(struct world *world, struct rank *rank, struct ireq *ireq, unsigned comm, int32_t source, int32_t tag)
{
    *ireq = (struct ireq){.kind = OP_IRECV,
                          .comm = (uint8_t)comm,
                          .message = NONE32,
                          .posted = rank->posted++,
                          .receive = {.source = source, .tag = tag, .context = ireq}};
    list_add(rank, ireq);
    if (cut_rank_matches(&rank->cut)) {
        struct cut_message *m = cut_queue_post(&rank->queue[comm], &ireq->receive);
        ireq->state = IREQ_DEFERRED;
        if (m != NULL)
            give(world, ireq, qmsg_of(m));
        return;
    }
    struct cut_message *m = cut_queue_find(&rank->queue[comm], source, tag);
    if (m != NULL) {
        cut_queue_take(&rank->queue[comm], m);
        give(world, ireq, qmsg_of(m));
        return;
    }
    to_mpi(world, rank, ireq);
}

/* ---- taking what has come, of a rank that matches ---- */

static void take(struct world *world, struct rank *rank, struct packet *packet)
{
    struct qmsg *q = world_alloc(world, sizeof *q);
    *q = (struct qmsg){.message = {.source = packet->source, .tag = packet->tag, .peer = packet->src},
                       .id = packet->message,
                       .packet = packet};
    enum cut_take what = cut_rank_take(&rank->cut, packet->src, packet->colour);
    if (what == CUT_TAKE_HOLD) {
        world->totals->held++;
        cut_queue_hold(&rank->queue[packet->comm], &q->message);
        return;
    }
    firsts_arrived(world, rank, packet->comm, packet->src);
    if (what != CUT_TAKE_DELIVER)
        keep_add(world, rank, (struct keep){.taken = q, .log = what == CUT_TAKE_LOG});
    shell_arrive(world, rank, q, packet->comm);
    if (what != CUT_TAKE_DELIVER && cut_rank_drained(&rank->cut, packet->src))
        firsts_release(world, rank, packet->src);
}

/* What MPI had matched already when it was taken over. */
static void harvest(struct world *world, struct rank *rank)
{
    for (struct keep *k = rank->keep_first; k != NULL; k = k->next) {
        if (k->over == NULL || k->whole || !k->over->real->done)
            continue;
        struct packet *packet = k->over->real->packet;
        enum cut_take what = cut_rank_take(&rank->cut, packet->src, packet->colour);
        firsts_arrived(world, rank, packet->comm, packet->src);
        k->whole = true;
        k->id = packet->message;
        k->log = what == CUT_TAKE_LOG;
        k->over->message = packet->message;
        k->over->state = IREQ_DONE;
        if (cut_rank_drained(&rank->cut, packet->src))
            firsts_release(world, rank, packet->src);
    }
}

static void bookmarks(struct world *world, struct rank *rank)
{
    struct packet *b;
    while ((b = pmpi_next_bookmark(world, rank)) != NULL)
        if (cut_rank_bookmark(&rank->cut, b->src, &b->bookmark))
            firsts_release(world, rank, b->src);
}

/* Of those who go first. */
static void pull_first(struct world *world, struct rank *rank)
{
    for (unsigned comm = 0; comm < world->program->comms; comm++)
        for (uint8_t peer = 0; peer < world->program->ranks; peer++) {
            struct packet *packet;
            int32_t source = world->program->comm[comm].rank_of[peer];
            while (source >= 0 && firsts_has(rank, comm, peer) &&
                   (packet = pmpi_improbe(world, rank, comm, rank->cut.colour, source, CUT_ANY)) != NULL)
                take(world, rank, packet);
        }
}

static void pump(struct world *world, struct rank *rank)
{
    unsigned colour = rank->cut.colour;
    struct packet *packet;
    bookmarks(world, rank);
    harvest(world, rank);
    pull_first(world, rank);
    for (unsigned comm = 0; comm < world->program->comms; comm++)
        while ((packet = pmpi_improbe(world, rank, comm, colour ^ 1, CUT_ANY, CUT_ANY)) != NULL)
            take(world, rank, packet);
    for (unsigned comm = 0; comm < world->program->comms; comm++)
        while ((packet = pmpi_improbe(world, rank, comm, colour, CUT_ANY, CUT_ANY)) != NULL)
            take(world, rank, packet);
    keep_on(world, rank);
}

/* ---- flips ---- */

static void log_begin(struct world *world, struct rank *rank)
{
    struct record *r = &rank->record;
    struct cut_comm comms[COMMS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < world->program->comms; i++)
        if (world->program->comm[i].rank_of[rank->self] >= 0)
            comms[count++] = (struct cut_comm){
                .id = world->program->comm[i].id, .collectives = rank->collectives[i], .size = world->program->comm[i].size};
    r->log_bytes = cut_channel_head_bytes(count);
    if (r->log_bytes > r->log_room) {
        r->log_room = r->log_bytes;
        r->log = mem_grow(r->log, r->log_room, 1);
    }
    cut_channel_print_head(r->log, comms, count);
    r->logged = 0;
}

/* Receives that MPI has: those nobody matched are ours again, in posted order. */
static void take_back(struct world *world, struct rank *rank)
{
    for (struct ireq *q = rank->posted_list.next; q != &rank->posted_list; q = q->next) {
        q->is_new = false;
        if (q->state == IREQ_REAL)
            pmpi_cancel(world, q->real);
        if (q->state == IREQ_REAL && q->real->cancelled) {
            q->state = IREQ_DEFERRED;
            if (cut_queue_post(&rank->queue[q->comm], &q->receive) != NULL)
                violation(world, "rank %u: a receive matched a message that had been in the queue all the time", rank->self);
        } else if (q->state == IREQ_REAL && q->real->done) {
            cut_rank_arrived(&rank->cut, q->real->packet->src);
            firsts_arrived(world, rank, q->comm, q->real->packet->src);
            q->message = q->real->packet->message;
            q->state = IREQ_DONE;
        }
    }
}

static bool keep_arrived(struct world *world, struct rank *rank, struct qmsg *q)
{
    bool whole = q->packet == NULL || q->packet->whole;
    keep_add(world, rank, (struct keep){.taken = q, .log = true, .counted = whole});
    return whole;
}

/* What the program has not seen is not received: it is in the channel, in the order in which it was matched. Returns how
 * many of them count as arrived, and are not whole. */
static uint64_t keep_unseen(struct world *world, struct rank *rank)
{
    uint64_t not_whole = 0;
    for (struct ireq *q = rank->posted_list.next; q != &rank->posted_list; q = q->next)
        if (q->state == IREQ_REAL)
            keep_add(world, rank, (struct keep){.over = q});
        else if (q->state == IREQ_QUEUED)
            not_whole += !keep_arrived(world, rank, q->got);
        else if (q->state == IREQ_DONE)
            keep_add(world, rank, (struct keep){.id = q->message, .whole = true, .log = true, .counted = true});
    for (unsigned comm = 0; comm < world->program->comms; comm++)
        for (struct cut_message *m = cut_queue_first(&rank->queue[comm]); m != NULL;
             m = cut_queue_next(&rank->queue[comm], m))
            not_whole += !keep_arrived(world, rank, qmsg_of(m));
    return not_whole;
}

static void tell(struct world *world, struct rank *rank, uint32_t peer)
{
    struct cut_bookmark bookmark;
    if (!cut_rank_bookmark_due(&rank->cut, peer, &bookmark))
        return;
    pmpi_bookmark(world, rank, peer, &bookmark);
    cut_rank_bookmark_told(&rank->cut, peer);
}

void shell_flip(struct world *world, struct rank *rank, uint64_t epoch, bool recorded)
{
    TRACE(world, "rank %u flips to %llu%s", rank->self, (unsigned long long)epoch, recorded ? " with a record" : "");
    bookmarks(world, rank);
    take_back(world, rank);
    uint64_t not_whole = keep_unseen(world, rank);
    cut_rank_flip(&rank->cut, epoch, recorded);
    cut_rank_not_whole(&rank->cut, not_whole);
    rank->page.sent_before = rank->cut.sent_before;
    rank->page.arrived_before = rank->cut.arrived_before;
    rank->page.epoch = rank->cut.epoch;
    for (uint32_t peer = 0; peer < world->program->ranks; peer++)
        if (cut_rank_has_sent(&rank->cut, peer))
            tell(world, rank, peer);
    pump(world, rank);
}

void shell_regroup(struct world *world, struct rank *rank)
{
    struct packet *packet;
    take_back(world, rank);
    for (unsigned comm = 0; comm < world->program->comms; comm++)
        while ((packet = pmpi_improbe(world, rank, comm, rank->cut.colour, CUT_ANY, CUT_ANY)) != NULL)
            take(world, rank, packet);
}

void shell_to_mpi(struct world *world, struct rank *rank)
{
    for (struct ireq *q = rank->posted_list.next; q != &rank->posted_list; q = q->next)
        if (q->state == IREQ_DEFERRED) {
            cut_queue_unpost(&rank->queue[q->comm], &q->receive);
            to_mpi(world, rank, q);
        }
}

/* Settled: MPI matches again. */
static void end_transition(struct world *world, struct rank *rank)
{
    pull_first(world, rank);
    firsts_release_all(world, rank);
    for (unsigned comm = 0; comm < world->program->comms; comm++) {
        struct cut_message *m;
        while ((m = cut_queue_release_any(&rank->queue[comm])) != NULL) {
            cut_rank_released(&rank->cut, m->peer);
            firsts_arrived(world, rank, comm, (uint8_t)m->peer);
            shell_arrive(world, rank, qmsg_of(m), comm);
        }
    }
    if (rank->keep_first != NULL)
        violation(world, "rank %u: it has settled, and something of the old colour is not whole", rank->self);
    for (unsigned comm = 0; comm < world->program->comms; comm++)
        if (pmpi_iprobe(world, rank, comm, rank->cut.colour ^ 1, CUT_ANY, CUT_ANY) != NULL)
            violation(world, "rank %u: it has settled, and a message of the old colour is there", rank->self);
    shell_to_mpi(world, rank);
    rank->page.ended_epoch = rank->cut.epoch;
}

void shell_look(struct world *world, struct rank *rank)
{
    struct cut_words words = rank->page.words;
    unsigned acts = cut_rank_look(&rank->cut, &words);
    if (acts & CUT_ACT_PLAIN)
        cut_sends_clear(&rank->sends);
    if (acts & CUT_ACT_RELEASE)
        end_transition(world, rank);
    if (acts & CUT_ACT_POLLING)
        offers_begin(rank);
    if (acts & CUT_ACT_POLLING)
        rank->page.polling_epoch = rank->cut.aim;
    if (acts & CUT_ACT_FLIP)
        shell_flip(world, rank, rank->cut.aim, false);
}

void shell_attend(struct world *world, struct rank *rank)
{
    if (cut_rank_polls(&rank->cut) || cut_rank_copies(&rank->cut))
        offers_take(world, rank);
    if (cut_rank_matches(&rank->cut))
        pump(world, rank);
    shell_look(world, rank);
    if (cut_rank_polls(&rank->cut) && !cut_rank_matches(&rank->cut))
        offers_answer(world, rank);
}

/* ---- waiting ---- */

bool shell_test(struct world *world, struct rank *rank, struct ireq *ireq)
{
    switch (ireq->state) {
    case IREQ_QUEUED:
        return ireq->got->packet == NULL || ireq->got->packet->whole;
    case IREQ_REAL:
        if (ireq->kind == OP_ICOLL)
            return ireq->coll->ready[rank->self];
        if (ireq->kind == OP_ISEND)
            return ireq->real->done || (ireq->copied && offers_done(world, rank, ireq));
        if ((cut_rank_matches(&rank->cut) && !ireq->is_new) || !ireq->real->done)
            return false; /* taken over: harvest() tells */
        cut_rank_arrived(&rank->cut, ireq->real->packet->src);
        firsts_arrived(world, rank, ireq->comm, ireq->real->packet->src);
        ireq->message = ireq->real->packet->message;
        ireq->state = IREQ_DONE;
        return true;
    default:
        return ireq->state == IREQ_DONE;
    }
}

static void say_result(struct rank *rank, enum record_result result)
{
    struct page *p = &rank->page;
    if (p->recorded_cut == p->cut && p->recorded_attempt == p->attempt)
        return;
    p->recorded_cut = p->cut;
    p->recorded_attempt = p->attempt;
    p->result = result;
}

void shell_early(struct world *world, struct rank *rank, unsigned comm, int32_t source, int32_t tag)
{
    if (rank->cut.aim == 0)
        return;
    if (pmpi_iprobe(world, rank, comm, rank->cut.colour ^ 1, source, tag) == NULL) {
        cut_rank_not_held(&rank->cut);
        return;
    }
    if (!cut_rank_early(&rank->cut, world->now))
        return;
    TRACE(world, "rank %u is early", rank->self);
    shell_flip(world, rank, rank->cut.aim, false);
    say_result(rank, RECORD_EARLY);
}

static bool is_early(struct world *world, struct rank *rank)
{
    for (struct ireq *q = rank->posted_list.next; q != &rank->posted_list; q = q->next)
        if (q->state == IREQ_REAL && q->real->posted &&
            pmpi_iprobe(world, rank, q->comm, rank->cut.colour ^ 1, q->receive.source, q->receive.tag) != NULL)
            return true;
    return false;
}

void shell_early_asked(struct world *world, struct rank *rank, bool anyway)
{
    if (rank->cut.aim == 0 || (!anyway && !is_early(world, rank)))
        return;
    TRACE(world, "rank %u is early, as it was asked", rank->self);
    shell_flip(world, rank, rank->cut.aim, false);
    say_result(rank, RECORD_EARLY);
}

void shell_send(struct world *world, struct rank *rank, struct ireq *ireq, uint32_t message)
{
    const struct message *m = &world->program->messages[message];
    tell(world, rank, m->dst);
    cut_rank_sent(&rank->cut, m->dst);
    *ireq =
        (struct ireq){.state = IREQ_REAL, .kind = OP_ISEND, .message = message, .copied = cut_rank_copies(&rank->cut) != 0};
    ireq->real = pmpi_isend(world, rank, message, rank->cut.colour);
    offers_sent(world, rank, ireq);
    if (!ireq->copied)
        return;
    if (rank->copies == rank->copy_room) {
        rank->copy_room = rank->copy_room ? 2 * rank->copy_room : 16;
        rank->copy = mem_grow(rank->copy, rank->copy_room, sizeof(struct preq *));
    }
    rank->copy[rank->copies++] = ireq->real;
}

/* ---- around a blocking collective ---- */

/* Everybody who may send for it has flipped, and all that was sent before is here. */
static bool only_new_can_come(const struct world *world, const struct rank *rank, const struct ireq *ireq)
{
    const struct comm *comm = &world->program->comm[ireq->comm];
    for (uint32_t i = 0; i < comm->size; i++)
        if ((ireq->receive.source == CUT_ANY || ireq->receive.source == comm->rank_of[comm->members[i]]) &&
            !cut_rank_drained(&rank->cut, comm->members[i]))
            return false;
    return true;
}

void shell_park(struct world *world, struct rank *rank, const struct cut_call *call)
{
    if (cut_rank_matches(&rank->cut))
        pump(world, rank);
    offers_tell(world, rank, call);
    if (!cut_rank_matches(&rank->cut))
        return;
    for (struct ireq *q = rank->posted_list.next; q != &rank->posted_list; q = q->next)
        if (q->state == IREQ_DEFERRED) {
            cut_queue_unpost(&rank->queue[q->comm], &q->receive);
            q->is_new = only_new_can_come(world, rank, q);
            q->real = pmpi_irecv(world, rank, q->comm, rank->cut.colour ^ !q->is_new, q->receive.source, q->receive.tag);
            q->state = IREQ_PARKED;
            world->totals->parked_new += q->is_new;
            world->totals->parked++;
        }
}

void shell_unpark(struct world *world, struct rank *rank)
{
    for (struct ireq *q = rank->posted_list.next; q != &rank->posted_list; q = q->next) {
        if (q->state != IREQ_PARKED)
            continue;
        pmpi_cancel(world, q->real);
        if (!q->real->cancelled) {
            q->state = IREQ_REAL;
            if (!q->is_new)
                keep_add(world, rank, (struct keep){.over = q});
            continue;
        }
        q->state = IREQ_DEFERRED;
        struct cut_message *m = cut_queue_post(&rank->queue[q->comm], &q->receive);
        if (m != NULL)
            give(world, q, qmsg_of(m));
    }
}

/* ---- safe points ---- */

static bool may_record(struct world *world, struct rank *rank)
{
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        struct slot *slot = &rank->slots[i];
        if (slot->ireq != NULL && (!world->program->reposts || slot->op.kind == OP_ICOLL))
            return false;
        if (is_synchronous(world, slot->ireq) && !shell_test(world, rank, slot->ireq))
            return false;
    }
    return !chance(world, world->lies.refuse);
}

static void fill_record(struct rank *rank, uint64_t step)
{
    struct record *r = &rank->record;
    r->cut = rank->page.cut;
    r->attempt = rank->page.attempt;
    r->epoch = rank->cut.aim;
    r->step = step;
    r->pc = rank->pc + 1;
    r->received = rank->received_count;
    r->posted = rank->posted;
    memcpy(r->collectives, rank->collectives, sizeof r->collectives);
    memcpy(r->coll_number, rank->coll_number, sizeof r->coll_number);
    memcpy(r->slots, rank->slots, sizeof r->slots);
    for (uint32_t i = 0; i < REQUESTS_MAX; i++)
        r->slot_posted[i] = rank->slots[i].ireq != NULL ? rank->slots[i].ireq->posted : 0;
}

void shell_safe_point(struct world *world, struct rank *rank, uint64_t step)
{
    struct page *p = &rank->page;
    p->step = step;
    shell_attend(world, rank);
    switch (cut_point_at(&p->words, rank->cut.epoch, step)) {
    case CUT_POINT_GO_ON:
        return;
    case CUT_POINT_PASSED:
        TRACE(world, "rank %u passes step %llu", rank->self, (unsigned long long)step);
        p->words.armed_step = STEP_NONE;
        say_result(rank, RECORD_PASSED);
        return;
    case CUT_POINT_RECORD:
        break;
    }
    p->words.armed_step = STEP_TAKEN;
    uint64_t epoch = rank->cut.aim;
    bool recorded = may_record(world, rank);
    if (cut_rank_record(&rank->cut))
        violation(world, "rank %u: a safe point is due in state %s", rank->self, cut_rank_state_name(rank->cut.state));
    if (recorded) {
        fill_record(rank, step);
        log_begin(world, rank);
    }
    shell_flip(world, rank, epoch, recorded);
    say_result(rank, rank->cut.state == CUT_RANK_DRAINING ? RECORD_DONE : RECORD_FAILED);
    p->words.armed_step = STEP_NONE;
}

void shell_leave(struct world *world, struct rank *rank)
{
    struct page *p = &rank->page;
    shell_attend(world, rank);
    if (p->words.armed_epoch > rank->cut.epoch && p->words.armed_step != STEP_NONE) {
        p->words.armed_step = STEP_NONE;
        say_result(rank, RECORD_PASSED);
    }
    p->left = true;
}

bool shell_finalize(struct world *world, struct rank *rank)
{
    shell_attend(world, rank);
    for (uint32_t i = 0; i < rank->copies; i++)
        if (!rank->copy[i]->done)
            return false;
    cut_rank_finish(&rank->cut);
    cut_rank_sums(&rank->cut, &rank->page.sent_before, &rank->page.arrived_before);
    rank->page.ended_epoch = CUT_ENDED_FOR_GOOD;
    return true;
}

/* ---- begin, restart ---- */

void shell_begin(struct world *world, struct rank *rank)
{
    struct err err = {0};
    rank->posted_list.next = rank->posted_list.prev = &rank->posted_list;
    rank->keep_last = &rank->keep_first;
    rank->page.words.armed_step = STEP_NONE;
    for (unsigned comm = 0; comm < COMMS_MAX; comm++)
        cut_queue_init(&rank->queue[comm]);
    if (cut_rank_init(&rank->cut, rank->self, world->program->ranks, &err) != TIDE_OK)
        violation(world, "%s", err.text);
}

void shell_load(struct world *world, struct rank *rank, const struct record *from)
{
    struct cut_channel channel;
    struct cut_entry entry;
    const void *payload;
    struct err err = {0};
    enum tide_status status = cut_channel_open(&channel, from->log, from->log_bytes, &err);
    while (status == TIDE_OK && (status = cut_channel_next(&channel, &entry, &payload, &err)) == TIDE_OK &&
           payload != NULL) {
        struct qmsg *q = world_alloc(world, sizeof *q);
        memcpy(&q->id, payload, sizeof q->id);
        const struct message *m = &world->program->messages[q->id];
        q->message = (struct cut_message){.source = (int32_t)entry.source, .tag = entry.tag, .peer = m->src};
        if (entry.comm != world->program->comm[m->comm].id || entry.tag != m->tag)
            violation(world, "rank %u: the log has another message than was written", rank->self);
        shell_arrive(world, rank, q, m->comm);
    }
    if (status != TIDE_OK)
        violation(world, "rank %u: %s", rank->self, err.text);
}
