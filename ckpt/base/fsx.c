/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/fsx.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <tidemark/types.h>
#include <unistd.h>

#include "ckpt/base/mem.h"

#define TREE_FDS_MAX 16

enum tide_status fsx_mkdirs(const char *path, mode_t mode, struct err *err)
{
    char part[TIDE_PATH_MAX + 1];
    size_t n = strlen(path);
    if (n == 0 || n > TIDE_PATH_MAX)
        return err_set(err, TIDE_E_LIMIT, "path of %zu bytes; at most %d are possible", n, TIDE_PATH_MAX);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, mode) != 0 && errno != EEXIST)
            return err_errno(err, "cannot create directory %s", part);
    }
    return TIDE_OK;
}

enum tide_status fsx_mkdir_own(const char *path, mode_t mode, struct err *err)
{
    struct stat info;
    enum tide_status status = fsx_mkdirs(path, mode, err);
    if (status != TIDE_OK)
        return status;
    /* Not followed: a link is as good as a directory of whoever made it. */
    if (lstat(path, &info) != 0)
        return err_errno(err, "cannot examine %s", path);
    if (!S_ISDIR(info.st_mode))
        return err_set(err, TIDE_E_DENIED, "%s is there and is no directory; remove it", path);
    if (info.st_uid != geteuid() || (info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return err_set(err, TIDE_E_DENIED,
                       "%s is there already, belongs to user %u (this is user %u) and has mode %o: what others can write is not "
                       "trusted; remove it",
                       path, (unsigned)info.st_uid, (unsigned)geteuid(), (unsigned)info.st_mode & 07777);
    return TIDE_OK;
}

static enum tide_status read_open(int fd, const char *path, size_t bytes_max, char **ret_data, size_t *ret_bytes,
                                  struct err *err)
{
    size_t room = 4096, used = 0;
    char *data = mem_alloc(room);
    for (;;) {
        ssize_t n = read(fd, data + used, room - 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            enum tide_status status = err_errno(err, "cannot read %s", path);
            mem_free(data);
            return status;
        }
        if (n == 0)
            break;
        used += (size_t)n;
        if (used > bytes_max) {
            mem_free(data);
            return err_set(err, TIDE_E_LIMIT, "%s is longer than %zu bytes", path, bytes_max);
        }
        if (used == room - 1)
            data = mem_grow(data, room *= 2, 1);
    }
    data[used] = '\0';
    *ret_data = data;
    *ret_bytes = used;
    return TIDE_OK;
}

enum tide_status fsx_read(const char *path, size_t bytes_max, char **ret_data, size_t *ret_bytes, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, TIDE_E_NOT_FOUND, "%s does not exist", path);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    enum tide_status status = read_open(fd, path, bytes_max, ret_data, ret_bytes, err);
    close(fd);
    return status;
}

enum tide_status fsx_write_all(int fd, const void *data, size_t bytes, const char *what, struct err *err)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t n = write(fd, at, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "cannot write %s", what);
        at += n;
        bytes -= (size_t)n;
    }
    return TIDE_OK;
}

bool fsx_pwrite_all(int fd, const void *data, size_t bytes, uint64_t offset)
{
    const char *from = data;
    while (bytes > 0) {
        ssize_t n = pwrite(fd, from, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ENOSPC; /* it says nothing, and would say so for ever */
        if (n <= 0)
            return false;
        from += n;
        bytes -= (size_t)n;
        offset += (uint64_t)n;
    }
    return true;
}

enum tide_status fsx_sync_dir(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open directory %s", path);
    enum tide_status status = fsync(fd) != 0 ? err_errno(err, "cannot fsync directory %s", path) : TIDE_OK;
    close(fd);
    return status;
}

static enum tide_status write_synced(const char *path, const void *data, size_t bytes, mode_t mode, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return err_errno(err, "cannot create %s", path);
    enum tide_status status = fsx_write_all(fd, data, bytes, path, err);
    if (status == TIDE_OK && fsync(fd) != 0)
        status = err_errno(err, "cannot fsync %s", path);
    close(fd);
    return status;
}

enum tide_status fsx_replace(const char *path, const void *data, size_t bytes, mode_t mode, struct err *err)
{
    char temporary[TIDE_PATH_MAX + 32], parent[TIDE_PATH_MAX + 1];
    if (strlen(path) > TIDE_PATH_MAX)
        return err_set(err, TIDE_E_LIMIT, "path longer than %d bytes", TIDE_PATH_MAX);
    snprintf(temporary, sizeof temporary, "%s.tmp.%ld", path, (long)getpid());
    enum tide_status status = write_synced(temporary, data, bytes, mode, err);
    if (status == TIDE_OK && rename(temporary, path) != 0)
        status = err_errno(err, "cannot rename %s to %s", temporary, path);
    if (status != TIDE_OK) {
        unlink(temporary);
        return status;
    }
    text_copy(parent, sizeof parent, path);
    return fsx_sync_dir(dirname(parent), err);
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *where)
{
    (void)info, (void)type, (void)where;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

enum tide_status fsx_remove_tree(const char *path, struct err *err)
{
    if (nftw(path, remove_one, TREE_FDS_MAX, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT)
        return TIDE_OK;
    return err_errno(err, "cannot remove %s", path);
}
