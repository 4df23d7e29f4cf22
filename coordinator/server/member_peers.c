/* SPDX-License-Identifier: Apache-2.0 */
/* The other members: who they are, and what is said to them. */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/wire/identity.h"
#include "coordinator/net/net.h"
#include "coordinator/server/member_inner.h"

#define LINKS_MAX (2u * RAFT_MEMBERS_MAX)

/* ---- heard ---- */

static void on_message(void *context, uint64_t from, const void *data, size_t bytes)
{
    struct member *member = context;
    struct raft_message message;
    struct err err = {0};
    if (member->later != 0)
        return;
    enum tide_status status = raft_message_decode(data, bytes, &message, &err);
    if (status == TIDE_OK && message.from != from) {
        err_set(&err, TIDE_E_DENIED, "it speaks for member %" PRIu64, message.from);
        raft_message_release(&message);
        status = err.status;
    }
    if (status != TIDE_OK) {
        log_warn("a message of member %" PRIu64 " is not taken: %s", from, err.text);
        return;
    }
    struct raft_event event = {.kind = RAFT_EV_MESSAGE, .message = &message};
    if (member_step(member, &event, &err) != TIDE_OK)
        log_warn("a message of member %" PRIu64 " is not taken: %s", from, err.text);
}

static void on_up(void *context, uint64_t peer)
{
    (void)context;
    log_debug("member %" PRIu64 " can be sent to", peer);
}

static void on_later(void *context, uint64_t peer, uint64_t epoch)
{
    left_behind_heard(context, peer, epoch);
}

/* Whoever calls may be of a group that this member has not heard of yet, as long as it follows nobody; who follows a leader
 * has, or will have in a moment, the group that its leader has. */
static bool admits(void *context, uint64_t stranger)
{
    const struct member *member = context;
    uint64_t leader = member->turn.leader;
    return leader == 0 || leader == stranger || raft_config_member(raft_config_of(member->raft), member->id) == NULL;
}

static void on_down(void *context, uint64_t peer, const char *why)
{
    struct member *member = context;
    struct raft_event event = {.kind = RAFT_EV_UNREACHABLE, .number = peer};
    struct err err = {0};
    log_debug("member %" PRIu64 " cannot be sent to: %s", peer, why);
    if (member_step(member, &event, &err) != TIDE_OK)
        log_debug("unreachable member %" PRIu64 ": %s", peer, err.text);
}

/* ---- said ---- */

static void blob_release(void *owner)
{
    raft_blob_unref(owner);
}

static void send_wire(struct member *member, uint64_t to)
{
    const struct raft_wire *wire = &member->wire;
    struct net_part *parts = mem_array(wire->blob_count, sizeof *parts);
    for (size_t i = 0; i < wire->blob_count; i++) {
        struct raft_blob *blob = wire->blobs[i];
        parts[i] = (struct net_part){
            .data = blob->data, .bytes = blob->bytes, .owner = raft_blob_ref(blob), .release = blob_release};
    }
    /* What cannot be sent is lost, as on any network: the core repeats what matters. */
    net_send(member->net, to, wire->head, wire->head_bytes, parts, wire->blob_count);
    mem_free(parts);
}

void peers_send(struct member *member, struct raft_message *message)
{
    message->from = member->id;
    if (member->net == NULL || (message->kind == RAFT_MSG_SNAPSHOT && !image_fill(member, message)))
        return;
    raft_message_encode(message, &member->wire);
    send_wire(member, message->to);
}

/* ---- who they are ---- */

enum tide_status peers_open(struct member *member, struct err *err)
{
    const struct member_options *o = &member->options;
    size_t voters = raft_config_voters(raft_config_of(member->raft));
    if (o->peer_listen == NULL && voters > 1)
        return err_set(err, TIDE_E_CONFLICT,
                       "%s is that of member %" PRIu64 " of a group of %zu: start it with --identity, which says who it is",
                       member->dir.path, member->id, voters);
    if (o->peer_listen == NULL)
        return TIDE_OK;
    struct net_options options = {.loop = &member->loop,
                                  .self = member->id,
                                  .tag = member->dir.tag,
                                  .level = member->options.level,
                                  .cluster = member->dir.cluster,
                                  .listen = o->peer_listen,
                                  .ca = o->ca,
                                  .cert = o->cert,
                                  .key = o->key,
                                  .context = member,
                                  .on_message = on_message,
                                  .on_up = on_up,
                                  .on_down = on_down,
                                  .on_later = on_later,
                                  .admits = admits};
    return net_open(&options, &member->net, err);
}

void peers_follow(struct member *member)
{
    const struct raft_config *now = raft_config_of(member->raft);
    if (member->net == NULL)
        return;
    /* One that joins reads in the log what the group was before it was recovered: that is not its own past. */
    net_epoch(member->net, raft_config_member(now, member->id) != NULL ? now->epoch : EPOCH_UNKNOWN);
    for (size_t i = 0; i < now->count; i++) {
        const struct raft_member *peer = &now->members[i];
        struct err err = {0};
        if (peer->id == member->id)
            continue;
        if (net_peer(member->net, peer->id, peer->peer, &err) != TIDE_OK)
            log_error("member %" PRIu64 " at %s cannot be reached: %s", peer->id, peer->peer, err.text);
        else if (raft_config_member(&member->known, peer->id) == NULL &&
                 raft_config_add(&member->known, peer, &err) != TIDE_OK)
            log_error("member %" PRIu64 " cannot be noted: %s", peer->id, err.text);
    }
}

void peers_turned(struct member *member)
{
    if (member->net != NULL)
        net_admit_again(member->net);
}

void peers_forget(struct member *member, const struct raft_entry *entry)
{
    struct raft_config now;
    struct err err = {0};
    if (member->net == NULL || raft_config_decode(entry->blob->data, entry->blob->bytes, &now, &err) != TIDE_OK)
        return;
    for (size_t i = member->known.count; i-- > 0;) {
        uint64_t id = member->known.members[i].id;
        /* A member that lags may have the entry that adds it again before it hears that this one is committed. */
        if (raft_config_member(&now, id) != NULL || raft_config_member(raft_config_of(member->raft), id) != NULL)
            continue;
        net_forget(member->net, id);
        raft_config_remove(&member->known, id);
    }
}

const char *peers_address(const struct member *member)
{
    return member->net ? net_address(member->net) : "";
}

void peers_close(struct member *member)
{
    net_close(member->net);
    member->net = NULL;
    raft_wire_release(&member->wire);
}

void peers_status(const struct member *member, struct member_status *status)
{
    struct net_status list[LINKS_MAX];
    size_t count = member->net ? net_status(member->net, list, LINKS_MAX) : 0;
    for (size_t i = 0; i < count && status->link_count < RAFT_MEMBERS_MAX; i++) {
        struct member_link *link = &status->links[status->link_count++];
        *link = (struct member_link){.id = list[i].id,
                                     .connected = list[i].connected,
                                     .level = list[i].level,
                                     .contact_ms = list[i].contact_ms,
                                     .queued_bytes = list[i].queued_bytes};
        text_copy(link->error, sizeof link->error, list[i].error);
    }
}
