/* SPDX-License-Identifier: Apache-2.0 */

/* A program that has a nonblocking collective under way at each safe point and says that it posts again what is outstanding there. One
 * rank may have completed it where another has not, so that no cut may be taken; the program goes on.
 *
 *     cut_outstanding ROUNDS */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <tidemark/tidemark.h>

int main(int argc, char **argv)
{
    struct tide *tide = NULL;
    struct tide_options options = {.size = sizeof options, .cut = TIDE_CUT_FREE, .requests_reposted = 1};
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000, wrong = 0;
    int rank, size;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (tide_init(&tide, &options) != TIDE_OK) {
        fprintf(stderr, "cut_outstanding: %s\n", tide_error_text(NULL));
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    for (uint64_t round = 1; round <= rounds; round++) {
        MPI_Request request;
        uint64_t sum = 0;
        MPI_Iallreduce(&round, &sum, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD, &request);
        tide_step(tide, round);
        MPI_Wait(&request, MPI_STATUS_IGNORE);
        wrong += sum != round * (uint64_t)size;
    }
    tide_finalize(tide);
    if (rank == 0)
        printf("cut_outstanding %s\n", wrong == 0 ? "right" : "WRONG");
    MPI_Finalize();
    return wrong != 0;
}
