/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_HELPERS_H
#define CKPT_STAGE_HELPERS_H

/* How many threads help to encode one rank's shard (ahead.h), or to decode it (unpack.h), besides the one that stores or fetches it: as
 * many as the host has processors to spare, and none where training has all of them. */

#include <limits.h>

#define HELPERS_MAX 3u
#define HELPERS_BY_CORES UINT_MAX
#define HELPERS_RANK_CORES 4u /* that a rank is left: for its program, for NCCL's thread, for what loads its data */

/* ---- pure ---- */

enum helpers_way { HELPERS_STORE, HELPERS_FETCH, HELPERS_WAYS };

struct helpers_facts {
    unsigned cores;                 /* that this process may use */
    unsigned ranks;                 /* on the host */
    unsigned waiting;               /* of these: in their restore, where they compute nothing */
    unsigned shards[HELPERS_WAYS]; /* that are on their way now, each by a thread of its own */
};
/* Where shards are stored, all ranks count: those that wait are about to go on. Where they are fetched, these are whom it is for. */
unsigned helpers_each(const struct helpers_facts *facts, enum helpers_way way);
/* Processors' worth of time in the text of a cgroup's cpu.max; `otherwise` where it sets no limit, or is no such text. */
unsigned helpers_quota(const char *text, unsigned otherwise);

/* ---- of this process; from any thread ---- */

/* So many for each shard, HELPERS_MAX at most, or HELPERS_BY_CORES. 0 until it is said. */
void helpers_want(unsigned each);
void helpers_ranks(unsigned ranks, unsigned waiting);
/* A shard begins to be encoded, or decoded, and has been. */
void helpers_come(enum helpers_way way);
void helpers_leave(enum helpers_way way);
/* For each shard that goes that way, from now on; and the most that this can become. */
unsigned helpers_now(enum helpers_way way);
unsigned helpers_most(void);

/* Processors that this process may use: those it may run on, and not more than it is given time of. `root`: "" but for a test. */
unsigned helpers_cores(const char *root);

#endif
