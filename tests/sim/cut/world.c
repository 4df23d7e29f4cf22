/* SPDX-License-Identifier: Apache-2.0 */
/* Time, chance, memory, and one life of a job. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "tests/sim/cut/sim.h"

#define BLOCK_BYTES (UINT64_C(1) << 16)
#define LONGEST_NS (900 * 1000 * MS) /* no program takes that long by itself */
#define CLOSE_NS (60 * 1000 * MS)    /* after the last rank's end, a leader that lives has closed the attempt */

void world_trace(struct world *world, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%10.3f ms  ", (double)world->now / (double)MS);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

void violation(struct world *world, const char *format, ...)
{
    va_list args;
    if (world->broken)
        return;
    world->broken = true;
    world->totals->violations++;
    va_start(args, format);
    printf("seed %llu at %.3f ms: VIOLATION: ", (unsigned long long)world->seed, (double)world->now / (double)MS);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

void *world_alloc(struct world *world, size_t bytes)
{
    bytes = (bytes + 15) / 16 * 16;
    size_t room = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    if (world->block_count == 0 || world->block_used + bytes > BLOCK_BYTES) {
        world->blocks = mem_grow(world->blocks, world->block_count + 1, sizeof *world->blocks);
        world->blocks[world->block_count++] = mem_alloc(room);
        world->block_used = 0;
    }
    void *at = (char *)world->blocks[world->block_count - 1] + world->block_used;
    world->block_used += bytes;
    return at;
}

uint64_t between(struct world *world, uint64_t low, uint64_t high)
{
    return low + rng_below(&world->rng, high - low + 1);
}

bool chance(struct world *world, uint32_t millionths)
{
    return millionths > 0 && rng_below(&world->rng, 1000000) < millionths;
}

/* ---- events, a binary heap ---- */

static bool sooner(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->sequence < b->sequence;
}

void world_at(struct world *world, uint64_t at, void (*run)(struct world *, void *, uint64_t), void *subject,
              uint64_t number)
{
    if (world->heap_count == world->heap_room) {
        world->heap_room = world->heap_room ? 2 * world->heap_room : 256;
        world->heap = mem_grow(world->heap, world->heap_room, sizeof *world->heap);
    }
    struct event event = {.at = at, .sequence = world->sequence++, .run = run, .subject = subject, .number = number};
    size_t i = world->heap_count++;
    for (; i > 0 && sooner(&event, &world->heap[(i - 1) / 2]); i = (i - 1) / 2)
        world->heap[i] = world->heap[(i - 1) / 2];
    world->heap[i] = event;
}

static struct event next_event(struct world *world)
{
    struct event first = world->heap[0], last = world->heap[--world->heap_count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < world->heap_count) {
        if (child + 1 < world->heap_count && sooner(&world->heap[child + 1], &world->heap[child]))
            child++;
        if (!sooner(&world->heap[child], &last))
            break;
        world->heap[i] = world->heap[child];
        i = child;
    }
    world->heap[i] = last;
    return first;
}

/* ---- one life ---- */

static uint32_t maybe(struct world *world, uint32_t of, uint32_t most)
{
    return chance(world, of) ? (uint32_t)between(world, 1, most) : 0;
}

/* Half of all lives are calm: cuts succeed, and many come one behind the other. */
static void draw_lies(struct world *world)
{
    bool calm = chance(world, 500000);
    world->lies = (struct lies){.delay_ns = between(world, MS / 10, chance(world, 150000) ? 400 * MS : 30 * MS),
                                .report_ns = between(world, 2 * MS, calm || chance(world, 500000) ? 8 * MS : 40 * MS),
                                .poll_ns = between(world, 2 * MS, 40 * MS),
                                .margin = calm ? 2 : (uint32_t)between(world, 1, 12)};
    world->lies.weak = chance(world, 400000);
    if (calm)
        return;
    world->lies.loss = maybe(world, 500000, 300000);
    world->lies.orphan = maybe(world, 150000, 100000);
    world->lies.doubled = maybe(world, 500000, 200000);
    world->lies.late = maybe(world, 500000, 200000);
    world->lies.leader = maybe(world, 400000, 60000);
    world->lies.agent = maybe(world, 300000, 30000);
    world->lies.no_room = maybe(world, 150000, 100000);
    world->lies.refuse = maybe(world, 150000, 50000);
    world->lies.slow = maybe(world, 300000, 20000);
}

static void count_collectives(struct world *world)
{
    struct program *p = world->program;
    for (uint32_t comm = 0; comm < p->comms; comm++) {
        uint32_t member = p->comm[comm].members[0], count = 0;
        for (uint32_t i = 0; i < p->op_count[member]; i++)
            count +=
                (p->ops[member][i].kind == OP_COLL || p->ops[member][i].kind == OP_ICOLL) && p->ops[member][i].comm == comm;
        world->colls[comm] = world_alloc(world, (count + 1) * sizeof *world->colls[comm]);
    }
}

static void begin(struct world *world, const struct record *from, const struct world *before)
{
    struct program *p = world->program;
    world->got_by = world_alloc(world, (p->message_count + 1) * sizeof *world->got_by);
    world->got_as = world_alloc(world, (p->message_count + 1) * sizeof *world->got_as);
    world->got_tag = world_alloc(world, (p->message_count + 1) * sizeof *world->got_tag);
    world->begun = world_alloc(world, (p->message_count + 1) * sizeof *world->begun);
    world->promised = world_alloc(world, (p->message_count + 1) * sizeof *world->promised);
    for (uint32_t id = 0; id < p->message_count; id++) {
        world->got_as[id] = NONE32;
        if (from == NULL || before->got_as[id] >= from[p->messages[id].dst].received)
            continue;
        world->got_as[id] = before->got_as[id];
        world->got_by[id] = before->got_by[id];
        world->got_tag[id] = before->got_tag[id];
    }
    pmpi_begin(world);
    count_collectives(world);
    for (uint32_t i = 0; i < p->ranks; i++) {
        world->rank[i].self = (uint8_t)i;
        rank_begin(world, &world->rank[i], from != NULL ? &from[i] : NULL, from != NULL ? &before->rank[i] : NULL);
    }
    if (!world->no_cuts)
        control_begin(world);
}

static void stuck(struct world *world)
{
    for (uint32_t i = 0; i < world->program->ranks; i++) {
        const struct rank *r = &world->rank[i];
        const struct op *op = &world->program->ops[i][r->pc];
        if (r->ended)
            continue;
        TRACE(world, "rank %u: call %u, kind %u, slot %u, comm %u, source %d, tag %d, state %s%s", i, r->pc, op->kind,
              op->slot, op->comm, op->source, op->tag, cut_rank_state_name(r->cut.state),
              r->plain ? ", waiting in MPI" : "");
        for (unsigned k = 0; k < COMMS_MAX * 2 && world->trace; k++)
            for (const struct packet *p = world->endpoint[i][k / 2][k % 2].first; p != NULL; p = p->next)
                TRACE(world, "  unmatched: message %u of rank %u, comm %u, tag %d, colour %u, ours %u", p->message, p->src,
                      k / 2, p->tag, k % 2, r->cut.colour);
        violation(world, "rank %u never ends: call %u, kind %u, state %s%s", i, r->pc, op->kind,
                  cut_rank_state_name(r->cut.state), r->plain ? ", waiting in MPI" : "");
    }
}

bool world_run(struct world *world, struct program *program, uint64_t seed, const struct record *from,
               const struct world *before)
{
    world->program = program;
    world->seed = seed;
    uint64_t ended_at = 0;
    draw_lies(world);
    begin(world, from, before);
    while (!world->broken) {
        const struct leader *l = &world->leader;
        bool all = world->ended == program->ranks;
        if (all && ended_at == 0)
            ended_at = world->now;
        if (all && (world->no_cuts || l->order.stage == CUT_STAGE_CLOSED || l->gone_for_good))
            break;
        if (world->heap_count == 0 || (!all && world->now > LONGEST_NS)) {
            stuck(world);
            break;
        }
        if (all && world->now > ended_at + CLOSE_NS)
            violation(world, "all ranks have ended, and the attempt is not closed: stage %u", l->order.stage);
        struct event event = next_event(world);
        world->now = event.at;
        world->totals->events++;
        event.run(world, event.subject, event.number);
    }
    if (!world->broken)
        check_end(world);
    world->totals->virtual_ns += world->now;
    return !world->broken;
}

void world_release(struct world *world)
{
    for (size_t i = 0; i < world->block_count; i++)
        mem_free(world->blocks[i]);
    for (uint32_t i = 0; i < RANKS_MAX; i++) {
        cut_rank_release(&world->rank[i].cut);
        cut_sends_clear(&world->rank[i].sends);
        mem_free(world->rank[i].record.log);
        mem_free(world->rank[i].copy);
        mem_free(world->kept[i].log);
    }
    mem_free(world->blocks);
    mem_free(world->heap);
    *world = (struct world){0};
}
