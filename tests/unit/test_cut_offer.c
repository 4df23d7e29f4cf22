/* SPDX-License-Identifier: Apache-2.0 */
/* What a sender concludes of receives that it was told of, single cases and against MPI's rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/cut/offer.h"
#include "ckpt/cut/queue.h"

#define COMM 7u
#define PEER 3u

static struct cut_sends sends;
static struct cut_offer list[8];
static struct cut_offers offers;

static int begin(void **state)
{
    (void)state;
    offers = (struct cut_offers){.comm = COMM, .offers = list};
    return 0;
}

static int end(void **state)
{
    (void)state;
    cut_sends_clear(&sends);
    return 0;
}

static void offer(int32_t tag, bool any_source)
{
    list[offers.count++] = (struct cut_offer){.tag = tag, .any_source = any_source};
}

/* To PEER on COMM. */
static uint64_t sent(uint64_t number, int32_t tag)
{
    return cut_sends_add(&sends, PEER, COMM, number, tag);
}

static unsigned meets(uint64_t position)
{
    cut_offers_meet(&offers, &sends, PEER);
    return cut_sends_at(&sends, position)->meets;
}

static void a_receive_goes_to_the_first_that_fits_and_to_no_other(void **state)
{
    (void)state;
    offer(5, false);
    uint64_t other = sent(1, 6), first = sent(2, 5), second = sent(3, 5);
    assert_int_equal(meets(first), CUT_MEETS);
    assert_int_equal(meets(second), CUT_MEETS_NOT);
    assert_int_equal(meets(other), CUT_MEETS_NOT);
}

static void what_had_arrived_gets_none_of_them(void **state)
{
    (void)state;
    offer(CUT_ANY, false);
    offers.arrived = 2;
    uint64_t before = sent(2, 5), behind = sent(3, 5);
    assert_int_equal(meets(behind), CUT_MEETS);
    assert_int_equal(meets(before), CUT_MEETS_NOT);
}

static void the_receive_that_was_posted_first_is_taken_first(void **state)
{
    (void)state;
    offer(CUT_ANY, false);
    offer(5, false);
    uint64_t five = sent(1, 5), six = sent(2, 6);
    assert_int_equal(meets(five), CUT_MEETS); /* the one for any tag */
    assert_int_equal(meets(six), CUT_MEETS_NOT);
}

static void another_rank_or_communicator_is_another_matter(void **state)
{
    (void)state;
    offer(CUT_ANY, false);
    uint64_t peer = cut_sends_add(&sends, PEER + 1, COMM, 1, 5), comm = cut_sends_add(&sends, PEER, COMM + 1, 1, 5),
             mine = sent(1, 5);
    assert_int_equal(meets(mine), CUT_MEETS);
    assert_int_equal(meets(peer), CUT_MEETS_NOT);
    assert_int_equal(meets(comm), CUT_MEETS_NOT);
}

static void others_may_get_a_receive_of_any_source(void **state)
{
    (void)state;
    offer(CUT_ANY, true);
    offer(5, false);
    uint64_t first = sent(1, 5), second = sent(2, 5), third = sent(3, 5);
    assert_int_equal(meets(first), CUT_MEETS);
    assert_int_equal(meets(second), CUT_MEETS_MAYBE);
    assert_int_equal(meets(third), CUT_MEETS_NOT);
}

static void nothing_is_certain_behind_what_is_not_known(void **state)
{
    (void)state;
    offer(5, false);
    uint64_t second = sent(2, 5); /* and what became of the first? */
    assert_int_equal(meets(second), CUT_MEETS_MAYBE);
    cut_sends_clear(&sends);
    offers.vague = 1;
    uint64_t first = sent(1, 5);
    assert_int_equal(meets(first), CUT_MEETS_MAYBE);
    offers.vague = 0;
    assert_int_equal(meets(first), CUT_MEETS);
    offers.count = 0; /* told anew: what was certain stays so */
    assert_int_equal(meets(first), CUT_MEETS);
}

static void what_was_told_before_is_no_more_where_others_may_have_got_it(void **state)
{
    (void)state;
    offer(5, true);
    uint64_t first = sent(1, 5);
    assert_int_equal(meets(first), CUT_MEETS_MAYBE);
    offers.arrived = 1; /* perhaps it was found, and waits for the receive behind that which took the offer */
    assert_int_equal(meets(first), CUT_MEETS_NOT);
    offers.arrived = 0;
    assert_int_equal(meets(first), CUT_MEETS_MAYBE);
    offers.count = 0;
    assert_int_equal(meets(first), CUT_MEETS_NOT);
}

/* Else both ends stand: the first is received already, and the second could have the receive that is told of. */
static void what_is_being_received_may_leave_its_receive_to_the_next(void **state)
{
    (void)state;
    offer(5, true);
    uint64_t first = sent(1, 5), second = sent(2, 5), other = sent(3, 6);
    assert_int_equal(meets(first), CUT_MEETS_MAYBE);
    assert_int_equal(meets(second), CUT_MEETS_NOT);
    offers.vague = 1;
    assert_int_equal(meets(second), CUT_MEETS_MAYBE);
    assert_int_equal(meets(other), CUT_MEETS_NOT);
}

static void the_oldest_are_forgotten(void **state)
{
    (void)state;
    offer(CUT_ANY, false);
    uint64_t first = sent(1, 5);
    for (uint64_t i = 2; i <= CUT_SENDS_MAX + 1; i++)
        sent(i, 5);
    assert_null(cut_sends_at(&sends, first));
    assert_int_equal(cut_sends_at(&sends, first + 1)->number, 2);
    assert_int_equal(meets(first + 1), CUT_MEETS_MAYBE);
    assert_null(cut_sends_at(&sends, CUT_SENDS_NONE));
}

static void without_memory_nothing_is_certain(void **state)
{
    (void)state;
    offer(5, false);
    mem_fail_at(1);
    assert_int_equal(sent(1, 5), CUT_SENDS_NONE);
    mem_fail_at(0);
    assert_int_equal(meets(sent(2, 5)), CUT_MEETS_MAYBE);
}

/* ---- against MPI's rule ---- */

/* Messages of ours, in order, and of others between them, get what they get: those of ours that have one. */
static unsigned play(struct rng *rng, const int32_t *tags, unsigned count, unsigned others)
{
    unsigned got = 0, next = 0;
    bool taken[8] = {false};
    while (next < count || others > 0) {
        bool mine = next < count && (others == 0 || rng_below(rng, 2) == 0);
        int32_t tag = mine ? tags[next] : (int32_t)rng_below(rng, 3);
        for (unsigned i = 0; i < offers.count; i++) {
            if (taken[i] || (list[i].tag != CUT_ANY && list[i].tag != tag) || (!mine && !list[i].any_source))
                continue;
            taken[i] = true;
            got |= mine ? 1u << next : 0;
            break;
        }
        if (mine)
            next++;
        else
            others--;
    }
    return got;
}

static void what_is_certain_is_so_whatever_others_send(void **state)
{
    struct rng rng = {.state = 1};
    unsigned certain = 0, maybe = 0;
    for (unsigned round = 0; round < 20000; round++) {
        int32_t tags[6];
        begin(state);
        unsigned count = 1 + (unsigned)rng_below(&rng, 6), receives = 1 + (unsigned)rng_below(&rng, 6);
        bool any = rng_below(&rng, 2) != 0;
        for (unsigned i = 0; i < receives; i++)
            offer(rng_below(&rng, 3) == 0 ? CUT_ANY : (int32_t)rng_below(&rng, 3), any && rng_below(&rng, 3) == 0);
        offers.arrived = rng_below(&rng, 3);
        for (unsigned i = 0; i < count; i++)
            sent(offers.arrived + 1 + i, tags[i] = (int32_t)rng_below(&rng, 3));
        unsigned got = play(&rng, tags, count, (unsigned)rng_below(&rng, 5)), alone = play(&rng, tags, count, 0);
        cut_offers_meet(&offers, &sends, PEER);
        for (unsigned i = 0; i < count; i++) {
            unsigned what = cut_sends_at(&sends, sends.begin + i)->meets;
            assert_true(what != CUT_MEETS || (got & alone & 1u << i) != 0);
            assert_int_equal(what != CUT_MEETS_NOT, (alone & 1u << i) != 0);
            assert_true(any || what != CUT_MEETS_MAYBE); /* without such receives it is all known */
            certain += what == CUT_MEETS;
            maybe += what == CUT_MEETS_MAYBE;
        }
        cut_sends_clear(&sends);
    }
    assert_true(certain > 1000 && maybe > 1000);
}

/* ---- what a sender does while it is not known ---- */

#define HOLD_NS (CUT_HOLD_MS * NS_PER_MS)
#define BEGAN_NS (50 * NS_PER_MS)

static enum cut_unmet_act after(struct cut_unmet unmet, uint64_t waited_ns)
{
    unmet.since_ns = BEGAN_NS;
    return cut_offers_unmet(&unmet, BEGAN_NS + waited_ns);
}

static void who_waits_asks_now_and_then(void **state)
{
    struct cut_unmet unmet = {.meets = CUT_MEETS_NOT};
    (void)state;
    assert_int_equal(after(unmet, CUT_ASK_AFTER_MS * NS_PER_MS - 1), CUT_UNMET_WAITS);
    assert_int_equal(after(unmet, CUT_ASK_AFTER_MS * NS_PER_MS), CUT_UNMET_ASKS);
    assert_int_equal(after(unmet, 100 * HOLD_NS), CUT_UNMET_ASKS);
    unmet.asked_ns = BEGAN_NS + HOLD_NS;
    assert_int_equal(after(unmet, HOLD_NS + CUT_ASK_AGAIN_MS * NS_PER_MS - 1), CUT_UNMET_WAITS);
    assert_int_equal(after(unmet, HOLD_NS + CUT_ASK_AGAIN_MS * NS_PER_MS), CUT_UNMET_ASKS);
    unmet.has_flipped = 1; /* it looks, and brings the two together itself */
    assert_int_equal(after(unmet, 100 * HOLD_NS), CUT_UNMET_WAITS);
    unmet.meets = CUT_MEETS;
    assert_int_equal(after(unmet, 0), CUT_UNMET_DONE);
}

static void a_receive_that_others_may_get_has_its_receiver_flip(void **state)
{
    struct cut_unmet unmet = {.meets = CUT_MEETS_MAYBE};
    (void)state;
    assert_int_equal(after(unmet, HOLD_NS - 1), CUT_UNMET_ASKS);
    unmet.asked_ns = BEGAN_NS + HOLD_NS - 1; /* that question was another */
    assert_int_equal(after(unmet, HOLD_NS), CUT_UNMET_ASKS_TO_FLIP);
    unmet.asked_to_flip_ns = BEGAN_NS + HOLD_NS;
    assert_int_equal(after(unmet, HOLD_NS + 1), CUT_UNMET_WAITS);
    assert_int_equal(after(unmet, 100 * HOLD_NS), CUT_UNMET_ASKS_TO_FLIP);
}

static void it_is_assumed_only_of_who_cannot_answer(void **state)
{
    const uint64_t late = CUT_ASSUME_AFTER_MS * NS_PER_MS;
    struct cut_unmet unmet = {.meets = CUT_MEETS_MAYBE, .told_blocked = 1, .waits_for_us = 1};
    (void)state;
    assert_int_equal(after(unmet, late - 1), CUT_UNMET_ASKS_ALL_TO_FLIP);
    assert_int_equal(after(unmet, late), CUT_UNMET_ASSUMED);
    unmet.has_flipped = 1; /* since it told: so it has looked, and what it told is old */
    assert_int_equal(after(unmet, late), CUT_UNMET_WAITS);
    unmet.told_flipped = 1;
    assert_int_equal(after(unmet, late), CUT_UNMET_ASSUMED);
    unmet.meets = CUT_MEETS_NOT;
    assert_int_equal(after(unmet, 100 * late), CUT_UNMET_WAITS);
    assert_int_equal(after((struct cut_unmet){.meets = CUT_MEETS_MAYBE}, late), CUT_UNMET_ASKS_TO_FLIP);
}

/* The receiver's call lasts: that is no reason, unless it waits for us. By way of others it may. */
static void of_a_call_that_does_not_wait_for_us_it_is_assumed_at_last(void **state)
{
    const uint64_t soon = CUT_ASSUME_AFTER_MS * NS_PER_MS, late = CUT_ASSUME_AT_LAST_MS * NS_PER_MS;
    struct cut_unmet unmet = {.meets = CUT_MEETS_MAYBE, .told_blocked = 1};
    (void)state;
    assert_int_equal(after(unmet, soon), CUT_UNMET_ASKS_ALL_TO_FLIP);
    assert_int_equal(after(unmet, late - 1), CUT_UNMET_ASKS_ALL_TO_FLIP);
    assert_int_equal(after(unmet, late), CUT_UNMET_ASSUMED);
}

static void a_call_waits_for_who_has_not_entered_it(void **state)
{
    const struct cut_call all = {.comm = COMM, .number = 9, .root = CUT_CALL_OF_ALL}, one = {.comm = COMM, .number = 9, .root = 3};
    const struct cut_call another = {.number = 0};
    (void)state;
    assert_true(cut_call_waits_for(&all, 2, 8));
    assert_false(cut_call_waits_for(&all, 2, 9));
    assert_false(cut_call_waits_for(&all, 2, CUT_CALL_STRANGER));
    assert_true(cut_call_waits_for(&one, 3, 8));
    assert_false(cut_call_waits_for(&one, 2, 8));
    assert_false(cut_call_waits_for(&one, 3, 9));
    assert_true(cut_call_waits_for(&another, 2, 9)); /* nobody knows for whom */
    assert_true(cut_call_waits_for(&another, 2, CUT_CALL_STRANGER));
}

/* What they send from then on is of the new colour, and the receiver, which does not look, hands it out behind ours. */
static void all_are_asked_to_make_way_before_it_is_assumed(void **state)
{
    struct cut_unmet unmet = {.meets = CUT_MEETS_MAYBE, .told_blocked = 1};
    (void)state;
    assert_int_equal(after(unmet, HOLD_NS - 1), CUT_UNMET_ASKS);
    assert_int_equal(after(unmet, HOLD_NS), CUT_UNMET_ASKS_ALL_TO_FLIP);
    unmet.has_flipped = unmet.told_flipped = 1; /* it has, and others may not */
    assert_int_equal(after(unmet, HOLD_NS), CUT_UNMET_ASKS_ALL_TO_FLIP);
    unmet.asked_to_flip_ns = BEGAN_NS + HOLD_NS; /* for another message */
    assert_int_equal(after(unmet, HOLD_NS), CUT_UNMET_ASKS_ALL_TO_FLIP);
    unmet.asked_all_ns = BEGAN_NS + HOLD_NS;
    assert_int_equal(after(unmet, HOLD_NS + CUT_ASK_AGAIN_MS * NS_PER_MS - 1), CUT_UNMET_WAITS);
    assert_int_equal(after(unmet, HOLD_NS + CUT_ASK_AGAIN_MS * NS_PER_MS), CUT_UNMET_ASKS_ALL_TO_FLIP);
    unmet.told_flipped = 0; /* it has looked since, and finds ours itself */
    assert_int_equal(after(unmet, 2 * HOLD_NS), CUT_UNMET_WAITS);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_receive_goes_to_the_first_that_fits_and_to_no_other),
        CASE(what_had_arrived_gets_none_of_them),
        CASE(the_receive_that_was_posted_first_is_taken_first),
        CASE(another_rank_or_communicator_is_another_matter),
        CASE(others_may_get_a_receive_of_any_source),
        CASE(nothing_is_certain_behind_what_is_not_known),
        CASE(what_was_told_before_is_no_more_where_others_may_have_got_it),
        CASE(what_is_being_received_may_leave_its_receive_to_the_next),
        CASE(the_oldest_are_forgotten),
        CASE(without_memory_nothing_is_certain),
        CASE(what_is_certain_is_so_whatever_others_send),
        CASE(who_waits_asks_now_and_then),
        CASE(a_receive_that_others_may_get_has_its_receiver_flip),
        CASE(it_is_assumed_only_of_who_cannot_answer),
        CASE(of_a_call_that_does_not_wait_for_us_it_is_assumed_at_last),
        CASE(a_call_waits_for_who_has_not_entered_it),
        CASE(all_are_asked_to_make_way_before_it_is_assumed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
