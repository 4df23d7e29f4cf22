/* SPDX-License-Identifier: Apache-2.0 */
/* InstallSnapshot, at the receiver: chunks go to the disk one by one; where it stopped it goes on, also after a restart and
 * under another leader, as long as it is the same image. */
#include "coordinator/raft/inner.h"

#include <inttypes.h>

static void reply(struct raft *raft, struct raft_update *update, uint64_t to, uint64_t index, uint64_t offset, bool done)
{
    struct raft_message message = {.kind = RAFT_MSG_SNAPSHOT_REPLY, .to = to, .term = raft->ballot.term};
    message.snapshot_reply.index = index;
    message.snapshot_reply.offset = offset;
    message.snapshot_reply.done = done;
    /* Done: it has all of it, and for good. */
    out_message(raft, update, &message, done && index > raft->stable ? raft->write_number : 0);
}

static bool plausible(const struct raft_message *message, struct raft_config *ret_config)
{
    const struct raft_blob *config = message->snapshot.config, *data = message->snapshot.data;
    struct err unused = {0};
    return message->snapshot.index > 0 && message->snapshot.total > 0 && data != NULL && data->bytes == message->snapshot.bytes &&
           data->bytes > 0 && data->bytes <= RAFT_CHUNK_BYTES && message->snapshot.offset <= message->snapshot.total &&
           data->bytes <= message->snapshot.total - message->snapshot.offset && config != NULL &&
           raft_config_decode(config->data, config->bytes, ret_config, &unused) == TIDE_OK;
}

RECEIVER(recv_snapshot)
{
    struct raft_snapshot snapshot = {.index = message->snapshot.index,
                                     .term = message->snapshot.last_term,
                                     .total = message->snapshot.total,
                                     .digest = message->snapshot.digest};
    if (raft->role == RAFT_LEADER)
        return err_set(err, TIDE_E_CORRUPT, "members %" PRIu64 " and %" PRIu64 " both lead in term %" PRIu64, raft->id,
                       message->from, message->term);
    if (!plausible(message, &snapshot.config))
        return TIDE_OK;
    follow(raft, update, message->from);
    if (snapshot.index <= raft->commit) {
        reply(raft, update, message->from, snapshot.index, snapshot.total, true);
        return TIDE_OK;
    }
    if (raft->receiving_busy)
        return TIDE_OK;
    bool same = raft->receiving.index == snapshot.index && raft->receiving.digest == snapshot.digest &&
                raft->receiving.total == snapshot.total;
    if (same && message->snapshot.offset != raft->receiving_next) {
        reply(raft, update, message->from, snapshot.index, raft->receiving_next, false);
        return TIDE_OK;
    }
    raft->receiving = snapshot;
    raft->receiving_next = message->snapshot.offset;
    raft->receiving_busy = true;
    update->chunk.snapshot = snapshot;
    update->chunk.offset = message->snapshot.offset;
    update->chunk.data = message->snapshot.data;
    message->snapshot.data = NULL;
    return TIDE_OK;
}

EVENT(ev_chunk_stored)
{
    (void)err;
    if (!raft->receiving_busy || raft->receiving.index != event->number)
        return TIDE_OK;
    raft->receiving_busy = false;
    raft->receiving_next = event->offset;
    if (raft->leader != 0 && raft->leader != raft->id)
        reply(raft, update, raft->leader, event->number, event->offset, false);
    return TIDE_OK;
}

EVENT(ev_install_failed)
{
    (void)err;
    if (!raft->receiving_busy || raft->receiving.index != event->number)
        return TIDE_OK;
    raft->receiving_busy = false;
    raft->receiving = (struct raft_snapshot){0};
    if (raft->leader != 0 && raft->leader != raft->id)
        reply(raft, update, raft->leader, event->number, 0, false);
    return TIDE_OK;
}

static void keep(struct raft *raft, const struct raft_snapshot *snapshot)
{
    raft->snapshots[1] = raft->snapshots[0];
    raft->snapshots[0] = *snapshot;
}

/* "If existing log entry has same index and term as snapshot's last included entry, retain log entries following it and
 * reply; discard the entire log [otherwise]; reset state machine using snapshot contents (and load snapshot's cluster
 * configuration)" (figure 13). */
EVENT(ev_installed)
{
    (void)err;
    if (!raft->receiving_busy || raft->receiving.index != event->number)
        return TIDE_OK;
    struct raft_snapshot snapshot = raft->receiving;
    raft->receiving_busy = false;
    raft->receiving = (struct raft_snapshot){0};
    if (snapshot.index > raft->commit) {
        if (snapshot.index > log_last(&raft->log) || log_term(&raft->log, snapshot.index) != snapshot.term) {
            out_reset(raft, update, snapshot.index, snapshot.term);
            raft->base_config = snapshot.config;
            config_look_again(raft, update);
        } else if (raft->stable < snapshot.index) {
            raft->stable = snapshot.index;
        }
        commit_to(raft, update, snapshot.index);
        update->restore = snapshot.index;
        keep(raft, &snapshot);
    }
    if (raft->leader != 0 && raft->leader != raft->id)
        reply(raft, update, raft->leader, snapshot.index, snapshot.total, true);
    return TIDE_OK;
}

/* ---- own snapshots ---- */

/* What peers that are only a little behind may still need. */
static uint64_t trailing_from(const struct raft *raft, uint64_t index)
{
    uint64_t through = index, bytes = 0;
    while (through > raft->log.base && index - through < RAFT_TRAILING_ENTRIES) {
        const struct raft_entry *entry = log_entry(&raft->log, through);
        bytes += entry->blob ? entry->blob->bytes : 0;
        if (bytes > RAFT_TRAILING_BYTES)
            break;
        through--;
    }
    return through;
}

EVENT(ev_snapshot)
{
    uint64_t index = event->number;
    if (index > raft->commit)
        return err_set(err, TIDE_E_CORRUPT, "a snapshot of entry %" PRIu64 ", which is not committed here", index);
    if (index <= raft->snapshots[0].index || index < raft->log.base)
        return TIDE_OK;
    struct raft_snapshot snapshot = {
        .index = index, .term = log_term(&raft->log, index), .total = event->total, .digest = event->digest};
    enum tide_status status = raft_config_at(raft, index, &snapshot.config, err);
    if (status != TIDE_OK)
        return status;
    keep(raft, &snapshot);
    uint64_t through = trailing_from(raft, index);
    status = raft_config_at(raft, through, &raft->base_config, err);
    if (status != TIDE_OK)
        return status;
    log_compact(&raft->log, through);
    if (raft->config_index < through)
        raft->config_index = through;
    (void)update;
    return TIDE_OK;
}

/* Whoever is being sent it gets the one before, if the log still goes on from there, or waits for the next. */
EVENT(ev_snapshot_lost)
{
    (void)update, (void)err;
    if (event->number == 0)
        return TIDE_OK;
    if (raft->snapshots[0].index == event->number) {
        raft->snapshots[0] = raft->snapshots[1];
        raft->snapshots[1] = (struct raft_snapshot){0};
    } else if (raft->snapshots[1].index == event->number) {
        raft->snapshots[1] = (struct raft_snapshot){0};
    }
    if (raft->snapshots[0].index < raft->log.base)
        raft->snapshots[0] = raft->snapshots[1] = (struct raft_snapshot){0};
    return TIDE_OK;
}
