/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_COPY_H
#define CKPT_STAGE_COPY_H

/* A slot that comes from another host: its .sum file first, then the slot's own bytes, in order, in pieces of any size. It is laid
 * out as it is there; each chunk is hashed as soon as it is here, and the slot holds nothing until all of it is good. Where the slot that
 * is written over holds the same cut, damaged somewhere, a chunk that comes wrong and is right there stays. Beside the slots of a job's
 * ranks here, in COPY_DIR, lie those of others. */

#include "ckpt/stage/arena.h"

#define COPY_DIR "peer" /* in the arena of a job: slots of ranks that recorded on other nodes */

struct slot_copy;

/* Into slot `slot` of that rank in the directory, which exists: the slot is void from here on. sum: what the other host says the
 * digests are. most: bytes the slot may have. Errors: CORRUPT, NOT_FOUND (of another cut), NOMEM, IO. */
MUST_USE enum tide_status slot_copy_begin(const char *dir, uint32_t rank, uint32_t slot, const char *job_uid, uint64_t cut,
                                          const void *sum, size_t sum_bytes, uint64_t most, struct slot_copy **ret_copy, struct err *err);
/* Errors: CORRUPT (naming the chunk), NOT_FOUND (the slot is of another cut), LIMIT (more than `most`), NOSPACE, IO. */
MUST_USE enum tide_status slot_copy_add(struct slot_copy *copy, const void *bytes, size_t count, struct err *err);
/* Chunks so far that came wrong, and were right here. */
uint64_t slot_copy_kept(const struct slot_copy *copy);
/* All bytes were added: the slot is RECORDED, its digests beside it. Errors: CORRUPT (some are missing), IO. Frees `copy` in any case;
 * without success the slot's file is gone where keep is 0, else void. */
MUST_USE enum tide_status slot_copy_end(struct slot_copy *copy, int keep, char ret_root[DIGEST_HEX_CHARS + 1], struct err *err);
void slot_copy_abort(struct slot_copy *copy, int keep); /* NULL is legal */

/* What a slot and its digests take, by the files as they are: whose slot that is, of that cut, is looked for in the arena, then among the
 * copies in it. The bytes of the slot that count are the first ret_bytes of the file. Errors: NOT_FOUND, CORRUPT. */
MUST_USE enum tide_status slot_copy_source(const char *arena, const char *job_uid, uint32_t rank, uint64_t cut,
                                           char ret_path[TIDE_PATH_MAX + 1], char ret_sum_path[TIDE_PATH_MAX + 1], uint64_t *ret_bytes,
                                           struct err *err);

/* Bytes of memory that all jobs' slots take in the agent's arena directory: of ranks here, and of copies. */
void slot_copy_usage(const char *arenas, uint64_t *ret_own, uint64_t *ret_copies);

#endif
