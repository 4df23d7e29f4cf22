/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EXAMPLES_BANK_H
#define EXAMPLES_BANK_H

#include <mpi.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "ledger.h"

/* ---- traffic.c: every way to send and to receive that MPI has ---- */

struct options {
    uint64_t transfers;     /* of each teller */
    const char *until;      /* a file, or NULL: there is no end to them until it is there */
    uint64_t padding_max;   /* words */
    uint64_t seed;
    uint64_t pause_us;      /* on average, between steps */
    uint64_t pace;          /* receive on average once in so many steps */
    unsigned tellers;
};

/* A set of branches that may send to each other. */
struct market {
    MPI_Comm comm;
    int size;                /* how many can be sent to */
    int branch[BRANCHES_MAX]; /* which they are */
};
#define MARKETS_MAX 5

struct bank {
    struct options options;
    struct ledger ledger;
    struct market markets[MARKETS_MAX];
    int market_count;
    int rank, size;
    pthread_mutex_t lock;    /* of the ledger, where there are many tellers */
    pthread_rwlock_t open;   /* tellers hold it while they work, and nobody does at a safe point */
};

struct teller {
    struct bank *bank;
    unsigned number;
    uint64_t how;            /* draws the way of doing, which is no part of the state */
    uint64_t *out, *in, *strided;
};

void markets_open(struct bank *bank);
void markets_close(struct bank *bank);
bool teller_init(struct teller *teller, struct bank *bank, unsigned number);
void teller_release(struct teller *teller);
/* Send one transfer, if any is left to send; receive what there is now and then. */
void teller_work(struct teller *teller);
/* Tell every branch how many transfers it will have got from this one. */
void teller_close(struct teller *teller);
/* Everything was sent and received. */
bool bank_is_done(struct bank *bank);

#endif
