/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/wire/local.h"

#define CGROUP_MODE 0755
#define PROC_FILE_MAX (4u << 20)
#define SMALL_MAX 4096u

/* Fields of a mountinfo line: "36 35 98:0 /root /mount/point options - type source super-options". */
static bool mount_of_line(const char *line, char *to)
{
    char point[TIDE_PATH_MAX + 1];
    const char *dash = strstr(line, " - cgroup2 ");
    if (dash == NULL || sscanf(line, "%*s %*s %*s %*s %1024s", point) != 1)
        return false;
    text_copy(to, TIDE_PATH_MAX + 1, point);
    return true;
}

static bool find_mount(char *to)
{
    FILE *in = fopen("/proc/self/mountinfo", "re");
    char line[2 * SMALL_MAX];
    bool found = false;
    while (in != NULL && !found && fgets(line, sizeof line, in) != NULL)
        found = mount_of_line(line, to);
    if (in != NULL)
        fclose(in);
    return found;
}

/* Our own group's path, "0::/…" in /proc/self/cgroup: what a service manager may have delegated to us. */
static void own_group(char *to)
{
    char line[SMALL_MAX];
    to[0] = '\0';
    FILE *in = fopen("/proc/self/cgroup", "re");
    while (in != NULL && fgets(line, sizeof line, in) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::", 3) == 0 && strcmp(line + 3, "/") != 0)
            text_copy(to, TIDE_PATH_MAX + 1, line + 3);
    }
    if (in != NULL)
        fclose(in);
}

static bool usable(const char *path)
{
    char file[TIDE_PATH_MAX + 32];
    snprintf(file, sizeof file, "%s/cgroup.kill", path);
    if (access(file, W_OK) != 0)
        return false;
    snprintf(file, sizeof file, "%s/cgroup.procs", path);
    return access(file, W_OK) == 0;
}

static bool make_below(const char *mount, const char *group, const char *uid, char *to)
{
    char path[TIDE_PATH_MAX + 1];
    int n = snprintf(path, sizeof path, "%s%s/tidemark", mount, group);
    if (n < 0 || (size_t)n + TIDE_UID_CHARS + 2 > sizeof path || (mkdir(path, CGROUP_MODE) != 0 && errno != EEXIST))
        return false;
    snprintf(path + n, sizeof path - (size_t)n, "/%s", uid);
    if ((mkdir(path, CGROUP_MODE) != 0 && errno != EEXIST) || !usable(path))
        return false;
    text_copy(to, TIDE_PATH_MAX + 1, path);
    return true;
}

void cgroup_make(const char *uid, char *to)
{
    char mount[TIDE_PATH_MAX + 1] = "", group[TIDE_PATH_MAX + 1];
    to[0] = '\0';
    if (!find_mount(mount))
        return;
    own_group(group);
    if (!make_below(mount, "", uid, to))
        make_below(mount, group, uid, to);
}

void cgroup_unmake(const char *path)
{
    char parent[TIDE_PATH_MAX + 1];
    if (path[0] == '\0' || rmdir(path) != 0)
        return;
    text_copy(parent, sizeof parent, path);
    *strrchr(parent, '/') = '\0';
    rmdir(parent); /* the last agent of this machine succeeds */
}

void cgroup_kill(const char *path)
{
    char file[TIDE_PATH_MAX + 32];
    snprintf(file, sizeof file, "%s/cgroup.kill", path);
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    struct err err;
    if (write(fd, "1", 1) != 1 && err_errno(&err, "cannot kill the processes of %s", path) != TIDE_OK)
        log_warn("%s", err.text);
    close(fd);
}

bool cgroup_populated(const char *path)
{
    char file[TIDE_PATH_MAX + 32], *data = NULL;
    size_t bytes = 0;
    snprintf(file, sizeof file, "%s/cgroup.events", path);
    if (fsx_read(file, SMALL_MAX, &data, &bytes, NULL) != TIDE_OK)
        return false;
    bool populated = strstr(data, "populated 1") != NULL;
    mem_free(data);
    return populated;
}

/* The step keeps one group per rank inside. */
static void remove_children(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
    if (dir != NULL)
        closedir(dir);
}

void cgroup_remove(const char *path)
{
    struct err err;
    remove_children(path);
    if (rmdir(path) != 0 && errno != ENOENT && err_errno(&err, "cannot remove cgroup %s", path) != TIDE_OK)
        log_warn("%s", err.text);
}

static bool has_word(const char *data, size_t bytes, const char *word)
{
    for (const char *at = data; at < data + bytes; at += strlen(at) + 1)
        if (strcmp(at, word) == 0)
            return true;
    return false;
}

typedef bool (*proc_fn)(pid_t pid, const char *data, size_t bytes, void *context);

/* Each process with its environ or cmdline (NUL-separated words), until `visit` says true. */
static void each_proc(const char *file, proc_fn visit, void *context)
{
    DIR *dir = opendir("/proc");
    bool done = false;
    for (struct dirent *entry; dir != NULL && !done && (entry = readdir(dir)) != NULL;) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        char path[64], *data = NULL;
        size_t bytes = 0;
        if (pid <= 1)
            continue;
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
        if (fsx_read(path, PROC_FILE_MAX, &data, &bytes, NULL) == TIDE_OK)
            done = visit(pid, data, bytes, context);
        mem_free(data);
    }
    if (dir != NULL)
        closedir(dir);
}

struct kill_search {
    char uid[64], node[TIDE_NAME_MAX + 32];
    uint64_t first, last; /* generations */
    size_t count;
};

static bool has_generation(const char *data, size_t bytes, const struct kill_search *search)
{
    static const char name[] = ENV_GENERATION "=";
    for (const char *at = data; at < data + bytes; at += strlen(at) + 1)
        if (strncmp(at, name, sizeof name - 1) == 0) {
            uint64_t generation = strtoull(at + sizeof name - 1, NULL, 10);
            return generation >= search->first && generation <= search->last;
        }
    return false;
}

static bool is_sought(const struct kill_search *search, const char *data, size_t bytes)
{
    return has_word(data, bytes, search->uid) && has_generation(data, bytes, search) && has_word(data, bytes, search->node);
}

/* The number may have come to another process since it was looked at: the one that is held is looked at again. */
static void kill_held(pid_t pid, const struct kill_search *search)
{
    char path[64], *data = NULL;
    size_t bytes = 0;
    int held = pidfd_open(pid, 0);
    if (held < 0)
        return;
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    if (fsx_read(path, PROC_FILE_MAX, &data, &bytes, NULL) == TIDE_OK && is_sought(search, data, bytes))
        pidfd_send_signal(held, SIGKILL, NULL, 0);
    mem_free(data);
    close(held);
}

static bool kill_one(pid_t pid, const char *data, size_t bytes, void *context)
{
    struct kill_search *search = context;
    if (!is_sought(search, data, bytes))
        return false;
    search->count++;
    kill_held(pid, search);
    return false;
}

size_t procs_kill(const char *job_uid, uint64_t first, uint64_t last, const char *node)
{
    struct kill_search search = {.first = first, .last = last};
    snprintf(search.uid, sizeof search.uid, ENV_JOB_UID "=%s", job_uid);
    snprintf(search.node, sizeof search.node, ENV_NODE "=%s", node);
    each_proc("environ", kill_one, &search);
    return search.count;
}

struct step_search {
    const char *dir;
    pid_t pid;
};

static bool match_step(pid_t pid, const char *data, size_t bytes, void *context)
{
    struct step_search *search = context;
    size_t first = strlen(data) + 1;
    const char *name = strrchr(data, '/');
    name = name != NULL ? name + 1 : data;
    if (first >= bytes || strcmp(name, "tidemark-step") != 0 || strcmp(data + first, search->dir) != 0)
        return false;
    search->pid = pid;
    return true;
}

pid_t procs_find_step(const char *dir)
{
    struct step_search search = {.dir = dir};
    each_proc("cmdline", match_step, &search);
    return search.pid;
}

bool procs_kill_step(const char *dir)
{
    pid_t pid = procs_find_step(dir);
    int held = pid != 0 ? pidfd_open(pid, 0) : -1;
    if (held >= 0 && procs_find_step(dir) == pid)
        pidfd_send_signal(held, SIGKILL, NULL, 0);
    if (held >= 0)
        close(held);
    return pid != 0;
}
