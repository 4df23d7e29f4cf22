/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_HTTP_INNER_H
#define COORDINATOR_HTTP_INNER_H

#include <microhttpd.h>
#include <sys/socket.h>

#include "coordinator/http/http.h"

#define HTTP_ANSWER_HEADERS_MAX 8u

struct connection {
    struct http *http;
    struct MHD_Connection *mhd;
    int fd;
    uint64_t deadline_ns; /* of the phase it is in; 0: none */
    bool peer_known;      /* the client's certificate has been looked at */
    char *peer, *peer_serial; /* its name and number; on the heap, for most of ten thousand may have none; NULL: none */
    const char *peer_fault;   /* why there is none; static storage */
    struct http_request *request;
    bool end_awaited; /* it is in `ends` */
    struct connection *next, **link;
};

struct http {
    struct http_options options;
    char address[ADDRESS_MAX + 1];
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_poll_t end; /* of `ends`: an epoll set of parked connections, for their clients' hanging up alone */
    int ends;
    uv_timer_t turn; /* when libmicrohttpd wants to be called without an event */
    uv_timer_t sweep;
    unsigned handles; /* still open */
    unsigned owed;    /* MHD_runs that a resumed connection still needs */
    bool running;     /* inside MHD_run */
    struct connection *connections;
    size_t body_bytes; /* of all requests */
};

struct answer_header {
    const char *name;
    char *value; /* heap */
};

/* Ten thousand of them may be parked: what is long is on the heap, as long as it is. */
struct http_request {
    struct http *http;
    struct connection *connection;
    const struct http_route *route; /* NULL: none fits */
    const char *method;             /* of libmicrohttpd; lives as long as the request */
    struct err *refusal;            /* set before the body came: answered when it has gone by; heap */
    unsigned refusal_code;
    char *path;                          /* heap */
    char *allow;                         /* methods the path knows, when the method does not fit; heap; NULL: none */
    const char *params[HTTP_PARAMS_MAX]; /* into `segments` */
    char *segments;                      /* the path, cut; heap; NULL: the route has no words to fill */
    char *body;
    size_t body_bytes, body_room;
    size_t passed_over; /* bytes of a body that is too large */
    bool parked;
    bool elsewhere; /* options.elsewhere answers */
    struct MHD_Response *answer;
    unsigned code;
    struct answer_header headers[HTTP_ANSWER_HEADERS_MAX];
    size_t header_count;
    char *location; /* of a redirect; NULL: none */
    http_gone *gone;
    void *gone_arg;
};

/* listen.c: a listening socket, and the address it really has. */
MUST_USE enum tide_status listen_open(const char *address, int *ret_fd, char ret_bound[ADDRESS_MAX + 1], struct err *err);

/* tls.c: the name in the client's verified certificate, once per connection. */
void peer_look(struct connection *connection);
/* listen.c: an address as "host:port" or "[v6]:port". */
MUST_USE enum tide_status address_text(const struct sockaddr *address, socklen_t bytes, char ret_text[ADDRESS_MAX + 1],
                                       struct err *err);

/* request.c */
void route_find(struct http_request *request, const char *method);
void request_refuse(struct http_request *request, unsigned code, enum tide_status status, const char *format, ...)
    PRINTF_LIKE(4, 5);
void request_free(struct http_request *request);

/* http.c: an answer is there; if the connection is parked, wake it. */
void request_answered(struct http_request *request);
/* http.c: call request->gone when the client hangs up, until the request is answered. */
void request_await_end(struct http_request *request);

#endif
