/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_DEVICE_CUDA_CUDA_H
#define CKPT_STAGE_DEVICE_CUDA_CUDA_H

/* Device memory by the CUDA runtime. Nothing here waits for a whole device, waits without a deadline, or leaves the calling
 * thread with another current device than it had. */

#include <cuda_runtime_api.h>
#include <stdatomic.h>

#include "ckpt/stage/device.h"

#define GPUS_MAX 16u
#define STREAMS_MAX 64u
#define PINNINGS_MAX 8u                     /* three slots, and the buffers of a restore */
#define PIN_SLICE_BYTES ((size_t)256 << 20) /* the driver is held up no longer than one of them takes */
#define CHUNK_BYTES_MIN ((size_t)16 << 20)  /* the program's own copies wait for no more than one of ours */
#define CHUNKS_WANTED 512u                  /* … of which a record makes about that many, however large it is */
#define BOUNCE_BYTES ((size_t)16 << 20)
#define BOUNCES 2u /* one is filled while the other is emptied; they use the first lanes */
#define NOTE_MAX 256u

/* Memory of which the first pinned_bytes are. */
struct pinning {
    char *at;
    size_t bytes, pinned_bytes;
    int refused; /* and so no more are tried */
};

struct gpu {
    int is_open, ordinal;
    cudaStream_t copies; /* of the lowest priority; it never waits for the default stream, and that not for it */
    cudaEvent_t ready;   /* the program's streams, at the safe point */
    cudaEvent_t taken;   /* copied aside: the program may go on */
    cudaEvent_t waited;  /* what the safe point itself waits for is on the host */
    cudaEvent_t lazy;    /* … and what the next update waits for */
    cudaEvent_t end;     /* all is */
    cudaEvent_t lanes[DEVICE_LANES];
    int lane_used[DEVICE_LANES];
    _Atomic int lazy_pending;
    int begun, pending; /* a record: something was put into `copies`; some of it outlasts the safe point */
    int stuck;          /* something did not end in time: until `end` comes, its copies may still be under way */
    void *streams[STREAMS_MAX];
    unsigned stream_count; /* 0: the default stream */
    char *spare;
    size_t spare_bytes, spare_used;
    char *bounce[BOUNCES];
};

struct device {
    uint64_t deadline_ns;
    struct gpu gpus[GPUS_MAX];
    struct pinning pinnings[PINNINGS_MAX];
    _Atomic int first;  /* an open GPU, -1: none yet */
    _Atomic int fenced; /* before_update was called */
    char pin_refusal[NOTE_MAX];
    char note[NOTE_MAX];
    struct device_part *parts; /* of the record under way */
    unsigned part_count;
};

/* ---- device.c ---- */

/* While we work in a thread of the program's: its current device, and that its captures of graphs do not mind us. */
struct visit {
    int device, moved;
    enum cudaStreamCaptureMode mode;
};
void visit_begin(struct visit *visit);
void visit_end(struct visit *visit);
MUST_USE enum tide_status visit_gpu(struct visit *visit, const struct gpu *gpu, struct err *err);

/* Turn what CUDA said into an error. What it said is then no longer the thread's last error. */
enum tide_status cuda_failed(struct err *err, cudaError_t error, int ordinal, const char *format, ...) PRINTF_LIKE(4, 5);
/* Errors: TIMEOUT, and the GPU is stuck then; UNAVAILABLE. */
MUST_USE enum tide_status cuda_await(struct device *device, struct gpu *gpu, cudaEvent_t event, const char *what,
                                     struct err *err);
/* From here on our stream goes behind the program's. Errors: STATE (one of them is being captured), UNAVAILABLE. */
MUST_USE enum tide_status cuda_follow(struct gpu *gpu, struct err *err);

/* ---- pin.c ---- */

void cuda_pin(struct device *device, void *at, size_t bytes, const _Atomic int *stop);
void cuda_unpin(struct device *device, void *at);
void cuda_unpin_all(struct device *device);
int cuda_is_pinned(const struct device *device, const void *at, size_t bytes);
/* Bytes from `at` on to where a copy must be cut: a copy must not cross what was pinned in two pieces. */
size_t cuda_until_seam(const struct device *device, const void *at);

/* ---- copy_out.c, copy_in.c ---- */

enum tide_status cuda_copy_out(struct device *device, struct device_part *parts, unsigned count, int *ret_pending,
                               struct err *err);
enum tide_status cuda_copy_out_finish(struct device *device, struct err *err);
enum tide_status cuda_before_update(struct device *device, void *stream, struct err *err);
enum tide_status cuda_copy_in_begin(struct device *device, struct err *err);
enum tide_status cuda_copy_in(struct device *device, struct device_place place, void *to, const void *from_host,
                              size_t bytes, unsigned lane, struct err *err);
enum tide_status cuda_copy_in_wait(struct device *device, unsigned lane, struct err *err);

#endif
