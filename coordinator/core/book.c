/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/judge.h"

/* ---- entries, sorted by name ---- */

static size_t entry_index(const struct book *book, const char *node, bool *ret_found)
{
    const struct book_entry *entries = book->entries.items;
    return name_index(entries != NULL ? entries->node : NULL, book->entries.count, sizeof *entries, node, ret_found);
}

struct book_entry *book_find(const struct book *book, const char *node)
{
    bool found;
    size_t at = entry_index(book, node, &found);
    return found ? &book->entries.items[at] : NULL;
}

static struct book_entry *entry_get(struct book *book, const char *node)
{
    bool found;
    size_t at = entry_index(book, node, &found);
    if (found)
        return &book->entries.items[at];
    size_t count = ++book->entries.count;
    book->entries.items = mem_grow(book->entries.items, count, sizeof *book->entries.items);
    struct book_entry *entry = &book->entries.items[at];
    memmove(entry + 1, entry, (count - 1 - at) * sizeof *entry);
    *entry = (struct book_entry){0};
    text_copy(entry->node, sizeof entry->node, node);
    return entry;
}

static void entries_prune(struct book *book, const struct state *state)
{
    size_t kept = 0;
    for (size_t i = 0; i < book->entries.count; i++) {
        struct book_entry *entry = &book->entries.items[i];
        if (state_node(state, entry->node) == NULL)
            codec_release(&heartbeat_codec, &entry->heartbeat);
        else if (kept++ != i)
            book->entries.items[kept - 1] = *entry;
    }
    book->entries.count = kept;
}

static uint64_t lease_end(const struct state *state, uint64_t now_ns)
{
    return now_ns + state_lease_ms(state) * NS_PER_MS;
}

void book_init(struct book *book, const struct state *state, uint64_t now_ns)
{
    *book = (struct book){.since_ns = now_ns};
    for (size_t i = 0; i < state->nodes.count; i++) {
        struct book_entry *entry = entry_get(book, state->nodes.items[i].name);
        entry->since_ns = now_ns;
        entry->lease_until_ns = lease_end(state, now_ns);
    }
}

void book_release(struct book *book)
{
    for (size_t i = 0; i < book->entries.count; i++)
        codec_release(&heartbeat_codec, &book->entries.items[i].heartbeat);
    mem_free(book->entries.items);
    tracks_release(book);
    *book = (struct book){0};
}

void book_registered(struct book *book, const struct state *state, const char *node, uint64_t now_ns)
{
    if (book->entries.count > state->nodes.count)
        entries_prune(book, state);
    struct book_entry *entry = entry_get(book, node);
    /* What an earlier incarnation said is not known to be so any more. */
    codec_release(&heartbeat_codec, &entry->heartbeat);
    entry->heard_ns = entry->good_ns = entry->slow.until_ns = entry->hung.until_ns = 0;
    entry->since_ns = now_ns;
    entry->lease_until_ns = lease_end(state, now_ns);
}

const struct gen_report *book_report(const struct book *book, const char *node, const char *uid)
{
    const struct book_entry *entry = book_find(book, node);
    for (size_t i = 0; entry != NULL && i < entry->heartbeat.jobs.count; i++)
        if (strcmp(entry->heartbeat.jobs.items[i].uid, uid) == 0)
            return &entry->heartbeat.jobs.items[i];
    return NULL;
}

bool book_heard(const struct state *state, const struct book *book, const char *name)
{
    const struct node *node = state_node(state, name);
    const struct book_entry *entry = book_find(book, name);
    return node != NULL && node->state != TIDE_NODE_LOST && entry != NULL && entry->heard_ns != 0;
}

uint64_t book_step(const struct book *book, const struct state *state, const char *job)
{
    const struct job_record *record = state_job(state, job);
    const struct track *track = record != NULL ? track_find(book, record->job.uid) : NULL;
    return track != NULL ? track->top_step : 0;
}

/* ---- did anything but steps change? ---- */

static bool colours_same(const struct rank_report *x, const struct rank_report *y)
{
    return x->coloured == y->coloured && x->epoch == y->epoch && x->polling == y->polling && x->ended == y->ended &&
           x->left == y->left && x->quiet == y->quiet && x->sent == y->sent && x->arrived == y->arrived && x->cut_mode == y->cut_mode;
}

static bool ranks_same(const struct gen_report *a, const struct gen_report *b)
{
    if (a->ranks.count != b->ranks.count)
        return false;
    for (size_t i = 0; i < a->ranks.count; i++) {
        const struct rank_report *x = &a->ranks.items[i], *y = &b->ranks.items[i];
        if (x->rank != y->rank || x->state != y->state || x->pid != y->pid || x->stepped != y->stepped ||
            x->attached != y->attached || x->exit_code != y->exit_code || x->signal != y->signal ||
            x->exec_failed != y->exec_failed || x->restored_cut != y->restored_cut || x->restore_us != y->restore_us ||
            strcmp(x->tier, y->tier) != 0 || strcmp(x->detail, y->detail) != 0 || !colours_same(x, y))
            return false;
    }
    return true;
}

static bool cuts_same(const struct gen_report *a, const struct gen_report *b)
{
    if (a->cuts.count != b->cuts.count)
        return false;
    for (size_t i = 0; i < a->cuts.count; i++) {
        const struct cut_report *x = &a->cuts.items[i], *y = &b->cuts.items[i];
        if (x->cut != y->cut || x->attempt != y->attempt || x->rank != y->rank || x->progress != y->progress ||
            x->step != y->step || strcmp(x->digest, y->digest) != 0)
            return false;
    }
    return true;
}

static bool stored_same(const struct gen_report *a, const struct gen_report *b)
{
    if (a->shards.count != b->shards.count || a->manifests.count != b->manifests.count)
        return false;
    for (size_t i = 0; i < a->shards.count; i++) {
        const struct shard_report *x = &a->shards.items[i], *y = &b->shards.items[i];
        if (x->cut != y->cut || x->rank != y->rank || x->progress != y->progress || strcmp(x->digest, y->digest) != 0)
            return false;
    }
    for (size_t i = 0; i < a->manifests.count; i++) {
        const struct manifest_report *x = &a->manifests.items[i], *y = &b->manifests.items[i];
        if (x->cut != y->cut || x->progress != y->progress || strcmp(x->digest, y->digest) != 0)
            return false;
    }
    return true;
}

static size_t damaged_in(const struct gen_report *report)
{
    size_t count = 0;
    for (size_t i = 0; i < report->scrubs.count; i++)
        count += report->scrubs.items[i].damaged;
    return count;
}

static bool held_same(const struct held_report *a, const struct held_report *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (a[i].cut != b[i].cut || a[i].rank != b[i].rank)
            return false;
    return true;
}

static bool copies_same(const struct gen_report *a, const struct gen_report *b)
{
    if (a->copies.count != b->copies.count || a->copy_failures.count != b->copy_failures.count ||
        !held_same(a->copies.items, b->copies.items, a->copies.count))
        return false;
    for (size_t i = 0; i < a->copy_failures.count; i++)
        if (a->copy_failures.items[i].cut != b->copy_failures.items[i].cut)
            return false;
    return true;
}

static bool rest_same(const struct gen_report *a, const struct gen_report *b)
{
    if (a->held.count != b->held.count || a->restore_failures.count != b->restore_failures.count ||
        damaged_in(a) != damaged_in(b) || !held_same(a->held.items, b->held.items, a->held.count))
        return false;
    for (size_t i = 0; i < a->restore_failures.count; i++)
        if (a->restore_failures.items[i].cut != b->restore_failures.items[i].cut ||
            a->restore_failures.items[i].rank != b->restore_failures.items[i].rank)
            return false;
    return strlist_same(&a->purged, &b->purged) && strlist_same(&a->left, &b->left);
}

static bool heartbeat_same(const struct heartbeat *a, const struct heartbeat *b)
{
    if (a->jobs.count != b->jobs.count || strcmp(a->health.boot, b->health.boot) != 0 ||
        !health_same(&a->health.facts, &b->health.facts))
        return false;
    for (size_t i = 0; i < a->jobs.count; i++) {
        const struct gen_report *x = &a->jobs.items[i], *y = &b->jobs.items[i];
        if (strcmp(x->uid, y->uid) != 0 || x->generation != y->generation || x->progress != y->progress ||
            strcmp(x->detail, y->detail) != 0 || !ranks_same(x, y) || !cuts_same(x, y) || !stored_same(x, y) ||
            !rest_same(x, y) || !copies_same(x, y))
            return false;
    }
    return true;
}

/* ---- heartbeats ---- */

static enum tide_status check_sender(const struct state *state, const struct heartbeat *heartbeat, struct err *err)
{
    const struct node *node = state_node(state, heartbeat->node);
    if (node == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "node %s is not registered; register first", heartbeat->node);
    if (strcmp(node->uid, heartbeat->uid) != 0 || strcmp(node->incarnation, heartbeat->incarnation) != 0)
        return err_set(err, TIDE_E_STALE, "node %s is another agent, or another start of it, by now; register again",
                       heartbeat->node);
    if (node->state == TIDE_NODE_LOST)
        return err_set(err, TIDE_E_NOT_FOUND, "node %s was declared lost; register again", heartbeat->node);
    /* It registered when the group could not take down a pin. It can now. */
    if (heartbeat->keyed && node->pin[0] == '\0' && state->level >= PIN_LEVEL)
        return err_set(err, TIDE_E_NOT_FOUND, "nobody has told the pin of node %s: register again", heartbeat->node);
    return TIDE_OK;
}

static void note_steps(struct book *book, const struct state *state, const struct heartbeat *heartbeat, uint64_t now_ns)
{
    for (size_t i = 0; i < heartbeat->jobs.count; i++) {
        const struct job_record *record = state_job_uid(state, heartbeat->jobs.items[i].uid);
        if (record != NULL && job_active(record))
            track_steps(track_get(book, record->job.uid), state, &heartbeat->jobs.items[i], now_ns);
    }
}

enum tide_status book_heartbeat(struct book *book, const struct state *state, struct heartbeat *heartbeat, uint64_t now_ns,
                                bool *ret_changed, struct err *err)
{
    enum tide_status status = check_sender(state, heartbeat, err);
    if (status != TIDE_OK)
        return status;
    struct book_entry *entry = entry_get(book, heartbeat->node);
    if (entry->heard_ns != 0 && heartbeat->sequence <= entry->heartbeat.sequence) {
        /* Late or repeated: a newer one was taken in, and this one is no sign of life. */
        codec_release(&heartbeat_codec, heartbeat);
        *ret_changed = false;
        return TIDE_OK;
    }
    *ret_changed = entry->heard_ns == 0 || !heartbeat_same(&entry->heartbeat, heartbeat);
    note_steps(book, state, heartbeat, now_ns);
    codec_release(&heartbeat_codec, &entry->heartbeat);
    entry->heartbeat = *heartbeat;
    *heartbeat = (struct heartbeat){0};
    entry->heard_ns = now_ns;
    entry->lease_until_ns = lease_end(state, now_ns);
    return TIDE_OK;
}
