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
    int attached, comms, members;
    enum tide_status may, take;
    uint64_t taken; /* sent, of the channel that was taken */
    uint64_t held_bytes;
    char loaded[100];
    struct control_progress *progress;
} fake_nccl;

int tide_nccl_attach(uint32_t version)
{
    assert_int_equal(version, TIDE_NCCL_LINK_VERSION);
    fake_nccl.attached++;
    return 1;
}

void tide_nccl_detach(void)
{
    assert_null(fake_nccl.progress);
    fake_nccl.attached--;
}

void tide_nccl_tell(struct control_progress *to)
{
    fake_nccl.progress = to;
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

size_t tide_nccl_channels(struct control_channel *to, size_t room)
{
    assert_true(room == CONTROL_CHANNELS_MAX);
    to[0] = (struct control_channel){.comm = 10, .from = 1, .to = 0, .sent = 3};
    return 1;
}

size_t tide_nccl_members(struct control_member *to, size_t room)
{
    assert_true(room == CONTROL_CHANNELS_MAX);
    to[0] = (struct control_member){.comm = 10, .rank = 1};
    return (size_t)fake_nccl.members;
}

enum tide_status tide_nccl_take(const struct control_channel *arriving, size_t count, uint64_t bytes_max,
                                uint64_t deadline_ns, char *why, size_t why_size)
{
    assert_true(count == 1 && bytes_max > 0 && deadline_ns > 0);
    fake_nccl.taken = arriving[0].sent;
    snprintf(why, why_size, "messages do not come");
    return fake_nccl.take;
}

uint64_t tide_nccl_held_bytes(void)
{
    return fake_nccl.held_bytes;
}

enum tide_status tide_nccl_held_write(void *to, uint64_t bytes, uint64_t deadline_ns, char *why, size_t why_size)
{
    (void)why;
    (void)why_size;
    assert_true(bytes == fake_nccl.held_bytes && deadline_ns > 0);
    memset(to, 'm', bytes);
    return TIDE_OK;
}

enum tide_status tide_nccl_load(const void *log, size_t bytes, char *why, size_t why_size)
{
    (void)why;
    (void)why_size;
    assert_true(bytes < sizeof fake_nccl.loaded);
    memcpy(fake_nccl.loaded, log, bytes);
    return TIDE_OK;
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

static struct slot *recorded(uint32_t number)
{
    static struct slot slot;
    char path[256];
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step.dir, 1u, number);
    slot_unmap(&slot);
    assert_int_equal(slot_map(path, 0, &slot, NULL), TIDE_OK);
    return &slot;
}

static void messages_under_way_are_taken_and_saved(void **state)
{
    (void)state;
    step.arriving = (struct control_channel){.comm = 10, .from = 0, .to = 1, .sent = 5};
    fake_arm(&step, 7, 2, 0);
    assert_int_equal(tide_step(tide, 2), TIDE_OK); /* a rank that has never received waits for nobody */
    assert_true(step.page->recorded_cut == 7 && fake_saw(&step, LOCAL_MARKS, 1));
    assert_true(step.marks.slot == 0 && step.marks.cut == 7 && step.marks.attempt == 1 && fake_nccl.taken == 0);
    assert_true(step.page->marks.channel_count == 1 && step.page->marks.channels[0].sent == 3);
    fake_nccl.members = 1;
    fake_nccl.held_bytes = 24;
    fake_arm(&step, 8, 3, 1);
    assert_int_equal(tide_step(tide, 3), TIDE_OK);
    assert_true(step.page->record_result == RECORD_DONE && fake_nccl.taken == 5 && step.marks.slot == 1);
    assert_true(step.page->marks.members[0].comm == 10 && step.page->marks.members[0].rank == 1);
    const struct slot *slot = recorded(1);
    assert_int_equal(slot->header->region_count, 2);
    assert_string_equal(slot->regions[1].name, SLOT_HELD_REGION);
    assert_true(slot->regions[1].bytes == 24 && slot->regions[1].offset >= sizeof weights);
    const char *held = (const char *)slot->header + slot->header->data_offset + slot->regions[1].offset;
    assert_true(held[0] == 'm' && held[23] == 'm' && held[24] == 0);
}

/* Whether something is under way the leader finds; that it was not looked for is no reason to make no checkpoint. */
static void who_does_not_come_fails_no_record(void **state)
{
    (void)state;
    fake_nccl.members = 1;
    fake_arm(&step, 7, 2, 0);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    assert_true(step.page->record_result == RECORD_DONE && step.marks.slot == 1 && fake_nccl.taken == 0);
}

static void what_cannot_be_taken_fails_the_record(void **state)
{
    (void)state;
    step.arriving = (struct control_channel){.comm = 10, .from = 0, .to = 1, .sent = 5};
    fake_nccl.members = 1;
    fake_nccl.take = TIDE_E_TIMEOUT;
    fake_arm(&step, 7, 2, 0);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    assert_true(step.page->record_result == RECORD_FAILED && step.page->record_status == TIDE_E_TIMEOUT);
    assert_string_equal(step.page->record_detail, "messages do not come");
}

static void saved_messages_are_loaded(void **state)
{
    static const struct test_region regions[] = {{"weights", sizeof weights}, {SLOT_HELD_REGION, 40}};
    char root[DIGEST_HEX_CHARS + 1];
    struct err err = {0};
    uint64_t at = 0;
    (void)state;
    tide_finalize(tide);
    fake_next_generation(&step, 4);
    step.answer_count = 1;
    step.answers[0] = (struct local_message){.type = LOCAL_RESTORE_FROM, .cut = 7, .step = 40};
    test_record(step.dir, 1, 0, 7, regions, 2, 2);
    assert_int_equal(stage_sum(step.dir, 1, 0, TEST_UID, 7, root, &err), TIDE_OK);
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
    struct tide_region region = {.name = "weights", .data = weights, .bytes = sizeof weights};
    assert_int_equal(tide_register(tide, &region), TIDE_OK);
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
    char wanted[40];
    const struct slot *slot = recorded(0);
    memcpy(wanted, (const char *)slot->header + slot->header->data_offset + slot->regions[1].offset, sizeof wanted);
    assert_memory_equal(fake_nccl.loaded, wanted, sizeof wanted);
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
        cmocka_unit_test_setup_teardown(messages_under_way_are_taken_and_saved, setup, teardown),
        cmocka_unit_test_setup_teardown(who_does_not_come_fails_no_record, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_taken_fails_the_record, setup, teardown),
        cmocka_unit_test_setup_teardown(saved_messages_are_loaded, setup, teardown),
        cmocka_unit_test_setup_teardown(what_one_rank_gives_others_get, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_to_another_question_is_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_shared_is_refused, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
