/* SPDX-License-Identifier: Apache-2.0 */

/* Two ranks of plain MPI: what messages cost, with and without whatever is preloaded. One line "name value" per figure, the best of
 * many short rounds, for bench_mpi.sh to compare. */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/measure.h"

#define WINDOW 64
#define BYTES_MAX (1 << 20)
#define ROUNDS 40

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

int main(int argc, char **argv)
{
    double small = 1e12, eight = 1e12, large = 1e12, window = 1e12, sum = 1e12;
    int scale = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    buffer = malloc(BYTES_MAX);
    if (buffer == NULL || scale < 1 || scale > 100)
        MPI_Abort(MPI_COMM_WORLD, 1);
    memset(buffer, 1, BYTES_MAX);
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
    free(buffer);
    MPI_Finalize();
    return 0;
}
