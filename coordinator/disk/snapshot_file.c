/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/disk/snapshot_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "coordinator/disk/snapshot_inner.h"

#define CHECK_BLOCK_BYTES (1u << 20)

/* ---- the sender ---- */

static enum tide_status file_check(struct snapshot_file *file, const char *cluster, struct err *err)
{
    struct snapshot_header header;
    size_t n = 0;
    enum tide_status status = snapshot_read_at(file->fd, file->path, 0, (char *)&header, sizeof header, &n, err);
    if (status != TIDE_OK)
        return status;
    if (n < sizeof header || !snapshot_header_plausible(&header, file->bytes))
        return snapshot_corrupt(file->path, file->bytes, err);
    file->term = header.term;
    file->digest = header.sum;
    return snapshot_header_check(file->path, &header, file->index, cluster, err);
}

enum tide_status snapshot_file_open(const char *dir, const char *cluster, uint64_t index, struct snapshot_file *ret_file,
                                    struct err *err)
{
    struct snapshot_file file = {.fd = -1, .index = index};
    snapshot_path(dir, index, ".img", file.path);
    enum tide_status status = snapshot_open(file.path, &file.fd, &file.bytes, err);
    if (status == TIDE_OK)
        status = file_check(&file, cluster, err);
    if (status != TIDE_OK) {
        snapshot_file_close(&file);
        return status;
    }
    *ret_file = file;
    return TIDE_OK;
}

enum tide_status snapshot_file_read(const struct snapshot_file *file, uint64_t offset, void *to, size_t bytes,
                                    size_t *ret_read, struct err *err)
{
    return snapshot_read_at(file->fd, file->path, offset, to, bytes, ret_read, err);
}

void snapshot_file_close(struct snapshot_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

/* ---- the receiver ---- */

static enum tide_status remove_others(const char *dir, uint64_t keep, struct err *err)
{
    uint64_t *indexes = NULL;
    size_t count = 0;
    enum tide_status status = datadir_list(dir, "snap-", ".img.part", &indexes, &count, err);
    for (size_t i = 0; i < count && status == TIDE_OK; i++) {
        char path[DATA_FILE_MAX];
        snapshot_path(dir, indexes[i], ".img.part", path);
        if (indexes[i] != keep && unlink(path) != 0 && errno != ENOENT)
            status = err_errno(err, "cannot remove %s", path);
    }
    mem_free(indexes);
    return status;
}

/* How much of the announced image the open file holds. What a crash of the host did to it is seen at the end. */
static uint64_t resume_at(const struct snapshot_receive *receive, uint64_t bytes, const struct snapshot_header *header)
{
    return bytes >= sizeof *header && bytes <= receive->bytes && snapshot_header_plausible(header, receive->bytes) &&
                   header->index == receive->index && header->sum == receive->digest
               ? bytes
               : 0;
}

static enum tide_status open_part(struct snapshot_receive *receive, struct err *err)
{
    struct snapshot_header header = {0};
    size_t n = 0;
    receive->fd = open(receive->path, O_RDWR | O_CREAT | O_CLOEXEC, SNAPSHOT_MODE);
    if (receive->fd < 0)
        return err_errno(err, "cannot create %s", receive->path);
    off_t there = lseek(receive->fd, 0, SEEK_END);
    if (there < 0)
        return err_errno(err, "cannot examine %s", receive->path);
    enum tide_status status = snapshot_read_at(receive->fd, receive->path, 0, (char *)&header, sizeof header, &n, err);
    if (status != TIDE_OK)
        return status;
    receive->offset = resume_at(receive, (uint64_t)there, &header);
    if (receive->offset == 0 && ftruncate(receive->fd, 0) != 0)
        return err_errno(err, "cannot empty %s", receive->path);
    return TIDE_OK;
}

enum tide_status snapshot_receive_begin(const char *dir, const char *cluster, uint64_t index, uint64_t term, uint64_t bytes,
                                        uint64_t digest, struct snapshot_receive *ret_receive, struct err *err)
{
    struct snapshot_receive receive = {.fd = -1, .index = index, .term = term, .bytes = bytes, .digest = digest};
    if (bytes > SNAPSHOT_BYTES_MAX || bytes < sizeof(struct snapshot_header))
        return err_set(err, TIDE_E_LIMIT, "a snapshot of %" PRIu64 " bytes was announced; it has %zu to %" PRIu64, bytes,
                       sizeof(struct snapshot_header), SNAPSHOT_BYTES_MAX);
    text_copy(receive.dir, sizeof receive.dir, dir);
    text_copy(receive.cluster, sizeof receive.cluster, cluster);
    snapshot_path(dir, index, ".img.part", receive.path);
    enum tide_status status = remove_others(dir, index, err);
    if (status == TIDE_OK)
        status = open_part(&receive, err);
    if (status != TIDE_OK) {
        snapshot_receive_close(&receive);
        return status;
    }
    *ret_receive = receive;
    return TIDE_OK;
}

enum tide_status snapshot_receive_append(struct snapshot_receive *receive, uint64_t offset, const void *data, size_t bytes,
                                         struct err *err)
{
    if (receive->fd < 0 || offset != receive->offset || bytes > receive->bytes - receive->offset)
        return err_set(err, TIDE_E_STATE,
                       "%zu bytes at offset %" PRIu64 " do not continue the snapshot of index %" PRIu64 ", of which %" PRIu64
                       " of %" PRIu64 " bytes are there",
                       bytes, offset, receive->index, receive->offset, receive->bytes);
    if (!fsx_pwrite_all(receive->fd, data, bytes, offset))
        return err_errno(err, "cannot write %s", receive->path);
    receive->offset += bytes;
    return TIDE_OK;
}

static enum tide_status data_sum(const struct snapshot_receive *receive, uint64_t from, uint64_t seed, uint64_t *ret_sum,
                                 struct err *err)
{
    XXH3_state_t *sum = XXH3_createState();
    char *block = mem_alloc(CHECK_BLOCK_BYTES);
    size_t n = CHECK_BLOCK_BYTES;
    enum tide_status status = TIDE_OK;
    XXH3_64bits_reset_withSeed(sum, seed);
    while (n == CHECK_BLOCK_BYTES && status == TIDE_OK) {
        status = snapshot_read_at(receive->fd, receive->path, from, block, CHECK_BLOCK_BYTES, &n, err);
        if (status != TIDE_OK)
            break;
        XXH3_64bits_update(sum, block, n);
        from += n;
    }
    if (status == TIDE_OK)
        *ret_sum = XXH3_64bits_digest(sum);
    mem_free(block);
    XXH3_freeState(sum);
    return status;
}

static enum tide_status receive_check(const struct snapshot_receive *receive, struct err *err)
{
    struct snapshot_header header;
    size_t n = 0;
    uint64_t sum = 0;
    enum tide_status status = snapshot_read_at(receive->fd, receive->path, 0, (char *)&header, sizeof header, &n, err);
    if (status != TIDE_OK)
        return status;
    if (n < sizeof header || !snapshot_header_plausible(&header, receive->bytes))
        return snapshot_corrupt(receive->path, receive->bytes, err);
    char *config = mem_alloc(header.config_bytes + 1);
    status = snapshot_read_at(receive->fd, receive->path, sizeof header, config, header.config_bytes, &n, err);
    if (status == TIDE_OK)
        status = data_sum(receive, sizeof header + n, snapshot_data_seed(&header, config), &sum, err);
    mem_free(config);
    if (status == TIDE_OK && (sum != header.sum || sum != receive->digest || header.term != receive->term))
        status = snapshot_corrupt(receive->path, receive->bytes, err);
    return status == TIDE_OK ? snapshot_header_check(receive->path, &header, receive->index, receive->cluster, err) : status;
}

static enum tide_status receive_publish(struct snapshot_receive *receive, struct err *err)
{
    char path[DATA_FILE_MAX];
    snapshot_path(receive->dir, receive->index, ".img", path);
    if (fsync(receive->fd) != 0)
        return err_errno(err, "cannot fsync %s", receive->path);
    if (rename(receive->path, path) == 0)
        return fsx_sync_dir(receive->dir, err);
    if (errno == ENOENT)
        return err_set(err, TIDE_E_NOT_FOUND, "%s is gone: a newer snapshot has been made meanwhile", receive->path);
    return err_errno(err, "cannot rename %s to %s", receive->path, path);
}

enum tide_status snapshot_receive_finish(struct snapshot_receive *receive, struct err *err)
{
    if (receive->fd < 0 || receive->offset != receive->bytes)
        return err_set(err, TIDE_E_STATE,
                       "only %" PRIu64 " of %" PRIu64 " bytes of the snapshot of index %" PRIu64 " are there",
                       receive->offset, receive->bytes, receive->index);
    enum tide_status status = receive_check(receive, err);
    if (status == TIDE_OK)
        status = receive_publish(receive, err);
    if (status == TIDE_OK)
        snapshot_receive_close(receive);
    else
        snapshot_receive_abandon(receive);
    return status;
}

void snapshot_receive_close(struct snapshot_receive *receive)
{
    if (receive->fd >= 0)
        close(receive->fd);
    receive->fd = -1;
}

void snapshot_receive_abandon(struct snapshot_receive *receive)
{
    if (receive->fd >= 0)
        unlink(receive->path);
    snapshot_receive_close(receive);
}
