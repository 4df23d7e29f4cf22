/* SPDX-License-Identifier: Apache-2.0 */
/* Ranks that leave a generation that is over, and go over to the next in their processes (agent/step/stay.c). Until a rank has left it
 * goes on as it likes: it may be in the middle of a record. */
#include "tests/sim/sim.h"

#define LEAVE_MS_MAX 300u
#define STUCK 50000u /* in millionths: a rank that does not leave */

void stay_look(struct world *w, struct host *h, struct step_model *step)
{
    bool out = false;
    for (uint32_t i = 0; i < step->rank_count; i++) {
        if (step->ranks[i].alive && !step->ranks[i].out)
            return;
        out = out || step->ranks[i].alive;
    }
    if (!out || !step->leaving || step->left)
        return;
    step->left = true;
    trace(w, "%s step has left gen %" PRIu64, h->name, step->generation);
    step_status(w, h, step);
}

static void rank_out(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    struct step_model *step = step_still(w, args);
    struct rank_model *rank = step != NULL ? step_rank(step, args->rank) : NULL;
    if (rank == NULL || !rank->alive)
        return;
    if (rank->page.armed_step == STEP_TAKEN) { /* what is being recorded comes to its end */
        later(w, MS(1), rank_out, args_copy(args));
        return;
    }
    rank->out = true;
    rank->moving = rank->letters.waits = false;
    trace(w, "%s rank %u has left gen %" PRIu64, h->name, rank->rank, step->generation);
    stay_look(w, h, step);
}

static void rank_killed(struct world *w, struct args *args)
{
    struct step_model *step = step_still(w, args);
    struct rank_model *rank = step != NULL ? step_rank(step, args->rank) : NULL;
    if (rank != NULL && rank->alive && !rank->out)
        rank_end(w, &w->hosts[args->host], step, rank, 0, 9);
}

void stay_leave(struct world *w, struct host *h, struct step_model *step)
{
    if (!step->alive || step->leaving)
        return;
    step->leaving = true;
    for (uint32_t i = 0; i < step->rank_count; i++) {
        struct rank_model *rank = &step->ranks[i];
        bool stays = rank->alive && rank->attached && rank->page.stays;
        rank->told = true;
        rank->asking = rank->asking && !stays;
        if (stays && !chance(w, STUCK))
            later(w, between(w, MS(1), MS(LEAVE_MS_MAX)), rank_out, step_args(w, h, step, rank->rank));
        later(w, stays ? MS(STEP_LEAVE_MS) : between(w, MS(1), MS(6)), rank_killed, step_args(w, h, step, rank->rank));
    }
}

bool stay_go_over(struct world *w, struct host *h, struct step_model *step, struct step_spec *spec, uint64_t restore_cut)
{
    if (!step->alive || !step->left || step->spec.node_rank != spec->node_rank || step->rank_count != spec->job.nproc_per_node ||
        step->spec.peers.count != spec->peers.count) {
        codec_release(&step_spec_codec, spec);
        return false;
    }
    bool stays[WORLD_MAX];
    for (uint32_t i = 0; i < step->rank_count; i++)
        stays[i] = step->ranks[i].alive;
    spec->born = step_spec_born(&step->spec);
    codec_release(&step_spec_codec, &step->spec);
    step->spec = *spec;
    step->epoch = ++h->next_step_epoch;
    step->generation = spec->generation;
    step->restore_cut = restore_cut;
    step->leaving = step->left = step->started = false;
    text_copy(step->token, sizeof step->token, spec->token);
    for (uint32_t i = 0; i < step->rank_count; i++) {
        rank_begin(w, h, step, i);
        later(w, stays[i] ? between(w, 200000, MS(2)) : between(w, MS(20), MS(200)), rank_attach,
              step_args(w, h, step, step->ranks[i].rank));
    }
    trace(w, "%s step goes over to gen %" PRIu64, h->name, step->generation);
    check_started(w, h, step);
    later(w, between(w, MS(1), MS(5)), step_all_started, step_args(w, h, step, 0));
    return true;
}
