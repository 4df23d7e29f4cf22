/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_TABLES_H
#define CKPT_STAGE_TABLES_H

/* What the ranks that made a checkpoint say of their shards: the region tables of all, and the rank manifests, with their chunk tables, of
 * those that are asked for. Each rank of another number needs all of the former and some of the latter; the ranks that this process puts
 * together at the same time have them read once, and in memory once. Whoever comes first reads; the others wait for it, and share its
 * outcome, a failure too: done again it is read again. Who has waited for TABLES_WAIT_S and has seen nothing come reads for himself. What
 * nobody uses any more is forgotten; until then manifests that came with the tables, or were given back, stay, TABLES_KEPT_BYTES of them
 * at most. */

#include "ckpt/format/manifest.h"
#include "ckpt/format/reshard.h"
#include "ckpt/store/store.h"

#define TABLES_WAIT_S 60u
#define TABLES_KEPT_BYTES ((uint64_t)64 << 20) /* of this process */

struct tables {
    struct reshard_rank *ranks;
    uint32_t rank_count;
    uint64_t step; /* the same for all */
};

/* Errors: MISMATCH (their steps differ), as of rank_manifest_read, NOMEM. */
MUST_USE enum tide_status tables_take(struct store *store, const struct manifest *whole, const struct tables **ret_tables, struct err *err);
void tables_give(const struct tables *tables); /* NULL is legal */

/* The manifest of one of these ranks, for its chunks: its regions may have gone into the tables. Of the same checkpoint as when the
 * tables were taken, and given back before they are. Errors: as of rank_manifest_read, NOMEM. */
MUST_USE enum tide_status tables_manifest(const struct tables *tables, const struct manifest *whole, uint32_t rank,
                                          const struct rank_manifest **ret_manifest, struct err *err);
void tables_manifest_give(const struct tables *tables, const struct rank_manifest *manifest);

/* Tests: wait so long at most, and keep no more than that. */
void tables_limit(uint64_t wait_ms, uint64_t kept_bytes);

#endif
