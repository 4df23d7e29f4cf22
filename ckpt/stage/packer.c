/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/packer.h"

#include <string.h>

#include "ckpt/base/mem.h"

#define HELPERS_AFTER 8u /* chunks: of fewer it has encoded most before a helper is there */

enum tide_status packer_init(struct packer *packer, struct store *store, const struct slot *slot, const struct slot_sum *sum,
                             struct rank_manifest *manifest,
                             void (*placed)(void *context, uint64_t index, const struct chunk *chunk), void *context, struct err *err)
{
    *packer = (struct packer){
        .store = store, .slot = slot, .sum = sum, .manifest = manifest, .placed = placed, .context = context};
    effort_init(&packer->effort);
    packer->raw = mem_try_alloc(CHUNK_BYTES);
    if (packer->raw == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for a chunk of %u bytes", CHUNK_BYTES);
    packer->digest = digest_run_create();
    if (packer->digest == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for the digests of packs");
    return encoder_create(&packer->encoder, err);
}

/* Nobody else reads the slot from here on. */
static void end_helpers(struct packer *p)
{
    ahead_free(p->ahead);
    p->ahead = NULL;
    p->added = 0;
    if (p->counted)
        helpers_leave(HELPERS_STORE);
    p->counted = 0;
}

void packer_release(struct packer *packer)
{
    packer_close(packer);
    encoder_free(packer->encoder);
    digest_run_free(packer->digest);
    mem_free(packer->raw);
}

enum tide_status packer_open(struct packer *packer, struct err *err)
{
    return upload_init(&packer->upload, packer->store, err);
}

void packer_close(struct packer *packer)
{
    end_helpers(packer);
    upload_release(&packer->upload);
}

static enum tide_status flush(struct packer *p, struct err *err)
{
    if (p->used == 0)
        return TIDE_OK;
    struct cut_name name = rank_manifest_name(p->manifest);
    char content[DIGEST_HEX_CHARS + 1];
    struct pack_entry *pack = codec_list_add(&pack_entry_codec, &p->manifest->packs);
    digest_hex(digest_run_end(p->digest), content);
    digest_run_restart(p->digest);
    content[PACK_CONTENT_CHARS] = '\0';
    key_pack(&name, p->manifest->rank, p->own++, content, pack->key);
    pack->bytes = p->used;
    p->stored_bytes += p->used;
    uint32_t bytes = p->used;
    p->used = 0;
    effort_note(&p->effort, upload_depth(&p->upload), upload_depth_max(&p->upload));
    encoder_effort(p->encoder, p->effort.level);
    if (p->ahead != NULL)
        ahead_effort(p->ahead, p->effort.level);
    return upload_put(&p->upload, pack->key, bytes, err);
}

/* Room for as much as it could need, so that where a pack ends does not depend on how the next chunk is encoded. */
static int fits(const struct packer *p, uint32_t raw_bytes)
{
    return p->used + raw_bytes <= FORMAT_PACK_BYTES_MAX;
}

/* That many bytes behind what is used are the stored form of the chunk. */
static void place(struct packer *p, uint64_t index, enum chunk_codec codec, uint32_t length)
{
    struct chunk chunk = {.codec = codec,
                          .digest = p->sum->chunks[index],
                          .pack = (uint32_t)p->manifest->packs.count,
                          .offset = p->used,
                          .length = length};
    digest_run_add(p->digest, upload_room(&p->upload) + p->used, length);
    p->used += length;
    p->placed(p->context, index, &chunk);
}

/* What will be stored as it is, is read to where it will stay, if it fits there however long it turns out to be. */
static unsigned char *raw_room(const struct packer *p)
{
    return p->effort.level == EFFORT_RAW && fits(p, CHUNK_BYTES) ? upload_room(&p->upload) + p->used : p->raw;
}

static enum tide_status encode_here(struct packer *p, uint64_t index, struct segments *segments, struct err *err)
{
    uint32_t raw, length;
    enum chunk_codec codec;
    unsigned char *to = raw_room(p);
    enum tide_status status = slot_chunk_read(p->slot, p->sum, index, to, &raw, err);
    if (status == TIDE_OK && !fits(p, raw))
        status = flush(p, err);
    if (status != TIDE_OK)
        return status;
    encode_chunk(p->encoder, to, raw, segments, upload_room(&p->upload) + p->used, &codec, &length);
    place(p, index, codec, length);
    return TIDE_OK;
}

/* ---- with helpers ---- */

/* The chunk that was given first. A pack that is full may bring another effort, which its chunk is then encoded with. */
static enum tide_status place_first(struct packer *p, struct err *err)
{
    struct ahead_chunk chunk;
    enum tide_status status = TIDE_OK;
    ahead_first(p->ahead, &chunk);
    if (chunk.bytes != NULL && !fits(p, chunk.raw_bytes)) {
        status = flush(p, err);
        ahead_first(p->ahead, &chunk);
    }
    if (status == TIDE_OK && chunk.bytes == NULL) {
        status = encode_here(p, chunk.index, &chunk.segments, err);
    } else if (status == TIDE_OK) {
        memcpy(upload_room(&p->upload) + p->used, chunk.bytes, chunk.length);
        place(p, chunk.index, chunk.codec, chunk.length);
    }
    ahead_pop(p->ahead);
    return status;
}

/* Nonzero: there are some. */
static int have_helpers(struct packer *p)
{
    if (!p->counted)
        helpers_come(HELPERS_STORE);
    p->counted = 1;
    unsigned most = helpers_now(HELPERS_STORE);
    if (p->ahead == NULL) {
        if (most == 0 || p->alone || ++p->added <= HELPERS_AFTER)
            return 0;
        p->ahead = ahead_create(p->slot, p->sum, p->encoder, p->raw, p->effort.level);
        p->alone = p->ahead == NULL;
    }
    if (p->ahead != NULL && ahead_helpers(p->ahead, most) == 0) {
        ahead_free(p->ahead);
        p->ahead = NULL;
        p->alone = 1;
    }
    return p->ahead != NULL;
}

/* ---- chunks ---- */

/* Chunks come in order, but for once that the last is followed by the first. */
static void plan(struct packer *p, uint64_t index, struct segments *ret_segments)
{
    if (index < p->next)
        p->region = 0;
    segments_plan(p->manifest, index, &p->region, ret_segments);
    p->next = index + 1;
}

enum tide_status packer_add(struct packer *p, uint64_t index, struct err *err)
{
    struct segments segments;
    enum tide_status status = TIDE_OK;
    plan(p, index, &segments);
    if (!have_helpers(p))
        return encode_here(p, index, &segments, err);
    while (status == TIDE_OK && !ahead_give(p->ahead, index, &segments))
        status = place_first(p, err);
    return status;
}

enum tide_status packer_finish(struct packer *p, struct err *err)
{
    enum tide_status status = TIDE_OK;
    while (status == TIDE_OK && p->ahead != NULL && ahead_count(p->ahead) > 0)
        status = place_first(p, err);
    end_helpers(p);
    if (status == TIDE_OK)
        status = flush(p, err);
    return status == TIDE_OK ? upload_finish(&p->upload, err) : status;
}
