/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_BENCH_MEASURE_H
#define TESTS_BENCH_MEASURE_H

/* Time, and the JSON line of one result: limit is what the machine could do at best and peer what others do, both measured
 * in the same run; a negative one of these two is absent. The value was measured: a difference may be below 0, and says so. */

#include <stdint.h>
#include <stdio.h>
#include <time.h>

static inline double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline void result_compared(const char *name, double value)
{
    if (value < 0)
        printf(",\"%s\":null", name);
    else
        printf(",\"%s\":%.4g", name, value);
}

static inline void result(const char *bench, const char *metric, double value, const char *unit, double limit, double peer)
{
    printf("{\"bench\":\"%s\",\"metric\":\"%s\",\"value\":%.4g,\"unit\":\"%s\"", bench, metric, value, unit);
    result_compared("limit", limit);
    result_compared("peer", peer);
    printf("}\n");
}

/* Best of a few: what remains when the machine did nothing else. */
static inline double least(double a, double b)
{
    return a < b ? a : b;
}

#endif
