/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/retain.h"

static void keep(enum retain_why *why, enum retain_why reason)
{
    if (*why == RETAIN_NOT)
        *why = reason;
}

static void keep_last(const struct retain_rule *rule, const struct retain_item *items, size_t count, enum retain_why *why)
{
    uint32_t last = rule->last < RETAIN_LAST_MAX ? rule->last : RETAIN_LAST_MAX;
    for (size_t i = count; i-- > 0 && last > 0;) {
        if (items[i].unwanted)
            continue;
        keep(&why[i], RETAIN_LAST);
        last--;
    }
}

/* Rows are told apart by id or time divided by their length, so that what begins one does not depend on what is there. The
 * ids below the first multiple are no row: "every tenth" begins with 10. */
static bool begins_row(const struct retain_item *items, size_t i, uint64_t length, bool by_time)
{
    uint64_t row = (by_time ? items[i].at_ms : items[i].cut) / length;
    if (items[i].unwanted || (row == 0 && !by_time))
        return false;
    for (size_t k = i; k-- > 0;) {
        if (items[k].unwanted)
            continue;
        return (by_time ? items[k].at_ms : items[k].cut) / length != row;
    }
    return true;
}

static void keep_rows(const struct retain_item *items, size_t count, uint64_t length, bool by_time, enum retain_why *why)
{
    size_t rows = 0;
    if (length == 0)
        return;
    for (size_t i = count; i-- > 0 && rows < RETAIN_EVERY_MAX;) {
        if (!begins_row(items, i, length, by_time))
            continue;
        keep(&why[i], by_time ? RETAIN_EVERY_TIME : RETAIN_EVERY);
        rows++;
    }
}

/* The newest; one that is wanted before one that is not. */
static void keep_one(const struct retain_item *items, size_t count, enum retain_why *why)
{
    size_t best = count;
    for (size_t i = count; i-- > 0;) {
        if (why[i] != RETAIN_NOT)
            return;
        if (best == count || (items[best].unwanted && !items[i].unwanted))
            best = i;
    }
    if (best < count)
        why[best] = RETAIN_ONLY;
}

void retain(const struct retain_rule *rule, const struct retain_item *items, size_t count, enum retain_why *ret_why)
{
    for (size_t i = 0; i < count; i++)
        ret_why[i] = items[i].pinned ? RETAIN_PINNED : items[i].used ? RETAIN_USED : RETAIN_NOT;
    keep_last(rule, items, count, ret_why);
    keep_rows(items, count, rule->every, false, ret_why);
    keep_rows(items, count, rule->every_ms, true, ret_why);
    if (rule->needed)
        keep_one(items, count, ret_why);
}
