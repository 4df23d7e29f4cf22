/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_ANEW_H
#define TESTS_UNIT_ANEW_H

#include <unistd.h>

#include "ckpt/stage/want.h"
#include "tests/unit/slots.h"

/* A checkpoint of some ranks, restored on another number of them. The tensor "moments" is cut by rows, "table" by columns, so that each
 * of its runs is short; both go over several chunks. */

#define CUT 9u
#define GENERATION 4u
#define ROWS 60u /* what 2, 3, 4, 5, 6 ranks can share evenly */
#define COLUMNS 12000u
#define RANKS_MAX 6u
#define SAME_BYTES 100001u
#define FAR_WORLD 12u
#define FAR_BYTES (UINT64_C(12) << 20) /* of each of two regions: more than one span */

static char *arena, *elsewhere, *root;
static struct store *store;
static char commit_key[TIDE_PATH_MAX + 1], commit_digest[DIGEST_HEX_CHARS + 1];

static inline int setup(void **state)
{
    (void)state;
    test_places(&arena, &elsewhere, &root, &store);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    test_places_remove(arena, elsewhere, root, store);
    return 0;
}

/* ---- what a rank of `world` has: the same whoever asks ---- */

enum { SAME, MOMENTS, TABLE, SEED, REGIONS };

struct state_of {
    struct slot_region regions[REGIONS];
    struct slot_part parts[REGIONS];
    uint32_t count;
    uint64_t data_bytes;
};

static inline struct state_of state_of(uint32_t rank, uint32_t world)
{
    struct state_of s = {.count = REGIONS};
    uint64_t rows = ROWS / world, columns = COLUMNS / world;
    s.regions[SAME] = (struct slot_region){.name = "same", .kind = REGION_REPLICATED, .bytes = SAME_BYTES};
    s.regions[MOMENTS] = (struct slot_region){
        .name = "moments", .kind = REGION_SHARD, .dtype = TIDE_F32, .ndim = 2, .shape = {rows, COLUMNS}, .bytes = rows * COLUMNS * 4};
    s.parts[MOMENTS] = (struct slot_part){.whole = {ROWS, COLUMNS}, .at = {rank * rows, 0}};
    s.regions[TABLE] = (struct slot_region){
        .name = "table", .kind = REGION_SHARD, .dtype = TIDE_I16, .ndim = 2, .shape = {ROWS, columns}, .bytes = ROWS * columns * 2};
    s.parts[TABLE] = (struct slot_part){.whole = {ROWS, COLUMNS}, .at = {0, rank * columns}};
    s.regions[SEED] = (struct slot_region){.name = "seed", .kind = REGION_DROPPABLE, .bytes = 8};
    for (uint32_t i = 0; i < REGIONS; i++) {
        s.regions[i].offset = s.data_bytes;
        s.data_bytes = region_end_aligned(s.data_bytes, s.regions[i].bytes);
    }
    return s;
}

static inline uint32_t number_at(uint64_t row, uint64_t column)
{
    return (uint32_t)(row * 2654435761u ^ column * 40503u);
}

static inline void fill(const struct state_of *s, unsigned char *data)
{
    memset(data, 0, s->data_bytes);
    for (uint64_t i = 0; i < SAME_BYTES; i++)
        data[s->regions[SAME].offset + i] = (unsigned char)(i * 7);
    for (uint32_t which = MOMENTS; which <= TABLE; which++) {
        const struct slot_region *r = &s->regions[which];
        unsigned char *to = data + r->offset;
        for (uint64_t row = 0; row < r->shape[0]; row++)
            for (uint64_t column = 0; column < r->shape[1]; column++, to += dtype_width(r->dtype)) {
                uint32_t number = number_at(row + s->parts[which].at[0], column + s->parts[which].at[1]);
                memcpy(to, &number, dtype_width(r->dtype));
            }
    }
}

static inline void record(uint32_t rank, uint32_t world, uint64_t step)
{
    arena_path path;
    struct err err = {0};
    struct slot slot;
    struct state_of s = state_of(rank, world);
    slot_path(arena, rank, 0, path);
    assert_int_equal(slot_reserve(path, slot_bytes_needed(s.count, true, s.data_bytes), &err), TIDE_OK);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    assert_int_equal(slot_start(&slot, s.count, true, s.data_bytes, &err), TIDE_OK);
    memcpy(slot.regions, s.regions, sizeof s.regions);
    memcpy(slot_parts(&slot), s.parts, sizeof s.parts);
    fill(&s, slot.data);
    struct slot_header facts = {
        .rank = rank, .job_uid = TEST_UID, .generation = 3, .cut = CUT, .attempt = 1, .world_size = world, .step = step};
    slot_finish(&slot, &facts);
    slot_unmap(&slot);
}

/* steps of rank 1 differ from those of the others by `apart` */
static inline void checkpoint(uint32_t world, uint64_t apart)
{
    struct err err = {0};
    struct cut_order order = {.cut = CUT, .generation = 3, .step = 90};
    for (uint32_t rank = 0; rank < world; rank++) {
        struct stage_shard shard;
        char hex[DIGEST_HEX_CHARS + 1];
        record(rank, world, rank == 1 ? 90 - apart : 90);
        assert_int_equal(stage_sum(arena, rank, 0, TEST_UID, CUT, hex, &err), TIDE_OK);
        assert_int_equal(stage_store(store, arena, rank, 0, "job", TEST_UID, CUT, &shard, &err), TIDE_OK);
        test_add_shard(&order, rank, &shard);
    }
    assert_int_equal(stage_commit(store, "job", TEST_UID, &order, commit_key, commit_digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
}

static inline void want(const struct state_of *s, uint32_t rank, uint32_t world, uint64_t generation)
{
    arena_path path;
    struct err err = {0};
    struct slot_header facts = {.rank = rank, .job_uid = TEST_UID, .generation = generation, .world_size = world, .parts = 1,
                                .region_count = s->count, .data_bytes = s->data_bytes};
    struct slot_region *table = mem_alloc(s->count * (sizeof *table + sizeof(struct slot_part)));
    memcpy(table, s->regions, s->count * sizeof *table);
    memcpy(table + s->count, s->parts, s->count * sizeof(struct slot_part));
    snprintf(path, sizeof path, "%s/" WANT_FILE_FORMAT, elsewhere, rank);
    assert_int_equal(want_save(path, &facts, table, &err), TIDE_OK);
    mem_free(table);
}

static object_key blamed; /* the pack that the last fetch found damaged; "": none */

static inline void is_blamed(void *context, const char *pack)
{
    (void)context;
    snprintf(blamed, sizeof blamed, "%s", pack);
}

static unsigned unread; /* times that the last fetch was told of what the store cannot read */

static inline void is_unread(void *context)
{
    (void)context;
    unread++;
}

static inline enum tide_status fetch(uint32_t rank, uint32_t world, int elastic, struct err *err)
{
    const struct stage_watch watch = {.damaged = is_blamed, .unread = is_unread};
    const struct stage_target to = {.arena = elsewhere, .rank = rank, .world_size = world, .elastic = elastic, .generation = GENERATION,
                                    .watch = &watch};
    blamed[0] = '\0';
    unread = 0;
    return stage_fetch_to(store, commit_key, commit_digest, &to, err);
}

/* What is in the slot is what a rank of that world has, but for what was dropped. */
static inline void came_back(uint32_t rank, uint32_t world)
{
    arena_path path, sum_path;
    struct err err = {0};
    struct slot slot;
    struct slot_sum sum;
    struct state_of s = state_of(rank, world);
    unsigned char *expected = mem_alloc(s.data_bytes);
    fill(&s, expected);
    slot_path(elsewhere, rank, 0, path);
    slot_sum_path(elsewhere, rank, 0, sum_path);
    assert_int_equal(slot_open(path, sum_path, TEST_UID, CUT, rank, &slot, &sum, &err), TIDE_OK);
    assert_int_equal(slot_verify(&slot, &sum, &err), TIDE_OK);
    assert_int_equal(slot.header->world_size, world);
    assert_int_equal(slot.header->step, 90);
    assert_int_equal(slot.header->region_count, SEED);
    assert_memory_equal(slot.regions, s.regions, SEED * sizeof s.regions[0]);
    assert_memory_equal(slot_parts(&slot), s.parts, SEED * sizeof s.parts[0]);
    assert_int_equal(slot.header->data_bytes, s.regions[SEED].offset);
    assert_memory_equal(slot.data, expected, s.regions[SEED].offset);
    slot_unmap(&slot);
    slot_sum_release(&sum);
    mem_free(expected);
}

#define WITH_A_STORE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
