/* SPDX-License-Identifier: Apache-2.0 */
#include "core_ills.h"

#include "coordinator/core/straggler.h"

/* What nodes tell of their health, and what becomes of their ranks. */

static void a_failed_node_is_drained_and_its_spare_takes_over(void **context)
{
    (void)context;
    struct world w;
    struct fake *n2 = world_begin(&w);
    n2->fact = bad(TIDE_HEALTH_FAILED, 10);
    n2->fact.ago_ms = 40;
    run(&w, TICK_MS);
    const struct node *node = state_node(&w.state, "n2");
    assert_int_equal(node->state, TIDE_NODE_DRAINED);
    assert_int_equal(node->health, TIDE_HEALTH_FAILED);
    assert_string_equal(node->reason, "failed: xid: GPU 0000:65:00: Xid 79");
    assert_int_equal(node->evidence.items[0].at_ms, w.wall_ms - 40);
    const struct recovery *recovery = &job_of(&w, "j")->recoveries.items[0];
    assert_int_equal(recovery->cause, EVENT_NODE_HEALTH);
    assert_string_equal(recovery->node, "n2");
    assert_string_equal(recovery->text, "node n2 is failed: xid: GPU 0000:65:00: Xid 79");
    assert_int_equal(recovery->detect_ms, 40);
    assert_text(event_last(&w, "j", EVENT_NODE_HEALTH)->text, "node n2 is failed: xid");
    run(&w, 500);
    assert_state(&w, "j", "running");
    assert_string_equal(job_of(&w, "j")->nodes.items[0], "n1");
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n3");
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_int_equal(event_count(&w, "j", EVENT_NODE_HEALTH), 1);
    world_release(&w);
}

static void steady_heartbeats_make_no_entries(void **context)
{
    (void)context;
    struct world w;
    struct fake *n2 = world_begin(&w);
    run(&w, 2000);
    assert_int_equal(steady(&w), 0);
    n2->fact = bad(TIDE_HEALTH_DEGRADED, 10);
    run(&w, TICK_MS);
    assert_int_equal(w.applied[CMD_NODE_HEALTH], 1);
    for (unsigned i = 0; i < 20; i++) {
        n2->fact.ago_ms += 250; /* it gets older, and is the same */
        run(&w, 250);
    }
    assert_int_equal(w.applied[CMD_NODE_HEALTH], 1);
    new_leader(&w);
    run(&w, 3000);
    assert_int_equal(w.applied[CMD_NODE_HEALTH], 1);
    world_release(&w);
}

static void a_degraded_node_keeps_its_ranks_and_gets_new_ones(void **context)
{
    (void)context;
    struct world w;
    struct fake *n2 = world_begin(&w);
    n2->fact = bad(TIDE_HEALTH_DEGRADED, 10);
    run(&w, 20000);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_READY);
    assert_int_equal(state_node(&w.state, "n2")->health, TIDE_HEALTH_DEGRADED);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    world_release(&w);
}

static void a_suspect_node_keeps_its_ranks_until_they_end(void **context)
{
    (void)context;
    struct world w;
    struct fake *n2 = world_begin(&w);
    n2->fact = bad(TIDE_HEALTH_SUSPECT, 10);
    run(&w, 20000);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    assert_true(explained(&w, "j", "node n2 is drained (suspect: xid"));
    w.ranks[0].exit_code = 1;
    run(&w, TICK_MS);
    w.ranks[0].exit_code = 0;
    run(&w, 500);
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n3");
    world_release(&w);
}

static void it_is_given_back_when_it_was_good_for_a_while(void **context)
{
    (void)context;
    struct world w;
    struct fake *n2 = world_begin(&w);
    n2->fact = bad(TIDE_HEALTH_FAILED, 10);
    run(&w, 1000);
    n2->fact.state = TIDE_HEALTH_HEALTHY;
    run(&w, GOOD_MS - 1000);
    assert_int_equal(state_node(&w.state, "n2")->health, TIDE_HEALTH_HEALTHY);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    /* It flaps: the time begins anew. */
    n2->fact = bad(TIDE_HEALTH_FAILED, 11);
    run(&w, 500);
    n2->fact.state = TIDE_HEALTH_HEALTHY;
    run(&w, GOOD_MS - 1000);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    /* And so it does with a new leader, who has not seen it good yet. */
    new_leader(&w);
    run(&w, GOOD_MS - 1000);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    run(&w, 2000);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_READY);
    assert_string_equal(state_node(&w.state, "n2")->reason, "");
    assert_int_equal(w.applied[CMD_NODE_FIT], 1);
    assert_string_equal(job_of(&w, "j")->spares.items[0], "n2");
    world_release(&w);
}

static void what_was_forgiven_by_hand_does_not_drain_it_again(void **context)
{
    (void)context;
    struct world w;
    struct fake *n2 = world_begin(&w);
    n2->fact = bad(TIDE_HEALTH_FAILED, 10);
    run(&w, 1000);
    assert_int_equal(node_order(&w, CMD_NODE_RESUME, "n2"), TIDE_OK);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_READY);
    run(&w, 3000);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_READY);
    assert_int_equal(state_node(&w.state, "n2")->evidence.count, 1); /* shown still */
    assert_int_equal(node_health_serial(state_node(&w.state, "n2")), 10);
    assert_int_equal(node_health_serial(state_node(&w.state, "n1")), 0);
    n2->fact.serial = 11;
    run(&w, TICK_MS);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    world_release(&w);
}

static void by_hand_and_for_its_health_are_two_things(void **context)
{
    (void)context;
    struct world w;
    struct fake *n2 = world_begin(&w);
    n2->fact = bad(TIDE_HEALTH_SUSPECT, 10);
    run(&w, 1000);
    node_order(&w, CMD_NODE_DRAIN, "n2");
    n2->fact.state = TIDE_HEALTH_HEALTHY;
    run(&w, GOOD_MS + 1000);
    assert_int_equal(w.applied[CMD_NODE_FIT], 1);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    assert_text(state_node(&w.state, "n2")->reason, "drained by hand");
    world_release(&w);
}

static void what_is_latched_outlives_the_agent_but_not_the_host(void **context)
{
    (void)context;
    struct world w;
    struct fake *n2 = world_begin(&w);
    n2->fact = bad(TIDE_HEALTH_FAILED, 10);
    n2->fact.latched = true;
    run(&w, 1000);
    /* Another agent, the same boot: it knows nothing. */
    n2->fact.state = TIDE_HEALTH_HEALTHY;
    TEXT_SET(n2->incarnation, "inc-n2-2");
    n2->sequence = 0;
    assert_int_equal(register_as(&w, "n2", n2->uid, n2->incarnation, 1), TIDE_OK);
    run(&w, 3000);
    assert_int_equal(state_node(&w.state, "n2")->health, TIDE_HEALTH_FAILED);
    assert_text(state_node(&w.state, "n2")->reason, "failed: xid");
    /* Something else there is told beside it. */
    n2->fact = bad(TIDE_HEALTH_DEGRADED, 20);
    TEXT_SET(n2->fact.probe, "nic");
    run(&w, TICK_MS);
    assert_int_equal(state_node(&w.state, "n2")->evidence.count, 2);
    assert_int_equal(state_node(&w.state, "n2")->health, TIDE_HEALTH_FAILED);
    n2->fact.state = TIDE_HEALTH_HEALTHY;
    n2->boot = "boot-2";
    run(&w, TICK_MS);
    assert_int_equal(state_node(&w.state, "n2")->evidence.count, 0);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    run(&w, GOOD_MS + 500);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_READY);
    world_release(&w);
}

static void ranks_that_cannot_go_on_get_another_generation(void **context)
{
    (void)context;
    struct world w;
    struct fake *n2 = world_begin(&w);
    run(&w, 2000);
    n2->fact = bad(TIDE_HEALTH_DEGRADED, 10);
    n2->fact.restart = true;
    for (unsigned i = 0; i < 10; i++, n2->fact.ago_ms += 1000)
        run(&w, 1000);
    assert_int_equal(job_of(&w, "j")->generation, 1); /* it makes steps: it was somebody else's */
    w.steps_per_s = 0;
    run(&w, 1000);
    n2->fact.serial = 11;
    n2->fact.ago_ms = 0;
    unsigned waited_ms = 0;
    while (job_of(&w, "j")->generation == 1 && waited_ms < 20000) {
        run(&w, 100);
        n2->fact.ago_ms += 100;
        waited_ms += 100;
    }
    assert_in_range(waited_ms, 4900, 5300);
    const struct recovery *recovery = &job_of(&w, "j")->recoveries.items[0];
    assert_int_equal(recovery->cause, EVENT_NODE_HEALTH);
    assert_text(recovery->text, "no step is made since node n2 told: xid");
    /* The next one is not to blame for what was before it. */
    w.steps_per_s = STEPS_PER_S_DEFAULT;
    for (unsigned i = 0; i < 10; i++, n2->fact.ago_ms += 1000)
        run(&w, 1000);
    w.steps_per_s = 0;
    for (unsigned i = 0; i < 10; i++, n2->fact.ago_ms += 1000)
        run(&w, 1000);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n2");
    world_release(&w);
}

static void health_ends_no_training_without_a_restart_left(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 1);
    struct command command = submission(&w, "j", 2, 1, 1);
    command.spec.max_restarts = 0;
    assert_int_equal(submit_this(&w, &command), TIDE_OK);
    run(&w, 1000);
    struct fake *n2 = fake_of(&w, "n2");
    n2->fact = bad(TIDE_HEALTH_FAILED, 10);
    run(&w, 5000);
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->generation, 1);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    assert_text(event_last(&w, "j", EVENT_NODE_HEALTH)->text,
                "node n2 is failed: xid: GPU 0000:65:00: Xid 79; the job runs on there, as it has no restart left");
    assert_true(explained(&w, "j", "since it has no restart left"));
    /* Neither does a rank that is said to be stuck. */
    n2->fact = bad(TIDE_HEALTH_DEGRADED, 11);
    n2->fact.restart = true;
    w.steps_per_s = 0;
    for (unsigned i = 0; i < 60; i++, n2->fact.ago_ms += 500)
        run(&w, 500);
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->generation, 1);
    w.ranks[1].signal = 9; /* what has failed by itself has */
    run(&w, 500);
    assert_state(&w, "j", "failed");
    world_release(&w);
}

static void health_moves_no_ranks_without_a_place_for_them(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 1000);
    struct fake *n2 = fake_of(&w, "n2");
    n2->fact = bad(TIDE_HEALTH_FAILED, 10);
    run(&w, 5000);
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->generation, 1);
    assert_text(event_last(&w, "j", EVENT_NODE_HEALTH)->text,
                "node n2 is failed: xid: GPU 0000:65:00: Xid 79; the job runs on there, as there is no room for its ranks elsewhere");
    /* Now there is. */
    node_new(&w, "n3", 1);
    run(&w, 1000);
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n3");
    world_release(&w);
}

/* Two jobs there, and a place for one of them. */
static void health_moves_no_more_jobs_than_there_are_places_for(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 2);
    node_order(&w, CMD_NODE_DRAIN, "n2");
    submit(&w, "a", 1, 0, 1);
    submit(&w, "b", 1, 0, 1);
    run(&w, 1000);
    node_order(&w, CMD_NODE_RESUME, "n2");
    submit(&w, "c", 1, 0, 1); /* of n2 one slot is left */
    run(&w, 1000);
    assert_string_equal(job_of(&w, "a")->nodes.items[0], "n1");
    assert_string_equal(job_of(&w, "b")->nodes.items[0], "n1");
    assert_string_equal(job_of(&w, "c")->nodes.items[0], "n2");
    fake_of(&w, "n1")->fact = bad(TIDE_HEALTH_FAILED, 10);
    run(&w, 5000);
    assert_int_equal(state_node(&w.state, "n1")->health, TIDE_HEALTH_FAILED);
    assert_state(&w, "a", "running");
    assert_state(&w, "b", "running");
    assert_int_equal(job_of(&w, "a")->generation + job_of(&w, "b")->generation, 3);
    /* There is another place: who stayed has it. */
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "c", 0), TIDE_OK);
    run(&w, 5000);
    assert_state(&w, "a", "running");
    assert_state(&w, "b", "running");
    assert_string_equal(job_of(&w, "a")->nodes.items[0], "n2");
    assert_string_equal(job_of(&w, "b")->nodes.items[0], "n2");
    world_release(&w);
}

static void what_is_milder_does_not_take_the_place_of_what_is_worse(void **context)
{
    (void)context;
    struct world w;
    struct fake *n2 = world_begin(&w);
    n2->fact = bad(TIDE_HEALTH_FAILED, 10);
    n2->fact.latched = true;
    run(&w, 1000);
    n2->fact = bad(TIDE_HEALTH_SUSPECT, 20); /* of an agent that was started anew */
    n2->fact.latched = true;
    run(&w, 1000);
    assert_int_equal(state_node(&w.state, "n2")->evidence.count, 1);
    assert_int_equal(state_node(&w.state, "n2")->health, TIDE_HEALTH_FAILED);
    world_release(&w);
}

/* As it would be, had the job begun at that level. */
static void begun_at(struct world *w, uint32_t level)
{
    struct state *states[] = {&w->state, &w->second};
    for (size_t i = 0; i < 2; i++) {
        struct job_record *record = state_job(states[i], "j");
        states[i]->level = level;
        if (level > 2)
            continue;
        strlist_release(&record->peers);
        record->peers_at = 0;
    }
}

/* Nor does what was forgiven by hand: that is over. */
static void what_was_forgiven_does_not_hide_what_is_new_and_milder(void **context)
{
    (void)context;
    for (unsigned level = 2; level <= LEVEL_NEWEST; level++) {
        struct world w;
        struct fake *n2 = world_begin(&w);
        begun_at(&w, level);
        n2->fact = bad(TIDE_HEALTH_FAILED, 10);
        n2->fact.latched = true;
        run(&w, 1000);
        assert_int_equal(node_order(&w, CMD_NODE_RESUME, "n2"), TIDE_OK);
        n2->fact = bad(TIDE_HEALTH_SUSPECT, 20); /* of an agent that was started anew */
        n2->fact.latched = true;
        run(&w, 1000);
        assert_int_equal(state_node(&w.state, "n2")->evidence.count, 1);
        assert_int_equal(state_node(&w.state, "n2")->health, level < 3 ? TIDE_HEALTH_HEALTHY : TIDE_HEALTH_SUSPECT);
        assert_int_equal(state_node(&w.state, "n2")->state, level < 3 ? TIDE_NODE_READY : TIDE_NODE_DRAINED);
        world_release(&w);
    }
}

/* Who resumes a node has not seen what was hidden: it is forgiven with what hid it. */
static void what_was_hidden_is_forgiven_too(void **context)
{
    (void)context;
    struct world w;
    struct fake *n2 = world_begin(&w);
    n2->fact = bad(TIDE_HEALTH_FAILED, 10);
    n2->fact.latched = true;
    run(&w, 1000);
    unsigned told = event_count(&w, "j", EVENT_NODE_HEALTH);
    n2->fact = bad(TIDE_HEALTH_SUSPECT, 20);
    n2->fact.latched = true;
    run(&w, 1000);
    assert_int_equal(steady(&w), 0);
    assert_int_equal(state_node(&w.state, "n2")->health, TIDE_HEALTH_FAILED);
    assert_int_equal(event_count(&w, "j", EVENT_NODE_HEALTH), told);
    assert_int_equal(node_order(&w, CMD_NODE_RESUME, "n2"), TIDE_OK);
    run(&w, 1000);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_READY);
    n2->fact.serial = 21;
    run(&w, 1000);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_DRAINED);
    assert_int_equal(state_node(&w.state, "n2")->health, TIDE_HEALTH_SUSPECT);
    world_release(&w);
}

/* The leader counts the serials of what it finds itself; they may be those that the agent uses next. */
static void a_straggler_hides_no_fault(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 4, 1);
    submit(&w, "j", 4, 0, 1);
    run(&w, 1000);
    const char *name = job_of(&w, "j")->nodes.items[2];
    struct fake *fake = fake_of(&w, name);
    fake->fact = bad(TIDE_HEALTH_DEGRADED, 10);
    run(&w, 1000);
    w.ranks[2].slow = 2;
    run(&w, 42000);
    const struct node *node = state_node(&w.state, name);
    assert_int_equal(node->evidence.count, 2);
    uint64_t serial = node->evidence.items[1].serial;
    assert_string_equal(node->evidence.items[1].probe, "straggler");
    assert_int_equal(node_order(&w, CMD_NODE_RESUME, name), TIDE_OK);
    fake->fact.state = TIDE_HEALTH_HEALTHY;
    run(&w, 1000);
    assert_int_equal(state_node(&w.state, name)->evidence.count, 1);
    unsigned told = event_count(&w, "j", EVENT_NODE_HEALTH);
    fake->fact = bad(TIDE_HEALTH_SUSPECT, serial);
    run(&w, 1000);
    assert_int_equal(state_node(&w.state, name)->state, TIDE_NODE_DRAINED);
    assert_int_equal(event_count(&w, "j", EVENT_NODE_HEALTH), told + 1);
    world_release(&w);
}

/* Two jobs, each with a slow rank on the same node: one is told, and the other does not take its place in every window. */
static void one_straggler_of_a_node_is_told(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 4, 2);
    submit(&w, "j", 4, 0, 1);
    submit(&w, "k", 4, 0, 1);
    run(&w, 1000);
    w.ranks[2].slow = 2;
    run(&w, 42000);
    unsigned said = w.applied[CMD_NODE_HEALTH];
    run(&w, 60000);
    assert_int_equal(w.applied[CMD_NODE_HEALTH], said);
    world_release(&w);
}

static void who_is_slower_than_the_others(void **context)
{
    (void)context;
    static const struct {
        uint64_t us[8];
        size_t count, slow;
    } table[] = {
        {{100, 100, 100, 200}, 4, 3},
        {{100, 200, 100, 100, 100, 100, 100, 100}, 8, 1},
        {{100, 100, 200}, 3, STRAGGLER_NONE},                       /* too few */
        {{100, 101, 99, 100, 129}, 5, STRAGGLER_NONE},              /* not by enough */
        {{100, 140, 60, 120, 80, 150, 90, 110}, 8, STRAGGLER_NONE}, /* all differ */
        {{100, 100, 100, 100, 10, 100}, 6, STRAGGLER_NONE},         /* faster is no fault */
        {{100, 100, 100, 10000000, 100, 100, 300, 100}, 8, 3},      /* the slowest of two */
        {{100, 100, 200, 200}, 4, STRAGGLER_NONE},                  /* half of them: which half? */
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        uint64_t scratch[8], median;
        if (straggler_find(table[i].us, scratch, table[i].count, &median) != table[i].slow)
            fail_msg("row %zu", i);
    }
}

static void a_straggler_is_evidence_of_its_node(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 4, 1);
    submit(&w, "j", 4, 0, 1);
    run(&w, 40000);
    for (size_t i = 0; i < w.state.nodes.count; i++)
        assert_int_equal(w.state.nodes.items[i].evidence.count, 0); /* all alike */
    w.ranks[2].slow = 2;
    run(&w, 19000);
    assert_int_equal(w.applied[CMD_NODE_HEALTH], 0); /* it may be a moment's */
    run(&w, 23000);
    const char *node = job_of(&w, "j")->nodes.items[2];
    assert_int_equal(state_node(&w.state, node)->health, TIDE_HEALTH_DEGRADED);
    assert_string_equal(state_node(&w.state, node)->evidence.items[0].probe, "straggler");
    assert_string_equal(state_node(&w.state, node)->evidence.items[0].subject, "job j rank 2");
    assert_int_equal(state_node(&w.state, node)->state, TIDE_NODE_READY);
    assert_int_equal(w.applied[CMD_NODE_HEALTH], 1);
    w.ranks[2].slow = 1;
    run(&w, 42000);
    assert_int_equal(state_node(&w.state, node)->health, TIDE_HEALTH_HEALTHY);
    assert_int_equal(w.applied[CMD_NODE_HEALTH], 2);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    world_release(&w);
}

static void a_verdict_about_another_incarnation_is_stale(void **context)
{
    (void)context;
    struct world w;
    world_begin(&w);
    struct command health = command_new(&w, CMD_NODE_HEALTH, NULL), fit = command_new(&w, CMD_NODE_FIT, NULL);
    TEXT_SET(health.node, "n2");
    TEXT_SET(health.incarnation, "inc-n2-0");
    TEXT_SET(fit.node, "n2");
    TEXT_SET(fit.incarnation, "inc-n2-1");
    assert_int_equal(world_apply(&w, &health), TIDE_E_STALE);
    assert_int_equal(world_apply(&w, &fit), TIDE_E_STALE);
    TEXT_SET(health.node, "nobody");
    assert_int_equal(world_apply(&w, &health), TIDE_E_NOT_FOUND);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_node_is_drained_and_its_spare_takes_over),
        cmocka_unit_test(steady_heartbeats_make_no_entries),
        cmocka_unit_test(a_degraded_node_keeps_its_ranks_and_gets_new_ones),
        cmocka_unit_test(a_suspect_node_keeps_its_ranks_until_they_end),
        cmocka_unit_test(it_is_given_back_when_it_was_good_for_a_while),
        cmocka_unit_test(what_was_forgiven_by_hand_does_not_drain_it_again),
        cmocka_unit_test(by_hand_and_for_its_health_are_two_things),
        cmocka_unit_test(what_is_latched_outlives_the_agent_but_not_the_host),
        cmocka_unit_test(ranks_that_cannot_go_on_get_another_generation),
        cmocka_unit_test(health_ends_no_training_without_a_restart_left),
        cmocka_unit_test(health_moves_no_ranks_without_a_place_for_them),
        cmocka_unit_test(health_moves_no_more_jobs_than_there_are_places_for),
        cmocka_unit_test(what_is_milder_does_not_take_the_place_of_what_is_worse),
        cmocka_unit_test(what_was_forgiven_does_not_hide_what_is_new_and_milder),
        cmocka_unit_test(what_was_hidden_is_forgiven_too),
        cmocka_unit_test(a_straggler_hides_no_fault),
        cmocka_unit_test(one_straggler_of_a_node_is_told),
        cmocka_unit_test(who_is_slower_than_the_others),
        cmocka_unit_test(a_straggler_is_evidence_of_its_node),
        cmocka_unit_test(a_verdict_about_another_incarnation_is_stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
