/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_RESHARD_H
#define CKPT_FORMAT_RESHARD_H

/* What a rank of another world size is made of: which bytes of which ranks' shards. Arithmetic on region tables alone. */

#include "ckpt/format/box.h"
#include "ckpt/format/manifest.h"

#define RESHARD_PIECES_MAX (UINT32_C(1) << 20)

/* A rank of the checkpoint; borrowed from its manifest, which was checked. */
struct reshard_rank {
    const struct region_entry *regions;
    size_t count;
};

/* What a region of one rank gives to one of the new rank: a box, which is `extent[0] x … x extent[ndim - 1]` runs of run_bytes. */
struct reshard_piece {
    uint32_t rank; /* of the checkpoint */
    unsigned ndim;
    uint64_t from, to; /* where the first run begins, in that rank's shard and in the new one */
    uint64_t run_bytes;
    uint64_t extent[TIDE_DIMS_MAX], from_stride[TIDE_DIMS_MAX], to_stride[TIDE_DIMS_MAX];
};

struct reshard_plan {
    struct reshard_piece *items; /* by rank, then by `from` */
    size_t count;
};

/* Rank `rank` of the new world, whose regions lie where `to` says. Every byte of one that is replicated or a shard is given once, of
 * one that is droppable none. Where several ranks have the same box, or all the same region, the new ranks take turns.
 * Errors: MISMATCH (a region that is no part of a whole, a gap, an overlap, what ranks say of one region is not the same, messages
 * that were under way), LIMIT, NOMEM. */
MUST_USE enum tide_status reshard_plan_make(const struct reshard_rank *from, size_t from_count, uint32_t rank,
                                            const struct region_entry *to, size_t to_count, struct reshard_plan *ret_plan,
                                            struct err *err);
void reshard_plan_release(struct reshard_plan *plan);

struct reshard_run {
    uint64_t from, to, bytes;
};

/* The runs of a piece, in the order of both sides. */
struct reshard_cursor {
    const struct reshard_piece *piece; /* NULL: at the end */
    uint64_t index[TIDE_DIMS_MAX];
};
void reshard_begin(const struct reshard_piece *piece, struct reshard_cursor *ret_cursor);
/* … from the first on that ends behind `from`, in that rank's shard. */
void reshard_seek(const struct reshard_piece *piece, uint64_t from, struct reshard_cursor *ret_cursor);
/* Where the last run ends, in that rank's shard. */
uint64_t reshard_end(const struct reshard_piece *piece);
/* Nonzero unless there is none left. */
int reshard_next(struct reshard_cursor *cursor, struct reshard_run *ret_run);

#endif
