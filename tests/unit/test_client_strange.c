/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_step.h"

/* Checkpoints that this program cannot continue from, each of which says why. No libtidemark_mpi here. */

#define CUT 5

static struct fake_step step;
static struct tide *tide;
static float weights[1000];

static int setup(void **state)
{
    (void)state;
    fake_start(&step, 3);
    step.answers[0] = (struct local_message){.type = LOCAL_RESTORE_FROM, .cut = CUT};
    step.answer_count = 1;
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
    struct tide_region region = {.name = "weights", .data = weights, .bytes = sizeof weights};
    assert_int_equal(tide_register(tide, &region), TIDE_OK);
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

static enum tide_status restore_of(const struct test_region *regions, uint32_t count, uint32_t world_size)
{
    uint64_t at = 0;
    char root[DIGEST_HEX_CHARS + 1];
    struct err err = {0};
    test_record(step.dir, 1, 0, CUT, regions, count, world_size);
    assert_int_equal(stage_sum(step.dir, 1, 0, TEST_UID, CUT, root, &err), TIDE_OK);
    return tide_restore(tide, &at);
}

static void says(const char *words)
{
    if (strstr(tide_error_text(tide), words) == NULL)
        fail_msg("\"%s\" is not in: %s", words, tide_error_text(tide));
}

static void messages_need_the_library_for_them(void **state)
{
    (void)state;
    static const struct test_region regions[] = {{"weights", sizeof weights}, {SLOT_CHANNEL_REGION, 640}};
    assert_int_equal(restore_of(regions, 2, 2), TIDE_E_MISMATCH);
    says("load libtidemark_mpi");
    says("rank 1");
    says("640 bytes");
    /* The checkpoint itself is good: that is not said to be bad. */
    assert_int_equal(step.seen[LOCAL_RESTORE_BAD], 0);
}

static void messages_of_nccl_need_the_library_for_them(void **state)
{
    (void)state;
    static const struct test_region regions[] = {{"weights", sizeof weights}, {SLOT_HELD_REGION, 640}};
    assert_int_equal(restore_of(regions, 2, 2), TIDE_E_MISMATCH);
    says("load libtidemark_nccl");
    says("640 bytes of NCCL messages");
    assert_int_equal(step.seen[LOCAL_RESTORE_BAD], 0);
}

static void no_messages_need_none(void **state)
{
    (void)state;
    static const struct test_region regions[] = {{"weights", sizeof weights}, {SLOT_CHANNEL_REGION, 0}};
    assert_int_equal(restore_of(regions, 2, 2), TIDE_OK);
}

static void what_a_later_version_wrote_is_not_guessed_at(void **state)
{
    (void)state;
    static const struct test_region regions[] = {{"weights", sizeof weights}, {"tidemark.hologram", 64}};
    assert_int_equal(restore_of(regions, 2, 2), TIDE_E_VERSION);
    says("tidemark.hologram");
}

static void another_world_is_told(void **state)
{
    (void)state;
    static const struct test_region regions[] = {{"weights", sizeof weights}};
    assert_int_equal(restore_of(regions, 1, 4), TIDE_E_MISMATCH);
    says("made by 4 ranks and this job has 2");
}

static void another_size_is_told(void **state)
{
    (void)state;
    static const struct test_region regions[] = {{"weights", sizeof weights + 4}};
    assert_int_equal(restore_of(regions, 1, 2), TIDE_E_MISMATCH);
    says("rank 1: region \"weights\" has 4004 bytes in checkpoint 5 and 4000 here");
}

#define IN_A_JOB(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_JOB(messages_need_the_library_for_them),
        IN_A_JOB(messages_of_nccl_need_the_library_for_them), IN_A_JOB(no_messages_need_none),
        IN_A_JOB(what_a_later_version_wrote_is_not_guessed_at),
        IN_A_JOB(another_world_is_told),
        IN_A_JOB(another_size_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
