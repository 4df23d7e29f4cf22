/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/pages.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/base/mem.h"

void pages_init(struct pages *pages, const char *arena, uint64_t generation, uint32_t first_rank, uint32_t count)
{
    memset(pages, 0, sizeof *pages);
    text_copy(pages->arena, sizeof pages->arena, arena);
    pages->generation = generation;
    pages->first_rank = first_rank;
    pages->count = count <= TIDE_LOCAL_RANKS_MAX ? count : TIDE_LOCAL_RANKS_MAX;
}

void pages_release(struct pages *pages)
{
    for (uint32_t i = 0; i < pages->count; i++)
        if (pages->maps[i] != NULL)
            munmap(pages->maps[i], CONTROL_PAGE_BYTES);
    memset(pages, 0, sizeof *pages);
}

static struct control_page *map_page(const struct pages *pages, uint32_t rank)
{
    char path[TIDE_PATH_MAX + 64];
    struct stat info;
    snprintf(path, sizeof path, "%s/" CONTROL_FILE_FORMAT, pages->arena, rank);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return NULL;
    void *map = MAP_FAILED;
    if (fstat(fd, &info) == 0 && info.st_size >= (off_t)CONTROL_PAGE_BYTES)
        map = mmap(NULL, CONTROL_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return NULL;
    struct control_page *page = map;
    /* Another generation's page, or one that is not filled in yet: the right one comes. */
    if (page->magic == CONTROL_MAGIC && page->generation == pages->generation && page->rank == rank)
        return page;
    munmap(map, CONTROL_PAGE_BYTES);
    return NULL;
}

static struct control_page *page_of(struct pages *pages, uint32_t rank)
{
    if (rank < pages->first_rank || rank - pages->first_rank >= pages->count)
        return NULL;
    struct control_page **map = &pages->maps[rank - pages->first_rank];
    if (*map == NULL)
        *map = map_page(pages, rank);
    return *map;
}

/* What was sent and has arrived is of an epoch: read between two looks at that. */
static void colours_snapshot(const struct control_page *page, struct agent_page *to)
{
    to->armed_epoch = atomic_load(&page->armed_epoch);
    to->epochs = (struct epoch_order){.go = atomic_load(&page->go_epoch), .flip = atomic_load(&page->flip_epoch),
                                      .settled = atomic_load(&page->settled_epoch), .closed = atomic_load(&page->closed_epoch)};
    to->coloured = atomic_load(&page->coloured) != 0;
    to->declared = atomic_load(&page->cut_declared);
    to->polling = atomic_load(&page->polling_epoch);
    for (uint64_t epoch = atomic_load(&page->epoch);; epoch = to->epoch) {
        to->ended = atomic_load(&page->ended_epoch);
        to->sent = atomic_load(&page->sent_before);
        to->arrived = atomic_load(&page->arrived_before);
        to->epoch = atomic_load(&page->epoch);
        if (to->epoch == epoch)
            return;
    }
}

void page_snapshot(const struct control_page *page, struct agent_page *ret_page)
{
    struct agent_page *to = ret_page;
    /* First: what they name was complete before they were written. */
    to->recorded_cut = atomic_load_explicit(&page->recorded_cut, memory_order_acquire);
    to->recorded_attempt = atomic_load_explicit(&page->recorded_attempt, memory_order_acquire);
    to->record_result = atomic_load(&page->record_result);
    to->record_status = atomic_load(&page->record_status);
    to->record_slot = atomic_load(&page->record_slot);
    to->record_step = atomic_load(&page->record_step);
    to->record_bytes = atomic_load(&page->record_bytes);
    to->record_stall_ns = atomic_load(&page->record_stall_ns);
    to->record_collectives = atomic_load(&page->record_collectives);
    text_copy(to->record_detail, sizeof to->record_detail, "");
    to->record_logged = atomic_load(&page->record_logged);
    to->record_logged_bytes = atomic_load(&page->record_logged_bytes);
    to->record_comms = atomic_load(&page->record_comms);
    to->record_copy = atomic_load(&page->record_copy);
    to->record_copy_ns = atomic_load(&page->record_copy_ns);
    if (to->record_result != RECORD_NONE && to->record_result != RECORD_DONE)
        text_copy(to->record_detail, sizeof to->record_detail, page->record_detail);
    to->phase = atomic_load(&page->phase);
    to->pid = atomic_load(&page->pid);
    to->step = atomic_load(&page->step);
    to->armed_step = atomic_load(&page->armed_step);
    to->armed_cut = atomic_load(&page->armed_cut);
    to->armed_attempt = atomic_load(&page->armed_attempt);
    to->armed_slot = atomic_load(&page->armed_slot);
    to->stays = atomic_load(&page->stays) != 0;
    colours_snapshot(page, to);
    to->restored_cut = atomic_load(&page->restored_cut);
    to->restored_step = atomic_load(&page->restored_step);
    to->restore_ns = atomic_load(&page->restore_ns);
}

void pages_epochs(struct pages *pages, uint32_t rank, const struct epoch_order *epochs)
{
    struct control_page *page = page_of(pages, rank);
    if (page != NULL)
        page_epochs(page, epochs);
}

bool pages_look(struct pages *pages, uint32_t rank, struct agent_page *ret_page, const struct control_comm **ret_comms)
{
    struct control_page *page = page_of(pages, rank);
    if (page == NULL)
        return false;
    page_snapshot(page, ret_page);
    *ret_comms = page->comms;
    return true;
}

const struct control_progress *pages_progress(struct pages *pages, uint32_t rank)
{
    const struct control_page *page = page_of(pages, rank);
    return page != NULL ? &page->progress : NULL;
}

static bool armed_as(struct control_page *page, uint64_t cut, uint32_t attempt)
{
    return atomic_load(&page->armed_cut) == cut && atomic_load(&page->armed_attempt) == attempt;
}

enum agent_arm_outcome page_arm(struct control_page *page, uint64_t cut, uint32_t attempt, uint32_t slot, uint64_t step,
                                uint64_t epoch, uint64_t *ret_step)
{
    uint64_t present = atomic_load(&page->armed_step);
    if (present == STEP_TAKEN)
        return armed_as(page, cut, attempt) ? ARM_ARMED : ARM_BUSY;
    if (present != STEP_NONE && armed_as(page, cut, attempt)) {
        *ret_step = atomic_load(&page->step);
        if (*ret_step < present)
            return ARM_ARMED;
        return atomic_compare_exchange_strong(&page->armed_step, &present, STEP_NONE) ? ARM_MISSED : ARM_ARMED;
    }
    /* What else is armed goes first; that fails only when the rank has just begun to record it. */
    if (present != STEP_NONE && !atomic_compare_exchange_strong(&page->armed_step, &present, STEP_NONE) && present != STEP_NONE)
        return ARM_BUSY;
    atomic_store(&page->armed_cut, cut);
    atomic_store(&page->armed_attempt, attempt);
    atomic_store(&page->armed_slot, slot);
    atomic_store(&page->armed_epoch, epoch);
    atomic_store(&page->armed_step, step);
    atomic_fetch_add(&page->call_epoch, 1);
    uint64_t at = atomic_load(&page->step);
    if (at < step)
        return ARM_ARMED;
    uint64_t expected = step;
    if (!atomic_compare_exchange_strong(&page->armed_step, &expected, STEP_NONE))
        return ARM_ARMED; /* the rank saw it in time: it is recording, or has recorded already */
    *ret_step = at;
    return ARM_MISSED;
}

void page_disarm(struct control_page *page, uint64_t cut)
{
    uint64_t present = atomic_load(&page->armed_step);
    if (present == STEP_NONE || present == STEP_TAKEN || atomic_load(&page->armed_cut) != cut)
        return;
    if (atomic_compare_exchange_strong(&page->armed_step, &present, STEP_NONE))
        atomic_fetch_add(&page->call_epoch, 1);
}

static bool raise(_Atomic uint64_t *word, uint64_t to)
{
    if (atomic_load(word) >= to)
        return false;
    atomic_store(word, to);
    return true;
}

void page_epochs(struct control_page *page, const struct epoch_order *epochs)
{
    bool go = raise(&page->go_epoch, epochs->go), flip = raise(&page->flip_epoch, epochs->flip);
    bool settled = raise(&page->settled_epoch, epochs->settled), closed = raise(&page->closed_epoch, epochs->closed);
    uint64_t nothing = STEP_NONE;
    if (!go && !flip && !settled && !closed)
        return;
    atomic_fetch_add(&page->call_epoch, 1);
    /* A rank that makes no MPI call for a while looks at its next safe point: this is not to be recorded (local.h). */
    if ((settled || closed) && atomic_load(&page->armed_epoch) <= atomic_load(&page->epoch))
        atomic_compare_exchange_strong(&page->armed_step, &nothing, STEP_NEXT);
}

enum agent_arm_outcome pages_arm(struct pages *pages, uint32_t rank, uint64_t cut, uint32_t attempt, uint32_t slot, uint64_t step,
                                 uint64_t epoch, uint64_t *ret_step)
{
    struct control_page *page = page_of(pages, rank);
    return page != NULL ? page_arm(page, cut, attempt, slot, step, epoch, ret_step) : ARM_NO_PAGE;
}

void pages_disarm(struct pages *pages, uint32_t rank, uint64_t cut)
{
    struct control_page *page = page_of(pages, rank);
    if (page != NULL)
        page_disarm(page, cut);
}
