/* SPDX-License-Identifier: Apache-2.0 */
/* sim_cut --seeds A:B [--trace] [--first] [--alone]: each seed is a program, a network, and what goes wrong while it is cut;
 * then it is restarted from one of its cuts, and cut again. --first: stop at the first violation. --alone: the programs,
 * without cuts. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "tests/sim/cut/sim.h"

#define RESTARTS_MAX 2
#define HEAP_KEPT (256 << 20)
#define NS_PER_HOUR 3.6e12

static struct world *new_world(struct totals *totals, uint64_t seed, bool trace)
{
    struct world *world = mem_alloc(sizeof *world);
    world->rng.state = seed;
    world->totals = totals;
    world->trace = trace;
    return world;
}

static void free_world(struct world *world)
{
    world_release(world);
    mem_free(world);
}

static void run_seed(uint64_t seed, bool trace, bool alone, struct totals *totals)
{
    struct program program;
    struct rng rng = {.state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1};
    program_make(&program, &rng);
    /* The program alone: it ends. Seldom, as that is a check of the simulation. */
    struct world *world = new_world(totals, rng_next(&rng), trace);
    if (alone || seed % 16 == 0) {
        world->no_cuts = true;
        world_run(world, &program, seed, NULL, NULL);
        free_world(world);
        world = new_world(totals, rng_next(&rng), trace);
    }
    bool well = !alone && world_run(world, &program, seed, NULL, NULL);
    for (unsigned i = 0; well && i < RESTARTS_MAX && world->has_kept; i++) {
        if (trace)
            puts("-- restart");
        totals->restarts++;
        struct world *next = new_world(totals, rng_next(&rng), trace);
        well = world_run(next, &program, seed, world->kept, world);
        free_world(world);
        world = next;
    }
    free_world(world);
    program_free(&program);
    totals->seeds++;
}

static int usage(void)
{
    fputs("usage: sim_cut --seeds A:B [--trace] [--first] [--alone]\n", stderr);
    return 2;
}

static bool parse_seeds(const char *text, uint64_t *ret_from, uint64_t *ret_to)
{
    char *end;
    errno = 0;
    *ret_from = strtoull(text, &end, 10);
    if (*end != ':' || errno != 0)
        return false;
    *ret_to = strtoull(end + 1, &end, 10);
    return *end == '\0' && errno == 0 && *ret_from < *ret_to;
}

static void tell(const struct totals *t)
{
    printf("# cuts %llu of %llu attempts (given up before go %llu), restarts %llu, messages %llu, logged %llu, held %llu, "
           "parked %llu (in the new colour %llu)\n",
           (unsigned long long)t->cuts, (unsigned long long)t->attempts, (unsigned long long)t->given_up,
           (unsigned long long)t->restarts, (unsigned long long)t->messages, (unsigned long long)t->logged,
           (unsigned long long)t->held, (unsigned long long)t->parked, (unsigned long long)t->parked_new);
    printf("# early %llu, passed %llu, missed %llu, failed %llu, late %llu, inside a collective %llu, hopeless %llu, promised %llu, "
           "assumed %llu, events %llu\n",
           (unsigned long long)t->early, (unsigned long long)t->passed, (unsigned long long)t->missed,
           (unsigned long long)t->failed, (unsigned long long)t->late, (unsigned long long)t->collective,
           (unsigned long long)t->hopeless, (unsigned long long)t->promised, (unsigned long long)t->assumed,
           (unsigned long long)t->events);
}

int main(int argc, char **argv)
{
    struct totals totals = {0};
    uint64_t from = 0, to = 0;
    bool trace = false, first = false, alone = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0)
            trace = true;
        else if (strcmp(argv[i], "--first") == 0)
            first = true;
        else if (strcmp(argv[i], "--alone") == 0)
            alone = true;
        else if (strcmp(argv[i], "--seeds") != 0 || i + 1 == argc || !parse_seeds(argv[++i], &from, &to))
            return usage();
    }
    if (from >= to)
        return usage();
    mallopt(M_TRIM_THRESHOLD, HEAP_KEPT); /* one life after the other in the same memory */
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (uint64_t seed = from; seed < to && !(first && totals.violations > 0); seed++) {
        uint64_t before = totals.violations;
        run_seed(seed, trace, alone, &totals);
        if (totals.violations > before)
            printf("# again: tests/sim/run --cut --seeds %llu:%llu --trace\n", (unsigned long long)seed,
                   (unsigned long long)seed + 1);
    }
    tell(&totals);
    printf("seeds %llu  simulated_hours %.2f  violations %llu\n", (unsigned long long)totals.seeds,
           (double)totals.virtual_ns / NS_PER_HOUR, (unsigned long long)totals.violations);
    return totals.violations == 0 ? 0 : 1;
}
