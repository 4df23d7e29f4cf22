/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <cmocka.h>
#include <xxhash.h>

#include "ckpt/base/log.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/disk/snapshot.h"
#include "coordinator/disk/snapshot_inner.h"
#include "disk_dir.h"

#define CLUSTER "00112233445566aa"

#define CONFIG "who is in it"

static uint64_t save(const char *dir, uint64_t index, char *text)
{
    struct snapshot snapshot = {
        .index = index, .term = 1, .config = CONFIG, .config_bytes = strlen(CONFIG), .data = text, .bytes = strlen(text)};
    uint64_t digest = 0;
    assert_int_equal(snapshot_save(dir, CLUSTER, &snapshot, &digest, NULL), TIDE_OK);
    return digest;
}

static void the_newest_valid_one_is_taken(void **dir)
{
    struct snapshot snapshot;
    assert_int_equal(snapshot_newest(*dir, CLUSTER, &snapshot, NULL), TIDE_OK);
    assert_null(snapshot.data);
    save(*dir, 7, "{\"seven\":true}");
    uint64_t digest = save(*dir, 19, "{\"nineteen\":true}");
    assert_int_equal(snapshot_newest(*dir, CLUSTER, &snapshot, NULL), TIDE_OK);
    assert_int_equal(snapshot.index, 19);
    assert_int_equal(snapshot.term, 1);
    assert_int_equal(snapshot.digest, digest);
    assert_string_equal(snapshot.data, "{\"nineteen\":true}");
    assert_int_equal(snapshot.config_bytes, strlen(CONFIG));
    assert_string_equal(snapshot.config, CONFIG);
    snapshot_release(&snapshot);
}

static void the_digest_names_the_content(void **dir)
{
    struct snapshot snapshot = {.index = 5, .term = 2, .config = "ab", .config_bytes = 2, .data = "cd", .bytes = 2};
    uint64_t digests[6], again = 0;
    assert_int_equal(snapshot_save(*dir, CLUSTER, &snapshot, &digests[0], NULL), TIDE_OK);
    assert_int_equal(snapshot_save(*dir, CLUSTER, &snapshot, &again, NULL), TIDE_OK);
    assert_int_equal(again, digests[0]);
    assert_int_equal(snapshot_save(*dir, "ffffffffffffffff", &snapshot, &digests[1], NULL), TIDE_OK);
    snapshot.term = 3;
    assert_int_equal(snapshot_save(*dir, CLUSTER, &snapshot, &digests[2], NULL), TIDE_OK);
    snapshot.config = "abc"; /* the same bytes in all, divided in another way */
    snapshot.config_bytes = 3;
    snapshot.data = "d";
    snapshot.bytes = 1;
    assert_int_equal(snapshot_save(*dir, CLUSTER, &snapshot, &digests[3], NULL), TIDE_OK);
    snapshot.config = NULL;
    snapshot.config_bytes = 0;
    assert_int_equal(snapshot_save(*dir, CLUSTER, &snapshot, &digests[4], NULL), TIDE_OK);
    snapshot.index = 6;
    assert_int_equal(snapshot_save(*dir, CLUSTER, &snapshot, &digests[5], NULL), TIDE_OK);
    for (size_t i = 0; i < 6; i++)
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(digests[i], digests[k]);
}

static void too_large_is_refused(void **dir)
{
    struct err err = {0};
    uint64_t digest = 77;
    struct snapshot snapshot = {.index = 5, .config = "", .config_bytes = SNAPSHOT_CONFIG_BYTES_MAX + 1, .data = ""};
    assert_int_equal(snapshot_save(*dir, CLUSTER, &snapshot, &digest, &err), TIDE_E_LIMIT);
    snapshot.config_bytes = 0;
    snapshot.bytes = SNAPSHOT_BYTES_MAX;
    assert_int_equal(snapshot_save(*dir, CLUSTER, &snapshot, &digest, &err), TIDE_E_LIMIT);
    assert_int_equal(digest, 77);
}

static void every_flipped_byte_costs_that_image_only(void **dir)
{
    char path[DATA_FILE_MAX];
    save(*dir, 7, "{\"seven\":true}");
    save(*dir, 19, "{\"nineteen\":true}");
    datadir_numbered(*dir, "snap-", 19, ".img", path);
    size_t bytes;
    char *whole = file_read(path, &bytes);
    for (size_t i = 0; i < bytes; i++) {
        struct snapshot snapshot;
        struct err err = {0};
        file_flip(path, (off_t)i, 1);
        assert_int_equal(snapshot_load(*dir, CLUSTER, 19, &snapshot, &err), TIDE_E_CORRUPT);
        assert_non_null(strstr(err.text, path));
        assert_int_equal(snapshot_newest(*dir, CLUSTER, &snapshot, NULL), TIDE_OK);
        assert_int_equal(snapshot.index, 7);
        snapshot_release(&snapshot);
        file_flip(path, (off_t)i, 1);
    }
    for (size_t n = 0; n < bytes; n++) {
        struct snapshot snapshot;
        file_write(path, whole, n);
        assert_int_equal(snapshot_load(*dir, CLUSTER, 19, &snapshot, NULL), TIDE_E_CORRUPT);
    }
    mem_free(whole);
}

/* As a backup lies somewhere: under any name, of any index and cluster. */
static void an_image_is_read_from_any_file(void **dir)
{
    char path[DATA_FILE_MAX], backup[DATA_FILE_MAX], cluster[TIDE_UID_CHARS + 1] = "";
    struct snapshot snapshot = {0};
    struct err err = {0};
    uint64_t digest = save(*dir, 19, "{\"nineteen\":true}");
    datadir_numbered(*dir, "snap-", 19, ".img", path);
    datadir_file(*dir, "monday", backup);
    assert_int_equal(rename(path, backup), 0);
    assert_int_equal(snapshot_load_file(backup, &snapshot, cluster, NULL), TIDE_OK);
    assert_int_equal(snapshot.index, 19);
    assert_int_equal(snapshot.digest, digest);
    assert_string_equal(snapshot.data, "{\"nineteen\":true}");
    assert_string_equal(snapshot.config, CONFIG);
    assert_string_equal(cluster, CLUSTER);
    snapshot_release(&snapshot);
    assert_int_equal(snapshot_load_file(path, &snapshot, cluster, &err), TIDE_E_NOT_FOUND);
    for (off_t i = 0; i < 93; i += 3) {
        file_flip(backup, i, 8);
        assert_int_equal(snapshot_load_file(backup, &snapshot, cluster, &err), TIDE_E_CORRUPT);
        assert_null(snapshot.data);
        file_flip(backup, i, 8);
    }
}

/* The image of that index says it is of that format; its checksum is right. */
static void image_of_format(const char *dir, uint64_t index, uint32_t format, char *path)
{
    struct snapshot_header header;
    size_t bytes;
    datadir_numbered(dir, "snap-", index, ".img", path);
    char *image = file_read(path, &bytes);
    memcpy(&header, image, sizeof header);
    header.format = format;
    const char *config = image + sizeof header, *data = config + header.config_bytes;
    header.sum = XXH3_64bits_withSeed(data, header.bytes, snapshot_data_seed(&header, config));
    memcpy(image, &header, sizeof header);
    file_write(path, image, bytes);
    mem_free(image);
}

static void an_image_of_the_format_before_is_read(void **dir)
{
    char path[DATA_FILE_MAX];
    struct snapshot snapshot = {0};
    struct err err = {0};
    save(*dir, 18, "{\"old\": true}");
    image_of_format(*dir, 18, SNAPSHOT_FORMAT_OLDEST, path);
    assert_int_equal(snapshot_load(*dir, CLUSTER, 18, &snapshot, &err), TIDE_OK);
    assert_string_equal(snapshot.data, "{\"old\": true}");
    snapshot_release(&snapshot);
    image_of_format(*dir, 18, SNAPSHOT_FORMAT_OLDEST - 1, path);
    assert_int_equal(snapshot_load(*dir, CLUSTER, 18, &snapshot, &err), TIDE_E_VERSION);
    assert_non_null(strstr(err.text, "knows formats 2 to 3"));
}

static void a_newer_image_is_refused_by_name(void **dir)
{
    char path[DATA_FILE_MAX], cluster[TIDE_UID_CHARS + 1] = "";
    struct snapshot snapshot = {0};
    struct err err = {0};
    save(*dir, 19, "{}");
    image_of_format(*dir, 19, SNAPSHOT_FORMAT + 5, path);
    assert_int_equal(snapshot_load(*dir, CLUSTER, 19, &snapshot, &err), TIDE_E_VERSION);
    assert_non_null(strstr(err.text, "format 8"));
    assert_int_equal(snapshot_load_file(path, &snapshot, cluster, &err), TIDE_E_VERSION);
    assert_int_equal(snapshot_newest(*dir, CLUSTER, &snapshot, &err), TIDE_E_VERSION); /* not passed over */
    assert_null(snapshot.data);
}

static void two_are_kept(void **dir)
{
    uint64_t oldest = 99, *indexes;
    size_t count;
    char leftover[DATA_FILE_MAX];
    save(*dir, 5, "{}");
    assert_int_equal(snapshot_prune(*dir, &oldest, NULL), TIDE_OK);
    assert_int_equal(oldest, 0); /* one alone is no reason to forget the log */
    save(*dir, 6, "{}");
    save(*dir, 8, "{}");
    datadir_file(*dir, "snap-00000000000000000009.img.tmp", leftover);
    file_write(leftover, "half", 4);
    assert_int_equal(snapshot_prune(*dir, &oldest, NULL), TIDE_OK);
    assert_int_equal(oldest, 6);
    assert_int_not_equal(access(leftover, F_OK), 0);
    assert_int_equal(datadir_list(*dir, "snap-", ".img", &indexes, &count, NULL), TIDE_OK);
    assert_int_equal(count, 2);
    assert_int_equal(indexes[0], 6);
    assert_int_equal(indexes[1], 8);
    mem_free(indexes);
}

static void a_directory_serves_one_process(void **arg)
{
    struct datadir first, second;
    struct err err = {0};
    char path[DATA_FILE_MAX];
    datadir_file(*arg, "a/b/data", path);
    assert_int_equal(datadir_open(path, NULL, 0, false, &first, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(datadir_open(path, CLUSTER, 3, true, &first, &err), TIDE_OK);
    assert_true(first.fresh);
    assert_int_equal(datadir_open(path, NULL, 0, false, &second, &err), TIDE_E_CONFLICT);
    assert_int_equal(datadir_commit(&first, NULL), TIDE_OK);
    assert_int_equal(datadir_open(path, CLUSTER, 3, true, &second, &err), TIDE_E_CONFLICT);
    assert_non_null(strstr(err.text, "in use"));
    datadir_close(&first);
    assert_int_equal(datadir_open(path, CLUSTER, 3, true, &first, &err), TIDE_OK);
    assert_false(first.fresh);
    datadir_close(&first);
}

static void a_directory_is_of_one_member_of_one_cluster(void **dir)
{
    struct datadir opened;
    struct err err = {0};
    assert_int_equal(datadir_open(*dir, CLUSTER, 18446744073709551615u, true, &opened, &err), TIDE_OK);
    assert_int_equal(datadir_commit(&opened, NULL), TIDE_OK);
    datadir_close(&opened);
    assert_int_equal(datadir_open(*dir, NULL, 0, false, &opened, &err), TIDE_OK);
    assert_string_equal(opened.cluster, CLUSTER);
    assert_int_equal(opened.member, 18446744073709551615u);
    datadir_close(&opened);
    assert_int_equal(datadir_open(*dir, "ffffffffffffffff", 0, true, &opened, &err), TIDE_E_CONFLICT);
    assert_non_null(strstr(err.text, "of cluster " CLUSTER));
    assert_non_null(strstr(err.text, "of cluster ffffffffffffffff"));
    assert_int_equal(datadir_open(*dir, CLUSTER, 2, true, &opened, &err), TIDE_E_CONFLICT);
    assert_non_null(strstr(err.text, "member 18446744073709551615 "));
    assert_non_null(strstr(err.text, "member 2 "));
    assert_int_equal(datadir_open(*dir, CLUSTER, 18446744073709551615u, false, &opened, &err), TIDE_OK);
    datadir_close(&opened);
}

static void a_newer_format_is_refused_by_name(void **dir)
{
    struct datadir opened;
    struct err err = {0};
    char path[DATA_FILE_MAX];
    datadir_file(*dir, "format", path);
    file_write(path, "tidemark-data 7 future things\n", 30);
    assert_int_equal(datadir_open(*dir, CLUSTER, 1, true, &opened, &err), TIDE_E_VERSION);
    assert_non_null(strstr(err.text, "format 7"));
    assert_non_null(strstr(err.text, "start the newer version"));
    file_write(path, "tidemark-data 1 " CLUSTER "\n", 33);
    assert_int_equal(datadir_open(*dir, CLUSTER, 1, true, &opened, &err), TIDE_E_VERSION);
    assert_non_null(strstr(err.text, "start the older version"));
    file_write(path, "tidemark-data 2 " CLUSTER "\n", 33);
    assert_int_equal(datadir_open(*dir, CLUSTER, 1, true, &opened, &err), TIDE_E_CORRUPT);
    file_write(path, "tidemark-data 2 " CLUSTER " 0\n", 35);
    assert_int_equal(datadir_open(*dir, CLUSTER, 1, true, &opened, &err), TIDE_E_CORRUPT);
    file_write(path, "rubbish\n", 8);
    assert_int_equal(datadir_open(*dir, CLUSTER, 1, true, &opened, &err), TIDE_E_CORRUPT);
    assert_int_equal(unlink(path), 0);
    save(*dir, 3, "{}");
    assert_int_equal(datadir_open(*dir, CLUSTER, 1, true, &opened, &err), TIDE_E_CORRUPT);
}

static void a_path_that_cannot_be_one_is_refused(void **dir)
{
    struct datadir opened;
    struct err err = {0};
    char path[DATA_FILE_MAX], longest[TIDE_PATH_MAX + 2];
    uint64_t *numbers, bytes = 0;
    size_t count;
    datadir_file(*dir, "file", path);
    file_write(path, "x", 1);
    assert_int_equal(datadir_open(path, CLUSTER, 1, true, &opened, &err), TIDE_E_IO);
    datadir_file(*dir, "file/below", path);
    assert_int_equal(datadir_open(path, CLUSTER, 1, true, &opened, &err), TIDE_E_IO);
    memset(longest, 'x', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(datadir_open(longest, CLUSTER, 1, true, &opened, &err), TIDE_E_LIMIT);
    assert_int_equal(datadir_open("", CLUSTER, 1, true, &opened, &err), TIDE_E_LIMIT);
    assert_int_equal(datadir_open(*dir, NULL, 0, false, &opened, &err), TIDE_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "is not a data directory"));
    assert_int_equal(datadir_list("/nonexistent", "a", "b", &numbers, &count, &err), TIDE_E_IO);
    assert_int_equal(datadir_free_bytes("/nonexistent", &bytes, &err), TIDE_E_IO);
    assert_int_equal(datadir_free_bytes(*dir, &bytes, NULL), TIDE_OK);
    assert_true(bytes > 0);
    /* Names that are nearly ours are somebody else's. */
    datadir_file(*dir, "snap-0000000000000000000x.img", path);
    file_write(path, "x", 1);
    assert_int_equal(datadir_list(*dir, "snap-", ".img", &numbers, &count, NULL), TIDE_OK);
    assert_int_equal(count, 0);
}

static void the_ballot_survives_and_is_checked(void **dir)
{
    struct ballot ballot;
    struct err err = {0};
    char path[DATA_FILE_MAX];
    assert_int_equal(ballot_load(*dir, &ballot, NULL), TIDE_OK);
    assert_int_equal(ballot.term, 0);
    assert_int_equal(ballot.vote, 0);
    assert_int_equal(ballot_save(*dir, (struct ballot){.term = 9, .vote = 2}, NULL), TIDE_OK);
    assert_int_equal(ballot_load(*dir, &ballot, NULL), TIDE_OK);
    assert_int_equal(ballot.term, 9);
    assert_int_equal(ballot.vote, 2);
    datadir_file(*dir, "ballot", path);
    for (off_t i = 0; i < 32; i++) {
        file_flip(path, i, 4);
        assert_int_equal(ballot_load(*dir, &ballot, &err), TIDE_E_CORRUPT);
        file_flip(path, i, 4);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, dir_make, dir_drop)

int main(void)
{
    log_init("test_snapshot", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(the_newest_valid_one_is_taken),
        TEST(the_digest_names_the_content),
        TEST(too_large_is_refused),
        TEST(every_flipped_byte_costs_that_image_only),
        TEST(an_image_is_read_from_any_file),
        TEST(an_image_of_the_format_before_is_read),
        TEST(a_newer_image_is_refused_by_name),
        TEST(two_are_kept),
        TEST(a_directory_serves_one_process),
        TEST(a_directory_is_of_one_member_of_one_cluster),
        TEST(a_newer_format_is_refused_by_name),
        TEST(a_path_that_cannot_be_one_is_refused),
        TEST(the_ballot_survives_and_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
