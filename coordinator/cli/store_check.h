/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_STORE_CHECK_H
#define COORDINATOR_CLI_STORE_CHECK_H

/* What a store must do, each thing as one proof on objects of a prefix of its own. An interrupt (signals.h) ends a proof. */

#include <stdatomic.h>

#include "ckpt/store/store.h"

#define STORE_SPEEDS 2u /* with one worker and with several */
#define STORE_PROOFS 8u

struct speed {
    unsigned workers; /* 0: not measured */
    double up, down;  /* 10^6 bytes a second */
};

struct check {
    struct store *store;
    size_t bytes; /* of a large object */
    char *data;   /* random; longer than any object, so that each can be another part of it */
    char prefix[32];
    size_t first; /* of the large objects that the workers now move */
    atomic_uint winners;
    struct speed speeds[STORE_SPEEDS];
};

struct proof {
    const char *name;
    const char *cannot; /* "the store cannot ..." */
    const char *remedy; /* when it does not keep to what is asked */
    /* Errors: UNSUPPORTED when the store does not keep to it; STATE when interrupted; those of the store. */
    enum tide_status (*prove)(struct check *check, struct err *err);
};

/* In this order: later ones need the objects of those before; the last deletes them. */
extern const struct proof store_proofs[STORE_PROOFS];

/* The store must outlive the check. */
void store_check_begin(struct check *check, struct store *store, size_t bytes);
/* Delete what may be there, whatever became of the proofs: a write that failed may have been done all the same. */
MUST_USE enum tide_status store_check_clean(struct check *check, struct err *err);
void store_check_end(struct check *check);

#endif
