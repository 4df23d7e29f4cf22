/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lin/lin.h"

#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"

#define WORD_BITS 64u
#define MEMORY_FIRST 1024u /* slots of the table; it doubles when half of them are taken */

/* An invocation, or the return of one; a doubly linked list in order of time. */
struct event {
    struct event *previous, *next;
    struct event *back; /* of an invocation: its return. NULL: this is a return */
    size_t op;
};

/* A set of operations and the state they led to. Of those with a return, in order of invocation, all before some one are
 * done and all after some other are not: only the words between are kept. */
struct seen {
    uint64_t hash;
    uint32_t state, first, words;
    uint64_t *set; /* `words` words from `first` on, then those of the open operations. NULL: the slot is free */
};

struct search {
    const struct lin_op *ops;
    size_t count;
    struct event *events; /* 2 × count; sorted */
    struct event head;    /* before the first */
    size_t *bit_of;       /* of each operation, in `set`: those with a return in order of invocation, then the open ones */
    size_t words, open_words;
    uint64_t *set;                    /* done by now; words + open_words */
    uint64_t hash;                    /* of the set */
    size_t known;                     /* operations with a return */
    size_t required;                  /* of them, not done and not optional */
    struct event **calls;             /* done, in order */
    uint32_t *states;                 /* before each of them */
    uint64_t *latest;                 /* invocation among them and those before */
    size_t *optional, optional_count; /* those that need not happen */
    size_t *late;                     /* scratch: of them, those whose time is over */
    size_t depth;
    struct seen *memory;
    size_t slots, taken;
    uint64_t bytes;
    struct lin_result *result;
};

bool lin_step(const struct lin_op *op, uint32_t state, uint32_t *ret_state)
{
    bool fits = true, open = op->return_ns == LIN_NEVER;
    if (op->kind == LIN_READ)
        fits = open || state == op->value;
    else if (op->kind == LIN_CREATE)
        fits = state == LIN_NOTHING;
    else if (op->kind == LIN_DELETE)
        fits = state != LIN_NOTHING;
    else if (op->kind == LIN_CAS)
        fits = state == op->expect;
    bool possible = op->kind == LIN_READ ? fits : open || fits == op->ok;
    if (!possible)
        return false;
    if (op->kind == LIN_DELETE)
        *ret_state = LIN_NOTHING;
    else
        *ret_state = fits && op->kind != LIN_READ ? op->value : state;
    return true;
}

static bool must_happen(const struct lin_op *op)
{
    return op->return_ns != LIN_NEVER && !op->optional;
}

/* ---- memory ---- */

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static struct seen *slot_of(struct seen *memory, size_t slots, uint64_t hash)
{
    return &memory[hash & (slots - 1)];
}

static void memory_grow(struct search *s)
{
    size_t slots = s->slots ? 2 * s->slots : MEMORY_FIRST;
    struct seen *grown = mem_array(slots, sizeof *grown);
    for (size_t i = 0; i < s->slots; i++) {
        if (s->memory[i].set == NULL)
            continue;
        struct seen *to = slot_of(grown, slots, s->memory[i].hash);
        while (to->set != NULL)
            to = to + 1 < grown + slots ? to + 1 : grown;
        *to = s->memory[i];
    }
    mem_free(s->memory);
    s->memory = grown;
    s->slots = slots;
}

/* The words of the set that say something. */
static struct seen describe(const struct search *s, uint64_t hash, uint32_t state)
{
    size_t first = 0, end = s->words;
    while (first < end && s->set[first] == UINT64_MAX)
        first++;
    while (end > first && s->set[end - 1] == 0)
        end--;
    return (struct seen){.hash = hash, .state = state, .first = (uint32_t)first, .words = (uint32_t)(end - first)};
}

static bool same(const struct search *s, const struct seen *a, const struct seen *b)
{
    return a->hash == b->hash && a->state == b->state && a->first == b->first && a->words == b->words &&
           memcmp(a->set, &s->set[a->first], a->words * sizeof *a->set) == 0 &&
           memcmp(&a->set[a->words], &s->set[s->words], s->open_words * sizeof *a->set) == 0;
}

/* False: that set in that state has been looked at. */
static bool remember_set(struct search *s, uint32_t state)
{
    if (2 * s->taken >= s->slots)
        memory_grow(s);
    struct seen now = describe(s, mix(s->hash ^ state), state);
    struct seen *slot = slot_of(s->memory, s->slots, now.hash);
    while (slot->set != NULL) {
        if (same(s, slot, &now))
            return false;
        slot = slot + 1 < s->memory + s->slots ? slot + 1 : s->memory;
    }
    now.set = mem_array(now.words + s->open_words, sizeof *now.set);
    memcpy(now.set, &s->set[now.first], now.words * sizeof *now.set);
    memcpy(&now.set[now.words], &s->set[s->words], s->open_words * sizeof *now.set);
    *slot = now;
    s->taken++;
    s->bytes += 3 * sizeof *slot + (now.words + s->open_words) * sizeof *now.set;
    return true;
}

static bool is_done(const struct search *s, size_t op)
{
    size_t bit = s->bit_of[op];
    return s->set[bit / WORD_BITS] >> (bit % WORD_BITS) & 1;
}

static void flip(struct search *s, size_t op)
{
    size_t bit = s->bit_of[op];
    s->set[bit / WORD_BITS] ^= UINT64_C(1) << (bit % WORD_BITS);
    s->hash ^= mix(bit);
}

/* Optional ones that are too late make no difference any more: as if they were done. */
static bool remember(struct search *s, uint32_t state, uint64_t latest)
{
    size_t late = 0;
    for (size_t i = 0; i < s->optional_count; i++) {
        size_t op = s->optional[i];
        if (s->ops[op].return_ns < latest && !is_done(s, op))
            flip(s, s->late[late++] = op);
    }
    bool is_new = remember_set(s, state);
    while (late > 0)
        flip(s, s->late[--late]);
    return is_new;
}

/* ---- the list ---- */

static void unlink_event(struct event *event)
{
    event->previous->next = event->next;
    if (event->next != NULL)
        event->next->previous = event->previous;
}

static void relink_event(struct event *event)
{
    event->previous->next = event;
    if (event->next != NULL)
        event->next->previous = event;
}

static void lift(struct event *call)
{
    unlink_event(call);
    unlink_event(call->back);
}

static void unlift(struct event *call)
{
    relink_event(call->back);
    relink_event(call);
}

struct moment {
    uint64_t at_ns;
    bool is_return;
    size_t op;
};

static int moment_order(const void *a, const void *b)
{
    const struct moment *x = a, *y = b;
    if (x->at_ns != y->at_ns)
        return x->at_ns < y->at_ns ? -1 : 1;
    if (x->is_return != y->is_return)
        return x->is_return ? 1 : -1;
    return x->op < y->op ? -1 : x->op > y->op;
}

static void list_build(struct search *s)
{
    struct moment *moments = mem_array(2 * s->count, sizeof *moments);
    struct event **call_of = mem_array(s->count, sizeof *call_of);
    for (size_t i = 0; i < s->count; i++) {
        moments[2 * i] = (struct moment){s->ops[i].invoke_ns, false, i};
        moments[2 * i + 1] = (struct moment){s->ops[i].return_ns, true, i};
        s->known += s->ops[i].return_ns != LIN_NEVER;
        s->required += must_happen(&s->ops[i]);
        if (s->ops[i].optional && s->ops[i].return_ns != LIN_NEVER)
            s->optional[s->optional_count++] = i;
    }
    qsort(moments, 2 * s->count, sizeof *moments, moment_order);
    s->words = (s->known + WORD_BITS - 1) / WORD_BITS;
    s->open_words = (s->count - s->known + WORD_BITS - 1) / WORD_BITS;
    size_t known_bit = 0, open_bit = s->words * WORD_BITS;
    struct event *last = &s->head;
    for (size_t i = 0; i < 2 * s->count; i++) {
        struct event *event = &s->events[i];
        size_t op = moments[i].op;
        *event = (struct event){.previous = last, .op = op};
        last = last->next = event;
        if (moments[i].is_return) {
            call_of[op]->back = event;
        } else {
            call_of[op] = event;
            s->bit_of[op] = s->ops[op].return_ns == LIN_NEVER ? open_bit++ : known_bit++;
        }
    }
    mem_free(call_of);
    mem_free(moments);
}

/* ---- the search ---- */

static void note_longest(struct search *s)
{
    if (s->depth <= s->result->ordered && s->result->ordered > 0)
        return;
    for (size_t i = 0; i < s->depth; i++)
        s->result->order[i] = s->calls[i]->op;
    s->result->ordered = s->depth;
}

static bool advance(struct search *s, struct event *call, uint32_t *state)
{
    const struct lin_op *op = &s->ops[call->op];
    uint64_t latest = s->depth > 0 ? s->latest[s->depth - 1] : 0;
    uint32_t after;
    if (latest > op->return_ns || !lin_step(op, *state, &after)) /* too late for an optional one */
        return false;
    latest = op->invoke_ns > latest ? op->invoke_ns : latest;
    flip(s, call->op);
    s->result->visits++;
    if (!remember(s, after, latest)) {
        flip(s, call->op);
        return false;
    }
    s->calls[s->depth] = call;
    s->latest[s->depth] = latest;
    s->states[s->depth++] = *state;
    s->required -= must_happen(op);
    *state = after;
    lift(call);
    return true;
}

static struct event *retreat(struct search *s, uint32_t *state)
{
    struct event *call = s->calls[--s->depth];
    *state = s->states[s->depth];
    flip(s, call->op);
    s->required += must_happen(&s->ops[call->op]);
    unlift(call);
    return call->next;
}

/* What nobody knows the outcome of need not happen: it is enough that all others fit. */
static enum lin_verdict search_run(struct search *s, uint64_t visits_max)
{
    uint32_t state = LIN_NOTHING;
    struct event *event = s->head.next;
    while (s->required > 0) {
        if (s->result->visits > visits_max || s->bytes > LIN_MEMORY_MAX)
            return LIN_UNDECIDED;
        if (event != NULL && event->back != NULL) {
            event = advance(s, event, &state) ? s->head.next : event->next;
            continue;
        }
        if (event != NULL && s->ops[event->op].optional) {
            event = event->next;
            continue;
        }
        /* A return that cannot be passed: its operation should have been done by now. */
        note_longest(s);
        if (s->depth == 0)
            return LIN_NO;
        event = retreat(s, &state);
    }
    note_longest(s);
    return LIN_YES;
}

void lin_check(const struct lin_op *ops, size_t count, uint64_t visits_max, struct lin_result *ret_result)
{
    struct search s = {.ops = ops, .count = count, .result = ret_result};
    *ret_result = (struct lin_result){.order = mem_array(count + 1, sizeof(size_t))};
    s.events = mem_array(2 * count + 1, sizeof *s.events);
    s.bit_of = mem_array(count, sizeof *s.bit_of);
    s.calls = mem_array(count + 1, sizeof(struct event *));
    s.states = mem_array(count + 1, sizeof *s.states);
    s.latest = mem_array(count + 1, sizeof *s.latest);
    s.optional = mem_array(count + 1, sizeof *s.optional);
    s.late = mem_array(count + 1, sizeof *s.late);
    list_build(&s);
    s.set = mem_array(s.words + s.open_words, sizeof *s.set);
    ret_result->verdict = search_run(&s, visits_max ? visits_max : LIN_VISITS_DEFAULT);
    for (size_t i = 0; i < s.slots; i++)
        mem_free(s.memory[i].set);
    mem_free(s.memory);
    mem_free(s.late);
    mem_free(s.optional);
    mem_free(s.latest);
    mem_free(s.states);
    mem_free(s.calls);
    mem_free(s.set);
    mem_free(s.bit_of);
    mem_free(s.events);
}
