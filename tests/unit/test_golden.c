/* SPDX-License-Identifier: Apache-2.0 */

/* data/datadir-<format>: a data directory as the version that made it left it: two segments, two images, a third one
 * received in part, a ballot. It is never made again: a version that cannot read it must say so by DATA_FORMAT, and bring a
 * way. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ckpt/base/log.h"
#include "coordinator/disk/check.h"
#include "coordinator/disk/snapshot_file.h"
#include "wal_words.h"

#define LAST 120u
#define SECOND_TERM_AFTER 60u

/* A copy: what opens a directory may write into it. */
static const char *const names[] = {"format",
                                    "ballot",
                                    "log-00000000000000000049.wal",
                                    "log-00000000000000000096.wal",
                                    "snap-00000000000000000060.img",
                                    "snap-00000000000000000090.img",
                                    "snap-00000000000000000200.img.part"};

static int copy_make(void **dir)
{
    dir_make(dir);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char from[DATA_FILE_MAX], to[DATA_FILE_MAX];
        size_t bytes;
        datadir_file(TEST_DATA "/datadir-2", names[i], from);
        datadir_file(*dir, names[i], to);
        char *data = file_read(from, &bytes);
        file_write(to, data, bytes);
        mem_free(data);
    }
    return 0;
}

static void no_report(void *arg, const char *file, bool bad, const char *verdict)
{
    (void)arg;
    if (bad)
        fail_msg("%s: %s", file, verdict);
}

static void it_is_sound(void **dir)
{
    assert_int_equal(DATA_FORMAT, 2); /* a newer one: keep this directory, add another beside it */
    assert_int_equal(check_data(*dir, no_report, NULL, NULL), TIDE_OK);
}

static void it_is_whose_it_was(void **dir)
{
    struct datadir opened;
    struct ballot ballot;
    assert_int_equal(datadir_open(*dir, CLUSTER, 2, false, &opened, NULL), TIDE_OK);
    datadir_close(&opened);
    assert_int_equal(ballot_load(*dir, &ballot, NULL), TIDE_OK);
    assert_int_equal(ballot.term, 4);
    assert_int_equal(ballot.vote, 3);
}

static void its_images_are_what_they_were(void **dir)
{
    struct snapshot snapshot;
    assert_int_equal(snapshot_newest(*dir, CLUSTER, &snapshot, NULL), TIDE_OK);
    assert_int_equal(snapshot.index, 90);
    assert_int_equal(snapshot.term, 4);
    assert_int_equal(snapshot.digest, UINT64_C(0xae15c7ebc80f0833));
    assert_string_equal(snapshot.config, "members 1, 2 and 3");
    assert_string_equal(snapshot.data, "state of 90");
    snapshot_release(&snapshot);
    assert_int_equal(snapshot_load(*dir, CLUSTER, 60, &snapshot, NULL), TIDE_OK);
    assert_int_equal(snapshot.digest, UINT64_C(0x56cf438d99924c65));
    assert_int_equal(snapshot.term, 1);
    snapshot_release(&snapshot);
}

static void what_it_was_receiving_goes_on(void **dir)
{
    struct snapshot_receive receive;
    struct snapshot snapshot;
    uint64_t digest = UINT64_C(0x5c8397d4ae7e6c7d);
    assert_int_equal(snapshot_receive_begin(*dir, CLUSTER, 200, 5, 94, digest, &receive, NULL), TIDE_OK);
    assert_int_equal(receive.offset, 80);
    static const char rest[] = " 3state of 200"; /* of "members 1, 2 and 3", and the data */
    assert_int_equal(snapshot_receive_append(&receive, 80, rest, strlen(rest), NULL), TIDE_OK);
    assert_int_equal(snapshot_receive_finish(&receive, NULL), TIDE_OK);
    assert_int_equal(snapshot_load(*dir, CLUSTER, 200, &snapshot, NULL), TIDE_OK);
    assert_string_equal(snapshot.data, "state of 200");
    snapshot_release(&snapshot);
}

static enum tide_status expect_entry(void *arg, const struct wal_entry *entry, struct err *err)
{
    (void)err;
    uint64_t *next = arg;
    char text[64];
    payload(*next, text);
    assert_int_equal(entry->index, *next);
    assert_int_equal(entry->term, *next <= SECOND_TERM_AFTER ? 1 : 4);
    assert_int_equal(entry->type, *next % 3);
    assert_int_equal(entry->bytes, strlen(text));
    assert_memory_equal(entry->data, text, entry->bytes);
    ++*next;
    return TIDE_OK;
}

static void its_log_goes_on(void **dir)
{
    for (int again = 0; again < 2; again++) {
        struct wal *wal = NULL;
        uint64_t next = 49;
        assert_int_equal(wal_open(*dir, CLUSTER, &small, false, 91, 4, &wal, NULL), TIDE_OK);
        assert_int_equal(wal_first(wal), 49);
        assert_int_equal(wal_last(wal), again ? LAST + 100 : LAST);
        assert_int_equal(wal_read(wal, 49, wal_last(wal), expect_entry, &next, NULL), TIDE_OK);
        for (uint64_t i = LAST + 1; i <= LAST + 100 && !again; i++)
            assert_int_equal(append_one(wal, i, 4, NULL), TIDE_OK);
        assert_int_equal(wal_sync(wal, NULL), TIDE_OK);
        wal_close(wal);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, copy_make, dir_drop)

int main(void)
{
    log_init("test_golden", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(it_is_sound),
        TEST(it_is_whose_it_was),
        TEST(its_images_are_what_they_were),
        TEST(what_it_was_receiving_goes_on),
        TEST(its_log_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
