/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/agent_story.h"

/* Stories of checkpoints in the store that are read from time to time. */

#define EVERY_MS UINT64_C(86400000)

static void list(struct story *s, uint64_t cut)
{
    struct scrub_order *order = codec_list_add(&scrub_order_codec, &s->order.scrub);
    order->cut = cut;
    snprintf(order->manifest_key, sizeof order->manifest_key, "m/train." JOB_UID "/%u-1/COMMIT", (unsigned)cut);
}

static void begin(struct story *s, uint64_t every_ms)
{
    story_begin(s);
    agent_scrub_every(s->core, every_ms);
    list(s, 1);
    list(s, 2);
    ordered(s);
}

static uint64_t read_now(const struct story *s)
{
    const struct agent_action *action = did(s, ACT_SCRUB);
    return action != NULL ? action->cut : 0;
}

static void was_read(struct story *s, uint64_t cut, enum tide_status status)
{
    struct agent_event event = of_job(EV_SCRUBBED, 0);
    event.cut = cut, event.status = status, event.raw_bytes = 7;
    text_copy(event.text, sizeof event.text, status == TIDE_OK ? "" : "chunk 3 in object c/x");
    happens(s, &event);
}

static void each_is_read_in_its_turn(void **state)
{
    (void)state;
    struct story s;
    begin(&s, EVERY_MS);
    assert_int_equal(read_now(&s), 0);
    passes_ms(&s, AGENT_SCRUB_FIRST_MS - 1);
    assert_int_equal(read_now(&s), 0);
    passes_ms(&s, 1);
    assert_int_equal(read_now(&s), 1);
    passes_ms(&s, EVERY_MS); /* however long it takes, it is the only one */
    assert_int_equal(read_now(&s), 0);
    was_read(&s, 1, TIDE_OK);
    assert_int_equal(read_now(&s), 2);
    was_read(&s, 2, TIDE_OK);
    assert_int_equal(read_now(&s), 0);
    assert_int_equal(says(&s)->scrubs.count, 2);
    assert_int_equal(s.said.jobs.items[0].scrubs.items[0].bytes, 7);
    assert_false(s.said.jobs.items[0].scrubs.items[0].damaged);
    passes_ms(&s, EVERY_MS);
    assert_int_equal(read_now(&s), 1);
    story_end(&s);
}

static void damage_is_told_as_long_as_it_is_listed(void **state)
{
    (void)state;
    struct story s;
    begin(&s, 1000);
    passes_ms(&s, 1000);
    was_read(&s, 1, TIDE_E_CORRUPT);
    assert_non_null(did(&s, ACT_HEARTBEAT));
    assert_true(says(&s)->scrubs.items[0].damaged);
    assert_string_equal(s.said.jobs.items[0].scrubs.items[0].detail, "chunk 3 in object c/x");
    was_read(&s, 2, TIDE_OK);
    passes_ms(&s, 1000);
    assert_int_equal(read_now(&s), 2); /* what is known need not be found out again */
    assert_true(says(&s)->scrubs.items[0].damaged);
    s.order.scrub.items[0] = s.order.scrub.items[1];
    s.order.scrub.count = 1;
    ordered(&s);
    assert_int_equal(says(&s)->scrubs.count, 1);
    assert_int_equal(s.said.jobs.items[0].scrubs.items[0].cut, 2);
    story_end(&s);
}

/* It can be restored: nobody is told to restore another, and it is read again in its turn. */
static void damage_that_a_checkpoint_does_without_does_not_condemn_it(void **state)
{
    (void)state;
    struct story s;
    begin(&s, 1000);
    passes_ms(&s, 1000);
    struct agent_event event = of_job(EV_SCRUBBED, 0);
    event.cut = 1, event.status = TIDE_OK, event.raw_bytes = 7;
    text_copy(event.text, sizeof event.text, "object c/x does not match the digest in its name");
    happens(&s, &event);
    assert_int_equal(says(&s)->scrubs.count, 1);
    assert_false(s.said.jobs.items[0].scrubs.items[0].damaged);
    assert_string_equal(s.said.jobs.items[0].scrubs.items[0].detail, "");
    was_read(&s, 2, TIDE_OK);
    passes_ms(&s, 1000);
    assert_int_equal(read_now(&s), 1);
    story_end(&s);
}

static void a_store_out_of_reach_says_nothing(void **state)
{
    (void)state;
    struct story s;
    begin(&s, EVERY_MS);
    passes_ms(&s, AGENT_SCRUB_FIRST_MS);
    was_read(&s, 1, TIDE_E_UNAVAILABLE);
    assert_int_equal(says(&s)->scrubs.count, 0);
    assert_int_equal(read_now(&s), 2);
    was_read(&s, 2, TIDE_E_UNAVAILABLE);
    assert_int_equal(read_now(&s), 0);
    passes_ms(&s, AGENT_SCRUB_RETRY_MS);
    assert_int_equal(read_now(&s), 1);
    story_end(&s);
}

static void a_job_that_went_meanwhile_is_no_hindrance(void **state)
{
    (void)state;
    struct story s;
    begin(&s, 1000);
    step_started(&s, 1);
    passes_ms(&s, 1000);
    assert_int_equal(read_now(&s), 1);
    unassigned(&s);
    step_gone(&s, 1);
    assert_non_null(did(&s, ACT_REMOVE_ARENA)); /* what is in memory does not wait for it */
    was_read(&s, 1, TIDE_E_CORRUPT);
    s.order.generation = 2;
    ordered(&s);
    passes_ms(&s, 1000);
    assert_int_equal(read_now(&s), 1);
    story_end(&s);
}

static void an_agent_that_ends_begins_nothing(void **state)
{
    (void)state;
    struct story s;
    begin(&s, 1000);
    agent_end_all(s.core);
    passes_ms(&s, 1000);
    assert_int_equal(read_now(&s), 0);
    story_end(&s);
}

static void nothing_is_read_unless_it_is_wanted(void **state)
{
    (void)state;
    struct story s;
    begin(&s, 0);
    passes_ms(&s, EVERY_MS);
    assert_int_equal(read_now(&s), 0);
    story_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_read_in_its_turn),
        cmocka_unit_test(damage_is_told_as_long_as_it_is_listed),
        cmocka_unit_test(damage_that_a_checkpoint_does_without_does_not_condemn_it),
        cmocka_unit_test(a_store_out_of_reach_says_nothing),
        cmocka_unit_test(a_job_that_went_meanwhile_is_no_hindrance),
        cmocka_unit_test(an_agent_that_ends_begins_nothing),
        cmocka_unit_test(nothing_is_read_unless_it_is_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
