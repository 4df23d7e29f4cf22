/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/base.h"
#include "ckpt/stage/packer.h"
#include "ckpt/stage/shard.h"
#include "ckpt/stage/shared.h"
#include "ckpt/stage/stage.h"

#define PACKS_OF_OTHERS_MAX (RANK_PACKS_MAX * 3 / 4) /* in a manifest, before those of other nodes are not referred to any more */

/* Who writes a chunk. */
enum whose {
    NOBODY,    /* it is in the store, or it has not been looked at yet */
    OWN,       /* this rank */
    THEIRS,    /* another that this process stores */
    ELSEWHERE, /* another node */
    LEFT       /* … did not, as far as is known here */
};

/* A shard on its way into the store, its manifest growing beside its packs. */
struct writer {
    struct store *store;
    const struct slot *slot;
    const struct slot_sum *sum;
    struct packer packer;
    struct base base;
    size_t referred; /* packs of earlier cuts, which stand before its own */
    size_t round, round_own; /* in manifest.packs and of its own: where those begin that were put since it joined `shared` last */
    struct shared_writer *shared; /* NULL: no chunk is asked of others */
    const struct stage_across *across; /* NULL: nor of other nodes */
    struct chunk *chunks;  /* all of the shard, as far as they have a place */
    unsigned char *whose;  /* of each: enum whose */
    struct rank_manifest manifest;
};

static void chunk_placed(void *context, uint64_t index, const struct chunk *placed)
{
    struct writer *w = context;
    struct chunk chunk = *placed;
    w->chunks[index] = chunk;
    w->whose[index] = OWN;
    chunk.pack = (uint32_t)(w->packer.own - w->round_own);
    shared_note(w->shared, &chunk);
}

static enum tide_status writer_init(struct writer *w, struct store *store, const struct slot *slot,
                                    const struct slot_sum *sum, struct err *err)
{
    *w = (struct writer){.store = store, .slot = slot, .sum = sum};
    return packer_init(&w->packer, store, slot, sum, &w->manifest, chunk_placed, w, err);
}

static void writer_release(struct writer *w)
{
    shared_leave(w->shared); /* who waits for it goes on */
    packer_release(&w->packer);
    codec_release(&rank_manifest_codec, &w->manifest);
    mem_free(w->chunks);
    mem_free(w->whose);
    base_release(&w->base);
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

static enum tide_status write_chunk(struct writer *w, uint64_t index, struct err *err)
{
    return packer_add(&w->packer, index, err);
}

static enum tide_status claim_chunk(struct writer *w, uint64_t index, struct err *err)
{
    w->whose[index] = shared_claim(w->shared, w->sum->chunks[index]) ? OWN : THEIRS;
    return w->whose[index] == OWN ? write_chunk(w, index, err) : TIDE_OK;
}

static enum tide_status add_chunk(struct writer *w, uint64_t index, struct err *err)
{
    if (base_find(&w->base, index, w->sum->chunks[index], &w->chunks[index]))
        return TIDE_OK;
    if (w->across == NULL || !w->across->elsewhere(w->across->context, w->sum->chunks[index]))
        return claim_chunk(w, index, err);
    w->whose[index] = ELSEWHERE;
    return TIDE_OK;
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

/* `add` each chunk of that kind, the first of which is not that of other ranks; then all packs are durable. */
static enum tide_status write_all(struct writer *w, enum whose kind,
                                  enum tide_status (*add)(struct writer *w, uint64_t index, struct err *err), struct err *err)
{
    uint64_t count = w->sum->chunk_count, begin = shared_begin(w->shared, count);
    enum tide_status status = TIDE_OK;
    for (uint64_t i = 0; status == TIDE_OK && i < count; i++) {
        uint64_t index = (begin + i) % count;
        if (w->whose[index] == kind)
            status = add(w, index, err);
    }
    return status == TIDE_OK ? packer_finish(&w->packer, err) : status;
}

/* Index of the pack in the manifest; those of one writer come one after the other. It may be its own after all: what is there twice was
 * claimed again when who had claimed it failed. Nonzero: it is not there yet. */
static int pack_known(const struct writer *w, const struct pack_entry *pack, uint32_t *ret_index)
{
    const struct rank_manifest *m = &w->manifest;
    for (size_t i = m->packs.count; i-- > w->referred;)
        if (strcmp(m->packs.items[i].key, pack->key) == 0) {
            *ret_index = (uint32_t)i;
            return 0;
        }
    return -1;
}

static uint32_t pack_added(struct writer *w, const struct pack_entry *pack)
{
    *(struct pack_entry *)codec_list_add(&pack_entry_codec, &w->manifest.packs) = *pack;
    return (uint32_t)w->manifest.packs.count - 1;
}

/* Where others have put the rest; what they could not is written here after all. */
static enum tide_status take_theirs(struct writer *w, struct err *err)
{
    uint64_t count = w->sum->chunk_count, left = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct pack_entry pack;
        if (w->whose[i] != THEIRS)
            continue;
        if (!shared_find(w->shared, w->sum->chunks[i], &w->chunks[i], &pack)) {
            left++;
            continue;
        }
        w->whose[i] = NOBODY;
        if (pack.key[0] != '\0' && pack_known(w, &pack, &w->chunks[i].pack) != 0)
            w->chunks[i].pack = pack_added(w, &pack);
    }
    return left > 0 ? write_all(w, THEIRS, write_chunk, err) : TIDE_OK;
}

/* The chunks of that kind: what nobody else has claimed is written, what another has, is referred to. */
static enum tide_status write_round(struct writer *w, enum whose kind,
                                    enum tide_status (*add)(struct writer *w, uint64_t index, struct err *err), struct err *err)
{
    w->round = w->manifest.packs.count;
    w->round_own = w->packer.own;
    enum tide_status status = write_all(w, kind, add, err);
    if (status != TIDE_OK)
        return status;
    shared_publish(w->shared, w->manifest.packs.items + w->round, w->packer.own - w->round_own);
    return take_theirs(w, err);
}

/* ---- other nodes ---- */

static void tell_across(const struct writer *w)
{
    for (uint64_t i = 0; w->across != NULL && i < w->sum->chunk_count; i++)
        if (w->whose[i] == OWN)
            w->across->wrote(w->across->context, &w->chunks[i],
                             w->chunks[i].codec == CHUNK_ZERO ? NULL : &w->manifest.packs.items[w->chunks[i].pack]);
}

static uint64_t count_of(const struct writer *w, enum whose kind)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < w->sum->chunk_count; i++)
        count += w->whose[i] == kind;
    return count;
}

/* Zero: it is better not referred to. */
static int take_pack(struct writer *w, const struct pack_entry *pack, uint64_t id, uint32_t *ret_index)
{
    if (pack_known(w, pack, ret_index) == 0)
        return 1;
    if (w->manifest.packs.count >= PACKS_OF_OTHERS_MAX || !w->across->there(w->across->context, w->store, pack, id))
        return 0;
    *ret_index = pack_added(w, pack);
    return 1;
}

static void take_chunk(struct writer *w, uint64_t index)
{
    struct chunk chunk;
    struct pack_entry pack;
    uint64_t id = 0;
    w->whose[index] = LEFT;
    if (!w->across->find(w->across->context, w->sum->chunks[index], &chunk, &pack, &id))
        return;
    if (chunk.codec != CHUNK_ZERO && (!chunk_fits(&chunk, chunk_raw_bytes(w->manifest.data_bytes, index)) ||
                                      !take_pack(w, &pack, id, &chunk.pack)))
        return;
    chunk.digest = w->sum->chunks[index];
    w->chunks[index] = chunk;
    w->whose[index] = NOBODY;
}

/* Ranks of a node that hold the same begin at different places, so that each looks for other packs. */
static void take_from_across(struct writer *w)
{
    uint64_t count = w->sum->chunk_count, begin = shared_begin(w->shared, count);
    for (uint64_t i = 0; i < count; i++)
        if (w->whose[(begin + i) % count] == ELSEWHERE)
            take_chunk(w, (begin + i) % count);
}

/* What no other node has told of: among the ranks of this one it is shared as ever. */
static enum tide_status write_left(struct writer *w, struct err *err)
{
    const struct cut_name name = rank_manifest_name(&w->manifest);
    if (count_of(w, LEFT) == 0)
        return TIDE_OK;
    enum tide_status status = packer_open(&w->packer, err);
    if (status != TIDE_OK)
        return status;
    struct shared_writer *again = shared_join(w->store, &name); /* before it leaves: what is known ends with the last */
    shared_leave(w->shared);
    w->shared = again;
    return write_round(w, LEFT, claim_chunk, err);
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
    w->whose = mem_try_alloc(w->sum->chunk_count);
    if (w->sum->chunk_count > 0 && (w->chunks == NULL || w->whose == NULL))
        return err_set(err, TIDE_E_NOMEM, "no memory for a table of %" PRIu64 " chunks", w->sum->chunk_count);
    enum tide_status status = packer_open(&w->packer, err);
    if (status == TIDE_OK)
        status = base_plan(&w->base, w->store, arena, w->sum->chunks, w->sum->chunk_count, &w->manifest, err);
    if (status != TIDE_OK)
        return status;
    w->referred = w->manifest.packs.count;
    w->shared = share ? shared_join(w->store, &name) : NULL;
    return write_round(w, NOBODY, add_chunk, err);
}

/* ---- one rank's storing ---- */

struct stage_storing {
    struct writer writer;
    struct slot slot;
    struct slot_sum sum;
    struct stage_shard shard;
    arena_path path;
    char arena[TIDE_PATH_MAX + 1];
    int stored; /* the rank manifest is there */
};

void stage_store_abandon(struct stage_storing *storing)
{
    if (storing == NULL)
        return;
    writer_release(&storing->writer);
    slot_unmap(&storing->slot);
    slot_sum_release(&storing->sum);
    mem_free(storing);
}

static enum tide_status begin_shard(struct stage_storing *s, const char *job, int share, struct err *err)
{
    struct writer *w = &s->writer;
    s->shard.raw_bytes = s->slot.header->data_bytes;
    describe(w, job);
    struct cut_name name = rank_manifest_name(&w->manifest);
    key_rank(&name, w->manifest.rank, s->shard.key);
    s->stored = stored_before(w, &s->shard);
    if (s->stored)
        return TIDE_OK;
    enum tide_status status = write_packs(w, s->arena, share, err);
    if (status == TIDE_OK)
        tell_across(w);
    packer_close(&w->packer);
    return status;
}

static enum tide_status end_shard(struct stage_storing *s, struct err *err)
{
    struct writer *w = &s->writer;
    uint64_t manifest_bytes = 0;
    enum tide_status status = TIDE_OK;
    if (!s->stored) {
        take_from_across(w);
        status = write_left(w, err);
        if (status == TIDE_OK)
            add_lines(w);
        if (status == TIDE_OK)
            status = rank_manifest_check(&w->manifest, err);
        if (status == TIDE_OK)
            status = object_put(w->store, &rank_manifest_codec, &w->manifest, s->shard.key, s->shard.digest, &manifest_bytes, err);
        if (status != TIDE_OK)
            return status;
        s->shard.stored_bytes = w->packer.stored_bytes + manifest_bytes;
    }
    base_save(s->arena, &w->manifest, s->shard.key, s->shard.digest);
    return TIDE_OK;
}

static enum tide_status failed(enum tide_status status, const struct stage_storing *s, uint32_t rank, uint64_t cut, struct err *err)
{
    return status == TIDE_OK ? TIDE_OK : err_wrap(err, "cannot store rank %u of cut %" PRIu64 " from %s", rank, cut, s->path);
}

static enum tide_status store_begin(struct store *store, const char *arena, uint32_t rank, uint32_t slot, const char *job,
                                    const char *job_uid, uint64_t cut, int share, const struct stage_across *across,
                                    struct stage_storing **ret_storing, struct err *err)
{
    arena_path sum_path;
    struct stage_storing *s = mem_try_alloc(sizeof *s);
    if (s == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to store rank %u of cut %" PRIu64, rank, cut);
    text_copy(s->arena, sizeof s->arena, arena);
    slot_path(arena, rank, slot, s->path);
    slot_sum_path(arena, rank, slot, sum_path);
    enum tide_status status = slot_open(s->path, sum_path, job_uid, cut, rank, &s->slot, &s->sum, err);
    if (status == TIDE_OK) {
        status = writer_init(&s->writer, store, &s->slot, &s->sum, err);
        s->writer.across = across;
        if (status == TIDE_OK)
            status = begin_shard(s, job, share, err);
        if (status == TIDE_OK) {
            *ret_storing = s;
            return TIDE_OK;
        }
    }
    status = failed(status, s, rank, cut, err);
    stage_store_abandon(s);
    return status;
}

uint64_t stage_store_left(const struct stage_storing *storing)
{
    return storing->stored ? 0 : count_of(&storing->writer, ELSEWHERE);
}

enum tide_status stage_store_end(struct stage_storing *storing, struct stage_shard *ret_shard, struct err *err)
{
    const struct rank_manifest *m = &storing->writer.manifest;
    enum tide_status status = failed(end_shard(storing, err), storing, m->rank, m->cut, err);
    if (status == TIDE_OK)
        *ret_shard = storing->shard;
    stage_store_abandon(storing);
    return status;
}

enum tide_status stage_store_begin(struct store *store, const char *arena, uint32_t rank, uint32_t slot, const char *job,
                                   const char *job_uid, uint64_t cut, const struct stage_across *across,
                                   struct stage_storing **ret_storing, struct err *err)
{
    return store_begin(store, arena, rank, slot, job, job_uid, cut, 1, across, ret_storing, err);
}

static enum tide_status store_slot(struct store *store, const char *arena, uint32_t rank, uint32_t slot, const char *job,
                                   const char *job_uid, uint64_t cut, int share, struct stage_shard *ret_shard, struct err *err)
{
    struct stage_storing *storing = NULL;
    enum tide_status status = store_begin(store, arena, rank, slot, job, job_uid, cut, share, NULL, &storing, err);
    return status == TIDE_OK ? stage_store_end(storing, ret_shard, err) : status;
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
