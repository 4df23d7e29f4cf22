/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/inner.h"

enum tide_status level_admits(const struct state *state, const struct command *command, struct err *err)
{
    uint32_t level = command_level(command);
    if (level <= state->level || state->cluster[0] == '\0')
        return TIDE_OK;
    return err_set(err, TIDE_E_STATE,
                   "%s needs level %u, and the group is at %u: a member runs an older version, or has not been heard since this one "
                   "leads; tidemark cluster status names it",
                   command_kind_names[command->kind], level, state->level);
}

/* Both nouns say their level in the field of that name, whatever else they say. */
static enum tide_status parse(const struct codec *codec, const char *text, size_t bytes, void *to, struct err *err)
{
    json_t *json = NULL;
    enum tide_status status = codec_load(codec, text, bytes, &json, err);
    if (status != TIDE_OK)
        return status;
    json_int_t level = json_integer_value(json_object_get(json, "level")); /* 0 if there is none */
    if (level > LEVEL_NEWEST)
        status = err_set(err, TIDE_E_VERSION, "it is of level %lld, and this version knows %u at most; start a newer one",
                         (long long)level, LEVEL_NEWEST);
    else
        status = codec_decode(codec, json, CODEC_STRICT, to, err);
    json_decref(json);
    return status;
}

enum tide_status state_parse(const char *text, size_t bytes, struct state *ret_state, struct err *err)
{
    return parse(&state_codec, text, bytes, ret_state, err);
}

enum tide_status command_parse(const char *text, size_t bytes, struct command *ret_command, struct err *err)
{
    return parse(&command_codec, text, bytes, ret_command, err);
}

bool level_verdict(const struct state *state, uint32_t lowest, struct command *ret_command)
{
    uint32_t level = lowest < LEVEL_NEWEST ? lowest : LEVEL_NEWEST;
    if (state->cluster[0] == '\0' || level <= state->level)
        return false;
    *ret_command = (struct command){.kind = CMD_CLUSTER_LEVEL, .level = level};
    return true;
}

/* Which of them a rollback has left behind was not kept in mind before. */
static void give_up_corrupt(struct state *state)
{
    for (size_t i = 0; i < state->jobs.count; i++) {
        struct job *job = &state->jobs.items[i].job;
        for (size_t k = 0; k < job->ckpts.count; k++)
            job->ckpts.items[k].given_up = job->ckpts.items[k].state == TIDE_CKPT_CORRUPT;
    }
}

enum tide_status apply_CLUSTER_LEVEL(struct change *change)
{
    struct state *state = change->state;
    uint32_t level = change->command->level;
    if (level <= state->level)
        return err_set(change->err, TIDE_E_STALE, "the group is at level %u already", state->level);
    if (state->level < READMIT_LEVEL && level >= READMIT_LEVEL)
        give_up_corrupt(state);
    state->level = level;
    peers_plan(state);
    TEXT(change->outcome->text, "the group is at level %u", level);
    return TIDE_OK;
}
