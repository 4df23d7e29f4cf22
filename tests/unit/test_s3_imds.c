/* SPDX-License-Identifier: Apache-2.0 */

/* Keys from a host's metadata service, by a server of ours that plays it. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/store/s3_imds.h"
#include "ckpt/store/store_s3.h"
#include "tests/lib/answers.h"

#define TOKEN HEAD("200 OK", "6") "tok-en"
#define ROLE HEAD("200 OK", "8") "trainers"
#define DOCUMENT(expires)                                                                                                   \
    "{\"Code\":\"Success\",\"AccessKeyId\":\"ASIA\",\"SecretAccessKey\":\"hush\",\"Token\":\"session\","                    \
    "\"Expiration\":\"" expires "\"}"
#define FAR DOCUMENT("2099-01-01T00:00:00Z") /* 118 bytes */
#define PAST DOCUMENT("2020-01-01T00:00:00Z")

static struct answers server;
static char endpoint[64];

static const char *env_of_host(const char *name)
{
    return strcmp(name, "AWS_EC2_METADATA_SERVICE_ENDPOINT") == 0 ? endpoint : NULL;
}

static enum tide_status ask(const char *const *answers, struct s3_keys *ret_keys, uint64_t *ret_expires_s, struct err *err)
{
    answers_begin(&server, answers);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", server.port);
    return s3_imds_keys(env_of_host, ret_keys, ret_expires_s, err);
}

static void a_token_a_role_then_its_keys(void **state)
{
    (void)state;
    struct err err = {0};
    struct s3_keys keys = {0};
    uint64_t expires_s = 0;
    assert_int_equal(sizeof FAR - 1, 118);
    assert_int_equal(ask((const char *const[]){TOKEN, ROLE, HEAD("200 OK", "118") FAR, NULL}, &keys, &expires_s, &err),
                     TIDE_OK);
    answers_end(&server, 3);
    assert_string_equal(keys.access, "ASIA");
    assert_string_equal(keys.secret, "hush");
    assert_string_equal(keys.token, "session");
    assert_int_equal(expires_s, 4070908800);
    assert_non_null(strstr(server.requests[0], "PUT /latest/api/token HTTP/1.1\r\n"));
    assert_non_null(strstr(server.requests[0], "\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"));
    assert_non_null(strstr(server.requests[1], "GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\n"));
    assert_non_null(strstr(server.requests[2], "GET /latest/meta-data/iam/security-credentials/trainers HTTP/1.1\r\n"));
    for (unsigned i = 1; i < 3; i++)
        assert_non_null(strstr(server.requests[i], "\r\nX-aws-ec2-metadata-token: tok-en\r\n"));
}

static void what_is_no_answer_of_it_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *answers[4];
        enum tide_status status;
        const char *says;
    } cases[] = {
        {{HEAD("403 Forbidden", "0")}, TIDE_E_UNAVAILABLE, "answers 403 to /latest/api/token"},
        {{HEAD("200 OK", "0")}, TIDE_E_UNAVAILABLE, "gives no token"},
        {{HEAD("200 OK", "7") "to\tken!"}, TIDE_E_UNAVAILABLE, "gives no token"},
        {{TOKEN, HEAD("404 Not Found", "0")}, TIDE_E_NOT_FOUND, "knows no role of this host; give it one"},
        {{TOKEN, HEAD("200 OK", "8") "../../us"}, TIDE_E_UNAVAILABLE, "names no role"},
        {{TOKEN, ROLE, HEAD("200 OK", "6") "<html>"}, TIDE_E_UNAVAILABLE, "gives no keys"},
        {{TOKEN, ROLE, HEAD("200 OK", "17") "{\"Code\":\"Failed\"}"}, TIDE_E_UNAVAILABLE, "gives no keys"},
        {{TOKEN, ROLE, BREAK_OFF}, TIDE_E_UNAVAILABLE, "metadata service at http://127.0.0.1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        struct s3_keys keys = {0};
        uint64_t expires_s = 7;
        unsigned asked = 0;
        while (asked < 4 && cases[i].answers[asked])
            asked++;
        assert_int_equal(ask(cases[i].answers, &keys, &expires_s, &err), cases[i].status);
        answers_end(&server, asked);
        assert_non_null(strstr(err.text, cases[i].says));
        assert_int_equal(expires_s, 7);
        assert_string_equal(keys.access, "");
    }
}

static void times_are_read_or_refused(void **state)
{
    (void)state;
    struct err err = {0};
    struct s3_keys keys;
    uint64_t expires_s = 0;
    static const char good[] = DOCUMENT("2026-11-27T20:15:00Z"), zone[] = DOCUMENT("2026-11-27T20:15:00+01:00"),
                      none[] = DOCUMENT("soon");
    assert_int_equal(s3_imds_parse(good, sizeof good - 1, &keys, &expires_s, &err), TIDE_OK);
    assert_int_equal(expires_s, 1795810500);
    assert_int_equal(s3_imds_parse(zone, sizeof zone - 1, &keys, &expires_s, &err), TIDE_E_INVALID);
    assert_int_equal(s3_imds_parse(none, sizeof none - 1, &keys, &expires_s, &err), TIDE_E_INVALID);
    assert_int_equal(s3_imds_parse(good, sizeof good - 9, &keys, &expires_s, &err), TIDE_E_INVALID);
}

static void who_is_silent_is_not_waited_for(void **state)
{
    (void)state;
    struct err err = {0};
    struct s3_keys keys;
    uint64_t expires_s, from_ns = clock_mono_ns();
    /* Accepted by the kernel, and nobody reads it. */
    answers_begin(&server, (const char *const[]){NULL});
    pthread_join(server.thread, NULL);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", server.port);
    assert_int_equal(s3_imds_keys(env_of_host, &keys, &expires_s, &err), TIDE_E_NOT_FOUND);
    assert_true(clock_mono_ns() - from_ns >= IMDS_ALL_MS * NS_PER_MS);
    close(server.listener);
}

/* As the store uses it: neither the environment nor a file has keys; what has expired is asked for again. */
static void the_store_takes_them_last(void **state)
{
    (void)state;
    struct err err = {0};
    struct store *store = NULL;
    answers_begin(&server, (const char *const[]){TOKEN, ROLE, HEAD("200 OK", "118") PAST, NULL});
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", server.port);
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint, 1);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials", 1);
    assert_int_equal(store_s3_open("s3://bucket?endpoint=http://127.0.0.1:1", &store, &err), TIDE_OK);
    answers_end(&server, 3);
    assert_true(store_moved(store));
    store_close(store);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    assert_int_equal(store_s3_open("s3://bucket?endpoint=http://127.0.0.1:1", &store, &err), TIDE_E_DENIED);
    assert_non_null(strstr(err.text, "AWS_EC2_METADATA_DISABLED is set"));
}

/* ---- longer open than its keys are good ---- */

static struct answers bucket;

static void open_at(struct store **ret_store, const char *const *answers)
{
    struct err err = {0};
    char url[128];
    answers_begin(&bucket, answers);
    snprintf(url, sizeof url, "s3://bucket?endpoint=http://127.0.0.1:%u", bucket.port);
    assert_int_equal(store_s3_open(url, ret_store, &err), TIDE_OK);
}

#define LATER                                                                                                               \
    "{\"Code\":\"Success\",\"AccessKeyId\":\"ASIA\",\"SecretAccessKey\":\"hush\",\"Token\":\"another\","                    \
    "\"Expiration\":\"2099-01-01T00:00:00Z\"}"

/* A scrub, or a large shard, takes longer than the hours that a role's keys are good for. */
static void keys_that_expire_are_renewed_ahead(void **state)
{
    (void)state;
    struct err err = {0};
    struct store *store = NULL;
    answers_begin(&server, (const char *const[]){TOKEN, ROLE, HEAD("200 OK", "118") PAST, TOKEN, ROLE, HEAD("200 OK", "118") LATER, NULL});
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%u", server.port);
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint, 1);
    open_at(&store, (const char *const[]){HEAD("204 No Content", "0"), NULL});
    assert_true(store_moved(store));
    assert_int_equal(store_remove(store, "k", &err), TIDE_OK);
    answers_end(&server, 6);
    answers_end(&bucket, 1);
    assert_non_null(strstr(bucket.requests[0], "\r\nx-amz-security-token: another\r\n"));
    assert_false(store_moved(store));
    store_close(store);
}

static void write_keys(const char *path, const char *token)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "[default]\naws_access_key_id = AKIA\naws_secret_access_key = hush\naws_session_token = %s\n", token);
    assert_int_equal(fclose(file), 0);
}

#define EXPIRED HEAD("400 Bad Request", "40") "<Error><Code>ExpiredToken</Code></Error>"

/* What somebody else renews has no date; the server's word has to do. */
static void what_is_refused_is_asked_again_with_the_keys_there_are_now(void **state)
{
    (void)state;
    struct err err = {0};
    struct store *store = NULL;
    uint64_t bytes = 0;
    char path[] = "/tmp/tidemark-keys.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
    write_keys(path, "first");
    open_at(&store, (const char *const[]){EXPIRED, HEAD("200 OK", "0"), EXPIRED, NULL});
    write_keys(path, "second");
    assert_int_equal(store_put(store, "k", "mine", 4, &err), TIDE_OK);
    assert_false(store_moved(store));
    assert_int_equal(store_put(store, "k", "mine", 4, &err), TIDE_E_DENIED); /* there are no others */
    assert_true(store_moved(store));
    answers_end(&bucket, 3);
    assert_non_null(strstr(bucket.requests[0], "\r\nx-amz-security-token: first\r\n"));
    assert_non_null(strstr(bucket.requests[1], "\r\nx-amz-security-token: second\r\n"));
    assert_non_null(strstr(bucket.requests[1], "\r\n\r\nmine"));
    store_close(store);
    /* HEAD says nothing but a number. */
    write_keys(path, "third");
    open_at(&store, (const char *const[]){HEAD("400 Bad Request", "0"), HEAD("200 OK", "7"), NULL});
    write_keys(path, "fourth");
    assert_int_equal(store_size(store, "k", &bytes, &err), TIDE_OK);
    assert_int_equal(bytes, 7);
    answers_end(&bucket, 2);
    assert_non_null(strstr(bucket.requests[1], "\r\nx-amz-security-token: fourth\r\n"));
    store_close(store);
    unlink(path);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_a_role_then_its_keys), cmocka_unit_test(what_is_no_answer_of_it_is_refused),
        cmocka_unit_test(times_are_read_or_refused),    cmocka_unit_test(who_is_silent_is_not_waited_for),
        cmocka_unit_test(keys_that_expire_are_renewed_ahead), cmocka_unit_test(the_store_takes_them_last),
        cmocka_unit_test(what_is_refused_is_asked_again_with_the_keys_there_are_now),
    };
    static const char *const names[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
                                        "AWS_EC2_METADATA_DISABLED", "AWS_SHARED_CREDENTIALS_FILE"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials", 1);
    setenv("no_proxy", "127.0.0.1", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
