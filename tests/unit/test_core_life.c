/* SPDX-License-Identifier: Apache-2.0 */
#include "core_dsl.h"

#define MANY 7u

/* The life of a job: launch, failures, restarts, ends. */

static void plain_job_runs_and_succeeds(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 4);
    w.total_steps = 200;
    assert_int_equal(submit(&w, "j", 2, 0, 2), TIDE_OK);
    assert_state(&w, "j", "pending");
    run(&w, 500);
    assert_state(&w, "j", "running");
    struct job *job = job_of(&w, "j");
    assert_int_equal(job->generation, 1);
    assert_true(job->all_started && job->all_stepped);
    assert_string_equal(job->nodes.items[0], "n1");
    assert_string_equal(job->nodes.items[1], "n2");
    assert_int_equal(w.applied[CMD_GEN_LAUNCH], 1);
    assert_true(explained(&w, "j", "all ranks make steps"));
    run(&w, 3000);
    assert_state(&w, "j", "succeeded");
    assert_int_equal(job_of(&w, "j")->exit_status, 0);
    assert_int_equal(w.applied[CMD_GEN_FAIL], 0);
    /* Nothing is left to do anywhere. */
    struct desired desired;
    assert_int_equal(desired_build(&w.state, &w.book, "n1", &desired, &w.err), TIDE_OK);
    assert_int_equal(desired.jobs.count, 0);
    codec_release(&desired_codec, &desired);
    world_release(&w);
}

static void ranks_that_end_well_early_are_no_failure(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 500);
    w.ranks[0].ends = true;
    run(&w, 3000);
    assert_state(&w, "j", "running");
    assert_true(explained(&w, "j", "1 of 2 ranks have finished"));
    w.ranks[1].ends = true;
    run(&w, 100);
    assert_state(&w, "j", "succeeded");
    world_release(&w);
}

static void desired_of_a_running_job_says_all(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 2);
    submit(&w, "j", 2, 1, 2);
    run(&w, 500);
    struct desired desired;
    assert_int_equal(desired_build(&w.state, &w.book, "n2", &desired, &w.err), TIDE_OK);
    assert_string_equal(desired.cluster, "cafe000000000001");
    assert_string_equal(desired.incarnation, "inc-n2-1");
    assert_int_equal(desired.jobs.count, 1);
    const struct assignment *a = &desired.jobs.items[0];
    assert_int_equal(a->run, RUN_START);
    assert_int_equal(a->generation, 1);
    assert_int_equal(a->node_rank, 1);
    assert_int_equal(a->peers.count, 2);
    assert_string_equal(a->peers.items[0].node, "n1");
    assert_string_equal(a->peers.items[0].pin, state_node(&w.state, "n1")->pin);
    assert_string_equal(a->peers.items[1].pin, state_node(&w.state, "n2")->pin);
    assert_string_not_equal(a->peers.items[0].pin, a->peers.items[1].pin);
    assert_string_equal(a->master_address, "10.0.0.1");
    assert_in_range(a->master_port, 20000, 29999);
    assert_int_equal(strlen(a->token), TIDE_TOKEN_CHARS);
    assert_string_equal(a->store, "file:///store");
    codec_release(&desired_codec, &desired);
    /* The spare is told to have nothing of it. */
    assert_int_equal(desired_build(&w.state, &w.book, "n3", &desired, &w.err), TIDE_OK);
    assert_int_equal(desired.jobs.count, 1);
    assert_int_equal(desired.jobs.items[0].run, RUN_STOP);
    assert_int_equal(desired.jobs.items[0].peers.count, 0);
    codec_release(&desired_codec, &desired);
    assert_int_equal(desired_build(&w.state, &w.book, "nobody", &desired, &w.err), TIDE_E_NOT_FOUND);
    world_release(&w);
}

static void killed_rank_restarts_the_job_where_it_was(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 1);
    submit(&w, "j", 3, 0, 1);
    run(&w, 1000);
    char token[TIDE_TOKEN_CHARS + 1];
    TEXT_SET(token, record_of(&w, "j")->token);
    w.ranks[2].signal = 9;
    run(&w, TICK_MS);
    struct job *job = job_of(&w, "j");
    assert_state(&w, "j", "restarting");
    assert_int_equal(job->generation, 2);
    assert_int_equal(record_of(&w, "j")->fence.count, 3);
    w.ranks[2].signal = 0;
    run(&w, 500);
    assert_state(&w, "j", "running");
    assert_int_equal(job->generation, 2);
    assert_int_equal(job->restarts, 1);
    assert_string_equal(job->nodes.items[2], "n3");
    assert_string_not_equal(record_of(&w, "j")->token, token);
    assert_int_equal(job->recoveries.count, 1);
    const struct recovery *recovery = &job->recoveries.items[0];
    assert_string_equal(recovery->text, "rank 2 on n3 was killed by signal 9 (SIGKILL)");
    assert_int_equal(recovery->rank, 2);
    assert_string_equal(recovery->node, "n3");
    assert_int_equal(recovery->cause, EVENT_RANK_EXITED);
    assert_in_range(recovery->fence_ms, 10, 50);
    assert_in_range(recovery->start_ms, 10, 50);
    assert_in_range(recovery->total_ms, 20, 200);
    assert_int_equal(recovery->restore_ms, 3);
    assert_true(recovery->from_step > 50);
    world_release(&w);
}

static void first_failure_is_named(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 2);
    submit(&w, "j", 2, 0, 2);
    run(&w, 500);
    /* Rank 3 died first; rank 0's end, seen in the same moment, is a consequence. */
    w.ranks[0].exit_code = 1;
    w.ranks[3].signal = 11;
    struct fake_job *job = &fake_of(&w, "n2")->jobs[0];
    job->reported[1] = true;
    job->ended_ns[1] = w.now_ns - 40 * NS_PER_MS;
    run(&w, TICK_MS);
    assert_text(job_of(&w, "j")->reason, "rank 3 on n2 was killed by signal 11 (SIGSEGV)");
    assert_in_range(job_of(&w, "j")->recoveries.items[0].detect_ms, 40, 60);
    world_release(&w);
}

static void lost_node_gives_its_place_to_the_spare(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 5, 1);
    submit(&w, "j", 4, 1, 1);
    run(&w, 1000);
    assert_int_equal(job_of(&w, "j")->spares.count, 1);
    assert_string_equal(job_of(&w, "j")->spares.items[0], "n5");
    fake_of(&w, "n2")->up = false;
    run(&w, 1500);
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->generation, 1);
    run(&w, 800);
    assert_state(&w, "j", "running");
    struct job *job = job_of(&w, "j");
    assert_int_equal(job->generation, 2);
    assert_string_equal(job->nodes.items[0], "n1");
    assert_string_equal(job->nodes.items[1], "n5");
    assert_string_equal(job->nodes.items[2], "n3");
    assert_int_equal(job->spares.count, 0);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_LOST);
    assert_int_equal(job->recoveries.items[0].cause, EVENT_NODE_LOST);
    assert_in_range(job->recoveries.items[0].detect_ms, 2000, 2100);
    assert_text(event_last(&w, "j", EVENT_LAUNCHED)->text, "n5 (in place of n2)");
    /* t=later: it is back, becomes the spare, and is told to have nothing older. */
    fake_of(&w, "n2")->up = true;
    run(&w, 300);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_READY);
    assert_string_equal(job->spares.items[0], "n2");
    assert_false(fake_of(&w, "n2")->jobs[0].alive);
    assert_int_equal(job->generation, 2);
    world_release(&w);
}

/* Of more nodes than can be told those that are new are. */
static void of_many_nodes_the_new_ones_are_told(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, MANY + 1, 1);
    submit(&w, "j", MANY, 1, 1);
    run(&w, 1000);
    assert_text(event_last(&w, "j", EVENT_LAUNCHED)->text, " and 1 more");
    char *last = mem_strdup(job_of(&w, "j")->nodes.items[MANY - 1]), *spare = mem_strdup(job_of(&w, "j")->spares.items[0]);
    char *want = mem_format("on %s (in place of %s), ", spare, last);
    fake_of(&w, last)->up = false;
    run(&w, 2500);
    assert_text(event_last(&w, "j", EVENT_LAUNCHED)->text, want);
    assert_text(event_last(&w, "j", EVENT_LAUNCHED)->text, " and 1 more");
    mem_free(last);
    mem_free(spare);
    mem_free(want);
    world_release(&w);
}

static void peers_that_fail_before_the_lease_ends_are_not_blamed(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 1);
    submit(&w, "j", 2, 1, 1);
    run(&w, 1000);
    fake_of(&w, "n1")->up = false;
    run(&w, 50);
    w.ranks[1].exit_code = 1;
    run(&w, TICK_MS);
    w.ranks[1].exit_code = 0;
    run(&w, 50);
    assert_state(&w, "j", "restarting");
    assert_true(explained(&w, "j", "waits for n1 to end the ranks of generation 1"));
    run(&w, 2500);
    assert_state(&w, "j", "running");
    const struct recovery *recovery = &job_of(&w, "j")->recoveries.items[0];
    assert_int_equal(recovery->cause, EVENT_NODE_LOST);
    assert_string_equal(recovery->node, "n1");
    assert_text(recovery->text, "rank 1 on n2 exited with status 1");
    world_release(&w);
}

static void without_a_spare_the_job_waits_and_says_for_what(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 500);
    fake_of(&w, "n2")->up = false;
    run(&w, 4000);
    assert_state(&w, "j", "pending");
    assert_text(job_of(&w, "j")->reason, "needs 2 with 1 free slot each, 1 is there; lost: n2");
    assert_int_equal(event_count(&w, "j", EVENT_WAITING), 1);
    assert_true(explained(&w, "j", "lost: n2"));
    run(&w, 3000);
    assert_int_equal(event_count(&w, "j", EVENT_WAITING), 1);
    node_new(&w, "n9", 1);
    run(&w, 300);
    assert_state(&w, "j", "running");
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n9");
    assert_string_equal(job_of(&w, "j")->reason, "");
    world_release(&w);
}

static void pending_job_starts_when_nodes_suffice(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    assert_int_equal(submit(&w, "j", 2, 1, 1), TIDE_OK);
    assert_text(w.outcome.text, "waits for nodes: needs 2");
    assert_int_equal(event_count(&w, "j", EVENT_WAITING), 1);
    world_nodes(&w, 1, 1);
    run(&w, 200);
    assert_state(&w, "j", "pending");
    assert_int_equal(event_count(&w, "j", EVENT_WAITING), 1);
    node_new(&w, "n2", 1);
    run(&w, 200);
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->spares.count, 0);
    node_new(&w, "n3", 1);
    run(&w, 50);
    assert_int_equal(job_of(&w, "j")->spares.count, 1);
    world_release(&w);
}

static void budget_of_restarts_is_kept(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 1, 1);
    struct command command = submission(&w, "j", 1, 0, 1);
    command.spec.max_restarts = 2;
    submit_this(&w, &command);
    for (int i = 0; i < 3; i++) {
        w.ranks[0].exit_code = 0;
        run(&w, 300);
        assert_state(&w, "j", "running");
        w.ranks[0].exit_code = 7;
        run(&w, TICK_MS);
    }
    assert_state(&w, "j", "stopping");
    run(&w, 500);
    assert_state(&w, "j", "failed");
    assert_int_equal(job_of(&w, "j")->restarts, 2);
    assert_int_equal(job_of(&w, "j")->exit_status, 7);
    assert_text(job_of(&w, "j")->reason, "rank 0 on n1 exited with status 7; all 2 restarts are used up");
    world_release(&w);
}

static void status_93_and_a_bad_program_are_final(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 300);
    w.ranks[1].exit_code = 1;
    w.ranks[0].exit_code = TIDE_EXIT_DO_NOT_RESTART;
    run(&w, 500);
    assert_state(&w, "j", "failed");
    assert_int_equal(job_of(&w, "j")->restarts, 0);
    assert_int_equal(job_of(&w, "j")->exit_status, 93);
    assert_text(job_of(&w, "j")->reason, "rank 0 on n1 exited with status 93, which asks not to be restarted");
    w.ranks[0] = w.ranks[1] = (struct fake_rank){.exec_failed = true, .exit_code = 127};
    submit(&w, "k", 1, 0, 1);
    run(&w, 1000);
    assert_state(&w, "k", "failed");
    assert_int_equal(w.applied[CMD_GEN_LAUNCH], 2);
    assert_text(job_of(&w, "k")->reason, "could not be executed");
    world_release(&w);
}

static void start_deadline_names_who_is_missing(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 2);
    struct command command = submission(&w, "j", 2, 0, 2);
    command.spec.start_deadline_ms = 3000;
    submit_this(&w, &command);
    w.ranks[2].stuck_start = w.ranks[3].stuck_start = true;
    run(&w, 2900);
    assert_state(&w, "j", "running");
    assert_int_equal(w.applied[CMD_GEN_STARTED], 0);
    assert_true(explained(&w, "j", "2 of 4 ranks are started; missing: rank 2 on n2, rank 3 on n2"));
    run(&w, 200);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_text(job_of(&w, "j")->recoveries.items[0].text, "not started within 3000 ms: rank 2 on n2, rank 3 on n2");
    world_release(&w);
}

static void cancel_stops_and_waits_for_the_nodes(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 500);
    fake_of(&w, "n2")->deaf = true;
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    assert_state(&w, "j", "stopping");
    struct desired desired;
    assert_int_equal(desired_build(&w.state, &w.book, "n1", &desired, &w.err), TIDE_OK);
    assert_int_equal(desired.jobs.items[0].run, RUN_STOP);
    assert_int_equal(desired.jobs.items[0].generation, 1);
    codec_release(&desired_codec, &desired);
    run(&w, 1000);
    assert_state(&w, "j", "stopping");
    assert_true(explained(&w, "j", "waits for n2 to end the ranks"));
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    fake_of(&w, "n2")->deaf = false;
    run(&w, 500);
    assert_state(&w, "j", "cancelled");
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_E_STATE);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "none", 0), TIDE_E_NOT_FOUND);
    world_release(&w);
}

static void cancel_does_not_wait_for_lost_nodes(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 500);
    fake_of(&w, "n2")->up = false;
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    run(&w, 1000);
    assert_state(&w, "j", "stopping");
    run(&w, 2000);
    assert_state(&w, "j", "cancelled");
    submit(&w, "k", 1, 0, 1);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "k", 0), TIDE_OK);
    assert_state(&w, "k", "cancelled");
    world_release(&w);
}

static void a_node_that_cannot_end_its_ranks_is_given_up(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 1);
    submit(&w, "j", 2, 1, 1);
    run(&w, 500);
    fake_of(&w, "n2")->deaf = true;
    w.ranks[0].exit_code = 1;
    run(&w, TICK_MS);
    w.ranks[0].exit_code = 0;
    run(&w, FENCE_DEADLINE_MS - 1000);
    assert_state(&w, "j", "restarting");
    run(&w, 2000);
    assert_state(&w, "j", "running");
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n3");
    assert_text(event_last(&w, "j", EVENT_NODE_LOST)->text, "it did not end generation 1 of job j within 60 s");
    world_release(&w);
}

static void gone_before_the_start_is_not_the_end(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 500);
    w.ranks[0].exit_code = 1;
    run(&w, TICK_MS);
    w.ranks[0].exit_code = 0;
    run(&w, TICK_MS); /* n1 and n2 report: generation 2, gone; then it is launched */
    fake_of(&w, "n1")->deaf = fake_of(&w, "n2")->deaf = true;
    run(&w, 3000);
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_int_equal(w.applied[CMD_JOB_FINISH], 0);
    assert_int_equal(w.applied[CMD_JOB_STOPPED], 0);
    world_release(&w);
}

/* The book still holds what a node said of generation 1 when generation 2 has been launched. */
static void late_reports_of_an_old_generation_count_for_nothing(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 500);
    bool changed;
    w.ranks[0].exit_code = 1;
    assert_int_equal(fake_beat(&w, fake_of(&w, "n1"), &changed), TIDE_OK);
    struct command command = verdict(&w, CMD_GEN_FAIL, "j");
    command.event.kind = EVENT_RANK_EXITED;
    assert_int_equal(world_apply(&w, &command), TIDE_OK);
    command.kind = CMD_GEN_LAUNCH;
    command.generation = 2;
    command.port = 20000;
    TEXT_SET(command.token, "0123");
    assert_int_equal(world_apply(&w, &command), TIDE_OK);
    settle(&w);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_state(&w, "j", "running");
    assert_false(job_of(&w, "j")->all_started);
    world_release(&w);
}

static void ranks_that_vanish_are_missed(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 500);
    /* The host was booted again: same state directory, a new incarnation, no ranks, and the note that they had started. */
    struct fake *n2 = fake_of(&w, "n2");
    TEXT_SET(n2->incarnation, "inc-n2-2");
    n2->jobs[0].alive = false;
    n2->jobs[0].ran = 0;
    n2->deaf = true;
    run(&w, 1000);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    run(&w, 1500);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_text(job_of(&w, "j")->reason, "not reported any more: rank 1 on n2");
    world_release(&w);
}

static void a_new_leader_gives_full_leases_and_goes_on(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 500);
    fake_of(&w, "n2")->up = false;
    run(&w, 1900);
    new_leader(&w);
    run(&w, 1900);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_READY);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    run(&w, 300);
    assert_int_equal(state_node(&w.state, "n2")->state, TIDE_NODE_LOST);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    world_release(&w);
}

static void who_stayed_in_his_process_is_told(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 2);
    submit(&w, "j", 2, 0, 2);
    run(&w, 500);
    assert_false(explained(&w, "j", "at the last restart"));
    w.ranks[0].born = w.ranks[1].born = w.ranks[3].born = 1;
    crash(&w, 2);
    run(&w, 1000);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_true(explained(&w, "j", "at the last restart ranks 0-1, 3 stayed in their processes, rank 2 was started anew"));
    /* The next one starts all of them anew. */
    memset(w.ranks, 0, sizeof w.ranks);
    crash(&w, 0);
    run(&w, 1000);
    assert_int_equal(job_of(&w, "j")->generation, 3);
    assert_false(explained(&w, "j", "at the last restart"));
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_job_runs_and_succeeds),
        cmocka_unit_test(ranks_that_end_well_early_are_no_failure),
        cmocka_unit_test(desired_of_a_running_job_says_all),
        cmocka_unit_test(killed_rank_restarts_the_job_where_it_was),
        cmocka_unit_test(first_failure_is_named),
        cmocka_unit_test(lost_node_gives_its_place_to_the_spare),
        cmocka_unit_test(of_many_nodes_the_new_ones_are_told),
        cmocka_unit_test(peers_that_fail_before_the_lease_ends_are_not_blamed),
        cmocka_unit_test(without_a_spare_the_job_waits_and_says_for_what),
        cmocka_unit_test(pending_job_starts_when_nodes_suffice),
        cmocka_unit_test(budget_of_restarts_is_kept),
        cmocka_unit_test(status_93_and_a_bad_program_are_final),
        cmocka_unit_test(start_deadline_names_who_is_missing),
        cmocka_unit_test(cancel_stops_and_waits_for_the_nodes),
        cmocka_unit_test(cancel_does_not_wait_for_lost_nodes),
        cmocka_unit_test(a_node_that_cannot_end_its_ranks_is_given_up),
        cmocka_unit_test(gone_before_the_start_is_not_the_end),
        cmocka_unit_test(late_reports_of_an_old_generation_count_for_nothing),
        cmocka_unit_test(ranks_that_vanish_are_missed),
        cmocka_unit_test(who_stayed_in_his_process_is_told),
        cmocka_unit_test(a_new_leader_gives_full_leases_and_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
