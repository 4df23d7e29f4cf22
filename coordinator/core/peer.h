/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CORE_PEER_H
#define COORDINATOR_CORE_PEER_H

/* Which node is to have a copy of what another records: one of another failure domain, that has the fewest copies already, and of
 * those the one that scores highest for this part (rendezvous hashing; Thaler and Ravishankar 1998). So a part moves only when its
 * node goes away, or one comes that scores higher; whoever else comes or goes moves nothing. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer_seat {
    const char *name;
    const char *domain; /* its name, where it is one of its own */
    uint64_t hash, domain_hash;
    uint32_t load;      /* copies it is to have already */
    bool usable;
};

/* Borrows both. domain empty: one of its own. */
struct peer_seat peer_seat_of(const char *name, const char *domain, bool usable);
/* Of the part of that node rank of that job. */
uint64_t peer_key(const char *job_uid, uint64_t node_rank);

#define PEER_NONE SIZE_MAX
/* Index of the seat for the part `key`, recorded on `self`, one of them; PEER_NONE: there is none but that. Of its own domain only where
 * there is no usable one of another. */
size_t peer_pick(const struct peer_seat *seats, size_t count, uint64_t key, const struct peer_seat *self);

#endif
