/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_DISK_WAL_H
#define COORDINATOR_DISK_WAL_H

/* The write-ahead log: entries numbered 1, 2, 3 …, each of a term, on the disk before anybody is told.
 *
 * Plain and synchronous; whoever calls decides on which thread, one at a time. Nothing in here assumes a single member:
 * entries carry their index and term, a tail can be taken back, a log can begin anywhere.
 *
 * After a failed write or fsync the log is broken: every further call returns the same error, and nothing is tried again
 * on the same pages. The process should stop. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"
#include "coordinator/disk/segment.h"

struct wal;

struct wal_options {
    uint64_t segment_bytes; /* 0: SEGMENT_BYTES */
};

struct wal_entry {
    uint64_t index, term;
    const void *data;
    size_t bytes;  /* <= RECORD_BYTES_MAX */
    uint16_t type; /* the caller's; kept, not looked at */
};

/* Read and verify all segments of `dir`. `first`: the first entry that must come from the log, behind the newest snapshot,
 * which is of `term` (1 and 0: there is none). A log that ends before the snapshot, or holds its last entry with another
 * term, is of a history that the snapshot replaced: it is discarded, and begins with `first`. A torn tail is cut, unless it
 * is known to have been synced: then it is corrupt. Both are said in the log. With `fresh` an empty log that begins with
 * `first` is made. Errors: CORRUPT (file, offset, record and what to do; or the log begins behind `first`), NOSPACE, IO. */
MUST_USE enum tide_status wal_open(const char *dir, const char *cluster, const struct wal_options *options, bool fresh,
                                   uint64_t first, uint64_t term, struct wal **ret_wal, struct err *err);
void wal_close(struct wal *wal); /* NULL is legal */

uint64_t wal_first(const struct wal *wal);  /* index of the oldest entry, or of the next one when it holds none */
uint64_t wal_last(const struct wal *wal);   /* of the newest; wal_first - 1 when it holds none */
uint64_t wal_synced(const struct wal *wal); /* of the newest that is on the disk */
uint64_t wal_bytes(const struct wal *wal);  /* of all segments */
/* Term of an entry it holds; 0 for any other. */
uint64_t wal_term(const struct wal *wal, uint64_t index);

/* Entries must follow wal_last without a gap. Written, but promised to nobody before wal_sync.
 * Errors: STATE (gap, older term), LIMIT (an entry too large), NOSPACE, IO. */
MUST_USE enum tide_status wal_append(struct wal *wal, const struct wal_entry *entries, size_t count, struct err *err);
MUST_USE enum tide_status wal_sync(struct wal *wal, struct err *err);

/* Make the next segment ready, so that no append waits for it; worth calling when nobody waits for a sync.
 * A failure does not close the log. */
MUST_USE enum tide_status wal_prepare(struct wal *wal, struct err *err);

/* Take back entry `index` and all behind it. Errors: STATE (not held), IO. */
MUST_USE enum tide_status wal_truncate_from(struct wal *wal, uint64_t index, struct err *err);

/* Drop whole segments of which no entry is above `through`. */
MUST_USE enum tide_status wal_compact(struct wal *wal, uint64_t through, struct err *err);

/* Drop everything and begin again with entry `first`, not before wal_first: a snapshot of index first - 1 that lies on the
 * disk already has replaced the log, entries at and behind `first` included. Not for a log that holds the snapshot's last
 * entry in its very term: what follows there was promised. A crash on the way is known by the snapshot's index and term
 * (wal_open). Errors: STATE, NOSPACE, IO. */
MUST_USE enum tide_status wal_reset(struct wal *wal, uint64_t first, struct err *err);

/* Entries `first` to `last` in order; stops at the first answer of `each` that is not OK and returns it. The data is
 * valid within the call. Errors: STATE (not held), CORRUPT (changed since it was opened), IO. */
typedef enum tide_status wal_reader(void *arg, const struct wal_entry *entry, struct err *err);
MUST_USE enum tide_status wal_read(struct wal *wal, uint64_t first, uint64_t last, wal_reader *each, void *arg,
                                   struct err *err);

#endif
