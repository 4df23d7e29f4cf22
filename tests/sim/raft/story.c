/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/story.h"

#define STORY_SEED 7

/* ---- a world ---- */

struct world *begin(uint32_t members, uint32_t spares)
{
    struct world *w = world_create(STORY_SEED, getenv("SIM_TRACE") != NULL);
    world_found(w, members, spares);
    return w;
}

void end(struct world *w)
{
    assert_int_equal(w->violations, 0);
    world_free(w);
}

void pass(struct world *w, uint64_t ms)
{
    world_run(w, w->now + MS(ms), NULL);
    assert_int_equal(w->violations, 0);
}

void until(struct world *w, uint64_t ms, bool (*done)(const struct world *w))
{
    bool came = world_run(w, w->now + MS(ms), done);
    assert_int_equal(w->violations, 0);
    assert_true(came);
}

static bool somebody_leads(const struct world *w)
{
    const struct node *n = world_leader((struct world *)w);
    return n != NULL && n->status.ready;
}

struct node *leader(struct world *w)
{
    until(w, 3000, somebody_leads);
    return world_leader(w);
}

struct node *leader_other_than(struct world *w, const struct node *old)
{
    for (unsigned tries = 0; tries < 300; tries++) {
        struct node *n = world_leader(w);
        if (n != NULL && n != old && n->status.ready)
            return n;
        pass(w, 10);
    }
    fail_msg("nobody else leads");
    return NULL;
}

struct node *make_leader(struct world *w, uint32_t slot)
{
    for (unsigned tries = 0; tries < 10; tries++) {
        struct node *n = leader(w);
        if (n->slot == slot)
            return n;
        (void)change(w, n, RAFT_EV_TRANSFER, w->nodes[slot].id);
        pass(w, 200);
    }
    fail_msg("slot %u does not get to lead", slot);
    return NULL;
}

struct node *follower(struct world *w, unsigned nth)
{
    for (uint32_t i = 0; i < w->node_count; i++)
        if (w->nodes[i].up && w->nodes[i].status.role != RAFT_LEADER && nth-- == 0)
            return &w->nodes[i];
    fail_msg("there is no such follower");
    return NULL;
}

bool all_agree(const struct world *w)
{
    return world_converged(w);
}

void cut_link(struct world *w, uint32_t from, uint32_t to)
{
    w->cut[from][to] = true;
    w->cut_until[from][to] = UINT64_MAX;
}

void cut_off(struct world *w, const struct node *n)
{
    for (uint32_t i = 0; i < w->node_count; i++) {
        cut_link(w, i, n->slot);
        cut_link(w, n->slot, i);
    }
}

void join(struct world *w)
{
    memset(w->cut, 0, sizeof w->cut);
}

void restart(struct world *w, struct node *n)
{
    node_crash(w, n);
    node_boot(w, n);
}

uint64_t propose(struct world *w, struct node *n, uint32_t bytes)
{
    struct command command = {.client = CLIENTS_MAX, .value = ++w->next_value, .filler = bytes};
    struct raft_entry entry = {.type = RAFT_COMMAND, .blob = command_blob(&command)};
    struct raft_event event = {.kind = RAFT_EV_PROPOSE, .entries = &entry, .count = 1};
    struct err err = {0};
    enum tide_status status = node_step(w, n, &event, &err);
    raft_blob_unref(entry.blob);
    return status == TIDE_OK ? entry.index : 0;
}

void propose_many(struct world *w, struct node *n, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_true(propose(w, n, 20) > 0);
        pass(w, 3);
    }
}

enum tide_status change(struct world *w, struct node *n, unsigned kind, uint64_t id)
{
    struct raft_member member;
    struct err err = {0};
    struct raft_event event = {.kind = kind, .number = id, .member = &member};
    member_of(id, false, &member);
    w->promoting = id;
    enum tide_status status = node_step(w, n, &event, &err);
    say(w, "member %" PRIu64 " is asked for change %u of %" PRIu64 ": %s", n->id, kind, id, status == TIDE_OK ? "taken" : err.text);
    assert_true(status == TIDE_OK || err.text[0] != '\0'); /* a refusal says why */
    return status;
}

enum tide_status ask_read(struct world *w, struct node *n)
{
    struct client *c = &w->clients[0];
    struct err err = {0};
    w->client_count = 1;
    *c = (struct client){.state = CLIENT_WAITS, .reading = true, .attempt = 1000, .node = n->slot, .node_epoch = n->epoch,
                         .read = ++w->next_read, .floor = w->truth_count};
    struct raft_event event = {.kind = RAFT_EV_READ, .number = c->read};
    w->quiet = true;
    return node_step(w, n, &event, &err);
}

bool read_answered(const struct world *w)
{
    return w->clients[0].state == CLIENT_IDLE;
}

void take_image(struct world *w, struct node *n)
{
    image_take(w, n);
    pass(w, 150);
}

/* ---- disks before the first start ---- */

static void group_entry(uint32_t members, struct raft_entry *ret_entry)
{
    struct raft_config config = {0};
    struct err err = {0};
    for (uint32_t i = 0; i < members; i++) {
        struct raft_member member;
        member_of(i + 1, true, &member);
        assert_int_equal(raft_config_add(&config, &member, &err), TIDE_OK);
    }
    raft_first_entry(&config, ret_entry);
}

/* Entry `index` of term `term` is the same everywhere, as it would be if one leader had made it. */
static void story_entry(uint64_t index, uint64_t term, uint32_t members, struct raft_entry *ret_entry)
{
    struct command command = {.client = CLIENTS_MAX, .value = index * 1000 + term};
    if (index == 1)
        group_entry(members, ret_entry);
    else
        *ret_entry = (struct raft_entry){.index = index, .term = term, .type = RAFT_COMMAND, .blob = command_blob(&command)};
}

struct world *begin_with(uint32_t members)
{
    struct world *w = world_create(STORY_SEED, getenv("SIM_TRACE") != NULL);
    w->founding = w->node_count = members;
    for (uint32_t i = 0; i < members; i++) {
        w->nodes[i].id = ++w->next_id;
        w->nodes[i].was_member = true;
    }
    return w;
}

void given(struct world *w, uint32_t slot, uint64_t term, const unsigned *terms, size_t count)
{
    struct disk *d = &w->nodes[slot].disk;
    d->ballot.term = term;
    for (size_t i = 0; i < count; i++) {
        struct raft_entry entry;
        story_entry(i + 1, terms[i], w->node_count, &entry);
        disk_put(w, d, &entry);
        check_given(w, &entry, i > 0 ? terms[i - 1] : 0);
        raft_blob_unref(entry.blob);
    }
}

void boot_all(struct world *w)
{
    for (uint32_t i = 0; i < w->node_count; i++)
        node_boot(w, &w->nodes[i]);
}

/* ---- one core alone ---- */

void solo_begin(struct solo *s, uint64_t id, uint32_t members, struct raft_ballot ballot, const unsigned *terms, size_t count)
{
    struct raft_entry entries[32];
    assert_true(count <= 32);
    *s = (struct solo){0};
    for (size_t i = 0; i < count; i++)
        story_entry(i + 1, terms[i], members, &entries[i]);
    struct raft_options options = {.id = id, .seed = STORY_SEED, .election_ticks = 10, .heartbeat_ticks = 2, .ballot = ballot,
                                   .entries = entries, .count = count};
    assert_int_equal(raft_create(&options, &s->raft, &s->err), TIDE_OK);
    for (size_t i = 0; i < count; i++)
        raft_blob_unref(entries[i].blob);
    raft_get_status(s->raft, &s->status);
}

void solo_end(struct solo *s)
{
    raft_update_release(&s->update);
    raft_free(s->raft);
}

enum tide_status solo_step(struct solo *s, struct raft_event event)
{
    raft_update_release(&s->update);
    enum tide_status status = raft_step(s->raft, &event, &s->update, &s->err);
    raft_get_status(s->raft, &s->status);
    assert_int_equal(raft_check(s->raft, &s->err), TIDE_OK);
    return status;
}

enum tide_status solo_hears(struct solo *s, struct raft_message message)
{
    message.to = s->status.id;
    return solo_step(s, (struct raft_event){.kind = RAFT_EV_MESSAGE, .message = &message});
}

enum tide_status solo_append(struct solo *s, uint64_t from, uint64_t term, uint64_t prev, uint64_t prev_term, const unsigned *terms,
                             size_t count, uint64_t commit)
{
    struct raft_message message = {.kind = RAFT_MSG_APPEND, .from = from, .term = term};
    message.append.prev_index = prev;
    message.append.prev_term = prev_term;
    message.append.commit = commit;
    message.append.count = count;
    message.append.entries = mem_array(count + 1, sizeof message.append.entries[0]);
    for (size_t i = 0; i < count; i++)
        story_entry(prev + 1 + i, terms[i], 3, &message.append.entries[i]);
    return solo_hears(s, message);
}

void solo_ticks(struct solo *s, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(solo_step(s, (struct raft_event){.kind = RAFT_EV_TICK}), TIDE_OK);
}

void solo_persist(struct solo *s)
{
    uint64_t number = s->update.write.number;
    assert_true(number > 0);
    assert_int_equal(solo_step(s, (struct raft_event){.kind = RAFT_EV_PERSISTED, .number = number}), TIDE_OK);
}

const struct raft_message *solo_says(const struct solo *s, unsigned kind, unsigned nth)
{
    for (size_t i = 0; i < s->update.message_count; i++)
        if (s->update.messages[i].kind == kind && nth-- == 0)
            return &s->update.messages[i];
    return NULL;
}

void solo_lead(struct solo *s)
{
    static const unsigned one[] = {1};
    solo_begin(s, 1, 3, (struct raft_ballot){1, 0}, one, 1);
    while (s->status.role != RAFT_PRE_CANDIDATE)
        solo_ticks(s, 1);
    struct raft_message grant = {.kind = RAFT_MSG_VOTE_REPLY, .from = 2, .term = 2};
    grant.vote_reply.granted = grant.vote_reply.pre = true;
    assert_int_equal(solo_hears(s, grant), TIDE_OK);
    solo_persist(s);
    grant.vote_reply.pre = false;
    assert_int_equal(solo_hears(s, grant), TIDE_OK);
    assert_int_equal(s->status.role, RAFT_LEADER);
    solo_persist(s);
    struct raft_message ack = {.kind = RAFT_MSG_APPEND_REPLY, .from = 2, .term = 2};
    ack.append_reply.accepted = true;
    ack.append_reply.prev_index = 1;
    ack.append_reply.match = 2;
    assert_int_equal(solo_hears(s, ack), TIDE_OK);
    assert_true(s->status.ready);
}

/* ---- all of them ---- */

/* sim_raft_stories [NAME]: all, or one. SIM_TRACE in the environment shows every event. */
int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
#define STORY_TEST(name) cmocka_unit_test(name),
    const struct CMUnitTest stories[] = {STORIES(STORY_TEST)};
    return cmocka_run_group_tests_name("raft stories", stories, NULL, NULL);
}
