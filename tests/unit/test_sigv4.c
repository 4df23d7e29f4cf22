/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/store/sigv4.h"

/* The examples of "Authenticating Requests: Using the Authorization Header" of the S3 documentation: its keys are no keys.
 */
#define ACCESS "AKIAIOSFODNN7EXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define HOST "examplebucket.s3.amazonaws.com"
#define WHEN "20130524T000000Z"

static const struct sigv4_key key = {
    .access = ACCESS, .secret = SECRET, .region = "us-east-1", .service = "s3", .time = WHEN};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static void signs(const struct sigv4_request *request, const char *canonical_hash, const char *signature)
{
    char canonical[4096], string[1024], hash[SIGV4_HASH_CHARS + 1], made[SIGV4_HASH_CHARS + 1], line[1024];
    struct err err = {0};
    assert_int_equal(sigv4_canonical(request, canonical, sizeof canonical, &err), TIDE_OK);
    assert_int_equal(sigv4_hash(canonical, strlen(canonical), hash, &err), TIDE_OK);
    if (canonical_hash)
        assert_string_equal(hash, canonical_hash);
    assert_int_equal(sigv4_string_to_sign(&key, canonical, string, sizeof string, &err), TIDE_OK);
    assert_int_equal(sigv4_signature(&key, string, made, &err), TIDE_OK);
    assert_string_equal(made, signature);
    assert_int_equal(sigv4_authorization(&key, request, line, sizeof line, &err), TIDE_OK);
    assert_non_null(
        strstr(line, "AWS4-HMAC-SHA256 Credential=" ACCESS "/20130524/us-east-1/s3/aws4_request, SignedHeaders="));
    assert_string_equal(line + strlen(line) - SIGV4_HASH_CHARS, signature);
    assert_null(strstr(line, SECRET));
}

static void get_object(void **state)
{
    (void)state;
    struct sigv4_pair headers[] = {
        {"host", HOST}, {"range", "bytes=0-9"}, {"x-amz-content-sha256", SIGV4_EMPTY}, {"x-amz-date", WHEN}};
    struct sigv4_request request = {"GET", "/test.txt", "", headers, COUNT(headers), SIGV4_EMPTY};
    signs(&request, "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
          "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void put_object(void **state)
{
    (void)state;
    char path[64], payload[SIGV4_HASH_CHARS + 1];
    struct err err = {0};
    assert_int_equal(sigv4_encode("/test$file.text", 1, path, sizeof path, &err), TIDE_OK);
    assert_string_equal(path, "/test%24file.text");
    assert_int_equal(sigv4_hash("Welcome to Amazon S3.", 21, payload, &err), TIDE_OK);
    struct sigv4_pair headers[] = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                   {"host", HOST},
                                   {"x-amz-content-sha256", payload},
                                   {"x-amz-date", WHEN},
                                   {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
    struct sigv4_request request = {"PUT", path, "", headers, COUNT(headers), payload};
    signs(&request, "9e0e90d9c76de8fa5b200d8c849cd5b8dc7a3be3951ddb7f6a76b4158342019d",
          "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void lifecycle(void **state)
{
    (void)state;
    char query[64];
    struct err err = {0};
    assert_int_equal(sigv4_query((struct sigv4_pair[]){{"lifecycle", ""}}, 1, query, sizeof query, &err), TIDE_OK);
    struct sigv4_pair headers[] = {{"host", HOST}, {"x-amz-content-sha256", SIGV4_EMPTY}, {"x-amz-date", WHEN}};
    struct sigv4_request request = {"GET", "/", query, headers, COUNT(headers), SIGV4_EMPTY};
    signs(&request, "9766c798316ff2757b517bc739a67f6213b4ab36dd5da2f94eaebf79c77395ca",
          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void list_objects(void **state)
{
    (void)state;
    char query[64];
    struct err err = {0};
    struct sigv4_pair pairs[] = {{"prefix", "J"}, {"max-keys", "2"}};
    assert_int_equal(sigv4_query(pairs, 2, query, sizeof query, &err), TIDE_OK);
    assert_string_equal(query, "max-keys=2&prefix=J");
    struct sigv4_pair headers[] = {{"host", HOST}, {"x-amz-content-sha256", SIGV4_EMPTY}, {"x-amz-date", WHEN}};
    struct sigv4_request request = {"GET", "/", query, headers, COUNT(headers), SIGV4_EMPTY};
    signs(&request, "df57d21db20da04d7fa30298dd4488ba3a2b47ca3a489c74750e0f1e7df1b9b7",
          "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void odd_paths_and_queries(void **state)
{
    (void)state;
    static const struct {
        const char *from, *path, *query;
    } odd[] = {
        {"/a/b", "/a/b", "%2Fa%2Fb"},
        {"a b+c", "a%20b%2Bc", "a%20b%2Bc"},
        {"a=b&c(d)'*!", "a%3Db%26c%28d%29%27%2A%21", "a%3Db%26c%28d%29%27%2A%21"},
        {"-._~", "-._~", "-._~"},
        {"//../.", "//../.", "%2F%2F..%2F."},
        {"%2F", "%252F", "%252F"},
        {"\xc3\xa4\x7f\x01", "%C3%A4%7F%01", "%C3%A4%7F%01"},
        {"", "", ""},
    };
    char made[128];
    struct err err = {0};
    for (size_t i = 0; i < COUNT(odd); i++) {
        assert_int_equal(sigv4_encode(odd[i].from, 1, made, sizeof made, &err), TIDE_OK);
        assert_string_equal(made, odd[i].path);
        assert_int_equal(sigv4_encode(odd[i].from, 0, made, sizeof made, &err), TIDE_OK);
        assert_string_equal(made, odd[i].query);
    }
    /* Sorted by name as encoded, then by value; "a-b" comes before "a=". */
    struct sigv4_pair pairs[] = {{"a", "2"}, {"B", "x"}, {"a", "1"}, {"a-b", ""}, {"~", "/"}};
    assert_int_equal(sigv4_query(pairs, 5, made, sizeof made, &err), TIDE_OK);
    assert_string_equal(made, "B=x&a=1&a=2&a-b=&~=%2F");
}

static void values_are_trimmed(void **state)
{
    (void)state;
    char made[512];
    struct err err = {0};
    struct sigv4_pair headers[] = {{"host", "h"}, {"x-amz-meta", "  a   b  "}};
    struct sigv4_request request = {"GET", "/", "", headers, 2, SIGV4_UNSIGNED};
    assert_int_equal(sigv4_canonical(&request, made, sizeof made, &err), TIDE_OK);
    assert_string_equal(made, "GET\n/\n\nhost:h\nx-amz-meta:a b\n\nhost;x-amz-meta\nUNSIGNED-PAYLOAD");
}

static void a_token_is_signed(void **state)
{
    (void)state;
    char without[1024], with[1024];
    struct err err = {0};
    struct sigv4_pair headers[] = {{"host", HOST}, {"x-amz-date", WHEN}, {"x-amz-security-token", "token/one=="}};
    struct sigv4_request request = {"GET", "/", "", headers, 2, SIGV4_UNSIGNED};
    assert_int_equal(sigv4_authorization(&key, &request, without, sizeof without, &err), TIDE_OK);
    request.header_count = 3;
    assert_int_equal(sigv4_authorization(&key, &request, with, sizeof with, &err), TIDE_OK);
    assert_non_null(strstr(with, "SignedHeaders=host;x-amz-date;x-amz-security-token, Signature="));
    assert_string_not_equal(strstr(with, "Signature="), strstr(without, "Signature="));
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    char small[8], secret[400], signature[SIGV4_HASH_CHARS + 1];
    struct err err = {0};
    struct sigv4_pair pair = {"name", "value"};
    assert_int_equal(sigv4_encode("  12", 0, small, sizeof small, &err), TIDE_E_LIMIT);
    assert_int_equal(sigv4_encode("  1", 0, small, sizeof small, &err), TIDE_OK);
    assert_int_equal(sigv4_query(&pair, 1, small, sizeof small, &err), TIDE_E_LIMIT);
    memset(secret, 's', sizeof secret);
    secret[sizeof secret - 1] = '\0';
    struct sigv4_key longer = key;
    longer.secret = secret;
    assert_int_equal(sigv4_signature(&longer, "x", signature, &err), TIDE_E_LIMIT);
    assert_null(strstr(err.text, "ssss"));
}

static void time_is_utc(void **state)
{
    (void)state;
    char made[SIGV4_TIME_CHARS + 1];
    sigv4_time(1369353600, made);
    assert_string_equal(made, WHEN);
    sigv4_time(1709251199, made);
    assert_string_equal(made, "20240229T235959Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_object),
        cmocka_unit_test(put_object),
        cmocka_unit_test(lifecycle),
        cmocka_unit_test(list_objects),
        cmocka_unit_test(odd_paths_and_queries),
        cmocka_unit_test(values_are_trimmed),
        cmocka_unit_test(a_token_is_signed),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(time_is_utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
