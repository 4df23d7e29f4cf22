/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_EXCHANGE_H
#define AGENT_STEP_EXCHANGE_H

/* PMIx data between the steps of a generation: allgathers (fences) and single requests (direct modex), as mesh frames
 * that the agents relay. Agents may drop, repeat and reorder frames and may be restarted at any time, so delivery is made
 * sure here, end to end: what was not acknowledged is sent again, what was seen before is acknowledged again.
 *
 * Knows no libpmix call, socket or clock: frames, answers and the time go in and out through `exchange_ops`. */

#include "agent/step/link.h"

#define EXCHANGE_RESEND_MS 500u
#define EXCHANGE_MODEX_DEADLINE_MS 60000u /* a request nobody answers by then fails with PMIX_ERR_TIMEOUT */
#define EXCHANGE_FENCES_MAX 64u           /* open at a time; frames of more are not taken, and come again */
#define EXCHANGE_LISTS_MAX 1024u          /* different process lists that fences were made over */
#define EXCHANGE_MODEX_MAX 4096u          /* requests open at a time, of our ranks and of others */

struct exchange_ops {
    void *context;
    /* Hand a frame (borrowed) to the agent; false: not now. */
    bool (*send)(void *context, const struct mesh_frame *frame);
    /* Answer a rank's fence or modex request. `data` (heap, or NULL) becomes the callee's. Once per request. */
    void (*answer)(void *context, void *request, int32_t status, char *data, size_t bytes);
    /* Ask for the data of a rank of this node; exchange_fetched(key) brings it. A nonzero pmix status: impossible. */
    int32_t (*fetch)(void *context, uint64_t key, uint32_t rank);
};

struct exchange;
/* `spec` is borrowed for the exchange's life. */
struct exchange *exchange_create(const struct step_spec *spec, const struct exchange_ops *ops);
void exchange_free(struct exchange *exchange); /* NULL is legal; open requests are not answered */

/* All local participants of a fence have arrived. members[n]: node n takes part (borrowed; this node always does).
 * `list` names the set of processes. `data` (borrowed) is this node's contribution, void if status is not 0. */
void exchange_fence(struct exchange *exchange, void *request, uint64_t list, const bool *members, int32_t status,
                    const void *data, size_t bytes, uint64_t now_ns);

/* A local rank asks for the data of `rank`, which runs on another node. */
void exchange_modex(struct exchange *exchange, void *request, uint32_t rank, uint64_t now_ns);

/* The data asked for by ops.fetch (borrowed). Keys answered already are passed over. */
void exchange_fetched(struct exchange *exchange, uint64_t key, int32_t status, const void *data, size_t bytes);

/* A rank of this node is gone: libpmix never answers for it, so we do. */
void exchange_rank_gone(struct exchange *exchange, uint32_t rank);

/* A frame from another node. One that is not of this generation, or not for this node, is passed over. */
void exchange_frame(struct exchange *exchange, const struct mesh_frame *frame, uint64_t now_ns);

/* The agent's connection is new: everything unacknowledged is due at once. */
void exchange_reconnected(struct exchange *exchange);

/* Send what is due. Call it every EXCHANGE_RESEND_MS / 5 or so while not settled. */
void exchange_pump(struct exchange *exchange, uint64_t now_ns);

/* Nothing is open, and everything said was acknowledged. */
bool exchange_settled(const struct exchange *exchange);

#endif
