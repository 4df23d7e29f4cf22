/* SPDX-License-Identifier: Apache-2.0 */
#include "core_dsl.h"

/* Bearer tokens as replicated state. */

static struct token token_of(const char *name, unsigned role, char digit)
{
    struct token token = {.role = role};
    text_copy(token.name, sizeof token.name, name);
    memset(token.hash, digit, TOKEN_HASH_CHARS);
    return token;
}

static enum tide_status add(struct world *w, struct token token)
{
    struct command command = command_new(w, CMD_TOKEN_ADD, NULL);
    command.tokens.items = &token;
    command.tokens.count = 1;
    return world_apply(w, &command);
}

static enum tide_status revoke(struct world *w, const char *name)
{
    struct command command = command_new(w, CMD_TOKEN_REMOVE, NULL);
    TEXT_SET(command.text, name);
    return world_apply(w, &command);
}

static void tokens_come_and_go_by_name(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    assert_int_equal(add(&w, token_of("middle", ROLE_VIEWER, '5')), TIDE_OK);
    assert_text(w.outcome.text, "token middle has role viewer");
    assert_int_equal(add(&w, token_of("zed", ROLE_ADMIN, '6')), TIDE_OK);
    assert_int_equal(add(&w, token_of("alpha", ROLE_OPERATOR, '7')), TIDE_OK);
    assert_int_equal(w.state.tokens.count, 3);
    assert_string_equal(w.state.tokens.items[0].name, "alpha");
    assert_string_equal(w.state.tokens.items[2].name, "zed");
    assert_int_equal(state_token(&w.state, "middle")->role, ROLE_VIEWER);
    assert_int_equal(state_token(&w.state, "middle")->hash[0], '5');
    assert_true(state_token(&w.state, "zed")->created_ms > 0);
    assert_int_equal(add(&w, token_of("middle", ROLE_ADMIN, '8')), TIDE_E_EXISTS);
    assert_int_equal(add(&w, token_of("other", ROLE_ADMIN, '5')), TIDE_E_EXISTS);
    assert_text(w.err.text, "token middle has this secret already");
    assert_int_equal(revoke(&w, "middle"), TIDE_OK);
    assert_null(state_token(&w.state, "middle"));
    assert_int_equal(revoke(&w, "middle"), TIDE_E_NOT_FOUND);
    assert_int_equal(add(&w, token_of("middle", ROLE_ADMIN, '5')), TIDE_OK);
    world_release(&w);
}

static void bad_tokens_are_refused(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    assert_int_equal(add(&w, token_of("x", ROLE_NONE, '5')), TIDE_E_INVALID);
    assert_int_equal(add(&w, token_of("x", ROLE_VIEWER, 'G')), TIDE_E_INVALID);
    struct token bound = token_of("x", ROLE_VIEWER, '5');
    TEXT_SET(bound.node, "n1");
    assert_int_equal(add(&w, bound), TIDE_E_INVALID);
    bound.role = ROLE_AGENT;
    assert_int_equal(add(&w, bound), TIDE_OK);
    assert_string_equal(w.state.tokens.items[0].node, "n1");
    struct command none = command_new(&w, CMD_TOKEN_ADD, NULL);
    assert_int_equal(world_apply(&w, &none), TIDE_E_INVALID);
    world_release(&w);
}

static void tokens_are_bounded_and_expired_ones_make_room(void **context)
{
    (void)context;
    struct state state = {0};
    struct outcome outcome;
    struct err err = {0};
    struct token token = {.role = ROLE_VIEWER};
    struct command command = {.kind = CMD_TOKEN_ADD, .at_ms = 1000, .tokens = {.items = &token, .count = 1}};
    for (unsigned i = 0; i < TOKENS_MAX; i++) {
        snprintf(token.name, sizeof token.name, "t%04u", i);
        snprintf(token.hash, sizeof token.hash, "%064x", i);
        token.expires_ms = i == 7 ? 2000 : 0;
        assert_int_equal(apply(&state, &command, state.revision + 1, &outcome, &err), TIDE_OK);
    }
    TEXT_SET(token.name, "another");
    snprintf(token.hash, sizeof token.hash, "%064x", 9999);
    assert_int_equal(apply(&state, &command, state.revision + 1, &outcome, &err), TIDE_E_LIMIT);
    command.at_ms = 2000;
    assert_int_equal(apply(&state, &command, state.revision + 1, &outcome, &err), TIDE_OK);
    assert_null(state_token(&state, "t0007"));
    assert_non_null(state_token(&state, "another"));
    assert_int_equal(state_check(&state, &err), TIDE_OK);
    state_release(&state);
}

static void a_new_cluster_begins_with_its_tokens_or_not_at_all(void **context)
{
    (void)context;
    struct state state = {0};
    struct outcome outcome;
    struct err err = {0};
    struct token tokens[] = {token_of("join", ROLE_AGENT, '1'), token_of("join", ROLE_ADMIN, '2')};
    struct command command = {.kind = CMD_CLUSTER_INIT, .at_ms = 1000, .tokens = {.items = tokens, .count = 2}};
    TEXT_SET(command.text, "cafe000000000001");
    assert_int_equal(apply(&state, &command, 1, &outcome, &err), TIDE_E_EXISTS);
    assert_int_equal(state.tokens.count, 0);
    assert_string_equal(state.cluster, "");
    TEXT_SET(tokens[1].name, "boss");
    assert_int_equal(apply(&state, &command, 2, &outcome, &err), TIDE_OK);
    assert_int_equal(state.tokens.count, 2);
    /* Later starts change nothing: a token that was revoked must not come back. */
    TEXT_SET(command.text, "");
    TEXT_SET(tokens[1].name, "late");
    assert_int_equal(apply(&state, &command, 3, &outcome, &err), TIDE_OK);
    assert_int_equal(state.tokens.count, 2);
    state_release(&state);
}

/* The key of a job's logs: agents and those who may look at the job have it, and nobody else. */
static void the_key_of_the_logs_goes_to_agents_and_viewers(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 1, 1);
    struct command command = submission(&w, "j", 1, 0, 1);
    TEXT_SET(command.token, "0123456789abcdef0123456789abcdef");
    assert_int_equal(submit_this(&w, &command), TIDE_OK);
    run(&w, 1000);
    struct desired desired;
    struct job_view view;
    struct err err = {0};
    assert_int_equal(desired_build(&w.state, &w.book, "n1", &desired, &err), TIDE_OK);
    assert_int_equal(desired.jobs.count, 1);
    assert_string_equal(desired.jobs.items[0].log_key, "0123456789abcdef0123456789abcdef");
    assert_string_not_equal(desired.jobs.items[0].token, desired.jobs.items[0].log_key);
    codec_release(&desired_codec, &desired);
    assert_int_equal(view_job(&w.state, &w.book, "j", w.now_ns, &view, &err), TIDE_OK);
    assert_string_equal(view.log_key, "0123456789abcdef0123456789abcdef");
    codec_release(&job_view_codec, &view);
    struct job_list list;
    view_jobs(&w.state, &list);
    char *text = codec_print(&job_list_codec, &list, 0);
    assert_null(strstr(text, "0123456789abcdef0123456789abcdef"));
    mem_free(text);
    codec_release(&job_list_codec, &list);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_come_and_go_by_name),
        cmocka_unit_test(bad_tokens_are_refused),
        cmocka_unit_test(tokens_are_bounded_and_expired_ones_make_room),
        cmocka_unit_test(a_new_cluster_begins_with_its_tokens_or_not_at_all),
        cmocka_unit_test(the_key_of_the_logs_goes_to_agents_and_viewers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
