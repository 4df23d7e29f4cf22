/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_HEALTH_HEALTH_H
#define AGENT_HEALTH_HEALTH_H

/* What is wrong with this node, from what its probes find. Pure: a probe looks (agent/health/watch), its table decides
 * (probes.h), and this book keeps what was decided for as long as it counts.
 *
 *          bad                 good                     bad: once more, `times` grows
 *   (none) ───► RAISED ──────────────────────► FADING ───────────────────────────────► RAISED
 *                 │  ▲ bad: state may change      │ hold is over
 *   latched: stays └──┘                           ▼
 *                                              (none)
 *
 * A fault that comes back too often within one life of its fact is at least suspect, and its hold is long: a flapping link is
 * not a good link between two flaps. What is milder does not take the place of what is worse, while that counts. */

#include "ckpt/wire/health.h"

#define HEALTH_HOLD_MS 10000u        /* what is over is still said for so long */
#define HEALTH_FLAP_HOLD_MS 600000u  /* … when it was over before, and came back */
#define HEALTH_TIMES_MAX 3u          /* so often makes it at least suspect, unless the finding names another number */
#define HEALTH_BURST_MS 2000u        /* what happens within that of the last time is the same time still */
#define HEALTH_AGAIN_MS 10000u       /* what happens once more within that is not told anew: a storm is one fact */

/* What a probe found at one subject. */
struct finding {
    const char *probe;
    char subject[HEALTH_SUBJECT_MAX + 1];
    unsigned state;      /* enum tide_health; healthy: nothing is wrong */
    bool restart, latched;
    uint64_t for_ms;     /* something that happened, and is over: it counts for so long. 0: something that is */
    uint32_t times_max;  /* 0: HEALTH_TIMES_MAX; HEALTH_TIMES_ANY: however often, and it counts for no other finding either */
    char text[TIDE_TEXT_MAX + 1];
};
#define HEALTH_TIMES_ANY UINT32_MAX

struct health;
/* serial: those of this start of the agent come after it. boot: the kernel's boot id. */
struct health *health_create(const char *boot, uint64_t serial);
void health_free(struct health *health); /* NULL is legal */

/* What was told of this node before has serials up to `floor`, as a clock says that has gone back since: ours are to be above, those
 * in the book, too. Only the first call counts: later ones know ours. True: the report has changed. */
bool health_above(struct health *health, uint64_t floor);

/* A person has forgiven what has no larger serial: it is still said, but what happens from now on is new, be it milder. */
void health_forgive(struct health *health, uint64_t serial);

/* Take it in. happened_ns: when, by the same clock, if that was before now; else now_ns. True: the report has changed. */
bool health_take(struct health *health, const struct finding *finding, uint64_t happened_ns, uint64_t now_ns);
/* Time has passed. True: the report has changed. */
bool health_tick(struct health *health, uint64_t now_ns);
/* Release with health_report_codec. */
void health_report(const struct health *health, uint64_t now_ns, struct health_report *ret_report);

/* "…" as a sentence of the finding; control characters and what is no ASCII become '?'. */
void finding_say(struct finding *finding, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
