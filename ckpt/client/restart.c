/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/thread.h"
#include "ckpt/client/client.h"

/* From one generation to the next in the same process; agent/step/README.md draws the whole of it.
 *
 *   in a generation ── the step says OVER ──► over ── tide_restart: LEFT ──► nowhere ── NEXT ──► in the next one
 *
 * A thread of ours sees OVER where the program waits for what will never come: it has NCCL give up, calls the program's callback,
 * and keeps anything from being recorded. */

#pragma weak tide_mpi_attach

#define WAKE_MS 1000u /* a step that died between a word and the call that wakes: then its ranks die, too */
#define LOOK_MS 5     /* between looks for what is made or recorded although the generation is over */

struct watcher {
    void (*callback)(void *user);
    void *user;
    struct control_page *page; /* of the generation it looks at */
    const struct tide *tide;   /* what never changes of it */
    pthread_t thread;
    int runs;
    _Atomic int stop;
};

/* ---- waiting for a word in the page ---- */

static void futex_wait(_Atomic uint32_t *word, uint32_t is, uint64_t ms)
{
    struct timespec most = {.tv_sec = (time_t)(ms / 1000u), .tv_nsec = (long)(ms % 1000u * NS_PER_MS)};
    syscall(SYS_futex, word, FUTEX_WAIT, is, &most, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* ---- the thread ---- */

/* A safe point looks at what is armed, and takes nothing of it. What is being recorded has to come to its end. */
static void bar_records(struct control_page *page)
{
    uint64_t armed = atomic_load(&page->armed_step);
    while (armed != STEP_OVER && armed != STEP_TAKEN)
        if (atomic_compare_exchange_weak(&page->armed_step, &armed, STEP_OVER))
            return;
}

static void *watch(void *context)
{
    struct watcher *w = context;
    uint32_t over;
    while ((over = atomic_load(&w->page->over)) == 0)
        futex_wait(&w->page->over, 0, WAKE_MS);
    if (!(over & CONTROL_OVER))
        return NULL;
    for (int first = 1; first || !atomic_load(&w->stop); first = 0) {
        bar_records(w->page);
        comms_over(w->tide);
        if (first && w->callback != NULL)
            w->callback(w->user);
        poll(NULL, 0, LOOK_MS);
    }
    return NULL;
}

static enum tide_status watch_begin(struct tide *tide, struct err *err)
{
    struct watcher *w = tide->watcher;
    w->page = tide->page;
    atomic_store(&w->stop, 0);
    w->runs = thread_begin(&w->thread, watch, w) == 0;
    if (!w->runs)
        return err_set(err, TIDE_E_NOMEM, "no thread can be made that looks for a restart");
    atomic_store(&tide->page->stays, 1);
    return TIDE_OK;
}

static void watch_end(struct watcher *w)
{
    if (!w->runs)
        return;
    atomic_store(&w->stop, 1);
    atomic_fetch_or(&w->page->over, CONTROL_OVER_UNHEEDED);
    futex_wake(&w->page->over);
    pthread_join(w->thread, NULL);
    w->runs = 0;
}

void restart_end(struct tide *tide)
{
    struct watcher *w = tide->watcher;
    tide->watcher = NULL;
    if (w == NULL || getpid() != tide->pid) /* a forked child has the memory and not the thread */
        return;
    atomic_store(&tide->page->stays, 0);
    watch_end(w);
    mem_free(w);
}

/* ---- asking for it ---- */

enum tide_status tide_set_restart(struct tide *tide, void (*callback)(void *user), void *user)
{
    if (tide == NULL)
        return TIDE_E_INVALID;
    if (!tide->in_job || getpid() != tide->pid)
        return TIDE_OK;
    if (tide->watcher != NULL)
        return err_set(&tide->err, TIDE_E_EXISTS, "tide_set_restart was called before");
    if (tide_mpi_attach != NULL || tide->page->may_stay == 0)
        return err_set(&tide->err, TIDE_E_UNSUPPORTED,
                       "%s: the ranks of this job are started anew as processes after a failure",
                       tide_mpi_attach != NULL ? "MPI cannot do without a rank" : "only --launcher none can start single ranks anew");
    struct watcher *w = mem_try_alloc(sizeof *w);
    if (w == NULL)
        return err_set(&tide->err, TIDE_E_NOMEM, "no memory for the wish to be restarted in the process");
    *w = (struct watcher){.callback = callback, .user = user, .tide = tide};
    tide->watcher = w;
    enum tide_status status = watch_begin(tide, &tide->err);
    if (status != TIDE_OK) {
        tide->watcher = NULL;
        mem_free(w);
    }
    return status;
}

/* ---- going over ---- */

enum tide_status restart_due(struct tide *tide)
{
    return err_set(&tide->err, TIDE_E_RESTART, "generation %llu of the job is over; call tide_restart",
                   (unsigned long long)tide->generation);
}

static enum tide_status await_over(struct tide *tide)
{
    uint64_t now_ns = clock_mono_ns(), deadline_ns = now_ns + tide->options.deadline_ms * NS_PER_MS;
    for (; atomic_load(&tide->page->over) == 0; now_ns = clock_mono_ns()) {
        if (now_ns >= deadline_ns)
            return err_set(&tide->err, TIDE_E_TIMEOUT,
                           "generation %llu is not over after %llu ms: what failed is no failure that the job knows of",
                           (unsigned long long)tide->generation, (unsigned long long)tide->options.deadline_ms);
        uint64_t ms = (deadline_ns - now_ns) / NS_PER_MS + 1;
        futex_wait(&tide->page->over, 0, ms < WAKE_MS ? ms : WAKE_MS);
    }
    return TIDE_OK;
}

/* From here on this process can change nothing of its generation any more: every thread that could has ended, and what it would write
 * to is not mapped. Until it belongs to another its page is a private one. Errors: IO. */
static enum tide_status leave(struct tide *tide)
{
    struct control_page *page = tide->page; /* which threads read until they have ended */
    watch_end(tide->watcher);
    prefault_end(tide);
    on_write_end(tide);
    finish_await(tide);
    comms_leave(tide);
    pthread_mutex_lock(&tide->record.lock);
    channel_log_end(&tide->record);
    tide->record.phase = RECORD_PHASE_NONE;
    tide->record.slot = NULL;
    tide->reserved_bytes = 0;
    pthread_mutex_unlock(&tide->record.lock);
    for (unsigned s = 0; s < SLOTS; s++) {
        devices_unpin(tide, tide->slots[s].header);
        slot_unmap(&tide->slots[s]);
    }
    enum tide_status status = attach_nowhere(tide, &tide->err);
    if (status == TIDE_OK)
        munmap(page, CONTROL_PAGE_BYTES);
    return status;
}

/* The step bounds how long the next may take to begin; we only bound its silence. */
static enum tide_status await_next(struct tide *tide)
{
    struct local_message left = {.type = LOCAL_LEFT, .question = ++tide->questions}, answer;
    unsigned wanted = 1u << LOCAL_NEXT | 1u << LOCAL_RESTORE_WAIT;
    uint64_t silence_ns = tide->options.deadline_ms * NS_PER_MS;
    enum tide_status status = channel_ask(tide, &left, wanted, clock_mono_ns() + silence_ns, &answer, &tide->err);
    while (status == TIDE_OK && answer.type == LOCAL_RESTORE_WAIT)
        status = channel_wait(tide, left.question, wanted, clock_mono_ns() + silence_ns, &answer, &tide->err);
    if (status == TIDE_OK && answer.generation <= tide->generation)
        status = err_set(&tide->err, TIDE_E_STALE, "the step process named generation %llu behind generation %llu",
                         (unsigned long long)answer.generation, (unsigned long long)tide->generation);
    if (status == TIDE_OK)
        tide->generation = answer.generation;
    return status;
}

static enum tide_status enter(struct tide *tide)
{
    struct control_page *nowhere = tide->page;
    enum tide_status status = attach_page(tide, &tide->err);
    if (tide->page != nowhere)
        munmap(nowhere, CONTROL_PAGE_BYTES);
    if (status != TIDE_OK)
        return status;
    comms_progress(tide);
    tide->stepping = 0;
    tide->step_min = STEP_LIMIT;
    tide->first_min = 0;
    status = watch_begin(tide, &tide->err);
    if (status == TIDE_OK)
        atomic_store(&tide->page->phase, CONTROL_ATTACHED);
    return status;
}

enum tide_status tide_restart(struct tide *tide)
{
    if (tide == NULL)
        return TIDE_E_INVALID;
    if (tide->watcher == NULL || getpid() != tide->pid)
        return err_set(&tide->err, TIDE_E_STATE, "tide_set_restart was not called, or not in a job, or by another process");
    enum tide_status status = await_over(tide);
    if (status != TIDE_OK)
        return status;
    status = leave(tide);
    if (status == TIDE_OK)
        status = await_next(tide);
    return status == TIDE_OK ? enter(tide) : status;
}
