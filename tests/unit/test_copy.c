/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ckpt/stage/copy.h"
#include "tests/unit/slots.h"

/* A slot on its way from one host to another, in pieces: whole and equal, or nothing. */

#define CUT 4u
#define RANK 3u
#define ROOM (UINT64_C(64) << 20)

static char *arena, *there;
static const struct test_region some[] = {{"weights", 300}, {"noise", 3 * CHUNK_BYTES + 77}, {"counts", 4096}};
static char root[DIGEST_HEX_CHARS + 1];
static char *slot_bytes, *sum_bytes;
static size_t slot_count, sum_count;
static uint64_t kept; /* chunks, of the last that was brought */

static void record(const struct test_region *regions, uint32_t count)
{
    struct err err = {0};
    char path[TIDE_PATH_MAX + 1], sum_path[TIDE_PATH_MAX + 1];
    uint64_t bytes = 0;
    arena = test_dir();
    there = test_dir();
    test_record(arena, RANK, 1, CUT, regions, count, 9);
    assert_int_equal(stage_sum(arena, RANK, 1, TEST_UID, CUT, root, &err), TIDE_OK);
    assert_int_equal(slot_copy_source(arena, TEST_UID, RANK, CUT, path, sum_path, &bytes, &err), TIDE_OK);
    assert_int_equal(fsx_read(path, 1u << 30, &slot_bytes, &slot_count, &err), TIDE_OK);
    assert_int_equal(fsx_read(sum_path, 1u << 30, &sum_bytes, &sum_count, &err), TIDE_OK);
    assert_true(bytes <= slot_count);
    slot_count = (size_t)bytes;
}

static int setup(void **state)
{
    (void)state;
    record(some, sizeof some / sizeof some[0]);
    return 0;
}

/* A slot with a table of parts: so many regions that it takes pages of its own. */
static int setup_parts(void **state)
{
    (void)state;
    static char names[30][TIDE_NAME_MAX + 1];
    struct test_region regions[30];
    for (unsigned i = 0; i < 30; i++) {
        snprintf(names[i], sizeof names[i], "layer %u%s", i, i % 2 ? "=part" : "");
        regions[i] = (struct test_region){names[i], CHUNK_BYTES / 8};
    }
    record(regions, 30);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mem_free(slot_bytes);
    mem_free(sum_bytes);
    test_dir_remove(arena);
    test_dir_remove(there);
    return 0;
}

static enum tide_status bring(size_t count, size_t piece, uint64_t room, char ret_root[DIGEST_HEX_CHARS + 1], struct err *err)
{
    struct slot_copy *copy = NULL;
    enum tide_status status = slot_copy_begin(there, RANK, 0, TEST_UID, CUT, sum_bytes, sum_count, room, &copy, err);
    if (status != TIDE_OK)
        return status;
    for (size_t at = 0; at < count && status == TIDE_OK; at += piece)
        status = slot_copy_add(copy, slot_bytes + at, count - at < piece ? count - at : piece, err);
    kept = slot_copy_kept(copy);
    if (status == TIDE_OK)
        return slot_copy_end(copy, 0, ret_root, err);
    slot_copy_abort(copy, 0);
    return status;
}

static void expect_nothing(void)
{
    arena_path path;
    uint32_t slot;
    char found[DIGEST_HEX_CHARS + 1];
    struct err err = {0};
    assert_int_equal(stage_find(there, RANK, TEST_UID, CUT, 0, 1, &slot, found, &err), TIDE_E_NOT_FOUND);
    slot_path(there, RANK, 0, path);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void in_pieces_of_any_size_it_is_the_same(void **state)
{
    (void)state;
    static const size_t pieces[] = {1013, 4096, 65536, CHUNK_BYTES, 1u << 30};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct err err = {0};
        char got[DIGEST_HEX_CHARS + 1], found[DIGEST_HEX_CHARS + 1];
        uint32_t slot = 9;
        assert_int_equal(bring(slot_count, pieces[i], ROOM, got, &err), TIDE_OK);
        assert_string_equal(got, root);
        assert_int_equal(stage_find(there, RANK, TEST_UID, CUT, 0, 1, &slot, found, &err), TIDE_OK);
        assert_int_equal(slot, 0);
        assert_string_equal(found, root);
    }
}

static void what_is_broken_or_cut_short_is_nothing(void **state)
{
    (void)state;
    struct err err = {0};
    char got[DIGEST_HEX_CHARS + 1];
    assert_int_equal(bring(slot_count - 1, 65536, ROOM, got, &err), TIDE_E_UNAVAILABLE);
    expect_nothing();
    assert_int_equal(bring(100, 65536, ROOM, got, &err), TIDE_E_UNAVAILABLE);
    expect_nothing();
    static const size_t bad[] = {8, offsetof(struct slot_header, data_bytes), SLOT_HEADER_BYTES + 3, SLOT_HEADER_BYTES + 300};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0] + 2; i++) {
        size_t at = i < sizeof bad / sizeof bad[0] ? bad[i] : slot_count / 2 * (i - 3) - 100;
        if (at == 8) /* the state: of no account */
            continue;
        slot_bytes[at] ^= 4;
        assert_int_not_equal(bring(slot_count, 65536, ROOM, got, &err), TIDE_OK);
        slot_bytes[at] ^= 4;
        expect_nothing();
    }
    sum_bytes[sum_count - 1] ^= 1;
    assert_int_equal(bring(slot_count, 65536, ROOM, got, &err), TIDE_E_CORRUPT);
    sum_bytes[sum_count - 1] ^= 1;
    expect_nothing();
}

static bool whole_there(void)
{
    arena_path path, sum_path;
    struct slot slot;
    struct slot_sum sum;
    struct err err = {0};
    slot_path(there, RANK, 0, path);
    slot_sum_path(there, RANK, 0, sum_path);
    assert_int_equal(slot_open(path, sum_path, TEST_UID, CUT, RANK, &slot, &sum, &err), TIDE_OK);
    bool whole = slot_verify(&slot, &sum, &err) == TIDE_OK;
    slot_unmap(&slot);
    slot_sum_release(&sum);
    return whole;
}

/* The cut is here, too, with a byte of its data that is wrong. */
static void have_one_damaged(size_t at)
{
    arena_path path;
    test_record(there, RANK, 0, CUT, some, 3, 9);
    slot_path(there, RANK, 0, path);
    test_flip(path, (long)at, 1);
}

/* Two copies that are damaged in different places are one that is whole; in the same place they are none. */
static void what_comes_wrong_and_is_right_here_stays(void **state)
{
    (void)state;
    static const size_t pieces[] = {1013, 65536, 1u << 30};
    struct err err = {0};
    char got[DIGEST_HEX_CHARS + 1];
    size_t data = slot_count - (size_t)((struct slot_header *)(void *)slot_bytes)->data_bytes;
    slot_bytes[data + CHUNK_BYTES + 7] ^= 1;
    slot_bytes[slot_count - 5] ^= 1;
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        have_one_damaged(data + 2 * CHUNK_BYTES + 9);
        assert_int_equal(bring(slot_count, pieces[i], ROOM, got, &err), TIDE_OK);
        assert_string_equal(got, root);
        assert_int_equal(kept, 2);
        assert_true(whole_there());
    }
    have_one_damaged(data + CHUNK_BYTES + 100);
    assert_int_equal(bring(slot_count, 65536, ROOM, got, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "chunk 1 of 4"));
    expect_nothing();
}

/* It was recorded over between its digests and its bytes. */
static void of_another_cut_it_is_not_taken(void **state)
{
    (void)state;
    struct err err = {0};
    char got[DIGEST_HEX_CHARS + 1];
    struct slot_header *h = (struct slot_header *)(void *)slot_bytes;
    h->cut = CUT + 2;
    assert_int_equal(bring(slot_count, 65536, ROOM, got, &err), TIDE_E_NOT_FOUND);
    expect_nothing();
}

static void room_is_kept_to(void **state)
{
    (void)state;
    struct err err = {0};
    char got[DIGEST_HEX_CHARS + 1];
    assert_int_equal(bring(slot_count, 65536, slot_count - 1, got, &err), TIDE_E_LIMIT);
    assert_non_null(strstr(err.text, "--arena-max"));
    expect_nothing();
    assert_int_equal(bring(slot_count, 65536, slot_count, got, &err), TIDE_OK);
}

static void copies_are_found_and_counted_apart(void **state)
{
    (void)state;
    struct err err = {0};
    char job[TIDE_PATH_MAX + 1], copies[TIDE_PATH_MAX + 32], path[TIDE_PATH_MAX + 1], sum_path[TIDE_PATH_MAX + 1];
    uint64_t own = 0, others = 0, bytes = 0;
    snprintf(job, sizeof job, "%s/" TEST_UID, there);
    snprintf(copies, sizeof copies, "%s/" COPY_DIR, job);
    assert_int_equal(fsx_mkdirs(copies, 0700, &err), TIDE_OK);
    test_record(copies, RANK, 0, CUT, some, 3, 9);
    assert_int_equal(slot_copy_source(job, TEST_UID, RANK, CUT, path, sum_path, &bytes, &err), TIDE_E_NOT_FOUND); /* no digests */
    char got[DIGEST_HEX_CHARS + 1];
    assert_int_equal(stage_sum(copies, RANK, 0, TEST_UID, CUT, got, &err), TIDE_OK);
    assert_int_equal(slot_copy_source(job, TEST_UID, RANK, CUT, path, sum_path, &bytes, &err), TIDE_OK);
    assert_non_null(strstr(path, "/" COPY_DIR "/"));
    slot_copy_usage(there, &own, &others);
    assert_int_equal(own, 0);
    assert_true(others >= bytes);
    test_record(job, 0, 0, CUT, some, 3, 9);
    slot_copy_usage(there, &own, &others);
    assert_true(own >= bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(in_pieces_of_any_size_it_is_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(in_pieces_of_any_size_it_is_the_same, setup_parts, teardown),
        cmocka_unit_test_setup_teardown(what_is_broken_or_cut_short_is_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(what_comes_wrong_and_is_right_here_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(of_another_cut_it_is_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(room_is_kept_to, setup, teardown),
        cmocka_unit_test_setup_teardown(copies_are_found_and_counted_apart, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
