/* SPDX-License-Identifier: Apache-2.0 */

/* From a socket to a link that is up: TLS, and a hello from each side. Whatever does not fit is refused, here and there. */

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include "ckpt/base/mem.h"
#include "ckpt/wire/identity.h"
#include "coordinator/net/inner.h"

#define TLS_FIRST_BYTE 0x16 /* a record of the handshake */

static void say_hello(struct link *link, uint64_t to)
{
    uint8_t bytes[FRAME_HELLO_BYTES];
    struct frame_hello hello = {
        .oldest = NET_PROTOCOL_OLDEST, .newest = NET_PROTOCOL_NEWEST, .self = link->net->options.self, .wanted = to};
    hello.tag = link->net->options.tag;
    hello.level = link->net->options.level;
    hello.epoch = link->net->epoch;
    text_copy(hello.cluster, sizeof hello.cluster, link->net->cluster);
    frame_hello_write(bytes, &hello);
    link_frame(link, FRAME_HELLO, bytes, sizeof bytes);
}

static void begin_greeting(struct link *link)
{
    link->state = LINK_GREETING;
    if (link->dialled)
        say_hello(link, link->peer->id);
    link_read(link);
}

static void begin_tls(struct link *link)
{
    link->ssl = tls_begin(link->net->tls, link->fd, link->dialled);
    if (link->ssl == NULL) {
        link_kill(link, "OpenSSL cannot begin");
        return;
    }
    link->state = LINK_SHAKING;
    greet_shake(link);
}

/* ---- dialled ---- */

void greet_connected(struct link *link)
{
    int number = 0;
    socklen_t bytes = sizeof number;
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &number, &bytes) != 0)
        number = errno;
    if (number != 0) {
        struct err err = {0};
        errno = number;
        err_errno(&err, "cannot connect");
        link_kill(link, "%s", err.text);
    } else if (link->net->tls != NULL) {
        begin_tls(link);
    } else {
        begin_greeting(link);
    }
}

/* ---- accepted ---- */

/* What costs memory and time begins with the first byte, and only if it is one that fits. */
void greet_first_byte(struct link *link)
{
    uint8_t byte = 0;
    ssize_t n = recv(link->fd, &byte, 1, MSG_PEEK);
    link->held = false;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    bool tls = link->net->tls != NULL;
    if (n <= 0) {
        link_kill(link, "it closed the connection without a word");
    } else if (tls && byte == TLS_FIRST_BYTE) {
        /* A flood of callers must not keep this thread, which others wait for, from its work. */
        link->held = link->net->shakes == NET_SHAKES_PER_TICK;
        link->net->shakes += link->held ? 0 : 1;
        if (!link->held)
            begin_tls(link);
    } else if (!tls && byte != TLS_FIRST_BYTE) {
        begin_greeting(link);
    } else if (tls) {
        /* To one of ours that runs without TLS the reason can be told in plain words. */
        link->state = byte == FRAME_MAGIC_0 ? LINK_GREETING : link->state;
        link_refuse(link, "it does not speak TLS, and this member speaks nothing else");
    } else {
        link_refuse(link, "it speaks TLS, and this member runs without");
    }
}

/* ---- TLS ---- */

static bool cert_is(const struct link *link, uint64_t id)
{
    const struct cert_name *name = &link->cert;
    return link->ssl == NULL ||
           (name->kind == CERT_MEMBER && name->member == id && strcmp(name->cluster, link->net->cluster) == 0);
}

static const char *cert_uri(const struct link *link, char room[CERT_NAME_MAX + 1])
{
    cert_name_format(&link->cert, room);
    return room;
}

static void shaken(struct link *link)
{
    char uri[CERT_NAME_MAX + 1];
    struct err err = {0};
    link->state = LINK_GREETING;
    if (tls_name(link->ssl, &link->cert, &err) != TIDE_OK)
        link_refuse(link, "its certificate: %s", err.text);
    else if (link->dialled && !cert_is(link, link->peer->id))
        link_refuse(link, "its certificate is for %s, not for member %" PRIu64 " of cluster %s", cert_uri(link, uri),
                    link->peer->id, link->net->cluster);
    else
        begin_greeting(link);
}

void greet_shake(struct link *link)
{
    char why[TIDE_TEXT_MAX + 1] = "it closed the connection";
    enum io io = tls_shake(link->ssl, why);
    link->want_write = io == IO_AGAIN_WRITE;
    if (io == IO_DONE)
        shaken(link);
    else if (io == IO_END)
        link_kill(link, "it closed the connection while TLS began; does it run without TLS?");
    else if (io == IO_BROKEN)
        link_kill(link, "TLS: %s", why);
    else if (io == IO_FAILED)
        link_refuse(link, "TLS: %s", why);
}

/* ---- hello ---- */

/* Two that run under one id, each with data of its own, would vote twice. */
static bool other_data(const struct net *net, const struct frame_hello *hello)
{
    const struct net_peer *peer = peer_find(net, hello->self);
    return peer != NULL && peer->tag != 0 && hello->tag != 0 && peer->tag != hello->tag;
}

static bool other_epoch(const struct link *link)
{
    uint64_t here = link->net->epoch, there = link->epoch;
    return here != there && here != EPOCH_UNKNOWN && there != EPOCH_UNKNOWN;
}

/* A group that lost its majority went on with one member, and this link would join what it is now with what it was. */
static void refuse_epoch(struct link *link, uint64_t id)
{
    uint64_t self = link->net->options.self, here = link->net->epoch, there = link->epoch;
    bool both = epoch_stale(here, there) && epoch_stale(there, here), left = epoch_stale(here, there);
    char ours[EPOCH_TEXT_MAX + 1], theirs[EPOCH_TEXT_MAX + 1];
    epoch_format(here, ours);
    epoch_format(there, theirs);
    if (both)
        link_refuse(link,
                    "members %" PRIu64 " (epoch %s) and %" PRIu64
                    " (%s) were both recovered, each without the other: one may go "
                    "on. Stop the other, remove its data, add it under a new id",
                    id, theirs, self, ours);
    else
        link_refuse(link,
                    "member %" PRIu64 " is of epoch %s and member %" PRIu64 " of %s: member %" PRIu64
                    " was left behind when the "
                    "group was recovered. Stop it, remove its data, add it under a new id",
                    id, theirs, self, ours, left ? self : id);
}

bool greet_same_epoch(struct link *link)
{
    if (!other_epoch(link))
        return true;
    refuse_epoch(link, link->peer->id);
    return false;
}

static bool epoch_fits(struct link *link, const struct frame_hello *hello)
{
    struct net *net = link->net;
    const struct net_peer *peer = peer_find(net, hello->self);
    bool named = peer != NULL && peer->address[0] != '\0';
    link->epoch = hello->epoch;
    if (!other_epoch(link))
        return true;
    if (!link->dialled) /* who called must hear which it is, or it could not know that it was left behind */
        say_hello(link, hello->self);
    refuse_epoch(link, hello->self);
    if (named && !epoch_stale(hello->epoch, net->epoch) && net->options.on_later != NULL)
        net->options.on_later(net->options.context, hello->self, hello->epoch);
    return false;
}

/* False: refused. */
static bool hello_fits(struct link *link, const struct frame_hello *hello)
{
    const struct net *net = link->net;
    uint64_t self = net->options.self;
    char uri[CERT_NAME_MAX + 1];
    if (strcmp(hello->cluster, net->cluster) != 0)
        link_refuse(link, "it is of cluster %s, and this is member %" PRIu64 " of cluster %s", hello->cluster, self,
                    net->cluster);
    else if (hello->oldest > NET_PROTOCOL_NEWEST || hello->newest < NET_PROTOCOL_OLDEST)
        link_refuse(link, "it speaks protocols %u to %u, and this member %u to %u", hello->oldest, hello->newest,
                    NET_PROTOCOL_OLDEST, NET_PROTOCOL_NEWEST);
    else if (link->dialled && hello->self != link->peer->id)
        link_refuse(link, "it is member %" PRIu64 ", not member %" PRIu64, hello->self, link->peer->id);
    else if (hello->wanted != self)
        link_refuse(link, "it looks for member %" PRIu64 ", and this is member %" PRIu64, hello->wanted, self);
    else if (hello->self == self)
        link_refuse(link, "it calls itself member %" PRIu64 ", as this one does", self);
    else if (hello->self == 0 || hello->self > MEMBER_ID_MAX)
        link_refuse(link, "%" PRIu64 " cannot be the id of a member", hello->self);
    else if (!cert_is(link, hello->self))
        link_refuse(link, "it calls itself member %" PRIu64 ", and its certificate is for %s", hello->self,
                    cert_uri(link, uri));
    else if (other_data(net, hello))
        link_refuse(link,
                    "member %" PRIu64
                    " was here with another data directory: either two run under this id, or one has begun "
                    "anew; stop the one that is wrong. If none is, start this member, %" PRIu64 ", again",
                    hello->self, self);
    else
        return epoch_fits(link, hello);
    return false;
}

static void take_hello(struct net_peer *peer, const struct frame_hello *hello)
{
    if (hello->tag != 0)
        peer->tag = hello->tag;
    peer->level = hello->level;
}

bool greet_admits(const struct net *net, uint64_t id)
{
    const struct net_peer *peer = peer_find(net, id);
    bool named = peer != NULL && (peer->address[0] != '\0' || peer->forgotten);
    return named || net->options.admits == NULL || net->options.admits(net->options.context, id);
}

static void hello_from_caller(struct link *link, const struct frame_hello *hello)
{
    if (!greet_admits(link->net, hello->self)) {
        link_refuse(link, "member %" PRIu64 " is not in the group, as far as member %" PRIu64 " knows", hello->self,
                    link->net->options.self);
        return;
    }
    struct net_peer *peer = peer_make(link->net, hello->self);
    if (peer == NULL) {
        link_refuse(link, "this member knows %u others already", NET_PEERS_MAX);
    } else if (peer->forgotten) {
        link_refuse(link, "member %" PRIu64 " was removed from the cluster", hello->self);
    } else {
        if (peer->accepted != NULL)
            link_kill(peer->accepted, "it has connected anew");
        link->peer = peer;
        peer->accepted = link;
        take_hello(peer, hello);
        say_hello(link, peer->id);
        peer_found(peer, link);
    }
}

static void hello_answered(struct link *link, const struct frame_hello *hello)
{
    take_hello(link->peer, hello);
    peer_found(link->peer, link);
}

static void refused_by_other(struct link *link, const uint8_t *payload, size_t bytes)
{
    char words[TIDE_TEXT_MAX + 1];
    size_t n = bytes < sizeof words - 1 ? bytes : sizeof words - 1;
    for (size_t i = 0; i < n; i++)
        words[i] = isprint(payload[i]) ? (char)payload[i] : '?';
    words[n] = '\0';
    link_kill(link, "it refused us: %s", words);
}

void greet_frame(struct link *link, const struct frame_head *head, const uint8_t *payload)
{
    struct frame_hello hello;
    struct err err = {0};
    if (head->type == FRAME_REFUSE)
        refused_by_other(link, payload, head->bytes);
    else if (link->state == LINK_UP)
        link_refuse(link, "a second hello");
    else if (frame_hello_read(payload, head->bytes, &hello, &err) != TIDE_OK)
        link_refuse(link, "%s", err.text);
    else if (!hello_fits(link, &hello))
        return;
    else if (link->dialled)
        hello_answered(link, &hello);
    else
        hello_from_caller(link, &hello);
}
