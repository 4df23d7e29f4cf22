/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_FRAME_H
#define AGENT_RPC_FRAME_H

/* How bytes of a stream become messages: four bytes of length, big-endian, then JSON between agents; lines between agent
 * and step. Both refuse what is longer than they accept before they have stored it. */

#include "agent/step/link.h"

#define FRAME_HEADER_BYTES 4u
#define FRAME_BYTES_MAX (MESH_DATA_MAX + 4096u)

/* Bytes that have come and are not a whole message yet. */
struct inflow {
    char *data;
    size_t used, room, most;
    size_t taken; /* of the front, by messages given out */
};
void inflow_init(struct inflow *inflow, size_t bytes_max);
void inflow_release(struct inflow *inflow);
/* Errors: LIMIT (more than bytes_max are waiting). */
MUST_USE enum tide_status inflow_add(struct inflow *inflow, const char *data, size_t bytes, struct err *err);

/* The next whole message, or false. *ret_data is valid until the next call on the inflow; not NUL-terminated. */
bool inflow_line(struct inflow *inflow, const char **ret_data, size_t *ret_bytes);
/* Errors: LIMIT (a frame longer than FRAME_BYTES_MAX is announced). *ret_data is NULL when there is none yet. */
MUST_USE enum tide_status inflow_frame(struct inflow *inflow, const char **ret_data, size_t *ret_bytes, struct err *err);
/* After the messages taken so far were used: move the rest to the front. */
void inflow_settle(struct inflow *inflow);

/* Heap bytes to send; ret_bytes of them. */
char *frame_print(const struct mesh_frame *frame, size_t *ret_bytes);
/* Errors: INVALID. */
MUST_USE enum tide_status frame_parse(const char *data, size_t bytes, struct mesh_frame *ret_frame, struct err *err);

#endif
