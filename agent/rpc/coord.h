/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_COORD_H
#define AGENT_RPC_COORD_H

/* The agent's side of the coordinator's API: registration, heartbeats (one in flight; at once when told, else every
 * heartbeat_ms) and the long poll for desired state. No answer is tolerated for ever: training does not need it. */

#include "agent/rpc/creds.h"
#include "ckpt/base/rng.h"
#include "ckpt/wire/node.h"

/* A coordinator that was left behind when its group was recovered is not followed; of a recovery that was not known yet the
 * node hears by registering again. */
enum coord_history { COORD_SAME, COORD_LEFT_BEHIND, COORD_LATER };

struct coord_hooks {
    void *context;
    /* Welcomed, by a coordinator of that recovery epoch. False: that cluster is refused (said in a log line already); asked
     * again later. */
    bool (*welcomed)(void *context, const struct node_welcome *welcome, uint64_t epoch);
    /* An answer of that cluster and epoch came. */
    enum coord_history (*history)(void *context, const char *cluster, uint64_t epoch);
    /* A refusal that cannot be waited out before the first welcome: the process ends. */
    void (*refused)(void *context, const char *why);
    void (*desired)(void *context, const struct desired *desired);
    char *(*heartbeat)(void *context);       /* body; heap */
    uint64_t (*revision)(void *context);     /* after which to ask */
};

struct coord;
/* urls: "https://host:port", comma-separated; creds must outlive it. Errors: INVALID. */
MUST_USE enum tide_status coord_create(struct http_client *client, const char *urls, struct agent_creds *creds,
                                       const struct node_hello *hello, const struct coord_hooks *hooks,
                                       struct coord **ret_coord, struct err *err);
void coord_start(struct coord *coord);
void coord_beat_now(struct coord *coord);
uint64_t coord_heartbeat_ms(const struct coord *coord);
void coord_close(struct coord *coord); /* stop timers; the loop must run once more before coord_free */
void coord_free(struct coord *coord);

#endif
