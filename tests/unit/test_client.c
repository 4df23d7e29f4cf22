/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "tests/unit/fake_step.h"

static struct fake_step step;
static struct tide *tide;
static const struct tide_options brief = {.size = sizeof brief, .deadline_ms = 200};

static int setup(void **state)
{
    (void)state;
    fake_start(&step, 3);
    tide = NULL;
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

/* ---- the program under test ---- */

#define WEIGHTS (300000u)
static float weights[WEIGHTS], moments[WEIGHTS];
static uint64_t random_state;

static void train(uint64_t seed)
{
    test_fill((unsigned char *)weights, sizeof weights, "noise", seed);
    test_fill((unsigned char *)moments, sizeof moments, "slope", seed);
    random_state = seed * 77;
}

static void forget(void)
{
    memset(weights, 0xee, sizeof weights);
    memset(moments, 0xee, sizeof moments);
    random_state = 0;
}

static int trained(uint64_t seed)
{
    static float w[WEIGHTS], m[WEIGHTS];
    memcpy(w, weights, sizeof w);
    memcpy(m, moments, sizeof m);
    uint64_t r = random_state;
    train(seed);
    return memcmp(w, weights, sizeof w) == 0 && memcmp(m, moments, sizeof m) == 0 && r == random_state;
}

static void add(const char *name, void *data, size_t bytes)
{
    struct tide_region region = {.name = name, .data = data, .bytes = bytes, .dtype = TIDE_F32};
    assert_int_equal(tide_register(tide, &region), TIDE_OK);
}

static void begin_with(const struct tide_options *options)
{
    assert_int_equal(tide_init(&tide, options), TIDE_OK);
    add("weights", weights, sizeof weights);
    add("moments", moments, sizeof moments);
    add("random state", &random_state, sizeof random_state);
}

static void begin(void)
{
    begin_with(NULL);
}

/* Record cut `cut` at `at` in slot `slot`, digests included. */
static void checkpoint(uint64_t cut, uint64_t at, uint32_t slot)
{
    struct err err = {0};
    char root[DIGEST_HEX_CHARS + 1];
    train(at);
    fake_arm(&step, cut, at, slot);
    assert_int_equal(tide_step(tide, at), TIDE_OK);
    assert_int_equal(step.page->recorded_cut, cut);
    assert_int_equal(step.page->record_result, RECORD_DONE);
    assert_int_equal(stage_sum(step.dir, 1, slot, TEST_UID, cut, root, &err), TIDE_OK);
}

static void answer(unsigned attempt, enum local_type type, uint64_t cut, uint64_t at, uint32_t slot)
{
    step.answers[attempt - 1] = (struct local_message){.type = type, .cut = cut, .step = at, .slot = slot};
    step.answer_count = attempt;
}

static void restart(uint64_t generation)
{
    tide_finalize(tide);
    tide = NULL;
    forget();
    fake_next_generation(&step, generation);
    begin();
}

/* ---- joining ---- */

static void outside_a_job_everything_succeeds(void **state)
{
    (void)state;
    uint64_t at = 5;
    unsetenv(ENV_SOCKET);
    begin();
    assert_false(tide_active(tide));
    assert_false(tide_active(NULL));
    assert_int_equal(tide_restore(tide, &at), TIDE_E_NO_CHECKPOINT);
    assert_int_equal(at, 5);
    for (uint64_t s = 1; s < 1000; s++)
        assert_int_equal(tide_step(tide, s), TIDE_OK);
    assert_int_equal(tide_step(tide, 999), TIDE_E_INVALID);
    assert_int_equal(tide_unregister(tide, "weights"), TIDE_OK);
    assert_int_equal(tide_unregister(tide, "weights"), TIDE_E_NOT_FOUND);
    tide_finalize(tide);
    tide_finalize(NULL);
    tide = NULL;
}

static void joining_and_leaving_is_seen(void **state)
{
    (void)state;
    begin();
    assert_true(tide_active(tide));
    assert_int_equal(step.page->phase, CONTROL_ATTACHED);
    assert_int_equal(step.page->pid, getpid());
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    assert_int_equal(step.page->phase, CONTROL_STEPPING);
    assert_int_equal(step.page->step, 1);
    tide_finalize(tide);
    tide = NULL;
    assert_int_equal(step.page->phase, CONTROL_FINALIZED);
    assert_true(fake_saw(&step, LOCAL_GOODBYE, 1));
}

static void fails_to_join(enum tide_status status, const char *words)
{
    uint64_t before = clock_mono_ns();
    assert_int_equal(tide_init(&tide, &brief), status);
    assert_null(tide);
    assert_non_null(strstr(tide_error_text(NULL), words));
    assert_true(clock_mono_ns() - before < 5 * NS_PER_S);
}

static void joining_fails_in_time_and_says_why(void **state)
{
    (void)state;
    step.mood = FAKE_SILENT;
    fails_to_join(TIDE_E_TIMEOUT, "deadline");
    step.mood = FAKE_REFUSES_HELLO;
    fails_to_join(TIDE_E_STALE, "generation 3 is over");
    step.mood = FAKE_OTHER_VERSION;
    fails_to_join(TIDE_E_VERSION, "version");
    step.mood = FAKE_HANGS_UP;
    fails_to_join(TIDE_E_UNAVAILABLE, "gone");
    step.mood = FAKE_KIND;
    setenv("RANK", "0", 1);
    fails_to_join(TIDE_E_IO, "r0.control");
    setenv("RANK", "1x", 1);
    fails_to_join(TIDE_E_INVALID, "RANK=1x");
    setenv("RANK", "1", 1);
    setenv(ENV_GENERATION, "4", 1);
    fails_to_join(TIDE_E_UNAVAILABLE, "generation 3");
    setenv(ENV_GENERATION, "3", 1);
    step.page->magic++;
    fails_to_join(TIDE_E_VERSION, "control page");
    setenv(ENV_SOCKET, "/nonexistent/rank.sock", 1);
    fails_to_join(TIDE_E_UNAVAILABLE, "/nonexistent/rank.sock");
}

static void options_carry_their_size(void **state)
{
    (void)state;
    struct tide_options options = {.size = 0};
    assert_int_equal(tide_init(&tide, &options), TIDE_E_INVALID);
    assert_int_equal(tide_init(NULL, NULL), TIDE_E_INVALID);
    options.size = sizeof options.size; /* of a program built when that was all */
    assert_int_equal(tide_init(&tide, &options), TIDE_OK);
    assert_int_equal(step.page->cut_declared, TIDE_CUT_AUTO);
}

static void bad_regions_are_refused(void **state)
{
    (void)state;
    char longest[TIDE_NAME_MAX + 2];
    memset(longest, 'n', sizeof longest);
    longest[TIDE_NAME_MAX + 1] = '\0';
    begin();
    struct tide_region region = {.name = "weights", .data = weights, .bytes = 4};
    assert_int_equal(tide_register(tide, &region), TIDE_E_EXISTS);
    region.name = longest;
    assert_int_equal(tide_register(tide, &region), TIDE_E_INVALID);
    region.name = "a\tb";
    assert_int_equal(tide_register(tide, &region), TIDE_E_INVALID);
    region.name = NULL;
    assert_int_equal(tide_register(tide, &region), TIDE_E_INVALID);
    region.name = "x";
    region.data = NULL;
    assert_int_equal(tide_register(tide, &region), TIDE_E_INVALID);
    region.data = weights;
    region.memory = TIDE_DEVICE;
    assert_int_equal(tide_register(tide, &region), TIDE_E_UNSUPPORTED);
    assert_non_null(strstr(tide_error_text(tide), "\"x\""));
    region.memory = TIDE_HOST;
    region.ndim = TIDE_DIMS_MAX + 1;
    assert_int_equal(tide_register(tide, &region), TIDE_E_INVALID);
    region.ndim = 0;
    region.bytes = SIZE_MAX;
    assert_int_equal(tide_register(tide, &region), TIDE_E_LIMIT);
    assert_int_equal(tide_register(NULL, &region), TIDE_E_INVALID);
}

static void steps_must_grow(void **state)
{
    (void)state;
    begin();
    assert_int_equal(tide_step(tide, 0), TIDE_OK);
    assert_int_equal(tide_step(tide, 0), TIDE_E_INVALID);
    assert_int_equal(tide_step(tide, 10), TIDE_OK);
    assert_int_equal(tide_step(tide, 9), TIDE_E_INVALID);
    assert_non_null(strstr(tide_error_text(tide), "step 9 follows step 10"));
    assert_int_equal(tide_step(tide, STEP_NONE), TIDE_E_INVALID);
    assert_int_equal(tide_step(tide, STEP_LIMIT), TIDE_E_INVALID);
    assert_int_equal(step.page->step, 10);
    assert_int_equal(tide_step(tide, STEP_LIMIT - 1), TIDE_OK);
    assert_int_equal(tide_step(NULL, 1), TIDE_E_INVALID);
}

/* ---- recording ---- */

static void an_armed_step_is_recorded(void **state)
{
    (void)state;
    begin();
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    checkpoint(7, 4, 1);
    assert_int_equal(step.page->armed_step, STEP_NONE);
    assert_int_equal(step.page->record_step, 4);
    assert_int_equal(step.page->record_slot, 1);
    assert_int_equal(step.page->recorded_attempt, 1);
    assert_true(step.page->record_bytes >= 2 * sizeof weights + 8);
    assert_true(step.page->record_stall_ns > 0);
    assert_true(fake_saw(&step, LOCAL_RECORDED, 1));
    assert_int_equal(tide_step(tide, 5), TIDE_OK);
    assert_int_equal(step.page->recorded_cut, 7);
    /* The other slot, without asking for room again. */
    checkpoint(8, 9, 0);
    assert_int_equal(step.seen[LOCAL_RESERVE], 1);
    uint64_t cuts[SLOTS];
    char roots[SLOTS][DIGEST_HEX_CHARS + 1];
    stage_held(step.dir, 1, TEST_UID, cuts, roots);
    assert_int_equal(cuts[1], 7);
    assert_int_equal(cuts[0], 8);
}

static void room_is_asked_for_when_training_begins(void **state)
{
    (void)state;
    begin();
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    checkpoint(4, 3, 0);
    assert_int_equal(step.ahead, 1);
    uint64_t data_bytes = region_end_aligned(region_end_aligned(region_end_aligned(0, sizeof weights), sizeof moments), 8);
    assert_int_equal(step.ahead_bytes, slot_bytes_needed(3, false, data_bytes));
    assert_int_equal(step.seen[LOCAL_RESERVE], 1);
}

static void new_regions_ask_for_more_room(void **state)
{
    (void)state;
    static char more[1 << 20];
    begin();
    checkpoint(1, 1, 0);
    add("more", more, sizeof more);
    checkpoint(2, 2, 1);
    checkpoint(3, 3, 0);
    assert_int_equal(step.seen[LOCAL_RESERVE], 2);
    assert_int_equal(tide_unregister(tide, "more"), TIDE_OK);
    checkpoint(4, 4, 0);
    assert_int_equal(step.seen[LOCAL_RESERVE], 2);
}

static void a_failed_record_is_not_the_programs_trouble(void **state)
{
    (void)state;
    begin();
    step.mood = FAKE_REFUSES_ROOM;
    fake_arm(&step, 5, 2, 0);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    assert_int_equal(step.page->recorded_cut, 5);
    assert_int_equal(step.page->record_result, RECORD_FAILED);
    assert_int_equal(step.page->record_status, TIDE_E_NOSPACE);
    assert_non_null(strstr(step.page->record_detail, "the arena of node n1 is full"));
    assert_int_equal(step.page->armed_step, STEP_NONE);
    step.mood = FAKE_KIND;
    fake_arm(&step, 6, 3, SLOTS);
    assert_int_equal(tide_step(tide, 3), TIDE_OK);
    assert_int_equal(step.page->record_result, RECORD_FAILED);
    checkpoint(7, 4, 0);
}

static void a_dead_step_process_does_not_kill_the_rank(void **state)
{
    (void)state;
    uint64_t at;
    begin();
    checkpoint(1, 1, 0);
    step.mood = FAKE_HANGS_UP;
    /* The message that finds the step in this mood is its last. */
    checkpoint(2, 2, 1);
    checkpoint(3, 3, 0);
    for (uint64_t cut = 4; cut < 20; cut++)
        checkpoint(cut, cut, cut % 2);
    tide_finalize(tide);
    tide = NULL;
    fake_next_generation(&step, 4);
    step.mood = FAKE_KIND;
    begin();
    step.mood = FAKE_HANGS_UP;
    assert_int_equal(tide_restore(tide, &at), TIDE_E_UNAVAILABLE);
}

/* ---- restoring ---- */

static void a_new_generation_continues_where_the_cut_was(void **state)
{
    (void)state;
    uint64_t at = 0;
    begin();
    checkpoint(7, 40, 1);
    train(41);
    restart(4);
    answer(1, LOCAL_RESTORE_FROM, 7, 40, 1);
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
    assert_int_equal(at, 40);
    assert_true(trained(40));
    assert_int_equal(step.page->restored_cut, 7);
    assert_int_equal(step.page->restored_step, 40);
    assert_int_equal(step.page->step, 40);
    assert_true(step.page->restore_ns > 0);
    assert_true(fake_saw(&step, LOCAL_RESTORED, 1));
    assert_int_equal(tide_step(tide, 40), TIDE_E_INVALID);
    assert_int_equal(tide_step(tide, 41), TIDE_OK);
    assert_int_equal(tide_restore(tide, &at), TIDE_E_STATE);
}

/* The state comes from a store that is slow or out of reach: as long as that is said, nobody gives up. */
static void a_state_that_takes_long_to_come_is_waited_for(void **state)
{
    (void)state;
    uint64_t at = 0;
    begin();
    checkpoint(7, 40, 1);
    tide_finalize(tide);
    tide = NULL;
    fake_next_generation(&step, 4);
    begin_with(&brief);
    train(41);
    answer(1, LOCAL_RESTORE_FROM, 7, 40, 1);
    step.waits = 3 * (unsigned)brief.deadline_ms / FAKE_WAIT_MS;
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
    assert_int_equal(at, 40);
    assert_true(trained(40));
    step.mood = FAKE_SILENT; /* … and no longer */
    assert_int_equal(tide_restore(tide, &at), TIDE_E_TIMEOUT);
}

static void there_may_be_nothing_to_restore(void **state)
{
    (void)state;
    uint64_t at = 9;
    begin();
    train(1);
    answer(1, LOCAL_RESTORE_NONE, 0, 0, 0);
    assert_int_equal(tide_restore(tide, &at), TIDE_E_NO_CHECKPOINT);
    assert_int_equal(at, 9);
    assert_true(trained(1));
    assert_int_equal(step.page->restored_cut, 0);
    assert_int_equal(step.page->phase, CONTROL_ATTACHED);
}

static void a_bad_chunk_is_reported_and_another_copy_used(void **state)
{
    (void)state;
    uint64_t at = 0;
    char path[256];
    begin();
    checkpoint(7, 40, 1);
    /* The agent's second answer: the same cut, fetched into the other slot. */
    char from[256], to[256];
    for (int sum = 0; sum < 2; sum++) {
        snprintf(from, sizeof from, sum ? "%s/" SLOT_SUM_FILE_FORMAT : "%s/" SLOT_FILE_FORMAT, step.dir, 1u, 1u);
        snprintf(to, sizeof to, sum ? "%s/" SLOT_SUM_FILE_FORMAT : "%s/" SLOT_FILE_FORMAT, step.dir, 1u, 0u);
        char *data = NULL;
        size_t bytes = 0;
        struct err err = {0};
        assert_int_equal(fsx_read(from, 64u << 20, &data, &bytes, &err), TIDE_OK);
        assert_int_equal(fsx_replace(to, data, bytes, 0600, &err), TIDE_OK);
        mem_free(data);
    }
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step.dir, 1u, 1u);
    test_flip(path, 2 * SLOT_HEADER_BYTES + (1 << 20) + 3, 1);
    restart(4);
    answer(1, LOCAL_RESTORE_FROM, 7, 40, 1);
    answer(2, LOCAL_RESTORE_FROM, 7, 40, 0);
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
    assert_true(trained(40));
    assert_true(fake_saw(&step, LOCAL_RESTORE_BAD, 1));
    assert_int_equal(step.bad.slot, 1);
    assert_non_null(strstr(step.bad.text, "chunk 1 of 3"));
    assert_int_equal(step.seen[LOCAL_RESTORE_ASK], 2);
}

static void no_good_copy_is_corrupt(void **state)
{
    (void)state;
    uint64_t at = 0;
    char path[256];
    begin();
    checkpoint(7, 40, 1);
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step.dir, 1u, 1u);
    test_flip(path, 2 * SLOT_HEADER_BYTES + 3, 1);
    restart(4);
    answer(1, LOCAL_RESTORE_FROM, 7, 40, 1);
    answer(2, LOCAL_RESTORE_FROM, 7, 40, 0);
    answer(3, LOCAL_RESTORE_FROM, 8, 40, 9);
    assert_int_equal(tide_restore(tide, &at), TIDE_E_CORRUPT);
    assert_int_equal(at, 0);
    assert_string_equal(tide_error_text(tide), "no tier has a valid copy");
    assert_int_equal(step.seen[LOCAL_RESTORE_BAD], 3);
}

static void mismatch(const char *words)
{
    uint64_t at = 0;
    assert_int_equal(tide_restore(tide, &at), TIDE_E_MISMATCH);
    assert_non_null(strstr(tide_error_text(tide), words));
    assert_int_equal(step.seen[LOCAL_RESTORE_BAD], 0);
}

static void other_regions_are_a_mismatch_that_names_them(void **state)
{
    (void)state;
    begin();
    checkpoint(7, 40, 1);
    restart(4);
    answer(1, LOCAL_RESTORE_FROM, 7, 40, 1);
    add("new", weights, 4);
    mismatch("\"new\"");
    assert_int_equal(tide_unregister(tide, "new"), TIDE_OK);
    assert_int_equal(tide_unregister(tide, "moments"), TIDE_OK);
    mismatch("\"moments\"");
    add("moments", moments, sizeof moments - 4);
    mismatch("1200000");
    assert_int_equal(tide_unregister(tide, "moments"), TIDE_OK);
    add("moments", moments, sizeof moments);
    /* Another order is no mismatch. */
    uint64_t at = 0;
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
    assert_true(trained(40));
}

static void regions_of_any_size_survive(void **state)
{
    (void)state;
    static unsigned char odd[7][(18 << 20) + 1]; /* more chunks than there are lanes */
    static const size_t sizes[7] = {0, 1, 63, (18 << 20) + 1, 1 << 20, (1 << 20) + 1, 5};
    uint64_t at = 0;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
        for (int i = 0; i < 7; i++) {
            char name[2] = {(char)('a' + i), 0};
            if (round == 0)
                test_fill(odd[i], sizes[i], "noise", (uint64_t)i);
            add(name, sizes[i] ? odd[i] : NULL, sizes[i]);
        }
        if (round == 0) {
            struct err err = {0};
            char root[DIGEST_HEX_CHARS + 1];
            fake_arm(&step, 2, 1, 0);
            assert_int_equal(tide_step(tide, 1), TIDE_OK);
            assert_int_equal(stage_sum(step.dir, 1, 0, TEST_UID, 2, root, &err), TIDE_OK);
            tide_finalize(tide);
            tide = NULL;
            memset(odd, 0xee, sizeof odd);
            fake_next_generation(&step, 4);
        }
    }
    answer(1, LOCAL_RESTORE_FROM, 2, 1, 0);
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
    for (int i = 0; i < 7; i++) {
        unsigned char *expected = mem_alloc(sizes[i] + 1);
        test_fill(expected, sizes[i], "noise", (uint64_t)i);
        assert_memory_equal(odd[i], expected, sizes[i]);
        assert_int_equal(odd[i][sizes[i] < sizeof odd[i] ? sizes[i] : 0] != 0xee, sizes[i] == sizeof odd[i]);
        mem_free(expected);
    }
}

/* ---- trouble in the process ---- */

static void memory_that_runs_out_is_an_error(void **state)
{
    (void)state;
    uint64_t at;
    unsigned failed = 0;
    begin();
    checkpoint(7, 40, 1);
    tide_finalize(tide);
    for (unsigned long n = 1; n < 20; n++) {
        struct tide_region region = {.name = "weights", .data = weights, .bytes = sizeof weights};
        fake_next_generation(&step, 4);
        answer(1, LOCAL_RESTORE_FROM, 7, 40, 1);
        tide = NULL;
        mem_fail_at(n);
        enum tide_status status = tide_init(&tide, NULL);
        if (status == TIDE_OK)
            status = tide_register(tide, &region);
        region = (struct tide_region){.name = "moments", .data = moments, .bytes = sizeof moments};
        if (status == TIDE_OK)
            status = tide_register(tide, &region);
        region = (struct tide_region){.name = "random state", .data = &random_state, .bytes = sizeof random_state};
        if (status == TIDE_OK)
            status = tide_register(tide, &region);
        if (status == TIDE_OK)
            status = tide_restore(tide, &at);
        mem_fail_at(0);
        assert_true(status == TIDE_OK || status == TIDE_E_NOMEM);
        failed += status != TIDE_OK;
        tide_finalize(tide);
    }
    tide = NULL;
    assert_true(failed >= 6);
}

static void a_forked_child_does_not_speak_for_the_rank(void **state)
{
    (void)state;
    int status;
    begin();
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    fake_arm(&step, 5, 2, 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)tide_step(tide, 2);
        tide_finalize(tide);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(step.page->recorded_cut, 0);
    assert_int_equal(step.page->phase, CONTROL_STEPPING);
    assert_int_equal(step.seen[LOCAL_GOODBYE], 0);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    assert_int_equal(step.page->recorded_cut, 5);
}

#define IN_A_JOB(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_JOB(outside_a_job_everything_succeeds),
        IN_A_JOB(joining_and_leaving_is_seen),
        IN_A_JOB(joining_fails_in_time_and_says_why),
        IN_A_JOB(options_carry_their_size),
        IN_A_JOB(bad_regions_are_refused),
        IN_A_JOB(steps_must_grow),
        IN_A_JOB(an_armed_step_is_recorded),
        IN_A_JOB(room_is_asked_for_when_training_begins),
        IN_A_JOB(new_regions_ask_for_more_room),
        IN_A_JOB(a_failed_record_is_not_the_programs_trouble),
        IN_A_JOB(a_dead_step_process_does_not_kill_the_rank),
        IN_A_JOB(a_new_generation_continues_where_the_cut_was),
        IN_A_JOB(a_state_that_takes_long_to_come_is_waited_for),
        IN_A_JOB(there_may_be_nothing_to_restore),
        IN_A_JOB(a_bad_chunk_is_reported_and_another_copy_used),
        IN_A_JOB(no_good_copy_is_corrupt),
        IN_A_JOB(other_regions_are_a_mismatch_that_names_them),
        IN_A_JOB(regions_of_any_size_survive),
        IN_A_JOB(memory_that_runs_out_is_an_error),
        IN_A_JOB(a_forked_child_does_not_speak_for_the_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
