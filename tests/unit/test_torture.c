/* SPDX-License-Identifier: Apache-2.0 */

/* A stored checkpoint, of which each object in turn is lost, cut short, or has one byte changed, whether the checkpoint needs that byte or
 * not: a check finds every one, and a restore never gives other bytes than were recorded. $TIDE_TORTURE_BYTES says how many bytes are
 * changed, one at a time (for a soak), $TIDE_TORTURE_SEED which. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ckpt/store/store_dir.h"
#include "tests/unit/slots.h"

#define WORLD 2u
#define CUT 6u
#define CHANGES 100u
#define OBJECTS_MAX 16u
#define PARTS_MAX 16u
#define SMALL_EVERY 4u /* of the changes one in so many hits a manifest, however small they are beside packs */

/* Chunks of every kind of which something is stored: planes with raw parts, 8 bytes repeated, one zstd frame. */
static const struct test_region regions[] = {{"floats", 90000},   {"halves", 40000},      {"noise", 30000},
                                             {"counts", 888512},  {"pattern", 1u << 20},  {"bytes", 30000}};
#define REGIONS (sizeof regions / sizeof regions[0])

static char *arena, *elsewhere, *root;
static struct store *store;
static char commit_key[TIDE_PATH_MAX + 1], commit_digest[DIGEST_HEX_CHARS + 1];

/* What this process reads comes from the store as it is, and nothing of it from what it read before. */
static void save(uint64_t cut)
{
    struct cut_order order = {.cut = cut, .generation = 3, .step = cut * 10};
    struct err err = {0};
    char hex[DIGEST_HEX_CHARS + 1];
    for (uint32_t rank = 0; rank < WORLD; rank++) {
        struct stage_shard shard;
        struct slot slot;
        arena_path path;
        test_record(arena, rank, 0, CUT, regions, REGIONS, WORLD);
        slot_path(arena, rank, 0, path);
        assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
        slot.header->cut = cut;
        slot.header->step = cut * 10;
        slot.data[slot.header->data_bytes - 1000] ^= (unsigned char)(CUT - cut); /* the last chunk differs */
        slot_unmap(&slot);
        assert_int_equal(stage_sum(arena, rank, 0, TEST_UID, cut, hex, &err), TIDE_OK);
        assert_int_equal(stage_store(store, arena, rank, 0, "job", TEST_UID, cut, &shard, &err), TIDE_OK);
        test_add_shard(&order, rank, &shard);
    }
    assert_int_equal(stage_commit(store, "job", TEST_UID, &order, commit_key, commit_digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
}

/* Cut CUT refers to packs of the one before, so that both kinds of packs are there. */
static int setup(void **state)
{
    (void)state;
    test_places(&arena, &elsewhere, &root, &store);
    save(CUT - 1);
    save(CUT);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_places_remove(arena, elsewhere, root, store);
    return 0;
}

/* ---- objects the checkpoint is made of ---- */

struct object {
    char key[TIDE_PATH_MAX + 1], path[TIDE_PATH_MAX + 1024];
    uint64_t bytes;
    int32_t rank; /* whose; -1: all ranks' */
    /* Of a pack: where its chunks lie that the checkpoint has. The rest is of earlier ones alone, but a check reads it, too. */
    struct {
        uint64_t from, to;
        size_t chunk; /* that lies there */
    } parts[PARTS_MAX];
    size_t part_count;
};

static struct object objects[OBJECTS_MAX];
static size_t object_count, manifest_count;

static void add_object(const char *key, int32_t rank)
{
    struct err err = {0};
    struct object *object = &objects[object_count++];
    assert_true(object_count <= OBJECTS_MAX);
    *object = (struct object){.rank = rank};
    text_copy(object->key, sizeof object->key, key);
    snprintf(object->path, sizeof object->path, "%s/%s", root, key);
    assert_int_equal(store_size(store, key, &object->bytes, &err), TIDE_OK);
    assert_int_equal(chmod(object->path, 0600), 0);
}

/* Its chunks that were stored in that pack. */
static void add_parts(const struct rank_manifest *m, size_t pack)
{
    struct object *object = &objects[object_count - 1];
    for (size_t i = 0; i < m->chunks.count; i++) {
        struct chunk chunk;
        struct err err = {0};
        assert_int_equal(chunk_parse(m->chunks.items[i], &chunk, &err), TIDE_OK);
        if (chunk.codec == CHUNK_ZERO || chunk.pack != pack)
            continue;
        assert_true(object->part_count < PARTS_MAX);
        object->parts[object->part_count].from = chunk.offset;
        object->parts[object->part_count].chunk = i;
        object->parts[object->part_count++].to = chunk.offset + chunk.length;
    }
    assert_true(object->part_count > 0);
}

/* Any byte that the checkpoint needs of an object. */
static uint64_t draw_needed_byte(const struct object *object, struct rng *rng)
{
    if (object->part_count == 0)
        return rng_below(rng, object->bytes);
    size_t i = rng_below(rng, object->part_count);
    return object->parts[i].from + rng_below(rng, object->parts[i].to - object->parts[i].from);
}

static void find_objects(void)
{
    struct manifest whole;
    struct err err = {0};
    size_t old = 0;
    object_count = 0;
    assert_int_equal(manifest_read(store, commit_key, commit_digest, &whole, &err), TIDE_OK);
    add_object(commit_key, -1);
    for (uint32_t rank = 0; rank < WORLD; rank++)
        add_object(whole.shards.items[rank].key, (int32_t)rank);
    manifest_count = object_count;
    for (uint32_t rank = 0; rank < WORLD; rank++) {
        struct rank_manifest part;
        assert_int_equal(rank_manifest_read(store, &whole, rank, &part, &err), TIDE_OK);
        for (size_t i = 0; i < part.packs.count; i++) {
            add_object(part.packs.items[i].key, (int32_t)rank);
            add_parts(&part, i);
            old += strstr(part.packs.items[i].key, "/5-3/") != NULL;
        }
        codec_release(&rank_manifest_codec, &part);
    }
    codec_release(&manifest_codec, &whole);
    assert_true(old >= WORLD && object_count >= manifest_count + 2 * WORLD);
}

/* ---- verdicts ---- */

static void slots_equal(uint32_t rank)
{
    arena_path a_path, b_path;
    struct slot a, b;
    struct err err = {0};
    slot_path(arena, rank, 0, a_path);
    slot_path(elsewhere, rank, 0, b_path);
    assert_int_equal(slot_map(a_path, 0, &a, &err), TIDE_OK);
    assert_int_equal(slot_map(b_path, 0, &b, &err), TIDE_OK);
    assert_int_equal(a.mapped_bytes, b.mapped_bytes);
    assert_memory_equal(a.header, b.header, a.mapped_bytes);
    slot_unmap(&a);
    slot_unmap(&b);
}

/* What a check says: nothing; that an object is damaged and all ranks have what they need; that a rank has not. */
enum found { NOTHING, SPARE, RANKS };

static object_key blamed; /* a pack; "": none */

static void is_blamed(void *context, const char *pack)
{
    (void)context;
    assert_true(blamed[0] == '\0'); /* one is damaged, and told once */
    snprintf(blamed, sizeof blamed, "%s", pack);
}

static void is_said(void *context, const char *text)
{
    unsigned *said = context;
    assert_true(text[0] != '\0');
    ++*said;
}

static enum found check_finds(void)
{
    struct err err = {0};
    struct stage_verdict verdict = {0};
    unsigned said = 0;
    const struct stage_watch watch = {.say = is_said, .damaged = is_blamed, .context = &said};
    blamed[0] = '\0';
    if (stage_check_watched(store, commit_key, commit_digest, &watch, &verdict, &err) != TIDE_OK)
        return RANKS;
    assert_int_equal(said > 0, verdict.bad + verdict.packs_bad + verdict.needs_lost > 0);
    assert_int_equal(blamed[0] != '\0', verdict.packs_bad);
    return verdict.bad > 0 ? RANKS : verdict.packs_bad + verdict.needs_lost > 0 ? SPARE : NOTHING;
}

/* Fetched anew: it fails and leaves no slot that looks whole, or the bytes are right. Nonzero: it fails. */
static int fetch_fails(uint32_t rank)
{
    arena_path path;
    struct err err = {0};
    uint32_t slot;
    char hex[DIGEST_HEX_CHARS + 1];
    slot_sum_path(elsewhere, rank, 0, path);
    unlink(path); /* else it is found to be there, … */
    slot_path(elsewhere, rank, 0, path);
    unlink(path); /* … or what the store has not is taken from it */
    enum tide_status status = stage_fetch(store, commit_key, commit_digest, NULL, elsewhere, rank, 0, &err);
    if (status == TIDE_OK) {
        slots_equal(rank);
        return 0;
    }
    assert_true(status == TIDE_E_CORRUPT || status == TIDE_E_NOT_FOUND || status == TIDE_E_VERSION);
    assert_true(err.text[0] != '\0');
    assert_int_not_equal(stage_find(elsewhere, rank, TEST_UID, CUT, 0, 0, &slot, hex, &err), TIDE_OK);
    return 1;
}

static void all_is_well(void)
{
    assert_int_equal(check_finds(), NOTHING);
    for (uint32_t rank = 0; rank < WORLD; rank++)
        assert_int_equal(fetch_fails(rank), 0);
}

static void is_found(const struct object *object)
{
    if (check_finds() != RANKS)
        fail_msg("nothing is said of damage to %s", object->key);
    uint32_t rank = object->rank < 0 ? 0 : (uint32_t)object->rank;
    if (!fetch_fails(rank))
        fail_msg("rank %u is restored though %s is damaged", rank, object->key);
    if (object->part_count > 0)
        assert_string_equal(blamed, object->key);
    if (object->rank >= 0) /* nobody else suffers */
        assert_int_equal(fetch_fails(1 - rank), 0);
}

/* ---- damage ---- */

static void a_lost_object_is_found(void **state)
{
    (void)state;
    char away[TIDE_PATH_MAX + 1040];
    find_objects();
    for (size_t i = 0; i < object_count; i++) {
        snprintf(away, sizeof away, "%s~", objects[i].path);
        assert_int_equal(rename(objects[i].path, away), 0);
        is_found(&objects[i]);
        assert_int_equal(rename(away, objects[i].path), 0);
    }
    all_is_well();
}

/* What keeps packs of the cut before for this one: as long as that is there nothing else tells. It is put again. */
static void a_lost_note_is_found(void **state)
{
    (void)state;
    struct err err = {0};
    struct stage_unkept unkept = {.count = 0};
    const struct cut_name name = {.job = "job", .uid = TEST_UID, .cut = CUT, .generation = 3};
    object_key key;
    key_need(&name, CUT - 1, key);
    assert_int_equal(store_remove(store, key, &err), TIDE_OK);
    assert_int_equal(check_finds(), SPARE);
    for (int i = 0; i < 2; i++)
        stage_unkept_add(&unkept, CUT - 1);
    assert_int_equal(unkept.count, 1);
    assert_int_equal(stage_keep(store, commit_key, &unkept, &err), TIDE_OK);
    all_is_well();
    /* Of a checkpoint that is being deleted nothing is left behind. */
    assert_int_equal(store_remove(store, key, &err), TIDE_OK);
    assert_int_equal(store_remove(store, commit_key, &err), TIDE_OK);
    assert_int_equal(stage_keep(store, commit_key, &unkept, &err), TIDE_E_NOT_FOUND);
    uint64_t bytes;
    assert_int_equal(store_size(store, key, &bytes, &err), TIDE_E_NOT_FOUND);
}

static void a_short_object_is_found(void **state)
{
    (void)state;
    struct rng rng = {.state = 3};
    find_objects();
    for (size_t i = 0; i < object_count; i++) {
        char *bytes = NULL;
        size_t count = 0;
        struct err err = {0};
        assert_int_equal(fsx_read(objects[i].path, 1u << 26, &bytes, &count, &err), TIDE_OK);
        assert_int_equal(truncate(objects[i].path, (off_t)draw_needed_byte(&objects[i], &rng)), 0);
        is_found(&objects[i]);
        assert_int_equal(fsx_replace(objects[i].path, bytes, count, 0600, &err), TIDE_OK);
        mem_free(bytes);
    }
    all_is_well();
}

static void flip_and_check(const struct object *object, long at, int mask, unsigned *spare)
{
    test_flip(object->path, at, mask);
    enum found found = check_finds();
    if (found == NOTHING)
        fail_msg("byte %ld of %s, xor %d, is not found", at, object->key, mask);
    if (object->part_count > 0)
        assert_string_equal(blamed, object->key);
    if (fetch_fails(object->rank < 0 ? 0 : (uint32_t)object->rank) != (found == RANKS))
        fail_msg("byte %ld of %s, xor %d: check and restore disagree", at, object->key, mask);
    *spare += found == SPARE;
    test_flip(object->path, at, mask);
}

/* Some bits of a zstd frame mean nothing, and some bytes are of no chunk that this checkpoint has: what comes out is the same, and so it
 * is said. */
static void each_changed_byte_is_found(void **state)
{
    (void)state;
    unsigned spare = 0, changes = test_from_env("TIDE_TORTURE_BYTES", CHANGES);
    struct rng rng = {.state = test_from_env("TIDE_TORTURE_SEED", 1)};
    find_objects();
    for (unsigned n = 0; n < changes; n++) {
        size_t i = n % SMALL_EVERY == 0 ? rng_below(&rng, manifest_count)
                                        : manifest_count + rng_below(&rng, object_count - manifest_count);
        long at = (long)rng_below(&rng, objects[i].bytes);
        flip_and_check(&objects[i], at, 1 + (int)rng_below(&rng, 255), &spare);
    }
    all_is_well();
    print_message("%u changed, %u of these where nothing needs them; all found\n", changes, spare);
}

/* The first and the last byte of each part that the checkpoint has of a pack, and those before and behind it. */
static void the_bytes_beside_chunks_are_found(void **state)
{
    (void)state;
    unsigned spare = 0, needed = 0;
    find_objects();
    for (size_t i = manifest_count; i < object_count; i++) {
        const struct object *o = &objects[i];
        for (size_t k = 0; k < o->part_count; k++) {
            const uint64_t at[] = {o->parts[k].from - 1, o->parts[k].from, o->parts[k].to - 1, o->parts[k].to};
            for (unsigned n = 0; n < sizeof at / sizeof at[0]; n++)
                if (at[n] < o->bytes)
                    flip_and_check(o, (long)at[n], 0x55, &spare);
            needed += 2;
        }
    }
    all_is_well();
    assert_true(needed > 0 && spare > 0); /* what was the last chunk of the cut before */
}

/* ---- a replica ---- */

/* A byte of what memory has of a rank: its slot, or the digests beside it. */
static void draw_replica_byte(struct rng *rng, uint32_t rank, arena_path path, long *ret_at)
{
    struct stat info;
    if (rng_below(rng, SMALL_EVERY) == 0)
        slot_sum_path(elsewhere, rank, 0, path);
    else
        slot_path(elsewhere, rank, 0, path);
    assert_int_equal(stat(path, &info), 0);
    *ret_at = (long)rng_below(rng, (uint64_t)info.st_size);
}

/* Regions and data; what else a slot has that says nothing of these may differ. */
static void replica_equal(uint32_t rank)
{
    arena_path a_path, b_path;
    struct slot a, b;
    struct err err = {0};
    slot_path(arena, rank, 0, a_path);
    slot_path(elsewhere, rank, 0, b_path);
    assert_int_equal(slot_map(a_path, 0, &a, &err), TIDE_OK);
    assert_int_equal(slot_map(b_path, 0, &b, &err), TIDE_OK);
    assert_int_equal(a.header->data_bytes, b.header->data_bytes);
    assert_int_equal(a.header->region_count, b.header->region_count);
    assert_memory_equal(a.regions, b.regions, a.header->region_count * sizeof a.regions[0]);
    assert_memory_equal(a.data, b.data, a.header->data_bytes);
    slot_unmap(&a);
    slot_unmap(&b);
}

static int is_in_memory(uint32_t rank)
{
    struct err err = {0};
    uint32_t slot;
    char hex[DIGEST_HEX_CHARS + 1];
    return stage_find(elsewhere, rank, TEST_UID, CUT, 0, 1, &slot, hex, &err) == TIDE_OK;
}

/* The other copy is whole: what a rank is given is what was recorded, whichever of the two is damaged, and memory has it again. What
 * is not found says nothing of the data, and comes to no harm. */
static void with_a_replica_each_changed_byte_is_healed(void **state)
{
    (void)state;
    unsigned healed = 0, changes = test_from_env("TIDE_TORTURE_BYTES", CHANGES / 2);
    struct rng rng = {.state = test_from_env("TIDE_TORTURE_SEED", 1)};
    struct err err = {0};
    find_objects();
    all_is_well();
    for (unsigned n = 0; n < changes; n++) {
        uint32_t rank = n % WORLD;
        size_t i = rng_below(&rng, object_count);
        int mask = 1 + (int)rng_below(&rng, 255);
        arena_path path;
        long at = (long)rng_below(&rng, objects[i].bytes);
        test_flip(objects[i].path, at, mask);
        if (check_finds() == NOTHING)
            fail_msg("change %u: byte %ld of %s, xor %d, is not found", n, at, objects[i].key, mask);
        if (!is_in_memory(rank))
            fail_msg("change %u: of damage to %s memory is damaged", n, objects[i].key);
        replica_equal(rank);
        test_flip(objects[i].path, at, mask);
        draw_replica_byte(&rng, rank, path, &at);
        test_flip(path, at, mask);
        int found = !is_in_memory(rank);
        healed += (unsigned)found;
        if (stage_fetch(store, commit_key, commit_digest, NULL, elsewhere, rank, 0, &err) != TIDE_OK || !is_in_memory(rank))
            fail_msg("change %u: byte %ld of %s, xor %d, is not healed: %s", n, at, path, mask, err.text);
        replica_equal(rank);
        if (!found)
            test_flip(path, at, mask);
    }
    assert_true(healed > 0 && healed >= changes - changes / 10);
    print_message("%u changed in memory, %u of these healed from the store, the others without effect\n", changes, healed);
}

/* ---- neither is whole ---- */

static unsigned told;

static void is_told(void *context, const char *text)
{
    (void)context;
    told++;
    assert_non_null(strstr(text, "c/"));
}

static enum tide_status fetch_anew(uint32_t rank, struct err *err)
{
    const struct stage_watch watch = {.say = is_told};
    const struct stage_target target = {.arena = elsewhere, .rank = rank, .watch = &watch};
    told = 0;
    return stage_fetch_to(store, commit_key, commit_digest, &target, err);
}

static int pack_has_chunk(const struct object *pack, size_t chunk)
{
    for (size_t i = 0; i < pack->part_count; i++)
        if (pack->parts[i].chunk == chunk)
            return 1;
    return 0;
}

/* Memory has one byte wrong, and the store has lost a pack: each has what the other has not. Where it is the same chunk there is none that
 * is right, and none is given. */
static void what_memory_and_store_have_between_them_is_enough(void **state)
{
    (void)state;
    char away[TIDE_PATH_MAX + 1040];
    unsigned mended = 0, refused = 0, changes = test_from_env("TIDE_TORTURE_BYTES", CHANGES);
    struct rng rng = {.state = test_from_env("TIDE_TORTURE_SEED", 1)};
    find_objects();
    all_is_well();
    for (unsigned n = 0; n < changes; n++) {
        struct err err = {0};
        arena_path path;
        struct slot mapped;
        const struct object *pack = &objects[manifest_count + rng_below(&rng, object_count - manifest_count)];
        uint32_t rank = (uint32_t)pack->rank;
        slot_path(elsewhere, rank, 0, path);
        assert_int_equal(slot_map(path, 0, &mapped, &err), TIDE_OK);
        long data = (long)mapped.header->data_offset, at = (long)rng_below(&rng, mapped.header->data_bytes);
        slot_unmap(&mapped);
        test_flip(path, data + at, 1 + (int)rng_below(&rng, 255));
        snprintf(away, sizeof away, "%s~", pack->path);
        assert_int_equal(rename(pack->path, away), 0);
        enum tide_status status = fetch_anew(rank, &err);
        assert_int_equal(rename(away, pack->path), 0);
        if (pack_has_chunk(pack, (size_t)at / CHUNK_BYTES)) {
            assert_int_equal(status, TIDE_E_NOT_FOUND);
            refused++;
            all_is_well(); /* again */
            continue;
        }
        if (status != TIDE_OK || told == 0)
            fail_msg("change %u: byte %ld of rank %u without %s: %s", n, at, rank, pack->key, err.text);
        replica_equal(rank);
        mended++;
    }
    assert_true(mended > 0 && refused > 0);
    print_message("%u mended, %u refused\n", mended, refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_lost_object_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_note_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(a_short_object_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(each_changed_byte_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(the_bytes_beside_chunks_are_found, setup, teardown),
        cmocka_unit_test_setup_teardown(with_a_replica_each_changed_byte_is_healed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_memory_and_store_have_between_them_is_enough, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
