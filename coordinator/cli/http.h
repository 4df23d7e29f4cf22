/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_HTTP_H
#define COORDINATOR_CLI_HTTP_H

/* HTTP requests, several at a time, on one thread: libcurl's multi interface with limits on everything. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"

#define HTTP_BODY_MAX (1u << 30) /* a backup */
#define HTTP_CONNECT_MS 3000
#define HTTP_REDIRECTS_MAX 5
#define HTTP_URL_MAX 4096
#define HTTP_KEY_MAX 64
#define HTTP_DIGEST_CHARS 64 /* SHA-256 in hex */

struct http;

/* What is shown to https:// URLs, and only to them. Paths and texts; NULL: none. Must outlive the http. */
struct http_creds {
    const char *ca_file; /* NULL: those the system trusts */
    const char *cert_file, *key_file;
    const char *token;
};

/* A request and, once `done`, its answer. Caller-owned; must stay in place while it runs. */
struct http_call {
    const char *method; /* "GET"; static */
    char url[HTTP_URL_MAX];     /* once done: that answered, after redirects */
    const char *body;           /* JSON, or NULL; must live as long as the call */
    char key[HTTP_KEY_MAX + 1]; /* Idempotency-Key; empty: none */
    const char *bearer;         /* shown there instead of the credentials, which are for coordinators; NULL: those */
    const char *pin;            /* of the key that must be shown there (ckpt/secure/port_key.h), whatever the certificate; NULL: none */
    uint64_t timeout_ms;        /* of the whole request */

    bool done;
    bool reached;   /* an HTTP answer came; else `error` says why not */
    bool refused;   /* nobody listens there */
    bool untrusted; /* its certificate is not to be trusted, or ours cannot be used: asking again changes nothing */
    long status;
    char *answer; /* owned by the call; NUL behind the last byte */
    size_t answer_bytes;
    char error[256];
    uint64_t log_offset, log_next;      /* headers Tidemark-Offset and Tidemark-Next */
    bool log_ended;                     /* header Tidemark-Ended: true */
    char cluster[TIDE_UID_CHARS + 1];   /* header Tidemark-Cluster */
    char digest[HTTP_DIGEST_CHARS + 1]; /* header Tidemark-Sha256 */
    uint64_t index;                     /* header Tidemark-Index */
    uint64_t epoch;                     /* header Tidemark-Epoch; EPOCH_UNKNOWN: none */

    void *easy, *headers; /* internal */
};

/* `creds` may be NULL. NULL when libcurl does not start. */
struct http *http_create(const struct http_creds *creds);
void http_free(struct http *http); /* all its calls must have been released */

/* Errors: IO when curl has no more handles. */
MUST_USE enum tide_status http_start(struct http *http, struct http_call *call, struct err *err);
/* Let requests proceed until one is done, `wait_ms` are over or a signal came in (signals.h). */
void http_wait(struct http *http, int wait_ms);
/* Cancels it if it is still running and frees the answer; it may be started again. */
void http_release(struct http *http, struct http_call *call);

#endif
