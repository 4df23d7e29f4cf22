/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_SERVER_MEMBER_H
#define COORDINATOR_SERVER_MEMBER_H

/* One member of the group: the Raft core, its log and snapshots on the disk, its connections to the other members. It has a
 * thread and a loop of its own, so that nothing its caller does can delay a heartbeat or an election. It knows bytes, not
 * what they command.
 *
 * The caller has a libuv loop: every callback comes on that loop's thread, in the order in which things were decided, and
 * never from within a call. Calls come from that thread, except where said.
 *
 * A disk that fails ends the process: what had been promised is on the disk, what was not is not answered. */

#include <uv.h>

#include "ckpt/wire/node.h"
#include "coordinator/disk/snapshot.h"
#include "coordinator/raft/raft.h"

#define MEMBER_PROPOSALS_MAX 4096u /* not yet decided; more are refused */
#define MEMBER_UNKNOWN_MS                                                                                                   \
    1000u                        /* after its leadership was lost, a proposal may still turn out to be done; then: unknown  \
                                  */
#define MEMBER_TRANSFER_MS 1000u /* leadership is handed over by then, or it stays */
#define MEMBER_NOTES_MAX 65536u  /* for the caller, not yet taken; beyond it nothing new is taken in */
#define MEMBER_BATCH_MAX 512u    /* proposals taken in together */

struct member;

/* A committed entry. */
struct member_entry {
    uint64_t index, term;
    uint32_t type;          /* enum raft_entry_type */
    struct raft_blob *blob; /* a reference, now the callee's; NULL: no bytes */
    void *cookie;           /* of the proposal or change this is the end of; NULL: somebody else's */
};

struct member_turn {
    unsigned role;                  /* enum raft_role */
    uint64_t term, leader;          /* leader 0: unknown */
    bool ready;                     /* leads, and all that was committed before its time has been handed over */
    char api[RAFT_ADDRESS_MAX + 1]; /* of the leader, as the configuration has it */
    uint64_t later; /* not 0: the group was recovered without this member, and is of this epoch (identity.h) */
};

struct member_calls {
    void (*committed)(void *context, const struct member_entry *entry);
    /* The end of a proposal, change or transfer. OK: only of a transfer. UNAVAILABLE: certainly not done. TIMEOUT: unknown.
     * Others: a change was refused, and why. */
    void (*failed)(void *context, void *cookie, enum tide_status status, const struct err *err);
    /* Permitted: answer; everything up to the index it was permitted at has been handed over. Else: does not lead. */
    void (*read)(void *context, void *cookie, bool permitted);
    /* On a thread of the disk: what the snapshot says, for `restored`. Also called by member_open. NULL: it cannot be read.
     */
    void *(*parse)(void *context, const struct snapshot *snapshot, struct err *err);
    /* The state is now this one, of the snapshot `index`; what was parsed is the callee's. */
    void (*restored)(void *context, void *parsed, uint64_t index, uint64_t term, const struct raft_config *config);
    void (*drop)(void *context, void *parsed); /* on any thread: it is not needed after all */
    /* The image of that index, which others need, cannot be read any more: another one should be written. NULL: it will not. */
    void (*image_lost)(void *context, uint64_t index);
    void (*turned)(void *context, const struct member_turn *turn);
    void (*stopped)(void *context); /* after member_stop, the last of all */
};

struct member_options {
    uv_loop_t *loop;
    const char *data;
    const char *cluster;                      /* uid; NULL: whatever the directory says, and a new cluster if it is empty */
    uint64_t id;                              /* with `cluster` */
    const struct raft_config *founders;       /* count 0: starts empty and waits to be added; NULL: this one alone */
    const char *peer_listen;                  /* NULL: without a network */
    uint32_t level;                           /* that the caller knows; the other members are told */
    const char *ca, *cert, *key;              /* all NULL: plain, loopback only */
    uint32_t election_ticks, heartbeat_ticks; /* 0: the defaults */
    uint64_t segment_bytes;                   /* of the log; 0: the default */
    const struct member_calls *calls;
    void *context;
};

/* Lock the directory, load the newest snapshot (`parse`, then `restored`, from within), read the log. An empty directory
 * becomes that of this member. Nothing moves before member_start. Errors: CONFLICT (in use; of another cluster or member;
 * left behind by a recovery), VERSION, CORRUPT, IO, NOSPACE, and those of net_open. */
MUST_USE enum tide_status member_open(const struct member_options *options, struct member **ret_member, struct err *err);
void member_start(struct member *member);
/* Say goodbye: what is under way is finished or fails, then `stopped`. With `hand_over` a leader first makes another one
 * lead, for at most MEMBER_TRANSFER_MS. */
void member_stop(struct member *member, bool hand_over);
void member_close(struct member *member); /* before member_start or after `stopped`; NULL is legal */

uint64_t member_id(const struct member *member);
const char *member_cluster(const struct member *member);
const char *member_data(const struct member *member);
const char *member_address(const struct member *member); /* for peers; empty: none */

/* Errors: UNAVAILABLE (too many under way). Later exactly one of `committed` and `failed` names the cookie. The blob stays
 * the caller's. */
MUST_USE enum tide_status member_propose(struct member *member, struct raft_blob *blob, void *cookie, struct err *err);
/* All that are asked for in one turn share a round of heartbeats. Errors: UNAVAILABLE. */
MUST_USE enum tide_status member_read(struct member *member, void *cookie, struct err *err);

enum member_change { MEMBER_ADD, MEMBER_PROMOTE, MEMBER_REMOVE, MEMBER_UPDATE, MEMBER_TRANSFER };
/* ADD and UPDATE take all of `who`, the others its id; a transfer to 0: to whom is furthest. Ends as a proposal does. */
void member_change(struct member *member, enum member_change change, const struct raft_member *who, void *cookie);

/* Any thread, one at a time: write an image of the state and let the log go that it makes superfluous.
 * Errors: LIMIT, NOSPACE, IO. */
MUST_USE enum tide_status member_save_image(struct member *member, const struct snapshot *snapshot, struct err *err);

struct member_status {
    struct raft_status raft;
    struct raft_config config;
    uint64_t log_bytes, free_bytes; /* on the disk */
    uint64_t sync_us, sync_us_max;  /* the last write of the log, and the longest so far */
    uint64_t sync_ns;               /* … when the last was done, by the monotonic clock */
    uint64_t syncing_ns;            /* when one began that is not done yet; 0: none */
    struct member_link {
        uint64_t id;
        bool connected;
        uint32_t level;      /* that its version knows */
        uint64_t contact_ms; /* since it was last heard; UINT64_MAX: never */
        uint64_t queued_bytes;
        char error[TIDE_TEXT_MAX + 1];
    } links[RAFT_MEMBERS_MAX];
    size_t link_count;
};
/* A copy, at most a tick old. */
void member_get_status(struct member *member, struct member_status *ret_status);
/* Bytes that may still be written to the file system of the data directory; for refusing in time. */
uint64_t member_free_bytes(const struct member *member);
/* Have the disk look at once how much room there is. */
void member_look_at_disk(struct member *member);

#endif
