/* SPDX-License-Identifier: Apache-2.0 */

/* The store in a bucket against a server whose answers are lost, cut short or wrong. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/store/store_s3.h"
#include "tests/lib/answers.h"

static struct answers server;
static struct store *store;

static void begin_with(const char *parameters, const char *const *answers)
{
    struct err err = {0};
    char url[128];
    answers_begin(&server, answers);
    snprintf(url, sizeof url, "s3://bucket/p?endpoint=http://127.0.0.1:%u&timeout=8%s", server.port, parameters);
    assert_int_equal(store_s3_open(url, &store, &err), TIDE_OK);
}

static void begin(const char *const *answers)
{
    begin_with("", answers);
}

static void end(unsigned asked)
{
    answers_end(&server, asked);
    store_close(store);
}

#define TAKEN HEAD("412 Precondition Failed", "0")

static void a_lost_answer_to_our_own_put_is_found_out(void **state)
{
    (void)state;
    struct err err = {0};
    begin((const char *const[]){BREAK_OFF, TAKEN, HEAD("200 OK", "4"), HEAD("206 Partial Content", "4") "mine", NULL});
    assert_int_equal(store_put(store, "k", "mine", 4, &err), TIDE_OK);
    assert_string_equal(err.text, "");
    end(4);
    assert_non_null(strstr(server.requests[0], "PUT /bucket/p/k HTTP/1.1\r\n"));
    assert_non_null(strstr(server.requests[0], "\r\nif-none-match: *\r\n"));
    assert_non_null(strstr(server.requests[0],
                           "SignedHeaders=host;if-none-match;x-amz-content-sha256;x-amz-date;x-amz-security-token, "));
    assert_non_null(strstr(server.requests[3], "\r\nRange: bytes=0-3\r\n"));
}

static void after_a_lost_answer_another_writer_is_no_success(void **state)
{
    (void)state;
    struct err err = {0};
    begin((const char *const[]){HEAD("500 Internal Server Error", "0"), TAKEN, HEAD("200 OK", "4"),
                                HEAD("206 Partial Content", "4") "else", NULL});
    assert_int_equal(store_put(store, "k", "mine", 4, &err), TIDE_E_EXISTS);
    end(4);
}

static void a_first_refusal_stands(void **state)
{
    (void)state;
    struct err err = {0};
    begin((const char *const[]){TAKEN, NULL});
    assert_int_equal(store_put(store, "k", "mine", 4, &err), TIDE_E_EXISTS);
    end(1);
}

static void a_body_cut_short_is_asked_for_again(void **state)
{
    (void)state;
    struct err err = {0};
    char back[4];
    begin((const char *const[]){HEAD("206 Partial Content", "4") "mi", HEAD("503 Slow Down", "0"),
                                HEAD("206 Partial Content", "4") "mine", NULL});
    assert_int_equal(store_get(store, "k", 0, back, 4, &err), TIDE_OK);
    assert_memory_equal(back, "mine", 4);
    end(3);
}

#define FROM_0 "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: 4\r\nContent-Range: bytes 0-3/99\r\n\r\n"

static void wrong_ranges_are_not_believed(void **state)
{
    (void)state;
    struct err err = {0};
    char back[6] = "......";
    begin((const char *const[]){HEAD("206 Partial Content", "6") "longer", HEAD("200 OK", "4") "full",
                                HEAD("206 Partial Content", "2") "sh", FROM_0 "mine", FROM_0 "mine", NULL});
    assert_int_equal(store_get(store, "k", 0, back, 4, &err), TIDE_E_IO);
    assert_memory_equal(back + 4, "..", 2);
    assert_int_equal(store_get(store, "k", 8, back, 4, &err), TIDE_E_IO);
    assert_int_equal(store_get(store, "k", 0, back, 4, &err), TIDE_E_CORRUPT);
    assert_int_equal(store_get(store, "k", 8, back, 4, &err), TIDE_E_IO);
    assert_int_equal(store_get(store, "k", 0, back, 4, &err), TIDE_OK);
    end(5);
}

/* That of "mine"; no server has to believe a body that nothing guards unless it was told so. */
#define MINE "3fd30542fe3f61b14bd4a4b2dc0b6fb30fa6f63ebce52dd1778aaa8c4dc02cff"

static void on_http_a_body_is_signed_unless_it_is_said_otherwise(void **state)
{
    (void)state;
    struct err err = {0};
    begin((const char *const[]){HEAD("200 OK", "0"), NULL});
    assert_int_equal(store_put(store, "k", "mine", 4, &err), TIDE_OK);
    end(1);
    assert_non_null(strstr(server.requests[0], "\r\nx-amz-content-sha256: " MINE "\r\n"));
    begin_with("&payload=unsigned", (const char *const[]){HEAD("200 OK", "0"), NULL});
    assert_int_equal(store_put(store, "k", "mine", 4, &err), TIDE_OK);
    end(1);
    assert_non_null(strstr(server.requests[0], "\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\n"));
}

static void a_list_that_fails_is_no_empty_list(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    begin((const char *const[]){HEAD("403 Forbidden", "0"), HEAD("200 OK", "6") "<html>", NULL});
    assert_int_equal(store_list(store, "m/", &keys, &err), TIDE_E_DENIED);
    assert_int_equal(store_list(store, "m/", &keys, &err), TIDE_E_CORRUPT);
    assert_int_equal(keys.count, 0);
    end(2);
    assert_non_null(strstr(server.requests[0], "GET /bucket?encoding-type=url&list-type=2&prefix=p%2Fm%2F HTTP/1.1\r\n"));
}

#define NO_KEYS HEAD("200 OK", "37") "<ListBucketResult></ListBucketResult>"

/* Requests that are under way are waited for; nothing of what they brought counts. */
static void one_of_several_lists_that_fails_fails_all(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist prefixes = {0}, keys = {0};
    for (const char *const *prefix = (const char *const[]){"m/", "n/", "g/", NULL}; *prefix != NULL; prefix++)
        strlist_add(&prefixes, *prefix);
    begin((const char *const[]){NO_KEYS, HEAD("403 Forbidden", "0"), NO_KEYS, NULL});
    assert_int_equal(store_list_each(store, &prefixes, &keys, &err), TIDE_E_DENIED);
    assert_int_equal(keys.count, 0);
    end(3);
    strlist_release(&prefixes);
}

#define MORE_KEYS                                                                                                                        \
    HEAD("200 OK", "122")                                                                                                                \
    "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken></ListBucketResult>   "

/* Of what is under way when one has failed the first page is waited for, and no second is asked for. */
static void after_one_has_failed_no_further_page_is_asked_for(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist prefixes = {0}, keys = {0};
    strlist_add(&prefixes, "m/");
    strlist_add(&prefixes, "n/");
    begin((const char *const[]){HEAD("403 Forbidden", "0"), MORE_KEYS, NO_KEYS, NULL});
    assert_int_equal(store_list_each(store, &prefixes, &keys, &err), TIDE_E_DENIED);
    assert_int_equal(store_list(store, "x/", &keys, &err), TIDE_OK);
    end(3);
    assert_non_null(strstr(server.requests[2], "&prefix=p%2Fx%2F "));
    strlist_release(&prefixes);
}

#define OTHERS                                                                                                                           \
    HEAD("200 OK", "111")                                                                                                                \
    "<ListBucketResult><Contents><Key>p/m/k</Key></Contents><Contents><Key>p/x/k</Key></Contents></ListBucketResult>"

/* What is listed is deleted: a server that overlooks what was asked for must not be believed. */
static void a_list_of_what_was_not_asked_for_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    begin((const char *const[]){OTHERS, NULL});
    assert_int_equal(store_list(store, "m/", &keys, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "p/x/k"));
    assert_int_equal(keys.count, 0);
    end(1);
}

/* No S3 server answers a GET or DELETE with 404 and without a code; what stands before one does while it is not there. */
static void what_is_no_answer_of_a_store_does_not_tell_that_an_object_is_gone(void **state)
{
    (void)state;
    struct err err = {0};
    uint64_t bytes;
    char back[4];
    begin((const char *const[]){HEAD("404 Not Found", "6") "<html>", HEAD("404 Not Found", "6") "<html>", HEAD("404 Not Found", "0"),
                                HEAD("404 Not Found", "0"), HEAD("404 Not Found", "37") "<Error><Code>NoSuchKey</Code></Error>", NULL});
    assert_int_equal(store_get(store, "k", 0, back, 4, &err), TIDE_E_UNAVAILABLE);
    assert_non_null(strstr(err.text, "no answer of an S3 server"));
    assert_int_equal(store_remove(store, "k", &err), TIDE_E_UNAVAILABLE);
    assert_int_equal(store_size(store, "k", &bytes, &err), TIDE_E_UNAVAILABLE);
    assert_int_equal(store_get(store, "k", 0, back, 4, &err), TIDE_E_NOT_FOUND);
    end(5);
}

static void a_length_that_is_not_told_is_not_0(void **state)
{
    (void)state;
    struct err err = {0};
    uint64_t bytes = 7;
    begin((const char *const[]){"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", NULL});
    assert_int_equal(store_size(store, "k", &bytes, &err), TIDE_E_UNAVAILABLE);
    assert_non_null(strstr(err.text, "Content-Length"));
    assert_int_equal(bytes, 7);
    end(1);
}

/* Its end may be that of the connection as well as that of the object. */
static void a_short_body_of_a_length_that_is_not_told_is_asked_for_again(void **state)
{
    (void)state;
    struct err err = {0};
    char back[4];
    begin((const char *const[]){"HTTP/1.1 206 Partial Content\r\nConnection: close\r\n\r\nmi",
                                "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n\r\nmine", NULL});
    assert_int_equal(store_get(store, "k", 0, back, 4, &err), TIDE_OK);
    assert_memory_equal(back, "mine", 4);
    end(2);
}

/* Signed, it is found by the server, and told with a 4xx. */
static void a_body_that_was_changed_on_its_way_is_sent_again(void **state)
{
    (void)state;
    struct err err = {0};
    begin((const char *const[]){HEAD("400 Bad Request", "53") "<Error><Code>XAmzContentSHA256Mismatch</Code></Error>",
                                HEAD("400 Bad Request", "37") "<Error><Code>BadDigest</Code></Error>", HEAD("200 OK", "0"), NULL});
    assert_int_equal(store_put(store, "k", "mine", 4, &err), TIDE_OK);
    end(3);
}

static void keys_that_are_refused_are_read_again(void **state)
{
    (void)state;
    struct err err = {0};
    begin((const char *const[]){HEAD("403 Forbidden", "40") "<Error><Code>ExpiredToken</Code></Error>", NULL});
    assert_false(store_moved(store));
    assert_int_equal(store_remove(store, "k", &err), TIDE_E_DENIED);
    assert_non_null(strstr(err.text, "session token has expired"));
    assert_true(store_moved(store));
    end(1);
    assert_non_null(strstr(server.requests[0], "\r\nx-amz-security-token: token\r\n"));
    assert_null(strstr(server.requests[0], "hush"));
}

#define REFUSAL(http, code, more)                                                                                                        \
    HEAD(http, "200")                                                                                                                    \
    "<Error><Code>" code "</Code><Message>" more "</Message></Error>"                                                                    \
    "                                                                                                              "                     \
    "                                                                                                              "

/* Whatever a server refuses it for: what happened, to what, and what to do next. */
static void a_refusal_is_told_with_what_to_do(void **state)
{
    (void)state;
    static const struct {
        const char *answer, *code, *next;
        enum tide_status status;
    } cases[] = {
        {REFUSAL("404 Not Found", "NoSuchBucket", ""), "404 NoSuchBucket", "create it or name another", TIDE_E_UNAVAILABLE},
        {REFUSAL("400 Bad Request", "AuthorizationHeaderMalformed", "expecting 'eu-west-1'"), "expecting 'eu-west-1'",
         "name it with region=", TIDE_E_INVALID},
        {REFUSAL("301 Moved Permanently", "PermanentRedirect", ""), "301 PermanentRedirect", "name it with region= or endpoint=",
         TIDE_E_INVALID},
        {REFUSAL("307 Temporary Redirect", "TemporaryRedirect", ""), "307 TemporaryRedirect", "name that with endpoint=",
         TIDE_E_INVALID},
        {REFUSAL("403 Forbidden", "RequestTimeTooSkewed", "hush"), "clocks of this host", "set this host's clock", TIDE_E_DENIED},
        {REFUSAL("403 Forbidden", "SignatureDoesNotMatch", "hush"), "secret key", "check AWS_SECRET_ACCESS_KEY", TIDE_E_DENIED},
        {REFUSAL("403 Forbidden", "InvalidAccessKeyId", ""), "access key", "check AWS_ACCESS_KEY_ID", TIDE_E_DENIED},
        {REFUSAL("403 Forbidden", "AccessDenied", ""), "these keys may not", "let them get, put, delete and list", TIDE_E_DENIED},
        {REFUSAL("403 Forbidden", "QuotaExceeded", ""), "quota is used up", "raise it, or delete", TIDE_E_NOSPACE},
        {REFUSAL("501 Not Implemented", "NotImplemented", ""), "501 NotImplemented", "must know If-None-Match", TIDE_E_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = {0};
        begin((const char *const[]){cases[i].answer, NULL});
        assert_int_equal(store_put(store, "k", "mine", 4, &err), cases[i].status);
        end(1);
        if (strstr(err.text, cases[i].code) == NULL || strstr(err.text, cases[i].next) == NULL ||
            strstr(err.text, "write k in bucket bucket at 127.0.0.1:") == NULL || strstr(err.text, "hush") != NULL)
            fail_msg("case %zu: %s", i, err.text);
    }
}

#define TURNS_MAX 5

/* What is said of a server that answers once and is silent from then on: the last try may have had no time for more than nothing. On a
 * busy machine not even that one answer may come in time; then it is tried again. */
static void is_said(const char *scheme, const char *answer, const char *words)
{
    struct err err = {0};
    for (unsigned turn = 0; turn < TURNS_MAX; turn++) {
        char url[128];
        answers_begin(&server, (const char *const[]){answer, NULL});
        snprintf(url, sizeof url, "s3://bucket/p?endpoint=%s://127.0.0.1:%u&timeout=1", scheme, server.port);
        assert_int_equal(store_s3_open(url, &store, &err), TIDE_OK);
        enum tide_status status = store_put(store, "k", "mine", 4, &err);
        end(1);
        assert_int_equal(status, TIDE_E_UNAVAILABLE);
        if (strstr(err.text, words) != NULL)
            return;
    }
    fail_msg("%s", err.text);
}

static void what_the_tries_before_met_is_told(void **state)
{
    (void)state;
    is_said("http", HEAD("503 Slow Down", "0"), "answers 503");
}

static void a_server_with_tls_is_suspected(void **state)
{
    (void)state;
    is_said("http", BREAK_OFF, "endpoint= is https://");
}

static void a_server_without_tls_is_suspected(void **state)
{
    (void)state;
    is_said("https", AT_ONCE "HTTP/1.1 400 Bad Request\r\n\r\n", "endpoint= is http://");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refusal_is_told_with_what_to_do),
        cmocka_unit_test(what_the_tries_before_met_is_told),
        cmocka_unit_test(a_server_with_tls_is_suspected),
        cmocka_unit_test(a_server_without_tls_is_suspected),
        cmocka_unit_test(a_lost_answer_to_our_own_put_is_found_out),
        cmocka_unit_test(after_a_lost_answer_another_writer_is_no_success),
        cmocka_unit_test(a_first_refusal_stands),
        cmocka_unit_test(a_body_cut_short_is_asked_for_again),
        cmocka_unit_test(wrong_ranges_are_not_believed),
        cmocka_unit_test(on_http_a_body_is_signed_unless_it_is_said_otherwise),
        cmocka_unit_test(a_list_that_fails_is_no_empty_list),
        cmocka_unit_test(one_of_several_lists_that_fails_fails_all),
        cmocka_unit_test(after_one_has_failed_no_further_page_is_asked_for),
        cmocka_unit_test(a_list_of_what_was_not_asked_for_is_refused),
        cmocka_unit_test(what_is_no_answer_of_a_store_does_not_tell_that_an_object_is_gone),
        cmocka_unit_test(a_length_that_is_not_told_is_not_0),
        cmocka_unit_test(a_short_body_of_a_length_that_is_not_told_is_asked_for_again),
        cmocka_unit_test(a_body_that_was_changed_on_its_way_is_sent_again),
        cmocka_unit_test(keys_that_are_refused_are_read_again),
    };
    setenv("AWS_ACCESS_KEY_ID", "ACCESS", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "hush", 1);
    setenv("AWS_SESSION_TOKEN", "token", 1);
    setenv("no_proxy", "127.0.0.1", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
