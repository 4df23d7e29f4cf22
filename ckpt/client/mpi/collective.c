/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/mpi/inside.h"

/* Collectives go to MPI as they are, and are counted per communicator. One line per collective: its names, parameters, arguments.
 * The count is taken on entry: ranks at one safe point have entered the same collectives, whether or not nonblocking ones are
 * complete. Blocking ones are waited for in MPI: it matches no others with them. */

#define UNPACK(...) __VA_ARGS__

#define BLOCKING(name, parameters, arguments)                         \
    int MPI_##name(UNPACK parameters, MPI_Comm handle)                \
    {                                                                 \
        bool parked = collective_enter(handle);                       \
        int error = real.name(UNPACK arguments, handle);              \
        if (UNLIKELY(parked))                                         \
            collective_leave();                                       \
        return error;                                                 \
    }                                                                 \
    INTERPOSED(name)

#define NONBLOCKING(name, parameters, arguments)                                 \
    int MPI_##name(UNPACK parameters, MPI_Comm handle, MPI_Request *request)     \
    {                                                                            \
        collective_count(handle);                                                \
        int error = real.name(UNPACK arguments, handle, request);                \
        request_held(error, *request);                                             \
        return error;                                                            \
    }                                                                            \
    INTERPOSED(name)

#define PERSISTENT_ALIAS(name) \
    __typeof__(PMPI_PERSISTENT_COLLECTIVE(name)) PMPI_PERSISTENT_COLLECTIVE(name) __attribute__((alias(PERSISTENT_NAME(name))))
#if MPI_HANDLES_ARE_POINTERS
#define PERSISTENT_NAME(name) "MPIX_" #name
#else
#define PERSISTENT_NAME(name) "MPI_" #name
#endif

#define PERSISTENT(name, parameters, arguments)                                                                       \
    int MPI_PERSISTENT_COLLECTIVE(name)(UNPACK parameters, MPI_Comm handle, MPI_Info info, MPI_Request * request)    \
    {                                                                                                                 \
        int error = real.name(UNPACK arguments, handle, info, request);                                               \
        return error == MPI_SUCCESS ? request_pass(handle, request) : error;                                          \
    }                                                                                                                 \
    PERSISTENT_ALIAS(name)

#define ALL(blocking, nonblocking, persistent, parameters, arguments) \
    BLOCKING(blocking, parameters, arguments);                        \
    NONBLOCKING(nonblocking, parameters, arguments);                  \
    PERSISTENT(persistent, parameters, arguments)

#define IN const void *sendbuf, int sendcount, MPI_Datatype sendtype
#define IN_V const void *sendbuf, const int *sendcounts, const int *sdispls, MPI_Datatype sendtype
#define OUT void *recvbuf, int recvcount, MPI_Datatype recvtype
#define OUT_V void *recvbuf, const int *recvcounts, const int *rdispls, MPI_Datatype recvtype
#define REDUCE const void *sendbuf, void *recvbuf, int recvcount, MPI_Datatype type, MPI_Op op

/* ---- entering ---- */

static inline void collective_count(MPI_Comm handle)
{
    if (UNLIKELY(!inside.on))
        return;
    if (UNLIKELY(inside.many_threads))
        inside_lock();
    struct comm *comm = comm_of(handle);
    if (comm)
        comm->collectives++;
    if (UNLIKELY(inside.many_threads))
        inside_unlock();
}

/* Out of every fast way: park what waits. */
__attribute__((noinline)) static bool enter_slow(void)
{
    if (!inside.on)
        return false;
    inside_lock();
    progress();
    receives_park();
    settle_quick();
    inside_unlock();
    return true;
}

static inline bool collective_enter(MPI_Comm handle)
{
    collective_count(handle);
    return !quick() && enter_slow();
}

static void collective_leave(void)
{
    inside_lock();
    receives_unpark();
    progress();
    settle_quick();
    inside_unlock();
}

static void request_held(int error, MPI_Request handle)
{
    if (!inside.on || error != MPI_SUCCESS)
        return;
    inside_lock();
    inside.outstanding++;
    collective_note(handle);
    inside_unlock();
}

/* ---- all of them ---- */

int MPI_Barrier(MPI_Comm handle)
{
    bool parked = collective_enter(handle);
    int error = real.Barrier(handle);
    if (UNLIKELY(parked))
        collective_leave();
    return error;
}
INTERPOSED(Barrier);

int MPI_Ibarrier(MPI_Comm handle, MPI_Request *request)
{
    collective_count(handle);
    int error = real.Ibarrier(handle, request);
    request_held(error, *request);
    return error;
}
INTERPOSED(Ibarrier);

int MPI_PERSISTENT_COLLECTIVE(Barrier_init)(MPI_Comm handle, MPI_Info info, MPI_Request *request)
{
    int error = real.Barrier_init(handle, info, request);
    return error == MPI_SUCCESS ? request_pass(handle, request) : error;
}
PERSISTENT_ALIAS(Barrier_init);

ALL(Bcast, Ibcast, Bcast_init, (void *buffer, int n, MPI_Datatype type, int root), (buffer, n, type, root));
ALL(Gather, Igather, Gather_init, (IN, OUT, int root), (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype, root));
ALL(Gatherv, Igatherv, Gatherv_init, (IN, OUT_V, int root),
    (sendbuf, sendcount, sendtype, recvbuf, recvcounts, rdispls, recvtype, root));
ALL(Scatter, Iscatter, Scatter_init, (IN, OUT, int root), (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype, root));
ALL(Scatterv, Iscatterv, Scatterv_init, (IN_V, OUT, int root),
    (sendbuf, sendcounts, sdispls, sendtype, recvbuf, recvcount, recvtype, root));
ALL(Allgather, Iallgather, Allgather_init, (IN, OUT), (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype));
ALL(Allgatherv, Iallgatherv, Allgatherv_init, (IN, OUT_V),
    (sendbuf, sendcount, sendtype, recvbuf, recvcounts, rdispls, recvtype));
ALL(Alltoall, Ialltoall, Alltoall_init, (IN, OUT), (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype));
ALL(Alltoallv, Ialltoallv, Alltoallv_init, (IN_V, OUT_V),
    (sendbuf, sendcounts, sdispls, sendtype, recvbuf, recvcounts, rdispls, recvtype));
ALL(Alltoallw, Ialltoallw, Alltoallw_init,
    (const void *sendbuf, const int *sendcounts, const int *sdispls, const MPI_Datatype *sendtypes, void *recvbuf,
     const int *recvcounts, const int *rdispls, const MPI_Datatype *recvtypes),
    (sendbuf, sendcounts, sdispls, sendtypes, recvbuf, recvcounts, rdispls, recvtypes));
ALL(Reduce, Ireduce, Reduce_init, (REDUCE, int root), (sendbuf, recvbuf, recvcount, type, op, root));
ALL(Allreduce, Iallreduce, Allreduce_init, (REDUCE), (sendbuf, recvbuf, recvcount, type, op));
ALL(Reduce_scatter, Ireduce_scatter, Reduce_scatter_init,
    (const void *sendbuf, void *recvbuf, const int *recvcounts, MPI_Datatype type, MPI_Op op),
    (sendbuf, recvbuf, recvcounts, type, op));
ALL(Reduce_scatter_block, Ireduce_scatter_block, Reduce_scatter_block_init, (REDUCE), (sendbuf, recvbuf, recvcount, type, op));
ALL(Scan, Iscan, Scan_init, (REDUCE), (sendbuf, recvbuf, recvcount, type, op));
ALL(Exscan, Iexscan, Exscan_init, (REDUCE), (sendbuf, recvbuf, recvcount, type, op));
ALL(Neighbor_allgather, Ineighbor_allgather, Neighbor_allgather_init, (IN, OUT),
    (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype));
ALL(Neighbor_allgatherv, Ineighbor_allgatherv, Neighbor_allgatherv_init, (IN, OUT_V),
    (sendbuf, sendcount, sendtype, recvbuf, recvcounts, rdispls, recvtype));
ALL(Neighbor_alltoall, Ineighbor_alltoall, Neighbor_alltoall_init, (IN, OUT),
    (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype));
ALL(Neighbor_alltoallv, Ineighbor_alltoallv, Neighbor_alltoallv_init, (IN_V, OUT_V),
    (sendbuf, sendcounts, sdispls, sendtype, recvbuf, recvcounts, rdispls, recvtype));
ALL(Neighbor_alltoallw, Ineighbor_alltoallw, Neighbor_alltoallw_init,
    (const void *sendbuf, const int *sendcounts, const MPI_Aint *sdispls, const MPI_Datatype *sendtypes, void *recvbuf,
     const int *recvcounts, const MPI_Aint *rdispls, const MPI_Datatype *recvtypes),
    (sendbuf, sendcounts, sdispls, sendtypes, recvbuf, recvcounts, rdispls, recvtypes));
