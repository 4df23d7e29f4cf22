/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GPU_CARRY_HASH_XXHASH_H
#define TESTS_GPU_CARRY_HASH_XXHASH_H

/* Another hash under the name of that one, for machines where nothing can be installed: a test only compares what it has
 * itself hashed. Never for anything that is kept. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint64_t low64, high64;
} XXH128_hash_t;

/* However the bytes come, word by word; the last may be short. */
typedef struct {
    XXH128_hash_t sum;
    uint64_t bytes, word;
} XXH3_state_t;

static inline XXH128_hash_t carry_mix(XXH128_hash_t h, uint64_t word)
{
    h.low64 = (h.low64 ^ word) * 0x100000001b3u + (h.high64 >> 29);
    h.high64 = (h.high64 ^ (word >> 32)) * 0x9fb21c651e98df25u + (h.low64 >> 31);
    return h;
}

static inline XXH3_state_t *XXH3_createState(void)
{
    return malloc(sizeof(XXH3_state_t));
}

static inline void XXH3_freeState(XXH3_state_t *state)
{
    free(state);
}

static inline void XXH3_128bits_reset(XXH3_state_t *state)
{
    *state = (XXH3_state_t){.sum = {.low64 = 0x9e3779b97f4a7c15u, .high64 = 0xc2b2ae3d27d4eb4fu}};
}

static inline void XXH3_128bits_update(XXH3_state_t *state, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    while (bytes > 0) {
        size_t at = state->bytes % sizeof state->word, room = sizeof state->word - at, n = bytes < room ? bytes : room;
        memcpy((unsigned char *)&state->word + at, p, n);
        state->bytes += n;
        if (n == room) {
            state->sum = carry_mix(state->sum, state->word);
            state->word = 0;
        }
        p += n;
        bytes -= n;
    }
}

static inline XXH128_hash_t XXH3_128bits_digest(const XXH3_state_t *state)
{
    return carry_mix(carry_mix(state->sum, state->word), state->bytes);
}

static inline XXH128_hash_t XXH3_128bits(const void *data, size_t bytes)
{
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, data, bytes);
    return XXH3_128bits_digest(&state);
}

#endif
