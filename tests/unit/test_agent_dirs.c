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

#include "agent/rpc/dirs.h"
#include "ckpt/base/fsx.h"

/* What an agent remembers in its state directory. */

#define JOB "0123456789abcdef"
#define OTHER "fedcba9876543210"

static char root[64];
static struct dirs dirs;

static int open_it(void **state)
{
    (void)state;
    char own[80];
    snprintf(root, sizeof root, "/tmp/tide-dirs-XXXXXX");
    assert_non_null(mkdtemp(root));
    snprintf(own, sizeof own, "%s/state", root);
    return dirs_open(own, root, &dirs, NULL) == TIDE_OK ? 0 : -1;
}

static int close_it(void **state)
{
    (void)state;
    dirs_close(&dirs);
    return fsx_remove_tree(root, NULL) == TIDE_OK ? 0 : -1;
}

struct seen {
    unsigned count;
    uint64_t of_job, of_other;
};

static void see(void *context, const char *uid, uint64_t generation)
{
    struct seen *seen = context;
    seen->count++;
    if (strcmp(uid, JOB) == 0)
        seen->of_job = generation;
    if (strcmp(uid, OTHER) == 0)
        seen->of_other = generation;
}

static struct seen look(void)
{
    struct seen seen = {0};
    begun_each(&dirs, see, &seen);
    return seen;
}

static void the_newest_generation_begun_is_remembered(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(look().count, 0);
    assert_int_equal(begun_note(&dirs, JOB, 9, &err), TIDE_OK);
    assert_int_equal(begun_note(&dirs, OTHER, 2, &err), TIDE_OK);
    assert_int_equal(begun_note(&dirs, JOB, 10, &err), TIDE_OK);
    assert_int_equal(begun_note(&dirs, JOB, 10, &err), TIDE_OK);
    assert_int_equal(look().count, 2);
    assert_int_equal(look().of_job, 10);
    assert_int_equal(look().of_other, 2);
    begun_forget(&dirs, JOB);
    assert_int_equal(look().count, 1);
    assert_int_equal(look().of_job, 0);
    begun_forget(&dirs, JOB);
}

static void what_is_no_note_is_passed_over(void **state)
{
    (void)state;
    static const char *const names[] = {"x", JOB, JOB ".g", JOB ".g0", JOB ".g1x", JOB ".h1", "0123456789ABCDEF.g1",
                                        JOB ".g99999999999999999999999"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[TIDE_PATH_MAX + 64];
        snprintf(path, sizeof path, "%s/%s", dirs.begun, names[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    assert_int_equal(look().count, 0);
}

/* The uid of this node is known to all; a directory of that name may be somebody else's. */
static void an_arena_that_others_may_write_into_is_refused(void **state)
{
    (void)state;
    char own[80];
    struct dirs again;
    struct err err = {0};
    snprintf(own, sizeof own, "%s/state", root);
    dirs_close(&dirs);
    assert_int_equal(mkdir(dirs.arena, 0700), 0);
    assert_int_equal(chmod(dirs.arena, 0777), 0);
    assert_int_equal(dirs_open(own, root, &again, &err), TIDE_E_DENIED);
    assert_non_null(strstr(err.text, dirs.arena));
    assert_int_equal(rmdir(dirs.arena), 0);
    assert_int_equal(dirs_open(own, root, &dirs, &err), TIDE_OK);
}

/* ---- which cluster, and which of its histories ---- */

#define CLUSTER "00c0ffee00c0ffee"
#define FIRST (UINT64_C(1) << 32 | 7)
#define SECOND (UINT64_C(2) << 32 | 1)

static void open_again(void)
{
    char own[80];
    dirs_close(&dirs);
    snprintf(own, sizeof own, "%s/state", root);
    assert_int_equal(dirs_open(own, root, &dirs, NULL), TIDE_OK);
}

static void a_recovery_is_remembered(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(dirs_join(&dirs, CLUSTER, 0, &err), TIDE_OK);
    open_again();
    assert_string_equal(dirs.cluster, CLUSTER);
    assert_true(dirs.epoch == 0);
    assert_int_equal(dirs_join(&dirs, CLUSTER, FIRST, &err), TIDE_OK);
    open_again();
    assert_string_equal(dirs.cluster, CLUSTER);
    assert_true(dirs.epoch == FIRST);
    /* One of before it, or of another recovery of the same. */
    assert_int_equal(dirs_join(&dirs, CLUSTER, 0, &err), TIDE_E_STALE);
    assert_int_equal(dirs_join(&dirs, CLUSTER, FIRST + 1, &err), TIDE_E_STALE);
    assert_int_equal(dirs_join(&dirs, CLUSTER, SECOND, &err), TIDE_OK);
    open_again();
    assert_true(dirs.epoch == SECOND);
}

/* What was recovered was another cluster. */
static void another_cluster_begins_anew(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(dirs_join(&dirs, CLUSTER, SECOND, &err), TIDE_OK);
    assert_int_equal(dirs_join(&dirs, OTHER, 0, &err), TIDE_OK);
    assert_true(dirs.epoch == 0);
    open_again();
    assert_string_equal(dirs.cluster, OTHER);
    assert_true(dirs.epoch == 0);
    assert_int_equal(dirs_join(&dirs, OTHER, FIRST, &err), TIDE_OK);
    open_again();
    assert_true(dirs.epoch == FIRST);
}

static void an_epoch_that_cannot_be_read_is_no_epoch_zero(void **state)
{
    (void)state;
    char path[TIDE_PATH_MAX + 32], own[80];
    struct err err = {0};
    snprintf(path, sizeof path, "%s/cluster.epoch", dirs.state);
    snprintf(own, sizeof own, "%s/state", root);
    assert_int_equal(dirs_join(&dirs, OTHER, 0, &err), TIDE_OK);
    assert_int_equal(fsx_replace(path, OTHER " 1-xyz\n", 23, 0644, &err), TIDE_OK);
    dirs_close(&dirs);
    assert_int_equal(dirs_open(own, root, &dirs, &err), TIDE_E_CORRUPT);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(dirs_open(own, root, &dirs, NULL), TIDE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_generation_begun_is_remembered, open_it, close_it),
        cmocka_unit_test_setup_teardown(what_is_no_note_is_passed_over, open_it, close_it),
        cmocka_unit_test_setup_teardown(an_arena_that_others_may_write_into_is_refused, open_it, close_it),
        cmocka_unit_test_setup_teardown(a_recovery_is_remembered, open_it, close_it),
        cmocka_unit_test_setup_teardown(another_cluster_begins_anew, open_it, close_it),
        cmocka_unit_test_setup_teardown(an_epoch_that_cannot_be_read_is_no_epoch_zero, open_it, close_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
