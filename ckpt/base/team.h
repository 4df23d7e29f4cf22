/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_TEAM_H
#define CKPT_BASE_TEAM_H

/* Some threads for one piece of work, which they share out among themselves: memory is copied and hashed as fast as one
 * processor can, or as all of them can. */

#define TEAM_MOST 16u

/* Processors that this process may use, at most `most`; at least 1. */
unsigned team_size(unsigned most);

/* Run work(context) in `size` threads at once, one of them the caller's, and return when all of them have. Fewer where threads
 * cannot be had, and at least one: of no work there is nothing to share out. Signals are the caller's alone. */
void team_run(unsigned size, void (*work)(void *context), void *context);

#endif
