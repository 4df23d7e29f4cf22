/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/core/internal.h"

/* What others recorded, and this node is to have a copy of in its memory (coordinator/README.md, "Peers"). In slots of their own,
 * beside those of the ranks here, and never in their place. What is whole stays until it is not listed any more: so there is always a
 * whole one while the next is fetched. */

static struct copy_part *copy_make(struct job_part *job, uint32_t rank)
{
    for (size_t i = 0; i < job->copies.count; i++)
        if (job->copies.items[i].rank == rank)
            return &job->copies.items[i];
    job->copies.items = mem_grow(job->copies.items, job->copies.count + 1, sizeof job->copies.items[0]);
    struct copy_part *copy = &job->copies.items[job->copies.count++];
    memset(copy, 0, sizeof *copy);
    copy->rank = rank;
    return copy;
}

static bool listed(const struct job_part *job, uint32_t rank, uint64_t cut)
{
    for (size_t i = 0; i < job->order.copies.count; i++)
        if (job->order.copies.items[i].cut == cut && job->order.copies.items[i].node_rank == rank / job->order.spec.nproc_per_node)
            return true;
    return false;
}

static bool here(const struct copy_part *copy, uint64_t cut)
{
    for (uint32_t s = 0; s < SLOTS; s++)
        if (copy->slots[s].cut == cut)
            return true;
    return false;
}

static void drop_unlisted(struct agent_core *core, struct job_part *job)
{
    for (size_t i = 0; i < job->copies.count; i++)
        for (uint32_t s = 0; s < SLOTS; s++) {
            struct copy_part *copy = &job->copies.items[i];
            struct copy_slot *slot = &copy->slots[s];
            if (slot->cut == 0 || listed(job, copy->rank, slot->cut))
                continue;
            slot->busy = true;
            slot->cut = 0;
            job->in_flight++;
            act_rank(core, ACT_UNCOPY, job, copy->rank)->slot = s;
        }
}

static void fetch(struct agent_core *core, struct job_part *job, struct copy_part *copy, const struct copy_order *order)
{
    if (copy->failed_cut != order->cut) {
        copy->failed_cut = order->cut;
        copy->failures = 0;
        copy->retry = (struct retry){0};
    }
    if (copy->fetching || here(copy, order->cut) || core->copying >= AGENT_COPIES_MAX || !retry_due(core, &copy->retry))
        return;
    for (uint32_t s = 0; s < SLOTS; s++) {
        if (copy->slots[s].cut != 0 || copy->slots[s].busy)
            continue;
        copy->slots[s].busy = copy->fetching = true;
        core->copying++;
        job->in_flight++;
        struct agent_action *action = act_rank(core, ACT_COPY, job, copy->rank);
        action->cut = order->cut;
        action->slot = s;
        action->copy = order;
        return;
    }
}

void drive_copies(struct agent_core *core, struct job_part *job)
{
    if (!job->assigned || !job->has_order || job->arena_removed)
        return;
    drop_unlisted(core, job);
    uint32_t ranks = job->order.spec.nproc_per_node;
    for (size_t i = 0; i < job->order.copies.count && !core->ending; i++) {
        const struct copy_order *order = &job->order.copies.items[i];
        for (uint32_t r = 0; r < ranks && order->port != 0 && job->order.token[0] != '\0'; r++)
            fetch(core, job, copy_make(job, order->node_rank * ranks + r), order);
    }
}

/* ---- events ---- */

void copies_found(struct job_part *job, const struct agent_held *copies, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (copies[i].slot >= SLOTS || copies[i].cut == 0)
            continue;
        struct copy_slot *slot = &copy_make(job, copies[i].rank)->slots[copies[i].slot];
        slot->cut = copies[i].cut;
        text_copy(slot->digest, sizeof slot->digest, copies[i].digest);
    }
}

static void copy_failed(struct agent_core *core, struct job_part *job, struct copy_part *copy, const struct agent_event *event)
{
    if (event->cut != copy->failed_cut) /* a newer one is wanted by now, which has tries of its own */
        return;
    copy->failures++;
    text_copy(copy->detail, sizeof copy->detail, event->text);
    retry_later(core, &copy->retry);
    if (copy->failures != AGENT_COPY_TRIES_MAX)
        return;
    say(core, LOG_WARN, "job %s: checkpoint %llu of rank %u is not copied here: %.150s", job->name, (unsigned long long)event->cut,
        event->rank, event->text);
    core->dirty = true;
}

void ev_copied(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    core->copying--;
    if (job == NULL || event->slot >= SLOTS)
        return;
    job->in_flight--;
    struct copy_part *copy = copy_make(job, event->rank);
    struct copy_slot *slot = &copy->slots[event->slot];
    slot->busy = copy->fetching = false;
    if (event->status != TIDE_OK) {
        copy_failed(core, job, copy, event);
        return;
    }
    slot->cut = event->cut;
    text_copy(slot->digest, sizeof slot->digest, event->digest);
    copy->failures = 0;
    core->dirty = true;
}

void ev_uncopied(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    if (job == NULL || event->slot >= SLOTS)
        return;
    job->in_flight--;
    copy_make(job, event->rank)->slots[event->slot].busy = false;
    if (event->status != TIDE_OK)
        say(core, LOG_WARN, "job %s: a copy of rank %u that is not wanted any more keeps its memory until another takes its place: %.150s",
            job->name, event->rank, event->text);
}

void report_copies(const struct job_part *job, struct gen_report *to)
{
    for (size_t i = 0; i < job->copies.count; i++) {
        const struct copy_part *copy = &job->copies.items[i];
        for (uint32_t s = 0; s < SLOTS; s++) {
            if (copy->slots[s].cut == 0 || to->copies.count >= COPIES_MAX * TIDE_LOCAL_RANKS_MAX)
                continue;
            struct held_report *held = codec_list_add(&held_report_codec, &to->copies);
            held->cut = copy->slots[s].cut;
            held->rank = copy->rank;
            text_copy(held->digest, sizeof held->digest, copy->slots[s].digest);
        }
        if (copy->failures < AGENT_COPY_TRIES_MAX || !listed(job, copy->rank, copy->failed_cut) || here(copy, copy->failed_cut) ||
            to->copy_failures.count >= COPIES_MAX)
            continue;
        struct restore_failure *failure = codec_list_add(&restore_failure_codec, &to->copy_failures);
        failure->cut = copy->failed_cut;
        failure->rank = copy->rank;
        text_copy(failure->detail, sizeof failure->detail, copy->detail);
    }
}
