/* SPDX-License-Identifier: Apache-2.0 */

/* A program that cannot be cut at most of its moments: rank 0 has a safe point in each round, the others only in one of many, and
 * each round needs an answer of all. What a record of rank 0 leaves behind is needed by the others before their safe point. It
 * must go on whatever is tried, and the reason must be told.
 *
 *     cut_early ROUNDS ROUNDS_BETWEEN_SAFE_POINTS */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <tidemark/tidemark.h>

#define TAG_ASK 5
#define TAG_ANSWER 6

static void ask_all(int size, uint64_t round, uint64_t *sum)
{
    for (int r = 1; r < size; r++)
        MPI_Send(&round, 1, MPI_UINT64_T, r, TAG_ASK, MPI_COMM_WORLD);
    for (int r = 1; r < size; r++) {
        uint64_t answer = 0;
        MPI_Recv(&answer, 1, MPI_UINT64_T, r, TAG_ANSWER, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        *sum += answer;
    }
}

static void answer(void)
{
    uint64_t round = 0;
    MPI_Recv(&round, 1, MPI_UINT64_T, 0, TAG_ASK, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Send(&round, 1, MPI_UINT64_T, 0, TAG_ANSWER, MPI_COMM_WORLD);
}

int main(int argc, char **argv)
{
    struct tide *tide = NULL;
    struct tide_options options = {.size = sizeof options, .cut = TIDE_CUT_FREE};
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000, between = argc > 2 ? strtoull(argv[2], NULL, 10) : 50;
    uint64_t sum = 0, wanted = 0;
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (tide_init(&tide, &options) != TIDE_OK || between == 0) {
        fprintf(stderr, "cut_early: %s\n", tide_error_text(NULL));
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    for (uint64_t round = 1; round <= rounds; round++) {
        if (rank == 0)
            ask_all(size, round, &sum);
        else
            answer();
        wanted += round * (uint64_t)(size - 1);
        if (rank == 0 || round % between == 0)
            tide_step(tide, round);
    }
    tide_finalize(tide);
    if (rank == 0)
        printf("cut_early %s\n", sum == wanted ? "right" : "WRONG");
    MPI_Finalize();
    return rank == 0 && sum != wanted;
}
