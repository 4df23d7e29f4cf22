/* SPDX-License-Identifier: Apache-2.0 */
#include "core_dsl.h"

/* Certificates that count no more, as replicated state. */

static enum tide_status revoke(struct world *w, const char *what)
{
    struct command command = command_new(w, CMD_CERT_REVOKE, NULL);
    TEXT_SET(command.text, what);
    return world_apply(w, &command);
}

static enum tide_status allow(struct world *w, const char *what)
{
    struct command command = command_new(w, CMD_CERT_ALLOW, NULL);
    TEXT_SET(command.text, what);
    return world_apply(w, &command);
}

static void they_come_and_go(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    assert_null(state_revoked(&w.state, "client:eve"));
    assert_int_equal(revoke(&w, "client:eve"), TIDE_OK);
    assert_text(w.outcome.text, "client:eve is revoked");
    assert_int_equal(revoke(&w, "serial:3fa9"), TIDE_OK);
    assert_int_equal(revoke(&w, "agent:*"), TIDE_OK);
    assert_int_equal(revoke(&w, "agent:n1"), TIDE_OK);
    assert_int_equal(revoke(&w, "client:eve"), TIDE_E_EXISTS);
    assert_int_equal(w.state.revoked.count, 4);
    assert_true(state_revoked(&w.state, "client:eve")->since_ms > 0);
    assert_null(state_revoked(&w.state, "client:ev"));
    assert_null(state_revoked(&w.state, "agent:n2")); /* "*" is a name, not a pattern */
    assert_int_equal(allow(&w, "client:eve"), TIDE_OK);
    assert_null(state_revoked(&w.state, "client:eve"));
    assert_int_equal(allow(&w, "client:eve"), TIDE_E_NOT_FOUND);
    assert_int_equal(w.state.revoked.count, 3);
    world_release(&w);
}

static void what_names_no_certificate_is_refused(void **context)
{
    (void)context;
    static const char *const bad[] = {"",
                                      "eve",
                                      "client:",
                                      "client:*",
                                      "client:a b",
                                      "agent:",
                                      "node:n1",
                                      "serial:",
                                      "serial:0fa9",
                                      "serial:3FA9",
                                      "serial:g",
                                      "client:a/b",
                                      "serial:123456789012345678901234567890123456789ab"};
    struct world w;
    world_init(&w);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (revoke(&w, bad[i]) != TIDE_E_INVALID)
            fail_msg("\"%s\" was taken", bad[i]);
    assert_int_equal(revoke(&w, "member:3"), TIDE_E_INVALID);
    assert_text(w.err.text, "while it is in the group");
    assert_int_equal(w.state.revoked.count, 0);
    world_release(&w);
}

static void there_is_a_bound(void **context)
{
    (void)context;
    struct state state = {0};
    struct err err = {0};
    struct outcome outcome;
    struct command command = {.kind = CMD_CERT_REVOKE, .at_ms = 1000};
    uint64_t index = 1;
    for (unsigned i = 0; i < REVOCATIONS_MAX; i++) {
        snprintf(command.text, sizeof command.text, "serial:1%04x", i);
        assert_int_equal(apply(&state, &command, index++, &outcome, &err), TIDE_OK);
    }
    TEXT_SET(command.text, "client:one-more");
    assert_int_equal(apply(&state, &command, index++, &outcome, &err), TIDE_E_LIMIT);
    assert_int_equal(state_check(&state, &err), TIDE_OK);
    command.kind = CMD_CERT_ALLOW;
    TEXT_SET(command.text, "serial:10007");
    assert_int_equal(apply(&state, &command, index++, &outcome, &err), TIDE_OK);
    command.kind = CMD_CERT_REVOKE;
    TEXT_SET(command.text, "client:one-more");
    assert_int_equal(apply(&state, &command, index++, &outcome, &err), TIDE_OK);
    state_release(&state);
}

static void serials_are_written_one_way(void **context)
{
    (void)context;
    static const unsigned char bytes[] = {0x00, 0x0f, 0xa0, 0x09};
    unsigned char most[SERIAL_CHARS / 2 + 1];
    char text[SERIAL_CHARS + 1];
    serial_format(bytes, sizeof bytes, text);
    assert_string_equal(text, "fa009");
    serial_format(bytes, 1, text);
    assert_string_equal(text, "");
    memset(most, 0xff, sizeof most);
    serial_format(most, SERIAL_CHARS / 2, text);
    assert_int_equal(strlen(text), SERIAL_CHARS);
    serial_format(most, sizeof most, text);
    assert_string_equal(text, "");
    most[0] = 0;
    serial_format(most, sizeof most, text);
    assert_int_equal(strlen(text), SERIAL_CHARS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_come_and_go),
        cmocka_unit_test(what_names_no_certificate_is_refused),
        cmocka_unit_test(there_is_a_bound),
        cmocka_unit_test(serials_are_written_one_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
