/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/health/probes.h"
#include "ckpt/base/mem.h"

/* Rates are told by the threshold, not by the count of the moment: else each look would be news. */
static void nvlink_judge(struct links_past *past, const struct gpu_reading *reading, uint64_t now_ns, struct finding *to)
{
    bool links = reading->known & GPU_KNOWS_NVLINK, errors = reading->known & GPU_KNOWS_NVLINK_ERRORS;
    uint64_t crc = errors ? growth_of(&past->crc, reading->nvlink_crc, LINKS_WINDOW_MS, now_ns) : 0;
    uint64_t replay = errors ? growth_of(&past->replay, reading->nvlink_replay, LINKS_WINDOW_MS, now_ns) : 0;
    uint64_t recovery = errors ? growth_of(&past->recovery, reading->nvlink_recovery, LINKS_WINDOW_MS, now_ns) : 0;
    uint32_t most = past->nvlinks_most;
    if (links && reading->nvlinks > most)
        past->nvlinks_most = reading->nvlinks;
    if (links && reading->nvlinks < most) {
        to->state = TIDE_HEALTH_FAILED;
        finding_say(to, "%u of %u NVLinks are down", most - reading->nvlinks, most);
    } else if (recovery > 0) {
        to->state = TIDE_HEALTH_SUSPECT;
        finding_say(to, "an NVLink had to be trained anew");
    } else if (crc > NVLINK_CRC_MAX || replay > NVLINK_REPLAYS_MAX) {
        to->state = TIDE_HEALTH_DEGRADED;
        finding_say(to, "more than %u NVLink %s within a minute", crc > NVLINK_CRC_MAX ? NVLINK_CRC_MAX : NVLINK_REPLAYS_MAX,
                    crc > NVLINK_CRC_MAX ? "CRC errors" : "replays");
    }
}

void links_judge(struct links_past *past, const struct gpu_reading *reading, uint64_t now_ns, struct finding *ret_finding)
{
    *ret_finding = (struct finding){.probe = "links"};
    text_copy(ret_finding->subject, sizeof ret_finding->subject, reading->subject);
    bool forgot = gpu_forgot(&past->known, reading, GPU_KNOWS_NVLINK | GPU_KNOWS_NVLINK_ERRORS | GPU_KNOWS_PCIE);
    nvlink_judge(past, reading, now_ns, ret_finding);
    bool pcie = reading->known & GPU_KNOWS_PCIE;
    uint64_t replays = pcie ? growth_of(&past->pcie, reading->pcie_replays, LINKS_WINDOW_MS, now_ns) : 0;
    if (replays > PCIE_REPLAYS_MAX && ret_finding->state == TIDE_HEALTH_HEALTHY) {
        ret_finding->state = TIDE_HEALTH_DEGRADED;
        finding_say(ret_finding, "more than %u PCIe replays within a minute", PCIE_REPLAYS_MAX);
    }
    if (forgot && ret_finding->state < TIDE_HEALTH_SUSPECT)
        ret_finding->probe = NULL;
}
