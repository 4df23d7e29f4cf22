/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <zstd.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/stage/huffman.h"
#include "ckpt/stage/huffman_tree.h"

#define BLOCK (128u << 10)
#define BYTES_MAX (3 * BLOCK)
#define GUARD 0xa5
#define GUARD_BYTES 64

static const enum huffman_way ways[] = {HUFFMAN_PORTABLE, HUFFMAN_BMI2, HUFFMAN_WIDE};
static struct huffman *huffman;
static unsigned char *raw, *frame, *same, *back;

static int setup(void **state)
{
    (void)state;
    raw = mem_alloc(BYTES_MAX);
    back = mem_alloc(BYTES_MAX);
    frame = mem_alloc(2 * BYTES_MAX);
    same = mem_alloc(2 * BYTES_MAX);
    huffman = huffman_create();
    return huffman == NULL;
}

static int teardown(void **state)
{
    (void)state;
    huffman_free(huffman);
    mem_free(raw);
    mem_free(back);
    mem_free(frame);
    mem_free(same);
    return 0;
}

static void is_guarded(const unsigned char *bytes)
{
    for (unsigned i = 0; i < GUARD_BYTES; i++)
        assert_int_equal(bytes[i], GUARD);
}

/* Made alike by every way and by zstd read back; there is one length that fits, and a byte less does not. What is given is exactly as long
 * as it is, so that a sanitizer sees a byte too far. */
static size_t there_and_back(size_t bytes)
{
    unsigned char *exact = mem_alloc(bytes);
    size_t length = 0;
    memcpy(exact, raw, bytes);
    for (unsigned i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        huffman_choose(huffman, ways[i]);
        size_t now = huffman_frame(huffman, same, 2 * BYTES_MAX, exact, bytes);
        assert_true(now > 0 && (i == 0 || (now == length && memcmp(frame, same, now) == 0)));
        memcpy(frame, same, now);
        length = now;
        memset(same, GUARD, length + GUARD_BYTES);
        assert_int_equal(huffman_frame(huffman, same, length, exact, bytes), length);
        is_guarded(same + length);
        memset(same, GUARD, length + GUARD_BYTES);
        assert_int_equal(huffman_frame(huffman, same, length - 1, exact, bytes), 0);
        is_guarded(same + length - 1);
    }
    memset(back, 0, bytes);
    assert_int_equal(ZSTD_decompress(back, bytes, frame, length), bytes);
    assert_memory_equal(back, exact, bytes);
    mem_free(exact);
    return length;
}

/* Bytes of `of`, of each the more the lower it stands: `tail` is the percentage that goes on to the next. */
static void fill(struct rng *rng, unsigned char *to, size_t bytes, const unsigned char *of, unsigned count, unsigned tail)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned k = 0;
        while (rng_below(rng, 100) < tail)
            k++;
        to[i] = of[k % count];
    }
}

static void any_bytes_come_back(void **state)
{
    (void)state;
    struct rng rng = {.state = 7};
    for (unsigned turn = 0; turn < 150; turn++) {
        unsigned char of[256];
        unsigned count = 1 + (unsigned)rng_below(&rng, rng_below(&rng, 2) ? 256 : 12);
        size_t bytes = HUFFMAN_BYTES_MIN + rng_below(&rng, turn % 8 ? 20000 : BYTES_MAX - HUFFMAN_BYTES_MIN);
        for (unsigned i = 0; i < 256; i++)
            of[i] = (unsigned char)rng_next(&rng);
        fill(&rng, raw, bytes, of, count, (unsigned)rng_below(&rng, 97));
        for (uint64_t strange = rng_below(&rng, 4); strange > 0; strange--)
            raw[rng_below(&rng, bytes)] = (unsigned char)rng_next(&rng);
        there_and_back(bytes);
    }
}

/* The 4 streams begin and end anywhere, and so do the groups of 64. */
static void any_length_comes_back(void **state)
{
    (void)state;
    struct rng rng = {.state = 8};
    fill(&rng, raw, BLOCK + 2000, (const unsigned char *)"\x3c\xbc\x3b\xbb\x3a\xba\x39\x00", 8, 50);
    for (size_t bytes = HUFFMAN_BYTES_MIN; bytes < HUFFMAN_BYTES_MIN + 270; bytes++)
        there_and_back(bytes);
    for (size_t bytes = BLOCK - 3; bytes < BLOCK + 9; bytes++)
        there_and_back(bytes);
    there_and_back(BLOCK + HUFFMAN_BYTES_MIN - 1);
    there_and_back(BLOCK + HUFFMAN_BYTES_MIN);
}

/* Blocks of one byte, of noise, of two bytes, and one that a sample never saw. */
static void a_block_is_stored_as_it_is_shortest(void **state)
{
    (void)state;
    struct rng rng = {.state = 9};
    memset(raw, 7, BLOCK);
    for (size_t i = BLOCK; i < 2 * BLOCK; i++)
        raw[i] = (unsigned char)rng_next(&rng);
    for (size_t i = 2 * BLOCK; i < BYTES_MAX; i++)
        raw[i] = rng_next(&rng) & 1 ? 0xff : 0xfe;
    size_t length = there_and_back(BYTES_MAX);
    assert_in_range(length, BLOCK + BLOCK / 8, BLOCK + BLOCK / 8 + 100);
    assert_int_equal(there_and_back(BLOCK), 9 + 3 + 1);
    raw[BLOCK - 1] = 200;
    assert_in_range(there_and_back(BLOCK), BLOCK / 8, BLOCK / 8 + 40);
    for (size_t i = 0; i < BLOCK; i++)
        raw[i] = (unsigned char)i;
    assert_true(there_and_back(BLOCK) > BLOCK);
}

/* All counted, that is, to within a hundredth, and the tree. */
static void it_is_as_short_as_entropy_allows(void **state)
{
    (void)state;
    struct rng rng = {.state = 10};
    unsigned char of[64];
    double bits = 0;
    uint32_t counts[256] = {0};
    for (unsigned i = 0; i < 64; i++)
        of[i] = (unsigned char)(90 + i);
    fill(&rng, raw, BLOCK, of, 64, 85);
    for (size_t i = 0; i < BLOCK; i++)
        counts[raw[i]]++;
    for (unsigned i = 0; i < 256; i++)
        if (counts[i] > 0)
            bits -= counts[i] * log2((double)counts[i] / BLOCK);
    assert_true((double)there_and_back(BLOCK) < bits / 8 * 1.02);
}

/* Counts that grow like Fibonacci's numbers make the deepest tree there is. */
static void codes_are_no_longer_than_may_be_and_fill_the_room(void **state)
{
    (void)state;
    struct rng rng = {.state = 11};
    struct huffman_codes codes;
    for (unsigned turn = 0; turn < 200; turn++) {
        uint32_t counts[256] = {0}, a = 1, b = 1, taken = 0;
        unsigned count = 2 + (turn < 100 ? turn % 28 : (unsigned)rng_below(&rng, 254));
        for (unsigned i = 0; i < count; i++, b += a, a = b - a)
            counts[255 - i] = turn < 100 ? a : 1 + (uint32_t)rng_below(&rng, 1u << rng_below(&rng, 16));
        huffman_codes_build(counts, &codes);
        for (unsigned i = 0; i < 256; i++) {
            assert_int_equal(codes.bits[i] > 0, counts[i] > 0);
            assert_true(codes.bits[i] <= codes.longest && codes.code[i] < 1u << codes.bits[i]);
            taken += codes.bits[i] > 0 ? 1u << (HUFFMAN_BITS_MAX - codes.bits[i]) : 0;
            for (unsigned k = 0; k < 256; k++)
                assert_true(counts[i] <= counts[k] || counts[k] == 0 || codes.bits[i] <= codes.bits[k]);
        }
        assert_true(codes.longest <= HUFFMAN_BITS_MAX);
        assert_int_equal(codes.last, 255);
        assert_int_equal(taken, 1u << HUFFMAN_BITS_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(any_length_comes_back),
        cmocka_unit_test(a_block_is_stored_as_it_is_shortest),
        cmocka_unit_test(it_is_as_short_as_entropy_allows),
        cmocka_unit_test(codes_are_no_longer_than_may_be_and_fill_the_room),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
