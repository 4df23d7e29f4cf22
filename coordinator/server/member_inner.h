/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_SERVER_MEMBER_INNER_H
#define COORDINATOR_SERVER_MEMBER_INNER_H

#include <pthread.h>
#include <stdatomic.h>

#include "coordinator/disk/datadir.h"
#include "coordinator/disk/snapshot_file.h"
#include "coordinator/disk/wal.h"
#include "coordinator/raft/wire.h"
#include "coordinator/server/member.h"

#define STATUS_TICKS 10u      /* between two copies of the status */
#define TICKS_AT_ONCE_MAX 2u  /* a thread that was away must first hear what was said meanwhile */
#define CHUNKS_WAITING_MAX 4u /* of a snapshot that is being received */
#define LEAVE_PAUSE_NS (5 * NS_PER_S)
#define LOG_BATCH_BYTES (8u << 20) /* of entries that share one fdatasync */

/* ---- between the caller's loop and the member's ---- */

/* What the caller wants. */
enum order_kind { ORDER_PROPOSE, ORDER_READ, ORDER_CHANGE, ORDER_SNAPSHOT, ORDER_LOOK, ORDER_STOP };

struct order {
    unsigned kind;
    unsigned change;        /* enum member_change */
    bool hand_over;         /* STOP */
    struct raft_blob *blob; /* PROPOSE; owned */
    void *cookie;
    struct raft_member *who;                        /* CHANGE; owned */
    uint64_t index, total, digest, compact_through; /* SNAPSHOT */
};

/* What the member has to say. */
enum note_kind { NOTE_COMMITTED, NOTE_FAILED, NOTE_READ, NOTE_RESTORED, NOTE_IMAGE_LOST, NOTE_TURNED, NOTE_STOPPED };

struct restored {
    void *parsed;
    uint64_t index, term;
    struct raft_config config;
};

struct note {
    unsigned kind;
    bool permitted;  /* READ */
    void *cookie;    /* FAILED, READ */
    struct err *err; /* FAILED; owned */
    union {
        struct member_entry entry;
        struct restored *restored; /* owned */
        uint64_t index;            /* IMAGE_LOST */
        struct member_turn *turn;  /* owned */
    };
};

struct orders {
    struct order *items;
    size_t count, room;
};

struct notes {
    struct note *items;
    size_t count, room;
};

/* ---- the log's thread ---- */

struct log_thread {
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* under the lock: asked for */
    struct raft_write *writes;
    size_t count, room;
    uint64_t compact_through;
    uint64_t batches; /* since the last compaction */
    bool look, stop;
    /* under the lock: done */
    uint64_t done_number;
    uint64_t log_bytes, free_bytes, sync_us, sync_us_max, sync_ns, syncing_ns;
    /* the thread's own */
    bool prepare;
};

/* ---- proposals under way ---- */

struct own {
    uint64_t index, term;
    void *cookie;
    uint64_t lost_ns; /* when the leadership it was made under ended; 0: still ours */
    struct own *next;
};

/* Reads that were asked for in one turn. */
struct reads {
    uint64_t number, index;
    bool decided;
    void **cookies;
    size_t count, room;
    struct reads *next;
};

struct chunk_work {
    uv_work_t work;
    struct member *member;
    struct raft_chunk chunk;
    enum tide_status status;
    struct err err;
    uint64_t offset; /* next byte wanted */
    bool whole;
    void *parsed;
};

/* Is an image still what it was? A whole one was sent, and whoever got it says that it is not. */
struct image_check {
    uv_work_t work;
    struct member *member;
    uint64_t index;
    bool running;
    enum tide_status status;
    struct err err;
};

struct member {
    struct member_options options;
    struct datadir dir;
    struct wal *wal; /* the log's thread's, once it runs */
    struct raft *raft;
    struct net *net;
    uint64_t id;

    /* the caller's side */
    uv_async_t noted;
    struct notes taken; /* being handed out */
    size_t taken_at;
    bool started, closing;

    /* between the threads */
    pthread_mutex_t lock;
    struct orders orders;
    struct notes notes;
    struct member_status status;
    _Atomic uint64_t proposals; /* not yet answered */
    _Atomic uint64_t free_bytes;
    pthread_mutex_t image_lock; /* of the image files */

    /* the member's thread */
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t ordered, logged;
    uv_timer_t tick;
    uv_check_t turned; /* after everything of one turn of the loop */
    uint64_t last_tick_ns;
    unsigned ticks;
    struct orders mine;    /* being worked through */
    struct orders waiting; /* proposals held back while the leadership is handed over */
    uint64_t applied;      /* last entry handed out */
    struct own *own, **own_end;
    struct own *orphans;
    struct reads *reads;
    uint64_t read_number;
    struct member_turn turn; /* as last told */
    uint64_t later;          /* not 0: left behind, and takes no part (left_behind.c) */
    bool transferring;
    void *transfer_cookie;
    uint64_t transfer_until_ns;
    uint64_t leave_again_ns; /* not before: hand the leadership over because the disk is full */
    bool stopping, ended;
    struct log_thread log;
    uint64_t persisted;
    struct snapshot_file sending; /* image that is being sent; fd -1: none */
    bool sent_whole;              /* its last chunk was */
    uint64_t image_lost;          /* cannot be read: to be told at the end of the turn; 0: none */
    struct image_check check;
    struct snapshot_receive receiving;
    struct chunk_work *chunk; /* being stored */
    struct raft_chunk chunks[CHUNKS_WAITING_MAX];
    size_t chunk_count;
    struct restored *installed; /* parsed, until the core says it counts */
    struct raft_config known;   /* peers told to the network */
    struct raft_wire wire;      /* used again and again */
};

void member_fatal(const char *what, const struct err *err) __attribute__((__noreturn__));
/* The leader has sent an image that this version cannot read, and would send it again and again. */
void member_too_old(const struct member *member, const struct err *err) __attribute__((__noreturn__));
void member_broken(const struct member *member, const struct err *err) __attribute__((__noreturn__));

/* member_open.c */
MUST_USE enum tide_status member_load(struct member *member, struct err *err);
void image_of(struct member *member, uint64_t index, struct raft_snapshot *ret_snapshot);

/* left_behind.c. load: of a data directory; ret_epoch 0: it was not, as far as it knows. Errors: CORRUPT, IO. */
MUST_USE enum tide_status left_behind_load(const char *dir, uint64_t *ret_epoch, struct err *err);
MUST_USE enum tide_status left_behind_forget(const char *dir, struct err *err);
/* Errors: CONFLICT: it must not start. */
MUST_USE enum tide_status left_behind_check(struct member *member, struct err *err);
/* A peer is of a later epoch. */
void left_behind_heard(struct member *member, uint64_t peer, uint64_t epoch);

/* member_log.c */
void journal_start(struct member *member);
void journal_stop(struct member *member);
void journal_write(struct member *member, struct raft_write *write); /* takes over what it owns */
void journal_compact(struct member *member, uint64_t through);
void journal_look(struct member *member);
/* On the member's thread: what has been done since. */
void journal_collect(struct member *member);

/* member_loop.c */
void member_loop_init(struct member *member); /* before the thread */
void *member_run(void *arg);
/* Errors: as raft_step, but CORRUPT. */
enum tide_status member_step(struct member *member, struct raft_event *event, struct err *err);

/* Tell what the role is now, if that is news. */
void hand_turn(struct member *member);
/* Do what an update says; it is empty afterwards. */
void member_take(struct member *member, struct raft_update *update);

/* member.c */
void member_note(struct member *member, const struct note *note);
void member_order(struct member *member, const struct order *order);
void note_failed(struct member *member, void *cookie, enum tide_status status, const char *format, ...) PRINTF_LIKE(4, 5);
void note_refused(struct member *member, void *cookie, const struct err *err);

/* member_orders.c: what the caller asks for */
void orders_take(struct member *member);
void orders_flush(struct member *member); /* proposals that were held back */
void orders_fail_waiting(struct member *member, enum tide_status status, const char *why);
void reads_decided(struct member *member, const struct raft_read *read);
void reads_look(struct member *member); /* more has been applied */
void reads_refuse(struct member *member);
void transfer_look(struct member *member, uint64_t now_ns);
bool transfer_begin(struct member *member, uint64_t to, void *cookie, struct err *err);
void *own_committed(struct member *member, uint64_t index, uint64_t term);
void own_lost(struct member *member);
void own_expire(struct member *member, uint64_t now_ns, uint64_t age_ns);
void own_overtaken(struct member *member, uint64_t index);

/* member_peers.c */
MUST_USE enum tide_status peers_open(struct member *member, struct err *err);
void peers_follow(struct member *member); /* whom the configuration in force names */
void peers_turned(struct member *member); /* another leader is known, or none */
/* Once it is committed that they are gone, not before: a leader that leaves needs the others' answers. */
void peers_forget(struct member *member, const struct raft_entry *entry);
void peers_send(struct member *member, struct raft_message *message);
const char *peers_address(const struct member *member);
void peers_close(struct member *member);
void peers_status(const struct member *member, struct member_status *status);

/* member_image.c */
void image_look(struct member *member);                            /* at the end of a turn */
void image_chunk(struct member *member, struct raft_chunk *chunk); /* contents move */
bool image_fill(struct member *member, struct raft_message *message);
void image_close(struct member *member);

#endif
