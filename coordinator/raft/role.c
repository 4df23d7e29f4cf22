/* SPDX-License-Identifier: Apache-2.0 */
/* Roles, and how one becomes another (figure 4 of the paper, with PreVote before the candidate). */
#include "coordinator/raft/inner.h"

#include <inttypes.h>

static const char *const role_names[] = {"follower", "pre-candidate", "candidate", "leader"};
_Static_assert(sizeof role_names / sizeof role_names[0] == RAFT_ROLES, "every role has a name");

const char *raft_role_name(unsigned role)
{
    return role < RAFT_ROLES ? role_names[role] : "unknown";
}

/* "Raft uses randomized election timeouts to ensure that split votes are rare" (5.2). */
static void draw_timeout(struct raft *raft)
{
    raft->elapsed_ticks = 0;
    raft->timeout_ticks = raft->election_ticks + (uint32_t)rng_below(&raft->rng, raft->election_ticks);
}

static void set_role(struct raft *raft, struct raft_update *update, unsigned role, uint64_t leader)
{
    if (raft->role != role || raft->leader != leader)
        update->role_changed = true;
    raft->role = role;
    raft->leader = leader;
}

bool leader_ready(const struct raft *raft)
{
    return raft->role == RAFT_LEADER && raft->commit >= raft->term_start;
}

bool leader_alive(const struct raft *raft)
{
    return raft->role == RAFT_LEADER || (raft->leader != 0 && raft->leader_silent_ticks < raft->election_ticks);
}

static void leave_office(struct raft *raft, struct raft_update *update)
{
    for (size_t i = 0; i < raft->reads_count; i++)
        out_read(update, raft->reads[i].number, false, 0);
    raft->reads_count = 0;
    raft->peer_count = 0;
    raft->transfer_to = 0;
    raft->uncommitted_bytes = 0;
}

void become_follower(struct raft *raft, struct raft_update *update, uint64_t term, uint64_t leader)
{
    if (raft->role == RAFT_LEADER)
        leave_office(raft, update);
    if (term > raft->ballot.term) {
        /* What was promised in the old term is no longer said. */
        out_forget_held(raft);
        raft->ballot = (struct raft_ballot){.term = term};
        out_ballot(raft, update);
        update->role_changed = true;
    }
    set_role(raft, update, RAFT_FOLLOWER, leader);
    raft->leader_silent_ticks = 0;
    draw_timeout(raft);
}

void follow(struct raft *raft, struct raft_update *update, uint64_t leader)
{
    if (raft->role != RAFT_FOLLOWER || raft->leader != leader)
        become_follower(raft, update, raft->ballot.term, leader);
    raft->leader_silent_ticks = 0;
    raft->elapsed_ticks = 0;
}

/* ---- elections ---- */

static bool tally_has(const struct tally *tally, uint64_t id)
{
    for (size_t i = 0; i < tally->count; i++)
        if (tally->ids[i] == id)
            return true;
    return false;
}

void ask_again(struct raft *raft, struct raft_update *update)
{
    bool pre = raft->role == RAFT_PRE_CANDIDATE;
    for (size_t i = 0; i < raft->config.count; i++) {
        const struct raft_member *member = &raft->config.members[i];
        if (!member->voter || member->id == raft->id || tally_has(&raft->granted, member->id) ||
            tally_has(&raft->refused, member->id))
            continue;
        struct raft_message message = {.kind = RAFT_MSG_VOTE, .to = member->id, .term = raft->ballot.term + (pre ? 1 : 0)};
        message.vote.last_index = log_last(&raft->log);
        message.vote.last_term = log_term(&raft->log, log_last(&raft->log));
        message.vote.pre = pre;
        message.vote.transfer = raft->by_transfer;
        out_message(raft, update, &message, 0);
    }
}

static void begin_asking(struct raft *raft, struct raft_update *update, bool by_transfer)
{
    raft->granted.count = raft->refused.count = 0;
    raft->by_transfer = by_transfer;
    draw_timeout(raft);
    ask_again(raft, update);
}

/* "A candidate only increments its term if it first learns from a majority of the cluster that they would be willing to
 * grant the candidate their votes" (9.6): a member that was cut off does not disturb the others when it returns. */
void pre_campaign(struct raft *raft, struct raft_update *update)
{
    set_role(raft, update, RAFT_PRE_CANDIDATE, 0);
    begin_asking(raft, update, false);
    count_vote(raft, update, raft->id, true);
}

/* "To begin an election, a follower increments its current term and transitions to candidate state. It then votes for
 * itself and issues RequestVote RPCs in parallel to each of the other servers in the cluster" (5.2). Its own vote counts
 * when it is durable (ev_persisted), and until then no request leaves. */
void campaign(struct raft *raft, struct raft_update *update, bool transfer)
{
    out_forget_held(raft);
    raft->ballot = (struct raft_ballot){.term = raft->ballot.term + 1, .vote = raft->id};
    out_ballot(raft, update);
    set_role(raft, update, RAFT_CANDIDATE, 0);
    update->role_changed = true;
    begin_asking(raft, update, transfer);
}

static void tally_add(struct tally *tally, uint64_t id)
{
    if (!tally_has(tally, id) && tally->count < RAFT_MEMBERS_MAX)
        tally->ids[tally->count++] = id;
}

void count_vote(struct raft *raft, struct raft_update *update, uint64_t from, bool granted)
{
    if (!config_is_voter(raft, from))
        return;
    tally_add(granted ? &raft->granted : &raft->refused, from);
    if (raft->granted.count >= config_majority(raft)) {
        if (raft->role == RAFT_PRE_CANDIDATE)
            campaign(raft, update, false);
        else
            become_leader(raft, update);
    } else if (raft->refused.count >= config_majority(raft)) {
        become_follower(raft, update, raft->ballot.term, 0);
    }
}

void become_leader(struct raft *raft, struct raft_update *update)
{
    set_role(raft, update, RAFT_LEADER, raft->id);
    raft->beat_ticks = 0;
    raft->transfer_to = 0;
    raft->reads_count = 0;
    raft->uncommitted_bytes = 0;
    for (uint64_t index = raft->commit + 1; index <= log_last(&raft->log); index++) {
        const struct raft_entry *entry = log_entry(&raft->log, index);
        raft->uncommitted_bytes += entry->blob ? entry->blob->bytes : 0;
    }
    raft->peer_count = 0;
    peers_follow_config(raft);
    /* "The leader ... commits a blank no-op entry at the start of its term" (8): older entries are committed with it, by
     * the rule of figure 8, and only then does it know what is committed. */
    struct raft_entry noop = {.index = log_last(&raft->log) + 1, .term = raft->ballot.term, .type = RAFT_NOOP};
    raft->term_start = noop.index;
    out_append(raft, update, &noop);
    replicate_all(raft, update);
}

enum tide_status refuse_not_leader(const struct raft *raft, struct err *err)
{
    if (raft->leader != 0 && raft->leader != raft->id)
        return err_set(err, TIDE_E_UNAVAILABLE, "member %" PRIu64 " does not lead; member %" PRIu64 " does", raft->id, raft->leader);
    return err_set(err, TIDE_E_UNAVAILABLE, "member %" PRIu64 " does not lead, and knows of no leader", raft->id);
}
