/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_MANIFEST_H
#define CKPT_FORMAT_MANIFEST_H

/* The two JSON objects that describe a committed checkpoint (README.md beside this file). Their bytes depend on what was
 * recorded alone, so that writing them again gives the same object. */

#include "ckpt/format/box.h"
#include "ckpt/format/chunk.h"
#include "ckpt/format/keys.h"
#include "ckpt/format/layout.h"
#include "ckpt/wire/codec.h"

#define FORMAT_VERSION 4u /* the newest that is read */
#define RANK_PACKS_MAX (1u << 17)
#define MANIFEST_BYTES_MAX ((size_t)128 << 20) /* of either object */
#define SHAPE_TEXT_MAX (TIDE_DIMS_MAX * 21)

struct region_entry {
    char name[TIDE_NAME_MAX + 1];
    unsigned memory; /* enum tide_memory */
    unsigned dtype;  /* enum tide_dtype */
    char shape[SHAPE_TEXT_MAX + 1]; /* "2x3x4"; empty: no dimensions */
    uint64_t offset; /* in the shard */
    uint64_t bytes;
    unsigned kind;                  /* enum region_kind */
    char whole[SHAPE_TEXT_MAX + 1]; /* of a REGION_SHARD, like `shape`: of the tensor that it is a part of, and where it begins there */
    char at[SHAPE_TEXT_MAX + 1];
};

struct pack_entry {
    char key[TIDE_PATH_MAX + 1];
    uint64_t bytes;
};

/* One rank's shard: everything in its slot. */
struct rank_manifest {
    uint32_t version;
    char job[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];
    uint64_t cut, generation;
    uint32_t attempt;
    uint32_t rank, world_size;
    uint64_t step;
    uint64_t collectives;
    LIST_OF(struct region_entry) regions;
    uint64_t data_bytes;
    uint32_t chunk_bytes;
    char root[DIGEST_HEX_CHARS + 1]; /* of the slot, as its .sum file has it */
    LIST_OF(struct pack_entry) packs; /* its own, in order, and those of earlier cuts or other ranks that it refers to */
    struct strlist chunks; /* chunk_print, in order */
};

struct shard_entry {
    uint32_t rank;
    char key[TIDE_PATH_MAX + 1];       /* of the rank manifest */
    char digest[DIGEST_HEX_CHARS + 1]; /* of that object */
    uint64_t raw_bytes, stored_bytes;
};

struct manifest {
    uint32_t version;
    char job[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];
    uint64_t cut, generation;
    uint64_t step;
    uint32_t world_size;
    LIST_OF(struct shard_entry) shards; /* by rank, all of them */
};

extern const struct codec region_entry_codec, pack_entry_codec, rank_manifest_codec, shard_entry_codec, manifest_codec;

/* Decode and judge. Errors: VERSION (newer than this program), CORRUPT (anything else that is wrong; names it). */
MUST_USE enum tide_status rank_manifest_parse(const char *text, size_t bytes, struct rank_manifest *ret_manifest,
                                              struct err *err);
MUST_USE enum tide_status manifest_parse(const char *text, size_t bytes, struct manifest *ret_manifest, struct err *err);
/* The checks alone. Errors: CORRUPT. */
MUST_USE enum tide_status rank_manifest_check(const struct rank_manifest *manifest, struct err *err);
MUST_USE enum tide_status manifest_check(const struct manifest *manifest, struct err *err);
/* May a chunk that has something stored and `raw` bytes be stored in so many, by its codec? */
int chunk_fits(const struct chunk *chunk, uint32_t raw);

struct cut_name rank_manifest_name(const struct rank_manifest *manifest);
struct cut_name manifest_name(const struct manifest *manifest);

void shape_print(unsigned ndim, const uint64_t *shape, char to[SHAPE_TEXT_MAX + 1]);
/* Version to write: the oldest that has all that is in it. Of a COMMIT always FORMAT_VERSION_WHOLE. */
#define FORMAT_VERSION_WHOLE 3u
uint32_t rank_manifest_version(const struct rank_manifest *manifest);

/* The box of a region of kind REGION_SHARD. Errors: CORRUPT (names what is wrong; not the region). */
MUST_USE enum tide_status region_box(const struct region_entry *region, struct box *ret_box, struct err *err);

/* Nonzero unless it is a shape of at most TIDE_DIMS_MAX dimensions. */
int shape_parse(const char *text, unsigned *ret_ndim, uint64_t ret_shape[TIDE_DIMS_MAX]);

#endif
