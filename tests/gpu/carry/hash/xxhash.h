/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GPU_CARRY_HASH_XXHASH_H
#define TESTS_GPU_CARRY_HASH_XXHASH_H

/* Another hash under the name of that one, for machines where nothing can be installed: a test only compares what it has
 * itself hashed. Never for anything that is kept. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint64_t low64, high64;
} XXH128_hash_t;

static inline XXH128_hash_t XXH3_128bits(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    XXH128_hash_t h = {.low64 = 0x9e3779b97f4a7c15u ^ bytes, .high64 = 0xc2b2ae3d27d4eb4fu};
    while (bytes > 0) {
        uint64_t word = 0;
        size_t n = bytes < sizeof word ? bytes : sizeof word;
        memcpy(&word, p, n);
        h.low64 = (h.low64 ^ word) * 0x100000001b3u + (h.high64 >> 29);
        h.high64 = (h.high64 ^ (word >> 32)) * 0x9fb21c651e98df25u + (h.low64 >> 31);
        p += n;
        bytes -= n;
    }
    return h;
}

#endif
