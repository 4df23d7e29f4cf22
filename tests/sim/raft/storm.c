/* SPDX-License-Identifier: Apache-2.0 */
/* sim_raft --seeds A:B [--trace] [--first]: each seed is a group, its load and its bad luck. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/raft/sim.h"

#define SETTLE_S 30u      /* after healing all must agree within */
#define WALL_LIMIT_S 120u /* of one seed */
#define TWICE_EVERY 16u   /* seeds that are run twice, to see the same run */
#define CHILDREN_MAX 64

struct result {
    uint64_t seed, hash, virtual_ns, events;
    uint64_t committed, elections, acks, reads, dupes, installs, resumes, changes, refused, crashes, unknown;
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

static struct result run_seed(uint64_t seed, bool verbose)
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
    struct result result = {.seed = seed, .hash = w->hash, .virtual_ns = w->now, .events = w->events, .committed = w->truth_count,
                            .elections = w->elections, .acks = w->acks, .reads = w->reads, .dupes = w->dupes,
                            .installs = w->installs, .resumes = w->resumes, .changes = w->changes, .refused = w->refused,
                            .crashes = w->crashes, .unknown = w->unknown, .violations = w->violations};
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
            printf("seed %" PRIu64 ": VIOLATION two runs differ: %016" PRIx64 " and %016" PRIx64 "\n", seed, result.hash,
                   again.hash);
            result.violations++;
        }
    }
    fflush(stdout);
    if (write(to, &result, sizeof result) != (ssize_t)sizeof result)
        _exit(3);
    _exit(0);
}

struct tally {
    struct result sum; /* seed: how many; hash: of all runs */
    pid_t pids[CHILDREN_MAX];
    uint64_t of[CHILDREN_MAX];
    unsigned running;
};

static void add(struct result *sum, const struct result *r)
{
    sum->seed++;
    sum->hash ^= mix(r->hash, r->seed);
    sum->violations += r->violations;
    sum->virtual_ns += r->virtual_ns;
    sum->events += r->events;
    sum->committed += r->committed;
    sum->elections += r->elections;
    sum->acks += r->acks;
    sum->reads += r->reads;
    sum->dupes += r->dupes;
    sum->installs += r->installs;
    sum->resumes += r->resumes;
    sum->changes += r->changes;
    sum->refused += r->refused;
    sum->crashes += r->crashes;
    sum->unknown += r->unknown;
}

static void reap(struct tally *tally, int from)
{
    int status = 0;
    pid_t pid = waitpid(-1, &status, 0);
    for (unsigned i = 0; i < tally->running; i++) {
        if (tally->pids[i] != pid)
            continue;
        struct result result = {.seed = tally->of[i]};
        tally->running--;
        tally->pids[i] = tally->pids[tally->running];
        tally->of[i] = tally->of[tally->running];
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || read(from, &result, sizeof result) != (ssize_t)sizeof result) {
            printf("seed %" PRIu64 ": VIOLATION the run died: %s %d\n", result.seed,
                   WIFSIGNALED(status) ? "signal" : "exit status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            result.violations = 1;
        }
        add(&tally->sum, &result);
        if (result.violations > 0)
            printf("# seed %" PRIu64 " failed; replay it with: tests/sim/storm --raft --seed %" PRIu64 "\n", result.seed,
                   result.seed);
        fflush(stdout);
        return;
    }
}

static void tell(const struct result *s)
{
    printf("# %" PRIu64 " events, %" PRIu64 " entries committed, %" PRIu64 " acknowledged, %" PRIu64 " repeated, %" PRIu64
           " refused, %" PRIu64 " unknown, %" PRIu64 " reads, %" PRIu64 " elections, %" PRIu64 " crashes, %" PRIu64
           " changes of the group, %" PRIu64 " snapshots installed, %" PRIu64 " resumed, hash of all runs %016" PRIx64 "\n",
           s->events, s->committed, s->acks, s->dupes, s->refused, s->unknown, s->reads, s->elections, s->crashes, s->changes,
           s->installs, s->resumes, s->hash);
    printf("seeds %" PRIu64 "  simulated_hours %.2f  violations %u\n", s->seed, (double)s->virtual_ns / (double)SECONDS(3600),
           s->violations);
}

static int usage(void)
{
    fprintf(stderr, "usage: sim_raft --seeds A:B [--trace] [--jobs N] [--first]: runs seeds A to B-1; --first: until one fails\n");
    return 2;
}

int main(int argc, char **argv)
{
    unsigned long long from = 0, to = 0;
    bool verbose = false, first = false;
    long jobs = sysconf(_SC_NPROCESSORS_ONLN);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0)
            verbose = true;
        else if (strcmp(argv[i], "--first") == 0)
            first = true;
        else if (i + 1 < argc && strcmp(argv[i], "--jobs") == 0)
            jobs = strtol(argv[++i], NULL, 10);
        else if (i + 1 >= argc || strcmp(argv[i], "--seeds") != 0 || sscanf(argv[++i], "%llu:%llu", &from, &to) != 2)
            return usage();
    }
    if (from >= to)
        return usage();
    int pipes[2];
    if (pipe(pipes) != 0) {
        fprintf(stderr, "sim_raft: pipe: errno %d\n", errno);
        return 1;
    }
    struct tally tally = {0};
    unsigned most = verbose || jobs < 1 ? 1 : jobs > CHILDREN_MAX ? CHILDREN_MAX : (unsigned)jobs;
    for (uint64_t seed = from; seed < to && !(first && tally.sum.violations > 0); seed++) {
        if (tally.running == most)
            reap(&tally, pipes[0]);
        pid_t pid = spawn(seed, verbose, pipes[1]);
        if (pid < 0) {
            fprintf(stderr, "sim_raft: fork: errno %d\n", errno);
            return 1;
        }
        tally.pids[tally.running] = pid;
        tally.of[tally.running++] = seed;
    }
    while (tally.running > 0)
        reap(&tally, pipes[0]);
    tell(&tally.sum);
    return tally.sum.violations > 0 ? 1 : 0;
}
