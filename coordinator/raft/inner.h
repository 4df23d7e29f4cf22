/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_RAFT_INNER_H
#define COORDINATOR_RAFT_INNER_H

#include "coordinator/raft/raft.h"

/* Entries in memory: base + 1 … base + count. What is at or below `base` is in a snapshot. */
struct log {
    struct raft_entry *items; /* items[start] is entry base + 1 */
    size_t start, count, room;
    uint64_t base, base_term;
    uint64_t bytes; /* of the blobs */
};

/* One append under way to a peer. */
struct flight {
    uint64_t last; /* newest entry in it */
    uint64_t bytes;
};

/* What a leader knows of another member. */
struct peer {
    uint64_t id;
    bool voter;
    unsigned state; /* enum raft_peer_state */
    uint64_t match; /* newest entry known to be durable there */
    uint64_t next;  /* first entry to send */
    uint64_t round; /* newest round of heartbeats it has answered */
    uint64_t silent_ticks;
    bool probing;   /* PROBE: an append is under way; one at a time */
    struct flight flights[RAFT_WINDOW_MESSAGES]; /* REPLICATE: a ring */
    size_t flight_head, flight_count;
    uint64_t flight_bytes;
    uint64_t snapshot_index, snapshot_offset; /* SEND_SNAPSHOT */
    uint32_t snapshot_ticks;                  /* since a chunk was sent */
};

struct held {
    uint64_t need; /* write that must be durable first */
    struct raft_message message;
};

/* A write under way: when it is durable, so are the entries up to `last`. */
struct pending_write {
    uint64_t number, last;
};

struct pending_read {
    uint64_t number, index, round;
};

/* Ids that answered an election, without repetition. */
struct tally {
    uint64_t ids[RAFT_MEMBERS_MAX];
    size_t count;
};

struct raft {
    uint64_t id;
    struct rng rng;
    uint32_t election_ticks, heartbeat_ticks;
    struct raft_ballot ballot;
    unsigned role; /* enum raft_role */
    uint64_t leader;

    struct log log;
    uint64_t commit;
    uint64_t stable; /* entries up to here are durable at this member */

    /* The disk. */
    uint64_t write_number, persisted; /* the last one handed out; the last one durable */
    uint64_t ballot_write;            /* the last one with a ballot */
    bool ballot_owed;                 /* the disk has an older one: it goes with the first write, before any entry */
    struct pending_write *writes;     /* writes[writes_start …] */
    size_t writes_start, writes_count, writes_room;
    struct held *held;
    size_t held_count, held_room;

    /* Configurations: as of log.base, and in force. */
    struct raft_config base_config, config;
    uint64_t config_index; /* entry of the one in force, or log.base */

    struct raft_snapshot snapshots[2]; /* newest first; what a leader may send */

    /* Followers and candidates. */
    uint32_t elapsed_ticks, timeout_ticks; /* to the next election */
    uint64_t leader_silent_ticks;
    struct tally granted, refused;
    bool by_transfer; /* the present candidacy was asked for by the leader */
    struct raft_snapshot receiving; /* index 0: none */
    uint64_t receiving_next;
    bool receiving_busy; /* the disk has a chunk */

    /* Leaders. */
    struct peer *peers; /* RAFT_MEMBERS_MAX */
    size_t peer_count;
    uint32_t beat_ticks;
    uint64_t term_start; /* index of this leader's first entry */
    uint64_t uncommitted_bytes;
    uint64_t round;                /* of heartbeats; the newest begun */
    struct pending_read *reads;    /* in order of asking */
    size_t reads_count, reads_room;
    uint64_t transfer_to; /* 0: none */
    uint32_t transfer_ticks;
};

/* ---- log.c ---- */
uint64_t log_last(const struct log *log);
/* Of an entry it holds or the one at `base`; 0 when unknown. */
uint64_t log_term(const struct log *log, uint64_t index);
const struct raft_entry *log_entry(const struct log *log, uint64_t index); /* NULL: not held */
void log_append(struct log *log, const struct raft_entry *entry);      /* references the blob */
void log_truncate(struct log *log, uint64_t from);
void log_compact(struct log *log, uint64_t through);                    /* base <= through <= last */
void log_reset(struct log *log, uint64_t base, uint64_t base_term);
/* The largest index <= `index` whose term is <= `term`. */
uint64_t log_not_newer(const struct log *log, uint64_t index, uint64_t term);

/* ---- out.c: what leaves ---- */
void out_message(struct raft *raft, struct raft_update *update, struct raft_message *message, uint64_t need);
void out_held(struct raft *raft, struct raft_update *update); /* what has become durable enough */
void out_forget_held(struct raft *raft);
void out_read(struct raft_update *update, uint64_t number, bool permitted, uint64_t index);
/* The write of this update; numbered at the first call. */
struct raft_write *out_write(struct raft *raft, struct raft_update *update);
void out_ballot(struct raft *raft, struct raft_update *update);
/* Log and disk together. */
void out_append(struct raft *raft, struct raft_update *update, const struct raft_entry *entry);
void out_truncate(struct raft *raft, struct raft_update *update, uint64_t from);
void out_reset(struct raft *raft, struct raft_update *update, uint64_t index, uint64_t term);
bool out_writes_full(const struct raft *raft);

/* ---- config.c ---- */
bool config_is_voter(const struct raft *raft, uint64_t id);
bool config_may_stand(const struct raft *raft); /* for election */
size_t config_majority(const struct raft *raft);
/* The configuration in force is that of this entry. */
void config_take(struct raft *raft, struct raft_update *update, const struct raft_entry *entry);
/* Entries have gone: the newest configuration left in the log is in force again. */
void config_look_again(struct raft *raft, struct raft_update *update);

/* ---- role.c ---- */
void become_follower(struct raft *raft, struct raft_update *update, uint64_t term, uint64_t leader);
void pre_campaign(struct raft *raft, struct raft_update *update);
void campaign(struct raft *raft, struct raft_update *update, bool transfer);
/* Those who have not answered may not have heard. */
void ask_again(struct raft *raft, struct raft_update *update);
void become_leader(struct raft *raft, struct raft_update *update);
/* A leader was heard, of the present term. */
void follow(struct raft *raft, struct raft_update *update, uint64_t leader);
void count_vote(struct raft *raft, struct raft_update *update, uint64_t from, bool granted);
bool leader_ready(const struct raft *raft);
/* The leader was heard less than one election time-out ago, or this member leads. */
bool leader_alive(const struct raft *raft);

/* ---- replicate.c: leaders only ---- */
struct peer *peer_of(struct raft *raft, uint64_t id);
void peers_follow_config(struct raft *raft);
void peer_probe(struct peer *peer, uint64_t next);
void replicate(struct raft *raft, struct raft_update *update, struct peer *peer);
void replicate_all(struct raft *raft, struct raft_update *update);
void heartbeat(struct raft *raft, struct raft_update *update, struct peer *peer);
void heartbeat_all(struct raft *raft, struct raft_update *update);
void send_chunk(struct raft *raft, struct raft_update *update, struct peer *peer);
void send_timeout_now(struct raft *raft, struct raft_update *update, uint64_t to);
/* Voters, this one included, heard within an election time-out. */
size_t active_voters(const struct raft *raft, const struct raft_config *config);

/* ---- commit.c ---- */
/* Leaders: by counting. */
void commit_count(struct raft *raft, struct raft_update *update);
void commit_to(struct raft *raft, struct raft_update *update, uint64_t index);
void reads_advance(struct raft *raft, struct raft_update *update);

/* ---- one file per message, and per event ---- */
#define RECEIVER(name) \
    enum tide_status name(struct raft *raft, struct raft_message *message, struct raft_update *update, struct err *err)
MUST_USE RECEIVER(recv_vote);
MUST_USE RECEIVER(recv_vote_reply);
MUST_USE RECEIVER(recv_append);
MUST_USE RECEIVER(recv_append_reply);
MUST_USE RECEIVER(recv_snapshot);
MUST_USE RECEIVER(recv_snapshot_reply);
MUST_USE RECEIVER(recv_timeout_now);

#define EVENT(name) \
    enum tide_status name(struct raft *raft, struct raft_event *event, struct raft_update *update, struct err *err)
MUST_USE EVENT(ev_message);
MUST_USE EVENT(ev_tick);
MUST_USE EVENT(ev_persisted);
MUST_USE EVENT(ev_propose);
MUST_USE EVENT(ev_read);
MUST_USE EVENT(ev_add);
MUST_USE EVENT(ev_promote);
MUST_USE EVENT(ev_remove);
MUST_USE EVENT(ev_update);
MUST_USE EVENT(ev_transfer);
MUST_USE EVENT(ev_unreachable);
MUST_USE EVENT(ev_snapshot);
MUST_USE EVENT(ev_snapshot_lost);
MUST_USE EVENT(ev_chunk_stored);
MUST_USE EVENT(ev_installed);
MUST_USE EVENT(ev_install_failed);

/* "member 2 leads" or "no leader is known": for refusals. */
MUST_USE enum tide_status refuse_not_leader(const struct raft *raft, struct err *err);

#endif
