/* SPDX-License-Identifier: Apache-2.0 */

/* Members whose certificates do not fit, and those who have none: refused, named, logged on both sides. */

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "coordinator/net/inner.h"
#include "tests/unit/net_stranger.h"

/* ---- certificates ---- */

/* Member 1 is as it should be; member 2 comes with `pki` and dials it. What 1 logs, and what 2 says of 1. */
static void comes_with(const struct pki *pki, const char *cluster, const char *log, const char *error)
{
    struct member m[2] = {0};
    one(&m[0], true);
    struct net_options options = options_of(&m[1], pki);
    options.cluster = cluster;
    member_open(&m[1], 2, &options, NULL);
    member_knows(&m[1], &m[0]);
    if (!UNTIL(says(&m[1], 1, error)))
        fail_msg("it says \"%s\", not \"%s\"", status_of(&m[1], 1).error, error);
    assert_true(UNTIL(logged(log) > 0));
    assert_int_equal(m[0].ups + m[1].ups, 0);
    member_close(&m[0]);
    member_close(&m[1]);
}

static void test_wrong_ca(void **state)
{
    (void)state;
    /* Member 2 finds the fault first: it does not know who issued the certificate of member 1. */
    struct pki pki = member_pki(other_ca, CLUSTER, 2, "wrong-ca");
    comes_with(&pki, CLUSTER, "refused a connection from 127.0.0.1: TLS: it refused us", "its certificate is not good");
}

/* The CA it trusts is the right one, but its own certificate comes from another. */
static void test_wrong_issuer(void **state)
{
    (void)state;
    struct pki pki = member_pki(other_ca, CLUSTER, 2, "wrong-issuer");
    char *pem = ca_cert_pem(ca);
    write_file(pki.ca_file, "wrong-issuer-ca.pem", pem);
    mem_free(pem);
    comes_with(&pki, CLUSTER, "refused a connection from 127.0.0.1: TLS: its certificate is not good", "it refused us");
}

static void test_expired(void **state)
{
    (void)state;
    struct cert_name name = {.kind = CERT_MEMBER, .member = 2, .role = ROLE_ADMIN, .cluster = CLUSTER};
    struct pki pki = make_pki(ca, &name, 0, "expired");
    comes_with(&pki, CLUSTER, "its certificate is not good: certificate has expired", "certificate expired");
    assert_true(logged("has expired: no other member will talk to this one") > 0); /* it knows itself, too */
}

/* One CA, two clusters: the certificate of member 1 is not for the cluster that member 2 means. */
static void test_wrong_cluster_tls(void **state)
{
    (void)state;
    struct pki pki = member_pki(ca, STRANGE, 2, "wrong-cluster");
    comes_with(&pki, STRANGE, "it refused us: its certificate is for tidemark://" CLUSTER "/member/1",
               "its certificate is for tidemark://" CLUSTER "/member/1, not for member 1 of cluster " STRANGE);
}

/* At the address where 3 should be, 1 is. */
static void test_wrong_member(void **state)
{
    struct member m[2] = {0};
    struct err err = {0};
    (void)state;
    struct pki pki = member_pki(ca, CLUSTER, 2, "wrong-member");
    one(&m[0], true);
    member_open(&m[1], 2, NULL, &pki);
    assert_int_equal(net_peer(m[1].net, 3, net_address(m[0].net), &err), TIDE_OK);
    assert_true(UNTIL(says(&m[1], 3, "its certificate is for tidemark://" CLUSTER "/member/1, not for member 3")));
    assert_int_equal(m[0].ups + m[1].ups, 0);
    member_close(&m[0]);
    member_close(&m[1]);
}

/* A stranger with TLS: whoever holds a certificate may still lie in the hello. */
struct tls_stranger {
    SSL_CTX *tls;
    SSL *ssl;
    int fd;
    char heard[1024];
    size_t have;
};

static int stranger_step(struct tls_stranger *s)
{
    char bytes[512];
    ERR_clear_error();
    int n = SSL_is_init_finished(s->ssl) ? SSL_read(s->ssl, bytes, sizeof bytes) : SSL_do_handshake(s->ssl);
    if (SSL_is_init_finished(s->ssl) && n > 1)
        for (int i = 0; i < n && s->have + 1 < sizeof s->heard; i++)
            if (bytes[i] != '\0')
                s->heard[s->have++] = bytes[i];
    if (n > 0)
        return 0;
    int error = SSL_get_error(s->ssl, n);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : error;
}

static struct tls_stranger stranger_call(const struct member *m, const struct pki *pki)
{
    struct tls_stranger s = {.tls = SSL_CTX_new(TLS_client_method()), .fd = call(m)};
    if (pki != NULL) {
        assert_int_equal(SSL_CTX_use_certificate_chain_file(s.tls, pki->cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey_file(s.tls, pki->key, SSL_FILETYPE_PEM), 1);
    }
    s.ssl = SSL_new(s.tls);
    SSL_set_fd(s.ssl, s.fd);
    SSL_set_connect_state(s.ssl);
    return s;
}

static void stranger_end(struct tls_stranger *s)
{
    SSL_free(s->ssl);
    SSL_CTX_free(s->tls);
    close(s->fd);
}

static void stranger_says(struct tls_stranger *s, uint64_t self, const char *cluster)
{
    uint8_t frame[FRAME_HEAD_BYTES + FRAME_HELLO_BYTES];
    struct frame_hello hello = {.oldest = 1, .newest = 1, .self = self, .wanted = 1};
    text_copy(hello.cluster, sizeof hello.cluster, cluster);
    frame_hello_write(frame + FRAME_HEAD_BYTES, &hello);
    frame_head_write(frame, FRAME_HELLO, frame + FRAME_HEAD_BYTES, FRAME_HELLO_BYTES, NULL, 0);
    assert_int_equal(SSL_write(s->ssl, frame, sizeof frame), sizeof frame);
}

static void lies(const struct cert_name *name, uint64_t self, const char *words)
{
    struct member m = {0};
    one(&m, true);
    struct pki pki = make_pki(ca, name, 30, "liar");
    struct tls_stranger s = stranger_call(&m, &pki);
    assert_true(UNTIL(stranger_step(&s) != 0 || SSL_is_init_finished(s.ssl)));
    assert_true(SSL_is_init_finished(s.ssl));
    stranger_says(&s, self, CLUSTER);
    assert_true(UNTIL(stranger_step(&s) != 0));
    if (strstr(s.heard, words) == NULL)
        fail_msg("heard \"%s\", not \"%s\"", s.heard, words);
    assert_int_equal(logged(words), 1);
    assert_int_equal(m.ups, 0);
    stranger_end(&s);
    member_close(&m);
}

static void test_lying_member(void **state)
{
    (void)state;
    struct cert_name name = {.kind = CERT_MEMBER, .member = 2, .role = ROLE_ADMIN, .cluster = CLUSTER};
    lies(&name, 3, "it calls itself member 3, and its certificate is for tidemark://" CLUSTER "/member/2");
}

static void test_agent_as_member(void **state)
{
    (void)state;
    struct cert_name name = {.kind = CERT_AGENT, .name = "2", .role = ROLE_AGENT, .cluster = CLUSTER};
    lies(&name, 2, "it calls itself member 2, and its certificate is for tidemark://" CLUSTER "/agent/2");
}

static void test_cert_of_another_cluster(void **state)
{
    (void)state;
    struct cert_name name = {.kind = CERT_MEMBER, .member = 2, .role = ROLE_ADMIN, .cluster = STRANGE};
    lies(&name, 2, "it calls itself member 2, and its certificate is for tidemark://" STRANGE "/member/2");
}

static void test_no_certificate(void **state)
{
    struct member m = {0};
    (void)state;
    one(&m, true);
    struct tls_stranger s = stranger_call(&m, NULL);
    assert_true(UNTIL(stranger_step(&s) != 0));
    assert_true(logged("peer did not return a certificate") == 1);
    stranger_end(&s);
    member_close(&m);
}

static void test_old_tls(void **state)
{
    struct member m = {0};
    (void)state;
    one(&m, true);
    struct pki pki = member_pki(ca, CLUSTER, 2, "old-tls");
    struct tls_stranger s = stranger_call(&m, &pki);
    SSL_set_max_proto_version(s.ssl, TLS1_2_VERSION);
    assert_true(UNTIL(stranger_step(&s) != 0));
    assert_false(SSL_is_init_finished(s.ssl));
    assert_true(UNTIL(logged("refused a connection from 127.0.0.1: TLS: unsupported protocol") == 1));
    stranger_end(&s);
    member_close(&m);
}

/* A member that is killed in the middle of a handshake has broken it off; nobody has refused anybody. */
static void test_handshake_reset(void **state)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct linger at_once = {.l_onoff = 1};
    socklen_t bytes = sizeof to;
    struct member m = {0};
    struct err err = {0};
    char address[ADDRESS_MAX + 1], byte;
    (void)state;
    int port = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), fd = -1;
    assert_int_equal(bind(port, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(listen(port, 1), 0);
    assert_int_equal(getsockname(port, (struct sockaddr *)&to, &bytes), 0);
    snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(to.sin_port));
    one(&m, true);
    assert_int_equal(net_peer(m.net, 2, address, &err), TIDE_OK);
    assert_true(UNTIL(fd >= 0 || (fd = accept4(port, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0));
    assert_true(UNTIL(recv(fd, &byte, 1, MSG_PEEK) == 1)); /* its hello is here */
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
    assert_true(UNTIL(says(&m, 2, "TLS: the connection broke")));
    assert_true(logged("no connection with member 2 at ") >= 1);
    assert_int_equal(logged("refused member"), 0);
    member_close(&m);
    close(port);
}

/* ---- TLS and a full socket ---- */

#define NUMBERED 800u
#define NUMBERED_MAX 40000u

static size_t numbered_bytes(unsigned number)
{
    return sizeof number + number * 7919u % NUMBERED_MAX;
}

static void send_numbered(struct member *m, unsigned number, const char *filler)
{
    /* In turn copied and referred to. */
    struct net_part part = {.data = filler, .bytes = numbered_bytes(number) - sizeof number};
    if (number % 2 == 0) {
        part.owner = mem_alloc(part.bytes + 1);
        memset(part.owner, 'y', part.bytes);
        part.data = part.owner;
        part.release = mem_free;
    }
    assert_int_equal(net_send(m->net, 2, &number, sizeof number, &part, 1), TIDE_OK);
}

/* Count the whole frames that are the next message, unharmed; returns the bytes they take. */
static size_t check_numbered(const uint8_t *buffer, size_t have, unsigned *count)
{
    struct frame_head head;
    struct err err = {0};
    size_t at = 0;
    while (have - at >= FRAME_HEAD_BYTES) {
        assert_int_equal(frame_head_read(buffer + at, false, &head, &err), TIDE_OK);
        const uint8_t *payload = buffer + at + FRAME_HEAD_BYTES;
        if (have - at < FRAME_HEAD_BYTES + head.bytes)
            break;
        assert_int_equal(frame_payload_check(&head, payload, &err), TIDE_OK);
        if (head.type == FRAME_MESSAGE) {
            assert_memory_equal(payload, count, sizeof *count);
            assert_int_equal(head.bytes, numbered_bytes(*count));
            ++*count;
        }
        at += FRAME_HEAD_BYTES + head.bytes;
    }
    return at;
}

static bool take_numbered(struct tls_stranger *s, uint8_t *buffer, size_t room, size_t *have, unsigned *count)
{
    int n;
    while ((n = SSL_read(s->ssl, buffer + *have, (int)(room - *have))) > 0) {
        *have += (size_t)n;
        size_t taken = check_numbered(buffer, *have, count);
        memmove(buffer, buffer + taken, *have - taken);
        *have -= taken;
    }
    return *count == NUMBERED;
}

/* The other side reads late: records wait half written while the queue grows behind them, and all arrives in order. */
static void test_late_reader(void **state)
{
    struct member m = {0};
    static char filler[NUMBERED_MAX];
    static uint8_t buffer[4 * NUMBERED_MAX];
    size_t have = 0;
    unsigned count = 0;
    (void)state;
    one(&m, true);
    struct pki pki = member_pki(ca, CLUSTER, 2, "late");
    struct tls_stranger s = stranger_call(&m, &pki);
    assert_true(UNTIL(stranger_step(&s) != 0 || SSL_is_init_finished(s.ssl)));
    stranger_says(&s, 2, CLUSTER);
    assert_true(UNTIL(m.ups == 1));
    memset(filler, 'x', sizeof filler);
    for (unsigned i = 0; i < NUMBERED; i++) {
        send_numbered(&m, i, filler);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    assert_true(status_of(&m, 2).queued_bytes > 1u << 20);
    assert_true(UNTIL(take_numbered(&s, buffer, sizeof buffer, &have, &count)));
    assert_int_equal(m.downs, 0);
    assert_int_equal(status_of(&m, 2).messages_sent, NUMBERED);
    stranger_end(&s);
    member_close(&m);
}

/* Many that begin TLS at one moment have their turn bit by bit, and nobody is turned away. */
static void test_many_callers(void **state)
{
    struct member m = {0};
    static struct tls_stranger s[3 * NET_SHAKES_PER_TICK];
    const unsigned count = sizeof s / sizeof s[0];
    unsigned done = 0;
    (void)state;
    one(&m, true);
    struct pki pki = member_pki(ca, CLUSTER, 2, "many");
    for (unsigned i = 0; i < count; i++) {
        s[i] = stranger_call(&m, &pki);
        assert_int_equal(stranger_step(&s[i]), 0);
    }
    uint64_t begin_ns = clock_mono_ns();
    while (done < count && clock_mono_ns() - begin_ns < WAIT_MS * NS_PER_MS) {
        uv_run(&loop, UV_RUN_ONCE);
        done = 0;
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(stranger_step(&s[i]), 0);
            done += SSL_is_init_finished(s[i].ssl) ? 1 : 0;
        }
    }
    assert_int_equal(done, count);
    /* Three ticks' worth of callers: the first tick may end as they call, so that one whole tick lies between surely. */
    assert_true(clock_mono_ns() - begin_ns >= NET_TICK_MS * NS_PER_MS * 9 / 10);
    for (unsigned i = 0; i < count; i++)
        stranger_end(&s[i]);
    member_close(&m);
}

/* ---- with and without TLS ---- */

static void test_plain_to_tls(void **state)
{
    struct member m[2] = {0};
    (void)state;
    one(&m[0], true);
    member_open(&m[1], 2, NULL, NULL);
    member_knows(&m[1], &m[0]);
    assert_true(UNTIL(says(&m[1], 1, "it refused us: it does not speak TLS, and this member speaks nothing else")));
    assert_true(logged("refused a connection from 127.0.0.1: it does not speak TLS") > 0);
    member_close(&m[0]);
    member_close(&m[1]);
}

static void test_tls_to_plain(void **state)
{
    struct member m[2] = {0};
    (void)state;
    one(&m[0], false);
    struct pki pki = member_pki(ca, CLUSTER, 2, "tls-to-plain");
    member_open(&m[1], 2, NULL, &pki);
    member_knows(&m[1], &m[0]);
    assert_true(UNTIL(says(&m[1], 1, "does it run without TLS?")));
    assert_true(logged("refused a connection from 127.0.0.1: it speaks TLS, and this member runs without") > 0);
    member_close(&m[0]);
    member_close(&m[1]);
}

#define STORY(name) cmocka_unit_test_setup_teardown(test_##name, story_begin, story_end)

int main(void)
{
    log_init("test_net", LOG_WARN);
    const struct CMUnitTest tests[] = {
        STORY(wrong_ca),       STORY(wrong_issuer), STORY(expired),         STORY(wrong_cluster_tls),
        STORY(wrong_member),   STORY(lying_member), STORY(agent_as_member), STORY(cert_of_another_cluster),
        STORY(no_certificate), STORY(old_tls),      STORY(late_reader),     STORY(many_callers),
        STORY(plain_to_tls),   STORY(tls_to_plain), STORY(handshake_reset),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
