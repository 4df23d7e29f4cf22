/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/health/probes.h"
#include "ckpt/base/mem.h"

/* Values of NVML_FI_DEV_GET_GPU_RECOVERY_ACTION. "Drain" means: end what runs there in order, then reset. */
static const struct {
    unsigned state;
    const char *wants;
} actions[] = {
    {TIDE_HEALTH_HEALTHY, ""},
    {TIDE_HEALTH_FAILED, "a reset of the GPU"},
    {TIDE_HEALTH_FAILED, "a reboot of the node"},
    {TIDE_HEALTH_SUSPECT, "its peer-to-peer traffic to be drained"},
    {TIDE_HEALTH_SUSPECT, "to be drained and reset"},
    {TIDE_HEALTH_SUSPECT, "its IMEX domain to be recovered"},
    {TIDE_HEALTH_FAILED, "a reset of the bus"},
    {TIDE_HEALTH_FAILED, "a reboot of the system"},
};

bool gpu_forgot(unsigned *known, const struct gpu_reading *reading, unsigned wants)
{
    *known |= reading->known & wants;
    return (*known & ~reading->known) != 0;
}

void gpu_questions(unsigned known, char *to, size_t size)
{
    static const char *const names[] = {"ECC counts", "row remapping", "retired pages", "clocks", "PCIe replays",
                                        "NVLinks", "recovery action", "used memory", "NVLink errors"};
    size_t n = 0;
    to[0] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if ((known & (1u << i)) && n < size)
            n += (size_t)snprintf(to + n, size - n, "%s%s", n > 0 ? ", " : "", names[i]);
}

void lost_judge(struct lost_past *past, const struct gpu_reading *reading, struct finding *ret_finding)
{
    *ret_finding = (struct finding){.probe = "gpu"};
    text_copy(ret_finding->subject, sizeof ret_finding->subject, reading->subject);
    if (reading->lost) {
        ret_finding->state = TIDE_HEALTH_FAILED;
        finding_say(ret_finding, "NVML does not find it any more: it has fallen off the bus, or its driver gave it up");
        return;
    }
    if (gpu_forgot(&past->known, reading, GPU_KNOWS_RECOVERY) || reading->known == 0) {
        ret_finding->probe = NULL;
        return;
    }
    if (!(reading->known & GPU_KNOWS_RECOVERY) || reading->recovery == 0)
        return;
    if (reading->recovery < sizeof actions / sizeof actions[0]) {
        ret_finding->state = actions[reading->recovery].state;
        finding_say(ret_finding, "it needs %s, says its driver", actions[reading->recovery].wants);
    } else {
        ret_finding->state = TIDE_HEALTH_SUSPECT;
        finding_say(ret_finding, "its driver asks for recovery action %u, which is not known here", reading->recovery);
    }
}
