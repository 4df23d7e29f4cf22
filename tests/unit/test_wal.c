/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "ckpt/base/log.h"
#include "wal_words.h"

static void what_was_appended_is_read_again(void **dir)
{
    struct wal *wal = open_ok(*dir, true);
    assert_int_equal(wal_last(wal), 0);
    append_synced(wal, 1, 10);
    expect_entries(wal, 1, 10);
    wal_close(wal);
    wal = open_ok(*dir, false);
    expect_entries(wal, 1, 10);
    append_synced(wal, 11, 20);
    expect_entries(wal, 1, 20);
    wal_close(wal);
}

static void a_gap_or_an_older_term_is_refused(void **dir)
{
    struct wal *wal = open_ok(*dir, true);
    struct err err = {0};
    assert_int_equal(append_one(wal, 2, 1, &err), TIDE_E_STATE);
    assert_int_equal(append_one(wal, 1, 3, NULL), TIDE_OK);
    assert_int_equal(append_one(wal, 2, 2, &err), TIDE_E_STATE);
    assert_int_equal(append_one(wal, 2, 3, NULL), TIDE_OK);
    assert_int_equal(wal_term(wal, 2), 3);
    assert_int_equal(wal_term(wal, 3), 0);
    char *large = mem_alloc(SMALL);
    assert_int_equal(wal_append(wal, &(struct wal_entry){3, 3, large, SMALL, 0}, 1, &err), TIDE_E_LIMIT);
    assert_int_equal(append_one(wal, 3, 3, NULL), TIDE_OK); /* a refusal breaks nothing */
    mem_free(large);
    wal_close(wal);
}

static void segments_roll_and_are_chained(void **dir)
{
    struct wal *wal = open_ok(*dir, true);
    struct wal_entry batch[100];
    char texts[100][64];
    for (uint64_t i = 0; i < 100; i++) {
        payload(i + 1, texts[i]);
        batch[i] = (struct wal_entry){i + 1, 1, texts[i], strlen(texts[i]), (uint16_t)((i + 1) % 3)};
    }
    assert_int_equal(wal_append(wal, batch, 100, NULL), TIDE_OK);
    assert_int_equal(wal_sync(wal, NULL), TIDE_OK);
    assert_true(wal_bytes(wal) >= 3 * SMALL);
    for (uint64_t i = 101; i <= 200; i++) {
        assert_int_equal(wal_prepare(wal, NULL), TIDE_OK);
        append_synced(wal, i, i);
    }
    wal_close(wal);
    wal = open_ok(*dir, false);
    expect_entries(wal, 1, 200);
    wal_close(wal);
    /* A segment in the middle that is gone is damage, not an end. */
    uint64_t *firsts;
    size_t count;
    assert_int_equal(datadir_list(*dir, "log-", ".wal", &firsts, &count, NULL), TIDE_OK);
    assert_true(count > 4);
    char path[DATA_FILE_MAX];
    datadir_numbered(*dir, "log-", firsts[2], ".wal", path);
    mem_free(firsts);
    assert_int_equal(unlink(path), 0);
    struct err err = {0};
    assert_int_equal(wal_open(*dir, CLUSTER, &small, false, 1, 0, &wal, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "does not continue"));
}

/* Four records that were synced and one that was not: nobody was told of it. The bytes of the segment. */
static char *unsynced_fifth(const char *dir, size_t *ret_bytes)
{
    char path[DATA_FILE_MAX];
    path_of(dir, FIRST_LOG, path);
    struct wal *wal = open_ok(dir, true);
    append_synced(wal, 1, 4);
    assert_int_equal(append_one(wal, 5, 1, NULL), TIDE_OK);
    wal_close(wal);
    return file_read(path, ret_bytes);
}

static void a_torn_tail_is_cut_at_every_byte(void **dir)
{
    char path[DATA_FILE_MAX];
    path_of(*dir, FIRST_LOG, path);
    size_t bytes, mark_bytes;
    char *whole = unsynced_fifth(*dir, &bytes), *mark = file_read(mark_path(*dir), &mark_bytes);
    uint64_t begin, end;
    extent(path, 5, &begin, &end);
    uint64_t text_end = begin + sizeof(struct record_header) + strlen("{\"entry\":5,\"more\":\"abcde\"}");
    for (uint64_t cut = begin; cut < text_end; cut++) {
        /* As a write that stopped there, and as a file that ends there. */
        for (int short_file = 0; short_file < 2; short_file++) {
            char *torn = mem_alloc(bytes);
            memcpy(torn, whole, cut);
            file_write(path, torn, short_file ? cut : bytes);
            mem_free(torn);
            file_write(mark_path(*dir), mark, mark_bytes);
            struct wal *wal = open_ok(*dir, false);
            expect_entries(wal, 1, 4);
            append_synced(wal, 5, 6);
            wal_close(wal);
            wal = open_ok(*dir, false);
            expect_entries(wal, 1, 6);
            wal_close(wal);
        }
    }
    mem_free(whole);
    mem_free(mark);
}

static void a_bad_last_record_is_cut(void **dir)
{
    char path[DATA_FILE_MAX];
    path_of(*dir, FIRST_LOG, path);
    size_t bytes;
    char *whole = unsynced_fifth(*dir, &bytes);
    uint64_t begin, end;
    extent(path, 5, &begin, &end);
    for (uint64_t at = begin; at < end; at++) {
        file_flip(path, (off_t)at, 0x10);
        struct wal *wal = open_ok(*dir, false);
        expect_entries(wal, 1, 4);
        wal_close(wal);
        file_write(path, whole, bytes);
    }
    mem_free(whole);
}

static void every_flipped_byte_in_the_middle_is_corruption(void **dir)
{
    char path[DATA_FILE_MAX];
    path_of(*dir, FIRST_LOG, path);
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 7);
    wal_close(wal);
    uint64_t begin, end;
    extent(path, 4, &begin, &end);
    for (uint64_t at = begin; at < end; at++)
        for (unsigned bit = 0; bit < 8; bit += 7) {
            file_flip(path, (off_t)at, (unsigned char)(1u << bit));
            expect_corrupt(*dir, path, "record 4");
            file_flip(path, (off_t)at, (unsigned char)(1u << bit));
        }
    for (uint64_t at = 0; at < sizeof(struct segment_header); at++) {
        file_flip(path, (off_t)at, 1);
        expect_corrupt(*dir, path, "header");
        file_flip(path, (off_t)at, 1);
    }
    wal_close(open_ok(*dir, false));
}

static void a_flip_in_a_batch_is_corruption_too(void **dir)
{
    /* Records of one write and one sync: no later record says that they were synced, but no sector of them is missing. */
    char path[DATA_FILE_MAX];
    path_of(*dir, FIRST_LOG, path);
    struct wal *wal = open_ok(*dir, true);
    for (uint64_t i = 1; i <= 7; i++)
        assert_int_equal(append_one(wal, i, 1, NULL), TIDE_OK);
    assert_int_equal(wal_sync(wal, NULL), TIDE_OK);
    wal_close(wal);
    uint64_t begin, end;
    extent(path, 4, &begin, &end);
    for (uint64_t at = begin; at < end; at++) {
        file_flip(path, (off_t)at, 1);
        expect_corrupt(*dir, path, "record 4");
        file_flip(path, (off_t)at, 1);
    }
}

static void zero_sector(const char *path, uint64_t begin)
{
    size_t bytes;
    char *data = file_read(path, &bytes);
    memset(data + begin, 0, 512);
    file_write(path, data, bytes);
    mem_free(data);
}

/* A host that loses power may keep the later sectors of a write and not the earlier ones. */
static void a_hole_in_an_unsynced_write_is_a_torn_tail(void **dir)
{
    char path[DATA_FILE_MAX];
    path_of(*dir, FIRST_LOG, path);
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 3);
    uint64_t begin, end;
    extent(path, 3, &begin, &end);
    for (uint64_t i = 4; i <= 30; i++)
        assert_int_equal(append_one(wal, i, 1, NULL), TIDE_OK);
    wal_close(wal);
    zero_sector(path, (end / 512 + 1) * 512);
    wal = open_ok(*dir, false);
    assert_in_range(wal_last(wal), 3, 15);
    expect_entries(wal, 1, wal_last(wal));
    wal_close(wal);
}

static void a_hole_in_synced_records_is_corruption(void **dir)
{
    char path[DATA_FILE_MAX];
    path_of(*dir, FIRST_LOG, path);
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 30);
    wal_close(wal);
    zero_sector(path, 1024);
    expect_corrupt(*dir, path, "record");
}

/* Whole in itself, and at its place by index and length; but the chain of another log. */
static void a_record_of_another_log_is_corruption(void **dir)
{
    char path[DATA_FILE_MAX], other[DATA_FILE_MAX], other_path[DATA_FILE_MAX];
    path_of(*dir, FIRST_LOG, path);
    path_of(*dir, "other", other);
    assert_int_equal(fsx_mkdirs(other, 0700, NULL), TIDE_OK);
    path_of(other, FIRST_LOG, other_path);
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 7);
    wal_close(wal);
    wal = open_ok(other, true);
    append_synced(wal, 1, 7);
    wal_close(wal);
    uint64_t begin, end;
    size_t bytes;
    extent(path, 4, &begin, &end);
    char *ours = file_read(path, &bytes), *theirs = file_read(other_path, &bytes);
    memcpy(ours + begin, theirs + begin, end - begin);
    file_write(path, ours, bytes);
    mem_free(ours);
    mem_free(theirs);
    expect_corrupt(*dir, path, "record 4 at offset");
}

static void a_bad_segment_in_the_middle_is_corruption(void **dir)
{
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 120);
    wal_close(wal);
    char path[DATA_FILE_MAX];
    path_of(*dir, FIRST_LOG, path);
    size_t bytes;
    char *data = file_read(path, &bytes);
    struct segment_scan scan;
    segment_scan(data, bytes, 1, NULL, true, &scan);
    uint64_t last = scan.offsets[scan.count - 1];
    segment_scan_release(&scan);
    file_flip(path, (off_t)last + 60, 1);
    expect_corrupt(*dir, path, "a segment follows");
    file_write(path, data, bytes - 100); /* shortened behind its last record */
    struct err err = {0};
    assert_int_equal(wal_open(*dir, CLUSTER, &small, false, 1, 0, &wal, &err), TIDE_E_CORRUPT);
    mem_free(data);
}

static void another_clusters_segment_is_refused(void **dir)
{
    struct wal *wal = open_ok(*dir, true);
    wal_close(wal);
    struct err err = {0};
    assert_int_equal(wal_open(*dir, "ffffffffffffffff", &small, false, 1, 0, &wal, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "belongs to cluster " CLUSTER));
}

static void a_tail_can_be_taken_back(void **dir)
{
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 150);
    for (uint64_t from = 150; from > 1; from -= 37) {
        assert_int_equal(wal_truncate_from(wal, from, NULL), TIDE_OK);
        expect_entries(wal, 1, from - 1);
        wal_close(wal);
        wal = open_ok(*dir, false);
        expect_entries(wal, 1, from - 1);
        append_synced(wal, from, from);
        if (from < 37)
            break;
    }
    assert_int_equal(wal_truncate_from(wal, 1, NULL), TIDE_OK);
    assert_int_equal(wal_last(wal), 0);
    append_synced(wal, 1, 3);
    expect_entries(wal, 1, 3);
    struct err err = {0};
    assert_int_equal(wal_truncate_from(wal, 9, &err), TIDE_E_STATE);
    wal_close(wal);
}

static void compaction_drops_whole_segments_only(void **dir)
{
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 200);
    uint64_t bytes = wal_bytes(wal);
    assert_int_equal(wal_compact(wal, 100, NULL), TIDE_OK);
    assert_in_range(wal_first(wal), 2, 101);
    assert_true(wal_bytes(wal) < bytes);
    uint64_t first = wal_first(wal);
    expect_entries(wal, first, 200);
    assert_int_equal(wal_compact(wal, 100000, NULL), TIDE_OK); /* never the newest */
    first = wal_first(wal);
    expect_entries(wal, first, 200);
    wal_close(wal);
    struct err err = {0};
    assert_int_equal(wal_open(*dir, CLUSTER, &small, false, first - 1, 1, &wal, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "covers only the records up to"));
    assert_int_equal(wal_open(*dir, CLUSTER, &small, false, first, 1, &wal, NULL), TIDE_OK);
    expect_entries(wal, first, 200);
    append_synced(wal, 201, 300);
    expect_entries(wal, first, 300);
    uint64_t next = 1;
    assert_int_equal(wal_read(wal, 1, 5, expect_next, &next, &err), TIDE_E_STATE);
    wal_close(wal);
}

static void a_snapshot_may_overtake_the_log(void **dir)
{
    char old[DATA_FILE_MAX];
    path_of(*dir, FIRST_LOG, old);
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 5);
    size_t bytes;
    char *first_segment = file_read(old, &bytes);
    assert_int_equal(wal_reset(wal, 1001, NULL), TIDE_OK);
    append_synced(wal, 1001, 1003);
    expect_entries(wal, 1001, 1003);
    wal_close(wal);
    /* As if the process had died before the old segment was removed. */
    file_write(old, first_segment, bytes);
    mem_free(first_segment);
    assert_int_equal(wal_open(*dir, CLUSTER, &small, false, 1001, 1, &wal, NULL), TIDE_OK);
    expect_entries(wal, 1001, 1003);
    wal_close(wal);
    assert_int_not_equal(access(old, F_OK), 0);
}

static struct wal *open_behind(const char *dir, uint64_t index, uint64_t term)
{
    struct wal *wal = NULL;
    assert_int_equal(wal_open(dir, CLUSTER, &small, false, index + 1, term, &wal, NULL), TIDE_OK);
    return wal;
}

static void a_snapshot_may_replace_the_end_of_the_log(void **dir)
{
    static const uint64_t covered[] = {1, 30, 100, 149, 150};
    for (size_t i = 0; i < sizeof covered / sizeof covered[0]; i++) {
        char path[DATA_FILE_MAX];
        datadir_numbered(*dir, "of-", i, "", path);
        assert_int_equal(fsx_mkdirs(path, 0700, NULL), TIDE_OK);
        struct wal *wal = open_ok(path, true);
        append_synced(wal, 1, 150);
        assert_int_equal(wal_reset(wal, covered[i] + 1, NULL), TIDE_OK);
        assert_int_equal(wal_first(wal), covered[i] + 1);
        assert_int_equal(wal_last(wal), covered[i]);
        assert_int_equal(wal_synced(wal), covered[i]);
        append_synced(wal, covered[i] + 1, covered[i] + 80);
        expect_entries(wal, covered[i] + 1, covered[i] + 80);
        wal_close(wal);
        wal = open_behind(path, covered[i], 9);
        expect_entries(wal, covered[i] + 1, covered[i] + 80);
        struct err err = {0};
        if (covered[i] > 1)
            assert_int_equal(wal_reset(wal, covered[i], &err), TIDE_E_STATE);
        /* The first entry of the log may be its last one again. */
        assert_int_equal(wal_reset(wal, covered[i] + 1, NULL), TIDE_OK);
        append_synced(wal, covered[i] + 1, covered[i] + 2);
        expect_entries(wal, covered[i] + 1, covered[i] + 2);
        wal_close(wal);
    }
}

static void a_log_of_a_replaced_history_is_discarded(void **dir)
{
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 150); /* term 1 */
    wal_close(wal);
    wal = open_behind(*dir, 100, 1);
    expect_entries(wal, 1, 150);
    wal_close(wal);
    wal = open_behind(*dir, 100, 2);
    assert_int_equal(wal_first(wal), 101);
    assert_int_equal(wal_last(wal), 100);
    append_synced(wal, 101, 110);
    wal_close(wal);
    wal = open_behind(*dir, 200, 2); /* it ends before the snapshot */
    assert_int_equal(wal_first(wal), 201);
    assert_int_equal(wal_last(wal), 200);
    append_synced(wal, 201, 300);
    expect_entries(wal, 201, 300);
    wal_close(wal);
    wal = open_behind(*dir, 200, 2);
    expect_entries(wal, 201, 300);
    wal_close(wal);
}

/* A file-size limit stands in for a disk that refuses a write. */
static void a_failed_write_closes_the_log(void **dir)
{
    struct wal *wal = open_ok(*dir, true);
    append_synced(wal, 1, 3);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit was, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    tight = was;
    tight.rlim_cur = 256;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    struct err err = {0};
    enum tide_status status = TIDE_OK;
    for (uint64_t i = 4; i < 10 && status == TIDE_OK; i++)
        status = append_one(wal, i, 1, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_int_equal(status, TIDE_E_IO);
    assert_non_null(strstr(err.text, "cannot write record"));
    /* There is room again, but what lies in those pages is unknown. */
    assert_int_equal(wal_sync(wal, &err), TIDE_E_IO);
    assert_int_equal(append_one(wal, 4, 1, &err), TIDE_E_IO);
    assert_non_null(strstr(err.text, "closed after an error"));
    wal_close(wal);
    wal = open_ok(*dir, false);
    assert_in_range(wal_last(wal), 3, 5);
    expect_entries(wal, 1, wal_last(wal));
    wal_close(wal);
}

static void no_room_for_a_segment_is_an_error_not_a_hole(void **dir)
{
    struct wal *wal = open_ok(*dir, true);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit was, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    struct err err = {0};
    append_synced(wal, 1, 30);
    tight = was;
    tight.rlim_cur = SMALL - 1; /* the present segment may still be filled, but for its last bytes; no other made */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    enum tide_status status = TIDE_OK;
    uint64_t last = 30;
    for (uint64_t i = 31; i < 200 && status == TIDE_OK; i++) {
        status = append_one(wal, i, 1, &err);
        if (status == TIDE_OK && wal_sync(wal, NULL) == TIDE_OK)
            last = i;
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_int_equal(status, TIDE_E_IO);
    wal_close(wal);
    wal = open_ok(*dir, false);
    expect_entries(wal, 1, last);
    append_synced(wal, last + 1, last + 50);
    wal_close(wal);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, dir_make, dir_drop)

int main(void)
{
    log_init("test_wal", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(what_was_appended_is_read_again),
        TEST(a_gap_or_an_older_term_is_refused),
        TEST(segments_roll_and_are_chained),
        TEST(a_torn_tail_is_cut_at_every_byte),
        TEST(a_bad_last_record_is_cut),
        TEST(every_flipped_byte_in_the_middle_is_corruption),
        TEST(a_flip_in_a_batch_is_corruption_too),
        TEST(a_hole_in_an_unsynced_write_is_a_torn_tail),
        TEST(a_hole_in_synced_records_is_corruption),
        TEST(a_record_of_another_log_is_corruption),
        TEST(a_bad_segment_in_the_middle_is_corruption),
        TEST(another_clusters_segment_is_refused),
        TEST(a_tail_can_be_taken_back),
        TEST(compaction_drops_whole_segments_only),
        TEST(a_snapshot_may_overtake_the_log),
        TEST(a_snapshot_may_replace_the_end_of_the_log),
        TEST(a_log_of_a_replaced_history_is_discarded),
        TEST(a_failed_write_closes_the_log),
        TEST(no_room_for_a_segment_is_an_error_not_a_hole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
