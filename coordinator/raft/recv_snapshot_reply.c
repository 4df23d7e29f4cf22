/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/raft/inner.h"

RECEIVER(recv_snapshot_reply)
{
    (void)err;
    struct peer *peer = raft->role == RAFT_LEADER ? peer_of(raft, message->from) : NULL;
    if (peer == NULL)
        return TIDE_OK;
    peer->silent_ticks = 0;
    if (peer->state != RAFT_SEND_SNAPSHOT || message->snapshot_reply.index != peer->snapshot_index)
        return TIDE_OK;
    if (message->snapshot_reply.done) {
        if (message->snapshot_reply.index > peer->match)
            peer->match = message->snapshot_reply.index;
        peer_probe(peer, peer->match + 1);
        commit_count(raft, update);
        peer = raft->role == RAFT_LEADER ? peer_of(raft, message->from) : NULL;
        if (peer != NULL)
            replicate(raft, update, peer);
        return TIDE_OK;
    }
    /* Forward at once; the same again, or from the beginning, when its time has come (ev_tick): else a receiver that cannot
     * keep a chunk would be sent it for ever as fast as the network allows. */
    bool forward = message->snapshot_reply.offset > peer->snapshot_offset;
    peer->snapshot_offset = message->snapshot_reply.offset;
    if (forward)
        send_chunk(raft, update, peer);
    return TIDE_OK;
}
