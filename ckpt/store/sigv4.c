/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/sigv4.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ckpt/base/mem.h"

#define HASH_BYTES 32
#define DAY_CHARS 8
#define ALGORITHM "AWS4-HMAC-SHA256"
#define CANONICAL_MAX 16384
#define STRING_MAX 1024
#define SECRET_MAX 256 /* AWS: 40 */
#define PART_MAX 4096  /* one encoded name or value; continuation tokens are long */

static const char hex_digits[] = "0123456789abcdef";

/* A text being put together; `full` once something did not fit. */
struct text {
    char *to;
    size_t size, used;
    int full;
};

static void add(struct text *text, const char *more)
{
    size_t n = strlen(more);
    if (text->full || n >= text->size - text->used) {
        text->full = 1;
        return;
    }
    text_copy(text->to + text->used, n + 1, more);
    text->used += n;
}

static struct text text_in(char *to, size_t size)
{
    to[0] = '\0';
    return (struct text){.to = to, .size = size};
}

static enum tide_status whole(const struct text *text, const char *what, struct err *err)
{
    if (!text->full)
        return TIDE_OK;
    return err_set(err, TIDE_E_LIMIT, "%s is longer than %zu bytes; shorten the store's address", what, text->size);
}

static void to_hex(const unsigned char *bytes, size_t count, char *to)
{
    for (size_t i = 0; i < count; i++) {
        to[2 * i] = hex_digits[bytes[i] >> 4];
        to[2 * i + 1] = hex_digits[bytes[i] & 15];
    }
    to[2 * count] = '\0';
}

static enum tide_status no_crypto(struct err *err)
{
    return err_set(err, TIDE_E_IO, "libcrypto refuses to compute SHA-256; requests cannot be signed");
}

enum tide_status sigv4_hash(const void *data, size_t bytes, char to[SIGV4_HASH_CHARS + 1], struct err *err)
{
    unsigned char hash[HASH_BYTES];
    if (EVP_Digest(data, bytes, hash, NULL, EVP_sha256(), NULL) != 1)
        return no_crypto(err);
    to_hex(hash, sizeof hash, to);
    return TIDE_OK;
}

void sigv4_time(unsigned long long unix_seconds, char to[SIGV4_TIME_CHARS + 1])
{
    time_t seconds = (time_t)unix_seconds;
    struct tm at;
    gmtime_r(&seconds, &at);
    if (strftime(to, SIGV4_TIME_CHARS + 1, "%Y%m%dT%H%M%SZ", &at) == 0)
        to[0] = '\0';
}

/* ---- encoding ---- */

static int unreserved(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
           c == '~';
}

enum tide_status sigv4_encode(const char *text, int keep_slash, char *to, size_t size, struct err *err)
{
    static const char upper[] = "0123456789ABCDEF";
    struct text out = text_in(to, size);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (unreserved(*c) || (*c == '/' && keep_slash))
            add(&out, (char[]){(char)*c, '\0'});
        else
            add(&out, (char[]){'%', upper[*c >> 4], upper[*c & 15], '\0'});
    }
    return whole(&out, "a part of a request's address", err);
}

struct encoded_pair {
    char name[PART_MAX], value[PART_MAX];
};

static int by_name_then_value(const void *a, const void *b)
{
    const struct encoded_pair *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->value, y->value);
}

static enum tide_status encode_pairs(const struct sigv4_pair *pairs, size_t count, struct encoded_pair *to, struct err *err)
{
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; status == TIDE_OK && i < count; i++) {
        status = sigv4_encode(pairs[i].name, 0, to[i].name, PART_MAX, err);
        if (status == TIDE_OK)
            status = sigv4_encode(pairs[i].value, 0, to[i].value, PART_MAX, err);
    }
    return status;
}

enum tide_status sigv4_query(const struct sigv4_pair *pairs, size_t count, char *to, size_t size, struct err *err)
{
    if (count > SIGV4_HEADERS_MAX)
        return err_set(err, TIDE_E_LIMIT, "%zu parameters of a query; at most %d are possible", count, SIGV4_HEADERS_MAX);
    struct encoded_pair *sorted = mem_try_array(count + 1, sizeof *sorted);
    if (sorted == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for a query of %zu parameters", count);
    enum tide_status status = encode_pairs(pairs, count, sorted, err);
    if (status == TIDE_OK) {
        struct text out = text_in(to, size);
        qsort(sorted, count, sizeof *sorted, by_name_then_value);
        for (size_t i = 0; i < count; i++) {
            add(&out, i ? "&" : "");
            add(&out, sorted[i].name);
            add(&out, "=");
            add(&out, sorted[i].value);
        }
        status = whole(&out, "the query of a request", err);
    }
    mem_free(sorted);
    return status;
}

/* ---- the three steps ---- */

/* "Trim any leading or trailing spaces and convert sequential spaces to a single space." */
static void add_trimmed(struct text *out, const char *value)
{
    int gap = 0, begun = 0;
    for (; *value; value++) {
        if (*value == ' ') {
            gap = begun;
            continue;
        }
        add(out, gap ? " " : "");
        add(out, (char[]){*value, '\0'});
        gap = 0;
        begun = 1;
    }
}

static void add_names(struct text *out, const struct sigv4_request *request)
{
    for (size_t i = 0; i < request->header_count; i++) {
        add(out, i ? ";" : "");
        add(out, request->headers[i].name);
    }
}

enum tide_status sigv4_canonical(const struct sigv4_request *request, char *to, size_t size, struct err *err)
{
    struct text out = text_in(to, size);
    const char *const lines[] = {request->method, request->path, request->query};
    for (size_t i = 0; i < 3; i++) {
        add(&out, lines[i]);
        add(&out, "\n");
    }
    for (size_t i = 0; i < request->header_count; i++) {
        add(&out, request->headers[i].name);
        add(&out, ":");
        add_trimmed(&out, request->headers[i].value);
        add(&out, "\n");
    }
    add(&out, "\n");
    add_names(&out, request);
    add(&out, "\n");
    add(&out, request->payload);
    return whole(&out, "a request", err);
}

/* "20130524/us-east-1/s3/aws4_request" */
static void add_scope(struct text *out, const struct sigv4_key *key)
{
    char day[DAY_CHARS + 1];
    text_copy(day, sizeof day, key->time);
    const char *const parts[] = {day, key->region, key->service, "aws4_request"};
    for (size_t i = 0; i < 4; i++) {
        add(out, i ? "/" : "");
        add(out, parts[i]);
    }
}

enum tide_status sigv4_string_to_sign(const struct sigv4_key *key, const char *canonical, char *to, size_t size,
                                      struct err *err)
{
    char hash[SIGV4_HASH_CHARS + 1];
    enum tide_status status = sigv4_hash(canonical, strlen(canonical), hash, err);
    if (status != TIDE_OK)
        return status;
    struct text out = text_in(to, size);
    add(&out, ALGORITHM "\n");
    add(&out, key->time);
    add(&out, "\n");
    add_scope(&out, key);
    add(&out, "\n");
    add(&out, hash);
    return whole(&out, "the string to sign", err);
}

static int hmac(const void *key, size_t key_bytes, const char *text, unsigned char to[HASH_BYTES])
{
    unsigned n = HASH_BYTES;
    return HMAC(EVP_sha256(), key, (int)key_bytes, (const unsigned char *)text, strlen(text), to, &n) != NULL;
}

enum tide_status sigv4_signature(const struct sigv4_key *key, const char *string_to_sign, char to[SIGV4_HASH_CHARS + 1],
                                 struct err *err)
{
    char day[DAY_CHARS + 1], secret[SECRET_MAX + sizeof "AWS4"];
    unsigned char a[HASH_BYTES], b[HASH_BYTES];
    if (strlen(key->secret) > SECRET_MAX)
        return err_set(err, TIDE_E_LIMIT, "the secret key is longer than %d bytes", SECRET_MAX);
    text_copy(day, sizeof day, key->time);
    snprintf(secret, sizeof secret, "AWS4%s", key->secret);
    int done = hmac(secret, strlen(secret), day, a) && hmac(a, HASH_BYTES, key->region, b) &&
               hmac(b, HASH_BYTES, key->service, a) && hmac(a, HASH_BYTES, "aws4_request", b) &&
               hmac(b, HASH_BYTES, string_to_sign, a);
    if (done)
        to_hex(a, HASH_BYTES, to);
    OPENSSL_cleanse(secret, sizeof secret);
    OPENSSL_cleanse(a, sizeof a);
    OPENSSL_cleanse(b, sizeof b);
    return done ? TIDE_OK : no_crypto(err);
}

static enum tide_status sign_canonical(const struct sigv4_key *key, const struct sigv4_request *request, char *canonical,
                                       char signature[SIGV4_HASH_CHARS + 1], struct err *err)
{
    char string[STRING_MAX];
    enum tide_status status = sigv4_canonical(request, canonical, CANONICAL_MAX, err);
    if (status == TIDE_OK)
        status = sigv4_string_to_sign(key, canonical, string, sizeof string, err);
    return status == TIDE_OK ? sigv4_signature(key, string, signature, err) : status;
}

enum tide_status sigv4_authorization(const struct sigv4_key *key, const struct sigv4_request *request, char *to, size_t size,
                                     struct err *err)
{
    char signature[SIGV4_HASH_CHARS + 1];
    char *canonical = mem_try_alloc(CANONICAL_MAX);
    if (canonical == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to sign a request");
    enum tide_status status = sign_canonical(key, request, canonical, signature, err);
    mem_free(canonical);
    if (status != TIDE_OK)
        return status;
    struct text out = text_in(to, size);
    add(&out, ALGORITHM " Credential=");
    add(&out, key->access);
    add(&out, "/");
    add_scope(&out, key);
    add(&out, ", SignedHeaders=");
    add_names(&out, request);
    add(&out, ", Signature=");
    add(&out, signature);
    return whole(&out, "the signature of a request", err);
}
