/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/wire/health.h"

#include <stdio.h>
#include <string.h>

#define X(symbol, name) name,
const char *const health_names[] = {TIDE_HEALTH_MAP(X) NULL};
#undef X

static const struct codec_field fact_fields[] = {
    CODEC_TEXT_OF(health_fact, probe, .required = true),
    CODEC_TEXT_OF(health_fact, subject),
    CODEC_ENUM_OF(health_fact, state, health_names, .required = true),
    CODEC_FIELD(health_fact, restart, CODEC_BOOL),
    CODEC_FIELD(health_fact, latched, CODEC_BOOL),
    CODEC_FIELD(health_fact, serial, CODEC_U64),
    CODEC_FIELD(health_fact, ago_ms, CODEC_U64),
    CODEC_FIELD(health_fact, at_ms, CODEC_U64),
    CODEC_TEXT_OF(health_fact, text),
};
CODEC_DEFINE(health_fact_codec, health_fact, "health fact", fact_fields);

static const struct codec_field report_fields[] = {
    CODEC_TEXT_OF(health_report, boot),
    CODEC_LIST_OF(health_report, facts, health_fact_codec, HEALTH_FACTS_MAX),
};
CODEC_DEFINE(health_report_codec, health_report, "health report", report_fields);

const struct health_fact *health_worst(const struct health_facts *facts, uint64_t forgiven)
{
    const struct health_fact *worst = NULL;
    for (size_t i = 0; i < facts->count; i++) {
        const struct health_fact *fact = &facts->items[i];
        if (fact->serial > forgiven && (worst == NULL || fact->state > worst->state))
            worst = fact;
    }
    return worst;
}

uint64_t health_newest(const struct health_facts *facts)
{
    uint64_t newest = 0;
    for (size_t i = 0; i < facts->count; i++)
        newest = facts->items[i].serial > newest ? facts->items[i].serial : newest;
    return newest;
}

bool health_same(const struct health_facts *a, const struct health_facts *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct health_fact *x = &a->items[i], *y = &b->items[i];
        if (x->serial != y->serial || x->state != y->state || x->restart != y->restart || x->latched != y->latched ||
            strcmp(x->probe, y->probe) != 0 || strcmp(x->subject, y->subject) != 0 || strcmp(x->text, y->text) != 0)
            return false;
    }
    return true;
}

const struct health_fact *health_find(const struct health_facts *facts, const char *probe, const char *subject)
{
    for (size_t i = 0; i < facts->count; i++)
        if (strcmp(facts->items[i].probe, probe) == 0 && strcmp(facts->items[i].subject, subject) == 0)
            return &facts->items[i];
    return NULL;
}

void health_fact_text(const struct health_fact *fact, char *to, size_t size)
{
    snprintf(to, size, "%s: %s%s%s", fact->probe, fact->subject, fact->subject[0] != '\0' ? ": " : "", fact->text);
}
