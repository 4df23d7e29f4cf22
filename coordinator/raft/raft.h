/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_RAFT_RAFT_H
#define COORDINATOR_RAFT_RAFT_H

/* Raft as one step function: an event in, an update out (Ongaro and Ousterhout, "In Search of an Understandable Consensus
 * Algorithm", 2014; membership, PreVote, transfer and reads after Ongaro's dissertation, 2014). No clock, no chance but the
 * seed, no I/O: the caller counts ticks, carries messages and writes to disk, and tells when it has.
 *
 * The caller does with each update, in this order:
 *   1. queue `write` for the disk; writes are done in order, and RAFT_EV_PERSISTED names the last one that is durable
 *   2. send `messages`, at once: a message that promises something not yet durable is still held back inside
 *   3. restore the state machine from the snapshot if `restore` says so, then apply the entries up to `commit`
 *   4. answer `reads`; after `role_changed` away from leader, proposals not applied yet have an unknown outcome until another
 *      entry is committed in their place
 *   5. hand `chunk` to the disk, and answer with RAFT_EV_CHUNK_STORED or RAFT_EV_INSTALLED
 * Anything may be lost by a crash between any two of them, as long as a write is whole or not there and their order holds.
 *
 * After a failed write or sync the caller must stop for good: nothing here can undo a promise. */

#include "ckpt/base/rng.h"
#include "coordinator/raft/message.h"

#ifndef RAFT_LIMITS /* the simulator builds this with small ones, so that it meets each */
#define RAFT_WINDOW_MESSAGES 64u               /* appends to one peer that wait for their answer */
#define RAFT_WINDOW_BYTES (8u << 20)           /* … and their entries */
#define RAFT_UNCOMMITTED_MAX 8192u             /* entries a leader holds before it refuses more */
#define RAFT_UNCOMMITTED_BYTES_MAX (64u << 20) /* … */
#define RAFT_LOG_BYTES_MAX (256u << 20)        /* of entries kept in memory behind the last snapshot */
#define RAFT_TRAILING_ENTRIES 4096u            /* kept before the snapshot, for peers that are a little behind */
#define RAFT_TRAILING_BYTES (32u << 20)        /* … */
#define RAFT_READS_MAX 8192u                   /* waiting for their round */
#define RAFT_HELD_MAX 4096u                    /* messages waiting for the disk; more are lost, as on a network */
#define RAFT_WRITES_MAX 65536u                 /* under way to the disk */
#define RAFT_PROMOTE_LAG_MAX 1024u             /* entries a learner may be behind to become a voter */
#endif

#define RAFT_TICK_MS 10u
#define RAFT_ELECTION_TICKS_DEFAULT 30u /* 300 ms; each wait is drawn from [n, 2n) */
#define RAFT_HEARTBEAT_TICKS_DEFAULT 5u

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER, RAFT_ROLES };
const char *raft_role_name(unsigned role); /* "follower", … */

struct raft;

struct raft_ballot {
    uint64_t term;
    uint64_t vote; /* member id; 0: none in this term */
};

/* A snapshot that is durable at this member. */
struct raft_snapshot {
    uint64_t index, term; /* last entry it covers; 0: there is none */
    uint64_t total, digest;
    struct raft_config config; /* as of `index` */
};

struct raft_options {
    uint64_t id; /* own; never 0 */
    uint64_t seed;
    uint32_t election_ticks, heartbeat_ticks; /* 0: the defaults; election must be at least 3 heartbeats */
    struct raft_ballot ballot;                /* as it is on the disk */
    struct raft_snapshot snapshot;            /* newest valid one */
    const struct raft_entry *entries;         /* all of the log behind the snapshot, durable, without a gap; may begin before */
    size_t count;
};

/* Errors: INVALID, CORRUPT (entries with a gap or falling terms, a configuration that cannot be read). */
MUST_USE enum tide_status raft_create(const struct raft_options *options, struct raft **ret_raft, struct err *err);
void raft_free(struct raft *raft); /* NULL is legal */

/* The first entry of a new group, the same at each founding member, written to its log before it first starts: index 1,
 * term 1, type RAFT_CONFIG. A member that is added later starts with nothing. The caller owns the blob. */
void raft_first_entry(const struct raft_config *config, struct raft_entry *ret_entry);

/* ---- events ---- */

enum raft_event_kind {
    RAFT_EV_TICK,        /* RAFT_TICK_MS have passed */
    RAFT_EV_MESSAGE,     /* message: contents move in */
    RAFT_EV_PERSISTED,   /* number: this write and all before it are durable */
    RAFT_EV_PROPOSE,     /* entries, count: type and blob of each; index and term are filled in. Blobs stay the caller's */
    RAFT_EV_READ,        /* number: the caller's name for it; comes back in update.reads */
    RAFT_EV_ADD,         /* member: as a learner */
    RAFT_EV_PROMOTE,     /* number: id of a learner */
    RAFT_EV_REMOVE,      /* number: id */
    RAFT_EV_UPDATE,      /* member: addresses of the one of that id, which is there; it stays voter or learner */
    RAFT_EV_TRANSFER,    /* number: id of a voter; 0: the one that is furthest */
    RAFT_EV_UNREACHABLE, /* number: id; what was under way to it may be lost */
    RAFT_EV_SNAPSHOT,    /* number: index at or below what was applied; total, digest: a snapshot of it is durable */
    RAFT_EV_SNAPSHOT_LOST, /* number: index; this member cannot read it any more: it is not offered to anybody */
    RAFT_EV_CHUNK_STORED, /* number: index of the snapshot being received; offset: next byte wanted, durable or not */
    RAFT_EV_INSTALLED,   /* number: index; it is whole, verified, durable and kept */
    RAFT_EV_INSTALL_FAILED, /* number: index; it is not what was sent and was thrown away */
    RAFT_EVENTS
};

struct raft_event {
    unsigned kind; /* enum raft_event_kind */
    uint64_t number, total, digest, offset;
    struct raft_message *message;
    struct raft_entry *entries;
    size_t count;
    const struct raft_member *member;
};

/* ---- updates ---- */

struct raft_write {
    uint64_t number; /* 1, 2, 3 …; 0: nothing to write */
    bool has_ballot;
    struct raft_ballot ballot; /* first of all */
    uint64_t reset_to;         /* not 0: drop the whole log, the next entry will be this index (a snapshot covers the rest) */
    uint64_t truncate_from;    /* not 0: take back this entry and all behind it */
    struct raft_entry *entries; /* then append these; owned by the update, blobs referenced */
    size_t count, room;
};

struct raft_read {
    uint64_t number;
    bool permitted; /* false: this member does not lead (any more); ask another */
    uint64_t index; /* permitted: answer once the state machine has applied it */
};

/* A piece of a snapshot that is being received. Offset 0 begins it; the rest of its file may be there from before. */
struct raft_chunk {
    struct raft_snapshot snapshot; /* index 0: no chunk */
    uint64_t offset;
    struct raft_blob *data;
};

struct raft_update {
    struct raft_write write;
    struct raft_message *messages; /* owned */
    size_t message_count, message_room;
    uint64_t commit;       /* the commit index now */
    uint64_t restore;      /* not 0: the state machine is now that of this snapshot */
    struct raft_read *reads; /* owned */
    size_t read_count, read_room;
    bool role_changed;     /* role, term or known leader is another */
    bool config_changed;   /* the configuration in force is another */
    struct raft_chunk chunk;
};
/* Free what it owns and zero it. */
void raft_update_release(struct raft_update *update);

/* The one entry. `update` is zeroed by the caller, and filled also when the event is refused. PROPOSE fills in index and
 * term of each of its entries; ADD, PROMOTE, REMOVE and UPDATE leave the index of their entry in event->number.
 * Errors of requests, nothing changed: UNAVAILABLE (does not lead: the words say who does; too much under way), STATE (with
 * the reason), EXISTS, NOT_FOUND, LIMIT. Of any event: CORRUPT: a rule of Raft is broken, the member must stop. */
MUST_USE enum tide_status raft_step(struct raft *raft, struct raft_event *event, struct raft_update *update, struct err *err);

/* ---- looking in ---- */

struct raft_peer_status {
    uint64_t id;
    bool voter;
    unsigned state; /* enum raft_peer_state */
    uint64_t match, next;
    uint64_t silent_ticks; /* since it was last heard; leader only */
    uint64_t snapshot_offset;
};
enum raft_peer_state { RAFT_PROBE, RAFT_REPLICATE, RAFT_SEND_SNAPSHOT, RAFT_PEER_STATES };
const char *raft_peer_state_name(unsigned state); /* "probe", "replicate", "snapshot" */

struct raft_status {
    unsigned role;
    uint64_t id, term, vote, leader; /* leader 0: unknown */
    uint64_t first, last, stable, commit, snapshot; /* indexes; first: oldest entry in memory */
    uint64_t log_bytes;    /* in memory */
    bool ready;            /* leads and has committed an entry of its own term */
    bool transferring;
    struct raft_peer_status peers[RAFT_MEMBERS_MAX]; /* leader only: all other members */
    size_t peer_count;
};
void raft_get_status(const struct raft *raft, struct raft_status *ret_status);

/* In force; valid until the next step. */
const struct raft_config *raft_config_of(const struct raft *raft);
/* As of `index`, which is in the log or its snapshot's. Errors: NOT_FOUND. */
MUST_USE enum tide_status raft_config_at(const struct raft *raft, uint64_t index, struct raft_config *ret_config,
                                         struct err *err);
/* Valid until the next step; NULL: not in memory. */
const struct raft_entry *raft_entry_at(const struct raft *raft, uint64_t index);
uint64_t raft_term_at(const struct raft *raft, uint64_t index); /* 0: unknown */
/* Everything that must hold of one member's memory; for tests and debug builds. Errors: CORRUPT with the rule. */
MUST_USE enum tide_status raft_check(const struct raft *raft, struct err *err);

#endif
