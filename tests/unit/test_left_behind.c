/* SPDX-License-Identifier: Apache-2.0 */

/* A group that lost its majority goes on with one member, and those that were lost come back. */

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "ckpt/base/log.h"
#include "ckpt/wire/identity.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/server/offline.h"
#include "tests/unit/group_world.h"

static uint64_t epoch_of(const struct mate *n)
{
    struct member_status *status = mem_alloc(sizeof *status);
    member_get_status(n->member, status);
    uint64_t epoch = status->config.epoch;
    mem_free(status);
    return epoch;
}

static uint64_t recover(const struct mate *n)
{
    uint64_t epoch = 0;
    struct err err = {0};
    if (recover_alone(n->data, &epoch, &err) != TIDE_OK)
        fail_msg("%s", err.text);
    return epoch;
}

/* Three that have done something and are all stopped; the first one is recovered and leads alone. */
static uint64_t survives(struct group *g, unsigned commands)
{
    group_start(g, 3);
    propose_many(g, wait_leader(g), commands);
    assert_true(UNTIL(g, same(g)));
    for (unsigned i = 0; i < 3; i++)
        node_stop(g, &g->nodes[i], false);
    uint64_t epoch = recover(&g->nodes[0]);
    node_start(g, &g->nodes[0]);
    assert_ptr_equal(wait_leader(g), &g->nodes[0]);
    return epoch;
}

static void for_a_while(struct group *g)
{
    uint64_t until = clock_mono_ns() + NS_PER_S;
    while (clock_mono_ns() < until)
        group_turn(g);
}

static void who_was_left_behind_takes_no_part(void **state)
{
    (void)state;
    struct group g;
    struct err err = {0};
    uint64_t epoch = survives(&g, 20);
    struct mate *survivor = &g.nodes[0], *left = &g.nodes[1], *other = &g.nodes[2];
    assert_true(epoch >> 32 == 1);
    assert_true(UNTIL(&g, epoch_of(survivor) == epoch));
    propose_many(&g, survivor, 5);
    node_start(&g, left);
    assert_true(UNTIL(&g, left->turn.later == epoch));
    node_start(&g, other); /* with the one before it would be a majority */
    assert_true(UNTIL(&g, other->turn.later == epoch));
    for_a_while(&g);
    assert_true(leader_of(&g) == survivor && left->turn.leader == 0 && other->turn.leader == 0);
    assert_true(left->commands <= 20 && other->commands <= 20);
    propose_many(&g, survivor, 5);
    /* It is told who asks of it, and it stops when told to. */
    assert_int_equal(propose(left, "x"), TIDE_OK);
    assert_true(UNTIL(&g, left->refused == 1));
    assert_int_equal(member_read(left->member, left, &err), TIDE_OK);
    assert_true(UNTIL(&g, left->reads_refused == 1));
    node_stop(&g, left, true);
    /* From then on it knows by itself. */
    node_stop(&g, survivor, false);
    assert_int_equal(node_open(&g, left, &err), TIDE_E_CONFLICT);
    assert_non_null(strstr(err.text, "member 2 was left behind when its group was recovered"));
    assert_null(left->member);
    group_end(&g);
}

/* The one that was recovered is lost, too: one that was left behind is better than nothing, and is later then. */
static void it_may_be_recovered_itself(void **state)
{
    (void)state;
    struct group g;
    uint64_t first = survives(&g, 5);
    struct mate *left = &g.nodes[1];
    node_start(&g, left);
    assert_true(UNTIL(&g, left->turn.later == first));
    node_stop(&g, left, false);
    uint64_t second = recover(left);
    assert_true(second >> 32 == 2);
    node_start(&g, left);
    assert_true(UNTIL(&g, left->turn.ready));
    assert_int_equal(left->turn.later, 0);
    propose_many(&g, left, 5);
    node_stop(&g, left, false);
    node_start(&g, left);
    assert_true(UNTIL(&g, left->turn.ready && left->commands == 10));
    group_end(&g);
}

/* Somebody recovers one of three by mistake: the others, who can decide, go on. */
static void a_group_that_decides_goes_on(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 3);
    struct mate *leader = wait_leader(&g);
    propose_many(&g, leader, 5);
    assert_true(UNTIL(&g, same(&g)));
    struct mate *mistaken = other_than(&g, leader);
    node_stop(&g, mistaken, false);
    recover(mistaken);
    node_start(&g, mistaken);
    assert_true(UNTIL(&g, mistaken->turn.ready));
    for_a_while(&g);
    propose_many(&g, leader, 5);
    assert_true(leader->turn.ready && leader->turn.later == 0);
    assert_int_equal(mistaken->commands, 5);
    group_end(&g);
}

/* A new member reads all of the log, and with it of the group as it was: it is of the group as it is all the same. */
static void who_is_added_reads_of_the_past(void **state)
{
    (void)state;
    struct group g;
    char text[64];
    uint64_t epoch = survives(&g, 2 * RAFT_APPEND_ENTRIES_MAX);
    struct mate *survivor = &g.nodes[0], *added = &g.nodes[3];
    struct raft_member member = {.id = added->id};
    text_copy(member.peer, sizeof member.peer, added->peer);
    snprintf(text, sizeof text, "http://127.0.0.1:%u", (unsigned)added->id);
    text_copy(member.api, sizeof member.api, text);
    assert_int_equal(changed(&g, survivor, MEMBER_ADD, &member), 1);
    node_start(&g, added);
    assert_true(UNTIL(&g, same(&g)));
    assert_true(UNTIL(&g, epoch_of(added) == epoch));
    assert_true(UNTIL(&g, changed(&g, survivor, MEMBER_PROMOTE, &member) == 1));
    propose_many(&g, survivor, 5);
    node_stop(&g, added, false);
    node_start(&g, added);
    assert_true(UNTIL(&g, same(&g)));
    assert_int_equal(added->turn.later, 0);
    group_end(&g);
}

int main(void)
{
    log_init("test_left_behind", getenv("MEMBER_TRACE") ? LOG_DEBUG : LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_was_left_behind_takes_no_part),
        cmocka_unit_test(it_may_be_recovered_itself),
        cmocka_unit_test(a_group_that_decides_goes_on),
        cmocka_unit_test(who_is_added_reads_of_the_past),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
