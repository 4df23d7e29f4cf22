/* SPDX-License-Identifier: Apache-2.0 */
#include "core_found.h"

/* Checkpoints that were found in a store: registered, kept, and gone on from by a job of this cluster. */

static void found_ones_are_listed_and_kept(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    assert_int_equal(import(&w, 9, 4), TIDE_OK);
    assert_text(w.outcome.text, "checkpoint old/9 is imported, and kept until it is unpinned and dropped");
    /* In whatever order. */
    assert_int_equal(import(&w, 3, 1), TIDE_OK);
    assert_int_equal(import(&w, 7, 4), TIDE_OK);
    const struct job *job = job_of(&w, "old");
    assert_state(&w, "old", "imported");
    assert_string_equal(job->uid, OLD_UID);
    assert_int_equal(job->generation, 4);
    assert_int_equal(job->next_cut, 10);
    assert_int_equal(job->ckpts.count, 3);
    for (size_t i = 0; i < 3; i++) {
        static const uint64_t cuts[] = {3, 7, 9};
        const struct ckpt *ckpt = &job->ckpts.items[i];
        assert_int_equal(ckpt->cut, cuts[i]);
        assert_int_equal(ckpt->state, TIDE_CKPT_COMMITTED);
        assert_true(ckpt->imported && ckpt->pinned);
    }
    assert_string_equal(ckpt_of(&w, "old", 7)->manifest_key, "m/old." OLD_UID "/7-4/COMMIT");
    assert_int_equal(import(&w, 7, 4), TIDE_E_EXISTS);
    /* Nothing runs of it, nothing is deleted of it, and its objects are not searched for what this log does not know. */
    run(&w, 5000);
    assert_int_equal(order(&w, CMD_CKPT_GC, "old", 0), TIDE_OK);
    run(&w, 1000);
    assert_int_equal(job_of(&w, "old")->ckpts.count, 3);
    assert_int_equal(record_of(&w, "old")->purge.count, 0);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "old", 7), TIDE_E_STATE);
    /* When somebody says so it goes as any other does. */
    assert_int_equal(order(&w, CMD_CKPT_UNPIN, "old", 7), TIDE_OK);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "old", 7), TIDE_OK);
    assert_int_equal(order(&w, CMD_CKPT_GC, "old", 0), TIDE_OK);
    run(&w, 200);
    assert_int_equal(ckpt_of(&w, "old", 7)->state, TIDE_CKPT_DROPPED);
    assert_int_equal(import(&w, 7, 4), TIDE_E_STATE);
    world_release(&w);
}

/* Another cluster may live off them: who unpins them has not said that they may go. */
static void no_rule_deletes_them(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    for (uint64_t cut = 1; cut <= 6; cut++)
        assert_int_equal(import(&w, cut, 1), TIDE_OK);
    for (uint64_t cut = 1; cut <= 6; cut++)
        assert_int_equal(order(&w, CMD_CKPT_UNPIN, "old", cut), TIDE_OK);
    run(&w, 1000);
    assert_int_equal(order(&w, CMD_CKPT_GC, "old", 0), TIDE_OK);
    run(&w, 1000);
    for (uint64_t cut = 1; cut <= 6; cut++)
        assert_int_equal(ckpt_of(&w, "old", cut)->state, TIDE_CKPT_COMMITTED);
    world_release(&w);
}

/* A store with ever so many jobs does not make the group forget its own. */
static void an_import_takes_no_jobs_place(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    for (unsigned i = 0; i < TIDE_JOBS_MAX; i++) { /* without the looks of world_apply at the whole state: they would take minutes */
        struct command command = found(&w, 1, 1);
        snprintf(command.uid, sizeof command.uid, "%016x", i + 1);
        snprintf(command.key, sizeof command.key, "m/old.%s/1-1/COMMIT", command.uid);
        assert_int_equal(apply(&w.state, &command, w.state.revision + 1, &w.outcome, &w.err), TIDE_OK);
        assert_int_equal(apply(&w.second, &command, w.second.revision + 1, &w.outcome, &w.err), TIDE_OK);
    }
    assert_int_equal(import(&w, 1, 1), TIDE_E_LIMIT);
    assert_text(w.err.text, "of job old nothing is imported");
    assert_int_equal(w.state.jobs.count, TIDE_JOBS_MAX);
    assert_string_equal(w.state.jobs.items[0].job.uid, "0000000000000001");
    world_release(&w);
}

static enum tide_status import_wrong(struct world *w, void (*wrong)(struct command *command))
{
    struct command command = found(w, 5, 2);
    wrong(&command);
    size_t jobs = w->state.jobs.count;
    enum tide_status status = world_apply(w, &command);
    assert_int_equal(w->state.jobs.count, jobs);
    return status;
}

static void of_another_job(struct command *command)
{
    TEXT_SET(command->key, "m/other." OLD_UID "/5-2/COMMIT");
}
static void above_its_place(struct command *command)
{
    TEXT_SET(command->key, "m/old." OLD_UID "/../other/COMMIT");
}
static void of_another_cut(struct command *command)
{
    command->cut = 6;
}
static void without_a_uid(struct command *command)
{
    TEXT_SET(command->uid, "../../../../etc");
}
static void without_a_digest(struct command *command)
{
    TEXT_SET(command->digest, "none");
}
static void without_ranks(struct command *command)
{
    command->spec.nnodes = 0;
}
static void with_too_many_ranks(struct command *command)
{
    command->spec.nnodes = TIDE_RANKS_MAX - 15; /* a prime */
}
static void without_a_store(struct command *command)
{
    TEXT_SET(command->store, "");
}
static void before_the_first_step(struct command *command)
{
    command->step = 0;
}

static void what_cannot_be_is_refused(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    assert_int_equal(import_wrong(&w, of_another_job), TIDE_E_INVALID);
    assert_text(w.err.text, "checkpoint old/5 lies under m/old." OLD_UID "/5-2/COMMIT, not under");
    assert_int_equal(import_wrong(&w, above_its_place), TIDE_E_INVALID);
    assert_int_equal(import_wrong(&w, of_another_cut), TIDE_E_INVALID);
    assert_int_equal(import_wrong(&w, without_a_uid), TIDE_E_INVALID);
    assert_int_equal(import_wrong(&w, without_a_digest), TIDE_E_INVALID);
    assert_int_equal(import_wrong(&w, without_ranks), TIDE_E_INVALID);
    assert_int_equal(import_wrong(&w, with_too_many_ranks), TIDE_E_LIMIT);
    assert_int_equal(import_wrong(&w, without_a_store), TIDE_E_INVALID);
    assert_int_equal(import_wrong(&w, before_the_first_step), TIDE_E_INVALID);
    world_release(&w);
}

static void ids_of_two_histories_are_not_mixed(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    assert_int_equal(import(&w, 5, 2), TIDE_OK);
    /* Its coordinators were given an older state once, and used 5 again. */
    struct command again = found(&w, 5, 3);
    TEXT_SET(again.digest, "ffffffffffffffffffffffffffffffff");
    assert_int_equal(world_apply(&w, &again), TIDE_E_CONFLICT);
    struct command elsewhere = found(&w, 6, 3);
    TEXT_SET(elsewhere.store, "s3://copy");
    assert_int_equal(world_apply(&w, &elsewhere), TIDE_E_CONFLICT);
    struct command wider = found(&w, 6, 3);
    wider.spec.nnodes = 4;
    w.state.level = w.second.level = 2;
    assert_int_equal(world_apply(&w, &wider), TIDE_E_CONFLICT);
    /* Since level 3 a job may have been of different sizes. */
    w.state.level = w.second.level = 3;
    assert_int_equal(world_apply(&w, &wider), TIDE_OK);
    assert_int_equal(ckpt_of(&w, "old", 6)->world_size, 4);
    assert_int_equal(ckpt_of(&w, "old", 5)->world_size, 0);
    /* What this log knows of a job of its own is all there is to know. */
    struct command mine = submission(&w, "j", 2, 0, 1);
    TEXT_SET(mine.uid, "00112233445566cc");
    submit_this(&w, &mine);
    run(&w, 1000);
    struct command own = found(&w, 1, 1);
    TEXT_SET(own.job, "j");
    TEXT_SET(own.uid, "00112233445566cc");
    TEXT_SET(own.key, "m/j.00112233445566cc/1-1/COMMIT");
    assert_int_equal(world_apply(&w, &own), TIDE_E_STATE);
    assert_text(w.err.text, "is this cluster's own");
    /* Nor does a name that somebody uses just now come to mean two jobs. */
    struct command named = found(&w, 1, 1);
    TEXT_SET(named.job, "j");
    TEXT_SET(named.uid, "00112233445566bb");
    TEXT_SET(named.key, "m/j.00112233445566bb/1-1/COMMIT");
    assert_int_equal(world_apply(&w, &named), TIDE_E_STATE);
    assert_text(w.err.text, "import it when that has ended");
    world_release(&w);
}

static enum tide_status go_on(struct world *w, const char *name, uint32_t ranks, const char *from)
{
    struct command command = submission(w, name, ranks, 0, 1);
    TEXT_SET(command.spec.restore_from, from);
    command.spec.ckpt_keep = 1;
    command.spec.ckpt_grace_ms = 1;
    enum tide_status status = world_apply(w, &command);
    codec_release(&job_spec_codec, &command.spec);
    return status;
}

static void a_job_goes_on_from_one(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    assert_int_equal(import(&w, 7, 4), TIDE_OK);
    assert_int_equal(import(&w, 9, 4), TIDE_OK);
    assert_int_equal(go_on(&w, "j", 2, "nobody"), TIDE_E_NOT_FOUND);
    assert_int_equal(go_on(&w, "j", 2, "old/8"), TIDE_E_NOT_FOUND);
    assert_int_equal(go_on(&w, "j", 2, "old/07"), TIDE_E_INVALID);
    assert_int_equal(go_on(&w, "j", 2, "../old"), TIDE_E_INVALID);
    assert_int_equal(go_on(&w, "j", 1, "old/7"), TIDE_E_INVALID);
    assert_text(w.err.text, "checkpoint old/7 is of 2 ranks, the job has 1");
    assert_int_equal(go_on(&w, "j", 2, "old"), TIDE_OK);
    run(&w, 300);
    const struct job *job = job_of(&w, "j");
    assert_int_equal(job->restore_cut, 9);
    assert_string_equal(job->origin.uid, OLD_UID);
    assert_true(ckpt_of(&w, "j", 9)->inherited);
    struct desired desired;
    assert_int_equal(desired_build(&w.state, &w.book, "n1", &desired, &w.err), TIDE_OK);
    assert_string_equal(desired.jobs.items[0].restore_manifest_key, "m/old." OLD_UID "/9-4/COMMIT");
    assert_string_equal(desired.jobs.items[0].restore_store, "file:///old");
    assert_string_equal(desired.jobs.items[0].store, "file:///store");
    assert_int_equal(desired.jobs.items[0].generation, 1);
    codec_release(&desired_codec, &desired);
    /* As long as it may have to start from it again, the other does not let it go. */
    assert_int_equal(order(&w, CMD_CKPT_UNPIN, "old", 9), TIDE_OK);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "old", 9), TIDE_E_STATE);
    assert_text(w.err.text, "another job goes on from checkpoint old/9");
    crash(&w, 1);
    run(&w, 500);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_int_equal(job_of(&w, "j")->restore_cut, 9);
    run(&w, 1000);
    /* Its own are numbered on from there; then it needs the other's no more, and no object of that is deleted for its sake. */
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 3000);
    assert_int_equal(ckpt_of(&w, "j", 10)->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(ckpt_of(&w, "j", 10)->generation, 2);
    assert_int_equal(ckpt_of(&w, "j", 9)->state, TIDE_CKPT_DROPPED);
    assert_int_equal(w.applied[CMD_CKPT_PURGED], 0);
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    assert_int_equal(ckpt_of(&w, "old", 9)->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "old", 9), TIDE_OK);
    world_release(&w);
}

static void one_of_this_cluster_will_do_as_well(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    assert_int_equal(submit(&w, "a", 2, 0, 1), TIDE_OK);
    run(&w, 1000);
    assert_int_equal(go_on(&w, "b", 2, "a"), TIDE_E_NOT_FOUND);
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "a", 0), TIDE_OK);
    run(&w, 1500);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "a", 0), TIDE_OK);
    run(&w, 500);
    assert_int_equal(go_on(&w, "b", 2, "a/1"), TIDE_OK);
    run(&w, 1000);
    assert_int_equal(job_of(&w, "b")->restore_cut, 1);
    assert_string_equal(job_of(&w, "b")->origin.store, "file:///store");
    /* And a third from the second, before that has any of its own: it is still the first's. */
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "b", 0), TIDE_OK);
    run(&w, 500);
    assert_int_equal(go_on(&w, "c", 2, "b/1"), TIDE_OK);
    assert_string_equal(job_of(&w, "c")->origin.uid, job_of(&w, "a")->uid);
    world_release(&w);
}

/* A job that goes back gives up what is newer, but not what another has to start from. */
static void one_that_is_lent_is_not_rolled_back_over(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 4, 1);
    assert_int_equal(submit(&w, "a", 2, 0, 1), TIDE_OK);
    run(&w, 1000);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(order(&w, CMD_CKPT_REQUEST, "a", 0), TIDE_OK);
        run(&w, 1500);
    }
    assert_int_equal(go_on(&w, "b", 2, "a/2"), TIDE_OK);
    run(&w, 500);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "a", 1), TIDE_E_STATE);
    assert_text(w.err.text, "another job goes on from checkpoint a/2");
    assert_int_equal(ckpt_of(&w, "a", 2)->state, TIDE_CKPT_COMMITTED);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "b", 0), TIDE_OK);
    run(&w, 500);
    assert_int_equal(order(&w, CMD_JOB_ROLLBACK, "a", 1), TIDE_OK);
    assert_int_equal(ckpt_of(&w, "a", 2)->state, TIDE_CKPT_DROPPED);
    world_release(&w);
}

/* Two runs of one name: it is not the one that happens to be listed last. */
static void of_two_of_one_name_the_uid_tells(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    assert_int_equal(import(&w, 9, 4), TIDE_OK);
    struct command command = found(&w, 3, 1);
    TEXT_SET(command.uid, "ff112233445566aa");
    TEXT_SET(command.key, "m/old.ff112233445566aa/3-1/COMMIT");
    assert_int_equal(world_apply(&w, &command), TIDE_OK);
    assert_int_equal(go_on(&w, "j", 2, "old"), TIDE_E_CONFLICT);
    assert_text(w.err.text, OLD_UID);
    assert_int_equal(go_on(&w, "j", 2, OLD_UID), TIDE_OK);
    assert_string_equal(job_of(&w, "j")->origin.uid, OLD_UID);
    assert_string_equal(job_of(&w, "j")->origin.job, "old");
    assert_int_equal(job_of(&w, "j")->ckpts.items[0].cut, 9);
    world_release(&w);
}

/* It cannot be restored, and there is no other: the job fails, it does not begin at the beginning. */
static void one_that_turns_out_bad_is_told(void **context)
{
    (void)context;
    struct world w;
    start(&w);
    assert_int_equal(import(&w, 9, 4), TIDE_OK);
    assert_int_equal(go_on(&w, "j", 2, "old/9"), TIDE_OK);
    w.ranks[0].corrupt = w.ranks[0].stuck_step = true;
    run(&w, 1000);
    assert_int_equal(ckpt_of(&w, "j", 9)->state, TIDE_CKPT_CORRUPT);
    assert_int_equal(ckpt_of(&w, "old", 9)->state, TIDE_CKPT_COMMITTED);
    assert_state(&w, "j", "failed");
    assert_text(job_of(&w, "j")->reason, "it was to go on from checkpoint 9 of job old, which cannot be restored, and has no other");
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_ones_are_listed_and_kept),
        cmocka_unit_test(no_rule_deletes_them),
        cmocka_unit_test(an_import_takes_no_jobs_place),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(ids_of_two_histories_are_not_mixed),
        cmocka_unit_test(a_job_goes_on_from_one),
        cmocka_unit_test(one_of_this_cluster_will_do_as_well),
        cmocka_unit_test(one_that_is_lent_is_not_rolled_back_over),
        cmocka_unit_test(of_two_of_one_name_the_uid_tells),
        cmocka_unit_test(one_that_turns_out_bad_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
