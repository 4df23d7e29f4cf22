/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration in force, and requests to change it: one member at a time (dissertation 4.1). */
#include <inttypes.h>
#include <string.h>

#include "coordinator/raft/inner.h"

bool config_is_voter(const struct raft *raft, uint64_t id)
{
    const struct raft_member *member = raft_config_member(&raft->config, id);
    return member != NULL && member->voter;
}

/* "A server that is not part of its own latest configuration should still start new elections, as it might still be needed
 * until the Cnew entry is committed" (4.2.2): without its vote, and its longer log, nobody else might be elected. */
bool config_may_stand(const struct raft *raft)
{
    struct raft_config before;
    struct err unused = {0};
    if (config_is_voter(raft, raft->id))
        return true;
    if (raft->config_index <= raft->commit || raft_config_at(raft, raft->config_index - 1, &before, &unused) != TIDE_OK)
        return false;
    const struct raft_member *self = raft_config_member(&before, raft->id);
    return self != NULL && self->voter;
}

size_t config_majority(const struct raft *raft)
{
    return raft_config_voters(&raft->config) / 2 + 1;
}

static void use(struct raft *raft, struct raft_update *update, const struct raft_config *config, uint64_t index)
{
    raft->config = *config;
    raft->config_index = index;
    update->config_changed = true;
    if (raft->role == RAFT_LEADER)
        peers_follow_config(raft);
}

/* "A server always uses the latest configuration in its log, regardless of whether the entry is committed" (4.1). */
void config_take(struct raft *raft, struct raft_update *update, const struct raft_entry *entry)
{
    struct raft_config config;
    struct err unused = {0};
    /* It was read when it came in: recv_append refuses what is none. */
    if (raft_config_decode(entry->blob->data, entry->blob->bytes, &config, &unused) == TIDE_OK)
        use(raft, update, &config, entry->index);
}

void config_look_again(struct raft *raft, struct raft_update *update)
{
    for (uint64_t index = log_last(&raft->log); index > raft->log.base; index--) {
        const struct raft_entry *entry = log_entry(&raft->log, index);
        if (entry->type == RAFT_CONFIG) {
            config_take(raft, update, entry);
            return;
        }
    }
    use(raft, update, &raft->base_config, raft->log.base);
}

const struct raft_config *raft_config_of(const struct raft *raft)
{
    return &raft->config;
}

enum tide_status raft_config_at(const struct raft *raft, uint64_t index, struct raft_config *ret_config, struct err *err)
{
    if (index < raft->log.base || index > log_last(&raft->log))
        return err_set(err, TIDE_E_NOT_FOUND, "entry %" PRIu64 " is not in memory", index);
    for (uint64_t i = index; i > raft->log.base; i--) {
        const struct raft_entry *entry = log_entry(&raft->log, i);
        if (entry->type == RAFT_CONFIG)
            return raft_config_decode(entry->blob->data, entry->blob->bytes, ret_config, err);
    }
    *ret_config = raft->base_config;
    return TIDE_OK;
}

/* ---- requests ---- */

/* One change at a time, and none before the leader has committed an entry of its own term: else two configurations without
 * a common member could both come to count (the defect of the first description of 4.1, mended in 2015). */
static enum tide_status may_change(const struct raft *raft, struct err *err)
{
    if (raft->role != RAFT_LEADER)
        return refuse_not_leader(raft, err);
    if (!leader_ready(raft))
        return err_set(err, TIDE_E_UNAVAILABLE, "the leader has just been elected and has committed nothing yet; ask again");
    if (raft->config_index > raft->commit)
        return err_set(err, TIDE_E_STATE,
                       "another change of the group (entry %" PRIu64 ") is not committed yet; wait for it, then ask again",
                       raft->config_index);
    if (raft->transfer_to != 0)
        return err_set(err, TIDE_E_UNAVAILABLE, "leadership is moving to member %" PRIu64 "; ask again", raft->transfer_to);
    if (out_writes_full(raft))
        return err_set(err, TIDE_E_UNAVAILABLE, "the disk is behind; ask again");
    return TIDE_OK;
}

static void change(struct raft *raft, struct raft_update *update, const struct raft_config *config, struct raft_event *event)
{
    struct raft_blob *blob = raft_config_encode(config);
    struct raft_entry entry = {
        .index = log_last(&raft->log) + 1, .term = raft->ballot.term, .type = RAFT_CONFIG, .blob = blob};
    out_append(raft, update, &entry);
    raft->uncommitted_bytes += blob->bytes;
    raft_blob_unref(blob);
    config_take(raft, update, &entry);
    event->number = entry.index;
    replicate_all(raft, update);
    commit_count(raft, update);
}

EVENT(ev_add)
{
    enum tide_status status = may_change(raft, err);
    struct raft_config config = raft->config;
    struct raft_member member = *event->member;
    /* "New servers first join as non-voting members", or a majority could wait for their catching up (4.2.1). */
    member.voter = false;
    if (status == TIDE_OK)
        status = raft_config_add(&config, &member, err);
    if (status == TIDE_OK)
        change(raft, update, &config, event);
    return status;
}

/* Of the voters of `config`, are enough within reach to commit it and what follows? */
static enum tide_status check_reach(const struct raft *raft, const struct raft_config *config, struct err *err)
{
    size_t voters = raft_config_voters(config), reached = active_voters(raft, config);
    if (reached > voters / 2)
        return TIDE_OK;
    return err_set(err, TIDE_E_STATE,
                   "only %zu of the %zu voters that would then be are within reach: nothing more could be decided; bring "
                   "members back first",
                   reached, voters);
}

EVENT(ev_promote)
{
    enum tide_status status = may_change(raft, err);
    if (status != TIDE_OK)
        return status;
    struct raft_config config = raft->config;
    uint64_t id = event->number, last = log_last(&raft->log);
    const struct peer *peer = peer_of(raft, id);
    const struct raft_member *member = raft_config_member(&config, id);
    if (member == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "there is no member %" PRIu64 " in the group; add it first", id);
    if (member->voter)
        return err_set(err, TIDE_E_EXISTS, "member %" PRIu64 " is a voter already", id);
    if (raft_config_voters(&config) == RAFT_VOTERS_MAX)
        return err_set(err, TIDE_E_LIMIT, "a group has at most %u voters", RAFT_VOTERS_MAX);
    /* One that was never heard is not silent for long enough to be missed, and lacks little where there is little. */
    if (peer->match == 0 || peer->silent_ticks >= raft->election_ticks)
        return err_set(err, TIDE_E_STATE, "member %" PRIu64 " does not answer; start it, let it catch up, then promote it", id);
    if (peer->match + RAFT_PROMOTE_LAG_MAX < last)
        return err_set(err, TIDE_E_STATE,
                       "member %" PRIu64 " is %" PRIu64 " entries behind, more than %u: as a voter it would be waited for; "
                       "promote it when it has caught up",
                       id, last - peer->match, RAFT_PROMOTE_LAG_MAX);
    for (size_t i = 0; i < config.count; i++)
        if (config.members[i].id == id)
            config.members[i].voter = true;
    status = check_reach(raft, &config, err);
    if (status == TIDE_OK)
        change(raft, update, &config, event);
    return status;
}

EVENT(ev_remove)
{
    enum tide_status status = may_change(raft, err);
    if (status != TIDE_OK)
        return status;
    struct raft_config config = raft->config;
    uint64_t id = event->number;
    const struct raft_member *member = raft_config_member(&config, id);
    if (member == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "there is no member %" PRIu64 " in the group", id);
    bool voter = member->voter;
    if (voter && raft_config_voters(&config) == 1)
        return err_set(err, TIDE_E_STATE, "member %" PRIu64 " is the last voter; without it nothing could be decided", id);
    raft_config_remove(&config, id);
    if (voter)
        status = check_reach(raft, &config, err);
    if (status == TIDE_OK)
        change(raft, update, &config, event);
    return status;
}

/* Nobody counts that did not before: majorities of both configurations have the same members. */
EVENT(ev_update)
{
    enum tide_status status = may_change(raft, err);
    if (status != TIDE_OK)
        return status;
    struct raft_config config = raft->config;
    struct raft_member member = *event->member;
    const struct raft_member *before = raft_config_member(&raft->config, member.id);
    if (before == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "there is no member %" PRIu64 " in the group", member.id);
    if (strcmp(before->peer, member.peer) == 0 && strcmp(before->api, member.api) == 0)
        return err_set(err, TIDE_E_EXISTS, "member %" PRIu64 " has these addresses already", member.id);
    member.voter = before->voter;
    raft_config_remove(&config, member.id);
    status = raft_config_add(&config, &member, err);
    if (status == TIDE_OK)
        change(raft, update, &config, event);
    return status;
}
