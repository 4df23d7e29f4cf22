/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_SERVER_INNER_H
#define COORDINATOR_SERVER_INNER_H

#include "coordinator/server/server.h"

#define WATCH_MS_MAX 60000u /* longest a watch is held */
#define WATCH_BUCKETS 1024u
#define VERSION_MAX (UINT64_C(1) << 62) /* of a watched thing; larger ones are no answer of ours */
#define COMMAND_DEADLINE_MS 30000u      /* a command that is not in the log by then is answered TIMEOUT: outcome unknown */
#define TICK_MS 100u                    /* how often deadlines are looked at */

/* What can be watched. Each thing has a version: a number that grows whenever what is served of it changes. */
enum watch_kind { WATCH_JOBS, WATCH_JOB, WATCH_NODES, WATCH_NODE, WATCH_DESIRED, WATCH_KINDS };

struct watcher {
    struct http_request *request;
    uint64_t after, deadline_ns;
    struct watcher *next;
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
    size_t parked;
    uv_timer_t sweep;
    bool swept_soon;  /* the sweep timer is set for at once, not for later */
    bool sweep_again; /* something changed behind the cursor */
    unsigned cursor;  /* bucket at which an interrupted sweep goes on */
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

struct server {
    uv_loop_t *loop;
    struct server_options options;
    struct replica *replica;
    struct http *http;
    struct book book;
    struct rng rng;
    uint64_t started_ns;
    uv_timer_t judge_timer, tick;
    size_t judging;       /* verdicts in flight */
    bool verdict_refused; /* one of them: do not come again at once */
    struct watches watches;
    struct asked *asked;
    bool stopping;
};

static inline const struct state *server_state(const struct server *server)
{
    return replica_state(server->replica);
}

/* server.c: something the judge looks at has changed. */
void server_judge_soon(struct server *server);

/* api.c */
extern const struct http_route api_routes[];
extern const size_t api_route_count;
void api_stamp(void *context, struct http_request *request);
void api_tick(struct server *server, uint64_t now_ns);

/* watch.c */
void watch_init(struct server *server);
/* Answer a GET of a watched thing: at once, or when it changes, as `after` and `wait_ms` ask. */
void watch_serve(struct server *server, struct http_request *request, unsigned kind, const char *key);
/* Its version now; 0 when there is no such thing. */
uint64_t watch_version(struct server *server, unsigned kind, const char *key);
void watch_changed(struct server *server);      /* the state, or what the leader concludes from heartbeats */
void watch_live_changed(struct server *server); /* only steps and times */
void watch_tick(struct server *server, uint64_t now_ns);
void watch_stop(struct server *server);

/* view.c: what is served of a thing, its "revision" being `version`. ret_basis: digest of what counts as a change. */
MUST_USE enum tide_status view_of(struct server *server, unsigned kind, const char *key, json_t **ret_json,
                                  struct digest *ret_basis, struct err *err);

#endif
