/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/agent_cut_story.h"

/* Stories of cuts: armed, missed, recorded, failed, stored. */

static void a_cut_is_armed_recorded_and_reported(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    assert_int_equal(did_times(&s, ACT_ARM), 2);
    assert_int_equal(did(&s, ACT_ARM)->step, 20);
    assert_int_equal(progress(&s, 0), CUT_PROGRESS);
    armed(&s, 0, 1, 1, ARM_ARMED, 0);
    assert_int_equal(progress(&s, 0), CUT_ARMED);
    assert_int_equal(agent_look_ms(s.core), AGENT_PAGE_POLL_MS);
    struct agent_page page = page_recorded(1, 1, 20, 0, RECORD_DONE);
    page_is(&s, 1, 0, &page);
    /* Not recorded before the digest is known: the agent may die in between. */
    assert_int_equal(progress(&s, 0), CUT_ARMED);
    assert_int_equal(says(&s)->held.count, 0);
    worked(&s, EV_SUMMED, 0, 0, 1, TIDE_OK);
    assert_non_null(did(&s, ACT_HEARTBEAT));
    const struct gen_report *report = says(&s);
    assert_int_equal(report->cuts.items[0].progress, CUT_RECORDED);
    assert_int_equal(report->cuts.items[0].step, 20);
    assert_int_equal(report->cuts.items[0].stall_us, 5);
    assert_int_equal(report->cuts.items[0].collectives, 12);
    assert_int_equal(strlen(report->cuts.items[0].digest), DIGEST_HEX_CHARS);
    assert_int_equal(report->held.count, 1);
    assert_int_equal(report->held.items[0].cut, 1);
    story_end(&s);
}

static void communicators_are_told_where_nothing_is_coloured(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    s.comms[0] = (struct control_comm){.id = 1, .size = 2, .name = "of all ranks"};
    s.comms[1] = (struct control_comm){.id = 0xab, .collectives = 7, .size = 2, .sent = 3, .received = 1, .balance = 5};
    open_cut(&s, 1, 1, 20);
    for (uint32_t rank = 0; rank < 2; rank++) {
        armed(&s, rank, 1, 1, ARM_ARMED, 0);
        struct agent_page page = page_recorded(1, 1, 20, 0, RECORD_DONE);
        page.record_comms = 2;
        assert_int_equal(says(&s)->comms.count, 0);
        page_is(&s, 1, rank, &page);
    }
    const struct gen_report *report = says(&s);
    assert_int_equal(report->comms.count, 2);
    assert_string_equal(report->comms.items[1].id, "00000000000000ab");
    assert_true(report->comms.items[1].ranks == 2 && report->comms.items[1].collectives == 7);
    assert_true(report->comms.items[1].sent == 6 && report->comms.items[1].received == 2 && report->comms.items[1].balance == 10);
    story_end(&s);
}

static void a_missed_step_is_said_and_armed_anew(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    armed(&s, 0, 1, 1, ARM_MISSED, 23);
    assert_int_equal(progress(&s, 0), CUT_MISSED);
    assert_int_equal(says(&s)->cuts.items[0].step, 23);
    armed(&s, 1, 1, 1, ARM_ARMED, 0);
    open_cut(&s, 1, 2, 40);
    assert_int_equal(did_times(&s, ACT_ARM), 2);
    assert_int_equal(did(&s, ACT_ARM)->attempt, 2);
    assert_int_equal(did(&s, ACT_ARM)->step, 40);
    /* Rank 1 is recording attempt 1 just now: asked again a little later. */
    armed(&s, 1, 1, 2, ARM_BUSY, 0);
    assert_null(did(&s, ACT_ARM));
    passes_ms(&s, 20);
    assert_int_equal(did_times(&s, ACT_ARM), 1);
    assert_int_equal(did(&s, ACT_ARM)->rank, 1);
    story_end(&s);
}

static void a_failed_record_is_said_with_its_reason(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    armed(&s, 0, 1, 1, ARM_ARMED, 0);
    struct agent_page page = page_recorded(1, 1, 20, 0, RECORD_FAILED);
    page.record_status = TIDE_E_NOSPACE;
    text_copy(page.record_detail, sizeof page.record_detail, "slot too small");
    page_is(&s, 1, 0, &page);
    assert_int_equal(progress(&s, 0), CUT_FAILED);
    assert_string_equal(says(&s)->cuts.items[0].detail, "no_space: slot too small");
    story_end(&s);
}

/* Or nothing of it would arrive: half a character is no JSON. */
static void a_long_reason_is_cut_between_characters(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    armed(&s, 0, 1, 1, ARM_ARMED, 0);
    struct agent_page page = page_recorded(1, 1, 20, 0, RECORD_FAILED);
    page.record_status = TIDE_E_NOSPACE;
    size_t used = 0;
    while (used + sizeof "ä; free some" <= sizeof page.record_detail)
        used += (size_t)snprintf(page.record_detail + used, sizeof page.record_detail - used, "ä");
    snprintf(page.record_detail + used, sizeof page.record_detail - used, "; free some");
    page_is(&s, 1, 0, &page);
    char *text = codec_print(&cut_report_codec, &says(&s)->cuts.items[0], CODEC_COMPACT);
    assert_non_null(strstr(text, "\"no_space: ää"));
    assert_non_null(strstr(text, "…"));
    assert_non_null(strstr(text, "ä; free some\""));
    mem_free(text);
    story_end(&s);
}

static void digests_that_fail_fail_the_cut(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    armed(&s, 0, 1, 1, ARM_ARMED, 0);
    struct agent_page page = page_recorded(1, 1, 20, 0, RECORD_DONE);
    page_is(&s, 1, 0, &page);
    worked(&s, EV_SUMMED, 0, 0, 1, TIDE_E_CORRUPT);
    assert_int_equal(progress(&s, 0), CUT_FAILED);
    assert_int_equal(says(&s)->held.count, 0);
    story_end(&s);
}

static void the_newest_sealed_cut_is_never_overwritten(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    uint32_t last = 0;
    for (uint64_t cut = 1; cut <= 4; cut++) {
        s.order.protect_cut = cut - 1;
        open_cut(&s, cut, 1, 20 * cut);
        uint32_t slot = SLOTS;
        for (size_t i = 0; i < s.did.count; i++)
            if (s.did.items[i].kind == ACT_ARM && s.did.items[i].rank == 0)
                slot = s.did.items[i].slot;
        assert_true(slot < SLOTS);
        if (cut > 1)
            assert_int_not_equal(slot, last);
        last = slot;
        armed(&s, 1, cut, 1, ARM_ARMED, 0);
        record(&s, 0, cut, slot);
        s.order.cut.phase = CUT_PHASE_NONE;
    }
    story_end(&s);
}

static void an_aborted_cut_is_disarmed(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    armed(&s, 0, 1, 1, ARM_ARMED, 0);
    armed(&s, 1, 1, 1, ARM_ARMED, 0);
    s.order.cut = (struct cut_order){0};
    ordered(&s);
    assert_int_equal(did_times(&s, ACT_DISARM), 2);
    struct agent_page page = page_at(15);
    page_is(&s, 1, 0, &page);
    assert_non_null(did(&s, ACT_LOOK)); /* what the slot still holds */
    page_is(&s, 1, 1, &page);
    assert_null(did(&s, ACT_LOOK)); /* one at a time … */
    worked(&s, EV_LOOKED, 0, 0, 0, TIDE_OK);
    assert_non_null(did(&s, ACT_LOOK)); /* … and none is forgotten */
    passes_ms(&s, 10000);
    assert_null(did(&s, ACT_DISARM));
    assert_int_equal(agent_look_ms(s.core), 0);
    story_end(&s);
}

static void a_restarted_agent_finds_the_record(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    struct step_spec spec = {.generation = 1};
    codec_copy(&job_spec_codec, &s.order.spec, &spec.job);
    text_copy(spec.uid, sizeof spec.uid, JOB_UID);
    happens(&s, &(struct agent_event){.kind = EV_STEP_FOUND, .spec = &spec});
    codec_release(&step_spec_codec, &spec);
    struct agent_page page = page_recorded(3, 2, 50, 1, RECORD_DONE);
    page_is(&s, 1, 0, &page);
    page = page_at(45);
    page.armed_step = 50, page.armed_cut = 3, page.armed_attempt = 2, page.armed_slot = 1;
    page_is(&s, 1, 1, &page);
    open_cut(&s, 3, 2, 50);
    assert_null(did(&s, ACT_ARM));
    assert_non_null(did(&s, ACT_SUM));
    assert_int_equal(did(&s, ACT_SUM)->slot, 1);
    assert_int_equal(progress(&s, 1), CUT_ARMED);
    story_end(&s);
}

static void a_sealed_cut_is_stored_and_committed(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    armed(&s, 1, 1, 1, ARM_ARMED, 0);
    record(&s, 0, 1, 0);
    s.order.cut.phase = CUT_PHASE_STORE;
    ordered(&s);
    assert_int_equal(did_times(&s, ACT_STORE), 1);
    worked(&s, EV_STORED, 0, 0, 1, TIDE_E_UNAVAILABLE);
    assert_int_equal(says(&s)->shards.items[0].progress, SHARD_FAILED);
    assert_string_equal(says(&s)->shards.items[0].detail, "it went wrong");
    passes_ms(&s, 1);
    assert_null(did(&s, ACT_STORE));
    s.order.cut.attempt = 2; /* counted: the next try */
    ordered(&s);
    assert_int_equal(did_times(&s, ACT_STORE), 1);
    assert_int_equal(says(&s)->shards.count, 0); /* the old failure is not said again meanwhile */
    worked(&s, EV_STORED, 0, 0, 1, TIDE_OK);
    assert_int_equal(says(&s)->shards.items[0].progress, SHARD_STORED);
    s.order.cut.phase = CUT_PHASE_COMMIT;
    ((struct shard_ref *)codec_list_add(&shard_ref_codec, &s.order.cut.shards))->rank = 0;
    ordered(&s);
    assert_non_null(did(&s, ACT_COMMIT));
    worked(&s, EV_COMMITTED, 0, 0, 1, TIDE_OK);
    assert_int_equal(says(&s)->manifests.items[0].progress, SHARD_STORED);
    assert_int_equal(says(&s)->shards.count, 1);
    story_end(&s);
}

static void purging_is_tried_until_done_and_said(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    strlist_add(&s.order.purge, "4");
    ordered(&s);
    assert_int_equal(did(&s, ACT_PURGE)->cut, 4);
    worked(&s, EV_PURGED, 0, 0, 4, TIDE_E_IO);
    assert_int_equal(says(&s)->purged.count, 0);
    passes_ms(&s, AGENT_RETRY_MS_MIN);
    assert_non_null(did(&s, ACT_PURGE));
    worked(&s, EV_PURGED, 0, 0, 4, TIDE_OK);
    assert_string_equal(says(&s)->purged.items[0], "4");
    strlist_release(&s.order.purge);
    ordered(&s);
    assert_int_equal(says(&s)->purged.count, 0);
    story_end(&s);
}

/* 0 would be a sweep. */
static void what_names_no_cut_is_not_deleted(void **state)
{
    static const char *const strange[] = {"", "four", "-4", " 4", "4x", "99999999999999999999", "@900"};
    (void)state;
    struct story s;
    story_runs(&s, 10);
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        strlist_add(&s.order.purge, strange[i]);
        strlist_add(&s.order.leave, strange[i]);
    }
    ordered(&s);
    assert_null(did(&s, ACT_PURGE));
    assert_int_equal(says(&s)->left.count, 0);
    strlist_release(&s.order.purge);
    strlist_add(&s.order.purge, "0");
    ordered(&s);
    assert_int_equal(did_times(&s, ACT_PURGE), 1);
    assert_int_equal(did(&s, ACT_PURGE)->cut, 0);
    story_end(&s);
}

static void a_dropped_cut_is_left_when_nobody_writes_it(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    armed(&s, 1, 1, 1, ARM_ARMED, 0);
    record(&s, 0, 1, 0);
    s.order.cut.phase = CUT_PHASE_STORE;
    ordered(&s);
    assert_non_null(did(&s, ACT_STORE));
    s.order.cut = (struct cut_order){0};
    strlist_add(&s.order.leave, "1");
    strlist_add(&s.order.leave, "2@77");
    ordered(&s);
    assert_int_equal(says(&s)->left.count, 1);
    assert_string_equal(says(&s)->left.items[0], "2@77");
    worked(&s, EV_STORED, 0, 0, 1, TIDE_E_IO);
    assert_int_equal(says(&s)->left.count, 2);
    passes_ms(&s, AGENT_RETRY_MS_MAX);
    assert_null(did(&s, ACT_STORE));
    story_end(&s);
}

/* … or what is written last would stay behind. */
static void a_cut_is_not_deleted_while_it_is_written(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    armed(&s, 1, 1, 1, ARM_ARMED, 0);
    record(&s, 0, 1, 0);
    s.order.cut.phase = CUT_PHASE_STORE;
    ordered(&s);
    assert_non_null(did(&s, ACT_STORE));
    s.order.cut = (struct cut_order){0};
    strlist_add(&s.order.purge, "1");
    ordered(&s);
    assert_null(did(&s, ACT_PURGE));
    worked(&s, EV_STORED, 0, 0, 1, TIDE_OK);
    assert_int_equal(did(&s, ACT_PURGE)->cut, 1);
    story_end(&s);
}

static void a_cut_is_deleted_once_more_when_asked(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    strlist_add(&s.order.purge, "4");
    ordered(&s);
    assert_non_null(did(&s, ACT_PURGE));
    strlist_release(&s.order.purge);
    strlist_add(&s.order.purge, "4@900");
    ordered(&s);
    assert_null(did(&s, ACT_PURGE)); /* one after the other */
    worked(&s, EV_PURGED, 0, 0, 4, TIDE_OK);
    assert_int_equal(says(&s)->purged.count, 0);
    assert_int_equal(did(&s, ACT_PURGE)->cut, 4);
    worked(&s, EV_PURGED, 0, 0, 4, TIDE_OK);
    assert_int_equal(says(&s)->purged.count, 1);
    assert_string_equal(says(&s)->purged.items[0], "4@900");
    story_end(&s);
}

/* The store is out of reach for good: the purge stays, the memory does not. */
static void an_ended_job_gives_its_memory_back(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    armed(&s, 0, 1, 1, ARM_ARMED, 0);
    record(&s, 0, 1, 0);
    assert_int_equal(says(&s)->held.count, 1);
    s.order.cut.phase = CUT_PHASE_NONE;
    s.order.run = RUN_KILL;
    strlist_add(&s.order.purge, "1");
    ordered(&s);
    assert_null(did(&s, ACT_REMOVE_ARENA)); /* a job that is only being fenced needs it */
    s.order.ended = true;
    ordered(&s);
    assert_null(did(&s, ACT_REMOVE_ARENA)); /* ranks may still write there */
    step_gone(&s, 1);
    worked(&s, EV_PURGED, 0, 0, 1, TIDE_E_IO);
    assert_int_equal(says(&s)->held.count, 0);
    passes_ms(&s, AGENT_RETRY_MS_MAX);
    assert_non_null(did(&s, ACT_PURGE));
    assert_null(did(&s, ACT_REMOVE_ARENA)); /* once is enough */
    story_end(&s);
}

static void an_arena_is_not_removed_under_a_worker(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    armed(&s, 1, 1, 1, ARM_ARMED, 0);
    record(&s, 0, 1, 0);
    s.order.cut.phase = CUT_PHASE_STORE;
    ordered(&s);
    unassigned(&s);
    step_gone(&s, 1);
    assert_null(did(&s, ACT_REMOVE_ARENA));
    assert_non_null(did(&s, ACT_LOOK)); /* rank 1 was armed */
    worked(&s, EV_STORED, 0, 0, 1, TIDE_OK);
    assert_null(did(&s, ACT_REMOVE_ARENA));
    worked(&s, EV_LOOKED, 0, 0, 0, TIDE_OK);
    assert_non_null(did(&s, ACT_REMOVE_ARENA));
    assert_true(agent_idle(s.core));
    story_end(&s);
}

/* Generation 2 runs from the beginning while a worker of generation 1 still rebuilds checkpoint 7 in a slot. */
static uint32_t outlived_by_a_fetch(struct story *s)
{
    story_begin(s);
    s->order.spec.nproc_per_node = 1;
    s->order.restore_cut = s->order.protect_cut = 7;
    text_copy(s->order.restore_manifest_key, sizeof s->order.restore_manifest_key, "m/train/7.json");
    ordered(s);
    worked(s, EV_FOUND, 0, 0, 7, TIDE_E_NOT_FOUND);
    assert_non_null(did(s, ACT_FETCH));
    uint32_t slot = did(s, ACT_FETCH)->slot;
    step_started(s, 1);
    s->order.generation = 2;
    s->order.restore_cut = s->order.protect_cut = 0;
    ordered(s);
    step_gone(s, 1);
    assert_non_null(did(s, ACT_START_STEP));
    step_started(s, 2);
    struct agent_page page = page_at(10);
    page_is(s, 2, 0, &page);
    return slot;
}

static void a_slot_that_is_still_written_is_not_recorded_into(void **state)
{
    (void)state;
    struct story s;
    uint32_t fetched = outlived_by_a_fetch(&s);
    open_cut(&s, 8, 1, 20);
    s.order.cut.generation = 2;
    ordered(&s);
    assert_int_not_equal(armed_slot(&s), fetched);
    assert_int_not_equal(armed_slot(&s), SLOTS);
    story_end(&s);
}

static void a_slot_that_is_still_hashed_is_not_recorded_into(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    open_cut(&s, 1, 1, 20);
    armed(&s, 0, 1, 1, ARM_ARMED, 0);
    struct agent_page page = page_recorded(1, 1, 20, 0, RECORD_DONE);
    page_is(&s, 1, 0, &page);
    assert_non_null(did(&s, ACT_SUM));
    s.order.generation = 2;
    s.order.cut.phase = CUT_PHASE_NONE;
    ordered(&s);
    step_gone(&s, 1);
    step_started(&s, 2);
    page = page_at(10);
    page_is(&s, 2, 0, &page);
    s.order.cut.cut = 2;
    s.order.cut.generation = 2;
    s.order.cut.phase = CUT_PHASE_RECORD;
    ordered(&s);
    assert_int_equal(armed_slot(&s), 1);
    story_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_is_armed_recorded_and_reported),
        cmocka_unit_test(communicators_are_told_where_nothing_is_coloured),
        cmocka_unit_test(a_missed_step_is_said_and_armed_anew),
        cmocka_unit_test(a_failed_record_is_said_with_its_reason),
        cmocka_unit_test(a_long_reason_is_cut_between_characters),
        cmocka_unit_test(digests_that_fail_fail_the_cut),
        cmocka_unit_test(the_newest_sealed_cut_is_never_overwritten),
        cmocka_unit_test(an_aborted_cut_is_disarmed),
        cmocka_unit_test(a_restarted_agent_finds_the_record),
        cmocka_unit_test(a_sealed_cut_is_stored_and_committed),
        cmocka_unit_test(purging_is_tried_until_done_and_said),
        cmocka_unit_test(what_names_no_cut_is_not_deleted),
        cmocka_unit_test(a_dropped_cut_is_left_when_nobody_writes_it),
        cmocka_unit_test(a_cut_is_not_deleted_while_it_is_written),
        cmocka_unit_test(a_cut_is_deleted_once_more_when_asked),
        cmocka_unit_test(an_ended_job_gives_its_memory_back),
        cmocka_unit_test(an_arena_is_not_removed_under_a_worker),
        cmocka_unit_test(a_slot_that_is_still_written_is_not_recorded_into),
        cmocka_unit_test(a_slot_that_is_still_hashed_is_not_recorded_into),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
