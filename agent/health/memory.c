/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "agent/health/probes.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

/* Processes that have ended but for the driver hold device memory, and what starts next there finds too little of it. */
void memory_judge(struct memory_past *past, const struct gpu_reading *reading, bool ranks_here, uint64_t now_ns,
                  struct finding *ret_finding)
{
    *ret_finding = (struct finding){.probe = "memory"};
    text_copy(ret_finding->subject, sizeof ret_finding->subject, reading->subject);
    if (!(reading->known & GPU_KNOWS_MEMORY))
        return;
    if (!past->seen || reading->memory_used < past->least)
        past->least = reading->memory_used;
    past->seen = true;
    if (ranks_here) {
        past->had_ranks = true;
        past->empty_ns = 0;
        return;
    }
    if (!past->had_ranks) /* whatever is taken there, it is somebody else's */
        return;
    if (past->empty_ns == 0)
        past->empty_ns = now_ns;
    uint64_t kept = reading->memory_used - past->least;
    if (now_ns - past->empty_ns < MEMORY_GRACE_MS * NS_PER_MS || kept <= MEMORY_TOLERANCE_BYTES)
        return;
    ret_finding->state = TIDE_HEALTH_SUSPECT;
    finding_say(ret_finding, "more than %" PRIu64 " MiB of its memory are still taken %u s after the last rank here ended",
                MEMORY_TOLERANCE_BYTES >> 20, MEMORY_GRACE_MS / 1000u);
}
