/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/inner.h"

/* ---- waiting for nodes ---- */

static void waiting_refresh_one(struct change *change, struct room *room)
{
    struct job_record *record = change->job;
    struct job *job = &record->job;
    bool fencing = record->phase == GEN_PHASE_FENCING;
    bool waited = fencing ? job->state == TIDE_JOB_PENDING : job->reason[0] != '\0';
    if (room_for(room, record)) {
        if (waited)
            job->reason[0] = '\0';
        job->state = fencing ? TIDE_JOB_RESTARTING : TIDE_JOB_PENDING;
        return;
    }
    place_explain(room, record, job->reason, sizeof job->reason);
    job->state = TIDE_JOB_PENDING;
    if (!waited)
        event_add(change, EVENT_WAITING, NULL, -1, 0, "%s", job->reason);
}

void job_waiting_refresh(struct change *change)
{
    struct job_record *own = change->job;
    struct room room = {0};
    for (size_t i = 0; i < change->state->jobs.count; i++) {
        change->job = &change->state->jobs.items[i];
        if (!job_active(change->job) || (change->job->phase != GEN_PHASE_NONE && change->job->phase != GEN_PHASE_FENCING))
            continue;
        if (room.state == NULL)
            room_init(&room, change->state);
        waiting_refresh_one(change, &room);
    }
    room_release(&room);
    change->job = own;
}

/* ---- submit ---- */

static enum tide_status check_spec(struct job_spec *spec, struct err *err)
{
    if (!name_valid(spec->name))
        return err_set(err, TIDE_E_INVALID, "\"%s\" cannot name a job: use 1 to %d of A-Z a-z 0-9 . _ -", spec->name,
                       TIDE_NAME_MAX);
    enum tide_status status = job_spec_check(spec, err);
    if (status == TIDE_OK && (uint64_t)spec->nnodes * spec->nproc_per_node > TIDE_RANKS_MAX)
        status = err_set(err, TIDE_E_LIMIT, "%u nodes with %u ranks each are more than %d ranks", spec->nnodes,
                         spec->nproc_per_node, TIDE_RANKS_MAX);
    if (status == TIDE_OK && (uint64_t)spec->nnodes + spec->spares > TIDE_NODES_MAX)
        status = err_set(err, TIDE_E_LIMIT, "%u nodes and %u spares are more than %d nodes", spec->nnodes, spec->spares,
                         TIDE_NODES_MAX);
    return status;
}

static enum tide_status check_name_free(struct change *change)
{
    const struct job_spec *spec = &change->command->spec;
    const struct job_record *other = state_job(change->state, spec->name);
    if (other != NULL && job_active(other))
        return err_set(change->err, TIDE_E_EXISTS,
                       "a job named %s is %s; choose another --name, or end it first: tidemark job cancel %s", spec->name,
                       job_state_names[other->job.state], spec->name);
    if (state_job_uid(change->state, change->command->uid) != NULL)
        return err_set(change->err, TIDE_E_CONFLICT, "job uid %s is taken; submit again", change->command->uid);
    return TIDE_OK;
}

/* Ended jobs make room; those that still have objects to delete go last. */
enum tide_status jobs_make_room(struct change *change)
{
    struct state *state = change->state;
    if (state->jobs.count < TIDE_JOBS_MAX)
        return TIDE_OK;
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < state->jobs.count; i++)
            if (!job_active(&state->jobs.items[i]) && (pass == 1 || state->jobs.items[i].purge.count == 0)) {
                codec_list_remove(&job_record_codec, &state->jobs, i);
                return TIDE_OK;
            }
    return err_set(change->err, TIDE_E_LIMIT,
                   "%d jobs are active, more are not possible; wait for one to end, or cancel one", TIDE_JOBS_MAX);
}

enum tide_status apply_JOB_SUBMIT(struct change *change)
{
    const struct command *command = change->command;
    if (command->uid[0] == '\0')
        return err_set(change->err, TIDE_E_INVALID, "a job needs a uid");
    struct job_spec spec;
    codec_copy(&job_spec_codec, &command->spec, &spec);
    enum tide_status status = check_spec(&spec, change->err);
    struct ckpt from = {0};
    struct job_origin origin = {0};
    if (status == TIDE_OK)
        status = check_name_free(change);
    if (status == TIDE_OK && spec.restore_from[0] != '\0')
        status = origin_find(change->state, &spec, &from, &origin, change->err);
    if (status == TIDE_OK)
        status = jobs_make_room(change);
    if (status != TIDE_OK) {
        codec_release(&job_spec_codec, &spec);
        return status;
    }
    struct job_record *record = codec_list_add(&job_record_codec, &change->state->jobs);
    record->job.spec = spec;
    text_copy(record->job.uid, sizeof record->job.uid, command->uid);
    text_copy(record->log_key, sizeof record->log_key, command->token);
    record->job.next_cut = 1;
    record->job.submitted_ms = command->at_ms;
    if (from.cut != 0)
        origin_take(&record->job, &from, &origin);
    change->job = record;
    char range[TIDE_NAME_MAX + 1] = "";
    if (job_elastic(&spec))
        TEXT(range, ", elastic from %u to %u ranks", spec.elastic_min, spec.elastic_max);
    event_add(change, EVENT_SUBMITTED, NULL, -1, 0, "submitted: %u rank%s on %u node%s, %u spare%s%s", job_world_size(&spec),
              job_world_size(&spec) == 1 ? "" : "s", spec.nnodes, spec.nnodes == 1 ? "" : "s", spec.spares,
              spec.spares == 1 ? "" : "s", range);
    job_waiting_refresh(change);
    history_fold(change->state);
    STATE_TEXT(change->state, change->outcome->text, "job %s is submitted%s%s", spec.name, record->job.reason[0] ? "; it " : "",
         record->job.reason);
    return TIDE_OK;
}

/* ---- the end ---- */

void job_end(struct change *change, unsigned end_state)
{
    struct job_record *record = change->job;
    struct job *job = &record->job;
    struct ckpt *open = job_open_cut(job);
    if (open != NULL)
        cut_abort(change, open, NULL, -1, "the job ended before every rank had recorded");
    for (size_t i = 0; i < job->ckpts.count; i++)
        if (ckpt_in_memory(&job->ckpts.items[i]))
            ckpt_drop(change, &job->ckpts.items[i], "it was in memory only when the job ended");
    job->state = end_state;
    job->ended_ms = change->command->at_ms;
    job->all_started = job->all_stepped = false;
    record->phase = GEN_PHASE_NONE;
    record->end_state = 0;
    record->token[0] = '\0';
    record->master_port = 0;
    record->ckpt_requested = false;
    record->rollback_cut = record->store_cut = record->pause_ms = 0;
    record->store_attempts = 0;
    record->shards_stored = false;
    /* job->nodes stay: the logs are there. */
    strlist_release(&record->fence);
    peers_release(record);
    for (size_t i = 0; i < job->ckpts.count; i++)
        ckpt_unpeer(&job->ckpts.items[i]);
    strlist_release(&job->spares);
    event_add(change, EVENT_FINISHED, NULL, -1, 0, "%s: %s", job_state_names[end_state], job->reason);
    if (change->state->level > 0)
        ckpt_retain(change);
    if (change->state->level > 0 && job->next_cut > 1)
        job_sweep(change);
    place_spares(change->state);
    job_waiting_refresh(change);
}

enum tide_status apply_JOB_FINISH(struct change *change)
{
    struct job_record *record = change->job;
    if (record->phase != GEN_PHASE_LAUNCHED)
        return err_set(change->err, TIDE_E_STALE, "job %s is %s; it cannot finish", record->job.spec.name,
                       job_state_names[record->job.state]);
    TEXT(record->job.reason, "every rank exited with status 0");
    record->job.exit_status = 0;
    job_end(change, TIDE_JOB_SUCCEEDED);
    return TIDE_OK;
}

enum tide_status apply_JOB_STOPPED(struct change *change)
{
    struct job_record *record = change->job;
    if (record->phase != GEN_PHASE_STOPPING)
        return err_set(change->err, TIDE_E_STALE, "job %s is %s, not stopping", record->job.spec.name,
                       job_state_names[record->job.state]);
    if (change->command->text[0])
        event_add(change, EVENT_NOTE, NULL, -1, 0, "%s", change->command->text);
    job_end(change, record->end_state);
    return TIDE_OK;
}

/* ---- by hand ---- */

enum tide_status apply_JOB_CANCEL(struct change *change)
{
    struct job_record *record = change->job;
    struct job *job = &record->job;
    if (!job_active(record))
        return err_set(change->err, TIDE_E_STATE, "job %s has ended already (%s)", job->spec.name,
                       job_state_names[job->state]);
    if (record->phase == GEN_PHASE_STOPPING) {
        TEXT(change->outcome->text, "job %s is stopping already", job->spec.name);
        return TIDE_OK;
    }
    TEXT(job->reason, "cancelled by hand");
    job->exit_status = EXIT_STATUS_SIGNAL + SIGNAL_TERM;
    event_add(change, EVENT_CANCEL, NULL, -1, 0, "cancelled by hand");
    if (record->phase == GEN_PHASE_NONE) {
        job_end(change, TIDE_JOB_CANCELLED);
        TEXT(change->outcome->text, "job %s is cancelled; it had not started", job->spec.name);
        return TIDE_OK;
    }
    gen_stop(change, TIDE_JOB_CANCELLED);
    TEXT(change->outcome->text, "job %s is stopping; what is left after %" PRIu64 " ms is killed", job->spec.name,
         job->spec.stop_grace_ms);
    return TIDE_OK;
}

static enum tide_status rollback_named(struct change *change, struct ckpt **ret_target)
{
    const struct job *job = &change->job->job;
    uint64_t cut = change->command->cut;
    struct ckpt *ckpt = job_ckpt(job, cut);
    const struct ckpt *newest = job_newest_restorable(job, UINT64_MAX);
    if (ckpt != NULL && ckpt_restorable(ckpt)) {
        *ret_target = ckpt;
        return TIDE_OK;
    }
    char hint[TIDE_TEXT_MAX + 1];
    if (newest != NULL)
        TEXT(hint, "the newest that can be restored is %s/%" PRIu64 " (step %" PRIu64 ")", job->spec.name, newest->cut,
             newest->step);
    else
        TEXT(hint, "the job has none that can be restored yet");
    if (ckpt == NULL)
        return err_set(change->err, TIDE_E_NOT_FOUND, "job %s has no checkpoint %" PRIu64 "; %s", job->spec.name, cut, hint);
    return err_set(change->err, TIDE_E_STATE, "checkpoint %s/%" PRIu64 " is %s%s%s%s; %s", job->spec.name, cut,
                   ckpt_state_names[ckpt->state], ckpt->reason[0] ? " (" : "", ckpt->reason, ckpt->reason[0] ? ")" : "",
                   hint);
}

static enum tide_status rollback_newest(struct change *change, struct ckpt **ret_target)
{
    const struct job *job = &change->job->job;
    uint64_t step = change->command->step;
    struct ckpt *target = NULL, *sealed = NULL;
    for (size_t i = job->ckpts.count; i-- > 0 && target == NULL;) {
        struct ckpt *ckpt = &job->ckpts.items[i];
        if (!ckpt_restorable(ckpt) || (step != 0 && ckpt->step > step))
            continue;
        /* With a step asked for every restorable one will do; without, one that is durable is meant. */
        if (step != 0 || ckpt->state == TIDE_CKPT_COMMITTED)
            target = ckpt;
        else if (sealed == NULL)
            sealed = ckpt;
    }
    if (target == NULL)
        target = sealed;
    if (target == NULL && step != 0)
        return err_set(change->err, TIDE_E_NO_CHECKPOINT,
                       "job %s has no checkpoint at or before step %" PRIu64 " that can be restored; tidemark ckpt list %s",
                       job->spec.name, step, job->spec.name);
    if (target == NULL)
        return err_set(change->err, TIDE_E_NO_CHECKPOINT, "job %s has no checkpoint yet; take one: tidemark ckpt save %s",
                       job->spec.name, job->spec.name);
    *ret_target = target;
    return TIDE_OK;
}

/* Recorded after the target. A job that went on from an older one, for the newer was corrupt, gives later ids to earlier steps; once that
 * newer one is readmitted only its step tells. */
static bool is_newer(const struct change *change, const struct ckpt *ckpt, const struct ckpt *target)
{
    return ckpt->cut > target->cut || (ckpt->step > target->step && change->state->level >= READMIT_LEVEL);
}

/* One that is corrupt may be readmitted, and restored then. */
static bool may_be_readmitted(const struct change *change, const struct ckpt *ckpt)
{
    return ckpt->state == TIDE_CKPT_CORRUPT && change->state->level >= READMIT_LEVEL;
}

/* What was recorded after the target belongs to a history that is given up: it must never be restored. */
static void drop_newer(struct change *change, const struct ckpt *target)
{
    struct job *job = &change->job->job;
    char reason[TIDE_TEXT_MAX + 1];
    TEXT(reason, "rolled back to checkpoint %" PRIu64, target->cut);
    for (size_t i = 0; i < job->ckpts.count; i++) {
        struct ckpt *ckpt = &job->ckpts.items[i];
        if (!is_newer(change, ckpt, target))
            continue;
        if (ckpt_restorable(ckpt) || ckpt->state == TIDE_CKPT_CONDEMNED) {
            ckpt_drop(change, ckpt, reason);
        } else if (may_be_readmitted(change, ckpt) && !ckpt->given_up) {
            ckpt->given_up = true;
            event_add(change, EVENT_NOTE, NULL, -1, ckpt->cut, "checkpoint %" PRIu64 " is corrupt, and given up: %s", ckpt->cut, reason);
        }
    }
}

/* One that is pinned, or that another job may have to start from, is not given up behind anybody's back. */
static enum tide_status check_newer(struct change *change, const struct ckpt *target)
{
    const struct job *job = &change->job->job;
    for (size_t i = 0; i < job->ckpts.count; i++) {
        const struct ckpt *ckpt = &job->ckpts.items[i];
        if (!is_newer(change, ckpt, target))
            continue;
        if ((ckpt_restorable(ckpt) || may_be_readmitted(change, ckpt)) && ckpt_kept_by_hand(ckpt))
            return err_set(change->err, TIDE_E_STATE,
                           "checkpoint %s/%" PRIu64 " is %s, and going back to %" PRIu64
                           " would give it up; tidemark ckpt unpin %s/%" PRIu64 " first",
                           job->spec.name, ckpt->cut, ckpt->pinned ? "pinned" : "held", target->cut, job->spec.name, ckpt->cut);
        if (ckpt_lent(change->state, job, ckpt->cut))
            return err_set(change->err, TIDE_E_STATE,
                           "another job goes on from checkpoint %s/%" PRIu64 " and has none of its own to start from instead, and going "
                           "back to %" PRIu64 " would give it up; take one of that job first, tidemark ckpt save, or cancel it",
                           job->spec.name, ckpt->cut, target->cut);
    }
    return TIDE_OK;
}

enum tide_status apply_JOB_ROLLBACK(struct change *change)
{
    struct job_record *record = change->job;
    struct job *job = &record->job;
    if (!job_active(record))
        return err_set(change->err, TIDE_E_STATE, "job %s has ended (%s) and cannot be rolled back; run it again",
                       job->spec.name, job_state_names[job->state]);
    if (record->phase == GEN_PHASE_STOPPING)
        return err_set(change->err, TIDE_E_STATE, "job %s is stopping and cannot be rolled back", job->spec.name);
    struct ckpt *target = NULL;
    enum tide_status status = change->command->cut != 0 ? rollback_named(change, &target) : rollback_newest(change, &target);
    if (status == TIDE_OK)
        status = check_newer(change, target);
    if (status != TIDE_OK)
        return status;
    uint64_t cut = target->cut;
    struct recovery why = {.cause = EVENT_ROLLBACK, .rank = -1};
    TEXT(why.text, "rolled back by hand to checkpoint %" PRIu64 " (step %" PRIu64 ")", cut, target->step);
    event_add(change, EVENT_ROLLBACK, NULL, -1, cut, "%s", why.text);
    TEXT(change->outcome->text, "job %s goes back to checkpoint %" PRIu64 ", step %" PRIu64, job->spec.name, cut,
         target->step);
    change->outcome->cut = cut;
    if (record->phase == GEN_PHASE_LAUNCHED)
        gen_end(change, &why);
    drop_newer(change, job_ckpt(job, cut));
    store_next(change);
    record->rollback_cut = cut;
    /* Whoever asks for another start wants it now. */
    record->barren = 0;
    record->pause_ms = 0;
    job_waiting_refresh(change);
    return TIDE_OK;
}
