/* SPDX-License-Identifier: Apache-2.0 */
#include "core_saves.h"

/* A job that can go on with another number of ranks. */

static struct command elastic_submission(struct world *w, uint32_t nnodes, uint32_t spares, uint32_t nproc, uint32_t min, uint32_t max)
{
    struct command command = submission(w, "j", nnodes, spares, nproc);
    command.spec.elastic_min = min;
    command.spec.elastic_max = max;
    return command;
}

static enum tide_status submit_elastic(struct world *w, uint32_t nnodes, uint32_t spares, uint32_t nproc, uint32_t min, uint32_t max)
{
    struct command command = elastic_submission(w, nnodes, spares, nproc, min, max);
    return submit_this(w, &command);
}

/* n1 and so on, with as many slots each as there are ranks of the job, which runs on nnodes of them. */
static void start(struct world *w, uint32_t nodes, uint32_t slots, uint32_t nnodes, uint32_t spares, uint32_t min, uint32_t max)
{
    world_init(w);
    world_nodes(w, nodes, slots);
    assert_int_equal(submit_elastic(w, nnodes, spares, slots, min, max), TIDE_OK);
    run(w, 1000);
}

static void store_hangs(struct world *w, bool hangs)
{
    fake_of(w, "n1")->store_hangs = fake_of(w, "n2")->store_hangs = hangs;
}

/* Checkpoint 2: in memory, and nowhere else. */
static void save_in_memory(struct world *w, unsigned state)
{
    store_hangs(w, true);
    assert_int_equal(order(w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(w, 1000);
    assert_int_equal(ckpt_of(w, "j", 2)->state, state);
}

static void lose(struct world *w, const char *node)
{
    fake_of(w, node)->up = false;
    run(w, 4000);
    assert_int_equal(state_node(&w->state, node)->state, TIDE_NODE_LOST);
}

static void come_back(struct world *w, const char *node)
{
    fake_of(w, node)->up = true;
    run(w, 1000);
    assert_int_equal(state_node(&w->state, node)->state, TIDE_NODE_READY);
}

static void kill_rank(struct world *w, uint32_t rank)
{
    crash(w, rank);
    run(w, 1000);
}

/* What the nodes are told of the generation that runs: so many of them, and from a checkpoint of so many ranks (0: of as many). */
static void assert_told(struct world *w, const char *node, size_t peers, uint32_t restore_world)
{
    struct desired desired;
    assert_int_equal(desired_build(&w->state, &w->book, node, &desired, &w->err), TIDE_OK);
    assert_int_equal(desired.jobs.items[0].run, RUN_START);
    assert_int_equal(desired.jobs.items[0].peers.count, peers);
    assert_int_equal(desired.jobs.items[0].restore_world, restore_world);
    codec_release(&desired_codec, &desired);
}

static void a_lost_node_is_done_without_and_taken_back_at_the_next_restart(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 2, 3, 0, 2, 6);
    assert_text(event_last(&w, "j", EVENT_SUBMITTED)->text, "elastic from 2 to 6 ranks");
    commit_job(&w);
    lose(&w, "n3");
    const struct job *job = job_of(&w, "j");
    assert_state(&w, "j", "running");
    assert_int_equal(job->generation, 2);
    assert_int_equal(job->restarts, 1);
    assert_int_equal(job->nodes.count, 2);
    assert_string_equal(job->nodes.items[0], "n1");
    assert_string_equal(job->nodes.items[1], "n2");
    assert_int_equal(job_world(job), 4);
    assert_int_equal(job->spec.nnodes, 3);
    assert_int_equal(job->restore_cut, 1);
    assert_told(&w, "n1", 2, 6);
    assert_true(explained(&w, "j", "it runs with 4 ranks of the 6 that were asked for"));
    assert_text(event_last(&w, "j", EVENT_LAUNCHED)->text, "generation 2 starts with 4 ranks, 6 before, from checkpoint 1");
    /* Checkpoints are of as many ranks as there are. */
    commit_job(&w);
    assert_int_equal(ckpt_of(&w, "j", 2)->nodes.count, 2);
    assert_int_equal(ckpt_of(&w, "j", 1)->nodes.count, 3);
    /* That a node is there again ends nobody's training. */
    come_back(&w, "n3");
    run(&w, 5000);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    kill_rank(&w, 0);
    job = job_of(&w, "j");
    assert_state(&w, "j", "running");
    assert_int_equal(job->generation, 3);
    assert_int_equal(job->nodes.count, 3);
    assert_int_equal(job->restore_cut, 2);
    assert_told(&w, "n3", 3, 4);
    commit_job(&w);
    assert_int_equal(ckpt_of(&w, "j", 3)->nodes.count, 3);
    /* By hand to one of another size. */
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 2), TIDE_OK);
    run(&w, 1000);
    assert_int_equal(job_of(&w, "j")->restore_cut, 2);
    assert_told(&w, "n1", 3, 4);
    world_release(&w);
}

static void whoever_is_first_may_be_the_one_that_is_lost(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 1, 3, 0, 1, 3);
    commit_job(&w);
    lose(&w, "n1");
    const struct job *job = job_of(&w, "j");
    assert_int_equal(job->nodes.count, 2);
    assert_string_equal(job->nodes.items[0], "n3"); /* n2 has kept its place */
    assert_string_equal(job->nodes.items[1], "n2");
    lose(&w, "n3");
    job = job_of(&w, "j");
    assert_state(&w, "j", "running");
    assert_int_equal(job->nodes.count, 1);
    assert_told(&w, "n2", 1, 3);
    world_release(&w);
}

static void below_its_minimum_it_waits(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 2, 3, 0, 4, 6);
    commit_job(&w);
    fake_of(&w, "n2")->up = false;
    lose(&w, "n3");
    assert_state(&w, "j", "pending");
    assert_true(explained(&w, "j", "needs 2 with 2 free slots each, 1 is there"));
    come_back(&w, "n2");
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->nodes.count, 2);
    world_release(&w);
}

static void it_begins_with_as_many_as_were_asked_for(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1, 3, 0, 1, 3);
    assert_state(&w, "j", "pending");
    node_new(&w, "n3", 1);
    run(&w, 1000);
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->nodes.count, 3);
    world_release(&w);
}

/* Spares keep it at the number that was asked for; it grows beyond that by nodes that it does not want as spares. */
static void spares_come_first_and_are_not_grown_into(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 1, 2, 1, 1, 3);
    commit_job(&w);
    kill_rank(&w, 0);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_int_equal(job_of(&w, "j")->nodes.count, 2);
    assert_int_equal(job_of(&w, "j")->spares.count, 1);
    lose(&w, "n2");
    assert_int_equal(job_of(&w, "j")->nodes.count, 2);
    assert_string_equal(job_of(&w, "j")->nodes.items[1], "n3");
    come_back(&w, "n2");
    node_new(&w, "n4", 1);
    run(&w, 500);
    kill_rank(&w, 0);
    assert_int_equal(job_of(&w, "j")->nodes.count, 3);
    assert_int_equal(job_of(&w, "j")->spares.count, 1);
    node_new(&w, "n5", 1);
    run(&w, 500);
    kill_rank(&w, 0);
    assert_int_equal(job_of(&w, "j")->nodes.count, 3); /* its maximum */
    world_release(&w);
}

/* A newer one is in the memory of those that are left and of one that is not: it is not enough for fewer. */
static void what_is_in_memory_only_is_not_for_another_number(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1, 2, 0, 1, 2);
    commit_job(&w);
    save_in_memory(&w, TIDE_CKPT_SEALED);
    lose(&w, "n2");
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->nodes.count, 1);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    world_release(&w);
}

/* All who have it are there: that there would be room for more is no reason to fall back behind it. */
static void it_does_not_grow_away_from_what_is_in_memory_only(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1, 2, 0, 1, 3);
    commit_job(&w);
    node_new(&w, "n3", 1);
    save_in_memory(&w, TIDE_CKPT_SEALED);
    kill_rank(&w, 0);
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->restore_cut, 2);
    assert_int_equal(job_of(&w, "j")->nodes.count, 2);
    /* Once it is in the store it is for any number. */
    store_hangs(&w, false);
    run(&w, 2000);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_COMMITTED);
    kill_rank(&w, 0);
    assert_int_equal(job_of(&w, "j")->restore_cut, 2);
    assert_int_equal(job_of(&w, "j")->nodes.count, 3);
    world_release(&w);
}

/* One that has it is lost, and another has a copy: it goes on with as many, and not with more from before it. */
static void it_does_not_grow_away_from_a_copy(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, 1, 2, 0, 1, 3);
    commit_job(&w);
    node_new(&w, "n3", 1);
    node_new(&w, "n4", 1);
    for (int i = 0; i < FAKES_MAX; i++)
        w.fakes[i].copies = true;
    save_in_memory(&w, TIDE_CKPT_PEERED);
    lose(&w, "n2");
    assert_state(&w, "j", "running");
    assert_int_equal(job_of(&w, "j")->restore_cut, 2);
    assert_int_equal(job_of(&w, "j")->nodes.count, 2);
    world_release(&w);
}

static void what_is_no_range_is_refused(void **context)
{
    (void)context;
    static const struct {
        uint32_t nnodes, nproc, min, max;
        const char *words;
    } cases[] = {{2, 2, 0, 4, "from 0 to 4"},      {2, 2, 4, 2, "from 4 to 2"},   {2, 2, 3, 4, "multiples of that"},
                 {2, 2, 2, 5, "multiples of that"}, {2, 2, 6, 8, "not within 6"}, {4, 2, 2, 6, "not within 2"},
                 {2, 2, 4, 0, "from 4 to 0"},      {1, 1, 1, TIDE_NODES_MAX + 1, "from 1 to 16385"}};
    struct world w;
    world_init(&w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(submit_elastic(&w, cases[i].nnodes, 0, cases[i].nproc, cases[i].min, cases[i].max), TIDE_E_INVALID);
        assert_text(w.err.text, cases[i].words);
    }
    world_release(&w);
}

static void who_cannot_read_it_is_not_told(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    struct command command = elastic_submission(&w, 1, 0, 1, 1, 2);
    w.state.level = 2;
    assert_int_equal(level_admits(&w.state, &command, &w.err), TIDE_E_STATE);
    assert_text(w.err.text, "needs level 3");
    w.state.level = 3;
    assert_int_equal(level_admits(&w.state, &command, &w.err), TIDE_OK);
    codec_release(&command_codec, &command);
    world_release(&w);
}

static void another_jobs_checkpoint_may_be_of_another_number(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 1, 3, 0, 1, 3);
    commit_job(&w);
    lose(&w, "n3");
    commit_job(&w);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    run(&w, 500);
    struct command command = submission(&w, "k", 1, 0, 1);
    TEXT_SET(command.spec.restore_from, "j/2");
    assert_int_equal(world_apply(&w, &command), TIDE_E_INVALID);
    assert_text(w.err.text, "checkpoint j/2 is of 2 ranks, the job has 1; run it with as many, or, where the program allows another");
    command.spec.elastic_min = command.spec.elastic_max = 1;
    TEXT_SET(command.request, "again");
    assert_int_equal(submit_this(&w, &command), TIDE_OK);
    run(&w, 1000);
    assert_state(&w, "k", "running");
    assert_int_equal(ckpt_of(&w, "k", 2)->world_size, 2);
    struct desired desired;
    assert_int_equal(desired_build(&w.state, &w.book, job_of(&w, "k")->nodes.items[0], &desired, &w.err), TIDE_OK);
    assert_int_equal(desired.jobs.items[desired.jobs.count - 1].restore_world, 2);
    codec_release(&desired_codec, &desired);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_node_is_done_without_and_taken_back_at_the_next_restart),
        cmocka_unit_test(whoever_is_first_may_be_the_one_that_is_lost),
        cmocka_unit_test(below_its_minimum_it_waits),
        cmocka_unit_test(it_begins_with_as_many_as_were_asked_for),
        cmocka_unit_test(spares_come_first_and_are_not_grown_into),
        cmocka_unit_test(what_is_in_memory_only_is_not_for_another_number),
        cmocka_unit_test(it_does_not_grow_away_from_what_is_in_memory_only),
        cmocka_unit_test(it_does_not_grow_away_from_a_copy),
        cmocka_unit_test(what_is_no_range_is_refused),
        cmocka_unit_test(who_cannot_read_it_is_not_told),
        cmocka_unit_test(another_jobs_checkpoint_may_be_of_another_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
