/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/s3_call.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/store/backoff.h"

#define MIB ((size_t)1 << 20)
#define PATH_BYTES (3 * (2 * TIDE_PATH_MAX + S3_BUCKET_MAX) + 4) /* all of it encoded */
#define QUERY_BYTES 8192
#define URL_BYTES (PATH_BYTES + QUERY_BYTES + S3_HOST_MAX + 16)
#define HEADER_BYTES (S3_TOKEN_MAX + 64)
#define ERROR_BODY_MAX 16384
#define LAST_TRY_MS UINT64_C(100) /* with less time left nothing is tried any more */
#define CONNECT_MS 3000L
#define STALL_BYTES_PER_S 1024L
#define STALL_S 5L           /* libcurl notices after about twice that */
#define SEND_BUFFER 2097152L /* both halve the CPU time of large objects */
#define RECEIVE_BUFFER 524288L
#define EXPECT_FROM MIB /* asked before it is sent: a refusal then costs no upload */

struct s3_client {
    struct s3_url url;
    struct s3_keys keys;
    unsigned timeout_s;
    pthread_mutex_t lock; /* all below */
    pthread_cond_t freed;
    struct pace pace;
    unsigned running;
    CURL *idle[S3_CONNECTIONS_MAX]; /* with their connections */
    unsigned idle_count;
    struct rng rng;
};

/* One try. */
struct exchange {
    const struct s3_client *client;
    const struct s3_request *request;
    CURL *curl;
    struct curl_slist *headers;
    size_t sent;
    struct s3_answer answer;
    size_t error_used;
    int too_much; /* more bytes came than were asked for */
    char error_body[ERROR_BODY_MAX];
    char curl_error[CURL_ERROR_SIZE];
    char path[PATH_BYTES], query[QUERY_BYTES], url[URL_BYTES];
};

/* ---- the client ---- */

enum tide_status s3_client_create(const struct s3_url *url, const struct s3_keys *keys, struct s3_client **ret_client,
                                  struct err *err)
{
    /* Counted by libcurl, and safe in threads: others of this process use it too. */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return err_set(err, TIDE_E_IO, "libcurl cannot be initialized");
    struct s3_client *client = mem_try_alloc(sizeof *client);
    if (client == NULL) {
        curl_global_cleanup();
        return err_set(err, TIDE_E_NOMEM, "no memory to open the store");
    }
    client->url = *url;
    client->keys = *keys;
    client->timeout_s = url->timeout_s;
    client->rng.state = rng_entropy();
    pace_init(&client->pace, S3_CONNECTIONS_MAX);
    pthread_mutex_init(&client->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&client->freed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *ret_client = client;
    return TIDE_OK;
}

void s3_client_free(struct s3_client *client)
{
    if (client == NULL)
        return;
    for (unsigned i = 0; i < client->idle_count; i++)
        curl_easy_cleanup(client->idle[i]);
    pthread_cond_destroy(&client->freed);
    pthread_mutex_destroy(&client->lock);
    OPENSSL_cleanse(&client->keys, sizeof client->keys);
    mem_free(client);
    curl_global_cleanup();
}

void s3_client_timeout(struct s3_client *client, unsigned seconds)
{
    client->timeout_s = seconds;
}

/* A turn, when fewer run than the pace allows. Nonzero when the time is up first. */
static int turn_take(struct s3_client *client, uint64_t deadline_ns, CURL **ret_curl)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S), .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    int late = 0;
    pthread_mutex_lock(&client->lock);
    while (client->running >= client->pace.limit && !late)
        late = pthread_cond_timedwait(&client->freed, &client->lock, &until) != 0;
    if (client->running < client->pace.limit) {
        late = 0;
        client->running++;
        *ret_curl = client->idle_count > 0 ? client->idle[--client->idle_count] : NULL;
    }
    pthread_mutex_unlock(&client->lock);
    if (!late && *ret_curl == NULL)
        *ret_curl = curl_easy_init();
    return late;
}

static void turn_give(struct s3_client *client, CURL *curl, enum backoff_verdict verdict)
{
    pthread_mutex_lock(&client->lock);
    client->running--;
    if (curl != NULL)
        client->idle[client->idle_count++] = curl;
    if (verdict == BACKOFF_SLOW)
        pace_slow(&client->pace);
    if (verdict == BACKOFF_FINAL)
        pace_success(&client->pace);
    pthread_cond_broadcast(&client->freed);
    pthread_mutex_unlock(&client->lock);
}

/* ---- what libcurl asks for ---- */

static size_t on_send(char *to, size_t size, size_t count, void *data)
{
    struct exchange *x = data;
    size_t n = x->request->body_bytes - x->sent;
    if (n > size * count)
        n = size * count;
    if (n > 0)
        memcpy(to, (const char *)x->request->body + x->sent, n);
    x->sent += n;
    return n;
}

static int on_rewind(void *data, curl_off_t offset, int whence)
{
    struct exchange *x = data;
    if (whence != SEEK_SET || offset < 0 || (size_t)offset > x->request->body_bytes)
        return CURL_SEEKFUNC_CANTSEEK;
    x->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static size_t on_receive(char *from, size_t size, size_t count, void *data)
{
    struct exchange *x = data;
    long http = 0;
    size_t n = size * count;
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &http);
    if (http < 200 || http > 299) {
        size_t room = sizeof x->error_body - x->error_used;
        memcpy(x->error_body + x->error_used, from, n < room ? n : room);
        x->error_used += n < room ? n : room;
        return n;
    }
    if (n > x->request->to_bytes - x->answer.used) {
        x->too_much = 1;
        return 0;
    }
    if (n > 0)
        memcpy((char *)x->request->to + x->answer.used, from, n);
    x->answer.used += n;
    return n;
}

/* ---- making a request ---- */

static enum tide_status add_header(struct exchange *x, const char *name, const char *value, struct err *err)
{
    char line[HEADER_BYTES + 128];
    /* "Name;" is how libcurl is told of a header without a value, "Name:" of one it shall not send. */
    snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(x->headers, line);
    if (longer == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for the headers of a request");
    x->headers = longer;
    return TIDE_OK;
}

static enum tide_status make_address(struct exchange *x, struct err *err)
{
    const struct s3_url *url = &x->client->url;
    const char *key = x->request->key;
    char plain[PATH_BYTES];
    int n = snprintf(plain, sizeof plain, "%s%s", url->base, key);
    if (key[0] == '\0' && n > 1)
        plain[n - 1] = '\0'; /* "/bucket", not "/bucket/" */
    enum tide_status status = sigv4_encode(plain, 1, x->path, sizeof x->path, err);
    if (status == TIDE_OK)
        status = sigv4_query(x->request->query, x->request->query_count, x->query, sizeof x->query, err);
    snprintf(x->url, sizeof x->url, "%s://%s%s%s%s", url->tls ? "https" : "http", url->host, x->path, x->query[0] ? "?" : "",
             x->query);
    return status;
}

/* The headers that are signed, and the signature. */
static enum tide_status sign(struct exchange *x, const char *payload, struct err *err)
{
    const struct s3_client *c = x->client;
    char authorization[1024];
    struct sigv4_key key = {.access = c->keys.access, .secret = c->keys.secret, .region = c->url.region, .service = "s3"};
    sigv4_time(clock_wall_ms() / MS_PER_S, key.time);
    struct sigv4_pair signed_headers[SIGV4_HEADERS_MAX];
    size_t n = 0;
    signed_headers[n++] = (struct sigv4_pair){"host", c->url.host};
    if (x->request->if_absent)
        signed_headers[n++] = (struct sigv4_pair){"if-none-match", "*"};
    signed_headers[n++] = (struct sigv4_pair){"x-amz-content-sha256", payload};
    signed_headers[n++] = (struct sigv4_pair){"x-amz-date", key.time};
    if (c->keys.token[0] != '\0')
        signed_headers[n++] = (struct sigv4_pair){"x-amz-security-token", c->keys.token};
    struct sigv4_request request = {.method = x->request->method,
                                    .path = x->path,
                                    .query = x->query,
                                    .headers = signed_headers,
                                    .header_count = n,
                                    .payload = payload};
    enum tide_status status = sigv4_authorization(&key, &request, authorization, sizeof authorization, err);
    for (size_t i = 0; status == TIDE_OK && i < n; i++)
        status = add_header(x, signed_headers[i].name, signed_headers[i].value, err);
    return status == TIDE_OK ? add_header(x, "Authorization", authorization, err) : status;
}

static enum tide_status add_unsigned(struct exchange *x, struct err *err)
{
    char range[64];
    const struct s3_request *request = x->request;
    snprintf(range, sizeof range, "bytes=%" PRIu64 "-%" PRIu64, request->offset, request->offset + request->range_bytes - 1);
    enum tide_status status = request->ranged ? add_header(x, "Range", range, err) : TIDE_OK;
    if (status == TIDE_OK && strcmp(request->method, "PUT") == 0)
        status = add_header(x, "Content-Type", "application/octet-stream", err);
    if (status == TIDE_OK && request->body_bytes < EXPECT_FROM)
        status = add_header(x, "Expect", "", err);
    return status;
}

static void set_method(struct exchange *x)
{
    CURL *curl = x->curl;
    const struct s3_request *request = x->request;
    if (strcmp(request->method, "PUT") == 0) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_send);
        curl_easy_setopt(curl, CURLOPT_READDATA, x);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_rewind);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, x);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_bytes);
        curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BUFFER);
    } else if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    } else {
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
        curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, RECEIVE_BUFFER);
    }
}

static void set_options(struct exchange *x, uint64_t left_ms)
{
    CURL *curl = x->curl;
    curl_easy_reset(curl); /* the connections stay */
    curl_easy_setopt(curl, CURLOPT_URL, x->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L); /* what is signed is what is sent */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, x->headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, x->curl_error);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_receive);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)left_ms);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_PER_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, STALL_S);
    if (x->client->url.ca[0] != '\0')
        curl_easy_setopt(curl, CURLOPT_CAINFO, x->client->url.ca);
    set_method(x);
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

/* A failure below HTTP. */
static enum tide_status say_transport(const struct exchange *x, CURLcode code, struct err *err)
{
    const char *host = x->client->url.host, *why = x->curl_error[0] ? x->curl_error : curl_easy_strerror(code);
    if (x->too_much)
        return err_set(err, TIDE_E_IO, "%s sent more bytes than were asked for", host);
    if (code == CURLE_OUT_OF_MEMORY)
        return err_set(err, TIDE_E_NOMEM, "no memory to talk to %s", host);
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        return err_set(err, TIDE_E_DENIED, "the certificate of %s is not trusted: %s; name its CA with ca=FILE", host, why);
    return err_set(err, of_transport(code) == BACKOFF_FINAL ? TIDE_E_IO : TIDE_E_UNAVAILABLE, "%s: %s", host, why);
}

static enum backoff_verdict judge(struct exchange *x, CURLcode code, enum tide_status *ret_status, struct err *err)
{
    long http = 0;
    curl_off_t length = -1;
    if (code != CURLE_OK) {
        *ret_status = say_transport(x, code, err);
        return of_transport(code);
    }
    curl_easy_getinfo(x->curl, CURLINFO_RESPONSE_CODE, &http);
    curl_easy_getinfo(x->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    x->answer.http = (unsigned)http;
    x->answer.length = length < 0 ? 0 : (uint64_t)length;
    *ret_status = TIDE_OK;
    if (http >= 200 && http <= 299)
        return BACKOFF_FINAL;
    s3_error_parse(x->error_body, x->error_used, &x->answer.error);
    enum backoff_verdict verdict = backoff_of(x->answer.http, x->answer.error.code);
    if (verdict != BACKOFF_FINAL)
        *ret_status = err_set(err, TIDE_E_UNAVAILABLE, "%s answers %ld %s", x->client->url.host, http, x->answer.error.code);
    return verdict;
}

static enum tide_status prepare(struct exchange *x, const char *payload, struct err *err)
{
    enum tide_status status = make_address(x, err);
    if (status == TIDE_OK)
        status = sign(x, payload, err);
    return status == TIDE_OK ? add_unsigned(x, err) : status;
}

/* *ret_verdict FINAL: the status stands, and with TIDE_OK the answer. */
static enum tide_status try_once(struct s3_client *client, struct exchange *x, const char *payload, uint64_t deadline_ns,
                                 enum backoff_verdict *ret_verdict, struct err *err)
{
    *ret_verdict = BACKOFF_FINAL;
    enum tide_status status = prepare(x, payload, err);
    if (status != TIDE_OK)
        return status;
    if (turn_take(client, deadline_ns, &x->curl))
        return err_set(err, TIDE_E_UNAVAILABLE, "%s asked for rest, and all turns are taken", client->url.host);
    if (x->curl == NULL) {
        turn_give(client, NULL, BACKOFF_AGAIN);
        return err_set(err, TIDE_E_NOMEM, "no memory to talk to %s", client->url.host);
    }
    uint64_t now = clock_mono_ns();
    set_options(x, now < deadline_ns ? (deadline_ns - now) / NS_PER_MS + 1 : 1);
    *ret_verdict = judge(x, curl_easy_perform(x->curl), &status, err);
    turn_give(client, x->curl, *ret_verdict);
    return status;
}

/* ---- the call ---- */

static uint64_t chance(struct s3_client *client)
{
    pthread_mutex_lock(&client->lock);
    uint64_t number = rng_next(&client->rng);
    pthread_mutex_unlock(&client->lock);
    return number;
}

/* Nonzero when the time is up. Near its end the waits get shorter: it is used to the end. */
static int rest(struct s3_client *client, enum backoff_verdict verdict, unsigned repetition, uint64_t deadline_ns)
{
    uint64_t now_ns = clock_mono_ns(), left_ns = now_ns < deadline_ns ? deadline_ns - now_ns : 0;
    uint64_t wait_ns = backoff_wait_ms(verdict, repetition, chance(client)) * NS_PER_MS;
    if (left_ns < LAST_TRY_MS * NS_PER_MS)
        return 1;
    if (wait_ns > left_ns / 2)
        wait_ns = left_ns / 2;
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / NS_PER_S), .tv_nsec = (long)(wait_ns % NS_PER_S)};
    nanosleep(&wait, NULL); /* cut short by a signal, it is asked again a little early */
    return 0;
}

static enum tide_status payload_of(const struct s3_client *client, const struct s3_request *request,
                                   char to[SIGV4_HASH_CHARS + 1], struct err *err)
{
    if (request->body_bytes == 0)
        text_copy(to, SIGV4_HASH_CHARS + 1, SIGV4_EMPTY);
    else if (client->url.tls) /* guards every byte itself */
        text_copy(to, SIGV4_HASH_CHARS + 1, SIGV4_UNSIGNED);
    else
        return sigv4_hash(request->body, request->body_bytes, to, err);
    return TIDE_OK;
}

enum tide_status s3_call(struct s3_client *client, const struct s3_request *request, struct s3_answer *ret_answer,
                         struct err *err)
{
    char payload[SIGV4_HASH_CHARS + 1];
    size_t mib = (request->body_bytes + (request->ranged ? request->range_bytes : 0)) / MIB;
    uint64_t deadline_ns = clock_mono_ns() + (client->timeout_s + mib) * NS_PER_S;
    enum tide_status status = payload_of(client, request, payload, err);
    if (status != TIDE_OK)
        return status;
    struct exchange *x = mem_try_alloc(sizeof *x);
    if (x == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to talk to %s", client->url.host);
    struct err why = {.status = TIDE_OK};
    unsigned tries = 0;
    enum backoff_verdict verdict = BACKOFF_AGAIN;
    while (verdict != BACKOFF_FINAL && (tries == 0 || !rest(client, verdict, tries, deadline_ns))) {
        *x = (struct exchange){.client = client, .request = request, .answer.unsure = tries > 0};
        status = try_once(client, x, payload, deadline_ns, &verdict, &why);
        curl_slist_free_all(x->headers);
        tries++;
    }
    if (status == TIDE_OK)
        *ret_answer = x->answer;
    else
        err_set(err, status, "%s (tries: %u)", why.text, tries);
    mem_free(x);
    return status;
}
