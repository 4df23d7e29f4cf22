/* SPDX-License-Identifier: Apache-2.0 */
/* The two objects that say what a stored checkpoint is made of, and where it lies: the manifest, and a rank's, with its packs and its
 * chunk table. The first byte chooses; the rest is their text, or decisions by which one is made that is right but for a few of its
 * fields, which no invented text would be. What is taken leads nowhere but to the job's own objects, and into them. */

#include <inttypes.h>

#include "ckpt/base/mem.h"
#include "ckpt/format/manifest.h"
#include "tests/fuzz/fuzz.h"

#define JOB "job"
#define UID "0123456789abcdef"
#define REGIONS_MOST 4u
#define PACKS_MOST 4u
#define SPOILS_MOST 3u
#define REGION_MOST (3u << 20) /* so that a shard has a few chunks, and few of them are large */

enum choice { RANK_TEXT, WHOLE_TEXT, RANK_GROWN, WHOLE_GROWN, CHOICES };

/* ---- what must hold of what is taken ---- */

/* In its own place: not above it, not another job's. */
static void key_is_own(const char *key, const char *place, const char *job, const char *uid)
{
    char begin[TIDE_PATH_MAX + 1];
    size_t n = strlen(place);
    FUZZ_CHECK(strncmp(key, place, n) == 0 && strstr(key, "/../") == NULL && strstr(key, "//") == NULL);
    if (n == 2 && key[0] == 'c')
        n += 3; /* "c/7f/" */
    snprintf(begin, sizeof begin, "%s.%s/", job, uid);
    FUZZ_CHECK(strncmp(key + n, begin, strlen(begin)) == 0 && strpbrk(key + n + strlen(begin), " \\%?#") == NULL);
}

static void chunks_are_in_packs(const struct rank_manifest *m)
{
    FUZZ_CHECK(m->chunks.count == chunks_of(m->data_bytes));
    for (size_t i = 0; i < m->chunks.count; i++) {
        struct chunk chunk;
        FUZZ_CHECK(chunk_parse(m->chunks.items[i], &chunk, NULL) == TIDE_OK);
        if (chunk.codec == CHUNK_ZERO)
            continue;
        FUZZ_CHECK(chunk.pack < m->packs.count && chunk.length > 0 && chunk.length <= FORMAT_CHUNK_BYTES);
        FUZZ_CHECK(m->packs.items[chunk.pack].bytes <= FORMAT_PACK_BYTES_MAX && chunk.offset <= FORMAT_PACK_BYTES_MAX);
        FUZZ_CHECK(chunk.offset + chunk.length <= m->packs.items[chunk.pack].bytes);
    }
}

static void regions_are_in_shard(const struct rank_manifest *m)
{
    uint64_t end = 0;
    for (size_t i = 0; i < m->regions.count; i++) {
        const struct region_entry *r = &m->regions.items[i];
        struct box box;
        FUZZ_CHECK(r->offset >= end && r->bytes <= m->data_bytes && r->offset <= m->data_bytes - r->bytes);
        FUZZ_CHECK(r->kind != REGION_SHARD || region_box(r, &box, NULL) == TIDE_OK);
        end = r->offset + r->bytes;
    }
}

/* What was taken can be written again, and is taken as the same. */
static void rank_is_sound(const struct rank_manifest *m)
{
    struct rank_manifest again;
    struct err err = {0};
    for (size_t i = 0; i < m->packs.count; i++)
        key_is_own(m->packs.items[i].key, "c/", m->job, m->uid);
    chunks_are_in_packs(m);
    regions_are_in_shard(m);
    FUZZ_CHECK(m->version <= FORMAT_VERSION && m->rank < m->world_size);
    FUZZ_CHECK(rank_manifest_version(m) <= (m->version < FORMAT_VERSION_WHOLE ? FORMAT_VERSION_WHOLE : m->version));
    char *text = codec_print(&rank_manifest_codec, m, CODEC_COMPACT);
    FUZZ_CHECK(rank_manifest_parse(text, strlen(text), &again, &err) == TIDE_OK);
    char *second = codec_print(&rank_manifest_codec, &again, CODEC_COMPACT);
    FUZZ_CHECK(strcmp(text, second) == 0);
    codec_release(&rank_manifest_codec, &again);
    mem_free(second);
    mem_free(text);
}

static void whole_is_sound(const struct manifest *m)
{
    FUZZ_CHECK(m->version <= FORMAT_VERSION && m->world_size > 0 && m->shards.count == m->world_size);
    for (size_t i = 0; i < m->shards.count; i++)
        key_is_own(m->shards.items[i].key, "m/", m->job, m->uid);
}

static void is_refused(const struct err *err)
{
    FUZZ_CHECK((err->status == TIDE_E_CORRUPT || err->status == TIDE_E_VERSION) && err->text[0] != '\0');
}

static void take_rank(const char *text, size_t bytes)
{
    struct rank_manifest m;
    struct err err = {0};
    if (rank_manifest_parse(text, bytes, &m, &err) != TIDE_OK) {
        is_refused(&err);
        return;
    }
    rank_is_sound(&m);
    codec_release(&rank_manifest_codec, &m);
}

static void take_whole(const char *text, size_t bytes)
{
    struct manifest m;
    struct err err = {0};
    if (manifest_parse(text, bytes, &m, &err) != TIDE_OK) {
        is_refused(&err);
        return;
    }
    whole_is_sound(&m);
    codec_release(&manifest_codec, &m);
}

/* ---- one that is right ---- */

static void grow_regions(struct rank_manifest *m, struct fuzz_in *in)
{
    for (uint64_t n = fuzz_number(in, 1) % (REGIONS_MOST + 1); n > 0; n--) {
        struct region_entry *r = codec_list_add(&region_entry_codec, &m->regions);
        *r = (struct region_entry){.offset = m->data_bytes, .kind = (unsigned)fuzz_number(in, 1) & 3};
        snprintf(r->name, sizeof r->name, "r%" PRIu64, n);
        r->bytes = fuzz_number(in, 3) % REGION_MOST;
        if (r->kind == REGION_SHARD) {
            snprintf(r->shape, sizeof r->shape, "%" PRIu64, r->bytes);
            snprintf(r->whole, sizeof r->whole, "%" PRIu64, 2 * r->bytes);
            snprintf(r->at, sizeof r->at, "%" PRIu64, r->bytes);
        }
        m->data_bytes = region_end_aligned(r->offset, r->bytes);
    }
}

/* Its own, an earlier cut's, another rank's. */
static void grow_packs(struct rank_manifest *m, struct fuzz_in *in)
{
    uint64_t own = 0;
    for (uint64_t n = fuzz_number(in, 1) % (PACKS_MOST + 1); n > 0; n--) {
        struct pack_entry *pack = codec_list_add(&pack_entry_codec, &m->packs);
        uint64_t whose = fuzz_number(in, 1) % 3;
        struct cut_name name = rank_manifest_name(m);
        name.cut -= whose == 1;
        key_pack(&name, whose == 2 ? 1 - m->rank : m->rank, whose == 0 ? own++ : n, "0123456789abcdef", pack->key);
        pack->bytes = 1 + fuzz_number(in, 3);
    }
}

static void grow_chunks(struct rank_manifest *m, struct fuzz_in *in)
{
    char line[CHUNK_TEXT_MAX];
    for (uint64_t i = 0; i < chunks_of(m->data_bytes); i++) {
        struct chunk chunk = {.codec = (enum chunk_codec)(fuzz_number(in, 1) % CHUNK_CODECS)};
        uint32_t raw = chunk_raw_bytes(m->data_bytes, i);
        if (m->packs.count == 0)
            chunk.codec = CHUNK_ZERO;
        if (chunk.codec != CHUNK_ZERO) {
            chunk.pack = (uint32_t)(fuzz_number(in, 1) % m->packs.count);
            chunk.length = chunk.codec == CHUNK_RAW ? raw : chunk.codec == CHUNK_REPEAT ? CHUNK_PATTERN_BYTES : 1 + raw / 2;
            chunk.offset = fuzz_number(in, 2);
        }
        chunk_print(&chunk, line);
        strlist_add(&m->chunks, line);
    }
}

static json_t *grow_rank(struct fuzz_in *in)
{
    struct rank_manifest m = {.version = 3 + (uint32_t)(fuzz_number(in, 1) & 1), .job = JOB, .uid = UID, .cut = 5, .generation = 3,
                              .attempt = 1, .rank = (uint32_t)fuzz_number(in, 1) & 1, .world_size = 2, .chunk_bytes = FORMAT_CHUNK_BYTES};
    digest_hex((struct digest){0}, m.root);
    grow_regions(&m, in);
    grow_packs(&m, in);
    grow_chunks(&m, in);
    json_t *json = codec_encode(&rank_manifest_codec, &m, CODEC_COMPACT);
    codec_release(&rank_manifest_codec, &m);
    return json;
}

static json_t *grow_whole(struct fuzz_in *in)
{
    struct manifest m = {.version = FORMAT_VERSION_WHOLE, .job = JOB, .uid = UID, .cut = 5, .generation = 3,
                         .world_size = 1 + (uint32_t)fuzz_number(in, 1) % 4};
    struct cut_name name = manifest_name(&m);
    for (uint32_t rank = 0; rank < m.world_size; rank++) {
        struct shard_entry *shard = codec_list_add(&shard_entry_codec, &m.shards);
        shard->rank = rank;
        key_rank(&name, rank, shard->key);
        digest_hex((struct digest){0}, shard->digest);
    }
    json_t *json = codec_encode(&manifest_codec, &m, CODEC_COMPACT);
    codec_release(&manifest_codec, &m);
    return json;
}

/* ---- and is not quite ---- */

static json_t *other_letter(const char *was, struct fuzz_in *in)
{
    char *text = mem_strdup(was);
    size_t n = strlen(text), at = fuzz_number(in, 1);
    if (n > 0)
        text[at % n] = (char)(' ' + fuzz_number(in, 1) % 95);
    json_t *changed = json_string(text);
    mem_free(text);
    return changed;
}

static json_t *odd(const json_t *was, struct fuzz_in *in)
{
    static const char *const texts[] = {"..", "/etc/passwd", "c/00/other.0123456789abcdef/5-3/0-0.pk", "m/../m/x", ""};
    switch (fuzz_number(in, 1) % 5) {
    case 0:
        return json_integer((json_int_t)fuzz_number(in, 8));
    case 1:
        return json_integer(json_integer_value(was) + (int8_t)fuzz_number(in, 1));
    case 2:
        return json_string(texts[fuzz_number(in, 1) % (sizeof texts / sizeof texts[0])]);
    case 3:
        return other_letter(json_is_string(was) ? json_string_value(was) : "x", in);
    default:
        return json_array();
    }
}

/* A field of it, or of something within. */
static void spoil(json_t *json, struct fuzz_in *in)
{
    void *field = json_object_iter(json);
    for (size_t at = json_object_size(json) > 0 ? fuzz_number(in, 1) % json_object_size(json) : 0; at > 0; at--)
        field = json_object_iter_next(json, field);
    json_t *value = field != NULL ? json_object_iter_value(field) : NULL;
    size_t count = json_array_size(value), at = count > 0 ? fuzz_number(in, 1) % count : 0;
    json_t *element = json_array_get(value, at);
    if (json_is_object(element))
        spoil(element, in);
    else if (element != NULL)
        json_array_set_new(value, at, odd(element, in));
    else if (field != NULL)
        json_object_iter_set_new(json, field, odd(value, in));
}

static void try_grown(enum choice choice, struct fuzz_in *in)
{
    uint64_t spoils = fuzz_number(in, 1) % (SPOILS_MOST + 1);
    json_t *json = choice == RANK_GROWN ? grow_rank(in) : grow_whole(in);
    for (; spoils > 0; spoils--)
        spoil(json, in);
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    FUZZ_CHECK(text != NULL);
    if (choice == RANK_GROWN)
        take_rank(text, strlen(text));
    else
        take_whole(text, strlen(text));
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_in in = {.at = data, .left = bytes};
    enum choice choice = (enum choice)(fuzz_number(&in, 1) % CHOICES);
    if (choice == RANK_GROWN || choice == WHOLE_GROWN) {
        try_grown(choice, &in);
        return 0;
    }
    char *text = mem_alloc(in.left); /* exactly as long as it is */
    if (in.left > 0)
        memcpy(text, in.at, in.left);
    if (choice == RANK_TEXT)
        take_rank(text, in.left);
    else
        take_whole(text, in.left);
    mem_free(text);
    return 0;
}
