/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_WANT_H
#define CKPT_STAGE_WANT_H

/* What a rank has registered when it asks to be restored, beside its slots (WANT_FILE_FORMAT): where a checkpoint was made by
 * another number of ranks, the agent puts the rank's shard together by it. A file of a slot's header, its regions and parts. */

#include "ckpt/stage/arena.h"

struct want {
    struct slot_header facts; /* rank, job_uid, generation, world_size, region_count, parts, data_bytes */
    struct slot_region *regions; /* owned */
    struct slot_part *parts;     /* within; NULL: none is a shard */
};

/* Replace the file. Of facts: what struct want names; parts lie behind the regions. Errors: NOMEM, IO, NOSPACE. */
MUST_USE enum tide_status want_save(const char *path, const struct slot_header *facts, const struct slot_region *regions, struct err *err);
/* Read it, and judge it as a slot's table is. Errors: NOT_FOUND (there is none, or it is of another rank, job or generation), CORRUPT,
 * NOMEM, IO. */
MUST_USE enum tide_status want_load(const char *path, const char *job_uid, uint64_t generation, uint32_t rank, struct want *ret_want,
                                    struct err *err);
void want_release(struct want *want);

#endif
