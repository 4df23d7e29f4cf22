/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/sim_nccl/sim.h"

#define PATH_CHARS 255

static _Atomic uint64_t begun, messages;

static bool is_due(const char *name, uint64_t now)
{
    const char *text = getenv(name), *rank = getenv("RANK");
    unsigned who;
    unsigned long long when;
    char mark[PATH_CHARS + 1];
    if (text == NULL || sscanf(text, "%u:%llu:%255s", &who, &when, mark) != 3)
        return false;
    if (rank == NULL || strtoul(rank, NULL, 10) != who || when == 0 || now % when != 0)
        return false;
    int fd = open(mark, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return false; /* done before */
    close(fd);
    return true;
}

enum sim_fault sim_next_fault(void)
{
    uint64_t now = atomic_fetch_add(&begun, 1) + 1;
    return is_due("SIM_NCCL_HANG", now)     ? SIM_HANG
           : is_due("SIM_NCCL_STALL", now)  ? SIM_STALL
           : is_due("SIM_NCCL_ERROR", now)  ? SIM_ERROR
           : is_due("SIM_NCCL_LINGER", now) ? SIM_LINGER
           : is_due("SIM_NCCL_STICK", now)  ? SIM_STICK
                                            : SIM_NO_FAULT;
}

bool sim_refuses_message(void)
{
    return is_due("SIM_NCCL_REFUSE", atomic_fetch_add(&messages, 1) + 1);
}
