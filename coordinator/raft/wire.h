/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_RAFT_WIRE_H
#define COORDINATOR_RAFT_WIRE_H

/* A message as bytes: a version, fields of fixed size in little-endian order, then the bytes of its blobs. */

#include "coordinator/raft/message.h"

#define RAFT_WIRE_VERSION 1u
#define RAFT_WIRE_COPY_MAX (16u << 10) /* a blob up to this is copied behind the head, until the first larger one */
#define RAFT_WIRE_HEAD_BYTES 80u       /* the most that stands before entries and blobs */
#define RAFT_WIRE_ENTRY_BYTES 16u
/* No encoded message is larger. */
#define RAFT_WIRE_BYTES_MAX                                                                                                 \
    (RAFT_WIRE_HEAD_BYTES + RAFT_APPEND_ENTRIES_MAX * RAFT_WIRE_ENTRY_BYTES + RAFT_APPEND_BYTES_MAX + RAFT_ENTRY_BYTES_MAX)

/* An encoded message is `head` and the bytes of `blobs`, one behind the other. Zeroed before its first use; used again, it
 * keeps its memory. */
struct raft_wire {
    uint8_t *head;
    size_t head_bytes, head_room;
    struct raft_blob **blobs; /* the message's: valid as long as it, unless referenced */
    size_t blob_count, blob_room;
};

/* The message must keep its limits, its entries follow prev_index without a gap, and a snapshot's data be filled in. */
void raft_message_encode(const struct raft_message *message, struct raft_wire *wire);
void raft_wire_release(struct raft_wire *wire);

/* Everything is checked that can be without knowing any state, and nothing may follow. Blobs are copies. Errors: VERSION,
 * LIMIT, INVALID; nothing is left to release then. */
MUST_USE enum tide_status raft_message_decode(const void *data, size_t bytes, struct raft_message *ret_message,
                                              struct err *err);

#endif
