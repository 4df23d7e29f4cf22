/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/internal.h"

void slot_begin(struct job_part *job, uint32_t rank, uint32_t slot)
{
    struct slot_part *part = &slots_of(job, rank)->slots[slot];
    part->epoch = ++job->epoch;
    part->busy = true;
}

void slot_release(struct job_part *job, uint32_t rank, uint32_t slot)
{
    slots_of(job, rank)->slots[slot].busy = false;
    job->look_wanted = true;
}

/* What a look has found, unless the slot has begun to change since the look began. */
static void take_held(struct job_part *job, const struct agent_held *held, size_t count)
{
    for (size_t i = 0; i < job->slots.count; i++)
        for (uint32_t s = 0; s < SLOTS; s++) {
            struct slot_part *slot = &job->slots.items[i].slots[s];
            if (slot->epoch <= job->look_epoch && !slot->busy)
                slot->cut = 0;
        }
    for (size_t i = 0; i < count; i++) {
        if (held[i].slot >= SLOTS || held[i].cut == 0)
            continue;
        struct slot_part *slot = &slots_of(job, held[i].rank)->slots[held[i].slot];
        if (slot->epoch > job->look_epoch || slot->busy || slot->bad_cut == held[i].cut)
            continue;
        slot->cut = held[i].cut;
        text_copy(slot->digest, sizeof slot->digest, held[i].digest);
    }
}

void ev_arena_found(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_make(core, event->uid, event->job);
    if (job == NULL)
        return;
    if (event->generation > job->generation)
        job->generation = event->generation;
    /* The note in the arena is written before a step starts: none of up to it may start once more. */
    if (event->generation > job->started_generation)
        job->started_generation = event->generation;
    take_held(job, event->held, event->held_count);
    copies_found(job, event->copies, event->copies_count);
    core->dirty = true;
}

void ev_looked(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    if (job == NULL || !job->looking)
        return;
    job->looking = false;
    job->in_flight--;
    if (event->status != TIDE_OK) {
        say(core, LOG_WARN, "cannot look into the arena of job %s: %s", job->name, event->text);
        return;
    }
    take_held(job, event->held, event->held_count);
    core->dirty = true;
}
