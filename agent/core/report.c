/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/core/internal.h"
#include "ckpt/base/text.h"

static const char *const tier_names[] = {"ram", "store", "peer"};

static unsigned progress_of(const struct agent_core *core, const struct job_part *job)
{
    const struct step_part *newest = NULL;
    bool older = false;
    for (size_t i = 0; i < job->steps.count; i++) {
        const struct step_part *step = &job->steps.items[i];
        if (step->generation == job->generation)
            newest = step;
        else if (step->state != STEP_PART_GONE && step->state != STEP_PART_LEFT)
            older = true;
    }
    bool runs = order_runs(job) && !core->ending;
    if (older)
        return runs ? GEN_STARTING : GEN_STOPPING;
    if (newest == NULL) /* a generation that was started here and left nothing behind is gone, whatever is wished */
        return runs && job->started_generation < job->generation ? GEN_STARTING : GEN_GONE;
    switch (newest->state) {
    case STEP_PART_GONE:
        return GEN_GONE;
    case STEP_PART_ENDING:
        return GEN_STOPPING;
    default:
        return newest->started ? GEN_RUNNING : GEN_STARTING;
    }
}

static void report_colours(const struct agent_page *page, struct rank_report *to)
{
    to->coloured = true;
    to->epoch = page->epoch;
    to->polling = page->polling;
    to->left = page->phase == CONTROL_FINALIZED;
    to->quiet = page->ended == CUT_ENDED_FOR_GOOD;
    to->ended = to->quiet ? 0 : page->ended;
    to->sent = page->sent;
    to->arrived = page->arrived;
    to->cut_mode = page->declared < CUT_MODES ? page->declared : CUT_MODE_AUTO;
}

/* What the step says of its child, completed by what the rank says of itself. */
static void report_rank(const struct agent_core *core, const struct rank_part *part, struct rank_report *to)
{
    const struct agent_page *page = &part->page;
    *to = part->report;
    to->rank = part->rank;
    if (part->ended)
        to->exited_ago_ms = (core->now_ns - part->ended_ns) / NS_PER_MS;
    if (part->restore.answered > 0 && part->restore.state == RESTORE_READY)
        text_copy(to->tier, sizeof to->tier, tier_names[part->restore.tier]);
    if (!part->page_seen)
        return;
    to->attached = to->attached || page->phase != CONTROL_EMPTY;
    to->step = page->step != STEP_NONE ? page->step : 0;
    /* Finalized ranks have stepped, if they ever did, before. */
    to->stepped = page->phase == CONTROL_STEPPING || (page->phase == CONTROL_FINALIZED && page->step > page->restored_step);
    to->restored_cut = page->restored_cut;
    if (page->coloured)
        report_colours(page, to);
    to->restore_us = page->restore_ns / 1000u;
    if (part->ended)
        return;
    if (page->phase == CONTROL_RESTORING)
        to->state = TIDE_RANK_RESTORING;
    else if (page->phase == CONTROL_STEPPING)
        to->state = TIDE_RANK_RUNNING;
}

static void report_cut(const struct rank_part *part, struct gen_report *to)
{
    switch (part->cut.state) {
    case CUT_PART_NONE:
    case CUT_PART_WANTED:
    case CUT_PART_ARMING:
    case CUT_PART_DISARMING:
        return;
    default:
        break;
    }
    struct cut_report *report = codec_list_add(&cut_report_codec, &to->cuts);
    *report = part->cut.report;
    if (part->cut.state == CUT_PART_COPIED || part->cut.state == CUT_PART_SUMMING)
        report->progress = part->cut.epoch != 0 ? CUT_COPIED : CUT_ARMED; /* recorded means that the digest is known */
}

/* The rank's question is open because something goes wrong: people should see what. */
static void report_waiting(const struct rank_part *part, struct gen_report *to)
{
    const struct restore_part *restore = &part->restore;
    bool failed = restore->give_up_ns != 0 || restore->peer_give_up_ns != 0;
    bool waits = failed && restore->state != RESTORE_READY && restore->state != RESTORE_FAILED;
    if (waits && to->detail[0] == '\0')
        text_say(to->detail, sizeof to->detail, "waits for checkpoint %llu: %s", (unsigned long long)restore->cut, restore->text);
}

static void report_ops(const struct rank_part *part, struct gen_report *to)
{
    for (uint32_t i = 0; i < part->op_count && !part->ended; i++) {
        const struct control_progress_comm *from = &part->ops[i];
        struct op_report *op = codec_list_add(&op_report_codec, &to->ops);
        *op = (struct op_report){.rank = part->rank, .member = from->member, .size = from->size, .begun = from->begun,
                                 .reached = from->reached, .unreached = from->unreached, .done = from->done, .undone = from->undone,
                                 .messages = from->messages != 0, .recording = part->page.armed_step == STEP_TAKEN};
        snprintf(op->id, sizeof op->id, "%016llx", (unsigned long long)from->id);
        snprintf(op->name, sizeof op->name, "%.*s", CONTROL_COMM_NAME_MAX, from->name);
    }
}

static void report_step(const struct agent_core *core, const struct step_part *step, struct gen_report *to)
{
    if (step->detail[0] != '\0')
        text_copy(to->detail, sizeof to->detail, step->detail);
    for (size_t i = 0; i < step->rank_count; i++) {
        const struct rank_part *part = &step->ranks[i];
        report_rank(core, part, codec_list_add(&rank_report_codec, &to->ranks));
        report_cut(part, to);
        report_waiting(part, to);
        report_ops(part, to);
        if (part->restore.state == RESTORE_FAILED && part->restore.status == TIDE_E_CORRUPT) {
            struct restore_failure *failure = codec_list_add(&restore_failure_codec, &to->restore_failures);
            failure->cut = part->restore.cut;
            failure->rank = part->rank;
            text_copy(failure->detail, sizeof failure->detail, part->restore.text);
        }
    }
}

static void report_held(const struct job_part *job, struct gen_report *to)
{
    for (size_t i = 0; i < job->slots.count; i++)
        for (uint32_t s = 0; s < SLOTS; s++) {
            const struct slot_part *slot = &job->slots.items[i].slots[s];
            if (slot->cut == 0 || slot->busy)
                continue;
            struct held_report *held = codec_list_add(&held_report_codec, &to->held);
            held->cut = slot->cut;
            held->rank = job->slots.items[i].rank;
            text_copy(held->digest, sizeof held->digest, slot->digest);
        }
}

/* Work under way says nothing yet, except that a failure stands until a later try has succeeded. */
static bool work_said(unsigned state, unsigned progress, const char *detail)
{
    return state == WORK_DONE || state == WORK_FAILED || (progress == SHARD_FAILED && detail[0] != '\0');
}

static void report_store(const struct job_part *job, struct gen_report *to)
{
    for (size_t i = 0; i < job->shards.count; i++) {
        const struct shard_part *shard = &job->shards.items[i];
        if (!work_said(shard->state, shard->report.progress, shard->report.detail))
            continue;
        struct shard_report *report = codec_list_add(&shard_report_codec, &to->shards);
        *report = shard->report;
    }
    const struct manifest_part *manifest = &job->manifest;
    if (manifest->report.cut != 0 && work_said(manifest->state, manifest->report.progress, manifest->report.detail)) {
        struct manifest_report *report = codec_list_add(&manifest_report_codec, &to->manifests);
        *report = manifest->report;
    }
    for (size_t i = 0; i < job->purges.count; i++) {
        if (job->purges.items[i].state == WORK_DONE)
            strlist_add(&to->purged, job->purges.items[i].id);
    }
    uint64_t cut = 0;
    for (size_t i = 0; i < job->order.leave.count; i++)
        if (purge_cut(job->order.leave.items[i], &cut) && store_left(job, cut))
            strlist_add(&to->left, job->order.leave.items[i]);
}

static void report_job(const struct agent_core *core, struct job_part *job, struct gen_report *to)
{
    text_copy(to->job, sizeof to->job, job->name);
    text_copy(to->uid, sizeof to->uid, job->uid);
    to->generation = job->generation;
    to->progress = progress_of(core, job);
    to->hang_ms = core->hang_ms;
    text_copy(to->detail, sizeof to->detail, job->start_detail);
    struct step_part *step = step_of(job, job->generation);
    if (step != NULL)
        report_step(core, step, to);
    if (step != NULL)
        report_comms(job, step, to);
    report_held(job, to);
    report_copies(job, to);
    report_store(job, to);
    report_scrubs(core, job, to);
}

/* As it was told; what it tells of is older by now. */
static void report_health(const struct agent_core *core, struct health_report *to)
{
    codec_copy(&health_report_codec, &core->health, to);
    for (size_t i = 0; i < to->facts.count; i++)
        to->facts.items[i].ago_ms += (core->now_ns - core->health_ns) / NS_PER_MS;
}

void agent_heartbeat(struct agent_core *core, uint64_t now_ns, struct heartbeat *ret_heartbeat)
{
    memset(ret_heartbeat, 0, sizeof *ret_heartbeat);
    if (now_ns > core->now_ns)
        core->now_ns = now_ns;
    text_copy(ret_heartbeat->node, sizeof ret_heartbeat->node, core->identity.node);
    text_copy(ret_heartbeat->uid, sizeof ret_heartbeat->uid, core->identity.uid);
    text_copy(ret_heartbeat->incarnation, sizeof ret_heartbeat->incarnation, core->identity.incarnation);
    ret_heartbeat->sequence = ++core->sequence;
    ret_heartbeat->format = NODE_FORMAT;
    report_health(core, &ret_heartbeat->health);
    /* What the leader has asked for goes first: the remains of old jobs must not crowd it out. */
    for (int assigned = 1; assigned >= 0; assigned--)
        for (size_t i = 0; i < core->job_count && ret_heartbeat->jobs.count < NODE_JOBS_MAX; i++)
            if (core->jobs[i]->assigned == (bool)assigned && name_valid(core->jobs[i]->name))
                report_job(core, core->jobs[i], codec_list_add(&gen_report_codec, &ret_heartbeat->jobs));
}
