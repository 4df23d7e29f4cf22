/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_BOX_H
#define CKPT_FORMAT_BOX_H

/* How a rank's region is a part of what all ranks have together. Numbers are stored and hashed: they are only added. */

#include <stdint.h>

#include "ckpt/base/err.h"
#include <tidemark/types.h>

enum region_kind {
    REGION_OWN,        /* this rank's; a checkpoint with one is restored with as many ranks as made it */
    REGION_REPLICATED, /* the same on every rank */
    REGION_SHARD,      /* a box of a tensor that all ranks have together */
    REGION_DROPPABLE,  /* this rank's, and left alone where another number of ranks is restored */
    REGION_KINDS
};

/* A part of a tensor, row-major on both sides. */
struct box {
    unsigned ndim;
    uint64_t whole[TIDE_DIMS_MAX], at[TIDE_DIMS_MAX], extent[TIDE_DIMS_MAX];
};

/* Bytes of a number of that type; 1 where there is none. */
unsigned dtype_width(unsigned dtype);

/* Errors: INVALID: it has no dimensions or more than TIDE_DIMS_MAX, does not lie within the whole, has not so many bytes, or the
 * whole has more than 2^63. */
MUST_USE enum tide_status box_check(const struct box *box, unsigned dtype, uint64_t bytes, struct err *err);

/* The part that both have; zero when there is none. Of boxes of one whole. */
int box_meet(const struct box *a, const struct box *b, struct box *ret_both);
int box_equal(const struct box *a, const struct box *b);
int box_same_whole(const struct box *a, const struct box *b);
/* Numbers in it; of a checked one this is below 2^63. */
uint64_t box_volume(const struct box *box);

#endif
