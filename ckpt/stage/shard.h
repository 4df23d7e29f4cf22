/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_SHARD_H
#define CKPT_STAGE_SHARD_H

/* What writing and reading shards share: the arena's paths, objects that are checked by their digest, packs. */

#include "ckpt/format/manifest.h"
#include "ckpt/stage/arena.h"
#include "ckpt/stage/encode.h"
#include "ckpt/store/store.h"

typedef char arena_path[TIDE_PATH_MAX + 64];

void slot_path(const char *arena, uint32_t rank, uint32_t slot, arena_path ret_path);
void slot_sum_path(const char *arena, uint32_t rank, uint32_t slot, arena_path ret_path);

/* Read, compare with the digest, parse. manifest_digest NULL or empty: not compared. Errors: CORRUPT, NOT_FOUND, VERSION. */
MUST_USE enum tide_status manifest_read(struct store *store, const char *key, const char *digest_hex_text,
                                        struct manifest *ret_manifest, struct err *err);
/* The rank manifest of a shard, which must be of that cut and rank. */
MUST_USE enum tide_status rank_manifest_read(struct store *store, const struct manifest *whole, uint32_t rank,
                                             struct rank_manifest *ret_manifest, struct err *err);

/* Reads a shard's chunks in order, one pack in memory at a time. */
struct shard_reader {
    struct store *store;
    const struct rank_manifest *manifest;
    struct encoder *encoder;
    char *pack; /* FORMAT_PACK_BYTES_MAX of room */
    uint32_t loaded; /* index of the pack in `pack` */
    int has_loaded;
};
MUST_USE enum tide_status shard_reader_init(struct shard_reader *reader, struct store *store,
                                            const struct rank_manifest *manifest, struct err *err);
void shard_reader_release(struct shard_reader *reader);
/* Chunk `index`, decoded to `to` (CHUNK_BYTES of room) and compared with its digest. Errors: CORRUPT naming object and
 * chunk, NOT_FOUND, those of the store. */
MUST_USE enum tide_status shard_read_chunk(struct shard_reader *reader, uint64_t index, void *to, struct digest *ret_digest,
                                           struct err *err);

#endif
