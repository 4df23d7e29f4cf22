/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_RAFT_ENTRY_H
#define COORDINATOR_RAFT_ENTRY_H

/* What a log is made of, and who keeps it. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"

#define RAFT_MEMBERS_MAX 16u /* voters and learners */
#define RAFT_VOTERS_MAX 7u
#define RAFT_ADDRESS_MAX 255u
#define RAFT_CONFIG_BYTES_MAX (16u << 10) /* of an encoded configuration */
#define RAFT_ENTRY_BYTES_MAX ((4u << 20) - 64u)

/* Bytes shared by the log, the messages under way and the disk: immutable once filled, freed with the last reference.
 * The count is atomic, since the disk's worker and the network may hold one; everything else belongs to one thread. */
struct raft_blob {
    _Atomic uint32_t refs;
    uint32_t bytes;
    char data[];
};

/* A blob of `bytes` with one reference, its data copied from `data` (NULL: zeros). */
MUST_USE struct raft_blob *raft_blob_create(const void *data, size_t bytes);
struct raft_blob *raft_blob_ref(struct raft_blob *blob); /* NULL is legal; returns it */
void raft_blob_unref(struct raft_blob *blob);            /* NULL is legal */

enum raft_entry_type {
    RAFT_NOOP,    /* a new leader's first; no bytes */
    RAFT_COMMAND, /* for the state machine */
    RAFT_CONFIG,  /* an encoded raft_config */
    RAFT_ENTRY_TYPES
};

struct raft_entry {
    uint64_t index, term;
    uint32_t type;          /* enum raft_entry_type */
    struct raft_blob *blob; /* NULL: no bytes */
};

struct raft_member {
    uint64_t id; /* never 0, never used again */
    bool voter;  /* else a learner: gets the log, does not count */
    char peer[RAFT_ADDRESS_MAX + 1]; /* "host:port" the other members reach it at */
    char api[RAFT_ADDRESS_MAX + 1];  /* URL for clients */
};

/* Who belongs to the group. In force from the moment its entry is in the log, committed or not (dissertation 4.1). */
struct raft_config {
    struct raft_member members[RAFT_MEMBERS_MAX]; /* by id, ascending */
    size_t count;                                 /* 0: knows of nobody yet; waits to be added */
    /* Told from groups that were made of it without agreement, and from what it was before it was made so (wire/identity.h).
     * Nothing here decides by it: whose messages come in is the caller's to see to. */
    uint64_t epoch;
};

/* NULL: not in it. */
const struct raft_member *raft_config_member(const struct raft_config *config, uint64_t id);
size_t raft_config_voters(const struct raft_config *config);
/* Insert in order. Errors: EXISTS (id or an address is taken, named), LIMIT, INVALID (id 0, an address that is empty). */
MUST_USE enum tide_status raft_config_add(struct raft_config *config, const struct raft_member *member, struct err *err);
void raft_config_remove(struct raft_config *config, uint64_t id);

/* As it stands in the log, in snapshots and in messages; the caller owns the blob.
 * decode errors: INVALID (truncated, out of order, over a limit). */
MUST_USE struct raft_blob *raft_config_encode(const struct raft_config *config);
MUST_USE enum tide_status raft_config_decode(const void *data, size_t bytes, struct raft_config *ret_config, struct err *err);

#endif
