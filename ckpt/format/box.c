/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/box.h"

#include <inttypes.h>
#include <string.h>
#include <tidemark/tidemark.h>

#define WHOLE_BYTES_MAX (UINT64_C(1) << 63)

unsigned dtype_width(unsigned dtype)
{
    static const unsigned char widths[] = {[TIDE_BYTES] = 1, [TIDE_F64] = 8, [TIDE_F32] = 4, [TIDE_BF16] = 2, [TIDE_F16] = 2,
                                           [TIDE_F8] = 1,    [TIDE_I64] = 8, [TIDE_I32] = 4, [TIDE_I16] = 2,  [TIDE_I8] = 1};
    return dtype < sizeof widths ? widths[dtype] : 1;
}

/* Nonzero when it is more than WHOLE_BYTES_MAX, whatever the order: a 0 hides nothing. */
static int product(unsigned ndim, const uint64_t *numbers, uint64_t width, uint64_t *ret_product)
{
    uint64_t most = width, all = width;
    for (unsigned i = 0; i < ndim; i++) {
        if (__builtin_mul_overflow(most, numbers[i] > 0 ? numbers[i] : 1, &most) || most > WHOLE_BYTES_MAX)
            return -1;
        all *= numbers[i];
    }
    *ret_product = all;
    return 0;
}

enum tide_status box_check(const struct box *box, unsigned dtype, uint64_t bytes, struct err *err)
{
    uint64_t all, mine;
    if (box->ndim == 0 || box->ndim > TIDE_DIMS_MAX)
        return err_set(err, TIDE_E_INVALID, "a shard has 1 to %d dimensions, not %u", TIDE_DIMS_MAX, box->ndim);
    for (unsigned i = 0; i < box->ndim; i++)
        if (box->extent[i] > box->whole[i] || box->at[i] > box->whole[i] - box->extent[i])
            return err_set(err, TIDE_E_INVALID,
                           "dimension %u: %" PRIu64 " numbers from %" PRIu64 " on do not lie within the whole, which has %" PRIu64, i,
                           box->extent[i], box->at[i], box->whole[i]);
    if (product(box->ndim, box->whole, dtype_width(dtype), &all) || product(box->ndim, box->extent, dtype_width(dtype), &mine))
        return err_set(err, TIDE_E_INVALID, "the whole has more than 2^63 bytes");
    if (mine != bytes)
        return err_set(err, TIDE_E_INVALID, "its shape is that of %" PRIu64 " bytes, and it has %" PRIu64, mine, bytes);
    return TIDE_OK;
}

int box_meet(const struct box *a, const struct box *b, struct box *ret_both)
{
    struct box both = *a;
    for (unsigned i = 0; i < a->ndim; i++) {
        uint64_t from = a->at[i] > b->at[i] ? a->at[i] : b->at[i];
        uint64_t end_a = a->at[i] + a->extent[i], end_b = b->at[i] + b->extent[i], end = end_a < end_b ? end_a : end_b;
        if (from >= end)
            return 0;
        both.at[i] = from;
        both.extent[i] = end - from;
    }
    *ret_both = both;
    return 1;
}

static int same(const uint64_t *a, const uint64_t *b, unsigned ndim)
{
    return memcmp(a, b, ndim * sizeof *a) == 0;
}

int box_same_whole(const struct box *a, const struct box *b)
{
    return a->ndim == b->ndim && same(a->whole, b->whole, a->ndim);
}

int box_equal(const struct box *a, const struct box *b)
{
    return box_same_whole(a, b) && same(a->at, b->at, a->ndim) && same(a->extent, b->extent, a->ndim);
}

uint64_t box_volume(const struct box *box)
{
    uint64_t all = 1;
    for (unsigned i = 0; i < box->ndim; i++)
        all *= box->extent[i];
    return all;
}
