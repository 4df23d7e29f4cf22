/* SPDX-License-Identifier: Apache-2.0 */

/* Neighbourhood collectives of all kinds, one after the other, on a ring and on a graph: blocking, nonblocking and
 * persistent. In each round a rank folds what it gets into its number, and plays all the others' to know what that must be.
 * A message to a neighbour is on its way at each safe point.
 *
 *     cut_neighbours ROUNDS */

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <tidemark/states.h>
#include <tidemark/tidemark.h>

#include "ckpt/client/mpi/real.h" /* names of the persistent ones */

#define RANKS_MIN 3 /* neighbours are different ones */
#define RANKS_MAX 16
#define NEIGHBOURS 2
#define TAG_HALO 7

enum how { BLOCKING, NONBLOCKING, PERSISTENT, HOWS };
enum what { ALLGATHER, ALLGATHERV, ALLTOALL, ALLTOALLV, ALLTOALLW, WHATS };

struct state {
    uint64_t round, mine, wrong;
    uint64_t all[RANKS_MAX]; /* what every rank's number must be */
    uint64_t halo;           /* what is on its way to here */
};

static struct tide *tide;
static struct state state;
static int rank, size;
static MPI_Comm ring, graph;

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void give_up(const char *what)
{
    fprintf(stderr, "cut_neighbours: rank %d: %s: %s\n", rank, what, tide_error_text(tide));
    MPI_Abort(MPI_COMM_WORLD, TIDE_EXIT_DO_NOT_RESTART);
    exit(TIDE_EXIT_DO_NOT_RESTART);
}

/* ---- who sends what to whom ---- */

static int at(int of, int distance)
{
    return (of + distance + size) % size;
}

/* To the i-th of those it sends to. On the ring these are who it receives from, too. */
static int target(MPI_Comm comm, int of, int i)
{
    return comm == ring ? at(of, i == 0 ? -1 : 1) : at(of, i + 1);
}

static int source(MPI_Comm comm, int of, int i)
{
    return comm == ring ? at(of, i == 0 ? -1 : 1) : at(of, -i - 1);
}

static uint64_t word(enum what what, uint64_t number, int to)
{
    return what == ALLGATHER || what == ALLGATHERV ? number : mix(number + (uint64_t)to);
}

static void make(void)
{
    int sources[NEIGHBOURS], targets[NEIGHBOURS];
    const int ones[NEIGHBOURS] = {1, 1}; /* weights */
    MPI_Cart_create(MPI_COMM_WORLD, 1, &size, (const int[]){1}, 0, &ring);
    for (int i = 0; i < NEIGHBOURS; i++) {
        sources[i] = at(rank, -i - 1);
        targets[i] = at(rank, i + 1);
    }
    MPI_Dist_graph_create_adjacent(MPI_COMM_WORLD, NEIGHBOURS, sources, ones, NEIGHBOURS, targets, ones, MPI_INFO_NULL, 0,
                                   &graph);
}

/* ---- one of them ---- */

static const int counts[NEIGHBOURS] = {1, 1}, places[NEIGHBOURS] = {0, 1};
static const MPI_Aint offsets[NEIGHBOURS] = {0, sizeof(uint64_t)};
static uint64_t out[NEIGHBOURS], in[NEIGHBOURS];

#define T MPI_UINT64_T
#define GATHER out, 1, T, in, 1, T
#define GATHERV out, 1, T, in, counts, places, T
#define TOALLV out, counts, places, T, in, counts, places, T
#define TOALLW out, counts, offsets, types, in, counts, offsets, types

static void block(enum what what, MPI_Comm comm, const MPI_Datatype *types)
{
    switch (what) {
    case ALLGATHER:
        MPI_Neighbor_allgather(GATHER, comm);
        break;
    case ALLGATHERV:
        MPI_Neighbor_allgatherv(GATHERV, comm);
        break;
    case ALLTOALL:
        MPI_Neighbor_alltoall(GATHER, comm);
        break;
    case ALLTOALLV:
        MPI_Neighbor_alltoallv(TOALLV, comm);
        break;
    default:
        MPI_Neighbor_alltoallw(TOALLW, comm);
    }
}

static void begin(enum what what, MPI_Comm comm, const MPI_Datatype *types, MPI_Request *request)
{
    switch (what) {
    case ALLGATHER:
        MPI_Ineighbor_allgather(GATHER, comm, request);
        break;
    case ALLGATHERV:
        MPI_Ineighbor_allgatherv(GATHERV, comm, request);
        break;
    case ALLTOALL:
        MPI_Ineighbor_alltoall(GATHER, comm, request);
        break;
    case ALLTOALLV:
        MPI_Ineighbor_alltoallv(TOALLV, comm, request);
        break;
    default:
        MPI_Ineighbor_alltoallw(TOALLW, comm, request);
    }
}

static void keep(enum what what, MPI_Comm comm, const MPI_Datatype *types, MPI_Request *request)
{
    switch (what) {
    case ALLGATHER:
        MPI_PERSISTENT_COLLECTIVE(Neighbor_allgather_init)(GATHER, comm, MPI_INFO_NULL, request);
        break;
    case ALLGATHERV:
        MPI_PERSISTENT_COLLECTIVE(Neighbor_allgatherv_init)(GATHERV, comm, MPI_INFO_NULL, request);
        break;
    case ALLTOALL:
        MPI_PERSISTENT_COLLECTIVE(Neighbor_alltoall_init)(GATHER, comm, MPI_INFO_NULL, request);
        break;
    case ALLTOALLV:
        MPI_PERSISTENT_COLLECTIVE(Neighbor_alltoallv_init)(TOALLV, comm, MPI_INFO_NULL, request);
        break;
    default:
        MPI_PERSISTENT_COLLECTIVE(Neighbor_alltoallw_init)(TOALLW, comm, MPI_INFO_NULL, request);
    }
}

/* Sent in this round, received in the next one. */
static void halo(uint64_t round)
{
    uint64_t got = 0, sent = mix(state.all[rank] + round);
    if (round > 1) {
        MPI_Recv(&got, 1, T, at(rank, -1), TAG_HALO, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        state.wrong += got != state.halo;
    }
    MPI_Send(&sent, 1, T, at(rank, 1), TAG_HALO, MPI_COMM_WORLD);
    state.halo = mix(state.all[at(rank, -1)] + round);
}

static void exchange(enum what what, enum how how, MPI_Comm comm, uint64_t round)
{
    const MPI_Datatype types[NEIGHBOURS] = {T, T};
    MPI_Request request = MPI_REQUEST_NULL;
    for (int i = 0; i < NEIGHBOURS; i++) {
        in[i] = 0;
        out[i] = word(what, state.mine, target(comm, rank, i));
    }
    if (how == NONBLOCKING)
        begin(what, comm, types, &request);
    if (how == PERSISTENT) {
        keep(what, comm, types, &request);
        MPI_Start(&request);
    }
    halo(round);
    if (how == BLOCKING)
        block(what, comm, types);
    else
        MPI_Wait(&request, MPI_STATUS_IGNORE);
    if (how == PERSISTENT)
        MPI_Request_free(&request);
}

static void fold(enum what what, MPI_Comm comm)
{
    uint64_t next[RANKS_MAX];
    state.mine = mix(state.mine + in[0] + 3 * in[1]);
    for (int r = 0; r < size; r++)
        next[r] = mix(state.all[r] + word(what, state.all[source(comm, r, 0)], r) +
                      3 * word(what, state.all[source(comm, r, 1)], r));
    for (int r = 0; r < size; r++)
        state.all[r] = next[r];
    state.wrong += state.mine != state.all[rank];
}

/* ---- all of it ---- */

static void join(void)
{
    struct tide_options options = {.size = sizeof options, .cut = TIDE_CUT_STEP};
    struct tide_region region = {.name = "state", .data = &state, .bytes = sizeof state};
    uint64_t step = 0;
    for (int r = 0; r < size; r++)
        state.all[r] = mix((uint64_t)r + 1);
    state.mine = state.all[rank];
    if (tide_init(&tide, &options) != TIDE_OK || tide_register(tide, &region) != TIDE_OK)
        give_up("tide_init");
    enum tide_status status = tide_restore(tide, &step);
    if (status != TIDE_OK && status != TIDE_E_NO_CHECKPOINT)
        give_up("tide_restore");
}

int main(int argc, char **argv)
{
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000, all = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size < RANKS_MIN || size > RANKS_MAX)
        give_up("too few ranks, or too many");
    make();
    join();
    while (state.round < rounds) {
        uint64_t round = ++state.round;
        MPI_Comm comm = round / (WHATS * HOWS) % 2 ? ring : graph;
        enum what what = (enum what)(round % WHATS);
        exchange(what, (enum how)(round / WHATS % HOWS), comm, round);
        fold(what, comm);
        if (tide_step(tide, round) != TIDE_OK)
            give_up("tide_step");
    }
    tide_finalize(tide);
    MPI_Recv(&state.halo, 1, T, at(rank, -1), TAG_HALO, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MPI_Allreduce(&state.wrong, &all, 1, T, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0)
        printf("cut_neighbours %s: %llu of %llu rounds wrong\n", all == 0 ? "right" : "WRONG", (unsigned long long)all,
               (unsigned long long)rounds);
    MPI_Comm_free(&ring);
    MPI_Comm_free(&graph);
    MPI_Finalize();
    return all != 0;
}
