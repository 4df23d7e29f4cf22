/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_SIGV4_H
#define CKPT_STORE_SIGV4_H

/* AWS Signature Version 4, the three steps of its documentation as three functions, for services that, as S3 does, take the
 * path as it is. Pure: the time is handed in.
 *
 * libcurl can sign by itself only from 8.10 on: before, it is wrong about unsorted queries, "=" in paths and more. */

#include <stddef.h>

#include "ckpt/base/err.h"

#define SIGV4_HASH_CHARS 64
#define SIGV4_TIME_CHARS 16 /* "20130524T000000Z" */
#define SIGV4_UNSIGNED "UNSIGNED-PAYLOAD"
#define SIGV4_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" /* the hash of no bytes */
#define SIGV4_HEADERS_MAX 16

struct sigv4_pair {
    const char *name, *value;
};

struct sigv4_request {
    const char *method;
    const char *path;                 /* encoded, as it is sent */
    const char *query;                /* as sigv4_query makes it; "" for none */
    const struct sigv4_pair *headers; /* all that is to be signed; names in lower case, sorted, "host" among them */
    size_t header_count;
    const char *payload; /* hash of the body in hex, or SIGV4_UNSIGNED */
};

struct sigv4_key {
    const char *access, *secret;
    const char *region, *service;
    char time[SIGV4_TIME_CHARS + 1];
};

void sigv4_time(unsigned long long unix_seconds, char to[SIGV4_TIME_CHARS + 1]);
/* Errors of all below: LIMIT (`to` is too small), IO (libcrypto refuses; a build without SHA-256). */
MUST_USE enum tide_status sigv4_hash(const void *data, size_t bytes, char to[SIGV4_HASH_CHARS + 1], struct err *err);

/* All but A-Z a-z 0-9 - . _ ~ as %XX, and '/' too unless it is kept: for paths it is, for queries not. */
MUST_USE enum tide_status sigv4_encode(const char *text, int keep_slash, char *to, size_t size, struct err *err);
/* name=value&…, encoded and sorted by encoded name, then value. At most SIGV4_HEADERS_MAX pairs. */
MUST_USE enum tide_status sigv4_query(const struct sigv4_pair *pairs, size_t count, char *to, size_t size, struct err *err);

MUST_USE enum tide_status sigv4_canonical(const struct sigv4_request *request, char *to, size_t size, struct err *err);
MUST_USE enum tide_status sigv4_string_to_sign(const struct sigv4_key *key, const char *canonical, char *to, size_t size,
                                               struct err *err);
MUST_USE enum tide_status sigv4_signature(const struct sigv4_key *key, const char *string_to_sign,
                                          char to[SIGV4_HASH_CHARS + 1], struct err *err);

/* All three: the value of the Authorization header. */
MUST_USE enum tide_status sigv4_authorization(const struct sigv4_key *key, const struct sigv4_request *request, char *to,
                                              size_t size, struct err *err);

#endif
