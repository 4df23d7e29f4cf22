/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/fake_mpi.h"

/* A rank whose messages are coloured, and one that counts steps of its own. */

static struct fake_step step;
static struct tide *tide;
static unsigned char weights[300001];

static int setup(void **state)
{
    (void)state;
    fake_start(&step, 3);
    fake_mpi = (struct fake_mpi){.comms = 2};
    tide = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tide_finalize(tide);
    tide = NULL;
    mem_free(fake_mpi.loaded);
    fake_stop(&step);
    return 0;
}

static void begin_with(const struct tide_options *options)
{
    assert_int_equal(tide_init(&tide, options), TIDE_OK);
    struct tide_region region = {.name = "weights", .data = weights, .bytes = sizeof weights};
    assert_int_equal(tide_register(tide, &region), TIDE_OK);
}

static void begin(void)
{
    begin_with(NULL);
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
}

static void record_at(uint64_t cut, uint64_t epoch, uint64_t at, uint32_t slot)
{
    test_fill(weights, sizeof weights, "noise", at);
    fake_arm_epoch(&step, cut, 1, epoch, at, slot);
    atomic_store(&step.page->go_epoch, epoch);
    assert_int_equal(tide_step(tide, at), TIDE_OK);
    assert_int_equal(step.page->recorded_cut, cut);
}

static enum tide_status sum(uint64_t cut, uint32_t slot)
{
    char root[DIGEST_HEX_CHARS + 1];
    struct err err = {0};
    return stage_sum(step.dir, 1, slot, TEST_UID, cut, root, &err);
}

static enum tide_status settle(uint64_t cut, uint32_t slot)
{
    struct err err = {0};
    return stage_settle(step.dir, 1, slot, TEST_UID, cut, &err);
}

/* ---- before a record ---- */

static void what_the_program_declares_reaches_the_agent(void **state)
{
    (void)state;
    struct tide_options options = {.size = sizeof options, .cut = TIDE_CUT_FREE + 1};
    assert_int_equal(tide_init(&tide, &options), TIDE_E_INVALID);
    assert_non_null(strstr(tide_error_text(NULL), "tide_options.cut is 3"));
    options.cut = TIDE_CUT_FREE;
    options.requests_reposted = 1;
    assert_int_equal(tide_init(&tide, &options), TIDE_OK);
    assert_int_equal(step.page->cut_declared, TIDE_CUT_FREE);
    assert_int_equal(fake_mpi.host->flags, TIDE_MPI_REQUESTS_REPOSTED);
}

static void mpi_is_met_when_it_is_there(void **state)
{
    (void)state;
    fake_mpi.absent = 1;
    begin();
    assert_int_equal(step.page->coloured, 0);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    fake_mpi.absent = 0;
    assert_int_equal(tide_step(tide, 3), TIDE_OK);
    assert_int_equal(step.page->coloured, 1);
    assert_int_equal(fake_mpi.host->rank, 1);
    assert_int_equal(fake_mpi.host->world_size, 2);
    assert_int_equal(tide_step(tide, 3), TIDE_E_INVALID);
    tide_finalize(tide);
    tide = NULL;
    assert_int_equal(fake_mpi.detached, 1);
}

static void names_of_our_own_are_refused(void **state)
{
    (void)state;
    begin();
    struct tide_region region = {.name = "tidemark.channel", .data = weights, .bytes = 4};
    assert_int_equal(tide_register(tide, &region), TIDE_E_INVALID);
    region.name = "tidemark.";
    assert_int_equal(tide_register(tide, &region), TIDE_E_INVALID);
    region.name = "tidemark";
    assert_int_equal(tide_register(tide, &region), TIDE_OK);
}

/* ---- step mode ---- */

static void a_record_flips_and_drains(void **state)
{
    (void)state;
    struct err err = {0};
    begin();
    unsigned before = fake_mpi.polls;
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    assert_int_equal(fake_mpi.polls, before); /* nothing is under way */
    fake_arm_epoch(&step, 7, 1, 1, 5, 1);
    assert_int_equal(tide_step(tide, 3), TIDE_OK);
    assert_int_equal(step.page->polling_epoch, 1);
    assert_int_equal(fake_mpi.flips, 0);
    atomic_store(&step.page->go_epoch, 1);
    assert_int_equal(tide_step(tide, 4), TIDE_OK);
    assert_int_equal(fake_mpi.flips, 0);
    assert_int_equal(tide_step(tide, 5), TIDE_OK);
    assert_int_equal(fake_mpi.recorded, 1);
    assert_int_equal(step.page->epoch, 1);
    assert_int_equal(step.page->record_result, RECORD_DONE);
    assert_int_equal(step.page->record_step, 5);
    assert_int_equal(step.page->armed_step, STEP_NONE);
    assert_int_equal(step.page->record_comms, 2);
    assert_string_equal(step.page->comms[1].name, "comm 1");
    assert_int_equal(step.page->comms[1].collectives, 7);
    /* Nobody takes it for whole before it is settled. */
    assert_int_equal(sum(7, 1), TIDE_E_NOT_FOUND);
    before = fake_mpi.polls;
    assert_int_equal(tide_step(tide, 6), TIDE_OK);
    assert_int_equal(fake_mpi.polls, before + 1);
    assert_int_equal(settle(7, 1), TIDE_OK);
    assert_int_equal(settle(7, 1), TIDE_OK);
    assert_int_equal(settle(8, 1), TIDE_E_NOT_FOUND);
    assert_int_equal(sum(7, 1), TIDE_OK);
    fake_close(&step, 1);
    assert_int_equal(tide_step(tide, 7), TIDE_OK);
    before = fake_mpi.polls;
    assert_int_equal(tide_step(tide, 8), TIDE_OK);
    assert_int_equal(fake_mpi.polls, before);
    assert_int_equal(err.status, TIDE_OK);
}

static void without_go_the_step_passes(void **state)
{
    (void)state;
    begin();
    fake_arm_epoch(&step, 7, 1, 1, 2, 0);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    assert_int_equal(step.page->record_result, RECORD_PASSED);
    assert_int_equal(step.page->recorded_cut, 7);
    assert_int_equal(step.page->armed_step, STEP_NONE);
    assert_int_equal(fake_mpi.flips, 0);
    /* Go was given at the same moment: the others have flipped, so this one is told to. */
    atomic_store(&step.page->go_epoch, 1);
    atomic_store(&step.page->flip_epoch, 1);
    assert_int_equal(tide_step(tide, 3), TIDE_OK);
    assert_int_equal(fake_mpi.flips, 1);
    assert_int_equal(fake_mpi.recorded, 0);
    fake_close(&step, 1);
    assert_int_equal(tide_step(tide, 4), TIDE_OK);
    record_at(8, 2, 9, 0);
    assert_int_equal(step.page->record_result, RECORD_DONE);
}

static void an_attempt_given_up_before_go_leaves_nothing(void **state)
{
    (void)state;
    begin();
    fake_arm_epoch(&step, 7, 1, 1, 9, 0);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    atomic_store(&step.page->armed_step, STEP_NONE);
    atomic_store(&step.page->closed_epoch, 1);
    assert_int_equal(tide_step(tide, 3), TIDE_OK);
    unsigned before = fake_mpi.polls;
    assert_int_equal(tide_step(tide, 9), TIDE_OK);
    assert_int_equal(fake_mpi.polls, before);
    assert_int_equal(step.page->recorded_cut, 0);
    assert_int_equal(fake_mpi.flips, 0);
}

/* What is armed was begun, and flipped for, without a record: the order is taken away, whatever its step. */
static void an_order_that_is_over_is_taken_away(void **state)
{
    (void)state;
    begin();
    fake_arm_epoch(&step, 7, 1, 1, 9, 0);
    atomic_store(&step.page->flip_epoch, 1);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    assert_int_equal(fake_mpi.flips, 1);
    assert_int_equal(step.page->armed_step, STEP_NONE);
    assert_int_equal(step.page->recorded_cut, 0);
    /* The same words wake a rank that makes no call of MPI's. */
    fake_close(&step, 1);
    assert_int_equal(tide_step(tide, 3), TIDE_OK);
    unsigned before = fake_mpi.polls;
    atomic_store(&step.page->armed_step, STEP_NEXT);
    assert_int_equal(tide_step(tide, 4), TIDE_OK);
    assert_int_equal(fake_mpi.polls, before + 1);
    assert_int_equal(step.page->armed_step, STEP_NONE);
    assert_int_equal(step.page->recorded_cut, 0);
}

/* ---- free mode ---- */

static void free_ranks_record_wherever_they_are(void **state)
{
    (void)state;
    begin();
    fake_arm_epoch(&step, 7, 1, 1, STEP_NEXT, 0);
    assert_int_equal(tide_step(tide, 40), TIDE_OK);
    assert_int_equal(step.page->recorded_cut, 0);
    assert_int_equal(step.page->armed_step, STEP_NEXT);
    atomic_store(&step.page->go_epoch, 1);
    assert_int_equal(tide_step(tide, 77), TIDE_OK);
    assert_int_equal(step.page->record_result, RECORD_DONE);
    assert_int_equal(step.page->record_step, 77);
    assert_int_equal(fake_mpi.flipped, 1);
}

static void free_ranks_need_no_colour(void **state)
{
    (void)state;
    fake_mpi.absent = 1;
    begin();
    fake_arm(&step, 7, STEP_NEXT, 0);
    assert_int_equal(tide_step(tide, 77), TIDE_OK);
    assert_int_equal(step.page->record_result, RECORD_DONE);
    assert_int_equal(step.page->record_step, 77);
    assert_int_equal(sum(7, 0), TIDE_OK);
}

/* ---- records that fail ---- */

static void a_rank_that_may_not_record_still_flips(void **state)
{
    (void)state;
    begin();
    fake_mpi.may = TIDE_E_STATE;
    fake_mpi.may_why = "2 requests are outstanding";
    record_at(7, 1, 2, 0);
    assert_int_equal(step.page->record_result, RECORD_FAILED);
    assert_int_equal(step.page->record_status, TIDE_E_STATE);
    assert_string_equal(step.page->record_detail, "2 requests are outstanding");
    assert_int_equal(fake_mpi.flipped, 1);
    assert_int_equal(fake_mpi.recorded, 0);
    fake_mpi.may = TIDE_OK;
    fake_close(&step, 1);
    step.mood = FAKE_REFUSES_ROOM;
    record_at(8, 2, 3, 0);
    assert_int_equal(step.page->record_result, RECORD_FAILED);
    assert_int_equal(fake_mpi.flipped, 2);
    assert_int_equal(fake_mpi.recorded, 0);
    step.mood = FAKE_KIND;
    fake_close(&step, 2);
    record_at(9, 3, 4, 0);
    assert_int_equal(step.page->record_result, RECORD_DONE);
}

/* Whoever armed it did not know of its messages: they would be lost. */
static void a_coloured_rank_needs_an_epoch(void **state)
{
    (void)state;
    begin();
    fake_arm(&step, 7, 2, 0);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    assert_int_equal(step.page->record_result, RECORD_FAILED);
    assert_int_equal(step.page->record_status, TIDE_E_STATE);
    assert_non_null(strstr(step.page->record_detail, "rank 1"));
    assert_int_equal(fake_mpi.flips, 0);
}

static void an_early_rank_answers_what_is_armed(void **state)
{
    (void)state;
    begin();
    fake_arm_epoch(&step, 7, 3, 1, 9, 0);
    atomic_store(&step.page->go_epoch, 1);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    fake_mpi.host->give_up(fake_mpi.host->context, RECORD_EARLY, "rank 1 waits for rank 0, in MPI_Recv");
    assert_int_equal(step.page->record_result, RECORD_EARLY);
    assert_int_equal(step.page->recorded_cut, 7);
    assert_int_equal(step.page->recorded_attempt, 3);
    assert_int_equal(step.page->record_step, 2);
    assert_string_equal(step.page->record_detail, "rank 1 waits for rank 0, in MPI_Recv");
    assert_int_equal(step.page->armed_step, STEP_NONE);
    tide_mpi_flip(1, 0);
    assert_int_equal(tide_step(tide, 9), TIDE_OK);
    assert_int_equal(step.page->record_result, RECORD_EARLY);
    assert_int_equal(fake_mpi.flips, 1);
}

static void a_record_may_be_given_up_while_it_drains(void **state)
{
    (void)state;
    begin();
    record_at(7, 1, 2, 0);
    assert_int_equal(step.page->record_result, RECORD_DONE);
    fake_mpi.host->give_up(fake_mpi.host->context, RECORD_FAILED, "a message could not be taken");
    assert_int_equal(step.page->record_result, RECORD_FAILED);
    assert_string_equal(step.page->record_detail, "a message could not be taken");
    assert_int_equal(settle(7, 0), TIDE_E_NOT_FOUND);
    assert_int_equal(fake_append(1, 10), TIDE_E_UNAVAILABLE);
    assert_true(fake_saw(&step, LOCAL_RECORDED, 2));
}

static void who_leaves_records_no_more(void **state)
{
    (void)state;
    begin();
    fake_arm_epoch(&step, 7, 1, 1, 9, 0);
    tide_finalize(tide);
    tide = NULL;
    assert_int_equal(step.page->record_result, RECORD_PASSED);
    assert_int_equal(step.page->recorded_cut, 7);
    assert_int_equal(step.page->armed_step, STEP_NONE);
}

/* ---- the channel log ---- */

static void messages_go_behind_the_regions(void **state)
{
    (void)state;
    struct slot slot;
    struct err err = {0};
    char path[256];
    fake_mpi.at_flip = 3;
    begin();
    record_at(7, 1, 2, 1);
    assert_int_equal(step.page->record_result, RECORD_DONE);
    assert_int_equal(step.page->record_logged, 3);
    for (uint64_t i = 4; i <= 50; i++)
        assert_int_equal(fake_append(i, 1000), TIDE_OK);
    assert_int_equal(step.page->record_logged, 50);
    assert_int_equal(step.page->record_logged_bytes, 50 * cut_channel_entry_bytes(1000));
    assert_int_equal(settle(7, 1), TIDE_OK);
    assert_int_equal(sum(7, 1), TIDE_OK);
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step.dir, 1u, 1u);
    assert_int_equal(slot_map(path, 0, &slot, &err), TIDE_OK);
    assert_int_equal(slot.header->region_count, 2);
    assert_string_equal(slot.regions[1].name, SLOT_CHANNEL_REGION);
    assert_memory_equal(slot.data, weights, sizeof weights);
    fake_check_log(slot.data + slot.regions[1].offset, slot.regions[1].bytes, 50, 1000);
    slot_unmap(&slot);
}

static void an_empty_log_has_no_bytes(void **state)
{
    (void)state;
    struct slot slot;
    struct err err = {0};
    char path[256];
    begin();
    record_at(7, 1, 2, 1);
    assert_int_equal(settle(7, 1), TIDE_OK);
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step.dir, 1u, 1u);
    assert_int_equal(slot_map(path, 0, &slot, &err), TIDE_OK);
    assert_int_equal(slot.header->data_bytes, region_end_aligned(0, sizeof weights));
    assert_int_equal(slot.regions[1].bytes, 0);
    slot_unmap(&slot);
}

static void a_long_log_asks_for_room(void **state)
{
    (void)state;
    struct slot slot;
    struct err err = {0};
    char path[256];
    begin();
    record_at(7, 1, 2, 1);
    unsigned asked = step.seen[LOCAL_RESERVE];
    for (uint64_t i = 1; i <= 20; i++)
        assert_int_equal(fake_append(i, 300000), TIDE_OK);
    assert_true(step.seen[LOCAL_RESERVE] > asked && step.seen[LOCAL_RESERVE] < asked + 6);
    assert_int_equal(settle(7, 1), TIDE_OK);
    assert_int_equal(sum(7, 1), TIDE_OK);
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step.dir, 1u, 1u);
    assert_int_equal(slot_map(path, 0, &slot, &err), TIDE_OK);
    fake_check_log(slot.data + slot.regions[1].offset, slot.regions[1].bytes, 20, 300000);
    slot_unmap(&slot);
    /* The next record finds the longer file. */
    fake_close(&step, 1);
    for (uint64_t cut = 8; cut < 12; cut++) {
        record_at(cut, cut - 6, cut, (uint32_t)(cut % 2));
        assert_int_equal(fake_append(1, 2000000), TIDE_OK);
        assert_int_equal(settle(cut, (uint32_t)(cut % 2)), TIDE_OK);
        assert_int_equal(sum(cut, (uint32_t)(cut % 2)), TIDE_OK);
        fake_close(&step, cut - 6);
    }
}

static void a_log_beyond_its_limit_fails_the_record(void **state)
{
    (void)state;
    struct tide_options options = {.size = sizeof options, .channel_bytes_max = 100000};
    begin_with(&options);
    record_at(7, 1, 2, 1);
    assert_int_equal(fake_append(1, 60000), TIDE_OK);
    assert_int_equal(fake_append(2, 60000), TIDE_E_LIMIT);
    assert_int_equal(step.page->record_result, RECORD_FAILED);
    assert_int_equal(step.page->record_status, TIDE_E_LIMIT);
    assert_non_null(strstr(step.page->record_detail, "100000"));
    assert_non_null(strstr(step.page->record_detail, "rank 1"));
    assert_int_equal(fake_append(3, 1), TIDE_E_UNAVAILABLE);
    assert_int_equal(settle(7, 1), TIDE_E_NOT_FOUND);
}

static void no_room_for_a_message_fails_the_record(void **state)
{
    (void)state;
    fake_mpi.at_flip = 1;
    begin();
    record_at(7, 1, 2, 1);
    step.mood = FAKE_REFUSES_ROOM;
    assert_int_equal(fake_append(2, 5000000), TIDE_E_NOSPACE);
    assert_int_equal(step.page->record_result, RECORD_FAILED);
    assert_non_null(strstr(step.page->record_detail, "the arena of node n1 is full"));
}

/* Messages are taken by whichever thread receives them, while the program goes on in another. */
static void *append_many(void *context)
{
    for (uint64_t i = 1; i <= 400; i++)
        if (fake_append(i, 10000) != TIDE_OK)
            return context;
    return NULL;
}

static void messages_come_from_other_threads(void **state)
{
    (void)state;
    pthread_t thread;
    void *failed = NULL;
    struct slot slot;
    struct err err = {0};
    char path[256];
    begin();
    record_at(7, 1, 2, 0);
    assert_int_equal(pthread_create(&thread, NULL, append_many, &step), 0);
    for (uint64_t at = 3; at < 2000; at++)
        assert_int_equal(tide_step(tide, at), TIDE_OK);
    pthread_join(thread, &failed);
    assert_null(failed);
    assert_int_equal(settle(7, 0), TIDE_OK);
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step.dir, 1u, 0u);
    assert_int_equal(slot_map(path, 0, &slot, &err), TIDE_OK);
    fake_check_log(slot.data + slot.regions[1].offset, slot.regions[1].bytes, 400, 10000);
    slot_unmap(&slot);
}

/* ---- after a restart ---- */

static void restart_from(uint64_t cut, uint32_t slot)
{
    tide_finalize(tide);
    tide = NULL;
    memset(weights, 0xee, sizeof weights);
    fake_next_generation(&step, 4);
    step.answers[0] = (struct local_message){.type = LOCAL_RESTORE_FROM, .cut = cut, .slot = slot};
    step.answer_count = 1;
}

static void logged_messages_are_handed_over(void **state)
{
    (void)state;
    uint64_t at = 0;
    static unsigned char expected[sizeof weights];
    begin();
    record_at(7, 1, 22, 1);
    memcpy(expected, weights, sizeof weights);
    for (uint64_t i = 1; i <= 5; i++)
        assert_int_equal(fake_append(i, 70000), TIDE_OK);
    assert_int_equal(settle(7, 1), TIDE_OK);
    assert_int_equal(sum(7, 1), TIDE_OK);
    restart_from(7, 1);
    begin_with(NULL);
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
    assert_int_equal(at, 22);
    assert_memory_equal(weights, expected, sizeof weights);
    fake_check_log(fake_mpi.loaded, fake_mpi.loaded_bytes, 5, 70000);
}

static void who_cannot_deliver_them_is_told(void **state)
{
    (void)state;
    uint64_t at = 0;
    begin();
    record_at(7, 1, 2, 1);
    assert_int_equal(fake_append(1, 100), TIDE_OK);
    assert_int_equal(settle(7, 1), TIDE_OK);
    assert_int_equal(sum(7, 1), TIDE_OK);
    restart_from(7, 1);
    fake_mpi.absent = 1;
    begin_with(NULL);
    assert_int_equal(tide_restore(tide, &at), TIDE_E_STATE);
    assert_non_null(strstr(tide_error_text(tide), "call MPI_Init"));
    fake_mpi.absent = 0;
    fake_mpi.load_status = TIDE_E_MISMATCH;
    fake_mpi.load_why = "communicator \"halo\" is not there";
    assert_int_equal(tide_restore(tide, &at), TIDE_E_MISMATCH);
    assert_non_null(strstr(tide_error_text(tide), "communicator \"halo\" is not there"));
    assert_non_null(strstr(tide_error_text(tide), "rank 1"));
    assert_int_equal(at, 0);
    mem_free(fake_mpi.loaded);
    fake_mpi.loaded = NULL;
}

static void an_empty_log_needs_nobody(void **state)
{
    (void)state;
    uint64_t at = 0;
    begin();
    record_at(7, 1, 2, 1);
    assert_int_equal(settle(7, 1), TIDE_OK);
    assert_int_equal(sum(7, 1), TIDE_OK);
    restart_from(7, 1);
    fake_mpi.absent = 1;
    begin_with(NULL);
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
    assert_int_equal(at, 2);
    assert_null(fake_mpi.loaded);
}

#define IN_A_JOB(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_JOB(what_the_program_declares_reaches_the_agent),
        IN_A_JOB(mpi_is_met_when_it_is_there),
        IN_A_JOB(names_of_our_own_are_refused),
        IN_A_JOB(a_record_flips_and_drains),
        IN_A_JOB(without_go_the_step_passes),
        IN_A_JOB(an_attempt_given_up_before_go_leaves_nothing),
        IN_A_JOB(an_order_that_is_over_is_taken_away),
        IN_A_JOB(free_ranks_record_wherever_they_are),
        IN_A_JOB(free_ranks_need_no_colour),
        IN_A_JOB(a_rank_that_may_not_record_still_flips),
        IN_A_JOB(a_coloured_rank_needs_an_epoch),
        IN_A_JOB(an_early_rank_answers_what_is_armed),
        IN_A_JOB(a_record_may_be_given_up_while_it_drains),
        IN_A_JOB(who_leaves_records_no_more),
        IN_A_JOB(messages_go_behind_the_regions),
        IN_A_JOB(an_empty_log_has_no_bytes),
        IN_A_JOB(a_long_log_asks_for_room),
        IN_A_JOB(a_log_beyond_its_limit_fails_the_record),
        IN_A_JOB(no_room_for_a_message_fails_the_record),
        IN_A_JOB(messages_come_from_other_threads),
        IN_A_JOB(logged_messages_are_handed_over),
        IN_A_JOB(who_cannot_deliver_them_is_told),
        IN_A_JOB(an_empty_log_needs_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
