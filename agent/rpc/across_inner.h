/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_ACROSS_INNER_H
#define AGENT_RPC_ACROSS_INNER_H

/* Shared by across.c (who holds what, and what is shown) and across_ask.c (what is asked of others). */

#include <pthread.h>

#include "agent/rpc/across.h"
#include "agent/rpc/shun.h"
#include "ckpt/base/digest_index.h"
#include "ckpt/format/manifest.h"

enum across_state {
    PEER_NONE, /* it has told nothing: it is asked for nothing */
    PEER_HOLDS, /* what it holds is known */
    PEER_WROTE, /* … and where that lies */
    PEER_GONE   /* … and it is not asked any more */
};

enum pack_look { PACK_UNKNOWN, PACK_THERE, PACK_MISSING };

struct across_node {
    struct copy_source source;
    enum across_state state;
    unsigned tries; /* questions without an answer */
    CURL *curl;     /* NULL: none yet */
    bool answered;  /* the last question, in whatever way … */
    uint64_t took_ns; /* … after so long */
    struct spread_table table; /* WROTE */
    unsigned char *packs;      /* … of each of its packs: enum pack_look; NULL: no memory for it */
};

/* A chunk of this node. */
struct across_chunk {
    struct digest digest;
    uint64_t lead;  /* of its run */
    uint32_t nodes; /* that hold it, this one among them */
};

struct across_cut {
    struct across_cut *next; /* newest first */
    struct across *across;
    struct stage_across ops;
    unsigned joined;
    enum { VIEW_NONE, VIEW_BEING_MADE, VIEW_MADE } view;
    char arena[TIDE_PATH_MAX + 1], job[TIDE_NAME_MAX + 1], uid[TIDE_UID_CHARS + 1];
    uint64_t cut, generation;
    uint32_t node, nodes, first, ranks_per_node;
    struct across_node peers[SPREAD_NODES_MAX];
    /* The view; while it is being made, of who makes it. */
    struct across_chunk *chunks;
    struct digest_index index;
    uint32_t count;
    bool worth;      /* others hold enough of it */
    uint32_t wanted; /* nodes that were chosen for something that is not written here */
    uint64_t began_ns; /* the view was made */
    uint64_t wrote_ns; /* a rank was over last */
    uint64_t waits_ns, asked_last_ns; /* since then; asked last */
    bool asking; /* somebody is */
    /* What is shown. */
    struct spread_table table;
    bool over[TIDE_LOCAL_RANKS_MAX];
    void *shown; /* NULL: not yet */
    size_t shown_bytes;
};

struct across_chunk *across_find_chunk(const struct across_cut *cut, struct digest digest);
struct spread_scope across_scope(const struct across_cut *cut, uint32_t node);

/* Ask all others what they hold; the view is complete then. */
void across_look(struct across_cut *cut);
/* Ask those of `nodes` where it lies. */
void across_ask(struct across_cut *cut, uint32_t nodes);
void across_hang_up(struct across_node *node);
pthread_mutex_t *across_lock(struct across_cut *cut);
/* Those that gave no answer, for all cuts. With the lock. */
struct shun *across_shun(struct across_cut *cut);

#endif
