/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_NET_INNER_H
#define COORDINATOR_NET_INNER_H

#include <openssl/ssl.h>

#include "ckpt/base/rng.h"
#include "ckpt/secure/tls.h"
#include "ckpt/wire/identity.h"
#include "coordinator/net/address.h"
#include "coordinator/net/frame.h"
#include "coordinator/net/net.h"
#include "coordinator/net/queue.h"
#include "coordinator/net/voice.h"

#define NET_TICK_MS 50u /* how often deadlines are looked at */
#define NET_TICKS(ms) ((ms) / NET_TICK_MS)
#define NET_LINGER_MS 500u         /* for the other side to take the reason of a refusal */
#define NET_TURN_BYTES (1u << 20)  /* read from, and written to, one link before others have their turn */
#define NET_READ_BYTES (64u << 10) /* buffer of a link that is up */
#define NET_EARLY_READ_BYTES 512u  /* … of one that is not */
#define NET_ACCEPTS_PER_TURN 16u
#define NET_SHAKES_PER_TICK 16u  /* TLS handshakes begun for callers: each costs some 0.5 ms of this thread */
#define NET_ACCEPT_PAUSE_MS 500u /* without descriptors */

/* An accepted link begins as WAITING, a dialled one as CONNECTING.
 *
 *   CONNECTING ──► SHAKING ──► GREETING ──► UP        dialled: says hello, waits for the answer
 *   WAITING ─────► SHAKING ──► GREETING ──► UP        accepted: waits for the hello, answers
 *                     any ───► LINGERING ──► CLOSED   has told why, waits until it is taken
 *                     any ───► CLOSED                 its memory goes with the next turn of the loop
 *
 * SHAKING is passed over without TLS. */
enum link_state { LINK_CONNECTING, LINK_WAITING, LINK_SHAKING, LINK_GREETING, LINK_UP, LINK_LINGERING, LINK_CLOSED };

struct net_peer;

struct link {
    struct net *net;
    struct net_peer *peer; /* accepted: NULL until it has said hello */
    struct link *next;
    uv_poll_t poll;
    int fd, events; /* what the loop is asked for */
    enum link_state state;
    bool dialled;
    bool dead;                    /* to be closed at the end of the turn, for `why` */
    bool held;                    /* WAITING: has called, and is heard in the next tick */
    bool read_more;               /* bytes wait that the loop will not tell of */
    bool want_write;              /* the socket took no more */
    char remote[ADDRESS_MAX + 1]; /* for people */
    char why[TIDE_TEXT_MAX + 1];
    SSL *ssl;                  /* NULL: plain, or not begun */
    struct cert_name cert;     /* what the other side has proved; its cluster is empty without TLS */
    uint64_t epoch;            /* of the other side, once it has said hello */
    unsigned age, heard, said; /* ticks since it was opened, since the last frame came, since one went */
    uint64_t up_ms;
    struct queue out;
    char *in;
    size_t in_begin, in_end, in_room;
};

struct net_peer {
    struct net_peer *next; /* by id */
    struct net *net;
    uint64_t id;
    char address[ADDRESS_MAX + 1]; /* empty: never named, came by itself */
    bool forgotten;                /* not let in */
    uint32_t tag;                  /* of its data, as it first said; 0: it has not */
    uint32_t level;                /* as it last said */
    struct link *dialled, *accepted;
    struct link *up; /* one of both, the first that came up: what is sent goes there */
    struct lookup *lookup;
    unsigned failures; /* to dial it, in a row */
    uint64_t dial_at_ms;
    uint64_t contact_ms;
    uint64_t messages_sent, messages_received, bytes_sent, bytes_received, cut_off;
    char error[TIDE_TEXT_MAX + 1];
    struct voice voice;
};

struct net {
    struct net_options options;
    char cluster[TIDE_UID_CHARS + 1];
    char address[ADDRESS_MAX + 1];
    uint64_t epoch; /* of this member; EPOCH_UNKNOWN: not known yet */
    SSL_CTX *tls;   /* NULL: plain */
    int listen_fd;
    uv_poll_t listener;
    uv_timer_t tick;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;        /* runs while a link has read_more */
    unsigned open;         /* handles, links and look-ups that still live */
    unsigned accept_pause; /* ticks */
    unsigned shakes;       /* begun in this tick */
    bool closing;
    bool dirty; /* a link has something to write or is dead */
    struct link *links;
    struct net_peer *peers;
    struct rng rng;
    struct voice voice; /* about those who are not known */
};

/* net.c */
uint64_t net_now_ms(void);
void net_let_go(struct net *net); /* one of `open` is gone */
struct net_peer *peer_find(const struct net *net, uint64_t id);
/* Made if need be. NULL: too many. */
struct net_peer *peer_make(struct net *net, uint64_t id);
/* A link that was the peer's has ended: tell, and plan the next try. */
void peer_lost(struct net_peer *peer, struct link *link);
/* The peer's link is up: tell. */
void peer_found(struct net_peer *peer, struct link *link);

/* dial.c */
void dial(struct net_peer *peer);
void dial_later(struct net_peer *peer);
void dial_cancel(struct net_peer *peer);

/* accept.c */
MUST_USE enum tide_status accept_open(struct net *net, const char *address, struct err *err);
void accept_resume(struct net *net);

/* link.c */
struct link *link_open(struct net *net, int fd, enum link_state state, struct net_peer *peer, const char *remote);
void link_frame(struct link *link, enum frame_type type, const void *data, size_t bytes);
/* To be closed at the end of the turn. */
void link_kill(struct link *link, const char *format, ...) PRINTF_LIKE(2, 3);
/* Say why, here and to the other side, and close. */
void link_refuse(struct link *link, const char *format, ...) PRINTF_LIKE(2, 3);
void link_close(struct link *link); /* now, without a word */
void link_tick(struct link *link);
void link_write(struct link *link);
void link_read(struct link *link);
void link_watch(struct link *link); /* ask the loop for what it needs now */
const char *link_name(const struct link *link, char room[ADDRESS_MAX + 64]);

/* greet.c: from a socket to a link that is up */
void greet_connected(struct link *link);
void greet_first_byte(struct link *link);
void greet_shake(struct link *link);
void greet_frame(struct link *link, const struct frame_head *head, const uint8_t *payload);
/* Of a link that is up: is the other side's data of this history, as far as both know theirs? Else it is refused. */
bool greet_same_epoch(struct link *link);
bool greet_admits(const struct net *net, uint64_t id);

/* tls.c */
/* Our own certificate, and the CA of the others'. */
MUST_USE enum tide_status net_tls_open(const struct net_options *options, SSL_CTX **ret_tls, struct err *err);

#endif
