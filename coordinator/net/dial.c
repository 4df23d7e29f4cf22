/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "coordinator/net/inner.h"

/* A name being asked for; outlives its peer when it must. */
struct lookup {
    uv_getaddrinfo_t request;
    struct net *net;
    struct net_peer *peer; /* NULL: nobody waits for it any more */
};

void dial_later(struct net_peer *peer)
{
    uint64_t most = NET_BACKOFF_MIN_MS;
    for (unsigned i = 0; i < peer->failures && most < NET_BACKOFF_MAX_MS; i++)
        most *= 2;
    most = most < NET_BACKOFF_MAX_MS ? most : NET_BACKOFF_MAX_MS;
    /* Half of it by chance: members that lost each other at one moment do not come back at one moment. */
    uint64_t wait = peer->failures > 0 ? most / 2 : 0;
    peer->dial_at_ms = net_now_ms() + wait + rng_below(&peer->net->rng, most / 2);
}

static void failed(struct net_peer *peer, const char *why)
{
    text_fit(peer->error, sizeof peer->error, why);
    voice_say(&peer->voice, net_now_ms(), LOG_WARN, "member %" PRIu64 " at %s: %s", peer->id, peer->address, why);
    peer->failures++;
    dial_later(peer);
}

static void failed_errno(struct net_peer *peer, const char *what)
{
    struct err err = {0};
    err_errno(&err, "%s", what);
    failed(peer, err.text);
}

static void dial_to(struct net_peer *peer, const struct address *address)
{
    struct net *net = peer->net;
    if (net->tls == NULL && !address_is_loopback(address)) {
        failed(peer, "without TLS only loopback addresses are dialled, and this is none");
        return;
    }
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) {
        failed_errno(peer, "cannot make a socket");
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (const struct sockaddr *)&address->storage, address->bytes) != 0 && errno != EINPROGRESS) {
        failed_errno(peer, "cannot connect");
        close(fd);
        return;
    }
    peer->dialled = link_open(net, fd, LINK_CONNECTING, peer, peer->address);
    if (peer->dialled == NULL) {
        close(fd);
        failed(peer, "cannot watch the connection");
    }
}

static void on_found(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct lookup *lookup = request->data;
    struct net *net = lookup->net;
    struct net_peer *peer = lookup->peer;
    if (peer != NULL) {
        peer->lookup = NULL;
        size_t count = 0;
        for (struct addrinfo *info = found; info != NULL; info = info->ai_next)
            count++;
        if (status != 0 || count == 0) {
            failed(peer, status != 0 ? uv_strerror(status) : "the name has no address");
        } else {
            struct address address = {0};
            struct addrinfo *info = found;
            for (size_t i = peer->failures % count; i > 0; i--) /* each of its addresses in turn */
                info = info->ai_next;
            memcpy(&address.storage, info->ai_addr, info->ai_addrlen);
            address.bytes = info->ai_addrlen;
            dial_to(peer, &address);
        }
    }
    uv_freeaddrinfo(found);
    mem_free(lookup);
    net_let_go(net);
}

void dial(struct net_peer *peer)
{
    char host[ADDRESS_MAX + 1], port[PORT_TEXT_MAX];
    struct address address;
    struct err err = {0};
    if (address_parts(peer->address, host, port, &err) != TIDE_OK) {
        failed(peer, err.text);
        return;
    }
    if (address_numeric(host, port, &address)) {
        dial_to(peer, &address);
        return;
    }
    struct net *net = peer->net;
    struct lookup *lookup = mem_alloc(sizeof *lookup);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    lookup->net = net;
    lookup->peer = peer;
    lookup->request.data = lookup;
    if (uv_getaddrinfo(net->options.loop, &lookup->request, on_found, host, port, &hints) != 0) {
        mem_free(lookup);
        failed(peer, "cannot ask for the address of its name");
        return;
    }
    peer->lookup = lookup;
    net->open++;
}

void dial_cancel(struct net_peer *peer)
{
    if (peer->lookup == NULL)
        return;
    peer->lookup->peer = NULL;
    uv_cancel((uv_req_t *)&peer->lookup->request);
    peer->lookup = NULL;
}
