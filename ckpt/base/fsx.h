/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_FSX_H
#define CKPT_BASE_FSX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ckpt/base/err.h"

/* Small file-system verbs of the shells. All set `err` and return its status. */

/* mkdir -p; existing directories are fine. */
MUST_USE enum tide_status fsx_mkdirs(const char *path, mode_t mode, struct err *err);

/* The same for a directory in a place where others may write too (/tmp, /dev/shm): one that was there already is only taken
 * if it is this user's and nobody else can write into it. Errors: DENIED (it is not; the text says whose it is), LIMIT, IO. */
MUST_USE enum tide_status fsx_mkdir_own(const char *path, mode_t mode, struct err *err);

/* A whole file into heap memory with a NUL after the last byte. Errors: NOT_FOUND, LIMIT (longer than bytes_max), IO. */
MUST_USE enum tide_status fsx_read(const char *path, size_t bytes_max, char **ret_data, size_t *ret_bytes, struct err *err);

/* Replace a file so that a crash leaves the old or the new one: temporary name, fsync, rename, directory fsync. */
MUST_USE enum tide_status fsx_replace(const char *path, const void *data, size_t bytes, mode_t mode, struct err *err);

/* fsync of a directory, after something was created, renamed or removed in it. */
MUST_USE enum tide_status fsx_sync_dir(const char *path, struct err *err);

/* All bytes at that offset; restarts after EINTR and short writes. False: errno says why, and any of them may be there. */
MUST_USE bool fsx_pwrite_all(int fd, const void *data, size_t bytes, uint64_t offset);

/* All bytes, or an error; restarts after EINTR and short writes. */
MUST_USE enum tide_status fsx_write_all(int fd, const void *data, size_t bytes, const char *what, struct err *err);

/* rm -rf; a path that is not there is fine. Does not follow links. */
enum tide_status fsx_remove_tree(const char *path, struct err *err);

#endif
