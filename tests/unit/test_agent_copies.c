/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/agent_story.h"

/* Stories of what others recorded and is to be here, too; and of a rank that is restored from where its own is copied. */

#define TOKEN "0123456789abcdef0123456789abcdef"
#define KEY "m/train/7.json"

static struct copy_order *to_copy(struct story *s, uint64_t cut, uint32_t node_rank, uint32_t port)
{
    struct copy_order *copy = codec_list_add(&copy_order_codec, &s->order.copies);
    *copy = (struct copy_order){.cut = cut, .node_rank = node_rank, .port = port};
    text_copy(copy->node, sizeof copy->node, "n2");
    text_copy(copy->address, sizeof copy->address, port ? "10.0.0.2" : "");
    return copy;
}

static void no_copies(struct story *s)
{
    while (s->order.copies.count > 0)
        codec_list_remove(&copy_order_codec, &s->order.copies, 0);
}

/* A node without ranks of the job, which is to copy what node rank 1 recorded: ranks 2 and 3. */
static void begin(struct story *s)
{
    story_begin(s);
    s->order.run = RUN_KILL;
    s->order.spec.nnodes = 2;
    text_copy(s->order.token, sizeof s->order.token, TOKEN);
    to_copy(s, 7, 1, 7200);
    ordered(s);
}

static void both_whole(struct story *s, uint64_t cut)
{
    assert_int_equal(did(s, ACT_COPY)->rank, 2);
    worked(s, EV_COPIED, 2, did(s, ACT_COPY)->slot, cut, TIDE_OK);
    assert_int_equal(did(s, ACT_COPY)->rank, 3);
    worked(s, EV_COPIED, 3, did(s, ACT_COPY)->slot, cut, TIDE_OK);
    assert_null(did(s, ACT_COPY));
}

static void what_is_ordered_is_copied_one_after_the_other(void **state)
{
    (void)state;
    struct story s;
    begin(&s);
    const struct agent_action *copy = did(&s, ACT_COPY);
    assert_int_equal(did_times(&s, ACT_COPY), AGENT_COPIES_MAX);
    assert_int_equal(copy->cut, 7);
    assert_string_equal(copy->copy->address, "10.0.0.2");
    assert_string_equal(copy->order->token, TOKEN);
    assert_int_equal(says(&s)->copies.count, 0);
    both_whole(&s, 7);
    assert_int_equal(says(&s)->copies.count, 2);
    assert_int_equal(says(&s)->copies.items[1].rank, 3);
    assert_string_equal(says(&s)->copies.items[1].digest, "00112233445566778899aabbccddeeff");
    assert_int_equal(says(&s)->held.count, 0); /* they are not this node's own */
    passes_ms(&s, 10000);
    assert_null(did(&s, ACT_COPY));
    story_end(&s);
}

/* The one before stays until it is not listed any more. */
static void the_one_before_is_not_dropped_before_the_next_is_whole(void **state)
{
    (void)state;
    struct story s;
    begin(&s);
    both_whole(&s, 7);
    no_copies(&s);
    to_copy(&s, 7, 1, 0);
    to_copy(&s, 8, 1, 7200);
    ordered(&s);
    assert_null(did(&s, ACT_UNCOPY));
    assert_int_not_equal(did(&s, ACT_COPY)->slot, 0);
    both_whole(&s, 8);
    assert_int_equal(says(&s)->copies.count, 4);
    no_copies(&s);
    to_copy(&s, 8, 1, 0);
    ordered(&s);
    assert_int_equal(did_times(&s, ACT_UNCOPY), 2);
    assert_int_equal(did(&s, ACT_UNCOPY)->slot, 0);
    assert_int_equal(says(&s)->copies.count, 2);
    worked(&s, EV_UNCOPIED, 2, 0, 0, TIDE_OK);
    assert_null(did(&s, ACT_SAY));
    worked(&s, EV_UNCOPIED, 3, 0, 0, TIDE_E_IO);
    assert_non_null(strstr(did(&s, ACT_SAY)->text, "keeps its memory"));
    /* The job is over: nothing is left. */
    unassigned(&s);
    assert_non_null(did(&s, ACT_REMOVE_ARENA));
    assert_true(agent_idle(s.core));
    story_end(&s);
}

static void what_cannot_be_copied_is_told_and_tried_again(void **state)
{
    (void)state;
    struct story s;
    begin(&s);
    unsigned tries = 0;
    for (unsigned ms = 0; ms < 4000; ms += 100) {
        const struct agent_action *copy = did(&s, ACT_COPY);
        tries += copy != NULL;
        if (copy != NULL)
            worked(&s, EV_COPIED, copy->rank, copy->slot, 7, TIDE_E_LIMIT);
        else
            passes_ms(&s, 100);
    }
    assert_true(tries >= 2 * AGENT_COPY_TRIES_MAX && tries < 20);
    assert_int_equal(says(&s)->copy_failures.count, 2);
    assert_int_equal(says(&s)->copy_failures.items[0].cut, 7);
    assert_string_equal(says(&s)->copy_failures.items[0].detail, "it went wrong");
    no_copies(&s); /* nobody wants it any more */
    ordered(&s);
    assert_int_equal(says(&s)->copy_failures.count, 0);
    /* A newer one is wanted: it has tries of its own, at once. */
    to_copy(&s, 8, 1, 7200);
    ordered(&s);
    assert_int_equal(says(&s)->copy_failures.count, 0);
    for (unsigned ms = 0; ms < 6000 && did(&s, ACT_COPY) == NULL; ms += 100)
        passes_ms(&s, 100);
    both_whole(&s, 8);
    story_end(&s);
}

/* Its owner has recorded over it meanwhile: that is no failure of the one that is wanted now. */
static void a_newer_one_does_not_wait_for_what_became_of_the_older(void **state)
{
    (void)state;
    struct story s;
    begin(&s);
    uint32_t rank = did(&s, ACT_COPY)->rank, slot = did(&s, ACT_COPY)->slot;
    no_copies(&s);
    to_copy(&s, 8, 1, 7200);
    ordered(&s);
    assert_null(did(&s, ACT_COPY));
    worked(&s, EV_COPIED, rank, slot, 7, TIDE_E_NOT_FOUND);
    assert_int_equal(did(&s, ACT_COPY)->cut, 8);
    both_whole(&s, 8);
    story_end(&s);
}

/* An agent that is started again knows what it had. */
static void copies_are_found_again(void **state)
{
    (void)state;
    struct story s;
    const struct agent_held copies[] = {{.rank = 2, .slot = 1, .cut = 7, .digest = "d2"}, {.rank = 3, .slot = 0, .cut = 6, .digest = "d3"}};
    story_begin(&s);
    struct agent_event found = of_job(EV_ARENA_FOUND, 0);
    text_copy(found.job, sizeof found.job, "train");
    found.copies = copies, found.copies_count = 2;
    happens(&s, &found);
    assert_int_equal(says(&s)->copies.count, 2);
    s.order.run = RUN_KILL;
    s.order.spec.nnodes = 2;
    text_copy(s.order.token, sizeof s.order.token, TOKEN);
    to_copy(&s, 7, 1, 7200);
    ordered(&s);
    assert_int_equal(did(&s, ACT_COPY)->rank, 3);
    assert_int_equal(did_times(&s, ACT_UNCOPY), 1);
    assert_int_equal(did(&s, ACT_UNCOPY)->rank, 3);
    /* And may run the generation it is told to: that it has copies does not say that it ever did. */
    s.order.run = RUN_START;
    s.order.node_rank = 0;
    ordered(&s);
    assert_non_null(did(&s, ACT_START_STEP));
    story_end(&s);
}

static void only_the_present_generation_has_a_secret(void **state)
{
    (void)state;
    struct story s;
    begin(&s);
    assert_string_equal(agent_token(s.core, JOB_UID), TOKEN);
    assert_null(agent_token(s.core, "ffffffffffffffff"));
    s.order.generation = 2;
    s.order.token[0] = '\0';
    ordered(&s);
    assert_null(agent_token(s.core, JOB_UID));
    unassigned(&s);
    assert_null(agent_token(s.core, JOB_UID));
    story_end(&s);
}

/* Who asked without one would be refused, and called it a failure. */
static void without_a_secret_nothing_is_asked_for(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    s.order.run = RUN_KILL;
    s.order.spec.nnodes = 2;
    to_copy(&s, 7, 1, 7200);
    ordered(&s);
    assert_null(did(&s, ACT_COPY));
    text_copy(s.order.token, sizeof s.order.token, TOKEN);
    ordered(&s);
    assert_non_null(did(&s, ACT_COPY));
    story_end(&s);
}

static void an_agent_that_ends_begins_no_copy(void **state)
{
    (void)state;
    struct story s;
    begin(&s);
    agent_end_all(s.core);
    worked(&s, EV_COPIED, 2, did(&s, ACT_COPY)->slot, 7, TIDE_OK);
    assert_null(did(&s, ACT_COPY));
    story_end(&s);
}

/* ---- restoring ---- */

/* Checkpoint 7 is not here: its peer is asked first, whether or not the store has it. */
static uint32_t restores(struct story *s, const char *key)
{
    story_begin(s);
    s->order.restore_cut = s->order.protect_cut = 7;
    s->order.spec.nproc_per_node = 1;
    text_copy(s->order.token, sizeof s->order.token, TOKEN);
    text_copy(s->order.restore_manifest_key, sizeof s->order.restore_manifest_key, key);
    text_copy(s->order.restore_peer, sizeof s->order.restore_peer, "n2");
    text_copy(s->order.restore_peer_address, sizeof s->order.restore_peer_address, "10.0.0.2");
    s->order.restore_peer_port = 7200;
    ordered(s);
    assert_null(did(s, ACT_FETCH)); /* its own memory goes first */
    worked(s, EV_FOUND, 0, 0, 7, TIDE_E_NOT_FOUND);
    assert_int_equal(did(s, ACT_FETCH)->tier, LOCAL_TIER_PEER);
    return did(s, ACT_FETCH)->slot;
}

static void asks(struct story *s, uint32_t attempt, int32_t bad_slot)
{
    if (attempt == 1)
        step_started(s, 1);
    step_says(s, 1, TIDE_RANK_RUNNING, attempt, bad_slot);
}

/* The next fetch that is tried within so long; NULL: none. */
static const struct agent_action *next_fetch(struct story *s, unsigned ms)
{
    for (unsigned waited = 0; waited < ms && did(s, ACT_FETCH) == NULL; waited += 100)
        passes_ms(s, 100);
    return did(s, ACT_FETCH);
}

static void a_rank_is_restored_from_its_peer(void **state)
{
    (void)state;
    struct story s;
    uint32_t slot = restores(&s, "");
    asks(&s, 1, -1);
    assert_null(did(&s, ACT_ANSWER));
    worked(&s, EV_FETCHED, 0, slot, 7, TIDE_OK);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_RESTORE_FROM);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.tier, LOCAL_TIER_PEER);
    assert_string_equal(says(&s)->ranks.items[0].tier, "peer");
    story_end(&s);
}

static void a_peer_without_a_good_copy_is_passed_over(void **state)
{
    (void)state;
    static const enum tide_status wrong[] = {TIDE_E_NOT_FOUND, TIDE_E_CORRUPT};
    for (size_t i = 0; i < 2; i++) {
        struct story s;
        uint32_t slot = restores(&s, KEY);
        worked(&s, EV_FETCHED, 0, slot, 7, wrong[i]);
        assert_int_equal(did(&s, ACT_FETCH)->tier, LOCAL_TIER_STORE);
        worked(&s, EV_FETCHED, 0, did(&s, ACT_FETCH)->slot, 7, TIDE_OK);
        asks(&s, 1, -1);
        assert_int_equal(did(&s, ACT_ANSWER)->answer.tier, LOCAL_TIER_STORE);
        story_end(&s);
    }
}

/* It came well, but what the rank reads is not what it should be: the store next, and then nothing. */
static void a_copy_that_the_rank_finds_bad_is_not_fetched_again(void **state)
{
    (void)state;
    struct story s;
    uint32_t slot = restores(&s, KEY);
    worked(&s, EV_FETCHED, 0, slot, 7, TIDE_OK);
    asks(&s, 1, -1);
    asks(&s, 2, (int32_t)slot);
    assert_int_equal(did(&s, ACT_FETCH)->tier, LOCAL_TIER_STORE);
    worked(&s, EV_FETCHED, 0, slot, 7, TIDE_E_CORRUPT);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_REFUSED);
    assert_non_null(strstr(says(&s)->restore_failures.items[0].detail, "its peer was asked"));
    story_end(&s);
}

/* It may have been the way here, or have been recorded over just then; that no answer came before says nothing of it. */
static void the_only_copy_is_asked_for_twice_before_it_is_called_bad(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        const bool good = i % 2, silent = i >= 2, late = i >= 4;
        struct story s;
        const struct agent_action *fetch;
        uint32_t slot = restores(&s, "");
        asks(&s, 1, -1);
        if (silent) {
            worked(&s, EV_FETCHED, 0, slot, 7, TIDE_E_UNAVAILABLE);
            fetch = next_fetch(&s, 10000);
            assert_non_null(fetch);
            slot = fetch->slot;
            passes_ms(&s, late ? AGENT_PEER_DEADLINE_MS : 0);
        }
        worked(&s, EV_FETCHED, 0, slot, 7, TIDE_E_CORRUPT);
        fetch = next_fetch(&s, 10000);
        assert_non_null(fetch);
        worked(&s, EV_FETCHED, 0, fetch->slot, 7, good ? TIDE_OK : TIDE_E_CORRUPT);
        assert_int_equal(did(&s, ACT_ANSWER)->answer.result, good ? LOCAL_RESTORE_FROM : LOCAL_REFUSED);
        assert_int_equal(says(&s)->restore_failures.count, !good);
        story_end(&s);
    }
}

static void a_peer_out_of_reach_is_not_waited_for_where_there_is_a_store(void **state)
{
    (void)state;
    struct story s;
    restores(&s, KEY);
    asks(&s, 1, -1);
    unsigned tries = 0;
    worked(&s, EV_FETCHED, 0, 0, 7, TIDE_E_UNAVAILABLE);
    for (const struct agent_action *fetch; (fetch = next_fetch(&s, 10000)) != NULL && fetch->tier == LOCAL_TIER_PEER; tries++)
        worked(&s, EV_FETCHED, 0, fetch->slot, 7, TIDE_E_UNAVAILABLE);
    assert_int_equal(tries, AGENT_PEER_TRIES_MAX - 1);
    assert_int_equal(did(&s, ACT_FETCH)->tier, LOCAL_TIER_STORE);
    story_end(&s);
}

static void without_a_store_the_peer_has_a_minute(void **state)
{
    (void)state;
    struct story s;
    uint32_t slot = restores(&s, "");
    asks(&s, 1, -1);
    worked(&s, EV_FETCHED, 0, slot, 7, TIDE_E_UNAVAILABLE);
    assert_non_null(strstr(says(&s)->detail, "waits for checkpoint 7"));
    uint64_t from_ns = s.now_ns;
    for (const struct agent_action *fetch; (fetch = next_fetch(&s, 10000)) != NULL;)
        worked(&s, EV_FETCHED, 0, fetch->slot, 7, TIDE_E_UNAVAILABLE);
    assert_in_range((s.now_ns - from_ns) / NS_PER_MS, AGENT_PEER_DEADLINE_MS, AGENT_PEER_DEADLINE_MS + 20000);
    assert_int_equal(says(&s)->restore_failures.count, 1);
    assert_non_null(strstr(says(&s)->restore_failures.items[0].detail, "it was never stored, its peer was asked"));
    story_end(&s);
}

/* The peer has not answered when it was to, and the store's turn comes. */
static void peer_is_silent(struct story *s)
{
    uint32_t slot = restores(s, KEY);
    asks(s, 1, -1);
    worked(s, EV_FETCHED, 0, slot, 7, TIDE_E_UNAVAILABLE);
    for (const struct agent_action *fetch; (fetch = next_fetch(s, 10000)) != NULL && fetch->tier == LOCAL_TIER_PEER;)
        worked(s, EV_FETCHED, 0, fetch->slot, 7, TIDE_E_UNAVAILABLE);
    assert_int_equal(did(s, ACT_FETCH)->tier, LOCAL_TIER_STORE);
}

/* Each in its turn, without haste; who answers first has it. */
static void neither_is_given_up_while_both_are_out_of_reach(void **state)
{
    (void)state;
    struct story s;
    unsigned of_peer = 0, of_store = 0;
    peer_is_silent(&s);
    uint64_t from_ns = s.now_ns;
    for (const struct agent_action *fetch; did(&s, ACT_ANSWER) == NULL && (fetch = next_fetch(&s, 20000)) != NULL;) {
        *(fetch->tier == LOCAL_TIER_PEER ? &of_peer : &of_store) += 1;
        worked(&s, EV_FETCHED, 0, fetch->slot, 7, TIDE_E_UNAVAILABLE);
    }
    assert_in_range((s.now_ns - from_ns) / NS_PER_MS, AGENT_FETCH_DEADLINE_MS, AGENT_FETCH_DEADLINE_MS + 40000);
    assert_in_range(of_peer, of_store - 1, of_store);
    assert_in_range(of_store, AGENT_FETCH_DEADLINE_MS / AGENT_RETRY_MS_MAX / 2, AGENT_FETCH_DEADLINE_MS / AGENT_RETRY_MS_MAX * 2);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.result, LOCAL_REFUSED);
    assert_int_equal(says(&s)->restore_failures.count, 0);
    story_end(&s);
    peer_is_silent(&s);
    worked(&s, EV_FETCHED, 0, did(&s, ACT_FETCH)->slot, 7, TIDE_E_UNAVAILABLE);
    assert_int_equal(next_fetch(&s, 10000)->tier, LOCAL_TIER_PEER);
    worked(&s, EV_FETCHED, 0, did(&s, ACT_FETCH)->slot, 7, TIDE_OK);
    assert_int_equal(did(&s, ACT_ANSWER)->answer.tier, LOCAL_TIER_PEER);
    story_end(&s);
}

/* A checkpoint is not condemned while who has a copy of it may only be starting again. */
static void a_silent_peer_is_asked_again_where_the_store_has_none(void **state)
{
    (void)state;
    for (unsigned good = 0; good <= 1; good++) {
        struct story s;
        peer_is_silent(&s);
        worked(&s, EV_FETCHED, 0, did(&s, ACT_FETCH)->slot, 7, TIDE_E_CORRUPT);
        uint64_t from_ns = s.now_ns;
        for (const struct agent_action *fetch; (fetch = next_fetch(&s, 20000)) != NULL;) {
            assert_int_equal(fetch->tier, LOCAL_TIER_PEER);
            worked(&s, EV_FETCHED, 0, fetch->slot, 7, good && s.now_ns - from_ns > 20 * NS_PER_S ? TIDE_OK : TIDE_E_UNAVAILABLE);
        }
        assert_int_equal(says(&s)->restore_failures.count, !good);
        if (good)
            assert_string_equal(says(&s)->ranks.items[0].tier, "peer");
        else
            assert_in_range((s.now_ns - from_ns) / NS_PER_MS, AGENT_PEER_DEADLINE_MS, AGENT_PEER_DEADLINE_MS + 40000);
        story_end(&s);
    }
}

/* The leader has given it up while we asked. */
static void a_peer_that_is_lost_is_asked_no_more(void **state)
{
    (void)state;
    struct story s;
    uint32_t slot = restores(&s, KEY);
    s.order.restore_peer[0] = s.order.restore_peer_address[0] = '\0';
    ordered(&s);
    worked(&s, EV_FETCHED, 0, slot, 7, TIDE_E_UNAVAILABLE);
    assert_int_equal(next_fetch(&s, 1000)->tier, LOCAL_TIER_STORE);
    story_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_ordered_is_copied_one_after_the_other),
        cmocka_unit_test(the_one_before_is_not_dropped_before_the_next_is_whole),
        cmocka_unit_test(what_cannot_be_copied_is_told_and_tried_again),
        cmocka_unit_test(a_newer_one_does_not_wait_for_what_became_of_the_older),
        cmocka_unit_test(copies_are_found_again),
        cmocka_unit_test(only_the_present_generation_has_a_secret),
        cmocka_unit_test(without_a_secret_nothing_is_asked_for),
        cmocka_unit_test(an_agent_that_ends_begins_no_copy),
        cmocka_unit_test(a_rank_is_restored_from_its_peer),
        cmocka_unit_test(a_peer_without_a_good_copy_is_passed_over),
        cmocka_unit_test(a_copy_that_the_rank_finds_bad_is_not_fetched_again),
        cmocka_unit_test(the_only_copy_is_asked_for_twice_before_it_is_called_bad),
        cmocka_unit_test(a_peer_out_of_reach_is_not_waited_for_where_there_is_a_store),
        cmocka_unit_test(without_a_store_the_peer_has_a_minute),
        cmocka_unit_test(neither_is_given_up_while_both_are_out_of_reach),
        cmocka_unit_test(a_silent_peer_is_asked_again_where_the_store_has_none),
        cmocka_unit_test(a_peer_that_is_lost_is_asked_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
