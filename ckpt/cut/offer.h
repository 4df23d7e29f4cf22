/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CUT_OFFER_H
#define CKPT_CUT_OFFER_H

/* What the sender of a synchronous message concludes from what a receiver told it: of one communicator, which receives wait
 * that a message of this sender could get (offers), in order of posting, and how many messages of this sender had arrived.
 * The sender knows what it has sent, in order, and so which of it is going to get which receive, before MPI or the receiver
 * bring the two together (README.md, A synchronous send). Pure; memory is asked for where it says so. */

#include <stddef.h>
#include <stdint.h>

#define CUT_SENDS_MAX (1u << 16) /* remembered of an attempt, a power of two; beyond it the oldest are forgotten */
#define CUT_OFFERS_MAX 1024u     /* told of one communicator to one sender; beyond it the last are left out */
#define CUT_SENDS_NONE UINT64_MAX

/* Two words on the way from rank to rank. */
struct cut_offer {
    int32_t tag;         /* or CUT_ANY */
    uint16_t any_source; /* the message of another sender may get it */
    uint16_t taken;      /* the reader's */
};

struct cut_offers {
    uint64_t comm;    /* its identity */
    uint64_t arrived; /* so many of the sender's on it had been matched */
    int vague;        /* … and perhaps more: a receive of any source has begun to be received */
    uint32_t count;
    struct cut_offer *offers;
};

enum cut_meets {
    CUT_MEETS_NOT,   /* nothing is known that it gets */
    CUT_MEETS_MAYBE, /* there is a receive for it, if no other message gets that */
    CUT_MEETS        /* whatever others send, it gets one of them */
};

/* One message: the number-th (1, 2, …) that was sent to `peer` on `comm`. */
struct cut_send {
    uint64_t comm, number;
    uint32_t peer;
    int32_t tag;
    unsigned meets; /* enum cut_meets: only grows */
};

/* All zero: empty. Positions count on and on. */
struct cut_sends {
    struct cut_send *ring;
    uint64_t room, begin, end;
};

/* Returns its position; CUT_SENDS_NONE where there is no memory: nothing is concluded of those behind it then. */
uint64_t cut_sends_add(struct cut_sends *sends, uint32_t peer, uint64_t comm, uint64_t number, int32_t tag);
/* NULL: forgotten, or CUT_SENDS_NONE. */
const struct cut_send *cut_sends_at(const struct cut_sends *sends, uint64_t position);
void cut_sends_clear(struct cut_sends *sends);

/* `peer` has told us. Raises what is concluded of the messages to it. */
void cut_offers_meet(const struct cut_offers *offers, struct cut_sends *sends, uint32_t peer);

#endif
