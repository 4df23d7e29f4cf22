/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CORE_STRAGGLER_H
#define COORDINATOR_CORE_STRAGGLER_H

/* Which of a job's ranks is slower than its others, by the time each needs for a step: relative to the job, by median and median
 * absolute deviation, which one slow rank does not move. Ranks that wait for each other in every step all need the time of the
 * slowest, and none of them is found. */

#include <stddef.h>
#include <stdint.h>

#define STRAGGLER_WINDOW_MS 10000u /* steps are counted in */
#define STRAGGLER_WINDOWS 3u       /* in a row, before it is told */
#define STRAGGLER_RANKS_MIN 4u     /* of fewer nobody can say who is slow */
#define STRAGGLER_STEPS_MIN 10u    /* that the median rank made in a window: fewer are counted too coarsely */
#define STRAGGLER_PERCENT 130u     /* of the median's time, at least … */
#define STRAGGLER_MADS 6u          /* … and so many deviations above it … */
#define STRAGGLER_MAD_PERCENT 2u   /* … where one is never less than this of the median: reports come in beats */
#define STRAGGLER_NONE SIZE_MAX

/* The slowest of `count` times, if it is a straggler; `scratch` is for as many. ret_median is set in either case. */
size_t straggler_find(const uint64_t *us, uint64_t *scratch, size_t count, uint64_t *ret_median);

#endif
