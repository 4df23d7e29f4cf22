/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "ckpt/format/tensors.h"
#include "ckpt/stage/export.h"
#include "tests/unit/slots.h"

/* What comes out of an export is what was recorded. That others read the layout is shown with a reader of its own, in Python, by
 * tests/integration/cluster_keep.sh. */

#define WORLD 2u
#define CUT 6u
#define FILE_BYTES_MAX (32u << 20)

static char *arena, *out, *root;
static struct store *store;
static struct manifest whole;
/* Odd sizes first in the shard, so that they must not be first in the file; more than a chunk, and less. */
static const struct test_region regions[] = {{"bytes", 1000001}, {"weights", 3u << 20}, {"halves", 70002}, {"empty", 0},
                                             {"counts", 1600},   {"zeros", 8},          {"tidemark.channel", 333}};
#define REGIONS (sizeof regions / sizeof regions[0])

static int setup(void **state)
{
    (void)state;
    struct err err = {0};
    struct cut_order order = {.cut = CUT, .generation = 3, .step = CUT * 10};
    char hex[DIGEST_HEX_CHARS + 1], key[TIDE_PATH_MAX + 1];
    arena = test_dir();
    out = test_dir();
    root = test_dir();
    assert_int_equal(store_open(root, &store, &err), TIDE_OK);
    for (uint32_t rank = 0; rank < WORLD; rank++) {
        struct stage_shard shard;
        test_record(arena, rank, 1, CUT, regions, REGIONS, WORLD);
        assert_int_equal(stage_sum(arena, rank, 1, TEST_UID, CUT, hex, &err), TIDE_OK);
        assert_int_equal(stage_store(store, arena, rank, 1, "job", TEST_UID, CUT, &shard, &err), TIDE_OK);
        test_add_shard(&order, rank, &shard);
    }
    assert_int_equal(stage_commit(store, "job", TEST_UID, &order, key, hex, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
    assert_int_equal(manifest_read(store, key, hex, &whole, &err), TIDE_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    codec_release(&manifest_codec, &whole);
    store_close(store);
    test_dir_remove(arena);
    test_dir_remove(out);
    test_dir_remove(root);
    return 0;
}

static void add(void *context, uint64_t bytes)
{
    *(uint64_t *)context += bytes;
}

static char *exported(uint32_t rank, enum export_format format, size_t *ret_bytes)
{
    struct err err = {0};
    char path[TIDE_PATH_MAX + 1], *data = NULL;
    uint64_t done = 0;
    assert_int_equal(stage_export(store, &whole, rank, format, out, add, &done, path, &err), TIDE_OK);
    assert_int_equal(done, whole.shards.items[rank].raw_bytes);
    assert_int_equal(fsx_read(path, FILE_BYTES_MAX, &data, ret_bytes, &err), TIDE_OK);
    return data;
}

/* The program's regions, wide numbers first. */
static const unsigned order[] = {4, 1, 5, 2, 0};

static void is_recorded(const char *data, size_t bytes, uint32_t rank)
{
    size_t at = 0;
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        const struct test_region *r = &regions[order[i]];
        unsigned char *want = mem_alloc(r->bytes + 1);
        test_fill(want, r->bytes, r->name, CUT * 100 + rank);
        assert_true(at + r->bytes <= bytes);
        assert_memory_equal(data + at, want, r->bytes);
        at += r->bytes;
        mem_free(want);
    }
    assert_int_equal(at, bytes);
}

static void raw_is_what_was_recorded(void **state)
{
    (void)state;
    struct err err = {0};
    for (uint32_t rank = 0; rank < WORLD; rank++) {
        size_t bytes;
        char *data = exported(rank, EXPORT_RAW, &bytes), *path = mem_format("%s/rank-0000%u.json", out, rank), *text = NULL;
        is_recorded(data, bytes, rank);
        assert_int_equal(fsx_read(path, FILE_BYTES_MAX, &text, &bytes, &err), TIDE_OK);
        json_t *json = json_loads(text, 0, NULL);
        json_t *list = json_object_get(json, "regions");
        assert_int_equal(json_array_size(list), REGIONS - 1);
        json_t *first = json_array_get(list, 0);
        assert_string_equal(json_string_value(json_object_get(first, "name")), "counts");
        assert_string_equal(json_string_value(json_object_get(first, "dtype")), "i64");
        json_decref(json);
        mem_free(text);
        mem_free(path);
        mem_free(data);
    }
}

static void safetensors_is_a_header_and_the_same(void **state)
{
    (void)state;
    for (uint32_t rank = 0; rank < WORLD; rank++) {
        size_t bytes;
        char *data = exported(rank, EXPORT_SAFETENSORS, &bytes);
        uint64_t head = 0;
        for (unsigned i = 0; i < 8; i++)
            head |= (uint64_t)(unsigned char)data[i] << (8 * i);
        assert_true(head % 8 == 0 && head + 8 < bytes);
        json_t *json = json_loadb(data + 8, head, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(json);
        json_t *weights = json_object_get(json, "weights");
        assert_string_equal(json_string_value(json_object_get(weights, "dtype")), "F32");
        assert_int_equal(json_array_size(json_object_get(weights, "shape")), 2); /* as registered: it fits */
        json_t *halves = json_object_get(json, "halves");
        assert_string_equal(json_string_value(json_object_get(halves, "dtype")), "BF16");
        assert_int_equal(json_array_size(json_object_get(halves, "shape")), 1); /* … and that does not */
        assert_string_equal(json_string_value(json_object_get(json_object_get(json, TENSOR_METADATA), "rank")), rank ? "1" : "0");
        assert_null(json_object_get(json, "tidemark.channel"));
        json_decref(json);
        is_recorded(data + 8 + head, bytes - 8 - head, rank);
        mem_free(data);
    }
}

static void nothing_is_replaced_and_nothing_half_is_left(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    char path[TIDE_PATH_MAX + 1];
    size_t bytes;
    mem_free(exported(0, EXPORT_SAFETENSORS, &bytes));
    assert_int_equal(stage_export(store, &whole, 0, EXPORT_SAFETENSORS, out, NULL, NULL, path, &err), TIDE_E_EXISTS);
    /* Rank 1 has a bad byte. */
    assert_int_equal(store_list(store, "c/", &keys, &err), TIDE_OK);
    for (size_t i = 0; i < keys.count; i++) {
        char *object = mem_format("%s/%s", root, keys.items[i]);
        if (strstr(object, "/1-0-") != NULL) {
            assert_int_equal(chmod(object, 0600), 0);
            test_flip(object, 5000, 1);
        }
        mem_free(object);
    }
    strlist_release(&keys);
    assert_int_equal(stage_export(store, &whole, 1, EXPORT_SAFETENSORS, out, NULL, NULL, path, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "of rank 1 in object c/"));
    assert_int_not_equal(access(path, F_OK), 0);
    char *part = mem_format("%s.part", path);
    assert_int_not_equal(access(part, F_OK), 0);
    mem_free(part);
}

/* Somebody else's file, of those words. */
static void put_file(const char *path, const char *text)
{
    struct err err = {0};
    assert_int_equal(fsx_replace(path, text, strlen(text), 0600, &err), TIDE_OK);
}

static void file_holds(const char *path, const char *text)
{
    struct err err = {0};
    char *data = NULL;
    size_t bytes = 0;
    assert_int_equal(fsx_read(path, FILE_BYTES_MAX, &data, &bytes, &err), TIDE_OK);
    assert_string_equal(data, text);
    mem_free(data);
}

/* What link() does, for once: instead of the C library's. */
static enum { LINKS, LINKS_NOT, LINKS_LATE } linking;

int link(const char *from, const char *to)
{
    if (linking == LINKS_NOT) { /* as on FAT */
        errno = EPERM;
        return -1;
    }
    if (linking == LINKS_LATE) /* somebody was faster */
        put_file(to, "another's");
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void what_appears_meanwhile_is_not_replaced(void **state)
{
    (void)state;
    struct err err = {0};
    char path[TIDE_PATH_MAX + 1];
    linking = LINKS_LATE;
    assert_int_equal(stage_export(store, &whole, 0, EXPORT_SAFETENSORS, out, NULL, NULL, path, &err), TIDE_E_EXISTS);
    linking = LINKS;
    file_holds(path, "another's");
    char *part = mem_format("%s.part", path);
    assert_int_not_equal(access(part, F_OK), 0);
    mem_free(part);
}

static void a_file_system_without_links_will_do(void **state)
{
    (void)state;
    size_t bytes;
    linking = LINKS_NOT;
    char *data = exported(0, EXPORT_RAW, &bytes);
    linking = LINKS;
    is_recorded(data, bytes, 0);
    mem_free(data);
}

/* The index is looked for before anything is written, and a link to nowhere is something that is there. */
static void the_index_is_not_replaced_either(void **state)
{
    (void)state;
    struct err err = {0};
    char path[TIDE_PATH_MAX + 1], *index = mem_format("%s/rank-00000.json", out);
    put_file(index, "{}");
    assert_int_equal(stage_export(store, &whole, 0, EXPORT_RAW, out, NULL, NULL, path, &err), TIDE_E_EXISTS);
    assert_non_null(strstr(err.text, "rank-00000.json is there already; remove it, or name another directory"));
    file_holds(index, "{}");
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(unlink(index), 0);
    assert_int_equal(symlink("/nowhere/at/all", index), 0);
    assert_int_equal(stage_export(store, &whole, 0, EXPORT_RAW, out, NULL, NULL, path, &err), TIDE_E_EXISTS);
    mem_free(index);
}

/* Nobody who may write into the directory makes an export write elsewhere. */
static void no_link_is_followed(void **state)
{
    (void)state;
    struct err err = {0};
    char path[TIDE_PATH_MAX + 1], *victim = mem_format("%s/victim", root), *part = mem_format("%s/rank-00000.bin.part", out);
    put_file(victim, "precious");
    assert_int_equal(symlink(victim, part), 0);
    assert_int_equal(stage_export(store, &whole, 0, EXPORT_RAW, out, NULL, NULL, path, &err), TIDE_E_EXISTS);
    assert_non_null(strstr(err.text, "rank-00000.bin.part is there already"));
    file_holds(victim, "precious");
    mem_free(victim);
    mem_free(part);
}

static void bad_data_has_no_index(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    char path[TIDE_PATH_MAX + 1], *index = mem_format("%s/rank-00001.json", out);
    assert_int_equal(store_list(store, "c/", &keys, &err), TIDE_OK);
    for (size_t i = 0; i < keys.count; i++) {
        char *object = mem_format("%s/%s", root, keys.items[i]);
        assert_int_equal(chmod(object, 0600), 0);
        test_flip(object, 5000, 1);
        mem_free(object);
    }
    strlist_release(&keys);
    assert_int_equal(stage_export(store, &whole, 1, EXPORT_RAW, out, NULL, NULL, path, &err), TIDE_E_CORRUPT);
    assert_int_not_equal(access(index, F_OK), 0);
    mem_free(index);
}

static void names_that_no_tensor_can_have(void **state)
{
    (void)state;
    struct rank_manifest m = {.world_size = 1};
    struct err err = {0};
    struct tensors tensors;
    for (int i = 0; i < 2; i++) {
        struct region_entry *r = codec_list_add(&region_entry_codec, &m.regions);
        text_copy(r->name, sizeof r->name, "twice");
        r->bytes = 4;
    }
    assert_int_equal(tensors_plan(&m, &tensors, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, "\"twice\" cannot be a tensor: there are two; export it with --format raw"));
    tensors_release(&tensors);
    text_copy(m.regions.items[0].name, sizeof m.regions.items[0].name, TENSOR_METADATA);
    assert_int_equal(tensors_plan(&m, &tensors, &err), TIDE_E_INVALID);
    tensors_release(&tensors);
    codec_release(&rank_manifest_codec, &m);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(raw_is_what_was_recorded),
        CASE(safetensors_is_a_header_and_the_same),
        CASE(nothing_is_replaced_and_nothing_half_is_left),
        CASE(what_appears_meanwhile_is_not_replaced),
        CASE(a_file_system_without_links_will_do),
        CASE(the_index_is_not_replaced_either),
        CASE(no_link_is_followed),
        CASE(bad_data_has_no_index),
        cmocka_unit_test(names_that_no_tensor_can_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
