/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/core/inner.h"

/* Placement is a function of the state alone. Ranks stay where they were: their arenas, page cache and logs are there.
 * The place of a node that cannot be used goes to a spare of the job, then to the node with the most room. */

/* Slots taken on each node of the state, by index. */
static void take(const struct state *state, const char *name, uint32_t slots, uint32_t *seen, uint32_t mark, uint32_t *used)
{
    bool found;
    size_t at = state_node_index(state, name, &found);
    if (!found || seen[at] == mark)
        return;
    seen[at] = mark;
    used[at] += slots;
}

static void take_job(const struct state *state, const struct job_record *record, uint32_t *seen, uint32_t mark, uint32_t *used)
{
    const struct strlist *lists[] = {&record->job.nodes, &record->job.spares, &record->fence};
    for (size_t l = 0; l < sizeof lists / sizeof lists[0]; l++)
        for (size_t i = 0; i < lists[l]->count; i++)
            take(state, lists[l]->items[i], record->job.spec.nproc_per_node, seen, mark, used);
}

static uint32_t *used_slots(const struct state *state, const struct job_record *but)
{
    uint32_t *used = mem_array(state->nodes.count, sizeof *used);
    uint32_t *seen = mem_array(state->nodes.count, sizeof *seen);
    for (size_t i = 0; i < state->jobs.count; i++)
        if (&state->jobs.items[i] != but && job_active(&state->jobs.items[i]))
            take_job(state, &state->jobs.items[i], seen, (uint32_t)i + 1, used);
    mem_free(seen);
    return used;
}

uint32_t place_used(const struct state *state, const char *node)
{
    uint32_t used = 0;
    for (size_t i = 0; i < state->jobs.count; i++) {
        const struct job_record *record = &state->jobs.items[i];
        if (job_active(record) && (strlist_has(&record->job.nodes, node) || strlist_has(&record->job.spares, node) ||
                                   strlist_has(&record->fence, node)))
            used += record->job.spec.nproc_per_node;
    }
    return used;
}

/* The nodes a job may use. */
struct pool {
    const struct state *state;
    uint32_t *free; /* by index; 0: cannot take a node rank of this job */
    bool *taken;
};

static void pool_init(struct pool *pool, const struct state *state, const struct job_record *record)
{
    uint32_t need = record->job.spec.nproc_per_node;
    *pool = (struct pool){.state = state, .free = used_slots(state, record), .taken = mem_array(state->nodes.count, sizeof(bool))};
    for (size_t i = 0; i < state->nodes.count; i++) {
        const struct node *node = &state->nodes.items[i];
        uint32_t used = pool->free[i];
        bool usable = node->state == TIDE_NODE_READY && !node->cordoned && used <= node->slots && node->slots - used >= need;
        pool->free[i] = usable ? node->slots - used : 0;
    }
}

static void pool_release(struct pool *pool)
{
    mem_free(pool->free);
    mem_free(pool->taken);
}

static bool pool_take(struct pool *pool, const char *name)
{
    bool found;
    size_t at = state_node_index(pool->state, name, &found);
    if (!found || pool->free[at] == 0 || pool->taken[at])
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
    const struct state *state = pool->state;
    struct candidate *list = mem_array(state->nodes.count, sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < state->nodes.count; i++)
        if (pool->free[i] > 0 && !pool->taken[i])
            list[n++] = (struct candidate){.free = pool->free[i], .index = i};
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
        if (pool_take(pool, order.items[i]))
            strlist_add(&spares, order.items[i]);
    strlist_release(&order);
    return spares;
}

bool place(const struct state *state, const struct job_record *record, struct placement *ret_placement)
{
    const struct job *job = &record->job;
    struct pool pool;
    pool_init(&pool, state, record);
    *ret_placement = (struct placement){0};
    bool *stays = mem_array(job->spec.nnodes, sizeof *stays);
    for (uint32_t i = 0; i < job->spec.nnodes && i < job->nodes.count; i++)
        stays[i] = pool_take(&pool, job->nodes.items[i]);
    struct strlist order = pool_order(&pool, &job->spares);
    size_t next = 0;
    for (uint32_t i = 0; i < job->spec.nnodes; i++) {
        const char *name = stays[i] ? job->nodes.items[i] : NULL;
        while (name == NULL && next < order.count) {
            if (pool_take(&pool, order.items[next]))
                name = order.items[next];
            next++;
        }
        strlist_add(&ret_placement->nodes, name ? name : "");
        ret_placement->missing += name == NULL;
    }
    strlist_release(&order);
    mem_free(stays);
    ret_placement->spares = pool_spares(&pool, record);
    pool_release(&pool);
    return ret_placement->missing == 0;
}

void placement_release(struct placement *placement)
{
    strlist_release(&placement->nodes);
    strlist_release(&placement->spares);
    *placement = (struct placement){0};
}

static bool spares_whole(const struct state *state, const struct job_record *record)
{
    if (record->job.spares.count != record->job.spec.spares)
        return false;
    for (size_t i = 0; i < record->job.spares.count; i++) {
        const struct node *node = state_node(state, record->job.spares.items[i]);
        if (node == NULL || node->state != TIDE_NODE_READY || node->cordoned)
            return false;
    }
    return true;
}

void place_spares(struct state *state)
{
    for (size_t i = 0; i < state->jobs.count; i++) {
        struct job_record *record = &state->jobs.items[i];
        if ((record->phase != GEN_PHASE_LAUNCHED && record->phase != GEN_PHASE_FENCING) || spares_whole(state, record))
            continue;
        struct pool pool;
        pool_init(&pool, state, record);
        for (size_t k = 0; k < record->job.nodes.count; k++)
            pool_take(&pool, record->job.nodes.items[k]);
        struct strlist spares = pool_spares(&pool, record);
        strlist_release(&record->job.spares);
        record->job.spares = spares;
        pool_release(&pool);
    }
}

/* ---- for people ---- */

#define NAMES_SHOWN 6

struct names {
    unsigned count;
    char text[TIDE_TEXT_MAX + 1];
};

static void names_add(struct names *names, const char *name)
{
    if (names->count < NAMES_SHOWN)
        TEXT(names->text, "%s%s%s", names->text, names->count ? ", " : "", name);
    else if (names->count == NAMES_SHOWN)
        TEXT(names->text, "%s, …", names->text);
    names->count++;
}

void place_explain(const struct state *state, const struct job_record *record, char *to, size_t size)
{
    const struct job_spec *spec = &record->job.spec;
    struct pool pool;
    pool_init(&pool, state, record);
    struct names lost = {0}, drained = {0}, full = {0};
    unsigned usable = 0;
    for (size_t i = 0; i < state->nodes.count; i++) {
        const struct node *node = &state->nodes.items[i];
        if (pool.free[i] > 0)
            usable++;
        else
            names_add(node->state == TIDE_NODE_LOST ? &lost : node->cordoned ? &drained : &full, node->name);
    }
    pool_release(&pool);
    text_format(to, size, "waits for nodes: needs %u with %u free slot%s each, %u %s there%s%s%s%s%s%s", spec->nnodes,
                spec->nproc_per_node, spec->nproc_per_node == 1 ? "" : "s", usable, usable == 1 ? "is" : "are",
                lost.count ? "; lost: " : "", lost.text, drained.count ? "; drained: " : "", drained.text,
                full.count ? "; without room: " : "", full.text);
}
