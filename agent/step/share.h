/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_SHARE_H
#define AGENT_STEP_SHARE_H

/* tide_share: a rank gives a few bytes under a name, and any other rank of its generation asks for them. The step of the
 * rank that gives keeps them for as long as the generation runs; the step of a rank on another node asks that step, by mesh
 * frames. Frames may be lost, repeated and reordered: a question is asked again until it is answered or late, and an answer
 * that comes twice does no harm.
 *
 *   rank → its step        give (name, bytes) | ask (rank that gives, name)
 *   step → step            MESH_SHARE_ASK (id, rank, name) → MESH_SHARE_REPLY (id, bytes), as soon as it was given
 *
 * Knows no socket or clock: frames, answers and the time go in and out through `share_ops`. */

#include "agent/step/link.h"

#define SHARE_RESEND_MS 500u
#define SHARE_ASKED_MAX 4096u /* by other nodes, of what is not given yet */

struct share_value {
    uint32_t rank; /* that gives it */
    char name[TIDE_NAME_MAX + 1];
    uint32_t bytes;
    unsigned char data[TIDE_SHARE_BYTES_MAX];
};

struct share_ops {
    void *context;
    /* Hand a frame (borrowed) to the agent; false: not now. */
    bool (*send)(void *context, const struct mesh_frame *frame);
    /* Answer the question of a rank of this node; value is NULL unless the status is OK. */
    void (*answer)(void *context, uint32_t rank, enum tide_status status, const struct share_value *value);
};

struct share;
/* `spec` is borrowed for the share's life. */
struct share *share_create(const struct step_spec *spec, const struct share_ops *ops);
void share_free(struct share *share); /* NULL is legal */

/* Errors: EXISTS (given before, and other bytes), LIMIT. */
MUST_USE enum tide_status share_give(struct share *share, const struct share_value *value);
/* Rank `asker` of this node wants `name` of rank `from`, until deadline_ns; a question it has open is forgotten. */
void share_ask(struct share *share, uint32_t asker, uint32_t from, const char *name, uint64_t deadline_ns, uint64_t now_ns);
void share_forget(struct share *share, uint32_t asker); /* it does not ask any more */
/* A frame from another node. One that is not of this generation, or not for this node, is passed over. */
void share_frame(struct share *share, const struct mesh_frame *frame);
/* The agent's connection is new: open questions are due at once. */
void share_reconnected(struct share *share);
/* Ask again what is due, give up what is late. Call it every SHARE_RESEND_MS / 5 or so while not settled. */
void share_pump(struct share *share, uint64_t now_ns);
bool share_settled(const struct share *share); /* no rank of this node asks */

#endif
