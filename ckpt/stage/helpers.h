/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_HELPERS_H
#define CKPT_STAGE_HELPERS_H

/* How many threads help to encode one rank's shard (ahead.h), besides the one that stores it: as many as the host has processors to
 * spare, and none where training has all of them. */

#include <limits.h>

#define HELPERS_MAX 3u
#define HELPERS_BY_CORES UINT_MAX
#define HELPERS_RANK_CORES 4u /* that a rank is left: for its program, for NCCL's thread, for what loads its data */

/* ---- pure ---- */

struct helpers_facts {
    unsigned cores;   /* that this process may use */
    unsigned ranks;   /* that train on the host */
    unsigned storing; /* shards that are being encoded now, each by a thread of its own */
};
unsigned helpers_each(const struct helpers_facts *facts);
/* Processors' worth of time in the text of a cgroup's cpu.max; `otherwise` where it sets no limit, or is no such text. */
unsigned helpers_quota(const char *text, unsigned otherwise);

/* ---- of this process; from any thread ---- */

/* So many for each shard, HELPERS_MAX at most, or HELPERS_BY_CORES. 0 until it is said. */
void helpers_want(unsigned each);
void helpers_ranks(unsigned ranks);
/* A shard begins to be encoded, and has been. */
void helpers_come(void);
void helpers_leave(void);
/* For each shard that is being encoded, from now on. */
unsigned helpers_now(void);

/* Processors that this process may use: those it may run on, and not more than it is given time of. `root`: "" but for a test. */
unsigned helpers_cores(const char *root);

#endif
