/* SPDX-License-Identifier: Apache-2.0 */
/* One real member among two that the test plays, message by message: what no real group would do at the wanted moment. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/net/net.h"
#include "coordinator/raft/wire.h"
#include "tests/unit/group_world.h"

#define PLAYED 2u /* the id the test plays */

struct play {
    struct group g;
    struct net *net;
    bool acknowledges; /* appends with entries */
    uint64_t term;     /* of the real member */
    uint64_t last;     /* newest entry it has sent */
    struct raft_wire wire;
};

static void say(struct play *p, struct raft_message *message)
{
    message->from = PLAYED;
    message->to = 1;
    raft_message_encode(message, &p->wire);
    struct net_part parts[RAFT_APPEND_ENTRIES_MAX];
    for (size_t i = 0; i < p->wire.blob_count; i++)
        parts[i] = (struct net_part){.data = p->wire.blobs[i]->data, .bytes = p->wire.blobs[i]->bytes};
    (void)net_send(p->net, 1, p->wire.head, p->wire.head_bytes, parts, p->wire.blob_count);
}

static void on_heard(void *context, uint64_t from, const void *data, size_t bytes)
{
    struct play *p = context;
    struct raft_message heard, reply = {0};
    struct err err = {0};
    (void)from;
    assert_int_equal(raft_message_decode(data, bytes, &heard, &err), TIDE_OK);
    p->term = heard.term;
    reply.term = heard.term;
    if (heard.kind == RAFT_MSG_VOTE) {
        reply.kind = RAFT_MSG_VOTE_REPLY;
        reply.vote_reply.granted = true;
        reply.vote_reply.pre = heard.vote.pre;
        say(p, &reply);
    } else if (heard.kind == RAFT_MSG_APPEND) {
        uint64_t match = heard.append.prev_index + heard.append.count;
        if (match > p->last)
            p->last = match;
        reply.kind = RAFT_MSG_APPEND_REPLY;
        reply.append_reply.accepted = true;
        reply.append_reply.prev_index = heard.append.prev_index;
        reply.append_reply.match = p->acknowledges ? match : 0;
        reply.append_reply.round = heard.append.round;
        say(p, &reply);
    }
    raft_message_release(&heard);
}

static void on_up(void *context, uint64_t peer)
{
    (void)context, (void)peer;
}

static void on_down(void *context, uint64_t peer, const char *why)
{
    (void)context, (void)peer, (void)why;
}

static void play_start(struct play *p)
{
    struct err err = {0};
    *p = (struct play){.acknowledges = true};
    group_init(&p->g, 3);
    struct net_options options = {.loop = &p->g.loop,
                                  .self = PLAYED,
                                  .cluster = GROUP_CLUSTER,
                                  .listen = p->g.nodes[1].peer,
                                  .context = p,
                                  .on_message = on_heard,
                                  .on_up = on_up,
                                  .on_down = on_down};
    assert_int_equal(net_open(&options, &p->net, &err), TIDE_OK);
    assert_int_equal(net_peer(p->net, 1, p->g.nodes[0].peer, &err), TIDE_OK);
    node_start(&p->g, &p->g.nodes[0]);
}

static void play_end(struct play *p)
{
    net_close(p->net);
    raft_wire_release(&p->wire);
    group_end(&p->g);
}

/* Member 1 leads and has proposed one command that nobody acknowledges. A single message of a later leader ends its office,
 * puts another entry in the place of the command, and says that it is committed. The proposer must hear that the command was
 * not done: to call it done would be a lie. */
static void another_entry_in_its_place(void **state)
{
    (void)state;
    struct play p;
    play_start(&p);
    struct mate *n = &p.g.nodes[0];
    assert_true(UNTIL(&p.g, n->turn.ready));
    propose_many(&p.g, n, 1);
    uint64_t committed = n->index, commands = n->commands;
    p.acknowledges = false;
    assert_int_equal(propose(n, "never committed"), TIDE_OK);
    assert_true(UNTIL(&p.g, p.last == committed + 1));
    struct raft_entry other = {
        .index = committed + 1, .term = p.term + 1, .type = RAFT_COMMAND, .blob = raft_blob_create("the other", 9)};
    struct raft_message append = {.kind = RAFT_MSG_APPEND, .term = p.term + 1};
    append.append.prev_index = committed;
    append.append.prev_term = n->term;
    append.append.commit = committed + 1;
    append.append.entries = &other;
    append.append.count = 1;
    say(&p, &append);
    assert_true(UNTIL(&p.g, n->index == committed + 1));
    assert_true(UNTIL(&p.g, n->refused + n->unknown + n->own == 2));
    assert_int_equal(n->own, 1);
    assert_int_equal(n->refused, 1);
    assert_non_null(strstr(n->last.text, "it was not done"));
    assert_int_equal(n->commands, commands + 1);
    raft_blob_unref(other.blob);
    play_end(&p);
}

static bool has_link(const struct mate *n, uint64_t id)
{
    struct member_status status;
    member_get_status(n->member, &status);
    for (size_t i = 0; i < status.link_count; i++)
        if (status.links[i].id == id)
            return true;
    return false;
}

/* A member that lags hears that member 3 was removed, and that it was added again, before either is committed. What is then
 * committed first must not make it forget whom the group has: nobody would remind it. */
static void removed_and_added_again(void **state)
{
    (void)state;
    struct play p;
    struct err err = {0};
    play_start(&p);
    struct mate *n = &p.g.nodes[0];
    assert_true(UNTIL(&p.g, n->turn.ready));
    struct raft_config without = p.g.founders;
    raft_config_remove(&without, 3);
    struct raft_config again = without;
    assert_int_equal(raft_config_add(&again, raft_config_member(&p.g.founders, 3), &err), TIDE_OK);
    uint64_t committed = n->index, term = p.term + 1;
    struct raft_entry entries[] = {
        {.index = committed + 1, .term = term, .type = RAFT_CONFIG, .blob = raft_config_encode(&without)},
        {.index = committed + 2, .term = term, .type = RAFT_CONFIG, .blob = raft_config_encode(&again)}};
    struct raft_message append = {.kind = RAFT_MSG_APPEND, .term = term};
    append.append.prev_index = committed;
    append.append.prev_term = n->term;
    append.append.commit = committed;
    append.append.entries = entries;
    append.append.count = 2;
    say(&p, &append);
    struct raft_message beat = {.kind = RAFT_MSG_APPEND, .term = term};
    beat.append.prev_index = beat.append.commit = committed + 2;
    beat.append.prev_term = term;
    say(&p, &beat);
    assert_true(UNTIL(&p.g, n->index == committed + 2));
    uint64_t later = clock_mono_ns() + 300 * NS_PER_MS; /* the status is a little behind */
    assert_true(UNTIL(&p.g, clock_mono_ns() > later));
    assert_true(has_link(n, 3));
    raft_blob_unref(entries[0].blob);
    raft_blob_unref(entries[1].blob);
    play_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(removed_and_added_again),
        cmocka_unit_test(another_entry_in_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
