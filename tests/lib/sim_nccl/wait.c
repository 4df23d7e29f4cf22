/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/sim_nccl/sim.h"

#define LOOK_MS 20 /* between two looks whether peers are still there, and we wanted */

void sim_wake(const _Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

void sim_look_at_peers(struct ncclComm *comm, uint64_t whom)
{
    int none = ncclSuccess;
    for (int r = 0; r < comm->ranks; r++) {
        struct pollfd end = {.fd = comm->pidfds[r], .events = POLLIN};
        if (r == comm->rank || !(whom >> r & 1))
            continue;
        bool gone = end.fd >= 0 && poll(&end, 1, 0) > 0;
        if (gone || atomic_load(&comm->shared->members[r].aborted))
            atomic_compare_exchange_strong(&comm->async, &none, ncclRemoteError);
    }
}

int sim_wait(struct ncclComm *comm, const _Atomic uint32_t *word, uint32_t old, uint64_t whom)
{
    while (atomic_load(word) == old) {
        const struct timespec most = {.tv_nsec = LOOK_MS * 1000000};
        if (atomic_load(&comm->abort))
            return -1;
        syscall(SYS_futex, word, FUTEX_WAIT, old, &most, NULL, 0);
        if (atomic_load(word) == old) /* who has done his part may be gone */
            sim_look_at_peers(comm, whom);
    }
    return atomic_load(&comm->abort) ? -1 : 0;
}

int sim_barrier(struct ncclComm *comm, struct sim_barrier *barrier)
{
    uint32_t round = atomic_load(&barrier->round);
    if (atomic_fetch_add(&barrier->arrived, 1) + 1 < (uint32_t)comm->ranks)
        return sim_wait(comm, &barrier->round, round, SIM_ALL);
    atomic_store(&barrier->arrived, 0);
    atomic_fetch_add(&barrier->round, 1);
    sim_wake(&barrier->round);
    return 0;
}
