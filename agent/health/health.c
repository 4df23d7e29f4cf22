/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/health/health.h"

#include <stdio.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"

enum fact_phase { FACT_RAISED, FACT_FADING };

struct fact_part {
    struct health_fact fact; /* ago_ms is filled in when it is reported */
    unsigned phase;          /* enum fact_phase */
    uint64_t began_ns;       /* the present life of it, or the newest time it happened */
    uint64_t came_ns;        /* the newest time it happened, told or not */
    uint64_t told_ns;        /* it got its serial */
    uint64_t until_ns;       /* fading: gone then; happened: counts until then. 0: for ever */
    uint32_t times;
    uint32_t counted;        /* of them those that make it worse by their number */
};

struct health {
    char boot[HEALTH_BOOT_MAX + 1];
    uint64_t first, serial; /* the one it began behind; the newest */
    bool placed;            /* above all that was told before */
    uint64_t forgiven;      /* up to that */
    struct fact_part facts[HEALTH_FACTS_MAX];
    size_t count;
};

struct health *health_create(const char *boot, uint64_t serial)
{
    struct health *health = mem_alloc(sizeof *health);
    text_copy(health->boot, sizeof health->boot, boot);
    health->first = health->serial = serial;
    return health;
}

void health_free(struct health *health)
{
    mem_free(health);
}

bool health_above(struct health *health, uint64_t floor)
{
    bool low = !health->placed && health->first < floor;
    health->placed = true;
    if (!low)
        return false;
    uint64_t by = floor - health->first;
    health->serial += by;
    for (size_t i = 0; i < health->count; i++)
        health->facts[i].fact.serial += by;
    return health->count > 0;
}

void health_forgive(struct health *health, uint64_t serial)
{
    health->forgiven = serial > health->forgiven ? serial : health->forgiven;
}

static struct fact_part *part_of(struct health *health, const char *probe, const char *subject)
{
    for (size_t i = 0; i < health->count; i++)
        if (strcmp(health->facts[i].fact.probe, probe) == 0 && strcmp(health->facts[i].fact.subject, subject) == 0)
            return &health->facts[i];
    return NULL;
}

static void part_drop(struct health *health, size_t at)
{
    memmove(&health->facts[at], &health->facts[at + 1], (--health->count - at) * sizeof health->facts[0]);
}

/* Where there is no room the mildest makes it, if that is milder. NULL: it does not. */
static struct fact_part *part_make(struct health *health, unsigned state)
{
    size_t mildest = 0;
    for (size_t i = 1; i < health->count; i++)
        if (health->facts[i].fact.state < health->facts[mildest].fact.state)
            mildest = i;
    if (health->count == HEALTH_FACTS_MAX) {
        if (health->facts[mildest].fact.state >= state)
            return NULL;
        part_drop(health, mildest);
    }
    struct fact_part *part = &health->facts[health->count++];
    memset(part, 0, sizeof *part);
    return part;
}

static void part_tell(struct health *health, struct fact_part *part, const struct finding *finding, unsigned state, uint64_t now_ns)
{
    struct health_fact *fact = &part->fact;
    text_copy(fact->probe, sizeof fact->probe, finding->probe);
    text_copy(fact->subject, sizeof fact->subject, finding->subject);
    fact->state = state;
    fact->restart = finding->restart;
    bool stays = fact->latched && fact->serial > health->forgiven; /* for good is for good, if it gets worse, too */
    fact->latched = stays || finding->latched;
    fact->serial = ++health->serial;
    if (part->times > 1)
        text_say(fact->text, sizeof fact->text, "%s (%u times)", finding->text, part->times);
    else
        text_copy(fact->text, sizeof fact->text, finding->text);
    part->told_ns = now_ns;
}

static unsigned escalated(const struct fact_part *part, const struct finding *finding)
{
    uint32_t most = finding->times_max ? finding->times_max : HEALTH_TIMES_MAX;
    bool too_often = most != HEALTH_TIMES_ANY && part->counted >= most;
    return too_often && finding->state < TIDE_HEALTH_SUSPECT ? TIDE_HEALTH_SUSPECT : finding->state;
}

/* Has it come once more? One fault writes many lines: what happens in a burst is one time. */
static bool comes_again(const struct fact_part *part, const struct finding *finding, uint64_t happened_ns)
{
    if (part->times == 0)
        return true;
    if (finding->for_ms > 0)
        return happened_ns >= part->came_ns + HEALTH_BURST_MS * NS_PER_MS;
    return part->phase == FACT_FADING;
}

/* What is there is worse, and counts still. Only of what is, and is milder now, that is the truth. */
static bool outweighed(const struct fact_part *part, const struct finding *finding, unsigned state)
{
    bool is = part->phase == FACT_RAISED && part->until_ns == 0;
    return part->times > 0 && state < part->fact.state && (part->fact.latched || !is || finding->for_ms > 0);
}

static bool take_bad(struct health *health, const struct finding *finding, uint64_t happened_ns, uint64_t now_ns)
{
    struct fact_part *part = part_of(health, finding->probe, finding->subject);
    bool fresh = part == NULL;
    if (fresh && (part = part_make(health, finding->state)) == NULL)
        return false;
    bool happened = finding->for_ms > 0, again = comes_again(part, finding, happened_ns);
    bool over = again && !fresh && part->fact.serial <= health->forgiven;
    if (over)
        part->times = part->counted = 0; /* and outweighs nothing */
    part->counted += again && finding->times_max != HEALTH_TIMES_ANY;
    part->came_ns = happened && happened_ns > part->came_ns ? happened_ns : part->came_ns;
    unsigned state = escalated(part, finding);
    if (outweighed(part, finding, state))
        return false;
    part->times += again;
    if (again || happened)
        part->began_ns = happened_ns;
    part->phase = FACT_RAISED;
    part->until_ns = happened ? now_ns + finding->for_ms * NS_PER_MS : 0;
    bool storm = !fresh && !over && now_ns - part->told_ns < HEALTH_AGAIN_MS * NS_PER_MS;
    bool news = fresh || state > part->fact.state || (happened ? again && !storm : again || state != part->fact.state);
    if (!news || (!over && part->fact.latched && state == part->fact.state && !finding->latched))
        return false;
    part_tell(health, part, finding, state, now_ns);
    return true;
}

static bool take_good(struct health *health, const struct finding *finding, uint64_t now_ns)
{
    struct fact_part *part = part_of(health, finding->probe, finding->subject);
    /* That nothing is wrong now does not undo what happened. */
    if (part == NULL || part->fact.latched || part->phase == FACT_FADING || part->until_ns != 0)
        return false;
    part->phase = FACT_FADING;
    part->until_ns = now_ns + (part->times > 1 ? HEALTH_FLAP_HOLD_MS : HEALTH_HOLD_MS) * NS_PER_MS;
    return false;
}

bool health_take(struct health *health, const struct finding *finding, uint64_t happened_ns, uint64_t now_ns)
{
    if (finding->state == TIDE_HEALTH_HEALTHY)
        return take_good(health, finding, now_ns);
    return take_bad(health, finding, happened_ns, now_ns);
}

bool health_tick(struct health *health, uint64_t now_ns)
{
    bool changed = false;
    for (size_t i = health->count; i-- > 0;) {
        const struct fact_part *part = &health->facts[i];
        if (part->fact.latched || part->until_ns == 0 || now_ns < part->until_ns)
            continue;
        part_drop(health, i);
        changed = true;
    }
    return changed;
}

void health_report(const struct health *health, uint64_t now_ns, struct health_report *ret_report)
{
    memset(ret_report, 0, sizeof *ret_report);
    text_copy(ret_report->boot, sizeof ret_report->boot, health->boot);
    for (size_t i = 0; i < health->count; i++) {
        struct health_fact *fact = codec_list_add(&health_fact_codec, &ret_report->facts);
        *fact = health->facts[i].fact;
        uint64_t began_ns = health->facts[i].began_ns;
        fact->ago_ms = now_ns > began_ns ? (now_ns - began_ns) / NS_PER_MS : 0;
    }
}

void finding_say(struct finding *finding, const char *format, ...)
{
    va_list words;
    va_start(words, format);
    vsnprintf(finding->text, sizeof finding->text, format, words);
    va_end(words);
    for (char *c = finding->text; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
}
