/* SPDX-License-Identifier: Apache-2.0 */
/* What the slots of the ranks here take of the arena, and the third slot of each: made once the agent asks for it, because the store
 * lags, and kept as long as the job. The first two are made when their rank asks (rank_link.c). */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/step/step.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/stage/arena.h"
#include "ckpt/wire/local.h"

#define THIRD SLOTS_ALWAYS

void slots_path(const char *arena, uint32_t rank, uint32_t slot, char to[TIDE_PATH_MAX + 64])
{
    int n = snprintf(to, TIDE_PATH_MAX + 64, "%s/", arena);
    snprintf(to + n, TIDE_PATH_MAX + 64 - (size_t)n, SLOT_FILE_FORMAT, rank, slot);
}

uint64_t slots_file_bytes(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (uint64_t)info.st_size : 0;
}

static uint64_t file_bytes(const struct rank *rank, uint32_t slot)
{
    char path[TIDE_PATH_MAX + 64];
    slots_path(rank->step->spec.arena, rank->report.rank, slot, path);
    return slots_file_bytes(path);
}

uint64_t slots_bytes(const struct rank *rank)
{
    uint64_t most = rank->reserved_bytes;
    for (uint32_t slot = 0; slot < SLOTS_ALWAYS; slot++) {
        uint64_t bytes = file_bytes(rank, slot);
        most = bytes > most ? bytes : most;
    }
    return most;
}

uint64_t slots_third_bytes(const struct rank *rank)
{
    uint64_t bytes = file_bytes(rank, THIRD);
    return bytes > rank->widening_bytes ? bytes : rank->widening_bytes;
}

uint64_t slots_bytes_of_others(struct step *step, const struct rank *but)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (&step->ranks[i] != but)
            sum += SLOTS_ALWAYS * slots_bytes(&step->ranks[i]) + slots_third_bytes(&step->ranks[i]);
    return sum;
}

/* One that was made for less state than the rank has by now is none. */
uint32_t slots_count(const struct rank *rank)
{
    uint64_t third = rank->widening_bytes == 0 ? file_bytes(rank, THIRD) : 0;
    return third != 0 && third >= slots_bytes(rank) ? SLOTS : SLOTS_ALWAYS;
}

/* ---- a third one ---- */

struct widening {
    uv_work_t request;
    struct rank *rank;
    uint64_t bytes;
    int home;
    char path[TIDE_PATH_MAX + 64];
    enum tide_status status;
    struct err err;
};

/* On a worker: real blocks for gigabytes take seconds. */
static void on_widen(uv_work_t *request)
{
    struct widening *want = (struct widening *)request;
    uint64_t before = slots_file_bytes(want->path);
    bool preferred;
    want->status = slot_reserve_on(want->path, want->bytes, want->home, &preferred, &want->err);
    if (want->status != TIDE_OK && before == 0)
        unlink(want->path);
}

static void refused(struct rank *rank, const char *why)
{
    if (!rank->wide_refused)
        log_warn("rank %u gets no third slot: %s; while the store lags, its checkpoints wait", rank->report.rank, why);
    rank->wide_refused = true;
}

static void on_widened(uv_work_t *request, int status)
{
    (void)status; /* never cancelled */
    struct widening *want = (struct widening *)request;
    struct rank *rank = want->rank;
    rank->widening_bytes = 0;
    if (want->status == TIDE_OK)
        log_info("rank %u has a third slot of %" PRIu64 " bytes: the store lags", rank->report.rank, want->bytes);
    else
        refused(rank, want->err.text);
    mem_free(want);
    status_changed(rank->step);
}

static void widen_rank(struct rank *rank)
{
    struct step *step = rank->step;
    uint64_t bytes = slots_bytes(rank), max = step->spec.arena_bytes_max;
    if (bytes == 0 || rank->ended_ns != 0 || rank->widening_bytes != 0 || slots_count(rank) == SLOTS)
        return;
    uint64_t held = slots_bytes_of_others(step, rank) + SLOTS_ALWAYS * bytes;
    if (max != 0 && (held > max || bytes > max - held)) {
        char why[TIDE_TEXT_MAX + 1];
        snprintf(why, sizeof why, "it needs %" PRIu64 " bytes, slots hold %" PRIu64 ", and the agent's arena is limited to %" PRIu64
                 " (--arena-max)", bytes, held, max);
        refused(rank, why);
        return;
    }
    struct widening *want = mem_alloc(sizeof *want);
    want->rank = rank;
    want->bytes = bytes;
    want->home = rank->home;
    slots_path(step->spec.arena, rank->report.rank, THIRD, want->path);
    rank->widening_bytes = bytes;
    if (uv_queue_work(&step->loop, &want->request, on_widen, on_widened) == 0)
        return;
    rank->widening_bytes = 0;
    mem_free(want);
    refused(rank, "no worker thread is to be had");
}

void slots_widen(struct step *step)
{
    for (uint32_t i = 0; i < step->rank_count; i++)
        widen_rank(&step->ranks[i]);
}
