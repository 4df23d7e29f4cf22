/* SPDX-License-Identifier: Apache-2.0 */
#include "core_dsl.h"

/* A program that gets nowhere is not started again and again without a pause. */

static void start(struct world *w, uint32_t nodes)
{
    world_init(w);
    world_nodes(w, nodes, 1);
    struct command command = submission(w, "j", 2, nodes - 2, 1);
    command.spec.max_restarts = 100;
    assert_int_equal(submit_this(w, &command), TIDE_OK);
    w->ranks[0].stuck_step = w->ranks[1].stuck_step = true;
    run(w, 200);
    assert_state(w, "j", "running");
}

/* The present generation fails; the pause before the next is returned. */
static uint64_t fails(struct world *w)
{
    uint64_t generation = job_of(w, "j")->generation;
    w->ranks[0].exit_code = 7;
    run(w, TICK_MS);
    w->ranks[0].exit_code = 0;
    assert_int_equal(job_of(w, "j")->generation, generation + 1);
    return record_of(w, "j")->pause_ms;
}

static void the_pause_grows_while_nothing_is_achieved(void **context)
{
    (void)context;
    static const uint64_t pauses_s[] = {0, 1, 2, 4, 8, 16, 32, 60, 60};
    struct world w;
    start(&w, 2);
    for (size_t i = 0; i < sizeof pauses_s / sizeof pauses_s[0]; i++) {
        assert_int_equal(fails(&w), pauses_s[i] * MS_PER_S);
        if (pauses_s[i] > 0) {
            run(&w, pauses_s[i] * MS_PER_S - 300);
            assert_state(&w, "j", "restarting");
        }
        run(&w, 500);
        assert_state(&w, "j", "running");
        assert_int_equal(record_of(&w, "j")->pause_ms, 0);
    }
    assert_text(event_last(&w, "j", EVENT_NOTE)->text, "9 generations in a row failed before they made a step");
    assert_int_equal(job_of(&w, "j")->restarts, 9);
    world_release(&w);
}

static void a_step_ends_the_series(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2);
    for (int i = 0; i < 3; i++) {
        fails(&w);
        run(&w, 5000);
    }
    assert_int_equal(record_of(&w, "j")->barren, 3);
    w.ranks[0].stuck_step = w.ranks[1].stuck_step = false;
    run(&w, 500);
    assert_int_equal(fails(&w), 0);
    assert_int_equal(record_of(&w, "j")->barren, 0);
    w.ranks[0].stuck_step = w.ranks[1].stuck_step = true;
    run(&w, 500);
    assert_int_equal(fails(&w), 0); /* the first of a new series */
    world_release(&w);
}

static void a_lost_node_is_replaced_at_once(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3);
    for (int i = 0; i < 3; i++) {
        fails(&w);
        run(&w, 5000);
    }
    fake_of(&w, "n2")->up = false;
    run(&w, 2500);
    assert_state(&w, "j", "running");
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n3");
    assert_int_equal(record_of(&w, "j")->barren, 3); /* nor does it excuse the program */
    world_release(&w);
}

static void the_pause_is_told_and_counted_anew_by_a_new_leader(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2);
    for (int i = 0; i < 4; i++) {
        fails(&w);
        run(&w, 5000);
    }
    assert_int_equal(fails(&w), 8000);
    assert_text(job_of(&w, "j")->reason, "rank 0 on n1 exited with status 7; next try 8 s after that");
    run(&w, 1000);
    assert_true(explained(&w, "j", "next try in 7 s: 5 generations in a row failed before they made a step"));
    new_leader(&w);
    run(&w, TICK_MS);
    assert_true(explained(&w, "j", "next try in 8 s"));
    run(&w, 7500);
    assert_state(&w, "j", "restarting");
    run(&w, 1000);
    assert_state(&w, "j", "running");
    world_release(&w);
}

static void cancel_does_not_wait_for_the_pause(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2);
    for (int i = 0; i < 4; i++) {
        fails(&w);
        run(&w, 5000);
    }
    fails(&w);
    run(&w, 500);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    run(&w, 500);
    assert_state(&w, "j", "cancelled");
    assert_int_equal(record_of(&w, "j")->pause_ms, 0);
    world_release(&w);
}

static void rollback_does_not_wait_for_the_pause(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2);
    w.ranks[0].stuck_step = w.ranks[1].stuck_step = false;
    run(&w, 1000);
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 1500);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    fails(&w);
    w.ranks[0].stuck_step = w.ranks[1].stuck_step = true;
    run(&w, 500);
    /* What was restored is no progress. */
    for (int i = 0; i < 4; i++) {
        fails(&w);
        run(&w, 5000);
    }
    assert_int_equal(fails(&w), 8000);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 1), TIDE_OK);
    run(&w, 500);
    assert_state(&w, "j", "running");
    assert_int_equal(fails(&w), 0);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pause_grows_while_nothing_is_achieved),
        cmocka_unit_test(a_step_ends_the_series),
        cmocka_unit_test(a_lost_node_is_replaced_at_once),
        cmocka_unit_test(the_pause_is_told_and_counted_anew_by_a_new_leader),
        cmocka_unit_test(cancel_does_not_wait_for_the_pause),
        cmocka_unit_test(rollback_does_not_wait_for_the_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
