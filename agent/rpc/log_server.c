/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/log_server.h"

#include <errno.h>
#include <jansson.h>
#include <microhttpd.h>
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

/* A request from its first call to its completion. */
struct request {
    struct log_server *server;
    struct MHD_Connection *connection;
    struct request *next; /* among the parked */
    struct log_query query;
    struct err err;
    bool begun, parked;
    uint64_t deadline_ns;
    struct stat seen; /* of the file, when it was found to have nothing new */
};

struct log_server {
    struct MHD_Daemon *daemon;
    char logs[TIDE_PATH_MAX + 1];
    bool (*running)(void *context, const char *uid, uint64_t generation);
    void *context;
    struct slot_access slots;
    uv_poll_t poll;
    uv_timer_t timer;   /* libmicrohttpd's */
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

static enum MHD_Result answer_error(struct MHD_Connection *connection, unsigned http, const struct err *err)
{
    struct api_error error = {0};
    text_copy(error.code, sizeof error.code, tide_status_name(err->status));
    text_copy(error.message, sizeof error.message, err->text);
    json_t *body = json_pack("{s:o}", "error", codec_encode(&api_error_codec, &error, 0));
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, "Content-Type", "application/json");
    enum MHD_Result result = MHD_queue_response(connection, http, response);
    MHD_destroy_response(response);
    return result;
}

static void add_number(struct MHD_Response *response, const char *name, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    MHD_add_response_header(response, name, text);
}

static enum MHD_Result answer_piece(struct MHD_Connection *connection, struct log_piece *piece, bool ended)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(piece->bytes, piece->data, MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, "Content-Type", "application/octet-stream");
    add_number(response, "Tidemark-Offset", piece->offset);
    add_number(response, "Tidemark-Next", piece->offset + piece->bytes);
    MHD_add_response_header(response, "Tidemark-Ended", ended ? "true" : "false");
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
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
    request->parked = true;
    request->next = server->parked;
    server->parked = request;
    MHD_suspend_connection(request->connection);
}

static enum MHD_Result serve(struct request *request)
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
        return MHD_YES;
    }
    if (status == TIDE_OK && !piece.exists && !running) {
        mem_free(piece.data);
        status = err_set(err, TIDE_E_NOT_FOUND, "rank %u of job \"%s\" has not run on this node in generation %llu",
                         request->query.rank, request->query.job, (unsigned long long)request->query.generation);
    }
    if (status != TIDE_OK)
        return answer_error(request->connection, status_of(status), err);
    return answer_piece(request->connection, &piece, !running && piece.bytes < LOG_PIECE_MAX);
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

static enum MHD_Result begin(struct request *request)
{
    struct log_server *server = request->server;
    MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, on_argument, request);
    enum tide_status status = request->err.status;
    if (status == TIDE_OK)
        status = logs_find(server->logs, &request->query, &request->err);
    if (status == TIDE_OK)
        status = check_key(request, &request->err);
    if (status != TIDE_OK)
        return answer_error(request->connection, status_of(status), &request->err);
    request->deadline_ns = clock_mono_ns() + request->query.wait_ms * NS_PER_MS;
    return serve(request);
}

static enum MHD_Result serve_slot(struct request *request)
{
    struct MHD_Response *response = NULL;
    enum tide_status status = slot_server_open(&request->server->slots, request->connection, &response, &request->err);
    if (status != TIDE_OK)
        return answer_error(request->connection, status_of(status), &request->err);
    MHD_add_response_header(response, "Content-Type", "application/octet-stream");
    enum MHD_Result result = MHD_queue_response(request->connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
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
    if (request->begun)
        return serve(request);
    request->begun = true;
    bool slots = strcmp(url, SLOT_SERVER_PATH) == 0;
    if (!slots && strcmp(url, "/v1/logs") != 0) {
        err_set(&request->err, TIDE_E_NOT_FOUND, "an agent serves /v1/logs and " SLOT_SERVER_PATH ", not %.100s", url);
        return answer_error(connection, MHD_HTTP_NOT_FOUND, &request->err);
    }
    if (strcmp(method, "GET") != 0) {
        err_set(&request->err, TIDE_E_INVALID, "%.20s is not possible on %s; use GET", method, url);
        return answer_error(connection, MHD_HTTP_METHOD_NOT_ALLOWED, &request->err);
    }
    if (slots)
        return serve_slot(request);
    return begin(request);
}

static void unpark(struct request *request)
{
    for (struct request **at = &request->server->parked; *at != NULL; at = &(*at)->next)
        if (*at == request) {
            *at = request->next;
            break;
        }
    request->parked = false;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
    (void)context, (void)connection, (void)code;
    struct request *request = *state;
    if (request != NULL && request->parked)
        unpark(request);
    mem_free(request);
    *state = NULL;
}

/* ---- the loop ---- */

static void on_timer(uv_timer_t *timer);

static void pump(struct log_server *server)
{
    MHD_UNSIGNED_LONG_LONG wait_ms = 0;
    MHD_run(server->daemon);
    if (MHD_get_timeout(server->daemon, &wait_ms) == MHD_YES)
        uv_timer_start(&server->timer, on_timer, wait_ms, 0);
    else
        uv_timer_stop(&server->timer);
}

static void on_timer(uv_timer_t *timer)
{
    pump(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    pump(poll->data);
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
    bool resumed = false;
    for (struct request *request = server->parked, *next; request != NULL; request = next) {
        next = request->next;
        if (!has_news(server, request, now_ns))
            continue;
        unpark(request);
        MHD_resume_connection(request->connection);
        resumed = true;
    }
    /* A resumed connection is not announced by the epoll descriptor: run, and once more for what it queued. */
    if (resumed) {
        MHD_run(server->daemon);
        pump(server);
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
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | flags, 0, NULL, NULL, on_request, server,
                            MHD_OPTION_EXTERNAL_LOGGER, on_mhd_log, NULL, MHD_OPTION_SOCK_ADDR, at,
                            MHD_OPTION_NOTIFY_COMPLETED, on_completed, server, MHD_OPTION_CONNECTION_LIMIT, LOG_CONNECTIONS_MAX,
                            MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)CONNECTION_MEMORY, MHD_OPTION_ARRAY, secure, MHD_OPTION_END);
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
    server->daemon = start_daemon(server, (struct sockaddr *)&at, key, v4 ? 0 : MHD_USE_IPv6);
    if (server->daemon == NULL) {
        enum tide_status status = err_errno(err, "choose another with --address and --log-port; cannot serve logs on %s port %u",
                                            address, *port);
        mem_free(server);
        return status;
    }
    *port = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    int fd = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    uv_timer_init(loop, &server->timer);
    uv_timer_init(loop, &server->watcher);
    uv_poll_init(loop, &server->poll, fd);
    server->timer.data = server->watcher.data = server->poll.data = server;
    uv_poll_start(&server->poll, UV_READABLE, on_poll);
    uv_timer_start(&server->watcher, on_watch, POLL_MS, POLL_MS);
    pump(server);
    *ret_server = server;
    return TIDE_OK;
}

void log_server_close(struct log_server *server)
{
    uv_close((uv_handle_t *)&server->poll, NULL);
    uv_close((uv_handle_t *)&server->timer, NULL);
    uv_close((uv_handle_t *)&server->watcher, NULL);
    /* libmicrohttpd does not stop over suspended connections. */
    while (server->parked != NULL) {
        struct request *request = server->parked;
        request->deadline_ns = 0;
        unpark(request);
        MHD_resume_connection(request->connection);
    }
    MHD_run(server->daemon);
    MHD_stop_daemon(server->daemon);
}

void log_server_free(struct log_server *server)
{
    mem_free(server);
}
