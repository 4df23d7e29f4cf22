/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"
#include "ckpt/cut/comm_id.h"

#define BUCKETS 256u    /* of handles */
#define BASES_FIRST 64u /* a power of two */
#define RANKS_TEXT 40u  /* members of a communicator without a name, as text */
#define RANKS_ROOM 28u  /* for two more of them, and dots */

static struct comm *buckets[BUCKETS];

/* How many communicators were made of each base (ckpt/cut/comm_id.h). Open addressing; base 0 is a free place. */
static struct base {
    uint64_t base, made;
} * bases;
static size_t base_room, base_count;

static struct comm **bucket_of(MPI_Comm handle)
{
    uint64_t key = (uint64_t)(uintptr_t)handle * UINT64_C(0x9e3779b97f4a7c15);
    return &buckets[key >> 56 & (BUCKETS - 1)];
}

struct comm *comm_find(MPI_Comm handle)
{
    if (!inside.on)
        return NULL;
    struct comm *comm = *bucket_of(handle);
    while (comm && comm->colour[0] != handle)
        comm = comm->bucket;
    if (!inside.many_threads) {
        inside.last_handle = handle;
        inside.last = comm;
    }
    return comm;
}

/* ---- identity ---- */

static struct base *base_at(struct base *table, size_t room, uint64_t base)
{
    size_t i = base & (room - 1);
    while (table[i].base != 0 && table[i].base != base)
        i = (i + 1) & (room - 1);
    return &table[i];
}

static bool bases_grow(void)
{
    size_t room = base_room ? base_room * 2 : BASES_FIRST;
    struct base *grown = mem_try_array(room, sizeof *grown);
    if (grown == NULL)
        return false;
    for (size_t i = 0; i < base_room; i++) {
        if (bases[i].base)
            *base_at(grown, room, bases[i].base) = bases[i];
    }
    mem_free(bases);
    bases = grown;
    base_room = room;
    return true;
}

/* How many of this base there were before; one more now. */
static uint64_t base_next(uint64_t base)
{
    if (base_count * 2 >= base_room && !bases_grow())
        return 0; /* two may be alike then: a record with both is refused */
    struct base *at = base_at(bases, base_room, base);
    if (at->base == 0)
        base_count++;
    at->base = base;
    return at->made++;
}

/* World ranks of a group. NULL: no memory, or some are outside. */
static uint32_t *world_ranks(MPI_Group group, int *ret_count)
{
    int size = 0;
    MPI_Group world;
    PMPI_Group_size(group, &size);
    uint32_t *ranks = mem_try_array(size > 0 ? (size_t)size : 1, sizeof *ranks);
    int *both = mem_try_array(size > 0 ? 2 * (size_t)size : 1, sizeof *both);
    bool all = ranks && both;
    PMPI_Comm_group(MPI_COMM_WORLD, &world);
    for (int i = 0; all && i < size; i++)
        both[i] = i;
    if (all && size > 0)
        PMPI_Group_translate_ranks(group, size, both, world, both + size);
    for (int i = 0; all && i < size; i++) {
        all = both[size + i] != MPI_UNDEFINED;
        ranks[i] = (uint32_t)both[size + i];
    }
    PMPI_Group_free(&world);
    mem_free(both);
    if (all) {
        *ret_count = size;
        return ranks;
    }
    mem_free(ranks);
    return NULL;
}

/* Its members: local ones, and those of the other side, NULL where there is none. False: some are outside the world. */
struct members {
    uint32_t *local, *remote;
    int local_count, remote_count;
};

static bool members_of(MPI_Comm handle, struct members *ret_members)
{
    int inter = 0;
    MPI_Group group;
    *ret_members = (struct members){.local = NULL};
    PMPI_Comm_test_inter(handle, &inter);
    PMPI_Comm_group(handle, &group);
    ret_members->local = world_ranks(group, &ret_members->local_count);
    PMPI_Group_free(&group);
    if (inter && ret_members->local) {
        PMPI_Comm_remote_group(handle, &group);
        ret_members->remote = world_ranks(group, &ret_members->remote_count);
        PMPI_Group_free(&group);
    }
    if (ret_members->local && (!inter || ret_members->remote))
        return true;
    mem_free(ret_members->local);
    return false;
}

static uint64_t next_id(const struct members *members, uint64_t parent)
{
    uint64_t base = cut_comm_base(members->remote ? CUT_COMM_NO_PARENT : parent, members->local,
                                  (size_t)members->local_count, members->remote, (size_t)members->remote_count);
    return cut_comm_id(base, base_next(base));
}

uint64_t comm_next_id(MPI_Comm like, uint64_t parent)
{
    struct members members;
    if (!members_of(like, &members))
        return 0;
    uint64_t id = next_id(&members, parent);
    mem_free(members.local);
    mem_free(members.remote);
    return id;
}

/* ---- coming and going ---- */

static void enter_bucket(struct comm *comm)
{
    struct comm **bucket = bucket_of(comm->colour[0]);
    comm->bucket = *bucket;
    *bucket = comm;
    inside.last_handle = MPI_COMM_NULL;
    inside.last = NULL;
}

static void leave_bucket(struct comm *comm)
{
    struct comm **at = bucket_of(comm->colour[0]);
    while (*at != comm)
        at = &(*at)->bucket;
    *at = comm->bucket;
    inside.last_handle = MPI_COMM_NULL;
    inside.last = NULL;
}

static void know(struct comm *comm, const struct members *members, MPI_Comm made, MPI_Comm twin, uint64_t id,
                 uint64_t parent)
{
    comm->colour[0] = made;
    comm->colour[1] = twin;
    comm->now = comm->colour[inside.cut.colour];
    comm->id = id;
    comm->parent = parent;
    comm->world = members->remote ? members->remote : members->local;
    comm->size = members->remote ? members->remote_count : members->local_count;
    comm->members = (uint32_t)(members->local_count + members->remote_count);
    if (members->remote)
        mem_free(members->local);
    cut_queue_init(&comm->queue);
    PMPI_Comm_set_errhandler(twin, inside.twin_errors);
    *inside.comms_end = comm;
    inside.comms_end = &comm->next;
    enter_bucket(comm);
}

static int adopt(const struct members *members, MPI_Comm made, MPI_Comm twin, uint64_t id, uint64_t parent)
{
    int size = members->remote ? members->remote_count : members->local_count;
    struct comm *comm = mem_try_alloc(sizeof *comm);
    struct tally *tallies = mem_try_array(2 * (size_t)size, sizeof *tallies);
    if (comm == NULL || tallies == NULL) {
        mem_free(comm);
        mem_free(tallies);
        return MPI_ERR_NO_MEM;
    }
    comm->quick = tallies;
    comm->all = tallies + size;
    inside_lock();
    know(comm, members, made, twin, id, parent);
    inside_unlock();
    return MPI_SUCCESS;
}

int comm_adopt(MPI_Comm made, uint64_t parent)
{
    struct members members;
    MPI_Comm twin = MPI_COMM_NULL;
    int rank = 0;
    if (!inside.on || made == MPI_COMM_NULL)
        return MPI_SUCCESS;
    if (!members_of(made, &members)) {
        inside.foreign++;
        return MPI_SUCCESS;
    }
    inside_lock();
    uint64_t id = made == MPI_COMM_WORLD  ? CUT_COMM_WORLD
                  : made == MPI_COMM_SELF ? CUT_COMM_SELF
                                          : next_id(&members, parent);
    inside_unlock();
    /* Unlike a duplicate, what is split off has no attributes: no callback of the program's is run. */
    PMPI_Comm_rank(made, &rank);
    int error = real.Comm_split(made, 0, rank, &twin);
    return error ? error : adopt(&members, made, twin, id, parent);
}

int comm_adopt_pair(MPI_Comm made, MPI_Comm twin, uint64_t id, uint64_t parent)
{
    struct members members;
    return members_of(made, &members) ? adopt(&members, made, twin, id, parent) : MPI_ERR_NO_MEM;
}

static void forget(struct comm *comm)
{
    struct comm **at = &inside.comms;
    while (*at != comm)
        at = &(*at)->next;
    *at = comm->next;
    if (inside.comms_end == &comm->next)
        inside.comms_end = at;
    inside.queued -= comm->queue.message_count;
    made_forget_all(comm);
    comm_add_up(comm);
    mem_free(comm->quick);
    mem_free(comm->said);
    mem_free(comm->first);
    mem_free(comm->world);
    mem_free(comm);
}

static void free_for_good(struct comm *comm)
{
    MPI_Comm own = comm->colour[0], twin = comm->colour[1];
    parcels_forget(comm);
    forget(comm);
    real.Comm_free(&twin);
    if (own != MPI_COMM_NULL)
        real.Comm_free(&own);
}

static void free_when_idle(struct comm *comm)
{
    if (comm->freed && comm->pending == 0 && comm->holds == 0 && !cut_rank_copies(&inside.cut))
        free_for_good(comm);
}

void comm_unpend(struct comm *comm)
{
    comm->pending--;
    free_when_idle(comm);
}

void comm_release(struct comm *comm)
{
    comm->holds--;
    free_when_idle(comm);
}

/* The transition is over. */
void comms_free_late(void)
{
    for (struct comm *comm = inside.comms, *next; comm; comm = next) {
        next = comm->next;
        free_when_idle(comm);
    }
}

/* What is pending on it goes on, and what is in transition is still counted: both need it as long. */
static int free_late(struct comm *comm, MPI_Comm *handle)
{
    int error = attributes_delete(*handle);
    if (error != MPI_SUCCESS)
        return error; /* it is not freed then */
    leave_bucket(comm);
    comm->freed = true;
    comm->pending = requests_on(comm); /* now: a callback of the program's may have ended some, and begun others */
    *handle = MPI_COMM_NULL;
    free_when_idle(comm);
    return MPI_SUCCESS;
}

static bool waits_for_members(int (*drop)(MPI_Comm *))
{
    return drop == real.Comm_disconnect;
}

static int drop_foreign(MPI_Comm *handle, int (*drop)(MPI_Comm *))
{
    bool foreign = *handle != MPI_COMM_NULL;
    bool blocked = waits_for_members(drop) && blocked_enter();
    int error = drop(handle);
    if (blocked)
        blocked_leave();
    inside_lock();
    if (foreign && error == MPI_SUCCESS && inside.foreign > 0)
        inside.foreign--;
    inside_unlock();
    return error;
}

/* MPI has freed it. Requests of the program's that are left, persistent ones, still know it. */
static void dropped(struct comm *comm)
{
    comm->pending = requests_on(comm);
    comm->freed = comm->pending > 0;
    if (!comm->freed)
        free_for_good(comm);
}

/* It is found by its handle no more. While MPI is at it nobody takes anything from it. */
static int drop_ours(struct comm *comm, MPI_Comm *handle, int (*drop)(MPI_Comm *))
{
    bool blocked = waits_for_members(drop) && blocked_enter();
    inside_lock();
    comm->colour[0] = MPI_COMM_NULL;
    inside_unlock();
    int error = drop(handle);
    inside_lock();
    if (error == MPI_SUCCESS) {
        dropped(comm);
    } else { /* it is there still, and messages on it are to be counted */
        comm->colour[0] = *handle;
        comm->now = comm->colour[inside.cut.colour];
        enter_bucket(comm);
    }
    inside_unlock();
    if (blocked)
        blocked_leave();
    return error;
}

static int comm_drop(MPI_Comm *handle, int (*drop)(MPI_Comm *))
{
    /* Those that were never made are not freed either: MPI complains. */
    if (!inside.on || *handle == MPI_COMM_WORLD || *handle == MPI_COMM_SELF)
        return drop(handle);
    inside_lock();
    struct comm *comm = comm_find(*handle);
    bool late = comm && drop == real.Comm_free && (requests_on(comm) > 0 || comm->holds > 0 || cut_rank_copies(&inside.cut));
    int error = late ? free_late(comm, handle) : MPI_SUCCESS;
    if (comm && !late)
        leave_bucket(comm);
    inside_unlock();
    if (late)
        return error;
    if (comm == NULL)
        return drop_foreign(handle, drop);
    return drop_ours(comm, handle, drop);
}

int MPI_Comm_free(MPI_Comm *handle)
{
    return comm_drop(handle, real.Comm_free);
}

int MPI_Comm_disconnect(MPI_Comm *handle)
{
    return comm_drop(handle, real.Comm_disconnect);
}

INTERPOSED(Comm_free);
INTERPOSED(Comm_disconnect);

/* ---- errors ---- */

/* What goes wrong on a twin is an error of the program's communicator, whose handler gets that. */
static void twin_error(MPI_Comm *twin, int *error, ...)
{
    inside_lock();
    const struct comm *comm = inside.comms;
    while (comm && comm->colour[1] != *twin)
        comm = comm->next;
    MPI_Comm own = comm && comm->colour[0] != MPI_COMM_NULL ? comm->colour[0] : MPI_COMM_WORLD;
    inside_unlock();
    PMPI_Comm_call_errhandler(own, *error);
}

/* ---- what a person knows one by ---- */

static bool has_name(const struct comm *comm, char *name)
{
    int length = 0;
    name[0] = '\0';
    if (inside.on && !comm->freed && comm->colour[0] != MPI_COMM_NULL)
        PMPI_Comm_get_name(comm->colour[0], name, &length);
    return name[0] != '\0';
}

/* As "ranks 0-3,8". Behind `room` it ends with dots. */
static void tell_ranks(const struct comm *comm, char *to, size_t size)
{
    size_t at = (size_t)snprintf(to, size, comm->size == 1 ? "rank" : "ranks");
    for (int i = 0; i < comm->size && at < size; i++) {
        int last = i;
        while (last + 1 < comm->size && comm->world[last + 1] == comm->world[last] + 1)
            last++;
        if (at + RANKS_ROOM > size) {
            snprintf(to + at, size - at, " …");
            return;
        }
        at += (size_t)snprintf(to + at, size - at, "%c%u", i == 0 ? ' ' : ',', comm->world[i]);
        if (last > i)
            at += (size_t)snprintf(to + at, size - at, "-%u", comm->world[last]);
        i = last;
    }
}

void comm_describe(const struct comm *comm, char *to, size_t size)
{
    char name[MPI_MAX_OBJECT_NAME], ranks[RANKS_TEXT];
    const struct comm *parent = inside.comms;
    if (has_name(comm, name)) {
        text_copy(to, size, name);
        return;
    }
    while (parent && parent->id != comm->parent)
        parent = parent->next;
    tell_ranks(comm, ranks, sizeof ranks);
    if (comm->parent == CUT_COMM_NO_PARENT)
        snprintf(to, size, "to %s", ranks);
    else if (parent && has_name(parent, name))
        snprintf(to, size, "%s of %s", ranks, name);
    else
        snprintf(to, size, "%s", ranks);
}

/* ---- counts ---- */

void count_sent_now(const struct comm *comm, int to)
{
    if ((unsigned)to >= (unsigned)comm->size)
        return;
    comm->all[to].sent++;
    cut_rank_sent(&inside.cut, comm->world[to]);
}

void count_arrived_now(const struct comm *comm, int from)
{
    if ((unsigned)from >= (unsigned)comm->size)
        return;
    comm->all[from].arrived++;
    cut_rank_arrived(&inside.cut, comm->world[from]);
    parcels_counted(comm, from);
}

void comm_add_up(struct comm *comm)
{
    for (int i = 0; i < comm->size; i++) {
        struct cut_peer *peer = &inside.cut.peers[comm->world[i]];
        peer->sent += comm->quick[i].sent;
        peer->arrived += comm->quick[i].arrived;
        comm->all[i].sent += comm->quick[i].sent;
        comm->all[i].arrived += comm->quick[i].arrived;
        comm->quick[i] = (struct tally){0};
    }
}

void comms_add_up(void)
{
    for (struct comm *comm = inside.comms; comm; comm = comm->next)
        comm_add_up(comm);
    inside.unadded = false;
}

/* ---- all of them ---- */

int comms_init(void)
{
    inside.comms_end = &inside.comms;
    int error = PMPI_Comm_create_errhandler(twin_error, &inside.twin_errors);
    if (error == MPI_SUCCESS)
        error = comm_adopt(MPI_COMM_WORLD, 0);
    if (error == MPI_SUCCESS)
        error = comm_adopt(MPI_COMM_SELF, 0);
    if (error == MPI_SUCCESS)
        error = real.Comm_split(MPI_COMM_WORLD, 0, inside.rank, &inside.bookmarks);
    if (error == MPI_SUCCESS)
        error = real.Comm_split(MPI_COMM_WORLD, 0, inside.rank, &inside.leaders);
    if (error == MPI_SUCCESS)
        error = offers_init();
    if (error == MPI_SUCCESS)
        error = real.Comm_split(MPI_COMM_SELF, 0, 0, &inside.self);
    if (error == MPI_SUCCESS)
        error = PMPI_Comm_set_errhandler(inside.self, MPI_ERRORS_RETURN);
    return error;
}

void comms_colour(void)
{
    for (struct comm *comm = inside.comms; comm; comm = comm->next)
        comm->now = comm->colour[inside.cut.colour];
}

size_t comms_list(struct tide_mpi_comm *to, size_t room)
{
    size_t count = 0;
    for (struct comm *comm = inside.comms; comm; comm = comm->next, count++) {
        if (count >= room)
            continue;
        to[count] = (struct tide_mpi_comm){.id = comm->id, .collectives = comm->collectives, .size = comm->members};
        comm_describe(comm, to[count].name, sizeof to[count].name);
    }
    return count;
}
