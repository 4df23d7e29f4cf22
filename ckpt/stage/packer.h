/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_PACKER_H
#define CKPT_STAGE_PACKER_H

/* Chunks of a slot in, packs of a store out: each is checked against its digest, encoded, and put behind the one before. Of many chunks
 * other threads encode some (helpers.h says how many do, ahead.h how); what is stored, and what is wrong first, is the same. */

#include "ckpt/stage/ahead.h"
#include "ckpt/stage/shard.h"
#include "ckpt/stage/upload.h"

struct packer {
    struct store *store;
    const struct slot *slot;
    const struct slot_sum *sum;
    struct rank_manifest *manifest; /* its regions say what chunks hold; packs are added to it when they are full */
    void (*placed)(void *context, uint64_t index, const struct chunk *chunk); /* in the order they were added */
    void *context;
    struct encoder *encoder;
    struct effort effort;
    unsigned char *raw; /* CHUNK_BYTES: the copy that was checked is the copy that is encoded */
    struct upload upload;
    size_t own; /* packs of its own, put so far */
    uint32_t used;
    struct digest_run *digest; /* of what is used, taken while it is in the processor's cache */
    struct ahead *ahead; /* NULL: it encodes each chunk when it is added */
    unsigned added;      /* chunks, before it looked for helpers */
    int alone;           /* there are none to be had */
    int counted;         /* as a shard that is being encoded */
    uint64_t next; /* behind the chunk that was added last */
    size_t region; /* the first that chunks from there on have a part of */
    uint64_t stored_bytes;
};

/* All it names stays there until packer_release. Errors: NOMEM; packer_release is called all the same. */
MUST_USE enum tide_status packer_init(struct packer *packer, struct store *store, const struct slot *slot, const struct slot_sum *sum,
                                      struct rank_manifest *manifest,
                                      void (*placed)(void *context, uint64_t index, const struct chunk *chunk), void *context,
                                      struct err *err);
void packer_release(struct packer *packer);

/* Memory for packs is had from packer_open to packer_close. Errors: those of upload_init. */
MUST_USE enum tide_status packer_open(struct packer *packer, struct err *err);
/* Waits for packs under way, and for helpers. */
void packer_close(struct packer *packer);

/* A chunk may be placed later, but none before one that was added before. Errors: CORRUPT (the slot does not hold what it held), those of
 * the store; of the first chunk that has any. */
MUST_USE enum tide_status packer_add(struct packer *packer, uint64_t index, struct err *err);
/* All that was added is placed, and durable; no helper is left. Errors: as packer_add. */
MUST_USE enum tide_status packer_finish(struct packer *packer, struct err *err);

#endif
