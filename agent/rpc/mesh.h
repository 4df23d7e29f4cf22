/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_MESH_H
#define AGENT_RPC_MESH_H

/* Agent to agent: frames of the steps' fences. A connection carries frames one way, from who opened it; it is opened when
 * the first frame is to go, and dropped with all that waits on it when the other side is gone or too slow. Nothing is lost by
 * that: steps repeat what was not acknowledged. */

#include <uv.h>

#include "agent/step/link.h"

#define MESH_LINKS_MAX 1024u            /* outgoing, and as many incoming */
#define MESH_SILENCE_MS 10000u          /* what a peer has not taken by then it never will: connected anew */
#define MESH_KEEPALIVE_S 60u            /* a peer that went without a word is noticed some time */
#define MESH_WAITING_BYTES_MAX (8u << 20) /* not taken yet by one peer */

struct mesh;
/* frame: on the loop's thread, for each frame that came in; not trusted yet.
 * address: to listen on; *port 0: any, then set to the real one. Errors: IO (port in use). */
MUST_USE enum tide_status mesh_create(uv_loop_t *loop, const char *address, uint32_t *port,
                                      void (*frame)(void *context, const struct mesh_frame *frame), void *context,
                                      struct mesh **ret_mesh, struct err *err);
void mesh_send(struct mesh *mesh, const char *address, uint32_t port, const struct mesh_frame *frame);
void mesh_close(struct mesh *mesh); /* the loop must run until the handles are closed, then mesh_free */
void mesh_free(struct mesh *mesh);

#endif
