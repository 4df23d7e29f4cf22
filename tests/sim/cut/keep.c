/* SPDX-License-Identifier: Apache-2.0 */
/* What is matched and not yet done with: into the log in the order it was matched. */
#include <string.h>

#include "ckpt/base/mem.h"
#include "tests/sim/cut/sim.h"

static void append(struct world *world, struct rank *rank, uint32_t id)
{
    struct record *r = &rank->record;
    const struct message *m = &world->program->messages[id];
    struct cut_entry entry = {.comm = world->program->comm[m->comm].id,
                              .source = (uint32_t)world->program->comm[m->comm].rank_of[m->src],
                              .tag = m->tag,
                              .bytes = sizeof id};
    size_t bytes = cut_channel_entry_bytes(sizeof id);
    if (r->log_bytes + bytes > r->log_room) {
        r->log_room = 2 * (r->log_bytes + bytes);
        r->log = mem_grow(r->log, r->log_room, 1);
    }
    memcpy(cut_channel_frame(r->log + r->log_bytes, &entry), &id, sizeof id);
    r->log_bytes += bytes;
    r->logged++;
}

static void record_void(struct world *world, struct rank *rank)
{
    TRACE(world, "rank %u: its record is not whole", rank->self);
    cut_rank_void(&rank->cut);
    rank->page.result = RECORD_FAILED;
}

void keep_add(struct world *world, struct rank *rank, struct keep with)
{
    struct keep *k = world_alloc(world, sizeof *k);
    *k = with;
    *rank->keep_last = k;
    rank->keep_last = &k->next;
}

/* It can be logged, or needs not be. */
static bool keep_ready(struct world *world, struct rank *rank, struct keep *k)
{
    struct packet *packet = k->taken != NULL ? k->taken->packet : NULL;
    if (packet == NULL)
        return k->taken != NULL || k->whole;
    if (packet->matched)
        return packet->whole;
    switch (cut_rank_bytes(&rank->cut, packet->src)) {
    case CUT_BYTES_LATER:
        return false;
    case CUT_BYTES_TAKE:
        pmpi_imrecv(world, packet);
        return packet->whole;
    default:
        k->log = false;
        return true;
    }
}

static void keep_one(struct world *world, struct rank *rank, struct keep *k)
{
    if (!k->log || rank->cut.state != CUT_RANK_DRAINING)
        return;
    if (rank->page.words.settled_epoch >= rank->cut.epoch)
        violation(world, "rank %u: its log grows although all is settled", rank->self);
    if (chance(world, world->lies.no_room))
        record_void(world, rank);
    else
        append(world, rank, k->taken != NULL ? k->taken->id : k->id);
}

/* Published when all that can be appended is: what had arrived before the flip stands in this line too, and counts for
 * nothing. */
void keep_on(struct world *world, struct rank *rank)
{
    while (rank->keep_first != NULL && keep_ready(world, rank, rank->keep_first)) {
        struct keep *k = rank->keep_first;
        rank->keep_first = k->next;
        if (rank->keep_first == NULL)
            rank->keep_last = &rank->keep_first;
        keep_one(world, rank, k);
        if (!k->counted)
            cut_rank_done(&rank->cut);
    }
    rank->page.arrived_before = rank->cut.arrived_before;
}
