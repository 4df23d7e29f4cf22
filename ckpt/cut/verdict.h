/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CUT_VERDICT_H
#define CKPT_CUT_VERDICT_H

/* What a leader concludes of an attempt from what ranks report. Reports may be old, repeated and out of order: what is
 * concluded from them stays true. One verdict is one look: init, add the newest report of each rank once, ask. */

#include <stddef.h>
#include <stdint.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"
#include "ckpt/cut/channel.h"
#include "ckpt/cut/rank.h"
#include "ckpt/wire/local.h"

/* One rank, as its control page and its agent say. Numbers only grow in a generation. */
struct cut_rank_report {
    uint32_t rank;
    unsigned coloured : 1, left : 1; /* left: CONTROL_FINALIZED: it has no more safe points, but may still communicate */
    uint64_t armed_epoch;  /* armed by its agent: armed_step held; a rank that is not coloured: the attempt's epoch too */
    uint64_t missed_epoch; /* its agent could not arm it for this one: it had gone by */
    uint64_t polling_epoch;
    uint64_t epoch;                       /* its last flip */
    uint64_t ended_epoch;                 /* CUT_ENDED_FOR_GOOD: it sends and receives no more, and need not flip */
    uint64_t sent_before, arrived_before; /* of `epoch`. Read epoch before and after: both the same */
    uint64_t recorded_cut;
    uint32_t recorded_attempt;
    unsigned result; /* enum record_result of that attempt */
};

/* Into a report that is kept: the newer of each. */
void cut_rank_report_merge(struct cut_rank_report *into, const struct cut_rank_report *from);

/* Stage of an attempt, as the log has it. */
enum cut_stage {
    CUT_STAGE_ARM,     /* opened: agents arm */
    CUT_STAGE_RECORD,  /* go: ranks record and flip */
    CUT_STAGE_SUM,     /* agents write flip_epoch: who has not flipped does it now, without a record */
    CUT_STAGE_SETTLED, /* no message of an older epoch is on its way */
    CUT_STAGE_CLOSED   /* every rank has ended, or (from ARM) nobody had begun */
};

/* Why an attempt cannot become a valid cut. Those before FAILED are worth another attempt. */
enum cut_misfit {
    CUT_FITS,
    CUT_MISFIT_MISSED,     /* its agent came too late to arm it */
    CUT_MISFIT_PASSED,     /* it came to its step before go */
    CUT_MISFIT_EARLY,      /* it needed a message from behind the cut */
    CUT_MISFIT_LATE,       /* it did not come to a safe point in time, and was told to flip */
    CUT_MISFIT_COLLECTIVE, /* members of a communicator are on different sides of a collective */
    CUT_MISFIT_FAILED,
    CUT_MISFIT_FINISHED,
    CUT_MISFIT_MIXED,  /* some ranks are coloured and some are not */
    CUT_MISFIT_EPOCHS, /* ranks are not in one epoch although no attempt is open */
    CUT_MISFIT_COUNTS, /* more arrived than was sent */
    CUT_MISFITS
};
const char *cut_misfit_name(unsigned misfit);

struct cut_verdict {
    uint64_t cut, epoch;
    uint32_t attempt, world;
    uint32_t added, coloured, finished, armed, polling, flipped, ended, recorded;
    uint64_t base;                                           /* epoch of the first rank that has not flipped */
    uint64_t sent, arrived;                                  /* of those that flipped or finished */
    uint32_t misfits[CUT_MISFITS], misfit_rank[CUT_MISFITS]; /* how many, and the first of them */
    uint32_t coloured_rank, plain_rank,
        waits[CUT_STAGE_CLOSED];                  /* the first that is, or holds that stage up; UINT32_MAX: none */
    unsigned char seen[(TIDE_RANKS_MAX + 7) / 8]; /* the last: only what the world needs of it is cleared */
};

/* world: at most TIDE_RANKS_MAX. */
void cut_verdict_init(struct cut_verdict *verdict, uint32_t world, uint64_t epoch, uint64_t cut, uint32_t attempt);
/* A second report of a rank, or one outside the world, is ignored. */
void cut_verdict_add(struct cut_verdict *verdict, const struct cut_rank_report *report);

/* The stage that may be entered now; `stage` itself: wait. Never an earlier one. CUT_STAGE_CLOSED from CUT_STAGE_ARM gives
 * the attempt up before go. A job whose ranks are not coloured goes through all stages without waiting for anything but
 * records. When a deadline passes: in ARM enter CLOSED, in RECORD enter SUM; in SUM and SETTLED there is nothing to do but
 * to wait. */
enum cut_stage cut_verdict_stage(const struct cut_verdict *verdict, enum cut_stage stage);
/* CUT_FITS as long as nothing speaks against a valid cut. Else the sentence says why, with ranks. */
enum cut_misfit cut_verdict_misfit(const struct cut_verdict *verdict, char *why, size_t why_size);
/* Every rank recorded in this attempt. Settled too, it is valid if collectives (below) fit. An attempt that is settled and
 * closed and not whole has a misfit. A rank that flipped because it was told to says nothing (RECORD_NONE). */
int cut_verdict_whole(const struct cut_verdict *verdict);
/* Whom the stage waits for: a sentence for people, with the first such rank and how many. */
void cut_verdict_waits(const struct cut_verdict *verdict, enum cut_stage stage, char *text, size_t size);

/* ---- collectives ---- */

/* Some members of a communicator, all of which entered it `comm.collectives` times. Where its messages are counted and not
 * coloured (NCCL) they must not be under way: what these members have sent and received, and the sum of their balances
 * (comm_id.h), which is 0 over all members where as much was received as sent on every channel. */
struct cut_members {
    struct cut_comm comm;
    uint32_t members, rank; /* how many, and one of them */
    uint64_t sent, received, balance;
};

struct cut_comms;

/* Agents sum up their ranks with it, the leader all agents: add what there is, in any order. NULL is legal for free. */
struct cut_comms *cut_comms_create(void);
void cut_comms_free(struct cut_comms *comms);
/* Communicators with one member are left out. Errors: LIMIT (CUT_VERDICT_COMMS_MAX). */
enum tide_status cut_comms_add(struct cut_comms *comms, const struct cut_members *members, struct err *err) MUST_USE;
/* What was added, with members of equal counts together; at most two lines per communicator: where counts differ that is
 * enough to see it. index from 0; nonzero when there is no such line. */
int cut_comms_line(const struct cut_comms *comms, size_t index, struct cut_members *ret_members);
/* CUT_FITS: all members are there, on the same side of every collective, and no counted message is under way. Else
 * CUT_MISFIT_COLLECTIVE and which are not. Nothing heard is no proof: CUT_COMM_WORLD, whose members are all `world` ranks, must
 * have been added by each. */
enum cut_misfit cut_comms_judge(const struct cut_comms *comms, uint32_t world, char *why, size_t why_size);

#endif
