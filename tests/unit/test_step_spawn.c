/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/step/spawn.h"

#define WAIT_MS 5000

/* Runs it; returns its wait status. ret_failure.number is 0 when it was executed. */
static int run(char *const *argv, char *const *env, const char *cwd, char *ret_out, size_t size, struct spawn_failure *ret_failure)
{
    int ends[2], failure_fd = -1, status = 0;
    pid_t pid = 0;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct spawn spawn = {.argv = argv, .env = env, .cwd = cwd, .out_fd = ends[1], .err_fd = ends[1], .cgroup_fd = -1};
    assert_int_equal(spawn_start(&spawn, &pid, &failure_fd, NULL), TIDE_OK);
    close(ends[1]);
    struct pollfd poll_failure = {.fd = failure_fd, .events = POLLIN};
    assert_int_equal(poll(&poll_failure, 1, WAIT_MS), 1);
    *ret_failure = (struct spawn_failure){0};
    ssize_t n = read(failure_fd, ret_failure, sizeof *ret_failure);
    assert_true(n == 0 || n == (ssize_t)sizeof *ret_failure);
    assert_int_equal(getpgid(pid), pid);
    size_t used = 0;
    while (used + 1 < size && (n = read(ends[0], ret_out + used, size - 1 - used)) > 0)
        used += (size_t)n;
    ret_out[used] = '\0';
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(ends[0]);
    close(failure_fd);
    return status;
}

static char *const path_env[] = {"PATH=/nowhere:/usr/bin:/bin", "X=1", NULL};
static char *const bare_env[] = {NULL};

static void executes_with_clean_descriptors(void **state)
{
    (void)state;
    char out[4096];
    struct spawn_failure failure;
    int leak = open("/dev/null", O_RDONLY); /* as libpmix does, without O_CLOEXEC */
    char *const argv[] = {"sh", "-c", "echo $X; pwd; ls /proc/self/fd; trap; cat", NULL};
    signal(SIGPIPE, SIG_IGN);
    int status = run(argv, path_env, "/usr", out, sizeof out, &failure);
    close(leak);
    assert_int_equal(failure.number, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    /* 3 is the directory that ls reads. */
    assert_string_equal(out, "1\n/usr\n0\n1\n2\n3\n");
}

/* Of what protects the agent from the out-of-memory killer the ranks get nothing. */
static void a_rank_is_not_protected_from_the_kernel(void **state)
{
    (void)state;
    char out[64], before[16] = "";
    struct spawn_failure failure;
    char *const argv[] = {"cat", "/proc/self/oom_score_adj", NULL};
    int fd = open("/proc/self/oom_score_adj", O_RDWR);
    assert_true(fd >= 0 && read(fd, before, sizeof before - 1) > 0);
    bool lowered = pwrite(fd, "-500", 4, 0) == 4; /* only root may */
    int status = run(argv, path_env, "", out, sizeof out, &failure);
    assert_true(pwrite(fd, before, strlen(before), 0) > 0);
    close(fd);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_string_equal(out, lowered ? "0\n" : before);
}

static void signals_are_default(void **state)
{
    (void)state;
    char out[4096];
    struct spawn_failure failure;
    char *const argv[] = {"/bin/sh", "-c", "grep -E 'SigIgn|SigBlk' /proc/self/status", NULL};
    sigset_t block;
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    signal(SIGPIPE, SIG_IGN);
    run(argv, path_env, "", out, sizeof out, &failure);
    sigprocmask(SIG_UNBLOCK, &block, NULL);
    assert_string_equal(out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

static void failures_are_precise(void **state)
{
    (void)state;
    char out[64], text[TIDE_TEXT_MAX + 1];
    struct spawn_failure failure;
    char *const missing[] = {"./x", NULL}, *const nowhere[] = {"no-such-program", NULL}, *const directory[] = {"/", NULL};
    assert_int_equal(WEXITSTATUS(run(missing, path_env, "/", out, sizeof out, &failure)), 127);
    spawn_failure_text(&failure, missing[0], "/", text);
    assert_string_equal(text, "cannot execute './x': No such file or directory");
    run(nowhere, bare_env, "", out, sizeof out, &failure);
    spawn_failure_text(&failure, nowhere[0], "", text);
    assert_string_equal(text, "cannot execute 'no-such-program': No such file or directory");
    run(directory, path_env, "", out, sizeof out, &failure);
    assert_int_equal(failure.number, EACCES);
    run(missing, path_env, "/no/such", out, sizeof out, &failure);
    assert_int_equal(failure.stage, SPAWN_CWD);
    spawn_failure_text(&failure, missing[0], "/no/such", text);
    assert_string_equal(text, "cannot enter the working directory '/no/such': No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(executes_with_clean_descriptors),
        cmocka_unit_test(a_rank_is_not_protected_from_the_kernel),
        cmocka_unit_test(signals_are_default),
        cmocka_unit_test(failures_are_precise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
