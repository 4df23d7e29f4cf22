/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/rpc/pages.h"
#include "ckpt/base/rng.h"

static void an_arming_ahead_of_the_rank_stands(void **state)
{
    (void)state;
    struct control_page page = {.armed_step = STEP_NONE, .step = 10};
    uint64_t at = 0;
    assert_int_equal(page_arm(&page, 1, 1, 0, 20, 0, &at), ARM_ARMED);
    assert_int_equal(page.armed_step, 20);
    /* The same again, by an agent that was restarted. */
    assert_int_equal(page_arm(&page, 1, 1, 0, 20, 0, &at), ARM_ARMED);
    /* A later attempt takes its place. */
    assert_int_equal(page_arm(&page, 1, 2, 1, 30, 0, &at), ARM_ARMED);
    assert_int_equal(page.armed_step, 30);
    assert_int_equal(page.armed_slot, 1);
    page_disarm(&page, 9);
    assert_int_equal(page.armed_step, 30);
    page_disarm(&page, 1);
    assert_int_equal(page.armed_step, STEP_NONE);
}

static void a_step_that_is_over_is_missed(void **state)
{
    (void)state;
    struct control_page page = {.armed_step = STEP_NONE, .step = 20};
    uint64_t at = 0;
    assert_int_equal(page_arm(&page, 1, 1, 0, 20, 0, &at), ARM_MISSED);
    assert_int_equal(at, 20);
    assert_int_equal(page.armed_step, STEP_NONE);
}

/* Armed by an agent that was killed before it looked at the step. */
static void an_arming_passed_by_is_missed(void **state)
{
    (void)state;
    struct control_page page = {.armed_step = 20, .armed_cut = 1, .armed_attempt = 1, .step = 25};
    uint64_t at = 0;
    assert_int_equal(page_arm(&page, 1, 1, 0, 20, 0, &at), ARM_MISSED);
    assert_int_equal(at, 25);
    assert_int_equal(page.armed_step, STEP_NONE);
}

static void a_record_under_way_is_left_alone(void **state)
{
    (void)state;
    struct control_page page = {.armed_step = STEP_TAKEN, .armed_cut = 1, .armed_attempt = 1, .step = 20};
    uint64_t at = 0;
    assert_int_equal(page_arm(&page, 1, 1, 0, 20, 0, &at), ARM_ARMED);
    assert_int_equal(page_arm(&page, 1, 2, 0, 40, 0, &at), ARM_BUSY);
    page_disarm(&page, 1);
    assert_int_equal(page.armed_step, STEP_TAKEN);
    assert_int_equal(page.armed_attempt, 1);
}

/* ---- the handshake between two threads: either the rank sees it or the agent says missed; never neither, never both ---- */

#define ATTEMPTS 3000u
#define AHEAD_STEPS_MAX 32u

struct race {
    struct control_page page;
    _Atomic uint64_t recorded_attempt;
    _Atomic int over;
};

static void *run_rank(void *context)
{
    struct race *race = context;
    for (uint64_t step = 1; !atomic_load(&race->over); step++) {
        for (volatile unsigned work = 0; work < 30; work++)
            continue;
        atomic_exchange(&race->page.step, step);
        uint64_t expected = step;
        if (atomic_load(&race->page.armed_step) == step &&
            atomic_compare_exchange_strong(&race->page.armed_step, &expected, STEP_TAKEN)) {
            atomic_store(&race->recorded_attempt, race->page.armed_attempt);
            atomic_store_explicit(&race->page.armed_step, STEP_NONE, memory_order_release);
        }
    }
    return NULL;
}

static void every_arming_ends_recorded_or_missed(void **state)
{
    (void)state;
    struct race race = {.page = {.armed_step = STEP_NONE}};
    struct rng rng = {42};
    pthread_t rank;
    uint64_t recorded = 0, missed = 0;
    assert_int_equal(pthread_create(&rank, NULL, run_rank, &race), 0);
    for (uint32_t attempt = 1; attempt <= ATTEMPTS; attempt++) {
        uint64_t at = 0, k = atomic_load(&race.page.step) + rng_below(&rng, AHEAD_STEPS_MAX);
        enum agent_arm_outcome outcome = page_arm(&race.page, 1, attempt, 0, k, 0, &at);
        assert_int_not_equal(outcome, ARM_BUSY);
        if (outcome == ARM_MISSED) {
            assert_true(at >= k);
            assert_int_not_equal(atomic_load(&race.recorded_attempt), attempt);
            missed++;
            continue;
        }
        while (atomic_load(&race.page.armed_step) != STEP_NONE)
            sched_yield();
        assert_int_equal(atomic_load(&race.recorded_attempt), attempt);
        recorded++;
    }
    atomic_store(&race.over, 1);
    pthread_join(rank, NULL);
    assert_true(recorded > 0);
    assert_int_equal(recorded + missed, ATTEMPTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_arming_ahead_of_the_rank_stands),
        cmocka_unit_test(a_step_that_is_over_is_missed),
        cmocka_unit_test(an_arming_passed_by_is_missed),
        cmocka_unit_test(a_record_under_way_is_left_alone),
        cmocka_unit_test(every_arming_ends_recorded_or_missed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
