/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_BASE64_H
#define AGENT_STEP_BASE64_H

#include <stddef.h>

/* RFC 4648 base64 with padding: how binary data of fences travels inside JSON. */

/* Heap text, mem_free it. */
char *base64_encode(const void *data, size_t bytes);

/* Nonzero when `text` is not base64; else *ret_data is heap memory (never NULL, also for 0 bytes). */
int base64_decode(const char *text, char **ret_data, size_t *ret_bytes);

#endif
