/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of a leader: proposals, reads, to hand over. */
#include "coordinator/raft/inner.h"

#include <inttypes.h>

#include "ckpt/base/mem.h"

#define READS_ROOM_FIRST 64u

static enum tide_status may_propose(const struct raft *raft, const struct raft_event *event, uint64_t bytes, struct err *err)
{
    if (raft->role != RAFT_LEADER)
        return refuse_not_leader(raft, err);
    if (raft->transfer_to != 0)
        return err_set(err, TIDE_E_UNAVAILABLE, "leadership is moving to member %" PRIu64 "; ask again", raft->transfer_to);
    if (log_last(&raft->log) - raft->commit + event->count > RAFT_UNCOMMITTED_MAX ||
        raft->uncommitted_bytes + bytes > RAFT_UNCOMMITTED_BYTES_MAX || raft->log.bytes + bytes > RAFT_LOG_BYTES_MAX ||
        out_writes_full(raft))
        return err_set(err, TIDE_E_UNAVAILABLE, "%" PRIu64 " commands wait for a majority of the members; ask again in a moment",
                       log_last(&raft->log) - raft->commit);
    return TIDE_OK;
}

EVENT(ev_propose)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < event->count; i++) {
        const struct raft_entry *entry = &event->entries[i];
        uint64_t of = entry->blob ? entry->blob->bytes : 0;
        if (entry->type == RAFT_CONFIG || entry->type >= RAFT_ENTRY_TYPES)
            return err_set(err, TIDE_E_INVALID, "an entry of type %u cannot be proposed", entry->type);
        if (of > RAFT_ENTRY_BYTES_MAX)
            return err_set(err, TIDE_E_LIMIT, "an entry of %" PRIu64 " bytes is larger than %u", of, RAFT_ENTRY_BYTES_MAX);
        bytes += of;
    }
    enum tide_status status = may_propose(raft, event, bytes, err);
    if (status != TIDE_OK)
        return status;
    for (size_t i = 0; i < event->count; i++) {
        event->entries[i].index = log_last(&raft->log) + 1;
        event->entries[i].term = raft->ballot.term;
        out_append(raft, update, &event->entries[i]);
    }
    raft->uncommitted_bytes += bytes;
    replicate_all(raft, update);
    return TIDE_OK;
}

EVENT(ev_read)
{
    if (raft->role != RAFT_LEADER)
        return refuse_not_leader(raft, err);
    if (raft->reads_count == RAFT_READS_MAX)
        return err_set(err, TIDE_E_UNAVAILABLE, "%u reads wait for a majority of the members; ask again in a moment",
                       RAFT_READS_MAX);
    if (raft->reads_count == raft->reads_room) {
        raft->reads_room = raft->reads_room ? raft->reads_room * 2 : READS_ROOM_FIRST;
        raft->reads = mem_grow(raft->reads, raft->reads_room, sizeof *raft->reads);
    }
    raft->reads[raft->reads_count++] =
        (struct pending_read){.number = event->number, .index = leader_ready(raft) ? raft->commit : 0};
    reads_advance(raft, update);
    return TIDE_OK;
}

static enum tide_status choose_target(struct raft *raft, uint64_t id, struct peer **ret_peer, struct err *err)
{
    struct peer *best = NULL;
    if (id != 0 && raft_config_member(&raft->config, id) == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "there is no member %" PRIu64 " in the group", id);
    for (size_t i = 0; i < raft->peer_count; i++) {
        struct peer *peer = &raft->peers[i];
        bool fits = peer->voter && peer->silent_ticks < raft->election_ticks && (id == 0 || id == peer->id);
        if (fits && (best == NULL || peer->match > best->match))
            best = peer;
    }
    if (best == NULL && id == raft->id)
        return err_set(err, TIDE_E_EXISTS, "member %" PRIu64 " leads already", id);
    if (best == NULL && id != 0)
        return err_set(err, TIDE_E_STATE, "member %" PRIu64 " cannot lead: it %s", id,
                       config_is_voter(raft, id) ? "does not answer" : "is no voter; promote it first");
    if (best == NULL)
        return err_set(err, TIDE_E_STATE, "there is no other voter that answers, so nobody could lead instead");
    *ret_peer = best;
    return TIDE_OK;
}

/* "The prior leader stops accepting new client requests, fully updates the target's log, then sends TimeoutNow"; after an
 * election time-out without effect it goes on as before (3.10). */
EVENT(ev_transfer)
{
    struct peer *peer = NULL;
    if (raft->role != RAFT_LEADER)
        return refuse_not_leader(raft, err);
    if (raft->transfer_to != 0)
        return err_set(err, TIDE_E_UNAVAILABLE, "leadership is moving to member %" PRIu64 " already", raft->transfer_to);
    enum tide_status status = choose_target(raft, event->number, &peer, err);
    if (status != TIDE_OK)
        return status;
    raft->transfer_to = peer->id;
    raft->transfer_ticks = 0;
    if (peer->match == log_last(&raft->log))
        send_timeout_now(raft, update, peer->id);
    else
        replicate(raft, update, peer);
    return TIDE_OK;
}

EVENT(ev_unreachable)
{
    (void)update, (void)err;
    struct peer *peer = raft->role == RAFT_LEADER ? peer_of(raft, event->number) : NULL;
    if (peer != NULL && peer->state != RAFT_SEND_SNAPSHOT)
        peer_probe(peer, peer->match + 1);
    return TIDE_OK;
}
