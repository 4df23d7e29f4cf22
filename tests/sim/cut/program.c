/* SPDX-License-Identifier: Apache-2.0 */
/* Programs, invented. All ranks' scripts are written together, one thing after the other, in an order in which they could be
 * run with sends that wait for their receives: so no program deadlocks by itself, whatever is overtaken and whoever is
 * matched. */
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/cut/comm_id.h"
#include "tests/sim/cut/sim.h"

#define TAGS 2
#define TRIES 8
#define ROUNDABOUT 30 /* percent of meetings, where it is possible */

/* How receives of one rank on one communicator name what they want. */
enum style { BY_SOURCE_AND_TAG, BY_TAG, BY_SOURCE, BY_NOTHING, STYLES };

/* Messages that the same receives want: how many were sent, and how many receives posted. */
struct class
{
    uint32_t sent, posted;
};

struct open_slot {
    bool used, late; /* late: may only be waited for at the very end */
    uint8_t kind;
    struct class *class;
    uint32_t number; /* the how many-th of the class */
    uint8_t comm, peer;
    int32_t tag;
};

struct maker {
    struct program *p;
    struct rng *rng;
    uint8_t style[COMMS_MAX][RANKS_MAX];
    struct class class[COMMS_MAX][RANKS_MAX][RANKS_MAX][TAGS];
    struct open_slot slots[RANKS_MAX][REQUESTS_MAX];
    uint64_t step[RANKS_MAX];
    uint32_t rendezvous, wildcards, meetings, waits_late, compute_ms; /* in percent */
};

static uint32_t below(struct maker *m, uint32_t bound)
{
    return (uint32_t)rng_below(m->rng, bound);
}

static bool percent(struct maker *m, uint32_t of)
{
    return below(m, 100) < of;
}

static struct op *add(struct maker *m, uint32_t rank, struct op op)
{
    struct program *p = m->p;
    if (p->op_count[rank] == p->op_room[rank]) {
        p->op_room[rank] = p->op_room[rank] ? 2 * p->op_room[rank] : 64;
        p->ops[rank] = mem_grow(p->ops[rank], p->op_room[rank], sizeof *p->ops[rank]);
    }
    p->ops[rank][p->op_count[rank]] = op;
    return &p->ops[rank][p->op_count[rank]++];
}

static struct class *class_of(struct maker *m, uint32_t comm, uint32_t dst, uint32_t src, int32_t tag)
{
    uint8_t style = m->style[comm][dst];
    bool by_source = style == BY_SOURCE_AND_TAG || style == BY_SOURCE,
         by_tag = style == BY_SOURCE_AND_TAG || style == BY_TAG;
    return &m->class[comm][dst][by_source ? src : 0][by_tag ? tag : 0];
}

static bool wildcard_source(const struct maker *m, uint32_t comm, uint32_t dst)
{
    return m->style[comm][dst] == BY_TAG || m->style[comm][dst] == BY_NOTHING;
}

static int free_slot(const struct maker *m, uint32_t rank)
{
    for (int i = 0; i < (int)REQUESTS_MAX; i++)
        if (!m->slots[rank][i].used)
            return i;
    return -1;
}

/* ---- receives ---- */

static struct op pattern(struct maker *m, uint32_t comm, uint32_t dst, uint32_t src, int32_t tag)
{
    uint8_t style = m->style[comm][dst];
    struct op op = {.comm = (uint8_t)comm, .source = m->p->comm[comm].rank_of[src], .tag = tag};
    if (style == BY_TAG || style == BY_NOTHING)
        op.source = CUT_ANY;
    if (style == BY_SOURCE || style == BY_NOTHING)
        op.tag = CUT_ANY;
    return op;
}

/* One more receive of the class; a blocking one only where a message is there for it. */
static void receive(struct maker *m, uint32_t comm, uint32_t dst, uint32_t src, int32_t tag, bool nonblocking)
{
    struct class *class = class_of(m, comm, dst, src, tag);
    struct op op = pattern(m, comm, dst, src, tag);
    int slot = free_slot(m, dst);
    if (class->sent <= class->posted && slot < 0)
        return;
    class->posted++;
    if (class->sent < class->posted || (nonblocking && slot >= 0)) {
        m->slots[dst][slot] = (struct open_slot){.used = true,
                                                 .kind = OP_IRECV,
                                                 .class = class,
                                                 .number = class->posted,
                                                 .comm = (uint8_t)comm,
                                                 .peer = (uint8_t)src,
                                                 .tag = tag};
        op.kind = OP_IRECV;
        op.slot = (uint8_t)slot;
    } else {
        static const uint8_t kinds[] = {OP_RECV, OP_RECV, OP_RECV, OP_PROBE, OP_MPROBE};
        op.kind = kinds[below(m, sizeof kinds)];
    }
    add(m, dst, op);
}

/* ---- sends ---- */

static uint32_t new_message(struct maker *m, uint32_t comm, uint32_t src, uint32_t dst, int32_t tag, unsigned mode)
{
    struct program *p = m->p;
    if (p->message_count == p->message_room) {
        p->message_room = p->message_room ? 2 * p->message_room : 256;
        p->messages = mem_grow(p->messages, p->message_room, sizeof *p->messages);
    }
    p->messages[p->message_count] = (struct message){.src = (uint8_t)src,
                                                     .dst = (uint8_t)dst,
                                                     .comm = (uint8_t)comm,
                                                     .mode = (uint8_t)mode,
                                                     .tag = tag,
                                                     .op = p->op_count[src]};
    class_of(m, comm, dst, src, tag)->sent++;
    return p->message_count++;
}

static void send_eager(struct maker *m, uint32_t comm, uint32_t src, uint32_t dst, int32_t tag)
{
    uint32_t id = new_message(m, comm, src, dst, tag, SEND_EAGER);
    add(m, src, (struct op){.kind = OP_SEND, .comm = (uint8_t)comm, .message = id});
}

/* A send that waits for its receive comes right before it. Where receives name no source they may take another message. */
static void send_blocking(struct maker *m, uint32_t comm, uint32_t src, uint32_t dst, int32_t tag)
{
    struct class *class = class_of(m, comm, dst, src, tag);
    if (src == dst || wildcard_source(m, comm, dst) || !percent(m, m->rendezvous)) {
        send_eager(m, comm, src, dst, tag);
        return;
    }
    uint32_t id = new_message(m, comm, src, dst, tag, percent(m, 40) ? SEND_SYNCHRONOUS : SEND_RENDEZVOUS);
    add(m, src, (struct op){.kind = OP_SEND, .comm = (uint8_t)comm, .message = id});
    while (class->posted < class->sent)
        receive(m, comm, dst, src, tag, percent(m, 30));
}

static void send_nonblocking(struct maker *m, uint32_t comm, uint32_t src, uint32_t dst, int32_t tag)
{
    int slot = free_slot(m, src);
    bool late = wildcard_source(m, comm, dst);
    if (slot < 0 || (late && !m->p->reposts)) {
        send_blocking(m, comm, src, dst, tag);
        return;
    }
    unsigned mode = percent(m, m->rendezvous) ? (percent(m, 40) ? SEND_SYNCHRONOUS : SEND_RENDEZVOUS) : SEND_EAGER;
    uint32_t id = new_message(m, comm, src, dst, tag, mode);
    struct class *class = class_of(m, comm, dst, src, tag);
    m->slots[src][slot] = (struct open_slot){.used = true,
                                             .late = late,
                                             .kind = OP_ISEND,
                                             .class = class,
                                             .number = class->sent,
                                             .comm = (uint8_t)comm,
                                             .peer = (uint8_t)dst,
                                             .tag = tag};
    add(m, src, (struct op){.kind = OP_ISEND, .comm = (uint8_t)comm, .slot = (uint8_t)slot, .message = id});
}

/* ---- waits ---- */

static bool may_wait(const struct open_slot *s)
{
    if (!s->used || s->late)
        return false;
    return s->kind == OP_ICOLL || (s->kind == OP_IRECV ? s->class->sent : s->class->posted) >= s->number;
}

static void wait_for(struct maker *m, uint32_t rank, uint32_t slot)
{
    m->slots[rank][slot].used = false;
    add(m, rank, (struct op){.kind = OP_WAIT, .slot = (uint8_t)slot, .tests = percent(m, 30)});
}

/* Let the rest of the world do what the rank's requests wait for, and wait for them. */
static void close_slots(struct maker *m, uint32_t rank)
{
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        struct open_slot *s = &m->slots[rank][i];
        if (!s->used || s->late || (m->p->reposts && s->kind != OP_ICOLL))
            continue;
        while (s->kind == OP_IRECV && s->class->sent < s->number) {
            uint32_t src = wildcard_source(m, s->comm, rank)
                               ? m->p->comm[s->comm].members[below(m, m->p->comm[s->comm].size)]
                               : s->peer;
            send_eager(m, s->comm, src, rank, s->tag);
        }
        while (s->kind == OP_ISEND && s->class->posted < s->number)
            receive(m, s->comm, s->peer, rank, s->tag, false);
        wait_for(m, rank, i);
    }
}

/* ---- one thing after the other ---- */

/* root: a rank's and 1; 0: it waits for all. */
static void collective_of(struct maker *m, uint32_t comm, uint32_t root, bool nonblocking)
{
    const struct comm *c = &m->p->comm[comm];
    for (uint32_t i = 0; i < c->size; i++) {
        int slot = nonblocking ? free_slot(m, c->members[i]) : -1;
        nonblocking = nonblocking && slot >= 0;
    }
    for (uint32_t i = 0; i < c->size; i++) {
        uint32_t rank = c->members[i];
        struct op op = {.kind = nonblocking ? OP_ICOLL : OP_COLL, .comm = (uint8_t)comm, .message = root};
        if (nonblocking) {
            int slot = free_slot(m, rank);
            op.slot = (uint8_t)slot;
            m->slots[rank][slot] = (struct open_slot){.used = true, .kind = OP_ICOLL};
        }
        add(m, rank, op);
    }
}

static void collective(struct maker *m)
{
    uint32_t comm = below(m, m->p->comms);
    const struct comm *c = &m->p->comm[comm];
    uint32_t root = percent(m, 40) ? c->members[below(m, c->size)] + 1 : 0;
    collective_of(m, comm, root, percent(m, 30));
}

static uint32_t other_member(const struct maker *m, uint32_t comm, uint32_t rank)
{
    const struct comm *c = &m->p->comm[comm];
    return c->members[0] != rank ? c->members[0] : c->members[1];
}

/* A communicator of the receiver's and of others, without the sender; COMMS_MAX: there is none. */
static uint32_t roundabout(const struct maker *m, uint32_t dst, uint32_t first)
{
    for (uint32_t by = 1; by < m->p->comms; by++) {
        const struct comm *c = &m->p->comm[by];
        if (c->size > 1 && c->rank_of[dst] >= 0 && c->rank_of[first] < 0)
            return by;
    }
    return COMMS_MAX;
}

/* A rank receives ahead, of any source, and comes to a collective. Another sends to it, synchronously, and comes there when that is
 * complete; a third sends to it behind the collective. There are as many receives as messages, and what is sent later to these
 * receives is sent behind the collective: so the first message has its receive before that.
 * Roundabout: before that the receiver comes to one of other ranks, without the sender; but one of those waits for the sender's
 * next message. */
static void meeting(struct maker *m)
{
    uint32_t comm = below(m, m->p->comms);
    const struct comm *c = &m->p->comm[comm];
    uint32_t dst = c->members[below(m, c->size)], first = c->members[below(m, c->size)], second = c->members[below(m, c->size)];
    int32_t tag = (int32_t)below(m, TAGS);
    struct class *class = class_of(m, comm, dst, first, tag);
    if (first == dst || !wildcard_source(m, comm, dst) || class->sent != class->posted || free_slot(m, dst) < 0)
        return;
    uint32_t by = percent(m, ROUNDABOUT) ? roundabout(m, dst, first) : COMMS_MAX;
    receive(m, comm, dst, first, tag, true);
    uint32_t id = new_message(m, comm, first, dst, tag, SEND_SYNCHRONOUS);
    add(m, first, (struct op){.kind = OP_SEND, .comm = (uint8_t)comm, .message = id});
    if (by < COMMS_MAX) {
        send_eager(m, 0, first, other_member(m, by, dst), tag);
        receive(m, 0, other_member(m, by, dst), first, tag, false);
        collective_of(m, by, 0, false);
    }
    collective_of(m, comm, 0, false);
    send_eager(m, comm, second, dst, tag);
    receive(m, comm, dst, second, tag, false);
}

static void some_message(struct maker *m)
{
    uint32_t comm = below(m, m->p->comms);
    const struct comm *c = &m->p->comm[comm];
    uint32_t src = c->members[below(m, c->size)], dst = c->members[below(m, c->size)];
    if (src == dst && !percent(m, 20))
        dst = c->members[below(m, c->size)];
    int32_t tag = (int32_t)below(m, TAGS);
    if (percent(m, 35))
        send_nonblocking(m, comm, src, dst, tag);
    else
        send_blocking(m, comm, src, dst, tag);
}

static void some_receive(struct maker *m, bool ahead)
{
    for (unsigned i = 0; i < TRIES; i++) {
        uint32_t comm = below(m, m->p->comms);
        const struct comm *c = &m->p->comm[comm];
        uint32_t src = c->members[below(m, c->size)], dst = c->members[below(m, c->size)];
        int32_t tag = (int32_t)below(m, TAGS);
        struct class *class = class_of(m, comm, dst, src, tag);
        if (ahead ? class->posted < class->sent + 2 : class->posted < class->sent) {
            receive(m, comm, dst, src, tag, ahead || percent(m, 25));
            return;
        }
    }
}

static void some_wait(struct maker *m)
{
    uint32_t rank = below(m, m->p->ranks), slot = below(m, REQUESTS_MAX);
    for (uint32_t i = 0; i < REQUESTS_MAX; i++, slot = (slot + 1) % REQUESTS_MAX)
        if (may_wait(&m->slots[rank][slot])) {
            wait_for(m, rank, slot);
            return;
        }
}

static void some_compute(struct maker *m)
{
    add(m, below(m, m->p->ranks), (struct op){.kind = OP_COMPUTE, .number = rng_below(m->rng, m->compute_ms * MS) + 1});
}

static void one_thing(struct maker *m)
{
    uint32_t what = below(m, 100);
    if (what < 35)
        some_message(m);
    else if (what < 60)
        some_receive(m, false);
    else if (what < 67)
        some_receive(m, true);
    else if (what < 80)
        some_wait(m);
    else if (what < 95 || !m->p->collectives)
        some_compute(m);
    else if (percent(m, m->meetings))
        meeting(m);
    else
        collective(m);
}

static void safe_point(struct maker *m, uint32_t rank)
{
    add(m, rank, (struct op){.kind = OP_STEP, .number = m->step[rank] += m->p->stride[rank]});
}

static void safe_points(struct maker *m)
{
    struct program *p = m->p;
    if (!p->aligned) {
        uint32_t rank = below(m, p->ranks);
        if (percent(m, 90))
            close_slots(m, rank);
        safe_point(m, rank);
        return;
    }
    for (uint32_t rank = 0; rank < p->ranks; rank++)
        close_slots(m, rank);
    for (uint32_t rank = 0; rank < p->ranks; rank++)
        safe_point(m, rank);
}

/* Every message has its receive, every receive its message, every request its wait. */
static void settle(struct maker *m)
{
    struct program *p = m->p;
    for (uint32_t comm = 0; comm < p->comms; comm++)
        for (uint32_t i = 0; i < p->comm[comm].size * p->comm[comm].size * TAGS; i++) {
            uint32_t dst = p->comm[comm].members[i / TAGS % p->comm[comm].size],
                     src = p->comm[comm].members[i / TAGS / p->comm[comm].size];
            int32_t tag = (int32_t)(i % TAGS);
            struct class *class = class_of(m, comm, dst, src, tag);
            while (class->posted > class->sent)
                send_eager(m, comm, src, dst, tag);
            while (class->posted < class->sent)
                receive(m, comm, dst, src, tag, false);
        }
    for (uint32_t rank = 0; rank < p->ranks; rank++)
        for (uint32_t i = 0; i < REQUESTS_MAX; i++)
            if (m->slots[rank][i].used)
                wait_for(m, rank, i);
}

static void make_comms(struct maker *m)
{
    struct program *p = m->p;
    p->comms = 1 + below(m, COMMS_MAX);
    for (uint32_t i = 0; i < p->comms; i++) {
        struct comm *c = &p->comm[i];
        uint32_t world[RANKS_MAX];
        for (uint32_t rank = 0; rank < p->ranks; rank++) {
            c->rank_of[rank] = -1;
            if (i > 0 && percent(m, 40))
                continue;
            world[c->size] = rank;
            c->rank_of[rank] = (int32_t)c->size;
            c->members[c->size++] = (uint8_t)rank;
        }
        if (c->size == 0) {
            i--;
            continue;
        }
        c->id = i == 0 ? CUT_COMM_WORLD : cut_comm_id(cut_comm_base(CUT_COMM_WORLD, world, c->size, NULL, 0), i);
        for (uint32_t rank = 0; rank < p->ranks; rank++)
            m->style[i][rank] = (uint8_t)(percent(m, m->wildcards) ? below(m, STYLES) : BY_SOURCE_AND_TAG);
    }
}

void program_make(struct program *program, struct rng *rng)
{
    struct maker *m = mem_alloc(sizeof *m);
    *program = (struct program){0};
    m->p = program;
    m->rng = rng;
    program->ranks = 2 + below(m, percent(m, 70) ? 5 : RANKS_MAX - 1);
    program->aligned = percent(m, 50);
    program->reposts = percent(m, 40);
    program->collectives = program->aligned ? percent(m, 60) : percent(m, 25);
    if (percent(m, 30))
        program->declared = program->aligned ? CUT_MODE_STEP : CUT_MODE_FREE;
    for (uint32_t rank = 0; rank < program->ranks; rank++)
        program->stride[rank] = program->aligned ? 1 : 1 + below(m, 3);
    m->rendezvous = below(m, 2) * below(m, 100);
    m->wildcards = below(m, 2) * 100;
    m->meetings = m->wildcards ? below(m, 2) * 60 : 0;
    m->compute_ms = 20 + below(m, 150);
    make_comms(m);
    uint32_t phases = 20 + below(m, 60), things = program->ranks * (1 + below(m, 5));
    uint32_t points = program->aligned ? 1 : program->ranks;
    for (uint32_t phase = 0; phase < phases; phase++)
        for (uint32_t point = 0; point < points; point++) {
            for (uint32_t i = 0; i < things / points + (below(m, points) < things % points); i++)
                one_thing(m);
            safe_points(m);
        }
    bool leave_first = percent(m, 50);
    for (uint32_t rank = 0; rank < program->ranks && leave_first; rank++)
        add(m, rank, (struct op){.kind = OP_LEAVE});
    for (uint32_t i = 0; i < things && percent(m, 80); i++)
        one_thing(m);
    settle(m);
    for (uint32_t rank = 0; rank < program->ranks; rank++) {
        if (!leave_first)
            add(m, rank, (struct op){.kind = OP_LEAVE});
        add(m, rank, (struct op){.kind = OP_FINALIZE});
    }
    mem_free(m);
}

void program_free(struct program *program)
{
    for (uint32_t rank = 0; rank < program->ranks; rank++)
        mem_free(program->ops[rank]);
    mem_free(program->messages);
    *program = (struct program){0};
}
