/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/wire/identity.h"
#include "coordinator/net/inner.h"

#define ROUNDS_PER_TURN 8 /* of writing and burying, when callbacks make more to do */

uint64_t net_now_ms(void)
{
    return clock_mono_ns() / NS_PER_MS;
}

/* ---- peers ---- */

struct net_peer *peer_find(const struct net *net, uint64_t id)
{
    struct net_peer *peer = net->peers;
    while (peer != NULL && peer->id != id)
        peer = peer->next;
    return peer;
}

static void peer_free(struct net_peer **at)
{
    struct net_peer *peer = *at;
    *at = peer->next;
    mem_free(peer);
}

/* Of one that nobody named, or that was removed, nothing need be remembered but that. */
static bool forget_one(struct net *net)
{
    for (struct net_peer **at = &net->peers; *at != NULL; at = &(*at)->next)
        if ((*at)->address[0] == '\0' && (*at)->dialled == NULL && (*at)->accepted == NULL && (*at)->lookup == NULL) {
            peer_free(at);
            return true;
        }
    return false;
}

struct net_peer *peer_make(struct net *net, uint64_t id)
{
    struct net_peer *peer = peer_find(net, id);
    if (peer != NULL)
        return peer;
    size_t count = 0;
    for (peer = net->peers; peer != NULL; peer = peer->next)
        count++;
    if (count == NET_PEERS_MAX && !forget_one(net))
        return NULL;
    struct net_peer **at = &net->peers;
    while (*at != NULL && (*at)->id < id)
        at = &(*at)->next;
    peer = mem_alloc(sizeof *peer);
    peer->net = net;
    peer->id = id;
    peer->next = *at;
    *at = peer;
    return peer;
}

static void set_up(struct net_peer *peer, struct link *link)
{
    struct net *net = peer->net;
    char room[ADDRESS_MAX + 64];
    peer->up = link;
    peer->failures = 0;
    peer->error[0] = '\0';
    voice_say(&peer->voice, net_now_ms(), LOG_INFO, "connected with %s", link_name(link, room));
    net->options.on_up(net->options.context, peer->id);
}

void peer_found(struct net_peer *peer, struct link *link)
{
    link->state = LINK_UP;
    link->up_ms = peer->contact_ms = net_now_ms();
    link->heard = link->said = 0;
    if (peer->up == NULL)
        set_up(peer, link);
}

static struct link *other_link(const struct net_peer *peer)
{
    if (peer->dialled != NULL && peer->dialled->state == LINK_UP && !peer->dialled->dead)
        return peer->dialled;
    return peer->accepted != NULL && peer->accepted->state == LINK_UP && !peer->accepted->dead ? peer->accepted : NULL;
}

void peer_lost(struct net_peer *peer, struct link *link)
{
    struct net *net = peer->net;
    char room[ADDRESS_MAX + 64];
    uint64_t id = peer->id;
    bool was_up = peer->up == link, failed = link->dialled && link->up_ms == 0;
    if (was_up || failed) {
        text_copy(peer->error, sizeof peer->error, link->why);
        if (link->state != LINK_LINGERING)
            voice_say(&peer->voice, net_now_ms(), LOG_WARN, "%s %s: %s", was_up ? "lost" : "no connection with",
                      link_name(link, room), link->why);
    }
    peer->failures += failed ? 1 : 0;
    link_close(link);
    dial_later(peer);
    if (!was_up)
        return;
    net->options.on_down(net->options.context, id, link->why); /* may forget the peer, or close all */
    peer = net->closing ? NULL : peer_find(net, id);
    link = peer ? other_link(peer) : NULL;
    if (link != NULL && peer->up == NULL)
        set_up(peer, link);
}

enum tide_status net_peer(struct net *net, uint64_t id, const char *address, struct err *err)
{
    char host[ADDRESS_MAX + 1], port[PORT_TEXT_MAX];
    uint32_t number;
    struct address numeric;
    if (id == 0 || id > MEMBER_ID_MAX || id == net->options.self)
        return err_set(err, TIDE_E_INVALID, "%" PRIu64 " is not the id of another member", id);
    if (address_split(address, host, &number, err) != TIDE_OK || address_parts(address, host, port, err) != TIDE_OK)
        return err->status;
    if (net->tls == NULL && address_numeric(host, port, &numeric) && !address_is_loopback(&numeric))
        return err_set(err, TIDE_E_DENIED,
                       "member %" PRIu64
                       " is at %s: without TLS only loopback addresses are dialled; make certificates with "
                       "tidemark cluster init",
                       id, address);
    struct net_peer *peer = peer_make(net, id);
    if (peer == NULL)
        return err_set(err, TIDE_E_LIMIT, "more than %u other members", NET_PEERS_MAX);
    peer->forgotten = false;
    if (strcmp(peer->address, address) == 0)
        return TIDE_OK;
    text_copy(peer->address, sizeof peer->address, address);
    dial_cancel(peer);
    if (peer->dialled != NULL)
        link_kill(peer->dialled, "its address is now %s", address);
    peer->failures = 0;
    peer->dial_at_ms = 0;
    net->dirty = true;
    return TIDE_OK;
}

void net_epoch(struct net *net, uint64_t epoch)
{
    if (net->epoch == epoch)
        return;
    net->epoch = epoch;
    for (struct link *link = net->links; link != NULL; link = link->next)
        if (link->state == LINK_UP && !link->dead)
            greet_same_epoch(link);
}

void net_forget(struct net *net, uint64_t id)
{
    struct net_peer *peer = peer_make(net, id);
    if (peer == NULL)
        return;
    peer->forgotten = true;
    peer->tag = 0;
    peer->address[0] = '\0';
    dial_cancel(peer);
    if (peer->dialled != NULL)
        link_close(peer->dialled);
    if (peer->accepted != NULL)
        link_close(peer->accepted);
}

void net_admit_again(struct net *net)
{
    for (struct link *link = net->links; link != NULL; link = link->next)
        if (link->state == LINK_UP && !link->dead && !greet_admits(net, link->peer->id))
            link_refuse(link, "member %" PRIu64 " is not in the group, as far as member %" PRIu64 " knows", link->peer->id,
                        net->options.self);
}

/* ---- sending ---- */

static enum tide_status too_slow(struct net_peer *peer, struct link *link)
{
    peer->cut_off++;
    link_kill(link, "it does not take what it is sent: %zu bytes wait", link->out.bytes);
    return TIDE_E_LIMIT;
}

static void release_all(const struct net_part *parts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (parts[i].release != NULL)
            parts[i].release(parts[i].owner);
}

static enum tide_status may_send(struct net *net, uint64_t to, size_t bytes, struct link **ret_link)
{
    struct net_peer *peer = peer_find(net, to);
    struct link *link = peer ? peer->up : NULL;
    if (link == NULL || link->dead || link->state != LINK_UP)
        return TIDE_E_UNAVAILABLE;
    if (bytes > NET_MESSAGE_MAX)
        return TIDE_E_LIMIT;
    if (link->out.bytes + bytes > NET_QUEUE_BYTES_MAX)
        return too_slow(peer, link);
    *ret_link = link;
    return TIDE_OK;
}

enum tide_status net_send(struct net *net, uint64_t to, const void *head, size_t head_bytes, const struct net_part *parts,
                          size_t count)
{
    uint8_t frame[FRAME_HEAD_BYTES];
    struct link *link = NULL;
    size_t bytes = head_bytes;
    for (size_t i = 0; i < count; i++)
        bytes += parts[i].bytes;
    enum tide_status status = may_send(net, to, bytes, &link);
    if (status != TIDE_OK) {
        release_all(parts, count);
        return status;
    }
    frame_head_write(frame, FRAME_MESSAGE, head, head_bytes, parts, count);
    queue_copy(&link->out, frame, sizeof frame);
    queue_copy(&link->out, head, head_bytes);
    for (size_t i = 0; i < count; i++)
        if (parts[i].release != NULL)
            queue_refer(&link->out, parts[i].data, parts[i].bytes, parts[i].owner, parts[i].release);
        else
            queue_copy(&link->out, parts[i].data, parts[i].bytes);
    link->peer->messages_sent++;
    net->dirty = true;
    return TIDE_OK;
}

void net_flush(struct net *net)
{
    for (struct link *link = net->links; link != NULL; link = link->next)
        if (link->out.bytes > 0 && !link->dead && !link->want_write &&
            (link->state == LINK_UP || link->state == LINK_GREETING || link->state == LINK_LINGERING))
            link_write(link);
}

/* ---- the turn of the loop ---- */

static void bury(struct net *net, struct link *link)
{
    if (link->peer != NULL) {
        peer_lost(link->peer, link);
        return;
    }
    if (link->state != LINK_LINGERING) /* one that said nothing is no news: something looks whether the port is open */
        voice_say(&net->voice, net_now_ms(), link->state == LINK_WAITING ? LOG_DEBUG : LOG_WARN,
                  "a connection from %s ended: %s", link->remote, link->why);
    link_close(link);
}

static void dial_due(struct net *net)
{
    uint64_t now = net_now_ms();
    for (struct net_peer *peer = net->peers; peer != NULL; peer = peer->next)
        if (peer->address[0] != '\0' && peer->up == NULL && peer->dialled == NULL && peer->lookup == NULL &&
            now >= peer->dial_at_ms)
            dial(peer);
}

/* Write what was sent, end what is dead. Only here, and where frames are read, are callbacks called. */
static void turn(struct net *net)
{
    for (int i = 0; net->dirty && !net->closing && i < ROUNDS_PER_TURN; i++) {
        net->dirty = false;
        net_flush(net);
        for (struct link *link = net->links; link != NULL && !net->closing; link = link->next)
            if (link->dead && link->state != LINK_CLOSED)
                bury(net, link);
        if (!net->closing)
            dial_due(net);
    }
}

static void on_prepare(uv_prepare_t *prepare)
{
    turn(prepare->data);
}

static void on_check(uv_check_t *check)
{
    turn(check->data);
}

static void on_tick(uv_timer_t *tick)
{
    struct net *net = tick->data;
    net->shakes = 0;
    for (struct link *link = net->links; link != NULL; link = link->next)
        link_tick(link);
    if (net->accept_pause > 0 && --net->accept_pause == 0)
        accept_resume(net);
    net->dirty = true;
}

/* ---- open, close ---- */

static enum tide_status check_options(const struct net_options *options, struct err *err)
{
    if (options->self == 0 || options->self > MEMBER_ID_MAX)
        return err_set(err, TIDE_E_INVALID, "%" PRIu64 " cannot be the id of a member", options->self);
    if (!cluster_uid_valid(options->cluster))
        return err_set(err, TIDE_E_INVALID, "\"%s\" is not the uid of a cluster", options->cluster);
    int files = (options->ca != NULL) + (options->cert != NULL) + (options->key != NULL);
    if (files != 0 && files != 3)
        return err_set(err, TIDE_E_INVALID, "TLS needs all three: the CA's certificate, this member's certificate, its key");
    return TIDE_OK;
}

static void start_handles(struct net *net)
{
    uv_loop_t *loop = net->options.loop;
    uv_timer_init(loop, &net->tick);
    uv_prepare_init(loop, &net->prepare);
    uv_check_init(loop, &net->check);
    uv_idle_init(loop, &net->idle);
    net->tick.data = net->prepare.data = net->check.data = net->idle.data = net;
    net->open += 4;
    uv_timer_start(&net->tick, on_tick, NET_TICK_MS, NET_TICK_MS);
    uv_prepare_start(&net->prepare, on_prepare);
    uv_check_start(&net->check, on_check);
}

enum tide_status net_open(const struct net_options *options, struct net **ret_net, struct err *err)
{
    enum tide_status status = check_options(options, err);
    if (status != TIDE_OK)
        return status;
    struct net *net = mem_alloc(sizeof *net);
    net->options = *options;
    text_copy(net->cluster, sizeof net->cluster, options->cluster);
    net->rng.state = rng_entropy();
    net->epoch = EPOCH_UNKNOWN;
    if (options->ca != NULL)
        status = net_tls_open(options, &net->tls, err);
    if (status == TIDE_OK)
        status = accept_open(net, options->listen, err);
    if (status != TIDE_OK) {
        SSL_CTX_free(net->tls);
        mem_free(net);
        return status;
    }
    /* Whose memory is the caller's. */
    net->options.cluster = net->options.listen = net->options.ca = net->options.cert = net->options.key = NULL;
    start_handles(net);
    *ret_net = net;
    return TIDE_OK;
}

const char *net_address(const struct net *net)
{
    return net->address;
}

void net_let_go(struct net *net)
{
    if (--net->open > 0)
        return;
    while (net->peers != NULL)
        peer_free(&net->peers);
    SSL_CTX_free(net->tls);
    close(net->listen_fd);
    mem_free(net);
}

static void on_closed(uv_handle_t *handle)
{
    net_let_go(handle->data);
}

void net_close(struct net *net)
{
    if (net == NULL || net->closing)
        return;
    net->closing = true;
    net_flush(net);
    for (struct net_peer *peer = net->peers; peer != NULL; peer = peer->next)
        dial_cancel(peer);
    for (struct link *link = net->links; link != NULL; link = link->next)
        link_close(link);
    uv_close((uv_handle_t *)&net->listener, on_closed);
    uv_close((uv_handle_t *)&net->tick, on_closed);
    uv_close((uv_handle_t *)&net->prepare, on_closed);
    uv_close((uv_handle_t *)&net->check, on_closed);
    uv_close((uv_handle_t *)&net->idle, on_closed);
}

/* ---- for people ---- */

static void fill_status(const struct net_peer *peer, struct net_status *to)
{
    uint64_t now = net_now_ms();
    *to = (struct net_status){.id = peer->id,
                              .connected = peer->up != NULL,
                              .level = peer->level,
                              .connected_ms = peer->up ? now - peer->up->up_ms : 0,
                              .contact_ms = peer->contact_ms ? now - peer->contact_ms : 0,
                              .queued_bytes = peer->up ? peer->up->out.bytes : 0,
                              .messages_sent = peer->messages_sent,
                              .messages_received = peer->messages_received,
                              .bytes_sent = peer->bytes_sent,
                              .bytes_received = peer->bytes_received,
                              .cut_off = peer->cut_off};
    text_copy(to->address, sizeof to->address, peer->address);
    text_copy(to->error, sizeof to->error, peer->error);
}

size_t net_status(const struct net *net, struct net_status *ret_list, size_t room)
{
    size_t count = 0;
    for (const struct net_peer *peer = net->peers; peer != NULL && count < room; peer = peer->next)
        if (!peer->forgotten)
            fill_status(peer, &ret_list[count++]);
    return count;
}
