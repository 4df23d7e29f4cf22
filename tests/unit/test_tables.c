/* SPDX-License-Identifier: Apache-2.0 */

/* Ranks of another number that are put together at the same time, and have what the old ones say of their shards read once for all. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "ckpt/base/clock.h"
#include "ckpt/stage/tables.h"
#include "tests/unit/anew.h"

#define TAKERS 6u

/* The real store, that counts how often a rank manifest is read, and may be gone. */
static struct counted {
    struct store base;
    atomic_uint read;
    atomic_int gone;
    atomic_uint stuck;  /* the n-th read from now on, 1 the next, does not end … */
    atomic_int waiting; /* … while that is 1 */
} counted;

static enum tide_status counted_get(struct store *of, const char *key, uint64_t offset, void *to, size_t bytes, struct err *err)
{
    (void)of;
    if (atomic_load(&counted.gone))
        return err_set(err, TIDE_E_UNAVAILABLE, "the store is gone");
    usleep(1000); /* so that all come while it is read */
    if (strstr(key, ".json") != NULL) {
        atomic_fetch_add(&counted.read, 1);
        if (atomic_load(&counted.stuck) > 0 && atomic_fetch_sub(&counted.stuck, 1) == 1)
            while (atomic_load(&counted.waiting))
                usleep(1000);
    }
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

/* A rank that is put together while another is reads no manifest again. */
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
    for (unsigned i = 0; i < 2; i++) {
        if (i == 1)
            assert_int_equal(tables_take(&counted.base, &whole, &held, &err), TIDE_OK);
        atomic_store(&counted.read, 0);
        assert_int_equal(shard_put_together(&counted.base, &whole, &target, &err), TIDE_OK);
        assert_int_equal(atomic_load(&counted.read), i == 0 ? world : 0); /* their chunks came with the tables */
        came_back(0, 3);
    }
    tables_give(held);
    tables_give(NULL);
    codec_release(&manifest_codec, &whole);
}

/* The tables of all ranks, with room for so many bytes of manifests. */
static const struct tables *held_with(uint32_t world, uint64_t bytes)
{
    struct err err = {0};
    const struct tables *held = NULL;
    checkpoint(world, 0);
    counted.base.ops = &counted_ops;
    assert_int_equal(manifest_read(store, commit_key, commit_digest, &whole, &err), TIDE_OK);
    tables_limit(TABLES_WAIT_S * MS_PER_S, bytes);
    assert_int_equal(tables_take(&counted.base, &whole, &held, &err), TIDE_OK);
    atomic_store(&counted.read, 0);
    return held;
}

static void let_go(const struct tables *held)
{
    tables_give(held);
    tables_limit(TABLES_WAIT_S * MS_PER_S, TABLES_KEPT_BYTES);
    codec_release(&manifest_codec, &whole);
}

static const struct rank_manifest *manifest_of(const struct tables *held, uint32_t rank)
{
    struct err err = {0};
    const struct rank_manifest *m = NULL;
    assert_int_equal(tables_manifest(held, &whole, rank, &m, &err), TIDE_OK);
    assert_int_equal(m->rank, rank);
    assert_true(m->chunks.count > 0);
    return m;
}

/* What is kept has a limit; while somebody uses one, others have it from him. */
static void manifests_without_room_are_read_again(void **state)
{
    (void)state;
    const struct tables *held = held_with(4, 0);
    const struct rank_manifest *one = manifest_of(held, 1);
    assert_int_equal(atomic_load(&counted.read), 1);
    const struct rank_manifest *same = manifest_of(held, 1);
    assert_ptr_equal(one, same);
    tables_manifest_give(held, one);
    assert_ptr_equal(manifest_of(held, 1), same);
    tables_manifest_give(held, same);
    tables_manifest_give(held, same);
    assert_int_equal(atomic_load(&counted.read), 1);
    tables_manifest_give(held, manifest_of(held, 1));
    assert_int_equal(atomic_load(&counted.read), 2);
    let_go(held);
}

static void the_first_that_fit_are_kept(void **state)
{
    (void)state;
    const uint32_t world = 4;
    const struct tables *held = held_with(world, TABLES_KEPT_BYTES);
    const struct rank_manifest *m = manifest_of(held, 0);
    uint64_t one = sizeof *m + m->packs.count * sizeof(struct pack_entry);
    for (size_t i = 0; i < m->chunks.count; i++)
        one += strlen(m->chunks.items[i]);
    tables_manifest_give(held, m);
    let_go(held);
    held = held_with(world, 5 * one / 2);
    for (uint32_t rank = 0; rank < world; rank++)
        tables_manifest_give(held, manifest_of(held, rank));
    unsigned read = atomic_load(&counted.read);
    assert_in_range(read, 1, world - 1);
    for (uint32_t rank = 0; rank < world; rank++)
        tables_manifest_give(held, manifest_of(held, rank));
    assert_int_equal(atomic_load(&counted.read), 2 * read);
    let_go(held);
}

/* A failure is told to who asked, and the next one asks again. */
static void a_manifest_that_cannot_be_read_is_asked_for_again(void **state)
{
    (void)state;
    struct err err = {0};
    const struct rank_manifest *m = NULL;
    const struct tables *held = held_with(4, 0);
    atomic_store(&counted.gone, 1);
    assert_int_equal(tables_manifest(held, &whole, 2, &m, &err), TIDE_E_UNAVAILABLE);
    atomic_store(&counted.gone, 0);
    mem_fail_at(1);
    assert_int_equal(tables_manifest(held, &whole, 2, &m, &err), TIDE_E_NOMEM);
    mem_fail_at(0);
    assert_null(m);
    tables_manifest_give(held, manifest_of(held, 2));
    let_go(held);
}

static void *take_alone(void *context)
{
    struct err err = {0};
    const struct tables *held = NULL;
    enum tide_status status = tables_take(&counted.base, &whole, &held, &err);
    *(int *)context = status == TIDE_OK && held->rank_count == whole.world_size;
    tables_give(held);
    return NULL;
}

struct asks {
    const struct tables *held;
    int good;
};

static void *ask_alone(void *context)
{
    struct asks *asks = context;
    struct err err = {0};
    const struct rank_manifest *m = NULL;
    asks->good = tables_manifest(asks->held, &whole, 1, &m, &err) == TIDE_OK && m->rank == 1;
    if (asks->good)
        tables_manifest_give(asks->held, m);
    return NULL;
}

static void begin_stuck(pthread_t *thread, void *(*run)(void *context), void *context)
{
    atomic_store(&counted.waiting, 1);
    atomic_store(&counted.stuck, 1);
    assert_int_equal(pthread_create(thread, NULL, run, context), 0);
    while (atomic_load(&counted.stuck) > 0)
        usleep(1000);
}

/* Another's read that does not come is not waited for for ever. */
static void who_has_waited_long_enough_reads_for_himself(void **state)
{
    (void)state;
    pthread_t thread;
    struct err err = {0};
    int good = 0;
    const struct tables *held = NULL;
    let_go(held_with(4, 0));
    assert_int_equal(manifest_read(store, commit_key, commit_digest, &whole, &err), TIDE_OK);
    tables_limit(20, 0);
    begin_stuck(&thread, take_alone, &good);
    assert_int_equal(tables_take(&counted.base, &whole, &held, &err), TIDE_OK);
    assert_int_equal(held->rank_count, 4);
    atomic_store(&counted.waiting, 0);
    pthread_join(thread, NULL);
    assert_int_equal(good, 1);
    /* The same of one manifest, which the slow one finds in another's place then. */
    struct asks asks = {.held = held};
    begin_stuck(&thread, ask_alone, &asks);
    const struct rank_manifest *m = manifest_of(held, 1);
    atomic_store(&counted.waiting, 0);
    pthread_join(thread, NULL);
    assert_int_equal(asks.good, 1);
    assert_ptr_equal(manifest_of(held, 1), m);
    tables_manifest_give(held, m);
    tables_manifest_give(held, m);
    let_go(held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_A_STORE(tables_are_read_once_for_all),
        WITH_A_STORE(ranks_put_together_at_a_time_share_them),
        WITH_A_STORE(manifests_without_room_are_read_again),
        WITH_A_STORE(the_first_that_fit_are_kept),
        WITH_A_STORE(a_manifest_that_cannot_be_read_is_asked_for_again),
        WITH_A_STORE(who_has_waited_long_enough_reads_for_himself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
