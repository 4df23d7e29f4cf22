/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_MPI_INSIDE_H
#define CKPT_CLIENT_MPI_INSIDE_H

/* Inside libtidemark_mpi. ckpt/cut decides; here is done what it says, to MPI.
 *
 * A call of the program's looks at one word. Where it reads what it should, nothing is armed, in transition or in our
 * queues, there is one thread, and the call is MPI's own on the communicator of the colour, and a count. Otherwise the call
 * takes the slow way (*_slow), which is right in every state, waits in no call of MPI's but a blocking collective, and holds
 * the lock where there are threads. Outside a job the slow way leads straight to MPI.
 *
 * With MPI_THREAD_MULTIPLE each call takes the lock, but who only waits or looks for its own requests does so beside it
 * (beside.c). */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "ckpt/client/mpi/link.h"
#include "ckpt/client/mpi/real.h"
#include "ckpt/client/mpi/request.h"
#include "ckpt/cut/offer.h"
#include "ckpt/cut/queue.h"
#include "ckpt/cut/rank.h"
#include "ckpt/wire/local.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

#define NEVER UINT64_MAX /* call_epoch never is */
#define WHY_MAX 512u     /* a sentence */

enum send_mode { SEND_STANDARD, SEND_SYNCHRONOUS, SEND_BUFFERED, SEND_READY };

/* Messages to and from one rank on one communicator. */
struct tally {
    uint64_t sent, arrived;
};

/* What one rank was told last of receives that wait for its messages (offer.c). */
struct said {
    uint64_t epoch, arrived;
    uint32_t count;
    bool blocked;
    struct cut_call call; /* it matters for receives of any source */
};

/* One communicator of the program's, all of whose members are in MPI_COMM_WORLD. */
struct comm {
    MPI_Comm now;        /* of the colour of the day */
    struct tally *quick; /* of each rank that it sends to and receives from, since it was added to `all` and to inside.cut */
    int size;            /* … and how many they are */
    uint32_t *world;     /* … and their ranks in MPI_COMM_WORLD */
    struct tally *all;
    struct said *said;  /* to each of them; NULL: nothing, in this attempt */
    uint64_t *first;    /* up to that message each of them goes first; NULL: nobody does, in this attempt */
    bool freed;         /* by the program; ours to free when nothing is pending */
    uint32_t pending;   /* … requests of ours on it, which grow no more */
    MPI_Comm colour[2]; /* the program's own, and its twin */
    uint64_t id;
    uint64_t parent; /* its identity, or CUT_COMM_NO_PARENT */
    uint64_t collectives;
    uint32_t members; /* of both groups */
    uint32_t holds;   /* windows and files that were made of it */
    struct cut_queue queue;
    struct comm *next, *bucket; /* all, in order of creation; of one hash */
};

/* A message that we matched in MPI's place, from then until the program has received it and the log has it. */
struct parcel {
    struct cut_message message;
    struct comm *comm;
    struct parcel *prev, *next; /* in the order in which they were matched */
    unsigned char *data; /* NULL until it is fetched */
    uint64_t bytes;
    MPI_Message found;        /* no byte of it is taken, and its sender sees no receive: MPI_MESSAGE_NULL where one has begun */
    MPI_Request fetching;     /* MPI_REQUEST_NULL: whole */
    struct request *request;  /* the receive that gets it */
    struct request *expected; /* a receive of MPI's that gets it; nothing else is known yet */
    bool log;                 /* not in the log yet */
    bool count;               /* of the old colour, and not counted yet */
    bool wanted;              /* … without a request: MPI_Mrecv */
    bool given;               /* the program has it */
};

/* A message that is sent from a copy. */
struct copy {
    struct copy *next;
    MPI_Request real;
    struct request *request; /* a synchronous one, that waits for it */
    uint32_t to;             /* … of that rank of the world (offer.c) */
    uint64_t position;       /* … among inside.sends */
    uint64_t since_ns, asked_all_ns;
    size_t bytes;
    unsigned char data[];
};

/* What one rank was told last of how many messages it had been sent. */
struct bookmark {
    struct cut_bookmark words;
    MPI_Request real;
};

struct inside {
    _Atomic uint64_t *word; /* page->call_epoch, or a private one before libtidemark is there */
    uint64_t quick;         /* what it reads when there is nothing to do; NEVER while there is, and outside a job */
    MPI_Comm last_handle;   /* the communicator that was looked up last */
    struct comm *last;
    struct cut_rank cut;
    uint32_t unrepeatable;     /* requests that the program cannot begin again, among them */
    bool unrepeatable_unnoted; /* there were too many to tell apart */
    uint64_t outstanding;      /* requests the program holds that MPI is at work on, or we */

    bool on;           /* in a job, between MPI_Init and MPI_Finalize */
    bool many_threads; /* MPI_THREAD_MULTIPLE */
    uint32_t depth;    /* the lock is held so many times by one thread */
    uint32_t draining; /* threads that wait until nobody is beside it */
    _Atomic uint64_t calm;   /* what `quick` would be if there were one thread; NEVER where there is */
    _Atomic uint32_t beside; /* threads that are in MPI beside the lock */
    int world_size, rank;
    uint64_t seen;     /* the word, when the page was last looked at */
    uint64_t sequence; /* of receives posted */
    struct comm *comms, **comms_end;
    struct parcel parcels; /* a ring */
    struct copy *copies;
    size_t copied;                                     /* bytes in them */
    size_t queued;                                     /* messages in all queues */
    size_t to_count;                                   /* parcels that are of the old colour and not counted yet */
    uint64_t grequests;                                /* generalized ones of the program's */
    uint64_t unheld;                                   /* requests that are under way and that nobody waits for */
    uint64_t matched;                                  /* found by MPI_Mprobe and not received yet */
    uint64_t foreign;                                  /* communicators with members outside MPI_COMM_WORLD */
    uint64_t windows_shared, windows_open, files_open; /* what a record does not go with */
    const char *uncoloured; /* since the rank polls, a call without colour: why there is no record */
    MPI_Comm self;          /* hands what is queued to the program */
    MPI_Comm bookmarks;
    struct bookmark *told; /* one per rank of the world */
    bool untold;           /* there was no room for one */
    MPI_Comm offers;       /* what receivers tell of receives that wait, and are asked for */
    struct cut_sends sends; /* since the rank polls */
    MPI_Comm leaders;      /* of the world: makes those communicators that MPI makes by messages with the program's tags */
    MPI_Errhandler twin_errors; /* of all twins */
    struct tide_mpi_host host;
    struct control_page *page; /* our own mapping of it; NULL before libtidemark is there */
    bool attached;
    uint32_t blocked; /* threads in a call of MPI's that waits for others */
    struct cut_call call; /* … it, if it is one */
    bool tell_anew;   /* offers_tell: more than receives that were posted may be new */
    bool parked;      /* receives of ours are in MPI, in the old colour */
    bool logging;     /* the record of this epoch is whole so far */
    bool unadded;     /* calls may have been quick, and counted so */
};

extern struct inside inside;

static inline bool quick(void)
{
    return LIKELY(atomic_load_explicit(inside.word, memory_order_relaxed) == inside.quick);
}

/* ---- init.c ---- */

/* Where there are many threads. Not held in a call of MPI's that waits for somebody. */
void inside_lock(void);
void inside_unlock(void);
/* Between two looks of somebody who waits. `spins` counts them. */
void inside_pause(unsigned *spins);

/* ---- beside.c ---- */

/* In between: there is nothing to do still. */
static inline bool beside_stays(void)
{
    uint64_t calm = atomic_load(&inside.calm);
    return calm != NEVER && atomic_load(inside.word) == calm;
}
/* Of many threads one goes to MPI with its own requests, and without the lock. While it is there nobody looks at the page. False: the
 * slow way it is. */
static inline bool beside_enter(void)
{
    if (!inside.many_threads)
        return false;
    atomic_fetch_add(&inside.beside, 1);
    if (LIKELY(beside_stays()))
        return true;
    atomic_fetch_sub(&inside.beside, 1);
    return false;
}
static inline void beside_leave(void)
{
    atomic_fetch_sub(&inside.beside, 1);
}
/* In between: as MPI_Wait, and as MPI_Waitany; there is room for one more behind the last. False: woken, as there is something to do,
 * and nothing is complete. */
bool beside_wait(MPI_Request reals[2], MPI_Status *status, int *ret_error);
bool beside_wait_any(int count, MPI_Request *reals, int *ret_index, MPI_Status *status, int *ret_error);
/* The lock is held, and is not in between. True: it is done. */
bool beside_request(struct request *request);
/* Nobody is there, and nobody goes there before settle_quick; else those who wait are woken, and it is so soon. */
bool beside_empty(void);
/* Wait until it is so. False: somebody did not come out. */
bool beside_drain(void);
/* Before MPI_Finalize. */
void beside_end(void);

/* ---- comm.c ---- */

int comms_init(void);
/* NULL: not one of ours, MPI_COMM_NULL, outside a job. */
struct comm *comm_find(MPI_Comm handle);
static inline struct comm *comm_of(MPI_Comm handle)
{
    return LIKELY(handle == inside.last_handle) ? inside.last : comm_find(handle);
}
/* Make a twin of what a call that is collective over its members has just made, and know both. parent: CUT_COMM_NO_PARENT
 * for an intercommunicator. An MPI error code. */
int comm_adopt(MPI_Comm made, uint64_t parent);
/* The same in two parts, for what is made in the background: its identity first, in the order of the calls. */
uint64_t comm_next_id(MPI_Comm like, uint64_t parent);
int comm_adopt_pair(MPI_Comm made, MPI_Comm twin, uint64_t id, uint64_t parent);
/* One request of ours less is pending on what the program has freed. */
void comm_unpend(struct comm *comm);
/* A window or file less. */
void comm_release(struct comm *comm);
/* A collective on it is entered. */
static inline void comm_count_collective(MPI_Comm handle)
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
/* Into the colour of the day. */
void comms_colour(void);
void comms_free_late(void);
/* Its name, or else its members in MPI_COMM_WORLD and what it was made of. */
void comm_describe(const struct comm *comm, char *to, size_t size);
size_t comms_list(struct tide_mpi_comm *to, size_t room);

/* In a quick call: a message was sent, or has been received from MPI in the colour of the day. */
static inline void count_sent(const struct comm *comm, int to)
{
    if (LIKELY((unsigned)to < (unsigned)comm->size))
        comm->quick[to].sent++;
}
static inline void count_arrived(const struct comm *comm, int from)
{
    if (LIKELY((unsigned)from < (unsigned)comm->size))
        comm->quick[from].arrived++;
}
/* In any other, and what that comes to. */
void count_sent_now(const struct comm *comm, int to);
void count_arrived_now(const struct comm *comm, int from);
void comm_add_up(struct comm *comm);
void comms_add_up(void);
/* Whether a call that failed has received a message all the same: it did not fit. */
bool received_in_part(int error);
static inline bool received(int error)
{
    return LIKELY(error == MPI_SUCCESS) || received_in_part(error);
}

/* ---- link.c ---- */

/* The program sends and receives no more. */
void link_finish(void);

/* ---- request.c ---- */

/* A persistent one of MPI's was made on `handle`, or `error`: ours is put around it. An MPI error code. */
int request_pass(int error, enum passed what, MPI_Comm handle, MPI_Request *request);
/* What is remembered of one of MPI's own, which may use its handle for another now. */
void request_forget(MPI_Request handle);
/* One of MPI's own is complete, or free. Those that are counted only while they are active are never MPI's own here. */
static inline void request_gone(MPI_Request handle)
{
    inside.outstanding--;
    if (UNLIKELY(inside.grequests | inside.unrepeatable))
        request_forget(handle);
}
/* One of MPI's own has begun, or `error`: what a program cannot begin again after a restart, it says. */
enum unrepeatable { REPEATABLE, UNREPEATABLE_COLLECTIVE, UNREPEATABLE_FILE };
void request_held(int error, MPI_Request handle, enum unrepeatable what);
/* Of the first there is; NULL: none. */
const char *unrepeatable_why(void);

/* ---- window.c ---- */

/* A call whose effect on other ranks has no colour: while a cut is under way, there is no record for that reason. */
void uncoloured(const char *why);

/* ---- mpi_4.c ---- */

/* A session is open, which is why there is no record; NULL: none. */
const char *session_why(void);

/* ---- made.c ---- */

/* A window or a file was made of a communicator. key: its handle's bits, not 0. */
void made_note(uint64_t key, MPI_Comm handle);
void made_forget(uint64_t key);
/* The communicator is gone. */
void made_forget_all(const struct comm *comm);
/* A collective call on it. */
void made_collective(uint64_t key);

/* ---- send.c ---- */

/* Begin to send: *ret_real is MPI's request, or MPI_REQUEST_NULL where it was copied (then `request`, unless NULL, is done,
 * or will be). An MPI error code. */
int send_begin(enum send_mode mode, const void *buffer, int count, MPI_Datatype type, int to, int tag, struct comm *comm,
               struct request *request, MPI_Request *ret_real);
void copies_progress(void);
/* A synchronous one is received. */
void copy_paid(struct copy *copy);
/* Behind a flip: to all that anything was ever sent to. */
void bookmarks_tell(void);
/* All bookmarks are on their way. */
bool bookmarks_sent(void);
int send_wait(enum send_mode mode, const void *buffer, int count, MPI_Datatype type, int to, int tag, struct comm *comm);

/* ---- attribute.c ---- */

/* All that the program has set, as MPI_Comm_free does. An MPI error code: of a callback of the program's. */
int attributes_delete(MPI_Comm handle);

/* ---- recv.c ---- */

/* `request` has its arguments: to the queue, or to MPI. An MPI error code. */
int receive_begin(struct request *request);
/* Is it done? One step, without waiting. */
bool request_advance(struct request *request);
/* MPI says that it is. */
void request_advanced(struct request *request, const MPI_Status *status, int error);
/* Wait until it is. */
void request_wait(struct request *request);
/* Take its outcome; a persistent one is inactive then, others are gone. An MPI error code; nobody was told yet. */
int request_finish(struct request *request, MPI_Status *ret_status);
/* What is matched and whole is put where the program wants it. */
void receive_from_parcel(struct request *request);
void receives_progress(void);
void receives_log(void);
int receive_cancel(struct request *request);
/* MPI's own is done with a receive of ours. */
void receive_completed(struct request *request, const MPI_Status *status, int error);
/* Take back what MPI has of receives. What cannot be taken back has been matched. */
void receives_take_back(void);
/* … then to the queues, all in order of posting. */
void receives_requeue(void);
/* Those that wait in our queues go to MPI in the colour of the day, in order of posting. */
void receives_to_mpi(void);
/* MPI had this one, and does not give it back. Else it is as it was, behind all of its kind that were posted before it. */
bool receive_has_matched(const struct request *request);
/* Those that MPI has, in order of posting; those that wait in our queues. NULL: none. Free with mem_free. */
struct request **receives_in_mpi(size_t *ret_count);
struct request **receives_in_queue(size_t *ret_count);
/* MPI has one that nobody was told of, and has not begun it; it has any. */
bool receives_untold(void);
bool receives_wait(void);
/* Before a call that waits for others, and behind it. */
void receives_park(void);
void receives_unpark(void);
/* As MPI would, for what we found out ourselves. Returns what the call is to return. */
int raise_error(const struct comm *comm, int error);
/* All but MPI_ERROR, which a single completion leaves alone. */
void status_copy(MPI_Status *to, const MPI_Status *from);
void status_empty(MPI_Status *status);
/* Where it is a receive from MPI_PROC_NULL: MPICH's MPI_Test and MPI_Waitany leave that out, its MPI_Waitall at times. */
void status_of_nobody(const struct request *request, MPI_Status *status);

/* ---- sendrecv.c ---- */

/* Both its parts. */
bool both_advance(struct request *request);

/* ---- create.c ---- */

bool create_advance(struct request *request);

/* ---- pack.c ---- */

/* So many bytes of MPI_PACKED, as MPI is told of them. MPI error codes. */
struct bytes_type {
    MPI_Datatype type;
    int count;
    bool own;
};
int bytes_type_init(struct bytes_type *ret_type, uint64_t bytes);
void bytes_type_release(struct bytes_type *type);

/* What a program sends, to be packed into `room` bytes. MPI error codes; MPI_ERR_COUNT, which nobody was told, where one
 * element has more bytes than MPI packs. */
struct packing {
    const void *buffer;
    int count, part; /* elements, and how many of them at once */
    MPI_Datatype type;
    MPI_Aint extent;
    MPI_Comm comm;
    uint64_t room;
};
int packing_init(struct packing *ret_packing, const void *buffer, int count, MPI_Datatype type, MPI_Comm comm);
int packing_do(const struct packing *packing, void *to, uint64_t *ret_bytes);

/* ---- parcel.c ---- */

/* Take what MPI has, of both colours, on all communicators; of the colour of the day alone. */
void parcels_pull(void);
/* … of the new colour, of those who go first. */
void parcels_pull_first(void);
void parcels_pull_now(void);
/* Bytes that are on their way, the log, receives that wait for either. */
void parcels_progress(void);
/* The program gets it: an MPI error code, and the status it sees. */
int parcel_give(struct parcel *parcel, void *buffer, int count, MPI_Datatype type, MPI_Status *ret_status);
void parcel_status(const struct parcel *parcel, MPI_Status *ret_status);
bool parcel_whole(struct parcel *parcel);
/* Out of its queue, for MPI_Mprobe. */
void parcel_take(struct parcel *parcel);
/* The one that a receive or probe would get, or NULL. */
struct parcel *parcel_find(const struct comm *comm, int source, int tag);
/* Into the queue, from a channel log. Errors: NOMEM. */
enum tide_status parcel_load(struct comm *comm, int source, int tag, const void *payload, uint64_t bytes);
/* At a flip with a record: all that the program has not received is of the channel. */
void parcels_log_all(void);
/* A message that is in the program's own buffer already. count: of the old colour, and not counted yet. */
void parcel_log_received(struct request *request, bool count);
/* One that MPI has matched and is still putting there: what is matched from now on is behind it in the log. */
void parcel_expect(struct request *request);
void parcel_unexpect(struct request *request);
/* The message that member has sent as the number-th goes before those of others, once we have flipped (cut_rank_prefer). */
void parcels_prefer(uint64_t comm, uint32_t peer, uint64_t number, uint64_t epoch);
void parcels_prefer_none(void);
/* One was counted of that member; it may have been the last that goes first. */
void parcels_counted_first(const struct comm *comm, int member);
static inline void parcels_counted(const struct comm *comm, int member)
{
    if (UNLIKELY(comm->first != NULL))
        parcels_counted_first(comm, member);
}
void parcels_release(uint32_t peer);
void parcels_release_all(void);
/* What there is of a communicator that is gone. */
void parcels_forget(struct comm *comm);

/* ---- poll.c ---- */

/* Look at the page, do what it says, take what has arrived. */
void progress(void);
/* Those that have come. */
void bookmarks_receive(void);
/* At the end of a call: where nothing is to do any more, calls may be quick again. */
void settle_quick(void);
/* The same of what calls do beside the lock. */
void settle_calm(void);
#define NO_ROOT (-1)
/* Around a call of MPI's that waits for others, and in which nothing is polled: receives that wait are parked. True: leave.
 */
bool blocked_enter_slow(MPI_Comm collective, int root);
void blocked_leave(void);
static inline bool blocked_enter(void)
{
    return !quick() && blocked_enter_slow(MPI_COMM_NULL, NO_ROOT);
}
/* … of a collective, which is counted already. root: a member that it waits for alone; NO_ROOT: for all. */
static inline bool blocked_enter_collective(MPI_Comm handle, int root)
{
    return !quick() && blocked_enter_slow(handle, root);
}
/* In a call that looks at something and does not wait: a program may wait for others by calling nothing else. */
void look_once(void);
void flip(uint64_t epoch, bool recorded);
/* The record of this epoch is void. */
void give_up(const char *why);

/* ---- offer.c ---- */

int offers_init(void);
/* The rank polls: what was told and sent in another attempt is forgotten. */
void offers_begin(void);
/* Closed: nobody waits for it any more. */
void offers_end(void);
/* A message was sent, the number-th on its communicator to its receiver: copy NULL, or the one that waits for its receive. */
void offers_note_sent(const struct comm *comm, int to, int tag, struct copy *copy);
/* Who waits, and is to get a receive that its receiver has told of, is done; who waits for long asks. */
void offers_settle(void);
/* Take what has come. */
void offers_take(void);
/* Who has asked is told, where MPI matches and we look. */
void offers_answer(void);
/* Before a call in which we do not: whoever may send for what waits is told of it. */
void offers_tell(void);
bool offers_sent(void);

/* ---- early.c ---- */

/* Somebody waits for such a message, and it is not there. May flip. */
void look_early(const struct comm *comm, int source, int tag);
void look_early_for(const struct request *request);
/* The sender of a synchronous message waits for long. Nonzero: it is one that this receive would get, and the rank has flipped. */
bool look_early_asked(const struct request *request);
/* … and whoever looks is to flip, as `by` asks. */
void flip_asked(uint32_t by);

#endif
