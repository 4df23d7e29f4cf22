/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_COPY_H
#define AGENT_RPC_COPY_H

/* Agent to agent: slots. Who wants one asks the other's port for its digests, then for its bytes. */

#include "agent/rpc/slot_client.h"
#include "ckpt/stage/copy.h"

#define COPY_DEADLINE_S 3600L  /* all of one slot */
#define COPY_NICE 10           /* of the thread that makes a copy nobody waits for */

struct copy_place {
    const char *dir, *job_uid;
    uint32_t rank, slot;
    uint64_t cut;
    uint64_t most;  /* bytes */
    int keep;       /* the slot's file, where the copy fails */
    int background; /* nobody waits for it: it takes what others leave */
};

/* Blocks. Errors: NOT_FOUND (it is not there any more), CORRUPT, LIMIT, NOSPACE, UNAVAILABLE (no answer, or not allowed yet), IO. */
MUST_USE enum tide_status copy_fetch(const struct copy_source *source, const struct copy_place *place, char ret_root[DIGEST_HEX_CHARS + 1],
                                     struct err *err);

/* Bytes that one more copy may take: all copies, and slots of ranks here, are within arena_max, and copies are not where slots may
 * grow to. */
uint64_t copy_room(const char *arenas, uint64_t arena_max);

#endif
