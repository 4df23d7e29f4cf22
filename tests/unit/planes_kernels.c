/* SPDX-License-Identifier: Apache-2.0 */

/* The kernels of ckpt/stage/device_cuda/planes.cu for the simulator: what a thread does is their own (planes_thread.h), for the host;
 * what is a grid of threads there is a loop here. */

#include "tests/lib/sim_cuda/sim_cuda.h"
#include "tests/unit/planes_emulated.h"

static void run(dim3 grid, dim3 block, void **args, unsigned width, unsigned cell, int merge)
{
    struct planes_job job;
    memcpy(&job, args[0], sizeof job);
    job.numbers = sim_view(job.numbers);
    job.planes = sim_view(job.planes);
    job.seen = job.seen ? sim_view(job.seen) : NULL;
    if (block.x == PLANES_THREADS && grid.x == planes_pieces(job.count, job.piece) * job.blocks)
        emulated_launch(&job, width, cell, merge);
}

#define KERNEL(name, width, cell, merge)                                                                                    \
    static void run_##name##_##width##_##cell(dim3 grid, dim3 block, void **args)                                           \
    {                                                                                                                       \
        run(grid, block, args, width, cell, merge);                                                                         \
    }                                                                                                                       \
    extern const struct sim_kernel sim_kernel_planes_##name##_##width##_##cell;                                             \
    const struct sim_kernel sim_kernel_planes_##name##_##width##_##cell = {                                                 \
        .count = 1, .bytes = {sizeof(struct planes_job)}, .run = run_##name##_##width##_##cell};
#define KERNELS(width, cell)                                                                                                \
    KERNEL(split, width, cell, 0)                                                                                           \
    KERNEL(count, width, cell, 0)                                                                                           \
    KERNEL(merge, width, cell, 1)

KERNELS(1, 16)
KERNELS(2, 8)
KERNELS(2, 16)
KERNELS(4, 4)
KERNELS(4, 8)
KERNELS(4, 16)
KERNELS(8, 4)
KERNELS(8, 8)
KERNELS(8, 16)
