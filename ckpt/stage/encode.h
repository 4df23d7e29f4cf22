/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_ENCODE_H
#define CKPT_STAGE_ENCODE_H

/* One chunk at a time between its raw and its stored form. */

#include "ckpt/format/chunk.h"

struct encoder;
MUST_USE enum tide_status encoder_create(struct encoder **ret_encoder, struct err *err);
void encoder_free(struct encoder *encoder); /* NULL is legal */

/* Store `raw` at `to`, which has room for raw_bytes: zstd where that saves enough, else as it is, nothing when it is all
 * zero. Same bytes in, same bytes out. */
void encode_chunk(struct encoder *encoder, const void *raw, uint32_t raw_bytes, void *to, enum chunk_codec *ret_codec,
                  uint32_t *ret_length);

/* The reverse: exactly raw_bytes into `to`, not yet compared with the digest. Errors: CORRUPT. */
MUST_USE enum tide_status decode_chunk(struct encoder *encoder, enum chunk_codec codec, const void *from, uint32_t length,
                                       void *to, uint32_t raw_bytes, struct err *err);

#endif
