/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const memory_names[] = {"host", "device", NULL};
static const char *const dtype_names[] = {"bytes", "f64", "f32", "bf16", "f16", "f8", "i64", "i32", "i16", "i8", NULL};
static const char *const kind_names[] = {"own", "replicated", "shard", "droppable", NULL};

static const struct codec_field region_fields[] = {
    CODEC_TEXT_OF(region_entry, name, .required = true),
    CODEC_ENUM_OF(region_entry, memory, memory_names),
    CODEC_ENUM_OF(region_entry, dtype, dtype_names),
    CODEC_TEXT_OF(region_entry, shape),
    CODEC_FIELD(region_entry, offset, CODEC_U64, .required = true),
    CODEC_FIELD(region_entry, bytes, CODEC_U64, .required = true),
    CODEC_ENUM_OF(region_entry, kind, kind_names),
    CODEC_TEXT_OF(region_entry, whole),
    CODEC_TEXT_OF(region_entry, at),
};
CODEC_DEFINE(region_entry_codec, region_entry, "region", region_fields);

static const struct codec_field pack_fields[] = {
    CODEC_TEXT_OF(pack_entry, key, .required = true),
    CODEC_FIELD(pack_entry, bytes, CODEC_U64, .required = true),
};
CODEC_DEFINE(pack_entry_codec, pack_entry, "pack", pack_fields);

static const struct codec_field rank_fields[] = {
    CODEC_FIELD(rank_manifest, version, CODEC_U32, .required = true),
    CODEC_NAME_OF(rank_manifest, job, .required = true),
    CODEC_NAME_OF(rank_manifest, uid, .required = true),
    CODEC_FIELD(rank_manifest, cut, CODEC_U64, .required = true),
    CODEC_FIELD(rank_manifest, generation, CODEC_U64, .required = true),
    CODEC_FIELD(rank_manifest, attempt, CODEC_U32, .required = true),
    CODEC_FIELD(rank_manifest, rank, CODEC_U32, .required = true),
    CODEC_FIELD(rank_manifest, world_size, CODEC_U32, .required = true),
    CODEC_FIELD(rank_manifest, step, CODEC_U64, .required = true),
    CODEC_FIELD(rank_manifest, collectives, CODEC_U64),
    CODEC_LIST_OF(rank_manifest, regions, region_entry_codec, TIDE_REGIONS_MAX, .required = true),
    CODEC_FIELD(rank_manifest, data_bytes, CODEC_U64, .required = true),
    CODEC_FIELD(rank_manifest, chunk_bytes, CODEC_U32, .required = true),
    CODEC_TEXT_OF(rank_manifest, root, .required = true),
    CODEC_LIST_OF(rank_manifest, packs, pack_entry_codec, RANK_PACKS_MAX, .required = true),
    CODEC_FIELD(rank_manifest, chunks, CODEC_STRLIST, .size = RANK_CHUNKS_MAX, .required = true),
};
CODEC_DEFINE(rank_manifest_codec, rank_manifest, "rank manifest", rank_fields);

static const struct codec_field shard_fields[] = {
    CODEC_FIELD(shard_entry, rank, CODEC_U32, .required = true), CODEC_TEXT_OF(shard_entry, key, .required = true),
    CODEC_TEXT_OF(shard_entry, digest, .required = true),        CODEC_FIELD(shard_entry, raw_bytes, CODEC_U64),
    CODEC_FIELD(shard_entry, stored_bytes, CODEC_U64),
};
CODEC_DEFINE(shard_entry_codec, shard_entry, "shard", shard_fields);

static const struct codec_field manifest_fields[] = {
    CODEC_FIELD(manifest, version, CODEC_U32, .required = true),
    CODEC_NAME_OF(manifest, job, .required = true),
    CODEC_NAME_OF(manifest, uid, .required = true),
    CODEC_FIELD(manifest, cut, CODEC_U64, .required = true),
    CODEC_FIELD(manifest, generation, CODEC_U64, .required = true),
    CODEC_FIELD(manifest, step, CODEC_U64, .required = true),
    CODEC_FIELD(manifest, world_size, CODEC_U32, .required = true),
    CODEC_LIST_OF(manifest, shards, shard_entry_codec, TIDE_RANKS_MAX, .required = true),
};
CODEC_DEFINE(manifest_codec, manifest, "manifest", manifest_fields);

/* ---- shapes and names ---- */

void shape_print(unsigned ndim, const uint64_t *shape, char to[SHAPE_TEXT_MAX + 1])
{
    int n = 0;
    to[0] = '\0';
    for (unsigned i = 0; i < ndim && i < TIDE_DIMS_MAX; i++)
        n += snprintf(to + n, SHAPE_TEXT_MAX + 1 - (size_t)n, "%s%" PRIu64, i ? "x" : "", shape[i]);
}

int shape_parse(const char *text, unsigned *ret_ndim, uint64_t ret_shape[TIDE_DIMS_MAX])
{
    unsigned ndim = 0;
    while (*text) {
        if (ndim == TIDE_DIMS_MAX || (ndim > 0 && *text++ != 'x') || *text < '0' || *text > '9')
            return -1;
        uint64_t n = 0;
        for (; *text >= '0' && *text <= '9'; text++)
            if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*text - '0'), &n))
                return -1;
        ret_shape[ndim++] = n;
    }
    *ret_ndim = ndim;
    return 0;
}

struct cut_name rank_manifest_name(const struct rank_manifest *m)
{
    return (struct cut_name){.job = m->job, .uid = m->uid, .cut = m->cut, .generation = m->generation};
}

struct cut_name manifest_name(const struct manifest *m)
{
    return (struct cut_name){.job = m->job, .uid = m->uid, .cut = m->cut, .generation = m->generation};
}

/* ---- judging ---- */

static enum tide_status wrong(struct err *err, const char *noun, const char *what)
{
    return err_set(err, TIDE_E_CORRUPT, "%s: %s", noun, what);
}

#define PLANES_SINCE 2u
#define REFERENCES_SINCE 3u
#define PARTS_SINCE 4u  /* kinds of regions */
#define SHARED_SINCE 4u /* packs of other ranks */

static int is_shared(const struct rank_manifest *m, const char *key)
{
    struct pack_name name;
    return key_pack_parse(key, m->job, m->uid, &name) == 0 && name.cut == m->cut && name.rank != m->rank;
}

uint32_t rank_manifest_version(const struct rank_manifest *m)
{
    for (size_t i = 0; i < m->packs.count; i++)
        if (is_shared(m, m->packs.items[i].key))
            return SHARED_SINCE;
    for (size_t i = 0; i < m->regions.count; i++)
        if (m->regions.items[i].kind != REGION_OWN)
            return PARTS_SINCE;
    return REFERENCES_SINCE;
}

enum tide_status region_box(const struct region_entry *r, struct box *ret_box, struct err *err)
{
    struct box box = {.ndim = 0};
    unsigned at, whole;
    if (shape_parse(r->shape, &box.ndim, box.extent) || shape_parse(r->at, &at, box.at) || shape_parse(r->whole, &whole, box.whole) ||
        at != box.ndim || whole != box.ndim)
        return err_set(err, TIDE_E_CORRUPT, "its shape, its place and the whole have not as many dimensions");
    if (box_check(&box, r->dtype, r->bytes, err) != TIDE_OK) {
        if (err != NULL)
            err->status = TIDE_E_CORRUPT;
        return TIDE_E_CORRUPT;
    }
    *ret_box = box;
    return TIDE_OK;
}

static enum tide_status check_kind(const struct rank_manifest *m, const struct region_entry *r, struct err *err)
{
    struct box box;
    struct err why = {.status = TIDE_OK};
    if (r->kind != REGION_OWN && m->version < PARTS_SINCE)
        return err_set(err, TIDE_E_CORRUPT, "rank manifest: the kind of region \"%s\" is of a later version than the manifest", r->name);
    if (r->kind != REGION_SHARD && (r->whole[0] != '\0' || r->at[0] != '\0'))
        return err_set(err, TIDE_E_CORRUPT, "rank manifest: region \"%s\" is no shard, and a part of a whole", r->name);
    if (r->kind == REGION_SHARD && region_box(r, &box, &why) != TIDE_OK)
        return err_set(err, TIDE_E_CORRUPT, "rank manifest: region \"%s\": %.300s", r->name, why.text);
    return TIDE_OK;
}

static enum tide_status check_regions(const struct rank_manifest *m, struct err *err)
{
    uint64_t offset = 0, shape[TIDE_DIMS_MAX];
    unsigned ndim;
    for (size_t i = 0; i < m->regions.count; i++) {
        const struct region_entry *r = &m->regions.items[i];
        if (!region_name_valid(r->name) || shape_parse(r->shape, &ndim, shape))
            return err_set(err, TIDE_E_CORRUPT, "rank manifest: region %zu has no valid name and shape", i);
        if (r->offset != offset)
            return err_set(err, TIDE_E_CORRUPT, "rank manifest: region \"%s\" is not where the one before it ends", r->name);
        offset = region_end_aligned(r->offset, r->bytes);
        if (offset > m->data_bytes)
            return err_set(err, TIDE_E_CORRUPT, "rank manifest: region \"%s\" ends outside the shard", r->name);
        enum tide_status status = check_kind(m, r, err);
        if (status != TIDE_OK)
            return status;
    }
    return offset == m->data_bytes ? TIDE_OK : wrong(err, "rank manifest", "the regions are not as long as the shard");
}

int chunk_fits(const struct chunk *chunk, uint32_t raw)
{
    if (chunk->codec == CHUNK_RAW)
        return chunk->length == raw;
    if (chunk->codec == CHUNK_REPEAT)
        return chunk->length == CHUNK_PATTERN_BYTES && raw % CHUNK_PATTERN_BYTES == 0;
    return chunk->length > 0 && chunk->length <= raw;
}

static enum tide_status check_chunk(const struct rank_manifest *m, uint64_t index, struct err *err)
{
    struct chunk chunk;
    enum tide_status status = chunk_parse(m->chunks.items[index], &chunk, err);
    if (status != TIDE_OK)
        return err_set(err, TIDE_E_CORRUPT, "rank manifest: chunk %" PRIu64 " cannot be read", index);
    if (chunk.codec == CHUNK_ZERO)
        return TIDE_OK;
    if (chunk.codec >= CHUNK_REPEAT && m->version < PLANES_SINCE)
        return err_set(err, TIDE_E_CORRUPT, "rank manifest: chunk %" PRIu64 " is of a later version than the manifest",
                       index);
    if (chunk.pack >= m->packs.count || chunk.offset > m->packs.items[chunk.pack].bytes ||
        chunk.length > m->packs.items[chunk.pack].bytes - chunk.offset ||
        !chunk_fits(&chunk, chunk_raw_bytes(m->data_bytes, index)))
        return err_set(err, TIDE_E_CORRUPT, "rank manifest: chunk %" PRIu64 " does not fit its pack", index);
    return TIDE_OK;
}

/* Its own are numbered, and named by their content since version 3; since then, too, those of earlier cuts may be there, and since
 * version 4 those that other ranks wrote in the same cut. */
static int pack_fits(const struct rank_manifest *m, const struct pack_name *name, uint64_t bytes, uint64_t *own)
{
    if (bytes > FORMAT_PACK_BYTES_MAX)
        return 0;
    if (name->cut != m->cut)
        return m->version >= REFERENCES_SINCE && name->cut < m->cut;
    if (name->rank != m->rank)
        return m->version >= SHARED_SINCE && name->rank < m->world_size && name->generation == m->generation && name->content[0] != '\0';
    return name->generation == m->generation && name->seq == (*own)++ &&
           (name->content[0] != '\0') == (m->version >= REFERENCES_SINCE);
}

static enum tide_status check_packs(const struct rank_manifest *m, struct err *err)
{
    uint64_t own = 0;
    struct pack_name name;
    for (size_t i = 0; i < m->packs.count; i++) {
        if (key_pack_parse(m->packs.items[i].key, m->job, m->uid, &name) != 0)
            return err_set(err, TIDE_E_CORRUPT,
                           "rank manifest: pack %zu, \"%.120s\", is no pack of job %s with uid %s: a manifest that leads elsewhere is not "
                           "followed; restore another checkpoint",
                           i, m->packs.items[i].key, m->job, m->uid);
        if (!pack_fits(m, &name, m->packs.items[i].bytes, &own))
            return err_set(err, TIDE_E_CORRUPT, "rank manifest: pack %zu has a wrong key or size", i);
    }
    return TIDE_OK;
}

enum tide_status rank_manifest_check(const struct rank_manifest *m, struct err *err)
{
    struct digest root;
    if (m->chunk_bytes != FORMAT_CHUNK_BYTES)
        return wrong(err, "rank manifest", "chunks of another size than 1 MiB");
    if (m->rank >= m->world_size || m->world_size > TIDE_RANKS_MAX)
        return wrong(err, "rank manifest", "rank and world size do not fit");
    if (digest_parse(m->root, &root))
        return wrong(err, "rank manifest", "field \"root\" is not a digest");
    if (m->chunks.count != chunks_of(m->data_bytes))
        return wrong(err, "rank manifest", "the chunk table is not as long as the shard");
    enum tide_status status = check_regions(m, err);
    if (status == TIDE_OK)
        status = check_packs(m, err);
    for (uint64_t i = 0; status == TIDE_OK && i < m->chunks.count; i++)
        status = check_chunk(m, i, err);
    return status;
}

enum tide_status manifest_check(const struct manifest *m, struct err *err)
{
    struct cut_name name = manifest_name(m);
    struct digest digest;
    object_key key;
    if (m->world_size == 0 || m->shards.count != m->world_size)
        return wrong(err, "manifest", "it does not have one shard per rank");
    for (size_t i = 0; i < m->shards.count; i++) {
        const struct shard_entry *shard = &m->shards.items[i];
        key_rank(&name, (uint32_t)i, key);
        if (shard->rank != i || digest_parse(shard->digest, &digest))
            return err_set(err, TIDE_E_CORRUPT, "manifest: the shard of rank %zu is missing or wrong", i);
        if (strcmp(shard->key, key) != 0)
            return err_set(err, TIDE_E_CORRUPT,
                           "manifest: the shard of rank %zu, \"%.120s\", is not where checkpoint %" PRIu64 " of job %s with uid %s has it: "
                           "a manifest that leads elsewhere is not followed; restore another checkpoint",
                           i, shard->key, m->cut, m->job, m->uid);
    }
    return TIDE_OK;
}

/* ---- parsing ---- */

struct only_version {
    uint32_t version;
};

static const struct codec_field version_fields[] = {CODEC_FIELD(only_version, version, CODEC_U32, .required = true)};

/* The version is read first: what else a newer one holds is not ours to judge. */
static enum tide_status parse(const struct codec *codec, const char *text, size_t bytes, void *to, struct err *err)
{
    const struct codec version_codec = {
        .noun = codec->noun, .size = sizeof(struct only_version), .fields = version_fields, .field_count = 1};
    struct only_version v;
    struct err why = {.status = TIDE_OK};
    json_error_t where;
    json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &where);
    if (json == NULL)
        return err_set(err, TIDE_E_CORRUPT, "%s: not JSON: %s", codec->noun, where.text);
    enum tide_status status = codec_decode(&version_codec, json, CODEC_LENIENT, &v, &why);
    if (status == TIDE_OK && v.version > FORMAT_VERSION)
        status = err_set(&why, TIDE_E_VERSION,
                         "%s has format version %u; this program reads up to %u: restore it with a newer tidemark",
                         codec->noun, v.version, FORMAT_VERSION);
    else if (status == TIDE_OK && v.version == 0)
        status = err_set(&why, TIDE_E_CORRUPT, "%s: format version 0 never was", codec->noun);
    if (status == TIDE_OK)
        status = codec_decode(codec, json, CODEC_LENIENT, to, &why);
    json_decref(json);
    if (status == TIDE_OK)
        return TIDE_OK;
    return err_set(err, status == TIDE_E_VERSION ? TIDE_E_VERSION : TIDE_E_CORRUPT, "%s", why.text);
}

enum tide_status rank_manifest_parse(const char *text, size_t bytes, struct rank_manifest *ret_manifest, struct err *err)
{
    struct rank_manifest m;
    enum tide_status status = parse(&rank_manifest_codec, text, bytes, &m, err);
    if (status != TIDE_OK)
        return status;
    status = rank_manifest_check(&m, err);
    if (status == TIDE_OK)
        *ret_manifest = m;
    else
        codec_release(&rank_manifest_codec, &m);
    return status;
}

enum tide_status manifest_parse(const char *text, size_t bytes, struct manifest *ret_manifest, struct err *err)
{
    struct manifest m;
    enum tide_status status = parse(&manifest_codec, text, bytes, &m, err);
    if (status != TIDE_OK)
        return status;
    status = manifest_check(&m, err);
    if (status == TIDE_OK)
        *ret_manifest = m;
    else
        codec_release(&manifest_codec, &m);
    return status;
}
