/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tidemark/types.h>
#include <unistd.h>

#include "ckpt/base/mem.h"

#define CGROUP_FILE_MAX (1u << 20) /* bytes of cgroup.procs read at a time */
#define CGROUP_DEPTH_MAX 8u        /* ours are two deep; a rank may make its own below */

static int open_file(const char *path, const char *file, int flags)
{
    char name[TIDE_PATH_MAX + 32];
    snprintf(name, sizeof name, "%s/%s", path, file);
    return open(name, flags | O_CLOEXEC);
}

/* Kernel files are read in one go; NULL when there is none. */
static char *read_file(const char *path, const char *file)
{
    int fd = open_file(path, file, O_RDONLY);
    if (fd < 0)
        return NULL;
    char *text = mem_alloc(CGROUP_FILE_MAX + 1);
    size_t used = 0;
    ssize_t n;
    while (used < CGROUP_FILE_MAX && (n = read(fd, text + used, CGROUP_FILE_MAX - used)) > 0)
        used += (size_t)n;
    close(fd);
    return text;
}

static void each_child(const char *path, unsigned depth, void (*visit)(const char *path, unsigned depth))
{
    DIR *dir = depth < CGROUP_DEPTH_MAX ? opendir(path) : NULL;
    if (dir == NULL)
        return;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char child[TIDE_PATH_MAX + 1];
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        int n = snprintf(child, sizeof child, "%s/%s", path, entry->d_name);
        if (n > 0 && (size_t)n < sizeof child)
            visit(child, depth + 1);
    }
    closedir(dir);
}

static void kill_members(const char *path, unsigned depth)
{
    char *procs = read_file(path, "cgroup.procs"), *rest = procs, *line;
    while (rest != NULL && (line = strsep(&rest, "\n")) != NULL) {
        long pid = strtol(line, NULL, 10);
        if (pid > 1)
            kill((pid_t)pid, SIGKILL);
    }
    mem_free(procs);
    each_child(path, depth, kill_members);
}

void cgroup_kill(const char *path)
{
    int fd = open_file(path, "cgroup.kill", O_WRONLY);
    bool done = fd >= 0 && write(fd, "1", 1) == 1;
    if (fd >= 0)
        close(fd);
    if (!done)
        kill_members(path, 0);
}

bool cgroup_empty(const char *path)
{
    char *events = read_file(path, "cgroup.events");
    bool empty = events == NULL || strstr(events, "populated 0") != NULL;
    mem_free(events);
    return empty;
}

static void remove_tree(const char *path, unsigned depth)
{
    each_child(path, depth, remove_tree);
    rmdir(path);
}

void cgroup_remove(const char *path)
{
    remove_tree(path, 0);
}

int cgroup_open_procs(const char *path)
{
    return open_file(path, "cgroup.procs", O_WRONLY);
}

enum tide_status cgroup_make(const char *path, struct err *err)
{
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return err_errno(err, "cannot create control group %s", path);
    int fd = cgroup_open_procs(path);
    if (fd < 0) {
        enum tide_status status = err_errno(err, "%s is not a writable control group of version 2", path);
        rmdir(path);
        return status;
    }
    close(fd);
    if (!cgroup_empty(path))
        cgroup_kill(path);
    return TIDE_OK;
}
