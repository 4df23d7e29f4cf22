/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/wire/job.h"

#include <string.h>

static const char *const launcher_names[] = {"pmix", "none", NULL};
static const char *const copies_names[] = {"peer", "none", NULL};
const char *const cut_mode_names[] = {"auto", "step", "free", NULL};
const char *const record_copy_names[] = {"plain", "on_write", "refused", NULL};

#define X(symbol, name) name,
const char *const job_state_names[] = {TIDE_JOB_STATE_MAP(X) NULL};
const char *const ckpt_state_names[] = {TIDE_CKPT_STATE_MAP(X) NULL};
#undef X

const char *const event_kind_names[] = {"submitted", "waiting",     "launched",   "running",   "stepping",
                                        "rank_exited", "node_lost", "fenced",     "cut_opened", "cut_rearmed",
                                        "cut_aborted", "sealed",    "committed",  "corrupt",   "dropped",
                                        "rollback",    "cancel",    "finished",   "store_failed", "note",
                                        "cut_void", "kept", "condemned", "node_health", "peered", "unpeered", NULL};

static const struct codec_field spec_fields[] = {
    CODEC_NAME_OF(job_spec, name, .required = true),
    CODEC_FIELD(job_spec, argv, CODEC_STRLIST, .size = TIDE_ARGS_MAX, .required = true),
    CODEC_FIELD(job_spec, env, CODEC_STRLIST, .size = TIDE_ARGS_MAX),
    CODEC_TEXT_OF(job_spec, cwd),
    CODEC_FIELD(job_spec, nnodes, CODEC_U32),
    CODEC_FIELD(job_spec, spares, CODEC_U32),
    CODEC_FIELD(job_spec, nproc_per_node, CODEC_U32),
    CODEC_ENUM_OF(job_spec, launcher, launcher_names),
    CODEC_FIELD(job_spec, ckpt_every_ms, CODEC_U64),
    CODEC_FIELD(job_spec, ckpt_keep, CODEC_U32),
    CODEC_FIELD(job_spec, ckpt_keep_every, CODEC_U32),
    CODEC_FIELD(job_spec, ckpt_keep_every_ms, CODEC_U64),
    CODEC_FIELD(job_spec, ckpt_grace_ms, CODEC_U64),
    CODEC_TEXT_OF(job_spec, store),
    CODEC_FIELD(job_spec, max_restarts, CODEC_U32),
    CODEC_FIELD(job_spec, stop_grace_ms, CODEC_U64),
    CODEC_FIELD(job_spec, cut_deadline_ms, CODEC_U64),
    CODEC_FIELD(job_spec, start_deadline_ms, CODEC_U64),
    CODEC_ENUM_OF(job_spec, cut_mode, cut_mode_names),
    CODEC_TEXT_OF(job_spec, restore_from),
    CODEC_FIELD(job_spec, elastic_min, CODEC_U32),
    CODEC_FIELD(job_spec, elastic_max, CODEC_U32),
    CODEC_ENUM_OF(job_spec, copies, copies_names),
};
CODEC_DEFINE(job_spec_codec, job_spec, "job spec", spec_fields);

static const struct codec_field ckpt_fields[] = {
    CODEC_FIELD(ckpt, cut, CODEC_U64, .required = true),
    CODEC_FIELD(ckpt, generation, CODEC_U64),
    CODEC_FIELD(ckpt, attempt, CODEC_U32),
    CODEC_ENUM_OF(ckpt, state, ckpt_state_names, .required = true),
    CODEC_FIELD(ckpt, step, CODEC_U64),
    CODEC_FIELD(ckpt, epoch, CODEC_U64),
    CODEC_ENUM_OF(ckpt, mode, cut_mode_names),
    CODEC_FIELD(ckpt, attempt_void, CODEC_BOOL),
    CODEC_FIELD(ckpt, by_hand, CODEC_BOOL),
    CODEC_FIELD(ckpt, opened_ms, CODEC_U64),
    CODEC_FIELD(ckpt, sealed_ms, CODEC_U64),
    CODEC_FIELD(ckpt, committed_ms, CODEC_U64),
    CODEC_FIELD(ckpt, raw_bytes, CODEC_U64),
    CODEC_FIELD(ckpt, stored_bytes, CODEC_U64),
    CODEC_FIELD(ckpt, stall_us, CODEC_U64),
    CODEC_FIELD(ckpt, logged, CODEC_U64),
    CODEC_FIELD(ckpt, logged_bytes, CODEC_U64),
    CODEC_ENUM_OF(ckpt, copy, record_copy_names),
    CODEC_FIELD(ckpt, copy_ms, CODEC_U64),
    CODEC_TEXT_OF(ckpt, manifest),
    CODEC_TEXT_OF(ckpt, manifest_key),
    CODEC_FIELD(ckpt, pinned, CODEC_BOOL),
    CODEC_FIELD(ckpt, imported, CODEC_BOOL),
    CODEC_FIELD(ckpt, inherited, CODEC_BOOL),
    CODEC_FIELD(ckpt, memory_only, CODEC_BOOL),
    CODEC_FIELD(ckpt, held_until_ms, CODEC_U64),
    CODEC_FIELD(ckpt, unwanted, CODEC_BOOL),
    CODEC_FIELD(ckpt, given_up, CODEC_BOOL),
    CODEC_FIELD(ckpt, condemned_ms, CODEC_U64),
    CODEC_FIELD(ckpt, world_size, CODEC_U32),
    CODEC_FIELD(ckpt, nodes, CODEC_STRLIST, .size = TIDE_NODES_MAX),
    CODEC_FIELD(ckpt, peers, CODEC_STRLIST, .size = TIDE_NODES_MAX),
    CODEC_TEXT_OF(ckpt, reason),
};
CODEC_DEFINE(ckpt_codec, ckpt, "checkpoint", ckpt_fields);

static const struct codec_field event_fields[] = {
    CODEC_FIELD(event, revision, CODEC_U64, .required = true),
    CODEC_FIELD(event, at_ms, CODEC_U64),
    CODEC_ENUM_OF(event, kind, event_kind_names, .required = true),
    CODEC_FIELD(event, generation, CODEC_U64),
    CODEC_FIELD(event, cut, CODEC_U64),
    CODEC_NAME_OF(event, node),
    CODEC_FIELD(event, rank, CODEC_I32),
    CODEC_TEXT_OF(event, text),
};
CODEC_DEFINE(event_codec, event, "event", event_fields);

static const struct codec_field recovery_fields[] = {
    CODEC_FIELD(recovery, generation, CODEC_U64, .required = true),
    CODEC_ENUM_OF(recovery, cause, event_kind_names, .required = true),
    CODEC_NAME_OF(recovery, node),
    CODEC_FIELD(recovery, rank, CODEC_I32),
    CODEC_TEXT_OF(recovery, text),
    CODEC_FIELD(recovery, at_ms, CODEC_U64),
    CODEC_FIELD(recovery, detect_ms, CODEC_U64),
    CODEC_FIELD(recovery, fence_ms, CODEC_U64),
    CODEC_FIELD(recovery, start_ms, CODEC_U64),
    CODEC_FIELD(recovery, restore_ms, CODEC_U64),
    CODEC_FIELD(recovery, total_ms, CODEC_U64),
    CODEC_FIELD(recovery, cut, CODEC_U64),
    CODEC_FIELD(recovery, from_step, CODEC_U64),
    CODEC_FIELD(recovery, to_step, CODEC_U64),
};
CODEC_DEFINE(recovery_codec, recovery, "recovery", recovery_fields);

static const struct codec_field origin_fields[] = {
    CODEC_TEXT_OF(job_origin, job),
    CODEC_TEXT_OF(job_origin, uid),
    CODEC_FIELD(job_origin, cut, CODEC_U64),
    CODEC_TEXT_OF(job_origin, store),
};
CODEC_DEFINE(job_origin_codec, job_origin, "origin", origin_fields);

static const struct codec_field job_fields[] = {
    CODEC_TEXT_OF(job, uid, .required = true),
    CODEC_FIELD(job, spec, CODEC_STRUCT, .of = &job_spec_codec, .required = true),
    CODEC_ENUM_OF(job, state, job_state_names, .required = true),
    CODEC_FIELD(job, generation, CODEC_U64),
    CODEC_FIELD(job, nodes, CODEC_STRLIST, .size = TIDE_NODES_MAX),
    CODEC_FIELD(job, spares, CODEC_STRLIST, .size = TIDE_NODES_MAX),
    CODEC_FIELD(job, restore_cut, CODEC_U64),
    CODEC_FIELD(job, next_cut, CODEC_U64),
    CODEC_FIELD(job, restarts, CODEC_U32),
    CODEC_FIELD(job, submitted_ms, CODEC_U64),
    CODEC_FIELD(job, started_ms, CODEC_U64),
    CODEC_FIELD(job, ended_ms, CODEC_U64),
    CODEC_FIELD(job, exit_status, CODEC_I32),
    CODEC_FIELD(job, epoch, CODEC_U64),
    CODEC_FIELD(job, epoch_go, CODEC_U64),
    CODEC_FIELD(job, epoch_settled, CODEC_U64),
    CODEC_FIELD(job, epoch_closed, CODEC_U64),
    CODEC_FIELD(job, all_started, CODEC_BOOL),
    CODEC_FIELD(job, all_stepped, CODEC_BOOL),
    CODEC_TEXT_OF(job, reason),
    CODEC_FIELD(job, origin, CODEC_STRUCT, .of = &job_origin_codec),
    CODEC_LIST_OF(job, ckpts, ckpt_codec, TIDE_CKPTS_MAX),
    CODEC_LIST_OF(job, recoveries, recovery_codec, RECOVERIES_MAX),
    CODEC_LIST_OF(job, events, event_codec, TIDE_EVENTS_MAX),
};
CODEC_DEFINE(job_codec, job, "job", job_fields);

/* JSON carries nothing else; it would be left out without a word. */
static bool is_utf8(const char *text)
{
    json_t *json = json_string(text);
    json_decref(json);
    return json != NULL;
}

static enum tide_status check_text(const struct job_spec *spec, struct err *err)
{
    for (size_t i = 0; i < spec->argv.count; i++)
        if (!is_utf8(spec->argv.items[i]))
            return err_set(err, TIDE_E_INVALID, "job spec: word %zu of the command is not UTF-8; rename what it names", i);
    for (size_t i = 0; i < spec->env.count; i++)
        if (!is_utf8(spec->env.items[i]))
            return err_set(err, TIDE_E_INVALID, "job spec: environment entry %zu is not UTF-8", i);
    if (!is_utf8(spec->cwd) || !is_utf8(spec->store))
        return err_set(err, TIDE_E_INVALID, "job spec: %s is not UTF-8; rename the directory",
                       is_utf8(spec->cwd) ? "the store's address" : "the working directory");
    return TIDE_OK;
}

static enum tide_status check_env(const struct strlist *env, struct err *err)
{
    for (size_t i = 0; i < env->count; i++) {
        const char *equals = strchr(env->items[i], '=');
        if (equals == NULL || equals == env->items[i])
            return err_set(err, TIDE_E_INVALID, "job spec: environment entry \"%.64s\" is not NAME=value", env->items[i]);
    }
    return TIDE_OK;
}

static enum tide_status check_sizes(const struct job_spec *spec, struct err *err)
{
    if (spec->argv.count == 0 || spec->argv.items[0][0] == '\0')
        return err_set(err, TIDE_E_INVALID, "job spec: no command; put it behind --");
    for (size_t i = 0; i < spec->argv.count; i++)
        if (strlen(spec->argv.items[i]) > TIDE_ARG_BYTES_MAX)
            return err_set(err, TIDE_E_LIMIT, "job spec: argument %zu is longer than %d bytes", i, TIDE_ARG_BYTES_MAX);
    if (spec->nproc_per_node > TIDE_LOCAL_RANKS_MAX)
        return err_set(err, TIDE_E_LIMIT, "job spec: nproc_per_node is %u; at most %d ranks fit on a node",
                       spec->nproc_per_node, TIDE_LOCAL_RANKS_MAX);
    if (spec->nnodes > TIDE_NODES_MAX || spec->spares > TIDE_NODES_MAX)
        return err_set(err, TIDE_E_LIMIT, "job spec: more than %d nodes or spares", TIDE_NODES_MAX);
    if (spec->cwd[0] != '\0' && spec->cwd[0] != '/')
        return err_set(err, TIDE_E_INVALID, "job spec: cwd \"%s\" must be an absolute path", spec->cwd);
    return TIDE_OK;
}

static void fill_defaults(struct job_spec *spec)
{
    if (spec->nnodes == 0)
        spec->nnodes = 1;
    if (spec->nproc_per_node == 0)
        spec->nproc_per_node = 1;
    if (spec->ckpt_keep == 0)
        spec->ckpt_keep = SPEC_CKPT_KEEP_DEFAULT;
    if (spec->stop_grace_ms == 0)
        spec->stop_grace_ms = SPEC_STOP_GRACE_MS_DEFAULT;
    if (spec->cut_deadline_ms == 0)
        spec->cut_deadline_ms = SPEC_CUT_DEADLINE_MS_DEFAULT;
    if (spec->start_deadline_ms == 0)
        spec->start_deadline_ms = SPEC_START_DEADLINE_MS_DEFAULT;
}

/* Nodes have all ranks or none, so that what lies between is not possible. */
static enum tide_status check_elastic(const struct job_spec *spec, struct err *err)
{
    uint32_t min = spec->elastic_min, max = spec->elastic_max, each = spec->nproc_per_node;
    if (min == 0 && max == 0)
        return TIDE_OK;
    uint64_t now = (uint64_t)spec->nnodes * each;
    if (min == 0 || max < min || max > TIDE_RANKS_MAX || max / each > TIDE_NODES_MAX)
        return err_set(err, TIDE_E_INVALID, "job spec: elastic from %u to %u ranks: write 1 to %d, the smaller one first", min, max,
                       TIDE_RANKS_MAX);
    if (min % each != 0 || max % each != 0)
        return err_set(err, TIDE_E_INVALID,
                       "job spec: elastic from %u to %u ranks: a node runs %u ranks or none, so both must be multiples of that", min, max,
                       each);
    if (now < min || now > max)
        return err_set(err, TIDE_E_INVALID, "job spec: %u nodes with %u ranks each are not within %u to %u ranks", spec->nnodes, each, min,
                       max);
    return TIDE_OK;
}

enum tide_status job_spec_check(struct job_spec *spec, struct err *err)
{
    enum tide_status status = check_sizes(spec, err);
    if (status == TIDE_OK)
        status = check_text(spec, err);
    if (status == TIDE_OK)
        status = check_env(&spec->env, err);
    if (status != TIDE_OK)
        return status;
    fill_defaults(spec);
    return check_elastic(spec, err);
}

struct ckpt *job_ckpt(const struct job *job, uint64_t cut)
{
    for (size_t i = 0; i < job->ckpts.count; i++)
        if (job->ckpts.items[i].cut == cut)
            return &job->ckpts.items[i];
    return NULL;
}
