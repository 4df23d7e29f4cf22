/* SPDX-License-Identifier: Apache-2.0 */
/* Single stories with time stamps, each on a world that tells no other lie. All invariants of check.c hold throughout. */
#include "tests/sim/story.h"

/* t=0 s four nodes, t=0.1 s a job of three: it runs through, every checkpoint but perhaps the last is committed. */
static void nothing_happens(void **state)
{
    (void)state;
    struct world *w = begin(4);
    submit(w, 3, 0);
    until(w, SECONDS(2), all_step);
    until(w, SECONDS(4), cut_2_committed);
    assert_int_equal(job_now(w)->generation, 1);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* t=2 s a rank is killed. Within a second the next generation steps, from the newest checkpoint, on the same nodes. */
static void a_rank_dies(void **state)
{
    (void)state;
    struct world *w = begin(3);
    submit(w, 3, 0);
    until(w, SECONDS(4), cut_1_committed);
    struct step_model *step = NULL;
    for (size_t s = 0; s < STEPS_MAX && step == NULL; s++)
        if (w->hosts[1].steps[s].alive)
            step = &w->hosts[1].steps[s];
    assert_non_null(step);
    uint64_t died = w->now;
    rank_end(w, &w->hosts[1], step, &step->ranks[0], 0, 9);
    until(w, SECONDS(1), second_generation_steps);
    assert_true(w->now - died < SECONDS(1));
    assert_int_equal(job_now(w)->restore_cut, 1);
    assert_int_equal(job_now(w)->restarts, 1);
    assert_int_equal(job_now(w)->recoveries.items[0].cause, EVENT_RANK_EXITED);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* t=3 s the plug of n1 is pulled. Lease + detection later the spare has its place. */
static void a_node_is_lost(void **state)
{
    (void)state;
    struct world *w = begin(4);
    submit(w, 3, 1);
    until(w, SECONDS(4), cut_1_committed);
    uint64_t lost = w->now;
    host_lose(w, &w->hosts[1], false);
    until(w, SECONDS(3), n1_is_lost);
    assert_true(w->now - lost >= MS(1500));
    until(w, SECONDS(2), second_generation_steps);
    assert_string_equal(job_now(w)->nodes.items[0], "n0");
    assert_string_equal(job_now(w)->nodes.items[1], "n3");
    assert_string_equal(job_now(w)->nodes.items[2], "n2");
    host_boot(w, &w->hosts[1]);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* The coordinator dies right after it has sealed a cut, and is away for three seconds. Training does not notice; the cut is
 * stored and committed by the next life. */
static void coordinator_dies_between_seal_and_commit(void **state)
{
    (void)state;
    struct world *w = begin(3);
    submit(w, 3, 0);
    until(w, SECONDS(4), cut_1_sealed);
    uint64_t before = step_of(w, 0);
    leader_crash(w);
    after(w, SECONDS(3));
    assert_true(step_of(w, 0) > before + 100);
    leader_boot(w);
    assert_true(in_memory(w, 1));
    until(w, SECONDS(3), cut_1_committed);
    assert_int_equal(job_now(w)->generation, 1);
    assert_int_equal(job_now(w)->restarts, 0);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* The agent of n1 dies while a cut is armed there, and comes back after half a second: same generation, and the cut is either
 * sealed or called off, never left open. */
static void agent_restarts_within_a_cut(void **state)
{
    (void)state;
    struct world *w = begin(3);
    submit(w, 3, 0);
    until(w, SECONDS(4), cut_1_open);
    after(w, MS(20));
    uint64_t before = step_of(w, 1);
    agent_crash(w, &w->hosts[1]);
    after(w, MS(500));
    assert_true(step_of(w, 1) > before);
    agent_boot(w, &w->hosts[1]);
    until(w, SECONDS(6), cut_1_closed);
    after(w, SECONDS(1));
    assert_int_equal(job_now(w)->generation, 1);
    assert_int_equal(job_now(w)->restarts, 0);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* n1 is cut off for eight seconds. The spare takes over; n1's ranks live on as zombies, change nothing, and are ended when it
 * is back. */
static void zombie_node_returns(void **state)
{
    (void)state;
    struct world *w = begin(4);
    submit(w, 3, 1);
    until(w, SECONDS(4), cut_1_committed);
    w->hosts[1].to_leader_cut_until = w->hosts[1].from_leader_cut_until = w->now + SECONDS(8);
    until(w, SECONDS(5), second_generation_steps);
    assert_int_equal(alive_on(w, 1), 1);
    uint64_t zombie = step_of(w, 1);
    after(w, SECONDS(3));
    assert_int_equal(step_of(w, 1), zombie);
    until(w, SECONDS(10), n1_is_ready);
    after(w, SECONDS(1));
    assert_int_equal(alive_on(w, 1), 0);
    assert_int_equal(job_now(w)->generation, 2);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

static void spoil_arena(struct world *w, uint32_t host, uint32_t rank, uint64_t cut)
{
    for (uint32_t i = 0; i < JOBS_MAX; i++)
        for (uint32_t s = 0; s < SLOTS; s++)
            if (w->hosts[host].arenas[i].slots[rank][s].cut == cut)
                w->hosts[host].arenas[i].slots[rank][s].content ^= 1;
    w->truths[0]->cuts[cut].spoiled = true;
}

static void spoil_shard(struct world *w, uint32_t rank, uint64_t cut)
{
    for (size_t i = 0; i < w->depot.count; i++)
        if (w->depot.items[i].cut == cut && !w->depot.items[i].manifest && w->depot.items[i].rank == rank)
            w->depot.items[i].corrupt = true;
    w->truths[0]->cuts[cut].spoiled = true;
}

static void spoil_copies(struct world *w, uint64_t cut, uint32_t rank)
{
    for (uint32_t h = 0; h < w->host_count; h++)
        for (uint32_t s = 0; s < SLOTS; s++)
            if (w->hosts[h].arenas[0].copies[rank][s].cut == cut)
                w->hosts[h].arenas[0].copies[rank][s].content ^= 1;
}

static bool cut_2_copied(const struct world *w)
{
    return cut_2_committed(w) && job_ckpt(job_now(w), 2)->peers.count == 3;
}

/* Its own node's memory has rotted: the restart takes the copy in another's, of the same checkpoint. */
static void rotten_memory_falls_back_to_the_peer(void **state)
{
    (void)state;
    struct world *w = begin(3);
    submit(w, 3, 0);
    until(w, SECONDS(6), cut_2_copied);
    spoil_arena(w, 2, 2, 2);
    kill_rank_0(w);
    until(w, SECONDS(3), second_generation_steps);
    assert_int_equal(job_now(w)->restore_cut, 2);
    assert_int_equal(w->copies_used, 1);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* All that is in memory has rotted: the restart takes the store's, of the same checkpoint. */
static void rotten_memory_falls_back_to_the_store(void **state)
{
    (void)state;
    struct world *w = begin(3);
    submit(w, 3, 0);
    until(w, SECONDS(6), cut_2_copied);
    spoil_arena(w, 2, 2, 2);
    spoil_copies(w, 2, 2);
    kill_rank_0(w);
    until(w, SECONDS(3), second_generation_steps);
    assert_int_equal(job_now(w)->restore_cut, 2);
    assert_int_equal(w->copies_used, 0);
    assert_int_equal(cut_state(w, 2), TIDE_CKPT_COMMITTED);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* Memory and store have rotted: checkpoint 2 is called corrupt, the job starts from 1. */
static void rotten_checkpoint_falls_back_to_an_older_one(void **state)
{
    (void)state;
    struct world *w = begin(3);
    submit(w, 3, 0);
    until(w, SECONDS(6), cut_2_copied);
    spoil_arena(w, 2, 2, 2);
    spoil_copies(w, 2, 2);
    spoil_shard(w, 2, 2);
    kill_rank_0(w);
    until(w, SECONDS(6), third_generation_steps);
    assert_int_equal(cut_state(w, 2), TIDE_CKPT_CORRUPT);
    assert_int_equal(job_now(w)->restore_cut, 1);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* A program that exits with 93 is not started again. */
static void status_93_is_final(void **state)
{
    (void)state;
    struct world *w = begin(2);
    submit(w, 2, 0);
    until(w, SECONDS(2), all_step);
    for (size_t s = 0; s < STEPS_MAX; s++)
        if (w->hosts[0].steps[s].alive)
            rank_end(w, &w->hosts[0], &w->hosts[0].steps[s], &w->hosts[0].steps[s].ranks[0], TIDE_EXIT_DO_NOT_RESTART, 0);
    w->truths[0]->exit93 = true;
    w->healed = true;
    until(w, SECONDS(10), world_converged);
    assert_int_equal(job_now(w)->exit_status, TIDE_EXIT_DO_NOT_RESTART);
    assert_int_equal(job_now(w)->generation, 1);
    ends_well(w, TIDE_JOB_FAILED);
}

/* Back to checkpoint 1 by hand: 2 is given up, no restart is counted, and a later failure does not bring 2 back. */
static void rollback_is_not_undone_by_a_failure(void **state)
{
    (void)state;
    struct world *w = begin(3);
    submit(w, 3, 0);
    until(w, SECONDS(6), cut_2_committed);
    struct op op = {.kind = OP_ROLLBACK, .cut = 1};
    text_copy(op.job, sizeof op.job, "job0");
    person_asks(w, op);
    until(w, SECONDS(3), second_generation_steps);
    assert_int_equal(job_now(w)->restore_cut, 1);
    assert_int_equal(job_now(w)->restarts, 0);
    assert_int_equal(cut_state(w, 2), TIDE_CKPT_DROPPED);
    kill_rank_0(w);
    until(w, SECONDS(3), third_generation_steps);
    assert_true(job_now(w)->restore_cut == 1 || job_now(w)->restore_cut > 2);
    assert_int_equal(job_now(w)->restarts, 1);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* No spare: the job waits for its node for two minutes, longer than any fence may take, and goes on when it is back. */
static void node_comes_back_late(void **state)
{
    (void)state;
    struct world *w = begin(2);
    submit(w, 2, 0);
    until(w, SECONDS(4), cut_1_committed);
    host_lose(w, &w->hosts[1], false);
    until(w, SECONDS(5), waits_for_nodes);
    after(w, SECONDS(120));
    host_boot(w, &w->hosts[1]);
    until(w, SECONDS(5), second_generation_steps);
    assert_int_equal(job_now(w)->restore_cut, 1);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* Cut off for two minutes while its job waits for it: the zombie ranks are ended first, then the job goes on there. */
static void zombie_comes_back_late(void **state)
{
    (void)state;
    struct world *w = begin(2);
    submit(w, 2, 0);
    until(w, SECONDS(4), cut_1_committed);
    w->hosts[1].to_leader_cut_until = w->hosts[1].from_leader_cut_until = w->now + SECONDS(120);
    until(w, SECONDS(5), waits_for_nodes);
    until(w, SECONDS(150), second_generation_steps);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* n1 is a zombie of generation 1 that dies slowly. Just when it is back, generation 2 fails, its spare n3 was drained, and n1 gets
 * a part in generation 3: its ranks start there only when the old ones are gone. */
static void zombie_dies_slowly(void **state)
{
    (void)state;
    struct world *w = begin(4);
    submit(w, 3, 1)->total = 900;
    until(w, SECONDS(4), cut_1_committed);
    w->hosts[1].to_leader_cut_until = w->hosts[1].from_leader_cut_until = w->now + SECONDS(8);
    until(w, SECONDS(5), second_generation_steps);
    struct op op = {.kind = OP_DRAIN};
    text_copy(op.node, sizeof op.node, "n3");
    person_asks(w, op);
    w->kill_takes_ns = MS(3000);
    until(w, SECONDS(10), n1_is_ready);
    assert_int_equal(alive_on(w, 1), 1);
    w->kill_takes_ns = 0; /* only what began before takes so long */
    kill_rank_0(w);
    until(w, SECONDS(8), third_generation_steps);
    assert_string_equal(job_now(w)->nodes.items[1], "n1");
    op.kind = OP_RESUME;
    person_asks(w, op);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* Verdicts of generation 1 that were long on their way reach the log under generation 2: none may count. */
static void verdicts_of_an_older_generation_are_refused(void **state)
{
    (void)state;
    static const unsigned kinds[] = {CMD_GEN_FAIL, CMD_GEN_STARTED, CMD_GEN_STEPPING, CMD_JOB_FINISH, CMD_JOB_STOPPED, CMD_CUT_OPEN,
                                     CMD_CUT_REARM, CMD_CUT_ABORT, CMD_CUT_SEAL, CMD_CKPT_COMMIT, CMD_GEN_LAUNCH};
    struct world *w = begin(3);
    submit(w, 3, 0);
    until(w, SECONDS(4), cut_1_committed);
    kill_rank_0(w);
    until(w, SECONDS(3), second_generation_steps);
    until(w, SECONDS(3), cut_is_open);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const struct ckpt *open = &job_now(w)->ckpts.items[job_now(w)->ckpts.count - 1];
        struct command late = {.kind = kinds[i], .generation = 1, .cut = open->cut, .attempt = open->attempt, .step = open->step,
                               .port = 20000, .token = "0123", .key = "x", .digest = "00"};
        text_copy(late.job, sizeof late.job, "job0");
        text_copy(late.uid, sizeof late.uid, job_now(w)->uid);
        w->on_applied = must_be_refused;
        leader_propose(w, &late);
        after(w, MS(5));
        w->on_applied = NULL;
    }
    assert_int_equal(job_now(w)->generation, 2);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* An order of generation 1 that was long on its way, under whatever revision, reaches a node that knows of generation 2. */
static void order_of_an_older_generation_is_refused(void **state)
{
    (void)state;
    struct world *w = begin(3);
    struct desired old;
    struct heartbeat beat;
    struct err err = {0};
    submit(w, 3, 0);
    until(w, SECONDS(4), cut_1_committed);
    assert_int_equal(desired_build(&w->leader.state, &coord_in_office(w)->office.book, "n1", &old, &err), TIDE_OK);
    kill_rank_0(w);
    until(w, SECONDS(3), second_generation_steps);
    old.revision = w->leader.state.revision;
    agent_feed(w, &w->hosts[1], &(struct agent_event){.kind = EV_DESIRED, .desired = &old});
    codec_release(&desired_codec, &old);
    agent_heartbeat(w->hosts[1].core, w->now, &beat);
    assert_int_equal(beat.jobs.count, 1);
    assert_int_equal(beat.jobs.items[0].generation, 2);
    codec_release(&heartbeat_codec, &beat);
    assert_int_equal(alive_on(w, 1), 1);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* n2's agent stands still until its rank has passed the armed step: the cut is armed again for a later one. n0's word that it has
 * recorded the second time is lost on the way: what it recorded the first time must not be taken for it. */
static void records_of_two_attempts_are_not_mixed(void **state)
{
    (void)state;
    struct world *w = begin(3);
    submit(w, 3, 0)->spec.launcher = LAUNCHER_NONE;
    until(w, SECONDS(4), cut_1_open);
    w->hosts[2].stopped_until = w->now + MS(1100);
    until(w, SECONDS(3), cut_1_again);
    until(w, SECONDS(4), n0_is_about_to_record);
    w->hosts[0].to_leader_cut_until = w->now + MS(300);
    until(w, SECONDS(4), cut_1_closed);
    assert_true(in_memory(w, 1) || cut_state(w, 1) == TIDE_CKPT_COMMITTED);
    assert_int_equal(job_ckpt(job_now(w), 1)->attempt, 2);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* A leader that has just taken office has heard nobody yet: nobody is lost before a full lease has passed. */
static void new_leader_gives_full_leases(void **state)
{
    (void)state;
    struct world *w = begin(3);
    submit(w, 3, 0);
    until(w, SECONDS(2), all_step);
    leader_crash(w);
    after(w, SECONDS(30));
    leader_boot(w);
    after(w, SECONDS(3));
    assert_int_equal(w->lost_revision[0] + w->lost_revision[1] + w->lost_revision[2], 0);
    assert_int_equal(job_now(w)->restarts, 0);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* An old heartbeat that was long on its way says nothing any more. */
static void late_heartbeat_is_ignored(void **state)
{
    (void)state;
    struct world *w = begin(2);
    submit(w, 2, 0);
    until(w, SECONDS(2), all_step);
    struct heartbeat old;
    agent_heartbeat(w->hosts[1].core, w->now, &old);
    char *text = codec_print(&heartbeat_codec, &old, CODEC_COMPACT);
    codec_release(&heartbeat_codec, &old);
    after(w, SECONDS(1));
    uint64_t seen = book_step(&coord_in_office(w)->office.book, &w->leader.state, "job0");
    uint64_t newest = 0;
    for (size_t i = 0; i < coord_in_office(w)->office.book.entries.count; i++)
        if (strcmp(coord_in_office(w)->office.book.entries.items[i].node, "n1") == 0)
            newest = coord_in_office(w)->office.book.entries.items[i].heartbeat.sequence;
    leader_on_heartbeat(w, &(struct args){.host = 1, .epoch = w->hosts[1].agent_epoch, .text = text});
    mem_free(text);
    for (size_t i = 0; i < coord_in_office(w)->office.book.entries.count; i++)
        if (strcmp(coord_in_office(w)->office.book.entries.items[i].node, "n1") == 0)
            assert_int_equal(coord_in_office(w)->office.book.entries.items[i].heartbeat.sequence, newest);
    assert_true(book_step(&coord_in_office(w)->office.book, &w->leader.state, "job0") >= seen);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* n1 is still writing its part of checkpoint 1 when that is dropped with the job. Nothing of it stays in the store. */
static void a_slow_writer_is_waited_for(void **state)
{
    (void)state;
    struct world *w = begin(2);
    w->n1_stores_ns = SECONDS(9);
    submit(w, 2, 0);
    until(w, SECONDS(4), cut_1_sealed);
    uint64_t sealed = w->now;
    struct op op = {.kind = OP_CANCEL};
    text_copy(op.job, sizeof op.job, "job0");
    person_asks(w, op);
    w->truths[0]->cancelled = true;
    until(w, SECONDS(8), cut_1_dropped);
    assert_true(w->now < sealed + SECONDS(8));
    after(w, SECONDS(1));
    assert_int_equal(leader_job(w, "job0")->purge.count, 1);
    ends_well(w, TIDE_JOB_CANCELLED);
}

/* n1 is cut off while it writes its part of checkpoint 1, and writes on. The checkpoint is given up and deleted; when n1 is
 * back, what it has written since then goes, too. */
static void what_a_lost_node_wrote_is_deleted_when_it_is_back(void **state)
{
    (void)state;
    struct world *w = begin(4);
    w->n1_stores_ns = SECONDS(25);
    submit(w, 3, 1)->total = 900;
    until(w, SECONDS(4), cut_1_sealed);
    w->hosts[1].to_leader_cut_until = w->hosts[1].from_leader_cut_until = w->now + SECONDS(12);
    until(w, SECONDS(5), second_generation_steps);
    until(w, SECONDS(5), cut_1_dropped);
    until(w, SECONDS(3), nothing_to_purge);
    assert_true(w->truths[0]->cuts[1].purged);
    until(w, SECONDS(12), n1_is_ready);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* The program fails as soon as it is started: at once, then after pauses of 1, 2 and 4 s, also under a new leader. */
static void a_program_that_gets_nowhere_is_not_hurried(void **state)
{
    (void)state;
    static const uint64_t pauses_s[] = {0, 0, 1, 2, 4};
    struct world *w = begin(2);
    submit(w, 2, 0);
    uint64_t failed = w->now;
    for (size_t i = 0; i < sizeof pauses_s / sizeof pauses_s[0]; i++) {
        if (i == 4) {
            after(w, SECONDS(1));
            leader_crash(w);
            leader_boot(w);
        }
        until(w, SECONDS(9), rank_0_lives);
        assert_true(w->now - failed >= SECONDS(pauses_s[i]));
        assert_true(i == 4 || w->now - failed < SECONDS(pauses_s[i] + 1));
        failed = w->now;
        kill_rank_0(w);
        until(w, SECONDS(2), generation_ended);
    }
    assert_int_equal(leader_job(w, "job0")->pause_ms, 8000);
    until(w, SECONDS(12), all_step);
    kill_rank_0(w);
    until(w, SECONDS(2), generation_ended);
    assert_int_equal(leader_job(w, "job0")->pause_ms, 0);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

static bool cut_4_sealed(const struct world *w)
{
    return in_memory(w, 4);
}

/* n1's part of checkpoint 1 takes 25 s into the store, and a checkpoint is wanted every second: others are sealed in memory
 * meanwhile. A rank dies, and an agent: the restart takes the newest of them, and 1 is committed nevertheless. */
static void a_store_that_lags_does_not_stop_checkpoints(void **state)
{
    (void)state;
    struct world *w = begin(3);
    w->n1_stores_ns = SECONDS(25);
    submit(w, 3, 0)->total = 1500;
    until(w, SECONDS(4), cut_1_sealed);
    until(w, SECONDS(12), cut_4_sealed);
    assert_int_equal(leader_job(w, "job0")->store_cut, 1);
    assert_true(in_memory(w, 1));
    agent_crash(w, &w->hosts[2]);
    after(w, MS(300));
    agent_boot(w, &w->hosts[2]);
    uint64_t newest = w->truths[0]->newest_restorable;
    kill_rank_0(w);
    until(w, SECONDS(3), second_generation_steps);
    assert_true(job_now(w)->restore_cut >= newest && newest >= 4);
    w->n1_stores_ns = 0;
    until(w, SECONDS(30), cut_1_committed);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* The first generation of the step that runs there. */
static uint64_t born_on(const struct world *w, uint32_t host)
{
    for (size_t s = 0; s < STEPS_MAX; s++)
        if (w->hosts[host].steps[s].alive)
            return step_spec_born(&w->hosts[host].steps[s].spec);
    return 0;
}

/* Its ranks ask to stay. A rank dies: the two others go over, within the time of any restart. It dies again, and n2's agent is
 * killed while n2 waits for the next generation: n1 goes over once more, and n2 as well or not. */
static void who_stays_goes_over(void **state)
{
    (void)state;
    struct world *w = begin(3);
    struct plan *plan = submit(w, 3, 0);
    plan->stays = true;
    plan->spec.launcher = LAUNCHER_NONE;
    until(w, SECONDS(4), cut_1_committed);
    kill_rank_0(w);
    until(w, SECONDS(1), second_generation_steps);
    assert_true(born_on(w, 0) == 2 && born_on(w, 1) == 1 && born_on(w, 2) == 1);
    assert_int_equal(job_now(w)->restarts, 1);
    kill_rank_0(w);
    until(w, SECONDS(1), generation_ended);
    agent_crash(w, &w->hosts[2]);
    after(w, MS(200));
    agent_boot(w, &w->hosts[2]);
    until(w, SECONDS(5), third_generation_steps);
    assert_int_equal(born_on(w, 1), 1);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

static bool cut_2_peered(const struct world *w)
{
    return leader_job(w, "job0") != NULL && job_now(w)->next_cut > 2 && cut_state(w, 2) == TIDE_CKPT_PEERED;
}

static bool on_the_spare(const struct world *w)
{
    return second_generation_steps(w) && strcmp(job_now(w)->nodes.items[1], "n2") == 0;
}

/* The store takes nothing; a host is lost with its memory, and then another: each time a spare goes on from the copy, at the newest
 * step that was copied. */
static void a_lost_host_is_restored_from_copies_without_a_store(void **state)
{
    (void)state;
    struct world *w = begin(4);
    w->n1_stores_ns = SECONDS(600);
    submit(w, 2, 1)->total = 700;
    until(w, SECONDS(20), cut_2_peered);
    uint64_t step = job_ckpt(job_now(w), 2)->step;
    host_lose(w, &w->hosts[1], false);
    until(w, SECONDS(12), on_the_spare);
    assert_true(job_now(w)->restore_cut >= 2 && job_now(w)->recoveries.items[0].to_step >= step);
    assert_true(w->copies_used >= 1);
    assert_int_equal(cut_state(w, job_now(w)->restore_cut) == TIDE_CKPT_COMMITTED, 0);
    w->n1_stores_ns = 0;
    host_boot(w, &w->hosts[1]);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

int main(void)
{
    const struct CMUnitTest stories[] = {
        cmocka_unit_test(nothing_happens),
        cmocka_unit_test(a_rank_dies),
        cmocka_unit_test(a_node_is_lost),
        cmocka_unit_test(coordinator_dies_between_seal_and_commit),
        cmocka_unit_test(agent_restarts_within_a_cut),
        cmocka_unit_test(zombie_node_returns),
        cmocka_unit_test(rotten_memory_falls_back_to_the_peer),
        cmocka_unit_test(rotten_memory_falls_back_to_the_store),
        cmocka_unit_test(rotten_checkpoint_falls_back_to_an_older_one),
        cmocka_unit_test(status_93_is_final),
        cmocka_unit_test(rollback_is_not_undone_by_a_failure),
        cmocka_unit_test(node_comes_back_late),
        cmocka_unit_test(zombie_comes_back_late),
        cmocka_unit_test(zombie_dies_slowly),
        cmocka_unit_test(verdicts_of_an_older_generation_are_refused),
        cmocka_unit_test(order_of_an_older_generation_is_refused),
        cmocka_unit_test(records_of_two_attempts_are_not_mixed),
        cmocka_unit_test(new_leader_gives_full_leases),
        cmocka_unit_test(late_heartbeat_is_ignored),
        cmocka_unit_test(a_slow_writer_is_waited_for),
        cmocka_unit_test(what_a_lost_node_wrote_is_deleted_when_it_is_back),
        cmocka_unit_test(a_program_that_gets_nowhere_is_not_hurried),
        cmocka_unit_test(a_store_that_lags_does_not_stop_checkpoints),
        cmocka_unit_test(who_stays_goes_over),
        cmocka_unit_test(a_lost_host_is_restored_from_copies_without_a_store),
    };
    return cmocka_run_group_tests_name("sim/stories", stories, NULL, NULL);
}
