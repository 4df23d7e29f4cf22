/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/stage/shard.h"
#include "ckpt/stage/stage.h"

#define FAULTS_TOLD_MAX 16 /* of one rank; a lost disk would else tell a million lines */

struct checker {
    struct store *store;
    struct stage_watch watch;
    struct stage_verdict verdict;
};

static void tell(struct checker *c, const char *text)
{
    if (c->watch.say)
        c->watch.say(c->watch.context, text);
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

void shard_blame(const struct stage_watch *watch, const struct rank_manifest *m, uint64_t index, enum tide_status status)
{
    struct chunk chunk;
    if (watch != NULL && watch->damaged != NULL && shard_is_damage(status) &&
        chunk_parse(m->chunks.items[index], &chunk, NULL) == TIDE_OK && chunk.codec != CHUNK_ZERO)
        watch->damaged(watch->context, m->packs.items[chunk.pack].key);
}

/* Number of bad chunks; all are looked at, so that one verdict tells all. */
static uint64_t check_chunks(struct checker *c, struct shard_reader *reader, uint64_t *ret_damaged)
{
    uint64_t bad = 0, damaged = 0;
    struct err why;
    struct digest digest;
    const unsigned char *bytes;
    char text[128];
    for (uint64_t i = 0; i < reader->manifest->chunks.count && !enough(c); i++) {
        c->verdict.chunks++;
        if (c->watch.progress)
            c->watch.progress(c->watch.context, chunk_raw_bytes(reader->manifest->data_bytes, i));
        enum tide_status status = shard_read_chunk(reader, i, &bytes, &digest, &why);
        if (status == TIDE_OK)
            continue;
        damaged += shard_is_damage(status) != 0;
        shard_blame(&c->watch, reader->manifest, i, status);
        if (bad++ < FAULTS_TOLD_MAX)
            tell(c, why.text);
    }
    if (bad > FAULTS_TOLD_MAX) {
        snprintf(text, sizeof text, "rank %u: %" PRIu64 " further chunks are bad", reader->manifest->rank,
                 bad - FAULTS_TOLD_MAX);
        tell(c, text);
    }
    *ret_damaged = damaged;
    return bad;
}

static void rank_bad(struct checker *c, enum tide_status status, const char *text)
{
    tell(c, text);
    c->verdict.bad++;
    c->verdict.damaged += shard_is_damage(status) != 0;
}

static void check_rank(struct checker *c, const struct manifest *whole, uint32_t rank)
{
    struct rank_manifest part;
    struct shard_reader reader;
    struct err why;
    c->verdict.ranks++;
    enum tide_status status = rank_manifest_read(c->store, whole, rank, &part, &why);
    if (status != TIDE_OK) {
        rank_bad(c, status, why.text);
        return;
    }
    c->verdict.raw_bytes += part.data_bytes;
    c->verdict.stored_bytes += whole->shards.items[rank].stored_bytes;
    status = shard_reader_init(&reader, c->store, &part, &why);
    if (status != TIDE_OK) {
        rank_bad(c, status, why.text);
    } else {
        uint64_t damaged = 0;
        if (c->watch.spans != 0 && c->watch.spans < reader.most)
            reader.most = c->watch.spans;
        c->verdict.bad += check_chunks(c, &reader, &damaged) > 0;
        c->verdict.damaged += damaged > 0;
        shard_reader_release(&reader);
    }
    codec_release(&rank_manifest_codec, &part);
}

enum tide_status stage_check_watched(struct store *store, const char *manifest_key, const char *manifest_digest,
                                     const struct stage_watch *watch, struct stage_verdict *ret_verdict, struct err *err)
{
    struct checker c = {.store = store, .watch = *watch};
    struct manifest whole;
    enum tide_status status = manifest_read(store, manifest_key, manifest_digest, &whole, err);
    if (status != TIDE_OK)
        return status;
    for (uint32_t i = 0; i < whole.world_size && !enough(&c); i++)
        check_rank(&c, &whole, i);
    codec_release(&manifest_codec, &whole);
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

enum tide_status stage_blame(struct store *store, const char *job, const char *job_uid, const struct strlist *packs, struct err *err)
{
    struct pack_name name;
    object_key key = "";
    uint64_t last = 0; /* those of a cut come one after the other, for the most part */
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < packs->count && status == TIDE_OK; i++) {
        if (key_pack_parse(packs->items[i], job, job_uid, &name) != 0 || name.cut == last)
            continue;
        last = name.cut;
        key_damaged(job, job_uid, name.cut, key);
        status = store_put_same(store, key, "", 0, err);
    }
    return status == TIDE_OK ? TIDE_OK
                             : err_wrap(err, "that %s is damaged cannot be noted in the store, and the next checkpoint may refer to it",
                                        key);
}

void stage_blame_add(struct strlist *packs, const char *pack)
{
    if (packs->count == 0 || strcmp(packs->items[packs->count - 1], pack) != 0)
        strlist_add(packs, pack);
}
