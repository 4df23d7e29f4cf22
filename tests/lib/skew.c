/* SPDX-License-Identifier: Apache-2.0 */

/* Preloaded: the time of day is $SKEW_S seconds ahead of that of the host, or behind it. What is measured goes on as it was. */

#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *to)
{
    static int (*real)(clockid_t, struct timespec *);
    const char *skew = getenv("SKEW_S");
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, to);
    if (failed == 0 && clock == CLOCK_REALTIME && skew != NULL)
        to->tv_sec += strtol(skew, NULL, 10);
    return failed;
}
