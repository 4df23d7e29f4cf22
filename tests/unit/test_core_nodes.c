/* SPDX-License-Identifier: Apache-2.0 */
#include "core_dsl.h"

/* Nodes: registering, heartbeats and leases, draining, placement. */

static void restarted_agent_is_taken_at_once(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 500);
    struct fake *n2 = fake_of(&w, "n2");
    TEXT_SET(n2->incarnation, "inc-n2-2");
    n2->sequence = 0;
    bool changed;
    assert_int_equal(fake_beat(&w, n2, &changed), TIDE_E_STALE);
    assert_int_equal(register_as(&w, "n2", n2->uid, n2->incarnation, 1), TIDE_OK);
    run(&w, 3000);
    /* Its ranks never noticed, and the job did not either. */
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->generation, 1);
    assert_int_equal(w.applied[CMD_NODE_LOST], 0);
    /* A verdict about the earlier incarnation is stale. */
    struct command lost = command_new(&w, CMD_NODE_LOST, NULL);
    TEXT_SET(lost.node, "n2");
    TEXT_SET(lost.incarnation, "inc-n2-1");
    assert_int_equal(world_apply(&w, &lost), TIDE_E_STALE);
    world_release(&w);
}

static void two_agents_with_one_name_are_a_conflict(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    struct fake *n1 = node_new(&w, "n1", 1);
    assert_int_equal(register_as(&w, "n1", "uid-other", "inc-other", 1), TIDE_E_CONFLICT);
    assert_text(w.err.text, "another agent is node n1 already");
    assert_text(w.err.text, "--name");
    run(&w, 500);
    assert_int_equal(state_node(&w.state, "n1")->state, TIDE_NODE_READY);
    n1->up = false;
    run(&w, 2500);
    assert_int_equal(state_node(&w.state, "n1")->state, TIDE_NODE_LOST);
    assert_text(state_node(&w.state, "n1")->reason, "silent for 2.0");
    assert_int_equal(register_as(&w, "n1", "uid-other", "inc-other", 1), TIDE_OK);
    assert_int_equal(state_node(&w.state, "n1")->state, TIDE_NODE_READY);
    assert_string_equal(state_node(&w.state, "n1")->reason, "");
    /* The first one, when it comes back, is the intruder. */
    bool changed;
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_E_STALE);
    assert_int_equal(register_as(&w, "n1", n1->uid, n1->incarnation, 1), TIDE_E_CONFLICT);
    world_release(&w);
}

static void bad_registrations_are_refused(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    assert_int_equal(register_as(&w, "n1", "", "i", 1), TIDE_E_INVALID);
    assert_int_equal(register_as(&w, "n1", "u", "", 1), TIDE_E_INVALID);
    assert_int_equal(register_as(&w, "n1", "u", "i", 0), TIDE_E_INVALID);
    assert_int_equal(register_as(&w, "n1", "u", "i", TIDE_LOCAL_RANKS_MAX + 1), TIDE_E_INVALID);
    assert_int_equal(w.state.nodes.count, 0);
    assert_int_equal(node_order(&w, CMD_NODE_DRAIN, "n1"), TIDE_E_NOT_FOUND);
    assert_text(w.err.text, "tidemark node list");
    assert_int_equal(node_order(&w, CMD_NODE_RESUME, "n1"), TIDE_E_NOT_FOUND);
    assert_int_equal(node_order(&w, CMD_NODE_LOST, "n1"), TIDE_E_NOT_FOUND);
    world_release(&w);
}

static void lost_node_must_register_again(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    struct fake *n1 = node_new(&w, "n1", 1);
    run(&w, 100);
    n1->up = false;
    run(&w, 2500);
    bool changed = true;
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_E_NOT_FOUND);
    assert_text(w.err.text, "register again");
    assert_int_equal(state_node(&w.state, "n1")->state, TIDE_NODE_LOST);
    assert_int_equal(register_as(&w, "n1", n1->uid, n1->incarnation, 1), TIDE_OK);
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    /* A node nobody counted on: no job was touched. */
    world_release(&w);
}

/* It has been there since before the group could take it down. */
static void who_has_a_key_tells_it_when_the_group_can_know_it(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    struct fake *n1 = node_new(&w, "n1", 1);
    bool changed;
    w.state.level = w.second.level = PIN_LEVEL - 1;
    state_node(&w.state, "n1")->pin[0] = state_node(&w.second, "n1")->pin[0] = '\0';
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    w.state.level = w.second.level = PIN_LEVEL;
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_E_NOT_FOUND);
    assert_text(w.err.text, "nobody has told the pin of node n1: register again");
    n1->old = true; /* it has none */
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    n1->old = false;
    assert_int_equal(register_as(&w, "n1", n1->uid, n1->incarnation, 1), TIDE_OK);
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    world_release(&w);
}

static void old_heartbeats_are_no_sign_of_life(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    struct fake *n1 = node_new(&w, "n1", 1);
    n1->up = false;
    bool changed = false;
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    assert_true(changed);
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    assert_false(changed);
    for (int i = 0; i < 25; i++) {
        n1->sequence = 0; /* the first one again and again */
        assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
        assert_false(changed);
        run(&w, 100);
        if (state_node(&w.state, "n1")->state == TIDE_NODE_LOST)
            break;
    }
    assert_int_equal(state_node(&w.state, "n1")->state, TIDE_NODE_LOST);
    struct heartbeat stranger = {.sequence = 1};
    TEXT_SET(stranger.node, "n7");
    assert_int_equal(book_heartbeat(&w.book, &w.state, &stranger, w.now_ns, &changed, &w.err), TIDE_E_NOT_FOUND);
    world_release(&w);
}

static void only_steps_are_no_change(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 1, 2);
    submit(&w, "j", 1, 0, 2);
    run(&w, 500);
    struct fake *n1 = fake_of(&w, "n1");
    bool changed = true;
    uint64_t before = book_step(&w.book, &w.state, "j");
    w.now_ns += 100 * NS_PER_MS;
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    assert_false(changed);
    assert_true(book_step(&w.book, &w.state, "j") > before);
    w.ranks[1].ends = true;
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    assert_true(changed);
    n1->jobs[0].held[0] = 7;
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    assert_true(changed);
    n1->jobs[0].cuts[0] = (struct cut_report){.cut = 7, .progress = CUT_ARMED};
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    assert_true(changed);
    n1->jobs[0].cuts[0].progress = CUT_RECORDED;
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    assert_true(changed);
    n1->jobs[0].stored_cut = 7;
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    assert_true(changed);
    n1->jobs[0].alive = false;
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    assert_true(changed);
    assert_int_equal(fake_beat(&w, n1, &changed), TIDE_OK);
    assert_false(changed);
    world_release(&w);
}

static void drained_node_keeps_its_ranks_until_the_restart(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 300);
    assert_int_equal(node_order(&w, CMD_NODE_DRAIN, "n2"), TIDE_OK);
    run(&w, 3000);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    assert_true(explained(&w, "j", "node n2 is drained"));
    w.ranks[0].exit_code = 1;
    run(&w, TICK_MS);
    w.ranks[0].exit_code = 0;
    run(&w, 300);
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n3");
    /* Draining outlives a restart of the agent, and its loss. */
    struct fake *n2 = fake_of(&w, "n2");
    n2->up = false;
    run(&w, 2500);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_LOST);
    n2->up = true;
    run(&w, 100);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    assert_int_equal(node_order(&w, CMD_NODE_RESUME, "n2"), TIDE_OK);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_READY);
    world_release(&w);
}

static void drained_spare_is_replaced(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 4, 1);
    submit(&w, "j", 2, 1, 1);
    run(&w, 300);
    assert_string_equal(job_of(&w, "j")->spares.items[0], "n3");
    node_order(&w, CMD_NODE_DRAIN, "n3");
    assert_int_equal(job_of(&w, "j")->spares.count, 1);
    assert_string_equal(job_of(&w, "j")->spares.items[0], "n4");
    node_order(&w, CMD_NODE_DRAIN, "n4");
    assert_int_equal(job_of(&w, "j")->spares.count, 0);
    node_order(&w, CMD_NODE_RESUME, "n4");
    assert_string_equal(job_of(&w, "j")->spares.items[0], "n4");
    world_release(&w);
}

static void slots_and_spares_of_others_are_respected(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 2);
    submit(&w, "a", 2, 1, 2); /* fills n1 and n2, holds n3 */
    run(&w, 300);
    submit(&w, "b", 1, 0, 1);
    run(&w, 300);
    assert_state(&w, "b", "pending");
    assert_text(job_of(&w, "b")->reason, "without room: n1, n2, n3");
    node_new(&w, "n4", 1);
    run(&w, 100);
    assert_state(&w, "b", "running");
    assert_string_equal(job_of(&w, "b")->nodes.items[0], "n4");
    submit(&w, "c", 1, 0, 2);
    run(&w, 100);
    assert_state(&w, "c", "pending");
    /* a ends: its nodes and its spare are free. */
    order(&w, CMD_JOB_CANCEL, "a", 0);
    run(&w, 1000);
    assert_state(&w, "a", "cancelled");
    assert_state(&w, "c", "running");
    assert_int_equal(event_count(&w, "c", EVENT_WAITING), 1);
    world_release(&w);
}

/* t=0 the leader is stopped, t=10 s it goes on: all were silent, since it did not listen. */
static void a_leader_that_stood_still_blames_nobody(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 1000);
    w.now_ns += 10 * NS_PER_S;
    w.wall_ms += 10000;
    settle(&w);
    run(&w, 1000);
    assert_int_equal(w.applied[CMD_NODE_LOST], 0);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    /* Nor when nodes are to end their ranks: they have their minute by its clock. */
    fake_of(&w, "n2")->deaf = true;
    w.ranks[0].signal = 9;
    run(&w, 100);
    w.ranks[0].signal = 0;
    assert_int_equal(record_of(&w, "j")->phase, GEN_PHASE_FENCING);
    w.now_ns += 100 * NS_PER_S;
    w.wall_ms += 100000;
    settle(&w);
    assert_int_equal(w.applied[CMD_NODE_LOST], 0);
    /* Who really is gone is found out all the same. */
    fake_of(&w, "n2")->up = false;
    run(&w, 1900);
    assert_int_equal(w.applied[CMD_NODE_LOST], 0);
    run(&w, 500);
    assert_int_equal(w.applied[CMD_NODE_LOST], 1);
    assert_state(&w, "j", "running");
    world_release(&w);
}

/* A node that comes goes to the job that cannot run without it, not into the reserve of one that runs. */
static void a_job_that_waits_comes_before_the_reserve_of_another(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 1);
    submit(&w, "a", 1, 1, 1); /* n1, and n2 in reserve */
    run(&w, 300);
    assert_string_equal(job_of(&w, "a")->spares.items[0], "n2");
    submit(&w, "b", 1, 0, 1); /* n3 */
    run(&w, 300);
    fake_of(&w, "n2")->up = fake_of(&w, "n3")->up = false;
    run(&w, 4000);
    assert_state(&w, "b", "pending");
    assert_int_equal(job_of(&w, "a")->spares.count, 0);
    node_new(&w, "n4", 1);
    run(&w, 300);
    assert_state(&w, "b", "running");
    assert_string_equal(job_of(&w, "b")->nodes.items[0], "n4");
    assert_int_equal(job_of(&w, "a")->spares.count, 0);
    /* What nobody waits for is held ready. */
    fake_of(&w, "n2")->up = true;
    run(&w, 300);
    assert_int_equal(job_of(&w, "a")->spares.count, 1);
    /* A reserve that is there already stays: c has to wait. */
    submit(&w, "c", 1, 0, 1);
    run(&w, 300);
    assert_state(&w, "c", "pending");
    assert_string_equal(job_of(&w, "a")->spares.items[0], "n2");
    world_release(&w);
}

static void see_n1(void *arg, struct node_view *view)
{
    unsigned *seen = arg;
    assert_string_equal(view->node.name, "n1");
    assert_int_equal(view->used_slots, 3);
    assert_int_equal(view->jobs.count, 2);
    assert_true(view->silent_ms < 20);
    ++*seen;
}

static void two_jobs_share_a_node_by_slots(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    node_new(&w, "n1", 3);
    submit(&w, "a", 1, 0, 2);
    submit(&w, "b", 1, 0, 2);
    submit(&w, "c", 1, 0, 1);
    run(&w, 300);
    assert_state(&w, "a", "running");
    assert_state(&w, "b", "pending");
    assert_state(&w, "c", "running");
    unsigned seen = 0;
    view_nodes(&w.state, &w.book, w.now_ns, see_n1, &seen);
    assert_int_equal(seen, 1);
    struct node_view one;
    assert_int_equal(view_node(&w.state, &w.book, "n1", w.now_ns, &one, NULL), TIDE_OK);
    assert_int_equal(one.used_slots, 3);
    assert_int_equal(one.jobs.count, 2);
    assert_true(one.silent_ms < 20);
    codec_release(&node_view_codec, &one);
    assert_int_equal(view_node(&w.state, &w.book, "n2", w.now_ns, &one, NULL), TIDE_E_NOT_FOUND);
    /* An agent started again with fewer slots keeps those in use. */
    struct fake *n1 = fake_of(&w, "n1");
    assert_int_equal(register_as(&w, "n1", n1->uid, n1->incarnation, 1), TIDE_OK);
    assert_int_equal(state_node(&w.state, "n1")->slots, 3);
    world_release(&w);
}

static void most_room_first_then_by_name(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    node_new(&w, "n3", 1);
    node_new(&w, "n1", 1);
    node_new(&w, "n2", 2);
    submit(&w, "j", 2, 0, 1);
    run(&w, 300);
    assert_string_equal(job_of(&w, "j")->nodes.items[0], "n2");
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n1");
    assert_string_equal(w.state.nodes.items[0].name, "n1");
    assert_string_equal(w.state.nodes.items[2].name, "n3");
    world_release(&w);
}

static void node_lost_and_back_before_the_verdict_on_its_job(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 500);
    /* The verdict about the node is in the log; it registers before the one about the job is proposed. */
    struct command lost = command_new(&w, CMD_NODE_LOST, NULL);
    TEXT_SET(lost.node, "n2");
    TEXT_SET(lost.incarnation, "inc-n2-1");
    assert_int_equal(world_apply(&w, &lost), TIDE_OK);
    /* Another machine under its name must not be told to start generation 1, which n2 has started once. */
    assert_int_equal(register_as(&w, "n2", "uid-other", "inc-other", 1), TIDE_E_UNAVAILABLE);
    assert_text(w.err.text, "register again in a moment");
    run(&w, 1000);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_READY);
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->generation, 1);
    fake_of(&w, "n2")->up = false;
    run(&w, 2200);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_int_equal(register_as(&w, "n2", "uid-other", "inc-other", 1), TIDE_OK);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restarted_agent_is_taken_at_once),
        cmocka_unit_test(two_agents_with_one_name_are_a_conflict),
        cmocka_unit_test(bad_registrations_are_refused),
        cmocka_unit_test(lost_node_must_register_again),
        cmocka_unit_test(who_has_a_key_tells_it_when_the_group_can_know_it),
        cmocka_unit_test(old_heartbeats_are_no_sign_of_life),
        cmocka_unit_test(only_steps_are_no_change),
        cmocka_unit_test(drained_node_keeps_its_ranks_until_the_restart),
        cmocka_unit_test(drained_spare_is_replaced),
        cmocka_unit_test(slots_and_spares_of_others_are_respected),
        cmocka_unit_test(a_leader_that_stood_still_blames_nobody),
        cmocka_unit_test(a_job_that_waits_comes_before_the_reserve_of_another),
        cmocka_unit_test(two_jobs_share_a_node_by_slots),
        cmocka_unit_test(most_room_first_then_by_name),
        cmocka_unit_test(node_lost_and_back_before_the_verdict_on_its_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
