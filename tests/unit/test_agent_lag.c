/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/agent_cut_story.h"

/* Stories of a store that takes longer than from one checkpoint to the next. */

/* What the step says of rank 0's and rank 1's slots. */
static void slots_are(struct story *s, uint32_t slots)
{
    struct step_status status = {.generation = 1, .started = true};
    text_copy(status.uid, sizeof status.uid, JOB_UID);
    for (uint32_t rank = 0; rank < 2; rank++) {
        struct rank_report *report = codec_list_add(&rank_report_codec, &status.ranks);
        *report = (struct rank_report){.rank = rank, .state = TIDE_RANK_RUNNING, .pid = 100 + (int32_t)rank, .slots = slots};
    }
    happens(s, &(struct agent_event){.kind = EV_STEP_STATUS, .step_status = &status});
    codec_release(&step_status_codec, &status);
}

static void store_beside(struct story *s, uint64_t cut)
{
    s->order.upload = (struct cut_order){.cut = cut, .attempt = 1, .step = 20, .generation = 1, .phase = CUT_PHASE_STORE};
}

/* Checkpoint 1 lies in slot 0 of both ranks and is being stored; 2 is recorded into slot 1 meanwhile. */
static void lags(struct story *s)
{
    story_runs(s, 10);
    slots_are(s, SLOTS_ALWAYS);
    open_cut(s, 1, 1, 20);
    record(s, 0, 1, 0);
    record(s, 1, 1, 0);
    s->order.cut.phase = CUT_PHASE_STORE;
    s->order.protect_cut = 1;
    ordered(s);
    assert_int_equal(did_times(s, ACT_STORE), 2);
    assert_null(did(s, ACT_WIDEN));
    store_beside(s, 1);
    open_cut(s, 2, 1, 40);
    assert_null(did(s, ACT_STORE));
    assert_int_equal(did_times(s, ACT_ARM), 2);
    assert_int_equal(armed_slot(s), 1);
    record(s, 0, 2, 1);
    record(s, 1, 2, 1);
}

static void what_is_being_stored_is_not_recorded_over(void **state)
{
    (void)state;
    struct story s;
    lags(&s);
    /* Rank 0's part of 1 is in the store, rank 1's is not: still it keeps its slot, also for an agent that forgets that. */
    worked(&s, EV_STORED, 0, 0, 1, TIDE_OK);
    s.order.protect_cut = 2;
    open_cut(&s, 3, 1, 60);
    assert_null(did(&s, ACT_ARM));
    assert_int_equal(progress(&s, 0), CUT_FAILED);
    for (size_t i = 0; i < says(&s)->cuts.count; i++)
        assert_non_null(strstr(s.said.jobs.items[0].cuts.items[i].detail, "all 2 slots are in use: one holds checkpoint 2"));
    /* With a third slot it is recorded there, and the next where 2 was. */
    slots_are(&s, SLOTS);
    assert_int_equal(says(&s)->ranks.items[0].slots, SLOTS);
    open_cut(&s, 4, 1, 80);
    assert_int_equal(armed_slot(&s), 2);
    record(&s, 0, 4, 2);
    record(&s, 1, 4, 2);
    s.order.protect_cut = 4;
    open_cut(&s, 5, 1, 100);
    assert_int_equal(armed_slot(&s), 1);
    story_end(&s);
}

static void a_third_slot_is_asked_for_once_the_store_lags(void **state)
{
    (void)state;
    struct story s;
    lags(&s);
    assert_null(did(&s, ACT_WIDEN));
    s.order.protect_cut = 2;
    s.order.cut = s.order.upload;
    s.order.upload = (struct cut_order){0};
    ordered(&s);
    assert_int_equal(did_times(&s, ACT_WIDEN), 1);
    assert_int_equal(did(&s, ACT_WIDEN)->generation, 1);
    /* There is no room: asked again, and less and less often. */
    passes_ms(&s, AGENT_RETRY_MS_MIN - 1);
    assert_null(did(&s, ACT_WIDEN));
    passes_ms(&s, 1);
    assert_non_null(did(&s, ACT_WIDEN));
    slots_are(&s, SLOTS);
    passes_ms(&s, AGENT_RETRY_MS_MAX);
    assert_null(did(&s, ACT_WIDEN));
    story_end(&s);
}

/* The cut to record comes and goes; what is being stored is stored all the while, once, and its manifest written. */
static void storing_goes_on_beside_a_cut(void **state)
{
    (void)state;
    struct story s;
    lags(&s);
    worked(&s, EV_STORED, 0, 0, 1, TIDE_OK);
    assert_int_equal(says(&s)->shards.count, 1);
    worked(&s, EV_STORED, 1, 0, 1, TIDE_E_UNAVAILABLE);
    assert_int_equal(says(&s)->shards.items[1].progress, SHARD_FAILED);
    passes_ms(&s, AGENT_RETRY_MS_MIN);
    assert_int_equal(did_times(&s, ACT_STORE), 1);
    worked(&s, EV_STORED, 1, 0, 1, TIDE_OK);
    s.order.upload.phase = CUT_PHASE_COMMIT;
    for (uint32_t rank = 0; rank < 2; rank++)
        ((struct shard_ref *)codec_list_add(&shard_ref_codec, &s.order.upload.shards))->rank = rank;
    ordered(&s);
    assert_non_null(did(&s, ACT_COMMIT));
    assert_int_equal(did(&s, ACT_COMMIT)->stored->cut, 1);
    assert_int_equal(did(&s, ACT_COMMIT)->stored->shards.count, 2);
    worked(&s, EV_COMMITTED, 0, 0, 1, TIDE_OK);
    assert_int_equal(says(&s)->manifests.items[0].cut, 1);
    /* Then the next is stored, from where it lies. */
    codec_release(&cut_order_codec, &s.order.upload);
    s.order.cut.phase = CUT_PHASE_STORE;
    ordered(&s);
    assert_int_equal(did_times(&s, ACT_STORE), 2);
    assert_int_equal(did(&s, ACT_STORE)->slot, 1);
    assert_int_equal(did(&s, ACT_STORE)->cut, 2);
    story_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_being_stored_is_not_recorded_over),
        cmocka_unit_test(a_third_slot_is_asked_for_once_the_store_lags),
        cmocka_unit_test(storing_goes_on_beside_a_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
