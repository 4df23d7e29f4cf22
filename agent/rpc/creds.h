/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_CREDS_H
#define AGENT_RPC_CREDS_H

/* What the agent shows to coordinators, and whom it believes: an identity directory with a certificate, or a join token with
 * the pin of the cluster's CA. With neither, coordinators are reached over plain HTTP, or by the system's CAs. */

#include "agent/rpc/http_client.h"
#include "ckpt/secure/idir.h"
#include "ckpt/secure/join.h"

struct agent_creds {
    struct idir idir; /* empty: none */
    struct join join; /* empty: none */
    char *ca_pem;     /* of the join token, once a coordinator has shown it */
    struct http_creds http; /* points into the above */
};

/* identity: a directory, or empty; join: a join token, or a file that holds one, or empty. `node`: the certificate must
 * be good for it. Errors: INVALID, and those of idir_load; nothing is left to release then. */
MUST_USE enum tide_status creds_load(const char *identity, const char *join, const char *node, struct agent_creds *ret_creds,
                                     struct err *err);
void creds_release(struct agent_creds *creds);

/* Is a coordinator still to be asked for the CA? */
bool creds_want_ca(const struct agent_creds *creds);
/* Believe the CA that a coordinator showed if it is the one that the join token is pinned to. Errors: DENIED. */
MUST_USE enum tide_status creds_take_ca(struct agent_creds *creds, const char *pem, struct err *err);

#endif
