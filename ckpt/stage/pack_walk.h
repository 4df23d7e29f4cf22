/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_PACK_WALK_H
#define CKPT_STAGE_PACK_WALK_H

/* Reads a shard pack after pack, chunks in the order they lie there, and of packs that are wanted whole every byte: those between and
 * behind the chunks too, each once. The digest of a whole pack must begin as its name says. Memory is that of a shard_reader, and a place
 * for each chunk. */

#include "ckpt/stage/shard.h"

struct walk_place {
    uint64_t index; /* of the chunk */
    uint64_t offset;
    uint32_t pack, length;
};

struct pack_walk {
    struct shard_reader reader; /* first: its plan finds the rest */
    struct walk_place *places;  /* a span's first and end count these */
    uint64_t count;
    unsigned char *whole; /* of each pack: nonzero: every byte */
    struct digest_run *run;
    /* What is planned: */
    uint64_t next; /* place */
    uint32_t pack;
    uint64_t to; /* in that pack */
    /* What has been got: */
    uint32_t now;            /* the pack */
    uint64_t taken;          /* bytes that are in the digest */
    enum tide_status status; /* of the first span of it that failed */
    struct err why;
};

/* Errors: NOMEM. pack_walk_release is called all the same. */
MUST_USE enum tide_status pack_walk_init(struct pack_walk *walk, struct store *store, const struct rank_manifest *manifest,
                                         struct err *err);
void pack_walk_release(struct pack_walk *walk);

/* Before the first span is asked for: a chunk that is to be looked at, of which something is stored, once; a pack whose name has a
 * digest. */
void pack_walk_add(struct pack_walk *walk, uint64_t index, const struct chunk *chunk);
void pack_walk_whole(struct pack_walk *walk, size_t pack);

/* As shard_span_next. */
struct span *pack_walk_next(struct pack_walk *walk, struct span *done);
/* The digest of a pack that is read whole goes on up to `to` of the pack, in this span: best just before that is decoded. */
void pack_walk_take(struct pack_walk *walk, const struct span *span, uint64_t to);
/* When the chunks of the span have been looked at. Nonzero: it was the last of a pack that is read whole, and ret_status says what came of
 * that: CORRUPT (every byte came twice, and twice the digest was another), or what the first span that failed said. */
int pack_walk_end(struct pack_walk *walk, struct span *span, enum tide_status *ret_status, struct err *err);

#endif
