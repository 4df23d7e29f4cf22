/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_NCCL_CUDA_H
#define CKPT_CLIENT_NCCL_CUDA_H

/* What messages that are held, and marks, need of CUDA's runtime, which is looked for when the first is. */

#include <cuda_runtime_api.h>
#include <stdbool.h>

#define CUDA_CALLS(X)                                                                                                       \
    X(GetDevice)                                                                                                            \
    X(SetDevice)                                                                                                            \
    X(StreamCreateWithFlags) X(StreamDestroy) X(StreamWaitEvent) X(EventCreateWithFlags) X(EventRecord) X(EventQuery)       \
        X(EventDestroy) X(MallocAsync) X(FreeAsync) X(MemcpyAsync) X(GetLastError) X(GetErrorName)                            \
        X(StreamIsCapturing) X(ThreadExchangeStreamCaptureMode)

struct cuda {
#define FIELD(name) __typeof__(&cuda##name) name;
    CUDA_CALLS(FIELD)
#undef FIELD
};
extern struct cuda cuda;

/* false: there is no such library. Any thread. */
bool cuda_find(void);
/* The program may have another one current than that of the communicator. Returns which. */
int cuda_use(int gpu);

#endif
