/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_SECURE_SECRET_H
#define CKPT_SECURE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "ckpt/base/err.h"

#define SECRET_PREFIX "tide_" /* so that a secret that got where it should not be is recognized there */
#define SECRET_CHARS 69       /* the prefix and 256 random bits in hex */
#define SHA256_HEX_CHARS 64

/* 256 bits of the kernel's randomness behind the prefix. Errors: IO. */
MUST_USE enum tide_status secret_new(char ret_secret[SECRET_CHARS + 1], struct err *err);
/* Could this be one of secret_new? */
bool secret_plausible(const char *text);
/* In time that depends on `bytes` alone. */
bool secret_equal(const void *a, const void *b, size_t bytes);
/* Zeros that no optimizer takes out. */
void secret_wipe(void *data, size_t bytes);

void sha256_hex(const void *data, size_t bytes, char ret_hex[SHA256_HEX_CHARS + 1]);

#endif
