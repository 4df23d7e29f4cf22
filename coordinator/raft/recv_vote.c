/* SPDX-License-Identifier: Apache-2.0 */
/* RequestVote, and PreVote. */
#include "coordinator/raft/inner.h"

/* "Raft determines which of two logs is more up-to-date by comparing the index and term of the last entries in the logs. If
 * the logs have last entries with different terms, then the log with the later term is more up-to-date. If the logs end with
 * the same term, then whichever log is longer is more up-to-date" (5.4.1). */
static bool up_to_date(const struct raft *raft, const struct raft_message *message)
{
    uint64_t last = log_last(&raft->log), term = log_term(&raft->log, last);
    return message->vote.last_term > term || (message->vote.last_term == term && message->vote.last_index >= last);
}

static void reply(struct raft *raft, struct raft_update *update, const struct raft_message *to, bool granted, uint64_t term)
{
    struct raft_message message = {.kind = RAFT_MSG_VOTE_REPLY, .to = to->from, .term = term};
    message.vote_reply.granted = granted;
    message.vote_reply.pre = to->vote.pre;
    out_message(raft, update, &message, 0);
}

RECEIVER(recv_vote)
{
    (void)err;
    /* "If a server receives a RequestVote request within the minimum election timeout of hearing from a current leader, it
     * does not update its term or grant its vote" (4.2.3); the leader's own wish to hand over is excepted (3.10). */
    if (!message->vote.transfer && message->term >= raft->ballot.term && leader_alive(raft))
        return TIDE_OK;
    if (message->vote.pre) {
        /* Nothing is promised and nothing changes: it is only asked whether it would be worth it (9.6). */
        bool granted = message->term > raft->ballot.term && up_to_date(raft, message);
        reply(raft, update, message, granted, granted ? message->term : raft->ballot.term);
        return TIDE_OK;
    }
    if (message->term > raft->ballot.term)
        become_follower(raft, update, message->term, 0);
    /* "If votedFor is null or candidateId, and candidate's log is at least as up-to-date as receiver's log, grant vote"
     * (figure 2), if the term is the present one. */
    bool granted = message->term == raft->ballot.term &&
                   (raft->ballot.vote == 0 || raft->ballot.vote == message->from) && up_to_date(raft, message);
    if (granted && raft->ballot.vote == 0) {
        become_follower(raft, update, raft->ballot.term, 0);
        raft->ballot.vote = message->from;
        out_ballot(raft, update);
    }
    reply(raft, update, message, granted, raft->ballot.term);
    return TIDE_OK;
}
