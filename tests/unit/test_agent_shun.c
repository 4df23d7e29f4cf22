/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "agent/rpc/shun.h"
#include "ckpt/base/clock.h"

/* For how long agents that do not answer are left alone. */

#define A "10.0.0.1"
#define PORT 7072u
#define TOOK (2 * NS_PER_S)
#define AT (1000 * NS_PER_S)

static void who_answers_is_asked(void **state)
{
    (void)state;
    struct shun shun = {0};
    assert_false(shun_is(&shun, A, PORT, AT));
    shun_answered(&shun, A, PORT);
    assert_false(shun_is(&shun, A, PORT, AT));
}

static void who_is_silent_is_left_alone_for_a_while(void **state)
{
    (void)state;
    struct shun shun = {0};
    assert_int_equal(shun_silent(&shun, A, PORT, TOOK, AT), SHUN_MIN_S);
    assert_true(shun_is(&shun, A, PORT, AT));
    assert_true(shun_is(&shun, A, PORT, AT + SHUN_MIN_S * NS_PER_S - 1));
    assert_false(shun_is(&shun, A, PORT, AT + SHUN_MIN_S * NS_PER_S));
    /* Another agent of that host, or this one after it was started with another port, is another. */
    assert_false(shun_is(&shun, A, PORT + 1, AT));
    assert_false(shun_is(&shun, "10.0.0.2", PORT, AT));
}

static void each_time_for_longer(void **state)
{
    (void)state;
    struct shun shun = {0};
    uint64_t now_ns = AT;
    for (uint32_t want = SHUN_MIN_S, i = 0; i < 40; i++) {
        uint32_t seconds = shun_silent(&shun, A, PORT, TOOK, now_ns);
        assert_int_equal(seconds, want);
        now_ns += seconds * NS_PER_S;
        assert_false(shun_is(&shun, A, PORT, now_ns));
        want = 2 * want < SHUN_MAX_S ? 2 * want : SHUN_MAX_S;
    }
    /* One answer, and all that is forgotten. */
    shun_answered(&shun, A, PORT);
    assert_int_equal(shun.count, 0);
    assert_int_equal(shun_silent(&shun, A, PORT, TOOK, now_ns), SHUN_MIN_S);
}

/* An agent that is being started again. */
static void what_cost_nothing_is_no_reason(void **state)
{
    (void)state;
    struct shun shun = {0};
    assert_int_equal(shun_silent(&shun, A, PORT, SHUN_COST_MS * NS_PER_MS - 1, AT), 0);
    assert_false(shun_is(&shun, A, PORT, AT));
    assert_int_equal(shun.count, 0);
}

static void only_so_many_are_remembered(void **state)
{
    (void)state;
    struct shun shun = {0};
    for (uint32_t i = 0; i < SHUN_PEERS_MAX; i++)
        assert_int_equal(shun_silent(&shun, A, i + 1, TOOK, AT + (i == 5 ? 0 : 1 + i)), SHUN_MIN_S);
    assert_true(shun_is(&shun, A, 6, AT));
    assert_int_equal(shun_silent(&shun, A, 1000, TOOK, AT), SHUN_MIN_S);
    assert_int_equal(shun.count, SHUN_PEERS_MAX);
    assert_true(shun_is(&shun, A, 1000, AT));
    assert_false(shun_is(&shun, A, 6, AT)); /* it would have been asked again before all others */
    for (uint32_t i = 0; i < SHUN_PEERS_MAX; i++)
        assert_int_equal(shun_is(&shun, A, i + 1, AT), i != 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_answers_is_asked),
        cmocka_unit_test(who_is_silent_is_left_alone_for_a_while),
        cmocka_unit_test(each_time_for_longer),
        cmocka_unit_test(what_cost_nothing_is_no_reason),
        cmocka_unit_test(only_so_many_are_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
