/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_ACROSS_H
#define AGENT_RPC_ACROSS_H

/* What nodes of a job hold alike, one of them stores: this node's part in the storing of a cut. States, messages and what comes of every
 * failure: ../README.md, "What nodes hold alike". On worker threads, but for across_table. */

#include <stdbool.h>

#include "agent/rpc/slot_client.h"
#include "ckpt/format/spread.h"
#include "ckpt/stage/stage.h"

#define ACROSS_LOOK_S 10u      /* for the digests of all others … */
#define ACROSS_CONNECT_S 2u    /* … and to get a connection */
#define ACROSS_JOIN_S 1        /* for another rank that looks; then it is waited for on no thread */
#define ACROSS_POLL_MS 250u    /* between two questions to the same node */
#define ACROSS_ASK_S 10u       /* for the answer to one */
#define ACROSS_TRIES_MAX 3u    /* that bring no answer; then it is given up */
#define ACROSS_WAIT_MIN_S 5u   /* for others, since this node's last rank wrote its own, and twice what writing took; at most … */
#define ACROSS_WAIT_MAX_S 120u /* … so long: a fifth of what the leader waits for another shard */
#define ACROSS_CHUNKS_MAX (1u << 20) /* of this node; what is more is not shared with others */
#define ACROSS_KEPT 16u        /* cuts that are over here, for those who ask later … */
#define ACROSS_KEPT_OF_JOB 2u  /* … of one job */

/* Who takes part, as this node knows it: a group of nodes of one generation. */
struct across_plan {
    const char *arena, *job, *uid;
    uint64_t cut, generation;
    uint32_t node, nodes;    /* this one's place in the group, and how many there are */
    uint32_t first;          /* rank of the group */
    uint32_t ranks_per_node;
    struct copy_source peers[SPREAD_NODES_MAX]; /* but for this node's */
};

struct across;
struct across *across_create(void);
void across_free(struct across *across); /* NULL is legal; nobody has joined */

struct across_cut;
/* The first blocks for ACROSS_LOOK_S at most. NULL: no memory, or another of this job's cuts goes by that name: nothing is shared; or, with
 * ret_later, the first still looks: join again later. */
struct across_cut *across_join(struct across *across, const struct across_plan *plan, bool *ret_later);
void across_leave(struct across_cut *cut); /* NULL is legal */
/* As long as it has not left. */
const struct stage_across *across_ops(const struct across_cut *cut);
/* What that rank of this node had to write is durable, and told by `wrote`, or it failed. When all are over the table is shown. */
void across_over(struct across_cut *cut, uint32_t rank);
/* Nothing is waited for any more. May ask the others, for ACROSS_ASK_S each at most; false: ask again later. */
bool across_settled(struct across_cut *cut);

/* What this node shows to others: heap memory; NULL and 0: nothing yet. */
void across_table(struct across *across, const char *uid, uint64_t cut, uint64_t generation, void **ret_bytes, size_t *ret_count);

#endif
