/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/judge.h"

/* Copies of what was recorded, in the memory of other nodes: whether they are there, by what those nodes say. */

static const struct held_report *held_of(const struct gen_report *report, uint64_t cut, uint32_t rank)
{
    for (size_t i = 0; report != NULL && i < report->held.count; i++)
        if (report->held.items[i].cut == cut && report->held.items[i].rank == rank)
            return &report->held.items[i];
    return NULL;
}

/* Two that say different things of one part: then neither is believed. */
static bool copy_of(const struct held_report *copy, const struct gen_report *owner)
{
    const struct held_report *held = held_of(owner, copy->cut, copy->rank);
    return held == NULL || strcmp(held->digest, copy->digest) == 0;
}

/* Does `peer` say that it has all that node rank n recorded of the cut? */
static bool has_copies(const struct book *book, const struct job_record *record, const struct ckpt *ckpt, uint32_t n, const char *peer)
{
    const struct job_spec *spec = &record->job.spec;
    const struct gen_report *report = book_report(book, peer, record->job.uid);
    const struct gen_report *owner = book_report(book, ckpt->nodes.items[n], record->job.uid);
    uint64_t all = spec->nproc_per_node == 64 ? UINT64_MAX : (UINT64_C(1) << spec->nproc_per_node) - 1, seen = 0;
    for (size_t i = 0; report != NULL && i < report->copies.count; i++)
        if (report->copies.items[i].cut == ckpt->cut && copy_of(&report->copies.items[i], owner))
            seen |= scan_local_bit(spec, n, report->copies.items[i].rank);
    return seen == all;
}

enum copy_where scan_copy(const struct state *state, const struct book *book, const struct job_record *record, const struct ckpt *ckpt,
                          uint32_t n)
{
    const char *peer = ckpt_peer(state, ckpt, n);
    if (peer == NULL)
        return COPY_NONE;
    if (!book_heard(state, book, peer))
        return COPY_UNHEARD;
    return has_copies(book, record, ckpt, n, peer) ? COPY_THERE : COPY_NONE;
}

static void add_unpeered(struct judging *judging, const struct job_record *record, const struct ckpt *ckpt, const char *node, int32_t rank,
                         const char *why)
{
    struct command *command = judge_add(judging, CMD_CKPT_UNPEERED, record);
    command->cut = ckpt->cut;
    command->event.kind = EVENT_UNPEERED;
    command->event.rank = rank;
    text_copy(command->event.node, sizeof command->event.node, node);
    TEXT(command->event.text, "%s", why);
}

/* What was said to be there, and is not any more: the agent was started on an empty memory, for instance. */
static void judge_kept(struct judging *judging, const struct job_record *record, struct track *track, const struct ckpt *ckpt)
{
    const char *peer = NULL;
    for (uint32_t n = 0; n < ckpt->peers.count && peer == NULL; n++)
        if (ckpt->peers.items[n][0] != '\0' && scan_copy(judging->state, judging->book, record, ckpt, n) == COPY_NONE)
            peer = ckpt->peers.items[n];
    if (peer == NULL) {
        track->copy_ns = 0;
        return;
    }
    if (track->copy_ns == 0)
        track->copy_ns = judging->now_ns;
    /* An agent that was started again needs a moment to find what it has. */
    if (judge_passed(judging, track->copy_ns, state_lease_ms(judging->state)))
        add_unpeered(judging, record, ckpt, peer, -1, "it is not there any more");
}

static void judge_wanted(struct judging *judging, const struct job_record *record, const struct ckpt *ckpt)
{
    bool all = true;
    for (uint32_t n = 0; n < record->peers.count; n++)
        all = all && record->peers.items[n][0] != '\0' && has_copies(judging->book, record, ckpt, n, record->peers.items[n]);
    if (all) {
        struct command *peered = judge_add(judging, CMD_CKPT_PEERED, record);
        peered->cut = ckpt->cut;
        peered->epoch = record->peers_at;
        return;
    }
    for (size_t n = 0; n < record->peers.count && !record->unpeered; n++) {
        const struct gen_report *report = book_report(judging->book, record->peers.items[n], record->job.uid);
        for (size_t i = 0; report != NULL && i < report->copy_failures.count; i++) {
            const struct restore_failure *failure = &report->copy_failures.items[i];
            if (failure->cut != ckpt->cut)
                continue;
            add_unpeered(judging, record, ckpt, record->peers.items[n], (int32_t)failure->rank, failure->detail);
            return;
        }
    }
}

bool peers_wanted(const struct job_record *record, const struct ckpt *ckpt)
{
    return record->peers.count > 0 && strlist_same(&ckpt->nodes, &record->job.nodes) && !strlist_same(&ckpt->peers, &record->peers);
}

void judge_peers(struct judging *judging, const struct job_record *record, struct track *track)
{
    const struct ckpt *kept = NULL;
    for (size_t i = record->job.ckpts.count; i-- > 0 && kept == NULL;)
        if (record->job.ckpts.items[i].peers.count > 0)
            kept = &record->job.ckpts.items[i];
    if (kept != NULL)
        judge_kept(judging, record, track, kept);
    const struct ckpt *newest = job_newest_restorable(&record->job, UINT64_MAX);
    if (newest != NULL && peers_wanted(record, newest))
        judge_wanted(judging, record, newest);
}
