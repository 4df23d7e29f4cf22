/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/internal.h"

void ev_health(struct agent_core *core, const struct agent_event *event)
{
    codec_release(&health_report_codec, &core->health);
    codec_copy(&health_report_codec, event->health, &core->health);
    core->health_ns = core->now_ns;
    core->dirty = true;
}

void ev_registered(struct agent_core *core, const struct agent_event *event)
{
    if (core->identity.cluster[0] == '\0' || agent_idle(core)) {
        text_copy(core->identity.cluster, sizeof core->identity.cluster, event->cluster);
    } else if (strcmp(core->identity.cluster, event->cluster) != 0) {
        say(core, LOG_ERROR, "welcomed by cluster %s, but what runs here belongs to %s: it is left alone", event->cluster,
            core->identity.cluster);
        return;
    }
    /* A leader that had forgotten us may count from an older log: generations, not revisions, do the fencing. */
    core->revision = 0;
    core->dirty = true;
}

static bool desired_acceptable(struct agent_core *core, const struct desired *desired)
{
    if (strcmp(desired->cluster, core->identity.cluster) != 0) {
        say(core, LOG_ERROR, "ignored: desired state of cluster %s; this node belongs to %s", desired->cluster,
            core->identity.cluster);
        return false;
    }
    if (strcmp(desired->node, core->identity.node) != 0 || strcmp(desired->incarnation, core->identity.incarnation) != 0) {
        say(core, LOG_DEBUG, "ignored: desired state of node %s, incarnation %s", desired->node, desired->incarnation);
        return false;
    }
    return desired->revision >= core->revision;
}

static void take_order(struct agent_core *core, struct job_part *job, const struct assignment *assignment)
{
    if (assignment->generation < job->generation) {
        /* A newer one has been told: this order is from before it, whoever says it. */
        say(core, LOG_WARN, "refused: an order for generation %llu of job %s; generation %llu is known here",
            (unsigned long long)assignment->generation, job->name, (unsigned long long)job->generation);
        return;
    }
    if (assignment->generation > job->generation || !job->has_order || assignment->run != job->order.run)
        core->dirty = true;
    if (assignment->generation > job->generation)
        job->start_retry = (struct retry){0}, job->start_detail[0] = '\0';
    if (job->has_order)
        codec_release(&assignment_codec, &job->order);
    codec_copy(&assignment_codec, assignment, &job->order);
    job->has_order = true;
    job->generation = assignment->generation;
}

void ev_desired(struct agent_core *core, const struct agent_event *event)
{
    const struct desired *desired = event->desired;
    if (!desired_acceptable(core, desired))
        return;
    core->revision = desired->revision;
    core->desired_seen = true;
    for (size_t i = 0; i < core->job_count; i++)
        core->jobs[i]->assigned = false;
    for (size_t i = 0; i < desired->jobs.count; i++) {
        const struct assignment *assignment = &desired->jobs.items[i];
        struct job_part *job = job_make(core, assignment->uid, assignment->spec.name);
        if (job == NULL || job->assigned)
            continue;
        job->assigned = true;
        take_order(core, job, assignment);
    }
}
