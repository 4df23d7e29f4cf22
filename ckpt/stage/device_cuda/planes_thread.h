/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_DEVICE_CUDA_PLANES_THREAD_H
#define CKPT_STAGE_DEVICE_CUDA_PLANES_THREAD_H

/* What one thread of a kernel of planes.cu does: which bytes it takes, and where they go. Plain C: nvcc compiles it for the GPU,
 * and a test, on a machine without one, for the host.
 *
 * Numbers lie in pieces of `piece` numbers, the last may be shorter. Where a piece of n numbers lay, the same number of bytes
 * further lie its planes, n bytes each: so is a chunk laid out that is stored as planes (ckpt/format). A cell is some numbers of
 * one piece that a thread takes apart in registers: it loads 16 bytes at a time and stores `cell` bytes to each plane,
 * threads that follow one another beside one another. `width` and `cell` are constants wherever this is used. */

#include <stdint.h>

#ifdef __CUDACC__
#define PLANES_THREAD static __device__ __forceinline__
#define PLANES_BOTH static __host__ __device__ __forceinline__
#define PLANES_UNROLL _Pragma("unroll")
#else
#include <assert.h>
#include <string.h>
#define PLANES_THREAD static inline
#define PLANES_BOTH static inline
#define PLANES_UNROLL
#endif

#define PLANES_THREADS 256u      /* of a block */
#define PLANES_ROUNDS_COUNTED 8u /* of a block that counts: what it has counted costs as much to hand over as some rounds */
#define PLANES_LOAD 16u          /* bytes that a thread loads or stores at once, of numbers */
#define PLANES_AHEAD 64u         /* bytes that a thread has under way before it needs the first */
#define PLANES_WORDS_MAX 32u     /* of a cell: 16 numbers of 8 bytes */
#define PLANES_AHEAD_MAX 4u      /* cells */
#define PLANES_VALUES 256u       /* of a byte */

struct planes_job {
    unsigned char *numbers, *planes; /* one is read, the other written */
    uint64_t count, piece;           /* numbers in all, and of a piece; piece is above 0 */
    uint64_t *seen;                  /* NULL, or for each plane of each piece how often it holds 0, 1, …; added to */
    uint32_t blocks, rounds;         /* blocks of each piece, rounds of each block */
};

/* How many numbers of that width a cell has. */
PLANES_BOTH unsigned planes_cell(unsigned width)
{
    return width == 1 ? 16 : width == 2 ? 8 : 4;
}

PLANES_BOTH uint64_t planes_pieces(uint64_t count, uint64_t piece)
{
    return count / piece + (count % piece != 0);
}

/* Cells that a thread loads before it takes the first apart. */
PLANES_BOTH unsigned planes_ahead(unsigned width, unsigned cell)
{
    return width * cell < PLANES_AHEAD ? PLANES_AHEAD / (width * cell) : 1;
}

/* Share the job out to blocks. */
PLANES_BOTH void planes_share(struct planes_job *job, unsigned width, unsigned cell)
{
    job->rounds = job->seen ? PLANES_ROUNDS_COUNTED : 1;
    uint64_t piece = job->piece < job->count ? job->piece : job->count;
    uint64_t at_once = (uint64_t)PLANES_THREADS * planes_ahead(width, cell) * job->rounds;
    job->blocks = (uint32_t)((piece / cell + at_once - 1) / at_once);
    if (job->blocks == 0)
        job->blocks = 1;
}

/* ---- memory: at multiples of what is loaded or stored at once, else a GPU faults ---- */

/* 4, 8 or 16 bytes. */
PLANES_THREAD void planes_load(uint32_t to[], const unsigned char *from, const unsigned bytes)
{
#ifdef __CUDACC__
    if (bytes == 4)
        to[0] = *(const uint32_t *)from;
    else if (bytes == 8) {
        uint2 v = *(const uint2 *)from;
        to[0] = v.x, to[1] = v.y;
    } else {
        uint4 v = *(const uint4 *)from;
        to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    }
#else
    assert((uintptr_t)from % bytes == 0);
    memcpy(to, from, bytes);
#endif
}

PLANES_THREAD void planes_save(unsigned char *to, const uint32_t from[], const unsigned bytes)
{
#ifdef __CUDACC__
    if (bytes == 4)
        *(uint32_t *)to = from[0];
    else if (bytes == 8)
        *(uint2 *)to = make_uint2(from[0], from[1]);
    else
        *(uint4 *)to = make_uint4(from[0], from[1], from[2], from[3]);
#else
    assert((uintptr_t)to % bytes == 0);
    memcpy(to, from, bytes);
#endif
}

/* What a block has counted; all its threads do. */
PLANES_THREAD void planes_count(uint32_t *tally, unsigned plane, unsigned byte)
{
#ifdef __CUDACC__
    atomicAdd(&tally[plane * PLANES_VALUES + byte], 1u);
#else
    tally[plane * PLANES_VALUES + byte]++;
#endif
}

/* ---- bytes in registers ---- */

/* Bytes 0 to 3 are those of a, 4 to 7 those of b; the lowest digit of `which` says what the lowest byte will be. */
PLANES_THREAD uint32_t planes_pick(uint32_t a, uint32_t b, uint32_t which)
{
#ifdef __CUDACC__
    return __byte_perm(a, b, which);
#else
    uint64_t both = (uint64_t)b << 32 | a;
    uint32_t picked = 0;
    for (unsigned i = 0; i < 4; i++)
        picked |= (uint32_t)(both >> (which >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return picked;
#endif
}

/* Four words, of which byte i of word k becomes byte k of word i; from[] is every from_step-th word, to[] every to_step-th. Its own
 * reverse. */
PLANES_THREAD void planes_turn(const uint32_t from[], const unsigned from_step, uint32_t to[], const unsigned to_step)
{
    uint32_t a = from[0], b = from[from_step], c = from[2 * from_step], d = from[3 * from_step];
    uint32_t low_ab = planes_pick(a, b, 0x5140), low_cd = planes_pick(c, d, 0x5140);
    uint32_t high_ab = planes_pick(a, b, 0x7362), high_cd = planes_pick(c, d, 0x7362);
    to[0] = planes_pick(low_ab, low_cd, 0x5410);
    to[to_step] = planes_pick(low_ab, low_cd, 0x7632);
    to[2 * to_step] = planes_pick(high_ab, high_cd, 0x5410);
    to[3 * to_step] = planes_pick(high_ab, high_cd, 0x7632);
}

/* A cell of numbers into parts of planes, `cell` bytes of each, one behind the other. */
PLANES_THREAD void planes_part(const uint32_t numbers[], uint32_t parts[], const unsigned width, const unsigned cell)
{
    const unsigned words = cell / 4;
    PLANES_UNROLL for (unsigned k = 0; k < words; k++)
    {
        if (width == 1)
            parts[k] = numbers[k];
        if (width == 2) {
            parts[k] = planes_pick(numbers[2 * k], numbers[2 * k + 1], 0x6420);
            parts[words + k] = planes_pick(numbers[2 * k], numbers[2 * k + 1], 0x7531);
        }
        if (width >= 4)
            planes_turn(numbers + width * k, width / 4, parts + k, words);
        if (width == 8)
            planes_turn(numbers + width * k + 1, 2, parts + 4 * words + k, words);
    }
}

PLANES_THREAD void planes_join(const uint32_t parts[], uint32_t numbers[], const unsigned width, const unsigned cell)
{
    const unsigned words = cell / 4;
    PLANES_UNROLL for (unsigned k = 0; k < words; k++)
    {
        if (width == 1)
            numbers[k] = parts[k];
        if (width == 2) {
            numbers[2 * k] = planes_pick(parts[k], parts[words + k], 0x5140);
            numbers[2 * k + 1] = planes_pick(parts[k], parts[words + k], 0x7362);
        }
        if (width >= 4)
            planes_turn(parts + k, words, numbers + width * k, width / 4);
        if (width == 8)
            planes_turn(parts + 4 * words + k, words, numbers + width * k + 1, 2);
    }
}

/* ---- a block's place ---- */

struct planes_place {
    unsigned char *numbers, *planes; /* of its piece */
    uint64_t count;                  /* numbers of its piece */
    uint64_t cells;                  /* of its piece; none where something does not lie at multiples of what is loaded at once */
    uint64_t first;                  /* cell of the block */
    uint32_t nth;                    /* block of its piece it is */
};

PLANES_BOTH struct planes_place planes_place(const struct planes_job *job, uint64_t block, const unsigned width,
                                             const unsigned cell)
{
    uint64_t piece = block / job->blocks, begin = piece * job->piece, left = job->count - begin;
    struct planes_place at;
    at.numbers = job->numbers + begin * width;
    at.planes = job->planes + begin * width;
    at.count = left < job->piece ? left : job->piece;
    at.nth = (uint32_t)(block % job->blocks);
    at.first = (uint64_t)at.nth * job->rounds * planes_ahead(width, cell) * PLANES_THREADS;
    at.cells = at.count / cell;
    if ((uintptr_t)at.numbers % PLANES_LOAD != 0 || (uintptr_t)at.planes % cell != 0 || (width > 1 && at.count % cell != 0))
        at.cells = 0;
    return at;
}

/* ---- a thread: apart, or, `merge`, together ---- */

/* A cell's numbers, or its part of each plane: `times` times `bytes` bytes, each `step` behind the last. */
PLANES_THREAD void planes_load_cell(uint32_t to[], const unsigned char *from, uint64_t step, const unsigned bytes, const unsigned times)
{
    PLANES_UNROLL for (unsigned i = 0; i < times; i++)
        planes_load(to + i * (bytes / 4), from + i * step, bytes);
}

PLANES_THREAD void planes_save_cell(unsigned char *to, const uint32_t from[], uint64_t step, const unsigned bytes, const unsigned times)
{
    PLANES_UNROLL for (unsigned i = 0; i < times; i++)
        planes_save(to + i * step, from + i * (bytes / 4), bytes);
}

PLANES_THREAD void planes_count_cell(const uint32_t parts[], const unsigned width, const unsigned cell, uint32_t *tally)
{
    PLANES_UNROLL for (unsigned i = 0; i < width * cell; i++)
        planes_count(tally, i / cell, parts[i / 4] >> i % 4 * 8 & 0xff);
}

/* Numbers behind the last cell: a number at a time. */
PLANES_THREAD void planes_rest(const struct planes_job *job, const struct planes_place *at, uint32_t thread, const unsigned width,
                               const unsigned cell, const int merge, uint32_t *tally)
{
    uint64_t step = (uint64_t)job->blocks * PLANES_THREADS;
    for (uint64_t i = at->cells * cell + (uint64_t)at->nth * PLANES_THREADS + thread; i < at->count; i += step)
        PLANES_UNROLL for (unsigned p = 0; p < width; p++)
        {
            unsigned char *number = at->numbers + i * width + p, *plane = at->planes + p * at->count + i;
            unsigned char byte = merge ? *plane : *number;
            *(merge ? number : plane) = byte;
            if (tally)
                planes_count(tally, p, byte);
        }
}

/* `tally`: of the block, or NULL. */
PLANES_THREAD void planes_thread(const struct planes_job *job, uint64_t block, uint32_t thread, const unsigned width,
                                 const unsigned cell, const int merge, uint32_t *tally)
{
    const unsigned ahead = planes_ahead(width, cell), loads = width * cell / PLANES_LOAD;
    struct planes_place at = planes_place(job, block, width, cell);
    uint64_t first = at.first + thread;
    for (uint32_t round = 0; round < job->rounds; round++, first += (uint64_t)ahead * PLANES_THREADS) {
        uint32_t from[PLANES_AHEAD_MAX][PLANES_WORDS_MAX], to[PLANES_WORDS_MAX];
        PLANES_UNROLL for (unsigned a = 0; a < ahead; a++)
        {
            uint64_t c = first + a * PLANES_THREADS;
            if (c < at.cells && merge)
                planes_load_cell(from[a], at.planes + c * cell, at.count, cell, width);
            else if (c < at.cells)
                planes_load_cell(from[a], at.numbers + c * (cell * width), PLANES_LOAD, PLANES_LOAD, loads);
        }
        PLANES_UNROLL for (unsigned a = 0; a < ahead; a++)
        {
            uint64_t c = first + a * PLANES_THREADS;
            if (c >= at.cells)
                break;
            if (merge) {
                planes_join(from[a], to, width, cell);
                planes_save_cell(at.numbers + c * (cell * width), to, PLANES_LOAD, PLANES_LOAD, loads);
            } else {
                planes_part(from[a], to, width, cell);
                planes_save_cell(at.planes + c * cell, to, at.count, cell, width);
            }
            if (tally)
                planes_count_cell(to, width, cell, tally);
        }
    }
    planes_rest(job, &at, thread, width, cell, merge, tally);
}

#endif
