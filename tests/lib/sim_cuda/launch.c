/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/sim_cuda/sim.h"

/* What nvcc's host code calls. A kernel is a function of the host that the test supplies under the kernel's name; the
 * machine code that nvcc made is not looked at. */

#define KERNELS_MAX 64u
#define ARGS_ALIGN 64u

void **__cudaRegisterFatBinary(void *binary);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
char __cudaInitModule(void **handle);
void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name, int limit, uint3 *thread,
                            uint3 *block, dim3 *block_dim, dim3 *grid_dim, int *warp);
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream);
cudaError_t __cudaGetKernel(cudaKernel_t *ret_kernel, const void *host);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream);

struct known {
    const void *host;
    char name[128];
};

static struct known kernels[KERNELS_MAX];
static unsigned kernel_count;
static __thread struct {
    dim3 grid, block;
    size_t shared;
    struct CUstream_st *stream;
} configuration;

void **__cudaRegisterFatBinary(void *binary)
{
    static void *handle;
    (void)binary;
    return &handle;
}

void __cudaRegisterFatBinaryEnd(void **handle)
{
    (void)handle;
}

void __cudaUnregisterFatBinary(void **handle)
{
    (void)handle;
}

char __cudaInitModule(void **handle)
{
    (void)handle;
    return 1;
}

void __cudaRegisterFunction(void **handle, const char *host, char *device, const char *name, int limit, uint3 *thread,
                            uint3 *block, dim3 *block_dim, dim3 *grid_dim, int *warp)
{
    (void)handle, (void)device, (void)limit, (void)thread, (void)block, (void)block_dim, (void)grid_dim, (void)warp;
    if (kernel_count == KERNELS_MAX)
        return;
    kernels[kernel_count].host = host;
    snprintf(kernels[kernel_count++].name, sizeof kernels[0].name, "%s", name);
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, struct CUstream_st *stream)
{
    configuration.grid = grid;
    configuration.block = block;
    configuration.shared = shared;
    configuration.stream = stream;
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream)
{
    *grid = configuration.grid;
    *block = configuration.block;
    *shared = configuration.shared;
    memcpy(stream, &configuration.stream, sizeof configuration.stream);
    return cudaSuccess;
}

struct launch {
    const struct sim_kernel *kernel;
    dim3 grid, block;
    void *args[SIM_ARGS_MAX];
    char bytes[SIM_ARGS_MAX * ARGS_ALIGN];
};

static void run(void *context)
{
    struct launch *l = context;
    l->kernel->run(l->grid, l->block, l->args);
    free(l);
}

static cudaError_t put(const struct known *known, dim3 grid, dim3 block, void **args, cudaStream_t stream)
{
    char symbol[160];
    struct CUstream_st *s = sim_stream(stream);
    snprintf(symbol, sizeof symbol, "sim_kernel_%s", known->name);
    const struct sim_kernel *kernel = dlsym(RTLD_DEFAULT, symbol);
    if (kernel == NULL || kernel->count > SIM_ARGS_MAX || s == NULL) {
        fprintf(stderr, "the simulator of CUDA has no kernel %s: supply struct sim_kernel %s\n", known->name, symbol);
        return cudaErrorInvalidDeviceFunction;
    }
    struct launch *l = calloc(1, sizeof *l);
    l->kernel = kernel;
    l->grid = grid;
    l->block = block;
    for (unsigned i = 0; i < kernel->count; i++) {
        l->args[i] = l->bytes + (size_t)i * ARGS_ALIGN;
        memcpy(l->args[i], args[i], kernel->bytes[i] < ARGS_ALIGN ? kernel->bytes[i] : ARGS_ALIGN);
    }
    if (s->capturing)
        free(l);
    else
        sim_put(&(struct sim_op){.kind = SIM_CALL, .stream = s, .call = run, .context = l});
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t *ret_kernel, const void *host)
{
    for (unsigned i = 0; i < kernel_count; i++)
        if (kernels[i].host == host) {
            *ret_kernel = (cudaKernel_t)&kernels[i];
            return cudaSuccess;
        }
    return cudaErrorInvalidDeviceFunction;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream)
{
    cudaError_t error = sim_enter(SIM_NEEDS);
    (void)shared;
    return sim_leave(error == cudaSuccess ? put((const struct known *)kernel, grid, block, args, stream) : error);
}

cudaError_t cudaLaunchKernel(const void *host, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t stream)
{
    cudaKernel_t kernel = NULL;
    cudaError_t error = __cudaGetKernel(&kernel, host);
    return error == cudaSuccess ? __cudaLaunchKernel(kernel, grid, block, args, shared, stream) : error;
}
