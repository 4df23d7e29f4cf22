/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_S3_CALL_H
#define CKPT_STORE_S3_CALL_H

/* One request to an S3 server, signed, and repeated until it is answered or its time is up. Blocks; threads share a client,
 * whose connections are kept for the next request. */

#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"
#include "ckpt/store/s3_url.h"
#include "ckpt/store/s3_xml.h"
#include "ckpt/store/sigv4.h"

#define S3_CONNECTIONS_MAX 16u

struct s3_client;

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
    uint64_t length;       /* Content-Length */
    int unsure;            /* an earlier try ended without an answer that counts: it may have been done */
};

/* Copies both. Errors: NOMEM, IO. */
MUST_USE enum tide_status s3_client_create(const struct s3_url *url, const struct s3_keys *keys,
                                           struct s3_client **ret_client, struct err *err);
void s3_client_free(struct s3_client *client); /* NULL is legal; no request may be running */

/* Seconds from here on for one request with all its repetitions; each MiB of a body or a range gives one more. */
void s3_client_timeout(struct s3_client *client, unsigned seconds);

/* OK: there is an answer, which may be a refusal. Errors: UNAVAILABLE (none in time; whether it was done is not known),
 * DENIED (the server's certificate is not trusted), LIMIT, NOMEM, IO. */
MUST_USE enum tide_status s3_call(struct s3_client *client, const struct s3_request *request, struct s3_answer *ret_answer,
                                  struct err *err);

#endif
