/* SPDX-License-Identifier: Apache-2.0 */
#include "core_ills.h"

/* Whose rank the others wait for: what the leader makes of it (coordinator/core/judge_hang.c). */

#define HANG_MS 10000u
#define HANG_TOLD_MS 3000u /* more than it has to be so */

static struct op_report op_at(uint64_t begun, uint64_t undone)
{
    struct op_report op = {.id = "00000000000000aa", .name = "dp", .size = 2, .begun = begun, .undone = undone};
    op.reached = undone != 0 ? undone : begun;
    op.done = undone != 0 ? undone - 1 : begun;
    return op;
}

/* The job stands still, and its two ranks are there. */
static void hang(struct world *w, struct op_report first, struct op_report second)
{
    w->steps_per_s = 0;
    w->hang_ms = HANG_MS;
    w->ranks[0].op = first;
    w->ranks[1].op = second;
}

static void go_on(struct world *w)
{
    w->steps_per_s = STEPS_PER_S_DEFAULT;
    w->ranks[0].op = w->ranks[1].op = (struct op_report){0};
    run(w, 3000);
    assert_state(w, "j", "running");
}

static void who_hangs_is_blamed_and_the_second_time_drained(void **context)
{
    (void)context;
    struct world w;
    world_begin(&w);
    run(&w, 2000);
    hang(&w, op_at(61, 61), op_at(60, 0));
    run(&w, 1500);
    assert_int_equal(state_node(&w.state, "n2")->evidence.count, 0);
    run(&w, HANG_TOLD_MS - 1500);
    assert_int_equal(state_node(&w.state, "n1")->evidence.count, 0);
    assert_int_equal(state_node(&w.state, "n2")->evidence.count, 1);
    const struct health_fact *fact = &state_node(&w.state, "n2")->evidence.items[0];
    assert_string_equal(fact->subject, "job j rank 1");
    assert_text(fact->text, "rank 1 has entered 60 collectives of communicator dp, others 61, and wait for it");
    assert_true(explained(&w, "j", "no rank makes a step: rank 1 has entered 60"));
    assert_int_equal(steady(&w), 0);
    run(&w, HANG_MS);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_int_equal(job_of(&w, "j")->recoveries.items[0].cause, EVENT_NODE_HEALTH);
    assert_text(job_of(&w, "j")->recoveries.items[0].text, "no step is made since node n2 told: hang: job j rank 1");
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_READY);
    go_on(&w);
    run(&w, 30000); /* that it is over is forgotten; that it was so for too long is not */
    assert_int_equal(job_of(&w, "j")->generation, 2);
    hang(&w, op_at(61, 61), op_at(60, 0));
    run(&w, HANG_MS + 10000);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    assert_int_equal(job_of(&w, "j")->generation, 3);
    for (size_t i = 0; i < job_of(&w, "j")->nodes.count; i++)
        assert_string_not_equal(job_of(&w, "j")->nodes.items[i], "n2");
    world_release(&w);
}

/* Whoever has given the node back has forgiven it: the next time is the first one, and is told. */
static void what_was_forgiven_is_told_anew(void **context)
{
    (void)context;
    struct world w;
    world_begin(&w);
    run(&w, 2000);
    for (unsigned i = 0; i < 2; i++) {
        hang(&w, op_at(61, 61), op_at(60, 0));
        run(&w, HANG_MS + 10000);
        go_on(&w);
    }
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    assert_int_equal(node_order(&w, CMD_NODE_RESUME, "n2"), TIDE_OK);
    assert_int_equal(node_order(&w, CMD_NODE_DRAIN, "n3"), TIDE_OK);
    crash(&w, 1);
    go_on(&w);
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n2");
    assert_int_equal(state_node(&w.state, "n2")->health, TIDE_HEALTH_HEALTHY);
    hang(&w, op_at(61, 61), op_at(60, 0));
    run(&w, HANG_TOLD_MS);
    assert_int_equal(state_node(&w.state, "n2")->health, TIDE_HEALTH_DEGRADED);
    world_release(&w);
}

static void who_comes_to_the_next_one_does_not_hang(void **context)
{
    (void)context;
    struct world w;
    world_begin(&w);
    run(&w, 2000);
    for (unsigned i = 0; i < 3; i++) {
        hang(&w, op_at(61 + i, 61 + i), op_at(60 + i, 0));
        run(&w, HANG_MS - 1000);
    }
    assert_int_equal(job_of(&w, "j")->generation, 1);
    world_release(&w);
}

static void where_all_are_inside_nobody_is_blamed(void **context)
{
    (void)context;
    struct world w;
    world_begin(&w);
    run(&w, 2000);
    hang(&w, op_at(60, 60), op_at(60, 60));
    run(&w, HANG_TOLD_MS);
    assert_true(explained(&w, "j", "all 2 members of communicator dp have entered collective 60, and it does not complete, rank 0 has "
                                   "entered 60 and completed 59"));
    run(&w, HANG_MS);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_text(job_of(&w, "j")->recoveries.items[0].text, "all 2 members of communicator dp have entered collective 60");
    go_on(&w);
    for (size_t i = 0; i < w.state.nodes.count; i++)
        assert_int_equal(w.state.nodes.items[i].evidence.count, 0);
    world_release(&w);
}

/* There is room for another generation later only. */
static void where_nobody_is_blamed_room_is_waited_for(void **context)
{
    (void)context;
    struct world w;
    world_begin(&w);
    run(&w, 2000);
    assert_int_equal(node_order(&w, CMD_NODE_DRAIN, "n2"), TIDE_OK);
    assert_int_equal(node_order(&w, CMD_NODE_DRAIN, "n3"), TIDE_OK);
    hang(&w, op_at(60, 60), op_at(60, 60));
    run(&w, 2 * HANG_MS);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    assert_int_equal(node_order(&w, CMD_NODE_RESUME, "n2"), TIDE_OK);
    run(&w, 3000);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    world_release(&w);
}

/* A coordinator that was stopped knows nothing of what was meanwhile; who says nothing of himself is in a checkpoint. */
static void what_is_not_seen_alarms_nobody(void **context)
{
    (void)context;
    struct world w;
    world_begin(&w);
    run(&w, 2000);
    hang(&w, op_at(61, 61), (struct op_report){0});
    run(&w, 2 * HANG_MS);
    hang(&w, op_at(61, 0), op_at(61, 0)); /* all compile, or replay a graph */
    run(&w, 2 * HANG_MS);
    hang(&w, op_at(61, 61), op_at(60, 0));
    run(&w, 1000);
    w.now_ns += 60 * NS_PER_S;
    w.wall_ms += 60000;
    run(&w, 1000);
    go_on(&w);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    for (size_t i = 0; i < w.state.nodes.count; i++)
        assert_int_equal(w.state.nodes.items[i].evidence.count, 0);
    world_release(&w);
}

/* As of programs without NCCL: nobody is named, and nothing is done; but it is said, and who has come how far. */
static void a_job_that_stands_still_for_an_unknown_reason_says_so(void **context)
{
    (void)context;
    struct world w;
    world_begin(&w);
    run(&w, 2000);
    assert_true(explained(&w, "j", "all ranks make steps; the newest reported is"));
    w.ranks[0].slow = w.ranks[1].slow = UINT64_MAX; /* for good */
    w.ranks[0].slow_from = 501;
    w.ranks[1].slow_from = 500;
    run(&w, 8000);
    assert_true(explained(&w, "j", "all ranks make steps"));
    run(&w, 8000);
    assert_false(explained(&w, "j", "all ranks make steps"));
    assert_true(explained(&w, "j", "no rank has come further than step 501 for 1"));
    assert_true(explained(&w, "j", " s, with rank 1 at step 500 and rank 0 at 501"));
    assert_int_equal(state_node(&w.state, "n1")->evidence.count + state_node(&w.state, "n2")->evidence.count, 0);
    run(&w, 600000);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    w.ranks[0].slow = w.ranks[1].slow = 0;
    run(&w, 1000);
    assert_true(explained(&w, "j", "all ranks make steps"));
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_hangs_is_blamed_and_the_second_time_drained),
        cmocka_unit_test(what_was_forgiven_is_told_anew),
        cmocka_unit_test(who_comes_to_the_next_one_does_not_hang),
        cmocka_unit_test(where_all_are_inside_nobody_is_blamed),
        cmocka_unit_test(where_nobody_is_blamed_room_is_waited_for),
        cmocka_unit_test(what_is_not_seen_alarms_nobody),
        cmocka_unit_test(a_job_that_stands_still_for_an_unknown_reason_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
