/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/tables.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/stage/shard.h"

#define STRING_COST 24u /* of each line of a list, besides its text: its pointer, and what the heap adds */

enum state { BEING_READ, READ, FAILED };

/* A rank manifest, in its entry's array until another takes its place. */
struct kept {
    struct rank_manifest manifest; /* first: what users have points here */
    uint64_t bytes;
    unsigned users;
    enum state state;
    struct err why; /* FAILED */
};

struct entry {
    struct tables tables; /* first: what users have points here */
    struct entry *next;
    struct store *store;
    struct digest made_of; /* the digests of all rank manifests */
    struct kept **kept;    /* by rank, NULL: none; world_size of them, as soon as it is READ */
    uint32_t world_size;
    unsigned users;
    unsigned progress; /* while it is BEING_READ */
    enum state state;
    struct err why; /* FAILED */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct entry *first;
    uint64_t kept_bytes; /* of all kept manifests that stand in an entry's array, and are READ */
    uint64_t wait_ns, kept_bytes_max;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER,
         .changed = PTHREAD_COND_INITIALIZER,
         .wait_ns = TABLES_WAIT_S * NS_PER_S,
         .kept_bytes_max = TABLES_KEPT_BYTES};

void tables_limit(uint64_t wait_ms, uint64_t kept_bytes)
{
    pthread_mutex_lock(&all.lock);
    all.wait_ns = wait_ms * NS_PER_MS;
    all.kept_bytes_max = kept_bytes;
    pthread_mutex_unlock(&all.lock);
}

/* ---- manifests; with the lock ---- */

static uint64_t bytes_of(const struct rank_manifest *m)
{
    uint64_t bytes = sizeof(struct kept) + m->packs.count * sizeof(struct pack_entry);
    for (size_t i = 0; i < m->chunks.count; i++)
        bytes += strlen(m->chunks.items[i]) + STRING_COST;
    return bytes;
}

static void kept_free(struct kept *kept)
{
    if (kept->state == READ)
        codec_release(&rank_manifest_codec, &kept->manifest);
    mem_free(kept);
}

/* Out of its place, if it is still there. It is freed when nobody uses it. */
static void kept_drop(struct entry *entry, uint32_t rank)
{
    struct kept *kept = entry->kept[rank];
    entry->kept[rank] = NULL;
    all.kept_bytes -= kept->state == READ ? kept->bytes : 0;
    if (kept->users == 0)
        kept_free(kept);
}

/* Ranks need those of different ranks, for the most part: one that was used is less likely to be wanted again than one that was not. */
static void kept_leave(struct entry *entry, uint32_t rank, struct kept *kept)
{
    if (--kept->users > 0)
        return;
    if (entry->kept[rank] != kept)
        kept_free(kept);
    else if (kept->state == FAILED || all.kept_bytes > all.kept_bytes_max)
        kept_drop(entry, rank);
}

/* ---- reading; without the lock ---- */

/* Of each manifest the table is taken; the rest is kept while there is room. */
static enum tide_status take_table(struct entry *entry, const struct manifest *whole, uint32_t rank, struct kept *kept, struct err *err)
{
    struct tables *to = &entry->tables;
    struct rank_manifest *m = &kept->manifest;
    enum tide_status status = rank_manifest_read(entry->store, whole, rank, m, err);
    if (status != TIDE_OK)
        return status;
    kept->state = READ;
    kept->bytes = bytes_of(m);
    if (rank > 0 && m->step != to->step)
        status = err_set(err, TIDE_E_MISMATCH,
                         "in checkpoint %" PRIu64 " rank %u is at step %" PRIu64 " and rank 0 at %" PRIu64
                         ": ranks that count steps of their own cannot be restored in another number",
                         whole->cut, rank, m->step, to->step);
    to->step = m->step;
    to->ranks[rank] = (struct reshard_rank){.regions = m->regions.items, .count = m->regions.count};
    to->rank_count = rank + 1;
    memset(&m->regions, 0, sizeof m->regions);
    return status;
}

static enum tide_status take_rank(struct entry *entry, const struct manifest *whole, uint32_t rank, struct err *err)
{
    struct kept *kept = mem_try_alloc(sizeof *kept);
    if (kept == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for the manifest of rank %u", rank);
    enum tide_status status = take_table(entry, whole, rank, kept, err);
    pthread_mutex_lock(&all.lock);
    entry->progress++;
    bool stays = status == TIDE_OK && all.kept_bytes + kept->bytes <= all.kept_bytes_max;
    if (stays) {
        entry->kept[rank] = kept;
        all.kept_bytes += kept->bytes;
    }
    pthread_mutex_unlock(&all.lock);
    if (!stays)
        kept_free(kept);
    return status;
}

static enum tide_status read_all(struct entry *entry, const struct manifest *whole, struct err *err)
{
    entry->tables.ranks = mem_try_array(whole->world_size, sizeof *entry->tables.ranks);
    entry->kept = mem_try_array(whole->world_size, sizeof *entry->kept);
    if (entry->tables.ranks == NULL || entry->kept == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for the tables of %u ranks", whole->world_size);
    entry->world_size = whole->world_size;
    enum tide_status status = TIDE_OK;
    for (uint32_t rank = 0; status == TIDE_OK && rank < whole->world_size; rank++)
        status = take_rank(entry, whole, rank, err);
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

/* ---- sharing; with the lock ---- */

/* One that failed is nobody's who comes later. */
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
    for (uint32_t i = 0; i < entry->world_size; i++)
        if (entry->kept[i] != NULL)
            kept_drop(entry, i);
    mem_free(entry->tables.ranks);
    mem_free(entry->kept);
    mem_free(entry);
}

/* Until it is read, or nothing of it has come for too long: nonzero. */
static int await(const enum state *state, const unsigned *progress)
{
    unsigned seen = *progress;
    struct timespec until;
    for (int late = 0; *state == BEING_READ;) {
        if (late && *progress == seen)
            return 1;
        seen = *progress;
        clock_gettime(CLOCK_MONOTONIC, &until);
        uint64_t ns = (uint64_t)until.tv_nsec + all.wait_ns;
        until.tv_sec += (time_t)(ns / NS_PER_S);
        until.tv_nsec = (long)(ns % NS_PER_S);
        for (late = 0; *state == BEING_READ && !late;)
            late = pthread_cond_clockwait(&all.changed, &all.lock, CLOCK_MONOTONIC, &until) != 0;
    }
    return 0;
}

/* Without the lock meanwhile. */
static void read_entry(struct entry *entry, const struct manifest *whole)
{
    pthread_mutex_unlock(&all.lock);
    enum tide_status status = read_all(entry, whole, &entry->why);
    pthread_mutex_lock(&all.lock);
    entry->state = status == TIDE_OK ? READ : FAILED;
    pthread_cond_broadcast(&all.changed);
}

/* One that others read, or have read; NULL: there is none, or it does not come. */
static struct entry *others_entry(struct store *store, struct digest made_of)
{
    struct entry *entry = find(store, made_of);
    if (entry == NULL)
        return NULL;
    entry->users++;
    if (!await(&entry->state, &entry->progress))
        return entry;
    leave(entry);
    return NULL;
}

enum tide_status tables_take(struct store *store, const struct manifest *whole, const struct tables **ret_tables, struct err *err)
{
    struct digest made_of;
    if (digest_of_all(whole, &made_of) != 0)
        return err_set(err, TIDE_E_NOMEM, "no memory for a digest");
    enum tide_status status = TIDE_OK;
    pthread_mutex_lock(&all.lock);
    struct entry *entry = others_entry(store, made_of);
    if (entry == NULL && (entry = mem_try_alloc(sizeof *entry)) != NULL) {
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

/* ---- one manifest ---- */

static struct kept *others_kept(struct entry *entry, uint32_t rank)
{
    static const unsigned none = 0;
    struct kept *kept = entry->kept[rank];
    if (kept == NULL || kept->state == FAILED)
        return NULL;
    kept->users++;
    if (!await(&kept->state, &none))
        return kept;
    kept_leave(entry, rank, kept);
    return NULL;
}

/* In the place of one that failed, or does not come; without the lock meanwhile. */
static void read_kept(struct entry *entry, const struct manifest *whole, uint32_t rank, struct kept *kept)
{
    if (entry->kept[rank] != NULL)
        kept_drop(entry, rank);
    entry->kept[rank] = kept;
    pthread_mutex_unlock(&all.lock);
    enum tide_status status = rank_manifest_read(entry->store, whole, rank, &kept->manifest, &kept->why);
    pthread_mutex_lock(&all.lock);
    kept->state = status == TIDE_OK ? READ : FAILED;
    kept->bytes = status == TIDE_OK ? bytes_of(&kept->manifest) : 0;
    all.kept_bytes += entry->kept[rank] == kept ? kept->bytes : 0;
    pthread_cond_broadcast(&all.changed);
}

enum tide_status tables_manifest(const struct tables *tables, const struct manifest *whole, uint32_t rank,
                                 const struct rank_manifest **ret_manifest, struct err *err)
{
    struct entry *entry = (struct entry *)(void *)tables;
    enum tide_status status = TIDE_OK;
    pthread_mutex_lock(&all.lock);
    struct kept *kept = others_kept(entry, rank);
    if (kept == NULL && (kept = mem_try_alloc(sizeof *kept)) != NULL) {
        kept->users = 1;
        read_kept(entry, whole, rank, kept);
    }
    if (kept == NULL) {
        status = err_set(err, TIDE_E_NOMEM, "no memory for the manifest of rank %u", rank);
    } else if (kept->state == FAILED) {
        status = err_set(err, kept->why.status, "%s", kept->why.text);
        kept_leave(entry, rank, kept);
    } else {
        *ret_manifest = &kept->manifest;
    }
    pthread_mutex_unlock(&all.lock);
    return status;
}

void tables_manifest_give(const struct tables *tables, const struct rank_manifest *manifest)
{
    pthread_mutex_lock(&all.lock);
    kept_leave((struct entry *)(void *)tables, manifest->rank, (struct kept *)(void *)manifest);
    pthread_mutex_unlock(&all.lock);
}
