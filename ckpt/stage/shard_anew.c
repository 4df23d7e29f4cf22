/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/format/reshard.h"
#include "ckpt/stage/shard.h"
#include "ckpt/stage/stage.h"
#include "ckpt/stage/tables.h"
#include "ckpt/stage/unpack.h"
#include "ckpt/stage/want.h"

/* The shard of a rank of another world: what it is to hold is told by the rank, what there is by the manifests of all that made the
 * checkpoint. One of those ranks is read after the other, of each the chunks that are needed, by several threads (unpack.h). Of a chunk of
 * the new slot it is counted how many bytes are missing yet: who brings the last ones takes its digest, while they lie in a cache. */

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
    struct shard_reader last; /* reads nothing: it keeps the memory that one rank after the other is read to */
    struct slot slot;
    arena_path path; /* its file */
    int fd;          /* -1: not open */
    uint64_t data;   /* where the data begins in it; what the header says others may write */
    struct digest *chunks;  /* of the slot */
    atomic_uint *missing;   /* bytes of each chunk */
};

static void release(struct anew *a)
{
    if (a->fd >= 0)
        close(a->fd);
    shard_reader_release(&a->last);
    tables_give(a->tables);
    mem_free(a->regions);
    mem_free(a->chunks);
    mem_free(a->missing);
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

/* One rank that made the checkpoint. */
struct source {
    struct anew *a;
    struct shard_reader reader;
    const struct reshard_piece *pieces; /* of it, which lie one behind the other there */
    size_t count;
};

/* The first piece that ends behind `from`; count: none does. */
static size_t piece_behind(const struct source *s, uint64_t from)
{
    size_t low = 0, high = s->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (reshard_end(&s->pieces[middle]) > from)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The runs of all pieces that have a part in one chunk, each cut to that part. */
struct parts {
    const struct source *source;
    uint64_t begin, end; /* of the chunk */
    size_t piece;
    struct reshard_cursor cursor;
};

static struct parts parts_of(const struct source *s, uint64_t index)
{
    const uint64_t begin = index * CHUNK_BYTES;
    struct parts parts = {.source = s, .begin = begin, .end = begin + chunk_raw_bytes(s->reader.manifest->data_bytes, index)};
    parts.piece = piece_behind(s, begin);
    if (parts.piece < s->count)
        reshard_seek(&s->pieces[parts.piece], begin, &parts.cursor);
    return parts;
}

/* Nonzero unless there is none left. */
static int parts_next(struct parts *parts, struct reshard_run *ret_part)
{
    const struct source *s = parts->source;
    struct reshard_run run;
    for (; parts->piece < s->count; reshard_begin(&s->pieces[parts->piece], &parts->cursor)) {
        if (reshard_next(&parts->cursor, &run) == 0) {
            uint64_t skipped = run.from < parts->begin ? parts->begin - run.from : 0, end = run.from + run.bytes;
            if (run.from >= parts->end)
                return 1;
            ret_part->from = run.from + skipped;
            ret_part->to = run.to + skipped;
            ret_part->bytes = (end < parts->end ? end : parts->end) - ret_part->from;
            return 0;
        }
        if (++parts->piece == s->count)
            break;
    }
    return 1;
}

static uint64_t next_wanted(void *context, uint64_t index)
{
    const struct source *s = context;
    const uint64_t from = index <= RANK_CHUNKS_MAX ? index * CHUNK_BYTES : UINT64_MAX;
    struct reshard_cursor cursor;
    struct reshard_run run;
    size_t piece = piece_behind(s, from);
    if (piece == s->count)
        return UINT64_MAX;
    reshard_seek(&s->pieces[piece], from, &cursor);
    return reshard_next(&cursor, &run) == 0 && run.from > from ? run.from / CHUNK_BYTES : index;
}

/* Nonzero: it cannot be written. */
static int put_bytes(const struct anew *a, uint64_t to, const unsigned char *from, uint64_t bytes)
{
    if (bytes >= RUN_FILE_MIN)
        return !fsx_pwrite_all(a->fd, from, (size_t)bytes, a->data + to);
    memcpy(a->slot.data + to, from, (size_t)bytes);
    return 0;
}

/* So many bytes of one chunk of the slot are there. */
static void arrived(struct anew *a, uint64_t chunk, uint32_t bytes)
{
    if (bytes > 0 && atomic_fetch_sub(&a->missing[chunk], bytes) == bytes)
        a->chunks[chunk] = digest_of(a->slot.data + chunk * CHUNK_BYTES, chunk_raw_bytes(a->data_bytes, chunk));
}

/* What was put from that chunk. */
static void count_arrived(struct anew *a, const struct source *s, uint64_t index)
{
    struct parts parts = parts_of(s, index);
    struct reshard_run part;
    uint64_t chunk = 0;
    uint32_t bytes = 0;
    while (parts_next(&parts, &part) == 0)
        for (uint64_t at = part.to, end = part.to + part.bytes, next; at < end; at = next) {
            next = (at / CHUNK_BYTES + 1) * CHUNK_BYTES < end ? (at / CHUNK_BYTES + 1) * CHUNK_BYTES : end;
            if (at / CHUNK_BYTES != chunk) {
                arrived(a, chunk, bytes);
                bytes = 0;
            }
            chunk = at / CHUNK_BYTES;
            bytes += (uint32_t)(next - at);
        }
    arrived(a, chunk, bytes);
}

/* Counted when all of it is there, so that it may be put twice. */
static int put_chunk(void *context, uint64_t index, const unsigned char *bytes, struct digest digest)
{
    const struct source *s = context;
    struct parts parts = parts_of(s, index);
    struct reshard_run part;
    (void)digest;
    while (parts_next(&parts, &part) == 0)
        if (put_bytes(s->a, part.to, bytes + (part.from - parts.begin), part.bytes) != 0)
            return -1;
    count_arrived(s->a, s, index);
    return 0;
}

static enum tide_status put_alone(void *context, uint64_t index, struct err *err)
{
    struct source *s = context;
    const unsigned char *bytes;
    struct digest digest;
    enum tide_status status = shard_read_chunk(&s->reader, index, &bytes, &digest, err);
    shard_blame(s->a->target->watch, s->reader.manifest, index, status);
    shard_unread(s->a->target->watch, status);
    if (status == TIDE_OK && put_chunk(context, index, bytes, digest) != 0)
        status = err_errno(err, "cannot write slot %s", s->a->path);
    return status;
}

/* All pieces of one rank, which lie one behind the other in the plan. */
static enum tide_status copy_rank(struct anew *a, const struct rank_manifest *m, size_t first, size_t end, struct err *err)
{
    struct source from = {.a = a, .pieces = &a->plan.items[first], .count = end - first};
    const struct unpack_work work = {.reader = &from.reader, .use = put_chunk, .alone = put_alone, .context = &from};
    enum tide_status status = shard_reader_init(&from.reader, a->store, m, err);
    if (status != TIDE_OK)
        return status;
    from.reader.wanted = next_wanted;
    from.reader.context = &from;
    shard_reader_hand_on(&a->last, &from.reader);
    status = unpack(&work, err);
    shard_reader_hand_on(&from.reader, &a->last);
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
        shard_unread(a->target->watch, status);
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

/* The plan gives every byte of a region once; the gaps between them are there from the beginning. */
static enum tide_status expect_chunks(struct anew *a, struct err *err)
{
    const uint64_t count = chunks_of(a->data_bytes);
    a->data = (uint64_t)(a->slot.data - (unsigned char *)a->slot.header);
    a->chunks = mem_try_array((size_t)count, sizeof *a->chunks);
    a->missing = mem_try_array((size_t)count, sizeof *a->missing);
    if (a->chunks == NULL || a->missing == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for the digests of %" PRIu64 " bytes", a->data_bytes);
    for (uint32_t i = 0; i < a->region_count; i++) {
        const uint64_t end = a->regions[i].offset + a->regions[i].bytes;
        for (uint64_t at = a->regions[i].offset, next; at < end; at = next) {
            next = (at / CHUNK_BYTES + 1) * CHUNK_BYTES < end ? (at / CHUNK_BYTES + 1) * CHUNK_BYTES : end;
            atomic_fetch_add(&a->missing[at / CHUNK_BYTES], (unsigned)(next - at));
        }
    }
    return TIDE_OK;
}

static enum tide_status all_arrived(const struct anew *a, struct err *err)
{
    for (uint64_t i = 0; i < chunks_of(a->data_bytes); i++)
        if (atomic_load(&a->missing[i]) != 0)
            return err_set(err, TIDE_E_MISMATCH, "of chunk %" PRIu64 " of the new slot of rank %u bytes are missing", i, a->target->rank);
    return TIDE_OK;
}

static enum tide_status close_slot(struct anew *a, const char *sum_path, struct err *err)
{
    struct slot_header facts = {.rank = a->target->rank,
                                .generation = a->whole->generation,
                                .cut = a->whole->cut,
                                .attempt = 1,
                                .world_size = a->target->world_size,
                                .step = a->tables->step,
                                .region_count = a->region_count,
                                .data_offset = a->data,
                                .data_bytes = a->data_bytes,
                                .parts = a->slot.header->parts};
    struct slot_sum sum;
    text_copy(facts.job_uid, sizeof facts.job_uid, uid_of(a));
    enum tide_status status = all_arrived(a, err);
    if (status != TIDE_OK)
        return status;
    struct digest *chunks = a->chunks;
    a->chunks = NULL; /* they are the sum's */
    status = slot_sum_assemble(&facts, a->slot.regions, chunks, &sum, err);
    if (status != TIDE_OK)
        return status;
    status = slot_sum_save(sum_path, &sum, err);
    slot_sum_release(&sum);
    if (status == TIDE_OK)
        slot_finish(&a->slot, &facts);
    return status;
}

static enum tide_status put_together(struct anew *a, struct err *err)
{
    arena_path sum_path;
    slot_path(a->target->arena, a->target->rank, a->target->slot, a->path);
    slot_sum_path(a->target->arena, a->target->rank, a->target->slot, sum_path);
    enum tide_status status = open_slot(a, sum_path, err);
    if (status == TIDE_OK)
        status = expect_chunks(a, err);
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
    if (status == TIDE_OK) {
        status = tables_take(store, whole, &a.tables, err);
        shard_unread(target->watch, status);
    }
    if (status == TIDE_OK)
        status = reshard_plan_make(a.tables->ranks, a.tables->rank_count, target->rank, a.regions, a.told_count, &a.plan, err);
    if (status == TIDE_OK)
        status = put_together(&a, err);
    release(&a);
    return status;
}
