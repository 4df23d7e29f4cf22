/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "agent/health/probes.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

uint64_t growth_of(struct growth *growth, uint64_t value, uint64_t window_ms, uint64_t now_ns)
{
    if (!growth->seen || value < growth->base || now_ns - growth->base_ns > window_ms * NS_PER_MS)
        *growth = (struct growth){.seen = true, .base = value, .base_ns = now_ns};
    return value - growth->base;
}

static void begin(const struct gpu_reading *reading, struct finding *to)
{
    *to = (struct finding){.probe = "ecc"};
    text_copy(to->subject, sizeof to->subject, reading->subject);
}

/* Errors that could not be corrected, since the last look: the aggregate tells of years, and is no alarm by itself. */
static uint64_t uncorrected_since(struct ecc_past *past, const struct gpu_reading *reading)
{
    uint64_t rise = past->seen && reading->ecc_uncorrected > past->uncorrected ? reading->ecc_uncorrected - past->uncorrected : 0;
    past->seen = true;
    past->uncorrected = reading->ecc_uncorrected;
    return rise;
}

void ecc_judge(struct ecc_past *past, const struct gpu_reading *reading, uint64_t now_ns, struct finding *ret_finding)
{
    begin(reading, ret_finding);
    bool ecc = reading->known & GPU_KNOWS_ECC, remap = reading->known & GPU_KNOWS_REMAP;
    bool retired = reading->known & GPU_KNOWS_RETIRED;
    bool forgot = gpu_forgot(&past->known, reading, GPU_KNOWS_ECC | GPU_KNOWS_REMAP | GPU_KNOWS_RETIRED);
    uint64_t rise = ecc ? uncorrected_since(past, reading) : 0;
    uint64_t corrected = ecc ? growth_of(&past->corrected, reading->ecc_corrected, ECC_STORM_MS, now_ns) : 0;
    if (remap && reading->remap_failed) {
        ret_finding->state = TIDE_HEALTH_FAILED;
        finding_say(ret_finding, "a row of its memory could not be remapped: the board is to be replaced");
    } else if (retired && reading->retired >= ECC_RETIRED_MAX) {
        ret_finding->state = TIDE_HEALTH_FAILED;
        finding_say(ret_finding, "%u pages of its memory are retired, %u are too many: the board is to be replaced", reading->retired,
                    ECC_RETIRED_MAX);
    } else if (rise > 0) {
        ret_finding->state = TIDE_HEALTH_SUSPECT;
        ret_finding->for_ms = ECC_RISEN_FOR_MS;
        finding_say(ret_finding, "%" PRIu64 " more uncorrected memory errors; %" PRIu64 " in its life", rise, reading->ecc_aggregate);
    } else if ((remap && reading->remap_pending) || (retired && reading->retired_pending)) {
        ret_finding->state = TIDE_HEALTH_SUSPECT;
        finding_say(ret_finding, "%s: it must be reset before that counts",
                    remap && reading->remap_pending ? "a row of its memory is to be remapped" : "a page of its memory is to be retired");
    } else if (corrected >= ECC_STORM_CORRECTED) {
        ret_finding->state = TIDE_HEALTH_DEGRADED;
        finding_say(ret_finding, "at least %u corrected memory errors within an hour", ECC_STORM_CORRECTED);
    }
    if (forgot && ret_finding->state < TIDE_HEALTH_SUSPECT)
        ret_finding->probe = NULL;
}
