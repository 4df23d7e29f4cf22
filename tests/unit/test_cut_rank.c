/* SPDX-License-Identifier: Apache-2.0 */
/* One rank's part in a cut: its state table, colour, counts, bookmarks. What ranks do together is in tests/sim/cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/cut/rank.h"

#define WORLD 3u
#define HOLD_NS (CUT_HOLD_MS * UINT64_C(1000000))

static struct cut_rank rank;
static struct cut_words words;

static int begin(void **state)
{
    (void)state;
    words = (struct cut_words){.armed_step = STEP_NONE};
    return cut_rank_init(&rank, 1, WORLD, NULL) != TIDE_OK;
}

static int end(void **state)
{
    (void)state;
    cut_rank_release(&rank);
    return 0;
}

static unsigned look(void)
{
    return cut_rank_look(&rank, &words);
}

static void arm(uint64_t epoch, uint64_t step)
{
    words.armed_epoch = epoch;
    words.armed_step = step;
    assert_int_equal(look(), CUT_ACT_POLLING);
    assert_int_equal(rank.state, CUT_RANK_ARMED);
    assert_int_equal(rank.aim, epoch);
}

static void go(void)
{
    words.go_epoch = words.armed_epoch;
    assert_int_equal(look(), 0);
    assert_int_equal(rank.state, CUT_RANK_READY);
}

static void record(uint64_t epoch)
{
    assert_int_equal(cut_rank_record(&rank), 0);
    assert_int_equal(look(), 0);
    cut_rank_flip(&rank, epoch, 1);
    words.armed_step = STEP_NONE;
    assert_int_equal(rank.state, CUT_RANK_DRAINING);
}

static int bookmark(uint32_t peer, uint64_t epoch, uint64_t count)
{
    return cut_rank_bookmark(&rank, peer, &(struct cut_bookmark){.epoch = epoch, .count = count, .recorded = 1});
}

static void settle_and_close(uint64_t epoch)
{
    words.settled_epoch = epoch;
    assert_int_equal(look(), CUT_ACT_RELEASE);
    words.closed_epoch = epoch;
    assert_int_equal(look(), CUT_ACT_PLAIN);
    assert_int_equal(rank.state, CUT_RANK_IDLE);
}

static void a_whole_cut(void **state)
{
    (void)state;
    arm(1, 7);
    assert_true(cut_rank_polls(&rank));
    assert_false(cut_rank_matches(&rank));
    go();
    assert_int_equal(cut_point_at(&words, rank.epoch, 6), CUT_POINT_GO_ON);
    assert_int_equal(cut_point_at(&words, rank.epoch, 7), CUT_POINT_RECORD);
    record(1);
    assert_int_equal(rank.colour, 1);
    assert_true(cut_rank_matches(&rank));
    assert_true(cut_rank_copies(&rank));
    words.settled_epoch = 1;
    assert_int_equal(look(), CUT_ACT_RELEASE);
    assert_int_equal(rank.state, CUT_RANK_RECORDED);
    assert_false(cut_rank_matches(&rank));
    assert_true(cut_rank_copies(&rank));
    assert_int_equal(look(), 0);
    words.closed_epoch = 1;
    assert_int_equal(look(), CUT_ACT_PLAIN);
    assert_int_equal(rank.state, CUT_RANK_IDLE);
    assert_false(cut_rank_copies(&rank));
}

static void an_order_given_twice_does_nothing(void **state)
{
    (void)state;
    arm(1, 7);
    assert_int_equal(look(), 0);
    go();
    assert_int_equal(look(), 0);
    record(1);
    assert_int_equal(look(), 0);
    settle_and_close(1);
    assert_int_equal(look(), 0);
    assert_int_equal(rank.colour, 1);
}

static void settled_closed_and_armed_again_in_one_look(void **state)
{
    (void)state;
    arm(1, 7);
    go();
    record(1);
    words = (struct cut_words){.armed_epoch = 2, .armed_step = 9, .go_epoch = 1, .settled_epoch = 1, .closed_epoch = 1};
    assert_int_equal(look(), CUT_ACT_RELEASE | CUT_ACT_PLAIN | CUT_ACT_POLLING);
    assert_int_equal(rank.state, CUT_RANK_ARMED);
    assert_int_equal(rank.aim, 2);
}

static void colours_stay_alike_over_an_attempt_that_was_given_up(void **state)
{
    (void)state;
    arm(1, 7);
    go();
    record(1);
    settle_and_close(1);
    arm(2, 9);
    words.closed_epoch = 2;
    words.armed_step = STEP_NONE;
    assert_int_equal(look(), 0);
    assert_int_equal(rank.state, CUT_RANK_IDLE);
    assert_int_equal(rank.epoch, 1);
    assert_int_equal(look(), 0);
    arm(3, 11);
    go();
    record(3);
    assert_int_equal(rank.colour, 0);
}

static void who_passes_its_step_flips_when_it_sees_go(void **state)
{
    (void)state;
    arm(1, 7);
    assert_int_equal(cut_point_at(&words, rank.epoch, 7), CUT_POINT_PASSED);
    words.armed_step = STEP_NONE;
    assert_int_equal(look(), 0);
    assert_int_equal(rank.state, CUT_RANK_PASSED);
    words.go_epoch = 1;
    assert_int_equal(look(), CUT_ACT_FLIP);
    cut_rank_flip(&rank, rank.aim, 0);
    assert_int_equal(rank.state, CUT_RANK_ABORTING);
    settle_and_close(1);
}

static void an_agent_that_is_not_done_with_arming_does_not_make_it_pass(void **state)
{
    (void)state;
    words.armed_epoch = 1;
    assert_int_equal(look(), CUT_ACT_POLLING);
    assert_int_equal(rank.state, CUT_RANK_PASSED);
    words.armed_step = 7;
    assert_int_equal(look(), 0);
    assert_int_equal(rank.state, CUT_RANK_ARMED);
    go();
}

static void free_mode_waits_for_go_at_every_safe_point(void **state)
{
    (void)state;
    arm(1, STEP_NEXT);
    assert_int_equal(cut_point_at(&words, rank.epoch, 5), CUT_POINT_GO_ON);
    assert_int_equal(rank.state, CUT_RANK_ARMED);
    go();
    assert_int_equal(cut_point_at(&words, rank.epoch, 6), CUT_POINT_RECORD);
}

static void steps_that_jump_over_the_armed_one_pass(void **state)
{
    (void)state;
    arm(1, 7);
    go();
    assert_int_equal(cut_point_at(&words, rank.epoch, 10), CUT_POINT_PASSED);
}

static void ranks_without_colour_need_no_go(void **state)
{
    (void)state;
    words.armed_step = 7;
    assert_int_equal(cut_point_at(&words, 0, 7), CUT_POINT_RECORD);
    words.armed_step = STEP_TAKEN;
    assert_int_equal(cut_point_at(&words, 0, 7), CUT_POINT_GO_ON);
}

static void told_to_flip_from_anywhere(void **state)
{
    (void)state;
    words.flip_epoch = 4; /* by an agent that was started again */
    assert_int_equal(look(), CUT_ACT_FLIP);
    cut_rank_flip(&rank, rank.aim, 0);
    assert_int_equal(rank.epoch, 4);
    assert_int_equal(rank.state, CUT_RANK_ABORTING);
    assert_int_equal(look(), 0);
    words.armed_epoch = 4; /* what it had been armed for is over */
    words.armed_step = 9;
    assert_int_equal(cut_point_at(&words, rank.epoch, 9), CUT_POINT_GO_ON);
    settle_and_close(4);
}

static void nothing_is_recorded_that_is_not_ready(void **state)
{
    (void)state;
    assert_int_not_equal(cut_rank_record(&rank), 0);
    arm(1, 7);
    assert_int_not_equal(cut_rank_record(&rank), 0);
    go();
    assert_int_equal(cut_rank_record(&rank), 0);
    cut_rank_flip(&rank, 1, 0);
    assert_int_equal(rank.state, CUT_RANK_ABORTING);
}

static void counts_of_a_cut(void **state)
{
    (void)state;
    uint64_t sent, arrived;
    struct cut_bookmark due;
    for (unsigned i = 0; i < 5; i++)
        cut_rank_sent(&rank, 0);
    cut_rank_sent(&rank, 2);
    cut_rank_arrived(&rank, 2);
    assert_false(cut_rank_bookmark_due(&rank, 0, &due));
    arm(1, 7);
    go();
    record(1);
    cut_rank_sums(&rank, &sent, &arrived);
    assert_int_equal(sent, 6);
    assert_int_equal(arrived, 1);
    /* The first message of the new colour to rank 0 goes behind a bookmark, the second not. */
    assert_true(cut_rank_bookmark_due(&rank, 0, &due));
    assert_int_equal(due.epoch, 1);
    assert_int_equal(due.count, 5);
    assert_int_equal(due.recorded, 1);
    cut_rank_sent(&rank, 0);
    /* It could not be sent: the next one tells the same, and goes once. */
    assert_true(cut_rank_bookmark_due(&rank, 0, &due));
    assert_int_equal(due.count, 5);
    cut_rank_bookmark_told(&rank, 0);
    assert_false(cut_rank_bookmark_due(&rank, 0, &due));
    assert_false(cut_rank_bookmark_due(&rank, 1, &due)); /* itself */
    cut_rank_sums(&rank, &sent, &arrived);
    assert_int_equal(sent, 6);
    /* Rank 2 had sent three before its flip: two are on their way, and what it sends now waits for them. */
    assert_int_equal(cut_rank_take(&rank, 2, 1), CUT_TAKE_HOLD);
    assert_int_equal(cut_rank_take(&rank, 2, 0), CUT_TAKE_LOG);
    assert_false(bookmark(2, 1, 3));
    assert_false(cut_rank_drained(&rank, 2));
    assert_int_equal(cut_rank_take(&rank, 2, 0), CUT_TAKE_LOG);
    assert_true(cut_rank_drained(&rank, 2));
    cut_rank_released(&rank, 2);
    assert_int_equal(cut_rank_take(&rank, 2, 1), CUT_TAKE_DELIVER);
    assert_int_equal(rank.arrived_before, 1);
    cut_rank_done(&rank);
    cut_rank_done(&rank);
    assert_int_equal(rank.arrived_before, 3);
    settle_and_close(1);
    assert_int_equal(rank.peers[2].arrived, 5);
}

static void what_is_not_whole_at_the_flip_counts_when_it_is(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        cut_rank_arrived(&rank, 0);
    arm(1, 7);
    go();
    record(1);
    cut_rank_not_whole(&rank, 2);
    assert_int_equal(rank.arrived_before, 3);
    cut_rank_done(&rank);
    cut_rank_done(&rank);
    assert_int_equal(rank.arrived_before, 5);
    assert_int_equal(rank.peers[0].arrived, 5);
}

static void a_bookmark_may_come_before_the_flip_and_after_the_end(void **state)
{
    (void)state;
    arm(1, 7);
    assert_false(bookmark(0, 1, 0));
    go();
    record(1);
    assert_true(cut_rank_drained(&rank, 0));
    assert_false(cut_rank_drained(&rank, 2));
    settle_and_close(1);
    arm(2, 9);
    go();
    record(2);
    assert_false(bookmark(2, 1, 0)); /* late: of an epoch that is closed */
    assert_false(cut_rank_drained(&rank, 2));
    assert_false(cut_rank_drained(&rank, 0));
    assert_true(bookmark(2, 2, 0));
}

static void bytes_are_taken_of_who_has_recorded(void **state)
{
    (void)state;
    struct cut_bookmark due;
    assert_false(cut_rank_has_sent(&rank, 2));
    assert_int_equal(cut_rank_bytes(&rank, 2), CUT_BYTES_NEVER); /* nothing is recorded */
    arm(1, 7);
    go();
    assert_false(bookmark(0, 1, 0));
    record(1);
    assert_int_equal(cut_rank_bytes(&rank, 0), CUT_BYTES_TAKE);
    assert_int_equal(cut_rank_bytes(&rank, 1), CUT_BYTES_TAKE); /* itself */
    assert_int_equal(cut_rank_bytes(&rank, 2), CUT_BYTES_LATER);
    assert_true(cut_rank_bookmark(&rank, 2, &(struct cut_bookmark){.epoch = 1, .count = 0, .recorded = 0}));
    assert_int_equal(cut_rank_bytes(&rank, 2), CUT_BYTES_NEVER); /* there is no cut */
    settle_and_close(1);
    /* In the next epoch it is to be told again, and what is told is whether there is a record. */
    arm(2, 9);
    go();
    cut_rank_sent(&rank, 2);
    assert_true(cut_rank_has_sent(&rank, 2));
    record(2);
    assert_int_equal(cut_rank_bytes(&rank, 0), CUT_BYTES_LATER);
    assert_true(bookmark(0, 2, 0));
    assert_int_equal(cut_rank_bytes(&rank, 0), CUT_BYTES_TAKE);
    cut_rank_void(&rank);
    assert_int_equal(cut_rank_bytes(&rank, 0), CUT_BYTES_NEVER);
    settle_and_close(2);
    words.flip_epoch = 3;
    assert_int_equal(look(), CUT_ACT_FLIP);
    cut_rank_flip(&rank, 3, 0);
    assert_int_equal(cut_rank_bytes(&rank, 1), CUT_BYTES_NEVER);
    assert_true(cut_rank_bookmark_due(&rank, 2, &due));
    assert_int_equal(due.epoch, 3);
    assert_int_equal(due.count, 1);
    assert_int_equal(due.recorded, 0);
}

static void a_record_that_turns_out_not_to_be_whole(void **state)
{
    (void)state;
    arm(1, 7);
    go();
    record(1);
    assert_int_equal(cut_rank_take(&rank, 0, 0), CUT_TAKE_LOG);
    cut_rank_void(&rank);
    assert_int_equal(rank.state, CUT_RANK_ABORTING);
    assert_int_equal(cut_rank_take(&rank, 0, 0), CUT_TAKE_FORGET);
    settle_and_close(1);
}

static void early_after_a_while_and_only_where_nothing_matches(void **state)
{
    (void)state;
    assert_false(cut_rank_early(&rank, 1)); /* nothing is armed */
    arm(1, 7);
    assert_false(cut_rank_early(&rank, 100));
    assert_false(cut_rank_early(&rank, 100 + HOLD_NS - 1));
    cut_rank_not_held(&rank);
    assert_false(cut_rank_early(&rank, 100 + HOLD_NS));
    assert_true(cut_rank_early(&rank, 100 + 2 * HOLD_NS));
    cut_rank_flip(&rank, rank.aim, 0);
    assert_false(cut_rank_early(&rank, 100 + 9 * HOLD_NS));
}

static void who_finishes_is_counted_as_it_is(void **state)
{
    (void)state;
    uint64_t sent, arrived;
    cut_rank_sent(&rank, 0);
    cut_rank_arrived(&rank, 2);
    arm(1, 7);
    cut_rank_finish(&rank);
    words.go_epoch = words.flip_epoch = 1;
    assert_int_equal(look(), 0);
    cut_rank_sums(&rank, &sent, &arrived);
    assert_int_equal(sent, 1);
    assert_int_equal(arrived, 1);
}

static void who_finishes_behind_its_flip_keeps_the_sums_of_it(void **state)
{
    (void)state;
    uint64_t sent, arrived;
    cut_rank_sent(&rank, 0);
    arm(1, 7);
    go();
    record(1);
    cut_rank_sent(&rank, 0);
    cut_rank_finish(&rank);
    cut_rank_sums(&rank, &sent, &arrived);
    assert_int_equal(sent, 1);
    assert_int_equal(arrived, 0);
}

static void every_state_has_a_name(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CUT_RANK_STATES; i++)
        assert_string_not_equal(cut_rank_state_name(i), "unknown");
    assert_string_equal(cut_rank_state_name(CUT_RANK_STATES), "unknown");
}

static void no_rank_without_memory_or_beyond_the_limit(void **state)
{
    (void)state;
    struct cut_rank other;
    struct err err = {0};
    mem_fail_at(1);
    assert_int_equal(cut_rank_init(&other, 0, WORLD, &err), TIDE_E_NOMEM);
    mem_fail_at(0);
    assert_int_equal(cut_rank_init(&other, 0, TIDE_RANKS_MAX + 1, &err), TIDE_E_LIMIT);
    assert_int_equal(cut_rank_init(&other, WORLD, WORLD, &err), TIDE_E_LIMIT);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

/* Rank 0 goes first: what rank 2 sent is held until all of rank 0's old colour is here. */
static void who_goes_first_is_handed_out_before_others(void **state)
{
    (void)state;
    arm(1, 7);
    cut_rank_prefer(&rank, 0, 1);
    go();
    record(1);
    assert_true(cut_rank_is_first(&rank, 0));
    assert_false(cut_rank_is_first(&rank, 2));
    assert_false(bookmark(2, 1, 0)); /* it is drained, and nothing of it is released */
    assert_int_equal(cut_rank_take(&rank, 2, 1), CUT_TAKE_HOLD);
    assert_false(bookmark(0, 1, 1));
    assert_int_equal(cut_rank_take(&rank, 0, 1), CUT_TAKE_HOLD);
    assert_int_equal(cut_rank_take(&rank, 0, 0), CUT_TAKE_LOG);
    assert_true(cut_rank_hands_out(&rank, 0));
    assert_true(cut_rank_hands_out(&rank, 2));
    assert_int_equal(cut_rank_take(&rank, 2, 1), CUT_TAKE_DELIVER);
    settle_and_close(1);
    arm(2, 9);
    go();
    record(2);
    assert_false(cut_rank_is_first(&rank, 0)); /* that was of the other attempt */
    cut_rank_prefer(&rank, 0, 2);
    cut_rank_prefer(&rank, 2, 2);
    assert_true(bookmark(2, 2, 1));
    assert_int_equal(cut_rank_take(&rank, 2, 0), CUT_TAKE_DELIVER);
    cut_rank_prefer_over(&rank, 2); /* what it sends behind that waits for rank 0 as any other's */
    assert_true(cut_rank_is_first(&rank, 0));
    assert_false(cut_rank_is_first(&rank, 2));
    assert_int_equal(cut_rank_take(&rank, 2, 0), CUT_TAKE_HOLD);
    cut_rank_prefer_over(&rank, 0);
    assert_int_equal(cut_rank_take(&rank, 2, 0), CUT_TAKE_DELIVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_whole_cut),
        CASE(an_order_given_twice_does_nothing),
        CASE(settled_closed_and_armed_again_in_one_look),
        CASE(colours_stay_alike_over_an_attempt_that_was_given_up),
        CASE(who_passes_its_step_flips_when_it_sees_go),
        CASE(an_agent_that_is_not_done_with_arming_does_not_make_it_pass),
        CASE(free_mode_waits_for_go_at_every_safe_point),
        CASE(steps_that_jump_over_the_armed_one_pass),
        CASE(ranks_without_colour_need_no_go),
        CASE(told_to_flip_from_anywhere),
        CASE(nothing_is_recorded_that_is_not_ready),
        CASE(counts_of_a_cut),
        CASE(what_is_not_whole_at_the_flip_counts_when_it_is),
        CASE(a_bookmark_may_come_before_the_flip_and_after_the_end),
        CASE(bytes_are_taken_of_who_has_recorded),
        CASE(a_record_that_turns_out_not_to_be_whole),
        CASE(early_after_a_while_and_only_where_nothing_matches),
        CASE(who_finishes_is_counted_as_it_is),
        CASE(who_finishes_behind_its_flip_keeps_the_sums_of_it),
        CASE(every_state_has_a_name),
        CASE(no_rank_without_memory_or_beyond_the_limit),
        CASE(who_goes_first_is_handed_out_before_others),
    };
    return cmocka_run_group_tests_name("cut_rank", tests, NULL, NULL);
}
