/* SPDX-License-Identifier: Apache-2.0 */

/* A shard on its way back, several reads at a time: how many are under way, that what is wrong with one is told of it alone, and that
 * none is left behind. Most stores here do nothing before they are asked how it went. */

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/lazy.h"

static void begin(struct rank_manifest *m, struct shard_reader *reader)
{
    struct err err = {0};
    struct manifest whole;
    assert_int_equal(manifest_read(real, key, digest, &whole, &err), TIDE_OK);
    assert_int_equal(rank_manifest_read(real, &whole, 0, m, &err), TIDE_OK);
    assert_int_equal(shard_reader_init(reader, &lazy.base, m, &err), TIDE_OK);
    codec_release(&manifest_codec, &whole);
}

static void end(struct rank_manifest *m, struct shard_reader *reader)
{
    shard_reader_release(reader);
    codec_release(&rank_manifest_codec, m);
    assert_int_equal(lazy.under_way, 0);
}

static enum tide_status read_one(struct shard_reader *reader, unsigned index, struct err *err)
{
    static unsigned char want[CHUNK_BYTES];
    const unsigned char *bytes = NULL;
    struct digest found;
    enum tide_status status = shard_read_chunk(reader, index, &bytes, &found, err);
    if (status != TIDE_OK)
        return status;
    test_chunk_fill(want, content[index]);
    assert_memory_equal(bytes, want, CHUNK_BYTES);
    assert_true(digest_equal(found, digest_of(want, CHUNK_BYTES)));
    return status;
}

/* ---- tests ---- */

static unsigned rooms(const struct shard_reader *reader)
{
    unsigned count = 0;
    for (unsigned i = 0; i < SPANS_MAX; i++)
        count += reader->spans[i].room != NULL;
    return count;
}

static void all_reads_that_there_is_memory_for_are_under_way(void **state)
{
    (void)state;
    struct rank_manifest m;
    struct shard_reader reader;
    struct err err = {0};
    begin(&m, &reader);
    shard_read_ahead(&reader);
    assert_int_equal(lazy.under_way, SPANS_MAX);
    for (unsigned i = 0; i < CHUNKS; i++)
        assert_int_equal(read_one(&reader, i, &err), TIDE_OK);
    assert_int_equal(lazy.begun, CHUNKS / EACH);
    assert_int_equal(lazy.most, SPANS_MAX);
    assert_int_equal(rooms(&reader), SPANS_MAX);
    end(&m, &reader);
}

static void no_more_memory_than_the_store_can_use(void **state)
{
    (void)state;
    struct rank_manifest m;
    struct shard_reader reader;
    struct err err = {0};
    lazy_ops.gets_at_once = 2;
    begin(&m, &reader);
    for (unsigned i = 0; i < CHUNKS; i++)
        assert_int_equal(read_one(&reader, i, &err), TIDE_OK);
    assert_int_equal(lazy.most, 4);
    assert_int_equal(rooms(&reader), 4);
    end(&m, &reader);
}

/* What the store moves at once is for all of them: the more there are, the less memory each takes for what would only wait. */
static void readers_share_what_the_store_can_use(void **state)
{
    (void)state;
    struct rank_manifest m, n;
    struct shard_reader one, other;
    struct err err = {0};
    lazy_ops.gets_at_once = 5;
    begin(&m, &one);
    begin(&n, &other);
    shard_read_ahead(&one);
    assert_int_equal(lazy.under_way, 5);
    for (unsigned i = 0; i < 2 * EACH; i++)
        assert_int_equal(read_one(&one, i, &err), TIDE_OK);
    assert_int_equal(lazy.most, 5);
    assert_int_equal(rooms(&one), 5);
    shard_reader_release(&other);
    codec_release(&rank_manifest_codec, &n);
    for (unsigned i = 2 * EACH; i < CHUNKS; i++)
        assert_int_equal(read_one(&one, i, &err), TIDE_OK);
    assert_int_equal(lazy.begun, CHUNKS / EACH);
    assert_int_equal(rooms(&one), 7);
    end(&m, &one);
}

/* One that could not be begun takes part no more. */
static void a_reader_without_memory_takes_nothing_of_the_others(void **state)
{
    (void)state;
    struct rank_manifest m, n;
    struct shard_reader one, other;
    struct err err = {0};
    lazy_ops.gets_at_once = 4;
    begin(&n, &other);
    end(&n, &other);
    begin(&m, &other);
    for (unsigned long i = 1; i <= 2; i++) {
        mem_fail_at(i);
        assert_int_equal(shard_reader_init(&one, &lazy.base, &m, &err), TIDE_E_NOMEM);
        mem_fail_at(0);
    }
    shard_read_ahead(&other);
    assert_int_equal(lazy.under_way, 6);
    end(&m, &other);
}

static void chunks_may_be_passed_over(void **state)
{
    (void)state;
    struct rank_manifest m;
    struct shard_reader reader;
    struct err err = {0};
    static const unsigned wanted[] = {2, 3, 30, 79};
    begin(&m, &reader);
    for (unsigned i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        assert_int_equal(read_one(&reader, wanted[i], &err), TIDE_OK);
    end(&m, &reader);
}

/* Its bytes are not there any more, and others must not be taken for them. */
static void nobody_goes_back(void **state)
{
    (void)state;
    struct rank_manifest m;
    struct shard_reader reader;
    struct err err = {0};
    begin(&m, &reader);
    assert_int_equal(read_one(&reader, 2 * EACH + 1, &err), TIDE_OK);
    assert_int_equal(read_one(&reader, 1, &err), TIDE_E_INVALID);
    assert_int_equal(read_one(&reader, 2 * EACH + 2, &err), TIDE_OK);
    end(&m, &reader);
}

static void a_bad_chunk_is_told_alone(void **state)
{
    (void)state;
    struct rank_manifest m;
    struct shard_reader reader;
    struct err err = {0};
    lazy.breaking = 3;
    lazy.stays = 1;
    begin(&m, &reader);
    for (unsigned i = 0; i < CHUNKS; i++)
        assert_int_equal(read_one(&reader, i, &err), i == 2 * EACH + 3 ? TIDE_E_CORRUPT : TIDE_OK);
    assert_non_null(strstr(err.text, "chunk 19 of rank 0 in object "));
    end(&m, &reader);
}

/* Who is told that a checkpoint is damaged gives it up for good. */
static void what_was_changed_on_its_way_is_got_again(void **state)
{
    (void)state;
    struct rank_manifest m;
    struct shard_reader reader;
    struct err err = {0};
    lazy.breaking = 3;
    begin(&m, &reader);
    for (unsigned i = 0; i < CHUNKS; i++)
        assert_int_equal(read_one(&reader, i, &err), TIDE_OK);
    assert_int_equal(lazy.alone, 1);
    end(&m, &reader);
    fresh(state);
    lazy.breaking = 3;
    lazy.away = 1; /* then nobody knows */
    begin(&m, &reader);
    for (unsigned i = 0; i < CHUNKS; i++)
        assert_int_equal(read_one(&reader, i, &err), i == 2 * EACH + 3 ? TIDE_E_UNAVAILABLE : TIDE_OK);
    end(&m, &reader);
}

static void a_read_that_fails_is_told_of_its_chunks_alone(void **state)
{
    (void)state;
    struct rank_manifest m;
    struct shard_reader reader;
    struct err err = {0};
    lazy.failing = 2;
    begin(&m, &reader);
    for (unsigned i = 0; i < CHUNKS; i++)
        assert_int_equal(read_one(&reader, i, &err), i / EACH == 1 ? TIDE_E_UNAVAILABLE : TIDE_OK);
    assert_string_equal(err.text, "the store hangs");
    end(&m, &reader);
}

/* A sector in the middle of that chunk. */
static void break_sector(const struct rank_manifest *m, unsigned index)
{
    struct chunk chunk;
    assert_int_equal(chunk_parse(m->chunks.items[index], &chunk, NULL), TIDE_OK);
    lazy.bad_key = m->packs.items[chunk.pack].key;
    lazy.bad_at = chunk.offset + chunk.length / 2;
}

static void a_sector_that_cannot_be_read_takes_no_chunk_beside_it(void **state)
{
    (void)state;
    struct rank_manifest m;
    struct shard_reader reader;
    struct err err = {0};
    begin(&m, &reader);
    break_sector(&m, 19);
    for (unsigned i = 0; i < CHUNKS; i++)
        assert_int_equal(read_one(&reader, i, &err), i == 19 ? TIDE_E_IO : TIDE_OK);
    assert_int_equal(lazy.alone, EACH - 1);
    end(&m, &reader);
}

/* Chunk `index` of the slot is not what it was, and the slot is not whole, as of one that somebody began to fill. */
static void spoil_slot(unsigned index)
{
    arena_path path;
    struct slot slot;
    struct err err = {0};
    slot_path(elsewhere, 0, 0, path);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    slot.data[(size_t)index * CHUNK_BYTES] ^= 1;
    slot_void(&slot);
    slot_unmap(&slot);
    slot_sum_path(elsewhere, 0, 0, path);
    unlink(path);
}

static void what_cannot_be_read_is_kept_where_it_is_whole(void **state)
{
    (void)state;
    struct rank_manifest m;
    struct shard_reader reader;
    struct err err = {0};
    forget();
    begin(&m, &reader);
    break_sector(&m, 19);
    assert_int_equal(fetch(real, &err), TIDE_OK);
    spoil_slot(20);
    assert_int_equal(fetch(&lazy.base, &err), TIDE_OK);
    assert_true(is_there());
    spoil_slot(19);
    assert_int_equal(fetch(&lazy.base, &err), TIDE_E_IO);
    assert_false(is_there());
    end(&m, &reader);
}

static void what_nobody_wants_any_more_is_waited_for(void **state)
{
    (void)state;
    struct rank_manifest m;
    struct shard_reader reader;
    struct err err = {0};
    begin(&m, &reader);
    assert_int_equal(read_one(&reader, 0, &err), TIDE_OK);
    assert_int_equal(lazy.under_way, SPANS_MAX - 1);
    end(&m, &reader);
    assert_int_equal(lazy.begun, SPANS_MAX);
}

static void the_first_are_read_while_the_slot_gets_its_memory(void **state)
{
    (void)state;
    arena_path path;
    struct err err = {0};
    forget();
    slot_path(elsewhere, 0, 0, path);
    lazy.slot = path;
    assert_int_equal(fetch(&lazy.base, &err), TIDE_OK);
    assert_true(lazy.begun > 0);
    assert_false(lazy.slot_there);
    assert_true(is_there());
}

/* Whichever it is: nothing is left under way, and the slot is not taken for whole. */
static void a_fetch_in_which_a_read_fails_leaves_nothing(void **state)
{
    (void)state;
    forget();
    for (unsigned n = 1; n <= 2 * CHUNKS / EACH; n++) {
        struct err err = {0};
        unsigned read = (n + 1) / 2;
        fresh(state);
        *(n % 2 ? &lazy.failing : &lazy.breaking) = read;
        lazy.stays = 1;
        assert_int_equal(fetch(&lazy.base, &err), n % 2 ? TIDE_E_UNAVAILABLE : TIDE_E_CORRUPT);
        assert_int_equal(lazy.under_way, 0);
        assert_false(is_there());
    }
    struct err err = {0};
    fresh(state);
    assert_int_equal(fetch(&lazy.base, &err), TIDE_OK);
    assert_true(is_there());
}

/* A slot that somebody put in the place of the one that is filled is not written into. */
static void a_slot_that_was_replaced_is_left_alone(void **state)
{
    (void)state;
    arena_path path;
    struct slot slot;
    struct err err = {0};
    int fd = -1;
    snprintf(path, sizeof path, "%s/slot", elsewhere);
    assert_int_equal(slot_reserve(path, 2 * SLOT_HEADER_BYTES, &err), TIDE_OK);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    assert_int_equal(slot_open_file(&slot, path, O_WRONLY, &fd, &err), TIDE_OK);
    close(fd);
    fd = -1;
    char other[sizeof path + 8];
    snprintf(other, sizeof other, "%s.new", path);
    assert_int_equal(slot_reserve(other, 2 * SLOT_HEADER_BYTES, &err), TIDE_OK);
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(slot_open_file(&slot, path, O_WRONLY, &fd, &err), TIDE_E_IO);
    assert_int_equal(fd, -1);
    slot_unmap(&slot);
    unlink(path);
}

/* With threads: one finds its pack cut short while others read on. */
static void a_reader_that_fails_does_not_disturb_the_others(void **state)
{
    (void)state;
    struct rank_manifest m;
    struct shard_reader reader;
    struct err err = {0};
    char path[2 * TIDE_PATH_MAX];
    forget();
    begin(&m, &reader);
    snprintf(path, sizeof path, "%s/%s", root, m.packs.items[1].key);
    end(&m, &reader);
    assert_int_equal(fetch(real, &err), TIDE_OK);
    assert_true(is_there());
    forget();
    assert_int_equal(truncate(path, 9 << 20), 0);
    assert_int_equal(fetch(real, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, strrchr(path, '/') + 1));
    assert_false(is_there());
    begin(&m, &reader); /* what lies before the cut is whole, all the same */
    for (unsigned i = 0; i < CHUNKS; i++) {
        struct chunk chunk;
        assert_int_equal(chunk_parse(m.chunks.items[i], &chunk, NULL), TIDE_OK);
        bool gone = chunk.pack == 1 && chunk.offset + chunk.length > 9 << 20;
        assert_int_equal(read_one(&reader, i, &err), gone ? TIDE_E_CORRUPT : TIDE_OK);
    }
    end(&m, &reader);
    struct stage_verdict verdict = {0};
    assert_int_equal(stage_check(real, key, digest, NULL, NULL, &verdict, &err), TIDE_OK);
    assert_int_equal(verdict.bad, 1);
    assert_int_equal(verdict.chunks, CHUNKS);
}

/* ---- before a commit ---- */

#define RANKS 5u

/* Of a large job that is many questions. */
static void that_all_is_there_is_looked_at_some_at_a_time(void **state)
{
    (void)state;
    struct err err = {0};
    struct cut_order order = {.cut = CUT + 1, .generation = 1, .step = CUT + 1};
    char commit_key[TIDE_PATH_MAX + 1], commit_digest[DIGEST_HEX_CHARS + 1];
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        struct stage_shard shard;
        test_chunks_record(arena, rank, RANKS, CUT + 1, content, 1);
        assert_int_equal(stage_store(real, arena, rank, (CUT + 1) % SLOTS, "job", TEST_UID, CUT + 1, &shard, &err), TIDE_OK);
        test_add_shard(&order, rank, &shard);
    }
    lazy_ops.gets_at_once = 3;
    assert_int_equal(store_remove(real, order.shards.items[1].key, &err), TIDE_OK);
    assert_int_equal(stage_commit(&lazy.base, "job", TEST_UID, &order, commit_key, commit_digest, &err), TIDE_E_NOT_FOUND);
    assert_non_null(strstr(err.text, order.shards.items[1].key));
    assert_int_equal(lazy.under_way, 0);
    assert_true(lazy.begun < RANKS); /* one that is missing is enough */
    assert_int_equal(store_put(real, order.shards.items[1].key, "{}", 2, &err), TIDE_OK);
    assert_int_equal(stage_commit(&lazy.base, "job", TEST_UID, &order, commit_key, commit_digest, &err), TIDE_OK);
    assert_int_equal(lazy.most, 3);
    assert_int_equal(lazy.under_way, 0);
    codec_release(&cut_order_codec, &order);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup(name, fresh)
    const struct CMUnitTest tests[] = {
        CASE(all_reads_that_there_is_memory_for_are_under_way),
        CASE(no_more_memory_than_the_store_can_use),
        CASE(readers_share_what_the_store_can_use),
        CASE(a_reader_without_memory_takes_nothing_of_the_others),
        CASE(chunks_may_be_passed_over),
        CASE(nobody_goes_back),
        CASE(that_all_is_there_is_looked_at_some_at_a_time),
        CASE(what_was_changed_on_its_way_is_got_again),
        CASE(a_bad_chunk_is_told_alone),
        CASE(a_read_that_fails_is_told_of_its_chunks_alone),
        CASE(a_sector_that_cannot_be_read_takes_no_chunk_beside_it),
        CASE(what_cannot_be_read_is_kept_where_it_is_whole),
        CASE(what_nobody_wants_any_more_is_waited_for),
        CASE(the_first_are_read_while_the_slot_gets_its_memory),
        CASE(a_fetch_in_which_a_read_fails_leaves_nothing),
        CASE(a_slot_that_was_replaced_is_left_alone),
        CASE(a_reader_that_fails_does_not_disturb_the_others), /* the last: it damages the store */
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
