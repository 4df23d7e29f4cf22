/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_FLOATS_H
#define TESTS_UNIT_FLOATS_H

/* What looks like weights: nearly gaussian, by sums alone, so that every machine makes the same bytes. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tidemark/tidemark.h>

#include "ckpt/base/rng.h"

static inline float test_float(struct rng *rng)
{
    int64_t sum = 0;
    for (int k = 0; k < 6; k++)
        sum += (int64_t)(rng_next(rng) >> 24) - ((int64_t)1 << 39);
    return (float)sum * 0x1p-45f;
}

/* dtype: TIDE_F32 or TIDE_BF16. What is too short for a number stays 0. */
static inline void test_floats(unsigned char *to, size_t bytes, unsigned dtype, uint64_t seed)
{
    struct rng rng = {.state = seed};
    size_t width = dtype == TIDE_F32 ? 4 : 2;
    for (size_t at = 0; at + width <= bytes; at += width) {
        float f = test_float(&rng);
        unsigned char number[4];
        memcpy(number, &f, sizeof number);
        memcpy(to + at, number + 4 - width, width);
    }
}

#endif
