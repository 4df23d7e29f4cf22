/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "coordinator/core/judge.h"

/* After a failed try a node needs a moment to hear of the next one; until then it still reports the old failure. The
 * pause doubles, so that a store that is briefly out of reach does not use up all tries at once. */
#define STORE_RETRY_MS 1000u

static struct command *add_store_fail(struct judging *judging, const struct job_record *record, const char *node,
                                      int32_t rank)
{
    struct command *fail = judge_add(judging, CMD_STORE_FAIL, record);
    fail->cut = record->store_cut;
    fail->event.kind = EVENT_STORE_FAILED;
    fail->event.rank = rank;
    if (node != NULL)
        text_copy(fail->event.node, sizeof fail->event.node, node);
    return fail;
}

static void add_commit(struct judging *judging, const struct job_record *record, const struct track *track,
                       const struct manifest_report *manifest)
{
    struct command *commit = judge_add(judging, CMD_CKPT_COMMIT, record);
    commit->cut = record->store_cut;
    text_copy(commit->key, sizeof commit->key, manifest->key);
    text_copy(commit->digest, sizeof commit->digest, manifest->digest);
    for (size_t i = 0; track->refs_cut == record->store_cut && i < track->refs.count; i++) {
        commit->bytes += track->refs.items[i].raw_bytes;
        commit->stored += track->refs.items[i].stored_bytes;
    }
}

static bool failures_count(struct judging *judging, const struct track *track)
{
    return track->store_attempts == 0 || judge_passed(judging, track->store_ns, STORE_RETRY_MS << track->store_attempts);
}

static bool judge_store_failed(struct judging *judging, const struct job_record *record, const struct track *track,
                               const struct shard_scan *scan)
{
    bool manifest = scan->manifest != NULL && scan->manifest->progress == SHARD_FAILED;
    if ((scan->failed.node == NULL && !manifest) || !failures_count(judging, track))
        return false;
    if (scan->failed.node != NULL) {
        const struct shard_report *shard = scan->failed.report;
        struct command *fail = add_store_fail(judging, record, scan->failed.node, (int32_t)shard->rank);
        TEXT(fail->event.text, "rank %u on %s: %s", shard->rank, scan->failed.node, shard->detail);
    } else {
        struct command *fail = add_store_fail(judging, record, scan->manifest_node, -1);
        TEXT(fail->event.text, "the manifest, on %s: %s", scan->manifest_node, scan->manifest->detail);
    }
    return true;
}

static void judge_store_progress(struct judging *judging, const struct job_record *record, struct track *track,
                                 const struct ckpt *ckpt)
{
    struct shard_scan scan;
    scan_shards(judging->book, record, ckpt, &scan);
    bool gathered = track->refs_cut == ckpt->cut;
    /* However large it is: as long as one shard after the other arrives, it is on its way. */
    if (scan.stored > track->stored) {
        track->stored = scan.stored;
        track->store_ns = judging->now_ns;
    }
    if (!gathered && scan.stored == scan.world)
        gathered = scan_refs(judging->book, record, ckpt, track);
    if (scan.manifest != NULL && scan.manifest->progress == SHARD_STORED) {
        add_commit(judging, record, track, scan.manifest);
    } else if (gathered && !record->shards_stored) {
        judge_add(judging, CMD_CKPT_STORED, record)->cut = ckpt->cut;
    } else if (!judge_store_failed(judging, record, track, &scan) &&
               judge_passed(judging, track->store_ns, STORE_DEADLINE_MS)) {
        char names[TIDE_TEXT_MAX + 1];
        scan_names(judging->book, record, &ckpt->nodes, missing_shard, ckpt, names, sizeof names);
        struct command *fail = add_store_fail(judging, record, NULL, -1);
        TEXT(fail->event.text, "not done within %u s: %s", STORE_DEADLINE_MS / (unsigned)MS_PER_S,
             names[0] ? names : "the manifest");
    }
}

/* ---- what is in memory only may be gone ---- */

struct hole {
    const struct ckpt *ckpt;
    const char *node; /* that does not hold its part; NULL: all do, or may */
    uint32_t node_rank;
    bool copied;      /* but another has a copy of it */
};

/* A copy is as good for a restart, but it is not stored from there. */
static void find_hole(const struct judging *judging, const struct job_record *record, const struct ckpt *ckpt, struct hole *ret_hole)
{
    *ret_hole = (struct hole){.ckpt = ckpt};
    for (uint32_t n = 0; n < ckpt->nodes.count; n++) {
        const struct node *node = state_node(judging->state, ckpt->nodes.items[n]);
        bool lost = node == NULL || node->state == TIDE_NODE_LOST;
        if (!lost && !book_heard(judging->state, judging->book, node->name))
            continue;
        if (!lost && scan_holds(judging->book, record, ckpt, n))
            continue;
        bool copied = scan_copy(judging->state, judging->book, record, ckpt, n) != COPY_NONE;
        if (copied && (record->store_cut != ckpt->cut || ret_hole->node != NULL))
            continue;
        *ret_hole = (struct hole){.ckpt = ckpt, .node = ckpt->nodes.items[n], .node_rank = n, .copied = copied};
        if (!copied)
            return;
    }
}

static bool may_be_lost(const struct job_record *record, const struct track *track, const struct ckpt *ckpt)
{
    /* Once every shard is in the store only the manifest is missing, and memory is not needed for that. */
    bool stored = record->store_cut == ckpt->cut && track->refs_cut == ckpt->cut;
    return ckpt_in_memory(ckpt) && !stored && !job_restoring_from(record, ckpt->cut);
}

static void add_lost(struct judging *judging, const struct job_record *record, const struct hole *hole)
{
    const struct ckpt *ckpt = hole->ckpt;
    uint32_t rank = hole->node_rank * record->job.spec.nproc_per_node;
    if (hole->copied) {
        struct command *fail = add_store_fail(judging, record, hole->node, (int32_t)rank);
        fail->final = true;
        TEXT(fail->event.text, "node %s does not hold the part of rank %u (any more), only a copy is left", hole->node, rank);
        return;
    }
    struct command *lost = judge_add(judging, CMD_ARENA_LOST, record);
    const struct ckpt *newest = job_newest_restorable(&record->job, UINT64_MAX);
    lost->cut = ckpt->cut;
    if (newest->cut > ckpt->cut && node_up(judging->state, hole->node))
        TEXT(lost->event.text, "it was in memory only, and checkpoint %" PRIu64 " has taken its place there", newest->cut);
    else
        TEXT(lost->event.text, "it was in memory only, and node %s does not hold the part of rank %u (any more)", hole->node, rank);
}

static void judge_arena(struct judging *judging, const struct job_record *record, struct track *track)
{
    struct hole hole = {0};
    for (size_t i = 0; i < record->job.ckpts.count && hole.node == NULL; i++)
        if (may_be_lost(record, track, &record->job.ckpts.items[i]))
            find_hole(judging, record, &record->job.ckpts.items[i], &hole);
    if (hole.node == NULL) {
        track->arena_ns = 0;
        return;
    }
    if (track->arena_ns == 0 || track->arena_cut != hole.ckpt->cut) {
        track->arena_cut = hole.ckpt->cut;
        track->arena_ns = judging->now_ns;
    }
    /* A node may say that it has recorded a little before it says what it holds. */
    if (judge_passed(judging, track->arena_ns, state_lease_ms(judging->state)))
        add_lost(judging, record, &hole);
}

void judge_store(struct judging *judging, const struct job_record *record, struct track *track)
{
    const struct ckpt *ckpt = record->store_cut ? job_ckpt(&record->job, record->store_cut) : NULL;
    size_t before = judging->commands->count;
    if (ckpt != NULL)
        judge_store_progress(judging, record, track, ckpt);
    /* While a job waits for nodes, the one that holds the newest checkpoint may still come back. */
    if (record->phase == GEN_PHASE_LAUNCHED && judging->commands->count == before)
        judge_arena(judging, record, track);
    if (record->phase == GEN_PHASE_LAUNCHED && judging->commands->count == before)
        judge_peers(judging, record, track);
}

void judge_purge(struct judging *judging, const struct job_record *record)
{
    const struct book *book = judging->book;
    for (size_t i = 0; i < record->purge.count; i++) {
        bool purged = false;
        for (size_t n = 0; n < book->entries.count && !purged; n++) {
            const struct gen_report *report = book_report(book, book->entries.items[n].node, record->job.uid);
            purged = report != NULL && strlist_has(&report->purged, record->purge.items[i]);
        }
        if (!purged)
            continue;
        struct command *done = judge_add(judging, CMD_CKPT_PURGED, record);
        done->cut = strtoull(record->purge.items[i], NULL, 10);
        TEXT(done->text, "%s", record->purge.items[i]);
    }
}

/* ---- what was found out by reading it ---- */

static void add_damaged(struct judging *judging, const struct job_record *record, const char *node, const struct scrub_report *scrub)
{
    struct command *corrupt = judge_add(judging, CMD_CKPT_CORRUPT, record);
    corrupt->cut = scrub->cut;
    corrupt->event.kind = EVENT_CORRUPT;
    corrupt->event.rank = -1;
    text_copy(corrupt->event.node, sizeof corrupt->event.node, node);
    TEXT(corrupt->event.text, "%s read it in the store: %s", node, scrub->detail);
}

/* Only nodes that run it are told to read. One that ranks are just being restored from is judged by what they find. */
void judge_scrub(struct judging *judging, const struct job_record *record)
{
    for (size_t n = 0; n < record->job.nodes.count; n++) {
        const char *node = record->job.nodes.items[n];
        const struct gen_report *report = book_report(judging->book, node, record->job.uid);
        for (size_t i = 0; report != NULL && i < report->scrubs.count; i++) {
            const struct scrub_report *scrub = &report->scrubs.items[i];
            const struct ckpt *ckpt = job_ckpt(&record->job, scrub->cut);
            if (scrub->damaged && ckpt != NULL && ckpt->state == TIDE_CKPT_COMMITTED && !job_restoring_from(record, scrub->cut)) {
                add_damaged(judging, record, node, scrub);
                return; /* one at a time: the next is seen when this one is known */
            }
        }
    }
}
