/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_SLOT_SERVER_H
#define AGENT_RPC_SLOT_SERVER_H

/* On the agent's own port, for other agents: what lies in this node's memory of a rank, its own or a copy (copy.h),
 *
 *     GET /v1/slots?uid=…&rank=…&cut=…&part=sum|slot|share
 *
 * where share is sum for those who ask in order to store together (across.h), and where what this node stored of a cut lies
 *
 *     GET /v1/slots?uid=…&cut=…&generation=…&part=packs
 *
 * which is empty as long as it is not known. */

#include <microhttpd.h>

#include "ckpt/base/err.h"
#include "ckpt/secure/secret.h"

#define SLOT_SERVER_PATH "/v1/slots"

/* What is shown for a job whose generation has that secret: made from it, since this port may be plain and the secret opens more. */
void slot_secret(const char *token, char ret_secret[SHA256_HEX_CHARS + 1]);

struct across;

struct slot_access {
    struct across *across; /* NULL: share and packs are not given */
    const char *arenas; /* directory: a job's arena is called by its uid there */
    /* The secret of the job's present generation; NULL: nobody gets anything of it. */
    const char *(*token)(void *context, const char *uid);
    void *context;
};

/* The response to that request, to be queued with 200. Errors: INVALID, DENIED, UNAVAILABLE (no generation runs here yet), NOT_FOUND,
 * IO. */
MUST_USE enum tide_status slot_server_open(const struct slot_access *access, struct MHD_Connection *connection,
                                           struct MHD_Response **ret_response, struct err *err);

#endif
