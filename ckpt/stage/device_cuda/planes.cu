/* SPDX-License-Identifier: Apache-2.0 */
#include "planes.h"

#include "planes_thread.h"

#define BLOCKS_MAX 0x7fffffffu /* of a grid */

/* What the block has counted goes to all the others'. */
static __device__ __forceinline__ void hand_over(uint64_t *seen, const uint32_t *tally, unsigned values)
{
    for (unsigned i = threadIdx.x; i < values; i += PLANES_THREADS)
        if (tally[i] > 0)
            atomicAdd((unsigned long long *)seen + i, (unsigned long long)tally[i]);
}

#define KERNEL extern "C" __global__ void __launch_bounds__(PLANES_THREADS)
#define KERNELS(width, cell)                                                                                                \
    KERNEL planes_split_##width##_##cell(planes_job job)                                                                    \
    {                                                                                                                       \
        planes_thread(&job, blockIdx.x, threadIdx.x, width, cell, 0, NULL);                                                 \
    }                                                                                                                       \
    KERNEL planes_count_##width##_##cell(planes_job job)                                                                    \
    {                                                                                                                       \
        __shared__ uint32_t tally[width * PLANES_VALUES];                                                                   \
        for (unsigned i = threadIdx.x; i < width * PLANES_VALUES; i += PLANES_THREADS)                                      \
            tally[i] = 0;                                                                                                   \
        __syncthreads();                                                                                                    \
        planes_thread(&job, blockIdx.x, threadIdx.x, width, cell, 0, tally);                                                \
        __syncthreads();                                                                                                    \
        hand_over(job.seen + (uint64_t)(blockIdx.x / job.blocks) * width * PLANES_VALUES, tally, width * PLANES_VALUES);    \
    }                                                                                                                       \
    KERNEL planes_merge_##width##_##cell(planes_job job)                                                                    \
    {                                                                                                                       \
        planes_thread(&job, blockIdx.x, threadIdx.x, width, cell, 1, NULL);                                                 \
    }
#define ROW(width, cell)                                                                                                    \
    {                                                                                                                       \
        width, cell, (const void *)planes_split_##width##_##cell, (const void *)planes_count_##width##_##cell,              \
            (const void *)planes_merge_##width##_##cell                                                                     \
    }

/* Those of planes_cell … */
KERNELS(1, 16)
KERNELS(2, 8)
KERNELS(4, 4)
KERNELS(8, 4)
#ifdef PLANES_CELLS /* … and others, to measure them against these */
KERNELS(2, 16)
KERNELS(4, 8)
KERNELS(4, 16)
KERNELS(8, 8)
KERNELS(8, 16)
#endif

static const struct {
    unsigned width, cell;
    const void *split, *count, *merge;
} kernels[] = {
    ROW(1, 16), ROW(2, 8), ROW(4, 4), ROW(8, 4),
#ifdef PLANES_CELLS
    ROW(2, 16), ROW(4, 8), ROW(4, 16), ROW(8, 8), ROW(8, 16),
#endif
};

static cudaError_t launch(planes_job job, unsigned width, unsigned cell, bool merge, cudaStream_t stream)
{
    void *args[] = {&job};
    if (job.piece == 0)
        return cudaErrorInvalidValue;
    for (const auto &k : kernels) {
        if (k.width != width || k.cell != cell)
            continue;
        planes_share(&job, width, cell);
        uint64_t blocks = planes_pieces(job.count, job.piece) * job.blocks;
        if (blocks > BLOCKS_MAX)
            return cudaErrorInvalidValue;
        const void *kernel = merge ? k.merge : job.seen ? k.count : k.split;
        return blocks == 0 ? cudaSuccess : cudaLaunchKernel(kernel, dim3((unsigned)blocks), dim3(PLANES_THREADS), args, 0, stream);
    }
    return cudaErrorInvalidValue;
}

cudaError_t planes_cuda_split_by(unsigned cell, const void *from, size_t count, unsigned width, size_t piece, void *to,
                                 uint64_t *seen, cudaStream_t stream)
{
    planes_job job = {(unsigned char *)from, (unsigned char *)to, count, piece, seen, 0, 0};
    return launch(job, width, cell, false, stream);
}

cudaError_t planes_cuda_merge_by(unsigned cell, const void *from, size_t count, unsigned width, size_t piece, void *to,
                                 cudaStream_t stream)
{
    planes_job job = {(unsigned char *)to, (unsigned char *)from, count, piece, NULL, 0, 0};
    return launch(job, width, cell, true, stream);
}

cudaError_t planes_cuda_split(const void *from, size_t count, unsigned width, size_t piece, void *to, uint64_t *seen,
                              cudaStream_t stream)
{
    return planes_cuda_split_by(planes_cell(width), from, count, width, piece, to, seen, stream);
}

cudaError_t planes_cuda_merge(const void *from, size_t count, unsigned width, size_t piece, void *to, cudaStream_t stream)
{
    return planes_cuda_merge_by(planes_cell(width), from, count, width, piece, to, stream);
}
