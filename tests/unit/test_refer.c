/* SPDX-License-Identifier: Apache-2.0 */

/* Cuts that refer to packs of earlier ones, and deletions between, cut short or in the middle of each other: what is kept
 * can be restored, and what is deleted leaves nothing. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ckpt/stage/base.h"
#include "ckpt/stage/survey.h"
#include "tests/unit/storm.h"

#define CHUNKS 6u
#define CUTS_MAX 256u
#define ROUNDS 60u
#define RUN 97u

static char *arena, *elsewhere, *root;
static unsigned char content[CUTS_MAX][CHUNKS]; /* what each chunk of a cut is made from */
static char digests[CUTS_MAX][DIGEST_HEX_CHARS + 1];

static int setup(void **state)
{
    (void)state;
    test_places(&arena, &elsewhere, &root, &real);
    memset(content, 0, sizeof content);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_places_remove(arena, elsewhere, root, real);
    return 0;
}

/* ---- cuts ---- */

static void fill(unsigned char *to, unsigned char from)
{
    for (size_t i = 0; i < CHUNK_BYTES; i += RUN)
        memset(to + i, (int)(i / RUN * (from + 1u)), CHUNK_BYTES - i < RUN ? CHUNK_BYTES - i : RUN);
}

static void record(uint64_t cut)
{
    arena_path path;
    struct err err = {0};
    struct slot slot;
    char hex[DIGEST_HEX_CHARS + 1];
    slot_path(arena, 0, (uint32_t)cut % SLOTS, path);
    assert_int_equal(slot_reserve(path, slot_bytes_needed(1, false, CHUNKS * CHUNK_BYTES), &err), TIDE_OK);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    assert_int_equal(slot_start(&slot, 1, false, CHUNKS * CHUNK_BYTES, &err), TIDE_OK);
    slot.regions[0] = (struct slot_region){.name = "state", .bytes = CHUNKS * CHUNK_BYTES};
    for (unsigned i = 0; i < CHUNKS; i++)
        fill(slot.data + (size_t)i * CHUNK_BYTES, content[cut][i]);
    struct slot_header facts = {.job_uid = TEST_UID, .generation = 1, .cut = cut, .world_size = 1, .step = cut};
    slot_finish(&slot, &facts);
    slot_unmap(&slot);
    assert_int_equal(stage_sum(arena, 0, (uint32_t)cut % SLOTS, TEST_UID, cut, hex, &err), TIDE_OK);
}

static enum tide_status put(struct store *store, uint64_t cut, struct stage_shard *ret_shard, struct err *err)
{
    return stage_store(store, arena, 0, (uint32_t)cut % SLOTS, JOB, TEST_UID, cut, ret_shard, err);
}

static void commit(uint64_t cut, const struct stage_shard *shard)
{
    struct err err = {0};
    struct cut_order order = {.cut = cut, .generation = 1, .step = cut};
    char key[TIDE_PATH_MAX + 1];
    test_add_shard(&order, 0, shard);
    assert_int_equal(stage_commit(real, JOB, TEST_UID, &order, key, digests[cut], &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
}

/* Stored and committed; returns the bytes it added. */
static uint64_t save(uint64_t cut)
{
    struct err err = {0};
    struct stage_shard shard;
    record(cut);
    assert_int_equal(put(calm(), cut, &shard, &err), TIDE_OK);
    commit(cut, &shard);
    return shard.stored_bytes;
}

static void commit_key_of(uint64_t cut, object_key key)
{
    struct cut_name name = {.job = JOB, .uid = TEST_UID, .cut = cut, .generation = 1};
    key_commit(&name, key);
}

static void is_whole(uint64_t cut)
{
    struct err err = {0};
    struct slot slot;
    arena_path path;
    object_key key;
    unsigned char *want = mem_alloc(CHUNK_BYTES);
    char *aside = mem_format("%s/%llu", elsewhere, (unsigned long long)cut);
    commit_key_of(cut, key);
    assert_int_equal(stage_fetch(real, key, digests[cut], NULL, aside, 0, 0, &err), TIDE_OK);
    slot_path(aside, 0, 0, path);
    assert_int_equal(slot_map(path, 0, &slot, &err), TIDE_OK);
    for (unsigned i = 0; i < CHUNKS; i++) {
        fill(want, content[cut][i]);
        assert_memory_equal(slot.data + (size_t)i * CHUNK_BYTES, want, CHUNK_BYTES);
    }
    slot_unmap(&slot);
    assert_int_equal(fsx_remove_tree(aside, &err), TIDE_OK);
    mem_free(aside);
    mem_free(want);
}

static void purge(uint64_t cut)
{
    struct err err = {0};
    assert_int_equal(stage_purge(real, JOB, TEST_UID, cut, &err), TIDE_OK);
}

static size_t objects(const char *prefix)
{
    struct err err = {0};
    struct strlist keys = {0};
    assert_int_equal(store_list(real, prefix, &keys, &err), TIDE_OK);
    size_t n = keys.count;
    strlist_release(&keys);
    return n;
}

static void differ(uint64_t cut, uint64_t from, unsigned chunk)
{
    memcpy(content[cut], content[from], CHUNKS);
    content[cut][chunk] = (unsigned char)(content[from][chunk] + 17);
}

/* ---- stories ---- */

static void what_is_unchanged_is_not_stored_again(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CHUNKS; i++)
        content[1][i] = (unsigned char)i;
    uint64_t first = save(1);
    differ(2, 1, 3);
    uint64_t second = save(2), none;
    assert_true(second < first / 2);
    memcpy(content[3], content[2], CHUNKS);
    none = save(3);
    assert_true(none < second);
    /* Moved is not changed. */
    for (unsigned i = 0; i < CHUNKS; i++)
        content[4][i] = content[3][CHUNKS - 1 - i];
    assert_true(save(4) < second);
    for (uint64_t cut = 1; cut <= 4; cut++)
        is_whole(cut);
    assert_int_equal(objects("c/"), 2);
}

static void there_are_no_chains_and_no_end_of_old_packs(void **state)
{
    (void)state;
    struct err err = {0};
    for (unsigned i = 0; i < CHUNKS; i++)
        content[1][i] = (unsigned char)(10 * i);
    save(1);
    for (uint64_t cut = 2; cut <= 20; cut++) {
        struct rank_manifest m;
        struct cut_name name = {.job = JOB, .uid = TEST_UID, .cut = cut, .generation = 1};
        object_key key;
        uint64_t cuts[CHUNKS + 1] = {0};
        unsigned count = 0;
        differ(cut, cut - 1, (unsigned)(cut % CHUNKS));
        save(cut);
        key_rank(&name, 0, key);
        assert_int_equal(shard_manifest_read(real, key, NULL, &m, &err), TIDE_OK);
        for (size_t p = 0; p < m.packs.count; p++) {
            struct pack_name pack;
            assert_int_equal(key_pack_parse(m.packs.items[p].key, JOB, TEST_UID, &pack), 0);
            assert_true(pack.cut + 2 * CHUNKS > cut); /* the older half of a pack is written again */
            assert_true(count <= CHUNKS);
            cuts[count++] = pack.cut;
        }
        assert_true(count > 1 && count <= BASE_CUTS_MAX + 1 && cuts[count - 1] == cut);
        codec_release(&rank_manifest_codec, &m);
    }
    for (uint64_t cut = 1; cut <= 20; cut++)
        is_whole(cut);
}

static void packs_stay_as_long_as_they_are_needed(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CHUNKS; i++)
        content[1][i] = (unsigned char)i;
    save(1);
    differ(2, 1, 0);
    save(2);
    differ(3, 2, 1);
    save(3);
    purge(1);
    purge(2);
    is_whole(3);
    assert_int_equal(objects("g/"), 2);
    /* What is not a checkpoint any more is no base either; its packs are known by way of cut 3 alone. */
    differ(4, 3, 2);
    save(4);
    purge(3);
    is_whole(4);
    purge(4);
    assert_int_equal(objects(""), 0);
}

/* Whoever deletes the base, and at whatever moment of an upload: it is stored whole, or the packs stay. */
static void a_base_that_is_deleted_meanwhile_loses_nothing(void **state)
{
    (void)state;
    unsigned operation = 1, happened = 1;
    uint64_t cut = 1;
    for (; happened; operation++, cut += 2) {
        struct err err = {0};
        struct stage_shard shard;
        for (unsigned i = 0; i < CHUNKS; i++)
            content[cut][i] = (unsigned char)(i + 50);
        save(cut);
        differ(cut + 1, cut, 2);
        record(cut + 1);
        assert_int_equal(put(purging_at(operation, cut), cut + 1, &shard, &err), TIDE_OK);
        happened = storm.left == 0;
        commit(cut + 1, &shard);
        is_whole(cut + 1);
        purge(cut + 1);
        purge(cut);
        assert_int_equal(objects(""), 0);
    }
    assert_true(operation > 8);
}

/* An agent that dies at any moment of an upload, and the base is gone when it is back. */
static void an_upload_that_was_cut_short_is_done_again_without_its_base(void **state)
{
    (void)state;
    enum tide_status status = TIDE_E_UNAVAILABLE;
    uint64_t cut = 1;
    for (unsigned operation = 1; status != TIDE_OK; operation++, cut += 2) {
        struct err err = {0};
        struct stage_shard shard;
        for (unsigned i = 0; i < CHUNKS; i++)
            content[cut][i] = (unsigned char)(i + 50);
        save(cut);
        differ(cut + 1, cut, 2);
        record(cut + 1);
        status = put(failing_at(operation), cut + 1, &shard, &err);
        if (operation % 2)
            purge(cut);
        assert_int_equal(put(calm(), cut + 1, &shard, &err), TIDE_OK);
        commit(cut + 1, &shard);
        is_whole(cut + 1);
        purge(cut + 1);
        purge(cut);
        assert_int_equal(objects(""), 0);
    }
}

/* A deletion that is cut short anywhere, and another one that comes by: what still has its COMMIT, and so may be a base, is whole. */
static void what_is_half_deleted_does_not_look_whole(void **state)
{
    (void)state;
    bool begun = false;
    for (unsigned operation = 1; !begun; operation++) {
        struct err err = {0};
        object_key key;
        uint64_t bytes;
        for (unsigned i = 0; i < CHUNKS; i++)
            content[1][i] = (unsigned char)(i + 50);
        save(1);
        differ(2, 1, 2);
        save(2);
        purge(1);
        assert_true(objects("n/") > 0); /* 2 lives on packs of 1 */
        assert_int_not_equal(stage_purge(failing_at(operation), JOB, TEST_UID, 2, &err), TIDE_OK);
        purge(7);
        commit_key_of(2, key);
        if (store_size(real, key, &bytes, &err) == TIDE_OK)
            is_whole(2);
        begun = objects("m/") == 0;
        purge(2);
        assert_int_equal(objects(""), 0);
    }
}

/* Anything in any order: uploads and deletions, whole or cut short and finished later. */
static void what_is_kept_is_whole_and_what_is_not_leaves_nothing(void **state)
{
    (void)state;
    struct rng rng = {.state = 23};
    int kept[CUTS_MAX] = {0}, half[CUTS_MAX] = {0};
    uint64_t cut = 1;
    save(cut);
    kept[1] = 1;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct err err = {0};
        struct stage_shard shard;
        uint64_t victim = 1 + rng_below(&rng, cut);
        if (rng_below(&rng, 2) == 0) {
            cut++;
            differ(cut, cut - 1, (unsigned)rng_below(&rng, CHUNKS));
            record(cut);
            half[cut] = put(failing_at((unsigned)rng_below(&rng, 30)), cut, &shard, &err) != TIDE_OK;
            if (!half[cut]) {
                commit(cut, &shard);
                kept[cut] = 1;
            }
        } else if (kept[victim] || half[victim]) {
            kept[victim] = 0;
            half[victim] = stage_purge(failing_at((unsigned)rng_below(&rng, 600)), JOB, TEST_UID, victim, &err) != TIDE_OK;
        }
        for (uint64_t i = 1; round % 8 == 0 && i <= cut; i++)
            if (kept[i])
                is_whole(i);
    }
    for (uint64_t i = 1; i <= cut; i++)
        if (kept[i])
            is_whole(i);
    for (uint64_t i = 1; i <= cut; i++)
        if (kept[i] || half[i])
            purge(i);
    assert_int_equal(objects(""), 0);
}

static void a_base_that_is_no_good_is_not_used(void **state)
{
    (void)state;
    struct err err = {0};
    char *path = mem_format("%s/r0.base", arena);
    static const char *const texts[] = {"", "garbage", "00112233445566778899aabbccddeeff m/none.json",
                                        "00112233445566778899aabbccddeeff ../../etc/passwd"};
    for (unsigned i = 0; i < CHUNKS; i++)
        content[1][i] = (unsigned char)i;
    uint64_t whole = save(1), cut = 2;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++, cut++) {
        memcpy(content[cut], content[1], CHUNKS);
        assert_int_equal(fsx_replace(path, texts[i], strlen(texts[i]), 0600, &err), TIDE_OK);
        assert_true(save(cut) + 100 > whole);
        is_whole(cut);
    }
    mem_free(path);
}

/* ---- what is left, and found by listing ---- */

static enum tide_status sweep(struct store *store, uint64_t live_1, uint64_t live_2, uint64_t over, uint64_t below, uint64_t *strange)
{
    struct err err = {0};
    uint64_t live[2] = {live_1, live_2};
    struct orphan_rule rule = {
        .live = live, .live_count = live_2 ? 2 : live_1 ? 1 : 0, .over = &over, .over_count = over != 0, .below = below};
    return stage_sweep(store, JOB, TEST_UID, &rule, strange, &err);
}

/* All but notes g/, which stay with the cut that they are about. */
static size_t data(void)
{
    return objects("c/") + objects("m/") + objects("n/");
}

/* Packs that no manifest names, of attempts that chose otherwise, or that were given up. */
static void a_sweep_finds_what_attempts_left(void **state)
{
    (void)state;
    struct err err = {0};
    uint64_t strange = 9;
    object_key stray, other;
    struct cut_name name = {.job = JOB, .uid = TEST_UID, .cut = 2, .generation = 1};
    save(1);
    differ(2, 1, 3);
    save(2);
    size_t whole = data();
    key_pack(&name, 0, 7, "0123456789abcdef", stray);
    assert_int_equal(store_put(real, stray, "stray", 5, &err), TIDE_OK);
    assert_int_equal(sweep(real, 1, 2, 0, 3, &strange), TIDE_OK);
    assert_int_equal(strange, 0);
    assert_int_equal(data(), whole);
    is_whole(1);
    is_whole(2);
    /* A state that was restored gave the id again, so that a later generation lies there, too, and is being stored or is
     * committed. What the older one names says nothing of that. */
    name.generation = 2;
    key_pack(&name, 0, 0, "0123456789abcdef", other);
    assert_int_equal(store_put(real, other, "other", 5, &err), TIDE_OK);
    assert_int_equal(sweep(real, 1, 2, 0, 3, &strange), TIDE_OK);
    assert_int_equal(data(), whole + 1);
    assert_int_equal(store_remove(real, other, &err), TIDE_OK);
    name.generation = 1;
    /* A cut that was given up while it was stored, of which somebody wrote on. */
    name.cut = 3;
    key_pack(&name, 0, 0, "0123456789abcdef", stray);
    assert_int_equal(store_put(real, stray, "late", 4, &err), TIDE_OK);
    key_need(&name, 2, stray);
    assert_int_equal(store_put(real, stray, "", 0, &err), TIDE_OK);
    assert_int_equal(sweep(real, 1, 2, 3, 4, &strange), TIDE_OK);
    assert_int_equal(data(), whole);
    /* Of one that has no number yet, as far as this list goes, nothing is touched. */
    name.cut = 9;
    key_pack(&name, 0, 0, "0123456789abcdef", stray);
    assert_int_equal(store_put(real, stray, "new", 3, &err), TIDE_OK);
    assert_int_equal(sweep(real, 1, 2, 0, 9, &strange), TIDE_OK);
    assert_int_equal(data(), whole + 1);
    assert_int_equal(store_remove(real, stray, &err), TIDE_OK);
}

/* One in each of the places where packs may be. */
static void packs_are_found_wherever_they_lie(void **state)
{
    (void)state;
    struct err err = {0};
    struct survey survey;
    unsigned seen[KEY_PLACES] = {0}, places = 0, place = 0;
    const struct cut_name name = {.job = JOB, .uid = TEST_UID, .cut = 7, .generation = 1}, later = {JOB, TEST_UID, 77, 1};
    object_key key;
    for (uint64_t seq = 0; places < KEY_PLACES; seq++) {
        key_pack(&name, 0, seq, "0123456789abcdef", key);
        assert_int_equal(sscanf(key, "c/%2x/", &place), 1);
        if (seen[place]++ == 0) {
            assert_int_equal(store_put(real, key, "x", 1, &err), TIDE_OK);
            places++;
        }
    }
    key_pack(&later, 0, 0, "0123456789abcdef", key);
    assert_int_equal(store_put(real, key, "x", 1, &err), TIDE_OK);
    assert_int_equal(survey_take(real, JOB, TEST_UID, &survey, &err), TIDE_OK);
    assert_int_equal(survey.objects.count, KEY_PLACES + 1);
    survey_release(&survey);
    assert_int_equal(stage_purge(real, JOB, TEST_UID, 7, &err), TIDE_OK);
    assert_int_equal(data(), 1);
    assert_int_equal(stage_purge(real, JOB, TEST_UID, 77, &err), TIDE_OK);
    assert_int_equal(data(), 0);
}

static enum tide_status count_told(void *context, const char *key, struct err *err)
{
    (void)key;
    (void)err;
    ++*(unsigned *)context;
    return TIDE_OK;
}

/* Which of its packs are strays nobody can say then. The others are searched all the same. */
static void what_cannot_be_read_keeps_all_that_it_has(void **state)
{
    (void)state;
    struct err err = {0};
    struct survey survey;
    uint64_t strange = 0;
    unsigned told = 0;
    object_key rank, stray;
    struct cut_name name = {.job = JOB, .uid = TEST_UID, .cut = 1, .generation = 1};
    save(1);
    differ(2, 1, 3);
    save(2);
    key_rank(&name, 0, rank);
    assert_int_equal(store_remove(real, rank, &err), TIDE_OK);
    key_pack(&name, 0, 7, "0123456789abcdef", stray);
    assert_int_equal(store_put(real, stray, "stray", 5, &err), TIDE_OK);
    size_t left = data();
    name.cut = 2;
    key_pack(&name, 0, 7, "0123456789abcdef", stray);
    assert_int_equal(store_put(real, stray, "stray", 5, &err), TIDE_OK);
    assert_int_equal(survey_take(real, JOB, TEST_UID, &survey, &err), TIDE_OK);
    assert_int_equal(survey_strays(&survey, real, 1, count_told, &told, &err), TIDE_OK);
    assert_int_equal(told, 0);
    assert_int_equal(survey_strays(&survey, real, 2, count_told, &told, &err), TIDE_OK);
    assert_int_equal(told, 1);
    /* A store that does not answer is another thing. */
    assert_int_equal(survey_strays(&survey, failing_at(1), 2, count_told, &told, &err), TIDE_E_UNAVAILABLE);
    survey_release(&survey);
    assert_int_equal(sweep(real, 1, 2, 0, 3, &strange), TIDE_OK);
    assert_int_equal(data(), left);
    is_whole(2);
}

static void a_committed_cut_that_nobody_knows_is_left(void **state)
{
    (void)state;
    struct err err = {0};
    uint64_t strange = 0;
    object_key stray;
    struct cut_name name = {.job = JOB, .uid = TEST_UID, .cut = 1, .generation = 1};
    save(1);
    save(2);
    /* With all that it has: packs, too, that its manifests do not name. */
    key_pack(&name, 0, 7, "0123456789abcdef", stray);
    assert_int_equal(store_put(real, stray, "stray", 5, &err), TIDE_OK);
    size_t whole = data();
    assert_int_equal(sweep(real, 2, 0, 0, 3, &strange), TIDE_OK);
    assert_int_equal(strange, 1);
    assert_int_equal(data(), whole);
    is_whole(1);
    /* Known and dropped, it goes, but not what 2 needs of it. */
    assert_int_equal(sweep(real, 2, 0, 1, 3, &strange), TIDE_OK);
    assert_int_equal(strange, 0);
    assert_int_equal(objects("m/job." TEST_UID "/1-"), 0);
    is_whole(2);
    assert_int_equal(sweep(real, 0, 0, 2, 3, &strange), TIDE_OK);
    assert_int_equal(objects(""), 0);
}

/* Cut short at every operation: nothing that lives is hurt, and the next one leaves nothing. */
static void a_sweep_cut_short_loses_nothing(void **state)
{
    (void)state;
    uint64_t strange = 0, cut = 1;
    enum tide_status status = TIDE_E_UNAVAILABLE;
    for (unsigned operation = 1; status != TIDE_OK; operation += 1 + operation / 8, cut += 3) {
        for (unsigned i = 0; i < CHUNKS; i++)
            content[cut][i] = (unsigned char)(i + cut);
        save(cut);
        differ(cut + 1, cut, 2);
        save(cut + 1);
        differ(cut + 2, cut + 1, 4);
        save(cut + 2);
        status = sweep(failing_at(operation), cut, cut + 2, cut + 1, cut + 3, &strange);
        is_whole(cut);
        is_whole(cut + 2);
        assert_int_equal(sweep(real, cut, cut + 2, cut + 1, cut + 3, &strange), TIDE_OK);
        is_whole(cut);
        is_whole(cut + 2);
        purge(cut);
        purge(cut + 2);
        assert_int_equal(objects(""), 0);
    }
    assert_true(cut > 30 && cut + 3 < CUTS_MAX);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(what_is_unchanged_is_not_stored_again),
        CASE(there_are_no_chains_and_no_end_of_old_packs),
        CASE(packs_stay_as_long_as_they_are_needed),
        CASE(a_base_that_is_deleted_meanwhile_loses_nothing),
        CASE(an_upload_that_was_cut_short_is_done_again_without_its_base),
        CASE(what_is_half_deleted_does_not_look_whole),
        CASE(what_is_kept_is_whole_and_what_is_not_leaves_nothing),
        CASE(a_base_that_is_no_good_is_not_used),
        CASE(a_sweep_finds_what_attempts_left),
        CASE(packs_are_found_wherever_they_lie),
        CASE(what_cannot_be_read_keeps_all_that_it_has),
        CASE(a_committed_cut_that_nobody_knows_is_left),
        CASE(a_sweep_cut_short_loses_nothing),
    };
    setenv("TIDE_TEST_ROOT", "/dev/shm", 0); /* thousands of objects: nothing of this is about disks */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
