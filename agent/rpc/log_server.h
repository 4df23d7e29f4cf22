/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_LOG_SERVER_H
#define AGENT_RPC_LOG_SERVER_H

/* GET /v1/logs, and /v1/slots, on the agent's own port. LOG_THREADS threads of libmicrohttpd's take requests, shake hands for TLS and send
 * what is answered, gigabytes of slots among it; what is answered the libuv loop decides, which has the state that is asked about. A
 * request that waits for more output is parked there, not threaded. */

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/rpc/slot_server.h"
#include "ckpt/base/err.h"
#include "ckpt/secure/port_key.h"

#define LOG_CONNECTIONS_MAX 256u
#define LOG_THREADS 4u

struct log_server;
/* address: to listen on; *port 0: any, then set to the real one. key: what is shown there, with TLS 1.3; it must outlive the server.
 * NULL: plain. Who asks is known by a secret. running: may more output of that generation come?
 * Errors: INVALID, IO (port in use). */
MUST_USE enum tide_status log_server_create(uv_loop_t *loop, const char *logs, const char *address, uint32_t *port,
                                            const struct port_key *key,
                                            bool (*running)(void *context, const char *uid, uint64_t generation), void *context,
                                            const struct slot_access *slots, struct log_server **ret_server, struct err *err);
void log_server_close(struct log_server *server); /* the loop must run once more, then log_server_free */
void log_server_free(struct log_server *server);

#endif
