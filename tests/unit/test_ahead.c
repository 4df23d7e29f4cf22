/* SPDX-License-Identifier: Apache-2.0 */

/* A shard that several threads encode: what is stored, and what fails, is as if one had. */

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "ckpt/stage/ahead.h"
#include "ckpt/stage/shared.h"
#include "tests/unit/chunks.h"
#include "tests/unit/counted.h"
#include "tests/unit/shelf.h"

#define JOB "job"
#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define CHUNKS 24u
#define FEW_CHUNKS 16u
#define MANY_CHUNKS 80u /* more than two packs */
#define CALM "0101010101" /* each chunk is encoded with the usual effort */
#define HELPED_US 20000
#define BAD_CHUNK 15u
#define MEMORY_TRIES_MAX 200u

static char *arena;

/* ---- the threads that help: how many there are, and one that is held ---- */

void __wrap_encode_chunk(struct encoder *encoder, const void *raw, uint32_t raw_bytes, struct segments *segments, void *to,
                         enum chunk_codec *ret_codec, uint32_t *ret_length);
void __real_encode_chunk(struct encoder *encoder, const void *raw, uint32_t raw_bytes, struct segments *segments, void *to,
                         enum chunk_codec *ret_codec, uint32_t *ret_length);

int __wrap_pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *param);

static atomic_uint humble; /* of those begun, that have made themselves the last in the queue for a processor */

/* They are not made so here: on a machine that is busy little would be seen of them. */
int __wrap_pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *param)
{
    (void)param;
    atomic_fetch_add(&humble, policy == SCHED_IDLE && pthread_equal(thread, pthread_self()) && !pthread_equal(thread, leader));
    return 0;
}

void __wrap_encode_chunk(struct encoder *encoder, const void *raw, uint32_t raw_bytes, struct segments *segments, void *to,
                         enum chunk_codec *ret_codec, uint32_t *ret_length)
{
    counted_hold();
    __real_encode_chunk(encoder, raw, raw_bytes, segments, to, ret_codec, ret_length);
    counted_done();
}

static int setup(void **state)
{
    (void)state;
    arena = test_dir();
    counted_begin();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    helpers_want(0);
    counted_end();
    test_dir_remove(arena);
    return 0;
}

/* ---- storing ---- */

static enum tide_status put(struct shelf *shelf, uint32_t rank, uint64_t cut, int share, unsigned helpers, struct err *err)
{
    struct stage_shard shard;
    atomic_store(&begun, 0); /* slots are hashed by threads, too */
    atomic_store(&humble, 0);
    helpers_want(helpers);
    enum tide_status status =
        (share ? stage_store_shared : stage_store)(&shelf->base, arena, rank, (uint32_t)cut % SLOTS, JOB, TEST_UID, cut, &shard, err);
    helpers_want(0);
    assert_int_equal(atomic_load(&alive), 0);
    assert_int_equal(atomic_load(&humble), atomic_load(&begun));
    return status;
}

static void put_well(struct shelf *shelf, uint32_t rank, uint64_t cut, int share, unsigned helpers)
{
    struct err err = {0};
    assert_int_equal(put(shelf, rank, cut, share, helpers, &err), TIDE_OK);
}

static void are_equal(struct shelf *a, struct shelf *b)
{
    assert_int_equal(a->count, b->count);
    for (unsigned i = 0; i < a->count; i++) {
        const struct shelf_object *other = shelf_find(b, a->objects[i].key);
        assert_non_null(other);
        assert_int_equal(a->objects[i].bytes, other->bytes);
        assert_true(digest_equal(a->objects[i].digest, other->digest));
    }
}

static uint64_t bytes_on(const struct shelf *shelf)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < shelf->count; i++)
        bytes += shelf->objects[i].bytes;
    return bytes;
}

static void record_chunks(uint32_t rank, uint64_t cut, unsigned differ_from, unsigned count)
{
    unsigned content[MANY_CHUNKS];
    for (unsigned i = 0; i < count; i++)
        content[i] = i % 9 == 4 ? 0 : i + 1 + (i >= differ_from ? 100 * (unsigned)cut + 1000 * rank : 0);
    test_chunks_record(arena, rank, 2, cut, content, count);
}

/* ---- a slot with everything in it, of five packs; all chunks but few look different at each effort ---- */

static const struct kind {
    const char *name;
    enum tide_dtype dtype;
    uint64_t bytes;
} kinds[] = {
    {"noise", TIDE_BYTES, 768 * KIB + 320}, {"floats", TIDE_F32, 256 * KIB + 64}, {"counts", TIDE_I64, 128 * KIB + 8},
    {"halves", TIDE_BF16, 128 * KIB},       {"zeros", TIDE_F32, 48 * KIB},
};
#define KINDS (sizeof kinds / sizeof kinds[0])
#define REGIONS (140 * KINDS)

static void fill(unsigned char *to, const struct kind *kind, uint64_t seed)
{
    struct rng rng = {.state = seed};
    uint64_t n = 0;
    if (kind->dtype == TIDE_F32 || kind->dtype == TIDE_BF16) {
        if (strcmp(kind->name, "zeros") != 0)
            test_floats(to, kind->bytes, kind->dtype, seed);
        return;
    }
    for (uint64_t at = 0; at + sizeof n <= kind->bytes; at += sizeof n) {
        n = kind->dtype == TIDE_BYTES ? rng_next(&rng) : n + rng_below(&rng, 1000);
        memcpy(to + at, &n, sizeof n);
    }
}

static void record_everything(uint64_t cut)
{
    arena_path path;
    struct err err = {0};
    struct slot slot;
    char hex[DIGEST_HEX_CHARS + 1];
    uint64_t end = 0, offset = 0;
    for (unsigned i = 0; i < REGIONS; i++)
        end = region_end_aligned(end, kinds[i % KINDS].bytes);
    slot_path(arena, 0, (uint32_t)cut % SLOTS, path);
    assert_int_equal(slot_reserve(path, slot_bytes_needed(REGIONS, false, end), &err), TIDE_OK);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    assert_int_equal(slot_start(&slot, REGIONS, false, end, &err), TIDE_OK);
    for (unsigned i = 0; i < REGIONS; i++) {
        const struct kind *kind = &kinds[i % KINDS];
        slot.regions[i] = (struct slot_region){.dtype = kind->dtype, .offset = offset, .bytes = kind->bytes};
        snprintf(slot.regions[i].name, sizeof slot.regions[i].name, "%s.%u", kind->name, i);
        fill(slot.data + offset, kind, i + 1);
        offset = region_end_aligned(offset, kind->bytes);
    }
    struct slot_header facts = {.job_uid = TEST_UID, .generation = 1, .cut = cut, .world_size = 1, .step = cut};
    slot_finish(&slot, &facts);
    slot_unmap(&slot);
    assert_int_equal(stage_sum(arena, 0, (uint32_t)cut % SLOTS, TEST_UID, cut, hex, &err), TIDE_OK);
}

/* ---- the same comes out ---- */

/* How many help changes, too. */
static void other_helpers(unsigned n)
{
    helpers_want(n * 2 % (HELPERS_MAX + 1));
}

/* A pack is full: what is given has been encoded by now, with the effort that was. */
static void let_them_work(void)
{
    usleep(HELPED_US);
}

/* At every effort, and where it changes in the middle; there with a number of helpers that changes, too, from none to all. */
static void what_is_stored_does_not_depend_on_helpers(void **state)
{
    static const char *const stories[] = {CALM, "000000", "011111", "010000"};
    uint64_t bytes[sizeof stories / sizeof stories[0]];
    (void)state;
    record_everything(1);
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        struct shelf *alone = shelf_create(stories[i]);
        put_well(alone, 0, 1, 0, 0);
        bytes[i] = bytes_on(alone);
        for (unsigned helpers = i == 0 ? 1 : HELPERS_MAX + 1; helpers <= HELPERS_MAX + 1; helpers += helpers == 1 ? HELPERS_MAX - 1 : 1) {
            struct shelf *helped = shelf_create(stories[i]);
            helped->at_put = helpers > HELPERS_MAX ? other_helpers : NULL;
            helped->at_full = let_them_work;
            put_well(helped, 0, 1, 0, helpers);
            are_equal(alone, helped);
            shelf_free(helped);
        }
        shelf_free(alone);
    }
    /* The stories are different ones: nothing encoded, more than usual. */
    assert_true(bytes[1] > bytes[0]);
    assert_true(bytes[2] < bytes[0]);
    assert_true(bytes[3] > bytes[0] && bytes[3] < bytes[1]);
    assert_true(atomic_load(&by_helpers) > 0);
}

static void nor_does_what_ranks_share_or_refer_to(void **state)
{
    struct shelf *shelves[HELPERS_MAX + 1];
    const struct cut_name name = {.job = JOB, .uid = TEST_UID, .cut = 1, .generation = 1};
    (void)state;
    for (unsigned helpers = 0; helpers <= HELPERS_MAX; helpers += HELPERS_MAX) {
        struct shelf *shelf = shelves[helpers] = shelf_create(CALM);
        struct shared_writer *present = shared_join(&shelf->base, &name);
        for (uint32_t rank = 0; rank < 2; rank++) {
            char base[TIDE_PATH_MAX];
            snprintf(base, sizeof base, "%s/r%u.base", arena, rank);
            assert_true(helpers == 0 || unlink(base) == 0);
            record_chunks(rank, 1, CHUNKS - 8, CHUNKS);
            put_well(shelf, rank, 1, 1, helpers);
        }
        shared_leave(present);
        /* That there was such a checkpoint is all that the next cut looks for. */
        assert_int_equal(shelf_put(&shelf->base, "m/" JOB "." TEST_UID "/1-1/COMMIT", "", 0, NULL), TIDE_OK);
        record_chunks(0, 2, CHUNKS - 6, CHUNKS);
        put_well(shelf, 0, 2, 1, helpers);
    }
    assert_true(bytes_on(shelves[0]) < (CHUNKS + 8 + 8 + 1) * MIB);
    are_equal(shelves[0], shelves[HELPERS_MAX]);
    shelf_free(shelves[0]);
    shelf_free(shelves[HELPERS_MAX]);
}

/* Of the queue behind the first pack nothing can be told: that it is empty does not count. */
static void the_first_pack_says_nothing_of_the_store(void **state)
{
    (void)state;
    struct shelf *calm = shelf_create(CALM), *once = shelf_create("0010101010");
    record_everything(1);
    put_well(calm, 0, 1, 0, 0);
    put_well(once, 0, 1, 0, 0);
    are_equal(calm, once);
    shelf_free(calm);
    shelf_free(once);
}

/* ---- what goes wrong ---- */

static void a_bad_chunk_is_the_same_one(void **state)
{
    struct err alone = {0}, helped = {0};
    arena_path path;
    (void)state;
    record_chunks(0, 1, CHUNKS, CHUNKS);
    slot_path(arena, 0, 1, path);
    test_flip(path, (long)(2 * SLOT_HEADER_BYTES + BAD_CHUNK * CHUNK_BYTES), 4);
    test_flip(path, (long)(2 * SLOT_HEADER_BYTES + (BAD_CHUNK + 1) * CHUNK_BYTES), 4);
    for (unsigned helpers = 0; helpers <= HELPERS_MAX; helpers++) {
        struct shelf *shelf = shelf_create(CALM);
        assert_int_equal(put(shelf, 0, 1, 0, helpers, helpers == 0 ? &alone : &helped), TIDE_E_CORRUPT);
        if (helpers > 0)
            assert_string_equal(alone.text, helped.text);
        for (unsigned i = 0; i < shelf->count; i++)
            assert_int_not_equal(shelf->objects[i].key[0], 'm');
        shelf_free(shelf);
    }
    assert_non_null(strstr(alone.text, "chunk 15 "));
}

static void a_store_that_fails_ends_it(void **state)
{
    struct err err = {0};
    (void)state;
    record_chunks(0, 1, 0, MANY_CHUNKS);
    for (unsigned failing = 1; failing <= 3; failing++)
        for (unsigned helpers = 0; helpers <= HELPERS_MAX; helpers += HELPERS_MAX) {
            struct shelf *shelf = shelf_create(CALM);
            shelf->failing = failing;
            assert_int_equal(put(shelf, 0, 1, 0, helpers, &err), TIDE_E_UNAVAILABLE);
            shelf_free(shelf);
        }
}

/* Without memory for helpers there are fewer; what the shard itself needs is asked for as ever. */
static void without_memory_there_are_fewer(void **state)
{
    struct err err = {0};
    struct shelf *alone = shelf_create(CALM);
    unsigned failed = 0, fewer = 0, n = 1;
    (void)state;
    record_chunks(0, 1, FEW_CHUNKS, FEW_CHUNKS);
    put_well(alone, 0, 1, 0, 0);
    for (int done = 0; !done && n < MEMORY_TRIES_MAX; n++) {
        struct shelf *shelf = shelf_create(CALM);
        threads_left = 64;
        mem_fail_at(n);
        enum tide_status status = put(shelf, 0, 1, 0, HELPERS_MAX, &err);
        mem_fail_at(0);
        failed += status == TIDE_E_NOMEM;
        fewer += status == TIDE_OK && atomic_load(&begun) < HELPERS_MAX;
        assert_true(status == TIDE_OK || status == TIDE_E_NOMEM);
        if (status == TIDE_OK)
            are_equal(alone, shelf);
        done = status == TIDE_OK && atomic_load(&begun) == HELPERS_MAX && fewer > 0;
        shelf_free(shelf);
    }
    assert_true(n < MEMORY_TRIES_MAX);
    assert_true(failed > 0);
    assert_true(fewer > 3 * HELPERS_MAX);
    shelf_free(alone);
}

static void without_threads_too(void **state)
{
    struct shelf *alone = shelf_create(CALM);
    (void)state;
    record_chunks(0, 1, FEW_CHUNKS, FEW_CHUNKS);
    put_well(alone, 0, 1, 0, 0);
    for (unsigned threads = 0; threads < HELPERS_MAX; threads++) {
        struct shelf *shelf = shelf_create(CALM);
        threads_left = threads;
        put_well(shelf, 0, 1, 0, HELPERS_MAX);
        assert_int_equal(atomic_load(&begun), threads);
        are_equal(alone, shelf);
        shelf_free(shelf);
    }
    shelf_free(alone);
}

/* A helper that gets no processor: it has its chunk until all others, and that one, have been encoded without it. */
static void a_helper_that_is_late_is_not_waited_for(void **state)
{
    struct shelf *alone = shelf_create(CALM);
    (void)state;
    record_chunks(0, 1, FEW_CHUNKS, FEW_CHUNKS);
    put_well(alone, 0, 1, 0, 0);
    for (unsigned helpers = 1; helpers <= HELPERS_MAX; helpers++) {
        struct shelf *shelf = shelf_create(CALM);
        atomic_store(&by_leader, 0);
        hold_until = FEW_CHUNKS;
        put_well(shelf, 0, 1, 0, helpers);
        assert_int_equal(atomic_load(&by_leader), FEW_CHUNKS);
        are_equal(alone, shelf);
        shelf_free(shelf);
        assert_int_equal(sem_trywait(&go), 0);
    }
    shelf_free(alone);
}

static void few_chunks_need_no_help(void **state)
{
    unsigned content[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct shelf *shelf = shelf_create(CALM);
    (void)state;
    test_chunks_record(arena, 0, 1, 1, content, 8);
    put_well(shelf, 0, 1, 0, HELPERS_MAX);
    assert_int_equal(atomic_load(&begun), 0);
    shelf_free(shelf);
}

/* ---- how many ---- */

static void as_many_as_there_are_processors_to_spare(void **state)
{
    static const struct {
        struct helpers_facts facts;
        unsigned each;
    } cases[] = {
        {{.cores = 112, .ranks = 8, .shards = {5}}, 3}, {{.cores = 48, .ranks = 8, .shards = {5}}, 2},
        {{.cores = 42, .ranks = 8, .shards = {5}}, 1},  {{.cores = 41, .ranks = 8, .shards = {5}}, 0},
        {{.cores = 37, .ranks = 8, .shards = {5}}, 0},  {{.cores = 32, .ranks = 8, .shards = {1}}, 0},
        {{.cores = 36, .ranks = 8, .shards = {1}}, 3},  {{.cores = 2, .ranks = 1, .shards = {1}}, 0},
        {{.cores = 8, .ranks = 1, .shards = {1}}, 3},   {{.cores = 8, .ranks = 0, .shards = {0}}, 0},
        {{.cores = 4, .ranks = UINT32_MAX, .shards = {1}}, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(helpers_each(&cases[i].facts, HELPERS_STORE), cases[i].each);
    assert_int_equal(helpers_now(HELPERS_STORE), 0);
    helpers_want(99);
    assert_int_equal(helpers_now(HELPERS_STORE), HELPERS_MAX);
    helpers_want(HELPERS_BY_CORES);
    helpers_ranks(UINT32_MAX, 0);
    helpers_come(HELPERS_STORE);
    assert_int_equal(helpers_now(HELPERS_STORE), 0);
    helpers_leave(HELPERS_STORE);
    helpers_ranks(0, 0);
}

static void a_quota_counts_as_processors(void **state)
{
    (void)state;
    assert_int_equal(helpers_quota("max 100000\n", 16), 16);
    assert_int_equal(helpers_quota("400000 100000\n", 16), 4);
    assert_int_equal(helpers_quota("250000 100000\n", 16), 2);
    assert_int_equal(helpers_quota("50000 100000\n", 16), 0);
    assert_int_equal(helpers_quota("9900000 100000\n", 16), 16);
    assert_int_equal(helpers_quota("1 0\n", 16), 16);
    assert_int_equal(helpers_quota("", 16), 16);
    assert_int_equal(helpers_quota("nonsense", 16), 16);
}

static void say(const char *dir, const char *name, const char *text)
{
    struct err err = {0};
    char path[TIDE_PATH_MAX];
    snprintf(path, sizeof path, "%s%s", arena, dir);
    assert_int_equal(fsx_mkdirs(path, 0700, &err), TIDE_OK);
    snprintf(path, sizeof path, "%s%s/%s", arena, dir, name);
    assert_int_equal(fsx_replace(path, text, strlen(text), 0600, &err), TIDE_OK);
}

/* The least of our group and those above it. */
static void groups_above_have_quotas_too(void **state)
{
    (void)state;
    unsigned all = helpers_cores(arena);
    assert_true(all >= 1);
    say("/proc/self", "cgroup", "1:name=systemd:/else\n0::/a.slice/b.service\n");
    say("/sys/fs/cgroup/a.slice/b.service", "cpu.max", "max 100000\n");
    assert_int_equal(helpers_cores(arena), all);
    say("/sys/fs/cgroup/a.slice", "cpu.max", "90000 100000\n");
    assert_int_equal(helpers_cores(arena), 0);
    say("/sys/fs/cgroup/a.slice", "cpu.max", "100000 100000\n");
    assert_int_equal(helpers_cores(arena), 1);
    say("/sys/fs/cgroup", "cpu.max", "0 100000\n"); /* a container's */
    assert_int_equal(helpers_cores(arena), 0);
    say("/proc/self", "cgroup", "0::/\n");
    assert_int_equal(helpers_cores(arena), 0);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(what_is_stored_does_not_depend_on_helpers),
        CASE(nor_does_what_ranks_share_or_refer_to),
        CASE(the_first_pack_says_nothing_of_the_store),
        CASE(a_bad_chunk_is_the_same_one),
        CASE(a_store_that_fails_ends_it),
        CASE(without_memory_there_are_fewer),
        CASE(without_threads_too),
        CASE(a_helper_that_is_late_is_not_waited_for),
        CASE(few_chunks_need_no_help),
        CASE(as_many_as_there_are_processors_to_spare),
        CASE(a_quota_counts_as_processors),
        CASE(groups_above_have_quotas_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
