/* SPDX-License-Identifier: Apache-2.0 */
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

static char *arena, *elsewhere, *root;
static struct store *store;
static const struct test_region regions[] = {
    {"weights", 1500000}, {"zeros", 3u << 20}, {"noise", 700000}, {"empty", 0}, {"rng", 8}};
#define REGIONS (sizeof regions / sizeof regions[0])

static int setup(void **state)
{
    (void)state;
    test_places(&arena, &elsewhere, &root, &store);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_places_remove(arena, elsewhere, root, store);
    return 0;
}

/* A cut of two ranks, recorded, summed, stored and committed. */
static void order_of(struct cut_order *order)
{
    struct err err = {0};
    char hex[DIGEST_HEX_CHARS + 1];
    *order = (struct cut_order){.cut = CUT, .generation = 3, .step = CUT * 10};
    for (uint32_t rank = 0; rank < WORLD; rank++) {
        struct stage_shard shard;
        test_record(arena, rank, 1, CUT, regions, REGIONS, WORLD);
        assert_int_equal(stage_sum(arena, rank, 1, TEST_UID, CUT, hex, &err), TIDE_OK);
        assert_int_equal(stage_store(store, arena, rank, 1, "job", TEST_UID, CUT, &shard, &err), TIDE_OK);
        assert_true(shard.raw_bytes > 5000000 && shard.stored_bytes < 900000 && shard.stored_bytes > 700000);
        test_add_shard(order, rank, &shard);
    }
}

static char commit_key[TIDE_PATH_MAX + 1], commit_digest[DIGEST_HEX_CHARS + 1];

static void save(void)
{
    struct cut_order order;
    struct err err = {0};
    order_of(&order);
    assert_int_equal(stage_commit(store, "job", TEST_UID, &order, commit_key, commit_digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
}

static void slots_equal(const char *from, uint32_t slot, const char *to, uint32_t other, uint32_t rank)
{
    arena_path a_path, b_path;
    struct slot a, b;
    struct err err = {0};
    slot_path(from, rank, slot, a_path);
    slot_path(to, rank, other, b_path);
    assert_int_equal(slot_map(a_path, 0, &a, &err), TIDE_OK);
    assert_int_equal(slot_map(b_path, 0, &b, &err), TIDE_OK);
    assert_int_equal(a.mapped_bytes, b.mapped_bytes);
    assert_memory_equal(a.header, b.header, a.mapped_bytes);
    slot_unmap(&a);
    slot_unmap(&b);
}

static void what_was_recorded_comes_back(void **state)
{
    (void)state;
    struct err err = {0};
    char there[DIGEST_HEX_CHARS + 1], here[DIGEST_HEX_CHARS + 1];
    uint32_t slot;
    save();
    for (uint32_t rank = 0; rank < WORLD; rank++) {
        /* Twice: the second finds it there. */
        for (int i = 0; i < 2; i++)
            assert_int_equal(stage_fetch(store, commit_key, commit_digest, NULL, elsewhere, rank, 0, &err), TIDE_OK);
        slots_equal(arena, 1, elsewhere, 0, rank);
        assert_int_equal(stage_find(arena, rank, TEST_UID, CUT, 0, 1, &slot, here, &err), TIDE_OK);
        assert_int_equal(stage_find(elsewhere, rank, TEST_UID, CUT, 0, 1, &slot, there, &err), TIDE_OK);
        assert_string_equal(here, there);
    }
    assert_int_equal(stage_fetch(store, commit_key, commit_digest, NULL, elsewhere, WORLD, 0, &err), TIDE_E_NOT_FOUND);
}

/* Of a job of another uid: the slot is its own, whole by digests of its own, and nothing it stores refers to the other's packs. */
static void another_job_restores_it(void **state)
{
    (void)state;
    static const char other[] = "ffeeddccbbaa9988";
    struct err err = {0};
    char hex[DIGEST_HEX_CHARS + 1];
    uint32_t slot;
    arena_path from, to;
    struct slot a, b;
    struct stage_shard shard;
    struct strlist keys = {0};
    save();
    for (int i = 0; i < 2; i++)
        assert_int_equal(stage_fetch(store, commit_key, commit_digest, other, elsewhere, 0, 0, &err), TIDE_OK);
    assert_int_equal(stage_find(elsewhere, 0, TEST_UID, CUT, 0, 1, &slot, hex, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(stage_find(elsewhere, 0, other, CUT, 0, 1, &slot, hex, &err), TIDE_OK);
    slot_path(arena, 0, 1, from);
    slot_path(elsewhere, 0, 0, to);
    assert_int_equal(slot_map(from, 0, &a, &err), TIDE_OK);
    assert_int_equal(slot_map(to, 0, &b, &err), TIDE_OK);
    assert_int_equal(a.header->data_bytes, b.header->data_bytes);
    assert_memory_equal(a.data, b.data, a.header->data_bytes);
    slot_unmap(&a);
    slot_unmap(&b);
    assert_int_equal(stage_store(store, elsewhere, 0, 0, "other", other, CUT, &shard, &err), TIDE_OK);
    assert_int_equal(store_list(store, "n/", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 0);
    strlist_release(&keys);
}

static void everything_may_be_done_twice(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist before = {0}, after = {0};
    char first[DIGEST_HEX_CHARS + 1];
    save();
    memcpy(first, commit_digest, sizeof first);
    assert_int_equal(store_list(store, "", &before, &err), TIDE_OK);
    assert_int_equal(before.count, 2 + WORLD + 1); /* a pack and a manifest each, and COMMIT */
    /* The agent died after the first rank's packs: its manifest and the commit were never written. */
    assert_int_equal(store_remove(store, "m/job." TEST_UID "/6-3/0.json", &err), TIDE_OK);
    assert_int_equal(store_remove(store, commit_key, &err), TIDE_OK);
    save();
    assert_string_equal(first, commit_digest);
    assert_int_equal(store_list(store, "", &after, &err), TIDE_OK);
    assert_int_equal(after.count, before.count);
    strlist_release(&before);
    strlist_release(&after);
}

static void large_shards_have_several_packs(void **state)
{
    (void)state;
    struct err err = {0};
    struct stage_shard shard;
    struct strlist keys = {0};
    struct cut_order order = {.cut = CUT, .generation = 3, .step = CUT * 10};
    char hex[DIGEST_HEX_CHARS + 1];
    static const struct test_region large[] = {{"noise", (33u << 20) + 5}};
    test_record(arena, 0, 0, CUT, large, 1, 1);
    assert_int_equal(stage_sum(arena, 0, 0, TEST_UID, CUT, hex, &err), TIDE_OK);
    assert_int_equal(stage_store(store, arena, 0, 0, "job", TEST_UID, CUT, &shard, &err), TIDE_OK);
    assert_int_equal(store_list(store, "c/", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 2);
    strlist_release(&keys);
    test_add_shard(&order, 0, &shard);
    assert_int_equal(stage_commit(store, "job", TEST_UID, &order, commit_key, commit_digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
    assert_int_equal(stage_fetch(store, commit_key, commit_digest, NULL, elsewhere, 0, 0, &err), TIDE_OK);
    slots_equal(arena, 0, elsewhere, 0, 0);
}

static void commits_are_whole_or_refused(void **state)
{
    (void)state;
    struct cut_order order;
    struct err err = {0};
    order_of(&order);
    order.shards.items[1].rank = 5;
    assert_int_equal(stage_commit(store, "job", TEST_UID, &order, commit_key, commit_digest, &err), TIDE_E_INVALID);
    order.shards.items[1].rank = 1;
    assert_int_equal(store_remove(store, order.shards.items[1].key, &err), TIDE_OK);
    assert_int_equal(stage_commit(store, "job", TEST_UID, &order, commit_key, commit_digest, &err), TIDE_E_NOT_FOUND);
    codec_release(&cut_order_codec, &order);
}

static void an_arena_that_changed_is_not_stored(void **state)
{
    (void)state;
    struct err err = {0};
    struct stage_shard shard;
    arena_path path;
    char hex[DIGEST_HEX_CHARS + 1];
    test_record(arena, 0, 1, CUT, regions, REGIONS, WORLD);
    assert_int_equal(stage_sum(arena, 0, 1, TEST_UID, CUT, hex, &err), TIDE_OK);
    slot_path(arena, 0, 1, path);
    test_flip(path, 2 * SLOT_HEADER_BYTES + 12345, 4);
    assert_int_equal(stage_store(store, arena, 0, 1, "job", TEST_UID, CUT, &shard, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "\"weights\""));
    assert_int_equal(stage_store(store, arena, 0, 1, "job", TEST_UID, CUT + 1, &shard, &err), TIDE_E_NOT_FOUND);
}

/* ---- damage in the store ---- */

struct said {
    unsigned lines;
    char last[1024];
};

static void listen_to(void *context, const char *text)
{
    struct said *said = context;
    said->lines++;
    snprintf(said->last, sizeof said->last, "%s", text);
}

static void make_writable(const char *key, char path[2048])
{
    snprintf(path, 2048, "%s/%s", root, key);
    assert_int_equal(chmod(path, 0600), 0);
}

static void is_blamed(void *context, const char *pack)
{
    snprintf(context, sizeof(object_key), "%s", pack);
}

/* Of a pack that is damaged, or gone, who fetches is told, also where nothing can be done for this fetch: the next cut is not to
 * refer to it. */
static void who_fetches_damage_is_told_the_pack(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    object_key blamed = "";
    char path[2048];
    const struct stage_watch watch = {.damaged = is_blamed, .context = blamed};
    const struct stage_target target = {.arena = elsewhere, .rank = 0, .watch = &watch};
    save();
    assert_int_equal(store_list(store, "c/", &keys, &err), TIDE_OK);
    size_t own = 0;
    while (strstr(keys.items[own], "/0-0") == NULL)
        own++;
    make_writable(keys.items[own], path);
    test_flip(path, 1000, 0x10);
    assert_int_equal(stage_fetch_to(store, commit_key, commit_digest, &target, &err), TIDE_E_CORRUPT);
    assert_string_equal(blamed, keys.items[own]);
    blamed[0] = '\0';
    assert_int_equal(unlink(path), 0);
    assert_int_equal(stage_fetch_to(store, commit_key, commit_digest, &target, &err), TIDE_E_NOT_FOUND);
    assert_string_equal(blamed, keys.items[own]);
    strlist_release(&keys);
}

static void each_cut_that_has_a_damaged_pack_is_noted(void **state)
{
    (void)state;
    struct err err = {0};
    object_key pack, note;
    struct strlist packs = {0}, notes = {0};
    static const struct {
        const char *job;
        uint64_t cut;
    } of[] = {{"job", 3}, {"job", 3}, {"other", 8}, {"job", 5}, {"job", 5}, {"job", 3}};
    for (uint64_t i = 0; i < sizeof of / sizeof of[0]; i++) {
        const struct cut_name name = {.job = of[i].job, .uid = TEST_UID, .cut = of[i].cut, .generation = 1};
        key_pack(&name, 0, i / 2, "0123456789abcdef", pack);
        stage_blame_add(&packs, pack);
    }
    assert_int_equal(packs.count, 3); /* one of each */
    assert_int_equal(stage_blame(store, "job", TEST_UID, &packs, &err), TIDE_OK);
    assert_int_equal(store_list(store, "d/", &notes, &err), TIDE_OK);
    assert_int_equal(notes.count, 2);
    for (size_t i = 0; i < 2; i++) {
        key_damaged("job", TEST_UID, i == 0 ? 3 : 5, note);
        assert_true(strcmp(notes.items[0], note) == 0 || strcmp(notes.items[1], note) == 0);
    }
    for (uint64_t i = 0; i < 2 * BLAMED_CUTS_MAX; i++) {
        const struct cut_name name = {.job = "job", .uid = TEST_UID, .cut = 100 + i, .generation = 1};
        key_pack(&name, 0, 0, "0123456789abcdef", pack);
        stage_blame_add(&packs, pack);
    }
    assert_int_equal(packs.count, BLAMED_CUTS_MAX);
    assert_int_equal(stage_blame(store, "job", TEST_UID, &packs, &err), TIDE_E_LIMIT);
    strlist_release(&packs);
    strlist_release(&notes);
}

/* After damage to an object: a fetch of that rank, which has nothing in memory, either fails or gives the right bytes, and a check
 * finds it. */
static int damage_is_harmless(uint32_t rank)
{
    struct err err = {0};
    arena_path path;
    struct stage_verdict verdict = {0};
    struct said said = {0};
    uint32_t slot;
    char hex[DIGEST_HEX_CHARS + 1];
    slot_path(elsewhere, rank, 0, path);
    unlink(path);
    enum tide_status status = stage_fetch(store, commit_key, commit_digest, NULL, elsewhere, rank, 0, &err);
    if (status == TIDE_OK) {
        slots_equal(arena, 1, elsewhere, 0, rank);
        return 0;
    }
    assert_true(status == TIDE_E_CORRUPT || status == TIDE_E_NOT_FOUND);
    assert_int_not_equal(stage_find(elsewhere, rank, TEST_UID, CUT, 0, 0, &slot, hex, &err), TIDE_OK);
    status = stage_check(store, commit_key, commit_digest, listen_to, &said, &verdict, &err);
    assert_true(status != TIDE_OK || (verdict.bad == 1 && verdict.damaged == 1 && said.lines > 0));
    return 1;
}

static void damage_never_reaches_a_slot(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    struct rng rng = {.state = 17};
    unsigned found = 0, tried = 0;
    save();
    assert_int_equal(store_list(store, "", &keys, &err), TIDE_OK);
    for (size_t i = 0; i < keys.count; i++) {
        char path[2048];
        uint64_t bytes = 0;
        if (strstr(keys.items[i], "/1-0-") || strstr(keys.items[i], "/1.json"))
            continue;
        assert_int_equal(store_size(store, keys.items[i], &bytes, &err), TIDE_OK);
        make_writable(keys.items[i], path);
        for (int k = 0; k < 6; k++) {
            long at = (long)rng_below(&rng, bytes);
            int mask = 1 << rng_below(&rng, 8);
            test_flip(path, at, mask);
            found += (unsigned)damage_is_harmless(0);
            tried++;
            test_flip(path, at, mask);
        }
    }
    strlist_release(&keys);
    assert_int_equal(tried, 18);
    assert_true(found >= 17); /* a frame of zstd has bits that mean nothing */
}

static void short_and_lost_objects_are_told(void **state)
{
    (void)state;
    struct err err = {0};
    struct stage_verdict verdict = {0};
    struct said said = {0};
    char path[2048];
    save();
    assert_int_equal(stage_check(store, commit_key, commit_digest, listen_to, &said, &verdict, &err), TIDE_OK);
    assert_int_equal(verdict.bad, 0);
    assert_int_equal(said.lines, 0);
    assert_int_equal(verdict.ranks, WORLD);
    assert_true(verdict.chunks == 2 * chunks_of(verdict.raw_bytes / 2) && verdict.stored_bytes > 1000000);
    make_writable("m/job." TEST_UID "/6-3/1.json", path);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(damage_is_harmless(1), 1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(damage_is_harmless(1), 1);
    assert_int_equal(stage_check(store, commit_key, commit_digest, listen_to, &said, &verdict, &err), TIDE_OK);
    assert_int_equal(verdict.bad, 1);
    assert_non_null(strstr(said.last, "1.json"));
    assert_int_equal(stage_fetch(store, commit_key, "00000000000000000000000000000000", NULL, elsewhere, 0, 0, &err),
                     TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "COMMIT"));
    assert_int_equal(stage_fetch(store, "m/none/COMMIT", "", NULL, elsewhere, 0, 0, &err), TIDE_E_NOT_FOUND);
    /* Lost, in the store that holds the others of its job, whoever asks; or another store. */
    assert_true(stage_holds_job(store, "m/job." TEST_UID "/7-3/COMMIT"));
    assert_false(stage_holds_job(store, "m/job.00000000000000ff/7-3/COMMIT"));
    assert_false(stage_holds_job(store, "m/jo"));
}

static void a_fetch_that_was_cut_short_is_done_again(void **state)
{
    (void)state;
    struct err err = {0};
    arena_path path;
    struct slot slot;
    save();
    assert_int_equal(stage_fetch(store, commit_key, commit_digest, NULL, elsewhere, 0, 0, &err), TIDE_OK);
    slot_path(elsewhere, 0, 0, path);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    slot.header->state = SLOT_RECORDING;
    memset(slot.data + 100, 0x55, 5000);
    slot_unmap(&slot);
    assert_int_equal(stage_fetch(store, commit_key, commit_digest, NULL, elsewhere, 0, 0, &err), TIDE_OK);
    slots_equal(arena, 1, elsewhere, 0, 0);
    /* Damage under a header that says all is well is repaired too. */
    test_flip(path, 2 * SLOT_HEADER_BYTES + 9, 1);
    assert_int_equal(stage_fetch(store, commit_key, commit_digest, NULL, elsewhere, 0, 0, &err), TIDE_OK);
    slots_equal(arena, 1, elsewhere, 0, 0);
}

static void memory_that_runs_out_is_an_error(void **state)
{
    (void)state;
    struct err err = {0};
    save();
    unsigned failed = 0;
    for (unsigned long n = 1; n < 24; n++) {
        mem_fail_at(n);
        enum tide_status status = stage_fetch(store, commit_key, commit_digest, NULL, elsewhere, 0, (uint32_t)n % 2, &err);
        mem_fail_at(0);
        assert_true(status == TIDE_OK || status == TIDE_E_NOMEM);
        failed += status != TIDE_OK;
    }
    assert_true(failed >= 4);
    assert_int_equal(stage_fetch(store, commit_key, commit_digest, NULL, elsewhere, 0, 0, &err), TIDE_OK);
    slots_equal(arena, 1, elsewhere, 0, 0);
}

static void purging_leaves_the_others(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    save();
    assert_int_equal(store_put(store, "m/job." TEST_UID "/66-3/COMMIT", "x", 1, &err), TIDE_OK);
    assert_int_equal(store_put(store, "c/7f/job." TEST_UID "/6-9/0-0.pk", "orphan", 6, &err), TIDE_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(stage_purge(store, "job", TEST_UID, CUT, &err), TIDE_OK);
    assert_int_equal(store_list(store, "", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 1);
    assert_string_equal(keys.items[0], "m/job." TEST_UID "/66-3/COMMIT");
    strlist_release(&keys);
}

/* ---- the golden stores: each written once by a version, to be read by every version to come ---- */

#define GOLDEN_COMMIT "m/golden." TEST_UID "/5-3/COMMIT"
static const struct test_region golden_1[] = {{"weights", 1u << 20}, {"zeros", 2u << 20}, {"noise", 20000}, {"counter", 8}};
/* Version 2 brought planes and patterns: chunks of each kind. */
static const struct test_region golden_2[] = {{"floats", 60000},   {"halves", 40000},     {"counts", 948544},
                                              {"zeros", 1u << 20}, {"pattern", 1u << 20}, {"bytes", 1u << 20},
                                              {"noise", 20000}};
/* Version 4 brought kinds of regions. */
static const struct test_region golden_4[] = {{"zeros=same", 1u << 20}, {"floats=same", 6000}, {"halves=part", 4000}, {"noise=drop", 2000}};
struct golden {
    const char *dir;
    const struct test_region *regions;
    uint32_t count;
};
static const struct golden goldens[] = {{TEST_DATA "/store-v1", golden_1, sizeof golden_1 / sizeof golden_1[0]},
                                        {TEST_DATA "/store-v2", golden_2, sizeof golden_2 / sizeof golden_2[0]},
                                        /* Version 3 brought references: to packs of cut 4, which was dropped. */
                                        {TEST_DATA "/store-v3", golden_2, sizeof golden_2 / sizeof golden_2[0]},
                                        {TEST_DATA "/store-v4", golden_4, sizeof golden_4 / sizeof golden_4[0]}};
#define GOLDENS (sizeof goldens / sizeof goldens[0])

static void a_golden_store_is_restored(const struct golden *golden)
{
    struct err err = {0};
    struct store *old = NULL;
    struct stage_verdict verdict = {0};
    assert_int_equal(store_dir_open(golden->dir, STORE_DIR_DEFAULT, &old, &err), TIDE_OK);
    for (uint32_t rank = 0; rank < 2; rank++) {
        assert_int_equal(stage_fetch(old, GOLDEN_COMMIT, NULL, NULL, elsewhere, rank, 0, &err), TIDE_OK);
        test_record(arena, rank, 0, 5, golden->regions, golden->count, 2);
        slots_equal(arena, 0, elsewhere, 0, rank);
    }
    assert_int_equal(stage_check(old, GOLDEN_COMMIT, NULL, NULL, NULL, &verdict, &err), TIDE_OK);
    assert_int_equal(verdict.bad + verdict.packs_bad, 0);
    /* Names of packs have a digest since version 3. */
    assert_int_equal(verdict.packs > 0, golden - goldens >= 2);
    assert_int_equal(verdict.packs_unnamed > 0, golden - goldens < 2);
    store_close(old);
}

static void the_golden_stores_are_restored(void **state)
{
    (void)state;
    assert_int_equal(FORMAT_VERSION, GOLDENS); /* a newer one: keep these, add another beside them */
    for (size_t i = 0; i < GOLDENS; i++)
        a_golden_store_is_restored(&goldens[i]);
}

static void golden_cut(const char *from, uint64_t cut, struct cut_order *order)
{
    const struct golden *golden = &goldens[GOLDENS - 1];
    struct err err = {0};
    char hex[DIGEST_HEX_CHARS + 1];
    for (uint32_t rank = 0; rank < 2; rank++) {
        struct stage_shard shard;
        struct slot slot;
        arena_path path;
        test_record(from, rank, 0, 5, golden->regions, golden->count, 2);
        slot_path(from, rank, 0, path);
        assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
        slot.header->cut = cut;
        slot.data[slot.header->data_bytes - 1000] ^= (unsigned char)(5 - cut); /* the last chunk is new in cut 5 */
        slot_unmap(&slot);
        assert_int_equal(stage_sum(from, rank, 0, TEST_UID, cut, hex, &err), TIDE_OK);
        assert_int_equal(stage_store(store, from, rank, 0, "golden", TEST_UID, cut, &shard, &err), TIDE_OK);
        test_add_shard(order, rank, &shard);
    }
    assert_int_equal(stage_commit(store, "golden", TEST_UID, order, commit_key, commit_digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, order);
}

/* `test_stage --golden DIR` writes the newest golden store anew: only ever for a new format version, beside the old ones. */
static int write_golden(const char *to)
{
    struct err err = {0};
    char *from = test_dir();
    assert_int_equal(store_open(to, &store, &err), TIDE_OK);
    for (uint64_t cut = 4; cut <= 5; cut++) {
        struct cut_order order = {.cut = cut, .generation = 3, .step = 50};
        golden_cut(from, cut, &order);
    }
    assert_int_equal(stage_purge(store, "golden", TEST_UID, 4, &err), TIDE_OK);
    store_close(store);
    test_dir_remove(from);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--golden") == 0)
        return write_golden(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_recorded_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(another_job_restores_it, setup, teardown),
        cmocka_unit_test_setup_teardown(everything_may_be_done_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(large_shards_have_several_packs, setup, teardown),
        cmocka_unit_test_setup_teardown(commits_are_whole_or_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(an_arena_that_changed_is_not_stored, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_never_reaches_a_slot, setup, teardown),
        cmocka_unit_test_setup_teardown(each_cut_that_has_a_damaged_pack_is_noted, setup, teardown),
        cmocka_unit_test_setup_teardown(who_fetches_damage_is_told_the_pack, setup, teardown),
        cmocka_unit_test_setup_teardown(short_and_lost_objects_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fetch_that_was_cut_short_is_done_again, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_that_runs_out_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(purging_leaves_the_others, setup, teardown),
        cmocka_unit_test_setup_teardown(the_golden_stores_are_restored, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
