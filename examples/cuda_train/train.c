/* SPDX-License-Identifier: Apache-2.0 */

/* Training whose state never leaves the GPU but for checkpoints. Beside the five calls of every program these make it cheap:
 *
 *     tide_set_streams      a checkpoint goes behind what was put into this stream; the host does not wait for the stream
 *     tide_set_copy         LAZY: copied to the host while the next gradient is computed
 *     tide_before_update    … and the optimizer, which overwrites it, is held up on the GPU until it is copied
 *
 * Each rank trains a model of its own on one GPU. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark/states.h>
#include <tidemark/tidemark.h>
#include <unistd.h>

#include "kernels.h"

struct arguments {
    unsigned long steps, params, step_ms, die_at;
    enum tide_copy copy;
};

struct trainer {
    struct arguments arguments;
    struct tide *tide;
    cudaStream_t stream;
    int device;
    size_t bytes; /* of each of these */
    float *weights, *m, *v, *gradient;
};

static void give_up(const char *what, const char *detail, int status)
{
    fprintf(stderr, "cuda_train: %s: %s\n", what, detail);
    exit(status);
}

static void must(cudaError_t error, const char *what)
{
    if (error != cudaSuccess)
        give_up(what, cudaGetErrorString(error), 1);
}

static void must_tide(const struct trainer *t, enum tide_status status, const char *what)
{
    if (status != TIDE_OK)
        give_up(what, tide_error_text(t->tide), status == TIDE_E_UNSUPPORTED ? TIDE_EXIT_DO_NOT_RESTART : 1);
}

static void usage(void)
{
    fprintf(stderr, "usage: cuda_train [--steps N] [--params N] [--copy sync|slab|lazy] [--step-ms N] [--die-at N]\n"
                    "  --die-at kills the process at that step, if it did not begin from a checkpoint\n");
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

static enum tide_copy copy_of(const char *text)
{
    static const char *const names[] = {"auto", "sync", "slab", "lazy"}; /* as enum tide_copy counts them */
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(text, names[i]) == 0)
            return (enum tide_copy)i;
    usage();
    return TIDE_COPY_AUTO;
}

static struct arguments parse(int argc, char **argv)
{
    struct arguments a = {.steps = 1000, .params = 1u << 20, .copy = TIDE_COPY_LAZY};
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--steps") == 0)
            a.steps = number(argv[i + 1]);
        else if (strcmp(argv[i], "--params") == 0)
            a.params = number(argv[i + 1]);
        else if (strcmp(argv[i], "--step-ms") == 0)
            a.step_ms = number(argv[i + 1]);
        else if (strcmp(argv[i], "--die-at") == 0)
            a.die_at = number(argv[i + 1]);
        else if (strcmp(argv[i], "--copy") == 0)
            a.copy = copy_of(argv[i + 1]);
        else
            usage();
    }
    if (argc % 2 == 0 || a.params == 0 || a.params > 1ul << 30)
        usage();
    return a;
}

static void take_gpu(struct trainer *t)
{
    const char *local = getenv("LOCAL_RANK");
    int count = 0;
    must(cudaGetDeviceCount(&count), "no GPU");
    t->device = local ? (int)(number(local) % (unsigned long)count) : 0;
    must(cudaSetDevice(t->device), "cannot use the GPU");
    must(cudaStreamCreateWithFlags(&t->stream, cudaStreamNonBlocking), "no stream");
    t->bytes = t->arguments.params * sizeof(float);
    float **all[] = {&t->weights, &t->m, &t->v, &t->gradient};
    for (unsigned i = 0; i < 4; i++) {
        must(cudaMalloc((void **)all[i], t->bytes), "no device memory");
        must(cudaMemsetAsync(*all[i], 0, t->bytes, t->stream), "cannot clear device memory");
    }
}

static void join(struct trainer *t)
{
    const struct {
        const char *name;
        float *at;
    } regions[] = {{"weights", t->weights}, {"m", t->m}, {"v", t->v}}; /* the gradient is made anew each step */
    must_tide(t, tide_init(&t->tide, NULL), "tide_init");
    for (unsigned i = 0; i < 3; i++) {
        struct tide_region region = {
            .name = regions[i].name, .data = regions[i].at, .bytes = t->bytes, .memory = TIDE_DEVICE, .dtype = TIDE_F32};
        must_tide(t, tide_register(t->tide, &region), "tide_register");
        must_tide(t, tide_set_copy(t->tide, regions[i].name, t->arguments.copy), "tide_set_copy");
    }
    must_tide(t, tide_set_streams(t->tide, t->device, (void *const *)&t->stream, 1), "tide_set_streams");
    if (t->arguments.copy == TIDE_COPY_SLAB)
        must_tide(t, tide_set_spare(t->tide, t->device, 3 * t->bytes + 4096), "tide_set_spare");
}

static void train_one_step(struct trainer *t, uint64_t step)
{
    unsigned count = (unsigned)t->arguments.params;
    launch_gradient(t->gradient, t->weights, count, (unsigned)step, 1, t->stream);
    must_tide(t, tide_before_update(t->tide, t->stream), "tide_before_update");
    launch_adam(t->weights, t->m, t->v, t->gradient, count, 0.001f, t->stream);
    must(cudaGetLastError(), "a kernel was not launched");
    if (t->arguments.step_ms > 0)
        usleep((useconds_t)(t->arguments.step_ms * 1000));
}

/* FNV-1a over all that a checkpoint holds. */
static uint64_t digest(const struct trainer *t)
{
    const float *all[] = {t->weights, t->m, t->v};
    unsigned char *on_host = malloc(t->bytes);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    if (on_host == NULL)
        give_up("no memory", "for a digest", 1);
    must(cudaStreamSynchronize(t->stream), "training went wrong on the GPU");
    for (unsigned k = 0; k < 3; k++) {
        must(cudaMemcpy(on_host, all[k], t->bytes, cudaMemcpyDeviceToHost), "cannot copy the result");
        for (size_t i = 0; i < t->bytes; i++)
            hash = (hash ^ on_host[i]) * UINT64_C(0x100000001b3);
    }
    free(on_host);
    return hash;
}

int main(int argc, char **argv)
{
    struct trainer t = {.arguments = parse(argc, argv)};
    uint64_t step = 0;
    take_gpu(&t);
    join(&t);
    enum tide_status status = tide_restore(t.tide, &step);
    if (status != TIDE_E_NO_CHECKPOINT)
        must_tide(&t, status, "tide_restore");
    uint64_t restored = step;
    while (step < t.arguments.steps) {
        train_one_step(&t, step);
        must_tide(&t, tide_step(t.tide, ++step), "tide_step");
        if (step == t.arguments.die_at && restored == 0)
            raise(SIGKILL);
    }
    enum tide_copy copied = TIDE_COPY_AUTO;
    must_tide(&t, tide_copied(t.tide, "weights", &copied), "tide_copied");
    printf("digest %016llx steps %llu restored %llu copied %u\n", (unsigned long long)digest(&t), (unsigned long long)step,
           (unsigned long long)restored, (unsigned)copied);
    tide_finalize(t.tide);
    return 0;
}
