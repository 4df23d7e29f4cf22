/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/format/manifest.h"

#define UID "0123456789abcdef"
#define CONTENT "0123456789abcdef"
#define HEX "00112233445566778899aabbccddeeff"

static const struct cut_name name = {.job = "fashion", .uid = UID, .cut = 7, .generation = 2};

static void keys_are_those_of_the_readme(void **state)
{
    (void)state;
    object_key key;
    unsigned place;
    char tail[128];
    key_pack(&name, 3, 12, CONTENT, key);
    assert_int_equal(sscanf(key, "c/%2x/%127s", &place, tail), 2);
    assert_string_equal(tail, "fashion." UID "/7-2/3-12-" CONTENT ".pk");
    object_key prefix;
    key_prefix_packs("fashion", UID, 7, place, prefix);
    assert_int_equal(strncmp(key, prefix, strlen(prefix)), 0);
    assert_string_equal(prefix + strlen("c/00/"), "fashion." UID "/7-");
    key_prefix_packs("fashion", UID, 0, place, prefix);
    assert_int_equal(strncmp(key, prefix, strlen(prefix)), 0);
    assert_string_equal(prefix + strlen("c/00/"), "fashion." UID "/");
    key_rank(&name, 3, key);
    assert_string_equal(key, "m/fashion." UID "/7-2/3.json");
    assert_false(key_is_commit(key));
    key_commit(&name, key);
    assert_string_equal(key, "m/fashion." UID "/7-2/COMMIT");
    assert_true(key_is_commit(key));
    key_prefix_manifests("fashion", UID, 7, prefix);
    assert_int_equal(strncmp(key, prefix, strlen(prefix)), 0);
}

static void keys_are_read_back(void **state)
{
    (void)state;
    struct pack_name pack;
    object_key key;
    uint64_t needed = 0, cut = 0;
    for (int with = 0; with < 2; with++) {
        key_pack(&name, 3, 12, with ? CONTENT : "", key);
        assert_int_equal(key_pack_parse(key, "fashion", UID, &pack), 0);
        assert_true(pack.cut == 7 && pack.generation == 2 && pack.rank == 3 && pack.seq == 12);
        assert_string_equal(pack.content, with ? CONTENT : "");
        assert_int_not_equal(key_pack_parse(key, "fashio", UID, &pack), 0);
        for (size_t i = 0; key[i]; i++) {
            object_key other;
            snprintf(other, sizeof other, "%.*s%c%s", (int)i, key, key[i] == 'x' ? 'y' : 'x', key + i + 1);
            assert_int_not_equal(key_pack_parse(other, "fashion", UID, &pack), 0);
            snprintf(other, sizeof other, "%.*s0%s", (int)i, key, key + i);
            assert_int_not_equal(key_pack_parse(other, "fashion", UID, &pack), 0);
            snprintf(other, sizeof other, "%.*s", (int)i, key);
            assert_int_not_equal(key_pack_parse(other, "fashion", UID, &pack), 0);
        }
    }
    assert_int_not_equal(key_pack_parse("../../etc/passwd", "fashion", UID, &pack), 0);
    key_need(&name, 5, key);
    assert_string_equal(key, "n/fashion." UID "/5/7-2");
    assert_int_equal(key_need_parse(key, "fashion", UID, &needed, &cut), 0);
    assert_true(needed == 5 && cut == 7);
    assert_int_not_equal(key_need_parse("n/fashion." UID "/05/7-2", "fashion", UID, &needed, &cut), 0);
    key_garbage("fashion", UID, 5, key);
    assert_string_equal(key, "g/fashion." UID "/5");
    assert_int_equal(key_garbage_parse(key, "fashion", UID, &cut), 0);
    assert_int_equal(cut, 5);
    assert_int_not_equal(key_garbage_parse("g/fashion." UID "/5x", "fashion", UID, &cut), 0);
    assert_int_not_equal(key_garbage_parse("g/fashion." UID "/0", "fashion", UID, &cut), 0);
    key_damaged("fashion", UID, 5, key);
    assert_string_equal(key, "d/fashion." UID "/5");
    assert_int_equal(key_damaged_parse(key, "fashion", UID, &cut), 0);
    assert_int_not_equal(key_garbage_parse(key, "fashion", UID, &cut), 0);
    assert_int_not_equal(key_damaged_parse("d/fashion." UID "/05", "fashion", UID, &cut), 0);
    assert_int_not_equal(key_damaged_parse("d", "fashion", UID, &cut), 0);
}

static void packs_are_spread(void **state)
{
    (void)state;
    int seen[KEY_PLACES] = {0}, places = 0;
    for (uint32_t rank = 0; rank < 1024; rank++) {
        object_key key;
        unsigned place;
        key_pack(&name, rank, 0, CONTENT, key);
        assert_int_equal(sscanf(key, "c/%2x/", &place), 1);
        places += !seen[place]++;
    }
    assert_true(places > 200);
}

static void chunk_lines_survive(void **state)
{
    (void)state;
    struct rng rng = {.state = 5};
    for (int i = 0; i < 1000; i++) {
        struct chunk chunk = {.codec = (enum chunk_codec)rng_below(&rng, CHUNK_CODECS),
                              .digest = {rng_next(&rng), rng_next(&rng)}},
                     back;
        if (chunk.codec != CHUNK_ZERO) {
            chunk.pack = (uint32_t)rng_next(&rng);
            chunk.offset = rng_next(&rng) >> 1;
            chunk.length = (uint32_t)rng_next(&rng);
        }
        char line[CHUNK_TEXT_MAX];
        chunk_print(&chunk, line);
        struct err err = {0};
        assert_int_equal(chunk_parse(line, &back, &err), TIDE_OK);
        assert_int_equal(back.codec, chunk.codec);
        assert_int_equal(back.pack, chunk.pack);
        assert_int_equal(back.offset, chunk.offset);
        assert_int_equal(back.length, chunk.length);
        assert_true(digest_equal(back.digest, chunk.digest));
    }
}

static void chunk_garbage_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "0",
                                      "0 ",
                                      "x " HEX,
                                      "0 " HEX " ",
                                      "0 " HEX " 1 2 3",
                                      "r " HEX,
                                      "r " HEX " 1",
                                      "r " HEX " 1 2",
                                      "r " HEX " 1 2 3 4",
                                      "r " HEX " 1  2 3",
                                      "r " HEX " -1 2 3",
                                      "r " HEX " 01 2 3",
                                      "r " HEX " 4294967296 2 3",
                                      "r " HEX " 1 9223372036854775808 3",
                                      "z " HEX " 1 2 99999999999999999999999",
                                      "z 0011 1 2 3",
                                      "8 " HEX,
                                      "p " HEX " 1 2",
                                      "r" HEX " 1 2 3",
                                      "r 00112233445566778899aabbccddeefg 1 2 3"};
    struct chunk chunk;
    struct err err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(chunk_parse(bad[i], &chunk, &err), TIDE_E_INVALID);
}

static void shapes_survive(void **state)
{
    (void)state;
    char text[SHAPE_TEXT_MAX + 1];
    uint64_t most[TIDE_DIMS_MAX], shape[TIDE_DIMS_MAX];
    unsigned ndim = 9;
    for (unsigned i = 0; i < TIDE_DIMS_MAX; i++)
        most[i] = UINT64_MAX - i;
    shape_print(TIDE_DIMS_MAX, most, text);
    assert_int_equal(shape_parse(text, &ndim, shape), 0);
    assert_int_equal(ndim, TIDE_DIMS_MAX);
    assert_memory_equal(shape, most, sizeof most);
    assert_int_equal(shape_parse("", &ndim, shape), 0);
    assert_int_equal(ndim, 0);
    static const char *const bad[] = {"x", "1x", "x1", "1xx2", "-1", "1 x2", "18446744073709551616", "1x1x1x1x1x1x1x1x1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_not_equal(shape_parse(bad[i], &ndim, shape), 0);
}

/* ---- manifests ---- */

static struct rank_manifest sample(void)
{
    struct rank_manifest m = {.version = FORMAT_VERSION,
                              .job = "fashion",
                              .uid = UID,
                              .cut = 7,
                              .generation = 2,
                              .attempt = 1,
                              .rank = 1,
                              .world_size = 2,
                              .step = 70,
                              .data_bytes = FORMAT_CHUNK_BYTES + 128,
                              .chunk_bytes = FORMAT_CHUNK_BYTES,
                              .root = HEX};
    struct region_entry *r = codec_list_add(&region_entry_codec, &m.regions);
    *r = (struct region_entry){.name = "w [0]", .dtype = 2, .shape = "2x3", .bytes = FORMAT_CHUNK_BYTES};
    r = codec_list_add(&region_entry_codec, &m.regions);
    *r = (struct region_entry){.name = "b", .offset = FORMAT_CHUNK_BYTES, .bytes = 100};
    struct pack_entry *pack = codec_list_add(&pack_entry_codec, &m.packs);
    struct cut_name of = rank_manifest_name(&m);
    key_pack(&of, 1, 0, CONTENT, pack->key);
    pack->bytes = 5000;
    strlist_add(&m.chunks, "z " HEX " 0 0 5000");
    strlist_add(&m.chunks, "0 " HEX);
    return m;
}

static enum tide_status round_trip(const struct rank_manifest *m, struct err *err)
{
    struct rank_manifest back;
    char *text = codec_print(&rank_manifest_codec, m, CODEC_COMPACT);
    enum tide_status status = rank_manifest_parse(text, strlen(text), &back, err);
    if (status == TIDE_OK) {
        char *again = codec_print(&rank_manifest_codec, &back, CODEC_COMPACT);
        assert_string_equal(text, again);
        mem_free(again);
        codec_release(&rank_manifest_codec, &back);
    }
    mem_free(text);
    return status;
}

static void rank_manifests_survive(void **state)
{
    (void)state;
    struct err err = {0};
    struct rank_manifest m = sample();
    assert_int_equal(round_trip(&m, &err), TIDE_OK);
    m.chunks.items[0][0] = 'p';
    assert_int_equal(round_trip(&m, &err), TIDE_OK);
    codec_release(&rank_manifest_codec, &m);
}

/* One change at a time, each of which must be found. */
#define WRONG(change, words)                                                                                                \
    do {                                                                                                                    \
        struct rank_manifest m = sample();                                                                                  \
        struct err err = {0};                                                                                               \
        change;                                                                                                             \
        assert_int_equal(round_trip(&m, &err), TIDE_E_CORRUPT);                                                             \
        assert_non_null(strstr(err.text, words));                                                                           \
        codec_release(&rank_manifest_codec, &m);                                                                            \
    } while (0)

static void rank_manifests_are_judged(void **state)
{
    (void)state;
    WRONG(m.chunk_bytes = 4096, "1 MiB");
    WRONG(m.rank = 2, "world size");
    WRONG(m.root[0] = 'g', "root");
    WRONG(m.data_bytes += 1, "");
    WRONG(m.data_bytes += FORMAT_CHUNK_BYTES, "chunk table");
    WRONG(m.regions.items[1].offset += 64, "\"b\"");
    WRONG(m.regions.items[1].bytes = UINT64_MAX >> 1, "\"b\"");
    WRONG(m.regions.items[0].name[1] = '\n', "region 0");
    WRONG(m.regions.items[0].shape[1] = 'y', "region 0");
    WRONG(m.packs.items[0].key[0] = 'd', "pack 0");
    WRONG(text_copy(m.packs.items[0].key, sizeof m.packs.items[0].key, "c/00/../../etc/passwd"), "that leads elsewhere");
    WRONG(text_copy(m.packs.items[0].key, sizeof m.packs.items[0].key, "/etc/passwd"), "is no pack of job");
    WRONG(key_pack(&(struct cut_name){"other", m.uid, m.cut, m.generation}, 1, 0, "", m.packs.items[0].key), "is no pack of job");
    WRONG(m.packs.items[0].bytes = 4999, "chunk 0");
    WRONG(m.packs.items[0].bytes = FORMAT_PACK_BYTES_MAX + 1, "pack 0");
    WRONG(m.chunks.items[0][0] = 'r', "chunk 0");
    WRONG(m.chunks.items[1][0] = 'q', "chunk 1");
    WRONG(m.chunks.items[0][0] = '8', "chunk 0"); /* longer than its pattern */
    WRONG(m.version = 1, "pack 0");
    WRONG((m.version = 1, key_pack(&name, 1, 0, "", m.packs.items[0].key), m.chunks.items[0][0] = 'p'), "later version");
    WRONG(m.job[0] = '/', "job");
}

static void shard_sample(struct region_entry *r)
{
    *r = (struct region_entry){.name = "b", .offset = FORMAT_CHUNK_BYTES, .bytes = 96, .dtype = 2, .kind = REGION_SHARD,
                               .shape = "4x6", .whole = "8x6", .at = "4x0"};
}

static void regions_that_are_parts_of_a_whole_are_version_4(void **state)
{
    (void)state;
    struct err err = {0};
    struct rank_manifest m = sample();
    struct region_entry *b = &m.regions.items[1];
    assert_int_equal(rank_manifest_version(&m), 3); /* what older programs can read they are to be able to read */
    shard_sample(b);
    assert_int_equal(rank_manifest_version(&m), 4);
    assert_int_equal(round_trip(&m, &err), TIDE_OK);
    b->kind = REGION_REPLICATED;
    assert_int_equal(round_trip(&m, &err), TIDE_E_CORRUPT);
    b->whole[0] = b->at[0] = '\0';
    assert_int_equal(rank_manifest_version(&m), 4);
    assert_int_equal(round_trip(&m, &err), TIDE_OK);
    codec_release(&rank_manifest_codec, &m);
}

static void parts_of_a_whole_are_judged(void **state)
{
    (void)state;
#define PART(change, words)                                                                                                 \
    WRONG((m.version = 4, shard_sample(&m.regions.items[1]), change), words)
    PART(m.version = 3, "later version");
    PART(m.regions.items[1].bytes = 92, "\"b\"");
    PART(m.regions.items[1].at[0] = '5', "within the whole");
    PART(m.regions.items[1].whole[1] = '\0', "dimensions");
    PART(m.regions.items[1].shape[0] = '\0', "dimensions");
#undef PART
}

static struct rank_manifest referring(uint64_t cut, const char *uid)
{
    struct rank_manifest m = sample();
    struct cut_name of = {.job = "fashion", .uid = uid, .cut = cut, .generation = 1};
    struct pack_entry *pack = codec_list_add(&pack_entry_codec, &m.packs);
    key_pack(&of, 1, 9, "", pack->key); /* as version 2 wrote them */
    pack->bytes = 100;
    return m;
}

static void packs_of_earlier_cuts_of_the_job_are_referred_to(void **state)
{
    (void)state;
    static const struct {
        uint64_t cut;
        const char *uid;
        uint32_t version;
        enum tide_status status;
    } cases[] = {{6, UID, FORMAT_VERSION, TIDE_OK},
                 {7, UID, FORMAT_VERSION, TIDE_E_CORRUPT}, /* its own, of another generation */
                 {8, UID, FORMAT_VERSION, TIDE_E_CORRUPT},
                 {6, "fedcba9876543210", FORMAT_VERSION, TIDE_E_CORRUPT},
                 {6, UID, 2, TIDE_E_CORRUPT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = {0};
        struct rank_manifest m = referring(cases[i].cut, cases[i].uid);
        m.version = cases[i].version;
        if (m.version == 2) {
            struct cut_name of = rank_manifest_name(&m);
            key_pack(&of, 1, 0, "", m.packs.items[0].key);
        }
        assert_int_equal(rank_manifest_check(&m, &err), cases[i].status);
        assert_true(cases[i].status == TIDE_OK || strstr(err.text, "pack 1"));
        codec_release(&rank_manifest_codec, &m);
    }
}

static void newer_versions_are_named(void **state)
{
    (void)state;
    static const char newer[] = "{\"version\": 9, \"anything\": [1, 2]}";
    struct rank_manifest rank;
    struct manifest whole;
    struct err err = {0};
    assert_int_equal(rank_manifest_parse(newer, strlen(newer), &rank, &err), TIDE_E_VERSION);
    assert_non_null(strstr(err.text, "version 9"));
    assert_int_equal(manifest_parse(newer, strlen(newer), &whole, &err), TIDE_E_VERSION);
    static const char none[] = "{\"version\": 0}";
    assert_int_equal(manifest_parse(none, strlen(none), &whole, &err), TIDE_E_CORRUPT);
}

static struct manifest whole_sample(void)
{
    struct manifest m = {
        .version = FORMAT_VERSION, .job = "fashion", .uid = UID, .cut = 7, .generation = 2, .step = 70, .world_size = 2};
    for (uint32_t rank = 0; rank < 2; rank++) {
        struct shard_entry *shard = codec_list_add(&shard_entry_codec, &m.shards);
        *shard = (struct shard_entry){.rank = rank, .digest = HEX, .raw_bytes = 10, .stored_bytes = 5};
        key_rank(&name, rank, shard->key);
    }
    return m;
}

static void manifests_hold_every_rank(void **state)
{
    (void)state;
    struct err err = {0};
    struct manifest m = whole_sample(), back;
    char *text = codec_print(&manifest_codec, &m, CODEC_COMPACT);
    assert_int_equal(manifest_parse(text, strlen(text), &back, &err), TIDE_OK);
    assert_int_equal(back.shards.count, 2);
    codec_release(&manifest_codec, &back);
    mem_free(text);
    assert_int_equal(manifest_check(&m, &err), TIDE_OK);
    m.shards.items[1].rank = 0;
    assert_int_equal(manifest_check(&m, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "rank 1"));
    m.shards.items[1].rank = 1;
    m.world_size = 3;
    assert_int_equal(manifest_check(&m, &err), TIDE_E_CORRUPT);
    m.world_size = 2;
    m.shards.items[0].key[5] ^= 1;
    assert_int_equal(manifest_check(&m, &err), TIDE_E_CORRUPT);
    static const char *const elsewhere[] = {"m/fashion." UID "/7-2/../../x/0.json", "/etc/passwd", "m/other." UID "/7-2/0.json",
                                            "m/fashion." UID "/6-2/0.json"};
    for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++) {
        text_copy(m.shards.items[0].key, sizeof m.shards.items[0].key, elsewhere[i]);
        assert_int_equal(manifest_check(&m, &err), TIDE_E_CORRUPT);
        assert_non_null(strstr(err.text, elsewhere[i]));
        assert_non_null(strstr(err.text, "leads elsewhere is not followed; restore another checkpoint"));
    }
    codec_release(&manifest_codec, &m);
}

/* Whatever the bytes: an error or a manifest that passes its own check, and nothing leaks (sanitizers watch). */
static void garbage_is_survived(void **state)
{
    (void)state;
    struct rng rng = {.state = 11};
    struct rank_manifest m = sample();
    char *text = codec_print(&rank_manifest_codec, &m, CODEC_COMPACT);
    size_t n = strlen(text);
    int refused = 0;
    for (int i = 0; i < 5000; i++) {
        char *copy = mem_strdup(text);
        for (uint64_t k = 0; k <= rng_below(&rng, 3); k++)
            copy[rng_below(&rng, n)] = (char)rng_next(&rng);
        struct rank_manifest back;
        struct err err = {0};
        size_t bytes = rng_below(&rng, 4) ? n : rng_below(&rng, n);
        if (rank_manifest_parse(copy, bytes, &back, &err) == TIDE_OK) {
            assert_int_equal(rank_manifest_check(&back, &err), TIDE_OK);
            codec_release(&rank_manifest_codec, &back);
        } else {
            assert_true(err.text[0] != '\0');
            refused++;
        }
        mem_free(copy);
    }
    assert_true(refused > 3000);
    mem_free(text);
    codec_release(&rank_manifest_codec, &m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_those_of_the_readme),
        cmocka_unit_test(keys_are_read_back),
        cmocka_unit_test(packs_are_spread),
        cmocka_unit_test(chunk_lines_survive),
        cmocka_unit_test(chunk_garbage_is_refused),
        cmocka_unit_test(shapes_survive),
        cmocka_unit_test(rank_manifests_survive),
        cmocka_unit_test(rank_manifests_are_judged),
        cmocka_unit_test(regions_that_are_parts_of_a_whole_are_version_4),
        cmocka_unit_test(parts_of_a_whole_are_judged),
        cmocka_unit_test(packs_of_earlier_cuts_of_the_job_are_referred_to),
        cmocka_unit_test(newer_versions_are_named),
        cmocka_unit_test(manifests_hold_every_rank),
        cmocka_unit_test(garbage_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
