/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>

#include "tests/sim/raft/sim.h"

#define MILLION 1000000u
#define TEXT_MAX 400

uint64_t mix(uint64_t a, uint64_t b)
{
    struct rng rng = {.state = a ^ (b * UINT64_C(0x9e3779b97f4a7c15))};
    return rng_next(&rng);
}

bool chance(struct world *w, uint32_t millionths)
{
    return millionths != 0 && rng_below(&w->rng, MILLION) < millionths;
}

uint64_t between(struct world *w, uint64_t low, uint64_t high)
{
    return low + rng_below(&w->rng, high - low + 1);
}

void say_line(const struct world *w, const char *format, ...)
{
    char line[TEXT_MAX];
    va_list words;
    va_start(words, format);
    vsnprintf(line, sizeof line, format, words);
    va_end(words);
    printf("%4" PRIu64 ".%06" PRIu64 " %s\n", w->now / SECONDS(1), w->now % SECONDS(1) / 1000u, line);
}

void violation(struct world *w, const char *format, ...)
{
    char line[TEXT_MAX];
    va_list words;
    va_start(words, format);
    vsnprintf(line, sizeof line, format, words);
    va_end(words);
    if (w->violations == 0)
        printf("seed %" PRIu64 " at %" PRIu64 ".%06" PRIu64 ": VIOLATION %s\n", w->seed, w->now / SECONDS(1),
               w->now % SECONDS(1) / 1000u, line);
    fflush(stdout);
    w->violations++;
    w->stop = true;
}

/* ---- the heap, by (time, sequence) ---- */

static bool before(const struct happening *a, const struct happening *b)
{
    return a->at != b->at ? a->at < b->at : a->sequence < b->sequence;
}

static void push(struct world *w, struct happening happening)
{
    if (w->heap_count == w->heap_room) {
        w->heap_room = w->heap_room ? 2 * w->heap_room : 1024;
        w->heap = mem_grow(w->heap, w->heap_room, sizeof w->heap[0]);
    }
    size_t i = w->heap_count++;
    for (; i > 0 && before(&happening, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = happening;
}

void later(struct world *w, uint64_t delay, struct happening happening)
{
    happening.at = w->now + delay;
    happening.sequence = w->next_sequence++;
    push(w, happening);
}

static struct happening take_first(struct world *w)
{
    struct happening first = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->heap_count)
            break;
        if (child + 1 < w->heap_count && before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return first;
}

static void message_free(struct raft_message *message)
{
    if (message == NULL)
        return;
    raft_message_release(message);
    mem_free(message);
}

/* A stopped member hears of things once it goes on, in the same order. */
static bool put_off(struct world *w, struct happening *happening)
{
    struct node *n = &w->nodes[happening->node];
    if (happening->kind > HAPPEN_INSTALLED || n->paused_until <= w->now)
        return false;
    happening->at = n->paused_until;
    happening->sequence = w->next_sequence++;
    push(w, *happening);
    return true;
}

static void dispatch(struct world *w, struct happening *happening)
{
    switch (happening->kind) {
    case HAPPEN_CLIENT: client_turn(w, happening->node, happening->number); return;
    case HAPPEN_FAULT: fault_turn(w); return;
    case HAPPEN_REPAIR: repair_turn(w); return;
    case HAPPEN_CALL: ((void (*)(struct world *))(uintptr_t)happening->number)(w); return;
    default: break;
    }
    if (put_off(w, happening))
        return;
    node_happens(w, &w->nodes[happening->node], happening);
    message_free(happening->pointer);
}

bool world_run(struct world *w, uint64_t until, bool (*done)(const struct world *w))
{
    while (!w->stop) {
        if (done != NULL && done(w))
            return true;
        if (w->heap_count == 0 || w->heap[0].at > until) {
            w->now = until;
            return false;
        }
        struct happening next = take_first(w);
        w->now = next.at;
        w->events++;
        w->hash = mix(w->hash ^ next.sequence, next.at ^ ((uint64_t)next.kind << 56) ^ ((uint64_t)next.node << 48));
        dispatch(w, &next);
    }
    return false;
}

/* ---- the network ---- */

struct node *node_of(struct world *w, uint64_t id)
{
    for (uint32_t i = 0; i < w->node_count; i++)
        if (w->nodes[i].id == id)
            return &w->nodes[i];
    return NULL;
}

/* As it arrives: by way of its bytes. */
static struct raft_message *message_carried(struct world *w, const struct raft_message *message)
{
    struct raft_message *arrived = mem_alloc(sizeof *arrived);
    struct err err = {0};
    raft_message_encode(message, &w->wire);
    size_t bytes = w->wire.head_bytes;
    for (size_t i = 0; i < w->wire.blob_count; i++)
        bytes += w->wire.blobs[i]->bytes;
    if (bytes > w->frame_room) {
        w->frame_room = bytes;
        w->frame = mem_grow(w->frame, bytes, 1);
    }
    memcpy(w->frame, w->wire.head, w->wire.head_bytes);
    bytes = w->wire.head_bytes;
    for (size_t i = 0; i < w->wire.blob_count; i++) {
        memcpy(w->frame + bytes, w->wire.blobs[i]->data, w->wire.blobs[i]->bytes);
        bytes += w->wire.blobs[i]->bytes;
    }
    if (raft_message_decode(w->frame, bytes, arrived, &err) != TIDE_OK)
        violation(w, "a message of member %" PRIu64 " cannot be read: %s", message->from, err.text);
    return arrived;
}

/* Mostly quick, sometimes slow, now and then so late that the term is another. */
static uint64_t way(struct world *w)
{
    if (!w->healed && chance(w, w->lies.late))
        return between(w, MS(5), MS(120));
    if (!w->healed && chance(w, w->lies.old))
        return between(w, MS(200), MS(4000));
    return between(w, w->way_ns, 2 * w->way_ns);
}

static void deliver_later(struct world *w, uint32_t to, struct raft_message *message)
{
    later(w, way(w), (struct happening){.kind = HAPPEN_MESSAGE, .node = to, .pointer = message});
}

void message_send(struct world *w, const struct node *from, struct raft_message *message)
{
    char text[160];
    struct node *to = node_of(w, message->to);
    bool lost = to == NULL || (w->cut[from->slot][to->slot] && w->cut_until[from->slot][to->slot] > w->now) ||
                (!w->healed && chance(w, w->lies.loss));
    if (!lost && w->on_send != NULL)
        lost = !w->on_send(w, from, message);
    say(w, "%s%s", message_text(message, text), lost ? " LOST" : "");
    if (lost) {
        raft_message_release(message);
        return;
    }
    if (!w->healed && chance(w, w->lies.doubled))
        deliver_later(w, to->slot, message_carried(w, message));
    deliver_later(w, to->slot, message_carried(w, message));
    raft_message_release(message);
}

const char *message_text(const struct raft_message *m, char to[160])
{
    static const char *const names[] = {"?",        "vote",         "vote-reply",     "append",
                                        "append-reply", "snapshot", "snapshot-reply", "timeout-now"};
    int n = snprintf(to, 160, "%" PRIu64 " -> %" PRIu64 " %s t%" PRIu64, m->from, m->to,
                     names[m->kind < RAFT_MESSAGE_KINDS ? m->kind : 0], m->term);
    char *at = to + n;
    size_t room = (size_t)(160 - n);
    switch (m->kind) {
    case RAFT_MSG_VOTE:
        snprintf(at, room, " last %" PRIu64 ".%" PRIu64 "%s%s", m->vote.last_index, m->vote.last_term, m->vote.pre ? " pre" : "",
                 m->vote.transfer ? " transfer" : "");
        break;
    case RAFT_MSG_VOTE_REPLY:
        snprintf(at, room, "%s%s", m->vote_reply.granted ? " granted" : " refused", m->vote_reply.pre ? " pre" : "");
        break;
    case RAFT_MSG_APPEND:
        snprintf(at, room, " prev %" PRIu64 ".%" PRIu64 " +%zu commit %" PRIu64 " round %" PRIu64, m->append.prev_index,
                 m->append.prev_term, m->append.count, m->append.commit, m->append.round);
        break;
    case RAFT_MSG_APPEND_REPLY:
        snprintf(at, room, " %s match %" PRIu64 " hint %" PRIu64 ".%" PRIu64 " round %" PRIu64,
                 m->append_reply.accepted ? "yes" : "no", m->append_reply.match, m->append_reply.hint_index,
                 m->append_reply.hint_term, m->append_reply.round);
        break;
    case RAFT_MSG_SNAPSHOT:
        snprintf(at, room, " %" PRIu64 ".%" PRIu64 " at %" PRIu64 "/%" PRIu64, m->snapshot.index, m->snapshot.last_term,
                 m->snapshot.offset, m->snapshot.total);
        break;
    case RAFT_MSG_SNAPSHOT_REPLY:
        snprintf(at, room, " %" PRIu64 " wants %" PRIu64 "%s", m->snapshot_reply.index, m->snapshot_reply.offset,
                 m->snapshot_reply.done ? " done" : "");
        break;
    default: break;
    }
    return to;
}

/* ---- life ---- */

struct world *world_create(uint64_t seed, bool verbose)
{
    struct world *w = mem_alloc(sizeof *w);
    w->seed = seed;
    w->verbose = verbose;
    w->rng.state = mix(seed, UINT64_C(0x72616674));
    w->way_ns = US(300);
    w->sync_ns = US(200);
    w->election_ticks = 15;
    w->heartbeat_ticks = 3;
    w->filler_max = 60;
    w->image_max = 300;
    w->leaders = mem_array(TERMS_MAX, sizeof w->leaders[0]);
    w->table = mem_array(TABLE_SLOTS, sizeof w->table[0]);
    w->truth = mem_array(TRUTH_MAX, sizeof w->truth[0]);
    for (uint32_t i = 0; i < NODES_MAX; i++)
        w->nodes[i].slot = i;
    return w;
}

void world_free(struct world *w)
{
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        raft_free(w->nodes[i].raft);
        disk_wipe(&w->nodes[i].disk);
        mem_free(w->nodes[i].disk.log);
        mem_free(w->nodes[i].disk.queue);
    }
    for (size_t i = 0; i < w->heap_count; i++)
        message_free(w->heap[i].pointer);
    mem_free(w->heap);
    raft_wire_release(&w->wire);
    mem_free(w->frame);
    mem_free(w->leaders);
    mem_free(w->table);
    mem_free(w->truth);
    mem_free(w);
}
