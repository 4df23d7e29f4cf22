/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/health/probes.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

static uint64_t down_ms(const struct nic_past *past, uint64_t now_ns)
{
    return past->down_ns != 0 ? (now_ns - past->down_ns) / NS_PER_MS : 0;
}

void nic_judge(struct nic_past *past, bool up, uint64_t now_ns, struct finding *ret_finding)
{
    *ret_finding = (struct finding){.probe = "nic"};
    text_copy(ret_finding->subject, sizeof ret_finding->subject, past->name);
    bool flapped = up && past->down_ns != 0 && !past->told;
    if (up) {
        past->seen_up = true;
        past->down_ns = 0;
        past->told = false;
    } else if (past->seen_up && past->down_ns == 0) {
        past->down_ns = now_ns;
    }
    past->up = up;
    if (flapped) { /* beside what else is known of it: that it was down does not hide that it flaps */
        ret_finding->probe = "nic-flap";
        ret_finding->state = TIDE_HEALTH_DEGRADED;
        ret_finding->for_ms = NIC_FLAP_FOR_MS;
        ret_finding->times_max = past->needed ? NIC_FLAPS_MAX : HEALTH_TIMES_ANY;
        finding_say(ret_finding, "its link was down for a moment");
    } else if (past->down_ns != 0 && down_ms(past, now_ns) >= NIC_DOWN_MS) {
        past->told = true;
        ret_finding->state = past->needed ? TIDE_HEALTH_FAILED : TIDE_HEALTH_DEGRADED;
        ret_finding->times_max = HEALTH_TIMES_ANY;
        finding_say(ret_finding, "its link is down");
    } else if (past->down_ns != 0) {
        ret_finding->probe = NULL; /* not decided yet */
    }
}

uint64_t nic_wait_ms(const struct nic_past *past, uint64_t now_ns)
{
    if (past->down_ns == 0 || past->told)
        return 0;
    uint64_t ms = down_ms(past, now_ns);
    return ms < NIC_DOWN_MS ? NIC_DOWN_MS - ms : 1;
}
