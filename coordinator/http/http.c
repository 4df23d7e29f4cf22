/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/http/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/http/inner.h"

#define DESCRIPTORS_KEPT 128u              /* of the process's limit, for everything but connections */
#define PASS_OVER_MAX (8u * HTTP_BODY_MAX) /* of a body that is too large, before the connection is cut */
#define BODY_ROOM_MIN 1000u /* most bodies are heartbeats, and the allocator gives so much at once */
#define LENGTH_DIGITS 18  /* of a Content-Length that surely fits */
#define RUNS_PER_RESUME 2 /* of libmicrohttpd: take the connection up, send its answer */
/* Every client of ours speaks TLS 1.3, and there is nothing older to be talked down to. */
#define TLS_PRIORITIES "SECURE128:-VERS-ALL:+VERS-TLS1.3"
#define LAST_TURNS 8 /* of libmicrohttpd at the end, to send what is ready */
#define ENDS_AT_A_TIME 64

/* ---- the loop and libmicrohttpd ---- */

static void on_turn(uv_timer_t *timer);

/* Ask when libmicrohttpd wants to be called without an event. A resumed connection makes no lasting event of its own in
 * external-epoll mode, and MHD_get_timeout does not count it: one MHD_run takes it up, another sends its answer. Those runs
 * are owed until they have happened; whoever else comes by here must not put them off. */
static void plan(struct http *http)
{
    MHD_UNSIGNED_LONG_LONG wait;
    if (http->owed > 0)
        uv_timer_start(&http->turn, on_turn, 0, 0);
    else if (MHD_get_timeout(http->daemon, &wait) == MHD_YES)
        uv_timer_start(&http->turn, on_turn, wait, 0);
    else
        uv_timer_stop(&http->turn);
}

static void run(struct http *http)
{
    http->running = true;
    if (http->owed > 0)
        http->owed--;
    MHD_run(http->daemon); /* may resume others, and owe again */
    http->running = false;
    plan(http);
}

static void on_turn(uv_timer_t *timer)
{
    run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    run(poll->data);
}

/* ---- connections ---- */

static void deadline_in(struct connection *connection, uint64_t ms)
{
    connection->deadline_ns = ms ? clock_mono_ns() + ms * NS_PER_MS : 0;
}

static void connection_add(struct http *http, struct MHD_Connection *mhd, void **ret_context)
{
    struct connection *c = mem_alloc(sizeof *c);
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    c->http = http;
    c->mhd = mhd;
    c->fd = info ? info->connect_fd : -1;
    c->next = http->connections;
    c->link = &http->connections;
    if (c->next)
        c->next->link = &c->next;
    http->connections = c;
    deadline_in(c, HTTP_RECEIVE_DEADLINE_MS);
    *ret_context = c;
}

static void on_connection(void *arg, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        connection_add(arg, mhd, context);
        return;
    }
    struct connection *c = *context;
    if (c == NULL)
        return;
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    mem_free(c->peer);
    mem_free(c->peer_serial);
    mem_free(c);
    *context = NULL;
}

/* libmicrohttpd does not look at a parked connection, so its end is waited for here: of ten thousand that are asked one by
 * one each costs a system call. Not for the next byte: with TLS the client's farewell stands before the end. */
void request_await_end(struct http_request *request)
{
    struct connection *c = request->connection;
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = c};
    if (!c->end_awaited && epoll_ctl(request->http->ends, EPOLL_CTL_ADD, c->fd, &event) == 0)
        c->end_awaited = true;
}

static void forget_end(struct connection *c)
{
    if (c->end_awaited)
        epoll_ctl(c->http->ends, EPOLL_CTL_DEL, c->fd, NULL);
    c->end_awaited = false;
}

/* Whoever waits for the client then answers; to one that only closed its sending side, that is a watch that returned early.
 * Connections are closed in MHD_run, which is not called here: each that came is still there, but may have its answer. */
static void on_end(uv_poll_t *poll, int status, int events)
{
    struct http *http = poll->data;
    struct epoll_event ended[ENDS_AT_A_TIME];
    (void)status, (void)events;
    int count = epoll_wait(http->ends, ended, ENDS_AT_A_TIME, 0);
    for (int i = 0; i < count; i++) {
        struct connection *c = ended[i].data.ptr;
        if (c->end_awaited)
            c->request->gone(c->request->gone_arg, c->request);
    }
}

static void on_sweep(uv_timer_t *timer)
{
    struct http *http = timer->data;
    uint64_t now = clock_mono_ns();
    for (struct connection *c = http->connections, *next; c != NULL; c = next) {
        next = c->next;
        /* Timeouts of libmicrohttpd begin again with every byte; this one does not. */
        if (c->deadline_ns != 0 && now > c->deadline_ns)
            shutdown(c->fd, SHUT_RDWR);
    }
    plan(http);
}

/* ---- requests ---- */

void request_answered(struct http_request *request)
{
    deadline_in(request->connection, HTTP_SEND_DEADLINE_MS);
    forget_end(request->connection);
    if (!request->parked)
        return;
    struct http *http = request->http;
    request->parked = false;
    MHD_resume_connection(request->connection->mhd);
    http->owed = RUNS_PER_RESUME;
    if (!http->running)
        plan(http);
}

static enum MHD_Result queue_answer(struct http_request *request)
{
    struct MHD_Response *answer = request->answer;
    if (request->refusal_code == 405)
        MHD_add_response_header(answer, MHD_HTTP_HEADER_ALLOW, request->allow);
    if (request->refusal_code == 401)
        MHD_add_response_header(answer, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    return MHD_queue_response(request->connection->mhd, request->code, answer);
}

/* Whoever may not call this is told before a byte of a body is kept for it. */
static void ask_admit(struct http_request *request)
{
    const struct http_options *options = &request->http->options;
    struct err err = {0};
    if (request->route == NULL || options->admit == NULL)
        return;
    if (options->tls != NULL)
        peer_look(request->connection);
    unsigned code = options->admit(options->context, request, request->route->least, &err);
    if (code == HTTP_ELSEWHERE)
        request->elsewhere = true;
    else if (code != 0)
        request_refuse(request, code, err.status, "%s", err.text);
}

static enum MHD_Result begin(struct http *http, struct MHD_Connection *mhd, const char *url, const char *method,
                             void **request_context)
{
    struct http_request *request = mem_alloc(sizeof *request);
    request->http = http;
    request->connection = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    request->connection->request = request;
    *request_context = request;
    if (strlen(url) > HTTP_PATH_MAX) {
        request_refuse(request, 414, TIDE_E_LIMIT, "the path has more than %u bytes", HTTP_PATH_MAX);
    } else {
        request->path = mem_strdup(url);
        request->method = method;
        route_find(request, method);
        ask_admit(request);
    }
    const char *length = http_header_of(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (length == NULL || (strlen(length) <= LENGTH_DIGITS && strtoull(length, NULL, 10) <= PASS_OVER_MAX))
        return MHD_YES;
    /* Too much even to be passed over: answer before the body comes. */
    request->refusal_code = 0;
    request_refuse(request, 413, TIDE_E_LIMIT, "the body is larger than %u bytes", HTTP_BODY_MAX);
    http_reply_err(request, request->refusal);
    return queue_answer(request);
}

static bool body_fits(struct http_request *request, size_t bytes)
{
    size_t need = request->body_bytes + bytes + 1;
    if (need > HTTP_BODY_MAX + 1) {
        request_refuse(request, 413, TIDE_E_LIMIT, "the body is larger than %u bytes", HTTP_BODY_MAX);
        return false;
    }
    if (need <= request->body_room)
        return true;
    size_t room = request->body_room ? request->body_room * 2 : BODY_ROOM_MIN;
    while (room < need)
        room *= 2;
    if (request->http->body_bytes + room - request->body_room > HTTP_BODIES_MAX) {
        request_refuse(request, 503, TIDE_E_UNAVAILABLE, "too many requests with large bodies at a time");
        return false;
    }
    request->http->body_bytes += room - request->body_room;
    request->body = mem_grow(request->body, room, 1);
    request->body_room = room;
    return true;
}

static enum MHD_Result take_body(struct http_request *request, const char *data, size_t *bytes)
{
    size_t n = *bytes;
    *bytes = 0;
    if (request->refusal_code == 0 && !request->elsewhere && body_fits(request, n)) {
        memcpy(request->body + request->body_bytes, data, n);
        request->body_bytes += n;
        request->body[request->body_bytes] = '\0';
        return MHD_YES;
    }
    /* Read to its end, so that the client, who may read only then, gets the answer; but not for ever. */
    request->passed_over += n;
    return request->passed_over > PASS_OVER_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *bytes, void **request_context)
{
    (void)version;
    struct http_request *request = *request_context;
    if (request == NULL)
        return begin(arg, mhd, url, method, request_context);
    if (*bytes > 0)
        return take_body(request, data, bytes);
    if (request->answer == NULL) {
        request->connection->deadline_ns = 0;
        if (request->refusal_code != 0)
            http_reply_err(request, request->refusal);
        else if (request->elsewhere)
            request->http->options.elsewhere(request->http->options.context, request);
        else
            request->route->handler(request->http->options.context, request);
    }
    if (request->answer != NULL)
        return queue_answer(request);
    request->parked = true;
    MHD_suspend_connection(mhd);
    return MHD_YES;
}

static void on_completed(void *arg, struct MHD_Connection *mhd, void **request_context, enum MHD_RequestTerminationCode code)
{
    (void)arg, (void)mhd, (void)code;
    struct http_request *request = *request_context;
    if (request == NULL)
        return;
    forget_end(request->connection);
    request->connection->request = NULL;
    deadline_in(request->connection, HTTP_RECEIVE_DEADLINE_MS);
    request_free(request);
    *request_context = NULL;
}

/* ---- open, close ---- */

static void on_log(void *arg, const char *format, va_list args) __attribute__((__format__(__printf__, 2, 0)));
static void on_log(void *arg, const char *format, va_list args)
{
    (void)arg;
    char text[512];
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = '\0';
    log_debug("http: %s", text);
}

static unsigned connections_max(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return HTTP_CONNECTIONS_MAX;
    rlim_t usable = limit.rlim_cur > 2 * DESCRIPTORS_KEPT ? limit.rlim_cur - DESCRIPTORS_KEPT : DESCRIPTORS_KEPT;
    return usable < HTTP_CONNECTIONS_MAX ? (unsigned)usable : HTTP_CONNECTIONS_MAX;
}

static struct MHD_Daemon *daemon_start(struct http *http, int fd)
{
    const struct http_tls *tls = http->options.tls;
    struct MHD_OptionItem secure[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, NULL},
                                      {MHD_OPTION_HTTPS_MEM_KEY, 0, NULL},
                                      {MHD_OPTION_HTTPS_MEM_TRUST, 0, NULL},
                                      {MHD_OPTION_HTTPS_PRIORITIES, 0, NULL},
                                      {MHD_OPTION_END, 0, NULL}};
    const char *texts[] = {tls ? tls->cert : NULL, tls ? tls->key : NULL, tls ? tls->ca : NULL, TLS_PRIORITIES};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) /* libmicrohttpd reads them only */
        memcpy(&secure[i].ptr_value, &texts[i], sizeof texts[i]);
    if (tls == NULL)
        secure[0] = secure[4];
    return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | (tls ? MHD_USE_TLS : 0), 0, NULL,
                            NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd,
                            MHD_OPTION_CONNECTION_LIMIT, connections_max(), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)HTTP_HEADERS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, HTTP_IDLE_S,
                            MHD_OPTION_NOTIFY_COMPLETED, on_completed, http, MHD_OPTION_NOTIFY_CONNECTION, on_connection,
                            http, MHD_OPTION_ARRAY, secure, MHD_OPTION_END);
}

enum tide_status http_open(const struct http_options *options, struct http **ret_http, struct err *err)
{
    struct http *http = mem_alloc(sizeof *http);
    http->options = *options;
    int fd;
    enum tide_status status = listen_open(options->listen, &fd, http->address, err);
    if (status != TIDE_OK) {
        mem_free(http);
        return status;
    }
    http->ends = epoll_create1(EPOLL_CLOEXEC);
    http->daemon = http->ends >= 0 ? daemon_start(http, fd) : NULL;
    if (http->daemon == NULL) {
        status = http->ends < 0 ? err_errno(err, "cannot make an epoll set") :
                                  err_set(err, TIDE_E_IO, "libmicrohttpd cannot start on %s", options->listen);
        if (http->ends >= 0)
            close(http->ends);
        close(fd);
        mem_free(http);
        return status;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    uv_poll_init(options->loop, &http->poll, info->epoll_fd);
    uv_poll_init(options->loop, &http->end, http->ends);
    uv_timer_init(options->loop, &http->turn);
    uv_timer_init(options->loop, &http->sweep);
    http->poll.data = http->end.data = http->turn.data = http->sweep.data = http;
    http->handles = 4;
    uv_poll_start(&http->poll, UV_READABLE, on_poll);
    uv_poll_start(&http->end, UV_READABLE, on_end);
    uint64_t sweep_ms = options->sweep_ms ? options->sweep_ms : HTTP_SWEEP_MS;
    uv_timer_start(&http->sweep, on_sweep, sweep_ms, sweep_ms);
    plan(http);
    *ret_http = http;
    return TIDE_OK;
}

const char *http_address(const struct http *http)
{
    return http->address;
}

static void on_closed(uv_handle_t *handle)
{
    struct http *http = handle->data;
    if (--http->handles == 0)
        mem_free(http);
}

void http_close(struct http *http)
{
    if (http == NULL)
        return;
    struct err err = {0};
    err_set(&err, TIDE_E_UNAVAILABLE, "this coordinator is stopping");
    int listening = MHD_quiesce_daemon(http->daemon);
    for (struct connection *c = http->connections; c != NULL; c = c->next)
        if (c->request != NULL && c->request->parked)
            http_reply_err(c->request, &err);
    /* libmicrohttpd refuses to stop with suspended connections, and a resumed one is taken up in the next run. */
    for (int i = 0; i < LAST_TURNS; i++)
        MHD_run(http->daemon);
    uv_poll_stop(&http->poll);
    uv_poll_stop(&http->end);
    uv_close((uv_handle_t *)&http->poll, on_closed);
    uv_close((uv_handle_t *)&http->end, on_closed);
    uv_close((uv_handle_t *)&http->turn, on_closed);
    uv_close((uv_handle_t *)&http->sweep, on_closed);
    MHD_stop_daemon(http->daemon);
    close(http->ends);
    if (listening != MHD_INVALID_SOCKET)
        close(listening);
}
