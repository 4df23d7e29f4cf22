/* SPDX-License-Identifier: Apache-2.0 */

/* The training of examples/mpi_mlp on GPUs: kernels instead of loops, NCCL instead of MPI, and no launcher but tidemark.
 * What is worth copying:
 *
 *     tide_share            the ncclUniqueId of rank 0 for all: no MPI, no rendezvous server
 *     tide_set_streams      a checkpoint goes behind what was put into this stream; the host does not wait for it
 *     tide_before_update    the optimizer waits, on the GPU, for a checkpoint that is still copied; all else does not
 *     tide_set_restart      a peer has died: this process goes on from the checkpoint, and only that peer is started anew.
 * libtidemark_nccl, preloaded or linked, sees to it that there is an error then, and counts what a checkpoint must agree on
 *
 * Each gradient is a sum of floats in a fixed order, by slice; slices and ranks are added up as integers, so that the bits
 * are the same on 1 … SLICES ranks and after any restart. */

#include <math.h>
#include <nccl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark/states.h>
#include <tidemark/tidemark.h>

#include "kernels.h"

#define SLICE_MAX 1024u
#define STEPS_AHEAD 2u /* that the host puts into the stream before it waits for the oldest */

struct arguments {
    const char *data;
    unsigned long steps, log_every, seed, slice;
};

/* On the host, and in a checkpoint. */
struct progress {
    double mean_power, square_power; /* beta^t, for Adam's bias correction */
    uint64_t logged;                 /* steps since the last line */
};

struct trainer {
    struct arguments arguments;
    unsigned rank, ranks, device;
    struct images train, test;
    struct tide *tide;
    ncclComm_t comm;
    cudaStream_t stream;
    cudaEvent_t done[STEPS_AHEAD];
    struct sampler sampler;
    struct progress progress;
    uint32_t epoch; /* whose order is on the GPU, + 1; 0: none */
    /* on the GPU */
    struct weights *weights, *mean, *square;
    int64_t *sums, *loss;
    uint32_t *order;
    struct pass pass;
    struct batch batch;
};

static void give_up(const struct trainer *t, const char *what, const char *detail, int status)
{
    fprintf(stderr, "cuda_mlp: rank %u: %s: %s\n", t->rank, what, detail);
    exit(status);
}

static void must(const struct trainer *t, cudaError_t error, const char *what)
{
    if (error != cudaSuccess)
        give_up(t, what, cudaGetErrorString(error), 1);
}

static void must_nccl(const struct trainer *t, ncclResult_t result, const char *what)
{
    if (result != ncclSuccess)
        give_up(t, what, ncclGetErrorString(result), 1);
}

static void must_tide(const struct trainer *t, enum tide_status status, const char *what)
{
    if (status != TIDE_OK)
        give_up(t, what, tide_error_text(t->tide), 1);
}

static void usage(void)
{
    fprintf(stderr,
            "usage: cuda_mlp [--data DIR] [--steps N] [--seed N] [--log-every N] [--slice N]\n"
            "  --slice is the number of images in one of the %u slices of a batch\n",
            SLICES);
    exit(TIDE_EXIT_DO_NOT_RESTART);
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
    struct arguments a = {.data = DATA_DIR_DEFAULT, .steps = 1170, .log_every = 100, .seed = 1, .slice = 32};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--data") == 0)
            a.data = argv[i + 1];
        else if (strcmp(argv[i], "--steps") == 0)
            a.steps = number(argv[i + 1]);
        else if (strcmp(argv[i], "--log-every") == 0)
            a.log_every = number(argv[i + 1]);
        else if (strcmp(argv[i], "--seed") == 0)
            a.seed = number(argv[i + 1]);
        else if (strcmp(argv[i], "--slice") == 0)
            a.slice = number(argv[i + 1]);
        else
            usage();
    }
    if (argc % 2 == 0 || a.log_every == 0 || a.slice == 0 || a.slice > SLICE_MAX)
        usage();
    return a;
}

/* As torchrun and tidemark set it. */
static unsigned of_environment(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text ? (unsigned)number(text) : otherwise;
}

/* ---- the GPU ---- */

static void *room(const struct trainer *t, size_t bytes)
{
    void *at = NULL;
    must(t, cudaMalloc(&at, bytes), "no device memory");
    must(t, cudaMemsetAsync(at, 0, bytes, t->stream), "cannot clear device memory");
    return at;
}

static void *on_gpu(const struct trainer *t, const void *from, size_t bytes)
{
    void *at = room(t, bytes);
    must(t, cudaStreamSynchronize(t->stream), "cannot clear device memory");
    must(t, cudaMemcpy(at, from, bytes, cudaMemcpyHostToDevice), "cannot copy to the GPU");
    return at;
}

static void take_gpu(struct trainer *t)
{
    int count = 0;
    must(t, cudaGetDeviceCount(&count), "no GPU");
    t->device = of_environment("LOCAL_RANK", 0) % (unsigned)count;
    must(t, cudaSetDevice((int)t->device), "cannot use the GPU");
    must(t, cudaStreamCreateWithFlags(&t->stream, cudaStreamNonBlocking), "no stream");
    for (unsigned i = 0; i < STEPS_AHEAD; i++)
        must(t, cudaEventCreateWithFlags(&t->done[i], cudaEventDisableTiming), "no event");
}

static void fill_gpu(struct trainer *t)
{
    uint32_t slices = (SLICES - t->rank + t->ranks - 1) / t->ranks;
    size_t images = (size_t)slices * t->arguments.slice;
    t->weights = room(t, sizeof *t->weights);
    t->mean = room(t, sizeof *t->mean);
    t->square = room(t, sizeof *t->square);
    t->sums = room(t, (PARAMETERS + 1) * sizeof *t->sums);
    t->loss = room(t, sizeof *t->loss);
    t->order = room(t, t->train.count * sizeof *t->order);
    t->pass = (struct pass){.hidden = room(t, images * sizeof *t->pass.hidden),
                            .delta_hidden = room(t, images * sizeof *t->pass.delta_hidden),
                            .delta_out = room(t, images * sizeof *t->pass.delta_out),
                            .loss = room(t, images * sizeof *t->pass.loss)};
    t->batch = (struct batch){.pixels = on_gpu(t, t->train.pixels, (size_t)t->train.count * IMAGE_PIXELS),
                              .labels = on_gpu(t, t->train.labels, t->train.count),
                              .slice_images = (uint32_t)t->arguments.slice,
                              .first = t->rank,
                              .stride = t->ranks,
                              .slices = slices};
}

/* ---- tidemark and NCCL ---- */

static void join_job(struct trainer *t)
{
    must_tide(t, tide_init(&t->tide, NULL), "tide_init");
    if (t->ranks > 1 && !tide_active(t->tide))
        give_up(t, "no way to the other ranks", "start it with tidemark run, or as one rank", TIDE_EXIT_DO_NOT_RESTART);
    if (tide_set_restart(t->tide, NULL, NULL) != TIDE_OK)
        fprintf(stderr, "cuda_mlp: rank %u: %s\n", t->rank, tide_error_text(t->tide)); /* then it is started anew, as ever */
}

/* False: one of the ranks is gone, or will be. */
static bool connect_ranks(struct trainer *t)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;
    config.commName = "data-parallel"; /* checkpoints and events call it so */
    t->comm = NULL;
    if (t->rank == 0)
        must_nccl(t, ncclGetUniqueId(&id), "ncclGetUniqueId");
    return tide_share(t->tide, "data-parallel", 0, &id, sizeof id) == TIDE_OK &&
           ncclCommInitRankConfig(&t->comm, (int)t->ranks, id, (int)t->rank, &config) == ncclSuccess;
}

/* With a peer that has failed its generation ends. What was put into the stream is of no use, and has to be over before anything
 * is restored. */
static void go_over(struct trainer *t)
{
    if (t->comm != NULL)
        ncclCommAbort(t->comm);
    must(t, cudaStreamSynchronize(t->stream), "training went wrong on the GPU");
    must_tide(t, tide_restart(t->tide), "a peer is gone");
}

static void register_state(struct trainer *t)
{
    const struct tide_region regions[] = {
        {.name = "weights", .data = t->weights, .bytes = sizeof *t->weights, .memory = TIDE_DEVICE, .dtype = TIDE_F32},
        {.name = "mean", .data = t->mean, .bytes = sizeof *t->mean, .memory = TIDE_DEVICE, .dtype = TIDE_F32},
        {.name = "square", .data = t->square, .bytes = sizeof *t->square, .memory = TIDE_DEVICE, .dtype = TIDE_F32},
        {.name = "loss", .data = t->loss, .bytes = sizeof *t->loss, .memory = TIDE_DEVICE},
        {.name = "sampler", .data = &t->sampler, .bytes = sizeof t->sampler},
        {.name = "progress", .data = &t->progress, .bytes = sizeof t->progress}};
    for (size_t i = 0; i < sizeof regions / sizeof regions[0]; i++) {
        must_tide(t, tide_register(t->tide, &regions[i]), "tide_register");
        if (regions[i].memory == TIDE_DEVICE)
            must_tide(t, tide_set_copy(t->tide, regions[i].name, TIDE_COPY_LAZY), "tide_set_copy");
    }
    must_tide(t, tide_set_streams(t->tide, (int)t->device, (void *const *)&t->stream, 1), "tide_set_streams");
}

/* The same in every process, and in one that begins once more. */
static void begin(struct trainer *t)
{
    static struct weights first;
    weights_init(&first, t->arguments.seed);
    must(t, cudaMemcpy(t->weights, &first, sizeof first, cudaMemcpyHostToDevice), "cannot copy to the GPU");
    must(t, cudaMemsetAsync(t->mean, 0, sizeof first, t->stream), "cannot clear device memory");
    must(t, cudaMemsetAsync(t->square, 0, sizeof first, t->stream), "cannot clear device memory");
    must(t, cudaMemsetAsync(t->loss, 0, sizeof *t->loss, t->stream), "cannot clear device memory");
    t->progress = (struct progress){.mean_power = 1.0, .square_power = 1.0};
    sampler_init(&t->sampler, t->train.count, t->arguments.seed ^ 0x5eed);
    t->epoch = 0;
}

/* False: as in connect_ranks. */
static bool start(struct trainer *t, uint64_t *ret_step)
{
    uint64_t step = 0;
    begin(t);
    enum tide_status status = tide_restore(t->tide, &step);
    if (status == TIDE_E_RESTART)
        return false;
    if (status != TIDE_E_NO_CHECKPOINT)
        must_tide(t, status, "tide_restore");
    if (t->rank == 0)
        printf("%s at step %llu, %u ranks\n", step ? "resumed" : "started", (unsigned long long)step, t->ranks);
    *ret_step = step;
    return true;
}

/* ---- a step ---- */

static void take_batch(struct trainer *t)
{
    const uint32_t *batch = sampler_take(&t->sampler, SLICES * (uint32_t)t->arguments.slice);
    if (t->epoch != t->sampler.epoch + 1) { /* a new order; what is in the stream still needs the old one */
        must(t, cudaStreamSynchronize(t->stream), "training went wrong on the GPU");
        must(t, cudaMemcpy(t->order, t->sampler.order, t->train.count * sizeof *t->order, cudaMemcpyHostToDevice),
             "cannot copy the order");
        t->epoch = t->sampler.epoch + 1;
    }
    t->batch.order = t->order + (batch - t->sampler.order);
}

/* False: as in connect_ranks. */
static bool train_one_step(struct trainer *t, uint64_t step)
{
    struct progress *p = &t->progress;
    cudaEvent_t done = t->done[step % STEPS_AHEAD];
    must(t, cudaEventSynchronize(done), "training went wrong on the GPU");
    take_batch(t);
    launch_gradient(t->sums, t->pass, t->weights, t->batch, t->stream);
    if (ncclAllReduce(t->sums, t->sums, PARAMETERS + 1, ncclInt64, ncclSum, t->comm, t->stream) != ncclSuccess)
        return false;
    p->mean_power *= (double)ADAM_MEAN;
    p->square_power *= (double)ADAM_SQUARE;
    must_tide(t, tide_before_update(t->tide, t->stream), "tide_before_update");
    launch_adam(t->weights,
                (struct adam_state){.mean = t->mean,
                                    .square = t->square,
                                    .mean_scale = (float)(1.0 / (1.0 - p->mean_power)),
                                    .square_scale = (float)(1.0 / (1.0 - p->square_power)),
                                    .rate = 0.001f,
                                    .batch_images = SLICES * (uint32_t)t->arguments.slice},
                t->sums, t->loss, t->stream);
    must(t, cudaGetLastError(), "a kernel was not launched");
    must(t, cudaEventRecord(done, t->stream), "cannot record an event");
    p->logged++;
    return true;
}

static void report_loss(struct trainer *t, uint64_t step)
{
    int64_t loss = 0;
    if (t->progress.logged < t->arguments.log_every)
        return;
    must(t, cudaStreamSynchronize(t->stream), "training went wrong on the GPU");
    must(t, cudaMemcpy(&loss, t->loss, sizeof loss, cudaMemcpyDeviceToHost), "cannot copy the loss");
    must(t, cudaMemsetAsync(t->loss, 0, sizeof loss, t->stream), "cannot clear the loss");
    if (t->rank == 0)
        printf("step %llu loss %.4f\n", (unsigned long long)step, (double)loss / FIXED_POINT / (double)t->progress.logged);
    t->progress.logged = 0;
}

/* Until all steps are made, or, false: as in connect_ranks. */
static bool train(struct trainer *t)
{
    uint64_t step = 0;
    if (!connect_ranks(t) || !start(t, &step))
        return false;
    while (step < t->arguments.steps) {
        if (!train_one_step(t, step))
            return false;
        report_loss(t, ++step);
        enum tide_status status = tide_step(t->tide, step);
        if (status == TIDE_E_RESTART)
            return false;
        must_tide(t, status, "tide_step");
    }
    return true;
}

/* Accuracy on images never trained on, and a digest that all ranks must agree on. False: as in connect_ranks. */
static bool report_result(struct trainer *t)
{
    static struct weights last;
    char mine[DIGEST_HEX_BYTES], first[DIGEST_HEX_BYTES];
    must(t, cudaStreamSynchronize(t->stream), "training went wrong on the GPU");
    must(t, cudaMemcpy(&last, t->weights, sizeof last, cudaMemcpyDeviceToHost), "cannot copy the result");
    weights_digest(&last, mine);
    char *both = on_gpu(t, mine, sizeof mine);
    ncclResult_t sent = ncclBroadcast(both, both, sizeof mine, ncclChar, 0, t->comm, t->stream), failed = sent;
    must(t, cudaStreamSynchronize(t->stream), "the result was not compared");
    if (sent == ncclSuccess)
        must_nccl(t, ncclCommGetAsyncError(t->comm, &failed), "ncclCommGetAsyncError");
    if (failed != ncclSuccess)
        return false;
    must(t, cudaMemcpy(first, both, sizeof first, cudaMemcpyDeviceToHost), "cannot copy a digest");
    if (mine[0] == '\0' || memcmp(mine, first, sizeof mine) != 0)
        give_up(t, "the weights differ from those of rank 0", mine, 1);
    if (t->rank == 0)
        printf("accuracy %.4f\nparameters sha256 %s\n",
               (double)model_count_right(&last, &t->test, 0, t->test.count) / t->test.count, mine);
    return true;
}

int main(int argc, char **argv)
{
    static struct trainer t;
    setvbuf(stdout, NULL, _IOLBF, 0);
    t.arguments = parse(argc, argv);
    t.rank = of_environment("RANK", 0);
    t.ranks = of_environment("WORLD_SIZE", 1);
    if (t.ranks == 0 || t.ranks > SLICES || t.rank >= t.ranks)
        give_up(&t, "RANK and WORLD_SIZE", "at most 16 ranks can share a batch", TIDE_EXIT_DO_NOT_RESTART);
    if (images_load(&t.train, t.arguments.data, "train") || images_load(&t.test, t.arguments.data, "t10k"))
        give_up(&t, "no data", t.arguments.data, TIDE_EXIT_DO_NOT_RESTART);
    take_gpu(&t);
    join_job(&t);
    fill_gpu(&t);
    register_state(&t);
    while (!train(&t) || !report_result(&t))
        go_over(&t);
    tide_finalize(t.tide);
    must_nccl(&t, ncclCommDestroy(t.comm), "ncclCommDestroy");
    images_release(&t.train);
    images_release(&t.test);
    return 0;
}
