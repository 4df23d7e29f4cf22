/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_WORK_H
#define AGENT_RPC_WORK_H

/* What blocks, on libuv's worker threads: hashing slots, and all that touches the store or another agent's memory. A store that hangs may
 * hold up at most WORK_STORE_MAX threads, agents that do WORK_PEER_MAX; digests and looks into the arena always have the others. */

#include <uv.h>

#include "agent/core/core.h"

#define WORK_THREADS "12"
#define WORK_STORE_MAX 5u
#define WORK_PEER_MAX 4u

struct work;
struct across;
/* done: on the loop's thread, with the event that answers the action (borrowed). */
struct work *work_create(uv_loop_t *loop, void (*done)(void *context, const struct agent_event *event), void *context);
/* Where the jobs' arenas are, and how much all slots may take: until then nothing is copied. */
void work_arenas(struct work *work, const char *arenas, uint64_t arena_bytes_max);
/* So many nodes of a job store once what they hold alike, SPREAD_NODES_MAX at most; until then, and with 1, each stores all it holds. */
void work_share(struct work *work, uint32_t nodes);
/* What others are shown of that; NULL: nothing. As long as `work`. */
struct across *work_across(const struct work *work);
/* ACT_SUM, FIND, FETCH, COPY, UNCOPY, LOOK, STORE, COMMIT or PURGE. arena: of the job on this node. */
void work_start(struct work *work, const struct agent_action *action, const char *arena);
/* Something is being put into a store, got from it or deleted there, or waits for its turn. */
bool work_stores(const struct work *work);
/* Nothing new is begun; what runs is not waited for (it may hang in a store for ever). */
void work_close(struct work *work);
/* After the loop's last turn. What a thread still uses is left to the end of the process. */
void work_free(struct work *work);

/* All that a job's arena holds; items are heap memory. Blocks. */
void work_look(const char *arena, const char *job_uid, struct agent_held **ret_held, size_t *ret_count);

#endif
