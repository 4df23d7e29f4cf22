/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_STEPS_H
#define AGENT_RPC_STEPS_H

/* The step processes of this node: started detached, so that they outlive the agent; found again by their directories;
 * spoken to over agent.sock; gone only when the step and everything it has started are. */

#include <uv.h>

#include "agent/core/core.h"
#include "agent/rpc/dirs.h"
#include "agent/rpc/pages.h"

#define STEP_CONNECT_MS 20u           /* between tries to reach agent.sock */
#define STEP_GONE_CHECK_MS 5u         /* between looks whether anything of a dead step is left; doubles … */
#define STEP_GONE_CHECK_MS_MAX 320u   /* … up to this */
#define STEP_QUEUE_BYTES_MAX (8u << 20) /* not taken by a step: cut off and connected anew */
#define STEP_FRAMES_KEPT_MAX 256u     /* for a step that is not up yet */

struct steps_hooks {
    void *context;
    void (*event)(void *context, const struct agent_event *event);
    /* A frame a step wants carried to frame->to. */
    void (*mesh)(void *context, const struct step_spec *spec, const struct mesh_frame *frame);
};

struct steps;
/* node: this node's name. The limit of open files that holds at this moment is what steps and ranks will get. */
struct steps *steps_create(uv_loop_t *loop, const struct dirs *dirs, const char *node, const char *program,
                           const struct steps_hooks *hooks);
/* Connections are closed, processes stay. The loop must run until the handles are closed. */
void steps_close(struct steps *steps);
void steps_free(struct steps *steps);

/* Take over what an earlier agent has left: EV_STEP_FOUND, EV_STEP_STATUS and, sooner or later, EV_STEP_GONE for each. */
void steps_adopt(struct steps *steps);

/* Write its directory and start it. The spec has moved into `steps` on success.
 * Errors: EXEC, EXISTS, IO, NOSPACE; nothing of it is left then. */
MUST_USE enum tide_status steps_start(struct steps *steps, struct step_spec *spec, struct err *err);
void steps_end(struct steps *steps, const char *uid, uint64_t generation, uint64_t grace_ms);
/* STEP_LEAVE, as soon as it can be spoken to. */
void steps_leave(struct steps *steps, const char *uid, uint64_t generation);
/* Have the step of generation `from`, which has left it, go over to that of the spec, which moves into `steps` on success; its
 * directory and control group stay those of the step. Errors: STATE (there is no such step), UNAVAILABLE, IO, NOSPACE. */
MUST_USE enum tide_status steps_go_over(struct steps *steps, uint64_t from, struct step_spec *spec, struct err *err);
void steps_kill(struct steps *steps, const char *uid, uint64_t generation);
void steps_answer(struct steps *steps, const char *uid, uint64_t generation, const struct step_answer *answer);
void steps_widen(struct steps *steps, const char *uid, uint64_t generation);
/* Only after EV_STEP_GONE. */
void steps_remove_dir(struct steps *steps, const char *uid, uint64_t generation);

/* EV_PAGE for every rank that has one. */
void steps_look(struct steps *steps);
enum agent_arm_outcome steps_arm(struct steps *steps, const struct agent_action *action, uint64_t *ret_step);
void steps_disarm(struct steps *steps, const struct agent_action *action);
void steps_epochs(struct steps *steps, const struct agent_action *action);

/* From a peer: given to its step if uid, generation and token are those of one, kept for a while if that is not up yet. pin: of the key
 * that whoever sent it has shown, empty if none; it must be that of the node, if that has one. True: it is for a step
 * here, and who sent it has shown all that is to be shown. */
bool steps_frame(struct steps *steps, const struct mesh_frame *frame, const char *pin);
/* Where the ranks' agents are now: an agent that was restarted may have another port. */
void steps_peers(struct steps *steps, const struct assignment *assignment);

bool steps_running(struct steps *steps, const char *uid, uint64_t generation);
bool steps_running_any(struct steps *steps, const char *uid); /* of whatever generation */

#endif
