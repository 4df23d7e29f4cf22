/* SPDX-License-Identifier: Apache-2.0 */
/* sim_raft: each seed is a group, its load and its bad luck. */
#include "tests/sim/raft/sim.h"
#include "tests/sim/seeds.h"

#define SETTLE_S 30u      /* after healing all must agree within */
#define CPU_LIMIT_S 120u /* of one seed */

enum figure { EVENTS, COMMITTED, ELECTIONS, ACKS, READS, DUPES, INSTALLS, RESUMES, CHANGES, REFUSED, CRASHES, UNKNOWN, FLIPS, FIGURES };
_Static_assert(FIGURES <= SEED_FIGURES_MAX, "room for all");

/* Most seeds know only some of the lies, so that a rare one is not drowned by frequent restarts. */
static uint32_t maybe(struct world *w, uint32_t millionths, uint32_t low, uint32_t high)
{
    return chance(w, millionths) ? (uint32_t)between(w, low, high) : 0;
}

static void draw_lies(struct world *w)
{
    struct lies *l = &w->lies;
    l->loss = maybe(w, 600000, 1000, 150000);
    l->doubled = maybe(w, 500000, 1000, 100000);
    l->late = maybe(w, 500000, 1000, 150000);
    l->old = maybe(w, 400000, 500, 20000);
    l->unreachable = maybe(w, 300000, 10000, 100000);
    l->crash = maybe(w, 600000, 2000, 60000);
    l->crash_inside = maybe(w, 500000, 2000, 60000);
    l->power = maybe(w, 300000, 1000, 12000);
    l->pause = maybe(w, 500000, 2000, 50000);
    l->cut_one_way = maybe(w, 500000, 2000, 60000);
    l->partition = maybe(w, 400000, 2000, 30000);
    l->isolate = maybe(w, 500000, 2000, 40000);
    l->slow_disk = maybe(w, 400000, 2000, 50000);
    l->eio = maybe(w, 200000, 1000, 20000);
    l->full = maybe(w, 150000, 1000, 15000);
    l->bad_image = maybe(w, 150000, 10000, 300000);
    l->snapshot = maybe(w, 850000, 2000, 80000);
    l->admin = maybe(w, 600000, 5000, 150000);
    l->transfer = maybe(w, 400000, 2000, 50000);
    l->bulk = maybe(w, 500000, 10000, 400000);
}

/* Drawn apart, so that seeds that do not know it are what they were before there were any. Only the person who replaces those members
 * changes the group then: else who is left might be fewer than was thought. */
static void draw_flips(struct world *w, uint32_t members)
{
    struct rng rng = {.state = mix(w->seed, UINT64_C(0x62697473))};
    if (w->lies.admin == 0 && members >= 3 && rng_below(&rng, 100) < 40)
        w->lies.flip = 2000 + (uint32_t)rng_below(&rng, 28000);
}

/* One member has all the bad luck; the others must not feel much of it. */
static void draw_mild(struct world *w)
{
    struct lies *l = &w->lies;
    w->mild = true;
    l->power = l->partition = l->late = l->old = l->admin = l->transfer = 0;
    l->loss = l->loss / 10;
}

static void draw_world(struct world *w)
{
    static const uint32_t sizes[] = {1, 3, 3, 3, 3, 5, 5, 2, 4};
    uint32_t members = sizes[between(w, 0, 8)];
    if (members >= 3 && chance(w, 200000))
        draw_mild(w);
    draw_flips(w, members);
    w->victim = (uint32_t)between(w, 0, members - 1);
    uint32_t spares = w->lies.admin != 0 ? (uint32_t)between(w, 1, members == 5 ? 2 : 3) : 0;
    w->election_ticks = (uint32_t)between(w, 9, 25);
    w->heartbeat_ticks = (uint32_t)between(w, 1, w->election_ticks / 3 < 5 ? w->election_ticks / 3 : 5);
    w->way_ns = US(between(w, 50, 1500));
    w->sync_ns = US(between(w, 50, chance(w, 200000) && !w->mild ? 8000 : 800));
    w->filler_max = (uint32_t)between(w, 0, chance(w, 300000) ? 900 : 80);
    w->image_max = (uint32_t)between(w, 1, chance(w, 400000) ? 12000 : 500);
    w->salted = chance(w, 500000);
    w->client_count = (uint32_t)between(w, 1, chance(w, 300000) ? CLIENTS_MAX : 5);
    world_found(w, members, spares);
}

static struct seed_result run_seed(uint64_t seed, bool verbose)
{
    struct world *w = world_create(seed, verbose);
    draw_lies(w);
    draw_world(w);
    clients_begin(w);
    faults_begin(w);
    world_run(w, between(w, SECONDS(4), SECONDS(20)), NULL);
    if (!w->stop)
        faults_heal(w);
    world_run(w, w->now + SECONDS(SETTLE_S), world_converged);
    check_end(w);
    say(w, "end: hash %016" PRIx64 ", %" PRIu64 " events, %" PRIu64 " entries committed", w->hash, w->events, w->truth_count);
    struct seed_result result = {.hash = w->hash, .virtual_ns = w->now, .violations = w->violations};
    result.figures[EVENTS] = w->events;
    result.figures[COMMITTED] = w->truth_count;
    result.figures[ELECTIONS] = w->elections;
    result.figures[ACKS] = w->acks;
    result.figures[READS] = w->reads;
    result.figures[DUPES] = w->dupes;
    result.figures[INSTALLS] = w->installs;
    result.figures[RESUMES] = w->resumes;
    result.figures[CHANGES] = w->changes;
    result.figures[REFUSED] = w->refused;
    result.figures[CRASHES] = w->crashes;
    result.figures[UNKNOWN] = w->unknown;
    result.figures[FLIPS] = w->flips;
    world_free(w);
    return result;
}

static void tell(const struct seed_result *sum)
{
    const uint64_t *f = sum->figures;
    printf("# %" PRIu64 " events, %" PRIu64 " entries committed, %" PRIu64 " acknowledged, %" PRIu64 " repeated, %" PRIu64
           " refused, %" PRIu64 " unknown, %" PRIu64 " reads, %" PRIu64 " elections, %" PRIu64 " crashes, %" PRIu64
           " changes of the group, %" PRIu64 " snapshots installed, %" PRIu64 " resumed, %" PRIu64
           " bits flipped, hash of all runs %016" PRIx64 "\n",
           f[EVENTS], f[COMMITTED], f[ACKS], f[DUPES], f[REFUSED], f[UNKNOWN], f[READS], f[ELECTIONS], f[CRASHES], f[CHANGES],
           f[INSTALLS], f[RESUMES], f[FLIPS], sum->hash);
}

int main(int argc, char **argv)
{
    static const struct seed_program storm = {
        .name = "sim_raft", .replay = "tests/sim/storm --raft --seed", .cpu_limit_s = CPU_LIMIT_S, .run = run_seed, .tell = tell};
    return seeds_main(&storm, argc, argv);
}
