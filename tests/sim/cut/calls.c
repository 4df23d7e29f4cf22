/* SPDX-License-Identifier: Apache-2.0 */
/* A rank runs its script, one call after the other. */
#include <string.h>

#include "ckpt/base/mem.h"
#include "tests/sim/cut/sim.h"

enum went {
    WENT_DONE,
    WENT_ON,
    WENT_WAITS,
    WENT_POLLS,
    WENT_OVER
}; /* on: another call of the same op; waits: MPI wakes it */

#define BETWEEN_CALLS_NS (MS / 2)

static void on_step(struct world *world, void *subject, uint64_t stamp);

void rank_wake(struct world *world, struct rank *rank, uint64_t in)
{
    world_at(world, world->now + in, on_step, rank, ++rank->wake);
}

void rank_woken_by_mpi(struct world *world, unsigned rank)
{
    if (world->rank[rank].plain)
        rank_wake(world, &world->rank[rank], 0);
}

static void deliver(struct world *world, struct rank *rank, uint32_t message, uint32_t posted, const struct op *op)
{
    check_received(world, rank, message, op->comm, op->source, op->tag);
    if (message == NONE32)
        return;
    check_promise(world, rank, message, posted);
    world->got_by[message] = posted;
    world->got_tag[message] = op->tag;
    world->got_as[message] = rank->received_count;
    rank->received[rank->received_count++] = message;
}

/* How it waits is decided when it begins to: a plain call of MPI's does not look. */
static enum went wait_begins(struct rank *rank, const struct ireq *ireq, bool tests)
{
    return cut_rank_polls(&rank->cut) || tests || (ireq != NULL && ireq->copied) ? WENT_POLLS : WENT_WAITS;
}

static enum went wait_on(struct world *world, struct rank *rank, struct ireq *ireq, const struct op *opened, bool first,
                         bool tests)
{
    if (!first && !rank->plain)
        shell_attend(world, rank);
    if (shell_test(world, rank, ireq)) {
        uint32_t message = ireq->message, posted = ireq->posted;
        unsigned kind = ireq->kind;
        cut_rank_not_held(&rank->cut);
        shell_seen(rank, ireq);
        if (kind == OP_IRECV)
            deliver(world, rank, message, posted, opened);
        else if (kind == OP_ISEND)
            check_sent(world, rank, message);
        return WENT_DONE;
    }
    if (!first && rank->plain)
        return WENT_WAITS;
    if (ireq->kind == OP_IRECV && (!first || tests))
        shell_early(world, rank, ireq->comm, ireq->receive.source, ireq->receive.tag);
    return first ? wait_begins(rank, ireq, tests) : WENT_POLLS;
}

/* ---- sends and receives ---- */

static enum went op_send(struct world *world, struct rank *rank, const struct op *op)
{
    bool first = rank->phase++ == 0;
    if (first)
        shell_send(world, rank, &rank->blocking, op->message);
    return wait_on(world, rank, &rank->blocking, op, first, false);
}

static struct ireq *open_slot(struct world *world, struct rank *rank, const struct op *op)
{
    struct slot *slot = &rank->slots[op->slot];
    slot->ireq = world_alloc(world, sizeof *slot->ireq);
    slot->op = *op;
    return slot->ireq;
}

static enum went op_recv(struct world *world, struct rank *rank, const struct op *op)
{
    bool first = rank->phase++ == 0;
    if (first)
        shell_post(world, rank, &rank->blocking, op->comm, op->source, op->tag);
    return wait_on(world, rank, &rank->blocking, op, first, false);
}

static enum went op_wait(struct world *world, struct rank *rank, const struct op *op)
{
    struct slot *slot = &rank->slots[op->slot];
    if (slot->ireq == NULL)
        return WENT_DONE; /* a send of before a restart */
    enum went went = wait_on(world, rank, slot->ireq, &slot->op, rank->phase++ == 0, op->tests);
    if (went == WENT_DONE)
        slot->ireq = NULL;
    return went;
}

/* ---- probes ---- */

static uint32_t probe(struct world *world, struct rank *rank, const struct op *op)
{
    struct cut_message *m = cut_queue_find(&rank->queue[op->comm], op->source, op->tag);
    if (m != NULL)
        return ((struct qmsg *)m)->id;
    if (cut_rank_matches(&rank->cut))
        return NONE32;
    struct packet *packet = pmpi_iprobe(world, rank, op->comm, rank->cut.colour, op->source, op->tag);
    return packet != NULL ? packet->message : NONE32;
}

static enum went op_probe(struct world *world, struct rank *rank, const struct op *op)
{
    enum { PROBING_FIRST, PROBING, RECEIVING_FIRST, RECEIVING };
    if (rank->phase <= PROBING) {
        bool first = rank->phase == PROBING_FIRST;
        if (!first && !rank->plain)
            shell_attend(world, rank);
        rank->probed_id = probe(world, rank, op);
        rank->phase = rank->probed_id != NONE32 ? RECEIVING_FIRST : PROBING;
        if (rank->probed_id != NONE32) {
            cut_rank_not_held(&rank->cut);
            return WENT_ON;
        }
        if (!first && rank->plain)
            return WENT_WAITS;
        shell_early(world, rank, op->comm, op->source, op->tag);
        return first ? wait_begins(rank, NULL, false) : WENT_POLLS;
    }
    const struct message *m = &world->program->messages[rank->probed_id];
    struct op just = *op;
    just.source = world->program->comm[op->comm].rank_of[m->src];
    just.tag = m->tag;
    bool first = rank->phase++ == RECEIVING_FIRST;
    if (first)
        shell_post(world, rank, &rank->blocking, op->comm, just.source, just.tag);
    enum went went = wait_on(world, rank, &rank->blocking, &just, first, false);
    if (went == WENT_DONE && rank->received[rank->received_count - 1] != rank->probed_id)
        violation(world, "rank %u: a receive did not get the message that was probed", rank->self);
    return went;
}

static uint32_t mprobe(struct world *world, struct rank *rank, const struct op *op)
{
    struct cut_message *m = cut_queue_find(&rank->queue[op->comm], op->source, op->tag);
    if (m != NULL) {
        cut_queue_take(&rank->queue[op->comm], m);
        rank->probed = (struct qmsg *)m;
        rank->mprobed = rank->probed->packet;
        return rank->probed->id;
    }
    if (cut_rank_matches(&rank->cut))
        return NONE32;
    rank->mprobed = pmpi_improbe(world, rank, op->comm, rank->cut.colour, op->source, op->tag);
    if (rank->mprobed == NULL)
        return NONE32;
    cut_rank_arrived(&rank->cut, rank->mprobed->src);
    firsts_arrived(world, rank, op->comm, rank->mprobed->src);
    return rank->mprobed->message;
}

static enum went op_mprobe(struct world *world, struct rank *rank, const struct op *op)
{
    enum { PROBING_FIRST, PROBING, RECEIVING };
    bool first = rank->phase == PROBING_FIRST;
    if (!first && !rank->plain)
        shell_attend(world, rank);
    if (rank->phase != RECEIVING) {
        rank->probed_id = mprobe(world, rank, op);
        rank->phase = rank->probed_id != NONE32 ? RECEIVING : PROBING;
        if (rank->probed_id != NONE32) {
            cut_rank_not_held(&rank->cut);
            return WENT_ON;
        }
        if (!first && rank->plain)
            return WENT_WAITS;
        shell_early(world, rank, op->comm, op->source, op->tag);
        return first ? wait_begins(rank, NULL, false) : WENT_POLLS;
    }
    if (rank->mprobed != NULL && !rank->mprobed->matched)
        shell_imrecv(world, rank->mprobed);
    if (rank->mprobed != NULL && !rank->mprobed->whole)
        return WENT_POLLS;
    deliver(world, rank, rank->probed_id, rank->posted++, op);
    return WENT_DONE;
}

/* ---- collectives ---- */

static struct coll *enter(struct world *world, struct rank *rank, const struct op *op)
{
    rank->collectives[op->comm]++;
    return pmpi_coll(world, rank, op->comm, rank->coll_number[op->comm]++, op->message);
}

static enum went op_coll(struct world *world, struct rank *rank, const struct op *op)
{
    if (rank->phase++ == 0) {
        bool all = op->message == 0 || op->message - 1 == rank->self;
        struct cut_call call = {.comm = world->program->comm[op->comm].id,
                                .number = rank->collectives[op->comm] + 1,
                                .root = all ? CUT_CALL_OF_ALL : op->message - 1};
        shell_park(world, rank, &call);
        rank->blocking.coll = enter(world, rank, op);
    }
    if (!rank->blocking.coll->ready[rank->self])
        return WENT_WAITS;
    shell_unpark(world, rank);
    return WENT_DONE;
}

static enum went op_icoll(struct world *world, struct rank *rank, const struct op *op)
{
    struct ireq *ireq = open_slot(world, rank, op);
    *ireq = (struct ireq){.kind = OP_ICOLL, .state = IREQ_REAL};
    ireq->coll = enter(world, rank, op);
    return WENT_DONE;
}

/* ---- the script ---- */

static enum went op_compute(struct world *world, struct rank *rank, const struct op *op)
{
    if (rank->phase++ > 0)
        return WENT_DONE;
    rank_wake(world, rank, op->number * (chance(world, world->lies.slow) ? 20 : 1));
    return WENT_OVER;
}

static enum went execute(struct world *world, struct rank *rank, const struct op *op)
{
    switch (op->kind) {
    case OP_COMPUTE:
        return op_compute(world, rank, op);
    case OP_SEND:
        return op_send(world, rank, op);
    case OP_ISEND:
        shell_send(world, rank, open_slot(world, rank, op), op->message);
        return WENT_DONE;
    case OP_RECV:
        return op_recv(world, rank, op);
    case OP_IRECV:
        shell_post(world, rank, open_slot(world, rank, op), op->comm, op->source, op->tag);
        return WENT_DONE;
    case OP_PROBE:
        return op_probe(world, rank, op);
    case OP_MPROBE:
        return op_mprobe(world, rank, op);
    case OP_WAIT:
        return op_wait(world, rank, op);
    case OP_COLL:
        return op_coll(world, rank, op);
    case OP_ICOLL:
        return op_icoll(world, rank, op);
    case OP_STEP:
        shell_safe_point(world, rank, op->number);
        return WENT_DONE;
    case OP_LEAVE:
        shell_leave(world, rank);
        return WENT_DONE;
    default:
        if (!shell_finalize(world, rank))
            return WENT_POLLS;
        rank->ended = true;
        world->ended++;
        TRACE(world, "rank %u ends", rank->self);
        return WENT_OVER;
    }
}

static bool is_call_of_mpi(const struct op *op)
{
    return op->kind != OP_COMPUTE && op->kind != OP_STEP && op->kind != OP_LEAVE && op->kind != OP_FINALIZE;
}

static void on_step(struct world *world, void *subject, uint64_t stamp)
{
    struct rank *rank = subject;
    if (stamp != rank->wake || rank->ended || world->broken)
        return;
    const struct op *op = &world->program->ops[rank->self][rank->pc];
    if (rank->phase == 0 && is_call_of_mpi(op))
        shell_attend(world, rank);
    switch (execute(world, rank, op)) {
    case WENT_DONE:
        rank->pc++;
        rank->phase = 0;
        rank->plain = false;
        rank_wake(world, rank, between(world, 0, BETWEEN_CALLS_NS));
        return;
    case WENT_ON:
        rank->plain = false;
        rank_wake(world, rank, between(world, 0, BETWEEN_CALLS_NS));
        return;
    case WENT_WAITS:
        rank->plain = true;
        return;
    case WENT_POLLS:
        rank->plain = false;
        rank_wake(world, rank, between(world, 1, world->lies.poll_ns));
        return;
    case WENT_OVER:
        return;
    }
}

/* ---- begin, restart ---- */

/* Receives that were outstanding at the record are posted again, in the order they had. */
static void post_again(struct world *world, struct rank *rank, const struct record *from)
{
    uint32_t next, after = 0; /* after: those posted before are done */
    do {
        next = NONE32;
        for (uint32_t i = 0; i < REQUESTS_MAX; i++)
            if (from->slots[i].ireq != NULL && from->slots[i].op.kind == OP_IRECV && from->slot_posted[i] >= after &&
                (next == NONE32 || from->slot_posted[i] < from->slot_posted[next]))
                next = i;
        if (next == NONE32)
            return;
        after = from->slot_posted[next] + 1;
        const struct op *op = &from->slots[next].op;
        struct ireq *ireq = open_slot(world, rank, op);
        shell_post(world, rank, ireq, op->comm, op->source, op->tag);
        ireq->posted = from->slot_posted[next];
    } while (next != NONE32);
}

void rank_begin(struct world *world, struct rank *rank, const struct record *from, const struct rank *before)
{
    shell_begin(world, rank);
    rank->received = world_alloc(world, (world->program->message_count + 1) * sizeof *rank->received);
    if (from != NULL) {
        rank->pc = from->pc;
        rank->received_count = from->received;
        rank->posted = from->posted;
        rank->page.step = from->step;
        memcpy(rank->coll_number, from->coll_number, sizeof rank->coll_number);
        memcpy(rank->received, before->received, from->received * sizeof *rank->received);
        shell_load(world, rank, from);
        post_again(world, rank, from);
    }
    rank_wake(world, rank, between(world, 0, 10 * MS));
}
