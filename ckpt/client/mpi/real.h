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
    X(Sendrecv_replace) X(Probe) X(Iprobe) X(Mprobe) X(Improbe) X(Mrecv) X(Imrecv) X(Send_init) X(Ssend_init)                \
    X(Bsend_init) X(Rsend_init) X(Recv_init) X(Buffer_detach)

#define REAL_REQUESTS(X)                                                                                                     \
    X(Wait) X(Waitall) X(Waitany) X(Waitsome) X(Test) X(Testall) X(Testany) X(Testsome) X(Request_get_status)                \
    X(Request_free) X(Cancel) X(Start) X(Startall) X(Grequest_start) X(Type_free) REAL_POINTER_HANDLES(X)

#if MPI_HANDLES_ARE_POINTERS
#define REAL_POINTER_HANDLES(X)                                                                                              \
    X(Request_c2f) X(Request_f2c) X(Message_c2f) X(Message_f2c)
#else
#define REAL_POINTER_HANDLES(X)
#endif

#define REAL_COMMUNICATORS(X)                                                                                                \
    X(Init) X(Init_thread) X(Finalize) X(Comm_dup) X(Comm_dup_with_info) X(Comm_idup) X(Comm_create) X(Comm_create_group)    \
    X(Comm_split) X(Comm_split_type) X(Comm_free) X(Comm_disconnect) X(Cart_create) X(Cart_sub) X(Graph_create)              \
    X(Dist_graph_create) X(Dist_graph_create_adjacent) X(Intercomm_create) X(Intercomm_merge) X(Comm_spawn)                  \
    X(Comm_spawn_multiple) X(Comm_accept) X(Comm_connect) X(Comm_join) X(Comm_get_parent) X(Comm_create_keyval)              \
    X(Comm_free_keyval)

#define REAL_COLLECTIVE_DATA(X, x)                                                                                           \
    X(Bcast##x) X(Gather##x) X(Gatherv##x) X(Scatter##x) X(Scatterv##x) X(Allgather##x) X(Allgatherv##x) X(Alltoall##x)      \
    X(Alltoallv##x) X(Alltoallw##x) X(Reduce##x) X(Allreduce##x) X(Reduce_scatter##x) X(Reduce_scatter_block##x)             \
    X(Scan##x) X(Exscan##x) X(Neighbor_allgather##x) X(Neighbor_allgatherv##x) X(Neighbor_alltoall##x)                       \
    X(Neighbor_alltoallv##x) X(Neighbor_alltoallw##x)

#define REAL_NONBLOCKING_COLLECTIVE_DATA(X, x)                                                                               \
    X(Ibcast##x) X(Igather##x) X(Igatherv##x) X(Iscatter##x) X(Iscatterv##x) X(Iallgather##x) X(Iallgatherv##x)              \
    X(Ialltoall##x) X(Ialltoallv##x) X(Ialltoallw##x) X(Ireduce##x) X(Iallreduce##x) X(Ireduce_scatter##x)                   \
    X(Ireduce_scatter_block##x) X(Iscan##x) X(Iexscan##x) X(Ineighbor_allgather##x) X(Ineighbor_allgatherv##x)               \
    X(Ineighbor_alltoall##x) X(Ineighbor_alltoallv##x) X(Ineighbor_alltoallw##x)

#define REAL_PERSISTENT_COLLECTIVE_DATA(X, x)                                                                                \
    X(Bcast_init##x) X(Gather_init##x) X(Gatherv_init##x) X(Scatter_init##x) X(Scatterv_init##x) X(Allgather_init##x)        \
    X(Allgatherv_init##x) X(Alltoall_init##x) X(Alltoallv_init##x) X(Alltoallw_init##x) X(Reduce_init##x)                    \
    X(Allreduce_init##x) X(Reduce_scatter_init##x) X(Reduce_scatter_block_init##x) X(Scan_init##x) X(Exscan_init##x)         \
    X(Neighbor_allgather_init##x) X(Neighbor_allgatherv_init##x) X(Neighbor_alltoall_init##x)                                \
    X(Neighbor_alltoallv_init##x) X(Neighbor_alltoallw_init##x)

#define REAL_COLLECTIVES(X) X(Barrier) REAL_COLLECTIVE_DATA(X, )
#define REAL_NONBLOCKING_COLLECTIVES(X) X(Ibarrier) REAL_NONBLOCKING_COLLECTIVE_DATA(X, )
#define REAL_PERSISTENT_COLLECTIVES(X) X(Barrier_init) REAL_PERSISTENT_COLLECTIVE_DATA(X, )

#define REAL_WINDOW_DATA(X, x)                                                                                               \
    X(Win_create##x) X(Win_allocate##x) X(Win_allocate_shared##x) X(Put##x) X(Get##x) X(Accumulate##x)                       \
    X(Get_accumulate##x) X(Rput##x) X(Rget##x) X(Raccumulate##x) X(Rget_accumulate##x)

#define REAL_WINDOWS(X)                                                                                                      \
    REAL_WINDOW_DATA(X, ) X(Win_create_dynamic) X(Win_free) X(Win_fence) X(Win_start) X(Win_complete) X(Win_post)            \
    X(Win_wait) X(Win_test) X(Win_lock) X(Win_unlock) X(Win_lock_all) X(Win_unlock_all) X(Win_flush) X(Win_flush_all)        \
    X(Win_flush_local) X(Win_flush_local_all) X(Win_sync) X(Fetch_and_op) X(Compare_and_swap)

/* Those that move data, with counts of one size. */
#define REAL_FILE_DATA(X, x)                                                                                                 \
    X(File_iread##x) X(File_iread_at##x) X(File_iread_all##x) X(File_iread_at_all##x) X(File_iread_shared##x)                \
    X(File_iwrite##x) X(File_iwrite_at##x) X(File_iwrite_all##x) X(File_iwrite_at_all##x) X(File_iwrite_shared##x)           \
    X(File_read_all##x) X(File_read_at_all##x) X(File_read_ordered##x) X(File_write_all##x) X(File_write_at_all##x)          \
    X(File_write_ordered##x) X(File_read_all_begin##x) X(File_read_at_all_begin##x) X(File_read_ordered_begin##x)            \
    X(File_write_all_begin##x) X(File_write_at_all_begin##x) X(File_write_ordered_begin##x)

#define REAL_FILES(X)                                                                                                        \
    REAL_FILE_DATA(X, ) X(File_read_all_end) X(File_read_at_all_end) X(File_read_ordered_end) X(File_write_all_end)          \
    X(File_write_at_all_end) X(File_write_ordered_end) X(File_open) X(File_close) X(File_set_view) X(File_set_size)          \
    X(File_preallocate) X(File_set_atomicity) X(File_seek_shared) X(File_sync)

#if MPI_VERSION >= 4
#define REAL_MPI_4(X)                                                                                                        \
    REAL_COLLECTIVE_DATA(X, _c) REAL_NONBLOCKING_COLLECTIVE_DATA(X, _c) REAL_PERSISTENT_COLLECTIVE_DATA(X, _c)               \
    REAL_WINDOW_DATA(X, _c) REAL_FILE_DATA(X, _c) X(Isendrecv) X(Isendrecv_replace) X(Psend_init) X(Precv_init)              \
    X(Pready) X(Pready_range) X(Pready_list) X(Parrived) X(Session_init) X(Session_finalize) X(Comm_idup_with_info)               \
    X(Buffer_detach_c)
#else
#define REAL_MPI_4(X)
#endif

#define REAL_MPI(X)                                                                                                          \
    REAL_MESSAGES(X) REAL_REQUESTS(X) REAL_COMMUNICATORS(X) REAL_COLLECTIVES(X) REAL_NONBLOCKING_COLLECTIVES(X)              \
    REAL_WINDOWS(X) REAL_FILES(X) REAL_MPI_4(X)

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
