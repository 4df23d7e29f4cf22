/* SPDX-License-Identifier: Apache-2.0 */
/* Reads: only what a leader that still leads knows to be committed. */
#include "tests/sim/raft/story.h"

void a_read_sees_what_was_acknowledged(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *n = leader(w);
    propose_many(w, n, 5);
    until(w, 500, all_agree);
    assert_int_equal(ask_read(w, n), TIDE_OK);
    until(w, 500, read_answered);
    assert_true(w->clients[0].read_index >= w->truth_count);
    /* A follower does not answer. */
    struct node *f = follower(w, 0);
    assert_int_not_equal(ask_read(w, f), TIDE_OK);
    end(w);
}

/* A group of three is asked while the others are stopped: no answer until they have confirmed that it leads. */
void a_read_needs_a_round(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *n = leader(w);
    until(w, 500, all_agree);
    for (uint32_t i = 0; i < 3; i++)
        if (&w->nodes[i] != n)
            w->nodes[i].paused_until = w->now + MS(60);
    assert_int_equal(ask_read(w, n), TIDE_OK);
    assert_false(read_answered(w));
    pass(w, 55);
    assert_false(read_answered(w));
    until(w, 200, read_answered);
    end(w);
    /* A group of one has nobody to ask. */
    w = begin(1, 0);
    n = leader(w);
    pass(w, 20);
    assert_int_equal(ask_read(w, n), TIDE_OK);
    assert_true(read_answered(w));
    end(w);
}

static bool no_entries(struct world *w, const struct node *from, const struct raft_message *m)
{
    (void)w, (void)from;
    return m->kind != RAFT_MSG_APPEND || m->append.count == 0;
}

/* An entry was acknowledged by the old leader; the new one has it, but does not know yet that it is committed. A read must
 * wait for its first own entry, whatever heartbeats say. */
void a_read_waits_for_an_own_entry(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *old = leader(w);
    until(w, 500, all_agree);
    propose_many(w, old, 2);
    uint64_t acknowledged = w->truth_count;
    w->on_send = no_entries;
    node_crash(w, old);
    for (unsigned tries = 0; tries < 300 && world_leader(w) == NULL; tries++)
        pass(w, 5);
    struct node *n = world_leader(w);
    assert_non_null(n);
    assert_false(n->status.ready);
    assert_int_equal(ask_read(w, n), TIDE_OK);
    pass(w, 60);
    assert_false(read_answered(w));
    w->on_send = NULL;
    until(w, 2000, read_answered);
    assert_true(w->clients[0].read_index > acknowledged);
    end(w);
}

/* The leader is cut off and does not know it; the others have a new one, and take a write. What is asked of the old one then
 * is never permitted. */
void a_deposed_leader_answers_no_read(void **state)
{
    (void)state;
    for (unsigned way = 1; way <= 3; way++) { /* in, out, both */
        struct world *w = begin(3, 0);
        struct node *old = leader(w);
        until(w, 500, all_agree);
        for (uint32_t i = 0; i < 3; i++) {
            if (way & 1u)
                cut_link(w, i, old->slot);
            if (way & 2u)
                cut_link(w, old->slot, i);
        }
        old->still = true; /* its clock stands: it does not step down on its own */
        struct node *n = way == 1 ? NULL : leader_other_than(w, old);
        if (n == NULL) { /* it is heard, so nobody stands; the read waits */
            (void)ask_read(w, old);
            pass(w, 100);
            assert_false(read_answered(w));
            end(w);
            continue;
        }
        propose_many(w, n, 2);
        pass(w, 50);
        if (old->status.role == RAFT_LEADER)
            assert_int_equal(ask_read(w, old), TIDE_OK);
        pass(w, 400);
        if (old->status.role == RAFT_LEADER)
            assert_int_equal(w->clients[0].read_index, 0);
        join(w);
        old->still = false;
        until(w, 2000, all_agree);
        end(w);
    }
}

/* An answer that was under way before the read was asked says nothing about now. */
void an_old_round_confirms_nothing(void **state)
{
    (void)state;
    struct solo s;
    solo_lead(&s);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_READ, .number = 1}), TIDE_OK);
    assert_int_equal(s.update.read_count, 0);
    const struct raft_message *beat = solo_says(&s, RAFT_MSG_APPEND, 0);
    assert_non_null(beat);
    uint64_t round = beat->append.round;
    assert_true(round > 0);
    struct raft_message ack = {.kind = RAFT_MSG_APPEND_REPLY, .from = 3, .term = 2};
    ack.append_reply.accepted = true;
    ack.append_reply.round = round - 1;
    assert_int_equal(solo_hears(&s, ack), TIDE_OK);
    assert_int_equal(s.update.read_count, 0);
    /* The second read comes while the first one's round runs: that round began before it. */
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_READ, .number = 2}), TIDE_OK);
    ack.append_reply.round = round;
    assert_int_equal(solo_hears(&s, ack), TIDE_OK);
    assert_int_equal(s.update.read_count, 1);
    assert_int_equal(s.update.reads[0].number, 1);
    assert_true(s.update.reads[0].permitted);
    assert_int_equal(s.update.reads[0].index, 2);
    assert_int_equal(solo_hears(&s, ack), TIDE_OK); /* the same answer, once more */
    assert_int_equal(s.update.read_count, 0);
    ack.append_reply.round = round + 1;
    ack.append_reply.accepted = false; /* whatever it says of its log, it follows */
    assert_int_equal(solo_hears(&s, ack), TIDE_OK);
    assert_int_equal(s.update.read_count, 1);
    assert_int_equal(s.update.reads[0].number, 2);
    /* A learner, or a stranger, confirms nothing. */
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_READ, .number = 3}), TIDE_OK);
    ack.from = 9;
    ack.append_reply.round = round + 2;
    assert_int_equal(solo_hears(&s, ack), TIDE_OK);
    assert_int_equal(s.update.read_count, 0);
    /* Deposed: it is told that this member answers no more. */
    assert_int_equal(solo_append(&s, 3, 3, 1, 1, NULL, 0, 0), TIDE_OK);
    assert_int_equal(s.status.role, RAFT_FOLLOWER);
    assert_int_equal(s.update.read_count, 1);
    assert_false(s.update.reads[0].permitted);
    solo_end(&s);
}

void too_many_reads_are_refused(void **state)
{
    (void)state;
    struct solo s;
    solo_lead(&s);
    for (unsigned i = 0; i < RAFT_READS_MAX; i++)
        assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_READ, .number = i + 1}), TIDE_OK);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_READ, .number = 99}), TIDE_E_UNAVAILABLE);
    /* No answer for an election time-out: it steps down, and says so to all that wait. */
    unsigned told = 0;
    for (unsigned i = 0; i < 30 && s.status.role == RAFT_LEADER; i++)
        solo_ticks(&s, 1);
    for (size_t i = 0; i < s.update.read_count; i++)
        told += !s.update.reads[i].permitted;
    assert_int_equal(told, RAFT_READS_MAX);
    solo_end(&s);
}
