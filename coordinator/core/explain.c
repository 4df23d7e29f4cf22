/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>

#include "coordinator/core/judge.h"

/* Sentences for `job explain`: why it is in this state, what it waits for, who is missing. */

#define STANDS_MS 10000u /* no step for so long, and for so many times what the last one took: that is said */
#define STANDS_STEPS 3u

struct talk {
    const struct state *state;
    const struct book *book;
    const struct job_record *record;
    uint64_t now_ns;
    struct strlist *to;
};

static void say(const struct talk *talk, const char *format, ...) PRINTF_LIKE(2, 3);

static void say(const struct talk *talk, const char *format, ...)
{
    char words[ERR_TEXT_MAX], text[ERR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    TEXT(text, "%s", words);
    strlist_add(talk->to, text);
}

/* Seconds, begun ones included, until the next generation may be launched. */
static uint64_t pause_left_s(const struct talk *talk)
{
    const struct track *track = talk->book != NULL ? track_find(talk->book, talk->record->job.uid) : NULL;
    uint64_t pause_ns = talk->record->pause_ms * NS_PER_MS, passed_ns = 0;
    /* Until the leader has looked, and from then on, by its own clock. */
    if (track != NULL && track->generation == talk->record->job.generation && track->phase == talk->record->phase)
        passed_ns = talk->now_ns - track->phase_ns;
    return passed_ns < pause_ns ? (pause_ns - passed_ns + NS_PER_S - 1) / NS_PER_S : 0;
}

static void explain_fencing(const struct talk *talk)
{
    const struct job *job = &talk->record->job;
    char names[TIDE_TEXT_MAX + 1];
    const struct recovery *last = job->recoveries.count ? &job->recoveries.items[job->recoveries.count - 1] : NULL;
    if (last != NULL)
        say(talk, "generation %" PRIu64 " ended: %s", last->generation, last->text);
    scan_fence_names(talk->state, talk->book, talk->record, names, sizeof names);
    if (names[0])
        say(talk, "waits for %s to end the ranks of generation %" PRIu64 " and older", names, job->generation - 1);
    else if (job->state == TIDE_JOB_PENDING)
        say(talk, "generation %" PRIu64 " %s", job->generation, job->reason);
    else if (pause_left_s(talk) > 0)
        say(talk, "next try in %" PRIu64 " s: %u generations in a row failed before they made a step", pause_left_s(talk),
            talk->record->barren);
    else
        say(talk, "generation %" PRIu64 " is about to start: its nodes must say first which checkpoints they hold",
            job->generation);
}

/* What the change of colours waits for. */
static void explain_waits(const struct talk *talk, char *to, size_t size)
{
    const struct job *job = &talk->record->job;
    struct cut_verdict verdict;
    scan_verdict(talk->book, talk->record, NULL, job->epoch_go, &verdict);
    cut_verdict_waits(&verdict, job->epoch_settled == job->epoch_go ? CUT_STAGE_SETTLED : CUT_STAGE_SUM, to, size);
}

static void explain_coloured(const struct talk *talk, const struct ckpt *open, const struct cut_scan *cut)
{
    const struct job_record *record = talk->record;
    char names[TIDE_TEXT_MAX + 1], where[64];
    bool goes = cut_goes(&record->job, open), settled = goes && record->job.epoch_settled == open->epoch;
    TEXT(where, "at each rank's next safe point");
    if (open->mode == CUT_MODE_STEP)
        TEXT(where, "at step %" PRIu64, open->step);
    if (open->attempt_void) {
        explain_waits(talk, names, sizeof names);
        say(talk, "attempt %u of checkpoint %" PRIu64 " is void; the next begins when all ranks have changed colour: %s", open->attempt,
            open->cut, names);
    } else if (!goes) {
        rank_missing_fn missing = cut->armed < cut->world ? missing_arm : missing_poll;
        const void *context = cut->armed < cut->world ? (const void *)open : &open->epoch;
        scan_names(talk->book, record, &record->job.nodes, missing, context, names, sizeof names);
        say(talk, "checkpoint %" PRIu64 " is to be recorded %s: %u of %u ranks are armed; missing: %s", open->cut, where, cut->armed,
            cut->world, names[0] ? names : "none");
    } else {
        scan_names(talk->book, record, &record->job.nodes, missing_copy, open, names, sizeof names);
        say(talk, "checkpoint %" PRIu64 " is being recorded %s: %u of %u ranks; missing: %s", open->cut, where, cut->copied, cut->world,
            names[0] ? names : "none");
    }
    if (goes && !open->attempt_void && cut->copied == cut->world && !settled) {
        explain_waits(talk, names, sizeof names);
        say(talk, "it is whole when what was sent before it has arrived: %s", names);
    }
}

static void explain_cut(const struct talk *talk, const struct gen_scan *scan)
{
    const struct job_record *record = talk->record;
    char names[TIDE_TEXT_MAX + 1];
    const struct ckpt *open = job_open_cut(&record->job);
    if (open != NULL) {
        struct cut_scan cut;
        scan_cut(talk->book, record, open, &cut);
        if (open->epoch != 0) {
            explain_coloured(talk, open, &cut);
            return;
        }
        scan_names(talk->book, record, &record->job.nodes, missing_record, open, names, sizeof names);
        say(talk, "checkpoint %" PRIu64 " is being recorded at step %" PRIu64 ": %u of %u ranks; missing: %s", open->cut,
            open->step, cut.recorded, cut.world, names[0] ? names : "none");
    } else if (record->ckpt_requested && job_in_transition(&record->job)) {
        explain_waits(talk, names, sizeof names);
        say(talk, "a checkpoint was asked for; it opens when all ranks have changed colour: %s", names);
    } else if (record->ckpt_requested && scan->slots < cut_slots_needed(talk->state, record)) {
        say(talk, "a checkpoint was asked for; it opens when checkpoint %" PRIu64 " is stored", record->store_cut);
    } else if (record->ckpt_requested && scan->done > 0) {
        say(talk, "a checkpoint was asked for, but rank %u has finished: it cannot be taken any more",
            scan->ended.report->rank);
    } else if (record->ckpt_requested) {
        scan_names(talk->book, record, &record->job.nodes, missing_step, NULL, names, sizeof names);
        say(talk, "a checkpoint was asked for; it opens when every rank makes steps%s%s", names[0] ? "; missing: " : "",
            names);
    }
}

/* What becomes of those that are due while one is still being stored. */
static void explain_memory(const struct talk *talk, const struct ckpt *stored, char *to, size_t size)
{
    const struct job_record *record = talk->record;
    const struct ckpt *newest = job_newest_restorable(&record->job, UINT64_MAX);
    uint32_t needed = cut_slots_needed(talk->state, record);
    char names[TIDE_TEXT_MAX + 1];
    scan_names(talk->book, record, &record->job.nodes, missing_slot, &needed, names, sizeof names);
    if (needed == UINT32_MAX && (newest == NULL || newest->cut == stored->cut))
        text_say(to, size, "the next has to wait until that is stored");
    else if (newest != NULL && newest->cut != stored->cut && ckpt_in_memory(newest))
        text_say(to, size, "checkpoint %" PRIu64 " (step %" PRIu64 ") is in memory and stored next", newest->cut, newest->step);
    else
        text_say(to, size, "others are recorded in memory");
    if (needed == UINT32_MAX && newest != NULL && newest->cut != stored->cut)
        text_say(to, size, "%s; as it was asked for, none is recorded before that", to);
    else if (needed != UINT32_MAX && names[0] != '\0')
        text_say(to, size, "%s; another has to wait, there is no slot for it: %s", to, names);
}

/* One checkpoint takes longer into the store than from one to the next. */
static void explain_lag(const struct talk *talk, const struct ckpt *ckpt)
{
    const struct track *track = talk->book != NULL ? track_find(talk->book, talk->record->job.uid) : NULL;
    uint64_t every_ms = talk->record->job.spec.ckpt_every_ms;
    if (track == NULL || every_ms == 0 || track->store_cut != ckpt->cut)
        return;
    uint64_t since_ms = (talk->now_ns - track->storing_ns) / NS_PER_MS;
    if (since_ms <= every_ms)
        return;
    char memory[TIDE_TEXT_MAX + 1];
    explain_memory(talk, ckpt, memory, sizeof memory);
    say(talk,
        "the store lags: checkpoint %" PRIu64 " has been on its way into it for %" PRIu64 " s, one is wanted every %" PRIu64
        " ms; training goes on, and %s",
        ckpt->cut, since_ms / MS_PER_S, every_ms, memory);
}

/* It has failed, and has taken nothing since: what is lost with the memory of these nodes is more with every step. */
static void explain_unstored(const struct talk *talk)
{
    const struct job *job = &talk->record->job;
    for (size_t i = job->events.count; i-- > 0 && job->events.items[i].kind != EVENT_COMMITTED;)
        if (job->events.items[i].kind == EVENT_STORE_FAILED) {
            say(talk, "training goes on, and nothing was stored since: %s", job->events.items[i].text);
            return;
        }
}

static void explain_store(const struct talk *talk)
{
    const struct job_record *record = talk->record;
    const struct ckpt *ckpt = record->store_cut ? job_ckpt(&record->job, record->store_cut) : NULL;
    if (ckpt == NULL)
        return;
    explain_lag(talk, ckpt);
    struct shard_scan scan;
    scan_shards(talk->book, record, ckpt, &scan);
    if (record->shards_stored) {
        say(talk, "checkpoint %" PRIu64 " is in the store but for its manifest", ckpt->cut);
        return;
    }
    char names[TIDE_TEXT_MAX + 1];
    scan_names(talk->book, record, &ckpt->nodes, missing_shard, ckpt, names, sizeof names);
    say(talk, "checkpoint %" PRIu64 " is being stored: %u of %u ranks; missing: %s", ckpt->cut, scan.stored, scan.world,
        names[0] ? names : "none");
}

/* What a lost host would cost. */
static void explain_peers(const struct talk *talk)
{
    const struct job_record *record = talk->record;
    const struct ckpt *newest = job_newest_restorable(&record->job, UINT64_MAX);
    if (newest == NULL || !record->unpeered || !peers_wanted(record, newest))
        return;
    for (size_t i = record->job.events.count; i-- > 0;)
        if (record->job.events.items[i].kind == EVENT_UNPEERED) {
            say(talk, "what is recorded is not in the memory of other nodes: %s", record->job.events.items[i].text);
            return;
        }
}

static const char *keeps(const struct talk *talk)
{
    struct room room;
    room_init(&room, talk->state);
    const char *why = health_keeps(&room, talk->record);
    room_release(&room);
    return why;
}

static void explain_drained(const struct talk *talk)
{
    const struct job *job = &talk->record->job;
    for (size_t i = 0; i < job->nodes.count; i++) {
        const struct node *node = state_node(talk->state, job->nodes.items[i]);
        if (node == NULL || !(node->cordoned || node->unfit))
            continue;
        const char *why = node->health == TIDE_HEALTH_FAILED ? keeps(talk) : NULL;
        say(talk, "node %s is drained (%s); its ranks stay until the job restarts or ends%s%s", node->name, node->reason,
            why != NULL ? ", since " : "", why != NULL ? why : "");
    }
}

/* Whom its ranks wait for; NULL: for nobody, as far as is known. */
static const char *hang_of(const struct talk *talk)
{
    const struct track *track = talk->book != NULL ? track_find(talk->book, talk->record->job.uid) : NULL;
    return track != NULL && track->hang.text[0] != '\0' ? track->hang.text : NULL;
}

/* A fact and no verdict: without NCCL nothing tells for whom they wait, and a step may take long. From when on this leader knows. */
static void explain_steps(const struct talk *talk, const struct gen_scan *scan)
{
    const struct track *track = talk->book != NULL ? track_find(talk->book, talk->record->job.uid) : NULL;
    bool known = track != NULL && track->steps_generation == talk->record->job.generation && track->grew_ns != 0;
    uint64_t stands_ns = known ? talk->now_ns - track->grew_ns : 0;
    char spread[TIDE_TEXT_MAX + 1];
    if (scan->done > 0 || stands_ns < STANDS_MS * NS_PER_MS || stands_ns < STANDS_STEPS * track->step_ns) {
        say(talk, "all ranks make steps; the newest reported is %" PRIu64, scan->top_step);
        return;
    }
    scan_spread(talk->book, talk->record, spread, sizeof spread);
    say(talk, "no rank has come further than step %" PRIu64 " for %" PRIu64 " s%s", scan->top_step, stands_ns / NS_PER_S, spread);
}

static void explain_running(const struct talk *talk)
{
    const struct job *job = &talk->record->job;
    char names[TIDE_TEXT_MAX + 1];
    struct gen_scan scan;
    scan_generation(talk->state, talk->book, talk->record, talk->now_ns, &scan);
    const struct ckpt *from = job_ckpt(job, job->restore_cut);
    if (from != NULL)
        say(talk, "generation %" PRIu64 " started from checkpoint %" PRIu64 " (step %" PRIu64 ")", job->generation,
            from->cut, from->step);
    else
        say(talk, "generation %" PRIu64 " started from the beginning", job->generation);
    if (!job->all_started) {
        scan_names(talk->book, talk->record, &job->nodes, missing_start, NULL, names, sizeof names);
        say(talk, "%u of %u ranks are started; missing: %s", scan.started, scan.world, names[0] ? names : "none");
    } else if (!job->all_stepped) {
        scan_names(talk->book, talk->record, &job->nodes, missing_step, NULL, names, sizeof names);
        say(talk, "all ranks are started, %u of %u have made a step; missing: %s", scan.stepped, scan.world,
            names[0] ? names : "none");
    } else if (hang_of(talk) != NULL) {
        say(talk, "no rank makes a step: %s", hang_of(talk));
    } else {
        explain_steps(talk, &scan);
    }
    if (scan.done > 0)
        say(talk, "%u of %u ranks have finished", scan.done, scan.world);
    explain_cut(talk, &scan);
}

/* An elastic job is not as large as it was asked to be; nothing is wrong, and nothing happens by itself. */
static void explain_size(const struct talk *talk)
{
    const struct job *job = &talk->record->job;
    if (!job_elastic(&job->spec) || job->nodes.count >= job->spec.nnodes)
        return;
    say(talk, "it runs with %u ranks of the %u that were asked for; where there are nodes for more by then, the next restart takes them: "
              "tidemark rollback %s is one",
        job_world(job), job_world_size(&job->spec), job->spec.name);
}

static void explain_stopping(const struct talk *talk)
{
    char names[TIDE_TEXT_MAX + 1];
    scan_fence_names(talk->state, talk->book, talk->record, names, sizeof names);
    say(talk, "%s", talk->record->job.reason);
    say(talk, "waits for %s to end the ranks; what is left after %" PRIu64 " ms is killed", names[0] ? names : "the nodes",
        talk->record->job.spec.stop_grace_ms);
}

static void explain_deleting(const struct talk *talk)
{
    const struct job_record *record = talk->record;
    bool sweep = strlist_has_number(&record->purge, PURGE_SWEEP);
    size_t dropped = record->purge.count - sweep;
    if (dropped > 0)
        say(talk, "objects of %zu dropped checkpoint%s are still to be deleted", dropped, dropped == 1 ? "" : "s");
    if (sweep)
        say(talk, "its store is still to be searched for what nobody needs");
}

void explain(const struct state *state, const struct book *book, const struct job_record *record, uint64_t now_ns,
             struct strlist *to)
{
    struct talk talk = {.state = state, .book = book, .record = record, .now_ns = now_ns, .to = to};
    switch (record->phase) {
    case GEN_PHASE_FENCING:
        explain_fencing(&talk);
        break;
    case GEN_PHASE_LAUNCHED:
        explain_running(&talk);
        explain_size(&talk);
        explain_peers(&talk);
        explain_drained(&talk);
        break;
    case GEN_PHASE_STOPPING:
        explain_stopping(&talk);
        break;
    default:
        say(&talk, "%s", record->job.reason[0] ? record->job.reason : "its first generation is about to start");
        break;
    }
    if (job_active(record)) {
        explain_unstored(&talk);
        explain_store(&talk);
    }
    if (job_ended(record->job.state))
        explain_deleting(&talk);
}
