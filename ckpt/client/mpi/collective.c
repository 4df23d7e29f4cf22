/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/mpi/inside.h"

/* Collectives go to MPI as they are, and are counted per communicator. One line per collective: its names, parameters,
 * arguments. The count is taken on entry: ranks at one safe point have entered the same collectives, whether or not
 * nonblocking ones are complete. Blocking ones are waited for in MPI: it matches no others with them. */

#define UNPACK(...) __VA_ARGS__

#define BLOCKING(name, parameters, arguments, root)                                                                               \
    int MPI_##name(UNPACK parameters, MPI_Comm handle)                                                                      \
    {                                                                                                                       \
        bool parked = collective_enter(handle, root);                                                                       \
        int error = real.name(UNPACK arguments, handle);                                                                    \
        if (UNLIKELY(parked))                                                                                               \
            blocked_leave();                                                                                                \
        return error;                                                                                                       \
    }                                                                                                                       \
    INTERPOSED(name)

#define NONBLOCKING(name, parameters, arguments)                                                                            \
    int MPI_##name(UNPACK parameters, MPI_Comm handle, MPI_Request *request)                                                \
    {                                                                                                                       \
        comm_count_collective(handle);                                                                                      \
        int error = real.name(UNPACK arguments, handle, request);                                                           \
        request_held(error, *request, UNREPEATABLE_COLLECTIVE);                                                             \
        return error;                                                                                                       \
    }                                                                                                                       \
    INTERPOSED(name)

#define PERSISTENT_ALIAS(name)                                                                                              \
    __typeof__(PMPI_PERSISTENT_COLLECTIVE(name)) PMPI_PERSISTENT_COLLECTIVE(name)                                           \
        __attribute__((alias(PERSISTENT_NAME(name))))
#if MPI_HANDLES_ARE_POINTERS
#define PERSISTENT_NAME(name) "MPIX_" #name
#else
#define PERSISTENT_NAME(name) "MPI_" #name
#endif

#define PERSISTENT(name, parameters, arguments)                                                                             \
    int MPI_PERSISTENT_COLLECTIVE(name)(UNPACK parameters, MPI_Comm handle, MPI_Info info, MPI_Request * request)           \
    {                                                                                                                       \
        int error = real.name(UNPACK arguments, handle, info, request);                                                     \
        return request_pass(error, PASSED_COLLECTIVE, handle, request);                                                     \
    }                                                                                                                       \
    PERSISTENT_ALIAS(name)

#define ALL(...) EVERY(__VA_ARGS__, NO_ROOT)
/* Its root waits for all, others for the root alone. */
#define FROM_ROOT(...) EVERY(__VA_ARGS__, root)
#define EVERY(blocking, nonblocking, persistent, parameters, arguments, root)                                               \
    BLOCKING(blocking, parameters, arguments, root);                                                                        \
    NONBLOCKING(nonblocking, parameters, arguments);                                                                        \
    PERSISTENT(persistent, parameters, arguments)

#define IN const void *sendbuf, COUNT sendcount, MPI_Datatype sendtype
#define IN_V const void *sendbuf, const COUNT *sendcounts, const PLACE *sdispls, MPI_Datatype sendtype
#define OUT void *recvbuf, COUNT recvcount, MPI_Datatype recvtype
#define OUT_V void *recvbuf, const COUNT *recvcounts, const PLACE *rdispls, MPI_Datatype recvtype
#define REDUCE const void *sendbuf, void *recvbuf, COUNT recvcount, MPI_Datatype type, MPI_Op op

/* ---- entering ---- */

static inline bool collective_enter(MPI_Comm handle, int root)
{
    comm_count_collective(handle);
    return blocked_enter_collective(handle, root);
}

/* ---- all of them ---- */

int MPI_Barrier(MPI_Comm handle)
{
    bool parked = collective_enter(handle, NO_ROOT);
    int error = real.Barrier(handle);
    if (UNLIKELY(parked))
        blocked_leave();
    return error;
}
INTERPOSED(Barrier);

int MPI_Ibarrier(MPI_Comm handle, MPI_Request *request)
{
    comm_count_collective(handle);
    int error = real.Ibarrier(handle, request);
    request_held(error, *request, UNREPEATABLE_COLLECTIVE);
    return error;
}
INTERPOSED(Ibarrier);

int MPI_PERSISTENT_COLLECTIVE(Barrier_init)(MPI_Comm handle, MPI_Info info, MPI_Request *request)
{
    int error = real.Barrier_init(handle, info, request);
    return request_pass(error, PASSED_COLLECTIVE, handle, request);
}
PERSISTENT_ALIAS(Barrier_init);

/* With counts of one size. */
#define DATA_CALLS(x)                                                                                                       \
    FROM_ROOT(Bcast##x, Ibcast##x, Bcast_init##x, (void *buffer, COUNT n, MPI_Datatype type, int root),                     \
        (buffer, n, type, root));                                                                                           \
    ALL(Gather##x, Igather##x, Gather_init##x, (IN, OUT, int root),                                                         \
        (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype, root));                                                \
    ALL(Gatherv##x, Igatherv##x, Gatherv_init##x, (IN, OUT_V, int root),                                                    \
        (sendbuf, sendcount, sendtype, recvbuf, recvcounts, rdispls, recvtype, root));                                      \
    FROM_ROOT(Scatter##x, Iscatter##x, Scatter_init##x, (IN, OUT, int root),                                                      \
        (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype, root));                                                \
    FROM_ROOT(Scatterv##x, Iscatterv##x, Scatterv_init##x, (IN_V, OUT, int root),                                                 \
        (sendbuf, sendcounts, sdispls, sendtype, recvbuf, recvcount, recvtype, root));                                      \
    ALL(Allgather##x, Iallgather##x, Allgather_init##x, (IN, OUT),                                                          \
        (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype));                                                      \
    ALL(Allgatherv##x, Iallgatherv##x, Allgatherv_init##x, (IN, OUT_V),                                                     \
        (sendbuf, sendcount, sendtype, recvbuf, recvcounts, rdispls, recvtype));                                            \
    ALL(Alltoall##x, Ialltoall##x, Alltoall_init##x, (IN, OUT),                                                             \
        (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype));                                                      \
    ALL(Alltoallv##x, Ialltoallv##x, Alltoallv_init##x, (IN_V, OUT_V),                                                      \
        (sendbuf, sendcounts, sdispls, sendtype, recvbuf, recvcounts, rdispls, recvtype));                                  \
    ALL(Alltoallw##x, Ialltoallw##x, Alltoallw_init##x,                                                                     \
        (const void *sendbuf, const COUNT *sendcounts, const PLACE *sdispls, const MPI_Datatype *sendtypes, void *recvbuf,  \
         const COUNT *recvcounts, const PLACE *rdispls, const MPI_Datatype *recvtypes),                                     \
        (sendbuf, sendcounts, sdispls, sendtypes, recvbuf, recvcounts, rdispls, recvtypes));                                \
    ALL(Reduce##x, Ireduce##x, Reduce_init##x, (REDUCE, int root), (sendbuf, recvbuf, recvcount, type, op, root));          \
    ALL(Allreduce##x, Iallreduce##x, Allreduce_init##x, (REDUCE), (sendbuf, recvbuf, recvcount, type, op));                 \
    ALL(Reduce_scatter##x, Ireduce_scatter##x, Reduce_scatter_init##x,                                                      \
        (const void *sendbuf, void *recvbuf, const COUNT *recvcounts, MPI_Datatype type, MPI_Op op),                        \
        (sendbuf, recvbuf, recvcounts, type, op));                                                                          \
    ALL(Reduce_scatter_block##x, Ireduce_scatter_block##x, Reduce_scatter_block_init##x, (REDUCE),                          \
        (sendbuf, recvbuf, recvcount, type, op));                                                                           \
    ALL(Scan##x, Iscan##x, Scan_init##x, (REDUCE), (sendbuf, recvbuf, recvcount, type, op));                                \
    ALL(Exscan##x, Iexscan##x, Exscan_init##x, (REDUCE), (sendbuf, recvbuf, recvcount, type, op));                          \
    ALL(Neighbor_allgather##x, Ineighbor_allgather##x, Neighbor_allgather_init##x, (IN, OUT),                               \
        (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype));                                                      \
    ALL(Neighbor_allgatherv##x, Ineighbor_allgatherv##x, Neighbor_allgatherv_init##x, (IN, OUT_V),                          \
        (sendbuf, sendcount, sendtype, recvbuf, recvcounts, rdispls, recvtype));                                            \
    ALL(Neighbor_alltoall##x, Ineighbor_alltoall##x, Neighbor_alltoall_init##x, (IN, OUT),                                  \
        (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype));                                                      \
    ALL(Neighbor_alltoallv##x, Ineighbor_alltoallv##x, Neighbor_alltoallv_init##x, (IN_V, OUT_V),                           \
        (sendbuf, sendcounts, sdispls, sendtype, recvbuf, recvcounts, rdispls, recvtype));                                  \
    ALL(Neighbor_alltoallw##x, Ineighbor_alltoallw##x, Neighbor_alltoallw_init##x,                                          \
        (const void *sendbuf, const COUNT *sendcounts, const MPI_Aint *sdispls, const MPI_Datatype *sendtypes,              \
         void *recvbuf, const COUNT *recvcounts, const MPI_Aint *rdispls, const MPI_Datatype *recvtypes),                   \
        (sendbuf, sendcounts, sdispls, sendtypes, recvbuf, recvcounts, rdispls, recvtypes))

#define COUNT int
#define PLACE int
DATA_CALLS();
#undef COUNT
#undef PLACE
#if MPI_VERSION >= 4
#define COUNT MPI_Count
#define PLACE MPI_Aint
DATA_CALLS(_c);
#undef COUNT
#undef PLACE
#endif
