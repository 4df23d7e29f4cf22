/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/stage/shard.h"
#include "ckpt/stage/stage.h"

enum tide_status stage_settle(const char *arena, uint32_t rank, uint32_t slot, const char *job_uid, uint64_t cut,
                              struct err *err)
{
    arena_path path;
    struct slot mapped;
    slot_path(arena, rank, slot, path);
    enum tide_status status = slot_map(path, 1, &mapped, err);
    if (status != TIDE_OK)
        return status;
    status = slot_settle(&mapped, job_uid, cut, rank, err);
    slot_unmap(&mapped);
    return status == TIDE_OK ? TIDE_OK : err_wrap(err, "slot %s", path);
}

enum tide_status stage_sum(const char *arena, uint32_t rank, uint32_t slot, const char *job_uid, uint64_t cut,
                           char ret_root[DIGEST_HEX_CHARS + 1], struct err *err)
{
    arena_path path, sum_path;
    struct slot mapped;
    struct slot_sum sum;
    slot_path(arena, rank, slot, path);
    slot_sum_path(arena, rank, slot, sum_path);
    enum tide_status status = slot_map(path, 0, &mapped, err);
    if (status != TIDE_OK)
        return status;
    status = slot_check(&mapped, job_uid, cut, rank, err);
    if (status == TIDE_OK)
        status = slot_sum_compute(&mapped, &sum, err);
    slot_unmap(&mapped);
    if (status != TIDE_OK)
        return err_wrap(err, "slot %s", path);
    status = slot_sum_save(sum_path, &sum, err);
    if (status == TIDE_OK)
        digest_hex(sum.root, ret_root);
    slot_sum_release(&sum);
    return status;
}

/* Is the cut (0: any) whole in this slot, with digests that fit it? */
static enum tide_status look(const char *arena, uint32_t rank, uint32_t slot, const char *job_uid, uint64_t cut, uint32_t world_size,
                             int verify, uint64_t *ret_cut, char ret_root[DIGEST_HEX_CHARS + 1], struct err *err)
{
    arena_path path, sum_path;
    struct slot mapped;
    struct slot_sum sum;
    slot_path(arena, rank, slot, path);
    slot_sum_path(arena, rank, slot, sum_path);
    enum tide_status status = slot_open(path, sum_path, job_uid, cut, rank, &mapped, &sum, err);
    if (status != TIDE_OK)
        return err_wrap(err, "slot %s", path);
    if (world_size != 0 && mapped.header->world_size != world_size)
        status = err_set(err, TIDE_E_NOT_FOUND, "it is of a world of %u ranks", mapped.header->world_size);
    else if (verify)
        status = slot_verify(&mapped, &sum, err);
    if (status == TIDE_OK) {
        *ret_cut = sum.cut;
        digest_hex(sum.root, ret_root);
    } else {
        status = err_wrap(err, "slot %s", path);
    }
    slot_unmap(&mapped);
    slot_sum_release(&sum);
    return status;
}

enum tide_status stage_find(const char *arena, uint32_t rank, const char *job_uid, uint64_t cut, uint32_t world_size, int verify,
                            uint32_t *ret_slot, char ret_root[DIGEST_HEX_CHARS + 1], struct err *err)
{
    enum tide_status worst = TIDE_E_NOT_FOUND;
    struct err why = {.status = TIDE_OK}, bad = {.status = TIDE_OK};
    uint64_t found;
    for (uint32_t s = 0; s < SLOTS; s++) {
        enum tide_status status = look(arena, rank, s, job_uid, cut, world_size, verify, &found, ret_root, &why);
        if (status == TIDE_OK) {
            *ret_slot = s;
            return TIDE_OK;
        }
        /* A slot that holds something else is no news; one that is damaged is. */
        if (status != TIDE_E_NOT_FOUND) {
            worst = status;
            bad = why;
        }
    }
    if (worst == TIDE_E_NOT_FOUND)
        return err_set(err, worst, "no slot of rank %u in %s holds cut %llu", rank, arena, (unsigned long long)cut);
    return err_set(err, worst, "%s", bad.text);
}

void stage_held(const char *arena, uint32_t rank, const char *job_uid, uint64_t ret_cuts[SLOTS],
                char ret_roots[SLOTS][DIGEST_HEX_CHARS + 1])
{
    struct err why;
    for (uint32_t s = 0; s < SLOTS; s++) {
        ret_cuts[s] = 0;
        memset(ret_roots[s], 0, DIGEST_HEX_CHARS + 1);
        if (look(arena, rank, s, job_uid, 0, 0, 0, &ret_cuts[s], ret_roots[s], &why) != TIDE_OK)
            ret_cuts[s] = 0;
    }
}
