/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/cut/mode.h"
#include "tests/unit/agent_story.h"

/* Stories of cuts through messages in flight: armed tentatively, told to go, settled, hashed, closed; and given up. */

static void cut_is(struct story *s, unsigned phase, uint32_t attempt, uint64_t epoch, unsigned mode)
{
    s->order.cut.cut = 1;
    s->order.cut.attempt = attempt;
    s->order.cut.step = 20;
    s->order.cut.epoch = epoch;
    s->order.cut.mode = mode;
    s->order.cut.generation = 1;
    s->order.cut.phase = phase;
    ordered(s);
}

static struct agent_page painted(uint64_t step, uint64_t epoch)
{
    struct agent_page page = page_at(step);
    page.coloured = true;
    page.declared = CUT_MODE_STEP;
    page.epoch = epoch;
    return page;
}

static struct agent_page recorded(uint32_t attempt, unsigned result, uint64_t logged)
{
    struct agent_page page = painted(20, 1);
    page.recorded_cut = 1;
    page.recorded_attempt = attempt;
    page.record_result = result;
    page.record_step = 20;
    page.record_bytes = 4096;
    page.record_logged = logged;
    page.record_logged_bytes = logged * 10;
    page.record_comms = 2;
    page.record_status = result == RECORD_FAILED ? TIDE_E_LIMIT : TIDE_OK;
    text_copy(page.record_detail, sizeof page.record_detail, result == RECORD_DONE ? "" : "why");
    return page;
}

static const struct cut_report *report_of(struct story *s, uint32_t rank)
{
    const struct gen_report *report = says(s);
    for (size_t i = 0; i < report->cuts.count; i++)
        if (report->cuts.items[i].rank == rank)
            return &report->cuts.items[i];
    return NULL;
}

/* Both ranks are armed for epoch 1 and poll. */
static void arms(struct story *s, unsigned mode)
{
    story_runs(s, 10);
    struct agent_page page = painted(10, 0);
    page_is(s, 1, 0, &page);
    page_is(s, 1, 1, &page);
    s->comms[0] = (struct control_comm){.id = 1, .collectives = 7, .size = 2, .name = "MPI_COMM_WORLD"};
    s->comms[1] = (struct control_comm){.id = 2, .collectives = 3, .size = 1};
    cut_is(s, CUT_PHASE_ARM, 1, 1, mode);
    assert_int_equal(did_times(s, ACT_ARM), 2);
    assert_int_equal(did(s, ACT_ARM)->epoch, 1);
    assert_true(did(s, ACT_ARM)->step == (mode == CUT_MODE_FREE ? STEP_NEXT : 20));
    assert_int_equal(agent_look_ms(s->core), AGENT_EPOCH_POLL_MS);
    for (uint32_t rank = 0; rank < 2; rank++) {
        armed(s, rank, 1, 1, ARM_ARMED, 0);
        page.polling = 1;
        page_is(s, 1, rank, &page);
        assert_non_null(did(s, ACT_HEARTBEAT));
        assert_int_equal(says(s)->ranks.items[rank].polling, 1);
    }
    assert_int_equal(report_of(s, 0)->progress, CUT_ARMED);
}

static void goes(struct story *s)
{
    s->order.epochs.go = 1;
    cut_is(s, CUT_PHASE_RECORD, 1, 1, s->order.cut.mode);
    assert_int_equal(did_times(s, ACT_EPOCHS), 2);
    assert_int_equal(did(s, ACT_EPOCHS)->epochs.go, 1);
    assert_int_equal(did(s, ACT_EPOCHS)->epochs.flip, 0);
}

static void a_cut_goes_through_all_its_stages(void **state)
{
    (void)state;
    struct story s;
    arms(&s, CUT_MODE_STEP);
    goes(&s);
    struct agent_page page = recorded(1, RECORD_DONE, 1);
    page.sent = 30, page.arrived = 28;
    page_is(&s, 1, 0, &page);
    /* Recorded, and not hashed while messages are added. */
    assert_null(did(&s, ACT_SUM));
    assert_int_equal(report_of(&s, 0)->progress, CUT_COPIED);
    assert_int_equal(says(&s)->ranks.items[0].sent, 30);
    assert_int_equal(says(&s)->comms.count, 0); /* rank 1's are missing */
    page_is(&s, 1, 1, &page);
    page.record_logged = 3, page.arrived = 30;
    page_is(&s, 1, 0, &page);
    page_is(&s, 1, 1, &page);
    assert_null(did(&s, ACT_SUM));
    assert_int_equal(report_of(&s, 0)->logged, 3);
    const struct gen_report *said = says(&s);
    assert_int_equal(said->comms.count, 1);
    assert_string_equal(said->comms.items[0].id, "0000000000000001");
    assert_string_equal(said->comms.items[0].name, "MPI_COMM_WORLD");
    assert_int_equal(said->comms.items[0].collectives, 7);
    assert_int_equal(said->comms.items[0].ranks, 2);
    s.order.epochs.settled = 1;
    cut_is(&s, CUT_PHASE_SUM, 1, 1, CUT_MODE_STEP);
    assert_int_equal(did(&s, ACT_EPOCHS)->epochs.settled, 1);
    assert_null(did(&s, ACT_SUM)); /* the rank's last word is looked for first */
    page_is(&s, 1, 0, &page);
    assert_int_equal(did(&s, ACT_SUM)->epoch, 1);
    assert_int_equal(did(&s, ACT_SUM)->rank, 0);
    worked(&s, EV_SUMMED, 0, 0, 1, TIDE_OK);
    assert_int_equal(report_of(&s, 0)->progress, CUT_RECORDED);
    page.ended = 1;
    page_is(&s, 1, 0, &page);
    assert_int_equal(says(&s)->ranks.items[0].ended, 1);
    s.order.epochs.closed = 1;
    s.order.cut.phase = CUT_PHASE_NONE;
    ordered(&s);
    assert_int_equal(did(&s, ACT_EPOCHS)->epochs.closed, 1);
    story_end(&s);
}

/* Only growing words are written, each once; an agent that knows nothing writes them all again. */
static void words_are_written_where_the_page_has_less(void **state)
{
    (void)state;
    struct story s;
    arms(&s, CUT_MODE_FREE);
    goes(&s);
    passes_ms(&s, 100);
    assert_null(did(&s, ACT_EPOCHS));
    struct agent_page page = painted(12, 0);
    page_is(&s, 1, 1, &page); /* it was never written there: the host was slow, or this is another agent */
    assert_int_equal(did_times(&s, ACT_EPOCHS), 1);
    assert_int_equal(did(&s, ACT_EPOCHS)->rank, 1);
    page.epochs.go = 1;
    page_is(&s, 1, 1, &page);
    assert_null(did(&s, ACT_EPOCHS));
    page.coloured = false;
    page.epochs.go = 0;
    page_is(&s, 1, 1, &page); /* nobody there to read them */
    assert_null(did(&s, ACT_EPOCHS));
    story_end(&s);
}

static void what_ends_an_attempt_is_said_in_its_words(void **state)
{
    (void)state;
    struct story s;
    arms(&s, CUT_MODE_STEP);
    goes(&s);
    struct agent_page page = recorded(1, RECORD_EARLY, 0);
    page_is(&s, 1, 0, &page);
    assert_int_equal(report_of(&s, 0)->progress, CUT_EARLY);
    assert_string_equal(report_of(&s, 0)->detail, "why");
    page = recorded(1, RECORD_PASSED, 0);
    page_is(&s, 1, 1, &page);
    assert_int_equal(report_of(&s, 1)->progress, CUT_PASSED);
    /* Void: everybody flips, nobody is disarmed, and what was said stands until the next attempt. */
    s.order.epochs.flip = 1;
    s.order.cut.phase = CUT_PHASE_NONE;
    ordered(&s);
    assert_int_equal(did(&s, ACT_EPOCHS)->epochs.flip, 1);
    assert_null(did(&s, ACT_DISARM));
    assert_int_equal(report_of(&s, 0)->progress, CUT_EARLY);
    s.order.epochs.settled = s.order.epochs.closed = 1;
    cut_is(&s, CUT_PHASE_ARM, 2, 2, CUT_MODE_FREE);
    assert_int_equal(did_times(&s, ACT_ARM), 2);
    assert_int_equal(did(&s, ACT_ARM)->epoch, 2);
    assert_null(report_of(&s, 0));
    story_end(&s);
}

static void a_record_that_turns_bad_is_not_hashed(void **state)
{
    (void)state;
    struct story s;
    arms(&s, CUT_MODE_STEP);
    goes(&s);
    struct agent_page page = recorded(1, RECORD_DONE, 1);
    page_is(&s, 1, 0, &page);
    assert_int_equal(report_of(&s, 0)->progress, CUT_COPIED);
    s.order.epochs.settled = 1;
    cut_is(&s, CUT_PHASE_SUM, 1, 1, CUT_MODE_STEP);
    page = recorded(1, RECORD_FAILED, 1);
    page_is(&s, 1, 0, &page);
    assert_null(did(&s, ACT_SUM));
    assert_int_equal(report_of(&s, 0)->progress, CUT_FAILED);
    assert_string_equal(report_of(&s, 0)->detail, "limit: why");
    story_end(&s);
}

static void given_up_before_it_went_ranks_are_disarmed(void **state)
{
    (void)state;
    struct story s;
    arms(&s, CUT_MODE_STEP);
    s.order.epochs.settled = s.order.epochs.closed = 1;
    s.order.cut.phase = CUT_PHASE_NONE;
    ordered(&s);
    assert_int_equal(did_times(&s, ACT_DISARM), 2);
    assert_int_equal(did(&s, ACT_EPOCHS)->epochs.closed, 1);
    assert_int_equal(did(&s, ACT_EPOCHS)->epochs.flip, 0);
    story_end(&s);
}

/* What an agent finds that was started again while ranks record: it neither arms afresh nor forgets. */
static void a_new_agent_goes_on_from_the_pages(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    s.comms[0] = (struct control_comm){.id = 1, .collectives = 7, .size = 2};
    struct agent_page page = painted(12, 0);
    page.armed_step = 20, page.armed_cut = 1, page.armed_attempt = 1, page.armed_epoch = 1;
    page_is(&s, 1, 0, &page);
    page = painted(12, 0);
    page_is(&s, 1, 1, &page);
    s.order.epochs.go = 1;
    cut_is(&s, CUT_PHASE_RECORD, 1, 1, CUT_MODE_STEP);
    assert_null(did(&s, ACT_ARM));
    assert_int_equal(report_of(&s, 0)->progress, CUT_ARMED);
    assert_int_equal(report_of(&s, 1)->progress, CUT_MISSED); /* nobody waits for it any more */
    page = recorded(1, RECORD_DONE, 2);
    page_is(&s, 1, 0, &page);
    assert_int_equal(report_of(&s, 0)->progress, CUT_COPIED);
    story_end(&s);
}

static void a_rank_that_is_quiet_for_good_is_said_so(void **state)
{
    (void)state;
    struct story s;
    arms(&s, CUT_MODE_STEP);
    struct agent_page page = painted(12, 0);
    page.phase = CONTROL_FINALIZED;
    page.ended = CUT_ENDED_FOR_GOOD;
    page_is(&s, 1, 0, &page);
    const struct rank_report *report = &says(&s)->ranks.items[0];
    assert_true(report->left && report->quiet);
    assert_int_equal(report->ended, 0);
    assert_int_equal(report->cut_mode, CUT_MODE_STEP);
    story_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_goes_through_all_its_stages),
        cmocka_unit_test(words_are_written_where_the_page_has_less),
        cmocka_unit_test(what_ends_an_attempt_is_said_in_its_words),
        cmocka_unit_test(a_record_that_turns_bad_is_not_hashed),
        cmocka_unit_test(given_up_before_it_went_ranks_are_disarmed),
        cmocka_unit_test(a_new_agent_goes_on_from_the_pages),
        cmocka_unit_test(a_rank_that_is_quiet_for_good_is_said_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
