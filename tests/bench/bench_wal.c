/* SPDX-License-Identifier: Apache-2.0 */

/* Commits per second of the write-ahead log, one and many waiting for the same sync, against bare fdatasync on a file
 * written beforehand: what the disk does at best. */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "coordinator/disk/wal.h"
#include "tests/bench/measure.h"

#define COMMAND_BYTES 256u
#define SECONDS_EACH 1.0
#define FILE_BYTES (8u << 20)
#define LATENCIES_MAX 100000u

static double latencies[LATENCIES_MAX];
static size_t latency_count;

static void give_up(const char *what, const struct err *err)
{
    fprintf(stderr, "bench_wal: %s: %s\n", what, err->text);
    exit(1);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double percentile_us(double p)
{
    qsort(latencies, latency_count, sizeof latencies[0], by_size);
    return latency_count == 0 ? -1 : latencies[(size_t)((double)(latency_count - 1) * p)] * 1e6;
}

static void noted(double since)
{
    if (latency_count < LATENCIES_MAX)
        latencies[latency_count++] = seconds() - since;
}

/* Overwrite and sync one command's worth at a time. */
static double bare_per_s(const char *dir)
{
    char path[256];
    snprintf(path, sizeof path, "%s/bare", dir);
    char *zeros = mem_alloc(FILE_BYTES);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct err err = {0};
    if (fd < 0 || fsx_write_all(fd, zeros, FILE_BYTES, path, &err) != TIDE_OK || fsync(fd) != 0)
        give_up("the bare file", &err);
    double begin = seconds(), now = begin;
    size_t n = 0;
    latency_count = 0;
    for (; now - begin < SECONDS_EACH; n++) {
        double since = now;
        if (pwrite(fd, zeros, COMMAND_BYTES, (off_t)(n * COMMAND_BYTES % FILE_BYTES)) != COMMAND_BYTES || fdatasync(fd) != 0)
            give_up("the bare file", &err);
        noted(since);
        now = seconds();
    }
    close(fd);
    mem_free(zeros);
    return (double)n / (now - begin);
}

/* `waiting` entries share each sync. */
static double wal_per_s(struct wal *wal, unsigned waiting)
{
    char command[COMMAND_BYTES];
    struct err err = {0};
    struct wal_entry entries[256];
    memset(command, 'x', sizeof command);
    double begin = seconds(), now = begin;
    uint64_t first = wal_last(wal);
    latency_count = 0;
    while (now - begin < SECONDS_EACH) {
        double since = now;
        for (unsigned i = 0; i < waiting; i++)
            entries[i] = (struct wal_entry){.index = wal_last(wal) + 1 + i, .term = 1, .data = command, .bytes = sizeof command};
        if (wal_append(wal, entries, waiting, &err) != TIDE_OK || wal_sync(wal, &err) != TIDE_OK)
            give_up("the log", &err);
        noted(since);
        if (wal_prepare(wal, &err) != TIDE_OK)
            give_up("the next segment", &err);
        now = seconds();
    }
    return (double)(wal_last(wal) - first) / (now - begin);
}

int main(void)
{
    char dir[] = "tidemark-bench-wal-XXXXXX";
    struct err err = {0};
    struct wal *wal = NULL;
    if (mkdtemp(dir) == NULL)
        give_up("the directory", &err);
    if (wal_open(dir, "0123456789abcdef", NULL, true, 1, 0, &wal, &err) != TIDE_OK)
        give_up("the log", &err);
    double bare = bare_per_s(dir), bare_p50 = percentile_us(0.5), bare_p99 = percentile_us(0.99);
    static const unsigned depths[] = {1, 64, 256};
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        char metric[64];
        double per_s = wal_per_s(wal, depths[i]);
        snprintf(metric, sizeof metric, "commits_per_second_%u_waiting", depths[i]);
        result("wal", metric, per_s, "1/s", bare * depths[i], -1);
        snprintf(metric, sizeof metric, "commit_p50_%u_waiting", depths[i]);
        result("wal", metric, percentile_us(0.5), "us", bare_p50, -1);
        snprintf(metric, sizeof metric, "commit_p99_%u_waiting", depths[i]);
        result("wal", metric, percentile_us(0.99), "us", bare_p99, -1);
    }
    wal_close(wal);
    return fsx_remove_tree(dir, &err) == TIDE_OK ? 0 : 1;
}
