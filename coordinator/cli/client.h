/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_CLIENT_H
#define COORDINATOR_CLI_CLIENT_H

/* The coordinators, seen as one that answers: several addresses, retries under one request id, one deadline, errors in
 * the words of the API. */

#include <jansson.h>

#include "ckpt/base/rng.h"
#include "ckpt/wire/view.h"
#include "coordinator/cli/http.h"

#define COORDINATOR_DEFAULT "http://127.0.0.1:7070"
#define COORDINATORS_MAX 16

/* An error with the next step. */
struct fault {
    struct err err;
    char hint[TIDE_TEXT_MAX + 1];
};

struct client {
    struct http *http;
    struct rng rng;
    struct strlist urls; /* "http://host:port", without a slash at the end */
    size_t preferred;    /* that answered last */
    uint64_t timeout_ms;
    uint64_t attempt_ms; /* for one answer of one of them, beside what it may hold it back */
    int signals_seen;    /* calls end early when another one has come */
    bool quiet;          /* no progress lines */
};

/* `list`: "a,b"; a missing scheme is http. creds NULL: none; they must outlive the client. Errors: INVALID. */
MUST_USE enum tide_status client_create(const char *list, const struct http_creds *creds, uint64_t timeout_ms,
                                        struct client **ret_client, struct fault *fault);
void client_free(struct client *client); /* NULL is legal */
/* From now on the one that was named first, and no other. */
void client_ask_first(struct client *client);

/* One call until it is answered or the deadline has passed. `path` begins with "/v1"; `body` may be NULL; wait_ms: how
 * long the coordinator may hold the answer back. Mutations (not GET) get a request id that all retries share.
 * ret_json: a new reference, NULL if the body was empty.
 * Errors: those of the API, with its hint; UNAVAILABLE naming all addresses; STATE when interrupted. */
MUST_USE enum tide_status client_call(struct client *client, const char *method, const char *path, const char *body,
                                      uint64_t wait_ms, json_t **ret_json, struct fault *fault);

/* A GET whose answer is not JSON and may be long, so that all of it may take whole_ms: it is in ret_call, which the caller
 * gives to http_release. Errors: as client_call. */
MUST_USE enum tide_status client_fetch(struct client *client, const char *path, uint64_t whole_ms,
                                       struct http_call *ret_call, struct fault *fault);

/* As client_call, and read the answer into a noun. ret_json may be NULL. */
MUST_USE enum tide_status client_noun(struct client *client, const char *method, const char *path, const char *body,
                                      uint64_t wait_ms, const struct codec *codec, void *ret_noun, json_t **ret_json,
                                      struct fault *fault);

/* GET /v1/jobs/{job}; after > 0: wait for a revision above it, at most wait_ms. */
MUST_USE enum tide_status client_job(struct client *client, const char *job, uint64_t after, uint64_t wait_ms,
                                     struct job_view *ret_view, json_t **ret_json, struct fault *fault);
/* A mutation without a body or with one; the outcome need not be released. */
MUST_USE enum tide_status client_outcome(struct client *client, const char *method, const char *path, const char *body,
                                         struct outcome *ret_outcome, json_t **ret_json, struct fault *fault);

/* The error in an answer that is not 2xx. */
enum tide_status fault_from_answer(const struct http_call *call, struct fault *fault);
/* Print it; returns the exit status. */
int fault_report(const struct fault *fault);
enum tide_status fault_set(struct fault *fault, enum tide_status status, const char *hint, const char *format, ...)
    PRINTF_LIKE(4, 5);

#endif
