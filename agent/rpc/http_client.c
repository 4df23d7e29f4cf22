/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/http_client.h"

#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/wire/identity.h"

#define CONNECT_TIMEOUT_MS 2000L
#define REDIRECTS_MAX 4L
#define TOKEN_LINE_MAX 512

struct http_flight {
    struct http_client *client;
    struct http_flight *next;
    CURL *easy;
    struct curl_slist *headers;
    char *body;
    char *data;
    size_t used, room, most;
    bool too_long;
    bool https;
    char error[CURL_ERROR_SIZE];
    void (*done)(void *context, const struct http_answer *answer);
    void *context;
};

/* One descriptor of curl's; freed when its poll handle is closed. */
struct watch {
    uv_poll_t poll;
    curl_socket_t socket;
    struct http_client *client;
};

static void call_free(struct http_flight *call)
{
    for (struct http_flight **at = &call->client->first; *at != NULL; at = &(*at)->next)
        if (*at == call) {
            *at = call->next;
            break;
        }
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    mem_free(call->body);
    mem_free(call->data);
    mem_free(call);
}

/* Of the last answer, behind all redirects. */
static const char *header_of(struct http_flight *call, const char *name)
{
    struct curl_header *header = NULL;
    return curl_easy_header(call->easy, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value : "";
}

static void finish(struct http_flight *call, CURLcode code)
{
    struct http_answer answer = {.body = "", .error = "", .url = "", .cluster = "", .epoch = ""};
    char cluster[TIDE_UID_CHARS + 1], epoch[EPOCH_TEXT_MAX + 1];
    if (code == CURLE_OK) {
        curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &answer.status);
        text_copy(cluster, sizeof cluster, header_of(call, "Tidemark-Cluster")); /* curl keeps one header at a time */
        text_copy(epoch, sizeof epoch, header_of(call, "Tidemark-Epoch"));
        answer.cluster = cluster;
        answer.epoch = epoch;
        curl_easy_getinfo(call->easy, CURLINFO_EFFECTIVE_URL, &answer.url);
        if (call->data != NULL)
            answer.body = call->data, answer.bytes = call->used;
    } else if (call->too_long) {
        answer.error = "the answer is longer than this agent accepts";
    } else if (code == CURLE_GOT_NOTHING && !call->https) {
        answer.error = "it ends the connection without an answer; with certificates it is https://";
    } else {
        answer.error = call->error[0] != '\0' ? call->error : curl_easy_strerror(code);
    }
    call->done(call->context, &answer);
}

static void reap(struct http_client *client)
{
    int left = 0;
    for (CURLMsg *message; !client->closing && (message = curl_multi_info_read(client->multi, &left)) != NULL;) {
        if (message->msg != CURLMSG_DONE)
            continue;
        struct http_flight *call = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
        curl_multi_remove_handle(client->multi, call->easy);
        finish(call, code);
        call_free(call);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    struct http_client *client = watch->client;
    /* On an error curl is to look for itself: what it then finds names the reason. */
    int flags = status < 0 ? CURL_CSELECT_IN | CURL_CSELECT_OUT : 0, running = 0;
    flags |= events & UV_READABLE ? CURL_CSELECT_IN : 0;
    flags |= events & UV_WRITABLE ? CURL_CSELECT_OUT : 0;
    curl_multi_socket_action(client->multi, watch->socket, flags, &running);
    reap(client);
}

static void on_timer(uv_timer_t *timer)
{
    struct http_client *client = timer->data;
    int running = 0;
    curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    reap(client);
}

static int timer_wanted(CURLM *multi, long timeout_ms, void *context)
{
    (void)multi;
    struct http_client *client = context;
    if (client->closing)
        return 0;
    if (timeout_ms < 0)
        uv_timer_stop(&client->timer);
    else
        uv_timer_start(&client->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static void watch_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static int socket_wanted(CURL *easy, curl_socket_t socket, int what, void *context, void *assigned)
{
    (void)easy;
    struct http_client *client = context;
    struct watch *watch = assigned;
    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL) {
            uv_poll_stop(&watch->poll);
            uv_close((uv_handle_t *)&watch->poll, watch_closed);
            curl_multi_assign(client->multi, socket, NULL);
        }
        return 0;
    }
    if (watch == NULL) {
        watch = mem_alloc(sizeof *watch);
        watch->socket = socket;
        watch->client = client;
        if (uv_poll_init_socket(client->loop, &watch->poll, socket) != 0) {
            mem_free(watch);
            return -1;
        }
        watch->poll.data = watch;
        curl_multi_assign(client->multi, socket, watch);
    }
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    uv_poll_start(&watch->poll, events, on_poll);
    return 0;
}

enum tide_status http_client_init(struct http_client *client, uv_loop_t *loop, const struct http_creds *creds, struct err *err)
{
    memset(client, 0, sizeof *client);
    client->creds = creds;
    client->loop = loop;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (client->multi = curl_multi_init()) == NULL)
        return err_set(err, TIDE_E_NOMEM, "libcurl cannot be initialized");
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, socket_wanted);
    curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, timer_wanted);
    curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client);
    uv_timer_init(loop, &client->timer);
    client->timer.data = client;
    return TIDE_OK;
}

void http_client_close(struct http_client *client)
{
    client->closing = true;
    uv_close((uv_handle_t *)&client->timer, NULL);
    while (client->first != NULL) {
        curl_multi_remove_handle(client->multi, client->first->easy);
        call_free(client->first);
    }
    curl_multi_cleanup(client->multi);
    client->multi = NULL;
    curl_global_cleanup();
}

void http_client_cancel(struct http_client *client, void (*done)(void *context, const struct http_answer *answer), void *context)
{
    for (struct http_flight *call = client->first, *next; call != NULL; call = next) {
        next = call->next;
        if (call->done != done || call->context != context)
            continue;
        curl_multi_remove_handle(client->multi, call->easy);
        call_free(call);
    }
}

static size_t on_data(char *data, size_t size, size_t count, void *context)
{
    struct http_flight *call = context;
    size_t bytes = size * count;
    if (bytes > call->most - call->used) {
        call->too_long = true;
        return 0;
    }
    if (call->used + bytes + 1 > call->room) {
        call->room = (call->used + bytes + 1) * 2;
        call->data = mem_grow(call->data, call->room, 1);
    }
    memcpy(call->data + call->used, data, bytes);
    call->used += bytes;
    call->data[call->used] = '\0';
    return bytes;
}

static void set_body(struct http_flight *call, const char *body)
{
    call->body = mem_strdup(body);
    call->headers = curl_slist_append(call->headers, "Content-Type: application/json");
    /* Bodies are small: waiting for "100 Continue" would only cost a round trip. */
    call->headers = curl_slist_append(call->headers, "Expect:");
    curl_easy_setopt(call->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, call->body);
    curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(call->body));
}

/* A redirect leads to another member: it may see the token and the certificate once its own has been verified, and a
 * connection that is not https sees nothing. */
static void set_creds(struct http_flight *call, const struct http_creds *creds, bool https)
{
    curl_easy_setopt(call->easy, CURLOPT_PROTOCOLS_STR, https ? "https" : "http");
    curl_easy_setopt(call->easy, CURLOPT_REDIR_PROTOCOLS_STR, https ? "https" : "http");
    if (!https || creds == NULL)
        return;
    curl_easy_setopt(call->easy, CURLOPT_UNRESTRICTED_AUTH, 1L);
    if (creds->ca_pem != NULL) {
        struct curl_blob ca = {.data = (void *)(uintptr_t)creds->ca_pem, .len = strlen(creds->ca_pem), .flags = CURL_BLOB_NOCOPY};
        curl_easy_setopt(call->easy, CURLOPT_CAINFO, NULL);
        curl_easy_setopt(call->easy, CURLOPT_CAPATH, NULL); /* nobody else's word counts */
        curl_easy_setopt(call->easy, CURLOPT_CAINFO_BLOB, &ca);
    }
    if (creds->cert_file != NULL) {
        curl_easy_setopt(call->easy, CURLOPT_SSLCERT, creds->cert_file);
        curl_easy_setopt(call->easy, CURLOPT_SSLKEY, creds->key_file);
    }
    if (creds->token != NULL) {
        char line[TOKEN_LINE_MAX];
        snprintf(line, sizeof line, "Authorization: Bearer %s", creds->token);
        call->headers = curl_slist_append(call->headers, line);
    }
}

static void set_unverified(struct http_flight *call)
{
    curl_easy_setopt(call->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(call->easy, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(call->easy, CURLOPT_SSL_VERIFYHOST, 0L);
    /* Else a later call might find this connection open and take it for a verified one. */
    curl_easy_setopt(call->easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(call->easy, CURLOPT_FRESH_CONNECT, 1L);
}

void http_client_start(struct http_client *client, const struct http_call *order)
{
    struct http_flight *call = mem_alloc(sizeof *call);
    call->client = client;
    call->next = client->first;
    client->first = call;
    call->most = order->answer_bytes_max;
    call->done = order->done;
    call->context = order->context;
    call->easy = curl_easy_init();
    curl_easy_setopt(call->easy, CURLOPT_URL, order->url);
    curl_easy_setopt(call->easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(call->easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(call->easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(call->easy, CURLOPT_ERRORBUFFER, call->error);
    curl_easy_setopt(call->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(call->easy, CURLOPT_PROXY, ""); /* coordinators are reached directly, whatever the environment says */
    curl_easy_setopt(call->easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(call->easy, CURLOPT_MAXREDIRS, REDIRECTS_MAX);
    curl_easy_setopt(call->easy, CURLOPT_POSTREDIR, (long)CURL_REDIR_POST_ALL);
    curl_easy_setopt(call->easy, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(call->easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(call->easy, CURLOPT_TIMEOUT_MS, (long)order->timeout_ms);
    if (strcmp(order->method, "POST") == 0)
        set_body(call, order->body);
    call->https = strncmp(order->url, "https://", 8) == 0;
    set_creds(call, order->unverified ? NULL : client->creds, call->https);
    if (order->unverified)
        set_unverified(call);
    curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers);
    curl_multi_add_handle(client->multi, call->easy);
}
