/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/digest_index.h"

#include "ckpt/base/mem.h"

int digest_index_init(struct digest_index *index, uint64_t most)
{
    uint64_t size = 2;
    while (size < 2 * most)
        size *= 2;
    *index = (struct digest_index){.slots = mem_try_array(size, sizeof *index->slots), .mask = size - 1};
    return index->slots != NULL ? 0 : -1;
}

void digest_index_release(struct digest_index *index)
{
    mem_free(index->slots);
    *index = (struct digest_index){0};
}

static struct digest digest_at(const struct digest *first, size_t stride, uint32_t place)
{
    return *(const struct digest *)(const void *)((const unsigned char *)first + place * stride);
}

/* Where it stands, or, free, where it would. */
static uint32_t *slot_of(const struct digest_index *index, const struct digest *first, size_t stride, struct digest digest)
{
    uint64_t at = digest.low & index->mask;
    while (index->slots[at] != 0 && !digest_equal(digest_at(first, stride, index->slots[at] - 1), digest))
        at = (at + 1) & index->mask;
    return &index->slots[at];
}

uint32_t digest_index_find(const struct digest_index *index, const struct digest *first, size_t stride, struct digest digest)
{
    return index->slots != NULL ? *slot_of(index, first, stride, digest) : 0;
}

bool digest_index_add(struct digest_index *index, const struct digest *first, size_t stride, uint32_t place)
{
    uint32_t *slot = slot_of(index, first, stride, digest_at(first, stride, place));
    if (*slot != 0)
        return false;
    *slot = place + 1;
    return true;
}
