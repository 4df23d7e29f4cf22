/* SPDX-License-Identifier: Apache-2.0 */

/* A shard that several threads decode: what comes back, what is told and what fails is as if one had. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ckpt/stage/unpack.h"
#include "tests/unit/counted.h"
#include "tests/unit/lazy.h"

#define MEMORY_TRIES_MAX 100u
#define NOBODY UINT64_MAX

/* ---- the threads that help: how many there are, and one that is held ---- */

enum tide_status __wrap_shard_decode(struct encoder *encoder, unsigned char *room, const struct chunk *chunk, const unsigned char *from,
                                     uint32_t raw_bytes, const unsigned char **ret_bytes, struct err *err);
enum tide_status __real_shard_decode(struct encoder *encoder, unsigned char *room, const struct chunk *chunk, const unsigned char *from,
                                     uint32_t raw_bytes, const unsigned char **ret_bytes, struct err *err);
enum tide_status __wrap_shard_read_chunk(struct shard_reader *reader, uint64_t index, const unsigned char **ret_bytes,
                                         struct digest *ret_digest, struct err *err);
enum tide_status __real_shard_read_chunk(struct shard_reader *reader, uint64_t index, const unsigned char **ret_bytes,
                                         struct digest *ret_digest, struct err *err);
bool __wrap_fsx_pwrite_all(int fd, const void *data, size_t bytes, uint64_t offset);
bool __real_fsx_pwrite_all(int fd, const void *data, size_t bytes, uint64_t offset);

static int changing; /* how many may help changes with each chunk that the leader decodes */
static atomic_uint decoding, alone;
static uint64_t failing_at; /* of the slot's file */

enum tide_status __wrap_shard_decode(struct encoder *encoder, unsigned char *room, const struct chunk *chunk, const unsigned char *from,
                                     uint32_t raw_bytes, const unsigned char **ret_bytes, struct err *err)
{
    atomic_fetch_add(&decoding, 1);
    counted_hold();
    enum tide_status status = __real_shard_decode(encoder, room, chunk, from, raw_bytes, ret_bytes, err);
    atomic_fetch_sub(&decoding, 1);
    if (changing && is_leader())
        helpers_want((atomic_load(&by_leader) * 2 + 1) % (HELPERS_MAX + 1));
    counted_done();
    return status;
}

enum tide_status __wrap_shard_read_chunk(struct shard_reader *reader, uint64_t index, const unsigned char **ret_bytes,
                                         struct digest *ret_digest, struct err *err)
{
    assert_true(is_leader());
    assert_int_equal(atomic_load(&decoding), 0);
    atomic_fetch_add(&alone, 1);
    return __real_shard_read_chunk(reader, index, ret_bytes, ret_digest, err);
}

bool __wrap_fsx_pwrite_all(int fd, const void *data, size_t bytes, uint64_t offset)
{
    if (offset / CHUNK_BYTES != failing_at)
        return __real_fsx_pwrite_all(fd, data, bytes, offset);
    errno = ENOSPC;
    return false;
}

static int begin(void **state)
{
    fresh(state);
    forget();
    failing_at = NOBODY;
    changing = 0;
    counted_begin();
    return 0;
}

static int end(void **state)
{
    (void)state;
    helpers_want(0);
    counted_end();
    return 0;
}

/* ---- what is told ---- */

static struct told {
    char said[TIDE_TEXT_MAX + 1]; /* the first */
    unsigned count;
    struct strlist packs; /* in the order they were blamed */
} told;

static void is_said(void *context, const char *text)
{
    (void)context;
    assert_true(is_leader());
    if (told.count++ == 0)
        text_copy(told.said, sizeof told.said, text);
}

static void is_damaged(void *context, const char *pack)
{
    (void)context;
    assert_true(is_leader());
    strlist_add(&told.packs, pack);
}

static void nothing_is_told(void)
{
    strlist_release(&told.packs);
    told = (struct told){.count = 0};
}

static enum tide_status get(struct store *from, unsigned helpers, struct err *err)
{
    const struct stage_watch watch = {.say = is_said, .damaged = is_damaged};
    const struct stage_target to = {.arena = elsewhere, .watch = &watch};
    nothing_is_told();
    unsigned before = atomic_load(&alive); /* the directory's readers stay */
    atomic_store(&begun, 0);
    atomic_store(&by_leader, 0);
    atomic_store(&by_helpers, 0);
    atomic_store(&alone, 0);
    helpers_want(helpers);
    enum tide_status status = stage_fetch_to(from, key, digest, &to, err);
    helpers_want(0);
    if (from == &lazy.base)
        assert_int_equal(atomic_load(&alive), before);
    assert_int_equal(lazy.under_way, 0);
    return status;
}

static void all_is_there(void)
{
    arena_path path;
    struct slot slot;
    struct err err = {0};
    static unsigned char want[CHUNK_BYTES];
    assert_true(is_there());
    slot_path(elsewhere, 0, 0, path);
    assert_int_equal(slot_map(path, 0, &slot, &err), TIDE_OK);
    for (unsigned i = 0; i < CHUNKS; i++) {
        test_chunk_fill(want, content[i]);
        assert_memory_equal(slot.data + (size_t)i * CHUNK_BYTES, want, CHUNK_BYTES);
    }
    slot_unmap(&slot);
}

/* ---- the same comes back ---- */

static void what_comes_back_does_not_depend_on_helpers(void **state)
{
    struct err err = {0};
    for (unsigned helpers = 0; helpers <= HELPERS_MAX; helpers++) {
        begin(state);
        assert_int_equal(get(&lazy.base, helpers, &err), TIDE_OK);
        assert_int_equal(atomic_load(&begun), helpers);
        assert_int_equal(atomic_load(&by_leader) + atomic_load(&by_helpers), CHUNKS);
        assert_int_equal(atomic_load(&alone), 0);
        all_is_there();
        forget();
        assert_int_equal(get(real, helpers, &err), TIDE_OK);
        assert_int_equal(atomic_load(&alone), 0);
        all_is_there();
    }
}

/* A helper that gets no processor: the leader decodes all that there is memory to read, and nothing is read to where the helper looks. */
static void a_helper_that_is_late_keeps_nobody(void **state)
{
    struct err err = {0};
    for (unsigned helpers = 1; helpers <= HELPERS_MAX; helpers++) {
        begin(state);
        hold_until = 20;
        assert_int_equal(get(&lazy.base, helpers, &err), TIDE_OK);
        assert_true(atomic_load(&by_leader) >= hold_until);
        assert_int_equal(atomic_load(&alone), 0);
        all_is_there();
        end(state);
    }
}

/* Others come and go. The last that is left without a processor does not keep one that has one from its work, nor the end from coming. */
static void how_many_help_may_change(void **state)
{
    struct err err = {0};
    begin(state);
    changing = 1;
    assert_int_equal(get(&lazy.base, HELPERS_MAX, &err), TIDE_OK);
    assert_int_equal(atomic_load(&begun), HELPERS_MAX);
    assert_int_equal(atomic_load(&alone), 0);
    all_is_there();
}

/* ---- what goes wrong ---- */

static void a_read_that_fails_ends_it(void **state)
{
    static const unsigned reads[] = {1, 4, CHUNKS / EACH};
    for (unsigned i = 0; i < 3; i++)
        for (unsigned helpers = 0; helpers <= HELPERS_MAX; helpers += HELPERS_MAX) {
            struct err err = {0};
            begin(state);
            lazy.failing = reads[i];
            assert_int_equal(get(&lazy.base, helpers, &err), TIDE_E_UNAVAILABLE);
            assert_string_equal(err.text, "the store hangs");
            assert_int_equal(told.packs.count, 0);
            assert_false(is_there());
        }
}

static void a_chunk_that_cannot_be_written_ends_it(void **state)
{
    char first[TIDE_TEXT_MAX + 1] = "";
    for (unsigned helpers = 0; helpers <= HELPERS_MAX; helpers++) {
        struct err err = {0};
        begin(state);
        failing_at = 5;
        assert_int_equal(get(&lazy.base, helpers, &err), TIDE_E_NOSPACE);
        if (helpers == 0)
            text_copy(first, sizeof first, err.text);
        assert_string_equal(err.text, first);
        assert_false(is_there());
    }
    assert_non_null(strstr(first, "cannot write slot "));
}

/* Where it is read to while others look is nobody's: they are waited for. */
static void nobody_looks(void)
{
    assert_int_equal(atomic_load(&decoding), 0);
}

static void what_is_got_again_is_got_while_nobody_looks(void **state)
{
    for (unsigned helpers = 0; helpers <= HELPERS_MAX; helpers++) {
        struct err err = {0};
        begin(state);
        lazy.breaking = 3;
        lazy.at_alone = nobody_looks;
        assert_int_equal(get(&lazy.base, helpers, &err), TIDE_OK);
        assert_int_equal(lazy.alone, 1);
        assert_int_equal(told.packs.count, 0);
        all_is_there();
    }
}

static object_key packs[3];

static void damage(unsigned pack, uint64_t at)
{
    char path[2 * TIDE_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", root, packs[pack]);
    test_flip(path, (long)at, 4);
}

static void find_packs(void)
{
    struct err err = {0};
    struct manifest whole;
    struct rank_manifest m;
    assert_int_equal(manifest_read(real, key, digest, &whole, &err), TIDE_OK);
    assert_int_equal(rank_manifest_read(real, &whole, 0, &m, &err), TIDE_OK);
    assert_int_equal(m.packs.count, 3);
    for (unsigned i = 0; i < 3; i++)
        snprintf(packs[i], sizeof packs[i], "%s", m.packs.items[i].key);
    codec_release(&rank_manifest_codec, &m);
    codec_release(&manifest_codec, &whole);
}

/* Two at once, in two packs, one behind the other, and both times whichever thread is the slower one. */
static void of_two_that_are_damaged_the_first_is_named(void **state)
{
    find_packs();
    damage(0, 31 * CHUNK_BYTES + 5);
    damage(1, 5);
    for (unsigned n = 0; n < 2 * (HELPERS_MAX + 1); n++) {
        struct err err = {0};
        begin(state);
        hold_until = n > HELPERS_MAX + 1 ? 20 : 0;
        assert_int_equal(get(n % 2 ? real : &lazy.base, n % (HELPERS_MAX + 1), &err), TIDE_E_CORRUPT);
        assert_non_null(strstr(err.text, "chunk 31 of rank 0 in object "));
        assert_non_null(strstr(err.text, packs[0]));
        assert_int_equal(told.packs.count, 1);
        assert_string_equal(told.packs.items[0], packs[0]);
        assert_int_equal(told.count, 0);
        assert_false(is_there());
        end(state);
    }
    damage(0, 31 * CHUNK_BYTES + 5);
    damage(1, 5);
}

/* The slot has them; another of its chunks is bad, so that it is not taken as it is. */
static void what_the_slot_has_is_kept_and_told_in_order(void **state)
{
    arena_path path;
    char first[TIDE_TEXT_MAX + 1] = "";
    find_packs();
    for (unsigned helpers = 0; helpers <= HELPERS_MAX; helpers += HELPERS_MAX) {
        struct err err = {0};
        begin(state);
        assert_int_equal(get(&lazy.base, 0, &err), TIDE_OK);
        slot_path(elsewhere, 0, 0, path);
        test_flip(path, (long)(2 * SLOT_HEADER_BYTES + 50 * CHUNK_BYTES), 4);
        damage(0, 31 * CHUNK_BYTES + 5);
        damage(1, 5);
        damage(1, CHUNK_BYTES + 5);
        damage(2, 5);
        assert_int_equal(get(&lazy.base, helpers, &err), TIDE_OK);
        damage(0, 31 * CHUNK_BYTES + 5);
        damage(1, 5);
        damage(1, CHUNK_BYTES + 5);
        damage(2, 5);
        assert_int_equal(told.count, 4);
        assert_int_equal(told.packs.count, 4);
        for (unsigned i = 0; i < 4; i++)
            assert_string_equal(told.packs.items[i], packs[(i + 1) / 2]);
        if (helpers == 0)
            text_copy(first, sizeof first, told.said);
        assert_string_equal(told.said, first);
        all_is_there();
    }
    assert_non_null(strstr(first, "chunk 31 of rank 0 "));
}

static void without_memory_or_threads_there_are_fewer(void **state)
{
    struct err err = {0};
    unsigned failed = 0, fewer = 0, n = 1;
    for (int done = 0; !done && n < MEMORY_TRIES_MAX; n++) {
        begin(state);
        mem_fail_at(n);
        enum tide_status status = get(&lazy.base, HELPERS_MAX, &err);
        mem_fail_at(0);
        unsigned helped = atomic_load(&begun); /* who looks whether all is there has threads, too */
        assert_true(status == TIDE_OK || status == TIDE_E_NOMEM);
        failed += status == TIDE_E_NOMEM;
        fewer += status == TIDE_OK && helped < HELPERS_MAX;
        assert_int_equal(is_there(), status == TIDE_OK);
        done = status == TIDE_OK && helped == HELPERS_MAX && fewer > 0;
    }
    assert_true(failed > 0);
    assert_int_equal(fewer, 3 * HELPERS_MAX);
    for (unsigned threads = 0; threads < HELPERS_MAX; threads++) {
        begin(state);
        threads_left = threads;
        assert_int_equal(get(&lazy.base, HELPERS_MAX, &err), TIDE_OK);
        assert_int_equal(atomic_load(&begun), threads);
        all_is_there();
    }
}

/* ---- how many ---- */

static void as_many_as_nobody_computes_on(void **state)
{
    static const struct {
        struct helpers_facts facts;
        unsigned store, fetch;
    } cases[] = {
        {{.cores = 16, .ranks = 8, .waiting = 8, .shards = {0, 5}}, 0, 2},
        {{.cores = 16, .ranks = 8, .waiting = 8, .shards = {0, 1}}, 0, 3},
        {{.cores = 2, .ranks = 1, .waiting = 1, .shards = {0, 1}}, 0, 1},
        {{.cores = 2, .ranks = 1, .waiting = 0, .shards = {0, 1}}, 0, 0},
        {{.cores = 2, .ranks = 2, .waiting = 2, .shards = {0, 2}}, 0, 0},
        {{.cores = 16, .ranks = 8, .waiting = 4, .shards = {0, 4}}, 0, 0}, /* another job's */
        {{.cores = 20, .ranks = 8, .waiting = 9, .shards = {4, 4}}, 0, 3},
        {{.cores = 24, .ranks = 2, .waiting = 1, .shards = {4, 4}}, 2, 3},
        {{.cores = 16, .ranks = 8, .waiting = 8, .shards = {0, 0}}, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(helpers_each(&cases[i].facts, HELPERS_STORE), cases[i].store);
        assert_int_equal(helpers_each(&cases[i].facts, HELPERS_FETCH), cases[i].fetch);
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        CASE(what_comes_back_does_not_depend_on_helpers),
        CASE(a_helper_that_is_late_keeps_nobody),
        CASE(how_many_help_may_change),
        CASE(a_read_that_fails_ends_it),
        CASE(a_chunk_that_cannot_be_written_ends_it),
        CASE(what_is_got_again_is_got_while_nobody_looks),
        CASE(of_two_that_are_damaged_the_first_is_named),
        CASE(what_the_slot_has_is_kept_and_told_in_order),
        CASE(without_memory_or_threads_there_are_fewer),
        CASE(as_many_as_nobody_computes_on),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
