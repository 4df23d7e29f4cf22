/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CORE_SLOTS_H
#define TESTS_UNIT_CORE_SLOTS_H

/* What a fake agent keeps in the slots of its ranks, all alike, and stores of that. Part of core_dsl.h. */

static inline bool fake_holds(const struct fake_job *job, uint64_t cut)
{
    for (uint32_t s = 0; s < SLOTS; s++)
        if (job->held[s] == cut)
            return true;
    return false;
}

static inline const struct cut_order *fake_stored_order(const struct assignment *order)
{
    bool stores = order->cut.phase == CUT_PHASE_STORE || order->cut.phase == CUT_PHASE_COMMIT;
    return stores ? &order->cut : &order->upload;
}

/* Into the slot of the oldest that is neither the newest sealed one nor being stored. */
static inline void fake_hold(const struct world *w, struct fake_job *job, const struct assignment *order, uint64_t cut)
{
    uint32_t best = SLOTS;
    for (uint32_t s = 0; s < (w->slots ? w->slots : SLOTS_ALWAYS) && !fake_holds(job, cut); s++) {
        uint64_t held = job->held[s];
        if (held != 0 && (held == order->protect_cut || held == fake_stored_order(order)->cut))
            continue;
        best = best == SLOTS || held < job->held[best] ? s : best;
    }
    if (best < SLOTS)
        job->held[best] = cut;
    else if (!fake_holds(job, cut))
        fail_msg("no slot is free for cut %" PRIu64, cut);
}

/* Ranks of the generation that runs. */
static inline uint32_t fake_world(const struct fake_job *job)
{
    return (uint32_t)job->order.peers.count * job->order.spec.nproc_per_node;
}

static inline void fake_store(struct fake *fake, struct fake_job *job, const struct cut_order *order)
{
    if (order->phase == CUT_PHASE_STORE && fake_holds(job, order->cut) && !fake->store_hangs) {
        job->stored_cut = order->cut;
        job->failed_attempt = fake->store_fails ? order->attempt : 0;
    }
    bool all = order->shards.count > 0 && (order->generation != job->generation || order->shards.count == fake_world(job));
    if (order->phase == CUT_PHASE_COMMIT && all)
        job->manifest_cut = order->cut;
}

/* What is not listed is dropped, what is to be fetched is here at once. */
static inline void fake_copy(struct fake_job *job, const struct assignment *order)
{
    struct fake_copy kept[FAKE_COPIES_MAX] = {{0}};
    assert_true(order->copies.count <= FAKE_COPIES_MAX);
    for (size_t i = 0; i < order->copies.count; i++) {
        const struct copy_order *copy = &order->copies.items[i];
        bool here = copy->port != 0;
        for (int k = 0; k < FAKE_COPIES_MAX; k++)
            here = here || (job->copied[k].cut == copy->cut && job->copied[k].node_rank == copy->node_rank);
        if (here)
            kept[i] = (struct fake_copy){.cut = copy->cut, .node_rank = copy->node_rank};
    }
    memcpy(job->copied, kept, sizeof kept);
}

static inline void fake_report_copies(const struct fake *fake, const struct fake_job *job, struct gen_report *to)
{
    uint32_t ranks = job->order.spec.nproc_per_node;
    for (int k = 0; k < FAKE_COPIES_MAX; k++)
        for (uint32_t r = 0; job->copied[k].cut != 0 && r < ranks; r++) {
            struct held_report *copy = codec_list_add(&held_report_codec, &to->copies);
            copy->cut = job->copied[k].cut;
            copy->rank = job->copied[k].node_rank * ranks + r;
        }
    for (size_t i = 0; i < job->order.copies.count && fake->copy_fails; i++) {
        struct restore_failure *failure = codec_list_add(&restore_failure_codec, &to->copy_failures);
        failure->cut = job->order.copies.items[i].cut;
        failure->rank = job->order.copies.items[i].node_rank * ranks;
        TEXT_SET(failure->detail, "there is no room for it in the arena");
    }
}

#endif
