/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/health/probes.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

/* nvmlClocksEventReason…: those by which a GPU is slower than it should be. That it is idle, at its power limit or at clocks that
 * somebody set is how it works. */
static const struct {
    uint64_t bit;
    const char *means;
    bool hot; /* of the hardware: it protects itself */
} reasons[] = {
    {0x08, "slowed down by hardware", true},
    {0x20, "slowed down by the driver, as it is too hot", false},
    {0x40, "slowed down by hardware, as it is too hot", true},
    {0x80, "slowed down by hardware, as its power supply asked for that", true},
};

void throttle_judge(struct throttle_past *past, const struct gpu_reading *reading, uint64_t now_ns, struct finding *ret_finding)
{
    *ret_finding = (struct finding){.probe = "throttle", .times_max = HEALTH_TIMES_ANY};
    text_copy(ret_finding->subject, sizeof ret_finding->subject, reading->subject);
    if (gpu_forgot(&past->known, reading, GPU_KNOWS_THROTTLE)) {
        past->since_ns = 0; /* whether there was a break nobody knows */
        ret_finding->probe = NULL;
        return;
    }
    const char *means = NULL;
    bool hot = false;
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if ((reading->known & GPU_KNOWS_THROTTLE) && (reading->throttle & reasons[i].bit)) {
            means = reasons[i].means;
            hot = hot || reasons[i].hot;
        }
    if (means == NULL) {
        past->since_ns = 0;
        return;
    }
    if (past->since_ns == 0)
        past->since_ns = now_ns;
    uint64_t ms = (now_ns - past->since_ns) / NS_PER_MS;
    if (ms < THROTTLE_DEGRADED_MS)
        return;
    bool suspect = hot && ms >= THROTTLE_SUSPECT_MS;
    ret_finding->state = suspect ? TIDE_HEALTH_SUSPECT : TIDE_HEALTH_DEGRADED;
    finding_say(ret_finding, "%s, for %u s and longer", means, (suspect ? THROTTLE_SUSPECT_MS : THROTTLE_DEGRADED_MS) / 1000u);
}
