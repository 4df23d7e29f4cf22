/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts whose probes find something, and later do not any more. In half of the worlds; drawn from numbers of its own, so that the
 * others stay what they were. */
#include <stdio.h>

#include "tests/sim/sim.h"

#define SICK_MS 1000u
#define SICK_STREAM UINT64_C(0x7369636b6e657373)

static uint64_t draw(struct world *w, uint64_t below)
{
    return rng_below(&w->sick_rng, below);
}

/* All that its probes see now. */
void sick_tell(struct world *w, struct host *h)
{
    if (!w->sick || !h->agent_up)
        return;
    struct health_report report = {0};
    snprintf(report.boot, sizeof report.boot, "boot-%u", h->boots);
    if (h->fact.state != TIDE_HEALTH_HEALTHY) {
        struct health_fact *fact = codec_list_add(&health_fact_codec, &report.facts);
        *fact = h->fact;
        fact->ago_ms = (w->now - h->sick_ns) / MS(1);
    }
    agent_feed(w, h, &(struct agent_event){.kind = EV_HEALTH, .health = &report});
    codec_release(&health_report_codec, &report);
}

/* An agent that is started knows nothing of what happened; what is, it finds again. A host that is started is another. */
void sick_agent_starts(struct world *w, struct host *h)
{
    if (h->fact.latched)
        h->fact = (struct health_fact){0};
    sick_tell(w, h);
}

void sick_host_starts(struct host *h)
{
    h->boots++;
    h->fact = (struct health_fact){0};
}

static void falls_ill(struct world *w, struct host *h)
{
    h->fact = (struct health_fact){.state = (unsigned)(TIDE_HEALTH_DEGRADED + draw(w, 3)),
                                   .restart = draw(w, 3) == 0,
                                   .latched = draw(w, 4) == 0,
                                   .serial = ++w->sick_serial};
    text_copy(h->fact.probe, sizeof h->fact.probe, "xid");
    text_copy(h->fact.subject, sizeof h->fact.subject, "GPU");
    text_copy(h->fact.text, sizeof h->fact.text, "it is ill");
    h->sick_ns = w->now;
    trace(w, "%s is %s%s", h->name, health_names[h->fact.state], h->fact.latched ? " for good" : "");
}

static void one_host(struct world *w, struct host *h)
{
    if (!h->up || h->fact.latched)
        return;
    if (h->fact.state == TIDE_HEALTH_HEALTHY && !w->healed)
        falls_ill(w, h);
    else
        h->fact = (struct health_fact){0};
    sick_tell(w, h);
}

/* Once healed, nobody falls ill any more; what is latched is for whoever resumes the nodes. */
static void sickness(struct world *w, struct args *args)
{
    (void)args;
    for (uint32_t i = 0; i < w->host_count; i++)
        if (w->healed || draw(w, 8) == 0)
            one_host(w, &w->hosts[i]);
    if (!w->healed)
        later(w, MS(SICK_MS), sickness, (struct args){0});
}

void sick_begin(struct world *w)
{
    w->sick_rng.state = w->seed ^ SICK_STREAM;
    w->sick = draw(w, 2) == 0;
    if (w->sick)
        later(w, MS(SICK_MS), sickness, (struct args){0});
}
