/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/retain.h"
#include "core_found.h"

/* Checkpoints that were found corrupt, and that somebody has read since and found whole: which of them may be restored again. */

static enum tide_status find_corrupt(struct world *w, uint64_t cut)
{
    struct command bad = verdict(w, CMD_CKPT_CORRUPT, "j");
    bad.cut = cut;
    TEXT_SET(bad.event.text, "a sector cannot be read");
    return world_apply(w, &bad);
}

/* As who has read every byte of it in the store says it. */
static struct command readmission(struct world *w, uint64_t cut)
{
    const struct job *job = job_of(w, "j");
    const struct ckpt *ckpt = ckpt_of(w, "j", cut);
    struct command command = found(w, cut, ckpt->generation);
    TEXT_SET(command.job, "j");
    TEXT_SET(command.spec.name, "j");
    TEXT_SET(command.uid, job->uid);
    TEXT_SET(command.key, ckpt->manifest_key);
    TEXT_SET(command.digest, ckpt->manifest);
    TEXT_SET(command.store, "file:///store");
    command.force = true;
    return command;
}

/* The stories' nodes name their manifests shortly. */
static void name_as_agents_do(struct world *w, uint64_t cut)
{
    struct ckpt *both[] = {ckpt_of(w, "j", cut), job_ckpt(&state_job(&w->second, "j")->job, cut)};
    for (int i = 0; i < 2; i++)
        snprintf(both[i]->manifest_key, sizeof both[i]->manifest_key, "m/j.%s/%" PRIu64 "-%" PRIu64 "/COMMIT", job_of(w, "j")->uid, cut,
                 both[i]->generation);
}

static void begin_corrupt(struct world *w, uint64_t between_ms)
{
    start(w);
    struct command command = submission(w, "j", 2, 0, 1);
    TEXT_SET(command.uid, "00112233445566cc");
    assert_int_equal(submit_this(w, &command), TIDE_OK);
    run(w, 1000);
    commit_job(w);
    run(w, between_ms);
    commit_job(w);
    name_as_agents_do(w, 2);
    assert_int_equal(find_corrupt(w, 2), TIDE_OK);
    assert_int_equal(ckpt_of(w, "j", 2)->state, TIDE_CKPT_CORRUPT);
}

static void a_corrupt_one_that_was_read_whole_is_readmitted(void **context)
{
    (void)context;
    struct world w;
    begin_corrupt(&w, 0);
    struct command command = readmission(&w, 2);
    command.force = false;
    assert_int_equal(world_apply(&w, &command), TIDE_E_STATE);
    assert_text(w.err.text, "is corrupt here: a sector cannot be read; where its objects are whole again");
    assert_text(w.err.text, "tidemark ckpt verify --readmit j/2 has it committed again");
    command.force = true;
    TEXT_SET(command.digest, "ffffffffffffffffffffffffffffffff");
    assert_int_equal(world_apply(&w, &command), TIDE_E_CONFLICT);
    command = readmission(&w, 2);
    TEXT_SET(command.store, "file:///copy");
    assert_int_equal(world_apply(&w, &command), TIDE_E_CONFLICT);
    assert_text(w.err.text, "are known in file:///store; those in file:///copy are not taken");
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_CORRUPT);
    command = readmission(&w, 2);
    assert_int_equal(world_apply(&w, &command), TIDE_OK);
    assert_text(w.outcome.text, "checkpoint j/2 is committed again, and kept until it is unpinned");
    const struct ckpt *ckpt = ckpt_of(&w, "j", 2);
    assert_int_equal(ckpt->state, TIDE_CKPT_COMMITTED);
    assert_true(ckpt->pinned && !ckpt->imported);
    assert_string_equal(ckpt->reason, "");
    assert_text(event_last(&w, "j", EVENT_KEPT)->text, "was corrupt, and is readmitted: every byte of it was read in file:///store");
    assert_int_equal(world_apply(&w, &command), TIDE_E_EXISTS);
    /* It is what the job starts from again; and it can be found corrupt again. */
    crash(&w, 1);
    run(&w, 500);
    assert_int_equal(job_of(&w, "j")->restore_cut, 2);
    run(&w, 1000);
    name_as_agents_do(&w, 2);
    assert_int_equal(find_corrupt(&w, 2), TIDE_OK);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_CORRUPT);
    world_release(&w);
}

/* What is of a history that was given up is not restored, whoever found it whole. */
static void one_that_was_rolled_back_over_is_not(void **context)
{
    (void)context;
    struct world w;
    begin_corrupt(&w, 0);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 1), TIDE_OK);
    assert_text(event_last(&w, "j", EVENT_NOTE)->text, "checkpoint 2 is corrupt, and given up: rolled back to checkpoint 1");
    run(&w, 1000);
    struct command command = readmission(&w, 2);
    assert_int_equal(world_apply(&w, &command), TIDE_E_STATE);
    assert_text(w.err.text, "was given up when the job went back to an earlier one");
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_CORRUPT);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 2), TIDE_OK);
    world_release(&w);
}

/* One that somebody has pinned is not given up behind his back, though it is corrupt: it may only be out of reach. */
static void nor_is_a_pinned_one_given_up(void **context)
{
    (void)context;
    struct world w;
    begin_corrupt(&w, 0);
    struct command command = readmission(&w, 2);
    assert_int_equal(world_apply(&w, &command), TIDE_OK);
    assert_int_equal(find_corrupt(&w, 2), TIDE_OK);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 1), TIDE_E_STATE);
    assert_text(w.err.text, "checkpoint j/2 is pinned, and going back to 1 would give it up");
    assert_int_equal(order(&w, CMD_CKPT_UNPIN, "j", 2), TIDE_OK);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 1), TIDE_OK);
    assert_true(ckpt_of(&w, "j", 2)->given_up);
    world_release(&w);
}

/* The job went on from 1, and recorded 3 at an earlier step than that of 2: who goes back to 3 does not want 2 instead of it. */
static void what_is_newer_is_told_by_its_step(void **context)
{
    (void)context;
    struct world w;
    begin_corrupt(&w, 3000);
    crash(&w, 1);
    run(&w, 500);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    run(&w, 300);
    commit_job(&w);
    assert_true(ckpt_of(&w, "j", 3)->step < ckpt_of(&w, "j", 2)->step);
    struct command command = readmission(&w, 2);
    assert_int_equal(world_apply(&w, &command), TIDE_OK);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 3), TIDE_E_STATE);
    assert_text(w.err.text, "checkpoint j/2 is pinned, and going back to 3 would give it up");
    assert_int_equal(order(&w, CMD_CKPT_UNPIN, "j", 2), TIDE_OK);
    name_as_agents_do(&w, 2);
    assert_int_equal(find_corrupt(&w, 2), TIDE_OK);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 3), TIDE_OK);
    assert_int_equal(world_apply(&w, &command), TIDE_E_STATE);
    assert_text(w.err.text, "was given up");
    world_release(&w);
}

/* What of them a rollback has left behind was not kept in mind before level 4. */
static void those_of_before_are_given_up(void **context)
{
    (void)context;
    struct world w;
    begin_corrupt(&w, 0);
    w.state.level = w.second.level = 3;
    struct command raise = command_new(&w, CMD_CLUSTER_LEVEL, NULL), command = readmission(&w, 2);
    raise.level = 4;
    assert_int_equal(world_apply(&w, &raise), TIDE_OK);
    assert_true(ckpt_of(&w, "j", 2)->given_up);
    assert_false(ckpt_of(&w, "j", 1)->given_up);
    assert_int_equal(world_apply(&w, &command), TIDE_E_STATE);
    world_release(&w);
}

/* What a job began with is another's, whatever the uid that is said. */
static void nor_is_what_is_anothers(void **context)
{
    (void)context;
    struct world w;
    begin_corrupt(&w, 0);
    struct command command = readmission(&w, 2);
    struct ckpt *both[] = {ckpt_of(&w, "j", 2), job_ckpt(&state_job(&w.second, "j")->job, 2)};
    for (int i = 0; i < 2; i++)
        TEXT_SET(both[i]->manifest_key, "m/other." OLD_UID "/2-1/COMMIT");
    assert_int_equal(world_apply(&w, &command), TIDE_E_CONFLICT);
    assert_text(w.err.text, "lies under m/other." OLD_UID "/2-1/COMMIT, and is another job's");
    world_release(&w);
}

/* Of an imported job, too. */
static void there_is_room_for_its_pin(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    assert_int_equal(import(&w, 1, 1), TIDE_OK);
    assert_int_equal(order(&w, CMD_CKPT_UNPIN, "old", 1), TIDE_OK);
    struct command bad = verdict(&w, CMD_CKPT_CORRUPT, "old"), again = found(&w, 1, 1);
    bad.cut = 1;
    assert_int_equal(world_apply(&w, &bad), TIDE_OK);
    for (unsigned i = 0; i < RETAIN_PINNED_MAX; i++)
        assert_int_equal(import(&w, 2 + i, 1), TIDE_OK);
    again.force = true;
    assert_int_equal(world_apply(&w, &again), TIDE_E_LIMIT);
    assert_int_equal(ckpt_of(&w, "old", 1)->state, TIDE_CKPT_CORRUPT);
    assert_int_equal(order(&w, CMD_CKPT_UNPIN, "old", 2), TIDE_OK);
    assert_int_equal(world_apply(&w, &again), TIDE_OK);
    assert_int_equal(ckpt_of(&w, "old", 1)->state, TIDE_CKPT_COMMITTED);
    world_release(&w);
}

/* Versions that know of level 3 say what they always said, and are not asked for more. */
static void below_level_4_it_stays_corrupt(void **context)
{
    (void)context;
    struct world w;
    begin_corrupt(&w, 0);
    w.state.level = w.second.level = 3;
    struct command command = readmission(&w, 2);
    struct err err = {0};
    assert_int_equal(level_admits(&w.state, &command, &err), TIDE_E_STATE);
    assert_text(err.text, "needs level 4, and the group is at 3");
    command.force = false;
    assert_int_equal(level_admits(&w.state, &command, &err), TIDE_OK);
    assert_int_equal(world_apply(&w, &command), TIDE_E_STATE);
    assert_string_equal(w.err.text, "checkpoint j/2 is corrupt here: a sector cannot be read");
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "j", 1), TIDE_OK);
    assert_false(ckpt_of(&w, "j", 2)->given_up);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_corrupt_one_that_was_read_whole_is_readmitted),
        cmocka_unit_test(one_that_was_rolled_back_over_is_not),
        cmocka_unit_test(nor_is_a_pinned_one_given_up),
        cmocka_unit_test(what_is_newer_is_told_by_its_step),
        cmocka_unit_test(those_of_before_are_given_up),
        cmocka_unit_test(nor_is_what_is_anothers),
        cmocka_unit_test(there_is_room_for_its_pin),
        cmocka_unit_test(below_level_4_it_stays_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
