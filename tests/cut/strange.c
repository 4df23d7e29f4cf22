/* SPDX-License-Identifier: Apache-2.0 */

/* A program that is at odds with its checkpoints, and has a message under way at each safe point:
 *
 *     cut_strange fewer ROUNDS    after a restart it does not make the communicator of these messages
 *     cut_strange comms ROUNDS    for half of its rounds it has more communicators than a checkpoint holds
 *     cut_strange bytes ROUNDS    for half of its rounds its messages are larger than it has allowed
 *
 * The first must be refused, by name; the others go on, are told why some of their checkpoints fail, and restart from those
 * that did not. */

#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark/states.h>
#include <tidemark/tidemark.h>

#define TAG 3
#define COMMS 1100
#define COMMS_PERIOD 100 /* rounds */
#define WORDS 60000
#define BYTES_MAX 200000
#define GENERATION "TIDEMARK_GENERATION"

struct state {
    uint64_t round, sum;
};

static struct tide *tide;
static struct state state;
static MPI_Comm own = MPI_COMM_WORLD, more[COMMS];
static int rank, size, more_count;

static void give_up(const char *what)
{
    fprintf(stderr, "cut_strange: rank %d: %s: %s\n", rank, what, tide_error_text(tide));
    MPI_Abort(MPI_COMM_WORLD, TIDE_EXIT_DO_NOT_RESTART);
    exit(TIDE_EXIT_DO_NOT_RESTART);
}

static bool is_first_generation(void)
{
    const char *text = getenv(GENERATION);
    return text == NULL || strcmp(text, "1") == 0;
}

static void join(void)
{
    struct tide_options options = {
        .size = sizeof options, .cut = TIDE_CUT_FREE, .requests_reposted = 1, .channel_bytes_max = BYTES_MAX};
    struct tide_region region = {.name = "state", .data = &state, .bytes = sizeof state};
    if (tide_init(&tide, &options) != TIDE_OK || tide_register(tide, &region) != TIDE_OK)
        give_up("tide_init");
    uint64_t step = 0;
    enum tide_status status = tide_restore(tide, &step);
    if (status != TIDE_OK && status != TIDE_E_NO_CHECKPOINT)
        give_up("tide_restore");
}

static void change_comms(uint64_t round)
{
    bool many = round / COMMS_PERIOD % 2 == 1;
    while (many && more_count < COMMS)
        MPI_Comm_dup(MPI_COMM_SELF, &more[more_count++]);
    while (!many && more_count > 0)
        MPI_Comm_free(&more[--more_count]);
}

/* Sent before the safe point, received behind it. The round is the last step that is whole, so that a round is never done
 * twice. */
static void play_round(int words)
{
    static uint64_t out[WORDS], in[WORDS];
    MPI_Request request;
    out[0] = state.round + 1;
    MPI_Isend(out, words, MPI_UINT64_T, (rank + 1) % size, TAG, own, &request);
    state.round++;
    if (tide_step(tide, state.round) != TIDE_OK)
        give_up("tide_step");
    MPI_Recv(in, WORDS, MPI_UINT64_T, (rank + size - 1) % size, TAG, own, MPI_STATUS_IGNORE);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    state.sum += in[0];
}

static void make_own(void)
{
    MPI_Comm_dup(MPI_COMM_WORLD, &own);
    MPI_Comm_set_name(own, "own");
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (strcmp(how, "fewer") != 0 || is_first_generation())
        make_own();
    join();
    bool restored = state.round > 0;
    while (state.round < rounds) {
        if (restored) { /* its message came with the checkpoint */
            uint64_t in[WORDS];
            MPI_Recv(in, WORDS, MPI_UINT64_T, (rank + size - 1) % size, TAG, own, MPI_STATUS_IGNORE);
            state.sum += in[0];
            restored = false;
        }
        if (strcmp(how, "comms") == 0)
            change_comms(state.round);
        play_round(strcmp(how, "bytes") == 0 && state.round / 100 % 2 == 1 ? WORDS : 1);
    }
    tide_finalize(tide);
    bool right = state.sum == rounds * (rounds + 1) / 2;
    printf("cut_strange: rank %d %s\n", rank, right ? "right" : "WRONG");
    MPI_Finalize();
    return right ? 0 : 1;
}
