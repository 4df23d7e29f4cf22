/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_CHUNK_H
#define CKPT_FORMAT_CHUNK_H

/* Where a chunk of a shard is stored and what its raw bytes must hash to: one line of a rank manifest's chunk table. */

#include <stdint.h>

#include "ckpt/base/digest.h"
#include "ckpt/base/err.h"

enum chunk_codec {
    CHUNK_ZERO,   /* all bytes are 0; nothing is stored */
    CHUNK_RAW,    /* as it is */
    CHUNK_ZSTD,   /* one zstd frame */
    CHUNK_REPEAT, /* 8 bytes, again and again; since version 2 */
    CHUNK_PLANES, /* byte planes, each for itself (segment.h); since version 2 */
    CHUNK_CODECS
};

struct chunk {
    enum chunk_codec codec;
    uint32_t pack;   /* index into the rank manifest's packs */
    uint64_t offset; /* in the pack */
    uint32_t length; /* bytes in the pack */
    struct digest digest; /* of the raw bytes */
};

#define CHUNK_TEXT_MAX 96
#define CHUNK_PATTERN_BYTES 8u /* what CHUNK_REPEAT stores */

/* "0 <digest>", "r <digest> <pack> <offset> <length>", or the same with "z", "8" or "p". */
void chunk_print(const struct chunk *chunk, char to[CHUNK_TEXT_MAX]);
/* Errors: INVALID. */
MUST_USE enum tide_status chunk_parse(const char *text, struct chunk *ret_chunk, struct err *err);

#endif
