/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/server/server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/server/inner.h"

#define VERDICT_PAUSE_MS 50u     /* after one was refused: the state and the book need not agree at once */
#define JUDGE_PAUSE_MS_MAX 1000u /* whatever the judge says: never longer without a look */

/* ---- the judge ---- */

static void on_judge(uv_timer_t *timer);

static void judge_at(struct server *server, uint64_t ms)
{
    if (!server->stopping && replica_leads(server->replica))
        uv_timer_start(&server->judge_timer, on_judge, ms, 0);
}

void server_judge_soon(struct server *server)
{
    /* The verdicts in flight come first: their end calls the judge again. */
    if (server->judging == 0)
        judge_at(server, server->verdict_refused ? VERDICT_PAUSE_MS : 0);
}

static void verdict_done(void *arg, enum tide_status status, const struct outcome *outcome, const struct err *err)
{
    struct server *server = arg;
    server->judging--;
    if (status != TIDE_OK) {
        log_warn("a verdict was refused: %s", err->text);
        server->verdict_refused = true;
    }
    /* Not applied: nothing else will call the judge again. */
    if (outcome == NULL)
        server_judge_soon(server);
}

void server_secret(char ret_secret[TIDE_TOKEN_CHARS + 1])
{
    _Static_assert(TIDE_TOKEN_CHARS == 32, "two numbers of 16 digits");
    snprintf(ret_secret, TIDE_TOKEN_CHARS + 1, "%016" PRIx64 "%016" PRIx64, rng_entropy(), rng_entropy());
}

static void propose_verdicts(struct server *server, const struct command_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        struct err err = {0};
        /* The judge's chance can be replayed from its seed; a secret must not be. */
        if (list->items[i].kind == CMD_GEN_LAUNCH)
            server_secret(list->items[i].token);
        log_debug("verdict: %s job %s generation %" PRIu64 " cut %" PRIu64, command_kind_names[list->items[i].kind],
                  list->items[i].job, list->items[i].generation, list->items[i].cut);
        if (replica_propose(server->replica, &list->items[i], true, verdict_done, server, &err) == TIDE_OK) {
            server->judging++;
            continue;
        }
        log_error("the verdict %s on job %s cannot be proposed: %s", command_kind_names[list->items[i].kind],
                  list->items[i].job, err.text);
        server->verdict_refused = true;
    }
}

static void on_judge(uv_timer_t *timer)
{
    struct server *server = timer->data;
    if (server->judging > 0 || server->stopping || !server_leads(server) || server_state(server)->cluster[0] == '\0')
        return;
    struct command_list list = {0};
    uint64_t now = clock_mono_ns(), next = UINT64_MAX;
    server->verdict_refused = false;
    judge(server_state(server), &server->book, now, clock_wall_ms(), &server->rng, &list, &next);
    propose_verdicts(server, &list);
    command_list_release(&list);
    if (server->judging > 0)
        return;
    uint64_t wait = next <= now ? 1 : (next - now + NS_PER_MS - 1) / NS_PER_MS;
    if (server->verdict_refused && wait < VERDICT_PAUSE_MS)
        wait = VERDICT_PAUSE_MS;
    judge_at(server, wait < JUDGE_PAUSE_MS_MAX ? wait : JUDGE_PAUSE_MS_MAX);
}

static enum tide_status write_address(struct server *server, struct err *err);

/* Whatever comes last: what was in the log is applied, the member leads, the cluster is made. */
static void offer_address(struct server *server)
{
    struct err err = {0};
    if (!server->address_written && server_leads(server) && server_state(server)->cluster[0] != '\0' &&
        write_address(server, &err) != TIDE_OK)
        log_error("%s", err.text);
}

static void on_applied(void *context)
{
    struct server *server = context;
    offer_address(server);
    watch_changed(server);
    server_judge_soon(server);
}

/* ---- how long one turn of the loop takes ---- */

static void on_turn_begins(uv_check_t *check)
{
    struct server *server = check->data;
    server->turn_ns = clock_mono_ns();
}

static void on_turn_ends(uv_prepare_t *prepare)
{
    struct server *server = prepare->data;
    uint64_t now = clock_mono_ns(), took = server->turn_ns ? now - server->turn_ns : 0;
    server->turn_ns = 0;
    if (took > server->turn_longest_ns)
        server->turn_longest_ns = took;
    if (took < TURN_LONG_NS || now - server->turn_said_ns < TURN_SAID_NS)
        return;
    server->turn_said_ns = now;
    log_warn("everybody waited %" PRIu64 " ms for this coordinator: one turn of its loop took so long", took / NS_PER_MS);
}

static void watch_turns(struct server *server)
{
    uv_check_init(server->loop, &server->turn_begins);
    uv_prepare_init(server->loop, &server->turn_ends);
    server->turn_begins.data = server->turn_ends.data = server;
    uv_check_start(&server->turn_begins, on_turn_begins);
    uv_prepare_start(&server->turn_ends, on_turn_ends);
}

static void on_tick(uv_timer_t *timer)
{
    struct server *server = timer->data;
    uint64_t now = clock_mono_ns();
    watch_tick(server, now);
    api_tick(server, now);
    cluster_tick(server, now);
    level_tick(server, now);
    access_tick(server, now);
}

/* ---- taking office, and leaving it ---- */

static void cluster_made(void *arg, enum tide_status status, const struct outcome *outcome, const struct err *err)
{
    struct server *server = arg;
    (void)outcome;
    if (status != TIDE_OK)
        log_error("the cluster could not be made: %s", err->text);
    else
        log_info("made cluster %s", server_state(server)->cluster);
}

/* The first command of a new cluster, by its first leader. */
static void make_cluster(struct server *server)
{
    const struct server_options *o = &server->options;
    struct command command = {.kind = CMD_CLUSTER_INIT};
    struct err err = {0};
    text_copy(command.text, sizeof command.text, member_cluster(replica_member(server->replica)));
    text_copy(command.store, sizeof command.store, o->store);
    command.lease_ms = o->lease_ms ? o->lease_ms : LEASE_MS_DEFAULT;
    command.heartbeat_ms = o->heartbeat_ms ? o->heartbeat_ms : HEARTBEAT_MS_DEFAULT;
    command.health_good_ms = o->health_good_ms;
    command.level = LEVEL_NEWEST; /* a member of an older version cannot read it, and cannot have been in the group before */
    if (o->identity != NULL) { /* replica_propose only reads them */
        command.tokens.items = o->identity->identity.tokens.items;
        command.tokens.count = o->identity->identity.tokens.count;
    }
    if (replica_propose(server->replica, &command, true, cluster_made, server, &err) != TIDE_OK)
        log_error("the cluster could not be made: %s", err.text);
}

static void compare_options(const struct server *server)
{
    const struct state *state = server_state(server);
    const struct server_options *o = &server->options;
    if ((o->store[0] && strcmp(o->store, state->store) != 0) || (o->lease_ms && o->lease_ms != state->lease_ms) ||
        (o->heartbeat_ms && o->heartbeat_ms != state->heartbeat_ms))
        log_warn("cluster %s was made with store \"%s\", lease %" PRIu64 " ms, heartbeat %" PRIu64
                 " ms; the options given now do not change that",
                 state->cluster, state->store, state->lease_ms, state->heartbeat_ms);
}

static void take_office(struct server *server)
{
    log_info("this member leads, in term %" PRIu64, replica_turn(server->replica)->term);
    book_release(&server->book);
    /* Every node gets a full lease from now: a coordinator that was away must not take silence for loss. */
    book_init(&server->book, server_state(server), clock_mono_ns());
    server->verdict_refused = false;
    watch_new_term(server, replica_turn(server->replica)->term);
    if (server_state(server)->cluster[0] == '\0')
        make_cluster(server);
    else
        compare_options(server);
    offer_address(server);
    watch_changed(server);
    judge_at(server, 0);
}

/* What a leader knows by itself is of no use to anybody else; who waits here should wait at the next one. */
static void leave_office(struct server *server)
{
    log_info("this member does not lead any more");
    uv_timer_stop(&server->judge_timer);
    book_release(&server->book);
    watch_send_away(server);
    watch_changed(server);
}

static void on_turned(void *context, const struct member_turn *turn)
{
    struct server *server = context;
    bool led = server->leads;
    server->leads = turn->ready;
    if (turn->ready && !led)
        take_office(server);
    else if (!turn->ready && led)
        leave_office(server);
}

/* ---- open ---- */

static enum tide_status write_address(struct server *server, struct err *err)
{
    server->address_written = true;
    char path[DATA_FILE_MAX], line[ADDRESS_MAX + 2];
    datadir_file(server->options.data, "address", path);
    int n = snprintf(line, sizeof line, "%s\n", http_address(server->http));
    return fsx_replace(path, line, (size_t)n, 0644, err);
}

/* That of an earlier run would send those who wait for this one to nowhere. */
static enum tide_status forget_address(struct server *server, struct err *err)
{
    char path[DATA_FILE_MAX];
    datadir_file(server->options.data, "address", path);
    return unlink(path) == 0 || errno == ENOENT ? TIDE_OK : err_errno(err, "cannot remove %s", path);
}

void server_end_if_idle(struct server *server)
{
    if (!server->stopped || server->backups > 0 || server->http == NULL)
        return;
    watch_stop(server);
    http_close(server->http);
    server->http = NULL;
    uv_close((uv_handle_t *)&server->judge_timer, NULL);
    uv_close((uv_handle_t *)&server->tick, NULL);
    uv_close((uv_handle_t *)&server->turn_begins, NULL);
    uv_close((uv_handle_t *)&server->turn_ends, NULL);
}

static void on_stopped(void *context)
{
    struct server *server = context;
    server->stopped = true;
    server_end_if_idle(server);
}

/* The group as it is founded: all whom the identity names, or this one alone. */
static enum tide_status found(struct server *server, struct err *err)
{
    const struct identity *identity = &server->options.identity->identity;
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < identity->members.count && status == TIDE_OK && !identity->joining; i++) {
        const struct member_address *from = &identity->members.items[i];
        struct raft_member member = {.id = from->id, .voter = true};
        text_copy(member.peer, sizeof member.peer, from->peer);
        text_copy(member.api, sizeof member.api, from->api);
        status = raft_config_add(&server->founders, &member, err);
    }
    return status;
}

static enum tide_status open_replica(struct server *server, struct err *err)
{
    const struct server_options *o = &server->options;
    struct replica_options options = {.loop = server->loop,
                                      .member = {.data = o->data,
                                                 .election_ticks = (uint32_t)(o->election_ms / RAFT_TICK_MS),
                                                 .heartbeat_ticks = (uint32_t)(o->beat_ms / RAFT_TICK_MS)},
                                      .applied = on_applied,
                                      .turned = on_turned,
                                      .stopped = on_stopped,
                                      .snapshot_every = o->snapshot_every,
                                      .context = server};
    enum tide_status status = TIDE_OK;
    if (o->identity != NULL) {
        options.member.cluster = o->identity->identity.cluster;
        options.member.id = o->identity->identity.member;
        options.member.founders = &server->founders;
        options.member.peer_listen = o->peer_listen;
        options.member.ca = o->identity->ca_file;
        options.member.cert = o->identity->cert_file;
        options.member.key = o->identity->key_file;
        status = found(server, err);
    }
    return status == TIDE_OK ? replica_open(&options, &server->replica, err) : status;
}

static enum tide_status open_http(struct server *server, struct err *err)
{
    const struct idir *identity = server->options.identity;
    if (identity != NULL)
        server->tls = (struct http_tls){.cert = identity->cert_pem, .key = identity->key_pem, .ca = identity->ca_pem};
    enum tide_status status = http_open(&(struct http_options){.loop = server->loop,
                                                               .listen = server->options.listen,
                                                               .routes = api_routes,
                                                               .route_count = api_route_count,
                                                               .context = server,
                                                               .stamp = api_stamp,
                                                               .tls = server->tls.cert ? &server->tls : NULL,
                                                               .admit = access_admit,
                                                               .elsewhere = access_elsewhere},
                                        &server->http, err);
    if (status == TIDE_OK && server->tls.cert == NULL && !server->options.insecure &&
        !address_loopback(http_address(server->http)))
        return err_set(err, TIDE_E_DENIED,
                       "without certificates whoever reaches %s could do everything; give --identity DIR (tidemark cluster "
                       "init makes it), listen on 127.0.0.1, or say --insecure if everybody there may",
                       http_address(server->http));
    return status;
}

static enum tide_status open_parts(struct server *server, struct err *err)
{
    enum tide_status status = founded_check(&server->options, err);
    if (status == TIDE_OK)
        status = open_replica(server, err);
    if (status != TIDE_OK)
        return status;
    founded_mark(&server->options);
    status = forget_address(server, err);
    if (status == TIDE_OK)
        status = open_http(server, err);
    /* A group of one is of use once it has read its log; a member of several can say who leads at once. */
    if (status == TIDE_OK && server->options.identity != NULL)
        status = write_address(server, err);
    return status;
}

enum tide_status server_open(uv_loop_t *loop, const struct server_options *options, struct server **ret_server,
                             struct err *err)
{
    struct server *server = mem_alloc(sizeof *server);
    server->loop = loop;
    server->options = *options;
    server->rng.state = rng_entropy();
    server->started_ns = clock_mono_ns();
    enum tide_status status = open_parts(server, err);
    if (status != TIDE_OK) {
        http_close(server->http);
        replica_close(server->replica);
        mem_free(server);
        return status;
    }
    uv_timer_init(loop, &server->judge_timer);
    uv_timer_init(loop, &server->tick);
    server->judge_timer.data = server->tick.data = server;
    uv_timer_start(&server->tick, on_tick, TICK_MS, TICK_MS);
    watch_init(server);
    watch_turns(server);
    replica_start(server->replica);
    *ret_server = server;
    return TIDE_OK;
}

/* ---- stop ---- */

void server_stop(struct server *server)
{
    if (server->stopping)
        return;
    server->stopping = true;
    uv_timer_stop(&server->judge_timer);
    replica_stop(server->replica, true);
}

void server_free(struct server *server)
{
    if (server == NULL)
        return;
    cluster_forget(server);
    book_release(&server->book);
    replica_close(server->replica);
    mem_free(server);
}
