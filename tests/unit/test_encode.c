/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ckpt/stage/sample.h"
#include "tests/unit/floats.h"
#include "tests/unit/slots.h"

#define GUARD 0xa5
#define GUARD_BYTES 64

static struct encoder *encoder;
static unsigned char *raw, *stored, *back; /* FORMAT_CHUNK_BYTES each, and a guard */

static int setup(void **state)
{
    (void)state;
    raw = mem_alloc(FORMAT_CHUNK_BYTES);
    stored = mem_alloc(FORMAT_CHUNK_BYTES + GUARD_BYTES);
    back = mem_alloc(FORMAT_CHUNK_BYTES + GUARD_BYTES);
    return encoder_create(&encoder, NULL) == TIDE_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    encoder_free(encoder);
    mem_free(raw);
    mem_free(stored);
    mem_free(back);
    return 0;
}

static struct segments one_segment(unsigned dtype, uint32_t bytes)
{
    struct region_entry region = {.name = "r", .dtype = dtype, .bytes = bytes};
    struct rank_manifest m = {.data_bytes = bytes, .regions = {.items = &region, .count = 1}};
    struct segments s;
    size_t cursor = 0;
    segments_plan(&m, 0, &cursor, &s);
    return s;
}

static void guard(unsigned char *buffer, uint32_t bytes)
{
    memset(buffer + bytes, GUARD, GUARD_BYTES);
}

static void is_guarded(const unsigned char *buffer, uint32_t bytes)
{
    for (unsigned i = 0; i < GUARD_BYTES; i++)
        assert_int_equal(buffer[bytes + i], GUARD);
}

/* There and back, with nothing written outside; returns the stored length. */
static uint32_t there_and_back(struct segments *s, uint32_t bytes, enum chunk_codec *ret_codec)
{
    uint32_t length;
    struct err err = {0};
    guard(stored, bytes);
    guard(back, bytes);
    encode_chunk(encoder, raw, bytes, s, stored, ret_codec, &length);
    is_guarded(stored, bytes);
    assert_true(length <= bytes);
    assert_int_equal(decode_chunk(encoder, *ret_codec, stored, length, back, bytes, &err), TIDE_OK);
    is_guarded(back, bytes);
    assert_memory_equal(back, raw, bytes);
    return length;
}

static double ratio(unsigned dtype, enum chunk_codec expected)
{
    struct segments s = one_segment(dtype, FORMAT_CHUNK_BYTES);
    enum chunk_codec codec;
    uint32_t length = there_and_back(&s, FORMAT_CHUNK_BYTES, &codec);
    assert_int_equal(codec, expected);
    return length ? (double)FORMAT_CHUNK_BYTES / length : 0;
}

static void weights_become_smaller(void **state)
{
    (void)state;
    test_floats(raw, FORMAT_CHUNK_BYTES, TIDE_F32, 1);
    assert_true(ratio(TIDE_F32, CHUNK_PLANES) > 1.17);
    test_floats(raw, FORMAT_CHUNK_BYTES, TIDE_BF16, 1);
    assert_true(ratio(TIDE_BF16, CHUNK_PLANES) > 1.42);
    assert_true(ratio(TIDE_F16, CHUNK_PLANES) > 1.42); /* what the bytes hold decides, not their name */
    for (size_t i = 0; i < FORMAT_CHUNK_BYTES / 8; i++)
        memcpy(raw + 8 * i, &i, sizeof i);
    assert_true(ratio(TIDE_I64, CHUNK_PLANES) > 3.9);
    assert_true(ratio(TIDE_BYTES, CHUNK_ZSTD) > 1.5);
}

static void what_is_the_same_is_dropped(void **state)
{
    (void)state;
    memset(raw, 0, FORMAT_CHUNK_BYTES);
    assert_true(ratio(TIDE_F32, CHUNK_ZERO) == 0);
    raw[FORMAT_CHUNK_BYTES - 1] = 1;
    assert_true(ratio(TIDE_F32, CHUNK_PLANES) > 1000);
    for (size_t i = 0; i < FORMAT_CHUNK_BYTES; i++)
        raw[i] = (unsigned char)("pattern!"[i % 8]);
    assert_true(ratio(TIDE_F32, CHUNK_REPEAT) == FORMAT_CHUNK_BYTES / 8);
    raw[12345] ^= 1;
    assert_true(ratio(TIDE_F32, CHUNK_PLANES) > 7.5);
}

static void noise_stays_as_it_is(void **state)
{
    (void)state;
    test_fill(raw, FORMAT_CHUNK_BYTES, "noise", 4);
    for (unsigned dtype = TIDE_BYTES; dtype <= TIDE_I8; dtype++)
        assert_true(ratio(dtype, CHUNK_RAW) == 1);
}

/* Without an effort a chunk may lie where it is stored: it comes out the same, whatever it holds. */
static void what_stays_as_it_is_may_stay_where_it_is(void **state)
{
    static const char *const patterns[] = {"pattern!", "\0\0\0\0\0\0\0\0", NULL};
    (void)state;
    encoder_effort(encoder, EFFORT_RAW);
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct segments s = one_segment(TIDE_F32, FORMAT_CHUNK_BYTES), same = s;
        enum chunk_codec codec, in_place;
        uint32_t length;
        test_fill(raw, FORMAT_CHUNK_BYTES, "noise", 4);
        for (size_t at = 0; patterns[i] != NULL && at < FORMAT_CHUNK_BYTES; at += CHUNK_PATTERN_BYTES)
            memcpy(raw + at, patterns[i], CHUNK_PATTERN_BYTES);
        uint32_t expected = there_and_back(&s, FORMAT_CHUNK_BYTES, &codec);
        encode_chunk(encoder, raw, FORMAT_CHUNK_BYTES, &same, raw, &in_place, &length);
        assert_int_equal(in_place, codec);
        assert_int_equal(length, expected);
        assert_memory_equal(raw, stored, length);
    }
    encoder_effort(encoder, EFFORT_FAST);
}

static void samples_tell_noise_from_exponents(void **state)
{
    (void)state;
    enum plane_kind kinds[PLANES_MAX];
    test_floats(raw, FORMAT_CHUNK_BYTES, TIDE_F32, 7);
    sample_planes(raw, FORMAT_CHUNK_BYTES / 4, 4, kinds);
    assert_int_equal(kinds[0], PLANE_NOISE);
    assert_int_equal(kinds[1], PLANE_NOISE);
    assert_int_equal(kinds[2], PLANE_NOISE);
    assert_int_equal(kinds[3], PLANE_SKEWED);
    for (size_t at = 0; at < FORMAT_CHUNK_BYTES; at += 4096)
        if (at / 4096 % 10 != 0)
            memset(raw + at, 0, 4096);
    sample_planes(raw, FORMAT_CHUNK_BYTES / 4, 4, kinds);
    for (unsigned p = 0; p < 4; p++)
        assert_int_equal(kinds[p], PLANE_RUNS);
    sample_planes(raw, 0, 2, kinds);
    assert_int_equal(kinds[0], PLANE_NOISE);
}

/* ---- any chunk ---- */

struct world {
    struct rng rng;
    struct rank_manifest manifest;
    struct segments segments;
    uint32_t bytes;
};

static void fill_region(struct rng *rng, unsigned char *to, uint64_t bytes, unsigned dtype)
{
    static const char *const kinds[] = {"noise", "zeros", "slow"};
    uint64_t kind = rng_below(rng, 5);
    if (kind < 3)
        test_fill(to, bytes, kinds[kind], rng_next(rng));
    else
        test_floats(to, bytes, dtype == TIDE_F32 ? TIDE_F32 : TIDE_BF16, rng_next(rng));
}

/* A chunk of a few regions, or many. */
static void make_world(struct world *w, uint64_t seed)
{
    *w = (struct world){.rng = {.state = seed}};
    size_t cursor = 0;
    uint64_t most = (uint64_t)64 << rng_below(&w->rng, 15);
    memset(raw, 0, FORMAT_CHUNK_BYTES);
    for (uint64_t left = 1 + rng_below(&w->rng, 40); left > 0; left--) {
        struct region_entry r = {.name = "r", .dtype = (unsigned)rng_below(&w->rng, 10), .offset = w->manifest.data_bytes};
        r.bytes = rng_below(&w->rng, most) + 1;
        if (region_end_aligned(r.offset, r.bytes) > FORMAT_CHUNK_BYTES)
            break;
        struct region_entry *to = codec_list_add(&region_entry_codec, &w->manifest.regions);
        *to = r;
        w->manifest.data_bytes = region_end_aligned(r.offset, r.bytes);
        fill_region(&w->rng, raw + r.offset, r.bytes, r.dtype);
    }
    w->bytes = (uint32_t)w->manifest.data_bytes;
    segments_plan(&w->manifest, 0, &cursor, &w->segments);
    codec_release(&rank_manifest_codec, &w->manifest);
}

static void any_chunk_comes_back(void **state)
{
    (void)state;
    unsigned seen[CHUNK_CODECS] = {0};
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct world w;
        enum chunk_codec codec;
        make_world(&w, seed);
        there_and_back(&w.segments, w.bytes, &codec);
        seen[codec]++;
    }
    for (unsigned codec = 0; codec < CHUNK_CODECS; codec++)
        assert_true(codec == CHUNK_REPEAT || seen[codec] > 5);
}

/* Whatever was encoded before, and by whom. */
static void the_same_bytes_give_the_same_bytes(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world w;
        struct encoder *fresh = NULL;
        enum chunk_codec codec, again;
        uint32_t length, length_again;
        make_world(&w, seed);
        struct segments plan = w.segments;
        encode_chunk(encoder, raw, w.bytes, &w.segments, stored, &codec, &length);
        assert_int_equal(encoder_create(&fresh, NULL), TIDE_OK);
        encode_chunk(fresh, raw, w.bytes, &plan, back, &again, &length_again);
        encoder_free(fresh);
        assert_int_equal(codec, again);
        assert_int_equal(length, length_again);
        assert_memory_equal(stored, back, length);
    }
}

/* All come back the same, and no more than the strongest is needed to read them. */
static void effort_is_a_matter_of_size_alone(void **state)
{
    (void)state;
    uint64_t bytes[3] = {0};
    for (uint64_t seed = 1; seed <= 60; seed++)
        for (unsigned level = EFFORT_RAW; level <= EFFORT_STRONG; level++) {
            struct world w;
            enum chunk_codec codec;
            make_world(&w, seed);
            encoder_effort(encoder, level);
            bytes[level] += there_and_back(&w.segments, w.bytes, &codec);
            assert_true(level != EFFORT_RAW || codec == CHUNK_RAW || codec == CHUNK_ZERO || codec == CHUNK_REPEAT);
        }
    encoder_effort(encoder, EFFORT_FAST);
    assert_true(bytes[EFFORT_STRONG] < bytes[EFFORT_FAST]);
    assert_true(bytes[EFFORT_FAST] < bytes[EFFORT_RAW]);
}

/* Damaged, cut short, called by another name: refused or decoded to something, and nothing outside is touched. The copies
 * are exactly as long as they are, so that a sanitizer sees a byte too far. */
static void damage_stays_inside(void **state)
{
    (void)state;
    struct rng rng = {.state = 77};
    unsigned refused = 0;
    for (uint64_t seed = 1; seed <= 120; seed++) {
        struct world w;
        enum chunk_codec codec;
        make_world(&w, seed);
        uint32_t length = there_and_back(&w.segments, w.bytes, &codec);
        for (int k = 0; k < 20 && length > 0; k++) {
            uint32_t cut = rng_below(&rng, 3) ? length : (uint32_t)rng_below(&rng, length);
            unsigned char *copy = mem_alloc(cut + 1u);
            struct err err = {0};
            memcpy(copy + 1, stored, cut);
            uint64_t head = rng_below(&rng, 2) && cut > 40 ? 40 : cut;
            if (cut > 0)
                copy[1 + rng_below(&rng, head)] ^= (unsigned char)(1u << rng_below(&rng, 8));
            enum chunk_codec as = rng_below(&rng, 8) ? codec : (enum chunk_codec)rng_below(&rng, CHUNK_CODECS);
            guard(back, w.bytes);
            if (decode_chunk(encoder, as, copy + 1, cut, back, w.bytes, &err) != TIDE_OK) {
                assert_true(err.text[0] != '\0');
                refused++;
            }
            is_guarded(back, w.bytes);
            mem_free(copy);
        }
    }
    assert_true(refused > 300);
    struct err err = {0};
    assert_int_equal(decode_chunk(encoder, CHUNK_ZERO, stored, 0, back, FORMAT_CHUNK_BYTES + 1, &err), TIDE_E_CORRUPT);
    assert_int_equal(decode_chunk(encoder, CHUNK_CODECS, stored, 1, back, 64, &err), TIDE_E_CORRUPT);
}

/* ---- zstd's own program ---- */

static void run_zstd(const char *from, const char *to)
{
    extern char **environ;
    const char *argv[] = {"zstd", "-q", "-d", "-f", from, "-o", to, NULL};
    pid_t pid;
    int status;
    assert_int_equal(posix_spawnp(&pid, "zstd", NULL, NULL, (char *const *)(uintptr_t)argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_plane_is_an_ordinary_frame(void **state)
{
    (void)state;
    char *dir = test_dir(), from[256], to[256], *text;
    struct segments s = one_segment(TIDE_F32, FORMAT_CHUNK_BYTES), read;
    enum chunk_codec codec;
    struct err err = {0};
    uint32_t table, plane_bytes = FORMAT_CHUNK_BYTES / 4;
    size_t bytes;
    test_floats(raw, FORMAT_CHUNK_BYTES, TIDE_F32, 3);
    uint32_t length = there_and_back(&s, FORMAT_CHUNK_BYTES, &codec);
    assert_int_equal(codec, CHUNK_PLANES);
    assert_int_equal(segments_parse(stored, length, FORMAT_CHUNK_BYTES, &read, &table, &err), TIDE_OK);
    assert_int_equal(read.items[0].planes[3].method, PLANE_ZSTD);
    snprintf(from, sizeof from, "%s/plane.zst", dir);
    snprintf(to, sizeof to, "%s/plane", dir);
    int fd = open(from, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(fsx_write_all(fd, stored + table + 3 * plane_bytes, read.items[0].planes[3].length, from, &err),
                     TIDE_OK);
    close(fd);
    run_zstd(from, to);
    assert_int_equal(fsx_read(to, FORMAT_CHUNK_BYTES, &text, &bytes, &err), TIDE_OK);
    assert_int_equal(bytes, plane_bytes);
    for (uint32_t i = 0; i < plane_bytes; i++)
        assert_int_equal((unsigned char)text[i], raw[4 * i + 3]);
    mem_free(text);
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_become_smaller), cmocka_unit_test(what_is_the_same_is_dropped),
        cmocka_unit_test(noise_stays_as_it_is),   cmocka_unit_test(samples_tell_noise_from_exponents),
        cmocka_unit_test(what_stays_as_it_is_may_stay_where_it_is),
        cmocka_unit_test(any_chunk_comes_back),   cmocka_unit_test(the_same_bytes_give_the_same_bytes),
        cmocka_unit_test(effort_is_a_matter_of_size_alone),
        cmocka_unit_test(damage_stays_inside),    cmocka_unit_test(a_plane_is_an_ordinary_frame),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
