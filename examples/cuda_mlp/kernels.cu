/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#define THREADS 128u

static unsigned blocks(unsigned count)
{
    return (count + THREADS - 1) / THREADS;
}

extern "C" __global__ void mlp_hidden(pass p, const weights *w, batch b)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < b.slices * b.slice_images * HIDDEN)
        element_hidden(&p, w, &b, i / HIDDEN, i % HIDDEN);
}

extern "C" __global__ void mlp_output(pass p, const weights *w, batch b)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < b.slices * b.slice_images)
        element_output(&p, w, &b, i);
}

extern "C" __global__ void mlp_back(pass p, const weights *w, batch b)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < b.slices * b.slice_images * HIDDEN)
        element_back(&p, w, i / HIDDEN, i % HIDDEN);
}

extern "C" __global__ void mlp_sum(int64_t *sums, pass p, batch b)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= PARAMETERS)
        element_sum(sums, &p, &b, i);
}

extern "C" __global__ void mlp_adam(weights *w, adam_state adam, const int64_t *sums, int64_t *loss)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < PARAMETERS)
        element_adam(w, &adam, sums, i);
    else if (i == PARAMETERS)
        *loss += sums[PARAMETERS] / adam.batch_images;
}

void launch_gradient(int64_t *sums, pass p, const weights *w, batch b, cudaStream_t stream)
{
    unsigned images = b.slices * b.slice_images;
    mlp_hidden<<<blocks(images * HIDDEN), THREADS, 0, stream>>>(p, w, b);
    mlp_output<<<blocks(images), THREADS, 0, stream>>>(p, w, b);
    mlp_back<<<blocks(images * HIDDEN), THREADS, 0, stream>>>(p, w, b);
    mlp_sum<<<blocks(PARAMETERS + 1), THREADS, 0, stream>>>(sums, p, b);
}

void launch_adam(weights *w, adam_state adam, const int64_t *sums, int64_t *loss, cudaStream_t stream)
{
    mlp_adam<<<blocks(PARAMETERS + 1), THREADS, 0, stream>>>(w, adam, sums, loss);
}
