/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/agent_cut_story.h"

/* A generation fails, and ranks of it that are still there go over to the next in their processes (agent/step/README.md). */

/* Generation 1 runs; rank 0 has asked to stay. */
static void begins(struct story *s)
{
    struct agent_page page = page_at(10);
    story_begin(s);
    s->order.spec.launcher = LAUNCHER_NONE;
    ordered(s);
    step_started(s, 1);
    step_says(s, 1, TIDE_RANK_RUNNING, 0, -1);
    page_is(s, 1, 1, &page);
    page.stays = true;
    page_is(s, 1, 0, &page);
}

/* Rank 1 has ended; told to leave, rank 0 has. */
static void says_left(struct story *s, uint64_t generation)
{
    struct step_status status = {.generation = generation, .started = true, .left = true};
    text_copy(status.uid, sizeof status.uid, JOB_UID);
    for (uint32_t rank = 0; rank < 2; rank++) {
        struct rank_report *report = codec_list_add(&rank_report_codec, &status.ranks);
        *report = (struct rank_report){.rank = rank, .pid = 100 + (int32_t)rank, .signal = rank == 1 ? 9 : 0};
        report->state = rank == 1 ? TIDE_RANK_EXITED : TIDE_RANK_RUNNING;
    }
    happens(s, &(struct agent_event){.kind = EV_STEP_STATUS, .step_status = &status});
    codec_release(&step_status_codec, &status);
}

static void generation_is(struct story *s, uint64_t generation, unsigned run)
{
    s->order.generation = generation;
    s->order.run = run;
    ordered(s);
}

static void is_left(struct story *s)
{
    begins(s);
    generation_is(s, 2, RUN_KILL);
    says_left(s, 1);
}

static void who_has_asked_leaves_and_goes_over(void **state)
{
    (void)state;
    struct story s;
    begins(&s);
    generation_is(&s, 2, RUN_KILL);
    assert_int_equal(did(&s, ACT_LEAVE_STEP)->generation, 1);
    assert_null(did(&s, ACT_END_STEP));
    assert_int_equal(says(&s)->progress, GEN_STOPPING);
    says_left(&s, 1);
    assert_int_equal(says(&s)->progress, GEN_GONE);
    assert_null(did(&s, ACT_START_STEP));
    generation_is(&s, 2, RUN_START);
    const struct agent_action *start = did(&s, ACT_START_STEP);
    assert_true(start != NULL && start->generation == 2 && start->from == 1);
    assert_null(did(&s, ACT_REMOVE_STEP_DIR));
    step_started(&s, 2);
    assert_null(did(&s, ACT_REMOVE_STEP_DIR));
    step_says(&s, 2, TIDE_RANK_RUNNING, 0, -1);
    assert_int_equal(says(&s)->progress, GEN_RUNNING);
    story_end(&s);
}

static void where_nobody_has_asked_all_are_ended(void **state)
{
    (void)state;
    struct story s;
    story_runs(&s, 10);
    s.order.spec.launcher = LAUNCHER_NONE;
    generation_is(&s, 2, RUN_KILL);
    assert_null(did(&s, ACT_LEAVE_STEP));
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    story_end(&s);
}

static void ranks_of_mpi_do_not_stay(void **state)
{
    (void)state;
    struct story s;
    begins(&s);
    s.order.spec.launcher = LAUNCHER_PMIX;
    generation_is(&s, 2, RUN_KILL);
    assert_null(did(&s, ACT_LEAVE_STEP));
    assert_non_null(did(&s, ACT_END_STEP));
    story_end(&s);
}

static void a_step_that_does_not_leave_is_ended(void **state)
{
    (void)state;
    struct story s;
    begins(&s);
    generation_is(&s, 2, RUN_KILL);
    passes_ms(&s, AGENT_LEAVE_MS - 1);
    assert_null(did(&s, ACT_END_STEP));
    passes_ms(&s, 1);
    assert_int_equal(did(&s, ACT_END_STEP)->grace_ms, 0);
    assert_int_equal(says(&s)->progress, GEN_STOPPING);
    passes_ms(&s, AGENT_KILL_AFTER_MS);
    assert_int_equal(did(&s, ACT_KILL_STEP)->generation, 1);
    says_left(&s, 1); /* too late */
    assert_int_equal(says(&s)->progress, GEN_STOPPING);
    story_end(&s);
}

static void in_another_place_it_is_started_anew(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    struct peer *peer = codec_list_add(&peer_codec, &s.order.peers);
    text_copy(peer->node, sizeof peer->node, "n2");
    s.order.node_rank = 1;
    generation_is(&s, 2, RUN_START);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    assert_null(did(&s, ACT_START_STEP));
    assert_int_equal(says(&s)->progress, GEN_STARTING);
    step_gone(&s, 1);
    assert_true(did(&s, ACT_START_STEP) != NULL && did(&s, ACT_START_STEP)->from == 0);
    story_end(&s);
}

/* As many ranks as before here, and fewer in all: what a rank keeps of the state is another part of it. */
static void of_another_size_it_is_started_anew(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    struct peer *peer = codec_list_add(&peer_codec, &s.order.peers);
    text_copy(peer->node, sizeof peer->node, "n2");
    generation_is(&s, 2, RUN_START);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    assert_null(did(&s, ACT_START_STEP));
    story_end(&s);
}

/* Fewer of it here. */
static void with_other_ranks_it_is_started_anew(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    s.order.spec.nproc_per_node = 1;
    generation_is(&s, 2, RUN_START);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    assert_null(did(&s, ACT_START_STEP));
    story_end(&s);
}

/* Where the next generation has begun already nobody can go over to it any more. */
static void what_has_begun_is_not_waited_for(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    s.order.started = true;
    generation_is(&s, 2, RUN_START);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    assert_null(did(&s, ACT_START_STEP));
    story_end(&s);
}

static void an_agent_that_ends_its_steps_keeps_nobody(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    agent_end_all(s.core);
    passes_ms(&s, 1);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    story_end(&s);
}

static void who_has_asked_and_has_ended_is_not_waited_for(void **state)
{
    (void)state;
    struct story s;
    begins(&s);
    step_says(&s, 1, TIDE_RANK_EXITED, 0, -1);
    generation_is(&s, 2, RUN_KILL);
    assert_null(did(&s, ACT_LEAVE_STEP));
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    story_end(&s);
}

/* It was armed for a record that will not come. */
static void the_slot_of_who_has_left_is_free(void **state)
{
    (void)state;
    struct story s;
    begins(&s);
    open_cut(&s, 1, 1, 20);
    armed(&s, 0, 1, 1, ARM_ARMED, 0);
    s.order.cut.phase = CUT_PHASE_NONE;
    generation_is(&s, 2, RUN_KILL);
    assert_null(did(&s, ACT_LOOK));
    says_left(&s, 1);
    assert_non_null(did(&s, ACT_LOOK));
    story_end(&s);
}

static void nobody_waits_for_the_next_generation_for_ever(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    passes_ms(&s, AGENT_STAY_MS - 1);
    assert_null(did(&s, ACT_END_STEP));
    passes_ms(&s, 1);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    assert_int_equal(says(&s)->progress, GEN_STOPPING);
    step_gone(&s, 1);
    assert_int_equal(says(&s)->progress, GEN_GONE);
    generation_is(&s, 2, RUN_START);
    assert_int_equal(did(&s, ACT_START_STEP)->from, 0);
    story_end(&s);
}

static void what_cannot_go_over_is_ended_and_started_anew(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    generation_is(&s, 2, RUN_START);
    struct agent_event failed = of_job(EV_STEP_FAILED, 2);
    happens(&s, &failed);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    passes_ms(&s, AGENT_RETRY_MS_MIN);
    assert_null(did(&s, ACT_START_STEP));
    step_gone(&s, 1);
    assert_true(did(&s, ACT_START_STEP) != NULL && did(&s, ACT_START_STEP)->from == 0);
    story_end(&s);
}

static void the_last_of_it_may_die_while_it_waits(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    step_gone(&s, 1);
    assert_non_null(did(&s, ACT_REMOVE_STEP_DIR));
    generation_is(&s, 2, RUN_START);
    assert_int_equal(did(&s, ACT_START_STEP)->from, 0);
    story_end(&s);
}

static void a_job_that_is_cancelled_keeps_nobody(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    generation_is(&s, 2, RUN_STOP);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    assert_int_equal(says(&s)->progress, GEN_STOPPING);
    story_end(&s);
}

static void a_node_without_a_part_keeps_nobody(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    unassigned(&s);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    story_end(&s);
}

/* The leader was told that they are gone, and gives their place to another job. */
static void who_gets_their_place_waits_until_they_are_ended(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    struct agent_event gone = of_job(EV_STEP_GONE, 1);
    text_copy(s.order.uid, sizeof s.order.uid, "fedcba9876543210");
    text_copy(s.order.spec.name, sizeof s.order.spec.name, "other");
    generation_is(&s, 1, RUN_START);
    assert_int_equal(did(&s, ACT_END_STEP)->grace_ms, 0);
    assert_null(did(&s, ACT_START_STEP));
    passes_ms(&s, AGENT_KILL_AFTER_MS);
    assert_null(did(&s, ACT_START_STEP));
    happens(&s, &gone);
    assert_true(did(&s, ACT_START_STEP) != NULL && strcmp(did(&s, ACT_START_STEP)->uid, s.order.uid) == 0);
    story_end(&s);
}

/* The same where that job has ended, and is listed for what of it is in the store. */
static void who_gets_the_place_of_a_job_that_has_ended_waits_too(void **state)
{
    (void)state;
    struct story s;
    struct desired both = {.cluster = CLUSTER, .node = "n1", .incarnation = INCARNATION};
    is_left(&s);
    both.revision = ++s.revision;
    s.order.generation = 2;
    s.order.ended = true;
    codec_copy(&assignment_codec, &s.order, codec_list_add(&assignment_codec, &both.jobs));
    s.order.ended = false;
    s.order.run = RUN_START;
    text_copy(s.order.uid, sizeof s.order.uid, "fedcba9876543210");
    text_copy(s.order.spec.name, sizeof s.order.spec.name, "other");
    codec_copy(&assignment_codec, &s.order, codec_list_add(&assignment_codec, &both.jobs));
    happens(&s, &(struct agent_event){.kind = EV_DESIRED, .desired = &both});
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    assert_null(did(&s, ACT_START_STEP));
    step_gone(&s, 1);
    assert_string_equal(did(&s, ACT_START_STEP)->uid, s.order.uid);
    codec_release(&desired_codec, &both);
    story_end(&s);
}

/* The order to end it has crossed its going over: what was left is no more, and nobody waits for it. */
static void who_is_to_end_while_it_goes_over_has_gone_over(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    generation_is(&s, 2, RUN_START);
    assert_int_equal(did(&s, ACT_START_STEP)->from, 1);
    generation_is(&s, 2, RUN_STOP);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 1);
    step_started(&s, 2);
    assert_int_equal(did(&s, ACT_END_STEP)->generation, 2);
    step_gone(&s, 2);
    assert_int_equal(says(&s)->progress, GEN_GONE);
    passes_ms(&s, 10 * AGENT_KILL_AFTER_MS);
    assert_null(did(&s, ACT_KILL_STEP));
    story_end(&s);
}

/* The next generation fails before it began here. */
static void it_goes_over_to_whatever_is_newest(void **state)
{
    (void)state;
    struct story s;
    is_left(&s);
    generation_is(&s, 3, RUN_KILL);
    assert_int_equal(says(&s)->progress, GEN_GONE);
    generation_is(&s, 3, RUN_START);
    assert_true(did(&s, ACT_START_STEP)->generation == 3 && did(&s, ACT_START_STEP)->from == 1);
    story_end(&s);
}

static void found(struct story *s, uint64_t generation, uint64_t born, bool stays)
{
    struct step_spec spec = {.generation = generation, .born = born};
    text_copy(spec.uid, sizeof spec.uid, JOB_UID);
    text_copy(spec.job.name, sizeof spec.job.name, "train");
    spec.job.nproc_per_node = 2;
    struct peer *peer = codec_list_add(&peer_codec, &spec.peers);
    text_copy(peer->node, sizeof peer->node, "n1");
    happens(s, &(struct agent_event){.kind = EV_STEP_FOUND, .spec = &spec, .stays = stays});
    codec_release(&step_spec_codec, &spec);
}

static void an_agent_that_comes_back_finds_who_has_left(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    s.order.spec.launcher = LAUNCHER_NONE;
    found(&s, 1, 0, true);
    says_left(&s, 1);
    generation_is(&s, 2, RUN_START);
    assert_int_equal(did(&s, ACT_START_STEP)->from, 1);
    story_end(&s);
}

/* Its predecessor has noted that 2 was begun, and died before it told the step; or before the step did it. Either way it begins once. */
static void an_agent_that_comes_back_ends_what_was_begun(void **state)
{
    (void)state;
    struct story s;
    struct agent_event note = of_job(EV_ARENA_FOUND, 2);
    story_begin(&s);
    s.order.spec.launcher = LAUNCHER_NONE;
    text_copy(note.job, sizeof note.job, "train");
    happens(&s, &note);
    found(&s, 1, 0, true);
    assert_int_equal(did(&s, ACT_LEAVE_STEP)->generation, 1);
    generation_is(&s, 2, RUN_START);
    assert_null(did(&s, ACT_START_STEP));
    says_left(&s, 1);
    assert_true(did(&s, ACT_START_STEP) != NULL && did(&s, ACT_START_STEP)->from == 1);
    step_started(&s, 2);
    step_gone(&s, 2);
    passes_ms(&s, AGENT_RETRY_MS_MAX);
    assert_null(did(&s, ACT_START_STEP));
    story_end(&s);
}

/* Its directory said 1 a moment before the step went over. */
static void an_agent_that_comes_back_finds_who_has_gone_over(void **state)
{
    (void)state;
    struct story s;
    story_begin(&s);
    s.order.spec.launcher = LAUNCHER_NONE;
    found(&s, 1, 0, true);
    found(&s, 2, 1, true);
    generation_is(&s, 2, RUN_START);
    assert_null(did(&s, ACT_START_STEP));
    assert_null(did(&s, ACT_REMOVE_STEP_DIR));
    step_says(&s, 2, TIDE_RANK_RUNNING, 0, -1);
    assert_int_equal(says(&s)->progress, GEN_RUNNING);
    story_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_asked_leaves_and_goes_over),
        cmocka_unit_test(where_nobody_has_asked_all_are_ended),
        cmocka_unit_test(ranks_of_mpi_do_not_stay),
        cmocka_unit_test(a_step_that_does_not_leave_is_ended),
        cmocka_unit_test(in_another_place_it_is_started_anew),
        cmocka_unit_test(of_another_size_it_is_started_anew),
        cmocka_unit_test(with_other_ranks_it_is_started_anew),
        cmocka_unit_test(what_has_begun_is_not_waited_for),
        cmocka_unit_test(an_agent_that_ends_its_steps_keeps_nobody),
        cmocka_unit_test(who_has_asked_and_has_ended_is_not_waited_for),
        cmocka_unit_test(the_slot_of_who_has_left_is_free),
        cmocka_unit_test(who_gets_the_place_of_a_job_that_has_ended_waits_too),
        cmocka_unit_test(nobody_waits_for_the_next_generation_for_ever),
        cmocka_unit_test(what_cannot_go_over_is_ended_and_started_anew),
        cmocka_unit_test(the_last_of_it_may_die_while_it_waits),
        cmocka_unit_test(a_job_that_is_cancelled_keeps_nobody),
        cmocka_unit_test(a_node_without_a_part_keeps_nobody),
        cmocka_unit_test(who_gets_their_place_waits_until_they_are_ended),
        cmocka_unit_test(who_is_to_end_while_it_goes_over_has_gone_over),
        cmocka_unit_test(it_goes_over_to_whatever_is_newest),
        cmocka_unit_test(an_agent_that_comes_back_finds_who_has_left),
        cmocka_unit_test(an_agent_that_comes_back_finds_who_has_gone_over),
        cmocka_unit_test(an_agent_that_comes_back_ends_what_was_begun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
