/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/nccl/link.h"
#include "ckpt/cut/comm_id.h"
#include "tests/unit/fake_step.h"
#include <tidemark/tidemark.h>

/* A rank with libtidemark_nccl, which is a fake here: what of it reaches the agent. And what ranks share. */

static struct fake_step step;
static struct tide *tide;
static unsigned char weights[5000];
static struct fake_nccl {
    int attached, comms;
    enum tide_status may;
} fake_nccl;

int tide_nccl_attach(const struct tide_nccl_host *host)
{
    assert_true(host->version == TIDE_NCCL_LINK_VERSION && host->rank == 1 && host->world_size == 2);
    fake_nccl.attached++;
    return 1;
}

void tide_nccl_detach(void)
{
    fake_nccl.attached--;
}

enum tide_status tide_nccl_may_record(char *why, size_t why_size)
{
    snprintf(why, why_size, "NCCL communicator dp has failed");
    return fake_nccl.may;
}

size_t tide_nccl_comms(struct control_comm *to, size_t room)
{
    assert_int_equal(room, CONTROL_COMMS_MAX - 1);
    for (int i = 0; i < fake_nccl.comms; i++)
        to[i] = (struct control_comm){.id = 10 + (uint64_t)i, .collectives = 4, .sent = 3, .size = 2, .name = "dp"};
    return (size_t)fake_nccl.comms;
}

static int setup(void **state)
{
    (void)state;
    fake_start(&step, 3);
    fake_nccl = (struct fake_nccl){.comms = 2};
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
    struct tide_region region = {.name = "weights", .data = weights, .bytes = sizeof weights};
    assert_int_equal(tide_register(tide, &region), TIDE_OK);
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tide_finalize(tide);
    fake_stop(&step);
    return fake_nccl.attached;
}

static void communicators_are_told_with_a_record(void **state)
{
    (void)state;
    assert_int_equal(fake_nccl.attached, 1);
    fake_arm(&step, 7, 2, 0);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    assert_true(step.page->recorded_cut == 7 && step.page->record_result == RECORD_DONE);
    assert_int_equal(step.page->record_comms, 3);
    assert_true(step.page->comms[0].id == CUT_COMM_WORLD && step.page->comms[0].size == 2);
    assert_true(step.page->comms[2].id == 11 && step.page->comms[2].collectives == 4 && step.page->comms[2].sent == 3);
    fake_nccl.comms = 0;
    fake_arm(&step, 8, 3, 1);
    assert_int_equal(tide_step(tide, 3), TIDE_OK);
    assert_int_equal(step.page->record_comms, 1);
}

static void a_failed_communicator_fails_the_record(void **state)
{
    (void)state;
    fake_nccl.may = TIDE_E_STATE;
    fake_arm(&step, 7, 2, 0);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    assert_true(step.page->recorded_cut == 7 && step.page->record_result == RECORD_FAILED);
    assert_string_equal(step.page->record_detail, "NCCL communicator dp has failed");
    assert_int_equal(step.page->record_comms, 0);
}

static void what_one_rank_gives_others_get(void **state)
{
    char data[TIDE_SHARE_BYTES_MAX], other[TIDE_SHARE_BYTES_MAX];
    (void)state;
    memset(data, 7, sizeof data);
    memset(other, 0, sizeof other);
    assert_int_equal(tide_share(tide, "id", 0, other, sizeof other), TIDE_E_TIMEOUT);
    assert_non_null(strstr(tide_error_text(tide), "nobody gave it"));
    assert_int_equal(tide_share(tide, "id", 1, data, sizeof data), TIDE_OK); /* this is rank 1 */
    assert_string_equal(step.shared.text, "id");
    assert_int_equal(tide_share(tide, "id", 0, other, sizeof other), TIDE_OK);
    assert_memory_equal(data, other, sizeof data);
    assert_int_equal(tide_share(tide, "id", 0, other, 5), TIDE_E_MISMATCH);
}

/* It came behind its deadline, and its question was given up. */
static void an_answer_to_another_question_is_passed_over(void **state)
{
    char data[8] = "seventh", other[8] = "";
    (void)state;
    assert_int_equal(tide_share(tide, "id", 1, data, sizeof data), TIDE_OK);
    step.late_share = 1;
    assert_int_equal(tide_share(tide, "id", 0, other, sizeof other), TIDE_OK);
    assert_memory_equal(other, data, sizeof data);
    step.late_share = 2;
    assert_int_equal(tide_share(tide, "id", 0, other, sizeof other), TIDE_OK);
    assert_int_equal(tide_share(tide, "id", 1, data, sizeof data), TIDE_OK);
}

static void what_cannot_be_shared_is_refused(void **state)
{
    char data[TIDE_SHARE_BYTES_MAX + 1] = "";
    (void)state;
    assert_int_equal(tide_share(tide, "", 0, data, 1), TIDE_E_INVALID);
    assert_int_equal(tide_share(tide, "id", 0, data, 0), TIDE_E_INVALID);
    assert_int_equal(tide_share(tide, "id", 0, data, sizeof data), TIDE_E_INVALID);
    assert_int_equal(tide_share(tide, "id", 2, data, 1), TIDE_E_INVALID);
    assert_non_null(strstr(tide_error_text(tide), "there are 2 ranks"));
    assert_int_equal(tide_share(NULL, "id", 0, data, 1), TIDE_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(communicators_are_told_with_a_record, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failed_communicator_fails_the_record, setup, teardown),
        cmocka_unit_test_setup_teardown(what_one_rank_gives_others_get, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_to_another_question_is_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_shared_is_refused, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
