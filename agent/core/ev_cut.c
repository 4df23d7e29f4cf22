/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/core/internal.h"
#include "ckpt/base/text.h"

#define BUSY_RETRY_MS 20u /* a record under way takes about as long as a copy of the state */

/* Nobody will record it any more. */
void cut_step_gone(struct job_part *job, struct rank_part *part)
{
    struct cut_part *cut = &part->cut;
    if (cut->state == CUT_PART_ARMED || cut->state == CUT_PART_DISARMING || cut->state == CUT_PART_COPIED)
        slot_release(job, part->rank, cut->slot);
    if (cut->state == CUT_PART_WANTED || cut->state == CUT_PART_ARMED || cut->state == CUT_PART_DISARMING ||
        cut->state == CUT_PART_COPIED)
        cut->state = CUT_PART_NONE;
}

static void take_counts(const struct agent_page *page, struct cut_report *report)
{
    report->step = page->record_step;
    report->bytes = page->record_bytes;
    report->stall_us = page->record_stall_ns / 1000u;
    report->collectives = page->record_collectives;
    report->logged = page->record_logged;
    report->logged_bytes = page->record_logged_bytes;
    report->copy = page->record_copy <= RECORD_COPY_REFUSED ? page->record_copy : RECORD_COPY_PLAIN;
    report->copy_us = page->record_copy_ns / 1000u;
}

/* What the rank's last word is; it may be another than its first, as long as messages are added to the record. */
static void take_end(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    const struct agent_page *page = &part->page;
    struct cut_part *cut = &part->cut;
    struct cut_report *report = &cut->report;
    cut->state = CUT_PART_FAILED;
    report->progress = CUT_FAILED;
    if (page->record_result == RECORD_PASSED)
        report->progress = CUT_PASSED;
    if (page->record_result == RECORD_EARLY)
        report->progress = CUT_EARLY;
    if (report->progress == CUT_FAILED)
        text_say(report->detail, sizeof report->detail, "%s: %s", tide_status_name((enum tide_status)page->record_status),
                 page->record_detail);
    else
        text_copy(report->detail, sizeof report->detail, page->record_detail);
    slot_release(job, part->rank, cut->slot);
    core->dirty = true;
}

static void take_record(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    const struct agent_page *page = &part->page;
    struct cut_part *cut = &part->cut;
    struct err err = {0};
    take_counts(page, &cut->report);
    cut->slot = page->record_slot < SLOTS ? page->record_slot : 0;
    slot_begin(job, part->rank, cut->slot);
    if (page->record_result != RECORD_DONE) {
        take_end(core, job, part);
        return;
    }
    cut->state = CUT_PART_COPIED;
    core->dirty |= cut->epoch != 0;
    if (comms_add(job, part, core->comms, &err) == TIDE_OK)
        return;
    cut->state = CUT_PART_FAILED;
    cut->report.progress = CUT_FAILED;
    text_fit(cut->report.detail, sizeof cut->report.detail, err.text);
    slot_release(job, part->rank, cut->slot);
}

/* A record whose channel log grows, looked at once more. */
static void follow_record(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    if (part->page.record_result != RECORD_DONE) {
        take_end(core, job, part);
        return;
    }
    take_counts(&part->page, &part->cut.report);
    part->cut.looked = job->order.cut.phase == CUT_PHASE_SUM && core->comms != NULL;
}

void cut_notice_page(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    struct cut_part *cut = &part->cut;
    const struct agent_page *page = &part->page;
    bool recorded = page->recorded_cut == cut->report.cut && page->recorded_attempt == cut->report.attempt;
    bool armed = page->armed_step != STEP_NONE && page->armed_cut == cut->report.cut;
    bool begun = cut->epoch != 0 && page->epoch >= cut->epoch && page->armed_step != STEP_TAKEN;
    if (!part->page_seen)
        return;
    if ((cut->state == CUT_PART_WANTED || cut->state == CUT_PART_ARMED) && recorded) {
        if (core->comms != NULL || (cut->epoch == 0 && page->record_comms == 0))
            take_record(core, job, part);
    } else if (cut->state == CUT_PART_COPIED && recorded && cut->epoch != 0) {
        follow_record(core, job, part);
    } else if (cut->state == CUT_PART_ARMED && armed && page->armed_attempt == cut->report.attempt &&
               page->armed_step != STEP_TAKEN && page->step >= page->armed_step) {
        /* It went by: an agent before this one was killed while it armed, or steps are counted by more than one. Arming
         * again settles it with the rank. */
        cut->state = CUT_PART_WANTED;
        slot_release(job, part->rank, cut->slot);
    } else if (cut->state == CUT_PART_DISARMING && (!armed || begun)) {
        cut->state = CUT_PART_NONE;
        slot_release(job, part->rank, cut->slot);
    }
}

void ev_armed(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    struct step_part *step = job != NULL ? step_of(job, event->generation) : NULL;
    struct rank_part *part = step != NULL ? rank_of(step, event->rank) : NULL;
    struct cut_part *cut = part != NULL ? &part->cut : NULL;
    if (cut == NULL || cut->state != CUT_PART_ARMING)
        return;
    core->dirty = true;
    switch (event->outcome) {
    case ARM_ARMED:
        cut->state = CUT_PART_ARMED;
        cut->report.progress = CUT_ARMED;
        cut_notice_page(core, job, part);
        break;
    case ARM_MISSED:
        cut->state = CUT_PART_MISSED;
        cut->report.progress = CUT_MISSED;
        cut->report.step = event->step;
        slot_release(job, part->rank, cut->slot);
        break;
    default:
        cut->state = CUT_PART_WANTED;
        cut->retry.at_ns = core->now_ns + BUSY_RETRY_MS * NS_PER_MS;
        slot_release(job, part->rank, cut->slot);
        core->dirty = false;
    }
    if (step->state == STEP_PART_GONE)
        cut_step_gone(job, part);
}

/* The digests are known: from here on the slot is a shard. */
static void take_sum(struct job_part *job, struct cut_part *cut, const struct agent_event *event)
{
    struct slot_part *slot = &slots_of(job, event->rank)->slots[event->slot];
    slot->busy = false;
    slot->epoch = ++job->epoch;
    slot->cut = event->cut;
    slot->bad_cut = 0;
    text_copy(slot->digest, sizeof slot->digest, event->digest);
    cut->state = CUT_PART_RECORDED;
    cut->report.progress = CUT_RECORDED;
    text_copy(cut->report.digest, sizeof cut->report.digest, event->digest);
}

void ev_summed(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    if (job == NULL || event->slot >= SLOTS)
        return;
    job->in_flight--;
    for (size_t i = 0; i < job->steps.count; i++) {
        struct rank_part *part = rank_of(&job->steps.items[i], event->rank);
        struct cut_part *cut = part != NULL ? &part->cut : NULL;
        if (cut == NULL || cut->state != CUT_PART_SUMMING || cut->report.cut != event->cut)
            continue;
        if (event->status == TIDE_OK) {
            take_sum(job, cut, event);
        } else {
            cut->state = CUT_PART_FAILED;
            cut->report.progress = CUT_FAILED;
            text_copy(cut->report.detail, sizeof cut->report.detail, event->text);
            slot_release(job, event->rank, event->slot);
        }
        core->dirty = true;
        return;
    }
    /* Its step was dropped meanwhile: the slot may still be worth something. */
    slot_release(job, event->rank, event->slot);
}
