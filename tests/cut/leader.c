/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cut/leader.h"

#include <stdio.h>
#include <string.h>

#define MARGIN_MAX 3 /* steps ahead of every rank */

uint64_t leader_draw(struct leader *leader, uint64_t below)
{
    leader->random += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t x = leader->random;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % below;
}

void leader_reset(struct leader *leader)
{
    leader->open = false;
    leader->epoch = 0;
}

/* ---- the agent's part: the pages ---- */

static void nudge(struct control_page *page)
{
    atomic_fetch_add(&page->call_epoch, 1);
}

static void disarm(struct control_page *page, uint64_t step)
{
    uint64_t expected = step;
    atomic_compare_exchange_strong(&page->armed_step, &expected, STEP_NONE);
}

static void arm(struct leader *leader, uint32_t rank)
{
    struct control_page *page = leader->host->pages[rank];
    atomic_store(&page->armed_cut, leader->cut);
    atomic_store(&page->armed_attempt, leader->attempt);
    atomic_store(&page->armed_slot, leader->slot);
    atomic_store(&page->armed_epoch, leader->epoch);
    atomic_store(&page->armed_step, leader->step);
    leader->missed[rank] = false;
    if (leader->step != STEP_NEXT && atomic_load(&page->step) >= leader->step) {
        uint64_t expected = leader->step;
        leader->missed[rank] = atomic_compare_exchange_strong(&page->armed_step, &expected, STEP_NONE);
    }
    nudge(page);
}

static void order(struct leader *leader, _Atomic uint64_t *(*word)(struct control_page *))
{
    for (uint32_t r = 0; r < leader->host->ranks; r++) {
        atomic_store(word(leader->host->pages[r]), leader->epoch);
        nudge(leader->host->pages[r]);
    }
}

static _Atomic uint64_t *go_word(struct control_page *page)
{
    return &page->go_epoch;
}
static _Atomic uint64_t *flip_word(struct control_page *page)
{
    return &page->flip_epoch;
}
static _Atomic uint64_t *settled_word(struct control_page *page)
{
    return &page->settled_epoch;
}
static _Atomic uint64_t *closed_word(struct control_page *page)
{
    return &page->closed_epoch;
}

/* ---- what the ranks say ---- */

static struct cut_rank_report report_of(const struct leader *leader, uint32_t rank)
{
    struct control_page *page = leader->host->pages[rank];
    struct cut_rank_report report = {.rank = rank, .coloured = atomic_load(&page->coloured) != 0};
    uint64_t before;
    do {
        before = atomic_load(&page->epoch);
        report.arrived_before = atomic_load(&page->arrived_before);
        report.sent_before = atomic_load(&page->sent_before);
        report.epoch = atomic_load(&page->epoch);
    } while (before != report.epoch);
    report.ended_epoch = atomic_load(&page->ended_epoch);
    report.left = atomic_load(&page->phase) == CONTROL_FINALIZED;
    report.armed_epoch = leader->missed[rank] ? 0 : leader->epoch;
    report.missed_epoch = leader->missed[rank] ? leader->epoch : 0;
    report.polling_epoch = atomic_load(&page->polling_epoch);
    report.recorded_cut = atomic_load(&page->recorded_cut);
    report.recorded_attempt = atomic_load(&page->recorded_attempt);
    report.result = atomic_load(&page->record_result);
    return report;
}

static enum cut_misfit judge_collectives(const struct leader *leader, char *why, size_t size)
{
    struct cut_comms *comms = cut_comms_create();
    struct err err;
    for (uint32_t r = 0; r < leader->host->ranks; r++) {
        const struct control_page *page = leader->host->pages[r];
        for (uint32_t i = 0; i < atomic_load(&page->record_comms); i++) {
            const struct control_comm *comm = &page->comms[i];
            struct cut_members members = {
                .comm = {.id = comm->id, .collectives = comm->collectives, .size = comm->size}, .members = 1, .rank = r};
            snprintf(members.comm.name, sizeof members.comm.name, "%s", comm->name);
            if (cut_comms_add(comms, &members, &err) != TIDE_OK)
                fprintf(stderr, "cut driver: %s\n", err.text);
        }
    }
    enum cut_misfit misfit = cut_comms_judge(comms, leader->host->ranks, why, size);
    cut_comms_free(comms);
    return misfit;
}

static void count(struct leader *leader)
{
    for (uint32_t r = 0; r < leader->host->ranks; r++) {
        const struct control_page *page = leader->host->pages[r];
        uint64_t stall = atomic_load(&page->record_stall_ns);
        leader->logged += atomic_load(&page->record_logged);
        leader->logged_bytes += atomic_load(&page->record_logged_bytes);
        leader->stall_ns_sum += stall;
        leader->records++;
        if (stall > leader->stall_ns_max)
            leader->stall_ns_max = stall;
    }
}

/* ---- one attempt ---- */

void leader_open(struct leader *leader, uint32_t slot, uint64_t deadline_ns, uint64_t now_ns)
{
    uint64_t ahead = 0;
    leader->open = true;
    leader->go = false;
    leader->stage = CUT_STAGE_ARM;
    leader->whole = false;
    leader->why[0] = '\0';
    leader->mode = cut_mode_next(&leader->past);
    leader->cut++;
    leader->attempt = 1;
    leader->epoch++;
    leader->slot = slot;
    leader->opened_ns = now_ns;
    leader->deadline_ns = now_ns + deadline_ns;
    leader->attempts++;
    for (uint32_t r = 0; r < leader->host->ranks; r++) {
        uint64_t step = atomic_load(&leader->host->pages[r]->step);
        ahead = step > ahead ? step : ahead;
    }
    leader->step = leader->mode == CUT_MODE_FREE ? STEP_NEXT : ahead + 1 + leader_draw(leader, MARGIN_MAX);
    for (uint32_t r = 0; r < leader->host->ranks; r++)
        arm(leader, r);
}

static void enter(struct leader *leader, enum cut_stage stage, uint64_t now_ns)
{
    switch (stage) {
    case CUT_STAGE_RECORD:
        leader->go = true;
        order(leader, go_word);
        break;
    case CUT_STAGE_SUM: order(leader, flip_word); break;
    case CUT_STAGE_SETTLED:
        leader->drain_ns_sum += now_ns - leader->opened_ns;
        order(leader, settled_word);
        break;
    case CUT_STAGE_CLOSED:
        for (uint32_t r = 0; r < leader->host->ranks; r++)
            disarm(leader->host->pages[r], leader->step);
        order(leader, closed_word);
        break;
    default: break;
    }
    leader->stage = stage;
}

static void conclude(struct leader *leader, const struct cut_verdict *verdict)
{
    leader->open = false;
    leader->misfit = cut_verdict_misfit(verdict, leader->why, sizeof leader->why);
    leader->whole = leader->go && leader->misfit == CUT_FITS && cut_verdict_whole(verdict);
    if (leader->whole) {
        leader->misfit = judge_collectives(leader, leader->why, sizeof leader->why);
        leader->whole = leader->misfit == CUT_FITS;
    }
    if (leader->misfit == CUT_MISFIT_FAILED || leader->misfit == CUT_MISFIT_EARLY) {
        uint32_t rank = verdict->misfit_rank[leader->misfit];
        snprintf(leader->why, sizeof leader->why, "rank %u: %s", rank, leader->host->pages[rank]->record_detail);
    }
    leader->misfits[leader->misfit]++;
    cut_past_add(&leader->past, leader->mode, leader->misfit);
    if (leader->whole)
        count(leader);
}

bool leader_tick(struct leader *leader, uint64_t now_ns)
{
    struct cut_verdict verdict;
    if (!leader->open)
        return false;
    cut_verdict_init(&verdict, leader->host->ranks, leader->epoch, leader->cut, leader->attempt);
    for (uint32_t r = 0; r < leader->host->ranks; r++) {
        struct cut_rank_report report = report_of(leader, r);
        cut_verdict_add(&verdict, &report);
    }
    enum cut_stage next = cut_verdict_stage(&verdict, leader->stage);
    if (next == leader->stage && now_ns > leader->deadline_ns && leader->stage == CUT_STAGE_ARM)
        next = CUT_STAGE_CLOSED;
    if (next == leader->stage && now_ns > leader->deadline_ns && leader->stage == CUT_STAGE_RECORD)
        next = CUT_STAGE_SUM;
    if (next == leader->stage)
        return false;
    enter(leader, next, now_ns);
    if (next != CUT_STAGE_CLOSED)
        return false;
    conclude(leader, &verdict);
    return true;
}
