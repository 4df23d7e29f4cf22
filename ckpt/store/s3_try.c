/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/s3_try.h"

#include <inttypes.h>
#include <openssl/x509_vfy.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

#define HEADER_BYTES (S3_TOKEN_MAX + 64)
#define CONNECT_MS 3000L
#define STALL_BYTES_PER_S 1024L
#define STALL_S 5L           /* libcurl notices after about twice that */
#define SEND_BUFFER 524288L /* larger ones than libcurl's halve the CPU time of large objects; still larger ones fall out of the cache */
#define RECEIVE_BUFFER 524288L
#define EXPECT_FROM ((size_t)1 << 20) /* asked before it is sent: a refusal then costs no upload */

/* ---- what libcurl asks for ---- */

static size_t on_send(char *to, size_t size, size_t count, void *data)
{
    struct s3_try *t = data;
    size_t n = t->request->body_bytes - t->sent;
    if (n > size * count)
        n = size * count;
    if (n > 0)
        memcpy(to, (const char *)t->request->body + t->sent, n);
    t->sent += n;
    return n;
}

static int on_rewind(void *data, curl_off_t offset, int whence)
{
    struct s3_try *t = data;
    if (whence != SEEK_SET || offset < 0 || (size_t)offset > t->request->body_bytes)
        return CURL_SEEKFUNC_CANTSEEK;
    t->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static size_t on_receive(char *from, size_t size, size_t count, void *data)
{
    struct s3_try *t = data;
    long http = 0;
    size_t n = size * count;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &http);
    if (http < 200 || http > 299) {
        size_t room = sizeof t->error_body - t->error_used;
        memcpy(t->error_body + t->error_used, from, n < room ? n : room);
        t->error_used += n < room ? n : room;
        return n;
    }
    if (n > t->request->to_bytes - t->answer.used) {
        t->too_much = 1;
        return 0;
    }
    if (n > 0)
        memcpy((char *)t->request->to + t->answer.used, from, n);
    t->answer.used += n;
    return n;
}

/* ---- making a request ---- */

static enum tide_status add_header(struct s3_try *t, const char *name, const char *value, struct err *err)
{
    char line[HEADER_BYTES + 128];
    /* "Name;" is how libcurl is told of a header without a value, "Name:" of one it shall not send. */
    snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(t->headers, line);
    if (longer == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for the headers of a request");
    t->headers = longer;
    return TIDE_OK;
}

static enum tide_status make_address(struct s3_try *t, struct err *err)
{
    const struct s3_url *url = t->url;
    const char *key = t->request->key;
    char plain[S3_PATH_BYTES];
    int n = snprintf(plain, sizeof plain, "%s%s", url->base, key);
    if (key[0] == '\0' && n > 1)
        plain[n - 1] = '\0'; /* "/bucket", not "/bucket/" */
    enum tide_status status = sigv4_encode(plain, 1, t->path, sizeof t->path, err);
    if (status == TIDE_OK)
        status = sigv4_query(t->request->query, t->request->query_count, t->query, sizeof t->query, err);
    snprintf(t->address, sizeof t->address, "%s://%s%s%s%s", url->tls ? "https" : "http", url->host, t->path,
             t->query[0] ? "?" : "", t->query);
    return status;
}

/* The headers that are signed, and the signature. */
static enum tide_status sign(struct s3_try *t, const char *payload, struct err *err)
{
    char authorization[1024];
    struct sigv4_key key = {.access = t->keys->access, .secret = t->keys->secret, .region = t->url->region, .service = "s3"};
    sigv4_time(clock_wall_ms() / MS_PER_S, key.time);
    struct sigv4_pair signed_headers[SIGV4_HEADERS_MAX];
    size_t n = 0;
    signed_headers[n++] = (struct sigv4_pair){"host", t->url->host};
    if (t->request->if_absent)
        signed_headers[n++] = (struct sigv4_pair){"if-none-match", "*"};
    signed_headers[n++] = (struct sigv4_pair){"x-amz-content-sha256", payload};
    signed_headers[n++] = (struct sigv4_pair){"x-amz-date", key.time};
    if (t->keys->token[0] != '\0')
        signed_headers[n++] = (struct sigv4_pair){"x-amz-security-token", t->keys->token};
    struct sigv4_request request = {.method = t->request->method,
                                    .path = t->path,
                                    .query = t->query,
                                    .headers = signed_headers,
                                    .header_count = n,
                                    .payload = payload};
    enum tide_status status = sigv4_authorization(&key, &request, authorization, sizeof authorization, err);
    for (size_t i = 0; status == TIDE_OK && i < n; i++)
        status = add_header(t, signed_headers[i].name, signed_headers[i].value, err);
    return status == TIDE_OK ? add_header(t, "Authorization", authorization, err) : status;
}

static enum tide_status add_unsigned(struct s3_try *t, struct err *err)
{
    char range[64];
    const struct s3_request *request = t->request;
    snprintf(range, sizeof range, "bytes=%" PRIu64 "-%" PRIu64, request->offset, request->offset + request->range_bytes - 1);
    enum tide_status status = request->ranged ? add_header(t, "Range", range, err) : TIDE_OK;
    if (status == TIDE_OK && strcmp(request->method, "PUT") == 0)
        status = add_header(t, "Content-Type", "application/octet-stream", err);
    if (status == TIDE_OK && request->body_bytes < EXPECT_FROM)
        status = add_header(t, "Expect", "", err);
    return status;
}

static void set_method(struct s3_try *t)
{
    CURL *curl = t->curl;
    const struct s3_request *request = t->request;
    if (strcmp(request->method, "PUT") == 0) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_send);
        curl_easy_setopt(curl, CURLOPT_READDATA, t);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_rewind);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, t);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_bytes);
        curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BUFFER);
    } else if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else {
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
        curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, RECEIVE_BUFFER);
    }
}

static void set_options(struct s3_try *t, uint64_t left_ms)
{
    CURL *curl = t->curl;
    curl_easy_reset(curl); /* the connections stay */
    curl_easy_setopt(curl, CURLOPT_URL, t->address);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L); /* what is signed is what is sent */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, t->curl_error);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_receive);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)left_ms);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_PER_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALL_S);
    if (t->url->ca[0] != '\0')
        curl_easy_setopt(curl, CURLOPT_CAINFO, t->url->ca);
    set_method(t);
}

/* ---- one try ---- */

static enum backoff_verdict of_transport(CURLcode code)
{
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_NOT_BUILT_IN:
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT:
    case CURLE_BAD_FUNCTION_ARGUMENT:
    case CURLE_WRITE_ERROR: /* our own refusal */
        return BACKOFF_FINAL;
    default:
        return BACKOFF_AGAIN;
    }
}

/* The certificate is of a CA that is trusted, and not of this server: of the chain libcurl has then nothing but its own "not yet". */
static int is_the_name(const struct s3_try *t, CURLcode code)
{
    long verdict = -1;
    curl_easy_getinfo(t->curl, CURLINFO_SSL_VERIFYRESULT, &verdict);
    return code == CURLE_PEER_FAILED_VERIFICATION && (verdict == X509_V_OK || verdict == X509_V_ERR_UNSPECIFIED);
}

/* A failure below HTTP. */
static enum tide_status say_transport(const struct s3_try *t, CURLcode code, struct err *err)
{
    const char *host = t->url->host, *why = t->curl_error[0] ? t->curl_error : curl_easy_strerror(code);
    if (t->too_much)
        return err_set(err, TIDE_E_IO, "%s sent more bytes than were asked for", host);
    if (code == CURLE_OUT_OF_MEMORY)
        return err_set(err, TIDE_E_NOMEM, "no memory to talk to %s", host);
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        return err_set(err, TIDE_E_DENIED, "the certificate of %s is not trusted: %s; %s", host, why,
                       is_the_name(t, code) ? "endpoint= and style= must make a name that is in it" : "name its CA with ca=FILE");
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
        return err_set(err, TIDE_E_UNAVAILABLE, "%s cannot be reached; check it, and endpoint= (%s)", host, why);
    if (code == CURLE_SSL_CONNECT_ERROR)
        return err_set(err, TIDE_E_UNAVAILABLE, "no TLS with %s: %s; of a server without it endpoint= is http://", host, why);
    if (code == CURLE_GOT_NOTHING && !t->url->tls)
        return err_set(err, TIDE_E_UNAVAILABLE, "%s ends connections without an answer; of a server with TLS endpoint= is https://", host);
    return err_set(err, of_transport(code) == BACKOFF_FINAL ? TIDE_E_IO : TIDE_E_UNAVAILABLE, "%s: %s", host, why);
}

/* Bytes from elsewhere would be taken for a damaged object. */
static int other_range(const struct s3_try *t, uint64_t *ret_from)
{
    struct curl_header *header = NULL;
    return t->request->ranged && curl_easy_header(t->curl, "Content-Range", 0, CURLH_HEADER, -1, &header) == CURLHE_OK &&
           sscanf(header->value, "bytes %" SCNu64 "-", ret_from) == 1 && *ret_from != t->request->offset;
}

/* Of an answer 2xx. Where its length is not told its end may be that of the connection, not that of the object. */
static enum backoff_verdict judge_body(const struct s3_try *t, enum tide_status *ret_status, struct err *err)
{
    uint64_t from = 0;
    if (other_range(t, &from)) {
        *ret_status = err_set(err, TIDE_E_IO, "%s was asked for bytes from %" PRIu64 " on, and sent those from %" PRIu64
                              " on; check what stands before the server",
                              t->url->host, t->request->offset, from);
        return BACKOFF_FINAL;
    }
    if (!t->request->ranged || t->answer.length != S3_LENGTH_UNKNOWN || t->answer.used >= t->request->to_bytes)
        return BACKOFF_FINAL;
    *ret_status = err_set(err, TIDE_E_UNAVAILABLE, "%s ended an answer after %zu of %zu bytes, and had not said how long it would be",
                          t->url->host, t->answer.used, t->request->to_bytes);
    return BACKOFF_AGAIN;
}

enum backoff_verdict s3_try_end(struct s3_try *t, CURLcode code, enum tide_status *ret_status, struct err *err)
{
    long http = 0;
    curl_off_t length = -1;
    if (code != CURLE_OK) {
        *ret_status = say_transport(t, code, err);
        return of_transport(code);
    }
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &http);
    curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    t->answer.http = (unsigned)http;
    t->answer.length = length < 0 ? S3_LENGTH_UNKNOWN : (uint64_t)length;
    *ret_status = TIDE_OK;
    if (http >= 200 && http <= 299)
        return judge_body(t, ret_status, err);
    s3_error_parse(t->error_body, t->error_used, &t->answer.error);
    enum backoff_verdict verdict = backoff_of(t->answer.http, t->answer.error.code);
    if (verdict != BACKOFF_FINAL)
        *ret_status = err_set(err, TIDE_E_UNAVAILABLE, "%s answers %ld %s", t->url->host, http, t->answer.error.code);
    return verdict;
}

enum tide_status s3_try_begin(struct s3_try *t, CURL *curl, const char *payload, uint64_t left_ms, struct err *err)
{
    t->curl = curl;
    enum tide_status status = make_address(t, err);
    if (status == TIDE_OK)
        status = sign(t, payload, err);
    if (status == TIDE_OK)
        status = add_unsigned(t, err);
    if (status == TIDE_OK)
        set_options(t, left_ms);
    return status;
}

void s3_try_release(struct s3_try *t)
{
    curl_slist_free_all(t->headers);
    t->headers = NULL;
}
