/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/mpi/inside.h"
#include "ckpt/cut/comm_id.h"

/* Calls that make communicators. All but MPI_Comm_idup are blocking collectives over the members of what they make, so that
 * a twin can be made in them too. */

static uint64_t id_of(MPI_Comm handle)
{
    inside_lock();
    struct comm *comm = comm_find(handle);
    uint64_t id = comm ? comm->id : CUT_COMM_NO_PARENT;
    inside_unlock();
    return id;
}

/* A twin is made of what was made. */
static int adopt(int error, const MPI_Comm *made, MPI_Comm parent)
{
    return error == MPI_SUCCESS ? comm_adopt(*made, id_of(parent)) : error;
}

#define UNPACK(...) __VA_ARGS__

#define CREATE(name, parameters, arguments)                                                                                 \
    int MPI_##name(MPI_Comm parent UNPACK parameters, MPI_Comm *made)                                                       \
    {                                                                                                                       \
        comm_count_collective(parent);                                                                                      \
        bool blocked = blocked_enter();                                                                                     \
        int error = adopt(real.name(parent UNPACK arguments, made), made, parent);                                          \
        if (UNLIKELY(blocked))                                                                                              \
            blocked_leave();                                                                                                \
        return error;                                                                                                       \
    }                                                                                                                       \
    INTERPOSED(name)

CREATE(Comm_dup, (), ());
CREATE(Comm_dup_with_info, (, MPI_Info info), (, info));
CREATE(Comm_create, (, MPI_Group group), (, group));
CREATE(Comm_split, (, int colour, int key), (, colour, key));
CREATE(Comm_split_type, (, int type, int key, MPI_Info info), (, type, key, info));
CREATE(Cart_create, (, int n, const int *dims, const int *periods, int reorder), (, n, dims, periods, reorder));
CREATE(Cart_sub, (, const int *remains), (, remains));
CREATE(Graph_create, (, int n, const int *index, const int *edges, int reorder), (, n, index, edges, reorder));
CREATE(Dist_graph_create,
       (, int n, const int *sources, const int *degrees, const int *destinations, const int *weights, MPI_Info info,
        int reorder),
       (, n, sources, degrees, destinations, weights, info, reorder));
CREATE(Dist_graph_create_adjacent,
       (, int n_in, const int *sources, const int *weights_in, int n_out, const int *destinations, const int *weights_out,
        MPI_Info info, int reorder),
       (, n_in, sources, weights_in, n_out, destinations, weights_out, info, reorder));
CREATE(Intercomm_merge, (, int high), (, high));

/* ---- by messages on a communicator of the program's ----
 *
 * Open MPI sends them with the tag that the program gives, so that one who takes all there is would take them: they are sent on a
 * communicator of our own. */

static bool is_within(MPI_Group group, MPI_Comm handle)
{
    MPI_Group all, both;
    int size = 0, within = -1;
    PMPI_Group_size(group, &size);
    if (PMPI_Comm_group(handle, &all) != MPI_SUCCESS)
        return false;
    if (PMPI_Group_intersection(group, all, &both) == MPI_SUCCESS) {
        PMPI_Group_size(both, &within);
        PMPI_Group_free(&both);
    }
    PMPI_Group_free(&all);
    return within == size;
}

static int create_group(MPI_Comm parent, MPI_Group group, int tag, MPI_Comm *made)
{
    MPI_Errhandler handler;
    inside_lock();
    bool ours = comm_find(parent) != NULL;
    inside_unlock();
    if (!ours || group == MPI_GROUP_NULL || !is_within(group, parent)) /* MPI complains */
        return real.Comm_create_group(parent, group, tag, made);
    int error = real.Comm_create_group(inside.leaders, group, tag, made);
    if (error != MPI_SUCCESS || *made == MPI_COMM_NULL)
        return error;
    PMPI_Comm_get_errhandler(parent, &handler);
    PMPI_Comm_set_errhandler(*made, handler);
    return PMPI_Errhandler_free(&handler);
}

/* Only those in the group take part: it is not counted as a collective of the parent's. */
int MPI_Comm_create_group(MPI_Comm parent, MPI_Group group, int tag, MPI_Comm *made)
{
    bool blocked = blocked_enter();
    int error = adopt(create_group(parent, group, tag, made), made, parent);
    if (UNLIKELY(blocked))
        blocked_leave();
    return error;
}
INTERPOSED(Comm_create_group);

/* What is not a leader's does not matter. Both leaders have to come to the same, and the peer communicator is all that they share: what
 * each leads may be followed or not. */
static void leader_of(MPI_Comm local, int leader, MPI_Comm *peer, int *remote_leader)
{
    int rank = 0;
    if (local == MPI_COMM_NULL || PMPI_Comm_rank(local, &rank) != MPI_SUCCESS || rank != leader)
        return;
    inside_lock();
    const struct comm *between = comm_find(*peer);
    if (between && (unsigned)*remote_leader < (unsigned)between->size) {
        *remote_leader = (int)between->world[*remote_leader];
        *peer = inside.leaders;
    }
    inside_unlock();
}

int MPI_Intercomm_create(MPI_Comm local, int leader, MPI_Comm peer, int remote_leader, int tag, MPI_Comm *made)
{
    comm_count_collective(local);
    bool blocked = blocked_enter();
    if (inside.on)
        leader_of(local, leader, &peer, &remote_leader);
    int error = adopt(real.Intercomm_create(local, leader, peer, remote_leader, tag, made), made, local);
    if (UNLIKELY(blocked))
        blocked_leave();
    return error;
}
INTERPOSED(Intercomm_create);

/* ---- in the background ---- */

static int real_idup(MPI_Comm parent, const MPI_Info *info, MPI_Comm *made, MPI_Request *request)
{
#if MPI_VERSION >= 4
    if (info)
        return real.Comm_idup_with_info(parent, *info, made, request);
#endif
    (void)info;
    return real.Comm_idup(parent, made, request);
}

static int idup(MPI_Comm parent, const MPI_Info *info, MPI_Comm *made, MPI_Request *ret_handle)
{
    inside_lock();
    struct comm *comm = comm_find(parent);
    struct request *request = comm ? request_create(REQUEST_CREATE, comm) : NULL;
    if (request == NULL) {
        int error = real_idup(parent, info, made, ret_handle);
        inside.outstanding += inside.on && error == MPI_SUCCESS;
        inside.foreign += inside.on && error == MPI_SUCCESS; /* without a twin */
        inside_unlock();
        return error;
    }
    comm->collectives++;
    request->created_id = comm_next_id(parent, comm->id);
    request->ret_created = made;
    int error = real_idup(parent, info, &request->created[0], &request->real);
    if (error == MPI_SUCCESS)
        error = real.Comm_idup(comm->colour[1], &request->created[1], &request->real_twin);
    request->state = REQUEST_REAL;
    if (error == MPI_SUCCESS) {
        *ret_handle = request_handle(request);
        inside.outstanding++;
    } else {
        request_destroy(request);
    }
    inside_unlock();
    return error;
}

int MPI_Comm_idup(MPI_Comm parent, MPI_Comm *made, MPI_Request *handle)
{
    return idup(parent, NULL, made, handle);
}
INTERPOSED(Comm_idup);

#if MPI_VERSION >= 4
int MPI_Comm_idup_with_info(MPI_Comm parent, MPI_Info info, MPI_Comm *made, MPI_Request *handle)
{
    return idup(parent, &info, made, handle);
}
INTERPOSED(Comm_idup_with_info);
#endif

bool create_advance(struct request *request)
{
    int done = 0, done_twin = 0;
    MPI_Status status;
    if (request->real != MPI_REQUEST_NULL)
        request->error = real.Test(&request->real, &done, &status);
    if (request->real_twin != MPI_REQUEST_NULL && request->error == MPI_SUCCESS)
        request->error = real.Test(&request->real_twin, &done_twin, &status);
    bool whole = request->real == MPI_REQUEST_NULL && request->real_twin == MPI_REQUEST_NULL;
    if (!whole && request->error == MPI_SUCCESS)
        return false;
    if (request->error == MPI_SUCCESS)
        request->error = comm_adopt_pair(request->created[0], request->created[1], request->created_id, request->comm->id);
    *request->ret_created = request->created[0];
    status_empty(&request->status);
    request->state = REQUEST_DONE;
    return true;
}

/* ---- with processes outside of MPI_COMM_WORLD: left alone, and known to be there ----
 *
 * They wait for others, of this world too. */

static int foreign(int error, bool blocked)
{
    if (UNLIKELY(blocked))
        blocked_leave();
    if (inside.on && error == MPI_SUCCESS) {
        inside_lock();
        inside.foreign++;
        inside_unlock();
    }
    return error;
}

int MPI_Comm_spawn(const char *command, char *argv[], int maxprocs, MPI_Info info, int root, MPI_Comm comm, MPI_Comm *made,
                   int errcodes[])
{
    bool blocked = blocked_enter();
    return foreign(real.Comm_spawn(command, argv, maxprocs, info, root, comm, made, errcodes), blocked);
}

int MPI_Comm_spawn_multiple(int count, char *commands[], char **argvs[], const int maxprocs[], const MPI_Info infos[],
                            int root, MPI_Comm comm, MPI_Comm *made, int errcodes[])
{
    bool blocked = blocked_enter();
    return foreign(real.Comm_spawn_multiple(count, commands, argvs, maxprocs, infos, root, comm, made, errcodes), blocked);
}

int MPI_Comm_accept(const char *port, MPI_Info info, int root, MPI_Comm comm, MPI_Comm *made)
{
    bool blocked = blocked_enter();
    return foreign(real.Comm_accept(port, info, root, comm, made), blocked);
}

int MPI_Comm_connect(const char *port, MPI_Info info, int root, MPI_Comm comm, MPI_Comm *made)
{
    bool blocked = blocked_enter();
    return foreign(real.Comm_connect(port, info, root, comm, made), blocked);
}

int MPI_Comm_join(int fd, MPI_Comm *made)
{
    bool blocked = blocked_enter();
    return foreign(real.Comm_join(fd, made), blocked);
}

INTERPOSED(Comm_spawn);
INTERPOSED(Comm_spawn_multiple);
INTERPOSED(Comm_accept);
INTERPOSED(Comm_connect);
INTERPOSED(Comm_join);
