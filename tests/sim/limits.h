/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_LIMITS_H
#define TESTS_SIM_LIMITS_H

/* Included before everything else in the simulated cluster's build of coordinator/raft: logs short enough to be cut, and
 * images large enough to travel in pieces, within the minute a world lasts. tests/sim/raft has smaller ones still. */
#define RAFT_LIMITS
#define RAFT_WINDOW_MESSAGES 8u
#define RAFT_WINDOW_BYTES (256u << 10)
#define RAFT_UNCOMMITTED_MAX 512u
#define RAFT_UNCOMMITTED_BYTES_MAX (4u << 20)
#define RAFT_LOG_BYTES_MAX (16u << 20)
#define RAFT_TRAILING_ENTRIES 8u
#define RAFT_TRAILING_BYTES (64u << 10)
#define RAFT_READS_MAX 64u
#define RAFT_HELD_MAX 256u
#define RAFT_WRITES_MAX 1024u
#define RAFT_PROMOTE_LAG_MAX 64u
#define RAFT_APPEND_ENTRIES_MAX 32u
#define RAFT_APPEND_BYTES_MAX (32u << 10)
#define RAFT_CHUNK_BYTES (8u << 10)

#endif
