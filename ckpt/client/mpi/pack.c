/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"

/* Bytes of messages, more than an int counts too. What is beyond PART_BYTES goes to MPI in parts. */

#define PART_BYTES (16 << 20)
#define BLOCK_BYTES (1 << 20)

/* ---- as they are sent ---- */

int bytes_type_init(struct bytes_type *ret_type, uint64_t bytes)
{
    MPI_Datatype block, parts[2];
    if (bytes <= PART_BYTES) {
        *ret_type = (struct bytes_type){.type = MPI_PACKED, .count = (int)bytes};
        return MPI_SUCCESS;
    }
    int lengths[2] = {(int)(bytes / BLOCK_BYTES), (int)(bytes % BLOCK_BYTES)};
    MPI_Aint at[2] = {0, (MPI_Aint)(bytes - bytes % BLOCK_BYTES)};
    int error = PMPI_Type_contiguous(BLOCK_BYTES, MPI_PACKED, &block);
    if (error != MPI_SUCCESS)
        return error;
    parts[0] = block;
    parts[1] = MPI_PACKED;
    *ret_type = (struct bytes_type){.count = 1, .own = true};
    error = PMPI_Type_create_struct(2, lengths, at, parts, &ret_type->type);
    if (error == MPI_SUCCESS)
        error = PMPI_Type_commit(&ret_type->type);
    real.Type_free(&block);
    return error;
}

void bytes_type_release(struct bytes_type *type)
{
    if (type->own)
        real.Type_free(&type->type);
}

/* ---- packing ---- */

int packing_init(struct packing *ret_packing, const void *buffer, int count, MPI_Datatype type, MPI_Comm comm)
{
    struct packing p = {.buffer = buffer, .count = count, .part = count, .type = type, .comm = comm};
    MPI_Count size = 0, lower = 0, extent = 0;
    int room = 0, rest = 0;
    int error = PMPI_Type_size_x(type, &size);
    if (error == MPI_SUCCESS)
        error = PMPI_Type_get_extent_x(type, &lower, &extent);
    if (error != MPI_SUCCESS)
        return error;
    if (size > INT_MAX || size < 0)
        return MPI_ERR_COUNT; /* of one element: MPI has no call that packs a part of it */
    if (size > 0 && count > PART_BYTES / size)
        p.part = size < PART_BYTES ? (int)(PART_BYTES / size) : 1;
    p.extent = (MPI_Aint)extent;
    if (count > 0)
        error = PMPI_Pack_size(p.part, type, comm, &room);
    if (error == MPI_SUCCESS && count > 0)
        error = PMPI_Pack_size(count % p.part, type, comm, &rest);
    if (error != MPI_SUCCESS)
        return error;
    p.room = count > 0 ? (uint64_t)(count / p.part) * (uint64_t)room + (uint64_t)rest : 0;
    *ret_packing = p;
    return MPI_SUCCESS;
}

int packing_do(const struct packing *p, void *to, uint64_t *ret_bytes)
{
    uint64_t bytes = 0;
    for (int at = 0; at < p->count; at += p->part) {
        int count = p->count - at < p->part ? p->count - at : p->part, packed = 0;
        uint64_t left = p->room - bytes;
        int error = PMPI_Pack((const char *)p->buffer + (MPI_Aint)at * p->extent, count, p->type, (char *)to + bytes,
                              left < INT_MAX ? (int)left : INT_MAX, &packed, p->comm);
        if (error != MPI_SUCCESS)
            return error;
        bytes += (uint64_t)packed;
    }
    *ret_bytes = bytes;
    return MPI_SUCCESS;
}
