/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_WAL_WORDS_H
#define TESTS_UNIT_WAL_WORDS_H

/* A log of small segments and predictable entries. Included after cmocka. */

#include <inttypes.h>

#include "coordinator/disk/datadir.h"
#include "coordinator/disk/wal.h"
#include "disk_dir.h"

#define CLUSTER "00112233445566aa"
#define SMALL 4096u /* a segment of a few records, so that tests roll */
#define FIRST_LOG "log-00000000000000000001.wal"

static const struct wal_options small = {.segment_bytes = SMALL};

static inline void payload(uint64_t index, char to[64])
{
    snprintf(to, 64, "{\"entry\":%" PRIu64 ",\"more\":\"%.*s\"}", index, (int)(index % 23), "abcdefghijklmnopqrstuvwxyz");
}

static inline struct wal *open_ok(const char *dir, bool fresh)
{
    struct wal *wal = NULL;
    struct err err = {0};
    if (wal_open(dir, CLUSTER, &small, fresh, 1, 0, &wal, &err) != TIDE_OK)
        fail_msg("%s", err.text);
    return wal;
}

static inline enum tide_status append_one(struct wal *wal, uint64_t index, uint64_t term, struct err *err)
{
    char text[64];
    payload(index, text);
    return wal_append(wal, &(struct wal_entry){index, term, text, strlen(text), (uint16_t)(index % 3)}, 1, err);
}

static inline void append_synced(struct wal *wal, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i <= to; i++) {
        assert_int_equal(append_one(wal, i, 1, NULL), TIDE_OK);
        assert_int_equal(wal_sync(wal, NULL), TIDE_OK);
    }
}

static inline void path_of(const char *dir, const char *name, char to[DATA_FILE_MAX])
{
    datadir_file(dir, name, to);
}

static inline enum tide_status expect_next(void *arg, const struct wal_entry *entry, struct err *err)
{
    (void)err;
    uint64_t *next = arg;
    char text[64];
    payload(*next, text);
    assert_int_equal(entry->index, *next);
    assert_int_equal(entry->type, *next % 3);
    assert_int_equal(entry->bytes, strlen(text));
    assert_memory_equal(entry->data, text, entry->bytes);
    ++*next;
    return TIDE_OK;
}

static inline void expect_entries(struct wal *wal, uint64_t first, uint64_t last)
{
    assert_int_equal(wal_first(wal), first);
    assert_int_equal(wal_last(wal), last);
    uint64_t next = first;
    assert_int_equal(wal_read(wal, first, last, expect_next, &next, NULL), TIDE_OK);
    assert_int_equal(next, last + 1);
}

/* Where record `index` of the first segment begins and ends. */
static inline void extent(const char *path, uint64_t index, uint64_t *ret_begin, uint64_t *ret_end)
{
    size_t bytes;
    char *data = file_read(path, &bytes);
    struct segment_scan scan;
    segment_scan(data, bytes, 1, NULL, true, &scan);
    assert_true(scan.count >= index);
    *ret_begin = scan.offsets[index - 1];
    *ret_end = index < scan.count ? scan.offsets[index] : scan.end;
    segment_scan_release(&scan);
    mem_free(data);
}

static inline void expect_corrupt(const char *dir, const char *path, const char *words)
{
    struct wal *wal = NULL;
    struct err err = {0};
    size_t before, after;
    char *was = file_read(path, &before);
    assert_int_equal(wal_open(dir, CLUSTER, &small, false, 1, 0, &wal, &err), TIDE_E_CORRUPT);
    assert_null(wal);
    assert_non_null(strstr(err.text, path));
    assert_non_null(strstr(err.text, words));
    assert_non_null(strstr(err.text, "offset"));
    assert_non_null(strstr(err.text, "What to do"));
    char *is = file_read(path, &after);
    assert_int_equal(before, after);
    assert_memory_equal(was, is, before); /* refusing changes nothing */
    mem_free(was);
    mem_free(is);
}

/* The file that says up to where the log had been synced. */
static inline const char *mark_path(const char *dir)
{
    static char path[DATA_FILE_MAX];
    path_of(dir, "synced", path);
    return path;
}

#endif
