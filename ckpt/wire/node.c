/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/wire/node.h"

#define X(symbol, name) name,
const char *const node_state_names[] = {TIDE_NODE_STATE_MAP(X) NULL};
const char *const rank_state_names[] = {TIDE_RANK_STATE_MAP(X) NULL};
#undef X
static const char *const cut_progress_names[] = {"armed", "missed", "recorded", "failed", "passed", "early", "copied", NULL};
static const char *const shard_progress_names[] = {"stored", "failed", NULL};
static const char *const gen_progress_names[] = {"starting", "running", "stopping", "gone", NULL};
static const char *const cut_phase_names[] = {"none", "record", "store", "commit", "arm", "sum", NULL};
static const char *const run_order_names[] = {"start", "stop", "kill", NULL};

static const struct codec_field node_fields[] = {
    CODEC_NAME_OF(node, name, .required = true),
    CODEC_TEXT_OF(node, uid, .required = true),
    CODEC_TEXT_OF(node, incarnation),
    CODEC_ENUM_OF(node, state, node_state_names, .required = true),
    CODEC_FIELD(node, cordoned, CODEC_BOOL),
    CODEC_TEXT_OF(node, host),
    CODEC_TEXT_OF(node, address),
    CODEC_FIELD(node, mesh_port, CODEC_U32),
    CODEC_FIELD(node, log_port, CODEC_U32),
    CODEC_TEXT_OF(node, pin),
    CODEC_FIELD(node, slots, CODEC_U32),
    CODEC_NAME_OF(node, domain),
    CODEC_FIELD(node, registered_ms, CODEC_U64),
    CODEC_FIELD(node, changed_ms, CODEC_U64),
    CODEC_TEXT_OF(node, reason),
    CODEC_FIELD(node, unfit, CODEC_BOOL),
    CODEC_FIELD(node, unfit_ms, CODEC_U64),
    CODEC_FIELD(node, spared, CODEC_BOOL),
    CODEC_ENUM_OF(node, health, health_names),
    CODEC_FIELD(node, forgiven, CODEC_U64),
    CODEC_TEXT_OF(node, boot),
    CODEC_LIST_OF(node, evidence, health_fact_codec, HEALTH_FACTS_MAX),
};
CODEC_DEFINE(node_codec, node, "node", node_fields);

static const struct codec_field hello_fields[] = {
    CODEC_NAME_OF(node_hello, name, .required = true),
    CODEC_TEXT_OF(node_hello, uid, .required = true),
    CODEC_TEXT_OF(node_hello, incarnation, .required = true),
    CODEC_TEXT_OF(node_hello, host),
    CODEC_TEXT_OF(node_hello, address, .required = true),
    CODEC_FIELD(node_hello, mesh_port, CODEC_U32),
    CODEC_FIELD(node_hello, log_port, CODEC_U32),
    CODEC_TEXT_OF(node_hello, pin),
    CODEC_FIELD(node_hello, slots, CODEC_U32, .required = true),
    CODEC_NAME_OF(node_hello, domain),
};
CODEC_DEFINE(node_hello_codec, node_hello, "registration", hello_fields);

static const struct codec_field welcome_fields[] = {
    CODEC_TEXT_OF(node_welcome, cluster, .required = true),
    CODEC_FIELD(node_welcome, heartbeat_ms, CODEC_U64),
    CODEC_FIELD(node_welcome, lease_ms, CODEC_U64),
    CODEC_FIELD(node_welcome, health_serial, CODEC_U64),
};
CODEC_DEFINE(node_welcome_codec, node_welcome, "welcome", welcome_fields);

static const struct codec_field rank_report_fields[] = {
    CODEC_FIELD(rank_report, rank, CODEC_U32, .required = true),
    CODEC_ENUM_OF(rank_report, state, rank_state_names, .required = true),
    CODEC_FIELD(rank_report, pid, CODEC_I32),
    CODEC_FIELD(rank_report, born, CODEC_U64),
    CODEC_FIELD(rank_report, step, CODEC_U64),
    CODEC_FIELD(rank_report, stepped, CODEC_BOOL),
    CODEC_FIELD(rank_report, attached, CODEC_BOOL),
    CODEC_FIELD(rank_report, exit_code, CODEC_I32),
    CODEC_FIELD(rank_report, signal, CODEC_I32),
    CODEC_FIELD(rank_report, exec_failed, CODEC_BOOL),
    CODEC_FIELD(rank_report, exited_ago_ms, CODEC_U64),
    CODEC_FIELD(rank_report, restore_us, CODEC_U64),
    CODEC_FIELD(rank_report, restored_cut, CODEC_U64),
    CODEC_FIELD(rank_report, coloured, CODEC_BOOL),
    CODEC_FIELD(rank_report, epoch, CODEC_U64),
    CODEC_FIELD(rank_report, polling, CODEC_U64),
    CODEC_FIELD(rank_report, ended, CODEC_U64),
    CODEC_FIELD(rank_report, left, CODEC_BOOL),
    CODEC_FIELD(rank_report, quiet, CODEC_BOOL),
    CODEC_FIELD(rank_report, sent, CODEC_U64),
    CODEC_FIELD(rank_report, arrived, CODEC_U64),
    CODEC_ENUM_OF(rank_report, cut_mode, cut_mode_names),
    CODEC_FIELD(rank_report, slots, CODEC_U32),
    CODEC_TEXT_OF(rank_report, tier),
    CODEC_TEXT_OF(rank_report, detail),
};
CODEC_DEFINE(rank_report_codec, rank_report, "rank report", rank_report_fields);

static const struct codec_field cut_report_fields[] = {
    CODEC_FIELD(cut_report, cut, CODEC_U64, .required = true),
    CODEC_FIELD(cut_report, attempt, CODEC_U32),
    CODEC_FIELD(cut_report, rank, CODEC_U32, .required = true),
    CODEC_ENUM_OF(cut_report, progress, cut_progress_names, .required = true),
    CODEC_FIELD(cut_report, step, CODEC_U64),
    CODEC_FIELD(cut_report, bytes, CODEC_U64),
    CODEC_FIELD(cut_report, stall_us, CODEC_U64),
    CODEC_FIELD(cut_report, collectives, CODEC_U64),
    CODEC_FIELD(cut_report, logged, CODEC_U64),
    CODEC_FIELD(cut_report, logged_bytes, CODEC_U64),
    CODEC_ENUM_OF(cut_report, copy, record_copy_names),
    CODEC_FIELD(cut_report, copy_us, CODEC_U64),
    CODEC_TEXT_OF(cut_report, digest),
    CODEC_TEXT_OF(cut_report, detail),
};
CODEC_DEFINE(cut_report_codec, cut_report, "cut report", cut_report_fields);

static const struct codec_field comm_report_fields[] = {
    CODEC_FIELD(comm_report, cut, CODEC_U64, .required = true),
    CODEC_FIELD(comm_report, attempt, CODEC_U32),
    CODEC_TEXT_OF(comm_report, id, .required = true),
    CODEC_TEXT_OF(comm_report, name),
    CODEC_FIELD(comm_report, collectives, CODEC_U64),
    CODEC_FIELD(comm_report, size, CODEC_U32),
    CODEC_FIELD(comm_report, ranks, CODEC_U32),
    CODEC_FIELD(comm_report, rank, CODEC_U32),
    CODEC_FIELD(comm_report, sent, CODEC_U64),
    CODEC_FIELD(comm_report, received, CODEC_U64),
    CODEC_FIELD(comm_report, balance, CODEC_U64),
};
CODEC_DEFINE(comm_report_codec, comm_report, "communicator report", comm_report_fields);

static const struct codec_field op_report_fields[] = {
    CODEC_FIELD(op_report, rank, CODEC_U32, .required = true),
    CODEC_TEXT_OF(op_report, id, .required = true),
    CODEC_TEXT_OF(op_report, name),
    CODEC_FIELD(op_report, member, CODEC_U32),
    CODEC_FIELD(op_report, size, CODEC_U32),
    CODEC_FIELD(op_report, begun, CODEC_U64),
    CODEC_FIELD(op_report, reached, CODEC_U64),
    CODEC_FIELD(op_report, unreached, CODEC_U64),
    CODEC_FIELD(op_report, done, CODEC_U64),
    CODEC_FIELD(op_report, undone, CODEC_U64),
    CODEC_FIELD(op_report, messages, CODEC_BOOL),
    CODEC_FIELD(op_report, recording, CODEC_BOOL),
};
CODEC_DEFINE(op_report_codec, op_report, "operation report", op_report_fields);

static const struct codec_field shard_report_fields[] = {
    CODEC_FIELD(shard_report, cut, CODEC_U64, .required = true),
    CODEC_FIELD(shard_report, rank, CODEC_U32, .required = true),
    CODEC_ENUM_OF(shard_report, progress, shard_progress_names, .required = true),
    CODEC_TEXT_OF(shard_report, key),
    CODEC_TEXT_OF(shard_report, digest),
    CODEC_FIELD(shard_report, raw_bytes, CODEC_U64),
    CODEC_FIELD(shard_report, stored_bytes, CODEC_U64),
    CODEC_TEXT_OF(shard_report, detail),
};
CODEC_DEFINE(shard_report_codec, shard_report, "shard report", shard_report_fields);

static const struct codec_field manifest_report_fields[] = {
    CODEC_FIELD(manifest_report, cut, CODEC_U64, .required = true),
    CODEC_ENUM_OF(manifest_report, progress, shard_progress_names, .required = true),
    CODEC_TEXT_OF(manifest_report, key),
    CODEC_TEXT_OF(manifest_report, digest),
    CODEC_TEXT_OF(manifest_report, detail),
};
CODEC_DEFINE(manifest_report_codec, manifest_report, "manifest report", manifest_report_fields);

static const struct codec_field held_report_fields[] = {
    CODEC_FIELD(held_report, cut, CODEC_U64, .required = true),
    CODEC_FIELD(held_report, rank, CODEC_U32, .required = true),
    CODEC_TEXT_OF(held_report, digest),
};
CODEC_DEFINE(held_report_codec, held_report, "held report", held_report_fields);

static const struct codec_field restore_failure_fields[] = {
    CODEC_FIELD(restore_failure, cut, CODEC_U64, .required = true),
    CODEC_FIELD(restore_failure, rank, CODEC_U32, .required = true),
    CODEC_TEXT_OF(restore_failure, detail),
};
CODEC_DEFINE(restore_failure_codec, restore_failure, "restore failure", restore_failure_fields);

static const struct codec_field scrub_report_fields[] = {
    CODEC_FIELD(scrub_report, cut, CODEC_U64, .required = true),
    CODEC_FIELD(scrub_report, ago_ms, CODEC_U64),
    CODEC_FIELD(scrub_report, bytes, CODEC_U64),
    CODEC_FIELD(scrub_report, damaged, CODEC_BOOL),
    CODEC_TEXT_OF(scrub_report, detail),
};
CODEC_DEFINE(scrub_report_codec, scrub_report, "scrub report", scrub_report_fields);

/* Two generations of slots and a few cuts in the store at most; far above what a node reports. */
#define REPORTS_MAX (TIDE_LOCAL_RANKS_MAX * 16)

static const struct codec_field gen_report_fields[] = {
    CODEC_NAME_OF(gen_report, job, .required = true),
    CODEC_TEXT_OF(gen_report, uid, .required = true),
    CODEC_FIELD(gen_report, generation, CODEC_U64, .required = true),
    CODEC_ENUM_OF(gen_report, progress, gen_progress_names, .required = true),
    CODEC_TEXT_OF(gen_report, detail),
    CODEC_LIST_OF(gen_report, ranks, rank_report_codec, TIDE_LOCAL_RANKS_MAX),
    CODEC_LIST_OF(gen_report, cuts, cut_report_codec, REPORTS_MAX),
    CODEC_LIST_OF(gen_report, comms, comm_report_codec, COMM_REPORTS_MAX),
    CODEC_LIST_OF(gen_report, ops, op_report_codec, OPS_MAX * TIDE_LOCAL_RANKS_MAX),
    CODEC_FIELD(gen_report, hang_ms, CODEC_U64),
    CODEC_LIST_OF(gen_report, shards, shard_report_codec, REPORTS_MAX),
    CODEC_LIST_OF(gen_report, manifests, manifest_report_codec, REPORTS_MAX),
    CODEC_LIST_OF(gen_report, held, held_report_codec, REPORTS_MAX),
    CODEC_LIST_OF(gen_report, copies, held_report_codec, COPIES_MAX * TIDE_LOCAL_RANKS_MAX),
    CODEC_LIST_OF(gen_report, restore_failures, restore_failure_codec, REPORTS_MAX),
    CODEC_LIST_OF(gen_report, scrubs, scrub_report_codec, TIDE_CKPTS_MAX),
    CODEC_LIST_OF(gen_report, copy_failures, restore_failure_codec, COPIES_MAX),
    CODEC_FIELD(gen_report, purged, CODEC_STRLIST, .size = DELETIONS_MAX),
    CODEC_FIELD(gen_report, left, CODEC_STRLIST, .size = DELETIONS_MAX),
};
CODEC_DEFINE(gen_report_codec, gen_report, "generation report", gen_report_fields);

static const struct codec_field heartbeat_fields[] = {
    CODEC_NAME_OF(heartbeat, node, .required = true),
    CODEC_TEXT_OF(heartbeat, uid, .required = true),
    CODEC_TEXT_OF(heartbeat, incarnation, .required = true),
    CODEC_FIELD(heartbeat, sequence, CODEC_U64),
    CODEC_FIELD(heartbeat, format, CODEC_U32),
    CODEC_FIELD(heartbeat, keyed, CODEC_BOOL),
    CODEC_FIELD(heartbeat, health, CODEC_STRUCT, .of = &health_report_codec),
    CODEC_LIST_OF(heartbeat, jobs, gen_report_codec, NODE_JOBS_MAX),
};
CODEC_DEFINE(heartbeat_codec, heartbeat, "heartbeat", heartbeat_fields);

static const struct codec_field peer_fields[] = {
    CODEC_NAME_OF(peer, node, .required = true),
    CODEC_TEXT_OF(peer, host),
    CODEC_TEXT_OF(peer, address),
    CODEC_FIELD(peer, mesh_port, CODEC_U32),
    CODEC_FIELD(peer, log_port, CODEC_U32),
    CODEC_TEXT_OF(peer, pin),
};
CODEC_DEFINE(peer_codec, peer, "peer", peer_fields);

static const struct codec_field shard_ref_fields[] = {
    CODEC_FIELD(shard_ref, rank, CODEC_U32, .required = true),
    CODEC_TEXT_OF(shard_ref, key),
    CODEC_TEXT_OF(shard_ref, digest),
    CODEC_FIELD(shard_ref, raw_bytes, CODEC_U64),
    CODEC_FIELD(shard_ref, stored_bytes, CODEC_U64),
};
CODEC_DEFINE(shard_ref_codec, shard_ref, "shard reference", shard_ref_fields);

static const struct codec_field cut_order_fields[] = {
    CODEC_FIELD(cut_order, cut, CODEC_U64),
    CODEC_FIELD(cut_order, attempt, CODEC_U32),
    CODEC_ENUM_OF(cut_order, phase, cut_phase_names),
    CODEC_FIELD(cut_order, step, CODEC_U64),
    CODEC_FIELD(cut_order, epoch, CODEC_U64),
    CODEC_ENUM_OF(cut_order, mode, cut_mode_names),
    CODEC_FIELD(cut_order, generation, CODEC_U64),
    CODEC_LIST_OF(cut_order, shards, shard_ref_codec, TIDE_RANKS_MAX),
};
CODEC_DEFINE(cut_order_codec, cut_order, "cut order", cut_order_fields);

static const struct codec_field copy_order_fields[] = {
    CODEC_FIELD(copy_order, cut, CODEC_U64, .required = true),
    CODEC_FIELD(copy_order, node_rank, CODEC_U32, .required = true),
    CODEC_NAME_OF(copy_order, node),
    CODEC_TEXT_OF(copy_order, address),
    CODEC_FIELD(copy_order, port, CODEC_U32),
    CODEC_TEXT_OF(copy_order, pin),
};
CODEC_DEFINE(copy_order_codec, copy_order, "copy order", copy_order_fields);

static const struct codec_field epoch_order_fields[] = {
    CODEC_FIELD(epoch_order, go, CODEC_U64),
    CODEC_FIELD(epoch_order, flip, CODEC_U64),
    CODEC_FIELD(epoch_order, settled, CODEC_U64),
    CODEC_FIELD(epoch_order, closed, CODEC_U64),
};
CODEC_DEFINE(epoch_order_codec, epoch_order, "epochs", epoch_order_fields);

static const struct codec_field scrub_order_fields[] = {
    CODEC_FIELD(scrub_order, cut, CODEC_U64, .required = true),
    CODEC_TEXT_OF(scrub_order, manifest_key),
    CODEC_TEXT_OF(scrub_order, manifest),
};
CODEC_DEFINE(scrub_order_codec, scrub_order, "scrub order", scrub_order_fields);

static const struct codec_field assignment_fields[] = {
    CODEC_FIELD(assignment, spec, CODEC_STRUCT, .of = &job_spec_codec, .required = true),
    CODEC_TEXT_OF(assignment, uid, .required = true),
    CODEC_FIELD(assignment, generation, CODEC_U64, .required = true),
    CODEC_ENUM_OF(assignment, run, run_order_names, .required = true),
    CODEC_FIELD(assignment, node_rank, CODEC_U32),
    CODEC_LIST_OF(assignment, peers, peer_codec, TIDE_NODES_MAX),
    CODEC_TEXT_OF(assignment, token),
    CODEC_TEXT_OF(assignment, log_key),
    CODEC_TEXT_OF(assignment, master_address),
    CODEC_FIELD(assignment, master_port, CODEC_U32),
    CODEC_FIELD(assignment, restarts, CODEC_U32),
    CODEC_FIELD(assignment, started, CODEC_BOOL),
    CODEC_FIELD(assignment, ended, CODEC_BOOL),
    CODEC_FIELD(assignment, restore_cut, CODEC_U64),
    CODEC_FIELD(assignment, restore_generation, CODEC_U64),
    CODEC_FIELD(assignment, restore_world, CODEC_U32),
    CODEC_TEXT_OF(assignment, restore_manifest_key),
    CODEC_TEXT_OF(assignment, restore_manifest),
    CODEC_TEXT_OF(assignment, restore_store),
    CODEC_NAME_OF(assignment, restore_peer),
    CODEC_TEXT_OF(assignment, restore_peer_address),
    CODEC_FIELD(assignment, restore_peer_port, CODEC_U32),
    CODEC_TEXT_OF(assignment, restore_peer_pin),
    CODEC_LIST_OF(assignment, copies, copy_order_codec, COPIES_MAX),
    CODEC_FIELD(assignment, protect_cut, CODEC_U64),
    CODEC_FIELD(assignment, cut, CODEC_STRUCT, .of = &cut_order_codec),
    CODEC_FIELD(assignment, upload, CODEC_STRUCT, .of = &cut_order_codec),
    CODEC_FIELD(assignment, epochs, CODEC_STRUCT, .of = &epoch_order_codec),
    CODEC_FIELD(assignment, leave, CODEC_STRLIST, .size = DELETIONS_MAX),
    CODEC_FIELD(assignment, purge, CODEC_STRLIST, .size = DELETIONS_MAX),
    CODEC_FIELD(assignment, sweep_live, CODEC_STRLIST, .size = TIDE_CKPTS_MAX),
    CODEC_FIELD(assignment, sweep_over, CODEC_STRLIST, .size = TIDE_CKPTS_MAX),
    CODEC_FIELD(assignment, sweep_below, CODEC_U64),
    CODEC_TEXT_OF(assignment, store),
    CODEC_FIELD(assignment, share, CODEC_BOOL),
    CODEC_LIST_OF(assignment, scrub, scrub_order_codec, TIDE_CKPTS_MAX),
};
CODEC_DEFINE(assignment_codec, assignment, "assignment", assignment_fields);

static const struct codec_field desired_fields[] = {
    CODEC_TEXT_OF(desired, cluster, .required = true),
    CODEC_NAME_OF(desired, node, .required = true),
    CODEC_TEXT_OF(desired, incarnation),
    CODEC_FIELD(desired, revision, CODEC_U64, .required = true),
    CODEC_FIELD(desired, forgiven, CODEC_U64),
    CODEC_LIST_OF(desired, jobs, assignment_codec, NODE_JOBS_MAX),
};
CODEC_DEFINE(desired_codec, desired, "desired state", desired_fields);
