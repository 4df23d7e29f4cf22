/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "tests/lin/lin.h"

static enum lin_verdict verdict_of(const struct lin_op *ops, size_t count, uint64_t visits_max)
{
    struct lin_result result;
    lin_check(ops, count, visits_max, &result);
    mem_free(result.order);
    return result.verdict;
}

/* ---- the shortest prefix ---- */

/* What was known at that time: later invocations are not there, later returns have not come. */
static size_t prefix(const struct lin_op *ops, size_t count, uint64_t until_ns, struct lin_op *ret_ops)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (ops[i].invoke_ns > until_ns || (ops[i].kind == LIN_READ && ops[i].return_ns > until_ns))
            continue;
        ret_ops[kept] = ops[i];
        if (ops[i].return_ns > until_ns)
            ret_ops[kept].return_ns = LIN_NEVER;
        kept++;
    }
    return kept;
}

static int time_order(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* What is wrong stays wrong whatever comes later, so the end of the shortest wrong prefix can be searched by halves. */
static size_t shorten(struct lin_op *ops, size_t count, uint64_t visits_max)
{
    struct lin_op *tried = mem_array(count, sizeof *tried);
    uint64_t *ends = mem_array(count, sizeof *ends);
    size_t end_count = 0;
    for (size_t i = 0; i < count; i++)
        if (ops[i].return_ns != LIN_NEVER)
            ends[end_count++] = ops[i].return_ns;
    qsort(ends, end_count, sizeof *ends, time_order);
    size_t low = 0, high = end_count; /* wrong at the end of high - 1 */
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;
        size_t n = prefix(ops, count, ends[middle - 1], tried);
        if (verdict_of(tried, n, visits_max) == LIN_NO)
            high = middle;
        else
            low = middle;
    }
    size_t kept = high > 0 ? prefix(ops, count, ends[high - 1], tried) : 0;
    memcpy(ops, tried, kept * sizeof *ops);
    mem_free(ends);
    mem_free(tried);
    return kept;
}

/* ---- without what does not matter ---- */

static size_t drop(struct lin_op *ops, size_t count, size_t at)
{
    memmove(&ops[at], &ops[at + 1], (count - at - 1) * sizeof *ops);
    return count - 1;
}

static bool writes(const struct lin_op *op, uint32_t value)
{
    return op->kind != LIN_READ && !op->optional && value == (op->kind == LIN_DELETE ? LIN_NOTHING : op->value);
}

/* The only one left that wrote what another one saw: it stays, or nobody would understand the rest. */
static bool explains(const struct lin_op *ops, size_t count, size_t at)
{
    uint32_t value = ops[at].value;
    bool seen = false, again = value == LIN_NOTHING;
    for (size_t i = 0; i < count && !again; i++) {
        again = i != at && writes(&ops[i], value);
        seen =
            seen || (ops[i].kind == LIN_READ && ops[i].value == value) || (ops[i].kind == LIN_CAS && ops[i].expect == value);
    }
    return seen && !again;
}

/* A read says only what was there: without it the rest is no more wrong than before. */
static bool read_superfluous(struct lin_op *ops, size_t count, size_t at, uint64_t visits_max)
{
    struct lin_op own = ops[at];
    ops[at] = ops[count - 1];
    bool wrong = verdict_of(ops, count - 1, visits_max) == LIN_NO;
    ops[at] = own;
    return wrong;
}

/* Of a write the rest may live: so it is not taken away, but the rest must be wrong whether it happened or not. */
static void make_optional(struct lin_op *ops, size_t count, size_t at, uint64_t visits_max)
{
    if (ops[at].optional || explains(ops, count, at))
        return;
    ops[at].optional = true;
    ops[at].optional = verdict_of(ops, count, visits_max) == LIN_NO;
}

static size_t thin(struct lin_op *ops, size_t count, uint64_t visits_max, uint64_t deadline_ns)
{
    for (size_t i = count; i-- > 0 && clock_mono_ns() < deadline_ns;) {
        if (ops[i].kind != LIN_READ)
            make_optional(ops, count, i, visits_max);
        else if (read_superfluous(ops, count, i, visits_max))
            count = drop(ops, count, i);
    }
    return count;
}

static size_t optional_count(const struct lin_op *ops, size_t count)
{
    size_t optional = 0;
    for (size_t i = 0; i < count; i++)
        optional += ops[i].optional;
    return optional;
}

static size_t drop_optional(struct lin_op *ops, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (!ops[i].optional)
            ops[kept++] = ops[i];
    return kept;
}

static int invoke_order(const void *a, const void *b)
{
    const struct lin_op *x = a, *y = b;
    return x->invoke_ns < y->invoke_ns ? -1 : x->invoke_ns > y->invoke_ns;
}

size_t lin_shrink(struct lin_op *ops, size_t count, uint64_t visits_max, uint64_t deadline_ns)
{
    if (verdict_of(ops, count, visits_max) != LIN_NO)
        return count;
    count = shorten(ops, count, visits_max);
    qsort(ops, count, sizeof *ops, invoke_order);
    for (size_t before = SIZE_MAX, left = count; left < before && clock_mono_ns() < deadline_ns;) {
        before = left;
        count = thin(ops, count, visits_max, deadline_ns);
        left = count - optional_count(ops, count);
    }
    return drop_optional(ops, count);
}
