/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIN_LIN_H
#define TESTS_LIN_LIN_H

/* Is a history of one register linearizable? The search of Wing and Gong (1993) with the memory of Lowe (2017), as in
 * Porcupine: try operations in an order that real time allows, undo what leads nowhere, and never look twice at the same
 * set of operations in the same state. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"

#define LIN_NEVER UINT64_MAX               /* return_ns of an operation whose outcome nobody knows */
#define LIN_NOTHING 0u                     /* the value of a register that holds none; every register begins so */
#define LIN_VISITS_DEFAULT 5000000u        /* configurations looked at before a search is given up */
#define LIN_MEMORY_MAX (UINT64_C(1) << 30) /* bytes of what it remembers, likewise */

enum lin_kind {
    LIN_READ,   /* ok: `value` was there */
    LIN_WRITE,  /* ok: `value` is there */
    LIN_CREATE, /* ok: nothing was there, `value` is; no: something was there, and still is */
    LIN_DELETE, /* ok: something was there, nothing is; no: nothing was there */
    LIN_CAS,    /* ok: `expect` was there, `value` is; no: something else was there, and still is */
    LIN_KINDS
};

/* An operation without a return (LIN_NEVER) may have happened at any time after its invocation, or not at all, with
 * whatever result. */
struct lin_op {
    unsigned kind; /* enum lin_kind */
    bool ok;       /* result; of no meaning with LIN_NEVER */
    bool optional; /* it need not have happened, but if it did, then in its time and with its result */
    uint32_t value, expect;
    uint64_t invoke_ns, return_ns;
    int64_t process;
    size_t line; /* of the invocation in its file, for messages; 0: none */
};

enum lin_verdict { LIN_YES, LIN_NO, LIN_UNDECIDED };

struct lin_result {
    enum lin_verdict verdict;
    uint64_t visits; /* configurations looked at */
    size_t *order;   /* indexes of the longest order found, mem_free it */
    size_t ordered;  /* how many */
};

/* Does the register allow it in this state? ret_state: afterwards. */
bool lin_step(const struct lin_op *op, uint32_t state, uint32_t *ret_state);

/* Operations in any order. Two whose times touch are concurrent. visits_max 0: LIN_VISITS_DEFAULT. */
void lin_check(const struct lin_op *ops, size_t count, uint64_t visits_max, struct lin_result *ret_result);

/* Make a history that is not linearizable smaller, in place, as long as it stays so and time is left: first the shortest
 * prefix, then without every operation that is no part of the contradiction. A write is only left out if the rest is wrong
 * whether it happened or not, and likewise for all others that were left out. Returns the new count. */
size_t lin_shrink(struct lin_op *ops, size_t count, uint64_t visits_max, uint64_t deadline_ns);

#endif
