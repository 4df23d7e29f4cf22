/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/internal.h"

/* Checkpoints in the store are read from time to time, so that a disk that loses bytes is noticed while there are others to
 * restore. One at a time, the one that was not looked at for longest; never one of which it is told already that it is damaged.
 *
 *     listed ── AGENT_SCRUB_FIRST_MS ─► due ─► ACT_SCRUB ─► EV_SCRUBBED: whole ────► due again after scrub_every_ms
 *                                        ▲                                damaged ─► told in each heartbeat while it is listed
 *                                        └─── AGENT_SCRUB_RETRY_MS ◄───── cannot be read
 *
 * A restore that finds it damaged, and has in memory what is missing, makes it due at once. None of these pauses is longer than
 * scrub_every_ms.
 */

void agent_scrub_every(struct agent_core *core, uint64_t every_ms)
{
    core->scrub_every_ms = every_ms;
}

static struct scrub_part *scrub_of(struct job_part *job, uint64_t cut)
{
    for (size_t i = 0; i < job->scrubs.count; i++)
        if (job->scrubs.items[i].report.cut == cut)
            return &job->scrubs.items[i];
    return NULL;
}

static bool listed(const struct job_part *job, uint64_t cut)
{
    for (size_t i = 0; i < job->order.scrub.count; i++)
        if (job->order.scrub.items[i].cut == cut)
            return true;
    return false;
}

static uint64_t soon_ns(const struct agent_core *core, uint64_t most_ms)
{
    return core->now_ns + (core->scrub_every_ms < most_ms ? core->scrub_every_ms : most_ms) * NS_PER_MS;
}

/* What is known follows what is listed. */
static void take_list(const struct agent_core *core, struct job_part *job)
{
    for (size_t i = 0; i < job->scrubs.count;) {
        if (job->assigned && listed(job, job->scrubs.items[i].report.cut))
            i++;
        else
            job->scrubs.items[i] = job->scrubs.items[--job->scrubs.count];
    }
    for (size_t i = 0; job->assigned && i < job->order.scrub.count; i++) {
        if (scrub_of(job, job->order.scrub.items[i].cut) != NULL)
            continue;
        job->scrubs.items = mem_grow(job->scrubs.items, job->scrubs.count + 1, sizeof job->scrubs.items[0]);
        struct scrub_part *part = &job->scrubs.items[job->scrubs.count++];
        memset(part, 0, sizeof *part);
        part->report.cut = job->order.scrub.items[i].cut;
        part->not_before_ns = soon_ns(core, AGENT_SCRUB_FIRST_MS);
    }
}

static bool due(const struct agent_core *core, const struct scrub_part *part)
{
    return !part->report.damaged && core->now_ns >= part->not_before_ns;
}

void drive_scrub(struct agent_core *core)
{
    struct job_part *whose = NULL;
    const struct scrub_part *next = NULL;
    if (core->scrub_every_ms == 0)
        return;
    for (size_t i = 0; i < core->job_count; i++) {
        struct job_part *job = core->jobs[i];
        take_list(core, job);
        for (size_t k = 0; k < job->scrubs.count; k++) {
            const struct scrub_part *part = &job->scrubs.items[k];
            if (!due(core, part) || (next != NULL && next->done_ns <= part->done_ns))
                continue;
            next = part;
            whose = job;
        }
    }
    if (next == NULL || core->scrubbing || core->ending)
        return;
    core->scrubbing = true;
    act(core, ACT_SCRUB, whose)->cut = next->report.cut;
}

void scrub_soon(const struct agent_core *core, struct job_part *job, uint64_t cut)
{
    struct scrub_part *part = scrub_of(job, cut);
    if (part != NULL)
        part->not_before_ns = core->now_ns;
}

void ev_scrubbed(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    core->scrubbing = false;
    struct scrub_part *part = job != NULL ? scrub_of(job, event->cut) : NULL;
    if (part == NULL)
        return;
    part->report.bytes = event->raw_bytes;
    if (event->status != TIDE_OK && event->status != TIDE_E_CORRUPT) {
        part->not_before_ns = soon_ns(core, AGENT_SCRUB_RETRY_MS);
        say(core, LOG_INFO, "job %s: checkpoint %llu cannot be read in the store at the moment: %.200s", job->name,
            (unsigned long long)event->cut, event->text);
        return;
    }
    part->done_ns = core->now_ns;
    part->not_before_ns = core->now_ns + core->scrub_every_ms * NS_PER_MS;
    if (event->status == TIDE_OK && event->text[0] != '\0') {
        say(core, LOG_WARN, "job %s: checkpoint %llu can be restored from the store, but a pack that it refers to is damaged: %.200s",
            job->name, (unsigned long long)event->cut, event->text);
        return;
    }
    if (event->status == TIDE_OK) {
        say(core, LOG_INFO, "job %s: checkpoint %llu is whole in the store: %llu bytes were read", job->name,
            (unsigned long long)event->cut, (unsigned long long)event->raw_bytes);
        return;
    }
    part->report.damaged = true;
    text_copy(part->report.detail, sizeof part->report.detail, event->text);
    core->dirty = true;
    say(core, LOG_ERROR, "job %s: checkpoint %llu is damaged in the store: %.200s", job->name, (unsigned long long)event->cut,
        event->text);
}

void report_scrubs(const struct agent_core *core, const struct job_part *job, struct gen_report *to)
{
    for (size_t i = 0; i < job->scrubs.count; i++) {
        const struct scrub_part *part = &job->scrubs.items[i];
        if (part->done_ns == 0)
            continue;
        struct scrub_report *report = codec_list_add(&scrub_report_codec, &to->scrubs);
        *report = part->report;
        report->ago_ms = (core->now_ns - part->done_ns) / NS_PER_MS;
    }
}
