/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/store_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <tidemark/types.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/store/crew.h"

#define WRITERS 2u /* one writes, one waits for the disk */
#define READERS 8u /* a directory may be far away: each read waits for it, and the next ones wait meanwhile */
#define REMOVERS READERS /* that takes no memory either; apart, so that nobody's restore waits behind it */
#define PUT_TRIES_MAX 16 /* a purge that removes an empty directory under a writer makes it start over */

struct store_dir {
    struct store base;
    unsigned flags;
    int fd;
    struct crew writers, readers, removers;
    char root[TIDE_PATH_MAX + 1]; /* for messages */
};

static struct store_dir *dir_of(struct store *store)
{
    return (struct store_dir *)store;
}

/* The key's directory as a relative path; "." at the root. */
static void parent_of(const char *key, char to[TIDE_PATH_MAX + 1])
{
    const char *slash = strrchr(key, '/');
    text_copy(to, slash ? (size_t)(slash - key) + 1 : 2, slash ? key : ".");
}

/* A directory that somebody removed a moment ago, as local file systems and NFS say it. */
static int went_away(int number)
{
    return number == ENOENT || number == ESTALE;
}

/* NOT_FOUND: somebody removed an empty directory under us; try again. */
static enum tide_status make_parents(struct store_dir *dir, const char *key, struct err *err)
{
    char part[TIDE_PATH_MAX + 1];
    for (const char *slash = strchr(key, '/'); slash; slash = strchr(slash + 1, '/')) {
        text_copy(part, (size_t)(slash - key) + 1, key);
        if (mkdirat(dir->fd, part, 0777) != 0 && errno != EEXIST)
            return went_away(errno) ? TIDE_E_NOT_FOUND : err_errno(err, "cannot create directory %s/%s", dir->root, part);
    }
    return TIDE_OK;
}

/* Make the name durable: every directory from the key's up to the root. Not only those this call created: another writer
 * may have made one a moment ago and not have come to its fsync yet. An unchanged directory costs next to nothing. */
static enum tide_status sync_parents(struct store_dir *dir, const char *key, struct err *err)
{
    char part[TIDE_PATH_MAX + 1];
    parent_of(key, part);
    for (;;) {
        int fd = openat(dir->fd, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return err_errno(err, "cannot open directory %s/%s", dir->root, part);
        int failed = fsync(fd);
        int number = errno;
        close(fd);
        errno = number;
        if (failed)
            return err_errno(err, "cannot fsync directory %s/%s", dir->root, part);
        if (strcmp(part, ".") == 0)
            return TIDE_OK;
        parent_of(part, part);
    }
}

/* ---- put ---- */

static enum tide_status fill(struct store_dir *dir, int fd, const char *key, const void *data, size_t bytes, struct err *err)
{
    enum tide_status status = fsx_write_all(fd, data, bytes, key, err);
    if (status == TIDE_OK && fdatasync(fd) != 0)
        status = err_errno(err, "cannot fdatasync object %s", key);
    return status == TIDE_OK ? TIDE_OK : err_wrap(err, "store %s", dir->root);
}

static enum tide_status taken(const char *key, struct err *err)
{
    return err_set(err, TIDE_E_EXISTS, "object %s exists already", key);
}

/* A file without a name gets one only when it is whole. NOT_FOUND: the directory went away; try again. UNSUPPORTED: this
 * file system cannot do that. */
static enum tide_status put_unnamed(struct store_dir *dir, const char *key, const void *data, size_t bytes, struct err *err)
{
    char parent[TIDE_PATH_MAX + 1], self[64];
    parent_of(key, parent);
    int fd = openat(dir->fd, parent, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0444);
    /* EPERM is ext4's word, too, for a directory removed since it was looked up: a file with a name is told it went away. */
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL || errno == EPERM))
        return TIDE_E_UNSUPPORTED;
    if (fd < 0)
        return went_away(errno) ? TIDE_E_NOT_FOUND : err_errno(err, "cannot create a file in %s/%s", dir->root, parent);
    enum tide_status status = fill(dir, fd, key, data, bytes, err);
    if (status == TIDE_OK) {
        snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
        if (linkat(AT_FDCWD, self, dir->fd, key, AT_SYMLINK_FOLLOW) != 0) {
            if (errno == EEXIST)
                status = taken(key, err);
            else if (went_away(errno) && faccessat(dir->fd, parent, F_OK, 0) != 0)
                status = TIDE_E_NOT_FOUND;
            else if (errno == ENOSPC || errno == EDQUOT || errno == EIO)
                status = err_errno(err, "cannot name object %s/%s", dir->root, key);
            else
                status = TIDE_E_UNSUPPORTED; /* no /proc, or links across an overlay's layers */
        }
    }
    close(fd);
    return status;
}

/* Give the finished temporary file its name. NOT_FOUND: try again. */
static enum tide_status name_it(struct store_dir *dir, int fd, const char *temporary, const char *key, struct err *err)
{
    struct stat info;
    if (linkat(dir->fd, temporary, dir->fd, key, 0) == 0)
        return TIDE_OK;
    int number = errno;
    /* NFS may lose the answer to a link that was made; the count of names tells. */
    if (number == EEXIST && fstat(fd, &info) == 0 && info.st_nlink == 2)
        return TIDE_OK;
    if (number == EEXIST)
        return taken(key, err);
    if (went_away(number)) /* the directory went away, or the file, taken for one that a dead writer left */
        return TIDE_E_NOT_FOUND;
    errno = number;
    return err_errno(err, "cannot link object %s/%s", dir->root, key);
}

static enum tide_status put_named(struct store_dir *dir, const char *key, const void *data, size_t bytes, struct err *err)
{
    char parent[TIDE_PATH_MAX + 1], temporary[TIDE_PATH_MAX + 64], chance[17];
    struct rng rng = {.state = rng_entropy()};
    rng_hex(&rng, chance, 16);
    parent_of(key, parent);
    snprintf(temporary, sizeof temporary, "%s/%s%s", parent, STORE_DIR_TEMPORARY, chance);
    int fd = openat(dir->fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (fd < 0)
        return went_away(errno) ? TIDE_E_NOT_FOUND : err_errno(err, "cannot create a file in %s/%s", dir->root, parent);
    flock(fd, LOCK_EX | LOCK_NB); /* "I live": where locks are not known, nobody is thought dead either */
    enum tide_status status = fill(dir, fd, key, data, bytes, err);
    if (status == TIDE_OK)
        status = name_it(dir, fd, temporary, key, err);
    unlinkat(dir->fd, temporary, 0);
    close(fd);
    return status;
}

static enum tide_status put_once(struct store_dir *dir, const char *key, const void *data, size_t bytes, struct err *err)
{
    enum tide_status status = make_parents(dir, key, err);
    if (status != TIDE_OK)
        return status;
    /* Spares the writing of a pack that is there; the link decides, not this look. */
    if (faccessat(dir->fd, key, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return taken(key, err);
    status = dir->flags & STORE_DIR_NAMED ? TIDE_E_UNSUPPORTED : put_unnamed(dir, key, data, bytes, err);
    if (status == TIDE_E_UNSUPPORTED)
        status = put_named(dir, key, data, bytes, err);
    return status;
}

static enum tide_status dir_put(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    struct store_dir *dir = dir_of(store);
    enum tide_status status = TIDE_E_NOT_FOUND;
    for (int i = 0; i < PUT_TRIES_MAX && status == TIDE_E_NOT_FOUND; i++)
        status = put_once(dir, key, data, bytes, err);
    if (status == TIDE_E_NOT_FOUND)
        return err_set(err, TIDE_E_IO, "store %s: the directory of %s is removed again and again by somebody", dir->root,
                       key);
    if (status != TIDE_OK && status != TIDE_E_EXISTS)
        return status;
    /* Also for EXISTS: who is told that the object is there may rely on it after a crash. */
    enum tide_status synced = sync_parents(dir, key, err);
    return synced == TIDE_OK ? status : synced;
}

/* ---- the other verbs ---- */

static enum tide_status open_object(struct store_dir *dir, const char *key, int *ret_fd, uint64_t *ret_bytes,
                                    struct err *err)
{
    struct stat info;
    int fd = openat(dir->fd, key, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return err_set(err, TIDE_E_NOT_FOUND, "there is no object %s in store %s", key, dir->root);
    if (fd < 0)
        return err_errno(err, "cannot open object %s/%s", dir->root, key);
    enum tide_status status = TIDE_OK;
    if (fstat(fd, &info) != 0) /* far away, it may have gone out of reach meanwhile: that says nothing of the object */
        status = err_errno(err, "cannot stat object %s/%s", dir->root, key);
    else if (!S_ISREG(info.st_mode))
        status = err_set(err, TIDE_E_NOT_FOUND, "%s in store %s is not an object", key, dir->root);
    if (status != TIDE_OK) {
        close(fd);
        return status;
    }
    *ret_fd = fd;
    *ret_bytes = (uint64_t)info.st_size;
    return TIDE_OK;
}

static enum tide_status read_at(struct store_dir *dir, int fd, const char *key, uint64_t offset, char *to, size_t bytes,
                                struct err *err)
{
    while (bytes > 0) {
        ssize_t n = pread(fd, to, bytes, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "cannot read object %s/%s", dir->root, key);
        if (n == 0)
            return err_set(err, TIDE_E_CORRUPT, "object %s in store %s ends at byte %llu", key, dir->root,
                           (unsigned long long)offset);
        to += n;
        offset += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return TIDE_OK;
}

static enum tide_status dir_get(struct store *store, const char *key, uint64_t offset, void *to, size_t bytes,
                                struct err *err)
{
    int fd;
    uint64_t size;
    enum tide_status status = open_object(dir_of(store), key, &fd, &size, err);
    if (status != TIDE_OK)
        return status;
    if (offset > size || bytes > size - offset)
        status = err_set(err, TIDE_E_CORRUPT, "object %s in store %s has %llu bytes; %llu were expected", key,
                         dir_of(store)->root, (unsigned long long)size, (unsigned long long)(offset + bytes));
    else
        status = read_at(dir_of(store), fd, key, offset, to, bytes, err);
    close(fd);
    return status;
}

static enum tide_status dir_size(struct store *store, const char *key, uint64_t *ret_bytes, struct err *err)
{
    int fd;
    uint64_t size;
    enum tide_status status = open_object(dir_of(store), key, &fd, &size, err);
    if (status != TIDE_OK)
        return status;
    close(fd);
    *ret_bytes = size;
    return TIDE_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum tide_status dir_list(struct store *store, const char *prefix, struct strlist *ret_keys, struct err *err)
{
    enum tide_status status = store_dir_walk(dir_of(store)->fd, prefix, ret_keys, err);
    if (status != TIDE_OK)
        return err_wrap(err, "store %s", dir_of(store)->root);
    if (ret_keys->count > 1)
        qsort(ret_keys->items, ret_keys->count, sizeof *ret_keys->items, by_name);
    return TIDE_OK;
}

/* The object, then the directories that it leaves empty. */
static enum tide_status dir_remove(struct store *store, const char *key, struct err *err)
{
    struct store_dir *dir = dir_of(store);
    if (unlinkat(dir->fd, key, 0) != 0 && errno != ENOENT && errno != ENOTDIR)
        return err_errno(err, "cannot remove object %s/%s", dir->root, key);
    char part[TIDE_PATH_MAX + 1];
    parent_of(key, part);
    while (strcmp(part, ".") != 0 && unlinkat(dir->fd, part, AT_REMOVEDIR) == 0)
        parent_of(part, part);
    return TIDE_OK;
}

static struct crew *crew_of(struct store_op *op)
{
    struct store_dir *dir = dir_of(op->store);
    switch (op->verb) {
    case STORE_GET:
        return &dir->readers;
    case STORE_REMOVE:
        return &dir->removers;
    case STORE_PUT:
        break;
    }
    return &dir->writers;
}

static void dir_begin(struct store_op *op)
{
    crew_begin(crew_of(op), op);
}

static enum tide_status dir_finish(struct store_op *op, struct err *err)
{
    return crew_finish(crew_of(op), op, err);
}

static int dir_pending(struct store_op *op)
{
    return crew_pending(crew_of(op), op);
}

static int dir_moved(struct store *store)
{
    struct stat here, there;
    const struct store_dir *dir = dir_of(store);
    if (fstat(dir->fd, &here) != 0 || stat(dir->root, &there) != 0)
        return 1; /* opening it again finds out why */
    return here.st_dev != there.st_dev || here.st_ino != there.st_ino;
}

static void dir_close(struct store *store)
{
    crew_release(&dir_of(store)->writers);
    crew_release(&dir_of(store)->readers);
    crew_release(&dir_of(store)->removers);
    close(dir_of(store)->fd);
    mem_free(store);
}

static const struct store_ops dir_ops = {
    .scheme = "file",
    .at_once = WRITERS,
    .gets_at_once = READERS,
    .removes_at_once = REMOVERS,
    .put = dir_put,
    .get = dir_get,
    .begin = dir_begin,
    .finish = dir_finish,
    .pending = dir_pending,
    .size = dir_size,
    .list = dir_list,
    .remove = dir_remove,
    .moved = dir_moved,
    .close = dir_close,
};

enum tide_status store_dir_open(const char *path, unsigned flags, struct store **ret_store, struct err *err)
{
    enum tide_status status = fsx_mkdirs(path, 0777, err);
    if (status != TIDE_OK)
        return status;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open directory %s", path);
    struct store_dir *dir = mem_try_alloc(sizeof *dir);
    if (dir == NULL) {
        close(fd);
        return err_set(err, TIDE_E_NOMEM, "no memory to open store %s", path);
    }
    dir->base.ops = &dir_ops;
    dir->flags = flags;
    dir->fd = fd;
    crew_init(&dir->writers, WRITERS);
    crew_init(&dir->readers, READERS);
    crew_init(&dir->removers, REMOVERS);
    text_copy(dir->root, sizeof dir->root, path);
    *ret_store = &dir->base;
    return TIDE_OK;
}
