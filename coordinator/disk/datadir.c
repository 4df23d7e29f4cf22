/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/disk/datadir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <xxhash.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "coordinator/disk/segment.h"

#define FORMAT_BYTES_MAX 256
#define BALLOT_MAGIC "TIDEBAL\1"
#define DATA_MODE 0600
#define DATA_DIR_MODE 0700

void datadir_file(const char *dir, const char *name, char to[DATA_FILE_MAX])
{
    snprintf(to, DATA_FILE_MAX, "%s/%s", dir, name);
}

void datadir_numbered(const char *dir, const char *prefix, uint64_t number, const char *suffix, char to[DATA_FILE_MAX])
{
    snprintf(to, DATA_FILE_MAX, "%s/%s%020" PRIu64 "%s", dir, prefix, number, suffix);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Exactly the twenty digits datadir_numbered writes; anything else is not one of our files. */
static bool parse_numbered(const char *name, const char *prefix, const char *suffix, uint64_t *ret_number)
{
    size_t before = strlen(prefix);
    if (strlen(name) != before + 20 + strlen(suffix) || strncmp(name, prefix, before) != 0 ||
        strcmp(name + before + 20, suffix) != 0)
        return false;
    uint64_t number = 0;
    for (const char *p = name + before; p < name + before + 20; p++) {
        if (*p < '0' || *p > '9')
            return false;
        number = number * 10 + (uint64_t)(*p - '0');
    }
    *ret_number = number;
    return true;
}

enum tide_status datadir_list(const char *dir, const char *prefix, const char *suffix, uint64_t **ret_numbers,
                              size_t *ret_count, struct err *err)
{
    DIR *handle = opendir(dir);
    if (handle == NULL)
        return err_errno(err, "cannot list %s", dir);
    uint64_t *numbers = NULL, number;
    size_t count = 0;
    errno = 0;
    for (struct dirent *entry; (entry = readdir(handle)) != NULL; errno = 0)
        if (parse_numbered(entry->d_name, prefix, suffix, &number)) {
            numbers = mem_grow(numbers, count + 1, sizeof *numbers);
            numbers[count++] = number;
        }
    enum tide_status status = errno != 0 ? err_errno(err, "cannot list %s", dir) : TIDE_OK;
    closedir(handle);
    if (status != TIDE_OK) {
        mem_free(numbers);
        return status;
    }
    if (count > 0)
        qsort(numbers, count, sizeof *numbers, by_number);
    *ret_numbers = numbers;
    *ret_count = count;
    return TIDE_OK;
}

enum tide_status datadir_free_bytes(const char *dir, uint64_t *ret_bytes, struct err *err)
{
    struct statvfs info;
    if (statvfs(dir, &info) != 0)
        return err_errno(err, "cannot ask for the free space of %s", dir);
    *ret_bytes = (uint64_t)info.f_bavail * (uint64_t)info.f_frsize;
    return TIDE_OK;
}

/* mkdir -p that a power cut does not undo: a member that finds an empty directory would forget its vote. */
static enum tide_status make_dirs(const char *path, struct err *err)
{
    char part[TIDE_PATH_MAX + 1], parent[TIDE_PATH_MAX + 1];
    for (size_t i = 1; i <= strlen(path); i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        text_copy(part, i + 1, path);
        if (mkdir(part, DATA_DIR_MODE) != 0) {
            if (errno != EEXIST)
                return err_errno(err, "cannot create directory %s", part);
            continue;
        }
        text_copy(parent, sizeof parent, part);
        enum tide_status status = fsx_sync_dir(dirname(parent), err);
        if (status != TIDE_OK)
            return status;
    }
    return TIDE_OK;
}

/* ---- lock ---- */

static enum tide_status lock_take(struct datadir *dir, struct err *err)
{
    char path[DATA_FILE_MAX], pid[32] = "";
    datadir_file(dir->path, "lock", path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, DATA_MODE);
    if (fd < 0)
        return err_errno(err, "cannot open %s; give the user of tidemarkd read and write access to it", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ssize_t n = read(fd, pid, sizeof pid - 1);
        pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
        close(fd);
        return err_set(err, TIDE_E_CONFLICT,
                       "data directory %s is in use by another tidemarkd (pid %s); stop that one or use another --data",
                       dir->path, pid[0] ? pid : "unknown");
    }
    int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    /* For people only: a lock file without a pid still locks. */
    if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n)
        n = 0;
    dir->lock_fd = fd;
    return TIDE_OK;
}

/* ---- format ---- */

/* Is there anything in it that a first start which was cut short could not have left? That one leaves at most an empty
 * first segment. */
static enum tide_status holds_data(const char *dir, bool *ret_holds, struct err *err)
{
    uint64_t *numbers = NULL;
    size_t snaps = 0, logs = 0, bytes = 0;
    char path[DATA_FILE_MAX], *data = NULL;
    enum tide_status status = datadir_list(dir, "snap-", ".img", &numbers, &snaps, err);
    if (status != TIDE_OK)
        return status;
    mem_free(numbers);
    status = datadir_list(dir, "log-", ".wal", &numbers, &logs, err);
    if (status != TIDE_OK)
        return status;
    bool holds = snaps > 0 || logs > 1;
    if (logs == 1) {
        datadir_numbered(dir, "log-", numbers[0], ".wal", path);
        status = fsx_read(path, SEGMENT_BYTES_MAX, &data, &bytes, err);
        for (size_t i = sizeof(struct segment_header); status == TIDE_OK && i < bytes && !holds; i++)
            holds = data[i] != 0;
        mem_free(data);
    }
    mem_free(numbers);
    if (status == TIDE_OK)
        *ret_holds = holds;
    return status;
}

/* What datadir_open was asked for. */
struct wanted {
    const char *cluster;
    uint64_t member;
    bool create;
};

static enum tide_status format_missing(struct datadir *dir, const struct wanted *wanted, struct err *err)
{
    bool holds = false;
    enum tide_status status = holds_data(dir->path, &holds, err);
    if (status != TIDE_OK)
        return status;
    if (holds)
        return err_set(err, TIDE_E_CORRUPT,
                       "%s holds a log or snapshots but its file \"format\" is missing; restore that file from "
                       "a backup of the directory, or move the directory away to begin a new cluster",
                       dir->path);
    if (!wanted->create)
        return err_set(err, TIDE_E_NOT_FOUND, "%s is not a data directory of tidemarkd: it has no file \"format\"",
                       dir->path);
    dir->fresh = true;
    text_copy(dir->cluster, sizeof dir->cluster, wanted->cluster);
    dir->member = wanted->member;
    dir->tag = (uint32_t)rng_entropy() | 1u;
    return TIDE_OK;
}

static enum tide_status format_parse(struct datadir *dir, const char *path, const char *text, struct err *err)
{
    unsigned version = 0;
    char cluster[TIDE_UID_CHARS + 1] = "";
    uint64_t member = 0;
    uint32_t tag = 0;
    int fields = sscanf(text, "tidemark-data %u %16[0-9a-f] %" SCNu64 " %" SCNx32, &version, cluster, &member, &tag);
    if (fields < 1)
        return err_set(err, TIDE_E_CORRUPT,
                       "%s is not readable as \"tidemark-data <version> <cluster> <member> <tag>\"; restore it from a "
                       "backup of the directory",
                       path);
    if (version != DATA_FORMAT)
        return err_set(err, TIDE_E_VERSION,
                       "%s was written in format %u; this tidemarkd knows format %u: start the %s "
                       "version, nothing was changed",
                       dir->path, version, DATA_FORMAT, version > DATA_FORMAT ? "newer" : "older");
    if (fields < 3 || strlen(cluster) != TIDE_UID_CHARS || member == 0)
        return err_set(err, TIDE_E_CORRUPT, "%s names no cluster and member; restore it from a backup of the directory",
                       path);
    memcpy(dir->cluster, cluster, sizeof cluster);
    dir->member = member;
    dir->tag = tag;
    return TIDE_OK;
}

static enum tide_status format_read(struct datadir *dir, const struct wanted *wanted, struct err *err)
{
    char path[DATA_FILE_MAX], *text = NULL;
    size_t bytes = 0;
    datadir_file(dir->path, "format", path);
    enum tide_status status = fsx_read(path, FORMAT_BYTES_MAX, &text, &bytes, err);
    if (status == TIDE_E_NOT_FOUND)
        return format_missing(dir, wanted, err);
    if (status != TIDE_OK)
        return status;
    status = format_parse(dir, path, text, err);
    mem_free(text);
    if (status == TIDE_OK && ((wanted->cluster != NULL && strcmp(wanted->cluster, dir->cluster) != 0) ||
                              (wanted->member != 0 && wanted->member != dir->member)))
        return err_set(err, TIDE_E_CONFLICT,
                       "%s belongs to member %" PRIu64 " of cluster %s, not to member %" PRIu64
                       " of cluster %s; use another --data",
                       dir->path, dir->member, dir->cluster, wanted->member ? wanted->member : dir->member,
                       wanted->cluster ? wanted->cluster : dir->cluster);
    return status;
}

enum tide_status datadir_open(const char *path, const char *cluster, uint64_t member, bool create, struct datadir *ret_dir,
                              struct err *err)
{
    struct datadir dir = {.lock_fd = -1};
    struct wanted wanted = {.cluster = cluster, .member = member, .create = create};
    if (path[0] == '\0' || strlen(path) > TIDE_PATH_MAX)
        return err_set(err, TIDE_E_LIMIT, "data directory: a path has 1 to %d bytes", TIDE_PATH_MAX);
    text_copy(dir.path, sizeof dir.path, path);
    if (!create && access(path, F_OK) != 0)
        return err_set(err, TIDE_E_NOT_FOUND, "data directory %s does not exist", path);
    enum tide_status status = create ? make_dirs(path, err) : TIDE_OK;
    if (status == TIDE_OK)
        status = lock_take(&dir, err);
    if (status == TIDE_OK)
        status = format_read(&dir, &wanted, err);
    if (status != TIDE_OK) {
        datadir_close(&dir);
        return status;
    }
    *ret_dir = dir;
    return TIDE_OK;
}

enum tide_status datadir_commit(struct datadir *dir, struct err *err)
{
    char path[DATA_FILE_MAX], line[FORMAT_BYTES_MAX];
    datadir_file(dir->path, "format", path);
    int n = snprintf(line, sizeof line, "tidemark-data %u %s %" PRIu64 " %08" PRIx32 "\n", DATA_FORMAT, dir->cluster,
                     dir->member, dir->tag);
    return fsx_replace(path, line, (size_t)n, DATA_MODE, err);
}

void datadir_close(struct datadir *dir)
{
    if (dir->lock_fd >= 0)
        close(dir->lock_fd);
    dir->lock_fd = -1;
}

/* ---- ballot ---- */

struct ballot_image {
    char magic[8];
    uint64_t term, vote;
    uint64_t sum; /* XXH3 of all above */
};

enum tide_status ballot_load(const char *dir, struct ballot *ret_ballot, struct err *err)
{
    char path[DATA_FILE_MAX], *data = NULL;
    size_t bytes = 0;
    datadir_file(dir, "ballot", path);
    enum tide_status status = fsx_read(path, FORMAT_BYTES_MAX, &data, &bytes, err);
    if (status == TIDE_E_NOT_FOUND) {
        *ret_ballot = (struct ballot){0};
        return TIDE_OK;
    }
    if (status != TIDE_OK)
        return status;
    struct ballot_image image = {0};
    if (bytes == sizeof image)
        memcpy(&image, data, sizeof image);
    mem_free(data);
    if (memcmp(image.magic, BALLOT_MAGIC, sizeof image.magic) != 0 ||
        image.sum != XXH3_64bits(&image, offsetof(struct ballot_image, sum)))
        return err_set(err, TIDE_E_CORRUPT,
                       "%s does not match its checksum; do not guess a term: remove this member from its "
                       "group and add it again, or restore the directory from a backup",
                       path);
    *ret_ballot = (struct ballot){.term = image.term, .vote = image.vote};
    return TIDE_OK;
}

enum tide_status ballot_save(const char *dir, struct ballot ballot, struct err *err)
{
    char path[DATA_FILE_MAX];
    struct ballot_image image = {.term = ballot.term, .vote = ballot.vote};
    memcpy(image.magic, BALLOT_MAGIC, sizeof image.magic);
    image.sum = XXH3_64bits(&image, offsetof(struct ballot_image, sum));
    datadir_file(dir, "ballot", path);
    return fsx_replace(path, &image, sizeof image, DATA_MODE, err);
}
