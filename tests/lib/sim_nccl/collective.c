/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "tests/lib/sim_cuda/sim_cuda.h"
#include "tests/lib/sim_nccl/sim.h"

/* All in one manner: piece by piece, members put into their slots what others want, and take from those what they want. */

size_t sim_type_bytes(ncclDataType_t type)
{
    static const unsigned char bytes[ncclNumTypes] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
    return (unsigned)type < ncclNumTypes ? bytes[type] : 0;
}

bool sim_reducible(ncclDataType_t type, ncclRedOp_t reduce)
{
    bool known = (type >= ncclInt8 && type <= ncclUint64) || type == ncclFloat32 || type == ncclFloat64;
    return known && (unsigned)reduce < ncclNumOps;
}

/* Member 0's first, then one after the other. */
#define REDUCER(name, type)                                                                                                 \
    static void reduce_##name(void *to, const void *from, size_t count, ncclRedOp_t reduce)                                 \
    {                                                                                                                       \
        type *a = to;                                                                                                       \
        const type *b = from;                                                                                               \
        for (size_t i = 0; i < count; i++)                                                                                  \
            a[i] = (type)(reduce == ncclProd  ? a[i] * b[i]                                                                 \
                          : reduce == ncclMax ? (a[i] > b[i] ? a[i] : b[i])                                                 \
                          : reduce == ncclMin ? (a[i] < b[i] ? a[i] : b[i])                                                 \
                                              : a[i] + b[i]);                                                               \
    }                                                                                                                       \
    static void divide_##name(void *to, size_t count, int by)                                                               \
    {                                                                                                                       \
        type *a = to;                                                                                                       \
        for (size_t i = 0; i < count; i++)                                                                                  \
            a[i] = (type)(a[i] / (type)by);                                                                                 \
    }

REDUCER(i8, int8_t)
REDUCER(u8, uint8_t)
REDUCER(i32, int32_t)
REDUCER(u32, uint32_t)
REDUCER(i64, int64_t)
REDUCER(u64, uint64_t)
REDUCER(f32, float)
REDUCER(f64, double)

static const struct {
    void (*reduce)(void *to, const void *from, size_t count, ncclRedOp_t reduce);
    void (*divide)(void *to, size_t count, int by);
} arithmetic[ncclNumTypes] = {[ncclInt8] = {reduce_i8, divide_i8},      [ncclUint8] = {reduce_u8, divide_u8},
                              [ncclInt32] = {reduce_i32, divide_i32},   [ncclUint32] = {reduce_u32, divide_u32},
                              [ncclInt64] = {reduce_i64, divide_i64},   [ncclUint64] = {reduce_u64, divide_u64},
                              [ncclFloat32] = {reduce_f32, divide_f32}, [ncclFloat64] = {reduce_f64, divide_f64}};

/* One piece: `at` bytes into what is meant for `block`, `bytes` of it. */
struct piece {
    const struct sim_op *op;
    size_t at, bytes;
    int block;
};

static size_t block_bytes(const struct sim_op *op)
{
    return op->count * sim_type_bytes(op->type);
}

/* Of which member's block is it a part, in the buffer of all of them? */
static size_t place(const struct piece *piece, int block)
{
    return (size_t)block * block_bytes(piece->op) + piece->at;
}

static void give(const struct piece *p)
{
    const struct sim_op *op = p->op;
    const char *from = op->from != NULL ? sim_view(op->from) : NULL;
    char *slot = sim_slot(op->comm, op->comm->rank);
    bool root = op->comm->rank == op->root;
    switch (op->kind) {
    case SIM_ALL_REDUCE:
    case SIM_REDUCE:
    case SIM_ALL_GATHER:
    case SIM_GATHER:
        memcpy(slot, from + p->at, p->bytes);
        break;
    case SIM_BROADCAST:
        if (root)
            memcpy(slot, from + p->at, p->bytes);
        break;
    case SIM_SCATTER:
        if (root)
            memcpy(slot, from + place(p, p->block), p->bytes);
        break;
    default: /* REDUCE_SCATTER, ALL_TO_ALL */
        memcpy(slot, from + place(p, p->block), p->bytes);
    }
}

static void take_reduced(const struct piece *p, char *to)
{
    const struct sim_op *op = p->op;
    size_t count = p->bytes / sim_type_bytes(op->type);
    memcpy(to, sim_slot(op->comm, 0), p->bytes);
    for (int r = 1; r < op->comm->ranks; r++)
        arithmetic[op->type].reduce(to, sim_slot(op->comm, r), count, op->reduce);
    if (op->reduce == ncclAvg)
        arithmetic[op->type].divide(to, count, op->comm->ranks);
}

static void take_all(const struct piece *p, char *to)
{
    for (int r = 0; r < p->op->comm->ranks; r++)
        memcpy(to + place(p, r), sim_slot(p->op->comm, r), p->bytes);
}

static void take(const struct piece *p)
{
    const struct sim_op *op = p->op;
    char *to = op->to != NULL ? sim_view(op->to) : NULL;
    bool root = op->comm->rank == op->root, mine = p->block == op->comm->rank;
    if (op->kind == SIM_ALL_REDUCE || (op->kind == SIM_REDUCE && root) || (op->kind == SIM_REDUCE_SCATTER && mine))
        take_reduced(p, to + p->at);
    else if (op->kind == SIM_BROADCAST || (op->kind == SIM_SCATTER && mine))
        memcpy(to + p->at, sim_slot(op->comm, op->root), p->bytes);
    else if (op->kind == SIM_ALL_GATHER || (op->kind == SIM_GATHER && root) || (op->kind == SIM_ALL_TO_ALL && mine))
        take_all(p, to);
}

void sim_collective(const struct sim_op *op)
{
    bool by_block = op->kind == SIM_REDUCE_SCATTER || op->kind == SIM_ALL_TO_ALL || op->kind == SIM_SCATTER;
    struct sim_barrier *barrier = &op->comm->shared->device;
    for (int block = 0; block < (by_block ? op->comm->ranks : 1); block++) {
        size_t whole = block_bytes(op);
        struct piece p = {.op = op, .block = block};
        do {
            p.bytes = whole - p.at < SIM_SLOT_BYTES ? whole - p.at : SIM_SLOT_BYTES;
            if (p.bytes > 0)
                give(&p);
            if (sim_barrier(op->comm, barrier) != 0)
                return;
            if (p.bytes > 0)
                take(&p);
            if (sim_barrier(op->comm, barrier) != 0)
                return;
            p.at += p.bytes;
        } while (p.at < whole);
    }
}
