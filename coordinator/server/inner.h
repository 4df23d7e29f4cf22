/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_SERVER_INNER_H
#define COORDINATOR_SERVER_INNER_H

#include "coordinator/server/server.h"

#define WATCH_MS_MAX 60000u /* longest a watch is held */
#define WATCH_BUCKETS 8192u
#define WATCH_DUE_SLOTS 1024u /* ticks: more than the longest wait */
#define VERSION_MAX (UINT64_C(1) << 62) /* of a watched thing; larger ones are no answer of ours */
#define COMMAND_DEADLINE_MS 30000u      /* a command that is not in the log by then is answered TIMEOUT: outcome unknown */
#define TURN_LONG_NS (250 * NS_PER_MS)  /* a turn of the loop that long is said */
#define TURN_SAID_NS (10 * NS_PER_S)    /* … so often */
#define TICK_MS 100u                    /* how often deadlines are looked at */

/* What can be watched. Each thing has a version: a number that grows whenever what is served of it changes. */
enum watch_kind { WATCH_JOBS, WATCH_JOB, WATCH_NODES, WATCH_NODE, WATCH_DESIRED, WATCH_KINDS };

struct watcher {
    struct server *server;
    struct watched *watched; /* which lives as long as anybody waits for it */
    struct http_request *request;
    uint64_t after, deadline_ns;
    struct watcher *next;
    struct watcher *due_next, **due_link; /* in `due` */
};

struct watched {
    unsigned kind; /* enum watch_kind */
    char key[TIDE_NAME_MAX + 1];
    uint64_t epoch; /* of the server's knowledge when it was last looked at; 0: never */
    uint64_t version;
    struct digest digest; /* of what is served, without the version and what changes by itself */
    char *text;           /* to answer with; only kept while it is watched */
    struct watcher *watchers;
    struct watched *next;
};

struct watches {
    struct watched *buckets[WATCH_BUCKETS];
    uint64_t epoch;   /* grows when the state changes, or the leader's view of it */
    uint64_t live;    /* grows with every heartbeat: epoch of things that show steps */
    uint64_t version; /* newest one given out */
    struct watcher *due[WATCH_DUE_SLOTS]; /* all that are parked, by the tick behind their deadline: a wheel */
    uint64_t due_tick;                    /* the last one that was looked at */
    size_t parked;
    size_t parked_live; /* of those, for what changes with heartbeats */
    uv_timer_t sweep;
    bool swept_soon;  /* the sweep timer is set for at once, not for later */
    bool sweep_again; /* something changed behind the cursor */
    bool live_again;  /* … that heartbeats change */
    unsigned cursor;  /* bucket at which an interrupted sweep goes on */
    uint64_t took_ns; /* its turns so far */
    uint64_t rest_until_ns; /* no other begins before */
};

#define REFUSALS_LOGGED_MAX 10u /* lines about refused calls in … */
#define REFUSALS_LOGGED_MS 1000u

/* So that nobody fills the log with calls that are refused. */
struct refusals {
    uint64_t since_ns;
    unsigned said;
    uint64_t unsaid;
};

/* A command a client waits for. */
struct asked {
    struct server *server;
    struct http_request *request; /* NULL: was answered TIMEOUT */
    uint64_t deadline_ns;
    unsigned kind;                /* enum command_kind */
    char node[TIDE_NAME_MAX + 1]; /* NODE_REGISTER */
    struct asked *next, **link;
};

/* What the configuration of the group says to callers. */
struct group_read {
    struct raft_blob *of;           /* it; a reference */
    char *members;                  /* URLs of all, for agents: JSON; NULL: none */
    char epoch[EPOCH_TEXT_MAX + 1]; /* empty: not known yet */
    uint64_t ids[RAFT_MEMBERS_MAX]; /* of all; 0: no more */
};

struct server {
    uv_loop_t *loop;
    struct server_options options;
    struct replica *replica;
    struct http *http;
    struct raft_config founders;
    uv_check_t turn_begins; /* of the loop, and its end */
    uv_prepare_t turn_ends;
    uint64_t turn_ns, turn_longest_ns, turn_said_ns; /* began; longest so far; last said to be long */
    bool leads;                                      /* and has said so to all in here */
    bool address_written;
    struct http_tls tls; /* texts of options.identity */
    struct book book;
    struct rng rng;
    uint64_t started_ns;
    uv_timer_t judge_timer, tick;
    size_t judging;       /* verdicts in flight */
    bool verdict_refused; /* one of them: do not come again at once */
    struct watches watches;
    struct asked *asked;
    struct group_read group;
    uint64_t level_looked_ns;  /* level.c */
    bool level_asked;          /* a higher one is on its way through the log */
    uint64_t level_waits_for;  /* the member that does not know it, or is not heard; 0: none */
    struct changing *changing; /* changes of the group that callers wait for (cluster.c) */
    struct refusals refusals;
    bool stopping, stopped; /* asked to; the replica has */
    size_t backups;         /* being read, for requests that wait */
};

static inline const struct state *server_state(const struct server *server)
{
    return replica_state(server->replica);
}

static inline bool server_leads(const struct server *server)
{
    return server->leads && !server->stopping;
}

/* server.c: a secret out of the kernel's randomness: nothing that was seen of another tells anything about it. */
void server_secret(char ret_secret[TIDE_TOKEN_CHARS + 1]);
/* founded.c. Errors: CONFLICT: this identity has been in use, and its data is gone. */
MUST_USE enum tide_status founded_check(const struct server_options *options, struct err *err);
void founded_mark(const struct server_options *options);

/* server.c */
void server_end_if_idle(struct server *server);
/* Something the judge looks at has changed. */
void server_judge_soon(struct server *server);

/* api.c */
extern const struct http_route api_routes[];
extern const size_t api_route_count;
void api_stamp(void *context, struct http_request *request);
void api_tick(struct server *server, uint64_t now_ns);
/* cluster.c: URLs of all members as a list of JSON, NULL: not known; the recovery epoch, empty while this member has not
 * caught up. Borrowed. */
const char *cluster_members(struct server *server);
const char *cluster_epoch(struct server *server);
bool cluster_has(struct server *server, uint64_t id);
void cluster_forget(struct server *server);
void cluster_tick(struct server *server, uint64_t now_ns); /* cluster.c */
/* For handlers: answer the error if there is one; read a body, or see that there is none; propose, and answer with what
 * becomes of it. False, and answered, when it cannot be. */
bool api_refused(struct http_request *request, enum tide_status status, const struct err *err);
bool api_take_body(struct http_request *request, const struct codec *codec, unsigned flags, void *noun);
bool api_no_body(struct http_request *request);
void api_propose(struct server *server, struct http_request *request, struct command *command);

/* lead.c: calls that only the leader can answer. */
void lead_redirect(struct server *server, struct http_request *request);
/* UNAVAILABLE: the group was recovered without this member. */
enum tide_status lead_left_behind(const struct server *server, struct err *err);
/* False, and answered, when this member does not lead. */
bool lead_here(struct server *server, struct http_request *request);
/* Call `then` when the state here is at least as new as the call; with ?stale=true at once. Else the call is answered. */
void lead_read(struct server *server, struct http_request *request, http_handler *then);

/* cluster.c: the group and its members. Errors: UNAVAILABLE: this member is of no use to a client, and why. */
MUST_USE enum tide_status cluster_health(struct server *server, struct err *err);
void get_cluster(void *context, struct http_request *request);
void post_member(void *context, struct http_request *request);
void post_promote(void *context, struct http_request *request);
void post_address(void *context, struct http_request *request);
void delete_member(void *context, struct http_request *request);
void post_transfer(void *context, struct http_request *request);
void get_backup(void *context, struct http_request *request);

/* level.c: raise the level of the group when every member knows it. */
void level_tick(struct server *server, uint64_t now_ns);

/* access.c: who may do what. The table of routes says the least role of each. */
unsigned access_admit(void *context, const struct http_request *request, unsigned least, struct err *err);
void access_elsewhere(void *context, struct http_request *request);
void access_tick(struct server *server, uint64_t now_ns); /* whom nobody follows is counted in the log, too */
/* May this caller, an agent, speak for that node? Errors: DENIED. */
MUST_USE enum tide_status access_node(struct server *server, const struct http_request *request, const char *node,
                                      struct err *err);
void get_ca(void *context, struct http_request *request);
void get_tokens(void *context, struct http_request *request);
void post_token(void *context, struct http_request *request);
void delete_token(void *context, struct http_request *request);

/* revoke.c. Does a certificate that the CA gave count no more? ret_why: in words. */
bool revoked_cert(struct server *server, const struct cert_name *name, const char *serial, char *ret_why, size_t size);
void get_revocations(void *context, struct http_request *request);
void post_revocation(void *context, struct http_request *request);
void delete_revocation(void *context, struct http_request *request);

/* watch.c */
void watch_init(struct server *server);
/* This member leads from now on: every thing has a new version, larger than any of an earlier term. */
void watch_new_term(struct server *server, uint64_t term);
/* Answer a GET of a watched thing: at once, or when it changes, as `after` and `wait_ms` ask. */
void watch_serve(struct server *server, struct http_request *request, unsigned kind, const char *key);
/* Its version now; 0 when there is no such thing. */
uint64_t watch_version(struct server *server, unsigned kind, const char *key);
void watch_changed(struct server *server);      /* the state, or what the leader concludes from heartbeats */
void watch_live_changed(struct server *server); /* only steps and times */
void watch_tick(struct server *server, uint64_t now_ns);
void watch_send_away(struct server *server); /* all who wait: to the leader, or to ask again */
void watch_stop(struct server *server);

/* view.c: what is served of a thing, a JSON object on the heap, without the "revision". ret_basis: digest of what counts as a
 * change. */
MUST_USE enum tide_status view_of(struct server *server, unsigned kind, const char *key, char **ret_text,
                                  struct digest *ret_basis, struct err *err);

#endif
