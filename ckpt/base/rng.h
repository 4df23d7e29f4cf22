/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_RNG_H
#define CKPT_BASE_RNG_H

#include <stdint.h>

/* SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): chance that can be replayed. Pure code gets its chance handed in. */
struct rng {
    uint64_t state;
};

uint64_t rng_next(struct rng *rng);
/* Uniform in [0, bound); bound > 0. */
uint64_t rng_below(struct rng *rng, uint64_t bound);
/* `digits` lower-case hex digits and a NUL. */
void rng_hex(struct rng *rng, char *to, unsigned digits);

/* A seed from the kernel (getrandom). Shells only. */
uint64_t rng_entropy(void);

#endif
