/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

uint64_t rng_next(struct rng *rng)
{
    uint64_t z = (rng->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    /* Multiply-shift; the bias of 2^-64 * bound is far below anything a test or a jitter can see. */
    return (uint64_t)(((unsigned __int128)rng_next(rng) * bound) >> 64);
}

void rng_hex(struct rng *rng, char *to, unsigned digits)
{
    for (unsigned i = 0; i < digits; i++)
        to[i] = "0123456789abcdef"[rng_below(rng, 16)];
    to[digits] = '\0';
}

uint64_t rng_entropy(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) {
        /* Secrets come from here: guessing on would be worse than stopping. */
        fputs("fatal: getrandom failed; this kernel gives no randomness\n", stderr);
        abort();
    }
    return seed;
}
