/* SPDX-License-Identifier: Apache-2.0 */
#include "core_ills.h"

/* How many nodes are drained for their health, and what becomes of the others. */

/* Eight nodes, of which j has four and a spare. */
static void start(struct world *w)
{
    world_init(w);
    world_nodes(w, 8, 1);
    submit(w, "j", 4, 1, 1);
    run(w, 1000);
}

/* The i-th node falls ill. */
static const struct node *ail(struct world *w, unsigned i)
{
    char name[16];
    snprintf(name, sizeof name, "n%u", i);
    fake_of(w, name)->fact = bad(TIDE_HEALTH_SUSPECT, 10);
    run(w, 500);
    return state_node(&w->state, name);
}

/* What was drained until now was drained long ago. */
static void much_later(struct world *w)
{
    w->wall_ms += HEALTH_DRAINS_MS;
    run(w, 1500);
}

/* A probe that finds the same everywhere is likelier ill than all nodes are. */
static void health_drains_a_quarter_at_most(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    for (unsigned i = 1; i <= 8; i++) {
        const struct node *node = ail(&w, i);
        assert_int_equal(node->state, i <= 2 ? TIDE_NODE_DRAINED : TIDE_NODE_READY);
        assert_int_equal(node->health, i <= 2 ? TIDE_HEALTH_SUSPECT : TIDE_HEALTH_DEGRADED);
        assert_int_equal(node->spared, i > 2);
    }
    assert_int_equal(job_of(&w, "j")->generation, 1);
    assert_text(event_last(&w, "j", EVENT_NODE_HEALTH)->text,
                "is suspect: xid: GPU 0000:65:00: Xid 79; it is not drained, as 2 of 8 nodes were within 60 min");
    unsigned before = w.commands;
    run(&w, 5000);
    assert_int_equal(w.commands, before); /* and that is not said again and again */
    /* One is given back by hand: another one has its place. */
    assert_int_equal(node_order(&w, CMD_NODE_RESUME, "n1"), TIDE_OK);
    run(&w, 500);
    assert_int_equal(state_node(&w.state, "n1")->state, TIDE_NODE_READY);
    assert_int_equal(state_node(&w.state, "n3")->state, TIDE_NODE_DRAINED);
    assert_int_equal(state_node(&w.state, "n4")->state, TIDE_NODE_READY);
    /* What was drained long ago does not count. */
    much_later(&w);
    assert_int_equal(state_node(&w.state, "n4")->state, TIDE_NODE_DRAINED);
    assert_int_equal(state_node(&w.state, "n5")->state, TIDE_NODE_DRAINED);
    assert_int_equal(state_node(&w.state, "n6")->state, TIDE_NODE_READY);
    /* It was good after all. */
    fake_of(&w, "n6")->fact.state = TIDE_HEALTH_HEALTHY;
    run(&w, 500);
    assert_false(state_node(&w.state, "n6")->spared);
    assert_int_equal(state_node(&w.state, "n6")->health, TIDE_HEALTH_HEALTHY);
    world_release(&w);
}

/* A quarter an hour is all of them in four hours: at no time it is more than half. */
static void health_keeps_half_of_the_nodes_at_least(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    for (unsigned i = 1; i <= 6; i++) {
        const struct node *node = ail(&w, i);
        assert_int_equal(node->state, i <= 4 ? TIDE_NODE_DRAINED : TIDE_NODE_READY);
        assert_int_equal(node->spared, i > 4);
        much_later(&w);
    }
    assert_text(event_last(&w, "j", EVENT_NODE_HEALTH)->text,
                "is suspect: xid: GPU 0000:65:00: Xid 79; it is not drained, as 4 of 8 nodes are, for their health: give some back");
    unsigned before = w.commands;
    run(&w, 5000);
    assert_int_equal(w.commands, before);
    assert_int_equal(node_order(&w, CMD_NODE_RESUME, "n2"), TIDE_OK);
    run(&w, 500);
    assert_int_equal(state_node(&w.state, "n5")->state, TIDE_NODE_DRAINED);
    assert_int_equal(state_node(&w.state, "n6")->state, TIDE_NODE_READY);
    world_release(&w);
}

/* A leader whose clock is an hour behind, or ahead, calls no node lost and no rank gone; behind, it drains no more for its health than
 * it may: what was drained in what is its future was drained of late. */
static void a_clock_that_jumps_drains_nothing(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    for (unsigned i = 1; i <= 2; i++)
        assert_int_equal(ail(&w, i)->state, TIDE_NODE_DRAINED);
    w.wall_ms -= HEALTH_DRAINS_MS;
    assert_int_equal(ail(&w, 3)->state, TIDE_NODE_READY);
    run(&w, 5000);
    assert_true(state_node(&w.state, "n3")->spared);
    w.wall_ms += HEALTH_DRAINS_MS;
    run(&w, 1500);
    assert_int_equal(state_node(&w.state, "n3")->state, TIDE_NODE_READY);
    much_later(&w);
    assert_int_equal(state_node(&w.state, "n3")->state, TIDE_NODE_DRAINED);
    for (unsigned i = 4; i <= 8; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%u", i);
        assert_int_equal(state_node(&w.state, name)->state, TIDE_NODE_READY);
    }
    assert_int_equal(job_of(&w, "j")->generation, 1);
    assert_state(&w, "j", "running");
    world_release(&w);
}

static void at_level_2_all_may_be_drained_in_the_end(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    w.state.level = w.second.level = 2;
    world_nodes(&w, 4, 1);
    for (unsigned i = 1; i <= 4; i++) {
        assert_int_equal(ail(&w, i)->state, TIDE_NODE_DRAINED);
        much_later(&w);
    }
    world_release(&w);
}

/* It is degraded because too many were drained: there is no need to run there, but where there is no other node. */
static void one_that_was_spared_is_used_when_there_is_no_other(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 5, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 1000);
    fake_of(&w, "n5")->fact = bad(TIDE_HEALTH_FAILED, 10); /* the one that may be drained */
    run(&w, 500);
    fake_of(&w, "n2")->fact = bad(TIDE_HEALTH_FAILED, 10);
    run(&w, 1000);
    assert_true(state_node(&w.state, "n2")->spared);
    assert_int_equal(job_of(&w, "j")->generation, 1); /* its ranks stay */
    crash(&w, 1);
    run(&w, 1000);
    assert_state(&w, "j", "running");
    assert_string_equal(job_of(&w, "j")->nodes.items[0], "n1");
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n3");
    /* Nothing else is left: it does not wait. */
    submit(&w, "k", 2, 1, 1);
    run(&w, 1000);
    assert_state(&w, "k", "running");
    const struct strlist *nodes = &job_of(&w, "k")->nodes;
    assert_true(strcmp(nodes->items[0], "n2") == 0 || strcmp(nodes->items[1], "n2") == 0);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(health_drains_a_quarter_at_most),
        cmocka_unit_test(health_keeps_half_of_the_nodes_at_least),
        cmocka_unit_test(a_clock_that_jumps_drains_nothing),
        cmocka_unit_test(at_level_2_all_may_be_drained_in_the_end),
        cmocka_unit_test(one_that_was_spared_is_used_when_there_is_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
