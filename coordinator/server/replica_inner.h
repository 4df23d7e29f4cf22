/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_SERVER_REPLICA_INNER_H
#define COORDINATOR_SERVER_REPLICA_INNER_H

#include "coordinator/disk/datadir.h"
#include "coordinator/server/replica.h"

/* Whoever waits for the end of a proposal or change. */
struct proposal {
    struct command *command; /* as it was written down; NULL: a change of the group */
    replica_done *done;
    void *arg;
};

struct reading {
    replica_ready *ready;
    void *arg;
};

/* What was decided, in order, and not yet taken in. */
enum decided_kind { DECIDED_ENTRY, DECIDED_FAILURE, DECIDED_READ, DECIDED_RESTORED, DECIDED_TURN };

struct decided {
    unsigned kind;
    bool permitted;
    void *cookie;
    struct err *err;              /* FAILURE; owned */
    struct state *state, *shadow; /* RESTORED; owned */
    struct raft_config *config;   /* RESTORED; owned */
    uint64_t index, term;         /* RESTORED */
    struct member_entry entry;
    struct member_turn *turn; /* owned */
    struct decided *next;
};

/* Entries since the shadow, for the next image. */
struct tail {
    struct member_entry *items;
    size_t count, room;
    uint64_t bytes;
};

/* Images are made without the loop: a worker has a state of its own, the shadow, that is as old as the last image, and
 * applies to it what has been applied here since. The same commands make the same state. */
struct image_work {
    uv_work_t work;
    struct replica *replica;
    struct state shadow;
    struct raft_blob *config; /* as of the shadow; NULL: nobody is in the group */
    uint64_t index, term;     /* last entry in the shadow */
    struct tail tail;         /* to apply; the worker's while it runs */
    enum tide_status status;
    struct err err;
};

struct image_wish {
    replica_written *written;
    void *arg;
    uint64_t index; /* an image of this or later will do */
    struct image_wish *next;
};

struct replica {
    struct replica_options options;
    struct member *member;
    struct state state;
    struct raft_blob *config; /* as of the last applied entry */
    uint64_t index, term;     /* last applied entry, of whatever kind */
    struct member_turn turn;
    uint64_t at_ms; /* of the newest command: the log's time never runs backwards */
    struct decided *decided, **decided_end;
    uv_idle_t more;                    /* there is more to apply in the next turn of the loop */
    bool busy;                         /* … */
    uint64_t check_ns, check_again_ns; /* what the last look at all rules cost, and not before */
    uint64_t snapshot_every, snapshot_index;
    struct tail tail; /* since the shadow, or since what the worker has */
    struct image_work image;
    bool imaging, stopping, member_stopped, idle_closed;
    struct image_wish *wishes;
    struct state *shadow_next; /* restored while the worker was busy with the old one */
    struct raft_blob *restored_config;
    uint64_t restored_index, restored_term;
};

/* replica.c */
void replica_broken(struct replica *replica, uint64_t index, unsigned kind, const struct err *broken)
    __attribute__((__noreturn__));
/* What was committed must be understood by everybody, or nobody goes on. */
void replica_parse(const struct replica *replica, const struct member_entry *entry, struct command *ret_command);
void replica_discard(struct replica *replica, struct state *state);
void replica_end_if_idle(struct replica *replica);

/* replica_image.c */
void image_take(struct replica *replica, const struct member_entry *entry); /* takes the blob's reference over */
void image_if_due(struct replica *replica);
/* The one of that index cannot be read: write another, though nothing may have happened since. */
void image_lost(struct replica *replica, uint64_t index);
/* The replica has just been restored: the shadow begins from here, too. */
void image_restored(struct replica *replica, struct state *shadow); /* contents move */
void image_release(struct replica *replica);

#endif
