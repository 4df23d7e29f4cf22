/* SPDX-License-Identifier: Apache-2.0 */
/* The mark beside the log: of its newest record, that it had been synced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ckpt/base/log.h"
#include "wal_words.h"

static void every_flipped_byte_of_a_last_record_that_was_synced_is_corruption(void **dir)
{
    char path[DATA_FILE_MAX];
    path_of(*dir, FIRST_LOG, path);
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 5);
    wal_close(wal);
    uint64_t begin, end;
    extent(path, 5, &begin, &end);
    for (uint64_t at = begin; at < end; at++)
        for (unsigned bit = 0; bit < 8; bit += 7) {
            file_flip(path, (off_t)at, (unsigned char)(1u << bit));
            expect_corrupt(*dir, path, "record 5");
            file_flip(path, (off_t)at, (unsigned char)(1u << bit));
        }
    size_t bytes;
    char *whole = file_read(path, &bytes);
    memset(whole + begin, 0, end - begin); /* as if it had never been written */
    file_write(path, whole, bytes);
    expect_corrupt(*dir, path, "record 5");
    file_write(path, whole, begin);
    expect_corrupt(*dir, path, "record 5");
    mem_free(whole);
    /* Whoever is alone may go on without it. */
    assert_int_equal(unlink(mark_path(*dir)), 0);
    wal = open_ok(*dir, false);
    expect_entries(wal, 1, 4);
    wal_close(wal);
}

/* A mark may be old, or rotten itself, or of a log that a version without marks has gone on with: then it says nothing. */
static void a_mark_that_is_behind_says_nothing(void **dir)
{
    char path[DATA_FILE_MAX];
    path_of(*dir, FIRST_LOG, path);
    size_t bytes;
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 3);
    char *old = file_read(mark_path(*dir), &bytes);
    append_synced(wal, 4, 5);
    wal_close(wal);
    uint64_t begin, end;
    extent(path, 5, &begin, &end);
    file_flip(path, (off_t)begin, 1);
    file_flip(mark_path(*dir), 9, 1);
    wal = open_ok(*dir, false);
    expect_entries(wal, 1, 4);
    append_synced(wal, 5, 5);
    wal_close(wal);
    file_flip(path, (off_t)begin, 1);
    file_write(mark_path(*dir), old, bytes);
    wal = open_ok(*dir, false);
    expect_entries(wal, 1, 4);
    mem_free(old);
    append_synced(wal, 5, 6);
    old = file_read(mark_path(*dir), &bytes);
    assert_int_equal(wal_truncate_from(wal, 4, NULL), TIDE_OK);
    wal_close(wal);
    wal = open_ok(*dir, false); /* that the end was taken back is known */
    assert_int_equal(append_one(wal, 4, 2, NULL), TIDE_OK);
    wal_close(wal);
    file_write(mark_path(*dir), old, bytes);
    wal = open_ok(*dir, false);
    expect_entries(wal, 1, 4);
    wal_close(wal);
    mem_free(old);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, dir_make, dir_drop)

int main(void)
{
    log_init("test_wal_mark", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(every_flipped_byte_of_a_last_record_that_was_synced_is_corruption),
        TEST(a_mark_that_is_behind_says_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
