/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/strlist.h"
#include "ckpt/base/text.h"

#define PATH_DEFAULT "/usr/local/bin:/usr/bin:/bin"
#define EXIT_NOT_EXECUTED 127 /* as a shell says it */

static const char *path_of(char *const *env)
{
    for (; *env != NULL; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    return PATH_DEFAULT;
}

/* Where the program may be, in order; made before the fork, since the child may not allocate. */
static void candidates(const struct spawn *spawn, struct strlist *ret_paths)
{
    const char *program = spawn->argv[0];
    if (strchr(program, '/') != NULL) {
        strlist_add(ret_paths, program);
        return;
    }
    for (const char *at = path_of(spawn->env);; at++) {
        size_t n = strcspn(at, ":");
        /* An empty entry is the working directory. */
        char *path = mem_format("%.*s/%s", n > 0 ? (int)n : 1, n > 0 ? at : ".", program);
        strlist_add(ret_paths, path);
        mem_free(path);
        at += n;
        if (*at == '\0')
            return;
    }
}

static __attribute__((noreturn)) void child_fails(int failure_fd, enum spawn_stage stage)
{
    struct spawn_failure failure = {.stage = (int)stage, .number = errno};
    if (write(failure_fd, &failure, sizeof failure) < 0)
        errno = failure.number;
    _exit(EXIT_NOT_EXECUTED);
}

/* The agent is protected from the kernel's out-of-memory killer, and we with it. A program that takes all memory must not be. */
static void child_may_be_killed(void)
{
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    char sign = 0;
    if (fd >= 0 && read(fd, &sign, 1) == 1 && sign == '-' && lseek(fd, 0, SEEK_SET) == 0 && write(fd, "0", 1) != 1)
        errno = 0; /* it stays protected */
    if (fd >= 0)
        close(fd);
}

static void child_signals(void)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &plain, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The last failure that says most: a program that may not be executed beats one that is not there. */
static void child_exec(const struct spawn *spawn, const struct strlist *paths)
{
    int number = ENOENT;
    for (size_t i = 0; i < paths->count; i++) {
        execve(paths->items[i], spawn->argv, spawn->env);
        if (errno == EACCES)
            number = EACCES;
        else if (errno != ENOENT && errno != ENOTDIR) {
            number = errno;
            break;
        }
    }
    errno = number;
}

static __attribute__((noreturn)) void child_main(const struct spawn *spawn, const struct strlist *paths, pid_t parent,
                                                 int failure_fd)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_NOT_EXECUTED);
    child_signals();
    child_may_be_killed();
    if (spawn->cgroup_fd >= 0 && write(spawn->cgroup_fd, "0", 1) != 1)
        child_fails(failure_fd, SPAWN_GROUP);
    if (spawn->cwd[0] != '\0' && chdir(spawn->cwd) != 0)
        child_fails(failure_fd, SPAWN_CWD);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(spawn->out_fd, STDOUT_FILENO) < 0 ||
        dup2(spawn->err_fd, STDERR_FILENO) < 0)
        child_fails(failure_fd, SPAWN_STDIO);
    /* libpmix does not mark all of its descriptors; what fails here only leaves those open. */
    close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    child_exec(spawn, paths);
    child_fails(failure_fd, SPAWN_EXEC);
}

enum tide_status spawn_start(const struct spawn *spawn, pid_t *ret_pid, int *ret_failure_fd, struct err *err)
{
    int failure[2];
    if (pipe2(failure, O_CLOEXEC) != 0)
        return err_errno(err, "cannot create a pipe");
    struct strlist paths = {0};
    candidates(spawn, &paths);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        child_main(spawn, &paths, parent, failure[1]);
    enum tide_status status = pid < 0 ? err_errno(err, "cannot create a process") : TIDE_OK;
    close(failure[1]);
    strlist_release(&paths);
    if (status != TIDE_OK) {
        close(failure[0]);
        return status;
    }
    /* Said by both sides, so that it holds whichever runs first. */
    setpgid(pid, pid);
    fcntl(failure[0], F_SETFL, O_NONBLOCK);
    *ret_pid = pid;
    *ret_failure_fd = failure[0];
    return TIDE_OK;
}

static bool is_there(const char *program, const char *cwd)
{
    int dir = cwd[0] != '\0' ? open(cwd, O_PATH | O_DIRECTORY | O_CLOEXEC) : AT_FDCWD;
    bool there = strchr(program, '/') != NULL && faccessat(dir, program, F_OK, 0) == 0;
    if (dir >= 0)
        close(dir);
    return there;
}

void spawn_failure_text(const struct spawn_failure *failure, const char *program, const char *cwd,
                        char ret_text[TIDE_TEXT_MAX + 1])
{
    char reason[96];
    const char *why = strerror_r(failure->number, reason, sizeof reason);
    switch (failure->stage) {
    case SPAWN_CWD:
        text_say(ret_text, TIDE_TEXT_MAX + 1, "cannot enter the working directory '%s': %s", cwd, why);
        break;
    case SPAWN_EXEC:
        text_say(ret_text, TIDE_TEXT_MAX + 1, "cannot execute '%s': %s%s", program, why,
                 failure->number == ENOENT && is_there(program, cwd) ? " (its interpreter is missing)" : "");
        break;
    case SPAWN_GROUP:
        snprintf(ret_text, TIDE_TEXT_MAX + 1, "cannot join its control group: %s", why);
        break;
    default:
        snprintf(ret_text, TIDE_TEXT_MAX + 1, "cannot set up its standard files: %s", why);
        break;
    }
}
