/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/nccl/inside.h"
#include "ckpt/cut/comm_id.h"
#include "ckpt/wire/local.h"

#define BUCKETS 64u      /* of handles */
#define MADE_BY_SPLIT 1u /* in the place of a world rank, none of which are known here */
#define MADE_BY_SHRINK 2u
#define MADE_BY_ALL 3u

/* NCCL writes those only when they are done, and we are not there then. */
#define MADE_LATER                                                                                                          \
    "an NCCL communicator was split or shrunk inside a group of calls, or of one that does not block, and is not known "    \
    "here: split it outside of groups, of one that blocks"

/* Where NCCL leaves its unique id empty we note whose it is, so that its communicator has the same name in the next
 * generation. */
#define NOTE_AT (NCCL_UNIQUE_ID_BYTES - sizeof(struct note))
#define NOTE_MAGIC UINT64_C(0x4c43434e45444954)
struct note {
    uint64_t magic;
    uint32_t rank, number;
};

struct comms comms = {.lock = PTHREAD_MUTEX_INITIALIZER, .end = &comms.first, .version = 1};
__thread struct cached cached;
static struct comm *buckets[BUCKETS];

static struct comm **bucket_of(ncclComm_t handle)
{
    return &buckets[((uint64_t)(uintptr_t)handle * UINT64_C(0x9e3779b97f4a7c15)) >> 58 & (BUCKETS - 1)];
}

/* The lock is held. */
static struct comm *look_up(ncclComm_t handle)
{
    struct comm *comm = *bucket_of(handle);
    while (comm && comm->handle != handle)
        comm = comm->bucket;
    return comm;
}

struct comm *comm_find(ncclComm_t handle)
{
    pthread_mutex_lock(&comms.lock);
    struct comm *comm = look_up(handle);
    if (comm != NULL)
        atomic_fetch_add(&comm->refs, 1);
    cached = (struct cached){.handle = handle, .comm = comm, .version = atomic_load(&comms.version)};
    pthread_mutex_unlock(&comms.lock);
    return comm;
}

/* ---- identity ---- */

static long own_rank(void)
{
    const char *text = getenv("RANK");
    return text != NULL && *text >= '0' && *text <= '9' ? strtol(text, NULL, 10) : -1;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static const char empty[sizeof(struct note)];
    ncclResult_t result = real.GetUniqueId(id);
    long rank = own_rank();
    if (result != ncclSuccess || !in_job() || rank < 0 || memcmp(id->internal + NOTE_AT, empty, sizeof empty) != 0)
        return result;
    pthread_mutex_lock(&comms.lock);
    struct note note = {.magic = NOTE_MAGIC, .rank = (uint32_t)rank, .number = comms.ids++};
    pthread_mutex_unlock(&comms.lock);
    memcpy(id->internal + NOTE_AT, &note, sizeof note);
    return result;
}

/* Of a communicator that is made of unique ids: the first of them names it. */
static void identify(struct comm *comm, const ncclUniqueId *id)
{
    struct note note;
    uint32_t words[NCCL_UNIQUE_ID_BYTES / 4];
    memcpy(&note, id->internal + NOTE_AT, sizeof note);
    memcpy(words, id->internal, sizeof words);
    uint32_t root[] = {note.rank, (uint32_t)comm->size};
    if (note.magic == NOTE_MAGIC) {
        comm->id = cut_comm_id(cut_comm_base(CUT_COMM_NO_PARENT, root, 2, NULL, 0), note.number);
        snprintf(comm->name, sizeof comm->name, "nccl %u.%u", note.rank, note.number);
    } else {
        comm->id = cut_comm_id(cut_comm_base(CUT_COMM_NO_PARENT, words, sizeof words / sizeof words[0], NULL, 0), 0);
    }
}

/* All who make it of its parent count alike. */
static void identify_child(struct comm *comm, struct comm *parent, uint32_t how, int colour)
{
    uint32_t made = how == MADE_BY_SPLIT ? parent->splits++ : parent->shrinks++;
    uint32_t base[] = {how, (uint32_t)colour};
    comm->id = cut_comm_id(cut_comm_base(parent->id, base, 2, NULL, 0), made);
    if (how == MADE_BY_SPLIT)
        snprintf(comm->name, sizeof comm->name, "%s split %u:%d", parent->name, made, colour);
    else
        snprintf(comm->name, sizeof comm->name, "%s shrink %u", parent->name, made);
}

static void name_as_configured(struct comm *comm, const ncclConfig_t *config)
{
    /* The program may have been built with an older header, whose structure ends before, or this library with one. */
    const struct any_config *any = (const void *)config;
    size_t end = offsetof(struct any_config, comm_name) + sizeof any->comm_name;
    if (any != NULL && any->size >= end && any->comm_name != NULL && any->comm_name[0] != '\0')
        text_copy(comm->name, sizeof comm->name, any->comm_name);
}

/* ---- coming and going ---- */

static struct comm *make(ncclComm_t handle, int size, int rank)
{
    struct comm *comm = mem_try_alloc(sizeof *comm);
    if (comm == NULL)
        atomic_store(&comms.unseen, "there was no memory for the counts of an NCCL communicator");
    else
        *comm = (struct comm){.handle = handle, .size = size, .rank = rank, .refs = 1};
    return comm;
}

static void take_out(struct comm *comm)
{
    struct comm **at = &comms.first;
    while (*at != comm)
        at = &(*at)->next;
    *at = comm->next;
    if (comms.end == &comm->next)
        comms.end = at;
    at = bucket_of(comm->handle);
    while (*at != comm)
        at = &(*at)->bucket;
    *at = comm->bucket;
    atomic_fetch_add(&comms.version, 1);
}

void comm_free(struct comm *comm)
{
    if (!comm->past) /* by now another may have its identity */
        held_forget(comm);
    if (comm->side != NULL)
        cuda.StreamDestroy(comm->side);
    marks_free(&comm->marks);
    mem_free(atomic_load(&comm->sent));
    mem_free(atomic_load(&comm->received));
    mem_free(comm);
}

static void put_in(struct comm *comm)
{
    pthread_mutex_lock(&comms.lock);
    struct comm **bucket = bucket_of(comm->handle), *old = look_up(comm->handle);
    if (old != NULL) /* dead, and the program never ended it: NCCL has given its place to another */
        take_out(old);
    *comms.end = comm;
    comms.end = &comm->next;
    comm->bucket = *bucket;
    *bucket = comm;
    atomic_fetch_add(&comms.version, 1);
    pthread_mutex_unlock(&comms.lock);
    comm_put(old);
    watch_begin();
}

/* ncclConfig_t.blocking is 0; where nothing is said of it a child is as its parent. */
static bool in_background(ncclResult_t result, const ncclConfig_t *config, bool otherwise)
{
    if (result == ncclInProgress)
        return true;
    if (config == NULL || config->blocking == NCCL_CONFIG_UNDEF_INT)
        return otherwise;
    return config->blocking == 0;
}

static bool was_made(ncclResult_t result, const ncclComm_t *made)
{
    return (result == ncclSuccess || result == ncclInProgress) && *made != NULL;
}

static ncclResult_t adopt(ncclResult_t result, const ncclComm_t *made, int size, const ncclUniqueId *id, int rank,
                          const ncclConfig_t *config)
{
    struct comm *comm = was_made(result, made) ? make(*made, size, rank) : NULL;
    if (comm == NULL)
        return result;
    identify(comm, id);
    comm->background = in_background(result, config, false);
    name_as_configured(comm, config);
    put_in(comm);
    return result;
}

ncclResult_t ncclCommInitRank(ncclComm_t *ret_comm, int size, ncclUniqueId id, int rank)
{
    return adopt(real.CommInitRank(ret_comm, size, id, rank), ret_comm, size, &id, rank, NULL);
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *ret_comm, int size, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    return adopt(real.CommInitRankConfig(ret_comm, size, id, rank, config), ret_comm, size, &id, rank, config);
}

ncclResult_t ncclCommInitRankScalable(ncclComm_t *ret_comm, int size, int rank, int count, ncclUniqueId *ids,
                                      ncclConfig_t *config)
{
    ncclResult_t result = real.CommInitRankScalable(ret_comm, size, rank, count, ids, config);
    return count > 0 ? adopt(result, ret_comm, size, ids, rank, config) : result;
}

/* All members in one process: nobody else knows it. */
ncclResult_t ncclCommInitAll(ncclComm_t *ret_comms, int count, const int *devices)
{
    ncclResult_t result = real.CommInitAll(ret_comms, count, devices);
    uint32_t base[] = {MADE_BY_ALL, (uint32_t)own_rank()};
    pthread_mutex_lock(&comms.lock);
    uint32_t number = comms.ids++;
    pthread_mutex_unlock(&comms.lock);
    for (int i = 0; result == ncclSuccess && i < count; i++) {
        struct comm *comm = make(ret_comms[i], count, i);
        if (comm == NULL)
            continue;
        comm->id = cut_comm_id(cut_comm_base(CUT_COMM_NO_PARENT, base, 2, NULL, 0), number);
        snprintf(comm->name, sizeof comm->name, "nccl %u.%u", base[1], number);
        put_in(comm);
    }
    return result;
}

static void adopt_child(ncclResult_t result, const ncclComm_t *made, struct comm *parent, uint32_t how, int colour,
                        const ncclConfig_t *config)
{
    struct comm none = {.name = ""}, *comm = was_made(result, made) ? make(*made, 0, -1) : NULL;
    if (result != ncclSuccess && result != ncclInProgress)
        return;
    identify_child(comm ? comm : &none, parent, how, colour); /* whoever is in no part counts, too */
    if (*made == NULL && (how != MADE_BY_SPLIT || colour != NCCL_SPLIT_NOCOLOR))
        atomic_store(&comms.unseen, MADE_LATER);
    if (comm == NULL)
        return;
    comm->background = in_background(result, config, parent->background);
    name_as_configured(comm, config);
    put_in(comm);
}

ncclResult_t ncclCommSplit(ncclComm_t handle, int colour, int key, ncclComm_t *ret_comm, ncclConfig_t *config)
{
    struct comm *parent = handle != NULL ? comm_get(handle) : NULL;
    if (comm_is_dead(parent))
        return comm_done(parent, ncclSystemError);
    ncclResult_t result = real.CommSplit(handle, colour, key, ret_comm, config);
    if (parent != NULL)
        adopt_child(result, ret_comm, parent, MADE_BY_SPLIT, colour, config);
    comm_put(parent);
    return result;
}

ncclResult_t ncclCommShrink(ncclComm_t handle, int *without, int count, ncclComm_t *ret_comm, ncclConfig_t *config,
                            int flags)
{
    struct comm *parent = handle != NULL ? comm_get(handle) : NULL;
    if (comm_is_dead(parent))
        return comm_done(parent, ncclSystemError);
    ncclResult_t result = real.CommShrink(handle, without, count, ret_comm, config, flags);
    if (parent != NULL)
        adopt_child(result, ret_comm, parent, MADE_BY_SHRINK, count, config);
    comm_put(parent);
    return result;
}

/* Out of the table before NCCL frees it, so that the watch does not ask for what is gone. A dead one was freed by the watch.
 * Calls that are inside may come back later, when it is aborted. */
static ncclResult_t drop(ncclComm_t handle, ncclResult_t (*end)(ncclComm_t))
{
    pthread_mutex_lock(&comms.lock);
    struct comm *comm = handle != NULL ? look_up(handle) : NULL;
    bool dead = comm_is_dead(comm);
    if (comm != NULL)
        take_out(comm);
    pthread_mutex_unlock(&comms.lock);
    comm_put(comm);
    return dead ? ncclSuccess : end(handle);
}

ncclResult_t ncclCommDestroy(ncclComm_t handle)
{
    return drop(handle, real.CommDestroy);
}

ncclResult_t ncclCommAbort(ncclComm_t handle)
{
    return drop(handle, real.CommAbort);
}

/* ---- what a dead one answers, where NCCL would be asked about freed memory ---- */

#define UNPACK(...) __VA_ARGS__

/* One line for each function: its name, what it says of a dead one, parameters, arguments. */
#define ANSWERED(name, end, parameters, arguments)                                                                          \
    ncclResult_t nccl##name(UNPACK parameters)                                                                              \
    {                                                                                                                       \
        struct comm *comm = handle != NULL ? comm_get(handle) : NULL;                                                       \
        return end(comm, comm_is_dead(comm) ? ncclSuccess : real.name(UNPACK arguments));                                   \
    }

/* The abort has freed whatever was to be given back. */
static ncclResult_t nothing_left(struct comm *comm, ncclResult_t result)
{
    comm_put(comm);
    return result;
}

ANSWERED(CommFinalize, comm_done, (ncclComm_t handle), (handle))
ANSWERED(CommCount, comm_done, (const ncclComm_t handle, int *ret_count), (handle, ret_count))
ANSWERED(CommCuDevice, comm_done, (const ncclComm_t handle, int *ret_device), (handle, ret_device))
ANSWERED(CommUserRank, comm_done, (const ncclComm_t handle, int *ret_rank), (handle, ret_rank))
ANSWERED(CommRegister, comm_done, (const ncclComm_t handle, void *at, size_t bytes, void **ret_registered),
         (handle, at, bytes, ret_registered))
ANSWERED(CommWindowRegister, comm_done, (ncclComm_t handle, void *at, size_t bytes, ncclWindow_t *ret_window, int flags),
         (handle, at, bytes, ret_window, flags))
ANSWERED(RedOpCreatePreMulSum, comm_done,
         (ncclRedOp_t * ret_op, void *scalar, ncclDataType_t type, ncclScalarResidence_t residence, ncclComm_t handle),
         (ret_op, scalar, type, residence, handle))
ANSWERED(CommRevoke, nothing_left, (ncclComm_t handle, int flags), (handle, flags))
ANSWERED(CommDeregister, nothing_left, (const ncclComm_t handle, void *registered), (handle, registered))
ANSWERED(CommWindowDeregister, nothing_left, (ncclComm_t handle, ncclWindow_t window), (handle, window))
ANSWERED(RedOpDestroy, nothing_left, (ncclRedOp_t op, ncclComm_t handle), (op, handle))

ncclResult_t ncclCommGetAsyncError(ncclComm_t handle, ncclResult_t *ret_error)
{
    struct comm *comm = handle != NULL ? comm_get(handle) : NULL;
    ncclResult_t result = ncclSuccess;
    if (comm_is_dead(comm))
        *ret_error = (ncclResult_t)atomic_load(&comm->error);
    else
        result = real.CommGetAsyncError(handle, ret_error);
    comm_put(comm);
    return result;
}

/* ---- counts ---- */

/* The lock is held. */
static bool ask_size(struct comm *comm)
{
    if (comm->size == 0 && atomic_load(&comm->error) == ncclSuccess &&
        (real.CommCount(comm->handle, &comm->size) != ncclSuccess ||
         real.CommUserRank(comm->handle, &comm->rank) != ncclSuccess))
        comm->size = 0;
    return comm->size > 0;
}

void comm_ask_size_locked(struct comm *comm)
{
    (void)ask_size(comm);
}

void comm_ask_size(struct comm *comm)
{
    if (LIKELY(comm->size > 0))
        return;
    pthread_mutex_lock(&comms.lock);
    ask_size(comm);
    pthread_mutex_unlock(&comms.lock);
}

/* One for each member, when the first is needed. NULL: there is no memory, or NCCL does not say how many there are. */
static void *array_of(struct comm *comm, _Atomic(void *) *at, size_t item_bytes)
{
    void *items = atomic_load_explicit(at, memory_order_acquire);
    if (LIKELY(items != NULL))
        return items;
    pthread_mutex_lock(&comms.lock);
    items = atomic_load(at);
    if (items == NULL && ask_size(comm))
        items = mem_try_array((size_t)comm->size, item_bytes);
    atomic_store(at, items);
    pthread_mutex_unlock(&comms.lock);
    return items;
}

void comm_sent(struct comm *comm, int peer, uint64_t bytes)
{
    struct sent *to = array_of(comm, &comm->sent, sizeof *to);
    if (UNLIKELY(to == NULL || peer < 0 || peer >= comm->size))
        return;
    uint64_t number = __atomic_fetch_add(&to[peer].count, 1, __ATOMIC_RELAXED);
    __atomic_store_n(&to[peer].bytes[number % CONTROL_CHANNEL_LAST], bytes, __ATOMIC_RELAXED);
}

void comm_add_received(struct comm *comm, int peer)
{
    uint64_t *from = array_of(comm, &comm->received, sizeof *from);
    if (LIKELY(from != NULL && peer >= 0 && peer < comm->size))
        __atomic_fetch_add(&from[peer], 1, __ATOMIC_RELAXED);
}

uint64_t comm_received(struct comm *comm, int peer)
{
    const uint64_t *from = atomic_load(&comm->received);
    return from != NULL && peer < comm->size ? __atomic_load_n(&from[peer], __ATOMIC_RELAXED) : 0;
}

static void sum(struct comm *comm, struct control_comm *to)
{
    const struct sent *sent = atomic_load(&comm->sent);
    for (int peer = 0; peer < comm->size; peer++) {
        uint64_t out = sent ? __atomic_load_n(&sent[peer].count, __ATOMIC_RELAXED) : 0, in = comm_received(comm, peer);
        to->sent += out;
        to->received += in;
        to->balance += out * cut_balance_weight((uint32_t)comm->rank, (uint32_t)peer) -
                       in * cut_balance_weight((uint32_t)peer, (uint32_t)comm->rank);
    }
    to->balance &= CUT_BALANCE_MASK;
}

/* ---- bookmarks ---- */

static size_t channels_of(struct comm *comm, struct control_channel *to, size_t have, size_t room)
{
    const struct sent *sent = comm->past ? NULL : atomic_load(&comm->sent);
    for (int peer = 0; sent != NULL && peer < comm->size; peer++) {
        if (sent[peer].count == 0)
            continue;
        if (have < room) {
            to[have] = (struct control_channel){
                .comm = comm->id, .from = (uint32_t)comm->rank, .to = (uint32_t)peer, .sent = sent[peer].count};
            memcpy(to[have].bytes, sent[peer].bytes, sizeof to[have].bytes);
        }
        have++;
    }
    return have;
}

size_t tide_nccl_channels(struct control_channel *to, size_t room)
{
    size_t have = 0;
    pthread_mutex_lock(&comms.lock);
    for (struct comm *comm = comms.first; comm; comm = comm->next)
        have = channels_of(comm, to, have, room);
    pthread_mutex_unlock(&comms.lock);
    return have <= room ? have : 0;
}

size_t tide_nccl_members(struct control_member *to, size_t room)
{
    size_t have = 0;
    pthread_mutex_lock(&comms.lock);
    for (struct comm *comm = comms.first; comm; comm = comm->next) {
        if (comm->past || !atomic_load(&comm->receives) || !ask_size(comm))
            continue;
        if (have < room)
            to[have] = (struct control_member){.comm = comm->id, .rank = (uint32_t)comm->rank};
        have++;
    }
    pthread_mutex_unlock(&comms.lock);
    return have <= room ? have : 0;
}

size_t comms_list(struct control_comm *to, size_t room)
{
    size_t count = 0;
    pthread_mutex_lock(&comms.lock);
    for (struct comm *comm = comms.first; comm && count < room; comm = comm->next) {
        if (comm->past)
            continue;
        ask_size(comm);
        to[count] = (struct control_comm){
            .id = comm->id, .collectives = atomic_load(&comm->collectives), .size = (uint32_t)comm->size};
        text_copy(to[count].name, sizeof to[count].name, comm->name);
        sum(comm, &to[count++]);
    }
    pthread_mutex_unlock(&comms.lock);
    return count;
}

void tide_nccl_leave(void)
{
    watch_abort_rest();
    pthread_mutex_lock(&comms.lock);
    for (struct comm *comm = comms.first; comm; comm = comm->next) {
        int alive = ncclSuccess;
        atomic_compare_exchange_strong(&comm->error, &alive, ncclRemoteError);
        comm->past = true;
    }
    comms.ids = 0;
    atomic_store(&comms.unseen, NULL);
    pthread_mutex_unlock(&comms.lock);
    held_forget(NULL);
}
