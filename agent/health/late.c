/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "agent/health/probes.h"
#include "ckpt/base/mem.h"

void late_judge(const char *probe, const char *what, uint64_t took_ms, uint64_t deadline_ms, struct finding *ret_finding)
{
    *ret_finding = (struct finding){.probe = probe};
    text_copy(ret_finding->subject, sizeof ret_finding->subject, what);
    if (took_ms < deadline_ms)
        return;
    bool long_ago = took_ms >= deadline_ms * LATE_SUSPECT_TIMES;
    ret_finding->state = long_ago ? TIDE_HEALTH_SUSPECT : TIDE_HEALTH_DEGRADED;
    finding_say(ret_finding, "%s does not answer for %" PRIu64 " s and longer", what,
                (long_ago ? deadline_ms * LATE_SUSPECT_TIMES : deadline_ms) / 1000u);
}
