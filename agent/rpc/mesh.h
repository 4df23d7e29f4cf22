/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_MESH_H
#define AGENT_RPC_MESH_H

/* Agent to agent: frames of the steps' fences. A connection carries frames one way, from who opened it; it is opened when
 * the first frame is to go, and dropped with all that waits on it when the other side is gone or too slow. Nothing is lost by
 * that: steps repeat what was not acknowledged.
 *
 * With a key connections are TLS 1.3, and each side shows its key: who opens one knows the pin of who is to be there, who takes one
 * passes the pin on with each frame. To whom no pin is known, an agent of an older version or of a cluster without TLS, it is plain. */

#include <uv.h>

#include "agent/step/link.h"
#include "ckpt/secure/port_key.h"

#define MESH_LINKS_MAX 1024u            /* outgoing, and as many incoming */
#define MESH_SILENCE_MS 10000u          /* what a peer has not taken by then it never will: connected anew */
#define MESH_KEEPALIVE_S 60u            /* a peer that went without a word is noticed some time */
#define MESH_PROOF_MS 5000u             /* until a frame of who has come was believed, and who was called is there and has shown its key */
#define MESH_WAITING_BYTES_MAX (8u << 20) /* not taken yet by one peer */

struct mesh;
/* frame: on the loop's thread, for each frame that came in; not trusted yet. pin: of the sender's key, empty: it has shown none. False: it
 * may be anybody's; a connection on which nothing else comes is cut off. */
typedef bool mesh_take(void *context, const struct mesh_frame *frame, const char *pin);
/* address: to listen on; *port 0: any, then set to the real one. key: NULL: none. Errors: INVALID, IO (port in use). */
MUST_USE enum tide_status mesh_create(uv_loop_t *loop, const char *address, uint32_t *port, const struct port_key *key,
                                      mesh_take *frame, void *context, struct mesh **ret_mesh, struct err *err);
/* pin: of whoever must be there; empty: plain. */
void mesh_send(struct mesh *mesh, const char *address, uint32_t port, const char *pin, const struct mesh_frame *frame);
void mesh_close(struct mesh *mesh); /* the loop must run until the handles are closed, then mesh_free */
void mesh_free(struct mesh *mesh);

#endif
