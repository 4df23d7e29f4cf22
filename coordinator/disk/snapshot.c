/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/disk/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <tidemark/types.h>
#include <unistd.h>
#include <xxhash.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/disk/datadir.h"

#define SNAPSHOT_MAGIC "TIDESNP\1"
#define SNAPSHOT_MODE 0600

struct snapshot_header {
    char magic[8];
    uint32_t format;
    uint32_t zero;
    uint64_t index, term;
    uint64_t bytes; /* behind the header */
    char cluster[TIDE_UID_CHARS];
    uint64_t sum; /* XXH3 of all above, then of the bytes behind */
};
_Static_assert(sizeof(struct snapshot_header) == 64, "the header is what is on the disk");

static uint64_t image_sum(const struct snapshot_header *header, const char *data)
{
    return XXH3_64bits_withSeed(data, header->bytes, XXH3_64bits(header, offsetof(struct snapshot_header, sum)));
}

enum tide_status snapshot_save(const char *dir, const char *cluster, uint64_t index, uint64_t term, const void *data,
                               size_t bytes, struct err *err)
{
    if (bytes > SNAPSHOT_BYTES_MAX - sizeof(struct snapshot_header))
        return err_set(err, TIDE_E_LIMIT, "a snapshot of %zu bytes is larger than the limit of %" PRIu64, bytes,
                       SNAPSHOT_BYTES_MAX);
    struct snapshot_header header = {.format = SNAPSHOT_FORMAT, .index = index, .term = term, .bytes = bytes};
    char path[DATA_FILE_MAX], *image = mem_alloc(sizeof header + bytes);
    memcpy(header.magic, SNAPSHOT_MAGIC, sizeof header.magic);
    memcpy(header.cluster, cluster, strnlen(cluster, sizeof header.cluster));
    memcpy(image + sizeof header, data, bytes);
    header.sum = image_sum(&header, image + sizeof header);
    memcpy(image, &header, sizeof header);
    datadir_numbered(dir, "snap-", index, ".img", path);
    enum tide_status status = fsx_replace(path, image, sizeof header + bytes, SNAPSHOT_MODE, err);
    mem_free(image);
    return status;
}

static enum tide_status check_image(const char *path, const char *image, size_t bytes, uint64_t index, const char *cluster,
                                    struct snapshot_header *header, struct err *err)
{
    static const char advice[] = "remove it to start from the snapshot before it and the log";
    if (bytes < sizeof *header)
        return err_set(err, TIDE_E_CORRUPT, "%s is corrupt: it has %zu bytes, fewer than its header; %s", path, bytes,
                       advice);
    memcpy(header, image, sizeof *header);
    if (memcmp(header->magic, SNAPSHOT_MAGIC, sizeof header->magic) != 0 || header->bytes != bytes - sizeof *header ||
        header->sum != image_sum(header, image + sizeof *header))
        return err_set(err, TIDE_E_CORRUPT, "%s is corrupt: its %zu bytes do not match its checksum; %s", path, bytes,
                       advice);
    if (header->format != SNAPSHOT_FORMAT)
        return err_set(err, TIDE_E_VERSION,
                       "%s was written in format %u; this tidemarkd knows format %u: start the newer "
                       "version",
                       path, header->format, SNAPSHOT_FORMAT);
    if (header->index != index || memcmp(header->cluster, cluster, sizeof header->cluster) != 0)
        return err_set(err, TIDE_E_CORRUPT, "%s is not what its name says: index %" PRIu64 " of cluster %.16s; %s", path,
                       header->index, header->cluster, advice);
    return TIDE_OK;
}

enum tide_status snapshot_load(const char *dir, const char *cluster, uint64_t index, struct snapshot *ret_snapshot,
                               struct err *err)
{
    char path[DATA_FILE_MAX], *image = NULL;
    size_t bytes = 0;
    struct snapshot_header header;
    datadir_numbered(dir, "snap-", index, ".img", path);
    enum tide_status status = fsx_read(path, SNAPSHOT_BYTES_MAX, &image, &bytes, err);
    if (status != TIDE_OK)
        return status;
    status = check_image(path, image, bytes, index, cluster, &header, err);
    if (status != TIDE_OK) {
        mem_free(image);
        return status;
    }
    memmove(image, image + sizeof header, header.bytes);
    image[header.bytes] = '\0';
    *ret_snapshot = (struct snapshot){.index = header.index, .term = header.term, .data = image, .bytes = header.bytes};
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
    mem_free(snapshot->data);
    *snapshot = (struct snapshot){0};
}

static enum tide_status remove_leftovers(const char *dir, struct err *err)
{
    DIR *handle = opendir(dir);
    if (handle == NULL)
        return err_errno(err, "cannot list %s", dir);
    for (struct dirent *entry; (entry = readdir(handle)) != NULL;)
        if (strncmp(entry->d_name, "snap-", 5) == 0 && strstr(entry->d_name, ".img.tmp.") != NULL)
            unlinkat(dirfd(handle), entry->d_name, 0);
    closedir(handle);
    return TIDE_OK;
}

enum tide_status snapshot_prune(const char *dir, uint64_t *ret_oldest, struct err *err)
{
    uint64_t *indexes = NULL;
    size_t count = 0;
    enum tide_status status = datadir_list(dir, "snap-", ".img", &indexes, &count, err);
    if (status != TIDE_OK)
        return status;
    for (size_t i = 0; i + SNAPSHOTS_KEPT < count && status == TIDE_OK; i++) {
        char path[DATA_FILE_MAX];
        datadir_numbered(dir, "snap-", indexes[i], ".img", path);
        if (unlink(path) != 0 && errno != ENOENT)
            status = err_errno(err, "cannot remove %s", path);
    }
    if (status == TIDE_OK)
        status = remove_leftovers(dir, err);
    if (status == TIDE_OK)
        status = fsx_sync_dir(dir, err);
    if (status == TIDE_OK)
        *ret_oldest = count >= SNAPSHOTS_KEPT ? indexes[count - SNAPSHOTS_KEPT] : 0;
    mem_free(indexes);
    return status;
}
