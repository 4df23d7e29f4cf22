/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/base.h"
#include "ckpt/stage/shard.h"
#include "ckpt/stage/shared.h"
#include "ckpt/stage/stage.h"
#include "ckpt/stage/upload.h"

/* A shard on its way into the store: packs under way, one being filled, the manifest growing beside them. */
struct writer {
    struct store *store;
    const struct slot *slot;
    const struct slot_sum *sum;
    struct encoder *encoder;
    struct effort effort;
    unsigned char *raw; /* CHUNK_BYTES: the copy that was checked is the copy that is encoded */
    struct upload upload;
    struct base base;
    size_t referred; /* packs of earlier cuts, which stand before its own */
    size_t own;      /* packs of its own, put so far */
    struct shared_writer *shared; /* NULL: no chunk is asked of others */
    struct chunk *chunks;  /* all of the shard, as far as they have a place */
    unsigned char *theirs; /* nonzero: another writes that one */
    uint32_t pack_used;
    struct digest_run *pack_digest; /* of what is used, taken while it is in the processor's cache */
    size_t region; /* the first that chunks to come have a part of */
    struct rank_manifest manifest;
    uint64_t stored_bytes;
};

static enum tide_status writer_init(struct writer *w, struct store *store, const struct slot *slot,
                                    const struct slot_sum *sum, struct err *err)
{
    *w = (struct writer){.store = store, .slot = slot, .sum = sum};
    effort_init(&w->effort);
    w->raw = mem_try_alloc(CHUNK_BYTES);
    if (w->raw == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for a chunk of %u bytes", CHUNK_BYTES);
    w->pack_digest = digest_run_create();
    if (w->pack_digest == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for the digests of packs");
    enum tide_status status = encoder_create(&w->encoder, err);
    return status == TIDE_OK ? upload_init(&w->upload, store, err) : status;
}

static void writer_release(struct writer *w)
{
    shared_leave(w->shared); /* who waits for it goes on */
    codec_release(&rank_manifest_codec, &w->manifest);
    mem_free(w->chunks);
    mem_free(w->theirs);
    encoder_free(w->encoder);
    upload_release(&w->upload);
    base_release(&w->base);
    digest_run_free(w->pack_digest);
    mem_free(w->raw);
}

static void describe(struct writer *w, const char *job)
{
    struct rank_manifest *m = &w->manifest;
    struct slot_header h = *w->slot->header;
    text_copy(m->job, sizeof m->job, job);
    text_copy(m->uid, sizeof m->uid, h.job_uid);
    m->cut = h.cut;
    m->generation = h.generation;
    m->attempt = h.attempt;
    m->rank = h.rank;
    m->world_size = h.world_size;
    m->step = h.step;
    m->collectives = h.collectives;
    m->data_bytes = h.data_bytes;
    m->chunk_bytes = CHUNK_BYTES;
    digest_hex(w->sum->root, m->root);
    for (uint32_t i = 0; i < h.region_count; i++)
        region_describe(&w->slot->regions[i], h.parts ? &slot_parts(w->slot)[i] : NULL, codec_list_add(&region_entry_codec, &m->regions));
    m->version = rank_manifest_version(m);
}

static enum tide_status flush_pack(struct writer *w, struct err *err)
{
    if (w->pack_used == 0)
        return TIDE_OK;
    struct cut_name name = rank_manifest_name(&w->manifest);
    char content[DIGEST_HEX_CHARS + 1];
    struct pack_entry *pack = codec_list_add(&pack_entry_codec, &w->manifest.packs);
    digest_hex(digest_run_end(w->pack_digest), content);
    digest_run_restart(w->pack_digest);
    content[PACK_CONTENT_CHARS] = '\0';
    key_pack(&name, w->manifest.rank, w->own++, content, pack->key);
    pack->bytes = w->pack_used;
    w->stored_bytes += w->pack_used;
    uint32_t bytes = w->pack_used;
    w->pack_used = 0;
    effort_note(&w->effort, upload_depth(&w->upload), upload_depth_max(&w->upload));
    encoder_effort(w->encoder, w->effort.level);
    return upload_put(&w->upload, pack->key, bytes, err);
}

static enum tide_status encode_into_pack(struct writer *w, uint64_t index, struct err *err)
{
    uint32_t raw;
    struct segments segments;
    enum tide_status status = slot_chunk_read(w->slot, w->sum, index, w->raw, &raw, err);
    if (status == TIDE_OK && w->pack_used + raw > FORMAT_PACK_BYTES_MAX)
        status = flush_pack(w, err);
    if (status != TIDE_OK)
        return status;
    struct chunk chunk = {
        .digest = w->sum->chunks[index], .pack = (uint32_t)w->manifest.packs.count, .offset = w->pack_used};
    segments_plan(&w->manifest, index, &w->region, &segments);
    unsigned char *to = upload_room(&w->upload) + w->pack_used;
    encode_chunk(w->encoder, w->raw, raw, &segments, to, &chunk.codec, &chunk.length);
    digest_run_add(w->pack_digest, to, chunk.length);
    w->pack_used += chunk.length;
    w->chunks[index] = chunk;
    chunk.pack = (uint32_t)w->own;
    shared_note(w->shared, &chunk);
    return TIDE_OK;
}

static enum tide_status add_chunk(struct writer *w, uint64_t index, struct err *err)
{
    if (base_find(&w->base, index, w->sum->chunks[index], &w->chunks[index]))
        return TIDE_OK;
    w->theirs[index] = !shared_claim(w->shared, w->sum->chunks[index]);
    return w->theirs[index] ? TIDE_OK : encode_into_pack(w, index, err);
}

/* Print a manifest and put it under its key; the digest of its bytes is what refers to it. */
static enum tide_status put_object(struct store *store, const struct codec *codec, const void *from, const char *key,
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

/* It may be there: an agent that stored it and died, or was asked again. Which packs it chose is then not asked again. */
static int stored_before(struct writer *w, struct stage_shard *shard)
{
    struct rank_manifest there;
    struct pack_name name;
    char *text = NULL;
    size_t bytes = 0;
    if (store_read(w->store, shard->key, MANIFEST_BYTES_MAX, &text, &bytes, NULL) != TIDE_OK)
        return 0;
    digest_hex(digest_of(text, bytes), shard->digest);
    int same = rank_manifest_parse(text, bytes, &there, NULL) == TIDE_OK;
    mem_free(text);
    if (!same)
        return 0;
    shard->stored_bytes = bytes;
    for (size_t i = 0; i < there.packs.count; i++)
        if (key_pack_parse(there.packs.items[i].key, there.job, there.uid, &name) == 0 && name.cut == there.cut && name.rank == there.rank)
            shard->stored_bytes += there.packs.items[i].bytes;
    same = strcmp(there.root, w->manifest.root) == 0;
    codec_release(&rank_manifest_codec, &there);
    return same;
}

static enum tide_status finish_packs(struct writer *w, struct err *err)
{
    enum tide_status status = flush_pack(w, err);
    return status == TIDE_OK ? upload_finish(&w->upload, err) : status;
}

/* What nobody else has claimed. */
static enum tide_status write_own(struct writer *w, struct err *err)
{
    uint64_t count = w->sum->chunk_count, begin = shared_begin(w->shared, count);
    enum tide_status status = TIDE_OK;
    for (uint64_t i = 0; status == TIDE_OK && i < count; i++) {
        uint64_t index = (begin + i) % count;
        if (index == 0)
            w->region = 0;
        status = add_chunk(w, index, err);
    }
    return status == TIDE_OK ? finish_packs(w, err) : status;
}

/* Index of the pack in the manifest; those of one writer come one after the other. It may be its own after all: what is there twice was
 * claimed again when who had claimed it failed. */
static uint32_t pack_of_other(struct writer *w, const struct pack_entry *pack)
{
    struct rank_manifest *m = &w->manifest;
    for (size_t i = m->packs.count; i-- > w->referred;)
        if (strcmp(m->packs.items[i].key, pack->key) == 0)
            return (uint32_t)i;
    *(struct pack_entry *)codec_list_add(&pack_entry_codec, &m->packs) = *pack;
    return (uint32_t)m->packs.count - 1;
}

/* Where others have put the rest; what they could not is written here after all. */
static enum tide_status take_theirs(struct writer *w, struct err *err)
{
    uint64_t count = w->sum->chunk_count, left = 0;
    enum tide_status status = TIDE_OK;
    for (uint64_t i = 0; i < count; i++) {
        struct pack_entry pack;
        if (!w->theirs[i])
            continue;
        w->theirs[i] = !shared_find(w->shared, w->sum->chunks[i], &w->chunks[i], &pack);
        left += w->theirs[i];
        if (!w->theirs[i] && pack.key[0] != '\0')
            w->chunks[i].pack = pack_of_other(w, &pack);
    }
    w->region = 0;
    for (uint64_t i = 0; left > 0 && status == TIDE_OK && i < count; i++)
        if (w->theirs[i])
            status = encode_into_pack(w, i, err);
    return status == TIDE_OK && left > 0 ? finish_packs(w, err) : status;
}

static void add_lines(struct writer *w)
{
    for (uint64_t i = 0; i < w->sum->chunk_count; i++) {
        char line[CHUNK_TEXT_MAX];
        chunk_print(&w->chunks[i], line);
        strlist_add(&w->manifest.chunks, line);
    }
    w->manifest.version = rank_manifest_version(&w->manifest);
}

static enum tide_status write_packs(struct writer *w, const char *arena, int share, struct err *err)
{
    const struct cut_name name = rank_manifest_name(&w->manifest);
    w->chunks = mem_try_array(w->sum->chunk_count, sizeof *w->chunks);
    w->theirs = mem_try_alloc(w->sum->chunk_count);
    if (w->sum->chunk_count > 0 && (w->chunks == NULL || w->theirs == NULL))
        return err_set(err, TIDE_E_NOMEM, "no memory for a table of %" PRIu64 " chunks", w->sum->chunk_count);
    enum tide_status status = base_plan(&w->base, w->store, arena, w->sum->chunks, w->sum->chunk_count, &w->manifest, err);
    if (status != TIDE_OK)
        return status;
    w->referred = w->manifest.packs.count;
    w->shared = share ? shared_join(w->store, &name) : NULL;
    status = write_own(w, err);
    if (status != TIDE_OK)
        return status;
    shared_publish(w->shared, w->manifest.packs.items + w->referred, w->own);
    status = take_theirs(w, err);
    if (status == TIDE_OK)
        add_lines(w);
    return status;
}

static enum tide_status write_shard(struct writer *w, const char *arena, const char *job, int share, struct stage_shard *ret_shard,
                                    struct err *err)
{
    struct stage_shard shard = {.raw_bytes = w->slot->header->data_bytes};
    uint64_t manifest_bytes = 0;
    describe(w, job);
    struct cut_name name = rank_manifest_name(&w->manifest);
    key_rank(&name, w->manifest.rank, shard.key);
    if (!stored_before(w, &shard)) {
        enum tide_status status = write_packs(w, arena, share, err);
        if (status == TIDE_OK)
            status = rank_manifest_check(&w->manifest, err);
        if (status == TIDE_OK)
            status = put_object(w->store, &rank_manifest_codec, &w->manifest, shard.key, shard.digest, &manifest_bytes, err);
        if (status != TIDE_OK)
            return status;
        shard.stored_bytes = w->stored_bytes + manifest_bytes;
    }
    base_save(arena, &w->manifest, shard.key, shard.digest);
    *ret_shard = shard;
    return TIDE_OK;
}

static enum tide_status store_mapped(struct store *store, const struct slot *slot, const struct slot_sum *sum,
                                     const char *arena, const char *job, int share, struct stage_shard *ret_shard, struct err *err)
{
    struct writer w;
    enum tide_status status = writer_init(&w, store, slot, sum, err);
    if (status == TIDE_OK)
        status = write_shard(&w, arena, job, share, ret_shard, err);
    writer_release(&w);
    return status;
}

static enum tide_status store_slot(struct store *store, const char *arena, uint32_t rank, uint32_t slot, const char *job,
                                   const char *job_uid, uint64_t cut, int share, struct stage_shard *ret_shard, struct err *err)
{
    arena_path path, sum_path;
    struct slot mapped;
    struct slot_sum sum;
    slot_path(arena, rank, slot, path);
    slot_sum_path(arena, rank, slot, sum_path);
    enum tide_status status = slot_open(path, sum_path, job_uid, cut, rank, &mapped, &sum, err);
    if (status == TIDE_OK) {
        status = store_mapped(store, &mapped, &sum, arena, job, share, ret_shard, err);
        slot_unmap(&mapped);
        slot_sum_release(&sum);
    }
    return status == TIDE_OK ? TIDE_OK : err_wrap(err, "cannot store rank %u of cut %" PRIu64 " from %s", rank, cut, path);
}

enum tide_status stage_store(struct store *store, const char *arena, uint32_t rank, uint32_t slot, const char *job,
                             const char *job_uid, uint64_t cut, struct stage_shard *ret_shard, struct err *err)
{
    return store_slot(store, arena, rank, slot, job, job_uid, cut, 0, ret_shard, err);
}

enum tide_status stage_store_shared(struct store *store, const char *arena, uint32_t rank, uint32_t slot, const char *job,
                                    const char *job_uid, uint64_t cut, struct stage_shard *ret_shard, struct err *err)
{
    return store_slot(store, arena, rank, slot, job, job_uid, cut, 1, ret_shard, err);
}

/* ---- the manifest ---- */

static enum tide_status gather(struct store *store, const struct cut_order *order, struct manifest *m, struct err *err)
{
    uint64_t bytes;
    for (size_t i = 0; i < order->shards.count; i++) {
        const struct shard_ref *from = &order->shards.items[i];
        struct shard_entry *to = codec_list_add(&shard_entry_codec, &m->shards);
        to->rank = from->rank;
        text_copy(to->key, sizeof to->key, from->key);
        text_copy(to->digest, sizeof to->digest, from->digest);
        to->raw_bytes = from->raw_bytes;
        to->stored_bytes = from->stored_bytes;
    }
    if (manifest_check(m, err) != TIDE_OK)
        return err_set(err, TIDE_E_INVALID, "the order to commit cut %" PRIu64 " does not name one shard per rank",
                       order->cut);
    /* A commit that names what is not there would be a lie that lasts. */
    for (size_t i = 0; i < m->shards.count; i++) {
        enum tide_status status = store_size(store, m->shards.items[i].key, &bytes, err);
        if (status != TIDE_OK)
            return status;
    }
    return TIDE_OK;
}

enum tide_status stage_commit(struct store *store, const char *job, const char *job_uid, const struct cut_order *order,
                              char ret_key[TIDE_PATH_MAX + 1], char ret_digest[DIGEST_HEX_CHARS + 1], struct err *err)
{
    struct manifest m = {.version = FORMAT_VERSION_WHOLE,
                         .cut = order->cut,
                         .generation = order->generation,
                         .step = order->step,
                         .world_size = (uint32_t)order->shards.count};
    object_key key;
    uint64_t bytes;
    text_copy(m.job, sizeof m.job, job);
    text_copy(m.uid, sizeof m.uid, job_uid);
    struct cut_name name = manifest_name(&m);
    key_commit(&name, key);
    enum tide_status status = gather(store, order, &m, err);
    if (status == TIDE_OK)
        status = put_object(store, &manifest_codec, &m, key, ret_digest, &bytes, err);
    if (status == TIDE_OK)
        text_copy(ret_key, TIDE_PATH_MAX + 1, key);
    codec_release(&manifest_codec, &m);
    return status == TIDE_OK ? TIDE_OK : err_wrap(err, "cannot commit cut %" PRIu64 " of job %s", order->cut, job);
}
