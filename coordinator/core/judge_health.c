/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/judge.h"

/* ---- what a node tells of itself ---- */

void judge_found(const struct node *node, struct book_entry *entry, struct found *to, const char *probe, const char *subject,
                 const char *text)
{
    uint64_t serial = node_health_serial(node);
    serial = entry->slow.fact.serial > serial ? entry->slow.fact.serial : serial;
    serial = entry->hung.fact.serial > serial ? entry->hung.fact.serial : serial;
    to->fact = (struct health_fact){.state = TIDE_HEALTH_DEGRADED, .serial = serial + 1};
    TEXT(to->fact.probe, "%s", probe);
    TEXT(to->fact.subject, "%s", subject);
    TEXT(to->fact.text, "%s", text);
}

bool judge_found_counts(const struct found *found, uint64_t now_ns)
{
    return found->fact.state != TIDE_HEALTH_HEALTHY && now_ns < found->until_ns;
}

static void add_found(struct judging *judging, struct found *found, struct health_report *to)
{
    if (!judge_found_counts(found, judging->now_ns)) {
        *found = (struct found){0};
        return;
    }
    judge_want(judging, found->until_ns);
    if (to->facts.count < HEALTH_FACTS_MAX)
        *(struct health_fact *)codec_list_add(&health_fact_codec, &to->facts) = found->fact;
}

/* … and what the leader finds besides. Release with health_report_codec. */
static void known_now(struct judging *judging, struct book_entry *entry, struct health_report *to)
{
    codec_copy(&health_report_codec, &entry->heartbeat.health, to);
    add_found(judging, &entry->slow, to);
    add_found(judging, &entry->hung, to);
}

/* One that was spared is taken away when it may be. */
static bool drain_due(struct judging *judging, const struct node *node)
{
    if (!node->spared)
        return false;
    char why[TIDE_TEXT_MAX + 1];
    if (!judging->drains_counted)
        judging->may_drain = !health_spares(judging->state, judging->now_ms, why, sizeof why);
    judging->drains_counted = true;
    return judging->may_drain;
}

/* Steady heartbeats make no entries: only what is not known yet is proposed. */
static bool told_already(const struct judging *judging, const struct node *node, const struct health_report *report)
{
    if (report->facts.count == 0 && node->evidence.count == 0)
        return true;
    struct health_report merged;
    health_merge(judging->state, node, report, &merged);
    bool same = health_same(&merged.facts, &node->evidence);
    codec_release(&health_report_codec, &merged);
    return same;
}

static void add_health(struct judging *judging, const struct node *node, const struct book_entry *entry,
                       const struct health_report *now)
{
    struct command *health = judge_add(judging, CMD_NODE_HEALTH, NULL);
    text_copy(health->node, sizeof health->node, node->name);
    text_copy(health->incarnation, sizeof health->incarnation, node->incarnation);
    codec_copy(&health_report_codec, now, &health->health);
    for (size_t i = 0; i < health->health.facts.count; i++) {
        struct health_fact *fact = &health->health.facts.items[i];
        uint64_t ago_ms = fact->ago_ms + (judging->now_ns - entry->heard_ns) / NS_PER_MS;
        fact->at_ms = ago_ms < judging->now_ms ? judging->now_ms - ago_ms : 0;
        fact->ago_ms = 0;
    }
}

/* The time counts from when this leader saw it good: no clock of another host, or of another leader, gives a node back. */
static void add_fit(struct judging *judging, const struct node *node, struct book_entry *entry)
{
    if (!node->unfit || node->health >= TIDE_HEALTH_SUSPECT) {
        entry->good_ns = 0;
        return;
    }
    if (entry->good_ns == 0)
        entry->good_ns = judging->now_ns;
    uint64_t good_ms = state_health_good_ms(judging->state);
    if (!judge_passed(judging, entry->good_ns, good_ms))
        return;
    struct command *fit = judge_add(judging, CMD_NODE_FIT, NULL);
    text_copy(fit->node, sizeof fit->node, node->name);
    text_copy(fit->incarnation, sizeof fit->incarnation, node->incarnation);
    fit->ms = (judging->now_ns - entry->good_ns) / NS_PER_MS;
}

void judge_health(struct judging *judging, const struct node *node, struct book_entry *entry)
{
    /* Of ten thousand nodes nearly all are well. */
    bool well = entry->heartbeat.health.facts.count == 0 && node->evidence.count == 0 && entry->slow.fact.state == TIDE_HEALTH_HEALTHY &&
                entry->hung.fact.state == TIDE_HEALTH_HEALTHY;
    if (entry->heard_ns == 0 || (well && !node->unfit))
        return;
    struct health_report now;
    known_now(judging, entry, &now);
    if (!told_already(judging, node, &now) || drain_due(judging, node)) {
        entry->good_ns = 0; /* whatever is new: its time begins anew */
        add_health(judging, node, entry, &now);
    } else {
        add_fit(judging, node, entry);
    }
    codec_release(&health_report_codec, &now);
}

/* ---- what that means for a generation ---- */

/* Nothing here ends training: a generation is ended for its nodes' health only where another one can begin (health_keeps). */

static void fail_unfit(struct judging *judging, const struct job_record *record, const struct gen_scan *scan)
{
    struct command *fail = gen_add_fail(judging, record, scan, EVENT_NODE_HEALTH, scan->failed_node, -1);
    const struct node *node = state_node(judging->state, scan->failed_node);
    const struct health_fact *worst = health_worst(&node->evidence, node->forgiven);
    char text[HEALTH_SENTENCE_MAX + 1];
    health_fact_text(worst, text, sizeof text);
    fail->ms = judging->now_ms > worst->at_ms ? judging->now_ms - worst->at_ms : 0;
    TEXT(fail->event.text, "node %s is %s: %s", node->name, health_names[node->health], text);
}

/* Ranks that cannot go on mostly end by themselves, and then that is the cause. Those that do not have made no step since. */
static bool judge_stuck(struct judging *judging, const struct job_record *record, const struct track *track, const struct gen_scan *scan)
{
    const struct fact_at *at = &scan->stuck;
    bool steps = track->steps_generation == record->job.generation && track->grew_ns != 0;
    if (at->node == NULL || !steps || at->age_ms * NS_PER_MS > judging->now_ns)
        return false;
    uint64_t since_ns = judging->now_ns - at->age_ms * NS_PER_MS;
    if (since_ns <= track->phase_ns || since_ns <= track->grew_ns)
        return false;
    uint64_t step_ms = track->step_ns / NS_PER_MS, wait_ms = 2 * step_ms > HEALTH_RESTART_MS ? 2 * step_ms : HEALTH_RESTART_MS;
    if (!judge_passed(judging, since_ns, wait_ms))
        return false;
    char text[HEALTH_SENTENCE_MAX + 1];
    health_fact_text(at->fact, text, sizeof text);
    struct command *fail = gen_add_fail(judging, record, scan, EVENT_NODE_HEALTH, at->node, -1);
    fail->ms = at->age_ms;
    TEXT(fail->event.text, "no step is made since node %s told: %s", at->node, text);
    return true;
}

/* Of several jobs on a node that failed no more are moved than there are places for: those that are on their way have theirs first. */
static bool has_place(struct judging *judging, const struct job_record *record)
{
    struct room *room = judge_room(judging);
    uint32_t others = judging->moved;
    for (size_t i = 0; i < judging->state->jobs.count; i++) {
        const struct job_record *other = &judging->state->jobs.items[i];
        if (job_active(other) && other->phase == GEN_PHASE_FENCING && room_for(room, other))
            others += room_away(room, other);
    }
    return room_for_others(room, record, others);
}

bool judge_unfit(struct judging *judging, const struct job_record *record, const struct track *track, const struct gen_scan *scan)
{
    bool nothing = scan->failed_node == NULL && scan->stuck.node == NULL;
    if (judging->state->level == 0 || nothing || health_keeps(judge_room(judging), record) != NULL || !has_place(judging, record))
        return false;
    if (scan->failed_node != NULL)
        fail_unfit(judging, record, scan);
    else if (!judge_stuck(judging, record, track, scan))
        return false;
    judging->moved += room_away(judge_room(judging), record);
    return true;
}
