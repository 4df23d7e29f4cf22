/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_S3_IMDS_H
#define CKPT_STORE_S3_IMDS_H

/* Keys of the role that a cloud host has, from its metadata service (version 2: a token first). Blocks, for IMDS_ALL_MS at
 * most. */

#include <stdint.h>

#include "ckpt/store/s3_url.h"

#define IMDS_ALL_MS 5000u
#define IMDS_AHEAD_S 300u /* keys are renewed so long before they expire */

/* The service is at AWS_EC2_METADATA_SERVICE_ENDPOINT, else where clouds have it. *ret_expires_s: since 1970; they are to be
 * asked for again IMDS_AHEAD_S before. Errors: NOT_FOUND (no such service here, AWS_EC2_METADATA_DISABLED, or the host has no
 * role), UNAVAILABLE (it answers something else). */
MUST_USE enum tide_status s3_imds_keys(s3_env env, struct s3_keys *ret_keys, uint64_t *ret_expires_s, struct err *err);

/* The service's document. Pure. Errors: INVALID. */
MUST_USE enum tide_status s3_imds_parse(const char *json, size_t bytes, struct s3_keys *ret_keys, uint64_t *ret_expires_s,
                                        struct err *err);

#endif
