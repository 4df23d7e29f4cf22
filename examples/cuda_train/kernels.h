/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EXAMPLES_CUDA_TRAIN_KERNELS_H
#define EXAMPLES_CUDA_TRAIN_KERNELS_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a step does on the GPU, put into a stream. Each element is computed by itself, so that the bits do not depend on how the
 * work is shared out. */
void launch_gradient(float *gradient, const float *weights, unsigned count, unsigned step, unsigned seed, cudaStream_t stream);
void launch_adam(float *weights, float *m, float *v, const float *gradient, unsigned count, float rate, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
