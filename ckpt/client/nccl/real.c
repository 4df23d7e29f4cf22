/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <stddef.h>

#include "ckpt/client/nccl/inside.h"

struct real real;

/* A program's first call may be any. */
__attribute__((constructor)) static void find_real(void)
{
    static const struct {
        const char *name;
        size_t at;
    } functions[] = {
#define ENTRY(name) {"nccl" #name, offsetof(struct real, name)},
        REAL_COLLECTIVES(ENTRY) REAL_OTHERS(ENTRY)};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        *(void **)((char *)&real + functions[i].at) = dlsym(RTLD_NEXT, functions[i].name);
}
