/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_NET_NET_H
#define COORDINATOR_NET_NET_H

/* Messages between the members of a coordinator group, over TCP and TLS 1.3 with certificates on both sides, on a libuv loop
 * that is handed in. Knows nothing of what the messages say.
 *
 * A message is sent once or not at all, and messages to a peer leave in order. Nothing here waits and nothing is kept for a
 * peer that is not there: the protocol above repeats what matters.
 *
 * Everything runs on the loop's thread. No callback comes from within a call of net_*. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "ckpt/base/err.h"
#include "ckpt/wire/node.h"

#define NET_MESSAGE_MAX (8u << 20)      /* bytes of a message */
#define NET_QUEUE_BYTES_MAX (32u << 20) /* not yet taken by one peer: above it the peer is cut off */
#define NET_PEERS_MAX 32u
#define NET_PENDING_MAX 64u    /* incoming connections that have not proved who they are; the oldest goes */
#define NET_HANDSHAKE_MS 2000u /* connection opened -> both sides have proved who they are */
#define NET_SILENCE_MS 2000u   /* nothing heard for so long: the link is dead */
#define NET_PING_MS 500u       /* nothing sent for so long: a sign of life */
#define NET_BACKOFF_MIN_MS 50u /* before the first new try; doubles, with jitter */
#define NET_BACKOFF_MAX_MS 2000u

struct net;

struct net_options {
    uv_loop_t *loop;
    uint64_t self;       /* id of this member, > 0 */
    uint32_t tag;        /* of this member's data: two under one id differ in it; 0: not told */
    uint32_t level;      /* that this member's version knows; peers are told, and it means nothing here */
    const char *cluster; /* TIDE_UID_CHARS hex digits */
    const char *listen;  /* "host:port", "[::1]:port"; port 0: any free one */
    /* PEM files: the cluster's CA, this member's certificate (chain) and key. All NULL: neither encryption nor proof, and
     * then only loopback addresses are listened on or dialled. */
    const char *ca, *cert, *key;
    void *context;
    void (*on_message)(void *context, uint64_t from, const void *data, size_t bytes); /* data: valid within the call */
    /* The peer can be sent to; it can no more. What was sent shortly before may be lost. */
    void (*on_up)(void *context, uint64_t peer);
    void (*on_down)(void *context, uint64_t peer, const char *why);
    /* A peer that was named has proved who it is, and is of a later epoch: this member was left behind. May be NULL. */
    void (*on_later)(void *context, uint64_t peer, uint64_t epoch);
    /* May this one in, whom net_peer never named? NULL: all may. */
    bool (*admits)(void *context, uint64_t stranger);
};

/* Listen. Options are copied. SIGPIPE is not raised. Errors: INVALID (address, uid, certificate that is not this member's),
 * DENIED (not loopback and no TLS; port), CONFLICT (port in use), IO. */
MUST_USE enum tide_status net_open(const struct net_options *options, struct net **ret_net, struct err *err);
/* host:port really bound. */
const char *net_address(const struct net *net);
/* No callback comes any more; the memory goes with the loop's next turns. NULL is legal. */
void net_close(struct net *net);

/* A member and where it listens: it is dialled until it is there, and again whenever it was lost. Errors: INVALID (address,
 * own id), DENIED (not loopback and no TLS), LIMIT. */
MUST_USE enum tide_status net_peer(struct net *net, uint64_t id, const char *address, struct err *err);
/* No member any more: closed, neither dialled nor let in again until net_peer names it. Unknown ids are legal. Members that
 * were never named are let in if `admits` says so: one that joins, or is behind, learns from them who the others are. */
void net_forget(struct net *net, uint64_t id);
/* `admits` may say something else now: close those that would not be let in any more. */
void net_admit_again(struct net *net);

/* The recovery epoch (wire/identity.h) of this member's data; EPOCH_UNKNOWN, as it is at first: it has none yet. Whoever
 * says another one is refused, and is no longer connected. */
void net_epoch(struct net *net, uint64_t epoch);

/* One piece of a message, behind its head. With `release` the piece is not copied: the reference `owner` is taken over and
 * released when the bytes are no longer needed, on every way out. */
struct net_part {
    const void *data;
    size_t bytes;
    void *owner;
    void (*release)(void *owner);
};

/* The message is head and parts, one behind the other. Never waits; goes out at the end of this turn of the loop, with all
 * that is sent until then. UNAVAILABLE: not connected. LIMIT: too large a message, or the peer does not take what it is sent
 * and is being cut off. In both cases the message is dropped. */
enum tide_status net_send(struct net *net, uint64_t to, const void *head, size_t head_bytes, const struct net_part *parts,
                          size_t count);
/* Send now what waits for the end of the turn. */
void net_flush(struct net *net);

/* For people. Ages are 0 when it never happened. */
struct net_status {
    uint64_t id;
    char address[ADDRESS_MAX + 1]; /* empty: it came to us, and was never named */
    bool connected;
    uint32_t level;        /* that its version knows, as it said when it connected */
    uint64_t connected_ms; /* for so long */
    uint64_t contact_ms;   /* the last frame came so long ago, now or on an earlier connection */
    size_t queued_bytes;   /* not yet taken */
    uint64_t messages_sent, messages_received, bytes_sent, bytes_received;
    uint64_t cut_off;              /* how often it was too slow */
    char error[TIDE_TEXT_MAX + 1]; /* of the last failure; empty: none since it is connected */
};

/* Fill up to `room` of `ret_list`, ordered by id; returns how many. */
size_t net_status(const struct net *net, struct net_status *ret_list, size_t room);

#endif
