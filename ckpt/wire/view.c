/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/wire/view.h"

#include <stdio.h>

#define RANGES_MAX 8u /* of ranks, in a sentence */

static const struct codec_field error_fields[] = {
    CODEC_TEXT_OF(api_error, code, .required = true),
    CODEC_TEXT_OF(api_error, message, .required = true),
    CODEC_TEXT_OF(api_error, hint),
};
CODEC_DEFINE(api_error_codec, api_error, "error", error_fields);

static const struct codec_field rank_view_fields[] = {
    CODEC_FIELD(rank_view, rank, CODEC_U32, .required = true),
    CODEC_NAME_OF(rank_view, node),
    CODEC_FIELD(rank_view, report, CODEC_STRUCT, .of = &rank_report_codec),
};
CODEC_DEFINE(rank_view_codec, rank_view, "rank", rank_view_fields);

static const struct codec_field job_view_fields[] = {
    CODEC_FIELD(job_view, revision, CODEC_U64, .required = true),
    CODEC_FIELD(job_view, job, CODEC_STRUCT, .of = &job_codec, .required = true),
    CODEC_TEXT_OF(job_view, log_key),
    CODEC_LIST_OF(job_view, ranks, rank_view_codec, TIDE_RANKS_MAX),
    CODEC_FIELD(job_view, explain, CODEC_STRLIST, .size = TIDE_RANKS_MAX),
};
CODEC_DEFINE(job_view_codec, job_view, "job view", job_view_fields);

static bool stayed(const struct job_view *view, size_t at)
{
    uint64_t born = view->ranks.items[at].report.born;
    return born != 0 && born < view->job.generation;
}

static bool began(const struct job_view *view, size_t at)
{
    return view->ranks.items[at].report.born == view->job.generation;
}

/* "rank 3", "ranks 0-2, 5 and 12 more"; returns how many there are. */
static size_t name_ranks(const struct job_view *view, bool (*is)(const struct job_view *, size_t), char *to, size_t size)
{
    size_t count = 0, named = 0, used = 0, ranges = 0, end;
    for (size_t i = 0; i < view->ranks.count; i++)
        count += is(view, i);
    used = (size_t)snprintf(to, size, "rank%s", count == 1 ? "" : "s");
    for (size_t i = 0; i < view->ranks.count && ranges < RANGES_MAX; i = end) {
        for (end = i; end < view->ranks.count && is(view, end);)
            end++;
        if (end == i) {
            end++;
            continue;
        }
        const char *comma = ranges++ > 0 ? "," : "";
        if (end - i == 1)
            used += (size_t)snprintf(to + used, size - used, "%s %zu", comma, i);
        else
            used += (size_t)snprintf(to + used, size - used, "%s %zu-%zu", comma, i, end - 1);
        named += end - i;
    }
    if (named < count)
        snprintf(to + used, size - used, " and %zu more", count - named);
    return count;
}

bool job_view_processes(const struct job_view *view, char *to, size_t size)
{
    char of_old[RANGES_MAX * 24 + 48], of_new[sizeof of_old];
    size_t old = name_ranks(view, stayed, of_old, sizeof of_old), new = name_ranks(view, began, of_new, sizeof of_new);
    if (old == 0)
        return false;
    int n = snprintf(to, size, "%s stayed in %s", of_old, old == 1 ? "its process" : "their processes");
    if (new > 0 && n > 0 && (size_t)n < size)
        snprintf(to + n, size - (size_t)n, ", %s %s started anew", of_new, new == 1 ? "was" : "were");
    return true;
}

static const struct codec_field job_list_fields[] = {
    CODEC_FIELD(job_list, revision, CODEC_U64, .required = true),
    CODEC_LIST_OF(job_list, jobs, job_codec, TIDE_JOBS_MAX),
};
CODEC_DEFINE(job_list_codec, job_list, "job list", job_list_fields);

static const struct codec_field node_view_fields[] = {
    CODEC_FIELD(node_view, node, CODEC_STRUCT, .of = &node_codec, .required = true),
    CODEC_FIELD(node_view, silent_ms, CODEC_U64),
    CODEC_FIELD(node_view, used_slots, CODEC_U32),
    CODEC_FIELD(node_view, jobs, CODEC_STRLIST, .size = NODE_JOBS_MAX),
};
CODEC_DEFINE(node_view_codec, node_view, "node view", node_view_fields);

static const struct codec_field node_list_fields[] = {
    CODEC_FIELD(node_list, revision, CODEC_U64, .required = true),
    CODEC_LIST_OF(node_list, nodes, node_view_codec, TIDE_NODES_MAX),
};
CODEC_DEFINE(node_list_codec, node_list, "node list", node_list_fields);

static const struct codec_field member_view_fields[] = {
    CODEC_FIELD(member_view, id, CODEC_U64, .required = true),
    CODEC_TEXT_OF(member_view, address),
    CODEC_TEXT_OF(member_view, peer),
    CODEC_FIELD(member_view, leader, CODEC_BOOL),
    CODEC_FIELD(member_view, learner, CODEC_BOOL),
    CODEC_TEXT_OF(member_view, role),
    CODEC_FIELD(member_view, term, CODEC_U64),
    CODEC_FIELD(member_view, commit_index, CODEC_U64),
    CODEC_FIELD(member_view, applied_index, CODEC_U64),
    CODEC_FIELD(member_view, match_index, CODEC_U64),
    CODEC_FIELD(member_view, lag, CODEC_U64),
    CODEC_TEXT_OF(member_view, replication),
    CODEC_FIELD(member_view, contact_ms, CODEC_U64),
    CODEC_FIELD(member_view, queued_bytes, CODEC_U64),
    CODEC_FIELD(member_view, log_bytes, CODEC_U64),
    CODEC_FIELD(member_view, snapshot_index, CODEC_U64),
    CODEC_FIELD(member_view, free_bytes, CODEC_U64),
    CODEC_FIELD(member_view, sync_us, CODEC_U64),
    CODEC_FIELD(member_view, sync_age_ms, CODEC_U64),
    CODEC_FIELD(member_view, level, CODEC_U32),
    CODEC_FIELD(member_view, turn_us_max, CODEC_U64),
    CODEC_TEXT_OF(member_view, error),
};
CODEC_DEFINE(member_view_codec, member_view, "member", member_view_fields);

static const struct codec_field cluster_view_fields[] = {
    CODEC_TEXT_OF(cluster_view, cluster, .required = true),
    CODEC_TEXT_OF(cluster_view, version),
    CODEC_TEXT_OF(cluster_view, epoch),
    CODEC_FIELD(cluster_view, revision, CODEC_U64),
    CODEC_FIELD(cluster_view, uptime_ms, CODEC_U64),
    CODEC_FIELD(cluster_view, lease_ms, CODEC_U64),
    CODEC_FIELD(cluster_view, heartbeat_ms, CODEC_U64),
    CODEC_FIELD(cluster_view, level, CODEC_U32),
    CODEC_FIELD(cluster_view, level_newest, CODEC_U32),
    CODEC_TEXT_OF(cluster_view, store),
    CODEC_FIELD(cluster_view, nodes_ready, CODEC_U32),
    CODEC_FIELD(cluster_view, nodes_lost, CODEC_U32),
    CODEC_FIELD(cluster_view, nodes_drained, CODEC_U32),
    CODEC_FIELD(cluster_view, jobs_active, CODEC_U32),
    CODEC_FIELD(cluster_view, jobs_total, CODEC_U32),
    CODEC_LIST_OF(cluster_view, members, member_view_codec, MEMBERS_MAX),
};
CODEC_DEFINE(cluster_view_codec, cluster_view, "cluster", cluster_view_fields);

static const struct codec_field outcome_fields[] = {
    CODEC_NAME_OF(outcome, job),
    CODEC_TEXT_OF(outcome, uid),
    CODEC_FIELD(outcome, revision, CODEC_U64),
    CODEC_FIELD(outcome, cut, CODEC_U64),
    CODEC_FIELD(outcome, generation, CODEC_U64),
    CODEC_TEXT_OF(outcome, text),
};
CODEC_DEFINE(outcome_codec, outcome, "outcome", outcome_fields);

static const struct codec_field rollback_fields[] = {
    CODEC_FIELD(rollback_request, to, CODEC_U64),
    CODEC_FIELD(rollback_request, steps, CODEC_U64),
};
CODEC_DEFINE(rollback_request_codec, rollback_request, "rollback request", rollback_fields);

static const struct codec_field pin_fields[] = {
    CODEC_FIELD(pin_request, for_ms, CODEC_U64),
};
CODEC_DEFINE(pin_request_codec, pin_request, "pin request", pin_fields);

static const struct codec_field import_fields[] = {
    CODEC_NAME_OF(ckpt_import, job, .required = true),
    CODEC_TEXT_OF(ckpt_import, uid, .required = true),
    CODEC_FIELD(ckpt_import, cut, CODEC_U64, .required = true),
    CODEC_FIELD(ckpt_import, generation, CODEC_U64, .required = true),
    CODEC_FIELD(ckpt_import, step, CODEC_U64, .required = true),
    CODEC_FIELD(ckpt_import, world_size, CODEC_U32, .required = true),
    CODEC_TEXT_OF(ckpt_import, key, .required = true),
    CODEC_TEXT_OF(ckpt_import, digest, .required = true),
    CODEC_FIELD(ckpt_import, raw_bytes, CODEC_U64),
    CODEC_FIELD(ckpt_import, stored_bytes, CODEC_U64),
    CODEC_TEXT_OF(ckpt_import, store, .required = true),
    CODEC_FIELD(ckpt_import, verified, CODEC_BOOL),
};
CODEC_DEFINE(ckpt_import_codec, ckpt_import, "import", import_fields);

static const struct codec_field transfer_fields[] = {
    CODEC_FIELD(transfer_request, to, CODEC_U64),
};
CODEC_DEFINE(transfer_request_codec, transfer_request, "transfer request", transfer_fields);
