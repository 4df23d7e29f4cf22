/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/disk_cut.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 64
#define CHANGES_MAX 64
#define PATH_BYTES 1024

/* One range per file is enough: what is synced together is written together. */
struct file {
    dev_t device;
    ino_t inode;
    int fd; /* our own */
    off_t from, to;
};

enum change_kind { CREATED, RENAMED, UNLINKED };

struct change {
    enum change_kind kind;
    char path[PATH_BYTES]; /* the name that is new, or gone */
    char from[PATH_BYTES]; /* RENAMED: its name before */
    char kept[PATH_BYTES]; /* what had that name, under another one; "": nothing had */
};

static struct file files[FILES_MAX];
static size_t file_count;
static struct change changes[CHANGES_MAX];
static size_t change_count;
static unsigned long kept_count;

static void *libc_call(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL)
        abort();
    return found;
}

static int plain_unlink(const char *path)
{
    int (*call)(const char *) = libc_call("unlink");
    return call(path);
}

static int plain_rename(const char *from, const char *to)
{
    int (*call)(const char *, const char *) = libc_call("rename");
    return call(from, to);
}

/* ---- bytes ---- */

static struct file *file_of(int fd)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        return NULL;
    for (size_t i = 0; i < file_count; i++)
        if (files[i].device == info.st_dev && files[i].inode == info.st_ino)
            return &files[i];
    if (file_count == FILES_MAX)
        abort();
    files[file_count] = (struct file){.device = info.st_dev, .inode = info.st_ino, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)};
    return &files[file_count++];
}

void cut_wrote(int fd, off_t from, ssize_t bytes)
{
    struct file *file = bytes > 0 && from >= 0 ? file_of(fd) : NULL;
    if (file == NULL)
        return;
    bool empty = file->from == file->to;
    if (empty || from < file->from)
        file->from = from;
    if (empty || from + bytes > file->to)
        file->to = from + bytes;
}

static void lose(struct file *file)
{
    static const char zeros[4096];
    ssize_t (*plain_pwrite)(int, const void *, size_t, off_t) = libc_call("pwrite");
    while (file->from < file->to) {
        size_t n = file->to - file->from < (off_t)sizeof zeros ? (size_t)(file->to - file->from) : sizeof zeros;
        if (plain_pwrite(file->fd, zeros, n, file->from) != (ssize_t)n)
            abort();
        file->from += (off_t)n;
    }
}

void cut_lose(int fd)
{
    struct file *file = file_of(fd);
    if (file != NULL)
        lose(file);
}

/* ---- names ---- */

static size_t parent_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

static struct change *change_add(enum change_kind kind, const char *path)
{
    if (change_count == CHANGES_MAX || strlen(path) >= PATH_BYTES)
        abort();
    struct change *change = &changes[change_count++];
    *change = (struct change){.kind = kind};
    snprintf(change->path, sizeof change->path, "%s", path);
    return change;
}

/* A second name beside the directory, where nobody looks. */
static void keep(struct change *change)
{
    snprintf(change->kept, sizeof change->kept, "%.*s.cut-%ld-%lu", (int)parent_bytes(change->path), change->path,
             (long)getpid(), kept_count++);
    if (link(change->path, change->kept) != 0)
        change->kept[0] = '\0';
}

void cut_will_create(const char *path)
{
    if (access(path, F_OK) != 0)
        change_add(CREATED, path);
}

void cut_will_rename(const char *from, const char *to)
{
    struct change *change = change_add(RENAMED, to);
    snprintf(change->from, sizeof change->from, "%s", from);
    keep(change);
}

void cut_will_unlink(const char *path)
{
    if (access(path, F_OK) == 0)
        keep(change_add(UNLINKED, path));
}

static void undo(const struct change *change)
{
    switch (change->kind) {
    case CREATED:
        plain_unlink(change->path);
        break;
    case RENAMED:
        plain_rename(change->path, change->from);
        break;
    case UNLINKED:
        break;
    }
    if (change->kept[0] != '\0' && plain_rename(change->kept, change->path) != 0)
        abort();
}

static void directory_synced(const char *path)
{
    size_t left = 0;
    for (size_t i = 0; i < change_count; i++) {
        if (parent_bytes(changes[i].path) != strlen(path) || strncmp(changes[i].path, path, strlen(path)) != 0)
            changes[left++] = changes[i];
        else if (changes[i].kept[0] != '\0')
            plain_unlink(changes[i].kept);
    }
    change_count = left;
}

/* ---- both ---- */

void cut_synced(int fd, const char *path)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return;
    if (S_ISDIR(info.st_mode))
        directory_synced(path);
    for (size_t i = 0; i < file_count; i++)
        if (files[i].device == info.st_dev && files[i].inode == info.st_ino) {
            close(files[i].fd);
            files[i] = files[--file_count];
            return;
        }
}

void cut_all(void)
{
    for (size_t i = 0; i < file_count; i++)
        lose(&files[i]);
    while (change_count > 0)
        undo(&changes[--change_count]);
}

void cut_forget(void)
{
    for (size_t i = 0; i < change_count; i++)
        if (changes[i].kept[0] != '\0')
            plain_unlink(changes[i].kept);
    for (size_t i = 0; i < file_count; i++)
        close(files[i].fd);
    change_count = file_count = 0;
}
