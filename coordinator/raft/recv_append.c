/* SPDX-License-Identifier: Apache-2.0 */
/* AppendEntries, at the receiver. */
#include "coordinator/raft/inner.h"

#include <inttypes.h>

static void accept(struct raft *raft, struct raft_update *update, const struct raft_message *to)
{
    uint64_t match = to->append.prev_index + to->append.count;
    /* A sign of life is answered at once, with what of it is durable: a disk that hangs must not look like a dead member. The
     * rest is acknowledged by the answers to the appends that brought it. */
    if (to->append.count == 0 && match > raft->stable)
        match = raft->stable;
    struct raft_message message = {.kind = RAFT_MSG_APPEND_REPLY, .to = to->from, .term = raft->ballot.term};
    message.append_reply.accepted = true;
    message.append_reply.prev_index = to->append.prev_index;
    /* What this very message has shown to be the same, and nothing behind it: an older tail may stand there. */
    message.append_reply.match = match;
    message.append_reply.round = to->append.round;
    out_message(raft, update, &message, match > raft->stable ? raft->write_number : 0);
}

/* "When rejecting an AppendEntries request, the follower can include the term of the conflicting entry" (5.3): here the last
 * place at which the logs can agree, seen from this side. */
static void refuse(struct raft *raft, struct raft_update *update, const struct raft_message *to)
{
    struct raft_message message = {.kind = RAFT_MSG_APPEND_REPLY, .to = to->from, .term = raft->ballot.term};
    message.append_reply.prev_index = to->append.prev_index;
    message.append_reply.hint_index = log_not_newer(&raft->log, to->append.prev_index, to->append.prev_term);
    message.append_reply.hint_term = log_term(&raft->log, message.append_reply.hint_index);
    message.append_reply.round = to->append.round;
    out_message(raft, update, &message, 0);
}

/* A message no leader would send is dropped, as a network would. */
static bool plausible(const struct raft *raft, const struct raft_message *message)
{
    uint64_t term = message->append.prev_term;
    for (size_t i = 0; i < message->append.count; i++) {
        const struct raft_entry *entry = &message->append.entries[i];
        struct raft_config config;
        struct err unused = {0};
        if (entry->index != message->append.prev_index + 1 + i || entry->term < term || entry->term > raft->ballot.term)
            return false;
        if (entry->type == RAFT_CONFIG &&
            (entry->blob == NULL || raft_config_decode(entry->blob->data, entry->blob->bytes, &config, &unused) != TIDE_OK))
            return false;
        term = entry->term;
    }
    return true;
}

/* "If an existing entry conflicts with a new one (same index but different terms), delete the existing entry and all that
 * follow it; append any new entries not already in the log" (figure 2). Entries that are there already stay: the message may
 * be an old one, and what stands behind them newer. */
static enum tide_status take_entries(struct raft *raft, struct raft_update *update, const struct raft_message *message,
                                     size_t from, struct err *err)
{
    for (size_t i = from; i < message->append.count; i++) {
        const struct raft_entry *entry = &message->append.entries[i];
        if (entry->index <= log_last(&raft->log)) {
            if (log_term(&raft->log, entry->index) == entry->term)
                continue;
            if (entry->index <= raft->commit)
                return err_set(err, TIDE_E_CORRUPT,
                               "member %" PRIu64 ", leader of term %" PRIu64 ", has another entry %" PRIu64
                               " than the one committed here",
                               message->from, message->term, entry->index);
            out_truncate(raft, update, entry->index);
            if (raft->config_index >= entry->index)
                config_look_again(raft, update);
        }
        out_append(raft, update, entry);
        if (entry->type == RAFT_CONFIG)
            config_take(raft, update, entry);
    }
    return TIDE_OK;
}

/* Of what lies below `base` only its last entry's term is still known: where the message shows that one, it must be the same. */
static bool other_base(const struct raft *raft, const struct raft_message *message)
{
    uint64_t prev = message->append.prev_index, base = raft->log.base;
    return prev < base && base <= prev + message->append.count &&
           message->append.entries[base - prev - 1].term != raft->log.base_term;
}

static bool no_room(const struct raft *raft, const struct raft_message *message)
{
    return message->append.count > 0 && (out_writes_full(raft) || raft->log.bytes > RAFT_LOG_BYTES_MAX);
}

RECEIVER(recv_append)
{
    if (raft->role == RAFT_LEADER)
        return err_set(err, TIDE_E_CORRUPT, "members %" PRIu64 " and %" PRIu64 " both lead in term %" PRIu64, raft->id,
                       message->from, message->term);
    uint64_t prev = message->append.prev_index, base = raft->log.base, last_new = prev + message->append.count;
    if (!plausible(raft, message))
        return TIDE_OK;
    follow(raft, update, message->from);
    if (prev > log_last(&raft->log)) {
        refuse(raft, update, message);
        return TIDE_OK;
    }
    /* "Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm" (figure 2). What lies at
     * or below `base` is committed, and so the same everywhere. */
    if (prev >= base && log_term(&raft->log, prev) != message->append.prev_term) {
        if (prev <= raft->commit)
            return err_set(err, TIDE_E_CORRUPT,
                           "member %" PRIu64 ", leader of term %" PRIu64 ", has another entry %" PRIu64 " than the one committed here",
                           message->from, message->term, prev);
        refuse(raft, update, message);
        return TIDE_OK;
    }
    if (other_base(raft, message))
        return err_set(err, TIDE_E_CORRUPT,
                       "member %" PRIu64 ", leader of term %" PRIu64 ", has another entry %" PRIu64 " than the one committed here",
                       message->from, message->term, base);
    if (no_room(raft, message))
        return TIDE_OK; /* unanswered: the leader's window closes, and it asks again */
    if (last_new > base) {
        enum tide_status status = take_entries(raft, update, message, prev < base ? (size_t)(base - prev) : 0, err);
        if (status != TIDE_OK)
            return status;
    }
    /* "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)" (figure 2). */
    commit_to(raft, update, message->append.commit < last_new ? message->append.commit : last_new);
    accept(raft, update, message);
    return TIDE_OK;
}
