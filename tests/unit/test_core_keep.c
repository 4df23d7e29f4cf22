/* SPDX-License-Identifier: Apache-2.0 */
#include "core_saves.h"

/* Which checkpoints are kept, for how long the others can be taken back, and that nothing is deleted before. */

#include "ckpt/format/retain.h"

#define GRACE_MS 10000u

static void start_with(struct world *w, uint32_t keep, uint32_t every, uint64_t grace_ms)
{
    world_init(w);
    world_nodes(w, 1, 1);
    struct command command = submission(w, "j", 1, 0, 1);
    command.spec.ckpt_keep = keep;
    command.spec.ckpt_keep_every = every;
    command.spec.ckpt_grace_ms = grace_ms;
    assert_int_equal(submit_this(w, &command), TIDE_OK);
    run(w, 1000);
}

static enum tide_status hold(struct world *w, uint64_t cut, uint64_t ms)
{
    struct command command = command_new(w, CMD_CKPT_PIN, "j");
    command.cut = cut;
    command.ms = ms;
    return world_apply(w, &command);
}

static void expect_state(struct world *w, uint64_t cut, unsigned state)
{
    assert_string_equal(ckpt_state_names[ckpt_of(w, "j", cut)->state], ckpt_state_names[state]);
}

static void what_the_rule_does_not_keep_is_deleted_when_its_grace_is_over(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, GRACE_MS);
    commit_job(&w);
    expect_state(&w, 1, TIDE_CKPT_COMMITTED);
    commit_job(&w);
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    assert_text(event_last(&w, "j", EVENT_CONDEMNED)->text, "will be deleted in 10 s: the 1 newest are kept");
    run(&w, GRACE_MS - 3000);
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    assert_int_equal(w.applied[CMD_CKPT_PURGED], 0);
    /* A new leader has not seen how long it waits, and gives it all its grace again. */
    new_leader(&w);
    run(&w, GRACE_MS - 1000);
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    run(&w, 2000);
    expect_state(&w, 1, TIDE_CKPT_DROPPED);
    assert_int_equal(w.applied[CMD_CKPT_EXPIRE], 1);
    assert_int_equal(w.applied[CMD_CKPT_PURGED], 1);
    world_release(&w);
}

static void one_in_so_many_is_kept(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 3, 1);
    for (int i = 0; i < 8; i++)
        commit_job(&w);
    run(&w, 100);
    for (uint64_t cut = 1; cut <= 8; cut++)
        expect_state(&w, cut, cut == 3 || cut == 6 || cut == 8 ? TIDE_CKPT_COMMITTED : TIDE_CKPT_DROPPED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "the 1 newest are kept, and one in 3");
    world_release(&w);
}

static void pinned_ones_stay_until_they_are_unpinned(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, 1);
    commit_job(&w);
    assert_int_equal(order(&w, CMD_CKPT_PIN, "j", 1), TIDE_OK);
    assert_text(w.outcome.text, "is kept until it is unpinned");
    commit_job(&w);
    commit_job(&w);
    run(&w, 100);
    expect_state(&w, 1, TIDE_CKPT_COMMITTED);
    expect_state(&w, 2, TIDE_CKPT_DROPPED);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_E_STATE);
    assert_text(w.err.text, "j/1 is pinned; tidemark ckpt unpin j/1 first");
    assert_int_equal(order(&w, CMD_CKPT_UNPIN, "j", 1), TIDE_OK);
    assert_text(w.outcome.text, "it is condemned: the 1 newest are kept");
    run(&w, 100);
    expect_state(&w, 1, TIDE_CKPT_DROPPED);
    assert_int_equal(order(&w, CMD_CKPT_UNPIN, "j", 3), TIDE_E_STATE);
    assert_int_equal(order(&w, CMD_CKPT_UNPIN, "j", 9), TIDE_E_NOT_FOUND);
    assert_int_equal(order(&w, CMD_CKPT_PIN, "j", 1), TIDE_E_STATE);
    assert_text(w.err.text, "j/1 is dropped; only committed ones can be kept");
    world_release(&w);
}

static void a_hold_ends_by_itself(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, 1);
    commit_job(&w);
    assert_int_equal(hold(&w, 1, UINT64_MAX), TIDE_E_LIMIT);
    assert_int_equal(hold(&w, 1, 20000), TIDE_OK);
    uint64_t until_ms = ckpt_of(&w, "j", 1)->held_until_ms;
    commit_job(&w);
    commit_job(&w);
    /* Not for a new leader, either: it is a date. */
    new_leader(&w);
    while (w.wall_ms + 100 < until_ms)
        run(&w, 50);
    expect_state(&w, 1, TIDE_CKPT_COMMITTED);
    run(&w, 300);
    expect_state(&w, 1, TIDE_CKPT_DROPPED);
    world_release(&w);
}

static void what_is_condemned_can_be_taken_back(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, GRACE_MS);
    commit_job(&w);
    commit_job(&w);
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    /* Nothing starts from it meanwhile. */
    struct command back = command_new(&w, CMD_JOB_ROLLBACK, "j");
    back.cut = 1;
    assert_int_equal(world_apply(&w, &back), TIDE_E_STATE);
    assert_text(w.err.text, "j/1 is condemned");
    assert_int_equal(order(&w, CMD_CKPT_PIN, "j", 1), TIDE_OK);
    expect_state(&w, 1, TIDE_CKPT_COMMITTED);
    assert_text(event_last(&w, "j", EVENT_KEPT)->text, "is kept, not deleted: it is pinned");
    /* The verdict that was under way finds it kept. */
    struct command late = command_new(&w, CMD_CKPT_EXPIRE, "j");
    TEXT_SET(late.uid, job_of(&w, "j")->uid);
    late.cut = 1;
    assert_int_equal(world_apply(&w, &late), TIDE_E_STALE);
    run(&w, 2 * GRACE_MS);
    expect_state(&w, 1, TIDE_CKPT_COMMITTED);
    assert_int_equal(w.applied[CMD_CKPT_PURGED], 0);
    world_release(&w);
}

static void drop_by_hand_has_its_grace_and_force_has_none(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 3, 0, GRACE_MS);
    for (int i = 0; i < 3; i++)
        commit_job(&w);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_OK);
    assert_text(w.outcome.text, "will be deleted in 10 s; tidemark ckpt pin j/1 keeps it");
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    struct command force = command_new(&w, CMD_CKPT_DROP, "j");
    force.cut = 2;
    force.force = true;
    assert_int_equal(world_apply(&w, &force), TIDE_OK);
    expect_state(&w, 2, TIDE_CKPT_DROPPED);
    /* It is one of the three newest, but nobody wants it. */
    commit_job(&w);
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    assert_int_equal(order(&w, CMD_CKPT_GC, "j", 0), TIDE_OK);
    assert_text(w.outcome.text, "1 checkpoint of job j is dropped");
    expect_state(&w, 1, TIDE_CKPT_DROPPED);
    world_release(&w);
}

static void give_up(struct world *w, uint64_t cut)
{
    assert_int_equal(order(w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(w, 20);
    struct command abort = verdict(w, CMD_CUT_ABORT, "j");
    abort.cut = cut;
    assert_int_equal(world_apply(w, &abort), TIDE_OK);
    expect_state(w, cut, TIDE_CKPT_ABORTED);
}

/* The agent that deletes is told what is known of every cut; that is the only thing it goes by. Of one that was aborted nothing
 * was ordered to be stored: if it has a COMMIT, that is another history's, and it is not said that it may go. */
static void gc_has_the_store_searched(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, GRACE_MS);
    commit_job(&w);
    commit_job(&w);
    commit_job(&w);
    give_up(&w, 4);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_OK);
    assert_int_equal(order(&w, CMD_CKPT_GC, "j", 0), TIDE_OK);
    assert_int_equal(order(&w, CMD_CKPT_GC, "j", 0), TIDE_OK);
    struct desired desired;
    assert_int_equal(desired_build(&w.state, &w.book, "n1", &desired, &w.err), TIDE_OK);
    const struct assignment *to = &desired.jobs.items[0];
    assert_int_equal(to->sweep_below, 5);
    assert_int_equal(to->sweep_live.count, 1);
    assert_string_equal(to->sweep_live.items[0], "3");
    assert_int_equal(to->sweep_over.count, 2);
    assert_string_equal(to->sweep_over.items[1], "2");
    size_t sweeps = 0;
    for (size_t i = 0; i < to->purge.count; i++)
        sweeps += strncmp(to->purge.items[i], "0@", 2) == 0;
    assert_int_equal(sweeps, 1);
    codec_release(&desired_codec, &desired);
    run(&w, 200);
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    assert_int_equal(desired_build(&w.state, &w.book, "n1", &desired, &w.err), TIDE_OK);
    assert_int_equal(desired.jobs.items[0].sweep_live.count, 0);
    codec_release(&desired_codec, &desired);
    world_release(&w);
}

/* Checkpoint 2 is found bad when it is needed: 1, which has been condemned for it, takes its place. */
static void the_last_good_one_is_taken_back(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, GRACE_MS);
    commit_job(&w);
    commit_job(&w);
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    struct command bad = verdict(&w, CMD_CKPT_CORRUPT, "j");
    bad.cut = 2;
    assert_int_equal(world_apply(&w, &bad), TIDE_OK);
    expect_state(&w, 2, TIDE_CKPT_CORRUPT);
    expect_state(&w, 1, TIDE_CKPT_COMMITTED);
    world_release(&w);
}

/* Also when it was condemned by hand, as long as the job runs. */
static void even_one_that_nobody_wants(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 2, 0, GRACE_MS);
    commit_job(&w);
    commit_job(&w);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_OK);
    struct command bad = verdict(&w, CMD_CKPT_CORRUPT, "j");
    bad.cut = 2;
    assert_int_equal(world_apply(&w, &bad), TIDE_OK);
    expect_state(&w, 1, TIDE_CKPT_COMMITTED);
    assert_text(event_last(&w, "j", EVENT_KEPT)->text, "the last one the job could restart from");
    world_release(&w);
}

static void going_back_does_not_give_up_what_is_pinned(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 2, 0, GRACE_MS);
    for (int i = 0; i < 3; i++)
        commit_job(&w);
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    assert_int_equal(hold(&w, 3, 60000), TIDE_OK);
    struct command back = command_new(&w, CMD_JOB_ROLLBACK, "j");
    back.cut = 2;
    assert_int_equal(world_apply(&w, &back), TIDE_E_STATE);
    assert_text(w.err.text, "j/3 is held, and going back to 2 would give it up; tidemark ckpt unpin j/3 first");
    assert_int_equal(job_of(&w, "j")->generation, 1);
    /* Nor is a condemned one of the history that is given up ever taken back. */
    assert_int_equal(order(&w, CMD_CKPT_UNPIN, "j", 3), TIDE_OK);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 3), TIDE_OK);
    assert_int_equal(world_apply(&w, &back), TIDE_OK);
    expect_state(&w, 3, TIDE_CKPT_DROPPED);
    world_release(&w);
}

static void grace_goes_on_when_the_job_has_ended(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, GRACE_MS);
    commit_job(&w);
    commit_job(&w);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    run(&w, 500);
    assert_true(job_ended(job_of(&w, "j")->state));
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    run(&w, GRACE_MS);
    expect_state(&w, 1, TIDE_CKPT_DROPPED);
    expect_state(&w, 2, TIDE_CKPT_COMMITTED);
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    world_release(&w);
}

static void few_wait_for_the_end_of_a_long_grace(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, 3600000);
    for (unsigned i = 0; i < RETAIN_CONDEMNED_MAX + 3; i++)
        commit_job(&w);
    expect_state(&w, 2, TIDE_CKPT_DROPPED);
    expect_state(&w, 3, TIDE_CKPT_CONDEMNED);
    world_release(&w);
}

/* Milliseconds that no 64 bits of nanoseconds hold: it does not end, and above all not at once. */
static void a_grace_beyond_all_clocks_does_not_end(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, UINT64_MAX / NS_PER_MS + 1);
    commit_job(&w);
    commit_job(&w);
    run(&w, 1000);
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    world_release(&w);
}

/* Nobody looks between the pin and its end: the sentence is a new one all the same. */
static void condemned_again_it_has_all_its_grace_again(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, GRACE_MS);
    commit_job(&w);
    commit_job(&w);
    run(&w, GRACE_MS - 3000);
    assert_int_equal(order(&w, CMD_CKPT_PIN, "j", 1), TIDE_OK);
    assert_int_equal(order(&w, CMD_CKPT_UNPIN, "j", 1), TIDE_OK);
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    run(&w, GRACE_MS - 1000);
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    run(&w, 2000);
    expect_state(&w, 1, TIDE_CKPT_DROPPED);
    world_release(&w);
}

/* A verdict that is refused has changed nothing: not the holds that were over by then, either. */
static void a_stale_verdict_changes_nothing(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, GRACE_MS);
    commit_job(&w);
    assert_int_equal(hold(&w, 1, 5000), TIDE_OK);
    commit_job(&w);
    commit_job(&w);
    expect_state(&w, 2, TIDE_CKPT_CONDEMNED);
    struct command late = command_new(&w, CMD_CKPT_EXPIRE, "j");
    TEXT_SET(late.uid, job_of(&w, "j")->uid);
    late.at_ms = ckpt_of(&w, "j", 1)->held_until_ms;
    late.cut = 3;
    assert_int_equal(world_apply(&w, &late), TIDE_E_STALE);
    expect_state(&w, 1, TIDE_CKPT_COMMITTED);
    assert_int_not_equal(ckpt_of(&w, "j", 1)->held_until_ms, 0);
    /* One that is not refused ends the hold. */
    late.cut = 2;
    assert_int_equal(world_apply(&w, &late), TIDE_OK);
    expect_state(&w, 1, TIDE_CKPT_CONDEMNED);
    expect_state(&w, 2, TIDE_CKPT_DROPPED);
    world_release(&w);
}

/* A search is no checkpoint that is to be deleted. */
static void what_is_still_to_be_deleted_is_counted(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 2, 0, GRACE_MS);
    commit_job(&w);
    commit_job(&w);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    run(&w, 500);
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    assert_int_equal(order(&w, CMD_CKPT_GC, "j", 0), TIDE_OK);
    assert_true(explained(&w, "j", "its store is still to be searched for what nobody needs"));
    assert_false(explained(&w, "j", "still to be deleted"));
    struct command force = command_new(&w, CMD_CKPT_DROP, "j");
    force.cut = 1;
    force.force = true;
    assert_int_equal(world_apply(&w, &force), TIDE_OK);
    assert_true(explained(&w, "j", "objects of 1 dropped checkpoint are still to be deleted"));
    world_release(&w);
}

/* Said once more it does not begin anew, and it is not said that it does. */
static void dropped_by_hand_while_it_is_condemned(void **context)
{
    (void)context;
    struct world w;
    start_with(&w, 1, 0, GRACE_MS);
    commit_job(&w);
    commit_job(&w);
    run(&w, GRACE_MS - 3000);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_OK);
    assert_text(w.outcome.text, "j/1 is condemned already and will be deleted when its grace of 10 s is over");
    assert_text(w.outcome.text, "tidemark ckpt pin j/1 keeps it");
    run(&w, 4000);
    expect_state(&w, 1, TIDE_CKPT_DROPPED);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_rule_does_not_keep_is_deleted_when_its_grace_is_over),
        cmocka_unit_test(one_in_so_many_is_kept),
        cmocka_unit_test(pinned_ones_stay_until_they_are_unpinned),
        cmocka_unit_test(a_hold_ends_by_itself),
        cmocka_unit_test(what_is_condemned_can_be_taken_back),
        cmocka_unit_test(drop_by_hand_has_its_grace_and_force_has_none),
        cmocka_unit_test(gc_has_the_store_searched),
        cmocka_unit_test(the_last_good_one_is_taken_back),
        cmocka_unit_test(even_one_that_nobody_wants),
        cmocka_unit_test(going_back_does_not_give_up_what_is_pinned),
        cmocka_unit_test(grace_goes_on_when_the_job_has_ended),
        cmocka_unit_test(few_wait_for_the_end_of_a_long_grace),
        cmocka_unit_test(a_grace_beyond_all_clocks_does_not_end),
        cmocka_unit_test(condemned_again_it_has_all_its_grace_again),
        cmocka_unit_test(a_stale_verdict_changes_nothing),
        cmocka_unit_test(what_is_still_to_be_deleted_is_counted),
        cmocka_unit_test(dropped_by_hand_while_it_is_condemned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
