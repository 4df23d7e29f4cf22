/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_DISK_SNAPSHOT_H
#define COORDINATOR_DISK_SNAPSHOT_H

/* Images of the state: snap-<index>.img holds what applying entries 1 to index has made. Written under another name,
 * fsynced, renamed; the last two are kept, so that a damaged one costs nothing but a longer replay. */

#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"

#define SNAPSHOT_FORMAT 1u
#define SNAPSHOT_BYTES_MAX (UINT64_C(1) << 30)
#define SNAPSHOTS_KEPT 2u

struct snapshot {
    uint64_t index, term;
    char *data; /* heap, NUL behind the last byte; NULL: there is none */
    size_t bytes;
};

MUST_USE enum tide_status snapshot_save(const char *dir, const char *cluster, uint64_t index, uint64_t term,
                                        const void *data, size_t bytes, struct err *err);

/* One image. Errors: NOT_FOUND, CORRUPT, VERSION, IO. */
MUST_USE enum tide_status snapshot_load(const char *dir, const char *cluster, uint64_t index, struct snapshot *ret_snapshot,
                                        struct err *err);
/* The newest valid one, or one with data NULL and index 0. Bad ones are passed over with a line in the log; whether the
 * log reaches back far enough without them is the caller's to check. Errors: VERSION, IO. */
MUST_USE enum tide_status snapshot_newest(const char *dir, const char *cluster, struct snapshot *ret_snapshot,
                                          struct err *err);
void snapshot_release(struct snapshot *snapshot);

/* Keep the newest SNAPSHOTS_KEPT, remove the rest and what a crash left half-written. ret_oldest: index of the oldest
 * kept when that many are there, else 0: up to it the log may be compacted. */
MUST_USE enum tide_status snapshot_prune(const char *dir, uint64_t *ret_oldest, struct err *err);

#endif
