/* SPDX-License-Identifier: Apache-2.0 */
/* How long what a probe found counts (agent/health/health.h), and what is told of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "agent/health/health.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

struct world {
    struct health *health;
    uint64_t now_ns;
    struct health_report said;
};

static int begin(void **state)
{
    struct world *w = mem_alloc(sizeof *w);
    w->health = health_create("b00t", 100);
    w->now_ns = NS_PER_S;
    *state = w;
    return 0;
}

static int end(void **state)
{
    struct world *w = *state;
    health_free(w->health);
    codec_release(&health_report_codec, &w->said);
    mem_free(w);
    return 0;
}

static const struct health_facts *said(struct world *w)
{
    codec_release(&health_report_codec, &w->said);
    health_report(w->health, w->now_ns, &w->said);
    return &w->said.facts;
}

static bool found(struct world *w, struct finding finding)
{
    if (finding.probe == NULL)
        finding.probe = "nic";
    return health_take(w->health, &finding, w->now_ns, w->now_ns);
}

static bool passes(struct world *w, uint64_t ms)
{
    w->now_ns += ms * NS_PER_MS;
    return health_tick(w->health, w->now_ns);
}

#define BAD_AS(is, ...) ((struct finding){.state = TIDE_HEALTH_##is, .subject = "eth1", .text = "down", __VA_ARGS__})
#define BAD(...) BAD_AS(FAILED, __VA_ARGS__)
#define GOOD() ((struct finding){.subject = "eth1"})

static void test_what_is_over_is_said_for_a_while(void **state)
{
    struct world *w = *state;
    assert_false(found(w, GOOD()));
    assert_true(found(w, BAD()));
    assert_false(found(w, BAD())); /* no news */
    assert_int_equal(said(w)->count, 1);
    assert_false(found(w, GOOD()));
    assert_false(passes(w, HEALTH_HOLD_MS - 1));
    assert_int_equal(said(w)->count, 1);
    assert_true(passes(w, 1));
    assert_int_equal(said(w)->count, 0);
}

static void test_what_comes_back_is_held_for_long(void **state)
{
    struct world *w = *state;
    found(w, BAD_AS(DEGRADED));
    for (unsigned i = 1; i < HEALTH_TIMES_MAX; i++) {
        found(w, GOOD());
        passes(w, 1000);
        assert_true(found(w, BAD_AS(DEGRADED)));
    }
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_SUSPECT);
    assert_string_equal(said(w)->items[0].text, "down (3 times)");
    found(w, GOOD());
    assert_false(passes(w, HEALTH_FLAP_HOLD_MS - 1));
    assert_true(passes(w, 1));
    assert_int_equal(said(w)->count, 0);
}

static void test_what_is_latched_stays(void **state)
{
    struct world *w = *state;
    assert_true(found(w, BAD(.latched = true, .for_ms = 1)));
    assert_false(found(w, GOOD()));
    assert_false(found(w, BAD_AS(DEGRADED, .for_ms = 5000))); /* milder, of the same GPU */
    assert_false(passes(w, 1000 * HEALTH_FLAP_HOLD_MS));
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_FAILED);
    assert_true(said(w)->items[0].latched);
}

static void test_what_happened_counts_for_its_time(void **state)
{
    struct world *w = *state;
    assert_true(found(w, BAD_AS(DEGRADED, .for_ms = 60000, .restart = true)));
    assert_false(found(w, GOOD()));
    assert_false(passes(w, 59999));
    assert_int_equal(said(w)->items[0].ago_ms, 59999);
    assert_true(said(w)->items[0].restart);
    assert_true(passes(w, 1));
}

/* One fault writes a hundred lines, and is one fault. */
static void test_a_burst_is_one_time(void **state)
{
    struct world *w = *state;
    unsigned told = 0;
    for (unsigned i = 0; i < 1000; i++) {
        told += found(w, BAD_AS(DEGRADED, .for_ms = 600000));
        passes(w, 1);
    }
    assert_int_equal(told, 1);
    assert_int_equal(said(w)->count, 1);
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_DEGRADED);
    assert_string_equal(said(w)->items[0].text, "down");
    passes(w, HEALTH_BURST_MS - 2);
    assert_false(found(w, BAD_AS(DEGRADED, .for_ms = 600000)));
    passes(w, HEALTH_BURST_MS);
    found(w, BAD_AS(DEGRADED, .for_ms = 600000));
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_DEGRADED);
    passes(w, HEALTH_BURST_MS);
    assert_true(found(w, BAD_AS(DEGRADED, .for_ms = 600000)));
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_SUSPECT);
    assert_string_equal(said(w)->items[0].text, "down (3 times)");
}

static void test_a_storm_is_one_fact(void **state)
{
    struct world *w = *state;
    unsigned told = 0;
    for (unsigned i = 0; i < 4; i++) {
        told += found(w, BAD_AS(DEGRADED, .for_ms = 600000, .times_max = 4));
        passes(w, HEALTH_BURST_MS);
    }
    assert_int_equal(told, 2); /* that it began, and that it became suspect */
    assert_int_equal(said(w)->count, 1);
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_SUSPECT);
}

/* What a program does to a GPU says nothing about the GPU, however often, and does not make what comes besides count for more. */
static void test_what_does_not_count_makes_nothing_worse(void **state)
{
    struct world *w = *state;
    for (unsigned i = 0; i < 10; i++) {
        found(w, BAD_AS(DEGRADED, .for_ms = 600000, .times_max = HEALTH_TIMES_ANY));
        passes(w, 2 * HEALTH_BURST_MS);
    }
    found(w, BAD_AS(DEGRADED, .for_ms = 600000));
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_DEGRADED);
}

static void test_what_is_milder_does_not_hide_what_is_worse(void **state)
{
    struct world *w = *state;
    assert_true(found(w, BAD(.for_ms = 60000)));
    assert_false(found(w, BAD_AS(DEGRADED, .for_ms = 5000))); /* another thing that happened there */
    assert_false(found(w, BAD_AS(DEGRADED)));                 /* and one that is */
    passes(w, 6000);
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_FAILED);
    assert_false(passes(w, 53999));
    assert_true(passes(w, 1));
    assert_true(found(w, BAD_AS(DEGRADED)));
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_DEGRADED);
    /* What is, and is milder than it was, is told as it is; what happened does not make it look better. */
    assert_true(found(w, BAD_AS(SUSPECT)));
    assert_true(found(w, BAD_AS(DEGRADED)));
    assert_true(found(w, BAD_AS(SUSPECT)));
    assert_false(found(w, BAD_AS(DEGRADED, .for_ms = 5000)));
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_SUSPECT);
}

static void test_what_is_latched_may_get_worse(void **state)
{
    struct world *w = *state;
    found(w, BAD_AS(SUSPECT, .latched = true, .for_ms = 1));
    assert_true(found(w, BAD(.for_ms = 1000)));
    passes(w, 1000 * HEALTH_FLAP_HOLD_MS);
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_FAILED);
    assert_true(said(w)->items[0].latched);
}

static void test_a_serial_is_never_used_twice(void **state)
{
    struct world *w = *state;
    found(w, BAD());
    assert_int_equal(said(w)->items[0].serial, 101);
    found(w, GOOD());
    passes(w, 1000);
    found(w, BAD());
    assert_int_equal(said(w)->items[0].serial, 102);
    found(w, (struct finding){.subject = "eth2", .state = TIDE_HEALTH_DEGRADED});
    assert_int_equal(said(w)->items[1].serial, 103);
    assert_string_equal(w->said.boot, "b00t");
}

/* The clock went back while the agent was down: what it finds would be older than what a person has forgiven, and count for nothing. */
static void test_serials_go_on_from_what_was_told_before(void **state)
{
    struct world *w = *state;
    found(w, BAD());
    found(w, (struct finding){.subject = "eth2", .state = TIDE_HEALTH_DEGRADED});
    assert_true(health_above(w->health, 5000));
    assert_int_equal(said(w)->items[0].serial, 5001);
    assert_int_equal(said(w)->items[1].serial, 5002);
    found(w, (struct finding){.subject = "eth3", .state = TIDE_HEALTH_DEGRADED});
    assert_int_equal(said(w)->items[2].serial, 5003);
    assert_int_equal(health_newest(said(w)), 5003);
    assert_false(health_above(w->health, 6000)); /* that knows of ours */
    assert_int_equal(health_newest(said(w)), 5003);
}

static void test_serials_stay_where_they_are_above(void **state)
{
    struct world *w = *state;
    found(w, BAD());
    assert_false(health_above(w->health, 100));
    assert_int_equal(said(w)->items[0].serial, 101);
}

static void test_the_mildest_makes_room(void **state)
{
    struct world *w = *state;
    struct finding finding = {.probe = "x"};
    for (unsigned i = 0; i < HEALTH_FACTS_MAX; i++) {
        snprintf(finding.subject, sizeof finding.subject, "s%u", i);
        finding.state = i == 5 ? TIDE_HEALTH_DEGRADED : TIDE_HEALTH_SUSPECT;
        assert_true(found(w, finding));
    }
    assert_false(found(w, (struct finding){.subject = "more", .state = TIDE_HEALTH_DEGRADED}));
    assert_true(found(w, BAD()));
    assert_int_equal(said(w)->count, HEALTH_FACTS_MAX);
    assert_null(health_find(said(w), "x", "s5"));
    assert_string_equal(health_worst(said(w), 0)->subject, "eth1");
}

static void test_what_is_forgiven_does_not_count(void **state)
{
    struct world *w = *state;
    found(w, BAD());
    found(w, (struct finding){.subject = "eth2", .state = TIDE_HEALTH_DEGRADED, .text = "slow"});
    assert_string_equal(health_worst(said(w), 0)->subject, "eth1");
    assert_string_equal(health_worst(said(w), 101)->subject, "eth2");
    assert_null(health_worst(said(w), 102));
    char text[TIDE_TEXT_MAX];
    health_fact_text(health_worst(said(w), 0), text, sizeof text);
    assert_string_equal(text, "nic: eth1: down");
}

/* The node was resumed by hand: what was for good is over, and hides nothing that happens from then on. */
static void test_what_is_forgiven_hides_nothing_new(void **state)
{
    struct world *w = *state;
    found(w, BAD(.latched = true, .for_ms = 1));
    passes(w, 20000);
    assert_false(found(w, BAD_AS(SUSPECT, .for_ms = 60000)));
    health_forgive(w->health, 101);
    assert_int_equal(said(w)->items[0].serial, 101); /* shown still */
    passes(w, 20000);
    assert_true(found(w, BAD_AS(SUSPECT, .for_ms = 60000)));
    assert_int_equal(said(w)->count, 1);
    assert_int_equal(said(w)->items[0].state, TIDE_HEALTH_SUSPECT);
    assert_int_equal(said(w)->items[0].serial, 102);
    assert_string_equal(said(w)->items[0].text, "down");
    assert_false(said(w)->items[0].latched);
    assert_true(passes(w, 60000));
    assert_int_equal(said(w)->count, 0);
}

/* Not even for as long as a storm is one fact; and it may be the same again, which is for good no more. */
static void test_what_is_forgiven_may_come_again_at_once(void **state)
{
    struct world *w = *state;
    found(w, BAD(.latched = true, .for_ms = 60000));
    health_forgive(w->health, 101);
    passes(w, HEALTH_BURST_MS);
    assert_true(found(w, BAD(.for_ms = 60000)));
    assert_int_equal(said(w)->items[0].serial, 102);
    assert_false(said(w)->items[0].latched);
    passes(w, HEALTH_BURST_MS);
    assert_false(found(w, BAD(.for_ms = 60000))); /* that one is not forgiven */
}

/* What is there all the time does not come anew because it was forgiven, and an older pardon takes none back. */
static void test_what_is_forgiven_and_still_there_is_not_told_anew(void **state)
{
    struct world *w = *state;
    found(w, BAD());
    health_forgive(w->health, 101);
    health_forgive(w->health, 7);
    passes(w, 20000);
    assert_false(found(w, BAD()));
    assert_int_equal(said(w)->items[0].serial, 101);
    found(w, GOOD());
    assert_true(found(w, BAD()));
    assert_int_equal(said(w)->items[0].serial, 102);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_over_is_said_for_a_while, begin, end),
        cmocka_unit_test_setup_teardown(test_what_comes_back_is_held_for_long, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_latched_stays, begin, end),
        cmocka_unit_test_setup_teardown(test_what_happened_counts_for_its_time, begin, end),
        cmocka_unit_test_setup_teardown(test_a_burst_is_one_time, begin, end),
        cmocka_unit_test_setup_teardown(test_a_storm_is_one_fact, begin, end),
        cmocka_unit_test_setup_teardown(test_what_does_not_count_makes_nothing_worse, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_milder_does_not_hide_what_is_worse, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_latched_may_get_worse, begin, end),
        cmocka_unit_test_setup_teardown(test_a_serial_is_never_used_twice, begin, end),
        cmocka_unit_test_setup_teardown(test_serials_go_on_from_what_was_told_before, begin, end),
        cmocka_unit_test_setup_teardown(test_serials_stay_where_they_are_above, begin, end),
        cmocka_unit_test_setup_teardown(test_the_mildest_makes_room, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_forgiven_does_not_count, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_forgiven_hides_nothing_new, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_forgiven_may_come_again_at_once, begin, end),
        cmocka_unit_test_setup_teardown(test_what_is_forgiven_and_still_there_is_not_told_anew, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
