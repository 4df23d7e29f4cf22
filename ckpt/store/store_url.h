/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_STORE_URL_H
#define CKPT_STORE_STORE_URL_H

/* Addresses of stores, for those who pass them on without going there. */

#include "ckpt/base/err.h"

/* Errors: INVALID, UNSUPPORTED (scheme); the text says what to write. */
MUST_USE enum tide_status store_url_check(const char *url, struct err *err);

/* The directory of "file:///dir" or of a plain absolute path; points into the address. Errors: as above. */
MUST_USE enum tide_status store_url_path(const char *url, const char **ret_path, struct err *err);

#endif
