/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/core/internal.h"

/* A rank still reading its state out of a slot, or a worker reading or writing it, must not meet a new recording there.
 * Workers may outlive the generation they work for, and its ranks with all that is known of them: `busy` tells of those. */
static bool slot_in_use(struct job_part *job, const struct rank_part *part, uint32_t slot)
{
    const struct restore_part *restore = &part->restore;
    bool restoring = restore->state == RESTORE_READY && part->page.phase < CONTROL_STEPPING;
    return (restoring && restore->slot == slot) || slots_of(job, part->rank)->slots[slot].busy ||
           slot_stored_from(job, part->rank, slot);
}

/* Where the newest sealed cut is; where two slots hold it, the one this generation was restored from. SLOTS: nowhere. */
static uint32_t protected_slot(struct job_part *job, const struct rank_part *part)
{
    const struct rank_slots *slots = slots_of(job, part->rank);
    const struct restore_part *restore = &part->restore;
    uint64_t cut = job->order.protect_cut;
    if (cut == 0)
        return SLOTS;
    if (restore->state == RESTORE_READY && restore->cut == cut && slots->slots[restore->slot].cut == cut)
        return restore->slot;
    for (uint32_t s = 0; s < SLOTS; s++)
        if (slots->slots[s].cut == cut)
            return s;
    return SLOTS;
}

/* The slot a cut may be recorded into: never that of the newest sealed cut, nor of the one that is being stored; also where this
 * rank's part of that is in the store already: an agent that is started again forgets it. -1: none is free. */
static int choose_slot(struct job_part *job, const struct rank_part *part)
{
    const struct rank_slots *slots = slots_of(job, part->rank);
    uint64_t stored = stored_order(job)->cut;
    int best = -1;
    for (uint32_t s = 0; s < slots_of_rank(part); s++) {
        uint64_t cut = slots->slots[s].cut;
        if (s == protected_slot(job, part) || (stored != 0 && cut == stored) || slot_in_use(job, part, s))
            continue;
        if (cut == job->order.cut.cut)
            return (int)s; /* an earlier attempt of the same cut */
        if (best < 0 || cut < slots->slots[best].cut)
            best = (int)s;
    }
    return best;
}

/* This very attempt stands in the rank's page. */
static bool armed_here(const struct rank_part *part)
{
    const struct agent_page *page = &part->page;
    const struct cut_report *report = &part->cut.report;
    return page->armed_step != STEP_NONE && page->armed_cut == report->cut && page->armed_attempt == report->attempt &&
           page->armed_slot < SLOTS;
}

static void arm(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    struct cut_part *cut = &part->cut;
    int slot = armed_here(part) ? (int)part->page.armed_slot : choose_slot(job, part);
    if (slot < 0) {
        cut->state = CUT_PART_FAILED;
        cut->report.progress = CUT_FAILED;
        snprintf(cut->report.detail, sizeof cut->report.detail,
                 "all %u slots are in use: one holds checkpoint %llu, the others are still being stored, read or written",
                 slots_of_rank(part), (unsigned long long)job->order.protect_cut);
        core->dirty = true;
        return;
    }
    cut->slot = (uint32_t)slot;
    cut->state = CUT_PART_ARMING;
    slot_begin(job, part->rank, cut->slot);
    struct agent_action *action = act_rank(core, ACT_ARM, job, part->rank);
    action->cut = cut->report.cut;
    action->attempt = cut->report.attempt;
    action->slot = cut->slot;
    action->step = job->order.cut.mode == CUT_MODE_FREE ? STEP_NEXT : job->order.cut.step;
    action->epoch = cut->epoch;
}

/* A restarted agent may find armed what it armed before. */
static bool armed_already(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    struct cut_part *cut = &part->cut;
    const struct agent_page *page = &part->page;
    if (!armed_here(part) || page->step >= page->armed_step)
        return false;
    cut->slot = page->armed_slot;
    cut->state = CUT_PART_ARMED;
    cut->report.progress = CUT_ARMED;
    slot_begin(job, part->rank, cut->slot);
    core->dirty = true;
    return true;
}

/* Recorded already; the next look at the page brings what goes with it. */
static bool record_to_come(const struct rank_part *part)
{
    return part->cut.epoch != 0 && part->page.recorded_cut == part->cut.report.cut &&
           part->page.recorded_attempt == part->cut.report.attempt;
}

static bool under_way(unsigned state)
{
    return state == CUT_PART_ARMING || state == CUT_PART_DISARMING || state == CUT_PART_SUMMING;
}

/* Armed for an epoch that ranks may have begun: that is not done afresh, since the others do not wait for this one any more. */
static bool too_late(struct agent_core *core, const struct job_part *job, struct rank_part *part)
{
    struct cut_part *cut = &part->cut;
    if (cut->epoch == 0 || job->order.cut.phase == CUT_PHASE_ARM || armed_here(part))
        return false;
    cut->state = CUT_PART_MISSED;
    cut->report.progress = CUT_MISSED;
    cut->report.step = part->page.step;
    core->dirty = true;
    return true;
}

/* Whole: nothing is added to what was copied. */
static bool may_sum(const struct job_part *job, const struct cut_part *cut)
{
    return cut->state == CUT_PART_COPIED && (cut->epoch == 0 || (job->order.cut.phase == CUT_PHASE_SUM && cut->looked));
}

static void want(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    const struct cut_order *order = &job->order.cut;
    struct cut_part *cut = &part->cut;
    bool same = cut->report.cut == order->cut && cut->report.attempt == order->attempt;
    if (!same || cut->state == CUT_PART_NONE) {
        if (under_way(cut->state))
            return;
        if (cut->state == CUT_PART_ARMED || cut->state == CUT_PART_COPIED)
            slot_release(job, part->rank, cut->slot);
        memset(cut, 0, sizeof *cut);
        cut->state = CUT_PART_WANTED;
        cut->epoch = order->epoch;
        cut->report.cut = order->cut;
        cut->report.attempt = order->attempt;
        cut->report.rank = part->rank;
        cut_notice_page(core, job, part);
    }
    if (cut->state == CUT_PART_WANTED && part->page_seen && !part->ended && retry_due(core, &cut->retry) &&
        !record_to_come(part) && !armed_already(core, job, part) && !too_late(core, job, part))
        arm(core, job, part);
    if (may_sum(job, cut)) {
        cut->state = CUT_PART_SUMMING;
        job->in_flight++;
        struct agent_action *action = act_rank(core, ACT_SUM, job, part->rank);
        action->cut = cut->report.cut;
        action->slot = cut->slot;
        action->epoch = cut->epoch;
    }
}

static void unwant(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    struct cut_part *cut = &part->cut;
    if (cut->state == CUT_PART_WANTED || cut->state == CUT_PART_COPIED) {
        if (cut->state == CUT_PART_COPIED)
            slot_release(job, part->rank, cut->slot);
        cut->state = CUT_PART_NONE;
    }
    if (cut->state == CUT_PART_ARMED) {
        cut->state = CUT_PART_DISARMING;
        cut->retry = (struct retry){0};
    }
    /* Where ranks change colour they do so without a record, armed or not; and it reminds them to look at their page. */
    bool begun = cut->epoch != 0 && job->order.epochs.go >= cut->epoch;
    if (cut->state == CUT_PART_DISARMING && !begun && retry_due(core, &cut->retry)) {
        retry_later(core, &cut->retry);
        act_rank(core, ACT_DISARM, job, part->rank)->cut = cut->report.cut;
    }
}

/* The newest sealed cut waits until an older one is stored: for the next a third slot of each rank is needed. */
static void widen(struct agent_core *core, struct job_part *job, const struct step_part *step)
{
    const struct cut_order *stored = stored_order(job);
    bool narrow = false;
    for (size_t i = 0; i < step->rank_count; i++)
        narrow |= step->ranks[i].report.slots == SLOTS_ALWAYS && !step->ranks[i].ended;
    if (!narrow || stored->cut == 0 || job->order.protect_cut <= stored->cut) {
        job->widen_retry = (struct retry){0};
        return;
    }
    if (!order_runs(job) || !retry_due(core, &job->widen_retry))
        return;
    retry_later(core, &job->widen_retry);
    act(core, ACT_WIDEN, job);
}

void drive_cut(struct agent_core *core, struct job_part *job)
{
    struct step_part *step = step_live(job);
    if (step == NULL || !job->assigned || !job->has_order)
        return;
    widen(core, job, step);
    const struct cut_order *order = &job->order.cut;
    bool record = order_runs(job) &&
                  (order->phase == CUT_PHASE_RECORD || order->phase == CUT_PHASE_ARM || order->phase == CUT_PHASE_SUM) &&
                  (order->generation == 0 || order->generation == job->generation);
    for (size_t i = 0; i < step->rank_count; i++) {
        if (record)
            want(core, job, &step->ranks[i]);
        else
            unwant(core, job, &step->ranks[i]);
    }
}
