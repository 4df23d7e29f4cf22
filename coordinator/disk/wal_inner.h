/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_DISK_WAL_INNER_H
#define COORDINATOR_DISK_WAL_INNER_H

#include <tidemark/types.h>

#include "coordinator/disk/datadir.h"
#include "coordinator/disk/wal.h"

struct segment {
    uint64_t first;
    uint64_t bytes;    /* of the file */
    uint64_t end;      /* where the next record goes */
    uint64_t *offsets; /* of its records, count + 1 used: the last is `end` */
    uint64_t *terms;
    size_t count, room;
    uint64_t seed; /* chain value before its first record */
};

#define WAL_MARK_NAME "synced"

/* Entry `index` of `term` was synced; 0: nothing is known. */
struct wal_mark {
    uint64_t index, term;
};

struct wal {
    char dir[TIDE_PATH_MAX + 1];
    char cluster[TIDE_UID_CHARS + 1];
    uint64_t segment_bytes;
    uint64_t floor;           /* entries below it are in a snapshot */
    uint64_t floor_term;      /* of the newest entry in that snapshot; 0: there is none */
    struct segment *segments; /* ascending; never none */
    size_t count;
    int fd; /* of the newest */
    int mark_fd;
    struct wal_mark mark; /* as it is in its file */
    uint64_t last_sum;
    uint64_t synced;
    char *run; /* where records are put together; kept from one append to the next */
    size_t run_bytes;
    bool dirty;        /* written since the last fdatasync */
    bool spare;        /* spare.wal is ready */
    struct err broken; /* the first failed write; OK: none */
};

static inline struct segment *wal_newest(const struct wal *wal)
{
    return &wal->segments[wal->count - 1];
}

/* wal.c */
void wal_segment_path(const struct wal *wal, uint64_t first, char to[DATA_FILE_MAX]);
void wal_segment_add(struct segment *segment, uint64_t offset, uint64_t term, uint64_t end);
void wal_segment_release(struct segment *segment);
struct segment *wal_segment_push(struct wal *wal, uint64_t first, uint64_t seed, uint64_t bytes);
MUST_USE enum tide_status wal_usable(const struct wal *wal, struct err *err);
/* Pages after a failed write or fsync are in a state nobody knows: remember, and answer the same for ever. */
enum tide_status wal_break(struct wal *wal, enum tide_status status, struct err *err);
enum tide_status wal_corrupt(const char *path, const char *why, struct err *err);

/* wal_files.c */
MUST_USE enum tide_status wal_open_newest(struct wal *wal, struct err *err);
MUST_USE enum tide_status wal_begin_segment(struct wal *wal, uint64_t first, uint64_t seed, struct err *err);
/* The oldest `count` segments; oldest first, each step durable: a crash leaves no gap that was not there. */
MUST_USE enum tide_status wal_drop_before(struct wal *wal, size_t count, struct err *err);
/* Rewrite a file with only its first `keep` bytes, in one step: a crash leaves the old file or the new one. */
MUST_USE enum tide_status wal_keep_prefix(struct wal *wal, const char *path, const char *data, uint64_t keep,
                                          struct err *err);
/* A number that is not that of another log. */
uint64_t wal_new_seed(void);
/* Drop everything and begin with `first`; the log is known to be usable. */
MUST_USE enum tide_status wal_begin_again(struct wal *wal, uint64_t first, struct err *err);

/* wal_mark.c */
/* What is not there or not whole is no mark. */
MUST_USE enum tide_status wal_mark_read(const char *dir, struct wal_mark *ret_mark, struct err *err);
MUST_USE enum tide_status wal_mark_open(struct wal *wal, struct err *err);
/* All the log has is on the disk. */
MUST_USE enum tide_status wal_mark_synced(struct wal *wal, struct err *err);
/* Entries are about to be taken back: durable before the first of them is gone. */
MUST_USE enum tide_status wal_mark_forget(struct wal *wal, struct err *err);
/* Does a log whose last good entry is `last`, of `last_term`, beside a snapshot of `covered`, lack what had been synced? Then says why. */
bool wal_mark_missed(const struct wal_mark *mark, uint64_t covered, uint64_t last, uint64_t last_term, char *ret_why, size_t size);

#endif
