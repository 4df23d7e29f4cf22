/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_SLOTS_H
#define TESTS_UNIT_SLOTS_H

/* Arenas for tests: a directory of its own, and slots whose contents follow from a seed. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/stage/shard.h"
#include "ckpt/stage/stage.h"
#include "tests/unit/floats.h"

#define TEST_UID "0123456789abcdef"

/* In $TIDE_TEST_ROOT, else in /tmp: short, because sockets lie there. */
static inline char *test_dir(void)
{
    const char *root = getenv("TIDE_TEST_ROOT");
    char *dir = mem_format("%s/tide-test-XXXXXX", root ? root : "/tmp");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static inline void test_dir_remove(char *dir)
{
    struct err err = {0};
    assert_int_equal(fsx_remove_tree(dir, &err), TIDE_OK);
    mem_free(dir);
}

/* Where a test records, where what it stored is rebuilt, and a store that is a directory. */
static inline void test_places(char **ret_arena, char **ret_elsewhere, char **ret_root, struct store **ret_store)
{
    struct err err = {0};
    *ret_arena = test_dir();
    *ret_elsewhere = test_dir();
    *ret_root = test_dir();
    assert_int_equal(store_open(*ret_root, ret_store, &err), TIDE_OK);
}

static inline void test_places_remove(char *arena, char *elsewhere, char *root, struct store *store)
{
    store_close(store);
    test_dir_remove(arena);
    test_dir_remove(elsewhere);
    test_dir_remove(root);
}

/* What a region holds, by its name: "noise" does not compress, "zeros" is nothing, "floats" and "halves" are like weights,
 * "pattern" is 8 bytes again and again, the rest is in between. */
static inline void test_fill(unsigned char *to, size_t bytes, const char *name, uint64_t seed)
{
    struct rng rng = {.state = seed};
    int zeros = strncmp(name, "zeros", 5) == 0, noise = strncmp(name, "noise", 5) == 0;
    for (size_t i = 0; i < bytes && !zeros; i++)
        to[i] = noise ? (unsigned char)rng_next(&rng) : (unsigned char)(i / 97 + seed);
    if (zeros && bytes > 0)
        memset(to, 0, bytes);
    if (strncmp(name, "floats", 6) == 0)
        test_floats(to, bytes, TIDE_F32, seed);
    if (strncmp(name, "halves", 6) == 0)
        test_floats(to, bytes, TIDE_BF16, seed);
    for (size_t i = 0; i < bytes && strncmp(name, "pattern", 7) == 0; i++)
        to[i] = (unsigned char)("pattern!"[i % 8]);
}

static inline enum tide_dtype test_dtype(const char *name)
{
    static const struct {
        const char *begins;
        enum tide_dtype dtype;
    } known[] = {{"halves", TIDE_BF16}, {"counts", TIDE_I64}, {"bytes", TIDE_BYTES}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strncmp(name, known[i].begins, strlen(known[i].begins)) == 0)
            return known[i].dtype;
    return TIDE_F32;
}

struct test_region {
    const char *name;
    uint64_t bytes;
};

/* By the end of its name. A part is this rank's row of a tensor with as many rows as there are ranks. */
static inline enum region_kind test_kind(const char *name)
{
    static const char *const ends[REGION_KINDS] = {[REGION_REPLICATED] = "=same", [REGION_SHARD] = "=part", [REGION_DROPPABLE] = "=drop"};
    for (unsigned kind = REGION_REPLICATED; kind < REGION_KINDS; kind++)
        if (strstr(name, ends[kind]) != NULL)
            return (enum region_kind)kind;
    return REGION_OWN;
}

/* A recorded slot of two or more regions, without digests. */
static inline void test_record(const char *arena, uint32_t rank, uint32_t number, uint64_t cut,
                               const struct test_region *regions, uint32_t count, uint32_t world_size)
{
    arena_path path;
    struct err err = {0};
    struct slot slot;
    uint64_t end = 0;
    bool parts = false;
    for (uint32_t i = 0; i < count; i++) {
        end = region_end_aligned(end, regions[i].bytes);
        parts |= test_kind(regions[i].name) == REGION_SHARD;
    }
    slot_path(arena, rank, number, path);
    assert_int_equal(slot_reserve(path, slot_bytes_needed(count, parts, end), &err), TIDE_OK);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    assert_int_equal(slot_start(&slot, count, parts, end, &err), TIDE_OK);
    memset(slot.data, 0, end);
    uint64_t offset = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct slot_region r = {.dtype = test_dtype(regions[i].name),
                                .ndim = 2,
                                .kind = test_kind(regions[i].name),
                                .shape = {regions[i].bytes / 4, 1},
                                .offset = offset,
                                .bytes = regions[i].bytes};
        text_copy(r.name, sizeof r.name, regions[i].name);
        if (r.kind == REGION_SHARD) {
            r.shape[0] = 1;
            r.shape[1] = r.bytes / dtype_width(r.dtype);
            slot_parts(&slot)[i] = (struct slot_part){.whole = {world_size, r.shape[1]}, .at = {rank}};
        }
        slot.regions[i] = r;
        test_fill(slot.data + offset, regions[i].bytes, regions[i].name, cut * 100 + rank);
        offset = region_end_aligned(offset, regions[i].bytes);
    }
    struct slot_header facts = {.rank = rank,
                                .job_uid = TEST_UID,
                                .generation = 3,
                                .cut = cut,
                                .attempt = 1,
                                .world_size = world_size,
                                .step = cut * 10,
                                .collectives = 42};
    slot_finish(&slot, &facts);
    slot_unmap(&slot);
}

/* One more shard of a cut that is to be committed. */
static inline void test_add_shard(struct cut_order *order, uint32_t rank, const struct stage_shard *shard)
{
    struct shard_ref *ref = codec_list_add(&shard_ref_codec, &order->shards);
    *ref = (struct shard_ref){.rank = rank, .raw_bytes = shard->raw_bytes, .stored_bytes = shard->stored_bytes};
    text_copy(ref->key, sizeof ref->key, shard->key);
    text_copy(ref->digest, sizeof ref->digest, shard->digest);
}

/* One byte of a file changed; returns what it was. */
static inline int test_flip(const char *path, long at, int mask)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    int was = fgetc(file);
    assert_int_not_equal(was, EOF);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    assert_int_equal(fputc(was ^ mask, file), was ^ mask);
    assert_int_equal(fclose(file), 0);
    return was;
}

/* How long a soak is. */
static inline unsigned test_from_env(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

#endif
