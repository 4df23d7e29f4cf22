/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/text.h"
#include "ckpt/stage/pack_walk.h"
#include "ckpt/stage/seen.h"
#include "ckpt/stage/stage.h"

struct checker {
    struct store *store;
    struct stage_watch watch;
    struct stage_verdict verdict;
    struct seen seen; /* chunks that are right, packs that were read whole, packs that are damaged: see mark_… */
    uint64_t told;    /* or would have been */
    struct digest last; /* of what was told last */
};

/* One rank's turn. */
struct turn {
    struct checker *c;
    const struct rank_manifest *part;
    struct pack_walk walk;
    uint64_t bad, damaged; /* chunks, or packs that cannot be read now */
    uint64_t told;         /* of these, in words of their own, or would have been */
    uint32_t faulty;       /* the pack that had the last fault */
};

/* ---- what is told ---- */

static void tell(struct checker *c, const char *text)
{
    if (c->watch.say && c->told++ < FAULTS_TOLD_MAX)
        c->watch.say(c->watch.context, text);
}

static void tell_spare(struct checker *c, const char *text)
{
    if (c->watch.spare)
        c->watch.spare(c->watch.context, text);
    else
        tell(c, text);
}

static int enough(const struct checker *c)
{
    return c->watch.enough != NULL && c->watch.enough(c->watch.context);
}

int shard_is_damage(enum tide_status status)
{
    return status == TIDE_E_CORRUPT || status == TIDE_E_NOT_FOUND;
}

int shard_is_unread(enum tide_status status)
{
    return status == TIDE_E_IO;
}

void shard_unread(const struct stage_watch *watch, enum tide_status status)
{
    if (watch != NULL && watch->unread != NULL && shard_is_unread(status))
        watch->unread(watch->context);
}

void shard_blame(const struct stage_watch *watch, const struct rank_manifest *m, uint64_t index, enum tide_status status)
{
    struct chunk chunk;
    if (watch != NULL && watch->damaged != NULL && shard_is_damage(status) &&
        chunk_parse(m->chunks.items[index], &chunk, NULL) == TIDE_OK && chunk.codec != CHUNK_ZERO)
        watch->damaged(watch->context, m->packs.items[chunk.pack].key);
}

/* ---- what was seen ---- */

/* A pack that was read whole; and one that was found damaged. */
static struct digest mark_whole(const char *pack)
{
    return digest_of(pack, strlen(pack));
}

static struct digest mark_damaged(const char *pack)
{
    struct digest mark = mark_whole(pack);
    mark.high = ~mark.high;
    return mark;
}

/* What these bytes of a pack become. Ranks that hold the same refer to the same. */
static struct digest mark_chunk(const struct rank_manifest *m, const struct chunk *chunk, uint32_t raw)
{
    const struct {
        struct digest pack, content;
        uint64_t offset, length, codec, raw;
    } what = {.pack = mark_whole(m->packs.items[chunk->pack].key),
              .content = chunk->digest,
              .offset = chunk->offset,
              .length = chunk->length,
              .codec = chunk->codec,
              .raw = raw};
    return digest_of(&what, sizeof what);
}

static void blame(struct checker *c, const char *pack)
{
    struct digest mark = mark_damaged(pack);
    if (seen_has(&c->seen, mark))
        return;
    seen_add(&c->seen, mark);
    c->verdict.packs_bad++;
    if (c->watch.damaged)
        c->watch.damaged(c->watch.context, pack);
}

/* ---- one rank ---- */

/* Nonzero: it is damage. */
static int judge(struct checker *c, enum tide_status status, const char *text)
{
    if (!shard_is_damage(status))
        return 0;
    if (c->verdict.damage[0] == '\0')
        text_fit(c->verdict.damage, sizeof c->verdict.damage, text);
    return 1;
}

static void fault(struct turn *t, enum tide_status status, const char *text)
{
    struct digest words = digest_of(text, strlen(text));
    t->damaged += (uint64_t)judge(t->c, status, text);
    t->bad++;
    if (digest_equal(words, t->c->last))
        return;
    t->c->last = words;
    if (t->told++ < FAULTS_OF_RANK_MAX)
        tell(t->c, text);
}

static void count(struct turn *t, uint64_t index)
{
    t->c->verdict.chunks++;
    if (t->c->watch.progress)
        t->c->watch.progress(t->c->watch.context, chunk_raw_bytes(t->part->data_bytes, index));
}

/* span NULL: nothing is stored of it. */
static void look(struct turn *t, struct span *span, uint64_t index)
{
    struct err why;
    struct digest digest;
    const unsigned char *bytes;
    count(t, index);
    enum tide_status status = shard_span_chunk(&t->walk.reader, span, index, &bytes, &digest, &why);
    if (status == TIDE_OK)
        return;
    fault(t, status, why.text);
    if (span == NULL)
        return;
    t->faulty = span->pack;
    if (shard_is_damage(status))
        blame(t->c, t->part->packs.items[span->pack].key);
}

/* A note says that packs of an earlier cut are needed by this one; without it they go when that cut is deleted. */
static void look_for_note(struct turn *t, uint64_t needed)
{
    struct checker *c = t->c;
    struct cut_name name = rank_manifest_name(t->part);
    object_key key;
    uint64_t bytes;
    struct err why;
    char text[TIDE_TEXT_MAX + 1];
    key_need(&name, needed, key);
    if (seen_has(&c->seen, mark_whole(key)))
        return;
    seen_add(&c->seen, mark_whole(key));
    enum tide_status status = store_size(c->store, key, &bytes, &why);
    if (status == TIDE_OK)
        return;
    if (status != TIDE_E_NOT_FOUND) {
        fault(t, status, why.text);
        return;
    }
    c->verdict.needs_lost++;
    if (c->watch.unkept) {
        c->watch.unkept(c->watch.context, needed);
        return;
    }
    text_say(text, sizeof text,
             "object %s is not in the store: packs of checkpoint %" PRIu64 " that this one needs go when that is deleted", key, needed);
    tell(c, text);
}

/* Which packs are read whole, and which chunks looked at. What is not stored is seen at once. */
static void plan(struct turn *t)
{
    const struct rank_manifest *m = t->part;
    struct pack_name name;
    for (size_t i = 0; i < m->packs.count; i++) {
        const char *key = m->packs.items[i].key;
        if (key_pack_parse(key, m->job, m->uid, &name) != 0)
            continue; /* it was judged when the manifest was read */
        if (name.cut != m->cut)
            look_for_note(t, name.cut);
        if (seen_has(&t->c->seen, mark_whole(key)))
            continue;
        if (name.content[0] != '\0') {
            pack_walk_whole(&t->walk, i);
        } else {
            seen_add(&t->c->seen, mark_whole(key));
            t->c->verdict.packs_unnamed++;
        }
    }
    for (uint64_t i = 0; i < m->chunks.count && !enough(t->c); i++) {
        struct chunk chunk;
        if (chunk_parse(m->chunks.items[i], &chunk, NULL) != TIDE_OK || chunk.codec == CHUNK_ZERO)
            look(t, NULL, i);
        else if (seen_has(&t->c->seen, mark_chunk(m, &chunk, chunk_raw_bytes(m->data_bytes, i))))
            count(t, i);
        else
            pack_walk_add(&t->walk, i, &chunk);
    }
}

/* Its chunks; of one that is the same as one before, in the same place, there is nothing new to see. */
static void look_in(struct turn *t, struct span *span)
{
    const struct rank_manifest *m = t->part;
    uint64_t others = span->bytes;
    for (uint64_t i = span->first; i < span->end && !enough(t->c); i++) {
        const struct walk_place *place = &t->walk.places[i];
        struct chunk chunk;
        uint64_t bad = t->bad;
        if (chunk_parse(m->chunks.items[place->index], &chunk, NULL) != TIDE_OK)
            continue; /* it was read before */
        struct digest mark = mark_chunk(m, &chunk, chunk_raw_bytes(m->data_bytes, place->index));
        if (seen_has(&t->c->seen, mark)) {
            count(t, place->index);
            continue;
        }
        others -= others < place->length ? others : place->length;
        pack_walk_take(&t->walk, span, place->offset + place->length);
        look(t, span, place->index);
        if (t->bad == bad)
            seen_add(&t->c->seen, mark);
    }
    if (t->c->watch.beside && others > 0)
        t->c->watch.beside(t->c->watch.context, others);
}

/* One that was read whole. Where a chunk of this rank suffers that has been told. */
static void whole_pack(struct turn *t, uint32_t pack, enum tide_status status, const char *text)
{
    const char *key = t->part->packs.items[pack].key;
    char spare[TIDE_TEXT_MAX + 1];
    seen_add(&t->c->seen, mark_whole(key));
    t->c->verdict.packs++;
    if (status == TIDE_OK || t->faulty == pack)
        return;
    if (!shard_is_damage(status) && !shard_is_unread(status)) {
        fault(t, status, text);
        return;
    }
    text_say(spare, sizeof spare, "%s; rank %u has all that it needs of it", text, t->part->rank);
    tell_spare(t->c, spare);
    if (shard_is_damage(status))
        blame(t->c, key);
    else
        t->c->verdict.packs_bad++;
}

static void look_at_all(struct turn *t)
{
    struct span *span = NULL;
    while (!enough(t->c) && (span = pack_walk_next(&t->walk, span)) != NULL) {
        struct err why = {0};
        enum tide_status status = TIDE_OK;
        look_in(t, span);
        if (!enough(t->c) && pack_walk_end(&t->walk, span, &status, &why))
            whole_pack(t, span->pack, status, why.text);
    }
}

static void check_part(struct checker *c, const struct rank_manifest *part)
{
    struct turn t = {.c = c, .part = part, .faulty = UINT32_MAX};
    struct err why;
    char text[128];
    enum tide_status status = pack_walk_init(&t.walk, c->store, part, &why);
    if (status != TIDE_OK) {
        fault(&t, status, why.text);
    } else {
        if (c->watch.spans != 0 && c->watch.spans < t.walk.reader.most)
            t.walk.reader.most = c->watch.spans;
        plan(&t);
        look_at_all(&t);
    }
    pack_walk_release(&t.walk);
    if (t.told > FAULTS_OF_RANK_MAX) {
        snprintf(text, sizeof text, "rank %u: %" PRIu64 " further chunks are bad", part->rank, t.told - FAULTS_OF_RANK_MAX);
        tell(c, text);
    }
    c->verdict.bad += t.bad > 0;
    c->verdict.damaged += t.damaged > 0;
}

static void check_rank(struct checker *c, const struct manifest *whole, uint32_t rank)
{
    struct rank_manifest part;
    struct err why;
    c->verdict.ranks++;
    enum tide_status status = rank_manifest_read(c->store, whole, rank, &part, &why);
    if (status != TIDE_OK) {
        tell(c, why.text);
        c->verdict.bad++;
        c->verdict.damaged += (uint64_t)judge(c, status, why.text);
        return;
    }
    c->verdict.raw_bytes += part.data_bytes;
    c->verdict.stored_bytes += whole->shards.items[rank].stored_bytes;
    check_part(c, &part);
    codec_release(&rank_manifest_codec, &part);
}

/* ---- all ranks ---- */

static void check_ranks(struct checker *c, const struct manifest *whole)
{
    for (uint32_t i = 0; i < whole->world_size && !enough(c); i++) {
        uint64_t before = c->verdict.bad + c->verdict.packs_bad;
        if (c->watch.wanted && !c->watch.wanted(c->watch.context, i))
            continue;
        check_rank(c, whole, i);
        if (c->watch.faulty && c->verdict.bad + c->verdict.packs_bad > before)
            c->watch.faulty(c->watch.context, i);
    }
}

/* For its chunks, its packs, and those that are damaged. */
static uint64_t marks_of(const struct manifest *whole)
{
    uint64_t most = 0;
    for (size_t i = 0; i < whole->shards.count && most < SEEN_MAX; i++)
        most += 2 * (chunks_of(whole->shards.items[i].raw_bytes) + 1);
    return most;
}

enum tide_status stage_check_watched(struct store *store, const char *manifest_key, const char *manifest_digest,
                                     const struct stage_watch *watch, struct stage_verdict *ret_verdict, struct err *err)
{
    struct checker c = {.store = store, .watch = *watch};
    struct manifest whole;
    char text[128];
    enum tide_status status = manifest_read(store, manifest_key, manifest_digest, &whole, err);
    if (status != TIDE_OK)
        return status;
    seen_init(&c.seen, marks_of(&whole));
    check_ranks(&c, &whole);
    seen_release(&c.seen);
    codec_release(&manifest_codec, &whole);
    if (c.told > FAULTS_TOLD_MAX) {
        snprintf(text, sizeof text, "%" PRIu64 " further faults are not told", c.told - FAULTS_TOLD_MAX);
        c.watch.say(c.watch.context, text);
    }
    *ret_verdict = c.verdict;
    return TIDE_OK;
}

enum tide_status stage_check(struct store *store, const char *manifest_key, const char *manifest_digest,
                             void (*say)(void *context, const char *text), void *context, struct stage_verdict *ret_verdict,
                             struct err *err)
{
    const struct stage_watch watch = {.say = say, .context = context};
    return stage_check_watched(store, manifest_key, manifest_digest, &watch, ret_verdict, err);
}

/* ---- what was found is noted ---- */

void stage_unkept_add(struct stage_unkept *unkept, uint64_t cut)
{
    for (unsigned i = 0; i < unkept->count; i++)
        if (unkept->cuts[i] == cut)
            return;
    if (unkept->count < KEPT_CUTS_MAX)
        unkept->cuts[unkept->count++] = cut;
}

/* Each writes before it looks (format/README.md): who deletes the cut removes its COMMIT, and then all notes that are there. */
enum tide_status stage_keep(struct store *store, const char *manifest_key, const struct stage_unkept *unkept, struct err *err)
{
    char job[TIDE_NAME_MAX + 1], uid[TIDE_UID_CHARS + 1];
    struct object_name object;
    object_key key;
    uint64_t bytes;
    if (unkept->count == 0)
        return TIDE_OK;
    if (key_manifest_split(manifest_key, job, uid, &object) != 0)
        return err_set(err, TIDE_E_INVALID, "%s is no manifest", manifest_key);
    const struct cut_name name = {.job = job, .uid = uid, .cut = object.cut, .generation = object.generation};
    enum tide_status status = TIDE_OK;
    for (unsigned i = 0; i < unkept->count && status == TIDE_OK; i++) {
        key_need(&name, unkept->cuts[i], key);
        status = store_put_same(store, key, "", 0, err);
    }
    if (status == TIDE_OK)
        status = store_size(store, manifest_key, &bytes, err);
    for (unsigned i = 0; i < unkept->count && status == TIDE_E_NOT_FOUND; i++) {
        key_need(&name, unkept->cuts[i], key);
        enum tide_status removed = store_remove(store, key, err);
        status = removed == TIDE_OK ? status : removed;
    }
    return status == TIDE_OK ? TIDE_OK : err_wrap(err, "packs that %s needs cannot be kept for it", manifest_key);
}

enum tide_status stage_blame(struct store *store, const char *job, const char *job_uid, const struct strlist *packs, struct err *err)
{
    struct pack_name name;
    object_key key = "";
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < packs->count && status == TIDE_OK; i++) {
        if (key_pack_parse(packs->items[i], job, job_uid, &name) != 0)
            continue;
        key_damaged(job, job_uid, name.cut, key);
        status = store_put_same(store, key, "", 0, err);
    }
    if (status != TIDE_OK)
        return err_wrap(err, "that %s is damaged cannot be noted in the store, and the next checkpoint may refer to it", key);
    if (packs->count >= BLAMED_CUTS_MAX)
        return err_set(err, TIDE_E_LIMIT, "packs of %u checkpoints or more are damaged: of the first %u it is noted in the store",
                       BLAMED_CUTS_MAX, BLAMED_CUTS_MAX);
    return TIDE_OK;
}

/* Bytes of a pack's key behind its place that tell its job, cut and generation. */
static size_t of_cut(const char *pack, const char **ret_begin)
{
    const char *begin = strlen(pack) > PACK_PLACE_CHARS ? pack + PACK_PLACE_CHARS : pack;
    const char *end = strrchr(begin, '/');
    *ret_begin = begin;
    return end != NULL ? (size_t)(end - begin) : strlen(begin);
}

void stage_blame_add(struct strlist *packs, const char *pack)
{
    const char *cut, *other;
    size_t n = of_cut(pack, &cut);
    for (size_t i = packs->count; i-- > 0;) /* those of a cut come one after the other, for the most part */
        if (of_cut(packs->items[i], &other) == n && memcmp(cut, other, n) == 0)
            return;
    if (packs->count < BLAMED_CUTS_MAX)
        strlist_add(packs, pack);
}
