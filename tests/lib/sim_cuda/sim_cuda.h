/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_SIM_CUDA_SIM_CUDA_H
#define TESTS_LIB_SIM_CUDA_SIM_CUDA_H

/* A simulator of the CUDA runtime for machines without a GPU: a library with the name and the symbol versions of
 * libcudart.so.13, so that what is shipped runs on it unchanged. It knows the calls that tidemark and its tests use and no
 * others; memory of a "device" is memory of the host that the host cannot reach by the device's address. It proves order,
 * fences, bookkeeping and errors. It proves nothing about speed, nor what a driver really does.
 *
 * It is lazy, on purpose: work that was put into a stream is done as late as CUDA allows, that is when somebody looks
 * (synchronises, or asks an event whose time has come), and then only what that depends on. A fence that is missing
 * therefore gives wrong bytes each time, not once in a thousand.
 *
 * Who looks does it himself, but for calls of the host that are in a stream (cudaLaunchHostFunc), and what is behind such a call: they may
 * take for ever. Who is told at once by a real device (cudaEventQuery) is told here that it is not ready, and a thread of the simulator
 * begins to do it.
 *
 * What follows is for tests, beside the calls of CUDA. */

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SIM_DEVICES_MAX 4
#define SIM_ARGS_MAX 16

/* A kernel, as a function of the host: object sim_kernel_<name> of the program or of what it has preloaded. Arguments of up to 64
 * bytes; pointers to device memory go through sim_view. It is called with the simulator locked: it must not call CUDA. */
struct sim_kernel {
    unsigned count;
    unsigned char bytes[SIM_ARGS_MAX];
    void (*run)(dim3 grid, dim3 block, void **args);
};

enum sim_engine { SIM_D2H, SIM_H2D, SIM_D2D, SIM_ENGINES };

struct sim_counts {
    uint64_t device_syncs, stream_syncs, event_queries, event_records;
    uint64_t events; /* there are */
    uint64_t copies[SIM_ENGINES], bytes[SIM_ENGINES]; /* put into streams */
    uint64_t pageable; /* copies that stopped their caller, because host memory was not pinned */
    uint64_t registers, unregisters, pinned_bytes;
    uint64_t mallocs, frees;
    uint64_t captures_broken;
    uint64_t largest_copy;
};

/* All devices new: no memory, no streams, no faults, nothing counted. Handles and addresses from before are invalid. */
void sim_reset(int devices, size_t bytes_each);
struct sim_counts sim_counts(void);

/* Copies take delay_ns and bytes / bytes_per_s; 0 bytes_per_s: no time at all (the default). */
void sim_speed(enum sim_engine engine, uint64_t bytes_per_s, uint64_t delay_ns);
/* Work that takes that long: a kernel, to anybody who only waits. */
void sim_work(cudaStream_t stream, uint64_t ns);
/* What is in the stream up to now is done by the simulator's own thread, as soon as its time has come. */
void sim_begin(cudaStream_t stream);
/* While 1, copies are not done by an event's being asked, only because something depends on them. */
void sim_hold(int hold);
/* Behind `copies` more copies of that device every call fails with `error`, until sim_reset. */
void sim_fault(int device, cudaError_t error, unsigned copies);
/* Behind `copies` more copies the next one of that device never ends, until sim_heal. */
void sim_hang(int device, unsigned copies);
void sim_heal(void);
/* Bytes of host memory that may be pinned; cudaErrorMemoryAllocation behind that. SIZE_MAX: no limit. */
void sim_pin_limit(size_t bytes);
/* What cudaGetDeviceCount says: cudaErrorInsufficientDriver, cudaErrorNoDevice. cudaSuccess: the truth. */
void sim_driver(cudaError_t error);
/* The host's view of device memory: for tests to fill and to look. Does not wait for anything. */
void *sim_view(const void *device_pointer);

#ifdef __cplusplus
}
#endif

#endif
