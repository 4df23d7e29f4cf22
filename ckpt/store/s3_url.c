/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/s3_url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/store/store.h"

#define SHAPE "write s3://BUCKET/PREFIX?endpoint=http://HOST:PORT&region=REGION"
#define BUCKET_MIN 3
#define PORT_MAX 65535L

/* An address being taken apart. */
struct parts {
    const char *whole;
    char endpoint[TIDE_PATH_MAX + 1];
    char style[16];
    char payload[16];
};

int s3_url_is(const char *url)
{
    return strncmp(url, S3_SCHEME, strlen(S3_SCHEME)) == 0;
}

/* ---- bucket and prefix ---- */

static int lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* S3's rule for names: 3 to 63 of a-z 0-9 . -, at both ends a letter or digit. */
static int bucket_valid(const char *bucket)
{
    size_t n = strlen(bucket);
    for (size_t i = 0; i < n; i++)
        if (!lower_or_digit(bucket[i]) && bucket[i] != '.' && bucket[i] != '-')
            return 0;
    return n >= BUCKET_MIN && lower_or_digit(bucket[0]) && lower_or_digit(bucket[n - 1]);
}

static enum tide_status take_place(const char *from, size_t n, struct s3_url *url, struct err *err)
{
    size_t bucket = 0;
    while (bucket < n && from[bucket] != '/')
        bucket++;
    if (bucket <= S3_BUCKET_MAX)
        text_copy(url->bucket, bucket + 1, from);
    if (bucket > S3_BUCKET_MAX || !bucket_valid(url->bucket))
        return err_set(err, TIDE_E_INVALID, "\"%.*s\" cannot be a bucket's name (3 to 63 of a-z 0-9 . -); " SHAPE,
                       (int)(bucket < S3_BUCKET_MAX ? bucket : S3_BUCKET_MAX), from);
    from += bucket;
    n -= bucket;
    while (n > 0 && from[0] == '/') {
        from++;
        n--;
    }
    while (n > 0 && from[n - 1] == '/')
        n--;
    if (n == 0)
        return TIDE_OK;
    text_copy(url->prefix, n + 1, from);
    if (n >= TIDE_PATH_MAX || !store_key_valid(url->prefix))
        return err_set(err, TIDE_E_INVALID, "\"%.200s\" cannot be a prefix: use A-Z a-z 0-9 . _ - in parts joined by /",
                       url->prefix);
    text_copy(url->prefix + n, 2, "/");
    return TIDE_OK;
}

/* ---- parameters ---- */

static enum tide_status take_number(const char *value, unsigned most, unsigned *ret_number)
{
    char *end;
    unsigned long number = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || number < 1 || number > most)
        return TIDE_E_INVALID;
    *ret_number = (unsigned)number;
    return TIDE_OK;
}

static enum tide_status take_text(const char *value, size_t n, char *to, size_t size)
{
    if (n == 0 || n >= size)
        return TIDE_E_INVALID;
    text_copy(to, n + 1, value);
    return TIDE_OK;
}

static enum tide_status take_parameter(struct parts *parts, struct s3_url *url, const char *text, size_t n, struct err *err)
{
    char number[16];
    size_t name = 0;
    while (name < n && text[name] != '=')
        name++;
    const char *value = text + name + 1;
    size_t bytes = name < n ? n - name - 1 : 0;
    enum tide_status status = TIDE_E_INVALID;
    if (name == 8 && memcmp(text, "endpoint", 8) == 0)
        status = take_text(value, bytes, parts->endpoint, sizeof parts->endpoint);
    else if (name == 6 && memcmp(text, "region", 6) == 0)
        status = take_text(value, bytes, url->region, sizeof url->region);
    else if (name == 5 && memcmp(text, "style", 5) == 0)
        status = take_text(value, bytes, parts->style, sizeof parts->style);
    else if (name == 7 && memcmp(text, "payload", 7) == 0)
        status = take_text(value, bytes, parts->payload, sizeof parts->payload);
    else if (name == 2 && memcmp(text, "ca", 2) == 0)
        status = take_text(value, bytes, url->ca, sizeof url->ca);
    else if (name == 7 && memcmp(text, "timeout", 7) == 0 &&
             (status = take_text(value, bytes, number, sizeof number)) == TIDE_OK)
        status = take_number(number, S3_TIMEOUT_S_MAX, &url->timeout_s);
    if (status == TIDE_OK)
        return TIDE_OK;
    /* The name alone: a value may be somebody's secret in a wrong place. */
    return err_set(err, TIDE_E_INVALID,
                   "\"%.*s\" of the store's address is unknown, empty or too long; there are endpoint=URL, region=NAME, "
                   "style=path|virtual, ca=FILE, timeout=SECONDS and payload=signed|unsigned",
                   (int)(name < 40 ? name : 40), text);
}

static enum tide_status take_parameters(struct parts *parts, struct s3_url *url, const char *text, struct err *err)
{
    enum tide_status status = TIDE_OK;
    while (status == TIDE_OK && *text) {
        size_t n = strcspn(text, "&");
        status = take_parameter(parts, url, text, n, err);
        text += n;
        text += *text == '&';
    }
    return status;
}

/* ---- the endpoint ---- */

static int host_char(char c)
{
    return lower_or_digit(c) || (c >= 'A' && c <= 'Z') || c == '.' || c == '-' || c == '_' || c == '[' || c == ']' ||
           c == ':';
}

static enum tide_status bad_endpoint(const struct parts *parts, struct err *err)
{
    return err_set(err, TIDE_E_INVALID, "endpoint \"%.200s\" is not http://HOST:PORT or https://HOST:PORT", parts->endpoint);
}

/* The port of a host in text, "" when there is none; the colons of an IPv6 address are within brackets. */
static const char *port_of(const char *host)
{
    const char *bracket = strrchr(host, ']'), *colon = strchr(bracket ? bracket : host, ':');
    return colon ? colon : host + strlen(host);
}

static enum tide_status take_endpoint(const struct parts *parts, struct s3_url *url, char host[S3_HOST_MAX + 1],
                                      struct err *err)
{
    const char *from = parts->endpoint;
    unsigned number;
    url->tls = strncmp(from, "https://", 8) == 0;
    if (!url->tls && strncmp(from, "http://", 7) != 0)
        return bad_endpoint(parts, err);
    from += url->tls ? 8 : 7;
    size_t n = 0;
    while (host_char(from[n]))
        n++;
    if (n == 0 || n > S3_HOST_MAX || (from[n] != '\0' && (from[n] != '/' || from[n + 1] != '\0')))
        return bad_endpoint(parts, err);
    text_copy(host, n + 1, from);
    const char *port = port_of(host);
    if (port == host || (*port && take_number(port + 1, PORT_MAX, &number) != TIDE_OK))
        return bad_endpoint(parts, err);
    /* A client leaves the port out of the host's name when it is the usual one, and the name is signed. */
    if (*port && number == (url->tls ? 443 : 80))
        host[port - host] = '\0';
    return TIDE_OK;
}

static enum tide_status settle_host(struct parts *parts, struct s3_url *url, struct err *err)
{
    char host[S3_HOST_MAX + 1];
    int own = parts->endpoint[0] != '\0';
    if (parts->style[0] == '\0')
        snprintf(parts->style, sizeof parts->style, own ? "path" : "virtual");
    if (!own)
        snprintf(parts->endpoint, sizeof parts->endpoint, "https://s3.%s.amazonaws.com", url->region);
    enum tide_status status = take_endpoint(parts, url, host, err);
    if (status != TIDE_OK)
        return status;
    int is_virtual = strcmp(parts->style, "virtual") == 0;
    if (!is_virtual && strcmp(parts->style, "path") != 0)
        return err_set(err, TIDE_E_INVALID, "style=%s of the store's address is neither path nor virtual", parts->style);
    int n = is_virtual ? snprintf(url->host, sizeof url->host, "%s.%s", url->bucket, host)
                       : snprintf(url->host, sizeof url->host, "%s", host);
    if (n > S3_HOST_MAX)
        return bad_endpoint(parts, err);
    snprintf(url->base, sizeof url->base, is_virtual ? "/" : "/%s/", url->bucket);
    return TIDE_OK;
}

/* ---- what is signed ---- */

static enum tide_status settle_payload(const struct parts *parts, struct s3_url *url, struct err *err)
{
    int is_signed = strcmp(parts->payload, "signed") == 0;
    if (parts->payload[0] != '\0' && !is_signed && strcmp(parts->payload, "unsigned") != 0)
        return err_set(err, TIDE_E_INVALID, "payload=%s of the store's address is neither signed nor unsigned", parts->payload);
    url->payload_signed = parts->payload[0] != '\0' ? is_signed : !url->tls; /* TLS guards every byte itself */
    return TIDE_OK;
}

/* ---- the whole ---- */

static const char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

/* The first of two variables that is set and not empty, if the address has not said it. */
static enum tide_status fall_back(char *to, size_t size, s3_env env, const char *first, const char *second, struct err *err)
{
    const char *value = to[0] ? NULL : env(first);
    if (to[0] == '\0' && (value == NULL || value[0] == '\0'))
        value = env(second);
    if (value == NULL || value[0] == '\0')
        return TIDE_OK;
    if (strlen(value) >= size)
        return err_set(err, TIDE_E_INVALID, "%s or %s in the environment is longer than %zu bytes", first, second, size - 1);
    text_copy(to, size, value);
    return TIDE_OK;
}

static enum tide_status check_region(const char *region, struct err *err)
{
    for (const char *c = region; *c; c++)
        if (!lower_or_digit(*c) && *c != '-' && *c != '_' && !(*c >= 'A' && *c <= 'Z'))
            return err_set(err, TIDE_E_INVALID, "region \"%s\" is none: write it as us-east-1", region);
    return TIDE_OK;
}

enum tide_status s3_url_parse(const char *url, s3_env env, struct s3_url *ret_url, struct err *err)
{
    struct s3_url parsed = {.timeout_s = S3_TIMEOUT_S};
    struct parts parts = {.whole = url};
    if (!s3_url_is(url) || strlen(url) > TIDE_PATH_MAX)
        return err_set(err, TIDE_E_INVALID, "store \"%.200s\" is not an address of at most %d bytes; " SHAPE, url,
                       TIDE_PATH_MAX);
    env = env ? env : no_env;
    const char *place = url + strlen(S3_SCHEME);
    size_t n = strcspn(place, "?");
    enum tide_status status = take_place(place, n, &parsed, err);
    if (status == TIDE_OK && place[n] == '?')
        status = take_parameters(&parts, &parsed, place + n + 1, err);
    if (status == TIDE_OK)
        status = fall_back(parts.endpoint, sizeof parts.endpoint, env, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", err);
    if (status == TIDE_OK)
        status = fall_back(parsed.region, sizeof parsed.region, env, "AWS_REGION", "AWS_DEFAULT_REGION", err);
    if (status == TIDE_OK)
        status = fall_back(parsed.ca, sizeof parsed.ca, env, "AWS_CA_BUNDLE", "AWS_CA_BUNDLE", err);
    if (status == TIDE_OK && parsed.region[0] == '\0')
        text_copy(parsed.region, sizeof parsed.region, "us-east-1");
    if (status == TIDE_OK)
        status = check_region(parsed.region, err);
    if (status == TIDE_OK)
        status = settle_host(&parts, &parsed, err);
    if (status == TIDE_OK)
        status = settle_payload(&parts, &parsed, err);
    if (status == TIDE_OK)
        *ret_url = parsed;
    return status;
}
