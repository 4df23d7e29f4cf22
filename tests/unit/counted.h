/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_COUNTED_H
#define TESTS_UNIT_COUNTED_H

/* Threads that help the test's own, the leader: how many there are, that there are no more of them, and that one is late. Of programs
 * that are linked with --wrap=thread_begin. */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>

#include "ckpt/base/thread.h"

#define GUARD_S 60 /* for a test that would wait for ever */
#define COUNTED_MAX 64u

static atomic_uint begun, alive, by_leader, by_helpers; /* the last two: chunks */
static unsigned threads_left; /* that can be had */
static unsigned hold_until;   /* chunks that the leader has done: only then a helper ends, or has, its first; 0: nobody is held */
static pthread_t leader;
static sem_t go;

static struct counted {
    void *(*run)(void *context);
    void *context;
} counted[COUNTED_MAX];

int __wrap_thread_begin(pthread_t *ret_thread, void *(*run)(void *context), void *context);
int __real_thread_begin(pthread_t *ret_thread, void *(*run)(void *context), void *context);

static inline void *run_counted(void *argument)
{
    const struct counted *one = argument;
    void *result = one->run(one->context);
    atomic_fetch_sub(&alive, 1);
    return result;
}

int __wrap_thread_begin(pthread_t *ret_thread, void *(*run)(void *context), void *context)
{
    if (threads_left == 0)
        return EAGAIN;
    threads_left--;
    struct counted *one = &counted[atomic_fetch_add(&begun, 1) % COUNTED_MAX];
    *one = (struct counted){.run = run, .context = context};
    atomic_fetch_add(&alive, 1);
    return __real_thread_begin(ret_thread, run_counted, one);
}

static inline int is_leader(void)
{
    return pthread_equal(pthread_self(), leader);
}

/* A helper comes to its chunk. */
static inline void counted_hold(void)
{
    struct timespec until;
    if (is_leader() || hold_until == 0)
        return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += GUARD_S;
    (void)sem_clockwait(&go, CLOCK_MONOTONIC, &until);
    sem_post(&go); /* for the next */
}

/* A chunk has been done. */
static inline void counted_done(void)
{
    if (atomic_fetch_add(is_leader() ? &by_leader : &by_helpers, 1) + 1 == hold_until && is_leader())
        sem_post(&go);
}

static inline void counted_begin(void)
{
    threads_left = COUNTED_MAX;
    hold_until = 0;
    leader = pthread_self();
    atomic_store(&by_leader, 0);
    atomic_store(&by_helpers, 0);
    sem_init(&go, 0, 0);
}

static inline void counted_end(void)
{
    sem_destroy(&go);
}

#endif
