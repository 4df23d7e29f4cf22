/* SPDX-License-Identifier: Apache-2.0 */

/* What MPI allows and few programs do, and what it refuses: every line says what came of one call, and is to be the same
 * whatever is preloaded (tests/cut/programs). Two ranks, any number of rounds; a round that is not as the first one was says
 * so. Rank R writes to odd.R where it runs.
 *
 *     cut_odd ROUNDS [threads] */

#include <mpi.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LINES_MAX 512
#define LINE_BYTES 160
#define TAG 3
#define FAR (INT64_C(3) << 30) /* bytes between two elements of one message */
#define BAD_RANK 77
#define BAD_TAG (-7)
#define BAD_COUNT (-1)

static FILE *report;
static char lines[LINES_MAX][LINE_BYTES];
static unsigned line, round_now, handled;
static int rank, other;
static MPI_Comm handled_of;

/* ---- what is said ---- */

static void say(const char *format, ...)
{
    char text[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (line == LINES_MAX)
        MPI_Abort(MPI_COMM_WORLD, 1);
    if (round_now == 0)
        memcpy(lines[line], text, sizeof text);
    if (round_now == 0)
        fprintf(report, "%d: %03u %s\n", rank, line, text);
    else if (strcmp(text, lines[line]) != 0)
        fprintf(report, "%d: round %u: %s; it was: %s\n", rank, round_now, text, lines[line]);
    line++;
}

static int class_of(int error)
{
    int class = -1;
    MPI_Error_class(error, &class);
    return class;
}

/* How often the program's error handler was called, and with which communicator. */
static void handler(MPI_Comm *comm, int *error, ...)
{
    (void)error;
    handled++;
    handled_of = *comm;
}

static void said(const char *name, int error)
{
    const char *of = handled == 0 ? "" : handled_of == MPI_COMM_WORLD ? ", world" : ", another";
    say("%s: class %d, handled %u%s", name, class_of(error), handled, of);
    handled = 0;
}

static void said_status(const char *name, int error, const MPI_Status *status)
{
    int count = -1, cancelled = -1;
    MPI_Get_count(status, MPI_BYTE, &count);
    MPI_Test_cancelled(status, &cancelled);
    said(name, error);
    say("%s: from %d, tag %d, %d bytes, cancelled %d, error %d", name, status->MPI_SOURCE, status->MPI_TAG, count, cancelled,
        status->MPI_ERROR);
}

static MPI_Status blank(void)
{
    MPI_Status status;
    memset(&status, 0, sizeof status);
    status.MPI_ERROR = 12345; /* stays, where one call completes one request */
    return status;
}

static void together(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
}

/* ---- arguments that are refused ---- */

struct arguments {
    const char *name;
    int count, peer, tag;
    MPI_Comm comm;
    MPI_Datatype type;
};

static void refuse_sends(const struct arguments *a)
{
    char text[LINE_BYTES], bytes[64] = "";
    MPI_Request request = MPI_REQUEST_NULL;
#define REFUSED(call, ...)                                                                                                  \
    do {                                                                                                                    \
        snprintf(text, sizeof text, #call ", %s", a->name);                                                                 \
        said(text, MPI_##call(bytes, a->count, a->type, a->peer, a->tag, a->comm, ##__VA_ARGS__));                          \
    } while (0)
    REFUSED(Send);
    REFUSED(Ssend);
    REFUSED(Rsend);
    REFUSED(Isend, &request);
    REFUSED(Issend, &request);
    REFUSED(Irsend, &request);
    REFUSED(Send_init, &request);
    REFUSED(Ssend_init, &request);
}

static void refuse_receives(const struct arguments *a)
{
    char text[LINE_BYTES], bytes[64] = "";
    MPI_Request request = MPI_REQUEST_NULL;
    REFUSED(Recv, MPI_STATUS_IGNORE);
    REFUSED(Irecv, &request);
    REFUSED(Recv_init, &request);
    snprintf(text, sizeof text, "Sendrecv, %s", a->name);
    said(text, MPI_Sendrecv(bytes, a->count, a->type, a->peer, a->tag, bytes + 32, a->count, a->type, a->peer, a->tag,
                            a->comm, MPI_STATUS_IGNORE));
    snprintf(text, sizeof text, "Sendrecv_replace, %s", a->name);
    said(text, MPI_Sendrecv_replace(bytes, a->count, a->type, a->peer, a->tag, a->peer, a->tag, a->comm, MPI_STATUS_IGNORE));
}

static void refuse_probes(const struct arguments *a)
{
    char text[LINE_BYTES];
    MPI_Message message = MPI_MESSAGE_NULL;
    int found = 0;
    snprintf(text, sizeof text, "probes, %s", a->name);
    said(text, MPI_Probe(a->peer, a->tag, a->comm, MPI_STATUS_IGNORE));
    said(text, MPI_Iprobe(a->peer, a->tag, a->comm, &found, MPI_STATUS_IGNORE));
    said(text, MPI_Mprobe(a->peer, a->tag, a->comm, &message, MPI_STATUS_IGNORE));
    said(text, MPI_Improbe(a->peer, a->tag, a->comm, &found, &message, MPI_STATUS_IGNORE));
}

static void refused_messages(void)
{
    const struct arguments all[] = {{"no such rank", 1, BAD_RANK, TAG, MPI_COMM_WORLD, MPI_INT},
                                    {"a negative rank", 1, -BAD_RANK, TAG, MPI_COMM_WORLD, MPI_INT},
                                    {"a bad tag", 1, other, BAD_TAG, MPI_COMM_WORLD, MPI_INT},
                                    {"no communicator", 1, other, TAG, MPI_COMM_NULL, MPI_INT},
                                    {"a bad count", BAD_COUNT, other, TAG, MPI_COMM_WORLD, MPI_INT},
                                    {"no type", 1, other, TAG, MPI_COMM_WORLD, MPI_DATATYPE_NULL},
                                    {"a bad count to nobody", BAD_COUNT, MPI_PROC_NULL, TAG, MPI_COMM_WORLD, MPI_INT}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        refuse_sends(&all[i]);
        refuse_receives(&all[i]);
        if (all[i].comm != MPI_COMM_NULL && i < 4) /* Open MPI ends the program for one without a communicator */
            refuse_probes(&all[i]);
    }
}

static void refused_requests(void)
{
    MPI_Request none = MPI_REQUEST_NULL, two[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
    MPI_Status status = blank(), statuses[2] = {blank(), blank()};
    int done = -1, index = -1, indices[2];
    said_status("Wait, none", MPI_Wait(&none, &status), &status);
    status = blank();
    said_status("Test, none", MPI_Test(&none, &done, &status), &status);
    say("Test, none: done %d", done);
    said_status("Waitany, none", MPI_Waitany(2, two, &index, &status), &status);
    say("Waitany, none: index %d", index == MPI_UNDEFINED);
    said_status("Testany, none", MPI_Testany(2, two, &index, &done, &status), &status);
    say("Testany, none: index %d, done %d", index == MPI_UNDEFINED, done);
    said("Waitany of 0", MPI_Waitany(0, NULL, &index, MPI_STATUS_IGNORE));
    say("Waitany of 0: index %d", index == MPI_UNDEFINED);
    said("Waitsome, none", MPI_Waitsome(2, two, &done, indices, statuses));
    say("Waitsome, none: done %d", done == MPI_UNDEFINED);
    said("Testsome, none", MPI_Testsome(2, two, &done, indices, MPI_STATUSES_IGNORE));
    say("Testsome, none: done %d", done == MPI_UNDEFINED);
    said("Waitall, none", MPI_Waitall(2, two, statuses));
    statuses[1].MPI_ERROR = 0; /* some set it, of several that are all right */
    said_status("Waitall, none", MPI_SUCCESS, &statuses[1]);
    said("Waitall of 0", MPI_Waitall(0, NULL, MPI_STATUSES_IGNORE));
    said("Testall, none", MPI_Testall(2, two, &done, statuses));
    statuses[0].MPI_ERROR = 0;
    said_status("Testall, none", MPI_SUCCESS, &statuses[0]);
    say("Testall, none: done %d", done);
    said("Testall of 0", MPI_Testall(0, NULL, &done, MPI_STATUSES_IGNORE));
    said("Waitall, a bad count", MPI_Waitall(BAD_COUNT, two, MPI_STATUSES_IGNORE));
    said("Waitany, a bad count", MPI_Waitany(BAD_COUNT, two, &index, MPI_STATUS_IGNORE));
    said("Waitsome, a bad count", MPI_Waitsome(BAD_COUNT, two, &done, indices, MPI_STATUSES_IGNORE));
    said("Testall, a bad count", MPI_Testall(BAD_COUNT, two, &done, MPI_STATUSES_IGNORE));
    said("Startall of 0", MPI_Startall(0, NULL));
    said("Start, none", MPI_Start(&none));
    said("Cancel, none", MPI_Cancel(&none));
    said("Request_free, none", MPI_Request_free(&none));
}

static void refused_collectives(void)
{
    int in = 1, out[2] = {0};
    MPI_Comm made = MPI_COMM_NULL, none = MPI_COMM_NULL;
    MPI_Request request = MPI_REQUEST_NULL;
    said("Barrier, no communicator", MPI_Barrier(none));
    said("Ibarrier, no communicator", MPI_Ibarrier(none, &request));
    said("Bcast, no such root", MPI_Bcast(&in, 1, MPI_INT, BAD_RANK, MPI_COMM_WORLD));
    said("Bcast, a bad count", MPI_Bcast(&in, BAD_COUNT, MPI_INT, 0, MPI_COMM_WORLD));
    said("Reduce, no operation", MPI_Reduce(&in, out, 1, MPI_INT, MPI_OP_NULL, 0, MPI_COMM_WORLD));
    said("Allreduce, no type", MPI_Allreduce(&in, out, 1, MPI_DATATYPE_NULL, MPI_SUM, MPI_COMM_WORLD));
    said("Gather, no such root", MPI_Gather(&in, 1, MPI_INT, out, 1, MPI_INT, BAD_RANK, MPI_COMM_WORLD));
    said("Iallreduce, no operation", MPI_Iallreduce(&in, out, 1, MPI_INT, MPI_OP_NULL, MPI_COMM_WORLD, &request));
    said("Comm_dup, no communicator", MPI_Comm_dup(none, &made));
    said("Comm_split, no communicator", MPI_Comm_split(none, 0, 0, &made));
    said("Comm_free, no communicator", MPI_Comm_free(&none));
    say("made %d", made != MPI_COMM_NULL);
}

/* ---- nothing, to nobody ---- */

static void nobody(void)
{
    MPI_Request requests[4];
    MPI_Status status = blank(), statuses[4];
    MPI_Message message;
    int found = -1, value = 7;
    said("Send", MPI_Send(&value, 1, MPI_INT, MPI_PROC_NULL, TAG, MPI_COMM_WORLD));
    said("Ssend", MPI_Ssend(NULL, 0, MPI_INT, MPI_PROC_NULL, TAG, MPI_COMM_WORLD));
    said("Bsend", MPI_Bsend(&value, 1, MPI_INT, MPI_PROC_NULL, TAG, MPI_COMM_WORLD));
    said_status("Recv", MPI_Recv(&value, 1, MPI_INT, MPI_PROC_NULL, TAG, MPI_COMM_WORLD, &status), &status);
    said_status("Probe", MPI_Probe(MPI_PROC_NULL, TAG, MPI_COMM_WORLD, &status), &status);
    said_status("Iprobe", MPI_Iprobe(MPI_PROC_NULL, TAG, MPI_COMM_WORLD, &found, &status), &status);
    said_status("Mprobe", MPI_Mprobe(MPI_PROC_NULL, TAG, MPI_COMM_WORLD, &message, &status), &status);
    say("Mprobe: nobody's %d", message == MPI_MESSAGE_NO_PROC);
    said_status("Mrecv", MPI_Mrecv(&value, 1, MPI_INT, &message, &status), &status);
    said_status("Improbe", MPI_Improbe(MPI_PROC_NULL, TAG, MPI_COMM_WORLD, &found, &message, &status), &status);
    said("Imrecv", MPI_Imrecv(&value, 1, MPI_INT, &message, &requests[0]));
    said_status("Imrecv's wait", MPI_Wait(&requests[0], &status), &status);
    said_status("Sendrecv",
                MPI_Sendrecv(&value, 1, MPI_INT, MPI_PROC_NULL, TAG, &value, 1, MPI_INT, MPI_PROC_NULL, TAG, MPI_COMM_WORLD,
                             &status),
                &status);
    said("Sendrecv_replace",
         MPI_Sendrecv_replace(&value, 1, MPI_INT, MPI_PROC_NULL, TAG, MPI_PROC_NULL, TAG, MPI_COMM_WORLD, &status));
    status.MPI_ERROR = 0; /* MPICH sets it */
    said_status("Sendrecv_replace", MPI_SUCCESS, &status);
    MPI_Isend(&value, 1, MPI_INT, MPI_PROC_NULL, TAG, MPI_COMM_WORLD, &requests[0]);
    MPI_Issend(&value, 1, MPI_INT, MPI_PROC_NULL, TAG, MPI_COMM_WORLD, &requests[1]);
    MPI_Irecv(&value, 1, MPI_INT, MPI_PROC_NULL, TAG, MPI_COMM_WORLD, &requests[2]);
    MPI_Recv_init(&value, 1, MPI_INT, MPI_PROC_NULL, TAG, MPI_COMM_WORLD, &requests[3]);
    MPI_Start(&requests[3]);
    said("Waitall", MPI_Waitall(4, requests, statuses));
    statuses[2].MPI_ERROR = statuses[3].MPI_ERROR = 0;
    said_status("Irecv", MPI_SUCCESS, &statuses[2]);
#if defined(OPEN_MPI) /* MPICH's is from anybody */
    said_status("Recv_init", MPI_SUCCESS, &statuses[3]);
#endif
    MPI_Request_free(&requests[3]);
    say("the value is %d, all done %d", value, requests[0] == MPI_REQUEST_NULL && requests[2] == MPI_REQUEST_NULL);
}

/* Messages without a byte, and half of an exchange. */
static void nothing(void)
{
    MPI_Request request;
    MPI_Status status = blank();
    int in = 5, out = rank + 50;
    MPI_Isend(NULL, 0, MPI_INT, other, TAG, MPI_COMM_WORLD, &request);
    said_status("empty Recv", MPI_Recv(NULL, 0, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &status), &status);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    MPI_Isend(NULL, 0, MPI_INT, rank, TAG, MPI_COMM_WORLD, &request);
    said_status("empty to itself", MPI_Recv(&in, 1, MPI_INT, rank, TAG, MPI_COMM_WORLD, &status), &status);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    int to = rank == 0 ? 1 : MPI_PROC_NULL, from = rank == 1 ? 0 : MPI_PROC_NULL;
    said_status("half a Sendrecv",
                MPI_Sendrecv(&out, 1, MPI_INT, to, TAG, &in, 1, MPI_INT, from, TAG, MPI_COMM_WORLD, &status), &status);
    say("half a Sendrecv: %d", in);
    said("an empty Bcast", MPI_Bcast(NULL, 0, MPI_INT, 0, MPI_COMM_WORLD));
    said("an empty Allreduce", MPI_Allreduce(&in, &out, 0, MPI_INT, MPI_SUM, MPI_COMM_WORLD));
}

/* ---- messages that do not fit, and types that are large, or strange ---- */

static void too_long(void)
{
    int four[4] = {1, 2, 3, 4}, in[4] = {0};
    MPI_Request requests[2];
    MPI_Status status = blank(), statuses[2] = {blank(), blank()};
    MPI_Isend(four, 4, MPI_INT, other, TAG, MPI_COMM_WORLD, &requests[0]);
    int error = MPI_Recv(in, 2, MPI_INT, other, TAG, MPI_COMM_WORLD, &status);
    said("a message that is too long", error);
    say("from %d, tag %d", status.MPI_SOURCE, status.MPI_TAG);
    MPI_Wait(&requests[0], MPI_STATUS_IGNORE);
    together();
    MPI_Irecv(in, 1, MPI_INT, other, TAG, MPI_COMM_WORLD, &requests[0]);
    MPI_Irecv(in + 2, 2, MPI_INT, other, TAG + 1, MPI_COMM_WORLD, &requests[1]);
    together();
    MPI_Send(four, 4, MPI_INT, other, TAG, MPI_COMM_WORLD);
    MPI_Send(four, 2, MPI_INT, other, TAG + 1, MPI_COMM_WORLD);
    error = MPI_Waitall(2, requests, statuses);
    while (error != MPI_SUCCESS && statuses[1].MPI_ERROR == MPI_ERR_PENDING) /* that is allowed */
        statuses[1].MPI_ERROR = MPI_Wait(&requests[1], &statuses[1]);
    said("Waitall with one of these", error);
    say("of them: %d, %d; %d %d", class_of(statuses[0].MPI_ERROR), class_of(statuses[1].MPI_ERROR), in[2], in[3]);
}

static void far_apart(void)
{
    char *room = mmap(NULL, (size_t)FAR + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MPI_Datatype type;
    MPI_Request request;
    MPI_Status status = blank();
    int two[2] = {0};
    if (room == MAP_FAILED) {
        say("no room");
        return;
    }
    MPI_Type_create_hvector(2, 1, (MPI_Aint)FAR, MPI_INT, &type);
    MPI_Type_commit(&type);
    memcpy(room, &(int){rank + 1}, sizeof(int));
    memcpy(room + FAR, &(int){rank + 11}, sizeof(int));
    MPI_Isend(room, 1, type, other, TAG, MPI_COMM_WORLD, &request);
    said_status("from far apart", MPI_Recv(two, 2, MPI_INT, other, TAG, MPI_COMM_WORLD, &status), &status);
    say("got %d %d", two[0], two[1]);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    MPI_Irecv(room, 1, type, other, TAG, MPI_COMM_WORLD, &request);
    MPI_Type_free(&type);
    MPI_Send(two, 2, MPI_INT, other, TAG, MPI_COMM_WORLD);
    said_status("to far apart", MPI_Wait(&request, &status), &status);
    say("got %d %d", *(int *)(void *)room, *(int *)(void *)(room + FAR));
    munmap(room, (size_t)FAR + 4096);
}

static void strange_types(void)
{
    int three[3] = {1, 2, 3}, in[4] = {9, 9, 9, 9}, count = -1, elements = -1;
    MPI_Datatype pair, empty, backwards;
    MPI_Status status = blank();
    MPI_Request request;
    MPI_Type_contiguous(2, MPI_INT, &pair);
    MPI_Type_commit(&pair);
    MPI_Isend(three, 3, MPI_INT, other, TAG, MPI_COMM_WORLD, &request);
    said_status("three in pairs", MPI_Recv(in, 2, pair, other, TAG, MPI_COMM_WORLD, &status), &status);
    MPI_Get_count(&status, pair, &count);
    MPI_Get_elements(&status, pair, &elements);
    say("whole pairs %d, elements %d", count == MPI_UNDEFINED, elements);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    MPI_Type_free(&pair);
    MPI_Type_contiguous(0, MPI_INT, &empty);
    MPI_Type_commit(&empty);
    MPI_Isend(three, 1000, empty, other, TAG, MPI_COMM_WORLD, &request);
    said_status("of an empty type", MPI_Recv(in, 5, empty, other, TAG, MPI_COMM_WORLD, &status), &status);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    MPI_Type_free(&empty);
    MPI_Type_vector(3, 1, -1, MPI_INT, &backwards);
    MPI_Type_commit(&backwards);
    MPI_Isend(three + 2, 1, backwards, other, TAG, MPI_COMM_WORLD, &request);
    said_status("backwards", MPI_Recv(in + 1, 3, MPI_INT, other, TAG, MPI_COMM_WORLD, &status), &status);
    say("got %d %d %d %d", in[0], in[1], in[2], in[3]);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    MPI_Type_free(&backwards);
}

/* ---- what is freed, or taken back, while it is under way ---- */

static void freed(void)
{
    static int kept; /* its request is gone */
    int in = 0, out = rank + 30, cancelled = 0, in_two = 0;
    MPI_Comm dup;
    MPI_Request requests[2];
    MPI_Status status = blank();
    MPI_Comm_dup(MPI_COMM_WORLD, &dup);
    MPI_Irecv(&in, 1, MPI_INT, other, TAG, dup, &requests[0]);
    MPI_Issend(&out, 1, MPI_INT, other, TAG, dup, &requests[1]);
    said("Comm_free with two under way", MPI_Comm_free(&dup));
    say("gone %d", dup == MPI_COMM_NULL);
    said_status("its receive", MPI_Wait(&requests[0], &status), &status);
    said("its send", MPI_Wait(&requests[1], MPI_STATUS_IGNORE));
    say("got %d", in);
    kept = rank + 40;
    MPI_Isend(&kept, 1, MPI_INT, other, TAG, MPI_COMM_WORLD, &requests[0]);
    said("Request_free of a send", MPI_Request_free(&requests[0]));
    MPI_Recv(&in, 1, MPI_INT, other, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    say("got %d", in);
    MPI_Irecv(&in_two, 1, MPI_INT, other, TAG + 9, MPI_COMM_WORLD, &requests[0]);
    said("Cancel", MPI_Cancel(&requests[0]));
    MPI_Wait(&requests[0], &status);
    MPI_Test_cancelled(&status, &cancelled);
    say("cancelled %d", cancelled);
    MPI_Send_init(&out, 1, MPI_INT, other, TAG, MPI_COMM_WORLD, &requests[0]);
    MPI_Recv_init(&in, 1, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &requests[1]);
    said_status("a Wait for an inactive one", MPI_Wait(&requests[1], &status), &status);
    MPI_Startall(2, requests);
    said("Waitall of persistent ones", MPI_Waitall(2, requests, MPI_STATUSES_IGNORE));
    say("got %d, they stay %d", in, requests[0] != MPI_REQUEST_NULL && requests[1] != MPI_REQUEST_NULL);
    MPI_Request_free(&requests[0]);
    MPI_Request_free(&requests[1]);
    say("gone %d", requests[0] == MPI_REQUEST_NULL);
}

/* ---- MPI_Bsend, and MPI_IN_PLACE ---- */

static void buffered(void)
{
    static char room[4096 + MPI_BSEND_OVERHEAD];
    char *back = NULL;
    int size = 0, in = 0, out = rank + 60;
    MPI_Buffer_attach(room, sizeof room);
    said("Bsend", MPI_Bsend(&out, 1, MPI_INT, other, TAG, MPI_COMM_WORLD));
    said("Recv", MPI_Recv(&in, 1, MPI_INT, other, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE));
    MPI_Buffer_detach(&back, &size);
    say("got %d, the buffer is back %d", in, back == room && size == (int)sizeof room);
}

static void in_place(void)
{
    int a[2] = {rank + 1, rank + 2}, b[2] = {0};
    MPI_Request request;
    said("Allreduce", MPI_Allreduce(MPI_IN_PLACE, a, 2, MPI_INT, MPI_SUM, MPI_COMM_WORLD));
    said("Iallreduce", MPI_Iallreduce(MPI_IN_PLACE, a, 2, MPI_INT, MPI_MAX, MPI_COMM_WORLD, &request));
    said("its Wait", MPI_Wait(&request, MPI_STATUS_IGNORE));
    b[rank] = a[0] + rank;
    said("Allgather", MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, b, 1, MPI_INT, MPI_COMM_WORLD));
    said("Alltoall", MPI_Alltoall(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, b, 1, MPI_INT, MPI_COMM_WORLD));
    said("Scan", MPI_Scan(MPI_IN_PLACE, a, 2, MPI_INT, MPI_SUM, MPI_COMM_WORLD));
    say("%d %d, %d %d", a[0], a[1], b[0], b[1]);
    if (rank == 0)
        said("Gather", MPI_Gather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, b, 1, MPI_INT, 0, MPI_COMM_WORLD));
    else
        said("Gather", MPI_Gather(&a[0], 1, MPI_INT, NULL, 0, MPI_DATATYPE_NULL, 0, MPI_COMM_WORLD));
    said("Reduce", MPI_Reduce(rank == 0 ? MPI_IN_PLACE : a, a, 2, MPI_INT, MPI_SUM, 0, MPI_COMM_WORLD));
    say("%d %d, %d %d", a[0], a[1], b[0], b[1]);
}

/* ---- all of it ---- */

static void refused(void)
{
    refused_messages();
    refused_requests();
    refused_collectives();
}

static void one_round(void)
{
    static void (*const parts[])(void) = {refused,       nobody, nothing,  too_long, far_apart,
                                          strange_types, freed,  buffered, in_place};
    line = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        parts[i]();
        together();
    }
}

/* A send whose request is freed, a persistent one that is inactive, and a communicator that nobody frees. */
static void leave(void)
{
    static int kept = 3;
    int in = 0;
    MPI_Request request;
    MPI_Comm left;
    MPI_Comm_dup(MPI_COMM_WORLD, &left);
    MPI_Recv_init(&in, 1, MPI_INT, other, TAG, left, &request);
    MPI_Isend(&kept, 1, MPI_INT, other, TAG, left, &request);
    MPI_Request_free(&request);
    MPI_Recv(&in, 1, MPI_INT, other, TAG, left, MPI_STATUS_IGNORE);
    fprintf(report, "%d: ends %d, finalized %d\n", rank, in, MPI_Finalize());
}

int main(int argc, char **argv)
{
    char path[16];
    int level, again = -1, size = 0, finalized = -1;
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1;
    bool threads = argc > 2 && strcmp(argv[2], "threads") == 0;
    MPI_Errhandler errors;
    MPI_Init_thread(&argc, &argv, threads ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    snprintf(path, sizeof path, "odd.%d", rank);
    report = fopen(path, "w");
    if (size != 2 || report == NULL)
        MPI_Abort(MPI_COMM_WORLD, 1);
    (void)again;
    other = 1 - rank;
    MPI_Comm_create_errhandler(handler, &errors);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, errors);
    MPI_Comm_set_errhandler(MPI_COMM_SELF, errors);
#if !defined(OPEN_MPI) /* it ends the program */
    said("a second Init_thread", MPI_Init_thread(&argc, &argv, MPI_THREAD_SINGLE, &again));
    said("a second Init", MPI_Init(&argc, &argv));
#endif
    for (round_now = 0; round_now < rounds; round_now++)
        one_round();
    MPI_Errhandler_free(&errors);
    leave();
    MPI_Finalized(&finalized);
    fprintf(report, "%d: is finalized %d\n", rank, finalized);
    return fclose(report) == 0 ? 0 : 1;
}
