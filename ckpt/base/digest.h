/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_DIGEST_H
#define CKPT_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"

/* XXH3-128 of some bytes, written in canonical (big-endian) hex: what names and checks every chunk. It finds accidents,
 * not adversaries. */
#define DIGEST_HEX_CHARS 32

struct digest {
    uint64_t high, low;
};

struct digest digest_of(const void *data, size_t bytes);

/* The same of bytes that come piece by piece: create, add each, and the digest of all since it was created or restarted. */
struct digest_run;
MUST_USE struct digest_run *digest_run_create(void); /* NULL: no memory */
void digest_run_free(struct digest_run *run);        /* NULL is legal */
void digest_run_restart(struct digest_run *run);
void digest_run_add(struct digest_run *run, const void *data, size_t bytes);
struct digest digest_run_end(const struct digest_run *run);
int digest_equal(struct digest a, struct digest b);
void digest_hex(struct digest digest, char to[DIGEST_HEX_CHARS + 1]);
/* Nonzero unless `hex` is exactly DIGEST_HEX_CHARS lower-case hex digits. */
int digest_parse(const char *hex, struct digest *ret_digest);

#endif
