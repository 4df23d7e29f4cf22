/* SPDX-License-Identifier: Apache-2.0 */
#include "core_saves.h"

/* What becomes of sealed checkpoints: store, commit, retention, restore, rollback, loss. */

static void restart_takes_the_newest_from_memory(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    save_job(&w);
    fake_of(&w, "n1")->store_fails = fake_of(&w, "n2")->store_fails = true;
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 900);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_SEALED);
    uint64_t step = ckpt_of(&w, "j", 2)->step;
    crash(&w, 0);
    run(&w, 300);
    struct job *job = job_of(&w, "j");
    assert_int_equal(job->generation, 2);
    assert_int_equal(job->restore_cut, 2);
    assert_int_equal(job->recoveries.items[0].cut, 2);
    assert_int_equal(job->recoveries.items[0].to_step, step);
    assert_true(job->recoveries.items[0].from_step > step);
    assert_true(explained(&w, "j", "generation 2 started from checkpoint 2"));
    struct desired desired;
    assert_int_equal(desired_build(&w.state, &w.book, "n1", &desired, &w.err), TIDE_OK);
    assert_int_equal(desired.jobs.items[0].restore_generation, 1);
    assert_int_equal(desired.jobs.items[0].protect_cut, 2);
    assert_string_equal(desired.jobs.items[0].restore_manifest_key, "");
    codec_release(&desired_codec, &desired);
    world_release(&w);
}

static void run_is(struct world *w, const char *node, const char *job, unsigned run)
{
    struct desired desired;
    size_t at = 0;
    assert_int_equal(desired_build(&w->state, &w->book, node, &desired, &w->err), TIDE_OK);
    while (at < desired.jobs.count && strcmp(desired.jobs.items[at].spec.name, job) != 0)
        at++;
    assert_true(at < desired.jobs.count);
    assert_int_equal(desired.jobs.items[at].run, run);
    codec_release(&desired_codec, &desired);
}

/* It still holds what is being stored. No rank waits there to go over to the next generation, as its place is another's. */
static void a_node_that_only_stores_keeps_no_ranks(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 1, 0);
    save_job(&w);
    fake_of(&w, "n1")->store_fails = true;
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 900);
    assert_int_equal(node_order(&w, CMD_NODE_DRAIN, "n1"), TIDE_OK);
    crash(&w, 0);
    run(&w, 900);
    assert_string_equal(job_of(&w, "j")->nodes.items[0], "n2");
    assert_int_equal(record_of(&w, "j")->store_cut, 2);
    assert_int_equal(node_order(&w, CMD_NODE_RESUME, "n1"), TIDE_OK);
    assert_int_equal(submit(&w, "k", 1, 0, state_node(&w.state, "n1")->slots), TIDE_OK);
    run(&w, 300);
    run_is(&w, "n1", "k", RUN_START);
    run_is(&w, "n1", "j", RUN_STOP);
    world_release(&w);
}

static void sealed_cut_of_a_lost_node_is_not_restored(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 3, 2, 1);
    save_job(&w);
    fake_of(&w, "n1")->store_fails = fake_of(&w, "n2")->store_fails = true;
    save_job(&w);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_SEALED);
    fake_of(&w, "n2")->up = false;
    run(&w, 2500);
    struct job *job = job_of(&w, "j");
    assert_state(&w, "j", "running");
    assert_string_equal(job->nodes.items[1], "n3");
    assert_int_equal(job->restore_cut, 1);
    struct desired desired;
    assert_int_equal(desired_build(&w.state, &w.book, "n3", &desired, &w.err), TIDE_OK);
    assert_string_equal(desired.jobs.items[0].restore_manifest_key, "m/1");
    codec_release(&desired_codec, &desired);
    /* What nobody can restore any more is given up, and deleted where parts of it were stored. */
    run(&w, 2500);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_DROPPED);
    assert_text(ckpt_of(&w, "j", 2)->reason, "node n2 does not hold the part of rank 1");
    run(&w, 100);
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    world_release(&w);
}

static void what_a_node_does_not_hold_any_more_is_not_restored(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    save_job(&w);
    fake_of(&w, "n1")->store_fails = fake_of(&w, "n2")->store_fails = true;
    save_job(&w);
    memset(fake_of(&w, "n2")->jobs[0].held, 0, sizeof fake_of(&w, "n2")->jobs[0].held);
    crash(&w, 0);
    run(&w, 300);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    world_release(&w);
}

/* n2 was lost and is the spare now; what it holds is the newest again when n3, which took its place, is lost as well. */
static void a_spare_that_may_hold_the_newest_is_heard_first(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 3, 2, 1);
    for (int i = 1; i <= 3; i++)
        w.fakes[i - 1].store_fails = true;
    save_job(&w);
    fake_of(&w, "n2")->up = false;
    run(&w, 2200);
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n3");
    fake_of(&w, "n2")->up = true;
    run(&w, 3000);
    assert_string_equal(job_of(&w, "j")->spares.items[0], "n2");
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_SEALED);
    fake_of(&w, "n3")->up = false;
    fake_of(&w, "n1")->deaf = true; /* so that the generation is still being ended when the leader dies */
    run(&w, 2200);
    assert_state(&w, "j", "restarting");
    fake_of(&w, "n1")->deaf = fake_of(&w, "n2")->up = false;
    new_leader(&w);
    unsigned launches = w.applied[CMD_GEN_LAUNCH];
    run(&w, 1000);
    assert_int_equal(w.applied[CMD_GEN_LAUNCH], launches);
    assert_true(explained(&w, "j", "its nodes must say first which checkpoints they hold"));
    fake_of(&w, "n2")->up = true;
    run(&w, 100);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n2");
    world_release(&w);
}

/* Generation 2 still reads checkpoint 1 when checkpoint 2, recorded before, becomes durable. */
static void retention_spares_what_is_being_restored(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    struct command command = submission(&w, "j", 2, 0, 1);
    command.spec.ckpt_keep = 1;
    submit_this(&w, &command);
    run(&w, 1000);
    save_job(&w);
    fake_of(&w, "n2")->store_fails = true;
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 1000);
    assert_int_equal(record_of(&w, "j")->store_cut, 2);
    memset(fake_of(&w, "n1")->jobs[0].held, 0, sizeof fake_of(&w, "n1")->jobs[0].held);
    w.ranks[0].stuck_step = true;
    crash(&w, 0);
    run(&w, 100);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    struct command commit = command_new(&w, CMD_CKPT_COMMIT, "j");
    TEXT_SET(commit.uid, job_of(&w, "j")->uid);
    TEXT_SET(commit.key, "m/2");
    TEXT_SET(commit.digest, "feedfacefeedfacefeedfacefeedface");
    commit.generation = commit.cut = 2;
    assert_int_equal(world_apply(&w, &commit), TIDE_OK);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    /* When every rank has made a step it is not needed any more. */
    w.ranks[0].stuck_step = false;
    run(&w, 100);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_DROPPED);
    world_release(&w);
}

static void what_is_not_stored_is_told_until_one_is(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    save_job(&w);
    assert_false(explained(&w, "j", "nothing was stored since"));
    fake_of(&w, "n1")->store_fails = fake_of(&w, "n2")->store_fails = true;
    save_job(&w);
    run(&w, 10000);
    assert_true(explained(&w, "j", "training goes on, and nothing was stored since: checkpoint 2 was not stored (try 3 of 3"));
    fake_of(&w, "n1")->store_fails = fake_of(&w, "n2")->store_fails = false;
    save_job(&w);
    assert_int_equal(ckpt_of(&w, "j", 3)->state, TIDE_CKPT_COMMITTED);
    assert_false(explained(&w, "j", "nothing was stored since"));
    world_release(&w);
}

static void nothing_is_left_in_memory_when_the_job_ends(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    save_job(&w);
    fake_of(&w, "n2")->store_fails = true;
    save_job(&w);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    run(&w, 500);
    assert_state(&w, "j", "cancelled");
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_DROPPED);
    assert_text(ckpt_of(&w, "j", 2)->reason, "in memory only when the job ended");
    run(&w, 100);
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    world_release(&w);
}

static void job_without_a_spare_waits_for_the_node_that_holds_the_newest(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    fake_of(&w, "n1")->store_fails = fake_of(&w, "n2")->store_fails = true;
    save_job(&w);
    fake_of(&w, "n2")->up = false;
    run(&w, 6000);
    assert_state(&w, "j", "pending");
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_SEALED);
    /* Longer than a node may take to end its ranks: it was away, not slow. */
    run(&w, FENCE_DEADLINE_MS + 1000);
    unsigned lost = w.applied[CMD_NODE_LOST];
    fake_of(&w, "n2")->up = true;
    run(&w, 300);
    assert_state(&w, "j", "running");
    assert_int_equal(w.applied[CMD_NODE_LOST], lost);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    world_release(&w);
}

static void a_new_leader_hears_everybody_before_it_chooses(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    fake_of(&w, "n1")->store_fails = fake_of(&w, "n2")->store_fails = true;
    save_job(&w);
    /* The old leader ends generation 1 and is gone; n1 is heard at once, n2 a second later. */
    struct command fail = verdict(&w, CMD_GEN_FAIL, "j");
    fail.event.kind = EVENT_RANK_EXITED;
    TEXT_SET(fail.event.text, "rank 0 on n1 exited with status 1");
    assert_int_equal(world_apply(&w, &fail), TIDE_OK);
    fake_of(&w, "n2")->up = false;
    new_leader(&w);
    run(&w, 1000);
    assert_int_equal(w.applied[CMD_GEN_LAUNCH], 1);
    fake_of(&w, "n2")->up = true;
    run(&w, 100);
    assert_int_equal(w.applied[CMD_GEN_LAUNCH], 2);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    world_release(&w);
}

static void sealed_cut_of_the_old_generation_is_still_committed(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    while (job_of(&w, "j")->ckpts.count == 0 || ckpt_of(&w, "j", 1)->state == TIDE_CKPT_OPEN)
        run(&w, TICK_MS);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_SEALED);
    crash(&w, 1);
    run(&w, 500);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    const struct ckpt *ckpt = ckpt_of(&w, "j", 1);
    assert_int_equal(ckpt->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(ckpt->generation, 1);
    world_release(&w);
}

static void failing_store_is_tried_again_and_training_goes_on(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    fake_of(&w, "n2")->store_fails = true;
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 1500);
    assert_int_equal(record_of(&w, "j")->store_attempts, 1);
    const struct event *event = event_last(&w, "j", EVENT_STORE_FAILED);
    assert_text(event->text, "checkpoint 1 was not stored (try 1 of 3): rank 1 on n2: no space left on device");
    assert_string_equal(event->node, "n2");
    run(&w, 8000);
    assert_int_equal(event_count(&w, "j", EVENT_STORE_FAILED), 3);
    assert_int_equal(record_of(&w, "j")->store_cut, 0);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_SEALED);
    /* Whoever waits for it learns that it will not be stored. */
    assert_text(ckpt_of(&w, "j", 1)->reason, "memory only: rank 1 on n2: no space left on device");
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->generation, 1);
    /* The next one succeeds on its second try. */
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 1500);
    fake_of(&w, "n2")->store_fails = false;
    run(&w, 3000);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_COMMITTED);
    assert_string_equal(ckpt_of(&w, "j", 2)->reason, "");
    world_release(&w);
}

static void without_a_store_checkpoints_are_in_memory_only(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    struct command init = command_new(&w, CMD_CLUSTER_INIT, NULL);
    TEXT_SET(init.text, "cafe000000000001");
    assert_int_equal(world_apply(&w, &init), TIDE_OK);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 1000);
    save_job(&w);
    save_job(&w);
    save_job(&w);
    run(&w, 3000);
    assert_int_equal(w.applied[CMD_CKPT_STORED], 0);
    assert_int_equal(ckpt_of(&w, "j", 3)->state, TIDE_CKPT_SEALED);
    assert_text(ckpt_of(&w, "j", 3)->reason, "there is no store");
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_DROPPED);
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    crash(&w, 0);
    run(&w, 300);
    assert_int_equal(job_of(&w, "j")->restore_cut, 3);
    world_release(&w);
}

static void retention_keeps_the_newest_and_purges_the_rest(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 1, 1);
    struct command command = submission(&w, "j", 1, 0, 1);
    command.spec.ckpt_keep = 2;
    submit_this(&w, &command);
    run(&w, 1000);
    for (int i = 0; i < 4; i++)
        save_job(&w);
    assert_int_equal(ckpt_of(&w, "j", 4)->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(ckpt_of(&w, "j", 3)->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_DROPPED);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_DROPPED);
    assert_string_equal(ckpt_of(&w, "j", 1)->reason, "the 2 newest are kept");
    run(&w, 100);
    assert_int_equal(w.applied[CMD_CKPT_PURGED], 2);
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    world_release(&w);
}

static void drop_refuses_what_would_hurt(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    save_job(&w);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 9), TIDE_E_NOT_FOUND);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_E_STATE);
    assert_text(w.err.text, "is the only one job j could restart from");
    save_job(&w);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_OK);
    assert_int_equal(w.outcome.cut, 1);
    run(&w, 100);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_E_STATE);
    assert_text(w.err.text, "is dropped already: dropped by hand");
    struct command force = command_new(&w, CMD_CKPT_DROP, "j");
    force.cut = 2;
    force.force = true;
    assert_int_equal(world_apply(&w, &force), TIDE_OK);
    order(&w, CMD_CKPT_REQUEST, "j", 0);
    run(&w, TICK_MS);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 3), TIDE_E_STATE);
    assert_text(w.err.text, "is being recorded");
    run(&w, 1500);
    /* While a generation starts from it nobody may take it away, force or not. */
    w.ranks[0].stuck_step = true;
    crash(&w, 1);
    run(&w, 300);
    assert_int_equal(job_of(&w, "j")->restore_cut, 3);
    force.cut = 3;
    assert_int_equal(world_apply(&w, &force), TIDE_E_STATE);
    assert_text(w.err.text, "generation 2 of job j starts from checkpoint 3");
    world_release(&w);
}

static void rollback_goes_back_and_forgets_what_came_after(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 0), TIDE_E_NO_CHECKPOINT);
    assert_text(w.err.text, "tidemark ckpt save j");
    save_job(&w);
    save_job(&w);
    save_job(&w);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 7), TIDE_E_NOT_FOUND);
    assert_text(w.err.text, "the newest that can be restored is j/3");
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 2), TIDE_OK);
    assert_int_equal(w.outcome.cut, 2);
    assert_int_equal(w.outcome.generation, 2);
    assert_state(&w, "j", "restarting");
    assert_int_equal(ckpt_of(&w, "j", 3)->state, TIDE_CKPT_DROPPED);
    assert_string_equal(ckpt_of(&w, "j", 3)->reason, "rolled back to checkpoint 2");
    run(&w, 300);
    struct job *job = job_of(&w, "j");
    assert_state(&w, "j", "running");
    assert_int_equal(job->restore_cut, 2);
    assert_int_equal(job->restarts, 0);
    assert_int_equal(job->recoveries.items[0].cause, EVENT_ROLLBACK);
    assert_true(job->recoveries.items[0].from_step > job->recoveries.items[0].to_step);
    assert_int_equal(record_of(&w, "j")->rollback_cut, 0);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 3), TIDE_E_STATE);
    assert_text(w.err.text, "is dropped (rolled back to checkpoint 2)");
    /* By steps: the newest at or below. */
    struct command back = command_new(&w, CMD_JOB_ROLLBACK, "j");
    back.step = ckpt_of(&w, "j", 2)->step - 1;
    assert_int_equal(world_apply(&w, &back), TIDE_OK);
    assert_int_equal(w.outcome.cut, 1);
    run(&w, 300);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    back.step = 1;
    assert_int_equal(world_apply(&w, &back), TIDE_E_NO_CHECKPOINT);
    world_release(&w);
}

static void rollback_of_a_waiting_or_ended_job(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    save_job(&w);
    save_job(&w);
    fake_of(&w, "n2")->up = false;
    run(&w, 3000);
    assert_state(&w, "j", "pending");
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 1), TIDE_OK);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_E_STATE);
    fake_of(&w, "n2")->up = true;
    run(&w, 300);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 1), TIDE_E_STATE);
    run(&w, 500);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 1), TIDE_E_STATE);
    assert_text(w.err.text, "has ended (cancelled)");
    /* The committed one stays in the store; nothing in memory does. */
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_OK);
    run(&w, 100);
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    world_release(&w);
}

static void corrupt_checkpoint_falls_back_to_an_older_one(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    save_job(&w);
    save_job(&w);
    w.ranks[1].corrupt = true;
    w.ranks[0].stuck_step = true;
    crash(&w, 0);
    while (job_of(&w, "j")->generation < 3)
        run(&w, TICK_MS);
    w.ranks[1].corrupt = false;
    w.ranks[0].stuck_step = false;
    run(&w, 300);
    struct job *job = job_of(&w, "j");
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_CORRUPT);
    assert_text(ckpt_of(&w, "j", 2)->reason, "rank 1 on n2 found no valid copy of its part: chunk 3 is bad in every tier");
    assert_int_equal(job->generation, 3);
    assert_int_equal(job->restore_cut, 1);
    assert_int_equal(job->restarts, 1);
    assert_int_equal(job->recoveries.items[1].cause, EVENT_CORRUPT);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 2), TIDE_E_STATE);
    world_release(&w);
}

static void memory_that_is_gone_is_no_corruption(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    save_job(&w);
    fake_of(&w, "n1")->store_fails = fake_of(&w, "n2")->store_fails = true;
    save_job(&w);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_SEALED);
    /* n2 said that it holds its part, and does not by the time its rank asks for it. */
    w.ranks[1].corrupt = w.ranks[0].stuck_step = true;
    crash(&w, 0);
    while (job_of(&w, "j")->generation < 3)
        run(&w, TICK_MS);
    w.ranks[1].corrupt = w.ranks[0].stuck_step = false;
    run(&w, 300);
    const struct job *job = job_of(&w, "j");
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_DROPPED);
    assert_int_equal(event_count(&w, "j", EVENT_CORRUPT), 0);
    assert_int_equal(job->recoveries.items[1].cause, EVENT_NOTE);
    assert_int_equal(job->restore_cut, 1);
    assert_int_equal(job->restarts, 1);
    world_release(&w);
}

static void a_slow_store_is_waited_for_while_shards_arrive(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 3, 3, 0);
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    while (job_of(&w, "j")->ckpts.count == 0 || ckpt_of(&w, "j", 1)->state == TIDE_CKPT_OPEN)
        run(&w, TICK_MS);
    fake_of(&w, "n2")->deaf = fake_of(&w, "n3")->deaf = true;
    for (int n = 2; n <= 3; n++) {
        run(&w, STORE_DEADLINE_MS - 100000);
        assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_SEALED);
        w.fakes[n - 1].deaf = false;
    }
    run(&w, 500);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    assert_null(event_last(&w, "j", EVENT_STORE_FAILED));
    world_release(&w);
}

static void storing_has_a_deadline_and_names_who_is_missing(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    w.slots = 0; /* agents from before there could be a third do not say how many there are */
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    while (job_of(&w, "j")->ckpts.count == 0 || ckpt_of(&w, "j", 1)->state == TIDE_CKPT_OPEN)
        run(&w, TICK_MS);
    fake_of(&w, "n2")->deaf = true;
    run(&w, 100);
    assert_true(explained(&w, "j", "is being stored: 1 of 2 ranks; missing: rank 1 on n2"));
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    assert_true(explained(&w, "j", "it opens when checkpoint 1 is stored"));
    run(&w, 1000);
    assert_int_equal(job_of(&w, "j")->next_cut, 2);
    run(&w, STORE_DEADLINE_MS - 1500);
    assert_null(event_last(&w, "j", EVENT_STORE_FAILED));
    run(&w, 1000);
    assert_text(event_last(&w, "j", EVENT_STORE_FAILED)->text, "not done within 600 s: rank 1 on n2");
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(restart_takes_the_newest_from_memory),
        cmocka_unit_test(a_node_that_only_stores_keeps_no_ranks),
        cmocka_unit_test(sealed_cut_of_a_lost_node_is_not_restored),
        cmocka_unit_test(what_a_node_does_not_hold_any_more_is_not_restored),
        cmocka_unit_test(a_spare_that_may_hold_the_newest_is_heard_first),
        cmocka_unit_test(retention_spares_what_is_being_restored),
        cmocka_unit_test(what_is_not_stored_is_told_until_one_is),
        cmocka_unit_test(nothing_is_left_in_memory_when_the_job_ends),
        cmocka_unit_test(job_without_a_spare_waits_for_the_node_that_holds_the_newest),
        cmocka_unit_test(a_new_leader_hears_everybody_before_it_chooses),
        cmocka_unit_test(sealed_cut_of_the_old_generation_is_still_committed),
        cmocka_unit_test(failing_store_is_tried_again_and_training_goes_on),
        cmocka_unit_test(without_a_store_checkpoints_are_in_memory_only),
        cmocka_unit_test(retention_keeps_the_newest_and_purges_the_rest),
        cmocka_unit_test(drop_refuses_what_would_hurt),
        cmocka_unit_test(rollback_goes_back_and_forgets_what_came_after),
        cmocka_unit_test(rollback_of_a_waiting_or_ended_job),
        cmocka_unit_test(corrupt_checkpoint_falls_back_to_an_older_one),
        cmocka_unit_test(memory_that_is_gone_is_no_corruption),
        cmocka_unit_test(a_slow_store_is_waited_for_while_shards_arrive),
        cmocka_unit_test(storing_has_a_deadline_and_names_who_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
