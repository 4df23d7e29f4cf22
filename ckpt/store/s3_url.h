/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_S3_URL_H
#define CKPT_STORE_S3_URL_H

/* The address of a place in an object store, and the keys to it. Pure: the environment is handed in.
 *
 *     s3://BUCKET[/PREFIX][?endpoint=http://HOST:PORT][&region=R][&style=path|virtual][&ca=FILE][&timeout=SECONDS]
 *                 [&payload=signed|unsigned]
 *
 * No secret is ever part of it: it is shown in lists, kept in the coordinator's log, and sent to every agent. */

#include <stddef.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"

#define S3_SCHEME "s3://"
#define S3_BUCKET_MAX 63
#define S3_REGION_MAX 63
#define S3_HOST_MAX 255
#define S3_TIMEOUT_S 60u
#define S3_TIMEOUT_S_MAX 3600u
#define S3_ACCESS_MAX 128
#define S3_SECRET_MAX 255
#define S3_TOKEN_MAX 4095

struct s3_url {
    char bucket[S3_BUCKET_MAX + 1];
    char prefix[TIDE_PATH_MAX + 1]; /* "" or a key and '/' */
    char region[S3_REGION_MAX + 1];
    char host[S3_HOST_MAX + 1];   /* with the port when it is not the scheme's, and in virtual style the bucket before it */
    char base[S3_BUCKET_MAX + 3]; /* "/" or "/BUCKET/": what stands before the prefix in a path */
    char ca[TIDE_PATH_MAX + 1];   /* a PEM file; "": the system's */
    int tls;
    int payload_signed; /* the SHA-256 of what is sent is part of the signature: left out, where nothing else guards it */
    unsigned timeout_s; /* one call, with all its repetitions */
};

struct s3_keys {
    char access[S3_ACCESS_MAX + 1];
    char secret[S3_SECRET_MAX + 1];
    char token[S3_TOKEN_MAX + 1]; /* "": none */
};

/* Values of variables of the environment; NULL: not set. */
typedef const char *(*s3_env)(const char *name);

int s3_url_is(const char *url);
/* What the address leaves out is taken from AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION, AWS_DEFAULT_REGION and
 * AWS_CA_BUNDLE; env may be NULL, to look at the address alone. Path style is used with an endpoint, else virtual.
 * Errors: INVALID; the text says which part, and what to write. */
MUST_USE enum tide_status s3_url_parse(const char *url, s3_env env, struct s3_url *ret_url, struct err *err);

/* token NULL: none. Errors: INVALID (no key has such bytes, or so many). */
MUST_USE enum tide_status s3_keys_make(const char *access, const char *secret, const char *token, struct s3_keys *ret_keys,
                                       struct err *err);
/* AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN. Errors: NOT_FOUND (neither key is set), INVALID. */
MUST_USE enum tide_status s3_keys_env(s3_env env, struct s3_keys *ret_keys, struct err *err);
/* The profile's keys in the text of a shared credentials file. Errors: NOT_FOUND, INVALID. */
MUST_USE enum tide_status s3_keys_parse(const char *text, const char *profile, struct s3_keys *ret_keys, struct err *err);

#endif
