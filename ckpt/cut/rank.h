/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CUT_RANK_H
#define CKPT_CUT_RANK_H

/* One rank's part in a cut: its state, its colour, its counts (README.md). It decides; the caller sends, receives, copies
 * and publishes. One thread at a time: where a program has several, colour and counts are read and changed under one lock.
 *
 * In every call of the program that may look (cut_rank_polls), and at every safe point:
 *     cut_rank_look(rank, the page's words) → what to do now: enum cut_act
 * Sending:   a bookmark first, if cut_rank_bookmark_due; cut_rank_sent; on the twin rank->colour; from a copy, if
 *            cut_rank_copies.
 * Receiving: while cut_rank_matches, everything that comes is matched, of both colours, and cut_rank_take says what to do
 *            with it; its bytes are taken when the program receives it, or as cut_rank_bytes says. Else MPI matches, on the
 *            twin rank->colour, and cut_rank_arrived counts. */

#include <stdint.h>

#include "ckpt/base/err.h"
#include "ckpt/cut/limits.h"
#include "ckpt/wire/local.h"

enum cut_rank_state {
    CUT_RANK_IDLE,
    CUT_RANK_ARMED,     /* polls; waits for go */
    CUT_RANK_READY,     /* … go is there: records at its safe point */
    CUT_RANK_PASSED,    /* … it went by its safe point, and will not record */
    CUT_RANK_RECORDING, /* between the decision and the flip, in one call */
    CUT_RANK_DRAINING,  /* flipped; what arrives of the old colour is logged */
    CUT_RANK_RECORDED,  /* settled; MPI matches again, sends are still copied */
    CUT_RANK_ABORTING,  /* flipped without a record, else as DRAINING */
    CUT_RANK_ABORTED,   /* as RECORDED */
    CUT_RANK_FINISHED,  /* sends and receives no more */
    CUT_RANK_STATES
};

enum cut_rank_event {
    CUT_ON_ARM,
    CUT_ON_GO,
    CUT_ON_PASS,   /* its safe point has gone by, or somebody disarmed it */
    CUT_ON_RECORD, /* a safe point, and it is to be recorded */
    CUT_ON_FLIP,   /* with a whole record */
    CUT_ON_ABORT,  /* without one: it failed, was ordered, or the rank is early */
    CUT_ON_VOID,   /* what was recorded turned out not to be whole */
    CUT_ON_SETTLED,
    CUT_ON_CLOSED,
    CUT_ON_FINISH,
    CUT_RANK_EVENTS
};

/* One per rank of the world. What arrived counts when it is matched, of the new colour when it is handed out. */
struct cut_peer {
    uint64_t sent, arrived;
    uint64_t bookmark, bookmark_epoch; /* how many it had sent us when it flipped to that epoch */
    int bookmark_recorded;             /* … and whether with a record */
    uint64_t told_epoch;               /* the last flip of ours that it was told of */
    uint64_t due_epoch, due_count;     /* … or is to be told of, and how many we had sent it then */
    uint64_t first_epoch;              /* behind our flip to that epoch its messages go before those of others */
};

struct cut_rank {
    unsigned state;  /* enum cut_rank_state */
    unsigned colour; /* 0 or 1: of what is sent now; changes with each flip */
    int recorded;    /* the last flip was with a record, which need not be whole any more */
    uint32_t rank, world;
    uint64_t epoch;          /* of the last flip; 0: none yet */
    uint64_t aim;            /* armed for this one; 0 when none */
    uint64_t sent_before;    /* S: sent before the last flip. Publish both before `epoch` */
    uint64_t arrived_before; /* A: of what was sent in epochs before `epoch`, arrived and done with */
    uint64_t hold_since_ns;  /* 0: nothing is held up */
    uint64_t first_epoch;    /* of some peer, the last */
    struct cut_peer *peers;
};

/* The words of the control page that orders come in. All grow but armed_step. */
struct cut_words {
    uint64_t armed_epoch, armed_step, go_epoch, flip_epoch, settled_epoch, closed_epoch;
};

#define CUT_ENDED_FOR_GOOD UINT64_MAX /* ended_epoch of a rank that has finished */

/* What to do after cut_rank_look. Several at once, and in this order. */
enum cut_act {
    CUT_ACT_RELEASE = 1, /* settled: release all that is held, let MPI match what was deferred, then publish ended_epoch */
    CUT_ACT_PLAIN = 2,   /* closed: sends are plain again */
    CUT_ACT_POLLING = 4, /* publish polling_epoch = rank->aim; from now on no call waits where it does not look */
    CUT_ACT_FLIP = 8     /* take back what MPI has of the old colour, cut_rank_flip(rank, rank->aim, 0), publish */
};

enum tide_status cut_rank_init(struct cut_rank *rank, uint32_t self, uint32_t world,
                               struct err *err) MUST_USE; /* NOMEM, LIMIT */
void cut_rank_release(struct cut_rank *rank);
const char *cut_rank_state_name(unsigned state);

/* ---- what every message passes ---- */

static inline void cut_rank_sent(struct cut_rank *rank, uint32_t peer)
{
    rank->peers[peer].sent++;
}

/* Matched by MPI while cut_rank_matches is not so. */
static inline void cut_rank_arrived(struct cut_rank *rank, uint32_t peer)
{
    rank->peers[peer].arrived++;
}

/* Something is under way: calls look at the page, and wait only where they go on looking. */
static inline int cut_rank_polls(const struct cut_rank *rank)
{
    return (1u << rank->state) & (1u << CUT_RANK_ARMED | 1u << CUT_RANK_READY | 1u << CUT_RANK_PASSED |
                                  1u << CUT_RANK_DRAINING | 1u << CUT_RANK_ABORTING);
}

/* Receives are matched by us, from a queue. */
static inline int cut_rank_matches(const struct cut_rank *rank)
{
    return (1u << rank->state) & (1u << CUT_RANK_DRAINING | 1u << CUT_RANK_ABORTING);
}

/* Sends are sent from a copy, and behind a bookmark. */
static inline int cut_rank_copies(const struct cut_rank *rank)
{
    return (1u << rank->state) &
           (1u << CUT_RANK_DRAINING | 1u << CUT_RANK_ABORTING | 1u << CUT_RANK_RECORDED | 1u << CUT_RANK_ABORTED);
}

/* ---- orders ---- */

/* Take in what the page says; returns enum cut_act bits. Saying it twice does nothing. */
unsigned cut_rank_look(struct cut_rank *rank, const struct cut_words *words);

/* ---- safe points and flips ---- */

enum cut_point {
    CUT_POINT_GO_ON,  /* nothing is due */
    CUT_POINT_RECORD, /* record here, if armed_step can be taken */
    CUT_POINT_PASSED  /* it was due, and may not be: armed_step := none, RECORD_PASSED */
};

/* The safe point `step` of a rank in `epoch`, as the page stands. For ranks without colour too (armed_epoch 0). A rank that
 * flipped without a record has nothing due any more, whatever armed_step still says. */
static inline enum cut_point cut_point_at(const struct cut_words *words, uint64_t epoch, uint64_t step)
{
    uint64_t armed = words->armed_step;
    if (words->armed_epoch != 0 && words->armed_epoch <= epoch)
        return CUT_POINT_GO_ON;
    int go = words->armed_epoch == 0 || words->go_epoch >= words->armed_epoch;
    if (armed == STEP_NEXT)
        return go ? CUT_POINT_RECORD : CUT_POINT_GO_ON;
    if (armed == STEP_NONE || armed == STEP_TAKEN || step < armed)
        return CUT_POINT_GO_ON;
    return go && step == armed ? CUT_POINT_RECORD : CUT_POINT_PASSED;
}

/* A record begins: no order is taken in until the flip. Nonzero when the rank is not ready. */
int cut_rank_record(struct cut_rank *rank) MUST_USE;
/* Into `epoch`, which is above the present one, from any state before a flip. recorded: the record is whole so far,
 * DRAINING; else ABORTING. First of all take back what MPI holds of receives (what was matched counts as arrived), and
 * append to the log what arrived and the program has not received. sent_before, arrived_before and epoch are new afterwards.
 */
void cut_rank_flip(struct cut_rank *rank, uint64_t epoch, int recorded);
/* Right behind the flip, before anything is published: so many messages were counted when they were matched, in the epoch
 * before, and are not whole yet. They belong to the record like all that has arrived, so they count in A when they are done
 * with: cut_rank_done. */
static inline void cut_rank_not_whole(struct cut_rank *rank, uint64_t messages)
{
    rank->arrived_before -= messages;
}
/* The record is not whole after all (no room for the log). No order is needed, and none is waited for. */
void cut_rank_void(struct cut_rank *rank);
/* Sends and receives no more (MPI_Finalize; not tide_finalize, behind which it still has to flip with the others). Nothing
 * needs it any more: publish its sums, then ended_epoch = CUT_ENDED_FOR_GOOD. */
void cut_rank_finish(struct cut_rank *rank);
/* The sums to publish at any time: S and A of a rank that has flipped, all there is of one that finished before. */
void cut_rank_sums(const struct cut_rank *rank, uint64_t *ret_sent, uint64_t *ret_arrived);

/* ---- bookmarks ---- */

struct cut_bookmark {
    uint64_t epoch, count; /* flipped into it, and had sent so many before */
    uint64_t recorded;     /* … with a record: 0 or 1 */
};

/* Right behind the flip, of each peer that anything was ever sent to, and before a message is counted as sent: must the peer
 * be told? Nonzero: send it this bookmark, now. It is due, and the same, until it was told. A message that goes without is
 * held until it comes, or until settled: too late for a program in which somebody waits for that message in a collective. */
int cut_rank_bookmark_due(struct cut_rank *rank, uint32_t peer, struct cut_bookmark *ret_bookmark);
void cut_rank_bookmark_told(struct cut_rank *rank, uint32_t peer);
static inline int cut_rank_has_sent(const struct cut_rank *rank, uint32_t peer)
{
    return rank->peers[peer].sent > 0;
}
/* One came, perhaps before our flip, perhaps late. Nonzero when it released what was held of that peer. */
int cut_rank_bookmark(struct cut_rank *rank, uint32_t peer, const struct cut_bookmark *bookmark);

/* ---- arrivals of a rank that matches itself ---- */

enum cut_take {
    CUT_TAKE_DELIVER, /* to the queue: the program may have it */
    CUT_TAKE_LOG,     /* into the channel log, and to the queue; then cut_rank_done */
    CUT_TAKE_FORGET,  /* to the queue; then cut_rank_done: of the old colour, where there is no record */
    CUT_TAKE_HOLD     /* of the new colour, before all of the old one is here, or what goes first: cut_queue_hold */
};

/* Matched: a message of `colour` from `peer`. One of the old colour may make the peer drained: ask, and release what is
 * held. */
enum cut_take cut_rank_take(struct cut_rank *rank, uint32_t peer, unsigned colour);
/* A matched message that the log is to have, and that the program has not begun to receive. To take its bytes is to begin
 * receiving it, which its sender can see if it sent synchronously. */
enum cut_bytes {
    CUT_BYTES_LATER, /* its sender has not flipped, as far as we know, and may wait for it */
    CUT_BYTES_TAKE,  /* its sender has recorded: nothing of before that it has sent synchronously is under way */
    CUT_BYTES_NEVER  /* there is no record, or its sender has none: no log needs it, and it counts as it is */
};
enum cut_bytes cut_rank_bytes(const struct cut_rank *rank, uint32_t peer);
/* A message of the old colour is in the log, or no log will have it: it counts in A. Publish arrived_before behind it. */
void cut_rank_done(struct cut_rank *rank);
/* It has told that it is in our epoch. */
static inline int cut_rank_has_flipped(const struct cut_rank *rank, uint32_t peer)
{
    return rank->peers[peer].bookmark_epoch == rank->epoch;
}
/* Nothing of the old colour is on its way from that peer any more. */
int cut_rank_drained(const struct cut_rank *rank, uint32_t peer);
/* What comes of the new colour from that peer may be handed out: it is drained, and so are those that go first, but it goes first
 * itself. */
int cut_rank_hands_out(const struct cut_rank *rank, uint32_t peer);
/* The peer sends synchronously, in `epoch`, to a receive of ours that others may get, and is going to be told that it is received. So
 * what it has sent up to that message is looked for first, and handed out before what others sent behind; and what it sends behind it
 * is handed out as theirs, for it may not be the only one: then it is over. */
void cut_rank_prefer(struct cut_rank *rank, uint32_t peer, uint64_t epoch);
void cut_rank_prefer_over(struct cut_rank *rank, uint32_t peer);
static inline int cut_rank_is_first(const struct cut_rank *rank, uint32_t peer)
{
    return rank->epoch != 0 && rank->first_epoch == rank->epoch && rank->peers[peer].first_epoch == rank->epoch;
}
/* One that was held goes to the queue now. */
static inline void cut_rank_released(struct cut_rank *rank, uint32_t peer)
{
    cut_rank_arrived(rank, peer);
}

/* ---- early ---- */

/* The program waits, nothing of the old colour matches, and a message of the new one would. Nonzero when that has been so
 * for CUT_HOLD_MS: report it, and flip to rank->aim without a record. now_ns above 0. */
int cut_rank_early(struct cut_rank *rank, uint64_t now_ns);
/* Something matched, or the program no longer waits. */
static inline void cut_rank_not_held(struct cut_rank *rank)
{
    rank->hold_since_ns = 0;
}

#endif
