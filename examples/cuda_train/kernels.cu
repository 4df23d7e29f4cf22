/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#define THREADS 256u

/* Noise that follows from its place and the step alone: after a restart it is the same again. */
static __device__ float noise(unsigned i, unsigned step, unsigned seed)
{
    unsigned x = i * 2654435761u ^ step * 2246822519u ^ seed * 3266489917u;
    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    return (float)(x & 0xffffu) / 65536.0f - 0.5f;
}

/* Of half the squared distance to a point that every weight shall come to, as a batch with noise would tell it. */
extern "C" __global__ void train_gradient(float *gradient, const float *weights, unsigned count, unsigned step, unsigned seed)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        gradient[i] = weights[i] - (float)(i % 1000u) * 0.001f + noise(i, step, seed);
}

extern "C" __global__ void train_adam(float *weights, float *m, float *v, const float *gradient, unsigned count, float rate)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    m[i] = 0.9f * m[i] + 0.1f * gradient[i];
    v[i] = 0.999f * v[i] + 0.001f * gradient[i] * gradient[i];
    weights[i] -= rate * m[i] / (sqrtf(v[i]) + 1e-8f);
}

void launch_gradient(float *gradient, const float *weights, unsigned count, unsigned step, unsigned seed, cudaStream_t stream)
{
    train_gradient<<<(count + THREADS - 1) / THREADS, THREADS, 0, stream>>>(gradient, weights, count, step, seed);
}

void launch_adam(float *weights, float *m, float *v, const float *gradient, unsigned count, float rate, cudaStream_t stream)
{
    train_adam<<<(count + THREADS - 1) / THREADS, THREADS, 0, stream>>>(weights, m, v, gradient, count, rate);
}
