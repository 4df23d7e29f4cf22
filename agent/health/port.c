/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "agent/health/probes.h"
#include "ckpt/base/mem.h"

static uint64_t downed_since(struct port_past *past, const struct port_reading *reading)
{
    uint64_t rise = past->seen && reading->link_downed > past->link_downed ? reading->link_downed - past->link_downed : 0;
    past->seen = true;
    past->link_downed = reading->link_downed;
    return rise;
}

/* A cable that was never plugged in is no fault; one that was in use is. */
void port_judge(struct port_past *past, const struct port_reading *reading, uint64_t now_ns, struct finding *ret_finding)
{
    *ret_finding = (struct finding){.probe = "ib"};
    text_copy(ret_finding->subject, sizeof ret_finding->subject, reading->subject);
    bool active = reading->state == PORT_ACTIVE;
    bool forgot = past->known & ~reading->known;
    uint64_t symbols =
        reading->known & PORT_KNOWS_SYMBOLS ? growth_of(&past->symbols, reading->symbol_errors, PORT_SYMBOLS_MS, now_ns) : 0;
    past->seen_active = past->seen_active || active;
    past->known |= reading->known;
    past->down_looks = past->seen_active && !active ? past->down_looks + 1 : 0;
    if (past->down_looks > 0 && past->down_looks < PORT_DOWN_LOOKS) {
        ret_finding->probe = NULL; /* not decided yet: if it was for a moment, its counter says so when it is active again */
        return;
    }
    uint64_t downed = reading->known & PORT_KNOWS_DOWNED ? downed_since(past, reading) : 0;
    if (past->down_looks > 0) {
        past->down_looks = PORT_DOWN_LOOKS;
        ret_finding->state = TIDE_HEALTH_FAILED;
        finding_say(ret_finding, "it is not active any more");
    } else if (downed > 0) {
        ret_finding->state = TIDE_HEALTH_DEGRADED;
        ret_finding->for_ms = NIC_FLAP_FOR_MS;
        ret_finding->times_max = NIC_FLAPS_MAX;
        finding_say(ret_finding, "its link was down for a moment (link_downed grew by %" PRIu64 ")", downed);
    } else if (symbols > PORT_SYMBOLS_MAX) {
        ret_finding->state = TIDE_HEALTH_DEGRADED;
        finding_say(ret_finding, "more than %u symbol errors within an hour", PORT_SYMBOLS_MAX);
    } else if (forgot) {
        ret_finding->probe = NULL;
    }
}
