/* SPDX-License-Identifier: Apache-2.0 */

/* Preloaded into ranks of Open MPI (tests/lib/mpi.sh): a rank that waits gives way by sched_yield, again and again. Since Linux 6.18
 * each of these costs it its share of the processor, so that beside programs that compute, as those of other tests, a rank is hardly ever
 * at work: stories of a second took twenty. Who sleeps for a moment instead loses nothing, and is back when it is needed. */

#include <sched.h>
#include <time.h>

#define NAP_NS 20000

int sched_yield(void)
{
    return nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
}
