/* SPDX-License-Identifier: Apache-2.0 */
/* What must be true. A message is known by its number in the program, whoever sends it in whichever generation. */
#include <string.h>

#include "ckpt/base/mem.h"
#include "tests/sim/cut/sim.h"

/* A synchronous send is complete. */
void check_sent(struct world *world, struct rank *rank, uint32_t message)
{
    if (world->program->messages[message].mode == SEND_SYNCHRONOUS && !world->begun[message] && world->promised[message] == 0)
        violation(world, "rank %u: its synchronous message %u is complete before its receive has begun", rank->self, message);
}

/* It is received, by the posted-th receive. */
void check_promise(struct world *world, struct rank *rank, uint32_t message, uint32_t posted)
{
    uint32_t promised = world->promised[message];
    if (promised != 0 && posted + 1 >= promised)
        violation(world, "rank %u: synchronous message %u was complete before its receive was posted", rank->self, message);
}

void check_received(struct world *world, struct rank *rank, uint32_t message, unsigned comm, int32_t source, int32_t tag)
{
    if (message == NONE32) {
        violation(world, "rank %u: a receive is complete and nothing came", rank->self);
        return;
    }
    const struct message *m = &world->program->messages[message];
    if (m->dst != rank->self || m->comm != comm ||
        (source != CUT_ANY && source != world->program->comm[comm].rank_of[m->src]) || (tag != CUT_ANY && tag != m->tag))
        violation(world, "rank %u: message %u does not match its receive", rank->self, message);
    if (world->got_as[message] != NONE32)
        violation(world, "rank %u: message %u came twice", rank->self, message);
}

/* ---- the definition ---- */

static void count_log(struct world *world, uint32_t rank, uint8_t *logged)
{
    const struct record *r = &world->rank[rank].record;
    struct cut_channel channel;
    struct cut_entry entry;
    const void *payload;
    struct err err = {0};
    uint32_t last[COMMS_MAX][RANKS_MAX][2] = {0}, id;
    enum tide_status status = cut_channel_open(&channel, r->log, r->log_bytes, &err);
    while (status == TIDE_OK && (status = cut_channel_next(&channel, &entry, &payload, &err)) == TIDE_OK &&
           payload != NULL) {
        memcpy(&id, payload, sizeof id);
        const struct message *m = &world->program->messages[id];
        uint32_t *before = &last[m->comm][m->src][m->tag];
        if (m->dst != rank)
            violation(world, "message %u is in the log of rank %u and not for it", id, rank);
        if (m->op < *before)
            violation(world, "message %u is in the log of rank %u behind one that was sent later", id, rank);
        *before = m->op;
        logged[id]++;
        world->totals->logged++;
    }
    if (status != TIDE_OK)
        violation(world, "rank %u: %s", rank, err.text);
}

static void check_message(struct world *world, uint32_t id, unsigned logged)
{
    const struct message *m = &world->program->messages[id];
    const struct record *from = &world->rank[m->src].record, *to = &world->rank[m->dst].record;
    bool sent = m->op < from->pc, received = world->got_as[id] < to->received;
    if (received && !sent)
        violation(world, "message %u, %u to %u, was received in the cut and not sent in it", id, m->src, m->dst);
    else if (received && logged > 0)
        violation(world, "message %u, %u to %u, was received in the cut and is in its log", id, m->src, m->dst);
    else if (sent && !received && logged != 1)
        violation(world, "message %u, %u to %u, was sent in the cut, not received in it, and is in %u logs", id, m->src,
                  m->dst, logged);
    else if (!sent && logged > 0)
        violation(world, "message %u, %u to %u, was not sent in the cut and is in its log", id, m->src, m->dst);
}

static void check_collectives(struct world *world)
{
    for (uint32_t i = 0; i < world->program->comms; i++) {
        const struct comm *c = &world->program->comm[i];
        for (uint32_t k = 1; k < c->size; k++)
            if (world->rank[c->members[k]].record.coll_number[i] != world->rank[c->members[0]].record.coll_number[i])
                violation(world, "the cut lies inside a collective of communicator %u", i);
    }
}

static void keep_cut(struct world *world)
{
    for (uint32_t i = 0; i < world->program->ranks; i++) {
        struct record *r = &world->kept[i];
        unsigned char *log = r->log;
        mem_free(log);
        *r = world->rank[i].record;
        r->log = mem_alloc(r->log_bytes + 1);
        memcpy(r->log, world->rank[i].record.log, r->log_bytes);
    }
    world->has_kept = true;
}

void check_cut(struct world *world, uint64_t cut, uint32_t attempt)
{
    uint8_t *logged = mem_alloc(world->program->message_count + 1);
    world->totals->cuts++;
    for (uint32_t rank = 0; rank < world->program->ranks && !world->broken; rank++) {
        const struct record *r = &world->rank[rank].record;
        if (r->cut != cut || r->attempt != attempt)
            violation(world, "cut %llu is sealed and rank %u has not recorded in it", (unsigned long long)cut, rank);
        else
            count_log(world, rank, logged);
        if (world->leader.mode == CUT_MODE_STEP && r->step != world->rank[0].record.step)
            violation(world, "rank %u recorded at another step than rank 0", rank);
    }
    for (uint32_t id = 0; id < world->program->message_count && !world->broken; id++)
        check_message(world, id, logged[id]);
    check_collectives(world);
    mem_free(logged);
    if (!world->broken && (!world->has_kept || chance(world, 400000)))
        keep_cut(world);
}

/* ---- the end ---- */

/* MPI: of two messages of one sender that a receive could have had, the earlier one goes to the receive that was posted
 * first. */
static void check_overtaking(struct world *world, uint32_t earlier, uint32_t later)
{
    const struct message *a = &world->program->messages[earlier], *b = &world->program->messages[later];
    if (world->got_by[later] < world->got_by[earlier] &&
        (world->got_tag[later] == CUT_ANY || world->got_tag[later] == a->tag))
        violation(world, "message %u, %u to %u, overtook message %u", later, b->src, b->dst, earlier);
}

/* Messages are numbered in the order in which each rank sends them. */
static void check_order(struct world *world)
{
    uint32_t count = world->program->message_count;
    uint32_t *before = mem_alloc((count + 1) * sizeof *before); /* the one before on its channel, + 1 */
    uint32_t last[COMMS_MAX][RANKS_MAX][RANKS_MAX] = {0};
    for (uint32_t id = 0; id < count && !world->broken; id++) {
        const struct message *m = &world->program->messages[id];
        before[id] = last[m->comm][m->src][m->dst];
        last[m->comm][m->src][m->dst] = id + 1;
        for (uint32_t earlier = before[id]; earlier > 0; earlier = before[earlier - 1])
            check_overtaking(world, earlier - 1, id);
    }
    mem_free(before);
}

void check_end(struct world *world)
{
    struct program *p = world->program;
    for (uint32_t id = 0; id < p->message_count; id++)
        if (world->got_as[id] == NONE32)
            violation(world, "message %u, %u to %u, was never received", id, p->messages[id].src, p->messages[id].dst);
    check_order(world);
    for (uint32_t rank = 0; rank < p->ranks; rank++)
        for (uint32_t comm = 0; comm < p->comms; comm++)
            if (!cut_queue_empty(&world->rank[rank].queue[comm]))
                violation(world, "rank %u: messages are left that nobody received", rank);
    world->totals->messages += p->message_count;
}
