/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/core/inner.h"

static const char *const gen_phase_names[] = {"none", "fencing", "launched", "stopping", NULL};

static const struct codec_field cut_past_fields[] = {
    CODEC_ENUM_OF(cut_past, tried, cut_mode_names),
    CODEC_FIELD(cut_past, misfits, CODEC_U32),
    CODEC_FIELD(cut_past, row, CODEC_U32),
};
static CODEC_DEFINE(cut_past_codec, cut_past, "past of cuts", cut_past_fields);

static const struct codec_field job_record_fields[] = {
    CODEC_FIELD(job_record, job, CODEC_STRUCT, .of = &job_codec, .required = true),
    CODEC_ENUM_OF(job_record, phase, gen_phase_names, .required = true),
    CODEC_TEXT_OF(job_record, token),
    CODEC_TEXT_OF(job_record, log_key),
    CODEC_FIELD(job_record, master_port, CODEC_U32),
    CODEC_FIELD(job_record, fence, CODEC_STRLIST, .size = TIDE_NODES_MAX),
    CODEC_ENUM_OF(job_record, end_state, job_state_names),
    CODEC_FIELD(job_record, ckpt_requested, CODEC_BOOL),
    CODEC_FIELD(job_record, rollback_cut, CODEC_U64),
    CODEC_FIELD(job_record, last_cut_ms, CODEC_U64),
    CODEC_FIELD(job_record, cut_past, CODEC_STRUCT, .of = &cut_past_codec),
    CODEC_FIELD(job_record, store_cut, CODEC_U64),
    CODEC_FIELD(job_record, store_attempts, CODEC_U32),
    CODEC_FIELD(job_record, shards_stored, CODEC_BOOL),
    CODEC_FIELD(job_record, restore_stored, CODEC_BOOL),
    CODEC_FIELD(job_record, barren, CODEC_U32),
    CODEC_FIELD(job_record, pause_ms, CODEC_U64),
    CODEC_FIELD(job_record, launched_ms, CODEC_U64),
    CODEC_FIELD(job_record, purge, CODEC_STRLIST, .size = DELETIONS_MAX),
    CODEC_FIELD(job_record, peers, CODEC_STRLIST, .size = TIDE_NODES_MAX),
    CODEC_FIELD(job_record, peers_at, CODEC_U64),
    CODEC_FIELD(job_record, unpeered, CODEC_BOOL),
    CODEC_FIELD(job_record, owed, CODEC_STRLIST, .size = TIDE_CKPTS_MAX),
};
CODEC_DEFINE(job_record_codec, job_record, "job record", job_record_fields);

static const struct codec_field session_fields[] = {
    CODEC_TEXT_OF(session, request, .required = true),
    CODEC_FIELD(session, status, CODEC_U32),
    CODEC_FIELD(session, outcome, CODEC_STRUCT, .of = &outcome_codec),
};
CODEC_DEFINE(session_codec, session, "session", session_fields);

static const struct codec_field state_fields[] = {
    CODEC_FIELD(state, revision, CODEC_U64, .required = true),
    CODEC_TEXT_OF(state, cluster),
    CODEC_FIELD(state, lease_ms, CODEC_U64),
    CODEC_FIELD(state, heartbeat_ms, CODEC_U64),
    CODEC_FIELD(state, health_good_ms, CODEC_U64),
    CODEC_TEXT_OF(state, store),
    CODEC_FIELD(state, level, CODEC_U32),
    CODEC_LIST_OF(state, jobs, job_record_codec, TIDE_JOBS_MAX),
    CODEC_LIST_OF(state, nodes, node_codec, TIDE_NODES_MAX),
    CODEC_LIST_OF(state, sessions, session_codec, SESSIONS_MAX),
    CODEC_LIST_OF(state, tokens, token_codec, TOKENS_MAX),
    CODEC_LIST_OF(state, revoked, revocation_codec, REVOCATIONS_MAX),
};
CODEC_DEFINE(state_codec, state, "state", state_fields);

void state_release(struct state *state)
{
    codec_release(&state_codec, state);
}

struct job_record *state_job_uid(const struct state *state, const char *uid)
{
    for (size_t i = state->jobs.count; i-- > 0;)
        if (strcmp(state->jobs.items[i].job.uid, uid) == 0)
            return &state->jobs.items[i];
    return NULL;
}

struct job_record *state_job(const struct state *state, const char *name)
{
    for (size_t i = state->jobs.count; i-- > 0;)
        if (strcmp(state->jobs.items[i].job.spec.name, name) == 0)
            return &state->jobs.items[i];
    return state_job_uid(state, name);
}

size_t name_index(const char *first_name, size_t count, size_t stride, const char *name, bool *ret_found)
{
    size_t low = 0, high = count;
    *ret_found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(first_name + middle * stride, name);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

size_t state_node_index(const struct state *state, const char *name, bool *ret_found)
{
    const struct node *nodes = state->nodes.items;
    return name_index(nodes != NULL ? nodes->name : NULL, state->nodes.count, sizeof *nodes, name, ret_found);
}

struct node *state_node(const struct state *state, const char *name)
{
    bool found;
    size_t at = state_node_index(state, name, &found);
    return found ? &state->nodes.items[at] : NULL;
}

bool node_up(const struct state *state, const char *name)
{
    const struct node *node = state_node(state, name);
    return node != NULL && node->state != TIDE_NODE_LOST;
}

uint64_t state_lease_ms(const struct state *state)
{
    return state->lease_ms ? state->lease_ms : LEASE_MS_DEFAULT;
}

uint64_t state_health_good_ms(const struct state *state)
{
    return state->health_good_ms ? state->health_good_ms : HEALTH_GOOD_MS_DEFAULT;
}

uint64_t state_heartbeat_ms(const struct state *state)
{
    return state->heartbeat_ms ? state->heartbeat_ms : HEARTBEAT_MS_DEFAULT;
}

struct ckpt *job_open_cut(const struct job *job)
{
    for (size_t i = job->ckpts.count; i-- > 0;)
        if (job->ckpts.items[i].state == TIDE_CKPT_OPEN)
            return &job->ckpts.items[i];
    return NULL;
}

struct ckpt *job_newest_restorable(const struct job *job, uint64_t most)
{
    for (size_t i = job->ckpts.count; i-- > 0;)
        if (job->ckpts.items[i].cut <= most && ckpt_restorable(&job->ckpts.items[i]))
            return &job->ckpts.items[i];
    return NULL;
}

const char *job_store(const struct state *state, const struct job_record *record)
{
    return record->job.spec.store[0] ? record->job.spec.store : state->store;
}

bool job_restoring_from(const struct job_record *record, uint64_t cut)
{
    return record->phase == GEN_PHASE_LAUNCHED && record->job.restore_cut == cut && !record->job.all_stepped;
}

/* ---- lists of strings ---- */

static size_t find(const struct strlist *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return i;
    return list->count;
}

bool strlist_has(const struct strlist *list, const char *text)
{
    return find(list, text) < list->count;
}

bool strlist_same(const struct strlist *a, const struct strlist *b)
{
    for (size_t i = 0; i < a->count && i < b->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0)
            return false;
    return a->count == b->count;
}

static void drop_at(struct strlist *list, size_t at)
{
    mem_free(list->items[at]);
    /* The NULL behind the last one moves along. */
    memmove(&list->items[at], &list->items[at + 1], (list->count - at) * sizeof *list->items);
    list->count--;
}

void strlist_drop(struct strlist *list, const char *text)
{
    size_t at = find(list, text);
    if (at < list->count)
        drop_at(list, at);
}

void strlist_assign(struct strlist *to, const struct strlist *from)
{
    struct strlist copy = {0};
    for (size_t i = 0; i < from->count; i++)
        strlist_add(&copy, from->items[i]);
    strlist_release(to);
    *to = copy;
}

#define NUMBER_CHARS 48

/* The item that begins with that number; count: none. */
static size_t find_number(const struct strlist *list, uint64_t number)
{
    for (size_t i = 0; i < list->count; i++)
        if (strtoull(list->items[i], NULL, 10) == number)
            return i;
    return list->count;
}

void strlist_add_number(struct strlist *list, uint64_t number)
{
    char text[NUMBER_CHARS];
    snprintf(text, sizeof text, "%" PRIu64, number);
    if (!strlist_has_number(list, number))
        strlist_add(list, text);
}

bool strlist_has_number(const struct strlist *list, uint64_t number)
{
    return find_number(list, number) < list->count;
}

void strlist_drop_number(struct strlist *list, uint64_t number)
{
    size_t at = find_number(list, number);
    if (at < list->count)
        drop_at(list, at);
}

/* ---- deletions ---- */

void purge_again(struct job_record *record, uint64_t cut, uint64_t revision)
{
    char text[NUMBER_CHARS];
    snprintf(text, sizeof text, "%" PRIu64 "@%" PRIu64, cut, revision);
    strlist_drop_number(&record->owed, cut);
    strlist_drop_number(&record->purge, cut);
    strlist_add(&record->purge, text);
}

bool purge_writer(const struct job_record *record, uint64_t cut, const char *node)
{
    if (cut == PURGE_SWEEP)
        return false; /* it keeps away from what is being written */
    const struct ckpt *ckpt = job_ckpt(&record->job, cut);
    return (ckpt != NULL && strlist_has(&ckpt->nodes, node)) || strlist_has(&record->job.nodes, node);
}
