/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/mpi/inside.h"

/* One-sided operations go to MPI as they are. They carry no colour: one that is called while a checkpoint is being taken may reach
 * a rank on the other side of the cut, so it voids the record of the rank that calls it. */

enum epoch { EPOCH_FENCE = 1, EPOCH_START = 2, EPOCH_POST = 4, EPOCH_LOCK = 8, EPOCH_LOCK_ALL = 16 };

#define WINDOWS_MAX 256 /* with an epoch open, at a time; more count as open for good */

static struct window {
    MPI_Win handle;
    unsigned epochs; /* 0: a free place */
    unsigned locks;
} windows[WINDOWS_MAX];

static struct window *window_at(MPI_Win handle)
{
    struct window *free_place = NULL;
    for (int i = 0; i < WINDOWS_MAX; i++) {
        if (windows[i].epochs && windows[i].handle == handle)
            return &windows[i];
        if (windows[i].epochs == 0 && free_place == NULL)
            free_place = &windows[i];
    }
    if (free_place)
        *free_place = (struct window){.handle = handle};
    return free_place;
}

static void change(MPI_Win handle, unsigned opens, unsigned closes)
{
    if (!inside.on)
        return;
    inside_lock();
    struct window *window = window_at(handle);
    if (window == NULL) {
        inside.windows_open++;
    } else {
        bool was = window->epochs != 0;
        if (opens & EPOCH_LOCK)
            window->locks++;
        if (closes & EPOCH_LOCK && window->locks > 0 && --window->locks > 0)
            closes &= ~(unsigned)EPOCH_LOCK;
        window->epochs = (window->epochs & ~closes) | opens;
        inside.windows_open += window->epochs != 0;
        inside.windows_open -= was;
    }
    inside_unlock();
}

/* A communication call. In a fence's epoch the first one opens it. */
static void use(MPI_Win handle)
{
    (void)handle;
    if (!inside.on)
        return;
    inside_lock();
    if (!quick())
        progress();
    if (cut_rank_polls(&inside.cut)) {
        inside.window_used = true;
        if (cut_rank_matches(&inside.cut))
            give_up("a one-sided MPI operation was called while the checkpoint was being taken");
    }
    inside_unlock();
}

#define PASS(name, parameters, arguments, before, after) \
    int MPI_##name parameters                            \
    {                                                    \
        before;                                          \
        int error = real.name arguments;                 \
        if (error == MPI_SUCCESS) {                      \
            after;                                       \
        }                                                \
        return error;                                    \
    }                                                    \
    INTERPOSED(name)

static void shared(int by)
{
    if (inside.on) {
        inside_lock();
        inside.windows_shared += (uint64_t)by;
        inside_unlock();
    }
}

static void held(void)
{
    if (inside.on) {
        inside_lock();
        inside.outstanding++;
        inside_unlock();
    }
}

static bool is_shared(MPI_Win handle)
{
    int *flavour = NULL, found = 0;
    PMPI_Win_get_attr(handle, MPI_WIN_CREATE_FLAVOR, &flavour, &found);
    return found && *flavour == MPI_WIN_FLAVOR_SHARED;
}

PASS(Win_allocate_shared, (MPI_Aint size, int unit, MPI_Info info, MPI_Comm comm, void *base, MPI_Win *made),
     (size, unit, info, comm, base, made), , shared(1));

int MPI_Win_free(MPI_Win *handle)
{
    int by = inside.on && *handle != MPI_WIN_NULL && is_shared(*handle) ? -1 : 0;
    MPI_Win gone = *handle;
    int error = real.Win_free(handle);
    if (error == MPI_SUCCESS) {
        change(gone, 0, ~0u);
        shared(by);
    }
    return error;
}
INTERPOSED(Win_free);

/* A fence closes what the one before it opened, and opens the next unless told that nothing follows. */
PASS(Win_fence, (int assert, MPI_Win win), (assert, win), ,
     change(win, assert & MPI_MODE_NOSUCCEED ? 0 : EPOCH_FENCE, assert & MPI_MODE_NOSUCCEED ? EPOCH_FENCE : 0));
PASS(Win_start, (MPI_Group group, int assert, MPI_Win win), (group, assert, win), , change(win, EPOCH_START, 0));
PASS(Win_complete, (MPI_Win win), (win), , change(win, 0, EPOCH_START));
PASS(Win_post, (MPI_Group group, int assert, MPI_Win win), (group, assert, win), , change(win, EPOCH_POST, 0));
PASS(Win_wait, (MPI_Win win), (win), , change(win, 0, EPOCH_POST));
PASS(Win_test, (MPI_Win win, int *flag), (win, flag), , change(win, 0, *flag ? EPOCH_POST : 0));
PASS(Win_lock, (int type, int rank, int assert, MPI_Win win), (type, rank, assert, win), , change(win, EPOCH_LOCK, 0));
PASS(Win_unlock, (int rank, MPI_Win win), (rank, win), , change(win, 0, EPOCH_LOCK));
PASS(Win_lock_all, (int assert, MPI_Win win), (assert, win), , change(win, EPOCH_LOCK_ALL, 0));
PASS(Win_unlock_all, (MPI_Win win), (win), , change(win, 0, EPOCH_LOCK_ALL));

#define ORIGIN const void *origin, int count, MPI_Datatype type
#define ORIGIN_OUT void *origin, int count, MPI_Datatype type
#define RESULT void *result, int result_count, MPI_Datatype result_type
#define TARGET int rank, MPI_Aint at, int target_count, MPI_Datatype target_type

PASS(Put, (ORIGIN, TARGET, MPI_Win win), (origin, count, type, rank, at, target_count, target_type, win), use(win), );
PASS(Get, (ORIGIN_OUT, TARGET, MPI_Win win), (origin, count, type, rank, at, target_count, target_type, win), use(win), );
PASS(Accumulate, (ORIGIN, TARGET, MPI_Op op, MPI_Win win), (origin, count, type, rank, at, target_count, target_type, op, win),
     use(win), );
PASS(Get_accumulate, (ORIGIN, RESULT, TARGET, MPI_Op op, MPI_Win win),
     (origin, count, type, result, result_count, result_type, rank, at, target_count, target_type, op, win), use(win), );
PASS(Fetch_and_op, (const void *origin, void *result, MPI_Datatype type, int rank, MPI_Aint at, MPI_Op op, MPI_Win win),
     (origin, result, type, rank, at, op, win), use(win), );
PASS(Compare_and_swap,
     (const void *origin, const void *compare, void *result, MPI_Datatype type, int rank, MPI_Aint at, MPI_Win win),
     (origin, compare, result, type, rank, at, win), use(win), );
PASS(Rput, (ORIGIN, TARGET, MPI_Win win, MPI_Request *request),
     (origin, count, type, rank, at, target_count, target_type, win, request), use(win), held());
PASS(Rget, (ORIGIN_OUT, TARGET, MPI_Win win, MPI_Request *request),
     (origin, count, type, rank, at, target_count, target_type, win, request), use(win), held());
PASS(Raccumulate, (ORIGIN, TARGET, MPI_Op op, MPI_Win win, MPI_Request *request),
     (origin, count, type, rank, at, target_count, target_type, op, win, request), use(win), held());
PASS(Rget_accumulate, (ORIGIN, RESULT, TARGET, MPI_Op op, MPI_Win win, MPI_Request *request),
     (origin, count, type, result, result_count, result_type, rank, at, target_count, target_type, op, win, request), use(win),
     held());
