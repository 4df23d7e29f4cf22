/* SPDX-License-Identifier: Apache-2.0 */
/* Bearer tokens: who may come in without a certificate. */
#include "coordinator/core/inner.h"

static size_t token_index(const struct state *state, const char *name, bool *ret_found)
{
    return name_index(state->tokens.items ? state->tokens.items[0].name : NULL, state->tokens.count, sizeof(struct token),
                      name, ret_found);
}

struct token *state_token(const struct state *state, const char *name)
{
    bool found;
    size_t at = token_index(state, name, &found);
    return found ? &state->tokens.items[at] : NULL;
}

static bool expired(const struct token *token, uint64_t now_ms)
{
    return token->expires_ms != 0 && token->expires_ms <= now_ms;
}

/* Those that let nobody in any more make room, and give back their names. */
static void drop_expired(struct change *change)
{
    struct state *state = change->state;
    for (size_t i = state->tokens.count; i-- > 0;)
        if (expired(&state->tokens.items[i], change->command->at_ms))
            codec_list_remove(&token_codec, &state->tokens, i);
}

static enum tide_status refuse(const struct change *change, const struct token *token)
{
    const struct state *state = change->state;
    enum tide_status status = token_check(token, change->err);
    if (status != TIDE_OK)
        return status;
    if (state_token(state, token->name) != NULL)
        return err_set(change->err, TIDE_E_EXISTS, "there is a token named %s; revoke it first, or choose another name",
                       token->name);
    for (size_t i = 0; i < state->tokens.count; i++)
        if (strcmp(state->tokens.items[i].hash, token->hash) == 0)
            return err_set(change->err, TIDE_E_EXISTS, "token %s has this secret already", state->tokens.items[i].name);
    if (state->tokens.count >= TOKENS_MAX)
        return err_set(change->err, TIDE_E_LIMIT, "there are %d tokens, which is the most; revoke one first", TOKENS_MAX);
    return TIDE_OK;
}

static enum tide_status add(struct change *change, const struct token *token)
{
    struct state *state = change->state;
    enum tide_status status = refuse(change, token);
    if (status != TIDE_OK)
        return status;
    bool found;
    size_t at = token_index(state, token->name, &found);
    struct token *last = codec_list_add(&token_codec, &state->tokens), *to = &state->tokens.items[at];
    memmove(to + 1, to, (size_t)((char *)last - (char *)to));
    *to = *token;
    to->created_ms = change->command->at_ms;
    return TIDE_OK;
}

enum tide_status tokens_take(struct change *change)
{
    const struct command *command = change->command;
    for (size_t i = 0; i < command->tokens.count; i++) {
        enum tide_status status = add(change, &command->tokens.items[i]);
        if (status != TIDE_OK) {
            while (change->state->tokens.count > 0)
                codec_list_remove(&token_codec, &change->state->tokens, 0);
            return status;
        }
    }
    return TIDE_OK;
}

enum tide_status apply_TOKEN_ADD(struct change *change)
{
    const struct command *command = change->command;
    if (command->tokens.count != 1)
        return err_set(change->err, TIDE_E_INVALID, "token_add carries one token, not %zu", command->tokens.count);
    drop_expired(change);
    const struct token *token = &command->tokens.items[0];
    enum tide_status status = add(change, token);
    if (status == TIDE_OK)
        TEXT(change->outcome->text, "token %s has role %s", token->name, role_names[token->role]);
    return status;
}

enum tide_status apply_TOKEN_REMOVE(struct change *change)
{
    const char *name = change->command->text;
    bool found;
    size_t at = token_index(change->state, name, &found);
    if (!found)
        return err_set(change->err, TIDE_E_NOT_FOUND, "there is no token named %s; tidemark token list shows all", name);
    TEXT(change->outcome->text, "token %s is revoked", name);
    codec_list_remove(&token_codec, &change->state->tokens, at);
    return TIDE_OK;
}
