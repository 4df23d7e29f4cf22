/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/format/reshard.h"
#include "ckpt/stage/shard.h"
#include "ckpt/stage/stage.h"
#include "ckpt/stage/tables.h"
#include "ckpt/stage/want.h"

/* The shard of a rank of another world: what it is to hold is told by the rank, what there is by the manifests of all that made the
 * checkpoint. One of those ranks is read after the other, each from its first chunk that is needed to its last. */

/* A run of so many bytes, or more, goes through the slot's file, not into its pages: to have one mapped costs as much as to write it. */
#define RUN_FILE_MIN 4096u

struct anew {
    struct store *store;
    const struct manifest *whole;
    const struct stage_target *target;
    const struct tables *tables; /* of the ranks that made the checkpoint */
    struct region_entry *regions; /* of the new shard, in their places, … */
    uint32_t region_count, told_count; /* … and behind them what is not restored */
    uint64_t data_bytes;
    struct reshard_plan plan;
    struct slot slot;
    arena_path path; /* its file */
    int fd;          /* -1: not open */
};

static void release(struct anew *a)
{
    if (a->fd >= 0)
        close(a->fd);
    tables_give(a->tables);
    mem_free(a->regions);
    reshard_plan_release(&a->plan);
    slot_unmap(&a->slot);
}

/* ---- what is wanted ---- */

static const char *uid_of(const struct anew *a)
{
    return a->target->job_uid != NULL ? a->target->job_uid : a->whole->uid;
}

static void lay_wanted(struct anew *a, const struct want *want, int droppable)
{
    for (uint32_t i = 0; i < want->facts.region_count; i++) {
        struct region_entry *to = &a->regions[a->told_count];
        if ((want->regions[i].kind == REGION_DROPPABLE) != droppable)
            continue;
        region_describe(&want->regions[i], want->parts != NULL ? &want->parts[i] : NULL, to);
        a->told_count++;
        if (droppable)
            continue; /* it has no place */
        to->offset = a->data_bytes;
        a->data_bytes = region_end_aligned(to->offset, to->bytes);
        a->region_count++;
    }
}

static enum tide_status take_wanted(struct anew *a, const struct want *want, struct err *err)
{
    if (want->facts.world_size != a->target->world_size)
        return err_set(err, TIDE_E_MISMATCH, "rank %u is one of %u ranks, and the job has %u", a->target->rank, want->facts.world_size,
                       a->target->world_size);
    a->regions = mem_try_array(want->facts.region_count, sizeof *a->regions);
    if (a->regions == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for a table of %u regions", want->facts.region_count);
    lay_wanted(a, want, 0);
    lay_wanted(a, want, 1);
    return TIDE_OK;
}

static enum tide_status find_wanted(struct anew *a, struct err *err)
{
    arena_path path;
    struct want want;
    struct err why = {.status = TIDE_OK};
    const struct stage_target *to = a->target;
    snprintf(path, sizeof path, "%.*s/" WANT_FILE_FORMAT, TIDE_PATH_MAX, to->arena, to->rank);
    enum tide_status status = want_load(path, uid_of(a), to->generation, to->rank, &want, &why);
    if (status == TIDE_E_NOT_FOUND)
        return err_set(err, TIDE_E_MISMATCH,
                       "checkpoint %" PRIu64 " was made by %u ranks and this job has %u, and rank %u registers all regions as its own; "
                       "register them as TIDE_REPLICATED, TIDE_SHARD or TIDE_DROPPABLE, or run with as many ranks",
                       a->whole->cut, a->whole->world_size, to->world_size, to->rank);
    if (status != TIDE_OK) /* CORRUPT is said of the checkpoint, which is not to blame */
        return err_set(err, status == TIDE_E_CORRUPT ? TIDE_E_MISMATCH : status, "%s", why.text);
    status = take_wanted(a, &want, err);
    want_release(&want);
    return status;
}

/* ---- bytes ---- */

/* Chunks are asked for in order, and a run may share one with the run before it. */
struct source {
    struct shard_reader reader;
    uint64_t chunk; /* in `bytes`; UINT64_MAX: none yet */
    const unsigned char *bytes;
};

static enum tide_status put_bytes(struct anew *a, uint64_t to, const unsigned char *from, uint64_t bytes, struct err *err)
{
    const uint64_t data = (uint64_t)(a->slot.data - (unsigned char *)a->slot.header); /* what the header says others may write */
    if (bytes < RUN_FILE_MIN)
        memcpy(a->slot.data + to, from, (size_t)bytes);
    else if (!fsx_pwrite_all(a->fd, from, (size_t)bytes, data + to))
        return err_errno(err, "cannot write slot %s", a->path);
    return TIDE_OK;
}

static enum tide_status copy_run(struct anew *a, struct source *from, struct reshard_run run, struct err *err)
{
    while (run.bytes > 0) {
        uint64_t index = run.from / CHUNK_BYTES, at = run.from % CHUNK_BYTES;
        uint64_t bytes = CHUNK_BYTES - at < run.bytes ? CHUNK_BYTES - at : run.bytes;
        struct digest digest;
        enum tide_status status = index == from->chunk ? TIDE_OK : shard_read_chunk(&from->reader, index, &from->bytes, &digest, err);
        shard_blame(a->target->watch, from->reader.manifest, index, status);
        shard_unread(a->target->watch, status);
        if (status != TIDE_OK)
            return status;
        from->chunk = index;
        status = put_bytes(a, run.to, from->bytes + at, bytes, err);
        if (status != TIDE_OK)
            return status;
        run.from += bytes;
        run.to += bytes;
        run.bytes -= bytes;
    }
    return TIDE_OK;
}

/* All pieces of one rank, which lie one behind the other in the plan. */
static enum tide_status copy_rank(struct anew *a, const struct rank_manifest *m, size_t first, size_t end, struct err *err)
{
    struct source from = {.chunk = UINT64_MAX};
    enum tide_status status = shard_reader_init(&from.reader, a->store, m, err);
    if (status != TIDE_OK)
        return status;
    for (size_t i = first; status == TIDE_OK && i < end; i++) {
        struct reshard_cursor cursor;
        struct reshard_run run;
        reshard_begin(&a->plan.items[i], &cursor);
        while (status == TIDE_OK && reshard_next(&cursor, &run) == 0)
            status = copy_run(a, &from, run, err);
    }
    shard_reader_release(&from.reader);
    return status;
}

static enum tide_status copy_all(struct anew *a, struct err *err)
{
    enum tide_status status = TIDE_OK;
    for (size_t first = 0, end; status == TIDE_OK && first < a->plan.count; first = end) {
        const struct rank_manifest *m = NULL;
        for (end = first + 1; end < a->plan.count && a->plan.items[end].rank == a->plan.items[first].rank; end++)
            ;
        status = tables_manifest(a->tables, a->whole, a->plan.items[first].rank, &m, err);
        if (status != TIDE_OK)
            return status;
        status = copy_rank(a, m, first, end, err);
        tables_manifest_give(a->tables, m);
    }
    return status;
}

/* ---- the slot ---- */

static enum tide_status open_slot(struct anew *a, const char *sum_path, struct err *err)
{
    uint32_t count = a->region_count;
    bool parts = regions_have_parts(a->regions, count);
    enum tide_status status = slot_reserve(a->path, slot_bytes_needed(count, parts, a->data_bytes), err);
    if (status == TIDE_OK)
        status = slot_map(a->path, 1, &a->slot, err);
    if (status == TIDE_OK)
        status = slot_open_file(&a->slot, a->path, O_WRONLY, &a->fd, err);
    if (status != TIDE_OK)
        return status;
    /* From here to RECORDED nobody may take it for whole. */
    slot_void(&a->slot);
    if (unlink(sum_path) != 0 && errno != ENOENT)
        return err_errno(err, "cannot remove %s", sum_path);
    status = slot_start(&a->slot, count, parts, a->data_bytes, err);
    if (status != TIDE_OK)
        return status;
    struct slot_part *table = slot_parts(&a->slot);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t end = a->regions[i].offset + a->regions[i].bytes;
        region_lay(&a->regions[i], &a->slot.regions[i], table != NULL ? &table[i] : NULL);
        /* The plan gives every byte of the region; what was in the gap behind it before is nobody's. */
        memset(a->slot.data + end, 0, (size_t)(region_end_aligned(end, 0) - end));
    }
    return TIDE_OK;
}

static enum tide_status close_slot(struct anew *a, const char *sum_path, struct err *err)
{
    struct slot_header facts = {.rank = a->target->rank,
                                .generation = a->whole->generation,
                                .cut = a->whole->cut,
                                .attempt = 1,
                                .world_size = a->target->world_size,
                                .step = a->tables->step};
    struct slot_sum sum;
    text_copy(facts.job_uid, sizeof facts.job_uid, uid_of(a));
    slot_finish(&a->slot, &facts);
    enum tide_status status = slot_sum_compute(&a->slot, &sum, err);
    if (status == TIDE_OK) {
        status = slot_sum_save(sum_path, &sum, err);
        slot_sum_release(&sum);
    }
    return status;
}

static enum tide_status put_together(struct anew *a, struct err *err)
{
    arena_path sum_path;
    slot_path(a->target->arena, a->target->rank, a->target->slot, a->path);
    slot_sum_path(a->target->arena, a->target->rank, a->target->slot, sum_path);
    enum tide_status status = open_slot(a, sum_path, err);
    if (status == TIDE_OK)
        status = copy_all(a, err);
    if (status == TIDE_OK)
        status = close_slot(a, sum_path, err);
    if (status != TIDE_OK && a->slot.header != NULL)
        slot_void(&a->slot);
    return status;
}

enum tide_status shard_put_together(struct store *store, const struct manifest *whole, const struct stage_target *target, struct err *err)
{
    struct anew a = {.store = store, .whole = whole, .target = target, .fd = -1};
    enum tide_status status = find_wanted(&a, err);
    if (status == TIDE_OK)
        status = tables_take(store, whole, &a.tables, err);
    if (status == TIDE_OK)
        status = reshard_plan_make(a.tables->ranks, a.tables->rank_count, target->rank, a.regions, a.told_count, &a.plan, err);
    if (status == TIDE_OK)
        status = put_together(&a, err);
    release(&a);
    return status;
}
