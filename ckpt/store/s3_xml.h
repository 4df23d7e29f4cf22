/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_S3_XML_H
#define CKPT_STORE_S3_XML_H

/* The two documents an S3 server answers that we read: an error, and a page of a list. Pure; expat reads, documents with a
 * DOCTYPE are refused, and everything taken from one is bounded. */

#include <stddef.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"
#include "ckpt/base/strlist.h"

#define S3_CODE_MAX 63
#define S3_MESSAGE_MAX 255
#define S3_LIST_TOKEN_MAX 1023

struct s3_error {
    char code[S3_CODE_MAX + 1];       /* "NoSuchKey"; "" when the document holds none */
    char message[S3_MESSAGE_MAX + 1]; /* printable ASCII */
};

/* Never fails: what is no error document leaves both empty. */
void s3_error_parse(const char *xml, size_t bytes, struct s3_error *ret_error);

struct s3_page {
    struct strlist keys; /* as they are in the bucket, decoded; those longer than 2 * TIDE_PATH_MAX are left out */
    int truncated;
    char next[S3_LIST_TOKEN_MAX + 1]; /* the continuation token; not empty when truncated */
};

/* The answer to list-type=2&encoding-type=url. The caller releases the keys. Errors: CORRUPT. */
MUST_USE enum tide_status s3_page_parse(const char *xml, size_t bytes, struct s3_page *ret_page, struct err *err);

#endif
