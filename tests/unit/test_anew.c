/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ckpt/stage/helpers.h"
#include "tests/unit/anew.h"

/* ---- what is read, and by how many ---- */

void __wrap_store_begin_get(struct store *from, struct store_op *op, const char *key, uint64_t offset, void *to, size_t bytes);
void __real_store_begin_get(struct store *from, struct store_op *op, const char *key, uint64_t offset, void *to, size_t bytes);

static uint64_t bytes_read; /* of packs */

void __wrap_store_begin_get(struct store *from, struct store_op *op, const char *key, uint64_t offset, void *to, size_t bytes)
{
    bytes_read += bytes;
    __real_store_begin_get(from, op, key, offset, to, bytes);
}

void *__wrap_mem_try_pages(size_t bytes);
void *__real_mem_try_pages(size_t bytes);

static unsigned pages_taken;

void *__wrap_mem_try_pages(size_t bytes)
{
    pages_taken++;
    return __real_mem_try_pages(bytes);
}

static int without_helpers(void **state)
{
    helpers_want(0);
    return teardown(state);
}

/* ---- tests ---- */

static void any_number_of_ranks_goes_on_from_any_other(void **state)
{
    (void)state;
    static const uint32_t worlds[][2] = {{4, 3}, {3, 4}, {2, 6}, {6, 1}, {1, 5}};
    for (size_t i = 0; i < sizeof worlds / sizeof worlds[0]; i++) {
        struct err err = {0};
        teardown(NULL);
        setup(NULL);
        checkpoint(worlds[i][0], 0);
        helpers_want((unsigned)i % (HELPERS_MAX + 1));
        for (uint32_t rank = 0; rank < worlds[i][1]; rank++) {
            struct state_of s = state_of(rank, worlds[i][1]);
            want(&s, rank, worlds[i][1], GENERATION);
            pages_taken = 0;
            if (fetch(rank, worlds[i][1], 1, &err) != TIDE_OK)
                fail_msg("from %u to %u: %s", worlds[i][0], worlds[i][1], err.text);
            assert_true(pages_taken <= 2); /* all ranks are read to the same memory */
            came_back(rank, worlds[i][1]);
        }
    }
}

/* Of a shard only that is read which somebody asks for. */
static void a_rank_may_need_only_what_lies_far_back(void **state)
{
    (void)state;
    static const struct test_region had[] = {{"noise-a=part", FAR_BYTES}, {"noise-b=part", FAR_BYTES}};
    struct err err = {0};
    struct cut_order order = {.cut = CUT, .generation = 3, .step = CUT * 10};
    struct stage_shard shard;
    char hex[DIGEST_HEX_CHARS + 1];
    test_record(arena, 0, 0, CUT, had, 2, 1);
    assert_int_equal(stage_sum(arena, 0, 0, TEST_UID, CUT, hex, &err), TIDE_OK);
    assert_int_equal(stage_store(store, arena, 0, 0, "job", TEST_UID, CUT, &shard, &err), TIDE_OK);
    test_add_shard(&order, 0, &shard);
    assert_int_equal(stage_commit(store, "job", TEST_UID, &order, commit_key, commit_digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
    unsigned char *all = mem_alloc(FAR_BYTES);
    for (uint32_t rank = 0; rank < FAR_WORLD; rank += FAR_WORLD - 1) {
        const uint64_t bytes = FAR_BYTES / FAR_WORLD;
        struct state_of s = {.count = 2, .data_bytes = 2 * bytes};
        arena_path path;
        struct slot slot;
        for (uint32_t i = 0; i < s.count; i++) {
            s.regions[i] = (struct slot_region){.kind = REGION_SHARD, .dtype = TIDE_F32, .ndim = 2, .shape = {1, bytes / 4},
                                                .offset = i * bytes, .bytes = bytes};
            text_copy(s.regions[i].name, sizeof s.regions[i].name, had[i].name);
            s.parts[i] = (struct slot_part){.whole = {1, FAR_BYTES / 4}, .at = {0, rank * bytes / 4}};
        }
        want(&s, rank, FAR_WORLD, GENERATION);
        bytes_read = 0;
        if (fetch(rank, FAR_WORLD, 1, &err) != TIDE_OK)
            fail_msg("rank %u: %s", rank, err.text);
        assert_true(bytes_read <= 2 * 2 * CHUNK_BYTES); /* each of the two may lie in two chunks */
        slot_path(elsewhere, rank, 0, path);
        assert_int_equal(slot_map(path, 0, &slot, &err), TIDE_OK);
        for (uint32_t i = 0; i < s.count; i++) {
            test_fill(all, FAR_BYTES, had[i].name, CUT * 100);
            assert_memory_equal(slot.data + i * bytes, all + rank * bytes, bytes);
        }
        slot_unmap(&slot);
    }
    mem_free(all);
}

/* Nothing of it is written twice, nor left: neither in regions nor between them. */
static void what_was_in_the_slot_before_is_gone(void **state)
{
    (void)state;
    struct err err = {0};
    arena_path path;
    struct slot slot;
    struct state_of s = state_of(1, 2);
    checkpoint(3, 0);
    want(&s, 1, 2, GENERATION);
    slot_path(elsewhere, 1, 0, path);
    assert_int_equal(slot_reserve(path, slot_bytes_needed(s.count, true, s.data_bytes), &err), TIDE_OK);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    memset((char *)slot.header + SLOT_HEADER_BYTES, 0xa5, slot.mapped_bytes - SLOT_HEADER_BYTES);
    slot_unmap(&slot);
    assert_int_equal(fetch(1, 2, 1, &err), TIDE_OK);
    came_back(1, 2);
}

static void a_slot_of_another_world_is_not_taken_for_one_of_this(void **state)
{
    (void)state;
    struct err err = {0};
    uint32_t slot = 9;
    char hex[DIGEST_HEX_CHARS + 1];
    struct state_of s = state_of(0, 2);
    checkpoint(3, 0);
    want(&s, 0, 2, GENERATION);
    assert_int_equal(fetch(0, 2, 1, &err), TIDE_OK);
    assert_int_equal(stage_find(elsewhere, 0, TEST_UID, CUT, 3, 1, &slot, hex, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(stage_find(elsewhere, 0, TEST_UID, CUT, 2, 1, &slot, hex, &err), TIDE_OK);
    assert_int_equal(slot, 0);
    /* And with as many ranks as ever nothing is different. */
    assert_int_equal(fetch(0, 3, 0, &err), TIDE_OK);
    assert_int_equal(stage_find(elsewhere, 0, TEST_UID, CUT, 3, 1, &slot, hex, &err), TIDE_OK);
}

static void says(enum tide_status status, enum tide_status expected, const struct err *err, const char *words)
{
    assert_int_equal(status, expected);
    if (strstr(err->text, words) == NULL)
        fail_msg("\"%s\" is not in: %s", words, err->text);
}

static void what_nobody_allowed_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    struct state_of s = state_of(0, 2);
    checkpoint(3, 0);
    want(&s, 0, 2, GENERATION);
    says(fetch(0, 2, 0, &err), TIDE_E_MISMATCH, &err, "was made by 3 ranks and this job has 2");
    says(fetch(1, 2, 1, &err), TIDE_E_MISMATCH, &err, "rank 1 registers all regions as its own");
    want(&s, 0, 2, GENERATION - 1);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "rank 0 registers all regions as its own");
    want(&s, 0, 5, GENERATION);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "one of 5 ranks, and the job has 2");
    s.regions[SAME].kind = REGION_OWN;
    want(&s, 0, 2, GENERATION);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "\"same\" is each rank's own");
    s = state_of(0, 2);
    s.parts[TABLE].whole[1]++;
    want(&s, 0, 2, GENERATION);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "\"table\": the whole is 60x12001");
    s.regions[TABLE].shape[0] = UINT64_MAX;
    want(&s, 0, 2, GENERATION);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "\"table\""); /* CORRUPT would cost the checkpoint */
}

static void what_is_not_missed_now_need_not_be_there(void **state)
{
    (void)state;
    struct err err = {0};
    struct state_of s = state_of(0, 2);
    checkpoint(3, 0);
    s.regions[SAME].kind = REGION_DROPPABLE; /* by choice of the program that is started now */
    want(&s, 0, 2, GENERATION);
    assert_int_equal(fetch(0, 2, 1, &err), TIDE_OK);
}

static void ranks_with_steps_of_their_own_are_refused(void **state)
{
    (void)state;
    struct err err = {0};
    struct state_of s = state_of(0, 2);
    checkpoint(3, 1);
    want(&s, 0, 2, GENERATION);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "rank 1 is at step 89");
}

static void damage_never_reaches_a_slot(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    uint32_t slot;
    char hex[DIGEST_HEX_CHARS + 1];
    struct state_of s = state_of(0, 2);
    checkpoint(3, 0);
    want(&s, 0, 2, GENERATION);
    assert_int_equal(store_list(store, "c/", &keys, &err), TIDE_OK);
    for (size_t i = 0; i < keys.count; i++) {
        char *path = mem_format("%s/%s", root, keys.items[i]);
        int needed = strstr(keys.items[i], "/2-0") == NULL; /* rank 2 had nothing of what rank 0 gets */
        test_flip(path, 1000, 0x10);
        helpers_want((unsigned)i % (HELPERS_MAX + 1));
        assert_int_equal(fetch(0, 2, 1, &err), needed ? TIDE_E_CORRUPT : TIDE_OK);
        assert_string_equal(blamed, needed ? keys.items[i] : "");
        assert_int_equal(stage_find(elsewhere, 0, TEST_UID, CUT, 2, 1, &slot, hex, &err) == TIDE_OK, !needed);
        test_flip(path, 1000, 0x10);
        mem_free(path);
    }
    assert_true(keys.count >= 3);
    strlist_release(&keys);
    assert_int_equal(fetch(0, 2, 1, &err), TIDE_OK);
}

/* The object leads to itself for as long as it is fetched. */
static void unreadable(const char *key)
{
    struct err err = {0};
    char *path = mem_format("%s/%s", root, key), *away = mem_format("%s/away", elsewhere);
    int needed = strstr(key, "/2-0") == NULL; /* rank 2 had nothing of what rank 0 gets */
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(symlink(path, path), 0);
    assert_int_equal(fetch(0, 2, 1, &err), needed ? TIDE_E_IO : TIDE_OK);
    assert_int_equal(unread, needed);
    assert_string_equal(blamed, "");
    assert_int_equal(rename(away, path), 0);
    mem_free(away);
    mem_free(path);
}

/* A pack, or what tells of a rank: that does not end by waiting. */
static void what_the_store_cannot_read_is_told(void **state)
{
    (void)state;
    static const char *const prefixes[] = {"c/", "m/"};
    struct err err = {0};
    struct strlist keys = {0};
    struct state_of s = state_of(0, 2);
    checkpoint(3, 0);
    want(&s, 0, 2, GENERATION);
    for (size_t p = 0; p < 2; p++) {
        assert_int_equal(store_list(store, prefixes[p], &keys, &err), TIDE_OK);
        assert_true(keys.count >= 3);
        for (size_t i = 0; i < keys.count; i++)
            unreadable(keys.items[i]);
        strlist_release(&keys);
    }
    assert_int_equal(fetch(0, 2, 1, &err), TIDE_OK);
    came_back(0, 2);
}

static void memory_that_runs_out_is_an_error(void **state)
{
    (void)state;
    struct err err = {0};
    struct state_of s = state_of(1, 2);
    int failures = 0;
    checkpoint(3, 0);
    want(&s, 1, 2, GENERATION);
    for (unsigned long n = 1;; n++) {
        mem_fail_at(n);
        enum tide_status status = fetch(1, 2, 1, &err);
        mem_fail_at(0);
        if (status == TIDE_OK)
            break;
        assert_int_equal(status, TIDE_E_NOMEM);
        failures++;
    }
    assert_true(failures > 5);
    came_back(1, 2);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, without_helpers)
    const struct CMUnitTest tests[] = {
        CASE(any_number_of_ranks_goes_on_from_any_other),
        CASE(a_rank_may_need_only_what_lies_far_back),
        CASE(what_was_in_the_slot_before_is_gone),
        CASE(a_slot_of_another_world_is_not_taken_for_one_of_this),
        CASE(what_nobody_allowed_is_refused),
        CASE(what_is_not_missed_now_need_not_be_there),
        CASE(ranks_with_steps_of_their_own_are_refused),
        CASE(damage_never_reaches_a_slot),
        CASE(what_the_store_cannot_read_is_told),
        CASE(memory_that_runs_out_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
