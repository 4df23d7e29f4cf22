/* SPDX-License-Identifier: Apache-2.0 */

/* Those who say what they should not, or say nothing: refused, named, logged, at no cost. */

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>

#include "ckpt/base/rng.h"
#include "coordinator/net/frame.h"
#include "tests/unit/net_stranger.h"

#define GARBAGE_BYTES 64u
#define SILENT_MANY 300u
#define CALLS_AT_A_TIME 8u /* fewer than a member takes in a turn: once its backlog is full, callers wait in vain */

/* ---- a stranger: a bare socket ---- */

static void say(int fd, const void *data, size_t bytes)
{
    assert_int_equal(send(fd, data, bytes, MSG_NOSIGNAL), bytes);
}

static void say_frame(int fd, enum frame_type type, const void *data, size_t bytes)
{
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head_write(head, type, data, bytes, NULL, 0);
    say(fd, head, sizeof head);
    if (bytes > 0)
        say(fd, data, bytes);
}

static void say_hello_of(int fd, uint64_t self, uint64_t wanted, const char *cluster, uint16_t protocol, uint32_t tag)
{
    uint8_t bytes[FRAME_HELLO_BYTES];
    struct frame_hello hello = {.oldest = protocol, .newest = protocol, .tag = tag, .self = self, .wanted = wanted};
    text_copy(hello.cluster, sizeof hello.cluster, cluster);
    frame_hello_write(bytes, &hello);
    say_frame(fd, FRAME_HELLO, bytes, sizeof bytes);
}

static void say_hello(int fd, uint64_t self, uint64_t wanted, const char *cluster, uint16_t protocol)
{
    say_hello_of(fd, self, wanted, cluster, protocol, 0);
}

/* Take what has come; true when the other side has ended. */
static bool ended(int fd, char *heard, size_t room)
{
    size_t have = strlen(heard);
    for (;;) {
        char bytes[4096];
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n == 0)
            return true;
        if (n < 0)
            return errno != EAGAIN && errno != EWOULDBLOCK;
        for (ssize_t i = 0; i < n && have + 1 < room; i++)
            if (bytes[i] != '\0')
                heard[have++] = bytes[i];
        heard[have] = '\0';
    }
}

/* The connection ends, and if there are words they were heard before. */
static void refused(int fd, const char *words)
{
    char heard[4096] = "";
    assert_true(UNTIL(ended(fd, heard, sizeof heard)));
    if (words != NULL && strstr(heard, words) == NULL)
        fail_msg("heard \"%s\", not \"%s\"", heard, words);
    close(fd);
}

/* ---- hellos that do not fit ---- */

static void test_bad_hellos(void **state)
{
    struct member m = {0};
    uint8_t odd[FRAME_HELLO_BYTES] = {1};
    (void)state;
    one(&m, false);
    int fd = call(&m);
    say_hello(fd, 2, 1, STRANGE, 1);
    refused(fd, "it is of cluster " STRANGE ", and this is member 1 of cluster " CLUSTER);
    fd = call(&m);
    say_hello(fd, 2, 3, CLUSTER, 1);
    refused(fd, "it looks for member 3, and this is member 1");
    fd = call(&m);
    say_hello(fd, 1, 1, CLUSTER, 1);
    refused(fd, "it calls itself member 1, as this one does");
    fd = call(&m);
    say_hello(fd, 0, 1, CLUSTER, 1);
    refused(fd, "0 cannot be the id of a member");
    fd = call(&m);
    say_hello(fd, 2, 1, CLUSTER, NET_PROTOCOL_NEWEST + 1);
    refused(fd, "it speaks protocols 2 to 2, and this member 1 to 1");
    fd = call(&m);
    say_frame(fd, FRAME_HELLO, odd, sizeof odd);
    refused(fd, "a hello without a cluster uid");
    fd = call(&m);
    say_frame(fd, FRAME_HELLO, odd, 7);
    refused(fd, "a hello of only 7 bytes");
    fd = call(&m);
    say_frame(fd, FRAME_MESSAGE, "early", 5);
    refused(fd, "frame of type 4 where none may come");
    assert_int_equal(logged("refused a connection from 127.0.0.1: "), 8);
    assert_int_equal(m.ups + m.messages, 0);
    member_close(&m);
}

/* An identity that was copied to two hosts, or is used again after its data was lost: the second would vote again. */
static void test_other_data(void **state)
{
    struct member m = {0};
    struct err err = {0};
    (void)state;
    one(&m, false);
    int first = call(&m);
    say_hello_of(first, 2, 1, CLUSTER, 1, 7);
    assert_true(UNTIL(m.ups == 1));
    int fd = call(&m);
    say_hello_of(fd, 2, 1, CLUSTER, 1, 8);
    refused(fd, "member 2 was here with another data directory");
    assert_int_equal(m.downs, 0);
    close(first);
    assert_true(UNTIL(m.downs == 1));
    fd = call(&m);
    say_hello_of(fd, 2, 1, CLUSTER, 1, 8);
    refused(fd, "start this member, 1, again");
    fd = call(&m);
    say_hello_of(fd, 2, 1, CLUSTER, 1, 7);
    assert_true(UNTIL(m.ups == 2));
    close(fd);
    assert_true(UNTIL(m.downs == 2));
    /* Removed and added again: what it was before does not count. */
    net_forget(m.net, 2);
    assert_int_equal(net_peer(m.net, 2, "127.0.0.1:1", &err), TIDE_OK);
    fd = call(&m);
    say_hello_of(fd, 2, 1, CLUSTER, 1, 8);
    assert_true(UNTIL(m.ups == 3));
    close(fd);
    member_close(&m);
}

/* ---- bytes that are nothing ---- */

static void garbage(bool tls)
{
    struct member m = {0};
    struct rng rng = {.state = 7};
    one(&m, tls);
    for (unsigned i = 0; i < 64; i++) {
        uint8_t bytes[GARBAGE_BYTES];
        for (unsigned j = 0; j < sizeof bytes; j++)
            bytes[j] = (uint8_t)rng_next(&rng);
        bytes[0] = i % 4 == 1 ? 0x16 : i % 4 == 2 ? FRAME_MAGIC_0 : bytes[0];
        int fd = call(&m);
        say(fd, bytes, sizeof bytes);
        refused(fd, NULL);
    }
    assert_int_equal(m.ups + m.messages, 0);
    assert_in_range(logged("refused a connection from 127.0.0.1: "), 1, 20); /* the log is not filled */
    member_close(&m);
}

static void test_garbage_plain(void **state)
{
    (void)state;
    garbage(false);
}

static void test_garbage_tls(void **state)
{
    (void)state;
    garbage(true);
}

/* Lengths that would need much memory are refused by the head alone. */
static void test_long_frames(void **state)
{
    struct member m = {0};
    uint8_t head[FRAME_HEAD_BYTES];
    uint32_t bytes = FRAME_EARLY_MAX + 1;
    (void)state;
    one(&m, false);
    frame_head_write(head, FRAME_HELLO, NULL, 0, NULL, 0);
    memcpy(head + 4, &bytes, sizeof bytes);
    int fd = call(&m);
    say(fd, head, sizeof head);
    refused(fd, "frame of 257 bytes; the most is 256");
    fd = call(&m);
    say_hello(fd, 2, 1, CLUSTER, 1);
    assert_true(UNTIL(m.ups == 1));
    frame_head_write(head, FRAME_MESSAGE, NULL, 0, NULL, 0);
    bytes = NET_MESSAGE_MAX + 1;
    memcpy(head + 4, &bytes, sizeof bytes);
    say(fd, head, sizeof head);
    refused(fd, "frame of 8388609 bytes; the most is 8388608");
    assert_true(UNTIL(m.downs == 1));
    assert_string_equal(m.why, "frame of 8388609 bytes; the most is 8388608");
    member_close(&m);
}

static void member_2_breaks_rules(void (*how)(int fd), const char *words)
{
    struct member m = {0};
    one(&m, false);
    int fd = call(&m);
    say_hello(fd, 2, 1, CLUSTER, 1);
    say_frame(fd, FRAME_MESSAGE, "good", 4);
    assert_true(UNTIL(m.messages == 1));
    how(fd);
    refused(fd, words);
    assert_true(UNTIL(m.downs == 1));
    assert_string_equal(m.why, words);
    assert_int_equal(m.messages, 1);
    member_close(&m);
}

static void with_flipped_bit(int fd)
{
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head_write(head, FRAME_MESSAGE, "goof", 4, NULL, 0);
    say(fd, head, sizeof head);
    say(fd, "good", 4);
}

static void with_second_hello(int fd)
{
    say_hello(fd, 2, 1, CLUSTER, 1);
}

static void with_unknown_version(int fd)
{
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head_write(head, FRAME_MESSAGE, NULL, 0, NULL, 0);
    head[2] = FRAME_VERSION + 1;
    say(fd, head, sizeof head);
}

static void test_broken_rules(void **state)
{
    (void)state;
    member_2_breaks_rules(with_flipped_bit, "the checksum of a frame is wrong");
    member_2_breaks_rules(with_second_hello, "a second hello");
    member_2_breaks_rules(with_unknown_version, "frame of version 2; this member speaks 1");
}

/* What a peer says in a refusal is shown to people: nothing in it may be more than text. */
static void test_refusal_is_text(void **state)
{
    struct member m = {0};
    (void)state;
    one(&m, false);
    int fd = call(&m);
    say_hello(fd, 2, 1, CLUSTER, 1);
    assert_true(UNTIL(m.ups == 1));
    say_frame(fd, FRAME_REFUSE, "go\033[2J\nerror", 12);
    refused(fd, NULL);
    assert_true(UNTIL(m.downs == 1));
    assert_string_equal(m.why, "it refused us: go?[2J?error");
    member_close(&m);
}

/* ---- silence ---- */

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 2048; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Many who say nothing: a few are kept, each for two seconds, and a member gets through at once. */
static void silence(bool tls)
{
    struct member m[2] = {0};
    static int fds[SILENT_MANY];
    one(&m[0], tls);
    struct pki pki = tls ? member_pki(ca, CLUSTER, 2, "silence") : (struct pki){0};
    member_open(&m[1], 2, NULL, tls ? &pki : NULL);
    unsigned before = open_descriptors();
    for (unsigned i = 0; i < SILENT_MANY; i++) {
        fds[i] = call(&m[0]);
        if (i % 3 == 1)
            say(fds[i], tls ? "\x16\x03" : "TM", 2); /* begun, and no more */
        if (i % CALLS_AT_A_TIME == 0)
            for_ms(1);
    }
    uint64_t begin_ns = clock_mono_ns();
    member_knows(&m[1], &m[0]);
    assert_true(UNTIL(m[0].ups == 1 && m[1].ups == 1));
    assert_true(clock_mono_ns() - begin_ns < NET_HANDSHAKE_MS * NS_PER_MS); /* before the silent ones are ended */
    assert_true(open_descriptors() <= before + SILENT_MANY + NET_PENDING_MAX + 4);
    assert_true(logged("more than 64 connections that do not say who they are") >= 1);
    for_ms(NET_HANDSHAKE_MS + 600);
    for (unsigned i = 0; i < SILENT_MANY; i++)
        refused(fds[i], NULL);
    assert_true(UNTIL(open_descriptors() <= before + 4));
    assert_true(logged("it did not say who it is within 2000 ms") >= 1);
    assert_int_equal(m[0].downs + m[1].downs, 0);
    member_close(&m[0]);
    member_close(&m[1]);
}

static void test_silence_plain(void **state)
{
    (void)state;
    silence(false);
}

static void test_silence_tls(void **state)
{
    (void)state;
    silence(true);
}

/* Dialled, and nobody answers although somebody listens. */
static void test_no_answer(void **state)
{
    struct member m = {0};
    struct err err = {0};
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t bytes = sizeof at;
    char address[64];
    (void)state;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
    snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(at.sin_port));
    one(&m, true);
    assert_int_equal(net_peer(m.net, 2, address, &err), TIDE_OK);
    assert_true(UNTIL(says(&m, 2, "no answer within 2000 ms")));
    assert_int_equal(m.ups, 0);
    close(fd);
    member_close(&m);
}

/* It was there, and stopped: found out by its silence. */
static void test_hung_peer(void **state)
{
    struct member m = {0};
    (void)state;
    one(&m, false);
    int fd = call(&m);
    say_hello(fd, 2, 1, CLUSTER, 1);
    assert_true(UNTIL(m.ups == 1));
    uint64_t begin_ns = clock_mono_ns();
    assert_true(UNTIL(m.downs == 1));
    assert_true(clock_mono_ns() - begin_ns > NET_SILENCE_MS * NS_PER_MS * 9 / 10);
    assert_string_equal(m.why, "it was silent for 2000 ms");
    refused(fd, NULL);
    member_close(&m);
}

/* It takes nothing: what waits for it has a bound, then it is cut off. */
static void test_slow_peer(void **state)
{
    struct member m = {0};
    enum tide_status status = TIDE_OK;
    size_t sent = 0, most = 0;
    char *data = mem_alloc(1u << 20);
    (void)state;
    one(&m, false);
    int fd = call(&m);
    say_hello(fd, 2, 1, CLUSTER, 1);
    assert_true(UNTIL(m.ups == 1));
    while (status == TIDE_OK && sent < 4 * NET_QUEUE_BYTES_MAX) {
        status = net_send(m.net, 2, data, 1u << 20, NULL, 0);
        sent += 1u << 20;
        size_t queued = status_of(&m, 2).queued_bytes;
        most = queued > most ? queued : most;
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(status, TIDE_E_LIMIT);
    assert_true(most <= NET_QUEUE_BYTES_MAX + FRAME_HEAD_BYTES && most > NET_QUEUE_BYTES_MAX / 2);
    assert_true(UNTIL(m.downs == 1));
    assert_non_null(strstr(m.why, "it does not take what it is sent"));
    assert_int_equal(status_of(&m, 2).queued_bytes, 0);
    assert_int_equal(status_of(&m, 2).cut_off, 1);
    assert_int_equal(net_send(m.net, 2, data, 10, NULL, 0), TIDE_E_UNAVAILABLE);
    close(fd);
    fd = call(&m); /* it may come again */
    say_hello(fd, 2, 1, CLUSTER, 1);
    assert_true(UNTIL(m.ups == 2));
    close(fd);
    mem_free(data);
    member_close(&m);
}

/* The same id again: the newer connection counts, as the older may be of a process that died without a word. */
static void test_twice(void **state)
{
    struct member m = {0};
    (void)state;
    one(&m, false);
    int old = call(&m);
    say_hello(old, 2, 1, CLUSTER, 1);
    assert_true(UNTIL(m.ups == 1));
    int new = call(&m);
    say_hello(new, 2, 1, CLUSTER, 1);
    assert_true(UNTIL(m.downs == 1 && m.ups == 2));
    assert_string_equal(m.why, "it has connected anew");
    refused(old, NULL);
    say_frame(new, FRAME_MESSAGE, "here", 4);
    assert_true(UNTIL(m.messages == 1));
    close(new);
    member_close(&m);
}

/* A plain member that answers at another's address. */
static void test_wrong_answer(void **state)
{
    struct member m[2] = {0};
    struct err err = {0};
    (void)state;
    one(&m[0], false);
    member_open(&m[1], 2, NULL, NULL);
    assert_int_equal(net_peer(m[1].net, 3, net_address(m[0].net), &err), TIDE_OK);
    assert_true(UNTIL(says(&m[1], 3, "it refused us: it looks for member 3, and this is member 1")));
    member_close(&m[0]);
    member_close(&m[1]);
}

/* Cut by a reset: what came before it still counts. */
static void test_reset(void **state)
{
    struct member m = {0};
    struct linger at_once = {.l_onoff = 1};
    (void)state;
    one(&m, false);
    int fd = call(&m);
    say_hello(fd, 2, 1, CLUSTER, 1);
    assert_true(UNTIL(m.ups == 1));
    say_frame(fd, FRAME_MESSAGE, "last", 4);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
    assert_true(UNTIL(m.downs == 1));
    if (strstr(m.why, "the connection broke") == NULL)
        fail_msg("\"%s\"", m.why);
    assert_int_equal(m.messages, 1);
    fd = call(&m); /* and one that goes without a word is no news */
    close(fd);
    for_ms(30);
    assert_int_equal(logged("without a word"), 0);
    member_close(&m);
}

/* Ids that nobody named, each with a connection, have a bound; those that left make room. */
static void test_many_ids(void **state)
{
    struct member m = {0};
    int fds[NET_PEERS_MAX];
    (void)state;
    one(&m, false);
    for (unsigned i = 0; i < NET_PEERS_MAX; i++) {
        fds[i] = call(&m);
        say_hello(fds[i], 2 + i, 1, CLUSTER, 1);
        assert_true(UNTIL(m.ups == i + 1));
    }
    net_forget(m.net, 500); /* nothing to forget, and no room to remember that */
    int fd = call(&m);
    say_hello(fd, 100, 1, CLUSTER, 1);
    refused(fd, "this member knows 32 others already");
    close(fds[4]);
    assert_true(UNTIL(m.downs == 1));
    fd = call(&m);
    say_hello(fd, 100, 1, CLUSTER, 1);
    assert_true(UNTIL(m.ups == NET_PEERS_MAX + 1));
    close(fd);
    for (unsigned i = 0; i < NET_PEERS_MAX; i++)
        if (i != 4)
            close(fds[i]);
    member_close(&m);
}

/* Without descriptors it waits, and goes on when there are some. */
static void test_no_descriptors(void **state)
{
    struct member m = {0};
    struct rlimit before, low;
    (void)state;
    one(&m, false);
    int fd = call(&m);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = 3; /* what is open stays open */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    say_hello(fd, 2, 1, CLUSTER, 1);
    for_ms(200);
    unsigned ups = m.ups, said = logged("cannot take connections of other members for a while: Too many open files");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(ups, 0);
    assert_int_equal(said, 1);
    assert_true(UNTIL(m.ups == 1));
    close(fd);
    member_close(&m);
}

/* ---- options ---- */

static void cannot_open(const struct net_options *options, enum tide_status status, const char *words)
{
    struct net *net = NULL;
    struct err err = {0};
    assert_int_equal(net_open(options, &net, &err), status);
    assert_null(net);
    if (strstr(err.text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void test_options(void **state)
{
    struct member m = {.id = 1};
    struct err err = {0};
    (void)state;
    struct pki pki = member_pki(ca, CLUSTER, 1, "options"), other = member_pki(ca, CLUSTER, 2, "options-2");
    struct net_options good = options_of(&m, &pki), bad = good;
    bad.self = 0;
    cannot_open(&bad, TIDE_E_INVALID, "0 cannot be the id");
    bad = good;
    bad.cluster = "beef";
    cannot_open(&bad, TIDE_E_INVALID, "\"beef\" is not the uid of a cluster");
    bad = good;
    bad.listen = "nowhere";
    cannot_open(&bad, TIDE_E_INVALID, "\"nowhere\" is not host:port");
    bad = good;
    bad.key = NULL;
    cannot_open(&bad, TIDE_E_INVALID, "TLS needs all three");
    bad = good;
    bad.key = other.key;
    cannot_open(&bad, TIDE_E_INVALID, "cannot use the key");
    bad = good;
    bad.cert = "missing.pem";
    cannot_open(&bad, TIDE_E_INVALID, "cannot use the certificate missing.pem");
    bad.ca = "missing-ca.pem";
    cannot_open(&bad, TIDE_E_INVALID, "cannot use the CA's certificate missing-ca.pem");
    bad = good;
    bad.self = 2;
    cannot_open(&bad, TIDE_E_INVALID, "is the certificate of tidemark://" CLUSTER "/member/1, and this is member 2");
    bad = options_of(&m, NULL);
    bad.listen = "0.0.0.0:0";
    cannot_open(&bad, TIDE_E_DENIED, "without TLS members meet on loopback only, and 0.0.0.0:0 is elsewhere");
    one(&m, false);
    bad.listen = net_address(m.net);
    cannot_open(&bad, TIDE_E_CONFLICT, "the address is in use");
    assert_int_equal(net_peer(m.net, 2, "10.0.0.1:7071", &err), TIDE_E_DENIED);
    assert_int_equal(net_peer(m.net, 2, "[2001:db8::1]:7071", &err), TIDE_E_DENIED);
    assert_int_equal(net_peer(m.net, 2, "10.0.0.1", &err), TIDE_E_INVALID);
    assert_int_equal(net_peer(m.net, 2, "127.0.0.1:0", &err), TIDE_E_INVALID);
    assert_int_equal(net_peer(m.net, 1, "127.0.0.1:7071", &err), TIDE_E_INVALID);
    assert_int_equal(net_peer(m.net, 0, "127.0.0.1:7071", &err), TIDE_E_INVALID);
    for (uint64_t id = 2; id < 2 + NET_PEERS_MAX; id++)
        assert_int_equal(net_peer(m.net, id, "127.0.0.1:1", &err), TIDE_OK);
    assert_int_equal(net_peer(m.net, 99, "127.0.0.1:1", &err), TIDE_E_LIMIT);
    net_forget(m.net, 7);
    assert_int_equal(net_peer(m.net, 99, "127.0.0.1:1", &err), TIDE_OK); /* in its place */
    assert_int_equal(net_send(m.net, 1, "me", 2, NULL, 0), TIDE_E_UNAVAILABLE);
    member_close(&m);
}

#define STORY(name) cmocka_unit_test_setup_teardown(test_##name, story_begin, story_end)

int main(void)
{
    log_init("test_net", LOG_WARN);
    const struct CMUnitTest tests[] = {
        STORY(bad_hellos),      STORY(garbage_plain), STORY(garbage_tls),  STORY(long_frames), STORY(broken_rules),
        STORY(refusal_is_text), STORY(silence_plain), STORY(silence_tls),  STORY(no_answer),   STORY(hung_peer),
        STORY(slow_peer),       STORY(twice),         STORY(wrong_answer), STORY(reset),       STORY(many_ids),
        STORY(no_descriptors),  STORY(options),       STORY(other_data),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
