/* SPDX-License-Identifier: Apache-2.0 */
/* What a leader concludes from reports, and in which mode it tries next. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ckpt/base/rng.h"
#include "ckpt/cut/comm_id.h"
#include "ckpt/cut/mode.h"
#include "ckpt/cut/verdict.h"

#define WORLD 4u
#define EPOCH 3u
#define CUT 9u
#define ATTEMPT 2u

static struct cut_rank_report reports[WORLD];
static char why[256];

static int begin(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < WORLD; i++)
        reports[i] = (struct cut_rank_report){
            .rank = i, .coloured = 1, .epoch = 1, .ended_epoch = 1, .armed_epoch = EPOCH, .polling_epoch = EPOCH};
    why[0] = '\0';
    return 0;
}

static void flip(uint32_t rank, uint64_t sent, uint64_t arrived, enum record_result result)
{
    struct cut_rank_report *r = &reports[rank];
    r->epoch = EPOCH;
    r->sent_before = sent;
    r->arrived_before = arrived;
    if (result == RECORD_NONE)
        return;
    r->recorded_cut = CUT;
    r->recorded_attempt = ATTEMPT;
    r->result = result;
}

static void flip_all(void)
{
    for (uint32_t i = 0; i < WORLD; i++)
        flip(i, 10, 10, RECORD_DONE);
}

static struct cut_verdict verdict(uint32_t heard)
{
    struct cut_verdict v;
    cut_verdict_init(&v, WORLD, EPOCH, CUT, ATTEMPT);
    for (uint32_t i = 0; i < heard; i++)
        cut_verdict_add(&v, &reports[i]);
    return v;
}

static enum cut_stage stage(enum cut_stage from)
{
    struct cut_verdict v = verdict(WORLD);
    return cut_verdict_stage(&v, from);
}

static enum cut_misfit misfit(void)
{
    struct cut_verdict v = verdict(WORLD);
    return cut_verdict_misfit(&v, why, sizeof why);
}

static void go_when_all_are_armed_and_poll(void **state)
{
    (void)state;
    assert_int_equal(stage(CUT_STAGE_ARM), CUT_STAGE_RECORD);
    struct cut_verdict v = verdict(WORLD - 1);
    assert_int_equal(cut_verdict_stage(&v, CUT_STAGE_ARM), CUT_STAGE_ARM);
    cut_verdict_waits(&v, CUT_STAGE_ARM, why, sizeof why);
    assert_string_equal(why, "1 of 4 ranks have not been heard of");
    cut_verdict_add(&v, &reports[0]); /* twice is once */
    assert_int_equal(cut_verdict_stage(&v, CUT_STAGE_ARM), CUT_STAGE_ARM);
    reports[2].polling_epoch = EPOCH - 1;
    assert_int_equal(stage(CUT_STAGE_ARM), CUT_STAGE_ARM);
    v = verdict(WORLD);
    cut_verdict_waits(&v, CUT_STAGE_ARM, why, sizeof why);
    assert_string_equal(why, "1 of 4 ranks are still to be armed, rank 2 the first of them");
    reports[2].polling_epoch = EPOCH;
    reports[3].armed_epoch = 0;
    assert_int_equal(stage(CUT_STAGE_ARM), CUT_STAGE_ARM);
}

static void given_up_before_go(void **state)
{
    (void)state;
    reports[1].missed_epoch = EPOCH;
    assert_int_equal(stage(CUT_STAGE_ARM), CUT_STAGE_CLOSED);
    assert_int_equal(misfit(), CUT_MISFIT_MISSED);
    assert_string_equal(why, "rank 1 had gone by the step before its agent could arm it");
    begin(NULL);
    reports[2].left = 1;
    assert_int_equal(stage(CUT_STAGE_ARM), CUT_STAGE_CLOSED);
    assert_int_equal(misfit(), CUT_MISFIT_FINISHED);
    begin(NULL);
    reports[3].coloured = 0;
    assert_int_equal(stage(CUT_STAGE_ARM), CUT_STAGE_CLOSED);
    assert_int_equal(misfit(), CUT_MISFIT_MIXED);
    assert_string_equal(why, "rank 0 runs with libtidemark_mpi and rank 3 without; start all ranks alike");
    begin(NULL);
    reports[3].epoch = 2;
    assert_int_equal(stage(CUT_STAGE_ARM), CUT_STAGE_CLOSED);
    assert_int_equal(misfit(), CUT_MISFIT_EPOCHS);
}

static void settled_when_the_sums_are_equal(void **state)
{
    (void)state;
    flip_all();
    assert_int_equal(stage(CUT_STAGE_RECORD), CUT_STAGE_SETTLED);
    reports[2].sent_before = 12;
    assert_int_equal(stage(CUT_STAGE_RECORD), CUT_STAGE_RECORD);
    assert_int_equal(misfit(), CUT_FITS);
    struct cut_verdict v = verdict(WORLD);
    cut_verdict_waits(&v, CUT_STAGE_RECORD, why, sizeof why);
    assert_string_equal(why, "2 messages are on their way");
    reports[3].arrived_before = 13;
    assert_int_equal(stage(CUT_STAGE_RECORD), CUT_STAGE_RECORD);
    assert_int_equal(misfit(), CUT_MISFIT_COUNTS);
    reports[3].arrived_before = 12;
    assert_int_equal(stage(CUT_STAGE_RECORD), CUT_STAGE_SETTLED);
    assert_int_equal(stage(CUT_STAGE_SUM), CUT_STAGE_SETTLED);
    assert_int_equal(stage(CUT_STAGE_SETTLED), CUT_STAGE_SETTLED);
    for (uint32_t i = 0; i < WORLD; i++)
        reports[i].ended_epoch = EPOCH;
    assert_int_equal(stage(CUT_STAGE_SETTLED), CUT_STAGE_CLOSED);
    v = verdict(WORLD);
    assert_true(cut_verdict_whole(&v));
}

static void one_that_cannot_record_has_the_others_flip(void **state)
{
    (void)state;
    static const struct {
        enum record_result result;
        enum cut_misfit misfit;
    } cases[] = {{RECORD_FAILED, CUT_MISFIT_FAILED}, {RECORD_PASSED, CUT_MISFIT_PASSED}, {RECORD_EARLY, CUT_MISFIT_EARLY}};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        begin(NULL);
        flip(1, 3, 3, cases[i].result);
        assert_int_equal(stage(CUT_STAGE_RECORD), CUT_STAGE_SUM);
        assert_int_equal(misfit(), cases[i].misfit);
        assert_int_equal(stage(CUT_STAGE_SUM), CUT_STAGE_SUM);
        struct cut_verdict v = verdict(WORLD);
        assert_false(cut_verdict_whole(&v));
    }
}

static void the_cause_is_named_before_what_follows_from_it(void **state)
{
    (void)state;
    flip(0, 3, 3, RECORD_EARLY);
    flip(1, 3, 3, RECORD_PASSED);
    flip(3, 3, 3, RECORD_PASSED);
    assert_int_equal(misfit(), CUT_MISFIT_PASSED);
    assert_string_equal(why, "rank 1 (and 1 more) came to the step before all others were armed");
}

static void told_to_flip_is_late_once_it_has_ended(void **state)
{
    (void)state;
    flip_all();
    reports[2].recorded_attempt = ATTEMPT - 1;
    assert_int_equal(misfit(), CUT_FITS);
    reports[2].ended_epoch = EPOCH;
    assert_int_equal(misfit(), CUT_MISFIT_LATE);
    struct cut_verdict v = verdict(WORLD);
    assert_false(cut_verdict_whole(&v));
}

static void who_has_finished_is_not_waited_for(void **state)
{
    (void)state;
    flip_all();
    reports[1].epoch = 1;
    reports[1].result = RECORD_NONE;
    assert_int_equal(stage(CUT_STAGE_SUM), CUT_STAGE_SUM);
    reports[1].ended_epoch = CUT_ENDED_FOR_GOOD;
    assert_int_equal(stage(CUT_STAGE_SUM), CUT_STAGE_SETTLED);
    assert_int_equal(misfit(), CUT_MISFIT_FINISHED);
}

static void ranks_without_colour_only_record(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < WORLD; i++)
        reports[i] = (struct cut_rank_report){.rank = i, .armed_epoch = EPOCH};
    assert_int_equal(stage(CUT_STAGE_ARM), CUT_STAGE_RECORD);
    assert_int_equal(stage(CUT_STAGE_RECORD), CUT_STAGE_RECORD);
    for (uint32_t i = 0; i < WORLD; i++) {
        reports[i].recorded_cut = CUT;
        reports[i].recorded_attempt = ATTEMPT;
        reports[i].result = RECORD_DONE;
    }
    assert_int_equal(stage(CUT_STAGE_RECORD), CUT_STAGE_CLOSED);
    reports[3].result = RECORD_FAILED;
    assert_int_equal(stage(CUT_STAGE_RECORD), CUT_STAGE_CLOSED);
    assert_int_equal(misfit(), CUT_MISFIT_FAILED);
}

/* ---- reports that are kept ---- */

static void reports_in_any_order_say_the_same(void **state)
{
    (void)state;
    struct cut_rank_report at[6] = {
        [0] = {.coloured = 1, .epoch = 1, .sent_before = 5, .arrived_before = 5, .ended_epoch = 1}};
    for (unsigned i = 1; i < 6; i++)
        at[i] = at[i - 1];
    for (unsigned i = 1; i < 6; i++)
        at[i].armed_epoch = at[i].polling_epoch = EPOCH;
    for (unsigned i = 2; i < 6; i++) {
        at[i].epoch = EPOCH;
        at[i].sent_before = 20;
        at[i].arrived_before = 10 + i;
        at[i].recorded_cut = CUT;
        at[i].recorded_attempt = 1;
        at[i].result = RECORD_DONE;
    }
    at[4].result = at[5].result = RECORD_FAILED; /* what was whole turned out not to be */
    at[5].ended_epoch = CUT_ENDED_FOR_GOOD;
    at[5].left = 1;
    struct rng rng = {.state = 1};
    for (unsigned round = 0; round < 1000; round++) {
        struct cut_rank_report kept = {0};
        unsigned seen = 0;
        while (seen != 63) {
            unsigned i = (unsigned)rng_below(&rng, 6);
            seen |= 1u << i;
            cut_rank_report_merge(&kept, &at[i]);
        }
        assert_memory_equal(&kept, &at[5], sizeof kept);
    }
}

static void a_rank_that_finishes_in_an_old_epoch_brings_its_last_sums(void **state)
{
    (void)state;
    struct cut_rank_report kept = {.epoch = 1, .sent_before = 5, .arrived_before = 7};
    struct cut_rank_report last = {.epoch = 1, .sent_before = 9, .arrived_before = 8, .ended_epoch = CUT_ENDED_FOR_GOOD},
                           old = kept;
    cut_rank_report_merge(&kept, &last);
    cut_rank_report_merge(&kept, &old);
    assert_int_equal(kept.sent_before, 9);
    assert_int_equal(kept.arrived_before, 8);
}

/* ---- collectives ---- */

static void add(struct cut_comms *comms, uint64_t id, uint64_t collectives, uint32_t size, uint32_t rank)
{
    struct cut_members m = {
        .comm = {.id = id, .collectives = collectives, .size = size, .name = "grid"}, .members = 1, .rank = rank};
    assert_int_equal(cut_comms_add(comms, &m, NULL), TIDE_OK);
}

static struct cut_comms *told_by_all(void)
{
    struct cut_comms *comms = cut_comms_create();
    for (uint32_t rank = 0; rank < WORLD; rank++)
        add(comms, CUT_COMM_WORLD, 7, WORLD, rank);
    return comms;
}

static void members_on_one_side_of_every_collective(void **state)
{
    (void)state;
    struct cut_comms *comms = cut_comms_create();
    for (uint32_t rank = 0; rank < 4; rank++) {
        add(comms, 1, 7, 4, rank);
        add(comms, 100 + rank / 2, rank / 2, 2, rank);
        add(comms, 2, rank, 1, rank); /* of one member: nothing to compare */
    }
    assert_int_equal(cut_comms_judge(comms, WORLD, why, sizeof why), CUT_FITS);
    cut_comms_free(comms);
    cut_comms_free(NULL);
}

static void a_member_that_is_further_is_named(void **state)
{
    (void)state;
    struct cut_comms *comms = told_by_all();
    add(comms, 0xabc, 7, 3, 0);
    add(comms, 0xabc, 8, 3, 5);
    assert_int_equal(cut_comms_judge(comms, WORLD, why, sizeof why), CUT_MISFIT_COLLECTIVE);
    assert_string_equal(
        why, "the cut lies inside a collective: of communicator grid (0000000000000abc, 3 members) rank 0 has entered 7 and "
             "rank 5 8");
    cut_comms_free(comms);
}

static void a_member_that_is_missing_is_missed(void **state)
{
    (void)state;
    struct cut_comms *comms = told_by_all();
    add(comms, 0xabc, 7, 3, 4);
    add(comms, 0xabc, 7, 3, 5);
    assert_int_equal(cut_comms_judge(comms, WORLD, why, sizeof why), CUT_MISFIT_COLLECTIVE);
    assert_string_equal(
        why, "communicator grid (0000000000000abc) has 3 members and 2 of them know it at the cut, rank 4 for one");
    cut_comms_free(comms);
}

static void nothing_heard_is_no_proof(void **state)
{
    (void)state;
    struct cut_comms *comms = cut_comms_create();
    assert_int_equal(cut_comms_judge(comms, WORLD, why, sizeof why), CUT_MISFIT_COLLECTIVE);
    assert_string_equal(why, "4 of 4 ranks have not told their communicators");
    assert_int_equal(cut_comms_judge(comms, 1, why, sizeof why), CUT_FITS);
    for (uint32_t rank = 0; rank < WORLD - 1; rank++)
        add(comms, CUT_COMM_WORLD, 7, WORLD, rank);
    assert_int_equal(cut_comms_judge(comms, WORLD, why, sizeof why), CUT_MISFIT_COLLECTIVE);
    cut_comms_free(comms);
}

static void sums_of_agents_say_what_their_ranks_said(void **state)
{
    (void)state;
    struct cut_comms *agents[2] = {cut_comms_create(), cut_comms_create()}, *leader = cut_comms_create();
    struct cut_members line;
    for (uint32_t rank = 0; rank < 8; rank++) {
        add(agents[rank / 4], 1, rank == 6 ? 8 : 7, 8, rank);
        add(agents[rank / 4], 50, 3, 8, rank);
    }
    for (unsigned i = 0; i < 2; i++) {
        for (size_t k = 0; cut_comms_line(agents[i], k, &line) == 0; k++)
            assert_int_equal(cut_comms_add(leader, &line, NULL), TIDE_OK);
        cut_comms_free(agents[i]);
    }
    assert_int_equal(cut_comms_judge(leader, 8, why, sizeof why), CUT_MISFIT_COLLECTIVE);
    assert_non_null(strstr(why, "rank 0 has entered 7 and rank 6 8"));
    cut_comms_free(leader);
}

static void as_many_ranks_as_there_may_be(void **state)
{
    (void)state;
    static struct cut_verdict v;
    struct cut_comms *comms = cut_comms_create();
    cut_verdict_init(&v, TIDE_RANKS_MAX, EPOCH, CUT, ATTEMPT);
    for (uint32_t rank = 0; rank < TIDE_RANKS_MAX; rank++) {
        struct cut_rank_report r = {
            .rank = rank, .coloured = 1, .epoch = EPOCH, .sent_before = rank, .arrived_before = TIDE_RANKS_MAX - 1 - rank};
        cut_verdict_add(&v, &r);
        add(comms, 1, 7, TIDE_RANKS_MAX, rank);
        add(comms, 1000 + rank / 2, 7, 2, rank);
    }
    assert_int_equal(cut_verdict_stage(&v, CUT_STAGE_RECORD), CUT_STAGE_SETTLED);
    assert_int_equal(cut_comms_judge(comms, TIDE_RANKS_MAX, why, sizeof why), CUT_FITS);
    cut_comms_free(comms);
}

static void communicators_are_limited(void **state)
{
    (void)state;
    struct cut_comms *comms = cut_comms_create();
    struct err err = {0};
    for (uint32_t i = 0; i < CUT_VERDICT_COMMS_MAX; i++)
        add(comms, i + 1, 0, 2, 0);
    struct cut_members more = {.comm = {.id = UINT64_MAX, .size = 2}, .members = 1};
    assert_int_equal(cut_comms_add(comms, &more, &err), TIDE_E_LIMIT);
    more.comm.id = 17;
    assert_int_equal(cut_comms_add(comms, &more, &err), TIDE_OK);
    cut_comms_free(comms);
}

/* ---- modes ---- */

static void step_mode_first_then_the_free_one(void **state)
{
    (void)state;
    struct cut_past past = {0};
    for (unsigned i = 0; i < CUT_STEP_TRIES; i++) {
        assert_int_equal(cut_mode_next(&past), CUT_MODE_STEP);
        cut_past_add(&past, CUT_MODE_STEP, i % 2 ? CUT_MISFIT_LATE : CUT_MISFIT_EARLY);
    }
    assert_int_equal(cut_mode_next(&past), CUT_MODE_FREE);
    cut_past_add(&past, CUT_MODE_FREE, CUT_FITS);
    assert_false(cut_past_hopeless(&past));
    for (unsigned i = 0; i < CUT_EARLY_TRIES; i++) {
        assert_int_equal(cut_mode_next(&past), CUT_MODE_FREE);
        cut_past_add(&past, CUT_MODE_FREE, CUT_MISFIT_EARLY);
    }
    assert_int_equal(cut_mode_next(&past), CUT_MODE_STEP);
    for (unsigned i = 0; i < CUT_STEP_TRIES; i++)
        cut_past_add(&past, CUT_MODE_STEP, CUT_MISFIT_MISSED);
    assert_true(cut_past_hopeless(&past));
}

static void what_has_nothing_to_do_with_the_mode_changes_none(void **state)
{
    (void)state;
    struct cut_past past = {0};
    for (unsigned i = 0; i < 20; i++)
        cut_past_add(&past, CUT_MODE_STEP, CUT_MISFIT_FAILED);
    assert_int_equal(cut_mode_next(&past), CUT_MODE_STEP);
    assert_false(cut_past_hopeless(&past));
}

static void what_the_program_says_wins(void **state)
{
    (void)state;
    struct cut_past past = {.declared = CUT_MODE_FREE};
    assert_int_equal(cut_mode_next(&past), CUT_MODE_FREE);
    for (unsigned i = 0; i < CUT_EARLY_TRIES; i++) {
        assert_false(cut_past_hopeless(&past));
        cut_past_add(&past, CUT_MODE_FREE, CUT_MISFIT_EARLY);
    }
    assert_int_equal(cut_mode_next(&past), CUT_MODE_FREE);
    assert_true(cut_past_hopeless(&past));
}

static void everything_has_a_name(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CUT_MISFITS; i++)
        assert_string_not_equal(cut_misfit_name(i), "unknown");
    assert_string_equal(cut_misfit_name(CUT_MISFITS), "unknown");
    assert_string_equal(cut_mode_name(CUT_MODE_FREE), "free");
    assert_string_equal(cut_mode_name(CUT_MODES), "unknown");
}

#define CASE(name) cmocka_unit_test_setup(name, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(go_when_all_are_armed_and_poll),
        CASE(given_up_before_go),
        CASE(settled_when_the_sums_are_equal),
        CASE(one_that_cannot_record_has_the_others_flip),
        CASE(the_cause_is_named_before_what_follows_from_it),
        CASE(told_to_flip_is_late_once_it_has_ended),
        CASE(who_has_finished_is_not_waited_for),
        CASE(ranks_without_colour_only_record),
        CASE(reports_in_any_order_say_the_same),
        CASE(a_rank_that_finishes_in_an_old_epoch_brings_its_last_sums),
        CASE(members_on_one_side_of_every_collective),
        CASE(a_member_that_is_further_is_named),
        CASE(a_member_that_is_missing_is_missed),
        CASE(nothing_heard_is_no_proof),
        CASE(sums_of_agents_say_what_their_ranks_said),
        CASE(as_many_ranks_as_there_may_be),
        CASE(communicators_are_limited),
        CASE(step_mode_first_then_the_free_one),
        CASE(what_has_nothing_to_do_with_the_mode_changes_none),
        CASE(what_the_program_says_wins),
        CASE(everything_has_a_name),
    };
    return cmocka_run_group_tests_name("cut_verdict", tests, NULL, NULL);
}
