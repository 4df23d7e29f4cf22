/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/tables.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/shard.h"

struct entry {
    struct tables tables; /* first: what users have points here */
    struct entry *next;
    struct store *store;
    struct digest made_of; /* the digests of all rank manifests */
    unsigned users;
    enum { BEING_READ, READ, FAILED } state;
    struct err why; /* FAILED */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct entry *first;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

/* ---- reading ---- */

/* Of each manifest the table alone is kept. */
static enum tide_status take_table(struct store *store, const struct manifest *whole, uint32_t rank, struct tables *to, struct err *err)
{
    struct rank_manifest m;
    enum tide_status status = rank_manifest_read(store, whole, rank, &m, err);
    if (status != TIDE_OK)
        return status;
    if (rank > 0 && m.step != to->step)
        status = err_set(err, TIDE_E_MISMATCH,
                         "in checkpoint %" PRIu64 " rank %u is at step %" PRIu64 " and rank 0 at %" PRIu64
                         ": ranks that count steps of their own cannot be restored in another number",
                         whole->cut, rank, m.step, to->step);
    to->step = m.step;
    to->ranks[rank] = (struct reshard_rank){.regions = m.regions.items, .count = m.regions.count};
    to->rank_count = rank + 1;
    memset(&m.regions, 0, sizeof m.regions);
    codec_release(&rank_manifest_codec, &m);
    return status;
}

static enum tide_status read_all(struct store *store, const struct manifest *whole, struct tables *to, struct err *err)
{
    to->ranks = mem_try_array(whole->world_size, sizeof *to->ranks);
    if (to->ranks == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for the tables of %u ranks", whole->world_size);
    enum tide_status status = TIDE_OK;
    for (uint32_t rank = 0; status == TIDE_OK && rank < whole->world_size; rank++)
        status = take_table(store, whole, rank, to, err);
    return status;
}

/* What the tables follow from: every rank manifest is what its digest says. Nonzero: no memory. */
static int digest_of_all(const struct manifest *whole, struct digest *ret_digest)
{
    struct digest_run *run = digest_run_create();
    if (run == NULL)
        return -1;
    for (size_t i = 0; i < whole->shards.count; i++)
        digest_run_add(run, whole->shards.items[i].digest, sizeof whole->shards.items[i].digest);
    *ret_digest = digest_run_end(run);
    digest_run_free(run);
    return 0;
}

/* ---- sharing ---- */

/* With the lock, here and below. One that failed is nobody's who comes later. */
static struct entry *find(struct store *store, struct digest made_of)
{
    struct entry *e = all.first;
    while (e != NULL && (e->store != store || e->state == FAILED || !digest_equal(e->made_of, made_of)))
        e = e->next;
    return e;
}

static void leave(struct entry *entry)
{
    struct entry **at = &all.first;
    if (--entry->users > 0)
        return;
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    for (uint32_t i = 0; i < entry->tables.rank_count; i++)
        mem_free((void *)entry->tables.ranks[i].regions);
    mem_free(entry->tables.ranks);
    mem_free(entry);
}

/* Without the lock meanwhile. */
static void read_entry(struct entry *entry, const struct manifest *whole)
{
    pthread_mutex_unlock(&all.lock);
    enum tide_status status = read_all(entry->store, whole, &entry->tables, &entry->why);
    pthread_mutex_lock(&all.lock);
    entry->state = status == TIDE_OK ? READ : FAILED;
    pthread_cond_broadcast(&all.changed);
}

enum tide_status tables_take(struct store *store, const struct manifest *whole, const struct tables **ret_tables, struct err *err)
{
    struct digest made_of;
    if (digest_of_all(whole, &made_of) != 0)
        return err_set(err, TIDE_E_NOMEM, "no memory for a digest");
    enum tide_status status = TIDE_OK;
    pthread_mutex_lock(&all.lock);
    struct entry *entry = find(store, made_of);
    if (entry != NULL) {
        entry->users++;
        while (entry->state == BEING_READ) /* that ends in time: each of its questions to the store does */
            pthread_cond_wait(&all.changed, &all.lock);
    } else if ((entry = mem_try_alloc(sizeof *entry)) != NULL) {
        *entry = (struct entry){.next = all.first, .store = store, .made_of = made_of, .users = 1};
        all.first = entry;
        read_entry(entry, whole);
    }
    if (entry == NULL) {
        status = err_set(err, TIDE_E_NOMEM, "no memory for the tables of %u ranks", whole->world_size);
    } else if (entry->state == FAILED) {
        status = err_set(err, entry->why.status, "%s", entry->why.text);
        leave(entry);
    } else {
        *ret_tables = &entry->tables;
    }
    pthread_mutex_unlock(&all.lock);
    return status;
}

void tables_give(const struct tables *tables)
{
    if (tables == NULL)
        return;
    pthread_mutex_lock(&all.lock);
    leave((struct entry *)(void *)tables);
    pthread_mutex_unlock(&all.lock);
}
