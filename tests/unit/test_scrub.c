/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/rpc/scrub.h"
#include "ckpt/base/clock.h"
#include "tests/unit/slots.h"

/* A checkpoint in a directory is read as an agent does it while nobody waits. */

#define FAST (UINT64_C(1) << 40)
#define SLOW (UINT64_C(8) << 20)
#define MS_MAX 20000u
#define CUT 4u

static uv_loop_t loop;
static struct scrub *scrub;
static struct agent_event answer;
static unsigned answers;
static char *root, *arena;
static struct assignment order;
static bool changed; /* of what is stored the last of three chunks */

static void on_done(void *context, const struct agent_event *event)
{
    (void)context;
    answer = *event;
    answers++;
}

static void stored(uint64_t cut)
{
    struct err err = {0};
    struct store *store = NULL;
    struct stage_shard shard;
    struct cut_order commit = {.cut = cut, .generation = 3, .step = cut * 10};
    const struct test_region regions[] = {{"noise", 3 << 20}};
    char hex[DIGEST_HEX_CHARS + 1], key[TIDE_PATH_MAX + 1], digest[DIGEST_HEX_CHARS + 1];
    arena_path path;
    struct slot slot;
    test_record(arena, 0, 0, cut, regions, 1, 1);
    slot_path(arena, 0, 0, path);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    test_fill(slot.data, regions[0].bytes, "noise", 1); /* the same in each cut */
    slot.data[regions[0].bytes - 1] ^= changed;
    slot_unmap(&slot);
    assert_int_equal(store_open(root, &store, &err), TIDE_OK);
    assert_int_equal(stage_sum(arena, 0, 0, TEST_UID, cut, hex, &err), TIDE_OK);
    assert_int_equal(stage_store(store, arena, 0, 0, "job", TEST_UID, cut, &shard, &err), TIDE_OK);
    struct shard_ref *ref = codec_list_add(&shard_ref_codec, &commit.shards);
    *ref = (struct shard_ref){.raw_bytes = shard.raw_bytes, .stored_bytes = shard.stored_bytes};
    text_copy(ref->key, sizeof ref->key, shard.key);
    text_copy(ref->digest, sizeof ref->digest, shard.digest);
    assert_int_equal(stage_commit(store, "job", TEST_UID, &commit, key, digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, &commit);
    store_close(store);
    struct scrub_order *listed = codec_list_add(&scrub_order_codec, &order.scrub);
    listed->cut = cut;
    text_copy(listed->manifest_key, sizeof listed->manifest_key, key);
    text_copy(listed->manifest, sizeof listed->manifest, digest);
    text_copy(order.store, sizeof order.store, root);
}

static int setup_at(uint64_t bytes_per_s)
{
    root = test_dir();
    arena = test_dir();
    answers = 0;
    changed = false;
    uv_loop_init(&loop);
    stored(CUT);
    scrub = scrub_create(&loop, bytes_per_s, on_done, NULL);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    return setup_at(FAST);
}

static int setup_slow(void **state)
{
    (void)state;
    return setup_at(SLOW);
}

static void close_rest(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static int teardown(void **state)
{
    (void)state;
    scrub_close(scrub);
    uv_walk(&loop, close_rest, NULL);
    uv_run(&loop, UV_RUN_DEFAULT); /* without waiting for it */
    unsigned ms = 0;
    for (; !scrub_free(scrub) && ms < MS_MAX; ms += 10)
        usleep(10000); /* what it had begun */
    assert_true(ms < MS_MAX);
    /* Last: ThreadSanitizer does not see libuv close what it opened, and would take the thread's next file for that. */
    assert_int_equal(uv_loop_close(&loop), 0);
    codec_release(&assignment_codec, &order);
    order = (struct assignment){0};
    test_dir_remove(root);
    test_dir_remove(arena);
    return 0;
}

static void begin_with(uint64_t cut)
{
    const struct agent_action action = {.kind = ACT_SCRUB, .uid = TEST_UID, .job = "job", .cut = cut, .order = &order};
    scrub_start(scrub, &action);
}

static void begin(void)
{
    begin_with(CUT);
}

/* Nonzero: there is an answer. */
static unsigned waits(unsigned most_ms)
{
    unsigned before = answers;
    for (unsigned ms = 0; answers == before && ms < most_ms; ms++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    return answers - before;
}

static void list_keys(const char *prefix, struct strlist *ret_keys)
{
    struct err err = {0};
    struct store *store = NULL;
    assert_int_equal(store_open(root, &store, &err), TIDE_OK);
    assert_int_equal(store_list(store, prefix, ret_keys, &err), TIDE_OK);
    store_close(store);
}

/* A byte of the only pack that was written of the cut. */
static void flip_the_pack_of(uint64_t cut, long at)
{
    struct strlist keys = {0};
    char path[2048], part[64];
    unsigned flipped = 0;
    snprintf(part, sizeof part, "/job." TEST_UID "/%u-", (unsigned)cut);
    list_keys("c/", &keys);
    for (size_t i = 0; i < keys.count; i++) {
        if (strstr(keys.items[i], part) == NULL)
            continue;
        snprintf(path, sizeof path, "%s/%s", root, keys.items[i]);
        assert_int_equal(chmod(path, 0600), 0);
        test_flip(path, at, 1);
        flipped++;
    }
    assert_int_equal(flipped, 1);
    strlist_release(&keys);
}

static void flip_a_pack(void)
{
    flip_the_pack_of(CUT, 1 << 20);
}

static void is_noted(const uint64_t *cuts, size_t count)
{
    struct strlist keys = {0};
    object_key key;
    list_keys("d/", &keys);
    assert_int_equal(keys.count, count);
    for (size_t i = 0; i < count; i++) {
        key_damaged("job", TEST_UID, cuts[i], key);
        assert_string_equal(keys.items[i], key);
    }
    strlist_release(&keys);
}

static void what_is_whole_and_what_is_not(void **state)
{
    (void)state;
    begin();
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.kind, EV_SCRUBBED);
    assert_int_equal(answer.status, TIDE_OK);
    assert_int_equal(answer.cut, CUT);
    assert_int_equal(answer.raw_bytes, 3 << 20);
    flip_a_pack();
    begin();
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_E_CORRUPT);
    assert_non_null(strstr(answer.text, "chunk 1 of rank 0 in object c/"));
}

/* The next cut holds the same bytes, and its rank would refer to where they lie. */
static void what_is_known_to_be_damaged_is_stored_anew(void **state)
{
    (void)state;
    stored(CUT + 1);
    flip_a_pack();
    stored(CUT + 2); /* nobody knows yet */
    for (uint64_t cut = CUT; cut <= CUT + 2; cut++) {
        begin_with(cut);
        assert_int_equal(waits(MS_MAX), 1);
        assert_int_equal(answer.status, TIDE_E_CORRUPT);
        assert_non_null(strstr(answer.text, "chunk 1 of rank 0"));
    }
    stored(CUT + 3);
    begin_with(CUT + 3);
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_OK);
    /* What was noted goes with it. */
    struct err err = {0};
    struct store *store = NULL;
    struct strlist keys = {0};
    assert_int_equal(store_open(root, &store, &err), TIDE_OK);
    for (uint64_t cut = CUT; cut <= CUT + 3; cut++)
        assert_int_equal(stage_purge(store, "job", TEST_UID, cut, &err), TIDE_OK);
    assert_int_equal(store_list(store, "", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 0);
    store_close(store);
}

/* Two packs, of two cuts: the next cut is to refer to neither. */
static void each_damaged_pack_is_noted(void **state)
{
    (void)state;
    changed = true;
    stored(CUT + 1);
    stored(CUT + 2);
    flip_the_pack_of(CUT, 10);
    flip_the_pack_of(CUT + 1, 10);
    begin_with(CUT + 2);
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_E_CORRUPT);
    assert_int_equal(answer.raw_bytes, 3 << 20);
    assert_non_null(strstr(answer.text, "chunk 0 of rank 0"));
    is_noted((const uint64_t[]){CUT, CUT + 1}, 2);
    stored(CUT + 3);
    begin_with(CUT + 3);
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_OK);
    assert_string_equal(answer.text, "");
}

/* What keeps the packs of an earlier cut when that is deleted. */
static void what_keeps_packs_is_put_again(void **state)
{
    (void)state;
    struct err err = {0};
    struct store *store = NULL;
    changed = true;
    stored(CUT + 1);
    assert_int_equal(store_open(root, &store, &err), TIDE_OK);
    struct strlist keys = {0};
    list_keys("n/", &keys);
    assert_int_equal(keys.count, 1);
    assert_int_equal(store_remove(store, keys.items[0], &err), TIDE_OK);
    begin_with(CUT + 1);
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_OK);
    assert_int_equal(stage_purge(store, "job", TEST_UID, CUT, &err), TIDE_OK);
    begin_with(CUT + 1);
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_OK);
    strlist_release(&keys);
    store_close(store);
}

/* What only an earlier checkpoint needs of a pack: this one can be restored, and is not given up. */
static void damage_that_it_does_without_is_noted_all_the_same(void **state)
{
    (void)state;
    changed = true;
    stored(CUT + 1);
    flip_the_pack_of(CUT, (2 << 20) + 5);
    begin_with(CUT + 1);
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_OK);
    assert_non_null(strstr(answer.text, "rank 0 has all that it needs of it"));
    is_noted((const uint64_t[]){CUT}, 1);
    stored(CUT + 2);
    begin_with(CUT + 2);
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_OK);
    assert_string_equal(answer.text, "");
}

/* The object's text has one `was` in it, which is exchanged for as many characters. ret_digest: of the text as it is now. */
static void rewrite(const char *key, const char *was, const char *is, char ret_digest[DIGEST_HEX_CHARS + 1])
{
    struct err err = {0};
    char *text = NULL, *path = mem_format("%s/%s", root, key);
    size_t bytes = 0;
    assert_int_equal(fsx_read(path, 1 << 20, &text, &bytes, &err), TIDE_OK);
    char *at = strstr(text, was);
    assert_non_null(at);
    memcpy(at, is, strlen(was));
    digest_hex(digest_of(text, bytes), ret_digest);
    assert_int_equal(fsx_replace(path, text, bytes, 0600, &err), TIDE_OK);
    mem_free(text);
    mem_free(path);
}

/* While agents of two versions are there: what an older one cannot read is as it should be. */
static void what_a_later_version_wrote_is_not_called_damaged(void **state)
{
    (void)state;
    struct scrub_order *listed = &order.scrub.items[0];
    char was[DIGEST_HEX_CHARS + 1], is[DIGEST_HEX_CHARS + 1], *rank = mem_strdup(listed->manifest_key);
    memcpy(strstr(rank, "COMMIT"), "0.json", sizeof "0.json");
    rewrite(rank, "\"version\":3", "\"version\":3", was);
    rewrite(rank, "\"version\":3", "\"version\":9", is);
    rewrite(listed->manifest_key, was, is, listed->manifest);
    mem_free(rank);
    begin();
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_E_UNAVAILABLE);
    assert_non_null(strstr(answer.text, "version 9"));
    rewrite(listed->manifest_key, "\"version\":3", "\"version\":9", listed->manifest);
    begin();
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_E_VERSION);
}

static void a_directory_that_is_not_mounted_holds_no_damage(void **state)
{
    (void)state;
    char away[TIDE_PATH_MAX + 8];
    struct err err = {0};
    snprintf(away, sizeof away, "%s.away", root);
    assert_int_equal(rename(root, away), 0);
    begin(); /* it makes the directory, as a mount point would be there */
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_E_UNAVAILABLE);
    assert_non_null(strstr(answer.text, "is it mounted"));
    assert_int_equal(fsx_remove_tree(root, &err), TIDE_OK);
    assert_int_equal(rename(away, root), 0);
}

static void it_rests_while_others_use_the_store(void **state)
{
    (void)state;
    scrub_rest(scrub, true);
    begin();
    assert_int_equal(waits(300), 0);
    scrub_rest(scrub, false);
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_OK);
}

/* Three chunks, of which the first comes at once. */
static void it_reads_no_faster_than_it_is_told(void **state)
{
    (void)state;
    uint64_t from_ns = clock_mono_ns();
    begin();
    assert_int_equal(waits(MS_MAX), 1);
    assert_int_equal(answer.status, TIDE_OK);
    assert_true(clock_mono_ns() - from_ns >= (UINT64_C(2) << 20) * NS_PER_S / SLOW);
}

static void an_agent_that_ends_does_not_wait_for_it(void **state)
{
    (void)state;
    scrub_rest(scrub, true);
    begin(); /* the rest is done by teardown */
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(what_is_whole_and_what_is_not),
        CASE(what_is_known_to_be_damaged_is_stored_anew),
        CASE(each_damaged_pack_is_noted),
        CASE(what_keeps_packs_is_put_again),
        CASE(damage_that_it_does_without_is_noted_all_the_same),
        CASE(what_a_later_version_wrote_is_not_called_damaged),
        CASE(a_directory_that_is_not_mounted_holds_no_damage),
        CASE(it_rests_while_others_use_the_store),
        cmocka_unit_test_setup_teardown(it_reads_no_faster_than_it_is_told, setup_slow, teardown),
        CASE(an_agent_that_ends_does_not_wait_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
