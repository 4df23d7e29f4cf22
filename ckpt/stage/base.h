/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_BASE_H
#define CKPT_STAGE_BASE_H

/* The shard that this rank stored before: chunks that are the same need not be stored again, the new manifest refers to
 * where they lie. Always to the pack they were written into, whichever cut that was: there are no chains.
 *
 * Which one it is stands in a file of the arena, beside the slots. It is a hint: without it, or if what it names is not the
 * committed checkpoint any more, everything is stored. */

#include "ckpt/base/digest_index.h"
#include "ckpt/stage/shard.h"

#define BASE_CUTS_MAX 8u /* cuts that a shard refers to; what lies in older ones is stored again */

struct base {
    int have; /* it may be referred to */
    struct rank_manifest manifest;
    struct chunk *chunks; /* of the manifest */
    struct digest_index index; /* of those that are stored */
    uint64_t *live; /* of each pack: stored bytes that are still the same; 0: it is not referred to */
    uint32_t *pack; /* its index in the new manifest */
};

/* What the next cut of this rank may refer to. Never an error: at worst everything is stored. */
void base_save(const char *arena, const struct rank_manifest *manifest, const char *key, const char *digest);

/* Find the base of `next`, decide which of its packs the chunks of these digests refer to, promise in the store that they
 * are needed, and add them to next->packs. have is 0 when there is nothing to refer to. Errors: NOMEM, those of the store.
 */
MUST_USE enum tide_status base_plan(struct base *base, struct store *store, const char *arena, const struct digest *digests,
                                    uint64_t count, struct rank_manifest *next, struct err *err);
void base_release(struct base *base);

/* Where the same bytes as chunk `index` of the new shard lie; zero when they have to be stored. */
int base_find(const struct base *base, uint64_t index, struct digest digest, struct chunk *ret_chunk);

#endif
