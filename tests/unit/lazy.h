/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_LAZY_H
#define TESTS_UNIT_LAZY_H

/* A checkpoint of one rank on its way back, by a store that does nothing before it is asked how it went, and then what the test wants. */

#include <unistd.h>

#include "tests/unit/chunks.h"

#define CHUNKS 80u /* of noise: ten reads, of three packs */
#define EACH (SPAN_BYTES_MAX / CHUNK_BYTES)
#define CUT 1u

static char *arena, *elsewhere, *root, key[TIDE_PATH_MAX + 1], digest[DIGEST_HEX_CHARS + 1];
static struct store *real;
static unsigned content[CHUNKS];

/* ---- a store in front of the real one ---- */

static struct lazy {
    struct store base;
    unsigned begun, under_way, most;
    unsigned failing, breaking; /* the n-th read; 0: none */
    int stays, away;            /* what is broken is so again; what is to be got again is out of reach */
    unsigned alone;             /* that many chunks were got by themselves */
    const char *bad_key;        /* a sector of this object cannot be read */
    uint64_t bad_at;
    void (*at_alone)(void);
    const char *slot;           /* is it there when the first is begun? */
    int slot_there;
} lazy;

static inline int on_bad_sector(const char *name, uint64_t offset, size_t bytes)
{
    return lazy.bad_key != NULL && strcmp(name, lazy.bad_key) == 0 && offset <= lazy.bad_at && lazy.bad_at < offset + bytes;
}

static inline void lazy_begin(struct store_op *op)
{
    if (lazy.begun++ == 0 && lazy.slot != NULL)
        lazy.slot_there = access(lazy.slot, F_OK) == 0;
    op->running = (int)lazy.begun;
    lazy.under_way++;
    lazy.most = lazy.most < lazy.under_way ? lazy.under_way : lazy.most;
}

static inline enum tide_status lazy_finish(struct store_op *op, struct err *err)
{
    lazy.under_way--;
    if (op->running == (int)lazy.failing)
        return err_set(err, TIDE_E_UNAVAILABLE, "the store hangs");
    if (on_bad_sector(op->key, op->offset, op->bytes))
        return err_set(err, TIDE_E_IO, "cannot read object %s", op->key);
    enum tide_status status = store_get(real, op->key, op->offset, op->to, op->bytes, err);
    if (status == TIDE_OK && op->running == (int)lazy.breaking)
        ((unsigned char *)op->to)[3 * CHUNK_BYTES + 1] ^= 1;
    return status;
}

static inline enum tide_status lazy_get(struct store *store, const char *name, uint64_t offset, void *to, size_t bytes, struct err *err)
{
    (void)store;
    if (on_bad_sector(name, offset, bytes))
        return err_set(err, TIDE_E_IO, "cannot read object %s", name);
    enum tide_status status = store_get(real, name, offset, to, bytes, err);
    if (bytes != CHUNK_BYTES) /* a manifest */
        return status;
    lazy.alone++;
    if (lazy.at_alone != NULL)
        lazy.at_alone();
    ((unsigned char *)to)[1] ^= lazy.stays != 0;
    return lazy.away ? err_set(err, TIDE_E_UNAVAILABLE, "the store hangs") : status;
}

static inline enum tide_status lazy_size(struct store *store, const char *name, uint64_t *ret_bytes, struct err *err)
{
    (void)store;
    return store_size(real, name, ret_bytes, err);
}

static inline enum tide_status lazy_put(struct store *store, const char *name, const void *data, size_t bytes, struct err *err)
{
    (void)store;
    return store_put(real, name, data, bytes, err);
}

static struct store_ops lazy_ops = {.put = lazy_put,
                                    .scheme = "lazy", .get = lazy_get, .size = lazy_size, .begin = lazy_begin, .finish = lazy_finish};

/* ---- a checkpoint ---- */

static inline int setup(void **state)
{
    (void)state;
    struct err err = {0};
    struct stage_shard shard;
    struct cut_order order = {.cut = CUT, .generation = 1, .step = CUT};
    test_places(&arena, &elsewhere, &root, &real);
    for (unsigned i = 0; i < CHUNKS; i++)
        content[i] = i + 1;
    test_chunks_record(arena, 0, 1, CUT, content, CHUNKS);
    assert_int_equal(stage_store(real, arena, 0, CUT % SLOTS, "job", TEST_UID, CUT, &shard, &err), TIDE_OK);
    test_add_shard(&order, 0, &shard);
    assert_int_equal(stage_commit(real, "job", TEST_UID, &order, key, digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    test_places_remove(arena, elsewhere, root, real);
    return 0;
}

static inline int fresh(void **state)
{
    (void)state;
    lazy = (struct lazy){.base.ops = &lazy_ops};
    lazy_ops.gets_at_once = 20;
    return 0;
}

static inline enum tide_status fetch(struct store *from, struct err *err)
{
    return stage_fetch(from, key, digest, NULL, elsewhere, 0, 0, err);
}

static inline int is_there(void)
{
    char hex[DIGEST_HEX_CHARS + 1];
    uint32_t slot;
    return stage_find(elsewhere, 0, TEST_UID, CUT, 1, 1, &slot, hex, NULL) == TIDE_OK;
}

/* Nothing of an earlier test is there. */
static inline void forget(void)
{
    arena_path path;
    slot_path(elsewhere, 0, 0, path);
    unlink(path);
    slot_sum_path(elsewhere, 0, 0, path);
    unlink(path);
}

#endif
