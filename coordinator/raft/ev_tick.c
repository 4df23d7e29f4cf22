/* SPDX-License-Identifier: Apache-2.0 */
/* Time passes. */
#include "coordinator/raft/inner.h"

/* "A leader steps down if an election timeout elapses without a successful round of heartbeats to a majority of its cluster"
 * (6.2): clients are not kept waiting by a leader that can decide nothing. */
static bool quorum_lost(const struct raft *raft)
{
    return active_voters(raft, &raft->config) < config_majority(raft);
}

static void tick_leader(struct raft *raft, struct raft_update *update)
{
    for (size_t i = 0; i < raft->peer_count; i++)
        raft->peers[i].silent_ticks++;
    if (quorum_lost(raft)) {
        become_follower(raft, update, raft->ballot.term, 0);
        return;
    }
    if (raft->transfer_to != 0 && ++raft->transfer_ticks >= raft->election_ticks)
        raft->transfer_to = 0;
    for (size_t i = 0; i < raft->peer_count; i++) {
        struct peer *peer = &raft->peers[i];
        if (peer->state == RAFT_SEND_SNAPSHOT && ++peer->snapshot_ticks >= raft->election_ticks)
            send_chunk(raft, update, peer);
    }
    if (++raft->beat_ticks >= raft->heartbeat_ticks)
        heartbeat_all(raft, update);
}

EVENT(ev_tick)
{
    (void)event, (void)err;
    if (raft->role == RAFT_LEADER) {
        tick_leader(raft, update);
        return TIDE_OK;
    }
    raft->leader_silent_ticks++;
    raft->elapsed_ticks++;
    bool alone = raft_config_voters(&raft->config) == 1 && config_is_voter(raft, raft->id);
    /* Learners, and members that are in no configuration, wait to be told. */
    if ((raft->elapsed_ticks >= raft->timeout_ticks || (alone && raft->role == RAFT_FOLLOWER)) && config_may_stand(raft))
        pre_campaign(raft, update);
    else if (raft->role != RAFT_FOLLOWER && raft->elapsed_ticks % raft->heartbeat_ticks == 0)
        ask_again(raft, update);
    return TIDE_OK;
}
