/* SPDX-License-Identifier: Apache-2.0 */

/* Takes cuts of an MPI program at random moments, as fast as they go, checks each, kills the program and starts it again from
 * the last one. Plays step process, agent and leader of one host.
 *
 *     cut_driver [--ranks N] [--cuts N] [--refusals N] [--restarts N] [--seconds N] [--seed S] [--mode step|free] [--gap-us N]
 *                [--bank] [--once] [--log-off] [--deadline-ms N] [--launcher "mpirun …"] [--env NAME=VALUE] … -- PROGRAM …
 *
 * Until there were so many cuts, attempts that a rank refused, and restarts behind those, or the time is over: the program is
 * started afresh whenever it has ended. It must end with status 0. --once: as many as there are until it ends. The last line is a
 * JSON object. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "tests/cut/bank_check.h"
#include "tests/cut/leader.h"

#define TICK_US 100L
#define QUIET_NS (60 * NS_PER_S)        /* of a program that does not go on */
#define DEADLINE_MS_DEFAULT 2000         /* of an attempt */
#define ENVIRONMENT_MAX 32
#define LIFE_MS_MAX 400                 /* of a generation that is going to be killed, behind its first cut */

struct arguments {
    uint32_t ranks;
    uint64_t cuts, refusals, restarts, seconds, seed, gap_us, deadline_ms;
    enum cut_mode mode;
    bool bank, once, log_off, quiet;
    const char *launcher;
    const char *environment[ENVIRONMENT_MAX + 1];
    int environment_count;
    char **program;
};

struct run {
    struct arguments a;
    struct host host;
    struct leader leader;
    uint64_t begin_ns, next_ns, moved_ns, kill_ns;
    uint64_t steps_seen;
    uint64_t cuts, restarts, jobs, inconsistent, failures, in_flight, kills_in_attempt;
};

static struct run run;

static void usage(void)
{
    fprintf(stderr, "usage: cut_driver [options] -- PROGRAM …; see tests/cut/driver.c\n");
    exit(2);
}

static bool option(struct arguments *a, const char *name, const char *value)
{
    uint64_t n = strtoull(value, NULL, 10);
    if (strcmp(name, "--ranks") == 0)
        a->ranks = (uint32_t)n;
    else if (strcmp(name, "--cuts") == 0)
        a->cuts = n;
    else if (strcmp(name, "--refusals") == 0)
        a->refusals = n;
    else if (strcmp(name, "--restarts") == 0)
        a->restarts = n;
    else if (strcmp(name, "--seconds") == 0)
        a->seconds = n;
    else if (strcmp(name, "--seed") == 0)
        a->seed = n;
    else if (strcmp(name, "--gap-us") == 0)
        a->gap_us = n;
    else if (strcmp(name, "--deadline-ms") == 0)
        a->deadline_ms = n;
    else if (strcmp(name, "--mode") == 0)
        a->mode = strcmp(value, "step") == 0 ? CUT_MODE_STEP : strcmp(value, "free") == 0 ? CUT_MODE_FREE : CUT_MODE_AUTO;
    else if (strcmp(name, "--launcher") == 0)
        a->launcher = value;
    else if (strcmp(name, "--env") == 0 && a->environment_count < ENVIRONMENT_MAX)
        a->environment[a->environment_count++] = value;
    else
        return false;
    return true;
}

static void parse(int argc, char **argv, struct arguments *a)
{
    *a = (struct arguments){.ranks = 4, .cuts = 100, .seconds = 600, .seed = 1, .gap_us = 2000, .launcher = "mpirun --oversubscribe",
                              .deadline_ms = DEADLINE_MS_DEFAULT};
    int i = 1;
    while (i < argc && strcmp(argv[i], "--") != 0) {
        if (strcmp(argv[i], "--bank") == 0)
            a->bank = true;
        else if (strcmp(argv[i], "--once") == 0)
            a->once = true;
        else if (strcmp(argv[i], "--log-off") == 0)
            a->log_off = true;
        else if (strcmp(argv[i], "--quiet") == 0)
            a->quiet = true;
        else if (i + 1 < argc && option(a, argv[i], argv[i + 1]))
            i++;
        else
            usage();
        i++;
    }
    if (i + 1 >= argc || a->ranks == 0 || a->ranks > HOST_RANKS_MAX)
        usage();
    a->program = &argv[i + 1];
}

/* ---- when things go wrong ---- */

static void tell_pages(void)
{
    for (uint32_t r = 0; r < run.host.ranks; r++) {
        const struct control_page *p = run.host.pages[r];
        fprintf(stderr,
                "  rank %u: phase %u step %llu armed %lld@%llu go %llu flip %llu settled %llu closed %llu | coloured %u polling %llu "
                "epoch %llu ended %llu S %llu A %llu | recorded %llu result %u %s\n",
                r, atomic_load(&p->phase), (unsigned long long)atomic_load(&p->step), (long long)atomic_load(&p->armed_step),
                (unsigned long long)atomic_load(&p->armed_epoch), (unsigned long long)atomic_load(&p->go_epoch),
                (unsigned long long)atomic_load(&p->flip_epoch), (unsigned long long)atomic_load(&p->settled_epoch),
                (unsigned long long)atomic_load(&p->closed_epoch), atomic_load(&p->coloured),
                (unsigned long long)atomic_load(&p->polling_epoch), (unsigned long long)atomic_load(&p->epoch),
                (unsigned long long)atomic_load(&p->ended_epoch), (unsigned long long)atomic_load(&p->sent_before),
                (unsigned long long)atomic_load(&p->arrived_before), (unsigned long long)atomic_load(&p->recorded_cut),
                atomic_load(&p->record_result), p->record_detail);
    }
}

static void fail(const char *what)
{
    run.failures++;
    fprintf(stderr, "cut driver: %s (generation %llu, cut %llu, stage %d)\n", what, (unsigned long long)run.host.generation,
            (unsigned long long)run.leader.cut, (int)run.leader.stage);
    tell_pages();
    if (getenv("CUT_DRIVER_STOP") != NULL)
        for (;;)
            pause();
}

/* ---- one generation ---- */

static bool stepping(void)
{
    for (uint32_t r = 0; r < run.host.ranks; r++) {
        if (atomic_load(&run.host.pages[r]->phase) != CONTROL_STEPPING || !atomic_load(&run.host.pages[r]->coloured))
            return false;
    }
    return true;
}

/* As the agent does when nothing is added to the logs any more. */
static void settle(void)
{
    for (uint32_t r = 0; r < run.host.ranks; r++) {
        char path[256];
        struct slot slot = {.header = NULL};
        struct err err = {.text = ""};
        host_slot_path(&run.host, r, run.leader.slot, path, sizeof path);
        enum tide_status done = slot_map(path, 1, &slot, &err);
        if (done == TIDE_OK)
            done = slot_settle(&slot, HOST_JOB_UID, run.leader.cut, r, &err);
        slot_unmap(&slot);
        if (done != TIDE_OK)
            fail(err.text);
    }
}

static void seal(void)
{
    char why[512] = "";
    uint64_t messages = 0;
    settle();
    run.cuts++;
    run.host.cut = run.leader.cut;
    run.host.slot = run.leader.slot;
    for (uint32_t r = 0; r < run.host.ranks; r++)
        run.host.step[r] = atomic_load(&run.host.pages[r]->record_step);
    if (run.a.bank && !bank_check(&run.host, run.leader.cut, run.leader.slot, &messages, why, sizeof why)) {
        run.inconsistent++;
        if (!run.a.log_off)
            fail(why);
    }
    run.in_flight += messages;
}

static bool refused_enough(void)
{
    return run.leader.misfits[CUT_MISFIT_FAILED] >= run.a.refusals;
}

static bool enough(uint64_t now)
{
    bool all = run.cuts >= run.a.cuts && refused_enough() && run.restarts >= run.a.restarts;
    return (!run.a.once && all) || now - run.begin_ns > run.a.seconds * NS_PER_S;
}

static void lead(uint64_t now)
{
    if (leader_tick(&run.leader, now)) {
        if (run.leader.whole)
            seal();
        else if (!run.a.quiet)
            fprintf(stderr, "cut %llu: %s\n", (unsigned long long)run.leader.cut, run.leader.why);
        run.next_ns = now + leader_draw(&run.leader, 2 * run.a.gap_us + 1) * 1000;
    }
    if (run.leader.attempts == 0) /* on a busy machine programs take their time to start */
        run.begin_ns = now;
    if (!run.leader.open && now >= run.next_ns && !enough(now) && stepping())
        leader_open(&run.leader, run.host.cut ? run.host.slot ^ 1 : 0, run.a.deadline_ms * NS_PER_MS, now);
}

static bool moves(uint64_t now)
{
    uint64_t steps = run.leader.attempts; /* of a program without safe points they are all there is to see */
    for (uint32_t r = 0; r < run.host.ranks; r++)
        steps += atomic_load(&run.host.pages[r]->step);
    if (steps != run.steps_seen || !stepping())
        run.moved_ns = steps != run.steps_seen ? now : run.moved_ns;
    run.steps_seen = steps;
    return now - run.moved_ns < QUIET_NS;
}

/* A random moment behind the first cut of this generation, where there are restarts to make. */
static bool time_to_kill(uint64_t now, uint64_t first_cut)
{
    if (run.restarts >= run.a.restarts || run.cuts == first_cut || !refused_enough())
        return false;
    if (run.kill_ns == 0)
        run.kill_ns = now + leader_draw(&run.leader, LIFE_MS_MAX * NS_PER_MS);
    return now >= run.kill_ns;
}

/* True: it was killed, and is to go on. */
static bool generation(void)
{
    int status = 0;
    uint64_t first_cut = run.cuts;
    leader_reset(&run.leader);
    run.kill_ns = 0;
    run.moved_ns = clock_mono_ns();
    host_start(&run.host, run.a.launcher, run.a.program, run.a.environment);
    for (;;) {
        host_serve(&run.host, TICK_US);
        uint64_t now = clock_mono_ns();
        lead(now);
        if (host_ended(&run.host, &status)) {
            if (status != 0 && !(run.a.log_off && run.host.cut))
                fail("the program did not end well");
            return false;
        }
        if (run.host.refused[0]) {
            fail(run.host.refused);
            host_kill(&run.host);
            return false;
        }
        if (!moves(now)) {
            fail("the program does not go on");
            host_kill(&run.host);
            return false;
        }
        if (time_to_kill(now, first_cut)) {
            run.kills_in_attempt += run.leader.open;
            host_kill(&run.host);
            return true;
        }
        if (enough(now) && run.a.log_off) {
            host_kill(&run.host);
            return false;
        }
    }
}

/* What is restored from has digests beside it, as the agent writes them. */
static bool sums_save(void)
{
    for (uint32_t r = 0; r < run.host.ranks; r++) {
        char path[256], sum_path[256];
        struct slot slot = {.header = NULL};
        struct slot_sum sum = {.cut = 0};
        struct err err = {.text = ""};
        host_slot_path(&run.host, r, run.host.slot, path, sizeof path);
        snprintf(sum_path, sizeof sum_path, "%s/" SLOT_SUM_FILE_FORMAT, run.host.dir, r, run.host.slot);
        enum tide_status done = slot_map(path, 0, &slot, &err);
        if (done == TIDE_OK)
            done = slot_sum_compute(&slot, &sum, &err);
        if (done == TIDE_OK)
            done = slot_sum_save(sum_path, &sum, &err);
        slot_sum_release(&sum);
        slot_unmap(&slot);
        if (done != TIDE_OK) {
            fail(err.text);
            return false;
        }
    }
    return true;
}

static void report(void)
{
    const struct leader *l = &run.leader;
    double seconds = (double)(clock_mono_ns() - run.begin_ns) / (double)NS_PER_S;
    printf("{\"seed\": %llu, \"bank\": %s, \"ranks\": %u, \"cuts\": %llu, \"restarts\": %llu, \"jobs\": %llu, "
           "\"inconsistent\": %llu, \"failures\": %llu, \"attempts\": %llu, \"killed_in_attempt\": %llu, \"seconds\": %.1f, "
           "\"logged_per_cut\": %.2f, \"logged_bytes_per_cut\": %.0f, "
           "\"in_flight_per_cut\": %.2f, \"stall_us\": %.1f, \"stall_us_max\": %.1f, \"misfits\": {",
           (unsigned long long)run.a.seed, run.a.bank ? "true" : "false", run.host.ranks, (unsigned long long)run.cuts,
           (unsigned long long)run.restarts, (unsigned long long)run.jobs,
           (unsigned long long)run.inconsistent, (unsigned long long)run.failures, (unsigned long long)l->attempts,
           (unsigned long long)run.kills_in_attempt, seconds, (double)l->logged / (double)(run.cuts + !run.cuts),
           (double)l->logged_bytes / (double)(run.cuts + !run.cuts), (double)run.in_flight / (double)(run.cuts + !run.cuts),
           (double)l->stall_ns_sum / 1e3 / (double)(l->records + !l->records), (double)l->stall_ns_max / 1e3);
    for (unsigned i = 0, first = 1; i < CUT_MISFITS; i++) {
        if (l->misfits[i] && i != CUT_FITS) {
            printf("%s\"%s\": %llu", first ? "" : ", ", cut_misfit_name(i), (unsigned long long)l->misfits[i]);
            first = 0;
        }
    }
    printf("}}\n");
}

static void clean(int signal_number)
{
    host_release(&run.host);
    _exit(128 + signal_number);
}

int main(int argc, char **argv)
{
    parse(argc, argv, &run.a);
    host_init(&run.host, run.a.ranks);
    signal(SIGINT, clean);
    signal(SIGTERM, clean);
    run.leader = (struct leader){.host = &run.host, .random = run.a.seed};
    run.leader.past.declared = run.a.mode;
    run.begin_ns = clock_mono_ns();
    while (!enough(clock_mono_ns()) && run.failures == 0 && !(run.a.once && run.jobs)) {
        run.host.cut = 0;
        run.jobs++;
        while (generation()) {
            run.restarts++;
            if (!sums_save())
                break;
        }
    }
    report();
    host_release(&run.host);
    bool good = run.a.log_off ? run.inconsistent > 0 : run.inconsistent == 0 && (run.a.once || run.cuts >= run.a.cuts);
    return run.failures == 0 && good ? 0 : 1;
}
