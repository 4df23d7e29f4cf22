/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_HEALTH_RAS_H
#define AGENT_HEALTH_RAS_H

/* Who is behind in a collective, as NCCL's RAS tells it (port 28028 of the host, "SET FORMAT json", since NCCL 2.28.7): its answer
 * is about all of the job, and each node judges its own ranks. It costs the job's processes a round of messages, so it is asked only
 * while ranks here stand still. */

#include "agent/health/probes.h"

#define RAS_PORT 28028u
#define RAS_PERIOD_MS 2000u
#define RAS_DEADLINE_MS 10000u  /* NCCL waits 5 s for each leg itself */
#define RAS_STILL_MS 5000u      /* without a step, before it is asked */
#define RAS_STUCK_MS 4000u      /* the same rank, counts and communicator for so long: it hangs */
#define RAS_ANSWER_MAX ((size_t)16 << 20)

struct ras_own {
    char address[64];    /* of this host, as NCCL writes it */
    const int32_t *pids; /* of ranks here */
    size_t pid_count;
};
struct ras_past {
    uint64_t since_ns; /* 0: nobody here is behind */
    char key[192];
};
/* Errors: INVALID, if that is no answer of RAS. */
MUST_USE enum tide_status ras_judge(struct ras_past *past, const char *text, size_t bytes, const struct ras_own *own,
                                    uint64_t now_ns, struct finding *ret_finding, struct err *err);

#endif
