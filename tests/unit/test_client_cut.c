/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_step.h"

/* A rank whose messages are coloured, and one that counts steps of its own. */

static struct fake_step step;
static struct tide *tide;

static int setup(void **state)
{
    (void)state;
    fake_start(&step, 3);
    tide = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tide_finalize(tide);
    tide = NULL;
    fake_stop(&step);
    return 0;
}

static void what_the_program_declares_reaches_the_agent(void **state)
{
    (void)state;
    struct tide_options options = {.size = sizeof options, .cut = TIDE_CUT_FREE + 1};
    assert_int_equal(tide_init(&tide, &options), TIDE_E_INVALID);
    assert_non_null(strstr(tide_error_text(NULL), "tide_options.cut is 3"));
    options.cut = TIDE_CUT_FREE;
    assert_int_equal(tide_init(&tide, &options), TIDE_OK);
    assert_int_equal(step.page->cut_declared, TIDE_CUT_FREE);
}

#define IN_A_JOB(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_JOB(what_the_program_declares_reaches_the_agent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
