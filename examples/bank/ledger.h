/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EXAMPLES_BANK_LEDGER_H
#define EXAMPLES_BANK_LEDGER_H

/* Branches of a bank send each other money, whenever they like, to whom they like. No money comes or goes: in every
 * consistent cut the balances and what is on its way are what there was at first, and each transfer is in exactly one
 * place. */

#include <stdint.h>

#define BRANCHES_MAX 64
#define TELLERS_MAX 8
#define FIRST_BALANCE INT64_C(1000000)
#define TAG_CLOSING 99 /* not a transfer: how many there were */
#define LEDGER_REGION "ledger"

/* A transfer on its way: these words, then `padding` more that are computed from `id`. */
struct transfer {
    int64_t amount;
    uint64_t id; /* of one transfer in the whole bank */
    uint64_t padding;
};
#define TRANSFER_WORDS (sizeof(struct transfer) / sizeof(uint64_t))

/* All that a branch must remember, and all that a checkpoint of it holds. */
struct ledger {
    int64_t balance;
    uint64_t step;
    uint64_t random[TELLERS_MAX];        /* what is drawn next, of each teller */
    uint64_t made[TELLERS_MAX];          /* transfers so far */
    uint64_t sent, received;             /* transfers */
    uint64_t sent_sum, received_sum;     /* of bank_mix(id): each transfer once, whatever the order */
    uint64_t sent_to[BRANCHES_MAX];      /* transfers to each branch */
    uint64_t received_from[BRANCHES_MAX];
    uint64_t announced[BRANCHES_MAX];    /* how many it says that it sent us in all; valid when `closing` says so */
    uint32_t closings;                   /* branches that have said so */
    uint32_t closed;                     /* we have said so */
    uint64_t wrong;                      /* transfers whose padding was not what it should be */
};

/* A well-mixed function of x; one to one. */
static inline uint64_t bank_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

#endif
