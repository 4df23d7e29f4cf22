/* SPDX-License-Identifier: Apache-2.0 */

/* The kernels of examples/cuda_train for the simulator, element by element as they are there. Preloaded. */

#include <math.h>
#include <string.h>

#include "tests/lib/sim_cuda/sim_cuda.h"

extern const struct sim_kernel sim_kernel_train_gradient, sim_kernel_train_adam;

static float noise(unsigned i, unsigned step, unsigned seed)
{
    unsigned x = i * 2654435761u ^ step * 2246822519u ^ seed * 3266489917u;
    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    return (float)(x & 0xffffu) / 65536.0f - 0.5f;
}

static float *memory(void *arg)
{
    void *at;
    memcpy(&at, arg, sizeof at);
    return sim_view(at);
}

static unsigned word(const void *arg)
{
    unsigned value;
    memcpy(&value, arg, sizeof value);
    return value;
}

static void gradient(dim3 grid, dim3 block, void **args)
{
    float *to = memory(args[0]);
    const float *weights = memory(args[1]);
    (void)grid, (void)block;
    for (unsigned i = 0; i < word(args[2]); i++)
        to[i] = weights[i] - (float)(i % 1000u) * 0.001f + noise(i, word(args[3]), word(args[4]));
}

static void adam(dim3 grid, dim3 block, void **args)
{
    float *weights = memory(args[0]), *m = memory(args[1]), *v = memory(args[2]), rate;
    const float *g = memory(args[3]);
    memcpy(&rate, args[5], sizeof rate);
    (void)grid, (void)block;
    for (unsigned i = 0; i < word(args[4]); i++) {
        m[i] = 0.9f * m[i] + 0.1f * g[i];
        v[i] = 0.999f * v[i] + 0.001f * g[i] * g[i];
        weights[i] -= rate * m[i] / (sqrtf(v[i]) + 1e-8f);
    }
}

const struct sim_kernel sim_kernel_train_gradient = {.count = 5, .bytes = {8, 8, 4, 4, 4}, .run = gradient};
const struct sim_kernel sim_kernel_train_adam = {.count = 6, .bytes = {8, 8, 8, 8, 4, 4}, .run = adam};
