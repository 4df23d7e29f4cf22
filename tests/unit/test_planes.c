/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <tidemark/tidemark.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/format/segment.h"

#define GUARD 0xa5
#define NUMBERS_MAX 300u
#define ROOM (NUMBERS_MAX * PLANES_MAX + 64)

static void random_fill(struct rng *rng, unsigned char *to, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (unsigned char)rng_next(rng);
}

/* Planes anywhere in memory, with a byte between each two that must stay as it is. */
static void split_and_merge(struct rng *rng, unsigned width, size_t count)
{
    static unsigned char raw[ROOM], planes[ROOM], back[ROOM];
    unsigned char *to[PLANES_MAX];
    const unsigned char *from[PLANES_MAX];
    size_t shift = rng_below(rng, 16);
    random_fill(rng, raw, sizeof raw);
    memset(planes, GUARD, sizeof planes);
    memset(back, GUARD, sizeof back);
    for (unsigned p = 0; p < width; p++)
        from[p] = to[p] = planes + shift + p * (count + 1) + 1;
    planes_split(raw + shift, count, width, to);
    for (unsigned p = 0; p < width; p++) {
        assert_int_equal(to[p][-1], GUARD);
        assert_int_equal(to[p][count], GUARD);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(to[p][i], raw[shift + i * width + p]);
    }
    planes_merge(from, count, width, back + shift);
    assert_memory_equal(back + shift, raw + shift, count * width);
    for (size_t i = 0; i < ROOM; i++)
        if (i < shift || i >= shift + count * width)
            assert_int_equal(back[i], GUARD);
}

static void planes_hold_the_bytes_of_each_number(void **state)
{
    (void)state;
    struct rng rng = {.state = 3};
    for (unsigned width = 1; width <= PLANES_MAX; width *= 2) {
        assert_true(planes_width_valid(width));
        for (size_t count = 0; count <= NUMBERS_MAX; count++)
            split_and_merge(&rng, width, count);
    }
    assert_false(planes_width_valid(0) || planes_width_valid(3) || planes_width_valid(6) || planes_width_valid(16));
}

/* ---- plans ---- */

static const unsigned widths[] = {1, 8, 4, 2, 2, 1, 8, 4, 2, 1};

static void add_region(struct rank_manifest *m, unsigned dtype, uint64_t bytes)
{
    struct region_entry *r = codec_list_add(&region_entry_codec, &m->regions);
    *r = (struct region_entry){.name = "r", .dtype = dtype, .offset = m->data_bytes, .bytes = bytes};
    m->data_bytes = region_end_aligned(r->offset, bytes);
}

/* The width where byte `at` of the shard should be, were no segment too short for itself. */
static unsigned width_at(const struct rank_manifest *m, uint64_t at)
{
    for (size_t i = 0; i < m->regions.count; i++) {
        const struct region_entry *r = &m->regions.items[i];
        if (at < region_end_aligned(r->offset, r->bytes))
            return widths[r->dtype];
    }
    return 0;
}

static void check_plan(const struct rank_manifest *m, uint64_t index, const struct segments *s)
{
    uint64_t at = index * FORMAT_CHUNK_BYTES, end = at + chunk_raw_bytes(m->data_bytes, index);
    assert_in_range(s->count, 1, SEGMENTS_MAX);
    for (uint32_t i = 0; i < s->count; i++) {
        assert_true(planes_width_valid(s->items[i].width));
        assert_true(s->items[i].bytes > 0 && s->items[i].bytes % FORMAT_REGION_ALIGN == 0);
        assert_true(i == 0 || s->items[i].bytes >= SEGMENT_BYTES_MIN);
        assert_int_equal(s->items[i].width, width_at(m, at));
        at += s->items[i].bytes;
    }
    assert_true(at == end);
}

static void plans_follow_the_regions(void **state)
{
    (void)state;
    struct rng rng = {.state = 8};
    for (int round = 0; round < 300; round++) {
        struct rank_manifest m = {0};
        uint64_t most = (uint64_t)1 << (4 + rng_below(&rng, 18)), regions = 1 + rng_below(&rng, most > 50000 ? 12 : 600);
        for (uint64_t i = 0; i < regions; i++)
            add_region(&m, (unsigned)rng_below(&rng, 10), rng_below(&rng, most));
        size_t cursor = 0;
        struct segments segments;
        for (uint64_t i = 0; i < chunks_of(m.data_bytes); i++) {
            segments_plan(&m, i, &cursor, &segments);
            check_plan(&m, i, &segments);
        }
        codec_release(&rank_manifest_codec, &m);
    }
}

/* A table of regions that a broken program made: whatever it says, each chunk is covered, by numbers that are whole. */
static void wrong_regions_are_covered_all_the_same(void **state)
{
    (void)state;
    struct rng rng = {.state = 9};
    for (int round = 0; round < 2000; round++) {
        struct rank_manifest m = {.data_bytes = 1 + rng_below(&rng, 3 * FORMAT_CHUNK_BYTES)};
        for (uint64_t i = rng_below(&rng, 20); i > 0; i--) {
            struct region_entry *r = codec_list_add(&region_entry_codec, &m.regions);
            unsigned shift = (unsigned)(rng_below(&rng, 4) ? 43 : rng_below(&rng, 63));
            *r = (struct region_entry){
                .dtype = (unsigned)rng_below(&rng, 14), .offset = rng_next(&rng) >> shift, .bytes = rng_next(&rng) >> shift};
        }
        size_t cursor = 0;
        struct segments s;
        for (uint64_t i = 0; i < chunks_of(m.data_bytes); i++) {
            uint64_t bytes = 0;
            segments_plan(&m, i, &cursor, &s);
            assert_in_range(s.count, 1, SEGMENTS_MAX);
            for (uint32_t k = 0; k < s.count; k++) {
                assert_true(s.items[k].bytes > 0 && s.items[k].bytes % s.items[k].width == 0);
                bytes += s.items[k].bytes;
            }
            assert_int_equal(bytes, chunk_raw_bytes(m.data_bytes, i));
        }
        codec_release(&rank_manifest_codec, &m);
    }
}

/* ---- the table ---- */

#define STORED_MAX (SEGMENT_TABLE_BYTES_MAX + 4096)

/* 4096 numbers of each kind a segment can be; returns the stored bytes that the table asks for. */
static uint32_t sample(struct segments *s)
{
    *s = (struct segments){
        .count = 3,
        .items = {
            {.width = 4, .bytes = 64, .planes = {{PLANE_RAW, 16}, {PLANE_ZSTD, 9}, {PLANE_REPEAT, 1}, {PLANE_RAW, 16}}},
            {.width = 1, .bytes = 100, .planes = {{PLANE_RAW, 100}}},
            {.width = 2, .bytes = 32, .planes = {{PLANE_ZSTD, 16}, {PLANE_ZSTD, 1}}}}};
    return segments_bytes(s) + 16 + 9 + 1 + 16 + 100 + 16 + 1;
}

static void tables_survive(void **state)
{
    (void)state;
    static unsigned char stored[STORED_MAX];
    struct segments s, back;
    struct err err = {0};
    uint32_t length = sample(&s), table = 0;
    assert_int_equal(segments_print(&s, stored), segments_bytes(&s));
    assert_int_equal(stored[0], 3);
    assert_int_equal(segments_parse(stored, length, 196, &back, &table, &err), TIDE_OK);
    assert_int_equal(table, segments_bytes(&s));
    assert_int_equal(back.count, s.count);
    for (uint32_t i = 0; i < s.count; i++)
        assert_memory_equal(&back.items[i], &s.items[i], sizeof s.items[i]);
    for (uint32_t n = 0; n < length + 20; n++)
        assert_int_equal(segments_parse(stored, n, 196, &back, &table, &err), n == length ? TIDE_OK : TIDE_E_CORRUPT);
    assert_int_equal(segments_parse(stored, length, 195, &back, &table, &err), TIDE_E_CORRUPT);
    assert_int_equal(segments_parse(stored, length, 197, &back, &table, &err), TIDE_E_CORRUPT);
}

#define WRONG(change)                                                                                                       \
    do {                                                                                                                    \
        unsigned char stored[STORED_MAX];                                                                                   \
        struct segments s, back;                                                                                            \
        struct err err = {0};                                                                                               \
        uint32_t length = sample(&s), table;                                                                                \
        segments_print(&s, stored);                                                                                         \
        change;                                                                                                             \
        assert_int_equal(segments_parse(stored, length, 196, &back, &table, &err), TIDE_E_CORRUPT);                         \
        assert_true(err.text[0] != '\0');                                                                                   \
    } while (0)

static void tables_are_judged(void **state)
{
    (void)state;
    WRONG(stored[0] = 0);
    WRONG(stored[0] = 2);
    WRONG(stored[0] = 4);
    WRONG(stored[0] = 255);
    WRONG(stored[1] = 0); /* width */
    WRONG(stored[1] = 3);
    WRONG(stored[1] = 8);
    WRONG(stored[2] = 0); /* raw bytes */
    WRONG(stored[2] = 65);
    WRONG(stored[5] = 0xff);
    WRONG(stored[6] = PLANE_METHODS); /* the first plane */
    WRONG(stored[6] = PLANE_REPEAT);
    WRONG(stored[7] = 15);
    WRONG(stored[10] = 0x80);
    WRONG(stored[12] = 0);               /* a frame of no bytes */
    WRONG(stored[12] = 17; length += 8); /* or longer than its plane */
    WRONG(stored[17] = 2; length += 1);  /* one byte, which is two */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planes_hold_the_bytes_of_each_number),
        cmocka_unit_test(plans_follow_the_regions),
        cmocka_unit_test(wrong_regions_are_covered_all_the_same),
        cmocka_unit_test(tables_survive),
        cmocka_unit_test(tables_are_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
