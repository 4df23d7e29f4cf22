/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_CLOCK_H
#define CKPT_BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define MS_PER_S UINT64_C(1000)

/* Shells only: pure code gets its time handed in. */
uint64_t clock_mono_ns(void); /* CLOCK_MONOTONIC */
uint64_t clock_wall_ms(void); /* since 1970, UTC; shown to people, and what the expiry of tokens and certificates is measured by */

#endif
