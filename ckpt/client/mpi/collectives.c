/* SPDX-License-Identifier: Apache-2.0 */

/* libtidemark_mpi: counts the collectives a program enters on MPI_COMM_WORLD, by MPI's profiling interface (MPI 3.1,
 * chapter 14). Link it before the MPI library or preload it. Fortran bindings that call PMPI_* directly, as Debian's Open
 * MPI does, are not seen: such a program's counts stay 0 on every rank.
 *
 * One line per collective: name, parameters, arguments. The count is taken on entry: ranks that stand at the same safe
 * point have entered the same collectives, whether or not the nonblocking ones have completed. */

#include <mpi.h>

#include "ckpt/client/mpi/counters.h"

static struct tide_mpi_counters counters;

const struct tide_mpi_counters *tide_mpi_counters(void)
{
    return &counters;
}

static void count(MPI_Comm comm)
{
    if (comm == MPI_COMM_WORLD)
        atomic_fetch_add_explicit(&counters.collectives, 1, memory_order_relaxed);
}

#define COLLECTIVE(name, parameters, arguments) \
    int MPI_##name parameters                   \
    {                                           \
        count(comm);                            \
        return PMPI_##name arguments;           \
    }

#define UNPACK(...) __VA_ARGS__

#define IN const void *sendbuf, int sendcount, MPI_Datatype sendtype
#define IN_V const void *sendbuf, const int *sendcounts, const int *sdispls, MPI_Datatype sendtype
#define OUT void *recvbuf, int recvcount, MPI_Datatype recvtype
#define OUT_V void *recvbuf, const int *recvcounts, const int *rdispls, MPI_Datatype recvtype
#define REDUCE const void *sendbuf, void *recvbuf, int recvcount, MPI_Datatype type, MPI_Op op

COLLECTIVE(Barrier, (MPI_Comm comm), (comm))
COLLECTIVE(Ibarrier, (MPI_Comm comm, MPI_Request *request), (comm, request))

/* Blocking and nonblocking twins differ in one parameter. */
#define BOTH(blocking, nonblocking, parameters, arguments)                                \
    COLLECTIVE(blocking, (UNPACK parameters, MPI_Comm comm), (UNPACK arguments, comm))    \
    COLLECTIVE(nonblocking, (UNPACK parameters, MPI_Comm comm, MPI_Request * request), (UNPACK arguments, comm, request))

BOTH(Bcast, Ibcast, (void *buffer, int n, MPI_Datatype type, int root), (buffer, n, type, root))
BOTH(Gather, Igather, (IN, OUT, int root), (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype, root))
BOTH(Gatherv, Igatherv, (IN, OUT_V, int root), (sendbuf, sendcount, sendtype, recvbuf, recvcounts, rdispls, recvtype, root))
BOTH(Scatter, Iscatter, (IN, OUT, int root), (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype, root))
BOTH(Scatterv, Iscatterv, (IN_V, OUT, int root), (sendbuf, sendcounts, sdispls, sendtype, recvbuf, recvcount, recvtype, root))
BOTH(Allgather, Iallgather, (IN, OUT), (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype))
BOTH(Allgatherv, Iallgatherv, (IN, OUT_V), (sendbuf, sendcount, sendtype, recvbuf, recvcounts, rdispls, recvtype))
BOTH(Alltoall, Ialltoall, (IN, OUT), (sendbuf, sendcount, sendtype, recvbuf, recvcount, recvtype))
BOTH(Alltoallv, Ialltoallv, (IN_V, OUT_V), (sendbuf, sendcounts, sdispls, sendtype, recvbuf, recvcounts, rdispls, recvtype))
BOTH(Alltoallw, Ialltoallw,
     (const void *sendbuf, const int *sendcounts, const int *sdispls, const MPI_Datatype *sendtypes, void *recvbuf,
      const int *recvcounts, const int *rdispls, const MPI_Datatype *recvtypes),
     (sendbuf, sendcounts, sdispls, sendtypes, recvbuf, recvcounts, rdispls, recvtypes))
BOTH(Reduce, Ireduce, (REDUCE, int root), (sendbuf, recvbuf, recvcount, type, op, root))
BOTH(Allreduce, Iallreduce, (REDUCE), (sendbuf, recvbuf, recvcount, type, op))
BOTH(Reduce_scatter, Ireduce_scatter,
     (const void *sendbuf, void *recvbuf, const int *recvcounts, MPI_Datatype type, MPI_Op op),
     (sendbuf, recvbuf, recvcounts, type, op))
BOTH(Reduce_scatter_block, Ireduce_scatter_block, (REDUCE), (sendbuf, recvbuf, recvcount, type, op))
BOTH(Scan, Iscan, (REDUCE), (sendbuf, recvbuf, recvcount, type, op))
BOTH(Exscan, Iexscan, (REDUCE), (sendbuf, recvbuf, recvcount, type, op))
