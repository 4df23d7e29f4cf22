/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_RAFT_MESSAGE_H
#define COORDINATOR_RAFT_MESSAGE_H

/* What members say to each other. Any message may be lost, doubled, late or out of order. */

#include "coordinator/raft/entry.h"

#ifndef RAFT_LIMITS /* as in raft.h */
#define RAFT_APPEND_ENTRIES_MAX 512u
#define RAFT_APPEND_BYTES_MAX (1u << 20) /* of one message, unless a single entry is larger */
#define RAFT_CHUNK_BYTES (512u << 10)    /* of a snapshot in one message */
#endif

enum raft_message_kind {
    RAFT_MSG_VOTE = 1,       /* RequestVote; also its dress rehearsal, PreVote (dissertation 9.6) */
    RAFT_MSG_VOTE_REPLY,
    RAFT_MSG_APPEND,         /* AppendEntries; without entries: heartbeat */
    RAFT_MSG_APPEND_REPLY,
    RAFT_MSG_SNAPSHOT,       /* InstallSnapshot, one chunk */
    RAFT_MSG_SNAPSHOT_REPLY,
    RAFT_MSG_TIMEOUT_NOW,    /* leadership transfer (dissertation 3.10): campaign at once */
    RAFT_MESSAGE_KINDS
};

struct raft_message {
    uint32_t kind; /* enum raft_message_kind */
    uint64_t from, to;
    uint64_t term; /* the sender's; of a PreVote and its grant: the term the candidate would take */
    union {
        struct {
            uint64_t last_index, last_term;
            bool pre, transfer; /* transfer: the leader itself has asked for this election */
        } vote;
        struct {
            bool granted, pre;
        } vote_reply;
        struct {
            uint64_t prev_index, prev_term; /* the entry before the first one here; 0, 0: none, a mere sign of life */
            uint64_t commit;
            uint64_t round; /* of heartbeats; the reply repeats it, and so confirms reads (6.4) */
            struct raft_entry *entries; /* owned; blobs referenced */
            size_t count;               /* <= RAFT_APPEND_ENTRIES_MAX */
        } append;
        struct {
            bool accepted;
            uint64_t prev_index; /* of the message this answers */
            uint64_t match;      /* accepted: prev_index + count of that very message */
            uint64_t hint_index, hint_term; /* refused: the last entry here that may be the same as there */
            uint64_t round;
        } append_reply;
        struct {
            uint64_t index, last_term;  /* last entry it covers */
            uint64_t total, digest;     /* bytes and checksum of the whole image file */
            uint64_t offset;            /* of this chunk */
            uint32_t bytes;             /* of this chunk */
            struct raft_blob *config;   /* encoded configuration at `index`; owned */
            struct raft_blob *data;     /* owned; NULL as it leaves the core: whoever sends it fills it in */
        } snapshot;
        struct {
            uint64_t index;
            uint64_t offset; /* next byte wanted */
            bool done;       /* the receiver has all that the snapshot covers */
        } snapshot_reply;
    };
};

/* Free what it owns and zero it. */
void raft_message_release(struct raft_message *message);

#endif
