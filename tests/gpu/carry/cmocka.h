/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GPU_CARRY_CMOCKA_H
#define TESTS_GPU_CARRY_CMOCKA_H

/* As much of cmocka's interface as the tests of device memory use, for machines where nothing can be installed. The first
 * failure ends the program. Prints TAP. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test)(void **);
    int (*setup)(void **);
    int (*teardown)(void **);
};

static inline void carry_check(int good, const char *what, const char *file, int line)
{
    if (good)
        return;
    printf("not ok - %s:%d: %s\n", file, line, what);
    exit(1);
}

static inline void carry_equal(int64_t a, int64_t b, const char *what, const char *file, int line)
{
    if (a != b)
        printf("# %lld is not %lld\n", (long long)a, (long long)b);
    carry_check(a == b, what, file, line);
}

#define assert_true(x) carry_check(!!(x), #x, __FILE__, __LINE__)
#define assert_non_null(x) carry_check((x) != NULL, #x, __FILE__, __LINE__)
#define assert_int_equal(a, b) carry_equal((int64_t)(a), (int64_t)(b), #a " == " #b, __FILE__, __LINE__)
#define assert_int_not_equal(a, b) carry_check((int64_t)(a) != (int64_t)(b), #a " != " #b, __FILE__, __LINE__)
#define assert_string_equal(a, b) carry_check(strcmp(a, b) == 0, #a " == " #b, __FILE__, __LINE__)
#define assert_memory_equal(a, b, n) carry_check(memcmp(a, b, n) == 0, #a " == " #b, __FILE__, __LINE__)
#define fail_msg(...) (printf("# " __VA_ARGS__), printf("\n"), carry_check(0, "see above", __FILE__, __LINE__))

#define cmocka_unit_test_setup_teardown(f, s, t)                                                                            \
    {                                                                                                                       \
        .name = #f, .test = f, .setup = s, .teardown = t                                                                    \
    }

static inline int carry_run(const struct CMUnitTest *tests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *state = NULL;
        carry_check(tests[i].setup(&state) == 0, "setup", tests[i].name, 0);
        tests[i].test(&state);
        carry_check(tests[i].teardown(&state) == 0, "teardown", tests[i].name, 0);
        printf("ok %zu - %s\n", i + 1, tests[i].name);
        fflush(stdout);
    }
    printf("1..%zu\n", count);
    return 0;
}

#define cmocka_run_group_tests(tests, setup, teardown) carry_run(tests, sizeof(tests) / sizeof((tests)[0]))

#endif
