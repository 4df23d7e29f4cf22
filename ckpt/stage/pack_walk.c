/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/pack_walk.h"

#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"

#define NO_PACK UINT32_MAX

/* ---- what is got together ---- */

static const struct walk_place *place_in(const struct pack_walk *walk, uint32_t pack)
{
    return walk->next < walk->count && walk->places[walk->next].pack == pack ? &walk->places[walk->next] : NULL;
}

static uint64_t pack_bytes(const struct pack_walk *walk, uint32_t pack)
{
    return walk->reader.manifest->packs.items[pack].bytes;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Chunks of the pack while they fit; ret_end is behind them. Those of a hostile manifest may overlap. */
static void take_places(struct pack_walk *walk, struct span *span, uint64_t *end)
{
    const struct walk_place *place;
    span->first = walk->next;
    for (; (place = place_in(walk, span->pack)) != NULL; walk->next++) {
        uint64_t behind = place->offset + place->length;
        if (behind - span->offset > SPAN_BYTES_MAX || (!walk->whole[span->pack] && place->offset > *end + SPAN_GAP_MAX))
            break;
        *end = behind > *end ? behind : *end;
    }
    span->end = walk->next;
}

/* What comes next of the pack, which has a chunk or is read whole. A chunk is never in two spans. */
static void plan_in(struct pack_walk *walk, struct span *span)
{
    const struct walk_place *place = place_in(walk, walk->pack);
    int whole = walk->whole[walk->pack];
    span->pack = walk->pack;
    span->offset = place != NULL && (!whole || place->offset < walk->to) ? place->offset : walk->to;
    uint64_t end = span->offset;
    take_places(walk, span, &end);
    if (whole) {
        place = place_in(walk, walk->pack);
        uint64_t most = least(span->offset + SPAN_BYTES_MAX, place != NULL ? place->offset : pack_bytes(walk, walk->pack));
        end = most > end ? most : end;
    }
    span->bytes = (uint32_t)(end - span->offset);
    walk->to = end > walk->to ? end : walk->to;
}

static int plan(struct shard_reader *reader, struct span *span)
{
    struct pack_walk *walk = (struct pack_walk *)(void *)reader;
    for (; walk->pack < reader->manifest->packs.count; walk->pack++, walk->to = 0) {
        int rest = walk->whole[walk->pack] && walk->to < pack_bytes(walk, walk->pack);
        if (!rest && place_in(walk, walk->pack) == NULL)
            continue;
        plan_in(walk, span);
        return 0;
    }
    return 1;
}

/* ---- the walk ---- */

enum tide_status pack_walk_init(struct pack_walk *walk, struct store *store, const struct rank_manifest *manifest, struct err *err)
{
    *walk = (struct pack_walk){.now = NO_PACK};
    enum tide_status status = shard_reader_init(&walk->reader, store, manifest, err);
    if (status != TIDE_OK)
        return status;
    walk->reader.plan = plan;
    walk->places = mem_try_array(manifest->chunks.count, sizeof *walk->places);
    walk->whole = mem_try_array(manifest->packs.count, sizeof *walk->whole);
    walk->run = digest_run_create();
    if (walk->places == NULL || walk->whole == NULL || walk->run == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to read the packs of rank %u", manifest->rank);
    return TIDE_OK;
}

void pack_walk_release(struct pack_walk *walk)
{
    shard_reader_release(&walk->reader);
    mem_free(walk->places);
    mem_free(walk->whole);
    digest_run_free(walk->run);
    *walk = (struct pack_walk){.now = NO_PACK};
}

void pack_walk_add(struct pack_walk *walk, uint64_t index, const struct chunk *chunk)
{
    walk->places[walk->count++] =
        (struct walk_place){.index = index, .offset = chunk->offset, .pack = chunk->pack, .length = chunk->length};
}

void pack_walk_whole(struct pack_walk *walk, size_t pack)
{
    walk->whole[pack] = 1;
}

static int by_place(const void *a, const void *b)
{
    const struct walk_place *x = a, *y = b;
    if (x->pack != y->pack)
        return x->pack < y->pack ? -1 : 1;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

struct span *pack_walk_next(struct pack_walk *walk, struct span *done)
{
    if (done == NULL && walk->count > 0)
        qsort(walk->places, walk->count, sizeof walk->places[0], by_place);
    return shard_span_next(&walk->reader, done);
}

/* ---- digests of packs ---- */

void pack_walk_take(struct pack_walk *walk, const struct span *span, uint64_t to)
{
    if (!walk->whole[span->pack])
        return;
    if (walk->now != span->pack) {
        walk->now = span->pack;
        walk->taken = 0;
        walk->status = TIDE_OK;
        digest_run_restart(walk->run);
    }
    if (walk->status == TIDE_OK && span->status != TIDE_OK)
        walk->status = err_set(&walk->why, span->status, "%s", span->err.text);
    if (walk->status != TIDE_OK || to <= walk->taken)
        return;
    digest_run_add(walk->run, span->room + (walk->taken - span->offset), to - walk->taken);
    walk->taken = to;
}

static int is_named(const struct pack_walk *walk, uint32_t pack)
{
    const struct rank_manifest *m = walk->reader.manifest;
    struct pack_name name;
    char hex[DIGEST_HEX_CHARS + 1];
    digest_hex(digest_run_end(walk->run), hex);
    return key_pack_parse(m->packs.items[pack].key, m->job, m->uid, &name) == 0 && strncmp(hex, name.content, PACK_CONTENT_CHARS) == 0;
}

/* A byte may have been changed on its way here: all of it once more. */
static enum tide_status read_again(struct pack_walk *walk, const struct span *span, struct err *err)
{
    const char *key = walk->reader.manifest->packs.items[span->pack].key;
    uint64_t bytes = pack_bytes(walk, span->pack);
    digest_run_restart(walk->run);
    for (uint64_t at = 0; at < bytes; at += SPAN_BYTES_MAX) {
        size_t some = least(bytes - at, SPAN_BYTES_MAX);
        enum tide_status status = store_get(walk->reader.store, key, at, span->room, some, err);
        if (status != TIDE_OK)
            return status;
        digest_run_add(walk->run, span->room, some);
    }
    return is_named(walk, span->pack) ? TIDE_OK : err_set(err, TIDE_E_CORRUPT, "object %s does not match the digest in its name", key);
}

int pack_walk_end(struct pack_walk *walk, struct span *span, enum tide_status *ret_status, struct err *err)
{
    uint64_t end = span->offset + span->bytes;
    pack_walk_take(walk, span, end);
    if (!walk->whole[span->pack] || end < pack_bytes(walk, span->pack))
        return 0;
    enum tide_status status = walk->status;
    if (status != TIDE_OK)
        err_set(err, status, "%s", walk->why.text);
    else if (!is_named(walk, span->pack))
        status = read_again(walk, span, err);
    *ret_status = status;
    return 1;
}
