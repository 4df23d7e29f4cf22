/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/log_server.h"

#include <errno.h>
#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/rpc/logs.h"
#include "agent/step/link.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/secure/secret.h"
#include "ckpt/wire/view.h"

#define POLL_MS 50u
#define CONNECTION_MEMORY 16384u
#define IDLE_SECONDS 90u /* above the longest wait_ms */

/* A request from its first call to its completion. While its connection is suspended it is the loop's, else a thread's of libmicrohttpd:
 * never both. */
struct request {
    struct log_server *server;
    struct MHD_Connection *connection;
    struct request *next; /* among those the loop has */
    bool slots;           /* else logs */
    struct log_query query;
    struct err err;
    uint64_t deadline_ns;
    struct stat seen; /* of the file, when it was found to have nothing new */
    bool decided;
    struct MHD_Response *response;
    unsigned http;
};

struct log_server {
    struct MHD_Daemon *daemon;
    char logs[TIDE_PATH_MAX + 1];
    bool (*running)(void *context, const char *uid, uint64_t generation);
    void *context;
    struct slot_access slots;
    pthread_mutex_t lock; /* asked, closing */
    struct request *asked; /* for the loop to decide */
    bool closing;
    uv_async_t waker;
    uv_timer_t watcher; /* looks at the files of parked requests */
    struct request *parked;
};

/* ---- answers ---- */

static unsigned status_of(enum tide_status status)
{
    switch (status) {
    case TIDE_E_INVALID:
    case TIDE_E_LIMIT:
        return MHD_HTTP_BAD_REQUEST;
    case TIDE_E_DENIED:
        return MHD_HTTP_UNAUTHORIZED;
    case TIDE_E_NOT_FOUND:
        return MHD_HTTP_NOT_FOUND;
    case TIDE_E_UNAVAILABLE:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    default:
        return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

/* Decided: the response is sent by a thread. */
static void answer(struct request *request, unsigned http, struct MHD_Response *response)
{
    request->decided = true;
    request->http = http;
    request->response = response;
    MHD_resume_connection(request->connection);
}

static struct MHD_Response *error_response(const struct err *err)
{
    struct api_error error = {0};
    text_copy(error.code, sizeof error.code, tide_status_name(err->status));
    text_copy(error.message, sizeof error.message, err->text);
    json_t *body = json_pack("{s:o}", "error", codec_encode(&api_error_codec, &error, 0));
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, "Content-Type", "application/json");
    return response;
}

static void answer_error(struct request *request)
{
    answer(request, status_of(request->err.status), error_response(&request->err));
}

static void add_number(struct MHD_Response *response, const char *name, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    MHD_add_response_header(response, name, text);
}

static void answer_piece(struct request *request, struct log_piece *piece, bool ended)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(piece->bytes, piece->data, MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, "Content-Type", "application/octet-stream");
    add_number(response, "Tidemark-Offset", piece->offset);
    add_number(response, "Tidemark-Next", piece->offset + piece->bytes);
    MHD_add_response_header(response, "Tidemark-Ended", ended ? "true" : "false");
    answer(request, MHD_HTTP_OK, response);
}

static void file_state(const struct log_server *server, const struct log_query *query, struct stat *ret_info)
{
    char path[2 * TIDE_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s.%s/%llu/rank%u.%s", server->logs, query->job, query->uid,
             (unsigned long long)query->generation, query->rank, query->stream[0] != '\0' ? query->stream : "out");
    if (stat(path, ret_info) != 0)
        memset(ret_info, 0, sizeof *ret_info);
}

static void park(struct request *request)
{
    struct log_server *server = request->server;
    request->next = server->parked;
    server->parked = request;
}

static void serve(struct request *request)
{
    struct log_server *server = request->server;
    struct log_piece piece = {0};
    struct err *err = &request->err;
    /* Asked before the files are read: what a step wrote at its very end must not be missed. */
    bool running = server->running(server->context, request->query.uid, request->query.generation);
    file_state(server, &request->query, &request->seen);
    enum tide_status status = logs_read(server->logs, &request->query, &piece, err);
    bool waits = running && clock_mono_ns() < request->deadline_ns;
    if (status == TIDE_OK && piece.bytes == 0 && waits) {
        mem_free(piece.data);
        park(request);
        return;
    }
    if (status == TIDE_OK && !piece.exists && !running) {
        mem_free(piece.data);
        status = err_set(err, TIDE_E_NOT_FOUND, "rank %u of job \"%s\" has not run on this node in generation %llu",
                         request->query.rank, request->query.job, (unsigned long long)request->query.generation);
    }
    if (status != TIDE_OK)
        answer_error(request);
    else
        answer_piece(request, &piece, !running && piece.bytes < LOG_PIECE_MAX);
}

/* ---- requests ---- */

static enum MHD_Result on_argument(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
    (void)kind;
    struct request *request = context;
    if (request->err.status == TIDE_OK &&
        log_query_set(&request->query, name, value != NULL ? value : "", &request->err) != TIDE_OK)
        return MHD_NO;
    return MHD_YES;
}

/* Whoever may look at the job has its key from the coordinator. */
static enum tide_status check_key(const struct request *request, struct err *err)
{
    static const char bearer[] = "Bearer ";
    char *key = NULL;
    enum tide_status status = logs_key(request->server->logs, &request->query, &key, err);
    if (status != TIDE_OK || key == NULL)
        return status;
    const char *shown = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Authorization");
    bool good = shown != NULL && strncmp(shown, bearer, strlen(bearer)) == 0 && strlen(shown + strlen(bearer)) == strlen(key) &&
                secret_equal(shown + strlen(bearer), key, strlen(key));
    secret_wipe(key, strlen(key));
    mem_free(key);
    return good ? TIDE_OK
                : err_set(err, TIDE_E_DENIED,
                          "the logs of job \"%s\" are for those who show its key as \"Authorization: Bearer KEY\"; the "
                          "coordinator tells it with the job (log_key)",
                          request->query.job);
}

static void serve_logs(struct request *request)
{
    struct log_server *server = request->server;
    MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, on_argument, request);
    enum tide_status status = request->err.status;
    if (status == TIDE_OK)
        status = logs_find(server->logs, &request->query, &request->err);
    if (status == TIDE_OK)
        status = check_key(request, &request->err);
    if (status != TIDE_OK) {
        answer_error(request);
        return;
    }
    /* When the server closes nobody is parked any more. */
    request->deadline_ns = request->server->closing ? 0 : clock_mono_ns() + request->query.wait_ms * NS_PER_MS;
    serve(request);
}

static void serve_slots(struct request *request)
{
    struct MHD_Response *response = NULL;
    if (slot_server_open(&request->server->slots, request->connection, &response, &request->err) != TIDE_OK) {
        answer_error(request);
        return;
    }
    MHD_add_response_header(response, "Content-Type", "application/octet-stream");
    answer(request, MHD_HTTP_OK, response);
}

/* ---- in libmicrohttpd's threads ---- */

static enum MHD_Result queue(struct MHD_Connection *connection, unsigned http, struct MHD_Response *response)
{
    enum MHD_Result result = MHD_queue_response(connection, http, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result queue_error(struct MHD_Connection *connection, unsigned http, const struct err *err)
{
    return queue(connection, http, error_response(err));
}

/* What may be given is the loop's to know. */
static enum MHD_Result ask_loop(struct request *request)
{
    struct log_server *server = request->server;
    pthread_mutex_lock(&server->lock);
    bool closing = server->closing;
    if (!closing) {
        MHD_suspend_connection(request->connection); /* before the loop can resume it */
        request->next = server->asked;
        server->asked = request;
        uv_async_send(&server->waker);
    }
    pthread_mutex_unlock(&server->lock);
    if (!closing)
        return MHD_YES;
    err_set(&request->err, TIDE_E_UNAVAILABLE, "this agent is about to end; ask again");
    return queue_error(request->connection, MHD_HTTP_SERVICE_UNAVAILABLE, &request->err);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_bytes, void **state)
{
    (void)version, (void)upload;
    struct request *request = *state;
    if (request == NULL) {
        request = mem_alloc(sizeof *request);
        request->server = context;
        request->connection = connection;
        *state = request;
        return MHD_YES;
    }
    if (*upload_bytes != 0) { /* nothing of ours has a body */
        *upload_bytes = 0;
        return MHD_YES;
    }
    if (request->decided) {
        struct MHD_Response *response = request->response;
        request->response = NULL;
        return response != NULL ? queue(connection, request->http, response) : MHD_NO;
    }
    request->slots = strcmp(url, SLOT_SERVER_PATH) == 0;
    if (!request->slots && strcmp(url, "/v1/logs") != 0) {
        err_set(&request->err, TIDE_E_NOT_FOUND, "an agent serves /v1/logs and " SLOT_SERVER_PATH ", not %.100s", url);
        return queue_error(connection, MHD_HTTP_NOT_FOUND, &request->err);
    }
    if (strcmp(method, "GET") != 0) {
        err_set(&request->err, TIDE_E_INVALID, "%.20s is not possible on %s; use GET", method, url);
        return queue_error(connection, MHD_HTTP_METHOD_NOT_ALLOWED, &request->err);
    }
    return ask_loop(request);
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
    (void)context, (void)connection, (void)code;
    struct request *request = *state;
    if (request != NULL && request->response != NULL)
        MHD_destroy_response(request->response);
    mem_free(request);
    *state = NULL;
}

/* ---- in the loop ---- */

static void decide_asked(struct log_server *server)
{
    pthread_mutex_lock(&server->lock);
    struct request *request = server->asked;
    server->asked = NULL;
    pthread_mutex_unlock(&server->lock);
    for (struct request *next; request != NULL; request = next) {
        next = request->next;
        if (request->slots)
            serve_slots(request);
        else
            serve_logs(request);
    }
}

static void on_wake(uv_async_t *waker)
{
    decide_asked(waker->data);
}

static bool has_news(const struct log_server *server, const struct request *request, uint64_t now_ns)
{
    struct stat info;
    file_state(server, &request->query, &info);
    return info.st_size != request->seen.st_size || info.st_ino != request->seen.st_ino || now_ns >= request->deadline_ns ||
           !server->running(server->context, request->query.uid, request->query.generation);
}

static void on_watch(uv_timer_t *timer)
{
    struct log_server *server = timer->data;
    uint64_t now_ns = clock_mono_ns();
    struct request *request = server->parked;
    server->parked = NULL;
    for (struct request *next; request != NULL; request = next) {
        next = request->next;
        if (has_news(server, request, now_ns))
            serve(request);
        else
            park(request);
    }
}

static void on_mhd_log(void *context, const char *format, va_list args)
{
    (void)context;
    char text[TIDE_TEXT_MAX + 1];
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = '\0';
    log_debug("log server: %s", text);
}

#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3"

static struct MHD_Daemon *start_daemon(struct log_server *server, const struct sockaddr *at, const struct port_key *key, unsigned flags)
{
    char priorities[] = TLS_PRIORITIES;
    struct MHD_OptionItem secure[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, key != NULL ? key->cert_pem : NULL},
                                      {MHD_OPTION_HTTPS_MEM_KEY, 0, key != NULL ? key->key_pem : NULL},
                                      {MHD_OPTION_HTTPS_PRIORITIES, 0, priorities},
                                      {MHD_OPTION_END, 0, NULL}};
    if (key == NULL)
        secure[0] = secure[3];
    else
        flags |= MHD_USE_TLS;
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | flags, 0, NULL,
                            NULL, on_request, server, MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL, MHD_OPTION_SOCK_ADDR, at,
                            MHD_OPTION_THREAD_POOL_SIZE, LOG_THREADS,
                            MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_CONNECTION_LIMIT, LOG_CONNECTIONS_MAX,
                            MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)CONNECTION_MEMORY, MHD_OPTION_ARRAY, secure, MHD_OPTION_END);
}

/* Its threads are deaf to signals, as all but the loop's are. */
static struct MHD_Daemon *start_deaf(struct log_server *server, const struct sockaddr *at, const struct port_key *key, unsigned flags)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct MHD_Daemon *daemon = start_daemon(server, at, key, flags);
    int failed = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = failed;
    return daemon;
}

enum tide_status log_server_create(uv_loop_t *loop, const char *logs, const char *address, uint32_t *port, const struct port_key *key,
                                   bool (*running)(void *context, const char *uid, uint64_t generation), void *context,
                                   const struct slot_access *slots, struct log_server **ret_server, struct err *err)
{
    struct sockaddr_storage at = {0};
    bool v4 = uv_ip4_addr(address, (int)*port, (struct sockaddr_in *)&at) == 0;
    if (!v4 && uv_ip6_addr(address, (int)*port, (struct sockaddr_in6 *)&at) != 0)
        return err_set(err, TIDE_E_INVALID, "\"%s\" is no IP address of this host; say --address IP", address);
    struct log_server *server = mem_alloc(sizeof *server);
    text_copy(server->logs, sizeof server->logs, logs);
    server->running = running;
    server->context = context;
    server->slots = *slots;
    pthread_mutex_init(&server->lock, NULL);
    pthread_mutex_lock(&server->lock); /* who asks already waits for the loop's handles */
    server->daemon = start_deaf(server, (struct sockaddr *)&at, key, v4 ? 0 : MHD_USE_IPv6);
    if (server->daemon == NULL) {
        enum tide_status status = err_errno(err, "choose another with --address and --log-port; cannot serve logs on %s port %u",
                                            address, *port);
        pthread_mutex_unlock(&server->lock);
        log_server_free(server);
        return status;
    }
    *port = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    uv_async_init(loop, &server->waker, on_wake);
    uv_timer_init(loop, &server->watcher);
    server->watcher.data = server->waker.data = server;
    uv_timer_start(&server->watcher, on_watch, POLL_MS, POLL_MS);
    pthread_mutex_unlock(&server->lock);
    *ret_server = server;
    return TIDE_OK;
}

void log_server_close(struct log_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->closing = true;
    pthread_mutex_unlock(&server->lock);
    /* libmicrohttpd does not stop over suspended connections. */
    decide_asked(server);
    for (struct request *request = server->parked, *next; request != NULL; request = next) {
        next = request->next;
        request->deadline_ns = 0;
        serve(request);
    }
    server->parked = NULL;
    MHD_stop_daemon(server->daemon);
    uv_close((uv_handle_t *)&server->waker, NULL);
    uv_close((uv_handle_t *)&server->watcher, NULL);
}

void log_server_free(struct log_server *server)
{
    pthread_mutex_destroy(&server->lock);
    mem_free(server);
}
