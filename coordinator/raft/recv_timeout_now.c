/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/raft/inner.h"

/* "The target server ... starts a new election (incrementing its term and becoming a candidate)" (3.10), without PreVote:
 * the leader itself has asked for it, and says so to the voters. */
RECEIVER(recv_timeout_now)
{
    (void)message, (void)err;
    if (raft->role == RAFT_FOLLOWER && config_is_voter(raft, raft->id))
        campaign(raft, update, true);
    return TIDE_OK;
}
