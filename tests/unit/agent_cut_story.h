/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_AGENT_CUT_STORY_H
#define TESTS_UNIT_AGENT_CUT_STORY_H

/* What stories of cuts add to agent_story.h: a cut that is ordered, recorded and reported. */

#include "tests/unit/agent_story.h"

static inline void open_cut(struct story *s, uint64_t cut, uint32_t attempt, uint64_t step)
{
    s->order.cut.cut = cut;
    s->order.cut.attempt = attempt;
    s->order.cut.step = step;
    s->order.cut.generation = 1;
    s->order.cut.phase = CUT_PHASE_RECORD;
    ordered(s);
}

static inline struct agent_page page_recorded(uint64_t cut, uint32_t attempt, uint64_t step, uint32_t slot, unsigned result)
{
    struct agent_page page = page_at(step);
    page.recorded_cut = cut;
    page.recorded_attempt = attempt;
    page.record_result = result;
    page.record_slot = slot;
    page.record_step = step;
    page.record_bytes = 4096;
    page.record_stall_ns = 5000;
    page.record_collectives = 12;
    return page;
}

/* Rank's progress in the reports; CUT_PROGRESS: nothing is said of it. */
static inline unsigned progress(struct story *s, uint32_t rank)
{
    const struct gen_report *report = says(s);
    for (size_t i = 0; i < report->cuts.count; i++)
        if (report->cuts.items[i].rank == rank)
            return report->cuts.items[i].progress;
    return CUT_PROGRESS;
}

/* Rank 0's part of a cut until its digest is known. */
static inline void record(struct story *s, uint32_t rank, uint64_t cut, uint32_t slot)
{
    armed(s, rank, cut, 1, ARM_ARMED, 0);
    struct agent_page page = page_recorded(cut, 1, 20, slot, RECORD_DONE);
    page_is(s, 1, rank, &page);
    assert_non_null(did(s, ACT_SUM));
    assert_int_equal(did(s, ACT_SUM)->slot, slot);
    worked(s, EV_SUMMED, rank, slot, cut, TIDE_OK);
}

/* Slot of the arming of rank 0 in the last event; SLOTS: none. */
static inline uint32_t armed_slot(const struct story *s)
{
    for (size_t i = 0; i < s->did.count; i++)
        if (s->did.items[i].kind == ACT_ARM && s->did.items[i].rank == 0)
            return s->did.items[i].slot;
    return SLOTS;
}

#endif
