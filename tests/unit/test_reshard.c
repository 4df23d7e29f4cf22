/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <tidemark/tidemark.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/format/reshard.h"

#define ROUNDS 6000u
#define SOUGHT 8u /* in each of so many */
#define RANKS_MAX 6u
#define SIDE_MAX 7u
#define DIMS_SHAKEN 4u
#define TABLE_MAX 4u
#define WHOLE_MAX (SIDE_MAX * SIDE_MAX * SIDE_MAX * SIDE_MAX * 8u)
#define SHARD_MAX (2u * WHOLE_MAX)
#define ROUGH 64u /* bytes of the replicated region */

/* ---- a world: a tensor, cut into boxes that ranks have; what ranks have besides ---- */

struct world {
    unsigned count;
    struct region_entry tables[RANKS_MAX][TABLE_MAX];
    struct reshard_rank ranks[RANKS_MAX];
    unsigned char data[RANKS_MAX][SHARD_MAX];
};

static void put(struct world *w, unsigned rank, struct region_entry region)
{
    const struct reshard_rank *r = &w->ranks[rank];
    const struct region_entry *last = r->count > 0 ? &w->tables[rank][r->count - 1] : NULL;
    region.offset = last != NULL ? region_end_aligned(last->offset, last->bytes) : 0;
    w->tables[rank][r->count] = region;
    w->ranks[rank] = (struct reshard_rank){.regions = w->tables[rank], .count = r->count + 1};
}

static struct region_entry shard_of(const char *name, unsigned dtype, const struct box *box)
{
    struct region_entry r = {.dtype = dtype, .kind = REGION_SHARD, .bytes = box_volume(box) * dtype_width(dtype)};
    text_copy(r.name, sizeof r.name, name);
    shape_print(box->ndim, box->extent, r.shape);
    shape_print(box->ndim, box->whole, r.whole);
    shape_print(box->ndim, box->at, r.at);
    return r;
}

/* One box after the other is cut in two, somewhere, until there are as many as there are ranks. Some are empty. */
static void cut_up(struct rng *rng, const struct box *whole, struct box *boxes, unsigned count)
{
    boxes[0] = *whole;
    for (unsigned n = 1; n < count; n++) {
        struct box *old = &boxes[rng_below(rng, n)];
        unsigned dim = (unsigned)rng_below(rng, whole->ndim);
        uint64_t left = rng_below(rng, old->extent[dim] + 1);
        boxes[n] = *old;
        boxes[n].at[dim] += left;
        boxes[n].extent[dim] -= left;
        old->extent[dim] = left;
    }
}

/* Where number `index` of the whole, counted row by row, lies in the box; nonzero: not in it. The plain way, number by number. */
static int place_in(const struct box *box, uint64_t index, uint64_t *ret_at)
{
    uint64_t at[TIDE_DIMS_MAX], place = 0;
    for (unsigned i = box->ndim; i-- > 0;) {
        at[i] = index % box->whole[i];
        index /= box->whole[i];
        if (at[i] < box->at[i] || at[i] >= box->at[i] + box->extent[i])
            return -1;
    }
    for (unsigned i = 0; i < box->ndim; i++)
        place = place * box->extent[i] + at[i] - box->at[i];
    *ret_at = place;
    return 0;
}

static unsigned char byte_of(uint64_t number)
{
    return (unsigned char)(number * 0x9e37u >> 5 ^ number);
}

/* What the region must hold, written number by number. */
static void write_plain(const struct region_entry *region, const struct box *whole, unsigned char *data)
{
    struct box box;
    struct err err;
    unsigned width = dtype_width(region->dtype);
    assert_int_equal(region_box(region, &box, &err), TIDE_OK);
    for (uint64_t i = 0, place; i < box_volume(whole); i++)
        if (place_in(&box, i, &place) == 0)
            for (unsigned b = 0; b < width; b++)
                data[region->offset + place * width + b] = byte_of(i * width + b);
}

static struct box random_whole(struct rng *rng)
{
    struct box whole = {.ndim = 1 + (unsigned)rng_below(rng, DIMS_SHAKEN)};
    for (unsigned i = 0; i < whole.ndim; i++)
        whole.whole[i] = whole.extent[i] = rng_below(rng, SIDE_MAX + 1);
    return whole;
}

/* Every rank: something replicated before the shard, and something of its own behind it. */
static void build(struct rng *rng, struct world *w, unsigned count, const struct box *whole, unsigned dtype)
{
    struct box boxes[RANKS_MAX];
    *w = (struct world){.count = count};
    cut_up(rng, whole, boxes, count);
    for (unsigned r = 0; r < count; r++) {
        put(w, r, (struct region_entry){.name = "rough", .kind = REGION_REPLICATED, .bytes = ROUGH + 1});
        put(w, r, shard_of("tensor", dtype, &boxes[r]));
        put(w, r, (struct region_entry){.name = "seed", .kind = REGION_DROPPABLE, .bytes = 8});
    }
}

static void fill_plain(struct world *w, const struct box *whole)
{
    for (unsigned r = 0; r < w->count; r++) {
        memset(w->data[r], 0x5a, ROUGH + 1);
        write_plain(&w->tables[r][1], whole, w->data[r]);
    }
}

/* Copies as the plan says; each byte once. */
static uint64_t carry_out(const struct reshard_plan *plan, const struct world *from, unsigned char *to, unsigned char *times)
{
    uint64_t bytes = 0, last = 0;
    for (size_t i = 0; i < plan->count; i++) {
        struct reshard_cursor cursor;
        struct reshard_run run;
        if (i > 0 && plan->items[i].rank != plan->items[i - 1].rank)
            last = 0;
        reshard_begin(&plan->items[i], &cursor);
        while (reshard_next(&cursor, &run) == 0) {
            assert_true(run.from >= last && run.bytes > 0);
            assert_true(run.from + run.bytes <= SHARD_MAX && run.to + run.bytes <= SHARD_MAX);
            last = run.from + run.bytes;
            memcpy(to + run.to, from->data[plan->items[i].rank] + run.from, run.bytes);
            for (uint64_t b = 0; b < run.bytes; b++)
                assert_int_equal(++times[run.to + b], 1);
            bytes += run.bytes;
        }
    }
    return bytes;
}

/* From wherever it is looked for, the first run that ends behind that is found. */
static void seek_everywhere(const struct reshard_piece *piece)
{
    struct reshard_cursor cursor;
    struct reshard_run run, found = {0};
    uint64_t at = 0;
    reshard_begin(piece, &cursor);
    while (reshard_next(&cursor, &run) == 0)
        for (; at < run.from + run.bytes; at++) {
            struct reshard_cursor sought, next = cursor;
            struct reshard_run then, behind;
            reshard_seek(piece, at, &sought);
            assert_int_equal(reshard_next(&sought, &found), 0);
            assert_memory_equal(&found, &run, sizeof run);
            assert_int_equal(reshard_next(&sought, &then), reshard_next(&next, &behind));
            assert_true(sought.piece == next.piece);
        }
    assert_int_equal(reshard_end(piece), at);
    for (; at < reshard_end(piece) + 9; at++) {
        reshard_seek(piece, at, &cursor);
        assert_int_equal(reshard_next(&cursor, &run), 1);
    }
}

static void a_tensor_is_cut_anew_as_if_number_by_number(void **state)
{
    (void)state;
    static struct world from, to;
    static unsigned char got[SHARD_MAX], times[SHARD_MAX];
    struct rng rng = {.state = 7};
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct box whole = random_whole(&rng);
        unsigned dtype = (unsigned)rng_below(&rng, TIDE_I8 + 1);
        build(&rng, &from, 1 + (unsigned)rng_below(&rng, RANKS_MAX), &whole, dtype);
        build(&rng, &to, 1 + (unsigned)rng_below(&rng, RANKS_MAX), &whole, dtype);
        fill_plain(&from, &whole);
        fill_plain(&to, &whole);
        for (unsigned r = 0; r < to.count; r++) {
            struct reshard_plan plan = {0};
            struct err err = {0};
            memset(got, 0, sizeof got);
            memset(times, 0, sizeof times);
            if (reshard_plan_make(from.ranks, from.count, r, to.ranks[r].regions, to.ranks[r].count, &plan, &err) != TIDE_OK)
                fail_msg("round %u: %s", round, err.text);
            assert_int_equal(carry_out(&plan, &from, got, times), ROUGH + 1 + to.tables[r][1].bytes);
            assert_memory_equal(got, to.data[r], to.tables[r][2].offset);
            for (size_t i = 0; round % SOUGHT == 0 && i < plan.count; i++)
                seek_everywhere(&plan.items[i]);
            reshard_plan_release(&plan);
        }
    }
}

/* ---- what is refused ---- */

static void world_of(struct world *w, unsigned count, uint64_t each, uint64_t whole)
{
    *w = (struct world){.count = count};
    for (unsigned r = 0; r < count; r++)
        put(w, r, shard_of("m", TIDE_F32, &(struct box){.ndim = 1, .whole = {whole}, .at = {r * each}, .extent = {each}}));
}

static enum tide_status plan_of(const struct world *from, const struct region_entry *to, size_t count, char *words)
{
    struct reshard_plan plan = {0};
    struct err err = {0};
    enum tide_status status = reshard_plan_make(from->ranks, from->count, 0, to, count, &plan, &err);
    reshard_plan_release(&plan);
    text_copy(words, ERR_TEXT_MAX, err.text);
    return status;
}

static void refused(const struct world *from, const struct region_entry *to, size_t count, const char *part)
{
    char words[ERR_TEXT_MAX];
    assert_int_equal(plan_of(from, to, count, words), TIDE_E_MISMATCH);
    if (strstr(words, part) == NULL)
        fail_msg("\"%s\" is not in: %s", part, words);
}

static void gaps_and_overlaps_are_refused(void **state)
{
    (void)state;
    static struct world w;
    struct box all = {.ndim = 1, .whole = {12}, .extent = {12}};
    struct region_entry to = shard_of("m", TIDE_F32, &all);
    char words[ERR_TEXT_MAX];
    world_of(&w, 3, 4, 12);
    assert_int_equal(plan_of(&w, &to, 1, words), TIDE_OK);
    w.count = 2;
    refused(&w, &to, 1, "\"m\": of the 12 numbers that rank 0 is to have of it the ranks of the checkpoint had 8");
    w.count = 3;
    text_copy(w.tables[2][0].at, sizeof w.tables[2][0].at, "7");
    refused(&w, &to, 1, "ranks 1 and 2 both have a part of it");
    text_copy(w.tables[2][0].at, sizeof w.tables[2][0].at, "4");
    refused(&w, &to, 1, "had 8"); /* twins, and the last third is nobody's */
    text_copy(w.tables[2][0].whole, sizeof w.tables[2][0].whole, "13");
    refused(&w, &to, 1, "the whole is 12, of 4 bytes each, and it was 13");
    world_of(&w, 3, 4, 12);
    w.tables[1][0].dtype = TIDE_F16;
    w.tables[1][0].bytes = 8;
    refused(&w, &to, 1, "rank 1");
}

/* One shard would be read twice, from its end back to its beginning. */
static void a_region_that_is_registered_twice_is_refused(void **state)
{
    (void)state;
    static struct world w;
    struct box all = {.ndim = 1, .whole = {12}, .extent = {12}};
    struct region_entry to[3] = {shard_of("m", TIDE_F32, &all), shard_of("k", TIDE_F32, &all), shard_of("m", TIDE_F32, &all)};
    world_of(&w, 3, 4, 12);
    refused(&w, to, 3, "\"m\" is registered twice");
}

static void ranks_that_have_the_same_shard_are_asked_in_turns(void **state)
{
    (void)state;
    static struct world w;
    struct box all = {.ndim = 1, .whole = {4}, .extent = {4}};
    struct region_entry to = shard_of("m", TIDE_F32, &all);
    unsigned asked[RANKS_MAX] = {0};
    world_of(&w, 4, 4, 16);
    for (unsigned r = 0; r < 4; r++)
        w.tables[r][0] = to;
    for (uint32_t rank = 0; rank < 8; rank++) {
        struct reshard_plan plan = {0};
        struct err err = {0};
        assert_int_equal(reshard_plan_make(w.ranks, w.count, rank, &to, 1, &plan, &err), TIDE_OK);
        assert_int_equal(plan.count, 1);
        asked[plan.items[0].rank]++;
        reshard_plan_release(&plan);
    }
    for (unsigned r = 0; r < 4; r++)
        assert_int_equal(asked[r], 2);
}

/* Also behind or before its place in another table, and in a longer or a shorter one. */
static void a_region_is_found_wherever_it_stands(void **state)
{
    (void)state;
    static struct world w;
    w = (struct world){.count = 1};
    for (unsigned i = 0; i < TABLE_MAX; i++)
        put(&w, 0, (struct region_entry){.name = {(char)('a' + (int)i)}, .kind = i > 0 ? REGION_REPLICATED : REGION_DROPPABLE, .bytes = 8});
    for (unsigned turn = 0; turn < TABLE_MAX; turn++)
        for (unsigned left_out = 0; left_out < 2; left_out++) { /* the droppable one */
            struct region_entry to[TABLE_MAX];
            struct reshard_plan plan = {0};
            struct err err = {0};
            unsigned count = 0;
            for (unsigned i = 0; i < TABLE_MAX; i++) {
                to[count] = w.tables[0][(i + turn) % TABLE_MAX];
                to[count].offset = 1000 + w.tables[0][(i + turn) % TABLE_MAX].offset;
                count += left_out == 0 || to[count].kind != REGION_DROPPABLE;
            }
            if (reshard_plan_make(w.ranks, 1, 0, to, count, &plan, &err) != TIDE_OK)
                fail_msg("turned by %u: %s", turn, err.text);
            assert_int_equal(plan.count, TABLE_MAX - 1);
            for (size_t i = 0; i < plan.count; i++)
                assert_int_equal(plan.items[i].to, 1000 + plan.items[i].from);
            reshard_plan_release(&plan);
        }
}

static void what_is_no_part_of_a_whole_is_refused(void **state)
{
    (void)state;
    static struct world w;
    static const struct region_entry same = {.name = "r", .kind = REGION_REPLICATED, .bytes = 8}, own = {.name = "r", .bytes = 8},
                                     droppable = {.name = "r", .kind = REGION_DROPPABLE, .bytes = 8};
    struct box all = {.ndim = 1, .whole = {8}, .extent = {8}};
    struct region_entry shard = shard_of("r", TIDE_BYTES, &all), longer = same;
    char words[ERR_TEXT_MAX];
    w = (struct world){.count = 2};
    put(&w, 0, same);
    put(&w, 1, same);
    refused(&w, &own, 1, "\"r\" is each rank's own");
    refused(&w, &shard, 1, "is a shard here, and was none when rank 0 recorded it");
    longer.bytes = 16;
    refused(&w, &longer, 1, "has 8 bytes of rank 0 and 16 here");
    refused(&w, NULL, 0, "which is not registered");
    assert_int_equal(plan_of(&w, &droppable, 1, words), TIDE_OK);
    w.tables[1][0] = own;
    refused(&w, &same, 1, "was not when rank 1 recorded it");
    w.ranks[1].count = 0;
    refused(&w, &same, 1, "rank 1 has none");
    w.ranks[1].count = 1;
    w.tables[1][0] = w.tables[0][0] = droppable;
    assert_int_equal(plan_of(&w, NULL, 0, words), TIDE_OK);
    refused(&w, &own, 1, "each rank's own");
    w.count = 0;
    refused(&w, &same, 1, "0 ranks");
}

static void messages_under_way_are_nobody_elses(void **state)
{
    (void)state;
    static struct world w;
    static const struct region_entry same = {.name = "r", .kind = REGION_REPLICATED, .bytes = 8};
    char words[ERR_TEXT_MAX];
    w = (struct world){.count = 1};
    put(&w, 0, same);
    put(&w, 0, (struct region_entry){.name = "tidemark.channel"});
    assert_int_equal(plan_of(&w, &same, 1, words), TIDE_OK);
    w.tables[0][1].bytes = 1;
    refused(&w, &same, 1, "messages under way");
}

static void boxes_are_judged(void **state)
{
    (void)state;
    struct err err = {0};
    struct box box = {.ndim = 2, .whole = {4, 6}, .at = {2, 0}, .extent = {2, 6}};
    assert_int_equal(box_check(&box, TIDE_F32, 48, &err), TIDE_OK);
    assert_int_equal(box_check(&box, TIDE_F32, 47, &err), TIDE_E_INVALID);
    box.at[0] = 3;
    assert_int_equal(box_check(&box, TIDE_F32, 48, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, "dimension 0"));
    box.at[0] = UINT64_MAX;
    assert_int_equal(box_check(&box, TIDE_F32, 48, &err), TIDE_E_INVALID);
    box = (struct box){.ndim = 3, .whole = {UINT64_MAX, UINT64_MAX, 0}, .extent = {1, 1, 0}};
    assert_int_equal(box_check(&box, TIDE_F32, 0, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, "2^63"));
    box = (struct box){.ndim = 0};
    assert_int_equal(box_check(&box, TIDE_F32, 4, &err), TIDE_E_INVALID);
    box.ndim = TIDE_DIMS_MAX + 1;
    assert_int_equal(box_check(&box, TIDE_F32, 4, &err), TIDE_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tensor_is_cut_anew_as_if_number_by_number),
        cmocka_unit_test(gaps_and_overlaps_are_refused),
        cmocka_unit_test(a_region_that_is_registered_twice_is_refused),
        cmocka_unit_test(ranks_that_have_the_same_shard_are_asked_in_turns),
        cmocka_unit_test(a_region_is_found_wherever_it_stands),
        cmocka_unit_test(what_is_no_part_of_a_whole_is_refused),
        cmocka_unit_test(messages_under_way_are_nobody_elses),
        cmocka_unit_test(boxes_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
