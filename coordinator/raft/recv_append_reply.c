/* SPDX-License-Identifier: Apache-2.0 */
/* The answer to AppendEntries, at the leader. */
#include "coordinator/raft/inner.h"

static void land_flights(struct peer *peer, uint64_t match)
{
    while (peer->flight_count > 0 && peer->flights[peer->flight_head].last <= match) {
        peer->flight_bytes -= peer->flights[peer->flight_head].bytes;
        peer->flight_head = (peer->flight_head + 1) % RAFT_WINDOW_MESSAGES;
        peer->flight_count--;
    }
}

/* "If successful: update nextIndex and matchIndex for follower" (figure 2). Answers may be old: nothing goes back. */
static void accepted(struct peer *peer, const struct raft_message *message)
{
    uint64_t match = message->append_reply.match;
    bool news = match > peer->match;
    if (news)
        peer->match = match;
    if (peer->state == RAFT_SEND_SNAPSHOT) {
        if (peer->next <= peer->match)
            peer->next = peer->match + 1;
        if (peer->match >= peer->snapshot_index)
            peer_probe(peer, peer->match + 1);
        return;
    }
    if (peer->state == RAFT_PROBE) {
        if (!news && message->append_reply.prev_index != peer->next - 1)
            return;
        peer_probe(peer, peer->match + 1);
        peer->state = RAFT_REPLICATE;
    }
    if (peer->next <= peer->match)
        peer->next = peer->match + 1;
    land_flights(peer, peer->match);
}

/* "After a rejection, the leader decrements nextIndex and retries the AppendEntries RPC" (5.3): here to the last place at
 * which both logs can agree, as far as both sides can tell. */
static void refused(const struct raft *raft, struct peer *peer, const struct raft_message *message)
{
    uint64_t prev = message->append_reply.prev_index;
    bool current = peer->state == RAFT_REPLICATE ? prev > peer->match : peer->state == RAFT_PROBE && prev == peer->next - 1;
    if (!current)
        return;
    uint64_t agree = log_not_newer(&raft->log, message->append_reply.hint_index, message->append_reply.hint_term);
    if (agree >= prev)
        agree = prev - 1;
    peer_probe(peer, agree + 1);
}

RECEIVER(recv_append_reply)
{
    (void)err;
    struct peer *peer = raft->role == RAFT_LEADER ? peer_of(raft, message->from) : NULL;
    if (peer == NULL || message->append_reply.match > log_last(&raft->log))
        return TIDE_OK;
    peer->silent_ticks = 0;
    /* Whatever it says of its log, it knows of no later leader. */
    if (message->append_reply.round > peer->round && message->append_reply.round <= raft->round)
        peer->round = message->append_reply.round;
    if (message->append_reply.accepted)
        accepted(peer, message);
    else
        refused(raft, peer, message);
    commit_count(raft, update);
    reads_advance(raft, update);
    /* Both may have ended this member's office. */
    peer = raft->role == RAFT_LEADER ? peer_of(raft, message->from) : NULL;
    if (peer == NULL)
        return TIDE_OK;
    replicate(raft, update, peer);
    /* "The prior leader fully updates the target's log, then sends a TimeoutNow request" (3.10). */
    if (raft->transfer_to == peer->id && peer->match == log_last(&raft->log))
        send_timeout_now(raft, update, peer->id);
    return TIDE_OK;
}
