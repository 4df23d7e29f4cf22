/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_STORE_S3_H
#define CKPT_STORE_STORE_S3_H

/* A bucket of an S3 server as a store: an object is what a key below the address's prefix names. Written once by
 * If-None-Match, so that of two writers one wins. Keys come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
 * AWS_SESSION_TOKEN), else from the profile AWS_PROFILE of ~/.aws/credentials (AWS_SHARED_CREDENTIALS_FILE), else from the
 * host's metadata service (s3_imds.h). */

#include "ckpt/store/store.h"

/* Touches nothing yet. Errors: INVALID (the address, or the keys), DENIED (there are no keys), NOMEM, IO. */
MUST_USE enum tide_status store_s3_open(const char *url, struct store **ret_store, struct err *err);

/* It was proved: until then every call has a short deadline, from now on the address's. */
void store_s3_proved(struct store *store);

#endif
