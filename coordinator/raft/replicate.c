/* SPDX-License-Identifier: Apache-2.0 */
/* A leader and its peers: what to send next, and how much at a time.
 *
 *   PROBE          where the logs part is not known: one append at a time (5.3)
 *   REPLICATE      appends follow each other without waiting, within a window (dissertation 10.2.1)
 *   SEND_SNAPSHOT  what it needs is no longer in the log (7): one chunk at a time, resumed where it stopped */
#include "coordinator/raft/inner.h"

#include "ckpt/base/mem.h"

static const char *const state_names[] = {"probe", "replicate", "snapshot"};
_Static_assert(sizeof state_names / sizeof state_names[0] == RAFT_PEER_STATES, "every state has a name");

const char *raft_peer_state_name(unsigned state)
{
    return state < RAFT_PEER_STATES ? state_names[state] : "unknown";
}

struct peer *peer_of(struct raft *raft, uint64_t id)
{
    for (size_t i = 0; i < raft->peer_count; i++)
        if (raft->peers[i].id == id)
            return &raft->peers[i];
    return NULL;
}

void peer_probe(struct peer *peer, uint64_t next)
{
    peer->state = RAFT_PROBE;
    peer->next = next > peer->match ? next : peer->match + 1;
    peer->probing = false;
    peer->flight_head = peer->flight_count = 0;
    peer->flight_bytes = 0;
}

/* Those who stay keep what is known of them. */
void peers_follow_config(struct raft *raft)
{
    size_t kept = 0;
    for (size_t i = 0; i < raft->peer_count; i++)
        if (raft_config_member(&raft->config, raft->peers[i].id) != NULL)
            raft->peers[kept++] = raft->peers[i];
    raft->peer_count = kept;
    for (size_t i = 0; i < raft->config.count; i++) {
        const struct raft_member *member = &raft->config.members[i];
        if (member->id == raft->id)
            continue;
        struct peer *peer = peer_of(raft, member->id);
        if (peer == NULL) {
            peer = &raft->peers[raft->peer_count++];
            *peer = (struct peer){.id = member->id};
            peer_probe(peer, log_last(&raft->log) + 1);
        }
        peer->voter = member->voter;
    }
}

size_t active_voters(const struct raft *raft, const struct raft_config *config)
{
    size_t active = 0;
    for (size_t i = 0; i < config->count; i++) {
        if (!config->members[i].voter)
            continue;
        if (config->members[i].id == raft->id)
            active++;
        for (size_t p = 0; p < raft->peer_count; p++)
            active += raft->peers[p].id == config->members[i].id && raft->peers[p].silent_ticks < raft->election_ticks;
    }
    return active;
}

/* ---- appends ---- */

static struct raft_message append_message(const struct raft *raft, const struct peer *peer, uint64_t prev)
{
    struct raft_message message = {.kind = RAFT_MSG_APPEND, .to = peer->id, .term = raft->ballot.term};
    message.append.prev_index = prev;
    message.append.prev_term = log_term(&raft->log, prev);
    message.append.commit = raft->commit;
    message.append.round = raft->round;
    return message;
}

/* As many entries from `from` on as one message takes; at least one. */
static uint64_t fill(const struct raft *raft, struct raft_message *message, uint64_t from)
{
    uint64_t last = log_last(&raft->log), bytes = 0;
    size_t count = 0, most = last - from + 1 < RAFT_APPEND_ENTRIES_MAX ? (size_t)(last - from + 1) : RAFT_APPEND_ENTRIES_MAX;
    message->append.entries = mem_array(most, sizeof *message->append.entries);
    while (count < most) {
        const struct raft_entry *entry = log_entry(&raft->log, from + count);
        uint64_t more = entry->blob ? entry->blob->bytes : 0;
        if (count > 0 && bytes + more > RAFT_APPEND_BYTES_MAX)
            break;
        message->append.entries[count] = *entry;
        raft_blob_ref(entry->blob);
        bytes += more;
        count++;
    }
    message->append.count = count;
    return bytes;
}

static void begin_snapshot(struct raft *raft, struct raft_update *update, struct peer *peer)
{
    peer_probe(peer, peer->next);
    peer->state = RAFT_SEND_SNAPSHOT;
    peer->snapshot_index = raft->snapshots[0].index;
    peer->snapshot_offset = 0;
    send_chunk(raft, update, peer);
}

static bool window_open(const struct peer *peer)
{
    return peer->state == RAFT_PROBE
               ? !peer->probing
               : peer->state == RAFT_REPLICATE && peer->flight_count < RAFT_WINDOW_MESSAGES && peer->flight_bytes < RAFT_WINDOW_BYTES;
}

static void send_entries(struct raft *raft, struct raft_update *update, struct peer *peer)
{
    struct raft_message message = append_message(raft, peer, peer->next - 1);
    uint64_t bytes = fill(raft, &message, peer->next), last = peer->next - 1 + message.append.count;
    out_message(raft, update, &message, 0);
    if (peer->state == RAFT_PROBE) {
        peer->probing = true;
        return;
    }
    size_t at = (peer->flight_head + peer->flight_count++) % RAFT_WINDOW_MESSAGES;
    peer->flights[at] = (struct flight){.last = last, .bytes = bytes};
    peer->flight_bytes += bytes;
    peer->next = last + 1;
}

void replicate(struct raft *raft, struct raft_update *update, struct peer *peer)
{
    while (window_open(peer) && peer->next <= log_last(&raft->log)) {
        if (peer->next <= raft->log.base) {
            begin_snapshot(raft, update, peer);
            return;
        }
        send_entries(raft, update, peer);
    }
}

void replicate_all(struct raft *raft, struct raft_update *update)
{
    for (size_t i = 0; i < raft->peer_count; i++)
        replicate(raft, update, &raft->peers[i]);
}

/* A sign of life, and the question whether the peer still has what it was sent. While a snapshot is on its way there is
 * no entry both have: 0, 0 stands before every log. */
void heartbeat(struct raft *raft, struct raft_update *update, struct peer *peer)
{
    if (peer->state != RAFT_SEND_SNAPSHOT && peer->next <= raft->log.base)
        begin_snapshot(raft, update, peer);
    bool none = peer->state == RAFT_SEND_SNAPSHOT;
    struct raft_message message = append_message(raft, peer, none ? 0 : peer->next - 1);
    if (none) {
        message.append.prev_term = 0;
        message.append.commit = 0;
    }
    out_message(raft, update, &message, 0);
}

void heartbeat_all(struct raft *raft, struct raft_update *update)
{
    raft->beat_ticks = 0;
    for (size_t i = 0; i < raft->peer_count; i++)
        heartbeat(raft, update, &raft->peers[i]);
}

/* ---- snapshots ---- */

void send_chunk(struct raft *raft, struct raft_update *update, struct peer *peer)
{
    const struct raft_snapshot *snapshot = NULL;
    for (size_t i = 0; i < 2; i++)
        if (raft->snapshots[i].index != 0 && raft->snapshots[i].index == peer->snapshot_index)
            snapshot = &raft->snapshots[i];
    if (snapshot == NULL) { /* not kept any more: the newest, from its beginning */
        snapshot = &raft->snapshots[0];
        peer->snapshot_index = snapshot->index;
        peer->snapshot_offset = 0;
    }
    peer->snapshot_ticks = 0;
    if (snapshot->index == 0) /* none can be read: it waits for the next */
        return;
    uint64_t left = snapshot->total - peer->snapshot_offset;
    struct raft_message message = {.kind = RAFT_MSG_SNAPSHOT, .to = peer->id, .term = raft->ballot.term};
    message.snapshot.index = snapshot->index;
    message.snapshot.last_term = snapshot->term;
    message.snapshot.total = snapshot->total;
    message.snapshot.digest = snapshot->digest;
    message.snapshot.offset = peer->snapshot_offset;
    message.snapshot.bytes = left < RAFT_CHUNK_BYTES ? (uint32_t)left : RAFT_CHUNK_BYTES;
    message.snapshot.config = raft_config_encode(&snapshot->config);
    out_message(raft, update, &message, 0);
}

void send_timeout_now(struct raft *raft, struct raft_update *update, uint64_t to)
{
    struct raft_message message = {.kind = RAFT_MSG_TIMEOUT_NOW, .to = to, .term = raft->ballot.term};
    out_message(raft, update, &message, 0);
}
