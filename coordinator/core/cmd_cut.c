/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/wire/local.h"
#include "coordinator/core/inner.h"

/*           CUT_OPEN            CUT_SEAL              CKPT_COMMIT
 *   (none) ─────────► OPEN ─────────────────► SEALED ─────────────► COMMITTED
 *                     │  ▲ CUT_REARM            │ │                   │  │
 *                     │  └─┐ attempt + 1        │ │ CKPT_CORRUPT      │  │ CKPT_CORRUPT
 *     CUT_ABORT, or   ▼                         │ └──► CORRUPT ◄──────┼──┘
 *     its generation  ABORTED     ARENA_LOST,   ▼         │           ▼
 *     ended                       ckpt drop,   DROPPED ◄──┴────── retention, ckpt drop, rollback
 *                                 rollback, the job's end
 *
 * CORRUPT ─► COMMITTED: CKPT_IMPORT, where every byte of it was read.
 *
 * CUT_OPEN may abort in the same breath, where it is clear at once that it cannot be recorded. Where messages are coloured an
 * attempt has an epoch, and CUT_GO, CUT_VOID, CUT_SETTLED and CUT_CLOSED move that on (cmd_epoch.c).
 *
 * One cut is open at a time, and one sealed cut is stored at a time. While that takes, others are sealed in memory, as long as the
 * ranks have a slot that holds neither the newest sealed one nor the one being stored: README.md, "The store lags". */

enum tide_status cut_find_open(struct change *change, struct ckpt **ret_ckpt)
{
    const struct command *command = change->command;
    struct ckpt *ckpt = job_open_cut(&change->job->job);
    if (ckpt == NULL || ckpt->cut != command->cut)
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 " is not being recorded (any more)", command->job,
                       command->cut);
    *ret_ckpt = ckpt;
    return TIDE_OK;
}

/* Who may be forgotten, in this order; a store that lets nothing be deleted must not be the end of the checkpoints. */
static const struct {
    unsigned state;
    bool purged; /* its objects are gone */
} useless[] = {{TIDE_CKPT_ABORTED, true}, {TIDE_CKPT_DROPPED, true}, {TIDE_CKPT_CORRUPT, true}, {TIDE_CKPT_DROPPED, false}};

/* The oldest that is of no use goes first. count: none may go. */
static size_t least_useful(const struct job_record *record)
{
    const struct job *job = &record->job;
    for (size_t u = 0; u < sizeof useless / sizeof useless[0]; u++)
        for (size_t i = 0; i < job->ckpts.count; i++) {
            const struct ckpt *ckpt = &job->ckpts.items[i];
            if (ckpt->state == useless[u].state && ckpt->cut != job->restore_cut &&
                strlist_has_number(&record->purge, ckpt->cut) != useless[u].purged)
                return i;
        }
    return job->ckpts.count;
}

static void forget_one(struct change *change)
{
    struct job_record *record = change->job;
    size_t at = least_useful(record);
    uint64_t cut = record->job.ckpts.items[at].cut;
    codec_list_remove(&ckpt_codec, &record->job.ckpts, at);
    strlist_drop_number(&record->owed, cut);
    if (!strlist_has_number(&record->purge, cut))
        return;
    strlist_drop_number(&record->purge, cut);
    event_add(change, EVENT_NOTE, NULL, -1, cut,
              "the objects of checkpoint %" PRIu64 " could not be deleted; they are given up, and left in the store", cut);
}

bool cut_has_room(const struct job_record *record)
{
    return record->job.ckpts.count < TIDE_CKPTS_MAX || least_useful(record) < record->job.ckpts.count;
}

/* The epoch that a new attempt would begin: one at a time is in transition, and each is begun once. */
static enum tide_status check_epoch(struct change *change, uint64_t epoch, unsigned mode)
{
    const struct job *job = &change->job->job;
    if (job_in_transition(job))
        return err_set(change->err, TIDE_E_STALE, "job %s: epoch %" PRIu64 " is not closed yet; none can follow",
                       change->command->job, job->epoch_go);
    if ((epoch != 0 && epoch != job->epoch + 1) || (mode == CUT_MODE_AUTO) != (epoch == 0))
        return err_set(change->err, TIDE_E_STALE, "job %s: epoch %" PRIu64 " cannot begin (mode %u) behind epoch %" PRIu64,
                       change->command->job, epoch, mode, job->epoch);
    return TIDE_OK;
}

static enum tide_status check_open(struct change *change)
{
    const struct command *command = change->command;
    const struct job_record *record = change->job;
    if (record->phase != GEN_PHASE_LAUNCHED || !record->job.all_started)
        return err_set(change->err, TIDE_E_STALE, "job %s: not every rank of generation %" PRIu64 " runs", command->job,
                       command->generation);
    if (job_open_cut(&record->job) != NULL || command->cut != record->job.next_cut)
        return err_set(change->err, TIDE_E_STALE, "job %s: checkpoint %" PRIu64 " cannot be opened; the next is %" PRIu64,
                       command->job, command->cut, record->job.next_cut);
    if (command->step == 0)
        return err_set(change->err, TIDE_E_INVALID, "a cut needs a step");
    return check_epoch(change, command->epoch, command->mode);
}

static void tell_opened(struct change *change, struct ckpt *ckpt)
{
    const struct event *event = &change->command->event;
    if (event->text[0] != '\0')
        cut_abort(change, ckpt, event->node, event->rank, event->text);
    else if (ckpt->mode == CUT_MODE_FREE)
        event_add(change, EVENT_CUT_OPENED, NULL, -1, ckpt->cut, "checkpoint %" PRIu64 " is to be recorded at each rank's next safe point",
                  ckpt->cut);
    else
        event_add(change, EVENT_CUT_OPENED, NULL, -1, ckpt->cut, "checkpoint %" PRIu64 " is to be recorded at step %" PRIu64,
                  ckpt->cut, ckpt->step);
}

enum tide_status apply_CUT_OPEN(struct change *change)
{
    const struct command *command = change->command;
    struct job_record *record = change->job;
    enum tide_status status = check_open(change);
    if (status != TIDE_OK)
        return status;
    if (!cut_has_room(record))
        return err_set(change->err, TIDE_E_LIMIT, "job %s keeps %d checkpoints; drop some: tidemark ckpt drop", command->job,
                       TIDE_CKPTS_MAX);
    if (record->job.ckpts.count >= TIDE_CKPTS_MAX)
        forget_one(change);
    struct ckpt *ckpt = codec_list_add(&ckpt_codec, &record->job.ckpts);
    ckpt->cut = record->job.next_cut++;
    ckpt->generation = record->job.generation;
    ckpt->attempt = 1;
    ckpt->state = TIDE_CKPT_OPEN;
    ckpt->step = command->step;
    ckpt->epoch = command->epoch;
    ckpt->mode = command->mode;
    record->job.epoch = command->epoch != 0 ? command->epoch : record->job.epoch;
    ckpt->by_hand = record->ckpt_requested;
    ckpt->opened_ms = record->last_cut_ms = command->at_ms;
    strlist_assign(&ckpt->nodes, &record->job.nodes);
    record->ckpt_requested = false;
    tell_opened(change, ckpt);
    return TIDE_OK;
}

void cut_remember(struct change *change, const struct ckpt *ckpt)
{
    if (ckpt->epoch != 0 && change->command->misfit < CUT_MISFITS)
        cut_past_add(&change->job->cut_past, (enum cut_mode)ckpt->mode, (enum cut_misfit)change->command->misfit);
}

static enum tide_status check_rearm(struct change *change, const struct ckpt *ckpt)
{
    const struct command *command = change->command;
    bool ahead = command->step > ckpt->step || (command->mode == CUT_MODE_FREE && command->step == ckpt->step);
    uint32_t most = ckpt->epoch != 0 ? CUT_COLOURED_ATTEMPTS_MAX : CUT_ATTEMPTS_MAX;
    if (command->attempt != ckpt->attempt + 1 || command->attempt > most || !ahead ||
        (command->epoch == 0) != (ckpt->epoch == 0) || (cut_goes(&change->job->job, ckpt) && !ckpt->attempt_void))
        return err_set(change->err, TIDE_E_STALE,
                       "checkpoint %s/%" PRIu64 " is at attempt %u for step %" PRIu64 "; attempt %u for step %" PRIu64
                       " does not follow",
                       command->job, ckpt->cut, ckpt->attempt, ckpt->step, command->attempt, command->step);
    return check_epoch(change, command->epoch, command->mode);
}

/* Nobody has begun its epoch, and nobody will. */
static void close_unbegun(struct job *job, const struct ckpt *ckpt)
{
    if (ckpt->epoch != 0 && !cut_goes(job, ckpt))
        job->epoch_settled = job->epoch_closed = ckpt->epoch;
}

enum tide_status apply_CUT_REARM(struct change *change)
{
    const struct command *command = change->command;
    struct ckpt *ckpt = NULL;
    enum tide_status status = cut_find_open(change, &ckpt);
    if (status == TIDE_OK)
        status = check_rearm(change, ckpt);
    if (status != TIDE_OK)
        return status;
    const char *colon = command->text[0] ? "; " : "";
    if (!cut_goes(&change->job->job, ckpt)) /* else that is told by CUT_VOID */
        cut_remember(change, ckpt);
    close_unbegun(&change->job->job, ckpt);
    change->job->job.epoch = command->epoch != 0 ? command->epoch : change->job->job.epoch;
    ckpt->attempt = command->attempt;
    ckpt->step = command->step;
    ckpt->epoch = command->epoch;
    ckpt->mode = command->mode;
    ckpt->attempt_void = false;
    if (ckpt->mode == CUT_MODE_FREE)
        event_add(change, EVENT_CUT_REARMED, NULL, -1, ckpt->cut, "%s%sattempt %u at each rank's next safe point", command->text, colon,
                  ckpt->attempt);
    else
        event_add(change, EVENT_CUT_REARMED, NULL, -1, ckpt->cut, "%s%sattempt %u at step %" PRIu64, command->text, colon,
                  ckpt->attempt, ckpt->step);
    return TIDE_OK;
}

void cut_abort(struct change *change, struct ckpt *ckpt, const char *node, int32_t rank, const char *reason)
{
    close_unbegun(&change->job->job, ckpt);
    ckpt->state = TIDE_CKPT_ABORTED;
    ckpt->attempt_void = false;
    TEXT(ckpt->reason, "%s", reason);
    event_add(change, EVENT_CUT_ABORTED, node, rank, ckpt->cut, "checkpoint %" PRIu64 " is aborted: %s", ckpt->cut, reason);
}

enum tide_status apply_CUT_ABORT(struct change *change)
{
    const struct event *event = &change->command->event;
    struct ckpt *ckpt = NULL;
    enum tide_status status = cut_find_open(change, &ckpt);
    if (status != TIDE_OK)
        return status;
    if (!ckpt->attempt_void)
        cut_remember(change, ckpt);
    cut_abort(change, ckpt, event->node, event->rank, event->text);
    return TIDE_OK;
}

/* More than ranks have slots for are not in memory any more: the newest took the place of the oldest. */
static void drop_overwritten(struct change *change, uint64_t newest)
{
    struct job_record *record = change->job;
    struct job *job = &record->job;
    uint32_t room = record->store_cut != 0 ? SLOTS - 1 : SLOTS, kept = 0;
    char reason[TIDE_TEXT_MAX + 1];
    TEXT(reason, "it was in memory only, and checkpoint %" PRIu64 " has taken its place there", newest);
    for (size_t i = job->ckpts.count; i-- > 0;) {
        struct ckpt *ckpt = &job->ckpts.items[i];
        if (!ckpt_in_memory(ckpt) || ckpt->cut == record->store_cut || job_restoring_from(record, ckpt->cut))
            continue;
        if (++kept > room)
            ckpt_drop(change, ckpt, reason);
    }
}

enum tide_status apply_CUT_SEAL(struct change *change)
{
    const struct command *command = change->command;
    struct job_record *record = change->job;
    struct ckpt *ckpt = NULL;
    enum tide_status status = cut_find_open(change, &ckpt);
    if (status != TIDE_OK)
        return status;
    if (command->attempt != ckpt->attempt)
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 " is at attempt %u, not %u", command->job,
                       ckpt->cut, ckpt->attempt, command->attempt);
    if (ckpt->epoch != 0 && (ckpt->attempt_void || !cut_goes(&record->job, ckpt) || record->job.epoch_settled != ckpt->epoch))
        return err_set(change->err, TIDE_E_STALE,
                       "checkpoint %s/%" PRIu64 ": messages sent before it may be on their way, or its attempt is given up",
                       command->job, ckpt->cut);
    if (ckpt->mode == CUT_MODE_FREE && command->step != 0)
        ckpt->step = command->step;
    cut_remember(change, ckpt);
    ckpt->state = TIDE_CKPT_SEALED;
    ckpt->sealed_ms = command->at_ms;
    ckpt->raw_bytes = command->bytes;
    ckpt->stall_us = command->us;
    ckpt->logged = command->logged;
    ckpt->logged_bytes = command->logged_bytes;
    ckpt->copy = command->copy;
    ckpt->copy_ms = command->ms;
    if (job_store(change->state, record)[0] == '\0')
        TEXT(ckpt->reason, "it stays in memory only: there is no store");
    else if (change->state->level > 1)
        ckpt->memory_only = true;
    else if (record->store_cut == 0)
        store_begin(record, ckpt);
    event_add(change, EVENT_SEALED, NULL, -1, ckpt->cut,
              "checkpoint %" PRIu64 " (step %" PRIu64 ") is whole in memory: %" PRIu64 " bytes, longest stall %" PRIu64
              " us",
              ckpt->cut, ckpt->step, ckpt->raw_bytes, ckpt->stall_us);
    store_next(change);
    if (change->state->level > 1)
        drop_overwritten(change, ckpt->cut);
    return TIDE_OK;
}

enum tide_status apply_ARENA_LOST(struct change *change)
{
    const struct command *command = change->command;
    struct ckpt *ckpt = job_ckpt(&change->job->job, command->cut);
    if (ckpt == NULL || !ckpt_in_memory(ckpt) || job_restoring_from(change->job, command->cut))
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 " is not in memory only (any more), or is in use",
                       command->job, command->cut);
    ckpt_drop(change, ckpt, command->event.text);
    store_next(change);
    return TIDE_OK;
}
