/* SPDX-License-Identifier: Apache-2.0 */
/* Birth, death, and looking in. */
#include "coordinator/raft/raft.h"

#include <inttypes.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "coordinator/raft/inner.h"

static enum tide_status check_options(const struct raft_options *options, struct err *err)
{
    uint64_t next = 0, term = 0;
    if (options->id == 0)
        return err_set(err, TIDE_E_INVALID, "a member's id cannot be 0");
    for (size_t i = 0; i < options->count; i++) {
        const struct raft_entry *entry = &options->entries[i];
        struct raft_config config;
        if ((i > 0 && entry->index != next) || entry->term < term || entry->term > options->ballot.term || entry->term == 0)
            return err_set(err, TIDE_E_CORRUPT,
                           "entry %" PRIu64 " of term %" PRIu64 " in the log does not follow the one before, or is newer than "
                           "the term %" PRIu64 " this member knows of",
                           entry->index, entry->term, options->ballot.term);
        if (entry->type == RAFT_CONFIG &&
            (entry->blob == NULL || raft_config_decode(entry->blob->data, entry->blob->bytes, &config, err) != TIDE_OK))
            return err_set(err, TIDE_E_CORRUPT, "entry %" PRIu64 " in the log is no configuration of a group", entry->index);
        next = entry->index + 1;
        term = entry->term;
    }
    if (options->count > 0 && options->entries[0].index > options->snapshot.index + 1)
        return err_set(err, TIDE_E_CORRUPT, "the log begins with entry %" PRIu64 ", but the snapshot ends with entry %" PRIu64,
                       options->entries[0].index, options->snapshot.index);
    return TIDE_OK;
}

static void load(struct raft *raft, const struct raft_options *options)
{
    const struct raft_snapshot *snapshot = &options->snapshot;
    struct raft_update unused = {0};
    raft->snapshots[0] = *snapshot;
    raft->base_config = snapshot->config;
    log_reset(&raft->log, snapshot->index, snapshot->term);
    for (size_t i = 0; i < options->count; i++)
        if (options->entries[i].index > snapshot->index)
            log_append(&raft->log, &options->entries[i]);
    raft->commit = snapshot->index;
    raft->stable = log_last(&raft->log);
    config_look_again(raft, &unused);
}

enum tide_status raft_create(const struct raft_options *options, struct raft **ret_raft, struct err *err)
{
    enum tide_status status = check_options(options, err);
    if (status != TIDE_OK)
        return status;
    struct raft *raft = mem_alloc(sizeof *raft);
    raft->id = options->id;
    raft->rng.state = options->seed;
    raft->election_ticks = options->election_ticks ? options->election_ticks : RAFT_ELECTION_TICKS_DEFAULT;
    raft->heartbeat_ticks = options->heartbeat_ticks ? options->heartbeat_ticks : RAFT_HEARTBEAT_TICKS_DEFAULT;
    raft->ballot = options->ballot;
    /* A snapshot may have become durable before the ballot of the term it came in: it tells of that term as well. */
    if (options->snapshot.term > raft->ballot.term) {
        raft->ballot = (struct raft_ballot){.term = options->snapshot.term};
        raft->ballot_owed = true;
    }
    raft->peers = mem_array(RAFT_MEMBERS_MAX, sizeof *raft->peers);
    load(raft, options);
    raft->timeout_ticks = raft->election_ticks + (uint32_t)rng_below(&raft->rng, raft->election_ticks);
    if (raft->election_ticks < 3 * raft->heartbeat_ticks) {
        raft_free(raft);
        return err_set(err, TIDE_E_INVALID, "the election time-out (%u ticks) must be at least three heartbeats (%u ticks each)",
                       options->election_ticks, options->heartbeat_ticks);
    }
    *ret_raft = raft;
    return TIDE_OK;
}

void raft_free(struct raft *raft)
{
    if (raft == NULL)
        return;
    out_forget_held(raft);
    log_truncate(&raft->log, 0);
    mem_free(raft->log.items);
    mem_free(raft->writes);
    mem_free(raft->held);
    mem_free(raft->reads);
    mem_free(raft->peers);
    mem_free(raft);
}

void raft_first_entry(const struct raft_config *config, struct raft_entry *ret_entry)
{
    *ret_entry = (struct raft_entry){.index = 1, .term = 1, .type = RAFT_CONFIG, .blob = raft_config_encode(config)};
}

/* ---- looking in ---- */

static void peer_status(const struct peer *peer, struct raft_peer_status *to)
{
    *to = (struct raft_peer_status){.id = peer->id,
                                    .voter = peer->voter,
                                    .state = peer->state,
                                    .match = peer->match,
                                    .next = peer->next,
                                    .silent_ticks = peer->silent_ticks,
                                    .snapshot_offset = peer->snapshot_offset};
}

void raft_get_status(const struct raft *raft, struct raft_status *ret_status)
{
    *ret_status = (struct raft_status){.role = raft->role,
                                       .id = raft->id,
                                       .term = raft->ballot.term,
                                       .vote = raft->ballot.vote,
                                       .leader = raft->leader,
                                       .first = raft->log.base + 1,
                                       .last = log_last(&raft->log),
                                       .stable = raft->stable,
                                       .commit = raft->commit,
                                       .snapshot = raft->snapshots[0].index,
                                       .log_bytes = raft->log.bytes,
                                       .ready = leader_ready(raft),
                                       .transferring = raft->transfer_to != 0,
                                       .peer_count = raft->peer_count};
    for (size_t i = 0; i < raft->peer_count; i++)
        peer_status(&raft->peers[i], &ret_status->peers[i]);
}

const struct raft_entry *raft_entry_at(const struct raft *raft, uint64_t index)
{
    return log_entry(&raft->log, index);
}

uint64_t raft_term_at(const struct raft *raft, uint64_t index)
{
    return log_term(&raft->log, index);
}

/* ---- what must hold ---- */

static enum tide_status broken(const struct raft *raft, const char *rule, struct err *err)
{
    return err_set(err, TIDE_E_CORRUPT, "member %" PRIu64 ", term %" PRIu64 ": %s", raft->id, raft->ballot.term, rule);
}

static enum tide_status check_log(const struct raft *raft, struct err *err)
{
    uint64_t bytes = 0, term = raft->log.base_term;
    for (uint64_t index = raft->log.base + 1; index <= log_last(&raft->log); index++) {
        const struct raft_entry *entry = log_entry(&raft->log, index);
        if (entry->index != index || entry->term < term)
            return broken(raft, "entries are numbered without a gap and terms never fall", err);
        term = entry->term;
        bytes += sizeof *entry + (entry->blob ? entry->blob->bytes : 0);
    }
    if (bytes != raft->log.bytes)
        return broken(raft, "the bytes of the log are counted", err);
    if (term > raft->ballot.term)
        return broken(raft, "no entry is of a later term than the member's", err);
    return TIDE_OK;
}

static enum tide_status check_peers(const struct raft *raft, struct err *err)
{
    for (size_t i = 0; i < raft->peer_count; i++) {
        const struct peer *peer = &raft->peers[i];
        uint64_t bytes = 0;
        for (size_t f = 0; f < peer->flight_count; f++)
            bytes += peer->flights[(peer->flight_head + f) % RAFT_WINDOW_MESSAGES].bytes;
        if (peer->match > log_last(&raft->log) || peer->next <= peer->match || peer->next > log_last(&raft->log) + 1)
            return broken(raft, "match < next <= last + 1 of every peer", err);
        if (peer->flight_count > RAFT_WINDOW_MESSAGES || bytes != peer->flight_bytes)
            return broken(raft, "the window of every peer is counted and bounded", err);
        if (peer->round > raft->round)
            return broken(raft, "no peer answers a round that was not begun", err);
    }
    return TIDE_OK;
}

static bool same_config(const struct raft_config *a, const struct raft_config *b)
{
    struct raft_blob *x = raft_config_encode(a), *y = raft_config_encode(b);
    bool same = x->bytes == y->bytes && memcmp(x->data, y->data, x->bytes) == 0;
    raft_blob_unref(x);
    raft_blob_unref(y);
    return same;
}

enum tide_status raft_check(const struct raft *raft, struct err *err)
{
    struct raft_config config;
    enum tide_status status = check_log(raft, err);
    if (status == TIDE_OK)
        status = check_peers(raft, err);
    if (status == TIDE_OK)
        status = raft_config_at(raft, log_last(&raft->log), &config, err);
    if (status != TIDE_OK)
        return status;
    if (!same_config(&config, &raft->config))
        return broken(raft, "the configuration in force is the newest in the log", err);
    if (raft->log.base > raft->commit || raft->commit > log_last(&raft->log) || raft->stable > log_last(&raft->log))
        return broken(raft, "base <= commit <= last, stable <= last", err);
    if (raft->persisted > raft->write_number || raft->ballot_write > raft->write_number)
        return broken(raft, "no write is durable before it was asked for", err);
    if (raft->held_count > RAFT_HELD_MAX || raft->reads_count > RAFT_READS_MAX)
        return broken(raft, "what waits is bounded", err);
    if (raft->role != RAFT_LEADER && (raft->peer_count > 0 || raft->reads_count > 0 || raft->leader == raft->id))
        return broken(raft, "only a leader has peers and reads", err);
    if (raft->role == RAFT_LEADER && raft->ballot.vote != raft->id)
        return broken(raft, "a leader has voted for itself", err);
    return TIDE_OK;
}
