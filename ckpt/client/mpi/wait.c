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
    if (request->kind == REQUEST_RECV) {
        receive_completed(request, &status, error);
        return true;
    }
    request->status = status;
    request->error = error;
    request->state = REQUEST_DONE;
    return true;
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
    if (!quick())
        return false;
    for (int i = 0; i < count; i++) {
        const struct request *request = request_of(handles[i]);
        if (request == NULL)
            ret_real[i] = handles[i];
        else if (LIKELY(request->state == REQUEST_REAL && request->kind != REQUEST_CREATE))
            ret_real[i] = request->real;
        else if (request->state == REQUEST_INACTIVE)
            ret_real[i] = MPI_REQUEST_NULL;
        else
            return false;
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
        if (LIKELY(error == MPI_SUCCESS && !request->cancelling))
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

__attribute__((noinline)) static int wait_slow(MPI_Request *handle, MPI_Status *status)
{
    int done = 0, error = MPI_SUCCESS;
    unsigned spins = 0;
    if (!inside.on)
        return real.Wait(handle, status);
    inside_lock();
    progress();
    while (error = try_one(handle, &done, status), !done && error == MPI_SUCCESS) {
        look_early_for_all(1, handle);
        inside_pause(&spins);
    }
    settle_quick();
    inside_unlock();
    return error;
}

int MPI_Wait(MPI_Request *handle, MPI_Status *status)
{
    MPI_Request real_request;
    MPI_Status own;
    if (UNLIKELY(!unwrap(1, handle, &real_request)))
        return wait_slow(handle, status);
    if (status == MPI_STATUS_IGNORE)
        status = &own;
    bool real_one = real_request != MPI_REQUEST_NULL;
    int error = real.Wait(&real_request, status);
    if (LIKELY(real_one))
        completed(handle, real_request, status, error);
    return error;
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
    if (real_one && (*done || error != MPI_SUCCESS))
        completed(handle, real_request, status, error);
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

__attribute__((noinline)) static int waitany_slow(int count, MPI_Request *handles, int *index, MPI_Status *status)
{
    int done = 0, error = MPI_SUCCESS;
    unsigned spins = 0;
    if (!inside.on)
        return real.Waitany(count, handles, index, status);
    inside_lock();
    progress();
    while (error = try_any(count, handles, index, &done, status), !done) {
        look_early_for_all(count, handles);
        inside_pause(&spins);
    }
    settle_quick();
    inside_unlock();
    return error;
}

int MPI_Waitany(int count, MPI_Request *handles, int *index, MPI_Status *status)
{
    MPI_Request real_requests[UNWRAPPED_MAX];
    MPI_Status own;
    if (UNLIKELY(count > UNWRAPPED_MAX || !unwrap(count, handles, real_requests)))
        return waitany_slow(count, handles, index, status);
    if (status == MPI_STATUS_IGNORE)
        status = &own;
    *index = MPI_UNDEFINED;
    int error = real.Waitany(count, real_requests, index, status);
    if (*index != MPI_UNDEFINED && *index >= 0 && *index < count)
        completed(&handles[*index], real_requests[*index], status, error);
    return error;
}

__attribute__((noinline)) static int testany_slow(int count, MPI_Request *handles, int *index, int *done, MPI_Status *status)
{
    if (!inside.on)
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
    if ((*done || error != MPI_SUCCESS) && *index != MPI_UNDEFINED && *index >= 0 && *index < count)
        completed(&handles[*index], real_requests[*index], status, error);
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

__attribute__((noinline)) static int some_slow(int count, MPI_Request *handles, int *done, int *indices,
                                               MPI_Status *statuses, bool wait)
{
    int error = MPI_SUCCESS;
    unsigned spins = 0;
    if (!inside.on)
        return wait ? real.Waitsome(count, handles, done, indices, statuses)
                    : real.Testsome(count, handles, done, indices, statuses);
    inside_lock();
    progress();
    while (error = try_some(count, handles, done, indices, statuses), *done == 0) {
        look_early_for_all(count, handles);
        if (!wait)
            break;
        inside_pause(&spins);
    }
    settle_quick();
    inside_unlock();
    return error;
}

static int some(int count, MPI_Request *handles, int *done, int *indices, MPI_Status *statuses, bool wait)
{
    MPI_Request real_requests[UNWRAPPED_MAX];
    MPI_Status own[UNWRAPPED_MAX];
    if (UNLIKELY(count > UNWRAPPED_MAX || !unwrap(count, handles, real_requests)))
        return some_slow(count, handles, done, indices, statuses, wait);
    if (statuses == MPI_STATUSES_IGNORE)
        statuses = own;
    int error = (wait ? real.Waitsome : real.Testsome)(count, real_requests, done, indices, statuses);
    if (error != MPI_SUCCESS && error != MPI_ERR_IN_STATUS)
        return error;
    for (int i = 0; *done != MPI_UNDEFINED && i < *done; i++)
        completed(&handles[indices[i]], real_requests[indices[i]], &statuses[i], error_of(error, &statuses[i]));
    return error;
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
