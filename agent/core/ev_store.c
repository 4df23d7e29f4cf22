/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/internal.h"

bool slot_stored_from(const struct job_part *job, uint32_t rank, uint32_t slot)
{
    for (size_t i = 0; i < job->shards.count; i++) {
        const struct shard_part *shard = &job->shards.items[i];
        if (shard->report.rank == rank && shard->slot == slot && shard->state == WORK_RUNNING)
            return true;
    }
    return false;
}

void ev_stored(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    if (job == NULL)
        return;
    job->in_flight--;
    for (size_t i = 0; i < job->shards.count; i++) {
        struct shard_part *shard = &job->shards.items[i];
        struct shard_report *report = &shard->report;
        if (report->cut != event->cut || report->rank != event->rank || shard->state != WORK_RUNNING)
            continue;
        core->dirty = true;
        if (event->status != TIDE_OK) {
            shard->state = WORK_FAILED;
            report->progress = SHARD_FAILED;
            text_copy(report->detail, sizeof report->detail, event->text);
            retry_later(core, &shard->retry);
            return;
        }
        shard->state = WORK_DONE;
        report->progress = SHARD_STORED;
        report->detail[0] = '\0';
        text_copy(report->key, sizeof report->key, event->key);
        text_copy(report->digest, sizeof report->digest, event->digest);
        report->raw_bytes = event->raw_bytes;
        report->stored_bytes = event->stored_bytes;
        return;
    }
}

void ev_committed(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    if (job == NULL)
        return;
    job->in_flight--;
    struct manifest_part *manifest = &job->manifest;
    struct manifest_report *report = &manifest->report;
    if (report->cut != event->cut || manifest->state != WORK_RUNNING)
        return;
    core->dirty = true;
    manifest->state = event->status == TIDE_OK ? WORK_DONE : WORK_FAILED;
    report->progress = event->status == TIDE_OK ? SHARD_STORED : SHARD_FAILED;
    text_copy(report->key, sizeof report->key, event->key);
    text_copy(report->digest, sizeof report->digest, event->digest);
    text_copy(report->detail, sizeof report->detail, event->text);
    if (event->status != TIDE_OK)
        retry_later(core, &manifest->retry);
}

void ev_purged(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    if (job == NULL)
        return;
    job->in_flight--;
    for (size_t i = 0; i < job->purges.count; i++) {
        struct purge_part *purge = &job->purges.items[i];
        if (purge->cut != event->cut || purge->state != WORK_RUNNING)
            continue;
        purge->state = event->status == TIDE_OK ? WORK_DONE : WORK_FAILED;
        if (event->status != TIDE_OK) {
            retry_later(core, &purge->retry);
            say(core, LOG_WARN, "job %s: the objects of checkpoint %llu cannot be deleted yet: %.150s", job->name,
                (unsigned long long)purge->cut, event->text);
        }
        core->dirty = true;
    }
}
