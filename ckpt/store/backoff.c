/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/backoff.h"

#include <stddef.h>
#include <string.h>

#define DOUBLINGS_MAX 16u

static int among(const char *code, const char *const *codes)
{
    for (; *codes; codes++)
        if (strcmp(code, *codes) == 0)
            return 1;
    return 0;
}

enum backoff_verdict backoff_of(unsigned http_status, const char *code)
{
    static const char *const slow[] = {
        "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "BandwidthLimitExceeded",
        NULL};
    /* 501 is an answer: the store will not learn it. 507 neither: space does not come back by asking. */
    static const char *const final[] = {"NotImplemented", "QuotaExceeded", "InsufficientStorage", NULL};
    /* Of the last three the server has got other bytes, or fewer, than were sent. */
    static const char *const again[] = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "BadDigest",
                                        "XAmzContentSHA256Mismatch", "IncompleteBody", NULL};
    if (among(code, final) || http_status == 501 || http_status == 507)
        return BACKOFF_FINAL;
    if (among(code, slow) || http_status == 429 || http_status == 503)
        return BACKOFF_SLOW;
    if (http_status == 408 || http_status >= 500 || among(code, again))
        return BACKOFF_AGAIN;
    return BACKOFF_FINAL;
}

uint64_t backoff_wait_ms(enum backoff_verdict verdict, unsigned repetition, uint64_t chance)
{
    uint64_t most = verdict == BACKOFF_SLOW ? BACKOFF_BASE_SLOW_MS : BACKOFF_BASE_MS;
    unsigned doublings = repetition > 0 ? repetition - 1 : 0;
    most <<= doublings < DOUBLINGS_MAX ? doublings : DOUBLINGS_MAX;
    if (most > BACKOFF_CAP_MS)
        most = BACKOFF_CAP_MS;
    return chance % (most + 1);
}

void pace_init(struct pace *pace, unsigned most)
{
    *pace = (struct pace){.limit = most, .most = most};
}

void pace_slow(struct pace *pace)
{
    pace->limit = pace->limit > 1 ? pace->limit / 2 : 1;
    pace->successes = 0;
}

void pace_success(struct pace *pace)
{
    if (pace->limit >= pace->most)
        return;
    if (++pace->successes < PACE_GROW_AFTER)
        return;
    pace->successes = 0;
    pace->limit++;
}
