/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots on their way: in chunks, resumed where they stopped. */
#include "tests/sim/raft/story.h"

/* Three members with a snapshot of some 2 kB at the two that are up, and a third that needs it and is down. */
static struct world *begin_behind(struct node **ret_leader, struct node **ret_behind)
{
    struct world *w = begin(3, 0);
    w->image_max = 4000;
    struct node *n = make_leader(w, 0), *behind = &w->nodes[2];
    node_crash(w, behind);
    propose_many(w, n, 4 * RAFT_TRAILING_ENTRIES);
    while (mix(n->machine.chain, 1) % w->image_max < 2000) /* it decides how large the image is */
        propose_many(w, n, 1);
    pass(w, 50);
    take_image(w, n);
    take_image(w, follower(w, 0));
    assert_true(n->disk.images[0].total > 2000);
    assert_int_equal(n->disk.images[0].index, follower(w, 0)->disk.images[0].index);
    *ret_leader = n;
    *ret_behind = behind;
    return w;
}

void a_snapshot_brings_a_member_back(void **state)
{
    (void)state;
    struct node *n, *behind;
    struct world *w = begin_behind(&n, &behind);
    node_boot(w, behind);
    until(w, 2000, all_agree);
    assert_int_equal(w->installs, 1);
    assert_int_equal(behind->disk.images[0].index, n->disk.images[0].index);
    assert_true(behind->status.first > 10);
    restart(w, behind);
    assert_int_equal(behind->machine.applied, behind->disk.images[0].index);
    until(w, 2000, all_agree);
    assert_int_equal(w->installs, 1);
    end(w);
}

static unsigned chunks;
static uint64_t largest_offset, smallest_after;
static bool lose_third_chunk(struct world *w, const struct node *from, const struct raft_message *m)
{
    (void)w, (void)from;
    if (m->kind == RAFT_MSG_SNAPSHOT)
        largest_offset = m->snapshot.offset > largest_offset ? m->snapshot.offset : largest_offset;
    return m->kind != RAFT_MSG_SNAPSHOT || ++chunks != 3;
}

void a_lost_chunk_is_sent_again(void **state)
{
    (void)state;
    struct node *n, *behind;
    struct world *w = begin_behind(&n, &behind);
    chunks = 0;
    largest_offset = 0;
    w->on_send = lose_third_chunk;
    node_boot(w, behind);
    until(w, 3000, all_agree);
    assert_int_equal(w->installs, 1);
    uint64_t needed = (n->disk.images[0].total + RAFT_CHUNK_BYTES - 1) / RAFT_CHUNK_BYTES;
    assert_in_range(chunks, needed + 1, needed + 2); /* only the lost one twice */
    end(w);
}

static bool half_received(const struct world *w)
{
    return w->nodes[2].disk.have > 4 * RAFT_CHUNK_BYTES;
}

static bool note_offsets(struct world *w, const struct node *from, const struct raft_message *m)
{
    (void)w, (void)from;
    if (m->kind == RAFT_MSG_SNAPSHOT && m->snapshot.offset > 0 && m->snapshot.offset < smallest_after)
        smallest_after = m->snapshot.offset;
    return true;
}

/* The receiver dies in the middle and what it had is still there: it is asked where to go on. */
void a_transfer_goes_on_after_a_restart(void **state)
{
    (void)state;
    struct node *n, *behind;
    struct world *w = begin_behind(&n, &behind);
    node_boot(w, behind);
    until(w, 2000, half_received);
    uint64_t have = behind->disk.have;
    node_crash(w, behind);
    behind->disk.have = have; /* what a crash leaves of it is chance: here, all */
    w->on_send = note_offsets;
    pass(w, 20); /* what was under way arrives at nobody */
    node_boot(w, behind);
    smallest_after = UINT64_MAX;
    until(w, 4000, all_agree);
    assert_int_equal(w->installs, 1);
    assert_true(smallest_after + RAFT_CHUNK_BYTES >= have); /* the one that was under way, once more */
    end(w);
}

/* The sender dies in the middle; the next leader's image is the same, and only the rest is sent. */
void a_transfer_goes_on_under_another_leader(void **state)
{
    (void)state;
    struct node *n, *behind;
    struct world *w = begin_behind(&n, &behind);
    node_boot(w, behind);
    until(w, 2000, half_received);
    uint64_t have = behind->disk.have;
    node_crash(w, n);
    struct node *next = leader_other_than(w, n);
    assert_ptr_not_equal(next, behind); /* its log is too short */
    smallest_after = UINT64_MAX;
    w->on_send = note_offsets;
    node_boot(w, n);
    until(w, 4000, all_agree);
    assert_int_equal(w->installs, 1);
    assert_true(smallest_after >= have);
    end(w);
    /* Its image is another: from the beginning. */
    w = begin_behind(&n, &behind);
    node_boot(w, behind);
    until(w, 2000, half_received);
    node_crash(w, n);
    next = leader_other_than(w, n);
    propose_many(w, next, 1);
    (void)change(w, next, RAFT_EV_TRANSFER, behind->id);
    w->salted = true;
    node_boot(w, n);
    pass(w, 100);
    take_image(w, next);
    until(w, 4000, all_agree);
    end(w);
}

/* The image does not verify: it is thrown away and sent again. */
void a_spoiled_image_is_sent_again(void **state)
{
    (void)state;
    struct node *n, *behind;
    struct world *w = begin_behind(&n, &behind);
    w->lies.bad_image = 1; /* it is known that this happens */
    node_boot(w, behind);
    until(w, 2000, half_received);
    behind->disk.partial.bytes[7] ^= 1;
    until(w, 6000, all_agree);
    assert_int_equal(w->installs, 1);
    end(w);
}

/* A member has a long tail of its own that was never committed; the snapshot ends within it: the tail goes, all of it. */
void a_snapshot_replaces_another_history(void **state)
{
    (void)state;
    struct world *w = begin(3, 0);
    struct node *old = make_leader(w, 2);
    pass(w, 50);
    cut_off(w, old);
    for (unsigned i = 0; i < 40; i++)
        assert_true(propose(w, old, 5) > 0);
    pass(w, 20);
    uint64_t tail = disk_last(&old->disk);
    node_crash(w, old);
    struct node *n = leader_other_than(w, old);
    propose_many(w, n, 30);
    take_image(w, n);
    take_image(w, follower(w, 0));
    assert_true(n->disk.images[0].index < tail && n->status.first > 10);
    join(w);
    node_boot(w, old);
    until(w, 3000, all_agree);
    assert_int_equal(w->installs, 1);
    restart(w, old);
    until(w, 3000, all_agree);
    end(w);
}

static struct raft_message chunk_message(uint64_t from, uint64_t term, uint64_t index, uint64_t last_term)
{
    struct raft_config config = {0};
    struct raft_message m = {.kind = RAFT_MSG_SNAPSHOT, .from = from, .term = term};
    for (uint64_t id = 1; id <= 3; id++) {
        struct raft_member member;
        struct err err = {0};
        member_of(id, true, &member);
        assert_int_equal(raft_config_add(&config, &member, &err), TIDE_OK);
    }
    m.snapshot.index = index;
    m.snapshot.last_term = last_term;
    m.snapshot.total = 10;
    m.snapshot.digest = 5;
    m.snapshot.bytes = 10;
    m.snapshot.config = raft_config_encode(&config);
    m.snapshot.data = raft_blob_create("0123456789", 10);
    return m;
}

/* An image may be durable before the ballot of the term it came in. Then a crash: the term is that of the image. */
void a_snapshot_outlives_its_ballot(void **state)
{
    (void)state;
    struct raft_options options = {.id = 1, .ballot = {3, 2}, .snapshot = {.index = 20, .term = 5, .total = 10, .digest = 5}};
    struct raft_status status;
    struct raft *raft = NULL;
    struct err err = {0};
    struct raft_message m = chunk_message(2, 5, 20, 5);
    assert_int_equal(raft_config_decode(m.snapshot.config->data, m.snapshot.config->bytes, &options.snapshot.config, &err), TIDE_OK);
    raft_message_release(&m);
    assert_int_equal(raft_create(&options, &raft, &err), TIDE_OK);
    raft_get_status(raft, &status);
    assert_int_equal(status.term, 5);
    assert_int_equal(status.vote, 0);
    assert_int_equal(raft_check(raft, &err), TIDE_OK);
    /* It goes to the disk with the first write, so that no entry there is ever of a later term than the ballot. */
    struct raft_update update = {0};
    struct raft_message append = {.kind = RAFT_MSG_APPEND, .from = 2, .to = 1, .term = 5};
    append.append.prev_index = 20;
    append.append.prev_term = 5;
    append.append.count = 1;
    append.append.entries = mem_array(1, sizeof append.append.entries[0]);
    append.append.entries[0] = (struct raft_entry){.index = 21, .term = 5, .type = RAFT_NOOP};
    struct raft_event event = {.kind = RAFT_EV_MESSAGE, .message = &append};
    assert_int_equal(raft_step(raft, &event, &update, &err), TIDE_OK);
    assert_int_equal(update.write.count, 1);
    assert_true(update.write.has_ballot);
    assert_int_equal(update.write.ballot.term, 5);
    raft_update_release(&update);
    raft_free(raft);
}

/* "Done" lets the leader count what the snapshot covers: it must not be said while the own entries could still be lost. */
void done_means_durable(void **state)
{
    (void)state;
    static const unsigned one[] = {1}, more[] = {2, 2, 2};
    struct solo s;
    solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, one, 1);
    assert_int_equal(solo_append(&s, 2, 2, 1, 1, more, 3, 4), TIDE_OK);
    uint64_t number = s.update.write.number;
    assert_int_equal(s.status.commit, 4);
    assert_int_equal(solo_hears(&s, chunk_message(2, 2, 4, 2)), TIDE_OK);
    assert_null(solo_says(&s, RAFT_MSG_SNAPSHOT_REPLY, 0));
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_PERSISTED, .number = number}), TIDE_OK);
    assert_true(solo_says(&s, RAFT_MSG_SNAPSHOT_REPLY, 0)->snapshot_reply.done);
    solo_end(&s);
    /* Of one that is received, not before it is installed. */
    solo_begin(&s, 1, 3, (struct raft_ballot){2, 0}, one, 1);
    assert_int_equal(solo_hears(&s, chunk_message(2, 2, 9, 2)), TIDE_OK);
    assert_int_equal(s.update.chunk.snapshot.index, 9);
    assert_null(solo_says(&s, RAFT_MSG_SNAPSHOT_REPLY, 0));
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_INSTALLED, .number = 9}), TIDE_OK);
    assert_int_equal(s.update.restore, 9);
    assert_int_equal(s.update.write.reset_to, 10);
    assert_int_equal(s.status.commit, 9);
    assert_true(solo_says(&s, RAFT_MSG_SNAPSHOT_REPLY, 0)->snapshot_reply.done);
    /* What the disk tells of one that nobody receives is nothing. */
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_CHUNK_STORED, .number = 9, .offset = 3}), TIDE_OK);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_INSTALLED, .number = 9}), TIDE_OK);
    assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_INSTALL_FAILED, .number = 9}), TIDE_OK);
    assert_int_equal(s.update.message_count, 0);
    solo_end(&s);
}

static struct raft_message append_reply(uint64_t from, bool accepted, uint64_t prev, uint64_t match)
{
    struct raft_message m = {.kind = RAFT_MSG_APPEND_REPLY, .from = from, .term = 2};
    m.append_reply.accepted = accepted;
    m.append_reply.prev_index = prev;
    m.append_reply.match = match;
    return m;
}

/* The image that member 3 is sent within a while, in which member 2 answers; 0: none. */
static uint64_t offered(struct solo *s)
{
    for (unsigned i = 0; i < 2 * RAFT_ELECTION_TICKS_DEFAULT; i++) {
        solo_ticks(s, 1);
        const struct raft_message *m = solo_says(s, RAFT_MSG_SNAPSHOT, 0);
        if (m != NULL)
            return m->snapshot.index;
        if (i % 8 == 0)
            assert_int_equal(solo_hears(s, append_reply(2, true, s->status.last, s->status.last)), TIDE_OK);
    }
    return 0;
}

static enum tide_status image_event(struct solo *s, unsigned kind, uint64_t index)
{
    return solo_step(s, (struct raft_event){.kind = kind, .number = index, .total = 10, .digest = index});
}

/* An image that its member cannot read any more: the one before it is offered where the log goes on from there, else none, until
 * there is another, of the same entry or of a later one. */
void a_lost_image_is_not_offered(void **state)
{
    (void)state;
    struct solo s;
    solo_lead(&s);
    for (unsigned i = 0; i < 3 * RAFT_TRAILING_ENTRIES; i++) {
        struct raft_blob *blob = raft_blob_create("x", 1);
        struct raft_entry entry = {.type = RAFT_COMMAND, .blob = blob};
        assert_int_equal(solo_step(&s, (struct raft_event){.kind = RAFT_EV_PROPOSE, .entries = &entry, .count = 1}), TIDE_OK);
        raft_blob_unref(blob);
        solo_persist(&s);
        assert_int_equal(solo_hears(&s, append_reply(2, true, s.status.last - 1, s.status.last)), TIDE_OK);
        assert_int_equal(solo_hears(&s, append_reply(3, false, 1, 0)), TIDE_OK); /* it has nothing of all that */
    }
    uint64_t newest = s.status.commit, older = newest - 1;
    assert_int_equal(image_event(&s, RAFT_EV_SNAPSHOT, older), TIDE_OK);
    assert_int_equal(image_event(&s, RAFT_EV_SNAPSHOT, newest), TIDE_OK);
    assert_int_equal(solo_hears(&s, append_reply(3, false, 1, 0)), TIDE_OK);
    assert_int_equal(offered(&s), newest);
    assert_int_equal(image_event(&s, RAFT_EV_SNAPSHOT_LOST, newest), TIDE_OK);
    assert_int_equal(offered(&s), older);
    assert_int_equal(image_event(&s, RAFT_EV_SNAPSHOT_LOST, older), TIDE_OK);
    assert_int_equal(offered(&s), 0);
    assert_int_equal(image_event(&s, RAFT_EV_SNAPSHOT, newest), TIDE_OK);
    assert_int_equal(offered(&s), newest);
    /* What is none of its own changes nothing. */
    assert_int_equal(image_event(&s, RAFT_EV_SNAPSHOT_LOST, 1), TIDE_OK);
    assert_int_equal(image_event(&s, RAFT_EV_SNAPSHOT_LOST, 0), TIDE_OK);
    assert_int_equal(offered(&s), newest);
    assert_int_equal(s.status.role, RAFT_LEADER);
    assert_int_equal(raft_check(s.raft, &s.err), TIDE_OK);
    solo_end(&s);
}
