/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CORE_ILLS_H
#define TESTS_UNIT_CORE_ILLS_H

/* How stories about the health of nodes begin: job j runs, and a node may fall ill. */

#include "core_dsl.h"

#define GOOD_MS 5000u

static inline struct health_fact bad(unsigned state, uint64_t serial)
{
    struct health_fact fact = {.probe = "xid", .subject = "GPU 0000:65:00", .state = state, .serial = serial, .text = "Xid 79"};
    return fact;
}

/* j runs on n1 and n2, n3 is its spare. */
static inline struct fake *world_begin(struct world *w)
{
    world_init(w);
    struct command settings = command_new(w, CMD_CLUSTER_INIT, NULL);
    settings.lease_ms = 2000;
    settings.heartbeat_ms = 250;
    settings.health_good_ms = GOOD_MS;
    TEXT_SET(settings.store, "file:///store");
    assert_int_equal(world_apply(w, &settings), TIDE_OK);
    world_nodes(w, 3, 1);
    for (unsigned i = 0; i < FAKES_MAX; i++)
        w->fakes[i].boot = "boot-1";
    submit(w, "j", 2, 1, 1);
    run(w, 500);
    assert_state(w, "j", "running");
    return fake_of(w, "n2");
}

/* Commands in the next seconds. */
static inline unsigned steady(struct world *w)
{
    unsigned before = w->commands;
    run(w, 5000);
    return w->commands - before;
}

#endif
