/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/base.h"

#include <stdio.h>
#include <string.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"

#define BASE_FILE_FORMAT "r%u.base"
#define BASE_FILE_MODE 0600
#define BASE_TEXT_MAX (TIDE_PATH_MAX + DIGEST_HEX_CHARS + 2)
#define LIVE_PART 2 /* a pack of which less than half is the same is not referred to: what is dead in it could never go */
#define BASE_PACKS_MAX (RANK_PACKS_MAX / 2) /* the others are for what is new */

/* ---- which one it is ---- */

static void base_path(const char *arena, uint32_t rank, arena_path ret_path)
{
    snprintf(ret_path, sizeof(arena_path), "%.*s/" BASE_FILE_FORMAT, TIDE_PATH_MAX, arena, rank);
}

void base_save(const char *arena, const struct rank_manifest *manifest, const char *key, const char *digest)
{
    arena_path path;
    char text[BASE_TEXT_MAX];
    struct err why;
    base_path(arena, manifest->rank, path);
    int n = snprintf(text, sizeof text, "%s %s", digest, key);
    /* Without it the next cut is stored whole. */
    if (fsx_replace(path, text, (size_t)n, BASE_FILE_MODE, &why) != TIDE_OK)
        return;
}

/* Is what was read the manifest that was meant, and of use for the next? */
static int fits(const struct rank_manifest *m, const struct rank_manifest *next)
{
    return strcmp(m->job, next->job) == 0 && strcmp(m->uid, next->uid) == 0 && m->rank == next->rank && m->cut < next->cut;
}

static int load(struct base *base, struct store *store, const char *arena, const struct rank_manifest *next)
{
    arena_path path;
    char *text = NULL, hex[DIGEST_HEX_CHARS + 1];
    size_t bytes = 0;
    base_path(arena, next->rank, path);
    if (fsx_read(path, BASE_TEXT_MAX, &text, &bytes, NULL) != TIDE_OK)
        return 0;
    int good = 0;
    if (bytes > DIGEST_HEX_CHARS + 1 && store_key_valid(text + DIGEST_HEX_CHARS + 1)) {
        text_copy(hex, sizeof hex, text);
        good = shard_manifest_read(store, text + DIGEST_HEX_CHARS + 1, hex, &base->manifest, NULL) == TIDE_OK;
    }
    mem_free(text);
    if (good && !fits(&base->manifest, next)) {
        codec_release(&rank_manifest_codec, &base->manifest);
        good = 0;
    }
    return good;
}

/* ---- chunks by their digests ---- */

static enum tide_status index_chunks(struct base *base, struct err *err)
{
    const struct rank_manifest *m = &base->manifest;
    uint64_t count = m->chunks.count;
    base->chunks = mem_try_array(count, sizeof *base->chunks);
    base->live = mem_try_array(m->packs.count, sizeof *base->live);
    base->pack = mem_try_array(m->packs.count, sizeof *base->pack);
    if (base->chunks == NULL || base->live == NULL || base->pack == NULL || digest_index_init(&base->index, count) != 0)
        return err_set(err, TIDE_E_NOMEM, "no memory to compare with cut %llu", (unsigned long long)m->cut);
    for (uint64_t i = 0; i < count; i++) {
        enum tide_status status = chunk_parse(m->chunks.items[i], &base->chunks[i], err);
        if (status != TIDE_OK)
            return status;
        if (base->chunks[i].codec != CHUNK_ZERO)
            digest_index_add(&base->index, &base->chunks->digest, sizeof *base->chunks, (uint32_t)i);
    }
    return TIDE_OK;
}

static const struct chunk *same_as(const struct base *base, uint64_t index, struct digest digest)
{
    /* Most that is the same stands where it stood. */
    if (index < base->manifest.chunks.count && digest_equal(base->chunks[index].digest, digest))
        return base->chunks[index].codec == CHUNK_ZERO ? NULL : &base->chunks[index];
    uint32_t found = digest_index_find(&base->index, &base->chunks->digest, sizeof *base->chunks, digest);
    return found != 0 ? &base->chunks[found - 1] : NULL;
}

int base_find(const struct base *base, uint64_t index, struct digest digest, struct chunk *ret_chunk)
{
    const struct chunk *same = base->have ? same_as(base, index, digest) : NULL;
    if (same == NULL || base->live[same->pack] == 0)
        return 0;
    *ret_chunk = *same;
    ret_chunk->pack = base->pack[same->pack];
    return 1;
}

/* ---- which packs ---- */

/* The newest cuts that its packs are of, newest first. */
struct cuts {
    uint64_t items[BASE_CUTS_MAX];
    unsigned count;
};

static void add_cut(struct cuts *cuts, uint64_t cut)
{
    unsigned at = 0;
    while (at < cuts->count && cuts->items[at] > cut)
        at++;
    if (at == BASE_CUTS_MAX || (at < cuts->count && cuts->items[at] == cut))
        return;
    if (cuts->count < BASE_CUTS_MAX)
        cuts->count++;
    memmove(&cuts->items[at + 1], &cuts->items[at], (cuts->count - 1 - at) * sizeof cuts->items[0]);
    cuts->items[at] = cut;
}

/* 0: it is no pack of the job, which its check would not have let pass. */
static uint64_t cut_of(const struct rank_manifest *m, size_t pack)
{
    struct pack_name name;
    return key_pack_parse(m->packs.items[pack].key, m->job, m->uid, &name) ? 0 : name.cut;
}

/* What a reader has found damaged would make every new cut that refers to it as bad. */
static enum tide_status list_damaged(struct store *store, const struct rank_manifest *next, struct strlist *ret_keys, struct err *err)
{
    object_key prefix;
    key_damaged(next->job, next->uid, 0, prefix);
    return store_list(store, prefix, ret_keys, err);
}

static int is_damaged(const struct rank_manifest *m, const struct strlist *damaged, uint64_t cut)
{
    uint64_t one = 0;
    for (size_t i = 0; i < damaged->count; i++)
        if (key_damaged_parse(damaged->items[i], m->job, m->uid, &one) == 0 && one == cut)
            return 1;
    return 0;
}

static void choose_packs(struct base *base, const struct digest *digests, uint64_t count, const struct strlist *damaged,
                         struct cuts *ret_cuts)
{
    const struct rank_manifest *m = &base->manifest;
    size_t chosen = 0;
    for (uint64_t i = 0; i < count; i++) {
        const struct chunk *same = same_as(base, i, digests[i]);
        if (same != NULL)
            base->live[same->pack] += same->length;
    }
    *ret_cuts = (struct cuts){0};
    for (size_t p = 0; p < m->packs.count; p++) {
        if (base->live[p] * LIVE_PART < m->packs.items[p].bytes || is_damaged(m, damaged, cut_of(m, p)) || ++chosen > BASE_PACKS_MAX)
            base->live[p] = 0;
        if (base->live[p] > 0)
            add_cut(ret_cuts, cut_of(m, p));
    }
    for (size_t p = 0; p < m->packs.count; p++)
        if (base->live[p] > 0 && cut_of(m, p) < ret_cuts->items[ret_cuts->count - 1])
            base->live[p] = 0;
}

/* First the promise that they are needed, then a look whether the base is still there: who deletes it removes it first, and
 * looks who needs it then, so that one of the two sees the other. */
static enum tide_status promise(struct base *base, struct store *store, const struct cuts *cuts,
                                const struct rank_manifest *next, struct err *err)
{
    struct cut_name name = rank_manifest_name(next), of_base = rank_manifest_name(&base->manifest);
    object_key key;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < cuts->count; i++) {
        key_need(&name, cuts->items[i], key);
        enum tide_status status = store_put_same(store, key, "", 0, err);
        if (status != TIDE_OK)
            return status;
    }
    key_commit(&of_base, key);
    enum tide_status status = store_size(store, key, &bytes, err);
    if (status == TIDE_OK) {
        key_rank(&of_base, next->rank, key);
        status = store_size(store, key, &bytes, err);
    }
    base->have = status == TIDE_OK;
    return status == TIDE_E_NOT_FOUND ? TIDE_OK : status; /* everything is stored */
}

static void add_packs(struct base *base, struct rank_manifest *next)
{
    for (size_t p = 0; p < base->manifest.packs.count; p++) {
        if (base->live[p] == 0)
            continue;
        base->pack[p] = (uint32_t)next->packs.count;
        struct pack_entry *pack = codec_list_add(&pack_entry_codec, &next->packs);
        *pack = base->manifest.packs.items[p];
    }
}

enum tide_status base_plan(struct base *base, struct store *store, const char *arena, const struct digest *digests,
                           uint64_t count, struct rank_manifest *next, struct err *err)
{
    struct cuts cuts;
    struct strlist damaged = {0};
    *base = (struct base){0};
    if (!load(base, store, arena, next))
        return TIDE_OK;
    enum tide_status status = index_chunks(base, err);
    if (status == TIDE_OK)
        status = list_damaged(store, next, &damaged, err);
    if (status != TIDE_OK)
        return status;
    choose_packs(base, digests, count, &damaged, &cuts);
    strlist_release(&damaged);
    if (cuts.count > 0)
        status = promise(base, store, &cuts, next, err);
    if (status == TIDE_OK && base->have)
        add_packs(base, next);
    return status;
}

void base_release(struct base *base)
{
    if (base->chunks != NULL)
        codec_release(&rank_manifest_codec, &base->manifest);
    mem_free(base->chunks);
    digest_index_release(&base->index);
    mem_free(base->live);
    mem_free(base->pack);
    *base = (struct base){0};
}
