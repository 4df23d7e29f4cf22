/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/judge.h"

/* Below Linux's ephemeral ports, so that no outgoing connection of the host has taken it. */
#define MASTER_PORT_FIRST 20000u
#define MASTER_PORT_COUNT 10000u

/* ---- launching ---- */

/* True when nothing of an older generation is left, except on nodes that are lost. */
static bool fenced(struct judging *judging, const struct job_record *record, struct track *track)
{
    bool all = true;
    for (size_t i = 0; i < record->fence.count; i++) {
        const struct node *node = state_node(judging->state, record->fence.items[i]);
        if (node == NULL || node->state == TIDE_NODE_LOST || scan_gone(judging->book, record, node->name))
            continue;
        all = false;
        /* One that was lost meanwhile has its minute from when it was back. */
        const struct book_entry *entry = book_find(judging->book, node->name);
        uint64_t since_ns = entry != NULL && entry->since_ns > track->phase_ns ? entry->since_ns : track->phase_ns;
        if (!judge_passed(judging, since_ns, FENCE_DEADLINE_MS))
            continue;
        /* A host that cannot end a process is not one to count on. */
        struct command *lost = judge_add(judging, CMD_NODE_LOST, NULL);
        text_copy(lost->node, sizeof lost->node, node->name);
        text_copy(lost->incarnation, sizeof lost->incarnation, node->incarnation);
        TEXT(lost->text, "it did not end generation %" PRIu64 " of job %s within %u s", record->job.generation - 1,
             record->job.spec.name, FENCE_DEADLINE_MS / (unsigned)MS_PER_S);
    }
    if (all && track->gone_ns == 0)
        track->gone_ns = judging->now_ns;
    return all;
}

/* Can the ranks of node rank n have their part of the cut: from their own node's memory, else from the copy in another's? */
static enum copy_where part_where(const struct judging *judging, const struct job_record *record, const struct ckpt *ckpt, uint32_t n,
                                  const char *node)
{
    bool own = strcmp(node, ckpt->nodes.items[n]) == 0, heard = book_heard(judging->state, judging->book, node);
    if (own && heard && scan_holds(judging->book, record, ckpt, n))
        return COPY_THERE;
    enum copy_where copy = scan_copy(judging->state, judging->book, record, ckpt, n);
    return copy == COPY_NONE && own && !heard ? COPY_UNHEARD : copy;
}

/* False while a node that may hold the newest checkpoint was not heard: its lease or its heartbeat ends the wait. */
static bool choose_cut(const struct judging *judging, const struct job_record *record, const struct placement *placement,
                       uint64_t *ret_cut)
{
    const struct job *job = &record->job;
    uint64_t most = record->rollback_cut ? record->rollback_cut : UINT64_MAX;
    for (const struct ckpt *ckpt; (ckpt = job_newest_restorable(job, most)) != NULL; most = ckpt->cut - 1) {
        /* What is in memory goes to as many ranks as made it, and nowhere else. */
        bool here = !ckpt_in_memory(ckpt) || ckpt->nodes.count == placement->nodes.count;
        for (uint32_t n = 0; ckpt_in_memory(ckpt) && here && n < placement->nodes.count; n++) {
            enum copy_where where = part_where(judging, record, ckpt, n, placement->nodes.items[n]);
            if (where == COPY_UNHEARD)
                return false;
            here = where == COPY_THERE;
        }
        if (here) {
            *ret_cut = ckpt->cut;
            return true;
        }
    }
    *ret_cut = 0;
    return true;
}

void judge_launch(struct judging *judging, const struct job_record *record, struct track *track)
{
    if (!fenced(judging, record, track) || !judge_passed(judging, track->phase_ns, record->pause_ms))
        return;
    if (!room_for(judge_room(judging), record))
        return;
    struct placement placement;
    uint64_t cut = 0;
    if (place(judging->state, record, &placement) && choose_cut(judging, record, &placement, &cut)) {
        struct command *launch = judge_add(judging, CMD_GEN_LAUNCH, record);
        if (record->phase == GEN_PHASE_NONE)
            launch->generation = record->job.generation + 1;
        else
            launch->ms = (judging->now_ns - track->gone_ns) / NS_PER_MS;
        launch->cut = cut;
        launch->step = track->top_step;
        launch->port = MASTER_PORT_FIRST + (uint32_t)rng_below(judging->rng, MASTER_PORT_COUNT);
        rng_hex(judging->rng, launch->token, TIDE_TOKEN_CHARS);
    }
    placement_release(&placement);
}

/* ---- running ---- */

struct command *gen_add_fail(struct judging *judging, const struct job_record *record, const struct gen_scan *scan, unsigned kind,
                             const char *node, int32_t rank)
{
    struct command *fail = judge_add(judging, CMD_GEN_FAIL, record);
    fail->event.kind = kind;
    fail->event.rank = rank;
    if (node != NULL)
        text_copy(fail->event.node, sizeof fail->event.node, node);
    fail->step = scan->top_step;
    return fail;
}

static void fail_node(struct judging *judging, const struct job_record *record, const struct gen_scan *scan)
{
    struct command *fail = gen_add_fail(judging, record, scan, EVENT_NODE_LOST, scan->lost, -1);
    const struct node *node = state_node(judging->state, scan->lost);
    const struct book_entry *entry = book_find(judging->book, scan->lost);
    uint64_t heard_ns = entry != NULL && entry->heard_ns ? entry->heard_ns : judging->now_ns;
    fail->ms = (judging->now_ns - heard_ns) / NS_PER_MS;
    TEXT(fail->event.text, "node %s was lost%s%s", scan->lost, node != NULL && node->reason[0] ? ": " : "",
         node != NULL ? node->reason : "");
}

static void fail_rank(struct judging *judging, const struct job_record *record, const struct gen_scan *scan)
{
    /* A rank that asks not to be restarted decides, even if another ended before it. */
    const struct rank_at *who = scan->final.node != NULL ? &scan->final : &scan->failed;
    struct command *fail = gen_add_fail(judging, record, scan, EVENT_RANK_EXITED, who->node, (int32_t)who->report->rank);
    fail->final = scan->final.node != NULL;
    fail->ms = who->age_ms;
    fail->exit_status = who->report->signal ? EXIT_STATUS_SIGNAL + who->report->signal : who->report->exit_code;
    rank_text(who, fail->event.text, sizeof fail->event.text);
}

static void fail_corrupt(struct judging *judging, const struct job_record *record, const struct gen_scan *scan)
{
    struct command *corrupt = judge_add(judging, CMD_CKPT_CORRUPT, record);
    corrupt->cut = scan->bad->cut;
    corrupt->step = scan->top_step;
    corrupt->event.kind = EVENT_CORRUPT;
    corrupt->event.rank = (int32_t)scan->bad->rank;
    text_copy(corrupt->event.node, sizeof corrupt->event.node, scan->bad_node);
    TEXT(corrupt->event.text, "rank %u on %s found no valid copy of its part: %s", scan->bad->rank, scan->bad_node,
         scan->bad->detail);
}

/* What ends a generation, first cause first. True: it has ended. */
static bool judge_failure(struct judging *judging, const struct job_record *record, const struct track *track, const struct gen_scan *scan)
{
    if (scan->lost != NULL)
        fail_node(judging, record, scan);
    else if (judge_unfit(judging, record, track, scan))
        return true;
    else if (scan->bad != NULL && job_restoring_from(record, scan->bad->cut))
        fail_corrupt(judging, record, scan);
    else if (scan->failed.node != NULL)
        fail_rank(judging, record, scan);
    else if (scan->done == scan->world)
        judge_add(judging, CMD_JOB_FINISH, record);
    else
        return false;
    return true;
}

static bool judge_start(struct judging *judging, const struct job_record *record, const struct track *track,
                        const struct gen_scan *scan)
{
    const struct job_spec *spec = &record->job.spec;
    if (scan->started == scan->world) {
        judge_add(judging, CMD_GEN_STARTED, record);
        return true;
    }
    if (!judge_passed(judging, track->phase_ns, spec->start_deadline_ms))
        return false;
    char names[TIDE_TEXT_MAX + 1];
    scan_names(judging->book, record, &record->job.nodes, missing_start, NULL, names, sizeof names);
    struct command *fail = gen_add_fail(judging, record, scan, EVENT_NOTE, NULL, -1);
    fail->ms = spec->start_deadline_ms;
    TEXT(fail->event.text, "not started within %" PRIu64 " ms: %s", spec->start_deadline_ms, names);
    return true;
}

/* Ranks that were started and are not reported any more: the host was restarted under the same name, for instance. */
static bool judge_absent(struct judging *judging, const struct job_record *record, struct track *track,
                         const struct gen_scan *scan)
{
    if (scan->absent == 0) {
        track->absent_ns = 0;
        return false;
    }
    if (track->absent_ns == 0)
        track->absent_ns = judging->now_ns;
    /* An agent that was started again needs a moment to find its steps. */
    if (!judge_passed(judging, track->absent_ns, state_lease_ms(judging->state)))
        return false;
    char names[TIDE_TEXT_MAX + 1];
    scan_names(judging->book, record, &record->job.nodes, missing_start, NULL, names, sizeof names);
    struct command *fail = gen_add_fail(judging, record, scan, EVENT_NOTE, NULL, -1);
    fail->ms = (judging->now_ns - track->absent_ns) / NS_PER_MS;
    TEXT(fail->event.text, "not reported any more: %s", names);
    return true;
}

void judge_running(struct judging *judging, const struct job_record *record, struct track *track)
{
    struct gen_scan scan;
    scan_generation(judging->state, judging->book, record, judging->now_ns, &scan);
    if (judge_failure(judging, record, track, &scan))
        return;
    if (!record->job.all_started) {
        judge_start(judging, record, track, &scan);
        return;
    }
    if (judge_absent(judging, record, track, &scan))
        return;
    if (!record->job.all_stepped) {
        if (scan.stepped > 0 && scan.stepped == scan.world)
            judge_add(judging, CMD_GEN_STEPPING, record)->ms = (scan.restore_us + 999) / 1000;
        return;
    }
    judge_pace(judging, record, track);
    if (judge_hang(judging, record, track, &scan))
        return;
    judge_cut(judging, record, track, &scan);
}

/* ---- stopping ---- */

static bool stopped(struct judging *judging, const struct job_record *record, const struct track *track)
{
    /* While ranks were starting, "nothing is left" may have been said before the order to start arrived. */
    uint64_t settle_ns = record->job.all_started ? 0 : state_heartbeat_ms(judging->state) * NS_PER_MS;
    for (size_t i = 0; i < record->fence.count; i++) {
        const struct node *node = state_node(judging->state, record->fence.items[i]);
        if (node == NULL || node->state == TIDE_NODE_LOST)
            continue;
        const struct book_entry *entry = book_find(judging->book, node->name);
        if (entry == NULL || entry->heard_ns < track->phase_ns + settle_ns || !scan_gone(judging->book, record, node->name))
            return false;
    }
    return true;
}

void judge_stopping(struct judging *judging, const struct job_record *record, struct track *track)
{
    if (stopped(judging, record, track)) {
        judge_add(judging, CMD_JOB_STOPPED, record);
        return;
    }
    uint64_t deadline_ms = record->job.spec.stop_grace_ms + FENCE_DEADLINE_MS;
    if (!judge_passed(judging, track->phase_ns, deadline_ms))
        return;
    char names[TIDE_TEXT_MAX + 1];
    scan_fence_names(judging->state, judging->book, record, names, sizeof names);
    struct command *over = judge_add(judging, CMD_JOB_STOPPED, record);
    TEXT(over->text, "ranks may be left: after %" PRIu64 " ms nothing was heard of their end from %s", deadline_ms, names);
}
