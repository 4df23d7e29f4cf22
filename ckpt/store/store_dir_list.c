/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <tidemark/types.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/store/store_dir.h"

/* What the walk goes by: the path of the directory it stands in, "" or ending in '/'. */
struct walk {
    const char *prefix;
    struct strlist *keys;
    int swept; /* something, in a directory that may be empty now */
    char path[TIDE_PATH_MAX + NAME_MAX + 2];
};

static enum tide_status walk_dir(struct walk *walk, int fd, struct err *err);

/* Could something at or below this path begin with the prefix? */
static int relevant(const struct walk *walk, size_t length)
{
    size_t n = strlen(walk->prefix);
    return strncmp(walk->path, walk->prefix, n < length ? n : length) == 0;
}

/* What a writer that died left: as long as it lives it holds a lock on it. Shared, as none more is to be had for reading. */
static void sweep(struct walk *walk, int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    if (flock(fd, LOCK_SH | LOCK_NB) == 0 && unlinkat(parent, name, 0) == 0)
        walk->swept = 1;
    close(fd);
}

static enum tide_status enter(struct walk *walk, int parent, const char *name, size_t length, struct err *err)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    /* Removed while we look: as good as never seen. */
    if (fd < 0)
        return errno == ENOENT ? TIDE_OK : err_errno(err, "cannot open directory %s", walk->path);
    walk->path[length] = '/';
    walk->path[length + 1] = '\0';
    walk->swept = 0;
    enum tide_status status = walk_dir(walk, fd, err);
    if (walk->swept)
        unlinkat(parent, name, AT_REMOVEDIR); /* if nothing else is there */
    return status;
}

static enum tide_status visit(struct walk *walk, int parent, const char *name, struct err *err)
{
    struct stat info;
    size_t base = strlen(walk->path), length = base + strlen(name);
    if (strncmp(name, STORE_DIR_TEMPORARY, strlen(STORE_DIR_TEMPORARY)) == 0)
        sweep(walk, parent, name);
    if (length > TIDE_PATH_MAX || !store_key_valid(name))
        return TIDE_OK; /* never written by us: a temporary file, or somebody else's */
    text_copy(walk->path + base, sizeof walk->path - base, name);
    enum tide_status status = TIDE_OK;
    if (relevant(walk, length) && fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) == 0) {
        if (S_ISDIR(info.st_mode))
            status = enter(walk, parent, name, length, err);
        else if (S_ISREG(info.st_mode) && length >= strlen(walk->prefix))
            strlist_add(walk->keys, walk->path);
    }
    walk->path[base] = '\0';
    return status;
}

/* Owns fd. */
static enum tide_status walk_dir(struct walk *walk, int fd, struct err *err)
{
    DIR *stream = fdopendir(fd);
    if (stream == NULL) {
        enum tide_status failed = err_errno(err, "cannot read directory %s", walk->path);
        close(fd);
        return failed;
    }
    enum tide_status status = TIDE_OK;
    while (status == TIDE_OK) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (entry == NULL && errno != 0)
            status = err_errno(err, "cannot read directory %s", walk->path);
        if (entry == NULL)
            break;
        status = visit(walk, dirfd(stream), entry->d_name, err);
    }
    closedir(stream);
    return status;
}

enum tide_status store_dir_walk(int root_fd, const char *prefix, struct strlist *ret_keys, struct err *err)
{
    struct walk walk = {.prefix = prefix, .keys = ret_keys};
    /* Begin at the deepest directory the prefix names: a store of many jobs is not read for one of them. */
    const char *slash = strrchr(prefix, '/');
    char start[TIDE_PATH_MAX + 1] = ".";
    if (strlen(prefix) > TIDE_PATH_MAX)
        return TIDE_OK;
    if (slash) {
        text_copy(start, (size_t)(slash - prefix) + 1, prefix);
        text_copy(walk.path, (size_t)(slash - prefix) + 2, prefix);
        if (!store_key_valid(start))
            return err_set(err, TIDE_E_INVALID, "\"%.200s\" is not the beginning of an object key", prefix);
    }
    int fd = openat(root_fd, start, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR ? TIDE_OK : err_errno(err, "cannot open directory %s", start);
    return walk_dir(&walk, fd, err);
}
