/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_HEALTH_RAS_H
#define AGENT_HEALTH_RAS_H

/* Who is behind in a collective, as NCCL's RAS tells it (port 28028 of the host, "SET FORMAT json", since NCCL 2.28.7): its answer
 * is about all of the job, and each node judges its own ranks. It costs the job's processes a round of messages, so it is asked only
 * while ranks here stand still (agent_ranks). */

#include "agent/health/probes.h"

#define RAS_SUBJECT "collectives"
#define RAS_PORT 28028u
#define RAS_PERIOD_MS 500u
#define RAS_OFTEN 20u            /* looks with that period; a job that stands still for longer is asked less … */
#define RAS_PERIOD_LONG_MS 5000u /* … often */
#define RAS_DEADLINE_MS 3000u    /* of one answer */
#define RAS_LEG_S "1"            /* for so long NCCL itself waits for each of its processes */
#define RAS_STUCK_MS 2000u       /* the same rank, counts and communicator for so long: it is behind, and told */
#define RAS_HANG_MS_DEFAULT 600000u /* … for so long: it hangs, and its job needs another generation */
#define RAS_HUNG_FOR_MS 3600000u
#define RAS_HUNGS_MAX 2u         /* within that: the node is suspect. Once may be the program's doing */
#define RAS_ANSWER_MAX ((size_t)16 << 20)

#define RAS_ADDRESSES_MAX 32u

struct ras_own {
    char addresses[RAS_ADDRESSES_MAX][64]; /* of this host: NCCL writes that of the interface it chose */
    size_t address_count;
    const int32_t *pids; /* of ranks here */
    size_t pid_count;
};
struct ras_past {
    uint64_t since_ns; /* 0: nobody here is behind */
    char key[192], hash[41];
    char text[TIDE_TEXT_MAX + 1]; /* as told; empty: not yet */
    bool hung;         /* that was told, too */
};
/* Who is behind: shown, since a rank that evaluates or writes while the others wait for it looks the same. Without a probe: that
 * answer says nothing about it. Errors: INVALID, if that is no answer of RAS. */
MUST_USE enum tide_status ras_judge(struct ras_past *past, const char *text, size_t bytes, const struct ras_own *own,
                                    uint64_t now_ns, struct finding *ret_finding, struct err *err);
/* Is the one that is behind so for longer than hang_ms (0: that is never said)? True once for each time. */
bool ras_hung(struct ras_past *past, uint64_t hang_ms, uint64_t now_ns, struct finding *ret_finding);

#endif
