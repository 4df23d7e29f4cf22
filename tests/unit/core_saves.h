/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CORE_SAVES_H
#define TESTS_UNIT_CORE_SAVES_H

/* How stories about checkpoints begin: job j runs, and has some. */

#include "core_dsl.h"

static inline void start_job(struct world *w, uint32_t nodes, uint32_t ranks_on, uint32_t spares)
{
    world_init(w);
    world_nodes(w, nodes, 1);
    assert_int_equal(submit(w, "j", ranks_on, spares, 1), TIDE_OK);
    run(w, 1000);
    assert_true(job_of(w, "j")->all_stepped);
}

/* One more, whole in memory at least; with time for what follows from it. */
static inline void save_job(struct world *w)
{
    uint64_t cut = job_of(w, "j")->next_cut;
    assert_int_equal(order(w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(w, 1500);
    assert_true(ckpt_of(w, "j", cut)->state == TIDE_CKPT_COMMITTED || ckpt_of(w, "j", cut)->state == TIDE_CKPT_SEALED);
}

/* One more, and it has just been committed. */
static inline void commit_job(struct world *w)
{
    uint64_t cut = job_of(w, "j")->next_cut;
    assert_int_equal(order(w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    for (unsigned ms = 0; ms < 1500 && (job_ckpt(job_of(w, "j"), cut) == NULL || ckpt_of(w, "j", cut)->state != TIDE_CKPT_COMMITTED);
         ms += 50)
        run(w, 50);
    assert_int_equal(ckpt_of(w, "j", cut)->state, TIDE_CKPT_COMMITTED);
}

#endif
