/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CHUNKS_H
#define TESTS_UNIT_CHUNKS_H

/* Slots of which a test says for each chunk from what number it is made: those of one number are alike. 0: zeros. */

#include "ckpt/stage/survey.h"
#include "tests/unit/slots.h"

static inline void test_chunk_fill(unsigned char *to, unsigned from)
{
    struct rng rng = {.state = from};
    for (size_t i = 0; i < CHUNK_BYTES; i += sizeof(uint64_t)) {
        uint64_t n = from == 0 ? 0 : rng_next(&rng);
        memcpy(to + i, &n, sizeof n);
    }
}

/* Recorded and with digests, in the slot of that cut. */
static inline void test_chunks_record(const char *arena, uint32_t rank, uint32_t world, uint64_t cut, const unsigned *content,
                                      unsigned count)
{
    arena_path path;
    struct err err = {0};
    struct slot slot;
    char hex[DIGEST_HEX_CHARS + 1];
    const uint64_t bytes = (uint64_t)count * CHUNK_BYTES;
    const uint32_t number = (uint32_t)cut % SLOTS;
    slot_path(arena, rank, number, path);
    assert_int_equal(slot_reserve(path, slot_bytes_needed(1, false, bytes), &err), TIDE_OK);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    assert_int_equal(slot_start(&slot, 1, false, bytes, &err), TIDE_OK);
    slot.regions[0] = (struct slot_region){.name = "state", .bytes = bytes};
    for (unsigned i = 0; i < count; i++)
        test_chunk_fill(slot.data + (size_t)i * CHUNK_BYTES, content[i]);
    struct slot_header facts = {.job_uid = TEST_UID, .generation = 1, .cut = cut, .rank = rank, .world_size = world, .step = cut};
    slot_finish(&slot, &facts);
    slot_unmap(&slot);
    assert_int_equal(stage_sum(arena, rank, number, TEST_UID, cut, hex, &err), TIDE_OK);
}

static inline void test_is_sound(struct store *store, const char *key, const char *digest)
{
    struct err err = {0};
    struct stage_verdict verdict = {0};
    assert_int_equal(stage_check(store, key, digest, NULL, NULL, &verdict, &err), TIDE_OK);
    assert_int_equal(verdict.bad, 0);
}

/* What the rank gets of that checkpoint. */
static inline void test_chunks_are(struct store *store, const char *key, const char *digest, const char *elsewhere, uint32_t rank,
                                   const unsigned *content, unsigned count)
{
    struct err err = {0};
    struct slot slot;
    arena_path path;
    unsigned char *want = mem_alloc(CHUNK_BYTES);
    assert_int_equal(stage_fetch(store, key, digest, NULL, elsewhere, rank, 0, &err), TIDE_OK);
    slot_path(elsewhere, rank, 0, path);
    assert_int_equal(slot_map(path, 0, &slot, &err), TIDE_OK);
    for (unsigned i = 0; i < count; i++) {
        test_chunk_fill(want, content[i]);
        assert_memory_equal(slot.data + (size_t)i * CHUNK_BYTES, want, CHUNK_BYTES);
    }
    slot_unmap(&slot);
    mem_free(want);
}

/* All objects whose keys begin so. */
static inline uint64_t test_bytes_below(struct store *store, const char *prefix)
{
    struct err err = {0};
    struct strlist found = {0};
    uint64_t all = 0, bytes = 0;
    assert_int_equal(store_list(store, prefix, &found, &err), TIDE_OK);
    for (size_t i = 0; i < found.count; i++) {
        assert_int_equal(store_size(store, found.items[i], &bytes, &err), TIDE_OK);
        all += bytes;
    }
    strlist_release(&found);
    return all;
}

#endif
