/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_SHARED_H
#define CKPT_STAGE_SHARED_H

/* Chunks that several ranks of this process store in one cut: replicas hold the same weights, and one copy in the store is enough.
 * Who comes to a chunk first claims and writes it. The others go on with what nobody has claimed, and ask for the rest when their
 * own packs are in the store: then they refer to where the claimed chunk lies, or write it themselves, because its writer failed.
 *
 *     a claim:  WRITING ── shared_publish: all of the writer's packs are durable ──► DURABLE, may be referred to
 *                  └────── shared_leave without ────────────────────────────────────► LOST, whoever wants it writes it
 *
 * Nobody waits before its own claims are settled, so that no two wait for each other. What is known ends when the last writer of
 * the cut has left: nothing of it is asked of the store, nothing outlives a failure. */

#include "ckpt/format/manifest.h"
#include "ckpt/store/store.h"

#define SHARED_CHUNKS_MAX (1u << 20) /* claimed in one cut; what is more is not shared */
#define SHARED_WAIT_S 600            /* for claims of others, since it published its own */

struct shared_writer; /* one rank's part */

/* NULL: there is no memory, and nothing is shared. store, job and cut as long as it has not left. */
struct shared_writer *shared_join(struct store *store, const struct cut_name *name);
/* NULL is legal, here and below: a writer that shares nothing. */
void shared_leave(struct shared_writer *writer);

/* In what order to take `count` chunks: begin at this one and go on behind the last with the first. Writers of the same chunks then
 * meet late. */
uint64_t shared_begin(const struct shared_writer *writer, uint64_t count);

/* Whether to write the chunk. Zero: another writes or wrote it. */
int shared_claim(struct shared_writer *writer, struct digest digest);
/* A claimed chunk lies there, once its pack is: chunk->pack counts the writer's own packs. */
void shared_note(struct shared_writer *writer, const struct chunk *chunk);
/* The writer's own packs, `count` from `packs` on, are durable. */
void shared_publish(struct shared_writer *writer, const struct pack_entry *packs, size_t count);

/* Where a chunk lies that another has claimed; after shared_publish. Waits until that is settled. ret_chunk->pack is 0, and ret_pack
 * the pack; it has no key when nothing is stored of the chunk. Zero: nowhere. */
int shared_find(struct shared_writer *writer, struct digest digest, struct chunk *ret_chunk, struct pack_entry *ret_pack);

#endif
