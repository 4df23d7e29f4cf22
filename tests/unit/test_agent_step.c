/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/agent_story.h"

/* Stories of generations: started, fenced, ended, found again. */

static void a_job_starts_runs_and_exits(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    ordered(&s);
    const struct agent_action *start = did(&s, ACT_START_STEP);
    assert_non_null(start);
    assert_string_equal(start->order->spec.name, "train");
    assert_int_equal(says(&s)->progress, GEN_STARTING);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 0, -1);
    assert_non_null(did(&s, ACT_HEARTBEAT));
    assert_int_equal(says(&s)->progress, GEN_RUNNING);
    assert_int_equal(says(&s)->ranks.count, 2);
    assert_int_equal(says(&s)->ranks.items[1].pid, 101);
    step_says(&s, 1, TIDE_RANK_EXITED, 0, -1);
    assert_non_null(did(&s, ACT_HEARTBEAT));
    step_gone(&s, 1);
    assert_int_equal(says(&s)->progress, GEN_GONE);
    assert_int_equal(says(&s)->ranks.items[0].state, TIDE_RANK_EXITED);
    assert_int_equal(says(&s)->ranks.items[0].signal, 0);
    assert_null(did(&s, ACT_REMOVE_STEP_DIR)); /* somebody may still ask how it ended */
    unassigned(&s);
    assert_non_null(did(&s, ACT_REMOVE_STEP_DIR));
    assert_non_null(did(&s, ACT_REMOVE_ARENA));
    assert_null(says(&s));
    assert_true(agent_idle(s.core));
    story_end(&s);
}

/* Ranks that have just been started are not as late as the last step that was ever made here. */
static void a_rank_stands_still_since_it_was_started(void **state)
{
    (void)state;
    struct story s;
    int32_t pids[4];
    size_t still = 7;
    story_begin(&s);
    assert_int_equal(agent_ranks(s.core, s.now_ns, pids, 4, &still), 0);
    assert_int_equal(still, 0);
    passes_ms(&s, 3600000);
    ordered(&s);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 0, -1);
    assert_int_equal(agent_ranks(s.core, s.now_ns, pids, 4, &still), 2);
    assert_int_equal(still, 0);
    passes_ms(&s, AGENT_STILL_FIRST_MS - 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 0, -1);
    agent_ranks(s.core, s.now_ns, pids, 4, &still);
    assert_int_equal(still, 0);
    passes_ms(&s, 1);
    agent_ranks(s.core, s.now_ns, pids, 4, &still);
    assert_int_equal(still, 2);
    struct agent_page page = page_at(1);
    page_is(&s, 1, 0, &page);
    agent_ranks(s.core, s.now_ns, pids, 4, &still);
    assert_int_equal(still, 0);
    assert_int_equal(agent_ranks_restoring(s.core), 0);
    page.phase = CONTROL_RESTORING;
    page_is(&s, 1, 1, &page);
    assert_int_equal(agent_ranks_restoring(s.core), 1);
    page.phase = CONTROL_STEPPING;
    page_is(&s, 1, 1, &page);
    assert_int_equal(agent_ranks_restoring(s.core), 0);
    story_end(&s);
}

static void the_same_desired_twice_does_nothing(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    ordered(&s);
    ordered(&s);
    assert_int_equal(s.did.count, 0);
    step_started(&s, 1);
    ordered(&s);
    assert_int_equal(s.did.count, 0);
    story_end(&s);
}

static void an_ended_generation_is_never_started_again(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    ordered(&s);
    step_started(&s, 1);
    step_gone(&s, 1);
    ordered(&s);
    passes_ms(&s, 60000);
    assert_null(did(&s, ACT_START_STEP));
    assert_int_equal(says(&s)->progress, GEN_GONE);
    /* Its ranks ended without a status: counted as killed. */
    assert_int_equal(says(&s)->ranks.items[0].signal, 9);
    story_end(&s);
}

static void an_older_generation_is_killed_before_the_next_starts(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 5);
    s.order.generation = 2;
    ordered(&s);
    const struct agent_action *end = did(&s, ACT_END_STEP);
    assert_non_null(end);
    assert_int_equal(end->generation, 1);
    assert_int_equal(end->grace_ms, 0);
    assert_null(did(&s, ACT_START_STEP));
    assert_int_equal(says(&s)->generation, 2);
    assert_int_equal(says(&s)->progress, GEN_STARTING);
    assert_int_equal(says(&s)->ranks.count, 0);
    /* It does not go: the kernel is asked, again and again. */
    passes_ms(&s, AGENT_KILL_AFTER_MS);
    assert_non_null(did(&s, ACT_KILL_STEP));
    assert_int_equal(did(&s, ACT_KILL_STEP)->generation, 1);
    passes_ms(&s, 100);
    assert_null(did(&s, ACT_KILL_STEP));
    passes_ms(&s, AGENT_KILL_AFTER_MS);
    assert_non_null(did(&s, ACT_KILL_STEP));
    step_gone(&s, 1);
    assert_non_null(did(&s, ACT_REMOVE_STEP_DIR));
    assert_int_equal(did(&s, ACT_REMOVE_STEP_DIR)->generation, 1);
    assert_non_null(did(&s, ACT_START_STEP));
    assert_int_equal(did(&s, ACT_START_STEP)->generation, 2);
    story_end(&s);
}

static void fencing_says_gone_only_when_all_is_gone(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 5);
    s.order.generation = 2;
    s.order.run = RUN_KILL;
    ordered(&s);
    assert_int_equal(says(&s)->progress, GEN_STOPPING);
    step_gone(&s, 1);
    assert_int_equal(says(&s)->progress, GEN_GONE);
    assert_int_equal(says(&s)->generation, 2);
    assert_non_null(did(&s, ACT_HEARTBEAT));
    /* An order from before the fence is refused, whatever revision it carries. */
    s.order.generation = 1;
    s.order.run = RUN_START;
    ordered(&s);
    assert_null(did(&s, ACT_START_STEP));
    assert_int_equal(says(&s)->generation, 2);
    assert_int_equal(says(&s)->progress, GEN_GONE);
    story_end(&s);
}

static void a_stop_gives_the_grace_of_the_job(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 5);
    s.order.spec.stop_grace_ms = 3000;
    s.order.run = RUN_STOP;
    ordered(&s);
    assert_int_equal(did(&s, ACT_END_STEP)->grace_ms, 3000);
    passes_ms(&s, 3000);
    assert_null(did(&s, ACT_KILL_STEP));
    s.order.run = RUN_KILL; /* somebody has lost patience */
    ordered(&s);
    assert_int_equal(did(&s, ACT_END_STEP)->grace_ms, 0);
    story_end(&s);
}

static void orders_of_others_change_nothing(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 5);
    desired_is(&s, NULL, "dddddddddddddddd", 99);
    assert_null(did(&s, ACT_END_STEP)); /* a wiped coordinator kills nothing */
    assert_non_null(did(&s, ACT_SAY));
    desired_is(&s, NULL, CLUSTER, 0);
    assert_int_equal(s.did.count, 0); /* an older revision */
    struct agent_event welcome = {.kind = EV_REGISTERED, .cluster = "dddddddddddddddd"};
    happens(&s, &welcome);
    desired_is(&s, NULL, "dddddddddddddddd", 100);
    assert_null(did(&s, ACT_END_STEP));
    assert_int_equal(says(&s)->progress, GEN_RUNNING);
    story_end(&s);
}

static void nobody_saying_anything_ends_nothing(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 5);
    passes_ms(&s, 3600 * 1000);
    assert_int_equal(s.did.count, 0);
    story_end(&s);
}

static void a_start_that_fails_is_tried_again_later(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    ordered(&s);
    struct agent_event failed = of_job(EV_STEP_FAILED, 1);
    failed.status = TIDE_E_NOSPACE;
    text_copy(failed.text, sizeof failed.text, "no space left");
    happens(&s, &failed);
    assert_string_equal(says(&s)->detail, "no space left");
    assert_int_equal(says(&s)->progress, GEN_STARTING);
    passes_ms(&s, AGENT_RETRY_MS_MIN - 1);
    assert_null(did(&s, ACT_START_STEP));
    passes_ms(&s, 1);
    assert_non_null(did(&s, ACT_START_STEP));
    happens(&s, &failed);
    passes_ms(&s, AGENT_RETRY_MS_MIN);
    assert_null(did(&s, ACT_START_STEP));
    passes_ms(&s, AGENT_RETRY_MS_MIN);
    assert_non_null(did(&s, ACT_START_STEP));
    story_end(&s);
}

static void found(struct story *s, uint64_t generation)
{
    struct step_spec spec = {.generation = generation};
    codec_copy(&job_spec_codec, &s->order.spec, &spec.job);
    text_copy(spec.uid, sizeof spec.uid, JOB_UID);
    happens(s, &(struct agent_event){.kind = EV_STEP_FOUND, .spec = &spec});
    codec_release(&step_spec_codec, &spec);
}

static void a_restarted_agent_finds_its_step_again(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    struct agent_held held = {.rank = 1, .slot = 0, .cut = 7};
    struct agent_event arena = of_job(EV_ARENA_FOUND, 3);
    text_copy(arena.job, sizeof arena.job, "train");
    arena.held = &held;
    arena.held_count = 1;
    happens(&s, &arena);
    found(&s, 3);
    step_says(&s, 3, TIDE_RANK_RUNNING, 0, -1);
    struct agent_page page = page_at(40);
    page_is(&s, 3, 1, &page);
    /* All of it is in the first heartbeat, before any desired state came. */
    const struct gen_report *report = says(&s);
    assert_string_equal(report->job, "train");
    assert_int_equal(report->generation, 3);
    assert_int_equal(report->progress, GEN_RUNNING);
    assert_int_equal(report->ranks.items[1].step, 40);
    assert_true(report->ranks.items[1].stepped);
    assert_int_equal(report->held.count, 1);
    assert_int_equal(report->held.items[0].cut, 7);
    s.order.generation = 3;
    ordered(&s);
    assert_null(did(&s, ACT_START_STEP));
    assert_null(did(&s, ACT_END_STEP));
    story_end(&s);
}

/* Whether a job stands still is measured by its own steps. */
static void a_job_that_stands_still(void **state)
{
    (void)state;
    struct story s;
    int32_t pids[4];
    size_t still = 7;
    story_begin(&s);
    ordered(&s);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 0, -1);
    struct agent_page page = page_at(1);
    page_is(&s, 1, 0, &page);
    agent_ranks(s.core, s.now_ns + (AGENT_STILL_FIRST_MS - 1) * NS_PER_MS, pids, 4, &still);
    assert_int_equal(still, 0); /* how long a step takes nobody knows */
    agent_ranks(s.core, s.now_ns + AGENT_STILL_FIRST_MS * NS_PER_MS, pids, 4, &still);
    assert_int_equal(still, 2);
    /* A step takes 3 s, but for the one with a checkpoint. */
    for (uint64_t step = 2; step < 9; step++) {
        s.now_ns += (step == 5 ? 90 : 3) * NS_PER_S;
        page = page_at(step);
        page_is(&s, 1, 0, &page);
    }
    agent_ranks(s.core, s.now_ns + 5999 * NS_PER_MS, pids, 4, &still);
    assert_int_equal(still, 0);
    assert_int_equal(agent_ranks(s.core, s.now_ns + 6000 * NS_PER_MS, pids, 4, &still), 2);
    assert_int_equal(still, 2);
    assert_int_equal(pids[0], 100);
    /* A rank that moves is one that moves, whoever is ahead. */
    s.now_ns += 5 * NS_PER_S;
    page = page_at(2);
    page_is(&s, 1, 1, &page);
    agent_ranks(s.core, s.now_ns + 5999 * NS_PER_MS, pids, 4, &still);
    assert_int_equal(still, 0);
    story_end(&s);
}

/* Also of a rank in a checkpoint: what it waits for is in its streams, and the others may wait for it. */
static void how_far_ranks_are_is_told_while_they_stand_still(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    ordered(&s);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 0, -1);
    struct control_progress progress = {
        .version = 2, .count = 1, .comms = {{.id = 0xabc, .begun = 61, .done = 60, .undone = 61, .size = 2}}};
    struct agent_page page = page_at(1);
    s.progress = &progress;
    page_is(&s, 1, 0, &page);
    assert_int_equal(says(&s)->ops.count, 0);
    passes_ms(&s, AGENT_STILL_FIRST_MS);
    page_is(&s, 1, 0, &page);
    assert_int_equal(says(&s)->ops.count, 1);
    assert_string_equal(says(&s)->ops.items[0].id, "0000000000000abc");
    assert_int_equal(says(&s)->ops.items[0].undone, 61);
    assert_false(says(&s)->ops.items[0].recording);
    page.armed_step = STEP_TAKEN;
    page_is(&s, 1, 0, &page);
    assert_int_equal(says(&s)->ops.count, 1);
    assert_true(says(&s)->ops.items[0].recording);
    progress.version = 3; /* it is being written */
    page_is(&s, 1, 0, &page);
    assert_int_equal(says(&s)->ops.count, 0);
    progress.version = 4;
    page = page_at(2);
    page_is(&s, 1, 0, &page);
    assert_int_equal(says(&s)->ops.count, 0);
    story_end(&s);
}

/* Steps of a few milliseconds: a moment is nothing. */
static void a_job_with_short_steps_stands_still_after_a_second(void **state)
{
    (void)state;
    struct story s;
    int32_t pids[4];
    size_t still = 7;
    story_begin(&s);
    ordered(&s);
    step_started(&s, 1);
    step_says(&s, 1, TIDE_RANK_RUNNING, 0, -1);
    for (uint64_t step = 50; step < 500; step += 50) {
        s.now_ns += 250 * NS_PER_MS;
        struct agent_page page = page_at(step);
        page_is(&s, 1, 1, &page);
    }
    agent_ranks(s.core, s.now_ns + (AGENT_STILL_MS - 1) * NS_PER_MS, pids, 4, &still);
    assert_int_equal(still, 0);
    agent_ranks(s.core, s.now_ns + AGENT_STILL_MS * NS_PER_MS, pids, 4, &still);
    assert_int_equal(still, 2);
    story_end(&s);
}

static void what_an_earlier_agent_began_is_not_begun_again(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    /* The arena's note says generation 2 was begun; of its step nothing is left. */
    struct agent_event arena = of_job(EV_ARENA_FOUND, 2);
    text_copy(arena.job, sizeof arena.job, "train");
    happens(&s, &arena);
    s.order.generation = 2;
    ordered(&s);
    assert_null(did(&s, ACT_START_STEP));
    assert_int_equal(says(&s)->progress, GEN_GONE);
    /* Nobody waits for it until it is late. */
    assert_non_null(did(&s, ACT_HEARTBEAT));
    assert_int_equal(says(&s)->ranks.count, 2);
    assert_int_equal(says(&s)->ranks.items[1].state, TIDE_RANK_EXITED);
    assert_string_equal(says(&s)->ranks.items[1].detail, "the agent was killed as it began to start it");
    passes_ms(&s, AGENT_RETRY_MS_MAX);
    assert_null(did(&s, ACT_START_STEP));
    assert_int_equal(says(&s)->ranks.count, 2);
    s.order.generation = 3;
    ordered(&s);
    assert_non_null(did(&s, ACT_START_STEP));
    story_end(&s);
}

static void remains_of_older_generations_go_first(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    found(&s, 1);
    found(&s, 2);
    assert_int_equal(did_times(&s, ACT_END_STEP), 1);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    s.order.generation = 3;
    ordered(&s);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 2);
    step_gone(&s, 2);
    assert_null(did(&s, ACT_START_STEP));
    step_gone(&s, 1);
    assert_non_null(did(&s, ACT_START_STEP));
    story_end(&s);
}

static void told_to_end_with_its_steps_it_starts_nothing(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 5);
    assert_int_equal(agent_grace_ms(s.core), SPEC_STOP_GRACE_MS_DEFAULT);
    s.order.spec.stop_grace_ms = 60000;
    ordered(&s);
    agent_end_all(s.core);
    passes_ms(&s, 1);
    assert_int_equal(did(&s, ACT_END_STEP)->grace_ms, 60000);
    assert_int_equal(agent_steps_left(s.core), 1);
    assert_int_equal(agent_grace_ms(s.core), 60000); /* the agent itself stays as long */
    step_gone(&s, 1);
    assert_int_equal(agent_steps_left(s.core), 0);
    assert_int_equal(agent_grace_ms(s.core), 0);
    s.order.generation = 2;
    ordered(&s);
    assert_null(did(&s, ACT_START_STEP));
    story_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_job_starts_runs_and_exits),
        cmocka_unit_test(a_rank_stands_still_since_it_was_started),
        cmocka_unit_test(the_same_desired_twice_does_nothing),
        cmocka_unit_test(an_ended_generation_is_never_started_again),
        cmocka_unit_test(an_older_generation_is_killed_before_the_next_starts),
        cmocka_unit_test(fencing_says_gone_only_when_all_is_gone),
        cmocka_unit_test(a_stop_gives_the_grace_of_the_job),
        cmocka_unit_test(orders_of_others_change_nothing),
        cmocka_unit_test(nobody_saying_anything_ends_nothing),
        cmocka_unit_test(a_start_that_fails_is_tried_again_later),
        cmocka_unit_test(a_restarted_agent_finds_its_step_again),
        cmocka_unit_test(a_job_that_stands_still),
        cmocka_unit_test(how_far_ranks_are_is_told_while_they_stand_still),
        cmocka_unit_test(a_job_with_short_steps_stands_still_after_a_second),
        cmocka_unit_test(what_an_earlier_agent_began_is_not_begun_again),
        cmocka_unit_test(remains_of_older_generations_go_first),
        cmocka_unit_test(told_to_end_with_its_steps_it_starts_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
