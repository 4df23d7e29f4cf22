/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_SAMPLE_H
#define CKPT_STAGE_SAMPLE_H

/* What a look at a few numbers tells about their planes, before anything is taken apart. Integers only: every host comes to
 * the same answer. */

#include "ckpt/format/planes.h"

enum plane_kind {
    PLANE_NOISE,  /* above 7.5 bits a byte: no entropy coder saves enough to pay */
    PLANE_SKEWED, /* some bytes are likelier than others, where they stand says nothing: exponents */
    PLANE_RUNS    /* most are as the one before: zero pages, what was never trained */
};

/* Judge each plane of `count` numbers of `width` bytes. */
void sample_planes(const void *from, size_t count, unsigned width, enum plane_kind ret_kinds[]);

#endif
