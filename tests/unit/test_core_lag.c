/* SPDX-License-Identifier: Apache-2.0 */
#include "core_dsl.h"

/* One checkpoint takes longer into the store than from one to the next. */

static const struct ckpt *newest_of(struct world *w)
{
    const struct job *job = job_of(w, "j");
    const struct ckpt *newest = NULL;
    for (size_t i = 0; i < job->ckpts.count; i++)
        if (job->ckpts.items[i].state == TIDE_CKPT_SEALED || job->ckpts.items[i].state == TIDE_CKPT_COMMITTED)
            newest = &job->ckpts.items[i];
    assert_non_null(newest);
    return newest;
}

/* t=1 checkpoint 1 is on its way into the store, and stays there: with two slots one more is recorded in memory, with three
 * others follow it. Each takes the place of the oldest but for the one being stored. */
static void memory_checkpoints_go_on_while_the_store_lags(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    struct command command = submission(&w, "j", 2, 0, 1);
    command.spec.ckpt_every_ms = 500;
    submit_this(&w, &command);
    fake_of(&w, "n2")->store_hangs = true;
    run(&w, 6000);
    assert_int_equal(record_of(&w, "j")->store_cut, 1);
    assert_int_equal(job_of(&w, "j")->next_cut, 3);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_SEALED);
    assert_true(ckpt_of(&w, "j", 2)->memory_only);
    assert_true(explained(&w, "j", "the store lags: checkpoint 1 has been on its way into it for"));
    assert_true(explained(&w, "j", "is in memory and stored next; another has to wait, there is no slot for it: rank 0 on n1"));
    w.slots = SLOTS;
    run(&w, 6000);
    uint64_t newest = job_of(&w, "j")->next_cut - 1;
    assert_true(newest > 6);
    assert_int_equal(record_of(&w, "j")->store_cut, 1);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_SEALED);
    assert_int_equal(ckpt_of(&w, "j", 3)->state, TIDE_CKPT_DROPPED);
    assert_text(ckpt_of(&w, "j", 3)->reason, "has taken its place there");
    assert_false(explained(&w, "j", "has to wait"));
    /* Nothing of those that were never to be stored is to be deleted. */
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    /* A rank dies: the newest in memory is what it starts from, and the upload goes on. */
    uint64_t step = newest_of(&w)->step;
    crash(&w, 0);
    run(&w, 400);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_true(job_of(&w, "j")->recoveries.items[0].to_step >= step);
    assert_int_equal(record_of(&w, "j")->store_cut, 1);
    /* The store is back: 1 is committed, then the newest; those between are not stored. The alert clears. */
    fake_of(&w, "n2")->store_hangs = false;
    run(&w, 1000);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    run(&w, 3000);
    assert_false(explained(&w, "j", "the store lags"));
    size_t committed = 0;
    for (uint64_t cut = 2; cut <= newest - 1; cut++)
        committed += ckpt_of(&w, "j", cut)->state == TIDE_CKPT_COMMITTED;
    assert_int_equal(committed, 0);
    assert_true(newest_of(&w)->state == TIDE_CKPT_COMMITTED || record_of(&w, "j")->store_cut > newest);
    world_release(&w);
}

/* Who asked for a checkpoint by hand waits until it is stored: it is not superseded by what the interval brings. */
static void one_by_hand_is_stored_next(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    struct command command = submission(&w, "j", 2, 0, 1);
    command.spec.ckpt_every_ms = 500;
    submit_this(&w, &command);
    w.slots = SLOTS;
    fake_of(&w, "n1")->store_hangs = true;
    run(&w, 2000);
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 4000);
    uint64_t newest = job_of(&w, "j")->next_cut - 1;
    assert_true(ckpt_of(&w, "j", newest)->by_hand);
    assert_int_equal(ckpt_of(&w, "j", newest)->state, TIDE_CKPT_SEALED);
    assert_true(explained(&w, "j", "as it was asked for, none is recorded before that"));
    fake_of(&w, "n1")->store_hangs = false;
    run(&w, 1500);
    assert_int_equal(ckpt_of(&w, "j", newest)->state, TIDE_CKPT_COMMITTED);
    world_release(&w);
}

/* The newest is stored and condemned by hand: then that before it, which is in memory only, is the newest. */
static void the_one_before_is_stored_when_the_newest_is_condemned(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    struct command command = submission(&w, "j", 2, 0, 1);
    command.spec.ckpt_every_ms = 500;
    submit_this(&w, &command);
    w.slots = SLOTS;
    fake_of(&w, "n1")->store_hangs = true;
    run(&w, 2000);
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 4000);
    uint64_t newest = job_of(&w, "j")->next_cut - 1;
    assert_true(ckpt_of(&w, "j", newest)->by_hand);
    fake_of(&w, "n1")->store_hangs = false;
    for (unsigned ms = 0; ms < 1500 && ckpt_of(&w, "j", newest)->state != TIDE_CKPT_COMMITTED; ms += TICK_MS)
        run(&w, TICK_MS);
    assert_int_equal(ckpt_of(&w, "j", newest)->state, TIDE_CKPT_COMMITTED);
    assert_true(ckpt_of(&w, "j", newest - 1)->memory_only);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", newest), TIDE_OK);
    assert_int_equal(ckpt_of(&w, "j", newest)->state, TIDE_CKPT_CONDEMNED);
    assert_int_equal(record_of(&w, "j")->store_cut, newest - 1);
    assert_false(ckpt_of(&w, "j", newest - 1)->memory_only);
    world_release(&w);
}

/* What is being stored is given up: the newest in memory is stored instead; and it goes when the job ends. */
static void the_newest_is_stored_when_the_one_before_is_given_up(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    assert_int_equal(submit(&w, "j", 2, 0, 1), TIDE_OK);
    run(&w, 1000);
    fake_of(&w, "n2")->store_hangs = true;
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 900);
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 900);
    assert_int_equal(record_of(&w, "j")->store_cut, 1);
    assert_true(ckpt_of(&w, "j", 2)->memory_only);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_OK);
    assert_int_equal(record_of(&w, "j")->store_cut, 2);
    assert_false(ckpt_of(&w, "j", 2)->memory_only);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    run(&w, 500);
    assert_state(&w, "j", "cancelled");
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_DROPPED);
    assert_int_equal(record_of(&w, "j")->store_cut, 0);
    world_release(&w);
}

static void a_store_that_lags_is_told_as_long_as_it_does(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    struct command command = submission(&w, "j", 2, 0, 1);
    command.spec.ckpt_every_ms = 2000;
    submit_this(&w, &command);
    w.slots = 0;
    run(&w, 1000);
    while (job_of(&w, "j")->ckpts.count == 0 || ckpt_of(&w, "j", 1)->state == TIDE_CKPT_OPEN)
        run(&w, TICK_MS);
    fake_of(&w, "n2")->deaf = true;
    run(&w, 1000);
    assert_false(explained(&w, "j", "the store lags"));
    run(&w, 6000);
    assert_true(explained(&w, "j", "the store lags: checkpoint 1 has been on its way into it for"));
    assert_int_equal(job_of(&w, "j")->ckpts.count, 1);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    fake_of(&w, "n2")->deaf = false;
    run(&w, 1000);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    assert_false(explained(&w, "j", "the store lags"));
    run(&w, 2500);
    assert_true(job_of(&w, "j")->ckpts.count >= 2);
    world_release(&w);
}

/* A member of the group may apply a seal as it always was: nothing is recorded beside what is being stored. */
static void below_level_2_the_next_waits(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    w.state.level = w.second.level = 1;
    world_nodes(&w, 2, 1);
    struct command command = submission(&w, "j", 2, 0, 1);
    command.spec.ckpt_every_ms = 500;
    submit_this(&w, &command);
    w.slots = SLOTS;
    fake_of(&w, "n2")->store_hangs = true;
    run(&w, 4000);
    assert_int_equal(record_of(&w, "j")->store_cut, 1);
    assert_int_equal(job_of(&w, "j")->next_cut, 2);
    assert_true(explained(&w, "j", "training goes on, and the next has to wait until that is stored"));
    struct command raise = command_new(&w, CMD_CLUSTER_LEVEL, NULL);
    raise.level = 2;
    assert_int_equal(world_apply(&w, &raise), TIDE_OK);
    run(&w, 4000);
    assert_true(job_of(&w, "j")->next_cut > 4);
    assert_true(ckpt_of(&w, "j", job_of(&w, "j")->next_cut - 2)->memory_only);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_checkpoints_go_on_while_the_store_lags),
        cmocka_unit_test(one_by_hand_is_stored_next),
        cmocka_unit_test(the_one_before_is_stored_when_the_newest_is_condemned),
        cmocka_unit_test(the_newest_is_stored_when_the_one_before_is_given_up),
        cmocka_unit_test(a_store_that_lags_is_told_as_long_as_it_does),
        cmocka_unit_test(below_level_2_the_next_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
