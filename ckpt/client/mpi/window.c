/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/mpi/inside.h"

/* One-sided operations go to MPI as they are. They carry no colour: one that is called while a checkpoint is being taken may
 * reach a rank on the other side of the cut, so it voids the record of the rank that calls it. */

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

/* Calls whose effect on others has no colour. */
void uncoloured(const char *why)
{
    if (!inside.on)
        return;
    inside_lock();
    if (!quick())
        progress();
    if (cut_rank_polls(&inside.cut)) {
        inside.uncoloured = why;
        if (cut_rank_matches(&inside.cut))
            give_up(why);
    }
    if (!quick())
        settle_quick();
    inside_unlock();
}

static void use(void)
{
    uncoloured("a one-sided MPI operation was called while the checkpoint was being taken");
}

#define PASS(name, parameters, arguments, before, after)                                                                    \
    int MPI_##name parameters                                                                                               \
    {                                                                                                                       \
        before;                                                                                                             \
        int error = real.name arguments;                                                                                    \
        if (error == MPI_SUCCESS) {                                                                                         \
            after;                                                                                                          \
        }                                                                                                                   \
        return error;                                                                                                       \
    }                                                                                                                       \
    INTERPOSED(name)

/* One that may wait for others. */
#define WAITING(name, parameters, arguments, before, after)                                                                 \
    int MPI_##name parameters                                                                                               \
    {                                                                                                                       \
        before;                                                                                                             \
        bool blocked = blocked_enter();                                                                                     \
        int error = real.name arguments;                                                                                    \
        if (UNLIKELY(blocked))                                                                                              \
            blocked_leave();                                                                                                \
        if (error == MPI_SUCCESS) {                                                                                         \
            after;                                                                                                          \
        }                                                                                                                   \
        return error;                                                                                                       \
    }                                                                                                                       \
    INTERPOSED(name)

static void shared(int by)
{
    if (inside.on) {
        inside_lock();
        inside.windows_shared += (uint64_t)by;
        inside_unlock();
    }
}

static bool is_shared(MPI_Win handle)
{
    int *flavour = NULL, found = 0;
    PMPI_Win_get_attr(handle, MPI_WIN_CREATE_FLAVOR, &flavour, &found);
    return found && *flavour == MPI_WIN_FLAVOR_SHARED;
}

static uint64_t key_of(MPI_Win handle)
{
    return (uint64_t)(uintptr_t)handle << 1;
}

/* ---- windows ---- */

#define MAKE_CALLS(x, unit_type)                                                                                            \
    WAITING(Win_create##x, (void *base, MPI_Aint size, unit_type unit, MPI_Info info, MPI_Comm comm, MPI_Win *made),        \
            (base, size, unit, info, comm, made), comm_count_collective(comm), made_note(key_of(*made), comm));             \
    WAITING(Win_allocate##x, (MPI_Aint size, unit_type unit, MPI_Info info, MPI_Comm comm, void *base, MPI_Win *made),      \
            (size, unit, info, comm, base, made), comm_count_collective(comm), made_note(key_of(*made), comm));             \
    WAITING(Win_allocate_shared##x,                                                                                         \
            (MPI_Aint size, unit_type unit, MPI_Info info, MPI_Comm comm, void *base, MPI_Win *made),                       \
            (size, unit, info, comm, base, made), comm_count_collective(comm), made_note(key_of(*made), comm);              \
            shared(1))

MAKE_CALLS(, int);
#if MPI_VERSION >= 4
MAKE_CALLS(_c, MPI_Aint);
#endif
WAITING(Win_create_dynamic, (MPI_Info info, MPI_Comm comm, MPI_Win *made), (info, comm, made), comm_count_collective(comm),
        made_note(key_of(*made), comm));

int MPI_Win_free(MPI_Win *handle)
{
    int by = inside.on && *handle != MPI_WIN_NULL && is_shared(*handle) ? -1 : 0;
    MPI_Win gone = *handle;
    made_collective(key_of(gone));
    bool blocked = blocked_enter();
    int error = real.Win_free(handle);
    if (UNLIKELY(blocked))
        blocked_leave();
    if (error == MPI_SUCCESS) {
        change(gone, 0, ~0u);
        shared(by);
        made_forget(key_of(gone));
    }
    return error;
}
INTERPOSED(Win_free);

/* ---- epochs ---- */

/* A fence closes what the one before it opened, and opens the next unless told that nothing follows. */
WAITING(Win_fence, (int assert, MPI_Win win), (assert, win), made_collective(key_of(win)),
        change(win, assert &MPI_MODE_NOSUCCEED ? 0 : EPOCH_FENCE, assert &MPI_MODE_NOSUCCEED ? EPOCH_FENCE : 0));
WAITING(Win_start, (MPI_Group group, int assert, MPI_Win win), (group, assert, win), use(), change(win, EPOCH_START, 0));
WAITING(Win_complete, (MPI_Win win), (win), , change(win, 0, EPOCH_START));
PASS(Win_post, (MPI_Group group, int assert, MPI_Win win), (group, assert, win), use(), change(win, EPOCH_POST, 0));
WAITING(Win_wait, (MPI_Win win), (win), , change(win, 0, EPOCH_POST));
PASS(Win_test, (MPI_Win win, int *flag), (win, flag), look_once(), change(win, 0, *flag ? EPOCH_POST : 0));
WAITING(Win_lock, (int type, int rank, int assert, MPI_Win win), (type, rank, assert, win), , change(win, EPOCH_LOCK, 0));
WAITING(Win_unlock, (int rank, MPI_Win win), (rank, win), , change(win, 0, EPOCH_LOCK));
WAITING(Win_lock_all, (int assert, MPI_Win win), (assert, win), , change(win, EPOCH_LOCK_ALL, 0));
WAITING(Win_unlock_all, (MPI_Win win), (win), , change(win, 0, EPOCH_LOCK_ALL));
WAITING(Win_flush, (int rank, MPI_Win win), (rank, win), , );
WAITING(Win_flush_all, (MPI_Win win), (win), , );
WAITING(Win_flush_local, (int rank, MPI_Win win), (rank, win), , );
WAITING(Win_flush_local_all, (MPI_Win win), (win), , );
PASS(Win_sync, (MPI_Win win), (win), look_once(), );

/* ---- operations ---- */

#define HELD request_held(error, *request, REPEATABLE)
#define ORIGIN const void *origin, COUNT count, MPI_Datatype type
#define ORIGIN_OUT void *origin, COUNT count, MPI_Datatype type
#define RESULT void *result, COUNT result_count, MPI_Datatype result_type
#define TARGET int rank, MPI_Aint at, COUNT target_count, MPI_Datatype target_type
#define TO_TARGET origin, count, type, rank, at, target_count, target_type
#define TO_RESULT origin, count, type, result, result_count, result_type, rank, at, target_count, target_type

#define DATA_CALLS(x)                                                                                                       \
    PASS(Put##x, (ORIGIN, TARGET, MPI_Win win), (TO_TARGET, win), use(), );                                                 \
    PASS(Get##x, (ORIGIN_OUT, TARGET, MPI_Win win), (TO_TARGET, win), use(), );                                             \
    PASS(Accumulate##x, (ORIGIN, TARGET, MPI_Op op, MPI_Win win), (TO_TARGET, op, win), use(), );                           \
    PASS(Get_accumulate##x, (ORIGIN, RESULT, TARGET, MPI_Op op, MPI_Win win), (TO_RESULT, op, win), use(), );               \
    PASS(Rput##x, (ORIGIN, TARGET, MPI_Win win, MPI_Request * request), (TO_TARGET, win, request), use(), HELD);            \
    PASS(Rget##x, (ORIGIN_OUT, TARGET, MPI_Win win, MPI_Request * request), (TO_TARGET, win, request), use(), HELD);        \
    PASS(Raccumulate##x, (ORIGIN, TARGET, MPI_Op op, MPI_Win win, MPI_Request * request), (TO_TARGET, op, win, request),    \
         use(), HELD);                                                                                                      \
    PASS(Rget_accumulate##x, (ORIGIN, RESULT, TARGET, MPI_Op op, MPI_Win win, MPI_Request * request),                       \
         (TO_RESULT, op, win, request), use(), HELD)

#define COUNT int
DATA_CALLS();
#undef COUNT
#if MPI_VERSION >= 4
#define COUNT MPI_Count
DATA_CALLS(_c);
#undef COUNT
#endif

PASS(Fetch_and_op, (const void *origin, void *result, MPI_Datatype type, int rank, MPI_Aint at, MPI_Op op, MPI_Win win),
     (origin, result, type, rank, at, op, win), use(), );
PASS(Compare_and_swap,
     (const void *origin, const void *compare, void *result, MPI_Datatype type, int rank, MPI_Aint at, MPI_Win win),
     (origin, compare, result, type, rank, at, win), use(), );
