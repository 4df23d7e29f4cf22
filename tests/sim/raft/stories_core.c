/* SPDX-License-Identifier: Apache-2.0 */
/* One core alone, told what no network would bring about so soon. */
#include "tests/sim/raft/story.h"

static const unsigned log_of_five[] = {1, 1, 2, 2, 2};

/* FACTS H. Messages of any content: nothing but drops, and a member whose memory is sound. */
static void fill_at_random(struct rng *rng, struct raft_message *m)
{
    m->kind = (uint32_t)rng_below(rng, 10);
    m->from = rng_below(rng, 6);
    m->term = rng_below(rng, 9);
    uint64_t *words = &m->append.prev_index;
    for (size_t i = 0; i < 4; i++)
        words[i] = rng_below(rng, 4) == 0 ? rng_next(rng) : rng_below(rng, 12);
    if (m->kind == RAFT_MSG_APPEND) {
        m->append.count = rng_below(rng, 4);
        m->append.entries = mem_array(4, sizeof m->append.entries[0]);
        for (size_t i = 0; i < m->append.count; i++)
            m->append.entries[i] = (struct raft_entry){.index = m->append.prev_index + 1 + i + (rng_below(rng, 8) == 0),
                                                       .term = rng_below(rng, 9),
                                                       .type = (uint32_t)rng_below(rng, 4),
                                                       .blob = rng_below(rng, 2) ? raft_blob_create("xyz", 3) : NULL};
    } else if (m->kind == RAFT_MSG_SNAPSHOT) {
        m->snapshot.bytes = (uint32_t)rng_below(rng, 300);
        m->snapshot.config = rng_below(rng, 2) ? raft_blob_create("\1\0", 2) : NULL;
        m->snapshot.data = rng_below(rng, 2) ? raft_blob_create(NULL, m->snapshot.bytes) : NULL;
    } else if (m->kind == RAFT_MSG_VOTE || m->kind == RAFT_MSG_VOTE_REPLY) {
        m->vote.last_index = rng_below(rng, 12);
        m->vote.last_term = rng_below(rng, 9);
        m->vote.pre = m->vote.transfer = false;
        m->vote_reply.granted = rng_below(rng, 2) != 0;
        m->vote_reply.pre = rng_below(rng, 2) != 0;
    } else if (m->kind == RAFT_MSG_APPEND_REPLY) {
        m->append_reply.accepted = rng_below(rng, 2) != 0;
    } else if (m->kind == RAFT_MSG_SNAPSHOT_REPLY) {
        m->snapshot_reply.done = rng_below(rng, 2) != 0;
    }
}

void garbage_does_no_harm(void **state)
{
    (void)state;
    struct rng rng = {.state = 4711};
    for (unsigned life = 0; life < 60; life++) {
        struct solo s;
        solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, log_of_five, 5);
        for (unsigned i = 0; i < 300; i++) {
            struct raft_message m = {0};
            fill_at_random(&rng, &m);
            enum tide_status status = solo_hears(&s, m);
            uint64_t number = s.update.write.number;
            if (status == TIDE_E_CORRUPT) /* a leader that cannot be: the member stops, and says why */
                break;
            assert_int_equal(status, TIDE_OK);
            if (number > 0 && rng_below(&rng, 2))
                assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_PERSISTED, .number = number}), TIDE_OK);
            if (rng_below(&rng, 3) == 0)
                solo_ticks(&s, 1);
        }
        solo_end(&s);
    }
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, log_of_five, 5);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EVENTS}), TIDE_E_INVALID);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_PERSISTED, .number = 1000}), TIDE_E_CORRUPT);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_SNAPSHOT, .number = 5}), TIDE_E_CORRUPT);
    solo_end(&s);
}

/* FACTS H. Entries no leader would send: a gap, falling terms, terms to come, a group that cannot be read. Dropped, unanswered. */
void an_append_that_cannot_be_is_dropped(void **state)
{
    (void)state;
    static const struct {
        uint64_t index, term;
        uint32_t type;
        const char *text;
    } second[] = {{8, 3, RAFT_COMMAND, "x"}, {7, 2, RAFT_COMMAND, "x"}, {7, 4, RAFT_COMMAND, "x"}, {7, 3, RAFT_CONFIG, "x"},
                  {7, 3, RAFT_CONFIG, NULL}, {7, 3, RAFT_COMMAND, "x"}};
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){3, 0}, log_of_five, 5);
    for (size_t i = 0; i < sizeof second / sizeof second[0]; i++) {
        bool good = i + 1 == sizeof second / sizeof second[0];
        struct raft_message m = {.kind = RAFT_MSG_APPEND, .from = 2, .term = 3};
        m.append.prev_index = 5;
        m.append.prev_term = 2;
        m.append.count = 2;
        m.append.entries = mem_array(2, sizeof m.append.entries[0]);
        m.append.entries[0] = (struct raft_entry){.index = 6, .term = 3, .type = RAFT_NOOP};
        m.append.entries[1] = (struct raft_entry){.index = second[i].index, .term = second[i].term, .type = second[i].type};
        if (second[i].text != NULL)
            m.append.entries[1].blob = raft_blob_create(second[i].text, 1);
        assert_int_equal(solo_hears(&s, m), TIDE_OK);
        assert_int_equal(s.status.last, good ? 7 : 5);
        assert_int_equal(s.status.leader, good ? 2 : 0);
    }
    solo_end(&s);
}

static enum tide_status create_with(const uint64_t (*entries)[2], size_t count, uint64_t term, uint64_t snapshot)
{
    struct raft_entry log[8];
    struct raft *raft = NULL;
    struct err err = {0};
    for (size_t i = 0; i < count; i++)
        log[i] = (struct raft_entry){.index = entries[i][0], .term = entries[i][1], .type = RAFT_NOOP};
    struct raft_options options = {.id = 1, .ballot = {term, 0}, .snapshot = {.index = snapshot, .term = snapshot ? 1 : 0},
                                   .entries = log, .count = count};
    enum tide_status status = raft_create(&options, &raft, &err);
    raft_free(raft);
    return status;
}

/* FACTS F, G. What a disk gives back after a flipped bit that its checksums missed, or a torn tail in the middle. */
void a_torn_log_is_refused(void **state)
{
    (void)state;
    assert_int_equal(create_with((const uint64_t[][2]){{1, 1}, {2, 1}, {3, 2}}, 3, 2, 0), TIDE_OK);
    assert_int_equal(create_with((const uint64_t[][2]){{1, 1}, {3, 2}}, 2, 2, 0), TIDE_E_CORRUPT);         /* a gap */
    assert_int_equal(create_with((const uint64_t[][2]){{1, 1}, {2, 2}, {3, 1}}, 3, 2, 0), TIDE_E_CORRUPT); /* terms fall */
    assert_int_equal(create_with((const uint64_t[][2]){{1, 1}, {2, 3}}, 2, 2, 0), TIDE_E_CORRUPT);         /* newer than the ballot */
    assert_int_equal(create_with((const uint64_t[][2]){{7, 1}, {8, 1}}, 2, 2, 5), TIDE_E_CORRUPT);         /* behind the snapshot */
    assert_int_equal(create_with((const uint64_t[][2]){{4, 1}, {5, 1}, {6, 1}}, 3, 2, 5), TIDE_OK);
    struct raft_entry entry = {.index = 1, .term = 1, .type = RAFT_CONFIG, .blob = raft_blob_create("junk", 4)};
    struct raft_options options = {.id = 1, .ballot = {1, 0}, .entries = &entry, .count = 1};
    struct raft *raft = NULL;
    struct err err = {0};
    assert_int_equal(raft_create(&options, &raft, &err), TIDE_E_CORRUPT);
    raft_blob_unref(entry.blob);
}

void bad_options_are_refused(void **state)
{
    (void)state;
    struct raft *raft = NULL;
    struct err err = {0};
    struct raft_options nobody = {.id = 0}, hasty = {.id = 1, .election_ticks = 5, .heartbeat_ticks = 2};
    assert_int_equal(raft_create(&nobody, &raft, &err), TIDE_E_INVALID);
    assert_int_equal(raft_create(&hasty, &raft, &err), TIDE_E_INVALID);
    assert_null(raft);
    raft_free(NULL);
    /* A configuration is not proposed, nor what is too large. */
    struct raft_blob large = {.refs = 1, .bytes = RAFT_ENTRY_BYTES_MAX + 1};
    struct raft_entry config = {.type = RAFT_CONFIG}, huge = {.type = RAFT_COMMAND, .blob = &large};
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, log_of_five, 5);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_PROPOSE, .entries = &config, .count = 1}), TIDE_E_INVALID);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_PROPOSE, .entries = &huge, .count = 1}), TIDE_E_LIMIT);
    solo_end(&s);
}

/* Entries came in; the answer waits for the disk, and for all of it. */
void an_acknowledgement_waits_for_the_disk(void **state)
{
    (void)state;
    static const unsigned more[] = {2, 2};
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, log_of_five, 5);
    assert_int_equal(solo_append(&s, 2, 2, 5, 2, more, 2, 5), TIDE_OK);
    assert_null(solo_says(&s, RAFT_MSG_APPEND_REPLY, 0));
    uint64_t first = s.update.write.number;
    assert_int_equal(s.update.write.count, 2);
    assert_int_equal(solo_append(&s, 2, 2, 7, 2, more, 1, 5), TIDE_OK);
    uint64_t second = s.update.write.number;
    assert_int_equal(second, first + 1);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_PERSISTED, .number = first}), TIDE_OK);
    assert_int_equal(solo_says(&s, RAFT_MSG_APPEND_REPLY, 0)->append_reply.match, 7);
    assert_null(solo_says(&s, RAFT_MSG_APPEND_REPLY, 1));
    assert_int_equal(s.status.stable, 7);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_PERSISTED, .number = second}), TIDE_OK);
    assert_int_equal(solo_says(&s, RAFT_MSG_APPEND_REPLY, 0)->append_reply.match, 8);
    /* Nothing new in it, and all of it durable: at once. */
    assert_int_equal(solo_append(&s, 2, 2, 5, 2, more, 2, 5), TIDE_OK);
    assert_int_equal(solo_says(&s, RAFT_MSG_APPEND_REPLY, 0)->append_reply.match, 7);
    assert_int_equal(s.update.write.number, 0);
    assert_int_equal(s.status.last, 8);
    solo_end(&s);
}

/* FACTS A. "min(leaderCommit, index of last new entry)": what stands behind the last entry shown may be another. */
void a_commit_stops_at_what_was_shown(void **state)
{
    (void)state;
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, log_of_five, 5);
    assert_int_equal(solo_append(&s, 2, 3, 2, 1, NULL, 0, 5), TIDE_OK);
    assert_int_equal(s.status.commit, 2);
    assert_int_equal(s.status.last, 5);
    solo_persist(&s); /* the new term */
    assert_int_equal(solo_says(&s, RAFT_MSG_APPEND_REPLY, 0)->append_reply.match, 2);
    assert_true(solo_says(&s, RAFT_MSG_APPEND_REPLY, 0)->append_reply.accepted);
    /* Entries of another term in their place: they go, and it is written in this order. */
    static const unsigned other[] = {3};
    assert_int_equal(solo_append(&s, 2, 3, 2, 1, other, 1, 2), TIDE_OK);
    assert_int_equal(s.update.write.truncate_from, 3);
    assert_int_equal(s.update.write.count, 1);
    assert_int_equal(s.status.last, 3);
    assert_int_equal(s.status.stable, 2);
    /* An entry that is not there: refused, with the last place that may be the same. */
    assert_int_equal(solo_append(&s, 2, 3, 9, 3, NULL, 0, 2), TIDE_OK);
    assert_false(solo_says(&s, RAFT_MSG_APPEND_REPLY, 0)->append_reply.accepted);
    assert_int_equal(solo_says(&s, RAFT_MSG_APPEND_REPLY, 0)->append_reply.hint_index, 3);
    solo_end(&s);
}

/* A leader that would overwrite what is committed here breaks Raft: the member stops, it does not follow. */
void what_is_committed_is_never_taken_back(void **state)
{
    (void)state;
    static const unsigned other[] = {3, 3, 3};
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, log_of_five, 5);
    assert_int_equal(solo_append(&s, 2, 2, 5, 2, NULL, 0, 4), TIDE_OK);
    assert_int_equal(s.status.commit, 4);
    assert_int_equal(solo_append(&s, 3, 3, 2, 1, other, 3, 4), TIDE_E_CORRUPT);
    assert_int_equal(s.status.last, 5);
    assert_int_equal(solo_append(&s, 3, 3, 4, 3, NULL, 0, 4), TIDE_E_CORRUPT);
    solo_end(&s);
    /* Also where only a snapshot is left of it: the term of its last entry is known. */
    static const unsigned many[RAFT_TRAILING_ENTRIES + 5] = {[0 ... RAFT_TRAILING_ENTRIES + 4] = 2};
    solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, many, RAFT_TRAILING_ENTRIES + 5);
    assert_int_equal(solo_append(&s, 2, 2, RAFT_TRAILING_ENTRIES + 5, 2, NULL, 0, RAFT_TRAILING_ENTRIES + 5), TIDE_OK);
    struct raft_event snapshot = {.kind = RAFT_EV_SNAPSHOT, .number = RAFT_TRAILING_ENTRIES + 5, .total = 1};
    assert_int_equal(solo_step(&s, snapshot), TIDE_OK);
    uint64_t base = s.status.first - 1;
    assert_int_equal(base, 5);
    assert_int_equal(solo_append(&s, 2, 2, base - 1, 2, many, 2, base), TIDE_OK);
    assert_int_equal(solo_append(&s, 3, 3, base - 1, 2, other, 2, base), TIDE_E_CORRUPT);
    solo_end(&s);
}

/* "If a server receives a request with a stale term number, it rejects the request", and the old leader learns the term. */
void a_deposed_leader_says_so(void **state)
{
    (void)state;
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){6, 0}, log_of_five, 5);
    assert_int_equal(solo_append(&s, 2, 5, 5, 2, NULL, 0, 5), TIDE_OK);
    const struct raft_message *reply = solo_says(&s, RAFT_MSG_APPEND_REPLY, 0);
    assert_non_null(reply);
    assert_false(reply->append_reply.accepted);
    assert_int_equal(reply->term, 6);
    assert_int_equal(s.status.commit, 0);
    assert_int_equal(s.status.leader, 0);
    solo_end(&s);
}

void names_of_roles_and_states(void **state)
{
    (void)state;
    assert_string_equal(raft_role_name(RAFT_LEADER), "leader");
    assert_string_equal(raft_role_name(RAFT_ROLES), "unknown");
    assert_string_equal(raft_peer_state_name(RAFT_SEND_SNAPSHOT), "snapshot");
    assert_string_equal(raft_peer_state_name(RAFT_PEER_STATES), "unknown");
}

/* Another leader of the same term breaks election safety: the member that leads stops and says so. */
void two_leaders_of_a_term_cannot_be(void **state)
{
    (void)state;
    struct solo s;
    solo_lead(&s);
    assert_int_equal(solo_append(&s, 3, 2, 1, 1, NULL, 0, 1), TIDE_E_CORRUPT);
    assert_non_null(strstr(s.err.text, "both lead in term 2"));
    struct raft_message m = {.kind = RAFT_MSG_SNAPSHOT, .from = 3, .term = 2};
    assert_int_equal(solo_hears(&s, m), TIDE_E_CORRUPT);
    solo_end(&s);
}

static enum tide_status propose_alone(struct solo *s)
{
    struct raft_entry entry = {.type = RAFT_COMMAND};
    return solo_step(s, (struct raft_event){.kind = RAFT_EV_PROPOSE, .entries = &entry, .count = 1});
}

/* A disk takes writes and finishes none. A leader refuses what is more than the bound, whatever it is; a follower leaves
 * it unanswered, so that the leader's window closes. */
void a_disk_that_stands_is_not_buried(void **state)
{
    (void)state;
    struct raft_member fourth;
    struct solo s;
    solo_lead(&s);
    unsigned taken = 0;
    for (; propose_alone(&s) == TIDE_OK; taken++) { /* the others are quick: nothing but the own disk is behind */
        struct raft_message ack = {.kind = RAFT_MSG_APPEND_REPLY, .from = 2, .term = 2};
        ack.append_reply.accepted = true;
        ack.append_reply.match = s.status.last;
        assert_int_equal(solo_hears(&s, ack), TIDE_OK);
        ack.from = 3;
        assert_int_equal(solo_hears(&s, ack), TIDE_OK);
        assert_int_equal(s.status.commit, s.status.last); /* two of three have it */
    }
    assert_int_equal(taken, RAFT_WRITES_MAX);
    member_of(4, false, &fourth);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_ADD, .member = &fourth}), TIDE_E_UNAVAILABLE);
    solo_end(&s);
    solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, log_of_five, 5);
    static const unsigned one[] = {2};
    for (uint64_t prev = 5; prev < 5 + 2 * RAFT_WRITES_MAX; prev++)
        assert_int_equal(solo_append(&s, 2, 2, prev, 2, one, s.status.last == prev, 5), TIDE_OK);
    assert_int_equal(s.status.last, 5 + RAFT_WRITES_MAX);
    solo_end(&s);
}

/* What was under way may be lost: it is asked for, one append at a time, from the last place both are known to agree. */
void the_unreachable_is_probed(void **state)
{
    (void)state;
    struct solo s;
    solo_lead(&s);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(propose_alone(&s), TIDE_OK);
    assert_int_equal(s.status.peers[0].state, RAFT_REPLICATE);
    assert_int_equal(s.status.peers[0].next, 6);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_UNREACHABLE, .number = 2}), TIDE_OK);
    assert_int_equal(s.status.peers[0].state, RAFT_PROBE);
    assert_int_equal(s.status.peers[0].next, 3);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_UNREACHABLE, .number = 99}), TIDE_OK);
    assert_int_equal(propose_alone(&s), TIDE_OK);
    assert_int_equal(solo_says(&s, RAFT_MSG_APPEND, 0)->append.count, 4);
    assert_int_equal(propose_alone(&s), TIDE_OK);
    assert_null(solo_says(&s, RAFT_MSG_APPEND, 0)); /* one at a time */
    /* A write that is durable is so once. */
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_PERSISTED, .number = 1}), TIDE_OK);
    assert_int_equal(s.update.message_count, 0);
    struct raft_config config;
    assert_int_equal(raft_config_at(s.raft, 1000, &config, &s.err), TIDE_E_NOT_FOUND);
    assert_int_equal(raft_config_at(s.raft, 1, &config, &s.err), TIDE_OK);
    assert_null(raft_entry_at(s.raft, 1000));
    assert_int_equal(raft_term_at(s.raft, 1000), 0);
    solo_end(&s);
}

/* Seven voters are the most; nobody changes the group but the leader, and not while it hands over. */
void an_eighth_voter_is_refused(void **state)
{
    (void)state;
    struct world *w = begin(7, 1);
    struct node *n = leader(w), *spare = &w->nodes[7];
    assert_int_equal(change(w, follower(w, 0), RAFT_EV_ADD, spare->id), TIDE_E_UNAVAILABLE);
    assert_int_equal(change(w, n, RAFT_EV_ADD, spare->id), TIDE_OK);
    until(w, 2000, all_agree);
    pass(w, 100);
    assert_int_equal(change(w, n, RAFT_EV_PROMOTE, spare->id), TIDE_E_LIMIT);
    assert_int_equal(change(w, n, RAFT_EV_TRANSFER, 0), TIDE_OK);
    assert_int_equal(change(w, n, RAFT_EV_REMOVE, spare->id), TIDE_E_UNAVAILABLE);
    n = leader_other_than(w, n);
    until(w, 1000, all_agree);
    end(w);
    w = begin(1, 0); /* and alone there is nobody to hand over to */
    assert_int_equal(change(w, leader(w), RAFT_EV_TRANSFER, 0), TIDE_E_STATE);
    end(w);
}
