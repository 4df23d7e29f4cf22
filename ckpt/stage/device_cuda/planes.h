/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_DEVICE_CUDA_PLANES_H
#define CKPT_STAGE_DEVICE_CUDA_PLANES_H

/* Numbers in device memory taken apart into planes, and put together again, by kernels: byte for byte what ckpt/format/planes.h
 * does for each piece. Nothing of tidemark's uses it yet; README.md beside this file says why. */

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Put into `stream`: `count` numbers of `width` bytes, piece by piece (of `piece` numbers, the last may be shorter), to where as
 * many bytes behind `to` each piece's planes will lie, one behind the other. `from` and `to` may not overlap and need not be
 * aligned; where they are, to 16 bytes, and pieces are multiples of 16 numbers, it is fast.
 * seen: NULL, or in device memory, for each plane of each piece, 256 counters that are added to.
 * cudaErrorInvalidValue: width is not 1, 2, 4 or 8, piece is 0, or there are more blocks than a grid has. */
cudaError_t planes_cuda_split(const void *from, size_t count, unsigned width, size_t piece, void *to, uint64_t *seen,
                              cudaStream_t stream);
/* The reverse. */
cudaError_t planes_cuda_merge(const void *from, size_t count, unsigned width, size_t piece, void *to, cudaStream_t stream);

/* The same by kernels whose threads take `cell` numbers at a time, for measurements; of those beside planes_cell(width) a build
 * with PLANES_CELLS has some. */
cudaError_t planes_cuda_split_by(unsigned cell, const void *from, size_t count, unsigned width, size_t piece, void *to,
                                 uint64_t *seen, cudaStream_t stream);
cudaError_t planes_cuda_merge_by(unsigned cell, const void *from, size_t count, unsigned width, size_t piece, void *to,
                                 cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
