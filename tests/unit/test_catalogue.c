/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/catalogue.h"
#include "ckpt/store/store_dir.h"
#include "tests/unit/slots.h"

/* What a store tells of itself: the checkpoints in it, and what is wrong with them. */

#define WORLD 2u

static char *arena, *root;
static struct store *store;
static const struct test_region regions[] = {{"weights", 100000}, {"rng", 8}};

static int setup(void **state)
{
    (void)state;
    struct err err = {0};
    arena = test_dir();
    root = test_dir();
    return store_open(root, &store, &err) == TIDE_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    store_close(store);
    test_dir_remove(arena);
    test_dir_remove(root);
    return 0;
}

/* A checkpoint of that id, without its COMMIT if it is not to be whole. */
static void save(const char *job, uint64_t cut, int commit)
{
    struct cut_order order = {.cut = cut, .generation = 3, .step = cut * 10};
    struct err err = {0};
    char hex[DIGEST_HEX_CHARS + 1], key[TIDE_PATH_MAX + 1];
    for (uint32_t rank = 0; rank < WORLD; rank++) {
        struct stage_shard shard;
        test_record(arena, rank, 1, cut, regions, 2, WORLD);
        assert_int_equal(stage_sum(arena, rank, 1, TEST_UID, cut, hex, &err), TIDE_OK);
        assert_int_equal(stage_store(store, arena, rank, 1, job, TEST_UID, cut, &shard, &err), TIDE_OK);
        struct shard_ref *ref = codec_list_add(&shard_ref_codec, &order.shards);
        *ref = (struct shard_ref){.rank = rank, .raw_bytes = shard.raw_bytes, .stored_bytes = shard.stored_bytes};
        memcpy(ref->key, shard.key, sizeof ref->key);
        memcpy(ref->digest, shard.digest, sizeof ref->digest);
    }
    if (commit)
        assert_int_equal(stage_commit(store, job, TEST_UID, &order, key, hex, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
}

static void replace(const char *key, const char *old, const char *with)
{
    char *text;
    size_t bytes;
    struct err err = {0};
    assert_int_equal(store_read(store, key, 1u << 20, &text, &bytes, &err), TIDE_OK);
    char *at = strstr(text, old);
    assert_non_null(at);
    char *changed = mem_format("%.*s%s%s", (int)(at - text), text, with, at + strlen(old));
    assert_int_equal(store_remove(store, key, &err), TIDE_OK);
    assert_int_equal(store_put(store, key, changed, strlen(changed), &err), TIDE_OK);
    mem_free(changed);
    mem_free(text);
}

static void it_lists_what_there_is(void **state)
{
    (void)state;
    struct catalogue catalogue;
    struct err err = {0};
    assert_int_equal(catalogue_take(store, NULL, &catalogue, &err), TIDE_OK);
    assert_int_equal(catalogue.entries.count, 0);
    catalogue_release(&catalogue);
    save("job", 6, 1);
    save("job", 10, 1);
    save("job", 11, 0);
    save("a.b", 2, 1);
    /* What is not ours is nothing to us. */
    static const char *const strange[] = {"m/README", "m/job/1-1/COMMIT", "m/job.0011/1-1/COMMIT", "m/job." TEST_UID "/x-1/COMMIT",
                                          "m/job." TEST_UID "/01-1/COMMIT", "m/." TEST_UID "/1-1/COMMIT", "m/job." TEST_UID "/1-1/other"};
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++)
        assert_int_equal(store_put(store, strange[i], "x", 1, &err), TIDE_OK);
    assert_int_equal(catalogue_take(store, NULL, &catalogue, &err), TIDE_OK);
    assert_int_equal(catalogue.entries.count, 4);
    const struct catalogue_entry *items = catalogue.entries.items;
    assert_string_equal(items[0].job, "a.b");
    assert_true(items[0].cut == 2 && items[0].committed);
    assert_true(items[1].cut == 11 && !items[1].committed);
    assert_true(items[2].cut == 10 && items[2].committed && items[2].generation == 3);
    assert_true(items[3].cut == 6 && items[3].committed);
    assert_string_equal(items[3].uid, TEST_UID);
    struct catalogue_found found;
    struct catalogue_packs packs = {.keys = {0}};
    assert_int_equal(catalogue_read(store, &items[2], &packs, &found, &err), TIDE_OK);
    assert_true(packs.keys.count > 2 * WORLD); /* of all that are there of the job */
    catalogue_packs_release(&packs);
    assert_int_equal(found.step, 100);
    assert_int_equal(found.world_size, WORLD);
    assert_true(found.raw_bytes >= WORLD * 100008u && found.stored_bytes > 0);
    assert_string_equal(found.key, "m/job." TEST_UID "/10-3/COMMIT");
    assert_int_equal(strlen(found.digest), DIGEST_HEX_CHARS);
    catalogue_release(&catalogue);
    assert_int_equal(catalogue_take(store, "a.b", &catalogue, &err), TIDE_OK);
    assert_int_equal(catalogue.entries.count, 1);
    catalogue_release(&catalogue);
}

static enum tide_status read_6(struct err *err)
{
    const struct catalogue_entry entry = {.job = "job", .uid = TEST_UID, .cut = 6, .generation = 3};
    struct catalogue_found found;
    struct catalogue_packs packs = {.keys = {0}};
    enum tide_status status = catalogue_read(store, &entry, &packs, &found, err);
    catalogue_packs_release(&packs);
    return status;
}

#define COMMIT_6 "m/job." TEST_UID "/6-3/COMMIT"
#define RANK_6 "m/job." TEST_UID "/6-3/1.json"

static void what_is_damaged_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    save("job", 6, 1);
    assert_int_equal(read_6(&err), TIDE_OK);
    replace(RANK_6, "weights", "weightz");
    assert_int_equal(read_6(&err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, RANK_6));
    assert_int_equal(store_remove(store, RANK_6, &err), TIDE_OK);
    assert_int_equal(read_6(&err), TIDE_E_NOT_FOUND);
    assert_int_equal(store_remove(store, COMMIT_6, &err), TIDE_OK);
    assert_int_equal(read_6(&err), TIDE_E_NOT_FOUND);
}

/* Copied from elsewhere without what it refers to, say. */
static void what_is_not_all_there_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    save("job", 6, 1);
    assert_int_equal(store_list(store, "c/", &keys, &err), TIDE_OK);
    assert_int_equal(store_remove(store, keys.items[0], &err), TIDE_OK);
    assert_int_equal(read_6(&err), TIDE_E_NOT_FOUND);
    assert_non_null(strstr(err.text, keys.items[0]));
    strlist_release(&keys);
}

static void what_is_newer_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    save("job", 6, 1);
    replace(COMMIT_6, "\"version\":3", "\"version\":5");
    assert_int_equal(read_6(&err), TIDE_E_VERSION);
    assert_non_null(strstr(err.text, "newer tidemark"));
}

/* With digests that fit: somebody has made it so. */
static void forge_rank(const char *old, const char *with)
{
    char *text, before[DIGEST_HEX_CHARS + 1], after[DIGEST_HEX_CHARS + 1];
    size_t bytes;
    struct err err = {0};
    assert_int_equal(store_read(store, RANK_6, 1u << 20, &text, &bytes, &err), TIDE_OK);
    digest_hex(digest_of(text, bytes), before);
    mem_free(text);
    replace(RANK_6, old, with);
    assert_int_equal(store_read(store, RANK_6, 1u << 20, &text, &bytes, &err), TIDE_OK);
    digest_hex(digest_of(text, bytes), after);
    mem_free(text);
    replace(COMMIT_6, before, after);
}

static void what_leads_elsewhere_is_not_followed(void **state)
{
    (void)state;
    static const char *const elsewhere[] = {"c/00/../../etc/x.pk", "/etc/shadow", "c/11/other." TEST_UID "/6-3/1-0-0123456789abcdef.pk"};
    struct err err = {0};
    for (size_t i = 0; i < 3; i++) {
        char *text, pack[TIDE_PATH_MAX + 1];
        size_t bytes;
        save("job", 6, 1);
        assert_int_equal(store_read(store, RANK_6, 1u << 20, &text, &bytes, &err), TIDE_OK);
        const char *key = strstr(text, "c/");
        text_copy(pack, sizeof pack, key);
        *strchr(pack, '"') = '\0';
        mem_free(text);
        forge_rank(pack, elsewhere[i]);
        assert_int_equal(read_6(&err), TIDE_E_CORRUPT);
        assert_non_null(strstr(err.text, "leads elsewhere"));
        teardown(NULL);
        assert_int_equal(setup(NULL), 0);
    }
    save("job", 6, 1);
    replace(COMMIT_6, "m/job." TEST_UID "/6-3/0.json", "m/job." TEST_UID "/7-3/0.json");
    assert_int_equal(read_6(&err), TIDE_E_CORRUPT);
    teardown(NULL);
    assert_int_equal(setup(NULL), 0);
    save("job", 6, 1);
    replace(COMMIT_6, "\"job\":\"job\"", "\"job\":\"../job\"");
    assert_int_equal(read_6(&err), TIDE_E_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_lists_what_there_is, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_damaged_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_all_there_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_newer_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(what_leads_elsewhere_is_not_followed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
