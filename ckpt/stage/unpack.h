/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_UNPACK_H
#define CKPT_STAGE_UNPACK_H

/* Chunks of one shard on their way back, by several threads: the one that asks, the leader, and those that help it (helpers.h). The leader
 * alone uses the reader. It gives each chunk in order as soon as its stored form is here, decodes some itself meanwhile, and lets go of
 * them in the same order, and so of the memory they were read to:
 *
 *     the leader gives a chunk ──► GIVEN ── a helper, or the leader, takes it ──► BUSY ── as its digest says, and used ──► DONE ──► let go
 *                   │                                                              └── anything else ──┐
 *                   └── what it is stored in cannot be read ───────────────────────────────────────────┴─► FAILED
 *     FAILED ── its turn has come, and nobody is BUSY: the leader does it alone ──► let go
 *
 * FAILED says nothing of what is wrong. Done alone, a chunk is read as if there were one thread: what is got a second time, what is told
 * and what the error is do not depend on who was faster; and as it is done in its turn, of two that are damaged the first one is named.
 * What is GIVEN then is left until that is over, and for good where it ends in an error. The leader waits for a helper only when all that
 * is here has been taken. */

#include "ckpt/stage/helpers.h"
#include "ckpt/stage/shard.h"

struct unpack_work {
    struct shard_reader *reader; /* of which nothing was asked yet but to read ahead */
    /* On any of the threads, of different chunks at a time. Nonzero: it cannot be used; `alone` will say why. */
    int (*use)(void *context, uint64_t index, const unsigned char *bytes, struct digest digest);
    /* On the leader's thread, while the others rest: shard_read_chunk, and what is to be done about it. An error ends it. */
    enum tide_status (*alone)(void *context, uint64_t index, struct err *err);
    void *context;
};
/* All chunks that the reader's caller wants. Errors: those of `alone`. */
MUST_USE enum tide_status unpack(const struct unpack_work *work, struct err *err);

#endif
