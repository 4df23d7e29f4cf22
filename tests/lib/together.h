/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_TOGETHER_H
#define TESTS_LIB_TOGETHER_H

/* Ranks of a unit test: processes that do the same, and what they share. An assertion that fails in one fails the test. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOGETHER_RANKS_MAX 8
#define TOGETHER_LIMIT_S 30

/* In a rank: cmocka's assertions jump, out of a process that is not cmocka's. */
#define must(condition)                                                                                                     \
    do {                                                                                                                    \
        if (!(condition)) {                                                                                                 \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                         \
            _exit(1);                                                                                                       \
        }                                                                                                                   \
    } while (0)

static inline void *together_share(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED);
    return at;
}

/* `run` in that many processes. A rank may kill itself: `killed` of them do. */
static inline void together(int ranks, int killed, void (*run)(int rank, int ranks, void *shared), void *shared)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS};
    pid_t pids[TOGETHER_RANKS_MAX];
    int failed = 0;
    assert_true(ranks <= TOGETHER_RANKS_MAX);
    fflush(NULL);
    for (int r = 0; r < ranks; r++) {
        pids[r] = fork();
        assert_true(pids[r] >= 0);
        if (pids[r] != 0)
            continue;
        char number[16];
        /* cmocka would go on with the next test, in each of them. */
        for (unsigned i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
            signal(fatal[i], SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(TOGETHER_LIMIT_S);
        snprintf(number, sizeof number, "%d", r);
        setenv("RANK", number, 1);
        run(r, ranks, shared);
        _exit(0);
    }
    for (int r = 0; r < ranks; r++) {
        int status = 0;
        assert_int_equal(waitpid(pids[r], &status, 0), pids[r]);
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
            killed--;
        else
            failed += status != 0;
    }
    assert_int_equal(failed, 0);
    assert_int_equal(killed, 0);
}

#endif
