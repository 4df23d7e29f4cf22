/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>

#include "tests/sim/sim.h"

#define MILLION 1000000u
#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

uint64_t mix(uint64_t a, uint64_t b)
{
    struct rng rng = {.state = a ^ (b * UINT64_C(0x9e3779b97f4a7c15))};
    return rng_next(&rng);
}

uint64_t text_hash(const char *text)
{
    uint64_t hash = FNV_OFFSET;
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * FNV_PRIME;
    return hash;
}

bool chance(struct world *w, uint32_t millionths)
{
    return millionths != 0 && rng_below(&w->rng, MILLION) < millionths;
}

uint64_t between(struct world *w, uint64_t low, uint64_t high)
{
    return low + rng_below(&w->rng, high - low + 1);
}

/* ---- the trace: what the hash of a run is made of ---- */

void trace(struct world *w, const char *format, ...)
{
    char line[TRACE_LINE_MAX];
    va_list words;
    va_start(words, format);
    vsnprintf(line, sizeof line, format, words);
    va_end(words);
    w->hash = mix(w->hash ^ text_hash(line), w->now);
    if (w->verbose)
        printf("%4" PRIu64 ".%06" PRIu64 " %s\n", w->now / NS_PER_S, w->now % NS_PER_S / 1000u, line);
}

void violation(struct world *w, const char *format, ...)
{
    char line[TRACE_LINE_MAX];
    va_list words;
    va_start(words, format);
    vsnprintf(line, sizeof line, format, words);
    va_end(words);
    printf("seed %" PRIu64 " at %" PRIu64 ".%06" PRIu64 ": VIOLATION %s\n", w->seed, w->now / NS_PER_S,
           w->now % NS_PER_S / 1000u, line);
    fflush(stdout);
    w->violations++;
    w->stop = true;
}

/* ---- the heap, by (time, sequence) ---- */

static struct raft_message *message_copy(const struct raft_message *message)
{
    struct raft_message *copy = mem_alloc(sizeof *copy);
    *copy = *message;
    if (message->kind == RAFT_MSG_APPEND && message->append.count > 0) {
        copy->append.entries = mem_array(message->append.count, sizeof *copy->append.entries);
        for (size_t i = 0; i < message->append.count; i++) {
            copy->append.entries[i] = message->append.entries[i];
            raft_blob_ref(copy->append.entries[i].blob);
        }
    } else if (message->kind == RAFT_MSG_SNAPSHOT) {
        raft_blob_ref(copy->snapshot.config);
        raft_blob_ref(copy->snapshot.data);
    }
    return copy;
}

struct args args_copy(const struct args *args)
{
    struct args copy = *args;
    if (args->text != NULL)
        copy.text = mem_strdup(args->text);
    if (args->message != NULL)
        copy.message = message_copy(args->message);
    if (args->event != NULL) {
        copy.event = mem_alloc(sizeof *copy.event);
        *copy.event = *args->event;
    }
    return copy;
}

void args_release(struct args *args)
{
    mem_free(args->text);
    mem_free(args->event);
    if (args->message != NULL)
        raft_message_release(args->message);
    mem_free(args->message);
    args->message = NULL;
    args->text = NULL;
    args->event = NULL;
}

static bool before(const struct happening *a, const struct happening *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->sequence < b->sequence;
}

static void swap(struct happening *a, struct happening *b)
{
    struct happening c = *a;
    *a = *b;
    *b = c;
}

void later(struct world *w, uint64_t delay_ns, happen_fn fn, struct args args)
{
    if (w->heap_count == w->heap_room) {
        w->heap_room = w->heap_room ? 2 * w->heap_room : 256;
        w->heap = mem_grow(w->heap, w->heap_room, sizeof w->heap[0]);
    }
    size_t i = w->heap_count++;
    w->heap[i] = (struct happening){.at_ns = w->now + delay_ns, .sequence = w->next_sequence++, .fn = fn, .args = args};
    for (; i > 0 && before(&w->heap[i], &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&w->heap[i], &w->heap[(i - 1) / 2]);
}

static struct happening take_first(struct world *w)
{
    struct happening first = w->heap[0];
    w->heap[0] = w->heap[--w->heap_count];
    for (size_t i = 0;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < w->heap_count; child++)
            if (before(&w->heap[child], &w->heap[least]))
                least = child;
        if (least == i)
            return first;
        swap(&w->heap[i], &w->heap[least]);
        i = least;
    }
}

bool world_run(struct world *w, uint64_t until_ns, bool (*done)(const struct world *w))
{
    while (!w->stop) {
        if (done != NULL && done(w))
            return true;
        if (w->heap_count == 0 || w->heap[0].at_ns > until_ns) {
            w->now = until_ns;
            return false;
        }
        struct happening next = take_first(w);
        w->now = next.at_ns;
        w->events++;
        next.fn(w, &next.args);
        args_release(&next.args);
    }
    return false;
}

/* ---- the network ---- */

/* Mostly quick, sometimes slow, now and then so late that everybody has given up on it. */
static uint64_t way(struct world *w)
{
    if (!w->healed && chance(w, w->lies.late))
        return between(w, MS(20), MS(300));
    if (!w->healed && chance(w, w->lies.late / 16))
        return between(w, MS(500), MS(5000));
    return between(w, 100000, 1500000);
}

static void transmit(struct world *w, bool broken, happen_fn fn, struct args args)
{
    if (broken || (!w->healed && chance(w, w->lies.loss))) {
        args_release(&args);
        return;
    }
    if (!w->healed && chance(w, w->lies.doubled))
        later(w, way(w) + way(w), fn, args_copy(&args));
    later(w, way(w), fn, args);
}

void send_to_leader(struct world *w, struct host *h, happen_fn fn, struct args args)
{
    transmit(w, h->to_leader_cut_until > w->now, fn, args);
}

void send_to_host(struct world *w, struct host *h, happen_fn fn, struct args args)
{
    transmit(w, h->from_leader_cut_until > w->now, fn, args);
}

void send_between_coords(struct world *w, const struct coord *from, uint32_t to, happen_fn fn, struct args args)
{
    transmit(w, from->cut_until[to] > w->now, fn, args);
}

void send_person(struct world *w, happen_fn fn, struct args args)
{
    transmit(w, false, fn, args);
}

/* ---- life ---- */

struct world *world_create(uint64_t seed, bool verbose)
{
    struct world *w = mem_alloc(sizeof *w);
    w->seed = seed;
    w->verbose = verbose;
    w->rng.state = mix(seed, UINT64_C(0x746964656d61726b));
    for (uint32_t i = 0; i < HOSTS_MAX; i++) {
        struct host *h = &w->hosts[i];
        snprintf(h->name, sizeof h->name, "n%u", i);
        rng_hex(&w->rng, h->uid, TIDE_UID_CHARS);
        h->slots = 4;
        h->steps = mem_array(STEPS_MAX, sizeof h->steps[0]);
    }
    for (uint32_t i = 0; i < COORDS_MAX; i++)
        w->coords[i].knows_next = LEVEL_NEWEST;
    return w;
}

void world_free(struct world *w)
{
    leader_release(w);
    for (size_t i = 0; i < w->heap_count; i++)
        args_release(&w->heap[i].args);
    mem_free(w->heap);
    for (uint32_t i = 0; i < HOSTS_MAX; i++) {
        struct host *h = &w->hosts[i];
        agent_free(h->core);
        agent_actions_release(&h->actions);
        for (size_t s = 0; s < STEPS_MAX; s++)
            codec_release(&step_spec_codec, &h->steps[s].spec);
        mem_free(h->steps);
    }
    mem_free(w->depot.items);
    for (uint32_t i = 0; i < w->op_count; i++)
        mem_free(w->ops[i].answer);
    for (uint32_t i = 0; i < w->plan_count; i++)
        codec_release(&job_spec_codec, &w->plans[i].spec);
    for (uint32_t i = 0; i < w->truth_count; i++) {
        for (uint32_t r = 0; r < WORLD_MAX; r++)
            mem_free(w->truths[i]->model[r]);
        mem_free(w->truths[i]);
    }
    mem_free(w);
}
