/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/disk_fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "tests/lib/disk_cut.h"

#define RULES_MAX 4
#define PATH_BYTES 4096
#define FAULT_VARIABLE "TIDE_DISK_FAULT"

enum call {
    CALL_OPEN = 1,
    CALL_READ = 2,
    CALL_WRITE = 4,
    CALL_SYNC = 8,
    CALL_RENAME = 16,
    CALL_UNLINK = 32,
    CALL_TRUNCATE = 64
};

struct rule {
    unsigned calls;
    unsigned long nth, matched;
    bool onward, lose, half, kill, cut;
    int error;
    char pattern[PATH_BYTES];
};

static struct rule rules[RULES_MAX];
static size_t rule_count;
static bool struck;
static bool noting; /* what is not synced */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static const struct {
    const char *name;
    unsigned calls;
} call_names[] = {{"open", CALL_OPEN},         {"read", CALL_READ},          {"write", CALL_WRITE},
                  {"sync", CALL_SYNC},         {"rename", CALL_RENAME},      {"unlink", CALL_UNLINK},
                  {"truncate", CALL_TRUNCATE}, {"any", ~(unsigned)CALL_READ}};

static const struct {
    const char *name;
    int error;
} error_names[] = {{"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EROFS", EROFS}, {"EDQUOT", EDQUOT}};

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL)
        abort();
    return found;
}

/* ---- the plan ---- */

static void cannot_read(const char *rule)
{
    fprintf(stderr, FAULT_VARIABLE ": cannot read the rule \"%s\"\n", rule);
    abort();
}

static void parse_action(const char *word, struct rule *rule, const char *text)
{
    rule->half = strcmp(word, "half") == 0;
    rule->cut = strcmp(word, "cut") == 0;
    rule->kill = rule->cut || strcmp(word, "kill") == 0;
    rule->lose = strcmp(word, "lose") == 0;
    rule->error = rule->lose ? EIO : 0;
    for (size_t i = 0; i < sizeof error_names / sizeof error_names[0]; i++)
        if (strcmp(word, error_names[i].name) == 0)
            rule->error = error_names[i].error;
    if (rule->error == 0 && !rule->half && !rule->kill)
        cannot_read(text);
}

static void parse_rule(char *text)
{
    char *rest = NULL, whole[PATH_BYTES];
    snprintf(whole, sizeof whole, "%s", text);
    char *call = strtok_r(text, ":", &rest), *nth = strtok_r(NULL, ":", &rest), *action = strtok_r(NULL, ":", &rest);
    if (rule_count == RULES_MAX || call == NULL || nth == NULL || action == NULL)
        cannot_read(whole);
    struct rule *rule = &rules[rule_count++];
    *rule = (struct rule){0};
    for (size_t i = 0; i < sizeof call_names / sizeof call_names[0]; i++)
        if (strcmp(call, call_names[i].name) == 0)
            rule->calls = call_names[i].calls;
    char *end = nth;
    rule->nth = strtoul(nth, &end, 10);
    rule->onward = *end == '+';
    if (rule->calls == 0 || rule->nth == 0)
        cannot_read(whole);
    parse_action(action, rule, whole);
    snprintf(rule->pattern, sizeof rule->pattern, "%s", rest != NULL && *rest ? rest : "*");
}

static void read_plan(const char *plan)
{
    char copy[PATH_BYTES], *rest = NULL;
    rule_count = 0;
    struck = noting = false;
    cut_forget();
    if (plan == NULL)
        return;
    snprintf(copy, sizeof copy, "%s", plan);
    for (char *rule = strtok_r(copy, ";", &rest); rule != NULL; rule = strtok_r(NULL, ";", &rest))
        parse_rule(rule);
    for (size_t i = 0; i < rule_count; i++)
        noting = noting || rules[i].cut || rules[i].lose;
}

void disk_fault_plan(const char *plan)
{
    pthread_mutex_lock(&mutex);
    read_plan(plan);
    pthread_mutex_unlock(&mutex);
}

unsigned long disk_fault_matched(void)
{
    return rules[0].matched;
}

bool disk_fault_struck(void)
{
    return struck;
}

__attribute__((constructor)) static void plan_of_environment(void)
{
    read_plan(getenv(FAULT_VARIABLE));
}

/* ---- striking ---- */

static const char *path_of(int fd, char to[PATH_BYTES])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, to, PATH_BYTES - 1);
    to[n > 0 ? n : 0] = '\0';
    return to;
}

/* What is to happen instead of this call; the last rule that strikes decides. */
static struct rule judge(unsigned call, const char *path)
{
    struct rule verdict = {0};
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < rule_count; i++) {
        struct rule *rule = &rules[i];
        if ((rule->calls & call) == 0 || fnmatch(rule->pattern, path, FNM_EXTMATCH) != 0)
            continue;
        rule->matched++;
        if (rule->matched != rule->nth && !(rule->onward && rule->matched > rule->nth))
            continue;
        struck = true;
        verdict = *rule;
    }
    if (verdict.cut)
        cut_all();
    if (verdict.kill)
        raise(SIGKILL); /* before anybody else goes on */
    pthread_mutex_unlock(&mutex);
    return verdict;
}

static struct rule judge_fd(unsigned call, int fd)
{
    char path[PATH_BYTES];
    return rule_count > 0 ? judge(call, path_of(fd, path)) : (struct rule){0};
}

/* 0, or -1 with errno set: the call is not made. */
static int refuse(const struct rule *verdict)
{
    if (verdict->error == 0)
        return 0;
    errno = verdict->error;
    return -1;
}

static void note_write(int fd, off_t from, ssize_t bytes)
{
    if (!noting)
        return;
    pthread_mutex_lock(&mutex);
    cut_wrote(fd, from, bytes);
    pthread_mutex_unlock(&mutex);
}

static void note_names(void (*note)(const char *), const char *path)
{
    if (!noting)
        return;
    pthread_mutex_lock(&mutex);
    note(path);
    pthread_mutex_unlock(&mutex);
}

/* ---- the calls ---- */

ssize_t read(int fd, void *data, size_t bytes)
{
    ssize_t (*real_read)(int, void *, size_t) = real("read");
    struct rule verdict = judge_fd(CALL_READ, fd);
    return refuse(&verdict) != 0 ? -1 : real_read(fd, data, bytes);
}

ssize_t pread(int fd, void *data, size_t bytes, off_t offset)
{
    ssize_t (*real_pread)(int, void *, size_t, off_t) = real("pread");
    struct rule verdict = judge_fd(CALL_READ, fd);
    return refuse(&verdict) != 0 ? -1 : real_pread(fd, data, bytes, offset);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
    va_end(args);
    struct rule verdict = judge((flags & O_ACCMODE) == O_RDONLY ? CALL_READ : CALL_OPEN, path);
    if (refuse(&verdict) != 0)
        return -1;
    int (*real_open)(const char *, int, ...) = real("open");
    if (flags & O_CREAT)
        note_names(cut_will_create, path);
    return real_open(path, flags, mode);
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    ssize_t (*real_write)(int, const void *, size_t) = real("write");
    struct rule verdict = judge_fd(CALL_WRITE, fd);
    if (refuse(&verdict) != 0)
        return -1;
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t n = real_write(fd, data, verdict.half ? (bytes + 1) / 2 : bytes);
    note_write(fd, at, at < 0 ? 0 : n);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    ssize_t (*real_pwrite)(int, const void *, size_t, off_t) = real("pwrite");
    struct rule verdict = judge_fd(CALL_WRITE, fd);
    if (refuse(&verdict) != 0)
        return -1;
    ssize_t n = real_pwrite(fd, data, verdict.half ? (bytes + 1) / 2 : bytes, offset);
    note_write(fd, offset, n);
    return n;
}

static int sync_as(const char *name, int fd)
{
    int (*real_sync)(int) = real(name);
    char path[PATH_BYTES];
    struct rule verdict = judge_fd(CALL_SYNC, fd);
    if (noting) {
        pthread_mutex_lock(&mutex);
        if (verdict.lose)
            cut_lose(fd);
        else if (verdict.error == 0)
            cut_synced(fd, path_of(fd, path));
        pthread_mutex_unlock(&mutex);
    }
    return refuse(&verdict) != 0 ? -1 : real_sync(fd);
}

int fsync(int fd)
{
    return sync_as("fsync", fd);
}

int fdatasync(int fd)
{
    return sync_as("fdatasync", fd);
}

int rename(const char *from, const char *to)
{
    int (*real_rename)(const char *, const char *) = real("rename");
    struct rule verdict = judge(CALL_RENAME, to);
    if (refuse(&verdict) != 0)
        return -1;
    if (noting) {
        pthread_mutex_lock(&mutex);
        cut_will_rename(from, to);
        pthread_mutex_unlock(&mutex);
    }
    return real_rename(from, to);
}

int unlink(const char *path)
{
    int (*real_unlink)(const char *) = real("unlink");
    struct rule verdict = judge(CALL_UNLINK, path);
    if (refuse(&verdict) != 0)
        return -1;
    note_names(cut_will_unlink, path);
    return real_unlink(path);
}

int ftruncate(int fd, off_t bytes)
{
    int (*real_ftruncate)(int, off_t) = real("ftruncate");
    struct rule verdict = judge_fd(CALL_TRUNCATE, fd);
    return refuse(&verdict) != 0 ? -1 : real_ftruncate(fd, bytes);
}
