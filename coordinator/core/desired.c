/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "coordinator/core/judge.h"

/* Derived from the state, so that any leader says the same; only the references to stored shards come from the book. */

struct part {
    bool lives; /* has a part in a job that has not ended */
    bool runs; /* node_rank is meaningful */
    uint32_t node_rank;
    bool holds_store; /* of the cut that is being stored */
    bool commits;     /* writes its manifest */
    bool purges;
    bool leaves;      /* may write objects that are to be deleted */
    bool copies;      /* has, or is to have, copies of what others recorded */
};

/* The first node of the list that is not lost; NULL: none. */
static const char *first_up(const struct state *state, const struct strlist *nodes)
{
    for (size_t i = 0; i < nodes->count; i++)
        if (node_up(state, nodes->items[i]))
            return nodes->items[i];
    return NULL;
}

static const char *purger(const struct state *state, const struct job_record *record)
{
    if (record->purge.count == 0)
        return NULL;
    const char *name = first_up(state, &record->job.nodes);
    for (size_t i = 0; name == NULL && i < state->nodes.count; i++)
        if (state->nodes.items[i].state != TIDE_NODE_LOST)
            name = state->nodes.items[i].name;
    return name;
}

static bool has_copies(const struct job_record *record, const char *node)
{
    bool any = strlist_has(&record->peers, node);
    for (size_t i = 0; i < record->job.ckpts.count && !any; i++)
        any = strlist_has(&record->job.ckpts.items[i].peers, node);
    return any;
}

static struct part part_of(const struct state *state, const struct job_record *record, const char *node)
{
    struct part part = {0};
    const char *who = purger(state, record);
    part.purges = who != NULL && strcmp(who, node) == 0;
    for (size_t i = 0; i < record->purge.count && !part.leaves; i++)
        part.leaves = purge_writer(record, strtoull(record->purge.items[i], NULL, 10), node);
    if (job_active(record) && record->phase != GEN_PHASE_NONE) {
        const struct job *job = &record->job;
        for (uint32_t i = 0; i < job->nodes.count && !part.runs; i++)
            if (strcmp(job->nodes.items[i], node) == 0) {
                part.runs = true;
                part.node_rank = i;
            }
        const struct ckpt *stored = record->store_cut ? job_ckpt(job, record->store_cut) : NULL;
        part.holds_store = stored != NULL && strlist_has(&stored->nodes, node);
        const char *writer = stored != NULL ? first_up(state, &stored->nodes) : NULL;
        /* Its shards are durable: anybody can write the manifest when all who recorded it are gone. */
        if (stored != NULL && writer == NULL && record->shards_stored)
            writer = first_up(state, &job->nodes);
        part.commits = writer != NULL && strcmp(writer, node) == 0;
        part.lives = part.runs || part.holds_store || part.commits || strlist_has(&job->spares, node) || strlist_has(&record->fence, node);
        part.copies = has_copies(record, node);
    }
    return part;
}

static void fill_peers(const struct state *state, const struct job_record *record, struct assignment *to)
{
    for (size_t i = 0; i < record->job.nodes.count; i++) {
        struct peer *peer = codec_list_add(&peer_codec, &to->peers);
        const struct node *node = state_node(state, record->job.nodes.items[i]);
        text_copy(peer->node, sizeof peer->node, record->job.nodes.items[i]);
        if (node == NULL)
            continue;
        text_copy(peer->host, sizeof peer->host, node->host);
        text_copy(peer->address, sizeof peer->address, node->address);
        peer->mesh_port = node->mesh_port;
        peer->log_port = node->log_port;
        text_copy(peer->pin, sizeof peer->pin, node->pin);
    }
    text_copy(to->master_address, sizeof to->master_address, to->peers.items[0].address);
}

static void fill_restore_peer(const struct state *state, const struct ckpt *ckpt, struct assignment *to)
{
    const char *peer = ckpt_peer(state, ckpt, to->node_rank);
    if (peer == NULL)
        return;
    const struct node *node = state_node(state, peer);
    text_copy(to->restore_peer, sizeof to->restore_peer, peer);
    text_copy(to->restore_peer_address, sizeof to->restore_peer_address, node->address);
    to->restore_peer_port = node->log_port;
    text_copy(to->restore_peer_pin, sizeof to->restore_peer_pin, node->pin);
}

static void fill_start(const struct state *state, const struct job_record *record, struct assignment *to)
{
    const struct job *job = &record->job;
    fill_peers(state, record, to);
    text_copy(to->log_key, sizeof to->log_key, record->log_key);
    to->master_port = record->master_port;
    to->restore_cut = job->restore_cut;
    const struct ckpt *ckpt = job_ckpt(job, job->restore_cut);
    if (ckpt == NULL)
        return;
    to->restore_generation = ckpt->generation;
    to->restore_world = ckpt_world(job, ckpt) != job_world(job) ? ckpt_world(job, ckpt) : 0;
    if (to->restore_world == 0)
        fill_restore_peer(state, ckpt, to);
    if (ckpt->inherited)
        text_copy(to->restore_store, sizeof to->restore_store, job->origin.store);
    text_copy(to->restore_manifest_key, sizeof to->restore_manifest_key, ckpt->manifest_key);
    text_copy(to->restore_manifest, sizeof to->restore_manifest, ckpt->manifest);
}

/* Levels, of whatever attempt: a rank that is in an epoch does nothing about an older one. What a cut has begun is ended by all,
 * with a record or without. */
static void fill_epochs(const struct job *job, struct epoch_order *to)
{
    const struct ckpt *open = job_open_cut(job);
    bool records = open != NULL && cut_goes(job, open) && !open->attempt_void;
    to->go = job->epoch_go;
    to->flip = records ? 0 : job->epoch_go;
    to->settled = job->epoch_settled;
    to->closed = job->epoch_closed;
}

static unsigned record_phase(const struct job *job, const struct ckpt *open)
{
    if (open->epoch == 0)
        return CUT_PHASE_RECORD;
    if (open->attempt_void)
        return CUT_PHASE_NONE;
    if (!cut_goes(job, open))
        return CUT_PHASE_ARM;
    return job->epoch_settled == open->epoch ? CUT_PHASE_SUM : CUT_PHASE_RECORD;
}

static void fill_order(const struct ckpt *ckpt, unsigned phase, uint32_t attempt, struct cut_order *to)
{
    to->cut = ckpt->cut;
    to->attempt = attempt;
    to->phase = phase;
    to->step = ckpt->step;
    to->epoch = ckpt->epoch;
    to->mode = ckpt->mode;
    to->generation = ckpt->generation;
}

/* Nodes keep the order to store until the commit: only the one that writes the manifest is told of the next phase. */
static void fill_store(const struct book *book, const struct job_record *record, const struct part *part,
                       struct cut_order *to)
{
    const struct ckpt *ckpt = job_ckpt(&record->job, record->store_cut);
    const struct track *track = book != NULL ? track_find(book, record->job.uid) : NULL;
    bool commit = part->commits && record->shards_stored && track != NULL && track->refs_cut == ckpt->cut;
    fill_order(ckpt, commit ? CUT_PHASE_COMMIT : CUT_PHASE_STORE, record->store_attempts + 1, to);
    for (size_t i = 0; commit && i < track->refs.count; i++)
        *(struct shard_ref *)codec_list_add(&shard_ref_codec, &to->shards) = track->refs.items[i];
}

static void fill_cut(const struct book *book, const struct job_record *record, const struct part *part, struct assignment *to)
{
    const struct ckpt *open = job_open_cut(&record->job);
    bool records = open != NULL && part->runs;
    if (records)
        fill_order(open, record_phase(&record->job, open), open->attempt, &to->cut);
    if (part->holds_store || part->commits)
        fill_store(book, record, part, records ? &to->upload : &to->cut);
}

static struct copy_order *add_copy(struct assignment *to, uint64_t cut, size_t n)
{
    for (size_t i = 0; i < to->copies.count; i++)
        if (to->copies.items[i].cut == cut && to->copies.items[i].node_rank == n)
            return &to->copies.items[i];
    if (to->copies.count >= COPIES_MAX)
        return NULL;
    struct copy_order *copy = codec_list_add(&copy_order_codec, &to->copies);
    copy->cut = cut;
    copy->node_rank = (uint32_t)n;
    return copy;
}

/* Those that are known to be here, and those to be made of the newest. */
static void fill_copies(const struct state *state, const struct job_record *record, const char *node, struct assignment *to)
{
    const struct job *job = &record->job;
    for (size_t i = 0; i < job->ckpts.count; i++)
        for (size_t n = 0; n < job->ckpts.items[i].peers.count; n++)
            if (strcmp(job->ckpts.items[i].peers.items[n], node) == 0)
                add_copy(to, job->ckpts.items[i].cut, n);
    const struct ckpt *newest = job_newest_restorable(job, UINT64_MAX);
    if (newest == NULL || !peers_wanted(record, newest))
        return;
    for (size_t n = 0; n < record->peers.count; n++) {
        const struct node *from = strcmp(record->peers.items[n], node) == 0 ? state_node(state, newest->nodes.items[n]) : NULL;
        struct copy_order *copy = from != NULL && from->state != TIDE_NODE_LOST ? add_copy(to, newest->cut, n) : NULL;
        if (copy == NULL)
            continue;
        text_copy(copy->node, sizeof copy->node, from->name);
        text_copy(copy->address, sizeof copy->address, from->address);
        copy->port = from->log_port;
        text_copy(copy->pin, sizeof copy->pin, from->pin);
    }
}

/* Has everybody who may write objects of that cut said that they do not, and will not? What a lost node writes is deleted
 * when it is back. */
static bool left_by_all(const struct state *state, const struct book *book, const struct job_record *record, const char *purge)
{
    uint64_t cut = strtoull(purge, NULL, 10);
    for (size_t i = 0; book != NULL && i < state->nodes.count; i++) {
        const struct node *node = &state->nodes.items[i];
        if (node->state == TIDE_NODE_LOST || !purge_writer(record, cut, node->name))
            continue;
        const struct gen_report *report = book_report(book, node->name, record->job.uid);
        if (report == NULL || !strlist_has(&report->left, purge))
            return false;
    }
    return book != NULL;
}

static void fill_sweep(const struct job *job, struct assignment *to)
{
    for (size_t i = 0; i < job->ckpts.count; i++) {
        const struct ckpt *ckpt = &job->ckpts.items[i];
        if (ckpt->state == TIDE_CKPT_DROPPED)
            strlist_add_number(&to->sweep_over, ckpt->cut);
        else if (ckpt->state != TIDE_CKPT_ABORTED)
            strlist_add_number(&to->sweep_live, ckpt->cut);
    }
    to->sweep_below = job->next_cut;
}

static void fill_purge(const struct state *state, const struct book *book, const struct job_record *record,
                       const struct part *part, struct assignment *to)
{
    if (part->leaves)
        strlist_assign(&to->leave, &record->purge);
    for (size_t i = 0; part->purges && i < record->purge.count; i++)
        if (left_by_all(state, book, record, record->purge.items[i]))
            strlist_add(&to->purge, record->purge.items[i]);
    if (part->purges && strlist_has_number(&record->purge, PURGE_SWEEP))
        fill_sweep(&record->job, to);
}

/* One node reads what the job has in its store, at its own pace. What lies in another's store is that one's to look after. */
static void fill_scrub(const struct state *state, const struct job_record *record, const char *node, struct assignment *to)
{
    const char *who = first_up(state, &record->job.nodes);
    for (size_t i = 0; who != NULL && strcmp(who, node) == 0 && i < record->job.ckpts.count; i++) {
        const struct ckpt *ckpt = &record->job.ckpts.items[i];
        if (ckpt->state != TIDE_CKPT_COMMITTED || ckpt->inherited)
            continue;
        struct scrub_order *order = codec_list_add(&scrub_order_codec, &to->scrub);
        order->cut = ckpt->cut;
        text_copy(order->manifest_key, sizeof order->manifest_key, ckpt->manifest_key);
        text_copy(order->manifest, sizeof order->manifest, ckpt->manifest);
    }
}

/* What one stores any other may have to restore; while agents of two versions are there it is written so that both can. */
static bool all_read_shared(const struct state *state, const struct book *book)
{
    for (size_t i = 0; book != NULL && i < state->nodes.count; i++) {
        const struct book_entry *entry = book_find(book, state->nodes.items[i].name);
        if (state->nodes.items[i].state != TIDE_NODE_LOST && (entry == NULL || entry->heartbeat.format < NODE_FORMAT))
            return false;
    }
    return book != NULL;
}

/* Kill: only until the generation is launched. Ranks of an older one may wait there to go over to it; where it does not run they go. */
static unsigned run_of(const struct job_record *record, const struct part *part)
{
    if (record->phase == GEN_PHASE_LAUNCHED)
        return part->runs ? RUN_START : RUN_STOP;
    return record->phase == GEN_PHASE_STOPPING ? RUN_STOP : RUN_KILL;
}

static void fill(const struct state *state, const struct book *book, const struct job_record *record, const char *node,
                 const struct part *part, struct assignment *to)
{
    const struct job *job = &record->job;
    codec_copy(&job_spec_codec, &job->spec, &to->spec);
    text_copy(to->uid, sizeof to->uid, job->uid);
    to->generation = job->generation;
    to->run = run_of(record, part);
    to->node_rank = part->node_rank;
    to->restarts = job->restarts;
    to->ended = !part->lives && !part->copies;
    to->started = to->run == RUN_START && job->all_started;
    text_copy(to->store, sizeof to->store, job_store(state, record));
    const struct ckpt *newest = job_newest_restorable(job, UINT64_MAX);
    to->protect_cut = newest != NULL ? newest->cut : 0;
    if (record->phase == GEN_PHASE_LAUNCHED && (part->runs || part->copies))
        text_copy(to->token, sizeof to->token, record->token);
    if (to->run == RUN_START)
        fill_start(state, record, to);
    if (part->copies)
        fill_copies(state, record, node, to);
    fill_cut(book, record, part, to);
    if (to->run == RUN_START)
        fill_epochs(job, &to->epochs);
    fill_purge(state, book, record, part, to);
    to->share = part->holds_store && all_read_shared(state, book);
    if (part->runs)
        fill_scrub(state, record, node, to);
}

enum listed { LISTED_NOT, LISTED_LIVES, LISTED_LEFT, LISTED_COPIES, LISTED_KINDS };

static enum listed listed(const struct part *part)
{
    if (part->lives)
        return LISTED_LIVES;
    return part->purges || part->leaves ? LISTED_LEFT : part->copies ? LISTED_COPIES : LISTED_NOT;
}

/* What is not listed is ended there: jobs of which only objects are to be deleted, or copies kept, must not crowd out one that lives. */
static void list_jobs(const struct state *state, const struct book *book, const char *node, struct desired *to)
{
    struct part *parts = mem_array(state->jobs.count, sizeof *parts);
    for (size_t i = 0; i < state->jobs.count; i++)
        parts[i] = part_of(state, &state->jobs.items[i], node);
    for (enum listed which = LISTED_LIVES; which < LISTED_KINDS; which++)
        for (size_t i = 0; i < state->jobs.count && to->jobs.count < NODE_JOBS_MAX; i++)
            if (listed(&parts[i]) == which)
                fill(state, book, &state->jobs.items[i], node, &parts[i], codec_list_add(&assignment_codec, &to->jobs));
    mem_free(parts);
}

enum tide_status desired_build(const struct state *state, const struct book *book, const char *name,
                               struct desired *ret_desired, struct err *err)
{
    const struct node *node = state_node(state, name);
    if (node == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "node %s is not registered; register first", name);
    struct desired desired = {.revision = state->revision, .forgiven = node->forgiven};
    text_copy(desired.cluster, sizeof desired.cluster, state->cluster);
    text_copy(desired.node, sizeof desired.node, node->name);
    text_copy(desired.incarnation, sizeof desired.incarnation, node->incarnation);
    list_jobs(state, book, name, &desired);
    *ret_desired = desired;
    return TIDE_OK;
}
