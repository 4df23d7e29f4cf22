/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/catalogue.h"

#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/shard.h"

/* Of one checkpoint, the COMMIT stands first. */
static int by_place(const void *a, const void *b)
{
    const struct catalogue_entry *x = a, *y = b;
    int order = strcmp(x->job, y->job);
    if (order == 0)
        order = strcmp(x->uid, y->uid);
    if (order == 0 && x->cut != y->cut)
        order = x->cut > y->cut ? -1 : 1;
    if (order == 0 && x->generation != y->generation)
        order = x->generation > y->generation ? -1 : 1;
    return order != 0 ? order : y->committed - x->committed;
}

static int same(const struct catalogue_entry *x, const struct catalogue_entry *y)
{
    return x->cut == y->cut && x->generation == y->generation && strcmp(x->uid, y->uid) == 0 && strcmp(x->job, y->job) == 0;
}

/* Every manifest of a checkpoint leads to the same entry. */
static void fold(struct catalogue *catalogue)
{
    struct catalogue_entry *items = catalogue->entries.items;
    size_t kept = 0;
    if (catalogue->entries.count > 0)
        qsort(items, catalogue->entries.count, sizeof *items, by_place);
    for (size_t i = 0; i < catalogue->entries.count; i++)
        if (kept == 0 || !same(&items[kept - 1], &items[i]))
            items[kept++] = items[i];
    catalogue->entries.count = kept;
}

enum tide_status catalogue_take(struct store *store, const char *job, struct catalogue *ret_catalogue, struct err *err)
{
    struct catalogue catalogue = {0};
    struct strlist keys;
    enum tide_status status = store_list(store, "m/", &keys, err);
    if (status != TIDE_OK)
        return status;
    for (size_t i = 0; i < keys.count; i++) {
        struct catalogue_entry entry = {0};
        struct object_name name;
        if (key_manifest_split(keys.items[i], entry.job, entry.uid, &name) != 0 || (job != NULL && strcmp(job, entry.job) != 0))
            continue;
        entry.cut = name.cut;
        entry.generation = name.generation;
        entry.committed = name.kind == OBJECT_COMMIT;
        catalogue.entries.items = mem_grow(catalogue.entries.items, catalogue.entries.count + 1, sizeof entry);
        catalogue.entries.items[catalogue.entries.count++] = entry;
    }
    strlist_release(&keys);
    fold(&catalogue);
    *ret_catalogue = catalogue;
    return TIDE_OK;
}

void catalogue_release(struct catalogue *catalogue)
{
    mem_free(catalogue->entries.items);
    *catalogue = (struct catalogue){0};
}

/* ---- packs ---- */

void catalogue_packs_release(struct catalogue_packs *packs)
{
    strlist_release(&packs->keys);
    *packs = (struct catalogue_packs){.keys = {0}};
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum tide_status list_packs(struct store *store, const struct catalogue_entry *entry, struct catalogue_packs *packs,
                                   struct err *err)
{
    enum tide_status status = TIDE_OK;
    if (strcmp(packs->uid, entry->uid) == 0 && strcmp(packs->job, entry->job) == 0)
        return TIDE_OK;
    catalogue_packs_release(packs);
    for (unsigned place = 0; status == TIDE_OK && place < KEY_PLACES; place += PLACES_LISTED) {
        struct strlist some = {0};
        status = packs_list(store, entry->job, entry->uid, 0, place, &some, err);
        strlist_append(&packs->keys, &some);
    }
    if (status != TIDE_OK)
        return status;
    if (packs->keys.count > 0)
        qsort(packs->keys.items, packs->keys.count, sizeof packs->keys.items[0], by_text);
    text_copy(packs->job, sizeof packs->job, entry->job);
    text_copy(packs->uid, sizeof packs->uid, entry->uid);
    return TIDE_OK;
}

/* A list is a hint: what it does not show is asked for. */
static enum tide_status check_packs(struct store *store, const struct rank_manifest *part, const struct catalogue_packs *packs,
                                    struct err *err)
{
    for (size_t i = 0; i < part->packs.count; i++) {
        const char *key = part->packs.items[i].key;
        const struct strlist *keys = &packs->keys;
        uint64_t bytes = 0;
        if (keys->count > 0 && bsearch(&key, keys->items, keys->count, sizeof keys->items[0], by_text) != NULL)
            continue;
        enum tide_status status = store_size(store, key, &bytes, err);
        if (status == TIDE_E_NOT_FOUND)
            return err_set(err, status,
                           "rank %u of checkpoint %s/%llu refers to %s, which is not in the store: what is copied must be copied with all "
                           "that it refers to",
                           part->rank, part->job, (unsigned long long)part->cut, key);
        if (status != TIDE_OK)
            return status;
    }
    return TIDE_OK;
}

/* ---- one checkpoint ---- */

static enum tide_status read_ranks(struct store *store, const struct manifest *whole, const struct catalogue_packs *packs,
                                   struct catalogue_found *found, struct err *err)
{
    enum tide_status status = TIDE_OK;
    for (uint32_t rank = 0; status == TIDE_OK && rank < whole->world_size; rank++) {
        struct rank_manifest part;
        status = rank_manifest_read(store, whole, rank, &part, err);
        if (status != TIDE_OK)
            return status;
        found->raw_bytes += part.data_bytes;
        found->stored_bytes += whole->shards.items[rank].stored_bytes;
        status = check_packs(store, &part, packs, err);
        codec_release(&rank_manifest_codec, &part);
    }
    return status;
}

enum tide_status catalogue_read(struct store *store, const struct catalogue_entry *entry, struct catalogue_packs *packs,
                                struct catalogue_found *ret_found, struct err *err)
{
    const struct cut_name name = {.job = entry->job, .uid = entry->uid, .cut = entry->cut, .generation = entry->generation};
    struct catalogue_found found = {0};
    struct manifest whole;
    char *text;
    size_t bytes;
    key_commit(&name, found.key);
    enum tide_status status = store_read(store, found.key, MANIFEST_BYTES_MAX, &text, &bytes, err);
    if (status != TIDE_OK)
        return status;
    digest_hex(digest_of(text, bytes), found.digest);
    mem_free(text);
    status = manifest_read(store, found.key, found.digest, &whole, err);
    if (status != TIDE_OK)
        return status;
    found.step = whole.step;
    found.world_size = whole.world_size;
    status = list_packs(store, entry, packs, err);
    if (status == TIDE_OK)
        status = read_ranks(store, &whole, packs, &found, err);
    codec_release(&manifest_codec, &whole);
    if (status == TIDE_OK)
        *ret_found = found;
    return status;
}
