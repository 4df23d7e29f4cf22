/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_AHEAD_H
#define CKPT_STAGE_AHEAD_H

/* Chunks of one shard that are encoded before their turn, by threads that help the one that stores it. That one, the leader, gives
 * chunks in order and takes them back in the same order: what comes out is, byte for byte, what it would have encoded itself.
 *
 *     FREE ── leader gives a chunk ──► GIVEN ── a helper, or the leader, takes it ──► BUSY ── encoded ──► DONE ── leader pops it ──► FREE
 *                                        ▲                                            │  │                  │
 *                                        └────────── the effort is another by now ────┼──┼──────────────────┘
 *        its turn has come, no helper has it ─► MINE ── leader pops it ──► FREE       │  └─ it cannot be read ─► FAILED: as MINE
 *                      its turn has come, and the helper is late (HELPER_LATE) ───────┴──► LEFT ── the helper is done ──► FREE
 *
 * MINE, FAILED and LEFT: the leader reads and encodes the chunk itself, and so finds by itself what is wrong with it. There is no lock
 * that a helper could hold while it gets no processor: helpers have the lowest priority, and are not waited for longer than the leader
 * would need. Only their end is waited for, which is one chunk away. */

#include "ckpt/stage/arena.h"
#include "ckpt/stage/encode.h"
#include "ckpt/stage/helpers.h"

#define AHEAD_PLACES (2 * HELPERS_MAX + 2) /* chunks; two for each helper, and two */

struct ahead;

/* NULL: no memory. The encoder and `raw` (CHUNK_BYTES) are the leader's, used on its thread alone. There is no helper yet. */
struct ahead *ahead_create(const struct slot *slot, const struct slot_sum *sum, struct encoder *encoder, unsigned char *raw,
                           enum effort_level level);
/* Ends the helpers, and waits until the last has ended. NULL is legal. */
void ahead_free(struct ahead *ahead);

/* So many may help from now on; they are begun as they are needed, as far as there are memory and threads. Returns how many there are. */
unsigned ahead_helpers(struct ahead *ahead, unsigned most);
/* For all that has not been popped. */
void ahead_effort(struct ahead *ahead, enum effort_level level);

/* Zero: no room, one has to be popped first; never so when none is there to pop. */
int ahead_give(struct ahead *ahead, uint64_t index, const struct segments *segments);

struct ahead_chunk {
    uint64_t index;
    struct segments segments; /* as they were given */
    const unsigned char *bytes; /* the stored form, until ahead_pop; NULL: it is the leader's to encode */
    uint32_t raw_bytes, length;
    enum chunk_codec codec;
};
/* Given, and not popped. */
unsigned ahead_count(const struct ahead *ahead);
/* The chunk that was given first, of one or more, as soon as it is encoded, or is the leader's to encode; it helps meanwhile. */
void ahead_first(struct ahead *ahead, struct ahead_chunk *ret_chunk);
void ahead_pop(struct ahead *ahead);

#endif
