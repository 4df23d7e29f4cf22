/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ckpt/base/log.h"
#include "coordinator/disk/check.h"
#include "coordinator/disk/snapshot.h"
#include "wal_words.h"

static int bad_files;
static char verdicts[16384];

static void count_bad(void *arg, const char *file, bool bad, const char *verdict)
{
    (void)arg;
    assert_true(verdict[0] != '\0');
    bad_files += bad;
    size_t used = strlen(verdicts);
    snprintf(verdicts + used, sizeof verdicts - used, "%s: %s\n", strrchr(file, '/') + 1, verdict);
}

/* The directory is checked; `bad` files are, and the words are among the verdicts. */
static void expect_verdict(const char *path, enum tide_status status, int bad, const char *words)
{
    bad_files = 0;
    verdicts[0] = '\0';
    assert_int_equal(check_data(path, count_bad, NULL, NULL), status);
    if (strstr(verdicts, words) == NULL)
        fail_msg("nothing about \"%s\" in\n%s", words, verdicts);
    assert_int_equal(bad_files, bad);
}

static void make_data(const char *path, uint64_t records)
{
    struct datadir dir;
    assert_int_equal(datadir_open(path, CLUSTER, 2, true, &dir, NULL), TIDE_OK);
    assert_true(dir.fresh);
    struct wal *wal = open_ok(path, true);
    assert_int_equal(ballot_save(path, (struct ballot){.term = 1, .vote = 3}, NULL), TIDE_OK);
    assert_int_equal(datadir_commit(&dir, NULL), TIDE_OK);
    append_synced(wal, 1, records);
    wal_close(wal);
    struct err err = {0};
    assert_int_equal(check_data(path, count_bad, NULL, &err), TIDE_E_CONFLICT);
    datadir_close(&dir);
}

static void check_data_finds_what_is_wrong(void **arg)
{
    char path[DATA_FILE_MAX], log[DATA_FILE_MAX];
    datadir_file(*arg, "data", path);
    make_data(path, 120);
    expect_verdict(path, TIDE_OK, 0, "format: ok: member 2 of cluster " CLUSTER);
    expect_verdict(path, TIDE_OK, 0, "ballot: ok: term 1, vote for member 3");
    path_of(path, FIRST_LOG, log);
    file_flip(log, 300, 1);
    expect_verdict(path, TIDE_E_CORRUPT, 1, FIRST_LOG ": CORRUPT: record");
    struct err err = {0};
    assert_int_equal(check_data(path, count_bad, NULL, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, FIRST_LOG));
    file_flip(log, 300, 1);
    assert_int_equal(truncate(log, 10), 0);
    expect_verdict(path, TIDE_E_CORRUPT, 1, "fewer than its header");
    assert_int_equal(unlink(log), 0);
    expect_verdict(path, TIDE_E_CORRUPT, 1, "records between the newest valid snapshot and the log are missing");
}

static void check_data_knows_a_last_record_that_was_synced(void **arg)
{
    char path[DATA_FILE_MAX], log[DATA_FILE_MAX], mark[DATA_FILE_MAX];
    datadir_file(*arg, "data", path);
    make_data(path, 3);
    path_of(path, FIRST_LOG, log);
    path_of(path, "synced", mark);
    expect_verdict(path, TIDE_OK, 0, "synced: ok: the records up to 3");
    size_t bytes;
    char *data = file_read(log, &bytes);
    struct segment_scan scan;
    segment_scan(data, bytes, 1, NULL, true, &scan);
    mem_free(data);
    file_flip(log, (off_t)scan.end - 12, 1);
    segment_scan_release(&scan);
    expect_verdict(path, TIDE_E_CORRUPT, 1, "synced: CORRUPT: record 3 had been on the disk");
    file_flip(mark, 20, 1);
    expect_verdict(path, TIDE_OK, 0, "synced: ok: it says nothing");
}

static void check_data_knows_a_forgotten_vote(void **arg)
{
    char path[DATA_FILE_MAX], ballot[DATA_FILE_MAX];
    datadir_file(*arg, "data", path);
    make_data(path, 3);
    path_of(path, "ballot", ballot);
    file_flip(ballot, 20, 1);
    expect_verdict(path, TIDE_E_CORRUPT, 1, "do not guess a term");
    assert_int_equal(unlink(ballot), 0);
    expect_verdict(path, TIDE_E_CORRUPT, 1, "a vote may have been forgotten");
    assert_int_equal(ballot_save(path, (struct ballot){.term = 5}, NULL), TIDE_OK);
    expect_verdict(path, TIDE_OK, 0, "ballot: ok: no vote in the present term");
}

static void check_data_knows_a_founding_member(void **arg)
{
    char path[DATA_FILE_MAX], ballot[DATA_FILE_MAX];
    datadir_file(*arg, "data", path);
    make_data(path, 1);
    path_of(path, "ballot", ballot);
    assert_int_equal(unlink(ballot), 0);
    expect_verdict(path, TIDE_OK, 0, "ballot: ok: no vote");
    struct wal *wal = open_ok(path, false);
    append_synced(wal, 2, 2);
    wal_close(wal);
    expect_verdict(path, TIDE_E_CORRUPT, 1, "a vote may have been forgotten");
}

static void check_data_knows_what_a_snapshot_has_replaced(void **arg)
{
    char path[DATA_FILE_MAX], part[DATA_FILE_MAX];
    datadir_file(*arg, "data", path);
    make_data(path, 120);
    struct snapshot snapshot = {.index = 60, .term = 1, .data = "{}", .bytes = 2};
    uint64_t digest;
    assert_int_equal(snapshot_save(path, CLUSTER, &snapshot, &digest, NULL), TIDE_OK);
    expect_verdict(path, TIDE_OK, 0, "snap-00000000000000000060.img: ok: state after record 60 of term 1, 2 bytes");
    assert_null(strstr(verdicts, "discard"));
    snapshot.index = 70;
    snapshot.term = 2;
    assert_int_equal(snapshot_save(path, CLUSTER, &snapshot, &digest, NULL), TIDE_OK);
    expect_verdict(path, TIDE_OK, 0, "the next start will discard it");
    snapshot.index = 200;
    assert_int_equal(snapshot_save(path, CLUSTER, &snapshot, &digest, NULL), TIDE_OK);
    expect_verdict(path, TIDE_OK, 0, "the next start will discard it");
    path_of(path, "snap-00000000000000000300.img.part", part);
    file_write(part, "half", 4);
    expect_verdict(path, TIDE_OK, 0, "300.img.part: ok: a snapshot that is being received");
    path_of(path, "snap-00000000000000000300.img.tmp", part);
    file_write(part, "half", 4);
    expect_verdict(path, TIDE_OK, 0, "300.img.tmp: ok: a snapshot that was not finished");
    path_of(path, "snap-00000000000000000300.img", part);
    file_write(part, "half", 4);
    expect_verdict(path, TIDE_E_CORRUPT, 1, "300.img: ");
}

static void check_data_knows_a_log_that_is_empty_torn_or_gone(void **arg)
{
    char path[DATA_FILE_MAX], log[DATA_FILE_MAX], other[DATA_FILE_MAX];
    datadir_file(*arg, "data", path);
    make_data(path, 0);
    path_of(path, FIRST_LOG, log);
    expect_verdict(path, TIDE_OK, 0, FIRST_LOG ": ok: empty, next record 1");
    file_flip(log, 70, 1);
    expect_verdict(path, TIDE_OK, 0, "with a torn tail");
    /* The second one of another log. */
    datadir_file(*arg, "other", other);
    make_data(other, 120);
    wal_close(open_ok(path, false));
    char from[DATA_FILE_MAX], to[DATA_FILE_MAX];
    uint64_t *firsts;
    size_t count, bytes;
    assert_int_equal(datadir_list(other, "log-", ".wal", &firsts, &count, NULL), TIDE_OK);
    assert_true(count > 1);
    datadir_numbered(other, "log-", firsts[1], ".wal", from);
    datadir_numbered(path, "log-", firsts[1], ".wal", to);
    mem_free(firsts);
    char *data = file_read(from, &bytes);
    file_write(to, data, bytes);
    mem_free(data);
    expect_verdict(path, TIDE_E_CORRUPT, 2, "does not continue the segment before it");
    assert_int_equal(unlink(log), 0);
    assert_int_equal(unlink(to), 0);
    expect_verdict(path, TIDE_E_CORRUPT, 1, "the log is gone");
    struct wal *wal = NULL;
    struct err err = {0};
    assert_int_equal(wal_open(path, CLUSTER, &small, false, 1, 0, &wal, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "the log is gone"));
    assert_int_equal(check_data("/nonexistent", count_bad, NULL, &err), TIDE_E_NOT_FOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, dir_make, dir_drop)

int main(void)
{
    log_init("test_check", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(check_data_finds_what_is_wrong),
        TEST(check_data_knows_a_last_record_that_was_synced),
        TEST(check_data_knows_a_forgotten_vote),
        TEST(check_data_knows_a_founding_member),
        TEST(check_data_knows_what_a_snapshot_has_replaced),
        TEST(check_data_knows_a_log_that_is_empty_torn_or_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
