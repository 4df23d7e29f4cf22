/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/rpc/logs.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"

#define UID_A "00000000000000aa"
#define UID_B "00000000000000bb"

static char root[64];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/tide-logs-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return fsx_remove_tree(root, NULL) == TIDE_OK ? 0 : -1;
}

static void put(const char *name, const char *text)
{
    char path[256], dir[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    text_copy(dir, sizeof dir, path);
    *strrchr(dir, '/') = '\0';
    assert_int_equal(fsx_mkdirs(dir, 0755, NULL), TIDE_OK);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static struct log_query query_at(uint64_t offset)
{
    struct log_query query = {.generation = 1, .offset = offset};
    text_copy(query.job, sizeof query.job, "train");
    text_copy(query.uid, sizeof query.uid, UID_A);
    return query;
}

static void reads(uint64_t offset, uint64_t from, const char *text)
{
    struct log_query query = query_at(offset);
    struct log_piece piece;
    struct err err = {0};
    assert_int_equal(logs_read(root, &query, &piece, &err), TIDE_OK);
    assert_int_equal(piece.offset, from);
    assert_int_equal(piece.bytes, strlen(text));
    assert_memory_equal(piece.data, text, strlen(text));
    mem_free(piece.data);
}

static void offsets_go_on_over_a_rotation(void **state)
{
    (void)state;
    put("train." UID_A "/1/rank0.out", "0123456789");
    reads(0, 0, "0123456789");
    reads(4, 4, "456789");
    reads(10, 10, "");
    reads(99, 10, ""); /* behind the end: the end */
    put("train." UID_A "/1/rank0.out.1", "0123456789");
    put("train." UID_A "/1/rank0.out", "abcde");
    put("train." UID_A "/1/rank0.out.base", "0\n");
    reads(0, 0, "0123456789abcde");
    reads(8, 8, "89abcde");
    reads(12, 12, "cde");
    put("train." UID_A "/1/rank0.out.1", "abcdefghij");
    put("train." UID_A "/1/rank0.out", "XY");
    put("train." UID_A "/1/rank0.out.base", "10\n");
    reads(0, 10, "abcdefghijXY"); /* the oldest are gone, and that is said */
    reads(21, 21, "Y");
}

static void files_on_the_move_are_not_believed(void **state)
{
    (void)state;
    put("train." UID_A "/1/rank0.out.1", "0123456789");
    put("train." UID_A "/1/rank0.out", "abc");
    struct log_query query = query_at(0);
    struct log_piece piece;
    struct err err = {0};
    assert_int_equal(logs_read(root, &query, &piece, &err), TIDE_E_UNAVAILABLE);
}

static void a_rank_that_is_not_here_has_no_file(void **state)
{
    (void)state;
    put("train." UID_A "/1/rank0.out", "x");
    struct log_query query = query_at(0);
    struct log_piece piece;
    struct err err = {0};
    query.rank = 5;
    assert_int_equal(logs_read(root, &query, &piece, &err), TIDE_OK);
    assert_false(piece.exists);
    mem_free(piece.data);
}

static void the_newest_generation_and_job_are_found(void **state)
{
    (void)state;
    struct err err = {0};
    struct log_query query = {0};
    put("train." UID_A "/1/rank0.out", "x");
    put("train." UID_A "/9/rank0.out", "x");
    put("train." UID_A "/10/rank0.out", "x");
    put("train." UID_A "/junk/rank0.out", "x");
    assert_int_equal(logs_find(root, &query, &err), TIDE_E_INVALID);
    assert_int_equal(log_query_set(&query, "job", "train", &err), TIDE_OK);
    assert_int_equal(logs_find(root, &query, &err), TIDE_OK);
    assert_int_equal(query.generation, 10);
    assert_string_equal(query.uid, UID_A);
    usleep(20000);
    put("train." UID_B "/2/rank0.out", "x");
    query = (struct log_query){.job = "train"};
    assert_int_equal(logs_find(root, &query, &err), TIDE_OK);
    assert_string_equal(query.uid, UID_B);
    query.generation = 7;
    assert_int_equal(logs_find(root, &query, &err), TIDE_E_NOT_FOUND);
    query = (struct log_query){.job = "other"};
    assert_int_equal(logs_find(root, &query, &err), TIDE_E_NOT_FOUND);
}

static void nothing_of_a_request_leads_out_of_the_directory(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"job", "../etc"}, {"job", "a/b"}, {"job", ""}, {"job", ".."}, {"uid", "../../../../etc1"}, {"uid", "00000000000000AA"},
        {"stream", "../x"}, {"stream", ""}, {"rank", "-1"}, {"rank", "1x"}, {"rank", "99999999999999999999"}, {"rank", ""},
        {"generation", "1/../2"}, {"offset", "0x10"}, {"wait_ms", "60001"}, {"path", "x"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct log_query query = {0}, before = {0};
        struct err err = {0};
        assert_int_equal(log_query_set(&query, bad[i][0], bad[i][1], &err), TIDE_E_INVALID);
        assert_memory_equal(&query, &before, sizeof query);
        assert_non_null(strstr(err.text, bad[i][0]));
    }
}

static bool is_job(void *context, const char *uid)
{
    return strcmp(uid, context) == 0;
}

static void old_logs_go(void **state)
{
    (void)state;
    char name[128];
    for (unsigned i = 1; i <= LOG_GENERATIONS_MAX + 3; i++) {
        snprintf(name, sizeof name, "train." UID_A "/%u/rank0.out", i);
        put(name, "x");
    }
    logs_prune(root, "train", UID_A, is_job, "");
    struct err err = {0};
    struct log_query query = query_at(0);
    query.generation = 3;
    assert_int_equal(logs_find(root, &query, &err), TIDE_E_NOT_FOUND);
    query.generation = 4;
    assert_int_equal(logs_find(root, &query, &err), TIDE_OK);
    for (unsigned i = 0; i < LOG_JOBS_MAX; i++) {
        snprintf(name, sizeof name, "next.%016x/1/rank0.out", i);
        put(name, "x");
    }
    usleep(20000);
    put("youngest." UID_B "/1/rank0.out", "x");
    /* The oldest of all still runs: what it prints is kept. */
    logs_prune(root, "youngest", UID_B, is_job, UID_A);
    query = (struct log_query){.job = "train"};
    assert_int_equal(logs_find(root, &query, &err), TIDE_OK);
    logs_prune(root, "youngest", UID_B, is_job, "");
    query = (struct log_query){.job = "train"};
    assert_int_equal(logs_find(root, &query, &err), TIDE_E_NOT_FOUND);
    query = (struct log_query){.job = "youngest"};
    assert_int_equal(logs_find(root, &query, &err), TIDE_OK);
}

static void a_key_stays_with_the_logs(void **state)
{
    (void)state;
    struct log_query query = query_at(0), other = {.job = "train", .uid = UID_B};
    struct err err = {0};
    struct stat st;
    char *key = NULL, path[256];
    put("train." UID_A "/1/rank0.out", "text");
    assert_int_equal(logs_key(root, &query, &key, &err), TIDE_OK);
    assert_null(key);
    assert_int_equal(logs_key_save(root, "train", UID_A, "0123456789abcdef0123456789abcdef", &err), TIDE_OK);
    assert_int_equal(logs_key(root, &query, &key, &err), TIDE_OK);
    assert_string_equal(key, "0123456789abcdef0123456789abcdef");
    mem_free(key);
    snprintf(path, sizeof path, "%s/train." UID_A "/key", root);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(logs_key(root, &other, &key, &err), TIDE_OK);
    assert_null(key);
    /* It is not taken for a generation. */
    query.generation = 0;
    assert_int_equal(logs_find(root, &query, &err), TIDE_OK);
    assert_int_equal(query.generation, 1);
    /* Something there that cannot be read as one keeps the logs shut. */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_not_equal(logs_key(root, &query, &key, &err), TIDE_OK);
}

#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(offsets_go_on_over_a_rotation),
        LOG_TEST(files_on_the_move_are_not_believed),
        LOG_TEST(a_rank_that_is_not_here_has_no_file),
        LOG_TEST(the_newest_generation_and_job_are_found),
        LOG_TEST(nothing_of_a_request_leads_out_of_the_directory),
        LOG_TEST(old_logs_go),
        LOG_TEST(a_key_stays_with_the_logs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
