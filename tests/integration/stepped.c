/* SPDX-License-Identifier: Apache-2.0 */

/* An MPI program whose ranks count their steps alike while messages are on their way between them at each safe point: what a
 * rank sends to its neighbour in a step is received LAG steps later. Each message says who sent it in which step, so that one
 * that is lost, comes twice or out of order is seen when it is received. With trouble on demand, for what a checkpoint or a
 * restart must refuse.
 *
 *   stepped [--until FILE] [--steps N] [--ahead RANK STEPS] [--grown RESTART RANK]
 *
 * --until FILE  train until it is there, and to the step whose number it holds
 * --ahead       that rank numbers its steps that much higher
 * --grown       after that many restarts, that rank registers a region of another size
 *
 * Prints "rank R right: N steps" at its end. */

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tidemark/states.h>
#include <tidemark/tidemark.h>

#define LAG 3u
#define TAG 5
#define STEP_NS 4000000
#define SUM_EVERY 10u /* steps */
#define GROWN_BYTES 4096u

struct options {
    const char *until;
    uint64_t steps, ahead_steps, grown_restart;
    int ahead_rank, grown_rank;
};

struct state {
    uint64_t step; /* the rank's own, from 1 */
    uint64_t sums; /* of what the ranks summed together */
};

struct message {
    uint64_t sender, step;
};

struct ring {
    int rank, size, next, before;
};

static void give_up(const char *what, const char *detail)
{
    fprintf(stderr, "stepped: %s: %s\n", what, detail);
    exit(1);
}

static void usage(void)
{
    fprintf(stderr, "usage: stepped [--until FILE] [--steps N] [--ahead RANK STEPS] [--grown RESTART RANK]\n");
    exit(TIDE_EXIT_DO_NOT_RESTART);
}

static uint64_t number(const char *text)
{
    char *end = "";
    uint64_t n = text != NULL ? strtoull(text, &end, 10) : 0;
    if (text == NULL || *text < '0' || *text > '9' || *end != '\0')
        usage();
    return n;
}

static struct options parse(char **argv)
{
    struct options o = {.steps = 100, .ahead_rank = -1, .grown_rank = -1};
    while (*++argv != NULL) {
        const char *name = *argv;
        if (*++argv == NULL)
            usage();
        if (strcmp(name, "--until") == 0) {
            o.until = *argv;
        } else if (strcmp(name, "--steps") == 0) {
            o.steps = number(*argv);
        } else if (strcmp(name, "--ahead") == 0) {
            o.ahead_rank = (int)number(*argv);
            o.ahead_steps = number(*++argv);
        } else if (strcmp(name, "--grown") == 0) {
            o.grown_restart = number(*argv);
            o.grown_rank = (int)number(*++argv);
        } else {
            usage();
        }
    }
    return o;
}

/* All ranks have to end with the same step, so one looks and tells. */
static void look_for_end(struct options *o, const struct ring *ring)
{
    uint64_t last = 0;
    FILE *file = ring->rank == 0 ? fopen(o->until, "r") : NULL;
    if (file != NULL) {
        char text[32] = "";
        if (fgets(text, sizeof text, file) != NULL) {
            text[strcspn(text, "\n")] = '\0';
            last = number(text);
        }
        fclose(file);
    }
    MPI_Bcast(&last, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD);
    if (last != 0) {
        o->steps = last;
        o->until = NULL;
    }
}

static void receive(const struct ring *ring, uint64_t step)
{
    struct message m = {0};
    MPI_Recv(&m, 2, MPI_UINT64_T, ring->before, TAG, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (m.sender == (uint64_t)ring->before && m.step == step)
        return;
    fprintf(stderr, "stepped: rank %d wanted the message of step %llu and got that of rank %llu, step %llu\n", ring->rank,
            (unsigned long long)step, (unsigned long long)m.sender, (unsigned long long)m.step);
    MPI_Abort(MPI_COMM_WORLD, TIDE_EXIT_DO_NOT_RESTART);
}

static void take_step(struct state *state, const struct ring *ring)
{
    const struct message m = {.sender = (uint64_t)ring->rank, .step = ++state->step};
    MPI_Send(&m, 2, MPI_UINT64_T, ring->next, TAG, MPI_COMM_WORLD);
    nanosleep(&(struct timespec){.tv_nsec = STEP_NS}, NULL);
    if (state->step > LAG)
        receive(ring, state->step - LAG);
    if (state->step % SUM_EVERY == 0) {
        uint64_t sum = 0, mine = state->step;
        MPI_Allreduce(&mine, &sum, 1, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
        state->sums += sum;
    }
}

static void join(struct tide **tide, struct state *state, const struct options *o, const struct ring *ring)
{
    static unsigned char more[GROWN_BYTES];
    const char *restarts = getenv("TORCHELASTIC_RESTART_COUNT");
    bool grown = ring->rank == o->grown_rank && number(restarts != NULL ? restarts : "0") == o->grown_restart;
    const struct tide_options options = {.size = sizeof options, .cut = TIDE_CUT_STEP};
    const struct tide_region regions[] = {{.name = "state", .data = state, .bytes = sizeof *state},
                                          {.name = "more", .data = more, .bytes = grown ? sizeof more : sizeof more / 2}};
    uint64_t step = 0;
    if (tide_init(tide, &options) != TIDE_OK)
        give_up("tide_init", tide_error_text(NULL));
    if (tide_register(*tide, &regions[0]) != TIDE_OK || tide_register(*tide, &regions[1]) != TIDE_OK)
        give_up("tide_register", tide_error_text(*tide));
    enum tide_status status = tide_restore(*tide, &step);
    if (status != TIDE_OK && status != TIDE_E_NO_CHECKPOINT)
        give_up("tide_restore", tide_error_text(*tide));
}

static bool finish(const struct state *state, const struct ring *ring)
{
    uint64_t from = state->step > LAG ? state->step - LAG : 0, sums = 0;
    for (uint64_t step = from + 1; step <= state->step; step++)
        receive(ring, step);
    for (uint64_t step = SUM_EVERY; step <= state->step; step += SUM_EVERY)
        sums += step * (uint64_t)ring->size;
    if (sums != state->sums)
        fprintf(stderr, "stepped: rank %d: sums are %llu, not %llu\n", ring->rank, (unsigned long long)state->sums,
                (unsigned long long)sums);
    else
        printf("rank %d right: %llu steps\n", ring->rank, (unsigned long long)state->step);
    return sums == state->sums;
}

int main(int argc, char **argv)
{
    struct options o = parse(argv);
    struct state state = {0};
    struct ring ring = {0};
    struct tide *tide = NULL;
    setvbuf(stdout, NULL, _IOLBF, 0);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &ring.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ring.size);
    ring.next = (ring.rank + 1) % ring.size;
    ring.before = (ring.rank + ring.size - 1) % ring.size;
    join(&tide, &state, &o, &ring);
    uint64_t ahead = ring.rank == o.ahead_rank ? o.ahead_steps : 0;
    while (o.until != NULL || state.step < o.steps) {
        if (o.until != NULL && state.step % SUM_EVERY == 0)
            look_for_end(&o, &ring);
        take_step(&state, &ring);
        if (tide_step(tide, state.step + ahead) != TIDE_OK)
            give_up("tide_step", tide_error_text(tide));
    }
    tide_finalize(tide);
    bool right = finish(&state, &ring);
    MPI_Finalize();
    return right ? 0 : 1;
}
