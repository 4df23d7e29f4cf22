/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_PLANES_H
#define CKPT_FORMAT_PLANES_H

/* Numbers taken apart: plane p holds byte p of each, so that exponents, which are alike, lie beside exponents and not
 * between mantissas, which are noise. */

#include <stddef.h>

#define PLANES_MAX 8u

/* Can numbers of so many bytes be taken apart? 1, 2, 4, 8. */
int planes_width_valid(unsigned width);

/* `count` numbers of `width` bytes into as many planes of `count` bytes, and back. Nothing needs to be aligned; no plane may
 * overlap another or the numbers. */
void planes_split(const void *from, size_t count, unsigned width, unsigned char *const to[]);
void planes_merge(const unsigned char *const from[], size_t count, unsigned width, void *to);

#endif
