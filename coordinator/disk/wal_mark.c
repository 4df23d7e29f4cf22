/* SPDX-License-Identifier: Apache-2.0 */
/* Up to which entry the log is known to be on the disk, in a file beside it. Each record says it of those before it; nobody but
 * this file says it of the newest. It is written after the fdatasync of what it speaks of, and not synced itself: it may be older
 * than the log, never ahead of it. So a process that is killed leaves the right one, and a host that loses power one of some seconds
 * before. Without it, or when it cannot be read, the end of the log is judged by its bytes alone. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "coordinator/disk/wal_inner.h"

#define MARK_MAGIC "TIDESYN\1"
#define MARK_MODE 0600
#define MARK_FILE_MAX 4096u

struct mark_image {
    char magic[8];
    uint64_t index, term;
    uint64_t sum; /* XXH3 of all above */
};

enum tide_status wal_mark_read(const char *dir, struct wal_mark *ret_mark, struct err *err)
{
    char path[DATA_FILE_MAX], *data = NULL;
    size_t bytes = 0;
    struct mark_image image = {0};
    *ret_mark = (struct wal_mark){0};
    datadir_file(dir, WAL_MARK_NAME, path);
    if (access(path, F_OK) != 0)
        return TIDE_OK;
    enum tide_status status = fsx_read(path, MARK_FILE_MAX, &data, &bytes, err);
    if (status != TIDE_OK)
        return status;
    if (bytes == sizeof image)
        memcpy(&image, data, sizeof image);
    mem_free(data);
    if (memcmp(image.magic, MARK_MAGIC, sizeof image.magic) == 0 &&
        image.sum == XXH3_64bits(&image, offsetof(struct mark_image, sum)))
        *ret_mark = (struct wal_mark){.index = image.index, .term = image.term};
    return TIDE_OK;
}

static enum tide_status write_mark(struct wal *wal, uint64_t index, uint64_t term, struct err *err)
{
    struct mark_image image = {.index = index, .term = term};
    memcpy(image.magic, MARK_MAGIC, sizeof image.magic);
    image.sum = XXH3_64bits(&image, offsetof(struct mark_image, sum));
    if (!fsx_pwrite_all(wal->mark_fd, (const char *)&image, sizeof image, 0))
        return err_errno(err, "cannot write %s/" WAL_MARK_NAME, wal->dir);
    wal->mark = (struct wal_mark){.index = index, .term = term};
    return TIDE_OK;
}

enum tide_status wal_mark_open(struct wal *wal, struct err *err)
{
    char path[DATA_FILE_MAX];
    datadir_file(wal->dir, WAL_MARK_NAME, path);
    enum tide_status status = wal_mark_read(wal->dir, &wal->mark, err);
    if (status != TIDE_OK)
        return status;
    wal->mark_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, MARK_MODE);
    return wal->mark_fd < 0 ? err_errno(err, "cannot open %s", path) : TIDE_OK;
}

enum tide_status wal_mark_synced(struct wal *wal, struct err *err)
{
    uint64_t last = wal_last(wal), term = wal_term(wal, last);
    if (wal->mark.index == last && wal->mark.term == term)
        return TIDE_OK;
    return write_mark(wal, last, term, err);
}

enum tide_status wal_mark_forget(struct wal *wal, struct err *err)
{
    enum tide_status status = write_mark(wal, 0, 0, err);
    if (status == TIDE_OK && fdatasync(wal->mark_fd) != 0)
        status = err_errno(err, "cannot fdatasync %s/" WAL_MARK_NAME, wal->dir);
    return status;
}

bool wal_mark_missed(const struct wal_mark *mark, uint64_t covered, uint64_t last, uint64_t last_term, char *ret_why, size_t size)
{
    /* An end of a later term: a version that writes no mark has taken back what it speaks of, and gone on. */
    if (mark->index <= last || mark->index <= covered || last_term > mark->term)
        return false;
    snprintf(ret_why, size,
             "record %" PRIu64 " had been on the disk, and is not there or does not match its checksum; the last good one is %" PRIu64,
             mark->index, last);
    return true;
}
