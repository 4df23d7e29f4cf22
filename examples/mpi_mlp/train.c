/* SPDX-License-Identifier: Apache-2.0 */

/* Data-parallel training of a small network on Fashion-MNIST with MPI, made restartable by five calls: tide_init,
 * tide_register, tide_restore, tide_step, tide_finalize. Started by mpirun instead of tidemark, the same binary trains
 * the same model without checkpoints.
 *
 * The result has the same bits whatever happens on the way and however many ranks (1 … SLICES) share the work: each batch
 * is cut into SLICES slices; the gradient of a slice is summed by one rank in a fixed order, rounded to a fixed-point
 * integer, and only integers are added up by MPI_Allreduce, whose order of summation is then of no account.
 *
 * So it may also go on with another number of ranks (tidemark run --elastic): all of its state is the same on every rank, or, with
 * "--moments sharded", each rank has Adam's moments for its part of the parameters alone, and tidemark is told which. */

#include <math.h>
#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark/states.h>
#include <tidemark/tidemark.h>

#include "data.h"
#include "model.h"

#define SLICES 16u
#define SLICE_IMAGES 32u
#define BATCH_IMAGES (SLICES * SLICE_IMAGES)
#define FIXED_POINT 0x1p40  /* a gradient of 1.0 as an integer: sums stay exact below 2^23 */
#define GRADIENT_MAX 0x1p18 /* a slice's sum beyond it means that training has diverged */
#define STEP_LOG_DEFAULT 100u

struct arguments {
    const char *data;
    unsigned long epochs, steps, seed, log_every;
    double rate;
    bool sharded;
};

/* Loss since the last line printed: in the checkpoint too, so that a restarted run prints the same lines. */
struct progress {
    uint64_t steps;
    int64_t loss; /* fixed point */
};

struct trainer {
    struct arguments arguments;
    int rank, ranks;
    struct images train, test;
    struct tide *tide;
    struct weights weights;
    struct adam adam;
    struct sampler sampler;
    struct progress progress;
    int *firsts, *counts;          /* of each rank: the parameters whose moments it has, if they are sharded */
    struct weights slice;          /* gradient of one slice */
    int64_t sums[PARAMETERS + 1];  /* gradient of the batch, and last its loss, in fixed point */
};

/* One bad rank ends all; with status 93 tidemark does not try again. */
static void give_up(const struct trainer *t, const char *what, const char *detail, int status)
{
    fprintf(stderr, "train: rank %d: %s: %s\n", t->rank, what, detail);
    MPI_Abort(MPI_COMM_WORLD, status);
    exit(status);
}

static void usage(void)
{
    fprintf(stderr, "usage: train [--data DIR] [--epochs N] [--steps N] [--seed N] [--rate R] [--log-every N]\n"
                    "             [--moments replicated|sharded]\n"
                    "  --steps limits the run to that many steps, whatever --epochs says\n");
    exit(TIDE_EXIT_DO_NOT_RESTART); /* a wrong command line is wrong again after a restart */
}

static unsigned long number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end)
        usage();
    return value;
}

static struct arguments parse(int argc, char **argv)
{
    struct arguments a = {.data = DATA_DIR_DEFAULT, .epochs = 10, .seed = 1, .log_every = STEP_LOG_DEFAULT, .rate = 0.001};
    for (int i = 1; i < argc; i += 2) {
        const char *value = argv[i + 1];
        if (!value)
            usage();
        if (strcmp(argv[i], "--data") == 0)
            a.data = value;
        else if (strcmp(argv[i], "--epochs") == 0)
            a.epochs = number(value);
        else if (strcmp(argv[i], "--steps") == 0)
            a.steps = number(value);
        else if (strcmp(argv[i], "--seed") == 0)
            a.seed = number(value);
        else if (strcmp(argv[i], "--log-every") == 0)
            a.log_every = number(value);
        else if (strcmp(argv[i], "--moments") == 0 && (strcmp(value, "replicated") == 0 || strcmp(value, "sharded") == 0))
            a.sharded = value[0] == 's';
        else if (strcmp(argv[i], "--rate") == 0)
            a.rate = strtod(value, NULL);
        else
            usage();
    }
    if (a.epochs == 0 || a.log_every == 0 || !(a.rate > 0.0))
        usage();
    return a;
}

/* Hand tidemark everything a step changes; what it does not know would be lost with the process. And how: a rank of another number
 * of them can be given what is the same on all, and its part of what each has a part of. */
static void register_state(struct trainer *t)
{
    struct adam *adam = &t->adam;
    size_t bytes = adam->count * sizeof(float);
    unsigned moments = t->arguments.sharded ? TIDE_SHARD : TIDE_REPLICATED;
    const struct tide_region regions[] = {
        {.name = "weights", .data = &t->weights, .bytes = sizeof(t->weights), .dtype = TIDE_F32, .flags = TIDE_REPLICATED, .ndim = 1,
         .shape = {PARAMETERS}},
        {.name = "mean", .data = adam->mean, .bytes = bytes, .dtype = TIDE_F32, .flags = moments, .ndim = 1, .shape = {adam->count},
         .whole = {PARAMETERS}, .at = {adam->first}},
        {.name = "square", .data = adam->square, .bytes = bytes, .dtype = TIDE_F32, .flags = moments, .ndim = 1, .shape = {adam->count},
         .whole = {PARAMETERS}, .at = {adam->first}},
        {.name = "powers", .data = adam->powers, .bytes = sizeof(adam->powers), .flags = TIDE_REPLICATED},
        {.name = "sampler", .data = &t->sampler, .bytes = sizeof(t->sampler), .flags = TIDE_REPLICATED},
        {.name = "progress", .data = &t->progress, .bytes = sizeof(t->progress), .flags = TIDE_REPLICATED},
    };
    for (size_t i = 0; i < sizeof(regions) / sizeof(regions[0]); i++)
        if (tide_register(t->tide, &regions[i]) != TIDE_OK)
            give_up(t, "tide_register", tide_error_text(t->tide), 1);
}

/* Which parameters' moments each rank has: rank r from PARAMETERS * r / ranks on. */
static void share_moments(struct trainer *t)
{
    unsigned ranks = (unsigned)t->ranks;
    t->firsts = calloc(ranks, sizeof(int));
    t->counts = calloc(ranks, sizeof(int));
    if (!t->firsts || !t->counts)
        give_up(t, "no memory", "the table of ranks", 1);
    for (unsigned r = 0; r < ranks; r++) {
        t->firsts[r] = (int)((uint64_t)PARAMETERS * r / ranks);
        t->counts[r] = (int)((uint64_t)PARAMETERS * (r + 1) / ranks) - t->firsts[r];
    }
    bool sharded = t->arguments.sharded;
    if (adam_init(&t->adam, sharded ? (unsigned)t->firsts[t->rank] : 0, sharded ? (unsigned)t->counts[t->rank] : PARAMETERS))
        give_up(t, "no memory", "the moments", 1);
}

/* The state of a checkpoint if there is one, else that before the first step. Returns the number of steps done. */
static uint64_t start(struct trainer *t)
{
    uint64_t step = 0;
    weights_init(&t->weights, t->arguments.seed);
    share_moments(t);
    sampler_init(&t->sampler, t->train.count, t->arguments.seed ^ 0x5eed);
    if (tide_init(&t->tide, NULL) != TIDE_OK)
        give_up(t, "tide_init", tide_error_text(NULL), 1);
    register_state(t);
    enum tide_status status = tide_restore(t->tide, &step);
    if (status != TIDE_OK && status != TIDE_E_NO_CHECKPOINT)
        give_up(t, "tide_restore", tide_error_text(t->tide), 1);
    return step;
}

/* Add one slice's gradient to the sums as integers. */
static void add_slice(struct trainer *t, double loss)
{
    const float *gradient = (const float *)&t->slice;
    float largest = 0.0f;
    for (unsigned p = 0; p < PARAMETERS; p++) {
        float size = fabsf(gradient[p]);
        largest = size > largest ? size : largest;
        /* lrint is exact here: a float has 24 bits, and whatever is below 2^-40 rounds the same way everywhere */
        t->sums[p] += (int64_t)lrint((double)gradient[p] * FIXED_POINT);
    }
    if (!isfinite(loss) || !(largest < (float)GRADIENT_MAX))
        give_up(t, "diverged", "the gradient is no longer a number that can be summed; try a smaller --rate",
                TIDE_EXIT_DO_NOT_RESTART);
    t->sums[PARAMETERS] += (int64_t)lrint(loss * FIXED_POINT);
}

static void train_step(struct trainer *t)
{
    const uint32_t *batch = sampler_take(&t->sampler, BATCH_IMAGES);
    memset(t->sums, 0, sizeof(t->sums));
    for (unsigned slice = (unsigned)t->rank; slice < SLICES; slice += (unsigned)t->ranks) {
        memset(&t->slice, 0, sizeof(t->slice));
        add_slice(t, model_gradient(&t->weights, &t->train, batch + slice * SLICE_IMAGES, SLICE_IMAGES, &t->slice));
    }
    MPI_Allreduce(MPI_IN_PLACE, t->sums, PARAMETERS + 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
    adam_step(&t->adam, &t->weights, t->sums, 1.0 / (FIXED_POINT * BATCH_IMAGES), (float)t->arguments.rate);
    if (t->arguments.sharded) /* each rank has moved its part of the weights, and all need all of them */
        MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, &t->weights, t->counts, t->firsts, MPI_FLOAT, MPI_COMM_WORLD);
    t->progress.loss += t->sums[PARAMETERS] / BATCH_IMAGES;
    t->progress.steps++;
}

static void report_loss(struct trainer *t, uint64_t step, uint64_t steps)
{
    if (t->progress.steps < t->arguments.log_every && step != steps)
        return;
    if (t->rank == 0)
        printf("step %llu/%llu epoch %u loss %.4f\n", (unsigned long long)step, (unsigned long long)steps, t->sampler.epoch + 1,
               (double)t->progress.loss / FIXED_POINT / (double)t->progress.steps);
    t->progress = (struct progress){0};
}

/* Accuracy on images never trained on, and a digest that all ranks must agree on. */
static void report_result(struct trainer *t)
{
    char mine[DIGEST_HEX_BYTES], first[DIGEST_HEX_BYTES];
    uint32_t per_rank = t->test.count / (uint32_t)t->ranks, from = per_rank * (uint32_t)t->rank;
    if (t->rank == t->ranks - 1)
        per_rank = t->test.count - from;
    long right = (long)model_count_right(&t->weights, &t->test, from, per_rank);
    MPI_Allreduce(MPI_IN_PLACE, &right, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    weights_digest(&t->weights, mine);
    memcpy(first, mine, sizeof(first));
    MPI_Bcast(first, sizeof(first), MPI_CHAR, 0, MPI_COMM_WORLD);
    if (mine[0] == '\0' || strcmp(first, mine) != 0)
        give_up(t, "the weights differ from those of rank 0", mine, 1);
    MPI_Barrier(MPI_COMM_WORLD);
    if (t->rank == 0)
        printf("accuracy %.4f\nparameters sha256 %s\n", (double)right / t->test.count, mine);
}

int main(int argc, char **argv)
{
    static struct trainer t; /* zeroed, and too big for the stack */
    setvbuf(stdout, NULL, _IOLBF, 0);
    t.arguments = parse(argc, argv);
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &t.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &t.ranks);
    if (images_load(&t.train, t.arguments.data, "train") || images_load(&t.test, t.arguments.data, "t10k"))
        give_up(&t, "no data", t.arguments.data, TIDE_EXIT_DO_NOT_RESTART);
    uint64_t steps = t.arguments.steps ? t.arguments.steps : t.arguments.epochs * (t.train.count / BATCH_IMAGES);

    uint64_t step = start(&t);
    if (t.rank == 0)
        printf("%s at step %llu of %llu, %d ranks\n", step ? "resumed" : "started", (unsigned long long)step,
               (unsigned long long)steps, t.ranks);
    while (step < steps) {
        train_step(&t);
        report_loss(&t, ++step, steps);
        if (tide_step(t.tide, step) != TIDE_OK)
            give_up(&t, "tide_step", tide_error_text(t.tide), 1);
    }
    report_result(&t);

    tide_finalize(t.tide);
    adam_release(&t.adam);
    free(t.firsts);
    free(t.counts);
    images_release(&t.train);
    images_release(&t.test);
    MPI_Finalize();
    return 0;
}
