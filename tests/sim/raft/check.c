/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/sim.h"

#include <xxhash.h>

#define CHECK_EVERY 16u /* raft_check costs as much as many steps */

/* ---- configurations ---- */

static uint64_t config_hash(const struct raft_config *config)
{
    struct raft_blob *blob = raft_config_encode(config);
    uint64_t hash = XXH3_64bits(blob->data, blob->bytes);
    raft_blob_unref(blob);
    return hash;
}

static uint64_t committed_config(const struct world *w, uint64_t index)
{
    size_t i = w->config_count;
    while (i > 0 && w->configs[i - 1].index > index)
        i--;
    return i > 0 ? w->configs[i - 1].hash : 0;
}

/* A configuration is in force from the moment its entry is in the log: the newest one there, else that of the snapshot. */
static uint64_t expected_config(struct world *w, struct node *n)
{
    for (uint64_t i = n->status.last; i >= n->status.first && i > 0; i--) {
        const struct raft_entry *entry = raft_entry_at(n->raft, i);
        struct raft_config config;
        struct err err = {0};
        if (entry == NULL || entry->type != RAFT_CONFIG)
            continue;
        if (raft_config_decode(entry->blob->data, entry->blob->bytes, &config, &err) != TIDE_OK) {
            violation(w, "member %" PRIu64 ": entry %" PRIu64 ": %s", n->id, i, err.text);
            return 0;
        }
        return config_hash(&config);
    }
    if (n->status.first <= 1) {
        struct raft_config nobody = {0};
        return config_hash(&nobody);
    }
    return committed_config(w, n->status.first - 1);
}

static void check_config(struct world *w, struct node *n, bool told)
{
    uint64_t hash = config_hash(raft_config_of(n->raft)), expected = expected_config(w, n);
    if (hash != expected)
        violation(w, "member %" PRIu64 " has another configuration in force than its log says", n->id);
    if (!told && hash != n->config_hash)
        violation(w, "member %" PRIu64 " does not tell that its configuration changed", n->id);
    n->config_hash = hash;
}

static void note_config(struct world *w, const struct raft_entry *entry)
{
    struct err err = {0};
    if (w->config_count == CONFIGS_MAX || raft_config_decode(entry->blob->data, entry->blob->bytes, &w->committed, &err) != TIDE_OK) {
        violation(w, "entry %" PRIu64 " is no configuration: %s", entry->index, err.text);
        return;
    }
    w->configs[w->config_count].index = entry->index;
    w->configs[w->config_count++].hash = config_hash(&w->committed);
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct node *n = &w->nodes[i];
        bool in = raft_config_member(&w->committed, n->id) != NULL;
        if (n->was_member && !in && !n->removed) {
            n->removed = true;
            n->removed_at = w->now;
        }
        n->was_member = n->was_member || in;
    }
}

/* ---- the log of everything ever written: log matching, by induction over the entry before ---- */

static void check_written(struct world *w, struct node *n, const struct raft_entry *entry, uint64_t prev_term)
{
    uint64_t hash = entry_hash(entry);
    size_t at = (size_t)(mix(entry->index, entry->term) % TABLE_SLOTS);
    while (w->table[at].index != 0 && (w->table[at].index != entry->index || w->table[at].term != entry->term))
        at = (at + 1) % TABLE_SLOTS;
    struct written *known = &w->table[at];
    if (known->index == 0) {
        *known = (struct written){entry->index, entry->term, hash, prev_term};
        if (++w->table_count > TABLE_SLOTS / 2)
            violation(w, "the table of entries is too small");
    } else if (known->hash != hash || known->prev_term != prev_term) {
        violation(w, "log matching: member %" PRIu64 " writes another entry %" PRIu64 " of term %" PRIu64 " than was there", n->id,
                  entry->index, entry->term);
    }
}

static void check_write(struct world *w, struct node *n, const struct raft_status *before, const struct raft_update *update)
{
    const struct raft_write *write = &update->write;
    bool leads = before->role == RAFT_LEADER && n->status.role == RAFT_LEADER && before->term == n->status.term;
    if (write->truncate_from != 0 && write->truncate_from <= before->commit)
        violation(w, "member %" PRIu64 " takes back entry %" PRIu64 ", committed up to %" PRIu64, n->id, write->truncate_from,
                  before->commit);
    if (leads && (write->truncate_from != 0 || write->reset_to != 0))
        violation(w, "leader append-only: member %" PRIu64 " takes back entries of its own", n->id);
    if (write->reset_to != 0 && update->restore != write->reset_to - 1)
        violation(w, "member %" PRIu64 " empties its log for %" PRIu64 " without a snapshot", n->id, write->reset_to);
    uint64_t prev = write->count > 0 && write->entries[0].index > 1 ? raft_term_at(n->raft, write->entries[0].index - 1) : 0;
    for (size_t i = 0; i < write->count && !w->stop; i++) {
        const struct raft_entry *entry = &write->entries[i];
        if (entry->term < prev || entry->term > n->status.term)
            violation(w, "member %" PRIu64 " writes entry %" PRIu64 " of term %" PRIu64 " after term %" PRIu64, n->id,
                      entry->index, entry->term, prev);
        if (leads && entry->term != n->status.term)
            violation(w, "leader %" PRIu64 " writes an entry of another term", n->id);
        check_written(w, n, entry, prev);
        prev = entry->term;
    }
    bool touched = write->truncate_from != 0 || write->reset_to != 0 || update->restore != 0 || update->config_changed;
    for (size_t i = 0; i < write->count; i++)
        touched = touched || write->entries[i].type == RAFT_CONFIG;
    if (touched && !w->stop)
        check_config(w, n, update->config_changed);
}

/* ---- leaders ---- */

static bool has_entry(const struct node *n, uint64_t index, uint64_t term)
{
    return index <= n->status.snapshot || raft_term_at(n->raft, index) == term;
}

static void check_elected(struct world *w, struct node *n)
{
    uint64_t term = n->status.term, i = w->truth_count;
    if (term >= TERMS_MAX) {
        violation(w, "term %" PRIu64 ": more elections than anybody needs", term);
        return;
    }
    if (w->leaders[term] != 0 && w->leaders[term] != n->id)
        violation(w, "election safety: members %" PRIu64 " and %" PRIu64 " lead in term %" PRIu64, w->leaders[term], n->id, term);
    if (w->leaders[term] == n->id)
        violation(w, "member %" PRIu64 " was elected twice in term %" PRIu64, n->id, term);
    w->leaders[term] = n->id;
    w->elections++;
    if (n->disk.ballot.term != term || n->disk.ballot.vote != n->id)
        violation(w, "member %" PRIu64 " leads in term %" PRIu64 " and its vote is not durable", n->id, term);
    while (i > 0 && w->truth[i].commit_term >= term)
        i--;
    if (i > 0 && !has_entry(n, i, w->truth[i].term))
        violation(w, "leader completeness: member %" PRIu64 " leads in term %" PRIu64 " without entry %" PRIu64, n->id, term, i);
    say(w, "member %" PRIu64 " leads in term %" PRIu64, n->id, term);
}

static bool durable_at(struct world *w, uint64_t id, uint64_t index, uint64_t term)
{
    const struct node *n = node_of(w, id);
    return n == NULL || disk_holds(&n->disk, index, term); /* NULL: it was removed since, and answered before */
}

static void check_majority(struct world *w, struct node *n)
{
    const struct raft_config *config = raft_config_of(n->raft);
    uint64_t index = n->status.commit, term = raft_term_at(n->raft, index);
    size_t have = 0;
    for (size_t i = 0; i < config->count; i++)
        have += config->members[i].voter && durable_at(w, config->members[i].id, index, term);
    if (2 * have <= raft_config_voters(config))
        violation(w, "member %" PRIu64 " commits entry %" PRIu64 ", durable at %zu of %zu voters", n->id, index, have,
                  raft_config_voters(config));
}

static void truth_extend(struct world *w, struct node *n, uint64_t term)
{
    while (w->truth_count < n->status.commit && !w->stop) {
        uint64_t i = w->truth_count + 1;
        const struct raft_entry *entry = raft_entry_at(n->raft, i);
        if (entry == NULL || i >= TRUTH_MAX) {
            violation(w, "member %" PRIu64 " commits entry %" PRIu64 " and does not have it", n->id, i);
            return;
        }
        uint64_t hash = entry_hash(entry);
        w->truth[i] = (struct truth_entry){entry->term, hash, mix(w->truth[i - 1].chain, hash), term};
        w->truth_count = i;
        if (entry->type == RAFT_CONFIG)
            note_config(w, entry);
    }
}

/* "Only log entries from the leader's current term are committed by counting replicas" (figure 8). */
static void check_commit(struct world *w, struct node *n, const struct raft_status *before)
{
    uint64_t commit = n->status.commit;
    bool led = before->role == RAFT_LEADER && before->term == n->status.term;
    if (led && raft_term_at(n->raft, commit) != before->term)
        violation(w, "figure 8: leader %" PRIu64 " of term %" PRIu64 " commits entry %" PRIu64 " of term %" PRIu64, n->id,
                  before->term, commit, raft_term_at(n->raft, commit));
    if (commit <= w->truth_count)
        return;
    if (!led && n->status.role != RAFT_LEADER) {
        violation(w, "member %" PRIu64 " commits entry %" PRIu64 ", which no leader has committed", n->id, commit);
        return;
    }
    check_majority(w, n);
    truth_extend(w, n, n->status.term);
    for (uint32_t i = 0; i < w->node_count && !w->stop; i++) {
        const struct node *other = &w->nodes[i];
        if (other->up && other->status.role == RAFT_LEADER && other->status.term > n->status.term &&
            !has_entry(other, commit, w->truth[commit].term))
            violation(w, "leader completeness: member %" PRIu64 " leads in term %" PRIu64 " without entry %" PRIu64, other->id,
                      other->status.term, commit);
    }
}

/* ---- requests ---- */

static void check_change(struct world *w, struct node *n, const struct raft_status *before, const struct raft_event *event)
{
    if (event->number != n->status.last || n->status.last != before->last + 1)
        violation(w, "member %" PRIu64 " changes the group by entry %" PRIu64 ", its log ends at %" PRIu64, n->id, event->number,
                  n->status.last);
    if (raft_term_at(n->raft, before->commit) != before->term)
        violation(w, "leader %" PRIu64 " changes the group before it has committed an entry of its term", n->id);
    for (uint64_t i = before->commit + 1; i <= before->last; i++)
        if (raft_entry_at(n->raft, i)->type == RAFT_CONFIG)
            violation(w, "leader %" PRIu64 " changes the group while entry %" PRIu64 " does", n->id, i);
    if (raft_config_voters(raft_config_of(n->raft)) == 0)
        violation(w, "leader %" PRIu64 " removes the last voter", n->id);
}

static void check_promoted(struct world *w, struct node *n, const struct raft_status *before, uint64_t id)
{
    for (size_t i = 0; i < before->peer_count; i++)
        if (before->peers[i].id == id && before->peers[i].match + RAFT_PROMOTE_LAG_MAX < before->last)
            violation(w, "leader %" PRIu64 " promotes member %" PRIu64 ", which is %" PRIu64 " entries behind", n->id, id,
                      before->last - before->peers[i].match);
}

static void check_request(struct world *w, struct node *n, const struct raft_status *before, const struct raft_event *event,
                          enum tide_status status)
{
    bool asks = event->kind == RAFT_EV_PROPOSE || event->kind == RAFT_EV_READ ||
                (event->kind >= RAFT_EV_ADD && event->kind <= RAFT_EV_TRANSFER);
    if (!asks)
        return;
    if (status != TIDE_OK) {
        if (n->status.last != before->last || n->status.term != before->term || n->status.role != before->role)
            violation(w, "member %" PRIu64 " refuses a request and changes", n->id);
        return;
    }
    if (before->role != RAFT_LEADER && event->kind != RAFT_EV_READ)
        violation(w, "member %" PRIu64 " takes a request and does not lead", n->id);
    if (event->kind == RAFT_EV_PROPOSE) {
        for (size_t i = 0; i < event->count; i++)
            if (event->entries[i].index != before->last + 1 + i || event->entries[i].term != before->term)
                violation(w, "leader %" PRIu64 " does not say where a proposal went", n->id);
        if (n->status.last - n->status.commit > RAFT_UNCOMMITTED_MAX)
            violation(w, "leader %" PRIu64 " holds %" PRIu64 " uncommitted entries", n->id, n->status.last - n->status.commit);
    } else if (event->kind >= RAFT_EV_ADD && event->kind <= RAFT_EV_REMOVE) {
        check_change(w, n, before, event);
    }
}

static void check_bounds(struct world *w, struct node *n)
{
    const struct raft_status *s = &n->status;
    if (s->log_bytes > RAFT_LOG_BYTES_MAX + RAFT_APPEND_BYTES_MAX + RAFT_TRAILING_BYTES)
        violation(w, "member %" PRIu64 " holds %" PRIu64 " bytes of log", n->id, s->log_bytes);
    for (size_t i = 0; i < s->peer_count; i++) {
        const struct raft_peer_status *peer = &s->peers[i];
        if (peer->match > s->last || peer->next > s->last + 1 || peer->next <= peer->match)
            violation(w, "leader %" PRIu64 ": member %" PRIu64 " matches %" PRIu64 ", next %" PRIu64 ", the log ends at %" PRIu64,
                      n->id, peer->id, peer->match, peer->next, s->last);
        if (peer->state == RAFT_REPLICATE &&
            peer->next - peer->match - 1 > (uint64_t)RAFT_WINDOW_MESSAGES * RAFT_APPEND_ENTRIES_MAX)
            violation(w, "leader %" PRIu64 " has %" PRIu64 " entries under way to member %" PRIu64, n->id,
                      peer->next - peer->match - 1, peer->id);
    }
}

/* ---- after every step ---- */

static void check_inner(struct world *w, struct node *n)
{
    struct err err = {0};
    if (raft_check(n->raft, &err) != TIDE_OK)
        violation(w, "member %" PRIu64 ": %s", n->id, err.text);
}

void check_step(struct world *w, struct node *n, const struct raft_status *before, const struct raft_event *event,
                const struct raft_update *update, enum tide_status status)
{
    const struct raft_status *after = &n->status;
    bool turned = after->role != before->role || after->term != before->term || after->leader != before->leader;
    if (turned && !update->role_changed)
        violation(w, "member %" PRIu64 " does not tell that its role, term or leader changed", n->id);
    if (after->term < before->term || after->commit < before->commit || after->commit > after->last ||
        update->commit != after->commit || (after->term == before->term && before->vote != 0 && after->vote != before->vote))
        violation(w, "member %" PRIu64 " goes back: term %" PRIu64 " vote %" PRIu64 " commit %" PRIu64 " of %" PRIu64, n->id,
                  after->term, after->vote, after->commit, after->last);
    if (after->stable > after->last)
        violation(w, "member %" PRIu64 " calls entry %" PRIu64 " durable, its log ends at %" PRIu64, n->id, after->stable,
                  after->last);
    check_write(w, n, before, update);
    if (after->role == RAFT_LEADER && (before->role != RAFT_LEADER || before->term != after->term))
        check_elected(w, n);
    if (!w->stop && after->commit > before->commit && update->restore == 0)
        check_commit(w, n, before);
    if (!w->stop)
        check_request(w, n, before, event, status);
    if (!w->stop && status == TIDE_OK && event->kind == RAFT_EV_PROMOTE)
        check_promoted(w, n, before, w->promoting);
    if (after->role == RAFT_LEADER)
        check_bounds(w, n);
    if (!w->stop && (n->steps % CHECK_EVERY == 0 || turned || update->restore != 0 || update->write.truncate_from != 0))
        check_inner(w, n);
}

void check_started(struct world *w, struct node *n)
{
    const struct disk *d = &n->disk;
    const struct raft_status *s = &n->status;
    uint64_t last = disk_last(d) > d->images[0].index ? disk_last(d) : d->images[0].index;
    bool newer = d->images[0].term > d->ballot.term; /* the ballot of the term it came in was lost in a crash */
    if (s->term != (newer ? d->images[0].term : d->ballot.term) || s->vote != (newer ? 0 : d->ballot.vote) ||
        s->last != last || s->snapshot != d->images[0].index)
        violation(w, "member %" PRIu64 " starts with term %" PRIu64 " vote %" PRIu64 " last %" PRIu64 " snapshot %" PRIu64
                  ", its disk has %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, n->id, s->term, s->vote, s->last, s->snapshot,
                  d->ballot.term, d->ballot.vote, last, d->images[0].index);
    check_config(w, n, true);
    check_restored(w, n);
    check_inner(w, n);
}

void check_given(struct world *w, const struct raft_entry *entry, uint64_t prev_term)
{
    check_written(w, &w->nodes[0], entry, prev_term);
}

void check_applied(struct world *w, struct node *n, const struct raft_entry *entry)
{
    const struct truth_entry *truth = &w->truth[entry->index];
    if (entry->index > w->truth_count || truth->term != entry->term || truth->chain != n->machine.chain)
        violation(w, "state-machine safety: member %" PRIu64 " applies another entry %" PRIu64 " than was committed", n->id,
                  entry->index);
}

void check_restored(struct world *w, struct node *n)
{
    uint64_t at = n->machine.applied;
    if (at > w->truth_count || n->machine.chain != w->truth[at].chain || n->machine.term != w->truth[at].term)
        violation(w, "member %" PRIu64 " restores a state of %" PRIu64 " that never was", n->id, at);
}
