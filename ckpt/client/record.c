/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"
#include "ckpt/client/mpi/counters.h"

/* Present only when libtidemark_mpi is loaded too. */
#pragma weak tide_mpi_counters

struct order {
    uint64_t cut, step;
    uint32_t attempt, slot;
};

/* ---- a slot that is large enough ---- */

static enum tide_status reserve(struct tide *tide, uint64_t bytes, struct err *err)
{
    if (bytes <= tide->reserved_bytes)
        return TIDE_OK;
    uint64_t ms = tide->options.deadline_ms < RESERVE_DEADLINE_MS ? tide->options.deadline_ms : RESERVE_DEADLINE_MS;
    struct local_message ask = {.type = LOCAL_RESERVE, .bytes = bytes}, answer;
    enum tide_status status = channel_ask(tide, &ask, 1u << LOCAL_GRANTED, clock_mono_ns() + ms * NS_PER_MS, &answer, err);
    if (status != TIDE_OK)
        return err_wrap(err, "no room for a checkpoint of %llu bytes", (unsigned long long)bytes);
    /* A file may have been grown since, or removed and made anew. */
    for (unsigned s = 0; s < SLOTS; s++) {
        char path[TIDE_PATH_MAX + 64];
        snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, tide->arena, tide->rank, s);
        if (tide->slots[s].mapped_bytes < bytes || !slot_is_at(&tide->slots[s], path))
            slot_unmap(&tide->slots[s]);
    }
    tide->reserved_bytes = bytes;
    return TIDE_OK;
}

/* Blocks for gigabytes take seconds: they are asked for when training begins, so that the first record finds them. What goes
 * wrong goes wrong again when they are needed, and is told then. */
static void reserve_ahead(struct tide *tide)
{
    uint64_t data_bytes = 0;
    if (regions_lay(tide, &data_bytes, NULL) != TIDE_OK)
        return;
    uint64_t bytes = slot_bytes_needed(tide->region_count, data_bytes);
    channel_tell(tide, &(struct local_message){.type = LOCAL_RESERVE, .flags = LOCAL_RESERVE_AHEAD, .bytes = bytes});
    prefault_begin(tide, bytes);
}

static enum tide_status writable_slot(struct tide *tide, uint32_t number, uint64_t bytes, struct slot **ret_slot,
                                      struct err *err)
{
    char path[TIDE_PATH_MAX + 64];
    if (number >= SLOTS)
        return err_set(err, TIDE_E_INVALID, "the agent armed slot %u of %u", number, SLOTS);
    prefault_end(tide);
    struct slot *slot = &tide->slots[number];
    enum tide_status status = reserve(tide, bytes, err);
    if (status == TIDE_OK && slot->header == NULL) {
        snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, tide->arena, tide->rank, number);
        status = slot_map(path, 1, slot, err);
    }
    if (status == TIDE_OK)
        *ret_slot = slot;
    return status;
}

/* ---- the copy ---- */

static enum tide_status copy_regions(struct tide *tide, struct slot *slot, struct err *err)
{
    enum tide_status status = TIDE_OK;
    uint64_t end = 0;
    for (uint32_t i = 0; status == TIDE_OK && i < tide->region_count; i++) {
        const struct region *r = &tide->regions[i];
        slot->regions[i] = r->entry;
        status = r->ops->copy_out(slot->data + r->entry.offset, r->data, r->entry.bytes, err);
        /* The gap before the next region is hashed and stored like all else. */
        end = region_end_aligned(r->entry.offset, r->entry.bytes);
        uint64_t used = r->entry.offset + r->entry.bytes;
        memset(slot->data + used, 0, (size_t)(end - used));
    }
    const struct device_ops *last = NULL;
    for (uint32_t i = 0; status == TIDE_OK && i < tide->region_count; i++) {
        if (tide->regions[i].ops != last)
            status = tide->regions[i].ops->synchronise(err);
        last = tide->regions[i].ops;
    }
    return status;
}

static void count(struct slot_header *facts)
{
    if (tide_mpi_counters == NULL)
        return;
    const struct tide_mpi_counters *counters = tide_mpi_counters();
    facts->collectives = atomic_load_explicit(&counters->collectives, memory_order_relaxed);
    facts->sent = atomic_load_explicit(&counters->sent, memory_order_relaxed);
    facts->received = atomic_load_explicit(&counters->received, memory_order_relaxed);
}

static enum tide_status fill_slot(struct tide *tide, const struct order *order, struct slot_header *facts, struct err *err)
{
    struct slot *slot = NULL;
    uint64_t data_bytes = 0;
    enum tide_status status = regions_lay(tide, &data_bytes, err);
    if (status == TIDE_OK)
        status = writable_slot(tide, order->slot, slot_bytes_needed(tide->region_count, data_bytes), &slot, err);
    if (status == TIDE_OK)
        status = slot_start(slot, tide->region_count, data_bytes, err);
    if (status == TIDE_OK)
        status = copy_regions(tide, slot, err);
    if (status != TIDE_OK)
        return status;
    facts->data_bytes = data_bytes;
    slot_finish(slot, facts);
    return TIDE_OK;
}

/* ---- what the agent reads ---- */

static void publish(struct control_page *page, const struct order *order, const struct slot_header *facts, uint64_t stall_ns,
                    enum tide_status status, const char *detail)
{
    atomic_store(&page->record_slot, order->slot);
    atomic_store(&page->record_step, order->step);
    atomic_store(&page->record_bytes, facts->data_bytes);
    atomic_store(&page->record_stall_ns, stall_ns);
    atomic_store(&page->record_collectives, facts->collectives);
    atomic_store(&page->record_sent, facts->sent);
    atomic_store(&page->record_received, facts->received);
    atomic_store(&page->record_status, (uint32_t)status);
    text_copy(page->record_detail, sizeof page->record_detail, status == TIDE_OK ? "" : detail);
    atomic_store(&page->record_result, status == TIDE_OK ? RECORD_DONE : RECORD_FAILED);
    atomic_store(&page->recorded_attempt, order->attempt);
    atomic_store(&page->recorded_cut, order->cut);
    atomic_store_explicit(&page->armed_step, STEP_NONE, memory_order_release);
}

/* Armed for this step. A record that fails is the coordinator's trouble, never the program's. */
__attribute__((noinline)) static enum tide_status record(struct tide *tide, uint64_t step)
{
    struct control_page *page = tide->page;
    uint64_t begin = clock_mono_ns(), expected = step;
    if (getpid() != tide->pid)
        return TIDE_OK;
    if (!atomic_compare_exchange_strong(&page->armed_step, &expected, STEP_TAKEN))
        return TIDE_OK; /* disarmed between our look and our grasp */
    struct order order = {.cut = atomic_load(&page->armed_cut),
                          .step = step,
                          .attempt = atomic_load(&page->armed_attempt),
                          .slot = atomic_load(&page->armed_slot)};
    struct slot_header facts = {.rank = tide->rank,
                                .generation = tide->generation,
                                .cut = order.cut,
                                .attempt = order.attempt,
                                .world_size = tide->world_size,
                                .step = step};
    struct err why = {.status = TIDE_OK, .text = ""};
    text_copy(facts.job_uid, sizeof facts.job_uid, tide->job_uid);
    count(&facts);
    enum tide_status status = fill_slot(tide, &order, &facts, &why);
    publish(page, &order, &facts, clock_mono_ns() - begin, status, why.text);
    channel_nudge(tide, LOCAL_RECORDED);
    return TIDE_OK;
}

/* ---- the safe point ---- */

/* Either the rank sees what is armed or the agent sees its step, never neither: both are sequentially consistent. */
static inline enum tide_status pass(struct tide *tide, uint64_t step)
{
    struct control_page *page = tide->page;
    tide->step_min = step + 1;
    atomic_exchange_explicit(&page->step, step, memory_order_seq_cst);
    if (__builtin_expect(atomic_load_explicit(&page->armed_step, memory_order_seq_cst) != step, 1))
        return TIDE_OK;
    return record(tide, step);
}

/* The first step, or one that is not possible. */
__attribute__((noinline)) static enum tide_status unusual_step(struct tide *tide, uint64_t step)
{
    if (step >= STEP_TAKEN)
        return err_set(&tide->err, TIDE_E_INVALID, "step %llu is not possible", (unsigned long long)step);
    uint64_t least = tide->stepping ? tide->step_min : tide->first_min;
    if (step < least)
        return err_set(&tide->err, TIDE_E_INVALID, "step %llu follows step %llu; steps must grow", (unsigned long long)step,
                       (unsigned long long)(least - 1));
    if (tide->in_job && getpid() == tide->pid) {
        if (!tide->stepping)
            reserve_ahead(tide);
        atomic_store(&tide->page->phase, CONTROL_STEPPING);
    }
    tide->stepping = 1;
    return pass(tide, step);
}

enum tide_status tide_step(struct tide *tide, uint64_t step)
{
    if (__builtin_expect(tide == NULL, 0))
        return TIDE_E_INVALID;
    /* One comparison for "too small" and "no step at all"; before the first step nothing passes it. */
    if (__builtin_expect(step - tide->step_min >= STEP_TAKEN - tide->step_min, 0))
        return unusual_step(tide, step);
    return pass(tide, step);
}
