/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_DISK_SNAPSHOT_FILE_H
#define COORDINATOR_DISK_SNAPSHOT_FILE_H

/* An image on its way to another member, byte for byte, in chunks. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/disk/snapshot.h"

/* ---- the sender ---- */

/* An image that is being read. It stays readable after snapshot_prune has removed its name. */
struct snapshot_file {
    int fd; /* -1: closed */
    uint64_t index, term;
    uint64_t bytes;  /* of the file */
    uint64_t digest; /* as snapshot_save gave it */
    char path[DATA_FILE_MAX];
};

/* The header is checked, the rest is checked by who receives it. Errors: NOT_FOUND, CORRUPT, VERSION, IO. */
MUST_USE enum tide_status snapshot_file_open(const char *dir, const char *cluster, uint64_t index,
                                             struct snapshot_file *ret_file, struct err *err);
/* At most `bytes` from `offset`; 0 at the end. */
MUST_USE enum tide_status snapshot_file_read(const struct snapshot_file *file, uint64_t offset, void *to, size_t bytes,
                                             size_t *ret_read, struct err *err);
void snapshot_file_close(struct snapshot_file *file); /* a closed one is legal */

/* ---- the receiver ---- */

/* What has arrived lies in snap-<index>.img.part. Its first bytes say what image it is of, so that after a restart the rest
 * can be asked for. There is one at a time. */
struct snapshot_receive {
    int fd; /* -1: none */
    uint64_t index, term, bytes, digest;
    uint64_t offset; /* how much is there */
    char dir[TIDE_PATH_MAX + 1];
    char cluster[TIDE_UID_CHARS + 1];
    char path[DATA_FILE_MAX];
};

/* Go on with the image of this index, length and digest where it was left (ret_receive->offset); anything else that was
 * received in part is removed. Errors: LIMIT, NOSPACE, IO. */
MUST_USE enum tide_status snapshot_receive_begin(const char *dir, const char *cluster, uint64_t index, uint64_t term,
                                                 uint64_t bytes, uint64_t digest, struct snapshot_receive *ret_receive,
                                                 struct err *err);
/* The next bytes. Errors: STATE (`offset` is not what is there, or more than announced; nothing changes), NOSPACE, IO. */
MUST_USE enum tide_status snapshot_receive_append(struct snapshot_receive *receive, uint64_t offset, const void *data,
                                                  size_t bytes, struct err *err);
/* Check it and make it one of the images, durably: then snapshot_load finds it. Closes in any case; after an error nothing
 * of it is left. Errors: STATE (not all of it has come; it stays open), CORRUPT (not what was announced), VERSION,
 * NOT_FOUND (a newer image has been made meanwhile), NOSPACE, IO. */
MUST_USE enum tide_status snapshot_receive_finish(struct snapshot_receive *receive, struct err *err);
/* Close it; what has arrived stays for another begin. A closed one is legal. */
void snapshot_receive_close(struct snapshot_receive *receive);
/* Close it and remove what has arrived. */
void snapshot_receive_abandon(struct snapshot_receive *receive);

#endif
