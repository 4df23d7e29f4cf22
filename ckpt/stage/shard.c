/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/shard.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/wire/local.h"

void slot_path(const char *arena, uint32_t rank, uint32_t slot, arena_path ret_path)
{
    snprintf(ret_path, sizeof(arena_path), "%.*s/" SLOT_FILE_FORMAT, TIDE_PATH_MAX, arena, rank, slot);
}

void slot_sum_path(const char *arena, uint32_t rank, uint32_t slot, arena_path ret_path)
{
    snprintf(ret_path, sizeof(arena_path), "%.*s/" SLOT_SUM_FILE_FORMAT, TIDE_PATH_MAX, arena, rank, slot);
}

/* ---- regions ---- */

/* The arena is shared: copies are what is judged and used. */
void region_describe(const struct slot_region *shared, const struct slot_part *part, struct region_entry *ret_entry)
{
    struct slot_region from = *shared;
    struct region_entry to = {.memory = from.memory, .dtype = from.dtype, .kind = from.kind, .offset = from.offset, .bytes = from.bytes};
    text_copy(to.name, sizeof to.name, from.name);
    shape_print(from.ndim, from.shape, to.shape);
    if (part != NULL && from.kind == REGION_SHARD) {
        shape_print(from.ndim, part->whole, to.whole);
        shape_print(from.ndim, part->at, to.at);
    }
    *ret_entry = to;
}

void region_lay(const struct region_entry *from, struct slot_region *ret_region, struct slot_part *part)
{
    struct slot_region to = {.memory = from->memory, .dtype = from->dtype, .kind = from->kind};
    to.offset = from->offset;
    to.bytes = from->bytes;
    unsigned ndim = 0, same;
    text_copy(to.name, sizeof to.name, from->name);
    /* Checked when the manifest was parsed. */
    if (shape_parse(from->shape, &ndim, to.shape))
        ndim = 0;
    to.ndim = ndim;
    if (part != NULL && from->kind == REGION_SHARD &&
        (shape_parse(from->whole, &same, part->whole) || shape_parse(from->at, &same, part->at)))
        *part = (struct slot_part){.whole = {0}};
    *ret_region = to;
}

bool regions_have_parts(const struct region_entry *regions, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (regions[i].kind == REGION_SHARD)
            return true;
    return false;
}

/* ---- packs ---- */

enum tide_status packs_list(struct store *store, const char *job, const char *uid, uint64_t cut, unsigned place,
                            struct strlist *ret_keys, struct err *err)
{
    struct strlist prefixes = {0};
    object_key prefix;
    for (unsigned i = 0; i < PLACES_LISTED; i++) {
        key_prefix_packs(job, uid, cut, place + i, prefix);
        strlist_add(&prefixes, prefix);
    }
    enum tide_status status = store_list_each(store, &prefixes, ret_keys, err);
    strlist_release(&prefixes);
    return status;
}

/* ---- manifests ---- */

/* hex NULL or "": any. CORRUPT: it is another. */
static enum tide_status read_once(struct store *store, const char *key, const char *hex, char **ret_text, size_t *ret_bytes,
                                  struct err *err)
{
    char *text, found[DIGEST_HEX_CHARS + 1];
    size_t bytes;
    enum tide_status status = store_read(store, key, MANIFEST_BYTES_MAX, &text, &bytes, err);
    if (status != TIDE_OK)
        return status;
    digest_hex(digest_of(text, bytes), found);
    if (hex && hex[0] && strcmp(hex, found) != 0) {
        mem_free(text);
        return err_set(err, TIDE_E_CORRUPT, "object %s does not match its digest", key);
    }
    *ret_text = text;
    *ret_bytes = bytes;
    return TIDE_OK;
}

/* A byte may have been changed on its way here. */
static enum tide_status read_checked(struct store *store, const char *key, const char *hex, char **ret_text,
                                     size_t *ret_bytes, struct err *err)
{
    enum tide_status status = read_once(store, key, hex, ret_text, ret_bytes, err);
    return status == TIDE_E_CORRUPT ? read_once(store, key, hex, ret_text, ret_bytes, err) : status;
}

enum tide_status manifest_read(struct store *store, const char *key, const char *digest_hex_text,
                               struct manifest *ret_manifest, struct err *err)
{
    char *text;
    size_t bytes;
    enum tide_status status = read_checked(store, key, digest_hex_text, &text, &bytes, err);
    if (status != TIDE_OK)
        return status;
    struct manifest manifest;
    status = manifest_parse(text, bytes, &manifest, err);
    mem_free(text);
    if (status != TIDE_OK)
        return err_wrap(err, "object %s", key);
    struct cut_name name = manifest_name(&manifest);
    object_key expected;
    key_commit(&name, expected);
    if (strcmp(key, expected) != 0) {
        codec_release(&manifest_codec, &manifest);
        return err_set(err, TIDE_E_CORRUPT, "object %s holds the manifest that belongs to %s", key, expected);
    }
    *ret_manifest = manifest;
    return TIDE_OK;
}

/* Where each rank counts steps of its own, the manifest names the largest. */
static int same_cut(const struct manifest *whole, uint32_t rank, const struct rank_manifest *part)
{
    return part->rank == rank && part->cut == whole->cut && part->generation == whole->generation &&
           part->step <= whole->step && part->world_size == whole->world_size && strcmp(part->uid, whole->uid) == 0 &&
           strcmp(part->job, whole->job) == 0;
}

enum tide_status shard_manifest_read(struct store *store, const char *key, const char *digest_hex_text,
                                     struct rank_manifest *ret_manifest, struct err *err)
{
    char *text;
    size_t bytes;
    enum tide_status status = read_checked(store, key, digest_hex_text, &text, &bytes, err);
    if (status != TIDE_OK)
        return status;
    status = rank_manifest_parse(text, bytes, ret_manifest, err);
    mem_free(text);
    return status == TIDE_OK ? TIDE_OK : err_wrap(err, "object %s", key);
}

enum tide_status rank_manifest_read(struct store *store, const struct manifest *whole, uint32_t rank,
                                    struct rank_manifest *ret_manifest, struct err *err)
{
    if (rank >= whole->shards.count)
        return err_set(err, TIDE_E_NOT_FOUND, "checkpoint %" PRIu64 " of job %s has %u ranks and no rank %u", whole->cut,
                       whole->job, whole->world_size, rank);
    const struct shard_entry *shard = &whole->shards.items[rank];
    struct rank_manifest manifest;
    enum tide_status status = shard_manifest_read(store, shard->key, shard->digest, &manifest, err);
    if (status != TIDE_OK)
        return status;
    if (!same_cut(whole, rank, &manifest)) {
        codec_release(&rank_manifest_codec, &manifest);
        return err_set(err, TIDE_E_CORRUPT, "object %s is of another checkpoint than the manifest that names it",
                       shard->key);
    }
    *ret_manifest = manifest;
    return TIDE_OK;
}

enum tide_status object_put(struct store *store, const struct codec *codec, const void *from, const char *key,
                            char ret_digest[DIGEST_HEX_CHARS + 1], uint64_t *ret_bytes, struct err *err)
{
    char *text = codec_print(codec, from, CODEC_COMPACT);
    size_t bytes = strlen(text);
    enum tide_status status = bytes > MANIFEST_BYTES_MAX
                                  ? err_set(err, TIDE_E_LIMIT, "object %s would have %zu bytes", key, bytes)
                                  : store_put_same(store, key, text, bytes, err);
    if (status == TIDE_OK) {
        digest_hex(digest_of(text, bytes), ret_digest);
        *ret_bytes = bytes;
    }
    mem_free(text);
    return status;
}
