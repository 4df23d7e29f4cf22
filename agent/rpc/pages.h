/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_PAGES_H
#define AGENT_RPC_PAGES_H

/* The agent's hands on the control pages of one generation's ranks (ckpt/wire/local.h says who writes what, and how arming
 * is safe). A page is mapped when its file is there and of the right generation; the mapping stays good when a later
 * generation replaces the file. */

#include "agent/core/core.h"

struct pages {
    char arena[TIDE_PATH_MAX + 1];
    uint64_t generation;
    uint32_t first_rank, count;
    struct control_page *maps[TIDE_LOCAL_RANKS_MAX]; /* NULL: not there yet */
};

void pages_init(struct pages *pages, const char *arena, uint64_t generation, uint32_t first_rank, uint32_t count);
void pages_release(struct pages *pages);

/* False: no page of this generation yet. ret_comms stays valid until release. */
bool pages_look(struct pages *pages, uint32_t rank, struct agent_page *ret_page, const struct control_comm **ret_comms);

/* How far its communicators are; NULL: no page yet. Valid as long. */
const struct control_progress *pages_progress(struct pages *pages, uint32_t rank);

/* ret_step: when missed, where the rank is. */
enum agent_arm_outcome pages_arm(struct pages *pages, uint32_t rank, uint64_t cut, uint32_t attempt, uint32_t slot, uint64_t step,
                                 uint64_t epoch, uint64_t *ret_step);
void pages_disarm(struct pages *pages, uint32_t rank, uint64_t cut);
void pages_epochs(struct pages *pages, uint32_t rank, const struct epoch_order *epochs);

/* The handshake itself, on any page. */
enum agent_arm_outcome page_arm(struct control_page *page, uint64_t cut, uint32_t attempt, uint32_t slot, uint64_t step,
                                uint64_t epoch, uint64_t *ret_step);
void page_disarm(struct control_page *page, uint64_t cut);
void page_epochs(struct control_page *page, const struct epoch_order *epochs);
void page_snapshot(const struct control_page *page, struct agent_page *ret_page);

#endif
