/* SPDX-License-Identifier: Apache-2.0 */
/* Agents, and a leader whose log survives it. Reports and orders are late, lost and doubled, agents and leaders die. */
#include <string.h>

#include "tests/sim/cut/sim.h"

#define MARGIN_MORE 4u
#define MARGIN_DOUBLED_MAX 4u
#define DEADLINE_MS_MIN 300u
#define DEADLINE_MS_MAX 4000u
#define OPEN_MS_MAX 60u

static void newer(uint64_t *into, uint64_t from)
{
    if (from > *into)
        *into = from;
}

static void send_late(struct world *world, void (*run)(struct world *, void *, uint64_t), void *subject, uint64_t number)
{
    if (chance(world, world->lies.loss))
        return;
    uint64_t delay = between(world, MS / 10, world->lies.report_ns);
    if (chance(world, world->lies.late))
        delay += between(world, 0, 40 * world->lies.report_ns);
    world_at(world, world->now + delay, run, subject, number);
}

/* ---- an agent: orders into pages ---- */

static bool mine(const struct agent *agent, const struct page *p)
{
    const struct order *o = &agent->order;
    return p->words.armed_epoch < o->epoch && p->epoch < o->epoch && !p->left;
}

/* Arming in three steps, between which ranks run: the epoch, the step, and a look whether the rank was faster. */
static void arm_one(struct world *world, struct agent *agent, uint32_t rank, unsigned part)
{
    const struct order *o = &agent->order;
    struct page *p = &world->rank[rank].page;
    if (part == 0) {
        if (!mine(agent, p) || p->words.armed_step == STEP_TAKEN)
            return;
        p->words.armed_step = STEP_NONE;
        p->cut = o->cut;
        p->attempt = o->attempt;
        p->words.armed_epoch = o->epoch;
        return;
    }
    if (p->words.armed_epoch != o->epoch || agent->armed[rank] >= o->epoch || agent->missed[rank] >= o->epoch ||
        p->epoch >= o->epoch || (p->recorded_cut == o->cut && p->recorded_attempt == o->attempt))
        return;
    if (part == 1) {
        if (p->words.armed_step == STEP_NONE && !p->left)
            p->words.armed_step = o->step;
        return;
    }
    if (p->words.armed_step != STEP_NONE && (o->step == STEP_NEXT || p->step < o->step)) {
        agent->armed[rank] = o->epoch;
    } else if (p->words.armed_step == o->step) {
        p->words.armed_step = STEP_NONE;
        agent->missed[rank] = o->epoch;
        world->totals->missed++;
    }
}

static void on_arm(struct world *world, void *subject, uint64_t epoch)
{
    struct agent *agent = subject;
    if (agent->down_until > world->now || agent->order.epoch != epoch || agent->order.stage != CUT_STAGE_ARM)
        return;
    for (uint32_t rank = agent->first; rank < agent->last; rank++)
        arm_one(world, agent, rank, agent->arming);
    if (++agent->arming < 3)
        world_at(world, world->now + between(world, 1, 5 * MS), on_arm, agent, epoch);
    else
        agent->arming = 0;
}

static void close_unbegun(struct page *p, const struct order *o)
{
    if (p->words.armed_epoch == o->epoch && p->words.armed_step != STEP_TAKEN)
        p->words.armed_step = STEP_NONE;
    newer(&p->words.closed_epoch, o->epoch);
}

static void obey(struct world *world, struct agent *agent)
{
    const struct order *o = &agent->order;
    for (uint32_t rank = agent->first; rank < agent->last; rank++) {
        struct cut_words *w = &world->rank[rank].page.words;
        newer(&w->closed_epoch, o->closed);
        if (o->stage == CUT_STAGE_CLOSED && !o->gone) {
            close_unbegun(&world->rank[rank].page, o);
            continue;
        }
        if (o->gone)
            newer(&w->go_epoch, o->epoch);
        if (o->stage >= CUT_STAGE_SUM && o->gone)
            newer(&w->flip_epoch, o->epoch);
        if (o->stage >= CUT_STAGE_SETTLED)
            newer(&w->settled_epoch, o->epoch);
        if (o->stage >= CUT_STAGE_CLOSED)
            newer(&w->closed_epoch, o->epoch);
    }
}

static void on_order(struct world *world, void *subject, uint64_t number)
{
    struct order *order = subject;
    struct agent *agent = &world->agent[number];
    struct order *mine_ = &agent->order;
    if (agent->down_until > world->now || order->epoch < mine_->epoch ||
        (order->epoch == mine_->epoch && order->stage < mine_->stage))
        return;
    bool begins = order->epoch > mine_->epoch;
    *mine_ = *order;
    obey(world, agent);
    if (order->stage == CUT_STAGE_ARM) {
        if (agent->arming == 0 || begins) {
            agent->arming = 0;
            world_at(world, world->now + between(world, 1, 2 * MS), on_arm, agent, order->epoch);
        }
    }
}

/* ---- an agent: pages into reports ---- */

static void report_rank(struct world *world, struct agent *agent, uint32_t rank, struct report *to)
{
    const struct page *p = &world->rank[rank].page;
    to->steps[to->count] = p->step;
    to->ranks[to->count++] = (struct cut_rank_report){.rank = rank,
                                                      .coloured = 1,
                                                      .left = p->left,
                                                      .armed_epoch = agent->armed[rank],
                                                      .missed_epoch = agent->missed[rank],
                                                      .polling_epoch = p->polling_epoch,
                                                      .epoch = p->epoch,
                                                      .ended_epoch = p->ended_epoch,
                                                      .sent_before = p->sent_before,
                                                      .arrived_before = p->arrived_before,
                                                      .recorded_cut = p->recorded_cut,
                                                      .recorded_attempt = p->recorded_attempt,
                                                      .result = p->result};
}

static void report_comms(struct world *world, struct agent *agent, struct report *to)
{
    if (agent->order.stage == CUT_STAGE_ARM || agent->order.stage == CUT_STAGE_CLOSED)
        return;
    struct cut_comms *comms = cut_comms_create();
    to->lines_cut = agent->order.cut;
    to->lines_attempt = agent->order.attempt;
    for (uint32_t rank = agent->first; rank < agent->last; rank++) {
        const struct record *r = &world->rank[rank].record;
        for (uint32_t i = 0; i < world->program->comms && r->cut == agent->order.cut && r->attempt == agent->order.attempt;
             i++) {
            const struct comm *c = &world->program->comm[i];
            struct cut_members line = {
                .comm = {.id = c->id, .collectives = r->collectives[i], .size = c->size}, .members = 1, .rank = rank};
            if (c->rank_of[rank] >= 0 && cut_comms_add(comms, &line, NULL) != TIDE_OK)
                violation(world, "no room for communicators");
        }
    }
    struct cut_members line;
    while (cut_comms_line(comms, to->lines, &line) == 0)
        to->lines++;
    to->line = world_alloc(world, (to->lines + 1) * sizeof *to->line);
    for (uint32_t i = 0; i < to->lines; i++)
        if (cut_comms_line(comms, i, &to->line[i]))
            violation(world, "lines of communicators that go away");
    cut_comms_free(comms);
}

static void on_report(struct world *world, void *subject, uint64_t number);

static void on_agent(struct world *world, void *subject, uint64_t number)
{
    struct agent *agent = subject;
    if (world->ended == world->program->ranks && world->leader.order.stage == CUT_STAGE_CLOSED)
        return;
    world_at(world, world->now + between(world, world->lies.report_ns, 2 * world->lies.report_ns), on_agent, agent, number);
    if (agent->down_until > world->now)
        return;
    if (chance(world, world->lies.agent)) {
        agent->down_until = world->now + between(world, MS, 500 * MS);
        *agent = (struct agent){.first = agent->first, .last = agent->last, .down_until = agent->down_until};
        return;
    }
    struct report *report = world_alloc(world, sizeof *report);
    report->agent = (uint32_t)number;
    report->stamp = world->now;
    report->ranks = world_alloc(world, (agent->last - agent->first) * sizeof *report->ranks);
    report->steps = world_alloc(world, (agent->last - agent->first) * sizeof *report->steps);
    for (uint32_t rank = agent->first; rank < agent->last; rank++)
        report_rank(world, agent, rank, report);
    report_comms(world, agent, report);
    send_late(world, on_report, report, world->leader.term);
    if (chance(world, world->lies.doubled))
        send_late(world, on_report, report, world->leader.term);
}

/* ---- the leader ---- */

static void verdict_of(struct world *world, struct cut_verdict *verdict)
{
    struct leader *l = &world->leader;
    cut_verdict_init(verdict, world->program->ranks, l->order.epoch, l->order.cut, l->order.attempt);
    for (uint32_t i = 0; i < world->program->ranks; i++)
        if (l->heard[i])
            cut_verdict_add(verdict, &l->book[i]);
}

static enum cut_misfit judge_collectives(struct world *world)
{
    struct leader *l = &world->leader;
    struct cut_comms *comms = cut_comms_create();
    char why[256];
    enum cut_misfit misfit = CUT_FITS;
    for (uint32_t i = 0; i < world->agents; i++) {
        const struct report *r = l->lines[i];
        for (uint32_t k = 0;
             r != NULL && k < r->lines && r->lines_cut == l->order.cut && r->lines_attempt == l->order.attempt; k++)
            if (cut_comms_add(comms, &r->line[k], NULL) != TIDE_OK)
                misfit = CUT_MISFIT_FAILED;
    }
    if (misfit == CUT_FITS)
        misfit = cut_comms_judge(comms, world->program->ranks, why, sizeof why);
    cut_comms_free(comms);
    return misfit;
}

static void count(struct totals *t, enum cut_misfit misfit)
{
    t->attempts++;
    t->early += misfit == CUT_MISFIT_EARLY;
    t->passed += misfit == CUT_MISFIT_PASSED;
    t->failed += misfit == CUT_MISFIT_FAILED;
    t->late += misfit == CUT_MISFIT_LATE;
    t->collective += misfit == CUT_MISFIT_COLLECTIVE;
}

static void end_attempt(struct world *world)
{
    struct leader *l = &world->leader;
    enum cut_misfit misfit = (enum cut_misfit)l->order.misfit;
    count(world->totals, misfit);
    world->totals->given_up += !l->order.gone;
    cut_past_add(&l->past, (enum cut_mode)l->mode, misfit);
    l->sealed = misfit == CUT_FITS;
    if (misfit == CUT_MISFIT_PASSED || misfit == CUT_MISFIT_MISSED)
        l->behind++;
    l->open_at = world->now + between(world, 0, OPEN_MS_MAX) * MS;
    if (l->sealed)
        check_cut(world, l->order.cut, l->order.attempt);
    if (!l->sealed && cut_past_hopeless(&l->past)) {
        world->totals->hopeless++;
        l->past = (struct cut_past){0};
        l->sealed = true; /* another cut, not another attempt */
    }
}

/* A log entry is committed: what it says is so, whoever leads, if the stage is still that in which it was decided. */
static void on_commit(struct world *world, void *subject, uint64_t number)
{
    struct leader *l = &world->leader;
    struct order *entry = subject;
    (void)number;
    if (entry->term != l->term && chance(world, 500000))
        return; /* lost with its leader */
    if (entry->term == l->term)
        l->proposed = false;
    if (entry->stage == CUT_STAGE_ARM ? l->order.stage != CUT_STAGE_CLOSED || entry->epoch <= l->order.epoch
                                      : entry->epoch != l->order.epoch || entry->from != l->order.stage)
        return;
    l->order = *entry;
    TRACE(world, "leader: attempt %u of cut %llu, epoch %llu, step %lld: stage %u, %s", entry->attempt,
          (unsigned long long)entry->cut, (unsigned long long)entry->epoch, (long long)entry->step, entry->stage,
          cut_misfit_name(entry->misfit));
    l->gone_for_good = l->gone_for_good || chance(world, world->lies.orphan);
    if (entry->stage == CUT_STAGE_ARM) {
        l->mode = entry->step == STEP_NEXT ? CUT_MODE_FREE : CUT_MODE_STEP;
        l->deadline = world->now + between(world, DEADLINE_MS_MIN, DEADLINE_MS_MAX) * MS;
    } else if (entry->stage == CUT_STAGE_CLOSED) {
        end_attempt(world);
    }
}

static void propose(struct world *world, struct order order)
{
    struct order *o = world_alloc(world, sizeof *o);
    *o = order;
    o->term = world->leader.term;
    o->from = world->leader.order.stage;
    world->leader.proposed = true;
    world_at(world, world->now + between(world, MS / 10, world->lies.report_ns), on_commit, o, 0);
}

static void open_attempt(struct world *world)
{
    struct leader *l = &world->leader;
    uint64_t epoch = 0, step = 0;
    for (uint32_t i = 0; i < world->program->ranks; i++) {
        const struct cut_rank_report *r = &l->book[i];
        if (!l->heard[i] || r->left || (i > 0 && r->epoch != epoch))
            return;
        epoch = r->epoch;
        newer(&step, l->steps[i]);
    }
    l->past.declared = world->program->declared;
    enum cut_mode mode = cut_mode_next(&l->past);
    uint64_t margin = (uint64_t)world->lies.margin << (l->behind < MARGIN_DOUBLED_MAX ? l->behind : MARGIN_DOUBLED_MAX);
    bool again = l->order.epoch > 0 && !l->sealed;
    propose(world,
            (struct order){.epoch = l->order.epoch + 1,
                           .cut = l->order.cut + (again ? 0 : 1),
                           .attempt = again ? l->order.attempt + 1 : 1,
                           .stage = CUT_STAGE_ARM,
                           .closed = l->order.epoch,
                           .step = mode == CUT_MODE_FREE ? STEP_NEXT : step + margin + between(world, 0, MARGIN_MORE)});
}

/* How the attempt ends. */
static enum cut_misfit outcome(struct world *world, const struct cut_verdict *v)
{
    char why[256];
    enum cut_misfit misfit = cut_verdict_misfit(v, why, sizeof why);
    if (misfit == CUT_FITS)
        misfit = cut_verdict_whole(v) ? judge_collectives(world) : CUT_MISFIT_LATE;
    return misfit;
}

static void lead(struct world *world)
{
    struct leader *l = &world->leader;
    struct cut_verdict verdict;
    if (l->order.stage == CUT_STAGE_CLOSED || l->order.epoch == 0) {
        if (world->now >= l->open_at)
            open_attempt(world);
        return;
    }
    verdict_of(world, &verdict);
    enum cut_stage stage = cut_verdict_stage(&verdict, (enum cut_stage)l->order.stage);
    if (stage == l->order.stage && world->now > l->deadline && stage <= CUT_STAGE_RECORD)
        stage = stage == CUT_STAGE_ARM ? CUT_STAGE_CLOSED : CUT_STAGE_SUM;
    if (stage == l->order.stage)
        return;
    struct order next = l->order;
    next.gone = next.gone || stage == CUT_STAGE_RECORD;
    next.stage = stage;
    if (stage == CUT_STAGE_CLOSED)
        next.misfit = outcome(world, &verdict);
    propose(world, next);
}

static void on_report(struct world *world, void *subject, uint64_t term)
{
    struct leader *l = &world->leader;
    struct report *report = subject;
    (void)term;
    if (l->down_until > world->now || l->gone_for_good)
        return;
    for (uint32_t i = 0; i < report->count; i++) {
        uint32_t rank = report->ranks[i].rank;
        if (!l->heard[rank])
            l->book[rank] = report->ranks[i];
        else
            cut_rank_report_merge(&l->book[rank], &report->ranks[i]);
        l->heard[rank] = true;
        newer(&l->steps[rank], report->steps[i]);
    }
    /* Lines only grow within an attempt: those of a later look are at least as many. */
    if (l->lines[report->agent] == NULL || report->stamp >= l->lines[report->agent]->stamp)
        l->lines[report->agent] = report;
    if (!l->proposed)
        lead(world);
    struct order *order = world_alloc(world, sizeof *order);
    *order = l->order;
    if (order->epoch > 0)
        send_late(world, on_order, order, report->agent);
}

static void on_fault(struct world *world, void *subject, uint64_t number)
{
    struct leader *l = &world->leader;
    (void)subject;
    (void)number;
    if (world->ended == world->program->ranks)
        return;
    world_at(world, world->now + between(world, 20 * MS, 60 * MS), on_fault, NULL, 0);
    if (!chance(world, world->lies.leader) || l->down_until > world->now)
        return;
    /* A new one knows the log and nothing else. */
    memset(l->book, 0, sizeof l->book);
    memset(l->heard, 0, sizeof l->heard);
    memset(l->steps, 0, sizeof l->steps);
    memset(l->lines, 0, sizeof l->lines);
    l->term++;
    l->proposed = false;
    l->down_until = world->now + between(world, 0, 600 * MS);
    l->gone_for_good = chance(world, 20000);
}

void control_begin(struct world *world)
{
    uint32_t ranks = world->program->ranks;
    uint32_t most = chance(world, 700000) ? AGENTS_MAX / 2 : AGENTS_MAX;
    world->agents = 1 + (uint32_t)between(world, 0, (ranks < most ? ranks : most) - 1);
    for (uint32_t i = 0; i < world->agents; i++) {
        world->agent[i] = (struct agent){.first = ranks * i / world->agents, .last = ranks * (i + 1) / world->agents};
        world_at(world, between(world, 1, 50 * MS), on_agent, &world->agent[i], i);
    }
    world->leader.order.stage = CUT_STAGE_CLOSED;
    world_at(world, 50 * MS, on_fault, NULL, 0);
}
