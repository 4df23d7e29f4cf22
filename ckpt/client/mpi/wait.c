/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"
#include "ckpt/client/mpi/wait.h"

/* ---- one request ---- */

static bool advance_real(struct request *request)
{
    int done = 0;
    MPI_Status status;
    int error = real.Test(&request->real, &done, &status);
    if (!done && error == MPI_SUCCESS)
        return false;
    request_advanced(request, &status, error);
    return true;
}

void request_advanced(struct request *request, const MPI_Status *status, int error)
{
    if (request->kind == REQUEST_RECV) {
        receive_completed(request, status, error);
        return;
    }
    request->status = *status;
    request->error = error;
    request->state = REQUEST_DONE;
}

void request_wait(struct request *request)
{
    unsigned spins = 0;
    while (!beside_request(request) && !request_advance(request)) {
        look_early_for(request);
        inside_pause(&spins);
    }
}

bool request_advance(struct request *request)
{
    if (request->kind == REQUEST_CREATE)
        return request->state == REQUEST_DONE || create_advance(request);
    if (request->kind == REQUEST_BOTH)
        return both_advance(request);
    if (request->state == REQUEST_REAL)
        return advance_real(request);
    return request->state != REQUEST_QUEUED;
}

int request_finish(struct request *request, MPI_Status *ret_status)
{
    struct comm *comm = request->comm;
    bool ours = request->ours;
    int error = MPI_SUCCESS;
    if (request->state == REQUEST_INACTIVE) {
        status_empty(ret_status);
        return MPI_SUCCESS;
    }
    error = request->error;
    status_copy(ret_status, &request->status);
    inside.outstanding--;
    request->state = REQUEST_INACTIVE;
    request->ours = false;
    if (ours && error != MPI_SUCCESS)
        raise_error(comm, error);
    if (!request->persistent)
        request_destroy(request);
    return error;
}

int try_one(MPI_Request *handle, int *ret_done, MPI_Status *status)
{
    struct request *request = request_of(*handle);
    int error = MPI_SUCCESS;
    if (request == NULL) {
        MPI_Request before = *handle;
        error = real.Test(handle, ret_done, status);
        if (before != MPI_REQUEST_NULL && *handle == MPI_REQUEST_NULL)
            request_gone(before);
        return error;
    }
    *ret_done = request_advance(request);
    if (!*ret_done)
        return MPI_SUCCESS;
    bool stays = request->persistent;
    error = request_finish(request, status);
    if (!stays)
        *handle = MPI_REQUEST_NULL;
    return error;
}

bool is_active(MPI_Request handle)
{
    const struct request *request = request_of(handle);
    return request ? request->state != REQUEST_INACTIVE : handle != MPI_REQUEST_NULL;
}

bool is_complete(MPI_Request handle)
{
    struct request *request = request_of(handle);
    int done = 1;
    if (request)
        return request_advance(request);
    if (handle != MPI_REQUEST_NULL)
        real.Request_get_status(handle, &done, MPI_STATUS_IGNORE);
    return done;
}

void look_early_for_all(int count, const MPI_Request *handles)
{
    for (int i = 0; i < count; i++) {
        const struct request *request = request_of(handles[i]);
        if (request && request->kind == REQUEST_BOTH && request->state != REQUEST_DONE)
            request = request->in;
        if (request && request->kind == REQUEST_RECV && request->state == REQUEST_REAL)
            look_early_for(request);
    }
}

/* ---- handing them to MPI as they are ---- */

bool unwrap(int count, const MPI_Request *handles, MPI_Request *ret_real)
{
    if (!quick() && !beside_enter())
        return false;
    for (int i = 0; i < count; i++) {
        const struct request *request = request_of(handles[i]);
        if (request == NULL)
            ret_real[i] = handles[i];
        else if (LIKELY(request->state == REQUEST_REAL && request->kind != REQUEST_CREATE))
            ret_real[i] = request->real;
        else if (request->state == REQUEST_INACTIVE)
            ret_real[i] = MPI_REQUEST_NULL;
        else {
            unwrapped_end();
            return false;
        }
    }
    return true;
}

void completed(MPI_Request *handle, MPI_Request real_request, const MPI_Status *status, int error)
{
    struct request *request = request_of(*handle);
    if (request == NULL) {
        if (*handle != MPI_REQUEST_NULL && real_request == MPI_REQUEST_NULL)
            request_gone(*handle);
        *handle = real_request;
        return;
    }
    if (request->state != REQUEST_REAL)
        return;
    inside.outstanding--;
    if (request->kind == REQUEST_RECV) {
        if (LIKELY(error == MPI_SUCCESS && !request->cancelling && request->peer != MPI_PROC_NULL && !inside.many_threads))
            count_arrived(request->comm, status->MPI_SOURCE);
        else
            receive_completed(request, status, error);
    }
    request->state = REQUEST_INACTIVE;
    if (request->kind != REQUEST_PASSED || !request->persistent)
        request->real = MPI_REQUEST_NULL;
    if (request->persistent)
        return;
    request_destroy(request);
    *handle = MPI_REQUEST_NULL;
}

/* ---- Wait, Test ---- */

/* False: it is not done, and there is nothing to be slow for any more. */
__attribute__((noinline)) static bool wait_slow(MPI_Request *handle, MPI_Status *status, int *ret_error)
{
    int done = 0;
    unsigned spins = 0;
    if (!inside.on) {
        *ret_error = real.Wait(handle, status);
        return true;
    }
    inside_lock();
    progress();
    while (*ret_error = try_one(handle, &done, status), !done && *ret_error == MPI_SUCCESS) {
        look_early_for_all(1, handle);
        inside_pause(&spins);
        if (slow_no_more())
            break;
    }
    settle_quick();
    inside_unlock();
    return done || *ret_error != MPI_SUCCESS;
}

int MPI_Wait(MPI_Request *handle, MPI_Status *status)
{
    MPI_Request real_request[2]; /* room for beside_wait */
    MPI_Status own;
    int error;
    for (;;) {
        if (UNLIKELY(!unwrap(1, handle, real_request))) {
            if (wait_slow(handle, status, &error))
                return error;
            continue;
        }
        MPI_Status *to = status == MPI_STATUS_IGNORE ? &own : status;
        bool real_one = real_request[0] != MPI_REQUEST_NULL, done = true;
        if (LIKELY(!inside.many_threads))
            error = real.Wait(real_request, to);
        else
            done = beside_wait(real_request, to, &error);
        if (UNLIKELY(inside.many_threads))
            status_of_nobody(request_of(*handle), to);
        if (LIKELY(real_one && done)) {
            completed_begin();
            completed(handle, real_request[0], to, error);
            completed_end();
        } else {
            unwrapped_end();
        }
        if (LIKELY(done))
            return error;
    }
}

__attribute__((noinline)) static int test_slow(MPI_Request *handle, int *done, MPI_Status *status)
{
    if (!inside.on)
        return real.Test(handle, done, status);
    inside_lock();
    progress();
    int error = try_one(handle, done, status);
    if (!*done)
        look_early_for_all(1, handle);
    settle_quick();
    inside_unlock();
    return error;
}

int MPI_Test(MPI_Request *handle, int *done, MPI_Status *status)
{
    MPI_Request real_request;
    MPI_Status own;
    if (UNLIKELY(!unwrap(1, handle, &real_request)))
        return test_slow(handle, done, status);
    if (status == MPI_STATUS_IGNORE)
        status = &own;
    bool real_one = real_request != MPI_REQUEST_NULL;
    int error = real.Test(&real_request, done, status);
    if (real_one && (*done || error != MPI_SUCCESS)) {
        completed_begin();
        completed(handle, real_request, status, error);
        completed_end();
    } else {
        unwrapped_end();
    }
    return error;
}

/* ---- Waitany, Testany ---- */

/* *ret_done with MPI_UNDEFINED: none is active. */
static int try_any(int count, MPI_Request *handles, int *ret_index, int *ret_done, MPI_Status *status)
{
    bool any = false;
    *ret_done = 0;
    *ret_index = MPI_UNDEFINED;
    for (int i = 0; i < count; i++) {
        if (!is_active(handles[i]))
            continue;
        any = true;
        int error = try_one(&handles[i], ret_done, status);
        if (*ret_done || error != MPI_SUCCESS) {
            *ret_index = i;
            *ret_done = 1;
            return error;
        }
    }
    if (!any) {
        *ret_done = 1;
        status_empty(status);
    }
    return MPI_SUCCESS;
}

__attribute__((noinline)) static bool waitany_slow(int count, MPI_Request *handles, int *index, MPI_Status *status,
                                                   int *ret_error)
{
    int done = 0;
    unsigned spins = 0;
    if (!inside.on) {
        *ret_error = real.Waitany(count, handles, index, status);
        return true;
    }
    inside_lock();
    progress();
    while (*ret_error = try_any(count, handles, index, &done, status), !done) {
        look_early_for_all(count, handles);
        inside_pause(&spins);
        if (slow_no_more())
            break;
    }
    settle_quick();
    inside_unlock();
    return done;
}

static void completed_any(int count, MPI_Request *handles, const MPI_Request *real_requests, int index,
                          const MPI_Status *status, int error)
{
    if (index < 0 || index >= count) { /* MPI_UNDEFINED */
        unwrapped_end();
        return;
    }
    completed_begin();
    completed(&handles[index], real_requests[index], status, error);
    completed_end();
}

int MPI_Waitany(int count, MPI_Request *handles, int *index, MPI_Status *status)
{
    MPI_Request real_requests[UNWRAPPED_MAX + 1];
    MPI_Status own;
    int error;
    if (UNLIKELY(count <= 0)) /* MPI knows whether that is right */
        return real.Waitany(count, handles, index, status);
    for (;;) {
        bool done = true;
        if (UNLIKELY(count > UNWRAPPED_MAX || !unwrap(count, handles, real_requests))) {
            if (waitany_slow(count, handles, index, status, &error))
                return error;
            continue;
        }
        MPI_Status *to = status == MPI_STATUS_IGNORE ? &own : status;
        *index = MPI_UNDEFINED;
        if (LIKELY(!inside.many_threads))
            error = real.Waitany(count, real_requests, index, to);
        else
            done = beside_wait_any(count, real_requests, index, to, &error);
        completed_any(count, handles, real_requests, done ? *index : MPI_UNDEFINED, to, error);
        if (LIKELY(done))
            return error;
    }
}

__attribute__((noinline)) static int testany_slow(int count, MPI_Request *handles, int *index, int *done, MPI_Status *status)
{
    if (!inside.on || count <= 0)
        return real.Testany(count, handles, index, done, status);
    inside_lock();
    progress();
    int error = try_any(count, handles, index, done, status);
    if (!*done)
        look_early_for_all(count, handles);
    settle_quick();
    inside_unlock();
    return error;
}

int MPI_Testany(int count, MPI_Request *handles, int *index, int *done, MPI_Status *status)
{
    MPI_Request real_requests[UNWRAPPED_MAX];
    MPI_Status own;
    if (UNLIKELY(count > UNWRAPPED_MAX || !unwrap(count, handles, real_requests)))
        return testany_slow(count, handles, index, done, status);
    if (status == MPI_STATUS_IGNORE)
        status = &own;
    *index = MPI_UNDEFINED;
    int error = real.Testany(count, real_requests, index, done, status);
    completed_any(count, handles, real_requests, *done || error != MPI_SUCCESS ? *index : MPI_UNDEFINED, status, error);
    return error;
}

/* ---- Waitsome, Testsome ---- */

static int try_some(int count, MPI_Request *handles, int *ret_count, int *indices, MPI_Status *statuses)
{
    bool any = false;
    int error = MPI_SUCCESS, n = 0;
    for (int i = 0; i < count; i++) {
        int done = 0;
        if (!is_active(handles[i]))
            continue;
        any = true;
        int its = try_one(&handles[i], &done, status_at(statuses, n));
        if (!done && its == MPI_SUCCESS)
            continue;
        if (statuses != MPI_STATUSES_IGNORE)
            statuses[n].MPI_ERROR = its;
        if (its != MPI_SUCCESS)
            error = MPI_ERR_IN_STATUS;
        indices[n++] = i;
    }
    *ret_count = any ? n : MPI_UNDEFINED;
    return error;
}

__attribute__((noinline)) static bool some_slow(int count, MPI_Request *handles, int *done, int *indices,
                                                MPI_Status *statuses, bool wait, int *ret_error)
{
    unsigned spins = 0;
    if (!inside.on) {
        *ret_error = (wait ? real.Waitsome : real.Testsome)(count, handles, done, indices, statuses);
        return true;
    }
    inside_lock();
    progress();
    while (*ret_error = try_some(count, handles, done, indices, statuses), *done == 0) {
        look_early_for_all(count, handles);
        if (!wait)
            break;
        inside_pause(&spins);
        if (slow_no_more())
            break;
    }
    settle_quick();
    inside_unlock();
    return !wait || *done != 0;
}

/* Those that are complete; of many threads, where none is, the first that is. False: woken before. */
static bool some_real(int count, MPI_Request *real_requests, int *done, int *indices, MPI_Status *statuses, bool wait,
                      int *ret_error)
{
    if (LIKELY(wait && !inside.many_threads)) {
        *ret_error = real.Waitsome(count, real_requests, done, indices, statuses);
        return true;
    }
    *ret_error = real.Testsome(count, real_requests, done, indices, statuses);
    if (!wait || *ret_error != MPI_SUCCESS || *done != 0)
        return true;
    if (!beside_wait_any(count, real_requests, indices, statuses, ret_error))
        return false;
    *done = 1;
    statuses[0].MPI_ERROR = *ret_error;
    if (*ret_error != MPI_SUCCESS)
        *ret_error = MPI_ERR_IN_STATUS;
    return true;
}

/* Nothing to be waited for any more: *ret_error is what the call is to return. */
static bool some_unwrapped(int count, MPI_Request *handles, MPI_Request *real_requests, int *done, int *indices,
                           MPI_Status *statuses, bool wait, int *ret_error)
{
    bool ended = some_real(count, real_requests, done, indices, statuses, wait, ret_error);
    int error = *ret_error;
    if (!ended || (error != MPI_SUCCESS && error != MPI_ERR_IN_STATUS) || *done <= 0) { /* MPI_UNDEFINED */
        unwrapped_end();
        return ended;
    }
    completed_begin();
    for (int i = 0; i < *done; i++)
        completed(&handles[indices[i]], real_requests[indices[i]], &statuses[i], error_of(error, &statuses[i]));
    completed_end();
    return true;
}

static int some(int count, MPI_Request *handles, int *done, int *indices, MPI_Status *statuses, bool wait)
{
    MPI_Request real_requests[UNWRAPPED_MAX + 1];
    MPI_Status own[UNWRAPPED_MAX];
    int error;
    if (UNLIKELY(count <= 0))
        return (wait ? real.Waitsome : real.Testsome)(count, handles, done, indices, statuses);
    for (;;) {
        bool ended;
        if (UNLIKELY(count > UNWRAPPED_MAX || !unwrap(count, handles, real_requests)))
            ended = some_slow(count, handles, done, indices, statuses, wait, &error);
        else
            ended = some_unwrapped(count, handles, real_requests, done, indices,
                                   statuses == MPI_STATUSES_IGNORE ? own : statuses, wait, &error);
        if (LIKELY(ended))
            return error;
    }
}

int MPI_Waitsome(int count, MPI_Request *handles, int *done, int *indices, MPI_Status *statuses)
{
    return some(count, handles, done, indices, statuses, true);
}

int MPI_Testsome(int count, MPI_Request *handles, int *done, int *indices, MPI_Status *statuses)
{
    return some(count, handles, done, indices, statuses, false);
}

/* ---- Request_get_status ---- */

int MPI_Request_get_status(MPI_Request handle, int *done, MPI_Status *status)
{
    if (!inside.on)
        return real.Request_get_status(handle, done, status);
    inside_lock();
    if (!quick())
        progress();
    struct request *request = request_of(handle);
    int error = MPI_SUCCESS;
    if (request == NULL) {
        error = real.Request_get_status(handle, done, status);
    } else {
        *done = request_advance(request);
        if (*done && request->state == REQUEST_INACTIVE)
            status_empty(status);
        else if (*done)
            status_copy(status, &request->status);
        else
            look_early_for_all(1, &handle);
    }
    settle_quick();
    inside_unlock();
    return error;
}

INTERPOSED(Wait);
INTERPOSED(Test);
INTERPOSED(Waitany);
INTERPOSED(Testany);
INTERPOSED(Waitsome);
INTERPOSED(Testsome);
INTERPOSED(Request_get_status);
