/* SPDX-License-Identifier: Apache-2.0 */
#include "core_dsl.h"

/* apply() itself: request ids, refusals, what is stale, and that the same commands make the same bytes. */

static void repeated_request_gets_the_first_answer(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    struct command command = submission(&w, "j", 1, 0, 1);
    TEXT_SET(command.request, "request-1");
    assert_int_equal(world_apply(&w, &command), TIDE_OK);
    struct outcome first = w.outcome;
    assert_string_equal(first.job, "j");
    assert_int_equal(first.revision, w.state.revision);
    assert_int_equal(world_apply(&w, &command), TIDE_OK);
    assert_memory_equal(&w.outcome, &first, sizeof first);
    assert_int_equal(w.state.jobs.count, 1);
    /* The same under another id is another request. */
    TEXT_SET(command.request, "request-2");
    TEXT_SET(command.uid, "another");
    assert_int_equal(world_apply(&w, &command), TIDE_E_EXISTS);
    assert_text(w.err.text, "a job named j is pending; choose another --name");
    char refusal[ERR_TEXT_MAX];
    TEXT_SET(refusal, w.err.text);
    /* A refusal is an answer, too: it is repeated even when the request would succeed by now. */
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    assert_int_equal(world_apply(&w, &command), TIDE_E_EXISTS);
    assert_string_equal(w.err.text, refusal);
    codec_release(&command_codec, &command);
    world_release(&w);
}

static void sessions_are_bounded(void **context)
{
    (void)context;
    struct state state = {0};
    struct outcome outcome;
    struct err err;
    struct command command = {.kind = CMD_JOB_CANCEL, .event = {.rank = -1}};
    TEXT_SET(command.job, "none");
    for (unsigned i = 0; i < SESSIONS_MAX + 10; i++) {
        snprintf(command.request, sizeof command.request, "r%u", i);
        assert_int_equal(apply(&state, &command, state.revision + 1, &outcome, &err), TIDE_E_NOT_FOUND);
    }
    assert_int_equal(state.sessions.count, SESSIONS_MAX);
    assert_string_equal(state.sessions.items[0].request, "r10");
    assert_int_equal(state_check(&state, &err), TIDE_OK);
    state_release(&state);
}

static void bad_submissions_are_refused(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    struct command command = submission(&w, "j", 1, 0, 65);
    assert_int_equal(submit_this(&w, &command), TIDE_E_LIMIT);
    command = submission(&w, "-j", 1, 0, 1);
    struct outcome outcome;
    assert_int_equal(apply(&w.state, &command, w.state.revision + 1, &outcome, &w.err), TIDE_E_INVALID);
    assert_int_equal(apply(&w.second, &command, w.second.revision + 1, &outcome, &w.err), TIDE_E_INVALID);
    codec_release(&command_codec, &command);
    command = submission(&w, "j", TIDE_NODES_MAX - 1, TIDE_NODES_MAX - 1, 1);
    assert_int_equal(submit_this(&w, &command), TIDE_E_LIMIT);
    command = submission(&w, "j", 2000, 0, 64);
    assert_int_equal(submit_this(&w, &command), TIDE_E_LIMIT);
    command = submission(&w, "j", 1, 0, 1);
    strlist_release(&command.spec.argv);
    strlist_add(&command.spec.argv, "");
    assert_int_equal(submit_this(&w, &command), TIDE_E_INVALID);
    assert_int_equal(w.state.jobs.count, 0);
    command = submission(&w, "j", 0, 0, 0);
    assert_int_equal(submit_this(&w, &command), TIDE_OK);
    const struct job_spec *spec = &job_of(&w, "j")->spec;
    assert_int_equal(spec->nnodes, 1);
    assert_int_equal(spec->ckpt_keep, SPEC_CKPT_KEEP_DEFAULT);
    assert_int_equal(spec->start_deadline_ms, SPEC_START_DEADLINE_MS_DEFAULT);
    world_release(&w);
}

static void a_name_may_be_used_again_when_the_job_has_ended(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 1, 1);
    submit(&w, "j", 1, 0, 1);
    char uid[TIDE_UID_CHARS + 1];
    TEXT_SET(uid, job_of(&w, "j")->uid);
    run(&w, 300);
    assert_int_equal(submit(&w, "j", 1, 0, 1), TIDE_E_EXISTS);
    w.ranks[0].ends = true;
    run(&w, 100);
    w.ranks[0].ends = false;
    assert_int_equal(submit(&w, "j", 1, 0, 1), TIDE_OK);
    assert_string_not_equal(job_of(&w, "j")->uid, uid);
    assert_state(&w, "j", "pending");
    run(&w, 300);
    assert_state(&w, "j", "running");
    /* The earlier one is still there under its uid, and its leader's verdicts do not touch the new one. */
    assert_string_equal(job_state_names[job_of(&w, uid)->state], "succeeded");
    struct command fail = command_new(&w, CMD_GEN_FAIL, "j");
    TEXT_SET(fail.uid, uid);
    fail.generation = 1;
    assert_int_equal(world_apply(&w, &fail), TIDE_E_STALE);
    TEXT_SET(fail.uid, "unknown");
    assert_int_equal(world_apply(&w, &fail), TIDE_E_STALE);
    TEXT_SET(fail.uid, job_of(&w, "j")->uid);
    TEXT_SET(fail.job, "k");
    assert_int_equal(world_apply(&w, &fail), TIDE_E_STALE);
    struct command cancel = command_new(&w, CMD_JOB_CANCEL, "j");
    TEXT_SET(cancel.uid, uid);
    assert_int_equal(world_apply(&w, &cancel), TIDE_E_STALE);
    assert_state(&w, "j", "running");
    world_release(&w);
}

/* Every verdict about generation 1, arriving when generation 2 runs. */
static void verdicts_of_older_generations_are_stale(void **context)
{
    (void)context;
    static const enum command_kind kinds[] = {CMD_GEN_FAIL,   CMD_GEN_LAUNCH,  CMD_GEN_STARTED, CMD_GEN_STEPPING,
                                              CMD_JOB_FINISH, CMD_JOB_STOPPED, CMD_CUT_OPEN,    CMD_CUT_REARM,
                                              CMD_CUT_ABORT,  CMD_CUT_SEAL,    CMD_CKPT_COMMIT, CMD_CKPT_CORRUPT};
    struct world w;
    world_init(&w);
    world_nodes(&w, 2, 1);
    submit(&w, "j", 2, 0, 1);
    run(&w, 1000);
    fake_of(&w, "n1")->store_fails = true;
    order(&w, CMD_CKPT_REQUEST, "j", 0);
    run(&w, 1000);
    w.ranks[0].exit_code = 1;
    run(&w, TICK_MS);
    w.ranks[0].exit_code = 0;
    run(&w, 300);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_int_equal(record_of(&w, "j")->store_cut, 1);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (uint64_t generation = 0; generation < 4; generation++) {
            struct command command = command_new(&w, kinds[i], "j");
            TEXT_SET(command.uid, job_of(&w, "j")->uid);
            TEXT_SET(command.token, "t");
            TEXT_SET(command.key, "m/1");
            TEXT_SET(command.digest, "feedfacefeedfacefeedfacefeedface");
            command.port = 20000;
            command.generation = generation;
            command.cut = kinds[i] == CMD_CUT_OPEN ? 2 : 1;
            command.attempt = 1;
            command.step = 10000;
            if (generation == 2)
                continue;
            assert_int_equal(world_apply(&w, &command), TIDE_E_STALE);
        }
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_SEALED);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_state(&w, "j", "running");
    world_release(&w);
}

static void cut_commands_must_fit(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 1, 1);
    submit(&w, "j", 1, 0, 1);
    run(&w, 500);
    struct command open = verdict(&w, CMD_CUT_OPEN, "j");
    open.cut = 1;
    assert_int_equal(world_apply(&w, &open), TIDE_E_INVALID);
    open.step = 100000;
    open.cut = 2;
    assert_int_equal(world_apply(&w, &open), TIDE_E_STALE);
    open.cut = 1;
    assert_int_equal(world_apply(&w, &open), TIDE_OK);
    open.cut = 2;
    assert_int_equal(world_apply(&w, &open), TIDE_E_STALE);
    struct command seal = open;
    seal.kind = CMD_CUT_SEAL;
    seal.cut = 1;
    seal.attempt = 2;
    assert_int_equal(world_apply(&w, &seal), TIDE_E_STALE);
    struct command rearm = seal;
    rearm.kind = CMD_CUT_REARM;
    rearm.step = 100000;
    assert_int_equal(world_apply(&w, &rearm), TIDE_E_STALE);
    rearm.step = 100001;
    rearm.attempt = 3;
    assert_int_equal(world_apply(&w, &rearm), TIDE_E_STALE);
    rearm.attempt = 2;
    assert_int_equal(world_apply(&w, &rearm), TIDE_OK);
    /* What was recorded for attempt 1 is no part of attempt 2. */
    seal.attempt = 1;
    assert_int_equal(world_apply(&w, &seal), TIDE_E_STALE);
    seal.attempt = 2;
    assert_int_equal(world_apply(&w, &seal), TIDE_OK);
    struct command commit = seal;
    commit.kind = CMD_CKPT_COMMIT;
    assert_int_equal(world_apply(&w, &commit), TIDE_E_INVALID);
    TEXT_SET(commit.key, "m/1");
    TEXT_SET(commit.digest, "feedfacefeedfacefeedfacefeedface");
    assert_int_equal(world_apply(&w, &commit), TIDE_OK);
    assert_int_equal(world_apply(&w, &commit), TIDE_E_STALE);
    world_release(&w);
}

static void launch_must_fit(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    submit(&w, "j", 1, 0, 1);
    struct command launch = verdict(&w, CMD_GEN_LAUNCH, "j");
    launch.generation = 1;
    assert_int_equal(world_apply(&w, &launch), TIDE_E_INVALID);
    TEXT_SET(launch.token, "0123");
    launch.port = 20000;
    assert_int_equal(world_apply(&w, &launch), TIDE_E_STALE);
    assert_text(w.err.text, "job j waits for nodes");
    world_nodes(&w, 1, 1);
    launch.cut = 5;
    assert_int_equal(world_apply(&w, &launch), TIDE_E_STALE);
    launch.cut = 0;
    assert_int_equal(world_apply(&w, &launch), TIDE_OK);
    assert_int_equal(world_apply(&w, &launch), TIDE_E_STALE);
    world_release(&w);
}

static void cluster_is_named_once(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    struct command init = command_new(&w, CMD_CLUSTER_INIT, NULL);
    TEXT_SET(init.text, "beef000000000001");
    assert_int_equal(world_apply(&w, &init), TIDE_E_EXISTS);
    TEXT_SET(init.text, "cafe000000000001");
    init.lease_ms = 5000;
    assert_int_equal(world_apply(&w, &init), TIDE_OK);
    struct cluster_view view;
    view_cluster(&w.state, &view);
    assert_int_equal(view.lease_ms, 5000);
    assert_int_equal(view.heartbeat_ms, HEARTBEAT_MS_DEFAULT);
    assert_string_equal(view.cluster, "cafe000000000001");
    world_release(&w);
}

/* One eventful story, twice: the same seed gives the same bytes. (That a replay of the log and an image continue alike
 * is checked by the world after each command of each story.) */
static char *eventful(void)
{
    struct world w;
    world_init(&w);
    world_nodes(&w, 4, 2);
    struct command command = submission(&w, "j", 2, 1, 2);
    command.spec.ckpt_every_ms = 1000;
    submit_this(&w, &command);
    submit(&w, "k", 1, 0, 1);
    run(&w, 3000);
    crash(&w, 3);
    run(&w, 2500);
    fake_of(&w, "n1")->up = false;
    run(&w, 4000);
    order(&w, CMD_JOB_ROLLBACK, "j", 0);
    run(&w, 1000);
    order(&w, CMD_JOB_CANCEL, "k", 0);
    run(&w, 1000);
    assert_true(job_of(&w, "j")->generation >= 3);
    char *image = codec_print(&state_codec, &w.state, CODEC_STRICT);
    world_release(&w);
    return image;
}

static void same_commands_same_bytes(void **context)
{
    (void)context;
    char *a = eventful(), *b = eventful();
    assert_string_equal(a, b);
    mem_free(a);
    mem_free(b);
}

static void compact_image_is_the_same_state(void **context)
{
    (void)context;
    struct err err;
    char *full = eventful();
    struct state state, again;
    assert_int_equal(codec_parse(&state_codec, full, strlen(full), CODEC_STRICT, &state, &err), TIDE_OK);
    char *compact = codec_print(&state_codec, &state, CODEC_COMPACT);
    assert_true(strlen(compact) < strlen(full));
    assert_int_equal(codec_parse(&state_codec, compact, strlen(compact), CODEC_STRICT, &again, &err), TIDE_OK);
    char *full_again = codec_print(&state_codec, &again, CODEC_STRICT);
    assert_string_equal(full, full_again);
    mem_free(full);
    mem_free(compact);
    mem_free(full_again);
    state_release(&state);
    state_release(&again);
}

static void texts_are_cut_between_characters(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 1, 1);
    struct command drain = command_new(&w, CMD_NODE_DRAIN, NULL);
    TEXT_SET(drain.node, "n1");
    memset(drain.text, 0, sizeof drain.text);
    drain.text[0] = 'x'; /* so that neither limit falls between two characters */
    for (size_t i = 1; i + 3 <= TIDE_TEXT_MAX; i += 3)
        memcpy(drain.text + i, "\xe2\x82\xac", 3);
    assert_int_equal(world_apply(&w, &drain), TIDE_OK);
    assert_string_equal(state_node(&w.state, "n1")->reason, drain.text);
    /* A sentence that holds another has less room for it: cut, but still UTF-8, or the image would lose it. */
    struct command lost = command_new(&w, CMD_NODE_LOST, NULL);
    TEXT_SET(lost.node, "n1");
    TEXT_SET(lost.incarnation, "inc-n1-1");
    TEXT_SET(lost.text, drain.text);
    node_order(&w, CMD_NODE_RESUME, "n1");
    submit(&w, "j", 1, 0, 1);
    run(&w, 100);
    assert_int_equal(world_apply(&w, &lost), TIDE_OK);
    const char *text = event_last(&w, "j", EVENT_NODE_LOST)->text;
    assert_in_range(strlen(text), TIDE_TEXT_MAX - 2, TIDE_TEXT_MAX);
    json_t *json = json_string(text);
    assert_non_null(json);
    json_decref(json);
    world_release(&w);
}

/* Rules that no command may break are broken by hand, and found. */
static void invariants_find_what_is_broken(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 1);
    submit(&w, "j", 2, 1, 1);
    run(&w, 1000);
    order(&w, CMD_CKPT_REQUEST, "j", 0);
    run(&w, 1500);
    struct job_record *record = record_of(&w, "j");
    struct err err;
    assert_int_equal(state_check(&w.state, &err), TIDE_OK);
#define BREAK(what, broken, words)                                                                                          \
    do {                                                                                                                    \
        __typeof__(what) saved = what;                                                                                      \
        what = broken;                                                                                                      \
        assert_int_equal(state_check(&w.state, &err), TIDE_E_STATE);                                                        \
        assert_text(err.text, words);                                                                                       \
        what = saved;                                                                                                       \
        assert_int_equal(state_check(&w.state, &err), TIDE_OK);                                                             \
    } while (0)
    BREAK(record->phase, GEN_PHASE_STOPPING, "does not fit state");
    BREAK(record->job.state, TIDE_JOB_SUCCEEDED, "does not fit state");
    BREAK(record->job.generation, 0, "does not fit state");
    BREAK(record->token[0], '\0', "does not fit state");
    BREAK(record->job.all_started, false, "not all were started");
    BREAK(record->job.restarts, 4, "4 times; 3 are allowed");
    BREAK(record->job.nodes.count, 1, "runs on 1 nodes");
    BREAK(record->job.spec.spares, 0, "holds 1 spares");
    BREAK(record->job.next_cut, 1, "out of order");
    BREAK(record->job.ckpts.items[0].manifest[0], '\0', "committed without a manifest");
    record->job.all_started = record->job.all_stepped = false;
    BREAK(record->job.ckpts.items[0].generation, 2, "has generation 2");
    record->job.ckpts.items[0].state = TIDE_CKPT_OPEN;
    assert_int_equal(state_check(&w.state, &err), TIDE_E_STATE);
    assert_text(err.text, "open outside its generation");
    record->job.ckpts.items[0].state = TIDE_CKPT_COMMITTED;
    BREAK(record->store_cut, 1, "being stored, but it is not sealed");
    BREAK(record->rollback_cut, 1, "rolls back");
    BREAK(record->job.events.items[0].revision, 1000000, "has revision");
    BREAK(w.state.nodes.items[0].slots, 0, "no slots");
    BREAK(w.state.nodes.items[0].cordoned, true, "cordoned");
    BREAK(w.state.nodes.items[1].name[1], '1', "not in order");
    char *name = record->job.spares.items[0];
    record->job.spares.items[0] = (char[]){"n1"};
    assert_int_equal(state_check(&w.state, &err), TIDE_E_STATE);
    assert_text(err.text, "node n1 has two places");
    record->job.spares.items[0] = name;
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repeated_request_gets_the_first_answer),
        cmocka_unit_test(sessions_are_bounded),
        cmocka_unit_test(bad_submissions_are_refused),
        cmocka_unit_test(a_name_may_be_used_again_when_the_job_has_ended),
        cmocka_unit_test(verdicts_of_older_generations_are_stale),
        cmocka_unit_test(cut_commands_must_fit),
        cmocka_unit_test(launch_must_fit),
        cmocka_unit_test(cluster_is_named_once),
        cmocka_unit_test(same_commands_same_bytes),
        cmocka_unit_test(compact_image_is_the_same_state),
        cmocka_unit_test(texts_are_cut_between_characters),
        cmocka_unit_test(invariants_find_what_is_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
