/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_RAFT_LIMITS_H
#define TESTS_SIM_RAFT_LIMITS_H

/* Included before everything else in the simulator's build of coordinator/raft: small limits, so that windows fill, logs
 * are cut and snapshots come in pieces within seconds of little load. */
#define RAFT_LIMITS
#define RAFT_WINDOW_MESSAGES 4u
#define RAFT_WINDOW_BYTES 3000u
#define RAFT_UNCOMMITTED_MAX 48u
#define RAFT_UNCOMMITTED_BYTES_MAX 12000u
#define RAFT_LOG_BYTES_MAX 40000u
#define RAFT_TRAILING_ENTRIES 12u
#define RAFT_TRAILING_BYTES 3000u
#define RAFT_READS_MAX 6u
#define RAFT_HELD_MAX 48u
#define RAFT_WRITES_MAX 64u
#define RAFT_PROMOTE_LAG_MAX 8u
#define RAFT_APPEND_ENTRIES_MAX 6u
#define RAFT_APPEND_BYTES_MAX 1000u
#define RAFT_CHUNK_BYTES 200u

#endif
