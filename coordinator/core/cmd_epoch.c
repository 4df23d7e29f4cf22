/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/inner.h"

/* Where messages are coloured (ckpt/cut/README.md) each attempt of a cut has an epoch, counted from 1 in a generation:
 *
 *      CUT_OPEN, CUT_REARM        CUT_GO           CUT_SETTLED            CUT_CLOSED
 *   closed ───────► armed ───────────────► begun ─────────────► settled ─────────────► closed
 *     ▲               │                      │
 *     └───────────────┘                      └ CUT_VOID, CUT_ABORT: ranks that have not begun it do so without a record
 *      CUT_REARM, CUT_ABORT: nobody has begun it, and is disarmed */

static enum tide_status find_attempt(struct change *change, struct ckpt **ret_ckpt)
{
    const struct command *command = change->command;
    struct ckpt *ckpt = NULL;
    enum tide_status status = cut_find_open(change, &ckpt);
    if (status != TIDE_OK)
        return status;
    if (ckpt->epoch == 0 || command->attempt != ckpt->attempt || ckpt->attempt_void)
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 ": attempt %u is over, or its messages are not coloured",
                       command->job, ckpt->cut, command->attempt);
    *ret_ckpt = ckpt;
    return TIDE_OK;
}

enum tide_status apply_CUT_GO(struct change *change)
{
    const struct command *command = change->command;
    struct job *job = &change->job->job;
    struct ckpt *ckpt = NULL;
    enum tide_status status = find_attempt(change, &ckpt);
    if (status != TIDE_OK)
        return status;
    if (command->epoch != ckpt->epoch || cut_goes(job, ckpt))
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 ": epoch %" PRIu64 " cannot begin (any more)",
                       command->job, ckpt->cut, command->epoch);
    job->epoch_go = command->epoch;
    return TIDE_OK;
}

enum tide_status apply_CUT_VOID(struct change *change)
{
    const struct event *event = &change->command->event;
    struct ckpt *ckpt = NULL;
    enum tide_status status = find_attempt(change, &ckpt);
    if (status != TIDE_OK)
        return status;
    if (!cut_goes(&change->job->job, ckpt))
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 ": nobody records it yet; arm it again",
                       change->command->job, ckpt->cut);
    cut_remember(change, ckpt);
    ckpt->attempt_void = true;
    event_add(change, EVENT_CUT_VOID, event->node, event->rank, ckpt->cut, "attempt %u of checkpoint %" PRIu64 " is void: %s",
              ckpt->attempt, ckpt->cut, event->text);
    return TIDE_OK;
}

static enum tide_status stale_epoch(struct change *change)
{
    const struct job *job = &change->job->job;
    return err_set(change->err, TIDE_E_STALE,
                   "job %s: epoch %" PRIu64 " does not follow; begun is %" PRIu64 ", settled %" PRIu64 ", closed %" PRIu64,
                   change->command->job, change->command->epoch, job->epoch_go, job->epoch_settled, job->epoch_closed);
}

enum tide_status apply_CUT_SETTLED(struct change *change)
{
    struct job *job = &change->job->job;
    if (change->command->epoch != job->epoch_go || job->epoch_settled >= job->epoch_go)
        return stale_epoch(change);
    job->epoch_settled = job->epoch_go;
    return TIDE_OK;
}

enum tide_status apply_CUT_CLOSED(struct change *change)
{
    struct job *job = &change->job->job;
    if (change->command->epoch != job->epoch_go || job->epoch_settled != job->epoch_go || !job_in_transition(job))
        return stale_epoch(change);
    job->epoch_closed = job->epoch_go;
    return TIDE_OK;
}
