/* SPDX-License-Identifier: Apache-2.0 */
/* The API: one table of routes at the end, and above it what each does. Reads look at the state and the book; what
 * changes anything becomes a command and is answered when it has been applied. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <tidemark/version.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/inner.h"

void api_stamp(void *context, struct http_request *request)
{
    struct server *server = context;
    char revision[24];
    snprintf(revision, sizeof revision, "%" PRIu64, server_state(server)->revision);
    http_header(request, "Tidemark-Cluster", member_cluster(replica_member(server->replica)));
    http_header(request, "Tidemark-Revision", revision);
    if (cluster_epoch(server)[0] != '\0')
        http_header(request, "Tidemark-Epoch", cluster_epoch(server));
}

/* ---- commands ---- */

static void asked_free(struct asked *asked)
{
    *asked->link = asked->next;
    if (asked->next)
        asked->next->link = asked->link;
    mem_free(asked);
}

static void reply_welcome(struct server *server, struct http_request *request, const char *name)
{
    const struct state *state = server_state(server);
    struct node_welcome welcome = {.heartbeat_ms = state->heartbeat_ms, .lease_ms = state->lease_ms};
    const struct node *node = state_node(state, name);
    if (node != NULL)
        welcome.health_serial = node_health_serial(node);
    text_copy(welcome.cluster, sizeof welcome.cluster, state->cluster);
    http_reply_noun(request, &node_welcome_codec, &welcome, 0);
}

static void command_done(void *arg, enum tide_status status, const struct outcome *outcome, const struct err *err)
{
    struct asked *asked = arg;
    struct server *server = asked->server;
    if (status == TIDE_OK && asked->kind == CMD_NODE_REGISTER)
        book_registered(&server->book, server_state(server), asked->node, clock_mono_ns());
    if (asked->request == NULL)
        ; /* was told that the outcome is unknown */
    else if (status == TIDE_E_UNAVAILABLE && outcome == NULL && !server_leads(server))
        lead_redirect(server, asked->request); /* it was certainly not done */
    else if (status != TIDE_OK)
        http_reply_err(asked->request, err);
    else if (asked->kind == CMD_NODE_REGISTER)
        reply_welcome(server, asked->request, asked->node);
    else
        http_reply_noun(asked->request, &outcome_codec, outcome, 0);
    asked_free(asked);
}

/* 1..REQUEST_ID_MAX printable characters, or absent. */
static enum tide_status take_request_id(const struct http_request *request, struct command *command, struct err *err)
{
    const char *key = http_header_of(request, "Idempotency-Key");
    if (key == NULL)
        return TIDE_OK;
    size_t n = strlen(key);
    bool good = n >= 1 && n <= REQUEST_ID_MAX;
    for (size_t i = 0; i < n && good; i++)
        good = key[i] >= ' ' && key[i] <= '~';
    if (!good)
        return err_set(err, TIDE_E_INVALID, "Idempotency-Key must be 1 to %d printable ASCII characters", REQUEST_ID_MAX);
    memcpy(command->request, key, n + 1);
    return TIDE_OK;
}

void api_propose(struct server *server, struct http_request *request, struct command *command)
{
    struct err err = {0};
    if (!lead_here(server, request))
        return;
    struct asked *asked = mem_alloc(sizeof *asked);
    *asked = (struct asked){.server = server,
                            .request = request,
                            .kind = command->kind,
                            .next = server->asked,
                            .link = &server->asked,
                            .deadline_ns = clock_mono_ns() + COMMAND_DEADLINE_MS * NS_PER_MS};
    text_copy(asked->node, sizeof asked->node, command->hello.name);
    if (asked->next)
        asked->next->link = &asked->next;
    server->asked = asked;
    enum tide_status status = take_request_id(request, command, &err);
    if (status == TIDE_OK)
        status = replica_propose(server->replica, command, false, command_done, asked, &err);
    if (status != TIDE_OK) {
        asked_free(asked);
        http_reply_err(request, &err);
    }
}

void api_tick(struct server *server, uint64_t now_ns)
{
    struct err err = {0};
    err_set(&err, TIDE_E_TIMEOUT,
            "the command is not committed after %u s: no majority of the members, or their disks, answer; whether it "
            "will be done is unknown",
            COMMAND_DEADLINE_MS / 1000);
    for (struct asked *asked = server->asked; asked != NULL; asked = asked->next)
        if (asked->request != NULL && now_ns > asked->deadline_ns) {
            http_reply_err(asked->request, &err);
            asked->request = NULL;
        }
}

/* ---- reading what was asked ---- */

bool api_refused(struct http_request *request, enum tide_status status, const struct err *err)
{
    if (status != TIDE_OK)
        http_reply_err(request, err);
    return status != TIDE_OK;
}

bool api_take_body(struct http_request *request, const struct codec *codec, unsigned flags, void *noun)
{
    struct err err = {0};
    size_t bytes;
    const char *body = http_body(request, &bytes);
    return !api_refused(request, codec_parse(codec, body, bytes, flags, noun, &err), &err);
}

/* Calls that are all in their path: a body would be something we do not understand. */
bool api_no_body(struct http_request *request)
{
    struct err err = {0};
    size_t bytes;
    const char *body = http_body(request, &bytes);
    if (bytes == 0 || (bytes <= 4 && body[0] == '{' && body[strspn(body, "{} \n")] == '\0'))
        return true;
    err_set(&err, TIDE_E_INVALID, "this call takes no body");
    http_reply_err(request, &err);
    return false;
}

static bool take_job(struct http_request *request, struct command *command)
{
    const char *name = http_param(request, "job");
    struct err err = {0};
    if (!name_valid(name)) {
        err_set(&err, TIDE_E_NOT_FOUND, "there is no job \"%.80s\": that is no name a job can have", name);
        http_reply_err(request, &err);
        return false;
    }
    text_copy(command->job, sizeof command->job, name);
    return true;
}

static bool take_node(struct http_request *request, struct command *command)
{
    const char *name = http_param(request, "node");
    struct err err = {0};
    if (!name_valid(name)) {
        err_set(&err, TIDE_E_NOT_FOUND, "there is no node \"%.80s\": that is no name a node can have", name);
        http_reply_err(request, &err);
        return false;
    }
    text_copy(command->node, sizeof command->node, name);
    return true;
}

/* ---- jobs ---- */

static void post_job(void *context, struct http_request *request)
{
    struct server *server = context;
    struct command command = {.kind = CMD_JOB_SUBMIT};
    struct err err = {0};
    if (!api_take_body(request, &job_spec_codec, CODEC_STRICT, &command.spec))
        return;
    if (!api_refused(request, job_spec_check(&command.spec, &err), &err)) {
        rng_hex(&server->rng, command.uid, TIDE_UID_CHARS);
        server_secret(command.token);
        text_copy(command.job, sizeof command.job, command.spec.name);
        api_propose(server, request, &command);
    }
    codec_release(&job_spec_codec, &command.spec);
}

static void serve_jobs(void *context, struct http_request *request)
{
    watch_serve(context, request, WATCH_JOBS, "");
}

static void get_jobs(void *context, struct http_request *request)
{
    lead_read(context, request, serve_jobs);
}

static void serve_job(void *context, struct http_request *request)
{
    watch_serve(context, request, WATCH_JOB, http_param(request, "job"));
}

static void get_job(void *context, struct http_request *request)
{
    lead_read(context, request, serve_job);
}

static void post_cancel(void *context, struct http_request *request)
{
    struct command command = {.kind = CMD_JOB_CANCEL};
    if (api_no_body(request) && take_job(request, &command))
        api_propose(context, request, &command);
}

/* "That many steps back" is said of what the leader sees now; the log gets the step it comes to. */
static enum tide_status rollback_step(struct server *server, const struct rollback_request *asked, struct command *command,
                                      struct err *err)
{
    if (asked->steps == 0)
        return TIDE_OK;
    if (asked->to != 0)
        return err_set(err, TIDE_E_INVALID, "rollback request: give \"to\" or \"steps\", not both");
    uint64_t newest = book_step(&server->book, server_state(server), command->job);
    if (state_job(server_state(server), command->job) != NULL && newest <= asked->steps)
        return err_set(err, TIDE_E_NO_CHECKPOINT, "job %s has reached step %" PRIu64 "; it cannot go back %" PRIu64 " steps",
                       command->job, newest, asked->steps);
    command->step = newest > asked->steps ? newest - asked->steps : 1;
    return TIDE_OK;
}

static void post_rollback(void *context, struct http_request *request)
{
    struct server *server = context;
    struct command command = {.kind = CMD_JOB_ROLLBACK};
    struct rollback_request asked = {0};
    struct err err = {0};
    size_t bytes;
    http_body(request, &bytes);
    if (!take_job(request, &command))
        return;
    if (bytes > 0 && !api_take_body(request, &rollback_request_codec, CODEC_STRICT, &asked))
        return;
    command.cut = asked.to;
    if (!api_refused(request, rollback_step(server, &asked, &command, &err), &err))
        api_propose(server, request, &command);
}

static void post_ckpt(void *context, struct http_request *request)
{
    struct command command = {.kind = CMD_CKPT_REQUEST};
    if (api_no_body(request) && take_job(request, &command))
        api_propose(context, request, &command);
}

static enum tide_status parse_cut(const char *text, uint64_t *ret_cut, struct err *err)
{
    size_t n = strlen(text);
    uint64_t cut = 0;
    if (n == 0 || n > 18 || strspn(text, "0123456789") != n)
        return err_set(err, TIDE_E_INVALID, "\"%.40s\" is not the number of a checkpoint", text);
    for (const char *p = text; *p; p++)
        cut = cut * 10 + (uint64_t)(*p - '0');
    *ret_cut = cut;
    return TIDE_OK;
}

static bool take_cut(struct http_request *request, struct command *command)
{
    struct err err = {0};
    return take_job(request, command) && !api_refused(request, parse_cut(http_param(request, "cut"), &command->cut, &err), &err);
}

static enum tide_status parse_flag(const char *name, const char *text, bool *ret_flag, struct err *err)
{
    if (text == NULL || strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
        *ret_flag = false;
    else if (strcmp(text, "true") == 0 || strcmp(text, "1") == 0)
        *ret_flag = true;
    else
        return err_set(err, TIDE_E_INVALID, "query parameter \"%s\" must be true or false", name);
    return TIDE_OK;
}

static void delete_ckpt(void *context, struct http_request *request)
{
    struct command command = {.kind = CMD_CKPT_DROP};
    struct err err = {0};
    if (!api_no_body(request) || !take_cut(request, &command))
        return;
    if (!api_refused(request, parse_flag("force", http_query(request, "force"), &command.force, &err), &err))
        api_propose(context, request, &command);
}

static void post_pin(void *context, struct http_request *request)
{
    struct command command = {.kind = CMD_CKPT_PIN};
    struct pin_request asked = {0};
    size_t bytes;
    http_body(request, &bytes);
    if (!take_cut(request, &command) || (bytes > 0 && !api_take_body(request, &pin_request_codec, CODEC_STRICT, &asked)))
        return;
    command.ms = asked.for_ms;
    api_propose(context, request, &command);
}

static void delete_pin(void *context, struct http_request *request)
{
    struct command command = {.kind = CMD_CKPT_UNPIN};
    if (api_no_body(request) && take_cut(request, &command))
        api_propose(context, request, &command);
}

static void post_import(void *context, struct http_request *request)
{
    struct command command = {.kind = CMD_CKPT_IMPORT};
    struct ckpt_import found;
    if (!api_take_body(request, &ckpt_import_codec, CODEC_STRICT, &found))
        return;
    text_copy(command.job, sizeof command.job, found.job);
    text_copy(command.uid, sizeof command.uid, found.uid);
    text_copy(command.key, sizeof command.key, found.key);
    text_copy(command.digest, sizeof command.digest, found.digest);
    text_copy(command.store, sizeof command.store, found.store);
    command.cut = found.cut;
    command.generation = found.generation;
    command.step = found.step;
    command.bytes = found.raw_bytes;
    command.stored = found.stored_bytes;
    text_copy(command.spec.name, sizeof command.spec.name, found.job);
    command.spec.nnodes = found.world_size;
    command.force = found.verified;
    api_propose(context, request, &command);
    codec_release(&ckpt_import_codec, &found);
}

static void post_gc(void *context, struct http_request *request)
{
    struct command command = {.kind = CMD_CKPT_GC};
    if (api_no_body(request) && take_job(request, &command))
        api_propose(context, request, &command);
}

/* ---- nodes ---- */

static void serve_nodes(void *context, struct http_request *request)
{
    watch_serve(context, request, WATCH_NODES, "");
}

static void get_nodes(void *context, struct http_request *request)
{
    lead_read(context, request, serve_nodes);
}

static void serve_node(void *context, struct http_request *request)
{
    watch_serve(context, request, WATCH_NODE, http_param(request, "node"));
}

static void get_node(void *context, struct http_request *request)
{
    lead_read(context, request, serve_node);
}

static void post_drain(void *context, struct http_request *request)
{
    struct command command = {.kind = CMD_NODE_DRAIN, .text = "drained by hand"};
    if (api_no_body(request) && take_node(request, &command))
        api_propose(context, request, &command);
}

static void post_resume(void *context, struct http_request *request)
{
    struct command command = {.kind = CMD_NODE_RESUME};
    if (api_no_body(request) && take_node(request, &command))
        api_propose(context, request, &command);
}

/* ---- agents ---- */

static void post_register(void *context, struct http_request *request)
{
    struct command command = {.kind = CMD_NODE_REGISTER};
    struct err err = {0};
    if (!api_take_body(request, &node_hello_codec, CODEC_LENIENT, &command.hello))
        return;
    /* A member of an older version could not read it. When there is none any more the agent registers again, if it has a key. */
    if (server_state(context)->level < PIN_LEVEL)
        command.hello.pin[0] = command.hello.domain[0] = '\0';
    text_copy(command.node, sizeof command.node, command.hello.name);
    if (!api_refused(request, access_node(context, request, command.node, &err), &err))
        api_propose(context, request, &command);
    codec_release(&node_hello_codec, &command.hello);
}

/* The most frequent answer of all: there is no tree of JSON behind it. */
static void reply_heard(struct server *server, struct http_request *request, uint64_t revision)
{
    const char *members = cluster_members(server);
    http_reply(request, 200, "application/json",
               mem_format("{\"revision\":%" PRIu64 "%s%s}\n", revision, members ? ",\"coordinators\":" : "", members ? members : ""));
}

static void post_heartbeat(void *context, struct http_request *request)
{
    struct server *server = context;
    if (!lead_here(server, request))
        return;
    struct heartbeat heartbeat;
    struct err err = {0};
    bool changed = false;
    char node[TIDE_NAME_MAX + 1];
    if (!api_take_body(request, &heartbeat_codec, CODEC_LENIENT, &heartbeat))
        return;
    text_copy(node, sizeof node, heartbeat.node);
    enum tide_status status = access_node(server, request, node, &err);
    if (status == TIDE_OK)
        status = book_heartbeat(&server->book, server_state(server), &heartbeat, clock_mono_ns(), &changed, &err);
    if (status != TIDE_OK)
        codec_release(&heartbeat_codec, &heartbeat);
    if (api_refused(request, status, &err))
        return;
    if (changed) {
        watch_changed(server);
        server_judge_soon(server);
    }
    watch_live_changed(server);
    reply_heard(server, request, watch_version(server, WATCH_DESIRED, node));
}

/* Not read with a round of the group: an agent refuses what is older than what it has seen. */
static void get_desired(void *context, struct http_request *request)
{
    struct server *server = context;
    if (!lead_here(server, request))
        return;
    struct err err = {0};
    const char *name = http_query(request, "node"), *incarnation = http_query(request, "incarnation");
    const struct node *node = name ? state_node(server_state(server), name) : NULL;
    if (name == NULL || incarnation == NULL)
        err_set(&err, TIDE_E_INVALID, "query parameters \"node\" and \"incarnation\" are needed");
    else if (access_node(server, request, name, &err) != TIDE_OK)
        ; /* said already */
    else if (node == NULL)
        err_set(&err, TIDE_E_NOT_FOUND, "there is no node %.80s: register first", name);
    else if (strcmp(node->incarnation, incarnation) != 0)
        err_set(&err, TIDE_E_STALE, "node %s has registered again since, as incarnation %s", name, node->incarnation);
    if (err.status != TIDE_OK)
        http_reply_err(request, &err);
    else
        watch_serve(server, request, WATCH_DESIRED, name);
}

/* ---- the cluster ---- */

static void get_version(void *context, struct http_request *request)
{
    (void)context;
    http_reply_json(request, json_pack("{s:s,s:s}", "version", TIDE_VERSION_STRING, "api", "v1"));
}

static void get_health(void *context, struct http_request *request)
{
    struct server *server = context;
    struct err err = {0};
    const char *local = http_query(request, "local");
    if ((local == NULL || strcmp(local, "true") != 0) && cluster_health(server, &err) != TIDE_OK) {
        http_reply_err(request, &err);
        return;
    }
    http_reply(request, 200, "text/plain", mem_strdup("ok\n"));
}

/* Only the leader knows what nodes say. */
static void get_metrics(void *context, struct http_request *request)
{
    struct server *server = context;
    if (lead_here(server, request))
        http_reply(request, 200, "text/plain; version=0.0.4",
                   metrics_text(server_state(server), &server->book, clock_mono_ns(), clock_wall_ms()));
}

/* Each with the least role that may call it (access.c). They are looked through in order: what is called most is first. */
const struct http_route api_routes[] = {
    {"POST", "/v1/agent/heartbeat", post_heartbeat, ROLE_AGENT},
    {"GET", "/v1/agent/desired", get_desired, ROLE_AGENT},
    {"POST", "/v1/agent/register", post_register, ROLE_AGENT},
    {"GET", "/healthz", get_health, ROLE_NONE},
    {"GET", "/v1/version", get_version, ROLE_NONE},
    {"GET", "/v1/ca", get_ca, ROLE_NONE},
    {"GET", "/v1/cluster", get_cluster, ROLE_VIEWER},
    {"GET", "/v1/metrics", get_metrics, ROLE_VIEWER},
    {"POST", "/v1/cluster/members", post_member, ROLE_ADMIN},
    {"POST", "/v1/cluster/members/{member}/promote", post_promote, ROLE_ADMIN},
    {"POST", "/v1/cluster/members/{member}/address", post_address, ROLE_ADMIN},
    {"DELETE", "/v1/cluster/members/{member}", delete_member, ROLE_ADMIN},
    {"POST", "/v1/cluster/transfer", post_transfer, ROLE_ADMIN},
    {"GET", "/v1/cluster/backup", get_backup, ROLE_ADMIN},
    {"GET", "/v1/tokens", get_tokens, ROLE_ADMIN},
    {"POST", "/v1/tokens", post_token, ROLE_ADMIN},
    {"DELETE", "/v1/tokens/{token}", delete_token, ROLE_ADMIN},
    {"GET", "/v1/revocations", get_revocations, ROLE_ADMIN},
    {"POST", "/v1/revocations", post_revocation, ROLE_ADMIN},
    {"DELETE", "/v1/revocations/{what}", delete_revocation, ROLE_ADMIN},
    {"GET", "/v1/jobs", get_jobs, ROLE_VIEWER},
    {"POST", "/v1/jobs", post_job, ROLE_OPERATOR},
    {"GET", "/v1/jobs/{job}", get_job, ROLE_VIEWER},
    {"POST", "/v1/jobs/{job}/cancel", post_cancel, ROLE_OPERATOR},
    {"POST", "/v1/jobs/{job}/rollback", post_rollback, ROLE_OPERATOR},
    {"POST", "/v1/jobs/{job}/checkpoints", post_ckpt, ROLE_OPERATOR},
    {"DELETE", "/v1/jobs/{job}/checkpoints/{cut}", delete_ckpt, ROLE_OPERATOR},
    {"POST", "/v1/jobs/{job}/checkpoints/{cut}/pin", post_pin, ROLE_OPERATOR},
    {"DELETE", "/v1/jobs/{job}/checkpoints/{cut}/pin", delete_pin, ROLE_OPERATOR},
    {"POST", "/v1/jobs/{job}/gc", post_gc, ROLE_OPERATOR},
    {"POST", "/v1/imports", post_import, ROLE_OPERATOR},
    {"GET", "/v1/nodes", get_nodes, ROLE_VIEWER},
    {"GET", "/v1/nodes/{node}", get_node, ROLE_VIEWER},
    {"POST", "/v1/nodes/{node}/drain", post_drain, ROLE_OPERATOR},
    {"POST", "/v1/nodes/{node}/resume", post_resume, ROLE_OPERATOR},
};
const size_t api_route_count = sizeof api_routes / sizeof api_routes[0];
