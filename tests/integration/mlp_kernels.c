/* SPDX-License-Identifier: Apache-2.0 */

/* The kernels of examples/cuda_mlp for the simulator: the arithmetic is the example's own (element.h), for the host; what is
 * a grid of threads there is a loop here. Preloaded. $MLP_STEP_MS: a step takes so long besides, without a processor: a job that is
 * to go on until something happens to it need not compute for it. */

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "examples/cuda_mlp/element.h"
#include "tests/lib/sim_cuda/sim_cuda.h"

extern const struct sim_kernel sim_kernel_mlp_hidden, sim_kernel_mlp_output, sim_kernel_mlp_back, sim_kernel_mlp_sum,
    sim_kernel_mlp_adam;

static void *view(void *at)
{
    return at ? sim_view(at) : NULL;
}

#define TAKE(type, name, arg)                                                                                               \
    type name;                                                                                                              \
    memcpy(&name, arg, sizeof name)

static struct pass pass_of(const void *arg)
{
    TAKE(struct pass, p, arg);
    return (struct pass){view(p.hidden), view(p.delta_hidden), view(p.delta_out), view(p.loss)};
}

static struct batch batch_of(const void *arg)
{
    TAKE(struct batch, b, arg);
    b.pixels = sim_view(b.pixels);
    b.labels = sim_view(b.labels);
    b.order = sim_view(b.order);
    return b;
}

static void *pointer_of(const void *arg)
{
    TAKE(void *, at, arg);
    return sim_view(at);
}

static void hidden(dim3 grid, dim3 block, void **args)
{
    struct pass p = pass_of(args[0]);
    const struct weights *w = pointer_of(args[1]);
    struct batch b = batch_of(args[2]);
    (void)grid, (void)block;
    for (uint32_t i = 0; i < b.slices * b.slice_images * HIDDEN; i++)
        element_hidden(&p, w, &b, i / HIDDEN, i % HIDDEN);
}

static void output(dim3 grid, dim3 block, void **args)
{
    struct pass p = pass_of(args[0]);
    const struct weights *w = pointer_of(args[1]);
    struct batch b = batch_of(args[2]);
    (void)grid, (void)block;
    for (uint32_t i = 0; i < b.slices * b.slice_images; i++)
        element_output(&p, w, &b, i);
}

static void back(dim3 grid, dim3 block, void **args)
{
    struct pass p = pass_of(args[0]);
    const struct weights *w = pointer_of(args[1]);
    struct batch b = batch_of(args[2]);
    (void)grid, (void)block;
    for (uint32_t i = 0; i < b.slices * b.slice_images * HIDDEN; i++)
        element_back(&p, w, i / HIDDEN, i % HIDDEN);
}

static void sum(dim3 grid, dim3 block, void **args)
{
    int64_t *sums = pointer_of(args[0]);
    struct pass p = pass_of(args[1]);
    struct batch b = batch_of(args[2]);
    (void)grid, (void)block;
    for (uint32_t i = 0; i <= PARAMETERS; i++)
        element_sum(sums, &p, &b, i);
}

static void take_time(void)
{
    const char *ms = getenv("MLP_STEP_MS");
    if (ms != NULL)
        nanosleep(&(struct timespec){.tv_nsec = strtol(ms, NULL, 10) * 1000000L}, NULL);
}

static void adam(dim3 grid, dim3 block, void **args)
{
    struct weights *w = pointer_of(args[0]);
    TAKE(struct adam_state, a, args[1]);
    const int64_t *sums = pointer_of(args[2]);
    int64_t *loss = pointer_of(args[3]);
    (void)grid, (void)block;
    a.mean = sim_view(a.mean);
    a.square = sim_view(a.square);
    for (uint32_t i = 0; i < PARAMETERS; i++)
        element_adam(w, &a, sums, i);
    *loss += sums[PARAMETERS] / a.batch_images;
    take_time();
}

#define PASS sizeof(struct pass)
#define BATCH sizeof(struct batch)
const struct sim_kernel sim_kernel_mlp_hidden = {.count = 3, .bytes = {PASS, 8, BATCH}, .run = hidden};
const struct sim_kernel sim_kernel_mlp_output = {.count = 3, .bytes = {PASS, 8, BATCH}, .run = output};
const struct sim_kernel sim_kernel_mlp_back = {.count = 3, .bytes = {PASS, 8, BATCH}, .run = back};
const struct sim_kernel sim_kernel_mlp_sum = {.count = 3, .bytes = {8, PASS, BATCH}, .run = sum};
const struct sim_kernel sim_kernel_mlp_adam = {.count = 4, .bytes = {8, sizeof(struct adam_state), 8, 8}, .run = adam};
