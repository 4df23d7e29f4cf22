/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "ckpt/format/retain.h"
#include "coordinator/core/inner.h"

/* Each rule says what must be true after every command. A broken one is a fault of this program, never of its input. */

#define BROKEN(...) err_set(err, TIDE_E_STATE, __VA_ARGS__)

/* Verdict and evidence agree, and nobody runs where he should not. */
static enum tide_status check_health(const struct node *node, struct err *err)
{
    const struct health_fact *worst = health_worst(&node->evidence, node->forgiven);
    unsigned health = worst != NULL ? worst->state : TIDE_HEALTH_HEALTHY;
    if (node->spared && (health < TIDE_HEALTH_SUSPECT || node->unfit))
        return BROKEN("node %s is spared from being drained, but is %s, and unfit %d", node->name, health_names[health], node->unfit);
    health = node->spared ? TIDE_HEALTH_DEGRADED : health;
    if (node->health != health)
        return BROKEN("node %s is %s, but its evidence says %s", node->name, health_names[node->health], health_names[health]);
    if (health >= TIDE_HEALTH_SUSPECT && !node->unfit)
        return BROKEN("node %s is %s, and was not drained for that", node->name, health_names[health]);
    for (size_t i = 0; i < node->evidence.count; i++)
        if (node->evidence.items[i].state == TIDE_HEALTH_HEALTHY)
            return BROKEN("node %s: evidence %zu is of nothing", node->name, i);
    if (node->evidence.count > HEALTH_FACTS_MAX)
        return BROKEN("node %s: %zu pieces of evidence", node->name, node->evidence.count);
    return TIDE_OK;
}

static enum tide_status check_node(const struct node *node, const struct node *before, struct err *err)
{
    if (!name_valid(node->name) || node->uid[0] == '\0' || node->incarnation[0] == '\0')
        return BROKEN("node \"%s\" has no valid name, uid or incarnation", node->name);
    if (before != NULL && strcmp(before->name, node->name) >= 0)
        return BROKEN("nodes %s and %s are not in order", before->name, node->name);
    if (node->slots == 0)
        return BROKEN("node %s has no slots", node->name);
    if (node->state != TIDE_NODE_LOST && (node->cordoned || node->unfit) != (node->state == TIDE_NODE_DRAINED))
        return BROKEN("node %s is %s, but cordoned is %d, and unfit %d", node->name, node_state_names[node->state], node->cordoned,
                      node->unfit);
    return check_health(node, err);
}

static enum tide_status check_nodes(const struct state *state, struct err *err)
{
    if (state->nodes.count > TIDE_NODES_MAX)
        return BROKEN("%zu nodes", state->nodes.count);
    for (size_t i = 0; i < state->nodes.count; i++) {
        enum tide_status status = check_node(&state->nodes.items[i], i ? &state->nodes.items[i - 1] : NULL, err);
        if (status != TIDE_OK)
            return status;
    }
    return TIDE_OK;
}

/* ---- jobs ---- */

static enum tide_status check_phase(const struct job_record *record, struct err *err)
{
    const struct job *job = &record->job;
    unsigned state = job->state;
    bool fits = false;
    switch (record->phase) {
    case GEN_PHASE_NONE:
        fits = job_ended(state) || (state == TIDE_JOB_PENDING && job->generation == 0);
        break;
    case GEN_PHASE_FENCING:
        fits = (state == TIDE_JOB_RESTARTING || state == TIDE_JOB_PENDING) && job->generation >= 2;
        break;
    case GEN_PHASE_LAUNCHED:
        fits = state == TIDE_JOB_RUNNING && job->generation >= 1 && record->token[0] != '\0' && record->master_port != 0;
        break;
    case GEN_PHASE_STOPPING:
        fits = state == TIDE_JOB_STOPPING && job_ended(record->end_state) && job->generation >= 1;
        break;
    default:
        break;
    }
    if (!fits)
        return BROKEN("job %s: phase %u does not fit state %s in generation %" PRIu64, job->spec.name, record->phase,
                      job_state_names[state], job->generation);
    if (job->all_stepped && !job->all_started)
        return BROKEN("job %s: all ranks made a step but not all were started", job->spec.name);
    if (job->all_started && record->phase != GEN_PHASE_LAUNCHED && record->phase != GEN_PHASE_STOPPING)
        return BROKEN("job %s: ranks are started while nothing is launched", job->spec.name);
    if (job->restarts > job->spec.max_restarts)
        return BROKEN("job %s was restarted %u times; %u are allowed", job->spec.name, job->restarts,
                      job->spec.max_restarts);
    if (job_ended(state) != (job->ended_ms != 0) && job->submitted_ms != 0)
        return BROKEN("job %s is %s but ended_ms is %" PRIu64, job->spec.name, job_state_names[state], job->ended_ms);
    return TIDE_OK;
}

static enum tide_status check_known(const struct state *state, const struct job *job, const struct strlist *list,
                                    const char *what, bool *seen, struct err *err)
{
    for (size_t i = 0; i < list->count; i++) {
        bool found;
        size_t at = state_node_index(state, list->items[i], &found);
        if (!found)
            return BROKEN("job %s: %s holds \"%s\", which is no node", job->spec.name, what, list->items[i]);
        if (seen[at])
            return BROKEN("job %s: node %s has two places in it (%s)", job->spec.name, list->items[i], what);
        seen[at] = true;
    }
    return TIDE_OK;
}

/* Of an elastic job any number between its bounds. */
static bool nodes_fit(const struct job *job, size_t count)
{
    size_t ranks = count * job->spec.nproc_per_node;
    return count == job->spec.nnodes || (job_elastic(&job->spec) && ranks >= job->spec.elastic_min && ranks <= job->spec.elastic_max);
}

static enum tide_status check_placement(const struct state *state, const struct job_record *record, struct err *err)
{
    const struct job *job = &record->job;
    bool placed = record->phase != GEN_PHASE_NONE;
    if (placed && !nodes_fit(job, job->nodes.count))
        return BROKEN("job %s runs on %zu nodes, not %u", job->spec.name, job->nodes.count, job->spec.nnodes);
    if (job->spares.count > (placed ? job->spec.spares : 0))
        return BROKEN("job %s holds %zu spares", job->spec.name, job->spares.count);
    bool fences = record->phase == GEN_PHASE_FENCING || record->phase == GEN_PHASE_STOPPING;
    if (!fences && record->fence.count > 0)
        return BROKEN("job %s fences %zu nodes in phase %u", job->spec.name, record->fence.count, record->phase);
    if (!placed)
        return TIDE_OK;
    bool *seen = mem_array(state->nodes.count, sizeof *seen);
    enum tide_status status = check_known(state, job, &job->nodes, "nodes", seen, err);
    if (status == TIDE_OK)
        status = check_known(state, job, &job->spares, "spares", seen, err);
    memset(seen, 0, state->nodes.count * sizeof *seen);
    if (status == TIDE_OK)
        status = check_known(state, job, &record->fence, "fence", seen, err);
    mem_free(seen);
    return status;
}

static enum tide_status check_ckpt(const struct job_record *record, const struct ckpt *ckpt, const struct ckpt *before,
                                   struct err *err)
{
    const struct job *job = &record->job;
    if (ckpt->cut == 0 || ckpt->cut >= job->next_cut || (before != NULL && before->cut >= ckpt->cut))
        return BROKEN("job %s: checkpoint %" PRIu64 " is out of order", job->spec.name, ckpt->cut);
    bool foreign = ckpt->imported || ckpt->inherited;
    if (foreign && (ckpt->nodes.count != 0 || ckpt->manifest[0] == '\0' || ckpt->imported != (job->state == TIDE_JOB_IMPORTED) ||
                    (ckpt->inherited && (job->origin.uid[0] == '\0' || job->origin.cut != ckpt->cut))))
        return BROKEN("job %s: checkpoint %" PRIu64 " is not its own, and of nobody else", job->spec.name, ckpt->cut);
    if (ckpt->generation == 0 || (ckpt->generation > job->generation && !ckpt->inherited) || ckpt->step == 0 || ckpt->attempt == 0 ||
        ckpt->attempt > (ckpt->epoch != 0 ? CUT_COLOURED_ATTEMPTS_MAX : CUT_ATTEMPTS_MAX) ||
        (!nodes_fit(job, ckpt->nodes.count) && !foreign) || (ckpt->world_size != 0 && !foreign))
        return BROKEN("job %s: checkpoint %" PRIu64 " has generation %" PRIu64 ", step %" PRIu64 ", attempt %u, %zu nodes",
                      job->spec.name, ckpt->cut, ckpt->generation, ckpt->step, ckpt->attempt, ckpt->nodes.count);
    if (ckpt->state == TIDE_CKPT_OPEN &&
        (record->phase != GEN_PHASE_LAUNCHED || ckpt->generation != job->generation || !job->all_started))
        return BROKEN("job %s: checkpoint %" PRIu64 " is open outside its generation", job->spec.name, ckpt->cut);
    if (ckpt_in_memory(ckpt) && !job_active(record))
        return BROKEN("job %s has ended, checkpoint %" PRIu64 " is still in memory", job->spec.name, ckpt->cut);
    if (ckpt->state == TIDE_CKPT_COMMITTED && (ckpt->manifest[0] == '\0' || ckpt->manifest_key[0] == '\0'))
        return BROKEN("job %s: checkpoint %" PRIu64 " is committed without a manifest", job->spec.name, ckpt->cut);
    bool idle = record->store_cut == 0 && record->phase != GEN_PHASE_STOPPING && job_newest_restorable(job, UINT64_MAX) == ckpt;
    if (ckpt->memory_only && (!ckpt_in_memory(ckpt) || ckpt->cut == record->store_cut || idle))
        return BROKEN("job %s: checkpoint %" PRIu64 " was not to be stored yet; it is %s, and %" PRIu64 " is being stored", job->spec.name,
                      ckpt->cut, ckpt_state_names[ckpt->state], record->store_cut);
    bool condemned = ckpt->state == TIDE_CKPT_CONDEMNED;
    if (condemned != (ckpt->condemned_ms != 0) || (ckpt->unwanted && !condemned) ||
        (condemned && (ckpt_kept_by_hand(ckpt) || ckpt->manifest[0] == '\0' || job_restoring_from(record, ckpt->cut))))
        return BROKEN("job %s: checkpoint %" PRIu64 " is %s, but kept, or in use, or the other way round", job->spec.name, ckpt->cut,
                      ckpt_state_names[ckpt->state]);
    if (ckpt->given_up && ckpt->state != TIDE_CKPT_CORRUPT)
        return BROKEN("job %s: checkpoint %" PRIu64 " was given up, and is %s", job->spec.name, ckpt->cut, ckpt_state_names[ckpt->state]);
    return TIDE_OK;
}

static enum tide_status check_cut_epoch(const struct job *job, const struct ckpt *ckpt, struct err *err)
{
    bool open = ckpt->state == TIDE_CKPT_OPEN, goes = cut_goes(job, ckpt);
    if ((ckpt->epoch == 0) != (ckpt->mode == CUT_MODE_AUTO) || ckpt->mode >= CUT_MODES)
        return BROKEN("job %s: checkpoint %" PRIu64 " has epoch %" PRIu64 " and mode %u", job->spec.name, ckpt->cut, ckpt->epoch,
                      ckpt->mode);
    if (ckpt->attempt_void && (!open || !goes))
        return BROKEN("job %s: the attempt of checkpoint %" PRIu64 " is void, but it is not recorded", job->spec.name, ckpt->cut);
    if (open && ckpt->epoch == 0 && job->epoch_closed != job->epoch)
        return BROKEN("job %s: checkpoint %" PRIu64 " is open without an epoch, in the middle of epoch %" PRIu64, job->spec.name,
                      ckpt->cut, job->epoch);
    if (open && ckpt->epoch != 0 && ckpt->epoch != job->epoch)
        return BROKEN("job %s: checkpoint %" PRIu64 " is armed for epoch %" PRIu64 "; the newest is %" PRIu64, job->spec.name,
                      ckpt->cut, ckpt->epoch, job->epoch);
    if (open && ckpt->epoch != 0 && !goes && (job->epoch_closed >= ckpt->epoch || job_in_transition(job)))
        return BROKEN("job %s: checkpoint %" PRIu64 " is armed for epoch %" PRIu64 ", begun is %" PRIu64 ", closed %" PRIu64,
                      job->spec.name, ckpt->cut, ckpt->epoch, job->epoch_go, job->epoch_closed);
    if (ckpt_in_memory(ckpt) && ckpt->generation == job->generation && ckpt->epoch > job->epoch_settled)
        return BROKEN("job %s: checkpoint %" PRIu64 " is sealed, but epoch %" PRIu64 " is not settled", job->spec.name, ckpt->cut,
                      ckpt->epoch);
    return TIDE_OK;
}

/* One epoch is in transition at a time, and only where ranks run. */
static enum tide_status check_epochs(const struct job_record *record, struct err *err)
{
    const struct job *job = &record->job;
    bool runs = record->phase == GEN_PHASE_LAUNCHED || record->phase == GEN_PHASE_STOPPING || job_ended(job->state);
    const struct ckpt *open = job_open_cut(job);
    if (job->epoch_closed > job->epoch_settled || job->epoch_settled > job->epoch || job->epoch_go > job->epoch ||
        (job_in_transition(job) && job->epoch_go != job->epoch))
        return BROKEN("job %s: epochs %" PRIu64 ", begun %" PRIu64 ", settled %" PRIu64 ", closed %" PRIu64, job->spec.name, job->epoch,
                      job->epoch_go, job->epoch_settled, job->epoch_closed);
    if (job->epoch != job->epoch_closed && !job_in_transition(job) && (open == NULL || open->epoch != job->epoch))
        return BROKEN("job %s: epoch %" PRIu64 " belongs to no cut and is not closed", job->spec.name, job->epoch);
    if (job->epoch != 0 && !runs)
        return BROKEN("job %s: epoch %" PRIu64 " is begun where no rank runs", job->spec.name, job->epoch);
    for (size_t i = 0; i < job->ckpts.count; i++) {
        enum tide_status status = check_cut_epoch(job, &job->ckpts.items[i], err);
        if (status != TIDE_OK)
            return status;
    }
    return TIDE_OK;
}

static enum tide_status check_ckpts(const struct job_record *record, struct err *err)
{
    const struct job *job = &record->job;
    size_t open = 0, condemned = 0, kept = 0;
    if (job->ckpts.count > TIDE_CKPTS_MAX || job->next_cut == 0)
        return BROKEN("job %s: %zu checkpoints, next is %" PRIu64, job->spec.name, job->ckpts.count, job->next_cut);
    for (size_t i = 0; i < job->ckpts.count; i++) {
        const struct ckpt *ckpt = &job->ckpts.items[i];
        enum tide_status status = check_ckpt(record, ckpt, i ? ckpt - 1 : NULL, err);
        if (status != TIDE_OK)
            return status;
        open += ckpt->state == TIDE_CKPT_OPEN;
        condemned += ckpt->state == TIDE_CKPT_CONDEMNED;
        kept += ckpt_kept_by_hand(ckpt);
    }
    if (condemned > RETAIN_CONDEMNED_MAX || kept > RETAIN_PINNED_MAX)
        return BROKEN("job %s: %zu checkpoints are condemned, %zu are kept by hand", job->spec.name, condemned, kept);
    if (open > 1)
        return BROKEN("job %s: %zu cuts are open", job->spec.name, open);
    return TIDE_OK;
}

static enum tide_status check_references(const struct job_record *record, struct err *err)
{
    const struct job *job = &record->job;
    const struct ckpt *stored = job_ckpt(job, record->store_cut), *target = job_ckpt(job, record->rollback_cut),
                      *restored = job_ckpt(job, job->restore_cut);
    if (record->store_cut != 0 && (stored == NULL || !ckpt_in_memory(stored) || !job_active(record)))
        return BROKEN("job %s: checkpoint %" PRIu64 " is being stored, but it is not sealed", job->spec.name,
                      record->store_cut);
    if (record->store_attempts >= STORE_ATTEMPTS_MAX ||
        (record->store_cut == 0 && (record->store_attempts || record->shards_stored)))
        return BROKEN("job %s: %u tries to store checkpoint %" PRIu64, job->spec.name, record->store_attempts,
                      record->store_cut);
    if (record->barren > job->restarts || record->pause_ms > RESTART_PAUSE_MS_MAX ||
        (record->pause_ms != 0 && record->phase != GEN_PHASE_FENCING))
        return BROKEN("job %s: pauses for %" PRIu64 " ms after %u failures", job->spec.name, record->pause_ms, record->barren);
    if (record->rollback_cut != 0 && (target == NULL || !ckpt_restorable(target) || record->phase != GEN_PHASE_FENCING))
        return BROKEN("job %s: rolls back to checkpoint %" PRIu64 ", which cannot be", job->spec.name, record->rollback_cut);
    if (job->restore_cut != 0 && job_restoring_from(record, job->restore_cut) &&
        (restored == NULL || !ckpt_restorable(restored)))
        return BROKEN("job %s: restores from checkpoint %" PRIu64 ", which cannot be", job->spec.name, job->restore_cut);
    for (size_t i = 0; i < record->purge.count; i++) {
        uint64_t cut = strtoull(record->purge.items[i], NULL, 10);
        const struct ckpt *ckpt = job_ckpt(job, cut);
        if (cut == PURGE_SWEEP)
            continue;
        if (ckpt == NULL || ckpt->state != TIDE_CKPT_DROPPED)
            return BROKEN("job %s: checkpoint %s is to be deleted but was not dropped", job->spec.name,
                          record->purge.items[i]);
    }
    for (size_t i = 0; i < record->owed.count; i++) {
        const struct ckpt *ckpt = job_ckpt(job, strtoull(record->owed.items[i], NULL, 10));
        if (ckpt == NULL || ckpt->state != TIDE_CKPT_DROPPED || strlist_has_number(&record->purge, ckpt->cut))
            return BROKEN("job %s: checkpoint %s is to be deleted once more, and was not dropped, or is to be deleted anyway",
                          job->spec.name, record->owed.items[i]);
    }
    return TIDE_OK;
}

static enum tide_status check_history(const struct state *state, const struct job *job, struct err *err)
{
    if (job->events.count > TIDE_EVENTS_MAX || job->recoveries.count > RECOVERIES_MAX)
        return BROKEN("job %s: %zu events, %zu recoveries", job->spec.name, job->events.count, job->recoveries.count);
    uint64_t last = 0;
    for (size_t i = 0; i < job->events.count; i++) {
        uint64_t revision = job->events.items[i].revision;
        if (revision < last || revision > state->revision)
            return BROKEN("job %s: event %zu has revision %" PRIu64, job->spec.name, i, revision);
        last = revision;
    }
    last = 0;
    for (size_t i = 0; i < job->recoveries.count; i++) {
        uint64_t generation = job->recoveries.items[i].generation;
        if (generation <= last || generation >= job->generation)
            return BROKEN("job %s: recovery %zu is of generation %" PRIu64, job->spec.name, i, generation);
        last = generation;
    }
    return TIDE_OK;
}

static enum tide_status check_job(const struct state *state, size_t at, struct err *err)
{
    const struct job_record *record = &state->jobs.items[at];
    for (size_t i = at + 1; i < state->jobs.count; i++) {
        const struct job_record *later = &state->jobs.items[i];
        if (strcmp(record->job.uid, later->job.uid) == 0)
            return BROKEN("two jobs have uid %s", record->job.uid);
        if (job_active(record) && strcmp(record->job.spec.name, later->job.spec.name) == 0)
            return BROKEN("job %s was submitted again while it was active", record->job.spec.name);
    }
    enum tide_status status = check_phase(record, err);
    if (status == TIDE_OK)
        status = check_placement(state, record, err);
    if (status == TIDE_OK)
        status = check_ckpts(record, err);
    if (status == TIDE_OK)
        status = check_epochs(record, err);
    if (status == TIDE_OK)
        status = check_references(record, err);
    if (status == TIDE_OK)
        status = peers_check(state, record, err);
    if (status == TIDE_OK)
        status = check_history(state, &record->job, err);
    return status;
}

/* No node runs more ranks than it has slots; what waits to be fenced and what is held as a spare counts too. */
static enum tide_status check_capacity(const struct state *state, struct err *err)
{
    struct room room;
    enum tide_status status = TIDE_OK;
    room_init(&room, state);
    for (size_t i = 0; i < state->nodes.count && status == TIDE_OK; i++) {
        const struct node *node = &state->nodes.items[i];
        if (node->state != TIDE_NODE_LOST && room.used[i] > node->slots)
            status = BROKEN("node %s has %u slots; %u are given away", node->name, node->slots, room.used[i]);
    }
    room_release(&room);
    return status;
}

static enum tide_status check_sessions(const struct state *state, struct err *err)
{
    if (state->sessions.count > SESSIONS_MAX)
        return BROKEN("%zu sessions", state->sessions.count);
    for (size_t i = 0; i < state->sessions.count; i++)
        if (state->sessions.items[i].request[0] == '\0' || state->sessions.items[i].outcome.revision > state->revision)
            return BROKEN("session %zu has no request id, or is from the future", i);
    return TIDE_OK;
}

static int by_hash(const void *a, const void *b)
{
    return strcmp((*(const struct token *const *)a)->hash, (*(const struct token *const *)b)->hash);
}

/* One secret, one token: else which role it gives would be chance. */
static enum tide_status check_secrets(const struct state *state, struct err *err)
{
    const struct token **sorted = mem_array(state->tokens.count, sizeof *sorted);
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < state->tokens.count; i++)
        sorted[i] = &state->tokens.items[i];
    qsort(sorted, state->tokens.count, sizeof *sorted, by_hash);
    for (size_t i = 1; i < state->tokens.count && status == TIDE_OK; i++)
        if (strcmp(sorted[i - 1]->hash, sorted[i]->hash) == 0)
            status = BROKEN("tokens %s and %s have the same secret", sorted[i - 1]->name, sorted[i]->name);
    mem_free(sorted);
    return status;
}

static enum tide_status check_tokens(const struct state *state, struct err *err)
{
    if (state->tokens.count > TOKENS_MAX)
        return BROKEN("%zu tokens", state->tokens.count);
    for (size_t i = 0; i < state->tokens.count; i++) {
        const struct token *token = &state->tokens.items[i];
        if (token_check(token, err) != TIDE_OK)
            return err->status;
        if (i > 0 && strcmp(state->tokens.items[i - 1].name, token->name) >= 0)
            return BROKEN("token %s is not in its place", token->name);
    }
    return state->tokens.count > 1 ? check_secrets(state, err) : TIDE_OK;
}

static enum tide_status check_revoked(const struct state *state, struct err *err)
{
    if (state->revoked.count > REVOCATIONS_MAX)
        return BROKEN("%zu revocations", state->revoked.count);
    for (size_t i = 0; i < state->revoked.count; i++) {
        if (revocation_check(state->revoked.items[i].what, err) != TIDE_OK)
            return err->status;
        if (i > 0 && strcmp(state->revoked.items[i - 1].what, state->revoked.items[i].what) >= 0)
            return BROKEN("revocation of %s is not in its place", state->revoked.items[i].what);
    }
    return TIDE_OK;
}

enum tide_status state_check(const struct state *state, struct err *err)
{
    enum tide_status status = check_nodes(state, err);
    if (status == TIDE_OK && state->jobs.count > TIDE_JOBS_MAX)
        status = BROKEN("%zu jobs", state->jobs.count);
    for (size_t i = 0; i < state->jobs.count && status == TIDE_OK; i++)
        status = check_job(state, i, err);
    if (status == TIDE_OK)
        status = check_capacity(state, err);
    if (status == TIDE_OK)
        status = check_sessions(state, err);
    if (status == TIDE_OK)
        status = check_tokens(state, err);
    if (status == TIDE_OK)
        status = check_revoked(state, err);
    return status;
}
