/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim.h"

struct object *depot_find(struct world *w, const char *key)
{
    for (size_t i = 0; i < w->depot.count; i++)
        if (strcmp(w->depot.items[i].key, key) == 0)
            return &w->depot.items[i];
    return NULL;
}

bool depot_up(struct world *w)
{
    return w->depot.failing_until <= w->now;
}

enum tide_status depot_put(struct world *w, const struct object *object)
{
    const struct object *there = depot_find(w, object->key);
    if (there != NULL)
        return strcmp(there->digest, object->digest) == 0 && !there->corrupt ? TIDE_OK : TIDE_E_EXISTS;
    w->depot.items = mem_grow(w->depot.items, w->depot.count + 1, sizeof w->depot.items[0]);
    w->depot.items[w->depot.count++] = *object;
    return TIDE_OK;
}

static int has_manifest(const struct depot *depot, const char *uid, uint64_t cut)
{
    for (size_t i = 0; i < depot->count; i++)
        if (depot->items[i].cut == cut && depot->items[i].manifest && strcmp(depot->items[i].uid, uid) == 0)
            return 1;
    return 0;
}

void depot_sweep(struct world *w, const char *uid, const struct orphan_rule *rule)
{
    for (size_t i = 0; i < w->depot.count; i++) {
        uint64_t cut = w->depot.items[i].cut;
        if (strcmp(w->depot.items[i].uid, uid) != 0)
            continue;
        enum orphan_verdict verdict = orphan_judge(rule, cut, has_manifest(&w->depot, uid, cut));
        if (verdict == ORPHAN_STRANGE)
            violation(w, "the log does not know the committed cut %" PRIu64 " of its own job", cut);
        if (verdict != ORPHAN_DELETE)
            continue;
        check_purge(w, uid, cut);
        depot_purge(w, uid, cut);
        i = (size_t)-1;
    }
}

void depot_purge(struct world *w, const char *uid, uint64_t cut)
{
    struct depot *depot = &w->depot;
    for (size_t i = 0; i < depot->count;) {
        if (depot->items[i].cut == cut && strcmp(depot->items[i].uid, uid) == 0)
            depot->items[i] = depot->items[--depot->count];
        else
            i++;
    }
}
