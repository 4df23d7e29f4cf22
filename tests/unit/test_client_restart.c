/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/wait.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/nccl/link.h"
#include "tests/unit/fake_step.h"
#include <tidemark/tidemark.h>

/* A rank that goes over to the next generation in its process, with a libtidemark_nccl that is a fake. */

#define SEEN_MS 5000

static struct fake_step step;
static struct tide *tide;
static unsigned char weights[5000];
static _Atomic int called, overs, leaves;
static struct control_progress *progress;

int tide_nccl_attach(uint32_t version)
{
    return version == TIDE_NCCL_LINK_VERSION;
}

void tide_nccl_detach(void)
{
}

void tide_nccl_over(void)
{
    overs++;
}

void tide_nccl_tell(struct control_progress *to)
{
    progress = to;
}

void tide_nccl_leave(void)
{
    assert_null(progress); /* its page is about to go */
    leaves++;
}

enum tide_status tide_nccl_may_record(char *why, size_t why_size)
{
    (void)why, (void)why_size;
    return TIDE_OK;
}

size_t tide_nccl_comms(struct control_comm *to, size_t room)
{
    (void)to, (void)room;
    return 0;
}

size_t tide_nccl_channels(struct control_channel *to, size_t room)
{
    (void)to, (void)room;
    return 0;
}

size_t tide_nccl_members(struct control_member *to, size_t room)
{
    (void)to, (void)room;
    return 0;
}

uint64_t tide_nccl_held_bytes(void)
{
    return 0;
}

static void on_over(void *user)
{
    assert_ptr_equal(user, weights);
    called++;
}

static int setup(void **state)
{
    (void)state;
    fake_start(&step, 3);
    step.page->may_stay = 1;
    step.next_generation = 4;
    called = overs = leaves = 0;
    tide = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tide_finalize(tide);
    fake_stop(&step);
    return 0;
}

static void begin(uint64_t deadline_ms)
{
    struct tide_options options = {.size = sizeof options, .deadline_ms = deadline_ms};
    struct tide_region region = {.name = "weights", .data = weights, .bytes = sizeof weights};
    assert_int_equal(tide_init(&tide, &options), TIDE_OK);
    assert_int_equal(tide_register(tide, &region), TIDE_OK);
    assert_int_equal(tide_set_restart(tide, on_over, weights), TIDE_OK);
    assert_int_equal(step.page->stays, 1);
}

static void record_at(uint64_t cut, uint64_t at)
{
    fake_arm(&step, cut, at, 0);
    assert_int_equal(tide_step(tide, at), TIDE_OK);
    assert_int_equal(step.page->recorded_cut, cut);
    assert_int_equal(step.page->record_result, RECORD_DONE);
}

/* As agent/step/stay.c says it; here nobody is woken, which costs up to a second. */
static void generation_ends(void)
{
    atomic_fetch_or(&step.page->over, CONTROL_OVER);
}

static void until_barred(void)
{
    for (int i = 0; i < SEEN_MS && atomic_load(&step.page->armed_step) != STEP_OVER; i++)
        usleep(1000);
    assert_int_equal(step.page->armed_step, STEP_OVER);
}

static void a_rank_goes_over_and_records_in_the_next_generation(void **state)
{
    (void)state;
    uint64_t at = 0;
    begin(0);
    record_at(7, 5);
    generation_ends();
    until_barred();
    assert_int_equal(tide_step(tide, 6), TIDE_E_RESTART);
    assert_non_null(strstr(tide_error_text(tide), "generation 3 of the job is over; call tide_restart"));
    assert_int_equal(tide_step(tide, 7), TIDE_E_RESTART);

    assert_int_equal(tide_restart(tide), TIDE_OK);
    assert_true(fake_saw(&step, LOCAL_LEFT, 1));
    assert_int_equal(step.page->generation, 4);
    assert_int_equal(step.page->phase, CONTROL_ATTACHED);
    assert_int_equal(step.page->pid, getpid());
    assert_int_equal(step.page->stays, 1);
    assert_true(called == 1 && overs >= 1 && leaves == 1);

    step.answers[0] = (struct local_message){.type = LOCAL_RESTORE_NONE};
    step.answer_count = 1;
    assert_int_equal(tide_restore(tide, &at), TIDE_E_NO_CHECKPOINT);
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    record_at(8, 2);
}

static void it_goes_over_again_and_again(void **state)
{
    (void)state;
    begin(0);
    for (uint64_t generation = 4; generation < 7; generation++) {
        step.next_generation = generation;
        assert_int_equal(tide_step(tide, 1), TIDE_OK);
        generation_ends();
        assert_int_equal(tide_restart(tide), TIDE_OK); /* it has learned of it otherwise */
        assert_int_equal(step.page->generation, generation);
    }
    assert_true(called == 3 && leaves == 3 && progress != NULL); /* told of in the page of its generation */
}

/* A zombie never writes: when it says that it has left, what it could write to is not there any more. */
static void who_has_left_has_nothing_of_the_generation_mapped(void **state)
{
    (void)state;
    begin(0);
    record_at(7, 5);
    assert_true(fake_mapped(&step) >= 2); /* page, slot */
    generation_ends();
    assert_int_equal(tide_restart(tide), TIDE_OK);
    assert_int_equal(step.mapped_at_left, 0);
}

static void nothing_is_recorded_once_it_is_over(void **state)
{
    (void)state;
    begin(0);
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    fake_arm(&step, 7, 2, 0);
    generation_ends();
    until_barred();
    assert_int_equal(tide_step(tide, 2), TIDE_E_RESTART);
    assert_int_equal(step.page->recorded_cut, 0);
}

static void a_failure_of_its_own_is_none_of_the_generation(void **state)
{
    (void)state;
    begin(50);
    assert_int_equal(tide_restart(tide), TIDE_E_TIMEOUT);
    assert_int_equal(step.seen[LOCAL_LEFT], 0);
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    assert_int_equal(called, 0);
}

static void refused_it_belongs_to_none(void **state)
{
    (void)state;
    begin(0);
    step.next_generation = 0;
    generation_ends();
    assert_int_equal(tide_restart(tide), TIDE_E_STALE);
    struct tide_generation is = {.size = sizeof is};
    assert_int_equal(tide_get_generation(tide, &is), TIDE_E_RESTART);
    assert_int_equal(step.page->generation, 3);
    uint64_t before = step.page->step;
    (void)tide_step(tide, 9);
    assert_int_equal(step.page->step, before);
}

static void who_has_not_asked_stays_as_he_was(void **state)
{
    (void)state;
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
    assert_int_equal(tide_restart(tide), TIDE_E_STATE);
    step.page->may_stay = 0;
    assert_int_equal(tide_set_restart(tide, NULL, NULL), TIDE_E_UNSUPPORTED);
    assert_non_null(strstr(tide_error_text(tide), "started anew as processes"));
    assert_int_equal(step.page->stays, 0);
    step.page->may_stay = 1;
    assert_int_equal(tide_set_restart(tide, NULL, NULL), TIDE_OK);
    assert_int_equal(tide_set_restart(tide, NULL, NULL), TIDE_E_EXISTS);
}

static void outside_a_job_nothing_is_done(void **state)
{
    (void)state;
    struct tide *alone = NULL;
    char *path = mem_strdup(getenv(ENV_SOCKET));
    unsetenv(ENV_SOCKET);
    assert_int_equal(tide_init(&alone, NULL), TIDE_OK);
    assert_int_equal(tide_set_restart(alone, on_over, NULL), TIDE_OK);
    assert_int_equal(tide_restart(alone), TIDE_E_STATE);
    tide_finalize(alone);
    setenv(ENV_SOCKET, path, 1);
    mem_free(path);
}

static void tell(uint32_t restarts, uint32_t port, const char *address)
{
    step.page->restarts = restarts;
    step.page->master_port = port;
    snprintf(step.page->master_address, sizeof step.page->master_address, "%s", address);
}

static void expect_generation(uint64_t number, uint32_t restarts, uint32_t port, const char *address)
{
    struct tide_generation is = {.size = sizeof is};
    assert_int_equal(tide_get_generation(tide, &is), TIDE_OK);
    assert_true(is.size == sizeof is && is.number == number && is.restarts == restarts && is.master_port == port);
    assert_string_equal(is.master_address, address);
}

/* Its environment would be that of the first for ever. */
static void each_generation_says_what_is_another_in_it(void **state)
{
    (void)state;
    struct tide_generation is = {.size = sizeof is, .number = 77};
    begin(0);
    assert_int_equal(tide_get_generation(tide, &is), TIDE_E_UNSUPPORTED);
    assert_int_equal(is.number, 77);
    tell(2, 29500, "10.0.0.1");
    expect_generation(3, 2, 29500, "10.0.0.1");
    generation_ends();
    assert_int_equal(tide_restart(tide), TIDE_OK);
    tell(3, 29501, "10.0.0.9");
    expect_generation(4, 3, 29501, "10.0.0.9");
    is.size = sizeof is - 1;
    assert_int_equal(tide_get_generation(tide, &is), TIDE_E_INVALID);
    assert_int_equal(tide_get_generation(tide, NULL), TIDE_E_INVALID);
}

static void outside_a_job_the_environment_says_it(void **state)
{
    (void)state;
    char *path = mem_strdup(getenv(ENV_SOCKET));
    unsetenv(ENV_SOCKET);
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
    expect_generation(0, 0, 0, "");
    setenv("MASTER_ADDR", "localhost", 1);
    setenv("MASTER_PORT", "1234", 1);
    setenv("TORCHELASTIC_RESTART_COUNT", "5", 1);
    expect_generation(0, 5, 1234, "localhost");
    unsetenv("MASTER_ADDR");
    unsetenv("MASTER_PORT");
    unsetenv("TORCHELASTIC_RESTART_COUNT");
    setenv(ENV_SOCKET, path, 1);
    mem_free(path);
}

/* A forked child that cleans up is not the rank: it neither hangs nor speaks for it. */
static void a_forked_child_is_no_rank(void **state)
{
    (void)state;
    begin(0);
    pid_t pid = fork();
    if (pid == 0) {
        int bad = tide_restart(tide) != TIDE_E_STATE;
        tide_finalize(tide);
        _exit(bad);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(step.page->stays == 1 && step.page->over == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_rank_goes_over_and_records_in_the_next_generation, setup, teardown),
        cmocka_unit_test_setup_teardown(it_goes_over_again_and_again, setup, teardown),
        cmocka_unit_test_setup_teardown(who_has_left_has_nothing_of_the_generation_mapped, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_recorded_once_it_is_over, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_of_its_own_is_none_of_the_generation, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_it_belongs_to_none, setup, teardown),
        cmocka_unit_test_setup_teardown(who_has_not_asked_stays_as_he_was, setup, teardown),
        cmocka_unit_test_setup_teardown(outside_a_job_nothing_is_done, setup, teardown),
        cmocka_unit_test_setup_teardown(each_generation_says_what_is_another_in_it, setup, teardown),
        cmocka_unit_test_setup_teardown(outside_a_job_the_environment_says_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_forked_child_is_no_rank, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
