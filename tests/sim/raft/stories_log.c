/* SPDX-License-Identifier: Apache-2.0 */
/* Entries: who has them, who counts them, who gives way. */
#include "tests/sim/raft/story.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* t=0 s three members; somebody leads within a second, what is proposed is applied everywhere. */
void nothing_happens(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *n = leader(w);
    uint64_t index = propose(w, n, 10);
    assert_true(index > 0);
    until(w, 500, all_agree);
    for (uint32_t i = 0; i < 3; i++)
        assert_true(w->nodes[i].machine.applied >= index);
    assert_int_equal(w->elections, 1);
    pass(w, 5000);
    assert_int_equal(w->elections, 1);
    end(w);
}

/* Figure 7 of the paper: "Leader for term 8", and six followers whose logs lack entries, have more, or both. */
void figure_7(void **state)
{
    (void)state;
    static const unsigned leads[] = {1, 1, 1, 4, 4, 5, 5, 6, 6, 6};
    static const unsigned a[] = {1, 1, 1, 4, 4, 5, 5, 6, 6};
    static const unsigned b[] = {1, 1, 1, 4};
    static const unsigned c[] = {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6};
    static const unsigned d[] = {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7};
    static const unsigned e[] = {1, 1, 1, 4, 4, 4, 4};
    static const unsigned f[] = {1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3};
    struct world *w = begin_with(7);
    given(w, 0, 7, leads, COUNT(leads));
    given(w, 1, 7, a, COUNT(a));
    given(w, 2, 7, b, COUNT(b));
    given(w, 3, 7, c, COUNT(c));
    given(w, 4, 7, d, COUNT(d));
    given(w, 5, 7, e, COUNT(e));
    given(w, 6, 7, f, COUNT(f));
    for (uint32_t i = 1; i < 7; i++)
        w->nodes[i].still = true; /* nobody else stands */
    boot_all(w);
    struct node *n = leader(w);
    assert_int_equal(n->slot, 0);
    assert_int_equal(n->status.term, 8);
    until(w, 1000, all_agree);
    assert_int_equal(n->status.last, 11); /* its ten and its own first */
    end(w);
}

static bool drop_appends_of_slot_0(struct world *w, const struct node *from, const struct raft_message *m)
{
    (void)w;
    return from->slot != 0 || m->kind != RAFT_MSG_APPEND || m->append.count == 0;
}

static bool slot_0_hears_a_majority(const struct world *w)
{
    const struct raft_status *s = &w->nodes[0].status;
    size_t matched = 0;
    for (size_t i = 0; i < s->peer_count; i++)
        matched += s->peers[i].match >= 2;
    return s->role == RAFT_LEADER && matched >= 2;
}

/* Figure 8 of the paper. (c) S1 leads again in term 4, and entry 2 of term 2 is on a majority; it is not committed by that,
 * for (d) S5 may still be elected and overwrite it with its own of term 3. */
void figure_8(void **state)
{
    (void)state;
    static const unsigned with[] = {1, 2}, without[] = {1}, other[] = {1, 3};
    struct world *w = begin_with(5);
    given(w, 0, 3, with, 2);
    given(w, 1, 3, with, 2);
    given(w, 2, 3, with, 2);
    given(w, 3, 3, without, 1);
    given(w, 4, 3, other, 2);
    for (uint32_t i = 1; i < 5; i++)
        w->nodes[i].still = true;
    cut_off(w, &w->nodes[4]);
    w->on_send = drop_appends_of_slot_0;
    boot_all(w);
    until(w, 1000, slot_0_hears_a_majority);
    assert_int_equal(w->nodes[0].status.term, 4);
    pass(w, 50);
    assert_true(w->nodes[0].status.commit < 2);
    node_crash(w, &w->nodes[0]);
    join(w);
    for (uint32_t i = 1; i < 4; i++)
        restart(w, &w->nodes[i]); /* they forget their leader, and do not stand */
    w->nodes[4].still = false;
    struct node *n = leader(w);
    assert_int_equal(n->slot, 4);
    node_boot(w, &w->nodes[0]);
    for (uint32_t i = 0; i < 5; i++)
        w->nodes[i].still = false;
    until(w, 3000, all_agree);
    assert_int_equal(w->truth[2].term, 3); /* (d): overwritten, and rightly so */
    end(w);
}

static bool slot_0_has_all(const struct world *w)
{
    return w->nodes[0].machine.applied == w->truth_count && w->nodes[0].status.last == w->truth_count;
}

/* FACTS A. A member with a tail nobody else has answers a sign of life: the leader learns of the entry before the heartbeat's,
 * and of nothing behind it. */
void a_stale_tail_is_not_counted(void **state)
{
    (void)state;
    static const unsigned tail[] = {1, 2, 2, 2, 2, 2}, log[] = {1, 3};
    struct world *w = begin_with(3);
    given(w, 0, 3, tail, COUNT(tail));
    given(w, 1, 3, log, COUNT(log));
    given(w, 2, 3, log, COUNT(log));
    boot_all(w);
    cut_off(w, &w->nodes[0]);
    struct node *n = leader(w);
    propose_many(w, n, 3);
    /* The third is gone, the one with the tail comes: only signs of life reach it. */
    struct node *third = &w->nodes[n->slot == 1 ? 2 : 1];
    node_crash(w, third);
    join(w);
    w->on_send = NULL;
    uint64_t committed = n->status.commit;
    uint64_t index = propose(w, n, 5);
    assert_true(index > committed);
    until(w, 1000, slot_0_has_all);
    assert_true(n->status.commit >= index);
    assert_int_equal(raft_term_at(w->nodes[0].raft, 2), 3);
    node_boot(w, third);
    until(w, 2000, all_agree);
    end(w);
}

/* A leader of two is cut off with entries of its own; the others go on; when it is back its tail is gone everywhere. */
void an_old_leaders_tail_gives_way(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *old = leader(w);
    propose_many(w, old, 3);
    cut_off(w, old);
    uint64_t lost = propose(w, old, 20);
    for (unsigned i = 0; i < 4; i++)
        assert_true(propose(w, old, 20) > 0);
    struct node *n = leader_other_than(w, old);
    propose_many(w, n, 2);
    uint64_t term = n->status.term;
    join(w);
    until(w, 2000, all_agree);
    assert_true(raft_term_at(old->raft, lost) >= term);
    end(w);
}

/* FACTS C. t: an entry is on its way to the others when the leader's disk fails. The leader stops; the others have the
 * entry and keep it, or do not; all are equal, and the client, who was told nothing, asks again under its number. */
void the_leaders_disk_fails_under_an_entry(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    w->client_count = 2;
    clients_begin(w);
    for (unsigned round = 0; round < 10; round++) {
        struct node *n = leader(w);
        pass(w, 100);
        uint64_t index = propose(w, n, 10);
        n->disk.fails_after = w->now; /* its write will not be done; the messages have left */
        pass(w, 50);
        assert_true(!n->up || index == 0);
        struct node *next = leader_other_than(w, n);
        pass(w, 200);
        assert_true(next->status.commit >= index || !next->up);
        node_boot(w, n);
    }
    w->quiet = true;
    until(w, 4000, all_agree);
    check_end(w);
    assert_true(w->acks > 20);
    end(w);
}

/* Entries acknowledged by two of three, then no power anywhere: whoever leads next has them. */
void what_only_some_have_survives_a_power_failure(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    w->client_count = 3;
    clients_begin(w);
    for (unsigned round = 0; round < 12; round++) {
        struct node *n = leader(w), *behind = follower(w, round % 2);
        cut_off(w, behind);
        pass(w, 150);
        propose_many(w, n, 2);
        for (uint32_t i = 0; i < 3; i++)
            node_crash(w, &w->nodes[i]);
        join(w);
        for (uint32_t i = 0; i < 3; i++)
            node_boot(w, &w->nodes[(i + round) % 3]);
    }
    w->quiet = true;
    until(w, 6000, all_agree);
    check_end(w);
    end(w);
}

static size_t sent_to_slot_2;
static bool count_entries_to_slot_2(struct world *w, const struct node *from, const struct raft_message *m)
{
    (void)from;
    if (m->to == w->nodes[2].id && m->kind == RAFT_MSG_APPEND)
        sent_to_slot_2 += m->append.count;
    return true;
}

/* FACTS I. One member hangs while there is load: what the leader has under way to it, and holds for it, stays bounded. */
void a_hung_member_costs_no_memory(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *n = make_leader(w, 0);
    sent_to_slot_2 = 0;
    w->on_send = count_entries_to_slot_2;
    w->nodes[2].paused_until = w->now + SECONDS(20);
    uint64_t most = 0;
    for (unsigned i = 0; i < 1500; i++) {
        (void)propose(w, n, 100);
        pass(w, 4);
        most = n->status.log_bytes > most ? n->status.log_bytes : most;
        assert_int_equal(n->status.role, RAFT_LEADER);
    }
    assert_true(n->status.commit > 1000);
    assert_true(most <= RAFT_LOG_BYTES_MAX);
    assert_true(sent_to_slot_2 <= (size_t)RAFT_WINDOW_MESSAGES * RAFT_APPEND_ENTRIES_MAX);
    w->on_send = NULL;
    w->nodes[2].paused_until = w->now;
    until(w, 25000, all_agree);
    end(w);
}

/* Both others are stopped: what the leader takes is bounded, and what is more is refused with a reason. */
void more_than_the_bound_is_refused(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *n = leader(w);
    for (uint32_t i = 0; i < 3; i++)
        if (&w->nodes[i] != n)
            w->nodes[i].paused_until = w->now + MS(100);
    size_t taken = 0;
    while (propose(w, n, 10) > 0)
        taken++;
    assert_in_range(taken, RAFT_UNCOMMITTED_MAX - 2, RAFT_UNCOMMITTED_MAX);
    until(w, 1000, all_agree);
    assert_true(propose(w, n, 10) > 0);
    /* By bytes as well. */
    pass(w, 200);
    n = leader(w);
    for (uint32_t i = 0; i < 3; i++)
        if (&w->nodes[i] != n)
            w->nodes[i].paused_until = w->now + MS(100);
    for (taken = 0; propose(w, n, 3000) > 0;)
        taken++;
    assert_in_range(taken, 2, RAFT_UNCOMMITTED_BYTES_MAX / 3000);
    until(w, 3000, all_agree);
    end(w);
}

/* A follower whose disk hangs for longer than an election time-out cannot acknowledge entries; it still answers signs of
 * life, so that a sound leader stays. */
void a_hanging_disk_does_not_silence_a_follower(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *n = leader(w);
    w->sync_ns = MS(500);
    pass(w, 50);
    uint64_t index = propose(w, n, 10), term = n->status.term;
    assert_true(index > 0);
    until(w, 4000, all_agree);
    assert_int_equal(n->status.role, RAFT_LEADER);
    assert_int_equal(n->status.term, term);
    end(w);
}

static unsigned appends_seen;
static bool lose_every_second_append(struct world *w, const struct node *from, const struct raft_message *m)
{
    (void)w, (void)from;
    return m->kind != RAFT_MSG_APPEND || m->append.count == 0 || appends_seen++ % 2 == 1;
}

/* Every second append is lost, for ever: signs of life find the gap and it is filled. */
void lost_appends_are_sent_again(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    w->on_send = lose_every_second_append;
    struct node *n = leader(w);
    for (unsigned i = 0; i < 40; i++) {
        assert_true(propose(w, n, 30) > 0);
        pass(w, 25);
    }
    until(w, 3000, all_agree);
    assert_true(n->status.commit >= 41);
    end(w);
}
