/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "agent/core/internal.h"

/* Not begun, or failed and asked for again: by the next attempt of the order, or because the pause is over. */
static bool work_due(const struct agent_core *core, unsigned state, const struct retry *retry, bool next_attempt)
{
    return state == WORK_WANTED || (state == WORK_FAILED && (next_attempt || retry_due(core, retry)));
}

static struct shard_part *shard_make(struct job_part *job, uint64_t cut, uint32_t rank)
{
    for (size_t i = 0; i < job->shards.count; i++)
        if (job->shards.items[i].report.cut == cut && job->shards.items[i].report.rank == rank)
            return &job->shards.items[i];
    job->shards.items = mem_grow(job->shards.items, job->shards.count + 1, sizeof job->shards.items[0]);
    struct shard_part *shard = &job->shards.items[job->shards.count++];
    memset(shard, 0, sizeof *shard);
    shard->report.cut = cut;
    shard->report.rank = rank;
    return shard;
}

static void store_slot(struct agent_core *core, struct job_part *job, uint32_t rank, uint32_t slot)
{
    const struct cut_order *order = stored_order(job);
    struct shard_part *shard = shard_make(job, order->cut, rank);
    if (!work_due(core, shard->state, &shard->retry, shard->attempt != order->attempt))
        return;
    if (shard->attempt != order->attempt) {
        /* The failure of the try before has been counted; this one has an outcome of its own. */
        shard->retry = (struct retry){0};
        shard->report.progress = SHARD_STORED;
        shard->report.detail[0] = '\0';
    }
    shard->attempt = order->attempt;
    shard->slot = slot;
    shard->state = WORK_RUNNING;
    job->in_flight++;
    struct agent_action *action = act_rank(core, ACT_STORE, job, rank);
    action->cut = order->cut;
    action->slot = slot;
}

static void drive_shards(struct agent_core *core, struct job_part *job, bool wanted)
{
    const struct cut_order *order = stored_order(job);
    for (size_t i = 0; i < job->shards.count;) {
        struct shard_part *shard = &job->shards.items[i];
        if (shard->report.cut != order->cut && shard->state != WORK_RUNNING)
            *shard = job->shards.items[--job->shards.count];
        else
            i++;
    }
    if (!wanted || order->phase != CUT_PHASE_STORE)
        return;
    /* Whoever holds a rank's part stores it: after a restart that need not be the node that recorded it. */
    for (size_t i = 0; i < job->slots.count; i++)
        for (uint32_t s = 0; s < SLOTS; s++) {
            const struct slot_part *slot = &job->slots.items[i].slots[s];
            if (slot->cut == order->cut && !slot->busy) {
                store_slot(core, job, job->slots.items[i].rank, s);
                break;
            }
        }
}

static void drive_manifest(struct agent_core *core, struct job_part *job, bool wanted)
{
    const struct cut_order *order = stored_order(job);
    struct manifest_part *manifest = &job->manifest;
    if (manifest->report.cut != order->cut && manifest->state != WORK_RUNNING)
        memset(manifest, 0, sizeof *manifest);
    if (!wanted || order->phase != CUT_PHASE_COMMIT || order->shards.count == 0)
        return;
    if (manifest->report.cut != order->cut && manifest->report.cut != 0)
        return; /* that of an earlier cut is still being written */
    if (!work_due(core, manifest->state, &manifest->retry, manifest->attempt != order->attempt))
        return;
    if (manifest->attempt != order->attempt) {
        manifest->report.progress = SHARD_STORED;
        manifest->report.detail[0] = '\0';
    }
    manifest->report.cut = order->cut;
    manifest->attempt = order->attempt;
    manifest->state = WORK_RUNNING;
    job->in_flight++;
    struct agent_action *action = act(core, ACT_COMMIT, job);
    action->cut = order->cut;
    action->stored = order;
}

static bool purge_listed(const struct job_part *job, const char *id)
{
    for (size_t i = 0; i < job->order.purge.count; i++)
        if (strcmp(job->order.purge.items[i], id) == 0)
            return true;
    return false;
}

/* NULL: an earlier deletion of that cut is under way. */
static struct purge_part *purge_make(struct job_part *job, uint64_t cut, const char *id)
{
    struct purge_part *purge = NULL;
    for (size_t i = 0; i < job->purges.count; i++) {
        struct purge_part *other = &job->purges.items[i];
        if (strcmp(other->id, id) == 0)
            purge = other;
        else if (other->cut == cut && other->state == WORK_RUNNING)
            return NULL;
    }
    if (purge != NULL)
        return purge;
    job->purges.items = mem_grow(job->purges.items, job->purges.count + 1, sizeof job->purges.items[0]);
    purge = &job->purges.items[job->purges.count++];
    memset(purge, 0, sizeof *purge);
    purge->cut = cut;
    text_copy(purge->id, sizeof purge->id, id);
    return purge;
}

/* A worker is writing objects of that cut. */
static bool stored_now(const struct job_part *job, uint64_t cut)
{
    for (size_t i = 0; i < job->shards.count; i++)
        if (job->shards.items[i].report.cut == cut && job->shards.items[i].state == WORK_RUNNING)
            return true;
    return job->manifest.report.cut == cut && job->manifest.state == WORK_RUNNING;
}

bool store_left(const struct job_part *job, uint64_t cut)
{
    return stored_order(job)->cut != cut && !stored_now(job, cut);
}

bool purge_cut(const char *id, uint64_t *ret_cut)
{
    char *end = NULL;
    if (id[0] < '0' || id[0] > '9' || strlen(id) > PURGE_ID_MAX)
        return false;
    uint64_t cut = strtoull(id, &end, 10);
    if (cut == UINT64_MAX || (*end != '\0' && *end != '@'))
        return false;
    *ret_cut = cut;
    return true;
}

static void drive_purges(struct agent_core *core, struct job_part *job, bool wanted)
{
    for (size_t i = 0; i < job->purges.count;) {
        struct purge_part *purge = &job->purges.items[i];
        if (purge->state != WORK_RUNNING && !(wanted && purge_listed(job, purge->id)))
            *purge = job->purges.items[--job->purges.count];
        else
            i++;
    }
    for (size_t i = 0; wanted && i < job->order.purge.count; i++) {
        const char *id = job->order.purge.items[i];
        uint64_t cut = 0;
        if (!purge_cut(id, &cut))
            continue;
        if (stored_now(job, cut))
            continue; /* or its objects would land behind the broom */
        struct purge_part *purge = purge_make(job, cut, id);
        if (purge == NULL || !work_due(core, purge->state, &purge->retry, false))
            continue;
        purge->state = WORK_RUNNING;
        job->in_flight++;
        act(core, ACT_PURGE, job)->cut = cut;
    }
}

void drive_store(struct agent_core *core, struct job_part *job)
{
    if (!job->has_order)
        return;
    drive_shards(core, job, job->assigned);
    drive_manifest(core, job, job->assigned);
    drive_purges(core, job, job->assigned);
}
