/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EXAMPLES_CUDA_MLP_KERNELS_H
#define EXAMPLES_CUDA_MLP_KERNELS_H

#include <cuda_runtime_api.h>

#include "element.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Put into a stream: our part of the batch forward and back, its gradient into `sums`, PARAMETERS + 1 of them. */
void launch_gradient(int64_t *sums, struct pass pass, const struct weights *weights, struct batch batch,
                     cudaStream_t stream);
/* … and one step of the optimizer, along the sums of all ranks; the batch's loss is added to *loss. */
void launch_adam(struct weights *weights, struct adam_state adam, const int64_t *sums, int64_t *loss, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
