/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of the group, one member at a time. */
#include "tests/sim/raft/story.h"

static bool in_config(const struct node *n, uint64_t id)
{
    return raft_config_member(raft_config_of(n->raft), id) != NULL;
}

static bool is_voter(const struct node *n, uint64_t id)
{
    const struct raft_member *member = raft_config_member(raft_config_of(n->raft), id);
    return member != NULL && member->voter;
}

/* t: a member with an empty disk is added, catches up as a learner, is promoted, and carries the group when another goes. */
void a_learner_joins_and_is_promoted(void **state)
{
    (void)state;
    struct world *w = begin(3, 1);
    struct node *n = leader(w), *spare = &w->nodes[3];
    propose_many(w, n, 60);
    pass(w, 1000);
    assert_int_equal(spare->status.role, RAFT_FOLLOWER); /* it knows of nobody and waits */
    assert_int_equal(spare->status.term, 0);
    assert_int_equal(change(w, n, RAFT_EV_ADD, spare->id), TIDE_OK);
    until(w, 2000, all_agree);
    assert_false(is_voter(n, spare->id));
    assert_true(in_config(spare, spare->id));
    assert_int_equal(change(w, n, RAFT_EV_ADD, spare->id), TIDE_E_EXISTS);
    assert_int_equal(change(w, n, RAFT_EV_PROMOTE, spare->id), TIDE_OK);
    until(w, 2000, all_agree);
    assert_true(is_voter(spare, spare->id));
    assert_int_equal(change(w, n, RAFT_EV_PROMOTE, spare->id), TIDE_E_EXISTS);
    assert_int_equal(change(w, n, RAFT_EV_PROMOTE, 99), TIDE_E_NOT_FOUND);
    assert_int_equal(change(w, n, RAFT_EV_REMOVE, 99), TIDE_E_NOT_FOUND);
    /* Four voters need three. */
    node_crash(w, follower(w, 0));
    propose_many(w, n, 2);
    pass(w, 100);
    assert_int_equal(n->status.commit, n->status.last);
    end(w);
}

/* A learner that lacks more than the bound, or does not answer, is not promoted, and it is said why. */
void a_lagging_learner_is_not_promoted(void **state)
{
    (void)state;
    struct world *w = begin(3, 1);
    struct node *n = leader(w), *spare = &w->nodes[3];
    /* One that was never heard, in the time in which it could not be missed yet. */
    node_crash(w, spare);
    assert_int_equal(change(w, n, RAFT_EV_ADD, spare->id), TIDE_OK);
    pass(w, 50);
    assert_int_equal(n->status.commit, n->status.last);
    assert_int_equal(change(w, n, RAFT_EV_PROMOTE, spare->id), TIDE_E_STATE);
    node_boot(w, spare);
    until(w, 1000, all_agree);
    spare->paused_until = w->now + MS(120);
    propose_many(w, n, RAFT_PROMOTE_LAG_MAX + 2);
    assert_int_equal(change(w, n, RAFT_EV_PROMOTE, spare->id), TIDE_E_STATE);
    until(w, 1000, all_agree);
    node_crash(w, spare);
    pass(w, 400);
    assert_int_equal(change(w, n, RAFT_EV_PROMOTE, spare->id), TIDE_E_STATE);
    node_boot(w, spare);
    until(w, 1000, all_agree);
    pass(w, 100);
    assert_int_equal(change(w, n, RAFT_EV_PROMOTE, spare->id), TIDE_OK);
    until(w, 1000, all_agree);
    end(w);
}

/* Two voters of three and a learner: when one voter is gone an entry that leader and learner have is not committed, and the
 * learner does not stand when nobody leads. */
void a_learner_does_not_count(void **state)
{
    (void)state;
    struct world *w = begin(3, 2);
    struct node *n = leader(w);
    assert_int_equal(change(w, n, RAFT_EV_ADD, w->nodes[3].id), TIDE_OK);
    until(w, 1000, all_agree);
    assert_int_equal(change(w, n, RAFT_EV_ADD, w->nodes[4].id), TIDE_OK);
    until(w, 1000, all_agree);
    for (uint32_t i = 0; i < 3; i++)
        if (&w->nodes[i] != n)
            node_crash(w, &w->nodes[i]);
    uint64_t index = propose(w, n, 10);
    pass(w, 50);
    assert_true(w->nodes[3].status.last >= index && w->nodes[4].status.last >= index);
    assert_true(n->status.commit < index);
    pass(w, 1000);
    assert_int_not_equal(n->status.role, RAFT_LEADER); /* learners are no majority that answers, either */
    node_crash(w, n);
    pass(w, 2000);
    assert_int_equal(w->nodes[3].status.role, RAFT_FOLLOWER);
    assert_int_equal(w->nodes[4].status.role, RAFT_FOLLOWER);
    for (uint32_t i = 0; i < 3; i++)
        node_boot(w, &w->nodes[i]);
    until(w, 3000, all_agree);
    end(w);
}

/* "The leader ... manages a cluster that does not include itself; it replicates log entries but does not count itself in
 * majorities", and goes when that is committed (4.2.2). The others go on at once, and it disturbs nobody. */
void the_leader_is_removed(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *old = leader(w);
    propose_many(w, old, 2);
    uint64_t began = w->now;
    assert_int_equal(change(w, old, RAFT_EV_REMOVE, old->id), TIDE_OK);
    struct node *n = leader_other_than(w, old);
    assert_true(w->now - began <= MS(2 * w->election_ticks * RAFT_TICK_MS));
    assert_false(in_config(n, old->id));
    assert_int_not_equal(old->status.role, RAFT_LEADER);
    uint64_t term = n->status.term;
    pass(w, 3000);
    assert_int_equal(n->status.term, term);
    propose_many(w, n, 2);
    until(w, 1000, all_agree);
    end(w);
}

void the_last_voter_stays(void **state)
{
    (void)state;
    struct world *w = begin(2, 0);
    struct node *n = leader(w), *other = follower(w, 0);
    assert_int_equal(change(w, n, RAFT_EV_REMOVE, other->id), TIDE_OK);
    until(w, 1000, all_agree);
    assert_int_equal(change(w, n, RAFT_EV_REMOVE, n->id), TIDE_E_STATE);
    propose_many(w, n, 3);
    pass(w, 100);
    assert_int_equal(n->status.commit, n->status.last);
    /* A voter whose going would leave nobody to decide stays too: the other one is down. */
    w->nodes[other->slot].still = false;
    end(w);
    w = begin(3, 0);
    n = leader(w);
    node_crash(w, follower(w, 0));
    pass(w, 400);
    assert_int_equal(change(w, n, RAFT_EV_REMOVE, follower(w, 0)->id), TIDE_E_STATE);
    end(w);
}

static bool no_entries(struct world *w, const struct node *from, const struct raft_message *m)
{
    (void)w, (void)from;
    return m->kind != RAFT_MSG_APPEND || m->append.count == 0;
}

void one_change_at_a_time(void **state)
{
    (void)state;
    struct world *w = begin(3, 2);
    struct node *n = leader(w);
    w->on_send = no_entries;
    assert_int_equal(change(w, n, RAFT_EV_ADD, w->nodes[3].id), TIDE_OK);
    assert_int_equal(change(w, n, RAFT_EV_ADD, w->nodes[4].id), TIDE_E_STATE);
    assert_int_equal(change(w, n, RAFT_EV_REMOVE, follower(w, 0)->id), TIDE_E_STATE);
    assert_int_equal(change(w, n, RAFT_EV_PROMOTE, w->nodes[3].id), TIDE_E_STATE);
    pass(w, 60);
    w->on_send = NULL;
    until(w, 1000, all_agree);
    assert_int_equal(change(w, n, RAFT_EV_ADD, w->nodes[4].id), TIDE_OK);
    until(w, 1000, all_agree);
    end(w);
}

/* A new leader that has committed nothing of its own term changes nothing (the defect found in 2015). */
void no_change_before_an_own_entry(void **state)
{
    (void)state;
    struct world *w = begin(3, 1);
    w->on_send = no_entries;
    for (unsigned tries = 0; tries < 200 && world_leader(w) == NULL; tries++)
        pass(w, 10);
    struct node *n = world_leader(w);
    assert_non_null(n);
    assert_false(n->status.ready);
    assert_int_equal(change(w, n, RAFT_EV_ADD, w->nodes[3].id), TIDE_E_UNAVAILABLE);
    assert_int_equal(change(w, n, RAFT_EV_REMOVE, follower(w, 0)->id), TIDE_E_UNAVAILABLE);
    w->on_send = NULL;
    n = leader(w);
    assert_int_equal(change(w, n, RAFT_EV_ADD, w->nodes[3].id), TIDE_OK);
    until(w, 1000, all_agree);
    end(w);
}

/* FACTS D. A leader adds a member in its own log only, another leader takes that back: everybody has the old group again,
 * also after restarts. */
void a_change_is_rolled_back(void **state)
{
    (void)state;
    struct world *w = begin(3, 1);
    struct node *old = leader(w);
    propose_many(w, old, 3);
    cut_off(w, old);
    assert_int_equal(change(w, old, RAFT_EV_ADD, w->nodes[3].id), TIDE_OK);
    assert_true(in_config(old, w->nodes[3].id));
    struct node *n = leader_other_than(w, old);
    propose_many(w, n, 2);
    restart(w, old);
    assert_true(in_config(old, w->nodes[3].id)); /* still in its log */
    join(w);
    until(w, 2000, all_agree);
    for (uint32_t i = 0; i < 3; i++) {
        assert_false(in_config(&w->nodes[i], w->nodes[3].id));
        restart(w, &w->nodes[i]);
        assert_false(in_config(&w->nodes[i], w->nodes[3].id));
    }
    until(w, 3000, all_agree);
    end(w);
}

/* The same with a snapshot between the old configuration and the one taken back: it must be found there. */
void a_change_is_rolled_back_over_a_snapshot(void **state)
{
    (void)state;
    struct world *w = begin(3, 2);
    struct node *old = make_leader(w, 0);
    assert_int_equal(change(w, old, RAFT_EV_ADD, w->nodes[3].id), TIDE_OK);
    until(w, 1000, all_agree);
    propose_many(w, old, 3 * RAFT_TRAILING_ENTRIES);
    until(w, 1000, all_agree);
    for (uint32_t i = 0; i < 4; i++)
        take_image(w, &w->nodes[i]);
    assert_true(old->status.first > 10); /* the change is in the snapshot only */
    cut_off(w, old);
    assert_int_equal(change(w, old, RAFT_EV_REMOVE, w->nodes[3].id), TIDE_OK);
    assert_false(in_config(old, w->nodes[3].id));
    struct node *n = leader_other_than(w, old);
    propose_many(w, n, 2);
    join(w);
    until(w, 2000, all_agree);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(in_config(&w->nodes[i], w->nodes[3].id));
        restart(w, &w->nodes[i]);
        assert_true(in_config(&w->nodes[i], w->nodes[3].id));
    }
    until(w, 3000, all_agree);
    end(w);
}

/* Two voters; the leader takes itself out, and steps down before the other hears of it. By its own log it is no voter any
 * more; but its log is the longer one, so if it did not stand nobody could be elected (figure 4.6 of the dissertation). */
void a_removal_only_the_removed_has(void **state)
{
    (void)state;
    struct world *w = begin(2, 0);
    struct node *old = leader(w);
    w->on_send = no_entries;
    assert_int_equal(change(w, old, RAFT_EV_REMOVE, old->id), TIDE_OK);
    cut_off(w, old);
    pass(w, 1000);
    assert_null(world_leader(w));
    restart(w, old);
    w->on_send = NULL;
    join(w);
    struct node *n = leader_other_than(w, old);
    assert_false(in_config(n, old->id));
    until(w, 1000, all_agree);
    end(w);
}

/* A member is removed and its machine comes back under another id. */
void removed_and_added_again(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *n = leader(w), *gone = follower(w, 1);
    uint64_t old_id = gone->id;
    propose_many(w, n, 20);
    assert_int_equal(change(w, n, RAFT_EV_REMOVE, gone->id), TIDE_OK);
    until(w, 1000, all_agree);
    pass(w, 1000);
    assert_true(gone->removed);
    gone->removed_at = 0;
    w->now += SECONDS(4);
    admin_retires(w);
    assert_int_not_equal(gone->id, old_id);
    pass(w, 1000);
    n = leader(w);
    assert_int_equal(change(w, n, RAFT_EV_ADD, gone->id), TIDE_OK);
    until(w, 2000, all_agree);
    assert_int_equal(change(w, n, RAFT_EV_PROMOTE, gone->id), TIDE_OK);
    until(w, 2000, all_agree);
    assert_true(is_voter(gone, gone->id));
    end(w);
}

/* One member becomes three, and the first of them goes. */
void a_group_of_one_grows(void **state)
{
    (void)state;
    struct world *w = begin(1, 2);
    struct node *n = leader(w);
    assert_true(w->now < MS(500)); /* alone, there is nobody to wait for */
    propose_many(w, n, 50);
    for (uint32_t i = 1; i < 3; i++) {
        assert_int_equal(change(w, n, RAFT_EV_ADD, w->nodes[i].id), TIDE_OK);
        until(w, 2000, all_agree);
        assert_int_equal(change(w, n, RAFT_EV_PROMOTE, w->nodes[i].id), TIDE_OK);
        until(w, 2000, all_agree);
    }
    assert_int_equal(change(w, n, RAFT_EV_REMOVE, n->id), TIDE_OK);
    struct node *next = leader_other_than(w, n);
    propose_many(w, next, 3);
    until(w, 1000, all_agree);
    assert_int_equal(raft_config_voters(raft_config_of(next->raft)), 2);
    end(w);
}

/* One change as any other; whoever it is keeps what it was, and no address is had by two. */
void an_address_is_changed(void **state)
{
    (void)state;
    struct solo s;
    solo_lead(&s);
    struct raft_member old = *raft_config_member(raft_config_of(s.raft), 3), moved = old, other = old;
    struct raft_event event = {.kind = RAFT_EV_UPDATE, .member = &moved};
    assert_int_equal(solo_step(&s, event), TIDE_E_EXISTS);
    text_copy(moved.peer, sizeof moved.peer, raft_config_member(raft_config_of(s.raft), 2)->peer);
    assert_int_equal(solo_step(&s, event), TIDE_E_EXISTS);
    text_copy(moved.peer, sizeof moved.peer, "elsewhere:1");
    moved.voter = false; /* not for this to decide */
    assert_int_equal(solo_step(&s, event), TIDE_OK);
    const struct raft_member *now = raft_config_member(raft_config_of(s.raft), 3);
    assert_string_equal(now->peer, "elsewhere:1");
    assert_true(now->voter);
    assert_int_equal(raft_config_of(s.raft)->count, 3);
    assert_true(s.update.config_changed);
    text_copy(moved.peer, sizeof moved.peer, "elsewhere:2");
    assert_int_equal(solo_step(&s, event), TIDE_E_STATE); /* one at a time */
    other.id = 9;
    assert_int_equal(raft_check(s.raft, &s.err), TIDE_OK);
    solo_end(&s);
    solo_lead(&s);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_UPDATE, .member = &other}), TIDE_E_NOT_FOUND);
    solo_end(&s);
}
