/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/core/internal.h"
#include "ckpt/cut/comm_id.h"

/* Words that only grow: whoever was started again writes them again, and nothing comes of it. */
static bool raise(uint64_t *word, uint64_t to)
{
    if (*word >= to)
        return false;
    *word = to;
    return true;
}

static void tell_rank(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    const struct epoch_order *epochs = &job->order.epochs;
    struct epoch_order *here = &part->page.epochs;
    if (!part->page_seen || !part->page.coloured || part->ended)
        return;
    bool go = raise(&here->go, epochs->go), flip = raise(&here->flip, epochs->flip);
    bool settled = raise(&here->settled, epochs->settled), closed = raise(&here->closed, epochs->closed);
    if (go || flip || settled || closed)
        act_rank(core, ACT_EPOCHS, job, part->rank)->epochs = *epochs;
}

void drive_epochs(struct agent_core *core, struct job_part *job)
{
    struct step_part *step = step_live(job);
    if (step == NULL || !order_runs(job))
        return;
    for (size_t i = 0; i < step->rank_count; i++)
        tell_rank(core, job, &step->ranks[i]);
}

/* ---- communicators ---- */

void comms_release(struct comms_part *comms)
{
    cut_comms_free(comms->sum);
    *comms = (struct comms_part){0};
}

enum tide_status comms_add(struct job_part *job, struct rank_part *part, const struct control_comm *comms, struct err *err)
{
    struct comms_part *to = &job->comms;
    const struct cut_report *report = &part->cut.report;
    uint32_t count = part->page.record_comms < CONTROL_COMMS_MAX ? part->page.record_comms : CONTROL_COMMS_MAX;
    if (to->sum == NULL || to->cut != report->cut || to->attempt != report->attempt) {
        comms_release(to);
        *to = (struct comms_part){.cut = report->cut, .attempt = report->attempt, .sum = cut_comms_create()};
    }
    for (uint32_t i = 0; i < count; i++) {
        struct cut_members members = {.members = 1, .rank = part->rank, .sent = comms[i].sent,
                                      .received = comms[i].received, .balance = comms[i].balance & CUT_BALANCE_MASK};
        members.comm = (struct cut_comm){.id = comms[i].id, .collectives = comms[i].collectives, .size = comms[i].size};
        text_copy(members.comm.name, sizeof members.comm.name, comms[i].name);
        enum tide_status status = cut_comms_add(to->sum, &members, err);
        if (status != TIDE_OK)
            return status;
    }
    to->ranks++;
    struct cut_members line;
    if (cut_comms_line(to->sum, COMM_REPORTS_MAX, &line) == 0)
        return err_set(err, TIDE_E_LIMIT, "the ranks of this node have more than %u communicators between them", COMM_REPORTS_MAX);
    return TIDE_OK;
}

/* In one piece: what half of the ranks say is of no use to anybody. */
void report_comms(const struct job_part *job, const struct step_part *step, struct gen_report *to)
{
    const struct comms_part *comms = &job->comms;
    struct cut_members line;
    if (comms->sum == NULL || comms->ranks < step->rank_count || comms->cut != job->order.cut.cut)
        return;
    for (size_t i = 0; i < COMM_REPORTS_MAX && cut_comms_line(comms->sum, i, &line) == 0; i++) {
        struct comm_report *report = codec_list_add(&comm_report_codec, &to->comms);
        *report = (struct comm_report){.cut = comms->cut, .attempt = comms->attempt, .collectives = line.comm.collectives,
                                       .size = line.comm.size, .ranks = line.members, .rank = line.rank,
                                       .sent = line.sent, .received = line.received, .balance = line.balance};
        snprintf(report->id, sizeof report->id, "%016llx", (unsigned long long)line.comm.id);
        text_copy(report->name, sizeof report->name, line.comm.name);
    }
}
