/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/reshard.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"

struct making {
    const struct reshard_rank *from;
    size_t from_count;
    uint32_t rank; /* of the new world */
    struct reshard_plan plan;
    size_t room;
    struct err *err;
};

/* What a rank has of one shard, where it meets what the new one has. */
struct meeting {
    uint32_t rank;
    const struct region_entry *region;
    struct box box, both;
};

static int is_ours(const char *name)
{
    return strncmp(name, REGION_RESERVED_PREFIX, strlen(REGION_RESERVED_PREFIX)) == 0;
}

/* `hint`: where to look first, and from there on to both sides: tables of a program's ranks are mostly alike, but for some that are
 * elsewhere in one or not there, so that others are a few places off. */
static const struct region_entry *named(const struct region_entry *regions, size_t count, const char *name, size_t hint)
{
    for (size_t off = 0; off <= hint || hint + off < count; off++) {
        if (hint + off < count && strcmp(regions[hint + off].name, name) == 0)
            return &regions[hint + off];
        if (off <= hint && hint - off < count && strcmp(regions[hint - off].name, name) == 0)
            return &regions[hint - off];
    }
    return NULL;
}

static enum tide_status add(struct making *m, const struct reshard_piece *piece)
{
    if (m->plan.count == RESHARD_PIECES_MAX)
        return err_set(m->err, TIDE_E_LIMIT, "rank %u would be put together from more than %u pieces", m->rank, RESHARD_PIECES_MAX);
    if (m->plan.count == m->room) {
        size_t room = m->room ? m->room * 2 : 64;
        struct reshard_piece *more = mem_try_array(room, sizeof *more);
        if (more == NULL)
            return err_set(m->err, TIDE_E_NOMEM, "no memory for a plan of %zu pieces", room);
        if (m->plan.count > 0)
            memcpy(more, m->plan.items, m->plan.count * sizeof *more);
        mem_free(m->plan.items);
        m->plan.items = more;
        m->room = room;
    }
    m->plan.items[m->plan.count++] = *piece;
    return TIDE_OK;
}

/* ---- regions that are the same everywhere ---- */

static enum tide_status check_same(struct making *m, const struct region_entry *to, const struct region_entry *has, uint32_t rank)
{
    if (has == NULL)
        return err_set(m->err, TIDE_E_MISMATCH, "region \"%s\" is replicated, and rank %u has none in the checkpoint", to->name, rank);
    if (has->kind != to->kind)
        return err_set(m->err, TIDE_E_MISMATCH, "region \"%s\" is replicated here, and was not when rank %u recorded it", to->name, rank);
    if (has->bytes != to->bytes)
        return err_set(m->err, TIDE_E_MISMATCH, "region \"%s\" is replicated, and has %" PRIu64 " bytes of rank %u and %" PRIu64 " here",
                       to->name, has->bytes, rank, to->bytes);
    return TIDE_OK;
}

static enum tide_status plan_replicated(struct making *m, const struct region_entry *to, size_t hint)
{
    uint32_t source = m->rank % (uint32_t)m->from_count;
    for (uint32_t r = 0; r < m->from_count; r++) {
        const struct region_entry *has = named(m->from[r].regions, m->from[r].count, to->name, hint);
        enum tide_status status = check_same(m, to, has, r);
        if (status == TIDE_OK && r == source && to->bytes > 0)
            status = add(m, &(struct reshard_piece){.rank = r, .from = has->offset, .to = to->offset, .run_bytes = to->bytes});
        if (status != TIDE_OK)
            return status;
    }
    return TIDE_OK;
}

/* ---- shards ---- */

static uint64_t offset_in(const struct box *outer, const struct box *inner, const uint64_t *stride)
{
    uint64_t offset = 0;
    for (unsigned i = 0; i < outer->ndim; i++)
        offset += (inner->at[i] - outer->at[i]) * stride[i];
    return offset;
}

static void strides(const struct box *box, uint64_t width, uint64_t *to)
{
    uint64_t stride = width;
    for (unsigned i = box->ndim; i-- > 0;) {
        to[i] = stride;
        stride *= box->extent[i];
    }
}

/* Dimensions that are whole on both sides go with the one outside of them: fewer, longer runs. */
static struct reshard_piece piece_of(const struct meeting *at, const struct box *mine, const struct region_entry *to)
{
    struct reshard_piece piece = {.rank = at->rank, .ndim = mine->ndim, .run_bytes = dtype_width(to->dtype)};
    strides(&at->box, piece.run_bytes, piece.from_stride);
    strides(mine, piece.run_bytes, piece.to_stride);
    piece.from = at->region->offset + offset_in(&at->box, &at->both, piece.from_stride);
    piece.to = to->offset + offset_in(mine, &at->both, piece.to_stride);
    memcpy(piece.extent, at->both.extent, sizeof piece.extent);
    int goes_on = 1;
    while (goes_on && piece.ndim > 0) {
        unsigned i = --piece.ndim;
        piece.run_bytes *= at->both.extent[i];
        goes_on = at->both.extent[i] == at->box.extent[i] && at->both.extent[i] == mine->extent[i];
    }
    return piece;
}

static enum tide_status check_shard(struct making *m, const struct region_entry *to, const struct box *mine, const struct meeting *at)
{
    if (at->region->kind != REGION_SHARD)
        return err_set(m->err, TIDE_E_MISMATCH, "region \"%s\" is a shard here, and was none when rank %u recorded it", to->name, at->rank);
    if (dtype_width(at->region->dtype) != dtype_width(to->dtype) || !box_same_whole(&at->box, mine))
        return err_set(m->err, TIDE_E_MISMATCH,
                       "region \"%s\": the whole is %s, of %u bytes each, and it was %s, of %u bytes each, when rank %u recorded it",
                       to->name, to->whole, dtype_width(to->dtype), at->region->whole, dtype_width(at->region->dtype), at->rank);
    return TIDE_OK;
}

static enum tide_status find_meetings(struct making *m, const struct region_entry *to, const struct box *mine, size_t hint,
                                      struct meeting *meetings, size_t *ret_count)
{
    size_t count = 0;
    for (uint32_t r = 0; r < m->from_count; r++) {
        struct meeting at = {.rank = r, .region = named(m->from[r].regions, m->from[r].count, to->name, hint)};
        if (at.region == NULL)
            continue; /* not every rank has a part of everything */
        if (at.region->kind == REGION_SHARD && region_box(at.region, &at.box, m->err) != TIDE_OK)
            return err_wrap(m->err, "region \"%s\" of rank %u", to->name, r);
        enum tide_status status = check_shard(m, to, mine, &at);
        if (status != TIDE_OK)
            return status;
        if (box_meet(&at.box, mine, &at.both))
            meetings[count++] = at;
    }
    *ret_count = count;
    return TIDE_OK;
}

/* Of those that have the very same box as meetings[first], the first of them, one: the new ranks take turns. */
static struct meeting take_turn(const struct making *m, const struct meeting *meetings, size_t first, size_t count)
{
    size_t twins = 0;
    for (size_t i = first; i < count; i++)
        twins += box_equal(&meetings[i].box, &meetings[first].box) != 0;
    size_t left = m->rank % twins;
    for (size_t i = first; i < count; i++)
        if (box_equal(&meetings[i].box, &meetings[first].box) && left-- == 0)
            return meetings[i];
    return meetings[first];
}

/* Ranks that have the very same box have the same bytes: one of them is asked. Else nothing may be there twice. */
static enum tide_status settle(struct making *m, const struct region_entry *to, struct meeting *meetings, size_t *count)
{
    size_t kept = 0;
    for (size_t i = 0; i < *count; i++) {
        struct box both;
        int is_twin = 0;
        for (size_t k = 0; k < kept && !is_twin; k++) {
            is_twin = box_equal(&meetings[k].box, &meetings[i].box);
            if (!is_twin && box_meet(&meetings[k].both, &meetings[i].both, &both))
                return err_set(m->err, TIDE_E_MISMATCH, "region \"%s\": ranks %u and %u both have a part of it, and not the same shard",
                               to->name, meetings[k].rank, meetings[i].rank);
        }
        if (!is_twin)
            meetings[kept++] = take_turn(m, meetings, i, *count);
    }
    *count = kept;
    return TIDE_OK;
}

static enum tide_status plan_met(struct making *m, const struct region_entry *to, const struct box *mine, struct meeting *meetings,
                                 size_t count)
{
    uint64_t got = 0;
    enum tide_status status = settle(m, to, meetings, &count);
    for (size_t i = 0; status == TIDE_OK && i < count; i++)
        got += box_volume(&meetings[i].both);
    if (status == TIDE_OK && got != box_volume(mine))
        status = err_set(m->err, TIDE_E_MISMATCH,
                         "region \"%s\": of the %" PRIu64 " numbers that rank %u is to have of it the ranks of the checkpoint had %" PRIu64,
                         to->name, box_volume(mine), m->rank, got);
    for (size_t i = 0; status == TIDE_OK && i < count; i++) {
        struct reshard_piece piece = piece_of(&meetings[i], mine, to);
        status = add(m, &piece);
    }
    return status;
}

static enum tide_status plan_shard(struct making *m, const struct region_entry *to, size_t hint)
{
    struct box mine;
    size_t count = 0;
    if (region_box(to, &mine, m->err) != TIDE_OK)
        return err_wrap(m->err, "region \"%s\"", to->name);
    struct meeting *meetings = mem_try_array(m->from_count, sizeof *meetings);
    if (meetings == NULL)
        return err_set(m->err, TIDE_E_NOMEM, "no memory to look at the shards of %zu ranks", m->from_count);
    enum tide_status status = find_meetings(m, to, &mine, hint, meetings, &count);
    if (status == TIDE_OK)
        status = plan_met(m, to, &mine, meetings, count);
    mem_free(meetings);
    return status;
}

/* ---- the whole table ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What is told of a rank's regions comes from its memory. Of two of a name both would be made of the same shards. */
static enum tide_status check_names(struct making *m, const struct region_entry *to, size_t to_count)
{
    const char **names = mem_try_array(to_count, sizeof *names);
    enum tide_status status = TIDE_OK;
    if (names == NULL && to_count > 0)
        return err_set(m->err, TIDE_E_NOMEM, "no memory to look at %zu regions", to_count);
    for (size_t i = 0; i < to_count; i++)
        names[i] = to[i].name;
    if (to_count > 0)
        qsort(names, to_count, sizeof *names, by_name);
    for (size_t i = 1; i < to_count && status == TIDE_OK; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            status = err_set(m->err, TIDE_E_MISMATCH, "region \"%s\" is registered twice", names[i]);
    mem_free(names);
    return status;
}

static enum tide_status plan_region(struct making *m, const struct region_entry *to, size_t hint)
{
    switch (to->kind) {
    case REGION_REPLICATED:
        return plan_replicated(m, to, hint);
    case REGION_SHARD:
        return plan_shard(m, to, hint);
    case REGION_DROPPABLE:
        return TIDE_OK;
    default:
        return err_set(m->err, TIDE_E_MISMATCH,
                       "region \"%s\" is each rank's own, so that only as many ranks as made the checkpoint can be restored: %zu; register "
                       "it as TIDE_REPLICATED, TIDE_SHARD or TIDE_DROPPABLE, or run with as many",
                       to->name, m->from_count);
    }
}

/* Nothing of the checkpoint is lost on the way. */
static enum tide_status check_left(struct making *m, const struct region_entry *to, size_t to_count, uint32_t rank,
                                   const struct region_entry *has, size_t hint)
{
    if (is_ours(has->name) && has->bytes == 0)
        return TIDE_OK;
    if (is_ours(has->name))
        return err_set(m->err, TIDE_E_MISMATCH,
                       "rank %u had messages under way to it (\"%s\"), which only as many ranks as made the checkpoint can take: %zu", rank,
                       has->name, m->from_count);
    const struct region_entry *now = named(to, to_count, has->name, hint);
    if (now == NULL && has->kind != REGION_DROPPABLE)
        return err_set(m->err, TIDE_E_MISMATCH, "the checkpoint holds region \"%s\" of rank %u, which is not registered", has->name, rank);
    return TIDE_OK;
}

static int by_source(const void *a, const void *b)
{
    const struct reshard_piece *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return x->from < y->from ? -1 : x->from > y->from;
}

enum tide_status reshard_plan_make(const struct reshard_rank *from, size_t from_count, uint32_t rank, const struct region_entry *to,
                                   size_t to_count, struct reshard_plan *ret_plan, struct err *err)
{
    struct making m = {.from = from, .from_count = from_count, .rank = rank, .err = err};
    enum tide_status status = from_count > 0 && from_count <= TIDE_RANKS_MAX
                                  ? TIDE_OK
                                  : err_set(err, TIDE_E_MISMATCH, "a checkpoint of %zu ranks cannot be restored", from_count);
    if (status == TIDE_OK)
        status = check_names(&m, to, to_count);
    for (size_t i = 0; status == TIDE_OK && i < to_count; i++)
        status = plan_region(&m, &to[i], i);
    for (uint32_t r = 0; status == TIDE_OK && r < from_count; r++)
        for (size_t i = 0; status == TIDE_OK && i < from[r].count; i++)
            status = check_left(&m, to, to_count, r, &from[r].regions[i], i);
    if (status != TIDE_OK) {
        reshard_plan_release(&m.plan);
        return status;
    }
    if (m.plan.count > 0)
        qsort(m.plan.items, m.plan.count, sizeof *m.plan.items, by_source);
    *ret_plan = m.plan;
    return TIDE_OK;
}

void reshard_plan_release(struct reshard_plan *plan)
{
    mem_free(plan->items);
    *plan = (struct reshard_plan){0};
}

/* ---- runs ---- */

void reshard_begin(const struct reshard_piece *piece, struct reshard_cursor *ret_cursor)
{
    *ret_cursor = (struct reshard_cursor){.piece = piece};
}

/* To the run behind it. */
static void advance(struct reshard_cursor *cursor)
{
    for (unsigned i = cursor->piece->ndim; i-- > 0;) {
        if (++cursor->index[i] < cursor->piece->extent[i])
            return;
        cursor->index[i] = 0;
    }
    cursor->piece = NULL;
}

int reshard_next(struct reshard_cursor *cursor, struct reshard_run *ret_run)
{
    const struct reshard_piece *piece = cursor->piece;
    if (piece == NULL)
        return 1;
    *ret_run = (struct reshard_run){.from = piece->from, .to = piece->to, .bytes = piece->run_bytes};
    for (unsigned i = 0; i < piece->ndim; i++) {
        ret_run->from += cursor->index[i] * piece->from_stride[i];
        ret_run->to += cursor->index[i] * piece->to_stride[i];
    }
    advance(cursor);
    return 0;
}

void reshard_seek(const struct reshard_piece *piece, uint64_t from, struct reshard_cursor *ret_cursor)
{
    uint64_t rest = from > piece->from ? from - piece->from : 0;
    reshard_begin(piece, ret_cursor);
    for (unsigned i = 0; i < piece->ndim; i++) {
        uint64_t step = rest / piece->from_stride[i];
        if (step >= piece->extent[i]) { /* behind the last of them, and more than a run behind it */
            for (; i < piece->ndim; i++)
                ret_cursor->index[i] = piece->extent[i] - 1;
            break;
        }
        ret_cursor->index[i] = step;
        rest -= step * piece->from_stride[i];
    }
    if (rest >= piece->run_bytes)
        advance(ret_cursor);
}

uint64_t reshard_end(const struct reshard_piece *piece)
{
    uint64_t end = piece->from + piece->run_bytes;
    for (unsigned i = 0; i < piece->ndim; i++)
        end += (piece->extent[i] - 1) * piece->from_stride[i];
    return end;
}
