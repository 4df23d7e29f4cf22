/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_KEYS_H
#define CKPT_FORMAT_KEYS_H

#include <stdint.h>
#include <tidemark/types.h>

/* The cut an object belongs to: what is in every key, so that an older generation can never write over a newer one. */
struct cut_name {
    const char *job, *uid;
    uint64_t cut, generation;
};

typedef char object_key[TIDE_PATH_MAX + 1];

/* c/<2 hex>/<job>.<uid>/<cut>-<generation>/<rank>-<seq>.pk: the two digits spread a cut over the store's partitions. */
void key_pack(const struct cut_name *name, uint32_t rank, uint64_t seq, object_key ret_key);
/* m/<job>.<uid>/<cut>-<generation>/<rank>.json */
void key_rank(const struct cut_name *name, uint32_t rank, object_key ret_key);
/* m/<job>.<uid>/<cut>-<generation>/COMMIT, written last */
void key_commit(const struct cut_name *name, object_key ret_key);

/* What all objects of a cut begin with, of any generation: the manifests, and one of the 256 places of packs. */
#define KEY_PLACES 256u
void key_prefix_manifests(const char *job, const char *uid, uint64_t cut, object_key ret_prefix);
void key_prefix_packs(const char *job, const char *uid, uint64_t cut, unsigned place, object_key ret_prefix);

/* Is it a COMMIT key? */
int key_is_commit(const char *key);

#endif
