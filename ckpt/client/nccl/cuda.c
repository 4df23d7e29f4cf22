/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/nccl/cuda.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

#define AS_TEXT(number) AS_TEXT_OF(number)
#define AS_TEXT_OF(number) #number
#define RUNTIME "libcudart.so." AS_TEXT(CUDA_MAJOR)
#define CUDA_MAJOR 13

_Static_assert(CUDART_VERSION / 1000 == CUDA_MAJOR, "the runtime has that name");

struct cuda cuda;
static bool found;

/* A program may have linked it statically; streams are the driver's, the same for both. */
static void find(void)
{
    static const struct {
        const char *name;
        size_t at;
    } calls[] = {
#define ENTRY(name) {"cuda" #name, offsetof(struct cuda, name)},
        CUDA_CALLS(ENTRY)};
    void *runtime = dlopen(RUNTIME, RTLD_NOW | RTLD_LOCAL);
    found = runtime != NULL;
    for (size_t i = 0; found && i < sizeof calls / sizeof calls[0]; i++) {
        void *call = dlsym(runtime, calls[i].name);
        *(void **)((char *)&cuda + calls[i].at) = call;
        found = call != NULL;
    }
}

bool cuda_find(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find);
    return found;
}

int cuda_use(int gpu)
{
    int before = gpu;
    cuda.GetDevice(&before);
    if (before != gpu)
        cuda.SetDevice(gpu);
    return before;
}
