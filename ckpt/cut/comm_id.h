/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CUT_COMM_ID_H
#define CKPT_CUT_COMM_ID_H

/* The identity of a communicator: the same on all members, computed by each alone, and the same in the next generation.
 * Never 0.
 *
 * Its base is a hash of its parent's identity and of its members' world ranks in order. All that are made of one base are
 * made by all their members together, in one order; so a member that counts them (0, 1, …) counts as the others do, even
 * where only some of a parent's members take part (MPI_Comm_create_group). The caller keeps these counts by base; they only
 * grow. */

#include <stddef.h>
#include <stdint.h>

#define CUT_COMM_WORLD UINT64_C(1)     /* identities that are given, not computed */
#define CUT_COMM_SELF UINT64_C(2)      /* each rank's own; nothing compares them */
#define CUT_COMM_NO_PARENT UINT64_C(3) /* of an intercommunicator: its two sides do not share one */

/* An intercommunicator has a second group; either side may be given first. Of others `remote_count` is 0. */
uint64_t cut_comm_base(uint64_t parent, const uint32_t *ranks, size_t count, const uint32_t *remote, size_t remote_count);
/* ordinal: how many of this base there were before. */
uint64_t cut_comm_id(uint64_t base, uint64_t ordinal);

/* ---- balance: messages that were sent and not received, or the other way, without a number for each channel ---- */

#define CUT_BALANCE_MASK UINT64_C(0x3fffffffffffffff) /* numbers of 62 bits: JSON's integers have a sign */

/* The weight of a channel between two members. A member adds the weight for each message it has sent, and takes it off for each
 * it has received; over all members nothing is left of channels that are empty, and of others next to never. */
uint64_t cut_balance_weight(uint32_t from, uint32_t to);

#endif
