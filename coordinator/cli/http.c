/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/http.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <tidemark/version.h>

#include "ckpt/base/mem.h"
#include "ckpt/secure/pin_curl.h"
#include "ckpt/wire/identity.h"
#include "coordinator/cli/signals.h"

#define CONNECTIONS_MAX 128L

#define TOKEN_LINE_MAX 512

struct http {
    CURLM *multi;
    struct http_creds creds;
};

struct http *http_create(const struct http_creds *creds)
{
    struct http *http = mem_alloc(sizeof *http);
    if (creds != NULL)
        http->creds = *creds;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (http->multi = curl_multi_init()) == NULL) {
        mem_free(http);
        return NULL;
    }
    curl_multi_setopt(http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, CONNECTIONS_MAX);
    return http;
}

void http_free(struct http *http)
{
    if (http == NULL)
        return;
    curl_multi_cleanup(http->multi);
    curl_global_cleanup();
    mem_free(http);
}

static size_t take_body(char *data, size_t size, size_t count, void *context)
{
    struct http_call *call = context;
    size_t bytes = size * count;
    if (bytes > HTTP_BODY_MAX - call->answer_bytes) {
        snprintf(call->error, sizeof call->error, "the answer is longer than %u bytes", HTTP_BODY_MAX);
        return 0;
    }
    call->answer = mem_grow(call->answer, call->answer_bytes + bytes + 1, 1);
    memcpy(call->answer + call->answer_bytes, data, bytes);
    call->answer_bytes += bytes;
    call->answer[call->answer_bytes] = '\0';
    return bytes;
}

static bool header_is(const char *data, size_t bytes, const char *name, char *value, size_t size)
{
    size_t n = strlen(name);
    if (bytes <= n || strncasecmp(data, name, n) != 0 || data[n] != ':')
        return false;
    data += n + 1;
    bytes -= n + 1;
    while (bytes > 0 && *data == ' ') {
        data++;
        bytes--;
    }
    while (bytes > 0 && (data[bytes - 1] == '\r' || data[bytes - 1] == '\n' || data[bytes - 1] == ' '))
        bytes--;
    snprintf(value, size, "%.*s", (int)bytes, data);
    return true;
}

static size_t take_header(char *data, size_t size, size_t count, void *context)
{
    struct http_call *call = context;
    char value[HTTP_DIGEST_CHARS + 1];
    struct err unused = {0};
    if (header_is(data, size * count, "Tidemark-Offset", value, sizeof value))
        call->log_offset = strtoull(value, NULL, 10);
    else if (header_is(data, size * count, "Tidemark-Next", value, sizeof value))
        call->log_next = strtoull(value, NULL, 10);
    else if (header_is(data, size * count, "Tidemark-Ended", value, sizeof value))
        call->log_ended = strcmp(value, "true") == 0;
    else if (header_is(data, size * count, "Tidemark-Cluster", value, sizeof value))
        text_copy(call->cluster, sizeof call->cluster, value);
    else if (header_is(data, size * count, "Tidemark-Sha256", value, sizeof value))
        text_copy(call->digest, sizeof call->digest, value);
    else if (header_is(data, size * count, "Tidemark-Index", value, sizeof value))
        call->index = strtoull(value, NULL, 10);
    else if (header_is(data, size * count, "Tidemark-Epoch", value, sizeof value) &&
             epoch_parse(value, &call->epoch, &unused) != TIDE_OK)
        call->epoch = EPOCH_UNKNOWN;
    else if (size * count > 5 && strncmp(data, "HTTP/", 5) == 0)
        call->epoch = EPOCH_UNKNOWN; /* another answer begins, of where we were sent on to */
    return size * count;
}

static bool is_https(const struct http_call *call)
{
    return strncmp(call->url, "https://", 8) == 0;
}

/* A redirect leads to another member: it may see the token and the certificate once its own has been verified, and a
 * connection that is not https sees nothing. */
static void set_creds(const struct http *http, struct http_call *call)
{
    const struct http_creds *creds = &http->creds;
    CURL *easy = call->easy;
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, is_https(call) ? "https" : "http");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, is_https(call) ? "https" : "http");
    if (call->pin != NULL)
        pin_require(easy, call->pin);
    if (!is_https(call) || call->bearer != NULL || call->pin != NULL)
        return;
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_UNRESTRICTED_AUTH, 1L);
    if (creds->ca_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, creds->ca_file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* nobody else's word counts */
    }
    if (creds->cert_file != NULL) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, creds->cert_file);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, creds->key_file);
    }
}

static void set_headers(const struct http *http, struct http_call *call)
{
    struct curl_slist *list = NULL;
    char line[TOKEN_LINE_MAX];
    const char *bearer = call->bearer ? call->bearer : is_https(call) ? http->creds.token : NULL;
    if (bearer != NULL) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", bearer);
        list = curl_slist_append(list, line);
    }
    if (call->key[0] != '\0') {
        snprintf(line, sizeof line, "Idempotency-Key: %s", call->key);
        list = curl_slist_append(list, line);
    }
    list = curl_slist_append(list, "Content-Type: application/json");
    list = curl_slist_append(list, "Expect:"); /* bodies are small; a coordinator need not be asked first */
    call->headers = list;
    curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, list);
}

static void set_up(const struct http *http, struct http_call *call)
{
    CURL *easy = call->easy;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_URL, call->url);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "tidemark/" TIDE_VERSION_STRING);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)HTTP_REDIRECTS_MAX);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*"); /* coordinators and agents are neighbours, never behind a proxy */
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)HTTP_CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    if (call->body != NULL || strcmp(call->method, "POST") == 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, call->body ? call->body : "");
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(call->body ? strlen(call->body) : 0));
    }
    set_creds(http, call);
    set_headers(http, call);
}

enum tide_status http_start(struct http *http, struct http_call *call, struct err *err)
{
    call->done = call->reached = call->refused = call->untrusted = call->log_ended = false;
    call->status = 0;
    call->error[0] = '\0';
    call->log_offset = call->log_next = call->index = 0;
    call->cluster[0] = call->digest[0] = '\0';
    call->epoch = EPOCH_UNKNOWN;
    call->easy = curl_easy_init();
    if (call->easy == NULL)
        return err_set(err, TIDE_E_IO, "libcurl gave no handle for %s", call->url);
    set_up(http, call);
    if (curl_multi_add_handle(http->multi, call->easy) != CURLM_OK) {
        http_release(http, call);
        return err_set(err, TIDE_E_IO, "libcurl did not take the request to %s", call->url);
    }
    return TIDE_OK;
}

static void finish(struct http *http, CURL *easy, CURLcode result)
{
    struct http_call *call = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&call);
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &call->status);
    const char *answered = NULL;
    if (curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &answered) == CURLE_OK && answered != NULL && answered[0] != '\0')
        snprintf(call->url, sizeof call->url, "%s", answered);
    call->done = true;
    call->reached = result == CURLE_OK;
    call->refused = result == CURLE_COULDNT_CONNECT || result == CURLE_COULDNT_RESOLVE_HOST;
    call->untrusted =
        result == CURLE_PEER_FAILED_VERIFICATION || result == CURLE_SSL_CACERT_BADFILE || result == CURLE_SSL_CERTPROBLEM;
    if (!call->reached && call->error[0] == '\0')
        snprintf(call->error, sizeof call->error, "%s", curl_easy_strerror(result));
    if (result == CURLE_COULDNT_CONNECT)
        snprintf(call->error, sizeof call->error, "nobody listens there");
    if (result == CURLE_GOT_NOTHING && !is_https(call))
        snprintf(call->error, sizeof call->error,
                 "it ends the connection without an answer; with certificates it is https://");
    curl_multi_remove_handle(http->multi, easy);
    curl_easy_cleanup(easy);
    curl_slist_free_all(call->headers);
    call->easy = call->headers = NULL;
}

static bool collect(struct http *http)
{
    int left;
    bool any = false;
    CURLMsg *message;
    while ((message = curl_multi_info_read(http->multi, &left)) != NULL)
        if (message->msg == CURLMSG_DONE) {
            finish(http, message->easy_handle, message->data.result);
            any = true;
        }
    return any;
}

void http_wait(struct http *http, int wait_ms)
{
    int running;
    curl_multi_perform(http->multi, &running);
    if (collect(http))
        return;
    struct curl_waitfd wake = {.fd = signals_fd(), .events = CURL_WAIT_POLLIN};
    curl_multi_poll(http->multi, &wake, wake.fd >= 0, wait_ms, NULL);
    signals_drain();
    curl_multi_perform(http->multi, &running);
    collect(http);
}

void http_release(struct http *http, struct http_call *call)
{
    if (call->easy != NULL) {
        curl_multi_remove_handle(http->multi, call->easy);
        curl_easy_cleanup(call->easy);
        curl_slist_free_all(call->headers);
    }
    mem_free(call->answer);
    call->easy = call->headers = NULL;
    call->answer = NULL;
    call->answer_bytes = 0;
}
