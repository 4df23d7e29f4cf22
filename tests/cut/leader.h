/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CUT_LEADER_H
#define TESTS_CUT_LEADER_H

/* The agent's orders on the pages, and the leader's decisions by ckpt/cut/verdict.h, one attempt behind the other. */

#include "ckpt/cut/mode.h"
#include "ckpt/cut/verdict.h"
#include "tests/cut/host.h"

#define LEADER_TEXT 512

struct leader {
    struct host *host;
    bool open;               /* an attempt is under way */
    enum cut_stage stage;
    bool go;                 /* was given in this attempt */
    enum cut_mode mode;
    uint64_t cut, epoch, step;
    uint32_t attempt, slot;
    uint64_t opened_ns, deadline_ns;
    uint64_t random;
    bool missed[HOST_RANKS_MAX];
    struct cut_past past;
    /* of the attempt that ended last */
    bool whole;
    enum cut_misfit misfit;
    char why[LEADER_TEXT];
    /* over all */
    uint64_t attempts, misfits[CUT_MISFITS], logged, logged_bytes, stall_ns_max, stall_ns_sum, records, drain_ns_sum;
};

uint64_t leader_draw(struct leader *leader, uint64_t below);
/* Of a new generation. */
void leader_reset(struct leader *leader);
void leader_open(struct leader *leader, uint32_t slot, uint64_t deadline_ns, uint64_t now_ns);
/* True: the attempt has ended just now. */
bool leader_tick(struct leader *leader, uint64_t now_ns);

#endif
