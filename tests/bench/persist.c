/* SPDX-License-Identifier: Apache-2.0 */

/* Checkpoints of several ranks on their way between an arena and a store, as an agent moves them: one thread a rank, at most
 * as many as an agent has for stores. For bench_persist.sh and bench_s3.sh; one JSON line a command.
 *
 *     persist make ARENA RANKS MIB weights|noise    cut 1 into slot 0 of each rank, MIB in all, and its digests
 *     persist change ARENA RANKS PERCENT            cut 2 into slot 1: cut 1, of which runs of at most RUN_BYTES are others
 *     persist put ARENA RANKS CUT URL…              stored and committed, in each of these stores, one after the other; a line each
 *     persist get ARENA RANKS KEY DIGEST URL        into slot 0 of an arena
 *     persist dump ARENA RANKS FILE                 the data of cut 1 as one plain file
 *     persist cold DIR|FILE…                        out of the page cache
 */

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/rpc/work.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/stage/helpers.h"
#include "ckpt/stage/shard.h"
#include "ckpt/stage/stage.h"
#include "tests/bench/measure.h"
#include "tests/bench/weights.h"

#define JOB "bench"
#define UID "0123456789abcdef"
#define RANKS_MAX 64u
#define MIB ((uint64_t)1 << 20)
#define RUN_BYTES (8 * MIB)
#define USAGE_STATUS 2
#define WATCH_US 5000

static void stop(const char *what, const struct err *err)
{
    struct err why = {0};
    if (err == NULL && err_errno(&why, "%s", what) != TIDE_OK)
        err = &why;
    fprintf(stderr, "persist: %s: %s\n", what, err->text);
    exit(1);
}

static uint64_t number(const char *text)
{
    char *end = NULL;
    uint64_t n = strtoull(text, &end, 10);
    if (end == text || *end != '\0') {
        fprintf(stderr, "persist: %s is not a number\n", text);
        exit(USAGE_STATUS);
    }
    return n;
}

/* ---- what an agent holds besides the arena ---- */

static atomic_int watching;

static uint64_t anonymous_bytes(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/self/status", "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %llu", &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kib << 10;
}

static void *watch(void *peak)
{
    while (atomic_load(&watching)) {
        uint64_t now = anonymous_bytes();
        if (now > *(uint64_t *)peak)
            *(uint64_t *)peak = now;
        usleep(WATCH_US);
    }
    return NULL;
}

/* ---- ranks beside each other ---- */

struct rank {
    uint32_t number;
    enum tide_status status;
    struct err err;
    struct stage_shard shard;
};

static struct task {
    const char *arena;
    uint32_t ranks;
    uint64_t cut;
    const char *key, *digest;
    struct store *store;
    void (*each)(struct rank *rank);
    struct rank all[RANKS_MAX];
    atomic_uint next;
} task;

static void *work(void *argument)
{
    (void)argument;
    for (uint32_t i; (i = atomic_fetch_add(&task.next, 1)) < task.ranks;) {
        task.all[i].number = i;
        task.each(&task.all[i]);
    }
    return NULL;
}

struct cost {
    double seconds, cpu_seconds;
    uint64_t anonymous_peak;
};

static double read_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Without that of who watches: no agent does. */
static double cpu_used(pthread_t watcher)
{
    clockid_t watching_clock;
    if (pthread_getcpuclockid(watcher, &watching_clock) != 0)
        stop("no clock", NULL);
    return read_clock(CLOCK_PROCESS_CPUTIME_ID) - read_clock(watching_clock);
}

static void run_ranks(struct cost *cost, void (*each)(struct rank *rank), void (*then)(void))
{
    pthread_t threads[WORK_STORE_MAX], watcher;
    unsigned count = task.ranks < WORK_STORE_MAX ? task.ranks : WORK_STORE_MAX;
    task.each = each;
    atomic_store(&task.next, 0);
    atomic_store(&watching, 1);
    if (pthread_create(&watcher, NULL, watch, &cost->anonymous_peak) != 0)
        stop("no thread", NULL);
    double begin = seconds(), cpu = cpu_used(watcher);
    for (unsigned i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, work, NULL) != 0)
            stop("no thread", NULL);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < task.ranks; i++)
        if (task.all[i].status != TIDE_OK)
            stop("a rank failed", &task.all[i].err);
    if (then != NULL)
        then();
    cost->seconds = seconds() - begin;
    cost->cpu_seconds = cpu_used(watcher) - cpu;
    atomic_store(&watching, 0);
    pthread_join(watcher, NULL);
}

/* ---- making cuts ---- */

static void fill(unsigned char *to, uint64_t bytes, int weights, uint64_t seed)
{
    struct rng rng = {.state = seed};
    if (!weights) {
        for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
            uint64_t n = rng_next(&rng);
            memcpy(to + i, &n, sizeof n);
        }
        return;
    }
    bench_weights(to, bytes, &rng);
}

static void slot_make(uint32_t rank, uint32_t number, uint64_t bytes, struct slot *slot)
{
    arena_path path;
    struct err err = {0};
    slot_path(task.arena, rank, number, path);
    if (slot_reserve(path, slot_bytes_needed(1, false, bytes), &err) != TIDE_OK || slot_map(path, 1, slot, &err) != TIDE_OK ||
        slot_start(slot, 1, false, bytes, &err) != TIDE_OK)
        stop("a slot", &err);
    slot->regions[0] =
        (struct slot_region){.name = "state", .dtype = TIDE_F32, .ndim = 1, .shape = {bytes / 4}, .bytes = bytes};
}

static void slot_sum(uint32_t rank, uint32_t number, uint64_t cut, struct slot *slot)
{
    struct err err = {0};
    char root[DIGEST_HEX_CHARS + 1];
    struct slot_header facts = {
        .rank = rank, .job_uid = UID, .generation = 1, .cut = cut, .attempt = 1, .world_size = task.ranks, .step = cut};
    slot_finish(slot, &facts);
    slot_unmap(slot);
    if (stage_sum(task.arena, rank, number, UID, cut, root, &err) != TIDE_OK)
        stop("digests", &err);
}

static void slot_of(uint32_t rank, uint32_t number, struct slot *slot)
{
    arena_path path;
    struct err err = {0};
    slot_path(task.arena, rank, number, path);
    if (slot_map(path, 0, slot, &err) != TIDE_OK)
        stop("a slot", &err);
    if (slot_check(slot, UID, 0, rank, &err) != TIDE_OK)
        stop("a slot", &err);
}

static void make(uint64_t mib, int weights)
{
    struct err err = {0};
    if (fsx_mkdirs(task.arena, 0700, &err) != TIDE_OK)
        stop("the arena", &err);
    for (uint32_t i = 0; i < task.ranks; i++) {
        struct slot slot;
        uint64_t bytes = mib * MIB / task.ranks / SLOT_ALIGN * SLOT_ALIGN;
        slot_make(i, 0, bytes, &slot);
        fill(slot.data, bytes, weights, i + 1);
        slot_sum(i, 0, 1, &slot);
    }
}

static void change(uint64_t percent)
{
    struct rng rng = {.state = 5};
    for (uint32_t i = 0; i < task.ranks; i++) {
        struct slot from, to;
        slot_of(i, 0, &from);
        uint64_t bytes = from.header->data_bytes, changed = bytes * percent / 100, runs = changed / RUN_BYTES + 1;
        uint64_t part = bytes / runs, run = changed / runs / 4 * 4;
        slot_make(i, 1, bytes, &to);
        memcpy(to.data, from.data, bytes);
        /* One anywhere in each of as many equal parts, so that none meets another. */
        for (uint64_t r = 0; r < runs; r++) {
            uint64_t at = (r * part + rng_below(&rng, part - run)) / 4 * 4;
            fill(to.data + at, run, 1, rng_next(&rng));
        }
        slot_unmap(&from);
        slot_sum(i, 1, 2, &to);
        printf("{\"changed\":%" PRIu64 ",\"bytes\":%" PRIu64 "}\n", runs * run, bytes);
    }
}

static void dump(const char *path)
{
    struct err err = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        stop(path, NULL);
    for (uint32_t i = 0; i < task.ranks; i++) {
        struct slot slot;
        slot_of(i, 0, &slot);
        if (fsx_write_all(fd, slot.data, slot.header->data_bytes, path, &err) != TIDE_OK)
            stop(path, &err);
        slot_unmap(&slot);
    }
    close(fd);
}

/* ---- there and back ---- */

static char commit_key[TIDE_PATH_MAX + 1], commit_digest[DIGEST_HEX_CHARS + 1];

static void put_one(struct rank *rank)
{
    rank->status = stage_store(task.store, task.arena, rank->number, (uint32_t)task.cut - 1, JOB, UID, task.cut, &rank->shard,
                               &rank->err);
}

static void commit(void)
{
    struct err err = {0};
    struct cut_order order = {.cut = task.cut, .generation = 1, .step = task.cut};
    for (uint32_t i = 0; i < task.ranks; i++) {
        const struct stage_shard *shard = &task.all[i].shard;
        struct shard_ref *ref = codec_list_add(&shard_ref_codec, &order.shards);
        *ref = (struct shard_ref){.rank = i, .raw_bytes = shard->raw_bytes, .stored_bytes = shard->stored_bytes};
        text_copy(ref->key, sizeof ref->key, shard->key);
        text_copy(ref->digest, sizeof ref->digest, shard->digest);
    }
    if (stage_commit(task.store, JOB, UID, &order, commit_key, commit_digest, &err) != TIDE_OK)
        stop("commit", &err);
    codec_release(&cut_order_codec, &order);
}

static void get_one(struct rank *rank)
{
    rank->status = stage_fetch(task.store, task.key, task.digest, NULL, task.arena, rank->number, 0, &rank->err);
}

static void tell(const struct cost *cost)
{
    uint64_t raw = 0, stored = 0;
    for (uint32_t i = 0; i < task.ranks; i++) {
        raw += task.all[i].shard.raw_bytes;
        stored += task.all[i].shard.stored_bytes;
    }
    printf("{\"seconds\":%.4f,\"cpu_seconds\":%.4f,\"anonymous_peak\":%" PRIu64 ",\"raw\":%" PRIu64 ",\"stored\":%" PRIu64
           ",\"key\":\"%s\",\"digest\":\"%s\"}\n",
           cost->seconds, cost->cpu_seconds, cost->anonymous_peak, raw, stored, commit_key, commit_digest);
}

static void move(const char *url, void (*each)(struct rank *rank), void (*then)(void))
{
    struct err err = {0};
    struct cost cost = {0};
    if (store_open(url, &task.store, &err) != TIDE_OK)
        stop("the store", &err);
    run_ranks(&cost, each, then);
    tell(&cost);
    store_close(task.store);
}

/* ---- a cold cache ---- */

/* A page that is dirty stays. */
static int forget(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)where;
    if (kind != FTW_F)
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fdatasync(fd) != 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0)
        stop(path, NULL);
    close(fd);
    return 0;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "cold") == 0) {
        for (int i = 2; i < argc; i++)
            if (nftw(argv[i], forget, 16, FTW_PHYS) != 0)
                stop(argv[i], NULL);
        return 0;
    }
    if (argc < 5)
        return USAGE_STATUS;
    helpers_want(HELPERS_BY_CORES);
    task.arena = argv[2];
    task.ranks = (uint32_t)number(argv[3]);
    if (task.ranks == 0 || task.ranks > RANKS_MAX)
        return USAGE_STATUS;
    if (strcmp(verb, "make") == 0 && argc == 6) {
        make(number(argv[4]), strcmp(argv[5], "weights") == 0);
    } else if (strcmp(verb, "change") == 0 && argc == 5) {
        change(number(argv[4]));
    } else if (strcmp(verb, "dump") == 0 && argc == 5) {
        dump(argv[4]);
    } else if (strcmp(verb, "put") == 0 && argc >= 6) {
        task.cut = number(argv[4]);
        for (int i = 5; i < argc; i++)
            move(argv[i], put_one, commit);
    } else if (strcmp(verb, "get") == 0 && argc == 7) {
        task.key = argv[4];
        task.digest = argv[5];
        move(argv[6], get_one, NULL);
    } else {
        return USAGE_STATUS;
    }
    return 0;
}
