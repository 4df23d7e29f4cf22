/* SPDX-License-Identifier: Apache-2.0 */
#include "core_dsl.h"

/* Cuts of programs whose messages are coloured: arm, go, record, settle, close, seal; and what may go wrong on the way. */

static void paint(struct world *w, uint32_t ranks, unsigned mode)
{
    for (uint32_t r = 0; r < ranks; r++)
        w->ranks[r].paint = (struct fake_paint){.on = true, .mode = mode};
}

/* One rank on each node. */
static void start(struct world *w, uint32_t ranks, unsigned mode)
{
    world_init(w);
    paint(w, ranks, mode);
    world_nodes(w, ranks, 1);
    struct command command = submission(w, "j", ranks, 0, 1);
    command.spec.cut_deadline_ms = 8000;
    submit_this(w, &command);
    run(w, 1000);
    assert_true(job_of(w, "j")->all_stepped);
}

static void save(struct world *w)
{
    assert_int_equal(order(w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
}

/* Nothing is in transition: the next cut may be opened. */
static void assert_at_rest(struct world *w)
{
    const struct job *job = job_of(w, "j");
    assert_int_equal(job->epoch_closed, job->epoch);
    assert_int_equal(job->epoch_settled, job->epoch);
}

static void a_cut_through_messages_takes_five_entries(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, CUT_MODE_AUTO);
    unsigned before = w.commands;
    save(&w);
    run(&w, 2000);
    const struct ckpt *ckpt = ckpt_of(&w, "j", 1);
    assert_int_equal(ckpt->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(ckpt->epoch, 1);
    assert_int_equal(ckpt->mode, CUT_MODE_STEP);
    assert_int_equal(ckpt->attempt, 1);
    assert_int_equal(ckpt->logged, 6);
    assert_int_equal(ckpt->logged_bytes, 192);
    assert_at_rest(&w);
    /* The request and what stores it apart. */
    assert_int_equal(w.commands - before - w.applied[CMD_CKPT_REQUEST] - w.applied[CMD_CKPT_STORED] - w.applied[CMD_CKPT_COMMIT], 5);
    save(&w);
    run(&w, 2000);
    assert_int_equal(ckpt_of(&w, "j", 2)->epoch, 2);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_COMMITTED);
    world_release(&w);
}

static void free_ranks_record_at_once(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, CUT_MODE_FREE);
    save(&w);
    run(&w, 200);
    const struct ckpt *ckpt = ckpt_of(&w, "j", 1);
    assert_true(ckpt->state == TIDE_CKPT_SEALED || ckpt->state == TIDE_CKPT_COMMITTED);
    assert_int_equal(ckpt->mode, CUT_MODE_FREE);
    assert_true(ckpt->step <= book_step(&w.book, &w.state, "j"));
    assert_text(event_last(&w, "j", EVENT_CUT_OPENED)->text, "at each rank's next safe point");
    world_release(&w);
}

static void nobody_goes_before_all_poll(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, CUT_MODE_FREE);
    w.ranks[1].paint.silent = true;
    save(&w);
    run(&w, 7000);
    assert_int_equal(w.applied[CMD_CUT_GO], 0);
    run(&w, 1500);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "makes no call, to MPI or tide_step, in which it could be told: rank 1 on n2");
    assert_int_equal(event_last(&w, "j", EVENT_CUT_ABORTED)->rank, 1);
    assert_int_equal(job_of(&w, "j")->epoch_go, 0);
    assert_at_rest(&w);
    w.ranks[1].paint.silent = false;
    save(&w);
    run(&w, 500);
    assert_int_equal(ckpt_of(&w, "j", 2)->epoch, 2);
    assert_true(ckpt_of(&w, "j", 2)->sealed_ms != 0);
    world_release(&w);
}

static void a_rank_that_passes_voids_the_attempt(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, CUT_MODE_STEP);
    w.ranks[2].paint.late = true;
    save(&w);
    run(&w, 1000);
    const struct event *event = event_last(&w, "j", EVENT_CUT_VOID);
    assert_non_null(event);
    assert_text(event->text, "attempt 1 of checkpoint 1 is void: rank 2 on n3 came to step");
    assert_int_equal(event->rank, 2);
    assert_string_equal(event->node, "n3");
    w.ranks[2].paint.late = false;
    run(&w, 4000);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    assert_true(ckpt_of(&w, "j", 1)->attempt >= 2);
    assert_int_equal(ckpt_of(&w, "j", 1)->epoch, ckpt_of(&w, "j", 1)->attempt);
    assert_at_rest(&w);
    world_release(&w);
}

static void early_ranks_are_named_when_it_is_given_up(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, CUT_MODE_FREE);
    w.ranks[1].paint.early = true;
    save(&w);
    run(&w, 3000);
    const struct ckpt *ckpt = ckpt_of(&w, "j", 1);
    assert_int_equal(ckpt->state, TIDE_CKPT_ABORTED);
    assert_int_equal(ckpt->attempt, CUT_EARLY_TRIES);
    assert_text(ckpt->reason, "rank 1 on n2 needs what was sent behind the sender's record: a message with tag 7 of rank 0");
    assert_int_equal(event_count(&w, "j", EVENT_CUT_VOID), CUT_EARLY_TRIES - 1);
    assert_int_equal(event_count(&w, "j", EVENT_CUT_REARMED), CUT_EARLY_TRIES - 1);
    assert_at_rest(&w);
    assert_state(&w, "j", "running");
    w.ranks[1].paint.early = false;
    save(&w);
    run(&w, 500);
    assert_true(ckpt_of(&w, "j", 2)->sealed_ms != 0);
    world_release(&w);
}

/* Nobody has said that steps are each rank's own: it is found out, and remembered. */
static void own_loops_are_found_out(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, CUT_MODE_AUTO);
    w.ranks[1].paint.early = true;
    save(&w);
    run(&w, TICK_MS);
    for (int i = 0; i < 400 && ckpt_of(&w, "j", 1)->mode != CUT_MODE_FREE; i++)
        run(&w, TICK_MS);
    w.ranks[1].paint.early = false;
    run(&w, 500);
    assert_int_equal(ckpt_of(&w, "j", 1)->mode, CUT_MODE_FREE);
    assert_int_equal(ckpt_of(&w, "j", 1)->attempt, CUT_STEP_TRIES + 1);
    assert_true(ckpt_of(&w, "j", 1)->sealed_ms != 0);
    save(&w);
    run(&w, 500);
    assert_int_equal(ckpt_of(&w, "j", 2)->mode, CUT_MODE_FREE);
    assert_int_equal(ckpt_of(&w, "j", 2)->attempt, 1);
    world_release(&w);
}

static void a_step_that_never_comes_is_no_step_of_all(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, CUT_MODE_AUTO);
    w.ranks[1].paint.stays = true;
    save(&w);
    run(&w, 5000);
    assert_true(event_count(&w, "j", EVENT_CUT_VOID) >= 1);
    assert_text(event_last(&w, "j", EVENT_CUT_VOID)->text, "did not come to that step: rank 1 on n2");
    run(&w, 4000);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(ckpt_of(&w, "j", 1)->mode, CUT_MODE_FREE);
    world_release(&w);
}

/* The same of a program that says they are: the cut is given up in the end, and the rank named. */
static void a_declared_step_that_never_comes_ends_the_cut(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, CUT_MODE_STEP);
    w.ranks[1].paint.stays = true;
    save(&w);
    run(&w, 9000);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "did not come to that step: rank 1 on n2");
    run(&w, 100);
    assert_at_rest(&w); /* who had begun the epoch is joined by the others */
    world_release(&w);
}

static void messages_that_do_not_arrive_are_waited_for(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, CUT_MODE_FREE);
    w.ranks[0].paint.loses = true;
    save(&w);
    run(&w, 7500);
    assert_int_equal(w.applied[CMD_CUT_SETTLED], 0);
    assert_true(explained(&w, "j", "1 messages are on their way"));
    run(&w, 1000);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "messages sent before it had not arrived");
    /* Nothing else may be begun until they are here. */
    save(&w);
    run(&w, 2000);
    assert_int_equal(job_of(&w, "j")->ckpts.count, 1);
    assert_true(explained(&w, "j", "it opens when all ranks have changed colour: 1 messages are on their way"));
    for (int i = 0; i < FAKES_MAX; i++)
        if (w.fakes[i].used && w.fakes[i].jobs[0].first == 0)
            w.fakes[i].jobs[0].colours[0].arrived++;
    w.ranks[0].paint.loses = false;
    run(&w, 500);
    assert_true(ckpt_of(&w, "j", 2)->sealed_ms != 0);
    assert_at_rest(&w);
    world_release(&w);
}

static void a_log_without_room_fails_what_was_recorded(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, CUT_MODE_FREE);
    w.ranks[0].paint.turns = true;
    save(&w);
    run(&w, 500);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "rank 0 on n1 could not record: limit: more than 64 MiB of messages");
    assert_at_rest(&w);
    world_release(&w);
}

static void unequal_collectives_name_the_communicator(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, CUT_MODE_STEP);
    w.ranks[2].paint.uneven = true;
    save(&w);
    run(&w, 2000);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "MPI_COMM_WORLD");
    assert_text(ckpt_of(&w, "j", 1)->reason, "rank 2 41");
    assert_int_equal(ckpt_of(&w, "j", 1)->attempt, 1);
    world_release(&w);
}

static void ranks_with_and_without_colour_are_refused(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, CUT_MODE_AUTO);
    w.ranks[1].paint.on = false;
    run(&w, 300);
    save(&w);
    run(&w, 100);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "rank 0 on n1 runs with libtidemark_mpi, rank 1 on n2 without");
    assert_state(&w, "j", "running");
    w.ranks[1].paint.on = true;
    w.ranks[0].paint.mode = CUT_MODE_STEP;
    w.ranks[2].paint.mode = CUT_MODE_FREE;
    run(&w, 300);
    save(&w);
    run(&w, 100);
    assert_text(ckpt_of(&w, "j", 2)->reason, "rank 0 on n1 declares that all ranks count the same steps, rank 2 on n3");
    world_release(&w);
}

static void ranks_in_no_common_step_need_colour(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, CUT_MODE_FREE);
    w.ranks[0].paint.on = w.ranks[1].paint.on = false;
    run(&w, 300);
    save(&w);
    run(&w, 100);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_ABORTED);
    assert_text(ckpt_of(&w, "j", 1)->reason, "each rank counts its own steps and rank 0 on n1 runs without libtidemark_mpi");
    assert_state(&w, "j", "running");
    w.ranks[0].paint.mode = w.ranks[1].paint.mode = CUT_MODE_AUTO;
    run(&w, 300);
    save(&w);
    run(&w, 2000);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_COMMITTED);
    world_release(&w);
}

static void a_new_leader_goes_on_in_each_stage(void **context)
{
    (void)context;
    for (uint64_t after = TICK_MS; after <= 1000; after += TICK_MS) {
        struct world w;
        start(&w, 2, CUT_MODE_STEP);
        save(&w);
        run(&w, after);
        new_leader(&w);
        run(&w, 3000);
        assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
        assert_int_equal(ckpt_of(&w, "j", 1)->attempt, 1);
        assert_int_equal(w.applied[CMD_CUT_GO], 1);
        assert_int_equal(w.applied[CMD_CUT_SETTLED], 1);
        assert_int_equal(w.applied[CMD_CUT_CLOSED], 1);
        assert_at_rest(&w);
        world_release(&w);
    }
}

static void a_new_generation_begins_with_epoch_one(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, CUT_MODE_FREE);
    save(&w);
    run(&w, 500);
    w.ranks[0].paint.never_ends = true;
    save(&w);
    run(&w, 500);
    assert_int_equal(job_of(&w, "j")->epoch, 2);
    assert_int_equal(job_of(&w, "j")->epoch_closed, 1);
    crash(&w, 0);
    w.ranks[0].paint.never_ends = false;
    assert_int_equal(job_of(&w, "j")->epoch, 0);
    run(&w, 2000);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    save(&w);
    run(&w, 500);
    assert_int_equal(job_of(&w, "j")->epoch, 1);
    assert_at_rest(&w);
    world_release(&w);
}

static struct command about(struct world *w, enum command_kind kind)
{
    struct command command = verdict(w, kind, "j");
    command.cut = command.epoch = 1;
    command.attempt = 1;
    return command;
}

/* Whatever an old leader proposes: out of turn it changes nothing. */
static void orders_out_of_turn_are_stale(void **context)
{
    (void)context;
    struct world w;
    start(&w, 2, CUT_MODE_FREE);
    static const enum command_kind kinds[] = {CMD_CUT_GO, CMD_CUT_VOID, CMD_CUT_SETTLED, CMD_CUT_CLOSED, CMD_CUT_REARM, CMD_CUT_SEAL};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct command early = about(&w, kinds[i]);
        assert_int_equal(world_apply(&w, &early), TIDE_E_STALE);
    }
    struct command open = about(&w, CMD_CUT_OPEN);
    open.step = 1000;
    open.mode = CUT_MODE_FREE;
    open.epoch = 2;
    assert_int_equal(world_apply(&w, &open), TIDE_E_STALE);
    open.epoch = 0;
    assert_int_equal(world_apply(&w, &open), TIDE_E_STALE);
    open.epoch = 1;
    assert_int_equal(world_apply(&w, &open), TIDE_OK);
    static const enum command_kind later[] = {CMD_CUT_VOID, CMD_CUT_SETTLED, CMD_CUT_CLOSED, CMD_CUT_SEAL};
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        struct command early = about(&w, later[i]);
        assert_int_equal(world_apply(&w, &early), TIDE_E_STALE);
    }
    struct command go = about(&w, CMD_CUT_GO);
    assert_int_equal(world_apply(&w, &go), TIDE_OK);
    assert_int_equal(world_apply(&w, &go), TIDE_E_STALE);
    struct command seal = about(&w, CMD_CUT_SEAL), closed = about(&w, CMD_CUT_CLOSED), settled = about(&w, CMD_CUT_SETTLED);
    assert_int_equal(world_apply(&w, &seal), TIDE_E_STALE);
    assert_int_equal(world_apply(&w, &closed), TIDE_E_STALE);
    assert_int_equal(world_apply(&w, &settled), TIDE_OK);
    assert_int_equal(world_apply(&w, &settled), TIDE_E_STALE);
    /* Armed again: only what is void, and closed. */
    struct command rearm = about(&w, CMD_CUT_REARM);
    rearm.attempt = 2;
    rearm.epoch = 2;
    rearm.step = 2000;
    rearm.mode = CUT_MODE_FREE;
    assert_int_equal(world_apply(&w, &rearm), TIDE_E_STALE);
    struct command over = about(&w, CMD_CUT_VOID);
    assert_int_equal(world_apply(&w, &over), TIDE_OK);
    assert_int_equal(world_apply(&w, &over), TIDE_E_STALE);
    assert_int_equal(world_apply(&w, &rearm), TIDE_E_STALE);
    assert_int_equal(world_apply(&w, &seal), TIDE_E_STALE);
    assert_int_equal(world_apply(&w, &closed), TIDE_OK);
    assert_int_equal(world_apply(&w, &rearm), TIDE_OK);
    assert_int_equal(ckpt_of(&w, "j", 1)->epoch, 2);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_through_messages_takes_five_entries),
        cmocka_unit_test(free_ranks_record_at_once),
        cmocka_unit_test(nobody_goes_before_all_poll),
        cmocka_unit_test(a_rank_that_passes_voids_the_attempt),
        cmocka_unit_test(early_ranks_are_named_when_it_is_given_up),
        cmocka_unit_test(own_loops_are_found_out),
        cmocka_unit_test(a_step_that_never_comes_is_no_step_of_all),
        cmocka_unit_test(a_declared_step_that_never_comes_ends_the_cut),
        cmocka_unit_test(messages_that_do_not_arrive_are_waited_for),
        cmocka_unit_test(a_log_without_room_fails_what_was_recorded),
        cmocka_unit_test(unequal_collectives_name_the_communicator),
        cmocka_unit_test(ranks_with_and_without_colour_are_refused),
        cmocka_unit_test(ranks_in_no_common_step_need_colour),
        cmocka_unit_test(a_new_leader_goes_on_in_each_stage),
        cmocka_unit_test(a_new_generation_begins_with_epoch_one),
        cmocka_unit_test(orders_out_of_turn_are_stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
