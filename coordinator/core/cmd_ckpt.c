/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/inner.h"

/* ---- leaving ---- */

static void store_leave(struct job_record *record, uint64_t cut)
{
    if (record->store_cut != cut)
        return;
    record->store_cut = 0;
    record->store_attempts = 0;
    record->shards_stored = false;
}

void store_begin(struct job_record *record, struct ckpt *ckpt)
{
    ckpt->memory_only = false;
    record->store_cut = ckpt->cut;
    record->store_attempts = 0;
    record->shards_stored = false;
}

void store_next(struct change *change)
{
    struct job_record *record = change->job;
    struct ckpt *newest = job_newest_restorable(&record->job, UINT64_MAX);
    if (record->store_cut != 0 || !job_active(record) || record->phase == GEN_PHASE_STOPPING || newest == NULL ||
        !ckpt_in_memory(newest) || !newest->memory_only)
        return;
    store_begin(record, newest);
}

void ckpt_drop(struct change *change, struct ckpt *ckpt, const char *reason)
{
    struct job_record *record = change->job;
    store_leave(record, ckpt->cut);
    if (record->rollback_cut == ckpt->cut)
        record->rollback_cut = 0;
    /* A sealed one may have left objects behind, too: shards that were stored before it was dropped. */
    if (job_store(change->state, record)[0] != '\0' && !ckpt->memory_only && !ckpt->inherited)
        strlist_add_number(&record->purge, ckpt->cut);
    ckpt->state = TIDE_CKPT_DROPPED;
    ckpt_unpeer(ckpt);
    ckpt->pinned = ckpt->unwanted = ckpt->given_up = ckpt->memory_only = false;
    ckpt->held_until_ms = ckpt->condemned_ms = 0;
    TEXT(ckpt->reason, "%s", reason);
    event_add(change, EVENT_DROPPED, NULL, -1, ckpt->cut, "checkpoint %" PRIu64 " is dropped: %s", ckpt->cut, reason);
}

/* A node that was given up, and not the host it runs on, may still write what it was told to. */
static bool writer_lost(const struct state *state, const struct job_record *record, uint64_t cut)
{
    for (size_t i = 0; i < state->nodes.count; i++)
        if (state->nodes.items[i].state == TIDE_NODE_LOST && purge_writer(record, cut, state->nodes.items[i].name))
            return true;
    return false;
}

enum tide_status apply_CKPT_PURGED(struct change *change)
{
    struct job_record *record = change->job;
    uint64_t cut = change->command->cut;
    const char *which = change->command->text;
    if (!strlist_has_number(&record->purge, cut) || (which[0] != '\0' && !strlist_has(&record->purge, which)))
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 " has nothing left to delete, or has something again",
                       change->command->job, cut);
    strlist_drop_number(&record->purge, cut);
    if (writer_lost(change->state, record, cut))
        strlist_add_number(&record->owed, cut);
    return TIDE_OK;
}

/* ---- by hand ---- */

enum tide_status apply_CKPT_REQUEST(struct change *change)
{
    struct job_record *record = change->job;
    struct job *job = &record->job;
    if (!job_active(record) || record->phase == GEN_PHASE_STOPPING)
        return err_set(change->err, TIDE_E_STATE, "job %s is %s; no checkpoint can be taken", job->spec.name,
                       job_state_names[job->state]);
    struct ckpt *open = job_open_cut(job);
    if (open != NULL) {
        open->by_hand = true;
        change->outcome->cut = open->cut;
        TEXT(change->outcome->text, "checkpoint %s/%" PRIu64 " is being recorded already", job->spec.name, open->cut);
        return TIDE_OK;
    }
    record->ckpt_requested = true;
    change->outcome->cut = job->next_cut;
    TEXT(change->outcome->text, "checkpoint %s/%" PRIu64 " opens as soon as the steps of all ranks are known",
         job->spec.name, job->next_cut);
    return TIDE_OK;
}

static enum tide_status check_drop(struct change *change, const struct ckpt *ckpt)
{
    const struct job_record *record = change->job;
    const char *name = record->job.spec.name;
    if (ckpt == NULL)
        return err_set(change->err, TIDE_E_NOT_FOUND, "job %s has no checkpoint %" PRIu64 "; tidemark ckpt list %s", name,
                       change->command->cut, name);
    if (ckpt->state == TIDE_CKPT_OPEN)
        return err_set(change->err, TIDE_E_STATE, "checkpoint %s/%" PRIu64 " is being recorded; drop it when it is sealed",
                       name, ckpt->cut);
    if (ckpt->state == TIDE_CKPT_ABORTED || ckpt->state == TIDE_CKPT_DROPPED)
        return err_set(change->err, TIDE_E_STATE, "checkpoint %s/%" PRIu64 " is %s already: %s", name, ckpt->cut,
                       ckpt_state_names[ckpt->state], ckpt->reason);
    if (job_restoring_from(record, ckpt->cut) || record->rollback_cut == ckpt->cut)
        return err_set(change->err, TIDE_E_STATE,
                       "generation %" PRIu64 " of job %s starts from checkpoint %" PRIu64
                       "; drop it when all ranks make steps",
                       record->job.generation, name, ckpt->cut);
    if (ckpt_lent(change->state, &record->job, ckpt->cut) && !change->command->force)
        return err_set(change->err, TIDE_E_STATE,
                       "another job goes on from checkpoint %s/%" PRIu64 " and has none of its own to start from instead; wait until it "
                       "has, or drop it with --force", name, ckpt->cut);
    if (ckpt_kept_by_hand(ckpt) && !change->command->force)
        return err_set(change->err, TIDE_E_STATE, "checkpoint %s/%" PRIu64 " is %s; tidemark ckpt unpin %s/%" PRIu64 " first", name,
                       ckpt->cut, ckpt->pinned ? "pinned" : "held", name, ckpt->cut);
    return TIDE_OK;
}

static bool only_restorable(const struct job_record *record, const struct ckpt *ckpt)
{
    if (!job_active(record) || !ckpt_restorable(ckpt))
        return false;
    for (size_t i = 0; i < record->job.ckpts.count; i++)
        if (&record->job.ckpts.items[i] != ckpt && ckpt_restorable(&record->job.ckpts.items[i]))
            return false;
    return true;
}

enum tide_status apply_CKPT_DROP(struct change *change)
{
    struct job_record *record = change->job;
    struct ckpt *ckpt = job_ckpt(&record->job, change->command->cut);
    enum tide_status status = check_drop(change, ckpt);
    if (status != TIDE_OK)
        return status;
    if (only_restorable(record, ckpt) && !change->command->force)
        return err_set(change->err, TIDE_E_STATE,
                       "checkpoint %s/%" PRIu64
                       " is the only one job %s could restart from; take another first (tidemark ckpt "
                       "save %s), or drop it with --force",
                       record->job.spec.name, ckpt->cut, record->job.spec.name, record->job.spec.name);
    change->outcome->cut = ckpt->cut;
    /* What is in memory only, or of no use, nobody could want back; and force is what it says. */
    bool stored = ckpt->state == TIDE_CKPT_COMMITTED || ckpt->state == TIDE_CKPT_CONDEMNED;
    if (stored && !change->command->force && change->state->level > 0) {
        ckpt_condemn_by_hand(change, ckpt);
    } else {
        ckpt_drop(change, ckpt, "dropped by hand");
        TEXT(change->outcome->text, "checkpoint %s/%" PRIu64 " is dropped", record->job.spec.name, ckpt->cut);
    }
    store_next(change);
    return TIDE_OK;
}

/* ---- into the store ---- */

static enum tide_status find_storing(struct change *change, struct ckpt **ret_ckpt)
{
    const struct command *command = change->command;
    struct ckpt *ckpt = job_ckpt(&change->job->job, command->cut);
    if (ckpt == NULL || !ckpt_in_memory(ckpt) || change->job->store_cut != command->cut)
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 " is not being stored (any more)", command->job,
                       command->cut);
    *ret_ckpt = ckpt;
    return TIDE_OK;
}

enum tide_status apply_CKPT_STORED(struct change *change)
{
    struct ckpt *ckpt = NULL;
    enum tide_status status = find_storing(change, &ckpt);
    if (status == TIDE_OK)
        change->job->shards_stored = true;
    return status;
}

enum tide_status apply_STORE_FAIL(struct change *change)
{
    const struct event *event = &change->command->event;
    struct job_record *record = change->job;
    struct ckpt *ckpt = NULL;
    enum tide_status status = find_storing(change, &ckpt);
    if (status != TIDE_OK)
        return status;
    record->store_attempts++;
    bool over = record->store_attempts >= STORE_ATTEMPTS_MAX || change->command->final;
    event_add(change, EVENT_STORE_FAILED, event->node, event->rank, ckpt->cut,
              "checkpoint %" PRIu64 " was not stored (try %u of %u%s): %s", ckpt->cut, record->store_attempts,
              STORE_ATTEMPTS_MAX, over ? "; it stays in memory only" : "", event->text);
    if (over) {
        store_leave(record, ckpt->cut);
        STATE_TEXT(change->state, ckpt->reason, "it stays in memory only: %s", event->text);
        store_next(change);
    }
    return TIDE_OK;
}

enum tide_status apply_CKPT_COMMIT(struct change *change)
{
    const struct command *command = change->command;
    struct ckpt *ckpt = NULL;
    enum tide_status status = find_storing(change, &ckpt);
    if (status != TIDE_OK)
        return status;
    if (command->key[0] == '\0' || command->digest[0] == '\0')
        return err_set(change->err, TIDE_E_INVALID, "a commit needs the manifest's key and digest");
    ckpt->state = TIDE_CKPT_COMMITTED;
    ckpt->committed_ms = command->at_ms;
    ckpt->stored_bytes = command->stored;
    if (command->bytes != 0)
        ckpt->raw_bytes = command->bytes;
    text_copy(ckpt->manifest_key, sizeof ckpt->manifest_key, command->key);
    text_copy(ckpt->manifest, sizeof ckpt->manifest, command->digest);
    store_leave(change->job, ckpt->cut);
    event_add(change, EVENT_COMMITTED, NULL, -1, ckpt->cut,
              "checkpoint %" PRIu64 " (step %" PRIu64 ") is durable: %" PRIu64 " bytes stored", ckpt->cut, ckpt->step,
              ckpt->stored_bytes);
    store_next(change);
    ckpt_retain(change);
    return TIDE_OK;
}

/* ---- bad copies ---- */

static void mark_corrupt(struct change *change, struct ckpt *ckpt)
{
    const struct event *event = &change->command->event;
    store_leave(change->job, ckpt->cut);
    if (change->job->rollback_cut == ckpt->cut)
        change->job->rollback_cut = 0;
    ckpt->state = TIDE_CKPT_CORRUPT;
    ckpt_unpeer(ckpt);
    ckpt->memory_only = false;
    TEXT(ckpt->reason, "%s", event->text);
    event_add(change, EVENT_CORRUPT, event->node, event->rank, ckpt->cut, "checkpoint %" PRIu64 " is corrupt: %s", ckpt->cut,
              event->text);
    /* One that was condemned may have to take its place. */
    if (change->state->level > 0)
        ckpt_retain(change);
}

/* The generation was to start from what nodes held in memory, and one of them does not: it was booted again since it last
 * said so, for instance. What is in the store by now, or as good as, is as valid as before. */
static void memory_lost(struct change *change, struct ckpt *ckpt)
{
    const struct event *event = &change->command->event;
    event_add(change, EVENT_NOTE, event->node, event->rank, ckpt->cut, "checkpoint %" PRIu64 " is not whole in memory: %s",
              ckpt->cut, event->text);
    if (ckpt_in_memory(ckpt) && !(change->job->store_cut == ckpt->cut && change->job->shards_stored))
        ckpt_drop(change, ckpt, event->text);
}

/* Who asked to go on from a checkpoint does not want to begin at the beginning instead. */
static bool origin_lost(struct change *change)
{
    struct job *job = &change->job->job;
    if (job->origin.uid[0] == '\0' || job_newest_restorable(job, UINT64_MAX) != NULL)
        return false;
    STATE_TEXT(change->state, job->reason,
               "it was to go on from checkpoint %" PRIu64 " of job %s, which cannot be restored, and has no other: %s",
               job->origin.cut, job->origin.job, change->command->event.text);
    job->exit_status = 1;
    gen_stop(change, TIDE_JOB_FAILED);
    return true;
}

enum tide_status apply_CKPT_CORRUPT(struct change *change)
{
    const struct command *command = change->command;
    const struct event *event = &command->event;
    struct job_record *record = change->job;
    struct ckpt *ckpt = job_ckpt(&record->job, command->cut);
    if (ckpt == NULL || !ckpt_restorable(ckpt) || record->job.generation != command->generation)
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 ": not the present generation, or not restorable",
                       command->job, command->cut);
    if (!job_restoring_from(record, command->cut)) {
        mark_corrupt(change, ckpt);
        store_next(change);
        return TIDE_OK;
    }
    /* Not the program's fault: the budget of restarts is not touched, and a round uses up one checkpoint or one copy. */
    struct recovery why = {.cause = record->restore_stored ? EVENT_CORRUPT : EVENT_NOTE,
                           .rank = event->rank,
                           .detect_ms = command->ms,
                           .from_step = command->step};
    text_copy(why.node, sizeof why.node, event->node);
    STATE_TEXT(change->state, why.text, "checkpoint %" PRIu64 ": %s", command->cut, event->text);
    if (record->restore_stored)
        mark_corrupt(change, ckpt);
    else
        memory_lost(change, ckpt);
    store_next(change);
    if (origin_lost(change))
        return TIDE_OK;
    gen_end(change, &why);
    place_spares(change->state);
    job_waiting_refresh(change);
    return TIDE_OK;
}
