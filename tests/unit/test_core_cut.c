/* SPDX-License-Identifier: Apache-2.0 */
#include "core_dsl.h"

/* Cuts: opening, arming again, sealing, aborting. */

static void by_hand(struct world *w, const char *job)
{
    assert_int_equal(order(w, CMD_CKPT_REQUEST, job, 0), TIDE_OK);
}

static void start(struct world *w, uint32_t nodes, uint32_t nproc)
{
    world_init(w);
    world_nodes(w, nodes, nproc);
    assert_int_equal(submit(w, "j", nodes, 0, nproc), TIDE_OK);
    run(w, 1000);
    assert_true(job_of(w, "j")->all_stepped);
}

static void cut_by_hand_is_sealed_stored_and_committed(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 2);
    assert_int_equal(job_of(&w, "j")->ckpts.count, 0);
    by_hand(&w, "j");
    assert_int_equal(w.outcome.cut, 1);
    run(&w, TICK_MS);
    const struct ckpt *ckpt = ckpt_of(&w, "j", 1);
    assert_int_equal(ckpt->state, TIDE_CKPT_OPEN);
    assert_true(ckpt->by_hand);
    uint64_t top = book_step(&w.book, &w.state, "j");
    /* 100 steps a second, two and a half heartbeats of 250 ms: at least 62 ahead, and not much more. */
    assert_in_range(ckpt->step, top + 62, top + 70);
    assert_true(explained(&w, "j", "0 of 4 ranks; missing: rank 0 on n1"));
    run(&w, 1000);
    ckpt = ckpt_of(&w, "j", 1);
    assert_int_equal(ckpt->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(ckpt->attempt, 1);
    assert_int_equal(ckpt->raw_bytes, 4000);
    assert_int_equal(ckpt->stored_bytes, 1600);
    assert_int_equal(ckpt->stall_us, 8);
    assert_string_equal(ckpt->manifest_key, "m/1");
    assert_string_equal(ckpt->nodes.items[1], "n2");
    assert_int_equal(record_of(&w, "j")->store_cut, 0);
    assert_int_equal(w.applied[CMD_CUT_SEAL], 1);
    assert_int_equal(w.applied[CMD_CKPT_STORED], 1);
    assert_int_equal(w.applied[CMD_CKPT_COMMIT], 1);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    run(&w, 2000);
    assert_int_equal(job_of(&w, "j")->ckpts.count, 1);
    world_release(&w);
}

static void asking_twice_gives_one_cut(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1);
    by_hand(&w, "j");
    by_hand(&w, "j");
    assert_int_equal(w.outcome.cut, 1);
    run(&w, TICK_MS);
    by_hand(&w, "j");
    assert_int_equal(w.outcome.cut, 1);
    assert_text(w.outcome.text, "is being recorded already");
    run(&w, 3000);
    assert_int_equal(job_of(&w, "j")->ckpts.count, 1);
    world_release(&w);
}

static void interval_opens_cuts_one_at_a_time(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    struct command command = submission(&w, "j", 2, 0, 1);
    command.spec.ckpt_every_ms = 2000;
    submit_this(&w, &command);
    run(&w, 1900);
    assert_int_equal(job_of(&w, "j")->ckpts.count, 0);
    run(&w, 8300);
    assert_in_range(job_of(&w, "j")->ckpts.count, 4, 5);
    assert_int_equal(ckpt_of(&w, "j", 3)->state, TIDE_CKPT_COMMITTED);
    assert_false(ckpt_of(&w, "j", 3)->by_hand);
    /* The clock of the leader is set back by an hour: the interval goes on. */
    w.wall_ms -= 3600 * 1000;
    size_t before = job_of(&w, "j")->ckpts.count;
    run(&w, 4500);
    assert_in_range(job_of(&w, "j")->ckpts.count, before + 1, before + 3);
    world_release(&w);
}

static void no_cut_while_a_rank_is_not_stepping_or_has_ended(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    w.ranks[1].stuck_step = true;
    submit(&w, "j", 2, 0, 1);
    by_hand(&w, "j");
    run(&w, 3000);
    assert_int_equal(job_of(&w, "j")->ckpts.count, 0);
    assert_true(explained(&w, "j", "it opens when every rank makes steps; missing: rank 1 on n2"));
    w.ranks[1].stuck_step = false;
    w.ranks[0].ends = true;
    run(&w, 3000);
    assert_int_equal(job_of(&w, "j")->ckpts.count, 0);
    assert_true(explained(&w, "j", "cannot be taken any more"));
    world_release(&w);
}

static void missed_step_is_armed_again_further_ahead(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1);
    w.ranks[1].misses = true;
    by_hand(&w, "j");
    run(&w, TICK_MS);
    uint64_t first = ckpt_of(&w, "j", 1)->step;
    run(&w, 3 * TICK_MS);
    const struct ckpt *ckpt = ckpt_of(&w, "j", 1);
    assert_true(ckpt->attempt >= 2);
    assert_true(ckpt->step >= first + 2 * 62);
    assert_text(event_last(&w, "j", EVENT_CUT_REARMED)->text, "rank 1 on n2 was at step");
    w.ranks[1].misses = false;
    run(&w, 20000);
    ckpt = ckpt_of(&w, "j", 1);
    assert_int_equal(ckpt->state, TIDE_CKPT_COMMITTED);
    assert_true(ckpt->attempt <= CUT_ATTEMPTS_MAX);
    world_release(&w);
}

static void cut_missed_too_often_is_aborted(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1);
    w.ranks[1].misses = true;
    by_hand(&w, "j");
    run(&w, 500);
    const struct ckpt *ckpt = ckpt_of(&w, "j", 1);
    assert_int_equal(ckpt->state, TIDE_CKPT_ABORTED);
    assert_int_equal(ckpt->attempt, CUT_ATTEMPTS_MAX);
    assert_text(ckpt->reason, "rank 1 on n2 had passed step");
    assert_int_equal(w.applied[CMD_CUT_REARM], CUT_ATTEMPTS_MAX - 1);
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->generation, 1);
    world_release(&w);
}

static void failed_record_aborts_the_cut_and_names_the_rank(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1);
    w.ranks[1].fails = true;
    by_hand(&w, "j");
    run(&w, 1500);
    const struct ckpt *ckpt = ckpt_of(&w, "j", 1);
    assert_int_equal(ckpt->state, TIDE_CKPT_ABORTED);
    assert_string_equal(ckpt->reason, "rank 1 on n2 could not record: no space left in the arena");
    const struct event *event = event_last(&w, "j", EVENT_CUT_ABORTED);
    assert_int_equal(event->rank, 1);
    assert_string_equal(event->node, "n2");
    assert_int_equal(event->cut, 1);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    /* The next one gets the next number. */
    w.ranks[1].fails = false;
    by_hand(&w, "j");
    run(&w, 1500);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_COMMITTED);
    world_release(&w);
}

static void rank_that_never_arrives_aborts_the_cut_only(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 1);
    struct command command = submission(&w, "j", 3, 0, 1);
    command.spec.cut_deadline_ms = 5000;
    submit_this(&w, &command);
    run(&w, 1000);
    w.ranks[1].deaf_cut = true;
    by_hand(&w, "j");
    run(&w, 4900);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_OPEN);
    run(&w, 200);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "within 5000 ms: rank 1 on n2");
    assert_int_equal(event_last(&w, "j", EVENT_CUT_ABORTED)->rank, 1);
    assert_state(&w, "j", "running");
    world_release(&w);
}

static void unequal_collectives_are_no_cut(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1);
    w.ranks[1].unequal = true;
    by_hand(&w, "j");
    run(&w, 1500);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "rank 0 on n1 had entered");
    assert_text(ckpt_of(&w, "j", 1)->reason, "but rank 1 on n2");
    world_release(&w);
}

static void what_is_counted_without_colours_is_judged_by_communicator(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 1);
    for (uint32_t r = 0; r < 3; r++)
        w.ranks[r].paint.counts = true;
    by_hand(&w, "j");
    run(&w, 1500);
    assert_true(ckpt_of(&w, "j", 1)->state == TIDE_CKPT_SEALED || ckpt_of(&w, "j", 1)->state == TIDE_CKPT_COMMITTED);
    w.ranks[2].paint.uneven = true;
    by_hand(&w, "j");
    run(&w, 1500);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 2)->reason, "rank 0 has entered 40 and rank 2 41");
    w.ranks[2].paint.uneven = false;
    w.ranks[1].paint.sends = 2;
    by_hand(&w, "j");
    run(&w, 1500);
    assert_int_equal(ckpt_of(&w, "j", 3)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 3)->reason, "(000000000000abcd, 2 members) are under way: 2 were sent and 0 received");
    w.ranks[1].paint.counts = false;
    by_hand(&w, "j");
    run(&w, 1500);
    assert_text(ckpt_of(&w, "j", 4)->reason, "has 3 members and 2 of them know it at the cut");
    world_release(&w);
}

static void rank_that_finishes_first_aborts_the_cut(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1);
    by_hand(&w, "j");
    run(&w, TICK_MS);
    w.ranks[0].ends = true;
    w.ranks[0].deaf_cut = true;
    run(&w, TICK_MS);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "rank 0 on n1 finished at step");
    assert_state(&w, "j", "running");
    world_release(&w);
}

static void failure_aborts_the_open_cut(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1);
    by_hand(&w, "j");
    run(&w, TICK_MS);
    w.ranks[0].signal = 6;
    run(&w, TICK_MS);
    w.ranks[0].signal = 0;
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "generation 1 ended first: rank 0 on n1 was killed by signal 6 (SIGABRT)");
    run(&w, 500);
    assert_int_equal(job_of(&w, "j")->restore_cut, 0);
    world_release(&w);
}

static void a_new_leader_goes_on_with_the_open_cut(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1);
    by_hand(&w, "j");
    run(&w, 300);
    new_leader(&w);
    run(&w, 1500);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(ckpt_of(&w, "j", 1)->attempt, 1);
    world_release(&w);
}

static void fast_and_slow_programs_are_both_hit(void **context)
{
    (void)context;
    static const uint64_t rates[] = {1, 7, 1000, 50000};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        struct world w;
        world_init(&w);
        w.steps_per_s = rates[i];
        world_nodes(&w, 2, 1);
        submit(&w, "j", 2, 0, 1);
        run(&w, 3000);
        by_hand(&w, "j");
        run(&w, 6000);
        assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
        assert_int_equal(ckpt_of(&w, "j", 1)->attempt, 1);
        world_release(&w);
    }
}

/* Steps of a large model take half a minute: the deadline is for ranks that do not come, not for the steps until then. */
static void a_program_whose_steps_are_slow_gets_its_checkpoints(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    w.step_ms = 25000;
    world_nodes(&w, 2, 1);
    struct command command = submission(&w, "j", 2, 0, 1);
    command.spec.ckpt_every_ms = 120000;
    submit_this(&w, &command);
    run(&w, 400000);
    assert_int_equal(event_count(&w, "j", EVENT_CUT_ABORTED), 0);
    assert_true(event_count(&w, "j", EVENT_COMMITTED) >= 2);
    /* A rank that does not come is still found out. */
    w.ranks[1].deaf_cut = true;
    run(&w, 400000);
    assert_non_null(event_last(&w, "j", EVENT_CUT_ABORTED));
    assert_text(event_last(&w, "j", EVENT_CUT_ABORTED)->text, "rank 1 on n2");
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_by_hand_is_sealed_stored_and_committed),
        cmocka_unit_test(asking_twice_gives_one_cut),
        cmocka_unit_test(interval_opens_cuts_one_at_a_time),
        cmocka_unit_test(no_cut_while_a_rank_is_not_stepping_or_has_ended),
        cmocka_unit_test(missed_step_is_armed_again_further_ahead),
        cmocka_unit_test(cut_missed_too_often_is_aborted),
        cmocka_unit_test(failed_record_aborts_the_cut_and_names_the_rank),
        cmocka_unit_test(rank_that_never_arrives_aborts_the_cut_only),
        cmocka_unit_test(unequal_collectives_are_no_cut),
        cmocka_unit_test(what_is_counted_without_colours_is_judged_by_communicator),
        cmocka_unit_test(rank_that_finishes_first_aborts_the_cut),
        cmocka_unit_test(failure_aborts_the_open_cut),
        cmocka_unit_test(a_new_leader_goes_on_with_the_open_cut),
        cmocka_unit_test(fast_and_slow_programs_are_both_hit),
        cmocka_unit_test(a_program_whose_steps_are_slow_gets_its_checkpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
