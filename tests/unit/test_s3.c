/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/store/backoff.h"
#include "ckpt/store/s3_url.h"
#include "ckpt/store/s3_xml.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- addresses ---- */

static const char *const *variables; /* NAME, value, …, NULL */

static const char *env(const char *name)
{
    for (const char *const *v = variables; v && *v; v += 2)
        if (strcmp(v[0], name) == 0)
            return v[1];
    return NULL;
}

static struct s3_url parsed(const char *text)
{
    struct s3_url url = {.tls = -1};
    struct err err = {0};
    if (s3_url_parse(text, env, &url, &err) != TIDE_OK)
        fail_msg("%s: %s", text, err.text);
    return url;
}

static void addresses(void **state)
{
    (void)state;
    variables = NULL;
    struct s3_url url = parsed("s3://bucket");
    assert_string_equal(url.bucket, "bucket");
    assert_string_equal(url.prefix, "");
    assert_string_equal(url.host, "bucket.s3.us-east-1.amazonaws.com");
    assert_string_equal(url.base, "/");
    assert_true(url.tls);
    assert_false(url.payload_signed);
    assert_true(parsed("s3://bucket?payload=signed").payload_signed);
    assert_int_equal(url.timeout_s, S3_TIMEOUT_S);
    url = parsed("s3://my-bucket.1/team/a/?endpoint=http://10.0.0.1:7480&region=eu-1&timeout=7&ca=/etc/ca.pem");
    assert_string_equal(url.prefix, "team/a/");
    assert_string_equal(url.host, "10.0.0.1:7480");
    assert_string_equal(url.base, "/my-bucket.1/");
    assert_string_equal(url.region, "eu-1");
    assert_string_equal(url.ca, "/etc/ca.pem");
    assert_false(url.tls);
    assert_true(url.payload_signed);
    assert_int_equal(url.timeout_s, 7);
    assert_false(parsed("s3://bucket?endpoint=http://h&payload=unsigned").payload_signed);
    url = parsed("s3://bucket?endpoint=https://s3.example.com:443/&style=virtual");
    assert_string_equal(url.host, "bucket.s3.example.com");
    url = parsed("s3://bucket?endpoint=http://[::1]:80");
    assert_string_equal(url.host, "[::1]");
    url = parsed("s3://bucket?region=eu-west-3&style=path");
    assert_string_equal(url.host, "s3.eu-west-3.amazonaws.com");
    assert_string_equal(url.base, "/bucket/");
}

static void the_environment_fills_in(void **state)
{
    (void)state;
    static const char *const set[] = {
        "AWS_ENDPOINT_URL", "http://store:9000", "AWS_REGION", "", "AWS_DEFAULT_REGION", "there",
        "AWS_CA_BUNDLE",    "/ca/of/env.pem",    NULL};
    variables = set;
    struct s3_url url = parsed("s3://bucket");
    assert_string_equal(url.host, "store:9000");
    assert_string_equal(url.region, "there");
    assert_string_equal(url.ca, "/ca/of/env.pem");
    url = parsed("s3://bucket?endpoint=http://other&region=here");
    assert_string_equal(url.host, "other");
    assert_string_equal(url.region, "here");
    variables = NULL;
}

static void bad_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"s3://", "bucket"},
        {"s3://ab", "bucket"},
        {"s3://Bucket", "bucket"},
        {"s3://-bucket", "bucket"},
        {"s3://user@bucket/x", "bucket"},
        {"s3:///x", "bucket"},
        {"http://bucket", "s3://BUCKET"},
        {"s3://bucket/../x", "prefix"},
        {"s3://bucket/a b", "prefix"},
        {"s3://bucket/a//b", "prefix"},
        {"s3://bucket?endpoint=ftp://h", "ftp://h"},
        {"s3://bucket?endpoint=http://", "http://"},
        {"s3://bucket?endpoint=http://h:0", "http://h:0"},
        {"s3://bucket?endpoint=http://h:65536", "65536"},
        {"s3://bucket?endpoint=http://h/path", "h/path"},
        {"s3://bucket?endpoint=http://u:p@h", "endpoint"},
        {"s3://bucket?endpoint=http://:80", "endpoint"},
        {"s3://bucket?style=odd", "odd"},
        {"s3://bucket?payload=odd", "payload=odd"},
        {"s3://bucket?timeout=0", "timeout"},
        {"s3://bucket?timeout=1s", "timeout"},
        {"s3://bucket?region=a/b", "a/b"},
        {"s3://bucket?region", "region"},
        {"s3://bucket?secret=hush", "secret"},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct err err = {0};
        struct s3_url url;
        assert_int_equal(s3_url_parse(bad[i].text, env, &url, &err), TIDE_E_INVALID);
        if (strstr(err.text, bad[i].words) == NULL)
            fail_msg("%s: %s", bad[i].text, err.text);
        assert_null(strstr(err.text, "hush"));
    }
}

/* ---- keys ---- */

static void keys_of_the_environment(void **state)
{
    (void)state;
    struct s3_keys keys;
    struct err err = {0};
    variables = NULL;
    assert_int_equal(s3_keys_env(env, &keys, &err), TIDE_E_NOT_FOUND);
    variables = (const char *const[]){"AWS_ACCESS_KEY_ID", "AK", NULL};
    assert_int_equal(s3_keys_env(env, &keys, &err), TIDE_E_INVALID);
    variables =
        (const char *const[]){"AWS_ACCESS_KEY_ID", "AK", "AWS_SECRET_ACCESS_KEY", "s/+=", "AWS_SESSION_TOKEN", "T", NULL};
    assert_int_equal(s3_keys_env(env, &keys, &err), TIDE_OK);
    assert_string_equal(keys.access, "AK");
    assert_string_equal(keys.secret, "s/+=");
    assert_string_equal(keys.token, "T");
    variables = (const char *const[]){"AWS_ACCESS_KEY_ID", "AK\nX: y", "AWS_SECRET_ACCESS_KEY", "hush", NULL};
    assert_int_equal(s3_keys_env(env, &keys, &err), TIDE_E_INVALID);
    assert_null(strstr(err.text, "hush"));
    variables = NULL;
}

static void keys_of_a_file(void **state)
{
    (void)state;
    static const char file[] = "# comment\n[default]\naws_access_key_id = A1\r\naws_secret_access_key=S1==\n\n"
                               "[ops]\n aws_access_key_id=A2\n;aws_secret_access_key=no\naws_secret_access_key = S2\n"
                               "aws_session_token = T2\n[half]\naws_access_key_id=A3";
    struct s3_keys keys;
    struct err err = {0};
    assert_int_equal(s3_keys_parse(file, "default", &keys, &err), TIDE_OK);
    assert_string_equal(keys.access, "A1");
    assert_string_equal(keys.secret, "S1==");
    assert_string_equal(keys.token, "");
    assert_int_equal(s3_keys_parse(file, "ops", &keys, &err), TIDE_OK);
    assert_string_equal(keys.secret, "S2");
    assert_string_equal(keys.token, "T2");
    assert_int_equal(s3_keys_parse(file, "half", &keys, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(s3_keys_parse(file, "none", &keys, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(s3_keys_parse("", "default", &keys, &err), TIDE_E_NOT_FOUND);
}

/* ---- documents ---- */

static void errors_are_read(void **state)
{
    (void)state;
    static const char xml[] =
        "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>not &lt;there&gt;\x1b</Message></Error>";
    static const char good[] =
        "<Error><Code>SlowDown</Code><Message>rest &amp; wait\n</Message><X><Code>no</Code></X></Error>";
    struct s3_error error;
    s3_error_parse(good, sizeof good - 1, &error);
    assert_string_equal(error.code, "SlowDown");
    assert_string_equal(error.message, "rest & wait?");
    /* A byte that is none of XML's, or a body that was cut: the code is there all the same. */
    s3_error_parse(xml, sizeof xml - 1, &error);
    assert_string_equal(error.code, "NoSuchKey");
    s3_error_parse(good, 34, &error);
    assert_string_equal(error.code, "SlowDown");
    s3_error_parse("<html>502</html>", 16, &error);
    assert_string_equal(error.code, "");
    s3_error_parse("", 0, &error);
    assert_string_equal(error.code, "");
}

#define LIST(body)                                                                                                          \
    "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">" body "</"                 \
                                                                                                       "ListBucketResult>"

static enum tide_status page_of(const char *xml, struct s3_page *ret_page)
{
    struct err err = {0};
    return s3_page_parse(xml, strlen(xml), ret_page, &err);
}

static void pages_are_read(void **state)
{
    (void)state;
    struct s3_page page = {0};
    assert_int_equal(page_of(LIST("<IsTruncated>true</IsTruncated><NextContinuationToken>to/+ken=</NextContinuationToken>"
                                  "<Contents><Key>a/b%20c</Key><Owner><ID>x</ID></Owner></Contents>"
                                  "<Contents><Key>d%zz</Key></Contents><Contents><Key>e</Key></Contents>"
                                  "<CommonPrefixes><Prefix>no</Prefix></CommonPrefixes>"),
                             &page),
                     TIDE_OK);
    assert_true(page.truncated);
    assert_string_equal(page.next, "to/+ken=");
    assert_int_equal(page.keys.count, 2);
    assert_string_equal(page.keys.items[0], "a/b c");
    assert_string_equal(page.keys.items[1], "e");
    strlist_release(&page.keys);
    assert_int_equal(page_of(LIST(""), &page), TIDE_OK);
    assert_false(page.truncated);
    assert_int_equal(page.keys.count, 0);
}

static void what_is_no_page_is_no_empty_list(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "<html></html>",
        "<ListBucketResult><Contents><Key>a</Key></Contents>",
        LIST("<IsTruncated>true</IsTruncated>"),
        "<!DOCTYPE x [<!ENTITY e \"x\">]><ListBucketResult><Contents><Key>&e;</Key></Contents></ListBucketResult>",
        LIST("<a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a>"),
    };
    struct s3_page page;
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(page_of(bad[i], &page), TIDE_E_CORRUPT);
}

/* ---- repeating ---- */

static void what_is_asked_again(void **state)
{
    (void)state;
    static const struct {
        unsigned http;
        const char *code;
        enum backoff_verdict verdict;
    } table[] = {
        {200, "", BACKOFF_FINAL},
        {404, "NoSuchKey", BACKOFF_FINAL},
        {403, "AccessDenied", BACKOFF_FINAL},
        {412, "PreconditionFailed", BACKOFF_FINAL},
        {408, "", BACKOFF_AGAIN},
        {400, "RequestTimeout", BACKOFF_AGAIN},
        {429, "", BACKOFF_SLOW},
        {503, "SlowDown", BACKOFF_SLOW},
        {503, "", BACKOFF_SLOW},
        {500, "InternalError", BACKOFF_AGAIN},
        {502, "", BACKOFF_AGAIN},
        {409, "ConditionalRequestConflict", BACKOFF_AGAIN},
        {409, "BucketNotEmpty", BACKOFF_FINAL},
        {400, "BadDigest", BACKOFF_AGAIN},
        {400, "IncompleteBody", BACKOFF_AGAIN},
        {501, "NotImplemented", BACKOFF_FINAL},
        {507, "", BACKOFF_FINAL},
    };
    for (size_t i = 0; i < COUNT(table); i++)
        assert_int_equal(backoff_of(table[i].http, table[i].code), table[i].verdict);
}

static void waits_are_jittered_and_capped(void **state)
{
    (void)state;
    assert_int_equal(backoff_wait_ms(BACKOFF_AGAIN, 1, BACKOFF_BASE_MS), BACKOFF_BASE_MS);
    assert_int_equal(backoff_wait_ms(BACKOFF_AGAIN, 1, BACKOFF_BASE_MS + 1), 0);
    assert_int_equal(backoff_wait_ms(BACKOFF_AGAIN, 3, 4 * BACKOFF_BASE_MS), 4 * BACKOFF_BASE_MS);
    assert_int_equal(backoff_wait_ms(BACKOFF_SLOW, 2, 2 * BACKOFF_BASE_SLOW_MS), 2 * BACKOFF_BASE_SLOW_MS);
    for (unsigned n = 0; n < 100; n++)
        assert_true(backoff_wait_ms(BACKOFF_SLOW, n, UINT64_MAX / (n + 1)) <= BACKOFF_CAP_MS);
    assert_int_equal(backoff_wait_ms(BACKOFF_SLOW, 99, BACKOFF_CAP_MS), BACKOFF_CAP_MS);
}

static void pace_halves_and_grows(void **state)
{
    (void)state;
    struct pace pace;
    pace_init(&pace, 16);
    for (unsigned expected = 8; expected >= 1; expected /= 2) {
        pace_slow(&pace);
        assert_int_equal(pace.limit, expected);
    }
    pace_slow(&pace);
    assert_int_equal(pace.limit, 1);
    for (unsigned i = 0; i < PACE_GROW_AFTER; i++)
        pace_success(&pace);
    assert_int_equal(pace.limit, 2);
    for (unsigned i = 0; i < 100 * PACE_GROW_AFTER; i++)
        pace_success(&pace);
    assert_int_equal(pace.limit, 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses),
        cmocka_unit_test(the_environment_fills_in),
        cmocka_unit_test(bad_addresses),
        cmocka_unit_test(keys_of_the_environment),
        cmocka_unit_test(keys_of_a_file),
        cmocka_unit_test(errors_are_read),
        cmocka_unit_test(pages_are_read),
        cmocka_unit_test(what_is_no_page_is_no_empty_list),
        cmocka_unit_test(what_is_asked_again),
        cmocka_unit_test(waits_are_jittered_and_capped),
        cmocka_unit_test(pace_halves_and_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
