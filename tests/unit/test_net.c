/* SPDX-License-Identifier: Apache-2.0 */

/* Members that do as they should: they meet, talk in order, lose each other and meet again. */

#include "tests/unit/net_world.h"

#define MANY 20000u
#define LARGE (4u << 20)

static struct ca *ca;

static void two(struct member m[2], bool tls)
{
    for (unsigned i = 0; i < 2; i++) {
        char tag[16];
        snprintf(tag, sizeof tag, "two%u", i + 1);
        struct pki pki = tls ? member_pki(ca, CLUSTER, i + 1, tag) : (struct pki){0};
        member_open(&m[i], i + 1, NULL, tls ? &pki : NULL);
    }
}

static void meet(struct member m[2], bool tls)
{
    two(m, tls);
    member_knows(&m[0], &m[1]);
    member_knows(&m[1], &m[0]);
    assert_true(UNTIL(m[0].ups > 0 && m[1].ups > 0));
}

static void part(struct member m[2])
{
    member_close(&m[0]);
    member_close(&m[1]);
}

static void send_text(struct member *m, uint64_t to, const char *text)
{
    assert_int_equal(net_send(m->net, to, text, strlen(text), NULL, 0), TIDE_OK);
}

/* Each hears what the other's version knows; one of a version that says nothing knows nothing. */
static void test_levels_are_told(void **state)
{
    struct member m[2] = {0};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct net_options options = options_of(&m[i], NULL);
        options.level = i == 0 ? 7 : 0;
        member_open(&m[i], i + 1, &options, NULL);
    }
    member_knows(&m[0], &m[1]);
    member_knows(&m[1], &m[0]);
    assert_true(UNTIL(m[0].ups > 0 && m[1].ups > 0));
    assert_int_equal(status_of(&m[0], 2).level, 0);
    assert_int_equal(status_of(&m[1], 1).level, 7);
    part(m);
}

static void talk(bool tls)
{
    struct member m[2] = {0};
    meet(m, tls);
    send_text(&m[0], 2, "ping");
    assert_true(UNTIL(m[1].messages == 1));
    assert_string_equal(m[1].last, "ping");
    assert_int_equal(m[1].last_from, 1);
    send_text(&m[1], 1, "pong");
    assert_true(UNTIL(m[0].messages == 1));
    assert_string_equal(m[0].last, "pong");
    struct net_status status = status_of(&m[0], 2);
    assert_true(status.connected);
    assert_int_equal(status.messages_sent, 1);
    assert_int_equal(status.messages_received, 1);
    assert_int_equal(status.queued_bytes, 0);
    assert_true(status.bytes_sent > 0 && status.bytes_received > 0);
    assert_string_equal(status.error, "");
    part(m);
}

static void test_talk_plain(void **state)
{
    (void)state;
    talk(false);
}

static void test_talk_tls(void **state)
{
    (void)state;
    talk(true);
}

/* ---- order and size ---- */

static unsigned released;

static void release(void *owner)
{
    released++;
    mem_free(owner);
}

static struct net_part large_part(size_t bytes)
{
    char *data = mem_alloc(bytes);
    memset(data, 'x', bytes);
    return (struct net_part){.data = data, .bytes = bytes, .owner = data, .release = release};
}

/* Small ones, and now and then one with large parts that are not copied. */
static void send_numbered(struct member *m, uint64_t to, uint64_t number)
{
    char head[1 + sizeof number] = "#";
    memcpy(head + 1, &number, sizeof number);
    if (number % 1000 != 7) {
        assert_int_equal(net_send(m->net, to, head, sizeof head, NULL, 0), TIDE_OK);
        return;
    }
    struct net_part parts[3] = {large_part(100), large_part(300000), {.data = "tail", .bytes = 4}};
    assert_int_equal(net_send(m->net, to, head, sizeof head, parts, 3), TIDE_OK);
}

static void order(bool tls)
{
    struct member m[2] = {0};
    meet(m, tls);
    released = 0;
    for (uint64_t i = 0; i < MANY; i++) {
        send_numbered(&m[0], 2, i);
        if (i % 997 == 0)
            uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_true(UNTIL(m[1].messages == MANY));
    assert_false(m[1].disorder);
    assert_int_equal(m[1].bytes, MANY * 9u + MANY / 1000u * (100u + 300000u + 4u));
    assert_int_equal(released, MANY / 1000u * 2);
    part(m);
}

static void test_order_plain(void **state)
{
    (void)state;
    order(false);
}

static void test_order_tls(void **state)
{
    (void)state;
    order(true);
}

static void sizes(bool tls)
{
    struct member m[2] = {0};
    static const size_t list[] = {0, 1, 65535, LARGE, NET_MESSAGE_MAX};
    uint64_t bytes = 0;
    meet(m, tls);
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct net_part part = large_part(list[i]);
        assert_int_equal(net_send(m[1].net, 1, "", 0, &part, 1), TIDE_OK);
        bytes += list[i];
        assert_true(UNTIL(m[0].messages == i + 1));
        assert_int_equal(m[0].bytes, bytes);
    }
    struct net_part part_ = large_part(NET_MESSAGE_MAX);
    released = 0;
    assert_int_equal(net_send(m[1].net, 1, "x", 1, &part_, 1), TIDE_E_LIMIT);
    assert_int_equal(released, 1);
    for_ms(50);
    assert_int_equal(m[0].downs, 0);
    part(m);
}

static void test_sizes_plain(void **state)
{
    (void)state;
    sizes(false);
}

static void test_sizes_tls(void **state)
{
    (void)state;
    sizes(true);
}

/* ---- losing and finding ---- */

static void test_reconnect(void **state)
{
    struct member m[2] = {0};
    struct err err = {0};
    char address[ADDRESS_MAX + 1];
    (void)state;
    meet(m, true);
    text_copy(address, sizeof address, net_address(m[1].net));
    member_close(&m[1]);
    assert_true(UNTIL(m[0].downs == 1));
    assert_false(status_of(&m[0], 2).connected);
    struct net_part part_ = large_part(50000);
    released = 0;
    assert_int_equal(net_send(m[0].net, 2, "lost", 4, &part_, 1), TIDE_E_UNAVAILABLE);
    assert_int_equal(released, 1);
    assert_true(UNTIL(says(&m[0], 2, "cannot connect")));
    /* The same member again, at the same address, and it knows nobody: it is dialled. */
    struct pki pki = member_pki(ca, CLUSTER, 2, "again");
    struct net_options options = options_of(&m[1], &pki);
    options.listen = address;
    member_open(&m[1], 2, &options, NULL);
    assert_true(UNTIL(m[0].ups == 2));
    assert_true(UNTIL(m[1].ups == 2));
    send_text(&m[1], 1, "I am back"); /* on the connection that came in */
    assert_true(UNTIL(m[0].messages == 1));
    assert_string_equal(status_of(&m[0], 2).error, "");
    /* It has moved. */
    member_close(&m[1]);
    assert_true(UNTIL(m[0].downs == 2));
    member_open(&m[1], 2, NULL, &pki);
    member_knows(&m[0], &m[1]);
    assert_true(UNTIL(m[0].ups == 3));
    assert_int_equal(net_peer(m[0].net, 2, net_address(m[1].net), &err), TIDE_OK);
    part(m);
}

/* Nobody speaks for longer than the silence that is allowed: both stay. */
static void test_idle(void **state)
{
    struct member m[2] = {0};
    (void)state;
    meet(m, true);
    for_ms(NET_SILENCE_MS + 4 * NET_PING_MS);
    assert_int_equal(m[0].downs + m[1].downs, 0);
    assert_true(status_of(&m[0], 2).contact_ms < NET_SILENCE_MS);
    assert_true(status_of(&m[0], 2).connected_ms >= NET_SILENCE_MS);
    part(m);
}

static void test_forget(void **state)
{
    struct member m[2] = {0};
    struct net_status list[NET_PEERS_MAX];
    (void)state;
    meet(m, true);
    net_forget(m[0].net, 2);
    assert_int_equal(net_send(m[0].net, 2, "x", 1, NULL, 0), TIDE_E_UNAVAILABLE);
    assert_int_equal(net_status(m[0].net, list, NET_PEERS_MAX), 0);
    assert_true(UNTIL(m[1].downs == 1));
    assert_true(UNTIL(says(&m[1], 1, "member 2 was removed from the cluster")));
    assert_int_equal(m[0].downs, 0); /* who forgets need not be told */
    unsigned ups = m[0].ups;
    member_knows(&m[0], &m[1]);
    assert_true(UNTIL(m[0].ups == ups + 1));
    part(m);
}

/* ---- epochs ---- */

#define LATER (UINT64_C(1) << 32 | 7)
#define RIVAL (UINT64_C(1) << 32 | 8)

/* One of the others was recovered: neither speaks with the other, whoever calls, and the one that was left behind hears it.
 */
static void left_behind(unsigned caller)
{
    struct member m[2] = {0};
    two(m, true);
    net_epoch(m[0].net, 0);
    net_epoch(m[1].net, LATER);
    member_knows(&m[caller], &m[1 - caller]);
    assert_true(UNTIL(says(&m[caller], 2 - caller, "member 1 was left behind when the group was recovered")));
    assert_int_equal(m[0].ups + m[1].ups, 0);
    assert_true(caller == 1 || UNTIL(m[0].later == LATER));
    assert_true(m[1].later == 0);
    part(m);
}

static void test_left_behind_calls(void **state)
{
    (void)state;
    left_behind(0);
}

static void test_left_behind_is_called(void **state)
{
    (void)state;
    left_behind(1);
}

/* Whom nobody named is not believed either. */
static void test_later_stranger(void **state)
{
    struct member m[2] = {0};
    (void)state;
    two(m, true);
    net_epoch(m[0].net, 0);
    net_epoch(m[1].net, LATER);
    member_knows(&m[1], &m[0]);
    assert_true(UNTIL(says(&m[1], 1, "was left behind")));
    for_ms(100);
    assert_true(m[0].later == 0);
    part(m);
}

static void test_two_recovered(void **state)
{
    struct member m[2] = {0};
    (void)state;
    two(m, true);
    net_epoch(m[0].net, LATER);
    net_epoch(m[1].net, RIVAL);
    member_knows(&m[0], &m[1]);
    assert_true(UNTIL(says(&m[0], 2, "were both recovered, each without the other")));
    assert_int_equal(m[0].ups + m[1].ups, 0);
    assert_true(m[0].later == 0 && m[1].later == 0);
    part(m);
}

/* One that has no data yet fits everywhere; once it has some, only there. */
static void test_epoch_learned(void **state)
{
    struct member m[2] = {0};
    (void)state;
    two(m, true);
    net_epoch(m[0].net, LATER);
    member_knows(&m[0], &m[1]);
    assert_true(UNTIL(m[0].ups == 1 && m[1].ups == 1));
    net_epoch(m[1].net, LATER);
    send_text(&m[0], 2, "still");
    assert_true(UNTIL(m[1].messages == 1));
    assert_int_equal(m[0].downs + m[1].downs, 0);
    net_epoch(m[1].net, RIVAL);
    assert_true(UNTIL(m[0].downs == 1 && m[1].downs == 1));
    assert_non_null(strstr(m[1].why, "were both recovered"));
    part(m);
}

/* ---- strangers ---- */

static bool nobody(void *context, uint64_t stranger)
{
    const struct member *m = context;
    (void)stranger;
    return m->close_on_message; /* whatever it says: may be changed while they run */
}

static void test_stranger(void **state)
{
    struct member m[2] = {0};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        char tag[16];
        snprintf(tag, sizeof tag, "admit%u", i + 1);
        struct pki pki = member_pki(ca, CLUSTER, i + 1, tag);
        struct net_options options = options_of(&m[i], &pki);
        options.admits = i == 0 ? nobody : NULL;
        member_open(&m[i], i + 1, &options, NULL);
    }
    member_knows(&m[1], &m[0]);
    assert_true(UNTIL(says(&m[1], 1, "member 2 is not in the group, as far as member 1 knows")));
    assert_int_equal(m[0].ups + m[1].ups, 0);
    m[0].close_on_message = true;
    assert_true(UNTIL(m[0].ups == 1 && m[1].ups == 1));
    m[0].close_on_message = false;
    net_admit_again(m[0].net);
    assert_true(UNTIL(m[0].downs == 1 && m[1].downs == 1));
    assert_true(UNTIL(says(&m[1], 1, "member 2 is not in the group")));
    /* Who is named is no stranger. */
    member_knows(&m[0], &m[1]);
    assert_true(UNTIL(m[0].ups == 2 && m[1].ups == 2));
    net_admit_again(m[0].net);
    for_ms(100);
    assert_int_equal(m[0].downs, 1);
    part(m);
}

/* Five, each knowing all: everybody reaches everybody. */
static void test_five(void **state)
{
    struct member m[5] = {0};
    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        char tag[16];
        snprintf(tag, sizeof tag, "five%u", i);
        struct pki pki = member_pki(ca, CLUSTER, i + 1, tag);
        member_open(&m[i], i + 1, NULL, &pki);
    }
    for (unsigned i = 0; i < 5; i++)
        for (unsigned j = 0; j < 5; j++)
            if (i != j)
                member_knows(&m[i], &m[j]);
    assert_true(UNTIL(m[0].ups + m[1].ups + m[2].ups + m[3].ups + m[4].ups >= 20));
    for (unsigned i = 0; i < 5; i++)
        for (unsigned j = 0; j < 5; j++)
            if (i != j)
                send_text(&m[i], j + 1, "all");
    for (unsigned i = 0; i < 5; i++)
        assert_true(UNTIL(m[i].messages == 4));
    assert_true(m[0].downs + m[1].downs + m[2].downs + m[3].downs + m[4].downs == 0);
    for (unsigned i = 0; i < 5; i++)
        member_close(&m[i]);
}

/* A name is looked up without stopping the loop; what comes of it too late is thrown away. */
static void test_names(void **state)
{
    struct member m[2] = {0};
    struct err err = {0};
    char address[ADDRESS_MAX + 1], no_name[ADDRESS_MAX + 1];
    (void)state;
    two(m, true);
    snprintf(address, sizeof address, "localhost:%s", strrchr(net_address(m[1].net), ':') + 1);
    assert_int_equal(net_peer(m[0].net, 2, address, &err), TIDE_OK);
    assert_true(UNTIL(m[0].ups == 1 && m[1].ups == 1));
    snprintf(no_name, sizeof no_name, "%070d.invalid:7071", 0); /* too long a word for anybody to be asked */
    assert_int_equal(net_peer(m[0].net, 3, no_name, &err), TIDE_OK);
    assert_true(UNTIL(status_of(&m[0], 3).error[0] != '\0'));
    assert_false(status_of(&m[0], 3).connected);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(net_peer(m[0].net, 4, address, &err), TIDE_OK);
        uv_run(&loop, UV_RUN_NOWAIT);
        net_forget(m[0].net, 4);
    }
    assert_int_equal(net_peer(m[0].net, 5, address, &err), TIDE_OK);
    uv_run(&loop, UV_RUN_NOWAIT);
    part(m);
}

/* Its address changes while it is connected at the old one, and what cannot be dialled is named. */
static void test_new_address(void **state)
{
    struct member m[2] = {0};
    struct err err = {0};
    (void)state;
    two(m, true);
    member_knows(&m[0], &m[1]);
    assert_true(UNTIL(m[0].ups == 1 && m[1].ups == 1));
    assert_int_equal(net_peer(m[0].net, 2, "127.255.255.255:7071", &err), TIDE_OK);
    assert_true(UNTIL(m[0].downs == 1 && m[1].downs == 1));
    assert_string_equal(m[0].why, "its address is now 127.255.255.255:7071");
    assert_true(UNTIL(says(&m[0], 2, "cannot connect: Network is unreachable")));
    member_knows(&m[0], &m[1]);
    assert_true(UNTIL(m[0].ups == 2 && m[1].ups == 2));
    part(m);
}

/* Both have dialled: of two connections one may end, and the other carries on. */
static void test_second_link(void **state)
{
    struct member m[2] = {0};
    struct err err = {0};
    (void)state;
    meet(m, true);
    for_ms(30);
    assert_int_equal(net_peer(m[0].net, 2, "127.0.0.1:1", &err), TIDE_OK); /* ends the one that 1 has dialled, if any */
    assert_true(UNTIL(m[0].ups == m[0].downs + 1 && m[1].ups == m[1].downs + 1));
    uint64_t before = m[1].messages;
    send_text(&m[0], 2, "still here");
    assert_true(UNTIL(m[1].messages == before + 1));
    part(m);
}

static void test_close_in_callback(void **state)
{
    struct member m[2] = {0};
    (void)state;
    meet(m, true);
    m[1].close_on_message = true;
    send_text(&m[0], 2, "one");
    send_text(&m[0], 2, "two");
    assert_true(UNTIL(m[0].downs == 1));
    assert_int_equal(m[1].messages, 1);
    member_close(&m[0]);
    net_close(NULL);
}

static int begin(void **state)
{
    ca = make_ca(CLUSTER);
    return dir_make(state);
}

static int end(void **state)
{
    ca_free(ca);
    return dir_remove(state);
}

#define STORY(name) cmocka_unit_test_setup_teardown(test_##name, world_begin, world_end)

int main(void)
{
    log_init("test_net", getenv("NET_TRACE") ? LOG_DEBUG : LOG_ERROR);
    const struct CMUnitTest tests[] = {
        STORY(talk_plain),
        STORY(levels_are_told),
        STORY(talk_tls),
        STORY(order_plain),
        STORY(order_tls),
        STORY(sizes_plain),
        STORY(sizes_tls),
        STORY(reconnect),
        STORY(idle),
        STORY(forget),
        STORY(five),
        STORY(names),
        STORY(new_address),
        STORY(second_link),
        STORY(close_in_callback),
        STORY(left_behind_calls),
        STORY(left_behind_is_called),
        STORY(later_stranger),
        STORY(two_recovered),
        STORY(epoch_learned),
        STORY(stranger),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
