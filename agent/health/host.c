/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/health/probes.h"
#include "ckpt/base/mem.h"

#define PERMILLE 1000u

static uint64_t permille_of(uint64_t part, uint64_t whole)
{
    return whole == 0 ? PERMILLE : (uint64_t)((unsigned __int128)part * PERMILLE / whole);
}

void disk_judge(const struct disk_reading *reading, struct finding *ret_finding)
{
    *ret_finding = (struct finding){.probe = "disk"};
    text_copy(ret_finding->subject, sizeof ret_finding->subject, reading->path);
    uint64_t room = permille_of(reading->free_bytes, reading->bytes);
    uint64_t files = permille_of(reading->free_files, reading->files);
    uint64_t least = room < files ? room : files;
    if (least >= DISK_DEGRADED_PERMILLE)
        return;
    bool suspect = least < DISK_SUSPECT_PERMILLE;
    ret_finding->state = suspect ? TIDE_HEALTH_SUSPECT : TIDE_HEALTH_DEGRADED;
    ret_finding->times_max = HEALTH_TIMES_ANY;
    finding_say(ret_finding, "less than %u %% of its %s are free", (suspect ? DISK_SUSPECT_PERMILLE : DISK_DEGRADED_PERMILLE) / 10u,
                room <= files ? "bytes" : "files");
}

/* Slewing is how clocks are set right; a step is seen in logs, certificates and time-outs of programs. */
void clock_judge(struct clock_past *past, uint64_t wall_ms, uint64_t mono_ms, struct finding *ret_finding)
{
    *ret_finding = (struct finding){.probe = "clock", .subject = "wall clock"};
    int64_t offset_ms = (int64_t)wall_ms - (int64_t)mono_ms;
    int64_t step_ms = past->seen ? offset_ms - past->offset_ms : 0;
    past->seen = true;
    past->offset_ms = offset_ms;
    if (step_ms < (int64_t)CLOCK_STEP_MS && step_ms > -(int64_t)CLOCK_STEP_MS)
        return;
    ret_finding->state = TIDE_HEALTH_DEGRADED;
    ret_finding->for_ms = CLOCK_FOR_MS;
    ret_finding->times_max = HEALTH_TIMES_ANY;
    finding_say(ret_finding, "it was set %s by %" PRId64 " ms", step_ms > 0 ? "forward" : "back", step_ms > 0 ? step_ms : -step_ms);
}

void psi_judge(struct psi_past *past, enum psi_kind kind, const char *text, struct finding *ret_finding)
{
    static const char *const names[PSI_KINDS] = {"memory", "io"};
    *ret_finding = (struct finding){.probe = "pressure"};
    text_copy(ret_finding->subject, sizeof ret_finding->subject, names[kind]);
    const char *full = strstr(text, "full avg10=");
    unsigned percent = 0;
    if (full == NULL || sscanf(full, "full avg10=%3u", &percent) != 1 || percent < PSI_DEGRADED_PERCENT) {
        past->looks = 0;
        return;
    }
    if (++past->looks < PSI_DEGRADED_LOOKS)
        return;
    past->looks = PSI_DEGRADED_LOOKS;
    ret_finding->state = TIDE_HEALTH_DEGRADED;
    ret_finding->times_max = HEALTH_TIMES_ANY;
    finding_say(ret_finding, "all of this host stands still for want of it more than %u %% of the time", PSI_DEGRADED_PERCENT);
}
