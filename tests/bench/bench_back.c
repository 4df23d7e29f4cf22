/* SPDX-License-Identifier: Apache-2.0 */

/* The way back, from a store that has everything at hand, in memory, into new slots in shared memory. fetch_N_helpers: one rank's shard,
 * with so many; peer: without. A_to_B: ranks that are restored one after the other from a checkpoint that A ranks made, all of B; peer: A
 * of A. The limit is memcpy by one thread into pages that are there. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "ckpt/stage/helpers.h"
#include "ckpt/stage/want.h"
#include "tests/bench/measure.h"
#include "tests/unit/slots.h"

#define MIB ((uint64_t)1 << 20)
#define ROUNDS 4
#define GB 1e9
#define CUT 1u
#define MADE_BY 4u
#define RANKS_MAX 8u
#define ROWS 4096u
#define COLUMNS 4096u /* a tensor that is cut by rows has 64 MiB, and so has one that is cut by columns */
#define SAME_BYTES (16 * MIB) /* what each rank has */
#define OBJECTS_MAX 64u

static char *arena;

/* ---- a store that is no limit, and yet has always one pack under way: chunks are encoded as ever ---- */

static struct memory {
    struct store base;
    struct object {
        char key[TIDE_PATH_MAX + 1];
        void *data;
        size_t bytes;
    } objects[OBJECTS_MAX];
    unsigned count;
    const struct store_op *newest;
} memory;

static const struct object *object_of(const char *key)
{
    for (unsigned i = 0; i < memory.count; i++)
        if (strcmp(memory.objects[i].key, key) == 0)
            return &memory.objects[i];
    return NULL;
}

static enum tide_status memory_put(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    (void)store;
    (void)err;
    assert_true(memory.count < OBJECTS_MAX);
    struct object *object = &memory.objects[memory.count++];
    text_copy(object->key, sizeof object->key, key);
    object->bytes = bytes;
    object->data = mem_alloc(bytes);
    memcpy(object->data, data, bytes);
    return TIDE_OK;
}

static enum tide_status memory_get(struct store *store, const char *key, uint64_t offset, void *to, size_t bytes, struct err *err)
{
    (void)store;
    const struct object *object = object_of(key);
    if (object == NULL || offset + bytes > object->bytes)
        return err_set(err, TIDE_E_NOT_FOUND, "%s is not here", key);
    memcpy(to, (unsigned char *)object->data + offset, bytes);
    return TIDE_OK;
}

static enum tide_status memory_size(struct store *store, const char *key, uint64_t *ret_bytes, struct err *err)
{
    (void)store;
    const struct object *object = object_of(key);
    if (object == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "%s is not here", key);
    *ret_bytes = object->bytes;
    return TIDE_OK;
}

static void memory_begin(struct store_op *op)
{
    memory.newest = op->verb == STORE_PUT ? op : memory.newest;
}

static enum tide_status memory_finish(struct store_op *op, struct err *err)
{
    return op->verb == STORE_PUT ? memory_put(op->store, op->key, op->from, op->bytes, err)
                                 : memory_get(op->store, op->key, op->offset, op->to, op->bytes, err);
}

static int memory_pending(struct store_op *op)
{
    return op == memory.newest;
}

static void memory_empty(void)
{
    while (memory.count > 0)
        mem_free(memory.objects[--memory.count].data);
    memory.newest = NULL;
}

/* ---- checkpoints ---- */

struct state {
    struct slot_region regions[3];
    struct slot_part parts[3];
    uint64_t data_bytes;
};

/* One rank of `world`: a part of each of two tensors, and what all have. */
static struct state state_of(uint32_t rank, uint32_t world)
{
    struct state s = {.data_bytes = 0};
    const uint64_t rows = ROWS / world, columns = COLUMNS / world;
    s.regions[0] = (struct slot_region){
        .name = "rows", .kind = REGION_SHARD, .dtype = TIDE_F32, .ndim = 2, .shape = {rows, COLUMNS}, .bytes = rows * COLUMNS * 4};
    s.parts[0] = (struct slot_part){.whole = {ROWS, COLUMNS}, .at = {rank * rows, 0}};
    s.regions[1] = (struct slot_region){
        .name = "columns", .kind = REGION_SHARD, .dtype = TIDE_F32, .ndim = 2, .shape = {ROWS, columns}, .bytes = ROWS * columns * 4};
    s.parts[1] = (struct slot_part){.whole = {ROWS, COLUMNS}, .at = {0, rank * columns}};
    s.regions[2] = (struct slot_region){.name = "same", .kind = REGION_REPLICATED, .dtype = TIDE_F32, .bytes = SAME_BYTES};
    for (size_t i = 0; i < 3; i++) {
        s.regions[i].offset = s.data_bytes;
        s.data_bytes = region_end_aligned(s.data_bytes, s.regions[i].bytes);
    }
    return s;
}

/* Like fp32 weights: random mantissas, exponents close together. */
static void fill(unsigned char *to, uint64_t bytes, uint64_t seed)
{
    struct rng rng = {.state = seed};
    for (uint64_t i = 0; i < bytes; i += sizeof(float)) {
        uint64_t r = rng_next(&rng);
        float sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (float)((r >> (16 * k)) & 0xffff) / 65536.0f - 0.5f;
        sum *= 0.02f;
        memcpy(to + i, &sum, sizeof sum);
    }
}

static void record(uint32_t rank, uint32_t world)
{
    arena_path path;
    struct slot slot;
    struct err err = {0};
    struct state s = state_of(rank, world);
    char root[DIGEST_HEX_CHARS + 1];
    slot_path(arena, rank, CUT, path);
    assert_int_equal(slot_reserve(path, slot_bytes_needed(3, true, s.data_bytes), &err), TIDE_OK);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    assert_int_equal(slot_start(&slot, 3, true, s.data_bytes, &err), TIDE_OK);
    memcpy(slot.regions, s.regions, sizeof s.regions);
    memcpy(slot_parts(&slot), s.parts, sizeof s.parts);
    for (unsigned i = 0; i < 3; i++)
        fill(slot.data + s.regions[i].offset, s.regions[i].bytes, i == 2 ? 1 : 2 * rank + i + 2);
    struct slot_header facts = {
        .job_uid = TEST_UID, .generation = 1, .cut = CUT, .rank = rank, .world_size = world, .step = CUT, .attempt = 1};
    slot_finish(&slot, &facts);
    slot_unmap(&slot);
    assert_int_equal(stage_sum(arena, rank, CUT, TEST_UID, CUT, root, &err), TIDE_OK);
}

static char key[TIDE_PATH_MAX + 1], digest[DIGEST_HEX_CHARS + 1];

static void checkpoint(uint32_t world)
{
    struct err err = {0};
    struct cut_order order = {.cut = CUT, .generation = 1, .step = CUT};
    memory_empty();
    for (uint32_t rank = 0; rank < world; rank++) {
        struct stage_shard shard;
        record(rank, world);
        assert_int_equal(stage_store(&memory.base, arena, rank, CUT, "bench", TEST_UID, CUT, &shard, &err), TIDE_OK);
        test_add_shard(&order, rank, &shard);
    }
    assert_int_equal(stage_commit(&memory.base, "bench", TEST_UID, &order, key, digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
}

/* ---- back ---- */

static void forget(uint32_t rank)
{
    arena_path path;
    slot_path(arena, rank, 0, path);
    unlink(path);
    slot_sum_path(arena, rank, 0, path);
    unlink(path);
}

static void tell(uint32_t rank, uint32_t world)
{
    arena_path path;
    struct err err = {0};
    struct state s = state_of(rank, world);
    struct slot_region table[3 + 3 * sizeof(struct slot_part) / sizeof(struct slot_region) + 1];
    const struct slot_header facts = {.rank = rank, .job_uid = TEST_UID, .generation = 2, .world_size = world, .parts = 1,
                                      .region_count = 3, .data_bytes = s.data_bytes};
    memcpy(table, s.regions, sizeof s.regions);
    memcpy(table + 3, s.parts, sizeof s.parts);
    snprintf(path, sizeof path, "%s/" WANT_FILE_FORMAT, arena, rank);
    assert_int_equal(want_save(path, &facts, table, &err), TIDE_OK);
}

/* Seconds for all ranks, at best; of *ret_bytes. */
static double back(uint32_t world, unsigned helpers, uint64_t *ret_bytes)
{
    double best = 1e9;
    helpers_want(helpers);
    for (int round = 0; round < ROUNDS; round++) {
        double took = 0;
        *ret_bytes = 0;
        for (uint32_t rank = 0; rank < world; rank++) {
            struct err err = {0};
            const struct stage_target to = {.arena = arena, .rank = rank, .world_size = world, .elastic = 1, .generation = 2};
            tell(rank, world);
            double begin = seconds();
            if (stage_fetch_to(&memory.base, key, digest, &to, &err) != TIDE_OK)
                fail_msg("%s", err.text);
            took += seconds() - begin;
            forget(rank);
            *ret_bytes += state_of(rank, world).data_bytes;
        }
        best = least(best, took);
    }
    helpers_want(0);
    return best;
}

static double memcpy_seconds(uint64_t bytes)
{
    double best = 1e9;
    arena_path path;
    struct slot slot;
    struct err err = {0};
    unsigned char *from = mem_alloc(bytes);
    memset(from, 1, bytes);
    slot_path(arena, 0, CUT, path);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    for (int i = 0; i < ROUNDS; i++) {
        double begin = seconds();
        memcpy(slot.data, from, bytes);
        best = least(best, seconds() - begin);
    }
    slot_unmap(&slot);
    mem_free(from);
    return best;
}

int main(void)
{
    static const struct store_ops ops = {.scheme = "memory",
                                         .at_once = 4,
                                         .gets_at_once = 4,
                                         .put = memory_put,
                                         .get = memory_get,
                                         .begin = memory_begin,
                                         .finish = memory_finish,
                                         .pending = memory_pending,
                                         .size = memory_size};
    static const uint32_t worlds[] = {MADE_BY, 1, 2, RANKS_MAX};
    uint64_t bytes = state_of(0, 1).data_bytes;
    char metric[32];
    double alone = 0, same = 0;
    memory.base.ops = &ops;
    setenv("TIDE_TEST_ROOT", "/dev/shm", 1);
    arena = test_dir();
    unsetenv("TIDE_TEST_ROOT");
    checkpoint(1);
    const double copy = (double)bytes / GB / memcpy_seconds(bytes);
    for (unsigned helpers = 0; helpers <= HELPERS_MAX; helpers++) {
        double speed = 1 / back(1, helpers, &bytes) * (double)bytes / GB;
        alone = helpers == 0 ? speed : alone;
        snprintf(metric, sizeof metric, "fetch_%u_helpers", helpers);
        result("back", metric, speed, "GB/s", copy, alone);
    }
    checkpoint(MADE_BY);
    for (size_t i = 0; i < sizeof worlds / sizeof worlds[0]; i++) {
        double speed = 1 / back(worlds[i], 1, &bytes) * (double)bytes / GB;
        same = i == 0 ? speed : same;
        snprintf(metric, sizeof metric, "%u_to_%u", MADE_BY, worlds[i]);
        result("back", metric, speed, "GB/s", copy, same);
    }
    memory_empty();
    test_dir_remove(arena);
    return 0;
}
