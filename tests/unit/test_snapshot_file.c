/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ckpt/base/log.h"
#include "coordinator/disk/snapshot_file.h"
#include "disk_dir.h"

#define CLUSTER "00112233445566aa"
#define INDEX 42u
#define TERM 7u
#define DATA_BYTES 3000000u /* some blocks of the check, and a part of one */

/* An image at the sender, whole in memory, and an empty directory of a receiver. */
struct journey {
    char *from, *to;
    char *bytes;
    size_t total;
    uint64_t digest;
};

static int journey_make(void **state)
{
    struct journey *j = mem_alloc(sizeof *j);
    dir_make((void **)&j->from);
    dir_make((void **)&j->to);
    struct snapshot snapshot = {.index = INDEX, .term = TERM, .config = "three", .config_bytes = 5, .bytes = DATA_BYTES};
    snapshot.data = mem_alloc(DATA_BYTES);
    for (size_t i = 0; i < DATA_BYTES; i++)
        snapshot.data[i] = (char)(i * 2654435761u >> 13);
    assert_int_equal(snapshot_save(j->from, CLUSTER, &snapshot, &j->digest, NULL), TIDE_OK);
    mem_free(snapshot.data);
    char path[DATA_FILE_MAX];
    datadir_numbered(j->from, "snap-", INDEX, ".img", path);
    j->bytes = file_read(path, &j->total);
    *state = j;
    return 0;
}

static int journey_end(void **state)
{
    struct journey *j = *state;
    dir_drop((void **)&j->from);
    dir_drop((void **)&j->to);
    mem_free(j->bytes);
    mem_free(j);
    return 0;
}

static struct snapshot_receive begin(const struct journey *j)
{
    struct snapshot_receive receive;
    assert_int_equal(snapshot_receive_begin(j->to, CLUSTER, INDEX, TERM, j->total, j->digest, &receive, NULL), TIDE_OK);
    return receive;
}

static void append(const struct journey *j, struct snapshot_receive *receive, uint64_t to)
{
    while (receive->offset < to) {
        uint64_t n = to - receive->offset < 100000 ? to - receive->offset : 100000;
        assert_int_equal(snapshot_receive_append(receive, receive->offset, j->bytes + receive->offset, n, NULL), TIDE_OK);
    }
}

static bool part_there(const struct journey *j, uint64_t index)
{
    char path[DATA_FILE_MAX];
    datadir_numbered(j->to, "snap-", index, ".img.part", path);
    return access(path, F_OK) == 0;
}

static void expect_arrived(const struct journey *j)
{
    struct snapshot snapshot;
    assert_int_equal(snapshot_newest(j->to, CLUSTER, &snapshot, NULL), TIDE_OK);
    assert_int_equal(snapshot.index, INDEX);
    assert_int_equal(snapshot.term, TERM);
    assert_int_equal(snapshot.digest, j->digest);
    assert_string_equal(snapshot.config, "three");
    assert_int_equal(snapshot.bytes, DATA_BYTES);
    snapshot_release(&snapshot);
    assert_false(part_there(j, INDEX));
}

static void an_image_travels_in_chunks(void **state)
{
    struct journey *j = *state;
    struct snapshot_file file;
    char chunk[70000];
    size_t n = 1;
    assert_int_equal(snapshot_file_open(j->from, CLUSTER, INDEX, &file, NULL), TIDE_OK);
    assert_int_equal(file.bytes, j->total);
    assert_int_equal(file.digest, j->digest);
    assert_int_equal(file.term, TERM);
    struct snapshot_receive receive = begin(j);
    assert_int_equal(receive.offset, 0);
    while (n > 0) {
        assert_int_equal(snapshot_file_read(&file, receive.offset, chunk, sizeof chunk, &n, NULL), TIDE_OK);
        assert_int_equal(snapshot_receive_append(&receive, receive.offset, chunk, n, NULL), TIDE_OK);
    }
    snapshot_file_close(&file);
    snapshot_file_close(&file);
    assert_int_equal(snapshot_receive_finish(&receive, NULL), TIDE_OK);
    expect_arrived(j);
}

static void an_open_image_outlives_its_name(void **state)
{
    struct journey *j = *state;
    struct snapshot_file file;
    char path[DATA_FILE_MAX], chunk[64];
    size_t n = 0;
    assert_int_equal(snapshot_file_open(j->from, CLUSTER, INDEX, &file, NULL), TIDE_OK);
    datadir_numbered(j->from, "snap-", INDEX, ".img", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(snapshot_file_read(&file, j->total - 10, chunk, sizeof chunk, &n, NULL), TIDE_OK);
    assert_int_equal(n, 10);
    assert_memory_equal(chunk, j->bytes + j->total - 10, 10);
    snapshot_file_close(&file);
    struct err err = {0};
    assert_int_equal(snapshot_file_open(j->from, CLUSTER, INDEX, &file, &err), TIDE_E_NOT_FOUND);
}

static void what_is_no_image_is_not_sent(void **state)
{
    struct journey *j = *state;
    struct snapshot_file file;
    struct err err = {0};
    char path[DATA_FILE_MAX], other[DATA_FILE_MAX];
    datadir_numbered(j->from, "snap-", INDEX, ".img", path);
    datadir_numbered(j->from, "snap-", INDEX + 1, ".img", other);
    assert_int_equal(snapshot_file_open(j->from, "ffffffffffffffff", INDEX, &file, &err), TIDE_E_CORRUPT);
    file_write(other, j->bytes, j->total);
    assert_int_equal(snapshot_file_open(j->from, CLUSTER, INDEX + 1, &file, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "not what its name says"));
    file_write(other, j->bytes, 63);
    assert_int_equal(snapshot_file_open(j->from, CLUSTER, INDEX + 1, &file, &err), TIDE_E_CORRUPT);
    file_write(path, j->bytes, j->total - 1);
    assert_int_equal(snapshot_file_open(j->from, CLUSTER, INDEX, &file, &err), TIDE_E_CORRUPT);
    file_write(path, j->bytes, j->total);
    file_flip(path, 8, 0x40);
    assert_int_equal(snapshot_file_open(j->from, CLUSTER, INDEX, &file, &err), TIDE_E_VERSION);
}

static void a_restart_goes_on_where_it_was(void **state)
{
    struct journey *j = *state;
    static const uint64_t stops[] = {0, 1, 63, 64, 65, 70, 1048576, DATA_BYTES};
    for (size_t i = 0; i < sizeof stops / sizeof stops[0]; i++) {
        struct snapshot_receive receive = begin(j);
        append(j, &receive, stops[i]);
        snapshot_receive_close(&receive);
        receive = begin(j);
        /* Fewer bytes than a header do not say what they are of. */
        assert_int_equal(receive.offset, stops[i] < 64 ? 0 : stops[i]);
    }
    struct snapshot_receive receive = begin(j);
    append(j, &receive, j->total);
    snapshot_receive_close(&receive);
    receive = begin(j);
    assert_int_equal(receive.offset, j->total);
    assert_int_equal(snapshot_receive_finish(&receive, NULL), TIDE_OK);
    expect_arrived(j);
}

static void another_image_replaces_it(void **state)
{
    struct journey *j = *state;
    struct snapshot_receive receive = begin(j), other;
    append(j, &receive, 5000);
    snapshot_receive_close(&receive);
    assert_int_equal(snapshot_receive_begin(j->to, CLUSTER, INDEX, TERM, j->total, j->digest + 1, &other, NULL), TIDE_OK);
    assert_int_equal(other.offset, 0);
    snapshot_receive_close(&other);
    receive = begin(j);
    assert_int_equal(receive.offset, 0);
    append(j, &receive, 5000);
    snapshot_receive_close(&receive);
    assert_int_equal(snapshot_receive_begin(j->to, CLUSTER, INDEX, TERM, j->total + 1, j->digest, &other, NULL), TIDE_OK);
    assert_int_equal(other.offset, 0);
    snapshot_receive_close(&other);
    receive = begin(j);
    append(j, &receive, 5000);
    snapshot_receive_close(&receive);
    assert_int_equal(snapshot_receive_begin(j->to, CLUSTER, INDEX + 9, TERM, j->total, j->digest, &other, NULL), TIDE_OK);
    assert_int_equal(other.offset, 0);
    assert_false(part_there(j, INDEX));
    assert_true(part_there(j, INDEX + 9));
    snapshot_receive_abandon(&other);
    assert_false(part_there(j, INDEX + 9));
    snapshot_receive_abandon(&other);
}

static void what_does_not_fit_is_refused(void **state)
{
    struct journey *j = *state;
    struct snapshot_receive receive = begin(j);
    struct err err = {0};
    append(j, &receive, 1000);
    assert_int_equal(snapshot_receive_append(&receive, 999, j->bytes, 10, &err), TIDE_E_STATE);
    assert_int_equal(snapshot_receive_append(&receive, 1001, j->bytes, 10, &err), TIDE_E_STATE);
    assert_int_equal(snapshot_receive_append(&receive, 1000, j->bytes, j->total - 999, &err), TIDE_E_STATE);
    assert_int_equal(receive.offset, 1000);
    assert_int_equal(snapshot_receive_finish(&receive, &err), TIDE_E_STATE);
    append(j, &receive, j->total);
    assert_int_equal(snapshot_receive_append(&receive, j->total, j->bytes, 1, &err), TIDE_E_STATE);
    assert_int_equal(snapshot_receive_finish(&receive, NULL), TIDE_OK);
    assert_int_equal(snapshot_receive_append(&receive, j->total, j->bytes, 0, &err), TIDE_E_STATE);
    expect_arrived(j);
    assert_int_equal(snapshot_receive_begin(j->to, CLUSTER, 1, 1, 63, 1, &receive, &err), TIDE_E_LIMIT);
    assert_int_equal(snapshot_receive_begin(j->to, CLUSTER, 1, 1, SNAPSHOT_BYTES_MAX + 1, 1, &receive, &err), TIDE_E_LIMIT);
}

static void finish_fails(struct journey *j, const char *cluster, uint64_t term, uint64_t digest, enum tide_status expected)
{
    struct snapshot_receive receive;
    struct err err = {0};
    assert_int_equal(snapshot_receive_begin(j->to, cluster, INDEX, term, j->total, digest, &receive, NULL), TIDE_OK);
    append(j, &receive, j->total);
    assert_int_equal(snapshot_receive_finish(&receive, &err), expected);
    assert_false(part_there(j, INDEX));
    struct snapshot snapshot;
    assert_int_equal(snapshot_load(j->to, CLUSTER, INDEX, &snapshot, &err), TIDE_E_NOT_FOUND);
}

static void what_was_not_announced_is_thrown_away(void **state)
{
    struct journey *j = *state;
    finish_fails(j, CLUSTER, TERM + 1, j->digest, TIDE_E_CORRUPT);
    finish_fails(j, CLUSTER, TERM, j->digest + 1, TIDE_E_CORRUPT);
    finish_fails(j, "ffffffffffffffff", TERM, j->digest, TIDE_E_CORRUPT);
    for (size_t at = 0; at < j->total; at = at < 70 ? at + 1 : at * 3) {
        j->bytes[at] ^= 2;
        finish_fails(j, CLUSTER, TERM, j->digest, TIDE_E_CORRUPT);
        j->bytes[at] ^= 2;
    }
    /* Its part file, made by a host that died and kept the length but not the bytes. */
    struct snapshot_receive receive = begin(j);
    append(j, &receive, 2000000);
    snapshot_receive_close(&receive);
    char path[DATA_FILE_MAX];
    datadir_numbered(j->to, "snap-", INDEX, ".img.part", path);
    file_flip(path, 1500000, 0xff);
    receive = begin(j);
    assert_int_equal(receive.offset, 2000000);
    append(j, &receive, j->total);
    assert_int_equal(snapshot_receive_finish(&receive, NULL), TIDE_E_CORRUPT);
    receive = begin(j);
    assert_int_equal(receive.offset, 0);
    append(j, &receive, j->total);
    assert_int_equal(snapshot_receive_finish(&receive, NULL), TIDE_OK);
    expect_arrived(j);
}

static void an_older_part_is_swept(void **state)
{
    struct journey *j = *state;
    struct snapshot_receive receive = begin(j);
    struct err err = {0};
    uint64_t digest, oldest;
    append(j, &receive, j->total);
    struct snapshot own = {.index = INDEX - 1, .term = TERM, .data = "own"};
    assert_int_equal(snapshot_save(j->to, CLUSTER, &own, &digest, NULL), TIDE_OK);
    assert_int_equal(snapshot_prune(j->to, &oldest, NULL), TIDE_OK);
    assert_true(part_there(j, INDEX)); /* still wanted */
    own.index = INDEX;
    assert_int_equal(snapshot_save(j->to, CLUSTER, &own, &digest, NULL), TIDE_OK);
    assert_int_equal(snapshot_prune(j->to, &oldest, NULL), TIDE_OK);
    assert_false(part_there(j, INDEX));
    assert_int_equal(snapshot_receive_finish(&receive, &err), TIDE_E_NOT_FOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, journey_make, journey_end)

int main(void)
{
    log_init("test_snapshot_file", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(an_image_travels_in_chunks),
        TEST(an_open_image_outlives_its_name),
        TEST(what_is_no_image_is_not_sent),
        TEST(a_restart_goes_on_where_it_was),
        TEST(another_image_replaces_it),
        TEST(what_does_not_fit_is_refused),
        TEST(what_was_not_announced_is_thrown_away),
        TEST(an_older_part_is_swept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
