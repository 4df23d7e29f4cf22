/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ckpt/stage/device_cuda/cuda.h"

static struct pinning *pinning_at(struct device *device, const void *at)
{
    for (unsigned i = 0; i < PINNINGS_MAX; i++)
        if (device->pinnings[i].at == at)
            return &device->pinnings[i];
    return NULL;
}

/* Slices lie at multiples of their size from the beginning, so that a seam is found by arithmetic. */
static void pin_slices(struct device *device, struct pinning *p, const _Atomic int *stop)
{
    while (p->pinned_bytes < p->bytes && !p->refused && !(stop && atomic_load(stop))) {
        size_t left = p->bytes - p->pinned_bytes, slice = left < PIN_SLICE_BYTES ? left : PIN_SLICE_BYTES;
        cudaError_t error = cudaHostRegister(p->at + p->pinned_bytes, slice, cudaHostRegisterPortable);
        if (error == cudaSuccess) {
            p->pinned_bytes += slice;
            continue;
        }
        cudaGetLastError();
        p->refused = 1;
        snprintf(
            device->pin_refusal, sizeof device->pin_refusal,
            "only %zu of %zu MiB of host memory could be pinned (%s): raise RLIMIT_MEMLOCK, or give the host more memory",
            p->pinned_bytes >> 20, p->bytes >> 20, cudaGetErrorName(error));
    }
}

void cuda_pin(struct device *device, void *at, size_t bytes, const _Atomic int *stop)
{
    struct visit visit;
    int first = atomic_load(&device->first);
    struct pinning *p = pinning_at(device, at);
    if (p == NULL)
        p = pinning_at(device, NULL);
    if (first < 0 || p == NULL || bytes == 0)
        return;
    if (p->at == NULL)
        *p = (struct pinning){.at = at, .bytes = bytes};
    visit_begin(&visit);
    if (visit_gpu(&visit, &device->gpus[first], NULL) == TIDE_OK)
        pin_slices(device, p, stop);
    visit_end(&visit);
}

static void unpin(struct pinning *p)
{
    for (size_t at = 0; at < p->pinned_bytes; at += PIN_SLICE_BYTES)
        if (cudaHostUnregister(p->at + at) != cudaSuccess)
            cudaGetLastError();
    *p = (struct pinning){.at = NULL};
}

void cuda_unpin(struct device *device, void *at)
{
    struct visit visit;
    struct pinning *p = at ? pinning_at(device, at) : NULL;
    if (p == NULL)
        return;
    visit_begin(&visit);
    unpin(p);
    visit_end(&visit);
}

void cuda_unpin_all(struct device *device)
{
    for (unsigned i = 0; i < PINNINGS_MAX; i++)
        if (device->pinnings[i].at)
            unpin(&device->pinnings[i]);
}

static const struct pinning *pinning_of(const struct device *device, const void *at)
{
    for (unsigned i = 0; i < PINNINGS_MAX; i++) {
        const struct pinning *p = &device->pinnings[i];
        if (p->at && (const char *)at >= p->at && (const char *)at < p->at + p->bytes)
            return p;
    }
    return NULL;
}

int cuda_is_pinned(const struct device *device, const void *at, size_t bytes)
{
    const struct pinning *p = pinning_of(device, at);
    return p && (const char *)at + bytes <= p->at + p->pinned_bytes;
}

size_t cuda_until_seam(const struct device *device, const void *at)
{
    const struct pinning *p = pinning_of(device, at);
    return p ? PIN_SLICE_BYTES - (size_t)((const char *)at - p->at) % PIN_SLICE_BYTES : SIZE_MAX;
}
