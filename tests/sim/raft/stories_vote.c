/* SPDX-License-Identifier: Apache-2.0 */
/* Elections: who may stand, who may vote, who must go. */
#include "tests/sim/raft/story.h"

static const unsigned one_entry[] = {1};
static const unsigned three_entries[] = {1, 1, 2};

static struct raft_message vote_request(uint64_t from, uint64_t term, uint64_t index, uint64_t last_term)
{
    struct raft_message message = {.kind = RAFT_MSG_VOTE, .from = from, .term = term};
    message.vote.last_index = index;
    message.vote.last_term = last_term;
    return message;
}

/* FACTS E. Thirty leaders are killed at 90/18 ms under load; each time somebody leads again within two seconds. */
void thirty_leaders_die(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    w->election_ticks = 9;
    w->heartbeat_ticks = 1;
    w->client_count = 4;
    for (uint32_t i = 0; i < 3; i++)
        restart(w, &w->nodes[i]);
    clients_begin(w);
    for (unsigned round = 0; round < 30; round++) {
        struct node *n = leader(w);
        pass(w, 50 + round * 7 % 60);
        node_crash(w, n);
        struct node *next = leader_other_than(w, n);
        assert_true(next->status.term > 1);
        node_boot(w, n);
    }
    w->quiet = true;
    until(w, 4000, all_agree);
    check_end(w);
    end(w);
}

/* A member is cut off for two seconds. Without PreVote its term would have grown and its return would depose the leader. */
void a_returning_member_disturbs_nobody(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *n = leader(w), *away = follower(w, 0);
    uint64_t term = n->status.term;
    cut_off(w, away);
    pass(w, 2000);
    assert_int_equal(away->status.role, RAFT_PRE_CANDIDATE);
    assert_int_equal(away->status.term, term);
    propose_many(w, n, 2);
    join(w);
    until(w, 1000, all_agree);
    assert_int_equal(n->status.role, RAFT_LEADER);
    assert_int_equal(n->status.term, term);
    /* Nor does one that hears nothing, but is heard. */
    cut_link(w, n->slot, away->slot);
    pass(w, 2000);
    assert_int_equal(n->status.role, RAFT_LEADER);
    assert_int_equal(n->status.term, term);
    end(w);
}

/* A leader that no majority answers goes within two election time-outs, before or while the others elect. */
void a_cut_off_leader_steps_down(void **state)
{
    (void)state;
    struct world *w = begin(5, 0);
    struct node *old = leader(w);
    cut_off(w, old);
    assert_true(propose(w, old, 5) > 0);
    pass(w, 2 * w->election_ticks * RAFT_TICK_MS);
    assert_int_not_equal(old->status.role, RAFT_LEADER);
    assert_int_equal(propose(w, old, 5), 0);
    (void)leader_other_than(w, old);
    /* One that is heard but hears nothing goes as well, or nobody could lead. */
    join(w);
    until(w, 2000, all_agree);
    old = leader(w);
    for (uint32_t i = 0; i < 5; i++)
        cut_link(w, i, old->slot);
    struct node *n = leader_other_than(w, old);
    assert_true(n->status.term > 1);
    join(w);
    until(w, 2000, all_agree);
    end(w);
}

/* The first candidate of a term has the vote; the second is refused; the first, who asks again, has it still; also after a
 * restart. */
void one_vote_a_term(void **state)
{
    (void)state;
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){1, 0}, one_entry, 1);
    assert_int_equal(solo_hears(&s, vote_request(2, 5, 1, 1)), TIDE_OK);
    assert_true(s.update.write.has_ballot);
    assert_int_equal(s.update.write.ballot.term, 5);
    assert_int_equal(s.update.write.ballot.vote, 2);
    solo_persist(&s);
    assert_true(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0)->vote_reply.granted);
    assert_int_equal(solo_hears(&s, vote_request(3, 5, 9, 4)), TIDE_OK);
    assert_false(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0)->vote_reply.granted);
    assert_int_equal(solo_hears(&s, vote_request(2, 5, 1, 1)), TIDE_OK);
    assert_true(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0)->vote_reply.granted);
    solo_end(&s);
    solo_begin(&s, 1, 3, (struct raft_ballot){5, 2}, one_entry, 1);
    assert_int_equal(solo_hears(&s, vote_request(3, 5, 9, 4)), TIDE_OK);
    assert_false(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0)->vote_reply.granted);
    assert_int_equal(s.status.vote, 2);
    /* And of a term that is gone, none. */
    assert_int_equal(solo_hears(&s, vote_request(2, 4, 9, 4)), TIDE_OK);
    assert_false(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0)->vote_reply.granted);
    assert_int_equal(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0)->term, 5);
    solo_end(&s);
}

void a_vote_is_durable_before_it_is_said(void **state)
{
    (void)state;
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){1, 0}, one_entry, 1);
    assert_int_equal(solo_hears(&s, vote_request(2, 2, 1, 1)), TIDE_OK);
    assert_null(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0));
    uint64_t number = s.update.write.number;
    solo_ticks(&s, 3);
    assert_null(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0));
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_PERSISTED, .number = number}), TIDE_OK);
    assert_true(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0)->vote_reply.granted);
    /* What was held for a term that is over is not said any more. */
    assert_int_equal(solo_hears(&s, vote_request(2, 3, 1, 1)), TIDE_OK);
    assert_int_equal(solo_hears(&s, vote_request(3, 4, 1, 1)), TIDE_OK);
    solo_persist(&s);
    assert_int_equal(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0)->term, 4);
    assert_null(solo_says(&s, RAFT_MSG_VOTE_REPLY, 1));
    solo_end(&s);
}

/* A candidate asks nobody and counts nothing before its own vote is durable. */
void an_own_vote_counts_when_it_is_durable(void **state)
{
    (void)state;
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){1, 0}, one_entry, 1);
    for (unsigned i = 0; i < 40 && s.status.role != RAFT_PRE_CANDIDATE; i++)
        solo_ticks(&s, 1);
    assert_int_equal(s.status.role, RAFT_PRE_CANDIDATE);
    assert_true(solo_says(&s, RAFT_MSG_VOTE, 0)->vote.pre);
    assert_int_equal(solo_says(&s, RAFT_MSG_VOTE, 0)->term, 2);
    struct raft_message grant = {.kind = RAFT_MSG_VOTE_REPLY, .from = 2, .term = 2};
    grant.vote_reply.granted = grant.vote_reply.pre = true;
    assert_int_equal(solo_hears(&s, grant), TIDE_OK);
    assert_int_equal(s.status.role, RAFT_CANDIDATE);
    assert_int_equal(s.status.term, 2);
    assert_null(solo_says(&s, RAFT_MSG_VOTE, 0));
    uint64_t number = s.update.write.number;
    /* The grant of the dress rehearsal is none. */
    assert_int_equal(solo_hears(&s, grant), TIDE_OK);
    grant.vote_reply.pre = false;
    assert_int_equal(solo_hears(&s, grant), TIDE_OK);
    assert_int_equal(s.status.role, RAFT_CANDIDATE);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_PERSISTED, .number = number}), TIDE_OK);
    assert_int_equal(s.status.role, RAFT_LEADER);
    assert_int_equal(s.status.last, 2); /* "a blank no-op entry at the start of its term" */
    solo_end(&s);
}

/* Who hears a leader ignores who wants to replace it, unless the leader itself wants it. */
void a_led_member_ignores_candidates(void **state)
{
    (void)state;
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, one_entry, 1);
    assert_int_equal(solo_append(&s, 2, 2, 1, 1, NULL, 0, 1), TIDE_OK);
    assert_int_equal(s.status.leader, 2);
    assert_int_equal(solo_hears(&s, vote_request(3, 9, 9, 8)), TIDE_OK);
    assert_int_equal(s.status.term, 2);
    assert_int_equal(s.update.message_count, 0);
    struct raft_message pre = vote_request(3, 9, 9, 8);
    pre.vote.pre = true;
    assert_int_equal(solo_hears(&s, pre), TIDE_OK);
    assert_int_equal(s.update.message_count, 0);
    struct raft_message wished = vote_request(3, 3, 9, 2);
    wished.vote.transfer = true;
    assert_int_equal(solo_hears(&s, wished), TIDE_OK);
    assert_int_equal(s.status.vote, 3);
    solo_end(&s);
    /* When it has heard nothing for an election time-out it grants. */
    solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, one_entry, 1);
    assert_int_equal(solo_append(&s, 2, 2, 1, 1, NULL, 0, 1), TIDE_OK);
    solo_ticks(&s, 10);
    assert_int_equal(solo_hears(&s, pre), TIDE_OK);
    assert_true(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0)->vote_reply.granted);
    assert_int_equal(s.status.term, 2); /* a rehearsal changes nothing */
    solo_end(&s);
}

void a_shorter_log_gets_no_vote(void **state)
{
    (void)state;
    static const struct {
        uint64_t index, term;
        bool granted;
    } cases[] = {{3, 2, true}, {2, 2, false}, {4, 2, true}, {9, 1, false}, {1, 3, true}, {0, 0, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct solo s;
        solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, three_entries, 3);
        struct raft_message pre = vote_request(2, 4, cases[i].index, cases[i].term);
        pre.vote.pre = true;
        assert_int_equal(solo_hears(&s, pre), TIDE_OK);
        assert_int_equal(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0)->vote_reply.granted, cases[i].granted);
        assert_int_equal(solo_hears(&s, vote_request(2, 4, cases[i].index, cases[i].term)), TIDE_OK);
        solo_persist(&s);
        assert_int_equal(solo_says(&s, RAFT_MSG_VOTE_REPLY, 0)->vote_reply.granted, cases[i].granted);
        assert_int_equal(s.status.term, 4);
        solo_end(&s);
    }
}

/* Leadership moves without a time-out being waited for, and nothing is lost. */
void leadership_is_handed_over(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *old = leader(w), *to = follower(w, 0);
    uint64_t index = propose(w, old, 10), began = w->now;
    assert_int_equal(change(w, old, RAFT_EV_TRANSFER, to->id), TIDE_OK);
    assert_int_equal(propose(w, old, 10), 0); /* it takes nothing more */
    assert_int_not_equal(change(w, old, RAFT_EV_TRANSFER, to->id), TIDE_OK);
    struct node *n = leader_other_than(w, old);
    assert_ptr_equal(n, to);
    assert_true(w->now - began <= MS(w->election_ticks * RAFT_TICK_MS));
    until(w, 1000, all_agree);
    assert_true(n->status.commit >= index);
    /* To whoever is furthest. */
    assert_int_equal(change(w, n, RAFT_EV_TRANSFER, 0), TIDE_OK);
    (void)leader_other_than(w, n);
    /* To oneself, to a stranger: refused. */
    n = leader(w);
    assert_int_equal(change(w, n, RAFT_EV_TRANSFER, n->id), TIDE_E_EXISTS);
    assert_int_equal(change(w, n, RAFT_EV_TRANSFER, 77), TIDE_E_NOT_FOUND);
    assert_int_equal(change(w, follower(w, 0), RAFT_EV_TRANSFER, n->id), TIDE_E_UNAVAILABLE);
    end(w);
}

static bool no_timeout_now(struct world *w, const struct node *from, const struct raft_message *m)
{
    (void)w, (void)from;
    return m->kind != RAFT_MSG_TIMEOUT_NOW;
}

/* The one who shall lead never hears of it: after an election time-out the old leader goes on. */
void a_handover_to_the_mute_ends(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *n = leader(w);
    w->on_send = no_timeout_now;
    assert_int_equal(change(w, n, RAFT_EV_TRANSFER, follower(w, 1)->id), TIDE_OK);
    assert_true(n->status.transferring);
    assert_int_equal(propose(w, n, 10), 0);
    pass(w, 2 * w->election_ticks * RAFT_TICK_MS);
    assert_int_equal(n->status.role, RAFT_LEADER);
    assert_false(n->status.transferring);
    assert_true(propose(w, n, 10) > 0);
    /* Who has been silent for long is not even tried. */
    w->on_send = NULL;
    struct node *gone = follower(w, 0);
    node_crash(w, gone);
    pass(w, 3 * w->election_ticks * RAFT_TICK_MS);
    assert_int_equal(change(w, n, RAFT_EV_TRANSFER, gone->id), TIDE_E_STATE);
    end(w);
}

/* Four members, two and two, cannot elect; when they are one group again they do. */
void a_split_vote_is_settled(void **state)
{
    (void)state;
    struct world *w = begin(4, 0);
    struct node *old = leader(w);
    for (uint32_t a = 0; a < 4; a++)
        for (uint32_t b = 0; b < 4; b++)
            if ((a < 2) != (b < 2))
                cut_link(w, a, b);
    pass(w, 3000);
    assert_null(world_leader(w));
    assert_true(old->status.term < 8); /* nobody's term ran away */
    join(w);
    (void)leader(w);
    until(w, 2000, all_agree);
    end(w);
}
