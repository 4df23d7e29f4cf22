/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"

/* Threads that wait in MPI, or look, beside the lock (ckpt/cut/README.md, "Threads"). Who waits there waits for a request
 * more, which is completed to wake it. */

#define DRAIN_MS_MAX 10000u /* who does not come out in that time is in a callback of the program's */

struct waker {
    struct waker *next;
    MPI_Request real;
    bool used;
    bool rung; /* it is complete, and MPI has not been told that we know */
};
static struct waker *wakers; /* as many as there ever were threads that waited at once */

static int nothing_to_query(void *context, MPI_Status *status)
{
    (void)context;
    PMPI_Status_set_elements(status, MPI_BYTE, 0);
    PMPI_Status_set_cancelled(status, 0);
    status->MPI_SOURCE = MPI_UNDEFINED;
    status->MPI_TAG = MPI_UNDEFINED;
    return MPI_SUCCESS;
}

static int nothing_to_free(void *context)
{
    (void)context;
    return MPI_SUCCESS;
}

static int nothing_to_cancel(void *context, int complete)
{
    (void)context;
    (void)complete;
    return MPI_SUCCESS;
}

/* NULL: there is none to be had, and who waits looks instead. */
static struct waker *waker_take(void)
{
    struct waker *waker = wakers;
    while (waker && waker->used)
        waker = waker->next;
    if (waker == NULL) {
        waker = mem_try_alloc(sizeof *waker);
        if (waker == NULL)
            return NULL;
        *waker = (struct waker){.next = wakers, .real = MPI_REQUEST_NULL};
        wakers = waker;
    }
    if (waker->real == MPI_REQUEST_NULL &&
        real.Grequest_start(nothing_to_query, nothing_to_free, nothing_to_cancel, NULL, &waker->real) != MPI_SUCCESS)
        return NULL;
    waker->used = true;
    return waker;
}

/* What is left of it in MPI goes, where it was rung. */
static void waker_reap(struct waker *waker)
{
    if (waker->rung && waker->real != MPI_REQUEST_NULL)
        real.Wait(&waker->real, MPI_STATUS_IGNORE);
    waker->rung = false;
}

static void waker_ring(struct waker *waker)
{
    if (!waker->rung && waker->real != MPI_REQUEST_NULL)
        PMPI_Grequest_complete(waker->real);
    waker->rung = true;
}

static void wake_all(void)
{
    for (struct waker *waker = wakers; waker; waker = waker->next) {
        if (waker->used)
            waker_ring(waker);
    }
}

bool beside_empty(void)
{
    if (!inside.many_threads)
        return true;
    atomic_store(&inside.calm, NEVER);
    if (atomic_load(&inside.beside) == 0)
        return true;
    wake_all();
    return false;
}

bool beside_drain(void)
{
    uint64_t until = clock_mono_ns() + DRAIN_MS_MAX * NS_PER_MS;
    bool empty;
    inside.draining++;
    while (!(empty = beside_empty()) && clock_mono_ns() < until) {
        inside_unlock();
        sched_yield();
        inside_lock();
    }
    inside.draining--;
    return empty;
}

void beside_end(void)
{
    beside_drain();
    while (wakers) {
        struct waker *waker = wakers;
        wakers = waker->next;
        waker_ring(waker);
        waker_reap(waker);
        mem_free(waker);
    }
}

/* It may have been rung meanwhile. The lock is held. */
static void waker_give(struct waker *waker, MPI_Request left)
{
    waker->used = false;
    waker->real = left;
    waker_reap(waker);
}

static bool asleep(int count, MPI_Request *reals, int *ret_index, MPI_Status *status, int *ret_error)
{
    inside_lock();
    struct waker *waker = beside_stays() ? waker_take() : NULL;
    inside_unlock();
    if (waker == NULL)
        return false;
    reals[count] = waker->real;
    *ret_error = real.Waitany(count + 1, reals, ret_index, status);
    inside_lock();
    waker_give(waker, reals[count]);
    inside_unlock();
    return *ret_index != count;
}

bool beside_wait(MPI_Request reals[2], MPI_Status *status, int *ret_error)
{
    int done = 0, index;
    *ret_error = real.Test(reals, &done, status);
    return done || *ret_error != MPI_SUCCESS || asleep(1, reals, &index, status, ret_error);
}

bool beside_wait_any(int count, MPI_Request *reals, int *ret_index, MPI_Status *status, int *ret_error)
{
    int done = 0;
    *ret_error = real.Testany(count, reals, ret_index, &done, status);
    return done || *ret_error != MPI_SUCCESS || asleep(count, reals, ret_index, status, ret_error);
}

/* The lock is held, once, and left while it waits. */
bool beside_request(struct request *request)
{
    MPI_Request reals[2] = {request->real};
    MPI_Status status;
    int index = 1;
    if (request->state != REQUEST_REAL || request->kind == REQUEST_CREATE || inside.depth != 1 || !beside_enter())
        return false;
    struct waker *waker = waker_take();
    if (waker) {
        reals[1] = waker->real;
        inside_unlock();
        int error = real.Waitany(2, reals, &index, &status);
        inside_lock();
        waker_give(waker, reals[1]);
        request->real = reals[0];
        if (index == 0)
            request_advanced(request, &status, error);
    }
    beside_leave();
    return index == 0;
}
