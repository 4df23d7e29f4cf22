/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_BOOKMARK_H
#define AGENT_STEP_BOOKMARK_H

/* At a record each rank says how many messages it has sent on each of its channels (struct control_channel), its bookmarks;
 * ranks that receive messages wait for those of all ranks. A step has what its own ranks say, and asks the others for what
 * theirs say, as soon as one of its ranks waits. Frames may be lost, repeated and reordered: a question is asked again until
 * it is answered or nobody waits, and an answer that comes twice does no harm.
 *
 *   rank → its step   give (cut, attempt, channels), and perhaps: ask until a deadline
 *   step → step       MESH_MARKS_ASK (cut, attempt) → MESH_MARKS (cut, attempt, channels), when all of its ranks have given
 *
 * One record at a time: whatever belongs to an older one is passed over. Knows no socket, file or clock. */

#include "agent/step/link.h"
#include "ckpt/wire/local.h"

#define BOOKMARK_RESEND_MS 500u

struct bookmark_key {
    uint64_t cut;
    uint32_t attempt;
};

struct bookmark_ops {
    void *context;
    /* Hand a frame (borrowed) to the agent; false: not now. */
    bool (*send)(void *context, const struct mesh_frame *frame);
    /* To a rank of this node that waits: OK, all are here; else why not. */
    void (*answer)(void *context, uint32_t rank, enum tide_status status, const char *why);
};

struct bookmarks;
/* `spec` is borrowed for their life. */
struct bookmarks *bookmarks_create(const struct step_spec *spec, const struct bookmark_ops *ops);
void bookmarks_free(struct bookmarks *marks); /* NULL is legal */

/* Of a rank of this node; at most CONTROL_CHANNELS_MAX channels. */
void bookmarks_give(struct bookmarks *marks, uint32_t rank, struct bookmark_key key, const struct control_channel *channels,
                    size_t count);
/* That rank, which has given its own, waits until deadline_ns. */
void bookmarks_ask(struct bookmarks *marks, uint32_t rank, struct bookmark_key key, uint64_t deadline_ns, uint64_t now_ns);
void bookmarks_forget(struct bookmarks *marks, uint32_t rank); /* it does not wait any more */
/* Of what is here: channels that lead to these members, up to `room`; returns how many there are. */
size_t bookmarks_to(const struct bookmarks *marks, const struct control_member *members, size_t member_count,
                    struct control_channel *to, size_t room);
/* A frame from another node. One that is not of this generation, or not for this node, is passed over. */
void bookmarks_frame(struct bookmarks *marks, const struct mesh_frame *frame);
/* The agent's connection is new: open questions are due at once. */
void bookmarks_reconnected(struct bookmarks *marks);
/* Ask again what is due, give up what is late. Call it every BOOKMARK_RESEND_MS / 5 or so while not settled. */
void bookmarks_pump(struct bookmarks *marks, uint64_t now_ns);
bool bookmarks_settled(const struct bookmarks *marks); /* no rank of this node waits */

#endif
