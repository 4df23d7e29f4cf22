/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_SCRUB_H
#define AGENT_RPC_SCRUB_H

/* Reads a checkpoint in the store as a whole, slowly: on a thread of its own, which gets what of processor and disk nobody else
 * wants, with a handle of the store of its own, no faster than it is told, and not at all while it is to rest. */

#include <uv.h>

#include "agent/core/core.h"

struct scrub;
/* done: on the loop's thread, with EV_SCRUBBED (borrowed). bytes_per_s: of state, and above 0. */
struct scrub *scrub_create(uv_loop_t *loop, uint64_t bytes_per_s, void (*done)(void *context, const struct agent_event *event),
                           void *context);
/* ACT_SCRUB; the one before has been answered. */
void scrub_start(struct scrub *scrub, const struct agent_action *action);
/* From now on, or not any more. */
void scrub_rest(struct scrub *scrub, bool rests);
/* No answer comes any more; what is being read is not waited for. NULL is legal, here and below. */
void scrub_close(struct scrub *scrub);
/* After the loop's last turn. False: its thread still runs, and what it uses is left to the end of the process. */
bool scrub_free(struct scrub *scrub);

#endif
