/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/judge.h"

/* Larger than any real silence, and a number that JSON readers can hold. */
#define SILENT_FOR_EVER_MS (UINT64_C(1) << 52)

static void view_ranks(const struct book *book, const struct job_record *record, struct job_view *view)
{
    const struct job *job = &record->job;
    uint32_t world = job_world(job);
    if (job->nodes.count == 0)
        return;
    view->ranks.items = mem_array(world, sizeof *view->ranks.items);
    view->ranks.count = world;
    for (uint32_t rank = 0; rank < world; rank++) {
        struct rank_view *to = &view->ranks.items[rank];
        to->rank = to->report.rank = rank;
        text_copy(to->node, sizeof to->node, job->nodes.items[rank / job->spec.nproc_per_node]);
        const struct rank_report *report = scan_rank(book, record, rank);
        if (report != NULL)
            to->report = *report;
    }
}

static void explain_processes(struct job_view *view)
{
    char text[ERR_TEXT_MAX], words[ERR_TEXT_MAX];
    if (!job_view_processes(view, text, sizeof text))
        return;
    TEXT(words, "at the last restart %s", text);
    strlist_add(&view->explain, words);
}

enum tide_status view_job(const struct state *state, const struct book *book, const char *job, uint64_t now_ns,
                          struct job_view *ret_view, struct err *err)
{
    const struct job_record *record = state_job(state, job);
    if (record == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "there is no job named %s; tidemark job list shows all", job);
    struct job_view view = {.revision = state->revision};
    codec_copy(&job_codec, &record->job, &view.job);
    text_copy(view.log_key, sizeof view.log_key, record->log_key);
    view_ranks(book, record, &view);
    explain(state, book, record, now_ns, &view.explain);
    explain_processes(&view);
    *ret_view = view;
    return TIDE_OK;
}

void view_jobs(const struct state *state, struct job_list *ret_list)
{
    *ret_list = (struct job_list){.revision = state->revision};
    for (size_t i = 0; i < state->jobs.count; i++) {
        struct job brief = state->jobs.items[i].job;
        /* Borrowed for the copy, without the long lists. */
        memset(&brief.ckpts, 0, sizeof brief.ckpts);
        memset(&brief.recoveries, 0, sizeof brief.recoveries);
        memset(&brief.events, 0, sizeof brief.events);
        codec_copy(&job_codec, &brief, codec_list_add(&job_codec, &ret_list->jobs));
    }
}

static void fill_node(const struct book *book, const struct node *node, uint64_t now_ns, struct node_view *to)
{
    const struct book_entry *entry = book_find(book, node->name);
    codec_copy(&node_codec, node, &to->node);
    bool heard = entry != NULL && entry->heard_ns != 0;
    to->silent_ms = heard ? (now_ns - entry->heard_ns) / NS_PER_MS : SILENT_FOR_EVER_MS;
}

struct node_use {
    uint32_t slots;
    struct strlist jobs;
};

static void add_job(const struct job_record *record, struct node_use *to)
{
    to->slots += record->job.spec.nproc_per_node;
    if (to->jobs.count < NODE_JOBS_MAX)
        strlist_add(&to->jobs, record->job.spec.name);
}

/* Takes what `use` holds over. */
static struct node_view view_used(const struct book *book, const struct node *node, struct node_use *use, uint64_t now_ns)
{
    struct node_view view = {.used_slots = use->slots, .jobs = use->jobs};
    fill_node(book, node, now_ns, &view);
    *use = (struct node_use){0};
    return view;
}

enum tide_status view_node(const struct state *state, const struct book *book, const char *name, uint64_t now_ns,
                           struct node_view *ret_view, struct err *err)
{
    const struct node *node = state_node(state, name);
    struct node_use use = {0};
    if (node == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "there is no node %s; tidemark node list names those there are", name);
    for (size_t i = 0; i < state->jobs.count; i++)
        if (job_active(&state->jobs.items[i]) && strlist_has(&state->jobs.items[i].job.nodes, name))
            add_job(&state->jobs.items[i], &use);
    *ret_view = view_used(book, node, &use, now_ns);
    return TIDE_OK;
}

void view_nodes(const struct state *state, const struct book *book, uint64_t now_ns, view_node_fn *each, void *arg)
{
    struct node_use *uses = mem_array(state->nodes.count, sizeof *uses);
    for (size_t i = 0; i < state->jobs.count; i++) {
        const struct job_record *record = &state->jobs.items[i];
        for (size_t k = 0; job_active(record) && k < record->job.nodes.count; k++) {
            bool found;
            size_t at = state_node_index(state, record->job.nodes.items[k], &found);
            if (found)
                add_job(record, &uses[at]);
        }
    }
    for (size_t i = 0; i < state->nodes.count; i++) {
        struct node_view view = view_used(book, &state->nodes.items[i], &uses[i], now_ns);
        each(arg, &view);
        codec_release(&node_view_codec, &view);
    }
    mem_free(uses);
}

void view_cluster(const struct state *state, struct cluster_view *ret_view)
{
    struct cluster_view view = {.revision = state->revision,
                                .lease_ms = state_lease_ms(state),
                                .heartbeat_ms = state_heartbeat_ms(state),
                                .level = state->level,
                                .level_newest = LEVEL_NEWEST,
                                .jobs_total = (uint32_t)state->jobs.count};
    text_copy(view.cluster, sizeof view.cluster, state->cluster);
    text_copy(view.store, sizeof view.store, state->store);
    for (size_t i = 0; i < state->nodes.count; i++) {
        unsigned is = state->nodes.items[i].state;
        view.nodes_ready += is == TIDE_NODE_READY;
        view.nodes_lost += is == TIDE_NODE_LOST;
        view.nodes_drained += is == TIDE_NODE_DRAINED;
    }
    for (size_t i = 0; i < state->jobs.count; i++)
        view.jobs_active += job_active(&state->jobs.items[i]);
    *ret_view = view;
}
