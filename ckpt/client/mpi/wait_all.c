/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"
#include "ckpt/client/mpi/wait.h"

/* Those not yet in `ret_error` (PENDING): how many are left. */
static int try_all(int count, MPI_Request *handles, MPI_Status *statuses, int *ret_error)
{
    int left = 0;
    for (int i = 0; i < count; i++) {
        int done = 0;
        if (ret_error[i] != MPI_ERR_PENDING)
            continue;
        int error = try_one(&handles[i], &done, status_at(statuses, i));
        if (done || error != MPI_SUCCESS)
            ret_error[i] = error;
        else
            left++;
    }
    return left;
}

static int errors_in_statuses(int count, MPI_Status *statuses, const int *errors)
{
    int failed = 0;
    for (int i = 0; i < count; i++)
        failed |= errors[i] != MPI_SUCCESS;
    if (!failed)
        return MPI_SUCCESS;
    for (int i = 0; statuses != MPI_STATUSES_IGNORE && i < count; i++)
        statuses[i].MPI_ERROR = errors[i];
    return MPI_ERR_IN_STATUS;
}

/* False: some are left, and there is nothing to be slow for any more. */
static bool all_slow(int count, MPI_Request *handles, MPI_Status *statuses, int *ret_error)
{
    unsigned spins = 0;
    int left;
    inside_lock();
    progress();
    while ((left = try_all(count, handles, statuses, ret_error)) > 0) {
        look_early_for_all(count, handles);
        inside_pause(&spins);
        if (slow_no_more())
            break;
    }
    settle_quick();
    inside_unlock();
    return left == 0;
}

/* Of many threads: one after the other, UNWRAPPED_MAX at most. False: not all of them. */
static bool few_beside(int count, MPI_Request *handles, MPI_Status *statuses, int *ret_error)
{
    MPI_Request real_requests[UNWRAPPED_MAX];
    MPI_Status own[UNWRAPPED_MAX];
    bool waited[UNWRAPPED_MAX];
    int ended = 0;
    if (!unwrap(count, handles, real_requests))
        return false;
    while (ended < count) {
        MPI_Request room[2] = {real_requests[ended]};
        waited[ended] = ret_error[ended] == MPI_ERR_PENDING;
        if (waited[ended] && !beside_wait(room, &own[ended], &ret_error[ended])) {
            ret_error[ended] = MPI_ERR_PENDING;
            break;
        }
        real_requests[ended++] = room[0];
    }
    completed_begin();
    for (int i = 0; i < ended; i++) {
        if (!waited[i])
            continue;
        status_of_nobody(request_of(handles[i]), &own[i]);
        status_copy(status_at(statuses, i), &own[i]);
        completed(&handles[i], real_requests[i], &own[i], ret_error[i]);
    }
    completed_end();
    return ended == count;
}

static bool all_beside(int count, MPI_Request *handles, MPI_Status *statuses, int *ret_error)
{
    int i = 0;
    while (i < count) {
        int few = count - i < UNWRAPPED_MAX ? count - i : UNWRAPPED_MAX;
        if (!few_beside(few, handles + i, statuses == MPI_STATUSES_IGNORE ? statuses : statuses + i, ret_error + i))
            return false;
        i += few;
    }
    return true;
}

__attribute__((noinline)) static int waitall_slow(int count, MPI_Request *handles, MPI_Status *statuses)
{
    if (!inside.on || count <= 0)
        return real.Waitall(count, handles, statuses);
    int *errors = mem_try_array((size_t)count, sizeof *errors);
    if (errors == NULL)
        return raise_error(NULL, MPI_ERR_NO_MEM);
    for (int i = 0; i < count; i++)
        errors[i] = MPI_ERR_PENDING;
    while (!(inside.many_threads && all_beside(count, handles, statuses, errors)) &&
           !all_slow(count, handles, statuses, errors))
        ;
    int error = errors_in_statuses(count, statuses, errors);
    mem_free(errors);
    return error;
}

/* None of ours among them, and nothing to know of MPI's own but how many: `ret_active`. */
static bool all_plain(int count, const MPI_Request *handles, uint64_t *ret_active)
{
    uint64_t active = 0;
    if (!quick() || UNLIKELY(inside.grequests | inside.unrepeatable))
        return false;
    for (int i = 0; i < count; i++) {
        if (request_of(handles[i]) != NULL)
            return false;
        active += handles[i] != MPI_REQUEST_NULL;
    }
    *ret_active = active;
    return true;
}

static int waitall_plain(int count, MPI_Request *handles, MPI_Status *statuses, uint64_t active)
{
    int error = real.Waitall(count, handles, statuses);
    for (int i = 0; i < count; i++)
        active -= handles[i] != MPI_REQUEST_NULL;
    inside.outstanding -= active;
    return error;
}

/* A receive that has nothing but its first 64 bytes and is not wanted any more: the most frequent end of all. It is
 * outstanding no more. */
static inline bool completed_receive(MPI_Request *handle, const MPI_Status *status)
{
    struct request *request = request_of(*handle);
    if (UNLIKELY(request == NULL || request->kind != REQUEST_RECV || request->persistent || request->cancelling ||
                 request->own_type || request->peer == MPI_PROC_NULL || request->comm->freed))
        return false;
    count_arrived(request->comm, status->MPI_SOURCE);
    request_give(request);
    *handle = MPI_REQUEST_NULL;
    return true;
}

static int waitall_unwrapped(int count, MPI_Request *handles, MPI_Status *statuses, MPI_Request *real_requests)
{
    int error = real.Waitall(count, real_requests, statuses);
    uint64_t receives = 0;
    for (int i = 0; i < count; i++) {
        if (LIKELY(error == MPI_SUCCESS) && LIKELY(completed_receive(&handles[i], &statuses[i]))) {
            receives++;
            continue;
        }
        int its = error_of(error, &statuses[i]);
        status_of_nobody(its == MPI_SUCCESS ? request_of(handles[i]) : NULL, &statuses[i]);
        if (LIKELY(its != MPI_ERR_PENDING))
            completed(&handles[i], real_requests[i], &statuses[i], its);
    }
    inside.outstanding -= receives;
    return error;
}

/* More than the stack is to hold. */
__attribute__((noinline)) static int waitall_many(int count, MPI_Request *handles, MPI_Status *statuses)
{
    MPI_Request *real_requests = mem_try_array((size_t)count, sizeof *real_requests);
    MPI_Status *own = statuses == MPI_STATUSES_IGNORE ? mem_try_array((size_t)count, sizeof *own) : NULL;
    bool fits = real_requests && (own || statuses != MPI_STATUSES_IGNORE) && unwrap(count, handles, real_requests);
    int error = fits ? waitall_unwrapped(count, handles, own ? own : statuses, real_requests)
                     : waitall_slow(count, handles, statuses);
    mem_free(real_requests);
    mem_free(own);
    return error;
}

int MPI_Waitall(int count, MPI_Request *handles, MPI_Status *statuses)
{
    MPI_Request real_requests[UNWRAPPED_MAX];
    MPI_Status own[UNWRAPPED_MAX];
    uint64_t active;
    if (UNLIKELY(inside.many_threads))
        return waitall_slow(count, handles, statuses);
    if (all_plain(count, handles, &active))
        return waitall_plain(count, handles, statuses, active);
    if (UNLIKELY(count > UNWRAPPED_MAX))
        return waitall_many(count, handles, statuses);
    if (UNLIKELY(!unwrap(count, handles, real_requests)))
        return waitall_slow(count, handles, statuses);
    return waitall_unwrapped(count, handles, statuses == MPI_STATUSES_IGNORE ? own : statuses, real_requests);
}

static int testall_inside(int count, MPI_Request *handles, int *done, MPI_Status *statuses)
{
    int error = MPI_SUCCESS;
    *done = 1;
    for (int i = 0; *done && i < count; i++)
        *done = is_complete(handles[i]);
    for (int i = 0; *done && i < count; i++) {
        int one = 0;
        int its = try_one(&handles[i], &one, status_at(statuses, i));
        if (statuses != MPI_STATUSES_IGNORE && its != MPI_SUCCESS)
            statuses[i].MPI_ERROR = its;
        if (its != MPI_SUCCESS)
            error = MPI_ERR_IN_STATUS;
    }
    return error;
}

__attribute__((noinline)) static int testall_slow(int count, MPI_Request *handles, int *done, MPI_Status *statuses)
{
    if (!inside.on || count <= 0)
        return real.Testall(count, handles, done, statuses);
    inside_lock();
    progress();
    int error = testall_inside(count, handles, done, statuses);
    if (!*done)
        look_early_for_all(count, handles);
    settle_quick();
    inside_unlock();
    return error;
}

int MPI_Testall(int count, MPI_Request *handles, int *done, MPI_Status *statuses)
{
    MPI_Request real_requests[UNWRAPPED_MAX];
    MPI_Status own[UNWRAPPED_MAX];
    if (UNLIKELY(count > UNWRAPPED_MAX || !unwrap(count, handles, real_requests)))
        return testall_slow(count, handles, done, statuses);
    if (statuses == MPI_STATUSES_IGNORE)
        statuses = own;
    int error = real.Testall(count, real_requests, done, statuses);
    if (!*done && error != MPI_ERR_IN_STATUS) {
        unwrapped_end();
        return error;
    }
    completed_begin();
    for (int i = 0; i < count; i++) {
        int its = error_of(error, &statuses[i]);
        if (its != MPI_ERR_PENDING)
            completed(&handles[i], real_requests[i], &statuses[i], its);
    }
    completed_end();
    return error;
}

INTERPOSED(Waitall);
INTERPOSED(Testall);
