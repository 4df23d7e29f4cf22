/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/wire/identity.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"

#define PORT_MAX 65535

/* ---- the name in a certificate ---- */

static const char *const kind_names[] = {"member", "agent", "client"};
#define KINDS (sizeof kind_names / sizeof kind_names[0])

bool cluster_uid_valid(const char *uid)
{
    return strlen(uid) == TIDE_UID_CHARS && strspn(uid, "0123456789abcdef") == TIDE_UID_CHARS;
}

/* ---- recovery epochs ---- */

static uint32_t epoch_number(uint64_t epoch)
{
    return (uint32_t)(epoch >> 32);
}

enum tide_status epoch_next(uint64_t epoch, uint32_t mark, uint64_t *ret_epoch, struct err *err)
{
    if (epoch_number(epoch) >= EPOCH_NUMBER_MAX)
        return err_set(err, TIDE_E_LIMIT, "this group was recovered %u times, which is as often as can be counted",
                       EPOCH_NUMBER_MAX);
    *ret_epoch = (uint64_t)(epoch_number(epoch) + 1) << 32 | mark;
    return TIDE_OK;
}

void epoch_format(uint64_t epoch, char ret_text[EPOCH_TEXT_MAX + 1])
{
    if (epoch == 0)
        text_copy(ret_text, EPOCH_TEXT_MAX + 1, "0");
    else
        snprintf(ret_text, EPOCH_TEXT_MAX + 1, "%" PRIu32 "-%08" PRIx32, epoch_number(epoch), (uint32_t)epoch);
}

enum tide_status epoch_parse(const char *text, uint64_t *ret_epoch, struct err *err)
{
    char again[EPOCH_TEXT_MAX + 1];
    uint64_t number = 0, mark = 0;
    size_t n = strspn(text, "0123456789"), m = text[n] == '-' ? strspn(text + n + 1, "0123456789abcdef") : 0;
    for (size_t i = 0; i < n && number <= EPOCH_NUMBER_MAX; i++)
        number = number * 10 + (uint64_t)(text[i] - '0');
    for (size_t i = 0; i < m && m == 8; i++) {
        char c = text[n + 1 + i];
        mark = mark << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    uint64_t epoch = number > 0 && number <= EPOCH_NUMBER_MAX ? number << 32 | mark : 0;
    epoch_format(epoch, again);
    if (strcmp(text, again) != 0)
        return err_set(err, TIDE_E_INVALID, "\"%.40s\" is no recovery epoch", text);
    *ret_epoch = epoch;
    return TIDE_OK;
}

bool epoch_stale(uint64_t told, uint64_t known)
{
    return told != known && epoch_number(told) <= epoch_number(known);
}

/* ---- the name in a certificate ---- */

void cert_name_format(const struct cert_name *name, char ret_uri[CERT_NAME_MAX + 1])
{
    const char *kind = kind_names[name->kind];
    if (name->kind == CERT_MEMBER)
        snprintf(ret_uri, CERT_NAME_MAX + 1, CERT_SCHEME "%s/%s/%" PRIu32, name->cluster, kind, name->member);
    else if (name->kind == CERT_AGENT)
        snprintf(ret_uri, CERT_NAME_MAX + 1, CERT_SCHEME "%s/%s/%s", name->cluster, kind, name->name);
    else
        snprintf(ret_uri, CERT_NAME_MAX + 1, CERT_SCHEME "%s/%s/%s?role=%s", name->cluster, kind, name->name,
                 role_names[name->role]);
}

/* A decimal number without signs, spaces or leading zeros, 1..most; 0 when it is none. */
static uint32_t parse_count(const char *text, uint32_t most)
{
    size_t n = strlen(text);
    uint64_t value = 0;
    if (n == 0 || n > 9 || text[0] == '0' || strspn(text, "0123456789") != n)
        return 0;
    for (; *text; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    return value <= most ? (uint32_t)value : 0;
}

/* What stands before `end` in *at, moved behind it; false when it is not there or does not fit. */
static bool take_until(const char **at, char end, char *to, size_t size)
{
    const char *stop = strchr(*at, end);
    size_t n = stop ? (size_t)(stop - *at) : size;
    if (n >= size)
        return false;
    memcpy(to, *at, n);
    to[n] = '\0';
    *at = stop + 1;
    return true;
}

static bool parse_rest(const char *rest, struct cert_name *name)
{
    char client[TIDE_NAME_MAX + 1];
    switch (name->kind) {
    case CERT_MEMBER:
        name->role = ROLE_ADMIN;
        name->member = parse_count(rest, MEMBER_ID_MAX);
        return name->member != 0;
    case CERT_AGENT:
        name->role = ROLE_AGENT;
        text_copy(name->name, sizeof name->name, rest);
        return strcmp(rest, "*") == 0 || name_valid(rest);
    default:
        if (!take_until(&rest, '?', client, sizeof client) || !name_valid(client) || strncmp(rest, "role=", 5) != 0)
            return false;
        text_copy(name->name, sizeof name->name, client);
        return role_parse(rest + 5, &name->role) == 0;
    }
}

enum tide_status cert_name_parse(const char *uri, struct cert_name *ret_name, struct err *err)
{
    struct cert_name name = {.kind = KINDS};
    char kind[16] = "";
    const char *at = uri + strlen(CERT_SCHEME);
    bool good = strlen(uri) <= CERT_NAME_MAX && strncmp(uri, CERT_SCHEME, strlen(CERT_SCHEME)) == 0 &&
                take_until(&at, '/', name.cluster, sizeof name.cluster) && cluster_uid_valid(name.cluster) &&
                take_until(&at, '/', kind, sizeof kind);
    for (unsigned i = 0; good && i < KINDS; i++)
        if (strcmp(kind, kind_names[i]) == 0)
            name.kind = i;
    if (!good || name.kind == KINDS || !parse_rest(at, &name))
        return err_set(err, TIDE_E_INVALID, "\"%.*s\" is not the name of a member, an agent or a client of a cluster",
                       CERT_NAME_MAX, uri);
    *ret_name = name;
    return TIDE_OK;
}

/* ---- identity.json ---- */

static const struct codec_field member_address_fields[] = {
    CODEC_FIELD(member_address, id, CODEC_U32, .required = true),
    CODEC_TEXT_OF(member_address, peer, .required = true),
    CODEC_TEXT_OF(member_address, api, .required = true),
    CODEC_FIELD(member_address, added, CODEC_BOOL),
};
CODEC_DEFINE(member_address_codec, member_address, "member", member_address_fields);

static const struct codec_field identity_fields[] = {
    CODEC_FIELD(identity, format, CODEC_U32, .required = true),
    CODEC_TEXT_OF(identity, cluster, .required = true),
    CODEC_FIELD(identity, member, CODEC_U32),
    CODEC_FIELD(identity, joining, CODEC_BOOL),
    CODEC_FIELD(identity, insecure, CODEC_BOOL),
    CODEC_LIST_OF(identity, members, member_address_codec, MEMBERS_MAX),
    CODEC_LIST_OF(identity, tokens, token_codec, TOKENS_MAX),
};
CODEC_DEFINE(identity_codec, identity, "identity", identity_fields);

enum tide_status address_split(const char *address, char ret_host[ADDRESS_MAX + 1], uint32_t *ret_port, struct err *err)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    uint32_t port = colon ? parse_count(colon + 1, PORT_MAX) : 0;
    bool brackets = n > 2 && address[0] == '[' && address[n - 1] == ']';
    const char *host = address + (brackets ? 1 : 0);
    n -= brackets ? 2 : 0;
    bool good = n > 0 && n <= ADDRESS_MAX && port != 0 && (brackets || memchr(host, ':', n) == NULL) &&
                strcspn(host, "/[]@?#%\\ \t\r\n") >= n;
    if (!good)
        return err_set(err, TIDE_E_INVALID,
                       "\"%.*s\" is not host:port; for example 10.0.0.11:7071, hosta:7071 or [::1]:7071", ADDRESS_MAX,
                       address);
    memcpy(ret_host, host, n);
    ret_host[n] = '\0';
    *ret_port = port;
    return TIDE_OK;
}

bool address_loopback(const char *address)
{
    char host[ADDRESS_MAX + 1];
    uint32_t port;
    if (address_split(address, host, &port, NULL) != TIDE_OK)
        return false;
    bool v4 = strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strlen(host);
    return v4 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

const struct member_address *identity_member(const struct identity *identity, uint32_t id)
{
    for (size_t i = 0; i < identity->members.count; i++)
        if (identity->members.items[i].id == id)
            return &identity->members.items[i];
    return NULL;
}

static enum tide_status check_member(const struct identity *identity, size_t at, struct err *err)
{
    const struct member_address *m = &identity->members.items[at];
    const char *scheme = identity->insecure ? "http://" : "https://";
    char host[ADDRESS_MAX + 1];
    uint32_t port;
    if (m->id == 0 || m->id > MEMBER_ID_MAX)
        return err_set(err, TIDE_E_INVALID, "identity: a member's id must be 1 to %d", MEMBER_ID_MAX);
    if (strncmp(m->api, scheme, strlen(scheme)) != 0)
        return err_set(err, TIDE_E_INVALID, "identity: member %" PRIu32 ": its API \"%s\" does not begin with %s", m->id,
                       m->api, scheme);
    if (address_split(m->peer, host, &port, err) != TIDE_OK ||
        address_split(m->api + strlen(scheme), host, &port, err) != TIDE_OK)
        return err_wrap(err, "identity: member %" PRIu32, m->id);
    for (size_t i = 0; i < at; i++) {
        const struct member_address *other = &identity->members.items[i];
        if (other->id == m->id)
            return err_set(err, TIDE_E_INVALID, "identity: two members have the id %" PRIu32, m->id);
        if (strcmp(other->peer, m->peer) == 0 || strcmp(other->api, m->api) == 0)
            return err_set(err, TIDE_E_INVALID, "identity: members %" PRIu32 " and %" PRIu32 " have the same address",
                           other->id, m->id);
    }
    return TIDE_OK;
}

enum tide_status identity_check(const struct identity *identity, struct err *err)
{
    if (identity->format == 0 || identity->format > IDENTITY_FORMAT)
        return err_set(err, TIDE_E_VERSION,
                       "identity: its format is %" PRIu32 ", and this version understands formats up to %d; use the version "
                       "that made it, or a newer one",
                       identity->format, IDENTITY_FORMAT);
    if (!cluster_uid_valid(identity->cluster))
        return err_set(err, TIDE_E_INVALID, "identity: \"%s\" is not a cluster's uid (%d lower-case hex digits)",
                       identity->cluster, TIDE_UID_CHARS);
    for (size_t i = 0; i < identity->members.count; i++)
        if (check_member(identity, i, err) != TIDE_OK)
            return err->status;
    if (identity->member != 0 && identity_member(identity, identity->member) == NULL)
        return err_set(err, TIDE_E_INVALID, "identity: member %" PRIu32 " is not in its own list of members",
                       identity->member);
    for (size_t i = 0; i < identity->tokens.count; i++)
        if (token_check(&identity->tokens.items[i], err) != TIDE_OK)
            return err_wrap(err, "identity");
    return TIDE_OK;
}

enum tide_status identity_parse(const char *text, size_t bytes, struct identity *ret_identity, struct err *err)
{
    struct identity identity;
    struct err own = {0};
    enum tide_status status = codec_parse(&identity_codec, text, bytes, CODEC_LENIENT, &identity, &own);
    if (status == TIDE_OK) {
        status = identity_check(&identity, &own);
        if (status != TIDE_OK)
            codec_release(&identity_codec, &identity);
    }
    if (status != TIDE_OK)
        return err_set(err, status, "%s", own.text);
    *ret_identity = identity;
    return TIDE_OK;
}
