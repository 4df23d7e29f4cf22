/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/disk/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/disk/snapshot_inner.h"

#define SNAPSHOT_MAGIC "TIDESNP\1"
#define ADVICE "remove it to start from the snapshot before it and the log"

uint64_t snapshot_data_seed(const struct snapshot_header *header, const char *config)
{
    return XXH3_64bits_withSeed(config, header->config_bytes, XXH3_64bits(header, offsetof(struct snapshot_header, sum)));
}

void snapshot_path(const char *dir, uint64_t index, const char *suffix, char to[DATA_FILE_MAX])
{
    datadir_numbered(dir, "snap-", index, suffix, to);
}

/* ---- save ---- */

static enum tide_status write_image(const char *path, const struct snapshot_header *header, const struct snapshot *snapshot,
                                    struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, SNAPSHOT_MODE);
    if (fd < 0)
        return err_errno(err, "cannot create %s", path);
    enum tide_status status = fsx_write_all(fd, header, sizeof *header, path, err);
    if (status == TIDE_OK)
        status = fsx_write_all(fd, snapshot->config, snapshot->config_bytes, path, err);
    if (status == TIDE_OK)
        status = fsx_write_all(fd, snapshot->data, snapshot->bytes, path, err);
    if (status == TIDE_OK && fsync(fd) != 0)
        status = err_errno(err, "cannot fsync %s", path);
    close(fd);
    return status;
}

enum tide_status snapshot_save(const char *dir, const char *cluster, const struct snapshot *snapshot, uint64_t *ret_digest,
                               struct err *err)
{
    struct snapshot_header header = {.format = SNAPSHOT_FORMAT, .index = snapshot->index, .term = snapshot->term};
    if (snapshot->config_bytes > SNAPSHOT_CONFIG_BYTES_MAX ||
        snapshot->bytes > SNAPSHOT_BYTES_MAX - SNAPSHOT_CONFIG_BYTES_MAX - sizeof header)
        return err_set(err, TIDE_E_LIMIT,
                       "a snapshot of %zu bytes and a configuration of %zu is larger than the limit of %" PRIu64,
                       snapshot->bytes, snapshot->config_bytes, SNAPSHOT_BYTES_MAX);
    memcpy(header.magic, SNAPSHOT_MAGIC, sizeof header.magic);
    memcpy(header.cluster, cluster, strnlen(cluster, sizeof header.cluster));
    header.config_bytes = (uint32_t)snapshot->config_bytes;
    header.bytes = snapshot->bytes;
    header.sum = XXH3_64bits_withSeed(snapshot->data, snapshot->bytes, snapshot_data_seed(&header, snapshot->config));
    char path[DATA_FILE_MAX], temporary[DATA_FILE_MAX];
    snapshot_path(dir, snapshot->index, ".img", path);
    snapshot_path(dir, snapshot->index, ".img.tmp", temporary);
    enum tide_status status = write_image(temporary, &header, snapshot, err);
    if (status == TIDE_OK && rename(temporary, path) != 0)
        status = err_errno(err, "cannot rename %s to %s", temporary, path);
    if (status != TIDE_OK) {
        unlink(temporary);
        return status;
    }
    status = fsx_sync_dir(dir, err);
    if (status == TIDE_OK)
        *ret_digest = header.sum;
    return status;
}

/* ---- load ---- */

enum tide_status snapshot_open(const char *path, int *ret_fd, uint64_t *ret_bytes, struct err *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, TIDE_E_NOT_FOUND, "%s does not exist", path);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    if (fstat(fd, &info) != 0) {
        enum tide_status status = err_errno(err, "cannot examine %s", path);
        close(fd);
        return status;
    }
    *ret_fd = fd;
    *ret_bytes = (uint64_t)info.st_size;
    return TIDE_OK;
}

enum tide_status snapshot_read_at(int fd, const char *path, uint64_t offset, char *to, size_t bytes, size_t *ret_read,
                                  struct err *err)
{
    size_t at = 0;
    while (at < bytes) {
        ssize_t n = pread(fd, to + at, bytes - at, (off_t)(offset + at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "cannot read %s", path);
        if (n == 0)
            break;
        at += (size_t)n;
    }
    *ret_read = at;
    return TIDE_OK;
}

bool snapshot_header_plausible(const struct snapshot_header *header, uint64_t bytes)
{
    return bytes >= sizeof *header && bytes <= SNAPSHOT_BYTES_MAX &&
           memcmp(header->magic, SNAPSHOT_MAGIC, sizeof header->magic) == 0 &&
           header->config_bytes <= SNAPSHOT_CONFIG_BYTES_MAX && header->bytes <= SNAPSHOT_BYTES_MAX &&
           sizeof *header + header->config_bytes + header->bytes == bytes;
}

enum tide_status snapshot_corrupt(const char *path, uint64_t bytes, struct err *err)
{
    return err_set(err, TIDE_E_CORRUPT, "%s is corrupt: its %" PRIu64 " bytes do not match its checksum; " ADVICE, path,
                   bytes);
}

enum tide_status snapshot_header_check(const char *path, const struct snapshot_header *header, uint64_t index,
                                       const char *cluster, struct err *err)
{
    if (header->format < SNAPSHOT_FORMAT_OLDEST || header->format > SNAPSHOT_FORMAT)
        return err_set(err, TIDE_E_VERSION,
                       "%s was written in format %u; this tidemarkd knows formats %u to %u: start the version that wrote it", path,
                       header->format, SNAPSHOT_FORMAT_OLDEST, SNAPSHOT_FORMAT);
    if (header->index != index || memcmp(header->cluster, cluster, sizeof header->cluster) != 0)
        return err_set(err, TIDE_E_CORRUPT, "%s is not what its name says: index %" PRIu64 " of cluster %.16s; " ADVICE,
                       path, header->index, header->cluster);
    return TIDE_OK;
}

/* Whatever is read here is not trusted before the sum has been seen to match. */
static enum tide_status load_open(int fd, const char *path, uint64_t bytes, struct snapshot_header *header,
                                  struct snapshot *into, struct err *err)
{
    size_t read_bytes = 0, config_read = 0, data_read = 0;
    enum tide_status status = snapshot_read_at(fd, path, 0, (char *)header, sizeof *header, &read_bytes, err);
    if (status != TIDE_OK)
        return status;
    if (read_bytes < sizeof *header || !snapshot_header_plausible(header, bytes))
        return snapshot_corrupt(path, bytes, err);
    into->config = mem_alloc(header->config_bytes + 1);
    into->data = mem_alloc(header->bytes + 1);
    into->config_bytes = header->config_bytes;
    into->bytes = header->bytes;
    status = snapshot_read_at(fd, path, sizeof *header, into->config, into->config_bytes, &config_read, err);
    if (status == TIDE_OK)
        status = snapshot_read_at(fd, path, sizeof *header + config_read, into->data, into->bytes, &data_read, err);
    if (status == TIDE_OK &&
        (config_read != into->config_bytes || data_read != into->bytes ||
         header->sum != XXH3_64bits_withSeed(into->data, into->bytes, snapshot_data_seed(header, into->config))))
        status = snapshot_corrupt(path, bytes, err);
    return status;
}

/* Index and cluster are the caller's to check. */
static enum tide_status load_path(const char *path, struct snapshot_header *ret_header, struct snapshot *ret_snapshot,
                                  struct err *err)
{
    int fd = -1;
    uint64_t bytes = 0;
    struct snapshot loaded = {0};
    enum tide_status status = snapshot_open(path, &fd, &bytes, err);
    if (status != TIDE_OK)
        return status;
    status = load_open(fd, path, bytes, ret_header, &loaded, err);
    close(fd);
    if (status != TIDE_OK) {
        snapshot_release(&loaded);
        return status;
    }
    loaded.index = ret_header->index;
    loaded.term = ret_header->term;
    loaded.digest = ret_header->sum;
    *ret_snapshot = loaded;
    return TIDE_OK;
}

enum tide_status snapshot_load(const char *dir, const char *cluster, uint64_t index, struct snapshot *ret_snapshot,
                               struct err *err)
{
    char path[DATA_FILE_MAX];
    struct snapshot_header header;
    struct snapshot loaded = {0};
    snapshot_path(dir, index, ".img", path);
    enum tide_status status = load_path(path, &header, &loaded, err);
    if (status == TIDE_OK)
        status = snapshot_header_check(path, &header, index, cluster, err);
    if (status == TIDE_OK)
        *ret_snapshot = loaded;
    else
        snapshot_release(&loaded);
    return status;
}

enum tide_status snapshot_load_file(const char *path, struct snapshot *ret_snapshot, char ret_cluster[TIDE_UID_CHARS + 1],
                                    struct err *err)
{
    struct snapshot_header header;
    struct snapshot loaded = {0};
    char cluster[TIDE_UID_CHARS + 1] = "";
    enum tide_status status = load_path(path, &header, &loaded, err);
    if (status != TIDE_OK)
        return status;
    memcpy(cluster, header.cluster, sizeof header.cluster);
    status = snapshot_header_check(path, &header, header.index, header.cluster, err);
    if (status != TIDE_OK) {
        snapshot_release(&loaded);
        return status;
    }
    memcpy(ret_cluster, cluster, sizeof cluster);
    *ret_snapshot = loaded;
    return TIDE_OK;
}

enum tide_status snapshot_newest(const char *dir, const char *cluster, struct snapshot *ret_snapshot, struct err *err)
{
    uint64_t *indexes = NULL;
    size_t count = 0;
    enum tide_status status = datadir_list(dir, "snap-", ".img", &indexes, &count, err);
    if (status != TIDE_OK)
        return status;
    struct snapshot found = {0};
    while (count-- > 0) {
        struct err why = {0};
        status = snapshot_load(dir, cluster, indexes[count], &found, &why);
        if (status == TIDE_OK)
            break;
        if (status != TIDE_E_CORRUPT) {
            mem_free(indexes);
            return err_set(err, status, "%s", why.text);
        }
        log_error("%s (passed over now)", why.text);
    }
    mem_free(indexes);
    *ret_snapshot = found;
    return TIDE_OK;
}

void snapshot_release(struct snapshot *snapshot)
{
    mem_free(snapshot->config);
    mem_free(snapshot->data);
    *snapshot = (struct snapshot){0};
}

/* ---- prune ---- */

/* Remove "snap-<index><suffix>" of all indexes up to `through`. */
static enum tide_status remove_through(const char *dir, const char *suffix, uint64_t through, struct err *err)
{
    uint64_t *indexes = NULL;
    size_t count = 0;
    enum tide_status status = datadir_list(dir, "snap-", suffix, &indexes, &count, err);
    for (size_t i = 0; i < count && status == TIDE_OK && indexes[i] <= through; i++) {
        char path[DATA_FILE_MAX];
        snapshot_path(dir, indexes[i], suffix, path);
        if (unlink(path) != 0 && errno != ENOENT)
            status = err_errno(err, "cannot remove %s", path);
    }
    mem_free(indexes);
    return status;
}

enum tide_status snapshot_prune(const char *dir, uint64_t *ret_oldest, struct err *err)
{
    uint64_t *indexes = NULL, oldest = 0, newest = 0;
    size_t count = 0;
    enum tide_status status = datadir_list(dir, "snap-", ".img", &indexes, &count, err);
    if (status != TIDE_OK)
        return status;
    if (count > 0)
        newest = indexes[count - 1];
    if (count >= SNAPSHOTS_KEPT)
        oldest = indexes[count - SNAPSHOTS_KEPT];
    mem_free(indexes);
    if (oldest > 0)
        status = remove_through(dir, ".img", oldest - 1, err);
    if (status == TIDE_OK)
        status = remove_through(dir, ".img.tmp", UINT64_MAX, err);
    if (status == TIDE_OK)
        status = remove_through(dir, ".img.part", newest, err);
    if (status == TIDE_OK)
        status = fsx_sync_dir(dir, err);
    if (status == TIDE_OK)
        *ret_oldest = oldest;
    return status;
}
