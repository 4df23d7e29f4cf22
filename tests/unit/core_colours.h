/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CORE_COLOURS_H
#define TESTS_UNIT_CORE_COLOURS_H

/* Fake ranks whose messages are coloured (ckpt/cut/README.md), for core_dsl.h: what the story says is all that goes wrong with them.
 * The rules themselves are in ckpt/cut/rank.h; tests/sim plays with those. */

#include "ckpt/wire/node.h"

/* Of a rank number, in every job; set by the story. */
struct fake_paint {
    bool on;        /* libtidemark_mpi is there */
    unsigned mode;  /* enum cut_mode: as the program declares */
    bool silent;    /* makes no call: it neither polls nor flips */
    bool late;      /* comes to its step before it has seen go */
    bool early;     /* needs a message from behind the cut */
    bool stays;     /* has its own loop: never comes to the step of the others */
    bool loses;     /* what was sent to it does not arrive */
    bool never_ends;
    bool uneven;    /* is one collective ahead */
    bool turns;     /* recorded, and then its channel log has no room */
    bool counts;    /* libtidemark_nccl is there: communicators are told, without colours */
    unsigned sends; /* so many of its messages, counted in one of them, are under way */
};

struct fake_colour {
    uint64_t epoch, polling, ended, sent, arrived;
};

static inline void fake_flip(struct fake_colour *c, const struct fake_paint *does, uint64_t epoch, uint64_t sent)
{
    c->epoch = epoch;
    c->sent = sent;
    c->arrived = does->loses ? sent - 1 : sent;
}

static inline void fake_tell(struct cut_report *report, unsigned progress, uint64_t step, const char *detail)
{
    report->progress = progress;
    report->step = step;
    snprintf(report->detail, sizeof report->detail, "%s", detail);
}

/* At its safe point, with an attempt armed. */
static inline void fake_safe_point(const struct assignment *order, const struct fake_paint *does, struct fake_colour *c,
                                   struct cut_report *report, uint64_t step)
{
    const struct cut_order *cut = &order->cut;
    bool go = order->epochs.go >= cut->epoch && !does->late;
    bool there = cut->mode == CUT_MODE_FREE || (step >= cut->step && !does->stays);
    if (does->early && go) {
        fake_tell(report, CUT_EARLY, step, "a message with tag 7 of rank 0");
        fake_flip(c, does, cut->epoch, step);
    } else if (there && go) {
        fake_tell(report, CUT_COPIED, cut->mode == CUT_MODE_FREE ? step : cut->step, "");
        report->bytes = 1000;
        report->logged = 2;
        report->logged_bytes = 64;
        fake_flip(c, does, cut->epoch, step);
    } else if (there && cut->mode == CUT_MODE_STEP) {
        fake_tell(report, CUT_PASSED, step, "");
    }
}

/* One look at what it is told. `step`: it has made. */
static inline void fake_paint_follow(const struct assignment *order, const struct fake_paint *does, struct fake_colour *c,
                                     struct cut_report *report, uint32_t rank, uint64_t step)
{
    const struct cut_order *cut = &order->cut;
    bool records = cut->epoch != 0 && (cut->phase == CUT_PHASE_ARM || cut->phase == CUT_PHASE_RECORD || cut->phase == CUT_PHASE_SUM);
    if (records && (report->cut != cut->cut || report->attempt != cut->attempt)) {
        *report = (struct cut_report){.cut = cut->cut, .attempt = cut->attempt, .rank = rank, .progress = CUT_ARMED};
        if (cut->mode == CUT_MODE_STEP && step >= cut->step)
            fake_tell(report, CUT_MISSED, step, "");
    }
    if (records && report->progress == CUT_ARMED && !does->silent)
        c->polling = cut->epoch;
    if (records && report->progress == CUT_ARMED && c->epoch < cut->epoch)
        fake_safe_point(order, does, c, report, step);
    if (order->epochs.flip > c->epoch && !does->silent)
        fake_flip(c, does, order->epochs.flip, step);
    if (order->epochs.settled >= c->epoch && !does->never_ends)
        c->ended = c->epoch;
    if (report->progress == CUT_COPIED && does->turns)
        fake_tell(report, CUT_FAILED, report->step, "limit: more than 64 MiB of messages");
    if (cut->phase == CUT_PHASE_SUM && report->progress == CUT_COPIED) {
        report->progress = CUT_RECORDED;
        snprintf(report->digest, sizeof report->digest, "0123456789abcdef0123456789abcdef");
    }
}

static inline void fake_paint_report(const struct fake_paint *does, const struct fake_colour *c, struct rank_report *report)
{
    report->coloured = does->on;
    report->cut_mode = does->mode;
    report->epoch = c->epoch;
    report->polling = c->polling;
    report->ended = c->ended;
    report->sent = c->sent;
    report->arrived = c->arrived;
}

/* Each node has one rank in these stories: a communicator of all, and one without a name of the first two. */
static inline void fake_paint_comms(const struct fake_paint *does, const struct cut_report *cut, uint32_t world, struct gen_report *to)
{
    if (cut->progress != CUT_COPIED && cut->progress != CUT_RECORDED)
        return;
    for (uint32_t i = 0; i < 2; i++) {
        if (i == 1 && cut->rank >= 2)
            return;
        struct comm_report *comm = codec_list_add(&comm_report_codec, &to->comms);
        *comm = (struct comm_report){.cut = cut->cut, .attempt = cut->attempt, .ranks = 1, .rank = cut->rank};
        snprintf(comm->id, sizeof comm->id, "%016x", i == 0 ? 1 : 0xabcd);
        snprintf(comm->name, sizeof comm->name, "%s", i == 0 ? "MPI_COMM_WORLD" : "");
        comm->collectives = does->uneven && i == 0 ? 41 : 40;
        comm->size = i == 0 ? world : 2;
        comm->sent = i == 1 ? does->sends : 0;
    }
}

#endif
