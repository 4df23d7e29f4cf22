/* SPDX-License-Identifier: Apache-2.0 */
/* sim_storm --seeds A:B [--trace]: each seed is a cluster, its jobs and its bad luck. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/sim.h"

#define SETTLE_S 600u     /* after healing everything must have ended within */
#define WALL_LIMIT_S 240u /* of one seed */
#define TWICE_EVERY 16u   /* seeds that are run twice, to see the same run */
#define CHILDREN_MAX 64

struct result {
    uint64_t seed, hash, virtual_ns, applied, replays, offices, installs, seals, letters;
    uint32_t violations;
};

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
        if (chance(w, 100000))
            plan->spec.max_restarts = (uint32_t)between(w, 0, 4);
        later(w, between(w, MS(100), SECONDS(10)), submit_later, (struct args){.index = i});
    }
}

static struct result run_seed(uint64_t seed, bool verbose)
{
    struct world *w = world_create(seed, verbose);
    static const uint32_t groups[] = {1, 3, 3, 3, 5};
    w->host_count = (uint32_t)between(w, 2, 6);
    w->coord_count = groups[rng_below(&w->rng, sizeof groups / sizeof groups[0])];
    draw_lies(w);
    draw_jobs(w);
    leader_boot(w);
    for (uint32_t i = 0; i < w->host_count; i++)
        host_boot(w, &w->hosts[i]);
    faults_begin(w);
    world_run(w, SECONDS(between(w, 15, 120)), NULL);
    if (!w->stop)
        faults_heal(w);
    world_run(w, w->now + SECONDS(15), NULL);
    world_run(w, w->now + SECONDS(SETTLE_S), world_converged);
    check_end(w);
    struct result result = {.seed = seed, .hash = w->hash, .virtual_ns = w->now, .applied = w->applied_total,
                            .replays = w->replays, .seals = w->coloured_seals, .letters = w->letters_logged,
                            .offices = w->leader.offices, .installs = w->leader.installs,
                            .violations = w->violations};
    trace(w, "end: hash %016" PRIx64 ", %" PRIu64 " events, %" PRIu64 " commands", w->hash, w->events, w->applied_total);
    world_free(w);
    return result;
}

/* In a process of its own, so that an assertion or a sanitizer's verdict is one more violation and not the end. */
static pid_t spawn(uint64_t seed, bool verbose, int to)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    alarm(WALL_LIMIT_S);
    struct result result = run_seed(seed, verbose);
    if (!verbose && seed % TWICE_EVERY == 0) {
        struct result again = run_seed(seed, false);
        if (again.hash != result.hash) {
            printf("seed %" PRIu64 ": VIOLATION two runs differ: %016" PRIx64 " and %016" PRIx64 "\n", seed, result.hash, again.hash);
            result.violations++;
        }
    }
    fflush(stdout);
    if (write(to, &result, sizeof result) != (ssize_t)sizeof result)
        _exit(3);
    _exit(0);
}

struct tally {
    uint64_t seeds, violations, virtual_ns, applied, replays, offices, installs, seals, letters, hash;
    pid_t pids[CHILDREN_MAX];
    uint64_t of[CHILDREN_MAX];
    unsigned running;
};

static void tell_replay(uint64_t seed)
{
    printf("# seed %" PRIu64 " failed; replay it with: tests/sim/run --seeds %" PRIu64 ":%" PRIu64 " --trace\n", seed, seed, seed + 1);
}

static void reap(struct tally *tally, int from)
{
    int status = 0;
    pid_t pid = waitpid(-1, &status, 0);
    for (unsigned i = 0; i < tally->running; i++) {
        if (tally->pids[i] != pid)
            continue;
        uint64_t seed = tally->of[i];
        tally->running--;
        tally->pids[i] = tally->pids[tally->running];
        tally->of[i] = tally->of[tally->running];
        struct result result = {.seed = seed};
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || read(from, &result, sizeof result) != (ssize_t)sizeof result) {
            printf("seed %" PRIu64 ": VIOLATION the run died: %s %d\n", seed, WIFSIGNALED(status) ? "signal" : "exit status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            result.violations = 1;
        }
        tally->seeds++;
        tally->violations += result.violations;
        tally->virtual_ns += result.virtual_ns;
        tally->applied += result.applied;
        tally->replays += result.replays;
        tally->offices += result.offices;
        tally->installs += result.installs;
        tally->seals += result.seals;
        tally->letters += result.letters;
        tally->hash ^= mix(result.hash, result.seed);
        if (result.violations > 0)
            tell_replay(result.violations > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? result.seed : seed);
        fflush(stdout);
        return;
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: sim_storm --seeds A:B [--trace] [--jobs N]: runs seeds A to B-1\n");
    return 2;
}

int main(int argc, char **argv)
{
    unsigned long long from = 0, to = 0;
    bool verbose = false;
    long jobs = sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0)
            verbose = true;
        else if (i + 1 < argc && strcmp(argv[i], "--jobs") == 0)
            jobs = strtol(argv[++i], NULL, 10);
        else if (i + 1 >= argc || strcmp(argv[i], "--seeds") != 0 || sscanf(argv[++i], "%llu:%llu", &from, &to) != 2)
            return usage();
    }
    if (from >= to)
        return usage();
    int pipes[2];
    if (pipe(pipes) != 0) {
        fprintf(stderr, "sim_storm: pipe: errno %d\n", errno);
        return 1;
    }
    struct tally tally = {0};
    unsigned most = verbose || jobs < 1 ? 1 : jobs > CHILDREN_MAX ? CHILDREN_MAX : (unsigned)jobs;
    for (uint64_t seed = from; seed < to; seed++) {
        if (tally.running == most)
            reap(&tally, pipes[0]);
        pid_t pid = spawn(seed, verbose, pipes[1]);
        if (pid < 0) {
            fprintf(stderr, "sim_storm: fork: errno %d\n", errno);
            return 1;
        }
        tally.pids[tally.running] = pid;
        tally.of[tally.running++] = seed;
    }
    while (tally.running > 0)
        reap(&tally, pipes[0]);
    printf("# %" PRIu64 " cuts through messages sealed, with %" PRIu64 " letters on their way\n", tally.seals, tally.letters);
    printf("# %" PRIu64 " commands applied, %" PRIu64 " replays compared, %" PRIu64 " leaders took office, %" PRIu64
           " snapshots sent, hash of all runs %016" PRIx64 "\n",
           tally.applied, tally.replays, tally.offices, tally.installs, tally.hash);
    printf("seeds %" PRIu64 "  simulated_hours %.2f  violations %" PRIu64 "\n", tally.seeds,
           (double)tally.virtual_ns / (double)SECONDS(3600), tally.violations);
    return tally.violations > 0 ? 1 : 0;
}
