/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/planes.h"

#include <string.h>

/* Vectors as the compiler knows them: of x86 and ARM alike it makes the instructions that part and join bytes. */
#define LANE 16u
#define AHEAD 512u /* bytes of a plane */
typedef unsigned char lane __attribute__((vector_size(LANE)));

int planes_width_valid(unsigned width)
{
    return width == 1 || width == 2 || width == 4 || width == 8;
}

static inline lane load(const unsigned char *from)
{
    lane v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline void save(unsigned char *to, lane v)
{
    memcpy(to, &v, sizeof v);
}

static inline lane even(lane a, lane b)
{
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
}

static inline lane odd(lane a, lane b)
{
    return __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

static inline lane low(lane a, lane b)
{
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

static inline lane high(lane a, lane b)
{
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

/* The width is a constant wherever these are used, so that every loop over it is unrolled and `v` lies in registers. */
#define FOR_EACH(i, end) _Pragma("GCC unroll 8") for (unsigned i = 0; i < (end); i++)
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* One step: the even bytes of all, then the odd ones. As many steps as the width has bits, and lane p is plane p. */
ALWAYS_INLINE void part_once(lane v[PLANES_MAX], unsigned width)
{
    lane next[PLANES_MAX];
    FOR_EACH(i, width / 2)
    {
        next[i] = even(v[2 * i], v[2 * i + 1]);
        next[width / 2 + i] = odd(v[2 * i], v[2 * i + 1]);
    }
    FOR_EACH(i, width)
    v[i] = next[i];
}

ALWAYS_INLINE void join_once(lane v[PLANES_MAX], unsigned width)
{
    lane next[PLANES_MAX];
    FOR_EACH(i, width / 2)
    {
        next[2 * i] = low(v[i], v[width / 2 + i]);
        next[2 * i + 1] = high(v[i], v[width / 2 + i]);
    }
    FOR_EACH(i, width)
    v[i] = next[i];
}

/* Where planes go to is in no cache, and so many places at once are more than the processor sees coming by itself. */
ALWAYS_INLINE void split(const unsigned char *from, size_t count, unsigned width, unsigned char *const planes[])
{
    size_t i = 0;
    lane v[PLANES_MAX];
    unsigned char *to[PLANES_MAX]; /* of its own: no byte that is written can change it */
    FOR_EACH(k, width)
    to[k] = planes[k];
    for (; i + LANE <= count; i += LANE) {
        FOR_EACH(k, width)
        v[k] = load(from + i * width + k * LANE);
        part_once(v, width);
        if (width > 2)
            part_once(v, width);
        if (width > 4)
            part_once(v, width);
        FOR_EACH(k, width)
        {
            __builtin_prefetch(to[k] + (i + AHEAD < count ? i + AHEAD : i), 1);
            save(to[k] + i, v[k]);
        }
    }
    for (; i < count; i++)
        for (unsigned p = 0; p < width; p++)
            to[p][i] = from[i * width + p];
}

ALWAYS_INLINE void merge(const unsigned char *const from[], size_t count, unsigned width, unsigned char *to)
{
    size_t i = 0;
    lane v[PLANES_MAX];
    for (; i + LANE <= count; i += LANE) {
        FOR_EACH(k, width)
        v[k] = load(from[k] + i);
        join_once(v, width);
        if (width > 2)
            join_once(v, width);
        if (width > 4)
            join_once(v, width);
        FOR_EACH(k, width)
        save(to + i * width + k * LANE, v[k]);
    }
    for (; i < count; i++)
        for (unsigned p = 0; p < width; p++)
            to[i * width + p] = from[p][i];
}

void planes_split(const void *from, size_t count, unsigned width, unsigned char *const to[])
{
    if (width == 2)
        split(from, count, 2, to);
    else if (width == 4)
        split(from, count, 4, to);
    else if (width == 8)
        split(from, count, 8, to);
    else if (count > 0)
        memcpy(to[0], from, count);
}

void planes_merge(const unsigned char *const from[], size_t count, unsigned width, void *to)
{
    if (width == 2)
        merge(from, count, 2, to);
    else if (width == 4)
        merge(from, count, 4, to);
    else if (width == 8)
        merge(from, count, 8, to);
    else if (count > 0)
        memcpy(to, from[0], count);
}
