/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_SIM_CUDA_SIM_H
#define TESTS_LIB_SIM_CUDA_SIM_H

/* Inside the simulator. One lock guards everything; functions without sim_enter are called with it held. */

#include <pthread.h>

#include "tests/lib/sim_cuda/sim_cuda.h"

#define SIM_WINDOW_BYTES ((size_t)1 << 30) /* addresses of one device */
#define SIM_BLOCKS_MAX 4096
#define SIM_PINS_MAX 4096
#define SIM_STREAMS_MAX 64
#define SIM_NEVER UINT64_MAX

enum sim_kind { SIM_COPY, SIM_SET, SIM_CALL, SIM_MARK, SIM_FREE };

struct sim_op {
    struct sim_op *next; /* in its stream */
    struct CUstream_st *stream;
    enum sim_kind kind;
    enum sim_engine engine;
    int device;
    void *to;
    const void *from;
    size_t bytes;
    int value;
    cudaHostFn_t call;
    void *context;
    uint64_t end_ns;
    uint64_t number; /* of all that was ever put into a stream */
    int done, held, is_copy;
    int outside; /* its call is made without the lock: it may take for ever */
    int running; /* that call */
    int waits;   /* it, or something that it comes behind, is such a call */
    unsigned refs;
    unsigned dep_count;
    struct sim_op *deps[SIM_STREAMS_MAX + 1];
};

struct CUstream_st {
    struct CUstream_st *next;
    int device, priority, capturing, broken, is_legacy;
    int destroyed; /* no handle is left: it goes when it is empty */
    int hand;      /* a thread of ours does what is `wanted`: a device works by itself */
    struct sim_op *wanted;
    enum cudaStreamCaptureMode mode;
    unsigned flags;
    struct sim_op *head, *tail;
    uint64_t end_ns;
};

struct CUevent_st {
    struct CUevent_st *next;
    struct sim_op *op; /* NULL: not recorded, or of a time before the last reset */
    int captured, device;
    uint64_t end_ns;
};

struct sim_device {
    char *window, *shadow;
    size_t capacity, used;
    cudaError_t sticky, fault;
    long fault_after, hang_after; /* -1: no */
    uint64_t engine_end_ns[SIM_ENGINES];
    struct CUstream_st legacy;
};

struct sim_block {
    char *at;
    size_t bytes;
    int device;
    enum cudaMemoryType type;
};

struct sim {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* a call has come back, or a hand has gone */
    unsigned hands; /* threads of ours */
    uint64_t ops;
    int device_count;
    struct sim_device devices[SIM_DEVICES_MAX];
    struct sim_block blocks[SIM_BLOCKS_MAX];
    unsigned block_count;
    struct sim_block pins[SIM_PINS_MAX]; /* type: Host (ours) or Unregistered (the caller's) */
    unsigned pin_count;
    struct CUstream_st *streams;
    struct CUevent_st *events;
    uint64_t bytes_per_s[SIM_ENGINES], delay_ns[SIM_ENGINES];
    size_t pin_limit;
    cudaError_t driver;
    int hold, capturing;
    struct sim_counts counts;
};

extern struct sim sim;
extern __thread int sim_current;
extern __thread enum cudaStreamCaptureMode sim_thread_mode;

/* ---- control.c ---- */
enum sim_manner {
    SIM_ANY,   /* allowed in every state */
    SIM_NEEDS, /* fails with the device's sticky error */
    SIM_UNSAFE /* … and breaks a capture in progress, unless this thread said that it is relaxed about that */
};
/* Lock; the error this call has to return, which the caller hands to sim_leave. */
cudaError_t sim_enter(enum sim_manner manner);
/* Unlock and remember the error. */
cudaError_t sim_leave(cudaError_t error);
uint64_t sim_now(void);

/* ---- memory.c ---- */
/* The block that holds all of it; NULL: none. */
const struct sim_block *sim_block_of(const void *at, size_t bytes);
int sim_is_device(const void *at);
/* 1: all in one pinned range, 0: in none, -1: in part, or in several. */
int sim_pinned(const void *at, size_t bytes);
cudaError_t sim_give_back(void *at);
void sim_memory_reset(void);

/* ---- queue.c ---- */
/* The stream meant by a handle; NULL: it is not one. */
struct CUstream_st *sim_stream(cudaStream_t handle);
/* Nobody has a handle to it, and nothing is left in it: it is freed. */
void sim_free_if_over(struct CUstream_st *stream);
/* Put a copy of `op` behind everything in the stream it names. */
struct sim_op *sim_put(const struct sim_op *op);
/* Do it, and what it depends on. Unlocks where that `waits`. */
void sim_force(struct sim_op *op);
/* Wait for its time, then do it. Unlocks meanwhile. */
void sim_await(struct sim_op *op);
void sim_await_stream(struct CUstream_st *stream);
void sim_await_device(int device);
void sim_unref(struct sim_op *op);
/* Waits until our own threads are gone. */
void sim_queue_reset(void);

/* ---- hand.c ---- */
/* A thread of ours waits for its time, and does it. Whoever asks does not wait. */
void sim_begin_op(struct sim_op *op);

#endif
