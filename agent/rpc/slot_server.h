/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_SLOT_SERVER_H
#define AGENT_RPC_SLOT_SERVER_H

/* GET /v1/slots?uid=…&rank=…&cut=…&part=sum|slot on the agent's own port: what lies in this node's memory of a rank, its own or a copy,
 * for other agents (copy.h). */

#include <microhttpd.h>

#include "ckpt/base/err.h"
#include "ckpt/secure/secret.h"

#define SLOT_SERVER_PATH "/v1/slots"

/* What is shown for a job whose generation has that secret: made from it, since this port may be plain and the secret opens more. */
void slot_secret(const char *token, char ret_secret[SHA256_HEX_CHARS + 1]);

struct slot_access {
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
