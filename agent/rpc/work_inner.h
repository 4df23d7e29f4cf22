/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_WORK_INNER_H
#define AGENT_RPC_WORK_INNER_H

/* Shared by work.c (what waits, runs and is done) and work_store.c (what is done with a store). */

#include <pthread.h>

#include "agent/rpc/across.h"
#include "agent/rpc/copy.h"
#include "agent/rpc/work.h"
#include "ckpt/format/orphan.h"
#include "ckpt/stage/stage.h"

#define STORES_MAX 16u
#define ARENA_MODE 0755

/* One action with copies of all it needs: the order it came from may change meanwhile. */
struct item {
    uv_work_t request;
    struct item *next;
    struct work *work;
    unsigned kind;
    struct agent_event event; /* the answer; uid, rank, slot and cut are set from the start */
    char arena[TIDE_PATH_MAX + 1];
    char job[TIDE_NAME_MAX + 1];
    char store[TIDE_PATH_MAX + 1];
    char manifest_key[TIDE_PATH_MAX + 1], manifest[DIGEST_HEX_CHARS + 1];
    uint32_t world; /* ranks of the generation; 0: not known */
    bool elastic;
    struct cut_order order; /* COMMIT only */
    bool share;               /* STORE only: with other ranks of this node … */
    struct across_plan *plan; /* … and with other nodes; NULL: not. What follows is of its second half */
    struct shared_writer *present; /* claims nothing */
    struct across_cut *across;
    struct stage_storing *storing;
    struct open_store *open;
    bool aside; /* others are to tell something first */
    struct copy_source source; /* COPY, FETCH from a peer */
    uint32_t tier;             /* FETCH only */
    struct orphan_rule sweep; /* PURGE of cut 0 only */
    uint64_t *live, *over;    /* … its lists */
    struct agent_held *held;
};

/* Opened once and used by all threads: jobs come back to the same store. One that nobody uses makes room for another. */
struct open_store {
    char url[TIDE_PATH_MAX + 1];
    struct store *store; /* NULL: free, or being opened */
    unsigned users;
    bool stale;    /* its URL leads somewhere else by now: closed with its last user */
    uint64_t used; /* when last, by work->uses */
};

/* What may hang for ever, by what it hangs on. */
enum lane_kind { LANE_STORE, LANE_PEER, LANES };

struct lane {
    unsigned running, most;    /* items on threads now */
    struct item *first, *last; /* … and those that wait */
};

struct work {
    uv_loop_t *loop;
    void (*done)(void *context, const struct agent_event *event);
    void *context;
    bool closed;
    unsigned running;          /* items on threads now */
    struct lane lanes[LANES];
    char arenas[TIDE_PATH_MAX + 1];
    uint64_t arena_bytes_max;
    struct across *across;     /* NULL: nothing is stored together with other nodes */
    uint32_t share_nodes;
    struct item *aside; /* that wait, on no thread */
    uv_timer_t again;   /* when they look again; its data is NULL until it is used */
    pthread_mutex_t lock;      /* stores */
    struct open_store stores[STORES_MAX];
    uint64_t uses;
};

/* On a worker thread. What the item's kind does with its store; a STORE may end `aside`, and is to be done again then. */
MUST_USE enum tide_status work_use_store(struct item *item, struct err *err);
/* What a rank's storing holds between its two halves. */
void work_let_go(struct item *item);
/* With whom this node stores together: heap memory. NULL: with nobody; nor what another generation recorded, since who holds what of it
 * is not told by the places of its nodes. */
struct across_plan *work_plan(const struct item *item, const struct assignment *order);

#endif
