/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_SERVER_REPLICA_H
#define COORDINATOR_SERVER_REPLICA_H

/* One member's copy of the state, and the commands that change it. A command that is proposed is written down, agreed on by
 * the group, applied in log order, and only then answered. Runs on its loop's thread; the member below it (member.h) and the
 * images of the state have threads of their own. */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "coordinator/core/core.h"
#include "coordinator/server/member.h"

#define SNAPSHOT_EVERY 4096u                      /* entries */
#define SNAPSHOT_EVERY_BYTES (UINT64_C(64) << 20) /* … or so many bytes of them */
#define APPLY_BUDGET_NS (5 * UINT64_C(1000000))   /* of one turn of the loop; the rest in the next */

struct replica;

struct replica_options {
    uv_loop_t *loop;
    struct member_options member;   /* loop, calls and context are filled in */
    uint64_t snapshot_every;        /* 0: SNAPSHOT_EVERY */
    void (*applied)(void *context); /* after each batch, when all its proposers have been told */
    void (*turned)(void *context, const struct member_turn *turn); /* everything decided before it has been applied */
    void (*stopped)(void *context);
    void *context;
};

/* The state is that of the newest snapshot; what is behind it in the log is applied when the group says so.
 * Errors: as member_open. */
MUST_USE enum tide_status replica_open(const struct replica_options *options, struct replica **ret_replica, struct err *err);
void replica_start(struct replica *replica);
/* Take no more proposals; with `hand_over` have another member lead. Then `stopped`. */
void replica_stop(struct replica *replica, bool hand_over);
void replica_close(struct replica *replica); /* before start or after `stopped`; NULL is legal */

/* Changes only inside callbacks. */
const struct state *replica_state(const struct replica *replica);
struct member *replica_member(struct replica *replica);
/* As of the last callback. */
/* Encoded configuration as of the last applied entry; another blob when it is another. NULL: nobody is in the group.
 * Borrowed: who keeps it takes a reference. */
struct raft_blob *replica_config(struct replica *replica);
const struct member_turn *replica_turn(const struct replica *replica);
static inline bool replica_leads(const struct replica *replica)
{
    return replica_turn(replica)->ready;
}

/* How a command ended: TIDE_OK, or the status and words of the refusal. `outcome` is that of apply, NULL when it was not
 * applied: UNAVAILABLE then says certainly not, TIMEOUT unknown. */
typedef void replica_done(void *arg, enum tide_status status, const struct outcome *outcome, const struct err *err);

/* `command` is read, stamped with the time and written down; it stays the caller's. `done` comes later, exactly once, if
 * this returns OK. With `own` the command is the leader's own verdict and may use the last of the disk's reserve.
 * Errors: UNAVAILABLE (does not lead, too many in flight, disk nearly full, stopping), INVALID, LIMIT. */
MUST_USE enum tide_status replica_propose(struct replica *replica, const struct command *command, bool own,
                                          replica_done *done, void *arg, struct err *err);
/* A change of the group, or a transfer of its leadership; ends as a command does, with an outcome when it was committed. */
MUST_USE enum tide_status replica_change(struct replica *replica, enum member_change change, const struct raft_member *who,
                                         replica_done *done, void *arg, struct err *err);

/* `permitted`: the state is now not older than when this was asked. Else this member does not lead. Comes later, exactly
 * once, if this returns OK. Errors: UNAVAILABLE. */
typedef void replica_ready(void *arg, bool permitted);
MUST_USE enum tide_status replica_read(struct replica *replica, replica_ready *ready, void *arg, struct err *err);

/* Have an image of the present state written, if there is none of it yet; `written` says the index of the newest one. */
typedef void replica_written(void *arg, uint64_t index, const struct err *err);
void replica_image(struct replica *replica, replica_written *written, void *arg);

struct replica_status {
    uint64_t applied_index, snapshot_index;
};
void replica_status(const struct replica *replica, struct replica_status *ret_status);

#endif
