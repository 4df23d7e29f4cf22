/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/core/inner.h"

/* Placement is a function of the state alone. Ranks stay where they were: their arenas, page cache and logs are there.
 * The place of a node that cannot be used goes to a spare of the job, then to the node with the most room. One that was spared from
 * being drained for its health is used when there is no other. A node takes
 * at most one node rank of a job; spares, and nodes that still have to end old ranks, count as taken. */

/* How many nodes. The first generation of a job gets as many as it was submitted with; so does every other of one that is not elastic.
 * An elastic one goes on with what there is: kept up to that number by its spares, beyond it only by nodes that it does not want as
 * spares, never beyond its maximum; not while its newest checkpoint is in the memory of fewer nodes only, and all of it is there. It
 * waits where that is less than its minimum. */
static bool resizes(const struct job_record *record)
{
    return job_elastic(&record->job.spec) && record->job.generation > 0;
}

static uint32_t nodes_least(const struct job_record *record)
{
    const struct job_spec *spec = &record->job.spec;
    return resizes(record) ? spec->elastic_min / spec->nproc_per_node : spec->nnodes;
}

/* ---- the room that is left ---- */

static void shift(struct room *room, const struct job_record *record, bool takes)
{
    const struct strlist *lists[] = {&record->job.nodes, &record->job.spares, &record->fence};
    uint32_t ranks = record->job.spec.nproc_per_node;
    room->mark++;
    for (size_t l = 0; l < sizeof lists / sizeof lists[0]; l++)
        for (size_t i = 0; i < lists[l]->count; i++) {
            bool found;
            size_t at = state_node_index(room->state, lists[l]->items[i], &found);
            if (!found || room->seen[at] == room->mark)
                continue;
            room->seen[at] = room->mark;
            room->used[at] += takes ? ranks : 0 - ranks;
        }
}

void room_init(struct room *room, const struct state *state)
{
    size_t n = state->nodes.count;
    *room = (struct room){.state = state,
                          .slots = mem_array(n, sizeof *room->slots),
                          .used = mem_array(n, sizeof *room->used),
                          .seen = mem_array(n, sizeof *room->seen)};
    for (size_t i = 0; i < n; i++) {
        const struct node *node = &state->nodes.items[i];
        room->slots[i] = node->state == TIDE_NODE_READY && !node->cordoned ? node->slots : 0;
    }
    for (size_t i = 0; i < state->jobs.count; i++)
        if (job_active(&state->jobs.items[i]))
            shift(room, &state->jobs.items[i], true);
}

void room_release(struct room *room)
{
    mem_free(room->slots);
    mem_free(room->used);
    mem_free(room->seen);
    *room = (struct room){0};
}

/* Free slots of a node, 0 if they are too few for one node rank. */
static uint32_t room_free(const struct room *room, size_t at, uint32_t need)
{
    uint32_t slots = room->slots[at], used = room->used[at];
    return used <= slots && slots - used >= need ? slots - used : 0;
}

static uint32_t usable(const struct room *room, const struct job_spec *spec)
{
    uint32_t count = 0;
    for (size_t i = 0; i < room->state->nodes.count; i++)
        count += room_free(room, i, spec->nproc_per_node) > 0;
    return count;
}

/* Nodes that have its newest checkpoint in their memory and nowhere else, where there is room on all of them but those of whose part there
 * is a copy; else 0. To grow away from them would cost what was done since the one before. */
static uint32_t nodes_remember(const struct room *room, const struct job_record *record)
{
    const struct ckpt *newest = job_newest_restorable(&record->job, record->rollback_cut ? record->rollback_cut : UINT64_MAX);
    if (newest == NULL || !ckpt_in_memory(newest))
        return 0;
    for (size_t i = 0; i < newest->nodes.count; i++) {
        bool found;
        size_t at = state_node_index(room->state, newest->nodes.items[i], &found);
        bool here = found && room_free(room, at, record->job.spec.nproc_per_node) > 0;
        if (!here && ckpt_peer(room->state, newest, i) == NULL)
            return 0;
    }
    return (uint32_t)newest->nodes.count;
}

static uint32_t nodes_wanted(const struct room *room, const struct job_record *record)
{
    const struct job_spec *spec = &record->job.spec;
    if (!resizes(record))
        return spec->nnodes;
    uint32_t least = nodes_least(record), most = spec->elastic_max / spec->nproc_per_node;
    uint32_t there = usable(room, spec), remember = nodes_remember(room, record);
    uint32_t kept = there < spec->nnodes ? there : spec->nnodes, grown = there > spec->spares ? there - spec->spares : 0;
    uint32_t count = kept > grown ? kept : grown;
    if (remember != 0 && remember < count)
        count = remember;
    return count < least ? least : count > most ? most : count;
}

bool room_for_others(struct room *room, const struct job_record *record, uint32_t others)
{
    shift(room, record, false);
    bool enough = usable(room, &record->job.spec) >= nodes_least(record) + others;
    shift(room, record, true);
    return enough;
}

bool room_for(struct room *room, const struct job_record *record)
{
    return room_for_others(room, record, 0);
}

uint32_t room_away(const struct room *room, const struct job_record *record)
{
    uint32_t count = 0;
    for (size_t i = 0; i < record->job.nodes.count; i++) {
        bool found;
        size_t at = state_node_index(room->state, record->job.nodes.items[i], &found);
        count += !found || room->slots[at] == 0;
    }
    return count;
}

uint32_t place_used(const struct state *state, const char *node)
{
    struct room room;
    bool found;
    size_t at = state_node_index(state, node, &found);
    room_init(&room, state);
    uint32_t used = found ? room.used[at] : 0;
    room_release(&room);
    return used;
}

/* ---- choosing ---- */

/* The nodes one job may use. */
struct pool {
    const struct room *room;
    uint32_t need;
    bool *taken;
};

/* fit: but for those that were spared */
static bool pool_take(struct pool *pool, const char *name, bool fit)
{
    bool found;
    size_t at = state_node_index(pool->room->state, name, &found);
    if (!found || (fit && pool->room->state->nodes.items[at].spared) || room_free(pool->room, at, pool->need) == 0 || pool->taken[at])
        return false;
    pool->taken[at] = true;
    return true;
}

struct candidate {
    uint32_t free;
    size_t index;
};

static int most_room_first(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->free != y->free)
        return x->free > y->free ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Nodes nobody has taken yet, best first: the preferred ones, then those with the most room, then by name. */
static struct strlist pool_order(const struct pool *pool, const struct strlist *preferred)
{
    const struct state *state = pool->room->state;
    struct candidate *list = mem_array(state->nodes.count, sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < state->nodes.count; i++) {
        uint32_t free = room_free(pool->room, i, pool->need);
        if (free > 0 && !pool->taken[i])
            list[n++] = (struct candidate){.free = free, .index = i};
    }
    qsort(list, n, sizeof *list, most_room_first);
    struct strlist order = {0};
    for (size_t i = 0; i < preferred->count; i++)
        strlist_add(&order, preferred->items[i]);
    for (size_t i = 0; i < n; i++)
        strlist_add(&order, state->nodes.items[list[i].index].name);
    mem_free(list);
    return order;
}

static struct strlist pool_spares(struct pool *pool, const struct job_record *record)
{
    struct strlist spares = {0};
    if (record->job.spec.spares == 0)
        return spares;
    struct strlist order = pool_order(pool, &record->job.spares);
    for (size_t i = 0; i < order.count && spares.count < record->job.spec.spares; i++)
        if (pool_take(pool, order.items[i], true))
            strlist_add(&spares, order.items[i]);
    strlist_release(&order);
    return spares;
}

/* The next of the order that can be taken; NULL: there is none. */
static const char *pool_next(struct pool *pool, const struct strlist *order, size_t *next, bool fit)
{
    while (*next < order->count) {
        const char *name = order->items[(*next)++];
        if (pool_take(pool, name, fit))
            return name;
    }
    return NULL;
}

/* Of a job that shrinks those of its nodes that have lost their place come before others: its files are there. */
static struct strlist nodes_preferred(const struct job *job, uint32_t count)
{
    struct strlist preferred = {0};
    strlist_assign(&preferred, &job->spares);
    for (size_t i = count; i < job->nodes.count; i++)
        strlist_add(&preferred, job->nodes.items[i]);
    return preferred;
}

static void pool_nodes(struct pool *pool, const struct job *job, uint32_t count, struct placement *to)
{
    const char **names = mem_array(count, sizeof *names);
    const char *was = NULL;
    for (uint32_t i = 0; i < count && i < job->nodes.count; i++)
        names[i] = pool_take(pool, job->nodes.items[i], true) ? job->nodes.items[i] : NULL;
    struct strlist preferred = nodes_preferred(job, count), order = pool_order(pool, &preferred);
    size_t next = 0;
    strlist_release(&preferred);
    for (uint32_t i = 0; i < count; i++)
        names[i] = names[i] != NULL ? names[i] : pool_next(pool, &order, &next, true);
    for (uint32_t i = 0; i < count && i < job->nodes.count; i++)
        if (names[i] == NULL && pool_take(pool, was = job->nodes.items[i], false))
            names[i] = was;
    next = 0;
    for (uint32_t i = 0; i < count; i++) {
        names[i] = names[i] != NULL ? names[i] : pool_next(pool, &order, &next, false);
        strlist_add(&to->nodes, names[i] != NULL ? names[i] : "");
        to->missing += names[i] == NULL;
    }
    strlist_release(&order);
    mem_free(names);
}

bool place(const struct state *state, const struct job_record *record, struct placement *ret_placement)
{
    struct room room;
    room_init(&room, state);
    shift(&room, record, false);
    struct pool pool = {
        .room = &room, .need = record->job.spec.nproc_per_node, .taken = mem_array(state->nodes.count, sizeof(bool))};
    *ret_placement = (struct placement){0};
    pool_nodes(&pool, &record->job, nodes_wanted(&room, record), ret_placement);
    ret_placement->spares = pool_spares(&pool, record);
    mem_free(pool.taken);
    room_release(&room);
    return ret_placement->missing == 0;
}

void placement_release(struct placement *placement)
{
    strlist_release(&placement->nodes);
    strlist_release(&placement->spares);
    *placement = (struct placement){0};
}

/* ---- spares of jobs that run ---- */

static bool spares_whole(const struct state *state, const struct job_record *record)
{
    if (record->job.spares.count != record->job.spec.spares)
        return false;
    for (size_t i = 0; i < record->job.spares.count; i++) {
        const struct node *node = state_node(state, record->job.spares.items[i]);
        if (node == NULL || node->state != TIDE_NODE_READY || node->cordoned || node->spared)
            return false;
    }
    return true;
}

/* Jobs that wait and could be launched now: what they need is not taken for a reserve. */
struct waiting {
    struct job_record **items;
    size_t count;
};

static void waiting_init(struct waiting *waiting, struct room *room, const struct state *state)
{
    *waiting = (struct waiting){.items = mem_array(state->jobs.count, sizeof(struct job_record *))};
    for (size_t i = 0; i < state->jobs.count; i++) {
        struct job_record *record = &state->jobs.items[i];
        bool waits = record->phase == GEN_PHASE_NONE || record->phase == GEN_PHASE_FENCING;
        if (job_active(record) && waits && room_for(room, record))
            waiting->items[waiting->count++] = record;
    }
}

static bool all_have_room(const struct waiting *waiting, struct room *room)
{
    for (size_t i = 0; i < waiting->count; i++)
        if (!room_for(room, waiting->items[i]))
            return false;
    return true;
}

static struct strlist spares_chosen(const struct room *room, const struct job_record *record)
{
    struct pool pool = {
        .room = room, .need = record->job.spec.nproc_per_node, .taken = mem_array(room->state->nodes.count, sizeof(bool))};
    for (size_t i = 0; i < record->job.nodes.count; i++)
        pool_take(&pool, record->job.nodes.items[i], false);
    struct strlist spares = pool_spares(&pool, record);
    mem_free(pool.taken);
    return spares;
}

static void respare(struct room *room, struct job_record *record, const struct waiting *waiting)
{
    shift(room, record, false);
    struct strlist before = record->job.spares;
    record->job.spares = spares_chosen(room, record);
    shift(room, record, true);
    if (!all_have_room(waiting, room)) {
        shift(room, record, false);
        for (size_t i = record->job.spares.count; i-- > 0;)
            if (!strlist_has(&before, record->job.spares.items[i]))
                strlist_drop(&record->job.spares, record->job.spares.items[i]);
        shift(room, record, true);
    }
    strlist_release(&before);
}

void place_spares(struct state *state)
{
    struct room room = {0};
    struct waiting waiting = {0};
    for (size_t i = 0; i < state->jobs.count; i++) {
        struct job_record *record = &state->jobs.items[i];
        if ((record->phase != GEN_PHASE_LAUNCHED && record->phase != GEN_PHASE_FENCING) || spares_whole(state, record))
            continue;
        if (room.state == NULL) {
            room_init(&room, state);
            waiting_init(&waiting, &room, state);
        }
        respare(&room, record, &waiting);
    }
    mem_free(waiting.items);
    room_release(&room);
}

void place_helpers(struct change *change)
{
    place_spares(change->state);
    peers_plan(change->state);
}

/* ---- for people ---- */

#define NAMES_SHOWN 6

struct names {
    unsigned count;
    char text[TIDE_TEXT_MAX + 1];
};

static void names_add(const struct state *state, struct names *names, const char *name)
{
    if (names->count < NAMES_SHOWN)
        STATE_TEXT(state, names->text, "%s%s%s", names->text, names->count ? ", " : "", name);
    else if (names->count == NAMES_SHOWN)
        STATE_TEXT(state, names->text, "%s, …", names->text);
    names->count++;
}

void place_explain(struct room *room, const struct job_record *record, char *to, size_t size)
{
    const struct job_spec *spec = &record->job.spec;
    struct names lost = {0}, drained = {0}, full = {0};
    shift(room, record, false);
    uint32_t there = usable(room, spec);
    for (size_t i = 0; i < room->state->nodes.count; i++) {
        const struct node *node = &room->state->nodes.items[i];
        if (room_free(room, i, spec->nproc_per_node) == 0)
            names_add(room->state, node->state == TIDE_NODE_LOST ? &lost : node->state == TIDE_NODE_DRAINED ? &drained : &full, node->name);
    }
    shift(room, record, true);
    state_text(room->state, to, size, "waits for nodes: needs %u with %u free slot%s each, %u %s there%s%s%s%s%s%s", nodes_least(record),
               spec->nproc_per_node, spec->nproc_per_node == 1 ? "" : "s", there, there == 1 ? "is" : "are",
               lost.count ? "; lost: " : "", lost.text, drained.count ? "; drained: " : "", drained.text,
               full.count ? "; without room: " : "", full.text);
}
