/* SPDX-License-Identifier: Apache-2.0 */

/* Two ranks of plain MPI: what messages cost, with and without whatever is preloaded. One line "name value" per figure, the best of
 * many short rounds, for bench_mpi.sh to compare. mpi_pair SCALE [threads]: with MPI_THREAD_MULTIPLE, by one thread of each rank,
 * and by several at once, each of which talks to its own opposite. */

#include <mpi.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/measure.h"

#define WINDOW 64
#define BYTES_MAX (1 << 20)
#define ROUNDS 40
#define THREADS 2 /* of a rank, at once */
#define THREAD_BYTES 64

static int rank;
static char *buffer;

static double pingpong_ns(int bytes, int times)
{
    double begin;
    MPI_Barrier(MPI_COMM_WORLD);
    begin = seconds();
    for (int i = 0; i < times; i++) {
        if (rank == 0)
            MPI_Send(buffer, bytes, MPI_BYTE, 1, 1, MPI_COMM_WORLD);
        MPI_Recv(buffer, bytes, MPI_BYTE, 1 - rank, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (rank == 1)
            MPI_Send(buffer, bytes, MPI_BYTE, 0, 1, MPI_COMM_WORLD);
    }
    return (seconds() - begin) * 1e9 / (2.0 * times);
}

/* Nanoseconds per message. */
static double window_ns(int windows)
{
    MPI_Request requests[WINDOW];
    double begin;
    MPI_Barrier(MPI_COMM_WORLD);
    begin = seconds();
    for (int w = 0; w < windows; w++) {
        for (int i = 0; i < WINDOW; i++) {
            if (rank == 0)
                MPI_Isend(buffer, 8, MPI_BYTE, 1, 2, MPI_COMM_WORLD, &requests[i]);
            else
                MPI_Irecv(buffer + 8 * i, 8, MPI_BYTE, 0, 2, MPI_COMM_WORLD, &requests[i]);
        }
        MPI_Waitall(WINDOW, requests, MPI_STATUSES_IGNORE);
    }
    if (rank == 0)
        MPI_Recv(buffer, 0, MPI_BYTE, 1, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    else
        MPI_Send(buffer, 0, MPI_BYTE, 0, 3, MPI_COMM_WORLD);
    return (seconds() - begin) * 1e9 / ((double)windows * WINDOW);
}

static double allreduce_ns(int times)
{
    double one = 1, sum, begin;
    MPI_Barrier(MPI_COMM_WORLD);
    begin = seconds();
    for (int i = 0; i < times; i++)
        MPI_Allreduce(&one, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    return (seconds() - begin) * 1e9 / times;
}

/* ---- several threads ---- */

/* One of a rank: its own opposite on its own communicator. */
struct talker {
    pthread_t thread;
    MPI_Comm comm;
    char bytes[THREAD_BYTES];
    int times;
};

static void *talk_in_waits(void *context)
{
    struct talker *talker = context;
    for (int i = 0; i < talker->times; i++) {
        if (rank == 0)
            MPI_Send(talker->bytes, 8, MPI_BYTE, 1, 1, talker->comm);
        MPI_Recv(talker->bytes, 8, MPI_BYTE, 1 - rank, 1, talker->comm, MPI_STATUS_IGNORE);
        if (rank == 1)
            MPI_Send(talker->bytes, 8, MPI_BYTE, 0, 1, talker->comm);
    }
    return NULL;
}

static void test_until_done(MPI_Request *request)
{
    int done = 0;
    while (MPI_Test(request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && !done)
        ;
}

static void *talk_in_tests(void *context)
{
    struct talker *talker = context;
    MPI_Request sent, received;
    for (int i = 0; i < talker->times; i++) {
        MPI_Irecv(talker->bytes, 8, MPI_BYTE, 1 - rank, 1, talker->comm, &received);
        if (rank == 1)
            test_until_done(&received);
        MPI_Isend(talker->bytes + 8, 8, MPI_BYTE, 1 - rank, 1, talker->comm, &sent);
        test_until_done(&sent);
        if (rank == 0)
            test_until_done(&received);
    }
    return NULL;
}

static double together_ns(struct talker *talkers, void *(*talk)(void *), int times)
{
    double begin;
    MPI_Barrier(MPI_COMM_WORLD);
    begin = seconds();
    for (int i = 0; i < THREADS; i++) {
        talkers[i].times = times;
        if (pthread_create(&talkers[i].thread, NULL, talk, &talkers[i]) != 0)
            MPI_Abort(MPI_COMM_WORLD, 1);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(talkers[i].thread, NULL);
    return (seconds() - begin) * 1e9 / (2.0 * times);
}

static void threads(int scale)
{
    double alone = 1e12, window = 1e12, sum = 1e12, waits = 1e12, tests = 1e12;
    struct talker talkers[THREADS];
    for (int i = 0; i < THREADS; i++)
        MPI_Comm_dup(MPI_COMM_WORLD, &talkers[i].comm);
    for (int i = 0; i < ROUNDS; i++) {
        alone = least(alone, pingpong_ns(8, 4000 / scale));
        window = least(window, window_ns(100 / scale + 1));
        sum = least(sum, allreduce_ns(2000 / scale));
        waits = least(waits, together_ns(talkers, talk_in_waits, 1000 / scale));
        tests = least(tests, together_ns(talkers, talk_in_tests, 1000 / scale));
    }
    for (int i = 0; i < THREADS; i++)
        MPI_Comm_free(&talkers[i].comm);
    if (rank == 0)
        printf("latency_8B %.2f\nmessage_8B %.2f\nallreduce_8B %.2f\nwaits_8B %.2f\ntests_8B %.2f\n", alone, window, sum, waits, tests);
}

static void one_thread(int scale)
{
    double small = 1e12, eight = 1e12, large = 1e12, window = 1e12, sum = 1e12;
    for (int i = 0; i < ROUNDS; i++) {
        small = least(small, pingpong_ns(8, 4000 / scale));
        eight = least(eight, pingpong_ns(8192, 1000 / scale));
        large = least(large, pingpong_ns(BYTES_MAX, 40 / scale + 1));
        window = least(window, window_ns(100 / scale + 1));
        sum = least(sum, allreduce_ns(2000 / scale));
    }
    if (rank == 0)
        printf("latency_8B %.2f\nlatency_8KiB %.2f\nlatency_1MiB %.2f\nmessage_8B %.2f\nallreduce_8B %.2f\n", small, eight, large,
               window, sum);
}

int main(int argc, char **argv)
{
    int scale = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1, level = MPI_THREAD_SINGLE;
    bool many = argc > 2 && strcmp(argv[2], "threads") == 0;
    MPI_Init_thread(&argc, &argv, many ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    buffer = malloc(BYTES_MAX);
    if (buffer == NULL || scale < 1 || scale > 100 || (many && level != MPI_THREAD_MULTIPLE))
        MPI_Abort(MPI_COMM_WORLD, 1);
    memset(buffer, 1, BYTES_MAX);
    if (many)
        threads(scale);
    else
        one_thread(scale);
    free(buffer);
    MPI_Finalize();
    return 0;
}
