/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ckpt/stage/want.h"
#include "tests/unit/fake_step.h"

/* Regions that are parts of what all ranks have together: rank 1 of 2. */

#define CUT 5u
#define AT 50u
#define ROWS 3u
#define COLUMNS 40u

static struct fake_step step;
static struct tide *tide;
static float moments[ROWS][COLUMNS], weights[100];
static uint64_t seed;

static const struct tide_region shard = {.name = "moments", .data = moments, .bytes = sizeof moments, .dtype = TIDE_F32, .ndim = 2,
                                         .flags = TIDE_SHARD, .shape = {ROWS, COLUMNS}, .whole = {2 * ROWS, COLUMNS}, .at = {ROWS, 0}};
static const struct tide_region same = {.name = "weights", .data = weights, .bytes = sizeof weights, .flags = TIDE_REPLICATED};
static const struct tide_region droppable = {.name = "seed", .data = &seed, .bytes = sizeof seed, .flags = TIDE_DROPPABLE};

static int setup(void **state)
{
    (void)state;
    fake_start(&step, 3);
    step.answers[0] = (struct local_message){.type = LOCAL_RESTORE_FROM, .cut = CUT};
    step.answer_count = 1;
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tide_finalize(tide);
    tide = NULL;
    fake_stop(&step);
    return 0;
}

static void restart(uint64_t generation)
{
    tide_finalize(tide);
    tide = NULL;
    fake_next_generation(&step, generation);
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
}

static void add(const struct tide_region *region)
{
    if (tide_register(tide, region) != TIDE_OK)
        fail_msg("%s", tide_error_text(tide));
}

static void says(const char *words)
{
    if (strstr(tide_error_text(tide), words) == NULL)
        fail_msg("\"%s\" is not in: %s", words, tide_error_text(tide));
}

static void record(void)
{
    char root[DIGEST_HEX_CHARS + 1];
    struct err err = {0};
    test_fill((unsigned char *)moments, sizeof moments, "noise", 1);
    test_fill((unsigned char *)weights, sizeof weights, "noise", 2);
    seed = 77;
    fake_arm(&step, CUT, AT, 0);
    assert_int_equal(tide_step(tide, AT), TIDE_OK);
    assert_int_equal(step.page->record_result, RECORD_DONE);
    assert_int_equal(stage_sum(step.dir, 1, 0, TEST_UID, CUT, root, &err), TIDE_OK);
}

static void what_is_no_part_is_refused_by_name(void **state)
{
    (void)state;
    struct tide_region r = shard;
    r.flags |= TIDE_REPLICATED;
    assert_int_equal(tide_register(tide, &r), TIDE_E_INVALID);
    says("\"moments\" can be only one of");
    r = shard;
    r.at[0] = ROWS + 1;
    assert_int_equal(tide_register(tide, &r), TIDE_E_INVALID);
    says("\"moments\" is no shard: dimension 0");
    r = shard;
    r.bytes -= 4;
    assert_int_equal(tide_register(tide, &r), TIDE_E_INVALID);
    says("its shape is that of 480 bytes, and it has 476");
    r = shard;
    r.ndim = 0;
    assert_int_equal(tide_register(tide, &r), TIDE_E_INVALID);
    r = same;
    r.flags = 16;
    assert_int_equal(tide_register(tide, &r), TIDE_E_INVALID);
    says("enum tide_region_flag");
}

static void kinds_and_parts_are_in_the_record(void **state)
{
    (void)state;
    arena_path path, sum_path;
    struct err err = {0};
    struct slot slot;
    struct slot_sum sum;
    add(&same);
    add(&shard);
    add(&droppable);
    record();
    slot_path(step.dir, 1, 0, path);
    slot_sum_path(step.dir, 1, 0, sum_path);
    assert_int_equal(slot_open(path, sum_path, TEST_UID, CUT, 1, &slot, &sum, &err), TIDE_OK);
    assert_int_equal(slot.regions[0].kind, REGION_REPLICATED);
    assert_int_equal(slot.regions[1].kind, REGION_SHARD);
    assert_int_equal(slot.regions[2].kind, REGION_DROPPABLE);
    assert_non_null(slot_parts(&slot));
    assert_int_equal(slot_parts(&slot)[0].whole[0], 0);
    assert_int_equal(slot_parts(&slot)[1].whole[0], 2 * ROWS);
    assert_int_equal(slot_parts(&slot)[1].at[0], ROWS);
    assert_memory_equal(slot.data + slot.regions[1].offset, moments, sizeof moments);
    slot_unmap(&slot);
    /* A table that does not fit is found by the digest, and before that by its shape. */
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    slot_parts(&slot)[1].at[0]++;
    assert_int_equal(slot_verify_table(&slot, &sum, &err), TIDE_E_CORRUPT);
    assert_int_equal(slot_check(&slot, TEST_UID, CUT, 1, &err), TIDE_E_CORRUPT);
    slot.header->parts = 0;
    assert_int_equal(slot_check(&slot, TEST_UID, CUT, 1, &err), TIDE_E_CORRUPT);
    slot.header->parts = UINT64_MAX;
    assert_int_equal(slot_check(&slot, TEST_UID, CUT, 1, &err), TIDE_E_CORRUPT);
    slot_unmap(&slot);
    slot_sum_release(&sum);
}

static void the_same_shard_comes_back_and_no_other_is_taken_for_it(void **state)
{
    (void)state;
    uint64_t at = 0;
    struct tide_region other = shard, own = shard;
    add(&shard);
    record();
    restart(4);
    memset(moments, 0, sizeof moments);
    add(&shard);
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
    assert_int_equal(at, AT);
    assert_true(moments[0][0] != 0 || moments[0][1] != 0);
    restart(5);
    other.at[0] = 0;
    add(&other);
    assert_int_equal(tide_restore(tide, &at), TIDE_E_MISMATCH);
    says("region \"moments\" is another part of the whole");
    restart(6);
    own.flags = 0; /* as a program says that does not know of parts */
    add(&own);
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
}

static void what_is_registered_is_told_before_it_is_asked_for(void **state)
{
    (void)state;
    uint64_t at = 0;
    char path[TIDE_PATH_MAX];
    struct err err = {0};
    struct want want;
    struct tide_region own = same;
    own.flags = 0;
    step.answers[0].type = LOCAL_RESTORE_NONE;
    snprintf(path, sizeof path, "%s/" WANT_FILE_FORMAT, step.dir, 1);
    add(&own);
    assert_int_equal(tide_restore(tide, &at), TIDE_E_NO_CHECKPOINT);
    assert_int_equal(want_load(path, TEST_UID, 3, 1, &want, &err), TIDE_E_NOT_FOUND);
    restart(4);
    add(&own);
    add(&shard);
    assert_int_equal(tide_restore(tide, &at), TIDE_E_NO_CHECKPOINT);
    assert_int_equal(want_load(path, TEST_UID, 3, 1, &want, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(want_load(path, TEST_UID, 4, 0, &want, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(want_load(path, TEST_UID, 4, 1, &want, &err), TIDE_OK);
    assert_int_equal(want.facts.world_size, 2);
    assert_int_equal(want.facts.region_count, 2);
    assert_string_equal(want.regions[1].name, "moments");
    assert_int_equal(want.parts[1].whole[0], 2 * ROWS);
    want_release(&want);
    for (long i = 0; i < 400; i++) { /* whatever is in it: a table, or an error */
        int was = test_flip(path, i, 0xff);
        if (want_load(path, TEST_UID, 4, 1, &want, &err) == TIDE_OK)
            want_release(&want);
        assert_int_equal(test_flip(path, i, 0xff), was ^ 0xff);
    }
}

static void what_is_droppable_need_not_be_in_the_checkpoint(void **state)
{
    (void)state;
    uint64_t at = 0;
    struct tide_region own = droppable;
    add(&shard);
    record();
    restart(4);
    seed = 12;
    add(&shard);
    add(&droppable);
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
    assert_int_equal(seed, 12);
    restart(5);
    own.flags = 0;
    add(&shard);
    add(&own);
    assert_int_equal(tide_restore(tide, &at), TIDE_E_MISMATCH);
    says("\"seed\" is registered and not in checkpoint");
}

#define IN_A_JOB(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_JOB(what_is_no_part_is_refused_by_name),
        IN_A_JOB(kinds_and_parts_are_in_the_record),
        IN_A_JOB(the_same_shard_comes_back_and_no_other_is_taken_for_it),
        IN_A_JOB(what_is_registered_is_told_before_it_is_asked_for),
        IN_A_JOB(what_is_droppable_need_not_be_in_the_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
