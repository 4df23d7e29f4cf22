/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_MPI_REAL_H
#define CKPT_CLIENT_MPI_REAL_H

/* MPI's own functions, of the library behind this one. Each of ours is defined under both names, MPI_X and PMPI_X, because
 * Fortran bindings may call the second (Debian's Open MPI does); so neither name leads out of here, and every function that
 * we define is called as real.X. What we do not define is called as usual. */

#include <mpi.h>

/* Handles are pointers in Open MPI, numbers in MPICH. */
#if defined(OPEN_MPI)
#define MPI_HANDLES_ARE_POINTERS 1
#define MPI_PERSISTENT_COLLECTIVE(name) MPIX_##name /* of MPI 4, ahead of it */
#define PMPI_PERSISTENT_COLLECTIVE(name) PMPIX_##name
#include <mpi-ext.h>
#elif defined(MPICH_VERSION)
#define MPI_HANDLES_ARE_POINTERS 0
#define MPI_PERSISTENT_COLLECTIVE(name) MPI_##name
#define PMPI_PERSISTENT_COLLECTIVE(name) PMPI_##name
#else
#error "libtidemark_mpi knows the handles of Open MPI and of MPICH only"
#endif

#define REAL_MESSAGES(X)                                                                                                     \
    X(Send) X(Ssend) X(Bsend) X(Rsend) X(Isend) X(Issend) X(Ibsend) X(Irsend) X(Recv) X(Irecv) X(Sendrecv)                   \
    X(Sendrecv_replace) X(Probe) X(Iprobe) X(Mprobe) X(Improbe) X(Mrecv) X(Imrecv)                                           \
    X(Send_init) X(Ssend_init) X(Bsend_init) X(Rsend_init) X(Recv_init)

#define REAL_REQUESTS(X)                                                                                                     \
    X(Wait) X(Waitall) X(Waitany) X(Waitsome) X(Test) X(Testall) X(Testany) X(Testsome) X(Request_get_status)                \
    X(Request_free) X(Cancel) X(Start) X(Startall) X(Grequest_start) X(Type_free)                       \
    REAL_POINTER_HANDLES(X)

#if MPI_HANDLES_ARE_POINTERS
#define REAL_POINTER_HANDLES(X) X(Request_c2f) X(Request_f2c) X(Message_c2f) X(Message_f2c)
#else
#define REAL_POINTER_HANDLES(X)
#endif

#define REAL_COMMUNICATORS(X)                                                                                                \
    X(Init) X(Init_thread) X(Finalize) X(Comm_dup) X(Comm_dup_with_info) X(Comm_idup) X(Comm_create) X(Comm_create_group)    \
    X(Comm_split) X(Comm_split_type) X(Comm_free) X(Comm_disconnect) X(Comm_set_errhandler) X(Cart_create) X(Cart_sub)       \
    X(Graph_create) X(Dist_graph_create) X(Dist_graph_create_adjacent) X(Intercomm_create) X(Intercomm_merge)                \
    X(Comm_spawn) X(Comm_spawn_multiple) X(Comm_accept) X(Comm_connect) X(Comm_join) X(Comm_get_parent)    \
    X(Comm_create_keyval) X(Comm_free_keyval)

#define REAL_COLLECTIVES(X)                                                                                                  \
    X(Barrier) X(Bcast) X(Gather) X(Gatherv) X(Scatter) X(Scatterv) X(Allgather) X(Allgatherv) X(Alltoall) X(Alltoallv)      \
    X(Alltoallw) X(Reduce) X(Allreduce) X(Reduce_scatter) X(Reduce_scatter_block) X(Scan) X(Exscan) X(Neighbor_allgather)    \
    X(Neighbor_allgatherv) X(Neighbor_alltoall) X(Neighbor_alltoallv) X(Neighbor_alltoallw)

#define REAL_NONBLOCKING_COLLECTIVES(X)                                                                                      \
    X(Ibarrier) X(Ibcast) X(Igather) X(Igatherv) X(Iscatter) X(Iscatterv) X(Iallgather) X(Iallgatherv) X(Ialltoall)          \
    X(Ialltoallv) X(Ialltoallw) X(Ireduce) X(Iallreduce) X(Ireduce_scatter) X(Ireduce_scatter_block) X(Iscan) X(Iexscan)     \
    X(Ineighbor_allgather) X(Ineighbor_allgatherv) X(Ineighbor_alltoall) X(Ineighbor_alltoallv) X(Ineighbor_alltoallw)

#define REAL_PERSISTENT_COLLECTIVES(X)                                                                                       \
    X(Barrier_init) X(Bcast_init) X(Gather_init) X(Gatherv_init) X(Scatter_init) X(Scatterv_init) X(Allgather_init)          \
    X(Allgatherv_init) X(Alltoall_init) X(Alltoallv_init) X(Alltoallw_init) X(Reduce_init) X(Allreduce_init)                 \
    X(Reduce_scatter_init) X(Reduce_scatter_block_init) X(Scan_init) X(Exscan_init) X(Neighbor_allgather_init)               \
    X(Neighbor_allgatherv_init) X(Neighbor_alltoall_init) X(Neighbor_alltoallv_init) X(Neighbor_alltoallw_init)

#define REAL_WINDOWS(X)                                                                                                      \
    X(Win_allocate_shared) X(Win_free) X(Win_fence) X(Win_start) X(Win_complete)                                             \
    X(Win_post) X(Win_wait) X(Win_test) X(Win_lock) X(Win_unlock) X(Win_lock_all) X(Win_unlock_all)                          \
    X(Put) X(Get) X(Accumulate) X(Get_accumulate) X(Fetch_and_op) X(Compare_and_swap) X(Rput) X(Rget) X(Raccumulate)         \
    X(Rget_accumulate)

#define REAL_FILES(X)                                                                                                        \
    X(File_iread) X(File_iread_at) X(File_iread_all) X(File_iread_at_all) X(File_iread_shared) X(File_iwrite)                \
    X(File_iwrite_at) X(File_iwrite_all) X(File_iwrite_at_all) X(File_iwrite_shared) X(File_read_all_begin)                  \
    X(File_read_all_end) X(File_read_at_all_begin) X(File_read_at_all_end) X(File_read_ordered_begin)                        \
    X(File_read_ordered_end) X(File_write_all_begin) X(File_write_all_end) X(File_write_at_all_begin)                        \
    X(File_write_at_all_end) X(File_write_ordered_begin) X(File_write_ordered_end)

#define REAL_MPI(X)                                                                                                          \
    REAL_MESSAGES(X) REAL_REQUESTS(X) REAL_COMMUNICATORS(X) REAL_COLLECTIVES(X) REAL_NONBLOCKING_COLLECTIVES(X)              \
    REAL_WINDOWS(X) REAL_FILES(X)

struct real {
#define MEMBER(name) __typeof__(PMPI_##name) *name;
#define MEMBER_PERSISTENT(name) __typeof__(PMPI_PERSISTENT_COLLECTIVE(name)) *name;
    REAL_MPI(MEMBER)
    REAL_PERSISTENT_COLLECTIVES(MEMBER_PERSISTENT)
#undef MEMBER
#undef MEMBER_PERSISTENT
};

extern struct real real; /* filled before main */

/* `name` under its second name too. */
#define INTERPOSED(name) __typeof__(PMPI_##name) PMPI_##name __attribute__((alias("MPI_" #name)))

#endif
