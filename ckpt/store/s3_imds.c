/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/s3_imds.h"

#include <curl/curl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

#define IMDS_ENDPOINT "http://169.254.169.254"
#define IMDS_CONNECT_MS 1000L /* where there is none, nobody answers */
#define IMDS_ROLES "/latest/meta-data/iam/security-credentials/"
#define IMDS_TTL "X-aws-ec2-metadata-token-ttl-seconds: 21600"
#define ROLE_MAX 127
#define BODY_MAX 16384

struct answer {
    long http;
    size_t used;
    char body[BODY_MAX + 1]; /* text: what is longer is no answer of this service */
};

static size_t take(char *from, size_t size, size_t count, void *data)
{
    struct answer *answer = data;
    size_t n = size * count;
    if (n > BODY_MAX - answer->used)
        return 0;
    memcpy(answer->body + answer->used, from, n);
    answer->used += n;
    return n;
}

/* ---- asking ---- */

struct service {
    const char *endpoint;
    uint64_t deadline_ns;
    char token[BODY_MAX + 64]; /* as a header; "": to be asked for */
};

static void set_options(CURL *curl, const struct service *s, const char *url, struct curl_slist *header, struct answer *to)
{
    uint64_t now_ns = clock_mono_ns(), left_ns = now_ns < s->deadline_ns ? s->deadline_ns - now_ns : 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*"); /* it is this host's */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, IMDS_CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(left_ns / NS_PER_MS) + 1);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, header);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, to);
    if (s->token[0] == '\0')
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "PUT");
}

static enum tide_status ask(const struct service *s, const char *path, struct answer *ret_answer, struct err *err)
{
    char url[TIDE_PATH_MAX + sizeof IMDS_ROLES + ROLE_MAX + 1];
    snprintf(url, sizeof url, "%s%s", s->endpoint, path);
    memset(ret_answer, 0, sizeof *ret_answer);
    CURL *curl = curl_easy_init();
    struct curl_slist *header = curl_slist_append(NULL, s->token[0] ? s->token : IMDS_TTL);
    CURLcode code = CURLE_OUT_OF_MEMORY;
    if (curl != NULL && header != NULL) {
        set_options(curl, s, url, header, ret_answer);
        code = curl_easy_perform(curl);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &ret_answer->http);
    }
    curl_slist_free_all(header);
    curl_easy_cleanup(curl);
    if (code != CURLE_OK)
        return err_set(err, s->token[0] ? TIDE_E_UNAVAILABLE : TIDE_E_NOT_FOUND, "the metadata service at %s: %s",
                       s->endpoint, curl_easy_strerror(code));
    if (ret_answer->http == 404 && s->token[0] != '\0')
        return err_set(err, TIDE_E_NOT_FOUND, "the metadata service at %s knows no role of this host; give it one",
                       s->endpoint);
    if (ret_answer->http != 200)
        return err_set(err, TIDE_E_UNAVAILABLE, "the metadata service at %s answers %ld to %s", s->endpoint,
                       ret_answer->http, path);
    return TIDE_OK;
}

/* It becomes part of a header, or of a URL: one line of visible characters. */
static int is_word(struct answer *answer, size_t most)
{
    answer->body[strcspn(answer->body, "\r\n")] = '\0';
    size_t n = strlen(answer->body);
    for (size_t i = 0; i < n; i++)
        if (answer->body[i] <= ' ' || answer->body[i] > '~')
            return 0;
    return n > 0 && n <= most;
}

static enum tide_status ask_all(struct service *s, struct answer *answer, struct s3_keys *ret_keys, uint64_t *ret_expires_s,
                                struct err *err)
{
    char path[sizeof IMDS_ROLES + ROLE_MAX + 1];
    enum tide_status status = ask(s, "/latest/api/token", answer, err);
    if (status == TIDE_OK && !is_word(answer, BODY_MAX))
        status = err_set(err, TIDE_E_UNAVAILABLE, "the metadata service at %s gives no token", s->endpoint);
    if (status != TIDE_OK)
        return status;
    snprintf(s->token, sizeof s->token, "X-aws-ec2-metadata-token: %s", answer->body);
    status = ask(s, IMDS_ROLES, answer, err);
    if (status == TIDE_OK && (!is_word(answer, ROLE_MAX) || strpbrk(answer->body, "/?#%")))
        status = err_set(err, TIDE_E_UNAVAILABLE, "the metadata service at %s names no role", s->endpoint);
    if (status != TIDE_OK)
        return status;
    snprintf(path, sizeof path, IMDS_ROLES "%s", answer->body);
    status = ask(s, path, answer, err);
    if (status == TIDE_OK && s3_imds_parse(answer->body, answer->used, ret_keys, ret_expires_s, err) != TIDE_OK)
        status = err_set(err, TIDE_E_UNAVAILABLE,
                         "the metadata service at %s gives no keys: it should be a document with "
                         "AccessKeyId, SecretAccessKey, Token and Expiration",
                         s->endpoint);
    return status;
}

enum tide_status s3_imds_keys(s3_env env, struct s3_keys *ret_keys, uint64_t *ret_expires_s, struct err *err)
{
    const char *disabled = env("AWS_EC2_METADATA_DISABLED"), *endpoint = env("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    if (disabled != NULL && strcasecmp(disabled, "true") == 0)
        return err_set(err, TIDE_E_NOT_FOUND, "AWS_EC2_METADATA_DISABLED is set");
    struct service *s = mem_try_alloc(sizeof *s);
    struct answer *answer = mem_try_alloc(sizeof *answer);
    enum tide_status status = TIDE_E_NOMEM;
    if (s != NULL && answer != NULL) {
        s->endpoint = endpoint != NULL && endpoint[0] != '\0' ? endpoint : IMDS_ENDPOINT;
        s->deadline_ns = clock_mono_ns() + IMDS_ALL_MS * NS_PER_MS;
        status = strlen(s->endpoint) > TIDE_PATH_MAX
                     ? err_set(err, TIDE_E_UNAVAILABLE, "AWS_EC2_METADATA_SERVICE_ENDPOINT is too long")
                     : ask_all(s, answer, ret_keys, ret_expires_s, err);
        OPENSSL_cleanse(s, sizeof *s);
        OPENSSL_cleanse(answer, sizeof *answer);
    } else {
        err_set(err, status, "no memory to ask the metadata service");
    }
    mem_free(s);
    mem_free(answer);
    return status;
}

/* ---- the document ---- */

/* "2026-11-27T20:15:00Z"; 0: it is none. */
static uint64_t time_of(const char *text)
{
    struct tm tm = {0};
    char zone = '\0', more = '\0';
    if (text == NULL ||
        sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%c%c", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
               &tm.tm_sec, &zone, &more) != 7 ||
        zone != 'Z')
        return 0;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    time_t seconds = timegm(&tm);
    return seconds > 0 ? (uint64_t)seconds : 0;
}

static const char *text_at(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

enum tide_status s3_imds_parse(const char *json, size_t bytes, struct s3_keys *ret_keys, uint64_t *ret_expires_s,
                               struct err *err)
{
    json_t *object = json_loadb(json, bytes, 0, NULL);
    const char *code = text_at(object, "Code"), *access = text_at(object, "AccessKeyId");
    const char *secret = text_at(object, "SecretAccessKey"), *token = text_at(object, "Token");
    uint64_t expires_s = time_of(text_at(object, "Expiration"));
    enum tide_status status = TIDE_E_INVALID;
    if (code != NULL && strcmp(code, "Success") == 0 && access != NULL && secret != NULL && token != NULL && expires_s > 0)
        status = s3_keys_make(access, secret, token, ret_keys, err);
    else
        err_set(err, status, "it is no document with keys that expire");
    json_decref(object);
    if (status == TIDE_OK)
        *ret_expires_s = expires_s;
    return status;
}
