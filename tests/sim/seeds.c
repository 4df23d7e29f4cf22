/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/seeds.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define TWICE_EVERY 16u /* seeds that are run twice */
#define CHILDREN_MAX 64
#define NS_PER_HOUR 3.6e12

struct sent {
    uint64_t seed;
    struct seed_result result;
};

struct tally {
    const struct seed_program *program;
    uint64_t seeds, violations;
    struct seed_result sum;
    int pipes[2];
    pid_t pids[CHILDREN_MAX];
    uint64_t of[CHILDREN_MAX];
    unsigned running;
};

struct order {
    unsigned long long from, to;
    bool verbose, first; /* first: until one fails */
    unsigned jobs;
};

/* Of what it computes: on a machine that is busy with other things a seed may take as long as it will. */
static void bound_time(unsigned seconds)
{
    struct rlimit limit = {.rlim_cur = seconds, .rlim_max = seconds};
    if (setrlimit(RLIMIT_CPU, &limit) != 0)
        perror("setrlimit");
}

static pid_t spawn(const struct tally *tally, uint64_t seed, bool verbose)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    bound_time(tally->program->cpu_limit_s);
    struct sent sent = {.seed = seed, .result = tally->program->run(seed, verbose)};
    if (!verbose && seed % TWICE_EVERY == 0) {
        struct seed_result again = tally->program->run(seed, false);
        if (again.hash != sent.result.hash) {
            printf("seed %" PRIu64 ": VIOLATION two runs differ: %016" PRIx64 " and %016" PRIx64 "\n", seed, sent.result.hash, again.hash);
            sent.result.violations++;
        }
    }
    fflush(stdout);
    if (write(tally->pipes[1], &sent, sizeof sent) != (ssize_t)sizeof sent)
        _exit(3);
    _exit(0);
}

/* The same whatever the order in which they end. */
static uint64_t stirred(uint64_t hash, uint64_t seed)
{
    uint64_t x = (hash ^ seed) * UINT64_C(0x9e3779b97f4a7c15);
    return x ^ x >> 29;
}

static void add(struct tally *tally, const struct sent *sent)
{
    const struct seed_result *r = &sent->result;
    tally->seeds++;
    tally->violations += r->violations;
    tally->sum.virtual_ns += r->virtual_ns;
    tally->sum.hash ^= stirred(r->hash, sent->seed);
    for (size_t i = 0; i < SEED_FIGURES_MAX; i++)
        tally->sum.figures[i] += r->figures[i];
    if (r->violations > 0)
        printf("# seed %" PRIu64 " failed; replay it with: %s %" PRIu64 "\n", sent->seed, tally->program->replay, sent->seed);
    fflush(stdout);
}

static void reap(struct tally *tally)
{
    int status = 0;
    pid_t pid = waitpid(-1, &status, 0);
    unsigned i = 0;
    while (i < tally->running && tally->pids[i] != pid)
        i++;
    if (i == tally->running)
        return;
    struct sent sent = {.seed = tally->of[i]};
    tally->running--;
    tally->pids[i] = tally->pids[tally->running];
    tally->of[i] = tally->of[tally->running];
    /* One that ended well has written; whose result comes first out of the pipe does not matter. */
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || read(tally->pipes[0], &sent, sizeof sent) != (ssize_t)sizeof sent) {
        printf("seed %" PRIu64 ": VIOLATION the run died: %s %d\n", sent.seed, WIFSIGNALED(status) ? "signal" : "exit status",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
        sent.result.violations = 1;
    }
    add(tally, &sent);
}

static bool parse(int argc, char **argv, struct order *ret_order)
{
    long jobs = sysconf(_SC_NPROCESSORS_ONLN);
    *ret_order = (struct order){0};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0)
            ret_order->verbose = true;
        else if (strcmp(argv[i], "--first") == 0)
            ret_order->first = true;
        else if (i + 1 < argc && strcmp(argv[i], "--jobs") == 0)
            jobs = strtol(argv[++i], NULL, 10);
        else if (i + 1 >= argc || strcmp(argv[i], "--seeds") != 0 ||
                 sscanf(argv[++i], "%llu:%llu", &ret_order->from, &ret_order->to) != 2)
            return false;
    }
    ret_order->jobs = ret_order->verbose || jobs < 1 ? 1 : jobs > CHILDREN_MAX ? CHILDREN_MAX : (unsigned)jobs;
    return ret_order->from < ret_order->to;
}

int seeds_main(const struct seed_program *program, int argc, char **argv)
{
    struct tally tally = {.program = program};
    struct order order;
    if (!parse(argc, argv, &order)) {
        fprintf(stderr, "usage: %s --seeds A:B [--trace] [--jobs N] [--first]: runs seeds A to B-1; --first: until one fails\n",
                program->name);
        return 2;
    }
    if (pipe(tally.pipes) != 0) {
        fprintf(stderr, "%s: pipe: errno %d\n", program->name, errno);
        return 1;
    }
    for (uint64_t seed = order.from; seed < order.to && !(order.first && tally.violations > 0); seed++) {
        if (tally.running == order.jobs)
            reap(&tally);
        pid_t pid = spawn(&tally, seed, order.verbose);
        if (pid < 0) {
            fprintf(stderr, "%s: fork: errno %d\n", program->name, errno);
            return 1;
        }
        tally.pids[tally.running] = pid;
        tally.of[tally.running++] = seed;
    }
    while (tally.running > 0)
        reap(&tally);
    program->tell(&tally.sum);
    printf("seeds %" PRIu64 "  simulated_hours %.2f  violations %" PRIu64 "\n", tally.seeds, (double)tally.sum.virtual_ns / NS_PER_HOUR,
           tally.violations);
    return tally.violations > 0 ? 1 : 0;
}
