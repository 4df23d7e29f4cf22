/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/raft/inner.h"

RECEIVER(recv_vote_reply)
{
    (void)err;
    bool granted = message->vote_reply.granted;
    /* A grant of a PreVote speaks of the term that would be; anything else, of the present one. */
    if (message->vote_reply.pre) {
        if (raft->role == RAFT_PRE_CANDIDATE && message->term == raft->ballot.term + (granted ? 1 : 0))
            count_vote(raft, update, message->from, granted);
    } else if (raft->role == RAFT_CANDIDATE && message->term == raft->ballot.term) {
        count_vote(raft, update, message->from, granted);
    }
    return TIDE_OK;
}
