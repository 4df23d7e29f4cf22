/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIN_HISTORY_H
#define TESTS_LIN_HISTORY_H

/* A file of JSON lines (README.md) as operations, key by key: a history is linearizable if that of every key is. */

#include <stdio.h>

#include "ckpt/base/strlist.h"
#include "tests/lin/lin.h"

#define HISTORY_LINE_MAX (64u << 10) /* bytes of a line */

struct history_key {
    char *name;
    struct strlist values; /* names of the numbers in `ops`, from 1 on */
    struct lin_op *ops;
    size_t count;
};

/* What somebody wrote down beside the operations: a fault, say. */
struct history_note {
    uint64_t at_ns;
    char *text;
};

struct history {
    struct history_key *keys;
    size_t key_count;
    struct history_note *notes;
    size_t note_count;
    size_t operations, unknown; /* of all keys */
};

/* Errors: INVALID with the line's number. On failure nothing is left to release. */
MUST_USE enum tide_status history_read(FILE *file, struct history *ret_history, struct err *err);
void history_release(struct history *history);

/* "create v17 -> ok" */
void history_words(const struct history_key *key, const struct lin_op *op, char *to, size_t size);

#endif
