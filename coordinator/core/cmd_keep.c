/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/retain.h"
#include "coordinator/core/inner.h"

/* Which stored checkpoints are kept, and the way out for the others: README.md, "Keeping and deleting". */

#define KEEP_MAX_0 (TIDE_CKPTS_MAX / 2) /* at level 0: there is always room to record new ones */
#define WHEN_CHARS 32
#define HOUR_MS (3600 * MS_PER_S)
#define HOLD_DAYS_MAX 3650u
#define HOLD_MS_MAX (HOLD_DAYS_MAX * 24 * HOUR_MS)

/* "60 s", "10 min", "7 d": for sentences. */
static const char *grace_text(uint64_t ms, char to[WHEN_CHARS])
{
    if (ms < 10 * MS_PER_S)
        text_say(to, WHEN_CHARS, "%" PRIu64 ".%03" PRIu64 " s", ms / MS_PER_S, ms % MS_PER_S);
    else if (ms < 600 * MS_PER_S)
        text_say(to, WHEN_CHARS, "%" PRIu64 " s", ms / MS_PER_S);
    else if (ms < 2 * HOUR_MS)
        text_say(to, WHEN_CHARS, "%" PRIu64 " min", ms / MS_PER_S / 60);
    else if (ms < 48 * HOUR_MS)
        text_say(to, WHEN_CHARS, "%" PRIu64 " h", ms / HOUR_MS);
    else
        text_say(to, WHEN_CHARS, "%" PRIu64 " d", ms / HOUR_MS / 24);
    return to;
}

static bool is_stored(const struct ckpt *ckpt)
{
    return ckpt->state == TIDE_CKPT_COMMITTED || ckpt->state == TIDE_CKPT_CONDEMNED;
}

/* ---- the rule ---- */

static void rule_text(const struct job_spec *spec, char to[TIDE_TEXT_MAX + 1])
{
    char time[WHEN_CHARS], of_ids[2 * WHEN_CHARS] = "", of_time[3 * WHEN_CHARS] = "";
    if (spec->ckpt_keep_every)
        TEXT(of_ids, ", and one in %u", spec->ckpt_keep_every);
    if (spec->ckpt_keep_every_ms)
        TEXT(of_time, ", and one in %s", grace_text(spec->ckpt_keep_every_ms, time));
    text_say(to, TIDE_TEXT_MAX + 1, "the %u newest are kept%s%s", spec->ckpt_keep, of_ids, of_time);
}

static void condemn(struct change *change, struct ckpt *ckpt, const char *reason)
{
    char time[WHEN_CHARS];
    ckpt->state = TIDE_CKPT_CONDEMNED;
    ckpt_unpeer(ckpt);
    ckpt->condemned_ms = change->command->at_ms;
    TEXT(ckpt->reason, "%s", reason);
    event_add(change, EVENT_CONDEMNED, NULL, -1, ckpt->cut, "checkpoint %" PRIu64 " will be deleted in %s: %s", ckpt->cut,
              grace_text(job_grace_ms(&change->job->job.spec), time), reason);
}

static void take_back(struct change *change, struct ckpt *ckpt, const char *why)
{
    ckpt->state = TIDE_CKPT_COMMITTED;
    ckpt->condemned_ms = 0;
    ckpt->unwanted = false;
    ckpt->reason[0] = '\0';
    event_add(change, EVENT_KEPT, NULL, -1, ckpt->cut, "checkpoint %" PRIu64 " is kept, not deleted: %s", ckpt->cut, why);
}

/* Of too many that wait for the end of their grace, the oldest have it. */
static void drop_surplus(struct change *change)
{
    struct job *job = &change->job->job;
    size_t condemned = 0;
    for (size_t i = job->ckpts.count; i-- > 0;) {
        struct ckpt *ckpt = &job->ckpts.items[i];
        if (ckpt->state == TIDE_CKPT_CONDEMNED && ++condemned > RETAIN_CONDEMNED_MAX)
            ckpt_drop(change, ckpt, ckpt->reason);
    }
}

static size_t list_stored(const struct state *state, const struct job_record *record, struct retain_item *items)
{
    const struct job *job = &record->job;
    size_t count = 0;
    for (size_t i = 0; i < job->ckpts.count; i++) {
        const struct ckpt *ckpt = &job->ckpts.items[i];
        if (!is_stored(ckpt))
            continue;
        bool used = job_restoring_from(record, ckpt->cut) || record->rollback_cut == ckpt->cut ||
                    ckpt_lent(state, job, ckpt->cut);
        items[count++] = (struct retain_item){.cut = ckpt->cut,
                                              .at_ms = ckpt->opened_ms,
                                              .pinned = ckpt_kept_by_hand(ckpt),
                                              .used = used,
                                              .unwanted = ckpt->unwanted};
    }
    return count;
}

/* Level 0. */
static void drop_superseded(struct change *change)
{
    struct job *job = &change->job->job;
    uint32_t keep = job->spec.ckpt_keep < KEEP_MAX_0 ? job->spec.ckpt_keep : KEEP_MAX_0, kept = 0;
    char reason[TIDE_TEXT_MAX + 1];
    TEXT(reason, "the %u newest are kept", keep);
    for (size_t i = job->ckpts.count; i-- > 0;) {
        struct ckpt *ckpt = &job->ckpts.items[i];
        if (ckpt->state != TIDE_CKPT_COMMITTED || kept++ < keep || job_restoring_from(change->job, ckpt->cut) ||
            change->job->rollback_cut == ckpt->cut)
            continue;
        ckpt_drop(change, ckpt, reason);
    }
}

static void condemn_unkept(struct change *change)
{
    struct job *job = &change->job->job;
    const struct job_spec *spec = &job->spec;
    struct retain_rule rule = {.last = spec->ckpt_keep,
                               .every = spec->ckpt_keep_every,
                               .every_ms = spec->ckpt_keep_every_ms,
                               .needed = job_active(change->job)};
    struct retain_item *items = mem_array(job->ckpts.count, sizeof *items);
    enum retain_why *why = mem_array(job->ckpts.count, sizeof *why);
    char text[TIDE_TEXT_MAX + 1];
    size_t count = list_stored(change->state, change->job, items);
    retain(&rule, items, count, why);
    rule_text(spec, text);
    for (size_t i = 0; i < count; i++) {
        struct ckpt *ckpt = job_ckpt(job, items[i].cut);
        bool ruled = job->state != TIDE_JOB_IMPORTED; /* another cluster may live off them: people drop them, no rule does */
        if (ruled && ckpt->state == TIDE_CKPT_COMMITTED && why[i] == RETAIN_NOT)
            condemn(change, ckpt, text);
        else if (ckpt->state == TIDE_CKPT_CONDEMNED && why[i] == RETAIN_ONLY)
            take_back(change, ckpt, "it is the last one the job could restart from");
        else if (ckpt->state == TIDE_CKPT_CONDEMNED && why[i] != RETAIN_NOT)
            take_back(change, ckpt, text);
    }
    mem_free(items);
    mem_free(why);
    drop_surplus(change);
}

void ckpt_retain(struct change *change)
{
    if (change->state->level == 0)
        drop_superseded(change);
    else
        condemn_unkept(change);
}

void ckpt_condemn_by_hand(struct change *change, struct ckpt *ckpt)
{
    struct job *job = &change->job->job;
    char time[WHEN_CHARS];
    ckpt->unwanted = true;
    ckpt->pinned = false;
    ckpt->held_until_ms = 0;
    grace_text(job_grace_ms(&job->spec), time);
    if (ckpt->state == TIDE_CKPT_COMMITTED) {
        condemn(change, ckpt, "dropped by hand");
        TEXT(change->outcome->text, "checkpoint %s/%" PRIu64 " will be deleted in %s; tidemark ckpt pin %s/%" PRIu64 " keeps it",
             job->spec.name, ckpt->cut, time, job->spec.name, ckpt->cut);
    } else {
        TEXT(change->outcome->text,
             "checkpoint %s/%" PRIu64 " is condemned already and will be deleted when its grace of %s is over; tidemark ckpt pin "
             "%s/%" PRIu64 " keeps it",
             job->spec.name, ckpt->cut, time, job->spec.name, ckpt->cut);
    }
    drop_surplus(change);
    if (ckpt->state == TIDE_CKPT_DROPPED)
        TEXT(change->outcome->text, "checkpoint %s/%" PRIu64 " is dropped: it is the oldest of more than %d that wait to be deleted",
             job->spec.name, ckpt->cut, RETAIN_CONDEMNED_MAX);
}

/* ---- by hand ---- */

static enum tide_status find_stored(struct change *change, struct ckpt **ret_ckpt)
{
    const char *name = change->job->job.spec.name;
    struct ckpt *ckpt = job_ckpt(&change->job->job, change->command->cut);
    if (ckpt == NULL)
        return err_set(change->err, TIDE_E_NOT_FOUND, "job %s has no checkpoint %" PRIu64 "; tidemark ckpt list %s", name,
                       change->command->cut, name);
    if (!is_stored(ckpt) && !ckpt_kept_by_hand(ckpt))
        return err_set(change->err, TIDE_E_STATE, "checkpoint %s/%" PRIu64 " is %s; only committed ones can be kept: tidemark ckpt list %s",
                       name, ckpt->cut, ckpt_state_names[ckpt->state], name);
    *ret_ckpt = ckpt;
    return TIDE_OK;
}

static size_t kept_by_hand(const struct job *job)
{
    size_t count = 0;
    for (size_t i = 0; i < job->ckpts.count; i++)
        count += ckpt_kept_by_hand(&job->ckpts.items[i]);
    return count;
}

enum tide_status apply_CKPT_PIN(struct change *change)
{
    const struct command *command = change->command;
    const struct job *job = &change->job->job;
    struct ckpt *ckpt = NULL;
    char time[WHEN_CHARS];
    enum tide_status status = find_stored(change, &ckpt);
    if (status != TIDE_OK)
        return status;
    if (!ckpt_kept_by_hand(ckpt) && kept_by_hand(job) >= RETAIN_PINNED_MAX)
        return err_set(change->err, TIDE_E_LIMIT,
                       "job %s has %d checkpoints that are pinned or held, the most there can be; unpin one first", job->spec.name,
                       RETAIN_PINNED_MAX);
    if (command->ms > HOLD_MS_MAX)
        return err_set(change->err, TIDE_E_LIMIT, "a checkpoint is held for at most %u days; pin it to keep it for good",
                       HOLD_DAYS_MAX);
    if (command->ms == 0)
        ckpt->pinned = true;
    else
        ckpt->held_until_ms = command->at_ms + command->ms;
    if (command->ms == 0)
        TEXT(change->outcome->text, "checkpoint %s/%" PRIu64 " is kept until it is unpinned", job->spec.name, ckpt->cut);
    else
        TEXT(change->outcome->text, "checkpoint %s/%" PRIu64 " is kept for %s", job->spec.name, ckpt->cut,
             grace_text(command->ms, time));
    change->outcome->cut = ckpt->cut;
    if (ckpt->state == TIDE_CKPT_CONDEMNED)
        take_back(change, ckpt, command->ms == 0 ? "it is pinned" : "it is held");
    return TIDE_OK;
}

enum tide_status apply_CKPT_UNPIN(struct change *change)
{
    const struct job *job = &change->job->job;
    struct ckpt *ckpt = NULL;
    enum tide_status status = find_stored(change, &ckpt);
    if (status != TIDE_OK)
        return status;
    if (!ckpt_kept_by_hand(ckpt))
        return err_set(change->err, TIDE_E_STATE,
                       "checkpoint %s/%" PRIu64 " is neither pinned nor held; tidemark ckpt list %s shows what is", job->spec.name,
                       ckpt->cut, job->spec.name);
    ckpt->pinned = false;
    ckpt->held_until_ms = 0;
    ckpt_retain(change);
    change->outcome->cut = ckpt->cut;
    STATE_TEXT(change->state, change->outcome->text, "checkpoint %s/%" PRIu64 " is not kept by hand any more; it is %s%s%s",
               job->spec.name, ckpt->cut, ckpt_state_names[ckpt->state], ckpt->reason[0] ? ": " : "", ckpt->reason);
    return TIDE_OK;
}

/* ---- time is up ---- */

static void end_holds(struct change *change)
{
    struct job *job = &change->job->job;
    for (size_t i = 0; i < job->ckpts.count; i++)
        if (job->ckpts.items[i].held_until_ms <= change->command->at_ms)
            job->ckpts.items[i].held_until_ms = 0;
}

enum tide_status apply_CKPT_EXPIRE(struct change *change)
{
    const struct command *command = change->command;
    struct ckpt *ckpt = command->cut ? job_ckpt(&change->job->job, command->cut) : NULL;
    if (command->cut != 0 && (ckpt == NULL || ckpt->state != TIDE_CKPT_CONDEMNED))
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 " is not condemned (any more)", command->job,
                       command->cut);
    end_holds(change);
    /* Weighed once more, with what became of the others meanwhile. */
    ckpt_retain(change);
    if (ckpt != NULL && ckpt->state == TIDE_CKPT_CONDEMNED)
        ckpt_drop(change, ckpt, ckpt->reason);
    return TIDE_OK;
}

/* Of an imported job the log that knows what is whose is elsewhere. */
void job_sweep(struct change *change)
{
    if (change->job->job.state == TIDE_JOB_IMPORTED)
        return;
    if (job_store(change->state, change->job)[0] != '\0')
        purge_again(change->job, PURGE_SWEEP, change->revision);
}

enum tide_status apply_CKPT_GC(struct change *change)
{
    struct job *job = &change->job->job;
    size_t dropped = 0;
    ckpt_retain(change);
    for (size_t i = 0; i < job->ckpts.count; i++) {
        if (job->ckpts.items[i].state != TIDE_CKPT_CONDEMNED)
            continue;
        ckpt_drop(change, &job->ckpts.items[i], job->ckpts.items[i].reason);
        dropped++;
    }
    job_sweep(change);
    TEXT(change->outcome->text, "%zu checkpoint%s of job %s %s dropped", dropped, dropped == 1 ? "" : "s", job->spec.name,
         dropped == 1 ? "is" : "are");
    return TIDE_OK;
}
