/* SPDX-License-Identifier: Apache-2.0 */
#include "core_saves.h"

/* A group whose members are of two versions: what each level lets be proposed, and how it is applied. */

#define KEEP 1u

static void forget_levels(struct world *w)
{
    w->state.level = w->second.level = 0;
}

static enum tide_status raise_to(struct world *w, uint32_t level)
{
    struct command command = command_new(w, CMD_CLUSTER_LEVEL, NULL);
    command.level = level;
    return world_apply(w, &command);
}

static void begin_at_level_0(struct world *w)
{
    world_init(w);
    forget_levels(w);
    world_nodes(w, 1, 1);
    struct command command = submission(w, "j", 1, 0, 1);
    command.spec.ckpt_keep = KEEP;
    command.spec.ckpt_grace_ms = 60000;
    assert_int_equal(submit_this(w, &command), TIDE_OK);
    run(w, 1000);
}

static void expect_state(struct world *w, uint64_t cut, unsigned state)
{
    assert_string_equal(ckpt_state_names[ckpt_of(w, "j", cut)->state], ckpt_state_names[state]);
}

static void a_level_is_raised_and_never_lowered(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    assert_int_equal(w.state.level, LEVEL_NEWEST); /* of a new cluster */
    forget_levels(&w);
    assert_int_equal(raise_to(&w, 1), TIDE_OK);
    assert_int_equal(w.state.level, 1);
    assert_int_equal(raise_to(&w, 1), TIDE_E_STALE);
    assert_int_equal(raise_to(&w, 0), TIDE_E_STALE);
    assert_int_equal(w.state.level, 1);
    world_release(&w);
}

static void it_is_raised_to_what_the_oldest_knows(void **context)
{
    (void)context;
    struct world w;
    struct command command;
    world_init(&w);
    assert_false(level_verdict(&w.state, LEVEL_NEWEST + 1, &command)); /* we could not follow */
    forget_levels(&w);
    assert_false(level_verdict(&w.state, 0, &command));
    assert_true(level_verdict(&w.state, LEVEL_NEWEST + 1, &command));
    assert_int_equal(command.kind, CMD_CLUSTER_LEVEL);
    assert_int_equal(command.level, LEVEL_NEWEST);
    struct state none = {0};
    assert_false(level_verdict(&none, LEVEL_NEWEST, &command)); /* there is no cluster yet */
    world_release(&w);
}

static void what_older_members_cannot_read_is_not_proposed(void **context)
{
    (void)context;
    /* All that the first of these versions knew: what came later must say its level. */
    static const unsigned first[] = {
        CMD_CLUSTER_INIT, CMD_JOB_SUBMIT,  CMD_JOB_CANCEL,   CMD_JOB_ROLLBACK, CMD_CKPT_REQUEST, CMD_CKPT_DROP,   CMD_NODE_REGISTER,
        CMD_NODE_DRAIN,   CMD_NODE_RESUME, CMD_NODE_LOST,    CMD_GEN_FAIL,     CMD_GEN_LAUNCH,   CMD_GEN_STARTED, CMD_GEN_STEPPING,
        CMD_JOB_FINISH,   CMD_JOB_STOPPED, CMD_CUT_OPEN,     CMD_CUT_REARM,    CMD_CUT_GO,       CMD_CUT_VOID,    CMD_CUT_SETTLED,
        CMD_CUT_CLOSED,   CMD_CUT_ABORT,   CMD_CUT_SEAL,     CMD_CKPT_COMMIT,  CMD_STORE_FAIL,   CMD_CKPT_CORRUPT, CMD_CKPT_PURGED,
        CMD_ARENA_LOST,   CMD_CKPT_STORED, CMD_TOKEN_ADD,    CMD_TOKEN_REMOVE, CMD_CERT_REVOKE,  CMD_CERT_ALLOW,  CMD_CLUSTER_LEVEL};
    struct world w;
    world_init(&w);
    forget_levels(&w);
    for (unsigned kind = 0; kind < COMMAND_KINDS; kind++) {
        struct command command = command_new(&w, kind, NULL);
        bool old = false;
        for (size_t i = 0; i < sizeof first / sizeof first[0]; i++)
            old = old || kind == first[i];
        struct err err = {0};
        assert_int_equal(level_admits(&w.state, &command, &err), old ? TIDE_OK : TIDE_E_STATE);
        bool third = kind == CMD_CKPT_PEERED || kind == CMD_CKPT_UNPEERED;
        if (!old)
            assert_text(err.text, third                     ? "needs level 3, and the group is at 0"
                                  : kind == CMD_CKPT_IMPORT ? "needs level 2, and the group is at 0"
                                                            : "needs level 1, and the group is at 0");
    }
    /* A field that is not used is not written. */
    struct command submit = submission(&w, "j", 1, 0, 1);
    submit.spec.ckpt_grace_ms = 0;
    assert_int_equal(level_admits(&w.state, &submit, NULL), TIDE_OK);
    submit.spec.ckpt_grace_ms = 1000;
    assert_int_equal(level_admits(&w.state, &submit, NULL), TIDE_E_STATE);
    submit.spec.ckpt_grace_ms = 0;
    submit.spec.ckpt_keep_every = 2;
    assert_int_equal(level_admits(&w.state, &submit, NULL), TIDE_E_STATE);
    submit.spec.ckpt_keep_every = 0;
    TEXT_SET(submit.spec.restore_from, "old/7");
    assert_int_equal(level_admits(&w.state, &submit, NULL), TIDE_E_STATE);
    submit.spec.restore_from[0] = '\0';
    submit.spec.copies = COPIES_NO;
    assert_int_equal(command_level(&submit), 3);
    submit.spec.copies = COPIES_PEER;
    submit.spec.ckpt_keep_every = 2;
    struct command hello = command_new(&w, CMD_NODE_REGISTER, NULL), last = command_new(&w, CMD_STORE_FAIL, "j");
    TEXT_SET(hello.hello.domain, "rack1");
    last.final = true;
    assert_int_equal(level_admits(&w.state, &hello, NULL), TIDE_E_STATE);
    assert_int_equal(level_admits(&w.state, &last, NULL), TIDE_E_STATE);
    struct command fail = command_new(&w, CMD_GEN_FAIL, "j");
    fail.event.kind = EVENT_NODE_HEALTH;
    assert_int_equal(level_admits(&w.state, &fail, NULL), TIDE_E_STATE);
    struct command enrol = command_new(&w, CMD_NODE_REGISTER, NULL);
    memset(enrol.hello.pin, 'a', PIN_CHARS);
    assert_int_equal(raise_to(&w, 1), TIDE_OK);
    assert_int_equal(level_admits(&w.state, &submit, NULL), TIDE_OK);
    assert_int_equal(level_admits(&w.state, &fail, NULL), TIDE_OK);
    assert_int_equal(level_admits(&w.state, &enrol, NULL), TIDE_E_STATE);
    assert_int_equal(raise_to(&w, 3), TIDE_OK);
    assert_int_equal(level_admits(&w.state, &enrol, NULL), TIDE_OK);
    codec_release(&job_spec_codec, &submit.spec);
    world_release(&w);
}

/* Whatever else it brought: who is too old for it must be told what it needs. */
static void what_is_of_a_later_level_is_refused_with_the_level(void **context)
{
    static const char *const later[] = {"{\"kind\":\"cluster_level\",\"level\":%u}", "{\"kind\":\"unheard_of\",\"level\":%u}",
                                        "{\"unheard\":\"of\",\"kind\":\"cluster_init\",\"level\":%u}",
                                        "{\"unheard\":\"of\",\"revision\":1,\"level\":%u}"};
    struct command command;
    struct state state;
    struct err err = {0};
    (void)context;
    char *needs = mem_format("it is of level %u, and this version knows %u at most; start a newer one", LEVEL_NEWEST + 1, LEVEL_NEWEST);
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++) {
        char text[128];
        int bytes = snprintf(text, sizeof text, later[i], LEVEL_NEWEST + 1);
        assert_int_equal(command_parse(text, (size_t)bytes, &command, &err), TIDE_E_VERSION);
        assert_string_equal(err.text, needs);
        assert_int_equal(state_parse(text, (size_t)bytes, &state, &err), TIDE_E_VERSION);
        assert_string_equal(err.text, needs);
    }
    mem_free(needs);
    static const char now[] = "{\"kind\":\"cluster_level\",\"level\":1}", strange[] = "{\"kind\":\"unheard_of\",\"level\":1}";
    assert_int_equal(command_parse(now, strlen(now), &command, &err), TIDE_OK);
    assert_int_equal(command.level, 1);
    codec_release(&command_codec, &command);
    assert_int_equal(command_parse(strange, strlen(strange), &command, &err), TIDE_E_INVALID);
}

/* By the rule, by hand, and at the end of the job: as versions do that knew of no grace. From the entry on that raises the level
 * there is one. */
static void at_level_0_what_is_not_kept_is_dropped_at_once(void **context)
{
    (void)context;
    struct world w;
    begin_at_level_0(&w);
    commit_job(&w);
    commit_job(&w);
    expect_state(&w, 1, TIDE_CKPT_DROPPED);
    expect_state(&w, 2, TIDE_CKPT_COMMITTED);
    assert_text(event_last(&w, "j", EVENT_DROPPED)->text, "checkpoint 1 is dropped: the 1 newest are kept");
    assert_int_equal(raise_to(&w, 1), TIDE_OK);
    commit_job(&w);
    expect_state(&w, 2, TIDE_CKPT_CONDEMNED);
    expect_state(&w, 3, TIDE_CKPT_COMMITTED);
    world_release(&w);
}

static void at_level_0_drop_by_hand_has_no_grace(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    forget_levels(&w);
    world_nodes(&w, 1, 1);
    struct command command = submission(&w, "j", 1, 0, 1);
    command.spec.ckpt_keep = 2;
    assert_int_equal(submit_this(&w, &command), TIDE_OK);
    run(&w, 1000);
    commit_job(&w);
    commit_job(&w);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_OK);
    expect_state(&w, 1, TIDE_CKPT_DROPPED);
    run(&w, 1000);
    unsigned deletions = w.applied[CMD_CKPT_PURGED];
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    run(&w, 2000);
    assert_true(job_ended(job_of(&w, "j")->state));
    assert_int_equal(w.applied[CMD_CKPT_PURGED], deletions); /* nobody was sent to look for orphans */
    world_release(&w);
}

/* What has no room in a sentence is left out of its middle from the level on that all members mark it at. */
static void what_a_sentence_has_no_room_for_is_marked(void **context)
{
    (void)context;
    struct world w;
    char words[TIDE_TEXT_MAX + 1];
    memset(words, 'x', sizeof words - sizeof "; free some");
    text_copy(words + sizeof words - sizeof "; free some", sizeof "; free some", "; free some");
    for (uint32_t level = 2; level <= MARK_LEVEL; level++) {
        world_init(&w);
        w.state.level = w.second.level = level;
        world_nodes(&w, 1, 1);
        struct command command = submission(&w, "j", 1, 0, 1);
        command.spec.max_restarts = 0;
        assert_int_equal(submit_this(&w, &command), TIDE_OK);
        run(&w, 1000);
        struct command fail = verdict(&w, CMD_GEN_FAIL, "j");
        fail.event.kind = EVENT_RANK_EXITED;
        TEXT_SET(fail.event.text, words);
        assert_int_equal(world_apply(&w, &fail), TIDE_OK);
        const char *reason = job_of(&w, "j")->reason;
        assert_int_equal(strlen(reason), TIDE_TEXT_MAX);
        assert_int_equal(strstr(reason, "xx…") != NULL, level == MARK_LEVEL);
        assert_int_equal(strstr(reason, "; free some; no restart is allowed (max_restarts is 0)") != NULL, level == MARK_LEVEL);
        assert_string_equal(event_last(&w, "j", EVENT_RANK_EXITED)->text, words);
        world_release(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_level_is_raised_and_never_lowered),
        cmocka_unit_test(it_is_raised_to_what_the_oldest_knows),
        cmocka_unit_test(what_older_members_cannot_read_is_not_proposed),
        cmocka_unit_test(what_is_of_a_later_level_is_refused_with_the_level),
        cmocka_unit_test(what_a_sentence_has_no_room_for_is_marked),
        cmocka_unit_test(at_level_0_what_is_not_kept_is_dropped_at_once),
        cmocka_unit_test(at_level_0_drop_by_hand_has_no_grace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
