/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CORE_HANG_H
#define COORDINATOR_CORE_HANG_H

/* A job stands still: which of its ranks do the others wait for? From what libtidemark_nccl has counted on the host and its events
 * have shown on the device (ckpt/client/nccl/README.md). The table of verdicts is in agent/health/README.md. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HANG_BLAMED_MAX 8u /* ranks that are named; of more a verdict says how many there are */

/* One member of one communicator. What its events know: operations are numbered from 1, 0 is nothing. */
struct hang_row {
    uint32_t rank;      /* of the job */
    const char *comm;   /* its identity, the same on all members */
    const char *name;
    uint32_t member, size;
    uint64_t begun;     /* collectives it has entered */
    uint64_t reached;   /* its stream has come to this one … */
    uint64_t unreached; /* … and has not come to this one */
    uint64_t done;      /* it has completed this one … */
    uint64_t undone;    /* … and not this one */
    bool messages;      /* it passes messages, too: it may wait for one */
    bool recording;     /* it is in a checkpoint: others may wait for it, but not for ever, and it for what is in its streams */
};

enum hang_kind {
    HANG_NONE,        /* nobody is known to wait, or not enough is known */
    HANG_NOT_ENTERED, /* some have not entered what others have, and wait for nobody */
    HANG_NOT_REACHED, /* some have entered it, but what is before it in their streams does not end */
    HANG_NOT_DONE,    /* some have not completed what all others have */
    HANG_INSIDE,      /* all have entered, none is known to be late, and it does not complete */
    HANG_CROSSED,     /* who is late waits in another communicator, in a circle */
    HANG_KINDS
};

struct hang_verdict {
    enum hang_kind kind;
    size_t blamed[HANG_BLAMED_MAX]; /* rows, one of each rank, in order of the ranks; of INSIDE and CROSSED one that waits */
    size_t count;                   /* of ranks to blame */
    uint64_t op;                    /* that the others wait in */
};

/* Rows in any order; every rank below `world` has at least one, or nothing is known. */
void hang_find(const struct hang_row *rows, size_t count, uint32_t world, struct hang_verdict *ret_verdict);
/* A sentence about row `at`: "has entered 60 collectives of communicator x, others 61". */
void hang_text(const struct hang_row *rows, size_t count, const struct hang_verdict *verdict, size_t at, char *to, size_t size);

#endif
