/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_STORE_DIR_H
#define CKPT_STORE_STORE_DIR_H

/* A directory as a store: an object is a file whose path below the root is its key. Writers that have not finished are
 * files without a name, or, where the file system cannot do that, files whose name begins with STORE_DIR_TEMPORARY. A writer holds
 * a lock (flock) on such a file; one without is what a dead writer left, and the next list that passes removes it. */

#include "ckpt/store/store.h"

#define STORE_DIR_TEMPORARY "~put." /* '~' is in no key */

enum store_dir_flags {
    STORE_DIR_DEFAULT = 0,
    STORE_DIR_NAMED = 1 /* never use files without a name: what is done on file systems that lack them */
};

/* Open without proving that it can be written: for readers, and for tests. Creates the directory if it is missing. */
MUST_USE enum tide_status store_dir_open(const char *path, unsigned flags, struct store **ret_store, struct err *err);

/* Append the keys below root_fd that begin with prefix, in no order. */
MUST_USE enum tide_status store_dir_walk(int root_fd, const char *prefix, struct strlist *ret_keys, struct err *err);

#endif
