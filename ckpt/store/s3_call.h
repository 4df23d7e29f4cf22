/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_S3_CALL_H
#define CKPT_STORE_S3_CALL_H

/* Requests to an S3 server, each signed, and repeated until it is answered or its time is up. One thread of the client moves
 * the bytes of all of them, by libcurl's multi interface, at most S3_CONNECTIONS at once; others wait for their turn, in
 * order. Any thread may begin one and do something else meanwhile. */

#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"
#include "ckpt/store/s3_url.h"
#include "ckpt/store/s3_xml.h"
#include "ckpt/store/sigv4.h"

#define S3_CONNECTIONS 8u
#define S3_LENGTH_UNKNOWN UINT64_MAX

struct s3_client;
struct s3_call; /* a request under way */

struct s3_request {
    const char *method; /* GET, HEAD, PUT, DELETE */
    const char *key;    /* "": the bucket */
    const struct sigv4_pair *query;
    size_t query_count;
    int if_absent;
    const void *body; /* of PUT */
    size_t body_bytes;
    int ranged; /* these bytes only */
    uint64_t offset;
    size_t range_bytes;
    void *to; /* takes the body of an answer 2xx; what is more is a failure */
    size_t to_bytes;
};

struct s3_answer {
    unsigned http;         /* 200, 404 … */
    struct s3_error error; /* of an answer that is not 2xx */
    size_t used;           /* bytes in `to` */
    uint64_t length;       /* Content-Length, or S3_LENGTH_UNKNOWN */
    int unsure;            /* an earlier try ended without an answer that counts: it may have been done */
};

/* Copies both. Errors: NOMEM, IO. */
MUST_USE enum tide_status s3_client_create(const struct s3_url *url, const struct s3_keys *keys,
                                           struct s3_client **ret_client, struct err *err);
void s3_client_free(struct s3_client *client); /* NULL is legal; no request may be running */

/* Where there are keys, as long as the client is used, which may be longer than keys are good. *ret_expires_s: since 1970; untouched:
 * never. Blocks. */
typedef enum tide_status (*s3_keys_source)(struct s3_keys *ret_keys, uint64_t *ret_expires_s, struct err *err);
/* Before the first request. Keys that expire within IMDS_AHEAD_S, or that the server refuses, are looked for again there, and a request
 * that was refused is made once more if there are others. */
void s3_client_renews(struct s3_client *client, s3_keys_source source, uint64_t expires_s);
/* Nonzero: those that are used expire within IMDS_AHEAD_S, or have. */
int s3_client_expires(struct s3_client *client);
/* With other keys it might have been another answer. */
int s3_refuses_keys(const struct s3_answer *answer);

/* Seconds from here on for one request with all its repetitions; each MiB of a body or a range gives one more. */
void s3_client_timeout(struct s3_client *client, unsigned seconds);

/* Body, room and query stay the caller's, untouched, until s3_finish. Errors: NOMEM, IO. */
MUST_USE enum tide_status s3_begin(struct s3_client *client, const struct s3_request *request, struct s3_call **ret_call,
                                   struct err *err);
/* Nonzero: s3_finish would wait. */
int s3_pending(struct s3_call *call);
/* Wait for it; the call is gone afterwards. OK: there is an answer, which may be a refusal. Errors: UNAVAILABLE (none in time;
 * whether it was done is not known), DENIED (the server's certificate is not trusted), LIMIT, NOMEM, IO. */
MUST_USE enum tide_status s3_finish(struct s3_call *call, struct s3_answer *ret_answer, struct err *err);
/* Both. */
MUST_USE enum tide_status s3_ask(struct s3_client *client, const struct s3_request *request, struct s3_answer *ret_answer,
                                 struct err *err);

#endif
