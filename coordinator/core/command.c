/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/core.h"

const char *const command_kind_names[] = {
#define X(symbol, name) name,
    COMMAND_MAP(X)
#undef X
        NULL};

static const struct codec_field command_fields[] = {
    CODEC_ENUM_OF(command, kind, command_kind_names, .required = true),
    CODEC_FIELD(command, at_ms, CODEC_U64),
    CODEC_TEXT_OF(command, request),
    CODEC_NAME_OF(command, job),
    CODEC_TEXT_OF(command, uid),
    CODEC_NAME_OF(command, node),
    CODEC_TEXT_OF(command, incarnation),
    CODEC_FIELD(command, generation, CODEC_U64),
    CODEC_FIELD(command, cut, CODEC_U64),
    CODEC_FIELD(command, step, CODEC_U64),
    CODEC_FIELD(command, epoch, CODEC_U64),
    CODEC_ENUM_OF(command, mode, cut_mode_names),
    CODEC_FIELD(command, misfit, CODEC_U32),
    CODEC_ENUM_OF(command, copy, record_copy_names),
    CODEC_FIELD(command, ms, CODEC_U64),
    CODEC_FIELD(command, us, CODEC_U64),
    CODEC_FIELD(command, bytes, CODEC_U64),
    CODEC_FIELD(command, stored, CODEC_U64),
    CODEC_FIELD(command, logged, CODEC_U64),
    CODEC_FIELD(command, logged_bytes, CODEC_U64),
    CODEC_FIELD(command, attempt, CODEC_U32),
    CODEC_FIELD(command, port, CODEC_U32),
    CODEC_FIELD(command, level, CODEC_U32),
    CODEC_FIELD(command, force, CODEC_BOOL),
    CODEC_FIELD(command, final, CODEC_BOOL),
    CODEC_TEXT_OF(command, token),
    CODEC_TEXT_OF(command, digest),
    CODEC_TEXT_OF(command, key),
    CODEC_TEXT_OF(command, store),
    CODEC_FIELD(command, lease_ms, CODEC_U64),
    CODEC_FIELD(command, heartbeat_ms, CODEC_U64),
    CODEC_FIELD(command, health_good_ms, CODEC_U64),
    CODEC_FIELD(command, health, CODEC_STRUCT, .of = &health_report_codec),
    CODEC_FIELD(command, exit_status, CODEC_I32),
    CODEC_FIELD(command, event, CODEC_STRUCT, .of = &event_codec),
    CODEC_TEXT_OF(command, text),
    CODEC_FIELD(command, spec, CODEC_STRUCT, .of = &job_spec_codec),
    CODEC_FIELD(command, hello, CODEC_STRUCT, .of = &node_hello_codec),
    CODEC_LIST_OF(command, tokens, token_codec, TOKENS_MAX),
};
CODEC_DEFINE(command_codec, command, "command", command_fields);
