/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "ckpt/client/client.h"
#include "ckpt/client/mpi/link.h"

/* Present only when libtidemark_mpi is loaded too. */
#pragma weak tide_mpi_comms

void record_init(struct record *record)
{
    pthread_mutex_init(&record->lock, NULL);
    record->fd = -1;
}

void record_release(struct tide *tide)
{
    channel_log_end(&tide->record);
    pthread_mutex_destroy(&tide->record.lock);
}

/* ---- what the agent reads ---- */

/* The words that may change behind a result that was told already. */
static void tell_result(struct tide *tide)
{
    const struct record *record = &tide->record;
    struct control_page *page = tide->page;
    int failed = record->result == RECORD_FAILED || record->result == RECORD_EARLY;
    atomic_store(&page->record_status, failed ? (uint32_t)record->why.status : TIDE_OK);
    text_fit(page->record_detail, sizeof page->record_detail, failed ? record->why.text : record->note);
    atomic_store(&page->record_result, record->result);
}

static void tell_all(struct tide *tide)
{
    const struct record *record = &tide->record;
    struct control_page *page = tide->page;
    atomic_store(&page->record_slot, record->order.slot);
    atomic_store(&page->record_step, record->order.step);
    atomic_store(&page->record_bytes, record->facts.data_bytes);
    atomic_store(&page->record_stall_ns, record->stall_ns);
    atomic_store(&page->record_copy, record->copy);
    atomic_store(&page->record_copy_errno, (uint32_t)record->copy_errno);
    atomic_store(&page->record_copy_bytes, record->copy_bytes);
    atomic_store(&page->record_copy_ns, clock_mono_ns() - record->begin_ns);
    atomic_store(&page->record_copy_waits, record->copy_waits);
    atomic_store(&page->record_collectives, record->facts.collectives);
    tell_result(tide);
    atomic_store(&page->recorded_attempt, record->order.attempt);
    atomic_store(&page->recorded_cut, record->order.cut);
    atomic_store_explicit(&page->armed_step, STEP_NONE, memory_order_release);
}

void record_tell(struct tide *tide)
{
    struct record *record = &tide->record;
    if (record->result != RECORD_DONE && record->slot != NULL)
        slot_void(record->slot);
    if (record->phase != RECORD_PHASE_TOLD)
        return; /* record_end will */
    tell_result(tide);
    channel_nudge(tide, LOCAL_RECORDED);
}

/* ---- the record ---- */

/* Of MPI_COMM_WORLD, which is the first; of all others too where messages are coloured. */
static void count(struct slot_header *facts)
{
    struct tide_mpi_comm world = {.id = 0};
    if (tide_mpi_comms != NULL && tide_mpi_comms(&world, 1) > 0)
        facts->collectives = world.collectives;
}

/* What is stable now that the order was taken. */
static void begin(struct tide *tide, uint64_t step)
{
    struct record *record = &tide->record;
    const struct control_page *page = tide->page;
    record->begin_ns = clock_mono_ns();
    record->phase = RECORD_PHASE_MADE;
    record->order = (struct order){.cut = atomic_load(&page->armed_cut),
                                   .step = step,
                                   .epoch = tide->coloured ? atomic_load(&page->armed_epoch) : 0,
                                   .attempt = atomic_load(&page->armed_attempt),
                                   .slot = atomic_load(&page->armed_slot)};
    record->facts = (struct slot_header){.rank = tide->rank,
                                         .generation = tide->generation,
                                         .cut = record->order.cut,
                                         .attempt = record->order.attempt,
                                         .world_size = tide->world_size,
                                         .step = step};
    text_copy(record->facts.job_uid, sizeof record->facts.job_uid, tide->job_uid);
    if (record->order.epoch == 0)
        count(&record->facts);
    record->slot = NULL;
    record->parts = 1;
    record->result = RECORD_DONE;
    record->why = (struct err){.status = TIDE_OK, .text = ""};
    record->note[0] = '\0';
    record->copy = RECORD_COPY_PLAIN;
    record->copy_errno = 0;
    record->copy_bytes = record->copy_waits = 0;
    channel_log_end(record);
    atomic_store(&tide->page->record_logged, 0);
    atomic_store(&tide->page->record_logged_bytes, 0);
    atomic_store(&tide->page->record_comms, 0);
}

/* A region of ours, behind the program's: messages that are held for it. */
static void add_held(const struct tide *tide, struct slot *slot, uint64_t at, uint64_t bytes)
{
    struct slot_region *entry = &slot->regions[tide->region_count];
    *entry = (struct slot_region){.offset = at, .bytes = bytes};
    text_copy(entry->name, sizeof entry->name, SLOT_HELD_REGION);
    memset(slot->data + at + bytes, 0, (size_t)(region_end_aligned(at, bytes) - at - bytes));
}

static enum tide_status start_slot(struct tide *tide, uint64_t held_bytes, struct slot **ret_slot, struct err *err)
{
    struct record *record = &tide->record;
    uint64_t held_at = 0;
    uint32_t log = record->order.epoch != 0, held = held_bytes > 0;
    enum tide_status status = regions_lay(tide, &held_at, err);
    uint64_t data_bytes = region_end_aligned(held_at, held_bytes);
    if (status == TIDE_OK)
        status = room_slot(tide, record->order.slot, data_bytes, ret_slot, err);
    if (status == TIDE_OK)
        status = slot_start(*ret_slot, tide->region_count + held + log, regions_have_shards(tide), data_bytes, err);
    if (status != TIDE_OK)
        return status;
    if (held)
        add_held(tide, *ret_slot, held_at, held_bytes);
    pthread_mutex_lock(&record->lock);
    record->slot = *ret_slot;
    record->facts.data_bytes = data_bytes;
    if (log)
        status = channel_log_begin(tide, data_bytes, err);
    pthread_mutex_unlock(&record->lock);
    if (status == TIDE_OK)
        status = comms_held_write(tide, (*ret_slot)->data + held_at, held_bytes, err);
    return status;
}

static enum tide_status fill_slot(struct tide *tide, struct err *err)
{
    struct slot *slot = NULL;
    enum tide_status status = tide->record.order.epoch != 0 ? colour_may_record(tide, err) : TIDE_OK;
    if (tide->coloured && tide->record.order.epoch == 0)
        return err_set(err, TIDE_E_STATE,
                       "rank %u was armed before its messages were coloured: call MPI_Init before tide_init, or take the "
                       "next checkpoint",
                       tide->rank);
    if (status == TIDE_OK)
        status = comms_may_record(tide, err);
    if (status == TIDE_OK)
        status = comms_take(tide, err);
    if (status == TIDE_OK)
        status = start_slot(tide, comms_held_bytes(tide), &slot, err);
    return status == TIDE_OK ? copy_regions(tide, slot, err) : status;
}

/* The lock is held. */
static void end(struct tide *tide)
{
    struct record *record = &tide->record;
    if (record->result == RECORD_DONE && record->order.epoch != 0)
        slot_drain(record->slot, &record->facts);
    else if (record->result == RECORD_DONE)
        slot_finish(record->slot, &record->facts);
    else if (record->slot != NULL)
        slot_void(record->slot);
    record->phase = RECORD_PHASE_TOLD;
    tell_all(tide);
    channel_nudge(tide, LOCAL_RECORDED);
}

void record_end(struct tide *tide, enum tide_status status, const struct err *why)
{
    struct record *record = &tide->record;
    pthread_mutex_lock(&record->lock);
    if (status != TIDE_OK && record->result == RECORD_DONE) {
        record->result = RECORD_FAILED;
        record->why = *why;
    }
    if (--record->parts == 0)
        end(tide);
    pthread_mutex_unlock(&record->lock);
}

/* Came to its step, and go was not there. */
static void pass_by(struct tide *tide)
{
    pthread_mutex_lock(&tide->record.lock);
    tide->record.result = RECORD_PASSED;
    end(tide);
    pthread_mutex_unlock(&tide->record.lock);
}

static void make(struct tide *tide)
{
    struct record *record = &tide->record;
    struct err why = {.status = TIDE_OK, .text = ""};
    enum tide_status status = fill_slot(tide, &why);
    if (record->order.epoch != 0)
        colour_flip(tide, record->order.epoch, status == TIDE_OK);
    else if (status == TIDE_OK)
        comms_tell(tide);
    pthread_mutex_lock(&record->lock);
    record->stall_ns = clock_mono_ns() - record->begin_ns;
    pthread_mutex_unlock(&record->lock);
    record_end(tide, status, &why);
}

void record_make(struct tide *tide, uint64_t step, uint64_t armed)
{
    struct control_page *page = tide->page;
    struct record *record = &tide->record;
    on_write_end(tide);
    finish_await(tide);
    if (!atomic_compare_exchange_strong(&page->armed_step, &armed, STEP_TAKEN))
        return; /* disarmed between our look and our grasp */
    uint64_t epoch = tide->coloured ? atomic_load(&page->armed_epoch) : 0;
    if (epoch != 0 && atomic_load(&page->epoch) >= epoch) {
        /* Given up, and we have flipped for it: nothing is left to do. */
        atomic_store_explicit(&page->armed_step, STEP_NONE, memory_order_release);
        return;
    }
    pthread_mutex_lock(&record->lock);
    begin(tide, step);
    pthread_mutex_unlock(&record->lock);
    if (epoch != 0 && (atomic_load(&page->go_epoch) < epoch || (armed != STEP_NEXT && armed != step)))
        pass_by(tide);
    else
        make(tide);
}

/* ---- given up ---- */

/* Before anything was recorded: what is armed is answered. The lock is held. */
static void answer_armed(struct tide *tide, enum record_result result, const struct err *why)
{
    struct control_page *page = tide->page;
    uint64_t armed = atomic_load(&page->armed_step);
    do {
        if (armed == STEP_NONE || armed == STEP_TAKEN)
            return;
    } while (!atomic_compare_exchange_weak(&page->armed_step, &armed, STEP_TAKEN));
    begin(tide, atomic_load(&page->step));
    tide->record.result = result;
    tide->record.why = *why;
    end(tide);
}

void record_never(struct tide *tide)
{
    struct err none = {.status = TIDE_OK, .text = ""};
    if (!tide->coloured || getpid() != tide->pid)
        return;
    pthread_mutex_lock(&tide->record.lock);
    answer_armed(tide, RECORD_PASSED, &none);
    pthread_mutex_unlock(&tide->record.lock);
}

void record_give_up(void *context, uint32_t record_result, const char *text)
{
    struct tide *tide = context;
    struct record *record = &tide->record;
    struct err why = {.status = TIDE_E_CUT};
    text_copy(why.text, sizeof why.text, text);
    pthread_mutex_lock(&record->lock);
    /* Was what is in the page answered already, or is it being answered? */
    int ours = record->phase != RECORD_PHASE_NONE && record->order.cut == atomic_load(&tide->page->armed_cut) &&
               record->order.attempt == atomic_load(&tide->page->armed_attempt);
    if (ours && record->result == RECORD_DONE) {
        record->result = (enum record_result)record_result;
        record->why = why;
        record_tell(tide);
    } else if (!ours) {
        answer_armed(tide, (enum record_result)record_result, &why);
    }
    pthread_mutex_unlock(&record->lock);
}
