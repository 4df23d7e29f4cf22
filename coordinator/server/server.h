/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_SERVER_SERVER_H
#define COORDINATOR_SERVER_SERVER_H

/* The leader at work: the replica's state, the leader's own book, the judge between them, and the API in front. All on
 * one loop's thread. */

#include <stdbool.h>
#include <uv.h>

#include "ckpt/secure/idir.h"
#include "coordinator/core/core.h"
#include "coordinator/http/http.h"
#include "coordinator/server/replica.h"

struct server_options {
    const char *data;
    const char *listen;
    const char *identity_dir;        /* where it lies; with `identity` */
    const struct idir *identity;     /* who this member is; NULL: a cluster of its own, open to everybody who reaches it */
    bool insecure;                   /* serve without certificates on an address that others reach */
    const char *store;               /* the cluster's default; used when the cluster is new */
    uint64_t lease_ms, heartbeat_ms, health_good_ms; /* … */
    uint64_t snapshot_every;         /* 0: the default */
    const char *peer_listen;         /* where the other members connect; NULL: nowhere */
    uint64_t election_ms, beat_ms;   /* of the group; 0: the defaults */
};

struct server;

/* Open everything; the API answers once the loop runs and the cluster has its first record. Errors: as replica_open and
 * http_open. */
MUST_USE enum tide_status server_open(uv_loop_t *loop, const struct server_options *options, struct server **ret_server,
                                      struct err *err);
/* What is in flight is finished and answered, then everything is closed and the loop runs dry. */
void server_stop(struct server *server);
void server_free(struct server *server); /* after the loop ran dry; NULL is legal */

#endif
