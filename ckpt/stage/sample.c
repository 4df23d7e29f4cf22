/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/sample.h"

#include <stdint.h>
#include <string.h>

#define SPOTS 64u
#define NUMBERS_A_SPOT 64u
#define SAMPLE_MAX (SPOTS * NUMBERS_A_SPOT)
#define FRACTION 8u                        /* bits behind the point */
#define FEW 64u                            /* times */
#define NOISE_BITS ((15u << FRACTION) / 2) /* 7.5 */

struct seen {
    uint16_t of[2][256];
    uint32_t again; /* as the byte before */
};

/* log2 of 1 to 2^16, with FRACTION bits behind the point: squared, a number's logarithm doubles. */
static uint32_t log2_fixed(uint32_t n)
{
    unsigned whole = 31 - (unsigned)__builtin_clz(n);
    uint64_t x = (uint64_t)n << (31 - whole); /* 1.0 is 2^31 */
    uint32_t result = whole;
    for (unsigned i = 0; i < FRACTION; i++) {
        x = x * x >> 31;
        result = result << 1 | (uint32_t)(x >> 32);
        x >>= x >> 32;
    }
    return result;
}

/* Of noise each byte is seen a few times: what these are worth is reckoned once, and not for each of 256 bytes of each plane. */
struct logs {
    uint32_t of[FEW];
};

static enum plane_kind kind_of(const struct seen *seen, uint32_t total, const struct logs *few)
{
    uint64_t sum = 0;
    if (seen->again > total / 4 * 3)
        return PLANE_RUNS;
    for (unsigned i = 0; i < 256; i++) {
        uint32_t n = (uint32_t)seen->of[0][i] + seen->of[1][i];
        if (n > 0)
            sum += (uint64_t)n * (n < FEW ? few->of[n] : log2_fixed(n));
    }
    return log2_fixed(total) - (uint32_t)(sum / total) > NOISE_BITS ? PLANE_NOISE : PLANE_SKEWED;
}

/* All planes of a number, and every other number by itself: what has just been counted is not yet there to be counted again. */
static inline __attribute__((always_inline)) void look_at(const unsigned char *from, size_t numbers, unsigned width, struct seen seen[])
{
    unsigned char last[PLANES_MAX] = {0};
    uint32_t again[PLANES_MAX] = {0};
    for (size_t i = 0; i < numbers; i++)
#pragma GCC unroll 8
        for (unsigned p = 0; p < width; p++) {
            unsigned char byte = from[i * width + p];
            seen[p].of[i % 2][byte]++;
            again[p] += i > 0 && byte == last[p];
            last[p] = byte;
        }
    for (unsigned p = 0; p < width; p++)
        seen[p].again += again[p];
}

static void look(const unsigned char *from, size_t numbers, unsigned width, struct seen seen[])
{
    if (width == 2)
        look_at(from, numbers, 2, seen);
    else if (width == 4)
        look_at(from, numbers, 4, seen);
    else
        look_at(from, numbers, width, seen);
}

void sample_planes(const void *from, size_t numbers, unsigned width, enum plane_kind ret_kinds[])
{
    struct seen seen[PLANES_MAX];
    struct logs few = {{0}};
    uint32_t total = numbers < SAMPLE_MAX ? (uint32_t)numbers : SAMPLE_MAX;
    memset(seen, 0, sizeof seen);
    if (numbers <= SAMPLE_MAX)
        look(from, numbers, width, seen);
    else
        for (size_t i = 0; i < SPOTS; i++)
            look((const unsigned char *)from + (numbers - NUMBERS_A_SPOT) * i / (SPOTS - 1) * width, NUMBERS_A_SPOT, width,
                 seen);
    for (uint32_t n = 1; n < FEW; n++)
        few.of[n] = log2_fixed(n);
    for (unsigned p = 0; p < width; p++)
        ret_kinds[p] = total > 0 ? kind_of(&seen[p], total, &few) : PLANE_NOISE;
}
