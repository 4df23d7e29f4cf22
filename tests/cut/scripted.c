/* SPDX-License-Identifier: Apache-2.0 */

/* An MPI program of two ranks, each of which gives itself the orders that an agent would, word by word: what the interposer
 * does in one state of a cut is seen without chance. A story that does not go on is ended by an alarm. Prints one line for
 * each.
 *
 *     cut_scripted STORY */

#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/client/mpi/link.h"
#include "ckpt/cut/channel.h"
#include "ckpt/wire/local.h"
#include "tests/cut/self.h"
#include "tests/cut/story.h"

#define STUCK_SECONDS 50
#define ATTACHED_BYTES (1 << 20) /* more than is sent before its receive is there */

/* ---- what is refused ---- */

static void story_persistent(void)
{
    MPI_Request request;
#if defined(OPEN_MPI)
    int MPIX_Barrier_init(MPI_Comm comm, MPI_Info info, MPI_Request * request);
    MPIX_Barrier_init(MPI_COMM_WORLD, MPI_INFO_NULL, &request);
#else
    MPI_Barrier_init(MPI_COMM_WORLD, MPI_INFO_NULL, &request);
#endif
    accepted(1);
    MPI_Start(&request);
    refused(2, "a nonblocking MPI collective is outstanding");
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    accepted(3);
    MPI_Request_free(&request);
}

static void story_window(void)
{
    int memory[4] = {0}, one = 1;
    MPI_Win window;
    MPI_Group all, other;
    MPI_Win_create(memory, sizeof memory, sizeof memory[0], MPI_INFO_NULL, MPI_COMM_WORLD, &window);
    MPI_Win_fence(0, window);
    refused(1, "an epoch of an MPI window is open");
    MPI_Put(&one, 1, MPI_INT, 1 - rank, rank, 1, MPI_INT, window);
    MPI_Win_fence(MPI_MODE_NOSUCCEED, window);
    accepted(2);
    MPI_Win_lock(MPI_LOCK_SHARED, 1 - rank, 0, window);
    refused(3, "an epoch of an MPI window is open");
    MPI_Win_unlock(1 - rank, window);
    MPI_Comm_group(MPI_COMM_WORLD, &all);
    MPI_Group_incl(all, 1, &(int){1 - rank}, &other);
    MPI_Win_post(other, 0, window);
    refused(4, "an epoch of an MPI window is open");
    MPI_Win_start(other, 0, window);
    refused(5, "an epoch of an MPI window is open");
    MPI_Win_complete(window);
    MPI_Win_wait(window);
    accepted(6);
    /* Used by one that is armed: it may reach who has recorded. */
    begin(7);
    MPI_Win_lock(MPI_LOCK_SHARED, rank, 0, window);
    MPI_Put(&one, 1, MPI_INT, rank, 3, 1, MPI_INT, window);
    MPI_Win_unlock(rank, window);
    CHECK(!record(7) && strstr(why, "a one-sided MPI operation was called") != NULL);
    end(7);
    CHECK(memory[1 - rank] == 1);
    MPI_Group_free(&other);
    MPI_Group_free(&all);
    MPI_Win_free(&window);
}

static void story_file(void)
{
    char path[64], bytes[8] = "tidemark";
    MPI_File file;
    MPI_Request request;
    MPI_Status status;
    struct tide_mpi_comm world = {.id = 0};
    snprintf(path, sizeof path, "/dev/shm/cut-scripted-file-%d", (int)getppid());
    MPI_File_open(MPI_COMM_WORLD, path, MPI_MODE_CREATE | MPI_MODE_RDWR | MPI_MODE_DELETE_ON_CLOSE, MPI_INFO_NULL, &file);
    tide_mpi_comms(&world, 1);
    uint64_t before = world.collectives;
    accepted(1);
    MPI_File_iwrite_at(file, (MPI_Offset)(8 * rank), bytes, 8, MPI_BYTE, &request);
    refused(2, "a nonblocking MPI file operation is outstanding");
    MPI_Wait(&request, &status);
    accepted(3);
    MPI_File_write_at_all_begin(file, (MPI_Offset)(8 * rank), bytes, 8, MPI_BYTE);
    refused(4, "an MPI file operation has begun and not ended");
    MPI_File_write_at_all_end(file, bytes, &status);
    accepted(5);
    /* A collective call on a file is one of the communicator that it was opened on. */
    MPI_File_write_at_all(file, (MPI_Offset)(8 * rank), bytes, 8, MPI_BYTE, &status);
    tide_mpi_comms(&world, 1);
    CHECK(world.collectives == before + 3);
    MPI_File_close(&file);
}

/* ---- receives that wait are parked ---- */

static MPI_Request posted;
static int got;

/* Rank 1 has flipped and its receive waits in a queue; it comes to `call`. Rank 0 sends then, waits for that to be matched, and
 * comes to `call` too. */
void parked(uint64_t epoch, void (*call)(void))
{
    int sent = (int)epoch;
    got = 0;
    begin(epoch);
    if (rank == 1) {
        CHECK(record(epoch));
        MPI_Irecv(&got, 1, MPI_INT, 0, 5, MPI_COMM_WORLD, &posted);
    }
    meet();
    if (rank == 1)
        side->calling = epoch;
    while (side->calling != epoch) /* sent sooner it could be taken into the queue, and nothing be parked */
        nap();
    if (rank == 0)
        MPI_Ssend(&sent, 1, MPI_INT, 1, 5, MPI_COMM_WORLD);
    call();
    if (rank == 0)
        CHECK(record(epoch));
    else
        MPI_Wait(&posted, MPI_STATUS_IGNORE);
    CHECK(rank == 0 || got == sent);
    end(epoch);
}

static MPI_Win parking_window;
static MPI_File parking_file;

static void call_fence(void)
{
    MPI_Win_fence(MPI_MODE_NOSUCCEED, parking_window);
}

static void call_open(void)
{
    char path[64];
    snprintf(path, sizeof path, "/dev/shm/cut-scripted-park-%d", (int)getppid());
    MPI_File_open(MPI_COMM_WORLD, path, MPI_MODE_CREATE | MPI_MODE_RDWR | MPI_MODE_DELETE_ON_CLOSE, MPI_INFO_NULL,
                  &parking_file);
}

static void call_write(void)
{
    MPI_Status status;
    MPI_File_write_at_all(parking_file, (MPI_Offset)rank, "x", 1, MPI_BYTE, &status);
}

static void call_close(void)
{
    MPI_File_close(&parking_file);
}

static void call_barrier(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
}

static void call_dup(void)
{
    MPI_Comm made;
    MPI_Comm_dup(MPI_COMM_WORLD, &made);
    MPI_Comm_free(&made);
}

static MPI_Comm parking_comm;

static void call_disconnect(void)
{
    MPI_Comm_disconnect(&parking_comm);
}

/* Waits until rank 0 has received what rank 1 had sent before. */
static char *attached;

static void call_detach(void)
{
    int size;
    if (rank == 1)
        MPI_Buffer_detach(&attached, &size);
    else
        MPI_Recv(attached, ATTACHED_BYTES, MPI_BYTE, 1, 6, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static void parked_in_detach(uint64_t epoch)
{
    attached = calloc(1, ATTACHED_BYTES + MPI_BSEND_OVERHEAD);
    CHECK(attached != NULL);
    if (rank == 1) {
        char *sent = calloc(1, ATTACHED_BYTES);
        MPI_Buffer_attach(attached, ATTACHED_BYTES + MPI_BSEND_OVERHEAD);
        MPI_Bsend(sent, ATTACHED_BYTES, MPI_BYTE, 0, 6, MPI_COMM_WORLD);
        free(sent);
    }
    parked(epoch, call_detach);
    free(attached);
}

static void story_parking(void)
{
    MPI_Comm_dup(MPI_COMM_WORLD, &parking_comm);
    MPI_Win_create(NULL, 0, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &parking_window);
    parked(1, call_barrier);
    parked(2, call_fence);
    parked(3, call_open);
    parked(4, call_write);
    parked(5, call_close);
    parked(6, call_dup);
    parked(7, call_disconnect);
    parked_in_detach(8);
    MPI_Win_free(&parking_window);
}

/* ---- errors ---- */

static MPI_Comm handed;
static int handed_times;

static void handler(MPI_Comm *comm, int *error, ...)
{
    int class = 0;
    MPI_Error_class(*error, &class);
    CHECK(class == MPI_ERR_TRUNCATE);
    handed = *comm;
    handed_times++;
}

/* In both colours the program's handler gets the program's communicator. */
static void story_handler(void)
{
    char bytes[8] = "toolong", small[2];
    MPI_Comm comm;
    MPI_Errhandler own;
    MPI_Comm_dup(MPI_COMM_WORLD, &comm);
    MPI_Comm_create_errhandler(handler, &own);
    MPI_Comm_set_errhandler(comm, own);
    for (uint64_t epoch = 1; epoch <= 2; epoch++) {
        begin(epoch);
        CHECK(record(epoch));
        end(epoch);
        handed = MPI_COMM_NULL;
        if (rank == 0) {
            MPI_Send(bytes, 8, MPI_BYTE, 1, 1, comm);
        } else {
            CHECK(MPI_Recv(small, 2, MPI_BYTE, 0, 1, comm, MPI_STATUS_IGNORE) != MPI_SUCCESS);
            CHECK(handed == comm && handed_times == (int)epoch);
        }
        MPI_Barrier(comm);
    }
    MPI_Errhandler_free(&own);
    MPI_Comm_free(&comm);
}

/* ---- restarts ---- */

/* What a program has not made is told by the name it had, or its members. */
static void story_missing(void)
{
    static const char *const expected[] = {"\"hydro\" (2 members", "\"rank 1 of MPI_COMM_WORLD\" (1 members"};
    struct cut_comm comms[] = {{.id = 77, .size = 2, .name = "hydro"}, {.id = 0}};
    struct tide_mpi_comm known[3];
    unsigned char log[512];
    MPI_Comm alone;
    MPI_Comm_split(MPI_COMM_WORLD, rank, 0, &alone);
    CHECK(tide_mpi_comms(known, 3) == 3);
    MPI_Comm_free(&alone);
    if (rank == 0)
        return;
    comms[1] = (struct cut_comm){.id = known[2].id, .size = known[2].size};
    memcpy(comms[1].name, known[2].name, sizeof comms[1].name);
    for (int i = 0; i < 2; i++) {
        struct cut_entry entry = {.comm = comms[i].id, .source = 0, .tag = 1, .bytes = 0};
        size_t head = cut_channel_head_bytes(2);
        cut_channel_print_head(log, comms, 2);
        cut_channel_frame(log + head, &entry);
        CHECK(tide_mpi_load(log, head + cut_channel_entry_bytes(0), why, sizeof why) == TIDE_E_MISMATCH);
        check(strstr(why, expected[i]) != NULL, why);
    }
}

#define LARGE_INTS (5 << 20) /* more bytes than are given to MPI at once */

static void fill(int *numbers)
{
    for (int i = 0; i < LARGE_INTS; i++)
        numbers[i] = i * 3;
}

static bool filled(const int *numbers)
{
    int wrong = 0;
    for (int i = 0; i < LARGE_INTS; i++)
        wrong += numbers[i] != i * 3;
    return wrong == 0;
}

/* Logged when it is taken and when it had been received before, loaded again, and sent from a copy: the same numbers. */
static void story_large(void)
{
    int *numbers = calloc(LARGE_INTS, sizeof *numbers), *early = calloc(LARGE_INTS, sizeof *early), count = 0, done = 0;
    MPI_Request first = MPI_REQUEST_NULL;
    MPI_Status status;
    CHECK(numbers != NULL && early != NULL);
    begin(1);
    if (rank == 0)
        fill(numbers);
    if (rank == 0)
        MPI_Send(numbers, LARGE_INTS, MPI_INT, 1, 8, MPI_COMM_WORLD);
    else
        MPI_Irecv(early, LARGE_INTS, MPI_INT, 0, 8, MPI_COMM_WORLD, &first);
    while (rank == 1 && !done)
        MPI_Request_get_status(first, &done, &status);
    if (rank == 0)
        MPI_Isend(numbers, LARGE_INTS, MPI_INT, 1, 9, MPI_COMM_WORLD, &posted);
    meet();
    CHECK(rank == 0 || record(1));
    meet();
    if (rank == 1) {
        MPI_Wait(&first, &status);
        MPI_Recv(numbers, LARGE_INTS, MPI_INT, 0, 9, MPI_COMM_WORLD, &status);
        CHECK(filled(early) && filled(numbers));
        MPI_Send(numbers, LARGE_INTS, MPI_INT, 0, 10, MPI_COMM_WORLD);
    } else {
        MPI_Wait(&posted, MPI_STATUS_IGNORE);
        CHECK(record(1));
        memset(numbers, 0, LARGE_INTS * sizeof *numbers);
        MPI_Recv(numbers, LARGE_INTS, MPI_INT, 1, 10, MPI_COMM_WORLD, &status);
        CHECK(filled(numbers));
    }
    end(1);
    CHECK(rank == 0 || entries == 2);
    CHECK(rank == 0 || tide_mpi_load(channel_log, logged, why, sizeof why) == TIDE_OK);
    for (int tag = 8; rank == 1 && tag <= 9; tag++) {
        memset(numbers, 0, LARGE_INTS * sizeof *numbers);
        MPI_Recv(numbers, LARGE_INTS, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
        MPI_Get_count(&status, MPI_INT, &count);
        CHECK(count == LARGE_INTS && filled(numbers) && status.MPI_TAG == tag);
    }
    free(early);
    free(numbers);
}

/* ---- MPI 4 ---- */

#if MPI_VERSION >= 4
static void story_mpi_4(void)
{
    int out[2] = {rank, rank + 10}, in[2] = {0};
    MPI_Request request;
    struct tide_mpi_comm world = {.id = 0};
    tide_mpi_comms(&world, 1);
    uint64_t before = world.collectives;
    MPI_Isendrecv(&out[0], 1, MPI_INT, 1 - rank, 1, &in[0], 1, MPI_INT, 1 - rank, 1, MPI_COMM_WORLD, &request);
    refused(1, "an MPI_Isendrecv is outstanding");
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    CHECK(in[0] == 1 - rank);
    MPI_Isendrecv_replace(&out[1], 1, MPI_INT, 1 - rank, 2, 1 - rank, 2, MPI_COMM_WORLD, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    CHECK(out[1] == 11 - rank);
    if (rank == 0)
        MPI_Send_c(out, 2, MPI_INT, 1, 3, MPI_COMM_WORLD);
    else
        MPI_Recv_c(in, 2, MPI_INT, 0, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    CHECK(rank == 0 || in[1] == 11);
    MPI_Bcast_c(in, 2, MPI_INT, 1, MPI_COMM_WORLD);
    MPI_Iallreduce_c(out, in, 2, MPI_INT, MPI_SUM, MPI_COMM_WORLD, &request);
    refused(2, "a nonblocking MPI collective is outstanding");
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    CHECK(in[0] == 1 && in[1] == 21);
    tide_mpi_comms(&world, 1);
    CHECK(world.collectives == before + 2);
    accepted(3);
    if (rank == 0)
        MPI_Psend_init(out, 1, 2, MPI_INT, 1, 4, MPI_COMM_WORLD, MPI_INFO_NULL, &request);
    else
        MPI_Precv_init(in, 1, 2, MPI_INT, 0, 4, MPI_COMM_WORLD, MPI_INFO_NULL, &request);
    refused(4, "a partitioned MPI request exists");
    MPI_Start(&request);
    if (rank == 0)
        MPI_Pready(0, request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    MPI_Request_free(&request);
    accepted(5);
    MPI_Session session;
    MPI_Session_init(MPI_INFO_NULL, MPI_ERRORS_RETURN, &session);
    refused(6, "an MPI session is open");
    MPI_Session_finalize(&session);
    accepted(7);
}
#endif

/* ---- all of them ---- */

static const struct story {
    const char *name;
    void (*tell)(void);
    int threads;
    unsigned flags; /* enum tide_mpi_flag */
} stories[] = {{"counted", story_counted, MPI_THREAD_SINGLE, 0},
               {"freed", story_freed, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"persistent", story_persistent, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"window", story_window, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"file", story_file, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"parking", story_parking, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"threads", story_threads, MPI_THREAD_MULTIPLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"threads_woken", story_threads_woken, MPI_THREAD_MULTIPLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"threads_failed", story_threads_failed, MPI_THREAD_MULTIPLE, 0},
#if defined(OPEN_MPI) /* Debian's MPICH does not spawn */
               {"leaders", story_leaders, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
#endif
               {"looks", story_looks, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"neighbours", story_neighbours, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"offers", story_offers, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"offers_any", story_offers_any, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"offers_before", story_offers_before, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"offers_threads", story_offers_threads, MPI_THREAD_MULTIPLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"order", story_order, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"room", story_room, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"ssend", story_ssend, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"ssend_refused", story_ssend_refused, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"ssend_behind", story_ssend_behind, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"ssend_posted", story_ssend_posted, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"handler", story_handler, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
               {"missing", story_missing, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
#if MPI_VERSION >= 4
               {"mpi_4", story_mpi_4, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED},
#endif
               {"large", story_large, MPI_THREAD_SINGLE, TIDE_MPI_REQUESTS_REPOSTED}};

static const struct story *story_of(const char *name)
{
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        if (name && strcmp(stories[i].name, name) == 0)
            return &stories[i];
    }
    return NULL;
}

const char *program;

static int child(int argc, char **argv)
{
    alarm(STUCK_SECONDS);
    MPI_Init(&argc, &argv);
    story_child(argc > 2);
    MPI_Finalize();
    return 0;
}

int main(int argc, char **argv)
{
    char path[64];
    int size = 0, provided, all = 0;
    const struct story *story = story_of(argc > 1 ? argv[1] : NULL);
    program = argv[0];
    if (argc > 1 && strcmp(argv[1], STORY_CHILD) == 0)
        return child(argc, argv);
    if (story == NULL) {
        fprintf(stderr, "usage: mpirun -n 2 cut_scripted STORY\n");
        return 2;
    }
    alarm(STUCK_SECONDS);
    setenv(ENV_SOCKET, "nobody", 1);
    MPI_Init_thread(&argc, &argv, story->threads, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    snprintf(path, sizeof path, "/dev/shm/cut-scripted-%d", (int)getppid());
    side = shared_memory(path, sizeof *side);
    if (side == NULL || size != 2 || provided < story->threads)
        MPI_Abort(MPI_COMM_WORLD, 2);
    attach(story->flags);
    story->tell();
    MPI_Barrier(MPI_COMM_WORLD);
    unlink(path);
    int mine = right;
    MPI_Allreduce(&mine, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (rank == 0)
        printf("cut_scripted %s %s\n", story->name, all ? "right" : "WRONG");
    tide_mpi_detach();
    MPI_Finalize();
    return !all;
}
