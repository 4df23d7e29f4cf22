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

#endif
