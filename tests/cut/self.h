/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CUT_SELF_H
#define TESTS_CUT_SELF_H

/* One of two ranks of an MPI program that gives itself the orders that an agent would, word by word. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern int rank;
extern _Atomic bool right;         /* all that was checked, by any thread */
extern unsigned char *channel_log; /* of the last record: a head, and what was appended */
extern size_t logged;
extern unsigned entries;
extern char why[512]; /* the last refusal */

/* What the ranks tell each other without MPI. */
struct side {
    _Atomic unsigned arrived;
    _Atomic uint64_t posted, calling; /* what this epoch's story waits for */
};
extern struct side *side;

void check(bool fact, const char *text);
#define CHECK(fact) check(fact, #fact)

/* path NULL: of this process and its children. NULL: there is none. */
void *shared_memory(const char *path, size_t bytes);
void nap(void);
double seconds(void);
/* Both ranks are here. */
void meet(void);

/* The interposer meets its host. flags: enum tide_mpi_flag */
void attach(unsigned flags);
/* Both ranks are armed for `epoch`, and go is given. */
void begin(uint64_t epoch);
/* The safe point: false where there is no record, and `why` says so. */
bool record(uint64_t epoch);
extern void (*while_locked)(void); /* called in it, before the flip */
/* The page says so, and nobody has looked yet. */
void order_flip(uint64_t epoch);
bool has_flipped(uint64_t epoch);
/* Both are in `epoch`: settled, and closed. */
void end(uint64_t epoch);
/* All of it. */
void refused(uint64_t epoch, const char *text);
void accepted(uint64_t epoch);

#endif
