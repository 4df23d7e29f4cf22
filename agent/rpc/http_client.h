/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_HTTP_CLIENT_H
#define AGENT_RPC_HTTP_CLIENT_H

/* HTTP calls on the libuv loop: curl's multi interface driven by polls and one timer. */

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "ckpt/base/err.h"

/* What https:// coordinators are shown, and by which CA they are known. NULL: none, and the system's. */
struct http_creds {
    const char *ca_pem;
    const char *cert_file, *key_file;
    const char *token;
};

struct http_client {
    const struct http_creds *creds; /* looked at for each call; NULL: none */
    uv_loop_t *loop;
    CURLM *multi;
    uv_timer_t timer;
    struct http_flight *first; /* calls under way */
    bool closing;
};

/* creds must outlive the client; NULL: none. */
MUST_USE enum tide_status http_client_init(struct http_client *client, uv_loop_t *loop, const struct http_creds *creds,
                                           struct err *err);
/* Calls under way end without a word; then the loop must run once more to close the handles. */
void http_client_close(struct http_client *client);

struct http_answer {
    long status;       /* 0: no answer came; `error` says why */
    const char *body;  /* NUL behind the last byte */
    size_t bytes;
    const char *error;
    const char *url;   /* that answered: another than that of the call when it redirected */
    const char *cluster, *epoch; /* headers Tidemark-Cluster and Tidemark-Epoch; empty: none */
};

struct http_call {
    const char *method; /* "GET" or "POST" */
    const char *url;
    const char *body;   /* POST; copied */
    uint64_t timeout_ms;
    bool unverified; /* of whoever answers; shows nobody anything */
    size_t answer_bytes_max;
    void (*done)(void *context, const struct http_answer *answer);
    void *context;
};

/* Follows redirects (307: the leader is elsewhere). `done` is called exactly once, never from within this call; not at all
 * after http_client_close. The strings are copied. */
void http_client_start(struct http_client *client, const struct http_call *call);
/* The calls under way with that `context` and `done` end without a word. Not from within a `done`. */
void http_client_cancel(struct http_client *client, void (*done)(void *context, const struct http_answer *answer), void *context);

#endif
