/* SPDX-License-Identifier: Apache-2.0 */
/* People: they ask, and ask again under the same request id until somebody answers; and sometimes once more after that. */
#include "tests/sim/sim.h"

#define AGAIN_MS_MIN 400u
#define AGAIN_MS_MAX 2500u
#define AGAIN_AFTER_ANSWER 150000u /* in millionths */

static void ask(struct world *w, struct args *args);

static void send_op(struct world *w, uint32_t index)
{
    send_person(w, leader_on_op, (struct args){.index = index, .coord = (uint32_t)rng_below(&w->rng, w->coord_count)});
}

static void ask(struct world *w, struct args *args)
{
    const struct op *op = &w->ops[args->index];
    if (op->answered)
        return;
    send_op(w, args->index);
    later(w, between(w, MS(AGAIN_MS_MIN), MS(AGAIN_MS_MAX)), ask, *args);
}

uint32_t person_asks(struct world *w, struct op op)
{
    if (w->op_count == SIM_OPS_MAX)
        return SIM_OPS_MAX - 1;
    uint32_t index = w->op_count++;
    snprintf(op.request, sizeof op.request, "request-%u", index);
    w->ops[index] = op;
    trace(w, "person asks %s: kind %u %s%s cut %" PRIu64, op.request, op.kind, op.job, op.node, op.cut);
    ask(w, &(struct args){.index = index});
    return index;
}

void person_hears(struct world *w, uint32_t index, unsigned status, const char *answer)
{
    struct op *op = &w->ops[index];
    if (op->answered) {
        if (op->status != status || strcmp(op->answer, answer) != 0)
            violation(w, "%s was answered %s %.80s, and again %s %.80s", op->request,
                      tide_status_name((enum tide_status)op->status), op->answer, tide_status_name((enum tide_status)status), answer);
        return;
    }
    trace(w, "%s is answered: %s", op->request, tide_status_name((enum tide_status)status));
    op->answered = true;
    op->status = status;
    op->answer = mem_strdup(answer);
    if (!w->healed && chance(w, AGAIN_AFTER_ANSWER))
        send_op(w, index);
}

void persons_ask_all_again(struct world *w)
{
    for (uint32_t i = 0; i < w->op_count; i++)
        send_op(w, i);
}

struct plan *plan_add(struct world *w, uint32_t nnodes, uint32_t nproc, uint64_t total, uint64_t step_ms, uint64_t ckpt_every_ms)
{
    struct plan *plan = &w->plans[w->plan_count];
    snprintf(plan->name, sizeof plan->name, "job%u", w->plan_count++);
    plan->total = total;
    plan->step_ns = MS(step_ms);
    struct job_spec *spec = &plan->spec;
    text_copy(spec->name, sizeof spec->name, plan->name);
    strlist_add(&spec->argv, "model");
    spec->nnodes = nnodes;
    spec->nproc_per_node = nproc;
    spec->ckpt_every_ms = ckpt_every_ms;
    spec->ckpt_keep = 2;
    spec->ckpt_grace_ms = 1; /* stories about grace say how long it is */
    spec->max_restarts = 1000;
    spec->stop_grace_ms = 500;
    spec->cut_deadline_ms = 4000;
    spec->start_deadline_ms = 8000;
    return plan;
}

void person_submits(struct world *w, uint32_t plan)
{
    struct op op = {.kind = OP_SUBMIT, .plan = plan};
    text_copy(op.job, sizeof op.job, "");
    person_asks(w, op);
}

static void mark_cancelled(struct world *w, const char *job)
{
    for (uint32_t i = 0; i < w->truth_count; i++)
        if (strcmp(w->truths[i]->name, job) == 0)
            w->truths[i]->cancelled = true;
}

static uint64_t some_cut(struct world *w, const char *name)
{
    const struct job_record *record = leader_job(w, name);
    if (record == NULL || record->job.ckpts.count == 0 || chance(w, 300000))
        return 0;
    return record->job.ckpts.items[rng_below(&w->rng, record->job.ckpts.count)].cut;
}

void person_does_something(struct world *w)
{
    struct op op = {0};
    if (w->truth_count == 0 || w->op_count + HOSTS_MAX + 2 * JOBS_MAX > SIM_OPS_MAX)
        return; /* room is kept for the end */
    const char *job = w->truths[rng_below(&w->rng, w->truth_count)]->name;
    const char *node = w->hosts[rng_below(&w->rng, w->host_count)].name;
    text_copy(op.job, sizeof op.job, job);
    switch (rng_below(&w->rng, 16)) {
    case 0: case 1: case 2: case 3: op.kind = OP_SAVE; break;
    case 4: case 5: op.kind = OP_ROLLBACK; op.cut = some_cut(w, job); break;
    case 6: case 7: op.kind = OP_DROP; op.cut = some_cut(w, job); op.force = chance(w, 500000); break;
    case 8: case 9: op.kind = OP_DRAIN; break;
    case 10: op.kind = OP_RESUME; break;
    case 11: case 12:
        op.kind = OP_PIN;
        op.cut = some_cut(w, job);
        op.hold_ms = chance(w, 500000) ? between(w, 100, 20000) : 0;
        break;
    case 13: op.kind = OP_UNPIN; op.cut = some_cut(w, job); break;
    case 14: op.kind = OP_GC; break;
    default:
        op.kind = OP_CANCEL;
        if (!chance(w, 250000))
            return;
        mark_cancelled(w, job);
    }
    if (op.kind == OP_DRAIN || op.kind == OP_RESUME) {
        op.job[0] = '\0';
        text_copy(op.node, sizeof op.node, node);
    }
    person_asks(w, op);
}
