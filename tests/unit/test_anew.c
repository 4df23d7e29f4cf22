/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "ckpt/stage/tables.h"
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

static int setup(void **state)
{
    (void)state;
    test_places(&arena, &elsewhere, &root, &store);
    return 0;
}

static int teardown(void **state)
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

static struct state_of state_of(uint32_t rank, uint32_t world)
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

static uint32_t number_at(uint64_t row, uint64_t column)
{
    return (uint32_t)(row * 2654435761u ^ column * 40503u);
}

static void fill(const struct state_of *s, unsigned char *data)
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

static void record(uint32_t rank, uint32_t world, uint64_t step)
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
static void checkpoint(uint32_t world, uint64_t apart)
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

static void want(const struct state_of *s, uint32_t rank, uint32_t world, uint64_t generation)
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

static enum tide_status fetch(uint32_t rank, uint32_t world, int elastic, struct err *err)
{
    const struct stage_target to = {.arena = elsewhere, .rank = rank, .world_size = world, .elastic = elastic, .generation = GENERATION};
    return stage_fetch_to(store, commit_key, commit_digest, &to, err);
}

/* What is in the slot is what a rank of that world has, but for what was dropped. */
static void came_back(uint32_t rank, uint32_t world)
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

static void any_number_of_ranks_goes_on_from_any_other(void **state)
{
    (void)state;
    static const uint32_t worlds[][2] = {{4, 3}, {3, 4}, {2, 6}, {6, 1}, {1, 5}};
    for (size_t i = 0; i < sizeof worlds / sizeof worlds[0]; i++) {
        struct err err = {0};
        teardown(NULL);
        setup(NULL);
        checkpoint(worlds[i][0], 0);
        for (uint32_t rank = 0; rank < worlds[i][1]; rank++) {
            struct state_of s = state_of(rank, worlds[i][1]);
            want(&s, rank, worlds[i][1], GENERATION);
            if (fetch(rank, worlds[i][1], 1, &err) != TIDE_OK)
                fail_msg("from %u to %u: %s", worlds[i][0], worlds[i][1], err.text);
            came_back(rank, worlds[i][1]);
        }
    }
}

/* What is read ahead of a shard is at first its beginning: who needs nothing of that gets what it asked for. */
static void a_rank_may_need_only_what_lies_far_back(void **state)
{
    (void)state;
    static const struct test_region had[] = {{"noise-a=part", FAR_BYTES}, {"noise-b=part", FAR_BYTES}};
    struct err err = {0};
    struct cut_order order = {.cut = CUT, .generation = 3, .step = CUT * 10};
    struct stage_shard shard;
    char hex[DIGEST_HEX_CHARS + 1];
    test_record(arena, 0, 0, CUT, had, 2, 1);
    assert_int_equal(stage_sum(arena, 0, 0, TEST_UID, CUT, hex, &err), TIDE_OK);
    assert_int_equal(stage_store(store, arena, 0, 0, "job", TEST_UID, CUT, &shard, &err), TIDE_OK);
    test_add_shard(&order, 0, &shard);
    assert_int_equal(stage_commit(store, "job", TEST_UID, &order, commit_key, commit_digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
    unsigned char *all = mem_alloc(FAR_BYTES);
    for (uint32_t rank = 0; rank < FAR_WORLD; rank += FAR_WORLD - 1) {
        const uint64_t bytes = FAR_BYTES / FAR_WORLD;
        struct state_of s = {.count = 2, .data_bytes = 2 * bytes};
        arena_path path;
        struct slot slot;
        for (uint32_t i = 0; i < s.count; i++) {
            s.regions[i] = (struct slot_region){.kind = REGION_SHARD, .dtype = TIDE_F32, .ndim = 2, .shape = {1, bytes / 4},
                                                .offset = i * bytes, .bytes = bytes};
            text_copy(s.regions[i].name, sizeof s.regions[i].name, had[i].name);
            s.parts[i] = (struct slot_part){.whole = {1, FAR_BYTES / 4}, .at = {0, rank * bytes / 4}};
        }
        want(&s, rank, FAR_WORLD, GENERATION);
        if (fetch(rank, FAR_WORLD, 1, &err) != TIDE_OK)
            fail_msg("rank %u: %s", rank, err.text);
        slot_path(elsewhere, rank, 0, path);
        assert_int_equal(slot_map(path, 0, &slot, &err), TIDE_OK);
        for (uint32_t i = 0; i < s.count; i++) {
            test_fill(all, FAR_BYTES, had[i].name, CUT * 100);
            assert_memory_equal(slot.data + i * bytes, all + rank * bytes, bytes);
        }
        slot_unmap(&slot);
    }
    mem_free(all);
}

/* Nothing of it is written twice, nor left: neither in regions nor between them. */
static void what_was_in_the_slot_before_is_gone(void **state)
{
    (void)state;
    struct err err = {0};
    arena_path path;
    struct slot slot;
    struct state_of s = state_of(1, 2);
    checkpoint(3, 0);
    want(&s, 1, 2, GENERATION);
    slot_path(elsewhere, 1, 0, path);
    assert_int_equal(slot_reserve(path, slot_bytes_needed(s.count, true, s.data_bytes), &err), TIDE_OK);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    memset((char *)slot.header + SLOT_HEADER_BYTES, 0xa5, slot.mapped_bytes - SLOT_HEADER_BYTES);
    slot_unmap(&slot);
    assert_int_equal(fetch(1, 2, 1, &err), TIDE_OK);
    came_back(1, 2);
}

static void a_slot_of_another_world_is_not_taken_for_one_of_this(void **state)
{
    (void)state;
    struct err err = {0};
    uint32_t slot = 9;
    char hex[DIGEST_HEX_CHARS + 1];
    struct state_of s = state_of(0, 2);
    checkpoint(3, 0);
    want(&s, 0, 2, GENERATION);
    assert_int_equal(fetch(0, 2, 1, &err), TIDE_OK);
    assert_int_equal(stage_find(elsewhere, 0, TEST_UID, CUT, 3, 1, &slot, hex, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(stage_find(elsewhere, 0, TEST_UID, CUT, 2, 1, &slot, hex, &err), TIDE_OK);
    assert_int_equal(slot, 0);
    /* And with as many ranks as ever nothing is different. */
    assert_int_equal(fetch(0, 3, 0, &err), TIDE_OK);
    assert_int_equal(stage_find(elsewhere, 0, TEST_UID, CUT, 3, 1, &slot, hex, &err), TIDE_OK);
}

static void says(enum tide_status status, enum tide_status expected, const struct err *err, const char *words)
{
    assert_int_equal(status, expected);
    if (strstr(err->text, words) == NULL)
        fail_msg("\"%s\" is not in: %s", words, err->text);
}

static void what_nobody_allowed_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    struct state_of s = state_of(0, 2);
    checkpoint(3, 0);
    want(&s, 0, 2, GENERATION);
    says(fetch(0, 2, 0, &err), TIDE_E_MISMATCH, &err, "was made by 3 ranks and this job has 2");
    says(fetch(1, 2, 1, &err), TIDE_E_MISMATCH, &err, "rank 1 registers all regions as its own");
    want(&s, 0, 2, GENERATION - 1);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "rank 0 registers all regions as its own");
    want(&s, 0, 5, GENERATION);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "one of 5 ranks, and the job has 2");
    s.regions[SAME].kind = REGION_OWN;
    want(&s, 0, 2, GENERATION);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "\"same\" is each rank's own");
    s = state_of(0, 2);
    s.parts[TABLE].whole[1]++;
    want(&s, 0, 2, GENERATION);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "\"table\": the whole is 60x12001");
    s.regions[TABLE].shape[0] = UINT64_MAX;
    want(&s, 0, 2, GENERATION);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "\"table\""); /* CORRUPT would cost the checkpoint */
}

static void what_is_not_missed_now_need_not_be_there(void **state)
{
    (void)state;
    struct err err = {0};
    struct state_of s = state_of(0, 2);
    checkpoint(3, 0);
    s.regions[SAME].kind = REGION_DROPPABLE; /* by choice of the program that is started now */
    want(&s, 0, 2, GENERATION);
    assert_int_equal(fetch(0, 2, 1, &err), TIDE_OK);
}

static void ranks_with_steps_of_their_own_are_refused(void **state)
{
    (void)state;
    struct err err = {0};
    struct state_of s = state_of(0, 2);
    checkpoint(3, 1);
    want(&s, 0, 2, GENERATION);
    says(fetch(0, 2, 1, &err), TIDE_E_MISMATCH, &err, "rank 1 is at step 89");
}

static void damage_never_reaches_a_slot(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    uint32_t slot;
    char hex[DIGEST_HEX_CHARS + 1];
    struct state_of s = state_of(0, 2);
    checkpoint(3, 0);
    want(&s, 0, 2, GENERATION);
    assert_int_equal(store_list(store, "c/", &keys, &err), TIDE_OK);
    for (size_t i = 0; i < keys.count; i++) {
        char *path = mem_format("%s/%s", root, keys.items[i]);
        int needed = strstr(keys.items[i], "/2-0") == NULL; /* rank 2 had nothing of what rank 0 gets */
        test_flip(path, 1000, 0x10);
        assert_int_equal(fetch(0, 2, 1, &err), needed ? TIDE_E_CORRUPT : TIDE_OK);
        assert_int_equal(stage_find(elsewhere, 0, TEST_UID, CUT, 2, 1, &slot, hex, &err) == TIDE_OK, !needed);
        test_flip(path, 1000, 0x10);
        mem_free(path);
    }
    assert_true(keys.count >= 3);
    strlist_release(&keys);
    assert_int_equal(fetch(0, 2, 1, &err), TIDE_OK);
}

static void memory_that_runs_out_is_an_error(void **state)
{
    (void)state;
    struct err err = {0};
    struct state_of s = state_of(1, 2);
    int failures = 0;
    checkpoint(3, 0);
    want(&s, 1, 2, GENERATION);
    for (unsigned long n = 1;; n++) {
        mem_fail_at(n);
        enum tide_status status = fetch(1, 2, 1, &err);
        mem_fail_at(0);
        if (status == TIDE_OK)
            break;
        assert_int_equal(status, TIDE_E_NOMEM);
        failures++;
    }
    assert_true(failures > 5);
    came_back(1, 2);
}

/* ---- several at a time ---- */

#define TAKERS 6u

/* The real store, that counts how often a rank manifest is read, and may be gone. */
static struct counted {
    struct store base;
    atomic_uint read;
    atomic_int gone;
} counted;

static enum tide_status counted_get(struct store *of, const char *key, uint64_t offset, void *to, size_t bytes, struct err *err)
{
    (void)of;
    if (atomic_load(&counted.gone))
        return err_set(err, TIDE_E_UNAVAILABLE, "the store is gone");
    usleep(1000); /* so that all come while it is read */
    atomic_fetch_add(&counted.read, strstr(key, ".json") != NULL);
    return store_get(store, key, offset, to, bytes, err);
}

static enum tide_status counted_size(struct store *of, const char *key, uint64_t *ret_bytes, struct err *err)
{
    (void)of;
    return store_size(store, key, ret_bytes, err);
}

static const struct store_ops counted_ops = {.scheme = "counted", .get = counted_get, .size = counted_size};

static struct manifest whole;
static pthread_barrier_t together;

static void *take(void *context)
{
    const struct tables **to = context;
    struct err err = {0};
    pthread_barrier_wait(&together);
    enum tide_status status = tables_take(&counted.base, &whole, to, &err);
    pthread_barrier_wait(&together);
    if (status == TIDE_OK && (*to)->rank_count == whole.world_size && (*to)->step == 90)
        tables_give(*to);
    else
        *to = NULL;
    return NULL;
}

static unsigned taken(void)
{
    pthread_t threads[TAKERS];
    const struct tables *tables[TAKERS] = {NULL};
    unsigned good = 0;
    atomic_store(&counted.read, 0);
    for (unsigned i = 0; i < TAKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take, &tables[i]), 0);
    for (unsigned i = 0; i < TAKERS; i++) {
        pthread_join(threads[i], NULL);
        good += tables[i] != NULL;
    }
    return good;
}

static void tables_are_read_once_for_all(void **state)
{
    (void)state;
    struct err err = {0};
    const uint32_t world = 4;
    checkpoint(world, 0);
    counted.base.ops = &counted_ops;
    assert_int_equal(manifest_read(store, commit_key, commit_digest, &whole, &err), TIDE_OK);
    pthread_barrier_init(&together, NULL, TAKERS);
    assert_int_equal(taken(), TAKERS);
    assert_int_equal(atomic_load(&counted.read), world);
    /* Nobody uses them any more, and they are read again; a failure is everybody's, and no failure for ever. */
    atomic_store(&counted.gone, 1);
    assert_int_equal(taken(), 0);
    atomic_store(&counted.gone, 0);
    assert_int_equal(taken(), TAKERS);
    assert_int_equal(atomic_load(&counted.read), world);
    pthread_barrier_destroy(&together);
    codec_release(&manifest_codec, &whole);
}

/* A rank that is put together while another is reads the manifests of those alone whose bytes it needs. */
static void ranks_put_together_at_a_time_share_them(void **state)
{
    (void)state;
    struct err err = {0};
    const struct tables *held = NULL;
    const uint32_t world = 6;
    struct state_of s = state_of(0, 3);
    checkpoint(world, 0);
    want(&s, 0, 3, GENERATION);
    counted.base.ops = &counted_ops;
    assert_int_equal(manifest_read(store, commit_key, commit_digest, &whole, &err), TIDE_OK);
    const struct stage_target target = {
        .arena = elsewhere, .rank = 0, .slot = 0, .generation = GENERATION, .world_size = 3, .job_uid = TEST_UID};
    unsigned read[2];
    for (unsigned i = 0; i < 2; i++) {
        if (i == 1)
            assert_int_equal(tables_take(&counted.base, &whole, &held, &err), TIDE_OK);
        atomic_store(&counted.read, 0);
        assert_int_equal(shard_put_together(&counted.base, &whole, &target, &err), TIDE_OK);
        read[i] = atomic_load(&counted.read);
        came_back(0, 3);
    }
    assert_int_equal(read[0], read[1] + world);
    tables_give(held);
    tables_give(NULL);
    codec_release(&manifest_codec, &whole);
}

#define WITH_A_STORE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_A_STORE(any_number_of_ranks_goes_on_from_any_other),
        WITH_A_STORE(a_rank_may_need_only_what_lies_far_back),
        WITH_A_STORE(what_was_in_the_slot_before_is_gone),
        WITH_A_STORE(a_slot_of_another_world_is_not_taken_for_one_of_this),
        WITH_A_STORE(what_nobody_allowed_is_refused),
        WITH_A_STORE(what_is_not_missed_now_need_not_be_there),
        WITH_A_STORE(ranks_with_steps_of_their_own_are_refused),
        WITH_A_STORE(damage_never_reaches_a_slot),
        WITH_A_STORE(memory_that_runs_out_is_an_error),
        WITH_A_STORE(tables_are_read_once_for_all),
        WITH_A_STORE(ranks_put_together_at_a_time_share_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
