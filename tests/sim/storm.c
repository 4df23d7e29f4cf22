/* SPDX-License-Identifier: Apache-2.0 */
/* sim_storm: each seed is a cluster, its jobs and its bad luck. */
#include "tests/sim/seeds.h"
#include "tests/sim/sim.h"

#define SETTLE_S 600u     /* after healing everything must have ended within */
#define CPU_LIMIT_S 240u /* of one seed */

enum figure { APPLIED, REPLAYS, OFFICES, INSTALLS, SEALS, LETTERS, COPIES, COPIES_USED, FIGURES };
_Static_assert(FIGURES <= SEED_FIGURES_MAX, "room for all");

/* Most seeds know only some of the lies, so that a rare one is not drowned by frequent restarts. */
static uint32_t maybe(struct world *w, uint32_t millionths, uint32_t low, uint32_t high)
{
    return chance(w, millionths) ? (uint32_t)between(w, low, high) : 0;
}

static void draw_lies(struct world *w)
{
    struct lies *l = &w->lies;
    l->loss = maybe(w, 600000, 1000, 80000);
    l->doubled = maybe(w, 600000, 1000, 80000);
    l->late = maybe(w, 600000, 1000, 60000);
    l->kill_rank = maybe(w, 600000, 20000, 250000);
    l->exit93 = maybe(w, 60000, 10000, 50000);
    l->hang_rank = maybe(w, 400000, 20000, 200000);
    l->kill_agent = maybe(w, 500000, 20000, 250000);
    l->kill_step = maybe(w, 300000, 10000, 100000);
    l->stop_agent = maybe(w, 400000, 20000, 150000);
    l->lose_host = maybe(w, 400000, 10000, 100000);
    l->partition = maybe(w, 500000, 20000, 200000);
    l->kill_leader = maybe(w, 600000, 20000, 300000);
    l->stop_leader = w->coord_count > 1 ? maybe(w, 400000, 10000, 150000) : 0;
    l->part_leaders = w->coord_count > 1 ? maybe(w, 500000, 10000, 200000) : 0;
    l->store_fails = maybe(w, 400000, 20000, 200000);
    l->corrupt_slot = maybe(w, 300000, 20000, 400000);
    l->corrupt_object = maybe(w, 300000, 10000, 200000);
    l->person = maybe(w, 700000, 50000, 500000);
    l->start_fails = maybe(w, 200000, 10000, 100000);
    l->store_lags = maybe(w, 400000, 50000, 900000);
    l->narrow = maybe(w, 500000, 100000, 1000000);
}

static void submit_later(struct world *w, struct args *args)
{
    person_submits(w, args->index);
}

static void draw_jobs(struct world *w)
{
    uint32_t jobs = (uint32_t)between(w, 1, 3);
    for (uint32_t i = 0; i < jobs; i++) {
        uint32_t nnodes = (uint32_t)between(w, 1, w->host_count > 3 ? 3 : w->host_count);
        struct plan *plan = plan_add(w, nnodes, (uint32_t)between(w, 1, 2), between(w, 50, 600), between(w, 10, 60),
                                     chance(w, 850000) ? between(w, 300, 3000) : 0);
        plan->spec.spares = nnodes < w->host_count ? (uint32_t)between(w, 0, 1) : 0;
        plan->spec.ckpt_keep = (uint32_t)between(w, 1, 3);
        plan->spec.ckpt_keep_every = chance(w, 300000) ? (uint32_t)between(w, 2, 6) : 0;
        plan->spec.ckpt_grace_ms = between(w, 1, 10000);
        plan->spec.launcher = chance(w, 700000) ? LAUNCHER_PMIX : LAUNCHER_NONE;
        if (chance(w, 500000)) {
            plan->paint = (unsigned)between(w, PAINT_GANG, PAINTS - 1);
            plan->declared = chance(w, 500000) ? CUT_MODE_AUTO : plan->paint == PAINT_GANG ? CUT_MODE_STEP : CUT_MODE_FREE;
        }
        plan->stays = plan->spec.launcher == LAUNCHER_NONE && mix(w->seed, i) % 2 == 0;
        if (chance(w, 100000))
            plan->spec.max_restarts = (uint32_t)between(w, 0, 4);
        later(w, between(w, MS(100), SECONDS(10)), submit_later, (struct args){.index = i});
    }
}

static struct seed_result run_seed(uint64_t seed, bool verbose)
{
    struct world *w = world_create(seed, verbose);
    static const uint32_t groups[] = {1, 3, 3, 3, 5};
    w->host_count = (uint32_t)between(w, 2, 6);
    w->coord_count = groups[rng_below(&w->rng, sizeof groups / sizeof groups[0])];
    draw_lies(w);
    draw_jobs(w);
    leader_boot(w);
    uint64_t racks = between(w, 0, 3); /* 0: each host is a domain of its own */
    for (uint32_t i = 0; i < w->host_count && racks > 0; i++)
        snprintf(w->hosts[i].domain, sizeof w->hosts[i].domain, "rack%u", (unsigned)(i % racks));
    for (uint32_t i = 0; i < w->host_count; i++)
        host_boot(w, &w->hosts[i]);
    faults_begin(w);
    world_run(w, SECONDS(between(w, 15, 120)), NULL);
    if (!w->stop)
        faults_heal(w);
    world_run(w, w->now + SECONDS(15), NULL);
    world_run(w, w->now + SECONDS(SETTLE_S), world_converged);
    check_end(w);
    struct seed_result result = {.hash = w->hash, .virtual_ns = w->now, .violations = w->violations};
    result.figures[APPLIED] = w->applied_total;
    result.figures[REPLAYS] = w->replays;
    result.figures[OFFICES] = w->leader.offices;
    result.figures[INSTALLS] = w->leader.installs;
    result.figures[SEALS] = w->coloured_seals;
    result.figures[LETTERS] = w->letters_logged;
    result.figures[COPIES] = w->copies_made;
    result.figures[COPIES_USED] = w->copies_used;
    trace(w, "end: hash %016" PRIx64 ", %" PRIu64 " events, %" PRIu64 " commands", w->hash, w->events, w->applied_total);
    world_free(w);
    return result;
}

static void tell(const struct seed_result *sum)
{
    const uint64_t *f = sum->figures;
    printf("# %" PRIu64 " cuts through messages sealed, with %" PRIu64 " letters on their way\n", f[SEALS], f[LETTERS]);
    printf("# %" PRIu64 " parts copied to peers, %" PRIu64 " restored from there\n", f[COPIES], f[COPIES_USED]);
    printf("# %" PRIu64 " commands applied, %" PRIu64 " replays compared, %" PRIu64 " leaders took office, %" PRIu64
           " snapshots sent, hash of all runs %016" PRIx64 "\n",
           f[APPLIED], f[REPLAYS], f[OFFICES], f[INSTALLS], sum->hash);
}

int main(int argc, char **argv)
{
    static const struct seed_program storm = {
        .name = "sim_storm", .replay = "tests/sim/storm --seed", .cpu_limit_s = CPU_LIMIT_S, .run = run_seed, .tell = tell};
    return seeds_main(&storm, argc, argv);
}
