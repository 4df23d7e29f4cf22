/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_DISK_SNAPSHOT_H
#define COORDINATOR_DISK_SNAPSHOT_H

/* Images of the state: snap-<index>.img holds what applying entries 1 to index has made, and the group's configuration at
 * that index. Written under another name, fsynced, renamed; the last two are kept, so that a damaged one costs nothing
 * but a longer replay. Between members an image travels as the bytes of its file (snapshot_file.h). */

#include <stddef.h>
#include <stdint.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"

#define SNAPSHOT_FORMAT 3u
#define SNAPSHOT_FORMAT_OLDEST 2u /* that is still read: without what jobs have since come to know of their cuts */
#define SNAPSHOT_BYTES_MAX (UINT64_C(1) << 30) /* of a whole file */
#define SNAPSHOT_CONFIG_BYTES_MAX (UINT64_C(64) << 10)
#define SNAPSHOTS_KEPT 2u

struct snapshot {
    uint64_t index, term;
    uint64_t digest; /* names the content: equal for equal index, term, cluster, config and data; save ignores it */
    char *config;    /* Raft's, opaque here; heap, NUL behind the last byte */
    size_t config_bytes;
    char *data; /* the same; NULL: there is no image */
    size_t bytes;
};

/* Errors: LIMIT, NOSPACE, IO; then nothing is left behind, and an image of that index that was there still is. */
MUST_USE enum tide_status snapshot_save(const char *dir, const char *cluster, const struct snapshot *snapshot,
                                        uint64_t *ret_digest, struct err *err);

/* One image. Errors: NOT_FOUND, CORRUPT, VERSION, IO. */
MUST_USE enum tide_status snapshot_load(const char *dir, const char *cluster, uint64_t index, struct snapshot *ret_snapshot,
                                        struct err *err);
/* The image in a file by any name, of whatever cluster: a backup. Errors: as snapshot_load. */
MUST_USE enum tide_status snapshot_load_file(const char *path, struct snapshot *ret_snapshot,
                                             char ret_cluster[TIDE_UID_CHARS + 1], struct err *err);
/* The newest valid one, or one with data NULL and index 0. Bad ones are passed over with a line in the log; whether the
 * log reaches back far enough without them is for wal_open to say. Errors: VERSION, IO. */
MUST_USE enum tide_status snapshot_newest(const char *dir, const char *cluster, struct snapshot *ret_snapshot,
                                          struct err *err);
void snapshot_release(struct snapshot *snapshot);

/* Keep the newest SNAPSHOTS_KEPT, remove the rest, what a crash left half-written, and what was received in part of an
 * image that is older than the newest. ret_oldest: index of the oldest kept when that many are there, else 0: up to it
 * the log may be compacted. */
MUST_USE enum tide_status snapshot_prune(const char *dir, uint64_t *ret_oldest, struct err *err);

#endif
