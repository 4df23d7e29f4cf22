/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/wire/local.h"
#include "coordinator/core/judge.h"

bool rank_done(const struct rank_report *report)
{
    return (report->state == TIDE_RANK_FINISHED || report->state == TIDE_RANK_EXITED) && !rank_failed(report);
}

bool rank_failed(const struct rank_report *report)
{
    return (report->state == TIDE_RANK_EXITED || report->state == TIDE_RANK_FINISHED) &&
           (report->exit_code != 0 || report->signal != 0 || report->exec_failed);
}

bool rank_started(const struct rank_report *report)
{
    return report->pid > 0 || report->state != TIDE_RANK_STARTING;
}

const struct gen_report *scan_report(const struct book *book, const struct job_record *record, uint32_t node_rank)
{
    if (node_rank >= record->job.nodes.count)
        return NULL;
    const struct gen_report *report = book_report(book, record->job.nodes.items[node_rank], record->job.uid);
    return report != NULL && report->generation == record->job.generation ? report : NULL;
}

const struct rank_report *scan_rank(const struct book *book, const struct job_record *record, uint32_t rank)
{
    const struct gen_report *report = scan_report(book, record, rank / record->job.spec.nproc_per_node);
    for (size_t i = 0; report != NULL && i < report->ranks.count; i++)
        if (report->ranks.items[i].rank == rank)
            return &report->ranks.items[i];
    return NULL;
}

/* ---- ranks ---- */

static void take_ended(struct gen_scan *scan, const struct rank_at *at)
{
    const struct rank_report *report = at->report;
    if (!rank_failed(report)) {
        scan->done++;
        scan->ended = *at;
        return;
    }
    if (scan->failed.node == NULL || at->age_ms > scan->failed.age_ms)
        scan->failed = *at;
    bool final = report->exec_failed || (report->signal == 0 && report->exit_code == TIDE_EXIT_DO_NOT_RESTART);
    if (final && (scan->final.node == NULL || at->age_ms > scan->final.age_ms))
        scan->final = *at;
}

static void take_rank(struct gen_scan *scan, const char *node, const struct rank_report *report, uint64_t silent_ms)
{
    scan->started += rank_started(report);
    scan->attached += report->attached;
    scan->stepped += report->stepped;
    if (scan->slots > report->slots)
        scan->slots = report->slots;
    if (report->restore_us > scan->restore_us)
        scan->restore_us = report->restore_us;
    if (report->step > scan->top_step)
        scan->top_step = report->step;
    if (report->state != TIDE_RANK_EXITED && report->state != TIDE_RANK_FINISHED)
        return;
    struct rank_at at = {.node = node, .report = report, .age_ms = report->exited_ago_ms + silent_ms};
    take_ended(scan, &at);
}

/* Which of the node's ranks this is, as one bit; 0: none of them. */
uint64_t scan_local_bit(const struct job_spec *spec, uint32_t node_rank, uint32_t rank)
{
    uint32_t first = node_rank * spec->nproc_per_node;
    return rank >= first && rank - first < spec->nproc_per_node ? UINT64_C(1) << (rank - first) : 0;
}

static void take_stuck(const struct node *node, const struct health_fact *fact, uint64_t age_ms, struct gen_scan *scan)
{
    if (fact->restart && fact->serial > node->forgiven && (scan->stuck.node == NULL || age_ms < scan->stuck.age_ms))
        scan->stuck = (struct fact_at){.node = node->name, .fact = fact, .age_ms = age_ms};
}

/* As the node tells it now: how long ago is not kept. */
static void scan_stuck(const struct node *node, const struct book_entry *entry, uint64_t now_ns, struct gen_scan *scan)
{
    const struct health_facts *facts = &entry->heartbeat.health.facts;
    for (size_t i = 0; i < facts->count; i++) {
        const struct health_fact *fact = &facts->items[i];
        uint64_t age_ms = fact->ago_ms + (now_ns - entry->heard_ns) / NS_PER_MS;
        take_stuck(node, fact, age_ms, scan);
    }
    if (judge_found_counts(&entry->hung, now_ns))
        take_stuck(node, &entry->hung.fact, (now_ns - entry->hung_ns) / NS_PER_MS, scan);
}

static void scan_node(const struct state *state, const struct book *book, const struct job_record *record,
                      uint32_t node_rank, uint64_t now_ns, struct gen_scan *scan)
{
    const struct job_spec *spec = &record->job.spec;
    const char *name = record->job.nodes.items[node_rank];
    const struct node *node = state_node(state, name);
    if (node == NULL || node->state == TIDE_NODE_LOST) {
        if (scan->lost == NULL)
            scan->lost = name;
        return;
    }
    if (node->health == TIDE_HEALTH_FAILED && scan->failed_node == NULL)
        scan->failed_node = name;
    const struct book_entry *entry = book_find(book, name);
    if (entry == NULL || entry->heard_ns == 0)
        return;
    scan_stuck(node, entry, now_ns, scan);
    uint64_t seen = 0, silent_ms = (now_ns - entry->heard_ns) / NS_PER_MS;
    uint32_t count = 0;
    const struct gen_report *report = scan_report(book, record, node_rank);
    for (size_t i = 0; report != NULL && i < report->ranks.count; i++) {
        uint64_t bit = scan_local_bit(spec, node_rank, report->ranks.items[i].rank);
        if (bit == 0 || (seen & bit))
            continue;
        seen |= bit;
        count++;
        take_rank(scan, name, &report->ranks.items[i], silent_ms);
    }
    scan->absent += spec->nproc_per_node - count;
    for (size_t i = 0; report != NULL && i < report->restore_failures.count && scan->bad == NULL; i++)
        if (report->restore_failures.items[i].cut == record->job.restore_cut) {
            scan->bad_node = name;
            scan->bad = &report->restore_failures.items[i];
        }
}

void scan_generation(const struct state *state, const struct book *book, const struct job_record *record, uint64_t now_ns,
                     struct gen_scan *ret_scan)
{
    *ret_scan = (struct gen_scan){.world = job_world(&record->job), .slots = SLOTS};
    for (uint32_t i = 0; i < record->job.nodes.count; i++)
        scan_node(state, book, record, i, now_ns, ret_scan);
}

void rank_text(const struct rank_at *rank, char *to, size_t size)
{
    const struct rank_report *report = rank->report;
    const char *colon = report->detail[0] ? ": " : "";
    const char *name = report->signal ? sigabbrev_np(report->signal) : NULL;
    if (report->exec_failed)
        text_say(to, size, "rank %u on %s could not be executed%s%s", report->rank, rank->node, colon, report->detail);
    else if (report->signal)
        text_say(to, size, "rank %u on %s was killed by signal %d (SIG%s)%s%s", report->rank, rank->node, report->signal,
                 name ? name : "?", colon, report->detail);
    else if (report->exit_code == TIDE_EXIT_DO_NOT_RESTART)
        text_say(to, size, "rank %u on %s exited with status %d, which asks not to be restarted%s%s", report->rank,
                 rank->node, report->exit_code, colon, report->detail);
    else
        text_say(to, size, "rank %u on %s exited with status %d%s%s", report->rank, rank->node, report->exit_code, colon,
                 report->detail);
}

/* ---- the open cut ---- */

static void take_copied(struct cut_scan *scan, const struct cut_at *at)
{
    const struct cut_report *report = at->report;
    scan->copied++;
    scan->armed++;
    if (report->step > scan->top_step)
        scan->top_step = report->step;
    if (report->progress != CUT_RECORDED)
        return;
    scan->recorded++;
    if (scan->first.node == NULL)
        scan->first = *at;
    else if (scan->unequal.node == NULL && report->collectives != scan->first.report->collectives)
        scan->unequal = *at;
    scan->bytes += report->bytes;
    scan->logged += report->logged;
    scan->logged_bytes += report->logged_bytes;
    if (report->stall_us > scan->stall_us)
        scan->stall_us = report->stall_us;
    if (report->copy_us > scan->copy_us)
        scan->copy_us = report->copy_us;
    if (report->copy > scan->copy)
        scan->copy = report->copy;
}

static void keep_farthest(struct cut_at *best, const struct cut_at *at)
{
    if (best->node == NULL || at->report->step > best->report->step)
        *best = *at;
}

static void take_cut(struct cut_scan *scan, const char *node, const struct cut_report *report, const struct ckpt *ckpt)
{
    struct cut_at at = {.node = node, .report = report};
    bool elsewhere = ckpt->mode != CUT_MODE_FREE && report->step != ckpt->step;
    switch (report->progress) {
    case CUT_ARMED:
        scan->armed++;
        break;
    case CUT_MISSED:
        keep_farthest(&scan->missed, &at);
        break;
    case CUT_PASSED:
        keep_farthest(&scan->passed, &at);
        break;
    case CUT_EARLY:
        if (scan->early.node == NULL)
            scan->early = at;
        break;
    case CUT_RECORDED:
    case CUT_COPIED:
        if (!elsewhere)
            take_copied(scan, &at);
        else if (scan->failed.node == NULL)
            scan->failed = at;
        break;
    default:
        if (scan->failed.node == NULL)
            scan->failed = at;
    }
}

void scan_cut(const struct book *book, const struct job_record *record, const struct ckpt *ckpt, struct cut_scan *ret_scan)
{
    const struct job_spec *spec = &record->job.spec;
    *ret_scan = (struct cut_scan){.world = job_world(&record->job)};
    for (uint32_t n = 0; n < record->job.nodes.count; n++) {
        const struct gen_report *report = scan_report(book, record, n);
        uint64_t seen = 0;
        for (size_t i = 0; report != NULL && i < report->cuts.count; i++) {
            const struct cut_report *cut = &report->cuts.items[i];
            uint64_t bit = scan_local_bit(spec, n, cut->rank);
            if (cut->cut != ckpt->cut || cut->attempt != ckpt->attempt || bit == 0 || (seen & bit))
                continue;
            seen |= bit;
            take_cut(ret_scan, record->job.nodes.items[n], cut, ckpt);
        }
    }
}

/* ---- shards in the store ---- */

/* The reports of whoever held node rank n when the cut was recorded, under whatever generation they are told now. */
static const struct gen_report *holder_report(const struct book *book, const struct job_record *record,
                                              const struct ckpt *ckpt, uint32_t node_rank)
{
    return book_report(book, ckpt->nodes.items[node_rank], record->job.uid);
}

void scan_shards(const struct book *book, const struct job_record *record, const struct ckpt *ckpt,
                 struct shard_scan *ret_scan)
{
    const struct job_spec *spec = &record->job.spec;
    *ret_scan = (struct shard_scan){.world = ckpt_world(&record->job, ckpt)};
    for (uint32_t n = 0; n < ckpt->nodes.count; n++) {
        const struct gen_report *report = holder_report(book, record, ckpt, n);
        uint64_t seen = 0;
        for (size_t i = 0; report != NULL && i < report->shards.count; i++) {
            const struct shard_report *shard = &report->shards.items[i];
            uint64_t bit = scan_local_bit(spec, n, shard->rank);
            if (shard->cut != ckpt->cut || bit == 0 || (seen & bit))
                continue;
            seen |= bit;
            ret_scan->stored += shard->progress == SHARD_STORED;
            if (shard->progress == SHARD_FAILED && ret_scan->failed.node == NULL)
                ret_scan->failed = (struct shard_at){.node = ckpt->nodes.items[n], .report = shard};
        }
        for (size_t i = 0; report != NULL && i < report->manifests.count; i++)
            if (report->manifests.items[i].cut == ckpt->cut &&
                (ret_scan->manifest == NULL || report->manifests.items[i].progress == SHARD_STORED)) {
                ret_scan->manifest_node = ckpt->nodes.items[n];
                ret_scan->manifest = &report->manifests.items[i];
            }
    }
}

static const struct shard_report *shard_of(const struct gen_report *report, const struct ckpt *ckpt, uint32_t rank)
{
    for (size_t i = 0; report != NULL && i < report->shards.count; i++)
        if (report->shards.items[i].cut == ckpt->cut && report->shards.items[i].rank == rank &&
            report->shards.items[i].progress == SHARD_STORED)
            return &report->shards.items[i];
    return NULL;
}

bool scan_refs(const struct book *book, const struct job_record *record, const struct ckpt *ckpt, struct track *track)
{
    uint32_t world = ckpt_world(&record->job, ckpt);
    struct shard_ref *refs = mem_array(world, sizeof *refs);
    for (uint32_t rank = 0; rank < world; rank++) {
        const struct gen_report *report = holder_report(book, record, ckpt, rank / record->job.spec.nproc_per_node);
        const struct shard_report *shard = shard_of(report, ckpt, rank);
        if (shard == NULL) {
            mem_free(refs);
            return false;
        }
        refs[rank].rank = rank;
        refs[rank].raw_bytes = shard->raw_bytes;
        refs[rank].stored_bytes = shard->stored_bytes;
        text_copy(refs[rank].key, sizeof refs[rank].key, shard->key);
        text_copy(refs[rank].digest, sizeof refs[rank].digest, shard->digest);
    }
    mem_free(track->refs.items);
    track->refs.items = refs;
    track->refs.count = world;
    track->refs_cut = ckpt->cut;
    return true;
}

/* ---- what nodes hold, and what is gone ---- */

bool scan_holds(const struct book *book, const struct job_record *record, const struct ckpt *ckpt, uint32_t node_rank)
{
    const struct job_spec *spec = &record->job.spec;
    const struct gen_report *report = holder_report(book, record, ckpt, node_rank);
    uint64_t all = spec->nproc_per_node == 64 ? UINT64_MAX : (UINT64_C(1) << spec->nproc_per_node) - 1, seen = 0;
    for (size_t i = 0; report != NULL && i < report->held.count; i++)
        if (report->held.items[i].cut == ckpt->cut)
            seen |= scan_local_bit(spec, node_rank, report->held.items[i].rank);
    return seen == all;
}

bool scan_gone(const struct book *book, const struct job_record *record, const char *node)
{
    const struct gen_report *report = book_report(book, node, record->job.uid);
    return report != NULL && report->generation >= record->job.generation && report->progress == GEN_GONE;
}

/* ---- who is missing ---- */

#define NAMES_SHOWN 8

void scan_names(const struct book *book, const struct job_record *record, const struct strlist *nodes,
                rank_missing_fn is_missing, const void *context, char *to, size_t size)
{
    uint32_t each = record->job.spec.nproc_per_node, world = (uint32_t)nodes->count * each, shown = 0, more = 0;
    to[0] = '\0';
    for (uint32_t rank = 0; rank < world; rank++) {
        uint32_t n = rank / each;
        if (!is_missing(book, record, rank, context))
            continue;
        if (shown == NAMES_SHOWN) {
            more++;
            continue;
        }
        const struct gen_report *report = book_report(book, nodes->items[n], record->job.uid);
        bool told = report != NULL && report->detail[0] != '\0';
        text_say(to, size, "%s%srank %u on %s%s%s%s", to, shown ? ", " : "", rank, nodes->items[n], told ? " (" : "",
                 told ? report->detail : "", told ? ")" : "");
        shown++;
    }
    if (more > 0)
        text_say(to, size, "%s and %u more", to, more);
}

void scan_spread(const struct book *book, const struct job_record *record, char *to, size_t size)
{
    const struct rank_report *behind = NULL, *ahead = NULL;
    for (uint32_t rank = 0; rank < job_world(&record->job); rank++) {
        const struct rank_report *report = scan_rank(book, record, rank);
        if (report == NULL || !report->stepped)
            continue;
        behind = behind == NULL || report->step < behind->step ? report : behind;
        ahead = ahead == NULL || report->step > ahead->step ? report : ahead;
    }
    to[0] = '\0';
    if (behind != NULL && behind->step < ahead->step)
        text_say(to, size, ", with rank %u at step %" PRIu64 " and rank %u at %" PRIu64, behind->rank, behind->step, ahead->rank,
                 ahead->step);
}

bool missing_start(const struct book *book, const struct job_record *record, uint32_t rank, const void *context)
{
    (void)context;
    const struct rank_report *report = scan_rank(book, record, rank);
    return report == NULL || !rank_started(report);
}

bool missing_slot(const struct book *book, const struct job_record *record, uint32_t rank, const void *context)
{
    const uint32_t *needed = context;
    const struct rank_report *report = scan_rank(book, record, rank);
    return report == NULL || report->slots < *needed;
}

bool missing_step(const struct book *book, const struct job_record *record, uint32_t rank, const void *context)
{
    (void)context;
    const struct rank_report *report = scan_rank(book, record, rank);
    return report == NULL || (!report->stepped && !rank_done(report));
}

bool missing_record(const struct book *book, const struct job_record *record, uint32_t rank, const void *context)
{
    const struct ckpt *ckpt = context;
    const struct gen_report *report = scan_report(book, record, rank / record->job.spec.nproc_per_node);
    for (size_t i = 0; report != NULL && i < report->cuts.count; i++)
        if (report->cuts.items[i].cut == ckpt->cut && report->cuts.items[i].attempt == ckpt->attempt &&
            report->cuts.items[i].rank == rank && report->cuts.items[i].progress == CUT_RECORDED)
            return false;
    return true;
}

bool missing_shard(const struct book *book, const struct job_record *record, uint32_t rank, const void *context)
{
    const struct ckpt *ckpt = context;
    return shard_of(holder_report(book, record, ckpt, rank / record->job.spec.nproc_per_node), ckpt, rank) == NULL;
}

void scan_fence_names(const struct state *state, const struct book *book, const struct job_record *record, char *to,
                      size_t size)
{
    uint32_t shown = 0;
    to[0] = '\0';
    for (size_t i = 0; i < record->fence.count; i++) {
        const struct node *node = state_node(state, record->fence.items[i]);
        if (node == NULL || node->state == TIDE_NODE_LOST || scan_gone(book, record, node->name))
            continue;
        if (shown++ < NAMES_SHOWN)
            text_say(to, size, "%s%s%s", to, shown > 1 ? ", " : "", node->name);
    }
}
