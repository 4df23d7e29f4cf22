/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <tidemark/types.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/store/store_dir.h"

#define WRITERS 8
#define RACES 100

static char dir[64];
static struct store *store;

/* Every test runs twice: with files that have no name until they are whole, and with named temporary ones. */
static int open_with(unsigned flags)
{
    struct err err = {0};
    snprintf(dir, sizeof dir, "/tmp/tide-store-XXXXXX");
    assert_non_null(mkdtemp(dir));
    assert_int_equal(store_dir_open(dir, flags, &store, &err), TIDE_OK);
    return 0;
}

static int open_default(void **state)
{
    (void)state;
    return open_with(STORE_DIR_DEFAULT);
}

static int open_named(void **state)
{
    (void)state;
    return open_with(STORE_DIR_NAMED);
}

static int close_it(void **state)
{
    (void)state;
    struct err err = {0};
    store_close(store);
    return fsx_remove_tree(dir, &err) == TIDE_OK ? 0 : -1;
}

static void keys_stay_inside(void **state)
{
    (void)state;
    char longest[TIDE_PATH_MAX + 2];
    static const char *const good[] = {"a", "a/b", "A-z_0.9/..b/.c", "m/job.0123/7-1/COMMIT"};
    static const char *const bad[] = {"",       "/",   "/a",  "a/",  "a//b",   ".",    "..",
                                      "a/../b", "a/.", "a b", "a\n", "~put.1", "a\\b", "ä"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(store_key_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(store_key_valid(bad[i]));
    memset(longest, 'k', sizeof longest);
    longest[TIDE_PATH_MAX + 1] = '\0';
    assert_false(store_key_valid(longest));
    longest[TIDE_PATH_MAX] = '\0';
    assert_true(store_key_valid(longest));
}

static void objects_are_written_once(void **state)
{
    (void)state;
    struct err err = {0};
    char back[8];
    uint64_t bytes = 0;
    assert_int_equal(store_put(store, "c/00/x/1.pk", "payload", 8, &err), TIDE_OK);
    assert_int_equal(store_put(store, "c/00/x/1.pk", "another", 8, &err), TIDE_E_EXISTS);
    assert_non_null(strstr(err.text, "c/00/x/1.pk"));
    assert_int_equal(store_get(store, "c/00/x/1.pk", 0, back, 8, &err), TIDE_OK);
    assert_string_equal(back, "payload");
    assert_int_equal(store_get(store, "c/00/x/1.pk", 3, back, 5, &err), TIDE_OK);
    assert_string_equal(back, "load");
    assert_int_equal(store_size(store, "c/00/x/1.pk", &bytes, &err), TIDE_OK);
    assert_int_equal(bytes, 8);
    assert_int_equal(store_put(store, "empty", NULL, 0, &err), TIDE_OK);
    assert_int_equal(store_size(store, "empty", &bytes, &err), TIDE_OK);
    assert_int_equal(bytes, 0);
}

static void the_same_again_is_content(void **state)
{
    (void)state;
    struct err err = {0};
    size_t n = (2u << 20) + 7;
    char *data = mem_alloc(n);
    memset(data, 'd', n);
    assert_int_equal(store_put_same(store, "k", data, n, &err), TIDE_OK);
    assert_int_equal(store_put_same(store, "k", data, n, &err), TIDE_OK);
    assert_int_equal(store_put_same(store, "k", data, n - 1, &err), TIDE_E_EXISTS);
    data[n - 1] = 'x';
    assert_int_equal(store_put_same(store, "k", data, n, &err), TIDE_E_EXISTS);
    mem_free(data);
}

static void what_is_missing_or_short_is_named(void **state)
{
    (void)state;
    struct err err = {0};
    char back[16], *data = NULL;
    uint64_t bytes = 0;
    size_t n = 0;
    assert_int_equal(store_put(store, "d/short", "1234", 4, &err), TIDE_OK);
    assert_int_equal(store_get(store, "d/short", 0, back, 5, &err), TIDE_E_CORRUPT);
    assert_int_equal(store_get(store, "d/short", UINT64_MAX, back, 5, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "d/short"));
    assert_int_equal(store_get(store, "d/none", 0, back, 1, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(store_get(store, "d", 0, back, 1, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(store_size(store, "d/short/deeper", &bytes, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(store_put(store, "../outside", "1", 1, &err), TIDE_E_INVALID);
    assert_int_equal(store_read(store, "d/short", 3, &data, &n, &err), TIDE_E_LIMIT);
    assert_int_equal(store_read(store, "d/short", 4, &data, &n, &err), TIDE_OK);
    assert_string_equal(data, "1234");
    mem_free(data);
}

static void lists_are_sorted_and_by_prefix(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    static const char *const all[] = {"m/j.1/10-1/COMMIT", "m/j.1/1-1/0.json", "m/j.1/1-1/COMMIT", "m/j.1/1-2/0.json",
                                      "m/j.2/1-1/0.json"};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(store_put(store, all[i], "x", 1, &err), TIDE_OK);
    char litter[128];
    snprintf(litter, sizeof litter, "%s/m/j.1/%sdead", dir, STORE_DIR_TEMPORARY);
    assert_int_equal(fsx_replace(litter, "x", 1, 0600, &err), TIDE_OK);
    assert_int_equal(store_list(store, "m/j.1/1-", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 3);
    assert_string_equal(keys.items[0], "m/j.1/1-1/0.json");
    assert_string_equal(keys.items[2], "m/j.1/1-2/0.json");
    strlist_release(&keys);
    assert_int_equal(store_list(store, "", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 5);
    strlist_release(&keys);
    assert_int_equal(store_list(store, "nothing/here/", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 0);
}

static void removing_leaves_no_litter(void **state)
{
    (void)state;
    struct err err = {0};
    char path[128];
    assert_int_equal(store_put(store, "a/b/c/1", "x", 1, &err), TIDE_OK);
    assert_int_equal(store_put(store, "a/2", "x", 1, &err), TIDE_OK);
    assert_int_equal(store_remove(store, "a/b/c/1", &err), TIDE_OK);
    assert_int_equal(store_remove(store, "a/b/c/1", &err), TIDE_OK);
    snprintf(path, sizeof path, "%s/a/b", dir);
    assert_int_not_equal(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/a/2", dir);
    assert_int_equal(access(path, F_OK), 0);
}

/* ---- races ---- */

static pthread_barrier_t barrier;
static int winner[WRITERS][RACES];

/* A directory of the same name in its place: what is open is no longer where the address leads. */
static void another_directory_in_its_place_is_noticed(void **state)
{
    (void)state;
    struct err err = {0};
    char aside[80];
    snprintf(aside, sizeof aside, "%s.aside", dir);
    assert_false(store_moved(store));
    assert_int_equal(rename(dir, aside), 0);
    assert_true(store_moved(store));
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_true(store_moved(store));
    assert_int_equal(rmdir(dir), 0);
    assert_int_equal(rename(aside, dir), 0);
    assert_false(store_moved(store));
    assert_int_equal(store_put(store, "a", "x", 1, &err), TIDE_OK);
}

static void *race(void *argument)
{
    size_t me = (size_t)argument;
    struct err err = {0};
    char key[64], data[64];
    for (unsigned i = 0; i < RACES; i++) {
        snprintf(key, sizeof key, "race/%u/object", i);
        memset(data, (int)me + 1, sizeof data);
        pthread_barrier_wait(&barrier);
        winner[me][i] = store_put(store, key, data, sizeof data, &err) == TIDE_OK;
    }
    return NULL;
}

static void one_writer_wins_each_race(void **state)
{
    (void)state;
    pthread_t threads[WRITERS];
    struct err err = {0};
    pthread_barrier_init(&barrier, NULL, WRITERS);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, (void *)i), 0);
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    for (unsigned i = 0; i < RACES; i++) {
        char key[64], data[64];
        int winners = 0, who = 0;
        for (int w = 0; w < WRITERS; w++)
            if (winner[w][i]) {
                winners++;
                who = w + 1;
            }
        assert_int_equal(winners, 1);
        snprintf(key, sizeof key, "race/%u/object", i);
        assert_int_equal(store_get(store, key, 0, data, sizeof data, &err), TIDE_OK);
        for (size_t k = 0; k < sizeof data; k++)
            assert_int_equal(data[k], who);
    }
}

static void *remover(void *argument)
{
    struct err err = {0};
    for (unsigned i = 0; i < 4 * RACES; i++)
        if (store_remove(store, argument, &err) != TIDE_OK)
            return argument;
    return NULL;
}

static void writers_survive_a_purge_beside_them(void **state)
{
    (void)state;
    pthread_t thread;
    void *failed = NULL;
    struct err err = {0};
    static char key[] = "p/q/r/s";
    assert_int_equal(pthread_create(&thread, NULL, remover, key), 0);
    for (unsigned i = 0; i < RACES; i++) {
        enum tide_status status = store_put(store, key, "x", 1, &err);
        assert_true(status == TIDE_OK || status == TIDE_E_EXISTS || strstr(err.text, "directory"));
    }
    pthread_join(thread, &failed);
    assert_null(failed);
}

/* ---- opening ---- */

static void refused(const char *url, enum tide_status status, const char *words)
{
    struct err err = {0};
    struct store *opened = NULL;
    assert_int_equal(store_open(url, &opened, &err), status);
    assert_null(opened);
    assert_non_null(strstr(err.text, words));
}

static void opening_proves_or_explains(void **state)
{
    (void)state;
    struct err err = {0};
    struct store *opened = NULL;
    struct strlist keys = {0};
    char url[128];
    refused("s3://bucket/x", TIDE_E_UNSUPPORTED, "s3://bucket/x");
    refused("relative/dir", TIDE_E_INVALID, "absolute");
    refused("file://host/dir", TIDE_E_INVALID, "file:///");
    refused("/proc/tidemark-cannot-be-here", TIDE_E_IO, "/proc/tidemark-cannot-be-here");
    snprintf(url, sizeof url, "%s/file", dir);
    assert_int_equal(fsx_replace(url, "x", 1, 0600, &err), TIDE_OK);
    refused(url, TIDE_E_IO, "name another directory");
    snprintf(url, sizeof url, "file://%s/new/deep", dir);
    assert_int_equal(store_open(url, &opened, &err), TIDE_OK);
    assert_int_equal(store_list(opened, "", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 0);
    store_close(opened);
}

static bool write_line(const char *path, const char *format, unsigned id)
{
    FILE *to = fopen(path, "w");
    if (to == NULL)
        return false;
    fprintf(to, format, id, id);
    return fclose(to) == 0;
}

/* Who is not root is it in a user namespace, where that is allowed. */
static bool own_mounts(void)
{
    unsigned uid = getuid(), gid = getgid();
    if (uid == 0)
        return unshare(CLONE_NEWNS) == 0;
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_line("/proc/self/uid_map", "%u %u 1", uid) &&
           write_line("/proc/self/setgroups", "deny", 0) && write_line("/proc/self/gid_map", "%u %u 1", gid);
}

/* In a mount namespace of its own; exit status 77 when that is not allowed. */
static int on_small_disk(void)
{
    struct err err = {0};
    struct store *opened = NULL;
    if (!own_mounts() || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("small", dir, "tmpfs", 0, "size=1m"))
        return 77;
    if (store_open(dir, &opened, &err) != TIDE_OK)
        return 1;
    char *much = mem_alloc(4u << 20);
    enum tide_status full = store_put(opened, "a/b", much, 4u << 20, &err);
    mem_free(much);
    uint64_t bytes;
    if (full != TIDE_E_NOSPACE || store_size(opened, "a/b", &bytes, &err) != TIDE_E_NOT_FOUND)
        return 2;
    store_close(opened);
    if (mount("small", dir, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL))
        return 3;
    if (store_open(dir, &opened, &err) != TIDE_E_IO || !strstr(err.text, dir) || !strstr(err.text, "make it writable"))
        return 4;
    return 0;
}

static void full_and_read_only_disks_are_told(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(on_small_disk());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define BOTH(test)                                                                                                          \
    cmocka_unit_test_setup_teardown(test, open_default, close_it),                                                          \
    {                                                                                                                       \
#test " (named)", test, open_named, close_it, NULL                                                                  \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_stay_inside),
        BOTH(objects_are_written_once),
        BOTH(the_same_again_is_content),
        BOTH(what_is_missing_or_short_is_named),
        BOTH(lists_are_sorted_and_by_prefix),
        BOTH(removing_leaves_no_litter),
        BOTH(another_directory_in_its_place_is_noticed),
        BOTH(one_writer_wins_each_race),
        BOTH(writers_survive_a_purge_beside_them),
        cmocka_unit_test_setup_teardown(opening_proves_or_explains, open_default, close_it),
        cmocka_unit_test_setup_teardown(full_and_read_only_disks_are_told, open_default, close_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
