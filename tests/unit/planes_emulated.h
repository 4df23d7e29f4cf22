/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_PLANES_EMULATED_H
#define TESTS_UNIT_PLANES_EMULATED_H

/* The kernels of device memory's planes, thread after thread in this one, and what they should come to, by the host's way. */

#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/format/planes.h"
#include "ckpt/stage/device_cuda/planes_thread.h"

static inline void emulated_block(const struct planes_job *job, uint64_t block, unsigned width, unsigned cell, int merge)
{
    uint32_t tally[PLANES_MAX * PLANES_VALUES] = {0};
    for (uint32_t thread = 0; thread < PLANES_THREADS; thread++)
        planes_thread(job, block, thread, width, cell, merge, job->seen ? tally : NULL);
    for (unsigned i = 0; job->seen && i < width * PLANES_VALUES; i++)
        job->seen[block / job->blocks * width * PLANES_VALUES + i] += tally[i];
}

/* A job that has its blocks, launched. */
static inline void emulated_launch(const struct planes_job *job, unsigned width, unsigned cell, int merge)
{
    for (uint64_t block = 0; block < planes_pieces(job->count, job->piece) * job->blocks; block++)
        emulated_block(job, block, width, cell, merge);
}

/* Piece by piece; counts are added to `seen`. */
static inline void expected_planes(const unsigned char *numbers, uint64_t count, uint64_t piece, unsigned width, unsigned char *planes,
                                   uint64_t *seen)
{
    unsigned char *to[PLANES_MAX];
    for (uint64_t at = 0; at < count; at += piece, seen += width * PLANES_VALUES) {
        uint64_t n = count - at < piece ? count - at : piece;
        for (unsigned p = 0; p < width; p++)
            to[p] = planes + at * width + p * n;
        planes_split(numbers + at * width, n, width, to);
        for (uint64_t i = 0; i < n * width; i++)
            seen[i / n * PLANES_VALUES + planes[at * width + i]]++;
    }
}

/* Bytes of many kinds: random, few values, a run of one. */
static inline void planes_fill(struct rng *rng, unsigned char *to, size_t bytes)
{
    unsigned kind = (unsigned)rng_below(rng, 4);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char random = (unsigned char)rng_next(rng);
        to[i] = kind == 0 ? random : kind == 1 ? random & 7 : kind == 2 ? 0x3f : i % 4096 < 2048 ? 0 : random;
    }
}

#endif
