/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_SERVER_REPLICA_H
#define COORDINATOR_SERVER_REPLICA_H

/* One member's copy of the state and the log it comes from. A command that is proposed is written, made durable together
 * with all others that wait, applied in log order, and only then answered. For now the group has one member, so what is
 * durable here is committed; nothing in this interface says so.
 *
 * Runs on the loop's thread; the disk is touched by one worker at a time. A disk error ends the process: what had been
 * promised is on the disk, what was not is not answered. */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "coordinator/core/core.h"

#define PROPOSALS_MAX 1024u                 /* waiting or being written; more are refused */
#define BATCH_BYTES_MAX (UINT64_C(4) << 20) /* of records that share one fdatasync */
#define SNAPSHOT_EVERY 4096u                /* records */

struct replica;

struct replica_options {
    uv_loop_t *loop;
    const char *data;               /* directory */
    const char *cluster;            /* uid; NULL: that of the directory, a random one if it is new */
    uint32_t member;                /* id; 0: that of the directory, 1 if it is new */
    uint64_t snapshot_every;        /* 0: SNAPSHOT_EVERY */
    void (*applied)(void *context); /* after each batch, when all its proposers have been told */
    void *context;
};

/* Lock the directory, load the newest snapshot, replay the log behind it. A directory that is empty or not there becomes
 * that of a new cluster. Errors: CONFLICT (in use, or of another cluster or member), VERSION, CORRUPT, IO, NOSPACE. */
MUST_USE enum tide_status replica_open(const struct replica_options *options, struct replica **ret_replica, struct err *err);
void replica_close(struct replica *replica); /* only when idle; NULL is legal */

/* Changes only inside `done` callbacks and `applied`. */
const struct state *replica_state(const struct replica *replica);
/* Uid of the cluster this directory belongs to, known before the first command. */
const char *replica_cluster(const struct replica *replica);

/* How a command ended: TIDE_OK, or the status and words of the refusal. `outcome` is that of apply. */
typedef void replica_done(void *arg, enum tide_status status, const struct outcome *outcome, const struct err *err);

/* `command` is read, stamped with the time and written down; it stays the caller's. `done` comes later, exactly once, if
 * this returns OK. With `own` the command is the leader's own verdict and may use the last of the disk's reserve.
 * Errors: UNAVAILABLE (too many in flight, disk nearly full, stopping), INVALID, LIMIT (does not fit into a record). */
MUST_USE enum tide_status replica_propose(struct replica *replica, const struct command *command, bool own,
                                          replica_done *done, void *arg, struct err *err);

/* Take no more proposals; `idle` is called, later, when none is in flight and no worker runs. */
void replica_stop(struct replica *replica, void (*idle)(void *context));

struct replica_status {
    uint64_t term, last_index, applied_index, log_bytes, snapshot_index;
};
void replica_status(const struct replica *replica, struct replica_status *ret_status);

#endif
