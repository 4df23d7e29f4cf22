/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/stage/base.h"
#include "ckpt/stage/shard.h"
#include "ckpt/stage/stage.h"
#include "ckpt/stage/unpack.h"

/* Where a shard is rebuilt. */
struct place {
    const char *job_uid; /* of the job that is restored; NULL: it is the one that recorded */
    const char *arena;
    uint32_t slot;
    const struct stage_watch *watch; /* NULL: nobody asks */
    uint64_t *kept; /* chunks that the store has not, and the slot has */
};

static const char *uid_of(const struct rank_manifest *m, const struct place *place)
{
    return place->job_uid != NULL ? place->job_uid : m->uid;
}

static struct slot_header facts_of(const struct rank_manifest *m, const char *job_uid)
{
    struct slot_header h = {.rank = m->rank,
                            .generation = m->generation,
                            .cut = m->cut,
                            .attempt = m->attempt,
                            .world_size = m->world_size,
                            .step = m->step,
                            .collectives = m->collectives};
    text_copy(h.job_uid, sizeof h.job_uid, job_uid);
    return h;
}

static void lay_regions(const struct rank_manifest *m, struct slot *slot)
{
    struct slot_part *parts = slot_parts(slot);
    for (size_t i = 0; i < m->regions.count; i++)
        region_lay(&m->regions.items[i], &slot->regions[i], parts != NULL ? &parts[i] : NULL);
}

/* A slot that is being filled, through its file: to have its pages mapped would cost as much again as to write them. */
struct filling {
    struct shard_reader *reader;
    const struct place *place;
    const struct slot *slot;
    const char *path;
    int fd;
    uint64_t data; /* where it begins in the file; the header says it too, and others may write that */
    struct digest *chunks;
};

static int write_chunk(void *context, uint64_t index, const unsigned char *bytes, struct digest digest)
{
    const struct filling *f = context;
    f->chunks[index] = digest;
    return !fsx_pwrite_all(f->fd, bytes, chunk_raw_bytes(f->reader->manifest->data_bytes, index), f->data + index * CHUNK_BYTES);
}

/* What the store has lost, has wrong, or cannot read, may still be in the slot, where nothing is written over before it is there: the
 * rank's own record, of which another part is bad, or what a peer sent until its next was. Nothing is believed but the digest. Nonzero:
 * it is so. */
static int keep_chunk(const struct filling *f, uint64_t index, const struct err *why)
{
    struct chunk chunk;
    const struct rank_manifest *m = f->reader->manifest;
    const struct place *place = f->place;
    if ((!shard_is_damage(why->status) && !shard_is_unread(why->status)) ||
        chunk_parse(m->chunks.items[index], &chunk, NULL) != TIDE_OK ||
        !digest_equal(chunk.digest, digest_of(f->slot->data + index * CHUNK_BYTES, chunk_raw_bytes(m->data_bytes, index))))
        return 0;
    if (place->watch != NULL && place->watch->say != NULL)
        place->watch->say(place->watch->context, why->text);
    f->chunks[index] = chunk.digest;
    ++*place->kept;
    return 1;
}

static enum tide_status fill_alone(void *context, uint64_t index, struct err *err)
{
    const struct filling *f = context;
    const unsigned char *bytes;
    struct digest digest;
    struct err why = {0};
    enum tide_status status = shard_read_chunk(f->reader, index, &bytes, &digest, &why);
    shard_blame(f->place->watch, f->reader->manifest, index, status);
    if (status != TIDE_OK && keep_chunk(f, index, &why))
        return TIDE_OK;
    shard_unread(f->place->watch, status);
    if (status != TIDE_OK)
        return err_set(err, status, "%s", why.text);
    return write_chunk(context, index, bytes, digest) ? err_errno(err, "cannot write slot %s", f->path) : TIDE_OK;
}

static enum tide_status fill_data(struct shard_reader *reader, const struct place *place, const struct slot *slot, const char *path,
                                  struct digest *chunks, struct err *err)
{
    struct filling filling = {.reader = reader, .place = place, .slot = slot, .path = path, .chunks = chunks};
    const struct unpack_work work = {.reader = reader, .use = write_chunk, .alone = fill_alone, .context = &filling};
    filling.data = (uint64_t)(slot->data - (unsigned char *)slot->header);
    enum tide_status status = slot_open_file(slot, path, O_WRONLY, &filling.fd, err);
    if (status != TIDE_OK)
        return status;
    status = unpack(&work, err);
    close(filling.fd);
    return status;
}

static enum tide_status assemble(const struct rank_manifest *m, const char *job_uid, const struct slot *slot, struct digest *chunks,
                                 struct slot_sum *ret_sum, struct err *err)
{
    struct slot_header facts = facts_of(m, job_uid);
    facts.region_count = slot->header->region_count;
    facts.data_offset = slot->header->data_offset;
    facts.data_bytes = slot->header->data_bytes;
    facts.parts = slot->header->parts;
    return slot_sum_assemble(&facts, slot->regions, chunks, ret_sum, err);
}

/* The root in the manifest is that of the job that recorded; what is saved is that of the slot as it is here. */
static enum tide_status save_sum(const struct rank_manifest *m, const char *job_uid, const struct slot *slot, struct digest *chunks,
                                 const char *sum_path, struct err *err)
{
    struct slot_sum sum;
    char root[DIGEST_HEX_CHARS + 1];
    enum tide_status status = assemble(m, m->uid, slot, chunks, &sum, err);
    if (status != TIDE_OK)
        return status;
    digest_hex(sum.root, root);
    if (strcmp(root, m->root) != 0)
        status = err_set(err, TIDE_E_CORRUPT, "the rank manifest of rank %u does not match the root digest in it", m->rank);
    if (status == TIDE_OK && strcmp(job_uid, m->uid) != 0) {
        chunks = sum.chunks;
        sum = (struct slot_sum){0};
        status = assemble(m, job_uid, slot, chunks, &sum, err);
    }
    if (status == TIDE_OK)
        status = slot_sum_save(sum_path, &sum, err);
    slot_sum_release(&sum);
    return status;
}

/* The data and, at the end, the digest file. The slot is not RECORDED before both are there. */
static enum tide_status fill_slot(struct shard_reader *reader, const struct place *place, struct slot *slot, const char *path,
                                  const char *sum_path, struct err *err)
{
    const struct rank_manifest *m = reader->manifest;
    bool parts = regions_have_parts(m->regions.items, m->regions.count);
    enum tide_status status = slot_start(slot, (uint32_t)m->regions.count, parts, m->data_bytes, err);
    if (status != TIDE_OK)
        return status;
    lay_regions(m, slot);
    struct digest *chunks = mem_try_array(m->chunks.count, sizeof *chunks);
    status = chunks ? fill_data(reader, place, slot, path, chunks, err) : err_set(err, TIDE_E_NOMEM, "no memory for the digests");
    if (status == TIDE_OK)
        status = save_sum(m, uid_of(m, place), slot, chunks, sum_path, err);
    else
        mem_free(chunks);
    return status;
}

/* Is it there already? A fetch that was asked for twice need not move the bytes twice. */
static int already_there(const struct rank_manifest *m, const struct place *place)
{
    arena_path path, sum_path;
    struct slot mapped;
    struct slot_sum sum;
    char root[DIGEST_HEX_CHARS + 1];
    slot_path(place->arena, m->rank, place->slot, path);
    slot_sum_path(place->arena, m->rank, place->slot, sum_path);
    if (strcmp(uid_of(m, place), m->uid) != 0 ||
        slot_open(path, sum_path, m->uid, m->cut, m->rank, &mapped, &sum, NULL) != TIDE_OK)
        return 0;
    digest_hex(sum.root, root);
    int there = strcmp(root, m->root) == 0 && slot_verify(&mapped, &sum, NULL) == TIDE_OK;
    slot_unmap(&mapped);
    slot_sum_release(&sum);
    return there;
}

static enum tide_status fetch_into(struct shard_reader *reader, const struct place *place, const char *path, const char *sum_path,
                                   struct err *err)
{
    const struct rank_manifest *m = reader->manifest;
    struct slot mapped;
    bool parts = regions_have_parts(m->regions.items, m->regions.count);
    uint64_t bytes = slot_bytes_needed((uint32_t)m->regions.count, parts, m->data_bytes);
    enum tide_status status = fsx_mkdirs(place->arena, 0700, err);
    if (status == TIDE_OK)
        status = slot_reserve(path, bytes, err);
    if (status == TIDE_OK)
        status = slot_map(path, 1, &mapped, err);
    if (status != TIDE_OK)
        return status;
    /* From here to RECORDED nobody may take it for whole. */
    slot_void(&mapped);
    if (unlink(sum_path) != 0 && errno != ENOENT)
        status = err_errno(err, "cannot remove %s", sum_path);
    if (status == TIDE_OK)
        status = fill_slot(reader, place, &mapped, path, sum_path, err);
    if (status == TIDE_OK) {
        struct slot_header facts = facts_of(m, uid_of(m, place));
        slot_finish(&mapped, &facts);
    } else {
        slot_void(&mapped);
    }
    slot_unmap(&mapped);
    return status;
}

static enum tide_status fetch(struct store *store, const struct rank_manifest *m, const struct place *place, struct err *err)
{
    arena_path path, sum_path;
    struct shard_reader reader;
    slot_path(place->arena, m->rank, place->slot, path);
    slot_sum_path(place->arena, m->rank, place->slot, sum_path);
    if (already_there(m, place))
        return TIDE_OK;
    enum tide_status status = shard_reader_init(&reader, store, m, err);
    if (status != TIDE_OK)
        return status;
    shard_read_ahead(&reader); /* while the slot gets its memory */
    status = fetch_into(&reader, place, path, sum_path, err);
    shard_reader_release(&reader);
    return status;
}

static enum tide_status fetch_same(struct store *store, const struct manifest *whole, const struct stage_target *target, struct err *err)
{
    uint64_t kept = 0;
    const struct place place = {
        .job_uid = target->job_uid, .arena = target->arena, .slot = target->slot, .watch = target->watch, .kept = &kept};
    struct rank_manifest part;
    enum tide_status status = rank_manifest_read(store, whole, target->rank, &part, err);
    shard_unread(target->watch, status);
    if (status != TIDE_OK)
        return status;
    status = fetch(store, &part, &place, err);
    /* Of another job's packs nothing is referred to, and of a shard that is damaged. */
    if (status == TIDE_OK && kept == 0 && strcmp(uid_of(&part, &place), part.uid) == 0)
        base_save(target->arena, &part, whole->shards.items[target->rank].key, whole->shards.items[target->rank].digest);
    codec_release(&rank_manifest_codec, &part);
    return status;
}

enum tide_status stage_fetch_to(struct store *store, const char *manifest_key, const char *manifest_digest,
                                const struct stage_target *target, struct err *err)
{
    struct manifest whole;
    enum tide_status status = manifest_read(store, manifest_key, manifest_digest, &whole, err);
    shard_unread(target->watch, status);
    if (status != TIDE_OK)
        return status;
    if (target->world_size == 0 || target->world_size == whole.world_size)
        status = fetch_same(store, &whole, target, err);
    else if (!target->elastic)
        status = err_set(err, TIDE_E_MISMATCH,
                         "checkpoint %" PRIu64 " of job %s was made by %u ranks and this job has %u; submit it with as many, or, where the "
                         "program allows it, with --elastic",
                         whole.cut, whole.job, whole.world_size, target->world_size);
    else
        status = shard_put_together(store, &whole, target, err);
    codec_release(&manifest_codec, &whole);
    return status;
}

enum tide_status stage_fetch(struct store *store, const char *manifest_key, const char *manifest_digest, const char *job_uid,
                             const char *arena, uint32_t rank, uint32_t slot, struct err *err)
{
    const struct stage_target target = {.job_uid = job_uid, .arena = arena, .rank = rank, .slot = slot};
    return stage_fetch_to(store, manifest_key, manifest_digest, &target, err);
}

int stage_holds_job(struct store *store, const char *manifest_key)
{
    struct strlist keys = {0};
    object_key prefix;
    const char *job = strchr(manifest_key, '/');
    const char *end = job != NULL ? strchr(job + 1, '/') : NULL;
    if (end == NULL || (size_t)(end - manifest_key) + 2 > sizeof prefix)
        return 0;
    text_copy(prefix, (size_t)(end - manifest_key) + 2, manifest_key); /* "m/JOB.UID/" */
    int holds = store_list(store, prefix, &keys, NULL) == TIDE_OK && keys.count > 0;
    strlist_release(&keys);
    return holds;
}
