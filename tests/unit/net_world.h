/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_NET_WORLD_H
#define TESTS_UNIT_NET_WORLD_H

/* Members on one loop, with certificates of a CA made here. */

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/secure/certs.h"
#include "coordinator/net/net.h"

#define CLUSTER "00c0ffee00c0ffee"
#define STRANGE "0badc0de0badc0de"
#define WAIT_MS 10000u /* what takes longer does not happen */
#define SEEN_MAX (1u << 20)

struct member {
    uint64_t id;
    struct net *net;
    unsigned ups, downs;
    uint64_t messages, bytes, last_from;
    char last[64]; /* the newest message's beginning */
    uint64_t next; /* number that the next numbered message must have */
    bool disorder;
    char why[256]; /* of the last down */
    bool close_on_message;
    uint64_t later; /* epoch of a peer that says it was left behind */
};

struct pki {
    struct ca *ca;
    char ca_file[128], cert[128], key[128];
};

#define NETS_MAX 16u

static uv_loop_t loop;
static struct net *opened[NETS_MAX]; /* so that a story that fails still ends */
static char dir[] = "tidemark-net-XXXXXX";

/* ---- certificates ---- */

static void write_file(char to[128], const char *name, const char *text)
{
    snprintf(to, 128, "%s/%s", dir, name);
    FILE *file = fopen(to, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct ca *make_ca(const char *cluster)
{
    struct err err = {0};
    struct ca *ca = NULL;
    assert_int_equal(ca_create(cluster, &ca, &err), TIDE_OK);
    return ca;
}

/* Files of a certificate for `name`; `tag` keeps them apart. */
static struct pki make_pki(struct ca *ca, const struct cert_name *name, unsigned days, const char *tag)
{
    struct pki pki = {.ca = ca};
    struct err err = {0};
    struct strlist hosts = {0};
    char *cert = NULL, *key = NULL, *ca_pem = ca_cert_pem(ca), file[64];
    strlist_add(&hosts, "127.0.0.1");
    assert_int_equal(ca_issue(ca, name, &hosts, days, &cert, &key, &err), TIDE_OK);
    snprintf(file, sizeof file, "%s-ca.pem", tag);
    write_file(pki.ca_file, file, ca_pem);
    snprintf(file, sizeof file, "%s-cert.pem", tag);
    write_file(pki.cert, file, cert);
    snprintf(file, sizeof file, "%s-key.pem", tag);
    write_file(pki.key, file, key);
    mem_free(ca_pem);
    mem_free(cert);
    cert_key_free(key);
    strlist_release(&hosts);
    return pki;
}

static struct pki member_pki(struct ca *ca, const char *cluster, uint32_t id, const char *tag)
{
    struct cert_name name = {.kind = CERT_MEMBER, .member = id, .role = ROLE_ADMIN};
    text_copy(name.cluster, sizeof name.cluster, cluster);
    return make_pki(ca, &name, 30, tag);
}

/* ---- members ---- */

static void member_close(struct member *m)
{
    for (unsigned i = 0; i < NETS_MAX; i++)
        opened[i] = opened[i] == m->net ? NULL : opened[i];
    net_close(m->net);
    m->net = NULL;
}

static void on_message(void *context, uint64_t from, const void *data, size_t bytes)
{
    struct member *m = context;
    m->messages++;
    m->bytes += bytes;
    m->last_from = from;
    size_t n = bytes < sizeof m->last - 1 ? bytes : sizeof m->last - 1;
    memcpy(m->last, data, n);
    m->last[n] = '\0';
    uint64_t number;
    if (bytes >= 1 + sizeof number && m->last[0] == '#') {
        memcpy(&number, (const char *)data + 1, sizeof number);
        m->disorder |= number != m->next;
        m->next = number + 1;
    }
    if (m->close_on_message)
        member_close(m);
}

static void on_up(void *context, uint64_t peer)
{
    struct member *m = context;
    (void)peer;
    m->ups++;
}

static void on_down(void *context, uint64_t peer, const char *why)
{
    struct member *m = context;
    (void)peer;
    m->downs++;
    text_copy(m->why, sizeof m->why, why);
}

static void on_later(void *context, uint64_t peer, uint64_t epoch)
{
    struct member *m = context;
    (void)peer;
    m->later = epoch;
}

static struct net_options options_of(struct member *m, const struct pki *pki)
{
    struct net_options options = {.loop = &loop,
                                  .self = m->id,
                                  .cluster = CLUSTER,
                                  .listen = "127.0.0.1:0",
                                  .context = m,
                                  .on_message = on_message,
                                  .on_up = on_up,
                                  .on_down = on_down,
                                  .on_later = on_later};
    if (pki != NULL) {
        options.ca = pki->ca_file;
        options.cert = pki->cert;
        options.key = pki->key;
    }
    return options;
}

static void member_open(struct member *m, uint64_t id, const struct net_options *changed, const struct pki *pki)
{
    struct err err = {0};
    m->id = id;
    struct net_options options = changed ? *changed : options_of(m, pki);
    options.self = id;
    options.context = m;
    if (net_open(&options, &m->net, &err) != TIDE_OK)
        fail_msg("member %" PRIu64 ": %s", id, err.text);
    unsigned i = 0;
    while (opened[i] != NULL)
        i++;
    opened[i] = m->net;
}

static void member_knows(struct member *m, const struct member *other)
{
    struct err err = {0};
    if (net_peer(m->net, other->id, net_address(other->net), &err) != TIDE_OK)
        fail_msg("%s", err.text);
}

static struct net_status status_of(const struct member *m, uint64_t peer)
{
    struct net_status list[NET_PEERS_MAX];
    size_t count = net_status(m->net, list, NET_PEERS_MAX);
    for (size_t i = 0; i < count; i++)
        if (list[i].id == peer)
            return list[i];
    return (struct net_status){0};
}

static bool says(const struct member *m, uint64_t peer, const char *words)
{
    struct net_status status = status_of(m, peer);
    return strstr(status.error, words) != NULL;
}

/* ---- time ---- */

static void pass(uv_timer_t *timer)
{
    (void)timer;
}

/* Turn the loop until `holds`, or WAIT_MS have passed. Its value is that of the condition. */
#define UNTIL(holds)                                                                                                        \
    ({                                                                                                                      \
        uint64_t begin_ns_ = clock_mono_ns();                                                                               \
        while (!(holds) && clock_mono_ns() - begin_ns_ < WAIT_MS * NS_PER_MS)                                               \
            uv_run(&loop, UV_RUN_ONCE);                                                                                     \
        (holds);                                                                                                            \
    })

static uv_timer_t waker; /* so that a turn of the loop ends */

/* At least one turn, however late it is by then. */
static inline void for_ms(uint64_t ms)
{
    uint64_t begin_ns = clock_mono_ns();
    do
        uv_run(&loop, UV_RUN_ONCE);
    while (clock_mono_ns() - begin_ns < ms * NS_PER_MS);
}

static int world_begin(void **state)
{
    (void)state;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &waker);
    uv_timer_start(&waker, pass, 5, 5);
    return 0;
}

/* Whatever was opened must have been closed: the loop runs dry. */
static int world_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NETS_MAX; i++) {
        net_close(opened[i]);
        opened[i] = NULL;
    }
    uv_close((uv_handle_t *)&waker, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

static int dir_make(void **state)
{
    (void)state;
    return mkdtemp(dir) == NULL;
}

static int dir_remove(void **state)
{
    struct err err = {0};
    (void)state;
    return fsx_remove_tree(dir, &err) != TIDE_OK;
}

#endif
