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

static enum tide_status read_ranks(struct store *store, const struct manifest *whole, struct catalogue_found *found, struct err *err)
{
    for (uint32_t rank = 0; rank < whole->world_size; rank++) {
        struct rank_manifest part;
        enum tide_status status = rank_manifest_read(store, whole, rank, &part, err);
        if (status != TIDE_OK)
            return status;
        found->raw_bytes += part.data_bytes;
        found->stored_bytes += whole->shards.items[rank].stored_bytes;
        codec_release(&rank_manifest_codec, &part);
    }
    return TIDE_OK;
}

enum tide_status catalogue_read(struct store *store, const struct catalogue_entry *entry, struct catalogue_found *ret_found,
                                struct err *err)
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
    status = read_ranks(store, &whole, &found, err);
    codec_release(&manifest_codec, &whole);
    if (status == TIDE_OK)
        *ret_found = found;
    return status;
}
