/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/link.h"

#include <string.h>

#include "ckpt/base/mem.h"

static const char *const mesh_kind_names[] = {"fence", "fence_ack", "modex_ask", "modex_reply", "share_ask", "share_reply",
                                              "marks_ask", "marks", NULL};
static const char *const line_kind_names[] = {"status", "nudge", "mesh", "answer", "end", "leave", "go_over", "widen", NULL};

static const struct codec_field spec_fields[] = {
    CODEC_FIELD(step_spec, job, CODEC_STRUCT, .of = &job_spec_codec, .required = true),
    CODEC_TEXT_OF(step_spec, uid, .required = true),
    CODEC_FIELD(step_spec, generation, CODEC_U64, .required = true),
    CODEC_FIELD(step_spec, born, CODEC_U64),
    CODEC_NAME_OF(step_spec, node, .required = true),
    CODEC_TEXT_OF(step_spec, host),
    CODEC_TEXT_OF(step_spec, address),
    CODEC_FIELD(step_spec, node_rank, CODEC_U32),
    CODEC_LIST_OF(step_spec, peers, peer_codec, TIDE_NODES_MAX),
    CODEC_TEXT_OF(step_spec, token, .required = true),
    CODEC_TEXT_OF(step_spec, master_address),
    CODEC_FIELD(step_spec, master_port, CODEC_U32),
    CODEC_FIELD(step_spec, restarts, CODEC_U32),
    CODEC_TEXT_OF(step_spec, dir, .required = true),
    CODEC_TEXT_OF(step_spec, arena, .required = true),
    CODEC_FIELD(step_spec, arena_bytes_max, CODEC_U64),
    CODEC_TEXT_OF(step_spec, logs, .required = true),
    CODEC_FIELD(step_spec, log_bytes_max, CODEC_U64),
    CODEC_TEXT_OF(step_spec, cgroup),
};
CODEC_DEFINE(step_spec_codec, step_spec, "step spec", spec_fields);

static const struct codec_field ask_fields[] = {
    CODEC_FIELD(step_ask, rank, CODEC_U32, .required = true),
    CODEC_FIELD(step_ask, attempt, CODEC_U32),
    CODEC_FIELD(step_ask, bad_slot, CODEC_I32),
    CODEC_TEXT_OF(step_ask, bad_detail),
};
CODEC_DEFINE(step_ask_codec, step_ask, "restore question", ask_fields);

static const struct codec_field status_fields[] = {
    CODEC_TEXT_OF(step_status, uid),
    CODEC_FIELD(step_status, generation, CODEC_U64),
    CODEC_FIELD(step_status, pid, CODEC_I32),
    CODEC_FIELD(step_status, started, CODEC_BOOL),
    CODEC_FIELD(step_status, left, CODEC_BOOL),
    CODEC_FIELD(step_status, ended, CODEC_BOOL),
    CODEC_TEXT_OF(step_status, detail),
    CODEC_LIST_OF(step_status, ranks, rank_report_codec, TIDE_LOCAL_RANKS_MAX),
    CODEC_LIST_OF(step_status, asks, step_ask_codec, TIDE_LOCAL_RANKS_MAX),
};
CODEC_DEFINE(step_status_codec, step_status, "step status", status_fields);

static const struct codec_field frame_fields[] = {
    CODEC_TEXT_OF(mesh_frame, uid),
    CODEC_FIELD(mesh_frame, generation, CODEC_U64),
    CODEC_TEXT_OF(mesh_frame, token),
    CODEC_FIELD(mesh_frame, from, CODEC_U32),
    CODEC_FIELD(mesh_frame, to, CODEC_U32),
    CODEC_ENUM_OF(mesh_frame, kind, mesh_kind_names),
    CODEC_FIELD(mesh_frame, id, CODEC_U64),
    CODEC_FIELD(mesh_frame, sequence, CODEC_U64),
    CODEC_FIELD(mesh_frame, rank, CODEC_U32),
    CODEC_FIELD(mesh_frame, status, CODEC_I32),
    CODEC_FIELD(mesh_frame, data, CODEC_STRING, .size = MESH_DATA_MAX),
};
CODEC_DEFINE(mesh_frame_codec, mesh_frame, "mesh frame", frame_fields);

static const struct codec_field answer_fields[] = {
    CODEC_FIELD(step_answer, rank, CODEC_U32),
    CODEC_FIELD(step_answer, attempt, CODEC_U32),
    CODEC_FIELD(step_answer, result, CODEC_U32),
    CODEC_FIELD(step_answer, slot, CODEC_U32),
    CODEC_FIELD(step_answer, tier, CODEC_U32),
    CODEC_FIELD(step_answer, status, CODEC_U32),
    CODEC_FIELD(step_answer, cut, CODEC_U64),
    CODEC_TEXT_OF(step_answer, text),
};
CODEC_DEFINE(step_answer_codec, step_answer, "restore answer", answer_fields);

static const struct codec_field line_fields[] = {
    CODEC_ENUM_OF(step_line, kind, line_kind_names, .required = true),
    CODEC_FIELD(step_line, generation, CODEC_U64),
    CODEC_FIELD(step_line, grace_ms, CODEC_U64),
    CODEC_FIELD(step_line, status, CODEC_STRUCT, .of = &step_status_codec),
    CODEC_FIELD(step_line, answer, CODEC_STRUCT, .of = &step_answer_codec),
    CODEC_FIELD(step_line, frame, CODEC_STRUCT, .of = &mesh_frame_codec),
};
CODEC_DEFINE(step_line_codec, step_line, "step line", line_fields);

struct mesh_frame mesh_frame_to(const struct step_spec *spec, uint32_t node, enum mesh_kind kind)
{
    struct mesh_frame frame = {.generation = spec->generation, .from = spec->node_rank, .to = node, .kind = kind};
    text_copy(frame.uid, sizeof frame.uid, spec->uid);
    text_copy(frame.token, sizeof frame.token, spec->token);
    return frame;
}

bool mesh_frame_is_for(const struct step_spec *spec, const struct mesh_frame *frame)
{
    if (strcmp(frame->uid, spec->uid) != 0 || frame->generation != spec->generation ||
        strcmp(frame->token, spec->token) != 0)
        return false;
    return frame->to == spec->node_rank && frame->from < spec->peers.count && frame->from != spec->node_rank;
}
