/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_MPI_WAIT_H
#define CKPT_CLIENT_MPI_WAIT_H

/* What the calls that complete requests have in common. */

#include "ckpt/client/mpi/inside.h"

#define UNWRAPPED_MAX 128 /* requests that are handed to MPI from the stack */

/* As MPI_Test, of any handle. */
int try_one(MPI_Request *handle, int *ret_done, MPI_Status *status);
/* Neither takes anything in. */
bool is_active(MPI_Request handle);
bool is_complete(MPI_Request handle);
void look_early_for_all(int count, const MPI_Request *handles);

/* MPI's requests of those, to be handed to it as they are. False: one is not MPI's business now. True: behind MPI's call comes
 * unwrapped_end(). Where there are many threads the call is one that does not wait, or beside_wait. */
bool unwrap(int count, const MPI_Request *handles, MPI_Request *ret_real);
static inline void unwrapped_end(void)
{
    if (UNLIKELY(inside.many_threads))
        beside_leave();
}
/* … or, where some are complete, the two below around `completed` for each of them. */
static inline void completed_begin(void)
{
    if (UNLIKELY(inside.many_threads))
        inside_lock();
}
static inline void completed_end(void)
{
    if (UNLIKELY(inside.many_threads)) {
        beside_leave();
        inside_unlock();
    }
}
void completed(MPI_Request *handle, MPI_Request real_request, const MPI_Status *status, int error);
/* It is the turn of those who do not hold the lock. */
static inline bool slow_no_more(void)
{
    return UNLIKELY(inside.many_threads) && beside_stays();
}

static inline int error_of(int error, const MPI_Status *status)
{
    return error == MPI_ERR_IN_STATUS ? status->MPI_ERROR : error;
}

static inline MPI_Status *status_at(MPI_Status *statuses, int i)
{
    return statuses == MPI_STATUSES_IGNORE ? MPI_STATUS_IGNORE : &statuses[i];
}

#endif
