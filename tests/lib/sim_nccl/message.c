/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "tests/lib/sim_cuda/sim_cuda.h"
#include "tests/lib/sim_nccl/sim.h"

/* Sends and receives of a group go on side by side, piece by piece, those with one peer in order. */

static bool send_piece(struct sim_op *op)
{
    struct sim_mail *mail = sim_mail(op->comm, op->comm->rank, op->root);
    size_t whole = op->count * sim_type_bytes(op->type), bytes = whole - op->done_bytes;
    if (atomic_load(&mail->full))
        return false;
    if (bytes > SIM_MAIL_BYTES)
        bytes = SIM_MAIL_BYTES;
    if (bytes > 0)
        memcpy(mail->data, (const char *)sim_view(op->from) + op->done_bytes, bytes);
    mail->bytes = (uint32_t)bytes;
    mail->whole = whole;
    op->done_bytes += bytes;
    op->done = op->done_bytes == whole;
    atomic_store(&mail->full, 1);
    return true;
}

static bool receive_piece(struct sim_op *op)
{
    struct sim_mail *mail = sim_mail(op->comm, op->root, op->comm->rank);
    size_t whole = op->count * sim_type_bytes(op->type);
    if (!atomic_load(&mail->full))
        return false;
    if (mail->whole != whole) {
        fprintf(stderr, "the simulator of NCCL: rank %d receives %zu bytes from rank %d, which sends %llu\n", op->comm->rank,
                whole, op->root, (unsigned long long)mail->whole);
        atomic_store(&op->comm->async, ncclInvalidUsage);
        return false;
    }
    if (mail->bytes > 0)
        memcpy((char *)sim_view(op->to) + op->done_bytes, mail->data, mail->bytes);
    op->done_bytes += mail->bytes;
    op->done = op->done_bytes == whole;
    atomic_store(&mail->full, 0);
    return true;
}

/* Is one before it that must be done first? */
static bool is_held(const struct sim_op *first, const struct sim_op *op)
{
    for (const struct sim_op *o = first; o != op; o = o->next)
        if (!o->done && o->kind == op->kind && o->root == op->root)
            return true;
    return false;
}

void sim_messages(struct sim_op *first)
{
    struct ncclComm *comm = first->comm;
    for (;;) {
        uint32_t traffic = atomic_load(&comm->shared->traffic);
        bool moved = false;
        uint64_t waits = 0;
        for (struct sim_op *op = first; op; op = op->next) {
            if (!op->done && !is_held(first, op))
                moved |= op->kind == SIM_SEND ? send_piece(op) : receive_piece(op);
            waits |= op->done ? 0 : UINT64_C(1) << op->root;
        }
        if (moved) {
            atomic_fetch_add(&comm->shared->traffic, 1);
            sim_wake(&comm->shared->traffic);
        }
        if (waits == 0)
            return;
        if (!moved && sim_wait(comm, &comm->shared->traffic, traffic, waits) != 0)
            return;
    }
}
