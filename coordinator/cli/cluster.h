/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_CLUSTER_H
#define COORDINATOR_CLI_CLUSTER_H

/* What the commands about the group of coordinators share. */

#include "coordinator/cli/client.h"

#define HEARD_MS_MAX 2000u      /* a member silent for longer is as good as gone */
#define CAUGHT_UP_LAG_MAX 1000u /* entries; below what a coordinator refuses to promote at */

/* GET /v1/cluster; the caller releases ret_view. */
MUST_USE enum tide_status cluster_get(struct client *client, struct cluster_view *ret_view, struct fault *fault);
/* NULL: there is none of that id. */
const struct member_view *cluster_member(const struct cluster_view *view, uint64_t id);
/* Its id; 0: none is known. */
uint64_t cluster_leader(const struct cluster_view *view);
size_t cluster_voters(const struct cluster_view *view);
/* The leader hears it. Says nothing in a view that is not the leader's. */
bool member_heard(const struct member_view *member);

/* "HOST[:API_PORT[:PEER_PORT]]" into api and peer; `insecure`: http. Errors: INVALID. (cmd_init.c) */
MUST_USE enum tide_status member_parse(const char *text, bool insecure, struct member_address *ret_member,
                                       struct fault *fault);

/* Sentences about what is not as it should be, added to `to`. `led`: the view is the leader's. */
void cluster_problems(const struct cluster_view *view, bool led, struct strlist *to);

/* The path of a daemon: beside this program, else its bare name, to be looked for in PATH. (standalone.c) */
void program_find(const char *name, char *to, size_t size);

#endif
