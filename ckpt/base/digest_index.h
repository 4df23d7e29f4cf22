/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_DIGEST_INDEX_H
#define CKPT_BASE_DIGEST_INDEX_H

/* Which item of an array has a digest. The array is the caller's and stays so: the index holds places in it. Here and there `first` is the
 * digest in the first item, and `stride` the bytes from one item to the next. */

#include <stdbool.h>

#include "ckpt/base/digest.h"

/* Of zeros: nothing is in it. */
struct digest_index {
    uint32_t *slots; /* a hash table of places + 1 */
    uint64_t mask;
};

/* Room for `most` items. Nonzero: no memory. */
MUST_USE int digest_index_init(struct digest_index *index, uint64_t most);
void digest_index_release(struct digest_index *index);

/* The place + 1 of the item; 0: none in the index has that digest. */
uint32_t digest_index_find(const struct digest_index *index, const struct digest *first, size_t stride, struct digest digest);
/* The item at that place is found by its digest from now on, unless one before it has the same. False: that is so. */
bool digest_index_add(struct digest_index *index, const struct digest *first, size_t stride, uint32_t place);

#endif
