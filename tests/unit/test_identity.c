/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/wire/identity.h"

#define UID "0123456789abcdef"

/* ---- names in certificates ---- */

static void names_are_written_and_read(void **state)
{
    (void)state;
    static const struct {
        struct cert_name name;
        const char *uri;
    } cases[] = {
        {{UID, CERT_MEMBER, 3, "", ROLE_ADMIN}, "tidemark://" UID "/member/3"},
        {{UID, CERT_MEMBER, 65535, "", ROLE_ADMIN}, "tidemark://" UID "/member/65535"},
        {{UID, CERT_AGENT, 0, "*", ROLE_AGENT}, "tidemark://" UID "/agent/*"},
        {{UID, CERT_AGENT, 0, "gpu-7.rack_2", ROLE_AGENT}, "tidemark://" UID "/agent/gpu-7.rack_2"},
        {{UID, CERT_CLIENT, 0, "alice", ROLE_VIEWER}, "tidemark://" UID "/client/alice?role=viewer"},
        {{UID, CERT_CLIENT, 0, "ci", ROLE_OPERATOR}, "tidemark://" UID "/client/ci?role=operator"},
        {{UID, CERT_CLIENT, 0, "root", ROLE_ADMIN}, "tidemark://" UID "/client/root?role=admin"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char uri[CERT_NAME_MAX + 1];
        struct cert_name read;
        struct err err = {0};
        cert_name_format(&cases[i].name, uri);
        assert_string_equal(uri, cases[i].uri);
        assert_int_equal(cert_name_parse(uri, &read, &err), TIDE_OK);
        assert_string_equal(read.cluster, UID);
        assert_int_equal(read.kind, cases[i].name.kind);
        assert_int_equal(read.member, cases[i].name.member);
        assert_string_equal(read.name, cases[i].name.name);
        assert_int_equal(read.role, cases[i].name.role);
    }
}

static void the_longest_name_fits(void **state)
{
    (void)state;
    struct cert_name name = {.cluster = UID, .kind = CERT_CLIENT, .role = ROLE_OPERATOR}, read;
    struct err err = {0};
    char uri[CERT_NAME_MAX + 1];
    memset(name.name, 'x', TIDE_NAME_MAX);
    cert_name_format(&name, uri);
    assert_int_equal(cert_name_parse(uri, &read, &err), TIDE_OK);
    assert_string_equal(read.name, name.name);
}

static void what_is_no_name_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "tidemark",
        "tidemark://",
        "https://" UID "/member/1",
        "TIDEMARK://" UID "/member/1",
        "tidemark://0123456789abcde/member/1",
        "tidemark://0123456789abcdef0/member/1",
        "tidemark://0123456789ABCDEF/member/1",
        "tidemark://" UID,
        "tidemark://" UID "/",
        "tidemark://" UID "/member",
        "tidemark://" UID "/member/",
        "tidemark://" UID "/member/0",
        "tidemark://" UID "/member/01",
        "tidemark://" UID "/member/+1",
        "tidemark://" UID "/member/1 ",
        "tidemark://" UID "/member/1/2",
        "tidemark://" UID "/member/65536",
        "tidemark://" UID "/member/4294967297",
        "tidemark://" UID "/members/1",
        "tidemark://" UID "/agent/",
        "tidemark://" UID "/agent/**",
        "tidemark://" UID "/agent/a/b",
        "tidemark://" UID "/agent/.hidden",
        "tidemark://" UID "/client/alice",
        "tidemark://" UID "/client/alice?role=",
        "tidemark://" UID "/client/alice?role=none",
        "tidemark://" UID "/client/alice?role=king",
        "tidemark://" UID "/client/alice?role=admin&x=1",
        "tidemark://" UID "/client/?role=admin",
        "tidemark://" UID "/client/*?role=admin",
        "tidemark://" UID "/client/a?b?role=admin",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct cert_name read = {.member = 77};
        struct err err = {0};
        if (cert_name_parse(bad[i], &read, &err) != TIDE_E_INVALID)
            fail_msg("\"%s\" was taken for a name", bad[i]);
        assert_int_equal(read.member, 77);
    }
    char longer[CERT_NAME_MAX + 40];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    memcpy(longer, "tidemark://" UID "/agent/", strlen("tidemark://" UID "/agent/"));
    struct cert_name read;
    assert_int_equal(cert_name_parse(longer, &read, NULL), TIDE_E_INVALID);
}

/* ---- identity.json ---- */

static enum tide_status parse(const char *text, struct identity *ret_identity, struct err *err)
{
    *err = (struct err){0};
    return identity_parse(text, strlen(text), ret_identity, err);
}

#define THREE                                                                                                               \
    "\"members\":[{\"id\":1,\"peer\":\"a:7071\",\"api\":\"https://a:7070\"},"                                               \
    "{\"id\":2,\"peer\":\"10.0.0.12:7071\",\"api\":\"https://10.0.0.12:7070\"},"                                            \
    "{\"id\":3,\"peer\":\"[fd00::3]:7071\",\"api\":\"https://[fd00::3]:7070\"}]"

static void an_identity_is_read(void **state)
{
    (void)state;
    struct identity identity;
    struct err err;
    assert_int_equal(parse("{\"format\":1,\"cluster\":\"" UID "\",\"member\":2,\"later\":true," THREE "}", &identity, &err),
                     TIDE_OK);
    assert_int_equal(identity.members.count, 3);
    assert_string_equal(identity_member(&identity, 2)->peer, "10.0.0.12:7071");
    assert_string_equal(identity_member(&identity, 3)->api, "https://[fd00::3]:7070");
    assert_null(identity_member(&identity, 4));
    codec_release(&identity_codec, &identity);
}

static void a_wrong_identity_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word;
        enum tide_status status;
    } bad[] = {
        {"{\"format\":2,\"cluster\":\"" UID "\"}", "format is 2", TIDE_E_VERSION},
        {"{\"format\":0,\"cluster\":\"" UID "\"}", "format is 0", TIDE_E_VERSION},
        {"{\"format\":1,\"cluster\":\"xyz\"}", "uid", TIDE_E_INVALID},
        {"{\"format\":1}", "cluster", TIDE_E_INVALID},
        {"{\"format\":1,\"cluster\":\"" UID "\",\"member\":4," THREE "}", "own list", TIDE_E_INVALID},
        {"{\"format\":1,\"cluster\":\"" UID "\",\"members\":[{\"id\":0,\"peer\":\"a:1\",\"api\":\"https://a:2\"}]}", "id",
         TIDE_E_INVALID},
        {"{\"format\":1,\"cluster\":\"" UID "\",\"members\":[{\"id\":1,\"peer\":\"a:1\",\"api\":\"http://a:2\"}]}",
         "https://", TIDE_E_INVALID},
        {"{\"format\":1,\"cluster\":\"" UID
         "\",\"insecure\":true,\"members\":[{\"id\":1,\"peer\":\"a:1\",\"api\":\"https://a:2\"}]}",
         "http://", TIDE_E_INVALID},
        {"{\"format\":1,\"cluster\":\"" UID "\",\"members\":[{\"id\":1,\"peer\":\"a\",\"api\":\"https://a:2\"}]}",
         "host:port", TIDE_E_INVALID},
        {"{\"format\":1,\"cluster\":\"" UID "\",\"members\":[{\"id\":1,\"peer\":\"a:1\",\"api\":\"https://a:2\"},"
         "{\"id\":1,\"peer\":\"b:1\",\"api\":\"https://b:2\"}]}",
         "two members", TIDE_E_INVALID},
        {"{\"format\":1,\"cluster\":\"" UID "\",\"members\":[{\"id\":1,\"peer\":\"a:1\",\"api\":\"https://a:2\"},"
         "{\"id\":2,\"peer\":\"a:1\",\"api\":\"https://b:2\"}]}",
         "same address", TIDE_E_INVALID},
        {"{\"format\":1,\"cluster\":\"" UID "\",\"tokens\":[{\"name\":\"join\",\"role\":\"agent\",\"hash\":\"abc\"}]}",
         "hash", TIDE_E_INVALID},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct identity identity;
        struct err err;
        assert_int_equal(parse(bad[i].text, &identity, &err), bad[i].status);
        if (strstr(err.text, bad[i].word) == NULL)
            fail_msg("%s: \"%s\" does not say \"%s\"", bad[i].text, err.text, bad[i].word);
    }
}

static void addresses_are_split(void **state)
{
    (void)state;
    static const char *const bad[] = {"",      "a",        ":1",     "a:",      "a:0",   "a:65536", "a:01",
                                      "::1:7", "[::1]",    "[]:1",   "a:b:1",   "a b:1", "a/b:1",   "u@h:1",
                                      "a:+1",  "a:999999", "[a]b:1", "a?x=b:1", "a#:1"};
    char host[ADDRESS_MAX + 1];
    uint32_t port;
    assert_int_equal(address_split("hosta:7071", host, &port, NULL), TIDE_OK);
    assert_string_equal(host, "hosta");
    assert_int_equal(port, 7071);
    assert_int_equal(address_split("[::1]:65535", host, &port, NULL), TIDE_OK);
    assert_string_equal(host, "::1");
    assert_int_equal(port, 65535);
    assert_true(address_loopback("127.0.0.1:1"));
    assert_true(address_loopback("127.9.9.9:1"));
    assert_true(address_loopback("[::1]:1"));
    assert_true(address_loopback("localhost:1"));
    assert_false(address_loopback("127.evil.example:1"));
    assert_false(address_loopback("10.127.0.1:1"));
    assert_false(address_loopback("0.0.0.0:1"));
    assert_false(address_loopback("[::]:1"));
    assert_false(address_loopback("127.0.0.1"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (address_split(bad[i], host, &port, NULL) != TIDE_E_INVALID)
            fail_msg("\"%s\" was taken for an address", bad[i]);
}

/* ---- roles ---- */

static void roles_allow_what_is_below_them(void **state)
{
    (void)state;
    /* rows: has; columns: asked for none, agent, viewer, operator, admin */
    static const bool table[5][5] = {
        [ROLE_NONE] = {1, 0, 0, 0, 0},     [ROLE_AGENT] = {1, 1, 0, 0, 0}, [ROLE_VIEWER] = {1, 0, 1, 0, 0},
        [ROLE_OPERATOR] = {1, 0, 1, 1, 0}, [ROLE_ADMIN] = {1, 0, 1, 1, 1},
    };
    for (unsigned has = ROLE_NONE; has <= ROLE_ADMIN; has++)
        for (unsigned least = ROLE_NONE; least <= ROLE_ADMIN; least++)
            assert_int_equal(role_allows(has, least), table[has][least]);
    unsigned role = 9;
    assert_int_equal(role_parse("operator", &role), 0);
    assert_int_equal(role, ROLE_OPERATOR);
    assert_int_not_equal(role_parse("none", &role), 0);
    assert_int_not_equal(role_parse("", &role), 0);
    assert_int_equal(role, ROLE_OPERATOR);
}

/* ---- recovery epochs ---- */

static uint64_t epoch_of(const char *text)
{
    uint64_t epoch = EPOCH_UNKNOWN;
    struct err err = {0};
    if (epoch_parse(text, &epoch, &err) != TIDE_OK)
        fail_msg("%s", err.text);
    return epoch;
}

static void epochs_are_written_and_read(void **state)
{
    (void)state;
    static const char *const good[] = {"0", "1-00000000", "2-00c0ffee", "2147483647-89abcdef"};
    static const char *const bad[] = {"",
                                      "0-00c0ffee",
                                      "00",
                                      "1",
                                      "1-",
                                      "1-00C0FFEE",
                                      "01-00c0ffee",
                                      "1-0c0ffee",
                                      "-00c0ffee",
                                      "1-00c0ffee ",
                                      "-1",
                                      "1-000c0ffee",
                                      "2147483648-00c0ffee",
                                      "18446744073709551617-00c0ffee"};
    char text[EPOCH_TEXT_MAX + 1];
    uint64_t epoch = 0;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        epoch_format(epoch_of(good[i]), text);
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (epoch_parse(bad[i], &epoch, NULL) != TIDE_E_INVALID)
            fail_msg("\"%s\" was taken for an epoch", bad[i]);
}

static void the_next_epoch_is_later(void **state)
{
    (void)state;
    uint64_t one = 0, two = 0, unused = 0;
    struct err err = {0};
    assert_int_equal(epoch_next(0, 7, &one, &err), TIDE_OK);
    assert_true(one == epoch_of("1-00000007"));
    assert_int_equal(epoch_next(one, 3, &two, &err), TIDE_OK);
    assert_true(two == epoch_of("2-00000003"));
    assert_int_equal(epoch_next(epoch_of("2147483647-00000000"), 3, &unused, &err), TIDE_E_LIMIT);
    /* told, known */
    assert_false(epoch_stale(0, 0));
    assert_false(epoch_stale(two, two));
    assert_false(epoch_stale(two, one));
    assert_true(epoch_stale(0, one));
    assert_true(epoch_stale(one, two));
    assert_true(epoch_stale(epoch_of("1-00000008"), one)); /* each recovered without the other */
    assert_true(epoch_stale(one, epoch_of("1-00000008")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_written_and_read),     cmocka_unit_test(the_longest_name_fits),
        cmocka_unit_test(what_is_no_name_is_refused),     cmocka_unit_test(an_identity_is_read),
        cmocka_unit_test(a_wrong_identity_is_refused),    cmocka_unit_test(addresses_are_split),
        cmocka_unit_test(roles_allow_what_is_below_them), cmocka_unit_test(epochs_are_written_and_read),
        cmocka_unit_test(the_next_epoch_is_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
