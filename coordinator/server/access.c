/* SPDX-License-Identifier: Apache-2.0 */
/* Who may do what. A caller's role comes from a bearer token, if it shows one, else from its certificate. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "coordinator/server/inner.h"

#define BEARER "Bearer "
#define TTL_MS_MAX (UINT64_C(100) * 365 * 86400 * 1000)

struct caller {
    unsigned role;                           /* ROLE_NONE: nobody we know */
    char name[TIDE_NAME_MAX + 24];           /* "token ci", "client alice", "agent n1", "member 2" */
    char node[TIDE_NAME_MAX + 1];            /* an agent's; empty: any */
    bool late;                               /* refused for what the leader may know better already */
    char why[CERT_NAME_MAX + TIDE_TEXT_MAX]; /* role NONE: what was wrong with what it showed */
};

/* Without certificates there is nothing to tell people apart by: everybody who reaches the port may do everything. */
static bool open_to_all(const struct server *server)
{
    return server->tls.cert == NULL;
}

/* Every token is looked at, and each in the same time: how long it took tells nothing about any of them. */
static const struct token *token_of_hash(const struct state *state, const char *hash)
{
    const struct token *found = NULL;
    for (size_t i = 0; i < state->tokens.count; i++)
        if (secret_equal(state->tokens.items[i].hash, hash, TOKEN_HASH_CHARS))
            found = &state->tokens.items[i];
    return found;
}

static void caller_of_token(const struct server *server, const char *header, struct caller *caller)
{
    char hash[SHA256_HEX_CHARS + 1];
    if (strncasecmp(header, BEARER, strlen(BEARER)) != 0) {
        text_copy(caller->why, sizeof caller->why, "its Authorization header is not \"Bearer TOKEN\"");
        return;
    }
    const char *secret = header + strlen(BEARER);
    sha256_hex(secret, strlen(secret), hash);
    const struct token *token = token_of_hash(server_state(server), hash);
    if (token == NULL) {
        text_copy(caller->why, sizeof caller->why, "its token is none of this cluster, or was revoked");
        caller->late = !server_leads(server) || server_state(server)->cluster[0] == '\0';
        return;
    }
    snprintf(caller->name, sizeof caller->name, "token %s", token->name);
    if (token->expires_ms != 0 && token->expires_ms <= clock_wall_ms()) {
        text_say(caller->why, sizeof caller->why, "its token %s has expired", token->name);
        return;
    }
    caller->role = token->role;
    text_copy(caller->node, sizeof caller->node, token->node);
}

static void caller_of_cert(struct server *server, const struct http_request *request, struct caller *caller)
{
    const char *why = NULL, *uri = http_peer(request, &why);
    struct cert_name name;
    struct err err = {0};
    if (uri == NULL) {
        text_say(caller->why, sizeof caller->why, "no token, and %s", why ? why : "no certificate");
        return;
    }
    if (cert_name_parse(uri, &name, &err) != TIDE_OK) {
        text_fit(caller->why, sizeof caller->why, err.text);
        return;
    }
    if (strcmp(name.cluster, server->options.identity->identity.cluster) != 0) {
        text_say(caller->why, sizeof caller->why, "its certificate is for cluster %s", name.cluster);
        return;
    }
    if (revoked_cert(server, &name, http_peer_serial(request), caller->why, sizeof caller->why)) {
        caller->late = !server_leads(server); /* it may count again, or be in the group by now */
        return;
    }
    if (name.kind == CERT_MEMBER)
        snprintf(caller->name, sizeof caller->name, "member %" PRIu32, name.member);
    else
        snprintf(caller->name, sizeof caller->name, "%s %s", name.kind == CERT_AGENT ? "agent" : "client", name.name);
    caller->role = name.role;
    if (name.kind == CERT_AGENT && strcmp(name.name, "*") != 0)
        text_copy(caller->node, sizeof caller->node, name.name);
}

static void caller_of(struct server *server, const struct http_request *request, struct caller *ret_caller)
{
    const char *header = http_header_of(request, "Authorization");
    *ret_caller = (struct caller){.role = ROLE_NONE};
    if (header != NULL)
        caller_of_token(server, header, ret_caller);
    else
        caller_of_cert(server, request, ret_caller);
}

/* ---- refusals ---- */

/* The next second begins: how many of the last one were not said. */
static void count_unsaid(struct refusals *r, uint64_t now_ns)
{
    if (now_ns - r->since_ns < REFUSALS_LOGGED_MS * NS_PER_MS)
        return;
    if (r->unsaid > 0)
        log_warn("%" PRIu64 " more calls were refused", r->unsaid);
    *r = (struct refusals){.since_ns = now_ns};
}

static bool may_say(struct refusals *r)
{
    count_unsaid(r, clock_mono_ns());
    if (r->said++ < REFUSALS_LOGGED_MAX)
        return true;
    r->unsaid++;
    return false;
}

void access_tick(struct server *server, uint64_t now_ns)
{
    if (server->refusals.unsaid > 0)
        count_unsaid(&server->refusals, now_ns);
}

static void say_refused(struct server *server, const struct http_request *request, const struct caller *caller,
                        const struct err *err)
{
    char from[ADDRESS_MAX + 1], path[128];
    if (!may_say(&server->refusals))
        return;
    http_peer_address(request, from);
    text_copy(path, sizeof path, http_path(request));
    for (char *p = path; *p != '\0'; p++) /* a client must not write lines of its own into the log */
        if (*p < ' ' || *p > '~')
            *p = '?';
    log_warn("refused %s %s from %s (%s): %s", http_method(request), path, from, caller->name[0] ? caller->name : "unknown",
             err->text);
}

unsigned access_admit(void *context, const struct http_request *request, unsigned least, struct err *err)
{
    struct server *server = context;
    struct caller caller;
    if (least == ROLE_NONE || open_to_all(server))
        return 0;
    caller_of(server, request, &caller);
    if (role_allows(caller.role, least))
        return 0;
    if (caller.late)
        return HTTP_ELSEWHERE;
    if (caller.role == ROLE_NONE)
        err_set(err, TIDE_E_DENIED, "this call needs role %s, and who asks is not known: %s", role_names[least], caller.why);
    else
        err_set(err, TIDE_E_DENIED, "this call needs role %s; %s has role %s", role_names[least], caller.name,
                role_names[caller.role]);
    say_refused(server, request, &caller, err);
    return caller.role == ROLE_NONE ? 401 : 403;
}

/* A token that was made a moment ago is known to the leader first. */
void access_elsewhere(void *context, struct http_request *request)
{
    lead_redirect(context, request);
}

enum tide_status access_node(struct server *server, const struct http_request *request, const char *node, struct err *err)
{
    struct caller caller;
    if (open_to_all(server))
        return TIDE_OK;
    caller_of(server, request, &caller);
    if (caller.role == ROLE_AGENT && (caller.node[0] == '\0' || strcmp(caller.node, node) == 0))
        return TIDE_OK;
    err_set(err, TIDE_E_DENIED, "%s may speak for node %s only, not for \"%.80s\"", caller.name, caller.node, node);
    say_refused(server, request, &caller, err);
    return TIDE_E_DENIED;
}

/* ---- /v1/ca, /v1/tokens ---- */

void get_ca(void *context, struct http_request *request)
{
    struct server *server = context;
    struct err err = {0};
    if (open_to_all(server)) {
        err_set(&err, TIDE_E_NOT_FOUND, "this cluster has no certificates");
        http_reply_err(request, &err);
        return;
    }
    http_reply(request, 200, "application/x-pem-file", mem_strdup(server->tls.ca));
}

static void serve_tokens(void *context, struct http_request *request)
{
    const struct state *state = server_state(context);
    struct token_list list = {0};
    for (size_t i = 0; i < state->tokens.count; i++) {
        struct token *token = codec_list_add(&token_codec, &list.tokens);
        *token = state->tokens.items[i];
        token->hash[0] = '\0'; /* of no use to anybody but us */
    }
    http_reply_noun(request, &token_list_codec, &list, CODEC_COMPACT);
    codec_release(&token_list_codec, &list);
}

static void show_tokens(void *context, struct http_request *request)
{
    lead_read(context, request, serve_tokens);
}

void get_tokens(void *context, struct http_request *request)
{
    lead_read(context, request, show_tokens);
}

void post_token(void *context, struct http_request *request)
{
    struct token_request asked;
    struct err err = {0};
    if (!api_take_body(request, &token_request_codec, CODEC_STRICT, &asked))
        return;
    struct token token = {.role = asked.role};
    text_copy(token.name, sizeof token.name, asked.name);
    text_copy(token.hash, sizeof token.hash, asked.hash);
    text_copy(token.node, sizeof token.node, asked.node);
    if (asked.ttl_ms > TTL_MS_MAX)
        err_set(&err, TIDE_E_INVALID, "token request: field \"ttl_ms\" is at most %" PRIu64, TTL_MS_MAX);
    else if (asked.ttl_ms != 0)
        token.expires_ms = clock_wall_ms() + asked.ttl_ms;
    if (api_refused(request, err.status != TIDE_OK ? err.status : token_check(&token, &err), &err))
        return;
    /* The command borrows the one token; what is proposed is written down at once. */
    struct command command = {.kind = CMD_TOKEN_ADD, .tokens = {.items = &token, .count = 1}};
    api_propose(context, request, &command);
}

void delete_token(void *context, struct http_request *request)
{
    const char *name = http_param(request, "token");
    struct command command = {.kind = CMD_TOKEN_REMOVE};
    struct err err = {0};
    if (!api_no_body(request))
        return;
    if (!name_valid(name)) {
        err_set(&err, TIDE_E_NOT_FOUND, "there is no token \"%.80s\": that is no name a token can have", name);
        http_reply_err(request, &err);
        return;
    }
    text_copy(command.text, sizeof command.text, name);
    api_propose(context, request, &command);
}
