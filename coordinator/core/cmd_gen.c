/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/inner.h"

#define NODES_TOLD 6u /* by the event that a generation starts */

/*                      GEN_LAUNCH
 *   NONE (generation 0) ─────────► LAUNCHED ──── GEN_FAIL, JOB_ROLLBACK, CKPT_CORRUPT ───► FENCING (generation + 1)
 *   pending                        running ◄──────────────── GEN_LAUNCH ──────────────── restarting, or pending: waits for
 * nodes │                              │  │ │ JOB_CANCEL        JOB_FINISH │  │ JOB_CANCEL, final GEN_FAIL     (JOB_CANCEL
 * from FENCING too) ▼                              ▼  ▼ NONE: cancelled            succeeded  STOPPING ── JOB_STOPPED ──►
 * NONE: cancelled, failed
 *
 * A generation gets its number when the one before ends, not when it is launched: nodes that are told the new number end
 * everything older, and a report that names the new number cannot be about the old one. */

void gen_end(struct change *change, const struct recovery *why)
{
    struct job_record *record = change->job;
    struct job *job = &record->job;
    struct ckpt *open = job_open_cut(job);
    if (open != NULL) {
        char reason[TIDE_TEXT_MAX + 1];
        STATE_TEXT(change->state, reason, "generation %" PRIu64 " ended first: %s", job->generation, why->text);
        cut_abort(change, open, why->node, why->rank, reason);
    }
    if (job->recoveries.count >= RECOVERIES_MAX)
        codec_list_remove(&recovery_codec, &job->recoveries, 0);
    struct recovery *recovery = codec_list_add(&recovery_codec, &job->recoveries);
    *recovery = *why;
    recovery->generation = job->generation;
    recovery->at_ms = change->command->at_ms;
    job->generation++;
    job->state = TIDE_JOB_RESTARTING;
    job->all_started = job->all_stepped = false;
    job->epoch = job->epoch_go = job->epoch_settled = job->epoch_closed = 0;
    TEXT(job->reason, "%s", why->text);
    record->phase = GEN_PHASE_FENCING;
    record->token[0] = '\0';
    record->master_port = 0;
    strlist_assign(&record->fence, &job->nodes);
    peers_release(record);
}

void gen_stop(struct change *change, unsigned end_state)
{
    struct job_record *record = change->job;
    struct ckpt *open = job_open_cut(&record->job);
    if (open != NULL)
        cut_abort(change, open, NULL, -1, "the job is being stopped");
    if (record->phase == GEN_PHASE_LAUNCHED)
        strlist_assign(&record->fence, &record->job.nodes);
    record->phase = GEN_PHASE_STOPPING;
    peers_release(record);
    record->job.state = TIDE_JOB_STOPPING;
    record->end_state = end_state;
    record->ckpt_requested = false;
    record->rollback_cut = record->pause_ms = 0;
    strlist_release(&record->job.spares);
    place_spares(change->state);
    job_waiting_refresh(change);
}

/* ---- fail ---- */

static void fail_for_good(struct change *change)
{
    const struct command *command = change->command;
    struct job *job = &change->job->job;
    if (command->final)
        TEXT(job->reason, "%s", command->event.text);
    else if (job->spec.max_restarts == 0)
        STATE_TEXT(change->state, job->reason, "%s; no restart is allowed (max_restarts is 0)", command->event.text);
    else
        STATE_TEXT(change->state, job->reason, "%s; all %u restarts are used up", command->event.text, job->spec.max_restarts);
    job->exit_status = command->exit_status ? command->exit_status : 1;
    gen_stop(change, TIDE_JOB_FAILED);
}

/* A program that ends before it gets anywhere, time and again, would use up its restarts in a moment, and whatever it trips
 * over (a file server, a license, a port) would have no time to come back. Once is no pattern; and a node's loss is not
 * the program's doing. */
static void take_pause(struct change *change)
{
    const struct command *command = change->command;
    struct job_record *record = change->job;
    const struct job *job = &record->job;
    if (command->event.kind == EVENT_NODE_LOST || command->event.kind == EVENT_NODE_HEALTH)
        return;
    const struct ckpt *from = job_ckpt(job, job->restore_cut);
    bool stepped = job->all_stepped || command->step > (from != NULL ? from->step : 0);
    record->barren = stepped ? 0 : record->barren + 1;
    uint64_t pause_ms = record->barren > 1 ? RESTART_PAUSE_MS : 0;
    for (uint32_t i = 2; i < record->barren && pause_ms < RESTART_PAUSE_MS_MAX; i++)
        pause_ms *= 2;
    record->pause_ms = pause_ms < RESTART_PAUSE_MS_MAX ? pause_ms : RESTART_PAUSE_MS_MAX;
}

static void tell_pause(struct change *change)
{
    struct job_record *record = change->job;
    uint64_t pause_s = record->pause_ms / MS_PER_S;
    STATE_TEXT(change->state, record->job.reason, "%s; next try %" PRIu64 " s after that", change->command->event.text, pause_s);
    event_add(change, EVENT_NOTE, NULL, -1, 0,
              "%u generations in a row failed before they made a step: the next starts after %" PRIu64 " s", record->barren,
              pause_s);
}

enum tide_status apply_GEN_FAIL(struct change *change)
{
    const struct command *command = change->command;
    const struct event *event = &command->event;
    struct job_record *record = change->job;
    if (record->phase != GEN_PHASE_LAUNCHED)
        return err_set(change->err, TIDE_E_STALE, "generation %" PRIu64 " of job %s does not run", command->generation,
                       command->job);
    /* The loss of a node, and what is wrong with one, is told to every job it concerns when it is declared. */
    if (event->kind != EVENT_NODE_LOST && event->kind != EVENT_NODE_HEALTH)
        event_add(change, event->kind, event->node, event->rank, 0, "%s", event->text);
    if (command->final || record->job.restarts >= record->job.spec.max_restarts) {
        fail_for_good(change);
        return TIDE_OK;
    }
    struct recovery why = {.cause = event->kind, .rank = event->rank, .detect_ms = command->ms, .from_step = command->step};
    text_copy(why.node, sizeof why.node, event->node);
    TEXT(why.text, "%s", event->text);
    record->job.restarts++;
    take_pause(change);
    gen_end(change, &why);
    if (record->pause_ms > 0)
        tell_pause(change);
    place_spares(change->state);
    job_waiting_refresh(change);
    return TIDE_OK;
}

/* ---- launch ---- */

static enum tide_status check_launch(struct change *change)
{
    const struct command *command = change->command;
    const struct job_record *record = change->job;
    bool first = record->phase == GEN_PHASE_NONE && job_active(record);
    if (!first && record->phase != GEN_PHASE_FENCING)
        return err_set(change->err, TIDE_E_STALE, "job %s is %s; there is nothing to launch", command->job,
                       job_state_names[record->job.state]);
    uint64_t next = first ? 1 : record->job.generation;
    if (command->generation != next)
        return err_set(change->err, TIDE_E_STALE, "job %s: generation %" PRIu64 " cannot be launched; %" PRIu64 " is next",
                       command->job, command->generation, next);
    if (command->token[0] == '\0' || command->port == 0 || command->port > UINT16_MAX)
        return err_set(change->err, TIDE_E_INVALID, "a launch needs a token and a port");
    return TIDE_OK;
}

/* What is in memory only can be restored where it is, and from a copy. */
static enum tide_status check_restore(struct change *change, const struct placement *placement)
{
    const struct command *command = change->command;
    if (command->cut == 0)
        return TIDE_OK;
    const struct ckpt *ckpt = job_ckpt(&change->job->job, command->cut);
    if (ckpt == NULL || !ckpt_restorable(ckpt))
        return err_set(change->err, TIDE_E_STALE, "job %s: checkpoint %" PRIu64 " cannot be restored (any more)",
                       command->job, command->cut);
    if (ckpt_in_memory(ckpt) && ckpt->nodes.count != placement->nodes.count)
        return err_set(change->err, TIDE_E_STALE,
                       "job %s: checkpoint %" PRIu64 " is in the memory of %zu nodes only, but its ranks would run on %zu", command->job,
                       command->cut, ckpt->nodes.count, placement->nodes.count);
    for (size_t i = 0; ckpt_in_memory(ckpt) && i < placement->nodes.count; i++)
        if (strcmp(placement->nodes.items[i], ckpt->nodes.items[i]) != 0 && ckpt_peer(change->state, ckpt, i) == NULL)
            return err_set(change->err, TIDE_E_STALE,
                           "job %s: checkpoint %" PRIu64 " is in the memory of %s only, but its ranks would run on %s",
                           command->job, command->cut, ckpt->nodes.items[i], placement->nodes.items[i]);
    return TIDE_OK;
}

static void tell_fenced(struct change *change)
{
    struct job *job = &change->job->job;
    struct recovery *recovery = recovery_present(job);
    if (recovery == NULL)
        return;
    const struct command *command = change->command;
    uint64_t since = ms_between(recovery->at_ms, command->at_ms);
    recovery->fence_ms = since > command->ms ? since - command->ms : 0;
    recovery->cut = command->cut;
    const struct ckpt *ckpt = job_ckpt(job, command->cut);
    recovery->to_step = ckpt != NULL ? ckpt->step : 0;
    if (recovery->from_step == 0)
        recovery->from_step = command->step;
    event_add(change, EVENT_FENCED, NULL, -1, 0, "generation %" PRIu64 " is gone from every node after %" PRIu64 " ms",
              recovery->generation, recovery->fence_ms);
}

static bool has_moved(const struct job *job, const struct strlist *before, size_t n)
{
    return n < before->count && strcmp(before->items[n], job->nodes.items[n]) != 0;
}

static void add_place(struct change *change, const struct strlist *before, size_t n, char where[TIDE_TEXT_MAX + 1])
{
    const struct job *job = &change->job->job;
    const struct ckpt *ckpt = job_ckpt(job, job->restore_cut);
    bool moved = has_moved(job, before, n);
    const char *peer = moved && ckpt != NULL && ckpt->nodes.count == job->nodes.count ? ckpt_peer(change->state, ckpt, n) : NULL;
    state_text(change->state, where, TIDE_TEXT_MAX + 1, "%s%s%s%s%s%s%s%s", where, where[0] ? ", " : "", job->nodes.items[n],
               moved ? " (in place of " : "", moved ? before->items[n] : "", peer != NULL ? ", from the memory of " : "",
               peer != NULL ? peer : "", moved ? ")" : "");
}

/* Of more nodes than can be told, those that are new. */
static void where_text(struct change *change, const struct strlist *before, char where[TIDE_TEXT_MAX + 1])
{
    const struct job *job = &change->job->job;
    size_t count = job->nodes.count, told = 0;
    bool all = change->state->level < MARK_LEVEL || count <= NODES_TOLD;
    where[0] = '\0';
    for (size_t i = 0; i < 2 * count && (all || told < NODES_TOLD); i++) {
        size_t n = i % count;
        if (all ? i < count : has_moved(job, before, n) == (i < count)) {
            add_place(change, before, n, where);
            told++;
        }
    }
    if (told < count)
        state_text(change->state, where, TIDE_TEXT_MAX + 1, "%s and %zu more", where, count - told);
}

static void tell_launched(struct change *change, const struct strlist *before)
{
    const struct job *job = &change->job->job;
    const struct ckpt *ckpt = job_ckpt(job, job->restore_cut);
    char from[TIDE_NAME_MAX + 1], where[TIDE_TEXT_MAX + 1];
    TEXT(from, "the beginning");
    if (ckpt != NULL)
        TEXT(from, "checkpoint %" PRIu64 " (step %" PRIu64 ")", ckpt->cut, ckpt->step);
    where_text(change, before, where);
    char size[TIDE_NAME_MAX + 1] = "";
    if (before->count != 0 && before->count != job->nodes.count)
        TEXT(size, " with %u ranks, %zu before,", job_world(job), before->count * job->spec.nproc_per_node);
    event_add(change, EVENT_LAUNCHED, NULL, -1, job->restore_cut, "generation %" PRIu64 " starts%s from %s on %s",
              job->generation, size, from, where);
}

static void launch(struct change *change, struct placement *placement)
{
    const struct command *command = change->command;
    struct job_record *record = change->job;
    struct job *job = &record->job;
    struct strlist before = job->nodes;
    job->nodes = placement->nodes;
    placement->nodes = (struct strlist){0};
    strlist_release(&job->spares);
    job->spares = placement->spares;
    placement->spares = (struct strlist){0};
    job->generation = command->generation;
    job->state = TIDE_JOB_RUNNING;
    job->restore_cut = command->cut;
    const struct ckpt *from = job_ckpt(job, command->cut);
    record->restore_stored = from != NULL && from->state == TIDE_CKPT_COMMITTED;
    job->reason[0] = '\0';
    if (job->started_ms == 0)
        job->started_ms = command->at_ms;
    record->phase = GEN_PHASE_LAUNCHED;
    text_copy(record->token, sizeof record->token, command->token);
    record->master_port = command->port;
    record->rollback_cut = record->pause_ms = 0;
    record->launched_ms = record->last_cut_ms = command->at_ms;
    /* Whoever was lost is told to end what is old when it comes back: by this generation's number if it has a part in
     * it, else by not finding the job in its desired state. */
    strlist_release(&record->fence);
    tell_fenced(change);
    tell_launched(change, &before);
    strlist_release(&before);
}

enum tide_status apply_GEN_LAUNCH(struct change *change)
{
    enum tide_status status = check_launch(change);
    if (status != TIDE_OK)
        return status;
    struct placement placement;
    if (!place(change->state, change->job, &placement)) {
        char text[TIDE_TEXT_MAX + 1];
        struct room room;
        room_init(&room, change->state);
        place_explain(&room, change->job, text, sizeof text);
        room_release(&room);
        status = err_set(change->err, TIDE_E_STALE, "job %s %s", change->command->job, text);
    } else {
        status = check_restore(change, &placement);
    }
    if (status == TIDE_OK)
        launch(change, &placement);
    placement_release(&placement);
    if (status == TIDE_OK) {
        peers_plan(change->state);
        job_waiting_refresh(change);
    }
    return status;
}

/* ---- under way ---- */

static enum tide_status check_launched(struct change *change)
{
    if (change->job->phase == GEN_PHASE_LAUNCHED)
        return TIDE_OK;
    return err_set(change->err, TIDE_E_STALE, "generation %" PRIu64 " of job %s does not run", change->command->generation,
                   change->command->job);
}

enum tide_status apply_GEN_STARTED(struct change *change)
{
    enum tide_status status = check_launched(change);
    if (status != TIDE_OK)
        return status;
    struct job *job = &change->job->job;
    if (job->all_started)
        return TIDE_OK;
    uint64_t took = ms_between(change->job->launched_ms, change->command->at_ms);
    struct recovery *recovery = recovery_present(job);
    if (recovery != NULL)
        recovery->start_ms = took;
    job->all_started = true;
    event_add(change, EVENT_RUNNING, NULL, -1, 0, "every rank of generation %" PRIu64 " is started after %" PRIu64 " ms",
              job->generation, took);
    return TIDE_OK;
}

enum tide_status apply_GEN_STEPPING(struct change *change)
{
    enum tide_status status = check_launched(change);
    if (status != TIDE_OK)
        return status;
    const struct command *command = change->command;
    struct job *job = &change->job->job;
    if (job->all_stepped)
        return TIDE_OK;
    struct recovery *recovery = recovery_present(job);
    if (recovery != NULL) {
        recovery->restore_ms = command->ms;
        recovery->total_ms = recovery->detect_ms + ms_between(recovery->at_ms, command->at_ms);
    }
    job->all_started = job->all_stepped = true;
    event_add(change, EVENT_STEPPING, NULL, -1, job->restore_cut, "every rank of generation %" PRIu64 " has made a step",
              job->generation);
    /* The checkpoint this generation started from is not in use any more. */
    ckpt_retain(change);
    return TIDE_OK;
}
