/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_S3_TRY_H
#define CKPT_STORE_S3_TRY_H

/* One try of a request: signed, on its way in a libcurl handle, judged. What s3_call.c repeats. */

#include <curl/curl.h>

#include "ckpt/store/backoff.h"
#include "ckpt/store/s3_call.h"

#define S3_PATH_BYTES (3 * (2 * TIDE_PATH_MAX + S3_BUCKET_MAX) + 4) /* all of it encoded */
#define S3_QUERY_BYTES 8192
#define S3_URL_BYTES (S3_PATH_BYTES + S3_QUERY_BYTES + S3_HOST_MAX + 16)
#define S3_ERROR_BODY_MAX 16384

struct s3_try {
    const struct s3_url *url;
    const struct s3_keys *keys;
    const struct s3_request *request;
    CURL *curl;
    struct curl_slist *headers;
    size_t sent;
    struct s3_answer answer;
    size_t error_used;
    int too_much; /* more bytes came than were asked for */
    char error_body[S3_ERROR_BODY_MAX];
    char curl_error[CURL_ERROR_SIZE];
    char path[S3_PATH_BYTES], query[S3_QUERY_BYTES], address[S3_URL_BYTES];
};

/* Sign the request as of now and tell `curl`, which is then to be performed, all of it. payload: the hash of the body, or
 * SIGV4_UNSIGNED. Errors: NOMEM, LIMIT, IO. */
MUST_USE enum tide_status s3_try_begin(struct s3_try *t, CURL *curl, const char *payload, uint64_t left_ms, struct err *err);
/* What came of it. FINAL: the status stands, and with TIDE_OK the answer. */
enum backoff_verdict s3_try_end(struct s3_try *t, CURLcode code, enum tide_status *ret_status, struct err *err);
void s3_try_release(struct s3_try *t);

#endif
