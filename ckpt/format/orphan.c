/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/orphan.h"

static int has(const uint64_t *list, size_t count, uint64_t cut)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (list[middle] == cut)
            return 1;
        if (list[middle] < cut)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

enum orphan_verdict orphan_judge(const struct orphan_rule *rule, uint64_t cut, int committed)
{
    if (has(rule->live, rule->live_count, cut))
        return ORPHAN_NOT;
    if (has(rule->over, rule->over_count, cut))
        return ORPHAN_DELETE;
    if (committed)
        return ORPHAN_STRANGE;
    return cut < rule->below ? ORPHAN_DELETE : ORPHAN_NOT;
}
