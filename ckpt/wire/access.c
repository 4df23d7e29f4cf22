/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/wire/access.h"

#include <string.h>

#include "ckpt/base/mem.h"

const char *const role_names[] = {"none", "agent", "viewer", "operator", "admin", NULL};

static const struct codec_field token_fields[] = {
    CODEC_NAME_OF(token, name, .required = true),
    CODEC_ENUM_OF(token, role, role_names, .required = true),
    CODEC_TEXT_OF(token, hash),
    CODEC_NAME_OF(token, node),
    CODEC_FIELD(token, created_ms, CODEC_U64),
    CODEC_FIELD(token, expires_ms, CODEC_U64),
};
CODEC_DEFINE(token_codec, token, "token", token_fields);

static const struct codec_field token_list_fields[] = {
    CODEC_LIST_OF(token_list, tokens, token_codec, TOKENS_MAX, .required = true),
};
CODEC_DEFINE(token_list_codec, token_list, "token list", token_list_fields);

static const struct codec_field token_request_fields[] = {
    CODEC_NAME_OF(token_request, name, .required = true),
    CODEC_ENUM_OF(token_request, role, role_names, .required = true),
    CODEC_TEXT_OF(token_request, hash, .required = true),
    CODEC_NAME_OF(token_request, node),
    CODEC_FIELD(token_request, ttl_ms, CODEC_U64),
};
CODEC_DEFINE(token_request_codec, token_request, "token request", token_request_fields);

bool role_allows(unsigned has, unsigned least)
{
    if (least == ROLE_NONE)
        return true;
    if (has == ROLE_AGENT || least == ROLE_AGENT)
        return has == least;
    return has >= least;
}

int role_parse(const char *name, unsigned *ret_role)
{
    for (unsigned role = ROLE_AGENT; role <= ROLE_ADMIN; role++)
        if (strcmp(name, role_names[role]) == 0) {
            *ret_role = role;
            return 0;
        }
    return -1;
}

bool token_hash_valid(const char *hash)
{
    return strlen(hash) == TOKEN_HASH_CHARS && strspn(hash, "0123456789abcdef") == TOKEN_HASH_CHARS;
}

enum tide_status token_check(const struct token *token, struct err *err)
{
    if (!name_valid(token->name))
        return err_set(err, TIDE_E_INVALID, "\"%s\" is not a name for a token: use 1 to 63 of A-Z a-z 0-9 . _ -",
                       token->name);
    if (token->role < ROLE_AGENT || token->role > ROLE_ADMIN)
        return err_set(err, TIDE_E_INVALID, "token %s: its role must be viewer, operator, admin or agent", token->name);
    if (!token_hash_valid(token->hash))
        return err_set(err, TIDE_E_INVALID, "token %s: its hash must be %d lower-case hex digits", token->name,
                       TOKEN_HASH_CHARS);
    if (token->node[0] && token->role != ROLE_AGENT)
        return err_set(err, TIDE_E_INVALID, "token %s: only a token of role agent is bound to a node", token->name);
    return TIDE_OK;
}
