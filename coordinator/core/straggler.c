/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/straggler.h"

#include <stdlib.h>
#include <string.h>

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t median_of(uint64_t *values, size_t count)
{
    qsort(values, count, sizeof *values, by_size);
    return values[count / 2];
}

size_t straggler_find(const uint64_t *us, uint64_t *scratch, size_t count, uint64_t *ret_median)
{
    *ret_median = 0;
    if (count < STRAGGLER_RANKS_MIN)
        return STRAGGLER_NONE;
    size_t slowest = 0;
    for (size_t i = 1; i < count; i++)
        slowest = us[i] > us[slowest] ? i : slowest;
    memcpy(scratch, us, count * sizeof *us);
    uint64_t median = median_of(scratch, count);
    for (size_t i = 0; i < count; i++)
        scratch[i] = us[i] > median ? us[i] - median : median - us[i];
    uint64_t mad = median_of(scratch, count), least = median * STRAGGLER_MAD_PERCENT / 100;
    uint64_t over = STRAGGLER_MADS * (mad > least ? mad : least);
    *ret_median = median;
    return us[slowest] >= median * STRAGGLER_PERCENT / 100 && us[slowest] >= median + over ? slowest : STRAGGLER_NONE;
}
