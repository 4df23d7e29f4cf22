/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/inner.h"

#define HEALTH_SHOWN_UNMARKED 140 /* bytes of what is wrong, below MARK_LEVEL */

/*            evidence: suspect, failed                     NODE_FIT: good for health_good_ms; NODE_RESUME: forgiven
 *   fit ─────────────────────────────────► unfit (drained) ─────────────────────────────────────────────────────► fit
 *
 * What is latched cannot be seen to be over: an agent that was started again knows nothing of it, so it is kept here until its
 * host has booted anew, in place of what is milder and of the same part. It has the serial of what it hides: so resuming the node
 * forgives that, too, and what is milder and newer than that is not hidden any more. */

static bool same_boot(const struct node *node, const struct health_report *report)
{
    return report->boot[0] == '\0' || strcmp(node->boot, report->boot) == 0;
}

/* What was known of a part, and what is told of it now. */
static void keep_latched(const struct state *state, const struct node *node, const struct health_fact *old, struct health_fact *now)
{
    bool knows = state->level >= 3;
    if (knows && old->serial <= node->forgiven && now->serial > node->forgiven)
        return; /* it was forgiven, and this is new */
    if (now->state > old->state) { /* for good is for good, if it gets worse, too */
        now->latched = true;
    } else if (now->state < old->state || !now->latched) {
        uint64_t newest = knows && now->serial > old->serial ? now->serial : old->serial;
        *now = *old;
        now->serial = newest;
    }
}

void health_merge(const struct state *state, const struct node *node, const struct health_report *report,
                  struct health_report *ret_merged)
{
    codec_copy(&health_report_codec, report, ret_merged);
    for (size_t i = 0; i < ret_merged->facts.count; i++) {
        struct health_fact *fact = &ret_merged->facts.items[i];
        const struct health_fact *known = health_find(&node->evidence, fact->probe, fact->subject);
        if (known != NULL && known->serial == fact->serial)
            fact->at_ms = known->at_ms;
        fact->ago_ms = 0;
    }
    for (size_t i = 0; same_boot(node, report) && i < node->evidence.count; i++) {
        const struct health_fact *old = &node->evidence.items[i];
        const struct health_fact *now = health_find(&ret_merged->facts, old->probe, old->subject);
        if (!old->latched)
            continue;
        if (now != NULL)
            keep_latched(state, node, old, &ret_merged->facts.items[now - ret_merged->facts.items]);
        else if (ret_merged->facts.count < HEALTH_FACTS_MAX)
            *(struct health_fact *)codec_list_add(&health_fact_codec, &ret_merged->facts) = *old;
    }
}

uint64_t node_health_serial(const struct node *node)
{
    uint64_t newest = health_newest(&node->evidence);
    return newest > node->forgiven ? newest : node->forgiven;
}

/* ---- how many ---- */

struct drained {
    uint32_t there, now, of_late; /* nodes; of them drained for their health, and drained within HEALTH_DRAINS_MS */
};

static struct drained count_drained(const struct state *state, uint64_t now_ms)
{
    struct drained drained = {0};
    for (size_t i = 0; i < state->nodes.count; i++) {
        const struct node *node = &state->nodes.items[i];
        drained.there += node->state != TIDE_NODE_LOST;
        drained.now += node->unfit;
        drained.of_late += node->unfit && ms_between(node->unfit_ms, now_ms) < HEALTH_DRAINS_MS;
    }
    return drained;
}

/* One of so many, and at least one. */
static uint32_t share(uint32_t nodes, uint32_t of)
{
    return nodes < 2 * of ? 1 : nodes / of;
}

bool health_spares(const struct state *state, uint64_t now_ms, char *to, size_t size)
{
    struct drained drained = count_drained(state, now_ms);
    if (drained.of_late >= share(drained.there, HEALTH_DRAINS_OF)) {
        text_say(to, size, "%u of %zu nodes were within %u min", share(drained.there, HEALTH_DRAINS_OF), state->nodes.count,
                 HEALTH_DRAINS_MS / 60000u);
        return true;
    }
    if (state->level < 3 || drained.now < share(drained.there, HEALTH_DRAINED_OF))
        return false;
    text_say(to, size, "%u of %zu nodes are, for their health: give some back (tidemark node resume), or replace them", drained.now,
             state->nodes.count);
    return true;
}

const char *health_keeps(struct room *room, const struct job_record *record)
{
    if (record->job.restarts >= record->job.spec.max_restarts)
        return "it has no restart left";
    return room_for(room, record) ? NULL : "there is no room for its ranks elsewhere";
}

/* ---- the verdict ---- */

static void judge_evidence(struct node *node)
{
    const struct health_fact *worst = health_worst(&node->evidence, node->forgiven);
    node->health = worst != NULL ? worst->state : TIDE_HEALTH_HEALTHY;
    node->spared = false;
}

static void take_away(struct change *change, struct node *node)
{
    uint64_t now_ms = change->command->at_ms;
    char why[TIDE_TEXT_MAX + 1];
    node->spared = !node->unfit && health_spares(change->state, now_ms, why, sizeof why);
    if (node->spared) {
        node->health = TIDE_HEALTH_DEGRADED;
        return;
    }
    if (!node->unfit)
        node->changed_ms = node->unfit_ms = now_ms;
    node->unfit = true;
    node->state = TIDE_NODE_DRAINED;
    if (!node->cordoned)
        node_tell_unfit(change->state, node);
}

void node_tell_unfit(const struct state *state, struct node *node)
{
    const struct health_fact *worst = health_worst(&node->evidence, node->forgiven);
    char text[HEALTH_SENTENCE_MAX + 1] = "it was, and is to be good for a while first";
    if (worst != NULL)
        health_fact_text(worst, text, sizeof text);
    STATE_TEXT(state, node->reason, "%s: %s", worst != NULL ? health_names[worst->state] : "unfit", text);
}

void node_forgive(struct node *node)
{
    for (size_t i = 0; i < node->evidence.count; i++)
        if (node->evidence.items[i].state >= TIDE_HEALTH_SUSPECT && node->evidence.items[i].serial > node->forgiven)
            node->forgiven = node->evidence.items[i].serial;
    node->unfit = false;
    judge_evidence(node);
}

static void why_it_stays(const struct change *change, const struct node *node, const struct job_record *record, char *to, size_t size)
{
    const struct state *state = change->state;
    char spares[TIDE_TEXT_MAX + 1];
    to[0] = '\0';
    if (node->spared && health_spares(state, change->command->at_ms, spares, sizeof spares))
        state_text(state, to, size, "; it is not drained, as %s", spares);
    if (node->health < TIDE_HEALTH_FAILED || record->phase != GEN_PHASE_LAUNCHED || !strlist_has(&record->job.nodes, node->name))
        return;
    struct room room;
    room_init(&room, state);
    const char *why = health_keeps(&room, record);
    room_release(&room);
    if (why != NULL)
        state_text(state, to, size, "; the job runs on there, as %s", why);
}

/* The same piece of evidence: whoever else counts serials there, and whatever it hides by now. */
static bool same_fact(const struct state *state, const struct health_fact *a, const struct health_fact *b)
{
    bool knows = state->level >= 3, stays = a->latched && b->latched && a->state == b->state;
    bool kept = knows && stays && a->at_ms == b->at_ms && strcmp(a->text, b->text) == 0;
    return (a->serial == b->serial || kept) && strcmp(a->probe, b->probe) == 0 && strcmp(a->subject, b->subject) == 0;
}

/* Every job with a part there hears of what is new. */
static void tell_jobs(struct change *change, const struct node *node, const struct health_fact *worst)
{
    int shown = change->state->level < MARK_LEVEL ? HEALTH_SHOWN_UNMARKED : HEALTH_SENTENCE_MAX;
    char text[HEALTH_SENTENCE_MAX + 1], why[TIDE_TEXT_MAX + 1];
    health_fact_text(worst, text, sizeof text);
    for (size_t i = 0; i < change->state->jobs.count; i++) {
        struct job_record *record = &change->state->jobs.items[i];
        if (!job_active(record) || (!strlist_has(&record->job.nodes, node->name) && !strlist_has(&record->job.spares, node->name)))
            continue;
        change->job = record;
        why_it_stays(change, node, record, why, sizeof why);
        event_add(change, EVENT_NODE_HEALTH, node->name, -1, 0, "node %s is %s: %.*s%s", node->name, health_names[worst->state], shown,
                  text, why);
    }
    change->job = NULL;
}

static enum tide_status find_present(struct change *change, struct node **ret_node)
{
    enum tide_status status = node_find(change, ret_node);
    if (status != TIDE_OK)
        return status;
    if (strcmp((*ret_node)->incarnation, change->command->incarnation) != 0 || (*ret_node)->state == TIDE_NODE_LOST)
        return err_set(change->err, TIDE_E_STALE, "node %s has registered again since, or is lost", (*ret_node)->name);
    return TIDE_OK;
}

enum tide_status apply_NODE_HEALTH(struct change *change)
{
    struct node *node = NULL;
    enum tide_status status = find_present(change, &node);
    if (status != TIDE_OK)
        return status;
    const struct health_fact *before = health_worst(&node->evidence, node->forgiven);
    struct health_fact known = before != NULL ? *before : (struct health_fact){0};
    bool spared = node->spared;
    struct health_report merged;
    health_merge(change->state, node, &change->command->health, &merged);
    codec_release(&health_report_codec, &(struct health_report){.facts = node->evidence});
    node->evidence = merged.facts;
    if (merged.boot[0] != '\0')
        text_copy(node->boot, sizeof node->boot, merged.boot);
    judge_evidence(node);
    const struct health_fact *worst = health_worst(&node->evidence, node->forgiven);
    if (node->health >= TIDE_HEALTH_SUSPECT)
        take_away(change, node);
    bool news = worst != NULL && (!same_fact(change->state, worst, &known) || spared != node->spared);
    if (news)
        tell_jobs(change, node, worst);
    place_helpers(change);
    job_waiting_refresh(change);
    TEXT(change->outcome->text, "node %s is %s", node->name, health_names[node->health]);
    return TIDE_OK;
}

enum tide_status apply_NODE_FIT(struct change *change)
{
    struct node *node = NULL;
    enum tide_status status = find_present(change, &node);
    if (status != TIDE_OK)
        return status;
    if (!node->unfit || node->health >= TIDE_HEALTH_SUSPECT)
        return err_set(change->err, TIDE_E_STALE, "node %s was not drained for its health, or is %s again", node->name,
                       health_names[node->health]);
    node->unfit = false;
    node->changed_ms = change->command->at_ms;
    if (!node->cordoned) {
        node->state = TIDE_NODE_READY;
        node->reason[0] = '\0';
    }
    place_helpers(change);
    job_waiting_refresh(change);
    TEXT(change->outcome->text, "node %s was good for %" PRIu64 " s, and is %s", node->name, change->command->ms / MS_PER_S,
         node_state_names[node->state]);
    return TIDE_OK;
}
