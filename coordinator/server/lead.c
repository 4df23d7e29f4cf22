/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that only the leader can answer: sent on to it, or made sure that this is it. */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "coordinator/server/inner.h"

struct pending_read {
    struct server *server;
    struct http_request *request;
    http_handler *then;
};

enum tide_status lead_left_behind(const struct server *server, struct err *err)
{
    char epoch[EPOCH_TEXT_MAX + 1];
    epoch_format(replica_turn(server->replica)->later, epoch);
    return err_set(
        err, TIDE_E_UNAVAILABLE,
        "this member was left behind when the group was recovered, which is of epoch %s now: ask the one that was, and "
        "stop this one and remove its data",
        epoch);
}

void lead_redirect(struct server *server, struct http_request *request)
{
    const struct member_turn *turn = replica_turn(server->replica);
    struct err err = {0};
    if (turn->later != 0) {
        lead_left_behind(server, &err);
        http_reply_err(request, &err);
        return;
    }
    if (turn->api[0] == '\0' || turn->role == RAFT_LEADER) {
        err_set(&err, TIDE_E_UNAVAILABLE, "the cluster has no leader at the moment, or this member cannot reach it");
        http_reply_err(request, &err);
        return;
    }
    http_redirect(request, turn->api, "member %" PRIu64 " leads; ask it", turn->leader);
}

bool lead_here(struct server *server, struct http_request *request)
{
    if (server_leads(server))
        return true;
    lead_redirect(server, request);
    return false;
}

static void read_ready(void *arg, bool permitted)
{
    struct pending_read *read = arg;
    if (permitted)
        read->then(read->server, read->request);
    else
        lead_redirect(read->server, read->request);
    mem_free(read);
}

void lead_read(struct server *server, struct http_request *request, http_handler *then)
{
    const char *stale = http_query(request, "stale");
    struct err err = {0};
    if (stale != NULL && strcmp(stale, "true") == 0) {
        then(server, request);
        return;
    }
    if (!lead_here(server, request))
        return;
    struct pending_read *read = mem_alloc(sizeof *read);
    *read = (struct pending_read){.server = server, .request = request, .then = then};
    if (replica_read(server->replica, read_ready, read, &err) != TIDE_OK) {
        mem_free(read);
        http_reply_err(request, &err);
    }
}
