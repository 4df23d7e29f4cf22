/* SPDX-License-Identifier: Apache-2.0 */
/* The group and its members: shown, changed, backed up. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <tidemark/version.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/secure/secret.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/server/inner.h"

#define NS_PER_US 1000u
#define BACKUPS_MAX 2u          /* at a time: each is a whole image in memory */
#define CAUGHT_UP_ENTRIES 1000u /* a member this little behind is of use */

/* ---- shown ---- */

enum tide_status cluster_health(struct server *server, struct err *err)
{
    const struct member_turn *turn = replica_turn(server->replica);
    struct member_status *status = mem_alloc(sizeof *status);
    struct replica_status self;
    member_get_status(replica_member(server->replica), status);
    replica_status(server->replica, &self);
    uint64_t commit = status->raft.commit;
    mem_free(status);
    if (server->stopping)
        return err_set(err, TIDE_E_UNAVAILABLE, "stopping");
    if (turn->later != 0)
        return lead_left_behind(server, err);
    if (turn->leader == 0 || (turn->role == RAFT_LEADER && !server->leads))
        return err_set(err, TIDE_E_UNAVAILABLE, "the cluster has no leader, as far as this member knows");
    if (server_state(server)->cluster[0] == '\0')
        return err_set(err, TIDE_E_UNAVAILABLE, "the cluster is being made");
    if (self.applied_index + CAUGHT_UP_ENTRIES < commit)
        return err_set(err, TIDE_E_UNAVAILABLE, "this member is %" PRIu64 " entries behind", commit - self.applied_index);
    return TIDE_OK;
}

/* A write that hangs is told while it does. */
static void show_sync(const struct member_status *status, struct member_view *view)
{
    uint64_t now_ns = clock_mono_ns(), takes_us = status->syncing_ns != 0 ? (now_ns - status->syncing_ns) / NS_PER_US : 0;
    bool hangs = takes_us > status->sync_us;
    view->sync_us = hangs ? takes_us : status->sync_us;
    view->sync_age_ms = !hangs && status->sync_ns != 0 ? (now_ns - status->sync_ns) / NS_PER_MS : 0;
}

static void show_self(struct server *server, const struct member_status *status, struct member_view *view)
{
    struct replica_status self;
    replica_status(server->replica, &self);
    view->leader = server->leads;
    view->term = status->raft.term;
    view->commit_index = status->raft.commit;
    view->match_index = status->raft.last;
    view->applied_index = self.applied_index;
    view->log_bytes = status->log_bytes;
    view->snapshot_index = self.snapshot_index;
    view->free_bytes = status->free_bytes;
    show_sync(status, view);
    view->level = LEVEL_NEWEST;
    view->turn_us_max = server->turn_longest_ns / NS_PER_US;
    text_copy(view->role, sizeof view->role, view->learner ? "learner" : raft_role_name(status->raft.role));
    if (view->address[0] == '\0')
        text_copy(view->address, sizeof view->address, http_address(server->http));
}

/* What the leader knows of another. */
static void show_peer(const struct member_status *status, struct member_view *view)
{
    const struct raft_status *raft = &status->raft;
    for (size_t i = 0; i < raft->peer_count; i++) {
        const struct raft_peer_status *peer = &raft->peers[i];
        if (peer->id != view->id)
            continue;
        view->term = raft->term;
        view->commit_index = view->applied_index = peer->match < raft->commit ? peer->match : raft->commit;
        view->match_index = peer->match;
        view->lag = raft->last - peer->match;
        view->contact_ms = peer->silent_ticks * RAFT_TICK_MS;
        text_copy(view->replication, sizeof view->replication, raft_peer_state_name(peer->state));
    }
    for (size_t i = 0; i < status->link_count; i++) {
        const struct member_link *link = &status->links[i];
        if (link->id != view->id)
            continue;
        view->level = link->connected ? link->level : 0;
        view->queued_bytes = link->queued_bytes;
        text_copy(view->error, sizeof view->error, link->connected ? "" : link->error);
        if (link->connected && raft->role == RAFT_LEADER)
            text_copy(view->role, sizeof view->role, view->learner ? "learner" : "follower");
    }
}

static void show_members(struct server *server, struct cluster_view *view)
{
    struct member_status *status = mem_alloc(sizeof *status);
    const struct member_turn *turn = replica_turn(server->replica);
    member_get_status(replica_member(server->replica), status);
    for (size_t i = 0; i < status->config.count; i++) {
        const struct raft_member *from = &status->config.members[i];
        struct member_view *member = codec_list_add(&member_view_codec, &view->members);
        *member = (struct member_view){.id = from->id, .learner = !from->voter};
        text_copy(member->peer, sizeof member->peer, from->peer);
        text_copy(member->address, sizeof member->address, from->api);
        text_copy(member->role, sizeof member->role, from->id == turn->leader ? "leader" : "unknown");
        if (from->id == status->raft.id)
            show_self(server, status, member);
        else
            show_peer(status, member);
        member->leader = from->id == turn->leader;
    }
    mem_free(status);
}

static void serve_cluster(void *context, struct http_request *request)
{
    struct server *server = context;
    struct cluster_view view = {0};
    view_cluster(server_state(server), &view);
    text_copy(view.version, sizeof view.version, TIDE_VERSION_STRING);
    text_copy(view.epoch, sizeof view.epoch, cluster_epoch(server));
    view.uptime_ms = (clock_mono_ns() - server->started_ns) / NS_PER_MS;
    show_members(server, &view);
    http_reply_noun(request, &cluster_view_codec, &view, 0);
    codec_release(&cluster_view_codec, &view);
}

void get_cluster(void *context, struct http_request *request)
{
    lead_read(context, request, serve_cluster);
}

/* What is made of the configuration, once for each. */
static void read_group(struct server *server)
{
    struct raft_blob *blob = replica_config(server->replica);
    struct raft_config config = {0};
    struct err err = {0};
    if (blob == server->group.of)
        return;
    cluster_forget(server);
    server->group.of = raft_blob_ref(blob);
    if (blob != NULL && raft_config_decode(blob->data, blob->bytes, &config, &err) != TIDE_OK)
        log_error("the configuration of the group cannot be read: %s", err.text);
    json_t *members = json_array();
    for (size_t i = 0; i < config.count; i++) {
        server->group.ids[i] = config.members[i].id;
        if (config.members[i].api[0] != '\0')
            json_array_append_new(members, json_string(config.members[i].api));
    }
    server->group.members = json_dumps(members, JSON_COMPACT);
    json_decref(members);
    /* One that has not caught up yet reads of times when the group was another. */
    if (raft_config_member(&config, member_id(replica_member(server->replica))) != NULL)
        epoch_format(config.epoch, server->group.epoch);
}

const char *cluster_members(struct server *server)
{
    read_group(server);
    return server->group.members;
}

const char *cluster_epoch(struct server *server)
{
    read_group(server);
    return server->group.epoch;
}

bool cluster_has(struct server *server, uint64_t id)
{
    read_group(server);
    for (size_t i = 0; i < RAFT_MEMBERS_MAX; i++)
        if (server->group.ids[i] == id)
            return true;
    return false;
}

void cluster_forget(struct server *server)
{
    raft_blob_unref(server->group.of);
    mem_free(server->group.members);
    server->group = (struct group_read){0};
}

/* ---- changed ---- */

struct changing {
    struct server *server;
    struct http_request *request; /* NULL: was told that the outcome is unknown */
    uint64_t deadline_ns;
    uint64_t to;                  /* a transfer to this member */
    char text[TIDE_TEXT_MAX + 1]; /* to say when it is done */
    struct changing *next;
};

static void changing_free(struct changing *changing)
{
    struct changing **at = &changing->server->changing;
    while (*at != changing)
        at = &(*at)->next;
    *at = changing->next;
    mem_free(changing);
}

/* Whoever was to lead: another one may have been elected first. */
static enum tide_status check_leader(const struct changing *changing, struct err *err)
{
    uint64_t leader = replica_turn(changing->server->replica)->leader;
    if (changing->to == 0 || leader == 0 || leader == changing->to)
        return TIDE_OK;
    return err_set(err, TIDE_E_CONFLICT, "member %" PRIu64 " leads now, and not member %" PRIu64 ": it was elected first; ask it",
                   leader, changing->to);
}

void cluster_tick(struct server *server, uint64_t now_ns)
{
    struct err err = {0};
    err_set(&err, TIDE_E_TIMEOUT,
            "the change of the group is not committed after %u s: no majority of the members, or their disks, answer; whether "
            "it will be done is unknown: see the cluster's status",
            COMMAND_DEADLINE_MS / 1000);
    for (struct changing *changing = server->changing; changing != NULL; changing = changing->next)
        if (changing->request != NULL && now_ns > changing->deadline_ns) {
            http_reply_err(changing->request, &err);
            changing->request = NULL;
        }
}

static void change_done(void *arg, enum tide_status status, const struct outcome *outcome, const struct err *err)
{
    struct changing *changing = arg;
    struct outcome said = {0};
    struct err other = {0};
    if (outcome != NULL)
        said = *outcome;
    if (status == TIDE_OK && (status = check_leader(changing, &other)) != TIDE_OK)
        err = &other;
    text_copy(said.text, sizeof said.text, changing->text);
    if (status == TIDE_OK)
        log_info("%s", changing->text);
    if (changing->request == NULL)
        ; /* was told already */
    else if (status == TIDE_OK)
        http_reply_noun(changing->request, &outcome_codec, &said, 0);
    else if (status == TIDE_E_UNAVAILABLE && !server_leads(changing->server))
        lead_redirect(changing->server, changing->request);
    else
        http_reply_err(changing->request, err);
    changing_free(changing);
}

static void change(struct server *server, struct http_request *request, enum member_change kind,
                   const struct raft_member *who, const char *format, ...) PRINTF_LIKE(5, 6);
static void change(struct server *server, struct http_request *request, enum member_change kind,
                   const struct raft_member *who, const char *format, ...)
{
    struct changing *changing = mem_alloc(sizeof *changing);
    struct err err = {0};
    va_list args;
    *changing = (struct changing){.server = server,
                                  .request = request,
                                  .to = kind == MEMBER_TRANSFER ? who->id : 0,
                                  .deadline_ns = clock_mono_ns() + COMMAND_DEADLINE_MS * NS_PER_MS,
                                  .next = server->changing};
    server->changing = changing;
    va_start(args, format);
    vsnprintf(changing->text, sizeof changing->text, format, args);
    va_end(args);
    if (replica_change(server->replica, kind, who, change_done, changing, &err) == TIDE_OK)
        return;
    changing_free(changing);
    http_reply_err(request, &err);
}

/* Callers are sent there with what they show here: an API of the other kind would be of no use to any of them. */
static enum tide_status check_api(const struct server *server, const char *api, struct err *err)
{
    const char *scheme = server->tls.cert ? "https://" : "http://";
    char host[ADDRESS_MAX + 1];
    uint32_t port;
    if (strncmp(api, scheme, strlen(scheme)) == 0 && address_split(api + strlen(scheme), host, &port, NULL) == TIDE_OK)
        return TIDE_OK;
    return err_set(err, TIDE_E_INVALID, "\"api\" must be the URL of the member's API, in this cluster as %shost:port",
                   scheme);
}

/* False, and answered, when it is no member that could be. */
static bool take_address(struct server *server, struct http_request *request, struct raft_member *ret_member)
{
    struct member_address asked;
    struct err err = {0};
    char host[ADDRESS_MAX + 1];
    uint32_t port;
    if (!api_take_body(request, &member_address_codec, CODEC_STRICT, &asked))
        return false;
    *ret_member = (struct raft_member){.id = asked.id};
    text_copy(ret_member->peer, sizeof ret_member->peer, asked.peer);
    text_copy(ret_member->api, sizeof ret_member->api, asked.api);
    codec_release(&member_address_codec, &asked);
    enum tide_status status = address_split(ret_member->peer, host, &port, &err);
    if (status == TIDE_OK && (ret_member->id == 0 || ret_member->id > MEMBER_ID_MAX))
        status = err_set(&err, TIDE_E_INVALID, "the id of a member is a number from 1 to %d", MEMBER_ID_MAX);
    if (status == TIDE_OK)
        status = check_api(server, ret_member->api, &err);
    return !api_refused(request, status, &err);
}

void post_member(void *context, struct http_request *request)
{
    struct raft_member member;
    if (lead_here(context, request) && take_address(context, request, &member))
        change(context, request, MEMBER_ADD, &member, "member %" PRIu64 " is a learner now, at %s", member.id, member.peer);
}

static bool take_member(struct http_request *request, struct raft_member *ret_member)
{
    const char *text = http_param(request, "member");
    struct err err = {0};
    size_t n = strlen(text);
    uint64_t id = 0;
    bool good = n > 0 && n <= 5 && strspn(text, "0123456789") == n;
    for (size_t i = 0; i < n && good; i++)
        id = id * 10 + (uint64_t)(text[i] - '0');
    *ret_member = (struct raft_member){.id = id};
    if (good && id > 0)
        return true;
    err_set(&err, TIDE_E_INVALID, "\"%.40s\" is not the id of a member", text);
    http_reply_err(request, &err);
    return false;
}

void post_promote(void *context, struct http_request *request)
{
    struct raft_member member;
    if (lead_here(context, request) && api_no_body(request) && take_member(request, &member))
        change(context, request, MEMBER_PROMOTE, &member, "member %" PRIu64 " is a voter now", member.id);
}

void post_address(void *context, struct http_request *request)
{
    struct raft_member named, member;
    struct err err = {0};
    if (!lead_here(context, request) || !take_member(request, &named) || !take_address(context, request, &member))
        return;
    if (named.id != member.id)
        err_set(&err, TIDE_E_INVALID, "\"id\" is %" PRIu64 ", and not that of member %" PRIu64, member.id, named.id);
    if (!api_refused(request, err.status, &err))
        change(context, request, MEMBER_UPDATE, &member, "member %" PRIu64 " is at %s now", member.id, member.peer);
}

void delete_member(void *context, struct http_request *request)
{
    struct raft_member member;
    if (lead_here(context, request) && api_no_body(request) && take_member(request, &member))
        change(context, request, MEMBER_REMOVE, &member, "member %" PRIu64 " has left the group", member.id);
}

void post_transfer(void *context, struct http_request *request)
{
    struct transfer_request asked = {0};
    size_t bytes;
    http_body(request, &bytes);
    if (!lead_here(context, request) ||
        (bytes > 0 && !api_take_body(request, &transfer_request_codec, CODEC_STRICT, &asked)))
        return;
    struct raft_member member = {.id = asked.to};
    if (asked.to != 0)
        change(context, request, MEMBER_TRANSFER, &member, "member %" PRIu64 " leads now", asked.to);
    else
        change(context, request, MEMBER_TRANSFER, &member, "another member leads now");
}

/* ---- backed up ---- */

/* The newest image, byte for byte as it lies on the disk: tidemarkd restore takes it. */
struct backup {
    uv_work_t work;
    struct server *server;
    struct http_request *request;
    uint64_t index;
    char *data;
    size_t bytes;
    char digest[SHA256_HEX_CHARS + 1];
    struct err err;
};

static void backup_end(struct backup *backup)
{
    struct server *server = backup->server;
    server->backups--;
    mem_free(backup);
    server_end_if_idle(server);
}

static void backup_run(uv_work_t *work)
{
    struct backup *backup = work->data;
    char path[DATA_FILE_MAX];
    datadir_numbered(backup->server->options.data, "snap-", backup->index, ".img", path);
    if (fsx_read(path, SNAPSHOT_BYTES_MAX, &backup->data, &backup->bytes, &backup->err) != TIDE_OK)
        backup->data = NULL;
    else
        sha256_hex(backup->data, backup->bytes, backup->digest);
}

static void backup_done(uv_work_t *work, int cancelled)
{
    struct backup *backup = work->data;
    (void)cancelled;
    if (backup->data != NULL) {
        char index[24];
        snprintf(index, sizeof index, "%" PRIu64, backup->index);
        http_header(backup->request, "Tidemark-Index", index);
        http_header(backup->request, "Tidemark-Sha256", backup->digest);
        http_reply_bytes(backup->request, 200, "application/octet-stream", backup->data, backup->bytes);
    } else {
        http_reply_err(backup->request, &backup->err);
    }
    backup_end(backup);
}

static void backup_written(void *arg, uint64_t index, const struct err *err)
{
    struct backup *backup = arg;
    if (index == 0) {
        http_reply_err(backup->request, err);
        backup_end(backup);
        return;
    }
    backup->index = index;
    backup->work.data = backup;
    uv_queue_work(backup->server->loop, &backup->work, backup_run, backup_done);
}

static void serve_backup(void *context, struct http_request *request)
{
    struct server *server = context;
    struct err err = {0};
    if (server->backups == BACKUPS_MAX) {
        err_set(&err, TIDE_E_UNAVAILABLE, "%u backups are being taken already; ask again in a moment", BACKUPS_MAX);
        http_reply_err(request, &err);
        return;
    }
    struct backup *backup = mem_alloc(sizeof *backup);
    backup->server = server;
    backup->request = request;
    server->backups++;
    replica_image(server->replica, backup_written, backup);
}

void get_backup(void *context, struct http_request *request)
{
    lead_read(context, request, serve_backup);
}
