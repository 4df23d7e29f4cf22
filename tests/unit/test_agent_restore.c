/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/agent_story.h"

/* Stories of a rank's way to its state: own arena, then the store, then nothing. */

#define KEY "m/train/7.json"

/* Generation 1 is ordered to start from checkpoint 7. */
static void begin_from(struct story *s, const char *key)
{
    story_begin(s);
    s->order.restore_cut = 7;
    s->order.protect_cut = 7;
    s->order.spec.nproc_per_node = 1;
    text_copy(s->order.restore_manifest_key, sizeof s->order.restore_manifest_key, key);
    ordered(s);
}

static void without_a_checkpoint_the_answer_is_none(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    ordered(&s);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1);
    assert_non_null(did(&s, ACT_ANSWER));
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_RESTORE_NONE);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.attempt, 1);
    passes_ms(&s, 100);
    assert_null(did(&s, ACT_ANSWER));
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1); /* said again: it was lost on the way */
    assert_non_null(did(&s, ACT_ANSWER));
    story_end(&s);
}

static void the_arena_is_looked_at_before_the_rank_asks(void **state)
{
    (void)state;
    struct story s;
    begin_from(&s, KEY);
    assert_non_null(did(&s, ACT_FIND));
    assert_non_null(did(&s, ACT_START_STEP));
    worked(&s, EV_FOUND, 0, 1, 7, TIDE_OK);
    assert_null(did(&s, ACT_ANSWER));
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1);
    const struct step_answer *answer = &did(&s, ACT_ANSWER)->answer;
    assert_int_equal(answer->result, LOCAL_RESTORE_FROM);
    assert_int_equal(answer->tier, LOCAL_TIER_RAM);
    assert_int_equal(answer->slot, 1);
    assert_int_equal(answer->cut, 7);
    assert_string_equal(says(&s)->ranks.items[0].tier, "ram");
    story_end(&s);
}

static void what_is_not_here_is_fetched(void **state)
{
    (void)state;
    struct story s;
    begin_from(&s, KEY);
    worked(&s, EV_FOUND, 0, 0, 7, TIDE_E_NOT_FOUND);
    assert_non_null(did(&s, ACT_FETCH));
    assert_string_equal(did(&s, ACT_FETCH)->order->restore_manifest_key, KEY);
    uint32_t slot = did(&s, ACT_FETCH)->slot;
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1);
    assert_null(did(&s, ACT_ANSWER)); /* it waits */
    worked(&s, EV_FETCHED, 0, slot, 7, TIDE_OK);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_RESTORE_FROM);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.tier, LOCAL_TIER_STORE);
    assert_string_equal(says(&s)->ranks.items[0].tier, "store");
    story_end(&s);
}

/* What the rank has is right, and what is in the store is looked at by who tells the coordinators. */
static void what_was_mended_is_looked_at(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    agent_scrub_every(s.core, 86400000);
    s.order.restore_cut = 7;
    s.order.protect_cut = 7;
    s.order.spec.nproc_per_node = 1;
    text_copy(s.order.restore_manifest_key, sizeof s.order.restore_manifest_key, KEY);
    for (uint64_t cut = 6; cut <= 7; cut++) {
        struct scrub_order *order = codec_list_add(&scrub_order_codec, &s.order.scrub);
        *order = (struct scrub_order){.cut = cut, .manifest_key = KEY};
    }
    ordered(&s);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1);
    worked(&s, EV_FOUND, 0, 0, 7, TIDE_E_CORRUPT);
    struct agent_event event = of_job(EV_FETCHED, 0);
    event.rank = 0, event.slot = did(&s, ACT_FETCH)->slot, event.cut = 7;
    text_copy(event.text, sizeof event.text, "chunk 3 of rank 0 in object c/x: it does not match its digest");
    happens(&s, &event);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_RESTORE_FROM);
    assert_non_null(did(&s, ACT_SCRUB));
    assert_int_equal(did(&s, ACT_SCRUB)->cut, 7);
    story_end(&s);
}

/* What it is made of is told when the rank asks, and what is in a slot is a shard of the other world. */
static void a_rank_of_another_world_is_put_together_when_it_asks(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    s.order.restore_cut = 7;
    s.order.restore_world = 4;
    s.order.spec.nproc_per_node = 1;
    text_copy(s.order.restore_manifest_key, sizeof s.order.restore_manifest_key, KEY);
    ordered(&s);
    assert_null(did(&s, ACT_FIND));
    step_started(&s, 1);
    passes_ms(&s, 100);
    assert_null(did(&s, ACT_FIND));
    assert_null(did(&s, ACT_FETCH));
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1);
    assert_null(did(&s, ACT_FIND));
    assert_non_null(did(&s, ACT_FETCH));
    uint32_t slot = did(&s, ACT_FETCH)->slot;
    /* It cannot be: the program is told so, once, and nobody says that the checkpoint is bad. */
    worked(&s, EV_FETCHED, 0, slot, 7, TIDE_E_MISMATCH);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_REFUSED);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.status, TIDE_E_MISMATCH);
    assert_int_equal(says(&s)->restore_failures.count, 0);
    step_says(&s, 1, TIDE_RANK_RUNNING, 2, -1);
    assert_non_null(did(&s, ACT_FETCH));
    worked(&s, EV_FETCHED, 0, did(&s, ACT_FETCH)->slot, 7, TIDE_OK);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_RESTORE_FROM);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.tier, LOCAL_TIER_STORE);
    story_end(&s);
}

static void a_bad_copy_is_never_offered_again(void **state)
{
    (void)state;
    struct story s;
    begin_from(&s, KEY);
    worked(&s, EV_FOUND, 0, 1, 7, TIDE_OK);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.slot, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 2, 1);
    assert_null(did(&s, ACT_FIND));
    assert_non_null(did(&s, ACT_FETCH));
    assert_int_equal(did(&s, ACT_FETCH)->slot, 1); /* over the bad copy */
    worked(&s, EV_FETCHED, 0, 1, 7, TIDE_OK);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.attempt, 2);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.tier, LOCAL_TIER_STORE);
    /* The store's is bad too: nothing is left, and the leader hears of it. */
    step_says(&s, 1, TIDE_RANK_RUNNING, 3, 1);
    assert_null(did(&s, ACT_FETCH));
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_REFUSED);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.status, TIDE_E_CORRUPT);
    assert_non_null(did(&s, ACT_HEARTBEAT));
    assert_int_equal(says(&s)->restore_failures.count, 1);
    assert_int_equal(says(&s)->restore_failures.items[0].cut, 7);
    assert_non_null(strstr(says(&s)->restore_failures.items[0].detail, "chunk 3"));
    story_end(&s);
}

/* Slots hold checkpoints 6 and 7, and the bytes of 7 are bad: 6 must outlive the repair, and the next cut find a slot. */
static void a_copy_found_bad_is_written_over(void **state)
{
    (void)state;
    struct story s;
    struct agent_held held[] = {{.rank = 0, .slot = 0, .cut = 6}, {.rank = 0, .slot = 1, .cut = 7}};
    story_begin(&s);
    struct agent_event found = of_job(EV_ARENA_FOUND, 0);
    text_copy(found.job, sizeof found.job, "train");
    found.held = held;
    found.held_count = 2;
    happens(&s, &found);
    s.order.restore_cut = s.order.protect_cut = 7;
    s.order.spec.nproc_per_node = 1;
    text_copy(s.order.restore_manifest_key, sizeof s.order.restore_manifest_key, KEY);
    ordered(&s);
    worked(&s, EV_FOUND, 0, 0, 7, TIDE_E_CORRUPT);
    assert_non_null(did(&s, ACT_FETCH));
    assert_int_equal(did(&s, ACT_FETCH)->slot, 1);
    worked(&s, EV_FETCHED, 0, 1, 7, TIDE_OK);
    assert_int_equal(says(&s)->held.items[0].cut, 6);
    story_end(&s);
}

static void a_look_that_fails_condemns_nothing(void **state)
{
    (void)state;
    struct story s;
    begin_from(&s, "");
    worked(&s, EV_FOUND, 0, 0, 7, TIDE_E_IO);
    assert_null(did(&s, ACT_FETCH));
    assert_int_equal(says(&s)->restore_failures.count, 0);
    passes_ms(&s, AGENT_RETRY_MS_MAX);
    assert_non_null(did(&s, ACT_FIND));
    story_end(&s);
}

/* The node lost its disk and its memory while the generation ran elsewhere. */
static void what_was_started_is_not_started_again(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    s.order.started = true;
    ordered(&s);
    assert_null(did(&s, ACT_START_STEP));
    assert_int_equal(says(&s)->ranks.count, 0);
    story_end(&s);
}

static void what_was_never_stored_is_lost_with_the_arena(void **state)
{
    (void)state;
    struct story s;
    begin_from(&s, "");
    worked(&s, EV_FOUND, 0, 0, 7, TIDE_E_CORRUPT);
    assert_null(did(&s, ACT_FETCH));
    assert_int_equal(says(&s)->restore_failures.count, 1);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_REFUSED);
    story_end(&s);
}

/* One sector of the store's disk, say: that does not end by waiting, and a rank that waits costs all of them. */
static void what_a_store_cannot_read_while_it_is_there_is_given_up_sooner(void **state)
{
    (void)state;
    struct story s;
    begin_from(&s, KEY);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1);
    worked(&s, EV_FOUND, 0, 0, 7, TIDE_E_NOT_FOUND);
    struct agent_event event = of_job(EV_FETCHED, 0);
    event.cut = 7, event.status = TIDE_E_IO;
    text_copy(event.text, sizeof event.text, "cannot read object c/x: Input/output error");
    uint64_t from_ns = s.now_ns, lost_ns = s.now_ns + 30 * NS_PER_S;
    while (did(&s, ACT_ANSWER) == NULL && s.now_ns < from_ns + UINT64_C(2) * AGENT_FETCH_DEADLINE_MS * NS_PER_MS) {
        const struct agent_action *fetch = did(&s, ACT_FETCH);
        event.slot = fetch != NULL ? fetch->slot : 0;
        event.store_up = s.now_ns < lost_ns || s.now_ns > lost_ns + 10 * NS_PER_S; /* for a while it is out of reach: that does not count */
        if (fetch != NULL)
            happens(&s, &event);
        else
            passes_ms(&s, AGENT_TICK_MS);
    }
    assert_in_range((s.now_ns - lost_ns) / NS_PER_MS, 10000 + AGENT_UNREAD_MS, 10000 + AGENT_UNREAD_MS + 3 * AGENT_RETRY_MS_MAX);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_REFUSED);
    assert_int_equal(says(&s)->restore_failures.count, 1);
    assert_non_null(strstr(says(&s)->restore_failures.items[0].detail, "arena and store were tried): cannot read object c/x"));
    story_end(&s);
}

static void a_look_that_fails_has_the_peer_asked(void **state)
{
    (void)state;
    struct story s;
    begin_from(&s, "");
    text_copy(s.order.restore_peer, sizeof s.order.restore_peer, "n2");
    text_copy(s.order.restore_peer_address, sizeof s.order.restore_peer_address, "10.0.0.2");
    ordered(&s);
    for (unsigned i = 0; i < AGENT_FIND_TRIES_MAX; i++) {
        for (unsigned waited = 0; i > 0 && waited < 100 && did(&s, ACT_FIND) == NULL; waited++)
            passes_ms(&s, AGENT_TICK_MS);
        worked(&s, EV_FOUND, 0, 0, 7, TIDE_E_IO);
    }
    assert_non_null(did(&s, ACT_FETCH));
    assert_int_equal(did(&s, ACT_FETCH)->tier, LOCAL_TIER_PEER);
    story_end(&s);
}

static void a_store_out_of_reach_condemns_no_checkpoint(void **state)
{
    (void)state;
    struct story s;
    begin_from(&s, KEY);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1);
    worked(&s, EV_FOUND, 0, 0, 7, TIDE_E_NOT_FOUND);
    uint64_t began_ns = 0;
    const struct agent_action *answer = NULL;
    unsigned tries = 0;
    while (answer == NULL && s.now_ns < began_ns + UINT64_C(2) * AGENT_FETCH_DEADLINE_MS * NS_PER_MS) {
        const struct agent_action *fetch = did(&s, ACT_FETCH);
        if (fetch == NULL) {
            passes_ms(&s, AGENT_TICK_MS);
            continue;
        }
        began_ns = tries++ == 0 ? s.now_ns : began_ns;
        worked(&s, EV_FETCHED, 0, fetch->slot, 7, TIDE_E_UNAVAILABLE);
        if (tries == 2)
            assert_string_equal(says(&s)->detail, "waits for checkpoint 7: it went wrong");
        answer = did(&s, ACT_ANSWER);
    }
    assert_non_null(answer);
    assert_int_equal(answer->answer.result, LOCAL_REFUSED);
    assert_int_equal(answer->answer.status, TIDE_E_UNAVAILABLE);
    assert_in_range(tries, AGENT_FETCH_DEADLINE_MS / AGENT_RETRY_MS_MAX / 2, AGENT_FETCH_DEADLINE_MS / AGENT_RETRY_MS_MAX + 10);
    assert_in_range((s.now_ns - began_ns) / NS_PER_MS, AGENT_FETCH_DEADLINE_MS, AGENT_FETCH_DEADLINE_MS + AGENT_RETRY_MS_MAX + 200);
    assert_int_equal(says(&s)->restore_failures.count, 0);
    story_end(&s);
}

static void an_arena_that_cannot_be_looked_at_is_passed_by(void **state)
{
    (void)state;
    struct story s;
    begin_from(&s, KEY);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1);
    for (unsigned tries = 1; tries < AGENT_FIND_TRIES_MAX; tries++) {
        worked(&s, EV_FOUND, 0, 0, 7, TIDE_E_IO);
        assert_null(did(&s, ACT_FETCH));
        passes_ms(&s, AGENT_RETRY_MS_MAX);
        assert_non_null(did(&s, ACT_FIND));
    }
    worked(&s, EV_FOUND, 0, 0, 7, TIDE_E_IO);
    assert_non_null(did(&s, ACT_FETCH));
    worked(&s, EV_FETCHED, 0, did(&s, ACT_FETCH)->slot, 7, TIDE_OK);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_RESTORE_FROM);
    assert_string_equal(says(&s)->detail, "");
    story_end(&s);
}

/* The arena's is the only copy there is: looked for until the time is over, and not condemned then. */
static void the_only_copy_is_looked_for_until_the_end(void **state)
{
    (void)state;
    struct story s;
    begin_from(&s, "");
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 1, -1);
    for (unsigned tries = 0; tries < 2 * AGENT_FETCH_DEADLINE_MS / AGENT_RETRY_MS_MAX && did(&s, ACT_ANSWER) == NULL; tries++) {
        worked(&s, EV_FOUND, 0, 0, 7, TIDE_E_IO);
        assert_null(did(&s, ACT_FETCH));
        if (did(&s, ACT_ANSWER) == NULL)
            passes_ms(&s, AGENT_RETRY_MS_MAX);
    }
    assert_non_null(did(&s, ACT_ANSWER));
    assert_int_equal(did(&s, ACT_ANSWER)->answer.status, TIDE_E_IO);
    assert_int_equal(says(&s)->restore_failures.count, 0);
    story_end(&s);
}

static void a_restarted_agent_answers_again(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    s.order.spec.nproc_per_node = 1;
    struct step_spec spec = {.generation = 1};
    codec_copy(&job_spec_codec, &s.order.spec, &spec.job);
    text_copy(spec.uid, sizeof spec.uid, JOB_UID);
    happens(&s, &(struct agent_event){.kind = EV_STEP_FOUND, .spec = &spec});
    codec_release(&step_spec_codec, &spec);
    step_says(&s, 1, TIDE_RANK_RUNNING, 2, 1);
    assert_null(did(&s, ACT_ANSWER)); /* nobody has said yet what it restores from */
    s.order.restore_cut = s.order.protect_cut = 7;
    text_copy(s.order.restore_manifest_key, sizeof s.order.restore_manifest_key, KEY);
    ordered(&s);
    assert_true(did(&s, ACT_FIND) != NULL || did(&s, ACT_FETCH) != NULL);
    story_end(&s);
}

static void a_running_rank_is_not_prefetched_for(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    struct step_spec spec = {.generation = 1};
    codec_copy(&job_spec_codec, &s.order.spec, &spec.job);
    text_copy(spec.uid, sizeof spec.uid, JOB_UID);
    happens(&s, &(struct agent_event){.kind = EV_STEP_FOUND, .spec = &spec});
    codec_release(&step_spec_codec, &spec);
    s.order.restore_cut = 7;
    ordered(&s);
    assert_null(did(&s, ACT_FIND));
    assert_null(did(&s, ACT_FETCH));
    story_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_checkpoint_the_answer_is_none),
        cmocka_unit_test(the_arena_is_looked_at_before_the_rank_asks),
        cmocka_unit_test(what_is_not_here_is_fetched),
        cmocka_unit_test(what_was_mended_is_looked_at),
        cmocka_unit_test(a_rank_of_another_world_is_put_together_when_it_asks),
        cmocka_unit_test(a_bad_copy_is_never_offered_again),
        cmocka_unit_test(a_copy_found_bad_is_written_over),
        cmocka_unit_test(a_look_that_fails_condemns_nothing),
        cmocka_unit_test(what_was_started_is_not_started_again),
        cmocka_unit_test(what_was_never_stored_is_lost_with_the_arena),
        cmocka_unit_test(a_store_out_of_reach_condemns_no_checkpoint),
        cmocka_unit_test(what_a_store_cannot_read_while_it_is_there_is_given_up_sooner),
        cmocka_unit_test(a_look_that_fails_has_the_peer_asked),
        cmocka_unit_test(an_arena_that_cannot_be_looked_at_is_passed_by),
        cmocka_unit_test(the_only_copy_is_looked_for_until_the_end),
        cmocka_unit_test(a_restarted_agent_answers_again),
        cmocka_unit_test(a_running_rank_is_not_prefetched_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
