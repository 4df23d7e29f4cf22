/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_SERVER_REPLICA_INNER_H
#define COORDINATOR_SERVER_REPLICA_INNER_H

#include "coordinator/disk/datadir.h"
#include "coordinator/disk/snapshot.h"
#include "coordinator/disk/wal.h"
#include "coordinator/server/replica.h"

struct proposal {
    struct command command;
    char *text; /* of the log record */
    size_t bytes;
    replica_done *done;
    void *arg;
    struct proposal *next;
};

/* What the one worker of the log does in one go. It alone touches `wal` while it runs. */
struct log_work {
    uv_work_t work;
    struct proposal *batch; /* in log order; NULL: housekeeping only */
    struct wal_entry *entries;
    size_t count;
    uint64_t compact_through;                   /* 0: nothing to drop */
    uint64_t last_index, log_bytes, free_bytes; /* afterwards */
};

/* An image is written beside the log, by another worker, from a copy of the state. */
struct image_work {
    uv_work_t work;
    struct state state;
    uint64_t compact_through;
    enum tide_status status;
};

struct replica {
    struct replica_options options;
    uint64_t snapshot_every, image_at; /* records; index at which the next image is due */
    struct datadir dir;
    struct ballot ballot;
    struct wal *wal;
    struct state state;
    uint64_t at_ms; /* of the newest command: the log's time never runs backwards */
    struct proposal *waiting, **waiting_end;
    unsigned proposals; /* waiting or being written */
    bool writing, imaging;
    struct log_work log;
    struct image_work image;
    uint64_t compact_through; /* asked for by the last image */
    bool prepare;             /* the next segment should be looked after */
    uint64_t last_index, log_bytes, free_bytes, snapshot_index;
    void (*idle)(void *context); /* stopping */
};

void replica_fatal(const char *what, const struct err *err) __attribute__((__noreturn__));

/* work.c: start what there is to do on the disk, if no worker runs. */
void replica_work(struct replica *replica);

/* replica.c */
enum tide_status replica_apply(struct replica *replica, const struct command *command, uint64_t index,
                               struct outcome *ret_outcome, struct err *err);
void replica_apply_batch(struct replica *replica, struct proposal *batch);

#endif
