/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_BACKOFF_H
#define CKPT_STORE_BACKOFF_H

/* What is asked again of a store over a network, when, and how much at once. Pure: time and chance are handed in. */

#include <stdint.h>

#define BACKOFF_BASE_MS UINT64_C(100)
#define BACKOFF_BASE_SLOW_MS UINT64_C(1000) /* after SlowDown: who asks for rest gets some */
#define BACKOFF_CAP_MS UINT64_C(20000)
#define PACE_GROW_AFTER 16u /* successes before one more may run at once */

enum backoff_verdict {
    BACKOFF_FINAL, /* the answer stands */
    BACKOFF_AGAIN,
    BACKOFF_SLOW /* again, and less at once */
};

/* Of an HTTP status and S3's error code ("" for none). */
enum backoff_verdict backoff_of(unsigned http_status, const char *code);

/* How long to wait before the n-th repetition (from 1): uniform in [0, min(cap, base * 2^(n-1))], "full jitter", so that
 * many who failed together do not come back together. */
uint64_t backoff_wait_ms(enum backoff_verdict verdict, unsigned repetition, uint64_t chance);

/* How many requests run at once: halved when the store asks for rest, one more after each PACE_GROW_AFTER successes. */
struct pace {
    unsigned limit, most;
    unsigned successes;
};

void pace_init(struct pace *pace, unsigned most);
void pace_slow(struct pace *pace);
void pace_success(struct pace *pace);

#endif
