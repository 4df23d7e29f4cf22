/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_TABLES_H
#define CKPT_STAGE_TABLES_H

/* The region tables of all ranks that made a checkpoint. Each of another number of ranks needs all of them; the ranks that this process
 * puts together at the same time have them read once, and in memory once. Whoever comes first reads; the others wait for it, and
 * share its outcome, a failure too: done again it is read again. What nobody uses any more is forgotten. */

#include "ckpt/format/manifest.h"
#include "ckpt/format/reshard.h"
#include "ckpt/store/store.h"

struct tables {
    struct reshard_rank *ranks;
    uint32_t rank_count;
    uint64_t step; /* the same for all */
};

/* Errors: MISMATCH (their steps differ), as of rank_manifest_read, NOMEM. */
MUST_USE enum tide_status tables_take(struct store *store, const struct manifest *whole, const struct tables **ret_tables, struct err *err);
void tables_give(const struct tables *tables); /* NULL is legal */

#endif
