/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tests/lib/sim_cuda/sim.h"

#define DEVICES_DEFAULT 2
#define CAPACITY_DEFAULT ((size_t)256 << 20)

struct sim sim = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
__thread int sim_current;
__thread enum cudaStreamCaptureMode sim_thread_mode = cudaStreamCaptureModeGlobal;
static __thread cudaError_t last_error;

uint64_t sim_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void start(int devices, size_t bytes_each)
{
    sim_queue_reset();
    sim_memory_reset();
    sim.device_count = devices;
    for (int i = 0; i < SIM_DEVICES_MAX; i++) {
        struct sim_device *d = &sim.devices[i];
        d->capacity = bytes_each < SIM_WINDOW_BYTES ? bytes_each : SIM_WINDOW_BYTES;
        d->used = 0;
        d->sticky = d->fault = cudaSuccess;
        d->fault_after = d->hang_after = -1;
        d->legacy.device = i;
        d->legacy.is_legacy = 1;
    }
    memset(&sim.counts, 0, sizeof sim.counts);
    memset(sim.bytes_per_s, 0, sizeof sim.bytes_per_s);
    memset(sim.delay_ns, 0, sizeof sim.delay_ns);
    sim.pin_limit = SIZE_MAX;
    sim.driver = cudaSuccess;
    sim.hold = sim.capturing = 0;
}

static void start_first(void)
{
    if (sim.device_count > 0)
        return;
    fputs("libcudart.so.13 is a simulator: its devices are memory of this host, nothing here is a GPU\n", stderr);
    start(DEVICES_DEFAULT, CAPACITY_DEFAULT);
}

/* The program's capture is lost: real ones report it when the capture ends. */
static void break_captures(void)
{
    sim.counts.captures_broken++;
    for (struct CUstream_st *s = sim.streams; s; s = s->next)
        if (s->capturing)
            s->broken = 1;
}

static int capture_minds(void)
{
    for (struct CUstream_st *s = sim.streams; s; s = s->next)
        if (s->capturing && s->mode == cudaStreamCaptureModeGlobal && sim_thread_mode != cudaStreamCaptureModeRelaxed)
            return 1;
    return 0;
}

cudaError_t sim_enter(enum sim_manner manner)
{
    pthread_mutex_lock(&sim.lock);
    start_first();
    if (manner == SIM_ANY)
        return cudaSuccess;
    if (sim.driver != cudaSuccess)
        return sim.driver;
    if (manner == SIM_UNSAFE && sim.capturing > 0 && capture_minds()) {
        break_captures();
        return cudaErrorStreamCaptureUnsupported;
    }
    return sim.devices[sim_current].sticky;
}

cudaError_t sim_leave(cudaError_t error)
{
    if (error != cudaSuccess && error != cudaErrorNotReady)
        last_error = error;
    pthread_mutex_unlock(&sim.lock);
    return error;
}

/* ---- for tests ---- */

void sim_reset(int devices, size_t bytes_each)
{
    pthread_mutex_lock(&sim.lock);
    start_first();
    start(devices, bytes_each);
    sim_current = 0;
    last_error = cudaSuccess;
    pthread_mutex_unlock(&sim.lock);
}

struct sim_counts sim_counts(void)
{
    pthread_mutex_lock(&sim.lock);
    struct sim_counts counts = sim.counts;
    pthread_mutex_unlock(&sim.lock);
    return counts;
}

void sim_speed(enum sim_engine engine, uint64_t bytes_per_s, uint64_t delay_ns)
{
    sim_enter(SIM_ANY);
    sim.bytes_per_s[engine] = bytes_per_s;
    sim.delay_ns[engine] = delay_ns;
    pthread_mutex_unlock(&sim.lock);
}

void sim_hold(int hold)
{
    sim_enter(SIM_ANY);
    sim.hold = hold;
    pthread_mutex_unlock(&sim.lock);
}

void sim_fault(int device, cudaError_t error, unsigned copies)
{
    sim_enter(SIM_ANY);
    sim.devices[device].fault = error;
    sim.devices[device].fault_after = (long)copies;
    pthread_mutex_unlock(&sim.lock);
}

void sim_hang(int device, unsigned copies)
{
    sim_enter(SIM_ANY);
    sim.devices[device].hang_after = (long)copies;
    pthread_mutex_unlock(&sim.lock);
}

void sim_pin_limit(size_t bytes)
{
    sim_enter(SIM_ANY);
    sim.pin_limit = bytes;
    pthread_mutex_unlock(&sim.lock);
}

void sim_driver(cudaError_t error)
{
    sim_enter(SIM_ANY);
    sim.driver = error;
    pthread_mutex_unlock(&sim.lock);
}

/* ---- devices and errors, as CUDA has them ---- */

cudaError_t cudaGetDeviceCount(int *ret_count)
{
    sim_enter(SIM_ANY);
    if (sim.driver == cudaSuccess)
        *ret_count = sim.device_count;
    return sim_leave(sim.driver);
}

cudaError_t cudaSetDevice(int device)
{
    sim_enter(SIM_ANY);
    if (sim.driver != cudaSuccess)
        return sim_leave(sim.driver);
    if (device < 0 || device >= sim.device_count)
        return sim_leave(cudaErrorInvalidDevice);
    sim_current = device;
    return sim_leave(sim.devices[device].sticky);
}

cudaError_t cudaGetDevice(int *ret_device)
{
    sim_enter(SIM_ANY);
    *ret_device = sim_current;
    return sim_leave(sim.driver);
}

/* The same buses as sim_nvml has. */
cudaError_t cudaDeviceGetPCIBusId(char *to, int bytes, int device)
{
    sim_enter(SIM_ANY);
    if (sim.driver != cudaSuccess)
        return sim_leave(sim.driver);
    if (device < 0 || device >= sim.device_count)
        return sim_leave(cudaErrorInvalidDevice);
    snprintf(to, (size_t)bytes, "0000:%02X:00.0", 0x65u + (unsigned)device);
    return sim_leave(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *ret_version)
{
    *ret_version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *ret_version)
{
    *ret_version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *ret_least, int *ret_greatest)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    *ret_least = 0;
    *ret_greatest = -5;
    return sim_leave(error);
}

cudaError_t cudaDeviceSynchronize(void)
{
    cudaError_t error = sim_enter(SIM_UNSAFE);
    sim.counts.device_syncs++;
    if (error == cudaSuccess)
        sim_await_device(sim_current);
    return sim_leave(error == cudaSuccess ? sim.devices[sim_current].sticky : error);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
    enum cudaStreamCaptureMode before = sim_thread_mode;
    sim_thread_mode = *mode;
    *mode = before;
    return cudaSuccess;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    sim_enter(SIM_ANY);
    last_error = sim.devices[sim_current].sticky; /* those stay */
    pthread_mutex_unlock(&sim.lock);
    return error;
}

#define NAME_OF(error)                                                                                                      \
    case error:                                                                                                             \
        return #error

const char *cudaGetErrorName(cudaError_t error)
{
    switch ((int)error) {
        NAME_OF(cudaSuccess);
        NAME_OF(cudaErrorInvalidValue);
        NAME_OF(cudaErrorMemoryAllocation);
        NAME_OF(cudaErrorInsufficientDriver);
        NAME_OF(cudaErrorNoDevice);
        NAME_OF(cudaErrorInvalidDevice);
        NAME_OF(cudaErrorECCUncorrectable);
        NAME_OF(cudaErrorNotReady);
        NAME_OF(cudaErrorIllegalAddress);
        NAME_OF(cudaErrorInvalidResourceHandle);
        NAME_OF(cudaErrorHostMemoryAlreadyRegistered);
        NAME_OF(cudaErrorHostMemoryNotRegistered);
        NAME_OF(cudaErrorStreamCaptureUnsupported);
        NAME_OF(cudaErrorStreamCaptureInvalidated);
        NAME_OF(cudaErrorStreamCaptureIsolation);
        NAME_OF(cudaErrorStreamCaptureImplicit);
        NAME_OF(cudaErrorDevicesUnavailable);
        NAME_OF(cudaErrorInvalidDeviceFunction);
    default:
        return "unrecognized error code";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorECCUncorrectable ? "uncorrectable ECC error encountered" : "as the simulator was told";
}
