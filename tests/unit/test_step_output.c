/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/step/output.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"

struct place {
    char dir[64], path[128];
};

static int setup(void **state)
{
    struct place *place = mem_alloc(sizeof *place);
    text_copy(place->dir, sizeof place->dir, "/tmp/tide-test-XXXXXX");
    assert_non_null(mkdtemp(place->dir));
    snprintf(place->path, sizeof place->path, "%s/rank0.out", place->dir);
    *state = place;
    return 0;
}

static int teardown(void **state)
{
    struct place *place = *state;
    fsx_remove_tree(place->dir, NULL);
    mem_free(place);
    return 0;
}

/* Contents of path+suffix as heap text, "" when it is not there. */
static char *contents(const struct place *place, const char *suffix)
{
    char path[160], *text = NULL;
    size_t bytes = 0;
    snprintf(path, sizeof path, "%s%s", place->path, suffix);
    return fsx_read(path, 1u << 20, &text, &bytes, NULL) == TIDE_OK ? text : mem_strdup("");
}

static void expect_files(const struct place *place, const char *old, const char *new, const char *base)
{
    char *a = contents(place, ".1"), *b = contents(place, ""), *c = contents(place, ".base");
    assert_string_equal(a, old);
    assert_string_equal(b, new);
    assert_string_equal(c, base);
    mem_free(a);
    mem_free(b);
    mem_free(c);
}

static void keeps_two_files(void **state)
{
    const struct place *place = *state;
    struct output output;
    assert_int_equal(output_open(&output, place->path, 4, NULL), TIDE_OK);
    assert_true(output_write(&output, "abc", 3));
    expect_files(place, "", "abc", "");
    assert_true(output_write(&output, "d", 1));
    expect_files(place, "", "abcd", "");
    assert_true(output_write(&output, "ef", 2));
    expect_files(place, "abcd", "ef", "0\n");
    assert_true(output_write(&output, "ghijkl", 6));
    expect_files(place, "efgh", "ijkl", "4\n");
    assert_true(output_write(&output, "mnopqrstu", 9));
    expect_files(place, "qrst", "u", "16\n");
    output_close(&output);
    /* Opened anew: nothing of before is left. */
    assert_int_equal(output_open(&output, place->path, 4, NULL), TIDE_OK);
    expect_files(place, "", "", "");
    output_close(&output);
}

static void a_full_disk_costs_bytes_only(void **state)
{
    const struct place *place = *state;
    struct output output;
    assert_int_equal(output_open(&output, place->path, 100, NULL), TIDE_OK);
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 5;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    bool first = output_write(&output, "0123456789", 10), second = output_write(&output, "x", 1);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_false(first); /* told once */
    assert_true(second);
    assert_int_equal(output.lost, 6);
    assert_true(output_write(&output, "y", 1));
    expect_files(place, "", "01234y", "");
    output_close(&output);
}

/* No descriptor is to be had while the files are rotated: what is printed then is lost, what comes later is not. */
static void a_rotation_in_a_bad_moment_is_made_good(void **state)
{
    struct place *place = *state;
    struct output output;
    struct err err = {0};
    struct rlimit usual, none;
    assert_int_equal(output_open(&output, place->path, 4, &err), TIDE_OK);
    assert_true(output_write(&output, "abcd", 4));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = usual.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    bool told = !output_write(&output, "ef", 2);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    assert_true(told);
    assert_int_equal(output.lost, 2);
    assert_true(output_write(&output, "gh", 2));
    expect_files(place, "abcd", "gh", "0\n");
    output_close(&output);
}

static void a_bad_place_is_an_error(void **state)
{
    (void)state;
    struct output output;
    struct err err = {0};
    assert_int_equal(output_open(&output, "/proc/no/such/rank0.out", 0, &err), TIDE_E_IO);
    assert_non_null(strstr(err.text, "/proc/no/such/rank0.out"));
    char longer[TIDE_PATH_MAX + 2];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(output_open(&output, longer, 0, &err), TIDE_E_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(keeps_two_files, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_costs_bytes_only, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rotation_in_a_bad_moment_is_made_good, setup, teardown),
        cmocka_unit_test(a_bad_place_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
