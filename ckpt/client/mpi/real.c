/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <stddef.h>

#include "ckpt/client/mpi/real.h"

struct real real;

#define STRING_(x) #x
#define STRING(x) STRING_(x)

/* A program's first call may be any. What the MPI library does not have stays NULL, and nobody can call it. */
__attribute__((constructor)) static void find_real(void)
{
    static const struct {
        const char *name;
        size_t at;
    } functions[] = {
#define ENTRY(name) {"PMPI_" #name, offsetof(struct real, name)},
#define ENTRY_PERSISTENT(name) {STRING(PMPI_PERSISTENT_COLLECTIVE(name)), offsetof(struct real, name)},
        REAL_MPI(ENTRY) REAL_PERSISTENT_COLLECTIVES(ENTRY_PERSISTENT)};
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        *(void **)((char *)&real + functions[i].at) = dlsym(RTLD_NEXT, functions[i].name);
}
