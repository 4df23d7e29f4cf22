/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_DISK_DATADIR_H
#define COORDINATOR_DISK_DATADIR_H

/* The directory that holds all a coordinator must not forget:
 *
 *   format                  one line: "tidemark-data <version> <cluster uid> <member id> <tag>"; written last when it is made
 *   lock                    flock'ed by the one process that may write here; holds its pid
 *   ballot                  term and vote
 *   log-<first index>.wal   segments of the write-ahead log (wal.h)
 *   spare.wal               the next segment, already full of zeros
 *   synced                  which entry is known to be on the disk (wal_mark.c)
 *   snap-<index>.img        images of the state after that index (snapshot.h); "….tmp": being written, "….part": being
 *                           received from another member (snapshot_file.h)
 *   address                 host:port the API listens on, for scripts */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"

#define DATA_FORMAT 2u
#define DATA_RESERVE_BYTES (UINT64_C(64) << 20) /* free space below which no command of a client is taken */

struct datadir {
    char path[TIDE_PATH_MAX + 1];
    char cluster[TIDE_UID_CHARS + 1]; /* uid every file in here carries */
    uint64_t member;                  /* whose it is; never 0 */
    uint32_t tag;                     /* tells it from any other directory; 0: made by a version that gave none */
    bool fresh;                       /* made by this open: nothing was ever acknowledged from it */
    int lock_fd;
};

/* Take the directory for this process. `cluster` NULL: of any cluster; `member` 0: of any member; else one that is another's
 * is refused. With `create` (which needs both) one that does not exist or is empty becomes `fresh`; call datadir_commit once
 * its first segment is in place, and before its first record. Errors: NOT_FOUND (no data directory, create not set),
 * CONFLICT (in use; or of another cluster or member, both named), VERSION (another format, named), CORRUPT (files but no
 * format), IO, LIMIT. */
MUST_USE enum tide_status datadir_open(const char *path, const char *cluster, uint64_t member, bool create,
                                       struct datadir *ret_dir, struct err *err);
MUST_USE enum tide_status datadir_commit(struct datadir *dir, struct err *err);
void datadir_close(struct datadir *dir);

/* "<dir>/<name>" into a buffer of DATA_FILE_MAX bytes. */
#define DATA_FILE_MAX (TIDE_PATH_MAX + 64)
void datadir_file(const char *dir, const char *name, char to[DATA_FILE_MAX]);
void datadir_numbered(const char *dir, const char *prefix, uint64_t number, const char *suffix, char to[DATA_FILE_MAX]);

/* Numbers of all files "<prefix><number><suffix>", ascending; heap array, mem_free it. */
MUST_USE enum tide_status datadir_list(const char *dir, const char *prefix, const char *suffix, uint64_t **ret_numbers,
                                       size_t *ret_count, struct err *err);

/* Bytes an unprivileged process may still write there. */
MUST_USE enum tide_status datadir_free_bytes(const char *dir, uint64_t *ret_bytes, struct err *err);

/* Raft's two promises to itself. A directory without the file reads as term 0, no vote. Errors: CORRUPT, IO. */
struct ballot {
    uint64_t term;
    uint64_t vote; /* member id; 0: none */
};
MUST_USE enum tide_status ballot_load(const char *dir, struct ballot *ret_ballot, struct err *err);
MUST_USE enum tide_status ballot_save(const char *dir, struct ballot ballot, struct err *err);

#endif
