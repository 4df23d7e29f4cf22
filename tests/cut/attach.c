/* SPDX-License-Identifier: Apache-2.0 */

/* Preloaded before libtidemark_mpi and libtidemark: any MPI program becomes one that can be cut. What is tested is that its
 * messages are none the worse for it; it has no state that is saved.
 *
 * CUT_ATTACH_EVERY=N: each Nth of its MPI calls (of those below, in its first thread) is a safe point, so that ranks record
 * between any two calls, with whatever messages and requests are under way. Without it there is none: ranks are ordered to
 * flip in the middle of what they do, and no cut is whole. */

#include <dlfcn.h>
#include <mpi.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <tidemark/tidemark.h>

static struct tide *tide;
static pthread_t attached_thread;
static uint64_t calls, step, every;

static void attach(void)
{
    struct tide_options options = {.size = sizeof options, .cut = TIDE_CUT_FREE, .requests_reposted = 1};
    const char *text = getenv("CUT_ATTACH_EVERY");
    every = text ? strtoull(text, NULL, 10) : 0;
    attached_thread = pthread_self();
    if (tide_init(&tide, &options) != TIDE_OK || tide_step(tide, ++step) != TIDE_OK)
        fprintf(stderr, "cut_attach: %s\n", tide_error_text(tide));
}

static void safe_point(void)
{
    static int inside;
    if (every == 0 || tide == NULL || !pthread_equal(pthread_self(), attached_thread) || inside || ++calls % every != 0)
        return;
    inside = 1; /* tide_step may come back here */
    if (tide_step(tide, ++step) != TIDE_OK)
        fprintf(stderr, "cut_attach: %s\n", tide_error_text(tide));
    inside = 0;
}

/* The function of the same name behind this library, which is libtidemark_mpi's. Under both names: see
 * ckpt/client/mpi/real.h. */
#define NEXT(name, parameters)                                                                                              \
    static int(*next) parameters;                                                                                           \
    if (next == NULL)                                                                                                       \
    *(void **)&next = dlsym(RTLD_NEXT, "MPI_" #name)
#define BOTH_NAMES(name) __typeof__(MPI_##name) PMPI_##name __attribute__((alias("MPI_" #name)))

int MPI_Init(int *argc, char ***argv)
{
    NEXT(Init, (int *, char ***));
    int error = next(argc, argv);
    if (error == MPI_SUCCESS)
        attach();
    return error;
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
    NEXT(Init_thread, (int *, char ***, int, int *));
    int error = next(argc, argv, required, provided);
    if (error == MPI_SUCCESS)
        attach();
    return error;
}

int MPI_Finalize(void)
{
    NEXT(Finalize, (void));
    every = 0;
    return next();
}

BOTH_NAMES(Init);
BOTH_NAMES(Init_thread);
BOTH_NAMES(Finalize);

#define SAFE_POINT(name, parameters, arguments)                                                                             \
    int MPI_##name parameters                                                                                               \
    {                                                                                                                       \
        NEXT(name, parameters);                                                                                             \
        safe_point();                                                                                                       \
        return next arguments;                                                                                              \
    }                                                                                                                       \
    BOTH_NAMES(name)

#define SEND_PARAMETERS (const void *buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm)
#define SEND_ARGUMENTS (buffer, count, type, to, tag, comm)
#define ISEND_PARAMETERS                                                                                                    \
    (const void *buffer, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request *request)
#define IRECV_PARAMETERS (void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request *request)

SAFE_POINT(Send, SEND_PARAMETERS, SEND_ARGUMENTS);
SAFE_POINT(Ssend, SEND_PARAMETERS, SEND_ARGUMENTS);
SAFE_POINT(Isend, ISEND_PARAMETERS, (buffer, count, type, to, tag, comm, request));
SAFE_POINT(Issend, ISEND_PARAMETERS, (buffer, count, type, to, tag, comm, request));
SAFE_POINT(Recv, (void *buffer, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Status *status),
           (buffer, count, type, from, tag, comm, status));
SAFE_POINT(Irecv, IRECV_PARAMETERS, (buffer, count, type, from, tag, comm, request));
SAFE_POINT(Probe, (int from, int tag, MPI_Comm comm, MPI_Status *status), (from, tag, comm, status));
SAFE_POINT(Iprobe, (int from, int tag, MPI_Comm comm, int *flag, MPI_Status *status), (from, tag, comm, flag, status));
SAFE_POINT(Start, (MPI_Request * request), (request));
SAFE_POINT(Wait, (MPI_Request * request, MPI_Status *status), (request, status));
SAFE_POINT(Waitall, (int count, MPI_Request requests[], MPI_Status statuses[]), (count, requests, statuses));
SAFE_POINT(Test, (MPI_Request * request, int *flag, MPI_Status *status), (request, flag, status));
SAFE_POINT(Barrier, (MPI_Comm comm), (comm));
SAFE_POINT(Bcast, (void *buffer, int count, MPI_Datatype type, int root, MPI_Comm comm), (buffer, count, type, root, comm));
SAFE_POINT(Reduce, (const void *from, void *to, int count, MPI_Datatype type, MPI_Op op, int root, MPI_Comm comm),
           (from, to, count, type, op, root, comm));
SAFE_POINT(Allreduce, (const void *from, void *to, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm),
           (from, to, count, type, op, comm));
