/* SPDX-License-Identifier: Apache-2.0 */
/* An MPI program that checks its own results and can go wrong in every way a rank goes wrong.
 *
 *   mpi_ring [ROUNDS [TROUBLE RANK]]
 *
 * TROUBLE: abort (MPI_Abort(7)), leave (exit 0 without MPI_Finalize), die (SIGKILL itself), hang (before the last round),
 * early (exit 3 before MPI_Init), slow (1 s before MPI_Init). Prints "ring ok size N" on rank 0 when all sums are right. */

#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BIG (256 * 1024)

static const char *trouble = "";
static int trouble_rank = -1, rank, size;

static int has(const char *what)
{
    return trouble_rank == rank && strcmp(trouble, what) == 0;
}

static void strike(void)
{
    if (has("abort"))
        MPI_Abort(MPI_COMM_WORLD, 7);
    if (has("leave"))
        _exit(0);
    if (has("die"))
        kill(getpid(), SIGKILL);
    if (has("hang"))
        for (;;)
            pause();
}

/* A token around the ring, every rank adding its number; then a long message the other way. */
static int ring(void)
{
    static double out[BIG], in[BIG];
    int next = (rank + 1) % size, before = (rank + size - 1) % size, token = 0;
    if (rank == 0) {
        MPI_Send(&token, 1, MPI_INT, next, 1, MPI_COMM_WORLD);
        MPI_Recv(&token, 1, MPI_INT, before, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    } else {
        MPI_Recv(&token, 1, MPI_INT, before, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        token += rank;
        MPI_Send(&token, 1, MPI_INT, next, 1, MPI_COMM_WORLD);
    }
    for (int i = 0; i < BIG; i++)
        out[i] = rank + i;
    MPI_Sendrecv(out, BIG, MPI_DOUBLE, before, 2, in, BIG, MPI_DOUBLE, next, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return (rank != 0 || token == size * (size - 1) / 2) && (int)in[BIG - 1] == next + BIG - 1;
}

static int allreduce(void)
{
    long sum = 0, mine = rank + 1;
    MPI_Allreduce(&mine, &sum, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    return sum == (long)size * (size + 1) / 2;
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : 3;
    trouble = argc > 3 ? argv[2] : "";
    trouble_rank = argc > 3 ? (int)strtol(argv[3], NULL, 10) : -1;
    rank = (int)strtol(getenv("RANK") != NULL ? getenv("RANK") : "0", NULL, 10);
    if (has("early"))
        return 3;
    if (has("slow"))
        sleep(1);
    MPI_Init(&argc, &argv);
    int before = rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    int good = before == rank && getenv("WORLD_SIZE") != NULL && size == (int)strtol(getenv("WORLD_SIZE"), NULL, 10);
    for (long i = 0; i < rounds && good; i++) {
        if (i == rounds - 1)
            strike();
        good = allreduce() && (size == 1 || ring());
    }
    if (rank == 0 && good)
        printf("ring ok size %d\n", size);
    MPI_Finalize();
    return good ? 0 : 4;
}
