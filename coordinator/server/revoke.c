/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates that count no more: those that were revoked, and those of members that have left. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "coordinator/server/inner.h"

static const struct revocation *revocation_of(const struct state *state, const struct cert_name *name, const char *serial)
{
    char what[REVOKED_MAX + 1];
    snprintf(what, sizeof what, "serial:%s", serial);
    const struct revocation *found = state_revoked(state, what);
    if (found != NULL || name->kind == CERT_MEMBER)
        return found;
    snprintf(what, sizeof what, "%s:%s", name->kind == CERT_AGENT ? "agent" : "client", name->name);
    return state_revoked(state, what);
}

/* Of the group as it is agreed on, or as this member has heard that it will be. */
static bool in_group(struct server *server, uint64_t id)
{
    if (cluster_has(server, id))
        return true;
    struct member_status *status = mem_alloc(sizeof *status);
    member_get_status(replica_member(server->replica), status);
    bool has = raft_config_member(&status->config, id) != NULL;
    mem_free(status);
    return has;
}

bool revoked_cert(struct server *server, const struct cert_name *name, const char *serial, char *ret_why, size_t size)
{
    const struct revocation *revocation = revocation_of(server_state(server), name, serial);
    if (revocation != NULL)
        snprintf(ret_why, size, "its certificate was revoked: %s (serial %s)", revocation->what, serial);
    else if (name->kind == CERT_MEMBER && !in_group(server, name->member))
        snprintf(ret_why, size, "its certificate is that of member %" PRIu32 ", which is not in the group", name->member);
    else
        return false;
    return true;
}

/* ---- /v1/revocations ---- */

static void serve_revocations(void *context, struct http_request *request)
{
    const struct state *state = server_state(context);
    struct revocation_list list = {0};
    for (size_t i = 0; i < state->revoked.count; i++)
        *(struct revocation *)codec_list_add(&revocation_codec, &list.revocations) = state->revoked.items[i];
    http_reply_noun(request, &revocation_list_codec, &list, 0);
    codec_release(&revocation_list_codec, &list);
}

void get_revocations(void *context, struct http_request *request)
{
    lead_read(context, request, serve_revocations);
}

static void propose(struct server *server, struct http_request *request, enum command_kind kind, const char *what)
{
    struct command command = {.kind = kind};
    struct err err = {0};
    if (api_refused(request, revocation_check(what, &err), &err))
        return;
    text_copy(command.text, sizeof command.text, what);
    api_propose(server, request, &command);
}

void post_revocation(void *context, struct http_request *request)
{
    struct revocation asked;
    if (!api_take_body(request, &revocation_codec, CODEC_STRICT, &asked))
        return;
    propose(context, request, CMD_CERT_REVOKE, asked.what);
    codec_release(&revocation_codec, &asked);
}

void delete_revocation(void *context, struct http_request *request)
{
    if (api_no_body(request))
        propose(context, request, CMD_CERT_ALLOW, http_param(request, "what"));
}
