/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CUT_OFFER_H
#define CKPT_CUT_OFFER_H

/* What the sender of a synchronous message concludes from what a receiver told it: of one communicator, which receives wait
 * that a message of this sender could get (offers), in order of posting, and how many messages of this sender had arrived.
 * The sender knows what it has sent, in order, and so which of it is going to get which receive, before MPI or the receiver
 * bring the two together (README.md, A synchronous send). Pure; memory is asked for where it says so. */

#include <stddef.h>
#include <stdint.h>

#include "ckpt/cut/limits.h"

#define CUT_SENDS_MAX (1u << 16) /* remembered of an attempt, a power of two; beyond it the oldest are forgotten */
#define CUT_OFFERS_MAX 1024u     /* told of one communicator to one sender; beyond it the last are left out */
#define CUT_SENDS_NONE UINT64_MAX
#define CUT_ASK_AFTER_MS 2u                 /* a sender waits so long before it asks its receiver */
#define CUT_ASK_AGAIN_MS CUT_HOLD_MS        /* … and asks again */
#define CUT_ASSUME_AFTER_MS (3 * CUT_HOLD_MS) /* who is in a call does not answer: a receive that others may get is the sender's … */
#define CUT_ASSUME_AT_LAST_MS 10000u /* … also where that call is not known to wait for the sender */

/* Two words on the way from rank to rank. */
struct cut_offer {
    int32_t tag;         /* or CUT_ANY */
    uint16_t any_source; /* the message of another sender may get it */
    uint16_t taken;      /* the reader's */
};

/* A call in which a rank does not look: a collective, or number 0: another, which may wait for anybody. */
struct cut_call {
    uint64_t comm, number; /* the number-th (1, 2, …) on that communicator */
    uint32_t root;         /* it waits for that rank of the world alone; CUT_CALL_OF_ALL: for every member */
    uint32_t reserved;
};
#define CUT_CALL_OF_ALL UINT32_MAX

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

/* A synchronous message behind its sender's flip, which MPI has not brought together with a receive. */
struct cut_unmet {
    unsigned meets;                      /* enum cut_meets */
    int has_flipped;                     /* its receiver has, as far as we know: then it brings the two together itself */
    int told_blocked, told_flipped;      /* what it told last of that communicator, in our epoch: it does not look; it had flipped */
    int waits_for_us;                    /* … as it is in a call that waits for us (cut_call_waits_for) */
    uint64_t since_ns;                   /* it waits */
    uint64_t asked_ns, asked_to_flip_ns; /* its receiver was asked last; 0: never */
    uint64_t asked_all_ns;               /* all were, for this message */
};

enum cut_unmet_act {
    CUT_UNMET_WAITS,
    CUT_UNMET_ASKS,         /* its receiver for what waits there; note when */
    CUT_UNMET_ASKS_TO_FLIP, /* … as it alone can know which message gets its receive */
    CUT_UNMET_ASKS_ALL_TO_FLIP, /* … of that communicator: what they send from now on must not get that receive, and it does not look */
    CUT_UNMET_DONE,         /* it is complete: it is going to be received */
    CUT_UNMET_ASSUMED       /* it is taken for complete: nobody else can be asked */
};
/* Does it wait for `self`, who has entered so many collectives of its communicator? Not a member: CUT_CALL_STRANGER. By way of others
 * it may in any case. */
#define CUT_CALL_STRANGER UINT64_MAX
int cut_call_waits_for(const struct cut_call *call, uint32_t self, uint64_t entered);
enum cut_unmet_act cut_offers_unmet(const struct cut_unmet *unmet, uint64_t now_ns);

#endif
