/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_LAYOUT_H
#define CKPT_FORMAT_LAYOUT_H

/* How a rank's shard is laid out, in memory as in the store: regions one behind the other, cut into chunks. */

#include <stdint.h>
#include <string.h>
#include <tidemark/types.h>

#define FORMAT_CHUNK_BYTES (1u << 20) /* raw bytes of every chunk but the last */
#define FORMAT_REGION_ALIGN 64u       /* regions begin at multiples of it */
#define REGION_RESERVED_PREFIX "tidemark." /* of names of regions that are not a program's */
#define FORMAT_PACK_BYTES_MAX (32u << 20)
#define RANK_CHUNKS_MAX (1u << 20)    /* 1 TiB a rank */
#define RANK_BYTES_MAX ((uint64_t)RANK_CHUNKS_MAX * FORMAT_CHUNK_BYTES)

static inline uint64_t chunks_of(uint64_t data_bytes)
{
    return data_bytes / FORMAT_CHUNK_BYTES + (data_bytes % FORMAT_CHUNK_BYTES != 0);
}

/* Raw bytes of chunk `index`, which must exist. */
static inline uint32_t chunk_raw_bytes(uint64_t data_bytes, uint64_t index)
{
    uint64_t left = data_bytes - index * FORMAT_CHUNK_BYTES;
    return left < FORMAT_CHUNK_BYTES ? (uint32_t)left : FORMAT_CHUNK_BYTES;
}

/* Where the region behind one of `bytes` bytes at `offset` begins; above RANK_BYTES_MAX when that does not fit. */
static inline uint64_t region_end_aligned(uint64_t offset, uint64_t bytes)
{
    if (bytes > RANK_BYTES_MAX || offset > RANK_BYTES_MAX - bytes)
        return UINT64_MAX;
    return (offset + bytes + FORMAT_REGION_ALIGN - 1) / FORMAT_REGION_ALIGN * FORMAT_REGION_ALIGN;
}

/* 1 to TIDE_NAME_MAX printable ASCII characters: unlike other names these are never part of a path. */
static inline int region_name_valid(const char *name)
{
    size_t n = strnlen(name, TIDE_NAME_MAX + 1);
    if (n == 0 || n > TIDE_NAME_MAX)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (name[i] < 0x20 || name[i] > 0x7e)
            return 0;
    return 1;
}

#endif
