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

static const struct codec_field revocation_fields[] = {
    CODEC_TEXT_OF(revocation, what, .required = true),
    CODEC_FIELD(revocation, since_ms, CODEC_U64),
};
CODEC_DEFINE(revocation_codec, revocation, "revocation", revocation_fields);

static const struct codec_field revocation_list_fields[] = {
    CODEC_LIST_OF(revocation_list, revocations, revocation_codec, REVOCATIONS_MAX, .required = true),
};
CODEC_DEFINE(revocation_list_codec, revocation_list, "revocation list", revocation_list_fields);

static bool serial_valid(const char *text)
{
    size_t n = strlen(text);
    return n > 0 && n <= SERIAL_CHARS && text[0] != '0' && strspn(text, "0123456789abcdef") == n;
}

static const char *behind(const char *text, const char *prefix)
{
    size_t n = strlen(prefix);
    return strncmp(text, prefix, n) == 0 ? text + n : NULL;
}

enum tide_status revocation_check(const char *what, struct err *err)
{
    const char *agent = behind(what, "agent:"), *client = behind(what, "client:"), *serial = behind(what, "serial:");
    if ((agent && (strcmp(agent, "*") == 0 || name_valid(agent))) || (client && name_valid(client)) ||
        (serial && serial_valid(serial)))
        return TIDE_OK;
    if (behind(what, "member:") != NULL)
        return err_set(err, TIDE_E_INVALID,
                       "a member's certificate counts while it is in the group: tidemark cluster remove takes it out");
    return err_set(err, TIDE_E_INVALID,
                   "\"%.90s\" names no certificate: say agent:NODE, agent:*, client:NAME, or serial:HEX in lower case", what);
}

void serial_format(const unsigned char *bytes, size_t count, char ret_text[SERIAL_CHARS + 1])
{
    static const char digits[] = "0123456789abcdef";
    size_t n = 0;
    for (size_t i = 0; i < 2 * count; i++) {
        unsigned digit = i % 2 == 0 ? bytes[i / 2] >> 4 : bytes[i / 2] & 15u;
        if (n == 0 && digit == 0)
            continue;
        if (n == SERIAL_CHARS) {
            n = 0;
            break;
        }
        ret_text[n++] = digits[digit];
    }
    ret_text[n] = '\0';
}

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
