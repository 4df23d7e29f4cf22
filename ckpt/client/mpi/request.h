/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_MPI_REQUEST_H
#define CKPT_CLIENT_MPI_REQUEST_H

/* Requests of ours, for what MPI's own cannot do: a receive whose arrival must be counted or that waits in our queue, a
 * persistent one that starts in the colour of the day, a communicator that is being duplicated with its twin. What the
 * program holds is a handle that looks like one of MPI's: a pointer, or a number, into an arena that MPI does not know. */

#include <stdbool.h>
#include <stdint.h>

#include "ckpt/client/mpi/real.h"
#include "ckpt/cut/queue.h"

#define REQUESTS_MAX (1u << 20) /* of one process at a time; address space only, until used */
#define FORTRAN_ROOM 192        /* Fortran bindings of Open MPI read a handle's number inside the object, somewhere here */
#define HANDLE_SHRINK 16u       /* handles are so much closer to each other than requests: only that number is behind one */
#define NUMBERED_HANDLE 0x01000000 /* first of ours in MPICH, whose own handles all have one of their upper bits set */

struct comm;
struct copy;
struct parcel;

enum request_kind {
    REQUEST_FREE,
    REQUEST_SEND, /* persistent, or copied */
    REQUEST_RECV,
    REQUEST_CREATE, /* MPI_Comm_idup: two requests of MPI's */
    REQUEST_BOTH,   /* MPI_Isendrecv: two requests of ours */
    REQUEST_PASSED, /* a persistent one of MPI's, which is counted while it is active; `mode`: enum passed */
    REQUEST_MESSAGE /* no request: what MPI_Mprobe found in our queue */
};

/* What MPI keeps itself. */
enum passed {
    PASSED_COLLECTIVE,
    PASSED_FOREIGN,    /* a message on a communicator that is not followed */
    PASSED_PARTITIONED /* MPI_Psend_init, MPI_Precv_init */
};

enum request_state {
    REQUEST_INACTIVE,
    REQUEST_REAL,   /* MPI has it */
    REQUEST_QUEUED, /* we have it */
    REQUEST_DONE    /* `status` and `error` are there */
};

/* Its first 64 bytes are all that a message needs which is not in the way of a cut. Free: the bits, parcel and copy are 0.
 */
struct request {
    MPI_Request real;
    struct comm *comm;
    MPI_Datatype type;
    union {
        void *buffer;
        struct request *next_free; /* REQUEST_FREE */
    };
    uint64_t epoch;    /* of the colour it was posted in */
    uint64_t sequence; /* order of posting */
    int32_t peer, tag, count;
    uint8_t kind, state;
    uint8_t mode; /* enum send_mode, enum passed */
    bool persistent : 1;
    bool cancelling : 1; /* MPI or the program was asked to take it back */
    bool ours : 1;       /* `error` was found by us: nobody was told yet */
    bool own_type : 1;   /* `type` is a duplicate, made when the program freed its own */
    bool taken_back : 1; /* QUEUED, and in no queue yet */
    bool unheld : 1;     /* freed by the program while under way: gone when done */
    bool told : 1;       /* in this attempt, whoever may send for it */
    bool matched : 1;    /* MPI did not take it back */

    struct parcel *parcel; /* the message it gets */
    struct copy *copy;     /* of a synchronous send */
    MPI_Status status;
    int error;
    struct cut_receive receive; /* REQUEST_QUEUED, in the queue of its communicator */
    union {
        struct { /* REQUEST_CREATE */
            MPI_Request real_twin;
            uint64_t created_id;
            MPI_Comm created[2]; /* where MPI writes */
            MPI_Comm *ret_created;
        };
        struct { /* REQUEST_BOTH */
            struct request *out, *in;
            void *packed; /* what goes out, where it stands in the way of what comes in */
        };
    };
} __attribute__((aligned(64)));

struct requests {
    struct request *arena;
#if MPI_HANDLES_ARE_POINTERS
    char *handles;  /* nothing else has these addresses */
    int fortran_at; /* offset of the number in Open MPI's object, 0: unknown */
#endif
    uint32_t used; /* slots ever used */
    struct request *free;
};

extern struct requests requests;

/* Errors: nonzero, no memory. */
int requests_init(void);
/* NULL: REQUESTS_MAX are in use. */
struct request *request_create(enum request_kind kind, struct comm *comm);
void request_destroy(struct request *request);
/* How many of ours are on it. */
uint32_t requests_on(const struct comm *comm);

/* The same for what has nothing but its first 64 bytes, on a communicator that the program has not freed. request:
 * requests.free, which is not NULL. */
static inline void request_take(struct request *request, enum request_kind kind, struct comm *comm)
{
    requests.free = request->next_free;
    request->kind = (uint8_t)kind;
    request->comm = comm;
}
static inline void request_give(struct request *request)
{
    request->kind = REQUEST_FREE;
    request->next_free = requests.free;
    requests.free = request;
}

#if MPI_HANDLES_ARE_POINTERS
static inline struct request *request_of(MPI_Request handle)
{
    size_t at = (size_t)((char *)handle - requests.handles);
    char *arena = (char *)requests.arena;
    return at < REQUESTS_MAX * sizeof(struct request) / HANDLE_SHRINK
               ? (struct request *)(void *)(arena + at * HANDLE_SHRINK)
               : NULL;
}
static inline MPI_Request request_handle(struct request *request)
{
    return (MPI_Request)(void *)(requests.handles + (size_t)((char *)request - (char *)requests.arena) / HANDLE_SHRINK);
}
static inline MPI_Message message_handle(struct request *request)
{
    return (MPI_Message)(void *)request_handle(request);
}
static inline struct request *message_of(MPI_Message handle)
{
    return request_of((MPI_Request)(void *)handle);
}
#else
static inline struct request *request_of(MPI_Request handle)
{
    uint32_t at = (uint32_t)handle - NUMBERED_HANDLE;
    return at < REQUESTS_MAX ? &requests.arena[at] : NULL;
}
static inline MPI_Request request_handle(struct request *request)
{
    return (MPI_Request)(NUMBERED_HANDLE + (uint32_t)(request - requests.arena));
}
static inline MPI_Message message_handle(struct request *request)
{
    return (MPI_Message)request_handle(request);
}
static inline struct request *message_of(MPI_Message handle)
{
    return request_of((MPI_Request)handle);
}
#endif

#endif
