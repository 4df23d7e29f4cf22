/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_HTTP_HTTP_H
#define COORDINATOR_HTTP_HTTP_H

/* HTTP/1.1 on a libuv loop: a table of routes, whole bodies, answers now or later. Knows nothing of what is asked.
 *
 * libmicrohttpd does the protocol in external-epoll mode: its epoll descriptor is one more descriptor of the loop, and
 * everything here runs on the loop's thread. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "ckpt/base/err.h"
#include "ckpt/wire/identity.h"

#define HTTP_BODY_MAX (1u << 20)     /* bytes of a request's body */
#define HTTP_BODIES_MAX (256u << 20) /* … of all requests at a time */
#define HTTP_HEADERS_MAX (4u << 10)  /* request line and headers; each connection keeps so much */
#define HTTP_PATH_MAX 1024u          /* bytes of a path */
#define HTTP_CONNECTIONS_MAX 32768u
#define HTTP_IDLE_S 15u                 /* a connection on which nothing moves is closed */
#define HTTP_RECEIVE_DEADLINE_MS 20000u /* first byte awaited -> request complete, however slowly it trickles */
#define HTTP_SEND_DEADLINE_MS 60000u    /* answer ready -> taken by the client */
#define HTTP_SWEEP_MS 1000u
#define HTTP_PARAMS_MAX 2u /* {words} in a route */

#define HTTP_ELSEWHERE 307u

struct http;
struct http_request;

typedef void http_handler(void *context, struct http_request *request);

struct http_route {
    const char *method;
    const char *path; /* "/v1/jobs/{job}/cancel": a {word} stands for one segment */
    http_handler *handler;
    unsigned least; /* what `admit` is asked for */
};

/* PEM texts; they must live as long as the http. */
struct http_tls {
    const char *cert, *key;
    const char *ca; /* clients' certificates come from it */
};

struct http_options {
    uv_loop_t *loop;
    const char *listen; /* "host:port", "[::1]:port"; port 0: any free one */
    const struct http_route *routes;
    size_t route_count;
    void *context;
    uint64_t sweep_ms; /* how often deadlines are looked at; 0: HTTP_SWEEP_MS */
    void (*stamp)(void *context, struct http_request *request); /* before every answer: http_header what each one carries */
    const struct http_tls *tls;                                 /* HTTPS, TLS 1.3; NULL: plain HTTP */
    /* May this caller call a route with this `least`? Asked when the headers are there and before a body is taken in. 0, or
     * the code of the refusal (401, 403) with its words; HTTP_ELSEWHERE: this is not the place to ask, and `elsewhere`
     * answers instead of the route's handler. NULL: everybody may call everything. */
    unsigned (*admit)(void *context, const struct http_request *request, unsigned least, struct err *err);
    void (*elsewhere)(void *context, struct http_request *request);
};

/* Bind, and answer from the next turn of the loop on. Errors: INVALID (address), CONFLICT (port in use), DENIED, IO. */
MUST_USE enum tide_status http_open(const struct http_options *options, struct http **ret_http, struct err *err);
/* host:port really bound. */
const char *http_address(const struct http *http);
/* Stop taking connections, send answers that are ready, close. Requests that wait are answered UNAVAILABLE. The memory
 * goes with the loop's next turns. NULL is legal. */
void http_close(struct http *http);

/* ---- in a handler, and until the answer ---- */

/* A request lives until it is answered. A handler that has not answered when it returns keeps it: the connection is
 * parked, costs no more than memory, and http_reply* wakes it. Parked requests must have a deadline of the caller's. */

/* The segment of the path that stands for {name}; never NULL for a name of the route. */
const char *http_param(const struct http_request *request, const char *name);
const char *http_query(const struct http_request *request, const char *name);     /* NULL: not given */
const char *http_header_of(const struct http_request *request, const char *name); /* NULL: not given */
const char *http_body(const struct http_request *request, size_t *ret_bytes);

/* The name in the client's certificate (ckpt/wire/identity.h), which has been verified; NULL: it brought none that counts,
 * and ret_why, if it is not NULL, says so. */
const char *http_peer(const struct http_request *request, const char **ret_why);
/* The serial number of that certificate, as serial_format writes it; empty where http_peer is NULL. */
const char *http_peer_serial(const struct http_request *request);
/* host:port of the client's end. */
void http_peer_address(const struct http_request *request, char ret_address[ADDRESS_MAX + 1]);
/* "GET", and the path without its query; for log lines. */
const char *http_method(const struct http_request *request);
const char *http_path(const struct http_request *request);

/* Who waits wants to know that its client has hung up: `gone` should answer at once, to whoever may still be there. */
typedef void http_gone(void *arg, struct http_request *request);
void http_on_gone(struct http_request *request, http_gone *gone, void *arg);

void http_header(struct http_request *request, const char *name, const char *value); /* of the answer */

/* `text` is heap memory and is taken over. */
void http_reply(struct http_request *request, unsigned code, const char *type, char *text);
void http_reply_bytes(struct http_request *request, unsigned code, const char *type, char *data, size_t bytes);
/* Takes a reference over. */
void http_reply_json(struct http_request *request, json_t *json);
void http_reply_noun(struct http_request *request, const struct codec *codec, const void *noun, unsigned flags);
/* 307: ask `base` ("https://host:port"), in the same words. Body: an error UNAVAILABLE with these words, and "leader": base.
 */
void http_redirect(struct http_request *request, const char *base, const char *format, ...) PRINTF_LIKE(3, 4);
/* {"error": …} with the code that belongs to the status. */
void http_reply_err(struct http_request *request, const struct err *err);
unsigned http_code(enum tide_status status);

/* The request as one integer of a query; absent: `otherwise`. Errors: INVALID. */
MUST_USE enum tide_status http_query_u64(const struct http_request *request, const char *name, uint64_t otherwise,
                                         uint64_t *ret_value, struct err *err);

#endif
