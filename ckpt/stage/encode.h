/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_ENCODE_H
#define CKPT_STAGE_ENCODE_H

/* One chunk at a time between its raw and its stored form. Blocks; all memory is taken by encoder_create. */

#include "ckpt/format/chunk.h"
#include "ckpt/format/segment.h"
#include "ckpt/stage/effort.h"

struct encoder;
MUST_USE enum tide_status encoder_create(struct encoder **ret_encoder, struct err *err);
/* One that decodes only, for a sixth of the memory. */
MUST_USE enum tide_status decoder_create(struct encoder **ret_decoder, struct err *err);
void encoder_free(struct encoder *encoder); /* NULL is legal */

/* For the chunks to come; EFFORT_FAST until it is said otherwise. Whatever it is, what is stored can be decoded by all. */
void encoder_effort(struct encoder *encoder, enum effort_level level);

/* Store `raw`, of at most FORMAT_CHUNK_BYTES, at `to`, which has room for raw_bytes: nothing when it is all zero, 8 bytes
 * when these are repeated, else by planes as `segments` has them (segments_plan), or as it is where that does not save
 * enough. Methods and lengths in `segments` are written over. Same bytes, segments and effort in,
 * same bytes out. With EFFORT_RAW `raw` may be `to`, which saves copying what stays as it is. */
void encode_chunk(struct encoder *encoder, const void *raw, uint32_t raw_bytes, struct segments *segments, void *to,
                  enum chunk_codec *ret_codec, uint32_t *ret_length);

/* The reverse: exactly raw_bytes, at most FORMAT_CHUNK_BYTES, into `to`, not yet compared with the digest. Whatever `from`
 * holds, nothing outside of it is read and nothing outside of `to` written. Errors: CORRUPT; `to` may then hold anything. */
MUST_USE enum tide_status decode_chunk(struct encoder *encoder, enum chunk_codec codec, const void *from, uint32_t length,
                                       void *to, uint32_t raw_bytes, struct err *err);

#endif
