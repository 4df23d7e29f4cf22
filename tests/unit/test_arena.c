/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/slots.h"

static char *arena;
static const struct test_region two[] = {{"weights", 300}, {"noise", 5000}};

static int setup(void **state)
{
    (void)state;
    arena = test_dir();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_dir_remove(arena);
    return 0;
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    assert_int_equal(slot_bytes_needed(0, false, 0), SLOT_HEADER_BYTES);
    assert_true(slot_bytes_needed(TIDE_REGIONS_MAX, false, RANK_BYTES_MAX) > RANK_BYTES_MAX);
    assert_int_equal(slot_bytes_needed(TIDE_REGIONS_MAX + 1, false, 0), 0);
    assert_int_equal(slot_bytes_needed(1, false, RANK_BYTES_MAX + 1), 0);
    assert_int_equal(slot_bytes_needed(1, false, UINT64_MAX), 0);
    assert_true(region_end_aligned(UINT64_MAX, 1) > RANK_BYTES_MAX);
    assert_int_equal(region_end_aligned(64, 1), 128);
}

static void reserving_gives_real_blocks(void **state)
{
    (void)state;
    arena_path path;
    struct stat info;
    struct err err = {0};
    slot_path(arena, 0, 0, path);
    assert_int_equal(slot_reserve(path, 3u << 20, &err), TIDE_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 3 << 20);
    assert_true(info.st_blocks * 512 >= 3 << 20);
    /* A smaller wish leaves it, a larger one grows it. */
    assert_int_equal(slot_reserve(path, 1u << 20, &err), TIDE_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 3 << 20);
    assert_int_not_equal(slot_reserve(path, UINT64_C(1) << 60, &err), TIDE_OK);
    assert_non_null(strstr(err.text, path));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 3 << 20);
}

/* ---- two who reserve ---- */

static off_t grown; /* by another, while memory runs out for this one; 0: nothing of that */

int __real_posix_fallocate(int fd, off_t from, off_t bytes);
int __wrap_posix_fallocate(int fd, off_t from, off_t bytes);

int __wrap_posix_fallocate(int fd, off_t from, off_t bytes)
{
    if (grown == 0)
        return __real_posix_fallocate(fd, from, bytes);
    assert_int_equal(__real_posix_fallocate(fd, 0, grown), 0);
    return ENOSPC;
}

/* A step gives its ranks slots while the agent fetches into one of them: who has mapped what he got would die of a shorter file. */
static void a_reservation_that_fails_takes_nothing_from_another(void **state)
{
    (void)state;
    struct err err = {0};
    struct stat info;
    char shared[] = "/dev/shm/tide-test-XXXXXX";
    int fd = mkstemp(shared);
    assert_true(fd >= 0);
    close(fd);
    grown = 2 << 20;
    assert_int_equal(slot_reserve(shared, 4 << 20, &err), TIDE_E_NOSPACE);
    grown = 0;
    assert_int_equal(stat(shared, &info), 0);
    assert_int_equal(info.st_size, 2 << 20);
    unlink(shared);
}

static void a_slot_is_whole_only_at_the_end(void **state)
{
    (void)state;
    arena_path path;
    struct slot slot;
    struct err err = {0};
    char root[DIGEST_HEX_CHARS + 1];
    slot_path(arena, 0, 0, path);
    assert_int_equal(slot_map(path, 0, &slot, &err), TIDE_E_NOT_FOUND);
    test_record(arena, 0, 0, 4, two, 2, 1);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    assert_int_equal(slot_check(&slot, TEST_UID, 4, 0, &err), TIDE_OK);
    assert_int_equal(slot_check(&slot, TEST_UID, 0, 0, &err), TIDE_OK);
    assert_int_equal(slot_check(&slot, TEST_UID, 5, 0, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(slot_check(&slot, TEST_UID, 4, 1, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(slot_check(&slot, "another", 4, 0, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(slot_start(&slot, 2, false, 1u << 30, &err), TIDE_E_LIMIT);
    assert_int_equal(slot_start(&slot, 2, false, slot.header->data_bytes, &err), TIDE_OK);
    assert_int_equal(slot_check(&slot, TEST_UID, 4, 0, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(stage_sum(arena, 0, 0, TEST_UID, 4, root, &err), TIDE_E_NOT_FOUND);
    slot_unmap(&slot);
}

static void sums_find_a_slot_again(void **state)
{
    (void)state;
    struct err err = {0};
    char root[DIGEST_HEX_CHARS + 1], again[DIGEST_HEX_CHARS + 1];
    uint64_t cuts[SLOTS];
    char roots[SLOTS][DIGEST_HEX_CHARS + 1];
    uint32_t slot = 9;
    test_record(arena, 0, 0, 4, two, 2, 1);
    test_record(arena, 0, 1, 5, two, 2, 1);
    assert_int_equal(stage_find(arena, 0, TEST_UID, 5, 0, 1, &slot, again, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(stage_sum(arena, 0, 1, TEST_UID, 5, root, &err), TIDE_OK);
    assert_int_equal(stage_sum(arena, 0, 1, TEST_UID, 5, again, &err), TIDE_OK);
    assert_string_equal(root, again);
    assert_int_equal(stage_find(arena, 0, TEST_UID, 5, 0, 1, &slot, again, &err), TIDE_OK);
    assert_int_equal(slot, 1);
    assert_string_equal(root, again);
    stage_held(arena, 0, TEST_UID, cuts, roots);
    assert_int_equal(cuts[0], 0);
    assert_int_equal(cuts[1], 5);
    assert_string_equal(roots[1], root);
    /* The slot is recorded again: the digests beside it are of another cut. */
    test_record(arena, 0, 1, 6, two, 2, 1);
    stage_held(arena, 0, TEST_UID, cuts, roots);
    assert_int_equal(cuts[1], 0);
}

/* A rank may have nothing of what the others have together. */
static void a_slot_may_hold_no_bytes(void **state)
{
    (void)state;
    static const struct test_region nothing[] = {{"noise", 0}, {"weights", 0}};
    char hex[DIGEST_HEX_CHARS + 1], found[DIGEST_HEX_CHARS + 1];
    for (uint32_t count = 0; count <= 2; count += 2) {
        uint32_t slot = 9;
        struct err err = {0};
        test_record(arena, 0, 1, 4 + count, nothing, count, 1);
        assert_int_equal(stage_sum(arena, 0, 1, TEST_UID, 4 + count, hex, &err), TIDE_OK);
        assert_int_equal(stage_find(arena, 0, TEST_UID, 4 + count, 1, 1, &slot, found, &err), TIDE_OK);
        assert_int_equal(slot, 1);
        assert_string_equal(found, hex);
    }
}

static void sums_survive_their_file(void **state)
{
    (void)state;
    struct err err = {0};
    char root[DIGEST_HEX_CHARS + 1], path[1200];
    struct slot_sum sum;
    struct stat info;
    test_record(arena, 0, 0, 4, two, 2, 1);
    assert_int_equal(stage_sum(arena, 0, 0, TEST_UID, 4, root, &err), TIDE_OK);
    slot_sum_path(arena, 0, 0, path);
    assert_int_equal(slot_sum_load(path, &sum, &err), TIDE_OK);
    assert_int_equal(sum.cut, 4);
    assert_int_equal(sum.chunk_count, 1);
    slot_sum_release(&sum);
    assert_int_equal(stat(path, &info), 0);
    for (long at = 0; at < info.st_size; at++) {
        test_flip(path, at, 0x10);
        assert_int_equal(slot_sum_load(path, &sum, &err), TIDE_E_CORRUPT);
        test_flip(path, at, 0x10);
    }
    for (off_t size = info.st_size - 1; size >= 0; size -= 7) {
        assert_int_equal(truncate(path, size), 0);
        assert_int_equal(slot_sum_load(path, &sum, &err), TIDE_E_CORRUPT);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(slot_sum_load(path, &sum, &err), TIDE_E_NOT_FOUND);
}

/* Bytes of the header that mean nothing: padding, and what lies behind it. */
static int idle_byte(size_t at)
{
    size_t uid_end = offsetof(struct slot_header, job_uid) + TIDE_UID_CHARS + 1;
    size_t regions = SLOT_HEADER_BYTES + 2 * sizeof(struct slot_region);
    return (at >= uid_end && at < offsetof(struct slot_header, generation)) ||
           (at >= offsetof(struct slot_header, reserved) && at < offsetof(struct slot_header, data_offset)) ||
           (at >= offsetof(struct slot_header, unused) && at < SLOT_HEADER_BYTES) || (at >= regions && at < 2 * SLOT_HEADER_BYTES);
}

static void every_flipped_byte_is_found(void **state)
{
    (void)state;
    struct err err = {0};
    char root[DIGEST_HEX_CHARS + 1];
    arena_path path;
    struct stat info;
    uint32_t slot;
    test_record(arena, 0, 0, 4, two, 2, 1);
    assert_int_equal(stage_sum(arena, 0, 0, TEST_UID, 4, root, &err), TIDE_OK);
    slot_path(arena, 0, 0, path);
    assert_int_equal(stat(path, &info), 0);
    size_t found = 0;
    for (long at = 0; at < info.st_size; at++) {
        int mask = 1 << (at % 8);
        test_flip(path, at, mask);
        enum tide_status status = stage_find(arena, 0, TEST_UID, 4, 0, 1, &slot, root, &err);
        if (!idle_byte((size_t)at)) {
            assert_int_not_equal(status, TIDE_OK);
            found++;
        }
        test_flip(path, at, mask);
    }
    assert_true(found > 5300);
    assert_int_equal(stage_find(arena, 0, TEST_UID, 4, 0, 1, &slot, root, &err), TIDE_OK);
}

static void a_bad_chunk_is_named(void **state)
{
    (void)state;
    struct err err = {0};
    char root[DIGEST_HEX_CHARS + 1];
    arena_path path;
    uint32_t slot;
    static const struct test_region large[] = {{"weights", 1u << 20}, {"noise", 1u << 20}, {"tail", 10}};
    test_record(arena, 3, 0, 4, large, 3, 8);
    assert_int_equal(stage_sum(arena, 3, 0, TEST_UID, 4, root, &err), TIDE_OK);
    slot_path(arena, 3, 0, path);
    test_flip(path, 2 * SLOT_HEADER_BYTES + (1 << 20) + 77, 1);
    assert_int_equal(stage_find(arena, 3, TEST_UID, 4, 0, 1, &slot, root, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "chunk 1 of 3"));
    assert_non_null(strstr(err.text, "\"noise\""));
    /* Without looking at the data it still passes for whole: the rank's own check is what counts then. */
    assert_int_equal(stage_find(arena, 3, TEST_UID, 4, 0, 0, &slot, root, &err), TIDE_OK);
}

/* Random fields in a slot of ours: whatever they say, the reader lives (sanitizers watch). */
static void garbage_headers_are_survived(void **state)
{
    (void)state;
    struct rng rng = {.state = 3};
    arena_path path;
    char root[DIGEST_HEX_CHARS + 1];
    struct err err = {0};
    slot_path(arena, 0, 0, path);
    for (int round = 0; round < 3000; round++) {
        struct slot slot;
        test_record(arena, 0, 0, 4, two, 2, 1);
        assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
        unsigned char *bytes = (unsigned char *)slot.header;
        for (uint64_t k = 0; k <= rng_below(&rng, 4); k++) {
            size_t at = rng_below(&rng, 2) ? rng_below(&rng, sizeof(struct slot_header) / 8) * 8
                                           : SLOT_HEADER_BYTES + rng_below(&rng, 40) * 8;
            static const uint64_t odd[] = {0,        1,          UINT64_MAX, UINT64_MAX - 63, INT64_MAX,
                                           1u << 20, UINT32_MAX, 4096,       1ull << 40};
            uint64_t value = rng_below(&rng, 3) ? odd[rng_below(&rng, sizeof odd / sizeof odd[0])] : rng_next(&rng);
            if (at != offsetof(struct slot_header, magic))
                memcpy(bytes + at, &value, sizeof value);
        }
        slot.header->state = SLOT_RECORDED;
        slot_unmap(&slot);
        (void)!stage_sum(arena, 0, 0, TEST_UID, 4, root, &err);
        if (slot_map(path, 0, &slot, &err) == TIDE_OK) {
            struct slot_sum sum;
            if (slot_sum_compute(&slot, &sum, &err) == TIDE_OK)
                slot_sum_release(&sum);
            slot_unmap(&slot);
        }
    }
}

static void files_that_are_no_slots_are_refused(void **state)
{
    (void)state;
    arena_path path;
    struct err err = {0};
    char root[DIGEST_HEX_CHARS + 1], noise[3 * SLOT_HEADER_BYTES];
    uint32_t slot;
    slot_path(arena, 0, 0, path);
    test_fill((unsigned char *)noise, sizeof noise, "noise", 1);
    for (size_t size = 0; size <= sizeof noise; size += 1024) {
        assert_int_equal(fsx_replace(path, noise, size, 0600, &err), TIDE_OK);
        assert_int_not_equal(stage_find(arena, 0, TEST_UID, 4, 0, 1, &slot, root, &err), TIDE_OK);
        assert_int_not_equal(stage_sum(arena, 0, 0, TEST_UID, 4, root, &err), TIDE_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reservation_that_fails_takes_nothing_from_another),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test_setup_teardown(reserving_gives_real_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slot_is_whole_only_at_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(sums_find_a_slot_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slot_may_hold_no_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(sums_survive_their_file, setup, teardown),
        cmocka_unit_test_setup_teardown(every_flipped_byte_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_chunk_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(garbage_headers_are_survived, setup, teardown),
        cmocka_unit_test_setup_teardown(files_that_are_no_slots_are_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
