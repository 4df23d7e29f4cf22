/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "ckpt/stage/shared.h"
#include "tests/unit/chunks.h"

/* Ranks that hold the same store it once. */

#define JOB "job"
#define CHUNKS 5u
#define WORLD 3u
#define CUTS_MAX 8u
#define MUCH_OF_A_CHUNK (CHUNK_BYTES / 2)

static char *arena, *elsewhere, *root;
static struct store *store;
static unsigned content[CUTS_MAX][WORLD][CHUNKS]; /* what each chunk is made from */
static struct stage_shard shards[WORLD];
static enum tide_status outcome[WORLD];
static char keys[CUTS_MAX][TIDE_PATH_MAX + 1], digests[CUTS_MAX][DIGEST_HEX_CHARS + 1];

static int setup(void **state)
{
    (void)state;
    test_places(&arena, &elsewhere, &root, &store);
    for (unsigned cut = 0; cut < CUTS_MAX; cut++)
        for (unsigned rank = 0; rank < WORLD; rank++)
            for (unsigned i = 0; i < CHUNKS; i++)
                content[cut][rank][i] = i + 1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_places_remove(arena, elsewhere, root, store);
    return 0;
}

static void record(uint64_t cut, uint32_t rank)
{
    test_chunks_record(arena, rank, WORLD, cut, content[cut][rank], CHUNKS);
}

static void put(uint64_t cut, uint32_t rank)
{
    struct err err = {0};
    outcome[rank] = stage_store_shared(store, arena, rank, (uint32_t)cut % SLOTS, JOB, TEST_UID, cut, &shards[rank], &err);
}

static struct shared_writer *present(uint64_t cut)
{
    const struct cut_name name = {.job = JOB, .uid = TEST_UID, .cut = cut, .generation = 1};
    struct shared_writer *writer = shared_join(store, &name);
    assert_non_null(writer);
    return writer;
}

static void commit(uint64_t cut)
{
    struct err err = {0};
    struct cut_order order = {.cut = cut, .generation = 1, .step = cut};
    for (uint32_t rank = 0; rank < WORLD; rank++) {
        assert_int_equal(outcome[rank], TIDE_OK);
        test_add_shard(&order, rank, &shards[rank]);
    }
    assert_int_equal(stage_commit(store, JOB, TEST_UID, &order, keys[cut], digests[cut], &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
}

/* The ranks from `first` on, one after the other; `one` is there meanwhile, who keeps what is known. */
static void save_from(uint64_t cut, uint32_t first, struct shared_writer *one)
{
    for (uint32_t rank = first; rank < WORLD; rank++) {
        record(cut, rank);
        put(cut, rank);
    }
    shared_leave(one);
    commit(cut);
}

static void save(uint64_t cut)
{
    save_from(cut, 0, present(cut));
}

static void is_whole(uint64_t cut)
{
    test_is_sound(store, keys[cut], digests[cut]);
    for (uint32_t rank = 0; rank < WORLD; rank++)
        test_chunks_are(store, keys[cut], digests[cut], elsewhere, rank, content[cut][rank], CHUNKS);
}

static uint64_t bytes_below(const char *prefix)
{
    return test_bytes_below(store, prefix);
}

static uint32_t version_of(uint32_t rank)
{
    struct rank_manifest m;
    struct err err = {0};
    assert_int_equal(shard_manifest_read(store, shards[rank].key, shards[rank].digest, &m, &err), TIDE_OK);
    uint32_t version = m.version;
    codec_release(&rank_manifest_codec, &m);
    return version;
}

static void equal_chunks_are_stored_once(void **state)
{
    (void)state;
    struct err err = {0};
    content[1][1][2] = 77;
    content[1][2][4] = 0;
    save(1);
    is_whole(1);
    assert_int_equal(bytes_below("c/"), 6 * CHUNK_BYTES);
    assert_true(shards[0].stored_bytes > 5 * CHUNK_BYTES);
    assert_in_range(shards[1].stored_bytes, CHUNK_BYTES, CHUNK_BYTES + MUCH_OF_A_CHUNK);
    assert_true(shards[2].stored_bytes < MUCH_OF_A_CHUNK);
    assert_int_equal(version_of(0), 3); /* for readers that know no more */
    assert_int_equal(version_of(1), 4);
    /* Told again, as after a lost answer. */
    struct stage_shard before = shards[1];
    put(1, 1);
    assert_int_equal(outcome[1], TIDE_OK);
    assert_string_equal(shards[1].digest, before.digest);
    assert_in_range(shards[1].stored_bytes, CHUNK_BYTES, CHUNK_BYTES + MUCH_OF_A_CHUNK);
    assert_int_equal(stage_purge(store, JOB, TEST_UID, 1, &err), TIDE_OK);
    assert_int_equal(bytes_below(""), 0);
}

static void the_next_cut_refers_to_what_another_rank_wrote(void **state)
{
    (void)state;
    struct err err = {0};
    save(1);
    for (uint32_t rank = 0; rank < WORLD; rank++)
        content[2][rank][0] = 50;
    save(2);
    assert_int_equal(bytes_below("c/"), 6 * CHUNK_BYTES);
    /* Of the first only packs are left, and as long as they are needed. */
    assert_int_equal(stage_purge(store, JOB, TEST_UID, 1, &err), TIDE_OK);
    is_whole(2);
    uint64_t live[] = {2}, over[] = {1}, strange = 0;
    const struct orphan_rule rule = {.live = live, .live_count = 1, .over = over, .over_count = 1, .below = 3};
    assert_int_equal(stage_sweep(store, JOB, TEST_UID, &rule, &strange, &err), TIDE_OK);
    is_whole(2);
    assert_int_equal(stage_purge(store, JOB, TEST_UID, 2, &err), TIDE_OK);
    assert_int_equal(bytes_below(""), 0);
}

static void *put_in_thread(void *rank)
{
    put(1, (uint32_t)(size_t)rank);
    return NULL;
}

static void beside_each_other_each_writes_a_part(void **state)
{
    (void)state;
    pthread_t threads[WORLD];
    struct shared_writer *one = present(1);
    for (uint32_t rank = 0; rank < WORLD; rank++)
        record(1, rank);
    for (size_t rank = 0; rank < WORLD; rank++)
        assert_int_equal(pthread_create(&threads[rank], NULL, put_in_thread, (void *)rank), 0);
    for (size_t rank = 0; rank < WORLD; rank++)
        pthread_join(threads[rank], NULL);
    shared_leave(one);
    commit(1);
    is_whole(1);
    assert_int_equal(bytes_below("c/"), 5 * CHUNK_BYTES);
}

/* The linker has stage_store's calls come here: while `claims_left` are made another writer is there, and then it fails. */
static struct shared_writer *fails;
static unsigned claims_left;
int __wrap_shared_claim(struct shared_writer *writer, struct digest digest);
int __real_shared_claim(struct shared_writer *writer, struct digest digest);

int __wrap_shared_claim(struct shared_writer *writer, struct digest digest)
{
    if (fails != NULL && --claims_left == 0) {
        shared_leave(fails);
        fails = NULL;
    }
    return __real_shared_claim(writer, digest);
}

/* Somebody claims what chunks 1 and 3 of rank 0 hold, and what comes of it is not known yet. */
static struct shared_writer *claims(void)
{
    struct shared_writer *other = present(1);
    unsigned char *bytes = mem_alloc(CHUNK_BYTES);
    for (unsigned i = 1; i < CHUNKS; i += 2) {
        test_chunk_fill(bytes, content[1][0][i]);
        assert_true(shared_claim(other, digest_of(bytes, CHUNK_BYTES)));
    }
    mem_free(bytes);
    return other;
}

static void what_a_failed_writer_claimed_is_written_by_who_needs_it(void **state)
{
    (void)state;
    pthread_t thread;
    record(1, 0);
    struct shared_writer *one = present(1), *other = claims();
    assert_int_equal(pthread_create(&thread, NULL, put_in_thread, (void *)0), 0);
    for (unsigned ms = 0; bytes_below("c/") < 3 * CHUNK_BYTES && ms < 20000; ms++)
        usleep(1000); /* its own part is there, and it waits */
    assert_int_equal(bytes_below("m/"), 0);
    shared_leave(other);
    pthread_join(thread, NULL);
    assert_int_equal(outcome[0], TIDE_OK);
    assert_int_equal(bytes_below("c/"), 5 * CHUNK_BYTES);
    assert_int_equal(version_of(0), 3);
    /* Who comes later claims it anew, or finds it. */
    save_from(1, 1, one);
    is_whole(1);
}

/* Of two chunks that are the same the first is somebody's who fails, so that the second is this rank's own: then the first is, too. */
static void what_was_anothers_may_become_its_own(void **state)
{
    (void)state;
    content[1][0][4] = content[1][0][1];
    record(1, 0);
    struct shared_writer *one = present(1);
    fails = claims();
    claims_left = 4; /* it is the third here: it begins with chunk 1, and comes to chunk 4 */
    put(1, 0);
    assert_null(fails);
    assert_int_equal(outcome[0], TIDE_OK);
    assert_int_equal(bytes_below("c/"), 4 * CHUNK_BYTES);
    save_from(1, 1, one);
    is_whole(1);
}

static void memory_that_runs_out_stores_more(void **state)
{
    (void)state;
    const struct cut_name name = {.job = JOB, .uid = TEST_UID, .cut = 1, .generation = 1};
    struct shared_writer *one;
    for (unsigned long n = 1; n <= 2; n++) {
        mem_fail_at(n);
        one = shared_join(store, &name);
        mem_fail_at(0);
        assert_null(one);
    }
    one = present(1);
    struct digest digest = {.high = 1, .low = 2};
    for (unsigned long n = 1; n <= 2; n++) {
        mem_fail_at(n);
        assert_true(shared_claim(one, digest)); /* it is not known that it is claimed */
        mem_fail_at(0);
    }
    struct shared_writer *other = present(1);
    assert_true(shared_claim(other, digest));
    struct chunk chunk = {.codec = CHUNK_RAW, .digest = digest};
    struct pack_entry pack = {.bytes = 1};
    shared_note(other, &chunk);
    mem_fail_at(1);
    shared_publish(other, &pack, 1);
    mem_fail_at(0);
    assert_false(shared_find(one, digest, &chunk, &pack));
    shared_leave(other);
    shared_leave(one);
    shared_leave(NULL);
    assert_true(shared_claim(NULL, digest));
    assert_int_equal(shared_begin(NULL, 10), 0);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(equal_chunks_are_stored_once),
        CASE(the_next_cut_refers_to_what_another_rank_wrote),
        CASE(beside_each_other_each_writes_a_part),
        CASE(what_a_failed_writer_claimed_is_written_by_who_needs_it),
        CASE(what_was_anothers_may_become_its_own),
        CASE(memory_that_runs_out_stores_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
