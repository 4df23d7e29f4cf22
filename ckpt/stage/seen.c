/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/seen.h"

#include "ckpt/base/mem.h"

void seen_init(struct seen *seen, uint64_t most)
{
    *seen = (struct seen){.most = most < SEEN_MAX ? most : SEEN_MAX};
    seen->items = mem_try_array(seen->most, sizeof *seen->items);
    if (seen->items == NULL || digest_index_init(&seen->index, seen->most) != 0)
        seen_release(seen);
}

void seen_release(struct seen *seen)
{
    digest_index_release(&seen->index);
    mem_free(seen->items);
    *seen = (struct seen){0};
}

bool seen_has(const struct seen *seen, struct digest what)
{
    return digest_index_find(&seen->index, seen->items, sizeof what, what) != 0;
}

void seen_add(struct seen *seen, struct digest what)
{
    if (seen->count == seen->most || seen_has(seen, what))
        return;
    seen->items[seen->count] = what;
    seen->count += digest_index_add(&seen->index, seen->items, sizeof what, (uint32_t)seen->count);
}
