/* SPDX-License-Identifier: Apache-2.0 */
/* The one entry: which event, which message, and what every term means. */
#include "coordinator/raft/inner.h"

/* "If a server receives a request with a stale term number, it rejects the request" (5.1), saying the present term: else a
 * leader that was cut off would go on for as long as nobody else speaks to it. */
static void refuse_stale(struct raft *raft, struct raft_update *update, const struct raft_message *message)
{
    struct raft_message reply = {.to = message->from, .term = raft->ballot.term};
    if (message->kind == RAFT_MSG_APPEND || message->kind == RAFT_MSG_SNAPSHOT) {
        reply.kind = RAFT_MSG_APPEND_REPLY;
    } else if (message->kind == RAFT_MSG_VOTE) {
        reply.kind = RAFT_MSG_VOTE_REPLY;
        reply.vote_reply.pre = message->vote.pre;
    } else {
        return;
    }
    out_message(raft, update, &reply, 0);
}

/* "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower" (figure 2); not for a
 * PreVote or its grant, which speak of a term that may never be, nor for a vote, which recv_vote may have to ignore. */
static void adopt_term(struct raft *raft, struct raft_update *update, const struct raft_message *message)
{
    bool asks = message->kind == RAFT_MSG_VOTE;
    bool would_be = message->kind == RAFT_MSG_VOTE_REPLY && message->vote_reply.pre && message->vote_reply.granted;
    bool leads = message->kind == RAFT_MSG_APPEND || message->kind == RAFT_MSG_SNAPSHOT;
    if (message->term > raft->ballot.term && !asks && !would_be)
        become_follower(raft, update, message->term, leads ? message->from : 0);
}

EVENT(ev_message)
{
    static RECEIVER((*const receivers[RAFT_MESSAGE_KINDS])) = {
        [RAFT_MSG_VOTE] = recv_vote,         [RAFT_MSG_VOTE_REPLY] = recv_vote_reply,
        [RAFT_MSG_APPEND] = recv_append,     [RAFT_MSG_APPEND_REPLY] = recv_append_reply,
        [RAFT_MSG_SNAPSHOT] = recv_snapshot, [RAFT_MSG_SNAPSHOT_REPLY] = recv_snapshot_reply,
        [RAFT_MSG_TIMEOUT_NOW] = recv_timeout_now,
    };
    struct raft_message *message = event->message;
    if (message->to != raft->id || message->from == raft->id || message->from == 0 || message->kind >= RAFT_MESSAGE_KINDS ||
        receivers[message->kind] == NULL)
        return TIDE_OK;
    adopt_term(raft, update, message);
    if (message->term < raft->ballot.term) {
        refuse_stale(raft, update, message);
        return TIDE_OK;
    }
    return receivers[message->kind](raft, message, update, err);
}

enum tide_status raft_step(struct raft *raft, struct raft_event *event, struct raft_update *update, struct err *err)
{
    static EVENT((*const events[RAFT_EVENTS])) = {
        [RAFT_EV_TICK] = ev_tick,
        [RAFT_EV_MESSAGE] = ev_message,
        [RAFT_EV_PERSISTED] = ev_persisted,
        [RAFT_EV_PROPOSE] = ev_propose,
        [RAFT_EV_READ] = ev_read,
        [RAFT_EV_ADD] = ev_add,
        [RAFT_EV_PROMOTE] = ev_promote,
        [RAFT_EV_REMOVE] = ev_remove,
        [RAFT_EV_UPDATE] = ev_update,
        [RAFT_EV_TRANSFER] = ev_transfer,
        [RAFT_EV_UNREACHABLE] = ev_unreachable,
        [RAFT_EV_SNAPSHOT] = ev_snapshot,
        [RAFT_EV_SNAPSHOT_LOST] = ev_snapshot_lost,
        [RAFT_EV_CHUNK_STORED] = ev_chunk_stored,
        [RAFT_EV_INSTALLED] = ev_installed,
        [RAFT_EV_INSTALL_FAILED] = ev_install_failed,
    };
    update->commit = raft->commit;
    if (event->kind >= RAFT_EVENTS)
        return err_set(err, TIDE_E_INVALID, "event %u is none of ours", event->kind);
    enum tide_status status = events[event->kind](raft, event, update, err);
    if (event->kind == RAFT_EV_MESSAGE)
        raft_message_release(event->message);
    return status;
}
