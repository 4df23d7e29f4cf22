/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_WEIGHTS_H
#define TESTS_BENCH_WEIGHTS_H

/* State of a model that is trained, for who moves it: what is compressed, and how long that takes, depends on it. */

#include <string.h>

#include "ckpt/base/rng.h"

#define WEIGHTS_ALIKE (4 * 4096) /* bytes */

/* Like fp32 weights: near to gaussian around 0, with a deviation of each few thousand of their own; all bits of a mantissa are in use, as
 * sums of few small steps would not. bytes: a multiple of 4. */
static inline void bench_weights(unsigned char *to, uint64_t bytes, struct rng *rng)
{
    float scale = 0;
    for (uint64_t i = 0; i + 4 <= bytes; i += 4) {
        if (i % WEIGHTS_ALIKE == 0)
            scale = 0.01f + (float)rng_below(rng, 1000000) * 3e-8f;
        uint64_t r = rng_next(rng);
        float sum = (float)(r & 0x1fffff) + (float)(r >> 21 & 0x1fffff) + (float)(r >> 43) - 3 * (float)0x100000;
        sum *= scale * 0x1p-21f;
        memcpy(to + i, &sum, sizeof sum);
    }
}

#endif
