/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
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
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <tidemark/types.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/store/store_dir.h"
#include "tests/unit/store_contract.h"
#include "tests/unit/own_mounts.h"

static char dir[64];
static int stat_fails; /* with this */

/* Before the C library's, which opens as much of a store's objects. */
int fstat(int fd, struct stat *ret_info)
{
    if (stat_fails != 0) {
        errno = stat_fails;
        return -1;
    }
    return fstatat(fd, "", ret_info, AT_EMPTY_PATH);
}

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

/* Who is told that an object is not there gives up a checkpoint. */
static void an_object_that_cannot_be_looked_at_is_not_called_missing(void **state)
{
    (void)state;
    struct err err = {0};
    char byte;
    uint64_t bytes;
    assert_int_equal(store_put(store, "a/b", "x", 1, &err), TIDE_OK);
    for (unsigned i = 0; i < 2; i++) {
        stat_fails = i ? ESTALE : EIO;
        assert_int_equal(store_get(store, "a/b", 0, &byte, 1, &err), TIDE_E_IO);
        assert_non_null(strstr(err.text, "cannot stat object"));
        assert_int_equal(store_size(store, "a/b", &bytes, &err), TIDE_E_IO);
        stat_fails = 0;
    }
    assert_int_equal(store_get(store, "a/b", 0, &byte, 1, &err), TIDE_OK);
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

static void litter_is_no_object(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    char litter[128];
    assert_int_equal(store_put(store, "m/j.1/0", "x", 1, &err), TIDE_OK);
    snprintf(litter, sizeof litter, "%s/m/j.1/%sdead", dir, STORE_DIR_TEMPORARY);
    assert_int_equal(fsx_replace(litter, "x", 1, 0600, &err), TIDE_OK);
    assert_int_equal(store_list(store, "", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 1);
    strlist_release(&keys);
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

/* Its lock went with it; who lives holds one. */
static void what_a_dead_writer_left_goes_with_the_next_list(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    char dead[128], alive[128];
    assert_int_equal(store_put(store, "c/a/1", "x", 1, &err), TIDE_OK);
    assert_int_equal(store_put(store, "c/b/1", "x", 1, &err), TIDE_OK);
    assert_int_equal(store_remove(store, "c/b/1", &err), TIDE_OK);
    snprintf(dead, sizeof dead, "%s/c/b", dir);
    assert_int_equal(mkdir(dead, 0700), 0);
    snprintf(dead, sizeof dead, "%s/c/b/~put.1", dir);
    snprintf(alive, sizeof alive, "%s/c/a/~put.2", dir);
    close(open(dead, O_WRONLY | O_CREAT | O_CLOEXEC, 0444));
    int fd = open(alive, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(store_list(store, "c/", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 1);
    strlist_release(&keys);
    assert_int_equal(access(alive, F_OK), 0);
    assert_int_equal(access(dead, F_OK), -1);
    *strrchr(dead, '/') = '\0';
    assert_int_equal(access(dead, F_OK), -1); /* the directory, which was empty then */
    close(fd);
    assert_int_equal(store_list(store, "c/a/", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 1);
    strlist_release(&keys);
    assert_int_equal(access(alive, F_OK), -1);
}

static void opening_proves_or_explains(void **state)
{
    (void)state;
    struct err err = {0};
    struct store *opened = NULL;
    struct strlist keys = {0};
    char url[128];
    refused("gs://bucket/x", TIDE_E_UNSUPPORTED, "s3://bucket/prefix");
    refused("s3://Bucket/x", TIDE_E_INVALID, "bucket");
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
        cmocka_unit_test_setup_teardown(an_object_that_cannot_be_looked_at_is_not_called_missing, open_default, close_it),
        BOTH(the_same_again_is_content),
        BOTH(what_is_missing_or_short_is_named),
        BOTH(lists_are_sorted_and_by_prefix),
        BOTH(several_lists_have_what_each_has),
        BOTH(removing_what_is_not_there_is_fine),
        BOTH(many_are_removed_together),
        BOTH(what_was_begun_goes_on_at_once),
        BOTH(litter_is_no_object),
        BOTH(removing_leaves_no_litter),
        BOTH(another_directory_in_its_place_is_noticed),
        BOTH(one_writer_wins_each_race),
        BOTH(writers_survive_a_purge_beside_them),
        cmocka_unit_test_setup_teardown(what_a_dead_writer_left_goes_with_the_next_list, open_default, close_it),
        cmocka_unit_test_setup_teardown(opening_proves_or_explains, open_default, close_it),
        cmocka_unit_test_setup_teardown(full_and_read_only_disks_are_told, open_default, close_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
