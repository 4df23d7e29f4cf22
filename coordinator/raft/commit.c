/* SPDX-License-Identifier: Apache-2.0 */
/* What a majority holds, and what a majority has confirmed. */
#include <string.h>

#include "coordinator/raft/inner.h"

/* The largest number that a majority of the voters has reached. */
static uint64_t majority_of(const struct raft *raft, uint64_t own, uint64_t (*of)(const struct peer *peer))
{
    uint64_t sorted[RAFT_MEMBERS_MAX];
    size_t count = 0;
    for (size_t i = 0; i <= raft->peer_count; i++) {
        bool self = i == raft->peer_count;
        if (self ? !config_is_voter(raft, raft->id) : !raft->peers[i].voter)
            continue;
        uint64_t value = self ? own : of(&raft->peers[i]);
        size_t at = count++;
        for (; at > 0 && sorted[at - 1] < value; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = value;
    }
    return count > 0 ? sorted[count / 2] : 0;
}

static uint64_t match_of(const struct peer *peer)
{
    return peer->match;
}

static uint64_t round_of(const struct peer *peer)
{
    return peer->round;
}

void commit_to(struct raft *raft, struct raft_update *update, uint64_t index)
{
    if (index <= raft->commit)
        return;
    if (raft->role == RAFT_LEADER)
        for (uint64_t i = raft->commit + 1; i <= index; i++) {
            const struct raft_entry *entry = log_entry(&raft->log, i);
            raft->uncommitted_bytes -= entry->blob ? entry->blob->bytes : 0;
        }
    raft->commit = index;
    update->commit = index;
}

/* A leader that is no longer in its own configuration leads until that is committed, then goes (4.2.2); who is furthest is
 * told to take over at once instead of being waited for. */
static void leave_if_removed(struct raft *raft, struct raft_update *update)
{
    if (raft->config_index > raft->commit || config_is_voter(raft, raft->id))
        return;
    heartbeat_all(raft, update);
    const struct peer *best = NULL;
    for (size_t i = 0; i < raft->peer_count; i++)
        if (raft->peers[i].voter && (best == NULL || raft->peers[i].match > best->match))
            best = &raft->peers[i];
    if (best != NULL)
        send_timeout_now(raft, update, best->id);
    become_follower(raft, update, raft->ballot.term, 0);
}

/* "If there exists an N such that N > commitIndex, a majority of matchIndex[i] >= N, and log[N].term == currentTerm: set
 * commitIndex = N" (figure 2). Entries of older terms are committed with it, never by counting (5.4.2, figure 8). Own
 * entries count once they are durable here, not before (dissertation 10.2.1). */
void commit_count(struct raft *raft, struct raft_update *update)
{
    uint64_t index = majority_of(raft, raft->stable, match_of);
    if (index <= raft->commit || log_term(&raft->log, index) != raft->ballot.term)
        return;
    commit_to(raft, update, index);
    reads_advance(raft, update);
    leave_if_removed(raft, update);
}

/* ---- reads (dissertation 6.4) ---- */

static bool alone(const struct raft *raft)
{
    return config_majority(raft) == 1 && config_is_voter(raft, raft->id);
}

/* "The leader needs to make sure it has not been superseded by a newer leader of which it is unaware. It issues a new round
 * of heartbeats and waits for their acknowledgments from a majority of the cluster." One round confirms all reads that
 * were asked before it began. */
void reads_advance(struct raft *raft, struct raft_update *update)
{
    if (!leader_ready(raft) || raft->reads_count == 0)
        return;
    uint64_t confirmed = alone(raft) ? UINT64_MAX : majority_of(raft, raft->round, round_of);
    size_t done = 0;
    bool running = false, waiting = false;
    for (size_t i = 0; i < raft->reads_count; i++) {
        struct pending_read *read = &raft->reads[i];
        if (read->index == 0) /* asked before this leader knew what is committed */
            read->index = raft->commit;
        if (read->round <= confirmed && (read->round != 0 || confirmed == UINT64_MAX) && done == i) {
            out_read(update, read->number, true, read->index);
            done++;
        } else {
            running = running || (read->round != 0 && read->round <= raft->round);
            waiting = waiting || read->round == 0;
        }
    }
    raft->reads_count -= done;
    memmove(raft->reads, raft->reads + done, raft->reads_count * sizeof *raft->reads);
    if (running || !waiting)
        return;
    raft->round++;
    for (size_t i = 0; i < raft->reads_count; i++)
        if (raft->reads[i].round == 0)
            raft->reads[i].round = raft->round;
    heartbeat_all(raft, update);
}
